#include "conn.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

enum { ITEMS_PER_TURN = 16 };

void pc_sim_receive_end_sink(struct pc_link_conn *conn,
                             peercache_status_t status)
{
    if (conn->in.sink == NULL) {
        return;
    }
    PC_ASSERT(conn->in.ended == NULL);
    conn->in.ended = conn->in.sink;
    conn->in.ended_status = status;
    conn->in.sink = NULL;
}

unsigned pc_sim_receive_deliver(struct pc_link_conn *conn)
{
    struct pc_link_sink *sink = conn->in.ended;
    if (sink == NULL) {
        return 0;
    }
    conn->in.ended = NULL;
    sink->done(sink, conn->in.ended_status);
    return 1;
}

static void begin_message(struct pc_link_conn *conn,
                          const struct pc_sim_item *item)
{
    struct pc_blob head = {item->data, item->len};
    if (item->len > conn->link->params.head_max) {
        pc_sim_conn_fail(conn, PEERCACHE_PROTOCOL);
        return;
    }
    struct pc_link_sink *sink =
        conn->link->params.up.message(conn->arg, head, item->body_len);
    conn->in.left = item->body_len;
    conn->in.piece = 0;
    conn->in.offset = 0;
    conn->in.sink = sink;
    if (sink == NULL) {
        pc_sim_conn_fail(conn, PEERCACHE_PROTOCOL);
        return;
    }
    sink->landed = 0;
    if (conn->state == PC_SIM_ENDED) {
        /* Closed from within the upcall: the sink is ours all the same. */
        pc_sim_receive_end_sink(conn, conn->why);
    } else if (item->body_len == 0) {
        pc_sim_receive_end_sink(conn, PEERCACHE_OK);
    }
}

static void land(struct pc_link_conn *conn, const uint8_t *data, size_t len)
{
    struct pc_sim_in *in = &conn->in;
    const struct pc_link_sink *sink = in->sink;

    if (sink->pieces == NULL) {
        return;
    }
    while (len > 0 && in->piece < sink->n_pieces) {
        const peercache_piece_t *piece = &sink->pieces[in->piece];
        size_t n = piece->len - in->offset;
        n = n < len ? n : len;
        if (n > 0) {
            memcpy((uint8_t *)piece->addr + in->offset, data, n);
        }
        data += n;
        len -= n;
        in->offset += n;
        if (in->offset == piece->len) {
            in->piece++;
            in->offset = 0;
        }
    }
}

static void take_body(struct pc_link_conn *conn, const struct pc_sim_item *item)
{
    struct pc_sim_in *in = &conn->in;
    PC_ASSERT(item->len <= in->left);
    in->left -= item->len;
    if (in->sink == NULL) {
        return;
    }
    land(conn, item->data, item->len);
    in->sink->landed += item->len;
    if (pc_sim_of(conn)->trace.chunks) {
        pc_sim_trace(pc_sim_of(conn), "%s -> %s %zu bytes land, %zu to come",
                     conn->peer, conn->link->host->name, item->len, in->left);
    }
    if (in->left == 0) {
        pc_sim_receive_end_sink(conn, PEERCACHE_OK);
    }
}

/* False: nothing (more) to read in this turn. */
static bool receive_one(struct pc_link_conn *conn)
{
    struct pc_sim_item *item = pc_sim_wire_peek(conn->wire, conn->end);
    if (item == NULL) {
        return false;
    }
    if (item->kind == PC_SIM_FIN || item->kind == PC_SIM_RST ||
        (conn->paused && pc_sim_wire_is_reset(conn->wire, conn->end))) {
        pc_sim_conn_fail(conn, PEERCACHE_PEER_FAILED);
        return true;
    }
    if (conn->paused) {
        return false;
    }
    /* Out of the wire first: an upcall may end the connection. */
    item = pc_sim_wire_take(conn->wire, conn->end);
    bool go_on = item->kind == PC_SIM_HEAD;
    if (item->kind == PC_SIM_HEAD) {
        begin_message(conn, item);
    } else {
        take_body(conn, item);
    }
    free(item);
    return go_on;
}

/* At most one chunk of a body a turn, so that others act between two. */
unsigned pc_sim_receive(struct pc_link_conn *conn)
{
    unsigned n = 0;
    while (n < ITEMS_PER_TURN && conn->state == PC_SIM_OPEN) {
        bool had = pc_sim_wire_peek(conn->wire, conn->end) != NULL;
        bool go_on = receive_one(conn);
        n += go_on || (had && !conn->paused);
        pc_sim_receive_deliver(conn);
        if (!go_on) {
            break;
        }
    }
    return n;
}

void pc_sim_conn_cancel_sink(struct pc_link_conn *conn,
                             struct pc_link_sink *sink)
{
    if (conn->in.sink == sink) {
        pc_sim_receive_end_sink(conn, PEERCACHE_CANCELED);
        pc_sim_conn_notify(conn);
    }
}
