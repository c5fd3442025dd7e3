/*
 * pages.h - what lies behind a range of memory: NUMA node, page size, and
 * whether it is there at all.
 *
 * The order is: map, pc_pages_bind and pc_pages_prepare, then pc_pages_fill,
 * which is the first touch. What is small and ours alone: pc_pages_map. No
 * state; any thread, but one a range.
 */
#ifndef PC_BASE_PAGES_H
#define PC_BASE_PAGES_H

#include <peercache/peercache.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pc_pages {
    PC_PAGES_PLAIN,
    PC_PAGES_TRANSPARENT, /* The kernel makes huge ones where it finds some. */
    PC_PAGES_HUGE,        /* From the pool of huge pages. */
    PC_PAGES_N
};

/* "plain", "transparent", "huge". */
const char *pc_pages_name(enum pc_pages pages);

/* Prefer a NUMA node: when that has no memory left, another gives it. 0, or an
 * errno: EPERM and ENOSYS where a container forbids it, EINVAL for a node that
 * is not there or not allowed. */
int pc_pages_bind(void *addr, size_t len, int numa_node);

/* Before the first touch: ask for transparent huge pages if `huge` says so,
 * stay out of core dumps; returns which pages it will be. */
enum pc_pages pc_pages_prepare(void *addr, size_t len, bool huge);

/*
 * Touch every page. No signal ends the process when nothing is behind one of
 * them (a full /dev/shm, huge pages beyond a limit): that is NO_MEMORY.
 * SHUTDOWN: is_stopping said so; it is asked every few milliseconds.
 */
peercache_status_t pc_pages_fill(void *addr, size_t len,
                                 bool (*is_stopping)(void *arg), void *arg);

/* Zeroed memory of our own, private, which begins at a multiple of a huge page
 * and is prepared as above, but not filled. NULL: none. */
void *pc_pages_map(size_t len, bool huge);
/* With the len of its map; NULL: nothing. */
void pc_pages_unmap(void *addr, size_t len);

#endif /* PC_BASE_PAGES_H */
