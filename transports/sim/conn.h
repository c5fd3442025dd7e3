/*
 * conn.h - one end of a connection, as its process sees it.
 *
 *  connect ─► CONNECTING ──(somebody listens)──► OPEN ─┐ failure, end of the
 *  arrival ─► INCOMING ────(was accepted)──────► OPEN ─┤ stream, disconnect
 *      └───────────────────────────────────────► ENDED ◄┘
 *
 * An ENDED connection has left its wire; its next turn delivers what it owes
 * and frees it.
 */
#ifndef PC_SIM_CONN_H
#define PC_SIM_CONN_H

#include "wire.h"

struct pc_link
{
    struct pc_list in_host;
    struct pc_sim_host *host;
    struct pc_link_params params;
    struct pc_list conns;     /* All of them. */
    struct pc_list ready;     /* Those that get a turn. */
    struct pc_list listeners; /* All of them. */
    bool closing;
    bool woken; /* Nobody waits here; for debuggers. */
};

enum pc_sim_conn_state {
    PC_SIM_CONNECTING,
    PC_SIM_INCOMING,
    PC_SIM_OPEN,
    PC_SIM_ENDED
};

enum pc_sim_owed {
    PC_SIM_OWES_NOTHING,
    PC_SIM_OWES_CONNECTED,
    PC_SIM_OWES_CLOSED
};

/* The message that is being received. */
struct pc_sim_in
{
    size_t left;               /* Bytes of its body still to come. */
    struct pc_link_sink *sink; /* NULL: they are dropped. */
    size_t piece;              /* Where the next byte goes. */
    size_t offset;
    struct pc_link_sink *ended; /* Its done is due, with this status. */
    peercache_status_t ended_status;
};

struct pc_link_conn
{
    struct pc_list in_conns;
    struct pc_list in_ready;
    struct pc_link *link;
    struct pc_sim_wire *wire;         /* NULL: ENDED. */
    int end;                          /* Of the wire. */
    struct pc_sim_listener *listener; /* While INCOMING. */
    struct pc_sim_event timer;        /* Deadline of connect, or stall. */
    uint64_t deadline_ns;             /* While CONNECTING. */
    uint64_t moved_ns;                /* When the queue last moved. */
    void *arg;
    enum pc_sim_conn_state state;
    enum pc_sim_owed owed;
    peercache_status_t why; /* Once ENDED. */
    bool paused;
    struct pc_list queue; /* Sends; the first may have begun. */
    struct pc_list ended; /* Sends whose done is due. */
    struct pc_sim_in in;
    char peer[PC_SIM_NAME_MAX]; /* Its host, for the trace. */
};

struct pc_link_conn *pc_sim_conn_connect(struct pc_link *link,
                                         const char *address,
                                         enum pc_link_class cls,
                                         uint64_t deadline_ns, void *arg);
/* One turn; may free the connection. Returns the amount of work done. */
unsigned pc_sim_conn_run(struct pc_link_conn *conn);
/* Harmless for one that has ended. */
void pc_sim_conn_fail(struct pc_link_conn *conn, peercache_status_t why);
void pc_sim_conn_pause(struct pc_link_conn *conn, bool paused);

static inline struct pc_sim *pc_sim_of(const struct pc_link_conn *conn)
{
    return conn->link->host->sim;
}

/* transmit.c */
peercache_status_t pc_sim_conn_send(struct pc_link_send *send);
void pc_sim_conn_cancel_send(struct pc_link_send *send);
/* Give the network what it has room for. */
unsigned pc_sim_transmit(struct pc_link_conn *conn);
void pc_sim_transmit_end_all(struct pc_link_conn *conn,
                             peercache_status_t status);
unsigned pc_sim_transmit_deliver(struct pc_link_conn *conn);

/* receive.c */
void pc_sim_conn_cancel_sink(struct pc_link_conn *conn,
                             struct pc_link_sink *sink);
/* At most one chunk of a body a turn, so that others act between two. */
unsigned pc_sim_receive(struct pc_link_conn *conn);
void pc_sim_receive_end_sink(struct pc_link_conn *conn,
                             peercache_status_t status);
unsigned pc_sim_receive_deliver(struct pc_link_conn *conn);

#endif /* PC_SIM_CONN_H */
