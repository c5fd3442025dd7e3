/*
 * extent.h - which granules of a region are free: a two-level segregated fit.
 *
 * Hands out runs of granules (4 KiB each) of any length, coalesces neighbours
 * when they come back, and finds a fitting run in O(1). All metadata lies
 * outside the region. Not thread-safe: the store's lock guards it.
 */
#ifndef PC_STORE_EXTENT_H
#define PC_STORE_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#define PC_GRANULE 4096u

struct pc_extents;

/* NULL: no memory. All granules are free. */
struct pc_extents *pc_extents_create(uint32_t n_granules);
void pc_extents_destroy(struct pc_extents *extents);
/* A run of exactly n granules; false: no run is that long. */
bool pc_extents_alloc(struct pc_extents *extents, uint32_t n,
                      uint32_t *first_p);
/* Give back a whole run as it was handed out. */
void pc_extents_free(struct pc_extents *extents, uint32_t first, uint32_t n);
uint32_t pc_extents_n_granules(const struct pc_extents *extents);
uint32_t pc_extents_n_free(const struct pc_extents *extents);
uint32_t pc_extents_longest(const struct pc_extents *extents);
/* Free granules directly before `first` and directly behind `first + n`: what
 * a run would grow to if it were given back. */
uint32_t pc_extents_free_before(const struct pc_extents *extents,
                                uint32_t first);
uint32_t pc_extents_free_behind(const struct pc_extents *extents,
                                uint32_t first, uint32_t n);

/* Runs lie side by side: walking them finds the neighbours of a value. */
struct pc_extent_run
{
    uint32_t first;
    uint32_t n;
    bool free;
    void *owner; /* Of a taken run: what pc_extents_set_owner said, or NULL. */
};

void pc_extents_set_owner(struct pc_extents *extents, uint32_t first,
                          void *owner);
/* The run that begins at `first`. */
struct pc_extent_run pc_extents_run(const struct pc_extents *extents,
                                    uint32_t first);
/* The run that ends directly before `first`, which begins a run and is not 0.*/
struct pc_extent_run pc_extents_run_before(const struct pc_extents *extents,
                                           uint32_t first);
/* Whether pc_extents_alloc would find n granules. */
bool pc_extents_fits(const struct pc_extents *extents, uint32_t n);
/* Free runs looked at in vain since creation: stays small while searches are
 * O(1). */
uint64_t pc_extents_n_steps(const struct pc_extents *extents);

#endif /* PC_STORE_EXTENT_H */
