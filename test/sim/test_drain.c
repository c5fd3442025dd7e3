/*
 * A node hands over what it keeps of the directory before it ends: nobody's
 * lookup notices, whoever asked learns when it is done, and nobody counts on
 * its copies any more.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

/* One owner a record: what the drained node kept, nobody else did. */
#define FAST                                                                   \
    "heartbeat_interval=100ms member_ttl=500ms settle=500ms vnodes=32 "        \
    "directory_replicas=1 "

enum { WORDS = 24, NODES = 4 };

struct asked
{
    struct pc_drain drain;
    bool over;
};

static void note_over(struct pc_drain *drain)
{
    PC_CONTAINER_OF(drain, struct asked, drain)->over = true;
}

static void ask(struct cluster *c, int i, const char *id, uint64_t wait_ns,
                struct asked *asked)
{
    peercache_node_t *node = c->nodes[i].node;
    memset(asked, 0, sizeof(*asked));
    asked->drain.node = node;
    asked->drain.id = id;
    asked->drain.wait = wait_ns > 0;
    asked->drain.deadline_ns =
        pc_clock_now(&node->clock) + (wait_ns > 0 ? wait_ns : PC_S);
    asked->drain.done = note_over;
    pc_drain_start(&asked->drain);
}

static peercache_status_t wait_over(struct cluster *c, struct asked *asked)
{
    for (int k = 0; k < 2000 && !asked->over; k++) {
        cluster_run(c, 10 * PC_MS);
    }
    assert_true(asked->over);
    return asked->drain.status;
}

/* Values of node i: "i0 i1 ...", in one text. */
static const char *words_of(int i)
{
    static char words[512];
    size_t at = 0;
    for (int k = 0; k < WORDS; k++) {
        at += (size_t)snprintf(words + at, sizeof(words) - at, "%c%d ", 'a' + i,
                               k);
    }
    return words;
}

/* Everybody but `without` finds what everybody but `without` holds. */
static void find_all(struct cluster *c, int without)
{
    struct cluster_op *ops[NODES][NODES] = {{NULL}};
    for (int i = 0; i < NODES; i++) {
        for (int of = 0; of < NODES; of++) {
            struct cluster_call call = {
                .node = i,
                .verb = (i + of) % 2 == 0 ? PC_VERB_EXISTS : PC_VERB_GET,
                .words = words_of(of),
                .quiet = true};
            if (i != without && of != without) {
                ops[i][of] = cluster_begin(c, &call);
            }
        }
    }
    for (int i = 0; i < NODES; i++) {
        for (int of = 0; of < NODES; of++) {
            if (ops[i][of] == NULL) {
                continue;
            }
            cluster_wait(ops[i][of]);
            if (ops[i][of]->result != PEERCACHE_OK) {
                cluster_fail(c, "%s does not find what %s holds: %s",
                             cluster_name(i), cluster_name(of),
                             peercache_status_name(ops[i][of]->result));
            }
        }
    }
}

static struct cluster *with_values(uint64_t seed)
{
    struct cluster *c = cluster_create(seed);
    struct pc_sim_path path = pc_sim_path_default();
    path.latency_max_ns = (1 + seed % 3) * PC_MS;
    cluster_start_all(c, NODES, FAST "location_cache=0");
    for (int i = 0; i < NODES; i++) {
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words_of(i)),
                         PEERCACHE_OK);
    }
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    return c;
}

static void no_lookup_notices_that_a_drained_node_ends(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct cluster *c = with_values(seed);
        int leaver = (int)(seed % NODES);
        struct asked asked;
        assert_false(pc_drain_is_done(c->nodes[leaver].node));
        /* One hears of it late, and its records move late. */
        cluster_set_slow(c, (leaver + 2) % NODES, 60 * PC_MS);
        ask(c, leaver, NULL, 30 * PC_S, &asked);
        while (!asked.over) {
            if (seed % 2 == 0) {
                find_all(c, -1); /* What it holds as well. */
            }
            cluster_run(c, PC_MS);
        }
        assert_int_equal(asked.drain.status, PEERCACHE_OK);
        assert_true(pc_drain_is_done(c->nodes[leaver].node));
        cluster_stop(c, leaver); /* At once. */
        for (int k = 0; k < 10; k++) {
            find_all(c, leaver);
            cluster_run(c, 10 * PC_MS);
        }
        cluster_destroy(c);
    }
}

/* Each in turn, and back with its old id: what the others hold is found all the
 * time. */
static void a_rolling_restart_loses_nothing_that_others_hold(void **state)
{
    (void)state;
    struct cluster *c = with_values(3);
    for (int i = 0; i < NODES; i++) {
        struct asked asked;
        ask(c, i, NULL, 30 * PC_S, &asked);
        assert_int_equal(wait_over(c, &asked), PEERCACHE_OK);
        cluster_stop(c, i);
        while (c->nodes[i].state != CLUSTER_DOWN) {
            find_all(c, i);
            cluster_run(c, 5 * PC_MS);
        }
        cluster_restart(c, i);
        for (int k = 0; k < 40; k++) {
            find_all(c, i);
            cluster_run(c, 25 * PC_MS);
        }
        cluster_settle(c, 30 * PC_S);
        assert_int_equal(c->nodes[i].node->self.state, PC_MEMBER_ALIVE);
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words_of(i)),
                         PEERCACHE_OK);
    }
    cluster_destroy(c);
}

/* A put is skipped where another node has the value; not when that is going. */
static void a_put_does_not_count_on_a_copy_of_who_drains(void **state)
{
    (void)state;
    struct cluster *c = with_values(6);
    struct asked asked;
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words_of(3)), PEERCACHE_OK);
    uint64_t n_skipped = cluster_metric(c, 0, PC_METRIC_WRITE_SKIPPED);
    assert_true(n_skipped > WORDS / 2);
    ask(c, 0, "d", 30 * PC_S, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, words_of(3)), PEERCACHE_OK);
    assert_true(cluster_metric(c, 1, PC_METRIC_WRITE_SKIPPED) <=
                WORDS - n_skipped);
    cluster_stop(c, 3);
    cluster_run(c, 2 * PC_S);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, words_of(3)), PEERCACHE_OK);
    cluster_destroy(c);
}

static void who_asks_learns_how_far_it_is(void **state)
{
    (void)state;
    struct cluster *c = with_values(9);
    struct asked asked;
    ask(c, 0, "nobody", PC_S, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_NOT_FOUND);
    ask(c, 0, "c", 0, &asked); /* Begins, and does not wait. */
    assert_int_equal(wait_over(c, &asked), PEERCACHE_IN_PROGRESS);
    assert_int_equal(c->nodes[2].node->self.state, PC_MEMBER_DRAINING);
    ask(c, 1, "c", 50 * PC_MS, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_TIMED_OUT);
    ask(c, 2, NULL, 0, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_IN_PROGRESS);
    ask(c, 1, "c", 30 * PC_S, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_OK);
    ask(c, 2, "c", 0, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_OK);
    /* One that ends meanwhile, and one that does not answer. */
    ask(c, 0, "d", 30 * PC_S, &asked);
    cluster_run(c, 50 * PC_MS);
    cluster_kill(c, 3);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_PEER_FAILED);
    cluster_freeze(c, 1);
    ask(c, 0, "b", 300 * PC_MS, &asked);
    assert_int_equal(wait_over(c, &asked), PEERCACHE_UNREACHABLE);
    cluster_thaw(c, 1);
    cluster_run(c, PC_S);
    cluster_destroy(c);
}

static void a_drain_ends_with_its_node(void **state)
{
    (void)state;
    struct cluster *c = with_values(12);
    struct asked here, there;
    ask(c, 0, NULL, 60 * PC_S, &here);
    ask(c, 0, "b", 60 * PC_S, &there);
    cluster_run(c, 30 * PC_MS);
    cluster_stop(c, 0);
    assert_int_equal(wait_over(c, &here), PEERCACHE_SHUTDOWN);
    assert_int_equal(wait_over(c, &there), PEERCACHE_SHUTDOWN);
    cluster_run(c, 3 * PC_S);
    cluster_destroy(c);
}

/* Nobody is left to hand over to: calls go on to work. */
static void where_all_drain_the_directory_stays(void **state)
{
    (void)state;
    struct cluster *c = with_values(15);
    struct asked asked[NODES];
    for (int i = 0; i < NODES; i++) {
        ask(c, i, NULL, 30 * PC_S, &asked[i]);
    }
    for (int i = 0; i < NODES; i++) {
        assert_int_equal(wait_over(c, &asked[i]), PEERCACHE_OK);
    }
    find_all(c, -1);
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "new"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "new"), PEERCACHE_OK);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_lookup_notices_that_a_drained_node_ends),
        cmocka_unit_test(a_rolling_restart_loses_nothing_that_others_hold),
        cmocka_unit_test(a_put_does_not_count_on_a_copy_of_who_drains),
        cmocka_unit_test(who_asks_learns_how_far_it_is),
        cmocka_unit_test(a_drain_ends_with_its_node),
        cmocka_unit_test(where_all_drain_the_directory_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
