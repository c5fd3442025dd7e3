/*
 * file.h - whole reads and writes, and what an errno means to the tier. Any
 * thread.
 */
#ifndef PC_DISK_FILE_H
#define PC_DISK_FILE_H

#include "disk.h"

/* Where a segment's bytes come from: a file, or memory in tests. */
struct pc_disk_source
{
    int (*read)(void *arg, void *to, size_t len, uint64_t at, size_t *n_p);
    void *arg;
    uint64_t size;
};

/* An open file of an io. */
struct pc_disk_file
{
    const struct pc_disk_io *io;
    int file;
};

/* Less than len only at the end of the file. */
int pc_disk_read_all(const struct pc_disk_file *file, void *to, size_t len,
                     uint64_t at, size_t *n_p);
int pc_disk_write_all(const struct pc_disk_file *file, const void *from,
                      size_t len, uint64_t at);
/* The file as a source; it must outlive it. */
struct pc_disk_source pc_disk_file_source(struct pc_disk_file *file,
                                          uint64_t size);

enum pc_disk_result pc_disk_result_of(int error);

#endif /* PC_DISK_FILE_H */
