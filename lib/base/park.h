/*
 * park.h - where one thread sleeps until a descriptor turns readable, somebody
 * wakes it, or time is up.
 *
 * Which descriptors count is switched on and off by other threads while it
 * sleeps: each arming is good for one wake-up, so that a thread that is not
 * meant is not woken over and over.
 */
#ifndef PC_BASE_PARK_H
#define PC_BASE_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { PC_PARK_FDS = 2 };

struct pc_park
{
    int epoll_fd; /* -1: not open. */
    int wake_fd;
    int fds[PC_PARK_FDS];  /* Watched, or -1; whoever arms owns these. */
    bool on[PC_PARK_FDS];  /* Armed by the last call. */
    _Atomic bool is_woken; /* wake_fd was written and not yet read. */
};

/* False: the process has no descriptors left. */
bool pc_park_init(struct pc_park *park);
void pc_park_fini(struct pc_park *park);

/* Watch fd in place `at` for one wake-up; -1: nothing there. False: it cannot
 * be watched. Callers of arm and disarm agree on turns. */
bool pc_park_arm(struct pc_park *park, unsigned at, int fd);
/* No wake-up by a descriptor from now on, but for one that is under way. */
void pc_park_disarm(struct pc_park *park);

/* Sleep up to wait_ns; the one thread. Ends early for no reason, too. */
void pc_park_wait(struct pc_park *park, uint64_t wait_ns);
/* End the sleep, or the next one. Any thread. */
void pc_park_wake(struct pc_park *park);

#endif /* PC_BASE_PARK_H */
