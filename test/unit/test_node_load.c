#include "test.h"

#include "node/node.h"

#define MIB ((uint64_t)1 << 20)

static void a_step_is_eight_times_the_one_before(void **state)
{
    (void)state;
    assert_int_equal(pc_load_level(0, 0, 0), 0);
    assert_int_equal(pc_load_level(31 * MIB, 0, 0), 0);
    assert_int_equal(pc_load_level(32 * MIB, 0, 0), 1);
    assert_int_equal(pc_load_level(256 * MIB, 0, 0), 2);
    assert_int_equal(pc_load_level(2048 * MIB, 0, 0), 3);
    assert_int_equal(pc_load_level(UINT64_MAX, UINT64_MAX, 0), PC_LOAD_MAX);
}

/* A slow network serves few bytes, and many wait. */
static void what_waits_counts_as_well(void **state)
{
    (void)state;
    assert_int_equal(pc_load_level(0, 3 * MIB, 0), 0);
    assert_int_equal(pc_load_level(0, 4 * MIB, 0), 1);
    assert_int_equal(pc_load_level(0, 32 * MIB, 0), 2);
    assert_int_equal(pc_load_level(0, 256 * MIB, 0), 3);
}

static void a_level_falls_at_half_of_what_raised_it(void **state)
{
    (void)state;
    assert_int_equal(pc_load_level(128 * MIB, 0, 2), 2);
    assert_int_equal(pc_load_level(128 * MIB - 1, 0, 2), 1);
    assert_int_equal(pc_load_level(16 * MIB, 0, 1), 1);
    assert_int_equal(pc_load_level(16 * MIB - 1, 0, 1), 0);
    assert_int_equal(pc_load_level(0, 0, 3), 0);
    assert_int_equal(pc_load_level(200 * MIB, 0, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_eight_times_the_one_before),
        cmocka_unit_test(what_waits_counts_as_well),
        cmocka_unit_test(a_level_falls_at_half_of_what_raised_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
