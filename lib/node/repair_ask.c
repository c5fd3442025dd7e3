/*
 * repair_ask.c - the exchange with each owner: summary, then lists of what
 * differs.
 */
#include "repair_int.h"

#include "directory/shard.h"

#define ASK_NS (2 * PC_S)
/* An owner that is still summing up is asked again, so often. */
#define WAIT_NS   (100 * PC_MS)
#define WAITS_MAX 600
/* Requests under way at once. */
#define ASKED_MAX 32

static void ask_more(struct peercache_node *node);

/* An owner's part of the exchange is over. */
static void with_done(struct pc_repair_with *w)
{
    struct peercache_node *node = w->node;
    if (--node->repair.n_open > 0) {
        ask_more(node);
    } else {
        pc_repair_asked(node);
    }
}

static void with_failed(struct pc_repair_with *w)
{
    w->again = true;
    w->act = 0;
    with_done(w);
}

/* Ranges to list: what differed twice (urgent: once), as much as fits. */
static void choose_ranges(struct pc_repair_with *w,
                          const struct pc_summary *theirs)
{
    struct pc_outbox *box = pc_repair_box(w);
    uint64_t mask = pc_summary_differs(&w->sums, theirs);
    uint64_t before = box == NULL ? 0 : box->differed;
    uint64_t n_listed = 0;
    if (w->urgent && box != NULL) {
        before = ~box->compared;
    }
    uint64_t wanted = mask & before;
    for (uint32_t i = 0; i < PC_SUMMARY_RANGES; i++) {
        if ((wanted >> i & 1) == 0) {
            continue;
        }
        n_listed += theirs->counts[i];
        if (w->act != 0 && n_listed > w->node->repair.listed_max) {
            w->more = true;
            break;
        }
        w->act |= (uint64_t)1 << i;
    }
    if (box != NULL) {
        box->differed = mask & ~w->act;
    }
    w->node->repair.sooner = w->node->repair.sooner || (mask & ~w->act) != 0;
    w->to_ask = w->act;
}

/* What the owner lists: our live store has the last word on each. */
static void take_listed(struct pc_repair_with *w,
                        const struct pc_msg_listed *listed)
{
    struct peercache_node *node = w->node;
    for (uint32_t i = 0; i < listed->n_keys; i++) {
        struct pc_place place;
        uint64_t generation = listed->generations[i];
        bool held = pc_tier_held(node, listed->digests[i], &place);
        if (held && place.generation >= generation) {
            /* An older one is replaced by what the walk finds missing. */
            if (!pc_map_put(&w->listed, listed->digests[i], generation)) {
                w->again = true;
            }
            continue;
        }
        struct pc_record record = {.digest = listed->digests[i],
                                   .incarnation = node->self.incarnation,
                                   .generation = generation,
                                   .length = 1};
        pc_metrics_add(&node->metrics, PC_METRIC_REPAIR_EXTRA, 1);
        (void)pc_fifo_add(node, &w->owner, PC_RETRACT, &record, NULL);
    }
}

/* Pages of a list come in order, or an owner could keep us asking for ever. */
static bool is_answer_to(const struct pc_repair_with *w,
                         const struct pc_msg *reply)
{
    if (w->to_ask == 0) {
        return reply->type == PC_MSG_SUMMARIZED;
    }
    return reply->type == PC_MSG_LISTED &&
           (reply->u.listed.next == 0 ||
            (reply->u.listed.next > w->cursor &&
             reply->u.listed.next < (uint64_t)1 << PC_SHARD_PLACE_BITS));
}

/* Descend, or go on with the next page; false: nothing is left to ask. */
static bool take_answer(struct pc_repair_with *w, const struct pc_msg *reply)
{
    if (reply->type == PC_MSG_SUMMARIZED) {
        struct pc_summary theirs;
        struct pc_outbox *box = pc_repair_box(w);
        if (reply->u.summarized.state == PC_SUMMARY_SAME) {
            if (box != NULL) {
                box->differed = 0;
            }
            return false;
        }
        for (uint32_t i = 0; i < PC_SUMMARY_RANGES; i++) {
            theirs.counts[i] = reply->u.summarized.counts[i];
            theirs.hashes[i] = reply->u.summarized.hashes[i];
        }
        pc_metrics_add(&w->node->metrics, PC_METRIC_REPAIR_DIFFERENT, 1);
        w->node->repair.equal = false;
        choose_ranges(w, &theirs);
        return w->to_ask != 0;
    }
    take_listed(w, &reply->u.listed);
    w->cursor = reply->u.listed.next;
    if (w->cursor == 0) {
        w->to_ask &= w->to_ask - 1;
    }
    return w->to_ask != 0;
}

static bool must_wait(struct pc_repair_with *w, const struct pc_msg *reply)
{
    return reply->type == PC_MSG_SUMMARIZED &&
           reply->u.summarized.state == PC_SUMMARY_WAIT &&
           w->n_waits++ < WAITS_MAX;
}

static bool is_other_view(const struct pc_msg *reply)
{
    return reply->type == PC_MSG_SUMMARIZED
               ? reply->u.summarized.state == PC_SUMMARY_OTHER_VIEW
               : reply->u.listed.state == PC_SUMMARY_OTHER_VIEW;
}

static void answered(struct pc_rpc *rpc, peercache_status_t status,
                     const struct pc_msg *reply)
{
    struct pc_repair_with *w = PC_CONTAINER_OF(rpc, struct pc_repair_with, rpc);
    struct peercache_node *node = w->node;
    w->under_way = false;
    node->repair.n_under_way--;
    if (status != PEERCACHE_OK || !is_answer_to(w, reply)) {
        with_failed(w);
    } else if (is_other_view(reply)) {
        pc_members_fetch(node, rpc->peer);
        with_failed(w);
    } else if (must_wait(w, reply)) {
        pc_engine_timer_start(&node->engine, &w->wait,
                              pc_engine_now(&node->engine) + WAIT_NS);
        ask_more(node);
    } else if (reply->type == PC_MSG_SUMMARIZED &&
               reply->u.summarized.state == PC_SUMMARY_WAIT) {
        with_failed(w);
    } else if (take_answer(w, reply)) {
        pc_list_push_back(&node->repair.asking, &w->ask);
        ask_more(node);
    } else {
        with_done(w);
    }
}

static void fill_request(const struct pc_repair_with *w, struct pc_msg *msg)
{
    const struct pc_repair *r = &w->node->repair;
    if (w->to_ask == 0) {
        msg->type = PC_MSG_SUMMARY;
        msg->u.summary.view = pc_ring_view(r->ring);
        msg->u.summary.highest = r->highest;
        msg->u.summary.count = pc_summary_count(&w->sums);
        msg->u.summary.hash = pc_summary_hash(&w->sums);
        return;
    }
    uint8_t range = 0;
    while ((w->to_ask >> range & 1) == 0) {
        range++;
    }
    msg->type = PC_MSG_LIST;
    msg->u.list.view = pc_ring_view(r->ring);
    msg->u.list.highest = r->highest;
    msg->u.list.range = range;
    msg->u.list.from = w->cursor;
}

static bool ask(struct pc_repair_with *w)
{
    struct peercache_node *node = w->node;
    struct pc_peer *peer = pc_peers_learn(&node->peers, &w->owner);
    struct pc_msg msg = {.type = PC_MSG_SUMMARY};
    fill_request(w, &msg);
    w->rpc.done = answered;
    w->rpc.body = NULL;
    w->rpc.breakable = false;
    return peer != NULL && pc_peer_is_usable(peer) &&
           pc_rpc_start(&w->rpc, peer, PC_LINK_CONTROL, &msg,
                        pc_engine_now(&node->engine) + ASK_NS) == PEERCACHE_OK;
}

/* A failure may end the round, or ask for more: that is for the loop, not to be
 * nested as deep as there are owners. */
static void ask_more(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    if (r->asking_now) {
        return;
    }
    r->asking_now = true;
    while (r->phase == PC_REPAIR_ASKING && r->n_under_way < ASKED_MAX &&
           !pc_list_is_empty(&r->asking)) {
        struct pc_repair_with *w = PC_CONTAINER_OF(
            pc_list_pop_front(&r->asking), struct pc_repair_with, ask);
        if (ask(w)) {
            w->under_way = true;
            r->n_under_way++;
        } else {
            with_failed(w);
        }
    }
    r->asking_now = false;
}

void pc_repair_ask(struct peercache_node *node)
{
    struct pc_repair *r = &node->repair;
    r->phase = PC_REPAIR_ASKING;
    for (struct pc_list *at = r->withs.next; at != &r->withs; at = at->next) {
        pc_list_push_back(
            &r->asking, &PC_CONTAINER_OF(at, struct pc_repair_with, link)->ask);
    }
    if (r->n_open == 0) {
        pc_repair_asked(node);
    } else {
        ask_more(node);
    }
}

void pc_repair_ask_again(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_repair_with *w =
        PC_CONTAINER_OF(timer, struct pc_repair_with, wait);
    (void)now_ns;
    pc_list_push_back(&w->node->repair.asking, &w->ask);
    ask_more(w->node);
}
