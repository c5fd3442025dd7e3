#include "conn.h"

#include "base/assert.h"

#include <string.h>

/* What a posted send is here; lives in its priv. */
struct send_state
{
    struct pc_list in_conn;
    size_t body_len;
    size_t left; /* Of the body. */
    size_t piece;
    size_t offset;
    int32_t status;
    uint16_t begun;
    uint16_t over; /* Only its done has not come yet. */
};
_Static_assert(sizeof(struct send_state) <=
                   sizeof(((struct pc_link_send *)0)->priv),
               "it lives in the poster's memory");

static struct send_state *state_of(struct pc_link_send *send)
{
    return (struct send_state *)(void *)send->priv;
}

static struct pc_link_send *send_of(struct pc_list *node)
{
    struct send_state *state =
        PC_CONTAINER_OF(node, struct send_state, in_conn);
    return PC_CONTAINER_OF(state, struct pc_link_send, priv);
}

static void end_send(struct pc_link_conn *conn, struct pc_link_send *send,
                     peercache_status_t status)
{
    struct send_state *state = state_of(send);
    state->status = status;
    state->over = 1;
    pc_list_remove(&state->in_conn);
    pc_list_push_back(&conn->ended, &state->in_conn);
}

void pc_sim_transmit_end_all(struct pc_link_conn *conn,
                             peercache_status_t status)
{
    while (!pc_list_is_empty(&conn->queue)) {
        end_send(conn, send_of(conn->queue.next), status);
    }
}

unsigned pc_sim_transmit_deliver(struct pc_link_conn *conn)
{
    struct pc_list *node;
    unsigned n_done = 0;
    while ((node = pc_list_pop_front(&conn->ended)) != NULL) {
        struct pc_link_send *send = send_of(node);
        send->done(send, (peercache_status_t)state_of(send)->status);
        n_done++;
    }
    return n_done;
}

peercache_status_t pc_sim_conn_send(struct pc_link_send *send)
{
    struct pc_link_conn *conn = send->conn;
    size_t body_len = 0;

    if (conn->state == PC_SIM_ENDED) {
        return conn->why;
    }
    if (send->head.len > conn->link->params.head_max) {
        return PEERCACHE_INVALID;
    }
    for (size_t i = 0; i < send->n_pieces; i++) {
        if (__builtin_add_overflow(body_len, send->pieces[i].len, &body_len)) {
            return PEERCACHE_INVALID;
        }
    }
    struct send_state *state = state_of(send);
    *state = (struct send_state){.body_len = body_len, .left = body_len};
    if (pc_list_is_empty(&conn->queue)) {
        conn->moved_ns = pc_sim_of(conn)->now_ns;
    }
    pc_list_init(&state->in_conn);
    pc_list_push_back(&conn->queue, &state->in_conn);
    pc_sim_conn_notify(conn);
    return PEERCACHE_IN_PROGRESS;
}

static void push_head(struct pc_link_conn *conn,
                      const struct pc_link_send *send, struct send_state *state)
{
    struct pc_sim_item *item = pc_sim_item_new(PC_SIM_HEAD, send->head.len);
    if (send->head.len > 0) {
        memcpy(item->data, send->head.data, send->head.len);
    }
    item->body_len = state->body_len;
    state->begun = 1;
    pc_sim_trace(pc_sim_of(conn), "%s -> %s message %zu+%zu",
                 conn->link->host->name, conn->peer, send->head.len,
                 state->body_len);
    pc_sim_wire_push(conn->wire, conn->end, item);
}

static void push_chunk(struct pc_link_conn *conn,
                       const struct pc_link_send *send,
                       struct send_state *state)
{
    size_t chunk = pc_sim_of(conn)->chunk;
    size_t len = state->left < chunk ? state->left : chunk;
    struct pc_sim_item *item = pc_sim_item_new(PC_SIM_BODY, len);
    size_t at = 0;

    state->left -= len;
    while (at < len) {
        const peercache_piece_t *piece = &send->pieces[state->piece];
        size_t n = piece->len - state->offset;
        n = n < len - at ? n : len - at;
        if (n > 0) {
            memcpy(item->data + at, (uint8_t *)piece->addr + state->offset, n);
        }
        at += n;
        state->offset += n;
        if (state->offset == piece->len) {
            state->piece++;
            state->offset = 0;
        }
    }
    pc_sim_wire_push(conn->wire, conn->end, item);
}

/* Give the network what it has room for. */
unsigned pc_sim_transmit(struct pc_link_conn *conn)
{
    unsigned n = 0;
    while (!pc_list_is_empty(&conn->queue) &&
           pc_sim_wire_has_room(conn->wire, conn->end)) {
        struct pc_link_send *send = send_of(conn->queue.next);
        struct send_state *state = state_of(send);
        if (!state->begun) {
            push_head(conn, send, state);
        } else {
            push_chunk(conn, send, state);
        }
        if (state->left == 0) {
            end_send(conn, send, PEERCACHE_OK);
        }
        conn->moved_ns = pc_sim_of(conn)->now_ns;
        n++;
    }
    return n;
}

void pc_sim_conn_cancel_send(struct pc_link_send *send)
{
    struct send_state *state = state_of(send);
    if (state->over) {
        return;
    }
    if (state->begun) {
        pc_sim_conn_fail(send->conn, PEERCACHE_CANCELED);
    } else {
        end_send(send->conn, send, PEERCACHE_CANCELED);
    }
    pc_sim_conn_notify(send->conn);
}
