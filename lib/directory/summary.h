/*
 * summary.h - what a set of records is, in a few numbers.
 *
 * A holder and an owner each sum up the records that the owner should have of
 * the holder: count and XOR of hashes, by ranges of digests. Equal sums mean
 * equal sets; different ones name the ranges to look at. Order does not matter,
 * and what was added is taken out by adding it again with -1. Pure data.
 */
#ifndef PC_DIRECTORY_SUMMARY_H
#define PC_DIRECTORY_SUMMARY_H

#include "proto/limits.h"
#include "proto/record.h"

struct pc_summary
{
    uint64_t counts[PC_SUMMARY_RANGES];
    uint64_t hashes[PC_SUMMARY_RANGES];
};

/* The range of a digest: the upper bits of its lower half, by which shards are
 * ordered too. */
static inline uint32_t pc_summary_range(struct pc_digest digest)
{
    return (uint32_t)(digest.lo >> 58);
}
_Static_assert(PC_SUMMARY_RANGES == 64, "six bits, and a mask of 64");

void pc_summary_add(struct pc_summary *summary, const struct pc_record *record,
                    int change);
uint64_t pc_summary_count(const struct pc_summary *summary);
/* XOR over all ranges. */
uint64_t pc_summary_hash(const struct pc_summary *summary);
/* A bit for each range in which two differ. */
uint64_t pc_summary_differs(const struct pc_summary *a,
                            const struct pc_summary *b);

#endif /* PC_DIRECTORY_SUMMARY_H */
