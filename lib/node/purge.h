/*
 * purge.h - what goes from our shard without its holder's word (I4): records of
 * incarnations that are known to be dead for 60 s, and of digests that we do
 * not own for twice the settle window.
 *
 * Lookups leave out the dead at once; their records stay for the 60 s, so that
 * one that was only cut off need not send them again. The shard is walked in
 * slices, from a timer. With the engine's role.
 */
#ifndef PC_NODE_PURGE_H
#define PC_NODE_PURGE_H

#include "base/map.h"
#include "net/engine.h"

#include <stddef.h>

struct peercache_node;

#define PC_DEAD_KEPT_NS (60 * PC_S)

struct pc_purge
{
    struct pc_timer timer;
    struct pc_map dead; /* Incarnation -> since when it is dead. */
    uint64_t ring_ns;   /* Since when our ring is the current one. */
    uint64_t next_ns;   /* The next walk. */
    uint64_t walk_ns;
    uint64_t walk_state; /* pc_repair_state then. */ /* When this walk began. */
    size_t at;
    bool walking;
    bool drop_unowned; /* In this walk. */
    bool settled;      /* What this view does not own has gone. */
};

void pc_purge_init(struct peercache_node *node);
void pc_purge_fini(struct peercache_node *node);
void pc_purge_start(struct peercache_node *node);
/* The ring changed: somebody died, or is back. */
void pc_purge_view(struct peercache_node *node);

#endif /* PC_NODE_PURGE_H */
