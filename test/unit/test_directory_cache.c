#include "directory/cache.h"
#include "test.h"

static struct pc_record record_of(uint64_t n, uint64_t generation)
{
    return (struct pc_record){.digest = {n, ~n},
                              .incarnation = 7,
                              .generation = generation,
                              .length = 4096};
}

static void a_place_is_found_until_it_is_dropped(void **state)
{
    struct pc_cache *cache = pc_cache_create(64, 0);
    struct pc_record record = record_of(1, 10);
    struct pc_record found;
    (void)state;
    assert_non_null(cache);
    pc_cache_put(cache, &record, 1);
    assert_true(pc_cache_get(cache, record.digest, 2, &found));
    assert_int_equal(found.generation, 10);
    assert_int_equal(pc_cache_count(cache), 1);
    pc_cache_drop(cache, &record);
    assert_false(pc_cache_get(cache, record.digest, 2, &found));
    assert_int_equal(pc_cache_count(cache), 0);
    pc_cache_destroy(cache);
}

static void a_newer_place_survives_the_drop_of_an_older_one(void **state)
{
    struct pc_cache *cache = pc_cache_create(64, 0);
    struct pc_record old = record_of(1, 10);
    struct pc_record new = record_of(1, 12);
    struct pc_record found;
    (void)state;
    pc_cache_put(cache, &old, 1);
    pc_cache_put(cache, &new, 2);
    pc_cache_drop(cache, &old);
    assert_true(pc_cache_get(cache, new.digest, 3, &found));
    assert_int_equal(found.generation, 12);
    pc_cache_destroy(cache);
}

static void places_older_than_the_limit_are_not_used(void **state)
{
    struct pc_cache *cache = pc_cache_create(64, 100);
    struct pc_record record = record_of(1, 10);
    struct pc_record found;
    (void)state;
    pc_cache_put(cache, &record, 1000);
    assert_true(pc_cache_get(cache, record.digest, 1100, &found));
    assert_false(pc_cache_get(cache, record.digest, 1101, &found));
    pc_cache_destroy(cache);
}

static void it_never_holds_more_than_its_size_and_keeps_the_newest(void **state)
{
    struct pc_cache *cache = pc_cache_create(64, 0);
    struct pc_record found;
    (void)state;
    for (uint64_t n = 0; n < 10000; n++) {
        struct pc_record record = record_of(n, 2);
        pc_cache_put(cache, &record, n);
        assert_true(pc_cache_get(cache, record.digest, n, &found));
    }
    assert_in_range(pc_cache_count(cache), 32, 64);
    pc_cache_destroy(cache);
}

static void a_cache_of_size_zero_remembers_nothing(void **state)
{
    struct pc_cache *cache = pc_cache_create(0, 0);
    struct pc_record record = record_of(1, 10);
    struct pc_record found;
    (void)state;
    assert_non_null(cache);
    pc_cache_put(cache, &record, 1);
    assert_false(pc_cache_get(cache, record.digest, 1, &found));
    pc_cache_drop(cache, &record);
    pc_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_found_until_it_is_dropped),
        cmocka_unit_test(a_newer_place_survives_the_drop_of_an_older_one),
        cmocka_unit_test(places_older_than_the_limit_are_not_used),
        cmocka_unit_test(
            it_never_holds_more_than_its_size_and_keeps_the_newest),
        cmocka_unit_test(a_cache_of_size_zero_remembers_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
