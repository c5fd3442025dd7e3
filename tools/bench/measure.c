#include "measure.h"

#include "child.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 3 }; /* Slices of each variant before one is chosen. */

struct raw
{
    const char *name;
    uint32_t n_variants;
    const char *variants[8];
};

/* Texts in the order of the bits in raw_tcp.c and raw_ucx.c. */
static const struct raw raws[BENCH_N_SYSTEMS] = {
    [BENCH_OURS] = {"peercache", 1, {""}},
    [BENCH_MEMCPY] = {"memcpy", 1, {"SysV memory"}},
    [BENCH_COPY_HASH] = {"memcpy + XXH3", 1, {"SysV memory"}},
    [BENCH_TCP] = {"raw TCP",
                   8,
                   {"blocking", "spin 50 us", "blocking, 4 MiB buffers",
                    "spin 50 us, 4 MiB buffers", "blocking, reno",
                    "spin 50 us, reno", "blocking, 4 MiB buffers, reno",
                    "spin 50 us, 4 MiB buffers, reno"}},
    [BENCH_KEYS] = {"raw TCP keys", 2, {"blocking", "spin 50 us"}},
    [BENCH_UCX] = {"raw ucp_get",
                   4,
                   {"wait", "polling", "wait, peer errors",
                    "polling, peer errors"}},
};

const char *bench_system_name(enum bench_system_id system)
{
    return raws[system].name;
}

void bench_variant_text(enum bench_system_id system, uint32_t variant,
                        char *text, size_t len)
{
    (void)snprintf(text, len, "%s", raws[system].variants[variant % 8]);
}

double bench_series_gbps(const struct bench_series *series,
                         const struct bench_plan *plan)
{
    return plan->op == BENCH_EXISTS
               ? 0
               : bench_median(series->rates, series->n) * plan->page_size / 1e9;
}

double bench_series_cpu(const struct bench_series *series,
                        const struct bench_plan *plan)
{
    double gb = (double)series->sum.n_hits * plan->page_size / 1e9;
    return plan->op == BENCH_EXISTS || gb == 0 ? 0 : series->cpu_s / gb;
}

static void setup_of(const struct bench_plan *plan, enum bench_system_id system,
                     uint32_t variant, struct bench_setup *setup)
{
    memset(setup, 0, sizeof(*setup));
    setup->system = system;
    setup->variant = variant;
    setup->op = plan->op;
    setup->page_size = plan->page_size;
    setup->n_pages = plan->n_pages;
    setup->batch = plan->batch;
    setup->run = plan->run;
    setup->n_threads = plan->n_threads;
    setup->n_pieces = plan->n_pieces;
    setup->registered = plan->registered;
    setup->reader_is_client = plan->reader_is_client;
    memcpy(setup->settings, plan->settings, sizeof(setup->settings));
}

static bool series_init(struct bench_series *series, uint32_t n)
{
    memset(series, 0, sizeof(*series));
    series->rates = calloc(n, sizeof(*series->rates));
    series->p50s = calloc(n, sizeof(*series->p50s));
    return series->rates != NULL && series->p50s != NULL;
}

void bench_series_fini(struct bench_series *series)
{
    free(series->rates);
    free(series->p50s);
    free(series->info);
    memset(series, 0, sizeof(*series));
}

void bench_result_fini(struct bench_result *result)
{
    bench_series_fini(&result->ours);
    bench_series_fini(&result->limit);
}

static void take(struct bench_series *series, const struct bench_report *report,
                 uint64_t cpu_ns)
{
    struct bench_report *sum = &series->sum;
    series->rates[series->n] = report->rate;
    series->p50s[series->n] = bench_histogram_at(&report->latency, 0.5);
    series->n++;
    series->elapsed_s += (double)report->elapsed_ns / 1e9;
    series->cpu_s += ((double)cpu_ns - (double)report->check_ns) / 1e9;
    series->check_s += (double)report->check_ns / 1e9;
    if (series->why[0] == '\0') {
        memcpy(series->why, report->why, sizeof(series->why));
    }
    sum->n_batches += report->n_batches;
    sum->n_pages += report->n_pages;
    sum->n_hits += report->n_hits;
    sum->n_wrong += report->n_wrong;
    sum->n_checked += report->n_checked;
    for (int i = 0; i < BENCH_N_SOURCES; i++) {
        sum->sources[i] += report->sources[i];
    }
    bench_histogram_merge(&sum->latency, &report->latency);
}

/* One slice. The first batches, untimed, are in the processor time but small
 * against the rest of the slice. */
static bool slice(struct bench_pair *pair, uint64_t duration_ns,
                  struct bench_report *report, struct bench_series *series)
{
    bench_pair_rest(pair, false);
    uint64_t cpu = bench_pair_cpu(pair);
    bool ok = bench_pair_order(pair, BENCH_RUN, duration_ns, report);
    cpu = bench_pair_cpu(pair) - cpu;
    bench_pair_rest(pair, true);
    if (ok && series != NULL) {
        take(series, report, cpu);
    }
    return ok;
}

/* Every page once and every byte: nothing is timed before that was right. */
static bool scan(struct bench_pair *pair, struct bench_series *series)
{
    struct bench_report report;
    bench_pair_rest(pair, false);
    bool ok = bench_pair_order(pair, BENCH_SCAN, 0, &report);
    bench_pair_rest(pair, true);
    if (!ok) {
        (void)snprintf(series->why, sizeof(series->why),
                       "the reader ended or hung in the warm-up");
        return false;
    }
    series->sum.n_checked += report.n_checked;
    series->sum.n_wrong += report.n_wrong;
    if (report.n_wrong > 0) {
        (void)snprintf(series->why, sizeof(series->why),
                       "%llu of %llu pages have wrong bytes",
                       (unsigned long long)report.n_wrong,
                       (unsigned long long)report.n_checked);
        return false;
    }
    if (report.n_hits == 0) {
        (void)snprintf(series->why, sizeof(series->why),
                       "no page was found in the warm-up; %.200s", report.why);
        return false;
    }
    return true;
}

static bool start(struct bench_pair *pair, const struct bench_setup *setup,
                  struct bench_series *series)
{
    if (!bench_pair_start(pair, setup, series->why)) {
        return false;
    }
    if (!scan(pair, series)) {
        bench_pair_stop(pair);
        return false;
    }
    return true;
}

static double try_variant(const struct bench_plan *plan,
                          const struct bench_setup *setup,
                          struct bench_series *series)
{
    struct bench_pair pair;
    struct bench_report report;
    double rates[TRIES];
    uint32_t n = 0;
    if (!start(&pair, setup, series)) {
        return 0;
    }
    while (n < TRIES && slice(&pair, plan->slice_ns, &report, NULL)) {
        rates[n++] = report.rate;
    }
    bench_pair_stop(&pair);
    return bench_median(rates, n);
}

/* Starts the best variant of a raw system. */
static bool start_best(const struct bench_plan *plan,
                       enum bench_system_id system, struct bench_pair *pair,
                       struct bench_series *series)
{
    struct bench_setup setup;
    double best = 0;
    uint32_t n = raws[system].n_variants;
    for (uint32_t v = 0; n > 1 && v < n; v++) {
        setup_of(plan, system, v, &setup);
        double rate = try_variant(plan, &setup, series);
        if (rate > best) {
            best = rate;
            series->variant = v;
        }
    }
    setup_of(plan, system, series->variant, &setup);
    memset(&series->sum, 0, sizeof(series->sum));
    return start(pair, &setup, series);
}

static void warm_up(struct bench_pair *pair, uint64_t duration_ns)
{
    struct bench_report report;
    (void)slice(pair, duration_ns, &report, NULL);
}

bool bench_measure_raw(const struct bench_plan *plan,
                       enum bench_system_id system, struct bench_series *series)
{
    struct bench_pair pair;
    struct bench_report report;
    if (!series_init(series, plan->n_slices) ||
        !start_best(plan, system, &pair, series)) {
        return false;
    }
    warm_up(&pair, plan->warmup_ns);
    while (series->n < plan->n_slices &&
           slice(&pair, plan->slice_ns, &report, series)) {
    }
    bench_pair_stop(&pair);
    series->ok = series->n == plan->n_slices && series->sum.n_wrong == 0;
    return series->ok;
}

/* The order within a pair changes, so that a drift favours nobody. */
static bool run_pairs(const struct bench_plan *plan, struct bench_pair *ours,
                      struct bench_pair *limit, struct bench_result *result)
{
    struct bench_report report;
    bool two = limit->reader.pid != 0;
    for (uint32_t i = 0; i < plan->n_slices; i++) {
        bool ours_first = i % 2 == 0 || !two;
        if ((ours_first &&
             !slice(ours, plan->slice_ns, &report, &result->ours)) ||
            (two && !slice(limit, plan->slice_ns, &report, &result->limit)) ||
            (!ours_first &&
             !slice(ours, plan->slice_ns, &report, &result->ours))) {
            (void)snprintf(result->ours.why, sizeof(result->ours.why),
                           "a reader ended or hung while measured");
            return false;
        }
    }
    return true;
}

static void divide(struct bench_result *result)
{
    uint32_t n =
        result->ours.n < result->limit.n ? result->ours.n : result->limit.n;
    double *ratios = calloc(n + 1u, sizeof(*ratios));
    for (uint32_t i = 0; ratios != NULL && i < n; i++) {
        ratios[i] = result->ours.rates[i] / (result->limit.rates[i] + 1e-9);
    }
    if (ratios != NULL && n > 0) {
        result->ratio = bench_estimate(ratios, n);
        for (uint32_t i = 0; i < n; i++) {
            ratios[i] = result->ours.p50s[i] / (result->limit.p50s[i] + 1e-9);
        }
        result->latency_ratio = bench_estimate(ratios, n);
    }
    free(ratios);
}

bool bench_compare(const struct bench_plan *plan, struct bench_result *result)
{
    struct bench_setup setup;
    struct bench_pair ours = {.owner.pid = 0};
    struct bench_pair limit = {.owner.pid = 0};
    memset(result, 0, sizeof(*result));
    setup_of(plan, BENCH_OURS, 0, &setup);
    if (!series_init(&result->ours, plan->n_slices) ||
        !series_init(&result->limit, plan->n_slices)) {
        return false;
    }
    /* The limit first: its tries should not meet a node that works. */
    bool two = plan->limit != BENCH_OURS &&
               start_best(plan, plan->limit, &limit, &result->limit);
    bool ok = start(&ours, &setup, &result->ours);
    if (ok) {
        warm_up(&ours, plan->warmup_ns);
        if (two) {
            warm_up(&limit, plan->warmup_ns);
        }
        ok = run_pairs(plan, &ours, &limit, result);
        result->ours.info = bench_pair_info(&ours);
    }
    bench_pair_stop(&ours);
    bench_pair_stop(&limit);
    result->ours.ok = ok && result->ours.sum.n_wrong == 0;
    result->limit.ok = two && result->limit.sum.n_wrong == 0;
    divide(result);
    return result->ours.ok;
}

bool bench_measure_idle(const struct bench_plan *plan, double seconds,
                        double *owner_p, double *reader_p, char *why)
{
    struct bench_setup setup;
    struct bench_pair pair;
    setup_of(plan, BENCH_OURS, 0, &setup);
    if (!bench_pair_start(&pair, &setup, why)) {
        return false;
    }
    (void)poll(NULL, 0, 1000); /* Until joining is over. */
    uint64_t start_ns = bench_now();
    uint64_t owner = bench_child_cpu(&pair.owner);
    uint64_t reader = bench_child_cpu(&pair.reader);
    (void)poll(NULL, 0, (int)(seconds * 1000));
    double elapsed = (double)(bench_now() - start_ns);
    *owner_p = (double)(bench_child_cpu(&pair.owner) - owner) / elapsed;
    *reader_p = (double)(bench_child_cpu(&pair.reader) - reader) / elapsed;
    bench_pair_stop(&pair);
    return true;
}
