/*
 * cluster_check.c - the invariants of design.md 4, as far as they can be seen
 * from outside of the nodes.
 */
#include "test.h"

#include "cluster.h"
#include "history.h"

#include "store/store_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One-sided reads of one peer under way, as read_pull.c bounds them. */
#define WINDOW_GETS 256u
/* Slots are looked at when their store has changed, and a shard when it or any
 * store has; and every so often besides: bytes may also change where nobody was
 * to write. */
#define LOOK_EVERY 16u

static struct cluster_node *holder_of(const struct cluster *c,
                                      uint64_t incarnation)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->state != CLUSTER_DOWN && n->incarnation == incarnation) {
            return n;
        }
    }
    return NULL;
}

static bool has_dead_members(const struct cluster *c,
                             const struct pc_ring *ring)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(ring, &n);
    for (size_t i = 0; i < n; i++) {
        if (holder_of(c, members[i].incarnation) == NULL) {
            return true;
        }
    }
    return false;
}

/* ---- I1 to I4: records and slots ------------------------------------------
 */

/* I3: a generation of an incarnation names one value at one place, for ever. */
static void check_repeats(struct cluster *c, const struct pc_record *record)
{
    struct pc_digest key = {record->incarnation, record->generation};
    uint64_t hash = pc_record_hash(record);
    uint64_t seen;
    if (!pc_map_get(&c->records, key, &seen)) {
        (void)pc_map_put(&c->records, key, hash);
        c->counts.n_records++;
    } else if (seen != hash) {
        cluster_fail(c, "I3: generation %" PRIu64 " came twice",
                     record->generation);
    }
}

/* I1: what a record says of a slot that still has its generation is true. */
static void check_sealed(struct cluster *c, const struct pc_record *record)
{
    struct cluster_node *holder = holder_of(c, record->incarnation);
    struct pc_place place;
    if (holder == NULL) {
        return;
    }
    struct pc_store *store = holder->node->store;
    uint64_t next = atomic_load(&store->next_generation);
    if (record->generation >= next || (record->generation & 1) != 0) {
        cluster_fail(c, "I1: a record of a generation that was never sealed");
    }
    if (!pc_store_find(store, record->digest, false, &place) ||
        place.generation > record->generation) {
        return; /* It is gone; its retract is on the way. */
    }
    if (place.generation < record->generation ||
        place.length != record->length || place.offset != record->offset ||
        place.slot != record->slot || place.region != record->region ||
        place.checksum != record->checksum) {
        cluster_fail(c, "I1: a record does not say what its slot says");
    }
    struct pc_region_info info;
    const struct pc_slot_header *headers;
    if (!pc_store_region(store, place.region, &info)) {
        cluster_fail(c, "I1: a record of no region");
    }
    headers = (const void *)((const uint8_t *)info.addr + info.slots_offset);
    struct pc_slot_want want = {record->digest, record->generation,
                                record->length, record->offset};
    if (!pc_slot_matches(&headers[place.slot], &want)) {
        cluster_fail(c, "I1: a record was published before its slot is sealed");
    }
}

static bool check_record(void *arg, const struct pc_record *record)
{
    struct cluster *c = arg;
    struct pc_digest key = record->digest;
    uint64_t seen;
    key.lo ^= record->incarnation; /* Of 128 bits: no two meet by chance. */
    if (pc_map_get(&c->seen, key, &seen)) {
        cluster_fail(c, "I4: two records of one holder and digest in a shard");
    }
    (void)pc_map_put(&c->seen, key, 1);
    check_repeats(c, record);
    check_sealed(c, record);
    return true;
}

/* Every seal takes a generation, so a store whose next one and whose number of
 * values are as before is as before. */
static void watch_stores(struct cluster *c)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->state == CLUSTER_DOWN) {
            continue;
        }
        const struct pc_store *store = n->node->store;
        uint64_t next =
            atomic_load_explicit(&store->next_generation, memory_order_relaxed);
        if (next != n->next_generation || store->n_values != n->n_values) {
            n->next_generation = next;
            n->n_values = store->n_values;
            c->n_store_changes++;
        }
    }
}

static bool must_look(struct cluster *c, struct cluster_node *n)
{
    uint64_t n_changes = pc_shard_changes(n->node->shard);
    watch_stores(c);
    bool same =
        n_changes == n->n_changes && c->n_store_changes == n->stores_seen;
    n->n_changes = n_changes;
    n->stores_seen = c->n_store_changes;
    return !same || n->n_looks++ % LOOK_EVERY == 0;
}

static void check_shard(struct cluster *c, const struct cluster_node *n)
{
    size_t at = 0;
    /* Emptied, not freed: an allocation that shall fail is a node's. */
    if (c->seen.n_used > 0) {
        memset(c->seen.cells, 0, c->seen.n_cells * sizeof(c->seen.cells[0]));
        c->seen.n_used = 0;
    }
    while (pc_shard_sweep(n->node->shard, &at, SIZE_MAX, check_record, c)) {
    }
}

/* I2: exactly the sealed slots are even. Rule 12: nobody else has written into
 * a header. */
static void check_headers(struct cluster *c, const struct cluster_node *n)
{
    struct pc_store_stats stats;
    struct pc_region_info info;
    uint64_t n_even = 0;
    pc_store_stats(n->node->store, &stats);
    for (uint32_t r = 0; r < stats.n_regions; r++) {
        if (!pc_store_region(n->node->store, r, &info)) {
            continue;
        }
        const struct pc_slot_header *headers =
            (const void *)((const uint8_t *)info.addr + info.slots_offset);
        for (uint32_t s = 0; s < info.n_slots; s++) {
            n_even += (atomic_load_explicit(&headers[s].generation,
                                            memory_order_relaxed) &
                       1) == 0;
            if ((headers[s].reserved[0] | headers[s].reserved[1]) != 0) {
                cluster_fail(c, "somebody has written into the slots of %s",
                             n->node->self.id.text);
            }
        }
    }
    if (n_even != stats.n_values) {
        cluster_fail(c, "I2: %" PRIu64 " even slots, %" PRIu64 " values",
                     n_even, stats.n_values);
    }
}

/* ---- I7, I10, causes -------------------------------------------------------
 */

static void check_deadlines(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    for (struct pc_list *at = c->ops.next; at != &c->ops; at = at->next) {
        struct cluster_op *op = PC_CONTAINER_OF(at, struct cluster_op, link);
        const struct cluster_node *n = &c->nodes[op->node];
        uint64_t end =
            op->deadline_ns > n->awake_ns ? op->deadline_ns : n->awake_ns;
        op->slack_ns = op->slack_ns > c->slack_ns ? op->slack_ns : c->slack_ns;
        if (!op->killed && !n->frozen && now > end + op->slack_ns) {
            cluster_fail(c, "I7: %s %s is late", cluster_name(op->node),
                         op->words);
        }
    }
}

static void check_bounds(struct cluster *c, const struct cluster_node *n)
{
    const peercache_node_t *node = n->node;
    struct pc_cluster_counts counts;
    pc_cluster_counts(node->cluster, &counts);
    if (pc_cache_count(node->cache) > 2048 || counts.n_members > PC_NODES_MAX ||
        counts.n_former > PC_FORMER_VIEWS_MAX ||
        node->n_former > PC_FORMER_VIEWS_MAX ||
        node->peers.n_incoming > PC_INCOMING_MAX ||
        pc_peers_most_owed(&node->peers) > PC_PEER_RPCS_MAX + WINDOW_GETS ||
        node->hedge_budget > PC_HEDGE_BUDGET_MAX ||
        node->bounce.n_free > PC_BOUNCE_CHUNKS ||
        node->publisher.n_entries > PC_OUTBOX_MAX) {
        cluster_fail(c, "I10: a bound does not hold");
    }
}

/* What was late was counted with what it waited for. */
static void check_timeouts(struct cluster *c, struct pc_metrics *m)
{
    uint64_t n_phases = 0;
    for (int id = PC_METRIC_LATE_VIEW; id <= PC_METRIC_LATE_REMOVE; id++) {
        n_phases += pc_metrics_get(m, (enum pc_metric)id);
    }
    uint64_t n_late = pc_metrics_get(m, PC_METRIC_MISS_TIMED_OUT) +
                      pc_metrics_get(m, PC_METRIC_WRITE_FAILED_TIMED_OUT);
    if (n_late > n_phases) { /* Others: of exists and remove. */
        cluster_fail(c, "%" PRIu64 " timeouts, %" PRIu64 " with a phase",
                     n_late, n_phases);
    }
}

/* Every miss has a counted cause; to be looked at while nothing runs. */
static void check_causes(struct cluster *c, const struct cluster_node *n)
{
    static const enum pc_metric causes[] = {
        PC_METRIC_MISS_NOT_FOUND, PC_METRIC_MISS_STALE,
        PC_METRIC_MISS_CORRUPT,   PC_METRIC_MISS_PEER_DOWN,
        PC_METRIC_MISS_TIMED_OUT, PC_METRIC_MISS_NO_PATH,
        PC_METRIC_MISS_SIZE,      PC_METRIC_MISS_NOT_READY,
        PC_METRIC_MISS_CANCELED,  PC_METRIC_MISS_NO_MEMORY,
        PC_METRIC_MISS_SHUTDOWN,  PC_METRIC_MISS_BUSY};
    struct pc_metrics *m = &n->node->metrics;
    uint64_t n_causes = 0;
    if (atomic_load(&n->node->n_ops) > 0) {
        return;
    }
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        n_causes += pc_metrics_get(m, causes[i]);
    }
    uint64_t misses = pc_metrics_get(m, PC_METRIC_READ_MISSES);
    if (misses != n_causes ||
        pc_metrics_get(m, PC_METRIC_READ_REQUESTS) !=
            misses + pc_metrics_get(m, PC_METRIC_READ_HITS)) {
        cluster_fail(c, "%" PRIu64 " misses, %" PRIu64 " causes", misses,
                     n_causes);
    }
    check_timeouts(c, m);
    if (pc_metrics_get(m, PC_METRIC_MISS_CORRUPT) +
            pc_metrics_get(m, PC_METRIC_READ_FAILED_CORRUPT) >
        0) {
        cluster_fail(c, "a checksum failed, and nobody broke a value");
    }
}

void cluster_check_node(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    if (n->state != CLUSTER_DOWN) {
        if (must_look(c, n)) {
            check_shard(c, n);
            check_headers(c, n);
        }
        check_bounds(c, n);
        check_causes(c, n);
    }
}

void cluster_check_step(struct cluster *c)
{
    check_deadlines(c);
}

bool cluster_is_settled(const struct cluster *c)
{
    uint64_t view = 0;
    for (int i = 0; i < c->n_nodes_max; i++) {
        const struct cluster_node *n = &c->nodes[i];
        if (n->state != CLUSTER_UP || n->frozen || n->is_cut) {
            continue;
        }
        uint64_t mine = pc_ring_view(n->node->ring);
        if (!pc_cluster_is_joined(n->node->cluster) || n->node->n_former > 0 ||
            n->node->republish.busy || (view != 0 && mine != view)) {
            return false;
        }
        if (view == 0 && has_dead_members(c, n->node->ring)) {
            return false;
        }
        view = mine;
    }
    return true;
}

/* ---- At rest ----------------------------------------------------------------
 */

static const char *left_in_store(const struct cluster_node *n)
{
    struct pc_store_stats stats;
    pc_store_stats(n->node->store, &stats);
    if (stats.n_pins != 0) {
        return "pins";
    }
    if (stats.n_reserved != 0) {
        return "reservations";
    }
    return stats.n_dying != 0 ? "dying values" : NULL;
}

static const char *left_in_tier(const struct pc_tier *tier)
{
    if (tier == NULL) {
        return NULL;
    }
    if (tier->promotions.n_used != 0) {
        return "promotions";
    }
    if (tier->n_errands != 0 || pc_tier_pinned_bytes(tier) != 0) {
        return "errands";
    }
    return atomic_load(&tier->n_writing) != 0 ? "writes" : NULL;
}

static const char *left_in_node(const struct cluster_node *n)
{
    peercache_node_t *node = n->node;
    if (atomic_load(&node->n_ops) != 0 || !pc_list_is_empty(&node->ops)) {
        return "operations";
    }
    if (node->peers.n_rpcs != 0) {
        return "requests";
    }
    if (node->peers.n_gets != 0) {
        return "one-sided reads";
    }
    if (node->bounce.n_free != PC_BOUNCE_CHUNKS ||
        !pc_list_is_empty(&node->bounce.pulls)) {
        return "bounce chunks";
    }
    if (node->publisher.n_entries != 0 ||
        node->publisher.publications.n_used != 0 || node->republish.busy) {
        return "publishes";
    }
    if (!pc_list_is_empty(&node->view_waiters) ||
        !pc_list_is_empty(&node->path_waiters) ||
        !pc_list_is_empty(&node->copy_queue)) {
        return "waiters";
    }
    const char *left = left_in_tier(node->tier);
    return left != NULL ? left : left_in_store(n);
}

static const char *left_here(struct cluster *c, int i)
{
    const struct cluster_node *n = &c->nodes[i];
    if (n->state == CLUSTER_DOWN) {
        return NULL;
    }
    return n->state == CLUSTER_CLOSING ? "a closing node" : left_in_node(n);
}

/* Heartbeats are requests too, so there is no rest for long, and with a seed
 * that takes no connections hardly any: wait for a moment of each node in which
 * nothing of it is left. */
void cluster_check_rest(struct cluster *c)
{
    uint64_t limit = cluster_now(c) + 60 * PC_S;
    int n_resting = 0;
    for (int i = 0; i < c->n_nodes_max; i++) {
        c->nodes[i].rested = false;
    }
    for (;;) {
        bool any_ops = !pc_list_is_empty(&c->ops);
        const char *what = any_ops ? "operations of the test" : NULL;
        n_resting = 0;
        for (int i = 0; i < c->n_nodes_max; i++) {
            struct cluster_node *n = &c->nodes[i];
            const char *left =
                n->rested && n->state == CLUSTER_UP ? NULL : left_here(c, i);
            n->rested = left == NULL && !any_ops;
            n_resting += n->rested;
            what = left != NULL ? left : what;
        }
        if (what == NULL) {
            return;
        }
        if (cluster_now(c) >= limit) {
            cluster_fail(c, "I9: %s are left, %d of %d nodes are at rest", what,
                         n_resting, c->n_nodes_max);
        }
        cluster_step(c, limit);
    }
}

/* ---- The directory and the pools
 * --------------------------------------------- */

static bool is_known(struct cluster_node *owner, const struct pc_place *place,
                     uint64_t incarnation)
{
    struct pc_record records[64];
    size_t n = pc_shard_lookup(owner->node->shard, place->digest, records, 64);
    for (size_t i = 0; i < n && i < 64; i++) {
        if (records[i].incarnation == incarnation &&
            records[i].generation == place->generation) {
            return true;
        }
    }
    return false;
}

/* What is known of a value that the directory is wrong about. */
static void tell(struct cluster *c, struct pc_digest digest)
{
    if (c->history != NULL) {
        history_tell(c->history, digest);
    }
}

static void check_holder(struct cluster *c, struct cluster_node *holder)
{
    struct pc_place places[64];
    struct pc_owners owners;
    size_t at = 0;
    size_t n;
    size_t n_members;
    const struct pc_member *members =
        pc_ring_members(holder->node->ring, &n_members);
    bool more = true;
    while (more) {
        more = pc_tier_walk(holder->node, &at, 64, places, &n);
        for (size_t i = 0; i < n; i++) {
            pc_ring_owners(holder->node->ring, places[i].digest, &owners);
            for (uint32_t k = 0; k < owners.n; k++) {
                struct cluster_node *owner =
                    holder_of(c, members[owners.index[k]].incarnation);
                if (owner != NULL &&
                    !is_known(owner, &places[i], holder->incarnation)) {
                    tell(c, places[i].digest);
                    cluster_fail(c,
                                 "%s does not know a value that %s holds%s, "
                                 "generation %" PRIu64,
                                 owner->node->self.id.text,
                                 holder->node->self.id.text,
                                 places[i].on_disk ? " on disk" : "",
                                 places[i].generation);
                }
            }
        }
    }
}

struct check_owner
{
    struct cluster *c;
    struct cluster_node *owner;
};

static bool check_is_held(void *arg, const struct pc_record *record)
{
    struct check_owner *check = arg;
    struct cluster_node *holder = holder_of(check->c, record->incarnation);
    struct pc_place place;
    bool owns = pc_ring_owns(check->owner->node->ring, record->digest,
                             check->owner->incarnation);
    if (holder != NULL && owns &&
        (!pc_tier_held(holder->node, record->digest, &place) ||
         place.generation != record->generation ||
         place.on_disk != pc_record_is_on_disk(record))) {
        tell(check->c, record->digest);
        cluster_fail(check->c,
                     "%s still has a record of a value that %s gave up, "
                     "generation %" PRIu64 "%s",
                     check->owner->node->self.id.text,
                     holder->node->self.id.text, record->generation,
                     pc_record_is_on_disk(record) ? " on disk" : "");
    }
    return true;
}

void cluster_check_directory(struct cluster *c)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct check_owner check = {c, &c->nodes[i]};
        size_t at = 0;
        if (c->nodes[i].state != CLUSTER_UP) {
            continue;
        }
        check_holder(c, &c->nodes[i]);
        while (pc_shard_sweep(c->nodes[i].node->shard, &at, SIZE_MAX,
                              check_is_held, &check)) {
        }
    }
}

static bool check_lives(void *arg, const struct pc_record *record)
{
    struct check_owner *check = arg;
    if (holder_of(check->c, record->incarnation) == NULL) {
        cluster_fail(check->c, "%s still has a record of a dead node",
                     check->owner->node->self.id.text);
    }
    return true;
}

void cluster_check_purged(struct cluster *c)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct check_owner check = {c, &c->nodes[i]};
        size_t at = 0;
        while (c->nodes[i].state == CLUSTER_UP &&
               pc_shard_sweep(c->nodes[i].node->shard, &at, SIZE_MAX,
                              check_lives, &check)) {
        }
    }
}
