#include "store_int.h"

#include "base/assert.h"
#include "base/mem.h"

/* Slots looked at while the lock is held once. */
enum { LIST_BATCH = 1024 };

/* Held for microseconds by callers and the evictor: who finds it taken looks a
 * few times more before it sleeps. */
static bool make_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t kind;
    if (pthread_mutexattr_init(&kind) != 0) {
        return false;
    }
    (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ADAPTIVE_NP);
    bool made = pthread_mutex_init(lock, &kind) == 0;
    (void)pthread_mutexattr_destroy(&kind);
    return made;
}

struct pc_store *pc_store_create(const struct pc_store_params *params)
{
    if (params->max_regions == 0 || params->max_regions > UINT16_MAX ||
        params->policy == NULL || !(params->free_low >= 0) ||
        !(params->free_high >= params->free_low) || params->free_high > 1) {
        return NULL;
    }
    struct pc_store *store = pc_alloc(1, sizeof(*store));
    if (store == NULL) {
        return NULL;
    }
    store->params = *params;
    store->regions = pc_alloc(params->max_regions, sizeof(*store->regions));
    store->evict = params->policy->create();
    if (store->regions == NULL || store->evict == NULL ||
        !make_lock(&store->lock)) {
        if (store->evict != NULL) {
            params->policy->destroy(store->evict);
        }
        pc_free(store->regions);
        pc_free(store);
        return NULL;
    }
    pc_rand_init(&store->rand, params->nonce_seed);
    pc_slot_table_init(&store->slots);
    pc_index_init(&store->index, &store->slots);
    /* 0 is what untouched memory says: no generation. */
    atomic_init(&store->next_generation, 2);
    return store;
}

void pc_store_destroy(struct pc_store *store)
{
    if (store == NULL) {
        return;
    }
    PC_ASSERT(store->n_reserved == 0 && store->n_dying == 0);
    PC_ASSERT(atomic_load(&store->n_pins) == 0);
    for (uint32_t i = 0; i < store->params.max_regions; i++) {
        pc_region_destroy(store->regions[i]);
    }
    store->params.policy->destroy(store->evict);
    pc_index_fini(&store->index);
    pc_slot_table_fini(&store->slots);
    pc_free(store->regions);
    (void)pthread_mutex_destroy(&store->lock);
    pc_free(store);
}

uint64_t pc_store_value_max(uint64_t region_length)
{
    struct pc_region_layout layout;
    return pc_region_lay_out(region_length, &layout)
               ? (uint64_t)layout.n_granules * PC_GRANULE
               : 0;
}

/* Not locked: nobody knows the region yet, and its first touch may be slow. */
static void write_tables(struct pc_store *store, struct pc_region *region)
{
    struct pc_region_page *page = (void *)region->addr;
    *page = (struct pc_region_page){
        .magic = PC_REGION_MAGIC,
        .layout_version = PC_REGION_LAYOUT,
        .n_slots = region->layout.n_slots,
        .nonce = region->nonce,
        .incarnation = store->params.incarnation,
        .length = region->length,
        .slots_offset = region->layout.slots_offset,
        .data_offset = region->layout.data_offset,
    };
    uint64_t odd =
        atomic_fetch_add_explicit(&store->next_generation,
                                  2 * (uint64_t)region->layout.n_slots,
                                  memory_order_relaxed) +
        1;
    for (uint32_t i = 0; i < region->layout.n_slots; i++) {
        struct pc_slot_header *header = &region->headers[i];
        /* Relaxed: the region is handed out under the lock afterwards. */
        atomic_store_explicit(&header->generation, odd + 2 * (uint64_t)i,
                              memory_order_relaxed);
    }
}

/* Locked. */
static peercache_status_t publish_region(struct pc_store *store,
                                         struct pc_region *region)
{
    const struct pc_region_layout *layout = &region->layout;
    uint32_t n = atomic_load_explicit(&store->n_regions, memory_order_relaxed);
    if (n == store->params.max_regions) {
        return PEERCACHE_NO_SPACE;
    }
    if (!pc_slot_table_grow(&store->slots, layout->n_slots,
                            &region->first_id)) {
        return PEERCACHE_NO_MEMORY;
    }
    uint64_t bytes = (uint64_t)layout->n_granules * PC_GRANULE;
    region->index = (uint16_t)n;
    store->regions[n] = region;
    store->largest = bytes > store->largest ? bytes : store->largest;
    pc_store_count(&store->capacity, bytes);
    pc_store_count(&store->n_slots, layout->n_slots);
    pc_store_count(&store->n_free_slots, layout->n_slots);
    /* Release: pairs with pc_store_region. */
    atomic_store_explicit(&store->n_regions, n + 1, memory_order_release);
    return PEERCACHE_OK;
}

peercache_status_t pc_store_add_region(struct pc_store *store, void *addr,
                                       uint64_t length, uint32_t *index_p)
{
    struct pc_region_layout layout;
    if ((uintptr_t)addr % sizeof(struct pc_slot_header) != 0 ||
        !pc_region_lay_out(length, &layout)) {
        return PEERCACHE_INVALID;
    }
    struct pc_region *region = pc_region_create(addr, length, &layout);
    if (region == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    pc_store_lock(store);
    region->nonce = pc_rand_u64(&store->rand);
    pc_store_unlock(store);
    write_tables(store, region);
    pc_store_lock(store);
    peercache_status_t status = publish_region(store, region);
    uint32_t index = region->index;
    pc_store_unlock(store);
    if (status != PEERCACHE_OK) {
        pc_region_destroy(region);
        return status;
    }
    *index_p = index;
    return PEERCACHE_OK;
}

bool pc_store_region(const struct pc_store *store, uint32_t index,
                     struct pc_region_info *info_p)
{
    /* Acquire: pairs with publish_region. */
    if (index >=
        atomic_load_explicit(&store->n_regions, memory_order_acquire)) {
        return false;
    }
    const struct pc_region *region = store->regions[index];
    *info_p = (struct pc_region_info){
        .addr = region->addr,
        .length = region->length,
        .nonce = region->nonce,
        .slots_offset = region->layout.slots_offset,
        .n_slots = region->layout.n_slots,
    };
    return true;
}

struct pc_place pc_store_place(const struct pc_slot *slot)
{
    /* Relaxed: under the lock, or the caller is alone with the value. One
     * that was given up says what it was. */
    uint64_t generation =
        atomic_load_explicit(&slot->generation, memory_order_relaxed);
    return (struct pc_place){
        .digest = slot->entry.digest,
        .generation = generation & ~1ull,
        .offset = slot->offset,
        .length = slot->entry.length,
        .checksum = slot->checksum,
        .slot = slot->number,
        .region = slot->region,
        .published = slot->published,
    };
}

/* Locked. */
static struct pc_slot *find(struct pc_store *store, struct pc_digest digest,
                            bool touch)
{
    struct pc_slot *slot = pc_index_find(&store->index, digest);
    if (slot != NULL && touch) {
        store->params.policy->touch(store->evict, &slot->entry);
    }
    return slot;
}

bool pc_store_find(struct pc_store *store, struct pc_digest digest, bool touch,
                   struct pc_place *place_p)
{
    pc_store_lock(store);
    struct pc_slot *slot = find(store, digest, touch);
    if (slot != NULL) {
        *place_p = pc_store_place(slot);
    }
    pc_store_unlock(store);
    return slot != NULL;
}

/* Once more with the lock held, where nobody can be evicting a value that is
 * still found. */
static struct pc_slot *pin_locked(struct pc_store *store,
                                  struct pc_digest digest,
                                  struct pc_place *place_p)
{
    pc_store_lock(store);
    struct pc_slot *slot = find(store, digest, false);
    if (slot != NULL) {
        *place_p = pc_store_place(slot);
        bool pinned = pc_slot_add_pin(slot, place_p->generation);
        PC_ASSERT(pinned);
        (void)pinned;
    }
    pc_store_unlock(store);
    return slot;
}

bool pc_store_pin(struct pc_store *store, struct pc_digest digest,
                  struct pc_pin *pin_p)
{
    struct pc_place place;
    pc_store_lock(store);
    struct pc_slot *slot = find(store, digest, true);
    if (slot != NULL) {
        place = pc_store_place(slot);
    }
    pc_store_unlock(store);
    if (slot == NULL) {
        return false;
    }
    if (!pc_slot_add_pin(slot, place.generation)) {
        pc_leave_drop_pin(store, slot);
        slot = pin_locked(store, digest, &place);
        if (slot == NULL) {
            return false;
        }
    }
    atomic_fetch_add_explicit(&store->n_pins, 1, memory_order_relaxed);
    *pin_p = (struct pc_pin){
        .slot = slot,
        .addr = store->regions[place.region]->addr + place.offset,
        .place = place,
    };
    return true;
}

bool pc_store_hold(struct pc_store *store, struct pc_digest digest,
                   uint64_t generation, struct pc_pin *pin_p)
{
    struct pc_place place;
    pc_store_lock(store);
    struct pc_slot *slot = find(store, digest, false);
    bool held = slot != NULL && pc_store_place(slot).generation == generation;
    if (held) {
        place = pc_store_place(slot);
        held = pc_slot_add_pin(slot, generation);
        PC_ASSERT(held);
    }
    pc_store_unlock(store);
    if (held) {
        atomic_fetch_add_explicit(&store->n_pins, 1, memory_order_relaxed);
        *pin_p = (struct pc_pin){
            .slot = slot,
            .addr = store->regions[place.region]->addr + place.offset,
            .place = place,
        };
    }
    return held;
}

void pc_store_unpin(struct pc_store *store, struct pc_pin *pin)
{
    struct pc_slot *slot = pin->slot;
    pin->slot = NULL;
    atomic_fetch_sub_explicit(&store->n_pins, 1, memory_order_relaxed);
    pc_leave_drop_pin(store, slot);
}

void pc_store_mark_published(struct pc_store *store, struct pc_digest digest,
                             uint64_t generation)
{
    pc_store_lock(store);
    struct pc_slot *slot = find(store, digest, false);
    if (slot != NULL && pc_store_place(slot).generation == generation) {
        slot->published = 1;
    }
    pc_store_unlock(store);
}

uint64_t pc_store_newest(const struct pc_store *store)
{
    /* Relaxed: what the caller's thread has seen sealed is below. */
    return atomic_load_explicit(&store->next_generation, memory_order_relaxed) -
           1;
}

uint64_t pc_store_take_generation(struct pc_store *store)
{
    /* Relaxed: a number only, as in seal_header. */
    return atomic_fetch_add_explicit(&store->next_generation, 2,
                                     memory_order_relaxed);
}

bool pc_store_walk(struct pc_store *store, size_t *at, size_t max,
                   struct pc_place *places, size_t *n_p)
{
    size_t n = 0;
    pc_store_lock(store);
    size_t end = (size_t)store->slots.n_chunks * PC_SLOT_CHUNK;
    for (int i = 0; i < LIST_BATCH && *at < end && n < max; i++) {
        const struct pc_slot *slot = pc_slot_at(&store->slots, (uint32_t)*at);
        if (slot == NULL) {
            *at += PC_SLOT_CHUNK - *at % PC_SLOT_CHUNK;
            continue;
        }
        if (pc_slot_state(slot) == PC_SLOT_SEALED) {
            places[n++] = pc_store_place(slot);
        }
        (*at)++;
    }
    bool more = *at < end;
    pc_store_unlock(store);
    *n_p = n;
    return more;
}

bool pc_store_list(struct pc_store *store, size_t *at, size_t max,
                   struct pc_place *places, size_t *n_p)
{
    size_t n = 0;
    bool more = true;
    while (more && n < max) {
        size_t n_here;
        more = pc_store_walk(store, at, max - n, places + n, &n_here);
        n += n_here;
    }
    *n_p = n;
    return more || n > 0;
}

/* Locked. Bookkeeping that grows with the values. */
static uint64_t index_bytes(const struct pc_store *store)
{
    uint32_t n = atomic_load_explicit(&store->n_regions, memory_order_relaxed);
    uint64_t bytes = store->index.n_bytes + store->slots.n_bytes +
                     store->params.policy->n_bytes(store->evict);
    for (uint32_t i = 0; i < n; i++) {
        bytes += store->regions[i]->small.n_bytes;
    }
    return bytes;
}

void pc_store_stats(const struct pc_store *store, struct pc_store_stats *stats)
{
    /* Only the lock changes. */
    pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock;
    (void)pthread_mutex_lock(lock);
    uint32_t n = atomic_load_explicit(&store->n_regions, memory_order_relaxed);
    uint32_t longest = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t here = pc_extents_longest(store->regions[i]->extents);
        longest = here > longest ? here : longest;
    }
    *stats = (struct pc_store_stats){
        .capacity =
            atomic_load_explicit(&store->capacity, memory_order_relaxed),
        .used = atomic_load_explicit(&store->used, memory_order_relaxed),
        .n_slots = atomic_load_explicit(&store->n_slots, memory_order_relaxed),
        .n_values = store->n_values,
        .n_reserved = store->n_reserved,
        .n_pins = atomic_load_explicit(&store->n_pins, memory_order_relaxed),
        .n_dying = store->n_dying,
        .evictions = store->evictions,
        .n_back = store->params.policy->n_back(store->evict),
        .longest_free = (uint64_t)longest * PC_GRANULE,
        .n_regions = n,
        .index_bytes = index_bytes(store),
    };
    (void)pthread_mutex_unlock(lock);
}
