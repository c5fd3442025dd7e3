/*
 * barrier.h - something to do when all that is queued now has been acknowledged
 * by the owners (or some time has passed). With the engine's role.
 */
#ifndef PC_NODE_BARRIER_H
#define PC_NODE_BARRIER_H

#include "base/list.h"
#include "net/engine.h"

struct peercache_node;

struct pc_barrier
{
    struct pc_list link;
    struct pc_timer deadline;
    struct peercache_node *node;
    size_t n_marks;
    size_t n_reached; /* The first so many of them. */
    struct pc_mark
    {
        uint64_t incarnation, settled;
    } * marks;
    void (*done)(struct pc_barrier *barrier);
};

/* Fill a barrier for all that is queued now; done comes once, later, from a
 * turn, at the latest after wait_ns (0: no limit). False: no memory. */
bool pc_publish_barrier(struct peercache_node *node, struct pc_barrier *barrier,
                        uint64_t wait_ns, void (*done)(struct pc_barrier *));
/* Those that are reached; returns how many. */
unsigned pc_barrier_check(struct peercache_node *node);
/* Nobody waits for this FIFO any more; its owner's next one counts anew. */
void pc_barrier_lift(struct peercache_node *node, uint64_t incarnation);
/* The node ends: nobody waits any more. */
void pc_publish_end_barriers(struct peercache_node *node);

#endif /* PC_NODE_BARRIER_H */
