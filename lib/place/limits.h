/*
 * limits.h - how much memory this process may take: the machine's, that of the
 * control groups it is in, huge pages, shared segments, and what may be locked.
 *
 * Looked at before memory is taken: beyond a limit the kernel gives no error,
 * it ends the process. Reads files under a root, "" for the machine itself.
 * Any thread.
 */
#ifndef PC_PLACE_LIMITS_H
#define PC_PLACE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_limit
{
    uint64_t bytes;
    char name[256]; /* Whose: "this machine's memory", a cgroup's file. */
};

struct pc_limits
{
    struct pc_limit most; /* The smallest of all limits. */
    struct pc_limit left; /* The least that is left under one of them; what
                           * the kernel can take back at once, such as cached
                           * files, counts as left. */
    uint64_t huge_free;   /* In the pool of huge pages, as far as the control
                           * groups let us have them; no limit of the above
                           * counts them. */
    uint64_t huge_page;   /* Bytes of one. */
    struct pc_limit huge_left; /* Under control groups of huge pages. */
    uint64_t segment_most; /* Of one segment of shared memory (kernel.shmmax);
                            * UINT64_MAX: not known. */
};

void pc_limits_look(const char *root, struct pc_limits *limits_p);

/* Whether so many bytes can be locked in memory now, beside what is locked
 * already; *limit_p is the limit (ulimit -l), UINT64_MAX for none. */
bool pc_limits_can_lock(uint64_t bytes, uint64_t *limit_p);

/* What remains untouched of `most`, for everything that is not pool. */
uint64_t pc_limits_reserve(const struct pc_limits *limits);

#endif /* PC_PLACE_LIMITS_H */
