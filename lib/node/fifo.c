#include "fifo.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#define ENTRIES_PER_MESSAGE 1024
#define RETRY_NS            (100 * PC_MS)
#define FOREIGN_NS          (20 * PC_MS)
#define MESSAGE_NS          (2 * PC_S)
#define LINGER_NS           (20 * PC_MS)
/* An owner that was held dead for longer has purged what it had of us. */
#define PARKED_NS (60 * PC_S)
/* Entries of a FIFO that is being parked, looked at in one turn. */
#define PARK_PER_TURN 4096

static void send_next(struct pc_outbox *box);
static bool follow_owner(struct pc_outbox *box);

static struct pc_outbox_entry *entry_at(struct pc_outbox *box, size_t i)
{
    return &box->entries[(box->head + i) & (box->capacity - 1)];
}

static struct pc_digest *moved_at(struct pc_outbox *box, size_t i)
{
    return &box->moved[(box->moved_head + i) & (box->moved_capacity - 1)];
}

static void want_send(struct pc_outbox *box)
{
    if (!box->parked && !pc_list_is_linked(&box->todo)) {
        pc_list_push_back(&box->node->publisher.todo, &box->todo);
    }
}

/* ---- Answers ---------------------------------------------------------- */

static void pop_entry(struct pc_outbox *box, bool acked, bool refused)
{
    struct pc_publisher *pub = &box->node->publisher;
    struct pc_outbox_entry entry = *entry_at(box, 0);
    box->head = (box->head + 1) & (box->capacity - 1);
    box->n--;
    box->n_settled++;
    pub->n_entries--;
    if (entry.publication != NULL) {
        box->n_waited--;
        pc_publish_settled(box->node, entry.publication, box->owner.incarnation,
                           acked, refused);
    }
}

static void pop_moved(struct pc_outbox *box, size_t n)
{
    box->moved_head = (box->moved_head + n) & (box->moved_capacity - 1);
    box->n_moved -= n;
    box->node->publisher.n_moved -= n;
}

static void retry_now(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_outbox *box = PC_CONTAINER_OF(timer, struct pc_outbox, retry);
    box->waiting = false;
    /* What became of it may be known by now without a change of the view. */
    if (follow_owner(box)) {
        send_next(box);
    }
}

static void pace_over(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    send_next(PC_CONTAINER_OF(timer, struct pc_outbox, pace));
}

static void wait_and_retry(struct pc_outbox *box, uint64_t ns)
{
    struct pc_engine *e = &box->node->engine;
    box->waiting = true;
    pc_engine_timer_start(e, &box->retry, pc_engine_now(e) + ns);
}

/* It does not know yet that it is an owner. */
static bool must_come_again(const struct pc_outbox *box, uint8_t result,
                            const struct pc_record *record)
{
    return result == PC_PUBLISH_FOREIGN &&
           pc_ring_owns(box->node->ring, record->digest,
                        box->owner.incarnation);
}

/* Repair tries again what has found no room. */
static void count_refused(struct pc_outbox *box, uint8_t result)
{
    if (result == PC_PUBLISH_REFUSED) {
        pc_metrics_add(&box->node->metrics, PC_METRIC_SHARD_FULL, 1);
    }
}

/* Entries leave the FIFO in order up to the first that must be sent again. */
static void take_entries(struct pc_outbox *box, const uint8_t *results,
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pc_outbox_entry *entry = entry_at(box, 0);
        if (entry->kind == PC_PUBLISH) {
            if (must_come_again(box, results[i], &entry->record)) {
                wait_and_retry(box, FOREIGN_NS);
                return;
            }
            count_refused(box, results[i]);
        }
        pop_entry(box, results[i] == PC_PUBLISH_OK,
                  results[i] == PC_PUBLISH_REFUSED);
    }
}

static void take_moved(struct pc_outbox *box, const uint8_t *results,
                       size_t n_taken, size_t n_live)
{
    for (size_t i = 0; i < n_live; i++) {
        if (must_come_again(box, results[i], &box->sent[i])) {
            box->moved_ns = pc_engine_now(&box->node->engine) + FOREIGN_NS;
            return;
        }
    }
    box->refused = false;
    for (size_t i = 0; i < n_live; i++) {
        count_refused(box, results[i]);
        box->refused = box->refused || results[i] == PC_PUBLISH_REFUSED;
        if (results[i] == PC_PUBLISH_OK) {
            pc_store_mark_published(box->node->store, box->sent[i].digest,
                                    box->sent[i].generation);
        }
    }
    pc_metrics_add(&box->node->metrics, PC_METRIC_REPUBLISHES, n_live);
    pop_moved(box, n_taken);
}

static void end_message(struct pc_outbox *box)
{
    pc_free(box->sent);
    box->sent = NULL;
    box->sending = false;
    box->n_sent = 0;
    box->n_sent_moved = 0;
    box->n_sent_live = 0;
}

static void message_done(struct pc_rpc *rpc, peercache_status_t status,
                         const struct pc_msg *reply)
{
    struct pc_outbox *box = PC_CONTAINER_OF(rpc, struct pc_outbox, rpc);
    size_t n_sent = box->n_sent;
    box->sending = false;
    if (status != PEERCACHE_OK) { /* It goes again. */
        pc_metrics_add(&box->node->metrics, PC_METRIC_PUBLISH_RETRIES, n_sent);
    }
    if (status == PEERCACHE_OK && reply->type == PC_MSG_PUBLISHED &&
        reply->u.published.n_entries == n_sent + box->n_sent_live) {
        const uint8_t *results = reply->u.published.results;
        if (reply->u.published.view != pc_ring_view(box->node->ring)) {
            pc_members_fetch(box->node, rpc->peer);
        }
        take_moved(box, results + n_sent, box->n_sent_moved, box->n_sent_live);
        take_entries(box, results, n_sent);
    } else {
        wait_and_retry(box, RETRY_NS);
    }
    end_message(box);
    send_next(box);
}

/* ---- Sending ---------------------------------------------------------- */

/* What the store holds of the next digests of the lane. Digests that it does
 * not hold (any more) need no word: their retract is queued, or was. */
static size_t take_lane(struct pc_outbox *box, struct pc_record *records,
                        size_t *n_taken_p)
{
    struct peercache_node *node = box->node;
    size_t n = 0;
    size_t n_taken = 0;
    bool due = pc_engine_now(&node->engine) >= box->moved_ns;
    while (due && n_taken < box->n_moved && n_taken < PC_MOVED_PER_MESSAGE) {
        struct pc_place place;
        if (pc_tier_held(node, *moved_at(box, n_taken), &place)) {
            pc_node_record(node, &place, &records[n++]);
        }
        n_taken++;
    }
    *n_taken_p = n_taken;
    return n;
}

static bool start_message(struct pc_outbox *box, struct pc_peer *peer,
                          struct pc_record *records, uint8_t *kinds, size_t n)
{
    struct pc_msg msg = {.type = PC_MSG_PUBLISH};
    msg.u.publish.view = pc_ring_view(box->node->ring);
    msg.u.publish.incarnation = box->node->self.incarnation;
    msg.u.publish.n_entries = (uint32_t)n;
    msg.u.publish.kinds = kinds;
    msg.u.publish.records = records;
    box->rpc.done = message_done;
    box->rpc.body = NULL;
    box->rpc.breakable = false;
    return pc_rpc_start(&box->rpc, peer, PC_LINK_CONTROL, &msg,
                        pc_engine_now(&box->node->engine) + MESSAGE_NS) ==
           PEERCACHE_OK;
}

/* Keep what the answer will be about. */
static void note_sent(struct pc_outbox *box, struct pc_record *moved,
                      size_t n_sent, size_t n_live, size_t n_taken)
{
    box->sending = true;
    box->n_sent = n_sent;
    box->n_sent_moved = n_taken;
    box->n_sent_live = n_live;
    box->sent = moved;
    if (n_taken > 0) {
        box->moved_ns = pc_engine_now(&box->node->engine) + PC_MOVED_EVERY_NS;
    }
}

static bool send_message(struct pc_outbox *box, struct pc_peer *peer)
{
    size_t n = box->n < ENTRIES_PER_MESSAGE ? box->n : ENTRIES_PER_MESSAGE;
    size_t n_taken = 0;
    size_t n_live = 0;
    size_t n_max = n + PC_MOVED_PER_MESSAGE;
    struct pc_record *records = pc_alloc(n_max, sizeof(*records));
    struct pc_record *moved = pc_alloc(PC_MOVED_PER_MESSAGE, sizeof(*moved));
    uint8_t *kinds = pc_alloc(n_max, 1);
    bool sent = false;
    if (records != NULL && kinds != NULL && moved != NULL) {
        for (size_t i = 0; i < n; i++) {
            records[i] = entry_at(box, i)->record;
            kinds[i] = entry_at(box, i)->kind;
        }
        n_live = take_lane(box, moved, &n_taken);
        for (size_t i = 0; i < n_live; i++) {
            records[n + i] = moved[i];
            kinds[n + i] = PC_PUBLISH;
        }
        if (n + n_live == 0) {
            pop_moved(box, n_taken); /* The store has none of them. */
            want_send(box);
            sent = true;
        } else if (start_message(box, peer, records, kinds, n + n_live)) {
            note_sent(box, moved, n, n_live, n_taken);
            pc_metrics_add(&box->node->metrics, PC_METRIC_PUBLISH_MESSAGES, 1);
            moved = NULL;
            sent = true;
        }
    }
    pc_free(moved);
    pc_free(records);
    pc_free(kinds);
    return sent;
}

static bool is_urgent(const struct pc_outbox *box)
{
    return box->n_settled < box->urgent || box->n >= ENTRIES_PER_MESSAGE;
}

static void linger_over(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_outbox *box = PC_CONTAINER_OF(timer, struct pc_outbox, linger);
    box->lingering = false;
    box->urgent = box->n_added;
    send_next(box);
}

/* Only retracts are queued, and moved records that are not due. */
static void wait_for_company(struct pc_outbox *box)
{
    struct pc_engine *e = &box->node->engine;
    if (box->n_moved > 0) {
        pc_engine_timer_start(e, &box->pace, box->moved_ns);
    }
    if (box->n > 0 && !box->lingering) {
        box->lingering = true;
        pc_engine_timer_start(e, &box->linger, pc_engine_now(e) + LINGER_NS);
    }
}

static void send_next(struct pc_outbox *box)
{
    struct pc_engine *e = &box->node->engine;
    if (box->sending || box->waiting || box->parked ||
        box->n + box->n_moved == 0) {
        return;
    }
    bool lane_is_due = box->n_moved > 0 && pc_engine_now(e) >= box->moved_ns;
    if (!lane_is_due && !is_urgent(box)) {
        wait_for_company(box);
        return;
    }
    struct pc_peer *peer = pc_peers_learn(&box->node->peers, &box->owner);
    if (peer == NULL || !pc_peer_is_usable(peer) || !send_message(box, peer)) {
        wait_and_retry(box, RETRY_NS);
    }
}

void pc_fifo_compare(struct pc_outbox *box)
{
    box->compare = true;
    box->compared = 0;
    box->refused = false;
}

void pc_fifo_hurry(struct pc_outbox *box)
{
    box->urgent = box->n_added;
    want_send(box);
}

void pc_fifo_step(struct peercache_node *node)
{
    struct pc_list now;
    struct pc_list *at;
    pc_list_init(&now);
    pc_list_splice_back(&now, &node->publisher.todo);
    while ((at = pc_list_pop_front(&now)) != NULL) {
        send_next(PC_CONTAINER_OF(at, struct pc_outbox, todo));
    }
}

void pc_fifo_peer_up(struct peercache_node *node, uint64_t incarnation)
{
    struct pc_outbox *box = pc_fifo_find(&node->publisher, incarnation);
    if (box != NULL && box->waiting && !box->parked) {
        pc_engine_timer_stop(&node->engine, &box->retry);
        box->waiting = false;
        send_next(box);
    }
}

/* ---- Filling ---------------------------------------------------------- */

struct pc_outbox *pc_fifo_find(const struct pc_publisher *pub,
                               uint64_t incarnation)
{
    uint64_t value;
    if (!pc_map_get(&pub->by_incarnation, pc_map_key(incarnation), &value)) {
        return NULL;
    }
    return (struct pc_outbox *)(uintptr_t)value;
}

struct pc_outbox *pc_fifo_get(struct peercache_node *node,
                              const struct pc_member *owner)
{
    struct pc_publisher *pub = &node->publisher;
    struct pc_outbox *box = pc_fifo_find(pub, owner->incarnation);
    if (box != NULL) {
        return box;
    }
    box = pc_alloc(1, sizeof(*box));
    if (box == NULL) {
        return NULL;
    }
    box->node = node;
    box->owner = *owner;
    pc_list_init(&box->todo);
    pc_engine_timer_init(&box->retry, retry_now);
    pc_engine_timer_init(&box->pace, pace_over);
    pc_engine_timer_init(&box->linger, linger_over);
    if (!pc_map_put(&pub->by_incarnation, pc_map_key(owner->incarnation),
                    (uint64_t)(uintptr_t)box)) {
        pc_free(box);
        return NULL;
    }
    pc_list_push_back(&pub->outboxes, &box->link);
    return box;
}

static bool grow_entries(struct pc_outbox *box)
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

static bool grow_lane(struct pc_outbox *box)
{
    size_t capacity = box->moved_capacity == 0 ? 64 : box->moved_capacity * 2;
    if (capacity > PC_MOVED_MAX) {
        return false;
    }
    struct pc_digest *moved = pc_alloc(capacity, sizeof(*moved));
    if (moved == NULL) {
        return false;
    }
    for (size_t i = 0; i < box->n_moved; i++) {
        moved[i] = *moved_at(box, i);
    }
    pc_free(box->moved);
    box->moved = moved;
    box->moved_capacity = capacity;
    box->moved_head = 0;
    return true;
}

bool pc_fifo_add(struct peercache_node *node, const struct pc_member *owner,
                 uint8_t kind, const struct pc_record *record,
                 struct pc_publication *publication)
{
    struct pc_outbox *box = pc_fifo_get(node, owner);
    if (box == NULL || box->parked ||
        (box->n == box->capacity && !grow_entries(box))) {
        pc_metrics_add(&node->metrics, PC_METRIC_FIFO_DROPPED, 1);
        if (box != NULL) {
            pc_fifo_compare(box);
        } else {
            pc_repair_all(node);
        }
        return false;
    }
    struct pc_outbox_entry *entry = entry_at(box, box->n);
    entry->record = *record;
    entry->kind = kind;
    entry->publication = publication;
    box->n++;
    box->n_added++;
    box->n_waited += publication != NULL;
    if (kind == PC_PUBLISH && !pc_record_is_on_disk(record)) {
        box->urgent = box->n_added; /* That of the disk replaces one there. */
    }
    node->publisher.n_entries++;
    want_send(box);
    return true;
}

bool pc_fifo_move(struct peercache_node *node, const struct pc_member *owner,
                  struct pc_digest digest)
{
    struct pc_outbox *box = pc_fifo_get(node, owner);
    if (box == NULL || box->parked ||
        (box->n_moved == box->moved_capacity && !grow_lane(box))) {
        return false;
    }
    *moved_at(box, box->n_moved++) = digest;
    node->publisher.n_moved++;
    want_send(box);
    return true;
}

/* ---- Changes of view -------------------------------------------------- */

static void stop_sending(struct pc_outbox *box)
{
    struct pc_engine *e = &box->node->engine;
    if (box->sending) {
        (void)pc_rpc_stop(&box->rpc, PEERCACHE_CANCELED);
        end_message(box);
    }
    pc_engine_timer_stop(e, &box->retry);
    pc_engine_timer_stop(e, &box->pace);
    pc_engine_timer_stop(e, &box->linger);
    box->lingering = false;
    box->waiting = false;
    pc_list_remove(&box->todo);
}

static void outbox_free(struct pc_outbox *box)
{
    struct pc_publisher *pub = &box->node->publisher;
    pc_barrier_lift(box->node, box->owner.incarnation);
    stop_sending(box);
    if (box->parked) {
        pub->n_parked -= box->n;
        pub->n_entries += box->n;
    }
    while (box->n_waited > 0) {
        pop_entry(box, false, false);
    }
    pub->n_entries -= box->n; /* Nobody is told of the rest. */
    box->n = 0;
    if (box->n_moved > 0) {
        pop_moved(box, box->n_moved);
    }
    pc_list_remove(&box->link);
    (void)pc_map_remove(&pub->by_incarnation,
                        pc_map_key(box->owner.incarnation));
    pc_free(box->moved);
    pc_free(box->entries);
    pc_free(box);
}

static void parked_for_long(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    outbox_free(PC_CONTAINER_OF(timer, struct pc_outbox, retry));
}

/* Whoever waits for it does so no more; the entries stay. A long FIFO takes
 * several turns; should the owner be back before, the rest is waited for as
 * ever. */
static void park_some(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_outbox *box = PC_CONTAINER_OF(timer, struct pc_outbox, pace);
    struct peercache_node *node = box->node;
    for (size_t i = 0; i < PARK_PER_TURN && box->n_waited > 0; i++) {
        struct pc_outbox_entry *entry = entry_at(box, box->n_unwaited++);
        struct pc_publication *p = entry->publication;
        entry->publication = NULL;
        if (p != NULL) {
            box->n_waited--;
            pc_publish_settled(node, p, box->owner.incarnation, false, false);
        }
    }
    if (box->n_waited > 0) {
        pc_engine_timer_start(&node->engine, timer, now_ns + 1);
    }
}

static void park(struct pc_outbox *box)
{
    struct peercache_node *node = box->node;
    uint64_t now_ns = pc_engine_now(&node->engine);
    stop_sending(box);
    pc_barrier_lift(node, box->owner.incarnation);
    box->parked = true;
    node->publisher.n_entries -= box->n;
    node->publisher.n_parked += box->n;
    /* What moves is found again by comparing. */
    if (box->n_moved > 0) {
        pop_moved(box, box->n_moved);
    }
    pc_engine_timer_init(&box->retry, parked_for_long);
    pc_engine_timer_start(&node->engine, &box->retry, now_ns + PARKED_NS);
    pc_engine_timer_init(&box->pace, park_some);
    box->n_unwaited = 0;
    park_some(&box->pace, now_ns);
}

static void unpark(struct pc_outbox *box)
{
    struct peercache_node *node = box->node;
    pc_engine_timer_stop(&node->engine, &box->retry);
    pc_engine_timer_init(&box->retry, retry_now);
    pc_engine_timer_stop(&node->engine, &box->pace);
    pc_engine_timer_init(&box->pace, pace_over);
    box->parked = false;
    pc_fifo_compare(box);
    node->publisher.n_parked -= box->n;
    node->publisher.n_entries += box->n;
    want_send(box);
}

/* Dead by the others' word, but it may say otherwise. */
static bool may_come_back(const struct pc_outbox *box)
{
    const struct pc_member *member =
        pc_cluster_find(box->node->cluster, box->owner.incarnation);
    return member != NULL && member->state == PC_MEMBER_DEAD &&
           member->incarnation == box->owner.incarnation;
}

static bool is_named(const struct pc_ring *ring, uint64_t incarnation)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(ring, &n);
    for (size_t i = 0; i < n; i++) {
        if (members[i].incarnation == incarnation) {
            return true;
        }
    }
    return false;
}

/* Nobody tells of it, and no view that is asked names it (any more): one that
 * was known by another cluster's former view only. Nobody will ask it for
 * records of ours. Unknown is not dead: while a view names it, it is told. */
static bool is_forgotten(const struct pc_outbox *box)
{
    const struct peercache_node *node = box->node;
    uint64_t who = box->owner.incarnation;
    if (pc_cluster_find(node->cluster, who) != NULL ||
        is_named(node->ring, who)) {
        return false;
    }
    for (size_t i = 0; i < node->republish.n_bases; i++) {
        if (is_named(node->republish.bases[i], who)) {
            return false;
        }
    }
    for (size_t i = 0; i < node->n_former; i++) {
        if (is_named(node->former[i].ring, who)) {
            return false;
        }
    }
    return true;
}

/* False: its owner never comes back, and it is gone. */
static bool follow_owner(struct pc_outbox *box)
{
    bool over = pc_node_is_over(box->node, &box->owner);
    if ((over && !may_come_back(box)) || is_forgotten(box)) {
        outbox_free(box);
        return false;
    }
    if (over && !box->parked) {
        park(box);
    } else if (!over && box->parked) {
        unpark(box);
    }
    return true;
}

void pc_fifo_view(struct peercache_node *node)
{
    struct pc_list *at = node->publisher.outboxes.next;
    while (at != &node->publisher.outboxes) {
        struct pc_outbox *box = PC_CONTAINER_OF(at, struct pc_outbox, link);
        at = at->next;
        (void)follow_owner(box);
    }
}

void pc_fifo_fini(struct peercache_node *node)
{
    struct pc_list *outboxes = &node->publisher.outboxes;
    while (!pc_list_is_empty(outboxes)) {
        outbox_free(PC_CONTAINER_OF(outboxes->next, struct pc_outbox, link));
    }
}
