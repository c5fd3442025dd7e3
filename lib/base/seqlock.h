/*
 * seqlock.h - the header of a slot, and the one function that copies bytes out
 * of a slot that somebody may be giving up meanwhile (rule 2).
 *
 * Headers live in memory that other processes map or read by RDMA, so their
 * layout is fixed. Only the owner writes them:
 *
 *     free/reserved (odd) ── fill ── seal: fence, even ──► sealed
 *        ▲                                                   │
 *        └────────── give up: odd, seq_cst fence ◄───────────┘
 *
 * A generation never repeats in a node's life. A reader that finds the same
 * even generation, digest and length before and after its copy has the bytes
 * of that value. Any thread, any process.
 */
#ifndef PC_BASE_SEQLOCK_H
#define PC_BASE_SEQLOCK_H

#include "digest.h"

#include <stdatomic.h>

struct pc_slot_header
{
    _Atomic uint64_t generation; /* Even: sealed. */
    _Atomic uint64_t digest_lo;
    _Atomic uint64_t digest_hi;
    _Atomic uint64_t length;
    _Atomic uint64_t offset; /* Of the extent in its region. */
    _Atomic uint64_t checksum;
    uint64_t reserved[2]; /* Zero. */
};

_Static_assert(sizeof(struct pc_slot_header) == 64, "shared layout");

/* What page 0 of a region says (rule 8); fixed layout, little-endian. */
#define PC_REGION_MAGIC 0x31474552454843ull
struct pc_region_page
{
    uint64_t magic;
    uint32_t layout_version;
    uint32_t n_slots;
    uint64_t nonce;
    uint64_t incarnation;
    uint64_t length;       /* Of the region, bytes. */
    uint64_t slots_offset; /* Of the slot table. */
    uint64_t data_offset;  /* Of the first extent. */
    uint64_t reserved;
};
_Static_assert(sizeof(struct pc_region_page) == 64, "shared layout");

/* What a reader wants to find in a slot. */
struct pc_slot_want
{
    struct pc_digest digest;
    uint64_t generation;
    uint64_t length;
    uint64_t offset;
};

/* Whether the header says now what is wanted. */
bool pc_slot_matches(const struct pc_slot_header *header,
                     const struct pc_slot_want *want);

/*
 * Copy the whole value at `from` (want->length bytes) into the pieces, which
 * sum to that length. True: the bytes are the value's. False: the slot does
 * not hold, or no longer holds, what is wanted; then the pieces are undefined,
 * but untouched if it did not match to begin with.
 */
bool pc_slot_copy(const struct pc_slot_header *header,
                  const struct pc_slot_want *want, const void *from,
                  const peercache_piece_t *pieces, size_t n_pieces);

/* Owner: write the header of a slot whose generation is odd, and seal it. */
void pc_slot_seal(struct pc_slot_header *header,
                  const struct pc_slot_want *want, uint64_t checksum);
/* Owner: make the generation odd before anyone writes to extent or header. */
void pc_slot_unseal(struct pc_slot_header *header, uint64_t odd_generation);

/* memcpy, or relaxed atomic words under the thread sanitizer: for bytes that
 * another thread may be overwriting while they are copied and checked after. */
void pc_racy_copy(void *to, const void *from, size_t len);
/* The writing side of the same: into an extent that a reader may still be
 * copying (and will then throw away). */
void pc_racy_fill(void *to, const void *from, size_t len);
/* The same past the caches, where the processor has such stores and `to` is
 * aligned to 16 bytes: what is written need not be read from memory first, and
 * drives nothing else out. They are ordered with nothing before
 * pc_racy_stream_end, which must come before the seal. */
void pc_racy_stream(void *to, const void *from, size_t len);
void pc_racy_stream_end(void);

#endif /* PC_BASE_SEQLOCK_H */
