#include "rpc.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/peers.h"

#include <stdio.h>

#define QUIET_NS (5 * PC_S)

/* A message on its way out: the link needs its bytes until done. */
struct out
{
    struct pc_link_send send;
    struct pc_conn *conn;
    uint8_t *bytes;
    uint64_t n_bytes; /* Of head and body. */
    void (*sent)(void *arg);
    void *arg;
};

void pc_conn_unref(struct pc_conn *conn)
{
    if (--conn->refs > 0) {
        return;
    }
    PC_ASSERT(pc_list_is_empty(&conn->rpcs));
    conn->peers->n_conns--;
    pc_map_fini(&conn->by_request);
    pc_arena_fini(&conn->arena);
    pc_free(conn);
}

/* ---- Sending ---------------------------------------------------------- */

static void out_done(struct pc_link_send *send, peercache_status_t status)
{
    struct out *out = PC_CONTAINER_OF(send, struct out, send);
    struct pc_conn *conn = out->conn;
    (void)status; /* A lost connection tells of itself. */
    conn->n_sends--;
    conn->send_bytes -= out->n_bytes;
    if (conn->paused && conn->conn != NULL &&
        conn->n_sends < PC_CONN_SENDS_PAUSE / 2 &&
        conn->send_bytes < PC_CONN_BYTES_PAUSE / 2) {
        conn->paused = false;
        conn->peers->engine->link_ops->pause(conn->conn, false);
    }
    if (conn->closing && conn->n_sends == 0) {
        pc_conn_close(conn, PEERCACHE_CANCELED);
    }
    if (out->sent != NULL) {
        out->sent(out->arg);
    }
    pc_free(out->bytes);
    pc_free(out);
    pc_conn_unref(conn);
}

/* Takes the bytes over on success only. */
static peercache_status_t send_bytes(struct pc_conn *conn, uint8_t *bytes,
                                     size_t len,
                                     const peercache_piece_t *pieces,
                                     size_t n_pieces, void (*sent)(void *),
                                     void *arg)
{
    if (conn->conn == NULL || conn->state == PC_CONN_CLOSED) {
        return PEERCACHE_UNREACHABLE;
    }
    struct out *out = pc_alloc(1, sizeof(*out));
    if (out == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    out->send.conn = conn->conn;
    out->send.head = (struct pc_blob){bytes, len};
    out->send.pieces = pieces;
    out->send.n_pieces = n_pieces;
    out->send.done = out_done;
    out->conn = conn;
    out->bytes = bytes;
    out->n_bytes = len;
    for (size_t i = 0; i < n_pieces; i++) {
        out->n_bytes += pieces[i].len;
    }
    out->sent = sent;
    out->arg = arg;
    peercache_status_t status = conn->peers->engine->link_ops->send(&out->send);
    if (status != PEERCACHE_IN_PROGRESS) {
        pc_free(out);
        return status == PEERCACHE_OK ? PEERCACHE_TRANSPORT : status;
    }
    conn->refs++;
    conn->n_sends++;
    conn->send_bytes += out->n_bytes;
    return PEERCACHE_OK;
}

peercache_status_t pc_conn_send(struct pc_conn *conn, struct pc_msg *msg,
                                const peercache_piece_t *pieces,
                                size_t n_pieces, void (*sent)(void *arg),
                                void *arg)
{
    uint8_t *bytes;
    size_t len;
    peercache_status_t status = pc_msg_encode(msg, &bytes, &len);
    if (status != PEERCACHE_OK) {
        return status;
    }
    status = send_bytes(conn, bytes, len, pieces, n_pieces, sent, arg);
    if (status != PEERCACHE_OK) {
        pc_free(bytes);
        return status;
    }
    if (!conn->outgoing && !conn->paused &&
        (conn->n_sends >= PC_CONN_SENDS_PAUSE ||
         conn->send_bytes >= PC_CONN_BYTES_PAUSE)) {
        conn->paused = true;
        conn->peers->engine->link_ops->pause(conn->conn, true);
    }
    return PEERCACHE_OK;
}

void pc_conn_fail(struct pc_conn *conn, uint64_t request,
                  peercache_status_t status, const char *reason)
{
    struct pc_msg msg = {.type = PC_MSG_FAILED, .request = request};
    msg.u.failed.status = status;
    (void)snprintf(msg.u.failed.reason, sizeof(msg.u.failed.reason), "%s",
                   reason);
    if (pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_close(conn, PEERCACHE_NO_MEMORY);
    }
}

void pc_conn_close(struct pc_conn *conn, peercache_status_t why)
{
    if (conn->state == PC_CONN_CLOSED) {
        return;
    }
    PC_DEBUG("net", "closing a connection with %s: %s", conn->remote.id.text,
             peercache_status_name(why));
    conn->state = PC_CONN_CLOSED;
    pc_engine_timer_stop(conn->peers->engine, &conn->greeting);
    if (conn->conn != NULL) {
        conn->peers->engine->link_ops->disconnect(conn->conn);
    }
}

/* ---- Requests --------------------------------------------------------- */

static void rpc_end(struct pc_rpc *rpc)
{
    struct pc_peer *peer = rpc->peer;
    struct pc_peers *peers = peer->peers;
    pc_list_remove(&rpc->link);
    pc_engine_timer_stop(peers->engine, &rpc->deadline);
    if (rpc->conn != NULL) {
        (void)pc_map_remove(&rpc->conn->by_request, pc_map_key(rpc->id));
        rpc->conn = NULL;
    }
    pc_free(rpc->bytes);
    rpc->bytes = NULL;
    rpc->landing = false;
    peer->n_rpcs--;
    peers->n_rpcs--;
}

static void rpc_complete(struct pc_rpc *rpc, peercache_status_t status,
                         const struct pc_msg *reply)
{
    struct pc_peer *peer = pc_peer_ref(rpc->peer);
    rpc_end(rpc);
    rpc->done(rpc, status, reply);
    pc_peer_unref(peer);
}

bool pc_rpc_stop(struct pc_rpc *rpc, peercache_status_t verdict)
{
    if (rpc->landing) {
        if (rpc->verdict == PEERCACHE_OK) {
            rpc->verdict = verdict;
            rpc->peer->peers->engine->link_ops->cancel_sink(rpc->conn->conn,
                                                            &rpc->sink);
        }
        return false;
    }
    rpc->peer->given_up = true; /* Until anything is heard. */
    rpc_end(rpc);
    return true;
}

static void rpc_deadline(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_rpc *rpc = PC_CONTAINER_OF(timer, struct pc_rpc, deadline);
    struct pc_peer *peer = pc_peer_ref(rpc->peer);
    if (pc_rpc_stop(rpc, PEERCACHE_TIMED_OUT)) {
        rpc->done(rpc, PEERCACHE_TIMED_OUT, NULL);
    }
    pc_peer_unref(peer);
}

/* The body of an answer has landed, or will not. */
static void rpc_landed(struct pc_link_sink *sink, peercache_status_t status)
{
    struct pc_rpc *rpc = PC_CONTAINER_OF(sink, struct pc_rpc, sink);
    pc_engine_refresh(rpc->peer->peers->engine);
    if (rpc->verdict != PEERCACHE_OK) {
        status = rpc->verdict;
    } else if (status == PEERCACHE_OK) {
        pc_peer_answered(rpc->peer);
    } else {
        status = PEERCACHE_PEER_FAILED;
    }
    rpc_complete(rpc, status, NULL);
}

static peercache_status_t rpc_send(struct pc_rpc *rpc, struct pc_conn *conn)
{
    if (!pc_map_put(&conn->by_request, pc_map_key(rpc->id),
                    (uint64_t)(uintptr_t)rpc)) {
        return PEERCACHE_NO_MEMORY;
    }
    peercache_status_t status =
        send_bytes(conn, rpc->bytes, rpc->len, NULL, 0, NULL, NULL);
    if (status != PEERCACHE_OK) {
        (void)pc_map_remove(&conn->by_request, pc_map_key(rpc->id));
        return status;
    }
    rpc->bytes = NULL; /* The connection's now. */
    rpc->conn = conn;
    pc_list_push_back(&conn->rpcs, &rpc->link);
    return PEERCACHE_OK;
}

/* A connection to send on or to wait for; NULL: there is none now. */
static struct pc_conn *conn_for(struct pc_peer *peer, enum pc_link_class cls)
{
    if (peer->conns[cls] != NULL) {
        return peer->conns[cls];
    }
    if (pc_engine_now(peer->peers->engine) < peer->retry_ns[cls]) {
        return NULL;
    }
    return pc_conn_open(peer, cls);
}

peercache_status_t pc_rpc_start(struct pc_rpc *rpc, struct pc_peer *peer,
                                enum pc_link_class cls, struct pc_msg *msg,
                                uint64_t deadline_ns)
{
    struct pc_peers *peers = peer->peers;
    PC_ASSERT_ENGINE(peers->engine);
    if (peers->closing || peer->gone || (rpc->breakable && peer->suspect)) {
        return PEERCACHE_UNREACHABLE;
    }
    if (peer->n_rpcs >= PC_PEER_RPCS_MAX) {
        return PEERCACHE_AGAIN;
    }
    struct pc_conn *conn = conn_for(peer, cls);
    if (conn == NULL) {
        return PEERCACHE_UNREACHABLE;
    }
    if (conn->n_sends >= PC_PEER_RPCS_MAX) {
        return PEERCACHE_AGAIN;
    }
    rpc->id = ++peers->next_request;
    msg->request = rpc->id;
    peercache_status_t status = pc_msg_encode(msg, &rpc->bytes, &rpc->len);
    if (status != PEERCACHE_OK) {
        return status;
    }
    rpc->peer = peer;
    rpc->conn = NULL;
    rpc->cls = cls;
    rpc->landing = false;
    rpc->seen_landed = 0;
    rpc->verdict = PEERCACHE_OK;
    rpc->started_ns = pc_engine_now(peers->engine);
    rpc->sink = (struct pc_link_sink){.done = rpc_landed};
    if (conn->state == PC_CONN_READY) {
        status = rpc_send(rpc, conn);
        if (status != PEERCACHE_OK) {
            pc_free(rpc->bytes);
            return status;
        }
    } else {
        pc_list_push_back(&peer->waiting[cls], &rpc->link);
    }
    pc_peer_asked(peer);
    peer->n_rpcs++;
    peers->n_rpcs++;
    pc_engine_timer_init(&rpc->deadline, rpc_deadline);
    pc_engine_timer_start(peers->engine, &rpc->deadline, deadline_ns);
    return PEERCACHE_OK;
}

void pc_conn_flush(struct pc_conn *conn)
{
    struct pc_peer *peer = conn->peer;
    struct pc_list *node;
    while (conn->state == PC_CONN_READY &&
           (node = pc_list_pop_front(&peer->waiting[conn->cls])) != NULL) {
        struct pc_rpc *rpc = PC_CONTAINER_OF(node, struct pc_rpc, link);
        peercache_status_t status = rpc_send(rpc, conn);
        if (status != PEERCACHE_OK) {
            rpc_complete(rpc, status, NULL);
        }
    }
}

/* ---- Receiving -------------------------------------------------------- */

static void drop_done(struct pc_link_sink *sink, peercache_status_t status)
{
    (void)sink;
    (void)status;
}

static bool is_answer(enum pc_msg_type type)
{
    switch (type) {
    case PC_MSG_TABLE:
    case PC_MSG_FOUND:
    case PC_MSG_PUBLISHED:
    case PC_MSG_TOUCHED:
    case PC_MSG_PAGES:
    case PC_MSG_PROMOTED:
    case PC_MSG_REMOVED:
    case PC_MSG_BECAUSE:
    case PC_MSG_PONG:
    case PC_MSG_PROBED:
    case PC_MSG_DRAINED:
    case PC_MSG_SUMMARIZED:
    case PC_MSG_LISTED:
    case PC_MSG_FAILED:
        return true;
    default:
        return false;
    }
}

/* Errors from a peer's mouth are taken only where they make sense. */
static peercache_status_t failed_status(int32_t status)
{
    switch (status) {
    case PEERCACHE_NO_MEMORY:
    case PEERCACHE_SHUTDOWN:
    case PEERCACHE_AGAIN:
    case PEERCACHE_NOT_READY:
    case PEERCACHE_UNSUPPORTED:
        return (peercache_status_t)status;
    default:
        return PEERCACHE_PEER_FAILED;
    }
}

static struct pc_link_sink *on_answer(struct pc_conn *conn,
                                      const struct pc_msg *msg, size_t body_len)
{
    uint64_t value;
    if (!pc_map_get(&conn->by_request, pc_map_key(msg->request), &value)) {
        conn->peers->counts.unasked++;
        return &conn->drop; /* We gave it up, or it was told twice. */
    }
    struct pc_rpc *rpc = (struct pc_rpc *)(uintptr_t)value;
    if (rpc->landing) {
        return NULL; /* Answered twice. */
    }
    rpc->answered_by = conn->remote.incarnation;
    if (rpc->cls == PC_LINK_CONTROL) {
        pc_peer_round_trip(rpc->peer, pc_engine_now(conn->peers->engine) -
                                          rpc->started_ns);
    }
    if (msg->type == PC_MSG_FAILED) {
        rpc_complete(rpc, failed_status(msg->u.failed.status), NULL);
        return &conn->drop;
    }
    if (body_len == 0) {
        rpc_complete(rpc, PEERCACHE_OK, msg);
        return &conn->drop;
    }
    if (rpc->body == NULL || !rpc->body(rpc, msg, body_len)) {
        return NULL;
    }
    rpc->landing = true;
    return &rpc->sink;
}

static void refuse(struct pc_conn *conn, uint64_t request,
                   peercache_status_t status, const char *reason)
{
    struct pc_msg msg = {.type = PC_MSG_REJECT, .request = request};
    msg.u.reject.status = status;
    (void)snprintf(msg.u.reject.reason, sizeof(msg.u.reject.reason), "%s",
                   reason);
    conn->peers->counts.refused++;
    conn->closing = true;
    if (pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_close(conn, status);
    }
}

/* The same connection of the same node, opened again: the old one is dead, and
 * what is still in it must not come after what the new one says (rule 11). */
static bool replaces_older(struct pc_conn *conn)
{
    struct pc_list *greeted =
        pc_peers_greeted(conn->peers, conn->remote.incarnation);
    struct pc_list *node = greeted->next;
    while (node != greeted) {
        struct pc_conn *other = PC_CONTAINER_OF(node, struct pc_conn, greeted);
        node = node->next;
        if (other == conn || other->state != PC_CONN_READY ||
            other->cls != conn->cls ||
            ((other->number ^ conn->number) & PC_CONN_TO_SEED) != 0 ||
            other->remote.incarnation != conn->remote.incarnation) {
            continue;
        }
        if (other->number >= conn->number) {
            return false;
        }
        pc_conn_close(other, PEERCACHE_CANCELED);
    }
    return true;
}

/* *n_hidden_p: lines that were left out before this one. */
static bool may_say(const struct pc_peers *peers, struct pc_peers_quiet *quiet,
                    uint64_t *n_hidden_p)
{
    uint64_t now = pc_engine_now(peers->engine);
    if (now < quiet->next_ns) {
        quiet->n_hidden++;
        return false;
    }
    *n_hidden_p = quiet->n_hidden;
    quiet->n_hidden = 0;
    quiet->next_ns = now + QUIET_NS;
    return true;
}

static void on_hello(struct pc_conn *conn, const struct pc_msg *msg)
{
    char reason[PC_REASON_MAX];
    uint64_t n_hidden;
    const struct pc_msg_hello *hello = &msg->u.hello;
    peercache_status_t status =
        pc_hello_check(&conn->peers->self, hello, reason);
    if (status != PEERCACHE_OK) {
        if (may_say(conn->peers, &conn->peers->quiet_refused, &n_hidden)) {
            PC_WARN("net", "refused node %s at %s: %s (%llu others)",
                    hello->self.id.text, hello->self.address, reason,
                    (unsigned long long)n_hidden);
        }
        refuse(conn, msg->request, status, reason);
        return;
    }
    conn->remote = hello->self;
    conn->number = hello->number;
    if (!replaces_older(conn)) {
        pc_conn_close(conn, PEERCACHE_PROTOCOL);
        return;
    }
    struct pc_msg answer = {.type = PC_MSG_WELCOME, .request = msg->request};
    pc_hello_fill(conn, &answer.u.hello);
    if (pc_conn_send(conn, &answer, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_close(conn, PEERCACHE_NO_MEMORY);
        return;
    }
    conn->state = PC_CONN_READY;
    pc_list_push_back(pc_peers_greeted(conn->peers, conn->remote.incarnation),
                      &conn->greeted);
    pc_engine_timer_stop(conn->peers->engine, &conn->greeting);
    pc_peers_conn_ready(conn, hello);
}

static void on_welcome(struct pc_conn *conn, const struct pc_msg_hello *hello)
{
    char reason[PC_REASON_MAX];
    peercache_status_t status =
        pc_hello_check(&conn->peers->self, hello, reason);
    if (status != PEERCACHE_OK) {
        if (!conn->peer->refused) {
            conn->peer->refused = true;
            PC_WARN("net", "node %s at %s does not fit: %s",
                    hello->self.id.text, conn->peer->member.address, reason);
        }
        pc_conn_close(conn, status);
        return;
    }
    conn->remote = hello->self;
    conn->state = PC_CONN_READY;
    pc_engine_timer_stop(conn->peers->engine, &conn->greeting);
    pc_peers_conn_ready(conn, hello);
}

static void on_reject(struct pc_conn *conn, const struct pc_msg_reject *reject)
{
    if (!conn->peer->refused) {
        conn->peer->refused = true;
        PC_ERROR("net", "refused by the node at %s: %s",
                 conn->peer->member.address, reject->reason);
    }
    pc_conn_close(conn, PEERCACHE_MISMATCH);
}

/* The first message of a connection; false: it is none. */
static bool on_greeting(struct pc_conn *conn, const struct pc_msg *msg)
{
    if (!conn->outgoing && msg->type == PC_MSG_HELLO) {
        on_hello(conn, msg);
    } else if (conn->outgoing && msg->type == PC_MSG_WELCOME) {
        on_welcome(conn, &msg->u.hello);
    } else if (conn->outgoing && msg->type == PC_MSG_REJECT) {
        on_reject(conn, &msg->u.reject);
    } else {
        return false;
    }
    return true;
}

static struct pc_link_sink *malformed(struct pc_conn *conn, const char *what)
{
    uint64_t n_hidden;
    conn->peers->counts.protocol_errors++;
    if (may_say(conn->peers, &conn->peers->quiet_malformed, &n_hidden)) {
        PC_WARN("net", "malformed message from %s: %s (%llu others)",
                conn->remote.id.text[0] != '\0' ? conn->remote.id.text
                                                : "a peer",
                what, (unsigned long long)n_hidden);
    }
    return NULL;
}

static struct pc_link_sink *take_message(struct pc_conn *conn,
                                         struct pc_blob head, size_t body_len)
{
    struct pc_msg msg;
    pc_arena_reset(&conn->arena);
    peercache_status_t status = pc_msg_decode(head, &conn->arena, &msg);
    if (status == PEERCACHE_VERSION && conn->state == PC_CONN_GREETING &&
        !conn->outgoing) {
        refuse(conn, msg.request, status, "another protocol version");
        return &conn->drop;
    }
    if (status != PEERCACHE_OK) {
        return malformed(conn, peercache_strerror(status));
    }
    if (conn->state == PC_CONN_GREETING) {
        return on_greeting(conn, &msg) ? &conn->drop
                                       : malformed(conn, "no greeting");
    }
    struct pc_peer *peer =
        conn->outgoing ? conn->peer
                       : pc_peers_find(conn->peers, conn->remote.incarnation);
    if (peer != NULL && conn->outgoing) {
        pc_peer_answered(peer);
    } else if (peer != NULL) {
        pc_peer_heard(peer);
    }
    if (conn->outgoing && msg.request != 0 && is_answer(msg.type)) {
        struct pc_link_sink *sink = on_answer(conn, &msg, body_len);
        return sink != NULL ? sink : malformed(conn, "unexpected answer");
    }
    conn->peers->up.request(conn->peers->up.arg, conn, &msg);
    return &conn->drop;
}

static struct pc_link_sink *up_message(void *conn_arg, struct pc_blob head,
                                       size_t body_len)
{
    struct pc_conn *conn = conn_arg;
    pc_engine_refresh(conn->peers->engine);
    if (conn->state == PC_CONN_CLOSED || conn->closing) {
        return &conn->drop;
    }
    struct pc_link_sink *sink = take_message(conn, head, body_len);
    if (body_len == 0) {
        /* Tables of a thousand nodes take megabytes: not to be kept for each
         * connection until its next message. */
        pc_arena_reset(&conn->arena);
    }
    return sink;
}

/* ---- The life of a connection ----------------------------------------- */

static void greeting_late(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct pc_conn *conn = PC_CONTAINER_OF(timer, struct pc_conn, greeting);
    pc_conn_close(conn, PEERCACHE_TIMED_OUT);
}

static struct pc_conn *conn_new(struct pc_peers *peers, bool outgoing,
                                enum pc_link_class cls)
{
    struct pc_conn *conn = pc_alloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn->peers = peers;
    conn->outgoing = outgoing;
    conn->cls = cls;
    conn->refs = 1;
    conn->drop.done = drop_done;
    pc_list_init(&conn->link);
    pc_list_init(&conn->greeted);
    pc_list_init(&conn->rpcs);
    pc_map_init(&conn->by_request);
    pc_arena_init(&conn->arena, 0);
    pc_engine_timer_init(&conn->greeting, greeting_late);
    peers->n_conns++;
    return conn;
}

struct pc_conn *pc_conn_open(struct pc_peer *peer, enum pc_link_class cls)
{
    struct pc_peers *peers = peer->peers;
    struct pc_conn *conn = conn_new(peers, true, cls);
    if (conn == NULL) {
        return NULL;
    }
    conn->peer = pc_peer_ref(peer);
    conn->remote = peer->member;
    conn->number = ++peers->next_number;
    if (peer->seed >= 0) {
        conn->number |= PC_CONN_TO_SEED; /* Beside the one to the node. */
    }
    uint64_t deadline =
        pc_engine_now(peers->engine) + peers->connect_timeout_ns;
    peercache_status_t status = peers->engine->link_ops->connect(
        peers->engine->link, peer->member.address, cls, deadline, conn,
        &conn->conn);
    if (status != PEERCACHE_IN_PROGRESS && status != PEERCACHE_OK) {
        PC_DEBUG("net", "cannot connect to %s: %s", peer->member.address,
                 peercache_status_name(status));
        peer->retry_ns[cls] = pc_engine_now(peers->engine) + 100 * PC_MS;
        pc_peer_unref(peer);
        pc_conn_unref(conn);
        return NULL;
    }
    peers->counts.connects++;
    peer->conns[cls] = conn;
    return conn;
}

static void conn_gone(struct pc_conn *conn, peercache_status_t why)
{
    struct pc_peer *peer = conn->peer;
    conn->state = PC_CONN_CLOSED;
    conn->conn = NULL;
    pc_engine_timer_stop(conn->peers->engine, &conn->greeting);
    if (pc_list_is_linked(&conn->link)) {
        pc_list_remove(&conn->link);
        conn->peers->n_incoming--;
    }
    pc_list_remove(&conn->greeted);
    struct pc_list *node;
    while ((node = conn->rpcs.next) != &conn->rpcs) {
        struct pc_rpc *rpc = PC_CONTAINER_OF(node, struct pc_rpc, link);
        rpc_complete(rpc, PEERCACHE_PEER_FAILED, NULL);
    }
    if (peer != NULL) {
        pc_peers_conn_lost(conn, why);
        pc_peer_unref(peer);
    }
    pc_conn_unref(conn);
}

static void up_connected(void *conn_arg, peercache_status_t status)
{
    struct pc_conn *conn = conn_arg;
    pc_engine_refresh(conn->peers->engine);
    if (status != PEERCACHE_OK) {
        conn_gone(conn, status);
        return;
    }
    if (conn->state == PC_CONN_CLOSED) {
        return; /* Disconnected meanwhile; closed follows. */
    }
    conn->state = PC_CONN_GREETING;
    struct pc_peers *peers = conn->peers;
    pc_engine_timer_start(peers->engine, &conn->greeting,
                          pc_engine_now(peers->engine) +
                              peers->connect_timeout_ns);
    struct pc_msg hello = {.type = PC_MSG_HELLO, .request = 1};
    pc_hello_fill(conn, &hello.u.hello);
    if (pc_conn_send(conn, &hello, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_close(conn, PEERCACHE_NO_MEMORY);
    }
}

static void *up_accepted(void *arg, struct pc_link_conn *link_conn,
                         enum pc_link_class cls, const char *from)
{
    struct pc_peers *peers = arg;
    (void)from;
    pc_engine_refresh(peers->engine);
    if (peers->closing || peers->n_incoming >= PC_INCOMING_MAX) {
        return NULL;
    }
    struct pc_conn *conn = conn_new(peers, false, cls);
    if (conn == NULL) {
        return NULL;
    }
    conn->conn = link_conn;
    conn->state = PC_CONN_GREETING;
    pc_list_push_back(&peers->incoming, &conn->link);
    peers->n_incoming++;
    pc_engine_timer_start(peers->engine, &conn->greeting,
                          pc_engine_now(peers->engine) +
                              peers->connect_timeout_ns);
    return conn;
}

static void up_closed(void *conn_arg, peercache_status_t why)
{
    struct pc_conn *conn = conn_arg;
    pc_engine_refresh(conn->peers->engine);
    conn_gone(conn_arg, why);
}

struct pc_link_upcalls pc_conn_upcalls(struct pc_peers *peers)
{
    return (struct pc_link_upcalls){
        .arg = peers,
        .accepted = up_accepted,
        .connected = up_connected,
        .message = up_message,
        .closed = up_closed,
    };
}
