#include "park.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

bool pc_park_init(struct pc_park *park)
{
    for (unsigned i = 0; i < PC_PARK_FDS; i++) {
        park->fds[i] = -1;
        park->on[i] = false;
    }
    atomic_init(&park->is_woken, false);
    park->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    park->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = park->wake_fd};
    if (park->epoll_fd < 0 || park->wake_fd < 0 ||
        epoll_ctl(park->epoll_fd, EPOLL_CTL_ADD, park->wake_fd, &event) != 0) {
        pc_park_fini(park);
        return false;
    }
    return true;
}

void pc_park_fini(struct pc_park *park)
{
    if (park->wake_fd >= 0) {
        (void)close(park->wake_fd);
    }
    if (park->epoll_fd >= 0) {
        (void)close(park->epoll_fd);
    }
    park->wake_fd = -1;
    park->epoll_fd = -1;
}

/* The registration is renewed, not trusted: the descriptor's owner may have
 * closed it and got another one with its number. */
static bool watch(struct pc_park *park, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(park->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ||
           (errno == ENOENT &&
            epoll_ctl(park->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

bool pc_park_arm(struct pc_park *park, unsigned at, int fd)
{
    if (park->fds[at] >= 0 && park->fds[at] != fd) {
        (void)epoll_ctl(park->epoll_fd, EPOLL_CTL_DEL, park->fds[at], NULL);
    }
    park->fds[at] = fd;
    park->on[at] = fd >= 0 && watch(park, fd, EPOLLIN | EPOLLONESHOT);
    return fd < 0 || park->on[at];
}

void pc_park_disarm(struct pc_park *park)
{
    for (unsigned i = 0; i < PC_PARK_FDS; i++) {
        if (park->on[i]) {
            (void)watch(park, park->fds[i], EPOLLONESHOT);
            park->on[i] = false;
        }
    }
}

static void absorb_wake(struct pc_park *park)
{
    uint64_t count;
    while (read(park->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
    /* Pairs with the exchange in wake: a waker that finds the flag still set
     * writes nothing, and what it did before is seen after this. */
    (void)atomic_exchange_explicit(&park->is_woken, false,
                                   memory_order_acq_rel);
}

void pc_park_wait(struct pc_park *park, uint64_t wait_ns)
{
    struct epoll_event events[PC_PARK_FDS + 1];
    struct pollfd ready = {.fd = park->epoll_fd, .events = POLLIN};
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / PC_S),
                            .tv_nsec = (long)(wait_ns % PC_S)};
    /* poll for the time in nanoseconds; epoll_wait takes the events, which
     * disarms. */
    (void)ppoll(&ready, 1, &wait, NULL);
    int n = epoll_wait(park->epoll_fd, events, PC_PARK_FDS + 1, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == park->wake_fd) {
            absorb_wake(park);
        }
    }
}

void pc_park_wake(struct pc_park *park)
{
    uint64_t one = 1;
    if (atomic_exchange_explicit(&park->is_woken, true, memory_order_acq_rel)) {
        return;
    }
    while (write(park->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}
