/*
 * report.h - what people and programs read: console, JSON, Markdown.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "options.h"

#include <jansson.h>

/* Rows of one run of the program. */
struct bench_rows
{
    const struct bench_options *options;
    const char *kind; /* "throughput", part of file names. */
    json_t *results;
};

bool bench_rows_init(struct bench_rows *rows,
                     const struct bench_options *options, const char *kind);
void bench_rows_fini(struct bench_rows *rows);

/* A row for ours and one for its limit. */
void bench_rows_add(struct bench_rows *rows, const struct bench_plan *plan,
                    const struct bench_result *result);
/* A row for a raw system alone. */
void bench_rows_add_raw(struct bench_rows *rows, const struct bench_plan *plan,
                        enum bench_system_id system,
                        const struct bench_series *series);
/* A row that is one number: idle processor time. */
void bench_rows_add_note(struct bench_rows *rows, const char *name,
                         const char *note, bool ok);

void bench_print_result(const struct bench_options *options,
                        const struct bench_plan *plan,
                        const struct bench_result *result);
void bench_print_raw_head(void);
void bench_print_raw(const struct bench_plan *plan, enum bench_system_id system,
                     const struct bench_series *series);

/* JSON to stdout if that was wanted, files to the folder. False: not written.
 */
bool bench_rows_publish(const struct bench_rows *rows);

#endif /* BENCH_REPORT_H */
