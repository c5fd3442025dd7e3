#include "test.h"

#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STARTS_A_STEP = 25,
    WORDS_A_PUT = 8,
    ASKED = 128 /* Keys of fleet_ask. */
};

#define LOOKUP_EVERY_NS (5 * PC_MS)
/* Turns at most so often while nothing is measured that is shorter. */
#define QUIET_GRAIN_NS (500 * PC_US)

/* ---- Rings ----------------------------------------------------------------
 */

static bool fits(const struct fleet_ring *r, uint64_t view, size_t n_members,
                 uint32_t vnodes, uint32_t replicas)
{
    size_t n = 0;
    if (r->ring == NULL || pc_ring_view(r->ring) != view ||
        r->vnodes != vnodes || r->replicas != replicas) {
        return false;
    }
    (void)pc_ring_members(r->ring, &n);
    return n == n_members;
}

static struct pc_ring *make_ring(void *arg, const struct pc_member *members,
                                 size_t n_members, uint32_t vnodes,
                                 uint32_t replicas)
{
    struct fleet *f = arg;
    uint64_t view = pc_view_hash(members, n_members);
    for (unsigned i = 0; i < FLEET_RINGS_MAX; i++) {
        if (fits(&f->rings[i], view, n_members, vnodes, replicas)) {
            f->n_rings_shared++;
            return pc_ring_ref(f->rings[i].ring);
        }
    }
    struct pc_ring *ring = pc_ring_create(members, n_members, vnodes, replicas);
    if (ring != NULL && n_members > 1) {
        struct fleet_ring *r = &f->rings[f->next_ring++ % FLEET_RINGS_MAX];
        pc_ring_unref(r->ring);
        *r = (struct fleet_ring){pc_ring_ref(ring), vnodes, replicas};
    }
    f->n_rings_built++;
    return ring;
}

/* ---- The cluster ----------------------------------------------------------
 */

struct fleet *fleet_create(uint64_t seed, int n,
                           void (*failed)(struct cluster *c))
{
    struct fleet *f = calloc(1, sizeof(*f));
    struct cluster *c = cluster_create_of(seed, FLEET_NODES_MAX);
    f->cluster = c;
    c->failed = failed;
    f->n = n;
    f->leaver = -1;
    c->make_ring = make_ring;
    c->make_ring_arg = f;
    c->skewed = true;
    c->is_unchecked = true;
    c->grain_ns = QUIET_GRAIN_NS;
    cluster_defaults(c, n > 128 ? "global_segment_size=128kib "
                                  "region_size=128kib location_cache=0"
                                : "location_cache=0");
    for (int i = 0; i < n; i++) {
        c->nodes[i].ppm = (int32_t)(i % 101) - 50;
        cluster_start(c, i, (unsigned)i, "");
        if (i % STARTS_A_STEP == 0) {
            cluster_run(c, PC_MS);
        }
    }
    (void)fleet_settle(f, 120 * PC_S);
    return f;
}

void fleet_destroy(struct fleet *f)
{
    f->cluster->grain_ns = QUIET_GRAIN_NS;
    cluster_destroy(f->cluster);
    for (unsigned i = 0; i < FLEET_RINGS_MAX; i++) {
        pc_ring_unref(f->rings[i].ring);
    }
    free(f);
}

uint64_t fleet_settle(struct fleet *f, uint64_t limit_ns)
{
    struct cluster *c = f->cluster;
    uint64_t since = cluster_now(c);
    cluster_settle(c, limit_ns);
    while (!cluster_is_settled(c)) {
        if (cluster_now(c) - since > limit_ns) {
            cluster_fail(c, "former views are still asked");
        }
        cluster_run(c, 50 * PC_MS);
    }
    return cluster_now(c) - since;
}

/* ---- Traffic --------------------------------------------------------------
 */

static bool is_master(const struct fleet *f, int i)
{
    struct pc_cluster_counts counts;
    pc_cluster_counts(f->cluster->nodes[i].node->cluster, &counts);
    return counts.am_master;
}

void fleet_be_quiet(struct fleet *f, uint64_t ns, struct fleet_quiet *quiet)
{
    struct cluster *c = f->cluster;
    uint64_t *before = calloc(FLEET_NODES_MAX, sizeof(*before));
    int n = 0;
    for (int i = 0; i < FLEET_NODES_MAX; i++) {
        if (cluster_is_up(c, i)) {
            before[i] = pc_sim_host_bytes(c->nodes[i].host);
            n++;
        }
    }
    cluster_run(c, ns);
    *quiet = (struct fleet_quiet){0};
    for (int i = 0; i < FLEET_NODES_MAX; i++) {
        if (!cluster_is_up(c, i)) {
            continue;
        }
        double rate =
            (double)(pc_sim_host_bytes(c->nodes[i].host) - before[i]) * 1e9 /
            (double)ns;
        double *most = is_master(f, i) ? &quiet->master : &quiet->ordinary;
        *most = rate > *most ? rate : *most;
    }
    quiet->master_per_node = quiet->master / n;
    free(before);
}

/* ---- Values ---------------------------------------------------------------
 */

static void word_name(unsigned k, char word[16])
{
    snprintf(word, 16, "s%u", k);
}

/* n words from number `first` on, `step` apart. */
static void words_of(char *text, size_t len, unsigned first, unsigned step,
                     unsigned n)
{
    size_t at = 0;
    for (unsigned k = 0; k < n; k++) {
        char word[16];
        word_name(first + k * step, word);
        at += (size_t)snprintf(text + at, len - at, "%s%s", k == 0 ? "" : " ",
                               word);
    }
}

static int putter_of(const struct fleet *f, unsigned k)
{
    return (int)(k / WORDS_A_PUT % (unsigned)f->n);
}

void fleet_put(struct fleet *f, unsigned n_words)
{
    struct cluster *c = f->cluster;
    char words[256];
    for (unsigned k = 0; k < n_words; k += WORDS_A_PUT) {
        words_of(words, sizeof(words), f->n_words + k, 1, WORDS_A_PUT);
        struct cluster_call call = {.node = putter_of(f, f->n_words + k),
                                    .verb = PC_VERB_PUT,
                                    .words = words,
                                    .timeout_ns = 5 * PC_S,
                                    .quiet = true};
        struct cluster_op *op = cluster_begin(c, &call);
        cluster_wait(op);
        for (size_t i = 0; i < op->n; i++) {
            if (op->statuses[i] != PEERCACHE_OK) {
                cluster_fail(c, "%s put %s: %s", cluster_name(call.node), words,
                             peercache_status_name(op->statuses[i]));
            }
        }
    }
    f->n_words += n_words;
}

static int some_node(struct fleet *f)
{
    int i;
    do {
        i = (int)pc_rand_below(&f->cluster->rand, FLEET_NODES_MAX);
    } while (!cluster_is_up(f->cluster, i) ||
             !pc_cluster_is_joined(f->cluster->nodes[i].node->cluster));
    return i;
}

/* Words that one node put, who lives and will not leave. */
static unsigned some_words(struct fleet *f)
{
    unsigned first;
    int i;
    do {
        first = (unsigned)pc_rand_below(&f->cluster->rand,
                                        f->n_words / WORDS_A_PUT) *
                WORDS_A_PUT;
        i = putter_of(f, first);
    } while (!cluster_is_up(f->cluster, i) || i == f->leaver);
    return first;
}

static void judge(struct fleet *f, const struct cluster_op *op)
{
    uint64_t took = op->ended_ns - op->started_ns;
    f->slowest_lookup_ns =
        took > f->slowest_lookup_ns ? took : f->slowest_lookup_ns;
    for (size_t i = 0; i < op->n; i++) {
        f->n_lookups++;
        f->n_lookups_failed += op->statuses[i] != PEERCACHE_OK;
    }
}

void fleet_look_up(struct fleet *f, uint64_t ns)
{
    struct cluster *c = f->cluster;
    uint64_t end = cluster_now(c) + ns;
    char words[256];
    uint64_t grain = c->grain_ns;
    c->grain_ns = 20 * PC_US;
    while (cluster_now(c) < end) {
        uint64_t next = cluster_now(c) + LOOKUP_EVERY_NS;
        unsigned first = some_words(f);
        words_of(words, sizeof(words), first, 1, WORDS_A_PUT);
        struct cluster_call call = {.node = some_node(f),
                                    .verb = PC_VERB_EXISTS,
                                    .words = words,
                                    .quiet = true};
        struct cluster_op *op = cluster_begin(c, &call);
        cluster_wait(op);
        judge(f, op);
        if (cluster_now(c) < next) {
            cluster_run(c, next - cluster_now(c));
        }
    }
    c->grain_ns = grain;
}

/* ---- Changes --------------------------------------------------------------
 */

static bool everybody_knows(const struct fleet *f, uint64_t incarnation)
{
    const struct cluster *c = f->cluster;
    for (int i = 0; i < FLEET_NODES_MAX; i++) {
        if (cluster_is_up(c, i) &&
            !pc_node_is_dead(c->nodes[i].node, incarnation)) {
            return false;
        }
    }
    return true;
}

uint64_t fleet_death(struct fleet *f, int victim)
{
    struct cluster *c = f->cluster;
    uint64_t since = cluster_now(c);
    uint64_t incarnation = c->nodes[victim].incarnation;
    cluster_kill(c, victim);
    while (!everybody_knows(f, incarnation)) {
        if (cluster_now(c) - since > 60 * PC_S) {
            cluster_fail(c, "not everybody knows of a death");
        }
        cluster_run(c, 10 * PC_MS);
    }
    return cluster_now(c) - since;
}

static uint64_t records_sent(const struct fleet *f)
{
    uint64_t n = 0;
    for (int i = 0; i < FLEET_NODES_MAX; i++) {
        if (f->cluster->nodes[i].state == CLUSTER_UP) {
            n += cluster_metric(f->cluster, i, PC_METRIC_REPUBLISHES);
        }
    }
    return n;
}

static uint64_t records_kept(const struct fleet *f)
{
    uint64_t n = 0;
    for (int i = 0; i < FLEET_NODES_MAX; i++) {
        if (f->cluster->nodes[i].state == CLUSTER_UP) {
            n += pc_shard_count(f->cluster->nodes[i].node->shard);
        }
    }
    return n;
}

/* Lookups until the change has gone through and its window is over. */
static void look_until_settled(struct fleet *f)
{
    uint64_t since = cluster_now(f->cluster);
    do {
        fleet_look_up(f, 200 * PC_MS);
        if (cluster_now(f->cluster) - since > 120 * PC_S) {
            cluster_fail(f->cluster, "a change of view does not settle");
        }
    } while (!cluster_is_settled(f->cluster));
}

double fleet_join(struct fleet *f, int i)
{
    uint64_t kept = records_kept(f);
    uint64_t sent = records_sent(f);
    cluster_start(f->cluster, i, (unsigned)i, "");
    look_until_settled(f);
    return (double)(records_sent(f) - sent) / (double)kept;
}

void fleet_leave(struct fleet *f, int i)
{
    f->leaver = i;
    cluster_stop(f->cluster, i);
    look_until_settled(f);
}

/* ---- The cost of a lookup -------------------------------------------------
 */

void fleet_ask(struct fleet *f, int i, bool present, struct fleet_cost *cost)
{
    struct cluster *c = f->cluster;
    char words[1024];
    struct pc_sim_path path = pc_sim_path_default();
    uint64_t grain = c->grain_ns;
    unsigned first = present ? 0 : 10000;
    words_of(words, sizeof(words), first, present ? f->n_words / ASKED : 1,
             ASKED);
    struct cluster_call call = {.node = i,
                                .verb = PC_VERB_EXISTS,
                                .words = words,
                                .timeout_ns = 5 * PC_S,
                                .quiet = true};
    cluster_wait(cluster_begin(c, &call)); /* Connects. */
    path.latency_min_ns = PC_MS;
    path.latency_max_ns = PC_MS;
    path.bandwidth = 0;
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    c->grain_ns = 0;
    uint64_t before = cluster_metric(c, i, PC_METRIC_LOOKUP_REQUESTS);
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    cost->rounds = (double)(op->ended_ns - op->started_ns) / (2.0 * PC_MS);
    cost->n_messages = cluster_metric(c, i, PC_METRIC_LOOKUP_REQUESTS) - before;
    cost->all_found = true;
    for (size_t k = 0; k < op->n; k++) {
        cost->all_found = cost->all_found && op->statuses[k] == PEERCACHE_OK;
    }
    path = pc_sim_path_default();
    pc_sim_set_path(c->sim, NULL, NULL, &path);
    c->grain_ns = grain;
}

void fleet_measure(struct fleet *f, unsigned n_words,
                   struct fleet_figures *figures)
{
    fleet_be_quiet(f, 20 * PC_S, &figures->quiet);
    fleet_put(f, n_words);
    fleet_ask(f, f->n - 2, true, &figures->present);
    fleet_ask(f, f->n - 2, false, &figures->absent);
    figures->death_ns = fleet_death(f, f->n - 1);
    (void)fleet_settle(f, 60 * PC_S);
    figures->moved = fleet_join(f, f->n);
    fleet_leave(f, f->n / 2);
}

/* ---- The cost of a change of view ------------------------------------------
 */

static uint64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * PC_S + (uint64_t)t.tv_nsec;
}

/* A master's word on one member, as it comes in; what its step took. */
static uint64_t tell(peercache_node_t *node, uint64_t master,
                     struct pc_member *member)
{
    struct pc_msg_table table = {.members = member, .n_members = 1};
    uint64_t since = cpu_ns();
    pc_members_table(node, &table, master);
    return cpu_ns() - since;
}

/* A FIFO for everybody, as of a node that has published much. */
static void publish_to_all(peercache_node_t *node)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(node->ring, &n);
    for (size_t i = 0; i < n; i++) {
        if (members[i].incarnation != node->self.incarnation) {
            (void)pc_fifo_get(node, &members[i]);
        }
    }
}

/* It tells the others, a part of them in each turn; what the longest took. */
static uint64_t tell_others(struct cluster *c, peercache_node_t *node)
{
    uint64_t most = 0;
    for (int k = 0; k < 1000; k++) {
        uint64_t since = cpu_ns();
        (void)pc_node_turn(node);
        uint64_t took = cpu_ns() - since;
        most = took > most ? took : most;
        pc_sim_advance_to(c->sim, cluster_now(c) + 100 * PC_US);
    }
    return most;
}

uint64_t fleet_install(struct fleet *f, int i, uint64_t *telling_p)
{
    struct cluster *c = f->cluster;
    peercache_node_t *node = c->nodes[i].node;
    uint64_t master = c->nodes[i == 0 ? 1 : 0].incarnation;
    struct pc_member stranger = node->self;
    stranger.incarnation = 7;
    stranger.admission = 1;
    stranger.host = 7;
    (void)snprintf(stranger.id.text, sizeof(stranger.id.text), "stranger");
    (void)snprintf(stranger.address, sizeof(stranger.address), "10.9.9.9:9");
    publish_to_all(node);
    uint64_t joined = tell(node, master, &stranger);
    if (telling_p != NULL) {
        *telling_p = tell_others(c, node);
    }
    stranger.state = PC_MEMBER_LEFT;
    stranger.epoch++;
    uint64_t left = tell(node, master, &stranger);
    return joined > left ? joined : left;
}
