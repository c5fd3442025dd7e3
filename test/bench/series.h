/*
 * series.h - what is said of pairs of measurements: the median of their ratios,
 * and how far it can be trusted.
 */
#ifndef PC_BENCH_SERIES_H
#define PC_BENCH_SERIES_H

#include <stddef.h>

enum { SERIES_MOST = 64 };

/* Ratios of pairs that were measured one right after the other. */
struct series
{
    double of[SERIES_MOST];
    size_t n;
};

void series_add(struct series *series, double value);
/* The median and the 95 % interval of the median, by ranks: they assume
 * nothing of how the values are spread. */
void series_print(struct series *series, const char *what);

#endif /* PC_BENCH_SERIES_H */
