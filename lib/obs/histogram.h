/*
 * histogram.h - latencies in buckets, for the metrics. Any thread.
 */
#ifndef PC_OBS_HISTOGRAM_H
#define PC_OBS_HISTOGRAM_H

#include "base/text.h"

#include <stdatomic.h>
#include <stdint.h>

#define PC_HISTOGRAM_BUCKETS 24 /* 1 us, 2 us, 4 us ... 8.4 s; then +Inf. */

struct pc_histogram
{
    _Atomic uint64_t counts[PC_HISTOGRAM_BUCKETS + 1];
    _Atomic uint64_t sum_ns;
};

void pc_histogram_add(struct pc_histogram *h, uint64_t ns);
/* Cumulative buckets, sum (seconds) and count; labels may be "". The HELP and
 * TYPE lines are the caller's. */
void pc_histogram_text(const struct pc_histogram *h, const char *family,
                       const char *labels, struct pc_text *text);
/* Upper bound of the bucket where the share q (0..1) lies, ns; 0: empty. */
uint64_t pc_histogram_quantile(const struct pc_histogram *h, double q);

#endif /* PC_OBS_HISTOGRAM_H */
