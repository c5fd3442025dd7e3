#include "doubt.h"

#include "base/mem.h"
#include "node/node.h"

#include <string.h>

#define TELL_EVERY_NS (50 * PC_MS)

/* ---- The reader ------------------------------------------------------- */

void pc_doubt_note(struct peercache_node *node, const struct pc_record *record)
{
    struct pc_doubt *d = &node->doubt;
    bool noted = false;
    (void)pthread_mutex_lock(&d->lock);
    if (d->n < PC_DOUBTS_MAX) {
        d->records[d->n++] = *record;
        noted = true;
    }
    (void)pthread_mutex_unlock(&d->lock);
    if (noted) {
        /* release: pairs with the acquire in step. */
        atomic_store_explicit(&d->any, true, memory_order_release);
    } else {
        pc_metrics_add(&node->metrics, PC_METRIC_STALE_DROPPED, 1);
    }
}

/* A notice on a connection that is there; else repair finds out. */
static void tell(struct peercache_node *node, uint64_t incarnation,
                 enum pc_msg_type type, struct pc_record *records, uint32_t n)
{
    struct pc_peer *peer = pc_peers_find(&node->peers, incarnation);
    if (peer == NULL || !pc_peer_is_usable(peer)) {
        return;
    }
    struct pc_conn *conn = peer->conns[PC_LINK_CONTROL];
    if (conn == NULL || conn->state != PC_CONN_READY) {
        pc_peer_greet(peer);
        return;
    }
    struct pc_msg msg = {.type = type, .request = 0};
    msg.u.stale.n_keys = n;
    msg.u.stale.records = records;
    (void)pc_conn_send(conn, &msg, NULL, 0, NULL, NULL);
}

/* ---- The owner -------------------------------------------------------- */

/* Whether our shard says so. */
static bool is_believed(const struct peercache_node *node,
                        const struct pc_record *record)
{
    struct pc_record known[16];
    size_t n = pc_shard_lookup(node->shard, record->digest, known, 16);
    for (size_t i = 0; i < n && i < 16; i++) {
        if (known[i].incarnation == record->incarnation) {
            return known[i].generation <= record->generation;
        }
    }
    return false;
}

/* Not held, or held anew: the old place goes, here from our own shard. */
static void look(struct peercache_node *node, const struct pc_record *record)
{
    struct pc_place place;
    if (!pc_tier_held(node, record->digest, &place) ||
        place.generation > record->generation) {
        (void)pc_shard_retract(node->shard, record);
    }
}

/* Group what is believed by its holder, and ask each. */
static void ask_holders(struct peercache_node *node,
                        const struct pc_record *records, uint32_t n,
                        struct pc_record *group)
{
    uint64_t done[16];
    uint32_t n_done = 0;
    for (uint32_t i = 0; i < n && n_done < PC_ARRAY_LEN(done); i++) {
        uint64_t holder = records[i].incarnation;
        uint32_t n_group = 0;
        bool seen = false;
        for (uint32_t k = 0; k < n_done; k++) {
            seen = seen || done[k] == holder;
        }
        if (seen) {
            continue;
        }
        done[n_done++] = holder;
        for (uint32_t k = i; k < n && n_group < PC_KEYS_PER_REQUEST; k++) {
            if (records[k].incarnation == holder &&
                is_believed(node, &records[k])) {
                group[n_group++] = records[k];
            }
        }
        for (uint32_t k = 0; holder == node->self.incarnation && k < n_group;
             k++) {
            look(node, &group[k]);
        }
        if (n_group > 0 && holder != node->self.incarnation) {
            pc_metrics_add(&node->metrics, PC_METRIC_DOUBTED, n_group);
            tell(node, holder, PC_MSG_DOUBT, group, n_group);
        }
    }
}

static void take_stale(struct peercache_node *node,
                       const struct pc_record *records, uint32_t n)
{
    struct pc_record *group = pc_alloc(n, sizeof(*group));
    if (group != NULL) {
        ask_holders(node, records, n, group);
    }
    pc_free(group);
}

void pc_doubt_stale(struct peercache_node *node, const struct pc_msg *msg)
{
    take_stale(node, msg->u.stale.records, msg->u.stale.n_keys);
}

/* ---- The reader tells ------------------------------------------------- */

/* Those of the noted records that one owner keeps. */
static void tell_owner(struct peercache_node *node,
                       const struct pc_member *owner,
                       const struct pc_record *records, uint32_t n)
{
    struct pc_record group[PC_DOUBTS_MAX];
    uint32_t n_group = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (pc_ring_owns(node->ring, records[i].digest, owner->incarnation)) {
            group[n_group++] = records[i];
        }
    }
    pc_metrics_add(&node->metrics, PC_METRIC_STALE_TOLD, n_group);
    if (owner->incarnation == node->self.incarnation) {
        take_stale(node, group, n_group);
    } else {
        tell(node, owner->incarnation, PC_MSG_STALE, group, n_group);
    }
}

static void tell_owners(struct peercache_node *node,
                        const struct pc_record *records, uint32_t n)
{
    uint64_t told[PC_DOUBTS_MAX];
    uint32_t n_told = 0;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(node->ring, &n_members);
    for (uint32_t i = 0; i < n; i++) {
        struct pc_owners owners;
        pc_ring_owners(node->ring, records[i].digest, &owners);
        for (uint32_t k = 0; k < owners.n; k++) {
            const struct pc_member *owner = &members[owners.index[k]];
            bool known = n_told == PC_DOUBTS_MAX;
            for (uint32_t t = 0; t < n_told; t++) {
                known = known || told[t] == owner->incarnation;
            }
            if (!known) {
                told[n_told++] = owner->incarnation;
                tell_owner(node, owner, records, n);
            }
        }
    }
}

static void tell_all(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_doubt *d = PC_CONTAINER_OF(timer, struct pc_doubt, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(d, struct peercache_node, doubt);
    struct pc_record records[PC_DOUBTS_MAX];
    (void)now_ns;
    d->waiting = false;
    (void)pthread_mutex_lock(&d->lock);
    uint32_t n = d->n;
    memcpy(records, d->records, n * sizeof(records[0]));
    d->n = 0;
    (void)pthread_mutex_unlock(&d->lock);
    tell_owners(node, records, n);
}

void pc_doubt_step(struct peercache_node *node)
{
    struct pc_doubt *d = &node->doubt;
    /* acquire: what was noted before it was said is seen. */
    if (!d->waiting && atomic_load_explicit(&d->any, memory_order_acquire)) {
        atomic_store_explicit(&d->any, false, memory_order_relaxed);
        d->waiting = true;
        pc_engine_timer_start(&node->engine, &d->timer,
                              pc_engine_now(&node->engine) + TELL_EVERY_NS);
    }
}

/* ---- The holder ------------------------------------------------------- */

void pc_doubt_asked(struct peercache_node *node, struct pc_conn *conn,
                    const struct pc_msg *msg)
{
    size_t owner;
    if (!pc_ring_place(node->ring, &conn->remote, &owner)) {
        return; /* Who is no owner by our view is told nothing. */
    }
    uint64_t newest = pc_store_newest(node->store);
    for (uint32_t i = 0; i < msg->u.stale.n_keys; i++) {
        struct pc_record record = msg->u.stale.records[i];
        struct pc_place place;
        if (record.incarnation != node->self.incarnation ||
            record.generation > newest) {
            continue; /* Not ours; a lie, which would retract what comes. */
        }
        bool held = pc_tier_held(node, record.digest, &place);
        if (held && place.generation <= record.generation) {
            continue; /* The reader was wrong, or asked in vain. */
        }
        (void)pc_fifo_add(node, &conn->remote, PC_RETRACT, &record, NULL);
        if (held) {
            (void)pc_fifo_move(node, &conn->remote, record.digest);
        }
    }
}

void pc_doubt_init(struct peercache_node *node)
{
    (void)pthread_mutex_init(&node->doubt.lock, NULL);
    pc_engine_timer_init(&node->doubt.timer, tell_all);
}

void pc_doubt_fini(struct peercache_node *node)
{
    pc_engine_timer_stop(&node->engine, &node->doubt.timer);
    (void)pthread_mutex_destroy(&node->doubt.lock);
}
