/*
 * Ways to another's memory that cannot be opened, or break: when they are tried
 * again, and how reads fare until then.
 */
#include "test.h"

#include "cluster.h"

/* Deaths are not to be known before anything else is noticed. */
#define SETTINGS "heartbeat_interval=2 member_ttl=30 "
#define STEP_NS  (20 * PC_MS)
/* Forced, a read waits 300 ms for a way, and tells no sooner. */
#define SLACK_NS (400 * PC_MS)

/* A reader (a) that looks all the time for what another (b) holds. */
struct watch
{
    struct cluster *c;
    unsigned n_left;   /* Bad tries that b's host still has. */
    uint64_t tried_ns; /* The last of them. */
};

static void watch_start(struct watch *watch, const char *settings,
                        unsigned machine, unsigned n_bad)
{
    struct cluster *c = cluster_create(51);
    *watch = (struct watch){.c = c};
    cluster_defaults(c, SETTINGS);
    cluster_start(c, 0, 0, settings);
    cluster_start(c, 1, machine, settings);
    pc_sim_set_bad_tries(c->nodes[1].host, n_bad);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, 4 * PC_S);
    watch->n_left = pc_sim_bad_tries(c->nodes[1].host);
    watch->tried_ns = cluster_now(c);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "x"), PEERCACHE_OK);
}

/* One read, which must be quick; where its bytes came from. */
static peercache_source_t look(struct watch *watch)
{
    struct cluster *c = watch->c;
    struct cluster_op *op = cluster_begin_verb(c, 0, PC_VERB_GET, "x");
    cluster_wait(op);
    assert_true(op->ended_ns - op->started_ns < SLACK_NS);
    peercache_source_t source =
        op->statuses[0] == PEERCACHE_OK ? op->sources[0] : PEERCACHE_FROM_NONE;
    cluster_run(c, STEP_NS);
    return source;
}

/* Reads until the way is tried again; how long after the last time. */
static uint64_t next_try(struct watch *watch, peercache_source_t source)
{
    uint64_t began = watch->tried_ns;
    while (pc_sim_bad_tries(watch->c->nodes[1].host) == watch->n_left) {
        assert_int_equal(look(watch), source);
        assert_true(cluster_now(watch->c) - began < 60 * PC_S);
    }
    watch->n_left--;
    assert_int_equal(pc_sim_bad_tries(watch->c->nodes[1].host), watch->n_left);
    watch->tried_ns = cluster_now(watch->c);
    return watch->tried_ns - began;
}

static uint64_t at_least(unsigned after_s)
{
    return after_s > 0 ? after_s * PC_S - SLACK_NS : 0;
}

static void expect_tries(struct watch *watch, const unsigned *after_s, size_t n,
                         peercache_source_t source)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t took = next_try(watch, source);
        assert_in_range(took, at_least(after_s[i]),
                        after_s[i] * PC_S + SLACK_NS);
    }
}

/* Until reads come by that way, which is to be after so long. */
static void expect_way(struct watch *watch, unsigned after_s,
                       peercache_source_t before, peercache_source_t source)
{
    peercache_source_t now = look(watch);
    while (now != source) {
        assert_int_equal(now, before);
        assert_true(cluster_now(watch->c) - watch->tried_ns < 60 * PC_S);
        now = look(watch);
    }
    assert_in_range(cluster_now(watch->c) - watch->tried_ns, at_least(after_s),
                    after_s * PC_S + SLACK_NS);
}

static void watch_end(struct watch *watch)
{
    cluster_check_rest(watch->c);
    cluster_destroy(watch->c);
}

/* The first try comes with the first words between the two, the next when there
 * is something to be read, and not sooner than a second later. */
static void a_way_that_fails_while_it_is_tried_is_tried_again(void **state)
{
    (void)state;
    static const unsigned after_s[] = {0, 2, 4, 8, 16, 30, 30};
    struct watch watch;
    watch_start(&watch, "", 1, 1 + PC_ARRAY_LEN(after_s));
    assert_int_equal(watch.n_left, PC_ARRAY_LEN(after_s));
    expect_tries(&watch, after_s, PC_ARRAY_LEN(after_s), PEERCACHE_FROM_SERVED);
    expect_way(&watch, 30, PEERCACHE_FROM_SERVED, PEERCACHE_FROM_ONE_SIDED);
    watch_end(&watch);
}

/* Forced, there are no bytes until then, and no read waits for them. */
static void a_forced_way_that_fails_is_a_miss_and_tried_again(void **state)
{
    (void)state;
    static const unsigned after_s[] = {0, 2};
    for (unsigned machine = 0; machine < 2; machine++) {
        struct watch watch;
        watch_start(&watch, "read_mode=one-sided", machine, 3);
        expect_tries(&watch, after_s, 2, PEERCACHE_FROM_NONE);
        expect_way(&watch, 4, PEERCACHE_FROM_NONE, PEERCACHE_FROM_ONE_SIDED);
        watch_end(&watch);
    }
}

/* It has a better way. */
static void a_mapped_neighbour_is_not_let_go_for_a_way_that_fails(void **state)
{
    (void)state;
    struct watch watch;
    watch_start(&watch, "", 0, 3);
    assert_int_equal(watch.n_left, 2);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(look(&watch), PEERCACHE_FROM_MAPPED);
    }
    assert_int_equal(pc_sim_bad_tries(watch.c->nodes[1].host), 2);
    watch_end(&watch);
}

/* After it has worked, the waiting begins anew. */
static void a_way_that_worked_and_broke_is_tried_again_soon(void **state)
{
    (void)state;
    static const unsigned after_s[] = {1, 2, 4};
    struct watch watch;
    watch_start(&watch, "", 1, 4);
    struct cluster *c = watch.c;
    static const unsigned first_s[] = {0, 2, 4};
    expect_tries(&watch, first_s, 3, PEERCACHE_FROM_SERVED);
    expect_way(&watch, 8, PEERCACHE_FROM_SERVED, PEERCACHE_FROM_ONE_SIDED);
    /* A deadline ends gets into the caller's memory by giving the way up. */
    struct cluster_call call = {.node = 0,
                                .verb = PC_VERB_GET,
                                .words = "x",
                                .timeout_ns = 300 * PC_MS,
                                .registered = true};
    cluster_cut(c, 0, 1);
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_not_equal(op->statuses[0], PEERCACHE_OK);
    watch.tried_ns = cluster_now(c);
    pc_sim_set_bad_tries(c->nodes[1].host, 3);
    watch.n_left = 3;
    cluster_heal_all(c);
    cluster_run(c, PC_S / 2); /* Its words come again. */
    expect_tries(&watch, after_s, 3, PEERCACHE_FROM_SERVED);
    expect_way(&watch, 8, PEERCACHE_FROM_SERVED, PEERCACHE_FROM_ONE_SIDED);
    watch_end(&watch);
}

/* Header gets of c to b that one call takes, by its steps. */
static unsigned header_gets_of(struct cluster *c, struct cluster_op *op)
{
    const struct pc_peer *peer =
        pc_peers_find(&c->nodes[0].node->peers, c->nodes[1].incarnation);
    assert_non_null(peer);
    unsigned n = 0;
    for (unsigned before = 0; !op->ended; before = peer->n_header_gets) {
        cluster_run(c, PC_US);
        n += peer->n_header_gets > before ? peer->n_header_gets - before : 0;
    }
    return n;
}

/* Of gets in software, bytes a second. */
static void set_bandwidth(struct cluster *c, uint64_t bandwidth)
{
    struct pc_sim_path path = pc_sim_path_default();
    path.native = false;
    path.latency_min_ns = path.latency_max_ns = 20 * PC_US;
    path.bandwidth = bandwidth;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
}

static struct cluster *start_in_software(void)
{
    struct cluster *c = cluster_create(52);
    set_bandwidth(c, 1000ull * 1000 * 1000);
    cluster_start_all(c, 2, SETTINGS "read_mode=one-sided");
    return c;
}

#define MANY "l1 l2 l3 l4 l5 l6 l7 l8 l9 l10 l11 l12 l13 l14 l15 l16"

/* Where each get is work for both processes, a batch asks for the headers of
 * its values together. */
static void headers_of_a_batch_come_together_where_gets_are_software(
    void **state)
{
    (void)state;
    struct cluster *c = start_in_software();
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, MANY), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, MANY), PEERCACHE_OK);
    struct cluster_call call = {
        .node = 0, .verb = PC_VERB_GET, .words = MANY, .registered = true};
    struct cluster_op *op = cluster_begin(c, &call);
    assert_in_range(header_gets_of(c, op), 1, 4);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* And yet nobody waits for the end of what others read. */
static void a_header_does_not_wait_for_all_that_others_read(void **state)
{
    (void)state;
    struct cluster *c = start_in_software();
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "s1 " MANY), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "s1 " MANY), PEERCACHE_OK);
    struct cluster_call one = {
        .node = 0, .verb = PC_VERB_GET, .words = "s1", .registered = true};
    struct cluster_call many = {
        .node = 0, .verb = PC_VERB_GET, .words = MANY, .registered = true};
    set_bandwidth(c, 50ull * 1000 * 1000);
    struct cluster_op *small = cluster_begin(c, &one);
    struct cluster_op *large = cluster_begin(c, &many);
    cluster_wait(small);
    assert_int_equal(small->result, PEERCACHE_OK);
    assert_false(large->ended);
    cluster_wait(large);
    assert_int_equal(large->result, PEERCACHE_OK);
    assert_true(3 * (small->ended_ns - small->started_ns) <
                large->ended_ns - large->started_ns);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Nor of the one long get, which ends long after the millisecond. */
static void a_header_does_not_wait_for_a_long_get(void **state)
{
    (void)state;
    struct cluster *c = start_in_software();
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "s1 h1"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "s1 h1"), PEERCACHE_OK);
    struct cluster_call one = {
        .node = 0, .verb = PC_VERB_GET, .words = "s1", .registered = true};
    struct cluster_call other = {
        .node = 0, .verb = PC_VERB_GET, .words = "h1", .registered = true};
    set_bandwidth(c, 50ull * 1000 * 1000);
    struct cluster_op *small = cluster_begin(c, &one);
    struct cluster_op *huge = cluster_begin(c, &other);
    cluster_wait(small);
    assert_int_equal(small->result, PEERCACHE_OK);
    assert_in_range(small->ended_ns - small->started_ns, 0, 4 * PC_MS);
    cluster_wait(huge);
    assert_int_equal(huge->result, PEERCACHE_OK);
    assert_in_range(huge->ended_ns - huge->started_ns, 10 * PC_MS, PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_way_that_fails_while_it_is_tried_is_tried_again),
        cmocka_unit_test(a_forced_way_that_fails_is_a_miss_and_tried_again),
        cmocka_unit_test(a_mapped_neighbour_is_not_let_go_for_a_way_that_fails),
        cmocka_unit_test(a_way_that_worked_and_broke_is_tried_again_soon),
        cmocka_unit_test(
            headers_of_a_batch_come_together_where_gets_are_software),
        cmocka_unit_test(a_header_does_not_wait_for_all_that_others_read),
        cmocka_unit_test(a_header_does_not_wait_for_a_long_get),
    };
    return cmocka_run_group_tests_name("ways", tests, NULL, NULL);
}
