/*
 * members.c - the messages of the membership on the wire: beats, tables, and
 * probes on behalf of others. With the engine's role.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>

#define PROBES_MAX 64 /* Under way for others. */

/* A question of the membership to another node. */
struct ask
{
    struct pc_rpc rpc;
    struct pc_list link; /* node->beats */
    struct peercache_node *node;
    int32_t seed;
    uint64_t incarnation; /* Who is asked. */
    uint64_t about;       /* PROBE: of whom. */
    struct pc_conn *conn; /* A probe for another: its question. */
    uint64_t request;
};

static struct pc_cluster_event event_of(const struct peercache_node *node,
                                        enum pc_cluster_event_type type)
{
    return (struct pc_cluster_event){
        .type = type, .now_ns = pc_engine_now(&node->engine), .seed = -1};
}

static struct ask *ask_new(struct peercache_node *node, struct pc_peer *peer,
                           void (*done)(struct pc_rpc *, peercache_status_t,
                                        const struct pc_msg *))
{
    struct ask *ask = pc_alloc(1, sizeof(*ask));
    if (ask != NULL) {
        ask->node = node;
        ask->seed = -1;
        ask->incarnation = peer->member.incarnation;
        ask->rpc.done = done;
        ask->rpc.body = NULL;
        ask->rpc.breakable = false;
    }
    return ask;
}

/* False: it was not sent; the ask is gone. */
static bool ask_start(struct ask *ask, struct pc_peer *peer, struct pc_msg *msg,
                      uint64_t patience_ns)
{
    struct peercache_node *node = ask->node;
    uint64_t deadline = pc_engine_now(&node->engine) + patience_ns;
    if (pc_rpc_start(&ask->rpc, peer, PC_LINK_CONTROL, msg, deadline) !=
        PEERCACHE_OK) {
        pc_free(ask);
        return false;
    }
    pc_list_push_back(&node->beats, &ask->link);
    return true;
}

static void ask_free(struct ask *ask)
{
    pc_list_remove(&ask->link);
    pc_free(ask);
}

/* ---- Beats ------------------------------------------------------------ */

static void beat_done(struct pc_rpc *rpc, peercache_status_t status,
                      const struct pc_msg *reply)
{
    struct ask *ask = PC_CONTAINER_OF(rpc, struct ask, rpc);
    struct peercache_node *node = ask->node;
    bool good = status == PEERCACHE_OK && reply->type == PC_MSG_TABLE;
    struct pc_cluster_event event =
        event_of(node, good ? PC_CLUSTER_TABLE : PC_CLUSTER_SILENT);
    event.seed = ask->seed;
    event.peer = ask->incarnation;
    if (good) {
        event.asked_ns = rpc->started_ns;
        event.table = &reply->u.table;
        if (ask->seed >= 0) {
            event.peer = rpc->answered_by;
        }
    }
    if (ask->seed >= 0 && (size_t)ask->seed < node->n_seeds) {
        node->seeds[ask->seed].failing = !good;
    }
    ask_free(ask);
    pc_view_step(node, &event);
}

static bool send_beat(struct peercache_node *node, struct pc_peer *peer,
                      int32_t seed)
{
    struct ask *ask = ask_new(node, peer, beat_done);
    if (ask == NULL) {
        return false;
    }
    ask->seed = seed;
    struct pc_msg msg = {.type = PC_MSG_BEAT};
    pc_load_update(node);
    pc_cluster_beat(node->cluster, &msg.u.beat);
    return ask_start(ask, peer, &msg, node->settings.heartbeat_interval_ns);
}

/* Who was asked has answered, is silent, or could not be asked at all. */
static void perform_beat(struct peercache_node *node,
                         const struct pc_cluster_send *send)
{
    struct pc_peer *peer = NULL;
    if (send->seed >= 0 && (size_t)send->seed < node->n_seeds) {
        peer = node->seeds[send->seed].peer;
    } else if (send->seed < 0) {
        peer = pc_peers_learn(&node->peers, &send->member);
    }
    if ((peer == NULL || !send_beat(node, peer, send->seed)) &&
        send->seed < 0) {
        struct pc_cluster_event event = event_of(node, PC_CLUSTER_SILENT);
        event.peer = send->member.incarnation;
        pc_view_step(node, &event);
    }
}

static void say_refused(struct peercache_node *node,
                        const struct pc_member *newcomer,
                        const struct pc_msg_table *table)
{
    if (table->admission == PC_ADMISSION_REFUSED && table->n_members > 0 &&
        node->refused_incarnation != newcomer->incarnation) {
        node->refused_incarnation = newcomer->incarnation;
        PC_WARN("view", "refused node %s at %s: the node at %s has that id",
                newcomer->id.text, newcomer->address,
                table->members[0].address);
    }
}

void pc_members_beat(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_BEAT);
    struct pc_msg_beat beat = msg->u.beat;
    uint64_t request = msg->request;
    event.peer = conn->remote.incarnation;
    event.beat = &beat;
    if (beat.self.incarnation != conn->remote.incarnation || node->left) {
        node->peers.counts.protocol_errors += !node->left;
        pc_conn_close(conn, PEERCACHE_PROTOCOL);
        return;
    }
    pc_view_step(node, &event);
    if (node->withdrawn) {
        pc_conn_fail(conn, request, PEERCACHE_NOT_READY,
                     "this node works alone");
        return;
    }
    struct pc_msg out = {.type = PC_MSG_TABLE, .request = request};
    pc_cluster_answer(node->cluster, &beat, &out.u.table);
    say_refused(node, &beat.self, &out.u.table);
    if (conn->state == PC_CONN_READY && !pc_members_tell(conn, &out)) {
        pc_conn_fail(conn, request, PEERCACHE_NO_MEMORY, "no memory");
    }
}

void pc_members_fetch(struct peercache_node *node, struct pc_peer *peer)
{
    for (struct pc_list *at = node->beats.next; at != &node->beats;
         at = at->next) {
        struct ask *ask = PC_CONTAINER_OF(at, struct ask, link);
        if (ask->rpc.peer == peer && ask->conn == NULL && ask->about == 0) {
            return; /* Its table is on its way. */
        }
    }
    if (!node->left && !node->withdrawn) {
        (void)send_beat(node, peer, -1);
    }
}

/* ---- Tables ----------------------------------------------------------- */

/* One part of a table; what follows on the connection completes it. */
static bool tell_part(struct pc_conn *conn, const struct pc_msg_table *part)
{
    struct pc_msg msg = {.type = PC_MSG_TABLE, .request = 0};
    msg.u.table = *part;
    msg.u.table.more = true;
    return pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) == PEERCACHE_OK;
}

/* Take members off the table's front until the rest fits. */
static bool tell_members(struct pc_conn *conn, struct pc_msg_table *table)
{
    while (table->n_members > PC_TABLE_PART) {
        struct pc_msg_table part = *table;
        part.n_members = PC_TABLE_PART;
        part.n_former = 0;
        part.n_busy = 0;
        if (!tell_part(conn, &part)) {
            return false;
        }
        table->members += PC_TABLE_PART;
        table->n_members -= PC_TABLE_PART;
    }
    return true;
}

static bool tell_former(struct pc_conn *conn, struct pc_msg_table *table)
{
    while (table->n_former > 0) {
        struct pc_msg_table part = *table;
        size_t n = 0;
        part.n_members = 0;
        part.n_former = 0;
        part.n_busy = 0;
        while (
            part.n_former < table->n_former &&
            (part.n_former == 0 || n + table->former[part.n_former].n_members <=
                                       PC_TABLE_PART_VIEWED)) {
            n += table->former[part.n_former++].n_members;
        }
        if (!tell_part(conn, &part)) {
            return false;
        }
        table->former += part.n_former;
        table->n_former -= part.n_former;
    }
    return true;
}

bool pc_members_tell(struct pc_conn *conn, struct pc_msg *msg)
{
    struct pc_msg_table *table = &msg->u.table;
    size_t n = table->n_members;
    for (uint32_t i = 0; i < table->n_former; i++) {
        n += table->former[i].n_members;
    }
    /* Whole if it fits: then each name is said once. */
    peercache_status_t status = PEERCACHE_INVALID;
    if (n <= PC_TABLE_DECODED_MAX) {
        status = pc_conn_send(conn, msg, NULL, 0, NULL, NULL);
    }
    if (status == PEERCACHE_INVALID) {
        return tell_former(conn, table) && tell_members(conn, table) &&
               pc_conn_send(conn, msg, NULL, 0, NULL, NULL) == PEERCACHE_OK;
    }
    return status == PEERCACHE_OK;
}

static void perform_table(struct peercache_node *node,
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
    (void)pc_members_tell(conn, &msg);
}

void pc_members_table(struct peercache_node *node,
                      const struct pc_msg_table *table, uint64_t from)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_TABLE);
    event.peer = from;
    event.table = table;
    pc_view_step(node, &event);
}

/* ---- Probes ----------------------------------------------------------- */

static void tell_probed(struct peercache_node *node, uint64_t helper,
                        uint64_t about, uint64_t asked_ns,
                        enum pc_probe_verdict verdict)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_PROBED);
    event.peer = helper;
    event.about = about;
    event.asked_ns = asked_ns;
    event.verdict = verdict;
    pc_view_step(node, &event);
}

static void helper_done(struct pc_rpc *rpc, peercache_status_t status,
                        const struct pc_msg *reply)
{
    struct ask *ask = PC_CONTAINER_OF(rpc, struct ask, rpc);
    struct peercache_node *node = ask->node;
    enum pc_probe_verdict verdict = PC_PROBED_UNKNOWN;
    uint64_t helper = ask->incarnation;
    uint64_t about = ask->about;
    uint64_t asked_ns = rpc->started_ns;
    if (status == PEERCACHE_OK && reply->type == PC_MSG_PROBED &&
        reply->u.probed.incarnation == about) {
        verdict = (enum pc_probe_verdict)reply->u.probed.verdict;
    }
    ask_free(ask);
    tell_probed(node, helper, about, asked_ns, verdict);
}

/* Ask another node whether it reaches a third. */
static void perform_probe(struct peercache_node *node,
                          const struct pc_cluster_send *send)
{
    struct pc_peer *helper = pc_peers_learn(&node->peers, &send->member);
    struct ask *ask =
        helper == NULL ? NULL : ask_new(node, helper, helper_done);
    struct pc_msg msg = {.type = PC_MSG_PROBE};
    msg.u.probe.incarnation = send->about;
    if (ask != NULL) {
        ask->about = send->about;
    }
    if (ask == NULL ||
        !ask_start(ask, helper, &msg,
                   node->settings.heartbeat_interval_ns / 4 * 3)) {
        tell_probed(node, send->member.incarnation, send->about,
                    pc_engine_now(&node->engine), PC_PROBED_UNKNOWN);
    }
}

static void answer_probe(struct pc_conn *conn, uint64_t request, uint64_t about,
                         enum pc_probe_verdict verdict)
{
    struct pc_msg msg = {.type = PC_MSG_PROBED, .request = request};
    msg.u.probed.incarnation = about;
    msg.u.probed.verdict = (uint8_t)verdict;
    if (conn->state == PC_CONN_READY &&
        pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(conn, request, PEERCACHE_NO_MEMORY, "no memory");
    }
}

static void ping_done(struct pc_rpc *rpc, peercache_status_t status,
                      const struct pc_msg *reply)
{
    struct ask *ask = PC_CONTAINER_OF(rpc, struct ask, rpc);
    bool alive = status == PEERCACHE_OK && reply->type == PC_MSG_PONG;
    ask->node->n_probing--;
    answer_probe(ask->conn, ask->request, ask->about,
                 alive ? PC_PROBED_ALIVE : PC_PROBED_SILENT);
    pc_conn_unref(ask->conn);
    ask_free(ask);
}

static bool start_ping(struct peercache_node *node, struct pc_conn *conn,
                       const struct pc_msg *question, struct pc_peer *peer)
{
    struct ask *ask = ask_new(node, peer, ping_done);
    struct pc_msg msg = {.type = PC_MSG_PING};
    if (ask == NULL) {
        return false;
    }
    ask->about = question->u.probe.incarnation;
    ask->conn = conn;
    ask->request = question->request;
    msg.u.ping.token = ask->about;
    if (!ask_start(ask, peer, &msg, node->settings.heartbeat_interval_ns / 2)) {
        return false;
    }
    conn->refs++; /* It may close before the answer. */
    node->n_probing++;
    return true;
}

void pc_members_probe(struct peercache_node *node, struct pc_conn *conn,
                      const struct pc_msg *msg)
{
    uint64_t about = msg->u.probe.incarnation;
    const struct pc_member *member = pc_cluster_find(node->cluster, about);
    if (about == node->self.incarnation) {
        answer_probe(conn, msg->request, about, PC_PROBED_ALIVE);
        return;
    }
    if (member == NULL || node->n_probing >= PROBES_MAX || node->left) {
        answer_probe(conn, msg->request, about, PC_PROBED_UNKNOWN);
        return;
    }
    struct pc_peer *peer = pc_peers_learn(&node->peers, member);
    if (peer == NULL || !start_ping(node, conn, msg, peer)) {
        answer_probe(conn, msg->request, about, PC_PROBED_SILENT);
    }
}

/* ---- All -------------------------------------------------------------- */

void pc_members_send(struct peercache_node *node,
                     const struct pc_cluster_send *send)
{
    switch (send->type) {
    case PC_MSG_BEAT:
        perform_beat(node, send);
        break;
    case PC_MSG_PROBE:
        perform_probe(node, send);
        break;
    default:
        perform_table(node, send);
        break;
    }
}

void pc_members_lost(struct peercache_node *node, struct pc_peer *peer)
{
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_CONN_LOST);
    event.peer = peer->member.incarnation;
    if (peer->member.incarnation != 0) {
        pc_view_step(node, &event);
    }
}
