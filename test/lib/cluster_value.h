/*
 * cluster_value.h - the bytes of a simulated cluster's values, and the memory
 * that its operations hand to the library.
 *
 * Values are functions of their word and version; those asked for lately are
 * kept, as making them anew costs more than all that a run does with them.
 *
 * Memory of operations is handed out from one range, page by page, and is taken
 * away from the process when its operation ends: nobody gets it again before
 * the cluster is destroyed. The range itself outlives the cluster, so that the
 * next one finds pages that are already there.
 */
#ifndef PC_TEST_CLUSTER_VALUE_H
#define PC_TEST_CLUSTER_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Between and behind the pieces of a get, and in them until something lands. */
#define CLUSTER_PATTERN 0xa5

size_t cluster_value_length(const char *word, unsigned version);
void cluster_value(const char *word, unsigned version, uint8_t *bytes,
                   size_t len);

struct cluster_values;
struct cluster_values *cluster_values_create(void);
void cluster_values_destroy(struct cluster_values *values);
/* cluster_value_length bytes, until the next call. */
const uint8_t *cluster_values_get(struct cluster_values *values,
                                  const char *word, unsigned version);

struct cluster_arena;
struct cluster_arena *cluster_arena_take(void);
void cluster_arena_give(struct cluster_arena *arena);
/* Whole pages; what is in them is anything. */
void *cluster_arena_pages(struct cluster_arena *arena, size_t len);
/* Who touches them from now on dies on the spot. False: they cannot be. */
bool cluster_arena_take_away(void *pages, size_t len);

#endif /* PC_TEST_CLUSTER_VALUE_H */
