/*
 * The model's counterexamples (test/model/counterexamples) as scenarios: what
 * happens there when a rule is taken out must not happen here. Tables in
 * test/model/README.md say which is which; patches in test/rules take the rule
 * out of the code.
 */
#include "test.h"

#include "cluster.h"

#include <stdio.h>
#include <string.h>

#define FAST "heartbeat_interval=100ms member_ttl=300ms settle=500ms vnodes=32 "
/* Nobody is held dead for what is cut off. */
#define PATIENT "member_ttl=60 location_cache=0 "

/* Words that both owners own in the view of node 0, and the others do not. */
static unsigned words_of(struct cluster *c, int one, int two, char *words,
                         size_t len)
{
    unsigned n = 0;
    words[0] = '\0';
    for (unsigned k = 0; k < 200 && n < 8; k++) {
        char word[16];
        snprintf(word, sizeof(word), "m%u", k);
        if (cluster_owns(c, 0, one, word) && cluster_owns(c, 0, two, word)) {
            size_t at = strlen(words);
            snprintf(words + at, len - at, "%s%s", at == 0 ? "" : " ", word);
            n++;
        }
    }
    return n;
}

static void all_ok(struct cluster *c, int i, enum pc_verb verb,
                   const char *words)
{
    struct cluster_op *op = cluster_begin_verb(c, i, verb, words);
    cluster_wait(op);
    for (size_t k = 0; k < op->n; k++) {
        assert_int_equal(op->statuses[k], PEERCACHE_OK);
    }
}

static void end(struct cluster *c)
{
    cluster_settle(c, 60 * PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* ---- slot.pml --------------------------------------------------------------
 */

/* timed-release: a put keeps its reservation while a stopped holder is asked
 * whether it has the value; others fill the pool meanwhile. */
static void a_reservation_outlasts_everything_but_its_writer(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(1);
    cluster_start(c, 0, 0,
                  PATIENT "global_segment_size=256kib "
                          "region_size=256kib");
    cluster_start(c, 1, 1, PATIENT);
    cluster_start(c, 2, 2, PATIENT);
    cluster_settle(c, 30 * PC_S);
    char x[16];
    cluster_pick_word(c, 0, 'l', "c", "", x);
    cluster_do(c, 1, PC_VERB_PUT, x);
    cluster_freeze(c, 1);
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, x);
    char word[16];
    for (unsigned k = 0; k < 24; k++) {
        snprintf(word, sizeof(word), "m%u", k);
        (void)cluster_begin_verb(c, 0, PC_VERB_PUT, word);
        cluster_run(c, 4 * PC_MS);
        if (k < 8) {
            assert_false(put->ended); /* b is being asked. */
        }
    }
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    cluster_thaw(c, 1);
    end(c);
}

/* same-generation, header-early: the place is written anew while chunks of
 * the value are on their way, at every moment of the read. */
static void a_place_that_is_used_again_is_never_taken_for_the_old(void **state)
{
    (void)state;
    for (uint64_t step = 0; step < 16; step++) {
        struct cluster *c = cluster_create(10 + step);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start(c, 0, 0, "global_segment_size=128kib region_size=128kib");
        cluster_start(c, 1, 1, "read_mode=one-sided");
        cluster_settle(c, 30 * PC_S);
        path.bandwidth = 20ull * 1000 * 1000; /* 5 ms a value. */
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        pc_sim_set_chunk(c->sim, 1024);
        cluster_do(c, 0, PC_VERB_PUT, "l1");
        cluster_do(c, 1, PC_VERB_EXISTS, "l1");
        struct cluster_call call = {
            .node = 1, .verb = PC_VERB_GET, .words = "l1", .registered = true};
        struct cluster_op *get = cluster_begin(c, &call);
        cluster_run(c, step * 400 * PC_US);
        struct cluster_op *remove =
            cluster_begin_verb(c, 0, PC_VERB_REMOVE, "l1");
        struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, "l2");
        cluster_wait(get); /* Right bytes, or none: the cluster looks. */
        cluster_wait(remove);
        cluster_wait(put);
        end(c);
    }
}

/* unpin-early: the value is removed while the kernel still reads its pages. */
static void what_is_being_sent_stays_until_it_has_left(void **state)
{
    (void)state;
    for (uint64_t step = 0; step < 8; step++) {
        struct cluster *c = cluster_create(30 + step);
        struct pc_sim_path path = pc_sim_path_default();
        cluster_start(c, 0, 0, "global_segment_size=128kib region_size=128kib");
        cluster_start(c, 1, 1, "read_mode=served");
        cluster_settle(c, 30 * PC_S);
        path.bandwidth = 20ull * 1000 * 1000;
        pc_sim_set_path(c->sim, NULL, NULL, &path);
        pc_sim_set_chunk(c->sim, 1024);
        pc_sim_set_window(c->sim, 4096);
        cluster_do(c, 0, PC_VERB_PUT, "l1");
        cluster_do(c, 1, PC_VERB_EXISTS, "l1");
        struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, "l1");
        cluster_run(c, PC_MS + step * 500 * PC_US);
        assert_false(get->ended);
        struct cluster_op *remove =
            cluster_begin_verb(c, 0, PC_VERB_REMOVE, "l1");
        struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, "l2");
        cluster_wait(get);
        assert_int_equal(get->result, PEERCACHE_OK);
        cluster_wait(remove);
        cluster_wait(put);
        end(c);
    }
}

/* ---- fifo.pml --------------------------------------------------------------
 */

/* no-fifo, no-replay: everything that a has to tell c waits, in order. */
static void a_retract_comes_after_its_publish(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        struct cluster *c = cluster_create(50 + how);
        cluster_start_all(c, 3, PATIENT "directory_replicas=3");
        pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
        cluster_do(c, 0, PC_VERB_PUT, "w");
        cluster_do(c, 0, PC_VERB_PUT, "x y z"); /* Behind w, not sent yet. */
        struct cluster_op *remove =
            cluster_begin_verb(c, 0, PC_VERB_REMOVE, "x z");
        cluster_wait(remove);
        cluster_do(c, 0, PC_VERB_PUT, "z");
        if (how > 0) {
            pc_sim_break(c->sim, c->nodes[0].host, c->nodes[2].host);
        }
        cluster_run(c, how == 2 ? 3 * PC_S : PC_S);
        pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
        cluster_settle(c, 30 * PC_S);
        cluster_run(c, PC_S);
        cluster_check_directory(c);
        all_ok(c, 2, PC_VERB_GET, "y z");
        assert_int_equal(cluster_do(c, 2, PC_VERB_GET, "x"),
                         PEERCACHE_NOT_FOUND);
        end(c);
    }
}

/* retract-any: a newer value takes the place of an older one, whose retract
 * must leave it alone. */
static void the_retract_of_an_old_value_leaves_the_new_one(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(55);
    cluster_start_all(c, 3, PATIENT);
    cluster_do(c, 0, PC_VERB_PUT, "x y");
    for (unsigned version = 1; version < 4; version++) {
        struct cluster_call call = {
            .node = 0, .verb = PC_VERB_PUT, .words = "x y", .version = version};
        struct cluster_op *put = cluster_begin(c, &call);
        cluster_wait(put);
        assert_int_equal(put->result, PEERCACHE_OK);
        cluster_run(c, 100 * PC_MS);
        call.node = 1;
        call.verb = PC_VERB_GET;
        struct cluster_op *get = cluster_begin(c, &call);
        cluster_wait(get);
        assert_int_equal(get->result, PEERCACHE_OK);
        cluster_check_directory(c);
    }
    end(c);
}

/* ---- holders.pml -----------------------------------------------------------
 */

/* absence-of-one: c did not hear of the values; whoever asks c first must ask
 * b, too. */
static void the_absence_from_one_owner_is_not_believed(void **state)
{
    (void)state;
    char words[256];
    struct cluster *c = cluster_create(60);
    cluster_start_all(c, 4, PATIENT);
    assert_true(words_of(c, 1, 2, words, sizeof(words)) >= 4);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    all_ok(c, 0, PC_VERB_PUT, words);
    all_ok(c, 3, PC_VERB_EXISTS, words);
    all_ok(c, 3, PC_VERB_GET, words);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    end(c);
}

/* relook-first: d still has the records of copies that a gave up, and not yet
 * those of b's; c has b's alone. */
static void a_stale_record_does_not_hide_a_good_one(void **state)
{
    (void)state;
    static const char *const modes[] = {"", "read_mode=one-sided"};
    for (unsigned m = 0; m < 2; m++) {
        char words[256];
        struct cluster *c = cluster_create(61 + m);
        cluster_defaults(c, PATIENT);
        for (int i = 0; i < 5; i++) {
            cluster_start(c, i, (unsigned)i, i == 4 ? modes[m] : "");
        }
        cluster_settle(c, 30 * PC_S);
        assert_true(words_of(c, 2, 3, words, sizeof(words)) >= 4);
        all_ok(c, 0, PC_VERB_PUT, words);
        pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[3].host);
        pc_sim_cut(c->sim, c->nodes[1].host, c->nodes[3].host);
        struct cluster_op *remove =
            cluster_begin_verb(c, 0, PC_VERB_REMOVE, words);
        cluster_wait(remove); /* d's part of it is not confirmed. */
        all_ok(c, 1, PC_VERB_PUT, words);
        all_ok(c, 4, PC_VERB_GET, words);
        all_ok(c, 0, PC_VERB_GET, words);
        pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[3].host);
        pc_sim_heal(c->sim, c->nodes[1].host, c->nodes[3].host);
        cluster_settle(c, 30 * PC_S);
        cluster_run(c, PC_S);
        cluster_check_directory(c);
        end(c);
    }
}

/* dedupe-by-record: c's record of what a gave up is no proof for b's put. */
static void a_record_alone_skips_no_put(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(64);
    cluster_start_all(c, 4, PATIENT "directory_replicas=1");
    cluster_pick_word(c, 0, 'm', "c", "", x);
    cluster_do(c, 0, PC_VERB_PUT, x);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_do(c, 0, PC_VERB_REMOVE, x);
    all_ok(c, 1, PC_VERB_PUT, x);
    all_ok(c, 3, PC_VERB_GET, x);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_run(c, PC_S);
    all_ok(c, 3, PC_VERB_GET, x);
    end(c);
}

/* skip-unpublished: nobody can be told of x, so the second put of it is as
 * little done as the first. */
static void a_second_put_joins_the_publish_of_the_first(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(65);
    cluster_start_all(c, 4, PATIENT);
    cluster_pick_word(c, 0, 'm', "bc", "a", x);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[1].host);
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[2].host);
    struct cluster_op *first = cluster_begin_verb(c, 0, PC_VERB_PUT, x);
    cluster_run(c, 400 * PC_MS);
    struct cluster_op *second = cluster_begin_verb(c, 0, PC_VERB_PUT, x);
    cluster_run(c, 400 * PC_MS);
    assert_int_equal(cluster_do(c, 3, PC_VERB_GET, x), PEERCACHE_NOT_FOUND);
    assert_false(first->ended);
    assert_false(second->ended);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[1].host);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[2].host);
    cluster_wait(first);
    cluster_wait(second);
    assert_int_equal(first->result, PEERCACHE_OK);
    assert_int_equal(second->result, PEERCACHE_OK);
    all_ok(c, 3, PC_VERB_GET, x);
    end(c);
}

/* ---- views.pml -------------------------------------------------------------
 */

/* A word that node `now` owns in the view of node i, and `before` in that of
 * node k. */
static void moved_word(const struct cluster *c, int i, int now, int k,
                       int before, char word[16])
{
    for (unsigned n = 0; n < 1000; n++) {
        snprintf(word, 16, "m%u", n);
        if (cluster_owns(c, i, now, word) && cluster_owns(c, k, before, word)) {
            return;
        }
    }
    fail_msg("no word moves from %c to %c", 'a' + before, 'a' + now);
}

/* no-names: b has not heard of d, which owns x now, and asks c, which owned it
 * before: that is no absence. */
static void an_owner_of_another_view_does_not_say_absent(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = cluster_create(70);
    cluster_defaults(c, "discovery_addr=10.0.0.1:31998 max_masters=1 "
                        "heartbeat_interval=1 member_ttl=10 settle=1 "
                        "directory_replicas=1 location_cache=0");
    for (int i = 0; i < 3; i++) {
        cluster_start(c, i, (unsigned)i, "");
        cluster_settle(c, 30 * PC_S);
    }
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[1].host);
    cluster_start(c, 3, 3, "");
    /* c has heard of d; before that its absence is an honest one (every-put in
     * test/model/README.md). */
    cluster_run(c, 3 * PC_S);
    assert_non_null(
        pc_cluster_find(c->nodes[2].node->cluster, c->nodes[3].incarnation));
    assert_null(
        pc_cluster_find(c->nodes[1].node->cluster, c->nodes[3].incarnation));
    moved_word(c, 0, 3, 1, 2, x);
    all_ok(c, 2, PC_VERB_PUT, x);
    assert_true(cluster_owns(c, 1, 2, x));
    all_ok(c, 1, PC_VERB_GET, x);
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[1].host);
    cluster_settle(c, 30 * PC_S);
    all_ok(c, 1, PC_VERB_GET, x);
    end(c);
}

/* d has joined and owns x, but a cannot tell it so. */
static struct cluster *half_moved(uint64_t seed, char x[16])
{
    struct cluster *c = cluster_create(seed);
    cluster_defaults(c, "heartbeat_interval=100ms member_ttl=60 settle=500ms "
                        "vnodes=32 directory_replicas=1 location_cache=0");
    for (int i = 0; i < 3; i++) {
        cluster_start(c, i, (unsigned)i, "");
    }
    cluster_settle(c, 30 * PC_S);
    char words[512] = "";
    for (unsigned k = 0; k < 60; k++) {
        char word[16];
        snprintf(word, sizeof(word), "%sm%u", k == 0 ? "" : " ", k);
        strcat(words, word);
    }
    all_ok(c, 2, PC_VERB_PUT, words);
    bool owned[60];
    for (unsigned k = 0; k < 60; k++) {
        snprintf(x, 16, "m%u", k);
        owned[k] = cluster_owns(c, 0, 1, x);
    }
    cluster_start(c, 3, 3, "");
    pc_sim_cut(c->sim, c->nodes[2].host, c->nodes[3].host);
    for (unsigned n = 0;
         n < 300 && pc_cluster_find(c->nodes[2].node->cluster,
                                    c->nodes[3].incarnation) == NULL;
         n++) {
        cluster_run(c, 10 * PC_MS);
    }
    cluster_run(c, PC_S);
    for (unsigned k = 0; k < 60; k++) {
        snprintf(x, 16, "m%u", k);
        if (owned[k] && cluster_owns(c, 0, 3, x)) {
            return c;
        }
    }
    fail_msg("d owns nothing that b owned");
    return NULL;
}

/* no-window, not-waited: the former owner is asked, for as long as it takes
 * the holder to move its records. */
static void former_owners_are_asked_until_all_has_moved(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = half_moved(71, x);
    all_ok(c, 0, PC_VERB_EXISTS, x);
    cluster_run(c, 15 * PC_S); /* Thirty times `settle`. */
    all_ok(c, 0, PC_VERB_EXISTS, x);
    all_ok(c, 1, PC_VERB_GET, x);
    pc_sim_heal(c->sim, c->nodes[2].host, c->nodes[3].host);
    cluster_settle(c, 30 * PC_S);
    cluster_run(c, 5 * PC_S);
    cluster_check_directory(c);
    all_ok(c, 0, PC_VERB_GET, x);
    end(c);
}

/* join-without: who comes in the middle of it asks them, too. */
static void a_newcomer_asks_the_owners_of_views_before_its_time(void **state)
{
    (void)state;
    char x[16];
    struct cluster *c = half_moved(72, x);
    cluster_start(c, 4, 4, "mode=centralized");
    cluster_run(c, PC_S);
    all_ok(c, 4, PC_VERB_GET, x);
    pc_sim_heal(c->sim, c->nodes[2].host, c->nodes[3].host);
    end(c);
}

/* base-unfinished: what is put while d is a member, and a's records still move
 * to e, is only with d; then d leaves, and b owns it as it would have before.
 */
static void a_move_that_is_interrupted_is_not_taken_for_done(void **state)
{
    (void)state;
    char words[512] = "";
    bool was_put[1000] = {false};
    struct cluster *c = cluster_create(80);
    cluster_defaults(c, "heartbeat_interval=100ms member_ttl=60 settle=500ms "
                        "vnodes=32 directory_replicas=1 location_cache=0");
    for (int i = 0; i < 3; i++) {
        cluster_start(c, i, (unsigned)i, "");
    }
    cluster_settle(c, 30 * PC_S);
    all_ok(c, 0, PC_VERB_PUT, "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9 m10 m11 m12");
    cluster_start(c, 3, 3, "");
    cluster_start(c, 4, 4, "");
    pc_sim_cut(c->sim, c->nodes[0].host, c->nodes[4].host);
    cluster_run(c, 3 * PC_S);
    assert_non_null(
        pc_cluster_find(c->nodes[0].node->cluster, c->nodes[3].incarnation));
    for (unsigned k = 0, n = 0; k < 1000 && n < 20; k++) {
        char word[16];
        snprintf(word, sizeof(word), "s%u", k);
        if (cluster_owns(c, 0, 3, word)) {
            snprintf(words + strlen(words), sizeof(words) - strlen(words),
                     "%s%s", n++ == 0 ? "" : " ", word);
            was_put[k] = true;
        }
    }
    all_ok(c, 0, PC_VERB_PUT, words);
    cluster_stop(c, 3);
    cluster_run(c, 2 * PC_S);
    /* What e owns now cannot be told to it. */
    for (unsigned k = 0; k < 1000; k++) {
        char word[16];
        snprintf(word, sizeof(word), "s%u", k);
        if (was_put[k] && !cluster_owns(c, 0, 4, word)) {
            all_ok(c, 1, PC_VERB_GET, word);
        }
    }
    pc_sim_heal(c->sim, c->nodes[0].host, c->nodes[4].host);
    cluster_settle(c, 30 * PC_S);
    cluster_check_directory(c);
    end(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reservation_outlasts_everything_but_its_writer),
        cmocka_unit_test(a_place_that_is_used_again_is_never_taken_for_the_old),
        cmocka_unit_test(what_is_being_sent_stays_until_it_has_left),
        cmocka_unit_test(a_retract_comes_after_its_publish),
        cmocka_unit_test(the_retract_of_an_old_value_leaves_the_new_one),
        cmocka_unit_test(the_absence_from_one_owner_is_not_believed),
        cmocka_unit_test(a_stale_record_does_not_hide_a_good_one),
        cmocka_unit_test(a_record_alone_skips_no_put),
        cmocka_unit_test(a_second_put_joins_the_publish_of_the_first),
        cmocka_unit_test(an_owner_of_another_view_does_not_say_absent),
        cmocka_unit_test(former_owners_are_asked_until_all_has_moved),
        cmocka_unit_test(a_newcomer_asks_the_owners_of_views_before_its_time),
        cmocka_unit_test(a_move_that_is_interrupted_is_not_taken_for_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
