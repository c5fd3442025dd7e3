/*
 * cache.h - the location cache: where values were seen last.
 *
 * A hint and nothing more: whoever uses a place proves the bytes afterwards
 * (I5). Fixed size, four places a set; the oldest of a set goes first. Any
 * thread; sets are guarded by a few leaf locks.
 */
#ifndef PC_DIRECTORY_CACHE_H
#define PC_DIRECTORY_CACHE_H

#include "proto/record.h"

#include <stdbool.h>
#include <stddef.h>

struct pc_cache;

/* Room for about n records; 0: a cache that remembers nothing. max_age_ns 0:
 * no limit. NULL: no memory. */
struct pc_cache *pc_cache_create(size_t n_records, uint64_t max_age_ns);
void pc_cache_destroy(struct pc_cache *cache);
void pc_cache_put(struct pc_cache *cache, const struct pc_record *record,
                  uint64_t now_ns);
bool pc_cache_get(struct pc_cache *cache, struct pc_digest digest,
                  uint64_t now_ns, struct pc_record *record_p);
/* Forget the place if it is still the one of this incarnation and generation.
 */
void pc_cache_drop(struct pc_cache *cache, const struct pc_record *record);
size_t pc_cache_count(const struct pc_cache *cache);

#endif /* PC_DIRECTORY_CACHE_H */
