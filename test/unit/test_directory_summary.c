#include "test.h"

#include "base/rand.h"
#include "directory/summary.h"

#include <string.h>

enum { RECORDS = 1000 };

static void fill(struct pc_record *records, uint64_t seed)
{
    struct pc_rand r;
    pc_rand_init(&r, seed);
    memset(records, 0, RECORDS * sizeof(*records));
    for (size_t i = 0; i < RECORDS; i++) {
        records[i].digest.lo = pc_rand_u64(&r);
        records[i].digest.hi = pc_rand_u64(&r);
        records[i].incarnation = 7;
        records[i].generation = 2 * (i + 1);
        records[i].length = 1 + i;
    }
}

static void equal_sets_have_equal_sums_in_any_order(void **state)
{
    (void)state;
    static struct pc_record records[RECORDS];
    struct pc_summary a = {{0}, {0}};
    struct pc_summary b = {{0}, {0}};
    fill(records, 1);
    for (size_t i = 0; i < RECORDS; i++) {
        pc_summary_add(&a, &records[i], 1);
        pc_summary_add(&b, &records[RECORDS - 1 - i], 1);
    }
    assert_true(pc_summary_differs(&a, &b) == 0);
    assert_int_equal(pc_summary_count(&a), RECORDS);
    assert_true(pc_summary_hash(&a) == pc_summary_hash(&b));
    assert_memory_equal(&a, &b, sizeof(a));
}

static void what_is_taken_out_is_as_if_it_had_never_been_there(void **state)
{
    (void)state;
    static struct pc_record records[RECORDS];
    struct pc_summary none = {{0}, {0}};
    struct pc_summary sum = {{0}, {0}};
    fill(records, 2);
    for (size_t i = 0; i < RECORDS; i++) {
        pc_summary_add(&sum, &records[i], 1);
    }
    for (size_t i = 0; i < RECORDS; i++) {
        pc_summary_add(&sum, &records[i], -1);
    }
    assert_memory_equal(&sum, &none, sizeof(none));
}

/* Missing, extra, and another generation: each shows in its range only. */
static void a_difference_names_its_range(void **state)
{
    (void)state;
    static struct pc_record records[RECORDS];
    fill(records, 3);
    for (size_t k = 0; k < RECORDS; k++) {
        struct pc_summary a = {{0}, {0}};
        struct pc_summary b = {{0}, {0}};
        struct pc_record other = records[k];
        uint64_t range = (uint64_t)1 << (records[k].digest.lo >> 58);
        other.generation += 2;
        pc_summary_add(&a, &records[k], 1);
        assert_true(pc_summary_differs(&a, &b) == range);
        pc_summary_add(&b, &other, 1);
        assert_true(pc_summary_differs(&a, &b) == range);
        assert_true(pc_summary_hash(&a) != pc_summary_hash(&b));
        pc_summary_add(&b, &other, -1);
        pc_summary_add(&b, &records[k], 1);
        assert_true(pc_summary_differs(&a, &b) == 0);
    }
}

/* XOR alone would not see a record that is there twice. */
static void the_same_record_twice_is_seen(void **state)
{
    (void)state;
    static struct pc_record records[RECORDS];
    struct pc_summary none = {{0}, {0}};
    struct pc_summary twice = {{0}, {0}};
    fill(records, 4);
    pc_summary_add(&twice, &records[0], 1);
    pc_summary_add(&twice, &records[0], 1);
    assert_true(pc_summary_hash(&twice) == pc_summary_hash(&none));
    assert_true(pc_summary_differs(&twice, &none) != 0);
}

static void digests_spread_over_all_ranges(void **state)
{
    (void)state;
    static struct pc_record records[RECORDS];
    struct pc_summary sum = {{0}, {0}};
    fill(records, 5);
    for (size_t i = 0; i < RECORDS; i++) {
        pc_summary_add(&sum, &records[i], 1);
    }
    for (size_t i = 0; i < PC_SUMMARY_RANGES; i++) {
        assert_in_range(sum.counts[i], 1, 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sets_have_equal_sums_in_any_order),
        cmocka_unit_test(what_is_taken_out_is_as_if_it_had_never_been_there),
        cmocka_unit_test(a_difference_names_its_range),
        cmocka_unit_test(the_same_record_twice_is_seen),
        cmocka_unit_test(digests_spread_over_all_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
