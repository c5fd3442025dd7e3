/*
 * region.h - one region: its layout, its slots and its extents.
 *
 *     page 0 | slot table: 5 headers of 64 bytes for 4 granules (1.95 % of
 *            | the region, rounded up to whole granules) | extents
 *
 * Five slots for four granules: 4 KiB values can fill a region and a fifth of
 * the slots is left for small ones. A pool of nothing but tiny values runs out
 * of slots before it runs out of room; then the oldest value makes way.
 * Not thread-safe: the store's lock guards it, once it is made.
 */
#ifndef PC_STORE_REGION_H
#define PC_STORE_REGION_H

#include "base/seqlock.h"

#include "extent.h"
#include "slot.h"
#include "small.h"

/* Layout of page 0 and slot headers; readers refuse another one. */
#define PC_REGION_LAYOUT 1u

struct pc_region_layout
{
    uint64_t slots_offset, data_offset;
    uint32_t n_slots;
    uint32_t n_granules;
};

struct pc_region
{
    unsigned char *addr;
    uint64_t length;
    uint64_t nonce;
    struct pc_region_layout layout;
    struct pc_slot_header *headers;
    struct pc_extents *extents;
    struct pc_small small;
    struct pc_list free_slots;
    uint32_t n_free_slots; /* In that list and those never used yet. */
    uint32_t n_used_slots; /* Ever: the private sides that exist. */
    uint32_t first_id;
    uint16_t index;
};

/* False: too small for one value, or too large to count. */
bool pc_region_lay_out(uint64_t length, struct pc_region_layout *layout_p);
/* NULL: no memory. Touches nothing of the region's bytes. */
struct pc_region *pc_region_create(void *addr, uint64_t length,
                                   const struct pc_region_layout *layout);
void pc_region_destroy(struct pc_region *region);

enum pc_place_result { PC_PLACE_OK, PC_PLACE_FULL, PC_PLACE_NO_MEMORY };

/* Room for length bytes; *offset_p counts from the start of the region. */
enum pc_place_result pc_region_alloc(struct pc_region *region, uint64_t length,
                                     uint64_t *offset_p);
void pc_region_free(struct pc_region *region, uint64_t offset, uint64_t length);
/* Whether pc_region_alloc would find room. */
bool pc_region_fits(const struct pc_region *region, uint64_t length);
/* Say which slot lives there, so that pc_region_slot_of finds it. */
void pc_region_set_owner(struct pc_region *region, struct pc_slot *slot);
/* A free slot; NULL with *result_p saying why. */
struct pc_slot *pc_region_take_slot(struct pc_region *region,
                                    struct pc_slot_table *table,
                                    enum pc_place_result *result_p);
void pc_region_put_slot(struct pc_region *region, struct pc_slot *slot);

static inline uint32_t pc_granules_of(uint64_t length)
{
    return (uint32_t)((length + PC_GRANULE - 1) / PC_GRANULE);
}

/* The granule in which a slot's extent begins. */
static inline uint32_t pc_region_granule(const struct pc_region *region,
                                         const struct pc_slot *slot)
{
    return (uint32_t)((slot->offset - region->layout.data_offset) / PC_GRANULE);
}

#endif /* PC_STORE_REGION_H */
