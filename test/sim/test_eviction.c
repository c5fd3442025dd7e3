/*
 * What a full pool costs, and what goes first: retracts that wait for company,
 * chains whose tails go before their heads, exists that refreshes.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

/* 16 KiB values: 120 of them and the slot table fill the pool. */
static const char small_pool[] =
    "global_segment_size=2mib region_size=2mib location_cache=0";

static uint64_t messages(struct cluster *c)
{
    return cluster_metric(c, 0, PC_METRIC_PUBLISH_MESSAGES);
}

/* Puts of 8 values each, of words m<first> on. */
static void put_batches(struct cluster *c, unsigned first, unsigned n_batches)
{
    for (unsigned b = 0; b < n_batches; b++) {
        char words[256] = "";
        for (unsigned k = 0; k < 8; k++) {
            char word[16];
            (void)snprintf(word, sizeof(word), "%sm%u", k == 0 ? "" : " ",
                           first + 8 * b + k);
            (void)strcat(words, word);
        }
        assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words), PEERCACHE_OK);
        cluster_run(c, 3 * PC_MS);
    }
}

static void a_full_pool_costs_no_more_messages_than_an_empty_one(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(61);
    cluster_start_all(c, 3, small_pool);
    uint64_t before = messages(c);
    put_batches(c, 0, 12);
    uint64_t empty = messages(c) - before;
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_EVICTIONS), 0);
    put_batches(c, 96, 20); /* Fills it. */
    assert_true(cluster_metric(c, 0, PC_METRIC_EVICTIONS) > 0);
    uint64_t evicted = cluster_metric(c, 0, PC_METRIC_EVICTIONS);
    before = messages(c);
    put_batches(c, 256, 12);
    uint64_t full = messages(c) - before;
    evicted = cluster_metric(c, 0, PC_METRIC_EVICTIONS) - evicted;
    print_message("12 puts of 8: %llu messages into an empty pool, %llu into a "
                  "full one, which evicted %llu values\n",
                  (unsigned long long)empty, (unsigned long long)full,
                  (unsigned long long)evicted);
    assert_true(empty >= 12 && evicted >= 90);
    assert_true(full <= empty);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c); /* Every retract arrived. */
    cluster_destroy(c);
}

static void a_retract_alone_goes_after_a_moment(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(62);
    cluster_start_all(c, 2, small_pool);
    put_batches(c, 0, 30);
    cluster_run(c, PC_S);
    assert_true(pc_publish_is_idle(c->nodes[0].node));
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* How many of the words m<first> .. are there, from the front without a gap. */
static unsigned run_of(struct cluster *c, unsigned first, unsigned n,
                       unsigned *n_there)
{
    unsigned run = 0;
    *n_there = 0;
    for (unsigned k = 0; k < n; k++) {
        char word[16];
        struct pc_place place;
        (void)snprintf(word, sizeof(word), "m%u", first + k);
        if (pc_store_find(c->nodes[0].node->store, cluster_digest(c, 0, word),
                          false, &place)) {
            run += run == k;
            (*n_there)++;
        }
    }
    return run;
}

static void the_tail_of_a_chain_goes_first(void **state)
{
    (void)state;
    static const char *const policies[] = {"lru", "s3fifo"};
    for (unsigned p = 0; p < 2; p++) {
        char settings[128];
        (void)snprintf(settings, sizeof(settings), "%s eviction_policy=%s",
                       small_pool, policies[p]);
        struct cluster *c = cluster_create(63 + p);
        cluster_start_all(c, 1, settings);
        char words[512] = "m0";
        for (unsigned k = 1; k < 20; k++) {
            (void)snprintf(words + strlen(words), sizeof(words) - strlen(words),
                           " m%u", k);
        }
        struct cluster_call put = {
            .verb = PC_VERB_PUT, .words = words, .flags = PEERCACHE_OP_CHAIN};
        cluster_wait(cluster_begin(c, &put));
        /* Others push it out, page by page; what is left has no hole. */
        unsigned there = 20;
        bool parts = false;
        for (unsigned i = 0; there > 0; i++) {
            assert_true(i < 200);
            put_batches(c, 100 + 8 * i, 1);
            unsigned run = run_of(c, 0, 20, &there);
            assert_int_equal(run, there);
            parts |= there > 0 && there < 20;
        }
        assert_true(parts);
        cluster_destroy(c);
    }
}

static void exists_refreshes_what_it_finds(void **state)
{
    (void)state;
    static const char *const policies[] = {"lru", "s3fifo"};
    for (unsigned p = 0; p < 2; p++) {
        char settings[128];
        (void)snprintf(settings, sizeof(settings), "%s eviction_policy=%s",
                       small_pool, policies[p]);
        struct cluster *c = cluster_create(65 + p);
        cluster_start_all(c, 1, settings);
        put_batches(c, 0, 2);
        unsigned there;
        for (unsigned i = 0; i < 30; i++) {
            assert_int_equal(
                cluster_do(c, 0, PC_VERB_EXISTS, "m0 m1 m2 m3 m4 m5 m6 m7"),
                PEERCACHE_OK);
            put_batches(c, 100 + 8 * i, 1);
        }
        assert_int_equal(run_of(c, 0, 8, &there), 8);
        assert_int_equal(run_of(c, 8, 8, &there), 0);
        cluster_destroy(c);
    }
}

/* On one machine if memory is to be mapped. */
static struct cluster *two_nodes(uint64_t seed, const char *way,
                                 const char *settings)
{
    struct cluster *c = cluster_create(seed);
    cluster_start(c, 0, 0, settings);
    cluster_start(c, 1, strcmp(way, "mapped") != 0, settings);
    cluster_settle(c, 30 * PC_S);
    return c;
}

/* Another node reads the first eight again and again, by a way that the holder
 * does not notice; with ways, how many of them outlive many puts. */
static unsigned read_beside_puts(const char *way, const char *policy,
                                 uint64_t *n_heard)
{
    char settings[192];
    (void)snprintf(settings, sizeof(settings),
                   "%s eviction_policy=%s read_mode=%s", small_pool, policy,
                   way);
    struct cluster *c = two_nodes(67, way, settings);
    put_batches(c, 0, 2);
    unsigned there;
    for (unsigned i = 0; i < 30; i++) {
        (void)cluster_do(c, 1, PC_VERB_GET, "m0 m1 m2 m3 m4 m5 m6 m7");
        cluster_run(c, 60 * PC_MS); /* The notice goes after 50 ms. */
        put_batches(c, 100 + 8 * i, 1);
    }
    unsigned n_left = run_of(c, 0, 8, &there);
    assert_int_equal(run_of(c, 8, 8, &there), 0);
    *n_heard = cluster_metric(c, 0, PC_METRIC_USES_HEARD);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_USES_TOLD), *n_heard);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
    return n_left;
}

static void what_others_read_without_the_holder_stays(void **state)
{
    (void)state;
    static const char *const ways[] = {"mapped", "one-sided"};
    static const char *const policies[] = {"lru", "s3fifo"};
    for (unsigned w = 0; w < 2; w++) {
        for (unsigned p = 0; p < 2; p++) {
            uint64_t n_heard;
            assert_int_equal(read_beside_puts(ways[w], policies[p], &n_heard),
                             8);
            assert_int_equal(n_heard, 30 * 8);
        }
    }
}

static void many_reads_of_a_value_are_told_once(void **state)
{
    (void)state;
    struct cluster *c = two_nodes(68, "mapped",
                                  "global_segment_size=2mib region_size=2mib "
                                  "read_mode=mapped");
    put_batches(c, 0, 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "m0 m1"), PEERCACHE_OK);
    }
    cluster_run(c, 100 * PC_MS);
    uint64_t n = cluster_metric(c, 0, PC_METRIC_USES_HEARD);
    assert_true(n >= 2 && n <= 8);
    /* Who reads nothing says nothing. */
    cluster_run(c, PC_S);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_USES_HEARD), n);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_USES_DROPPED), 0);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_pool_costs_no_more_messages_than_an_empty_one),
        cmocka_unit_test(a_retract_alone_goes_after_a_moment),
        cmocka_unit_test(the_tail_of_a_chain_goes_first),
        cmocka_unit_test(exists_refreshes_what_it_finds),
        cmocka_unit_test(what_others_read_without_the_holder_stays),
        cmocka_unit_test(many_reads_of_a_value_are_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
