/*
 * histogram.h - latencies in bounded space: 64 steps in each power of two, so
 * 1.6 % apart; mergeable by adding.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    BENCH_STEP_BITS = 6,
    BENCH_N_BINS = 36 << BENCH_STEP_BITS /* Up to 2^41 ns. */
};

struct bench_histogram
{
    uint64_t n;
    uint64_t max_ns;
    uint32_t bins[BENCH_N_BINS];
};

void bench_histogram_add(struct bench_histogram *histogram, uint64_t ns);
void bench_histogram_merge(struct bench_histogram *into,
                           const struct bench_histogram *from);
/* The value that a share (0..1) of the samples does not exceed; 0 if empty. */
double bench_histogram_at(const struct bench_histogram *histogram,
                          double share);

#endif /* BENCH_HISTOGRAM_H */
