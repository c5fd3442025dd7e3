/*
 * How nodes find each other in real life: the discovery port that changes its
 * holder, names, ids that two want, settings that differ.
 */
#include "host.h"

#include "node/node.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#define BEAT_NS (100 * PC_MS) /* As host_config says. */

static bool answers(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    bool ok = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
    close(fd);
    return ok;
}

static void the_discovery_port_is_taken_over_when_its_holder_is_killed(
    void **state)
{
    (void)state;
    uint16_t port = host_port();
    struct peer first;
    struct peer second;
    peer_start(&first);
    (void)peer_tell(&first, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&first, "OK", "ready");
    peer_start(&second);
    (void)peer_tell(&second, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&second, "OK", "ready");
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    host_ready(node);
    WAIT_UNTIL(host_metric(node, "members") == 3, 5);

    uint64_t began = pc_clock_monotonic();
    peer_kill(&first);
    WAIT_UNTIL(answers(port), 5);
    uint64_t took = pc_clock_monotonic() - began;
    printf("the port had a holder again after %llu ms\n",
           (unsigned long long)(took / PC_MS));
    assert_true(took <= BEAT_NS + HOST_SLACK_NS);
    WAIT_UNTIL(host_metric(node, "members") == 2, 5);

    /* A newcomer finds the cluster through it. */
    struct peer third;
    peer_start(&third);
    (void)peer_tell(&third, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&third, "OK", "ready");
    WAIT_UNTIL(host_metric(node, "members") == 3, 5);
    peer_end(&third);
    peer_end(&second);
    peercache_node_destroy(node);
}

static void a_restarted_holder_learns_of_the_cluster_at_once(void **state)
{
    (void)state;
    uint16_t port = host_port();
    struct peer holder;
    peer_start(&holder);
    (void)peer_tell(&holder, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&holder, "OK", "ready");
    /* Clients serve no port: nobody takes it over meanwhile. */
    peercache_node_t *nodes[3];
    for (int i = 0; i < 3; i++) {
        nodes[i] = host_node("discovery_addr=127.0.0.1:%u mode=centralized "
                             "role=inference",
                             port);
        host_ready(nodes[i]);
    }
    WAIT_UNTIL(host_metric(nodes[0], "members") == 4, 5);
    peer_kill(&holder);
    WAIT_UNTIL(!answers(port), 5);
    peercache_node_t *again = host_node("discovery_addr=127.0.0.1:%u", port);
    host_ready(again);
    uint64_t began = pc_clock_monotonic();
    WAIT_UNTIL(host_metric(again, "members") >= 4, 5);
    printf("the restarted holder sees everybody after %llu ms\n",
           (unsigned long long)((pc_clock_monotonic() - began) / PC_MS));
    assert_true(pc_clock_monotonic() - began <= 3 * BEAT_NS + HOST_SLACK_NS);
    for (int i = 0; i < 3; i++) {
        peercache_node_destroy(nodes[i]);
    }
    peercache_node_destroy(again);
}

static void a_node_with_the_id_of_a_live_one_is_refused(void **state)
{
    (void)state;
    uint16_t port = host_port();
    host_log_keep();
    peercache_node_t *seed =
        host_node("discovery_addr=127.0.0.1:%u node_id=seed", port);
    host_ready(seed);
    struct peer elder;
    peer_start(&elder);
    (void)peer_tell(&elder, "ok", "start discovery_addr=127.0.0.1:%u node_id=x",
                    port);
    (void)peer_tell(&elder, "OK", "ready");
    peercache_node_t *newcomer =
        host_node("discovery_addr=127.0.0.1:%u node_id=x", port);
    WAIT_UNTIL(host_log_count(PEERCACHE_LOG_ERROR, "the id x is another live",
                              "") == 1,
               5);
    assert_true(host_log_count(PEERCACHE_LOG_WARN, "refused node x",
                               "has that id") >= 1);
    assert_int_equal(peercache_node_wait_ready(newcomer, 500 * PC_MS),
                     PEERCACHE_TIMED_OUT);
    assert_int_equal(host_metric(seed, "members"), 2);
    assert_true(host_metric(seed, "member_ids_refused_total") > 0);
    /* Stopped for a while it is still alive; killed it is not. */
    peer_kill(&elder);
    assert_int_equal(peercache_node_wait_ready(newcomer, 5 * PC_S),
                     PEERCACHE_OK);
    WAIT_UNTIL(host_metric(seed, "members") == 2, 5);
    assert_int_equal(host_log_count(PEERCACHE_LOG_ERROR, "the id x", ""), 1);
    peercache_node_destroy(newcomer);
    peercache_node_destroy(seed);
    host_log_keep();
}

static void names_are_seeds_and_two_of_one_node_are_one(void **state)
{
    (void)state;
    uint16_t port = host_port();
    peercache_node_t *seed =
        host_node("discovery_addr=localhost:%u,127.0.0.1:%u", port, port);
    peercache_node_t *node = host_node(
        "discovery_addr=127.0.0.1:%u,localhost:%u,no-such-host.invalid:%u",
        port, port, port);
    host_ready(seed);
    host_ready(node);
    WAIT_UNTIL(host_metric(node, "members") == 2, 5);
    WAIT_UNTIL(host_metric(seed, "members") == 2, 5);
    peercache_node_destroy(node);
    peercache_node_destroy(seed);
}

static void a_node_whose_seeds_names_are_unknown_works_alone(void **state)
{
    (void)state;
    uint64_t began = pc_clock_monotonic();
    peercache_node_t *node =
        host_node("discovery_addr=no-such-host.invalid:31998");
    assert_true(pc_clock_monotonic() - began < 3 * PC_S);
    assert_int_equal(peercache_node_wait_ready(node, 100 * PC_MS),
                     PEERCACHE_TIMED_OUT);
    peercache_node_destroy(node);
}

static void the_seeds_word_is_taken_on_member_ttl_and_masters(void **state)
{
    (void)state;
    uint16_t port = host_port();
    host_log_keep();
    peercache_node_t *seed =
        host_node("discovery_addr=127.0.0.1:%u max_masters=5", port);
    host_ready(seed);
    peercache_node_t *node = host_node(
        "discovery_addr=127.0.0.1:%u member_ttl=900ms max_masters=2", port);
    host_ready(node);
    WAIT_UNTIL(host_log_count(PEERCACHE_LOG_WARN, "member_ttl is 900 ms here",
                              "600 ms at the seed") == 1,
               5);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "max_masters is 2 here",
                                    "5 at the seed"),
                     1);
    assert_int_equal(node->settings.member_ttl_ns, 600 * PC_MS);
    assert_int_equal(node->settings.max_masters, 5);
    assert_int_equal(seed->settings.max_masters, 5);
    peercache_node_destroy(node);
    peercache_node_destroy(seed);
    host_log_keep();
}

static void settings_that_must_agree_are_refused_in_both_logs(void **state)
{
    (void)state;
    static const struct
    {
        const char *setting, *reason;
    } cases[] = {
        {"vnodes=17", "vnodes is"},
        {"directory_replicas=1", "directory_replicas is"},
        {"cluster_name=another", "cluster_name is"},
        {"digest_salt=pepper", "digest_salt differs"},
    };
    for (size_t i = 0; i < PC_ARRAY_LEN(cases); i++) {
        uint16_t port = host_port();
        host_log_keep();
        peercache_node_t *seed =
            host_node("discovery_addr=127.0.0.1:%u node_id=seed", port);
        host_ready(seed);
        peercache_node_t *node =
            host_node("discovery_addr=127.0.0.1:%u node_id=odd %s", port,
                      cases[i].setting);
        /* One process has one log: a line of each of them. */
        WAIT_UNTIL(host_log_count(PEERCACHE_LOG_WARN, "refused node odd",
                                  cases[i].reason) >= 1,
                   5);
        WAIT_UNTIL(host_log_count(PEERCACHE_LOG_ERROR, "refused by the node",
                                  cases[i].reason) >= 1,
                   5);
        assert_int_equal(peercache_node_wait_ready(node, 100 * PC_MS),
                         PEERCACHE_TIMED_OUT);
        assert_int_equal(host_metric(seed, "members"), 1);
        assert_true(host_metric(seed, "peer_refused_total") >= 1);
        peercache_node_destroy(node);
        peercache_node_destroy(seed);
    }
    host_log_keep();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            the_discovery_port_is_taken_over_when_its_holder_is_killed),
        cmocka_unit_test(a_restarted_holder_learns_of_the_cluster_at_once),
        cmocka_unit_test(a_node_with_the_id_of_a_live_one_is_refused),
        cmocka_unit_test(names_are_seeds_and_two_of_one_node_are_one),
        cmocka_unit_test(a_node_whose_seeds_names_are_unknown_works_alone),
        cmocka_unit_test(the_seeds_word_is_taken_on_member_ttl_and_masters),
        cmocka_unit_test(settings_that_must_agree_are_refused_in_both_logs),
    };
    if (argc > 1) {
        return host_alone(argv[1], tests, PC_ARRAY_LEN(tests), NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
