/*
 * trace.h - a trace of requests, what caches of a bounded size would have hit
 * in it, and what a real node did.
 *
 * A trace is a file of JSON lines as Mooncake publishes them; "hash_ids" are
 * the pages of a request's prompt, in order. A page that is asked for and there
 * is a hit, whoever asks; all hit rates are hits of all pages asked for.
 */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_WHY_MAX = 512, TRACE_SETTINGS_MAX = 8192 };

struct trace
{
    uint32_t *pages; /* Of all requests in a row, numbered from 0. */
    uint64_t *ids;   /* What the file calls page n. */
    size_t *first;   /* Request r: pages[first[r]] .. pages[first[r + 1] - 1] */
    size_t n_requests;
    size_t n_asked;   /* Pages of all requests. */
    uint32_t n_pages; /* Different ones. */
    uint32_t longest; /* Pages of the longest request. */
};

struct trace_hits
{
    uint64_t n_hits;
    uint64_t n_usable;   /* Those before the first miss of their request. */
    uint64_t n_requests; /* That were asked, of which .. */
    uint64_t n_holes;    /* .. so many had a hit behind a miss. */
};

/* False: why says what is wrong, and in which line. */
bool trace_read(struct trace *trace, const char *path, char *why);
void trace_free(struct trace *trace);

/* ---- Offline: what is known when the whole trace is ---------------------- */

/* Page by page: a hit makes the page the youngest, a miss drops the oldest. The
 * usable hits and the holes are seen as a request begins. False: no memory. */
bool trace_lru(const struct trace *trace, uint32_t capacity,
               struct trace_hits *hits);
/* Page by page: a miss drops the page whose next use is farthest away. */
bool trace_belady(const struct trace *trace, uint32_t capacity,
                  struct trace_hits *hits);

/* ---- A real node --------------------------------------------------------- */

struct trace_plan
{
    uint32_t page_size;
    /* Page by page, get and then put, in a pool without watermarks: what the
     * policy alone does. Else a request is one chain: exists, get what is
     * there, put the rest. */
    bool exact;
    /* Another node asks and reads, without a pool, by whatever way it has; the
     * node with the pool only puts. */
    bool remote;
    char settings[TRACE_SETTINGS_MAX]; /* "name=value" lines. */
};

bool trace_replay(const struct trace *trace, const struct trace_plan *plan,
                  uint32_t capacity, struct trace_hits *hits, char *why);

/* The subcommand; its exit status. */
int trace_main(int argc, char **argv);

#endif /* BENCH_TRACE_H */
