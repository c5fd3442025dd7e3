#include "repair_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#define ROUND_NS     (10 * PC_S)
#define QUIET_NS     (60 * PC_S)
#define PER_OWNER_NS (50 * PC_MS)
#define SOONER_NS    (2 * PC_S)
#define URGENT_NS    (100 * PC_MS)
/* A slice of a walk: some hundred microseconds each millisecond. */
#define SLICE    512
#define SLICE_NS PC_MS
/* Records of one owner that are listed in one round. */
#define LISTED_MAX 65536

static void wake(struct peercache_node *node, uint64_t in_ns)
{
    struct pc_repair *r = &node->repair;
    pc_engine_timer_start(&node->engine, &r->timer,
                          pc_engine_now(&node->engine) + in_ns);
}

/* ---- Rounds ----------------------------------------------------------- */

static void with_free(struct pc_repair_with *w)
{
    if (w->under_way) {
        (void)pc_rpc_stop(&w->rpc, PEERCACHE_CANCELED);
    }
    pc_engine_timer_stop(&w->node->engine, &w->wait);
    pc_list_remove(&w->ask);
    pc_list_remove(&w->link);
    pc_map_fini(&w->listed);
    pc_free(w);
}

/* Who was urgent and is not done stays so; the next round is for the ranges
 * that this one left out. What an owner has no room for is not urgent. */
static void note_compared(const struct pc_repair_with *w, bool done)
{
    struct pc_outbox *box = pc_repair_box(w);
    if (box == NULL || !w->urgent) {
        return;
    }
    bool tried = done && !w->again && (!w->full || box->refused);
    if (!done || box->compare || (tried && !w->more)) {
        box->compared = 0; /* All anew, or nothing more. */
    } else if (tried) {
        box->compared |= w->act;
    }
    box->compare = box->compare || !tried || w->more;
}

/* Ends the round, done or not. */
static void end_round(struct peercache_node *node, bool done)
{
    struct pc_repair *r = &node->repair;
    while (!pc_list_is_empty(&r->withs)) {
        struct pc_repair_with *w =
            PC_CONTAINER_OF(r->withs.next, struct pc_repair_with, link);
        r->equal = r->equal && done && !w->again && w->act == 0;
        note_compared(w, done);
        with_free(w);
    }
    pc_free(r->with);
    r->with = NULL;
    pc_ring_unref(r->ring);
    r->ring = NULL;
    r->n_open = 0;
    r->n_under_way = 0;
    r->n_urgent = 0;
    r->phase = PC_REPAIR_IDLE;
}

static uint64_t jittered(struct peercache_node *node, uint64_t ns)
{
    return ns - ns / 10 + pc_rand_below(&node->random, ns / 5 + 1);
}

static void schedule(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    uint64_t now = pc_engine_now(&node->engine);
    uint64_t round = r->sooner ? SOONER_NS : ROUND_NS;
    uint64_t least = PER_OWNER_NS * node->publisher.by_incarnation.n_used;
    r->next_ns = now + jittered(node, round > least ? round : least);
    r->sooner = false;
    wake(node, pc_repair_is_urgent(node) ? URGENT_NS : r->next_ns - now);
}

bool pc_repair_is_urgent(const struct peercache_node *node)
{
    const struct pc_repair *r = &node->repair;
    const struct pc_list *head = &node->publisher.outboxes;
    if (r->all || r->n_urgent > 0) {
        return true;
    }
    for (const struct pc_list *at = head->next; at != head; at = at->next) {
        const struct pc_outbox *box =
            PC_CONTAINER_OF(at, struct pc_outbox, link);
        size_t place;
        if (box->compare && !box->parked &&
            pc_ring_place(node->ring, &box->owner, &place)) {
            return true;
        }
    }
    return false;
}

/* Something was lost on the way to memory, or to all: mark everybody. */
static void mark_all(struct peercache_node *node)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(node->ring, &n);
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        if (members[i].incarnation != node->self.incarnation &&
            members[i].state == PC_MEMBER_ALIVE &&
            members[i].role != PC_ROLE_CLIENT) {
            struct pc_outbox *box = pc_fifo_get(node, &members[i]);
            all = all && box != NULL;
            if (box != NULL) {
                pc_fifo_compare(box);
            }
        }
    }
    node->repair.all = !all;
}

static bool add_with(struct peercache_node *node, struct pc_outbox *box,
                     size_t place)
{
    struct pc_repair *r = &node->repair;
    struct pc_repair_with *w = pc_alloc(1, sizeof(*w));
    if (w == NULL) {
        return false;
    }
    w->node = node;
    w->owner = box->owner;
    w->urgent = box->compare;
    box->compare = false;
    pc_map_init(&w->listed);
    pc_list_init(&w->ask);
    pc_engine_timer_init(&w->wait, pc_repair_ask_again);
    pc_list_push_back(&r->withs, &w->link);
    r->with[place] = w;
    r->n_open++;
    r->n_urgent += w->urgent;
    return true;
}

static bool can_be_asked(struct peercache_node *node,
                         const struct pc_outbox *box)
{
    struct pc_peer *peer = NULL;
    if (!box->parked && box->n_moved == 0) {
        peer = pc_peers_learn(&node->peers, &box->owner);
    }
    return peer != NULL && pc_peer_is_usable(peer);
}

/* Who is compared in this round: all to whom nothing is on its way, or only
 * those who must be at once. */
static bool choose(struct peercache_node *node, bool all)
{
    struct pc_repair *r = &node->repair;
    struct pc_list *head = &node->publisher.outboxes;
    for (struct pc_list *at = head->next; at != head; at = at->next) {
        struct pc_outbox *box = PC_CONTAINER_OF(at, struct pc_outbox, link);
        size_t place;
        if ((!all && !box->compare) ||
            !pc_ring_place(r->ring, &box->owner, &place)) {
            continue;
        }
        if (!can_be_asked(node, box)) {
            r->equal = false; /* Nobody knows. */
        } else if (!add_with(node, box, place)) {
            return false;
        }
    }
    return true;
}

uint64_t pc_repair_state(const struct peercache_node *node)
{
    return pc_store_newest(node->store) + node->publisher.n_retracted +
           pc_ring_view(node->ring);
}

static bool is_quiet(const struct peercache_node *node)
{
    const struct pc_repair *r = &node->repair;
    return r->equal && r->equal_at == pc_repair_state(node) &&
           pc_engine_now(&node->engine) - r->equal_ns < QUIET_NS;
}

static void start_round(struct peercache_node *node, bool all)
{
    struct pc_repair *r = &node->repair;
    size_t n;
    (void)pc_ring_members(node->ring, &n);
    r->ring = pc_ring_ref(node->ring);
    r->highest = pc_store_newest(node->store);
    r->at = 0;
    r->equal = all;
    r->equal_ns = pc_engine_now(&node->engine);
    r->equal_at = pc_repair_state(node);
    r->phase = PC_REPAIR_SUMMING;
    r->with = pc_alloc(n + 1, sizeof(struct pc_repair_with *));
    if (r->with == NULL || !choose(node, all)) {
        end_round(node, false); /* No memory: the next round. */
        schedule(node);
        return;
    }
    if (!all && r->n_open == 0) {
        /* Those who must be compared cannot be asked now: no walk for nothing.
         */
        end_round(node, false);
        wake(node, URGENT_NS);
        return;
    }
    pc_metrics_add(&node->metrics, PC_METRIC_REPAIR_ROUNDS, 1);
    wake(node, 0);
}

/* ---- Walks ------------------------------------------------------------ */

/* Our own shard needs no message: what is missing there is put there. */
static void sum_place(struct peercache_node *node, const struct pc_place *place)
{
    struct pc_repair *r = &node->repair;
    struct pc_owners owners;
    struct pc_record record;
    size_t n;
    const struct pc_member *members = pc_ring_members(r->ring, &n);
    pc_ring_owners(r->ring, place->digest, &owners);
    pc_node_record(node, place, &record);
    for (uint32_t i = 0; i < owners.n; i++) {
        struct pc_repair_with *w = r->with[owners.index[i]];
        if (w != NULL) {
            pc_summary_add(&w->sums, &record, 1);
        } else if (members[owners.index[i]].incarnation ==
                   node->self.incarnation) {
            (void)pc_shard_publish(node->shard, &record);
        }
    }
}

/* The owner did not list it: it goes there. */
static void find_place(struct peercache_node *node,
                       const struct pc_place *place)
{
    struct pc_repair *r = &node->repair;
    struct pc_owners owners;
    pc_ring_owners(r->ring, place->digest, &owners);
    uint64_t range = (uint64_t)1 << pc_summary_range(place->digest);
    for (uint32_t i = 0; i < owners.n; i++) {
        struct pc_repair_with *w = r->with[owners.index[i]];
        uint64_t generation;
        if (w == NULL || (w->act & range) == 0 ||
            (pc_map_get(&w->listed, place->digest, &generation) &&
             generation >= place->generation)) {
            continue;
        }
        pc_metrics_add(&node->metrics, PC_METRIC_REPAIR_MISSING, 1);
        if (!pc_fifo_move(node, &w->owner, place->digest)) {
            w->full = true;
        }
    }
}

/* True: the walk has come to its end. */
static bool walk_some(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    struct pc_place places[SLICE];
    size_t n = 0;
    bool more = !node->client && pc_tier_walk(node, &r->at, SLICE, places, &n);
    for (size_t i = 0; i < n; i++) {
        if (places[i].generation > r->highest) {
            continue;
        }
        if (r->phase == PC_REPAIR_SUMMING) {
            sum_place(node, &places[i]);
        } else {
            find_place(node, &places[i]);
        }
    }
    return !more;
}

/* ---- The end of a round ------------------------------------------------ */

static void finish_round(struct peercache_node *node)
{
    end_round(node, true);
    schedule(node);
}

/* Every owner has said what it has. */
void pc_repair_asked(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    bool any = false;
    for (struct pc_list *at = r->withs.next; at != &r->withs; at = at->next) {
        any = any || PC_CONTAINER_OF(at, struct pc_repair_with, link)->act != 0;
    }
    if (any) {
        r->phase = PC_REPAIR_FINDING;
        r->at = 0;
        wake(node, 0);
    } else {
        finish_round(node);
    }
}

/* ---- The timer -------------------------------------------------------- */

static void idle(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    uint64_t now = pc_engine_now(&node->engine);
    if (r->all) {
        mark_all(node);
    }
    if (node->republish.listing) {
        wake(node, URGENT_NS); /* What is found missing then is on its way. */
    } else if (now >= r->next_ns && is_quiet(node)) {
        schedule(node);
    } else if (now >= r->next_ns && node->republish.to == NULL) {
        start_round(node, true);
    } else if (pc_repair_is_urgent(node)) {
        start_round(node, false);
    } else {
        wake(node, now >= r->next_ns ? URGENT_NS : r->next_ns - now);
    }
}

static void go_on(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_repair *r = PC_CONTAINER_OF(timer, struct pc_repair, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(r, struct peercache_node, repair);
    (void)now_ns;
    switch (r->phase) {
    case PC_REPAIR_IDLE:
        idle(node);
        break;
    case PC_REPAIR_ASKING:
        break;
    default:
        if (!walk_some(node)) {
            wake(node, SLICE_NS);
        } else if (r->phase == PC_REPAIR_SUMMING) {
            pc_repair_ask(node);
        } else {
            finish_round(node);
        }
        break;
    }
}

void pc_repair_view(struct peercache_node *node)
{
    if (node->repair.phase != PC_REPAIR_IDLE) {
        end_round(node, false);
    }
    wake(node, pc_repair_is_urgent(node) ? SLICE_NS : SOONER_NS);
}

void pc_repair_all(struct peercache_node *node)
{
    node->repair.all = true;
    if (node->repair.phase == PC_REPAIR_IDLE) {
        wake(node, 0);
    }
}

void pc_repair_start(struct peercache_node *node)
{
    schedule(node);
}

void pc_repair_init(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    pc_list_init(&r->withs);
    pc_list_init(&r->asking);
    r->listed_max = LISTED_MAX;
    pc_engine_timer_init(&r->timer, go_on);
}

void pc_repair_fini(struct peercache_node *node)
{
    end_round(node, false);
    pc_engine_timer_stop(&node->engine, &node->repair.timer);
}
