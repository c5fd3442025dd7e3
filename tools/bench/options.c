#include "options.h"

#include "../common/flags.h"

#include <peercache/peercache.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "peercache-bench"

enum flag {
    F_OP = 1,
    F_PAGE_SIZE,
    F_BATCH_SIZE,
    F_WORKING_SET,
    F_RUN_LENGTH,
    F_MAX_BYTES,
    F_CONCURRENCY,
    F_DURATION,
    F_WARMUP,
    F_SLICE,
    F_PAIRS,
    F_LAYOUT,
    F_TOKENS,
    F_REGISTERED,
    F_READER,
    F_LIMIT,
    F_READ_MODE,
    F_TARGET,
    F_MATRIX,
    F_JSON,
    F_OUT_DIR,
    F_TAG,
    F_DISK
};

static const struct tool_flag table[] = {
    {"op", "get|set|exists", "What is measured (throughput; get).", F_OP},
    {"page-size", "BYTES", "Bytes of a value (131072).", F_PAGE_SIZE},
    {"batch-size", "N", "Keys of a call (32).", F_BATCH_SIZE},
    {"working-set", "N", "Values, read in random order (4096).", F_WORKING_SET},
    {"run-length", "N",
     "Values that are read one behind the other in the order they were put\n"
     "in, as the pages of a prefix are; runs are in random order (1).",
     F_RUN_LENGTH},
    {"max-bytes", "BYTES", "Bound of the working set (8 GiB).", F_MAX_BYTES},
    {"concurrency", "N", "Threads of the reader (throughput; 8).",
     F_CONCURRENCY},
    {"duration", "SECONDS", "Of measuring, ours and its limit together (10).",
     F_DURATION},
    {"warmup", "SECONDS", "Of each, after every byte was verified (2).",
     F_WARMUP},
    {"slice-ms", "MS", "Ours and its limit run in turn for so long (100).",
     F_SLICE},
    {"pairs", "N", "Pairs of slices; 0: as the duration allows, at least 30.",
     F_PAIRS},
    {"layout", "mla|mha",
     "mla: a page is one piece of memory. mha: K and V lie apart (mla).",
     F_LAYOUT},
    {"tokens-per-page", "N", "For tokens a second in reports (64).", F_TOKENS},
    {"registered", "on|off", "Register the reader's memory (on).",
     F_REGISTERED},
    {"reader", "node|client",
     "client: without pool and directory; the default of exists.", F_READER},
    {"limit", "auto|memcpy|copy-hash|tcp|keys|ucx|none",
     "What to divide by (auto: by what is measured).", F_LIMIT},
    {"read-mode", "auto|mapped|one-sided|served",
     "How pages come to the reader (auto). one-sided without RDMA wants "
     "--ucx-tcp lo.",
     F_READ_MODE},
    {"target", "RATIO", "Ratio to the limit that counts as met (0.85).",
     F_TARGET},
    {"matrix", NULL, "Measure all targets and print one table (throughput).",
     F_MATRIX},
    {"json", NULL, "Print the report as JSON.", F_JSON},
    {"out-dir", "DIR",
     "Where reports go as JSON and Markdown, empty: nowhere "
     "(./peercache-bench-results).",
     F_OUT_DIR},
    {"tag", "TEXT", "Part of the reports' names.", F_TAG},
    {"disk", NULL, "With the disk tier, see --disk-path.", F_DISK},
    {NULL, NULL, NULL, 0},
};

static const char intro[] =
    "Usage: peercache-bench limits|latency|throughput|hung [flags]\n"
    "       peercache-bench trace FILE [flags]\n"
    "       peercache-bench serve SEED PAGES | drive SEED PAGES SECONDS\n"
    "\n"
    "Measures PeerCache between two processes of this host against raw\n"
    "programs that move the same pages in the same batches and order.\n"
    "\n"
    "  limits      the raw programs alone, with the best of their settings\n"
    "  latency     one call at a time; ratio of the median latencies\n"
    "  throughput  several threads; ratio of the rates\n"
    "  trace       hit rates of a trace, beside LRU and the optimum; see\n"
    "              peercache-bench trace --help\n"
    "  serve, drive  reads between two hosts; see peercache-bench serve "
    "--help\n"
    "  hung        what calls of 128 keys take while one of four nodes hangs,\n"
    "              before and after its breaker opens; takes no flags\n"
    "\n"
    "Slices of ours and of the limit alternate; the ratio is the median over\n"
    "the pairs, with its bootstrap 95 % interval. Bytes are verified: all in\n"
    "the warm-up, a sample while timed, whose cost is reported apart.\n"
    "\n"
    "Exit status: 0 measured, 1 failed or wrong bytes, 2 wrong usage.\n";

static int wrong(const char *flag, const char *value, const char *allowed)
{
    (void)fprintf(stderr, PROGRAM ": --%s %s: allowed is %s\n", flag, value,
                  allowed);
    return 2;
}

static bool number(const char *text, double low, double high, double *value_p)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 ||
        !(value >= low && value <= high)) {
        return false;
    }
    *value_p = value;
    return true;
}

/* Number of the word in a list "a|b|c", or -1. */
static int word(const char *text, const char *list)
{
    size_t len = strlen(text);
    for (int i = 0;; i++) {
        size_t n = strcspn(list, "|");
        if (n == len && strncmp(text, list, n) == 0) {
            return i;
        }
        if (list[n] == '\0') {
            return -1;
        }
        list += n + 1;
    }
}

bool bench_plan_set(struct bench_plan *plan, const char *name,
                    const char *value)
{
    size_t used = strlen(plan->settings);
    int n = snprintf(plan->settings + used, sizeof(plan->settings) - used,
                     "%s=%s\n", name, value);
    return n > 0 && (size_t)n < sizeof(plan->settings) - used;
}

struct numeric
{
    enum flag flag;
    double low;
    double high;
    const char *allowed;
};

static const struct numeric numerics[] = {
    {F_PAGE_SIZE, 8, 1 << 26, "8 to 67108864"},
    {F_BATCH_SIZE, 1, 4096, "1 to 4096"},
    {F_WORKING_SET, 1, 1 << 26, "1 to 67108864"},
    {F_RUN_LENGTH, 1, 1 << 20, "1 to 1048576"},
    {F_MAX_BYTES, 1 << 20, 1e15, "1048576 or more"},
    {F_CONCURRENCY, 1, BENCH_THREADS_MAX, "1 to 256"},
    {F_DURATION, 0.1, 86400, "0.1 to 86400"},
    {F_WARMUP, 0, 3600, "0 to 3600"},
    {F_SLICE, 1, 60000, "1 to 60000"},
    {F_PAIRS, 0, 100000, "0 to 100000"},
    {F_TOKENS, 1, 1 << 20, "1 to 1048576"},
    {F_TARGET, 0, 10, "0 to 10"},
};

static void take_number(struct bench_options *options, enum flag flag,
                        double value)
{
    struct bench_plan *plan = &options->plan;
    switch (flag) {
    case F_PAGE_SIZE:
        plan->page_size = (uint32_t)value;
        break;
    case F_BATCH_SIZE:
        plan->batch = (uint32_t)value;
        break;
    case F_WORKING_SET:
        plan->n_pages = (uint32_t)value;
        break;
    case F_RUN_LENGTH:
        plan->run = (uint32_t)value;
        break;
    case F_MAX_BYTES:
        options->max_bytes = (uint64_t)value;
        break;
    case F_CONCURRENCY:
        plan->n_threads = (uint32_t)value;
        break;
    case F_DURATION:
        options->duration_s = value;
        break;
    case F_WARMUP:
        options->warmup_s = value;
        break;
    case F_SLICE:
        options->slice_ms = (uint32_t)value;
        break;
    case F_PAIRS:
        options->n_pairs = (uint32_t)value;
        break;
    case F_TOKENS:
        options->tokens_per_page = (uint32_t)value;
        break;
    default:
        options->target = value;
        break;
    }
}

static void take_limit(struct bench_options *options, int choice)
{
    static const enum bench_system_id systems[] = {
        BENCH_OURS, BENCH_MEMCPY, BENCH_COPY_HASH, BENCH_TCP,
        BENCH_KEYS, BENCH_UCX,    BENCH_OURS};
    options->any_limit = choice == 0;
    options->plan.limit = systems[choice];
}

/* Flags whose value is one of the words in the table. */
static bool take_word(struct bench_options *options, int flag, int choice)
{
    switch (flag) {
    case F_OP:
        options->plan.op = (enum bench_op)choice;
        return true;
    case F_LAYOUT:
        options->plan.n_pieces = (uint32_t)choice + 1;
        return true;
    case F_REGISTERED:
        options->plan.registered = choice == 0;
        return true;
    case F_READER:
        options->plan.reader_is_client = choice == 1;
        options->any_reader = false;
        return true;
    case F_LIMIT:
        take_limit(options, choice);
        return true;
    default:
        return flag == F_READ_MODE;
    }
}

static const struct tool_flag *row_of(int id)
{
    const struct tool_flag *row = table;
    while (row->id != id) {
        row++;
    }
    return row;
}

/* -1: taken. */
static int take_own(struct bench_options *options, int id, const char *value)
{
    const struct tool_flag *row = row_of(id);
    for (size_t i = 0; i < sizeof(numerics) / sizeof(numerics[0]); i++) {
        double parsed;
        if ((int)numerics[i].flag == id) {
            if (!number(value, numerics[i].low, numerics[i].high, &parsed)) {
                return wrong(row->name, value, numerics[i].allowed);
            }
            take_number(options, (enum flag)id, parsed);
            return -1;
        }
    }
    switch (id) {
    case F_MATRIX:
        options->matrix = true;
        return -1;
    case F_JSON:
        options->json = true;
        return -1;
    case F_OUT_DIR:
        options->out_dir = value;
        return -1;
    case F_TAG:
        options->tag = value;
        return -1;
    case F_DISK:
        return bench_plan_set(&options->plan, "disk_enabled", "true") ? -1 : 2;
    default:
        break;
    }
    int choice = word(value, row->value);
    if (choice < 0) {
        return wrong(row->name, value, row->value);
    }
    (void)take_word(options, id, choice);
    if (id == F_READ_MODE) {
        (void)snprintf(options->read_mode, sizeof(options->read_mode), "%s",
                       value);
        return bench_plan_set(&options->plan, "read_mode", value) ? -1 : 2;
    }
    return -1;
}

/* Checked here, used by the actors. */
static int take_setting(struct bench_options *options, const char *name,
                        const char *value)
{
    peercache_config_t *config;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        return 1;
    }
    bool ok = peercache_config_set(config, name, value) == PEERCACHE_OK;
    if (!ok) {
        (void)fprintf(stderr, PROGRAM ": %s\n", peercache_config_error(config));
    }
    peercache_config_destroy(config);
    return ok && bench_plan_set(&options->plan, name, value) ? -1 : 2;
}

static bool has_setting(const struct bench_plan *plan, const char *line)
{
    return strstr(plan->settings, line) != NULL;
}

static enum bench_system_id limit_of(const struct bench_options *options)
{
    switch (options->plan.op) {
    case BENCH_SET:
        return BENCH_COPY_HASH;
    case BENCH_EXISTS:
        return BENCH_KEYS;
    default:
        break;
    }
    if (strcmp(options->read_mode, "served") == 0) {
        return BENCH_TCP;
    }
    if (strcmp(options->read_mode, "one-sided") == 0) {
        return has_setting(&options->plan, "ucx_tcp=") ? BENCH_UCX : BENCH_OURS;
    }
    return BENCH_MEMCPY;
}

bool bench_options_finish(struct bench_options *options)
{
    struct bench_plan *plan = &options->plan;
    uint64_t most = options->max_bytes / plan->page_size;
    if (plan->n_pages > most) {
        plan->n_pages = (uint32_t)most;
    }
    if (plan->n_pages < plan->batch || plan->n_pages < plan->n_threads) {
        (void)fprintf(stderr,
                      PROGRAM ": a working set of %u pages is smaller than the "
                              "batch of %u or the %u threads\n",
                      plan->n_pages, plan->batch, plan->n_threads);
        return false;
    }
    plan->slice_ns = (uint64_t)options->slice_ms * 1000000u;
    plan->warmup_ns = (uint64_t)(options->warmup_s * 1e9);
    plan->n_slices = options->n_pairs;
    if (plan->n_slices == 0) {
        double fits = options->duration_s * 1000 / (2.0 * options->slice_ms);
        plan->n_slices = fits < 30 ? 30 : (uint32_t)fits;
    }
    if (options->any_reader) {
        plan->reader_is_client = plan->op == BENCH_EXISTS;
    }
    if (options->any_limit) {
        plan->limit = limit_of(options);
    }
    return true;
}

static void defaults(struct bench_options *options)
{
    *options = (struct bench_options){
        .plan = {.op = BENCH_GET,
                 .page_size = 131072,
                 .n_pages = 4096,
                 .batch = 32,
                 .run = 1,
                 .n_threads = options->command == BENCH_THROUGHPUT ? 8 : 1,
                 .n_pieces = 1,
                 .registered = true},
        .command = options->command,
        .read_mode = "auto",
        .duration_s = 10,
        .warmup_s = 2,
        .slice_ms = 100,
        .max_bytes = 8ull << 30,
        .tokens_per_page = 64,
        .target = 0.85,
        .any_limit = true,
        .any_reader = true,
        .out_dir = "./peercache-bench-results",
        .tag = "",
    };
}

static int parse_flags(struct bench_options *options, struct tool_flags *flags,
                       int argc, char **argv)
{
    int result = -1;
    while (result == -1) {
        switch (tool_flags_next(flags, argc, argv)) {
        case TOOL_FLAG_OWN:
            if (flags->id == TOOL_HELP) {
                (void)fputs(intro, stdout);
                tool_flags_help(flags);
                return 0;
            }
            result = take_own(options, flags->id, flags->value);
            break;
        case TOOL_FLAG_SETTING:
            result = take_setting(options, flags->name, flags->value);
            break;
        case TOOL_FLAG_WRONG:
            return 2;
        case TOOL_FLAG_END:
            if (optind < argc) {
                (void)fprintf(stderr, PROGRAM ": unexpected \"%s\"\n",
                              argv[optind]);
                return 2;
            }
            return -1;
        }
    }
    return result;
}

int bench_options_parse(struct bench_options *options, int argc, char **argv)
{
    struct tool_flags flags;
    int command = argc > 1 ? word(argv[1], "limits|latency|throughput") : -1;
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
    if (command < 0 && !help) {
        (void)fprintf(stderr,
                      PROGRAM ": the first word must be limits, latency, "
                              "throughput or trace; --help shows more\n");
        return 2;
    }
    memset(options, 0, sizeof(*options));
    options->command = help ? BENCH_LIMITS : (enum bench_command)command;
    defaults(options);
    if (!tool_flags_init(&flags, PROGRAM, table)) {
        return 1;
    }
    int skip = help ? 0 : 1;
    int result = parse_flags(options, &flags, argc - skip, argv + skip);
    tool_flags_fini(&flags);
    return result == -1 && !bench_options_finish(options) ? 2 : result;
}
