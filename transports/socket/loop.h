/*
 * loop.h - one epoll instance: waits for sockets, one foreign descriptor and
 * wake(). One thread at a time, except pc_socket_loop_wake.
 *
 * A source is only told that it is ready; it marks that and runs later, so
 * nothing is freed while events are handed out.
 */
#ifndef PC_SOCKET_LOOP_H
#define PC_SOCKET_LOOP_H

#include <peercache/peercache.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Embedded in what owns a descriptor. ready gets EPOLL* bits; it calls nobody
 * and frees nothing. */
struct pc_socket_source
{
    void (*ready)(struct pc_socket_source *source, uint32_t events);
};

struct pc_socket_loop
{
    int epoll_fd;
    int wake_fd;
    int foreign_fd;        /* Registered for the caller, or -1. */
    bool foreign_unusable; /* It cannot be waited for. */
    bool coarse;           /* The kernel has no epoll_pwait2. */
    atomic_bool woken;     /* wake_fd was written and not yet read. */
    struct pc_socket_source wake_source;
    struct pc_socket_source foreign_source;
};

peercache_status_t pc_socket_loop_init(struct pc_socket_loop *loop);
void pc_socket_loop_fini(struct pc_socket_loop *loop);

peercache_status_t pc_socket_loop_add(struct pc_socket_loop *loop, int fd,
                                      uint32_t events,
                                      struct pc_socket_source *source);
void pc_socket_loop_remove(struct pc_socket_loop *loop, int fd);

/* Tell every source that is ready; wait up to wait_ns if none is. Ends early
 * for foreign_fd (-1: none) and for wake. */
void pc_socket_loop_wait(struct pc_socket_loop *loop, int foreign_fd,
                         uint64_t wait_ns);
/* Any thread. */
void pc_socket_loop_wake(struct pc_socket_loop *loop);

#endif /* PC_SOCKET_LOOP_H */
