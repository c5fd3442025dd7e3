/*
 * cluster.h - a simulated cluster: real nodes, a simulated network, one thread.
 *
 * Nodes are named a, b, c, ... by their index (from the 27th on n26, n27, ...).
 * Time is the world's, nodes have clocks of their own; nothing
 * happens unless cluster_step() or something that calls it runs. After every
 * step the invariants of the design are checked where they can be seen from
 * outside, and a run is a function of its seed.
 *
 * Values: a key is a word, and its value a function of the word (and of a
 * version, for tests that break the rule of one value a key). Operations take
 * words separated by spaces. The memory of each operation (items, pieces, keys
 * and buffers) is taken away from the process the moment the operation has
 * ended, so whoever touches it later dies on the spot (I6).
 *
 * The trace has a line for everything that a reader of a scenario wants to
 * know, with the time since the last mark: "210 ms  b get x y: OK served x2".
 */
#ifndef PC_TEST_CLUSTER_H
#define PC_TEST_CLUSTER_H

#include "cluster_value.h"

#include "base/rand.h"
#include "node/node.h"
#include "transports/sim/sim.h"

#include "mem_disk.h"

#define CLUSTER_NODES_MAX 26 /* Unless cluster_create_of asks for more. */

enum cluster_state {
    CLUSTER_DOWN, /* Never started, stopped, or killed. */
    CLUSTER_UP,
    CLUSTER_CLOSING
};

struct cluster_node
{
    struct cluster *cluster;
    enum cluster_state state;
    bool frozen;
    bool thawed; /* The next turn is the first after a pause. */
    bool is_cut; /* From somebody, by the test. */
    bool is_slow;
    bool drains;
    bool rested; /* The checker's. */
    unsigned machine;
    int32_t ppm; /* Its clock is wrong by so much. */
    struct pc_sim_host *host;
    peercache_node_t *node;
    uint64_t incarnation;
    uint64_t awake_ns;   /* Thawed last. */
    uint64_t closing_ns; /* When its end began. */
    unsigned n_running;  /* Operations of the test. */
    uint64_t view_seen;
    uint64_t joined_ns; /* When it was first seen to be a member; 0: not yet. */
    uint64_t trouble_ns; /* When it was last stopped, cut off, slow, closing or
                          * lost a connection. */
    char settings[512];  /* What it was started with. */
    /* The checker's: what it saw of the store and the shard, and when it looked
     * at all of the shard. */
    uint64_t next_generation, n_values, n_changes;
    uint64_t stores_seen, n_looks;
    struct mem_disk *disk; /* Its directory, with cluster_add_disk. */
    uint64_t disk_turn_ns; /* What each piece of its disk's work takes. */
};

/* One operation of the test, kept until the cluster is destroyed. */
struct cluster_op
{
    struct pc_list link;
    struct cluster *cluster;
    int node;
    uint64_t incarnation; /* Of the node. */
    uint64_t number;      /* In the order of their beginnings, from 1. */
    enum pc_verb verb;
    unsigned version;
    peercache_op_t *op;
    char words[1024];
    size_t n;
    bool ended;
    bool killed;   /* Its process is no more: nothing is expected of it. */
    bool canceled; /* By the test. */
    bool quiet;    /* No line in the trace. */
    peercache_status_t result;
    uint32_t flags;
    uint64_t timeout_ns;
    uint64_t started_ns, deadline_ns, ended_ns;
    uint64_t slack_ns; /* The most that the cluster had meanwhile. */
    uint64_t
        *holders;    /* The history's: of a remove, nodes by bit, each word. */
    uint64_t n_busy; /* Misses of its node for a busy disk, at its begin. */
    peercache_status_t *statuses; /* From the end on. */
    peercache_source_t *sources;
    size_t *lengths;
    /* The part that the library sees. */
    peercache_item_t *items;
    void *memory;
    size_t memory_len;
    peercache_mem_t *mem;
};

struct cluster_counts
{
    uint64_t n_steps, n_ops, n_ok, n_misses, n_records;
    uint64_t n_by_source[PEERCACHE_FROM_DISK + 1];
};

struct cluster
{
    struct pc_sim *sim;
    struct pc_clock clock;
    struct pc_rand rand;
    uint64_t seed;
    int n_nodes_max;
    struct cluster_node *nodes;
    int *order;  /* Of the turns of a step. */
    bool *wants; /* A turn: something came, or its last one did something. */
    uint64_t *due_ns; /* When its next timer is due, in the world's time. */
    struct cluster_values *values;
    struct cluster_arena *arena; /* Memory of the operations. */
    struct history *history;     /* NULL: nobody keeps one. */
    struct pc_list ops;          /* Running. */
    struct pc_list ended;
    struct pc_map records;    /* Every record ever seen: its hash. */
    struct pc_map seen;       /* The checker's, of one shard. */
    uint64_t n_store_changes; /* That the checker saw, of all nodes. */
    char settings[512];       /* "name=value ..." of all nodes. */
    unsigned n_machines;
    struct pc_ring *(*make_ring)(void *arg, const struct pc_member *members,
                                 size_t n_members, uint32_t vnodes,
                                 uint32_t replicas); /* NULL: each its own. */
    void *make_ring_arg;
    bool is_unchecked;     /* Too many nodes to look at records and slots. */
    uint64_t wall_back_ns; /* Wall clocks of nodes that start were put back. */
    bool skewed;           /* Nodes' clocks begin anywhere, and go wrong. */
    uint64_t grain_ns;     /* The clock goes on by so much at least. */
    uint64_t slack_ns;     /* What an operation may take beyond its deadline. */
    struct cluster_counts counts;
    uint64_t mark_ns;
    uint64_t lost_ns; /* When a node last went, one way or the other. */
    char *trace;
    size_t trace_len, trace_mark, trace_capacity;
    unsigned n_stuck; /* Steps with work at one instant. */
    int acting;       /* Node whose turn it is, or -1. */
    /* Called when a check fails, after it was told; must not return. */
    void (*failed)(struct cluster *c);
};

struct cluster *cluster_create(uint64_t seed);
struct cluster *cluster_create_of(uint64_t seed, int n_nodes_max);
/* Ends all nodes in good order, runs the last checks. */
void cluster_destroy(struct cluster *c);

/* A check failed: says what, the seed and the newest lines, then c->failed. */
void cluster_fail(struct cluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* ---- Nodes ----------------------------------------------------------------
 */

/* "name=value name=value": for nodes that are started from then on. */
void cluster_defaults(struct cluster *c, const char *settings);
/* Machines are numbered from 0; the seeds are machines 0 and 1. */
void cluster_start(struct cluster *c, int i, unsigned machine,
                   const char *settings);
/* Start nodes 0..n-1, each on a machine of its own, and run until all are
 * members, see each other and have nothing to publish. */
void cluster_start_all(struct cluster *c, int n, const char *settings);
/* Before it is started: it has a disk, which outlives its processes. Its
 * settings should say disk_size. */
void cluster_add_disk(struct cluster *c, int i);
/* As SIGTERM: begins to end; goes when it is idle. */
void cluster_stop(struct cluster *c, int i);
void cluster_kill(struct cluster *c, int i);
/* Its machine loses power: its disk keeps what is said here. */
void cluster_power_off(struct cluster *c, int i, enum mem_disk_crash how);
/* A new incarnation with the old id, machine and settings. */
void cluster_restart(struct cluster *c, int i);
/* It gives up its ranges, for good, and goes on serving what it holds. */
void cluster_drain(struct cluster *c, int i);
void cluster_freeze(struct cluster *c, int i);
void cluster_thaw(struct cluster *c, int i);
/* Both ways; one way; off the land (island 0). */
void cluster_cut(struct cluster *c, int i, int k);
void cluster_cut_one_way(struct cluster *c, int from, int to);
void cluster_set_island(struct cluster *c, int i, unsigned island);
void cluster_set_slow(struct cluster *c, int i, uint64_t slow_ns);
void cluster_heal_all(struct cluster *c);
bool cluster_is_up(const struct cluster *c, int i);
/* "a", or "n26"; of one of the last four calls. */
const char *cluster_name(int i);
uint64_t cluster_metric(struct cluster *c, int i, enum pc_metric id);

/* ---- Time -----------------------------------------------------------------
 */

uint64_t cluster_now(const struct cluster *c);
/* Turns in random order; when nobody did anything, the clock goes on to what
 * comes next, at most to limit_ns. */
void cluster_step(struct cluster *c, uint64_t limit_ns);
void cluster_run(struct cluster *c, uint64_t ns);
/* Until the operation has ended; at most to its deadline and a little. */
void cluster_wait(struct cluster_op *op);
/* Until all nodes are up that shall be, see the same view and have nothing to
 * publish or to move; fails after limit_ns. */
void cluster_settle(struct cluster *c, uint64_t limit_ns);

/* ---- Operations -----------------------------------------------------------
 */

struct cluster_call
{
    int node;
    enum pc_verb verb;
    const char *words;
    unsigned version;
    uint64_t timeout_ns; /* 0: the setting. */
    unsigned n_pieces;   /* 0: one. */
    uint32_t flags;
    bool registered;
    bool quiet;
    bool may_be_refused; /* For want of memory: then it has ended at once. */
};

struct cluster_op *cluster_begin(struct cluster *c,
                                 const struct cluster_call *call);
/* Begin and wait; the status of the first item. */
peercache_status_t cluster_do(struct cluster *c, int i, enum pc_verb verb,
                              const char *words);
/* Begin and do not wait. */
struct cluster_op *cluster_begin_verb(struct cluster *c, int i,
                                      enum pc_verb verb, const char *words);
void cluster_cancel(struct cluster_op *op);
struct pc_digest cluster_digest(const struct cluster *c, int i,
                                const char *word);
/* Whether node `owner` is an owner of the word in the view of node i. */
bool cluster_owns(const struct cluster *c, int i, int owner, const char *word);
/* A word of that kind (first letter) that all of the owners own in the view of
 * node i, and nobody of others; lists such as "bc". */
void cluster_pick_word(struct cluster *c, int i, char kind, const char *owners,
                       const char *others, char word[16]);
/* Word number i of an operation. */
void cluster_op_word(const struct cluster_op *op, size_t i, char *word,
                     size_t len);
/* What has ended leaves the list of what runs; called by every step. */
void cluster_reap(struct cluster *c);
/* The memory of all operations; a late write in it is found. */
void cluster_free_ops(struct cluster *c);

/* ---- Trace ----------------------------------------------------------------
 */

void cluster_trace(struct cluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Time and trace start anew. */
void cluster_mark(struct cluster *c);
/* The lines since the mark must be these. */
void cluster_expect(struct cluster *c, const char *lines);

/* ---- Checks (cluster_check.c) ----------------------------------------------
 */

/* After every turn in which a node did something: I1 to I4 and the bounds as
 * far as its turn can have changed them; after every step: I7. */
void cluster_check_node(struct cluster *c, int i);
void cluster_check_step(struct cluster *c);
/* All nodes that are up, awake and not cut off have one view, of nobody that
 * is down, with no former views to ask and nothing to move. */
bool cluster_is_settled(const struct cluster *c);
/* Everything has ended and nothing is left: I9, and every slot's bytes. */
void cluster_check_rest(struct cluster *c);
/* The directory says exactly what the pools hold (no node was held dead by
 * mistake in this run). */
void cluster_check_directory(struct cluster *c);
/* More than a minute after the last death: no shard has records of the dead. */
void cluster_check_purged(struct cluster *c);

#endif /* PC_TEST_CLUSTER_H */
