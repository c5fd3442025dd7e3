/*
 * What a change of membership means for the whole node.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

#define FAST "heartbeat_interval=500ms member_ttl=2s settle=2s"

static bool sees(struct cluster *c, int i, int other)
{
    const struct pc_member *m =
        pc_cluster_find(c->nodes[i].node->cluster, c->nodes[other].incarnation);
    return m != NULL && m->state <= PC_MEMBER_DRAINING;
}

/* Both were let in while the network was cut in two. */
static void of_two_nodes_with_one_id_that_meet_one_goes_on_alone(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(51);
    cluster_defaults(c, FAST);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "");
    cluster_start(c, 2, 2, "node_id=x");
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "v"), PEERCACHE_OK);
    pc_sim_set_island(c->nodes[1].host, 1);
    cluster_run(c, 5 * PC_S);
    cluster_start(c, 3, 1, "node_id=x"); /* On the side of node 1. */
    pc_sim_set_island(c->nodes[3].host, 1);
    cluster_run(c, 5 * PC_S);
    assert_true(sees(c, 1, 3) && sees(c, 0, 2));
    pc_sim_set_island(c->nodes[1].host, 0);
    pc_sim_set_island(c->nodes[3].host, 0);
    cluster_run(c, 5 * PC_S);

    peercache_node_t *loser = c->nodes[2].node;
    assert_true(loser->withdrawn && !c->nodes[3].node->withdrawn);
    assert_true(strcmp(loser->self.id.text, "x") != 0);
    assert_string_equal(c->nodes[3].node->self.id.text, "x");
    for (int i = 0; i < 4; i++) {
        assert_true(i == 2 || (sees(c, i, 3) && !sees(c, i, 2)));
    }
    /* It keeps what it has, for itself, and finds nothing of others. */
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "v"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "w"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "w"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "w"), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_do(c, 3, PC_VERB_PUT, "z"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "z"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "z"), PEERCACHE_NOT_FOUND);
    cluster_stop(c, 2);
    cluster_run(c, 5 * PC_S);
    cluster_destroy(c);
}

/* Node 3 was let in as x on one side of a cut, with node 1, while node 2, which
 * was x before, went on with 0 and 4 on the other. */
static struct cluster *with_two_of_one_id(uint64_t seed)
{
    struct cluster *c = cluster_create(seed);
    struct pc_sim_path path = pc_sim_path_default();
    cluster_defaults(c, FAST);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "");
    cluster_start(c, 2, 2, "node_id=x");
    cluster_start(c, 4, 3, "");
    cluster_settle(c, 30 * PC_S);
    cluster_set_island(c, 1, 1);
    cluster_run(c, 5 * PC_S);
    cluster_start(c, 3, 4, "node_id=x");
    cluster_set_island(c, 3, 1);
    cluster_run(c, 5 * PC_S);
    assert_true(sees(c, 1, 3) && sees(c, 0, 2));
    path.loss_ppm = (uint32_t)(seed % 4) * 30000;
    path.break_ppm = (uint32_t)(seed % 2) * 2000;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    return c;
}

/* Everybody calls everybody's keys while the net heals. */
static void call_all(struct cluster *c, unsigned round)
{
    static const enum pc_verb verbs[] = {PC_VERB_PUT, PC_VERB_GET,
                                         PC_VERB_EXISTS};
    for (int i = 0; i < 5; i++) {
        char words[64];
        snprintf(words, sizeof(words), "k%u k%u l%d", round % 7,
                 (round + (unsigned)i) % 7, i);
        struct cluster_call call = {.node = i,
                                    .verb = verbs[(round + (unsigned)i) % 3],
                                    .words = words,
                                    .timeout_ns = PC_S,
                                    .quiet = true};
        if (!c->nodes[i].frozen) {
            (void)cluster_begin(c, &call);
        }
    }
}

/* The rival is too busy to answer a beat in time, more than once: that is no
 * proof that it is gone. */
static void the_later_admitted_goes_on_although_it_is_busy(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct cluster *c = with_two_of_one_id(seed);
        uint64_t until = cluster_now(c) + 8 * PC_S;
        cluster_set_island(c, 1, 0);
        cluster_set_island(c, 3, 0);
        cluster_freeze(c, 3);
        for (unsigned round = 0; cluster_now(c) < until; round++) {
            call_all(c, round);
            cluster_run(c, 50 * PC_MS);
            if (round == 12 + seed % 12) { /* 0.6 to 1.2 s */
                cluster_thaw(c, 3);
            }
        }
        if (!c->nodes[2].node->withdrawn || c->nodes[3].node->withdrawn) {
            cluster_fail(c, "the elder is %s, the later admitted %s",
                         c->nodes[2].node->withdrawn ? "gone" : "there",
                         c->nodes[3].node->withdrawn ? "gone" : "there");
        }
        for (int i = 0; i < 5; i++) {
            assert_true(i == 2 || (sees(c, i, 3) && !sees(c, i, 2)));
        }
        assert_int_equal(cluster_do(c, 3, PC_VERB_PUT, "z"), PEERCACHE_OK);
        assert_int_equal(cluster_do(c, 4, PC_VERB_GET, "z"), PEERCACHE_OK);
        cluster_destroy(c);
    }
}

/* The later admitted is gone by the time of the meeting, and nobody says so:
 * the elder has its id again after the time that a death needs. */
static void the_elder_goes_on_when_the_later_admitted_is_gone(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct cluster *c = with_two_of_one_id(seed);
        cluster_set_island(c, 1, 0);
        cluster_set_island(c, 3, 0);
        cluster_kill(c, 3);
        cluster_run(c, 8 * PC_S);
        assert_false(c->nodes[2].node->withdrawn);
        for (int i = 0; i < 5; i++) {
            assert_true(i == 3 || sees(c, i, 2));
        }
        assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "z"), PEERCACHE_OK);
        assert_int_equal(cluster_do(c, 4, PC_VERB_GET, "z"), PEERCACHE_OK);
        cluster_destroy(c);
    }
}

/* A node starts with the id of one that is stopped for less than a death needs:
 * it waits, and the elder stays. */
static void a_busy_node_does_not_lose_its_id_to_a_newcomer(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_defaults(c, FAST);
        cluster_start(c, 0, 0, "");
        cluster_start(c, 1, 1, "");
        cluster_start(c, 2, 2, "node_id=x");
        cluster_settle(c, 30 * PC_S);
        cluster_freeze(c, 2);
        cluster_start(c, 3, 3, "node_id=x");
        cluster_run(c, 1200 * PC_MS);
        cluster_thaw(c, 2);
        cluster_run(c, 5 * PC_S);
        assert_false(c->nodes[2].node->withdrawn);
        assert_true(sees(c, 0, 2) && sees(c, 1, 2) && !sees(c, 0, 3));
        cluster_destroy(c);
    }
}

static void what_a_draining_node_holds_is_found_and_it_owns_nothing(
    void **state)
{
    (void)state;
    struct cluster *c = cluster_create(52);
    cluster_start_all(c, 4, FAST);
    assert_int_equal(cluster_do(c, 3, PC_VERB_PUT, "a b d e"), PEERCACHE_OK);
    pc_view_drain(c->nodes[3].node);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, 5 * PC_S);
    for (int i = 0; i < 4; i++) {
        const struct pc_member *m =
            pc_cluster_find(c->nodes[i].node->cluster, c->nodes[3].incarnation);
        assert_int_equal(m->state, PC_MEMBER_DRAINING);
        assert_false(cluster_owns(c, i, 3, "a") || cluster_owns(c, i, 3, "b"));
    }
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "a b d e"), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* A link is broken for good; nobody dies of it, and all keys are found by
 * those who can reach a holder. */
static void a_broken_link_changes_no_view(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(53);
    cluster_start_all(c, 5, FAST);
    uint64_t view = pc_ring_view(c->nodes[0].node->ring);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[4].host);
    cluster_run(c, 60 * PC_S);
    for (int i = 0; i < 5; i++) {
        assert_true(pc_ring_view(c->nodes[i].node->ring) == view);
    }
    struct pc_cluster_counts counts;
    pc_cluster_counts(c->nodes[0].node->cluster, &counts);
    assert_true(counts.n_probes > 0 && counts.n_vouched > 0);
    assert_int_equal(counts.n_declared, 0);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[4].host);
    cluster_settle(c, 30 * PC_S);
    cluster_destroy(c);
}

/* Both seeds are gone for good, then the network is cut in two for long. */
static void parts_without_a_seed_find_each_others_values_again(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(54);
    cluster_start_all(c, 6, FAST);
    cluster_kill(c, 0);
    cluster_kill(c, 1);
    cluster_run(c, 10 * PC_S);
    for (int i = 4; i < 6; i++) {
        cluster_set_island(c, i, 1);
    }
    cluster_run(c, 10 * PC_S);
    assert_false(sees(c, 2, 4) || sees(c, 4, 2));
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "v"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 4, PC_VERB_PUT, "w"), PEERCACHE_OK);
    cluster_heal_all(c);
    cluster_settle(c, 30 * PC_S);
    assert_true(sees(c, 2, 4) && sees(c, 4, 2));
    assert_int_equal(cluster_do(c, 5, PC_VERB_GET, "v"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, "w"), PEERCACHE_OK);
    cluster_destroy(c);
}

/* How many of the words node `reader` reads from node `holder` by a fresh
 * lookup. */
static unsigned read_from(struct cluster *c, int reader, int holder,
                          const char *words)
{
    uint64_t before = cluster_metric(c, holder, PC_METRIC_BYTES_SERVED);
    assert_int_equal(cluster_do(c, reader, PC_VERB_GET, words), PEERCACHE_OK);
    return cluster_metric(c, holder, PC_METRIC_BYTES_SERVED) > before;
}

/* Two hold the same values; one of them serves much, by its own count, and the
 * owners, who hear of it from the masters, send readers to the other. */
static void readers_go_to_the_holder_that_serves_less(void **state)
{
    static const char words[] = "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9";
    (void)state;
    for (int busy = 3; busy < 5; busy++) {
        struct cluster *c = cluster_create(60 + (uint64_t)busy);
        struct cluster_op *puts[2];
        int idle = busy == 3 ? 4 : 3;
        cluster_start_all(c, 8,
                          FAST " location_cache=0 read_mode=served "
                               "max_masters=2 data_replicas=2");
        for (int i = 0; i < 2; i++) {
            puts[i] = cluster_begin_verb(c, 3 + i, PC_VERB_PUT, words);
        }
        cluster_wait(puts[0]);
        cluster_wait(puts[1]);
        assert_int_equal(cluster_metric(c, 3, PC_METRIC_WRITE_STORED), 10);
        assert_int_equal(cluster_metric(c, 4, PC_METRIC_WRITE_STORED), 10);
        for (int k = 0; k < 40; k++) {
            pc_metrics_add(&c->nodes[busy].node->metrics,
                           PC_METRIC_BYTES_SERVED, 50 << 20); /* 500 MiB/s */
            cluster_run(c, 100 * PC_MS);
        }
        for (int i = 0; i < 8; i++) {
            peercache_node_t *node = c->nodes[i].node;
            assert_int_equal(
                pc_cluster_load(node->cluster, c->nodes[busy].incarnation), 2);
            assert_int_equal(
                pc_cluster_load(node->cluster, c->nodes[idle].incarnation), 0);
        }
        for (int reader = 5; reader < 8; reader++) {
            assert_int_equal(read_from(c, reader, busy, words), 0);
            assert_int_equal(read_from(c, reader, idle, words), 1);
        }
        /* It has nothing to do any more: both are as good. */
        cluster_run(c, 3 * PC_S);
        assert_int_equal(pc_cluster_load(c->nodes[7].node->cluster,
                                         c->nodes[busy].incarnation),
                         0);
        unsigned n = 0;
        for (int reader = 5; reader < 8; reader++) {
            n += read_from(c, reader, busy, words);
        }
        assert_true(n > 0);
        cluster_destroy(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_two_nodes_with_one_id_that_meet_one_goes_on_alone),
        cmocka_unit_test(the_later_admitted_goes_on_although_it_is_busy),
        cmocka_unit_test(the_elder_goes_on_when_the_later_admitted_is_gone),
        cmocka_unit_test(a_busy_node_does_not_lose_its_id_to_a_newcomer),
        cmocka_unit_test(
            what_a_draining_node_holds_is_found_and_it_owns_nothing),
        cmocka_unit_test(readers_go_to_the_holder_that_serves_less),
        cmocka_unit_test(a_broken_link_changes_no_view),
        cmocka_unit_test(parts_without_a_seed_find_each_others_values_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
