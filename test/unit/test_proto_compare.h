/*
 * test_proto_compare.h - do two messages say the same?
 *
 * What pointers lead to is compared, then the pointers are made equal and the
 * rest, padding included, must be equal bytes: samples and decoded messages
 * both start cleared, so a field that someone forgets is found.
 */
#ifndef PC_TEST_PROTO_COMPARE_H
#define PC_TEST_PROTO_COMPARE_H

#include "test.h"

#include "proto/msg.h"

#include <string.h>

#define SAME_ARRAY(a, b, n)                                                    \
    do {                                                                       \
        if ((n) > 0) {                                                         \
            assert_memory_equal((a), (b), (n) * sizeof(*(a)));                 \
        }                                                                      \
        (a) = (b);                                                             \
    } while (0)

static inline void same_blob(struct pc_blob *a, const struct pc_blob *b)
{
    assert_int_equal(a->len, b->len);
    if (a->len > 0) {
        assert_memory_equal(a->data, b->data, a->len);
    }
    a->data = b->data;
}

static inline void same_regions(struct pc_msg_hello *a,
                                const struct pc_msg_hello *b)
{
    assert_int_equal(a->n_regions, b->n_regions);
    for (uint32_t i = 0; i < a->n_regions; i++) {
        struct pc_msg_region region = a->regions[i];
        same_blob(&region.rkey, &b->regions[i].rkey);
        assert_memory_equal(&region, &b->regions[i], sizeof(region));
    }
    a->regions = b->regions;
}

static inline void same_table(struct pc_msg_table *a,
                              const struct pc_msg_table *b)
{
    assert_int_equal(a->n_members, b->n_members);
    SAME_ARRAY(a->members, b->members, a->n_members);
    assert_int_equal(a->n_former, b->n_former);
    for (uint32_t i = 0; i < a->n_former; i++) {
        struct pc_msg_view view = a->former[i];
        assert_int_equal(view.n_members, b->former[i].n_members);
        SAME_ARRAY(view.members, b->former[i].members, view.n_members);
        assert_memory_equal(&view, &b->former[i], sizeof(view));
    }
    a->former = b->former;
    assert_int_equal(a->n_busy, b->n_busy);
    SAME_ARRAY(a->busy, b->busy, a->n_busy);
    SAME_ARRAY(a->loads, b->loads, a->n_busy);
}

static inline void same_about_keys(struct pc_msg *a, const struct pc_msg *b)
{
    switch (a->type) {
    case PC_MSG_LOOKUP:
        assert_int_equal(a->u.lookup.n_keys, b->u.lookup.n_keys);
        SAME_ARRAY(a->u.lookup.digests, b->u.lookup.digests,
                   b->u.lookup.n_keys);
        break;
    case PC_MSG_FOUND:
        assert_int_equal(a->u.found.n_keys, b->u.found.n_keys);
        assert_int_equal(a->u.found.n_records, b->u.found.n_records);
        assert_int_equal(a->u.found.n_holders, b->u.found.n_holders);
        SAME_ARRAY(a->u.found.counts, b->u.found.counts, b->u.found.n_keys);
        SAME_ARRAY(a->u.found.records, b->u.found.records,
                   b->u.found.n_records);
        SAME_ARRAY(a->u.found.holders, b->u.found.holders,
                   b->u.found.n_holders);
        break;
    case PC_MSG_PUBLISH:
        assert_int_equal(a->u.publish.n_entries, b->u.publish.n_entries);
        SAME_ARRAY(a->u.publish.kinds, b->u.publish.kinds,
                   b->u.publish.n_entries);
        SAME_ARRAY(a->u.publish.records, b->u.publish.records,
                   b->u.publish.n_entries);
        break;
    case PC_MSG_PUBLISHED:
        assert_int_equal(a->u.published.n_entries, b->u.published.n_entries);
        SAME_ARRAY(a->u.published.results, b->u.published.results,
                   b->u.published.n_entries);
        break;
    case PC_MSG_TOUCH:
        assert_int_equal(a->u.touch.n_keys, b->u.touch.n_keys);
        SAME_ARRAY(a->u.touch.records, b->u.touch.records, b->u.touch.n_keys);
        break;
    case PC_MSG_TOUCHED:
    case PC_MSG_REMOVED:
        assert_int_equal(a->u.statuses.n_keys, b->u.statuses.n_keys);
        SAME_ARRAY(a->u.statuses.statuses, b->u.statuses.statuses,
                   b->u.statuses.n_keys);
        break;
    case PC_MSG_SUMMARIZED:
        assert_int_equal(a->u.summarized.n_ranges, b->u.summarized.n_ranges);
        SAME_ARRAY(a->u.summarized.counts, b->u.summarized.counts,
                   b->u.summarized.n_ranges);
        SAME_ARRAY(a->u.summarized.hashes, b->u.summarized.hashes,
                   b->u.summarized.n_ranges);
        break;
    case PC_MSG_LISTED:
        assert_int_equal(a->u.listed.n_keys, b->u.listed.n_keys);
        SAME_ARRAY(a->u.listed.digests, b->u.listed.digests,
                   b->u.listed.n_keys);
        SAME_ARRAY(a->u.listed.generations, b->u.listed.generations,
                   b->u.listed.n_keys);
        break;
    case PC_MSG_STALE:
    case PC_MSG_DOUBT:
        assert_int_equal(a->u.stale.n_keys, b->u.stale.n_keys);
        SAME_ARRAY(a->u.stale.records, b->u.stale.records, b->u.stale.n_keys);
        break;
    case PC_MSG_PROMOTED:
        assert_int_equal(a->u.promoted.n_keys, b->u.promoted.n_keys);
        assert_int_equal(a->u.promoted.n_records, b->u.promoted.n_records);
        SAME_ARRAY(a->u.promoted.statuses, b->u.promoted.statuses,
                   b->u.promoted.n_keys);
        SAME_ARRAY(a->u.promoted.records, b->u.promoted.records,
                   b->u.promoted.n_records);
        break;
    case PC_MSG_READ:
    case PC_MSG_PROMOTE:
        assert_int_equal(a->u.read.n_keys, b->u.read.n_keys);
        SAME_ARRAY(a->u.read.records, b->u.read.records, b->u.read.n_keys);
        break;
    case PC_MSG_PAGES:
        assert_int_equal(a->u.pages.n_keys, b->u.pages.n_keys);
        SAME_ARRAY(a->u.pages.statuses, b->u.pages.statuses, b->u.pages.n_keys);
        SAME_ARRAY(a->u.pages.generations, b->u.pages.generations,
                   b->u.pages.n_keys);
        SAME_ARRAY(a->u.pages.lengths, b->u.pages.lengths, b->u.pages.n_keys);
        SAME_ARRAY(a->u.pages.checksums, b->u.pages.checksums,
                   b->u.pages.n_keys);
        break;
    case PC_MSG_BECAUSE:
        assert_int_equal(a->u.because.n_records, b->u.because.n_records);
        assert_int_equal(a->u.because.n_holders, b->u.because.n_holders);
        SAME_ARRAY(a->u.because.dead, b->u.because.dead,
                   b->u.because.n_records);
        SAME_ARRAY(a->u.because.records, b->u.because.records,
                   b->u.because.n_records);
        SAME_ARRAY(a->u.because.holders, b->u.because.holders,
                   b->u.because.n_holders);
        break;
    case PC_MSG_REMOVE:
    case PC_MSG_USED:
        assert_int_equal(a->u.remove.n_keys, b->u.remove.n_keys);
        SAME_ARRAY(a->u.remove.digests, b->u.remove.digests,
                   b->u.remove.n_keys);
        break;
    default:
        break;
    }
}

static inline void assert_same_msg(const struct pc_msg *read,
                                   const struct pc_msg *b)
{
    struct pc_msg a;

    memcpy(&a, read, sizeof(a)); /* With its padding. */
    assert_int_equal(a.type, b->type);
    switch (a.type) {
    case PC_MSG_HELLO:
    case PC_MSG_WELCOME:
        same_blob(&a.u.hello.fabric, &b->u.hello.fabric);
        same_regions(&a.u.hello, &b->u.hello);
        break;
    case PC_MSG_TABLE:
        same_table(&a.u.table, &b->u.table);
        break;
    case PC_MSG_REGION:
        same_blob(&a.u.region.rkey, &b->u.region.rkey);
        break;
    default:
        same_about_keys(&a, b);
        break;
    }
    assert_memory_equal(&a, b, sizeof(a));
}

#endif /* PC_TEST_PROTO_COMPARE_H */
