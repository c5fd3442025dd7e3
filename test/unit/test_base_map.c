/* Tests of base/map.h. */
#include "test.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"

#include <string.h>

enum { N_KEYS = 200, N_STEPS = 100000 };

/* The model: value of key i, 0 for none. */
struct model
{
    uint64_t values[N_KEYS];
    size_t n_used;
};

static struct pc_digest key_of(uint64_t i)
{
    return (struct pc_digest){.lo = i, .hi = i % 3};
}

static void check_all(const struct pc_map *map, const struct model *model)
{
    for (uint64_t i = 0; i < N_KEYS; i++) {
        uint64_t value = 0;
        bool found = pc_map_get(map, key_of(i), &value);
        assert_int_equal(found, model->values[i] != 0);
        assert_int_equal(value, model->values[i]);
    }
    size_t at = 0;
    size_t n_seen = 0;
    struct pc_digest key;
    uint64_t value;
    while (pc_map_next(map, &at, &key, &value)) {
        assert_int_equal(model->values[key.lo], value);
        n_seen++;
    }
    assert_int_equal(n_seen, model->n_used);
    assert_int_equal(map->n_used, model->n_used);
}

/* Alternates between phases that mostly put and mostly remove, so that the
 * table is often full up to its limit and runs wrap around its end. */
static void random_changes_match_a_plain_array(void **state)
{
    (void)state;
    struct pc_map map;
    struct model model;
    struct pc_rand r;
    memset(&model, 0, sizeof(model));
    pc_map_init(&map);
    pc_rand_init(&r, 2);
    for (int step = 0; step < N_STEPS; step++) {
        uint64_t i = pc_rand_below(&r, N_KEYS);
        uint64_t put_share = step / 1000 % 2 == 0 ? 9 : 2;
        if (pc_rand_below(&r, 10) < put_share) {
            uint64_t value = 1 + pc_rand_below(&r, 1000);
            assert_true(pc_map_put(&map, key_of(i), value));
            model.n_used += model.values[i] == 0;
            model.values[i] = value;
        } else {
            bool was = model.values[i] != 0;
            assert_int_equal(pc_map_remove(&map, key_of(i)), was);
            model.n_used -= was;
            model.values[i] = 0;
        }
        if (step % 50 == 0) {
            check_all(&map, &model);
        }
    }
    check_all(&map, &model);
    pc_map_fini(&map);
}

static void an_empty_map_has_nothing(void **state)
{
    (void)state;
    struct pc_map map;
    struct pc_digest key;
    uint64_t value = 77;
    size_t at = 0;
    pc_map_init(&map);
    assert_false(pc_map_get(&map, pc_map_key(0), &value));
    assert_false(pc_map_remove(&map, pc_map_key(0)));
    assert_false(pc_map_next(&map, &at, &key, &value));
    assert_int_equal(value, 77);
    pc_map_fini(&map);
}

static void the_zero_key_is_a_key_like_others(void **state)
{
    (void)state;
    struct pc_map map;
    uint64_t value;
    pc_map_init(&map);
    assert_true(pc_map_put(&map, pc_map_key(0), 5));
    assert_true(pc_map_get(&map, pc_map_key(0), &value));
    assert_int_equal(value, 5);
    assert_true(pc_map_remove(&map, pc_map_key(0)));
    assert_false(pc_map_get(&map, pc_map_key(0), &value));
    pc_map_fini(&map);
}

static void reserved_room_needs_no_memory_later(void **state)
{
    (void)state;
    struct pc_map map;
    pc_map_init(&map);
    assert_true(pc_map_reserve(&map, 1000));
    pc_mem_fail_after(0);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(pc_map_put(&map, pc_map_key(i << 20), i));
    }
    pc_mem_fail_after(-1);
    pc_map_fini(&map);
}

static void without_memory_a_put_changes_nothing(void **state)
{
    (void)state;
    struct pc_map map;
    uint64_t value;
    uint64_t n = 0;
    pc_map_init(&map);
    do {
        pc_mem_fail_after(n == 0 ? -1 : 0);
    } while (pc_map_put(&map, pc_map_key(n), n) && ++n < 1000);
    pc_mem_fail_after(-1);
    assert_in_range(n, 1, 999);
    assert_int_equal(map.n_used, n);
    assert_false(pc_map_get(&map, pc_map_key(n), &value));
    for (uint64_t i = 0; i < n; i++) {
        assert_true(pc_map_get(&map, pc_map_key(i), &value));
        assert_int_equal(value, i);
    }
    assert_true(pc_map_put(&map, pc_map_key(n), n));
    assert_false(pc_map_reserve(&map, SIZE_MAX));
    pc_map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_match_a_plain_array),
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(the_zero_key_is_a_key_like_others),
        cmocka_unit_test(reserved_room_needs_no_memory_later),
        cmocka_unit_test(without_memory_a_put_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
