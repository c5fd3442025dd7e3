/*
 * cluster_op.c - the operations of a simulated cluster, and their memory.
 *
 * All that the library may touch of an operation (items, pieces, keys, buffers)
 * lies in pages of its own. When the operation has ended, its results are
 * copied out and the pages are taken away: a late look or a late byte is a
 * segmentation fault on the spot (I6).
 */
#include "test.h"

#include "cluster.h"
#include "cluster_value.h"
#include "history.h"

#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 40, PIECES_MAX = 8 };

/* ---- Memory ---------------------------------------------------------------
 */

static size_t word_of(const struct cluster_op *op, size_t i, char *word)
{
    const char *at = op->words;
    for (; i > 0; i--) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    size_t len = strcspn(at, " ");
    memcpy(word, at, len);
    word[len] = '\0';
    return len;
}

void cluster_op_word(const struct cluster_op *op, size_t i, char *word,
                     size_t len)
{
    char text[64];
    (void)word_of(op, i, text);
    snprintf(word, len, "%s", text);
}

static size_t count_words(const char *words)
{
    size_t n = 0;
    for (words += strspn(words, " "); *words != '\0';
         words += strspn(words, " ")) {
        words += strcspn(words, " ");
        n++;
    }
    return n;
}

static bool has_value(const struct cluster_op *op)
{
    return op->verb == PC_VERB_PUT || op->verb == PC_VERB_GET;
}

static size_t memory_of(const struct cluster_op *op, unsigned n_pieces)
{
    size_t len = op->n * (sizeof(peercache_item_t) + 64);
    char word[64];
    for (size_t i = 0; i < op->n; i++) {
        (void)word_of(op, i, word);
        len += has_value(op) ? cluster_value_length(word, op->version) : 0;
        len += n_pieces * (sizeof(peercache_piece_t) + GAP + 16);
    }
    return (len + 2 * 4096) / 4096 * 4096;
}

static void *take(uint8_t **at, size_t len)
{
    void *start = *at;
    *at += (len + 15) / 16 * 16;
    return start;
}

/* Parts of unlike length with a gap before each. */
static void cut_into_pieces(struct cluster_op *op, peercache_item_t *item,
                            size_t len, unsigned n_pieces, uint8_t **at)
{
    peercache_piece_t *pieces = take(at, n_pieces * sizeof(*pieces));
    size_t left = len;
    size_t n = 0;
    for (unsigned k = 0; k < n_pieces && left > 0; k++) {
        size_t part = k + 1 == n_pieces ? left : left / 2 + (left > 1);
        part = part > left ? left : part;
        *at += GAP - k; /* At odd addresses, too. */
        pieces[n].addr = *at;
        pieces[n++].len = part;
        *at += part;
        left -= part;
    }
    *at = (uint8_t *)(((uintptr_t)*at + 15) / 16 * 16);
    item->pieces = pieces;
    item->n_pieces = n;
    (void)op;
}

static void fill(const struct cluster_op *op, const peercache_item_t *item,
                 const char *word)
{
    const uint8_t *bytes =
        cluster_values_get(op->cluster->values, word, op->version);
    size_t at = 0;
    for (size_t p = 0; p < item->n_pieces; p++) {
        memcpy(item->pieces[p].addr, bytes + at, item->pieces[p].len);
        at += item->pieces[p].len;
    }
}

static void lay_out(struct cluster_op *op, unsigned n_pieces)
{
    op->memory_len = memory_of(op, n_pieces);
    op->memory = cluster_arena_pages(op->cluster->arena, op->memory_len);
    uint8_t *at = op->memory;
    if (op->verb == PC_VERB_GET) {
        memset(at, CLUSTER_PATTERN, op->memory_len);
    }
    op->items = take(&at, op->n * sizeof(*op->items));
    memset(op->items, 0, op->n * sizeof(*op->items));
    for (size_t i = 0; i < op->n; i++) {
        char word[64];
        peercache_item_t *item = &op->items[i];
        item->key_len = word_of(op, i, word);
        char *key = take(&at, item->key_len);
        memcpy(key, word, item->key_len);
        item->key = key;
        if (has_value(op)) {
            cut_into_pieces(op, item, cluster_value_length(word, op->version),
                            n_pieces, &at);
        }
        if (op->verb == PC_VERB_PUT) {
            fill(op, item, word);
        }
    }
}

/* ---- The end --------------------------------------------------------------
 */

static const char *verb_name(enum pc_verb verb)
{
    static const char *const names[] = {"put", "get", "exists", "remove"};
    return names[verb];
}

static const char *source_name(peercache_source_t source)
{
    static const char *const names[] = {"",           " local",  " mapped",
                                        " one-sided", " served", " disk"};
    return names[source];
}

static void say(struct cluster_op *op)
{
    char text[700] = "";
    size_t at = 0;
    size_t n = 0;
    for (size_t i = 0; i < op->n && at + 60 < sizeof(text); i += n) {
        for (n = 1; i + n < op->n && op->statuses[i + n] == op->statuses[i] &&
                    op->sources[i + n] == op->sources[i];
             n++) {
        }
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s",
                               i == 0 ? "" : ", ",
                               peercache_status_name(op->statuses[i]),
                               source_name(op->sources[i]));
        if (n > 1) {
            at += (size_t)snprintf(text + at, sizeof(text) - at, " x%zu", n);
        }
    }
    cluster_trace(op->cluster, "%s %s %s: %s", cluster_name(op->node),
                  verb_name(op->verb), op->words, text);
}

/* Whether the pieces hold these bytes. */
static bool holds(const peercache_item_t *item, const uint8_t *bytes,
                  size_t len)
{
    size_t at = 0;
    for (size_t p = 0; p < item->n_pieces; p++) {
        if (at + item->pieces[p].len > len ||
            memcmp(item->pieces[p].addr, bytes + at, item->pieces[p].len) !=
                0) {
            return false;
        }
        at += item->pieces[p].len;
    }
    return at == len;
}

static bool is_pattern(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != CLUSTER_PATTERN) {
            return false;
        }
    }
    return true;
}

/* Nothing has landed in any piece, */
static bool is_untouched(const peercache_item_t *item)
{
    bool all = true;
    for (size_t p = 0; p < item->n_pieces && all; p++) {
        all = is_pattern(item->pieces[p].addr, item->pieces[p].len);
    }
    return all;
}

/* or in front of one, which is behind the one before. */
static bool gaps_are_untouched(const peercache_item_t *item)
{
    bool all = true;
    for (size_t p = 0; p < item->n_pieces && all; p++) {
        const uint8_t *bytes = item->pieces[p].addr;
        all = is_pattern(bytes - (GAP - PIECES_MAX), GAP - PIECES_MAX);
    }
    return all;
}

/* I5: what is delivered is the value; and what must be untouched is. */
static void check_bytes(struct cluster_op *op, size_t i)
{
    const peercache_item_t *item = &op->items[i];
    bool get = op->verb == PC_VERB_GET;
    bool ok = true;
    char word[64];
    (void)word_of(op, i, word);
    if (!get || item->status == PEERCACHE_OK) {
        ok = holds(item,
                   cluster_values_get(op->cluster->values, word, op->version),
                   cluster_value_length(word, op->version));
    } else if (item->status == PEERCACHE_SIZE_MISMATCH ||
               item->status == PEERCACHE_INVALID) {
        ok = is_untouched(item);
    }
    if (!ok || (get && !gaps_are_untouched(item))) {
        cluster_fail(op->cluster, "%s %s %s: %s%s, and wrong bytes%s",
                     cluster_name(op->node), verb_name(op->verb), word,
                     peercache_status_name(item->status),
                     source_name(item->source), ok ? " between pieces" : "");
    }
}

static void check_results(struct cluster_op *op)
{
    struct cluster *c = op->cluster;
    bool all_ok = true;
    for (size_t i = 0; i < op->n; i++) {
        const peercache_item_t *item = &op->items[i];
        bool ok = item->status == PEERCACHE_OK;
        all_ok = all_ok && ok;
        if (item->status == PEERCACHE_IN_PROGRESS) {
            cluster_fail(c, "an ended operation has an item in progress");
        }
        if (has_value(op)) {
            check_bytes(op, i);
        }
        c->counts.n_ok += ok;
        c->counts.n_misses += op->verb == PC_VERB_GET && !ok;
        c->counts.n_by_source[item->source] += op->verb == PC_VERB_GET && ok;
        op->statuses[i] = item->status;
        op->sources[i] = item->source;
        op->lengths[i] = item->value_len;
    }
    op->result = peercache_op_status(op->op);
    if (op->result != (all_ok ? PEERCACHE_OK : PEERCACHE_PARTIAL)) {
        cluster_fail(c, "the result is %s", peercache_status_name(op->result));
    }
}

/* Results are copied out; from now on nobody may look at the memory. */
static void seal_off(struct cluster_op *op)
{
    op->ended_ns = cluster_now(op->cluster);
    check_results(op);
    if (!cluster_arena_take_away(op->memory, op->memory_len)) {
        cluster_fail(op->cluster, "memory cannot be taken away");
    }
    op->ended = true;
    if (op->cluster->history != NULL) {
        history_ended(op->cluster->history, op);
    }
}

/* Half of the operations use a callback and give the handle back in it. */
static void done(peercache_op_t *handle, void *arg)
{
    struct cluster_op *op = arg;
    op->op = handle;
    seal_off(op);
    peercache_op_free(handle);
    op->op = NULL;
}

static void release(struct cluster_op *op)
{
    if (op->op != NULL) {
        peercache_op_free(op->op);
        op->op = NULL;
    }
    if (op->mem != NULL) {
        peercache_mem_deregister(op->mem);
        op->mem = NULL;
    }
}

void cluster_reap(struct cluster *c)
{
    struct pc_list *at = c->ops.next;
    while (at != &c->ops) {
        struct cluster_op *op = PC_CONTAINER_OF(at, struct cluster_op, link);
        at = at->next;
        if (!op->ended &&
            peercache_op_status(op->op) != PEERCACHE_IN_PROGRESS) {
            seal_off(op);
        }
        if (op->ended) {
            release(op);
            pc_list_remove(&op->link);
            pc_list_push_back(&c->ended, &op->link);
            c->nodes[op->node].n_running--;
            if (!op->quiet && !op->killed) {
                struct history *h = c->history;
                c->history = NULL; /* It has its own line of it. */
                say(op);
                c->history = h;
            }
        }
    }
}

void cluster_free_ops(struct cluster *c)
{
    struct pc_list *at;
    while ((at = pc_list_pop_front(&c->ended)) != NULL) {
        struct cluster_op *op = PC_CONTAINER_OF(at, struct cluster_op, link);
        free(op->statuses);
        free(op->sources);
        free(op->lengths);
        free(op->holders);
        free(op);
    }
}

/* ---- Beginning ------------------------------------------------------------
 */

static peercache_status_t submit(struct cluster_op *op,
                                 const peercache_op_params_t *params)
{
    peercache_node_t *node = op->cluster->nodes[op->node].node;
    switch (op->verb) {
    case PC_VERB_PUT:
        return peercache_put(node, op->items, op->n, params, &op->op);
    case PC_VERB_GET:
        return peercache_get(node, op->items, op->n, params, &op->op);
    case PC_VERB_EXISTS:
        return peercache_exists(node, op->items, op->n, params, &op->op);
    default:
        return peercache_remove(node, op->items, op->n, params, &op->op);
    }
}

static void register_memory(struct cluster_op *op)
{
    peercache_node_t *node = op->cluster->nodes[op->node].node;
    if (peercache_mem_register(node, PEERCACHE_MEM_HOST, op->memory,
                               op->memory_len, &op->mem) != PEERCACHE_OK) {
        cluster_fail(op->cluster, "memory cannot be registered");
    }
    for (size_t i = 0; i < op->n; i++) {
        op->items[i].mem = op->mem;
    }
}

/* Nothing of it has begun, and nobody looks at its memory. */
static void be_refused(struct cluster_op *op, peercache_status_t status)
{
    for (size_t i = 0; i < op->n; i++) {
        op->statuses[i] = status;
    }
    op->result = status;
    op->ended_ns = cluster_now(op->cluster);
    if (op->op != NULL ||
        !cluster_arena_take_away(op->memory, op->memory_len)) {
        cluster_fail(op->cluster, "a refused operation left something");
    }
    op->ended = true;
}

struct cluster_op *cluster_begin(struct cluster *c,
                                 const struct cluster_call *call)
{
    struct cluster_op *op = calloc(1, sizeof(*op));
    peercache_node_t *node = c->nodes[call->node].node;
    op->cluster = c;
    op->node = call->node;
    op->incarnation = c->nodes[call->node].incarnation;
    op->verb = call->verb;
    op->version = call->version;
    op->quiet = call->quiet;
    op->n = count_words(call->words);
    snprintf(op->words, sizeof(op->words), "%s", call->words);
    op->statuses = calloc(op->n, sizeof(*op->statuses));
    op->sources = calloc(op->n, sizeof(*op->sources));
    op->lengths = calloc(op->n, sizeof(*op->lengths));
    unsigned n_pieces = call->n_pieces == 0 ? 1 : call->n_pieces;
    lay_out(op, n_pieces > PIECES_MAX ? PIECES_MAX : n_pieces);
    if (call->registered) {
        register_memory(op);
    }
    op->started_ns = cluster_now(c);
    op->timeout_ns =
        call->timeout_ns != 0 ? call->timeout_ns : node->settings.op_timeout_ns;
    op->flags = call->flags;
    op->deadline_ns = pc_sim_world_time(
        c->nodes[op->node].host, pc_clock_now(&node->clock) + op->timeout_ns);
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(peercache_item_t),
                                    .flags = call->flags,
                                    .timeout_ns = call->timeout_ns,
                                    .arg = op};
    if (pc_rand_below(&c->rand, 2) == 0) {
        params.done = done;
    }
    pc_list_init(&op->link);
    pc_list_push_back(&c->ops, &op->link);
    c->nodes[op->node].n_running++;
    op->number = ++c->counts.n_ops;
    if (c->history != NULL) {
        history_began(c->history, op);
    }
    int before = c->acting;
    c->acting = op->node;
    pc_engine_refresh(&node->engine);
    c->wants[op->node] = true;
    peercache_status_t status = submit(op, &params);
    c->acting = before;
    if (status == PEERCACHE_NO_MEMORY && call->may_be_refused) {
        be_refused(op, status);
    } else if (status != PEERCACHE_IN_PROGRESS) {
        cluster_fail(c, "%s %s is refused: %s", cluster_name(op->node),
                     verb_name(op->verb), peercache_status_name(status));
    }
    if (op->ended) {
        op->op = NULL; /* Given back in its callback, within the call. */
    }
    return op;
}

struct cluster_op *cluster_begin_verb(struct cluster *c, int i,
                                      enum pc_verb verb, const char *words)
{
    struct cluster_call call = {.node = i, .verb = verb, .words = words};
    return cluster_begin(c, &call);
}

struct pc_digest cluster_digest(const struct cluster *c, int i,
                                const char *word)
{
    return pc_digest_key(c->nodes[i].node->digest_seed, NULL, 0, word,
                         strlen(word));
}

bool cluster_owns(const struct cluster *c, int i, int owner, const char *word)
{
    return pc_ring_owns(c->nodes[i].node->ring, cluster_digest(c, i, word),
                        c->nodes[owner].incarnation);
}

void cluster_pick_word(struct cluster *c, int i, char kind, const char *owners,
                       const char *others, char word[16])
{
    for (unsigned k = 0; k < 10000; k++) {
        bool fits = true;
        snprintf(word, 16, "%c%u", kind, k);
        for (const char *o = owners; *o != '\0'; o++) {
            fits = fits && cluster_owns(c, i, *o - 'a', word);
        }
        for (const char *o = others; *o != '\0'; o++) {
            fits = fits && !cluster_owns(c, i, *o - 'a', word);
        }
        if (fits) {
            return;
        }
    }
    cluster_fail(c, "no word is owned by %s and not by %s", owners, others);
}

void cluster_cancel(struct cluster_op *op)
{
    struct cluster *c = op->cluster;
    op->canceled = true;
    if (!op->ended) {
        c->wants[op->node] = true;
        peercache_op_cancel(op->op);
    }
}

void cluster_wait(struct cluster_op *op)
{
    struct cluster *c = op->cluster;
    uint64_t limit = op->deadline_ns + 2 * c->slack_ns;
    while (!op->ended) {
        if (cluster_now(c) >= limit) {
            cluster_fail(c, "%s %s %s does not end", cluster_name(op->node),
                         verb_name(op->verb), op->words);
        }
        cluster_step(c, limit);
    }
    cluster_reap(c);
}

peercache_status_t cluster_do(struct cluster *c, int i, enum pc_verb verb,
                              const char *words)
{
    struct cluster_call call = {.node = i, .verb = verb, .words = words};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    return op->statuses[0];
}
