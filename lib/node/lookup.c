#include "lookup.h"

#include "base/mem.h"
#include "directory/plan.h"
#include "node/node.h"

#include <string.h>

#define AGAIN_MIN_NS (5 * PC_MS)
#define AGAIN_MAX_NS (80 * PC_MS)
/* A round waits so long for the one before, where nothing is hedged. */
#define ROUND_NS (3 * PC_MS)

/* One message to one owner. */
struct ask
{
    struct pc_rpc rpc;
    struct pc_list link; /* lookup->rpcs */
    struct pc_lookup *lookup;
    uint64_t target;
    bool hedge; /* Beside a first owner that is slow. */
    uint32_t n_keys;
    uint32_t keys[];
};

static void step_key(struct pc_lookup *l, uint32_t k, struct pc_plan *plan);
static void start_hedge(struct pc_lookup *l);
static void send_plan(struct pc_lookup *l, struct pc_plan *plan);

/* ---- Whom to ask ------------------------------------------------------ */

static void add_owners(struct pc_lookup_key *key, const struct pc_ring *ring,
                       const struct peercache_node *node)
{
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(ring, &n_members);
    pc_ring_owners(ring, key->digest, &owners);
    for (uint32_t i = 0; i < owners.n; i++) {
        uint64_t incarnation = members[owners.index[i]].incarnation;
        bool known = false;
        for (uint32_t t = 0; t < key->n_targets; t++) {
            known = known || key->targets[t] == incarnation;
        }
        if (!known && key->n_targets < PC_LOOKUP_TARGETS_MAX &&
            !pc_node_is_over(node, &members[owners.index[i]])) {
            key->targets[key->n_targets++] = incarnation;
        }
    }
}

void pc_lookup_targets(const struct peercache_node *node,
                       struct pc_lookup_key *key)
{
    key->n_targets = 0;
    add_owners(key, node->ring, node);
    key->n_current = key->n_targets;
    for (size_t i = 0; i < node->n_former; i++) {
        add_owners(key, node->former[i].ring, node);
    }
}

static void set_targets(struct pc_lookup *l, struct pc_lookup_key *key)
{
    key->asked = 0;
    key->failed = 0;
    key->open = 0;
    key->again = false;
    l->n_parked -= key->parked;
    key->parked = false;
    pc_lookup_targets(l->node, key);
}

/* Records whose holder is not known to be dead (rule 4: unknown is not), and
 * that the asker has not tried in vain: an owner that knows nothing else must
 * not keep it from asking the others. */
static size_t keep_live(struct pc_lookup *l, const struct pc_lookup_key *key,
                        struct pc_record *records, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!pc_node_is_dead(l->node, records[i].incarnation) &&
            (l->is_spent == NULL || !l->is_spent(l, key->user, &records[i]))) {
            records[kept++] = records[i];
        }
    }
    return kept;
}

/* ---- Answers ---------------------------------------------------------- */

static void end_key(struct pc_lookup *l, struct pc_lookup_key *key,
                    enum pc_lookup_answer answer)
{
    if (key->ended) {
        return;
    }
    key->ended = true;
    l->n_open--;
    l->ended(l, key->user, answer);
}

static void positive(struct pc_lookup *l, struct pc_lookup_key *key,
                     const struct pc_record *records, size_t n)
{
    if (key->ended) {
        return;
    }
    key->found = true;
    l->found(l, key->user, records, n);
    if (l->how != PC_LOOKUP_ALL) {
        end_key(l, key, PC_LOOKUP_FOUND);
    }
}

static void schedule_again(struct pc_lookup *l)
{
    if (l->again.node.index != 0) {
        return;
    }
    l->again_ns = l->again_ns == 0 ? AGAIN_MIN_NS : l->again_ns * 2;
    if (l->again_ns > AGAIN_MAX_NS) {
        l->again_ns = AGAIN_MAX_NS;
    }
    struct pc_engine *e = &l->node->engine;
    pc_engine_timer_start(e, &l->again, pc_engine_now(e) + l->again_ns);
}

/* Nobody is being asked about the key and nobody is left to ask. */
static void conclude(struct pc_lookup *l, struct pc_lookup_key *key)
{
    if (key->found) {
        end_key(l, key, key->failed != 0 ? PC_LOOKUP_PARTLY : PC_LOOKUP_FOUND);
        return;
    }
    if (key->again && l->how != PC_LOOKUP_HINT) {
        schedule_again(l); /* Under a newer view, or with more room. */
        return;
    }
    bool heard = (key->asked & ~key->failed) != 0;
    enum pc_lookup_answer answer =
        heard ? PC_LOOKUP_ABSENT : PC_LOOKUP_UNREACHABLE;
    if (heard && key->failed != 0 && l->how == PC_LOOKUP_ALL) {
        answer = PC_LOOKUP_PARTLY;
    }
    end_key(l, key, answer);
}

/* After an answer: tell the asker how far it is. */
static void report(struct pc_lookup *l)
{
    l->starting = false;
    if (!l->active) {
        return;
    }
    if (l->n_open == 0) {
        pc_lookup_stop(l);
        l->finished(l);
    } else {
        l->progress(l);
    }
}

static uint32_t target_bit(const struct pc_lookup_key *key, uint64_t target)
{
    for (uint32_t t = 0; t < key->n_targets; t++) {
        if (key->targets[t] == target) {
            return 1u << t;
        }
    }
    return 0;
}

static void learn_holders(struct peercache_node *node,
                          const struct pc_msg_found *found)
{
    for (uint32_t i = 0; i < found->n_holders; i++) {
        if (!pc_node_is_dead(node, found->holders[i].incarnation)) {
            (void)pc_peers_learn(&node->peers, &found->holders[i]);
        }
    }
}

static void take_answer(struct ask *ask, const struct pc_msg_found *found)
{
    struct pc_lookup *l = ask->lookup;
    struct pc_record *records = found->records;
    for (uint32_t i = 0; i < ask->n_keys; i++) {
        struct pc_lookup_key *key = &l->keys[ask->keys[i]];
        size_t n = found->counts[i];
        size_t live = 0;
        for (size_t r = 0; r < n; r++) {
            /* A record of another key is a peer's lie, not an answer. */
            if (!pc_digest_equal(records[r].digest, key->digest)) {
                records[r].incarnation = 0;
            } else {
                records[live++] = records[r];
            }
        }
        live = keep_live(l, key, records, live);
        key->open &= ~target_bit(key, ask->target);
        if (live > 0) {
            positive(l, key, records, live);
        } else if (found->wrong_view && !key->ended) {
            key->again = true;
            schedule_again(l);
        } else if (l->how == PC_LOOKUP_HINT) {
            end_key(l, key, PC_LOOKUP_ABSENT);
        }
        records += n;
    }
}

/* A connection that broke just now is no answer of an owner that is gone. */
static bool is_returning(const struct pc_peer *peer)
{
    return peer != NULL && pc_peer_is_returning(peer);
}

static bool has_more(const struct pc_lookup_key *key)
{
    return key->asked != (1u << key->n_targets) - 1;
}

/* Keys that one owner does not know go to the others in one round, when all of
 * the first round have answered or had their time: each answer on its own would
 * make messages of its own. */
static void unpark(struct pc_lookup *l, struct pc_plan *plan)
{
    for (uint32_t k = 0; k < l->n_keys && l->n_parked > 0; k++) {
        struct pc_lookup_key *key = &l->keys[k];
        if (!key->parked) {
            continue;
        }
        key->parked = false;
        l->n_parked--;
        if (!key->ended) {
            step_key(l, k, plan);
        }
    }
}

static void ask_done(struct pc_rpc *rpc, peercache_status_t status,
                     const struct pc_msg *reply)
{
    struct ask *ask = PC_CONTAINER_OF(rpc, struct ask, rpc);
    struct pc_lookup *l = ask->lookup;
    struct peercache_node *node = l->node;
    size_t n_open = l->n_open;
    bool good = status == PEERCACHE_OK && reply->type == PC_MSG_FOUND &&
                reply->u.found.n_keys == ask->n_keys;
    pc_list_remove(&ask->link);
    l->starting = true; /* Callbacks must not finish it under us. */
    if (good) {
        learn_holders(node, &reply->u.found);
        take_answer(ask, &reply->u.found);
        if (reply->u.found.wrong_view) {
            pc_metrics_add(&node->metrics, PC_METRIC_WRONG_VIEW, 1);
            pc_members_fetch(node, ask->rpc.peer);
        }
        if (ask->hedge && l->n_open < n_open) {
            pc_metrics_add(&node->metrics, PC_METRIC_HEDGES_WON, 1);
        }
    }
    struct pc_plan plan;
    pc_plan_init(&plan);
    for (uint32_t i = 0; i < ask->n_keys; i++) {
        struct pc_lookup_key *key = &l->keys[ask->keys[i]];
        if (!good) {
            uint32_t bit = target_bit(key, ask->target);
            key->failed |= bit & key->open;
            key->open &= ~bit;
            key->again = key->again || is_returning(ask->rpc.peer);
        }
        if (!key->ended && good && has_more(key)) {
            l->n_parked += !key->parked;
            key->parked = true;
        } else if (!key->ended) {
            step_key(l, ask->keys[i], &plan);
        }
    }
    PC_ASSERT(l->active); /* found and ended do not stop it. */
    if (pc_list_is_empty(&l->rpcs)) {
        unpark(l, &plan);
    }
    send_plan(l, &plan);
    start_hedge(l);
    pc_plan_fini(&plan);
    pc_free(ask);
    report(l);
}

/* ---- Asking ----------------------------------------------------------- */

static bool own_shard(struct pc_lookup *l, struct pc_lookup_key *key)
{
    struct peercache_node *node = l->node;
    uint32_t bit = target_bit(key, node->self.incarnation);
    if (bit == 0 || (key->asked & bit) != 0) {
        return false;
    }
    key->asked |= bit;
    struct pc_record records[PC_HOLDERS_PER_KEY];
    size_t n = pc_holders_find(node, key->digest, &node->self, records);
    n = keep_live(l, key, records, n);
    if (n > 0) {
        positive(l, key, records, n);
    } else if (l->how == PC_LOOKUP_HINT) {
        end_key(l, key, PC_LOOKUP_ABSENT);
    }
    return true;
}

/* Put one more target of the key on the plan; false: it cannot be asked. */
static bool plan_target(struct pc_lookup *l, uint32_t k, uint32_t t,
                        struct pc_plan *plan)
{
    struct pc_lookup_key *key = &l->keys[k];
    uint32_t bit = 1u << t;
    struct pc_peer *peer = pc_peers_find(&l->node->peers, key->targets[t]);
    key->asked |= bit;
    if (peer == NULL || !pc_peer_is_usable(peer) ||
        !pc_plan_add(plan, key->targets[t], k)) {
        key->failed |= bit;
        key->again = key->again || is_returning(peer);
        return false;
    }
    key->open |= bit;
    return true;
}

/* What comes next for a key of which nothing (more) is positive. */
static void step_key(struct pc_lookup *l, uint32_t k, struct pc_plan *plan)
{
    struct pc_lookup_key *key = &l->keys[k];
    bool first = key->asked == 0;
    bool self = own_shard(l, key);
    if (key->ended) {
        return;
    }
    /* At first one owner, the nearest that can be asked; after an absence, or
     * when all must be asked, every other one at once. */
    bool one = first && !self && l->how != PC_LOOKUP_ALL;
    for (uint32_t t = 0; t < key->n_targets; t++) {
        if ((key->asked & (1u << t)) == 0 && plan_target(l, k, t, plan) &&
            (one || l->how == PC_LOOKUP_HINT)) {
            break;
        }
    }
    if (key->open == 0) {
        conclude(l, key);
    }
}

/* Keys of a group that the target owns by the current view, or (former) those
 * that it only owned by an older one: plain absence means something else for
 * them, so they do not share a message. */
static uint32_t pick_keys(const struct pc_lookup *l, const struct pc_plan *plan,
                          const struct pc_plan_group *group, bool former,
                          uint32_t *keys)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < group->n_keys; i++) {
        uint32_t k = plan->keys[group->first + i];
        const struct pc_lookup_key *key = &l->keys[k];
        uint32_t bit = target_bit(key, group->target);
        if ((bit >= 1u << key->n_current) == former) {
            keys[n++] = k;
        }
    }
    return n;
}

/* Ten ordinary messages pay for one hedge. */
static void spend(const struct ask *ask)
{
    struct peercache_node *node = ask->lookup->node;
    if (ask->hedge) {
        node->hedge_budget -= 10;
        pc_metrics_add(&node->metrics, PC_METRIC_HEDGES, 1);
    } else if (node->hedge_budget < PC_HEDGE_BUDGET_MAX) {
        node->hedge_budget++;
    }
}

static peercache_status_t send_ask(struct pc_lookup *l, struct ask *ask,
                                   bool former)
{
    struct peercache_node *node = l->node;
    struct pc_peer *peer = pc_peers_find(&node->peers, ask->target);
    struct pc_digest *digests = pc_alloc(ask->n_keys, sizeof(*digests));
    peercache_status_t status = PEERCACHE_UNREACHABLE;
    if (digests == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    for (uint32_t i = 0; i < ask->n_keys; i++) {
        digests[i] = l->keys[ask->keys[i]].digest;
    }
    ask->lookup = l;
    ask->rpc.done = ask_done;
    ask->rpc.body = NULL;
    ask->rpc.breakable = true;
    struct pc_msg msg = {.type = PC_MSG_LOOKUP};
    msg.u.lookup.view = pc_ring_view(node->ring);
    msg.u.lookup.flags = former ? PC_LOOKUP_FORMER : 0;
    msg.u.lookup.n_keys = ask->n_keys;
    msg.u.lookup.digests = digests;
    if (peer != NULL) {
        /* Its operation ends it: were both to end at the same time, silence
         * would be taken for an answer now and then. */
        status = pc_rpc_start(&ask->rpc, peer, PC_LINK_CONTROL, &msg,
                              l->deadline_ns + PC_S);
    }
    pc_free(digests);
    if (status == PEERCACHE_OK) {
        pc_list_push_back(&l->rpcs, &ask->link);
        pc_metrics_add(&node->metrics, PC_METRIC_LOOKUP_REQUESTS, 1);
        spend(ask);
    }
    return status;
}

/* The message could not be sent: its keys may need other owners, or another
 * try when it was our own lack of room. */
static void not_sent(struct pc_lookup *l, const struct pc_plan *plan,
                     const struct pc_plan_group *group, bool former,
                     peercache_status_t status, struct pc_plan *next)
{
    for (uint32_t i = 0; i < group->n_keys; i++) {
        uint32_t k = plan->keys[group->first + i];
        struct pc_lookup_key *key = &l->keys[k];
        uint32_t bit = target_bit(key, group->target);
        if ((bit >= 1u << key->n_current) != former || key->ended) {
            continue;
        }
        key->open &= ~bit;
        key->failed |= bit;
        if (status != PEERCACHE_UNREACHABLE) {
            key->again = true; /* No answer: not an absence. */
        }
        step_key(l, k, next);
    }
}

static void send_group(struct pc_lookup *l, const struct pc_plan *plan,
                       const struct pc_plan_group *group, bool former,
                       struct pc_plan *next)
{
    struct ask *ask =
        pc_alloc(1, sizeof(*ask) + group->n_keys * sizeof(ask->keys[0]));
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (ask != NULL) {
        ask->target = group->target;
        ask->hedge = l->hedging;
        ask->n_keys = pick_keys(l, plan, group, former, ask->keys);
        if (ask->n_keys == 0) {
            pc_free(ask);
            return;
        }
        status = send_ask(l, ask, former);
    }
    if (status != PEERCACHE_OK) {
        pc_free(ask);
        not_sent(l, plan, group, former, status, next);
    }
}

/* Send what is planned. What cannot be sent has failed, and its keys may need
 * other owners: so plan again until nothing is left to plan. */
static void send_plan(struct pc_lookup *l, struct pc_plan *plan)
{
    while (plan->n_pending > 0) {
        struct pc_plan next;
        pc_plan_init(&next);
        bool planned = pc_plan_finish(plan, PC_KEYS_PER_REQUEST / 8);
        for (size_t g = 0; planned && g < plan->n_groups; g++) {
            send_group(l, plan, &plan->groups[g], false, &next);
            send_group(l, plan, &plan->groups[g], true, &next);
        }
        for (size_t i = 0; !planned && i < plan->n_pending; i++) {
            struct pc_lookup_key *key = &l->keys[plan->pending_key[i]];
            key->open = 0;
            key->failed = key->asked;
            conclude(l, key);
        }
        pc_plan_fini(plan);
        *plan = next;
    }
}

static void ask_again(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_lookup *l = PC_CONTAINER_OF(timer, struct pc_lookup, again);
    struct pc_plan plan;
    uint64_t n = 0;
    pc_plan_init(&plan);
    l->starting = true;
    for (uint32_t k = 0; k < l->n_keys; k++) {
        struct pc_lookup_key *key = &l->keys[k];
        if (!key->ended && key->again && key->open == 0) {
            set_targets(l, key);
            step_key(l, k, &plan);
            n++;
        }
    }
    pc_metrics_add(&l->node->metrics, PC_METRIC_LOOKUPS_AGAIN, n);
    send_plan(l, &plan);
    pc_plan_fini(&plan);
    start_hedge(l);
    report(l);
}

/* ---- Hedges ----------------------------------------------------------- */

/* An owner of the key is being asked, and there is another who was not yet. */
static bool next_owner(const struct pc_lookup_key *key, uint32_t *t_p)
{
    if (key->ended || key->open == 0) {
        return false;
    }
    for (uint32_t t = 0; t < key->n_current; t++) {
        if ((key->asked & (1u << t)) == 0) {
            *t_p = t;
            return true;
        }
    }
    return false;
}

static void start_hedge(struct pc_lookup *l)
{
    struct pc_engine *e = &l->node->engine;
    uint64_t after_ns = l->node->settings.hedge_ns;
    uint32_t t;
    bool any = l->n_parked > 0;
    if (l->hedge.node.index != 0) {
        return;
    }
    for (size_t k = 0; k < l->n_keys && !any && after_ns > 0; k++) {
        any = next_owner(&l->keys[k], &t);
    }
    if (any) {
        after_ns = after_ns > 0 ? after_ns : ROUND_NS;
        pc_engine_timer_start(e, &l->hedge, pc_engine_now(e) + after_ns);
    }
}

/* The first owners of some keys are slow: the next ones are asked, too, and
 * what waited for the round to end goes on. */
static void hedge(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_lookup *l = PC_CONTAINER_OF(timer, struct pc_lookup, hedge);
    struct pc_plan plan;
    uint32_t t;
    bool may = l->node->settings.hedge_ns > 0;
    if (may && l->node->hedge_budget < 10) {
        pc_metrics_add(&l->node->metrics, PC_METRIC_HEDGES_HELD_BACK, 1);
        may = false;
    }
    pc_plan_init(&plan);
    l->starting = true;
    unpark(l, &plan);
    send_plan(l, &plan);
    pc_plan_fini(&plan);
    pc_plan_init(&plan);
    l->hedging = true;
    for (uint32_t k = 0; k < l->n_keys && may; k++) {
        while (next_owner(&l->keys[k], &t) && !plan_target(l, k, t, &plan)) {
        }
    }
    send_plan(l, &plan);
    l->hedging = false;
    pc_plan_fini(&plan);
    start_hedge(l);
    report(l);
}

peercache_status_t pc_lookup_start(struct pc_lookup *l,
                                   struct peercache_node *node,
                                   enum pc_lookup_how how,
                                   const struct pc_digest *digests,
                                   const uint32_t *users, size_t n,
                                   uint64_t deadline_ns)
{
    PC_ASSERT(!l->active);
    l->keys = pc_alloc(n, sizeof(*l->keys));
    if (l->keys == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    l->node = node;
    l->how = how;
    l->deadline_ns = deadline_ns;
    l->n_keys = n;
    l->n_open = n;
    l->again_ns = 0;
    l->active = true;
    l->starting = true;
    pc_list_init(&l->rpcs);
    pc_engine_timer_init(&l->again, ask_again);
    pc_engine_timer_init(&l->hedge, hedge);
    l->hedging = false;
    l->n_parked = 0;
    struct pc_plan plan;
    pc_plan_init(&plan);
    for (uint32_t k = 0; k < n; k++) {
        l->keys[k].digest = digests[k];
        l->keys[k].user = users[k];
        set_targets(l, &l->keys[k]);
        step_key(l, k, &plan);
    }
    send_plan(l, &plan);
    pc_plan_fini(&plan);
    l->starting = false;
    if (l->n_open == 0) {
        pc_lookup_stop(l);
        l->finished(l);
    } else {
        start_hedge(l);
    }
    return PEERCACHE_OK;
}

void pc_lookup_stop(struct pc_lookup *l)
{
    if (!l->active) {
        return;
    }
    l->active = false;
    pc_engine_timer_stop(&l->node->engine, &l->again);
    pc_engine_timer_stop(&l->node->engine, &l->hedge);
    struct pc_list *node;
    while ((node = pc_list_pop_front(&l->rpcs)) != NULL) {
        struct ask *ask = PC_CONTAINER_OF(node, struct ask, link);
        /* Answers to lookups have no body, so it is over at once. */
        (void)pc_rpc_stop(&ask->rpc, PEERCACHE_CANCELED);
        pc_free(ask);
    }
    pc_free(l->keys);
    l->keys = NULL;
}
