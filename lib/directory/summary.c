#include "summary.h"

void pc_summary_add(struct pc_summary *summary, const struct pc_record *record,
                    int change)
{
    uint32_t range = pc_summary_range(record->digest);
    summary->counts[range] += (uint64_t)(int64_t)change;
    summary->hashes[range] ^= pc_record_hash(record);
}

uint64_t pc_summary_count(const struct pc_summary *summary)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < PC_SUMMARY_RANGES; i++) {
        n += summary->counts[i];
    }
    return n;
}

uint64_t pc_summary_hash(const struct pc_summary *summary)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < PC_SUMMARY_RANGES; i++) {
        hash ^= summary->hashes[i];
    }
    return hash;
}

uint64_t pc_summary_differs(const struct pc_summary *a,
                            const struct pc_summary *b)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < PC_SUMMARY_RANGES; i++) {
        if (a->counts[i] != b->counts[i] || a->hashes[i] != b->hashes[i]) {
            mask |= (uint64_t)1 << i;
        }
    }
    return mask;
}
