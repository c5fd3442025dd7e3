/*
 * rings.h - from views to rings, off to the side.
 *
 * A ring of a thousand nodes takes tens of milliseconds to build, and the
 * engine must not stall for one: rings of large views are built by a thread of
 * their own, which ends when it has built them. Meanwhile the node goes on with
 * the old ring, as if it had heard of the view that much later. Small ones, and
 * those of simulated nodes, are built at once. With the engine's role.
 */
#ifndef PC_NODE_RINGS_H
#define PC_NODE_RINGS_H

#include "directory/ring.h"
#include "net/engine.h"
#include "proto/msg.h"

#include <pthread.h>

struct peercache_node;

/* Views that are built together: the current one and those still asked. */
#define PC_RINGS_MAX (PC_FORMER_VIEWS_MAX + 1)

struct pc_rings_job
{
    struct pc_task task;
    struct peercache_node *node;
    pthread_t thread;
    size_t n;
    struct pc_msg_view views[PC_RINGS_MAX]; /* Members are copies. */
    struct pc_ring *rings[PC_RINGS_MAX];    /* NULL: no memory. */
    uint64_t cpu_ns;
};

struct pc_rings
{
    struct pc_rings_job *job;            /* Under way. */
    struct pc_ring *built[PC_RINGS_MAX]; /* Not used yet. */
    size_t n_built;
};

/* The cluster's views changed (or memory ran out the last time): build what is
 * missing, then let the node's rings be those. */
void pc_rings_update(struct peercache_node *node);
/* Whether the node's ring is that of the current view. */
bool pc_rings_are_current(const struct peercache_node *node);
/* The node ends: wait for the thread, whose task is then still to be run. */
void pc_rings_stop(struct peercache_node *node);
void pc_rings_fini(struct peercache_node *node);

/* view.c: a ring was taken into use. */
void pc_view_ring_changed(struct peercache_node *node);

#endif /* PC_NODE_RINGS_H */
