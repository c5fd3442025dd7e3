#include "region.h"

#include "base/assert.h"
#include "base/mem.h"

enum {
    SLOTS_OF = 5, /* Slots .. */
    GRANULES = 4, /* .. for so many granules. */
    HEADERS_PER_GRANULE = PC_GRANULE / sizeof(struct pc_slot_header)
};

bool pc_region_lay_out(uint64_t length, struct pc_region_layout *layout_p)
{
    uint64_t n_granules = length / PC_GRANULE;
    if (n_granules < 3 || n_granules > UINT32_MAX / SLOTS_OF) {
        return false;
    }
    uint64_t n_slots = n_granules * SLOTS_OF / GRANULES;
    uint64_t n_table =
        (n_slots + HEADERS_PER_GRANULE - 1) / HEADERS_PER_GRANULE;
    /* A table that is begun is used. */
    *layout_p = (struct pc_region_layout){
        .slots_offset = PC_GRANULE,
        .data_offset = (1 + n_table) * PC_GRANULE,
        .n_slots = (uint32_t)(n_table * HEADERS_PER_GRANULE),
        .n_granules = (uint32_t)(n_granules - 1 - n_table),
    };
    return true;
}

struct pc_region *pc_region_create(void *addr, uint64_t length,
                                   const struct pc_region_layout *layout)
{
    struct pc_region *region = pc_alloc(1, sizeof(*region));
    if (region == NULL) {
        return NULL;
    }
    region->extents = pc_extents_create(layout->n_granules);
    if (region->extents == NULL) {
        pc_free(region);
        return NULL;
    }
    region->addr = addr;
    region->length = length;
    region->layout = *layout;
    region->headers = (void *)(region->addr + layout->slots_offset);
    region->n_free_slots = layout->n_slots;
    pc_small_init(&region->small, region->extents);
    pc_list_init(&region->free_slots);
    return region;
}

void pc_region_destroy(struct pc_region *region)
{
    if (region != NULL) {
        pc_small_fini(&region->small);
        pc_extents_destroy(region->extents);
        pc_free(region);
    }
}

enum pc_place_result pc_region_alloc(struct pc_region *region, uint64_t length,
                                     uint64_t *offset_p)
{
    int size_class = pc_small_class(length);
    if (size_class >= 0) {
        uint64_t offset = 0;
        enum pc_small_result result =
            pc_small_alloc(&region->small, size_class, &offset);
        *offset_p = region->layout.data_offset + offset;
        return result == PC_SMALL_OK     ? PC_PLACE_OK
               : result == PC_SMALL_FULL ? PC_PLACE_FULL
                                         : PC_PLACE_NO_MEMORY;
    }
    uint32_t first;
    if (!pc_extents_alloc(region->extents, pc_granules_of(length), &first)) {
        return PC_PLACE_FULL;
    }
    *offset_p = region->layout.data_offset + (uint64_t)first * PC_GRANULE;
    return PC_PLACE_OK;
}

void pc_region_free(struct pc_region *region, uint64_t offset, uint64_t length)
{
    offset -= region->layout.data_offset;
    if (pc_small_class(length) >= 0) {
        pc_small_free(&region->small, offset);
        return;
    }
    pc_extents_free(region->extents, (uint32_t)(offset / PC_GRANULE),
                    pc_granules_of(length));
}

bool pc_region_fits(const struct pc_region *region, uint64_t length)
{
    int size_class = pc_small_class(length);
    return (size_class >= 0 && pc_small_has_cell(&region->small, size_class)) ||
           pc_extents_fits(region->extents, pc_granules_of(length));
}

void pc_region_set_owner(struct pc_region *region, struct pc_slot *slot)
{
    if (pc_small_class(slot->entry.length) >= 0) {
        pc_small_set_slot(&region->small,
                          slot->offset - region->layout.data_offset,
                          slot->number);
        return;
    }
    pc_extents_set_owner(region->extents, pc_region_granule(region, slot),
                         slot);
}

struct pc_slot *pc_region_take_slot(struct pc_region *region,
                                    struct pc_slot_table *table,
                                    enum pc_place_result *result_p)
{
    /* The one freed last first: the fewest private sides come to exist. */
    struct pc_list *link = pc_list_pop_front(&region->free_slots);
    if (link != NULL) {
        region->n_free_slots--;
        return PC_CONTAINER_OF(link, struct pc_slot, entry.link);
    }
    if (region->n_used_slots == region->layout.n_slots) {
        *result_p = PC_PLACE_FULL;
        return NULL;
    }
    uint32_t number = region->n_used_slots;
    struct pc_slot *slot = pc_slot_table_make(table, region->first_id + number);
    if (slot == NULL) {
        *result_p = PC_PLACE_NO_MEMORY;
        return NULL;
    }
    slot->region = region->index;
    slot->number = number;
    pc_list_init(&slot->entry.link);
    atomic_init(&slot->generation,
                atomic_load_explicit(&region->headers[number].generation,
                                     memory_order_relaxed));
    region->n_used_slots++;
    region->n_free_slots--;
    return slot;
}

void pc_region_put_slot(struct pc_region *region, struct pc_slot *slot)
{
    PC_ASSERT(slot->region == region->index);
    pc_list_push_front(&region->free_slots, &slot->entry.link);
    region->n_free_slots++;
}
