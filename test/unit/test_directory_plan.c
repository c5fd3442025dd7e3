#include "test.h"

#include "directory/plan.h"

static void keys_come_out_by_target_in_order(void **state)
{
    (void)state;
    struct pc_plan plan;
    pc_plan_init(&plan);
    uint64_t targets[] = {7, 9, 7, 7, 1, 9};
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(pc_plan_add(&plan, targets[i], 100 + i));
    }
    assert_true(pc_plan_finish(&plan, 10));
    assert_int_equal(plan.n_groups, 3);
    assert_int_equal(plan.groups[0].target, 7);
    assert_int_equal(plan.groups[0].n_keys, 3);
    assert_int_equal(plan.keys[plan.groups[0].first], 100);
    assert_int_equal(plan.keys[plan.groups[0].first + 1], 102);
    assert_int_equal(plan.keys[plan.groups[0].first + 2], 103);
    assert_int_equal(plan.groups[1].target, 9);
    assert_int_equal(plan.keys[plan.groups[1].first + 1], 105);
    assert_int_equal(plan.groups[2].target, 1);
    pc_plan_fini(&plan);
}

static void a_long_group_is_cut(void **state)
{
    (void)state;
    struct pc_plan plan;
    pc_plan_init(&plan);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(pc_plan_add(&plan, i % 2, i));
    }
    assert_true(pc_plan_finish(&plan, 150));
    assert_int_equal(plan.n_groups, 8);
    uint32_t n[2] = {0, 0};
    for (size_t g = 0; g < plan.n_groups; g++) {
        const struct pc_plan_group *group = &plan.groups[g];
        assert_in_range(group->n_keys, 1, 150);
        for (uint32_t i = 0; i < group->n_keys; i++) {
            uint32_t key = plan.keys[group->first + i];
            assert_int_equal(key, 2 * n[group->target] + group->target);
            n[group->target]++;
        }
    }
    assert_int_equal(n[0], 500);
    assert_int_equal(n[1], 500);
    pc_plan_fini(&plan);
}

static void a_cleared_plan_knows_nothing_of_the_last_batch(void **state)
{
    (void)state;
    struct pc_plan plan;
    pc_plan_init(&plan);
    for (uint64_t round = 0; round < 50; round++) {
        pc_plan_clear(&plan);
        for (uint32_t i = 0; i < 100; i++) {
            assert_true(pc_plan_add(&plan, 1000 * round + i % 10, i));
        }
        assert_true(pc_plan_finish(&plan, 0));
        assert_int_equal(plan.n_groups, 10);
        for (size_t g = 0; g < 10; g++) {
            assert_int_equal(plan.groups[g].target, 1000 * round + g);
            assert_int_equal(plan.groups[g].n_keys, 10);
        }
    }
    pc_plan_clear(&plan);
    assert_true(pc_plan_finish(&plan, 5));
    assert_int_equal(plan.n_groups, 0);
    pc_plan_fini(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_out_by_target_in_order),
        cmocka_unit_test(a_long_group_is_cut),
        cmocka_unit_test(a_cleared_plan_knows_nothing_of_the_last_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
