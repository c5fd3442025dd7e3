/*
 * io.h - what the disk tier asks of an operating system: one directory, files
 * in it, positioned reads and writes.
 *
 * The real one is pc_disk_io_system(); tests put one in its place that loses,
 * tears, flips and refuses. Every function returns 0 or an errno, and writes
 * *_p only on 0. Reads and writes may be short; 0 bytes read means the end.
 * Several threads call at once, also on one file.
 */
#ifndef PC_DISK_IO_H
#define PC_DISK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pc_disk_open {
    PC_DISK_OPEN_CREATE = 1, /* Must not be there yet. */
    PC_DISK_OPEN_WRITE = 2,
    /* Past the page cache; EINVAL where the file system cannot. Offsets,
     * lengths and addresses are then multiples of PC_DISK_BLOCK. */
    PC_DISK_OPEN_DIRECT = 4
};

#define PC_DISK_BLOCK 4096u

struct pc_disk_io
{
    void *arg;
    /* Open the directory, made with its parents if it is not there. */
    int (*open_dir)(void *arg, const char *path, int *dir_p);
    /* Take the lock file `name` for as long as the handle is open; EWOULDBLOCK
     * if somebody has it, and then *pid_p says who, 0: unknown. */
    int (*lock)(void *arg, int dir, const char *name, int *file_p,
                int64_t *pid_p);
    /* Is `path` still the directory that was opened? ENOENT if not. */
    int (*check_dir)(void *arg, int dir, const char *path);
    /* Names in the directory, in any order. */
    int (*list)(void *arg, int dir, void (*each)(void *to, const char *name),
                void *to);
    int (*open)(void *arg, int dir, const char *name, unsigned flags,
                int *file_p);
    void (*close)(void *arg, int file); /* Also the directory and the lock. */
    int (*size)(void *arg, int file, uint64_t *size_p);
    int (*pread)(void *arg, int file, void *to, size_t len, uint64_t at,
                 size_t *n_p);
    int (*pwrite)(void *arg, int file, const void *from, size_t len,
                  uint64_t at, size_t *n_p);
    /* Make the file this long with its space really there, filled with zeros.
     * EOPNOTSUPP: the file system cannot; the file is as it was. */
    int (*allocate)(void *arg, int file, uint64_t len);
    int (*truncate)(void *arg, int file, uint64_t len);
    /* What was written to the file, and its length, are safe from a crash. */
    int (*sync)(void *arg, int file);
    /* The same for names made, changed and removed in the directory. */
    int (*sync_dir)(void *arg, int dir);
    int (*unlink)(void *arg, int dir, const char *name);
    /* `to` may be "folder/name"; the folder is made if it is not there, and
     * what `to` named before is replaced. */
    int (*rename)(void *arg, int dir, const char *from, const char *to);
    int (*free_bytes)(void *arg, int dir, uint64_t *bytes_p);
    /* What is in a folder of the directory; ENOENT: there is none. */
    int (*folder)(void *arg, int dir, const char *name, uint64_t *n_files_p,
                  uint64_t *bytes_p);
};

/* The operating system's. Any thread. */
const struct pc_disk_io *pc_disk_io_system(void);
/* Of the files that the process may have open, how many a tier may keep. */
uint32_t pc_disk_io_files(void);

#endif /* PC_DISK_IO_H */
