/*
 * disk_fio.h - what fio gets from the same file system. Without fio on the
 * machine its figures are left out.
 */
#ifndef PC_BENCH_DISK_FIO_H
#define PC_BENCH_DISK_FIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fio_engine { FIO_PSYNC, FIO_LIBAIO, FIO_URING, FIO_N_ENGINES };

struct fio_job
{
    const char *files; /* Paths with ':' between them. */
    size_t n_files;
    enum fio_engine engine;
    bool write; /* In order, and synced at the end; else in any order. */
    /* Write blocks with checksums, or look at those that were read of such a
     * file: else fio does not look at what it reads. */
    bool proves;
    size_t block;
    size_t align; /* Where blocks of reads begin; 0: at multiples of a block. */
    uint64_t bytes; /* Together. */
    uint32_t depth; /* psync: as many threads. */
};

extern const char *const fio_engine_names[FIO_N_ENGINES];

bool fio_is_there(void);
/* MiB/s; 0: this engine cannot be used here. */
double fio_run(const struct fio_job *job);

#endif /* PC_BENCH_DISK_FIO_H */
