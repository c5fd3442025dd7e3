/*
 * What the verbs do when nobody dies: read modes, batches, pieces, eviction
 * while somebody reads, dedupe, remove, cancel, deadlines.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

static void each_read_mode_carries_the_value(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(1);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "read_mode=one-sided");
    cluster_start(c, 2, 0, "read_mode=mapped");
    cluster_start(c, 3, 2, "read_mode=served");
    cluster_start(c, 4, 0, "read_mode=auto");
    cluster_start(c, 5, 1, "read_mode=auto verify=checksum");
    cluster_settle(c, 30 * PC_S);
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_PUT, "x l1 h1 s1");
    for (int i = 0; i < 6; i++) {
        cluster_do(c, i, PC_VERB_GET, "x l1 h1 s1");
    }
    cluster_expect(c, "0 ms  a put x l1 h1 s1: OK x4\n"
                      "0 ms  a get x l1 h1 s1: OK local x4\n"
                      "0 ms  b get x l1 h1 s1: OK one-sided x4\n"
                      "0 ms  c get x l1 h1 s1: OK mapped x4\n"
                      "0 ms  d get x l1 h1 s1: OK served x4\n"
                      "0 ms  e get x l1 h1 s1: OK mapped x4\n"
                      "0 ms  f get x l1 h1 s1: OK one-sided x4\n");
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_forced_mode_without_a_way_is_a_counted_miss(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(2);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "read_mode=mapped");
    cluster_settle(c, 30 * PC_S);
    cluster_do(c, 0, PC_VERB_PUT, "x");
    cluster_mark(c);
    cluster_do(c, 1, PC_VERB_GET, "x");
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_MISS_NO_PATH), 1);
    cluster_expect(c, "0 ms  b get x: NOT_FOUND\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void scattered_and_registered_pieces_are_filled(void **state)
{
    (void)state;
    static const char *const modes[] = {"read_mode=one-sided",
                                        "read_mode=served", "read_mode=auto"};
    for (unsigned m = 0; m < 3; m++) {
        struct cluster *c = cluster_create(3 + m);
        cluster_start_all(c, 2, modes[m]);
        cluster_do(c, 0, PC_VERB_PUT, "x l1 s1 h1");
        for (unsigned r = 0; r < 2; r++) {
            struct cluster_call call = {.node = 1,
                                        .verb = PC_VERB_GET,
                                        .words = "h1 s1 x l1",
                                        .n_pieces = 7,
                                        .registered = r == 1};
            struct cluster_op *op = cluster_begin(c, &call);
            cluster_wait(op);
            assert_int_equal(op->result, PEERCACHE_OK);
        }
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

static void the_same_key_twice_in_a_batch_is_normal(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(6);
    cluster_start_all(c, 2, "");
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_PUT, "x y x x");
    cluster_do(c, 1, PC_VERB_GET, "x x y x");
    cluster_do(c, 1, PC_VERB_EXISTS, "x x");
    cluster_do(c, 1, PC_VERB_REMOVE, "x y x");
    cluster_do(c, 0, PC_VERB_GET, "x y");
    cluster_expect(c, "0 ms  a put x y x x: OK x4\n"
                      "0 ms  b get x x y x: OK one-sided x4\n"
                      "0 ms  b exists x x: OK x2\n"
                      "0 ms  b remove x y x: OK x2, NOT_FOUND\n"
                      "0 ms  a get x y: NOT_FOUND x2\n");
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_batch_larger_than_the_pool_goes_through_it(void **state)
{
    (void)state;
    char words[1024] = "";
    struct cluster *c = cluster_create(7);
    cluster_start_all(c, 2, "global_segment_size=256kib region_size=256kib");
    for (unsigned k = 0; k < 100; k++) {
        char word[16];
        snprintf(word, sizeof(word), "%sm%u", k == 0 ? "" : " ", k);
        strcat(words, word);
    }
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, words);
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, words);
    cluster_wait(get);
    size_t n_ok = 0;
    for (size_t i = 0; i < get->n; i++) {
        n_ok += get->statuses[i] == PEERCACHE_OK;
    }
    assert_in_range(n_ok, 10, 16); /* 256 KiB hold no more. */
    assert_int_equal(get->statuses[99], PEERCACHE_OK);
    assert_true(cluster_metric(c, 0, PC_METRIC_EVICTIONS) >= 84);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_wrong_length_is_told_and_nothing_is_written(void **state)
{
    (void)state;
    static const char *const modes[] = {"read_mode=one-sided",
                                        "read_mode=served"};
    for (unsigned m = 0; m < 2; m++) {
        struct cluster *c = cluster_create(8 + m);
        cluster_start_all(c, 2, modes[m]);
        cluster_do(c, 0, PC_VERB_PUT, "x");
        for (int i = 0; i < 2; i++) {
            struct cluster_call call = {
                .node = i, .verb = PC_VERB_GET, .words = "x", .version = 1};
            struct cluster_op *op = cluster_begin(c, &call);
            cluster_wait(op);
            assert_int_equal(op->statuses[0], PEERCACHE_SIZE_MISMATCH);
            assert_int_equal(op->lengths[0], cluster_value_length("x", 0));
        }
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* The value is given up, and its place written anew, while chunks of it are on
 * their way: the reader must not take what it got for the value. */
static void evicted_while_it_is_read_is_a_miss_and_never_a_lie(void **state)
{
    (void)state;
    static const char *const modes[] = {"read_mode=one-sided",
                                        "read_mode=auto"};
    for (unsigned m = 0; m < 2; m++) {
        for (uint64_t seed = 0; seed < 10; seed++) {
            struct cluster *c = cluster_create(100 + seed);
            struct pc_sim_path path = pc_sim_path_default();
            cluster_start(c, 0, 0,
                          "global_segment_size=128kib region_size=128kib");
            cluster_start(c, 1, 1, modes[m]);
            cluster_start(c, 2, 2, "");
            cluster_settle(c, 30 * PC_S);
            path.bandwidth = 20ull * 1000 * 1000; /* 5 ms a value. */
            pc_sim_set_path(c->sim, NULL, NULL, &path);
            pc_sim_set_chunk(c->sim, 1024);
            cluster_do(c, 0, PC_VERB_PUT, "l1");
            cluster_do(c, 1, PC_VERB_EXISTS, "l1");
            cluster_mark(c);
            struct cluster_call call = {.node = 1,
                                        .verb = PC_VERB_GET,
                                        .words = "l1",
                                        .registered = true};
            struct cluster_op *get = cluster_begin(c, &call);
            cluster_run(c, 2 * PC_MS);
            assert_false(get->ended);
            cluster_do(c, 0, PC_VERB_REMOVE, "l1");
            cluster_do(c, 0, PC_VERB_PUT, "l2");
            assert_false(get->ended);
            cluster_wait(get);
            cluster_expect(c, "0 ms  a remove l1: OK\n"
                              "0 ms  a put l2: OK\n"
                              "10 ms  b get l1: NOT_FOUND\n");
            assert_int_equal(cluster_metric(c, 1, PC_METRIC_MISS_STALE), 1);
            cluster_check_rest(c);
            cluster_destroy(c);
        }
    }
}

static void a_put_is_skipped_when_a_holder_confirms(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(10);
    cluster_start_all(c, 3, "");
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_PUT, "x");
    cluster_do(c, 1, PC_VERB_PUT, "x");
    cluster_do(c, 0, PC_VERB_PUT, "x");
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_WRITE_STORED), 0);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_WRITE_SKIPPED), 1);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_WRITE_STORED), 1);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* c still has the record of a value that a gave up: a's retract cannot reach
 * it. A put elsewhere must store, and the late retract must not touch it. */
static void a_late_retract_hides_nothing(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(11);
    cluster_start_all(c, 4, "directory_replicas=1 member_ttl=6");
    cluster_pick_word(c, 0, 'm', "c", "", x);
    cluster_do(c, 0, PC_VERB_PUT, x);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_REMOVE, x);
    assert_false(pc_publish_is_idle(c->nodes[0].node));
    cluster_do(c, 1, PC_VERB_PUT, x);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_WRITE_STORED), 1);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, x), PEERCACHE_OK);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, PC_S);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, x), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, x), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* One owner knows the value and the other does not (yet): who asks the other
 * one first must not believe its absence. */
static void absence_needs_every_owner(void **state)
{
    (void)state;
    char word[16];
    char words[512] = "";
    struct cluster *c = cluster_create(12);
    cluster_start_all(c, 4, "location_cache=0");
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    for (unsigned k = 0; k < 40; k++) {
        snprintf(word, sizeof(word), "m%u", k);
        if (cluster_owns(c, 0, 1, word) && cluster_owns(c, 0, 2, word)) {
            strcat(words, words[0] == '\0' ? "" : " ");
            strcat(words, word);
        }
    }
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, words);
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_true(put->n >= 3);
    struct cluster_op *get = cluster_begin_verb(c, 3, PC_VERB_GET, words);
    cluster_wait(get);
    assert_int_equal(get->result, PEERCACHE_OK);
    struct cluster_op *exists = cluster_begin_verb(c, 3, PC_VERB_EXISTS, words);
    cluster_wait(exists);
    assert_int_equal(exists->result, PEERCACHE_OK);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void what_was_removed_does_not_exist(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(13);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "");
    cluster_start(c, 2, 0, "");
    cluster_settle(c, 30 * PC_S);
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_PUT, "x");
    cluster_do(c, 1, PC_VERB_GET, "x"); /* Both remember the place. */
    cluster_do(c, 2, PC_VERB_GET, "x");
    cluster_do(c, 0, PC_VERB_REMOVE, "x");
    cluster_do(c, 1, PC_VERB_EXISTS, "x");
    cluster_do(c, 2, PC_VERB_EXISTS, "x");
    cluster_do(c, 1, PC_VERB_GET, "x");
    cluster_do(c, 2, PC_VERB_GET, "x");
    cluster_do(c, 1, PC_VERB_PUT, "x");
    cluster_do(c, 0, PC_VERB_EXISTS, "x");
    cluster_do(c, 0, PC_VERB_GET, "x");
    cluster_expect(c, "0 ms  a put x: OK\n"
                      "0 ms  b get x: OK one-sided\n"
                      "0 ms  c get x: OK mapped\n"
                      "0 ms  a remove x: OK\n"
                      "0 ms  b exists x: NOT_FOUND\n"
                      "0 ms  c exists x: NOT_FOUND\n"
                      "0 ms  b get x: NOT_FOUND\n"
                      "0 ms  c get x: NOT_FOUND\n"
                      "0 ms  b put x: OK\n"
                      "0 ms  a exists x: OK\n"
                      "0 ms  a get x: OK one-sided\n");
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* ---- Clear ------------------------------------------------------------------
 */

static void clear_over(struct pc_clear *clear)
{
    clear->node = NULL;
}

static void begin_clear(struct cluster *c, int i, uint64_t timeout_ns,
                        struct pc_clear *clear)
{
    *clear = (struct pc_clear){.node = c->nodes[i].node,
                               .deadline_ns = cluster_now(c) + timeout_ns,
                               .done = clear_over};
    pc_clear_start(clear);
}

static void end_clear(struct cluster *c, struct pc_clear *clear)
{
    uint64_t limit_ns = clear->deadline_ns + PC_S;
    while (clear->node != NULL) {
        assert_true(cluster_now(c) < limit_ns);
        cluster_step(c, limit_ns);
    }
}

static uint64_t values_of(struct cluster *c, int i)
{
    struct pc_store_stats stats;
    pc_store_stats(c->nodes[i].node->store, &stats);
    return stats.n_values;
}

static void after_a_clear_only_what_others_hold_is_found(void **state)
{
    (void)state;
    struct pc_clear clear;
    struct cluster *c = cluster_create(18);
    cluster_start_all(c, 3, "data_replicas=2");
    cluster_do(c, 0, PC_VERB_PUT, "s1 s2 m1 x");
    cluster_do(c, 1, PC_VERB_PUT, "x m2");
    cluster_do(c, 2, PC_VERB_GET, "s1 s2 m1 x"); /* It remembers the places. */
    assert_int_equal(values_of(c, 0), 4);
    begin_clear(c, 0, PC_S, &clear);
    end_clear(c, &clear);
    assert_int_equal(clear.status, PEERCACHE_OK);
    assert_int_equal(clear.sweep.n_gone, 4);
    assert_int_equal(values_of(c, 0), 0);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_REMOVED), 4);
    cluster_check_directory(c); /* The owners know, without any more time. */
    cluster_mark(c);
    cluster_do(c, 2, PC_VERB_GET, "s1");
    cluster_do(c, 2, PC_VERB_EXISTS, "s2");
    cluster_do(c, 1, PC_VERB_GET, "m1");
    cluster_do(c, 0, PC_VERB_GET, "s1");
    cluster_do(c, 2, PC_VERB_EXISTS, "x");
    cluster_do(c, 0, PC_VERB_EXISTS, "m2");
    cluster_do(c, 0, PC_VERB_PUT, "s1");
    cluster_do(c, 2, PC_VERB_EXISTS, "s1");
    cluster_expect(c, "0 ms  c get s1: NOT_FOUND\n"
                      "0 ms  c exists s2: NOT_FOUND\n"
                      "0 ms  b get m1: NOT_FOUND\n"
                      "0 ms  a get s1: NOT_FOUND\n"
                      "0 ms  c exists x: OK\n"
                      "0 ms  a exists m2: OK\n"
                      "0 ms  a put s1: OK\n"
                      "0 ms  c exists s1: OK\n");
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "x"), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* At every moment of a put and of gets by others: the bytes are right or it is
 * a miss (the cluster compares), and the directory ends up true. */
static void a_clear_in_the_midst_of_traffic_loses_or_keeps_whole_values(
    void **state)
{
    (void)state;
    size_t n_kept = 0;
    size_t n_lost = 0;
    for (unsigned n_steps = 0; n_steps < 60; n_steps++) {
        char word[16];
        char words[64];
        struct pc_clear clear;
        struct cluster *c = cluster_create(100 + n_steps);
        cluster_start_all(c, 3, "");
        cluster_do(c, 0, PC_VERB_PUT, "l1 l2 m1");
        cluster_pick_word(c, 0, 'm', "bc", "a", word);
        snprintf(words, sizeof(words), "%s l1 l2 m1", word);
        struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, word);
        struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, words);
        for (unsigned i = 0; i < n_steps; i++) {
            cluster_step(c, cluster_now(c) + PC_MS);
        }
        begin_clear(c, 0, PC_S, &clear);
        end_clear(c, &clear);
        cluster_wait(put);
        cluster_wait(get);
        assert_int_equal(clear.status, PEERCACHE_OK);
        assert_int_equal(put->result, PEERCACHE_OK);
        for (size_t i = 0; i < get->n; i++) {
            assert_true(get->statuses[i] == PEERCACHE_OK ||
                        get->statuses[i] == PEERCACHE_NOT_FOUND);
        }
        struct cluster_op *after = cluster_begin_verb(c, 2, PC_VERB_GET, words);
        cluster_wait(after);
        assert_int_equal(after->statuses[2], PEERCACHE_NOT_FOUND);
        assert_int_equal(after->statuses[3], PEERCACHE_NOT_FOUND);
        n_kept += after->statuses[0] == PEERCACHE_OK;
        n_lost += after->statuses[0] == PEERCACHE_NOT_FOUND;
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
    assert_true(n_kept > 0);
    assert_true(n_lost > 0);
}

static void a_clear_ends_by_its_deadline_and_says_what_it_dropped(void **state)
{
    (void)state;
    char word[16];
    struct pc_clear clear;
    struct cluster *c = cluster_create(19);
    cluster_start_all(c, 3, "directory_replicas=1 member_ttl=6");
    cluster_pick_word(c, 0, 'm', "c", "", word);
    cluster_do(c, 0, PC_VERB_PUT, word);
    cluster_do(c, 0, PC_VERB_PUT, "s1");
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    uint64_t began_ns = cluster_now(c);
    begin_clear(c, 0, 300 * PC_MS, &clear);
    end_clear(c, &clear);
    assert_int_equal(clear.status, PEERCACHE_TIMED_OUT);
    assert_int_equal(clear.sweep.n_gone, 2);
    assert_in_range(cluster_now(c) - began_ns, 300 * PC_MS, 301 * PC_MS);
    /* The owner still has a record, of what nobody has. */
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, word), PEERCACHE_NOT_FOUND);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_node_that_ends_ends_its_clear(void **state)
{
    (void)state;
    struct pc_clear clear;
    struct cluster *c = cluster_create(20);
    cluster_start_all(c, 3, "directory_replicas=1 member_ttl=6");
    char word[16];
    cluster_pick_word(c, 0, 'm', "c", "", word);
    cluster_do(c, 0, PC_VERB_PUT, word);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    begin_clear(c, 0, 60 * PC_S, &clear);
    cluster_run(c, 10 * PC_MS);
    assert_non_null(clear.node);
    cluster_stop(c, 0);
    end_clear(c, &clear);
    assert_int_equal(clear.status, PEERCACHE_SHUTDOWN);
    cluster_destroy(c);
}

/* ---- Operations that end early ---------------------------------------------
 */

/* A cluster in which a value of 16 KiB takes 100 ms. */
static struct cluster *slow_wire(uint64_t seed, const char *settings)
{
    struct cluster *c = cluster_create(seed);
    cluster_start_all(c, 2, settings);
    cluster_do(c, 0, PC_VERB_PUT, "l1 l2 m1 m2 m3 m4 m5 m6 m7 m8 m9");
    cluster_do(c, 1, PC_VERB_EXISTS, "m1");
    struct pc_sim_path path = pc_sim_path_default();
    path.bandwidth = 160ull * 1000;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    pc_sim_set_chunk(c->sim, 1024);
    cluster_mark(c);
    return c;
}

static struct cluster_op *begin_get(struct cluster *c, const char *words,
                                    uint64_t timeout_ns, bool registered)
{
    struct cluster_call call = {.node = 1,
                                .verb = PC_VERB_GET,
                                .words = words,
                                .timeout_ns = timeout_ns,
                                .registered = registered};
    return cluster_begin(c, &call);
}

/* A read that the deadline cuts short lands in the caller's own memory: the way
 * to the peer is closed, and only then the operation ends. That others complete
 * meanwhile keeps the breaker quiet. */
static void a_deadline_ends_reads_into_the_callers_memory(void **state)
{
    (void)state;
    struct cluster *c = slow_wire(20, "read_mode=one-sided");
    (void)begin_get(c, "l1 l2", 400 * PC_MS, true);
    for (unsigned k = 1; k < 5; k++) {
        char word[16];
        snprintf(word, sizeof(word), "m%u", k);
        (void)begin_get(c, word, 2 * PC_S, true);
        cluster_run(c, 80 * PC_MS);
    }
    cluster_run(c, 2 * PC_S);
    cluster_expect(c, "110 ms  b get m1: OK one-sided\n"
                      "190 ms  b get m2: OK one-sided\n"
                      "270 ms  b get m3: OK one-sided\n"
                      "350 ms  b get m4: OK one-sided\n"
                      "400 ms  b get l1 l2: TIMED_OUT x2\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_deadline_leaves_bounced_reads_behind(void **state)
{
    (void)state;
    struct cluster *c = slow_wire(21, "read_mode=one-sided");
    (void)begin_get(c, "m1 l1", 150 * PC_MS, false);
    cluster_run(c, 2 * PC_S);
    cluster_expect(c, "150 ms  b get m1 l1: OK one-sided, TIMED_OUT\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_deadline_ends_a_served_read_and_keeps_what_landed(void **state)
{
    (void)state;
    struct cluster *c = slow_wire(22, "read_mode=served");
    (void)begin_get(c, "m1 m2 m3", 250 * PC_MS, false);
    cluster_run(c, 2 * PC_S);
    cluster_expect(c, "250 ms  b get m1 m2 m3: OK served x2, TIMED_OUT\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_canceled_read_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct cluster *c = slow_wire(23, "read_mode=one-sided");
    struct cluster_op *op = begin_get(c, "m1", 0, true);
    cluster_run(c, 50 * PC_MS);
    cluster_cancel(op);
    cluster_run(c, 20 * PC_MS);
    assert_false(op->ended);
    cluster_run(c, PC_S);
    cluster_expect(c, "100 ms  b get m1: CANCELED\n");
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_MISS_CANCELED), 1);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_canceled_read_ends_by_its_deadline_all_the_same(void **state)
{
    (void)state;
    struct cluster *c = slow_wire(24, "read_mode=one-sided");
    struct cluster_op *op = begin_get(c, "l1", 300 * PC_MS, true);
    (void)begin_get(c, "m1", 0, true);
    cluster_run(c, 80 * PC_MS);
    (void)begin_get(c, "m2", 0, true);
    cluster_run(c, 80 * PC_MS);
    (void)begin_get(c, "m3", 0, true);
    cluster_cancel(op);
    cluster_run(c, PC_S);
    assert_true(op->ended);
    assert_true(op->ended_ns <= op->deadline_ns + PC_MS);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_put_that_timed_out_is_published_later(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(25);
    cluster_start_all(c, 3, "directory_replicas=1");
    cluster_pick_word(c, 0, 'm', "b", "", x);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[1].host);
    struct cluster_call call = {
        .node = 0, .verb = PC_VERB_PUT, .words = x, .timeout_ns = 700 * PC_MS};
    struct cluster_op *put = cluster_begin(c, &call);
    cluster_wait(put);
    assert_int_equal(put->statuses[0], PEERCACHE_TIMED_OUT);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, x), PEERCACHE_NOT_FOUND);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[1].host);
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, x), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_read_mode_carries_the_value),
        cmocka_unit_test(a_forced_mode_without_a_way_is_a_counted_miss),
        cmocka_unit_test(scattered_and_registered_pieces_are_filled),
        cmocka_unit_test(the_same_key_twice_in_a_batch_is_normal),
        cmocka_unit_test(a_batch_larger_than_the_pool_goes_through_it),
        cmocka_unit_test(a_wrong_length_is_told_and_nothing_is_written),
        cmocka_unit_test(evicted_while_it_is_read_is_a_miss_and_never_a_lie),
        cmocka_unit_test(a_put_is_skipped_when_a_holder_confirms),
        cmocka_unit_test(a_late_retract_hides_nothing),
        cmocka_unit_test(absence_needs_every_owner),
        cmocka_unit_test(what_was_removed_does_not_exist),
        cmocka_unit_test(after_a_clear_only_what_others_hold_is_found),
        cmocka_unit_test(
            a_clear_in_the_midst_of_traffic_loses_or_keeps_whole_values),
        cmocka_unit_test(a_clear_ends_by_its_deadline_and_says_what_it_dropped),
        cmocka_unit_test(a_node_that_ends_ends_its_clear),
        cmocka_unit_test(a_deadline_ends_reads_into_the_callers_memory),
        cmocka_unit_test(a_deadline_leaves_bounced_reads_behind),
        cmocka_unit_test(a_deadline_ends_a_served_read_and_keeps_what_landed),
        cmocka_unit_test(a_canceled_read_waits_for_what_is_under_way),
        cmocka_unit_test(a_canceled_read_ends_by_its_deadline_all_the_same),
        cmocka_unit_test(a_put_that_timed_out_is_published_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
