/*
 * The disk tier in a cluster: what leaves the pool is still found, in every
 * read mode; what was removed, cleared or replaced never comes back; restarts;
 * disks that are slow, broken, or lie.
 */
#include "test.h"

#include "cluster.h"
#include "cluster_value.h"
#include "disk/disk_int.h"
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* 16 KiB values: some 120 of them fill the pool. */
static const char small_pool[] =
    "global_segment_size=2mib region_size=2mib location_cache=0";

/* Words m<first> .., up to 8 of them. */
static const char *words_of(unsigned first, unsigned n)
{
    static char words[128];
    words[0] = '\0';
    for (unsigned k = 0; k < n; k++) {
        (void)snprintf(words + strlen(words), sizeof(words) - strlen(words),
                       "%sm%u", k == 0 ? "" : " ", first + k);
    }
    return words;
}

static void put_some(struct cluster *c, int i, unsigned first, unsigned n)
{
    for (unsigned k = 0; k < n; k += 8) {
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words_of(first + k, 8)),
                         PEERCACHE_OK);
        cluster_run(c, 2 * PC_MS);
    }
}

/* A get; every byte is compared by the cluster. */
static struct cluster_op *get(struct cluster *c, int i, const char *words)
{
    struct cluster_call call = {.node = i, .verb = PC_VERB_GET, .words = words};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    return op;
}

static void assert_from(struct cluster *c, int i, const char *words,
                        peercache_source_t source)
{
    struct cluster_op *op = get(c, i, words);
    assert_int_equal(op->result, PEERCACHE_OK);
    for (size_t k = 0; k < op->n; k++) {
        assert_int_equal(op->sources[k], source);
    }
}

static bool is_in_pool(struct cluster *c, int i, const char *word)
{
    struct pc_place place;
    return pc_store_find(c->nodes[i].node->store, cluster_digest(c, i, word),
                         false, &place);
}

/* Node 0 has a disk; m0..m7 are put, then so much that they leave the pool. */
static struct cluster *start_and_evict(uint64_t seed, int n_nodes,
                                       const char *settings)
{
    struct cluster *c = cluster_create(seed);
    cluster_add_disk(c, 0);
    cluster_start_all(c, n_nodes, settings);
    put_some(c, 0, 0, 8);
    put_some(c, 0, 100, 240);
    cluster_run(c, PC_S);
    assert_true(cluster_metric(c, 0, PC_METRIC_EVICTIONS) > 100);
    assert_false(is_in_pool(c, 0, "m0"));
    return c;
}

static void end(struct cluster *c)
{
    cluster_run(c, 2 * PC_S);
    cluster_check_rest(c);
    cluster_check_directory(c);
    cluster_destroy(c);
}

/* Node 0 has a disk, node 1 reads in its own way; they are not settled yet. */
static struct cluster *start_reader(uint64_t seed, unsigned machine,
                                    const char *mode)
{
    struct cluster *c = cluster_create(seed);
    cluster_defaults(c, small_pool);
    cluster_add_disk(c, 0);
    cluster_start(c, 0, 0, "");
    cluster_start(c, 1, machine, mode);
    return c;
}

static void what_left_the_pool_comes_back_from_disk(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(601, 2, small_pool);
    assert_int_equal(cluster_do(c, 0, PC_VERB_EXISTS, "m0"), PEERCACHE_OK);
    assert_from(c, 0, words_of(0, 8), PEERCACHE_FROM_DISK);
    assert_true(is_in_pool(c, 0, "m0"));
    assert_from(c, 0, words_of(0, 8), PEERCACHE_FROM_LOCAL);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_PROMOTES), 8);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_READ_DISK), 8);
    end(c);
}

/* It owns all of the directory, so that no answer of another node ends the
 * publication of what has come back. */
static void a_node_alone_keeps_nothing_of_its_promotions(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(605, 1, small_pool);
    assert_from(c, 0, words_of(0, 8), PEERCACHE_FROM_DISK);
    assert_int_equal(c->nodes[0].node->publisher.publications.n_used, 0);
    end(c);
}

static void a_peer_reads_from_disk_in_every_mode(void **state)
{
    (void)state;
    static const struct
    {
        const char *mode;
        unsigned machine;
        peercache_source_t first, second;
    } cases[] = {
        {"read_mode=served", 1, PEERCACHE_FROM_DISK, PEERCACHE_FROM_SERVED},
        {"read_mode=auto", 1, PEERCACHE_FROM_DISK, PEERCACHE_FROM_ONE_SIDED},
        {"read_mode=one-sided", 1, PEERCACHE_FROM_ONE_SIDED,
         PEERCACHE_FROM_ONE_SIDED},
        {"read_mode=mapped", 0, PEERCACHE_FROM_MAPPED, PEERCACHE_FROM_MAPPED},
    };
    for (unsigned k = 0; k < 4; k++) {
        struct cluster *c =
            start_reader(610 + k, cases[k].machine, cases[k].mode);
        cluster_settle(c, 30 * PC_S);
        put_some(c, 0, 0, 8);
        put_some(c, 0, 100, 240);
        cluster_run(c, PC_S);
        assert_false(is_in_pool(c, 0, "m0"));
        assert_int_equal(cluster_do(c, 1, PC_VERB_EXISTS, "m0"), PEERCACHE_OK);
        assert_from(c, 1, words_of(0, 8), cases[k].first);
        assert_int_equal(cluster_metric(c, 0, PC_METRIC_PROMOTES), 8);
        cluster_run(c, PC_S);
        assert_from(c, 1, words_of(0, 8), cases[k].second);
        assert_int_equal(cluster_metric(c, 0, PC_METRIC_PROMOTES), 8);
        end(c);
    }
}

/* 60 values of 16 KiB for a peer, from a pool of 2 MiB of which a quarter may
 * be pinned: they come in parts. */
static void a_batch_larger_than_what_may_be_pinned_comes_in_parts(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(620, 2, small_pool);
    char words[512] = "";
    for (unsigned k = 0; k < 60; k++) {
        (void)snprintf(words + strlen(words), sizeof(words) - strlen(words),
                       "%sm%u", k == 0 ? "" : " ", 100 + k);
    }
    struct cluster_op *op = get(c, 1, words);
    assert_int_equal(op->result, PEERCACHE_OK);
    op = get(c, 0, words);
    assert_int_equal(op->result, PEERCACHE_OK);
    end(c);
}

/* Rule 10: there is no moment at which the directory knows nothing of it. */
static void an_eviction_leaves_no_moment_without_a_record(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(621);
    cluster_add_disk(c, 0);
    cluster_start_all(c, 3, small_pool);
    put_some(c, 0, 0, 8);
    cluster_run(c, PC_S);
    for (unsigned k = 0; k < 40; k++) {
        put_some(c, 0, 100 + 8 * k, 8);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(cluster_do(c, i, PC_VERB_EXISTS, words_of(0, 8)),
                             PEERCACHE_OK);
        }
        struct cluster_op *op = get(c, 1 + (int)(k % 2), words_of(k % 8, 1));
        assert_int_equal(op->result, PEERCACHE_OK);
        assert_int_equal(cluster_metric(c, 1, PC_METRIC_READ_MISSES), 0);
        assert_int_equal(cluster_metric(c, 2, PC_METRIC_READ_MISSES), 0);
    }
    assert_true(cluster_metric(c, 0, PC_METRIC_EVICTIONS) > 100);
    end(c);
}

/* Its owners hear of it some milliseconds later, and the reader cannot be
 * served: it asks the holder where the value is now. */
static void a_forced_mode_misses_nothing_around_evictions(void **state)
{
    (void)state;
    static const struct
    {
        const char *mode;
        unsigned machine;
    } cases[] = {{"read_mode=mapped", 0},
                 {"read_mode=one-sided", 1},
                 {"read_mode=one-sided location_cache=64", 1}};
    for (unsigned k = 0; k < 3; k++) {
        struct cluster *c =
            start_reader(625 + k, cases[k].machine, cases[k].mode);
        cluster_start(c, 2, 2, "");
        cluster_settle(c, 30 * PC_S);
        put_some(c, 0, 0, 120);
        cluster_run(c, PC_S);
        for (unsigned n = 0; n < 60; n++) {
            assert_int_equal(
                cluster_do(c, 0, PC_VERB_PUT, words_of(200 + 8 * n, 8)),
                PEERCACHE_OK);
            /* Some of them have just left, others left before. */
            struct cluster_op *op = get(c, 1, words_of(8 * (n % 15), 8));
            assert_int_equal(op->result, PEERCACHE_OK);
        }
        assert_int_equal(cluster_metric(c, 1, PC_METRIC_READ_MISSES), 0);
        assert_true(cluster_metric(c, 1, PC_METRIC_READ_FAILED_STALE) > 0);
        end(c);
    }
}

static void a_restarted_node_serves_at_once_what_it_had(void **state)
{
    (void)state;
    for (unsigned killed = 0; killed < 2; killed++) {
        struct cluster *c = start_and_evict(630 + killed, 3, small_pool);
        if (killed != 0) {
            cluster_kill(c, 0);
        } else {
            cluster_stop(c, 0);
            cluster_run(c, PC_S);
        }
        cluster_restart(c, 0);
        /* Alone, before anything was announced. */
        cluster_run(c, 3 * PC_MS);
        assert_false(c->nodes[0].node->tier->announced);
        assert_from(c, 0, words_of(0, 8), PEERCACHE_FROM_DISK);
        cluster_settle(c, 60 * PC_S);
        cluster_run(c, 2 * PC_S);
        assert_true(cluster_metric(c, 0, PC_METRIC_DISK_ANNOUNCED) > 100);
        assert_from(c, 2, words_of(100, 8), PEERCACHE_FROM_DISK);
        end(c);
    }
}

/* What a restarted node tells of its disk comes at 51,200 records a second, so
 * that a large disk does not drown the owners: 256 each 5 ms. */
static void what_was_found_is_announced_at_a_bounded_rate(void **state)
{
    enum { N = 4096, SLICE = 256, SLICE_MS = 5 };
    (void)state;
    struct cluster *c = cluster_create(634);
    cluster_add_disk(c, 0);
    cluster_start_all(c, 2, small_pool);
    for (unsigned k = 0; k < N; k += 64) {
        char words[64 * 8] = "";
        for (unsigned i = 0; i < 64; i++) {
            (void)snprintf(words + strlen(words), sizeof(words) - strlen(words),
                           "%ss%u", i == 0 ? "" : " ", k + i);
        }
        assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words), PEERCACHE_OK);
        cluster_run(c, 20 * PC_MS);
    }
    cluster_stop(c, 0);
    cluster_run(c, PC_S);
    cluster_restart(c, 0);
    uint64_t told = 0;
    unsigned n_ms = 0;
    unsigned began = 0;
    for (; told < N * 9 / 10 && n_ms < 20000; n_ms++) {
        cluster_run(c, PC_MS);
        told = cluster_metric(c, 0, PC_METRIC_DISK_ANNOUNCED);
        if (told == 0) {
            began = n_ms;
        }
        /* A slice at its beginning, and one for the step that was cut. */
        unsigned n_slices = (n_ms - began) / SLICE_MS + 2;
        assert_true(told <= (uint64_t)n_slices * SLICE);
    }
    assert_true(told >= N * 9 / 10);
    /* And no slower than half of it. */
    assert_true(n_ms - began <= 2 * N / SLICE * SLICE_MS);
    cluster_settle(c, 60 * PC_S);
    end(c);
}

static void what_was_removed_stays_removed(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(640, 3, small_pool);
    assert_int_equal(cluster_do(c, 1, PC_VERB_REMOVE, words_of(0, 4)),
                     PEERCACHE_OK);
    assert_int_equal(cluster_do(c, 0, PC_VERB_REMOVE, words_of(4, 4)),
                     PEERCACHE_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m0"),
                         PEERCACHE_NOT_FOUND);
        assert_int_equal(cluster_do(c, i, PC_VERB_EXISTS, "m5"),
                         PEERCACHE_NOT_FOUND);
    }
    cluster_kill(c, 0);
    cluster_restart(c, 0);
    cluster_settle(c, 60 * PC_S);
    cluster_run(c, 2 * PC_S);
    for (unsigned k = 0; k < 8; k++) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, words_of(k, 1)),
                             PEERCACHE_NOT_FOUND);
        }
    }
    assert_from(c, 1, words_of(100, 8), PEERCACHE_FROM_DISK);
    end(c);
}

/* Rule 10: from the moment of its confirmation on, whatever happens. */
static void a_remove_is_confirmed_when_its_tombstone_is_on_disk(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        struct cluster *c =
            start_and_evict(647 + (uint64_t)from, 2, small_pool);
        c->nodes[0].node->tier->turn_ns = 20 * PC_MS;
        c->nodes[0].node->tier->next_turn_ns = cluster_now(c) + 20 * PC_MS;
        assert_int_equal(cluster_do(c, from, PC_VERB_REMOVE, "m0 m200"),
                         PEERCACHE_OK);
        cluster_kill(c, 0);
        cluster_restart(c, 0);
        cluster_settle(c, 60 * PC_S);
        cluster_run(c, 2 * PC_S);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m0"),
                             PEERCACHE_NOT_FOUND);
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m200"),
                             PEERCACHE_NOT_FOUND);
        }
        end(c);
    }
}

struct clearing
{
    struct pc_clear clear;
    bool over;
};

static void clearing_done(struct pc_clear *clear)
{
    PC_CONTAINER_OF(clear, struct clearing, clear)->over = true;
}

/* No node's part of the directory has one of m0 .. */
static void assert_no_records(struct cluster *c, int n_nodes, unsigned n)
{
    struct pc_record record;
    for (unsigned k = 0; k < n; k++) {
        for (int i = 0; i < n_nodes; i++) {
            assert_int_equal(
                pc_shard_lookup(c->nodes[i].node->shard,
                                cluster_digest(c, i, words_of(k, 1)), &record,
                                1),
                0);
        }
    }
}

/* It is pinned for the write until long after the remove. */
static void a_remove_is_confirmed_after_its_retract_while_a_write_waits(
    void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        struct cluster *c = cluster_create(657 + (uint64_t)from);
        cluster_add_disk(c, 0);
        c->nodes[0].disk_turn_ns = 30 * PC_MS;
        cluster_start_all(c, 3, small_pool);
        cluster_run(c, 200 * PC_MS);
        assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words_of(0, 8)),
                         PEERCACHE_OK);
        assert_true(atomic_load(&c->nodes[0].node->tier->n_writing) > 0);
        struct cluster_op *op =
            cluster_begin_verb(c, from, PC_VERB_REMOVE, words_of(0, 8));
        cluster_wait(op);
        assert_int_equal(op->result, PEERCACHE_OK);
        assert_no_records(c, 3, 8);
        cluster_run(c, PC_S);
        end(c);
    }
}

static void start_clearing(struct cluster *c, struct clearing *clearing)
{
    struct peercache_node *node = c->nodes[0].node;
    clearing->clear.node = node;
    clearing->clear.done = clearing_done;
    clearing->clear.deadline_ns = node->engine.now_ns + 5 * PC_S;
    c->acting = 0;
    pc_clear_start(&clearing->clear);
    c->acting = -1;
    c->wants[0] = true;
}

static void wait_cleared(struct cluster *c, struct clearing *clearing)
{
    for (unsigned k = 0; k < 40000 && !clearing->over; k++) {
        cluster_run(c, 100 * PC_US);
    }
    assert_true(clearing->over);
    assert_int_equal(clearing->clear.status, PEERCACHE_OK);
}

/* As by a write that hangs in the kernel while all else goes on. */
static void a_clear_ends_after_the_retracts_of_what_is_still_pinned(
    void **state)
{
    (void)state;
    struct cluster *c = cluster_create(659);
    struct clearing clearing = {0};
    struct pc_pin pins[8];
    struct pc_place place;
    cluster_add_disk(c, 0);
    cluster_start_all(c, 3, small_pool);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words_of(0, 8)),
                     PEERCACHE_OK);
    struct pc_store *store = c->nodes[0].node->store;
    for (unsigned k = 0; k < 8; k++) {
        struct pc_digest digest = cluster_digest(c, 0, words_of(k, 1));
        assert_true(pc_store_find(store, digest, false, &place));
        assert_true(pc_store_hold(store, digest, place.generation, &pins[k]));
    }
    start_clearing(c, &clearing);
    wait_cleared(c, &clearing);
    assert_no_records(c, 3, 8);
    for (int i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 8; k++) {
            const char *word = words_of(k, 1);
            assert_int_equal(cluster_do(c, i, PC_VERB_EXISTS, word),
                             PEERCACHE_NOT_FOUND);
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, word),
                             PEERCACHE_NOT_FOUND);
        }
    }
    /* What is put while they are pinned has its own records. */
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words_of(0, 8)),
                     PEERCACHE_OK);
    for (unsigned k = 0; k < 8; k++) {
        pc_store_unpin(store, &pins[k]);
    }
    cluster_run(c, PC_S);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, words_of(0, 8)),
                         PEERCACHE_OK);
    }
    end(c);
}

/* The first one's end opens the disk for nobody while the second is at it. */
static void two_clears_at_once_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(646, 2, small_pool);
    struct pc_tier *tier = c->nodes[0].node->tier;
    struct clearing clearings[2] = {0};
    bool one_alone = false;
    start_clearing(c, &clearings[0]);
    while (!clearings[0].clear.disk_cleared) {
        cluster_run(c, 10 * PC_US);
    }
    assert_false(clearings[0].over);
    tier->turn_ns = 20 * PC_MS; /* So that they do not end together. */
    tier->next_turn_ns = cluster_now(c) + 20 * PC_MS;
    start_clearing(c, &clearings[1]);
    for (unsigned k = 0; k < 4000 && !(clearings[0].over && clearings[1].over);
         k++) {
        if (clearings[0].over != clearings[1].over) {
            one_alone = true;
            assert_int_equal(tier->n_clearing, 1);
        }
        cluster_run(c, 100 * PC_US);
    }
    assert_true(one_alone);
    assert_int_equal(clearings[0].clear.status, PEERCACHE_OK);
    assert_int_equal(clearings[1].clear.status, PEERCACHE_OK);
    assert_int_equal(tier->n_clearing, 0);
    tier->turn_ns = 0;
    tier->next_turn_ns = 0;
    cluster_check_directory(c);
    put_some(c, 0, 0, 8); /* What comes after them gets its records again. */
    put_some(c, 0, 400, 240);
    cluster_run(c, PC_S);
    assert_from(c, 1, words_of(0, 8), PEERCACHE_FROM_DISK);
    end(c);
}

enum { MANY = 240 };

struct asked
{
    struct pc_promote_wait wait;
    struct pc_pin pin; /* Kept, so that there is room for no more. */
    unsigned *n_told;
};

static void told(struct pc_promote_wait *wait, peercache_status_t status,
                 struct pc_pin *pin)
{
    struct asked *asked = PC_CONTAINER_OF(wait, struct asked, wait);
    (*asked->n_told)++;
    if (status == PEERCACHE_OK) {
        asked->pin = *pin;
    }
}

/* The pool is full of what is pinned: each of the many tries for room. */
static void a_long_queue_of_promotions_takes_many_turns(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(647, 1, small_pool);
    struct peercache_node *node = c->nodes[0].node;
    static struct asked asked[MANY];
    static struct pc_pin pins[MANY];
    unsigned n_told = 0;
    unsigned n_asked = 0;
    size_t n_pins = 0;
    unsigned most = 0;
    memset(asked, 0, sizeof(asked));
    c->acting = 0;
    for (unsigned k = 0; k < MANY; k++) {
        struct pc_digest digest = cluster_digest(c, 0, words_of(100 + k, 1));
        if (pc_store_pin(node->store, digest, &pins[n_pins])) {
            n_pins++;
            continue;
        }
        asked[n_asked].n_told = &n_told;
        asked[n_asked].wait.done = told;
        pc_list_init(&asked[n_asked].wait.link);
        assert_int_equal(pc_promote(node, digest, &asked[n_asked].wait),
                         PEERCACHE_OK);
        n_asked++;
    }
    assert_true(n_asked > 100);
    for (unsigned turns = 0; turns < 1000 && n_told < n_asked; turns++) {
        unsigned before = n_told;
        c->acting = -1;
        c->wants[0] = true;
        cluster_step(c, cluster_now(c) + PC_MS);
        most = n_told - before > most ? n_told - before : most;
    }
    assert_int_equal(n_told, n_asked);
    assert_true(most <= 70); /* Those that came, and 64 that had no room. */
    for (size_t k = 0; k < n_pins; k++) {
        pc_store_unpin(node->store, &pins[k]);
    }
    for (unsigned k = 0; k < n_asked; k++) {
        if (asked[k].pin.slot != NULL) {
            pc_store_unpin(node->store, &asked[k].pin);
        }
    }
    end(c);
}

/* The record turns out bad, but the value is in the pool by then. */
static void a_put_that_overtakes_a_failing_read_is_found(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(703, 2, small_pool);
    struct pc_tier *tier = c->nodes[0].node->tier;
    tier->turn_ns = 20 * PC_MS;
    tier->next_turn_ns = cluster_now(c) + 20 * PC_MS;
    mem_disk_fail(c->nodes[0].disk, MEM_DISK_READ, EIO, 0, UINT64_MAX);
    struct cluster_op *mine = cluster_begin_verb(c, 0, PC_VERB_GET, "m0");
    struct cluster_op *peers = cluster_begin_verb(c, 1, PC_VERB_GET, "m1");
    cluster_run(c, 2 * PC_MS);
    assert_int_equal(tier->n_reading, 2);
    assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, "m0 m1"), PEERCACHE_OK);
    assert_int_equal(tier->n_reading, 2);
    assert_true(is_in_pool(c, 0, "m0"));
    cluster_wait(mine);
    cluster_wait(peers);
    assert_int_equal(mine->result, PEERCACHE_OK);
    assert_int_equal(peers->result, PEERCACHE_OK);
    mem_disk_fail(c->nodes[0].disk, MEM_DISK_READ, EIO, 0, 0);
    tier->turn_ns = 0;
    tier->next_turn_ns = 0;
    end(c);
}

enum { RESERVED_MAX = 256 };

/* Our disk has what is asked for and the pool has no room for it just now; that
 * a peer has the key in another length is no answer. */
static void a_busy_disk_is_a_miss_though_a_peer_has_another_length(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(704, 2, small_pool);
    struct pc_store *store = c->nodes[0].node->store;
    static struct pc_reservation reserved[RESERVED_MAX];
    size_t n = 0;
    struct cluster_call call = {
        .node = 1, .verb = PC_VERB_PUT, .words = "m0", .version = 1};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_OK);
    while (n < RESERVED_MAX &&
           pc_store_reserve(store, (struct pc_digest){n, 704}, 8192,
                            &reserved[n]) == PEERCACHE_OK) {
        n++;
    }
    assert_true(n > 100 && n < RESERVED_MAX);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "m0"), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_MISS_BUSY), 1);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_MISS_SIZE), 0);
    /* Where nothing has that length, the length is the answer. */
    call.words = "m1";
    call.verb = PC_VERB_GET;
    op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->statuses[0], PEERCACHE_SIZE_MISMATCH);
    for (size_t i = 0; i < n; i++) {
        pc_store_abandon(store, &reserved[i]);
    }
    assert_from(c, 0, "m0", PEERCACHE_FROM_DISK);
    end(c);
}

/* Node 0 has m0 on its disk, which is busy; node 1 has it in memory. A get of
 * node 0, whose way to node 1 is cut, or else not allowed. */
static void miss_beside_a_busy_disk(unsigned seed, const char *mode,
                                    bool is_cut)
{
    char settings[128];
    (void)snprintf(settings, sizeof(settings), "%s read_mode=%s", small_pool,
                   mode);
    struct cluster *c = start_and_evict(seed, 2, settings);
    struct pc_store *store = c->nodes[0].node->store;
    static struct pc_reservation reserved[RESERVED_MAX];
    size_t n = 0;
    cluster_cut(c, 0, 1); /* It stores the value itself. */
    assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, "m0"), PEERCACHE_OK);
    cluster_heal_all(c);
    cluster_run(c, 5 * PC_S);
    assert_true(is_in_pool(c, 1, "m0"));
    while (n < RESERVED_MAX &&
           pc_store_reserve(store, (struct pc_digest){n, 706}, 8192,
                            &reserved[n]) == PEERCACHE_OK) {
        n++;
    }
    assert_true(n > 100 && n < RESERVED_MAX);
    if (is_cut) {
        cluster_cut(c, 0, 1);
    }
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "m0"), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_MISS_BUSY), 1);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_MISS_NO_PATH), 0);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_MISS_PEER_DOWN), 0);
    cluster_heal_all(c);
    for (size_t i = 0; i < n; i++) {
        pc_store_abandon(store, &reserved[i]);
    }
    assert_from(c, 0, "m0", PEERCACHE_FROM_DISK);
    end(c);
}

/* Nor is a peer that has the value, and that a forced mode cannot read, */
static void a_busy_disk_is_a_miss_though_a_peer_without_a_way_has_it(
    void **state)
{
    (void)state;
    miss_beside_a_busy_disk(706, "mapped", false);
}

/* nor one that does not answer. */
static void a_busy_disk_is_a_miss_though_a_silent_peer_has_it(void **state)
{
    (void)state;
    miss_beside_a_busy_disk(707, "served", true);
}

/* The value's segment was the oldest and is reclaimed: from then on nobody has
 * to find it, also if it comes back by a put that has not ended yet. */
static void what_a_disk_gives_up_is_no_duty_any_more(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(705);
    struct history *h = history_create(c);
    char settings[128];
    (void)snprintf(settings, sizeof(settings), "%s disk_size=4mib", small_pool);
    cluster_add_disk(c, 0);
    cluster_start_all(c, 1, settings);
    struct peercache_node *node = c->nodes[0].node;
    struct pc_digest digest = cluster_digest(c, 0, "m0");
    struct pc_disk_place on_disk;
    put_some(c, 0, 0, 8);
    put_some(c, 0, 100, 160);
    assert_false(is_in_pool(c, 0, "m0"));
    assert_true(pc_tier_find(node, digest, &on_disk));
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "m1"), PEERCACHE_OK);
    assert_int_equal(h->n_kept, 1); /* A duty while a disk has it. */
    put_some(c, 0, 400, 400);
    cluster_run(c, PC_S);
    struct pc_disk_place gone;
    assert_false(pc_tier_find(node, digest, &gone));
    struct pc_reservation reservation;
    struct pc_pin pin;
    assert_int_equal(
        pc_store_reserve(node->store, digest, on_disk.length, &reservation),
        PEERCACHE_OK);
    memcpy(reservation.addr, cluster_values_get(c->values, "m0", 0),
           (size_t)on_disk.length);
    pc_store_seal(node->store, &reservation, on_disk.checksum, &pin);
    pc_store_unpin(node->store, &pin);
    assert_from(c, 0, "m0", PEERCACHE_FROM_LOCAL);
    assert_int_equal(h->n_kept, 1);
    assert_int_equal(cluster_do(c, 0, PC_VERB_REMOVE, "m0"), PEERCACHE_OK);
    end(c); /* The history with it. */
}

/* A pool that is short, or still grows: what may be pinned are shares of what
 * is there. */
static void shares_of_pins_are_of_the_pool_that_is_there(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(711);
    cluster_add_disk(c, 0);
    c->nodes[0].disk_turn_ns = 50 * PC_MS;
    cluster_start_all(c, 1, small_pool);
    struct peercache_node *node = c->nodes[0].node;
    struct pc_tier *tier = node->tier;
    uint64_t there = pc_store_capacity(node->store);
    uint64_t wanted = node->settings.global_segment_size;
    assert_in_range(there, wanted / 2, wanted);
    node->settings.global_segment_size = 64 * wanted;
    put_some(c, 0, 0, 64);
    assert_true(atomic_load(&tier->writing_bytes) > 0);
    assert_true(atomic_load(&tier->writing_bytes) <= there / 8);
    uint64_t part = there / 16;
    uint64_t n = 0;
    while (n < 64 && pc_tier_may_pin(tier, 0, part)) {
        n++;
    }
    assert_int_equal(n, 4);
    pc_tier_unpinned(tier, 3 * part);
    assert_true(pc_tier_may_pin(tier, part, part));
    assert_false(pc_tier_may_pin(tier, 2 * part, part));
    pc_tier_unpinned(tier, 2 * part);
    node->settings.global_segment_size = wanted;
    end(c);
}

/* While a clear runs, what leaves the pool gets no record: the clear ends
 * without having emptied the disk. */
static void what_a_clear_did_not_reach_is_found_again(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(647, 2, small_pool);
    struct peercache_node *node = c->nodes[0].node;
    put_some(c, 0, 400, 8);
    assert_true(is_in_pool(c, 0, "m400"));
    c->acting = 0;
    assert_true(pc_tier_clear_begin(node));
    c->acting = -1;
    put_some(c, 0, 500, 240);
    cluster_run(c, PC_S);
    assert_false(is_in_pool(c, 0, "m400"));
    struct pc_disk_place place;
    assert_true(pc_tier_find(node, cluster_digest(c, 0, "m400"), &place));
    assert_int_equal(place.tag, 0); /* No owner knows of it. */
    c->acting = 0;
    pc_tier_clear_over(node);
    c->acting = -1;
    c->wants[0] = true;
    cluster_run(c, PC_S);
    assert_true(node->tier->announced);
    for (unsigned k = 0; k < 8; k++) {
        assert_int_equal(cluster_do(c, 1, PC_VERB_EXISTS, words_of(400 + k, 1)),
                         PEERCACHE_OK);
    }
    end(c);
}

/* It is read from the disk while a clear, which has seen all of the pool, has
 * not emptied the disk yet. */
static void what_is_promoted_while_a_clear_runs_does_not_stay(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 12; k++) {
        struct cluster *c = start_and_evict(670 + k, 2, small_pool);
        struct peercache_node *node = c->nodes[0].node;
        struct clearing clearing = {0};
        unsigned n_told = 0;
        struct asked asked = {.n_told = &n_told, .wait.done = told};
        put_some(c, 0, 400, 400); /* So that the disk takes several turns. */
        cluster_run(c, PC_S);
        assert_false(is_in_pool(c, 0, "m0"));
        pc_list_init(&asked.wait.link);
        if (k % 2 == 0) {
            start_clearing(c, &clearing);
        }
        cluster_run(c, k / 2 * PC_US);
        c->acting = 0;
        peercache_status_t status =
            pc_promote(node, cluster_digest(c, 0, "m0"), &asked.wait);
        c->acting = -1;
        c->wants[0] = true;
        if (k % 2 == 1) {
            start_clearing(c, &clearing);
        }
        cluster_run(c, 5 * PC_S);
        assert_true(clearing.over);
        assert_int_equal(clearing.clear.status, PEERCACHE_OK);
        assert_int_equal(n_told, status == PEERCACHE_OK);
        assert_false(is_in_pool(c, 0, "m0"));
        if (asked.pin.slot != NULL) {
            pc_store_unpin(node->store, &asked.pin);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m0"),
                             PEERCACHE_NOT_FOUND);
        }
        end(c);
    }
}

/* A holder whose bound on requests is reached is no dead one. */
static void too_many_requests_for_a_disk_are_busy_and_not_down(void **state)
{
    (void)state;
    static const char *const modes[] = {"served", "one-sided"};
    for (unsigned k = 0; k < 2; k++) {
        struct cluster *c = cluster_create(659 + k);
        char mode[64];
        (void)snprintf(mode, sizeof(mode), "read_mode=%s", modes[k]);
        cluster_defaults(c, small_pool);
        cluster_add_disk(c, 0);
        cluster_start(c, 0, 0, "");
        cluster_start(c, 1, 1, mode);
        cluster_settle(c, 30 * PC_S);
        put_some(c, 0, 0, 8);
        put_some(c, 0, 100, 240);
        cluster_run(c, PC_S);
        struct pc_tier *tier = c->nodes[0].node->tier;
        tier->errand_bytes += 1 << 30; /* As if of many others. */
        struct cluster_call call = {.node = 1,
                                    .verb = PC_VERB_GET,
                                    .words = "m0",
                                    .timeout_ns = 300 * PC_MS};
        struct cluster_op *op = cluster_begin(c, &call);
        cluster_wait(op);
        assert_int_not_equal(op->result, PEERCACHE_OK);
        assert_true(cluster_metric(c, 0, PC_METRIC_DISK_BUSY) > 1);
        assert_int_equal(cluster_metric(c, 1, PC_METRIC_LATE_DISK), 1);
        op = cluster_begin(c, &call);
        cluster_run(c, 100 * PC_MS);
        assert_false(op->ended);
        tier->errand_bytes -= 1 << 30;
        cluster_wait(op);
        assert_int_equal(op->result, PEERCACHE_OK);
        assert_int_equal(cluster_metric(c, 1, PC_METRIC_READ_FAILED_PEER), 0);
        assert_int_equal(tier->errand_bytes > 0, k == 1); /* Its lease. */
        end(c);
    }
}

static void what_was_cleared_stays_cleared(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(645, 2, small_pool);
    struct clearing clearing = {0};
    start_clearing(c, &clearing);
    wait_cleared(c, &clearing);
    for (unsigned k = 0; k < 8; k++) {
        assert_int_equal(cluster_do(c, 1, PC_VERB_GET, words_of(k, 1)),
                         PEERCACHE_NOT_FOUND);
        assert_int_equal(cluster_do(c, 0, PC_VERB_GET, words_of(100 + k, 1)),
                         PEERCACHE_NOT_FOUND);
    }
    cluster_check_directory(c);
    cluster_kill(c, 0);
    cluster_restart(c, 0);
    cluster_settle(c, 60 * PC_S);
    cluster_run(c, PC_S);
    for (unsigned k = 0; k < 8; k++) {
        assert_int_equal(cluster_do(c, 0, PC_VERB_GET, words_of(k, 1)),
                         PEERCACHE_NOT_FOUND);
    }
    end(c);
}

/* Other bytes under a key: a user's error; what was replaced must not be seen
 * again, neither after an eviction nor after a restart. */
static void a_replaced_value_never_comes_back(void **state)
{
    (void)state;
    for (unsigned restart = 0; restart < 2; restart++) {
        struct cluster *c = start_and_evict(650 + restart, 2, small_pool);
        struct cluster_call call = {
            .node = 0, .verb = PC_VERB_PUT, .words = "m0 m1", .version = 1};
        struct cluster_op *op = cluster_begin(c, &call);
        cluster_wait(op);
        assert_int_equal(op->result, PEERCACHE_OK);
        /* Its own write fails: the old one must go all the same. */
        cluster_run(c, PC_S);
        put_some(c, 0, 400, 240);
        cluster_run(c, PC_S);
        if (restart != 0) {
            cluster_kill(c, 0);
            cluster_restart(c, 0);
            cluster_settle(c, 60 * PC_S);
            cluster_run(c, 2 * PC_S);
        }
        call.verb = PC_VERB_GET;
        for (int i = 0; i < 2; i++) {
            call.node = i;
            op = cluster_begin(c, &call); /* Of version 1, or it fails. */
            cluster_wait(op);
            assert_int_equal(op->result, PEERCACHE_OK);
        }
        end(c);
    }
}

static void nobody_asks(void *arg, enum pc_disk_result result)
{
    (void)arg;
    (void)result;
}

/* Its queue takes no more removes that somebody waits for. */
static void fill_with_removes(struct pc_tier *tier, uint64_t until_ns)
{
    struct pc_digest digest = {1, 1};
    tier->next_turn_ns = until_ns;
    while (pc_disk_remove(tier->disk, digest, nobody_asks, NULL) ==
           PC_DISK_OK) {
        digest.lo++;
    }
}

/* Where nothing is written before it is evicted, only a tombstone keeps what
 * was replaced from coming back. */
static void a_full_queue_of_removes_brings_no_replaced_value_back(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(652);
    cluster_add_disk(c, 0);
    cluster_defaults(c, small_pool);
    cluster_start(c, 0, 0, "disk_policy=evict");
    cluster_start(c, 1, 1, "");
    cluster_settle(c, 30 * PC_S);
    put_some(c, 0, 0, 8);
    put_some(c, 0, 100, 240);
    cluster_run(c, PC_S);
    assert_false(is_in_pool(c, 0, "m0"));
    assert_int_equal(cluster_do(c, 1, PC_VERB_EXISTS, "m0 m1"), PEERCACHE_OK);
    fill_with_removes(c->nodes[0].node->tier, cluster_now(c) + 100 * PC_MS);
    struct cluster_call call = {
        .node = 0, .verb = PC_VERB_PUT, .words = "m0 m1", .version = 1};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_OK);
    assert_true(cluster_now(c) < c->nodes[0].node->tier->next_turn_ns);
    cluster_run(c, PC_S);
    cluster_kill(c, 0);
    cluster_restart(c, 0);
    cluster_settle(c, 60 * PC_S);
    cluster_run(c, 2 * PC_S);
    for (int i = 0; i < 2; i++) {
        /* Version 1 was in memory only. */
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m0"),
                         PEERCACHE_NOT_FOUND);
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, "m1"),
                         PEERCACHE_NOT_FOUND);
        assert_int_equal(cluster_do(c, i, PC_VERB_GET, words_of(100, 8)),
                         PEERCACHE_OK);
    }
    end(c);
}

/* Flip a bit in each sector, but for the first of each file. */
static void spoil(struct mem_disk *disk)
{
    struct mem_disk_view view;
    for (size_t n = 0; mem_disk_file(disk, "", n, &view); n++) {
        for (uint64_t at = 5000; at < view.size; at += 512) {
            view.data[at] ^= 1;
        }
    }
}

static void fail_writes(struct mem_disk *disk, int error, uint64_t n)
{
    mem_disk_fail(disk, MEM_DISK_WRITE, error, 0, n);
    mem_disk_fail(disk, MEM_DISK_OPEN, error, 0, n);
    mem_disk_fail(disk, MEM_DISK_ALLOCATE, error, 0, n);
    mem_disk_fail(disk, MEM_DISK_SYNC, error, 0, n);
}

static void flipped_bits_are_misses(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(660, 2, small_pool);
    spoil(c->nodes[0].disk);
    assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "m0"), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_do(c, 0, PC_VERB_GET, "m1"), PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_PROMOTE_CORRUPT), 2);
    /* And it is not asked for again. */
    cluster_run(c, 100 * PC_MS);
    assert_int_equal(cluster_do(c, 1, PC_VERB_EXISTS, "m0"),
                     PEERCACHE_NOT_FOUND);
    assert_int_equal(cluster_do(c, 0, PC_VERB_EXISTS, "m1"),
                     PEERCACHE_NOT_FOUND);
    end(c);
}

static void a_broken_disk_leaves_the_pool_at_work(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EROFS, EIO};
    for (unsigned k = 0; k < 3; k++) {
        struct cluster *c = start_and_evict(670 + k, 2, small_pool);
        fail_writes(c->nodes[0].disk, errors[k], UINT64_MAX);
        put_some(c, 0, 400, 64);
        cluster_run(c, PC_S);
        assert_from(c, 0, words_of(456, 8), PEERCACHE_FROM_LOCAL);
        struct cluster_op *op = get(c, 1, words_of(456, 8));
        assert_int_equal(op->result, PEERCACHE_OK);
        /* What is there can still be read. */
        assert_from(c, 1, words_of(0, 4), PEERCACHE_FROM_DISK);
        mem_disk_fail(c->nodes[0].disk, MEM_DISK_READ, EIO, 0, UINT64_MAX);
        assert_int_equal(cluster_do(c, 1, PC_VERB_GET, "m4"),
                         PEERCACHE_NOT_FOUND);
        /* A remove that the disk does not keep is not confirmed. */
        assert_int_not_equal(cluster_do(c, 0, PC_VERB_REMOVE, "m0"),
                             PEERCACHE_OK);
        fail_writes(c->nodes[0].disk, EIO, 0);
        mem_disk_fail(c->nodes[0].disk, MEM_DISK_READ, EIO, 0, 0);
        end(c);
    }
}

/* What the machine is short of for a moment is no word about the value. */
static void without_open_files_a_disk_is_busy_and_keeps_its_values(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(674, 2, small_pool);
    cluster_kill(c, 0);
    cluster_restart(c, 0);
    cluster_settle(c, 60 * PC_S);
    cluster_run(c, PC_S);
    struct mem_disk *disk = c->nodes[0].disk;
    struct pc_disk *inside = c->nodes[0].node->tier->disk;
    inside->params.max_files = 0;
    pc_disk_limit_files(inside);
    mem_disk_fail(disk, MEM_DISK_OPEN, EMFILE, 0, UINT64_MAX);
    for (int i = 0; i < 2; i++) {
        struct cluster_call call = {.node = i,
                                    .verb = PC_VERB_GET,
                                    .words = "m0",
                                    .timeout_ns = 300 * PC_MS};
        uint64_t n = mem_disk_n_calls(disk, MEM_DISK_OPEN);
        uint64_t n_busy = cluster_metric(c, 0, PC_METRIC_PROMOTE_NO_ROOM);
        struct cluster_op *op = cluster_begin(c, &call);
        cluster_wait(op);
        assert_int_not_equal(op->result, PEERCACHE_OK);
        assert_true(cluster_metric(c, 0, PC_METRIC_PROMOTE_NO_ROOM) > n_busy);
        /* Nor is it asked again and again without a rest. */
        assert_true(mem_disk_n_calls(disk, MEM_DISK_OPEN) - n < 100);
    }
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_LATE_DISK), 1);
    assert_int_equal(cluster_metric(c, 0, PC_METRIC_PROMOTE_GONE), 0);
    struct cluster_op *late = cluster_begin_verb(c, 1, PC_VERB_GET, "m1");
    cluster_run(c, 100 * PC_MS);
    assert_false(late->ended);
    mem_disk_fail(disk, MEM_DISK_OPEN, EMFILE, 0, 0);
    cluster_wait(late);
    assert_int_equal(late->result, PEERCACHE_OK);
    assert_from(c, 0, "m0", PEERCACHE_FROM_DISK);
    end(c);
}

static uint64_t time_of_puts(uint64_t seed, bool disk, uint64_t turn_ns)
{
    struct cluster *c = cluster_create(seed);
    if (disk) {
        cluster_add_disk(c, 0);
        c->nodes[0].disk_turn_ns = turn_ns;
    }
    cluster_start_all(c, 2, small_pool);
    uint64_t start = cluster_now(c);
    for (unsigned k = 0; k < 400; k += 8) {
        assert_int_equal(cluster_do(c, 0, PC_VERB_PUT, words_of(k, 8)),
                         PEERCACHE_OK);
    }
    uint64_t took = cluster_now(c) - start;
    if (turn_ns > PC_MS) {
        /* It could not take them all; what it did not is counted. */
        assert_true(cluster_metric(c, 0, PC_METRIC_DISK_DROPPED_PINS) > 0);
    }
    cluster_destroy(c);
    return took;
}

static void a_put_does_not_wait_for_a_slow_disk(void **state)
{
    (void)state;
    uint64_t none = time_of_puts(680, false, 0);
    uint64_t slow = time_of_puts(680, true, 200 * PC_MS);
    print_message("50 puts of 8 values: %llu us without a disk, %llu us with "
                  "one that takes 200 ms for each piece of work\n",
                  (unsigned long long)(none / PC_US),
                  (unsigned long long)(slow / PC_US));
    assert_true(slow <= none + none / 10);
}

/* It answers with progress meanwhile: its reader neither gives it up nor
 * holds it for dead; what does not come in time is a miss, in time. */
static void a_slow_disk_is_waited_for_but_not_beyond_the_deadline(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(690, 2, small_pool);
    c->nodes[0].node->tier->turn_ns = 400 * PC_MS;
    struct cluster_call call = {
        .node = 1, .verb = PC_VERB_GET, .words = "m0", .timeout_ns = 2 * PC_S};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_OK);
    assert_int_equal(op->sources[0], PEERCACHE_FROM_DISK);
    assert_int_equal(cluster_metric(c, 1, PC_METRIC_PEER_SUSPECTED), 0);
    c->nodes[0].node->tier->turn_ns = 5 * PC_S;
    call.words = words_of(1, 3);
    op = cluster_begin(c, &call);
    cluster_wait(op); /* I7 is checked on the way. */
    assert_int_not_equal(op->result, PEERCACHE_OK);
    assert_true(cluster_metric(c, 1, PC_METRIC_LATE_DISK) > 0);
    c->nodes[0].node->tier->turn_ns = 0;
    c->nodes[0].node->tier->next_turn_ns = 0;
    end(c);
}

/* What came from our own disk, while another item of the get waits for that of
 * a peer until the deadline. */
static void what_has_come_is_not_lost_to_what_does_not_come(void **state)
{
    (void)state;
    struct cluster *c = cluster_create(692);
    cluster_add_disk(c, 0);
    cluster_add_disk(c, 1);
    cluster_start_all(c, 2, small_pool);
    put_some(c, 0, 0, 240);
    put_some(c, 1, 500, 240);
    cluster_run(c, PC_S);
    assert_false(is_in_pool(c, 0, "m0"));
    assert_false(is_in_pool(c, 1, "m500"));
    c->nodes[0].node->tier->turn_ns = 5 * PC_S;
    c->nodes[0].node->tier->next_turn_ns = cluster_now(c) + 5 * PC_S;
    struct cluster_call call = {.node = 1,
                                .verb = PC_VERB_GET,
                                .words = "m0 m500",
                                .timeout_ns = 2 * PC_S};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    assert_int_equal(op->result, PEERCACHE_PARTIAL);
    assert_int_not_equal(op->statuses[0], PEERCACHE_OK);
    assert_int_equal(op->statuses[1], PEERCACHE_OK);
    assert_int_equal(op->sources[1], PEERCACHE_FROM_DISK);
    c->nodes[0].node->tier->turn_ns = 0;
    c->nodes[0].node->tier->next_turn_ns = 0;
    end(c);
}

/* Republishing goes on while the disk is being closed. */
static void a_closing_node_walks_its_disk_no_more(void **state)
{
    (void)state;
    struct cluster *c = start_and_evict(693, 1, small_pool);
    struct peercache_node *node = c->nodes[0].node;
    for (int closing = 0; closing < 2; closing++) {
        struct pc_place places[64];
        size_t at = 0;
        size_t n = 0;
        size_t n_on_disk = 0;
        c->acting = 0;
        if (closing == 1) {
            pc_tier_begin_close(node);
        }
        while (pc_tier_walk(node, &at, 64, places, &n)) {
            for (size_t i = 0; i < n; i++) {
                n_on_disk += places[i].on_disk;
            }
        }
        c->acting = -1;
        assert_int_equal(n_on_disk > 0, closing == 0);
    }
    cluster_destroy(c);
}

static void policies_decide_what_is_written(void **state)
{
    (void)state;
    static const struct
    {
        const char *policy;
        bool put, evicted;
    } cases[] = {
        {"put", true, true}, {"evict", false, true}, {"second", false, false}};
    for (unsigned k = 0; k < 3; k++) {
        struct cluster *c = cluster_create(695 + k);
        char settings[256];
        (void)snprintf(settings, sizeof(settings), "%s disk_policy=%s",
                       small_pool, cases[k].policy);
        cluster_add_disk(c, 0);
        cluster_start_all(c, 1, settings);
        struct pc_disk_place place;
        struct peercache_node *node = c->nodes[0].node;
        put_some(c, 0, 0, 16);
        cluster_run(c, PC_S);
        assert_int_equal(pc_tier_find(node, cluster_digest(c, 0, "m0"), &place),
                         cases[k].put);
        assert_from(c, 0, words_of(8, 8), PEERCACHE_FROM_LOCAL);
        put_some(c, 0, 100, 400);
        cluster_run(c, PC_S);
        assert_int_equal(pc_tier_find(node, cluster_digest(c, 0, "m0"), &place),
                         cases[k].evicted);
        assert_true(
            pc_tier_find(node, cluster_digest(c, 0, "m8"), &place) ||
            (k == 1 && is_in_pool(c, 0, "m8"))); /* Used, so it may stay. */
        end(c);
    }
}

/* Reads that leave no trace at the holder, but the notice of it. */
static void a_second_use_by_a_peer_writes_what_it_reads(void **state)
{
    (void)state;
    static const struct
    {
        const char *mode;
        unsigned machine;
        peercache_source_t source;
    } cases[] = {{"read_mode=mapped", 0, PEERCACHE_FROM_MAPPED},
                 {"read_mode=one-sided", 1, PEERCACHE_FROM_ONE_SIDED}};
    for (unsigned k = 0; k < 2; k++) {
        struct cluster *c = cluster_create(701 + k);
        struct pc_disk_place place;
        cluster_defaults(c, small_pool);
        cluster_add_disk(c, 0);
        cluster_start(c, 0, 0, "disk_policy=second");
        cluster_start(c, 1, cases[k].machine, cases[k].mode);
        cluster_settle(c, 30 * PC_S);
        struct peercache_node *node = c->nodes[0].node;
        put_some(c, 0, 0, 16);
        cluster_run(c, PC_S);
        assert_from(c, 1, words_of(0, 8), cases[k].source);
        cluster_run(c, PC_S);
        for (unsigned w = 0; w < 16; w++) {
            assert_int_equal(pc_tier_find(node,
                                          cluster_digest(c, 0, words_of(w, 1)),
                                          &place),
                             w < 8);
        }
        end(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_left_the_pool_comes_back_from_disk),
        cmocka_unit_test(a_node_alone_keeps_nothing_of_its_promotions),
        cmocka_unit_test(a_peer_reads_from_disk_in_every_mode),
        cmocka_unit_test(a_batch_larger_than_what_may_be_pinned_comes_in_parts),
        cmocka_unit_test(an_eviction_leaves_no_moment_without_a_record),
        cmocka_unit_test(a_forced_mode_misses_nothing_around_evictions),
        cmocka_unit_test(a_restarted_node_serves_at_once_what_it_had),
        cmocka_unit_test(what_was_found_is_announced_at_a_bounded_rate),
        cmocka_unit_test(what_was_removed_stays_removed),
        cmocka_unit_test(a_remove_is_confirmed_when_its_tombstone_is_on_disk),
        cmocka_unit_test(
            a_remove_is_confirmed_after_its_retract_while_a_write_waits),
        cmocka_unit_test(
            a_clear_ends_after_the_retracts_of_what_is_still_pinned),
        cmocka_unit_test(two_clears_at_once_do_not_disturb_each_other),
        cmocka_unit_test(a_long_queue_of_promotions_takes_many_turns),
        cmocka_unit_test(a_put_that_overtakes_a_failing_read_is_found),
        cmocka_unit_test(
            a_busy_disk_is_a_miss_though_a_peer_has_another_length),
        cmocka_unit_test(
            a_busy_disk_is_a_miss_though_a_peer_without_a_way_has_it),
        cmocka_unit_test(a_busy_disk_is_a_miss_though_a_silent_peer_has_it),
        cmocka_unit_test(what_a_disk_gives_up_is_no_duty_any_more),
        cmocka_unit_test(what_is_promoted_while_a_clear_runs_does_not_stay),
        cmocka_unit_test(what_a_clear_did_not_reach_is_found_again),
        cmocka_unit_test(too_many_requests_for_a_disk_are_busy_and_not_down),
        cmocka_unit_test(what_was_cleared_stays_cleared),
        cmocka_unit_test(a_replaced_value_never_comes_back),
        cmocka_unit_test(a_full_queue_of_removes_brings_no_replaced_value_back),
        cmocka_unit_test(flipped_bits_are_misses),
        cmocka_unit_test(a_broken_disk_leaves_the_pool_at_work),
        cmocka_unit_test(
            without_open_files_a_disk_is_busy_and_keeps_its_values),
        cmocka_unit_test(a_put_does_not_wait_for_a_slow_disk),
        cmocka_unit_test(a_slow_disk_is_waited_for_but_not_beyond_the_deadline),
        cmocka_unit_test(what_has_come_is_not_lost_to_what_does_not_come),
        cmocka_unit_test(a_closing_node_walks_its_disk_no_more),
        cmocka_unit_test(shares_of_pins_are_of_the_pool_that_is_there),
        cmocka_unit_test(policies_decide_what_is_written),
        cmocka_unit_test(a_second_use_by_a_peer_writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
