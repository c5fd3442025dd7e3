/*
 * Lookups: how many messages, how many rounds, and what happens when an owner
 * is slow or hangs.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

#define N_KEYS 128

/* "m0 m1 ... m127" */
static void key_words(char words[1024], char kind)
{
    size_t at = 0;
    for (unsigned k = 0; k < N_KEYS; k++) {
        at += (size_t)snprintf(words + at, 1024 - at, "%s%c%u",
                               k == 0 ? "" : " ", kind, k);
    }
}

static struct pc_sim_path still_path(uint64_t latency_ns)
{
    struct pc_sim_path path = pc_sim_path_default();
    path.latency_min_ns = latency_ns;
    path.latency_max_ns = latency_ns;
    return path;
}

static uint64_t took_ns(const struct cluster_op *op)
{
    return op->ended_ns - op->started_ns;
}

static struct cluster_op *run_verb(struct cluster *c, int i, enum pc_verb verb,
                                   const char *words)
{
    struct cluster_op *op = cluster_begin_verb(c, i, verb, words);
    cluster_wait(op);
    return op;
}

/* In virtual time: a round trip is 2 ms, computing takes none. */
static void present_keys_take_one_round_trip_and_absent_ones_two(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 4, 8, 26, 128};
    char present[1024];
    char absent[1024];
    key_words(present, 's');
    key_words(absent, 'm');
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        int n = sizes[s];
        struct cluster *c = cluster_create_of(1 + s, n);
        cluster_start_all(c, n, "location_cache=0 hedge=0 settle=1");
        assert_int_equal(run_verb(c, 0, PC_VERB_PUT, present)->result,
                         PEERCACHE_OK);
        int asker = n - 1;
        (void)run_verb(c, asker, PC_VERB_EXISTS, present); /* Connects. */
        (void)run_verb(c, asker, PC_VERB_EXISTS, absent);
        cluster_run(c, 12 * PC_S); /* No former view is asked any more. */
        struct pc_sim_path path = still_path(PC_MS);
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        uint64_t before = cluster_metric(c, asker, PC_METRIC_LOOKUP_REQUESTS);
        struct cluster_op *op = run_verb(c, asker, PC_VERB_EXISTS, present);
        uint64_t sent =
            cluster_metric(c, asker, PC_METRIC_LOOKUP_REQUESTS) - before;
        assert_int_equal(op->result, PEERCACHE_OK);
        assert_in_range(took_ns(op), 0, n == 1 ? 0 : 2 * PC_MS + PC_MS / 10);
        assert_in_range(sent, 0, n - 1); /* And so at most min(128, N). */
        before += sent;
        op = run_verb(c, asker, PC_VERB_EXISTS, absent);
        sent = cluster_metric(c, asker, PC_METRIC_LOOKUP_REQUESTS) - before;
        assert_int_equal(op->statuses[0], PEERCACHE_NOT_FOUND);
        assert_in_range(took_ns(op), 0, n == 1 ? 0 : 4 * PC_MS + PC_MS / 10);
        assert_in_range(sent, 0, n == 1 ? 0 : 2 * (n - 1));
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* Without the hedge the keys would wait for the breaker. */
static void a_slow_owner_is_hedged_after_the_delay(void **state)
{
    (void)state;
    char words[1024];
    key_words(words, 's');
    for (unsigned on = 0; on < 2; on++) {
        struct cluster *c = cluster_create(20);
        cluster_start_all(c, 4,
                          on ? "location_cache=0 hedge=0.005"
                             : "location_cache=0 hedge=0");
        (void)run_verb(c, 0, PC_VERB_PUT, words);
        (void)run_verb(c, 3, PC_VERB_EXISTS, words);
        pc_sim_set_slow(c->nodes[1].host, 50 * PC_MS);
        struct cluster_op *op = run_verb(c, 3, PC_VERB_EXISTS, words);
        assert_int_equal(op->result, PEERCACHE_OK);
        if (on) {
            assert_in_range(took_ns(op), 5 * PC_MS, 7 * PC_MS);
            assert_true(cluster_metric(c, 3, PC_METRIC_HEDGES) > 0);
            assert_true(cluster_metric(c, 3, PC_METRIC_HEDGES_WON) > 0);
        } else {
            assert_in_range(took_ns(op), 100 * PC_MS, 110 * PC_MS);
            assert_int_equal(cluster_metric(c, 3, PC_METRIC_HEDGES), 0);
        }
        pc_sim_set_slow(c->nodes[1].host, 0);
        cluster_run(c, PC_S);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

static void a_fast_cluster_is_never_hedged(void **state)
{
    (void)state;
    char words[1024];
    char absent[1024];
    key_words(words, 's');
    key_words(absent, 'm');
    struct cluster *c = cluster_create(21);
    cluster_start_all(c, 4, "location_cache=0");
    (void)run_verb(c, 0, PC_VERB_PUT, words);
    for (unsigned k = 0; k < 20; k++) {
        (void)run_verb(c, 3, PC_VERB_GET, words);
        (void)run_verb(c, 3, PC_VERB_EXISTS, absent);
    }
    assert_int_equal(cluster_metric(c, 3, PC_METRIC_HEDGES), 0);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Rule 5: the hedge's absence is not an answer for the slow owner. */
static void a_hedge_that_finds_nothing_does_not_make_a_key_absent(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(22);
    cluster_start_all(c, 4, "location_cache=0");
    cluster_pick_word(c, 0, 'm', "bc", "ad", word);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, word), PEERCACHE_OK);
    /* Only b knows it, and b is slow: whoever is asked first, c says no. */
    (void)run_verb(c, 3, PC_VERB_EXISTS, word);
    pc_sim_set_slow(c->nodes[1].host, 20 * PC_MS);
    struct cluster_op *op = run_verb(c, 3, PC_VERB_EXISTS, word);
    assert_int_equal(op->result, PEERCACHE_OK);
    assert_in_range(took_ns(op), 40 * PC_MS, 60 * PC_MS);
    op = run_verb(c, 3, PC_VERB_GET, word);
    assert_int_equal(op->result, PEERCACHE_OK);
    pc_sim_set_slow(c->nodes[1].host, 0);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Everybody is slower than the delay: at most one hedge for ten messages, and
 * what was saved up before. */
static void a_slow_cluster_is_not_asked_twice_as_much(void **state)
{
    (void)state;
    char words[1024];
    key_words(words, 's');
    struct cluster *c = cluster_create(23);
    cluster_start_all(c, 6, "location_cache=0 read_mode=served");
    (void)run_verb(c, 0, PC_VERB_PUT, words);
    (void)run_verb(c, 5, PC_VERB_EXISTS, words);
    struct pc_sim_path path = still_path(4 * PC_MS);
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    uint64_t before = cluster_metric(c, 5, PC_METRIC_LOOKUP_REQUESTS);
    for (unsigned k = 0; k < 200; k++) {
        assert_int_equal(run_verb(c, 5, PC_VERB_EXISTS, words)->result,
                         PEERCACHE_OK);
    }
    uint64_t sent = cluster_metric(c, 5, PC_METRIC_LOOKUP_REQUESTS) - before;
    uint64_t hedges = cluster_metric(c, 5, PC_METRIC_HEDGES);
    assert_in_range(hedges, 50, (sent - hedges) / 10 + 32 + 5);
    assert_true(cluster_metric(c, 5, PC_METRIC_HEDGES_HELD_BACK) > 0);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Reads are not hedged: every byte comes once. */
static void data_is_never_hedged(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(24);
    cluster_start_all(c, 4, "read_mode=served");
    struct cluster_op *one = cluster_begin_verb(c, 0, PC_VERB_PUT, "l1 l2");
    struct cluster_op *two = cluster_begin_verb(c, 1, PC_VERB_PUT, "l1 l2");
    cluster_wait(one);
    cluster_wait(two);
    (void)run_verb(c, 3, PC_VERB_GET, "l1 l2");
    uint64_t served = cluster_metric(c, 0, PC_METRIC_BYTES_SERVED) +
                      cluster_metric(c, 1, PC_METRIC_BYTES_SERVED);
    pc_sim_set_slow(c->nodes[0].host, 20 * PC_MS);
    pc_sim_set_slow(c->nodes[1].host, 20 * PC_MS);
    assert_int_equal(run_verb(c, 3, PC_VERB_GET, "l1 l2")->result,
                     PEERCACHE_OK);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_BYTES_SERVED) +
                         cluster_metric(c, 1, PC_METRIC_BYTES_SERVED),
                     2 * served);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(present_keys_take_one_round_trip_and_absent_ones_two),
        cmocka_unit_test(a_slow_owner_is_hedged_after_the_delay),
        cmocka_unit_test(a_fast_cluster_is_never_hedged),
        cmocka_unit_test(a_hedge_that_finds_nothing_does_not_make_a_key_absent),
        cmocka_unit_test(a_slow_cluster_is_not_asked_twice_as_much),
        cmocka_unit_test(data_is_never_hedged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
