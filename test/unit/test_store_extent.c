#include "test.h"

#include "base/mem.h"
#include "base/rand.h"
#include "store/extent.h"
#include "store/small.h"

#include <stdbool.h>
#include <string.h>

/* The reference: one byte a granule, searched from end to end. */
enum { N_GRANULES = 3000, MAX_RUNS = 3000 };

struct run
{
    uint32_t first, n;
};

struct model
{
    bool taken[N_GRANULES];
    struct run runs[MAX_RUNS];
    size_t n_runs;
};

static uint32_t model_longest(const struct model *model)
{
    uint32_t longest = 0;
    uint32_t here = 0;
    for (uint32_t i = 0; i < N_GRANULES; i++) {
        here = model->taken[i] ? 0 : here + 1;
        longest = here > longest ? here : longest;
    }
    return longest;
}

static uint32_t model_n_free(const struct model *model)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_GRANULES; i++) {
        n += model->taken[i] ? 0 : 1;
    }
    return n;
}

static void set(struct model *model, struct run run, bool taken)
{
    for (uint32_t i = run.first; i < run.first + run.n; i++) {
        assert_true(model->taken[i] != taken);
        model->taken[i] = taken;
    }
}

static uint32_t model_free_before(const struct model *model, uint32_t first)
{
    uint32_t n = 0;
    while (n < first && !model->taken[first - 1 - n]) {
        n++;
    }
    return n;
}

static uint32_t model_free_behind(const struct model *model, uint32_t behind)
{
    uint32_t n = 0;
    while (behind + n < N_GRANULES && !model->taken[behind + n]) {
        n++;
    }
    return n;
}

static void check(const struct pc_extents *extents, const struct model *model)
{
    assert_int_equal(pc_extents_longest(extents), model_longest(model));
    assert_int_equal(pc_extents_n_free(extents), model_n_free(model));
    for (size_t i = 0; i < model->n_runs; i++) {
        struct run run = model->runs[i];
        assert_int_equal(pc_extents_free_before(extents, run.first),
                         model_free_before(model, run.first));
        assert_int_equal(pc_extents_free_behind(extents, run.first, run.n),
                         model_free_behind(model, run.first + run.n));
    }
    /* Walked in both directions, the runs cover everything; two free ones
     * never touch. */
    uint32_t at = 0;
    bool was_free = false;
    while (at < N_GRANULES) {
        struct pc_extent_run run = pc_extents_run(extents, at);
        assert_int_equal(run.first, at);
        assert_true(run.free == !model->taken[at]);
        assert_false(run.free && was_free);
        was_free = run.free;
        at += run.n;
        struct pc_extent_run back = pc_extents_run_before(extents, at);
        assert_int_equal(back.first, run.first);
        assert_int_equal(back.n, run.n);
    }
    assert_int_equal(at, N_GRANULES);
}

static uint32_t random_length(struct pc_rand *r)
{
    switch (pc_rand_below(r, 4)) {
    case 0:
        return 1;
    case 1:
        return 1 + (uint32_t)pc_rand_below(r, 20);
    case 2:
        return 1 + (uint32_t)pc_rand_below(r, 300);
    default:
        return 128 + (uint32_t)pc_rand_below(r, 8);
    }
}

static void random_runs_agree_with_a_bitmap(void **state)
{
    (void)state;
    struct pc_rand r;
    struct model *model = pc_alloc(1, sizeof(*model));
    struct pc_extents *extents = pc_extents_create(N_GRANULES);
    assert_non_null(extents);
    pc_rand_init(&r, 7);
    for (int step = 0; step < 20000; step++) {
        bool grow = pc_rand_below(&r, 100) < (step / 2000 % 2 == 0 ? 60 : 42);
        if (grow) {
            struct run run = {.n = random_length(&r)};
            uint32_t longest = model_longest(model);
            assert_true(pc_extents_fits(extents, run.n) == (run.n <= longest));
            bool ok = pc_extents_alloc(extents, run.n, &run.first);
            assert_true(ok == (run.n <= longest));
            if (ok) {
                set(model, run, true);
                model->runs[model->n_runs++] = run;
                pc_extents_set_owner(extents, run.first, model + run.first);
            }
        } else if (model->n_runs > 0) {
            size_t i = pc_rand_below(&r, model->n_runs);
            struct run run = model->runs[i];
            assert_ptr_equal(pc_extents_run(extents, run.first).owner,
                             model + run.first);
            pc_extents_free(extents, run.first, run.n);
            set(model, run, false);
            model->runs[i] = model->runs[--model->n_runs];
        }
        if (step % 50 == 0) {
            check(extents, model);
        }
    }
    while (model->n_runs > 0) {
        struct run run = model->runs[--model->n_runs];
        pc_extents_free(extents, run.first, run.n);
        set(model, run, false);
    }
    check(extents, model);
    assert_int_equal(pc_extents_longest(extents), N_GRANULES);
    pc_extents_destroy(extents);
    pc_free(model);
}

static void a_search_takes_no_steps_among_many_free_runs(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    struct pc_extents *extents = pc_extents_create(N);
    uint32_t first;
    /* 16384 free runs of three granules, then runs of each length up to 64. */
    for (uint32_t i = 0; i < N / 4; i++) {
        assert_true(pc_extents_alloc(extents, 3, &first));
        assert_true(pc_extents_alloc(extents, 1, &first));
    }
    for (uint32_t at = 0; at < N; at += 4) {
        pc_extents_free(extents, at, 3);
    }
    assert_int_equal(pc_extents_longest(extents), 3);
    for (uint32_t i = 0; i < N / 8; i++) {
        assert_false(pc_extents_alloc(extents, 4, &first));
        assert_true(pc_extents_alloc(extents, 1 + i % 3, &first));
    }
    assert_int_equal(pc_extents_n_steps(extents), 0);
    pc_extents_destroy(extents);
}

static void neighbours_coalesce_in_every_order(void **state)
{
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 6; i++) {
        struct pc_extents *extents = pc_extents_create(30);
        uint32_t firsts[3];
        for (int k = 0; k < 3; k++) {
            assert_true(pc_extents_alloc(extents, 10, &firsts[k]));
        }
        assert_int_equal(pc_extents_longest(extents), 0);
        for (int k = 0; k < 3; k++) {
            pc_extents_free(extents, firsts[orders[i][k]], 10);
        }
        assert_int_equal(pc_extents_longest(extents), 30);
        pc_extents_destroy(extents);
    }
}

static void nothing_and_too_much_are_refused(void **state)
{
    (void)state;
    uint32_t first;
    assert_null(pc_extents_create(0));
    struct pc_extents *extents = pc_extents_create(5);
    assert_false(pc_extents_alloc(extents, 0, &first));
    assert_false(pc_extents_alloc(extents, 6, &first));
    assert_false(pc_extents_alloc(extents, UINT32_MAX, &first));
    assert_true(pc_extents_alloc(extents, 5, &first));
    assert_int_equal(first, 0);
    assert_false(pc_extents_alloc(extents, 1, &first));
    assert_int_equal(pc_extents_free_before(extents, 0), 0);
    assert_int_equal(pc_extents_free_behind(extents, 0, 5), 0);
    pc_extents_destroy(extents);
    pc_mem_fail_after(0);
    assert_null(pc_extents_create(5));
    pc_mem_fail_after(-1);
}

static void small_values_share_a_granule_and_release_it(void **state)
{
    (void)state;
    static const struct
    {
        uint64_t length;
        uint32_t per_granule;
    } cases[] = {{1, 64},  {64, 64}, {65, 32}, {200, 16}, {300, 12}, {448, 9},
                 {576, 7}, {768, 5}, {769, 4}, {1344, 3}, {1345, 2}, {2048, 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pc_extents *extents = pc_extents_create(2);
        struct pc_small small;
        uint64_t offsets[65];
        bool used[64] = {false};
        int size_class = pc_small_class(cases[i].length);
        pc_small_init(&small, extents);
        for (uint32_t k = 0; k <= cases[i].per_granule; k++) {
            assert_int_equal(pc_extents_n_free(extents), k == 0 ? 2 : 1);
            assert_int_equal(pc_small_alloc(&small, size_class, &offsets[k]),
                             PC_SMALL_OK);
            pc_small_set_slot(&small, offsets[k], k);
            assert_int_equal(offsets[k] % 64, 0);
            assert_true(offsets[k] % PC_GRANULE + cases[i].length <=
                        PC_GRANULE);
            if (offsets[k] / PC_GRANULE == offsets[0] / PC_GRANULE) {
                assert_false(used[offsets[k] % PC_GRANULE / 64]);
                used[offsets[k] % PC_GRANULE / 64] = true;
            }
        }
        /* One more than fits in a granule opened the second one. */
        assert_int_equal(pc_extents_n_free(extents), 0);
        pc_small_free(&small, offsets[cases[i].per_granule]);
        assert_int_equal(pc_extents_n_free(extents), 1);
        for (uint32_t k = 0; k < cases[i].per_granule; k++) {
            assert_int_equal(pc_extents_n_free(extents), 1);
            pc_small_free(&small, offsets[k]);
        }
        assert_int_equal(pc_extents_n_free(extents), 2);
        assert_int_equal(small.n_bytes, 0);
        pc_small_fini(&small);
        pc_extents_destroy(extents);
    }
    assert_int_equal(pc_small_class(2049), -1);
    assert_int_equal(pc_small_class(4096), -1);
}

static void a_full_extent_and_no_memory_are_told_apart(void **state)
{
    (void)state;
    struct pc_extents *extents = pc_extents_create(1);
    struct pc_small small;
    uint64_t offset;
    uint32_t first;
    pc_small_init(&small, extents);
    pc_mem_fail_after(0);
    assert_int_equal(pc_small_alloc(&small, 0, &offset), PC_SMALL_NO_MEMORY);
    pc_mem_fail_after(-1);
    assert_int_equal(pc_extents_n_free(extents), 1);
    assert_true(pc_extents_alloc(extents, 1, &first));
    assert_int_equal(pc_small_alloc(&small, 0, &offset), PC_SMALL_FULL);
    pc_small_fini(&small);
    pc_extents_destroy(extents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_agree_with_a_bitmap),
        cmocka_unit_test(a_search_takes_no_steps_among_many_free_runs),
        cmocka_unit_test(neighbours_coalesce_in_every_order),
        cmocka_unit_test(nothing_and_too_much_are_refused),
        cmocka_unit_test(small_values_share_a_granule_and_release_it),
        cmocka_unit_test(a_full_extent_and_no_memory_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
