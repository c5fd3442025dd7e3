#include "store_int.h"

#include "base/assert.h"

/* Values evicted while the lock is held once, and pinned ones passed over (up
 * to twice as many where all of a queue is pinned); slots looked at and values
 * given up by one step of a clear. */
enum { EVICT_BATCH = 2, MAX_PINNED = 1024, CLEAR_LOOKS = 1024 };

void pc_leaving_init(struct pc_leaving *leaving)
{
    pc_list_init(&leaving->slots);
    leaving->n = 0;
    leaving->has_taken = false;
}

static void set_state(struct pc_slot *slot, enum pc_slot_state state)
{
    /* Sequentially consistent for DYING: pairs with pc_slot_drop_pin. */
    atomic_store_explicit(&slot->state, (uint8_t)state, memory_order_seq_cst);
}

void pc_leave_begin(struct pc_store *store, struct pc_slot *slot,
                    enum pc_gone why)
{
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_SEALED);
    uint64_t generation =
        atomic_load_explicit(&slot->generation, memory_order_relaxed);
    PC_ASSERT(generation % 2 == 0);
    store->params.policy->remove(store->evict, &slot->entry,
                                 why == PC_GONE_EVICTED);
    /* Sequentially consistent: pairs with pc_slot_add_pin. */
    atomic_store_explicit(&slot->generation, generation + 1,
                          memory_order_seq_cst);
    pc_slot_unseal(&pc_store_region_of(store, slot)->headers[slot->number],
                   generation + 1);
    slot->why = (uint8_t)why & 3u;
    set_state(slot, PC_SLOT_DYING);
    store->n_values--;
    store->n_dying++;
}

void pc_leave_end(struct pc_store *store, struct pc_slot *slot,
                  struct pc_leaving *leaving)
{
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_DYING);
    PC_ASSERT((atomic_load_explicit(&slot->pins, memory_order_relaxed) &
               PC_SLOT_EVICTING) != 0);
    pc_store_free(store, pc_store_region_of(store, slot), slot->offset,
                  slot->entry.length);
    pc_store_count(&store->n_free_slots, 1);
    set_state(slot, PC_SLOT_LEAVING);
    pc_list_push_back(&leaving->slots, &slot->entry.link);
    leaving->n++;
    store->n_dying--;
}

void pc_leave_evicted(struct pc_store *store, struct pc_slot *slot,
                      struct pc_leaving *leaving)
{
    pc_leave_begin(store, slot, PC_GONE_EVICTED);
    pc_index_remove(&store->index, slot->entry.digest);
    pc_leave_end(store, slot, leaving);
    store->evictions++;
}

/* Locked. The slot can be used again. */
static void release(struct pc_slot *slot)
{
    PC_ASSERT(pc_slot_state(slot) == PC_SLOT_LEAVING);
    set_state(slot, PC_SLOT_FREE);
    pc_slot_unclaim(slot);
}

struct pc_slot *pc_leaving_take(struct pc_store *store,
                                struct pc_leaving *leaving,
                                const struct pc_region *region)
{
    struct pc_list *link = leaving->slots.next;
    for (; link != &leaving->slots; link = link->next) {
        struct pc_slot *slot =
            PC_CONTAINER_OF(link, struct pc_slot, entry.link);
        if (slot->region == region->index) {
            PC_ASSERT(!leaving->has_taken);
            leaving->has_taken = true;
            leaving->taken = pc_store_place(slot);
            leaving->taken_why = (enum pc_gone)slot->why;
            pc_list_remove(link);
            release(slot);
            pc_store_count(&store->n_free_slots, UINT64_MAX);
            return slot;
        }
    }
    return NULL;
}

void pc_leaving_finish(struct pc_store *store, struct pc_leaving *leaving)
{
    if (leaving->n == 0) {
        return;
    }
    if (store->params.gone != NULL) {
        if (leaving->has_taken) {
            store->params.gone(store->params.arg, &leaving->taken,
                               leaving->taken_why);
        }
        struct pc_list *link = leaving->slots.next;
        for (; link != &leaving->slots; link = link->next) {
            const struct pc_slot *slot =
                PC_CONTAINER_OF(link, struct pc_slot, entry.link);
            struct pc_place place = pc_store_place(slot);
            store->params.gone(store->params.arg, &place,
                               (enum pc_gone)slot->why);
        }
    }
    pc_store_lock(store);
    struct pc_list *link;
    while ((link = pc_list_pop_front(&leaving->slots)) != NULL) {
        struct pc_slot *slot =
            PC_CONTAINER_OF(link, struct pc_slot, entry.link);
        release(slot);
        pc_region_put_slot(pc_store_region_of(store, slot), slot);
    }
    pc_store_unlock(store);
    pc_leaving_init(leaving);
}

void pc_leave_drop_pin(struct pc_store *store, struct pc_slot *slot)
{
    if (!pc_slot_drop_pin(slot)) {
        return;
    }
    /* The slot may be in other hands already; the claim decides who ends it. */
    struct pc_leaving leaving;
    pc_leaving_init(&leaving);
    pc_store_lock(store);
    if (pc_slot_state(slot) == PC_SLOT_DYING && pc_slot_claim(slot)) {
        pc_leave_end(store, slot, &leaving);
    }
    pc_store_unlock(store);
    pc_leaving_finish(store, &leaving);
}

/* Locked. A sealed value that nobody shall find any more. */
static void give_up(struct pc_store *store, struct pc_slot *slot,
                    struct pc_leaving *leaving)
{
    pc_leave_begin(store, slot, PC_GONE_REMOVED);
    pc_index_remove(&store->index, slot->entry.digest);
    if (pc_slot_claim(slot)) {
        pc_leave_end(store, slot, leaving);
    }
}

bool pc_store_take_out(struct pc_store *store, struct pc_digest digest,
                       struct pc_place *place_p, bool *pinned_p)
{
    struct pc_leaving leaving;
    pc_leaving_init(&leaving);
    *pinned_p = false;
    pc_store_lock(store);
    struct pc_slot *slot = pc_index_find(&store->index, digest);
    if (slot != NULL) {
        *place_p = pc_store_place(slot);
        give_up(store, slot, &leaving);
        *pinned_p = leaving.n == 0;
    }
    pc_store_unlock(store);
    pc_leaving_finish(store, &leaving);
    return slot != NULL;
}

bool pc_store_remove(struct pc_store *store, struct pc_digest digest)
{
    struct pc_place place;
    bool pinned;
    return pc_store_take_out(store, digest, &place, &pinned);
}

/* Locked. By id: a value neither moves nor comes back while we walk. */
static bool clear_some(struct pc_store *store, struct pc_sweep *sweep,
                       struct pc_leaving *leaving, struct pc_cleared *cleared)
{
    size_t end = (size_t)store->slots.n_chunks * PC_SLOT_CHUNK;
    size_t n = 0;
    for (int i = 0; i < CLEAR_LOOKS && n < PC_CLEAR_BATCH; i++) {
        if (sweep->at >= end) {
            break;
        }
        struct pc_slot *slot = pc_slot_at(&store->slots, (uint32_t)sweep->at);
        if (slot == NULL) {
            sweep->at += PC_SLOT_CHUNK - sweep->at % PC_SLOT_CHUNK;
            continue;
        }
        sweep->at++;
        if (pc_slot_state(slot) == PC_SLOT_SEALED &&
            pc_store_place(slot).generation < sweep->before) {
            struct pc_place place = pc_store_place(slot);
            size_t n_left = leaving->n;
            give_up(store, slot, leaving);
            if (leaving->n == n_left) {
                cleared->pinned[cleared->n_pinned++] = place;
            }
            n++;
        }
    }
    sweep->n_gone += n;
    return sweep->at < end;
}

bool pc_store_clear(struct pc_store *store, struct pc_sweep *sweep,
                    struct pc_cleared *cleared_p)
{
    struct pc_leaving leaving;
    cleared_p->n_pinned = 0;
    pc_leaving_init(&leaving);
    pc_store_lock(store);
    if (sweep->before == 0) {
        /* Relaxed: seals take theirs under the lock, too. */
        sweep->before =
            atomic_load_explicit(&store->next_generation, memory_order_relaxed);
    }
    bool more = clear_some(store, sweep, &leaving, cleared_p);
    pc_store_unlock(store);
    pc_leaving_finish(store, &leaving);
    return more;
}

uint64_t pc_store_capacity(const struct pc_store *store)
{
    /* Relaxed: a gauge. */
    return atomic_load_explicit(&store->capacity, memory_order_relaxed);
}

bool pc_store_is_below(const struct pc_store *store, double part)
{
    /* Relaxed: gauges; a stale one is corrected by the next look. */
    uint64_t capacity =
        atomic_load_explicit(&store->capacity, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&store->used, memory_order_relaxed);
    uint64_t n_slots =
        atomic_load_explicit(&store->n_slots, memory_order_relaxed);
    uint64_t n_free =
        atomic_load_explicit(&store->n_free_slots, memory_order_relaxed);
    return used > capacity - (uint64_t)(part * (double)capacity) ||
           n_free < (uint64_t)(part * (double)n_slots);
}

bool pc_store_wants_eviction(const struct pc_store *store)
{
    return pc_store_is_below(store, store->params.free_high);
}

bool pc_store_is_halfway(const struct pc_store *store)
{
    return pc_store_is_below(
        store, (store->params.free_low + store->params.free_high) / 2);
}

bool pc_store_is_short(const struct pc_store *store)
{
    return pc_store_is_below(store, store->params.free_low);
}

/* Where the evictor is. What is pinned at the front of a queue is put behind
 * the others, so that the next look does not find it there again: a slow disk
 * holds hundreds. Once all of the queue has been pinned, the walk goes on past
 * them. */
struct hand
{
    const struct pc_evict_ops *policy;
    struct pc_evict *evict;
    struct pc_evict_entry *at;
    const struct pc_evict_entry *first_deferred;
    size_t n_pinned;
    bool walks;
};

static void pass_over(struct hand *hand)
{
    struct pc_evict_entry *entry = hand->at;
    hand->n_pinned++;
    if (!hand->walks && entry == hand->first_deferred) {
        hand->walks = true;
        hand->n_pinned = 0; /* The walk meets them all once more. */
    }
    if (hand->walks) {
        hand->at = hand->policy->victim(hand->evict, entry);
        return;
    }
    if (hand->first_deferred == NULL) {
        hand->first_deferred = entry;
    }
    hand->policy->defer(hand->evict, entry);
    hand->at = hand->policy->victim(hand->evict, NULL);
}

/* Locked. */
static void evict_batch(struct pc_store *store, size_t max,
                        struct pc_leaving *leaving)
{
    struct hand hand = {.policy = store->params.policy, .evict = store->evict};
    hand.at = hand.policy->victim(hand.evict, NULL);
    while (hand.at != NULL && leaving->n < max && hand.n_pinned < MAX_PINNED &&
           pc_store_wants_eviction(store)) {
        struct pc_slot *slot = PC_CONTAINER_OF(hand.at, struct pc_slot, entry);
        if (!pc_slot_claim(slot)) {
            pass_over(&hand);
            continue;
        }
        /* Not past those that are pinned again. */
        if (hand.walks) {
            hand.at = hand.policy->victim(hand.evict, hand.at);
        }
        pc_leave_evicted(store, slot, leaving);
        if (!hand.walks) {
            hand.at = hand.policy->victim(hand.evict, NULL);
        }
    }
}

size_t pc_store_evict(struct pc_store *store, size_t max)
{
    size_t n_gone = 0;
    struct pc_leaving leaving;
    pc_leaving_init(&leaving);
    while (n_gone < max) {
        size_t left = max - n_gone;
        pc_store_lock(store);
        evict_batch(store, left < EVICT_BATCH ? left : EVICT_BATCH, &leaving);
        pc_store_unlock(store);
        if (leaving.n == 0) {
            break;
        }
        n_gone += leaving.n;
        pc_leaving_finish(store, &leaving);
    }
    return n_gone;
}

size_t pc_store_next_out(struct pc_store *store, size_t max,
                         struct pc_place *places)
{
    const struct pc_evict_ops *policy = store->params.policy;
    size_t n = 0;
    pc_store_lock(store);
    struct pc_evict_entry *entry = policy->victim(store->evict, NULL);
    while (entry != NULL && n < max) {
        places[n++] =
            pc_store_place(PC_CONTAINER_OF(entry, struct pc_slot, entry));
        entry = policy->victim(store->evict, entry);
    }
    pc_store_unlock(store);
    return n;
}
