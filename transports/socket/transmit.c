#include "transports/socket/transmit.h"

#include "base/assert.h"
#include "transports/socket/conn.h"
#include "transports/socket/secure.h"

#include <errno.h>
#include <sys/socket.h>

/* What a message is to this transport; lives in its priv. */
struct pc_socket_item
{
    struct pc_list node;
    uint8_t prefix[PC_FRAME_PREFIX_LEN];
    uint64_t left;   /* Bytes of all three parts not yet sent. */
    uint64_t offset; /* In prefix and head, later in the current piece. */
    uint32_t index;  /* The current piece. */
    uint32_t in_body;
    int32_t status;
    uint32_t begun;
};
_Static_assert(sizeof(struct pc_socket_item) <=
                   sizeof(((struct pc_link_send *)0)->priv),
               "an item lives in the poster's memory");

static struct pc_socket_item *item_of(struct pc_link_send *send)
{
    return (struct pc_socket_item *)(void *)send->priv;
}

static struct pc_link_send *send_of(struct pc_list *node)
{
    struct pc_socket_item *item =
        PC_CONTAINER_OF(node, struct pc_socket_item, node);
    return PC_CONTAINER_OF(item, struct pc_link_send, priv);
}

void pc_socket_transmit_init(struct pc_link_conn *conn)
{
    pc_list_init(&conn->out.queue);
    pc_list_init(&conn->out.ended);
}

bool pc_socket_transmit_is_idle(const struct pc_link_conn *conn)
{
    return conn->out.preamble_left == 0 && pc_list_is_empty(&conn->out.queue) &&
           pc_secure_is_idle(conn);
}

peercache_status_t pc_socket_transmit_post(struct pc_link_send *send)
{
    struct pc_link_conn *conn = send->conn;
    struct pc_socket_item *item = item_of(send);
    uint64_t body_len = 0;

    if (send->head.len > conn->link->params.head_max ||
        send->head.len > UINT32_MAX || send->n_pieces > UINT32_MAX) {
        return PEERCACHE_INVALID;
    }
    for (size_t i = 0; i < send->n_pieces; i++) {
        body_len += send->pieces[i].len;
        if (send->pieces[i].len > PC_FRAME_BODY_MAX ||
            body_len > PC_FRAME_BODY_MAX) {
            return PEERCACHE_INVALID;
        }
    }
    struct pc_frame_prefix prefix = {.head_len = (uint32_t)send->head.len,
                                     .body_len = body_len};
    pc_frame_put_prefix(item->prefix, &prefix);
    item->left = PC_FRAME_PREFIX_LEN + send->head.len + body_len;
    item->offset = 0;
    item->index = 0;
    item->in_body = 0;
    item->begun = 0;
    item->status = PEERCACHE_OK;
    conn->out.fresh |= pc_socket_transmit_is_idle(conn);
    pc_list_init(&item->node);
    pc_list_push_back(&conn->out.queue, &item->node);
    return PEERCACHE_IN_PROGRESS;
}

static void end_item(struct pc_link_conn *conn, struct pc_socket_item *item,
                     peercache_status_t status)
{
    item->status = status;
    item->left = 0;
    pc_list_remove(&item->node);
    pc_list_push_back(&conn->out.ended, &item->node);
}

bool pc_socket_transmit_cancel(struct pc_link_send *send)
{
    struct pc_socket_item *item = item_of(send);
    if (item->left == 0) {
        return true; /* It has ended; only its done has not come yet. */
    }
    if (item->begun) {
        return false;
    }
    end_item(send->conn, item, PEERCACHE_CANCELED);
    return true;
}

void pc_socket_transmit_end_all(struct pc_link_conn *conn,
                                peercache_status_t status)
{
    while (!pc_list_is_empty(&conn->out.queue)) {
        end_item(conn, item_of(send_of(conn->out.queue.next)), status);
    }
}

unsigned pc_socket_transmit_deliver(struct pc_link_conn *conn)
{
    struct pc_list *node;
    unsigned n_done = 0;
    while ((node = pc_list_pop_front(&conn->out.ended)) != NULL) {
        struct pc_link_send *send = send_of(node);
        send->done(send, (peercache_status_t)item_of(send)->status);
        n_done++;
    }
    return n_done;
}

/* ---- Gathering: what to send next, as an iovec -------------------------- */

struct gather
{
    struct iovec *iov;
    size_t n_iov;
    uint64_t bytes;
};

static bool gather_is_full(const struct gather *gather)
{
    return gather->n_iov == PC_SOCKET_IOV_MAX ||
           gather->bytes >= PC_SOCKET_TURN_BYTES;
}

static void gather_add(struct gather *gather, const void *data, uint64_t len)
{
    if (len == 0 || gather_is_full(gather)) {
        return;
    }
    /* sendmsg only reads, but its iovec has no const. */
    gather->iov[gather->n_iov++] = (struct iovec){
        .iov_base = (void *)(uintptr_t)data, .iov_len = (size_t)len};
    gather->bytes += len;
}

static void gather_lead(struct gather *gather, const struct pc_link_send *send,
                        const struct pc_socket_item *item)
{
    uint64_t in_head = 0;
    if (item->offset < PC_FRAME_PREFIX_LEN) {
        gather_add(gather, item->prefix + item->offset,
                   PC_FRAME_PREFIX_LEN - item->offset);
    } else {
        in_head = item->offset - PC_FRAME_PREFIX_LEN;
    }
    if (send->head.len > in_head) {
        gather_add(gather, (const uint8_t *)send->head.data + in_head,
                   send->head.len - in_head);
    }
}

static void gather_item(struct gather *gather, struct pc_link_send *send)
{
    const struct pc_socket_item *item = item_of(send);
    size_t offset = item->in_body ? (size_t)item->offset : 0;

    if (!item->in_body) {
        gather_lead(gather, send, item);
    }
    for (size_t i = item->index; i < send->n_pieces; i++) {
        if (gather_is_full(gather)) {
            return;
        }
        gather_add(gather, (const uint8_t *)send->pieces[i].addr + offset,
                   send->pieces[i].len - offset);
        offset = 0;
    }
}

static struct gather gather_queue(struct pc_link_conn *conn)
{
    struct gather gather = {.iov = conn->link->iov};
    struct pc_socket_out *out = &conn->out;

    gather_add(&gather,
               out->preamble + PC_FRAME_PREAMBLE_LEN - out->preamble_left,
               out->preamble_left);
    for (struct pc_list *node = out->queue.next;
         node != &out->queue && !gather_is_full(&gather); node = node->next) {
        gather_item(&gather, send_of(node));
    }
    return gather;
}

/* ---- Advancing: n bytes have left --------------------------------------- */

/* Returns what is left of n for the items behind. */
static uint64_t advance_item(struct pc_link_send *send, uint64_t n)
{
    struct pc_socket_item *item = item_of(send);
    uint64_t rest = n > item->left ? n - item->left : 0;

    n -= rest;
    item->begun = 1;
    item->left -= n;
    if (item->left == 0) {
        return rest;
    }
    item->offset += n;
    if (!item->in_body) {
        uint64_t lead = PC_FRAME_PREFIX_LEN + send->head.len;
        if (item->offset < lead) {
            return rest;
        }
        item->offset -= lead;
        item->in_body = 1;
    }
    while (item->offset >= send->pieces[item->index].len) {
        item->offset -= send->pieces[item->index].len;
        item->index++;
    }
    return rest;
}

static void advance_queue(struct pc_link_conn *conn, uint64_t n)
{
    struct pc_socket_out *out = &conn->out;
    uint64_t preamble =
        n < out->preamble_left ? n : (uint64_t)out->preamble_left;

    out->preamble_left -= (size_t)preamble;
    n -= preamble;
    while (n > 0) {
        struct pc_link_send *send = send_of(out->queue.next);
        n = advance_item(send, n);
        if (item_of(send)->left == 0) {
            end_item(conn, item_of(send), PEERCACHE_OK);
        }
    }
}

static void send_failed(struct pc_link_conn *conn, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        conn->writable = false;
        return;
    }
    if (error == EINTR || error == ENOBUFS) {
        return; /* The next turn tries again. */
    }
    if ((error == EPIPE || error == ECONNRESET) && !conn->paused) {
        /* The peer has gone, but its last words may still be in our buffer:
         * reading finds the end of the stream behind them. */
        conn->out.broken = true;
        conn->readable = true;
        return;
    }
    pc_socket_conn_fail(conn, pc_socket_conn_status(error));
}

/* Encrypted bytes of a message leave, whatever becomes of it. */
static void mark_begun(struct pc_link_conn *conn)
{
    uint64_t n = pc_secure_sealed(conn);
    n -= n < conn->out.preamble_left ? n : conn->out.preamble_left;
    for (struct pc_list *node = conn->out.queue.next;
         n > 0 && node != &conn->out.queue; node = node->next) {
        struct pc_socket_item *item = item_of(send_of(node));
        item->begun = 1;
        n -= n < item->left ? n : item->left;
    }
}

/* One call; bytes of the queue that have left, or -1. *moved_p: whether
 * anything did. */
static ssize_t push(struct pc_link_conn *conn, bool *moved_p)
{
    struct gather gather = gather_queue(conn);
    if (pc_secure_sends(conn)) {
        size_t moved;
        ssize_t n = pc_secure_sendv(conn, gather.iov, gather.n_iov, &moved);
        if (n >= 0) {
            mark_begun(conn);
            conn->writable = pc_secure_is_idle(conn);
            *moved_p = moved > 0;
        }
        return n;
    }
    struct msghdr message = {.msg_iov = gather.iov, .msg_iovlen = gather.n_iov};
    ssize_t n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
        /* Less than asked for: the socket is full and its next event says
         * when it has room again. */
        conn->writable = (uint64_t)n == gather.bytes;
        *moved_p = n > 0;
    }
    return n;
}

unsigned pc_socket_transmit(struct pc_link_conn *conn)
{
    uint64_t budget = PC_SOCKET_TURN_BYTES;
    unsigned work = 0;

    if (conn->out.fresh) {
        conn->out.fresh = false;
        conn->out.moved_ns = conn->link->now_ns;
    }
    while (conn->writable && !conn->out.broken && budget > 0 &&
           !pc_socket_transmit_is_idle(conn)) {
        bool moved = false;
        ssize_t n = push(conn, &moved);
        if (n < 0) {
            send_failed(conn, errno);
            break;
        }
        if (moved) {
            conn->out.moved_ns = conn->link->now_ns;
        }
        budget -= (uint64_t)n < budget ? (uint64_t)n : budget;
        work++;
        advance_queue(conn, (uint64_t)n);
    }
    return work;
}
