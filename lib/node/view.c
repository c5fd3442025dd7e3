/*
 * view.c - performs what the membership's state machine asks for, and turns its
 * views into rings. With the engine's role.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Operations wait so long for the first view (design.md 8). */
#define FIRST_VIEW_NS (500 * PC_MS)

static void perform(struct peercache_node *node,
                    const struct pc_cluster_actions *actions);

static struct pc_cluster_event event_of(const struct peercache_node *node,
                                        enum pc_cluster_event_type type)
{
    return (struct pc_cluster_event){
        .type = type, .now_ns = pc_engine_now(&node->engine), .seed = -1};
}

void pc_view_step(struct peercache_node *node,
                  const struct pc_cluster_event *event)
{
    struct pc_cluster_actions actions;
    if (node->left || node->withdrawn) {
        return;
    }
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
    bool any_drains = false;
    atomic_store_explicit(&node->n_members, (uint32_t)n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        any_drains = any_drains || members[i].state == PC_MEMBER_DRAINING;
        (void)pc_peers_learn(&node->peers, &members[i]);
    }
    /* relaxed: a hint for puts. */
    atomic_store_explicit(&node->any_drains, any_drains, memory_order_relaxed);
    PC_INFO("view", "view %016llx, nodes %zu",
            (unsigned long long)pc_ring_view(node->ring), n);
    pc_publish_view(node);
    forget_dead(node);
    become_ready(node);
}

static struct pc_cluster_params cluster_params(struct peercache_node *node)
{
    return (struct pc_cluster_params){
        .self = node->self,
        .heartbeat_ns = node->settings.heartbeat_interval_ns,
        .member_ttl_ns = node->settings.member_ttl_ns,
        .settle_ns = node->settings.settle_ns,
        .max_masters = (uint32_t)node->settings.max_masters,
        .seed = pc_rand_u64(&node->random),
        .n_seeds = node->n_seeds,
    };
}

/* A name that is nobody else's. */
static void take_another_id(struct peercache_node *node)
{
    struct pc_node_id id = node->self.id;
    int lock = -1;
    if (node->manual ||
        !pc_identity_auto_id(node->settings.cluster_name, &id, &lock)) {
        (void)snprintf(id.text, sizeof(id.text), "%.100s-%016llx",
                       node->self.id.text,
                       (unsigned long long)node->self.incarnation);
    }
    if (node->id_lock >= 0) {
        (void)close(node->id_lock);
    }
    node->id_lock = lock;
    node->self.id = id;
    node->peers.self.self.id = id;
}

static struct pc_peer *any_member(struct peercache_node *node)
{
    struct pc_list *head = &node->peers.peers;
    for (struct pc_list *at = head->next; at != head; at = at->next) {
        struct pc_peer *peer = PC_CONTAINER_OF(at, struct pc_peer, link);
        if (peer->seed < 0) {
            return peer;
        }
    }
    return NULL;
}

/* Another live node has our id: this one goes on alone, under a name of its
 * own, as a cluster of one that nobody can join. */
static void withdraw(struct peercache_node *node)
{
    char id[PC_NODE_ID_MAX + 1];
    struct pc_cluster_actions actions;
    (void)snprintf(id, sizeof(id), "%s", node->self.id.text);
    pc_seeds_stop(node);
    node->n_seeds = 0;
    take_another_id(node);
    PC_ERROR("view",
             "another live node has the id %s: this one goes on alone as %s",
             id, node->self.id.text);
    struct pc_cluster_params params = cluster_params(node);
    struct pc_cluster *alone = pc_cluster_create(&params);
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_START);
    if (alone == NULL ||
        pc_cluster_step(alone, &event, &actions) != PEERCACHE_OK) {
        pc_cluster_destroy(alone);
        PC_ERROR("view", "no memory to go on alone: the old view stays");
        node->withdrawn = true;
        return;
    }
    pc_cluster_destroy(node->cluster);
    node->cluster = alone;
    node->withdrawn = true;
    pc_engine_timer_stop(&node->engine, &node->cluster_timer);
    pc_rings_update(node);
    struct pc_peer *peer;
    while ((peer = any_member(node)) != NULL) {
        pc_peers_forget(&node->peers, peer->member.incarnation);
    }
}

static void perform(struct peercache_node *node,
                    const struct pc_cluster_actions *actions)
{
    /* The actions live until the next step, and what follows may step. */
    size_t n = actions->n_send;
    struct pc_cluster_send *send = NULL;
    bool changed = actions->view_changed || actions->former_changed;
    bool joined = actions->joined;
    bool superseded = actions->superseded;
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
    if (actions->refused) {
        PC_ERROR("view",
                 "the id %s is another live node's: working alone until that "
                 "is gone",
                 node->self.id.text);
    }
    if (changed) {
        pc_rings_update(node);
        forget_dead(node);
    }
    for (size_t i = 0; i < n && send != NULL && !node->withdrawn; i++) {
        pc_members_send(node, &send[i]);
    }
    pc_free(send);
    if (superseded) {
        withdraw(node);
    }
    if (joined) {
        PC_INFO("view", "node %s is a member", node->self.id.text);
    }
    become_ready(node);
}

static void cluster_tick(struct pc_timer *timer, uint64_t now_ns)
{
    struct peercache_node *node =
        PC_CONTAINER_OF(timer, struct peercache_node, cluster_timer);
    (void)now_ns;
    if (node->left || node->withdrawn) {
        return;
    }
    if (node->ring_is_old) {
        pc_rings_update(node);
    }
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_TICK);
    pc_view_step(node, &event);
}

/* ---- From the rest of the node ---------------------------------------- */

void pc_view_republishing(struct peercache_node *node, bool busy)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_REPUBLISH);
    event.republishing = busy;
    pc_view_step(node, &event);
}

peercache_status_t pc_view_start(struct peercache_node *node)
{
    struct pc_cluster_params params = cluster_params(node);
    node->cluster = pc_cluster_create(&params);
    if (node->cluster == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    uint64_t now = pc_engine_now(&node->engine);
    pc_engine_timer_init(&node->cluster_timer, cluster_tick);
    pc_engine_timer_init(&node->first_view_timer, first_view_late);
    pc_engine_timer_start(&node->engine, &node->first_view_timer,
                          now + FIRST_VIEW_NS);
    pc_seeds_prepare(node);
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_START);
    pc_view_step(node, &event);
    pc_seeds_start(node);
    return PEERCACHE_OK;
}

void pc_view_drain(struct peercache_node *node)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_DRAIN);
    node->self.state = PC_MEMBER_DRAINING;
    pc_view_step(node, &event);
}

void pc_view_leave(struct peercache_node *node)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_LEAVE);
    if (node->left) {
        return;
    }
    pc_view_step(node, &event);
    node->left = true;
    pc_engine_timer_stop(&node->engine, &node->cluster_timer);
    pc_engine_timer_stop(&node->engine, &node->first_view_timer);
    pc_engine_timer_stop(&node->engine, &node->seeds_timer);
}

void pc_view_fini(struct peercache_node *node)
{
    pc_seeds_fini(node);
    pc_cluster_destroy(node->cluster);
    pc_rings_fini(node);
    pc_ring_unref(node->ring);
    for (size_t i = 0; i < node->n_former; i++) {
        pc_ring_unref(node->former[i].ring);
    }
}
