/*
 * drain.c - a node hands over what it owns before it ends.
 *
 *     ALIVE ── asked, here or by a peer ──► DRAINING ── former views over ──►
 * done
 *
 * From then on it owns no range of the directory: holders tell the new owners
 * of their records, and until all have, readers ask it as an owner of a former
 * view. That is over when no view is asked any more in which it was an owner
 * (the settle window, and while anybody still re-publishes). What it holds is
 * not copied: it is read here until the node ends, but it is no copy to count
 * on, so a put of the same key stores another one elsewhere (TOUCH says no).
 *
 * There is no way back but a restart.
 */
#include "base/log.h"
#include "node/node.h"

#include <string.h>

/* How often the end is looked for, here and at a peer. */
#define LOOK_NS     (20 * PC_MS)
#define ASK_NS      (250 * PC_MS)
#define PATIENCE_NS PC_S

/* ---- The node itself -------------------------------------------------- */

static void begin(struct peercache_node *node, const char *who)
{
    if (node->self.state == PC_MEMBER_ALIVE) {
        PC_INFO("drain",
                "draining, by word of %s: another node keeps what "
                "this one kept of the directory",
                who);
        pc_view_drain(node);
    }
}

/* A view that is still asked in which this node was an owner. */
static bool is_asked(const struct peercache_node *node)
{
    size_t n;
    const struct pc_msg_view *former = pc_cluster_former(node->cluster, &n);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < former[i].n_members; k++) {
            const struct pc_member *m = &former[i].members[k];
            if (m->incarnation == node->self.incarnation &&
                m->state == PC_MEMBER_ALIVE) {
                return true;
            }
        }
    }
    return false;
}

bool pc_drain_is_done(const peercache_node_t *node)
{
    size_t n;
    size_t place = SIZE_MAX;
    if (node->self.state == PC_MEMBER_ALIVE) {
        return false;
    }
    if (node->client || node->withdrawn ||
        !pc_cluster_is_joined(node->cluster)) {
        return true; /* Nobody counts on it. */
    }
    const struct pc_member *members = pc_ring_members(node->ring, &n);
    bool owns = pc_ring_place(node->ring, &node->self, &place);
    if (!pc_rings_are_current(node) || place >= n ||
        members[place].state == PC_MEMBER_ALIVE) {
        return false;
    }
    /* It owns ranges still where nobody else is left to take them. */
    return owns || (!is_asked(node) && pc_publish_is_idle(node));
}

void pc_drain_asked(peercache_node_t *node, struct pc_conn *conn,
                    const struct pc_msg *msg)
{
    struct pc_msg out = {.type = PC_MSG_DRAINED, .request = msg->request};
    if (msg->u.drain.incarnation != node->self.incarnation) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NOT_READY,
                     "this is another node");
        return;
    }
    begin(node, conn->remote.id.text);
    out.u.drained.done = pc_drain_is_done(node);
    if (conn->state == PC_CONN_READY &&
        pc_conn_send(conn, &out, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
    }
}

/* ---- Somebody who waits for it ---------------------------------------- */

static void look(struct pc_drain *drain);

static void end(struct pc_drain *drain, peercache_status_t status)
{
    pc_list_remove(&drain->link);
    pc_engine_timer_stop(&drain->node->engine, &drain->next);
    if (drain->asking) {
        drain->asking = false;
        (void)pc_rpc_stop(&drain->rpc, PEERCACHE_CANCELED);
    }
    drain->status = status;
    drain->done(drain);
}

static bool is_here(const struct pc_drain *drain)
{
    return drain->who.incarnation == drain->node->self.incarnation;
}

static void asked(struct pc_rpc *rpc, peercache_status_t status,
                  const struct pc_msg *reply)
{
    struct pc_drain *drain = PC_CONTAINER_OF(rpc, struct pc_drain, rpc);
    drain->asking = false;
    if (status == PEERCACHE_OK && reply->type == PC_MSG_DRAINED) {
        drain->answered = true;
        if (reply->u.drained.done) {
            end(drain, PEERCACHE_OK);
        } else if (!drain->wait) {
            end(drain, PEERCACHE_IN_PROGRESS);
        }
    }
}

static void ask(struct pc_drain *drain, uint64_t now_ns)
{
    struct peercache_node *node = drain->node;
    struct pc_peer *peer = pc_peers_learn(&node->peers, &drain->who);
    struct pc_msg msg = {.type = PC_MSG_DRAIN};
    uint64_t deadline_ns = now_ns + PATIENCE_NS;
    if (deadline_ns > drain->deadline_ns) {
        deadline_ns = drain->deadline_ns;
    }
    msg.u.drain.incarnation = drain->who.incarnation;
    drain->rpc.done = asked;
    drain->rpc.body = NULL;
    drain->rpc.breakable = false;
    drain->asking =
        peer != NULL && pc_rpc_start(&drain->rpc, peer, PC_LINK_CONTROL, &msg,
                                     deadline_ns) == PEERCACHE_OK;
}

/* What there is to say now; IN_PROGRESS: go on. */
static peercache_status_t verdict(const struct pc_drain *drain, uint64_t now_ns)
{
    const struct peercache_node *node = drain->node;
    bool is_late = now_ns >= drain->deadline_ns;
    if (is_here(drain)) {
        return pc_drain_is_done(node)   ? PEERCACHE_OK
               : is_late && drain->wait ? PEERCACHE_TIMED_OUT
                                        : PEERCACHE_IN_PROGRESS;
    }
    if (pc_node_is_dead(node, drain->who.incarnation)) {
        return PEERCACHE_PEER_FAILED;
    }
    if (is_late) {
        return drain->answered ? PEERCACHE_TIMED_OUT : PEERCACHE_UNREACHABLE;
    }
    return PEERCACHE_IN_PROGRESS;
}

static void go_on(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    look(PC_CONTAINER_OF(timer, struct pc_drain, next));
}

static void look(struct pc_drain *drain)
{
    struct pc_engine *e = &drain->node->engine;
    uint64_t now_ns = pc_engine_now(e);
    peercache_status_t status = verdict(drain, now_ns);
    bool here = is_here(drain);
    if (status != PEERCACHE_IN_PROGRESS || (here && !drain->wait)) {
        end(drain, status);
        return;
    }
    if (!here && !drain->asking) {
        ask(drain, now_ns);
    }
    uint64_t next_ns = now_ns + (here ? LOOK_NS : ASK_NS);
    pc_engine_timer_start(e, &drain->next,
                          next_ns < drain->deadline_ns ? next_ns
                                                       : drain->deadline_ns);
}

/* The live member of that id. */
static bool find(struct pc_drain *drain)
{
    struct peercache_node *node = drain->node;
    size_t n;
    if (drain->id == NULL || strcmp(drain->id, node->self.id.text) == 0) {
        drain->who = node->self;
        return true;
    }
    const struct pc_member *members = pc_cluster_view(node->cluster, &n, NULL);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(members[i].id.text, drain->id) == 0) {
            drain->who = members[i];
            return true;
        }
    }
    return false;
}

static void start(struct pc_task *task)
{
    struct pc_drain *drain = PC_CONTAINER_OF(task, struct pc_drain, task);
    pc_engine_timer_init(&drain->next, go_on);
    pc_list_push_back(&drain->node->drains, &drain->link);
    if (atomic_load_explicit(&drain->node->closing, memory_order_acquire)) {
        end(drain, PEERCACHE_SHUTDOWN);
    } else if (!find(drain)) {
        end(drain, pc_cluster_is_joined(drain->node->cluster)
                       ? PEERCACHE_NOT_FOUND
                       : PEERCACHE_NOT_READY);
    } else {
        if (is_here(drain)) {
            begin(drain->node, "its own process");
        }
        look(drain);
    }
}

void pc_drain_end_all(peercache_node_t *node)
{
    while (!pc_list_is_empty(&node->drains)) {
        end(PC_CONTAINER_OF(node->drains.next, struct pc_drain, link),
            PEERCACHE_SHUTDOWN);
    }
}

void pc_drain_start(struct pc_drain *drain)
{
    drain->task.run = start;
    pc_engine_submit(&drain->node->engine, &drain->task);
}

/* ---- Public ----------------------------------------------------------- */

/* A drain that a thread waits for. */
struct waited
{
    struct pc_drain drain;
    struct pc_event over;
};

static void wake(struct pc_drain *drain)
{
    /* The last look at it: its memory is the waiting thread's. */
    pc_event_set(&PC_CONTAINER_OF(drain, struct waited, drain)->over, 1);
}

static peercache_status_t drain_and_wait(peercache_node_t *node, const char *id,
                                         uint64_t timeout_ns)
{
    uint64_t now = pc_clock_now(&node->clock);
    uint64_t timeout =
        timeout_ns != 0 ? timeout_ns : node->settings.op_timeout_ns;
    struct waited waited = {.drain.node = node,
                            .drain.id = id,
                            .drain.wait = timeout_ns != 0,
                            .drain.done = wake};
    waited.drain.deadline_ns =
        timeout > UINT64_MAX / 2 ? UINT64_MAX / 2 : now + timeout;
    waited.drain.task.run = start;
    pc_event_init(&waited.over, 0);
    /* Without a limit: it looks at its deadline itself. */
    (void)pc_engine_call(&node->engine, &waited.drain.task, &waited.over,
                         UINT64_MAX);
    return waited.drain.status;
}

peercache_status_t peercache_node_drain(peercache_node_t *node,
                                        const char *node_id,
                                        uint64_t timeout_ns)
{
    if (node == NULL) {
        return PEERCACHE_INVALID;
    }
    if (pc_node_is_forked(node)) {
        return PEERCACHE_FORKED;
    }
    if (pc_engine_is_current(&node->engine)) {
        return PEERCACHE_INVALID;
    }
    /* seq_cst: as for the verbs, the node's end sees us. */
    atomic_fetch_add_explicit(&node->n_calls, 1, memory_order_seq_cst);
    peercache_status_t status = PEERCACHE_SHUTDOWN;
    if (!atomic_load_explicit(&node->closing, memory_order_seq_cst)) {
        status = drain_and_wait(node, node_id, timeout_ns);
    }
    atomic_fetch_sub_explicit(&node->n_calls, 1, memory_order_seq_cst);
    return status;
}
