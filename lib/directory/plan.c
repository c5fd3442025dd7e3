#include "plan.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

void pc_plan_init(struct pc_plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    pc_map_init(&plan->targets);
}

void pc_plan_fini(struct pc_plan *plan)
{
    pc_map_fini(&plan->targets);
    pc_free(plan->pending_key);
    pc_free(plan->pending_target);
    pc_free(plan->keys);
    pc_free(plan->groups);
    pc_free(plan->names);
    pc_free(plan->counts);
    pc_plan_init(plan);
}

void pc_plan_clear(struct pc_plan *plan)
{
    for (size_t i = 0; i < plan->n_names; i++) {
        pc_map_remove(&plan->targets, pc_map_key(plan->names[i]));
    }
    plan->n_names = 0;
    plan->n_pending = 0;
    plan->n_groups = 0;
}

/* Grow an array; it keeps its contents if there is no memory. */
static bool grow(void **array_p, size_t n, size_t size)
{
    void *array = pc_realloc(*array_p, n, size);
    if (array == NULL) {
        return false;
    }
    *array_p = array;
    return true;
}

static bool reserve_pending(struct pc_plan *plan)
{
    if (plan->n_pending < plan->capacity) {
        return true;
    }
    size_t n = plan->capacity == 0 ? 64 : 2 * plan->capacity;
    if (!grow((void **)&plan->pending_key, n, sizeof(*plan->pending_key)) ||
        !grow((void **)&plan->pending_target, n,
              sizeof(*plan->pending_target)) ||
        !grow((void **)&plan->keys, n, sizeof(*plan->keys))) {
        return false;
    }
    plan->capacity = n;
    return true;
}

/* The number of a target in this batch. */
static bool name_target(struct pc_plan *plan, uint64_t target, uint32_t *name_p)
{
    uint64_t name;
    if (pc_map_get(&plan->targets, pc_map_key(target), &name)) {
        *name_p = (uint32_t)name;
        return true;
    }
    if (plan->n_names == plan->name_capacity) {
        size_t n = plan->name_capacity == 0 ? 16 : 2 * plan->name_capacity;
        if (!grow((void **)&plan->names, n, sizeof(*plan->names)) ||
            !grow((void **)&plan->counts, n, sizeof(*plan->counts))) {
            return false;
        }
        plan->name_capacity = n;
    }
    if (!pc_map_put(&plan->targets, pc_map_key(target), plan->n_names)) {
        return false;
    }
    plan->names[plan->n_names] = target;
    plan->counts[plan->n_names] = 0;
    *name_p = (uint32_t)plan->n_names++;
    return true;
}

bool pc_plan_add(struct pc_plan *plan, uint64_t target, uint32_t key)
{
    uint32_t name;
    if (!reserve_pending(plan) || !name_target(plan, target, &name)) {
        return false;
    }
    plan->pending_key[plan->n_pending] = key;
    plan->pending_target[plan->n_pending++] = name;
    plan->counts[name]++;
    return true;
}

static size_t count_groups(const struct pc_plan *plan, uint32_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_names; i++) {
        n += plan->counts[i] / max + (plan->counts[i] % max != 0);
    }
    return n;
}

/* Cut each target's run of keys into groups; counts become where the next key
 * of each target goes. */
static void cut_groups(struct pc_plan *plan, uint32_t max)
{
    uint32_t first = 0;
    plan->n_groups = 0;
    for (size_t i = 0; i < plan->n_names; i++) {
        uint32_t left = plan->counts[i];
        plan->counts[i] = first;
        while (left > 0) {
            uint32_t n = left < max ? left : max;
            plan->groups[plan->n_groups++] =
                (struct pc_plan_group){plan->names[i], first, n};
            first += n;
            left -= n;
        }
    }
}

bool pc_plan_finish(struct pc_plan *plan, uint32_t max_per_group)
{
    uint32_t max = max_per_group == 0 ? UINT32_MAX : max_per_group;
    size_t n = count_groups(plan, max);
    if (n > plan->group_capacity) {
        if (!grow((void **)&plan->groups, n, sizeof(*plan->groups))) {
            return false;
        }
        plan->group_capacity = n;
    }
    cut_groups(plan, max);
    for (size_t i = 0; i < plan->n_pending; i++) {
        uint32_t at = plan->counts[plan->pending_target[i]]++;
        plan->keys[at] = plan->pending_key[i];
    }
    return true;
}
