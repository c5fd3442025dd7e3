#include "transports/socket/conn.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "transports/socket/receive.h"
#include "transports/socket/secure.h"
#include "transports/socket/transmit.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GREETING_NS  (5 * PC_S)   /* A stranger has so long to say hello. */
#define GREETING_MAX 256          /* Strangers at once; the oldest goes. */
#define RETRY_NS     (10 * PC_MS) /* A Unix listener's backlog is full. */
#define INCOMING_MAX 8192         /* Unless the link's owner says. */

/* Edge-triggered: readable and writable stay set until a call finds the
 * contrary, and no call is spent on changing what to wait for. */
#define CONN_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

peercache_status_t pc_socket_conn_status(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
    case ENETUNREACH:
    case EHOSTUNREACH:
        return PEERCACHE_PEER_FAILED;
    case ETIMEDOUT:
        return PEERCACHE_TIMED_OUT;
    case ENOMEM:
        return PEERCACHE_NO_MEMORY;
    case EKEYREJECTED:
        return PEERCACHE_UNAUTHENTICATED;
    case EBADMSG:
        return PEERCACHE_PROTOCOL;
    default:
        return PEERCACHE_IO;
    }
}

static peercache_status_t connect_status(int error)
{
    switch (error) {
    case ETIMEDOUT:
        return PEERCACHE_TIMED_OUT;
    case ENOMEM:
    case ENOBUFS:
        return PEERCACHE_NO_MEMORY;
    default:
        return PEERCACHE_UNREACHABLE;
    }
}

static void conn_ready(struct pc_socket_source *source, uint32_t events)
{
    struct pc_link_conn *conn =
        PC_CONTAINER_OF(source, struct pc_link_conn, source);
    uint32_t ended = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

    conn->readable |= (events & (EPOLLIN | ended)) != 0;
    conn->writable |= (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    conn->hung_up |= (events & ended) != 0;
    pc_socket_make_ready(conn);
}

static struct pc_link_conn *conn_create(struct pc_link *link, int fd,
                                        enum pc_socket_state state)
{
    struct pc_link_conn *conn = pc_alloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn->source.ready = conn_ready;
    conn->link = link;
    conn->fd = fd;
    conn->state = state;
    pc_list_init(&conn->in_conns);
    pc_list_init(&conn->in_greeting);
    pc_list_init(&conn->in_ready);
    pc_socket_receive_init(conn);
    pc_socket_transmit_init(conn);
    pc_list_push_back(&link->conns, &conn->in_conns);
    link->n_conns++;
    return conn;
}

static void conn_destroy(struct pc_link_conn *conn)
{
    PC_ASSERT(conn->fd < 0);
    pc_socket_receive_fini(conn);
    pc_list_remove(&conn->in_ready);
    pc_list_remove(&conn->in_conns);
    conn->link->n_conns--;
    pc_free(conn);
}

static void leave_greeting(struct pc_link_conn *conn)
{
    if (pc_list_is_linked(&conn->in_greeting)) {
        pc_list_remove(&conn->in_greeting);
        conn->link->n_greeting--;
    }
}

void pc_socket_conn_fail(struct pc_link_conn *conn, peercache_status_t why)
{
    struct pc_link *link = conn->link;
    if (conn->state == PC_SOCKET_CLOSED) {
        return;
    }
    conn->state = PC_SOCKET_CLOSED;
    conn->why = why;
    leave_greeting(conn);
    if (conn->incoming) {
        link->n_incoming--;
    }
    pc_socket_timer_stop(link, &conn->timer);
    pc_socket_loop_remove(&link->loop, conn->fd);
    pc_secure_end(conn, why == PEERCACHE_CANCELED);
    close(conn->fd);
    conn->fd = -1;
    pc_socket_transmit_end_all(conn, why);
    pc_socket_receive_end_sink(conn, why);
    pc_socket_make_ready(conn);
}

static const char *name_of(const struct pc_link_conn *conn, char *text,
                           size_t len)
{
    if (!pc_socket_address_format(&conn->peer, text, len)) {
        text[0] = '\0';
    }
    return pc_socket_address_is_unix(&conn->peer) ? "this host" : text;
}

static void count_refused(struct pc_link *link, peercache_status_t why)
{
    switch (why) {
    case PEERCACHE_UNAUTHENTICATED:
        link->stats.refused_untrusted++;
        break;
    case PEERCACHE_TIMED_OUT:
        link->stats.refused_late++;
        break;
    case PEERCACHE_AGAIN:
        link->stats.refused_full++;
        break;
    default:
        link->stats.refused_protocol++;
        break;
    }
}

void pc_socket_conn_refuse(struct pc_link_conn *conn, peercache_status_t why,
                           const char *reason)
{
    char from[PC_SOCKET_TEXT_MAX];
    uint64_t n_hidden;

    count_refused(conn->link, why);
    if (pc_socket_may_log(conn->link, &conn->link->quiet_stranger, &n_hidden)) {
        PC_WARN("socket", "refused a connection from %s: %s (%llu others)",
                name_of(conn, from, sizeof(from)), reason,
                (unsigned long long)n_hidden);
    }
    pc_socket_conn_fail(conn, why);
}

void pc_socket_conn_distrust(struct pc_link_conn *conn, peercache_status_t why,
                             const char *reason)
{
    char to[PC_SOCKET_TEXT_MAX];
    uint64_t n_hidden;

    count_refused(conn->link, why);
    if (pc_socket_may_log(conn->link, &conn->link->quiet_refused, &n_hidden)) {
        PC_WARN("socket",
                "no trust between us and the node at %s: %s "
                "(%llu others)",
                name_of(conn, to, sizeof(to)), reason,
                (unsigned long long)n_hidden);
    }
    pc_socket_conn_fail(conn, why);
}

void pc_socket_conn_forged(struct pc_link_conn *conn)
{
    conn->link->stats.forged++;
    pc_socket_conn_distrust(conn, PEERCACHE_PROTOCOL, pc_secure_reason(conn));
}

/* ---- Becoming open ------------------------------------------------------- */

/* What a turn moves; the kernel doubles it for what it needs beside. */
static const int turn_len = PC_SOCKET_TURN_BYTES;

bool pc_socket_conn_takes_turns(void)
{
    int granted = 0;
    socklen_t len = sizeof(granted);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool known = setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &turn_len,
                            sizeof(turn_len)) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &granted, &len) == 0;
    close(fd);
    return known && granted >= 2 * turn_len;
}

/*
 * Between two processes of a host nothing is congested, so a sender that paces
 * (BBR) only makes the reader wait. Reno does not, every kernel has it and
 * every process may choose it. And a turn goes to the kernel whole: what is
 * left of one has to wait until this thread wakes, often on the core that the
 * reader uses. Less than that, where the system allows no more, is worse than
 * what the kernel finds by itself.
 */
static void tune_local(struct pc_link_conn *conn)
{
    static const char unpaced[] = "reno";
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_CONGESTION, unpaced,
                     sizeof(unpaced) - 1);
    if (conn->link->takes_turns) {
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &turn_len,
                         sizeof(turn_len));
    }
}

/* Messages are written whole, so waiting for more to send gains nothing. The
 * sizes of other buffers are left to the kernel, whose tuning measured best. */
static void tune(struct pc_link_conn *conn)
{
    uint64_t stall_ms = conn->link->params.stall_ns / PC_MS;
    unsigned timeout = stall_ms > INT_MAX ? INT_MAX : (unsigned)stall_ms;
    int on = 1;

    if (pc_socket_address_is_unix(&conn->peer)) {
        return;
    }
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    /* Few packets are under way with short messages, so a lost one is noticed
     * by its timeout only: that shall not double each time. The kernel asks for
     * fewer than four before it does so; full streams are as before. */
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &on,
                     sizeof(on));
    /* A host that vanished: what the kernel took from us is not acknowledged.
     * 0 is the system's own. */
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
                     sizeof(timeout));
    if (pc_socket_address_is_local(&conn->peer)) {
        tune_local(conn);
    }
}

static void conn_open(struct pc_link_conn *conn)
{
    leave_greeting(conn);
    pc_socket_timer_stop(conn->link, &conn->timer);
    conn->state = PC_SOCKET_OPEN;
    tune(conn);
}

bool pc_socket_conn_greeted(struct pc_link_conn *conn, enum pc_link_class cls)
{
    const struct pc_link_upcalls *up = &conn->link->params.up;
    char from[PC_SOCKET_TEXT_MAX];

    if (!pc_socket_address_format(&conn->peer, from, sizeof(from))) {
        from[0] = '\0';
    }
    conn_open(conn);
    conn->link->stats.n_secured += conn->secure != NULL;
    conn->arg = up->accepted(up->arg, conn, cls, from);
    if (conn->arg == NULL) {
        pc_socket_conn_fail(conn, PEERCACHE_CANCELED);
        return false;
    }
    conn->owed = PC_SOCKET_OWES_CLOSED;
    return conn->state == PC_SOCKET_OPEN;
}

static void greeting_expired(struct pc_socket_timer *timer)
{
    struct pc_link_conn *conn =
        PC_CONTAINER_OF(timer, struct pc_link_conn, timer);
    pc_socket_conn_refuse(conn, PEERCACHE_TIMED_OUT,
                          conn->state == PC_SOCKET_SHAKING
                              ? "its part of the handshake did not come"
                              : "its preamble did not come");
}

static void bound_greeting(struct pc_link *link)
{
    if (link->n_greeting > GREETING_MAX) {
        pc_socket_conn_refuse(PC_CONTAINER_OF(link->greeting.next,
                                              struct pc_link_conn, in_greeting),
                              PEERCACHE_AGAIN,
                              "too many connect without a preamble");
    }
}

/* Whether it may try at all. */
static bool is_welcome(struct pc_link_conn *conn)
{
    const struct pc_link *link = conn->link;
    size_t max = link->params.n_incoming_max;
    if (link->n_incoming > (max > 0 ? max : INCOMING_MAX)) {
        pc_socket_conn_refuse(conn, PEERCACHE_AGAIN, "too many connections");
        return false;
    }
    if (link->params.loopback_only &&
        !pc_socket_address_is_local(&conn->peer)) {
        pc_socket_conn_refuse(conn, PEERCACHE_UNAUTHENTICATED,
                              "it is on another host, and there is no key");
        return false;
    }
    return true;
}

static enum pc_socket_state first_state(const struct pc_link *link)
{
    return link->secure != NULL ? PC_SOCKET_SHAKING : PC_SOCKET_GREETING;
}

void pc_socket_conn_accept(struct pc_link *link, int fd,
                           const struct pc_socket_address *peer)
{
    struct pc_link_conn *conn = conn_create(link, fd, first_state(link));
    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->peer = *peer;
    conn->incoming = true;
    link->n_incoming++;
    pc_list_push_back(&link->greeting, &conn->in_greeting);
    link->n_greeting++;
    conn->timer.expired = greeting_expired;
    if (!pc_socket_timer_start(link, &conn->timer,
                               link->now_ns + GREETING_NS) ||
        pc_socket_loop_add(&link->loop, fd, CONN_EVENTS, &conn->source) !=
            PEERCACHE_OK ||
        (link->secure != NULL && !pc_secure_start(conn, true))) {
        pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
        return;
    }
    if (is_welcome(conn)) {
        bound_greeting(link);
    }
}

/* ---- Connecting ---------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void start_connect(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    int rc = connect(conn->fd, (const struct sockaddr *)&conn->peer.storage,
                     conn->peer.len);

    if (rc != 0 && errno == EAGAIN) {
        uint64_t due = earlier(conn->deadline_ns, link->now_ns + RETRY_NS);
        if (!pc_socket_timer_start(link, &conn->timer, due)) {
            pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
        }
        return;
    }
    if (rc != 0 && errno != EINPROGRESS) {
        pc_socket_conn_fail(conn, connect_status(errno));
        return;
    }
    if (pc_socket_loop_add(&link->loop, conn->fd, CONN_EVENTS, &conn->source) !=
            PEERCACHE_OK ||
        !pc_socket_timer_start(link, &conn->timer, conn->deadline_ns)) {
        pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
    }
}

static void connect_expired(struct pc_socket_timer *timer)
{
    struct pc_link_conn *conn =
        PC_CONTAINER_OF(timer, struct pc_link_conn, timer);
    if (conn->link->now_ns >= conn->deadline_ns ||
        conn->state != PC_SOCKET_CONNECTING) {
        pc_socket_conn_fail(conn, PEERCACHE_TIMED_OUT);
    } else {
        start_connect(conn);
    }
}

peercache_status_t pc_socket_conn_connect(struct pc_link *link,
                                          const char *address,
                                          enum pc_link_class cls,
                                          uint64_t deadline_ns, void *conn_arg,
                                          struct pc_link_conn **conn_p)
{
    struct pc_socket_address peer;
    if (!pc_socket_address_parse(address, &peer)) {
        return PEERCACHE_INVALID;
    }
    if (link->params.loopback_only && !pc_socket_address_is_local(&peer)) {
        return PEERCACHE_UNAUTHENTICATED;
    }
    int fd = socket(peer.storage.ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        PC_WARN("socket", "cannot create a socket: %s", strerror(errno));
        return PEERCACHE_IO;
    }
    struct pc_link_conn *conn = conn_create(link, fd, PC_SOCKET_CONNECTING);
    if (conn == NULL) {
        close(fd);
        return PEERCACHE_NO_MEMORY;
    }
    conn->peer = peer;
    conn->arg = conn_arg;
    conn->owed = PC_SOCKET_OWES_CONNECTED;
    conn->deadline_ns = deadline_ns;
    conn->timer.expired = connect_expired;
    pc_frame_put_preamble(conn->out.preamble, cls);
    conn->out.preamble_left = PC_FRAME_PREAMBLE_LEN;
    conn->out.fresh = true;
    start_connect(conn);
    *conn_p = conn;
    return PEERCACHE_OK;
}

/* A free port of this host, connected to from itself: TCP allows that two ends
 * that call each other meet without a listener. */
static bool met_itself(const struct pc_link_conn *conn)
{
    struct pc_socket_address self = {.len = sizeof(self.storage)};
    return !pc_socket_address_is_unix(&conn->peer) &&
           getsockname(conn->fd, (struct sockaddr *)&self.storage, &self.len) ==
               0 &&
           self.len == conn->peer.len &&
           memcmp(&self.storage, &conn->peer.storage, self.len) == 0;
}

static void connect_done(struct pc_link_conn *conn)
{
    conn_open(conn);
    conn->owed = PC_SOCKET_OWES_CLOSED;
    conn->link->params.up.connected(conn->arg, PEERCACHE_OK);
}

static unsigned finish_connect(struct pc_link_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (!conn->writable && !conn->hung_up) {
        return 0;
    }
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    if (error != 0 || met_itself(conn)) {
        pc_socket_conn_fail(conn, connect_status(error));
        return 1;
    }
    if (conn->link->secure != NULL) {
        conn->state = PC_SOCKET_SHAKING; /* The deadline stays. */
        if (!pc_secure_start(conn, false)) {
            pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
        }
        return 1;
    }
    connect_done(conn);
    return 1;
}

/* ---- Proving ------------------------------------------------------------- */

static void shake_failed(struct pc_link_conn *conn, peercache_status_t why)
{
    const char *reason = pc_secure_reason(conn);
    if (why == PEERCACHE_PEER_FAILED) {
        /* Hung up, as who probes a port does, or a node without a key. */
        reason = "it hung up in the handshake: has it no cluster key?";
    }
    if (!conn->incoming) {
        pc_socket_conn_distrust(conn, PEERCACHE_UNAUTHENTICATED, reason);
    } else if (why == PEERCACHE_PEER_FAILED) {
        pc_socket_conn_fail(conn, why);
    } else {
        pc_socket_conn_refuse(conn, why, reason);
    }
}

/* A handshake costs much, with long RSA keys milliseconds; in one turn only so
 * many go on, so that a crowd of strangers is no pause for all others. */
static unsigned shake(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    if (link->n_shakes == 0 || link->shakes_ns == 0) {
        pc_socket_make_ready(conn);
        return 1;
    }
    link->n_shakes--;
    uint64_t began_ns = pc_clock_monotonic();
    peercache_status_t status = pc_secure_shake(conn);
    uint64_t took_ns = pc_clock_monotonic() - began_ns;
    link->shakes_ns -= took_ns < link->shakes_ns ? took_ns : link->shakes_ns;
    if (status == PEERCACHE_IN_PROGRESS) {
        return 1;
    }
    if (status != PEERCACHE_OK) {
        shake_failed(conn, status);
        return 1;
    }
    conn->readable = true; /* Who knows what came meanwhile. */
    conn->writable = true;
    if (conn->incoming) {
        conn->state = PC_SOCKET_GREETING;
    } else {
        conn->link->stats.n_secured++;
        connect_done(conn);
    }
    return 1;
}

/* ---- Turns --------------------------------------------------------------- */

/* Bytes that the kernel took and the peer has not: all of them for TCP until
 * acknowledged, for Unix sockets until read. */
static int bytes_in_kernel(const struct pc_link_conn *conn)
{
    int n = 0;
    return ioctl(conn->fd, SIOCOUTQ, &n) == 0 ? n : 0;
}

/*
 * Whether anything moved since the timer was started. The socket has room for
 * us again only when a third of its buffer is free; a peer on a slow path may
 * need longer for that, and takes bytes all the time.
 */
static bool has_moved(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;

    if (conn->out.moved_ns < link->back_ns) {
        conn->out.moved_ns = link->back_ns; /* We were away, not the peer. */
    }
    if (conn->out.moved_ns + link->params.stall_ns > link->now_ns) {
        return true;
    }
    /* This thread may have been away all the time: try before judging. */
    if (pc_socket_transmit(conn) > 0) {
        return true;
    }
    if (conn->state == PC_SOCKET_OPEN &&
        bytes_in_kernel(conn) < conn->out.in_kernel) {
        conn->out.moved_ns = link->now_ns;
        return true;
    }
    return false;
}

static void stall_expired(struct pc_socket_timer *timer)
{
    struct pc_link_conn *conn =
        PC_CONTAINER_OF(timer, struct pc_link_conn, timer);

    if (pc_socket_transmit_is_idle(conn)) {
        return;
    }
    if (has_moved(conn)) {
        pc_socket_make_ready(conn); /* Its turn starts the timer again. */
    } else {
        pc_socket_conn_fail(conn, PEERCACHE_TIMED_OUT);
    }
}

/* One timer while something is queued; it looks at moved_ns when it expires,
 * so sending does not touch the heap. */
static void watch_stall(struct pc_link_conn *conn)
{
    struct pc_link *link = conn->link;
    uint64_t stall_ns = link->params.stall_ns;

    if (conn->state != PC_SOCKET_OPEN || stall_ns == 0 ||
        conn->timer.node.index != 0 || pc_socket_transmit_is_idle(conn)) {
        return;
    }
    conn->timer.expired = stall_expired;
    conn->out.in_kernel = bytes_in_kernel(conn);
    if (!pc_socket_timer_start(link, &conn->timer,
                               conn->out.moved_ns + stall_ns)) {
        pc_socket_conn_fail(conn, PEERCACHE_NO_MEMORY);
    }
}

static unsigned deliver(struct pc_link_conn *conn)
{
    unsigned n_done = pc_socket_transmit_deliver(conn);
    return n_done + pc_socket_receive_deliver(conn);
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
    if (conn->owed == PC_SOCKET_OWES_CONNECTED) {
        up->connected(conn->arg, conn->why);
    } else if (conn->owed == PC_SOCKET_OWES_CLOSED) {
        up->closed(conn->arg, conn->why);
    }
    conn_destroy(conn);
    return work;
}

static bool wants_turn(const struct pc_link_conn *conn)
{
    bool reads =
        conn->state == PC_SOCKET_OPEN || conn->state == PC_SOCKET_GREETING;
    return conn->state == PC_SOCKET_CLOSED || conn->in.ended != NULL ||
           !pc_list_is_empty(&conn->out.ended) ||
           (reads && conn->readable && !conn->paused) ||
           (conn->state == PC_SOCKET_OPEN && conn->writable &&
            !conn->out.broken && !pc_socket_transmit_is_idle(conn));
}

unsigned pc_socket_conn_run(struct pc_link_conn *conn)
{
    unsigned work = deliver(conn);

    if (conn->state == PC_SOCKET_CONNECTING) {
        work += finish_connect(conn);
    }
    if (conn->state == PC_SOCKET_SHAKING) {
        work += shake(conn);
    }
    work += pc_socket_receive(conn);
    if (conn->state == PC_SOCKET_OPEN) {
        work += pc_socket_transmit(conn);
    }
    work += deliver(conn);
    watch_stall(conn);
    if (conn->state == PC_SOCKET_CLOSED) {
        return work + finish(conn);
    }
    if (wants_turn(conn)) {
        pc_socket_make_ready(conn);
    }
    return work;
}
