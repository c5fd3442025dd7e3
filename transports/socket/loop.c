#include "transports/socket/loop.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 128 /* Sources told per call. */

static peercache_status_t control(struct pc_socket_loop *loop, int operation,
                                  int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(loop->epoll_fd, operation, fd, &event) == 0) {
        return PEERCACHE_OK;
    }
    return errno == ENOMEM || errno == ENOSPC ? PEERCACHE_NO_MEMORY
                                              : PEERCACHE_IO;
}

static void absorb_wake(struct pc_socket_source *source, uint32_t events)
{
    struct pc_socket_loop *loop =
        PC_CONTAINER_OF(source, struct pc_socket_loop, wake_source);
    uint64_t count;

    (void)events;
    while (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
    /* Pairs with the exchange in wake: a waker that finds the flag still set
     * writes nothing, and what it did before is seen after this one. */
    (void)atomic_exchange_explicit(&loop->woken, false, memory_order_acq_rel);
}

/* The caller looks at its descriptor itself when the wait has ended. */
static void ignore_foreign(struct pc_socket_source *source, uint32_t events)
{
    (void)source;
    (void)events;
}

peercache_status_t pc_socket_loop_init(struct pc_socket_loop *loop)
{
    peercache_status_t status = PEERCACHE_IO;

    loop->foreign_fd = -1;
    loop->foreign_unusable = false;
    loop->coarse = false;
    atomic_init(&loop->woken, false);
    loop->wake_source.ready = absorb_wake;
    loop->foreign_source.ready = ignore_foreign;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        goto fail;
    }
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        goto close_epoll;
    }
    status = control(loop, EPOLL_CTL_ADD, loop->wake_fd, EPOLLIN,
                     &loop->wake_source);
    if (status != PEERCACHE_OK) {
        goto close_wake;
    }
    return PEERCACHE_OK;

close_wake:
    close(loop->wake_fd);
close_epoll:
    close(loop->epoll_fd);
fail:
    PC_ERROR("socket", "cannot create the event loop: %s", strerror(errno));
    return status;
}

void pc_socket_loop_fini(struct pc_socket_loop *loop)
{
    close(loop->wake_fd);
    close(loop->epoll_fd);
}

peercache_status_t pc_socket_loop_add(struct pc_socket_loop *loop, int fd,
                                      uint32_t events,
                                      struct pc_socket_source *source)
{
    return control(loop, EPOLL_CTL_ADD, fd, events, source);
}

/* A plain close would leave the registration behind if a forked child still
 * holds the descriptor. */
void pc_socket_loop_remove(struct pc_socket_loop *loop, int fd)
{
    (void)control(loop, EPOLL_CTL_DEL, fd, 0, NULL);
}

/*
 * Before each real wait the registration is renewed, not trusted: the owner
 * of the descriptor may have closed it and got another one with its number.
 */
static void watch_foreign(struct pc_socket_loop *loop, int fd)
{
    if (loop->foreign_fd >= 0 && loop->foreign_fd != fd) {
        pc_socket_loop_remove(loop, loop->foreign_fd);
    }
    loop->foreign_fd = fd;
    loop->foreign_unusable = false;
    if (fd < 0) {
        return;
    }
    if (control(loop, EPOLL_CTL_MOD, fd, EPOLLIN, &loop->foreign_source) !=
            PEERCACHE_OK &&
        control(loop, EPOLL_CTL_ADD, fd, EPOLLIN, &loop->foreign_source) !=
            PEERCACHE_OK) {
        loop->foreign_fd = -1;
        loop->foreign_unusable = true;
    }
}

#ifdef SYS_epoll_pwait2
static int wait_fine(struct pc_socket_loop *loop, struct epoll_event *events,
                     uint64_t wait_ns)
{
    /* The kernel's own struct; the C library's may be narrower. */
    struct
    {
        int64_t seconds;
        int64_t nanoseconds;
    } timeout = {.seconds = (int64_t)(wait_ns / PC_S),
                 .nanoseconds = (int64_t)(wait_ns % PC_S)};
    return (int)syscall(SYS_epoll_pwait2, loop->epoll_fd, events, EVENTS_MAX,
                        &timeout, NULL, 0);
}
#else
static int wait_fine(struct pc_socket_loop *loop, struct epoll_event *events,
                     uint64_t wait_ns)
{
    (void)loop;
    (void)events;
    (void)wait_ns;
    errno = ENOSYS;
    return -1;
}
#endif

static int wait_events(struct pc_socket_loop *loop, struct epoll_event *events,
                       uint64_t wait_ns)
{
    if (wait_ns > 0 && !loop->coarse) {
        int n = wait_fine(loop, events, wait_ns);
        /* Sandboxes refuse calls that they do not know with EPERM. */
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }
        loop->coarse = true;
    }
    uint64_t wait_ms = wait_ns / PC_MS + (wait_ns % PC_MS != 0);
    return epoll_wait(loop->epoll_fd, events, EVENTS_MAX,
                      wait_ms > INT_MAX ? INT_MAX : (int)wait_ms);
}

void pc_socket_loop_wait(struct pc_socket_loop *loop, int foreign_fd,
                         uint64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];

    if (wait_ns > 0) {
        watch_foreign(loop, foreign_fd);
        wait_ns = loop->foreign_unusable ? 0 : wait_ns;
    }
    int n = wait_events(loop, events, wait_ns);
    for (int i = 0; i < n; i++) {
        struct pc_socket_source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
}

void pc_socket_loop_wake(struct pc_socket_loop *loop)
{
    uint64_t one = 1;
    if (atomic_exchange_explicit(&loop->woken, true, memory_order_acq_rel)) {
        return;
    }
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}
