/*
 * member.h - who is in the cluster. A state machine without I/O:
 *
 *     event ──► pc_cluster_step ──► actions
 *
 * It never sends, waits, or reads a clock; time comes in with each event and
 * what is to be sent comes out. The node performs the actions, the tests just
 * look at them.
 *
 *     START ─► JOINING ── a TABLE of a view, or we are a seed ─► MEMBER
 *                 ▲                                                │ LEAVE
 *                 └── nobody answers: try seeds again each beat    ▼ LEFT
 *
 * A table is a set of members merged by rule, so order and duplication do not
 * matter: of one id the later admitted wins; of one incarnation the larger
 * epoch; of one epoch the later state (ALIVE < DRAINING < LEFT < DEAD). All
 * that a member says of itself changes with its epoch. A node that learns of
 * its own death raises its epoch. So a table may also be sent in part.
 *
 * Masters are the seeds' nodes first, then others by id, up to max_masters;
 * everybody beats to all masters in parallel; masters watch everybody,
 * everybody watches the masters. Two nodes need not agree on who is a master:
 * whoever watches a member that is silent for half of member_ttl beats to it
 * (the answer counts as a sign of life); shortly before all of member_ttl has
 * passed it asks other nodes to probe the member, and declares it dead only
 * when they do not reach it either: a broken link kills nobody. A node that is
 * no master leaves a silent master to the other masters while it hears from
 * one of them.
 *
 * A word of third parties that a member is dead counts when it comes from a
 * master and we have not heard from the member ourselves just now; else the
 * member is told (a notice), and settles it by raising its epoch. So two
 * halves that hold each other dead heal without anyone dropping out.
 *
 * One id, two nodes. A node starts with admission 0. Whoever takes a beat of it
 * admits it: with the next number after that of the id's last node, if that is
 * dead; if that seems to live it is probed first, and if it answers the new
 * node is refused. Should two nodes of one id meet all the same, the later
 * admitted stays (then the larger incarnation), also where clocks were set
 * back; the other is superseded and says no more. That the later one does not
 * answer the elder is no proof of its end: it is asked again for member_ttl,
 * then others are asked, and any sign of life of it decides.
 *
 * A seed that nobody answers at its address any more is looked for often, so
 * that one that starts again learns of the cluster at once. It may start as a
 * cluster of one meanwhile: tables merge, nobody's view shrinks by it.
 *
 * Engine thread only.
 */
#ifndef PC_CLUSTER_MEMBER_H
#define PC_CLUSTER_MEMBER_H

#include "proto/msg.h"

struct pc_cluster;

struct pc_cluster_params
{
    struct pc_member self; /* id, incarnation, address, host, role. */
    uint64_t heartbeat_ns;
    uint64_t member_ttl_ns;
    uint64_t settle_ns; /* Former views are asked at least so long. */
    uint32_t max_masters;
    uint64_t seed;  /* Of its random numbers (jitter). */
    size_t n_seeds; /* Seed addresses are named by index 0..n_seeds-1; with
                     * none the node is a cluster of one at once. */
};

enum pc_cluster_event_type {
    PC_CLUSTER_START,
    PC_CLUSTER_TICK,       /* now_ns reached next_tick_ns. */
    PC_CLUSTER_BEAT,       /* A BEAT came in; after the step, answer it with
                            * pc_cluster_answer. */
    PC_CLUSTER_TABLE,      /* A TABLE came in: an answer, or unasked. */
    PC_CLUSTER_SILENT,     /* A beat to `peer` or seed failed or timed out. */
    PC_CLUSTER_PROBED,     /* What `peer` found out of `about`, or that it did
                            * not answer (verdict UNKNOWN). */
    PC_CLUSTER_CONN_LOST,  /* The link lost a member. */
    PC_CLUSTER_SEED_IS_US, /* Seed `seed`'s address is served by this node. */
    PC_CLUSTER_SEED_GONE,  /* Seed `seed` has no address (any more). */
    PC_CLUSTER_SEED_NEW,   /* It has one, another one than before. */
    PC_CLUSTER_REPUBLISH,  /* `republishing`: ours has begun or ended. */
    PC_CLUSTER_DRAIN,
    PC_CLUSTER_LEAVE
};

struct pc_cluster_event
{
    enum pc_cluster_event_type type;
    uint64_t now_ns;
    uint64_t peer; /* Incarnation of the sender or of the lost one; 0: not
                    * known. */
    int32_t seed;  /* Index of a seed it came from, or -1. */
    bool republishing;
    uint64_t about; /* Incarnation, of PROBED. */
    enum pc_probe_verdict verdict;
    uint64_t asked_ns; /* TABLE, PROBED: when this was asked for; 0: unasked. */
    const struct pc_msg_beat *beat;
    const struct pc_msg_table *table;
};

/* A BEAT, a PROBE or a TABLE for somebody. */
struct pc_cluster_send
{
    enum pc_msg_type type; /* PC_MSG_BEAT or PC_MSG_PROBE (requests) or
                            * PC_MSG_TABLE. */
    int32_t seed;          /* >= 0: to that seed's address (who is there is
                            * not known yet); else to member. */
    struct pc_member member;
    uint64_t about; /* PROBE: of whom. TABLE: != 0: a notice, to tell only of
                     * this one. */
    uint64_t epoch; /* Of the notice. */
    uint64_t view;  /* TABLE: what the receiver is thought to have, or 0: */
    uint64_t table; /* what a beat of it would say. */
};

/* Valid until the next step. */
struct pc_cluster_actions
{
    struct pc_cluster_send *send;
    size_t n_send;
    bool view_changed;     /* pc_cluster_view differs from before. */
    bool former_changed;   /* pc_cluster_former differs from before. */
    bool joined;           /* Became a member with this step. */
    bool superseded;       /* Lost its id to a newer node with this step. */
    bool refused;          /* Learned that its id is another live node's. */
    bool refuted;          /* Raised its epoch: others held us dead. */
    uint64_t next_tick_ns; /* UINT64_MAX: never. */
};

struct pc_cluster *pc_cluster_create(const struct pc_cluster_params *params);
void pc_cluster_destroy(struct pc_cluster *cluster);

/* Sends are best effort, as the net is: what does not fit into memory is not
 * sent, and beats come again. NO_MEMORY leaves the state as it was. */
peercache_status_t pc_cluster_step(struct pc_cluster *cluster,
                                   const struct pc_cluster_event *event,
                                   struct pc_cluster_actions *actions);

/* The BEAT to send now. */
void pc_cluster_beat(const struct pc_cluster *cluster,
                     struct pc_msg_beat *beat);
/* The TABLE to answer a beat with: `same` when the asker's table hash is ours,
 * only what changed since where that is known; with former views when the
 * asker's view is 0 or not known here, or while two clusters merge. view 0: we
 * have not joined, or the asker is not admitted. Pointers live until the next
 * step or the next call of this or of pc_cluster_push. */
void pc_cluster_answer(const struct pc_cluster *cluster,
                       const struct pc_msg_beat *beat,
                       struct pc_msg_table *table);
/* The TABLE of a send action. Lives as above. */
void pc_cluster_push(const struct pc_cluster *cluster,
                     const struct pc_cluster_send *send,
                     struct pc_msg_table *table);

bool pc_cluster_is_joined(const struct pc_cluster *cluster);
/* Members that are ALIVE or DRAINING, sorted by id, self included; none, and
 * hash 0, while not joined. Valid until the next step. */
const struct pc_member *pc_cluster_view(const struct pc_cluster *cluster,
                                        size_t *n_p, uint64_t *hash_p);
/* The seed's word on settings that all should share. */
void pc_cluster_tune(struct pc_cluster *cluster, uint64_t member_ttl_ns,
                     uint32_t max_masters);
/* Everybody known, self first, dead ones of the last ten minutes too. */
const struct pc_member *pc_cluster_all(const struct pc_cluster *cluster,
                                       size_t *n_p);
/* Views that are still asked on absence: each stays for settle_ns at least and
 * while a live member says that it is republishing. */
const struct pc_msg_view *pc_cluster_former(const struct pc_cluster *cluster,
                                            size_t *n_p);
/* Whether the incarnation is known to be dead, left, or superseded. Unknown is
 * not dead (rule 4). */
bool pc_cluster_is_dead(const struct pc_cluster *cluster, uint64_t incarnation);
const struct pc_member *pc_cluster_find(const struct pc_cluster *cluster,
                                        uint64_t incarnation);

/* How much this node has to do, 0..PC_LOAD_MAX: goes out with its beats. */
void pc_cluster_set_load(struct pc_cluster *cluster, uint8_t load);
/* The same of a member, as far as it is known here: coarse, and some beats old.
 */
uint8_t pc_cluster_load(const struct pc_cluster *cluster, uint64_t incarnation);

/* Gauges of what is bounded, and counts of what the bounds cost. */
struct pc_cluster_counts
{
    size_t n_members; /* <= PC_NODES_MAX, dead ones included. */
    size_t n_live;
    size_t n_masters;
    bool am_master;
    size_t n_graves;           /* Incarnations kept as dead only, <= 4096. */
    size_t n_former;           /* <= PC_FORMER_VIEWS_MAX */
    uint64_t n_ignored;        /* Members that did not fit. */
    uint64_t n_former_dropped; /* Views that did not fit. */
    uint64_t n_declared;       /* Deaths found by this node. */
    uint64_t n_refuted;        /* Own deaths refuted. */
    uint64_t n_pauses;         /* Gaps of its own, longer than a heartbeat. */
    uint64_t n_probes;         /* Questions to others about the silent. */
    uint64_t n_vouched;        /* Silent here, but others reached it. */
    uint64_t n_late;           /* Words older than what is known. */
    uint64_t n_forged;         /* Words that cannot be true. */
    uint64_t n_refused;        /* Nodes refused the id of a live one. */
};
void pc_cluster_counts(const struct pc_cluster *cluster,
                       struct pc_cluster_counts *counts);

#endif /* PC_CLUSTER_MEMBER_H */
