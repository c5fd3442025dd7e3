/*
 * small.h - values of up to 2 KiB share granules by size classes.
 *
 * A granule is cut into cells of one class; a bitmap says which are free. A
 * granule whose last cell comes back returns to the extents at once. All
 * cells begin at multiples of 64 bytes. Not thread-safe: the store's lock
 * guards it.
 */
#ifndef PC_STORE_SMALL_H
#define PC_STORE_SMALL_H

#include "base/list.h"

#include "extent.h"

enum { PC_SMALL_CLASSES = 14 };

struct pc_small_page
{
    struct pc_list link; /* While a cell is free: in its class's list. */
    uint64_t free_cells; /* Bit i: cell i. */
    uint32_t first;      /* The granule. */
    uint16_t cell_size;
    uint8_t size_class;
    uint8_t n_cells;
    uint32_t slots[]; /* Number of the slot in each cell. */
};

struct pc_small
{
    struct pc_extents *extents;
    struct pc_list open[PC_SMALL_CLASSES]; /* Pages with a free cell. */
    uint64_t n_bytes;                      /* Of pages' bookkeeping. */
};

enum pc_small_result { PC_SMALL_OK, PC_SMALL_FULL, PC_SMALL_NO_MEMORY };

void pc_small_init(struct pc_small *small, struct pc_extents *extents);
/* Drop the bookkeeping of all pages. */
void pc_small_fini(struct pc_small *small);
/* Class of a length; -1: it takes granules of its own. */
int pc_small_class(uint64_t length);
/* Whether a cell of the class is free without another granule. */
bool pc_small_has_cell(const struct pc_small *small, int size_class);
/* Take a cell; *offset_p is its first byte counted from granule 0. */
enum pc_small_result pc_small_alloc(struct pc_small *small, int size_class,
                                    uint64_t *offset_p);
/* Give back the cell at offset. */
void pc_small_free(struct pc_small *small, uint64_t offset);
/* Say which slot lives in the cell at offset. */
void pc_small_set_slot(struct pc_small *small, uint64_t offset, uint32_t slot);
/* The page of a granule, NULL if the granule is no shared one. The owner of
 * a shared granule's run is the page with its lowest bit set. */
struct pc_small_page *pc_small_page_of(void *owner);
/* Bit i: cell i holds a slot. */
uint64_t pc_small_used(const struct pc_small_page *page);

#endif /* PC_STORE_SMALL_H */
