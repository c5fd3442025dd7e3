#include "series.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void series_add(struct series *series, double value)
{
    if (series->n < SERIES_MOST) {
        series->of[series->n++] = value;
    }
}

static int by_value(const void *a, const void *b)
{
    double of_a = *(const double *)a;
    double of_b = *(const double *)b;
    return of_a < of_b ? -1 : of_a > of_b;
}

/* The median lies below the k-th smallest of n with the chance that fewer than
 * k of n fair coins show heads: the greatest k with at most 2.5 %. 0: too few.
 */
static size_t rank_of(size_t n)
{
    double chance = exp2(-(double)n);
    double sum = 0;
    size_t k = 0;
    while (k < n && sum + chance <= 0.025) {
        sum += chance;
        chance = chance * (double)(n - k) / (double)(k + 1);
        k++;
    }
    return k;
}

void series_print(struct series *series, const char *what)
{
    size_t n = series->n;
    if (n == 0) {
        printf("%-34s not measured\n", what);
        return;
    }
    qsort(series->of, n, sizeof(series->of[0]), by_value);
    double median = (series->of[(n - 1) / 2] + series->of[n / 2]) / 2;
    size_t k = rank_of(n);
    printf("%-34s %8.2f", what, median);
    if (k > 0) {
        printf("  [%.2f, %.2f]", series->of[k - 1], series->of[n - k]);
    }
    printf("  %zu pairs\n", n);
}
