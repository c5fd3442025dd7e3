/*
 * store.h - the node's values: regions of registered memory, slots, index.
 *
 *     region:  page 0 | slot table (64-byte headers) | extents
 *
 *     slot:    FREE ─ reserve ─► RESERVED ─ seal ─► SEALED ─ evict, remove,
 *               ▲                  │ abandon          │        replace
 *               └──────────────────┴──── last unpin ◄─┴─► DYING (still pinned)
 *
 * Only a sealed slot can be found. A reservation ends only by its writer
 * (rule 1). Bytes are copied by the callers with no lock held: writers into
 * their reservation, readers under a pin. Whatever is in the store may be
 * evicted as soon as nobody pins it.
 *
 * All functions: any thread. One lock (a leaf) guards index, allocator and
 * policy for a microsecond at a time; pins are atomics beside it (rule 3).
 */
#ifndef PC_STORE_STORE_H
#define PC_STORE_STORE_H

#include "base/digest.h"
#include "base/seqlock.h"

#include "evict.h"

#include <stddef.h>

struct pc_store;
struct pc_slot; /* Private side of a slot: pins, list links, state. */

/* Where a value is; what a record says, but for the incarnation. */
struct pc_place
{
    struct pc_digest digest;
    uint64_t generation;
    uint64_t offset; /* In the region. */
    uint64_t length;
    uint64_t checksum;
    uint32_t slot;
    uint16_t region;
    bool published; /* An owner has acknowledged its record (rule 6). */
    bool on_disk;   /* Not in the store, but on the node's disk (tier.h). */
};

enum pc_gone { PC_GONE_EVICTED, PC_GONE_REMOVED, PC_GONE_REPLACED };

struct pc_store_params
{
    uint64_t incarnation;
    uint64_t nonce_seed; /* Random; nonces of regions come from it. */
    size_t max_regions;
    /* Watermarks: shares of the pool's bytes, and of its slots, that are free.
     * Under the low one an evictor is wanted, which works up to the high one.
     * 0 and 0: nothing is evicted before it must. */
    double free_low, free_high;
    const struct pc_evict_ops *policy;
    /* A published or publishable value is gone: its record must be retracted.
     * Called once per sealed slot, after the slot's generation has become odd
     * and its last pin has gone, in the thread that caused it, no lock held. */
    void (*gone)(void *arg, const struct pc_place *place, enum pc_gone why);
    void *arg;
};

/* A slot that is being written. */
struct pc_reservation
{
    struct pc_slot *slot;
    void *addr; /* length bytes; fill with pc_racy_fill or pc_copy_checksum. */
    uint64_t length;
    struct pc_digest digest;
};

/* A sealed value that stays while the pin is held. */
struct pc_pin
{
    struct pc_slot *slot;
    const void *addr;
    struct pc_place place;
};

struct pc_region_info
{
    void *addr;
    uint64_t length, nonce, slots_offset;
    uint32_t n_slots;
};

struct pc_store_stats
{
    uint64_t capacity; /* Bytes of extents in all regions. */
    uint64_t used;     /* Bytes of extents that are taken. */
    uint64_t n_slots;  /* Of all regions: values that there can be. */
    uint64_t n_values; /* Sealed. */
    uint64_t n_reserved, n_pins, n_dying;
    uint64_t evictions;
    uint64_t n_back;       /* Evicted, and stored again soon: evict.h. */
    uint64_t longest_free; /* Bytes that fit in one piece now. */
    uint64_t n_regions;
    uint64_t index_bytes;
};

struct pc_store *pc_store_create(const struct pc_store_params *params);
/* Nothing may be pinned or reserved. Does not touch the regions' memory; what
 * is still sealed goes without gone(). */
void pc_store_destroy(struct pc_store *store);

/* Take a region of zeroed memory into use: writes page 0 and the slot table.
 * INVALID: too small for one value, or not aligned to 64 bytes. NO_SPACE: there
 * are max_regions already. */
peercache_status_t pc_store_add_region(struct pc_store *store, void *addr,
                                       uint64_t length, uint32_t *index_p);
bool pc_store_region(const struct pc_store *store, uint32_t index,
                     struct pc_region_info *info_p);
/* Largest value that a region of this length can hold. */
uint64_t pc_store_value_max(uint64_t region_length);

/*
 * Take a slot and an extent. Evicts when nothing fits, a bounded number of
 * values, and no more than it needs. NO_SPACE: still nothing fits (or no
 * region is there yet). TOO_LARGE: no region can hold it. INVALID: no length.
 * NO_MEMORY: none for the bookkeeping.
 */
peercache_status_t pc_store_reserve(struct pc_store *store,
                                    struct pc_digest digest, uint64_t length,
                                    struct pc_reservation *reservation);
/* The same, but nothing is evicted for it. */
peercache_status_t pc_store_reserve_free(struct pc_store *store,
                                         struct pc_digest digest,
                                         uint64_t length,
                                         struct pc_reservation *reservation);
/*
 * The bytes are written: make them a value, pinned once for the caller (so
 * that it cannot be retracted before it is published); give the pin back with
 * pc_store_unpin. Replaces an older value of the same digest (gone: REPLACED).
 */
void pc_store_seal(struct pc_store *store, struct pc_reservation *reservation,
                   uint64_t checksum, struct pc_pin *pin_p);
void pc_store_abandon(struct pc_store *store,
                      struct pc_reservation *reservation);

/* Look without pinning; touch says whether it counts as use. */
bool pc_store_find(struct pc_store *store, struct pc_digest digest, bool touch,
                   struct pc_place *place_p);
/* Find, touch and pin. */
bool pc_store_pin(struct pc_store *store, struct pc_digest digest,
                  struct pc_pin *pin_p);
/* Pin it without a touch, if it is still of this generation. */
bool pc_store_hold(struct pc_store *store, struct pc_digest digest,
                   uint64_t generation, struct pc_pin *pin_p);
void pc_store_unpin(struct pc_store *store, struct pc_pin *pin);
/* The record of this generation was acknowledged by an owner. */
void pc_store_mark_published(struct pc_store *store, struct pc_digest digest,
                             uint64_t generation);

/* Give up the value of a digest (pinned: as soon as it is not). False: there
 * is none. */
bool pc_store_remove(struct pc_store *store, struct pc_digest digest);
/* The same, and what it was. *pinned_p: it is pinned, so that it is told to be
 * gone only later. */
bool pc_store_take_out(struct pc_store *store, struct pc_digest digest,
                       struct pc_place *place_p, bool *pinned_p);
/* How far a clear has come; start with zeros. */
struct pc_sweep
{
    size_t at;       /* Slots before it are done. */
    uint64_t before; /* Values sealed later stay. */
    uint64_t n_gone; /* Values given up. */
};
/* Those of one step that are pinned, so that they are told to be gone only
 * later. */
enum { PC_CLEAR_BATCH = 64 };
struct pc_cleared
{
    size_t n_pinned;
    struct pc_place pinned[PC_CLEAR_BATCH];
};
/* Give up some more of the values that were sealed when the sweep began
 * (pinned: as soon as they are not); false at the end. Bounded: returns
 * without finding any where there are few. */
bool pc_store_clear(struct pc_store *store, struct pc_sweep *sweep,
                    struct pc_cleared *cleared_p);
/* Whether less is free than the margin asks for: eviction goes on until then.
 */
bool pc_store_wants_eviction(const struct pc_store *store);
/* Whether half of what lies between the watermarks is taken. */
bool pc_store_is_halfway(const struct pc_store *store);
/* Whether less than the low watermark is free: time to wake an evictor, which
 * then has something to do for more than one batch. */
bool pc_store_is_short(const struct pc_store *store);
/* Bytes of extents that there are; grows while regions come. No lock. */
uint64_t pc_store_capacity(const struct pc_store *store);
/* Whether less than this part of the pool's bytes, or of its slots, is free. */
bool pc_store_is_below(const struct pc_store *store, double part);
/* Evict up to max values until the high watermark is free; returns how many
 * went. */
size_t pc_store_evict(struct pc_store *store, size_t max);
/* What would be evicted next; returns how many there are, at most max. */
size_t pc_store_next_out(struct pc_store *store, size_t max,
                         struct pc_place *places);

/* Copy out up to max sealed places from *at on (start with 0); false at the
 * end. A value that comes or goes meanwhile may or may not be seen. */
bool pc_store_list(struct pc_store *store, size_t *at, size_t max,
                   struct pc_place *places, size_t *n_p);
/* The same in short steps: looks at 1,024 slots at most, so that it may find
 * nothing and not be at the end. */
bool pc_store_walk(struct pc_store *store, size_t *at, size_t max,
                   struct pc_place *places, size_t *n_p);
/* The newest generation that was given out. Any value sealed later has a
 * higher one. */
uint64_t pc_store_newest(const struct pc_store *store);
/* A generation that no slot will have: newer than all before, older than all
 * after it. */
uint64_t pc_store_take_generation(struct pc_store *store);
void pc_store_stats(const struct pc_store *store, struct pc_store_stats *stats);

#endif /* PC_STORE_STORE_H */
