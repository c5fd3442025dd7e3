#include "plan.h"

#include "base/assert.h"

/*
 * Making room. The policy names victims in order; plan.c says what would have
 * to go around each of them. The first run whose victims take no more than
 * what is asked for is good enough; else the cheapest of those examined goes.
 */
enum { MAX_EXAMINED = 64, MAX_PASSED_OVER = 1024 };

enum pc_place_result pc_store_alloc(struct pc_store *store,
                                    struct pc_region *region, uint64_t length,
                                    uint64_t *offset_p)
{
    uint64_t before = pc_extents_n_free(region->extents);
    enum pc_place_result result = pc_region_alloc(region, length, offset_p);
    uint64_t taken = before - pc_extents_n_free(region->extents);
    pc_store_count(&store->used, taken * PC_GRANULE);
    return result;
}

void pc_store_free(struct pc_store *store, struct pc_region *region,
                   uint64_t offset, uint64_t length)
{
    uint64_t before = pc_extents_n_free(region->extents);
    pc_region_free(region, offset, length);
    uint64_t freed = pc_extents_n_free(region->extents) - before;
    pc_store_count(&store->used, -(freed * PC_GRANULE));
}

/* Claim or unclaim the used cells of a granule or the one value of a run;
 * false: somebody pinned one, nothing is claimed. */
static bool claim_run(const struct pc_store *store,
                      const struct pc_region *region, struct pc_extent_run run)
{
    const struct pc_small_page *page = pc_small_page_of(run.owner);
    if (page == NULL) {
        return pc_slot_claim(run.owner);
    }
    uint64_t used = pc_small_used(page);
    for (uint64_t cells = used; cells != 0; cells &= cells - 1) {
        if (!pc_slot_claim(pc_plan_cell(store, region, page, cells))) {
            uint64_t claimed = used & ((cells & -cells) - 1);
            for (; claimed != 0; claimed &= claimed - 1) {
                pc_slot_unclaim(pc_plan_cell(store, region, page, claimed));
            }
            return false;
        }
    }
    return true;
}

static void unclaim_run(const struct pc_store *store,
                        const struct pc_region *region,
                        struct pc_extent_run run)
{
    const struct pc_small_page *page = pc_small_page_of(run.owner);
    if (page == NULL) {
        pc_slot_unclaim(run.owner);
        return;
    }
    for (uint64_t cells = pc_small_used(page); cells != 0; cells &= cells - 1) {
        pc_slot_unclaim(pc_plan_cell(store, region, page, cells));
    }
}

static void evict_run(struct pc_store *store, const struct pc_region *region,
                      struct pc_extent_run run, struct pc_leaving *leaving)
{
    const struct pc_small_page *page = pc_small_page_of(run.owner);
    if (page == NULL) {
        pc_leave_evicted(store, run.owner, leaving);
        return;
    }
    /* The page goes with its last cell: look at it before that only. */
    uint64_t cells = pc_small_used(page);
    while (cells != 0) {
        struct pc_slot *slot = pc_plan_cell(store, region, page, cells);
        cells &= cells - 1;
        pc_leave_evicted(store, slot, leaving);
    }
}

/* All or nothing: no value goes if a neighbour that has to go with it was
 * pinned a moment ago. */
static bool claim_all(const struct pc_store *store, const struct pc_plan *plan)
{
    const struct pc_extents *extents = plan->region->extents;
    uint32_t at = plan->first;
    while (at < plan->end) {
        struct pc_extent_run run = pc_extents_run(extents, at);
        if (!run.free && !claim_run(store, plan->region, run)) {
            break;
        }
        at += run.n;
    }
    if (at >= plan->end) {
        return true;
    }
    for (uint32_t i = plan->first; i < at;) {
        struct pc_extent_run run = pc_extents_run(extents, i);
        if (!run.free) {
            unclaim_run(store, plan->region, run);
        }
        i += run.n;
    }
    return false;
}

static bool carry_out(struct pc_store *store, const struct pc_plan *plan,
                      struct pc_leaving *leaving)
{
    if (plan->only != NULL) {
        if (!pc_slot_claim(plan->only)) {
            return false;
        }
        pc_leave_evicted(store, plan->only, leaving);
        return true;
    }
    if (!claim_all(store, plan)) {
        return false;
    }
    const struct pc_extents *extents = plan->region->extents;
    for (uint32_t at = plan->first; at < plan->end;) {
        struct pc_extent_run run = pc_extents_run(extents, at);
        at += run.n;
        if (run.free) {
            continue;
        }
        /* Freeing joins this run to a free one behind it, whose beginning is
         * then no beginning any more: step over it first. */
        if (at < plan->end && pc_extents_run(extents, at).free) {
            at += pc_extents_run(extents, at).n;
        }
        evict_run(store, plan->region, run, leaving);
    }
    return true;
}

/* Take room and a slot in one region, if it has both. */
static enum pc_place_result take(struct pc_store *store,
                                 struct pc_region *region, uint64_t length,
                                 struct pc_leaving *leaving,
                                 struct pc_slot **slot_p)
{
    uint64_t offset;
    if (region->n_free_slots == 0 && leaving->n == 0) {
        return PC_PLACE_FULL;
    }
    enum pc_place_result result =
        pc_store_alloc(store, region, length, &offset);
    if (result != PC_PLACE_OK) {
        return result;
    }
    struct pc_slot *slot = pc_region_take_slot(region, &store->slots, &result);
    if (slot != NULL) {
        pc_store_count(&store->n_free_slots, UINT64_MAX);
    } else if (result == PC_PLACE_FULL) {
        slot = pc_leaving_take(store, leaving, region);
    }
    if (slot == NULL) {
        pc_store_free(store, region, offset, length);
        return result;
    }
    slot->offset = offset;
    slot->entry.length = length & PC_EVICT_LENGTH_MAX;
    pc_region_set_owner(region, slot);
    store->last_region = region->index;
    *slot_p = slot;
    return PC_PLACE_OK;
}

/* The next victim from *entry_p on whose region is large enough and that
 * nobody pins; passing over others is bounded too. */
static struct pc_slot *next_victim(struct pc_store *store, uint32_t n,
                                   struct pc_evict_entry **entry_p,
                                   size_t *n_passed)
{
    const struct pc_evict_ops *policy = store->params.policy;
    while (*n_passed < MAX_PASSED_OVER) {
        *entry_p = policy->victim(store->evict, *entry_p);
        if (*entry_p == NULL) {
            return NULL;
        }
        struct pc_slot *slot = PC_CONTAINER_OF(*entry_p, struct pc_slot, entry);
        if (!pc_slot_is_pinned(slot) &&
            pc_store_region_of(store, slot)->layout.n_granules >= n) {
            return slot;
        }
        (*n_passed)++;
    }
    return NULL;
}

/* Evict the cheapest of the runs examined; the region that has room then. */
static struct pc_region *make_room(struct pc_store *store, uint64_t length,
                                   struct pc_leaving *leaving)
{
    uint32_t n = pc_granules_of(length);
    struct pc_evict_entry *entry = NULL;
    struct pc_plan best = {.region = NULL};
    size_t n_passed = 0;
    for (int i = 0; i < MAX_EXAMINED; i++) {
        struct pc_slot *victim = next_victim(store, n, &entry, &n_passed);
        struct pc_plan plan;
        if (victim == NULL) {
            break;
        }
        if (!pc_plan_around(store, victim, length, &plan)) {
            continue;
        }
        /* Cheap enough, or the policy's own choice alone. */
        bool good = plan.only != NULL || plan.cost <= n ||
                    plan.cost == pc_granules_of(victim->entry.length);
        if (good) {
            if (carry_out(store, &plan, leaving)) {
                return plan.region;
            }
        } else if (best.region == NULL || plan.cost < best.cost) {
            best = plan;
        }
    }
    return best.region != NULL && carry_out(store, &best, leaving) ? best.region
                                                                   : NULL;
}

peercache_status_t pc_room_find(struct pc_store *store, uint64_t length,
                                bool may_evict, struct pc_leaving *leaving,
                                struct pc_slot **slot_p)
{
    uint32_t n_regions =
        atomic_load_explicit(&store->n_regions, memory_order_relaxed);
    enum pc_place_result result = PC_PLACE_FULL;
    for (uint32_t i = 0; i < n_regions && result == PC_PLACE_FULL; i++) {
        uint32_t at = (store->last_region + i) % n_regions;
        result = take(store, store->regions[at], length, leaving, slot_p);
    }
    if (result == PC_PLACE_FULL && may_evict) {
        struct pc_region *region = make_room(store, length, leaving);
        if (region != NULL) {
            result = take(store, region, length, leaving, slot_p);
            PC_ASSERT(result != PC_PLACE_FULL);
        }
    }
    return result == PC_PLACE_OK     ? PEERCACHE_OK
           : result == PC_PLACE_FULL ? PEERCACHE_NO_SPACE
                                     : PEERCACHE_NO_MEMORY;
}
