/* Tests of base/rand.h and base/clock.h. */
#include "test.h"

#include "base/clock.h"
#include "base/rand.h"

static void a_seed_gives_the_known_sequence(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 1234567);
    /* The published reference values of splitmix64. */
    assert_true(pc_rand_u64(&r) == 6457827717110365317ull);
    assert_true(pc_rand_u64(&r) == 3203168211198807973ull);
    assert_true(pc_rand_u64(&r) == 9817491932198370423ull);
}

static void bounded_numbers_stay_below_and_reach_everything(void **state)
{
    (void)state;
    struct pc_rand r;
    unsigned seen = 0;
    pc_rand_init(&r, 3);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = pc_rand_below(&r, 10);
        assert_in_range(x, 0, 9);
        seen |= 1u << x;
    }
    assert_int_equal(seen, 0x3ff);
    assert_int_equal(pc_rand_below(&r, 0), 0);
    assert_int_equal(pc_rand_below(&r, 1), 0);
    assert_true(pc_rand_below(&r, UINT64_MAX) < UINT64_MAX);
}

static void two_seeds_of_the_system_differ(void **state)
{
    (void)state;
    assert_true(pc_rand_entropy() != pc_rand_entropy());
}

static void monotonic_time_does_not_go_back(void **state)
{
    (void)state;
    struct pc_clock clock = pc_clock_system();
    uint64_t before = pc_clock_monotonic();
    uint64_t now = pc_clock_now(&clock);
    assert_true(now >= before);
    /* Some day after 2020: in nanoseconds, not another unit. */
    assert_true(pc_clock_wall() > 1577836800ull * PC_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_known_sequence),
        cmocka_unit_test(bounded_numbers_stay_below_and_reach_everything),
        cmocka_unit_test(two_seeds_of_the_system_differ),
        cmocka_unit_test(monotonic_time_does_not_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
