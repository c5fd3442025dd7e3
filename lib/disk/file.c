#include "file.h"

#include <errno.h>
#include <string.h>

int pc_disk_read_all(const struct pc_disk_file *file, void *to, size_t len,
                     uint64_t at, size_t *n_p)
{
    size_t done = 0;
    while (done < len) {
        size_t n = 0;
        int error =
            file->io->pread(file->io->arg, file->file, (char *)to + done,
                            len - done, at + done, &n);
        if (error == EINTR) {
            continue;
        }
        if (error != 0) {
            return error;
        }
        done += n;
        /* Direct reads are cut inside of a block only at the end. */
        if (n == 0 || n % PC_DISK_BLOCK != 0) {
            break;
        }
    }
    *n_p = done;
    return 0;
}

int pc_disk_write_all(const struct pc_disk_file *file, const void *from,
                      size_t len, uint64_t at)
{
    size_t done = 0;
    while (done < len) {
        size_t n = 0;
        int error = file->io->pwrite(file->io->arg, file->file,
                                     (const char *)from + done, len - done,
                                     at + done, &n);
        if (error == EINTR) {
            continue;
        }
        if (error != 0) {
            return error;
        }
        /* Go on from a whole block, which direct I/O needs. */
        n -= n % PC_DISK_BLOCK;
        if (n == 0) {
            return ENOSPC;
        }
        done += n;
    }
    return 0;
}

static int source_read(void *arg, void *to, size_t len, uint64_t at,
                       size_t *n_p)
{
    return pc_disk_read_all(arg, to, len, at, n_p);
}

struct pc_disk_source pc_disk_file_source(struct pc_disk_file *file,
                                          uint64_t size)
{
    return (struct pc_disk_source){source_read, file, size};
}

enum pc_disk_result pc_disk_result_of(int error)
{
    switch (error) {
    case 0:
        return PC_DISK_OK;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return PC_DISK_NO_SPACE;
    case EROFS:
    case EACCES:
    case EPERM:
        return PC_DISK_READ_ONLY;
    case ENOMEM:
        return PC_DISK_NO_MEMORY;
    default:
        return PC_DISK_IO;
    }
}
