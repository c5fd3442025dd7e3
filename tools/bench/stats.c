#include "stats.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of_sorted(const double *sorted, size_t n)
{
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double bench_median(const double *values, size_t n)
{
    double *sorted = n > 0 ? malloc(n * sizeof(*sorted)) : NULL;
    if (sorted == NULL) {
        return 0;
    }
    memcpy(sorted, values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare);
    double median = median_of_sorted(sorted, n);
    free(sorted);
    return median;
}

/* A fixed seed: the same numbers give the same interval. */
static size_t pick(uint64_t *state, size_t n)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (size_t)((*state >> 33) % n);
}

struct bench_estimate bench_estimate(const double *values, size_t n)
{
    struct bench_estimate estimate = {.median = bench_median(values, n)};
    double *sample = n > 0 ? malloc(n * sizeof(*sample)) : NULL;
    double *medians = malloc(RESAMPLES * sizeof(*medians));
    uint64_t state = 1;
    estimate.low = estimate.high = estimate.median;
    if (sample != NULL && medians != NULL) {
        for (size_t r = 0; r < RESAMPLES; r++) {
            for (size_t i = 0; i < n; i++) {
                sample[i] = values[pick(&state, n)];
            }
            qsort(sample, n, sizeof(*sample), compare);
            medians[r] = median_of_sorted(sample, n);
        }
        qsort(medians, RESAMPLES, sizeof(*medians), compare);
        estimate.low = medians[RESAMPLES * 25 / 1000];
        estimate.high = medians[RESAMPLES * 975 / 1000];
    }
    free(medians);
    free(sample);
    return estimate;
}
