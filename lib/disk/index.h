/*
 * index.h - the records on disk, in memory: 56 bytes each, and under 6 for
 * finding them by digest. Pure, not thread-safe.
 *
 * Entries live in chunks and never move; an entry's id is its number. Buckets
 * are grown one at a time (linear hashing), so that no insertion ever has to
 * move the whole table. Several entries may have one digest: one that can be
 * found, newer ones that are being written, and marks (tombstones).
 */
#ifndef PC_DISK_INDEX_H
#define PC_DISK_INDEX_H

#include "base/digest.h"

#define PC_DISK_NONE UINT32_MAX

enum pc_disk_entry_state {
    PC_DISK_FREE,
    PC_DISK_PENDING, /* Has its place in the log, but is not written yet. */
    PC_DISK_LIVE,
    PC_DISK_DEAD, /* Could not be read; on disk it is still there. */
    PC_DISK_MARK  /* A tombstone: nothing older may be found. */
};

struct pc_disk_item
{
    struct pc_digest digest;
    uint64_t checksum;
    uint64_t tag;
    uint32_t length;
    uint32_t at;   /* In units of PC_DISK_UNIT. */
    uint32_t next; /* In the bucket, or in the list of free ones. */
    uint16_t segment;
    uint16_t names_len;
    uint8_t state;
    uint8_t hits;
};

struct pc_disk_index
{
    void **chunks; /* Of entries. */
    void **heads;  /* Of buckets. */
    size_t n_chunks, n_head_chunks;
    uint32_t n_items; /* Ids given out so far; all below are entries. */
    uint32_t first_free;
    uint32_t n_used;
    uint32_t n_buckets;
};

void pc_disk_index_init(struct pc_disk_index *index);
/* Frees all of it; may be used again after another init. */
void pc_disk_index_fini(struct pc_disk_index *index);

/* A new entry of this digest, zero but for that, or PC_DISK_NONE: no memory. */
uint32_t pc_disk_index_add(struct pc_disk_index *index,
                           struct pc_digest digest);
void pc_disk_index_remove(struct pc_disk_index *index, uint32_t id);
/* The entries of one digest, one after the other; PC_DISK_NONE at the end. */
uint32_t pc_disk_index_first(const struct pc_disk_index *index,
                             struct pc_digest digest);
uint32_t pc_disk_index_next(const struct pc_disk_index *index, uint32_t id);
/* id < n_items; may be a free one. */
struct pc_disk_item *pc_disk_index_item(const struct pc_disk_index *index,
                                        uint32_t id);
uint64_t pc_disk_index_bytes(const struct pc_disk_index *index);

#endif /* PC_DISK_INDEX_H */
