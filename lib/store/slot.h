/*
 * slot.h - the private side of a slot: who holds it, and what it holds.
 *
 * The header in the region is what readers elsewhere see; this is what the
 * owner goes by. It exists only for slots that have been used, in chunks that
 * stay until the store is destroyed, so a late unpin never touches freed
 * memory.
 *
 *     FREE ──► RESERVED ──► SEALED ──► DYING ──► LEAVING ──► FREE
 *      ▲          │           │   (removed or     ▲  (extent is back, gone()
 *      └──────────┘           │     replaced)     │   is still to be called)
 *        abandon              └──── evicted ──────┘
 *
 * The pin word (rule 3) is an atomic beside the store's lock. The lowest 31
 * bits count pins; some may be attempts that are about to be undone. EVICTING
 * is set by a swap from 0 under the lock, so whoever set it is alone with the
 * value. The word is only ever added to and subtracted from.
 */
#ifndef PC_STORE_SLOT_H
#define PC_STORE_SLOT_H

#include "base/digest.h"

#include "evict.h"

#include <stdatomic.h>

#define PC_SLOT_EVICTING 0x80000000u

enum pc_slot_state {
    PC_SLOT_FREE,
    PC_SLOT_RESERVED,
    PC_SLOT_SEALED,
    PC_SLOT_DYING,
    PC_SLOT_LEAVING
};

struct pc_slot
{
    _Atomic uint32_t pins;
    _Atomic uint8_t state; /* Written under the lock; the last unpin looks. */
    uint8_t published : 1;
    uint8_t why : 2; /* enum pc_gone, from DYING on. */
    uint16_t region;
    uint32_t number; /* In the region's slot table. */
    /* Whose value it is, and the link of the policy's list, else of that of
     * free or leaving slots. */
    struct pc_evict_entry entry;
    /* As in the header: even while sealed, one more when given up. Pins look
     * here, not at memory that other processes map. */
    _Atomic uint64_t generation;
    uint64_t checksum;
    uint64_t offset; /* In the region. */
};
/* With a cell of the index (21 bytes at most), the policy's ghosts (16, or 8 of
 * a value that shares a granule) and its part of a shared granule (20 at most)
 * it stays under 128 bytes. */
_Static_assert(sizeof(struct pc_slot) <= 80, "memory per value");

/* All private sides of a store by id: the regions' slots in a row. */
enum { PC_SLOT_CHUNK = 128 };
struct pc_slot_table
{
    struct pc_slot **chunks;
    uint32_t n_chunks;
    uint64_t n_bytes; /* Allocated. */
};

void pc_slot_table_init(struct pc_slot_table *table);
void pc_slot_table_fini(struct pc_slot_table *table);
/* Ids for n more slots, *first_p and up; false: no memory or no ids. */
bool pc_slot_table_grow(struct pc_slot_table *table, uint32_t n,
                        uint32_t *first_p);
/* Make the private side of an id exist; NULL: no memory. */
struct pc_slot *pc_slot_table_make(struct pc_slot_table *table, uint32_t id);

static inline struct pc_slot *pc_slot_at(const struct pc_slot_table *table,
                                         uint32_t id)
{
    struct pc_slot *chunk = table->chunks[id / PC_SLOT_CHUNK];
    return chunk != NULL ? &chunk[id % PC_SLOT_CHUNK] : NULL;
}

/* Count a pin; whether the slot still holds this generation and nobody is
 * evicting it. If not, the attempt has to be taken back by pc_slot_drop_pin.
 * Any thread, no lock needed. */
bool pc_slot_add_pin(struct pc_slot *slot, uint64_t generation);
/* Take back a pin or an attempt. True: it was the last one of a value that is
 * dying; the caller has to see to its end. */
bool pc_slot_drop_pin(struct pc_slot *slot);
/* Under the lock: be alone with a slot that nobody pins. */
bool pc_slot_claim(struct pc_slot *slot);
void pc_slot_unclaim(struct pc_slot *slot);

/* Under the lock. */
static inline enum pc_slot_state pc_slot_state(const struct pc_slot *slot)
{
    return (enum pc_slot_state)atomic_load_explicit(&slot->state,
                                                    memory_order_relaxed);
}

static inline bool pc_slot_is_pinned(const struct pc_slot *slot)
{
    return atomic_load_explicit(&slot->pins, memory_order_relaxed) != 0;
}

#endif /* PC_STORE_SLOT_H */
