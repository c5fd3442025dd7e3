/*
 * explain.c - what a get of a key would do, and why.
 *
 *     own pool, location cache ─► every owner (also those of former views, and
 *     those that are suspect) ─► every holder that they name ─► the ways to
 *     them ─► text
 *
 * Each is asked for what it knows with a request of its own (WHY), so that the
 * text can say who said what, and how long it took. A node that hangs costs as
 * much as a breaker takes to open, once a phase. Nothing is read and nothing is
 * remembered: caches and the order of eviction stay as they are. Requests run
 * in the engine, the caller waits.
 */
#include "explain.h"

#include "base/mem.h"
#include "node/info.h"

#include <inttypes.h>
#include <string.h>

/* As long as a silent peer is waited for. */
#define ANSWER_NS (200 * PC_MS)
/* As long as a get waits for the way to a node it has not met. */
#define PATH_WAIT_NS (300 * PC_MS)
#define PATH_LOOK_NS (5 * PC_MS)

/* ---- Answers ---------------------------------------------------------- */

const struct pc_asked *pc_explain_find(const struct pc_explain *x,
                                       uint64_t incarnation)
{
    for (uint32_t i = 0; i < x->n_asked; i++) {
        if (x->asked[i]->member.incarnation == incarnation) {
            return x->asked[i];
        }
    }
    return NULL;
}

/* Answers of several owners are joined: one record a holder, the newest. */
static void add_holder(struct pc_explain *x, const struct pc_record *record)
{
    if (!pc_digest_equal(record->digest, x->digest)) {
        return; /* A peer's lie. */
    }
    for (uint32_t i = 0; i < x->n_holders; i++) {
        if (x->holders[i].incarnation == record->incarnation) {
            if (record->generation > x->holders[i].generation) {
                x->holders[i] = *record;
            }
            return;
        }
    }
    if (x->n_holders < PC_EXPLAIN_HOLDERS_MAX) {
        x->holders[x->n_holders++] = *record;
    }
}

static void take_answer(struct pc_asked *asked,
                        const struct pc_msg_because *said)
{
    peercache_node_t *node = asked->x->node;
    asked->state = PC_ASKED_ANSWERED;
    if (said != &asked->said) { /* The message lives no longer than this. */
        asked->said = *said;
        asked->said.dead = asked->room.dead;
        asked->said.records = asked->room.records;
        memcpy(asked->room.dead, said->dead, said->n_records);
        memcpy(asked->room.records, said->records,
               said->n_records * sizeof(said->records[0]));
    }
    for (uint32_t i = 0; i < said->n_records; i++) {
        add_holder(asked->x, &said->records[i]);
    }
    for (uint32_t i = 0; i < said->n_holders; i++) {
        if (!pc_node_is_dead(node, said->holders[i].incarnation)) {
            (void)pc_peers_learn(&node->peers, &said->holders[i]);
        }
    }
}

static void one_less(struct pc_explain *x)
{
    x->n_open--;
    if (x->n_open == 0 && !x->starting) {
        pc_event_set(&x->done, 1);
    }
}

static void answered(struct pc_rpc *rpc, peercache_status_t status,
                     const struct pc_msg *reply)
{
    struct pc_asked *asked = PC_CONTAINER_OF(rpc, struct pc_asked, rpc);
    asked->took_ns =
        pc_engine_now(&asked->x->node->engine) - asked->rpc.started_ns;
    if (status == PEERCACHE_OK && reply->type == PC_MSG_BECAUSE) {
        take_answer(asked, &reply->u.because);
    } else {
        asked->state = status == PEERCACHE_TIMED_OUT ? PC_ASKED_SILENT
                                                     : PC_ASKED_UNREACHABLE;
    }
    one_less(asked->x);
}

/* ---- Questions -------------------------------------------------------- */

static void send_question(struct pc_asked *asked)
{
    struct pc_explain *x = asked->x;
    peercache_node_t *node = x->node;
    struct pc_peer *peer = pc_peers_learn(&node->peers, &asked->member);
    uint64_t end_ns = pc_engine_now(&node->engine) + ANSWER_NS;
    struct pc_msg msg = {.type = PC_MSG_WHY};
    msg.u.why.digest = x->digest;
    asked->rpc.done = answered;
    asked->rpc.body = NULL;
    asked->rpc.breakable = false; /* Who is silent is asked, too. */
    asked->suspect = peer != NULL && peer->suspect;
    x->n_open++;
    if (peer == NULL ||
        pc_rpc_start(&asked->rpc, peer, PC_LINK_CONTROL, &msg,
                     end_ns < x->end_ns ? end_ns : x->end_ns) != PEERCACHE_OK) {
        asked->state = PC_ASKED_UNREACHABLE;
        one_less(x);
    }
}

static void ask(struct pc_explain *x, const struct pc_member *member,
                bool former)
{
    if (pc_explain_find(x, member->incarnation) != NULL ||
        x->n_asked == PC_EXPLAIN_ASKED_MAX) {
        return;
    }
    struct pc_asked *asked = pc_alloc(1, sizeof(*asked));
    if (asked == NULL) {
        x->text.failed = true;
        return;
    }
    asked->x = x;
    asked->member = *member;
    asked->former = former;
    x->asked[x->n_asked++] = asked;
    if (member->incarnation == x->node->self.incarnation) {
        pc_serve_why(x->node, x->digest, &asked->room, &asked->said);
        take_answer(asked, &asked->said);
    } else {
        send_question(asked);
    }
}

static const struct pc_member *member_of(peercache_node_t *node,
                                         uint64_t incarnation,
                                         struct pc_member *unknown)
{
    const struct pc_member *member =
        pc_cluster_find(node->cluster, incarnation);
    if (incarnation == node->self.incarnation) {
        return &node->self;
    }
    if (member == NULL) {
        const struct pc_peer *peer = pc_peers_find(&node->peers, incarnation);
        member = peer != NULL ? &peer->member : NULL;
    }
    *unknown = (struct pc_member){.incarnation = incarnation};
    return member != NULL ? member : unknown;
}

static void end_of_start(struct pc_explain *x)
{
    x->starting = false;
    if (x->n_open == 0) {
        pc_event_set(&x->done, 1);
    }
}

static void ask_owners(peercache_node_t *node, void *arg)
{
    struct pc_explain *x = arg;
    struct pc_member unknown;
    struct pc_lookup_key key = {.digest = x->digest};
    x->joined = pc_cluster_is_joined(node->cluster);
    x->starting = true;
    pc_lookup_targets(node, &key);
    for (uint32_t t = 0; t < key.n_targets; t++) {
        ask(x, member_of(node, key.targets[t], &unknown), t >= key.n_current);
    }
    x->n_owners = x->n_asked;
    end_of_start(x);
}

static void ask_holders(peercache_node_t *node, void *arg)
{
    struct pc_explain *x = arg;
    struct pc_member unknown;
    x->starting = true;
    for (uint32_t i = 0; i < x->n_holders; i++) {
        uint64_t incarnation = x->holders[i].incarnation;
        if (!pc_node_is_dead(node, incarnation)) {
            ask(x, member_of(node, incarnation, &unknown), false);
        }
    }
    end_of_start(x);
}

/* The engine was slower than the time there was. */
static void give_up(peercache_node_t *node, void *arg)
{
    struct pc_explain *x = arg;
    (void)node;
    for (uint32_t i = 0; i < x->n_asked; i++) {
        if (x->asked[i]->state == PC_ASKED_OPEN) {
            x->asked[i]->state = PC_ASKED_SILENT;
            (void)pc_rpc_stop(&x->asked[i]->rpc, PEERCACHE_TIMED_OUT);
        }
    }
    x->n_open = 0;
}

static void ask_all(struct pc_explain *x, enum pc_explain_phase phase,
                    void (*who)(peercache_node_t *, void *))
{
    uint64_t start_ns = pc_clock_now(&x->node->clock);
    pc_event_init(&x->done, 0);
    pc_node_call(x->node, who, x);
    if (!pc_engine_wait(&x->node->engine, &x->done, x->end_ns)) {
        pc_node_call(x->node, give_up, x);
    }
    x->phase_ns[phase] = pc_clock_now(&x->node->clock) - start_ns;
}

/* ---- The ways to the holders ------------------------------------------ */

static void look_at_ways(peercache_node_t *node, void *arg)
{
    struct pc_explain *x = arg;
    x->ways_known = true;
    for (uint32_t i = 0; i < x->n_holders; i++) {
        const struct pc_record *record = &x->holders[i];
        struct pc_peer *peer = pc_peers_find(&node->peers, record->incarnation);
        if (peer != NULL &&
            pc_read_way(node, peer, record, false, false) == PC_WAY_LATER) {
            x->ways_known = false;
        }
    }
}

/* Ways to nodes not met before are being found: wait as a get would. */
static void wait_for_ways(struct pc_explain *x)
{
    struct pc_engine *engine = &x->node->engine;
    struct pc_event never;
    uint64_t start_ns = pc_clock_now(&x->node->clock);
    uint64_t end_ns = start_ns + PATH_WAIT_NS;
    uint64_t now_ns = start_ns;
    end_ns = end_ns > x->end_ns ? x->end_ns : end_ns;
    pc_event_init(&never, 0);
    pc_node_call(x->node, look_at_ways, x);
    while (!x->ways_known && now_ns < end_ns) {
        (void)pc_engine_wait(engine, &never, now_ns + PATH_LOOK_NS);
        pc_node_call(x->node, look_at_ways, x);
        now_ns = pc_clock_now(&x->node->clock);
    }
    x->phase_ns[PC_EXPLAIN_WAYS] = now_ns - start_ns;
}

/* ---- The call --------------------------------------------------------- */

static void write_text(peercache_node_t *node, void *arg)
{
    (void)node;
    pc_explain_write(arg);
}

static void run(struct pc_explain *x)
{
    peercache_node_t *node = x->node;
    uint64_t now_ns = pc_clock_now(&node->clock);
    x->end_ns = now_ns + node->settings.op_timeout_ns;
    x->local = !node->client &&
               pc_store_find(node->store, x->digest, false, &x->place);
    struct pc_disk_place disk;
    x->on_disk = pc_tier_find(node, x->digest, &disk);
    x->cached = pc_cache_get(node->cache, x->digest, now_ns, &x->cached_record);
    x->phase_ns[PC_EXPLAIN_LOCAL] = pc_clock_now(&node->clock) - now_ns;
    ask_all(x, PC_EXPLAIN_OWNERS, ask_owners);
    ask_all(x, PC_EXPLAIN_HOLDERS, ask_holders);
    wait_for_ways(x);
    pc_node_call(node, write_text, x);
}

static bool arguments_are_valid(const void *name_space, size_t name_space_len,
                                const void *key, size_t key_len)
{
    return key != NULL && key_len > 0 && key_len <= PEERCACHE_KEY_MAX &&
           name_space_len <= PC_NAME_SPACE_MAX &&
           (name_space != NULL || name_space_len == 0);
}

static char *explain(peercache_node_t *node, struct pc_digest digest,
                     const void *key, size_t key_len)
{
    struct pc_explain *x = pc_alloc(1, sizeof(*x));
    if (x == NULL) {
        return NULL;
    }
    x->node = node;
    x->digest = digest;
    pc_text_init(&x->text);
    pc_text_add(&x->text, "{\"key\":");
    pc_text_add_json(&x->text, key, key_len);
    pc_text_add(&x->text, ",\"digest\":\"%016" PRIx64 "%016" PRIx64 "\"",
                digest.hi, digest.lo);
    run(x);
    char *taken = pc_text_take(&x->text);
    for (uint32_t i = 0; i < x->n_asked; i++) {
        pc_free(x->asked[i]);
    }
    pc_free(x);
    return taken;
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
    struct pc_digest digest =
        pc_digest_key(node->key_seed, name_space, name_space_len, key, key_len);
    char *taken = explain(node, digest, key, key_len);
    pc_info_leave(node);
    if (taken == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    *text_p = taken;
    return PEERCACHE_OK;
}
