#include "map.h"

#include "mem.h"

enum { FIRST_CELLS = 16 };

void pc_map_init(struct pc_map *map)
{
    *map = (struct pc_map){.cells = NULL};
}

void pc_map_fini(struct pc_map *map)
{
    pc_free(map->cells);
    pc_map_init(map);
}

/* Three quarters: at more, runs of linear probing get long. */
static bool fits(size_t n, size_t n_cells)
{
    return n <= n_cells - n_cells / 4;
}

/* Where a key would like to be. Counting numbers differ only in their low
 * bits and pointers not even there, so all bits are mixed into the low ones. */
static size_t home(const struct pc_map *map, struct pc_digest key)
{
    uint64_t x = key.lo ^ (key.hi * 0x9e3779b97f4a7c15ull);
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    return (size_t)x & (map->n_cells - 1);
}

/* The cell of a key, or the free one where it belongs. There are cells, and
 * one of them is free. */
static size_t find(const struct pc_map *map, struct pc_digest key)
{
    size_t at = home(map, key);
    while (map->cells[at].used && !pc_digest_equal(map->cells[at].key, key)) {
        at = (at + 1) & (map->n_cells - 1);
    }
    return at;
}

static bool rebuild(struct pc_map *map, size_t n_cells)
{
    struct pc_map bigger = {.n_cells = n_cells, .n_used = map->n_used};
    bigger.cells = pc_alloc(n_cells, sizeof(struct pc_map_cell));
    if (bigger.cells == NULL) {
        return false;
    }
    for (size_t i = 0; i < map->n_cells; i++) {
        if (map->cells[i].used) {
            bigger.cells[find(&bigger, map->cells[i].key)] = map->cells[i];
        }
    }
    pc_free(map->cells);
    *map = bigger;
    return true;
}

bool pc_map_reserve(struct pc_map *map, size_t n)
{
    size_t n_cells = map->n_cells == 0 ? FIRST_CELLS : map->n_cells;
    while (!fits(n, n_cells)) {
        if (n_cells > SIZE_MAX / 2) {
            return false;
        }
        n_cells *= 2;
    }
    return n_cells == map->n_cells || rebuild(map, n_cells);
}

bool pc_map_put(struct pc_map *map, struct pc_digest key, uint64_t value)
{
    if (map->n_cells > 0) {
        struct pc_map_cell *cell = &map->cells[find(map, key)];
        if (cell->used) {
            cell->value = value;
            return true;
        }
    }
    if (!pc_map_reserve(map, map->n_used + 1)) {
        return false;
    }
    map->cells[find(map, key)] =
        (struct pc_map_cell){.key = key, .value = value, .used = true};
    map->n_used++;
    return true;
}

bool pc_map_get(const struct pc_map *map, struct pc_digest key,
                uint64_t *value_p)
{
    if (map->n_used == 0) {
        return false;
    }
    const struct pc_map_cell *cell = &map->cells[find(map, key)];
    if (!cell->used) {
        return false;
    }
    *value_p = cell->value;
    return true;
}

bool pc_map_remove(struct pc_map *map, struct pc_digest key)
{
    if (map->n_used == 0) {
        return false;
    }
    size_t mask = map->n_cells - 1;
    size_t hole = find(map, key);
    if (!map->cells[hole].used) {
        return false;
    }
    /* Close the hole with the next of the run that may stand there: one whose
     * home is not between the hole (exclusive) and its own place. */
    for (size_t at = (hole + 1) & mask; map->cells[at].used;
         at = (at + 1) & mask) {
        size_t distance = (at - home(map, map->cells[at].key)) & mask;
        if (distance >= ((at - hole) & mask)) {
            map->cells[hole] = map->cells[at];
            hole = at;
        }
    }
    map->cells[hole].used = false;
    map->n_used--;
    return true;
}

bool pc_map_next(const struct pc_map *map, size_t *at, struct pc_digest *key_p,
                 uint64_t *value_p)
{
    while (*at < map->n_cells) {
        const struct pc_map_cell *cell = &map->cells[(*at)++];
        if (cell->used) {
            *key_p = cell->key;
            *value_p = cell->value;
            return true;
        }
    }
    return false;
}
