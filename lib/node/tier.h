/*
 * tier.h - the disk tier in the node: what is written, what the directory is
 * told of it, what is given up.
 *
 *     put, use, eviction ahead ─► admit: pinned slot ─► lib/disk ─► segments
 *     evicted, and on disk ─────► its record says ON_DISK: no retract
 *     get, read of a peer ──────► promote.h: a new slot, a new generation
 *     start ────────────────────► what was found is announced, slowly
 *
 * A digest has one record in the directory: that of the pool if the value is
 * there, else that of the disk (rule 10). The disk's has a generation of its
 * own, taken when the value left the pool, so newer than all that the pool's
 * had; it is kept as the tag in the disk's index (0: not announced). So no
 * order of messages can bring the older record back (I4), and a reader who has
 * the older one asks by digest and is served. Which record it is changes only
 * with the engine's role: by seals, by evictions as they are drained, by
 * announcements.
 *
 * Nothing here waits for a disk, and whatever a disk does, the node goes on
 * without it.
 */
#ifndef PC_NODE_TIER_H
#define PC_NODE_TIER_H

#include "base/list.h"
#include "base/map.h"
#include "disk/disk.h"
#include "net/engine.h"
#include "store/store.h"

struct peercache_node;

struct pc_tier
{
    struct peercache_node *node;
    struct pc_disk *disk; /* Any thread. */
    /* Values that are pinned until they are written. Any thread. */
    _Atomic uint32_t n_writing;
    _Atomic uint64_t writing_bytes;
    /* Promoted, or about to be, and pinned until they are delivered. */
    _Atomic uint64_t pinned_bytes;
    _Atomic bool closing;
    uint64_t value_max; /* What fits into the pool. */

    /* With the engine's role from here on. */
    struct pc_map promotions; /* digest -> struct promotion (promote.c) */
    struct pc_list queued;    /* Those that have no slot yet. */
    uint32_t n_queued, n_reading;
    uint64_t reading_bytes;
    bool pumping; /* pump_task is queued. */
    struct pc_task pump_task;
    struct pc_timer pump_timer; /* The rest of a long queue. */
    struct pc_list errands;     /* Of peers that wait for the disk: errand.c */
    struct pc_list answering;   /* Those whose answers are being sent. */
    uint32_t n_errands;
    uint64_t errand_bytes; /* Memory of all of them, pins not counted. */

    struct pc_timer timer; /* Announcing what was found. */
    uint64_t cursor;
    bool last_pass;      /* All was indexed before this pass began. */
    bool announced;      /* All that was found. */
    uint32_t n_clearing; /* Clears that are under way. */
    /* Manual nodes: the disk does a piece of work each turn_ns. */
    uint64_t turn_ns, next_turn_ns;
    struct pc_timer turn_timer;
};

/* Open it as the settings say; node->tier stays NULL where there is none, and
 * one line of the log says why. io: of a simulation, NULL: the system's. */
void pc_tier_open(struct peercache_node *node, const struct pc_disk_io *io,
                  uint64_t turn_ns);
/* With the engine's role, before the end: nothing new begins. */
void pc_tier_begin_close(struct peercache_node *node);
/* Any thread, while the engine still runs: what is queued is written, for a
 * bounded time. After it the disk touches nothing of ours any more. */
void pc_tier_close(struct peercache_node *node);
/* The engine is drained, nothing of the tier is used any more. */
void pc_tier_fini(struct peercache_node *node);
/* Manual nodes: a piece of the disk's work; returns how much was done. */
unsigned pc_tier_turn(struct peercache_node *node);

/* ---- Any thread --------------------------------------------------------- */

/* Is the value on our disk, so that it can come into the pool? */
bool pc_tier_find(struct peercache_node *node, struct pc_digest digest,
                  struct pc_disk_place *place_p);

enum pc_tier_use {
    PC_TIER_PUT,  /* It is being put. */
    PC_TIER_USED, /* It is used while it is in the pool. */
    PC_TIER_NEXT  /* It is among the next to be evicted. */
};
/* Write a value of the pool, if the policy wants that and there is room in the
 * queue. Never waits. */
void pc_tier_admit(struct peercache_node *node, const struct pc_place *place,
                   enum pc_tier_use use);
/* Whether that has something to do: soon values will be evicted. */
bool pc_tier_wants_look(const struct peercache_node *node);
/* Evictor: what is evicted next is written before, if that is the policy. */
void pc_tier_look_ahead(struct peercache_node *node);

/* False: there is no disk tier. */
bool pc_tier_stats(const struct peercache_node *node,
                   struct pc_disk_stats *stats);
uint64_t pc_tier_pinned_bytes(const struct pc_tier *tier);
/* May one more value of this length be pinned for delivery, by someone who
 * pins `mine` bytes already? Counted if so; give it back with unpinned. */
bool pc_tier_may_pin(struct pc_tier *tier, uint64_t mine, uint64_t length);
void pc_tier_unpinned(struct pc_tier *tier, uint64_t bytes);

/* ---- With the engine's role --------------------------------------------- */

/* What the directory shall have of a digest: its place in the pool, or
 * (place.on_disk) on disk. False: neither, or not announced yet. */
bool pc_tier_held(struct peercache_node *node, struct pc_digest digest,
                  struct pc_place *place_p);
/* pc_store_walk over what the directory shall have. */
bool pc_tier_walk(struct peercache_node *node, size_t *at, size_t max,
                  struct pc_place *places, size_t *n_p);
/* A value was put and sealed: another one under its key leaves the disk, and
 * it is written itself. */
void pc_tier_sealed(struct peercache_node *node, const struct pc_place *place);
/* A value has left the pool. True: the directory must be told *place_p, the
 * record on disk, and nothing be retracted from its owners. */
bool pc_tier_keeps(struct peercache_node *node, const struct pc_place *gone,
                   enum pc_gone why, struct pc_place *place_p);

/*
 * Removals that are to be confirmed (rule 10): done comes once, in a turn, when
 * a tombstone of each is on disk, or after wait_ns; safe says that all are.
 */
struct pc_tier_fence;
struct pc_tier_fence *pc_tier_fence_begin(struct peercache_node *node);
/* Forget a value and retract its record; true: it was on disk. */
bool pc_tier_remove(struct peercache_node *node, struct pc_digest digest,
                    struct pc_tier_fence *fence);
void pc_tier_fence_end(struct pc_tier_fence *fence, uint64_t wait_ns,
                       void (*done)(void *arg, bool safe), void *arg);

/* clear(), in steps, after that of the pool. First what is only on disk is
 * retracted, some values a call: false when that is done. Then all goes. From
 * begin, before the first look at the pool (false: there is no disk), to over
 * no value gets a record on disk, and none comes from there into the pool;
 * several may be at it at once. */
bool pc_tier_clear_begin(struct peercache_node *node);
bool pc_tier_clear_some(struct peercache_node *node, uint64_t *cursor,
                        uint64_t *n_gone);
void pc_tier_clear(struct peercache_node *node, struct pc_tier_fence *fence);
void pc_tier_clear_over(struct peercache_node *node);

#endif /* PC_NODE_TIER_H */
