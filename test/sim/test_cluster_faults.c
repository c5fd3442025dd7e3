/*
 * What a user's keys go through when nodes of a cluster die, are cut off, stop
 * for a while or come back: what is held by somebody is found, what is not
 * misses at once, and nothing waits for the dead. The history
 * (test/lib/history.h) judges every read besides.
 */
#include "test.h"

#include "cluster.h"
#include "history.h"

#include <stdio.h>
#include <string.h>

enum { NODES = 5, WORDS_EACH = 12 };

#define BEAT_NS (100 * PC_MS)
#define SETTINGS                                                               \
    "heartbeat_interval=100ms member_ttl=300ms settle=500ms vnodes=32 "        \
    "location_cache=0 "

/* "s<i>00 s<i>01 ...": the words of node i, in up to three groups. */
static void words_of(int i, char words[256])
{
    size_t at = 0;
    for (int k = 0; k < WORDS_EACH; k++) {
        at += (size_t)snprintf(words + at, 256 - at, "%ss%d%02d",
                               k == 0 ? "" : " ", i + 1, k);
    }
}

static struct cluster *start_and_put(uint64_t seed, const char *settings)
{
    char words[256];
    struct cluster *c = cluster_create(seed);
    (void)history_create(c);
    c->skewed = true;
    cluster_start_all(c, NODES, settings);
    for (int i = 0; i < NODES; i++) {
        words_of(i, words);
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    cluster_run(c, PC_S);
    return c;
}

/* Node i reads what `holder` put: this many of it must come. */
static struct cluster_op *read_words(struct cluster *c, int i, int holder,
                                     size_t n_ok)
{
    char words[256];
    size_t n = 0;
    words_of(holder, words);
    struct cluster_op *op = cluster_begin_verb(c, i, PC_VERB_GET, words);
    cluster_wait(op);
    for (size_t k = 0; k < op->n; k++) {
        n += op->statuses[k] == PEERCACHE_OK;
        if (op->statuses[k] != PEERCACHE_OK &&
            op->statuses[k] != PEERCACHE_NOT_FOUND) {
            cluster_fail(c, "%s", peercache_status_name(op->statuses[k]));
        }
    }
    if (n != n_ok) {
        cluster_fail(c, "%s reads what %s put: %zu of %zu, and not %zu",
                     cluster_name(i), cluster_name(holder), n, op->n, n_ok);
    }
    return op;
}

static void everybody_reads_everything(struct cluster *c)
{
    for (int i = 0; i < NODES; i++) {
        for (int holder = 0; holder < NODES; holder++) {
            if (cluster_is_up(c, i) && cluster_is_up(c, holder)) {
                (void)read_words(c, i, holder, WORDS_EACH);
            }
        }
    }
}

static void end(struct cluster *c)
{
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void when_one_of_five_dies_only_its_own_keys_are_gone(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        char words[256];
        int victim = (int)(seed % NODES);
        int reader = (victim + 1) % NODES;
        struct cluster *c = start_and_put(seed, SETTINGS);
        cluster_kill(c, victim);
        /* Misses, and at once: it takes no timeout to know. */
        struct cluster_op *get = read_words(c, reader, victim, 0);
        assert_in_range(get->ended_ns - get->started_ns, 0, 20 * PC_MS);
        everybody_reads_everything(c);
        /* They can be put again, and are found everywhere. */
        words_of(victim, words);
        assert_int_equal(cluster_do(c, reader, PC_VERB_PUT, words),
                         PEERCACHE_OK);
        for (int i = 0; i < NODES; i++) {
            if (i != victim) {
                (void)read_words(c, i, victim, WORDS_EACH);
            }
        }
        /* The same when everybody has noticed, and when the window is over. */
        cluster_run(c, 350 * PC_MS);
        everybody_reads_everything(c);
        cluster_run(c, 2 * PC_S);
        everybody_reads_everything(c);
        end(c);
    }
}

static void a_machine_that_falls_silent_costs_a_quarter_second_once(
    void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed <= 13; seed++) {
        int victim = (int)(seed % NODES);
        struct cluster *c = start_and_put(seed, SETTINGS);
        cluster_set_island(c, victim, 1);
        for (int i = 0; i < NODES; i++) {
            if (i == victim) {
                continue;
            }
            struct cluster_op *get = read_words(c, i, victim, 0);
            assert_in_range(get->ended_ns - get->started_ns, 0, 600 * PC_MS);
            for (int holder = 0; holder < NODES; holder++) {
                if (holder != victim) {
                    (void)read_words(c, i, holder, WORDS_EACH);
                }
            }
        }
        cluster_heal_all(c);
        cluster_run(c, 2 * PC_S);
        cluster_settle(c, 30 * PC_S);
        everybody_reads_everything(c);
        end(c);
    }
}

static void after_a_partition_all_is_found_within_two_heartbeats(void **state)
{
    (void)state;
    static const uint64_t cuts[] = {PC_S, 5 * PC_S, 20 * PC_S, 55 * PC_S};
    for (uint64_t seed = 21; seed <= 24; seed++) {
        struct cluster *c = start_and_put(seed, "location_cache=0");
        cluster_set_island(c, 3, 1);
        cluster_set_island(c, 4, 1);
        cluster_run(c, cuts[seed - 21]);
        if (cuts[seed - 21] >=
            20 * PC_S) { /* Either side goes on with its own. */
            (void)read_words(c, 0, 1, WORDS_EACH);
            (void)read_words(c, 3, 4, WORDS_EACH);
        }
        cluster_heal_all(c);
        cluster_run(c, 2 * c->nodes[0].node->settings.heartbeat_interval_ns);
        everybody_reads_everything(c);
        end(c);
    }
}

static void a_node_that_stops_for_long_is_found_again_with_all_it_holds(
    void **state)
{
    (void)state;
    static const uint64_t pauses[] = {150 * PC_MS, 400 * PC_MS, 30 * PC_S};
    for (uint64_t seed = 31; seed <= 33; seed++) {
        int sleeper = (int)(seed % NODES);
        struct cluster *c = start_and_put(seed, SETTINGS);
        struct pc_cluster_counts counts;
        cluster_freeze(c, sleeper);
        cluster_run(c, pauses[seed - 31]);
        for (int i = 0; i < NODES; i++) {
            if (i != sleeper) {
                (void)read_words(c, i, (sleeper + 1) % NODES, WORDS_EACH);
            }
        }
        cluster_thaw(c, sleeper);
        cluster_run(c, 2 * BEAT_NS);
        everybody_reads_everything(c);
        pc_cluster_counts(c->nodes[sleeper].node->cluster, &counts);
        assert_int_equal(counts.n_declared, 0);
        end(c);
    }
}

static void a_restart_under_the_same_id_has_nothing_of_its_past(void **state)
{
    (void)state;
    char words[256];
    for (uint64_t seed = 41; seed <= 44; seed++) {
        int i = (int)(seed % NODES);
        struct cluster *c = start_and_put(seed, SETTINGS);
        cluster_kill(c, i);
        cluster_run(c, (seed - 41) * 200 * PC_MS);
        cluster_restart(c, i);
        cluster_run(c, PC_S);
        (void)read_words(c, (i + 1) % NODES, i, 0);
        words_of(i, words);
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words), PEERCACHE_OK);
        everybody_reads_everything(c);
        end(c);
    }
}

static void who_is_heard_but_does_not_hear_disturbs_nobody_else(void **state)
{
    (void)state;
    for (uint64_t seed = 51; seed <= 55; seed++) {
        int deaf = (int)(seed % NODES);
        struct cluster *c = start_and_put(seed, SETTINGS);
        for (int i = 0; i < NODES; i++) {
            if (i != deaf) {
                cluster_cut_one_way(c, i, deaf);
            }
        }
        cluster_run(c, 3 * PC_S);
        for (int i = 0; i < NODES; i++) {
            for (int holder = 0; holder < NODES; holder++) {
                if (i != deaf && holder != deaf) {
                    (void)read_words(c, i, holder, WORDS_EACH);
                }
            }
        }
        cluster_heal_all(c);
        cluster_run(c, 2 * PC_S);
        cluster_settle(c, 30 * PC_S);
        everybody_reads_everything(c);
        end(c);
    }
}

static void two_nodes_that_do_not_reach_each_other_stay_members(void **state)
{
    (void)state;
    for (uint64_t seed = 61; seed <= 64; seed++) {
        struct cluster *c = start_and_put(seed, SETTINGS);
        cluster_cut(c, 3, 4);
        cluster_run(c, 5 * PC_S);
        for (int i = 0; i < 3; i++) {
            for (int holder = 0; holder < NODES; holder++) {
                (void)read_words(c, i, holder, WORDS_EACH);
            }
        }
        for (int i = 0; i < NODES; i++) {
            size_t n;
            (void)pc_cluster_view(c->nodes[i].node->cluster, &n, NULL);
            assert_int_equal(n, NODES);
        }
        cluster_heal_all(c);
        cluster_run(c, 2 * PC_S);
        everybody_reads_everything(c);
        end(c);
    }
}

static void clocks_that_go_wrong_make_nobody_dead(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(71);
    (void)history_create(c);
    c->skewed = true;
    for (int i = 0; i < NODES; i++) {
        c->nodes[i].ppm = (i - 2) * 50000; /* Ten in a hundred, either way. */
    }
    cluster_start_all(c, NODES, SETTINGS);
    uint64_t view = pc_ring_view(c->nodes[0].node->ring);
    for (unsigned k = 0; k < 60; k++) {
        cluster_run(c, PC_S);
        for (int i = 0; i < NODES; i++) {
            assert_int_equal(pc_ring_view(c->nodes[i].node->ring), view);
        }
    }
    end(c);
}

/* What was sent on a connection before it was given up arrives when a newer one
 * has told the end of the story. */
static void words_of_an_old_connection_come_too_late(void **state)
{
    (void)state;
    for (uint64_t seed = 81; seed <= 86; seed++) {
        struct cluster *c = cluster_create(seed);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start_all(c, 3, SETTINGS "directory_replicas=3");
        path.latency_min_ns = path.latency_max_ns = 5 * PC_MS;
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, "x y z");
        cluster_run(c, (seed - 80) * 2 * PC_MS);
        for (int i = 1; i < 3; i++) {
            pc_sim_break_late(c->sim, c->nodes[0].host, c->nodes[i].host,
                              800 * PC_MS);
        }
        cluster_wait(put);
        cluster_do(c, 0, PC_VERB_REMOVE, "x y z");
        cluster_run(c, 2 * PC_S);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(cluster_do(c, i, PC_VERB_EXISTS, "x"),
                             PEERCACHE_NOT_FOUND);
        }
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* Two nodes of one machine hold values of different length under one key, and
 * one of them looks at the other's memory for the first time. */
static void another_length_is_found_in_a_neighbours_memory(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(91);
    cluster_start(c, 0, 0, SETTINGS "read_mode=mapped");
    cluster_start(c, 1, 1, SETTINGS);
    cluster_start(c, 2, 0, SETTINGS "read_mode=mapped");
    cluster_settle(c, 30 * PC_S);
    struct cluster_call put = {
        .node = 0, .verb = PC_VERB_PUT, .words = "x", .version = 1};
    cluster_wait(cluster_begin(c, &put));
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "x"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "x"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "x"), PEERCACHE_OK);
    end(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(when_one_of_five_dies_only_its_own_keys_are_gone),
        cmocka_unit_test(
            a_machine_that_falls_silent_costs_a_quarter_second_once),
        cmocka_unit_test(after_a_partition_all_is_found_within_two_heartbeats),
        cmocka_unit_test(
            a_node_that_stops_for_long_is_found_again_with_all_it_holds),
        cmocka_unit_test(a_restart_under_the_same_id_has_nothing_of_its_past),
        cmocka_unit_test(who_is_heard_but_does_not_hear_disturbs_nobody_else),
        cmocka_unit_test(two_nodes_that_do_not_reach_each_other_stay_members),
        cmocka_unit_test(clocks_that_go_wrong_make_nobody_dead),
        cmocka_unit_test(words_of_an_old_connection_come_too_late),
        cmocka_unit_test(another_length_is_found_in_a_neighbours_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
