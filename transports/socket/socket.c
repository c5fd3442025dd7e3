#include "transports/socket/socket.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "transports/socket/conn.h"
#include "transports/socket/listen.h"
#include "transports/socket/receive.h"
#include "transports/socket/secure.h"
#include "transports/socket/transmit.h"

#include <unistd.h>

#define QUIET_NS     (5 * PC_S)
#define RUN_ROUNDS   2 /* Answers posted in the first leave in the second. */
#define NO_TIME_LEFT 0
#define SHAKES_MAX   16          /* Steps of handshakes in one progress() ... */
#define SHAKES_NS    (2 * PC_MS) /* ... as long as they take no longer. */
#define AWAY_PART    4 /* Such a part of a stall's time is a pause of ours. */

/* ---- Shared by the modules ----------------------------------------------- */

void pc_socket_make_ready(struct pc_link_conn *conn)
{
    if (!pc_list_is_linked(&conn->in_ready)) {
        pc_list_push_back(&conn->link->ready, &conn->in_ready);
    }
}

bool pc_socket_timer_start(struct pc_link *link, struct pc_socket_timer *timer,
                           uint64_t due_ns)
{
    pc_heap_remove(&link->timers, &timer->node);
    timer->node.due_ns = due_ns;
    return pc_heap_push(&link->timers, &timer->node);
}

void pc_socket_timer_stop(struct pc_link *link, struct pc_socket_timer *timer)
{
    pc_heap_remove(&link->timers, &timer->node);
}

bool pc_socket_may_log(struct pc_link *link, struct pc_socket_quiet *quiet,
                       uint64_t *n_hidden_p)
{
    if (link->now_ns < quiet->next_ns) {
        quiet->n_hidden++;
        return false;
    }
    *n_hidden_p = quiet->n_hidden;
    quiet->n_hidden = 0;
    quiet->next_ns = link->now_ns + QUIET_NS;
    return true;
}

/* ---- Open and close ------------------------------------------------------ */

static peercache_status_t socket_open(const struct pc_link_params *params,
                                      struct pc_link **link_p)
{
    struct pc_link *link = pc_alloc(1, sizeof(*link));
    if (link == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    peercache_status_t status = pc_socket_loop_init(&link->loop);
    if (status != PEERCACHE_OK) {
        pc_free(link);
        return status;
    }
    link->params = *params;
    link->now_ns = pc_clock_monotonic();
    pc_heap_init(&link->timers);
    pc_list_init(&link->conns);
    pc_list_init(&link->greeting);
    pc_list_init(&link->ready);
    pc_list_init(&link->listeners);
    pc_list_init(&link->spares);
    link->spare_fd = -1;
    link->takes_turns = pc_socket_conn_takes_turns();
    link->n_shakes = SHAKES_MAX;
    link->shakes_ns = SHAKES_NS;
    status = params->tls == NULL ? PEERCACHE_OK : pc_secure_open(link);
    link->params.tls = NULL; /* The caller's, and it may go now. */
    if (status != PEERCACHE_OK) {
        pc_heap_fini(&link->timers);
        pc_socket_loop_fini(&link->loop);
        pc_free(link);
        return status;
    }
    pc_socket_keep_spare(link);
    *link_p = link;
    return PEERCACHE_OK;
}

static unsigned run_ready(struct pc_link *link)
{
    unsigned work = 0;
    for (int round = 0; round < RUN_ROUNDS && !pc_list_is_empty(&link->ready);
         round++) {
        struct pc_list batch;
        struct pc_list *node;
        pc_list_init(&batch);
        pc_list_splice_back(&batch, &link->ready);
        while ((node = pc_list_pop_front(&batch)) != NULL) {
            work += pc_socket_conn_run(
                PC_CONTAINER_OF(node, struct pc_link_conn, in_ready));
        }
    }
    return work;
}

static void close_conns(struct pc_link *link)
{
    for (struct pc_list *node = link->conns.next; node != &link->conns;
         node = node->next) {
        pc_socket_conn_fail(
            PC_CONTAINER_OF(node, struct pc_link_conn, in_conns),
            PEERCACHE_CANCELED);
    }
    while (!pc_list_is_empty(&link->ready)) {
        run_ready(link);
    }
}

static void socket_close(struct pc_link *link)
{
    struct pc_list *node;
    if (link == NULL) {
        return;
    }
    link->closing = true; /* What callbacks post now is refused. */
    pc_socket_unlisten(link, NULL);
    close_conns(link);
    PC_ASSERT(pc_list_is_empty(&link->conns));
    while ((node = pc_list_pop_front(&link->spares)) != NULL) {
        pc_free(node);
    }
    pc_free(link->spare_head);
    if (link->spare_fd >= 0) {
        close(link->spare_fd);
    }
    pc_secure_close(link);
    pc_heap_fini(&link->timers);
    pc_socket_loop_fini(&link->loop);
    pc_free(link);
}

/* ---- Posts --------------------------------------------------------------- */

static peercache_status_t socket_listen(struct pc_link *link,
                                        const char *address, char *bound,
                                        size_t bound_len)
{
    return link->closing ? PEERCACHE_SHUTDOWN
                         : pc_socket_listen(link, address, bound, bound_len);
}

static void socket_unlisten(struct pc_link *link, const char *bound)
{
    if (bound != NULL) {
        pc_socket_unlisten(link, bound);
    }
}

static peercache_status_t socket_connect(struct pc_link *link,
                                         const char *address,
                                         enum pc_link_class cls,
                                         uint64_t deadline_ns, void *conn_arg,
                                         struct pc_link_conn **conn_p)
{
    if (link->closing) {
        return PEERCACHE_SHUTDOWN;
    }
    link->now_ns = pc_clock_monotonic();
    return pc_socket_conn_connect(link, address, cls, deadline_ns, conn_arg,
                                  conn_p);
}

static void socket_disconnect(struct pc_link_conn *conn)
{
    pc_socket_conn_fail(conn, PEERCACHE_CANCELED);
}

static peercache_status_t socket_send(struct pc_link_send *send)
{
    struct pc_link_conn *conn = send->conn;
    if (conn->state == PC_SOCKET_CLOSED) {
        return conn->why;
    }
    peercache_status_t status = pc_socket_transmit_post(send);
    if (status == PEERCACHE_IN_PROGRESS) {
        pc_socket_make_ready(conn);
    }
    return status;
}

static void socket_cancel_send(struct pc_link_send *send)
{
    struct pc_link_conn *conn = send->conn;
    if (!pc_socket_transmit_cancel(send)) {
        pc_socket_conn_fail(conn, PEERCACHE_CANCELED);
    }
    pc_socket_make_ready(conn);
}

static void socket_cancel_sink(struct pc_link_conn *conn,
                               struct pc_link_sink *sink)
{
    if (conn->in.sink == sink && sink != NULL) {
        pc_socket_receive_end_sink(conn, PEERCACHE_CANCELED);
        pc_socket_make_ready(conn);
    }
}

static void socket_pause(struct pc_link_conn *conn, bool paused)
{
    conn->paused = paused;
    if (!paused) {
        pc_socket_make_ready(conn);
    }
}

/* ---- Progress ------------------------------------------------------------ */

static uint64_t wait_time(const struct pc_link *link, uint64_t max_wait_ns)
{
    const struct pc_heap_node *first = pc_heap_first(&link->timers);
    if (first == NULL) {
        return max_wait_ns;
    }
    if (first->due_ns <= link->now_ns) {
        return NO_TIME_LEFT;
    }
    uint64_t wait_ns = first->due_ns - link->now_ns;
    return wait_ns < max_wait_ns ? wait_ns : max_wait_ns;
}

static unsigned run_timers(struct pc_link *link)
{
    struct pc_heap_node *node;
    unsigned work = 0;
    while ((node = pc_heap_first(&link->timers)) != NULL &&
           node->due_ns <= link->now_ns) {
        struct pc_socket_timer *timer =
            PC_CONTAINER_OF(node, struct pc_socket_timer, node);
        pc_heap_remove(&link->timers, node);
        timer->expired(timer);
        work++;
    }
    return work;
}

static unsigned socket_progress(struct pc_link *link, int fd,
                                uint64_t max_wait_ns)
{
    uint64_t left_ns = link->now_ns;
    link->now_ns = pc_clock_monotonic();
    if (link->now_ns - left_ns > link->params.stall_ns / AWAY_PART) {
        link->back_ns = link->now_ns;
    }
    link->n_shakes = SHAKES_MAX;
    link->shakes_ns = SHAKES_NS;
    unsigned work = run_ready(link);
    bool idle = work == 0 && pc_list_is_empty(&link->ready);
    uint64_t wait_ns = idle ? wait_time(link, max_wait_ns) : NO_TIME_LEFT;

    pc_socket_loop_wait(&link->loop, fd, wait_ns);
    link->now_ns = pc_clock_monotonic();
    work += pc_socket_listeners_run(link);
    /* After the sockets: a deadline must not win over an answer that came
     * while this thread was away. */
    work += run_ready(link);
    work += run_timers(link);
    return work;
}

static void socket_wake(struct pc_link *link)
{
    pc_socket_loop_wake(&link->loop);
}

static int socket_wait_fd(struct pc_link *link)
{
    return link->loop.epoll_fd;
}

static uint64_t socket_next_due(struct pc_link *link)
{
    const struct pc_heap_node *first = pc_heap_first(&link->timers);
    if (!pc_list_is_empty(&link->ready)) {
        return NO_TIME_LEFT;
    }
    if (first == NULL) {
        return UINT64_MAX;
    }
    /* Whoever may be judged by a timer has a thread that comes often enough
     * not to look as if it had been away (back_ns). */
    uint64_t often = link->now_ns + link->params.stall_ns / AWAY_PART / 2;
    return link->params.stall_ns > 0 && often < first->due_ns ? often
                                                              : first->due_ns;
}

static void socket_stats(const struct pc_link *link,
                         struct pc_link_stats *stats_p)
{
    *stats_p = link->stats;
    stats_p->n_conns = link->n_conns;
    stats_p->n_incoming = link->n_incoming;
    stats_p->n_strangers = link->n_greeting;
}

const struct pc_link_ops *pc_socket_link(void)
{
    static const struct pc_link_ops ops = {
        .name = "socket",
        .open = socket_open,
        .close = socket_close,
        .listen = socket_listen,
        .unlisten = socket_unlisten,
        .connect = socket_connect,
        .disconnect = socket_disconnect,
        .send = socket_send,
        .cancel_send = socket_cancel_send,
        .cancel_sink = socket_cancel_sink,
        .pause = socket_pause,
        .progress = socket_progress,
        .wake = socket_wake,
        .wait_fd = socket_wait_fd,
        .next_due = socket_next_due,
        .stats = socket_stats,
        .describe = pc_secure_describe,
    };
    return &ops;
}
