/*
 * explain.c - what a get of a key would do, and why.
 *
 *     own pool, location cache ─► lookup at all owners ─► wait for the ways to
 *     the holders ─► text
 *
 * Nothing is read and nothing is remembered: the cache and the order of
 * eviction stay as they are. The lookup runs in the engine, the caller waits.
 */
#include "base/mem.h"
#include "node/info.h"
#include "node/node.h"

#include <inttypes.h>
#include <string.h>

/* As long as a get waits for the way to a node it has not met. */
#define PATH_WAIT_NS (300 * PC_MS)
#define PATH_LOOK_NS (5 * PC_MS)
#define HOLDERS_MAX  24

struct explain
{
    peercache_node_t *node;
    struct pc_lookup lookup;
    struct pc_event done; /* 1: the lookup has ended, or was given up. */
    struct pc_digest digest;
    uint64_t end_ns;
    peercache_status_t status; /* Of the lookup's start. */
    bool local, cached, joined, timed_out;
    struct pc_place place;          /* If local. */
    struct pc_record cached_record; /* If cached. */
    struct pc_lookup_key key;       /* As it was at the end. */
    enum pc_lookup_answer answer;
    struct pc_record holders[HOLDERS_MAX];
    size_t n_holders;
    bool ways_known;
    struct pc_text text;
};

/* ---- The lookup ------------------------------------------------------- */

/* Answers of several owners are joined: one record a holder, the newest. */
static void add_holder(struct explain *x, const struct pc_record *record)
{
    for (size_t i = 0; i < x->n_holders; i++) {
        if (x->holders[i].incarnation == record->incarnation) {
            if (record->generation > x->holders[i].generation) {
                x->holders[i] = *record;
            }
            return;
        }
    }
    if (x->n_holders < HOLDERS_MAX) {
        x->holders[x->n_holders++] = *record;
    }
}

static void found(struct pc_lookup *lookup, uint32_t user,
                  const struct pc_record *records, size_t n)
{
    struct explain *x = PC_CONTAINER_OF(lookup, struct explain, lookup);
    (void)user;
    for (size_t i = 0; i < n; i++) {
        add_holder(x, &records[i]);
    }
}

static void ended(struct pc_lookup *lookup, uint32_t user,
                  enum pc_lookup_answer answer)
{
    struct explain *x = PC_CONTAINER_OF(lookup, struct explain, lookup);
    (void)user;
    x->key = lookup->keys[0]; /* The lookup frees them. */
    x->answer = answer;
}

static void progress(struct pc_lookup *lookup)
{
    (void)lookup;
}

static void finished(struct pc_lookup *lookup)
{
    struct explain *x = PC_CONTAINER_OF(lookup, struct explain, lookup);
    pc_event_set(&x->done, 1);
}

static void begin(peercache_node_t *node, void *arg)
{
    struct explain *x = arg;
    const uint32_t user = 0;
    x->joined = pc_cluster_is_joined(node->cluster);
    x->lookup.found = found;
    x->lookup.ended = ended;
    x->lookup.progress = progress;
    x->lookup.finished = finished;
    x->status = pc_lookup_start(&x->lookup, node, PC_LOOKUP_ALL, &x->digest,
                                &user, 1, x->end_ns);
}

/* The lookup's own deadline bounds its requests only, not how often it asks
 * again while views differ. */
static void give_up(peercache_node_t *node, void *arg)
{
    struct explain *x = arg;
    (void)node;
    if (x->lookup.active) {
        x->timed_out = true;
        x->key = x->lookup.keys[0];
        pc_lookup_stop(&x->lookup);
    }
}

/* ---- The ways to the holders ------------------------------------------ */

struct way
{
    const char *mode;
    bool usable;
};

static enum pc_read_way read_way(struct explain *x,
                                 const struct pc_record *record, bool waited)
{
    struct pc_peer *peer = pc_peers_find(&x->node->peers, record->incarnation);
    if (peer == NULL) {
        return PC_WAY_DOWN;
    }
    return pc_read_way(x->node, peer, record, false, waited);
}

static void look_at_ways(peercache_node_t *node, void *arg)
{
    struct explain *x = arg;
    x->ways_known = true;
    for (size_t i = 0; i < x->n_holders; i++) {
        if (x->holders[i].incarnation != node->self.incarnation &&
            read_way(x, &x->holders[i], false) == PC_WAY_LATER) {
            x->ways_known = false;
        }
    }
}

static struct way way_of(struct explain *x, const struct pc_record *record)
{
    if (record->incarnation == x->node->self.incarnation) {
        bool here = x->local && x->place.generation == record->generation;
        return (struct way){"local", here};
    }
    switch (read_way(x, record, true)) {
    case PC_WAY_MAPPED:
        return (struct way){"mapped", true};
    case PC_WAY_ONE_SIDED:
        return (struct way){"one-sided", true};
    case PC_WAY_SERVED:
        return (struct way){"served", true};
    case PC_WAY_DOWN:
        return (struct way){"down", false};
    default:
        return (struct way){"none", false};
    }
}

/* ---- Text ------------------------------------------------------------- */

static const char *id_of(const peercache_node_t *node, uint64_t incarnation)
{
    if (incarnation == node->self.incarnation) {
        return node->self.id.text;
    }
    const struct pc_member *member =
        pc_cluster_find(node->cluster, incarnation);
    return member != NULL ? member->id.text : "";
}

static void add_node(struct explain *x, uint64_t incarnation)
{
    const char *id = id_of(x->node, incarnation);
    struct pc_text *text = &x->text;
    pc_text_add(text, "{\"id\":");
    pc_text_add_json(text, id, strlen(id));
    pc_text_add(text, ",\"incarnation\":\"%016" PRIx64 "\"", incarnation);
}

static void add_known(struct explain *x)
{
    if (x->local) {
        pc_text_add(&x->text,
                    ",\"local\":{\"generation\":%" PRIu64 ",\"length\":%" PRIu64
                    ",\"published\":%s}",
                    x->place.generation, x->place.length,
                    x->place.published ? "true" : "false");
    } else {
        pc_text_add(&x->text, ",\"local\":null");
    }
    if (x->cached) {
        const struct pc_record *r = &x->cached_record;
        pc_text_add(&x->text,
                    ",\"cached\":{\"incarnation\":\"%016" PRIx64
                    "\",\"generation\":%" PRIu64 ",\"length\":%" PRIu64 "}",
                    r->incarnation, r->generation, r->length);
    } else {
        pc_text_add(&x->text, ",\"cached\":null");
    }
}

static void add_owners(struct explain *x)
{
    pc_text_add(&x->text, ",\"owners\":[");
    for (uint32_t t = 0; t < x->key.n_targets; t++) {
        uint32_t bit = 1u << t;
        const char *answer = "answered";
        if ((x->key.asked & bit) == 0) {
            answer = "not asked";
        } else if (((x->key.failed | x->key.open) & bit) != 0) {
            answer = "unreachable";
        }
        pc_text_add(&x->text, "%s", t > 0 ? "," : "");
        add_node(x, x->key.targets[t]);
        pc_text_add(&x->text, ",\"answer\":\"%s\"}", answer);
    }
    pc_text_add(&x->text, "]");
}

/* The holder that a get would read from; SIZE_MAX: none. */
static size_t add_holders(struct explain *x, const char **mode_p)
{
    size_t best = SIZE_MAX;
    pc_text_add(&x->text, ",\"holders\":[");
    for (size_t i = 0; i < x->n_holders; i++) {
        const struct pc_record *r = &x->holders[i];
        struct way way = way_of(x, r);
        pc_text_add(&x->text, "%s", i > 0 ? "," : "");
        add_node(x, r->incarnation);
        pc_text_add(&x->text,
                    ",\"region\":%u,\"slot\":%" PRIu32
                    ",\"generation\":%" PRIu64 ",\"length\":%" PRIu64
                    ",\"checksum\":\"%016" PRIx64
                    "\",\"mode\":\"%s\",\"usable\":%s}",
                    (unsigned)r->region, r->slot, r->generation, r->length,
                    r->checksum, way.mode, way.usable ? "true" : "false");
        if (way.usable && best == SIZE_MAX) {
            best = i;
            *mode_p = way.mode;
        }
    }
    pc_text_add(&x->text, "]");
    return best;
}

/* The verdict without a holder that can be read. */
static const char *why_not(const struct explain *x, const char **result_p)
{
    *result_p = "NOT_FOUND";
    if (x->timed_out) {
        *result_p = "TIMED_OUT";
        return "the lookup did not end in op_timeout";
    }
    if (x->n_holders > 0) {
        return "it has holders, but none of them can be read from now";
    }
    if (x->answer == PC_LOOKUP_UNREACHABLE) {
        return "no owner of its record can be reached";
    }
    if (x->answer == PC_LOOKUP_PARTLY) {
        return "no owner that can be reached has a record of it, and some "
               "owner cannot be reached";
    }
    return x->joined ? "no owner has a record of it"
                     : "this node is not a member yet, and its own part of "
                       "the directory has no record of it";
}

static void add_verdict(struct explain *x, size_t best, const char *mode)
{
    const char *result = "OK";
    struct pc_text why;
    pc_text_init(&why);
    if (x->local) {
        pc_text_add(&why, "it is in this node's own pool");
    } else if (best != SIZE_MAX) {
        pc_text_add(&why, "it would be read from %s, mode %s",
                    id_of(x->node, x->holders[best].incarnation), mode);
    } else {
        pc_text_add(&why, "%s", why_not(x, &result));
    }
    pc_text_add(&x->text, ",\"result\":\"%s\",\"why\":", result);
    if (why.failed) {
        x->text.failed = true;
    } else {
        pc_text_add_json(&x->text, why.data, why.len);
    }
    pc_text_add(&x->text, "}");
    pc_text_fini(&why);
}

static void write_text(peercache_node_t *node, void *arg)
{
    struct explain *x = arg;
    const char *mode = "";
    (void)node;
    add_known(x);
    add_owners(x);
    size_t best = add_holders(x, &mode);
    add_verdict(x, best, mode);
}

/* ---- The call --------------------------------------------------------- */

/* Ways to nodes not met before are being found: wait as a get would. */
static void wait_for_ways(struct explain *x)
{
    struct pc_engine *engine = &x->node->engine;
    struct pc_event never;
    uint64_t end = pc_clock_now(&x->node->clock) + PATH_WAIT_NS;
    if (end > x->end_ns) {
        end = x->end_ns;
    }
    pc_event_init(&never, 0);
    for (;;) {
        pc_node_call(x->node, look_at_ways, x);
        uint64_t now = pc_clock_now(&x->node->clock);
        if (x->ways_known || now >= end) {
            return;
        }
        (void)pc_engine_wait(engine, &never, now + PATH_LOOK_NS);
    }
}

static peercache_status_t run(struct explain *x)
{
    peercache_node_t *node = x->node;
    uint64_t now = pc_clock_now(&node->clock);
    x->end_ns = now + node->settings.op_timeout_ns;
    x->local = pc_store_find(node->store, x->digest, false, &x->place);
    x->cached = pc_cache_get(node->cache, x->digest, now, &x->cached_record);
    pc_event_init(&x->done, 0);
    pc_node_call(node, begin, x);
    if (x->status != PEERCACHE_OK) {
        return x->status;
    }
    if (!pc_engine_wait(&node->engine, &x->done, x->end_ns)) {
        pc_node_call(node, give_up, x);
    }
    wait_for_ways(x);
    pc_node_call(node, write_text, x);
    return PEERCACHE_OK;
}

static bool arguments_are_valid(const void *name_space, size_t name_space_len,
                                const void *key, size_t key_len)
{
    return key != NULL && key_len > 0 && key_len <= PEERCACHE_KEY_MAX &&
           name_space_len <= PC_NAME_SPACE_MAX &&
           (name_space != NULL || name_space_len == 0);
}

peercache_status_t peercache_node_explain(peercache_node_t *node,
                                          const void *name_space,
                                          size_t name_space_len,
                                          const void *key, size_t key_len,
                                          char **text_p)
{
    if (node == NULL || text_p == NULL ||
        !arguments_are_valid(name_space, name_space_len, key, key_len)) {
        return PEERCACHE_INVALID;
    }
    if (!pc_node_is_forked(node) && pc_engine_is_current(&node->engine)) {
        return PEERCACHE_INVALID; /* A completion callback must not block. */
    }
    peercache_status_t status = pc_info_enter(node);
    if (status != PEERCACHE_OK) {
        return status;
    }
    char *taken = NULL;
    struct explain *x = pc_alloc(1, sizeof(*x));
    status = PEERCACHE_NO_MEMORY;
    if (x != NULL) {
        x->node = node;
        x->digest = pc_digest_key(node->key_seed, name_space, name_space_len,
                                  key, key_len);
        pc_text_init(&x->text);
        pc_text_add(&x->text, "{\"key\":");
        pc_text_add_json(&x->text, key, key_len);
        pc_text_add(&x->text, ",\"digest\":\"%016" PRIx64 "%016" PRIx64 "\"",
                    x->digest.hi, x->digest.lo);
        status = run(x);
        taken = pc_text_take(&x->text);
        pc_free(x);
    }
    pc_info_leave(node);
    if (status != PEERCACHE_OK) {
        pc_free(taken);
        return status;
    }
    if (taken == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    *text_p = taken;
    return PEERCACHE_OK;
}
