/*
 * limits.h - what this machine can do, measured beside the library: memcpy of
 * cold pages, and pages over a plain TCP connection between two processes.
 */
#ifndef DEMO_LIMITS_H
#define DEMO_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* GB/s; 0: it could not be measured. Batches of n pages. */
double limits_memcpy(size_t page_size, size_t n, uint64_t ms);
double limits_tcp(size_t page_size, size_t n, uint64_t ms);

#endif /* DEMO_LIMITS_H */
