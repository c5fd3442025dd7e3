/*
 * evict.h - which value goes next: policies behind four functions.
 *
 * A policy orders entries that the store embeds in its slots; it never frees
 * anything itself. LRU is here; others come beside it. Not thread-safe: the
 * store's lock guards it.
 */
#ifndef PC_STORE_EVICT_H
#define PC_STORE_EVICT_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct pc_evict_entry
{
    struct pc_list link;
};

struct pc_evict; /* State of one policy. Each implementation embeds it. */

struct pc_evict_ops
{
    const char *name;
    struct pc_evict *(*create)(void);
    void (*destroy)(struct pc_evict *evict);
    void (*insert)(struct pc_evict *evict, struct pc_evict_entry *entry);
    void (*touch)(struct pc_evict *evict, struct pc_evict_entry *entry);
    void (*remove)(struct pc_evict *evict, struct pc_evict_entry *entry);
    /* The entry that should go after `after` (NULL: first of all) if that one
     * cannot; NULL at the end. */
    struct pc_evict_entry *(*victim)(struct pc_evict *evict,
                                     struct pc_evict_entry *after);
};

const struct pc_evict_ops *pc_evict_lru(void);

#endif /* PC_STORE_EVICT_H */
