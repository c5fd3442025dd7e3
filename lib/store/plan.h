/*
 * plan.h - which neighbours would have to go so that a value fits.
 *
 * The policy names a victim; around it we look for the shortest run of
 * neighbours that, with the free granules between and beside them, is long
 * enough. Looks only: room.c carries plans out. The store's lock is held.
 */
#ifndef PC_STORE_PLAN_H
#define PC_STORE_PLAN_H

#include "store_int.h"

/* What would be evicted. */
struct pc_plan
{
    struct pc_region *region;
    struct pc_slot *only; /* This value alone, or .. */
    uint32_t first, end;  /* .. all in these granules. */
    uint32_t cost;        /* Granules that are taken now. */
};

/* Whether something around this victim would make room for length bytes. */
bool pc_plan_around(const struct pc_store *store, struct pc_slot *victim,
                    uint64_t length, struct pc_plan *plan);

/* The slot in the lowest of these cells of a shared granule. */
static inline struct pc_slot *pc_plan_cell(const struct pc_store *store,
                                           const struct pc_region *region,
                                           const struct pc_small_page *page,
                                           uint64_t cells)
{
    int cell = __builtin_ctzll(cells);
    return pc_slot_at(&store->slots, region->first_id + page->slots[cell]);
}

#endif /* PC_STORE_PLAN_H */
