#include "histogram.h"

#include <stddef.h>

/* Values below 64 have a bin each; above, the top 7 bits choose it. */
static size_t bin_of(uint64_t ns)
{
    if (ns < (1u << BENCH_STEP_BITS)) {
        return (size_t)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - BENCH_STEP_BITS;
    size_t bin = ((size_t)(shift + 1) << BENCH_STEP_BITS) +
                 (size_t)((ns >> shift) - (1u << BENCH_STEP_BITS));
    return bin < BENCH_N_BINS ? bin : BENCH_N_BINS - 1;
}

static double low_end(size_t bin)
{
    size_t row = bin >> BENCH_STEP_BITS;
    size_t step = bin & ((1u << BENCH_STEP_BITS) - 1);
    if (row == 0) {
        return (double)step;
    }
    return (double)((uint64_t)((1u << BENCH_STEP_BITS) + step) << (row - 1));
}

void bench_histogram_add(struct bench_histogram *histogram, uint64_t ns)
{
    histogram->n++;
    histogram->bins[bin_of(ns)]++;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

void bench_histogram_merge(struct bench_histogram *into,
                           const struct bench_histogram *from)
{
    into->n += from->n;
    if (from->max_ns > into->max_ns) {
        into->max_ns = from->max_ns;
    }
    for (size_t i = 0; i < BENCH_N_BINS; i++) {
        into->bins[i] += from->bins[i];
    }
}

double bench_histogram_at(const struct bench_histogram *histogram, double share)
{
    double wanted = share * (double)histogram->n;
    double seen = 0;
    for (size_t i = 0; i < BENCH_N_BINS; i++) {
        double here = histogram->bins[i];
        if (here > 0 && seen + here >= wanted) {
            /* As if the samples lay evenly in their bin. */
            double low = low_end(i);
            double at = low + (low_end(i + 1) - low) * (wanted - seen) / here;
            double max = (double)histogram->max_ns;
            return at < max ? at : max;
        }
        seen += here;
    }
    return 0;
}
