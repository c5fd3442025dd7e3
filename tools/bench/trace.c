/*
 * trace.c - peercache-bench trace: how much of what could be hit is hit.
 */
#include "trace.h"

#include "../common/flags.h"

#include <peercache/peercache.h>

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "peercache-bench trace"

static const double fractions[] = {0.05, 0.10, 0.20, 0.50};
enum { N_SIZES = sizeof(fractions) / sizeof(fractions[0]) };

enum flag { F_JSON = 1, F_PAGE_SIZE, F_EXACT, F_REMOTE };

static const struct tool_flag table[] = {
    {"json", NULL,
     "Print one object: infinite, and of each size fraction, pages, hit, lru "
     "and belady.",
     F_JSON},
    {"page-size", "BYTES",
     "Bytes of a page in the node's pool (4096; more for a trace of few "
     "pages).",
     F_PAGE_SIZE},
    {"exact", NULL,
     "Ask page by page, in a pool without watermarks and with the policy lru: "
     "must hit exactly what the offline LRU does.",
     F_EXACT},
    {"remote", NULL,
     "Another node without a pool asks and reads; see --read-mode. What it "
     "reads without the holder counts as used only as far as that is told of.",
     F_REMOTE},
    {NULL, NULL, NULL, 0},
};

static const char intro[] =
    "Usage: peercache-bench trace FILE [flags]\n"
    "\n"
    "Replays a trace (JSON lines as Mooncake publishes them: \"hash_ids\" are\n"
    "the pages of a request) against a real node whose pool holds 5, 10, 20\n"
    "and 50 % of the trace's different pages. Of all pages asked for, it says\n"
    "which part was there, beside what a cache without bound, one that knows\n"
    "the future (Belady's optimum) and one that drops what was used longest\n"
    "ago (LRU, page by page) would have had.\n"
    "\n"
    "A request is one chain: exists of all its pages, get of those that are\n"
    "there, put of the others. Settings of the node are flags, too, such as\n"
    "--eviction-policy lru.\n"
    "\n"
    "Exit status: 0 replayed, 1 failed, 2 wrong usage, 3 with --exact: the\n"
    "node is not the LRU.\n";

struct size
{
    double fraction;
    uint32_t pages;
    struct trace_hits hit, lru, belady;
};

struct command
{
    struct trace_plan plan;
    const char *path;
    bool json;
};

static double part(const struct trace *trace, uint64_t n)
{
    return (double)n / (double)trace->n_asked;
}

static double infinite(const struct trace *trace)
{
    return part(trace, trace->n_asked - trace->n_pages);
}

/* ---- Reports ------------------------------------------------------------ */

static int print_json(const struct trace *trace, const struct size *sizes)
{
    json_t *list = json_array();
    for (int i = 0; i < N_SIZES; i++) {
        json_array_append_new(
            list, json_pack("{s:f, s:i, s:f, s:f, s:f}", "fraction",
                            sizes[i].fraction, "pages", (int)sizes[i].pages,
                            "hit", part(trace, sizes[i].hit.n_hits), "lru",
                            part(trace, sizes[i].lru.n_hits), "belady",
                            part(trace, sizes[i].belady.n_hits)));
    }
    json_t *root =
        json_pack("{s:f, s:o}", "infinite", infinite(trace), "sizes", list);
    bool ok =
        root != NULL &&
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    putchar('\n');
    json_decref(root);
    return ok ? 0 : 1;
}

static double holes(const struct trace_hits *hits)
{
    return hits->n_requests > 0
               ? 100 * (double)hits->n_holes / (double)hits->n_requests
               : 0;
}

static void print_head(const struct command *command, const struct trace *trace)
{
    printf("%zu requests for %zu pages, %u of them different; a cache without "
           "bound hits %.2f %%\n\n",
           trace->n_requests, trace->n_asked, trace->n_pages,
           100 * infinite(trace));
    printf("hits, %% of the pages asked for; usable: before the first miss of "
           "their request;\nholes: %% of the requests with a hit behind a "
           "miss%s\n\n",
           command->plan.exact ? " (only of the LRU)" : "");
    printf("| pool | pages   | node   | LRU    | Belady | node - LRU | node of "
           "Belady | usable, node | LRU    | holes, node | LRU   |\n");
    printf("|------|---------|--------|--------|--------|------------|---------"
           "-------|--------------|--------|-------------|-------|\n");
}

/* What --exact does not look at: it asks page by page. */
static const char *number(char text[24], bool is_known, int digits,
                          double value)
{
    (void)snprintf(text, 24, "%.*f", digits, value);
    return is_known ? text : "-";
}

static void print_row(const struct command *command, const struct trace *trace,
                      const struct size *size)
{
    double hit = 100 * part(trace, size->hit.n_hits);
    double lru = 100 * part(trace, size->lru.n_hits);
    double belady = 100 * part(trace, size->belady.n_hits);
    bool is_known = !command->plan.exact;
    char usable[24];
    char with_holes[24];
    printf("| %2.0f %% | %7u | %6.2f | %6.2f | %6.2f | %+10.2f | %14.3f | "
           "%12s | %6.2f | %11s | %5.3f |\n",
           100 * size->fraction, size->pages, hit, lru, belady, hit - lru,
           belady > 0 ? hit / belady : 0,
           number(usable, is_known, 2, 100 * part(trace, size->hit.n_usable)),
           100 * part(trace, size->lru.n_usable),
           number(with_holes, is_known, 3, holes(&size->hit)),
           holes(&size->lru));
    (void)fflush(stdout);
}

/* ---- The command -------------------------------------------------------- */

static uint32_t pages_of(const struct trace *trace, double fraction)
{
    double pages = fraction * trace->n_pages + 0.5;
    return pages < 1 ? 1 : (uint32_t)pages;
}

/* Pages that fill granules, and the smallest pool a region. */
static uint32_t page_size_for(const struct trace *trace)
{
    enum { GRANULE = 4096, POOL_LEAST = 128 << 10 };
    uint32_t n = pages_of(trace, fractions[0]);
    uint32_t bytes = (POOL_LEAST + n - 1) / n;
    return (bytes + GRANULE - 1) / GRANULE * GRANULE;
}

static bool measure(const struct command *command, const struct trace *trace,
                    struct size *size)
{
    char why[TRACE_WHY_MAX] = "out of memory";
    size->pages = pages_of(trace, size->fraction);
    bool ok = trace_lru(trace, size->pages, &size->lru) &&
              trace_belady(trace, size->pages, &size->belady) &&
              trace_replay(trace, &command->plan, size->pages, &size->hit, why);
    if (!ok) {
        (void)fprintf(stderr, PROGRAM ": %s\n", why);
    }
    return ok;
}

static int run(struct command *command)
{
    struct trace trace;
    struct size sizes[N_SIZES];
    char why[TRACE_WHY_MAX];
    if (!trace_read(&trace, command->path, why)) {
        (void)fprintf(stderr, PROGRAM ": %s\n", why);
        return 1;
    }
    if (command->plan.page_size == 0) {
        command->plan.page_size = page_size_for(&trace);
    }
    if (!command->json) {
        print_head(command, &trace);
    }
    int result = 0;
    for (int i = 0; i < N_SIZES && result != 1; i++) {
        sizes[i] = (struct size){.fraction = fractions[i]};
        if (!measure(command, &trace, &sizes[i])) {
            result = 1;
        } else if (!command->json) {
            print_row(command, &trace, &sizes[i]);
        }
        if (result == 0 && command->plan.exact &&
            sizes[i].hit.n_hits != sizes[i].lru.n_hits) {
            (void)fprintf(stderr,
                          PROGRAM ": %u pages: the node hit %llu times, the "
                                  "offline LRU %llu times\n",
                          sizes[i].pages,
                          (unsigned long long)sizes[i].hit.n_hits,
                          (unsigned long long)sizes[i].lru.n_hits);
            result = 3;
        }
    }
    if (result != 1 && command->json && print_json(&trace, sizes) != 0) {
        result = 1;
    }
    trace_free(&trace);
    return result;
}

static bool add_setting(struct command *command, const char *name,
                        const char *value)
{
    char *settings = command->plan.settings;
    size_t used = strlen(settings);
    int n = snprintf(settings + used, TRACE_SETTINGS_MAX - used, "%s=%s\n",
                     name, value);
    return n > 0 && (size_t)n < TRACE_SETTINGS_MAX - used;
}

/* -1: taken. */
static int take_own(struct command *command, const struct tool_flags *flags)
{
    switch (flags->id) {
    case TOOL_HELP:
        (void)fputs(intro, stdout);
        tool_flags_help(flags);
        return 0;
    case F_JSON:
        command->json = true;
        return -1;
    case F_EXACT:
        command->plan.exact = true;
        return add_setting(command, "eviction_policy", "lru") ? -1 : 2;
    case F_REMOTE:
        command->plan.remote = true;
        return -1;
    default:
        break;
    }
    char *end;
    errno = 0;
    unsigned long long bytes = strtoull(flags->value, &end, 10);
    if (errno != 0 || *end != '\0' || bytes < 16 || bytes > 1 << 26) {
        (void)fprintf(stderr,
                      PROGRAM ": --page-size %s: allowed is 16 to 67108864\n",
                      flags->value);
        return 2;
    }
    command->plan.page_size = (uint32_t)bytes;
    return -1;
}

static int parse(struct command *command, struct tool_flags *flags, int argc,
                 char **argv)
{
    for (;;) {
        int result = -1;
        switch (tool_flags_next(flags, argc, argv)) {
        case TOOL_FLAG_OWN:
            result = take_own(command, flags);
            break;
        case TOOL_FLAG_SETTING:
            result = add_setting(command, flags->name, flags->value) ? -1 : 2;
            break;
        case TOOL_FLAG_WRONG:
            return 2;
        case TOOL_FLAG_END:
            if (optind + 1 != argc) {
                (void)fprintf(stderr, PROGRAM ": name one trace\n");
                return 2;
            }
            command->path = argv[optind];
            return -1;
        }
        if (result != -1) {
            return result;
        }
    }
}

int trace_main(int argc, char **argv)
{
    struct command command = {.json = false};
    struct tool_flags flags;
    if (!tool_flags_init(&flags, PROGRAM, table)) {
        return 1;
    }
    int result = parse(&command, &flags, argc, argv);
    tool_flags_fini(&flags);
    return result == -1 ? run(&command) : result;
}
