#include "republish.h"

#include "base/log.h"
#include "node/node.h"

#include <string.h>

/* A slice: some tens of microseconds each millisecond. */
#define SLICE    256
#define SLICE_NS PC_MS
/* How often the end is looked for. */
#define LOOK_NS (5 * PC_MS)
/* A lane that is drained rests the walk. */
#define LANE_FULL (PC_MOVED_MAX / 2)

/* ---- Rings that have been published to -------------------------------- */

static void drop_bases(struct pc_republish *r)
{
    while (r->n_bases > 0) {
        pc_ring_unref(r->bases[--r->n_bases]);
    }
}

static void add_base(struct pc_republish *r, struct pc_ring *ring)
{
    for (size_t i = 0; i < r->n_bases; i++) {
        if (pc_ring_view(r->bases[i]) == pc_ring_view(ring)) {
            pc_ring_unref(ring);
            return;
        }
    }
    if (r->n_bases == PC_BASES_MAX) {
        /* Too many changes to tell who has what. */
        drop_bases(r);
        r->everything = true;
    }
    r->bases[r->n_bases++] = ring;
}

/* Whether an owner has the record, whenever it was published. */
static bool has_it(const struct pc_republish *r, struct pc_digest digest,
                   uint64_t incarnation)
{
    for (size_t i = 0; i < r->n_bases; i++) {
        if (!pc_ring_owns(r->bases[i], digest, incarnation)) {
            return false;
        }
    }
    return !r->everything;
}

/* ---- The walk --------------------------------------------------------- */

static void move_to(struct peercache_node *node, const struct pc_place *place,
                    const struct pc_member *owner)
{
    struct pc_outbox *box = pc_fifo_find(&node->publisher, owner->incarnation);
    if (owner->incarnation == node->self.incarnation) {
        struct pc_record record;
        pc_node_record(node, place, &record);
        if (pc_shard_publish(node->shard, &record) == PEERCACHE_OK) {
            pc_store_mark_published(node->store, place->digest,
                                    place->generation);
        } else {
            pc_metrics_add(&node->metrics, PC_METRIC_SHARD_FULL, 1);
        }
        pc_metrics_add(&node->metrics, PC_METRIC_REPUBLISHES, 1);
        return;
    }
    if (box != NULL && box->compare) {
        return; /* It may have it: compared when the walk is over. */
    }
    if (!pc_fifo_move(node, owner, place->digest)) {
        if (box != NULL) {
            pc_fifo_compare(box);
        } else {
            pc_repair_all(node);
        }
    }
}

static void move_place(struct peercache_node *node,
                       const struct pc_place *place)
{
    const struct pc_republish *r = &node->republish;
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(r->to, &n_members);
    pc_ring_owners(r->to, place->digest, &owners);
    for (uint32_t i = 0; i < owners.n; i++) {
        const struct pc_member *owner = &members[owners.index[i]];
        if (!has_it(r, place->digest, owner->incarnation)) {
            move_to(node, place, owner);
        }
    }
}

void pc_republish_tell(struct peercache_node *node,
                       const struct pc_place *place)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(node->ring, &n_members);
    pc_ring_owners(node->ring, place->digest, &owners);
    for (uint32_t i = 0; i < owners.n; i++) {
        move_to(node, place, &members[owners.index[i]]);
    }
}

/* A lane is full, and its owner takes what is in it. One that is not reached
 * delays nobody: its records are compared later. */
static bool must_rest(const struct peercache_node *node)
{
    const struct pc_list *head = &node->publisher.outboxes;
    for (const struct pc_list *at = head->next; at != head; at = at->next) {
        const struct pc_outbox *box =
            PC_CONTAINER_OF(at, struct pc_outbox, link);
        if (box->n_moved >= LANE_FULL && !box->waiting) {
            return true;
        }
    }
    return false;
}

static void walk_some(struct peercache_node *node)
{
    struct pc_republish *r = &node->republish;
    struct pc_place places[SLICE];
    size_t n = 0;
    r->listing = !node->client && pc_tier_walk(node, &r->at, SLICE, places, &n);
    for (size_t i = 0; i < n; i++) {
        move_place(node, &places[i]);
    }
}

static void end(struct peercache_node *node)
{
    struct pc_republish *r = &node->republish;
    drop_bases(r);
    r->bases[r->n_bases++] = r->to;
    r->to = NULL;
    r->everything = false;
    r->busy = false;
    pc_view_republishing(node, false);
}

static void go_on(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_republish *r = PC_CONTAINER_OF(timer, struct pc_republish, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(r, struct peercache_node, republish);
    if (r->listing && !must_rest(node)) {
        walk_some(node);
    }
    if (!r->listing && node->publisher.n_moved == 0 &&
        !pc_repair_is_urgent(node)) {
        end(node);
    }
    if (r->to != NULL) {
        pc_engine_timer_start(&node->engine, timer,
                              now_ns + (r->listing ? SLICE_NS : LOOK_NS));
    }
}

void pc_republish_view(struct peercache_node *node)
{
    struct pc_republish *r = &node->republish;
    if (r->to != NULL) {
        /* Its move did not end: what was sealed under it is with its owners
         * only, the rest with those of the bases. */
        add_base(r, r->to);
    }
    r->to = pc_ring_ref(node->ring);
    r->at = 0;
    r->listing = true;
    pc_engine_timer_start(&node->engine, &r->timer,
                          pc_engine_now(&node->engine));
    if (!r->busy) {
        r->busy = true;
        pc_view_republishing(node, true);
    }
}

void pc_republish_init(struct peercache_node *node)
{
    pc_engine_timer_init(&node->republish.timer, go_on);
}

void pc_republish_start(struct peercache_node *node)
{
    drop_bases(&node->republish);
    add_base(&node->republish, pc_ring_ref(node->ring));
}

void pc_republish_fini(struct peercache_node *node)
{
    struct pc_republish *r = &node->republish;
    pc_engine_timer_stop(&node->engine, &r->timer);
    pc_ring_unref(r->to);
    r->to = NULL;
    drop_bases(r);
}
