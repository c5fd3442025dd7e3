#include "plan.h"

static bool is_evictable_slot(const struct pc_slot *slot)
{
    return pc_slot_state(slot) == PC_SLOT_SEALED && !pc_slot_is_pinned(slot);
}

static bool is_evictable(const struct pc_store *store,
                         const struct pc_region *region,
                         struct pc_extent_run run)
{
    const struct pc_small_page *page = pc_small_page_of(run.owner);
    if (page == NULL) {
        return is_evictable_slot(run.owner);
    }
    for (uint64_t cells = pc_small_used(page); cells != 0; cells &= cells - 1) {
        if (!is_evictable_slot(pc_plan_cell(store, region, page, cells))) {
            return false;
        }
    }
    return true;
}

/* A taken run next to the window that could join it, and the free granules
 * behind that. */
struct neighbour
{
    bool usable;
    uint32_t n;    /* Granules of the run. */
    uint32_t gain; /* With the free ones beyond. */
};

static struct neighbour look_before(const struct pc_store *store,
                                    const struct pc_plan *plan)
{
    struct neighbour found = {.usable = false};
    if (plan->first > 0) {
        const struct pc_extents *extents = plan->region->extents;
        struct pc_extent_run run = pc_extents_run_before(extents, plan->first);
        found.usable = is_evictable(store, plan->region, run);
        found.n = run.n;
        found.gain = run.n + pc_extents_free_before(extents, run.first);
    }
    return found;
}

static struct neighbour look_behind(const struct pc_store *store,
                                    const struct pc_plan *plan)
{
    struct neighbour found = {.usable = false};
    if (plan->end < plan->region->layout.n_granules) {
        const struct pc_extents *extents = plan->region->extents;
        struct pc_extent_run run = pc_extents_run(extents, plan->end);
        found.usable = is_evictable(store, plan->region, run);
        found.n = run.n;
        found.gain = run.n + pc_extents_free_behind(extents, run.first, run.n);
    }
    return found;
}

/* Whether a costs less per granule won than b, of which `missing` count. */
static bool is_cheaper(struct neighbour a, struct neighbour b, uint32_t missing)
{
    uint64_t gain_a = a.gain < missing ? a.gain : missing;
    uint64_t gain_b = b.gain < missing ? b.gain : missing;
    return !b.usable || (a.usable && a.n * gain_b <= b.n * gain_a);
}

/* Neighbours on both sides join until the window has n granules. */
static bool widen(const struct pc_store *store, struct pc_plan *plan,
                  uint32_t n)
{
    while (plan->end - plan->first < n) {
        uint32_t missing = n - (plan->end - plan->first);
        struct neighbour before = look_before(store, plan);
        struct neighbour behind = look_behind(store, plan);
        if (!before.usable && !behind.usable) {
            return false;
        }
        if (is_cheaper(before, behind, missing)) {
            plan->first -= before.gain;
            plan->cost += before.n;
        } else {
            plan->end += behind.gain;
            plan->cost += behind.n;
        }
    }
    return true;
}

/* Values at both ends that turned out not to be needed stay. */
static void narrow(struct pc_plan *plan, uint32_t n)
{
    const struct pc_extents *extents = plan->region->extents;
    for (;;) {
        struct pc_extent_run run = pc_extents_run(extents, plan->first);
        if (run.free) {
            run = pc_extents_run(extents, run.first + run.n);
        }
        if (plan->end - (run.first + run.n) < n) {
            break;
        }
        plan->first = run.first + run.n;
        plan->cost -= run.n;
    }
    for (;;) {
        struct pc_extent_run run = pc_extents_run_before(extents, plan->end);
        if (run.free) {
            run = pc_extents_run_before(extents, run.first);
        }
        if (run.first - plan->first < n) {
            break;
        }
        plan->end = run.first;
        plan->cost -= run.n;
    }
}

bool pc_plan_around(const struct pc_store *store, struct pc_slot *victim,
                    uint64_t length, struct pc_plan *plan)
{
    struct pc_region *region = pc_store_region_of(store, victim);
    struct pc_extent_run run =
        pc_extents_run(region->extents, pc_region_granule(region, victim));
    const struct pc_small_page *page = pc_small_page_of(run.owner);
    *plan = (struct pc_plan){.region = region, .cost = run.n};
    /* What lacks is a slot, or a cell like the one that this victim has. */
    if (pc_region_fits(region, length) ||
        (page != NULL && page->size_class == pc_small_class(length))) {
        plan->only = victim;
        return true;
    }
    if (!is_evictable(store, region, run)) {
        return false;
    }
    uint32_t n = pc_granules_of(length);
    plan->first =
        run.first - pc_extents_free_before(region->extents, run.first);
    plan->end = run.first + run.n +
                pc_extents_free_behind(region->extents, run.first, run.n);
    if (!widen(store, plan, n)) {
        return false;
    }
    narrow(plan, n);
    return true;
}
