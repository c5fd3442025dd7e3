/*
 * put_batch.h - a batch of new keys put through the public interface, as the
 * benchmarks of puts do it.
 */
#ifndef PC_BENCH_PUT_BATCH_H
#define PC_BENCH_PUT_BATCH_H

#include <peercache/peercache.h>

#include <stdint.h>

enum { PAGE = 128 << 10, N_SOURCES = 64, BATCH = 32 };

/* Put BATCH pages under keys that no other lane has, *next counted on; sources
 * are N_SOURCES pages, taken in turn. As peercache_put. */
peercache_status_t put_batch(peercache_node_t *node,
                             const unsigned char *sources, unsigned lane,
                             uint64_t *next);

#endif /* PC_BENCH_PUT_BATCH_H */
