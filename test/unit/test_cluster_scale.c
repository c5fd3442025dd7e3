/*
 * The membership of a thousand nodes: what it costs when it is quiet, and how
 * long it takes until everybody knows of a death. Virtual time, encoded bytes.
 */
#include "member_net.h"

enum { N = 1000, SEEDS = 3, QUIET_S = 20 };

/* Bytes a second that a message costs beyond itself are not counted. */
#define ORDINARY_MAX 4096 /* Bytes a second of a node. */
#define MASTER_MAX   200  /* Of a master, for each node. */

static bool all_see(const struct net *net, size_t n_wanted)
{
    for (unsigned i = 0; i < N; i++) {
        size_t n = 0;
        if (is_up(net, i)) {
            (void)pc_cluster_view(net->nodes[i].cluster, &n, NULL);
            if (n != n_wanted) {
                return false;
            }
        }
    }
    return true;
}

static bool all_hold_dead(const struct net *net, uint64_t incarnation)
{
    for (unsigned i = 0; i < N; i++) {
        if (is_up(net, i) &&
            !pc_cluster_is_dead(net->nodes[i].cluster, incarnation)) {
            return false;
        }
    }
    return true;
}

static uint64_t run_until_all_see(struct net *net, size_t n_wanted,
                                  uint64_t limit_ns)
{
    uint64_t since_ns = net->now_ns;
    while (!all_see(net, n_wanted)) {
        if (net->now_ns - since_ns > limit_ns) {
            fail_msg("not everybody sees %zu nodes", n_wanted);
        }
        run_net(net, 100 * MS);
    }
    return net->now_ns - since_ns;
}

static void reset_bytes(struct net *net)
{
    for (unsigned i = 0; i < N; i++) {
        net->nodes[i].bytes = 0;
    }
}

static void start_thousand(struct net *net)
{
    net_init(net, N, SEEDS, 1);
    net->max_masters = SEEDS;
    /* A thousand nodes with sixteen views of a thousand members each do not
     * fit into this machine: they forget former views at once. */
    net->settle_ns = MS;
    for (unsigned i = 0; i < SEEDS; i++) {
        start(net, i);
    }
    run_net(net, 5 * SECOND);
    for (unsigned i = SEEDS; i < N; i++) {
        start(net, i);
    }
    uint64_t took_ns = run_until_all_see(net, N, 20 * SECOND);
    printf("%d nodes started at once see each other after %.1f s\n", N - SEEDS,
           (double)took_ns / (double)SECOND);
    run_net(net, 3 * BEAT_NS);
}

static void look_at_quiet(struct net *net)
{
    reset_bytes(net);
    net->weighs = true;
    run_net(net, QUIET_S * SECOND);
    net->weighs = false;
    double most = 0;
    double master = 0;
    for (unsigned i = 0; i < N; i++) {
        double rate = (double)net->nodes[i].bytes / QUIET_S;
        if (i < SEEDS) {
            master = rate > master ? rate : master;
        } else {
            most = rate > most ? rate : most;
        }
    }
    printf("quiet: an ordinary node %.0f bytes/s, a master %.1f bytes/s a "
           "node\n",
           most, master / N);
    assert_true(most <= ORDINARY_MAX);
    assert_true(master / N <= MASTER_MAX);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(net->nodes[i].n_views, 0);
    }
}

static void look_at_a_death(struct net *net, unsigned who, const char *what,
                            size_t n_left)
{
    uint64_t dead = net->nodes[who].incarnation;
    uint64_t n_packets = net->n_packets;
    uint64_t bytes = 0;
    uint64_t most = 0;
    stop(net, who);
    uint64_t since_ns = net->now_ns;
    reset_bytes(net);
    net->weighs = true;
    while (!all_hold_dead(net, dead)) {
        run_net(net, 50 * MS);
        assert_true(net->now_ns - since_ns <= TTL_NS + 2 * BEAT_NS);
    }
    net->weighs = false;
    for (unsigned i = 0; i < N; i++) {
        bytes += net->nodes[i].bytes / 2;
        most = net->nodes[i].bytes > most ? net->nodes[i].bytes : most;
    }
    printf("%s: known everywhere after %.1f s; messages %llu, KiB %llu, of the "
           "busiest node %llu\n",
           what, (double)(net->now_ns - since_ns) / (double)SECOND,
           (unsigned long long)(net->n_packets - n_packets),
           (unsigned long long)(bytes >> 10), (unsigned long long)(most >> 10));
    run_net(net, 3 * BEAT_NS);
    assert_true(all_see(net, n_left));
}

static void a_thousand_nodes_are_cheap_and_know_of_deaths_in_time(void **state)
{
    (void)state;
    struct net *net = pc_alloc(1, sizeof(*net));
    assert_non_null(net);
    start_thousand(net);
    for (unsigned i = 0; i < N; i++) {
        net->nodes[i].n_views = 0;
    }
    look_at_quiet(net);
    look_at_a_death(net, 500, "an ordinary node dies", N - 1);
    look_at_a_death(net, 1, "a master dies", N - 2);
    start(net, 500);
    uint64_t took_ns = run_until_all_see(net, N - 1, 4 * SECOND);
    printf("a node joins: known everywhere after %.1f s\n",
           (double)took_ns / (double)SECOND);
    net_fini(net);
    pc_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_nodes_are_cheap_and_know_of_deaths_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
