/*
 * ghost.h - a bounded memory of values that were evicted.
 *
 * A tag is known until as many bytes as the caller names were added after it.
 * Each has two buckets of 8 cells (64 bytes, a cache line) to lie in, the one
 * with more room is taken: so up to three quarters full hardly any is forgotten
 * early. That matters for chains, of which a page forgotten in the middle makes
 * a hole. Not thread-safe: the store's lock guards it.
 */
#ifndef PC_STORE_GHOST_H
#define PC_STORE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_ghost_cell
{
    uint32_t tag;
    uint32_t stamp; /* When it was added; 0: empty. */
};

struct pc_ghost
{
    struct pc_ghost_cell *cells; /* NULL until something is added. */
    size_t n_cells;              /* A power of two. */
    uint64_t clock;              /* Bytes of all that was ever added. */
};

void pc_ghost_init(struct pc_ghost *ghost);
void pc_ghost_fini(struct pc_ghost *ghost);
uint64_t pc_ghost_n_bytes(const struct pc_ghost *ghost);
/* Remember a tag; what was added more than `span` bytes ago makes way first.
 * max_cells (8 bytes each) bounds the memory, but for a least size. Without
 * memory the tag is forgotten. */
void pc_ghost_add(struct pc_ghost *ghost, uint32_t tag, uint64_t length,
                  uint64_t span, uint64_t max_cells);
/* Whether the tag was added within the last `span` bytes; it is forgotten with
 * that. */
bool pc_ghost_take(struct pc_ghost *ghost, uint32_t tag, uint64_t span);

#endif /* PC_STORE_GHOST_H */
