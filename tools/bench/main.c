/*
 * main.c - peercache-bench: subcommands and the matrix of targets.
 */
#include "hosts.h"
#include "hung.h"
#include "report.h"
#include "system.h"
#include "trace.h"

#include <peercache/peercache.h>

#include <stdio.h>
#include <string.h>

/* A row of the matrix: what differs from the defaults. */
struct target
{
    const char *name;
    const char *read_mode;
    const char *ucx_tcp; /* NULL: not set. */
    enum bench_op op;
    uint32_t n_threads;
    uint32_t page_size;  /* 0: the default. */
    uint32_t batch;      /* 0: the default. */
    uint32_t run;        /* 0: as given. */
    double most_latency; /* Not 0: the latency's ratio is at most this. */
    double most_p50_us;  /* Not 0: the latency itself is. */
};

static const struct target targets[] = {
    {"mapped get", "mapped", NULL, BENCH_GET, 1, 0, 0, 0, 0, 0},
    {"served get", "served", NULL, BENCH_GET, 1, 0, 0, 0, 0, 0},
    {"served get, 4 readers", "served", NULL, BENCH_GET, 4, 0, 0, 0, 0, 0},
    {"one-sided get, UCX TCP", "one-sided", "lo", BENCH_GET, 1, 0, 0, 0, 0, 0},
    {"the same, prefix order", "one-sided", "lo", BENCH_GET, 1, 0, 0, 32, 0, 0},
    {"local put", "auto", NULL, BENCH_SET, 1, 0, 0, 0, 0, 0},
    {"exists, 128 keys", "auto", NULL, BENCH_EXISTS, 1, 0, 128, 0, 0, 0},
    {"mapped get, 4 KiB", "mapped", NULL, BENCH_GET, 1, 4096, 1, 0, 0, 5},
    {"served get, 4 KiB", "served", NULL, BENCH_GET, 1, 4096, 1, 0, 1.2, 0},
};

enum { N_TARGETS = sizeof(targets) / sizeof(targets[0]) };

/* What one row of the matrix came to. */
struct verdict
{
    char text[64]; /* The measured value. */
    char target[32];
    char limit[80]; /* What ran beside it. */
    bool met;
};

static const double most_cpu = 1.15;
static const double most_idle = 0.01;
/* A bar counts as met when the interval's end is so near. */
static const double margin = 0.03;

static bool measure(struct bench_options *options, struct bench_rows *rows,
                    struct bench_result *result)
{
    bool ok = bench_compare(&options->plan, result);
    bench_rows_add(rows, &options->plan, result);
    if (!options->json) {
        bench_print_result(options, &options->plan, result);
        (void)fflush(stdout);
    }
    if (!ok) {
        (void)fprintf(stderr, "peercache-bench: %s: %s\n", options->plan.name,
                      result->ours.why[0] != '\0' ? result->ours.why
                                                  : "wrong bytes");
    }
    return ok;
}

static int run_one(struct bench_options *options, const char *kind)
{
    struct bench_rows rows;
    struct bench_result result;
    if (!bench_rows_init(&rows, options, kind)) {
        return 1;
    }
    options->plan.name = kind;
    bool ok = measure(options, &rows, &result);
    bench_result_fini(&result);
    ok = bench_rows_publish(&rows) && ok;
    bench_rows_fini(&rows);
    return ok ? 0 : 1;
}

static void name_limit(const struct bench_plan *plan,
                       const struct bench_result *result, char *text,
                       size_t len)
{
    char variant[64];
    if (!result->limit.ok) {
        (void)snprintf(text, len, "none");
        return;
    }
    bench_variant_text(plan->limit, result->limit.variant, variant,
                       sizeof(variant));
    (void)snprintf(text, len, "%s (%s)", bench_system_name(plan->limit),
                   variant);
}

static void judge(const struct bench_options *options,
                  const struct target *target,
                  const struct bench_result *result, struct verdict *verdict)
{
    const struct bench_estimate *rate = &result->ratio;
    const struct bench_estimate *time = &result->latency_ratio;
    double p50_us = bench_histogram_at(&result->ours.sum.latency, 0.5) / 1e3;
    name_limit(&options->plan, result, verdict->limit, sizeof(verdict->limit));
    if (target->most_p50_us > 0) {
        (void)snprintf(verdict->text, sizeof(verdict->text), "p50 %.2f us",
                       p50_us);
        (void)snprintf(verdict->target, sizeof(verdict->target), "<= %.0f us",
                       target->most_p50_us);
        verdict->met = result->ours.ok && p50_us <= target->most_p50_us;
        return;
    }
    bool is_time = target->most_latency > 0;
    const struct bench_estimate *it = is_time ? time : rate;
    (void)snprintf(verdict->text, sizeof(verdict->text), "%.3f [%.3f, %.3f]%s",
                   it->median, it->low, it->high, is_time ? " of p50" : "");
    (void)snprintf(verdict->target, sizeof(verdict->target), "%s %.2f",
                   is_time ? "<=" : ">=",
                   is_time ? target->most_latency : options->target);
    verdict->met = result->ours.ok && result->limit.ok &&
                   (is_time ? it->high <= target->most_latency + margin
                            : it->low >= options->target - margin);
}

static void judge_cpu(const struct bench_plan *plan,
                      const struct bench_result *result,
                      struct verdict *verdict)
{
    double ours = bench_series_cpu(&result->ours, plan);
    double limit = bench_series_cpu(&result->limit, plan);
    double ratio = limit > 0 ? ours / limit : 0;
    (void)snprintf(verdict->text, sizeof(verdict->text),
                   "%.3f (%.3f over %.3f s/GB)", ratio, ours, limit);
    (void)snprintf(verdict->target, sizeof(verdict->target), "<= %.2f",
                   most_cpu);
    verdict->met = result->ours.ok && result->limit.ok && ratio <= most_cpu;
}

static bool apply(struct bench_options *options, const struct target *target)
{
    struct bench_plan *plan = &options->plan;
    plan->name = target->name;
    plan->op = target->op;
    plan->n_threads = target->n_threads;
    plan->page_size =
        target->page_size != 0 ? target->page_size : plan->page_size;
    plan->batch = target->batch != 0 ? target->batch : plan->batch;
    plan->run = target->run != 0 ? target->run : plan->run;
    (void)snprintf(options->read_mode, sizeof(options->read_mode), "%s",
                   target->read_mode);
    return bench_plan_set(plan, "read_mode", target->read_mode) &&
           (target->ucx_tcp == NULL ||
            bench_plan_set(plan, "ucx_tcp", target->ucx_tcp)) &&
           bench_options_finish(options);
}

static void judge_idle(const struct bench_options *given,
                       struct bench_rows *rows, struct verdict *verdict)
{
    struct bench_plan plan = given->plan;
    char why[BENCH_TEXT_MAX] = "";
    double owner = 0;
    double reader = 0;
    plan.n_pages = 64;
    plan.n_threads = 1;
    bool ok = bench_measure_idle(&plan, 5, &owner, &reader, why);
    if (ok) {
        (void)snprintf(verdict->text, sizeof(verdict->text),
                       "%.2f %% and %.2f %% of a core", owner * 100,
                       reader * 100);
    } else {
        (void)snprintf(verdict->text, sizeof(verdict->text), "failed");
        (void)fprintf(stderr, "peercache-bench: idle node: %s\n", why);
    }
    (void)snprintf(verdict->target, sizeof(verdict->target), "< 1 %%");
    verdict->met = ok && owner < most_idle && reader < most_idle;
    bench_rows_add_note(rows, "idle node", ok ? verdict->text : why,
                        verdict->met);
}

static void print_verdict(const char *name, const struct verdict *verdict)
{
    printf("| %-24s | %-32s | %-9s | %-6s | %-43s |\n", name, verdict->text,
           verdict->target, verdict->met ? "met" : "missed", verdict->limit);
}

static void print_table(const struct verdict *verdicts,
                        const struct verdict *cpu, const struct verdict *idle)
{
    printf("\n| %-24s | %-32s | %-9s | %-6s | %-43s |\n", "what",
           "of its limit [95 % interval]", "target", "", "limit");
    printf("|--------------------------|----------------------------------|"
           "-----------|--------|---------------------------------------------"
           "|\n");
    for (size_t i = 0; i < N_TARGETS; i++) {
        print_verdict(targets[i].name, &verdicts[i]);
    }
    print_verdict("CPU a GB, served", cpu);
    print_verdict("idle node", idle);
}

static int run_matrix(const struct bench_options *given)
{
    struct bench_rows rows;
    struct verdict verdicts[N_TARGETS];
    struct verdict cpu;
    struct verdict idle;
    bool ok = true;
    memset(verdicts, 0, sizeof(verdicts));
    memset(&cpu, 0, sizeof(cpu));
    if (!bench_rows_init(&rows, given, "matrix")) {
        return 1;
    }
    for (size_t i = 0; i < N_TARGETS; i++) {
        struct bench_options options = *given;
        struct bench_result result;
        if (!apply(&options, &targets[i])) {
            bench_rows_fini(&rows);
            return 2;
        }
        ok = measure(&options, &rows, &result) && ok;
        judge(&options, &targets[i], &result, &verdicts[i]);
        if (strcmp(targets[i].name, "served get") == 0) {
            judge_cpu(&options.plan, &result, &cpu);
        }
        bench_result_fini(&result);
    }
    judge_idle(given, &rows, &idle);
    if (!given->json) {
        print_table(verdicts, &cpu, &idle);
    }
    ok = bench_rows_publish(&rows) && ok;
    bench_rows_fini(&rows);
    return ok ? 0 : 1;
}

/* The raw programs that design targets divide by. */
static int run_limits(struct bench_options *options)
{
    static const struct
    {
        enum bench_system_id system;
        enum bench_op op;
        uint32_t n_threads;
        uint32_t page_size; /* 0: as given. */
        uint32_t batch;     /* 0: as given. */
    } all[] = {
        {BENCH_MEMCPY, BENCH_GET, 1, 0, 0},
        {BENCH_MEMCPY, BENCH_GET, 2, 0, 0},
        {BENCH_MEMCPY, BENCH_GET, 4, 0, 0},
        {BENCH_COPY_HASH, BENCH_SET, 1, 0, 0},
        {BENCH_COPY_HASH, BENCH_SET, 4, 0, 0},
        {BENCH_TCP, BENCH_GET, 1, 0, 0},
        {BENCH_TCP, BENCH_GET, 4, 0, 0},
        {BENCH_TCP, BENCH_GET, 1, 4096, 1},
        {BENCH_MEMCPY, BENCH_GET, 1, 4096, 1},
        {BENCH_KEYS, BENCH_EXISTS, 1, 0, 128},
        {BENCH_UCX, BENCH_GET, 1, 0, 0},
    };
    struct bench_rows rows;
    bool ok = bench_rows_init(&rows, options, "limits");
    if (!options->json) {
        bench_print_raw_head();
    }
    for (size_t i = 0; ok && i < sizeof(all) / sizeof(all[0]); i++) {
        struct bench_plan plan = options->plan;
        struct bench_series series;
        plan.name = "limit";
        plan.op = all[i].op;
        plan.n_threads = all[i].n_threads;
        plan.page_size =
            all[i].page_size != 0 ? all[i].page_size : plan.page_size;
        plan.batch = all[i].batch != 0 ? all[i].batch : plan.batch;
        (void)bench_measure_raw(&plan, all[i].system, &series);
        bench_rows_add_raw(&rows, &plan, all[i].system, &series);
        if (!options->json) {
            bench_print_raw(&plan, all[i].system, &series);
            (void)fflush(stdout);
        }
        bench_series_fini(&series);
    }
    ok = ok && bench_rows_publish(&rows);
    bench_rows_fini(&rows);
    return ok ? 0 : 1;
}

static int run_actor(void)
{
    static const struct bench_system *const systems[BENCH_N_SYSTEMS] = {
        [BENCH_OURS] = &bench_ours,
    };
    return bench_actor_main(systems, BENCH_N_SYSTEMS);
}

int main(int argc, char **argv)
{
    struct bench_options options;
    if (argc == 2 && strcmp(argv[1], "actor") == 0) {
        return run_actor();
    }
    if (argc > 1 && strcmp(argv[1], "trace") == 0) {
        return trace_main(argc - 1, argv + 1);
    }
    if (argc > 1 &&
        (strcmp(argv[1], "serve") == 0 || strcmp(argv[1], "drive") == 0)) {
        return hosts_main(argc - 1, argv + 1);
    }
    if (argc == 2 && strcmp(argv[1], "hung") == 0) {
        return bench_hung();
    }
    int result = bench_options_parse(&options, argc, argv);
    if (result != -1) {
        return result;
    }
    switch (options.command) {
    case BENCH_LIMITS:
        return run_limits(&options);
    case BENCH_LATENCY:
        options.plan.n_threads = 1;
        return run_one(&options, "latency");
    case BENCH_THROUGHPUT:
        break;
    }
    return options.matrix ? run_matrix(&options)
                          : run_one(&options, "throughput");
}
