/*
 * Random schedules: nodes come, go, die, freeze and are cut off, pools are so
 * small that eviction never stops, all read modes at once; the invariants are
 * checked after every step.
 *
 *     test_sim_random [n_seeds] [first_seed]
 *     test_sim_random --long
 *
 * A run is a function of its seed. A seed that fails is printed, and fails
 * again: CLUSTER_LOG=1 test_sim_random 1 SEED shows the nodes' own lines.
 */
#include "test.h"

#include "cluster.h"

#include "base/mem.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A minute's worth; sanitizers take ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS = 80 };
#else
enum { SEEDS = 800 };
#endif

enum {
    SEEDS_LONG = 20000,
    EVENTS = 200,
    NODES_MAX = 6,
    KEYS = 40,
    OPS_MAX = 48 /* Running at a time. */
};

static uint64_t seed_now; /* For the signal handler. */

struct chaos
{
    struct cluster *c;
    struct pc_rand rand;
    int n_nodes; /* That have been started. */
    unsigned n_machines;
    unsigned n_cut;
    bool slow;
};

static uint64_t below(struct chaos *ch, uint64_t bound)
{
    return pc_rand_below(&ch->rand, bound);
}

static bool chance(struct chaos *ch, unsigned percent)
{
    return below(ch, 100) < percent;
}

static void exit_failed(struct cluster *c)
{
    fprintf(stderr,
            "FAILED: seed %" PRIu64 "; again with: test_sim_random 1 "
            "%" PRIu64 "\n",
            c->seed, c->seed);
    exit(1);
}

static void on_signal(int number)
{
    char text[128];
    int n = snprintf(text, sizeof(text),
                     "FAILED: seed %" PRIu64 " ends with signal %d\n", seed_now,
                     number);
    (void)!write(STDERR_FILENO, text, (size_t)n);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* ---- Operations ------------------------------------------------------------
 */

static int pick_node(struct chaos *ch)
{
    int first = (int)below(ch, NODES_MAX);
    for (int k = 0; k < NODES_MAX; k++) {
        int i = (first + k) % NODES_MAX;
        if (cluster_is_up(ch->c, i)) {
            return i;
        }
    }
    return -1;
}

static void random_words(struct chaos *ch, char *words, size_t len)
{
    static const char kinds[] = "ssmmmmll";
    size_t n = chance(ch, 50) ? 1 : 1 + below(ch, 10);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned k = (unsigned)below(ch, KEYS);
        at += (size_t)snprintf(words + at, len - at, "%s%c%u",
                               i == 0 ? "" : " ", kinds[k % 8], k);
    }
}

static void random_op(struct chaos *ch)
{
    static const enum pc_verb verbs[] = {
        PC_VERB_PUT, PC_VERB_PUT, PC_VERB_PUT,    PC_VERB_GET,   PC_VERB_GET,
        PC_VERB_GET, PC_VERB_GET, PC_VERB_EXISTS, PC_VERB_REMOVE};
    static const uint64_t timeouts[] = {PC_MS, 20 * PC_MS, 150 * PC_MS,
                                        400 * PC_MS, 2 * PC_S};
    char words[256];
    struct cluster_call call = {.node = pick_node(ch), .words = words};
    unsigned n_running = 0;
    for (struct pc_list *at = ch->c->ops.next; at != &ch->c->ops;
         at = at->next) {
        n_running++;
    }
    if (call.node < 0 || n_running >= OPS_MAX) {
        return;
    }
    random_words(ch, words, sizeof(words));
    call.verb = verbs[below(ch, sizeof(verbs) / sizeof(verbs[0]))];
    if (call.verb == PC_VERB_REMOVE && chance(ch, 60)) {
        call.verb = PC_VERB_GET;
    }
    call.timeout_ns = timeouts[below(ch, 5)];
    call.registered = chance(ch, 40);
    call.n_pieces = 1 + (unsigned)below(ch, 4);
    call.flags = chance(ch, 20) ? PEERCACHE_OP_CHAIN : 0;
    /* Now and then a value of another length under the same key. */
    call.version = chance(ch, 4) ? 1 : 0;
    (void)cluster_begin(ch->c, &call);
}

static void random_cancel(struct chaos *ch)
{
    for (struct pc_list *at = ch->c->ops.next; at != &ch->c->ops;
         at = at->next) {
        struct cluster_op *op = PC_CONTAINER_OF(at, struct cluster_op, link);
        if (!op->killed && cluster_is_up(ch->c, op->node) && chance(ch, 30)) {
            cluster_cancel(op);
            return;
        }
    }
}

/* ---- Nodes and faults -------------------------------------------------------
 */

static void random_start(struct chaos *ch, int i)
{
    static const char *const modes[] = {"auto", "auto", "mapped", "one-sided",
                                        "served"};
    static const char *const sizes[] = {
        "global_segment_size=128kib region_size=128kib",
        "global_segment_size=256kib region_size=128kib",
        "global_segment_size=512kib region_size=512kib"};
    struct cluster *c = ch->c;
    if (ch->n_nodes > i) {
        cluster_restart(c, i);
        return;
    }
    char settings[256];
    snprintf(settings, sizeof(settings),
             "read_mode=%s %s location_cache=%d verify=%s", modes[below(ch, 5)],
             sizes[below(ch, 3)], (int)below(ch, 3) * 32,
             chance(ch, 30) ? "checksum" : "generation");
    /* The first one serves a seed's address. */
    cluster_start(c, i, i == 0 ? 0 : (unsigned)below(ch, ch->n_machines),
                  settings);
    ch->n_nodes = i + 1;
}

static void start_somebody(struct chaos *ch)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (ch->c->nodes[i].state == CLUSTER_DOWN) {
            random_start(ch, i);
            return;
        }
    }
}

static void heal_all(struct chaos *ch)
{
    for (int i = 0; i < ch->n_nodes; i++) {
        if (ch->c->nodes[i].state != CLUSTER_DOWN) {
            pc_sim_set_island(ch->c->nodes[i].host, 0);
            pc_sim_set_slow(ch->c->nodes[i].host, 0);
            if (ch->c->nodes[i].frozen) {
                cluster_thaw(ch->c, i);
            }
        }
    }
    ch->c->slack_ns = 5 * PC_MS;
}

static void random_fault(struct chaos *ch)
{
    struct cluster *c = ch->c;
    int i = (int)below(ch, NODES_MAX);
    struct cluster_node *n = &c->nodes[i];
    int other = pick_node(ch);
    switch (below(ch, 9)) {
    case 0:
        if (n->state == CLUSTER_UP && !n->frozen) {
            cluster_stop(c, i);
        }
        break;
    case 1:
        if (n->state != CLUSTER_DOWN) {
            cluster_kill(c, i);
        }
        break;
    case 2:
    case 3:
        start_somebody(ch);
        break;
    case 4:
        if (n->state == CLUSTER_UP) {
            n->frozen ? cluster_thaw(c, i) : cluster_freeze(c, i);
        }
        break;
    case 5:
        if (n->state != CLUSTER_DOWN) {
            cluster_trace(c, "%c is cut off", 'a' + i);
            pc_sim_set_island(n->host, 1 + (unsigned)below(ch, 2));
        }
        break;
    case 6:
        cluster_trace(c, "all is well");
        heal_all(ch);
        break;
    case 7:
        if (n->state == CLUSTER_UP && other >= 0 && other != i) {
            pc_sim_break(c->sim, n->host, c->nodes[other].host);
        }
        break;
    default:
        if (n->state == CLUSTER_UP) {
            cluster_trace(c, "%c is slow", 'a' + i);
            pc_sim_set_slow(n->host, below(ch, 20) * PC_MS);
            c->slack_ns = 200 * PC_MS;
        }
        break;
    }
}

/* ---- A run
 * ------------------------------------------------------------------- */

static void random_world(struct chaos *ch)
{
    struct pc_sim_path path = pc_sim_path_default();
    path.native = chance(ch, 60);
    path.break_ppm = chance(ch, 20) ? 2000 : 0;
    path.bandwidth = chance(ch, 50) ? path.bandwidth : 200ull * 1000 * 1000;
    pc_sim_set_path(ch->c->sim, NULL, NULL, &path);
    pc_sim_set_chunk(ch->c->sim, (size_t)1024 << below(ch, 5));
    pc_sim_set_window(ch->c->sim, (size_t)32768 << below(ch, 4));
    ch->n_machines = 1 + (unsigned)below(ch, 4);
    cluster_defaults(ch->c, chance(ch, 50)
                                ? "heartbeat_interval=100ms member_ttl=300ms "
                                  "settle=500ms op_timeout=500ms vnodes=16"
                                : "heartbeat_interval=500ms member_ttl=1500ms "
                                  "settle=1s op_timeout=2s vnodes=16 "
                                  "directory_replicas=3");
}

static void read_everything(struct chaos *ch)
{
    for (int i = 0; i < NODES_MAX; i++) {
        for (unsigned k = 0; k < KEYS && cluster_is_up(ch->c, i); k++) {
            char word[16];
            snprintf(word, sizeof(word), "%c%u", "ssmmmmll"[k % 8], k);
            struct cluster_call call = {
                .node = i, .verb = PC_VERB_GET, .words = word, .quiet = true};
            (void)cluster_begin(ch->c, &call);
        }
        cluster_run(ch->c, 20 * PC_MS);
    }
}

static uint64_t run_seed(uint64_t seed, struct cluster_counts *sum)
{
    struct chaos ch = {.c = cluster_create(seed)};
    seed_now = seed;
    ch.c->failed = exit_failed;
    pc_rand_init(&ch.rand, seed * 2 + 1);
    random_world(&ch);
    unsigned n_first = 2 + (unsigned)below(&ch, 3);
    for (unsigned i = 0; i < n_first; i++) {
        start_somebody(&ch);
    }
    if (chance(&ch, 70)) {
        cluster_settle(ch.c, 60 * PC_S);
    }
    unsigned percent_fault = chance(&ch, 30) ? 0 : 1 + (unsigned)below(&ch, 15);
    /* In some runs an allocation of a node fails now and then. */
    bool poor = chance(&ch, 20);
    for (unsigned e = 0; e < EVENTS; e++) {
        if (chance(&ch, percent_fault)) {
            random_fault(&ch);
        } else if (chance(&ch, 3)) {
            random_cancel(&ch);
        } else {
            random_op(&ch);
        }
        uint64_t gap = chance(&ch, 95) ? 2 * PC_MS : 500 * PC_MS;
        if (poor && chance(&ch, 30)) {
            pc_mem_fail_after((int64_t)below(&ch, 300));
        }
        cluster_run(ch.c, below(&ch, gap));
        pc_mem_fail_after(-1);
    }
    heal_all(&ch);
    cluster_run(ch.c, 3 * PC_S);
    if (ch.c->nodes[0].state == CLUSTER_DOWN) {
        cluster_restart(ch.c, 0);
    }
    cluster_settle(ch.c, 60 * PC_S);
    cluster_check_rest(ch.c);
    read_everything(&ch);
    cluster_check_rest(ch.c);
    if (percent_fault == 0) { /* Else repair is needed, a later part. */
        cluster_settle(ch.c, 60 * PC_S);
        cluster_check_directory(ch.c);
    }
    uint64_t hash = pc_sim_trace_hash(ch.c->sim);
    sum->n_steps += ch.c->counts.n_steps;
    sum->n_ops += ch.c->counts.n_ops;
    sum->n_ok += ch.c->counts.n_ok;
    sum->n_misses += ch.c->counts.n_misses;
    for (int s = 0; s <= PEERCACHE_FROM_DISK; s++) {
        sum->n_by_source[s] += ch.c->counts.n_by_source[s];
    }
    cluster_destroy(ch.c);
    return hash;
}

int main(int argc, char **argv)
{
    uint64_t n_seeds = SEEDS;
    uint64_t first = 1;
    if (argc > 1 && strcmp(argv[1], "--long") == 0) {
        n_seeds = SEEDS_LONG;
    } else if (argc > 1) {
        n_seeds = strtoull(argv[1], NULL, 0);
    }
    if (argc > 2) {
        first = strtoull(argv[2], NULL, 0);
    }
    (void)signal(SIGABRT, on_signal);
#ifndef __SANITIZE_ADDRESS__
    (void)signal(SIGSEGV, on_signal);
#endif
    struct cluster_counts sum = {0};
    struct cluster_counts again = {0};
    for (uint64_t seed = first; seed < first + n_seeds; seed++) {
        uint64_t hash = run_seed(seed, &sum);
        if (seed == first && run_seed(seed, &again) != hash) {
            fprintf(stderr, "FAILED: seed %" PRIu64 " runs in two ways\n",
                    seed);
            return 1;
        }
    }
    printf("%" PRIu64 " seeds from %" PRIu64 " on: steps %" PRIu64
           ", operations %" PRIu64 ", items OK %" PRIu64 ", misses %" PRIu64
           "; gets local %" PRIu64 ", mapped %" PRIu64 ", one-sided %" PRIu64
           ", served %" PRIu64 "\n",
           n_seeds, first, sum.n_steps, sum.n_ops, sum.n_ok, sum.n_misses,
           sum.n_by_source[PEERCACHE_FROM_LOCAL],
           sum.n_by_source[PEERCACHE_FROM_MAPPED],
           sum.n_by_source[PEERCACHE_FROM_ONE_SIDED],
           sum.n_by_source[PEERCACHE_FROM_SERVED]);
    return 0;
}
