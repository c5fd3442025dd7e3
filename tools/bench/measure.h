/*
 * measure.h - slices of ours and of its limit in turn, and what came out.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench.h"
#include "stats.h"

/* What is to be measured; sizes are checked by whoever fills it. */
struct bench_plan
{
    const char *name;
    enum bench_op op;
    enum bench_system_id limit; /* BENCH_OURS: none. */
    uint32_t page_size;
    uint32_t n_pages;
    uint32_t batch;
    uint32_t run; /* Pages read in the order they were put in. */
    uint32_t n_threads;
    uint32_t n_pieces;
    bool registered;
    bool reader_is_client;
    uint32_t n_slices; /* Pairs of slices. */
    uint64_t slice_ns;
    uint64_t warmup_ns;
    char settings[BENCH_SETTINGS_MAX]; /* "name=value" lines. */
};

/* One side of a comparison, all slices together. */
struct bench_series
{
    bool ok;
    char why[BENCH_TEXT_MAX];
    uint32_t variant; /* Of a limit: the best. */
    double *rates;    /* Pages a second, of each slice. */
    double *p50s;     /* Of a batch, nanoseconds, of each slice. */
    uint32_t n;
    struct bench_report sum; /* Counts and latencies. */
    double elapsed_s;
    double cpu_s;   /* Both sides, without checks. */
    double check_s; /* Cost of verification, apart. */
    char *info;     /* JSON of ours, or NULL. */
};

struct bench_result
{
    struct bench_series ours;
    struct bench_series limit;
    struct bench_estimate ratio;         /* Rate over the limit's. */
    struct bench_estimate latency_ratio; /* p50 over the limit's. */
};

/* Both sides in turn. False: ours could not be measured. */
bool bench_compare(const struct bench_plan *plan, struct bench_result *result);
void bench_result_fini(struct bench_result *result);

/* A raw system alone: its best variant. */
bool bench_measure_raw(const struct bench_plan *plan,
                       enum bench_system_id system,
                       struct bench_series *series);
void bench_series_fini(struct bench_series *series);

/* Share of a core that each node of an idle cluster of two takes. */
bool bench_measure_idle(const struct bench_plan *plan, double seconds,
                        double *owner_p, double *reader_p, char *why);

const char *bench_system_name(enum bench_system_id system);
/* "spin 50us, 4 MiB buffers"; to the length of text. */
void bench_variant_text(enum bench_system_id system, uint32_t variant,
                        char *text, size_t len);

/* Median GB/s of a series, processor seconds a GB; 0 where no bytes moved. */
double bench_series_gbps(const struct bench_series *series,
                         const struct bench_plan *plan);
double bench_series_cpu(const struct bench_series *series,
                        const struct bench_plan *plan);

#endif /* BENCH_MEASURE_H */
