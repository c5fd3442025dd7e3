/*
 * map.h - hash map from a 128-bit key to a 64-bit value; not thread-safe.
 *
 * Open addressing with linear probing; removal shifts back, so there are no
 * tombstones and nothing decays. Keys are digests or made of unique numbers
 * ({incarnation, 0}), so their own bits serve as the hash, mixed once.
 */
#ifndef PC_BASE_MAP_H
#define PC_BASE_MAP_H

#include "digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_map_cell
{
    struct pc_digest key;
    uint64_t value;
    bool used;
};

struct pc_map
{
    struct pc_map_cell *cells; /* NULL until the first put. */
    size_t n_cells;            /* A power of two, or 0. */
    size_t n_used;
};

void pc_map_init(struct pc_map *map);
void pc_map_fini(struct pc_map *map);
/* Make room for n keys in all; false: no memory, nothing changed. */
bool pc_map_reserve(struct pc_map *map, size_t n);
/* Set a key, new or not; false: no memory, nothing changed. */
bool pc_map_put(struct pc_map *map, struct pc_digest key, uint64_t value);
bool pc_map_get(const struct pc_map *map, struct pc_digest key,
                uint64_t *value_p);
bool pc_map_remove(struct pc_map *map, struct pc_digest key);
/* Iterate: start with *at = 0; false at the end. No change meanwhile. */
bool pc_map_next(const struct pc_map *map, size_t *at, struct pc_digest *key_p,
                 uint64_t *value_p);

static inline struct pc_digest pc_map_key(uint64_t number)
{
    return (struct pc_digest){number, 0};
}

#endif /* PC_BASE_MAP_H */
