/*
 * node.h - the type peercache._native.NodeBase: life of a node, and calls.
 *
 * The fields are read and written under the GIL only. A call counts itself in
 * n_calls while it is without the GIL, so that close can wait for it.
 *
 *   NEW ──init──► OPEN ──close──► CLOSING ──last call left──► CLOSED
 */
#ifndef PC_PY_NODE_H
#define PC_PY_NODE_H

#include "python.h"

#include <peercache/peercache.h>

#include "regs.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum pc_node_state {
    PC_NODE_NEW,
    PC_NODE_OPEN,
    PC_NODE_CLOSING,
    PC_NODE_CLOSED
};

struct pc_node_object
{
    PyObject_HEAD enum pc_node_state state;
    peercache_node_t *node;
    pid_t pid; /* Process that created the node. */
    size_t n_calls;
    struct pc_regs regs;
    /* Raised when something ended that a thread may wait for. Written with
     * the GIL and the lock; whoever sleeps has only the lock. */
    uint64_t ticket;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Begin a call that uses self->node; -1 with ClosedError. */
int pc_node_enter(struct pc_node_object *self);
void pc_node_leave(struct pc_node_object *self);

/* Wake the threads in pc_node_sleep. */
void pc_node_wake(struct pc_node_object *self);
/* Sleep, without the GIL, until the next wake; look at the reason again. */
void pc_node_sleep(struct pc_node_object *self);

/* Give back a range that is in no table any more, once its users are gone;
 * frees it. */
void pc_node_release(struct pc_node_object *self, struct pc_reg *reg);

/* Add NodeBase to the module; -1 with an exception set. */
int pc_node_add_type(PyObject *module);

#endif /* PC_PY_NODE_H */
