#include "report.h"

#include <peercache/peercache.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const char *const ops[] = {"get", "set", "exists"};
static const char *const sources[BENCH_N_SOURCES] = {
    "none", "local", "mapped", "one-sided", "served", "disk"};

/* Never NaN or infinite: JSON has neither. */
static json_t *real(double value)
{
    return value == value && value < 1e300 && value > -1e300 ? json_real(value)
                                                             : json_null();
}

bool bench_rows_init(struct bench_rows *rows,
                     const struct bench_options *options, const char *kind)
{
    *rows = (struct bench_rows){
        .options = options, .kind = kind, .results = json_array()};
    return rows->results != NULL;
}

void bench_rows_fini(struct bench_rows *rows)
{
    json_decref(rows->results);
}

static json_t *latency(const struct bench_histogram *histogram)
{
    static const struct
    {
        const char *name;
        double share;
    } points[] = {{"p50", 0.5},  {"p90", 0.9},    {"p95", 0.95},
                  {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        double at = bench_histogram_at(histogram, points[i].share) / 1e3;
        json_object_set_new(object, points[i].name,
                            histogram->n > 0 ? real(at) : json_null());
    }
    return object;
}

/* "mapped 4096, served 12": where the pages came from. */
static void sources_text(const struct bench_report *sum, char *text, size_t len)
{
    size_t at = 0;
    text[0] = '\0';
    for (int i = 1; i < BENCH_N_SOURCES; i++) {
        if (sum->sources[i] > 0 && at < len) {
            int n =
                snprintf(text + at, len - at, "%s%s %llu", at > 0 ? ", " : "",
                         sources[i], (unsigned long long)sum->sources[i]);
            at += n > 0 ? (size_t)n : 0;
        }
    }
}

/* The paths to other members that the node reports. */
static json_t *transport(const char *info)
{
    json_t *paths = json_array();
    json_t *root = info != NULL ? json_loads(info, 0, NULL) : NULL;
    json_t *members = json_object_get(root, "members");
    size_t i;
    json_t *member;
    json_array_foreach(members, i, member)
    {
        json_t *path = json_object_get(member, "path");
        const char *mode = json_string_value(json_object_get(path, "mode"));
        if (mode != NULL && strcmp(mode, "self") != 0) {
            json_array_append(paths, path);
        }
    }
    json_decref(root);
    return paths;
}

static void set_series(json_t *row, const struct bench_rows *rows,
                       const struct bench_plan *plan,
                       const struct bench_series *series)
{
    const struct bench_report *sum = &series->sum;
    double rate = bench_median(series->rates, series->n);
    double gbps = bench_series_gbps(series, plan);
    double cpu = bench_series_cpu(series, plan);
    json_int_t bytes = plan->op == BENCH_EXISTS
                           ? 0
                           : (json_int_t)(sum->n_hits * plan->page_size);
    json_object_set_new(row, "op", json_string(ops[plan->op]));
    json_object_set_new(row, "block", json_integer(plan->page_size));
    json_object_set_new(row, "batch", json_integer(plan->batch));
    json_object_set_new(row, "threads", json_integer(plan->n_threads));
    json_object_set_new(row, "working_set", json_integer(plan->n_pages));
    json_object_set_new(row, "duration", real(series->elapsed_s));
    json_object_set_new(row, "ops", json_integer((json_int_t)sum->n_batches));
    json_object_set_new(row, "bytes", json_integer(bytes));
    json_object_set_new(row, "gbps", real(gbps));
    json_object_set_new(row, "ops_per_s", real(rate / plan->batch));
    json_object_set_new(row, "latency_us", latency(&sum->latency));
    json_object_set_new(row, "pages", json_integer((json_int_t)sum->n_hits));
    json_object_set_new(row, "pages_per_s", real(rate));
    json_object_set_new(row, "tokens_per_s",
                        real(rate * rows->options->tokens_per_page));
    json_object_set_new(row, "hit_rate",
                        sum->n_pages > 0
                            ? real((double)sum->n_hits / (double)sum->n_pages)
                            : json_null());
    json_object_set_new(row, "cpu_s_per_gb", cpu > 0 ? real(cpu) : json_null());
    json_object_set_new(row, "checked_pages",
                        json_integer((json_int_t)sum->n_checked));
    json_object_set_new(row, "wrong_pages",
                        json_integer((json_int_t)sum->n_wrong));
    json_object_set_new(row, "check_s", real(series->check_s));
    json_object_set_new(row, "ok", json_boolean(series->ok));
    json_object_set_new(row, "note", json_string(series->why));
}

static const char *protocol_of(const struct bench_plan *plan)
{
    const char *at = strstr(plan->settings, "protocol=tcp\n");
    return at != NULL ? "tcp" : "rdma";
}

static json_t *estimate(const struct bench_estimate *value)
{
    json_t *object = json_object();
    json_object_set_new(object, "median", real(value->median));
    json_object_set_new(object, "low", real(value->low));
    json_object_set_new(object, "high", real(value->high));
    return object;
}

void bench_rows_add_raw(struct bench_rows *rows, const struct bench_plan *plan,
                        enum bench_system_id system,
                        const struct bench_series *series)
{
    char variant[64];
    json_t *row = json_object();
    bench_variant_text(system, series->variant, variant, sizeof(variant));
    json_object_set_new(row, "name", json_string(plan->name));
    json_object_set_new(row, "system", json_string(bench_system_name(system)));
    json_object_set_new(row, "path", json_string(variant));
    json_object_set_new(row, "protocol", json_null());
    set_series(row, rows, plan, series);
    json_array_append_new(rows->results, row);
}

void bench_rows_add(struct bench_rows *rows, const struct bench_plan *plan,
                    const struct bench_result *result)
{
    char path[160];
    bool divided = result->ours.ok && result->limit.ok;
    json_t *row = json_object();
    sources_text(&result->ours.sum, path, sizeof(path));
    json_object_set_new(row, "name", json_string(plan->name));
    json_object_set_new(row, "system", json_string("peercache"));
    json_object_set_new(row, "path", json_string(path));
    json_object_set_new(row, "protocol", json_string(protocol_of(plan)));
    json_object_set_new(row, "transport", transport(result->ours.info));
    json_object_set_new(row, "build", json_string(peercache_version()));
    set_series(row, rows, plan, &result->ours);
    json_object_set_new(row, "ratio",
                        divided ? estimate(&result->ratio) : json_null());
    json_object_set_new(row, "latency_ratio",
                        divided ? estimate(&result->latency_ratio)
                                : json_null());
    json_object_set_new(row, "percent_of_limit",
                        divided ? real(result->ratio.median * 100)
                                : json_null());
    json_array_append_new(rows->results, row);
    if (plan->limit != BENCH_OURS) {
        bench_rows_add_raw(rows, plan, plan->limit, &result->limit);
    }
}

void bench_rows_add_note(struct bench_rows *rows, const char *name,
                         const char *note, bool ok)
{
    json_t *row = json_object();
    json_object_set_new(row, "name", json_string(name));
    json_object_set_new(row, "system", json_string("peercache"));
    json_object_set_new(row, "note", json_string(note));
    json_object_set_new(row, "ok", json_boolean(ok));
    json_array_append_new(rows->results, row);
}

static void print_side(const char *name, const char *how,
                       const struct bench_plan *plan,
                       const struct bench_series *series)
{
    const struct bench_histogram *times = &series->sum.latency;
    double rate = bench_median(series->rates, series->n);
    printf("  %-14s", name);
    if (plan->op != BENCH_EXISTS) {
        printf(" %7.2f GB/s", bench_series_gbps(series, plan));
    }
    printf(" %10.0f pages/s  p50 %8.1f us  p99 %8.1f us", rate,
           bench_histogram_at(times, 0.5) / 1e3,
           bench_histogram_at(times, 0.99) / 1e3);
    if (plan->op != BENCH_EXISTS) {
        printf("  CPU %.3f s/GB", bench_series_cpu(series, plan));
    }
    printf("  (%s)\n", how);
}

static void print_ratio(const struct bench_options *options,
                        const struct bench_result *result)
{
    const struct bench_estimate *rate = &result->ratio;
    const struct bench_estimate *time = &result->latency_ratio;
    printf("  ratio of the rates       %.3f  [%.3f, %.3f]  target %.2f: %s\n",
           rate->median, rate->low, rate->high, options->target,
           rate->low >= options->target - 0.03 ? "met" : "missed");
    printf("  ratio of the latencies   %.3f  [%.3f, %.3f]\n", time->median,
           time->low, time->high);
}

void bench_print_result(const struct bench_options *options,
                        const struct bench_plan *plan,
                        const struct bench_result *result)
{
    char text[160];
    const struct bench_report *sum = &result->ours.sum;
    printf("%s: %s, %u B pages, batch %u, %u thread%s, %u pages\n", plan->name,
           ops[plan->op], plan->page_size, plan->batch, plan->n_threads,
           plan->n_threads == 1 ? "" : "s", plan->n_pages);
    if (!result->ours.ok) {
        printf("  failed: %s\n",
               result->ours.why[0] != '\0' ? result->ours.why : "wrong bytes");
        return;
    }
    sources_text(sum, text, sizeof(text));
    print_side("peercache", text, plan, &result->ours);
    if (result->limit.ok) {
        bench_variant_text(plan->limit, result->limit.variant, text,
                           sizeof(text));
        print_side(bench_system_name(plan->limit), text, plan, &result->limit);
        print_ratio(options, result);
    } else if (plan->limit != BENCH_OURS) {
        printf("  no limit: %s\n", result->limit.why);
    }
    printf("  hits %.4f, %llu pages verified, %llu wrong, %.3f s of checks "
           "not counted\n",
           (double)sum->n_hits / (double)(sum->n_pages + (sum->n_pages == 0)),
           (unsigned long long)sum->n_checked, (unsigned long long)sum->n_wrong,
           result->ours.check_s);
}

void bench_print_raw_head(void)
{
    printf("%-14s %8s %6s %7s %9s %11s %10s %10s %9s  %s\n", "limit", "bytes",
           "batch", "threads", "GB/s", "pages/s", "p50 us", "p99 us",
           "CPU s/GB", "best setting");
}

void bench_print_raw(const struct bench_plan *plan, enum bench_system_id system,
                     const struct bench_series *series)
{
    char variant[64];
    const struct bench_histogram *times = &series->sum.latency;
    bench_variant_text(system, series->variant, variant, sizeof(variant));
    printf("%-14s %8u %6u %7u", bench_system_name(system),
           plan->op == BENCH_EXISTS ? BENCH_KEY_LEN : plan->page_size,
           plan->batch, plan->n_threads);
    if (!series->ok) {
        printf("  failed: %s\n", series->why);
        return;
    }
    printf(" %9.2f %11.0f %10.1f %10.1f %9.3f  %s\n",
           bench_series_gbps(series, plan),
           bench_median(series->rates, series->n),
           bench_histogram_at(times, 0.5) / 1e3,
           bench_histogram_at(times, 0.99) / 1e3,
           bench_series_cpu(series, plan), variant);
}

static json_t *meta(const struct bench_options *options)
{
    struct utsname system;
    json_t *object = json_object();
    json_object_set_new(object, "version", json_string(peercache_version()));
    json_object_set_new(object, "cpus",
                        json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    if (uname(&system) == 0) {
        json_object_set_new(object, "kernel", json_string(system.release));
        json_object_set_new(object, "machine", json_string(system.machine));
    }
    json_object_set_new(object, "tag", json_string(options->tag));
    json_object_set_new(object, "settings",
                        json_string(options->plan.settings));
    json_object_set_new(object, "pairs", json_integer(options->plan.n_slices));
    json_object_set_new(object, "slice_ms", json_integer(options->slice_ms));
    return object;
}

static json_t *document(const struct bench_rows *rows, const char *created_at)
{
    char host[256] = "";
    json_t *root = json_object();
    (void)gethostname(host, sizeof(host) - 1);
    json_object_set_new(root, "created_at", json_string(created_at));
    json_object_set_new(root, "host", json_string(host));
    json_object_set_new(root, "meta", meta(rows->options));
    json_object_set(root, "results", rows->results);
    return root;
}

static double member(json_t *row, const char *name, const char *inner)
{
    json_t *value = json_object_get(row, name);
    return json_number_value(inner != NULL ? json_object_get(value, inner)
                                           : value);
}

static void write_markdown(FILE *file, const struct bench_rows *rows,
                           const char *created_at)
{
    size_t i;
    json_t *row;
    (void)fprintf(file,
                  "# peercache-bench %s, %s\n\n"
                  "| what | system | path | op | bytes | batch | threads | "
                  "GB/s | pages/s | p50 us | p99 us | CPU s/GB | ratio | "
                  "note |\n"
                  "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n",
                  rows->kind, created_at);
    json_array_foreach(rows->results, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        const char *path = json_string_value(json_object_get(row, "path"));
        const char *op = json_string_value(json_object_get(row, "op"));
        (void)fprintf(
            file,
            "| %s | %s | %s | %s | %.0f | %.0f | %.0f | %.2f | %.0f | %.1f | "
            "%.1f | %.3f | ",
            name != NULL ? name : "",
            json_string_value(json_object_get(row, "system")),
            path != NULL ? path : "", op != NULL ? op : "",
            member(row, "block", NULL), member(row, "batch", NULL),
            member(row, "threads", NULL), member(row, "gbps", NULL),
            member(row, "pages_per_s", NULL), member(row, "latency_us", "p50"),
            member(row, "latency_us", "p99"),
            member(row, "cpu_s_per_gb", NULL));
        if (json_is_object(json_object_get(row, "ratio"))) {
            (void)fprintf(
                file, "%.3f [%.3f, %.3f]", member(row, "ratio", "median"),
                member(row, "ratio", "low"), member(row, "ratio", "high"));
        }
        (void)fprintf(file, " | %s |\n",
                      json_string_value(json_object_get(row, "note")));
    }
}

/* DIR/kind-protocol-tag-time without what would not be a name. */
static void file_name(const struct bench_rows *rows, const char *stamp,
                      char *path, size_t len)
{
    char tag[64];
    (void)snprintf(tag, sizeof(tag), "%s%s",
                   rows->options->tag[0] != '\0' ? "-" : "",
                   rows->options->tag);
    for (char *at = tag; *at != '\0'; at++) {
        *at = strchr("/ \t\n", *at) != NULL ? '_' : *at;
    }
    (void)snprintf(path, len, "%s/%s-%s%s-%s", rows->options->out_dir,
                   rows->kind, protocol_of(&rows->options->plan), tag, stamp);
}

static bool write_files(const struct bench_rows *rows, json_t *root,
                        const char *stamp, const char *created_at)
{
    char path[4096];
    char full[4096 + 8];
    file_name(rows, stamp, path, sizeof(path));
    if (mkdir(rows->options->out_dir, 0777) != 0 && errno != EEXIST) {
        return false;
    }
    (void)snprintf(full, sizeof(full), "%s.json", path);
    if (json_dump_file(root, full, JSON_INDENT(2)) != 0) {
        return false;
    }
    (void)snprintf(full, sizeof(full), "%s.md", path);
    FILE *file = fopen(full, "w");
    if (file == NULL) {
        return false;
    }
    write_markdown(file, rows, created_at);
    bool ok = fclose(file) == 0;
    if (ok && !rows->options->json) {
        printf("report: %s.json, .md\n", path);
    }
    return ok;
}

bool bench_rows_publish(const struct bench_rows *rows)
{
    char created_at[32];
    char stamp[32];
    struct tm utc;
    time_t now = time(NULL);
    bool ok = gmtime_r(&now, &utc) != NULL;
    (void)strftime(created_at, sizeof(created_at), "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &utc);
    json_t *root = document(rows, created_at);
    if (rows->options->json) {
        ok = ok && json_dumpf(root, stdout, JSON_INDENT(2)) == 0;
        (void)putchar('\n');
    }
    if (rows->options->out_dir[0] != '\0' &&
        !write_files(rows, root, stamp, created_at)) {
        (void)fprintf(stderr, "peercache-bench: cannot write to %s: %s\n",
                      rows->options->out_dir, strerror(errno));
        ok = false;
    }
    json_decref(root);
    return ok;
}
