/*
 * trace_replay.c - a trace, asked of a real node: a cluster of one with a pool
 * for exactly so many pages, or of two, the other without a pool.
 */
#include "trace.h"

#include <peercache/peercache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READY_NS (10ull * 1000000000u)
#define CALL_NS  (30ull * 1000000000u)

enum { KEY_LEN = 32, GRANULE = 4096, REGION_LEAST = 64 << 10 };

/* A node, and memory for the longest request. */
struct replay
{
    const struct trace *trace;
    const struct trace_plan *plan;
    peercache_node_t *node;   /* With the pool. */
    peercache_node_t *reader; /* Who asks: the same, or another. */
    peercache_item_t *items;
    peercache_piece_t *pieces; /* Two of each item: which page, and the rest. */
    uint64_t *written, *read;  /* Which page. */
    char *keys;
    unsigned char *rest;    /* Of all pages that are put. */
    unsigned char *scratch; /* Of pages that are got. */
    uint32_t *pages;        /* Of a request, none twice. */
    bool *hit;
    uint64_t *seen; /* Of each page: the request that had it last, + 1. */
    char *why;
};

static bool fail(struct replay *r, const char *what, peercache_status_t status)
{
    (void)snprintf(r->why, TRACE_WHY_MAX, "%s: %s", what,
                   peercache_strerror(status));
    return false;
}

/* ---- The node ----------------------------------------------------------- */

/* A region has a page of its own and a table of slots in front of its values
 * (lib/store/region.h): how long it has to be for so many granules. The node
 * is asked afterwards whether that is still so. */
static uint64_t region_for(uint64_t n_granules)
{
    for (uint64_t n = n_granules + 2;; n++) {
        uint64_t n_table = (n * 5 / 4 + 63) / 64;
        if (n - 1 - n_table >= n_granules) {
            return n * GRANULE;
        }
    }
}

static uint64_t value_granules(const struct trace_plan *plan)
{
    return (plan->page_size + GRANULE - 1) / GRANULE;
}

static bool set(peercache_config_t *config, const char *name, const char *value,
                char *why)
{
    if (peercache_config_set(config, name, value) == PEERCACHE_OK) {
        return true;
    }
    (void)snprintf(why, TRACE_WHY_MAX, "%s", peercache_config_error(config));
    return false;
}

static bool set_lines(peercache_config_t *config, const char *lines, char *why)
{
    char line[512];
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n");
        (void)snprintf(line, sizeof(line), "%.*s", (int)len, lines);
        char *value = strchr(line, '=');
        if (value != NULL) {
            *value++ = '\0';
            if (!set(config, line, value, why)) {
                return false;
            }
        }
        lines += len + (lines[len] == '\n');
    }
    return true;
}

static bool configure(peercache_config_t *config, const struct trace_plan *plan,
                      uint64_t region, char *why)
{
    char size[32];
    char name[32];
    char seed[32];
    unsigned port = 21000 + (unsigned)getpid() % 20000;
    (void)snprintf(seed, sizeof(seed), "127.0.0.1:%u", port);
    (void)snprintf(size, sizeof(size), "%llu", (unsigned long long)region);
    (void)snprintf(name, sizeof(name), "trace-%d", (int)getpid());
    return set(config, "cluster_name", name, why) &&
           (!plan->remote || set(config, "discovery_addr", seed, why)) &&
           set(config, "control_bind_host", "127.0.0.1", why) &&
           set(config, "disk_enabled", "false", why) &&
           set(config, "metrics_enabled", "false", why) &&
           set(config, "log_level", "error", why) &&
           set_lines(config, plan->settings, why) &&
           set(config, "global_segment_size", size, why) &&
           set(config, "region_size", size, why) &&
           (!plan->exact || (set(config, "evict_low", "0", why) &&
                             set(config, "evict_high", "0", why)));
}

/* Whether the pool has room for exactly that; it may still grow. */
static bool pool_is(struct replay *r, uint64_t bytes)
{
    uint64_t capacity = 0;
    for (int tries = 0; tries < 1000 && capacity == 0; tries++) {
        char *text = NULL;
        const char *name = "\npeercache_pool_capacity_bytes";
        peercache_status_t status = peercache_node_metrics(r->node, &text);
        const char *at = text != NULL ? strstr(text, name) : NULL;
        if (status != PEERCACHE_OK || at == NULL) {
            peercache_free(text);
            (void)snprintf(r->why, TRACE_WHY_MAX, "the pool has no gauge");
            return false;
        }
        at += strlen(name);
        at += *at == '{' ? strcspn(at, "}") + 1 : 0;
        capacity = strtoull(at, NULL, 10);
        peercache_free(text);
        if (capacity == 0) {
            (void)usleep(10000);
        }
    }
    if (capacity != bytes) {
        (void)snprintf(r->why, TRACE_WHY_MAX,
                       "the pool has %llu bytes instead of %llu",
                       (unsigned long long)capacity, (unsigned long long)bytes);
    }
    return capacity == bytes;
}

/* A client has no pool. */
static bool set_role(peercache_config_t *config, bool is_reader, char *why)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "trace-%d%s", (int)getpid(),
                   is_reader ? "-reader" : "");
    return set(config, "node_id", name, why) &&
           (!is_reader || (set(config, "mode", "centralized", why) &&
                           set(config, "role", "inference", why)));
}

static bool open_one(struct replay *r, uint64_t region, bool is_reader,
                     peercache_node_t **node_p)
{
    peercache_config_t *config;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        return fail(r, "configuration", PEERCACHE_NO_MEMORY);
    }
    bool ok = configure(config, r->plan, region, r->why) &&
              set_role(config, is_reader, r->why);
    if (ok) {
        peercache_status_t status = peercache_node_create(config, node_p);
        ok = status == PEERCACHE_OK;
        if (!ok) {
            (void)fail(r, peercache_config_error(config), status);
        }
    }
    peercache_config_destroy(config);
    if (ok) {
        peercache_status_t status =
            peercache_node_wait_ready(*node_p, READY_NS);
        ok = status == PEERCACHE_OK || fail(r, "node", status);
    }
    return ok;
}

static bool open_node(struct replay *r, uint32_t capacity)
{
    uint64_t n_granules = capacity * value_granules(r->plan);
    uint64_t region = region_for(n_granules);
    if (region < REGION_LEAST) {
        (void)snprintf(r->why, TRACE_WHY_MAX,
                       "a pool of %u pages of %u bytes is too small for a "
                       "node: use a larger --page-size",
                       capacity, r->plan->page_size);
        return false;
    }
    if (!open_one(r, region, false, &r->node) ||
        !pool_is(r, n_granules * GRANULE)) {
        return false;
    }
    r->reader = r->node;
    return !r->plan->remote || open_one(r, region, true, &r->reader);
}

/* ---- Calls -------------------------------------------------------------- */

typedef peercache_status_t (*verb_fn)(peercache_node_t *, peercache_item_t *,
                                      size_t, const peercache_op_params_t *,
                                      peercache_op_t **);

/* Items 0..n-1 become those pages, in order. */
static void fill(struct replay *r, const uint32_t *pages, size_t n, bool is_get)
{
    size_t len = r->plan->page_size;
    for (size_t i = 0; i < n; i++) {
        char *key = r->keys + i * (KEY_LEN + 1);
        (void)snprintf(key, KEY_LEN + 1, "%032llx",
                       (unsigned long long)r->trace->ids[pages[i]]);
        r->written[i] = r->trace->ids[pages[i]];
        r->pieces[2 * i].addr = is_get ? &r->read[i] : &r->written[i];
        r->pieces[2 * i].len = sizeof(uint64_t);
        r->pieces[2 * i + 1].addr = is_get ? r->scratch + i * len : r->rest;
        r->pieces[2 * i + 1].len = len - sizeof(uint64_t);
        r->items[i] = (peercache_item_t){
            .key = key,
            .key_len = KEY_LEN,
            .pieces = &r->pieces[2 * i],
            .n_pieces = 2,
        };
    }
}

/* OK and PARTIAL are what a call may come to. */
static bool call(struct replay *r, verb_fn verb, const char *name, size_t n)
{
    peercache_op_params_t params = {
        .struct_size = sizeof(params),
        .item_size = sizeof(peercache_item_t),
        .flags = r->plan->exact ? 0 : PEERCACHE_OP_CHAIN,
        .timeout_ns = CALL_NS,
    };
    if (verb == peercache_exists) {
        for (size_t i = 0; i < n; i++) {
            r->items[i].pieces = NULL;
            r->items[i].n_pieces = 0;
        }
    }
    peercache_node_t *node = verb == peercache_put ? r->node : r->reader;
    peercache_status_t status = verb(node, r->items, n, &params, NULL);
    return status == PEERCACHE_OK || status == PEERCACHE_PARTIAL ||
           fail(r, name, status);
}

/* Get these pages; *hit says which came. */
static bool get(struct replay *r, const uint32_t *pages, size_t n, bool *hit)
{
    fill(r, pages, n, true);
    if (n > 0 && !call(r, peercache_get, "get", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        hit[i] = r->items[i].status == PEERCACHE_OK;
        if (hit[i] && r->read[i] != r->written[i]) {
            (void)snprintf(r->why, TRACE_WHY_MAX, "wrong bytes of page %llu",
                           (unsigned long long)r->written[i]);
            return false;
        }
    }
    return true;
}

static bool put(struct replay *r, const uint32_t *pages, size_t n)
{
    fill(r, pages, n, false);
    if (n > 0 && !call(r, peercache_put, "put", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        /* A pool of a few pages may be full of those of this very call. */
        if (r->items[i].status != PEERCACHE_OK &&
            r->items[i].status != PEERCACHE_NO_SPACE) {
            return fail(r, "put", r->items[i].status);
        }
    }
    return true;
}

/* ---- The walk ----------------------------------------------------------- */

static bool page_by_page(struct replay *r, const uint32_t *pages, size_t n,
                         struct trace_hits *hits)
{
    for (size_t i = 0; i < n; i++) {
        bool hit;
        if (!get(r, &pages[i], 1, &hit) || (!hit && !put(r, &pages[i], 1))) {
            return false;
        }
        hits->n_hits += hit;
    }
    return true;
}

/* The wanted ones among r->pages, or the others, in order. */
static size_t pick(const struct replay *r, size_t n, bool wanted,
                   uint32_t *pages)
{
    size_t n_picked = 0;
    for (size_t i = 0; i < n; i++) {
        if (r->hit[i] == wanted) {
            pages[n_picked++] = r->pages[i];
        }
    }
    return n_picked;
}

static bool as_a_chain(struct replay *r, size_t n, uint32_t *picked, bool *came,
                       struct trace_hits *hits)
{
    fill(r, r->pages, n, true);
    if (n > 0 && !call(r, peercache_exists, "exists", n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        r->hit[i] = r->items[i].status == PEERCACHE_OK;
    }
    size_t n_there = pick(r, n, true, picked);
    if (!get(r, picked, n_there, came)) {
        return false;
    }
    /* The evictor may have been faster. */
    for (size_t i = 0, k = 0; i < n; i++) {
        r->hit[i] = r->hit[i] && came[k++];
    }
    bool is_behind = false;
    bool hole = false;
    for (size_t i = 0; i < n; i++) {
        is_behind |= !r->hit[i];
        hole |= is_behind && r->hit[i];
        hits->n_hits += r->hit[i];
        hits->n_usable += r->hit[i] && !is_behind;
    }
    hits->n_holes += hole;
    return put(r, picked, pick(r, n, false, picked));
}

static bool walk(struct replay *r, struct trace_hits *hits)
{
    const struct trace *trace = r->trace;
    uint32_t *picked = calloc(trace->longest, sizeof(*picked));
    bool *came = calloc(trace->longest, sizeof(*came));
    bool ok = picked != NULL && came != NULL;
    for (size_t q = 0; ok && q < trace->n_requests; q++) {
        const uint32_t *pages = &trace->pages[trace->first[q]];
        size_t n = trace->first[q + 1] - trace->first[q];
        hits->n_requests++;
        if (r->plan->exact) {
            ok = page_by_page(r, pages, n, hits);
            continue;
        }
        /* A page that a request has twice is there the second time. */
        size_t n_once = 0;
        for (size_t i = 0; i < n; i++) {
            if (r->seen[pages[i]] == q + 1) {
                hits->n_hits++;
                hits->n_usable++;
            } else {
                r->seen[pages[i]] = q + 1;
                r->pages[n_once++] = pages[i];
            }
        }
        ok = as_a_chain(r, n_once, picked, came, hits);
    }
    free(picked);
    free(came);
    return ok;
}

static bool make(struct replay *r)
{
    size_t n = r->trace->longest;
    size_t len = r->plan->page_size;
    r->items = calloc(n, sizeof(*r->items));
    r->pieces = calloc(2 * n, sizeof(*r->pieces));
    r->written = calloc(n, sizeof(*r->written));
    r->read = calloc(n, sizeof(*r->read));
    r->keys = calloc(n, KEY_LEN + 1);
    r->rest = calloc(1, len);
    r->scratch = calloc(n, len);
    r->pages = calloc(n, sizeof(*r->pages));
    r->hit = calloc(n, sizeof(*r->hit));
    r->seen = calloc(r->trace->n_pages, sizeof(*r->seen));
    bool ok = r->items != NULL && r->pieces != NULL && r->written != NULL &&
              r->read != NULL && r->keys != NULL && r->rest != NULL &&
              r->scratch != NULL && r->pages != NULL && r->hit != NULL &&
              r->seen != NULL;
    return ok || fail(r, "memory for the longest request", PEERCACHE_NO_MEMORY);
}

bool trace_replay(const struct trace *trace, const struct trace_plan *plan,
                  uint32_t capacity, struct trace_hits *hits, char *why)
{
    struct replay r = {.trace = trace, .plan = plan, .why = why};
    struct trace_hits found = {0};
    bool ok = make(&r) && open_node(&r, capacity) && walk(&r, &found);
    if (r.reader != NULL && r.reader != r.node) {
        peercache_node_destroy(r.reader);
    }
    if (r.node != NULL) {
        peercache_node_destroy(r.node);
    }
    free(r.items);
    free(r.pieces);
    free(r.written);
    free(r.read);
    free(r.keys);
    free(r.rest);
    free(r.scratch);
    free(r.pages);
    free(r.hit);
    free(r.seen);
    if (ok) {
        *hits = found;
    }
    return ok;
}
