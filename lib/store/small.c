#include "small.h"

#include "base/assert.h"
#include "base/mem.h"

/* Multiples of 64 that waste little of a granule: 64, 32, 21, 16, 12, 10, 9,
 * 8, 7, 6, 5, 4, 3 and 2 cells. */
static const uint16_t cell_sizes[PC_SMALL_CLASSES] = {
    64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 768, 1024, 1344, 2048};

void pc_small_init(struct pc_small *small, struct pc_extents *extents)
{
    *small = (struct pc_small){.extents = extents};
    for (int i = 0; i < PC_SMALL_CLASSES; i++) {
        pc_list_init(&small->open[i]);
    }
}

void pc_small_fini(struct pc_small *small)
{
    uint32_t n_granules = pc_extents_n_granules(small->extents);
    for (uint32_t at = 0; at < n_granules;) {
        struct pc_extent_run run = pc_extents_run(small->extents, at);
        pc_free(pc_small_page_of(run.owner));
        at += run.n;
    }
}

int pc_small_class(uint64_t length)
{
    for (int i = 0; i < PC_SMALL_CLASSES; i++) {
        if (length <= cell_sizes[i]) {
            return i;
        }
    }
    return -1;
}

bool pc_small_has_cell(const struct pc_small *small, int size_class)
{
    return !pc_list_is_empty(&small->open[size_class]);
}

static size_t page_bytes(const struct pc_small_page *page)
{
    return sizeof(*page) + page->n_cells * sizeof(page->slots[0]);
}

static uint64_t all_cells(const struct pc_small_page *page)
{
    return page->n_cells == 64 ? UINT64_MAX : (1ull << page->n_cells) - 1;
}

static enum pc_small_result open_page(struct pc_small *small, int size_class)
{
    uint32_t n_cells = PC_GRANULE / cell_sizes[size_class];
    uint32_t first;
    if (!pc_extents_alloc(small->extents, 1, &first)) {
        return PC_SMALL_FULL;
    }
    struct pc_small_page *page =
        pc_alloc(1, sizeof(*page) + n_cells * sizeof(page->slots[0]));
    if (page == NULL) {
        pc_extents_free(small->extents, first, 1);
        return PC_SMALL_NO_MEMORY;
    }
    page->first = first;
    page->size_class = (uint8_t)size_class;
    page->cell_size = cell_sizes[size_class];
    page->n_cells = (uint8_t)n_cells;
    page->free_cells = all_cells(page);
    pc_list_push_front(&small->open[size_class], &page->link);
    pc_extents_set_owner(small->extents, first, (void *)((uintptr_t)page | 1));
    small->n_bytes += page_bytes(page);
    return PC_SMALL_OK;
}

enum pc_small_result pc_small_alloc(struct pc_small *small, int size_class,
                                    uint64_t *offset_p)
{
    if (!pc_small_has_cell(small, size_class)) {
        enum pc_small_result result = open_page(small, size_class);
        if (result != PC_SMALL_OK) {
            return result;
        }
    }
    struct pc_small_page *page = PC_CONTAINER_OF(small->open[size_class].next,
                                                 struct pc_small_page, link);
    uint32_t cell = (uint32_t)__builtin_ctzll(page->free_cells);
    page->free_cells &= ~(1ull << cell);
    if (page->free_cells == 0) {
        pc_list_remove(&page->link);
    }
    *offset_p = (uint64_t)page->first * PC_GRANULE + cell * page->cell_size;
    return PC_SMALL_OK;
}

static struct pc_small_page *page_at(const struct pc_small *small,
                                     uint64_t offset)
{
    struct pc_extent_run run =
        pc_extents_run(small->extents, (uint32_t)(offset / PC_GRANULE));
    struct pc_small_page *page = pc_small_page_of(run.owner);
    PC_ASSERT(page != NULL);
    return page;
}

static uint32_t cell_at(const struct pc_small_page *page, uint64_t offset)
{
    uint32_t cell = (uint32_t)(offset % PC_GRANULE) / page->cell_size;
    PC_ASSERT((page->free_cells & 1ull << cell) == 0);
    return cell;
}

void pc_small_free(struct pc_small *small, uint64_t offset)
{
    struct pc_small_page *page = page_at(small, offset);
    if (page->free_cells == 0) {
        pc_list_push_front(&small->open[page->size_class], &page->link);
    }
    page->free_cells |= 1ull << cell_at(page, offset);
    if (page->free_cells == all_cells(page)) {
        pc_list_remove(&page->link);
        pc_extents_free(small->extents, page->first, 1);
        small->n_bytes -= page_bytes(page);
        pc_free(page);
    }
}

void pc_small_set_slot(struct pc_small *small, uint64_t offset, uint32_t slot)
{
    struct pc_small_page *page = page_at(small, offset);
    page->slots[cell_at(page, offset)] = slot;
}

struct pc_small_page *pc_small_page_of(void *owner)
{
    uintptr_t word = (uintptr_t)owner;
    return (word & 1) != 0 ? (struct pc_small_page *)(word & ~(uintptr_t)1)
                           : NULL;
}

uint64_t pc_small_used(const struct pc_small_page *page)
{
    return all_cells(page) & ~page->free_cells;
}
