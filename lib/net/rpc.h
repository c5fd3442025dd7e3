/*
 * rpc.h - connections to peers, the handshake on them, requests and answers.
 *
 *     outgoing: CONNECTING ─► GREETING ─ WELCOME ─► READY ─► CLOSED
 *     incoming:               GREETING ─ HELLO ───► READY ─► CLOSED
 *
 * Requests go out on connections that we opened and are answered there; what
 * comes in on a connection that a peer opened are its requests, our notices go
 * back on it. Every request ends exactly once: by its answer, its deadline, its
 * peer's end or a cancel. With the engine's role.
 */
#ifndef PC_NET_RPC_H
#define PC_NET_RPC_H

#include "base/list.h"
#include "base/map.h"
#include "net/engine.h"
#include "proto/msg.h"

struct pc_peer;
struct pc_peers;

enum pc_conn_state {
    PC_CONN_CONNECTING,
    PC_CONN_GREETING,
    PC_CONN_READY,
    PC_CONN_CLOSED
};

struct pc_conn
{
    struct pc_list link;    /* peers->incoming, or none. */
    struct pc_list greeted; /* Incoming: among those of its node's number. */
    struct pc_peers *peers;
    struct pc_link_conn *conn; /* NULL once it is gone. */
    enum pc_conn_state state;
    enum pc_link_class cls;
    bool outgoing;
    bool paused;  /* Too many answers under way. */
    bool closing; /* Close when the last send has left. */
    uint32_t number;
    uint32_t refs; /* The connection itself, and each send. */
    uint32_t n_sends;
    uint64_t send_bytes;
    struct pc_peer *peer;    /* Outgoing: whose it is. */
    struct pc_member remote; /* From HELLO or WELCOME. */
    struct pc_list rpcs;     /* Sent, not answered. */
    struct pc_map by_request;
    struct pc_arena arena; /* Of the message that is being handled. */
    struct pc_link_sink drop;
    struct pc_timer greeting; /* HELLO or WELCOME must come by then. */
};

/* One request. Its owner embeds it, and keeps it until done. */
struct pc_rpc
{
    struct pc_list link; /* In its connection, or waiting for one. */
    struct pc_peer *peer;
    struct pc_conn *conn;
    enum pc_link_class cls;
    /* Fails at once when the peer falls silent (reads, lookups); others wait
     * for their deadline. */
    bool breakable;
    bool landing;
    uint64_t id;
    uint64_t started_ns;
    uint64_t answered_by; /* Incarnation, when done comes with a reply. */
    size_t seen_landed;   /* For the breaker. */
    struct pc_timer deadline;
    struct pc_link_sink sink;
    peercache_status_t verdict; /* Of a landing that is being stopped. */
    uint8_t *bytes;             /* Until it is sent. */
    size_t len;
    /* The answer; reply is NULL unless status is OK, and lives until return.
     * An answer FAILED comes as its status. */
    void (*done)(struct pc_rpc *rpc, peercache_status_t status,
                 const struct pc_msg *reply);
    /* An answer with body_len > 0: set sink.pieces and n_pieces (summing to
     * body_len), or return false to drop the connection as malformed. done
     * then comes without the reply, when the body has landed. */
    bool (*body)(struct pc_rpc *rpc, const struct pc_msg *reply,
                 size_t body_len);
};

/* Ask a peer. rpc->done, breakable and body are set by the owner. Connects
 * first if need be. On an error nothing was started and done does not come:
 * UNREACHABLE, AGAIN (too many), NO_MEMORY, INVALID. */
peercache_status_t pc_rpc_start(struct pc_rpc *rpc, struct pc_peer *peer,
                                enum pc_link_class cls, struct pc_msg *msg,
                                uint64_t deadline_ns);
/* True: it is over and done will not come. False: bytes are landing, done comes
 * soon, with `verdict`. */
bool pc_rpc_stop(struct pc_rpc *rpc, peercache_status_t verdict);

/* Answer a request, or tell something (request 0). The body's pieces stay
 * until sent(arg), which comes exactly once unless an error is returned. */
peercache_status_t pc_conn_send(struct pc_conn *conn, struct pc_msg *msg,
                                const peercache_piece_t *pieces,
                                size_t n_pieces, void (*sent)(void *arg),
                                void *arg);
/* Answer that the request failed as a whole. */
void pc_conn_fail(struct pc_conn *conn, uint64_t request,
                  peercache_status_t status, const char *reason);
void pc_conn_close(struct pc_conn *conn, peercache_status_t why);
/* Give back a reference (conn->refs++); a closed connection stays until then.
 */
void pc_conn_unref(struct pc_conn *conn);

/* For peers.c. */
struct pc_conn *pc_conn_open(struct pc_peer *peer, enum pc_link_class cls);
void pc_conn_flush(struct pc_conn *conn);
struct pc_link_upcalls pc_conn_upcalls(struct pc_peers *peers);

#endif /* PC_NET_RPC_H */
