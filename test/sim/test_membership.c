/*
 * What a change of membership means for the whole node.
 */
#include "test.h"

#include "cluster.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_two_nodes_with_one_id_that_meet_one_goes_on_alone),
        cmocka_unit_test(
            what_a_draining_node_holds_is_found_and_it_owns_nothing),
        cmocka_unit_test(a_broken_link_changes_no_view),
        cmocka_unit_test(parts_without_a_seed_find_each_others_values_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
