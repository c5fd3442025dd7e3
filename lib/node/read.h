/*
 * read.h - bring values from other nodes (the READ step of a get).
 *
 *     READY item ─► mode of its holder: mapped ────► COPY: caller or copier
 *                                       one-sided ─► pull (read_pull.c)
 *                                       served ────► request (read_served.c)
 *                                       not known yet ─► PATH: wait for it
 *
 * Whatever fails comes back as stale, unreachable or broken off, and the item
 * goes on with its next place. With the engine's role.
 */
#ifndef PC_NODE_READ_H
#define PC_NODE_READ_H

#include "base/list.h"
#include "net/peers.h"
#include "proto/record.h"
#include <stdatomic.h>

#include <stdint.h>

struct peercache_node;
struct peercache_op;

enum pc_read_way {
    PC_WAY_MAPPED,
    PC_WAY_ONE_SIDED,
    PC_WAY_SERVED,
    PC_WAY_PROMOTE, /* First from its holder's disk into the pool there. */
    PC_WAY_NONE,    /* A forced mode has no way. */
    PC_WAY_DOWN,    /* The holder is dead or silent. */
    PC_WAY_LATER    /* Its way is being found. */
};

/* How an item would be read from a holder now. */
enum pc_read_way pc_read_way(struct peercache_node *node, struct pc_peer *peer,
                             const struct pc_record *record, bool no_get,
                             bool waited);

/* One request or pull under way, in op->reads; stop asks it to end, after which
 * it ends by itself (the op's advance is called). */
struct pc_read
{
    struct pc_list link;
    struct peercache_op *op;
    void (*stop)(struct pc_read *read, peercache_status_t verdict);
};

/* What is left of an operation's time: what a holder may take for its disk. */
uint64_t pc_read_patience(const struct peercache_op *op);
/* Start a served read of items (indices) at one holder. False: it could not be
 * started, the items are unchanged. */
bool pc_read_served(struct peercache_op *op, struct pc_peer *peer,
                    const uint32_t *items, size_t n);
/* Start a one-sided read of one item. */
bool pc_read_pull(struct peercache_op *op, struct pc_peer *peer, uint32_t item);

/* Gets from the peer have ended: reads that wait go on. */
void pc_pull_pump(struct peercache_node *node, struct pc_peer *peer);
#define PC_PROMOTED_AT_ONCE 256
/* Ask a holder to bring items from its disk into its pool, and go on with the
 * places that it tells. False: as above. */
bool pc_read_promote(struct peercache_op *op, struct pc_peer *peer,
                     const uint32_t *items, size_t n);
/* What an operation has pinned, or is about to. */
uint64_t pc_read_pinned(const struct peercache_op *op);
/* Bring one item from our own disk into our pool; it is PINNED then, and
 * counted in *pinned_p. False: it has to wait. */
bool pc_read_disk(struct peercache_op *op, uint32_t item, uint64_t *pinned_p);

/* Outcomes, for get.c. */
void pc_get_item_ok(struct peercache_op *op, uint32_t item,
                    peercache_source_t source);
void pc_get_item_stale(struct peercache_op *op, uint32_t item);
void pc_get_item_down(struct peercache_op *op, uint32_t item);
void pc_get_item_broken_off(struct peercache_op *op, uint32_t item);
void pc_get_item_corrupt(struct peercache_op *op, uint32_t item);
void pc_get_item_other_size(struct peercache_op *op, uint32_t item,
                            uint64_t length);
/* The holder's disk has not brought it yet. moved: it has brought others. */
void pc_get_item_busy(struct peercache_op *op, uint32_t item, bool moved);

/* Bounce buffers: registered memory of ours that one-sided reads land in when
 * the user's must not be their target. */
#define PC_BOUNCE_CHUNK  (256u * 1024u)
#define PC_BOUNCE_CHUNKS 64u

struct pc_bounce
{
    struct pc_fabric_mem *mem;
    uint8_t *base; /* NULL: not there (yet). */
    uint32_t free[PC_BOUNCE_CHUNKS];
    uint32_t n_free;
    struct pc_list pulls; /* Waiting for a chunk. */
    _Atomic bool coming;  /* Not registered yet, but about to be. */
};

void pc_bounce_init(struct peercache_node *node);
void pc_bounce_fini(struct peercache_node *node);

#endif /* PC_NODE_READ_H */
