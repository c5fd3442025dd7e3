#include "transports/socket/listen.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "transports/socket/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG    1024
#define ACCEPT_MAX 64            /* Per listener and turn. */
#define REST_NS    (100 * PC_MS) /* After an accept that failed for want. */

struct listener
{
    struct pc_socket_source source;
    struct pc_socket_timer timer; /* While it rests. */
    struct pc_list node;
    struct pc_link *link;
    struct pc_socket_address address;
    char bound[PC_SOCKET_TEXT_MAX];
    dev_t device; /* Of a Unix socket's path: is it still ours? */
    ino_t inode;
    int fd;
    bool ready;
};

void pc_socket_keep_spare(struct pc_link *link)
{
    if (link->spare_fd < 0) {
        link->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

/* ---- Opening ------------------------------------------------------------- */

/* Whether the path is a socket that a dead process left behind. */
static bool is_abandoned(const struct pc_socket_address *address)
{
    struct stat info;
    if (!pc_socket_address_is_unix(address) ||
        lstat(pc_socket_address_path(address), &info) != 0 ||
        !S_ISSOCK(info.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool refused = connect(fd, (const struct sockaddr *)&address->storage,
                           address->len) != 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_address(int fd, const struct pc_socket_address *address)
{
    int on = 1;
    const struct sockaddr *where = (const struct sockaddr *)&address->storage;

    if (!pc_socket_address_is_unix(address)) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    int rc = bind(fd, where, address->len);
    if (rc != 0 && errno == EADDRINUSE && is_abandoned(address)) {
        (void)unlink(pc_socket_address_path(address));
        rc = bind(fd, where, address->len);
    }
    return rc;
}

static int open_socket(struct pc_socket_address *address)
{
    int fd = socket(address->storage.ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (bind_address(fd, address) != 0 || listen(fd, BACKLOG) != 0) {
        goto close_fd;
    }
    if (!pc_socket_address_is_unix(address)) {
        address->len = sizeof(address->storage);
        if (getsockname(fd, (struct sockaddr *)&address->storage,
                        &address->len) != 0) {
            goto close_fd;
        }
    }
    return fd;

close_fd:;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void listener_ready(struct pc_socket_source *source, uint32_t events)
{
    (void)events;
    PC_CONTAINER_OF(source, struct listener, source)->ready = true;
}

static void remember_path(struct listener *listener)
{
    struct stat info;
    const char *path = pc_socket_address_path(&listener->address);
    if (path[0] != '\0' && lstat(path, &info) == 0) {
        listener->device = info.st_dev;
        listener->inode = info.st_ino;
    }
}

static void listener_destroy(struct listener *listener)
{
    struct pc_link *link = listener->link;
    const char *path = pc_socket_address_path(&listener->address);
    struct stat info;

    pc_list_remove(&listener->node);
    pc_socket_timer_stop(link, &listener->timer);
    pc_socket_loop_remove(&link->loop, listener->fd);
    if (path[0] != '\0' && lstat(path, &info) == 0 &&
        info.st_dev == listener->device && info.st_ino == listener->inode) {
        (void)unlink(path);
    }
    close(listener->fd);
    pc_free(listener);
}

peercache_status_t pc_socket_listen(struct pc_link *link, const char *address,
                                    char *bound, size_t bound_len)
{
    struct pc_socket_address where;
    if (!pc_socket_address_parse(address, &where)) {
        return PEERCACHE_INVALID;
    }
    int fd = open_socket(&where);
    if (fd < 0) {
        /* Nodes of one host try the discovery port again and again. */
        if (errno == EADDRINUSE || errno == EADDRNOTAVAIL) {
            PC_DEBUG("socket", "cannot listen on %s: %s", address,
                     strerror(errno));
        } else {
            PC_WARN("socket", "cannot listen on %s: %s", address,
                    strerror(errno));
        }
        return PEERCACHE_IO;
    }
    struct listener *listener = pc_alloc(1, sizeof(*listener));
    if (listener == NULL) {
        close(fd);
        return PEERCACHE_NO_MEMORY;
    }
    listener->source.ready = listener_ready;
    listener->link = link;
    listener->address = where;
    listener->fd = fd;
    pc_list_init(&listener->node);
    pc_list_push_back(&link->listeners, &listener->node);
    remember_path(listener);

    peercache_status_t status =
        pc_socket_loop_add(&link->loop, fd, EPOLLIN, &listener->source);
    if (!pc_socket_address_format(&where, listener->bound,
                                  sizeof(listener->bound)) ||
        strlen(listener->bound) >= bound_len) {
        status = PEERCACHE_INVALID;
    }
    if (status != PEERCACHE_OK) {
        listener_destroy(listener);
        return status;
    }
    memcpy(bound, listener->bound, strlen(listener->bound) + 1);
    return PEERCACHE_OK;
}

void pc_socket_unlisten(struct pc_link *link, const char *bound)
{
    struct pc_list *node = link->listeners.next;
    while (node != &link->listeners) {
        struct listener *listener =
            PC_CONTAINER_OF(node, struct listener, node);
        node = node->next;
        if (bound == NULL || strcmp(listener->bound, bound) == 0) {
            listener_destroy(listener);
        }
    }
}

/* ---- Accepting ----------------------------------------------------------- */

static void rest_is_over(struct pc_socket_timer *timer);

/* Look away for a while: the waiting connection stays ready, and polling for
 * it again at once would spin. */
static void take_rest(struct listener *listener)
{
    struct pc_link *link = listener->link;
    listener->ready = false;
    listener->timer.expired = rest_is_over;
    if (pc_socket_timer_start(link, &listener->timer, link->now_ns + REST_NS)) {
        pc_socket_loop_remove(&link->loop, listener->fd);
    }
}

static void rest_is_over(struct pc_socket_timer *timer)
{
    struct listener *listener = PC_CONTAINER_OF(timer, struct listener, timer);
    pc_socket_keep_spare(listener->link);
    if (pc_socket_loop_add(&listener->link->loop, listener->fd, EPOLLIN,
                           &listener->source) != PEERCACHE_OK) {
        take_rest(listener);
    }
}

/* No descriptor is left: tell the peer so, by closing, with the spare one. */
static void turn_away(struct listener *listener)
{
    struct pc_link *link = listener->link;
    uint64_t n_hidden;
    int fd = -1;

    if (pc_socket_may_log(link, &link->quiet_accept, &n_hidden)) {
        PC_WARN("socket",
                "no descriptor left: turned away a connection to %s "
                "(%llu others)",
                listener->bound, (unsigned long long)n_hidden);
    }
    if (link->spare_fd >= 0) {
        close(link->spare_fd);
        link->spare_fd = -1;
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    }
    if (fd >= 0) {
        close(fd);
    }
    pc_socket_keep_spare(link);
    if (fd < 0) {
        take_rest(listener);
    }
}

static void accept_failed(struct listener *listener, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        listener->ready = false;
    } else if (error == EMFILE || error == ENFILE) {
        turn_away(listener);
    } else if (error == ENOMEM || error == ENOBUFS) {
        take_rest(listener);
    }
    /* Whatever else is the trouble of that one connection, now gone. */
}

static unsigned accept_some(struct listener *listener)
{
    unsigned n_accepted = 0;
    for (int i = 0; i < ACCEPT_MAX && listener->ready; i++) {
        struct pc_socket_address peer = {.len = sizeof(peer.storage)};
        int fd = accept4(listener->fd, (struct sockaddr *)&peer.storage,
                         &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            accept_failed(listener, errno);
            continue;
        }
        pc_socket_conn_accept(listener->link, fd, &peer);
        n_accepted++;
    }
    return n_accepted;
}

unsigned pc_socket_listeners_run(struct pc_link *link)
{
    unsigned work = 0;
    for (struct pc_list *node = link->listeners.next; node != &link->listeners;
         node = node->next) {
        work += accept_some(PC_CONTAINER_OF(node, struct listener, node));
    }
    return work;
}
