#include "test.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "directory/shard.h"

#include <stdio.h>
#include <string.h>

static struct pc_record make_record(struct pc_digest digest,
                                    uint64_t incarnation, uint64_t generation)
{
    struct pc_record r;
    memset(&r, 0, sizeof(r));
    r.digest = digest;
    r.incarnation = incarnation;
    r.generation = generation;
    r.length = 4096 + generation;
    return r;
}

static struct pc_digest random_digest(struct pc_rand *r)
{
    uint64_t lo = pc_rand_u64(r);
    return (struct pc_digest){lo, pc_rand_u64(r)};
}

static void the_higher_generation_wins(void **state)
{
    (void)state;
    struct pc_shard *shard = pc_shard_create(0);
    struct pc_digest digest = {1, 2};
    struct pc_record old = make_record(digest, 7, 10);
    struct pc_record new = make_record(digest, 7, 12);
    struct pc_record got[4];
    assert_int_equal(pc_shard_publish(shard, &new), PEERCACHE_OK);
    assert_int_equal(pc_shard_publish(shard, &old), PEERCACHE_OK);
    assert_int_equal(pc_shard_publish(shard, &new), PEERCACHE_OK);
    assert_int_equal(pc_shard_count(shard), 1);
    assert_int_equal(pc_shard_lookup(shard, digest, got, 4), 1);
    assert_memory_equal(&got[0], &new, sizeof(new));
    pc_shard_destroy(shard);
}

static void a_record_goes_only_by_its_holders_word(void **state)
{
    (void)state;
    struct pc_shard *shard = pc_shard_create(0);
    struct pc_digest digest = {1, 2};
    struct pc_record stored = make_record(digest, 7, 10);
    struct pc_record word = stored;
    assert_int_equal(pc_shard_publish(shard, &stored), PEERCACHE_OK);
    word.incarnation = 8;
    assert_false(pc_shard_retract(shard, &word));
    word.incarnation = 7;
    word.generation = 8;
    assert_false(pc_shard_retract(shard, &word));
    assert_int_equal(pc_shard_count(shard), 1);
    word.generation = 14;
    assert_true(pc_shard_retract(shard, &word));
    assert_false(pc_shard_retract(shard, &word));
    assert_int_equal(pc_shard_count(shard), 0);
    assert_int_equal(pc_shard_publish(shard, &stored), PEERCACHE_OK);
    assert_true(pc_shard_retract(shard, &stored));
    pc_shard_destroy(shard);
}

static bool drop_all(void *arg, const struct pc_record *record)
{
    (void)arg;
    (void)record;
    return false;
}

static void every_change_of_a_record_is_counted(void **state)
{
    (void)state;
    struct pc_shard *shard = pc_shard_create(0);
    struct pc_digest digest = {1, 2};
    struct pc_record first = make_record(digest, 7, 10);
    struct pc_record second = make_record(digest, 7, 12);
    size_t at = 0;
    assert_int_equal(pc_shard_publish(shard, &first), PEERCACHE_OK);
    assert_int_equal(pc_shard_changes(shard), 1);
    assert_int_equal(pc_shard_publish(shard, &second), PEERCACHE_OK);
    assert_int_equal(pc_shard_changes(shard), 2);
    assert_int_equal(pc_shard_publish(shard, &first), PEERCACHE_OK);
    assert_false(pc_shard_retract(shard, &first));
    assert_int_equal(pc_shard_changes(shard), 2);
    assert_true(pc_shard_retract(shard, &second));
    assert_int_equal(pc_shard_changes(shard), 3);
    assert_int_equal(pc_shard_publish(shard, &first), PEERCACHE_OK);
    assert_false(pc_shard_sweep(shard, &at, SIZE_MAX, drop_all, NULL));
    assert_int_equal(pc_shard_changes(shard), 5);
    pc_shard_destroy(shard);
}

static void a_digest_may_have_many_holders(void **state)
{
    (void)state;
    enum { HOLDERS = 4096 };
    struct pc_shard *shard = pc_shard_create(0);
    struct pc_digest digest = {~0ull, 2}; /* Its cells wrap around. */
    struct pc_record *got = pc_alloc(HOLDERS, sizeof(*got));
    assert_non_null(got);
    for (uint64_t i = 1; i <= HOLDERS; i++) {
        struct pc_record record = make_record(digest, i, 2 * i);
        assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
    }
    assert_int_equal(pc_shard_lookup(shard, digest, got, 3), HOLDERS);
    assert_int_equal(pc_shard_lookup(shard, digest, got, HOLDERS), HOLDERS);
    uint64_t sum = 0;
    for (size_t i = 0; i < HOLDERS; i++) {
        assert_int_equal(got[i].generation, 2 * got[i].incarnation);
        sum += got[i].incarnation;
    }
    assert_int_equal(sum, (uint64_t)HOLDERS * (HOLDERS + 1) / 2);
    for (uint64_t i = 1; i <= HOLDERS; i++) {
        struct pc_record record = make_record(digest, i, 2 * i);
        assert_true(pc_shard_retract(shard, &record));
    }
    assert_int_equal(pc_shard_count(shard), 0);
    pc_free(got);
    pc_shard_destroy(shard);
}

static void a_full_shard_refuses_politely(void **state)
{
    (void)state;
    struct pc_shard *shard = pc_shard_create(100);
    for (uint64_t i = 0; i < 100; i++) {
        struct pc_digest digest = {i << 40, i};
        struct pc_record record = make_record(digest, 1, 2);
        assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
    }
    struct pc_digest more = {5, 5};
    struct pc_record record = make_record(more, 1, 2);
    assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_NO_SPACE);
    struct pc_digest there = {1ull << 40, 1};
    record = make_record(there, 1, 4);
    assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
    assert_true(pc_shard_retract(shard, &record));
    record = make_record(more, 1, 2);
    assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
    record.length = 0;
    assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_INVALID);
    pc_shard_destroy(shard);
}

/* The reference: one generation per (digest number, incarnation). */
enum { DIGESTS = 6000, HOLDERS = 4 };

struct model
{
    uint64_t generation[DIGESTS][HOLDERS]; /* 0: not there. */
    size_t n;
};

/* A third of the digests is crowded into few homes. */
static struct pc_digest digest_number(uint64_t number)
{
    struct pc_rand r;
    pc_rand_init(&r, number);
    struct pc_digest digest = random_digest(&r);
    if (number % 3 == 0) {
        digest.lo = (digest.lo & 0x7) << 29;
    }
    return digest;
}

static void compare(const struct pc_shard *shard, const struct model *model,
                    uint64_t number)
{
    struct pc_record got[HOLDERS];
    size_t n = pc_shard_lookup(shard, digest_number(number), got, HOLDERS);
    size_t n_expected = 0;
    for (size_t h = 0; h < HOLDERS; h++) {
        n_expected += model->generation[number][h] != 0;
    }
    assert_int_equal(n, n_expected);
    for (size_t i = 0; i < n; i++) {
        assert_in_range(got[i].incarnation, 1, HOLDERS);
        uint64_t generation = model->generation[number][got[i].incarnation - 1];
        assert_int_equal(got[i].generation, generation);
        assert_int_equal(got[i].length, 4096 + generation);
    }
}

static bool keep_above(void *arg, const struct pc_record *record)
{
    return record->generation >= *(uint64_t *)arg;
}

/* Sweep in small parts. */
static void sweep_model(struct pc_shard *shard, struct model *model,
                        uint64_t bound)
{
    size_t at = 0;
    while (pc_shard_sweep(shard, &at, 100, keep_above, &bound)) {
    }
    for (size_t d = 0; d < DIGESTS; d++) {
        for (size_t h = 0; h < HOLDERS; h++) {
            uint64_t *generation = &model->generation[d][h];
            if (*generation != 0 && *generation < bound) {
                *generation = 0;
                model->n--;
            }
        }
    }
}

static void random_step(struct pc_shard *shard, struct model *model,
                        struct pc_rand *r, unsigned publish_percent)
{
    uint64_t number = pc_rand_below(r, DIGESTS);
    uint64_t holder = pc_rand_below(r, HOLDERS);
    uint64_t generation = 2 + 2 * pc_rand_below(r, 1000);
    uint64_t *known = &model->generation[number][holder];
    struct pc_record record =
        make_record(digest_number(number), holder + 1, generation);
    if (pc_rand_below(r, 100) < publish_percent) {
        assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
        model->n += *known == 0;
        *known = *known > generation ? *known : generation;
    } else {
        bool goes = *known != 0 && *known <= generation;
        assert_int_equal(pc_shard_retract(shard, &record), goes);
        if (goes) {
            *known = 0;
            model->n--;
        }
    }
    compare(shard, model, number);
}

static void a_shard_behaves_like_its_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct pc_rand r;
        struct model *model = pc_alloc(1, sizeof(*model));
        struct pc_shard *shard = pc_shard_create(0);
        pc_rand_init(&r, seed);
        for (unsigned round = 0; round < 6; round++) {
            for (int i = 0; i < 30000; i++) {
                random_step(shard, model, &r, round % 2 == 0 ? 80 : 30);
            }
            sweep_model(shard, model, 2 * pc_rand_below(&r, 600));
            assert_int_equal(pc_shard_count(shard), model->n);
            for (uint64_t d = 0; d < DIGESTS; d++) {
                compare(shard, model, d);
            }
        }
        pc_shard_destroy(shard);
        pc_free(model);
    }
}

struct visits
{
    unsigned char *n;
};

static bool count_visit(void *arg, const struct pc_record *record)
{
    struct visits *visits = arg;
    if (record->generation < 4) {
        visits->n[record->offset]++;
    }
    return true;
}

static void a_sweep_sees_each_record_once_while_the_shard_grows(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct pc_rand r;
    struct pc_shard *shard = pc_shard_create(0);
    struct visits visits = {pc_alloc(N, 1)};
    pc_rand_init(&r, 9);
    for (uint64_t i = 0; i < N; i++) {
        struct pc_record record = make_record(random_digest(&r), 1, 2);
        record.offset = i;
        assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
    }
    size_t at = 0;
    unsigned n_calls = 0;
    while (pc_shard_sweep(shard, &at, 3000, count_visit, &visits)) {
        n_calls++;
        for (int i = 0; i < 5000; i++) {
            struct pc_record record = make_record(random_digest(&r), 1, 4);
            assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
        }
    }
    assert_true(n_calls > 5);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(visits.n[i], 1);
    }
    pc_free(visits.n);
    pc_shard_destroy(shard);
}

static void a_failed_allocation_loses_nothing(void **state)
{
    (void)state;
    struct pc_rand r;
    struct pc_shard *shard = pc_shard_create(0);
    int64_t n_failed = 0;
    size_t n_stored = 0;
    pc_rand_init(&r, 10);
    for (int i = 0; i < 30000; i++) {
        struct pc_record record = make_record(random_digest(&r), 1, 2);
        if (i % 5 != 0) {
            pc_mem_fail_after((int64_t)pc_rand_below(&r, 2));
        }
        peercache_status_t status = pc_shard_publish(shard, &record);
        pc_mem_fail_after(-1);
        assert_true(status == PEERCACHE_OK || status == PEERCACHE_NO_MEMORY);
        n_failed += status != PEERCACHE_OK;
        n_stored += status == PEERCACHE_OK;
        assert_int_equal(pc_shard_lookup(shard, record.digest, &record, 1),
                         status == PEERCACHE_OK);
    }
    assert_int_equal(pc_shard_count(shard), n_stored);
    pc_shard_destroy(shard);
}

static bool count_one(void *arg, const struct pc_record *record)
{
    (void)record;
    ++*(size_t *)arg;
    return true;
}

/* What one growth may have to move: the records of one segment. */
static void check_segments_are_small(struct pc_shard *shard)
{
    size_t at = 0;
    size_t n = 0;
    while (pc_shard_sweep(shard, &at, 1, count_one, &n)) {
        assert_in_range(n, 0, 2048);
        n = 0;
    }
}

/* Bytes are asserted at every size, times printed. */
static void the_cost_of_a_million_records_is_printed(void **state)
{
    (void)state;
    enum { N = 1000000 };
    struct pc_rand r;
    struct pc_shard *shard = pc_shard_create(0);
    double worst = 0;
    uint64_t longest_ns = 0;
    pc_rand_init(&r, 11);
    uint64_t start = pc_clock_monotonic();
    uint64_t before = start;
    for (int i = 1; i <= N; i++) {
        struct pc_record record = make_record(random_digest(&r), 1, 2);
        assert_int_equal(pc_shard_publish(shard, &record), PEERCACHE_OK);
        uint64_t now = pc_clock_monotonic();
        longest_ns = now - before > longest_ns ? now - before : longest_ns;
        before = now;
        if (i > 2000) {
            double each = (double)pc_shard_bytes(shard) / i;
            worst = each > worst ? each : worst;
        }
    }
    uint64_t stored = pc_clock_monotonic();
    pc_rand_init(&r, 11);
    size_t n_found = 0;
    for (int i = 1; i <= N; i++) {
        struct pc_record record;
        n_found += pc_shard_lookup(shard, random_digest(&r), &record, 1);
    }
    uint64_t found = pc_clock_monotonic();
    assert_int_equal(n_found, N);
    printf("shard of 1 M: %.1f bytes a record (at worst %.1f), publish %.0f ns "
           "(longest %.0f us), lookup %.0f ns\n",
           (double)pc_shard_bytes(shard) / N, worst,
           (double)(stored - start) / N, (double)longest_ns / 1e3,
           (double)(found - stored) / N);
    assert_true(worst <= 128);
    check_segments_are_small(shard);
    pc_shard_destroy(shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_higher_generation_wins),
        cmocka_unit_test(a_record_goes_only_by_its_holders_word),
        cmocka_unit_test(every_change_of_a_record_is_counted),
        cmocka_unit_test(a_digest_may_have_many_holders),
        cmocka_unit_test(a_full_shard_refuses_politely),
        cmocka_unit_test(a_shard_behaves_like_its_model),
        cmocka_unit_test(a_sweep_sees_each_record_once_while_the_shard_grows),
        cmocka_unit_test(a_failed_allocation_loses_nothing),
        cmocka_unit_test(the_cost_of_a_million_records_is_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
