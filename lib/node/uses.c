#include "uses.h"

#include "base/mem.h"
#include "node/node.h"

#include <string.h>

#define TELL_EVERY_NS (50 * PC_MS)
/* Holders that one round tells; the notes of others are dropped. */
enum { HOLDERS_MAX = 64 };

/* ---- The reader ------------------------------------------------------- */

static uint32_t hash_of(uint64_t incarnation, struct pc_digest digest)
{
    uint64_t word = (digest.lo ^ incarnation) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(word >> 32) | 1u; /* 0: an empty cell. */
}

void pc_uses_note(struct peercache_node *node, uint64_t incarnation,
                  struct pc_digest digest)
{
    struct pc_uses *u = &node->uses;
    uint32_t hash = hash_of(incarnation, digest);
    _Atomic uint32_t *seen = &u->seen[(hash >> 1) % PC_ARRAY_LEN(u->seen)];
    if (atomic_load_explicit(seen, memory_order_relaxed) == hash) {
        return;
    }
    bool noted = false;
    (void)pthread_mutex_lock(&u->lock);
    if (u->n < PC_USES_MAX) {
        u->notes[u->n++] = (struct pc_use){incarnation, digest};
        noted = true;
    }
    (void)pthread_mutex_unlock(&u->lock);
    if (!noted) {
        pc_metrics_add(&node->metrics, PC_METRIC_USES_DROPPED, 1);
        return;
    }
    atomic_store_explicit(seen, hash, memory_order_relaxed);
    /* release: pairs with the acquire in step. */
    atomic_store_explicit(&u->any, true, memory_order_release);
}

/* A notice on a connection that is there. */
static void tell(struct peercache_node *node, uint64_t incarnation,
                 struct pc_digest *digests, uint32_t n)
{
    struct pc_peer *peer = pc_peers_find(&node->peers, incarnation);
    struct pc_conn *conn = peer != NULL && pc_peer_is_usable(peer)
                               ? peer->conns[PC_LINK_CONTROL]
                               : NULL;
    if (conn == NULL || conn->state != PC_CONN_READY) {
        return;
    }
    struct pc_msg msg = {.type = PC_MSG_USED, .request = 0};
    msg.u.remove.n_keys = n;
    msg.u.remove.digests = digests;
    if (pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) == PEERCACHE_OK) {
        pc_metrics_add(&node->metrics, PC_METRIC_USES_TOLD, n);
    }
}

/* Group by holder, in the order of the reads: the tail of a chain comes first,
 * and is the oldest for the holder too. */
static void tell_holders(struct peercache_node *node, struct pc_use *notes,
                         struct pc_digest *group, uint32_t n)
{
    uint32_t left = n;
    for (int k = 0; k < HOLDERS_MAX && left > 0; k++) {
        uint64_t holder = notes[0].incarnation;
        uint32_t n_group = 0;
        uint32_t n_others = 0;
        for (uint32_t i = 0; i < left; i++) {
            if (notes[i].incarnation == holder) {
                group[n_group++] = notes[i].digest;
            } else {
                notes[n_others++] = notes[i];
            }
        }
        tell(node, holder, group, n_group);
        left = n_others;
    }
    if (left > 0) {
        pc_metrics_add(&node->metrics, PC_METRIC_USES_DROPPED, left);
    }
}

static void tell_all(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_uses *u = PC_CONTAINER_OF(timer, struct pc_uses, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(u, struct peercache_node, uses);
    /* Not on the stack: turns run in callers' threads, too. */
    struct pc_use *notes = pc_alloc(PC_USES_MAX, sizeof(*notes));
    struct pc_digest *group = pc_alloc(PC_USES_MAX, sizeof(*group));
    bool ok = notes != NULL && group != NULL;
    (void)now_ns;
    u->waiting = false;
    for (size_t i = 0; i < PC_ARRAY_LEN(u->seen); i++) {
        atomic_store_explicit(&u->seen[i], 0, memory_order_relaxed);
    }
    (void)pthread_mutex_lock(&u->lock);
    uint32_t n = u->n;
    if (ok) {
        memcpy(notes, u->notes, n * sizeof(notes[0]));
    }
    u->n = 0;
    (void)pthread_mutex_unlock(&u->lock);
    if (ok) {
        tell_holders(node, notes, group, n);
    } else {
        pc_metrics_add(&node->metrics, PC_METRIC_USES_DROPPED, n);
    }
    pc_free(notes);
    pc_free(group);
}

void pc_uses_step(struct peercache_node *node)
{
    struct pc_uses *u = &node->uses;
    /* acquire: what was noted before it was said is seen. */
    if (!u->waiting && atomic_load_explicit(&u->any, memory_order_acquire)) {
        atomic_store_explicit(&u->any, false, memory_order_relaxed);
        u->waiting = true;
        pc_engine_timer_start(&node->engine, &u->timer,
                              pc_engine_now(&node->engine) + TELL_EVERY_NS);
    }
}

/* ---- The holder ------------------------------------------------------- */

void pc_uses_heard(struct peercache_node *node, const struct pc_msg *msg)
{
    struct pc_place place;
    if (node->client) {
        return;
    }
    for (uint32_t i = 0; i < msg->u.remove.n_keys; i++) {
        if (pc_store_find(node->store, msg->u.remove.digests[i], true,
                          &place)) {
            pc_tier_admit(node, &place, PC_TIER_USED);
        }
    }
    pc_metrics_add(&node->metrics, PC_METRIC_USES_HEARD, msg->u.remove.n_keys);
}

void pc_uses_init(struct peercache_node *node)
{
    (void)pthread_mutex_init(&node->uses.lock, NULL);
    pc_engine_timer_init(&node->uses.timer, tell_all);
}

void pc_uses_fini(struct peercache_node *node)
{
    pc_engine_timer_stop(&node->engine, &node->uses.timer);
    (void)pthread_mutex_destroy(&node->uses.lock);
}
