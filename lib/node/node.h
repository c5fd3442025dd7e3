/*
 * node.h - the node: where the layers meet.
 *
 * Who may touch what: the store, the location cache, the mappings and the
 * metrics are for any thread; everything else belongs to whoever has the
 * engine's role, but for what its own comment says. One file per verb and per
 * service; lib/README.md has the map.
 */
#ifndef PC_NODE_NODE_H
#define PC_NODE_NODE_H

#include "base/rand.h"
#include "cluster/member.h"
#include "directory/cache.h"
#include "directory/ring.h"
#include "directory/shard.h"
#include "net/peers.h"
#include "node/compare.h"
#include "node/config.h"
#include "node/doubt.h"
#include "node/errand.h"
#include "node/holders.h"
#include "node/load.h"
#include "node/op.h"
#include "node/place.h"
#include "node/promote.h"
#include "node/publish.h"
#include "node/purge.h"
#include "node/read.h"
#include "node/repair.h"
#include "node/resolver.h"
#include "node/rings.h"
#include "node/tier.h"
#include "node/uses.h"
#include "obs/histogram.h"
#include "obs/metrics.h"
#include "store/store.h"

#include <pthread.h>
#include <sys/types.h>

/* What a simulated node gets instead of the machine. */
struct pc_node_env
{
    const struct pc_link_ops *link_ops;
    void *link_world;
    const struct pc_fabric_ops *fabric_ops; /* NULL: none. */
    void *fabric_world;
    struct pc_clock clock;
    bool manual;         /* No threads: the test makes the turns. */
    const char *address; /* Host part to listen on and to be known by. */
    uint64_t host;       /* Machine. */
    uint64_t domain;     /* Mappable together. */
    uint64_t random_seed;
    uint64_t wall_ns; /* For the incarnation. */
    /* Hears of every value that the pool or the disk gives up; NULL: nobody
     * does. */
    void (*gone)(void *arg, const struct pc_place *place, enum pc_gone why);
    void *gone_arg;
    /* Makes rings as pc_ring_create does: simulated nodes share those of one
     * view; NULL: pc_ring_create. */
    struct pc_ring *(*make_ring)(void *arg, const struct pc_member *members,
                                 size_t n_members, uint32_t vnodes,
                                 uint32_t replicas);
    void *make_ring_arg;
    const struct pc_disk_io *disk_io; /* NULL: the system's. */
    uint64_t disk_turn_ns; /* Manual: time of each piece of the disk's work. */
};

/* A view that is still asked on absence. */
struct pc_former
{
    uint64_t view;
    struct pc_ring *ring;
};

/* One region of the pool, from its allocation on. */
struct pc_pool_region
{
    struct pc_fabric_mem *mem; /* NULL: plain memory. */
    void *addr;
    uint64_t length;
};

/* A seed of discovery_addr. */
struct pc_seed
{
    char address[PC_ADDRESS_MAX]; /* "ip:port", "" until resolved. */
    struct pc_peer *peer;
    int name;     /* Of the resolver's, -1: an address of its own. */
    bool ours;    /* We serve it. */
    bool failing; /* It did not answer the last beat. */
    char bound[PC_ADDRESS_MAX];
};

struct peercache_node
{
    struct pc_settings settings;
    peercache_config_t *config;
    pid_t pid;
    struct pc_clock clock;
    bool manual;
    struct pc_rand random;

    /* Identity. */
    struct pc_member self;
    uint64_t domain;
    uint64_t digest_seed; /* Must be equal in the cluster. */
    uint64_t key_seed;    /* The same with our prefix: for digests of keys. */
    bool client;          /* No pool, no range. */
    bool trusted;         /* Peers prove themselves to the link. */
    bool local_only;      /* Configuration forbids to join. */
    bool withdrawn;       /* Another has our id: alone for good. */
    int id_lock;          /* Descriptor of the lock file, -1. */

    /* Any thread. */
    struct pc_store *store;
    struct pc_cache *cache;
    struct pc_mappings mappings;
    struct pc_metrics metrics;
    struct pc_histogram read_latency;
    struct pc_histogram write_latency;
    _Atomic uint32_t n_ops;   /* Running operations. */
    _Atomic uint32_t n_calls; /* Callers inside the library. */
    _Atomic bool closing;
    _Atomic bool refused_put;   /* A put without a pool; it is said once. */
    _Atomic uint32_t n_members; /* Of the current view, */
    _Atomic bool any_drains;    /* and whether one of them drains. */
    struct pc_event ready;      /* 1: member, 2: never. */
    struct pc_event pool_ready; /* 1: a region is there, 2: all are, or no more
                                 * will come. */
    uint64_t growth_ns;         /* What a put waits for the next region before
                                 * it evicts. */
    _Atomic uint64_t grew_ns;   /* When the last one came. */
    struct pc_event pool_grown; /* Another number with each region, and when
                                 * pool_ready becomes 2. */
    uint64_t created_ns;

    /* Engine. */
    struct pc_engine engine;
    struct pc_peers peers;
    struct pc_shard *shard;
    bool shard_is_full; /* Said in the log. */
    struct pc_cluster *cluster;
    struct pc_ring *ring; /* Of the current view; of us alone at first. */
    struct pc_former former[PC_FORMER_VIEWS_MAX];
    size_t n_former;
    struct pc_rings rings;
    bool ring_is_old; /* No memory for the last one: try again. */
    bool view_ready;  /* First view came, or the wait for it is over. */
    struct pc_timer cluster_timer;
    struct pc_timer first_view_timer;
    struct pc_list beats;         /* Questions of the membership. */
    unsigned n_probing;           /* Members that are probed for others. */
    uint64_t refused_incarnation; /* Said last in the log. */
    bool left;
    struct pc_seed seeds[PC_SEEDS_MAX];
    size_t n_seeds; /* Places; some may have no address. */
    struct pc_timer seeds_timer;
    struct pc_resolver *resolver; /* NULL: there are no names. */
    uint64_t looked_up_ns;
    struct pc_list ops;         /* In the engine. */
    struct pc_list soon_ops;    /* op->soon */
    struct pc_list closing_ops; /* Told to end. */
    uint64_t closing_ns;
    bool peers_up;
    struct pc_list drains;       /* Somebody waits for them. */
    struct pc_list view_waiters; /* op->queue */
    struct pc_list path_waiters; /* op->queue */
    struct pc_timer path_timer;
    struct pc_publisher publisher;
    struct pc_republish republish;
    struct pc_repair repair;   /* Of our records at their owners, */
    struct pc_compare compare; /* of others' records in our shard. */
    struct pc_purge purge;
    struct pc_doubt doubt;
    struct pc_load load; /* Of serving. */
    struct pc_uses uses;
    struct pc_tier *tier;   /* NULL: no disk. Its header says who may what. */
    uint64_t room_again_ns; /* No turn tries to make room before. */
    bool makes_room;        /* Turns evict up to the high watermark. */
    int32_t hedge_budget;   /* Tenths of messages: lookup.c. */
    struct pc_bounce bounce;
    struct pc_header_get *kept_headers; /* read_header.c */
    char bound[PC_ADDRESS_MAX];

    /* Places that the store, or the disk, gave up, on their way to the engine.
     * Own lock. */
    pthread_mutex_t gone_lock;
    struct pc_gone_place
    {
        struct pc_place place;
        enum pc_gone why;
    } * gone;
    size_t gone_at, n_gone, gone_capacity; /* Those before gone_at are out. */
    _Atomic bool gone_any;                 /* gone_task is queued. */
    struct pc_task gone_task;
    void (*gone_test)(void *arg, const struct pc_place *place,
                      enum pc_gone why); /* pc_node_env.gone */
    void *gone_test_arg;
    struct pc_ring *(*make_ring)(void *arg, const struct pc_member *members,
                                 size_t n_members, uint32_t vnodes,
                                 uint32_t replicas); /* pc_node_env.make_ring */
    void *make_ring_arg;

    /* Pool and its background registration. Own lock for the array. */
    pthread_mutex_t pool_lock;
    struct pc_pool_region *regions;
    size_t n_regions;
    uint64_t pool_bytes; /* Of all regions. */
    bool said_short;     /* That thread's: the one line on what is missing. */
    struct pc_place_state place;
    struct pc_mem_table *mems; /* The user's registrations: mem.c */

    /* Threads. */
    struct pc_threads *threads;
    struct pc_list copy_queue; /* Manual nodes: op->queue. */
    const struct pc_link_ops *link_ops;
    struct pc_link *link;
    const struct pc_fabric_ops *fabric_ops;
    struct pc_fabric *fabric;
};

/* node.c. config was checked; env NULL: the machine itself. */
peercache_status_t pc_node_create(peercache_config_t *config,
                                  const struct pc_node_env *env,
                                  peercache_node_t **node_p);
/* Steps of the end, for simulated nodes too: begin, turns until is_idle, then
 * free. peercache_node_destroy does all of it. */
void pc_node_begin_close(peercache_node_t *node);
bool pc_node_is_idle(peercache_node_t *node);
void pc_node_free(peercache_node_t *node);
/* One turn by hand; returns the work done. */
unsigned pc_node_turn(peercache_node_t *node);
uint64_t pc_node_next_due(peercache_node_t *node);

/* Whether its peers prove themselves, or need not. */
bool pc_node_goes_beyond_loopback(const peercache_node_t *node);
/* Whether this process is a fork of the one that created the node. */
bool pc_node_is_forked(const peercache_node_t *node);
/* Run fn with the engine's role, and wait for it. Any thread. */
void pc_node_call(peercache_node_t *node,
                  void (*fn)(peercache_node_t *, void *), void *arg);
/* Whether the incarnation is known to be dead (unknown is not, rule 4). */
bool pc_node_is_dead(const peercache_node_t *node, uint64_t incarnation);
/* Dead, or followed by a newer incarnation of its id, such as our own. */
bool pc_node_is_over(const peercache_node_t *node,
                     const struct pc_member *member);
void pc_node_record(const peercache_node_t *node, const struct pc_place *place,
                    struct pc_record *record);

/* identity.c */
struct pc_identity
{
    uint64_t host, domain;
};
void pc_identity_of_machine(struct pc_identity *identity);
/* A stable id for this process: its lock stays held. False: no free one. */
bool pc_identity_auto_id(const char *cluster_name, struct pc_node_id *id,
                         int *lock_fd);

/* pool.c: regions, allocated and registered in the background. */
peercache_status_t pc_pool_check(const struct pc_settings *settings,
                                 char *reason, size_t reason_len);
/* Allocate and add region number n_regions; false: no more. Any one thread. */
bool pc_pool_grow(peercache_node_t *node);
/* The thread that grows it: whether regions are missing; whether there is room
 * for the next one. */
bool pc_pool_is_short(const peercache_node_t *node);
bool pc_pool_has_room(peercache_node_t *node);
/* A region is there, and the next one is on its way. Any thread. */
bool pc_pool_is_growing(const peercache_node_t *node);
/* The thread that grows it: it is at its end, for now. */
void pc_pool_is_up(peercache_node_t *node);
void pc_pool_free(peercache_node_t *node);
/* Engine: take what the store gave up to the publisher. */
unsigned pc_pool_drain_gone(peercache_node_t *node);
/* Engine: give up the value of a digest; its retract is queued from the next
 * drain on, also if somebody still has it pinned. False: there is none. */
bool pc_pool_remove(peercache_node_t *node, struct pc_digest digest);
void pc_pool_gone(void *arg, const struct pc_place *place, enum pc_gone why);
/* The disk gave up a value whose record was published. Any thread. */
void pc_pool_gone_from_disk(peercache_node_t *node,
                            const struct pc_place *place);

/* threads.c: evictor, copy threads, registration. */
peercache_status_t pc_threads_start(peercache_node_t *node);
void pc_threads_stop(peercache_node_t *node);
void pc_threads_copy(peercache_node_t *node, struct peercache_op *op);
void pc_threads_wake_evictor(peercache_node_t *node);
/* Engine, each turn: evict a little if the margin is not all free. */
void pc_threads_make_room(peercache_node_t *node);
/* Of the node `arg`: whether its threads have been told to end. Any thread. */
bool pc_threads_are_stopping(void *arg);
/* Manual nodes: a part of the threads' work; returns how much. */
unsigned pc_threads_manual(peercache_node_t *node);
void pc_threads_bring_up_bounce(peercache_node_t *node);

/* view.c: membership, ring, former views, seeds. */
peercache_status_t pc_view_start(peercache_node_t *node);
void pc_view_leave(peercache_node_t *node);
void pc_view_fini(peercache_node_t *node);
/* Step the membership's machine and perform what it asks for. */
void pc_view_step(peercache_node_t *node, const struct pc_cluster_event *event);
/* From then on it owns no range of the directory and is no master; what it
 * holds is still read. For drain.c. */
void pc_view_drain(peercache_node_t *node);
void pc_view_republishing(peercache_node_t *node, bool busy);
/* Wait until there is a view to work with; true: there is one now. */
bool pc_view_wait(peercache_node_t *node, struct peercache_op *op);

/* members.c: the membership's messages. */
void pc_members_send(peercache_node_t *node,
                     const struct pc_cluster_send *send);
void pc_members_beat(peercache_node_t *node, struct pc_conn *conn,
                     const struct pc_msg *msg);
void pc_members_table(peercache_node_t *node, const struct pc_msg_table *table,
                      uint64_t from);
void pc_members_probe(peercache_node_t *node, struct pc_conn *conn,
                      const struct pc_msg *msg);
/* Send a TABLE, in parts if it is long. False: no memory. */
bool pc_members_tell(struct pc_conn *conn, struct pc_msg *msg);
/* A peer sees another view: compare tables with it. */
void pc_members_fetch(peercache_node_t *node, struct pc_peer *peer);
void pc_members_lost(peercache_node_t *node, struct pc_peer *peer);

/* seeds.c: addresses of seeds, and the discovery port. */
/* Takes discovery_addr apart; waits a little for names. */
void pc_seeds_init(peercache_node_t *node, bool is_simulated);
void pc_seeds_prepare(peercache_node_t *node); /* Before the cluster starts. */
void pc_seeds_start(peercache_node_t *node);
void pc_seeds_stop(peercache_node_t *node);
void pc_seeds_fini(peercache_node_t *node);
void pc_seeds_is_us(peercache_node_t *node, int32_t seed);
void pc_seeds_hello(peercache_node_t *node, int32_t seed,
                    const struct pc_msg_hello *hello);

/* drain.c: one drain, from its start until done() says what became of it. */
struct pc_drain
{
    struct pc_list link; /* node->drains */
    peercache_node_t *node;
    const char *id; /* Of the member; NULL: the node itself. */
    bool wait;      /* Until it is done, or the deadline. */
    uint64_t deadline_ns;
    void (*done)(struct pc_drain *drain); /* May free it. */
    struct pc_task task;
    struct pc_timer next;
    struct pc_member who;
    struct pc_rpc rpc;
    bool asking;
    bool answered;             /* It has begun. */
    peercache_status_t status; /* The result, for done. */
};
/* Fill node to done before; the rest is zero. Any thread. */
void pc_drain_start(struct pc_drain *drain);
/* The node ends: whoever waits hears SHUTDOWN. */
void pc_drain_end_all(peercache_node_t *node);
/* Whether the node drains, and has handed over what it owned. */
bool pc_drain_is_done(const peercache_node_t *node);
void pc_drain_asked(peercache_node_t *node, struct pc_conn *conn,
                    const struct pc_msg *msg);

/* clear.c: one clear, from its start until done() says that it is over. */
struct pc_clear
{
    peercache_node_t *node;
    uint64_t deadline_ns;
    void (*done)(struct pc_clear *clear); /* May free it. */
    struct pc_task task;
    struct pc_timer next; /* The next part. */
    struct pc_sweep sweep;
    uint64_t n_counted; /* Of n_gone, in the metrics. */
    bool swept;         /* All slots were looked at. */
    bool holds_disk;    /* Nothing gets a record on disk, nor comes from it. */
    uint64_t cursor;    /* In the disk's index. */
    uint64_t n_on_disk; /* Values given up that were only there. */
    bool disk_swept;    /* All of it was looked at, */
    bool disk_cleared;  /* and it is empty. */
    bool unsafe;        /* Or may not be, after a restart. */
    struct pc_barrier barrier;
    peercache_status_t status; /* The result, for done. */
};
/* Fill node, deadline_ns and done before; the rest is zero. Any thread. */
void pc_clear_start(struct pc_clear *clear);

/* serve.c */
/* Room for what a node knows of one key. */
struct pc_knowledge
{
    uint8_t dead[PC_WHY_RECORDS_MAX];
    struct pc_record records[PC_WHY_RECORDS_MAX];
    struct pc_member holders[PC_WHY_RECORDS_MAX];
};
/* What this node knows of a key; because points into room. */
void pc_serve_why(struct peercache_node *node, struct pc_digest digest,
                  struct pc_knowledge *room, struct pc_msg_because *because);
void pc_serve_request(void *arg, struct pc_conn *conn,
                      const struct pc_msg *msg);

/* mem.c: the fabric's registration that covers all pieces, or NULL. */
struct pc_fabric_mem *pc_mem_cover(const peercache_node_t *node,
                                   const peercache_item_t *item);
bool pc_mem_is_valid(const peercache_node_t *node,
                     const peercache_item_t *item);
struct pc_mem_table *pc_mem_table_create(void);
/* The node ends: what is registered is taken from the fabric. */
void pc_mem_table_close(peercache_node_t *node);

/* The verbs. *_caller runs in the caller's or a copy thread and returns true
 * when nothing is left for the engine; *_engine goes on in the engine. */
bool pc_get_caller(struct peercache_op *op);
void pc_get_engine(struct peercache_op *op);
bool pc_get_copy(struct peercache_op *op);
/* Give back what an ending get has pinned. */
void pc_get_cleanup(struct peercache_op *op);
bool pc_exists_caller(struct peercache_op *op);
void pc_exists_engine(struct peercache_op *op);
bool pc_put_caller(struct peercache_op *op);
void pc_put_engine(struct peercache_op *op);
/* Give back what an ended put still holds. */
void pc_put_cleanup(struct peercache_op *op);
void pc_remove_engine(struct peercache_op *op);

#endif /* PC_NODE_NODE_H */
