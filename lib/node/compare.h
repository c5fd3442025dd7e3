/*
 * compare.h - the owner's side of repair.h: what do we have of that holder?
 *
 * Summaries are made by walking the shard round and round, a slice at a time,
 * for all holders that ask at once: each has its answer when the walk comes to
 * where it was when the question came. Until then it is told to WAIT and asks
 * again, for an answer that is owed must not make us look silent. Lists are
 * answered at once, in pages.
 * Nothing here changes the shard. With the engine's role.
 */
#ifndef PC_NODE_COMPARE_H
#define PC_NODE_COMPARE_H

#include "base/list.h"
#include "base/map.h"
#include "net/engine.h"
#include "proto/msg.h"

struct peercache_node;
struct pc_conn;

struct pc_compare
{
    struct pc_list jobs;
    struct pc_map by_incarnation; /* Holder -> job. */
    struct pc_timer timer;
    size_t at;     /* In the shard. */
    uint64_t laps; /* Times that the walk came to the end. */
    bool walking;
};

void pc_compare_init(struct peercache_node *node);
void pc_compare_fini(struct peercache_node *node);
void pc_compare_summary(struct peercache_node *node, struct pc_conn *conn,
                        const struct pc_msg *msg);
void pc_compare_list(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg);

#endif /* PC_NODE_COMPARE_H */
