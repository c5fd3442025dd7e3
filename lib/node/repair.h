/*
 * repair.h - do our owners have exactly our records? (design.md 7)
 *
 *     holder: sum up the store, a slice at a time, for all owners at once
 *        │ SUMMARY (count, XOR, highest generation, view)
 *        ▼
 *     owner: sums up what it has of the holder, equal? ─ SAME ──────────► done
 *        │ DIFFERENT: the sums of 64 ranges
 *        ▼
 *     holder: ranges that differed twice: LIST ─► digests and generations
 *        │ of each: what does the live store say? ─► retract or publish
 *        ▼
 *     walks the store again for what is missing there ─► its lane (fifo.h)
 *
 * A comparison drops nothing: an owner gives up a record only when its holder,
 * having looked at its live store, retracts it through the FIFO. Values sealed
 * since the round began are left out. Every round takes ten seconds, jittered,
 * or longer in large clusters (50 ms an owner) and where all was equal the last
 * time and nothing has come or gone since (a minute); an owner whose FIFO lost
 * something, or who was held dead, is compared at once (pc_outbox.compare), and
 * then one difference is enough. What is too much for one round is compared in
 * several, each of ranges that the others left, so that they come to an end
 * whatever is put, evicted or refused meanwhile. With the engine's role.
 */
#ifndef PC_NODE_REPAIR_H
#define PC_NODE_REPAIR_H

#include "base/list.h"
#include "directory/ring.h"
#include "net/engine.h"
#include "net/rpc.h"

struct peercache_node;
struct pc_repair_with;

enum pc_repair_phase {
    PC_REPAIR_IDLE,
    PC_REPAIR_SUMMING, /* The walk over the store. */
    PC_REPAIR_ASKING,  /* Summaries and lists are under way. */
    PC_REPAIR_FINDING  /* The walk for what owners do not have. */
};

struct pc_repair
{
    enum pc_repair_phase phase;
    struct pc_timer timer;
    uint64_t next_ns;     /* The next round of all owners. */
    struct pc_ring *ring; /* Of the round; NULL: idle. */
    uint64_t highest;     /* Newest generation that takes part. */
    size_t at;
    struct pc_list withs;
    struct pc_list asking;        /* Those whose turn is to come. */
    struct pc_repair_with **with; /* By place in the ring's members. */
    unsigned n_open;              /* Not done. */
    unsigned n_under_way;         /* Of these with a request under way. */
    unsigned n_urgent;
    bool sooner;         /* Something differed once. */
    bool equal;          /* Nothing did in the last round of all, */
    uint64_t equal_ns;   /* then, */
    uint64_t equal_at;   /* and since then nothing has come or gone. */
    bool all;            /* Compare every owner at once. */
    bool asking_now;     /* ask_more is at work. */
    uint64_t listed_max; /* Records of one owner that one round lists. */
};

/* A number that changes with whatever changes what owners should have of us. */
uint64_t pc_repair_state(const struct peercache_node *node);
void pc_repair_init(struct peercache_node *node);
void pc_repair_fini(struct peercache_node *node);
/* The node has joined: rounds begin. */
void pc_repair_start(struct peercache_node *node);
/* The ring changed: a round of the old one ends. */
void pc_repair_view(struct peercache_node *node);
/* Compare with every owner at once: others held us dead, or a record found no
 * way to any FIFO. */
void pc_repair_all(struct peercache_node *node);
/* Whether some owner of the ring still is to be compared at once. */
bool pc_repair_is_urgent(const struct peercache_node *node);

#endif /* PC_NODE_REPAIR_H */
