/*
 * Random schedules: nodes come, go, die, freeze and are cut off, both ways or
 * one way, now and then for more than a minute; they drain; connections break,
 * lose time and deliver late; clocks go wrong; pools are so small that eviction
 * never stops, by either policy; all read modes at once; in a third of the runs
 * some nodes have disks, small, slow and failing ones, by every policy. The
 * invariants are checked after every turn, and the history (test/lib/history.h)
 * knows which gets must be OK.
 *
 *     test_sim_random [n_seeds] [first_seed]
 *     test_sim_random --long
 *
 * A run is a function of its seed. A seed that fails is run again with fewer
 * and fewer events, as long as it fails, and the shortest failing run is shown.
 * It fails again: CLUSTER_LOG=1 test_sim_random 1 SEED shows the nodes' own
 * lines.
 */
#include "test.h"

#include "cluster.h"
#include "history.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sanitizers take ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS = 200 };
#else
enum { SEEDS = 2000 };
#endif

enum {
    SEEDS_LONG = 100000,
    EVENTS = 200,
    NODES_MAX = 16,
    KEYS = 40,
    KEYS_MANY = 120, /* More than the pools of a run hold. */
    DISKS_MAX = 3,   /* Nodes with one; the memory of each is written often. */
    OPS_MAX = 48     /* Running at a time. */
};

/* Two rounds of repair, the second of them sooner. */
#define MENDED_NS (25 * PC_S)
/* The dead are kept for a minute, and looked for every five seconds. */
#define PURGED_NS (75 * PC_S)
/* Who is cut off for longer than a minute is purged, and comes back. */
#define LONG_CUT_NS (61 * PC_S)

/* What the runner and who runs for it share. */
struct shared
{
    uint64_t seed; /* Under way. */
    uint64_t hash; /* Of the last run's trace. */
    struct cluster_counts sum;
    uint64_t n_judged, n_excused, n_without_duty, n_kept;
    uint64_t n_disk_runs, n_kept_by_disk, n_removed;
};

struct chaos
{
    struct cluster *c;
    struct pc_rand rand;
    int n_nodes; /* That have been started. */
    int n_nodes_max;
    unsigned n_machines;
    unsigned n_keys;
    bool churns; /* Pools are as small as can be, and keys many. */
    bool cuts;   /* Somebody is cut off for more than a minute. */
    bool calm;   /* No faults in this run, */
    bool moves;  /* but nodes join and leave, which excuses nothing. */
    bool mends;  /* At its end there is time for repair, */
    bool purges; /* and for purging the dead. */
    bool poor;   /* Now and then an allocation of a node fails. */
    bool disks;  /* Some nodes have one. */
    bool frail;  /* Now and then these fail. */
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
    (void)c;
    _exit(1);
}

/* ---- Operations ------------------------------------------------------------
 */

static int pick_node(struct chaos *ch)
{
    int first = (int)below(ch, (uint64_t)ch->n_nodes_max);
    for (int k = 0; k < ch->n_nodes_max; k++) {
        int i = (first + k) % ch->n_nodes_max;
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
        unsigned k = (unsigned)below(ch, ch->n_keys);
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

/* What one node has put, another finds at once; of the newest nodes, if some
 * have just come. */
static void put_and_get(struct chaos *ch, unsigned e)
{
    struct cluster *c = ch->c;
    int first = pick_node(ch);
    int second = pick_node(ch);
    char word[16];
    snprintf(word, sizeof(word), "m%u", 1000 + e);
    if (first < 0 || second < 0) {
        return;
    }
    for (int i = 0; i < ch->n_nodes_max && ch->moves; i++) {
        if (cluster_is_up(c, i) && c->nodes[i].joined_ns != 0 &&
            c->nodes[i].joined_ns > c->nodes[first].joined_ns) {
            first = i;
        }
    }
    struct cluster_call call = {.node = first,
                                .verb = PC_VERB_PUT,
                                .words = word,
                                .timeout_ns = 2 * PC_S};
    struct cluster_op *op = cluster_begin(c, &call);
    for (int k = 0; k < 100 && !op->ended; k++) {
        cluster_run(c, PC_MS);
    }
    if (!op->ended || op->killed || op->statuses[0] != PEERCACHE_OK) {
        return;
    }
    call.verb = PC_VERB_EXISTS;
    call.node = second;
    (void)cluster_begin(c, &call);
    call.verb = PC_VERB_GET;
    (void)cluster_begin(c, &call);
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

/* Its disk and what it is told of it; directories outlive processes. */
static void random_disk(struct chaos *ch, int i, char *settings, size_t len)
{
    static const char *const policies[] = {"put", "put", "evict", "second"};
    static const char *const syncs[] = {"seal", "seal", "always", "never"};
    static const uint64_t turns[] = {0, 0, 0, 20 * PC_US, PC_MS, 5 * PC_MS};
    struct cluster_node *n = &ch->c->nodes[i];
    if (i >= DISKS_MAX || !chance(ch, 80)) {
        return;
    }
    cluster_add_disk(ch->c, i);
    n->disk_turn_ns = turns[below(ch, sizeof(turns) / sizeof(turns[0]))];
    ch->c->history->disks_are_slow =
        ch->c->history->disks_are_slow || n->disk_turn_ns > 20 * PC_US;
    if (chance(ch, 20)) {
        mem_disk_set_plain(n->disk);
    }
    if (ch->frail && chance(ch, 30)) {
        mem_disk_set_space(n->disk, 3 << 20);
    }
    (void)snprintf(settings, len,
                   " disk_size=%dmib disk_policy=%s disk_fsync=%s "
                   "disk_queue=%s",
                   4 + (int)below(ch, 3) * 4, policies[below(ch, 4)],
                   syncs[below(ch, 4)], chance(ch, 30) ? "64kib" : "1mib");
}

static void random_start(struct chaos *ch, int i)
{
    static const char *const modes[] = {"auto", "auto", "mapped", "one-sided",
                                        "served"};
    static const char *const sizes[] = {
        "global_segment_size=128kib region_size=128kib",
        "global_segment_size=256kib region_size=128kib",
        "global_segment_size=512kib region_size=512kib"};
    static const int32_t wrong[] = {0, 50, 1000, 20000};
    static const int low[] = {0, 10, 100};
    struct cluster *c = ch->c;
    if (ch->n_nodes > i) {
        cluster_restart(c, i);
        return;
    }
    char settings[384];
    char disk[128] = "";
    int evict_low = low[below(ch, 3)];
    if (ch->disks) {
        random_disk(ch, i, disk, sizeof(disk));
    }
    snprintf(settings, sizeof(settings),
             "read_mode=%s %s location_cache=%d verify=%s eviction_policy=%s "
             "evict_low=%d evict_high=%d%s",
             modes[below(ch, 5)], sizes[ch->churns ? 0 : below(ch, 3)],
             (int)below(ch, 3) * 32, chance(ch, 30) ? "checksum" : "generation",
             chance(ch, 70) ? "s3fifo" : "lru", evict_low,
             evict_low + (int)below(ch, 2) * 100, disk);
    int32_t ppm = wrong[below(ch, 4)];
    c->nodes[i].ppm = chance(ch, 50) ? ppm : -ppm;
    /* The first one serves a seed's address. */
    cluster_start(c, i, i == 0 ? 0 : (unsigned)below(ch, ch->n_machines),
                  settings);
    ch->n_nodes = i + 1;
}

static void start_somebody(struct chaos *ch)
{
    for (int i = 0; i < ch->n_nodes_max; i++) {
        if (ch->c->nodes[i].state == CLUSTER_DOWN) {
            random_start(ch, i);
            return;
        }
    }
}

static void heal_all(struct chaos *ch)
{
    cluster_trace(ch->c, "all is well");
    cluster_heal_all(ch->c);
    ch->c->slack_ns = 5 * PC_MS;
}

/* Somebody must go on owning the directory. */
static int count_owning(const struct chaos *ch)
{
    int n_owning = 0;
    for (int k = 0; k < ch->n_nodes_max; k++) {
        n_owning += cluster_is_up(ch->c, k) && !ch->c->nodes[k].drains;
    }
    return n_owning;
}

static void random_drain(struct chaos *ch, int i)
{
    int n_owning = count_owning(ch);
    if (cluster_is_up(ch->c, i) && !ch->c->nodes[i].drains &&
        ch->c->nodes[i].joined_ns != 0 && n_owning > 2) {
        cluster_drain(ch->c, i);
    }
}

/* With its process goes, now and then, what its machine had not written. */
static void random_end(struct chaos *ch, int i)
{
    if (ch->c->nodes[i].disk != NULL && chance(ch, 40)) {
        cluster_power_off(ch->c, i,
                          chance(ch, 50) ? MEM_DISK_POWER_ALL
                                         : MEM_DISK_POWER_SOME);
    } else {
        cluster_kill(ch->c, i);
    }
}

/* Some of its next calls. */
static void fault_of_disk(struct chaos *ch, int i)
{
    static const enum mem_disk_op ops[] = {
        MEM_DISK_OPEN,     MEM_DISK_READ, MEM_DISK_READ,     MEM_DISK_WRITE,
        MEM_DISK_ALLOCATE, MEM_DISK_SYNC, MEM_DISK_SYNC_DIR, MEM_DISK_UNLINK};
    static const int errors[] = {EIO, ENOSPC, EROFS};
    struct mem_disk *disk = ch->c->nodes[i].disk;
    if (disk != NULL) {
        cluster_trace(ch->c, "the disk of %s fails", cluster_name(i));
        mem_disk_fail(disk, ops[below(ch, 8)], errors[below(ch, 3)],
                      below(ch, 10), 1 + below(ch, 5));
    }
}

static void mend_disks(struct chaos *ch)
{
    for (int i = 0; i < ch->n_nodes_max; i++) {
        struct mem_disk *disk = ch->c->nodes[i].disk;
        for (int op = 0; disk != NULL && op < MEM_DISK_N_OPS; op++) {
            mem_disk_fail(disk, (enum mem_disk_op)op, 0, 0, 0);
        }
    }
}

/* Of a node alone. */
static void fault_of_node(struct chaos *ch, int i)
{
    struct cluster *c = ch->c;
    struct cluster_node *n = &c->nodes[i];
    switch (below(ch, 7)) {
    case 0:
        if (n->state == CLUSTER_UP && !n->frozen) {
            cluster_stop(c, i);
        }
        break;
    case 6:
        random_drain(ch, i);
        break;
    case 1:
        if (n->state != CLUSTER_DOWN) {
            random_end(ch, i);
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
    default:
        if (n->state == CLUSTER_UP) {
            cluster_set_slow(c, i, below(ch, 20) * PC_MS);
            c->slack_ns = 200 * PC_MS;
        }
        break;
    }
}

/* Of the net between two nodes. */
static void fault_between(struct chaos *ch, int i, int k)
{
    struct cluster *c = ch->c;
    struct pc_sim_host *a = c->nodes[i].host;
    struct pc_sim_host *b = c->nodes[k].host;
    switch (below(ch, 5)) {
    case 0:
        cluster_set_island(c, i, 1 + (unsigned)below(ch, 2));
        break;
    case 1:
        cluster_cut(c, i, k);
        break;
    case 2:
        cluster_cut_one_way(c, i, k);
        break;
    case 3:
        cluster_trace(c, "connections of %s and %s break", cluster_name(i),
                      cluster_name(k));
        pc_sim_break(c->sim, a, b);
        break;
    default:
        cluster_trace(c, "%s gives up its connections with %s", cluster_name(i),
                      cluster_name(k));
        pc_sim_break_late(c->sim, a, b, below(ch, 3000) * PC_MS);
        break;
    }
}

static void random_fault(struct chaos *ch)
{
    struct cluster *c = ch->c;
    int i = (int)below(ch, (uint64_t)ch->n_nodes_max);
    int k = pick_node(ch);
    if (chance(ch, 15)) {
        heal_all(ch);
    } else if (ch->frail && chance(ch, 15)) {
        fault_of_disk(ch, i);
    } else if (chance(ch, 60) || k < 0 || k == i ||
               c->nodes[i].state == CLUSTER_DOWN) {
        fault_of_node(ch, i);
    } else {
        fault_between(ch, i, k);
    }
}

/* One node, a pair or a part of the cluster is alone for more than a minute,
 * and goes on working; who was held dead meanwhile comes back. */
static void long_cut(struct chaos *ch)
{
    struct cluster *c = ch->c;
    int i = pick_node(ch);
    int k = pick_node(ch);
    if (i < 0 || k < 0) {
        return;
    }
    if (chance(ch, 30) && i != k) {
        cluster_cut(c, i, k);
    } else {
        cluster_set_island(c, i, 3);
        if (chance(ch, 50) && k != 0) {
            cluster_set_island(c, k, 3);
        }
    }
    uint64_t end = cluster_now(c) + LONG_CUT_NS + below(ch, 20) * PC_S;
    while (cluster_now(c) < end) {
        random_op(ch);
        random_op(ch);
        cluster_run(c, 5 * PC_S);
    }
    if (chance(ch, 50)) {
        heal_all(ch);
    }
}

/* ---- A run
 * -------------------------------------------------------------------
 */

static void random_world(struct chaos *ch)
{
    struct pc_sim_path path = pc_sim_path_default();
    path.native = chance(ch, 60);
    path.break_ppm = chance(ch, 20) ? (chance(ch, 50) ? 20000 : 2000) : 0;
    path.loss_ppm = chance(ch, 20) ? 1000 : 0;
    path.bandwidth = chance(ch, 50) ? path.bandwidth : 200ull * 1000 * 1000;
    pc_sim_set_path(ch->c->sim, NULL, NULL, &path);
    pc_sim_set_chunk(ch->c->sim, (size_t)1024 << below(ch, 5));
    pc_sim_set_window(ch->c->sim, (size_t)32768 << below(ch, 4));
    ch->c->skewed = chance(ch, 50);
    ch->calm = chance(ch, 30);
    ch->moves = ch->calm && chance(ch, 50);
    ch->poor = chance(ch, 20);
    ch->mends = chance(ch, 40);
    ch->purges = ch->mends && chance(ch, 20);
    ch->cuts = !ch->calm && chance(ch, 6);
    ch->churns = chance(ch, 15);
    ch->n_keys = ch->churns ? KEYS_MANY : KEYS;
    ch->n_nodes_max = chance(ch, 75) ? 2 + (int)below(ch, 5)
                                     : 7 + (int)below(ch, NODES_MAX - 6);
    ch->c->n_nodes_max = ch->n_nodes_max; /* Nobody looks at others. */
    ch->n_machines = 1 + (unsigned)below(ch, (unsigned)ch->n_nodes_max);
    cluster_defaults(ch->c, chance(ch, 50)
                                ? "heartbeat_interval=100ms member_ttl=300ms "
                                  "settle=500ms op_timeout=500ms vnodes=16"
                                : "heartbeat_interval=500ms member_ttl=1500ms "
                                  "settle=1s op_timeout=2s vnodes=16 "
                                  "directory_replicas=3");
}

static void read_everything(struct chaos *ch)
{
    for (int i = 0; i < ch->n_nodes_max; i++) {
        for (unsigned k = 0; k < ch->n_keys && cluster_is_up(ch->c, i);
             k += 8) {
            char words[64] = "";
            size_t at = 0;
            for (unsigned w = k; w < k + 8 && w < ch->n_keys; w++) {
                at += (size_t)snprintf(words + at, sizeof(words) - at, "%s%c%u",
                                       w == k ? "" : " ", "ssmmmmll"[w % 8], w);
            }
            struct cluster_call call = {.node = i,
                                        .verb = PC_VERB_GET,
                                        .words = words,
                                        .quiet = true,
                                        .timeout_ns = 2 * PC_S};
            (void)cluster_begin(ch->c, &call);
        }
        cluster_run(ch->c, 20 * PC_MS);
    }
}

/* One thing happens, and some time passes. Its numbers are its own, so that it
 * stays what it is when others are left out. */
static void event(struct chaos *ch, uint64_t seed, unsigned e)
{
    pc_rand_init(&ch->rand, seed * 100003 + e);
    /* Troubles come in waves, with time to recover between them. */
    unsigned percent_fault = ch->calm || e % 100 >= 60 ? 0 : 1 + seed % 15;
    if (ch->calm && ch->moves && chance(ch, 3)) {
        int i = (int)below(ch, (uint64_t)ch->n_nodes_max);
        if (chance(ch, 25)) {
            random_drain(ch, i);
        } else if (i > 0 && ch->c->nodes[i].state == CLUSTER_UP) {
            if (ch->c->nodes[i].drains || count_owning(ch) > 2) {
                cluster_stop(ch->c, i);
            }
        } else {
            start_somebody(ch);
        }
    } else if (e % 100 == 60 && !ch->calm) {
        heal_all(ch);
    } else if (ch->cuts && e == 55) {
        long_cut(ch);
    } else if (chance(ch, percent_fault)) {
        random_fault(ch);
    } else if (chance(ch, 5)) {
        random_cancel(ch);
    } else if (chance(ch, 8)) {
        put_and_get(ch, e);
    } else {
        random_op(ch);
    }
    uint64_t gap = chance(ch, 95) ? 2 * PC_MS : 500 * PC_MS;
    if (ch->poor && chance(ch, 30)) {
        pc_mem_fail_after((int64_t)below(ch, 300));
    }
    cluster_run(ch->c, e % 100 == 70 ? 3 * PC_S : below(ch, gap));
    pc_mem_fail_after(-1);
}

/* What somebody holds is found by all, and the directory says just that. */
static void rest_is_true(struct chaos *ch)
{
    history_check_removed(ch->c->history);
    history_adopt(ch->c->history);
    ch->c->history->is_off = false;
    read_everything(ch);
    cluster_check_rest(ch->c);
    if (ch->disks) {
        /* What was promoted last makes room once more. */
        cluster_run(ch->c, 500 * PC_MS);
    }
    cluster_settle(ch->c, 60 * PC_S);
    cluster_check_directory(ch->c);
}

/* Everything heals, and everything that somebody holds is found. */
static void come_to_rest(struct chaos *ch)
{
    struct cluster *c = ch->c;
    heal_all(ch);
    mend_disks(ch);
    cluster_run(c, 3 * PC_S);
    if (c->nodes[0].state == CLUSTER_DOWN) {
        cluster_restart(c, 0);
    }
    cluster_settle(c, 60 * PC_S);
    cluster_check_rest(c);
    if (ch->calm && !ch->poor && !ch->moves) {
        cluster_run(c, 3 * PC_S); /* Nothing needs to be mended. */
        rest_is_true(ch);
    } else if (ch->mends) {
        cluster_run(c, MENDED_NS);
        rest_is_true(ch);
    } else {
        history_forget(c->history);
        read_everything(ch);
        cluster_check_rest(c);
    }
    if (ch->purges) {
        cluster_run(c, PURGED_NS);
        cluster_check_purged(c);
    }
}

static void add_up(const struct cluster *c, struct shared *sum)
{
    sum->hash = pc_sim_trace_hash(c->sim);
    sum->sum.n_steps += c->counts.n_steps;
    sum->sum.n_ops += c->counts.n_ops;
    sum->sum.n_ok += c->counts.n_ok;
    sum->sum.n_misses += c->counts.n_misses;
    for (int s = 0; s <= PEERCACHE_FROM_DISK; s++) {
        sum->sum.n_by_source[s] += c->counts.n_by_source[s];
    }
    sum->n_judged += c->history->n_judged;
    sum->n_excused += c->history->n_excused;
    sum->n_without_duty += c->history->n_without_duty;
    sum->n_kept += c->history->n_kept;
    sum->n_kept_by_disk += c->history->n_kept_by_disk;
    sum->n_removed += c->history->n_removed;
}

/* NULL: no event is left out. */
static void run_seed(uint64_t seed, const bool *left_out, struct shared *sum)
{
    struct chaos ch = {.c = cluster_create(seed)};
    sum->seed = seed;
    ch.c->failed = exit_failed;
    pc_rand_init(&ch.rand, seed * 2 + 1);
    random_world(&ch);
    ch.disks = seed % 3 == 0;
    ch.frail = ch.disks && !ch.calm && seed % 2 == 0;
    sum->n_disk_runs += ch.disks;
    (void)history_create(ch.c);
    ch.c->history->is_off = ch.poor;
    ch.c->history->forced_may_miss = ch.poor;
    ch.c->history->moves_excuse = !ch.moves;
    unsigned n_first = 2 + (unsigned)below(&ch, 3);
    for (unsigned i = 0; i < n_first; i++) {
        start_somebody(&ch);
    }
    if (chance(&ch, 70)) {
        cluster_settle(ch.c, 60 * PC_S);
    }
    for (unsigned e = 0; e < EVENTS; e++) {
        if (left_out == NULL || !left_out[e]) {
            event(&ch, seed, e);
        }
    }
    come_to_rest(&ch);
    add_up(ch.c, sum);
    cluster_destroy(ch.c);
}

/* ---- Failing runs
 * -------------------------------------------------------------
 */

/* In a process of its own; whether it fails. */
static bool fails(uint64_t seed, const bool *left_out, struct shared *shared,
                  bool quiet)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (quiet) {
            (void)dup2(null, STDERR_FILENO);
        }
        alarm(60);
        run_seed(seed, left_out, shared);
        _exit(0);
    }
    int status = 0;
    return child < 0 || waitpid(child, &status, 0) != child ||
           !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Leave out ever smaller parts of the events while it still fails. */
static unsigned shrink(uint64_t seed, bool *left_out, struct shared *shared)
{
    unsigned n_left_out = 0;
    for (unsigned part = EVENTS / 2; part > 0; part /= 2) {
        for (unsigned from = 0; from < EVENTS; from += part) {
            bool before[EVENTS];
            memcpy(before, left_out, sizeof(before));
            for (unsigned e = from; e < from + part && e < EVENTS; e++) {
                left_out[e] = true;
            }
            if (memcmp(before, left_out, sizeof(before)) != 0 &&
                !fails(seed, left_out, shared, true)) {
                memcpy(left_out, before, sizeof(before));
            }
        }
    }
    for (unsigned e = 0; e < EVENTS; e++) {
        n_left_out += left_out[e];
    }
    return EVENTS - n_left_out;
}

static void tell_failure(uint64_t seed, struct shared *shared)
{
    bool left_out[EVENTS] = {false};
    if (!fails(seed, NULL, shared, true)) {
        fprintf(stderr, "FAILED: seed %" PRIu64 ", and not when run alone\n",
                seed);
        return;
    }
    unsigned n_events = shrink(seed, left_out, shared);
    (void)fails(seed, left_out, shared, false);
    fprintf(stderr,
            "FAILED: seed %" PRIu64 ", also with %u of its %d events; all of "
            "it again with: test_sim_random 1 %" PRIu64 "\n",
            seed, n_events, EVENTS, seed);
}

static void run_seeds(uint64_t first, uint64_t n_seeds, struct shared *shared)
{
    for (uint64_t seed = first; seed < first + n_seeds; seed++) {
        run_seed(seed, NULL, shared);
        uint64_t hash = shared->hash;
        if (seed == first) {
            struct shared again = {0};
            run_seed(seed, NULL, &again);
            if (again.hash != hash) {
                fprintf(stderr, "FAILED: seed %" PRIu64 " runs in two ways\n",
                        seed);
                exit(1);
            }
        }
    }
}

static void print_sum(const struct shared *sum)
{
    const struct cluster_counts *c = &sum->sum;
    printf("steps %" PRIu64 ", operations %" PRIu64 ", items OK %" PRIu64
           ", misses %" PRIu64 "; gets local %" PRIu64 ", mapped %" PRIu64
           ", one-sided %" PRIu64 ", served %" PRIu64 ", disk %" PRIu64 "\n",
           c->n_steps, c->n_ops, c->n_ok, c->n_misses,
           c->n_by_source[PEERCACHE_FROM_LOCAL],
           c->n_by_source[PEERCACHE_FROM_MAPPED],
           c->n_by_source[PEERCACHE_FROM_ONE_SIDED],
           c->n_by_source[PEERCACHE_FROM_SERVED],
           c->n_by_source[PEERCACHE_FROM_DISK]);
    printf("history: %" PRIu64 " reads had to be OK and were, %" PRIu64
           " were not: %" PRIu64 " of what nobody had to hold, %" PRIu64
           " in trouble\n",
           sum->n_kept, sum->n_judged, sum->n_without_duty, sum->n_excused);
    printf("disks: in %" PRIu64 " runs, %" PRIu64 " reads had to be OK and "
           "were while the value was on disk only, %" PRIu64 " removed values "
           "were on no disk again\n",
           sum->n_disk_runs, sum->n_kept_by_disk, sum->n_removed);
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
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        if (n_seeds > 1) {
            int null = open("/dev/null", O_WRONLY); /* It is told later. */
            (void)dup2(null, STDERR_FILENO);
        }
        run_seeds(first, n_seeds, shared);
        exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return 2;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        if (n_seeds > 1) {
            tell_failure(shared->seed, shared);
        }
        return 1;
    }
    printf("%" PRIu64 " seeds from %" PRIu64 " on: ", n_seeds, first);
    print_sum(shared);
    return 0;
}
