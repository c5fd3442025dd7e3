/*
 * store_int.h - what the files of the store share.
 *
 * Functions that say "locked" are called with the store's lock held.
 */
#ifndef PC_STORE_INT_H
#define PC_STORE_INT_H

#include "base/rand.h"

#include "index.h"
#include "region.h"
#include "store.h"

#include <pthread.h>

struct pc_store
{
    struct pc_store_params params;
    pthread_mutex_t lock; /* A leaf; guards all but the atomics. */
    struct pc_rand rand;
    struct pc_slot_table slots;
    struct pc_index index;
    struct pc_evict *evict;
    struct pc_region **regions; /* max_regions; never move. */
    _Atomic uint32_t n_regions; /* Release: the pointer is set. */
    uint32_t last_region;       /* Where the last reservation fitted. */
    uint64_t largest;           /* Value that some region can hold. */
    uint64_t n_values, n_reserved, n_dying, evictions;
    /* Written under the lock, read by gauges without it: relaxed. The slots of
     * leaving values count as free. */
    _Atomic uint64_t capacity, used, n_slots, n_free_slots;
    _Atomic uint64_t n_pins;
    /* Every second number: a seal takes an even one, a new region's slots odd
     * ones; a slot that is given up takes the odd one behind its even one. */
    _Atomic uint64_t next_generation;
};

/* Values that are out of the store but for their gone() call. */
struct pc_leaving
{
    struct pc_list slots;
    size_t n;
    /* One value whose slot a reservation took over at once. */
    bool has_taken;
    struct pc_place taken;
    enum pc_gone taken_why;
};

static inline void pc_store_lock(struct pc_store *store)
{
    (void)pthread_mutex_lock(&store->lock);
}

static inline void pc_store_unlock(struct pc_store *store)
{
    (void)pthread_mutex_unlock(&store->lock);
}

static inline struct pc_region *pc_store_region_of(const struct pc_store *store,
                                                   const struct pc_slot *slot)
{
    return store->regions[slot->region];
}

/* Locked. What the slot's value says of itself while it is sealed. */
struct pc_place pc_store_place(const struct pc_slot *slot);
/* Locked. Change a gauge that others read without the lock; relaxed, for
 * nothing is published through it. */
static inline void pc_store_count(_Atomic uint64_t *gauge, uint64_t change)
{
    uint64_t value = atomic_load_explicit(gauge, memory_order_relaxed);
    atomic_store_explicit(gauge, value + change, memory_order_relaxed);
}

/* Locked. Extents of a region, with the gauge kept. */
enum pc_place_result pc_store_alloc(struct pc_store *store,
                                    struct pc_region *region, uint64_t length,
                                    uint64_t *offset_p);
void pc_store_free(struct pc_store *store, struct pc_region *region,
                   uint64_t offset, uint64_t length);

/* ---- leave.c: how a value goes ---------------------------------------- */

void pc_leaving_init(struct pc_leaving *leaving);
/* Locked. Take a sealed value out of the policy and make its generation odd;
 * the index no longer names it. It is DYING now. */
void pc_leave_begin(struct pc_store *store, struct pc_slot *slot,
                    enum pc_gone why);
/* Locked. The rest of a DYING value that the caller has claimed: its extent is
 * free from here on. */
void pc_leave_end(struct pc_store *store, struct pc_slot *slot,
                  struct pc_leaving *leaving);
/* Locked. Both, for a sealed value that the caller has claimed. */
void pc_leave_evicted(struct pc_store *store, struct pc_slot *slot,
                      struct pc_leaving *leaving);
/* Locked. A slot of this region whose value is leaving, for reuse; or NULL. */
struct pc_slot *pc_leaving_take(struct pc_store *store,
                                struct pc_leaving *leaving,
                                const struct pc_region *region);
/* Not locked. Call gone() for all of them and free their slots. */
void pc_leaving_finish(struct pc_store *store, struct pc_leaving *leaving);
/* Not locked. Take back a pin, or an attempt at one. */
void pc_leave_drop_pin(struct pc_store *store, struct pc_slot *slot);

/* ---- room.c: where a value goes ---------------------------------------- */

/* Locked. A slot with an extent for length bytes, digest unset; may it evict?
 */
peercache_status_t pc_room_find(struct pc_store *store, uint64_t length,
                                bool may_evict, struct pc_leaving *leaving,
                                struct pc_slot **slot_p);

#endif /* PC_STORE_INT_H */
