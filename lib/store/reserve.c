#include "store_int.h"

#include "base/assert.h"

static void fill_reservation(const struct pc_store *store, struct pc_slot *slot,
                             struct pc_reservation *reservation)
{
    *reservation = (struct pc_reservation){
        .slot = slot,
        .addr = pc_store_region_of(store, slot)->addr + slot->offset,
        .length = slot->entry.length,
        .digest = slot->entry.digest,
    };
}

/* Locked. */
static peercache_status_t reserve(struct pc_store *store,
                                  struct pc_digest digest, uint64_t length,
                                  bool may_evict,
                                  struct pc_reservation *reservation,
                                  struct pc_leaving *leaving)
{
    if (atomic_load_explicit(&store->n_regions, memory_order_relaxed) == 0) {
        return PEERCACHE_NO_SPACE;
    }
    if (length > store->largest) {
        return PEERCACHE_TOO_LARGE;
    }
    if (!pc_index_promise(&store->index, digest)) {
        return PEERCACHE_NO_MEMORY;
    }
    struct pc_slot *slot;
    peercache_status_t status =
        pc_room_find(store, length, may_evict, leaving, &slot);
    if (status != PEERCACHE_OK) {
        pc_index_forgive(&store->index, digest);
        return status;
    }
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_FREE);
    slot->entry.digest = digest;
    slot->published = 0;
    atomic_store_explicit(&slot->state, PC_SLOT_RESERVED, memory_order_relaxed);
    store->n_reserved++;
    fill_reservation(store, slot, reservation);
    return PEERCACHE_OK;
}

static peercache_status_t reserve_or_not(struct pc_store *store,
                                         struct pc_digest digest,
                                         uint64_t length, bool may_evict,
                                         struct pc_reservation *reservation)
{
    if (length == 0) {
        return PEERCACHE_INVALID;
    }
    struct pc_leaving leaving;
    pc_leaving_init(&leaving);
    pc_store_lock(store);
    peercache_status_t status =
        reserve(store, digest, length, may_evict, reservation, &leaving);
    pc_store_unlock(store);
    pc_leaving_finish(store, &leaving);
    return status;
}

peercache_status_t pc_store_reserve(struct pc_store *store,
                                    struct pc_digest digest, uint64_t length,
                                    struct pc_reservation *reservation)
{
    return reserve_or_not(store, digest, length, true, reservation);
}

peercache_status_t pc_store_reserve_free(struct pc_store *store,
                                         struct pc_digest digest,
                                         uint64_t length,
                                         struct pc_reservation *reservation)
{
    return reserve_or_not(store, digest, length, false, reservation);
}

/* Locked. Header first, then the index: whoever finds the slot finds it
 * sealed. Under the lock, so that of two seals of one digest the one that
 * stays has the higher generation, as in the directory (I4). */
static void seal_header(struct pc_store *store, struct pc_slot *slot,
                        uint64_t checksum)
{
    /* Relaxed: a number only. */
    uint64_t generation = atomic_fetch_add_explicit(&store->next_generation, 2,
                                                    memory_order_relaxed);
    struct pc_slot_want want = {
        .digest = slot->entry.digest,
        .generation = generation,
        .length = slot->entry.length,
        .offset = slot->offset,
    };
    slot->checksum = checksum;
    pc_slot_seal(&pc_store_region_of(store, slot)->headers[slot->number], &want,
                 checksum);
    atomic_store_explicit(&slot->generation, generation, memory_order_seq_cst);
    atomic_store_explicit(&slot->state, PC_SLOT_SEALED, memory_order_relaxed);
}

void pc_store_seal(struct pc_store *store, struct pc_reservation *reservation,
                   uint64_t checksum, struct pc_pin *pin_p)
{
    struct pc_slot *slot = reservation->slot;
    struct pc_region *region = pc_store_region_of(store, slot);
    struct pc_leaving leaving;
    pc_leaving_init(&leaving);
    /* Relaxed: nobody can find the slot yet, and the lock publishes it. */
    atomic_fetch_add_explicit(&slot->pins, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->n_pins, 1, memory_order_relaxed);

    pc_store_lock(store);
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_RESERVED);
    seal_header(store, slot, checksum);
    store->n_reserved--;
    store->n_values++;
    struct pc_slot *old = pc_index_set(&store->index, slot->entry.digest,
                                       region->first_id + slot->number);
    if (old != NULL) {
        pc_leave_begin(store, old, PC_GONE_REPLACED);
        if (pc_slot_claim(old)) {
            pc_leave_end(store, old, &leaving);
        }
    }
    store->params.policy->insert(store->evict, &slot->entry);
    *pin_p = (struct pc_pin){
        .slot = slot,
        .addr = reservation->addr,
        .place = pc_store_place(slot),
    };
    pc_store_unlock(store);

    reservation->slot = NULL;
    pc_leaving_finish(store, &leaving);
}

void pc_store_abandon(struct pc_store *store,
                      struct pc_reservation *reservation)
{
    struct pc_slot *slot = reservation->slot;
    pc_store_lock(store);
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_RESERVED);
    struct pc_region *region = pc_store_region_of(store, slot);
    pc_store_free(store, region, slot->offset, slot->entry.length);
    pc_index_forgive(&store->index, slot->entry.digest);
    atomic_store_explicit(&slot->state, PC_SLOT_FREE, memory_order_relaxed);
    pc_region_put_slot(region, slot);
    pc_store_count(&store->n_free_slots, 1);
    store->n_reserved--;
    pc_store_unlock(store);
    reservation->slot = NULL;
}
