/*
 * repair_int.h - inside of repair.c (rounds and walks) and repair_ask.c (the
 * exchange with each owner). Nobody else includes this.
 */
#ifndef PC_NODE_REPAIR_INT_H
#define PC_NODE_REPAIR_INT_H

#include "repair.h"

#include "directory/summary.h"
#include "node/node.h"

/* The comparison with one owner in one round. */
struct pc_repair_with
{
    struct pc_list link; /* repair->withs */
    struct pc_list ask;  /* repair->asking */
    struct peercache_node *node;
    struct pc_member owner;
    struct pc_summary sums;
    struct pc_map listed; /* Digest -> generation, of the ranges in act. */
    struct pc_rpc rpc;
    struct pc_timer wait;
    unsigned n_waits;
    uint64_t act;    /* Ranges to list, */
    uint64_t to_ask; /* and of these those not asked yet. */
    uint64_t cursor; /* In the lowest of them. */
    bool under_way;
    bool urgent;
    bool again; /* Something failed. */
    bool more;  /* Not all that differs fits into this round. */
    bool full;  /* Not all that is missing there fits into the lane. */
};

static inline struct pc_outbox *pc_repair_box(const struct pc_repair_with *w)
{
    return pc_fifo_find(&w->node->publisher, w->owner.incarnation);
}

/* repair_ask.c: ask everybody; pc_repair_asked comes when all have answered. */
void pc_repair_ask(struct peercache_node *node);
void pc_repair_ask_again(struct pc_timer *timer, uint64_t now_ns);
/* repair.c */
void pc_repair_asked(struct peercache_node *node);

#endif /* PC_NODE_REPAIR_INT_H */
