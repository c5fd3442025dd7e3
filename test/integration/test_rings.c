/*
 * Rings that are built by a thread of their own, while nodes come and go and
 * end: with so many points, already a few nodes have large ones.
 */
#include "host.h"

#define POINTS  "vnodes=20000 directory_replicas=2 settle=1"
#define N_NODES 4
#define N_KEYS  64

static void expect_all(peercache_node_t *node, struct batch *batch)
{
    size_t n_wrong;
    assert_int_equal(batch_do(batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(batch, &n_wrong), batch->n);
    assert_int_equal(n_wrong, 0);
}

static void nodes_with_large_rings_find_each_others_values(void **state)
{
    (void)state;
    uint16_t port = host_port();
    peercache_node_t *nodes[N_NODES];
    struct batch batches[N_NODES];
    for (int i = 0; i < N_NODES; i++) {
        char prefix[8];
        (void)snprintf(prefix, sizeof(prefix), "n%d-", i);
        nodes[i] = host_node("node_id=n%d discovery_addr=127.0.0.1:%u " POINTS,
                             i, port);
        host_ready(nodes[i]);
        batch_init(&batches[i], N_KEYS, 1000);
        batch_name(&batches[i], prefix, 0);
        batch_fill(&batches[i]);
        assert_int_equal(batch_do(&batches[i], nodes[i], PC_VERB_PUT, 5 * PC_S),
                         PEERCACHE_OK);
        /* At once, before all have moved. */
        for (int k = 0; k <= i; k++) {
            expect_all(nodes[i], &batches[k]);
        }
    }
    assert_true(host_metric(nodes[0], "directory_rings_built_total") >= 3);
    assert_true(
        host_metric(nodes[0], "directory_ring_build_microseconds_total") > 0);
    for (int i = N_NODES; i-- > 0;) {
        peercache_node_destroy(nodes[i]);
        for (int k = 0; k < i; k++) {
            expect_all(nodes[0], &batches[k]);
        }
        batch_fini(&batches[i]);
    }
}

/* The end of a node does not wait for the end of the world, nor does the thread
 * outlive it. */
static void a_node_ends_while_its_ring_is_built(void **state)
{
    (void)state;
    uint16_t port = host_port();
    peercache_node_t *seed =
        host_node("node_id=seed discovery_addr=127.0.0.1:%u " POINTS, port);
    host_ready(seed);
    for (int i = 0; i < 20; i++) {
        peercache_node_t *node = host_node(
            "node_id=n%d discovery_addr=127.0.0.1:%u " POINTS, i, port);
        (void)poll(NULL, 0, i % 5);
        uint64_t began = pc_clock_monotonic();
        peercache_node_destroy(node);
        assert_true(pc_clock_monotonic() - began < 3 * PC_S);
    }
    peercache_node_destroy(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_with_large_rings_find_each_others_values),
        cmocka_unit_test(a_node_ends_while_its_ring_is_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
