/*
 * stats.h - medians and how sure they are.
 */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>

struct bench_estimate
{
    double median;
    double low; /* Of the 95 % interval. */
    double high;
};

/* Median; 0 for none. */
double bench_median(const double *values, size_t n);
/* Median of values and the 95 % interval of its bootstrap distribution. */
struct bench_estimate bench_estimate(const double *values, size_t n);

#endif /* BENCH_STATS_H */
