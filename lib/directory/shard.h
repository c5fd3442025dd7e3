/*
 * shard.h - the part of the directory that is on this node.
 *
 * A set of records keyed by (digest, incarnation); several holders per digest.
 * The higher generation wins, so publishing is idempotent and may come twice
 * or late; a record goes only by its holder's word for the same incarnation and
 * a generation not lower (I4). A retract that overtook its publish leaves no
 * trace: the FIFO of rule 11 keeps that from happening. Engine thread only.
 */
#ifndef PC_DIRECTORY_SHARD_H
#define PC_DIRECTORY_SHARD_H

#include "proto/record.h"

#include <stddef.h>

struct pc_shard;

/* Places of a sweep are the upper bits of a digest's lower half. */
#define PC_SHARD_PLACE_BITS 24

/* max_records bounds its memory (I10); 0 takes 16 Mi. */
struct pc_shard *pc_shard_create(size_t max_records);
void pc_shard_destroy(struct pc_shard *shard);

/* OK: stored, or an equal or newer one is there. NO_SPACE: at the bound.
 * NO_MEMORY. INVALID: length 0, which no holder writes. */
peercache_status_t pc_shard_publish(struct pc_shard *shard,
                                    const struct pc_record *record);
/* True: a record went. */
bool pc_shard_retract(struct pc_shard *shard, const struct pc_record *record);
/* Up to max records of a digest, highest generation of each holder; returns
 * how many there are in all. */
size_t pc_shard_lookup(const struct pc_shard *shard, struct pc_digest digest,
                       struct pc_record *records, size_t max);
size_t pc_shard_count(const struct pc_shard *shard);
size_t pc_shard_bytes(const struct pc_shard *shard);
/* Goes up with every record that comes, is replaced or goes. */
uint64_t pc_shard_changes(const struct pc_shard *shard);

/* Visit every record; drop those for which the function returns false.
 * Visits about max cells (whole segments: at least one, of 2,048 cells or so)
 * from *at on (start with 0) and sets *at to go on; returns false when the end
 * was reached. Records may be published and retracted between two calls: each
 * one that is there all the time is visited exactly once. keep must not touch
 * the shard. */
bool pc_shard_sweep(struct pc_shard *shard, size_t *at, size_t max,
                    bool (*keep)(void *arg, const struct pc_record *record),
                    void *arg);

#endif /* PC_DIRECTORY_SHARD_H */
