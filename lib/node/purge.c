#include "purge.h"

#include "base/log.h"
#include "node/node.h"

#define WALK_EVERY_NS (5 * PC_S)
/* The same when nothing is known that should go. */
#define QUIET_NS (60 * PC_S)
/* A segment of the shard each two milliseconds: below half of one. */
#define SLICE_CELLS 2048
#define SLICE_NS    (2 * PC_MS)

static void note_dead(struct pc_purge *p, uint64_t incarnation, uint64_t now_ns)
{
    uint64_t since;
    if (!pc_map_get(&p->dead, pc_map_key(incarnation), &since)) {
        /* Without memory it stays longer. */
        (void)pc_map_put(&p->dead, pc_map_key(incarnation), now_ns);
    }
}

void pc_purge_view(struct peercache_node *node)
{
    struct pc_purge *p = &node->purge;
    uint64_t now = pc_engine_now(&node->engine);
    size_t n;
    const struct pc_member *all = pc_cluster_all(node->cluster, &n);
    for (size_t i = 0; i < n; i++) {
        if (pc_node_is_dead(node, all[i].incarnation)) {
            note_dead(p, all[i].incarnation, now);
        } else {
            (void)pc_map_remove(&p->dead, pc_map_key(all[i].incarnation));
        }
    }
    p->ring_ns = now;
    p->drop_unowned = false;
    p->settled = false;
}

/* ---- The walk --------------------------------------------------------- */

static bool is_dead_for_long(struct peercache_node *node, uint64_t incarnation)
{
    struct pc_purge *p = &node->purge;
    uint64_t since;
    if (!pc_node_is_dead(node, incarnation)) {
        return false;
    }
    if (!pc_map_get(&p->dead, pc_map_key(incarnation), &since)) {
        note_dead(p, incarnation, p->walk_ns); /* Of no view that we saw. */
        return false;
    }
    return p->walk_ns - since >= PC_DEAD_KEPT_NS;
}

/* Of our own values we know at once. */
static bool is_held_here(struct peercache_node *node,
                         const struct pc_record *record)
{
    struct pc_place place;
    return pc_tier_held(node, record->digest, &place);
}

static bool keep(void *arg, const struct pc_record *record)
{
    struct peercache_node *node = arg;
    if (record->incarnation == node->self.incarnation &&
        !is_held_here(node, record)) {
        return false;
    }
    if (is_dead_for_long(node, record->incarnation)) {
        pc_metrics_add(&node->metrics, PC_METRIC_PURGED_DEAD, 1);
        return false;
    }
    if (node->purge.drop_unowned &&
        !pc_ring_owns(node->ring, record->digest, node->self.incarnation)) {
        pc_metrics_add(&node->metrics, PC_METRIC_PURGED_UNOWNED, 1);
        return false;
    }
    return true;
}

/* Those who were dead for long enough when the walk began have no records any
 * more. */
static void forget_purged(struct pc_purge *p)
{
    size_t at = 0;
    uint64_t since;
    struct pc_digest key;
    while (pc_map_next(&p->dead, &at, &key, &since)) {
        if (p->walk_ns - since >= PC_DEAD_KEPT_NS) {
            (void)pc_map_remove(&p->dead, key);
            at = 0; /* Cells have moved. */
        }
    }
}

static void begin(struct peercache_node *node, uint64_t now_ns)
{
    struct pc_purge *p = &node->purge;
    p->walking = true;
    p->at = 0;
    p->walk_ns = now_ns;
    p->walk_state = pc_repair_state(node);
    /* While former views are asked, their owners must be able to answer. */
    p->drop_unowned = node->n_former == 0 && pc_rings_are_current(node) &&
                      now_ns - p->ring_ns >= 2 * node->settings.settle_ns;
}

static void go_on(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_purge *p = PC_CONTAINER_OF(timer, struct pc_purge, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(p, struct peercache_node, purge);
    if (!p->walking && p->dead.n_used == 0 && p->settled &&
        p->walk_state == pc_repair_state(node) &&
        now_ns - p->walk_ns < QUIET_NS) {
        pc_engine_timer_start(&node->engine, timer, now_ns + WALK_EVERY_NS);
        return;
    }
    if (!p->walking) {
        begin(node, now_ns);
    }
    if (pc_shard_sweep(node->shard, &p->at, SLICE_CELLS, keep, node)) {
        pc_engine_timer_start(&node->engine, timer, now_ns + SLICE_NS);
        return;
    }
    p->walking = false;
    p->settled = p->settled || p->drop_unowned;
    forget_purged(p);
    if (pc_shard_count(node->shard) <
        (size_t)node->settings.directory_records / 16 * 15) {
        node->shard_is_full = false; /* Say it again next time. */
    }
    pc_engine_timer_start(&node->engine, timer, now_ns + WALK_EVERY_NS);
}

void pc_purge_init(struct peercache_node *node)
{
    pc_map_init(&node->purge.dead);
    pc_engine_timer_init(&node->purge.timer, go_on);
}

void pc_purge_start(struct peercache_node *node)
{
    uint64_t now = pc_engine_now(&node->engine);
    node->purge.ring_ns = now;
    pc_engine_timer_start(&node->engine, &node->purge.timer,
                          now + WALK_EVERY_NS +
                              pc_rand_below(&node->random, WALK_EVERY_NS));
}

void pc_purge_fini(struct peercache_node *node)
{
    pc_engine_timer_stop(&node->engine, &node->purge.timer);
    pc_map_fini(&node->purge.dead);
}
