#include "transports/socket/receive.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "transports/socket/conn.h"
#include "transports/socket/secure.h"

#include <errno.h>
#include <string.h>

/* Behind a long body the next head is short, and what is read beyond it would
 * be copied once more: read little there, and much in a row of small ones. */
#define AHEAD_SHORT   4096
#define LONG_BODY_LEN 32768
/* Where a long body is empty for a moment, it is waited for here: no longer
 * than this ... */
#define POLL_NS (20 * PC_US)
/* ... and for each nanosecond so many bytes must have come, so that a peer that
 * drips gains no time of ours and a turn stays bounded by its bytes. */
#define POLL_BYTES_NS 2
#define LOOK_NS       PC_US /* What the look itself takes, about. */
#define SPARES_MAX    64    /* Unused receive buffers that a link keeps. */

/* ---- Cursor -------------------------------------------------------------- */

static void cursor_skip_full(struct pc_socket_cursor *cursor)
{
    while (cursor->index < cursor->n_pieces &&
           cursor->offset == cursor->pieces[cursor->index].len) {
        cursor->index++;
        cursor->offset = 0;
    }
}

static bool cursor_drops(const struct pc_socket_cursor *cursor)
{
    return cursor->index >= cursor->n_pieces;
}

/* At most `len` bytes of the current piece. */
static size_t cursor_step(const struct pc_socket_cursor *cursor, size_t len)
{
    size_t room = cursor->pieces[cursor->index].len - cursor->offset;
    return len < room ? len : room;
}

static void cursor_advance(struct pc_socket_cursor *cursor, size_t n)
{
    cursor->left -= n;
    while (n > 0 && !cursor_drops(cursor)) {
        size_t step = cursor_step(cursor, n);
        cursor->offset += step;
        n -= step;
        cursor_skip_full(cursor);
    }
}

static void cursor_copy(struct pc_socket_cursor *cursor, const uint8_t *data,
                        size_t n)
{
    cursor->left -= n;
    while (n > 0 && !cursor_drops(cursor)) {
        size_t step = cursor_step(cursor, n);
        memcpy((uint8_t *)cursor->pieces[cursor->index].addr + cursor->offset,
               data, step);
        cursor->offset += step;
        data += step;
        n -= step;
        cursor_skip_full(cursor);
    }
}

/* The pieces for the next bytes, at most `max` of them; their number. */
static size_t cursor_gather(const struct pc_socket_cursor *cursor,
                            struct iovec *iov, size_t n_max, size_t max,
                            size_t *bytes_p)
{
    size_t offset = cursor->offset;
    size_t n_iov = 0;
    size_t bytes = 0;

    max = cursor->left < max ? (size_t)cursor->left : max;
    for (size_t i = cursor->index;
         i < cursor->n_pieces && n_iov < n_max && bytes < max; i++) {
        size_t len = cursor->pieces[i].len - offset;
        len = len < max - bytes ? len : max - bytes;
        if (len > 0) {
            iov[n_iov].iov_base = (uint8_t *)cursor->pieces[i].addr + offset;
            iov[n_iov].iov_len = len;
            n_iov++;
        }
        bytes += len;
        offset = 0;
    }
    *bytes_p = bytes;
    return n_iov;
}

static void cursor_start(struct pc_socket_cursor *cursor,
                         const peercache_piece_t *pieces, size_t n_pieces,
                         uint64_t left)
{
    *cursor = (struct pc_socket_cursor){
        .pieces = pieces,
        .n_pieces = pieces == NULL ? 0 : n_pieces,
        .left = left,
    };
    cursor_skip_full(cursor);
}

/* ---- Receive buffer ------------------------------------------------------ */

/* An unused buffer holds its own list node. */
static bool buffer_take(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    struct pc_socket_in *in = &conn->in;

    if (in->buffer != NULL) {
        return true;
    }
    struct pc_list *node = pc_list_pop_front(&link->spares);
    if (node != NULL) {
        link->n_spares--;
        in->buffer = (uint8_t *)node;
    } else {
        in->buffer = pc_alloc(1, PC_SOCKET_BUFFER_LEN);
    }
    in->start = 0;
    in->end = 0;
    return in->buffer != NULL;
}

static void buffer_give_back(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    struct pc_list *node = (struct pc_list *)(void *)conn->in.buffer;

    if (node == NULL) {
        return;
    }
    conn->in.buffer = NULL;
    conn->in.start = 0;
    conn->in.end = 0;
    if (link->n_spares == SPARES_MAX) {
        pc_free(node);
        return;
    }
    pc_list_init(node);
    pc_list_push_front(&link->spares, node);
    link->n_spares++;
}

/* Make room behind the buffered bytes for `len` in all. */
static void buffer_compact(struct pc_socket_in *in, size_t len)
{
    if (in->start == in->end) {
        in->start = 0;
        in->end = 0;
    } else if (in->start + len > PC_SOCKET_BUFFER_LEN) {
        memmove(in->buffer, in->buffer + in->start, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
}

/* Long heads are rare: the link keeps one piece of memory for the next. */
static bool head_take(struct pc_link_conn *conn, size_t len)
{
    struct pc_link *link = conn->link;
    struct pc_socket_in *in = &conn->in;

    if (link->spare_head_len >= len) {
        in->head = link->spare_head;
        in->head_capacity = link->spare_head_len;
        link->spare_head = NULL;
        link->spare_head_len = 0;
        return true;
    }
    in->head = pc_alloc(1, len);
    in->head_capacity = len;
    return in->head != NULL;
}

static void head_give_back(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    struct pc_socket_in *in = &conn->in;

    if (in->head != NULL && in->head_capacity > link->spare_head_len) {
        pc_free(link->spare_head);
        link->spare_head = in->head;
        link->spare_head_len = in->head_capacity;
    } else {
        pc_free(in->head);
    }
    in->head = NULL;
}

void pc_socket_receive_init(struct pc_link_conn *conn)
{
    conn->in.phase = PC_SOCKET_PREFIX;
    conn->in.ahead = PC_SOCKET_BUFFER_LEN;
}

void pc_socket_receive_fini(struct pc_link_conn *conn)
{
    PC_ASSERT(conn->in.sink == NULL && conn->in.ended == NULL);
    buffer_give_back(conn);
    head_give_back(conn);
}

/* ---- Messages ------------------------------------------------------------ */

void pc_socket_receive_end_sink(struct pc_link_conn *conn,
                                peercache_status_t status)
{
    struct pc_socket_in *in = &conn->in;
    if (in->sink == NULL) {
        return;
    }
    /* A body begins only after the done of the one before was called. */
    PC_ASSERT(in->ended == NULL);
    in->ended = in->sink;
    in->ended_status = status;
    in->sink = NULL;
    in->cursor.n_pieces = 0; /* The rest is dropped. */
}

unsigned pc_socket_receive_deliver(struct pc_link_conn *conn)
{
    struct pc_link_sink *sink = conn->in.ended;
    if (sink == NULL) {
        return 0;
    }
    conn->in.ended = NULL;
    sink->done(sink, conn->in.ended_status);
    return 1;
}

/* The body is complete, or there is none. */
static void end_message(struct pc_link_conn *conn)
{
    conn->in.phase = PC_SOCKET_PREFIX;
    pc_socket_receive_end_sink(conn, PEERCACHE_OK);
    (void)pc_socket_receive_deliver(conn);
}

static void begin_body(struct pc_link_conn *conn, const void *head)
{
    struct pc_socket_in *in = &conn->in;
    struct pc_blob blob = {.data = head, .len = in->prefix.head_len};
    uint64_t body_len = in->prefix.body_len;
    struct pc_link_sink *sink =
        conn->link->params.up.message(conn->arg, blob, (size_t)body_len);

    in->ahead = body_len >= LONG_BODY_LEN ? AHEAD_SHORT : PC_SOCKET_BUFFER_LEN;
    in->phase = PC_SOCKET_BODY;
    in->sink = sink;
    if (sink == NULL) {
        pc_socket_conn_fail(conn, PEERCACHE_PROTOCOL);
        return;
    }
    sink->landed = 0;
    cursor_start(&in->cursor, sink->pieces, sink->n_pieces, body_len);
    if (conn->state != PC_SOCKET_OPEN) {
        /* Closed from within the upcall: the sink is ours all the same. */
        pc_socket_receive_end_sink(conn, conn->why);
    } else if (body_len == 0) {
        end_message(conn);
    }
}

static void take_head(struct pc_link_conn *conn, const void *head)
{
    enum pc_link_class cls;
    if (conn->state == PC_SOCKET_OPEN) {
        begin_body(conn, head);
    } else if (!pc_frame_get_greeting(head, &cls)) {
        pc_socket_conn_refuse(conn, PEERCACHE_PROTOCOL,
                              "its preamble is malformed");
    } else {
        (void)pc_socket_conn_greeted(conn, cls);
    }
}

/* A handshake record where a frame should begin, or an alert. */
static bool looks_like_tls(const uint8_t *data)
{
    return data[0] >= 0x15 && data[0] <= 0x17 && data[1] == 3;
}

static void refuse_frame(struct pc_link_conn *conn, const uint8_t *data)
{
    bool tls = looks_like_tls(data);
    if (conn->state == PC_SOCKET_GREETING) {
        pc_socket_conn_refuse(conn, PEERCACHE_PROTOCOL,
                              tls ? "it wants TLS, and this node has no key"
                                  : "it does not speak our protocol");
    } else if (tls && !conn->incoming && !conn->heard) {
        pc_socket_conn_distrust(conn, PEERCACHE_UNAUTHENTICATED,
                                conn->secure == NULL
                                    ? "it wants TLS, and this node has no key"
                                    : "it refused us: its log says why");
    } else {
        pc_socket_conn_fail(conn, PEERCACHE_PROTOCOL);
    }
}

static bool prefix_is_good(struct pc_link_conn *conn, const uint8_t *data)
{
    bool greeting = conn->state == PC_SOCKET_GREETING;
    size_t head_max =
        greeting ? PC_FRAME_GREETING_LEN : conn->link->params.head_max;
    struct pc_frame_prefix *prefix = &conn->in.prefix;

    uint64_t body_max = conn->link->params.body_max;

    if (pc_frame_get_prefix(data, head_max, prefix) &&
        (body_max == 0 || prefix->body_len <= body_max) &&
        (!greeting || (prefix->head_len == PC_FRAME_GREETING_LEN &&
                       prefix->body_len == 0))) {
        conn->heard = true;
        return true;
    }
    refuse_frame(conn, data);
    return false;
}

static bool begin_long_head(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    if (!head_take(conn, in->prefix.head_len)) {
        pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
        return false;
    }
    in->head_piece.addr = in->head;
    in->head_piece.len = in->prefix.head_len;
    in->phase = PC_SOCKET_HEAD;
    cursor_start(&in->cursor, &in->head_piece, 1, in->prefix.head_len);
    return true;
}

/* A prefix with its head from the buffer; false if more must be read. */
static bool take_prefix(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    size_t buffered = in->end - in->start;
    const uint8_t *data = in->buffer + in->start;

    if (buffered < PC_FRAME_PREFIX_LEN || !prefix_is_good(conn, data)) {
        return false;
    }
    size_t len = PC_FRAME_PREFIX_LEN + in->prefix.head_len;
    if (in->prefix.head_len > conn->link->stats.head_max) {
        conn->link->stats.head_max = in->prefix.head_len;
    }
    if (len > PC_SOCKET_BUFFER_LEN) {
        in->start += PC_FRAME_PREFIX_LEN;
        return begin_long_head(conn);
    }
    if (buffered < len) {
        return false;
    }
    in->start += len;
    take_head(conn, data + PC_FRAME_PREFIX_LEN);
    return true;
}

/* The cursor has all its bytes. */
static void end_cursor(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    if (in->phase == PC_SOCKET_BODY) {
        end_message(conn);
        return;
    }
    take_head(conn, in->head);
    head_give_back(conn);
}

static void count_landed(struct pc_socket_in *in, size_t n)
{
    if (in->phase == PC_SOCKET_BODY && in->sink != NULL) {
        in->sink->landed += n;
    }
}

/* From the buffer to where the cursor points. */
static bool take_bytes(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    size_t n = in->end - in->start;

    n = in->cursor.left < n ? (size_t)in->cursor.left : n;
    cursor_copy(&in->cursor, in->buffer + in->start, n);
    in->start += n;
    count_landed(in, n);
    if (in->cursor.left > 0) {
        return false;
    }
    end_cursor(conn);
    return true;
}

static bool is_reading(const struct pc_link_conn *conn)
{
    return !conn->paused &&
           (conn->state == PC_SOCKET_OPEN || conn->state == PC_SOCKET_GREETING);
}

/* Hand up whatever the buffer holds. */
static unsigned take_buffered(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    unsigned work = 0;
    while (is_reading(conn) && in->start < in->end &&
           (in->phase == PC_SOCKET_PREFIX ? take_prefix(conn)
                                          : take_bytes(conn))) {
        work++;
    }
    return work;
}

/* ---- Reading ------------------------------------------------------------- */

/* Where the next bytes go: the cursor's pieces and, if these are all that the
 * body lacks, the beginning of the buffer. */
static size_t plan_read(struct pc_link_conn *conn, size_t budget,
                        size_t *direct_p, size_t *wanted_p)
{
    struct pc_socket_in *in = &conn->in;
    struct iovec *iov = conn->link->iov;
    size_t n_iov = 0;
    size_t direct = 0;
    size_t ahead = in->ahead;

    if (in->phase == PC_SOCKET_PREFIX) {
        size_t need = in->end - in->start >= PC_FRAME_PREFIX_LEN
                          ? PC_FRAME_PREFIX_LEN + (size_t)in->prefix.head_len
                          : PC_FRAME_PREFIX_LEN;
        buffer_compact(in, need > ahead ? need : ahead);
        size_t goal = in->start + (need > ahead ? need : ahead);
        ahead = (goal < PC_SOCKET_BUFFER_LEN ? goal : PC_SOCKET_BUFFER_LEN) -
                in->end;
    } else {
        buffer_compact(in, 0);
        if (cursor_drops(&in->cursor)) {
            ahead = PC_SOCKET_BUFFER_LEN;
        } else {
            n_iov = cursor_gather(&in->cursor, iov, PC_SOCKET_IOV_MAX - 1,
                                  budget, &direct);
            ahead = direct == in->cursor.left ? ahead : 0;
        }
    }
    if (ahead > 0) {
        iov[n_iov].iov_base = in->buffer + in->end;
        iov[n_iov].iov_len = ahead;
        n_iov++;
    }
    *direct_p = direct;
    *wanted_p = direct + ahead;
    return n_iov;
}

static void read_failed(struct pc_link_conn *conn, ssize_t n, int error)
{
    if (n < 0 && error == EINTR) {
        return;
    }
    if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK) &&
        !conn->out.broken) {
        conn->readable = false;
        return;
    }
    if (conn->state == PC_SOCKET_GREETING) {
        /* A probe that looks whether the port is open: no line in the log. */
        pc_socket_conn_fail(conn, PEERCACHE_PEER_FAILED);
        return;
    }
    if (n < 0 && error == EBADMSG) {
        pc_socket_conn_forged(conn);
        return;
    }
    if (n < 0 && error == EKEYREJECTED) {
        pc_socket_conn_distrust(conn, PEERCACHE_UNAUTHENTICATED,
                                pc_secure_reason(conn));
        return;
    }
    bool ended = n == 0 || error == EAGAIN || error == EWOULDBLOCK;
    pc_socket_conn_fail(conn, ended ? PEERCACHE_PEER_FAILED
                                    : pc_socket_conn_status(error));
}

/* One read; the bytes, or 0 when there is nothing (more) to read now. */
static size_t read_some(struct pc_link_conn *conn, size_t budget)
{
    struct pc_socket_in *in = &conn->in;
    size_t direct;
    size_t wanted;

    if (!buffer_take(conn)) {
        pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
        return 0;
    }
    size_t n_iov = plan_read(conn, budget, &direct, &wanted);
    ssize_t n = pc_secure_receives(conn)
                    ? pc_secure_readv(conn, conn->link->iov, n_iov)
                    : readv(conn->fd, conn->link->iov, (int)n_iov);
    if (n <= 0) {
        read_failed(conn, n, errno);
        return 0;
    }
    /* Less than asked for: the socket is empty, its next event says when it
     * is not. A peer that hung up raises no further event. */
    if ((size_t)n < wanted && !conn->hung_up && !conn->out.broken) {
        conn->readable = false;
    }
    size_t landed = (size_t)n < direct ? (size_t)n : direct;
    if (landed > 0) {
        cursor_advance(&in->cursor, landed);
        count_landed(in, landed);
    }
    in->end += (size_t)n - landed;
    if (in->phase != PC_SOCKET_PREFIX && in->cursor.left == 0) {
        end_cursor(conn);
    }
    return (size_t)n;
}

/* Looking again at a socket that is empty for a moment. */
struct polling
{
    uint64_t since_ns;  /* 0: it was not empty. */
    uint64_t waited_ns; /* Since then, as of the last look. */
    uint64_t credit_ns; /* What this turn's bytes have earned. */
};

static void polling_earns(struct polling *polling, size_t n)
{
    polling->credit_ns -= polling->waited_ns;
    polling->credit_ns += n / POLL_BYTES_NS;
    polling->since_ns = 0;
    polling->waited_ns = 0;
}

/* A long body is coming and will go on, fast enough to wait for it here. */
static bool is_worth_polling(const struct pc_link_conn *conn,
                             struct polling *polling)
{
    const struct pc_socket_in *in = &conn->in;
    if (in->phase != PC_SOCKET_BODY || in->cursor.left < LONG_BODY_LEN ||
        polling->credit_ns == 0 || !is_reading(conn)) {
        return false;
    }
    uint64_t now = pc_clock_monotonic();
    if (polling->since_ns == 0) {
        polling->since_ns = now;
    }
    uint64_t waited = now - polling->since_ns + LOOK_NS;
    if (waited >= POLL_NS || waited >= polling->credit_ns) {
        return false;
    }
    polling->waited_ns = waited;
    return true;
}

unsigned pc_socket_receive(struct pc_link_conn *conn)
{
    struct pc_socket_in *in = &conn->in;
    size_t budget = PC_SOCKET_TURN_BYTES;
    unsigned work = take_buffered(conn);
    struct polling polling = {0};

    while (is_reading(conn) && conn->readable && budget > 0) {
        size_t n = read_some(conn, budget);
        if (n > 0) {
            budget -= n < budget ? n : budget;
            work += 1 + take_buffered(conn);
            polling_earns(&polling, n);
        } else if (conn->readable) {
            break; /* Interrupted. */
        }
        if (!conn->readable) {
            conn->readable = is_worth_polling(conn, &polling);
        }
    }
    if (in->start == in->end) {
        buffer_give_back(conn);
    }
    return work;
}
