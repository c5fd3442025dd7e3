/*
 * What a cluster does when something goes wrong: nodes die, freeze, come back,
 * are slow or cut off; views change.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define FAST "heartbeat_interval=100ms member_ttl=300ms settle=500ms vnodes=32 "

/* Two nodes that put at the same time both store. */
static void put_on_both(struct cluster *c, int i, int k, const char *words)
{
    struct cluster_op *one = cluster_begin_verb(c, i, PC_VERB_PUT, words);
    struct cluster_op *two = cluster_begin_verb(c, k, PC_VERB_PUT, words);
    cluster_wait(one);
    cluster_wait(two);
    assert_int_equal(cluster_metric(c, i, PC_METRIC_WRITE_STORED), one->n);
    assert_int_equal(cluster_metric(c, k, PC_METRIC_WRITE_STORED), one->n);
}

static void a_holder_that_dies_during_a_get_is_replaced_by_another(void **state)
{
    (void)state;
    static const char *const modes[] = {
        "read_mode=served", "read_mode=one-sided", "read_mode=auto"};
    for (unsigned m = 0; m < 3; m++) {
        for (int victim = 0; victim < 2; victim++) {
            struct cluster *c = cluster_create(1 + m);
            struct pc_sim_path path = pc_sim_path_default();
            cluster_start_all(c, 3, modes[m]);
            put_on_both(c, 0, 1, "l1 l2");
            cluster_do(c, 2, PC_VERB_EXISTS, "l1 l2");
            path.bandwidth = 5ull * 1000 * 1000; /* 20 ms a value. */
            pc_sim_set_path(c->sim, NULL, NULL, &path);
            pc_sim_set_window(c->sim, 16384);
            struct cluster_op *get =
                cluster_begin_verb(c, 2, PC_VERB_GET, "l1 l2");
            cluster_run(c, 10 * PC_MS);
            assert_false(get->ended);
            cluster_kill(c, victim);
            cluster_wait(get);
            assert_int_equal(get->result, PEERCACHE_OK);
            cluster_check_rest(c);
            cluster_destroy(c);
        }
    }
}

static void the_only_holder_dies_during_a_get(void **state)
{
    (void)state;
    static const char *const modes[] = {"read_mode=served",
                                        "read_mode=one-sided"};
    for (unsigned m = 0; m < 2; m++) {
        struct cluster *c = cluster_create(5 + m);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start_all(c, 3, modes[m]);
        cluster_do(c, 0, PC_VERB_PUT, "l1");
        cluster_do(c, 1, PC_VERB_EXISTS, "l1");
        path.bandwidth = 5ull * 1000 * 1000;
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        /* A kernel still sends what a dead process had written. */
        pc_sim_set_window(c->sim, 16384);
        cluster_mark(c);
        struct cluster_call call = {
            .node = 1, .verb = PC_VERB_GET, .words = "l1", .registered = true};
        struct cluster_op *get = cluster_begin(c, &call);
        cluster_run(c, 10 * PC_MS);
        cluster_kill(c, 0);
        cluster_wait(get);
        /* A connection that breaks is opened again at once, and refused. */
        assert_int_equal(get->statuses[0], PEERCACHE_NOT_FOUND);
        assert_in_range(get->ended_ns - get->started_ns, 10 * PC_MS,
                        75 * PC_MS);
        assert_int_equal(cluster_metric(c, 1, PC_METRIC_MISS_PEER_DOWN), 1);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

static void a_directory_replica_dies_and_nothing_is_lost(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(10);
    cluster_start_all(c, 4, FAST "location_cache=0");
    cluster_pick_word(c, 0, 'm', "bc", "a", x);
    cluster_do(c, 0, PC_VERB_PUT, x);
    cluster_kill(c, 1);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, x), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, x), PEERCACHE_OK);
    cluster_run(c, 2 * PC_S);
    cluster_settle(c, 10 * PC_S);
    assert_false(cluster_owns(c, 0, 1, x));
    cluster_check_directory(c); /* There are two owners again. */
    cluster_kill(c, 2);
    cluster_run(c, 2 * PC_S);
    cluster_settle(c, 10 * PC_S);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, x), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_restarted_node_cannot_look_like_its_past(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(11);
    cluster_start_all(c, 3, "");
    cluster_do(c, 0, PC_VERB_PUT, "x y");
    cluster_do(c, 1, PC_VERB_GET, "x y");
    cluster_mark(c);
    cluster_kill(c, 0);
    cluster_restart(c, 0);
    cluster_settle(c, 30 * PC_S);
    cluster_do(c, 0, PC_VERB_PUT, "y");
    cluster_do(c, 1, PC_VERB_GET, "x y");
    cluster_do(c, 2, PC_VERB_GET, "x y");
    cluster_do(c, 2, PC_VERB_EXISTS, "x y");
    /* That the old one is dead is looked into before the new one is let in. */
    cluster_expect(c, "0 ms  a dies\n"
                      "0 ms  a starts again\n"
                      "0 ms  b sees b c\n"
                      "10 ms  b sees a b c\n"
                      "10 ms  a sees a b c\n"
                      "10 ms  c sees a b c\n"
                      "10 ms  a put y: OK\n"
                      "10 ms  b get x y: NOT_FOUND, OK one-sided\n"
                      "10 ms  c get x y: NOT_FOUND, OK one-sided\n"
                      "10 ms  c exists x y: NOT_FOUND, OK\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Rule 8: a reader in the middle of its copy when the owner dies. */
static void a_mapping_stays_while_somebody_copies_from_it(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(12);
    cluster_start(c, 0, 0, FAST);
    cluster_start(c, 1, 1, FAST);
    cluster_start(c, 2, 1, FAST "read_mode=mapped");
    cluster_settle(c, 30 * PC_S);
    cluster_do(c, 1, PC_VERB_PUT, "x");
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "x"), PEERCACHE_OK);
    peercache_node_t *reader = c->nodes[2].node;
    struct pc_mapping *m = NULL;
    for (uint32_t r = 0; r < 4 && m == NULL; r++) {
        m = pc_mappings_acquire(&reader->mappings, c->nodes[1].incarnation, r);
    }
    assert_non_null(m);
    struct pc_record record;
    assert_true(pc_cache_get(reader->cache, cluster_digest(c, 2, "x"),
                             cluster_now(c), &record));
    cluster_kill(c, 1);
    cluster_run(c, 2 * PC_S);
    assert_null(pc_peers_find(&reader->peers, record.incarnation));
    assert_int_equal(atomic_load(&reader->mappings.n_live), 1);
    uint8_t bytes[16384];
    uint8_t wanted[16384];
    cluster_value("x", 0, wanted, sizeof(wanted));
    memcpy(bytes, m->base + record.offset, sizeof(bytes));
    assert_memory_equal(bytes, wanted, sizeof(bytes));
    pc_mappings_release(m);
    cluster_run(c, PC_MS);
    assert_int_equal(atomic_load(&reader->mappings.n_live), 0);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Rule 8: what is mapped must be what the peer told of on its connection. */
static void memory_of_another_is_not_read(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(13);
    cluster_start(c, 0, 0, "region_size=2mib");
    cluster_start(c, 1, 0, "read_mode=mapped");
    cluster_start(c, 2, 0, "read_mode=auto");
    cluster_settle(c, 30 * PC_S);
    cluster_do(c, 0, PC_VERB_PUT, "x");
    struct pc_region_page *page = c->nodes[0].node->regions[0].addr;
    page->nonce ^= 1; /* Another container's segment. */
    cluster_mark(c);
    cluster_do(c, 1, PC_VERB_GET, "x");
    cluster_do(c, 2, PC_VERB_GET, "x");
    assert_int_equal(c->counts.n_by_source[PEERCACHE_FROM_MAPPED], 0);
    assert_int_equal(c->counts.n_ok, 2); /* The put, and c in another way. */
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Rule 12: while others read it in every way, a pool may be read-only. */
static void nobody_writes_into_the_pool_of_another(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(18);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "read_mode=one-sided");
    cluster_start(c, 2, 0, "read_mode=mapped");
    cluster_start(c, 3, 2, "read_mode=served");
    cluster_settle(c, 30 * PC_S);
    cluster_do(c, 0, PC_VERB_PUT, "x l1 s1");
    peercache_node_t *owner = c->nodes[0].node;
    for (size_t r = 0; r < owner->n_regions; r++) {
        assert_int_equal(mprotect(owner->regions[r].addr,
                                  owner->regions[r].length, PROT_READ),
                         0);
    }
    for (int i = 1; i < 4; i++) {
        cluster_do(c, i, PC_VERB_EXISTS, "x l1 s1 y");
        cluster_do(c, i, PC_VERB_GET, "x l1 s1 y");
        cluster_do(c, i, PC_VERB_PUT, "x l1");
        cluster_do(c, i, PC_VERB_GET, "x l1");
    }
    assert_int_equal(c->counts.n_by_source[PEERCACHE_FROM_MAPPED], 5);
    assert_int_equal(c->counts.n_by_source[PEERCACHE_FROM_ONE_SIDED], 5);
    assert_int_equal(c->counts.n_by_source[PEERCACHE_FROM_SERVED], 5);
    for (size_t r = 0; r < owner->n_regions; r++) {
        assert_int_equal(mprotect(owner->regions[r].addr,
                                  owner->regions[r].length,
                                  PROT_READ | PROT_WRITE),
                         0);
    }
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Rule 4: b hears of d only through the directory's answer. */
static void a_holder_that_the_reader_has_not_met_is_used(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(14);
    cluster_defaults(c, "discovery_addr=10.0.0.1:31998 max_masters=1 "
                        "heartbeat_interval=1 member_ttl=10 settle=1");
    for (int i = 0; i < 3; i++) {
        cluster_start(c, i, (unsigned)i, "");
        cluster_settle(c, 30 * PC_S);
    }
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[1].host);
    cluster_start(c, 3, 3, "");
    cluster_run(c, 100 * PC_MS);
    assert_null(
        pc_cluster_find(c->nodes[1].node->cluster, c->nodes[3].incarnation));
    cluster_pick_word(c, 3, 'm', "c", "ab", x);
    assert_int_equal(cluster_do(c, 3, PC_VERB_PUT, x), PEERCACHE_OK);
    /* c tells b of its view together with its answer; the record counts. */
    assert_true(cluster_owns(c, 1, 2, x));
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, x), PEERCACHE_OK);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[1].host);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_silent_holder_costs_one_get_a_quarter_second(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(15);
    cluster_start_all(c, 3, "read_mode=served directory_replicas=3");
    cluster_do(c, 0, PC_VERB_PUT, "x");
    cluster_do(c, 1, PC_VERB_GET, "x");
    cluster_mark(c);
    cluster_freeze(c, 0);
    struct cluster_op *first = cluster_begin_verb(c, 1, PC_VERB_GET, "x");
    cluster_wait(first);
    assert_in_range(first->ended_ns - first->started_ns, 200 * PC_MS,
                    350 * PC_MS);
    struct cluster_op *second = cluster_begin_verb(c, 1, PC_VERB_GET, "x");
    cluster_wait(second);
    assert_in_range(second->ended_ns - second->started_ns, 0, 5 * PC_MS);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_MISS_PEER_DOWN), 2);
    cluster_thaw(c, 0);
    cluster_run(c, 500 * PC_MS);
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "x"), PEERCACHE_OK);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_silent_owner_delays_nobody_for_long(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(16);
    cluster_start_all(c, 4, "location_cache=0");
    cluster_pick_word(c, 0, 'm', "bc", "", x);
    cluster_do(c, 0, PC_VERB_PUT, x);
    cluster_freeze(c, 1);
    struct cluster_op *get = cluster_begin_verb(c, 3, PC_VERB_GET, x);
    cluster_wait(get);
    assert_int_equal(get->result, PEERCACHE_OK);
    assert_in_range(get->ended_ns - get->started_ns, 0, 350 * PC_MS);
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, "z1 z2 z3");
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(put->ended_ns - put->started_ns, 0, 600 * PC_MS);
    cluster_thaw(c, 1);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_slow_peer_is_waited_for(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(17);
    cluster_start_all(c, 2, "read_mode=served");
    cluster_do(c, 0, PC_VERB_PUT, "x");
    pc_sim_set_slow(c->nodes[0].host, 30 * PC_MS);
    c->slack_ns = 200 * PC_MS;
    cluster_mark(c);
    struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, "x");
    cluster_wait(get);
    assert_int_equal(get->statuses[0], PEERCACHE_OK);
    assert_in_range(get->ended_ns - get->started_ns, 60 * PC_MS, 400 * PC_MS);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_node_ends_while_it_reads(void **state)
{
    (void)state;
    static const char *const modes[] = {"read_mode=served",
                                        "read_mode=one-sided"};
    for (unsigned m = 0; m < 2; m++) {
        struct cluster *c = cluster_create(20 + m);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start_all(c, 2, modes[m]);
        cluster_do(c, 0, PC_VERB_PUT, "l1 l2 m1");
        cluster_do(c, 1, PC_VERB_EXISTS, "l1");
        path.bandwidth = 5ull * 1000 * 1000;
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        cluster_mark(c);
        struct cluster_call call = {.node = 1,
                                    .verb = PC_VERB_GET,
                                    .words = "l1 l2",
                                    .registered = true};
        struct cluster_op *get = cluster_begin(c, &call);
        cluster_run(c, 10 * PC_MS);
        cluster_stop(c, 1);
        cluster_run(c, PC_S);
        assert_true(get->ended);
        assert_int_equal(get->statuses[0], PEERCACHE_SHUTDOWN);
        assert_int_equal(get->statuses[1], PEERCACHE_SHUTDOWN);
        assert_int_equal(c->nodes[1].state, CLUSTER_DOWN);
        cluster_check_rest(c); /* a's pins, too. */
        cluster_destroy(c);
    }
}

static void a_node_ends_while_it_serves(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(22);
    struct pc_sim_path path = pc_sim_path_default();
    cluster_start_all(c, 3, "read_mode=served");
    cluster_do(c, 0, PC_VERB_PUT, "l1 l2");
    path.bandwidth = 5ull * 1000 * 1000;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    cluster_mark(c);
    struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, "l1 l2");
    cluster_run(c, 10 * PC_MS);
    cluster_stop(c, 0);
    cluster_wait(get);
    assert_true(get->ended_ns - get->started_ns < 300 * PC_MS);
    cluster_settle(c, 10 * PC_S);
    assert_int_equal(c->nodes[0].state, CLUSTER_DOWN);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static void a_join_moves_records_and_loses_none(void **state)
{
    (void)state;
    char words[256] = "s0";
    for (unsigned k = 1; k < 40; k++) {
        snprintf(words + strlen(words), 8, " s%u", k);
    }
    for (uint64_t seed = 30; seed < 36; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_start_all(c, 2, FAST "location_cache=0");
        cluster_do(c, 0, PC_VERB_PUT, words);
        cluster_start(c, 2, 2, FAST);
        cluster_start(c, 3, 3, FAST);
        unsigned n_gets = 0;
        for (unsigned k = 0; k < 60; k++) {
            for (int i = 1; i < 4; i++) {
                if (c->nodes[i].n_running == 0) {
                    (void)cluster_begin_verb(c, i, PC_VERB_GET, words);
                    n_gets++;
                }
            }
            cluster_run(c, 100 * PC_US);
        }
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        for (struct pc_list *at = c->ended.next; at != &c->ended;
             at = at->next) {
            struct cluster_op *op =
                PC_CONTAINER_OF(at, struct cluster_op, link);
            assert_int_equal(op->result, PEERCACHE_OK);
        }
        assert_true(n_gets > 6);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* Rule 11: what was not acknowledged is sent again, in order. */
static void publishes_and_retracts_outlive_a_connection(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(40);
    cluster_start_all(c, 3, "member_ttl=20 directory_replicas=3");
    struct cluster_op *ops[4];
    cluster_do(c, 0, PC_VERB_PUT, "x y z");
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    ops[0] = cluster_begin_verb(c, 0, PC_VERB_REMOVE, "x y");
    cluster_wait(ops[0]);
    ops[1] = cluster_begin_verb(c, 0, PC_VERB_PUT, "x v w");
    cluster_wait(ops[1]);
    ops[2] = cluster_begin_verb(c, 0, PC_VERB_REMOVE, "v z");
    cluster_wait(ops[2]);
    pc_sim_break(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_run(c, PC_S);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_mark(c);
    cluster_do(c, 2, PC_VERB_GET, "x y z v w");
    cluster_expect(c, "0 ms  c get x y z v w: OK one-sided, NOT_FOUND x3, "
                      "OK one-sided\n");
    cluster_destroy(c);
}

static void two_clusters_that_formed_apart_become_one(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(41);
    cluster_defaults(c, FAST);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "");
    cluster_start(c, 2, 0, "");
    cluster_start(c, 3, 1, "");
    pc_sim_set_island(c->nodes[1].host, 1);
    pc_sim_set_island(c->nodes[3].host, 1);
    cluster_run(c, 3 * PC_S);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, "x"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "y"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "x"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, "y"), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "y"), PEERCACHE_NOT_FOUND);
    pc_sim_set_island(c->nodes[1].host, 0);
    pc_sim_set_island(c->nodes[3].host, 0);
    cluster_run(c, 3 * PC_S);
    cluster_settle(c, 30 * PC_S);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, "x"), PEERCACHE_OK);
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, "y"), PEERCACHE_OK);
    }
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void nodes_that_do_not_find_their_seeds_work_alone(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(42);
    cluster_start(c, 0, 5, "");
    cluster_mark(c);
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, "x");
    struct cluster_op *get = cluster_begin_verb(c, 0, PC_VERB_GET, "y");
    cluster_wait(put);
    cluster_wait(get);
    cluster_do(c, 0, PC_VERB_GET, "x");
    cluster_expect(c, "500 ms  a put x: OK\n"
                      "500 ms  a get y: NOT_FOUND\n"
                      "500 ms  a get x: OK local\n");
    cluster_start(c, 1, 0, "");
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "x"), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static struct cluster_op *do_version(struct cluster *c, int i,
                                     enum pc_verb verb, const char *word,
                                     unsigned version)
{
    struct cluster_call call = {
        .node = i, .verb = verb, .words = word, .version = version};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    return op;
}

/* One owner has lost the record of our value and has that of another length
 * (rule 5); which of them is asked first depends on the key. */
static void another_length_is_no_answer_while_an_owner_was_not_asked(
    void **state)
{
    (void)state;
    static const char *const owners[] = {"bc", "cb"};
    for (unsigned s = 0; s < 2; s++) {
        struct cluster *c = cluster_create(60);
        char word[16];
        cluster_start_all(c, 5, FAST "directory_replicas=2");
        cluster_pick_word(c, 3, 'm', "bc", "ade", word);
        assert_int_equal(do_version(c, 0, PC_VERB_PUT, word, 0)->result,
                         PEERCACHE_OK);
        assert_int_equal(do_version(c, 4, PC_VERB_PUT, word, 1)->result,
                         PEERCACHE_OK);
        struct pc_shard *shard = c->nodes[owners[s][0] - 'a'].node->shard;
        struct pc_digest digest = cluster_digest(c, 3, word);
        struct pc_record records[4];
        assert_int_equal(pc_shard_lookup(shard, digest, records, 4), 2);
        for (unsigned r = 0; r < 2; r++) {
            if (records[r].incarnation == c->nodes[0].incarnation) {
                assert_true(pc_shard_retract(shard, &records[r]));
            }
        }
        assert_int_equal(do_version(c, 3, PC_VERB_GET, word, 0)->result,
                         PEERCACHE_OK);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* The same with a holder on another machine, of a reader that only maps. */
static void a_holder_without_a_way_is_no_answer_while_an_owner_was_not_asked(
    void **state)
{
    (void)state;
    static const char *const owners[] = {"bc", "cb"};
    for (unsigned s = 0; s < 2; s++) {
        struct cluster *c = cluster_create(62);
        char word[16];
        for (unsigned i = 0; i < 5; i++) {
            cluster_start(c, (int)i, i == 4 ? 3 : i,
                          i == 3 ? FAST "read_mode=mapped" : FAST);
        }
        cluster_settle(c, 30 * PC_S);
        cluster_pick_word(c, 3, 'm', "bc", "ade", word);
        /* Nobody tells node e of what a has, so that e stores it too. */
        struct pc_digest digest = cluster_digest(c, 3, word);
        struct pc_record far_one;
        struct pc_record near_one;
        assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, word), PEERCACHE_OK);
        for (int i = 1; i <= 2; i++) {
            struct pc_shard *shard = c->nodes[i].node->shard;
            assert_int_equal(pc_shard_lookup(shard, digest, &far_one, 1), 1);
            assert_true(pc_shard_retract(shard, &far_one));
        }
        assert_int_equal(cluster_do(c, 4, PC_VERB_PUT, word), PEERCACHE_OK);
        for (int i = 1; i <= 2; i++) {
            struct pc_shard *shard = c->nodes[i].node->shard;
            assert_int_equal(pc_shard_lookup(shard, digest, &near_one, 1), 1);
            assert_int_equal(pc_shard_publish(shard, &far_one), PEERCACHE_OK);
        }
        assert_true(near_one.incarnation == c->nodes[4].incarnation);
        assert_true(pc_shard_retract(c->nodes[owners[s][0] - 'a'].node->shard,
                                     &near_one));
        assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word), PEERCACHE_OK);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

static struct pc_shard *shard_of(struct cluster *c, char owner)
{
    return c->nodes[owner - 'a'].node->shard;
}

/* What the reader remembers is stale, and so is what the first owner says. */
static void a_remembered_place_is_no_lookup(void **state)
{
    (void)state;
    static const char owners[] = "bc";
    for (unsigned s = 0; s < 2; s++) {
        struct cluster *c = cluster_create(65);
        char word[16];
        cluster_start_all(c, 5, FAST "directory_replicas=2");
        cluster_pick_word(c, 3, 'm', owners, "ade", word);
        struct pc_digest digest = cluster_digest(c, 3, word);
        struct pc_record stale;
        struct pc_record good;
        for (int k = 0; k < 2; k++) {
            assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, word), PEERCACHE_OK);
            if (k == 0) {
                assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word),
                                 PEERCACHE_OK);
            }
            assert_int_equal(
                pc_shard_lookup(shard_of(c, 'b'), digest, &stale, 1), 1);
            assert_true(pc_store_remove(c->nodes[0].node->store, digest));
            c->wants[0] = true;
            cluster_run(c, PC_S);
        }
        assert_int_equal(cluster_do(c, 4, PC_VERB_PUT, word), PEERCACHE_OK);
        assert_int_equal(
            pc_shard_lookup(shard_of(c, owners[s]), digest, &good, 1), 1);
        assert_true(pc_shard_retract(shard_of(c, owners[s]), &good));
        assert_int_equal(pc_shard_publish(shard_of(c, owners[s]), &stale),
                         PEERCACHE_OK);
        assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word), PEERCACHE_OK);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* Its new incarnation is a lower number than its last one; what waited for
 * that must not wait for ever. */
static void a_node_restarts_with_its_wall_clock_put_back(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(64);
    cluster_start_all(c, 3, FAST);
    uint64_t last = c->nodes[2].incarnation;
    cluster_cut(c, 1, 2);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "a b d e f g h i"),
                     PEERCACHE_OK);
    cluster_kill(c, 2);
    c->wall_back_ns = 3600 * PC_S;
    cluster_restart(c, 2);
    assert_true(c->nodes[2].incarnation < last);
    cluster_heal_all(c);
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "a b d e f g h i"),
                     PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_holder_that_dies_during_a_get_is_replaced_by_another),
        cmocka_unit_test(the_only_holder_dies_during_a_get),
        cmocka_unit_test(a_directory_replica_dies_and_nothing_is_lost),
        cmocka_unit_test(a_restarted_node_cannot_look_like_its_past),
        cmocka_unit_test(a_mapping_stays_while_somebody_copies_from_it),
        cmocka_unit_test(memory_of_another_is_not_read),
        cmocka_unit_test(nobody_writes_into_the_pool_of_another),
        cmocka_unit_test(a_holder_that_the_reader_has_not_met_is_used),
        cmocka_unit_test(a_silent_holder_costs_one_get_a_quarter_second),
        cmocka_unit_test(a_silent_owner_delays_nobody_for_long),
        cmocka_unit_test(a_slow_peer_is_waited_for),
        cmocka_unit_test(a_node_ends_while_it_reads),
        cmocka_unit_test(a_node_ends_while_it_serves),
        cmocka_unit_test(a_join_moves_records_and_loses_none),
        cmocka_unit_test(publishes_and_retracts_outlive_a_connection),
        cmocka_unit_test(two_clusters_that_formed_apart_become_one),
        cmocka_unit_test(nodes_that_do_not_find_their_seeds_work_alone),
        cmocka_unit_test(
            another_length_is_no_answer_while_an_owner_was_not_asked),
        cmocka_unit_test(
            a_holder_without_a_way_is_no_answer_while_an_owner_was_not_asked),
        cmocka_unit_test(a_remembered_place_is_no_lookup),
        cmocka_unit_test(a_node_restarts_with_its_wall_clock_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
