/*
 * The figures of design.md 14 that belong to a whole cluster, from simulated
 * nodes: one table, each with its target. Virtual time: the processor of the
 * machine that runs it matters only where the table says CPU.
 *
 *     peercache-bench-cluster [n_nodes [n_seeds [first_seed]]]     (1000 1 1)
 */
#include "test.h"

#include "fleet.h"

#include "directory/shard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORDS = 8192, RECORDS = 1000000, PAGES = 128, CALLS = 1000 };

static unsigned n_missed;

static void exit_failed(struct cluster *c)
{
    fprintf(stderr, "FAILED: seed %" PRIu64 "\n", c->seed);
    exit(1);
}

/* What was measured against what is wanted: at most so much. */
static void row(const char *what, double measured, const char *unit,
                double target)
{
    bool met = measured <= target;
    n_missed += !met;
    printf("| %-58s | %10.4g | %8.4g %-13s | %s |\n", what, measured, target,
           unit, met ? "yes" : "NO");
}

static double cpu_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- One node's part ------------------------------------------------------
 */

static void measure_ring(int n)
{
    struct pc_member *members = calloc((size_t)n, sizeof(*members));
    double least = 1e9;
    for (int i = 0; i < n; i++) {
        snprintf(members[i].id.text, sizeof(members[i].id.text), "n%d", i);
        members[i].incarnation = (uint64_t)i + 1;
        members[i].host = (uint64_t)i + 1;
        members[i].state = PC_MEMBER_ALIVE;
    }
    for (unsigned k = 0; k < 5; k++) {
        double since = cpu_ms();
        struct pc_ring *ring = pc_ring_create(members, (size_t)n, 160, 2);
        double took = cpu_ms() - since;
        least = took < least ? took : least;
        pc_ring_unref(ring);
    }
    free(members);
    row("ring of all nodes x 160 vnodes, CPU, off to the side", least, "ms",
        50);
}

static void measure_shard(void)
{
    struct pc_shard *shard = pc_shard_create(0);
    struct pc_rand rand;
    pc_rand_init(&rand, 1);
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct pc_record record = {
            .digest = {pc_rand_u64(&rand), pc_rand_u64(&rand)},
            .incarnation = 1,
            .generation = 2 * i + 2,
            .length = 1};
        if (pc_shard_publish(shard, &record) != PEERCACHE_OK) {
            break;
        }
    }
    row("1 M records in a shard, memory of each",
        (double)pc_shard_bytes(shard) / (double)pc_shard_count(shard), "bytes",
        128);
    pc_shard_destroy(shard);
}

/* ---- Lookups --------------------------------------------------------------
 */

static void measure_lookup(struct fleet *f)
{
    struct fleet_cost cost;
    char what[80];
    int n = f->n;
    int asker = n > 1 ? n - 2 : 0;
    double most = n < PAGES ? n : PAGES;
    fleet_ask(f, asker, true, &cost);
    snprintf(what, sizeof(what), "lookup of 128 present keys, N = %d", n);
    row(what, cost.rounds, "round trips", cost.all_found ? 1.05 : 0);
    snprintf(what, sizeof(what), "  messages");
    row(what, (double)cost.n_messages, "", most);
    fleet_ask(f, asker, false, &cost);
    row("  absent ones", cost.rounds, "round trips", 2.05);
    row("  messages in both rounds", (double)cost.n_messages, "", 2 * most);
}

static void measure_lookups(void)
{
    static const int sizes[] = {1, 8, 128};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fleet *f = fleet_create(i + 1, sizes[i], exit_failed);
        fleet_put(f, PAGES * 2);
        measure_lookup(f);
        fleet_destroy(f);
    }
}

/* ---- One hung peer --------------------------------------------------------
 */

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t timed_get(struct cluster *c, const char *words)
{
    struct cluster_call call = {
        .node = 1, .verb = PC_VERB_EXISTS, .words = words, .quiet = true};
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    return op->ended_ns - op->started_ns;
}

static void measure_hung_peer(void)
{
    char words[1024];
    size_t at = 0;
    uint64_t *took = calloc(CALLS, sizeof(*took));
    struct cluster *c = cluster_create(1);
    c->failed = exit_failed;
    for (unsigned k = 0; k < PAGES; k++) {
        at += (size_t)snprintf(words + at, sizeof(words) - at, "%ss%u",
                               k == 0 ? "" : " ", k);
    }
    cluster_start_all(c, 4, "location_cache=0");
    cluster_do(c, 0, PC_VERB_PUT, words);
    (void)timed_get(c, words);
    double deadline = (double)c->nodes[1].node->settings.op_timeout_ns / 1e6;
    double hedge = (double)c->nodes[1].node->settings.hedge_ns / 1e6;
    uint64_t slowest = 0;
    cluster_freeze(c, 3);
    uint64_t opens_ns = cluster_now(c) + 250 * PC_MS;
    while (cluster_now(c) < opens_ns) {
        uint64_t ns = timed_get(c, words);
        slowest = ns > slowest ? ns : slowest;
    }
    for (unsigned k = 0; k < CALLS; k++) {
        took[k] = timed_get(c, words);
    }
    qsort(took, CALLS, sizeof(*took), compare_times);
    row("one of 4 peers hangs, exists of 128 keys: slowest before",
        (double)slowest / 1e6, "ms (deadline)", deadline);
    row("  p99 when its breaker is open", (double)took[CALLS * 99 / 100] / 1e6,
        "ms (2 hedges)", 2 * hedge);
    cluster_thaw(c, 3);
    cluster_run(c, PC_S);
    cluster_destroy(c);
    free(took);
}

/* ---- All nodes ------------------------------------------------------------
 */

/* Off to the side the ring is built; this is what the engine does itself. The
 * first node builds it for the others. */
static void measure_install(struct fleet *f)
{
    enum { NODES = 15 };
    uint64_t took[NODES];
    int n = f->n < NODES + 3 ? 0 : NODES;
    (void)fleet_install(f, 2, NULL);
    for (int i = 0; i < n; i++) {
        took[i] = fleet_install(f, i + 3, NULL);
    }
    qsort(took, (size_t)n, sizeof(took[0]), compare_times);
    row("a change of view on the engine, CPU, median of 15 nodes",
        n > 0 ? (double)took[n / 2] / 1e6 : 0, "ms", 1);
    uint64_t telling;
    row("  of a master", (double)fleet_install(f, 0, &telling) / 1e6, "ms", 1);
    row("  a turn in which it tells others, the longest", (double)telling / 1e6,
        "ms", 1);
}

static void measure_fleet(uint64_t seed, int n)
{
    struct fleet *f = fleet_create(seed, n, exit_failed);
    struct fleet_quiet quiet;
    fleet_be_quiet(f, 20 * PC_S, &quiet);
    printf("| %d nodes, seed %" PRIu64 "\n", n, seed);
    row("membership of an ordinary node when quiet", quiet.ordinary, "bytes/s",
        4096);
    row("  of a master, for each node", quiet.master_per_node, "bytes/s", 200);
    fleet_put(f, WORDS);
    measure_lookup(f);
    const struct pc_settings *s = &f->cluster->nodes[0].node->settings;
    row("a death is known everywhere", (double)fleet_death(f, n - 1) / 1e9, "s",
        (double)(s->member_ttl_ns + 2 * s->heartbeat_interval_ns) / 1e9);
    (void)fleet_settle(f, 60 * PC_S);
    row("records that a join moves, times N", fleet_join(f, n) * n, "/ N", 2);
    fleet_leave(f, n / 2);
    row("lookups that failed during a join and a leave",
        (double)f->n_lookups_failed, "", 0);
    row("  the slowest of them", (double)f->slowest_lookup_ns / 1e6,
        "ms (hedge)", (double)s->hedge_ns / 1e6);
    measure_install(f);
    fleet_destroy(f);
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    uint64_t n_seeds = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    printf("| %-58s | %10s | %-22s | met |\n", "figure", "measured", "at most");
    measure_ring(n);
    measure_shard();
    measure_lookups();
    measure_hung_peer();
    for (uint64_t seed = first; seed < first + n_seeds; seed++) {
        measure_fleet(seed, n);
    }
    printf("%u figures are not reached\n", n_missed);
    return n_missed == 0 ? 0 : 1;
}
