#include "ghost.h"

#include "base/mem.h"

/* Stamps count 4 KiB: 32 bits of them last for 16 TiB. A stamp that is found
 * after all were used once more makes something younger than it is, which harms
 * nobody. */
enum { BUCKET = 8, FIRST_CELLS = 64, STAMP_SHIFT = 12 };

void pc_ghost_init(struct pc_ghost *ghost)
{
    *ghost = (struct pc_ghost){0};
}

void pc_ghost_fini(struct pc_ghost *ghost)
{
    pc_free(ghost->cells);
    pc_ghost_init(ghost);
}

uint64_t pc_ghost_n_bytes(const struct pc_ghost *ghost)
{
    return ghost->n_cells * sizeof(*ghost->cells);
}

/* The first of a tag's two buckets, or the second. */
static struct pc_ghost_cell *bucket_of(const struct pc_ghost *ghost,
                                       uint32_t tag, int which)
{
    uint64_t hash = (uint64_t)tag * 0x9e3779b97f4a7c15ull;
    size_t n_buckets = ghost->n_cells / BUCKET;
    hash ^= hash >> 29;
    return &ghost->cells[(which == 0 ? hash : hash >> 32) % n_buckets * BUCKET];
}

static uint32_t stamp_at(uint64_t clock)
{
    uint32_t stamp = (uint32_t)(clock >> STAMP_SHIFT);
    return stamp != 0 ? stamp : 1;
}

/*
 * A table that has become too small is replaced by an empty one: moving what
 * it remembers would hold the store's lock for long, and forgetting it costs a
 * few misses once for each doubling of the number of values.
 */
static bool make_cells(struct pc_ghost *ghost, uint64_t max_cells)
{
    size_t n_cells = ghost->n_cells == 0 ? FIRST_CELLS : ghost->n_cells;
    while (2 * (uint64_t)n_cells <= max_cells) {
        n_cells *= 2;
    }
    if (n_cells > ghost->n_cells) {
        struct pc_ghost_cell *cells = pc_alloc(n_cells, sizeof(*cells));
        if (cells != NULL) {
            pc_free(ghost->cells);
            ghost->cells = cells;
            ghost->n_cells = n_cells;
        }
    }
    return ghost->cells != NULL;
}

/* How long ago, in stamps; an empty cell is older than any. */
static uint32_t age_of(const struct pc_ghost *ghost,
                       const struct pc_ghost_cell *cell)
{
    return cell->stamp != 0 ? stamp_at(ghost->clock) - cell->stamp : UINT32_MAX;
}

static struct pc_ghost_cell *find(const struct pc_ghost *ghost, uint32_t tag)
{
    for (int which = 0; which < 2 && ghost->cells != NULL; which++) {
        struct pc_ghost_cell *cells = bucket_of(ghost, tag, which);
        for (int i = 0; i < BUCKET; i++) {
            if (cells[i].stamp != 0 && cells[i].tag == tag) {
                return &cells[i];
            }
        }
    }
    return NULL;
}

/* A cell to write to: in the bucket with fewer that are still known; there,
 * the oldest. */
static struct pc_ghost_cell *choose(const struct pc_ghost *ghost, uint32_t tag,
                                    uint64_t span)
{
    struct pc_ghost_cell *chosen = NULL;
    int most_room = -1;
    for (int which = 0; which < 2; which++) {
        struct pc_ghost_cell *cells = bucket_of(ghost, tag, which);
        struct pc_ghost_cell *oldest = &cells[0];
        int room = 0;
        for (int i = 0; i < BUCKET; i++) {
            uint32_t age = age_of(ghost, &cells[i]);
            room += age > span >> STAMP_SHIFT;
            oldest = age > age_of(ghost, oldest) ? &cells[i] : oldest;
        }
        if (room > most_room ||
            (room == most_room &&
             age_of(ghost, oldest) > age_of(ghost, chosen))) {
            chosen = oldest;
            most_room = room;
        }
    }
    return chosen;
}

void pc_ghost_add(struct pc_ghost *ghost, uint32_t tag, uint64_t length,
                  uint64_t span, uint64_t max_cells)
{
    ghost->clock += length;
    if (!make_cells(ghost, max_cells)) {
        return;
    }
    struct pc_ghost_cell *cell = find(ghost, tag);
    if (cell == NULL) {
        cell = choose(ghost, tag, span);
    }
    *cell = (struct pc_ghost_cell){.tag = tag, .stamp = stamp_at(ghost->clock)};
}

bool pc_ghost_take(struct pc_ghost *ghost, uint32_t tag, uint64_t span)
{
    struct pc_ghost_cell *cell = find(ghost, tag);
    if (cell == NULL) {
        return false;
    }
    bool is_known = age_of(ghost, cell) <= span >> STAMP_SHIFT;
    cell->stamp = 0;
    return is_known;
}
