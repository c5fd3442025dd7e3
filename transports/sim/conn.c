#include "conn.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

void pc_sim_conn_notify(struct pc_link_conn *conn)
{
    if (!pc_list_is_linked(&conn->in_ready)) {
        pc_list_push_back(&conn->link->ready, &conn->in_ready);
        pc_sim_host_notify(conn->link->host);
    }
}

static void timer_fired(struct pc_sim_event *event)
{
    pc_sim_conn_notify(PC_CONTAINER_OF(event, struct pc_link_conn, timer));
}

/* ---- Ending -------------------------------------------------------------- */

static unsigned deliver(struct pc_link_conn *conn)
{
    return pc_sim_receive_deliver(conn) + pc_sim_transmit_deliver(conn);
}

void pc_sim_conn_fail(struct pc_link_conn *conn, peercache_status_t why)
{
    if (conn->state == PC_SIM_ENDED) {
        return;
    }
    if (!conn->link->host->dead) {
        pc_sim_trace(pc_sim_of(conn), "%s | %s closed %s",
                     conn->link->host->name, conn->peer,
                     peercache_status_name(why));
    }
    conn->state = PC_SIM_ENDED;
    conn->why = why;
    pc_sim_unschedule(pc_sim_of(conn), &conn->timer);
    pc_sim_wire_leave(conn->wire, conn->end);
    conn->wire = NULL;
    pc_sim_transmit_end_all(conn, why);
    pc_sim_receive_end_sink(conn, why);
    pc_sim_conn_notify(conn);
}

/* The last turn: every done, then the upcall, then nothing. */
static unsigned finish(struct pc_link_conn *conn)
{
    const struct pc_link_upcalls *up = &conn->link->params.up;
    unsigned work = 1;
    unsigned n_done;

    do {
        n_done = deliver(conn);
        work += n_done;
    } while (n_done > 0);
    if (conn->owed == PC_SIM_OWES_CONNECTED) {
        up->connected(conn->arg, conn->why);
    } else if (conn->owed == PC_SIM_OWES_CLOSED) {
        up->closed(conn->arg, conn->why);
    }
    pc_list_remove(&conn->in_ready);
    pc_list_remove(&conn->in_conns);
    pc_free(conn);
    return work;
}

/* ---- Becoming open ------------------------------------------------------- */

static struct pc_link_conn *conn_init(struct pc_link_conn *conn,
                                      struct pc_link *link)
{
    conn->link = link;
    pc_list_init(&conn->in_ready);
    pc_list_init(&conn->queue);
    pc_list_init(&conn->ended);
    pc_sim_event_init(&conn->timer, timer_fired);
    pc_list_init(&conn->in_conns);
    pc_list_push_back(&link->conns, &conn->in_conns);
    return conn;
}

struct pc_link_conn *pc_sim_conn_connect(struct pc_link *link,
                                         const char *address,
                                         enum pc_link_class cls,
                                         uint64_t deadline_ns, void *arg)
{
    struct pc_link_conn *conn = pc_alloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn_init(conn, link);
    conn->state = PC_SIM_CONNECTING;
    conn->owed = PC_SIM_OWES_CONNECTED;
    conn->arg = arg;
    conn->deadline_ns = deadline_ns == UINT64_MAX
                            ? UINT64_MAX
                            : pc_sim_world_time(link->host, deadline_ns);
    struct pc_sim_host *host = link->host;
    struct pc_sim_listener *listener = pc_sim_listener_find(host, address);
    struct pc_sim_host *to =
        listener != NULL ? listener->host : pc_sim_host_at(host->sim, address);
    snprintf(conn->peer, sizeof(conn->peer), "%s",
             to != NULL ? to->name : address);
    pc_sim_trace(host->sim, "%s -> %s connect %s", host->name, conn->peer,
                 cls == PC_LINK_BULK ? "bulk" : "control");
    conn->wire = pc_sim_wire_open(host, address, cls, conn);
    if (conn->deadline_ns != UINT64_MAX) {
        pc_sim_schedule(host->sim, &conn->timer, conn->deadline_ns);
    }
    return conn;
}

struct pc_link_conn *pc_sim_conn_incoming(struct pc_sim_listener *listener,
                                          struct pc_sim_wire *wire)
{
    struct pc_link_conn *conn = pc_alloc(1, sizeof(*conn));
    if (conn == NULL) {
        /* Out of memory for once: a listener that is full. */
        return NULL;
    }
    conn_init(conn, listener->link);
    conn->state = PC_SIM_INCOMING;
    conn->listener = listener;
    conn->wire = wire;
    conn->end = 1;
    snprintf(conn->peer, sizeof(conn->peer), "%s", wire->hosts[0]->name);
    pc_sim_conn_notify(conn);
    return conn;
}

static unsigned finish_connect(struct pc_link_conn *conn)
{
    struct pc_sim_item *item = pc_sim_wire_peek(conn->wire, conn->end);
    if (item == NULL) {
        if (pc_sim_of(conn)->now_ns >= conn->deadline_ns) {
            pc_sim_conn_fail(conn, PEERCACHE_TIMED_OUT);
        }
        return 0;
    }
    if (item->kind != PC_SIM_SYN_ACK) {
        pc_sim_conn_fail(conn, PEERCACHE_UNREACHABLE);
        return 0;
    }
    free(pc_sim_wire_take(conn->wire, conn->end));
    pc_sim_unschedule(pc_sim_of(conn), &conn->timer);
    conn->state = PC_SIM_OPEN;
    conn->owed = PC_SIM_OWES_CLOSED;
    conn->moved_ns = pc_sim_of(conn)->now_ns;
    conn->link->params.up.connected(conn->arg, PEERCACHE_OK);
    return 1;
}

static unsigned finish_accept(struct pc_link_conn *conn)
{
    const struct pc_link_upcalls *up = &conn->link->params.up;

    pc_sim_trace(pc_sim_of(conn), "%s accepts %s", conn->link->host->name,
                 conn->peer);
    conn->state = PC_SIM_OPEN;
    conn->listener = NULL;
    conn->arg = up->accepted(up->arg, conn, conn->wire->cls, conn->wire->from);
    if (conn->arg == NULL) {
        pc_sim_conn_fail(conn, PEERCACHE_CANCELED);
    } else {
        conn->owed = PC_SIM_OWES_CLOSED;
    }
    return 1;
}

/* ---- Turns --------------------------------------------------------------- */

/* Like TCP with a user timeout: what does not leave, or leaves and is not heard
 * of by the other kernel, for too long. One timer while something is under
 * way; it finds out when it fires. */
static void watch_stall(struct pc_link_conn *conn)
{
    uint64_t stall_ns = conn->link->params.stall_ns;
    uint64_t now_ns = pc_sim_of(conn)->now_ns;
    bool waits = !pc_list_is_empty(&conn->queue);

    if (stall_ns == 0 ||
        (!waits && !pc_sim_wire_is_moving(conn->wire, conn->end))) {
        return;
    }
    uint64_t held_ns = pc_sim_wire_held_ns(conn->wire, conn->end);
    uint64_t since_ns = waits ? conn->moved_ns : now_ns;
    if (held_ns != 0 && held_ns < since_ns) {
        since_ns = held_ns;
    }
    if (now_ns - since_ns >= stall_ns) {
        pc_sim_conn_fail(conn, PEERCACHE_TIMED_OUT);
    } else if (!pc_sim_is_scheduled(&conn->timer)) {
        pc_sim_schedule(pc_sim_of(conn), &conn->timer, since_ns + stall_ns);
    }
}

static bool wants_turn(const struct pc_link_conn *conn)
{
    return conn->in.ended != NULL || !pc_list_is_empty(&conn->ended) ||
           (!conn->paused && pc_sim_wire_peek(conn->wire, conn->end) != NULL);
}

unsigned pc_sim_conn_run(struct pc_link_conn *conn)
{
    unsigned work = deliver(conn);

    if (conn->state == PC_SIM_CONNECTING) {
        work += finish_connect(conn);
    } else if (conn->state == PC_SIM_INCOMING) {
        work += finish_accept(conn);
    }
    if (conn->state == PC_SIM_OPEN) {
        work += pc_sim_receive(conn);
    }
    if (conn->state == PC_SIM_OPEN) {
        work += pc_sim_transmit(conn);
    }
    work += deliver(conn);
    if (conn->state == PC_SIM_OPEN) {
        watch_stall(conn);
    }
    if (conn->state == PC_SIM_ENDED) {
        return work + finish(conn);
    }
    if (conn->state == PC_SIM_OPEN && wants_turn(conn)) {
        pc_sim_conn_notify(conn);
    }
    return work;
}

void pc_sim_conn_pause(struct pc_link_conn *conn, bool paused)
{
    conn->paused = paused;
    pc_sim_conn_notify(conn);
}
