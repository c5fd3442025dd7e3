/*
 * The directory when the cluster changes: joins, leaves, deaths, cuts; repair
 * of what was lost on the way; what goes from a shard, and when.
 */
#include "test.h"

#include "cluster.h"
#include "directory/summary.h"

#include <stdio.h>
#include <string.h>

#define NO_CACHE "location_cache=0 "

/* "s0 s1 s2 ..." */
static const char *small_words(unsigned n, char words[1024])
{
    size_t len = 0;
    for (unsigned k = 0; k < n; k++) {
        len += (size_t)snprintf(words + len, 1024 - len, "%ss%u",
                                k == 0 ? "" : " ", k);
    }
    return words;
}

static peercache_status_t whole(struct cluster *c, int i, enum pc_verb verb,
                                const char *words)
{
    struct cluster_op *op = cluster_begin_verb(c, i, verb, words);
    cluster_wait(op);
    return op->result;
}

/* What shard `owner` has of a word from a holder. */
static bool find_record(struct cluster *c, int owner, uint64_t holder,
                        const char *word, struct pc_record *record_p)
{
    struct pc_record records[16];
    size_t n = pc_shard_lookup(c->nodes[owner].node->shard,
                               cluster_digest(c, owner, word), records, 16);
    for (size_t i = 0; i < n && i < 16; i++) {
        if (records[i].incarnation == holder) {
            *record_p = records[i];
            return true;
        }
    }
    return false;
}

static size_t count_records(struct cluster *c, int owner)
{
    return pc_shard_count(c->nodes[owner].node->shard);
}

static uint64_t sum_of(struct cluster *c, int n, enum pc_metric id)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += cluster_metric(c, i, id);
    }
    return sum;
}

/* ---- Repair -----------------------------------------------------------------
 */

/* A record that was lost and one that should have gone: both are mended, and
 * nothing else is touched. */
static void repair_mends_what_an_owner_lost_or_kept_too_long(void **state)
{
    (void)state;
    char lost[16];
    char kept[16];
    char words[1024];
    struct pc_record record;
    struct cluster *c = cluster_create(1);
    cluster_start_all(c, 3, NO_CACHE);
    cluster_do(c, 0, PC_VERB_PUT, small_words(100, words));
    cluster_pick_word(c, 0, 'm', "b", "", lost);
    cluster_pick_word(c, 0, 'x', "c", "", kept);
    cluster_do(c, 0, PC_VERB_PUT, lost);
    cluster_do(c, 0, PC_VERB_PUT, kept);
    uint64_t holder = c->nodes[0].incarnation;
    assert_true(find_record(c, 1, holder, lost, &record));
    assert_true(pc_shard_retract(c->nodes[1].node->shard, &record));
    assert_true(find_record(c, 2, holder, kept, &record));
    cluster_do(c, 0, PC_VERB_REMOVE, kept);
    assert_false(find_record(c, 2, holder, kept, &record));
    assert_int_equal(pc_shard_publish(c->nodes[2].node->shard, &record),
                     PEERCACHE_OK);
    cluster_run(c, 30 * PC_S);
    assert_true(find_record(c, 1, holder, lost, &record));
    assert_false(find_record(c, 2, holder, kept, &record));
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_REPAIR_MISSING), 1);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_REPAIR_EXTRA), 1);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Puts, removes and evictions while everything is compared all the time: a
 * record of a value that is held never goes. */
static void a_comparison_drops_no_record_of_a_fresh_put(void **state)
{
    (void)state;
    char words[1024];
    for (uint64_t seed = 10; seed < 14; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_start_all(c, 3, NO_CACHE);
        for (unsigned k = 0; k < 400; k++) {
            char word[16];
            int i = (int)pc_rand_below(&c->rand, 3);
            snprintf(word, sizeof(word), "s%u",
                     (unsigned)pc_rand_below(&c->rand, 100));
            if (k % 5 == 4) {
                (void)cluster_begin_verb(c, i, PC_VERB_REMOVE, word);
            } else {
                struct cluster_op *put =
                    cluster_begin_verb(c, i, PC_VERB_PUT, word);
                cluster_wait(put);
            }
            pc_repair_all(c->nodes[i].node);
            cluster_run(c, pc_rand_below(&c->rand, 300 * PC_US));
        }
        assert_true(sum_of(c, 3, PC_METRIC_REPAIR_ROUNDS) > 20);
        cluster_do(c, 0, PC_VERB_PUT, small_words(100, words));
        pc_repair_all(c->nodes[0].node);
        for (unsigned k = 0; k < 200; k++) {
            struct cluster_op *get =
                cluster_begin_verb(c, 1, PC_VERB_GET, words);
            cluster_wait(get);
            assert_int_equal(get->result, PEERCACHE_OK);
        }
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* Several times as many as go into one list, one lane and one message. */
static void repair_of_everything_takes_a_few_seconds(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(2);
    cluster_start_all(c, 3, NO_CACHE "global_segment_size=16mib");
    for (unsigned k = 0; k < 20; k++) {
        size_t len = 0;
        for (unsigned i = 0; i < 100; i++) {
            len += (size_t)snprintf(words + len, sizeof(words) - len, "%ss%u",
                                    i == 0 ? "" : " ", 100 * k + i);
        }
        assert_int_equal(whole(c, 0, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    for (int i = 1; i < 3; i++) {
        pc_shard_destroy(c->nodes[i].node->shard);
        c->nodes[i].node->shard = pc_shard_create(0);
    }
    pc_repair_all(c->nodes[0].node);
    cluster_run(c, 3 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* b loses the record of the first word that it owns of each such range. */
static unsigned lose_at_b(struct cluster *c, uint32_t from, uint32_t to)
{
    unsigned n = 0;
    uint64_t done = 0;
    for (unsigned k = 0; k < 400; k++) {
        char word[16];
        struct pc_record record;
        snprintf(word, sizeof(word), "s%u", k);
        uint32_t range = pc_summary_range(cluster_digest(c, 0, word));
        if (range < from || range >= to || (done >> range & 1) != 0 ||
            !cluster_owns(c, 0, 1, word)) {
            continue;
        }
        done |= (uint64_t)1 << range;
        n += find_record(c, 1, c->nodes[0].incarnation, word, &record) &&
             pc_shard_retract(c->nodes[1].node->shard, &record);
    }
    return n;
}

static size_t n_held_by_b(struct cluster *c, uint32_t from)
{
    size_t n = 0;
    for (unsigned k = 0; k < 400; k++) {
        char word[16];
        struct pc_record record;
        snprintf(word, sizeof(word), "s%u", k);
        n += pc_summary_range(cluster_digest(c, 0, word)) >= from &&
             find_record(c, 1, c->nodes[0].incarnation, word, &record);
    }
    return n;
}

/* What is too much for one round is compared in several. The lower ranges
 * differ again and again, as with evictions all the time; the upper ones have
 * their turn, and there is an end. */
static void a_comparison_in_parts_ends_whatever_changes_meanwhile(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(3);
    cluster_start_all(c, 3, NO_CACHE "global_segment_size=16mib");
    for (unsigned k = 0; k < 4; k++) {
        size_t len = 0;
        for (unsigned i = 0; i < 100; i++) {
            len += (size_t)snprintf(words + len, sizeof(words) - len, "%ss%u",
                                    i == 0 ? "" : " ", 100 * k + i);
        }
        assert_int_equal(whole(c, 0, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    struct peercache_node *a = c->nodes[0].node;
    size_t n_upper = n_held_by_b(c, 32);
    a->repair.listed_max = 8;
    assert_true(lose_at_b(c, 32, 64) > 20);
    pc_repair_all(a);
    unsigned n_quiet = 0;
    for (unsigned k = 0; k < 800; k++) {
        (void)lose_at_b(c, 0, 32);
        cluster_run(c, 10 * PC_MS);
        n_quiet += !pc_repair_is_urgent(a);
    }
    assert_int_equal(n_held_by_b(c, 32), n_upper);
    assert_true(n_quiet > 100);
    cluster_run(c, 60 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* The store is not walked again and again for who cannot answer anyway. */
static void who_cannot_be_reached_is_compared_when_it_can_be(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(6);
    cluster_start_all(c, 3, NO_CACHE);
    cluster_do(c, 0, PC_VERB_PUT, small_words(60, words));
    cluster_cut(c, 0, 1);
    cluster_run(c, 5 * PC_S);
    assert_int_equal(atomic_load(&c->nodes[0].node->n_members), 3);
    pc_repair_all(c->nodes[0].node);
    cluster_run(c, PC_S);
    uint64_t n_before = cluster_metric(c, 0, PC_METRIC_REPAIR_ROUNDS);
    cluster_run(c, 60 * PC_S);
    uint64_t n = cluster_metric(c, 0, PC_METRIC_REPAIR_ROUNDS) - n_before;
    assert_true(n < 20);
    assert_true(pc_repair_is_urgent(c->nodes[0].node));
    cluster_heal_all(c);
    cluster_run(c, 5 * PC_S);
    assert_false(pc_repair_is_urgent(c->nodes[0].node));
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* ---- Deaths, cuts, returns
 * ---------------------------------------------------
 */

static bool has_any_of(struct cluster *c, int owner, uint64_t holder,
                       unsigned n)
{
    struct pc_record record;
    for (unsigned k = 0; k < n; k++) {
        char word[16];
        snprintf(word, sizeof(word), "s%u", k);
        if (find_record(c, owner, holder, word, &record)) {
            return true;
        }
    }
    return false;
}

static void records_of_the_dead_are_left_out_at_once_and_go_after_a_minute(
    void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(3);
    cluster_start_all(c, 4, NO_CACHE);
    cluster_do(c, 3, PC_VERB_PUT, small_words(60, words));
    uint64_t dead = c->nodes[3].incarnation;
    cluster_kill(c, 3);
    uint64_t limit_ns = cluster_now(c) + 30 * PC_S;
    while (atomic_load(&c->nodes[0].node->n_members) > 3) {
        assert_true(cluster_now(c) < limit_ns);
        cluster_step(c, limit_ns);
    }
    uint64_t since_ns = cluster_now(c);
    cluster_settle(c, 30 * PC_S);
    assert_true(has_any_of(c, 0, dead, 60));
    cluster_mark(c);
    cluster_do(c, 0, PC_VERB_GET, "s1 s2 s3");
    cluster_do(c, 1, PC_VERB_PUT, "s1");
    cluster_do(c, 2, PC_VERB_GET, "s1");
    cluster_expect(c, "0 ms  a get s1 s2 s3: NOT_FOUND x3\n"
                      "0 ms  b put s1: OK\n"
                      "0 ms  c get s1: OK one-sided\n");
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_READ_FAILED_PEER), 0);
    cluster_run(c, since_ns + 55 * PC_S - cluster_now(c));
    assert_true(has_any_of(c, 0, dead, 60));
    assert_int_equal(sum_of(c, 3, PC_METRIC_PURGED_DEAD), 0);
    cluster_run(c, 20 * PC_S);
    for (int i = 0; i < 3; i++) {
        assert_false(has_any_of(c, i, dead, 60));
    }
    assert_true(sum_of(c, 3, PC_METRIC_PURGED_DEAD) >= 60);
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* c can hear nobody for a while, and everybody holds everybody else dead. */
static void cut_off(struct cluster *c, uint64_t for_ns)
{
    cluster_cut(c, 0, 2);
    cluster_cut(c, 1, 2);
    cluster_run(c, for_ns);
}

static void after_a_short_cut_no_record_is_sent_again(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(4);
    cluster_start_all(c, 3, NO_CACHE);
    small_words(60, words);
    cluster_do(c, 0, PC_VERB_PUT, words);
    cluster_do(c, 2, PC_VERB_PUT, "m1 m2 m3 m4 m5 m6 m7 m8 m9");
    size_t n_at_c = count_records(c, 2);
    cut_off(c, 40 * PC_S);
    assert_int_equal(atomic_load(&c->nodes[2].node->n_members), 1);
    uint64_t n_sent = sum_of(c, 3, PC_METRIC_REPUBLISHES);
    cluster_heal_all(c);
    cluster_run(c, 4 * PC_S); /* Two heartbeats. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(whole(c, i, PC_VERB_GET, words), PEERCACHE_OK);
        assert_int_equal(whole(c, i, PC_VERB_GET, "m1 m2 m3 m4 m5 m6 m7 m8 m9"),
                         PEERCACHE_OK);
    }
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(sum_of(c, 3, PC_METRIC_REPUBLISHES), n_sent);
    assert_int_equal(sum_of(c, 3, PC_METRIC_REPAIR_MISSING), 0);
    assert_true(count_records(c, 2) >= n_at_c);
    assert_int_equal(sum_of(c, 3, PC_METRIC_PURGED_DEAD), 0);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* What was put, removed and put again on both sides meanwhile is right in all
 * shards, and only that was sent. */
static void after_a_cut_only_what_changed_is_sent(void **state)
{
    (void)state;
    char words[1024];
    for (uint64_t seed = 20; seed < 24; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_start_all(c, 3, NO_CACHE);
        cluster_do(c, 0, PC_VERB_PUT, small_words(60, words));
        cluster_do(c, 2, PC_VERB_PUT, "m1 m2 m3 m4 m5 m6");
        cut_off(c, 20 * PC_S);
        uint64_t n_sent = sum_of(c, 3, PC_METRIC_REPUBLISHES);
        cluster_do(c, 0, PC_VERB_PUT, "x y z v w");
        cluster_do(c, 0, PC_VERB_REMOVE, "s1 s2 s3");
        cluster_do(c, 0, PC_VERB_PUT, "s1");
        cluster_do(c, 2, PC_VERB_PUT, "p q r");
        cluster_do(c, 2, PC_VERB_REMOVE, "m1 m2");
        cluster_heal_all(c);
        cluster_run(c, 4 * PC_S);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(whole(c, i, PC_VERB_GET,
                                   "x y z v w p q r s1 s4 s5 m3 m4 m5 m6"),
                             PEERCACHE_OK);
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m1"),
                             PEERCACHE_NOT_FOUND);
        }
        cluster_settle(c, 30 * PC_S);
        cluster_run(c, PC_S);
        assert_true(sum_of(c, 3, PC_METRIC_REPUBLISHES) - n_sent <= 2 * 9);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* Others purge what it had told them; it finds out and tells them again. */
static void who_was_held_dead_for_long_is_found_again(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(5);
    cluster_start_all(c, 3, NO_CACHE);
    cluster_do(c, 2, PC_VERB_PUT, small_words(60, words));
    cluster_freeze(c, 2);
    cluster_run(c, 100 * PC_S);
    assert_false(has_any_of(c, 0, c->nodes[2].incarnation, 60));
    assert_false(has_any_of(c, 1, c->nodes[2].incarnation, 60));
    cluster_thaw(c, 2);
    cluster_run(c, 6 * PC_S);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(whole(c, i, PC_VERB_GET, words), PEERCACHE_OK);
    }
    cluster_settle(c, 30 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Its retract was under way when the owner was held dead: the FIFO goes on. */
static void a_fifo_survives_that_its_owner_was_held_dead(void **state)
{
    (void)state;
    char word[16];
    struct pc_record record;
    struct cluster *c = cluster_create(6);
    cluster_start_all(c, 3, NO_CACHE "directory_replicas=1");
    cluster_pick_word(c, 0, 'm', "c", "", word);
    cluster_do(c, 0, PC_VERB_PUT, word);
    cluster_cut(c, 0, 2);
    cluster_cut(c, 1, 2);
    cluster_do(c, 0, PC_VERB_REMOVE, word);
    cluster_run(c, 20 * PC_S);
    assert_int_equal(atomic_load(&c->nodes[0].node->n_members), 2);
    assert_int_equal(c->nodes[0].node->publisher.n_parked, 1);
    assert_true(find_record(c, 2, c->nodes[0].incarnation, word, &record));
    cluster_heal_all(c);
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(c->nodes[0].node->publisher.n_parked, 0);
    assert_false(find_record(c, 2, c->nodes[0].incarnation, word, &record));
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

enum { PARK_TURNS = 8, PARKED_EACH = 4096 };

/* Puts to c, each behind as many retracts as one turn parks, until it is held
 * dead by a and b. */
static struct pc_outbox *start_parking(struct cluster *c,
                                       struct cluster_op *puts[PARK_TURNS])
{
    struct peercache_node *node = c->nodes[0].node;
    const struct pc_member *owner = &c->nodes[2].node->self;
    struct pc_outbox *box = pc_fifo_get(node, owner);
    struct pc_record record = {
        .incarnation = node->self.incarnation, .generation = 2, .length = 64};
    assert_non_null(box);
    cluster_cut(c, 0, 2);
    cluster_cut(c, 1, 2);
    for (unsigned t = 0, k = 0; t < PARK_TURNS; t++) {
        char word[16];
        c->acting = 0;
        for (unsigned i = 0; i < PARKED_EACH; i++) {
            record.digest = (struct pc_digest){i, t};
            assert_true(pc_fifo_add(node, owner, PC_RETRACT, &record, NULL));
        }
        c->acting = -1;
        do {
            (void)snprintf(word, sizeof(word), "m%u", k++);
        } while (!cluster_owns(c, 0, 2, word));
        struct cluster_call call = {.node = 0,
                                    .verb = PC_VERB_PUT,
                                    .words = word,
                                    .timeout_ns = 20 * PC_S};
        puts[t] = cluster_begin(c, &call);
        while (box->n_waited <= t && !box->parked) {
            cluster_step(c, cluster_now(c) + PC_MS); /* Till it is queued. */
        }
    }
    while (!box->parked) {
        assert_int_equal(box->n_waited, PARK_TURNS);
        cluster_step(c, cluster_now(c) + PC_MS);
    }
    assert_true(box->n_waited >= PARK_TURNS - 1);
    assert_int_equal(node->publisher.n_parked, PARK_TURNS * (PARKED_EACH + 1));
    return box;
}

static void all_are_back(struct cluster *c, struct cluster_op *puts[PARK_TURNS])
{
    cluster_heal_all(c);
    cluster_settle(c, 30 * PC_S);
    assert_int_equal(c->nodes[0].node->publisher.n_parked, 0);
    for (unsigned t = 0; t < PARK_TURNS; t++) {
        struct pc_record found;
        cluster_wait(puts[t]);
        assert_int_equal(puts[t]->result, PEERCACHE_OK);
        assert_true(
            find_record(c, 2, c->nodes[0].incarnation, puts[t]->words, &found));
    }
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

static void a_long_fifo_is_parked_in_many_turns(void **state)
{
    (void)state;
    struct cluster_op *puts[PARK_TURNS];
    struct cluster *c = cluster_create(64);
    cluster_start_all(c, 3, NO_CACHE "directory_replicas=1");
    struct pc_outbox *box = start_parking(c, puts);
    unsigned n_turns = 0;
    for (size_t left = PARK_TURNS; left > 0; n_turns++) {
        assert_true(left - box->n_waited <= 1);
        left = box->n_waited;
        cluster_step(c, cluster_now(c) + PC_MS);
    }
    assert_true(n_turns >= PARK_TURNS);
    /* Another one owns them now. */
    for (unsigned t = 0; t < PARK_TURNS; t++) {
        cluster_wait(puts[t]);
        assert_int_equal(puts[t]->result, PEERCACHE_OK);
    }
    assert_true(box->parked);
    all_are_back(c, puts);
}

/* As if there were still more to park when it says that it lives. */
static void an_owner_that_is_back_takes_a_fifo_that_is_half_parked(void **state)
{
    (void)state;
    struct cluster_op *puts[PARK_TURNS];
    struct cluster *c = cluster_create(65);
    cluster_start_all(c, 3, NO_CACHE "directory_replicas=1");
    struct pc_outbox *box = start_parking(c, puts);
    pc_engine_timer_stop(&c->nodes[0].node->engine, &box->pace);
    all_are_back(c, puts);
}

static void killing_one_of_five_loses_what_it_alone_held_and_no_more(
    void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(7);
    cluster_start_all(c, 5, NO_CACHE);
    small_words(100, words);
    cluster_do(c, 0, PC_VERB_PUT, words);
    cluster_do(c, 4, PC_VERB_PUT, "m1 m2 m3 m4 m5 m6");
    cluster_kill(c, 4);
    /* Nobody knows yet. */
    struct cluster_op *get = cluster_begin_verb(c, 1, PC_VERB_GET, words);
    cluster_wait(get);
    assert_int_equal(get->result, PEERCACHE_OK);
    assert_true(get->ended_ns - get->started_ns < 500 * PC_MS);
    assert_int_equal(whole(c, 2, PC_VERB_PUT, "m1 m2 m3"), PEERCACHE_OK);
    assert_int_equal(whole(c, 3, PC_VERB_GET, "m1 m2 m3"), PEERCACHE_OK);
    cluster_run(c, 12 * PC_S);
    cluster_settle(c, 30 * PC_S);
    cluster_mark(c);
    cluster_do(c, 1, PC_VERB_GET, "m4 m5 m6");
    cluster_do(c, 1, PC_VERB_PUT, "m4 m5 m6");
    cluster_do(c, 0, PC_VERB_GET, "m4 m5 m6 m1 m2 m3");
    cluster_expect(c, "0 ms  b get m4 m5 m6: NOT_FOUND x3\n"
                      "0 ms  b put m4 m5 m6: OK x3\n"
                      "0 ms  a get m4 m5 m6 m1 m2 m3: OK one-sided x6\n");
    assert_int_equal(whole(c, 3, PC_VERB_GET, words), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* ---- Joins and leaves
 * --------------------------------------------------------
 */

/* Everybody asks all the time; nobody waits for the change. */
static void no_lookup_fails_or_is_late_because_of_a_join_or_a_leave(
    void **state)
{
    (void)state;
    char words[1024];
    small_words(50, words);
    for (uint64_t seed = 30; seed < 33; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_start_all(c, 4, NO_CACHE);
        cluster_do(c, 0, PC_VERB_PUT, words);
        cluster_do(c, 1, PC_VERB_PUT, "m1 m2 m3");
        uint64_t longest_ns = 0;
        for (unsigned k = 0; k < 1500; k++) {
            if (k == 20) {
                cluster_start(c, 4, 4, NO_CACHE);
            } else if (k == 500) {
                cluster_stop(c, 3);
            } else if (k == 1000) {
                cluster_start(c, 5, 5, NO_CACHE);
            }
            int i = (int)(k % 3);
            struct cluster_call call = {.node = i,
                                        .verb = k % 2 == 0 ? PC_VERB_GET
                                                           : PC_VERB_EXISTS,
                                        .words = words,
                                        .quiet = true};
            struct cluster_op *op = cluster_begin(c, &call);
            cluster_wait(op);
            assert_int_equal(op->result, PEERCACHE_OK);
            uint64_t took_ns = op->ended_ns - op->started_ns;
            longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
            cluster_run(c, 10 * PC_MS);
        }
        assert_true(longest_ns < 20 * PC_MS);
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* A put whose owner is the newcomer does not wait for all that moves to it. */
static void a_fresh_put_overtakes_what_moves(void **state)
{
    (void)state;
    char words[1024];
    char fresh[16];
    struct cluster *c = cluster_create(8);
    cluster_start_all(c, 2,
                      NO_CACHE "directory_replicas=1 global_segment_size=32mib "
                               "region_size=4mib");
    for (unsigned k = 0; k < 50; k++) {
        size_t len = 0;
        for (unsigned i = 0; i < 100; i++) {
            len += (size_t)snprintf(words + len, sizeof(words) - len, "%ss%u",
                                    i == 0 ? "" : " ", 100 * k + i);
        }
        assert_int_equal(whole(c, 0, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    cluster_start(c, 2, 2, NO_CACHE "directory_replicas=1");
    uint64_t limit_ns = cluster_now(c) + 10 * PC_S;
    while (c->nodes[0].node->publisher.n_moved < 600) {
        assert_true(cluster_now(c) < limit_ns);
        cluster_step(c, limit_ns);
    }
    cluster_pick_word(c, 0, 'm', "c", "", fresh);
    struct cluster_op *put = cluster_begin_verb(c, 0, PC_VERB_PUT, fresh);
    cluster_wait(put);
    assert_int_equal(put->result, PEERCACHE_OK);
    assert_true(put->ended_ns - put->started_ns < 5 * PC_MS);
    assert_true(c->nodes[0].node->publisher.n_moved > 0);
    uint64_t began_ns = cluster_now(c);
    cluster_settle(c, 30 * PC_S);
    /* About 1,700 of 5,000 move, 256 each 5 ms. */
    assert_true(cluster_now(c) - began_ns > 20 * PC_MS);
    assert_in_range(count_records(c, 2), 1000, 3000);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Nobody asks the old owners any more, and their records go. */
static void records_that_are_not_owned_go_when_nobody_asks_for_them(
    void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(9);
    cluster_start_all(c, 2, NO_CACHE "directory_replicas=1");
    cluster_do(c, 0, PC_VERB_PUT, small_words(100, words));
    size_t n_before = count_records(c, 0) + count_records(c, 1);
    assert_int_equal(n_before, 100);
    cluster_start(c, 2, 2, NO_CACHE "directory_replicas=1");
    cluster_settle(c, 30 * PC_S);
    size_t n_moved = count_records(c, 2);
    assert_true(n_moved > 0);
    assert_int_equal(count_records(c, 0) + count_records(c, 1), n_before);
    cluster_run(c, 17 * PC_S); /* Walks come each five seconds. */
    assert_int_equal(count_records(c, 0) + count_records(c, 1), n_before);
    cluster_run(c, 15 * PC_S);
    assert_int_equal(count_records(c, 0) + count_records(c, 1),
                     n_before - n_moved);
    assert_int_equal(sum_of(c, 3, PC_METRIC_PURGED_UNOWNED), n_moved);
    assert_int_equal(whole(c, 2, PC_VERB_GET, words), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Values come, go and come again while nodes join and leave: every shard says
 * what the pools hold (rules 5, 6 and 11). */
static void puts_and_removes_while_views_change_leave_a_true_directory(
    void **state)
{
    (void)state;
    for (uint64_t seed = 40; seed < 48; seed++) {
        struct cluster *c = cluster_create(seed);
        cluster_start_all(c, 3, NO_CACHE);
        for (unsigned k = 0; k < 300; k++) {
            char word[16];
            int i = (int)pc_rand_below(&c->rand, 3);
            if (k == 50 || k == 100) {
                cluster_start(c, 3 + (int)k / 50, 3 + k / 50, NO_CACHE);
            } else if (k == 200) {
                cluster_stop(c, 4);
            }
            snprintf(word, sizeof(word), "s%u",
                     (unsigned)pc_rand_below(&c->rand, 12));
            struct cluster_op *put =
                cluster_begin_verb(c, i, PC_VERB_PUT, word);
            cluster_wait(put);
            assert_int_equal(put->result, PEERCACHE_OK);
            i = (int)pc_rand_below(&c->rand, 3);
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, word), PEERCACHE_OK);
            if (pc_rand_below(&c->rand, 2) == 0) {
                (void)cluster_do(c, i, PC_VERB_REMOVE, word);
            }
            cluster_run(c, pc_rand_below(&c->rand, 20 * PC_MS));
        }
        cluster_settle(c, 30 * PC_S);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

/* ---- The bound of a shard
 * ----------------------------------------------------
 */

static void a_full_shard_refuses_and_repair_tries_again(void **state)
{
    (void)state;
    char words[1024];
    struct cluster *c = cluster_create(60);
    cluster_start_all(c, 2,
                      NO_CACHE "directory_replicas=1 directory_records=64");
    struct cluster_op *put =
        cluster_begin_verb(c, 0, PC_VERB_PUT, small_words(200, words));
    cluster_wait(put);
    size_t n_ok = 0;
    for (size_t i = 0; i < put->n; i++) {
        n_ok += put->statuses[i] == PEERCACHE_OK;
        assert_true(put->statuses[i] == PEERCACHE_OK ||
                    put->statuses[i] == PEERCACHE_NO_SPACE);
    }
    assert_int_equal(n_ok, 128);
    assert_int_equal(count_records(c, 0), 64);
    assert_int_equal(count_records(c, 1), 64);
    assert_true(cluster_metric(c, 1, PC_METRIC_SHARD_REFUSED) > 0);
    /* The holder has them all the same. */
    assert_int_equal(whole(c, 0, PC_VERB_GET, words), PEERCACHE_OK);
    char some[1024];
    assert_int_equal(whole(c, 0, PC_VERB_REMOVE, small_words(120, some)),
                     PEERCACHE_OK);
    cluster_run(c, 30 * PC_S);
    assert_int_equal(whole(c, 1, PC_VERB_GET, words + strlen(some) + 1),
                     PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* ---- Which holder
 * ------------------------------------------------------------
 */

static void the_holder_on_the_readers_machine_is_read_first(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(61);
    for (int i = 0; i < 6; i++) {
        cluster_start(c, i, (unsigned)i, NO_CACHE "data_replicas=3");
    }
    cluster_start(c, 6, 4, NO_CACHE);
    cluster_settle(c, 30 * PC_S);
    for (int i = 0; i < 5; i++) {
        cluster_do(c, i, PC_VERB_PUT, "m1 m2 m3 m4 m5 m6");
    }
    cluster_do(c, 6, PC_VERB_EXISTS, "m1"); /* Maps its neighbour. */
    cluster_run(c, PC_S);
    cluster_mark(c);
    cluster_do(c, 6, PC_VERB_GET, "m1 m2 m3 m4 m5 m6");
    cluster_expect(c, "0 ms  g get m1 m2 m3 m4 m5 m6: OK mapped x6\n");
    /* Those that are dead do not stand before who lives. */
    cluster_kill(c, 2);
    cluster_kill(c, 3);
    cluster_kill(c, 4);
    cluster_run(c, 15 * PC_S);
    cluster_mark(c);
    cluster_do(c, 6, PC_VERB_GET, "m1 m2 m3 m4 m5 m6");
    cluster_expect(c, "0 ms  g get m1 m2 m3 m4 m5 m6: OK one-sided x6\n");
    cluster_check_rest(c);
    cluster_destroy(c);
}

/* ---- Places without proof
 * ----------------------------------------------------
 */

static void a_stale_place_goes_when_a_reader_has_met_it(void **state)
{
    (void)state;
    char word[16];
    struct pc_record record;
    static const char *const modes[] = {"read_mode=one-sided",
                                        "read_mode=served"};
    for (unsigned m = 0; m < 2; m++) {
        struct cluster *c = cluster_create(50 + m);
        cluster_start(c, 0, 0, NO_CACHE "directory_replicas=1");
        cluster_start(c, 1, 1, NO_CACHE "directory_replicas=1");
        cluster_start(c, 2, 2, NO_CACHE "directory_replicas=1");
        char settings[128];
        snprintf(settings, sizeof(settings), NO_CACHE "directory_replicas=1 %s",
                 modes[m]);
        cluster_start(c, 3, 3, settings);
        cluster_settle(c, 30 * PC_S);
        cluster_pick_word(c, 0, 'm', "c", "", word);
        cluster_do(c, 0, PC_VERB_PUT, word);
        uint64_t holder = c->nodes[0].incarnation;
        assert_true(find_record(c, 2, holder, word, &record));
        cluster_do(c, 0, PC_VERB_REMOVE, word);
        /* Its retract never came. */
        (void)pc_shard_publish(c->nodes[2].node->shard, &record);
        uint64_t n_rounds = cluster_metric(c, 0, PC_METRIC_REPAIR_ROUNDS);
        assert_int_equal(cluster_do(c, 3, PC_VERB_GET, word),
                         PEERCACHE_NOT_FOUND);
        assert_int_equal(cluster_metric(c, 3, PC_METRIC_MISS_STALE), 1);
        cluster_run(c, 200 * PC_MS);
        if (find_record(c, 2, holder, word, &record)) {
            /* The first notice opened the way to the holder. */
            (void)cluster_do(c, 3, PC_VERB_GET, word);
            cluster_run(c, 200 * PC_MS);
        }
        assert_false(find_record(c, 2, holder, word, &record));
        assert_int_equal(cluster_metric(c, 0, PC_METRIC_REPAIR_ROUNDS),
                         n_rounds);
        assert_int_equal(cluster_metric(c, 2, PC_METRIC_DOUBTED) >= 1, 1);
        cluster_check_rest(c);
        cluster_check_directory(c);
        cluster_destroy(c);
    }
}

static void a_readers_word_alone_drops_nothing(void **state)
{
    (void)state;
    char word[16];
    struct pc_record record;
    struct cluster *c = cluster_create(52);
    cluster_start_all(c, 3, NO_CACHE "directory_replicas=1");
    cluster_pick_word(c, 0, 'm', "c", "", word);
    cluster_do(c, 0, PC_VERB_PUT, word);
    assert_true(find_record(c, 2, c->nodes[0].incarnation, word, &record));
    for (unsigned k = 0; k < 20; k++) {
        struct pc_record lie = record;
        lie.generation += 2 * k;
        pc_doubt_note(c->nodes[1].node, &lie);
        cluster_run(c, 100 * PC_MS);
        assert_true(find_record(c, 2, c->nodes[0].incarnation, word, &record));
    }
    assert_true(cluster_metric(c, 2, PC_METRIC_DOUBTED) > 0);
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, word), PEERCACHE_OK);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* It would retract what is put under the key later. */
static void a_lie_about_a_generation_to_come_retracts_nothing(void **state)
{
    (void)state;
    char word[16];
    struct pc_record record;
    struct cluster *c = cluster_create(53);
    cluster_start_all(c, 3, NO_CACHE "directory_replicas=1");
    cluster_pick_word(c, 0, 'm', "c", "", word);
    cluster_do(c, 0, PC_VERB_PUT, word);
    uint64_t holder = c->nodes[0].incarnation;
    assert_true(find_record(c, 2, holder, word, &record));
    cluster_do(c, 0, PC_VERB_REMOVE, word);
    assert_int_equal(pc_shard_publish(c->nodes[2].node->shard, &record),
                     PEERCACHE_OK);
    struct pc_record lie = record;
    lie.generation = UINT64_MAX - 1;
    pc_doubt_note(c->nodes[1].node, &lie);
    cluster_run(c, 500 * PC_MS);
    assert_int_equal(cluster_metric(c, 2, PC_METRIC_DOUBTED), 1);
    assert_true(find_record(c, 2, holder, word, &record));
    pc_doubt_note(c->nodes[1].node, &record);
    cluster_run(c, 500 * PC_MS);
    assert_false(find_record(c, 2, holder, word, &record));
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repair_mends_what_an_owner_lost_or_kept_too_long),
        cmocka_unit_test(a_comparison_drops_no_record_of_a_fresh_put),
        cmocka_unit_test(repair_of_everything_takes_a_few_seconds),
        cmocka_unit_test(a_comparison_in_parts_ends_whatever_changes_meanwhile),
        cmocka_unit_test(who_cannot_be_reached_is_compared_when_it_can_be),
        cmocka_unit_test(
            records_of_the_dead_are_left_out_at_once_and_go_after_a_minute),
        cmocka_unit_test(after_a_short_cut_no_record_is_sent_again),
        cmocka_unit_test(after_a_cut_only_what_changed_is_sent),
        cmocka_unit_test(who_was_held_dead_for_long_is_found_again),
        cmocka_unit_test(a_fifo_survives_that_its_owner_was_held_dead),
        cmocka_unit_test(a_long_fifo_is_parked_in_many_turns),
        cmocka_unit_test(
            an_owner_that_is_back_takes_a_fifo_that_is_half_parked),
        cmocka_unit_test(
            killing_one_of_five_loses_what_it_alone_held_and_no_more),
        cmocka_unit_test(
            no_lookup_fails_or_is_late_because_of_a_join_or_a_leave),
        cmocka_unit_test(a_fresh_put_overtakes_what_moves),
        cmocka_unit_test(
            records_that_are_not_owned_go_when_nobody_asks_for_them),
        cmocka_unit_test(
            puts_and_removes_while_views_change_leave_a_true_directory),
        cmocka_unit_test(a_full_shard_refuses_and_repair_tries_again),
        cmocka_unit_test(the_holder_on_the_readers_machine_is_read_first),
        cmocka_unit_test(a_stale_place_goes_when_a_reader_has_met_it),
        cmocka_unit_test(a_readers_word_alone_drops_nothing),
        cmocka_unit_test(a_lie_about_a_generation_to_come_retracts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
