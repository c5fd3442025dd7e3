/*
 * republish.h - after a change of view: our records go to their new owners.
 *
 * The store is walked in slices, from a timer. An owner of a digest by the new
 * ring that is not one by all rings under which records were published (the
 * bases) gets the digest into its lane (fifo.h). While this lasts, the
 * heartbeats say so, and everybody goes on asking the former views. With the
 * engine's role.
 */
#ifndef PC_NODE_REPUBLISH_H
#define PC_NODE_REPUBLISH_H

#include "directory/ring.h"
#include "net/engine.h"
#include "store/store.h"

struct peercache_node;

#define PC_BASES_MAX 8

struct pc_republish
{
    struct pc_ring *to; /* NULL: nothing to do. */
    /* Each of our records is with the owners of one of these. */
    struct pc_ring *bases[PC_BASES_MAX];
    size_t n_bases;
    size_t at; /* In the store. */
    bool listing;
    bool busy;       /* Told to the cluster. */
    bool everything; /* No base is left of what records are with. */
    struct pc_timer timer;
};

void pc_republish_init(struct peercache_node *node);
void pc_republish_fini(struct peercache_node *node);
/* The node starts: what it will publish goes to the owners of its ring. */
void pc_republish_start(struct peercache_node *node);
/* The node's ring is a new one. */
void pc_republish_view(struct peercache_node *node);

/* Tell the owners of a record in the background, behind what moves. */
void pc_republish_tell(struct peercache_node *node,
                       const struct pc_place *place);

#endif /* PC_NODE_REPUBLISH_H */
