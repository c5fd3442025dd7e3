/*
 * plan.h - group the keys of a batch by whom they go to.
 *
 * A plan is filled key by key with a target (any 64-bit name: an incarnation)
 * and then read group by group, each group's keys in the order added, no group
 * longer than max_per_group. Reused without allocation once it has grown.
 * Engine thread only.
 */
#ifndef PC_DIRECTORY_PLAN_H
#define PC_DIRECTORY_PLAN_H

#include "base/map.h"

#include <stddef.h>
#include <stdint.h>

struct pc_plan_group
{
    uint64_t target;
    uint32_t first; /* Into keys. */
    uint32_t n_keys;
};

struct pc_plan
{
    struct pc_map targets;
    uint32_t *pending_key;
    uint32_t *pending_target;
    size_t n_pending;
    size_t capacity;
    uint32_t *keys; /* Filled by pc_plan_finish. */
    struct pc_plan_group *groups;
    size_t n_groups;
    size_t group_capacity;
    uint64_t *names;
    uint32_t *counts;
    size_t n_names;
    size_t name_capacity;
};

void pc_plan_init(struct pc_plan *plan);
void pc_plan_fini(struct pc_plan *plan);
/* Forget the last batch. */
void pc_plan_clear(struct pc_plan *plan);
/* False: no memory. */
bool pc_plan_add(struct pc_plan *plan, uint64_t target, uint32_t key);
/* Make groups, once per batch, targets in the order in which they first came;
 * max_per_group 0: no bound. False: no memory, may be tried again. */
bool pc_plan_finish(struct pc_plan *plan, uint32_t max_per_group);

#endif /* PC_DIRECTORY_PLAN_H */
