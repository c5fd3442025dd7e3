/*
 * read_header.h - the headers that prove one-sided reads.
 *
 * Over hardware each header is a get of its own, at once. Where gets run in
 * software, a header costs both processes what half a value costs, so there
 * those that lie near each other in the slot table come with one get: they wait
 * for each other while data of the peer is under way, a millisecond at most.
 * With the engine's role.
 */
#ifndef PC_NODE_READ_HEADER_H
#define PC_NODE_READ_HEADER_H

#include "base/seqlock.h"
#include "net/peers.h"

struct peercache_node;

/* The asker's; region, slot and came are set. */
struct pc_header_wait
{
    struct pc_list link; /* In peer->headers, then of the get. */
    uint32_t region;
    uint32_t slot;
    uint64_t asked_ns; /* Ours. */
    /* The header's bytes; NULL: status says why there are none. It may free the
     * wait. */
    void (*came)(struct pc_header_wait *wait, peercache_status_t status,
                 const void *header);
};

/* came may be called from within, when nothing can be asked. */
void pc_header_ask(struct peercache_node *node, struct pc_peer *peer,
                   struct pc_header_wait *wait);
/* After a get of the peer has ended: those that are due now are asked for. */
void pc_header_pump(struct peercache_node *node, struct pc_peer *peer);
/* Nobody waits for it any more: came is not called. */
void pc_header_leave(struct pc_header_wait *wait);
/* No get is under way any more. */
void pc_header_fini(struct peercache_node *node);

#endif /* PC_NODE_READ_HEADER_H */
