/*
 * evict.h - which value goes next: policies behind four functions.
 *
 * A policy orders entries that the store embeds in its slots; it never frees
 * anything itself. Every function takes constant time, and none but create
 * needs memory to succeed. Not thread-safe: the store's lock guards it.
 *
 *     lru      one list, the one used longest ago goes first
 *     s3fifo   a small queue for what is new, a main queue for what was used
 *              again, and a memory of what left the small one (the default)
 */
#ifndef PC_STORE_EVICT_H
#define PC_STORE_EVICT_H

#include "base/digest.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct pc_evict_entry
{
    struct pc_list link;
    struct pc_digest digest; /* The same when the value comes back. */
    uint64_t length : 61;
    /* The policy's own, from insert on. */
    uint64_t is_used : 1;
    uint64_t queue : 2;
};
#define PC_EVICT_LENGTH_MAX ((1ull << 61) - 1)

struct pc_evict; /* State of one policy. Each implementation embeds it. */

struct pc_evict_ops
{
    const char *name;
    struct pc_evict *(*create)(void);
    void (*destroy)(struct pc_evict *evict);
    /* Memory beside the entries. */
    uint64_t (*n_bytes)(const struct pc_evict *evict);

    /* Values that came back while the policy still knew that it had let them
     * go: those that it should rather have kept. */
    uint64_t (*n_back)(const struct pc_evict *evict);

    /* A value is new. */
    void (*insert)(struct pc_evict *evict, struct pc_evict_entry *entry);
    /* It was used, or somebody asked whether it is there. */
    void (*touch)(struct pc_evict *evict, struct pc_evict_entry *entry);
    /* It cannot go now, for somebody holds it: its turn comes again behind that
     * of the others of its queue. */
    void (*defer)(struct pc_evict *evict, struct pc_evict_entry *entry);
    /* It is gone; evicted says whether that was our doing. */
    void (*remove)(struct pc_evict *evict, struct pc_evict_entry *entry,
                   bool evicted);
    /* The entry that should go after `after` (NULL: first of all) if that one
     * cannot; NULL at the end. May reorder entries, but whoever walks meets
     * every entry, and no use of an entry keeps it from being named. */
    struct pc_evict_entry *(*victim)(struct pc_evict *evict,
                                     struct pc_evict_entry *after);
};

const struct pc_evict_ops *pc_evict_lru(void);
const struct pc_evict_ops *pc_evict_s3fifo(void);

#endif /* PC_STORE_EVICT_H */
