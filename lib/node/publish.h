/*
 * publish.h - telling the directory what we hold, and what no more (rule 11).
 *
 * A publication is one sealed slot on its way to its owners, through the FIFO
 * of each (fifo.h); puts wait for it. After a change of view the records whose
 * owners changed move (republish.h). With the engine's role.
 */
#ifndef PC_NODE_PUBLISH_H
#define PC_NODE_PUBLISH_H

#include "base/list.h"
#include "base/map.h"
#include "directory/ring.h"
#include "node/barrier.h"
#include "node/fifo.h"
#include "node/republish.h"
#include "store/store.h"

struct peercache_node;

struct pc_publication
{
    struct pc_record record;
    uint64_t view;                     /* Whose owners are the targets. */
    uint64_t targets[PC_REPLICAS_MAX]; /* Owners, by incarnation. */
    uint32_t pending;                  /* Bits: have not answered. */
    uint32_t acked;                    /* Bits: have it. */
    bool refused;                      /* An owner has no room. */
    uint64_t first_ack_ns;
    uint64_t retry_ns; /* Taken by none: told again then; 0: it is not so. */
    uint8_t n_tries;
    uint8_t n_refusals;
    struct pc_list waiters; /* pc_op_item.u.put.wait */
    struct pc_list link;    /* publisher->waited or ->retarget, while somebody
                             * waits. */
};

struct pc_publisher
{
    struct peercache_node *node;
    struct pc_list outboxes;
    struct pc_list todo; /* pc_outbox.todo */
    struct pc_map by_incarnation;
    struct pc_map publications; /* generation -> pc_publication */
    struct pc_list waited;
    struct pc_list retarget; /* Waited for, under an older view. */
    struct pc_list barriers;
    struct pc_timer tick;
    size_t n_entries;     /* In FIFOs, */
    size_t n_parked;      /* in those of the dead, */
    size_t n_moved;       /* and in lanes. */
    uint64_t n_retracted; /* So far. */
    bool ticking;
};

void pc_publish_init(struct peercache_node *node);
void pc_publish_fini(struct peercache_node *node);

/* A slot was sealed: tell all owners of the current ring. The publication, or
 * NULL when memory ran out (nothing was queued). */
struct pc_publication *pc_publish_place(struct peercache_node *node,
                                        const struct pc_place *place);
/* The same, of which nobody waits for the end. */
void pc_publish_unwaited(struct peercache_node *node,
                         const struct pc_place *place);
/* The publication of a generation that is not settled yet; NULL: settled. */
struct pc_publication *pc_publish_find(struct peercache_node *node,
                                       uint64_t generation);
/* A value is gone: tell every node that may have its record. */
void pc_publish_retract(struct peercache_node *node,
                        const struct pc_place *place);
/* The same for a value that stays on disk: its owners get that record instead,
 * which is newer; who is no owner any more forgets the old one. */
void pc_publish_kept(struct peercache_node *node, const struct pc_place *gone,
                     const struct pc_place *kept);
/* Item `wait` (pc_op_item.u.put.wait) waits; pc_put_settled is called once. */
void pc_publish_wait(struct peercache_node *node, struct pc_publication *p,
                     struct pc_list *wait);
/* The view changed: park FIFOs of the dead, move records to new owners. */
void pc_publish_view(struct peercache_node *node);
/* What is to be done in this turn; returns work done. */
unsigned pc_publish_step(struct peercache_node *node);
bool pc_publish_is_idle(const struct peercache_node *node);

/* put.c: a publication that an item waited for has enough owners (OK), or has
 * none left to ask. */
void pc_put_settled(struct pc_list *wait, peercache_status_t status);

#endif /* PC_NODE_PUBLISH_H */
