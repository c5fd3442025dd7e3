#include "test.h"

#include "cluster.h"
#include "history.h"

#include "base/digest.h"
#include "base/log.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As cluster_fail says it; longer traces are cut at the front. */
enum { TOLD_TRACE = 6000, TRACE_MAX = 4 << 20, STUCK_STEPS = 20000 };

/* One wall clock for all: the incarnations of a run depend on its seed only. */
#define WALL_NS 1700000000000000000ull

static void fail_in_cmocka(struct cluster *c)
{
    (void)c;
    fail();
}

/* ---- Trace ----------------------------------------------------------------
 */

static void trace_bytes(struct cluster *c, const char *text, size_t len)
{
    if (c->trace_len + len + 1 > c->trace_capacity) {
        c->trace_capacity = 2 * (c->trace_len + len) + 4096;
        c->trace = realloc(c->trace, c->trace_capacity);
    }
    memcpy(c->trace + c->trace_len, text, len + 1);
    c->trace_len += len;
    if (c->trace_len > TRACE_MAX) { /* Forget the older half. */
        size_t cut = c->trace_len / 2;
        c->trace_len -= cut;
        memmove(c->trace, c->trace + cut, c->trace_len + 1);
        c->trace_mark = c->trace_mark > cut ? c->trace_mark - cut : 0;
    }
}

void cluster_trace(struct cluster *c, const char *format, ...)
{
    char line[1400];
    /* To 10 ms, so that the net's random latencies do not show. */
    uint64_t ms = (cluster_now(c) - c->mark_ns + 5 * PC_MS) / (10 * PC_MS) * 10;
    int at = snprintf(line, sizeof(line), "%" PRIu64 " ms  ", ms);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + at, sizeof(line) - (size_t)at - 1, format, args);
    va_end(args);
    size_t len = (size_t)at + (n < 0 ? 0 : (size_t)n);
    len = len > sizeof(line) - 2 ? sizeof(line) - 2 : len;
    line[len] = '\n';
    line[len + 1] = '\0';
    trace_bytes(c, line, len + 1);
    pc_sim_trace(c->sim, "** %.*s", (int)(len - (size_t)at), line + at);
    if (c->history != NULL) {
        line[len] = '\0';
        history_note(c->history, line + at);
    }
}

void cluster_mark(struct cluster *c)
{
    c->mark_ns = cluster_now(c);
    c->trace_mark = c->trace_len;
}

void cluster_expect(struct cluster *c, const char *lines)
{
    const char *got = c->trace == NULL ? "" : c->trace + c->trace_mark;
    if (strcmp(got, lines) != 0) {
        cluster_fail(c, "the trace is\n%s\nand not\n%s", got, lines);
    }
}

static const char *tail(const char *text, size_t max)
{
    size_t len = strlen(text);
    if (len <= max) {
        return text;
    }
    const char *at = strchr(text + len - max, '\n');
    return at == NULL ? text + len : at + 1;
}

void cluster_fail(struct cluster *c, const char *format, ...)
{
    fprintf(stderr, "\n--- network\n%s",
            tail(pc_sim_trace_text(c->sim), TOLD_TRACE));
    fprintf(stderr, "--- trace\n%s",
            tail(c->trace == NULL ? "" : c->trace, TOLD_TRACE));
    fprintf(stderr, "--- seed %" PRIu64 ", %.3f ms: ", c->seed,
            (double)(cluster_now(c) - PC_SIM_START_NS) / 1e6);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    c->failed(c);
    abort();
}

const char *cluster_name(int i)
{
    static char names[4][16];
    static unsigned next;
    char *name = names[next++ % 4];
    if (i < 26) {
        snprintf(name, sizeof(names[0]), "%c", 'a' + i);
    } else {
        snprintf(name, sizeof(names[0]), "n%d", i);
    }
    return name;
}

/* Log lines are shown only when somebody debugs a seed. */
static void log_line(void *arg, peercache_log_level_t level, const char *where,
                     const char *message)
{
    struct cluster *c = arg;
    (void)level;
    fprintf(stderr, "%.3f %s [%s] %s\n",
            (double)(cluster_now(c) - PC_SIM_START_NS) / 1e6,
            c->acting >= 0 ? cluster_name(c->acting) : "-", where, message);
}

static void log_nothing(void *arg, peercache_log_level_t level,
                        const char *where, const char *message)
{
    (void)arg;
    (void)level;
    (void)where;
    (void)message;
}

/* ---- The cluster ----------------------------------------------------------
 */

struct cluster *cluster_create(uint64_t seed)
{
    return cluster_create_of(seed, CLUSTER_NODES_MAX);
}

/* Runs take and give back the same memory again and again: the heap keeps it.
 * Large blocks come as untouched pages all the same, or a thousand nodes would
 * own all of their buffers. */
static void tune_heap(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)mallopt(M_TOP_PAD, 16 << 20);
}

struct cluster *cluster_create_of(uint64_t seed, int n_nodes_max)
{
    tune_heap();
    struct cluster *c = calloc(1, sizeof(*c));
    c->n_nodes_max = n_nodes_max;
    c->nodes = calloc((size_t)n_nodes_max, sizeof(*c->nodes));
    c->order = calloc((size_t)n_nodes_max, sizeof(*c->order));
    c->wants = calloc((size_t)n_nodes_max, sizeof(*c->wants));
    c->due_ns = calloc((size_t)n_nodes_max, sizeof(*c->due_ns));
    for (int i = 0; i < n_nodes_max; i++) {
        c->nodes[i].cluster = c;
    }
    c->values = cluster_values_create();
    c->arena = cluster_arena_take();
    c->seed = seed;
    c->sim = pc_sim_create(seed);
    c->clock = pc_sim_clock(c->sim);
    c->failed = fail_in_cmocka;
    c->slack_ns = 5 * PC_MS;
    c->acting = -1;
    pc_rand_init(&c->rand, seed ^ 0x5eed);
    pc_list_init(&c->ops);
    pc_list_init(&c->ended);
    pc_map_init(&c->records);
    pc_map_init(&c->seen);
    c->mark_ns = cluster_now(c);
    if (getenv("CLUSTER_LOG") != NULL) {
        pc_log_set(PEERCACHE_LOG_DEBUG, log_line, c);
    } else {
        pc_log_set(PEERCACHE_LOG_ERROR, log_nothing, NULL);
    }
    cluster_defaults(c, "");
    return c;
}

uint64_t cluster_now(const struct cluster *c)
{
    return pc_clock_now(&c->clock);
}

static void close_all(struct cluster *c)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        if (c->nodes[i].frozen) {
            cluster_thaw(c, i);
        }
        if (c->nodes[i].state == CLUSTER_UP) {
            cluster_stop(c, i);
        }
    }
    uint64_t limit = cluster_now(c) + 10 * PC_S;
    bool any = true;
    while (any) {
        cluster_step(c, limit);
        any = false;
        for (int i = 0; i < c->n_nodes_max; i++) {
            any = any || c->nodes[i].state != CLUSTER_DOWN;
        }
        if (any && cluster_now(c) >= limit) {
            cluster_fail(c, "nodes do not come to their end");
        }
    }
}

void cluster_destroy(struct cluster *c)
{
    close_all(c);
    if (!pc_list_is_empty(&c->ops)) {
        cluster_fail(c, "an operation never ended");
    }
    cluster_free_ops(c);
    cluster_arena_give(c->arena);
    cluster_values_destroy(c->values);
    pc_sim_destroy(c->sim);
    pc_map_fini(&c->records);
    pc_map_fini(&c->seen);
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
    history_destroy(c->history);
    free(c->trace);
    free(c->order);
    free(c->wants);
    free(c->due_ns);
    for (int i = 0; i < c->n_nodes_max; i++) {
        if (c->nodes[i].disk != NULL) {
            mem_disk_destroy(c->nodes[i].disk);
        }
    }
    free(c->nodes);
    free(c);
}

/* ---- Nodes ----------------------------------------------------------------
 */

void cluster_defaults(struct cluster *c, const char *settings)
{
    snprintf(c->settings, sizeof(c->settings), "%s", settings);
}

bool cluster_is_up(const struct cluster *c, int i)
{
    return c->nodes[i].state == CLUSTER_UP && !c->nodes[i].frozen;
}

uint64_t cluster_metric(struct cluster *c, int i, enum pc_metric id)
{
    return pc_metrics_get(&c->nodes[i].node->metrics, id);
}

/* "name=value name=value" */
static void apply(struct cluster *c, peercache_config_t *config,
                  const char *settings)
{
    char text[512];
    char *rest = text;
    char *word;
    snprintf(text, sizeof(text), "%s", settings);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        if (peercache_config_set(config, word, value) != PEERCACHE_OK) {
            cluster_fail(c, "%s", peercache_config_error(config));
        }
    }
}

static void start(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    char name[16];
    snprintf(name, sizeof(name), "%s", cluster_name(i));
    char machine[16];
    snprintf(machine, sizeof(machine), "m%u", n->machine);
    n->host = pc_sim_host_add(c->sim, name, machine);
    pc_sim_host_watch(n->host, &c->wants[i]);
    if (c->skewed) {
        uint64_t since_boot = PC_S + pc_rand_below(&c->rand, 1000 * PC_S);
        pc_sim_set_clock(n->host, since_boot, n->ppm);
    }
    peercache_config_t *config;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        cluster_fail(c, "no configuration");
    }
    apply(c, config,
          "discovery_addr=10.0.0.1:31998,10.0.0.2:31998 allow_insecure=true "
          "global_segment_size=2mib region_size=1mib disk_enabled=false "
          "metrics_enabled=false location_cache=1024");
    char id[32];
    snprintf(id, sizeof(id), "node_id=%s", name);
    apply(c, config, id);
    if (n->disk != NULL) {
        apply(c, config, "disk_enabled=true disk_path=/disk disk_size=64mib");
    }
    apply(c, config, c->settings);
    apply(c, config, n->settings);
    struct pc_node_env env = {
        .link_ops = pc_sim_link(),
        .link_world = n->host,
        .fabric_ops = pc_sim_fabric(),
        .fabric_world = n->host,
        .clock = pc_sim_host_clock(n->host),
        .manual = true,
        .address = pc_sim_host_ip(n->host),
        .host = n->machine + 1,
        .domain = n->machine + 1,
        .random_seed = pc_rand_u64(&c->rand),
        .wall_ns = WALL_NS + cluster_now(c) - c->wall_back_ns,
        .gone = history_gone,
        .gone_arg = n,
        .make_ring = c->make_ring,
        .make_ring_arg = c->make_ring_arg,
        .disk_io = n->disk != NULL ? mem_disk_io(n->disk) : NULL,
        .disk_turn_ns = n->disk_turn_ns,
    };
    c->acting = i;
    peercache_status_t status = pc_node_create(config, &env, &n->node);
    c->acting = -1;
    if (status != PEERCACHE_OK) {
        cluster_fail(c, "node %s: %s: %s", name, peercache_status_name(status),
                     peercache_config_error(config));
    }
    peercache_config_destroy(config);
    n->incarnation = n->node->self.incarnation;
    n->state = CLUSTER_UP;
    n->frozen = false;
    c->wants[i] = true;
    n->is_cut = false;
    n->is_slow = false;
    n->drains = false;
    n->awake_ns = cluster_now(c);
    n->view_seen = 0;
    n->next_generation = 0;
    n->n_changes = 0;
    n->n_looks = 0;
    n->joined_ns = 0;
    n->trouble_ns = 0;
}

void cluster_add_disk(struct cluster *c, int i)
{
    c->nodes[i].disk = mem_disk_create(c->seed);
}

void cluster_start(struct cluster *c, int i, unsigned machine,
                   const char *settings)
{
    struct cluster_node *n = &c->nodes[i];
    /* Machines get their addresses in the order of their first host; those of
     * the seeds exist from the start. */
    for (; c->n_machines <= machine || c->n_machines < 2; c->n_machines++) {
        char name[16];
        snprintf(name, sizeof(name), "m%u", c->n_machines);
        (void)pc_sim_host_add(c->sim, "-", name);
    }
    n->machine = machine;
    snprintf(n->settings, sizeof(n->settings), "%s", settings);
    cluster_trace(c, "%s starts", cluster_name(i));
    start(c, i);
}

void cluster_start_all(struct cluster *c, int n, const char *settings)
{
    for (int i = 0; i < n; i++) {
        cluster_start(c, i, (unsigned)i, settings);
    }
    cluster_settle(c, 30 * PC_S);
}

void cluster_restart(struct cluster *c, int i)
{
    cluster_trace(c, "%s starts again", cluster_name(i));
    start(c, i);
}

void cluster_stop(struct cluster *c, int i)
{
    cluster_trace(c, "%s begins to end", cluster_name(i));
    c->nodes[i].state = CLUSTER_CLOSING; /* It ends calls from within. */
    c->acting = i;
    pc_engine_refresh(&c->nodes[i].node->engine);
    pc_node_begin_close(c->nodes[i].node);
    c->wants[i] = true;
    c->acting = -1;
    c->nodes[i].closing_ns = cluster_now(c);
    c->lost_ns = cluster_now(c);
}

void cluster_drain(struct cluster *c, int i)
{
    cluster_trace(c, "%s drains", cluster_name(i));
    c->nodes[i].drains = true;
    c->acting = i;
    pc_engine_refresh(&c->nodes[i].node->engine);
    pc_view_drain(c->nodes[i].node);
    c->wants[i] = true;
    c->acting = -1;
}

/* Its process is gone; what it had in our heap must go too. */
static void bury(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    pc_node_begin_close(n->node);
    pc_sim_bury(n->host);
    for (unsigned turns = 0; !pc_node_is_idle(n->node); turns++) {
        if (turns > 10000) {
            cluster_fail(c, "what %s left does not come to an end",
                         cluster_name(i));
        }
        (void)pc_node_turn(n->node);
    }
    pc_node_free(n->node);
}

static void go(struct cluster *c, int i, enum mem_disk_crash how)
{
    struct cluster_node *n = &c->nodes[i];
    c->lost_ns = cluster_now(c);
    pc_sim_kill(n->host);
    for (struct pc_list *at = c->ops.next; at != &c->ops; at = at->next) {
        struct cluster_op *op = PC_CONTAINER_OF(at, struct cluster_op, link);
        op->killed = op->killed || op->node == i;
    }
    c->acting = i;
    if (n->disk != NULL) {
        mem_disk_stop_at(n->disk, 0,
                         0); /* A dead process writes nothing more. */
    }
    bury(c, i);
    if (n->disk != NULL) {
        mem_disk_crash(n->disk, how);
    }
    c->acting = -1;
    n->node = NULL;
    n->state = CLUSTER_DOWN;
    n->frozen = false;
    cluster_reap(c);
}

void cluster_kill(struct cluster *c, int i)
{
    cluster_trace(c, "%s dies", cluster_name(i));
    go(c, i, MEM_DISK_KILLED);
}

void cluster_power_off(struct cluster *c, int i, enum mem_disk_crash how)
{
    cluster_trace(c, "%s loses its power", cluster_name(i));
    if (c->history != NULL) {
        history_power_off(c->history, i);
    }
    go(c, i, how);
}

void cluster_freeze(struct cluster *c, int i)
{
    cluster_trace(c, "%s stops breathing", cluster_name(i));
    pc_sim_freeze(c->nodes[i].host);
    c->nodes[i].frozen = true;
}

void cluster_thaw(struct cluster *c, int i)
{
    cluster_trace(c, "%s breathes again", cluster_name(i));
    pc_sim_thaw(c->nodes[i].host);
    c->nodes[i].frozen = false;
    c->nodes[i].thawed = true;
    c->wants[i] = true;
    c->nodes[i].awake_ns = cluster_now(c);
    c->nodes[i].trouble_ns = cluster_now(c);
}

/* ---- Faults of the network ------------------------------------------------
 */

void cluster_cut(struct cluster *c, int i, int k)
{
    cluster_trace(c, "%s and %s are cut apart", cluster_name(i),
                  cluster_name(k));
    pc_sim_cut(c->sim, c->nodes[i].host, c->nodes[k].host);
    c->nodes[i].is_cut = true;
    c->nodes[k].is_cut = true;
}

void cluster_cut_one_way(struct cluster *c, int from, int to)
{
    cluster_trace(c, "%s is not heard by %s", cluster_name(from),
                  cluster_name(to));
    pc_sim_cut_one_way(c->sim, c->nodes[from].host, c->nodes[to].host);
    c->nodes[from].is_cut = true;
    c->nodes[to].is_cut = true;
}

void cluster_set_island(struct cluster *c, int i, unsigned island)
{
    cluster_trace(c, "%s is on island %u", cluster_name(i), island);
    pc_sim_set_island(c->nodes[i].host, island);
    c->nodes[i].is_cut = c->nodes[i].is_cut || island != 0;
}

void cluster_set_slow(struct cluster *c, int i, uint64_t slow_ns)
{
    cluster_trace(c, "%s is slow", cluster_name(i));
    pc_sim_set_slow(c->nodes[i].host, slow_ns);
    c->nodes[i].is_slow = slow_ns > 0;
    c->nodes[i].trouble_ns = cluster_now(c);
}

void cluster_heal_all(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct cluster_node *n = &c->nodes[i];
        for (int k = 0; k < i && n->is_cut && n->state != CLUSTER_DOWN; k++) {
            if (c->nodes[k].is_cut && c->nodes[k].state != CLUSTER_DOWN) {
                pc_sim_heal(c->sim, n->host, c->nodes[k].host);
            }
        }
    }
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct cluster_node *n = &c->nodes[i];
        n->trouble_ns = n->is_cut || n->is_slow ? now : n->trouble_ns;
        n->is_cut = false;
        n->is_slow = false;
        if (n->state != CLUSTER_DOWN) {
            pc_sim_set_island(n->host, 0);
            pc_sim_set_slow(n->host, 0);
            if (n->frozen) {
                cluster_thaw(c, i);
            }
        }
    }
}

/* ---- Time -----------------------------------------------------------------
 */

static void finish_closing(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    if (pc_node_is_idle(n->node)) {
        cluster_trace(c, "%s is gone", cluster_name(i));
        c->lost_ns = cluster_now(c);
        pc_node_free(n->node);
        n->node = NULL;
        n->state = CLUSTER_DOWN;
    } else if (cluster_now(c) > n->closing_ns + 5 * PC_S) {
        cluster_fail(c, "%s does not come to its end", cluster_name(i));
    }
}

/* Say what a node sees when that changes. */
static void watch_view(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    size_t n_members;
    uint64_t hash;
    const struct pc_member *members =
        pc_cluster_view(n->node->cluster, &n_members, &hash);
    if (hash == n->view_seen) {
        return;
    }
    n->view_seen = hash;
    char text[512] = "";
    size_t at = 0;
    for (size_t k = 0; k < n_members && at + 4 < sizeof(text); k++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, " %s",
                               members[k].id.text);
    }
    if (n_members > 0 && !c->is_unchecked) {
        cluster_trace(c, "%s sees%s", cluster_name(i), text);
    }
}

static unsigned turn(struct cluster *c, int i)
{
    struct cluster_node *n = &c->nodes[i];
    c->acting = i;
    if (!n->thawed) {
        /* It slept as long as it meant to. */
        n->node->engine.last_turn_ns = pc_clock_now(&n->node->clock);
    }
    n->thawed = false;
    c->wants[i] = false;
    unsigned work = pc_node_turn(n->node);
    c->wants[i] = c->wants[i] || work > 0;
    c->due_ns[i] = pc_sim_world_time(n->host, pc_node_next_due(n->node));
    c->acting = -1;
    if (work > 0 && !c->is_unchecked) {
        cluster_check_node(c, i);
    }
    if (n->state == CLUSTER_CLOSING) {
        finish_closing(c, i);
    } else {
        watch_view(c, i);
    }
    return work;
}

static uint64_t next_event(struct cluster *c, uint64_t limit_ns)
{
    uint64_t next = limit_ns;
    uint64_t due;
    if (pc_sim_next(c->sim, &due) && due < next) {
        next = due;
    }
    for (int i = 0; i < c->n_nodes_max; i++) {
        if (c->due_ns[i] < next && c->nodes[i].state != CLUSTER_DOWN &&
            !c->nodes[i].frozen) {
            next = c->due_ns[i];
        }
    }
    uint64_t now = cluster_now(c) + c->grain_ns;
    return next > now ? next : now;
}

/* Whether a turn would find something to do; what other threads would have
 * submitted is looked for only where there is time for it. */
static bool wants_turn(const struct cluster *c, int i)
{
    const struct cluster_node *n = &c->nodes[i];
    if (n->state == CLUSTER_DOWN || n->frozen) {
        return false;
    }
    return c->wants[i] || c->due_ns[i] <= cluster_now(c) ||
           (!c->is_unchecked && !pc_mpsc_is_empty(&n->node->engine.tasks));
}

static void note_troubles(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->state == CLUSTER_DOWN) {
            continue;
        }
        if (n->joined_ns == 0 && pc_cluster_is_joined(n->node->cluster)) {
            n->joined_ns = now;
        }
        uint64_t broke = pc_sim_host_broke_ns(n->host);
        if (n->frozen || n->is_cut || n->is_slow ||
            n->state == CLUSTER_CLOSING) {
            n->trouble_ns = now;
        } else if (broke > n->trouble_ns) {
            n->trouble_ns = broke;
        }
    }
}

void cluster_step(struct cluster *c, uint64_t limit_ns)
{
    unsigned work = 0;
    int n = 0;
    for (int i = 0; i < c->n_nodes_max; i++) {
        if (wants_turn(c, i)) {
            int k = (int)pc_rand_below(&c->rand, (uint64_t)n + 1);
            c->order[n++] = c->order[k];
            c->order[k] = i;
        }
    }
    for (int k = 0; k < n; k++) {
        work += turn(c, c->order[k]);
    }
    if (c->history != NULL) {
        note_troubles(c);
        history_step(c->history);
    }
    cluster_reap(c);
    cluster_check_step(c);
    c->counts.n_steps++;
    if (work > 0) {
        if (++c->n_stuck > STUCK_STEPS) {
            cluster_fail(c, "work without end at one instant");
        }
        return;
    }
    c->n_stuck = 0;
    pc_sim_advance_to(c->sim, next_event(c, limit_ns));
}

void cluster_run(struct cluster *c, uint64_t ns)
{
    uint64_t end = cluster_now(c) + ns;
    while (cluster_now(c) < end) {
        cluster_step(c, end);
    }
}

/* What node i is not done with; NULL: all is settled with it. */
static const char *unsettled(struct cluster *c, int i, uint64_t *view_p)
{
    const struct cluster_node *n = &c->nodes[i];
    if (n->state == CLUSTER_CLOSING) {
        return "closing";
    }
    if (n->state == CLUSTER_DOWN || n->frozen) {
        return NULL;
    }
    uint64_t view = *view_p;
    *view_p = pc_ring_view(n->node->ring);
    if (!pc_cluster_is_joined(n->node->cluster)) {
        return "joining";
    }
    if (view != 0 && view != *view_p) {
        return "in another view";
    }
    if (n->node->republish.busy) {
        return "re-publishing";
    }
    return pc_publish_is_idle(n->node) ? NULL : "publishing";
}

/* What each node believes of all. */
static void tell_tables(const struct cluster *c)
{
    for (int i = 0; i < c->n_nodes_max; i++) {
        if (c->nodes[i].state == CLUSTER_DOWN) {
            continue;
        }
        const struct pc_cluster *of = c->nodes[i].node->cluster;
        size_t n;
        uint64_t hash;
        (void)pc_cluster_view(of, &n, &hash);
        fprintf(stderr, "--- view of %s: %016" PRIx64 ", ring %016" PRIx64 "\n",
                cluster_name(i), hash, pc_ring_view(c->nodes[i].node->ring));
        const struct pc_list *boxes = &c->nodes[i].node->publisher.outboxes;
        for (const struct pc_list *at = boxes->next; at != boxes;
             at = at->next) {
            const struct pc_outbox *box =
                PC_CONTAINER_OF(at, struct pc_outbox, link);
            fprintf(
                stderr, "  for %s: %zu in the FIFO, %zu in the lane%s%s%s\n",
                box->owner.id.text, (size_t)box->n, (size_t)box->n_moved,
                box->parked ? ", parked" : "", box->sending ? ", sending" : "",
                box->waiting ? ", waiting" : "");
        }
        for (int k = 0; k < c->n_nodes_max; k++) {
            const struct pc_member *m =
                pc_cluster_find(of, c->nodes[k].incarnation);
            if (m != NULL) {
                fprintf(stderr,
                        "  %s: state %d, epoch %" PRIu64 ", admission %u%s\n",
                        cluster_name(k), m->state, m->epoch, m->admission,
                        m->republishing ? ", re-publishing" : "");
            }
        }
    }
}

void cluster_settle(struct cluster *c, uint64_t limit_ns)
{
    uint64_t limit = cluster_now(c) + limit_ns;
    bool settled = false;
    while (!settled) {
        uint64_t view = 0;
        settled = true;
        for (int i = 0; i < c->n_nodes_max && settled; i++) {
            const char *what = unsettled(c, i, &view);
            settled = what == NULL;
            if (!settled && cluster_now(c) >= limit) {
                tell_tables(c);
                cluster_fail(c, "%s is still %s", cluster_name(i), what);
            }
        }
        if (!settled) {
            cluster_step(c, limit);
        }
    }
    cluster_run(c, PC_MS);
}
