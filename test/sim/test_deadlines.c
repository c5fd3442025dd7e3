/*
 * One peer hangs (its process is stopped): every call ends in its time, the
 * others are not harmed, what is asked of it stays bounded, and it is used
 * again when it is back.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_KEYS   128
#define HEDGE_NS (3 * PC_MS)
/* A breaker opens after 200 ms without a word; of a body that stopped landing,
 * at the first look after that, and there is one every 50 ms. */
#define BREAKER_NS (205 * PC_MS)
#define LANDING_NS (255 * PC_MS)

static void key_words(char words[1024], char kind)
{
    size_t at = 0;
    for (unsigned k = 0; k < N_KEYS; k++) {
        at += (size_t)snprintf(words + at, 1024 - at, "%s%c%u",
                               k == 0 ? "" : " ", kind, k);
    }
}

static uint64_t took_ns(const struct cluster_op *op)
{
    return op->ended_ns - op->started_ns;
}

static struct cluster_op *run_verb(struct cluster *c, int i, enum pc_verb verb,
                                   const char *words)
{
    struct cluster_op *op = cluster_begin_verb(c, i, verb, words);
    cluster_wait(op);
    return op;
}

static size_t count_ok(const struct cluster_op *op)
{
    size_t n = 0;
    for (size_t i = 0; i < op->n; i++) {
        n += op->statuses[i] == PEERCACHE_OK;
    }
    return n;
}

static bool is_suspect(struct cluster *c, int i, int other)
{
    struct pc_peer *peer =
        pc_peers_find(&c->nodes[i].node->peers, c->nodes[other].incarnation);
    return peer != NULL && peer->suspect;
}

static void finish(struct cluster *c, int frozen)
{
    cluster_thaw(c, frozen);
    cluster_run(c, PC_S);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* What the issue asks for: 4 nodes, one hangs, calls of 128 keys. */
static void one_hung_peer_among_four_delays_nobody(void **state)
{
    (void)state;
    static const enum pc_verb verbs[] = {PC_VERB_EXISTS, PC_VERB_GET,
                                         PC_VERB_EXISTS};
    char words[3][1024];
    key_words(words[0], 's'); /* Present. */
    key_words(words[1], 's');
    key_words(words[2], 'm'); /* Absent. */
    for (unsigned v = 0; v < 3; v++) {
        struct cluster *c = cluster_create(1 + v);
        cluster_start_all(c, 4,
                          "location_cache=0 read_mode=served "
                          "member_ttl=60");
        assert_int_equal(run_verb(c, 0, PC_VERB_PUT, words[0])->result,
                         PEERCACHE_OK);
        (void)run_verb(c, 3, verbs[v], words[v]);
        cluster_freeze(c, 1);
        uint64_t frozen_ns = cluster_now(c);
        uint64_t worst_ns = 0;
        while (!is_suspect(c, 3, 1)) {
            struct cluster_op *op = run_verb(c, 3, verbs[v], words[v]);
            assert_int_equal(count_ok(op), v == 2 ? 0 : N_KEYS);
            worst_ns = took_ns(op) > worst_ns ? took_ns(op) : worst_ns;
        }
        /* Present keys wait for a hedge, absent ones need the breaker. */
        assert_in_range(worst_ns, HEDGE_NS, BREAKER_NS);
        assert_in_range(cluster_now(c) - frozen_ns, 200 * PC_MS,
                        2 * BREAKER_NS);
        uint64_t took[200];
        for (unsigned k = 0; k < 200; k++) {
            struct cluster_op *op = run_verb(c, 3, verbs[v], words[v]);
            assert_int_equal(count_ok(op), v == 2 ? 0 : N_KEYS);
            took[k] = took_ns(op);
            cluster_run(c, 10 * PC_MS);
        }
        qsort(took, 200, sizeof(took[0]), by_size);
        assert_in_range(took[198], 0, 2 * HEDGE_NS);
        assert_int_equal(c->nodes[3].node->peers.n_suspect, 1);
        finish(c, 1);
    }
}

/* A hedge ends the call, and the request to the hung peer with it: the breaker
 * must open all the same. */
static void a_breaker_opens_although_hedges_end_every_call(void **state)
{
    (void)state;
    char words[1024];
    key_words(words, 's');
    struct cluster *c = cluster_create(10);
    cluster_start_all(c, 4,
                      "location_cache=0 heartbeat_interval=20 "
                      "member_ttl=60");
    (void)run_verb(c, 0, PC_VERB_PUT, words);
    (void)run_verb(c, 3, PC_VERB_EXISTS, words);
    cluster_freeze(c, 1);
    uint64_t start_ns = cluster_now(c);
    for (unsigned k = 0; k < 8; k++) {
        struct cluster_op *op = run_verb(c, 3, PC_VERB_EXISTS, words);
        assert_in_range(took_ns(op), 0, 2 * HEDGE_NS);
        cluster_run(c, 40 * PC_MS);
    }
    assert_in_range(cluster_now(c) - start_ns, 300 * PC_MS, 400 * PC_MS);
    assert_true(is_suspect(c, 3, 1));
    finish(c, 1);
}

/* ---- A peer that hangs in each phase
 * -----------------------------------------
 */

/* Begin, let it get so far, freeze the peer; the call and one of another pair
 * of nodes end in their time. */
struct hang
{
    const char *settings;
    enum pc_verb verb;
    const char *words;  /* Of the call. */
    uint64_t run_ns;    /* Until the peer hangs. */
    uint64_t bandwidth; /* 0: no limit. */
    uint64_t within_ns; /* The call takes no longer. */
    bool put_by_two;    /* Another node holds the values, too. */
    bool registered;
    peercache_status_t status; /* Of its first value. */
    enum pc_metric cause;      /* PC_METRIC_N: none. */
};

static void check_hang(uint64_t seed, const struct hang *h)
{
    struct cluster *c = cluster_create(seed);
    struct pc_sim_path path = pc_sim_path_default();
    cluster_start_all(c, 4, h->settings);
    assert_int_equal(cluster_do(c, 2, PC_VERB_PUT, "x y"), PEERCACHE_OK);
    if (h->verb != PC_VERB_PUT) {
        struct cluster_op *one =
            cluster_begin_verb(c, 0, PC_VERB_PUT, h->words);
        struct cluster_op *two = NULL;
        if (h->put_by_two) {
            two = cluster_begin_verb(c, 1, PC_VERB_PUT, h->words);
            cluster_wait(two);
        }
        cluster_wait(one);
    }
    (void)run_verb(c, 3, PC_VERB_EXISTS, h->words);
    path.bandwidth = h->bandwidth;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    if (h->bandwidth != 0) {
        pc_sim_set_window(c->sim, 16384);
    }
    struct cluster_call call = {.node = 3,
                                .verb = h->verb,
                                .words = h->words,
                                .registered = h->registered};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_run(c, h->run_ns);
    assert_false(op->ended);
    cluster_freeze(c, 0);
    struct cluster_op *other = cluster_begin_verb(c, 1, PC_VERB_GET, "x y");
    cluster_wait(other);
    assert_int_equal(other->result, PEERCACHE_OK);
    assert_in_range(took_ns(other), 0, 200 * PC_MS);
    cluster_wait(op);
    assert_in_range(took_ns(op), 0, h->within_ns);
    assert_int_equal(op->statuses[0], h->status);
    if (h->cause != PC_METRIC_N) {
        assert_true(cluster_metric(c, 3, h->cause) > 0);
    }
    finish(c, 0);
}

static void a_peer_that_hangs_while_it_serves_a_read(void **state)
{
    (void)state;
    struct hang h = {.settings = "read_mode=served directory_replicas=4",
                     .verb = PC_VERB_GET,
                     .words = "l1 l2",
                     .run_ns = 10 * PC_MS,
                     .bandwidth = 5 * 1000 * 1000,
                     /* And what is read before and after it opens. */
                     .within_ns = LANDING_NS + 50 * PC_MS,
                     .status = PEERCACHE_NOT_FOUND,
                     .cause = PC_METRIC_MISS_PEER_DOWN};
    check_hang(20, &h);
    h.put_by_two = true; /* Now the next holder has it. */
    h.status = PEERCACHE_OK;
    h.cause = PC_METRIC_N;
    for (uint64_t seed = 21; seed < 25; seed++) {
        check_hang(seed, &h);
    }
}

static void a_peer_that_hangs_in_a_one_sided_read(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(30);
    struct pc_sim_path path = pc_sim_path_default();
    path.native = false; /* Its process copies. */
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    cluster_start_all(c, 3, "read_mode=one-sided directory_replicas=3");
    (void)run_verb(c, 0, PC_VERB_PUT, "l1 l2");
    (void)run_verb(c, 2, PC_VERB_EXISTS, "l1");
    (void)run_verb(c, 2, PC_VERB_GET, "l1");
    path.bandwidth = 5 * 1000 * 1000;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    struct cluster_call call = {
        .node = 2, .verb = PC_VERB_GET, .words = "l1 l2", .registered = true};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_run(c, 10 * PC_MS);
    cluster_freeze(c, 0);
    cluster_wait(op);
    assert_int_equal(op->statuses[0], PEERCACHE_NOT_FOUND);
    assert_in_range(took_ns(op), 200 * PC_MS, BREAKER_NS + 60 * PC_MS);
    finish(c, 0);
}

/* Gets in software wait for a few lanes. What a batch that ran out of time
 * leaves in the line would be carried out first, for nobody. */
static void ended_one_sided_reads_keep_nobody_from_the_line(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(34);
    struct pc_sim_path path = pc_sim_path_default();
    path.native = false;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    cluster_start_all(c, 3, "read_mode=one-sided directory_replicas=3");
    key_words(words, 's');
    (void)run_verb(c, 0, PC_VERB_PUT, words);
    (void)run_verb(c, 2, PC_VERB_GET, words); /* The way is known. */
    path.latency_min_ns = path.latency_max_ns = 40 * PC_MS;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    for (unsigned registered = 0; registered < 2; registered++) {
        struct cluster_call call = {.node = 2,
                                    .verb = PC_VERB_GET,
                                    .words = words,
                                    .timeout_ns = 400 * PC_MS};
        struct cluster_op *late = cluster_begin(c, &call);
        cluster_wait(late);
        assert_in_range(count_ok(late), 1, N_KEYS - 1);
        assert_int_equal(late->result, PEERCACHE_PARTIAL);
        call.words = "s1 s2 s3 s4";
        call.registered = registered;
        struct cluster_op *next = cluster_begin(c, &call);
        cluster_wait(next);
        assert_int_equal(next->result, PEERCACHE_OK);
    }
    finish(c, 0);
}

/* The holder is asked whether it still has the value; the put stores it. */
static void a_peer_that_hangs_when_it_is_asked_for_its_word(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(31);
    cluster_start_all(c, 4, "location_cache=0");
    cluster_pick_word(c, 0, 'm', "bc", "a", word);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, word), PEERCACHE_OK);
    (void)run_verb(c, 3, PC_VERB_EXISTS, word);
    cluster_freeze(c, 0);
    struct cluster_op *put = run_verb(c, 3, PC_VERB_PUT, word);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(took_ns(put), 200 * PC_MS, BREAKER_NS);
    assert_int_equal(cluster_metric(c, 3, PC_METRIC_WRITE_STORED), 1);
    put = run_verb(c, 3, PC_VERB_PUT, "z1 z2 z3 z4");
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(took_ns(put), 0, PC_MS);
    finish(c, 0);
}

/* Rule 5: it waits for the owners that are not suspect, 200 ms at most. */
static void an_owner_that_hangs_when_a_record_comes(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(32);
    cluster_start_all(c, 4, "location_cache=0");
    cluster_pick_word(c, 0, 'm', "bc", "ad", word);
    (void)run_verb(c, 3, PC_VERB_EXISTS, "z1 z2 z3 z4 z5 z6");
    cluster_freeze(c, 1);
    struct cluster_op *put = run_verb(c, 3, PC_VERB_PUT, word);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(took_ns(put), 190 * PC_MS, BREAKER_NS + 20 * PC_MS);
    assert_true(is_suspect(c, 3, 1) || took_ns(put) >= 200 * PC_MS);
    cluster_run(c, 100 * PC_MS);
    put = run_verb(c, 3, PC_VERB_PUT, "z1 z2 z3 z4 z5 z6");
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(took_ns(put), 0, PC_MS);
    assert_false(pc_publish_is_idle(c->nodes[3].node)); /* Queued for b. */
    cluster_thaw(c, 1);
    cluster_run(c, PC_S);
    assert_true(pc_publish_is_idle(c->nodes[3].node));
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c); /* b has got all of it. */
    cluster_destroy(c);
}

/* No owner is left that could take the record: the call ends by its deadline,
 * and the record still comes to its owner later. */
static void a_put_whose_only_owner_hangs_ends_by_its_deadline(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(33);
    cluster_start_all(c, 4,
                      "location_cache=0 directory_replicas=1 "
                      "member_ttl=60");
    cluster_pick_word(c, 0, 'm', "b", "acd", word);
    cluster_freeze(c, 1);
    struct cluster_call call = {.node = 3,
                                .verb = PC_VERB_PUT,
                                .words = word,
                                .timeout_ns = 700 * PC_MS};
    struct cluster_op *put = cluster_begin(c, &call);
    cluster_wait(put);
    assert_int_equal(put->statuses[0], PEERCACHE_TIMED_OUT);
    assert_in_range(took_ns(put), 700 * PC_MS, 710 * PC_MS);
    assert_int_equal(cluster_metric(c, 3, PC_METRIC_LATE_PUBLISH), 1);
    assert_int_equal(cluster_metric(c, 3, PC_METRIC_WRITE_FAILED_TIMED_OUT), 1);
    cluster_thaw(c, 1);
    cluster_run(c, PC_S);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, word), PEERCACHE_OK);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_holder_that_hangs_when_it_shall_remove(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(34);
    cluster_start_all(c, 4, "location_cache=0 directory_replicas=4");
    (void)run_verb(c, 0, PC_VERB_PUT, "x y");
    (void)run_verb(c, 3, PC_VERB_EXISTS, "x y");
    cluster_freeze(c, 0);
    struct cluster_op *op = run_verb(c, 3, PC_VERB_REMOVE, "x y");
    assert_int_equal(op->result, PEERCACHE_PARTIAL);
    assert_int_equal(op->statuses[0], PEERCACHE_UNREACHABLE);
    assert_in_range(took_ns(op), 0, BREAKER_NS);
    op = run_verb(c, 3, PC_VERB_REMOVE, "x y");
    assert_int_equal(op->statuses[0], PEERCACHE_UNREACHABLE);
    assert_in_range(took_ns(op), 0, PC_MS);
    finish(c, 0);
}

/* The deadline is shorter than the breaker: it ends the call all the same, and
 * the cause is told. */
static void a_deadline_before_the_breaker_is_kept(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(35);
    cluster_start_all(c, 3, "read_mode=served directory_replicas=3");
    (void)run_verb(c, 0, PC_VERB_PUT, "x y");
    (void)run_verb(c, 2, PC_VERB_EXISTS, "x y");
    cluster_freeze(c, 0);
    struct cluster_call call = {.node = 2,
                                .verb = PC_VERB_GET,
                                .words = "x y",
                                .timeout_ns = 50 * PC_MS};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->statuses[0], PEERCACHE_TIMED_OUT);
    assert_in_range(took_ns(op), 50 * PC_MS, 51 * PC_MS);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_LATE_READ), 2);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_MISS_TIMED_OUT), 2);
    finish(c, 0);
}

/* ---- The breaker ------------------------------------------------------------
 */

/* Before a silent node is declared dead, another node is asked to look: its
 * answer waits for the silent one, but itself it is not silent, and what it
 * holds is found all the while. */
static void who_looks_after_a_silent_node_is_not_silent(void **state)
{
    (void)state;
    char words[1024];
    key_words(words, 's');
    struct cluster *c = cluster_create(44);
    cluster_start_all(c, 4,
                      "location_cache=0 read_mode=served "
                      "heartbeat_interval=2 member_ttl=6");
    assert_int_equal(run_verb(c, 0, PC_VERB_PUT, words)->result, PEERCACHE_OK);
    (void)run_verb(c, 2, PC_VERB_GET, words);
    (void)run_verb(c, 3, PC_VERB_GET, words);
    cluster_freeze(c, 1);
    uint64_t until_ns = cluster_now(c) + 8 * PC_S;
    while (cluster_now(c) < until_ns) {
        for (int i = 2; i < 4; i++) {
            struct cluster_op *op = run_verb(c, i, PC_VERB_GET, words);
            assert_int_equal(count_ok(op), N_KEYS);
        }
        cluster_reap(c);
        /* Now and then nobody talks of anything else. */
        cluster_run(c, 240 * PC_MS + cluster_now(c) % 7 * PC_MS);
    }
    uint64_t n_asked = 0;
    for (int i = 0; i < 4; i++) {
        struct pc_cluster_counts counts;
        pc_cluster_counts(c->nodes[i].node->cluster, &counts);
        n_asked += counts.n_probes;
        /* Who is held silent is silent: none of them answers again. */
        assert_int_equal(c->nodes[i].node->peers.counts.returned, 0);
    }
    assert_true(n_asked > 0);
    finish(c, 1);
}

static void one_probe_at_a_time_finds_out_that_it_is_back(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(40);
    cluster_start_all(c, 3,
                      "heartbeat_interval=20 member_ttl=60 "
                      "location_cache=0");
    (void)run_verb(c, 2, PC_VERB_EXISTS, "x y z v w");
    (void)run_verb(c, 0, PC_VERB_PUT, "x y z v w");
    cluster_freeze(c, 1);
    (void)run_verb(c, 2, PC_VERB_EXISTS, "m1 m2 m3 m4 m5 m6");
    cluster_run(c, 300 * PC_MS);
    assert_true(is_suspect(c, 2, 1));
    struct pc_peer *peer =
        pc_peers_find(&c->nodes[2].node->peers, c->nodes[1].incarnation);
    const struct pc_peers_counts *counts = &c->nodes[2].node->peers.counts;
    uint64_t probes = counts->probes;
    for (unsigned k = 0; k < 100; k++) {
        cluster_run(c, 100 * PC_MS);
        assert_in_range(peer->n_rpcs, 0, 2); /* The probe, and a heartbeat. */
    }
    /* Each has a second. */
    assert_in_range(counts->probes - probes, 5, 12);
    cluster_thaw(c, 1);
    cluster_run(c, 5 * PC_MS);
    assert_false(is_suspect(c, 2, 1));
    assert_int_equal(counts->returned, 1);
    assert_int_equal(c->nodes[2].node->peers.n_suspect, 0);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* We were stopped, not they. */
static void a_pause_of_our_own_opens_no_breaker(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(41);
    struct pc_sim_path path = pc_sim_path_default();
    cluster_start_all(c, 3, "read_mode=served member_ttl=60");
    (void)run_verb(c, 0, PC_VERB_PUT, "l1 l2");
    (void)run_verb(c, 2, PC_VERB_EXISTS, "l1");
    path.bandwidth = 5 * 1000 * 1000;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    struct cluster_op *op = cluster_begin_verb(c, 2, PC_VERB_GET, "l1 l2");
    cluster_run(c, 5 * PC_MS);
    cluster_freeze(c, 2);
    cluster_run(c, 900 * PC_MS);
    cluster_thaw(c, 2);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_OK);
    assert_int_equal(c->nodes[2].node->peers.counts.suspected, 0);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Rule 11: retracts to a suspect owner wait, and come. */
static void retracts_to_a_hung_owner_are_queued(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(42);
    cluster_start_all(c, 4, "location_cache=0 member_ttl=60");
    cluster_pick_word(c, 0, 'm', "bc", "ad", word);
    (void)run_verb(c, 3, PC_VERB_PUT, word);
    cluster_freeze(c, 1);
    (void)run_verb(c, 3, PC_VERB_REMOVE, word);
    cluster_run(c, PC_S);
    assert_true(is_suspect(c, 3, 1));
    assert_int_equal(c->nodes[3].node->publisher.n_entries, 1);
    cluster_thaw(c, 1);
    cluster_run(c, 300 * PC_MS);
    assert_int_equal(c->nodes[3].node->publisher.n_entries, 0);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Many callers at once: what a hung peer is sent has a bound. */
static void requests_to_a_hung_peer_are_bounded(void **state)
{
    (void)state;
    char words[1024];
    key_words(words, 'm');
    struct cluster *c = cluster_create(43);
    cluster_start_all(c, 4,
                      "location_cache=0 hedge=0 member_ttl=60 "
                      "max_inflight=64");
    (void)run_verb(c, 3, PC_VERB_EXISTS, words);
    cluster_freeze(c, 1);
    struct cluster_op *ops[64];
    for (unsigned k = 0; k < 64; k++) {
        struct cluster_call call = {
            .node = 3, .verb = PC_VERB_EXISTS, .words = words, .quiet = true};
        ops[k] = cluster_begin(c, &call);
    }
    cluster_run(c, 100 * PC_MS);
    assert_in_range(pc_peers_most_owed(&c->nodes[3].node->peers), 64,
                    3 * 64 + 2);
    for (unsigned k = 0; k < 64; k++) {
        cluster_wait(ops[k]);
        assert_in_range(took_ns(ops[k]), 0, BREAKER_NS);
    }
    cluster_run(c, 100 * PC_MS);
    assert_in_range(pc_peers_most_owed(&c->nodes[3].node->peers), 0, 2);
    finish(c, 1);
}

/* ---- Transient failures
 * -------------------------------------------------------
 */

/* Every connection of a pair breaks, both live: what is under way is tried
 * again and ends well. */
static void a_broken_connection_is_no_miss(void **state)
{
    (void)state;
    for (uint64_t seed = 50; seed < 60; seed++) {
        char word[16];
        struct cluster *c = cluster_create(seed);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start_all(c, 4,
                          "location_cache=0 directory_replicas=1 "
                          "read_mode=served");
        cluster_pick_word(c, 0, 'l', "b", "acd", word);
        (void)run_verb(c, 0, PC_VERB_PUT, word);
        (void)run_verb(c, 3, PC_VERB_GET, word);
        path.bandwidth = 20 * 1000 * 1000; /* 5 ms a value. */
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        struct cluster_op *get = cluster_begin_verb(c, 3, PC_VERB_GET, word);
        cluster_run(c, 30 * PC_US + (seed - 50) * PC_MS / 2);
        if (seed % 2 == 0) { /* The holder, or the owner of its record. */
            pc_sim_break(c->sim, c->nodes[0].host, c->nodes[3].host);
        }
        pc_sim_break(c->sim, c->nodes[1].host, c->nodes[3].host);
        cluster_wait(get);
        assert_int_equal(get->result, PEERCACHE_OK);
        assert_in_range(took_ns(get), 0, 250 * PC_MS);
        cluster_run(c, 2 * PC_S); /* Not over and over. */
        struct cluster_op *exists =
            cluster_begin_verb(c, 3, PC_VERB_EXISTS, word);
        pc_sim_break(c->sim, c->nodes[1].host, c->nodes[3].host);
        cluster_wait(exists);
        assert_int_equal(exists->result, PEERCACHE_OK);
        cluster_run(c, 2 * PC_S);
        cluster_pick_word(c, 3, 'm', "b", "acd", word);
        struct cluster_op *put = cluster_begin_verb(c, 3, PC_VERB_PUT, word);
        cluster_run(c, 30 * PC_US);
        pc_sim_break(c->sim, c->nodes[1].host, c->nodes[3].host);
        cluster_wait(put);
        assert_int_equal(put->result, PEERCACHE_OK);
        assert_in_range(took_ns(put), 0, 250 * PC_MS);
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* b's ring without b: it says of absence that it is no owner. */
static struct pc_ring *take_out_of_its_ring(struct cluster *c, int i)
{
    struct pc_member members[CLUSTER_NODES_MAX];
    size_t n;
    size_t kept = 0;
    struct peercache_node *node = c->nodes[i].node;
    const struct pc_member *all = pc_ring_members(node->ring, &n);
    for (size_t k = 0; k < n; k++) {
        if (all[k].incarnation != node->self.incarnation) {
            members[kept++] = all[k];
        }
    }
    struct pc_ring *own = node->ring;
    node->ring = pc_ring_create(members, kept, (uint32_t)node->settings.vnodes,
                                (uint32_t)node->settings.directory_replicas);
    assert_non_null(node->ring);
    return own;
}

static void give_back_its_ring(struct cluster *c, int i, struct pc_ring *own)
{
    pc_ring_unref(c->nodes[i].node->ring);
    c->nodes[i].node->ring = own;
}

static void an_absence_of_another_view_is_asked_again_until_the_deadline(
    void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(60);
    cluster_start_all(c, 4, "location_cache=0");
    cluster_run(c, 12 * PC_S);
    cluster_pick_word(c, 3, 'm', "bc", "ad", word);
    struct pc_ring *own = take_out_of_its_ring(c, 1);
    struct cluster_call call = {.node = 3,
                                .verb = PC_VERB_GET,
                                .words = word,
                                .timeout_ns = 500 * PC_MS};
    struct cluster_op *get = cluster_begin(c, &call);
    cluster_wait(get);
    assert_int_equal(get->statuses[0], PEERCACHE_TIMED_OUT);
    assert_in_range(took_ns(get), 500 * PC_MS, 501 * PC_MS);
    assert_in_range(cluster_metric(c, 3, PC_METRIC_LOOKUPS_AGAIN), 5, 20);
    assert_int_equal(cluster_metric(c, 3, PC_METRIC_LATE_LOOKUP), 1);
    /* It learns better while somebody asks. */
    get = cluster_begin(c, &call);
    cluster_run(c, 100 * PC_MS);
    assert_false(get->ended);
    give_back_its_ring(c, 1, own);
    cluster_wait(get);
    assert_int_equal(get->statuses[0], PEERCACHE_NOT_FOUND);
    assert_in_range(took_ns(get), 100 * PC_MS, 200 * PC_MS);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* Its only owner does not know yet that it is one. */
static void a_put_to_an_owner_of_another_view_waits_for_it(void **state)
{
    (void)state;
    char word[16];
    struct cluster *c = cluster_create(61);
    cluster_start_all(c, 4, "location_cache=0 directory_replicas=1");
    cluster_run(c, 12 * PC_S);
    cluster_pick_word(c, 3, 'm', "b", "acd", word);
    struct pc_ring *own = take_out_of_its_ring(c, 1);
    struct cluster_op *put = cluster_begin_verb(c, 3, PC_VERB_PUT, word);
    cluster_run(c, 100 * PC_MS);
    assert_false(put->ended);
    give_back_its_ring(c, 1, own);
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_in_range(took_ns(put), 100 * PC_MS, 150 * PC_MS);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* A full shard refuses; there is room again before the put gives up. */
static void a_refused_record_is_sent_again(void **state)
{
    (void)state;
    for (unsigned room = 0; room < 2; room++) {
        char word[16];
        struct cluster *c = cluster_create(62);
        cluster_start_all(c, 3, "location_cache=0 directory_replicas=1");
        cluster_pick_word(c, 2, 'm', "b", "ac", word);
        struct peercache_node *owner = c->nodes[1].node;
        struct pc_shard *shard = owner->shard;
        owner->shard = pc_shard_create(1);
        struct pc_record filler = {
            .digest = {1, 2}, .incarnation = 3, .generation = 2, .length = 1};
        assert_int_equal(pc_shard_publish(owner->shard, &filler), PEERCACHE_OK);
        struct cluster_op *put = cluster_begin_verb(c, 2, PC_VERB_PUT, word);
        cluster_run(c, 10 * PC_MS);
        assert_false(put->ended);
        if (room == 1) {
            assert_true(pc_shard_retract(owner->shard, &filler));
        }
        cluster_wait(put);
        assert_int_equal(put->statuses[0],
                         room == 1 ? PEERCACHE_OK : PEERCACHE_NO_SPACE);
        assert_in_range(took_ns(put), 10 * PC_MS, 250 * PC_MS);
        assert_in_range(cluster_metric(c, 2, PC_METRIC_PUBLISH_RETRIES), 1, 3);
        (void)run_verb(c, 2, PC_VERB_REMOVE, word);
        cluster_run(c, 100 * PC_MS);
        (void)pc_shard_retract(owner->shard, &filler);
        pc_shard_destroy(owner->shard);
        owner->shard = shard;
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* Its only owner is held dead, and the ring still names it: what comes first,
 * its own word or another view, is known before the deadline. The value that is
 * gone meanwhile is waited for no longer. */
static void a_record_that_nobody_takes_is_offered_until_the_deadline(
    void **state)
{
    (void)state;
    enum { BACK, NEVER, GONE };
    for (int what = BACK; what <= GONE; what++) {
        char word[16];
        struct cluster *c = cluster_create(63);
        cluster_start_all(c, 3, "location_cache=0 directory_replicas=1");
        cluster_pick_word(c, 2, 'm', "b", "ac", word);
        struct peercache_node *node = c->nodes[2].node;
        struct pc_outbox *box = pc_fifo_get(node, &c->nodes[1].node->self);
        assert_non_null(box);
        box->parked = true;
        struct cluster_call call = {.node = 2,
                                    .verb = PC_VERB_PUT,
                                    .words = word,
                                    .timeout_ns = 3 * PC_S};
        struct cluster_op *put = cluster_begin(c, &call);
        cluster_run(c, 1500 * PC_MS);
        assert_false(put->ended);
        if (what == GONE) {
            assert_true(
                pc_store_remove(node->store, cluster_digest(c, 2, word)));
        } else if (what == BACK) {
            box->parked = false;
        }
        cluster_wait(put);
        assert_int_equal(put->statuses[0],
                         what == NEVER ? PEERCACHE_TIMED_OUT : PEERCACHE_OK);
        assert_in_range(took_ns(put), what == NEVER ? 2990 * PC_MS : PC_S,
                        what == NEVER ? 3010 * PC_MS : 2200 * PC_MS);
        /* After 20, 60, 140, 300, 620, 1260, 1900 ms and so on. */
        assert_in_range(cluster_metric(c, 2, PC_METRIC_PUBLISH_RETRIES), 6, 9);
        box->parked = false;
        (void)run_verb(c, 2, PC_VERB_REMOVE, word);
        cluster_run(c, 11 * PC_S);
        cluster_check_rest(c);
        cluster_destroy(c);
    }
}

/* A record of a silent holder is no proof that a get would find it; another
 * holder's, or memory that is mapped here, is. Every miss has a cause. */
static void exists_counts_on_no_silent_holder(void **state)
{
    (void)state;
    char word[16];
    char held_twice[16];
    struct cluster *c = cluster_create(64);
    cluster_defaults(c, "location_cache=0 member_ttl=60 data_replicas=2");
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, 1, "");
    cluster_start(c, 2, 2, "read_mode=served");
    cluster_start(c, 3, 1, ""); /* Beside b. */
    cluster_settle(c, 30 * PC_S);
    cluster_pick_word(c, 0, 'm', "ac", "bd", word);
    cluster_pick_word(c, 0, 's', "ac", "bd", held_twice);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, word), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, held_twice), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, held_twice), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_EXISTS, word), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, word), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word), PEERCACHE_OK);
    cluster_freeze(c, 1);
    (void)run_verb(c, 2, PC_VERB_GET, word); /* The breaker opens. */
    assert_true(is_suspect(c, 2, 1));
    uint64_t n_absent = cluster_metric(c, 2, PC_METRIC_EXISTS_MISS_NOT_FOUND);
    assert_int_equal(cluster_do(c, 2, PC_VERB_EXISTS, word),
                     PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_do(c, 2, PC_VERB_GET, word), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_EXISTS_MISS_PEER_DOWN), 1);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_EXISTS_MISS_NOT_FOUND),
                     n_absent);
    assert_int_equal(cluster_do(c, 2, PC_VERB_EXISTS, held_twice),
                     PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 2, PC_VERB_EXISTS, "z1"),
                     PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_EXISTS_MISS_NOT_FOUND),
                     n_absent + 1);
    /* d reads b's memory, which is mapped, whatever b's process does. */
    (void)run_verb(c, 3, PC_VERB_REMOVE, "z2 z3 z4 z5 z6");
    assert_int_equal(cluster_do(c, 3, PC_VERB_EXISTS, word), PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word), PEERCACHE_OK);
    cluster_thaw(c, 1);
    cluster_run(c, PC_S);
    assert_int_equal(cluster_do(c, 2, PC_VERB_EXISTS, word), PEERCACHE_OK);
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_hung_peer_among_four_delays_nobody),
        cmocka_unit_test(a_breaker_opens_although_hedges_end_every_call),
        cmocka_unit_test(a_peer_that_hangs_while_it_serves_a_read),
        cmocka_unit_test(a_peer_that_hangs_in_a_one_sided_read),
        cmocka_unit_test(ended_one_sided_reads_keep_nobody_from_the_line),
        cmocka_unit_test(a_peer_that_hangs_when_it_is_asked_for_its_word),
        cmocka_unit_test(an_owner_that_hangs_when_a_record_comes),
        cmocka_unit_test(a_put_whose_only_owner_hangs_ends_by_its_deadline),
        cmocka_unit_test(a_holder_that_hangs_when_it_shall_remove),
        cmocka_unit_test(a_deadline_before_the_breaker_is_kept),
        cmocka_unit_test(who_looks_after_a_silent_node_is_not_silent),
        cmocka_unit_test(one_probe_at_a_time_finds_out_that_it_is_back),
        cmocka_unit_test(a_pause_of_our_own_opens_no_breaker),
        cmocka_unit_test(retracts_to_a_hung_owner_are_queued),
        cmocka_unit_test(requests_to_a_hung_peer_are_bounded),
        cmocka_unit_test(a_broken_connection_is_no_miss),
        cmocka_unit_test(
            an_absence_of_another_view_is_asked_again_until_the_deadline),
        cmocka_unit_test(a_put_to_an_owner_of_another_view_waits_for_it),
        cmocka_unit_test(a_refused_record_is_sent_again),
        cmocka_unit_test(
            a_record_that_nobody_takes_is_offered_until_the_deadline),
        cmocka_unit_test(exists_counts_on_no_silent_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
