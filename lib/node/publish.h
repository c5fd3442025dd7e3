/*
 * publish.h - telling the directory what we hold, and what no more (rule 11).
 *
 * For each owner there is one FIFO of publishes and retracts; one message of it
 * is under way at a time, and what was not acknowledged is sent again, in
 * order, on the next connection. A publication is one sealed slot on its way to
 * its owners; puts wait for it. With the engine's role.
 */
#ifndef PC_NODE_PUBLISH_H
#define PC_NODE_PUBLISH_H

#include "base/list.h"
#include "base/map.h"
#include "directory/ring.h"
#include "net/peers.h"
#include "store/store.h"

struct peercache_node;

/* Entries of one FIFO; beyond it the newest are dropped and counted: a stale
 * record costs a reader one failed proof. */
#define PC_OUTBOX_MAX (1u << 20)

struct pc_publication
{
    struct pc_record record;
    uint64_t targets[PC_REPLICAS_MAX]; /* Owners, by incarnation. */
    uint32_t pending;                  /* Bits: have not answered. */
    uint32_t acked;                    /* Bits: have it. */
    uint64_t first_ack_ns;
    struct pc_list waiters; /* pc_op_item.u.put.wait */
    struct pc_list link;    /* publisher->waited, while somebody waits. */
};

struct pc_outbox_entry
{
    struct pc_record record;
    struct pc_publication *publication; /* Publishes only. */
    uint8_t kind;
};

struct pc_outbox
{
    struct pc_list link;
    struct peercache_node *node;
    struct pc_member owner;
    struct pc_outbox_entry *entries; /* A ring. */
    size_t capacity, head, n;
    uint64_t n_added, n_settled; /* In all: for barriers. */
    size_t n_sent;               /* In the message under way; 0: none. */
    struct pc_rpc rpc;
    struct pc_timer retry; /* Started: nothing is sent before it fires. */
    bool waiting;
};

/* Something to do when all that is queued now has been acknowledged (or 200 ms
 * have passed). */
struct pc_barrier
{
    struct pc_list link;
    struct pc_timer deadline;
    struct peercache_node *node;
    size_t n_marks;
    struct pc_mark
    {
        uint64_t incarnation, settled;
    } * marks;
    void (*done)(struct pc_barrier *barrier);
};

struct pc_publisher
{
    struct peercache_node *node;
    struct pc_list outboxes;
    struct pc_map by_incarnation;
    struct pc_map publications; /* generation -> pc_publication */
    struct pc_list waited;
    struct pc_list barriers;
    struct pc_timer tick;
    size_t n_entries;
    bool ticking;
};

/* Moving our records to new owners after a change of view. */
struct pc_republish
{
    struct pc_ring *to; /* NULL: nothing to do. */
    size_t at;
    bool listing;
    bool busy;                 /* Told to the cluster. */
    struct pc_barrier barrier; /* Between listing and its end. */
    bool waiting;
    bool outdated;   /* The barrier is of an older view. */
    bool everything; /* base_ring's owners do not have all. */
    bool dropped;    /* An entry found no room: list once more. */
};

void pc_publish_init(struct peercache_node *node);
void pc_publish_fini(struct peercache_node *node);

/* A slot was sealed, or its owners changed: tell all owners of the current ring
 * that are not in `but` (NULL: all). The publication, or NULL when memory ran
 * out (nothing was queued). */
struct pc_publication *pc_publish_place(struct peercache_node *node,
                                        const struct pc_place *place,
                                        const struct pc_ring *but);
/* The publication of a generation that is not settled yet; NULL: settled. */
struct pc_publication *pc_publish_find(struct peercache_node *node,
                                       uint64_t generation);
/* A value is gone: tell every node that may have its record. */
void pc_publish_retract(struct peercache_node *node,
                        const struct pc_place *place);
/* Item `wait` (pc_op_item.u.put.wait) waits; pc_put_settled is called once. */
void pc_publish_wait(struct peercache_node *node, struct pc_publication *p,
                     struct pc_list *wait);
/* The view changed: drop FIFOs of the dead, move records to new owners. */
void pc_publish_view(struct peercache_node *node);
/* Next part of a re-publication; returns work done. */
unsigned pc_publish_step(struct peercache_node *node);
bool pc_publish_is_idle(const struct peercache_node *node);
/* Fill a barrier for all that is queued now; done comes once, later, from a
 * turn, at the latest after wait_ns (0: no limit). False: no memory. */
bool pc_publish_barrier(struct peercache_node *node, struct pc_barrier *barrier,
                        uint64_t wait_ns, void (*done)(struct pc_barrier *));
/* The node ends: nobody waits any more. */
void pc_publish_end_barriers(struct peercache_node *node);
/* A peer is back: go on with its FIFO. */
void pc_publish_peer_up(struct peercache_node *node, uint64_t incarnation);

/* put.c: a publication that an item waited for has enough owners (OK), or has
 * none left to ask. */
void pc_put_settled(struct pc_list *wait, peercache_status_t status);

#endif /* PC_NODE_PUBLISH_H */
