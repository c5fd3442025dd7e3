/*
 * fifo.h - for each owner one FIFO of what it must be told (rule 11), and
 * beside it a lane of records that move to it.
 *
 *     publishes, retracts ─► entries ─┐
 *                                     ├─► one message under way ─► owner
 *     moved digests ─► lane, slowly ──┘
 *
 * Entries go out in order; what was not acknowledged is sent again, in order,
 * on the next connection. The lane holds digests only: what the store holds of
 * them is looked up when the message is made. So a moved record is as fresh as
 * the store, its retract can only be queued later, and neither needs to wait
 * for the other: a put never waits behind a long move. The lane is throttled:
 * PC_MOVED_PER_MESSAGE records each PC_MOVED_EVERY_NS and owner.
 *
 * A retract that nobody waits for goes with the next publish to the same owner,
 * so a full pool costs no more messages a put than an empty one; or without
 * one, when it has waited for 20 ms or a message is full.
 *
 * The FIFO of an owner that is held dead is parked: nothing is sent, nobody
 * waits for it, and it goes on should the owner refute. With the engine's role.
 */
#ifndef PC_NODE_FIFO_H
#define PC_NODE_FIFO_H

#include "base/list.h"
#include "net/peers.h"

struct peercache_node;
struct pc_publication;
struct pc_publisher;

/* Entries of one FIFO; beyond it the newest are dropped and counted, and repair
 * finds out: a stale record costs a reader one failed proof. */
#define PC_OUTBOX_MAX (1u << 20)
/* Digests of one lane; beyond it the owner's records are compared instead. */
#define PC_MOVED_MAX (1u << 16)

#define PC_MOVED_PER_MESSAGE 256
#define PC_MOVED_EVERY_NS    (5 * PC_MS)

struct pc_outbox_entry
{
    struct pc_record record;
    struct pc_publication *publication; /* Publishes only. */
    uint8_t kind;
};

struct pc_outbox
{
    struct pc_list link; /* publisher->outboxes */
    struct pc_list todo; /* publisher->todo: something may be sent. */
    struct peercache_node *node;
    struct pc_member owner;
    struct pc_outbox_entry *entries; /* A ring. */
    size_t capacity, head, n;
    size_t n_waited;   /* Entries with a publication. */
    size_t n_unwaited; /* Parked: the first so many are without one. */
    uint64_t n_added, n_settled; /* In all: for barriers. */
    uint64_t urgent; /* Somebody waits for the first so many to be settled. */
    struct pc_timer linger; /* Then all are urgent. */
    bool lingering;
    struct pc_digest *moved; /* A ring. */
    size_t moved_capacity, moved_head, n_moved;
    uint64_t moved_ns; /* No moved record is sent before. */

    /* The message under way. */
    bool sending;
    size_t n_sent;       /* Entries in it. */
    size_t n_sent_moved; /* Digests taken from the lane for it, */
    size_t n_sent_live;  /* and records they have become. */
    struct pc_record *sent;
    struct pc_rpc rpc;

    struct pc_timer retry; /* Started: nothing is sent before it fires. */
    bool waiting;
    struct pc_timer pace; /* The lane may go on; or, parked, the parking. */
    bool parked;
    uint64_t differed; /* Ranges that did so in the last round. */
    bool compare; /* Not all that it shall have went through here: its records
                   * must be compared (repair.h). */
    uint64_t compared; /* Ranges in which that is done. */
    bool refused;      /* It had no room for what moved there last. */
};

/* The FIFO of an owner, if there is one. */
struct pc_outbox *pc_fifo_find(const struct pc_publisher *pub,
                               uint64_t incarnation);
/* The same, made if need be; NULL: no memory. */
struct pc_outbox *pc_fifo_get(struct peercache_node *node,
                              const struct pc_member *owner);
/* False: no room; counted. */
bool pc_fifo_add(struct peercache_node *node, const struct pc_member *owner,
                 uint8_t kind, const struct pc_record *record,
                 struct pc_publication *publication);
/* A record moves to an owner. False: no room. */
bool pc_fifo_move(struct peercache_node *node, const struct pc_member *owner,
                  struct pc_digest digest);
/* The view changed: park the FIFOs of the dead, end those of who never comes
 * back, go on with those of who is back. */
void pc_fifo_view(struct peercache_node *node);
/* Its records must be compared, all of them. */
void pc_fifo_compare(struct pc_outbox *box);
/* Somebody waits for what is queued by now. */
void pc_fifo_hurry(struct pc_outbox *box);
/* Send what can be sent. */
void pc_fifo_step(struct peercache_node *node);
/* A peer is back: go on with its FIFO. */
void pc_fifo_peer_up(struct peercache_node *node, uint64_t incarnation);
void pc_fifo_fini(struct peercache_node *node);

/* publish.c: an owner answered, or never will. */
void pc_publish_settled(struct peercache_node *node, struct pc_publication *p,
                        uint64_t incarnation, bool acked, bool refused);

#endif /* PC_NODE_FIFO_H */
