/*
 * disk_bare.h - a bare reader: the best that a reader can get from files that
 * has to prove what it hands over. It reads blocks like those of the tier's
 * records, copies the value out and takes its checksum, and does nothing else:
 * no queue, no index, no lock. fio never looks at what it has read.
 */
#ifndef PC_BENCH_DISK_BARE_H
#define PC_BENCH_DISK_BARE_H

#include <stddef.h>
#include <stdint.h>

struct bare_job
{
    const char *files; /* Paths with ':' between them. */
    uint64_t span;     /* Bytes from the beginning of each that are read. */
    size_t value_len;
    uint64_t n_values;
    uint32_t depth; /* Threads, each with one read under way; 64 at most. */
    uint64_t salt;  /* Of the order: another one each time. */
};

/* MiB/s of values. */
double bare_run(const struct bare_job *job);

#endif /* PC_BENCH_DISK_BARE_H */
