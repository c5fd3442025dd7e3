#include "publish.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>

#define ENTRIES_PER_MESSAGE 1024
/* A put waits for slower owners no longer than this after the first (rule 5).
 */
#define SLOW_OWNER_NS (200 * PC_MS)
#define TICK_NS       (20 * PC_MS)
#define RETRY_NS      (100 * PC_MS)
#define FOREIGN_NS    (20 * PC_MS)
#define MESSAGE_NS    (2 * PC_S)
#define LIST_PER_TURN 256
/* Moving records waits while so many entries are queued. */
#define LIST_BACKLOG (64 * ENTRIES_PER_MESSAGE)

static void send_next(struct pc_outbox *box);

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

static void check(struct pc_publisher *pub, struct pc_publication *p)
{
    if (!pc_list_is_empty(&p->waiters) && is_enough(pub, p)) {
        wake_waiters(pub, p, PEERCACHE_OK);
    } else if (!pc_list_is_empty(&p->waiters) && p->pending == 0 &&
               p->acked == 0 && pub->node->republish.to == NULL) {
        /* Refused by all, and no new owners are on their way. */
        wake_waiters(pub, p, PEERCACHE_UNREACHABLE);
    } else {
        publication_free_if_over(pub, p);
    }
}

/* An owner answered, or never will. */
static void target_settled(struct pc_publisher *pub, struct pc_publication *p,
                           uint64_t incarnation, bool acked)
{
    uint32_t bit = bit_of(p, incarnation);
    p->pending &= ~bit;
    if (acked && bit != 0) {
        if (p->acked == 0) {
            p->first_ack_ns = pc_engine_now(&pub->node->engine);
            pc_store_mark_published(pub->node->store, p->record.digest,
                                    p->record.generation);
        }
        p->acked |= bit;
    }
    check(pub, p);
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
        }
        check(pub, p);
    }
    pub->ticking = !pc_list_is_empty(&pub->waited);
    if (pub->ticking) {
        pc_engine_timer_start(&pub->node->engine, timer, now_ns + TICK_NS);
    }
}

void pc_publish_wait(struct peercache_node *node, struct pc_publication *p,
                     struct pc_list *wait)
{
    struct pc_publisher *pub = &node->publisher;
    pc_list_push_back(&p->waiters, wait);
    if (!pc_list_is_linked(&p->link)) {
        pc_list_push_back(&pub->waited, &p->link);
    }
    if (!pub->ticking) {
        pub->ticking = true;
        pc_engine_timer_start(&node->engine, &pub->tick,
                              pc_engine_now(&node->engine) + TICK_NS);
    }
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

/* ---- Barriers --------------------------------------------------------- */

static void barrier_over(struct pc_barrier *barrier)
{
    pc_list_remove(&barrier->link);
    pc_engine_timer_stop(&barrier->node->engine, &barrier->deadline);
    pc_free(barrier->marks);
    barrier->marks = NULL;
    barrier->done(barrier);
}

static void barrier_late(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    barrier_over(PC_CONTAINER_OF(timer, struct pc_barrier, deadline));
}

static struct pc_outbox *outbox_find(struct pc_publisher *pub,
                                     uint64_t incarnation)
{
    uint64_t value;
    if (!pc_map_get(&pub->by_incarnation, pc_map_key(incarnation), &value)) {
        return NULL;
    }
    return (struct pc_outbox *)(uintptr_t)value;
}

static bool barrier_is_reached(struct pc_publisher *pub,
                               const struct pc_barrier *barrier)
{
    for (size_t i = 0; i < barrier->n_marks; i++) {
        struct pc_outbox *box = outbox_find(pub, barrier->marks[i].incarnation);
        if (box != NULL && box->n_settled < barrier->marks[i].settled) {
            return false;
        }
    }
    return true;
}

static unsigned check_barriers(struct pc_publisher *pub)
{
    unsigned n = 0;
    struct pc_list *at = pub->barriers.next;
    while (at != &pub->barriers) {
        struct pc_barrier *barrier =
            PC_CONTAINER_OF(at, struct pc_barrier, link);
        at = at->next;
        if (barrier_is_reached(pub, barrier)) {
            barrier_over(barrier);
            n++;
        }
    }
    return n;
}

bool pc_publish_barrier(struct peercache_node *node, struct pc_barrier *barrier,
                        uint64_t wait_ns, void (*done)(struct pc_barrier *))
{
    struct pc_publisher *pub = &node->publisher;
    barrier->node = node;
    barrier->done = done;
    barrier->n_marks = 0;
    barrier->marks =
        pc_alloc(pub->by_incarnation.n_used + 1, sizeof(*barrier->marks));
    if (barrier->marks == NULL) {
        return false;
    }
    for (struct pc_list *at = pub->outboxes.next; at != &pub->outboxes;
         at = at->next) {
        struct pc_outbox *box = PC_CONTAINER_OF(at, struct pc_outbox, link);
        barrier->marks[barrier->n_marks].incarnation = box->owner.incarnation;
        barrier->marks[barrier->n_marks++].settled = box->n_added;
    }
    pc_list_push_back(&pub->barriers, &barrier->link);
    pc_engine_timer_init(&barrier->deadline, barrier_late);
    if (wait_ns > 0) {
        pc_engine_timer_start(&node->engine, &barrier->deadline,
                              pc_engine_now(&node->engine) + wait_ns);
    }
    return true;
}

/* ---- Outboxes --------------------------------------------------------- */

static struct pc_outbox_entry *entry_at(struct pc_outbox *box, size_t i)
{
    return &box->entries[(box->head + i) & (box->capacity - 1)];
}

static void pop_entry(struct pc_outbox *box, bool acked)
{
    struct pc_publisher *pub = &box->node->publisher;
    struct pc_outbox_entry entry = *entry_at(box, 0);
    box->head = (box->head + 1) & (box->capacity - 1);
    box->n--;
    box->n_settled++;
    pub->n_entries--;
    if (entry.publication != NULL) {
        target_settled(pub, entry.publication, box->owner.incarnation, acked);
    }
}

static void retry_now(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_outbox *box = PC_CONTAINER_OF(timer, struct pc_outbox, retry);
    box->waiting = false;
    send_next(box);
}

static void wait_and_retry(struct pc_outbox *box, uint64_t ns)
{
    struct pc_engine *e = &box->node->engine;
    box->waiting = true;
    pc_engine_timer_start(e, &box->retry, pc_engine_now(e) + ns);
}

/* What came back for the message under way; entries leave the FIFO in order up
 * to the first that must be sent again. */
static void take_results(struct pc_outbox *box,
                         const struct pc_msg_published *published)
{
    struct peercache_node *node = box->node;
    for (uint32_t i = 0; i < published->n_entries; i++) {
        struct pc_outbox_entry *entry = entry_at(box, 0);
        bool ours = entry->kind == PC_PUBLISH;
        uint8_t result = published->results[i];
        if (ours && result == PC_PUBLISH_FOREIGN &&
            pc_ring_owns(node->ring, entry->record.digest,
                         box->owner.incarnation)) {
            /* It does not know yet that it is an owner. */
            wait_and_retry(box, FOREIGN_NS);
            return;
        }
        if (ours && result == PC_PUBLISH_REFUSED) {
            pc_metrics_add(&node->metrics, PC_METRIC_SHARD_FULL, 1);
        }
        pop_entry(box, result == PC_PUBLISH_OK);
    }
}

static void message_done(struct pc_rpc *rpc, peercache_status_t status,
                         const struct pc_msg *reply)
{
    struct pc_outbox *box = PC_CONTAINER_OF(rpc, struct pc_outbox, rpc);
    size_t n_sent = box->n_sent;
    box->n_sent = 0;
    if (status == PEERCACHE_OK && reply->type == PC_MSG_PUBLISHED &&
        reply->u.published.n_entries == n_sent) {
        if (reply->u.published.view != pc_ring_view(box->node->ring)) {
            pc_view_fetch(box->node, rpc->peer);
        }
        take_results(box, &reply->u.published);
    } else {
        wait_and_retry(box, RETRY_NS);
    }
    send_next(box);
}

static bool send_message(struct pc_outbox *box, struct pc_peer *peer)
{
    size_t n = box->n < ENTRIES_PER_MESSAGE ? box->n : ENTRIES_PER_MESSAGE;
    struct pc_record *records = pc_alloc(n, sizeof(*records));
    uint8_t *kinds = pc_alloc(n, 1);
    bool sent = false;
    if (records != NULL && kinds != NULL) {
        for (size_t i = 0; i < n; i++) {
            records[i] = entry_at(box, i)->record;
            kinds[i] = entry_at(box, i)->kind;
        }
        struct pc_msg msg = {.type = PC_MSG_PUBLISH};
        msg.u.publish.view = pc_ring_view(box->node->ring);
        msg.u.publish.incarnation = box->node->self.incarnation;
        msg.u.publish.n_entries = (uint32_t)n;
        msg.u.publish.kinds = kinds;
        msg.u.publish.records = records;
        box->rpc.done = message_done;
        box->rpc.body = NULL;
        box->rpc.breakable = false;
        sent = pc_rpc_start(&box->rpc, peer, PC_LINK_CONTROL, &msg,
                            pc_engine_now(&box->node->engine) + MESSAGE_NS) ==
               PEERCACHE_OK;
    }
    pc_free(records);
    pc_free(kinds);
    box->n_sent = sent ? n : 0;
    return sent;
}

static void send_next(struct pc_outbox *box)
{
    if (box->n == 0 || box->n_sent > 0 || box->waiting) {
        return;
    }
    struct pc_peer *peer = pc_peers_learn(&box->node->peers, &box->owner);
    if (peer == NULL || !pc_peer_is_usable(peer) || !send_message(box, peer)) {
        wait_and_retry(box, RETRY_NS);
    }
}

static struct pc_outbox *outbox_for(struct peercache_node *node,
                                    const struct pc_member *owner)
{
    struct pc_publisher *pub = &node->publisher;
    struct pc_outbox *box = outbox_find(pub, owner->incarnation);
    if (box != NULL) {
        return box;
    }
    box = pc_alloc(1, sizeof(*box));
    if (box == NULL) {
        return NULL;
    }
    box->node = node;
    box->owner = *owner;
    pc_engine_timer_init(&box->retry, retry_now);
    if (!pc_map_put(&pub->by_incarnation, pc_map_key(owner->incarnation),
                    (uint64_t)(uintptr_t)box)) {
        pc_free(box);
        return NULL;
    }
    pc_list_push_back(&pub->outboxes, &box->link);
    return box;
}

/* Nobody waits for this FIFO any more; its owner's next one counts anew. */
static void lift_marks(struct pc_publisher *pub, uint64_t incarnation)
{
    for (struct pc_list *at = pub->barriers.next; at != &pub->barriers;
         at = at->next) {
        struct pc_barrier *barrier =
            PC_CONTAINER_OF(at, struct pc_barrier, link);
        for (size_t i = 0; i < barrier->n_marks; i++) {
            if (barrier->marks[i].incarnation == incarnation) {
                barrier->marks[i].settled = 0;
            }
        }
    }
}

static void outbox_free(struct pc_outbox *box)
{
    struct pc_publisher *pub = &box->node->publisher;
    lift_marks(pub, box->owner.incarnation);
    if (box->n_sent > 0) {
        (void)pc_rpc_stop(&box->rpc, PEERCACHE_CANCELED);
        box->n_sent = 0;
    }
    pc_engine_timer_stop(&box->node->engine, &box->retry);
    while (box->n > 0) {
        pop_entry(box, false);
    }
    pc_list_remove(&box->link);
    (void)pc_map_remove(&pub->by_incarnation,
                        pc_map_key(box->owner.incarnation));
    pc_free(box->entries);
    pc_free(box);
}

static bool outbox_grow(struct pc_outbox *box)
{
    size_t capacity = box->capacity == 0 ? 64 : box->capacity * 2;
    if (capacity > PC_OUTBOX_MAX) {
        return false;
    }
    struct pc_outbox_entry *entries = pc_alloc(capacity, sizeof(*entries));
    if (entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < box->n; i++) {
        entries[i] = *entry_at(box, i);
    }
    pc_free(box->entries);
    box->entries = entries;
    box->capacity = capacity;
    box->head = 0;
    return true;
}

static bool outbox_add(struct peercache_node *node,
                       const struct pc_member *owner, uint8_t kind,
                       const struct pc_record *record,
                       struct pc_publication *publication)
{
    struct pc_outbox *box = outbox_for(node, owner);
    if (box == NULL || (box->n == box->capacity && !outbox_grow(box))) {
        pc_metrics_add(&node->metrics, PC_METRIC_FIFO_DROPPED, 1);
        node->republish.dropped = true;
        return false;
    }
    struct pc_outbox_entry *entry = entry_at(box, box->n);
    entry->record = *record;
    entry->kind = kind;
    entry->publication = publication;
    box->n++;
    box->n_added++;
    node->publisher.n_entries++;
    return true;
}

/* ---- Publish and retract ---------------------------------------------- */

static void publish_to(struct peercache_node *node, struct pc_publication *p,
                       const struct pc_member *owner)
{
    if ((bit_of(p, owner->incarnation) & p->pending) != 0) {
        return; /* It is in that FIFO already. */
    }
    uint32_t bit = add_target(p, owner->incarnation);
    if (owner->incarnation == node->self.incarnation) {
        peercache_status_t status = pc_shard_publish(node->shard, &p->record);
        if (status != PEERCACHE_OK) {
            pc_metrics_add(&node->metrics, PC_METRIC_SHARD_FULL, 1);
        }
        /* Not target_settled: the caller still uses p. */
        p->pending &= ~bit;
        if (status == PEERCACHE_OK) {
            if (p->acked == 0) {
                p->first_ack_ns = pc_engine_now(&node->engine);
                pc_store_mark_published(node->store, p->record.digest,
                                        p->record.generation);
            }
            p->acked |= bit;
        }
        return;
    }
    if (!outbox_add(node, owner, PC_PUBLISH, &p->record, bit != 0 ? p : NULL)) {
        p->pending &= ~bit;
    }
}

struct pc_publication *pc_publish_place(struct peercache_node *node,
                                        const struct pc_place *place,
                                        const struct pc_ring *but)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(node->ring, &n_members);
    pc_ring_owners(node->ring, place->digest, &owners);
    bool any = but == NULL;
    for (uint32_t i = 0; i < owners.n && !any; i++) {
        any = !pc_ring_owns(but, place->digest,
                            members[owners.index[i]].incarnation);
    }
    struct pc_publication *p = any ? publication_for(node, place) : NULL;
    if (p == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < owners.n; i++) {
        const struct pc_member *owner = &members[owners.index[i]];
        if (but == NULL ||
            !pc_ring_owns(but, place->digest, owner->incarnation)) {
            publish_to(node, p, owner);
        }
    }
    if (but != NULL) {
        pc_metrics_add(&node->metrics, PC_METRIC_REPUBLISHES, 1);
        check(&node->publisher, p);
        return NULL;
    }
    return p;
}

static void retract_from(struct peercache_node *node,
                         const struct pc_ring *ring,
                         const struct pc_record *record, uint64_t *done,
                         size_t *n_done)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(ring, &n_members);
    pc_ring_owners(ring, record->digest, &owners);
    for (uint32_t i = 0; i < owners.n; i++) {
        const struct pc_member *owner = &members[owners.index[i]];
        bool told =
            pc_node_is_over(node, owner) || *n_done == PC_LOOKUP_TARGETS_MAX;
        for (size_t k = 0; k < *n_done; k++) {
            told = told || done[k] == owner->incarnation;
        }
        /* Former views come without addresses: who we never met has no record
         * of ours. */
        told =
            told || (owner->address[0] == '\0' &&
                     owner->incarnation != node->self.incarnation &&
                     pc_peers_find(&node->peers, owner->incarnation) == NULL);
        if (told) {
            continue;
        }
        done[(*n_done)++] = owner->incarnation;
        if (owner->incarnation == node->self.incarnation) {
            (void)pc_shard_retract(node->shard, record);
        } else {
            (void)outbox_add(node, owner, PC_RETRACT, record, NULL);
        }
    }
}

void pc_publish_retract(struct peercache_node *node,
                        const struct pc_place *place)
{
    uint64_t done[PC_LOOKUP_TARGETS_MAX];
    size_t n_done = 0;
    struct pc_record record;
    pc_node_record(node, place, &record);
    retract_from(node, node->ring, &record, done, &n_done);
    if (node->base_ring != NULL) {
        retract_from(node, node->base_ring, &record, done, &n_done);
    }
    for (size_t i = 0; i < node->n_former; i++) {
        retract_from(node, node->former[i].ring, &record, done, &n_done);
    }
}

/* ---- Changes of view -------------------------------------------------- */

void pc_publish_view(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    struct pc_republish *r = &node->republish;
    struct pc_list *at = pub->outboxes.next;
    while (at != &pub->outboxes) {
        struct pc_outbox *box = PC_CONTAINER_OF(at, struct pc_outbox, link);
        at = at->next;
        if (pc_node_is_over(node, &box->owner)) {
            outbox_free(box);
        }
    }
    /* What was sealed under a view whose moving did not end is only at that
     * view's owners: then nobody can be left out. */
    r->everything = r->everything || r->to != NULL;
    r->outdated = r->waiting;
    pc_ring_unref(r->to);
    r->to = pc_ring_ref(node->ring);
    r->at = 0;
    r->listing = true;
    r->dropped = false;
    if (!r->busy) {
        r->busy = true;
        pc_view_republishing(node, true);
    }
}

static void republished(struct pc_barrier *barrier)
{
    struct peercache_node *node = barrier->node;
    struct pc_republish *r = &node->republish;
    bool outdated = r->outdated;
    r->waiting = false;
    r->outdated = false;
    if (outdated || r->listing || r->to == NULL) {
        return; /* The view changed again meanwhile. */
    }
    if (r->dropped) {
        r->dropped = false; /* Not everything was queued: once more. */
        r->at = 0;
        r->listing = true;
        return;
    }
    pc_ring_unref(node->base_ring);
    node->base_ring = r->to;
    r->to = NULL;
    r->everything = false;
    r->busy = false;
    pc_view_republishing(node, false);
}

static unsigned list_some(struct peercache_node *node)
{
    struct pc_republish *r = &node->republish;
    struct pc_place places[LIST_PER_TURN];
    size_t n = 0;
    if (node->publisher.n_entries > LIST_BACKLOG) {
        return 0; /* Owners have not taken what is queued. */
    }
    bool more = !node->client &&
                pc_store_list(node->store, &r->at, LIST_PER_TURN, places, &n);
    for (size_t i = 0; i < n; i++) {
        (void)pc_publish_place(node, &places[i],
                               r->everything ? NULL : node->base_ring);
        struct pc_publication *p = pc_publish_find(node, places[i].generation);
        if (p != NULL) {
            check(&node->publisher, p);
        }
    }
    r->listing = more;
    return 1;
}

unsigned pc_publish_step(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    struct pc_republish *r = &node->republish;
    unsigned work = 0;
    if (r->to != NULL && r->listing) {
        work += list_some(node);
    }
    if (r->to != NULL && !r->listing && !r->waiting) {
        r->waiting = pc_publish_barrier(node, &r->barrier, 0, republished);
        work++;
    }
    if (pub->n_entries > 0) {
        for (struct pc_list *at = pub->outboxes.next; at != &pub->outboxes;
             at = at->next) {
            send_next(PC_CONTAINER_OF(at, struct pc_outbox, link));
        }
    }
    if (!pc_list_is_empty(&pub->barriers)) {
        work += check_barriers(pub);
    }
    return work;
}

void pc_publish_peer_up(struct peercache_node *node, uint64_t incarnation)
{
    struct pc_outbox *box = outbox_find(&node->publisher, incarnation);
    if (box != NULL && box->waiting) {
        pc_engine_timer_stop(&node->engine, &box->retry);
        box->waiting = false;
        send_next(box);
    }
}

bool pc_publish_is_idle(const struct peercache_node *node)
{
    return node->publisher.n_entries == 0 && !node->republish.listing;
}

void pc_publish_init(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    pub->node = node;
    pc_list_init(&pub->outboxes);
    pc_list_init(&pub->waited);
    pc_list_init(&pub->barriers);
    pc_map_init(&pub->by_incarnation);
    pc_map_init(&pub->publications);
    pc_engine_timer_init(&pub->tick, tick);
}

void pc_publish_end_barriers(struct peercache_node *node)
{
    struct pc_list *barriers = &node->publisher.barriers;
    while (!pc_list_is_empty(barriers)) {
        barrier_over(PC_CONTAINER_OF(barriers->next, struct pc_barrier, link));
    }
}

void pc_publish_fini(struct peercache_node *node)
{
    struct pc_publisher *pub = &node->publisher;
    while (!pc_list_is_empty(&pub->outboxes)) {
        outbox_free(
            PC_CONTAINER_OF(pub->outboxes.next, struct pc_outbox, link));
    }
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
    pc_ring_unref(node->republish.to);
    node->republish.to = NULL;
}
