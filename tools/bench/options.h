/*
 * options.h - the command line of peercache-bench.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "measure.h"

enum bench_command { BENCH_LIMITS, BENCH_LATENCY, BENCH_THROUGHPUT };

struct bench_options
{
    enum bench_command command;
    struct bench_plan plan;
    char read_mode[16];
    double duration_s;
    double warmup_s;
    uint32_t slice_ms;
    uint32_t n_pairs;
    uint64_t max_bytes;
    uint32_t tokens_per_page;
    double target;   /* Ratio that counts as met. */
    bool any_limit;  /* --limit auto: by what is measured. */
    bool any_reader; /* No --reader: a client for exists, else a node. */
    bool matrix;
    bool json;
    const char *out_dir; /* "": write no files. */
    const char *tag;
};

/* Exit status, or -1: go on. */
int bench_options_parse(struct bench_options *options, int argc, char **argv);
/* Derived numbers: working set within max_bytes, slices, limit. Again after a
 * plan was changed. False: one line says why. */
bool bench_options_finish(struct bench_options *options);
/* Appends a "name=value" line, the last one wins. */
bool bench_plan_set(struct bench_plan *plan, const char *name,
                    const char *value);

#endif /* BENCH_OPTIONS_H */
