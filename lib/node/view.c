/*
 * view.c - performs what the membership's state machine asks for, and turns its
 * views into rings. With the engine's role.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <stdio.h>
#include <string.h>

/* Operations wait so long for the first view (design.md 8). */
#define FIRST_VIEW_NS (500 * PC_MS)

struct beat
{
    struct pc_rpc rpc;
    struct pc_list link; /* node->beats */
    struct peercache_node *node;
    int32_t seed;
    uint64_t incarnation;
};

static void step(struct peercache_node *node,
                 const struct pc_cluster_event *event);

static struct pc_cluster_event event_of(const struct peercache_node *node,
                                        enum pc_cluster_event_type type)
{
    return (struct pc_cluster_event){
        .type = type, .now_ns = pc_engine_now(&node->engine), .seed = -1};
}

/* ---- Beats ------------------------------------------------------------ */

static void beat_done(struct pc_rpc *rpc, peercache_status_t status,
                      const struct pc_msg *reply)
{
    struct beat *beat = PC_CONTAINER_OF(rpc, struct beat, rpc);
    struct peercache_node *node = beat->node;
    bool good = status == PEERCACHE_OK && reply->type == PC_MSG_TABLE;
    struct pc_cluster_event event =
        event_of(node, good ? PC_CLUSTER_TABLE : PC_CLUSTER_SILENT);
    event.seed = beat->seed;
    event.peer = beat->incarnation;
    if (good) {
        event.table = &reply->u.table;
        if (beat->seed >= 0) {
            event.peer = rpc->answered_by;
        }
    }
    pc_list_remove(&beat->link);
    pc_free(beat);
    if (!node->left) {
        step(node, &event);
    }
}

static bool send_beat(struct peercache_node *node, struct pc_peer *peer,
                      int32_t seed)
{
    struct beat *beat = pc_alloc(1, sizeof(*beat));
    if (beat == NULL) {
        return false;
    }
    beat->node = node;
    beat->seed = seed;
    beat->incarnation = peer->member.incarnation;
    beat->rpc.done = beat_done;
    beat->rpc.body = NULL;
    beat->rpc.breakable = false;
    struct pc_msg msg = {.type = PC_MSG_BEAT};
    pc_cluster_beat(node->cluster, &msg.u.beat);
    uint64_t deadline =
        pc_engine_now(&node->engine) + node->settings.heartbeat_interval_ns;
    if (pc_rpc_start(&beat->rpc, peer, PC_LINK_CONTROL, &msg, deadline) !=
        PEERCACHE_OK) {
        pc_free(beat);
        return false;
    }
    pc_list_push_back(&node->beats, &beat->link);
    return true;
}

static void push_table(struct peercache_node *node,
                       const struct pc_cluster_send *send)
{
    struct pc_peer *peer = pc_peers_learn(&node->peers, &send->member);
    if (peer == NULL) {
        return;
    }
    struct pc_conn *conn = peer->conns[PC_LINK_CONTROL];
    if (conn == NULL || conn->state != PC_CONN_READY) {
        return; /* It hears of it with its next beat. */
    }
    struct pc_msg msg = {.type = PC_MSG_TABLE, .request = 0};
    pc_cluster_push(node->cluster, send, &msg.u.table);
    (void)pc_conn_send(conn, &msg, NULL, 0, NULL, NULL);
}

static void perform_send(struct peercache_node *node,
                         const struct pc_cluster_send *send)
{
    if (send->type == PC_MSG_TABLE) {
        push_table(node, send);
        return;
    }
    struct pc_peer *peer = NULL;
    if (send->seed >= 0 && (size_t)send->seed < node->n_seeds) {
        peer = node->seeds[send->seed].peer;
    } else if (send->seed < 0) {
        peer = pc_peers_learn(&node->peers, &send->member);
    }
    if (peer == NULL || !send_beat(node, peer, send->seed)) {
        /* Silence is noticed by its time; nothing to tell. */
        PC_TRACE("view", "no beat to %s", send->member.id.text);
    }
}

/* ---- Seeds ------------------------------------------------------------ */

/* Serve the discovery port if it is this host's and nobody else does. */
static void try_seeds(struct peercache_node *node)
{
    for (size_t i = 0; i < node->n_seeds && !node->left; i++) {
        struct pc_seed *seed = &node->seeds[i];
        if (seed->ours || seed->address[0] == '\0' || !seed->can_listen ||
            node->client) {
            continue;
        }
        if (node->link_ops->listen(node->link, seed->address, seed->bound,
                                   sizeof(seed->bound)) != PEERCACHE_OK) {
            continue;
        }
        seed->ours = true;
        PC_INFO("view", "serving discovery at %s", seed->bound);
        pc_view_seed_is_us(node, (int32_t)i);
    }
}

void pc_view_seed_is_us(struct peercache_node *node, int32_t seed)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_SEED_IS_US);
    event.seed = seed;
    step(node, &event);
}

/* ---- Views and rings -------------------------------------------------- */

static void wake_view_waiters(struct peercache_node *node)
{
    struct pc_list waiters;
    pc_list_init(&waiters);
    pc_list_splice_back(&waiters, &node->view_waiters);
    struct pc_list *at;
    while ((at = pc_list_pop_front(&waiters)) != NULL) {
        pc_op_advance(PC_CONTAINER_OF(at, struct peercache_op, queue));
    }
}

static void first_view_late(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct peercache_node *node =
        PC_CONTAINER_OF(timer, struct peercache_node, first_view_timer);
    if (!node->view_ready) {
        PC_INFO("view", "no view yet, working alone until there is one");
        node->view_ready = true;
        wake_view_waiters(node);
    }
}

bool pc_view_wait(struct peercache_node *node, struct peercache_op *op)
{
    if (node->view_ready) {
        return true;
    }
    pc_list_push_back(&node->view_waiters, &op->queue);
    return false;
}

/* Members that are gone for good: end everything with them. */
static void forget_dead(struct peercache_node *node)
{
    struct pc_list *head = &node->peers.peers;
    struct pc_list *at = head->next;
    while (at != head) {
        struct pc_peer *peer = PC_CONTAINER_OF(at, struct pc_peer, link);
        at = at->next;
        if (peer->seed < 0 && pc_node_is_over(node, &peer->member)) {
            PC_INFO("view", "node %s is gone", peer->member.id.text);
            pc_peers_forget(&node->peers, peer->member.incarnation);
        }
    }
}

/* Joined, and able to say where every key's records are. */
static void become_ready(struct peercache_node *node)
{
    if (pc_cluster_is_joined(node->cluster) && pc_rings_are_current(node) &&
        pc_event_get(&node->ready) == 0) {
        pc_event_set(&node->ready, 1);
        node->view_ready = true;
        wake_view_waiters(node);
    }
}

void pc_view_ring_changed(struct peercache_node *node)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(node->ring, &n);
    atomic_store_explicit(&node->n_members, (uint32_t)n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        (void)pc_peers_learn(&node->peers, &members[i]);
    }
    PC_INFO("view", "view %016llx, nodes %zu",
            (unsigned long long)pc_ring_view(node->ring), n);
    pc_publish_view(node);
    forget_dead(node);
    become_ready(node);
}

static void perform(struct peercache_node *node,
                    const struct pc_cluster_actions *actions)
{
    /* The actions live until the next step, and what follows may step. */
    size_t n = actions->n_send;
    struct pc_cluster_send *send = NULL;
    bool changed = actions->view_changed || actions->former_changed;
    bool joined = actions->joined;
    uint64_t next = actions->next_tick_ns;
    if (n > 0) {
        send = pc_alloc(n, sizeof(*send));
        if (send != NULL) {
            memcpy(send, actions->send, n * sizeof(*send));
        }
    }
    if (next != UINT64_MAX) {
        pc_engine_timer_start(&node->engine, &node->cluster_timer, next);
    }
    if (actions->refuted) {
        pc_repair_all(node);
    }
    if (actions->superseded) {
        PC_ERROR("view", "another node took the id %s, going silent",
                 node->self.id.text);
    }
    if (changed) {
        pc_rings_update(node);
        forget_dead(node);
    }
    for (size_t i = 0; i < n && send != NULL; i++) {
        perform_send(node, &send[i]);
    }
    pc_free(send);
    if (joined) {
        PC_INFO("view", "node %s is a member", node->self.id.text);
    }
    become_ready(node);
}

static void step(struct peercache_node *node,
                 const struct pc_cluster_event *event)
{
    struct pc_cluster_actions actions;
    peercache_status_t status = pc_cluster_step(node->cluster, event, &actions);
    if (status == PEERCACHE_OK) {
        perform(node, &actions);
        return;
    }
    PC_WARN("view", "membership step failed: %s", peercache_strerror(status));
    if (event->type == PC_CLUSTER_TICK) {
        pc_engine_timer_start(&node->engine, &node->cluster_timer,
                              event->now_ns +
                                  node->settings.heartbeat_interval_ns);
    }
}

static void cluster_tick(struct pc_timer *timer, uint64_t now_ns)
{
    struct peercache_node *node =
        PC_CONTAINER_OF(timer, struct peercache_node, cluster_timer);
    (void)now_ns;
    if (node->left) {
        return;
    }
    try_seeds(node);
    if (node->ring_is_old) {
        pc_rings_update(node);
    }
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_TICK);
    step(node, &event);
}

/* ---- From the rest of the node ---------------------------------------- */

void pc_view_beat(struct peercache_node *node, struct pc_conn *conn,
                  const struct pc_msg *msg)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_BEAT);
    event.peer = conn->remote.incarnation;
    event.beat = &msg->u.beat;
    if (msg->u.beat.self.incarnation != conn->remote.incarnation ||
        node->left) {
        pc_conn_close(conn, PEERCACHE_PROTOCOL);
        return;
    }
    uint64_t asker_view = msg->u.beat.view;
    uint64_t asker_table = msg->u.beat.table;
    uint64_t request = msg->request;
    step(node, &event);
    struct pc_msg out = {.type = PC_MSG_TABLE, .request = request};
    pc_cluster_table(node->cluster, asker_view, asker_table, &out.u.table);
    if (conn->state == PC_CONN_READY &&
        pc_conn_send(conn, &out, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(conn, request, PEERCACHE_NO_MEMORY, "no memory");
    }
}

void pc_view_table(struct peercache_node *node,
                   const struct pc_msg_table *table, uint64_t from)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_TABLE);
    event.peer = from;
    event.table = table;
    if (!node->left) {
        step(node, &event);
    }
}

void pc_view_fetch(struct peercache_node *node, struct pc_peer *peer)
{
    for (struct pc_list *at = node->beats.next; at != &node->beats;
         at = at->next) {
        struct beat *beat = PC_CONTAINER_OF(at, struct beat, link);
        if (beat->rpc.peer == peer) {
            return; /* Its table is on its way. */
        }
    }
    if (!node->left) {
        (void)send_beat(node, peer, -1);
    }
}

void pc_view_conn_lost(struct peercache_node *node, struct pc_peer *peer)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_CONN_LOST);
    event.peer = peer->member.incarnation;
    if (!node->left && peer->member.incarnation != 0) {
        step(node, &event);
    }
}

void pc_view_republishing(struct peercache_node *node, bool busy)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_REPUBLISH);
    event.republishing = busy;
    if (!node->left) {
        step(node, &event);
    }
}

peercache_status_t pc_view_start(struct peercache_node *node)
{
    struct pc_cluster_params params = {
        .self = node->self,
        .heartbeat_ns = node->settings.heartbeat_interval_ns,
        .member_ttl_ns = node->settings.member_ttl_ns,
        .settle_ns = node->settings.settle_ns,
        .max_masters = (uint32_t)node->settings.max_masters,
        .seed = pc_rand_u64(&node->random),
        .n_seeds = node->n_seeds,
    };
    node->cluster = pc_cluster_create(&params);
    if (node->cluster == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    for (size_t i = 0; i < node->n_seeds; i++) {
        if (node->seeds[i].address[0] != '\0' && node->seeds[i].peer == NULL) {
            node->seeds[i].peer =
                pc_peers_seed(&node->peers, (int32_t)i, node->seeds[i].address);
        }
    }
    uint64_t now = pc_engine_now(&node->engine);
    pc_engine_timer_init(&node->cluster_timer, cluster_tick);
    pc_engine_timer_init(&node->first_view_timer, first_view_late);
    pc_engine_timer_start(&node->engine, &node->first_view_timer,
                          now + FIRST_VIEW_NS);
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_START);
    step(node, &event);
    try_seeds(node);
    return PEERCACHE_OK;
}

void pc_view_leave(struct peercache_node *node)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_LEAVE);
    if (node->left) {
        return;
    }
    step(node, &event);
    node->left = true;
    pc_engine_timer_stop(&node->engine, &node->cluster_timer);
    pc_engine_timer_stop(&node->engine, &node->first_view_timer);
}

void pc_view_fini(struct peercache_node *node)
{
    pc_cluster_destroy(node->cluster);
    pc_rings_fini(node);
    pc_ring_unref(node->ring);
    for (size_t i = 0; i < node->n_former; i++) {
        pc_ring_unref(node->former[i].ring);
    }
}
