/*
 * mem_disk.h - a directory in memory that fails on demand: the I/O of a
 * pc_disk in tests.
 *
 * It knows what a crash of the machine would leave: per sector of 512 bytes
 * what was last synced and what was last written, and which names are safe.
 * Any thread; faults are set between runs.
 */
#ifndef PC_TEST_MEM_DISK_H
#define PC_TEST_MEM_DISK_H

#include "disk/io.h"

struct mem_disk;

enum mem_disk_op {
    MEM_DISK_OPEN,
    MEM_DISK_READ,
    MEM_DISK_WRITE,
    MEM_DISK_ALLOCATE,
    MEM_DISK_TRUNCATE,
    MEM_DISK_SYNC,
    MEM_DISK_SYNC_DIR,
    MEM_DISK_UNLINK,
    MEM_DISK_RENAME,
    MEM_DISK_N_OPS
};

/* What is left of what was not synced. */
enum mem_disk_crash {
    MEM_DISK_KILLED,    /* All of it: only the process died. */
    MEM_DISK_POWER_ALL, /* Nothing. */
    MEM_DISK_POWER_SOME /* Sectors and names by chance. */
};

struct mem_disk *mem_disk_create(uint64_t seed);
void mem_disk_destroy(struct mem_disk *disk);
/* Valid as long as the disk. */
const struct pc_disk_io *mem_disk_io(struct mem_disk *disk);

/* Calls that change something so far (all but open and read). */
uint64_t mem_disk_n_changes(const struct mem_disk *disk);
/* Bytes that the nth of them wrote; 0: it was no write. */
uint64_t mem_disk_change_len(const struct mem_disk *disk, uint64_t n);
/* Stop at the nth change from now (0: the next): of a write the first `bytes`
 * are still done. After that every call fails. */
void mem_disk_stop_at(struct mem_disk *disk, uint64_t n, uint64_t bytes);
bool mem_disk_has_stopped(const struct mem_disk *disk);
/* The next start: everything that was open is closed. */
void mem_disk_crash(struct mem_disk *disk, enum mem_disk_crash how);

/* Let n calls of one kind fail after `skip` good ones. */
void mem_disk_fail(struct mem_disk *disk, enum mem_disk_op op, int error,
                   uint64_t skip, uint64_t n);
void mem_disk_set_space(struct mem_disk *disk, uint64_t bytes);
/* The same, but the file system says that there is space: EDQUOT. */
void mem_disk_set_quota(struct mem_disk *disk, uint64_t bytes);
/* Files that are open. */
size_t mem_disk_n_open(struct mem_disk *disk);
void mem_disk_set_read_only(struct mem_disk *disk, bool read_only);
/* No direct I/O, no allocation: a plain file system. */
void mem_disk_set_plain(struct mem_disk *disk);
/* The directory is removed, or another one stands in its place. */
void mem_disk_replace(struct mem_disk *disk);
/* Calls of one kind so far, also failed ones. */
uint64_t mem_disk_n_calls(const struct mem_disk *disk, enum mem_disk_op op);

/* The nth file by name that starts with `prefix`, or false. Its bytes may be
 * changed in place. */
struct mem_disk_view
{
    char name[96];
    unsigned char *data;
    uint64_t size;
};
bool mem_disk_file(struct mem_disk *disk, const char *prefix, size_t n,
                   struct mem_disk_view *view_p);
/* Make or replace a file. */
void mem_disk_put(struct mem_disk *disk, const char *name, const void *data,
                  uint64_t size);
/* Remove all files. */
void mem_disk_wipe(struct mem_disk *disk);
void mem_disk_cut(struct mem_disk *disk, const char *name, uint64_t size);
uint64_t mem_disk_bytes(struct mem_disk *disk);

#endif /* PC_TEST_MEM_DISK_H */
