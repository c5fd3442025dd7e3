#include "publish.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

/* A put waits for slower owners no longer than this after the first (rule 5).
 */
#define SLOW_OWNER_NS (200 * PC_MS)
#define TICK_NS       (20 * PC_MS)
/* A record that nobody took is offered again while its put waits, after 20 ms,
 * 40, 80 .. and then every 640: an owner that is held dead may come back, a
 * full FIFO may empty, another view may come. */
#define TRY_DOUBLES_MAX 5
/* Only room does not come by waiting, but for retracts that are on their way:
 * so often is a record refused before its put is. */
#define REFUSALS_MAX 4
/* Publications that get new owners in one turn. */
#define RETARGET_PER_TURN 256

/* ---- Publications ----------------------------------------------------- */

static uint32_t bit_of(const struct pc_publication *p, uint64_t incarnation)
{
    for (uint32_t t = 0; t < PC_REPLICAS_MAX; t++) {
        if (p->targets[t] == incarnation) {
            return 1u << t;
        }
    }
    return 0;
}

/* A place among the targets; one that has answered may be forgotten. */
static uint32_t add_target(struct pc_publication *p, uint64_t incarnation)
{
    uint32_t bit = bit_of(p, incarnation);
    for (uint32_t t = 0; t < PC_REPLICAS_MAX && bit == 0; t++) {
        if (((p->pending | p->acked) & (1u << t)) == 0) {
            p->targets[t] = incarnation;
            bit = 1u << t;
        }
    }
    p->pending |= bit;
    return bit;
}

static void publication_free_if_over(struct pc_publisher *pub,
                                     struct pc_publication *p)
{
    if (p->pending == 0 && pc_list_is_empty(&p->waiters)) {
        pc_list_remove(&p->link);
        (void)pc_map_remove(&pub->publications,
                            pc_map_key(p->record.generation));
        pc_free(p);
    }
}

static void wake_waiters(struct pc_publisher *pub, struct pc_publication *p,
                         peercache_status_t status)
{
    struct pc_list waiters;
    pc_list_init(&waiters);
    pc_list_splice_back(&waiters, &p->waiters);
    publication_free_if_over(pub, p);
    while (!pc_list_is_empty(&waiters)) {
        pc_put_settled(waiters.next, status);
    }
}

/* Whether a put need not wait longer: one owner has it, and the others have it
 * too, cannot be reached, or had 200 ms. */
static bool is_enough(const struct pc_publisher *pub,
                      const struct pc_publication *p)
{
    struct peercache_node *node = pub->node;
    if (p->acked == 0) {
        return false;
    }
    if (pc_engine_now(&node->engine) - p->first_ack_ns >= SLOW_OWNER_NS) {
        return true;
    }
    for (uint32_t t = 0; t < PC_REPLICAS_MAX; t++) {
        if ((p->pending & (1u << t)) == 0) {
            continue;
        }
        struct pc_peer *peer = pc_peers_find(&node->peers, p->targets[t]);
        if (peer != NULL && pc_peer_is_usable(peer)) {
            return false;
        }
    }
    return true;
}

/* Nobody took it, and no new owners are on their way. False: for want of room,
 * and for good. */
static bool try_later(struct pc_publisher *pub, struct pc_publication *p)
{
    if (p->retry_ns != 0) {
        return true;
    }
    if (p->refused && ++p->n_refusals == REFUSALS_MAX) {
        return false;
    }
    p->retry_ns = pc_engine_now(&pub->node->engine) + (TICK_NS << p->n_tries);
    p->n_tries += p->n_tries < TRY_DOUBLES_MAX;
    return true;
}

/* False: what was stored is gone, evicted or removed; there is nothing to tell
 * of. */
static bool try_again(struct pc_publisher *pub, struct pc_publication *p)
{
    struct peercache_node *node = pub->node;
    struct pc_place place;
    p->retry_ns = 0;
    p->refused = false;
    if (!pc_store_find(node->store, p->record.digest, false, &place) ||
        place.generation != p->record.generation) {
        return false;
    }
    pc_metrics_add(&node->metrics, PC_METRIC_PUBLISH_RETRIES, 1);
    (void)pc_publish_place(node, &place);
    return true;
}

static void check(struct pc_publisher *pub, struct pc_publication *p)
{
    if (!pc_list_is_empty(&p->waiters) && is_enough(pub, p)) {
        wake_waiters(pub, p, PEERCACHE_OK);
    } else if (!pc_list_is_empty(&p->waiters) && p->pending == 0 &&
               p->acked == 0 && p->view == pc_ring_view(pub->node->ring)) {
        /* Every owner refused it, or is gone, and there are no new ones. */
        if (!try_later(pub, p)) {
            wake_waiters(pub, p, PEERCACHE_NO_SPACE);
        }
    } else {
        publication_free_if_over(pub, p);
    }
}

/* An owner has it. */
static void note_ack(struct pc_publisher *pub, struct pc_publication *p,
                     uint32_t bit)
{
    if (p->acked == 0) {
        p->first_ack_ns = pc_engine_now(&pub->node->engine);
        pc_store_mark_published(pub->node->store, p->record.digest,
                                p->record.generation);
    }
    p->acked |= bit;
}

void pc_publish_settled(struct peercache_node *node, struct pc_publication *p,
                        uint64_t incarnation, bool acked, bool refused)
{
    uint32_t bit = bit_of(p, incarnation);
    p->pending &= ~bit;
    p->refused = p->refused || refused;
    if (acked && bit != 0) {
        note_ack(&node->publisher, p, bit);
    }
    check(&node->publisher, p);
}

static void tick(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_publisher *pub =
        PC_CONTAINER_OF(timer, struct pc_publisher, tick);
    struct pc_list all;
    pc_list_init(&all);
    pc_list_splice_back(&all, &pub->waited);
    struct pc_list *at;
    while ((at = pc_list_pop_front(&all)) != NULL) {
        struct pc_publication *p =
            PC_CONTAINER_OF(at, struct pc_publication, link);
        if (!pc_list_is_empty(&p->waiters)) {
            pc_list_push_back(&pub->waited, &p->link);
            if (p->retry_ns != 0 && now_ns >= p->retry_ns &&
                !try_again(pub, p)) {
                wake_waiters(pub, p, PEERCACHE_OK);
                continue;
            }
        }
        check(pub, p);
    }
    pub->ticking = !pc_list_is_empty(&pub->waited);
    if (pub->ticking) {
        pc_engine_timer_start(&pub->node->engine, timer, now_ns + TICK_NS);
    }
}

static void start_ticking(struct pc_publisher *pub)
{
    if (!pub->ticking) {
        pub->ticking = true;
        pc_engine_timer_start(&pub->node->engine, &pub->tick,
                              pc_engine_now(&pub->node->engine) + TICK_NS);
    }
}

void pc_publish_wait(struct peercache_node *node, struct pc_publication *p,
                     struct pc_list *wait)
{
    struct pc_publisher *pub = &node->publisher;
    pc_list_push_back(&p->waiters, wait);
    if (!pc_list_is_linked(&p->link)) {
        bool old = p->view != pc_ring_view(node->ring);
        pc_list_push_back(old ? &pub->retarget : &pub->waited, &p->link);
    }
    start_ticking(pub);
    check(pub, p);
}

struct pc_publication *pc_publish_find(struct peercache_node *node,
                                       uint64_t generation)
{
    uint64_t value;
    if (!pc_map_get(&node->publisher.publications, pc_map_key(generation),
                    &value)) {
        return NULL;
    }
    return (struct pc_publication *)(uintptr_t)value;
}

static struct pc_publication *publication_for(struct peercache_node *node,
                                              const struct pc_place *place)
{
    struct pc_publication *p = pc_publish_find(node, place->generation);
    if (p != NULL) {
        return p;
    }
    p = pc_alloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    pc_node_record(node, place, &p->record);
    pc_list_init(&p->waiters);
    pc_list_init(&p->link);
    if (!pc_map_put(&node->publisher.publications,
                    pc_map_key(place->generation), (uint64_t)(uintptr_t)p)) {
        pc_free(p);
        return NULL;
    }
    return p;
}

/* ---- Publish and retract ---------------------------------------------- */

/* Our own shard: there is no way to go. */
static void publish_here(struct peercache_node *node, struct pc_publication *p,
                         uint32_t bit)
{
    peercache_status_t status = pc_shard_publish(node->shard, &p->record);
    /* Not pc_publish_settled: the caller still uses p. */
    p->pending &= ~bit;
    if (status == PEERCACHE_OK) {
        note_ack(&node->publisher, p, bit);
    } else {
        p->refused = true;
        pc_metrics_add(&node->metrics, PC_METRIC_SHARD_FULL, 1);
    }
}

static void publish_to(struct peercache_node *node, struct pc_publication *p,
                       const struct pc_member *owner)
{
    uint32_t known = bit_of(p, owner->incarnation);
    if ((known & (p->pending | p->acked)) != 0) {
        return; /* It is in that FIFO already, or has it. */
    }
    uint32_t bit = add_target(p, owner->incarnation);
    if (owner->incarnation == node->self.incarnation) {
        publish_here(node, p, bit);
    } else if (!pc_fifo_add(node, owner, PC_PUBLISH, &p->record,
                            bit != 0 ? p : NULL)) {
        p->pending &= ~bit;
    }
}

static void publish_to_owners(struct peercache_node *node,
                              struct pc_publication *p)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(node->ring, &n_members);
    pc_ring_owners(node->ring, p->record.digest, &owners);
    if (p->view != pc_ring_view(node->ring)) {
        p->view = pc_ring_view(node->ring);
        p->n_tries = 0; /* Those were others. */
        p->n_refusals = 0;
    }
    for (uint32_t i = 0; i < owners.n; i++) {
        publish_to(node, p, &members[owners.index[i]]);
    }
}

struct pc_publication *pc_publish_place(struct peercache_node *node,
                                        const struct pc_place *place)
{
    struct pc_publication *p = publication_for(node, place);
    if (p != NULL) {
        publish_to_owners(node, p);
    } else {
        pc_repair_all(node); /* It is held, and nobody was told. */
    }
    return p;
}

void pc_publish_unwaited(struct peercache_node *node,
                         const struct pc_place *place)
{
    struct pc_publication *p = pc_publish_place(node, place);
    if (p != NULL) {
        publication_free_if_over(&node->publisher, p); /* All is ours. */
    }
}

/* Whom a retract has gone to. */
struct told
{
    uint64_t who[PC_LOOKUP_TARGETS_MAX];
    size_t n;
};

static bool is_told(const struct told *told, uint64_t incarnation)
{
    for (size_t k = 0; k < told->n; k++) {
        if (told->who[k] == incarnation) {
            return true;
        }
    }
    return told->n == PC_LOOKUP_TARGETS_MAX;
}

/* Former views come without addresses: who we never met has no record of ours.
 */
static bool can_be_told(struct peercache_node *node,
                        const struct pc_member *owner)
{
    return !pc_node_is_over(node, owner) &&
           (owner->address[0] != '\0' ||
            owner->incarnation == node->self.incarnation ||
            pc_peers_find(&node->peers, owner->incarnation) != NULL);
}

static void retract_from(struct peercache_node *node,
                         const struct pc_ring *ring,
                         const struct pc_record *record, struct told *told)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(ring, &n_members);
    pc_ring_owners(ring, record->digest, &owners);
    for (uint32_t i = 0; i < owners.n; i++) {
        const struct pc_member *owner = &members[owners.index[i]];
        if (is_told(told, owner->incarnation) || !can_be_told(node, owner)) {
            continue;
        }
        told->who[told->n++] = owner->incarnation;
        if (owner->incarnation == node->self.incarnation) {
            (void)pc_shard_retract(node->shard, record);
        } else {
            (void)pc_fifo_add(node, owner, PC_RETRACT, record, NULL);
        }
    }
}

static void retract_from_former(struct peercache_node *node,
                                const struct pc_record *record,
                                struct told *told)
{
    const struct pc_republish *r = &node->republish;
    node->publisher.n_retracted++;
    for (size_t i = 0; i < r->n_bases; i++) {
        retract_from(node, r->bases[i], record, told);
    }
    for (size_t i = 0; i < node->n_former; i++) {
        retract_from(node, node->former[i].ring, record, told);
    }
}

void pc_publish_retract(struct peercache_node *node,
                        const struct pc_place *place)
{
    struct told told = {.n = 0};
    struct pc_record record;
    pc_node_record(node, place, &record);
    retract_from(node, node->ring, &record, &told);
    retract_from_former(node, &record, &told);
}

void pc_publish_kept(struct peercache_node *node, const struct pc_place *gone,
                     const struct pc_place *kept)
{
    struct told told = {.n = 0};
    struct pc_owners owners;
    struct pc_record record;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(node->ring, &n_members);
    pc_ring_owners(node->ring, kept->digest, &owners);
    pc_node_record(node, kept, &record);
    for (uint32_t i = 0; i < owners.n; i++) {
        const struct pc_member *owner = &members[owners.index[i]];
        told.who[told.n++] = owner->incarnation;
        if (owner->incarnation != node->self.incarnation) {
            (void)pc_fifo_add(node, owner, PC_PUBLISH, &record, NULL);
        } else if (pc_shard_publish(node->shard, &record) != PEERCACHE_OK) {
            pc_metrics_add(&node->metrics, PC_METRIC_SHARD_FULL, 1);
        }
    }
    pc_node_record(node, gone, &record);
    retract_from_former(node, &record, &told);
}

/* ---- Changes of view -------------------------------------------------- */

/* A put that still waits gets the new owners at once, not behind all that
 * moves. One whose value is gone has nothing to wait for: it was stored, and
 * then evicted or removed. */
static void retarget(struct peercache_node *node, struct pc_publication *p)
{
    struct pc_place place;
    if (pc_list_is_empty(&p->waiters)) {
        publication_free_if_over(&node->publisher, p);
    } else if (pc_store_find(node->store, p->record.digest, false, &place) &&
               place.generation == p->record.generation) {
        publish_to_owners(node, p);
        pc_list_push_back(&node->publisher.waited, &p->link);
        start_ticking(&node->publisher);
        check(&node->publisher, p);
    } else {
        wake_waiters(&node->publisher, p, PEERCACHE_OK);
    }
}

static unsigned retarget_some(struct peercache_node *node)
{
    unsigned n = 0;
    struct pc_list *at;
    while (n < RETARGET_PER_TURN &&
           (at = pc_list_pop_front(&node->publisher.retarget)) != NULL) {
        retarget(node, PC_CONTAINER_OF(at, struct pc_publication, link));
        n++;
    }
    return n;
}

void pc_publish_view(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    pc_list_splice_back(&pub->retarget, &pub->waited);
    pc_fifo_view(node);
    pc_republish_view(node);
    pc_repair_view(node);
    pc_purge_view(node);
}

unsigned pc_publish_step(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    unsigned work = 0;
    if (!pc_list_is_empty(&pub->retarget)) {
        work += retarget_some(node);
    }
    if (!pc_list_is_empty(&pub->todo)) {
        pc_fifo_step(node);
    }
    if (!pc_list_is_empty(&pub->barriers)) {
        work += pc_barrier_check(node);
    }
    return work;
}

bool pc_publish_is_idle(const struct peercache_node *node)
{
    const struct pc_publisher *pub = &node->publisher;
    return pub->n_entries == 0 && pub->n_moved == 0 &&
           !node->republish.listing && pc_list_is_empty(&pub->retarget) &&
           !pc_repair_is_urgent(node);
}

void pc_publish_init(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    pub->node = node;
    pc_list_init(&pub->outboxes);
    pc_list_init(&pub->todo);
    pc_list_init(&pub->waited);
    pc_list_init(&pub->retarget);
    pc_list_init(&pub->barriers);
    pc_map_init(&pub->by_incarnation);
    pc_map_init(&pub->publications);
    pc_engine_timer_init(&pub->tick, tick);
    pc_republish_init(node);
}

void pc_publish_fini(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    pc_fifo_fini(node);
    pc_publish_end_barriers(node);
    size_t at = 0;
    uint64_t value;
    struct pc_digest key;
    while (pc_map_next(&pub->publications, &at, &key, &value)) {
        pc_free((void *)(uintptr_t)value);
    }
    pc_engine_timer_stop(&node->engine, &pub->tick);
    pc_map_fini(&pub->by_incarnation);
    pc_map_fini(&pub->publications);
    pc_republish_fini(node);
}
