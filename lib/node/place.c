#include "place.h"

#include "base/log.h"
#include "node/node.h"
#include "transports/socket/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

/* ---- Before the start ------------------------------------------------- */

peercache_status_t pc_place_check(const struct pc_settings *settings,
                                  uint64_t wanted, char *reason,
                                  size_t reason_len)
{
    struct pc_limits limits;
    uint64_t can_lock;
    pc_limits_look("", &limits);
    uint64_t huge = settings->huge_pages ? limits.huge_free : 0;
    if (wanted > limits.most.bytes && wanted - limits.most.bytes > huge) {
        (void)snprintf(reason, reason_len,
                       "global_segment_size is %llu bytes; %s allows %llu",
                       (unsigned long long)wanted, limits.most.name,
                       (unsigned long long)limits.most.bytes);
        return PEERCACHE_NO_MEMORY;
    }
    if (settings->lock_memory && !pc_limits_can_lock(wanted, &can_lock)) {
        (void)snprintf(reason, reason_len,
                       "lock_memory needs %llu bytes; the limit of locked "
                       "memory (ulimit -l) is %llu, with what this process "
                       "has locked already",
                       (unsigned long long)wanted,
                       (unsigned long long)can_lock);
        return PEERCACHE_NO_MEMORY;
    }
    return PEERCACHE_OK;
}

/* ---- The plan --------------------------------------------------------- */

/* The pool_lock is held. */
static void bind_engine(struct peercache_node *node)
{
    struct pc_place_state *place = &node->place;
    const struct pc_placement *plan = &place->plan;
    if (!place->is_planned || !place->has_engine || !plan->bind_engine ||
        !plan->may_bind) {
        return;
    }
    int error = pthread_setaffinity_np(
        place->engine, sizeof(plan->engine_cpus.bits),
        (const cpu_set_t *)(const void *)plan->engine_cpus.bits);
    place->is_engine_bound = error == 0;
    if (error != 0) {
        PC_WARN("place", "the engine's thread cannot be bound to its CPUs: %s",
                strerror(error));
    }
}

void pc_place_engine(struct peercache_node *node)
{
    (void)pthread_mutex_lock(&node->pool_lock);
    node->place.has_engine = true;
    node->place.engine = node->engine.thread;
    bind_engine(node);
    (void)pthread_mutex_unlock(&node->pool_lock);
}

/* The devices in use: the fabric's; without any, the one that connections go
 * over. */
static void name_devices(struct peercache_node *node, char *devices, size_t len)
{
    devices[0] = '\0';
    if (node->fabric != NULL) {
        (void)snprintf(devices, len, "%s",
                       node->fabric_ops->devices(node->fabric));
    }
    if (devices[0] == '\0' || strcmp(devices, "lo") == 0) {
        pc_names_device(node->self.address, devices, len);
    }
    if (strcmp(devices, "lo") == 0) {
        devices[0] = '\0'; /* At no node. */
    }
}

static void say_plan(const struct peercache_node *node,
                     const struct pc_placement *plan)
{
    char nodes[64];
    char cpus[128] = "any";
    pc_placement_nodes(plan, nodes, sizeof(nodes));
    if (plan->bind_engine) {
        pc_cpus_write(&plan->engine_cpus, cpus, sizeof(cpus));
    }
    /* What somebody asked for is not done without a warning. */
    bool asked = node->settings.numa_node[0] != '\0' ||
                 node->settings.engine_cpus[0] != '\0';
    PC_LOG(asked && plan->unmet[0] != '\0' ? PEERCACHE_LOG_WARN
                                           : PEERCACHE_LOG_INFO,
           "place", "pool on NUMA node %s, engine on CPUs %s%s: %s%s%s", nodes,
           cpus, plan->may_bind ? "" : " (nothing is bound)", plan->why,
           plan->unmet[0] != '\0' ? "; " : "", plan->unmet);
}

/* Network cards pin what they read from, and the limit of locked memory counts
 * that too. */
static void look_at_pinning(const struct peercache_node *node)
{
    uint64_t limit;
    uint64_t wanted = node->settings.global_segment_size;
    if (node->fabric != NULL && node->settings.protocol == PC_PROTOCOL_RDMA &&
        node->fabric_ops->devices(node->fabric)[0] != '\0' &&
        node->settings.ucx_tcp[0] == '\0' &&
        !pc_limits_can_lock(wanted, &limit)) {
        PC_WARN("place",
                "RDMA pins the pool of %" PRIu64 " MiB, and the limit of "
                "locked memory (ulimit -l) is %" PRIu64 " KiB: regions beyond "
                "it may have no one-sided reads",
                wanted / MIB, limit / 1024);
    }
}

/* The largest region: one that is shared is a segment of the system. Where that
 * may have very little, a pool of many small ones, or one that takes no large
 * value, would be worse than one that neighbours cannot map. */
static uint64_t cut_region(const struct peercache_node *node,
                           const struct pc_limits *limits)
{
    uint64_t size = node->settings.global_segment_size;
    size =
        size < node->settings.region_size ? size : node->settings.region_size;
    uint64_t most = limits->segment_most / 4096 * 4096;
    if (node->client || node->fabric == NULL || size <= most) {
        return 0;
    }
    bool cut = most >= PC_SEGMENT_LEAST &&
               node->settings.global_segment_size / most < PC_REGIONS_MAX;
    PC_WARN("place",
            "a segment of shared memory has %" PRIu64
            " MiB at most (kernel.shmmax), a region %" PRIu64 ": %s",
            limits->segment_most / MIB, size / MIB,
            cut ? "regions are made as small"
                : "neighbours may not be able to map the pool");
    return cut ? most : 0;
}

static void say_huge(const struct peercache_node *node,
                     const struct pc_limits *limits)
{
    uint64_t wanted = node->settings.global_segment_size;
    if (!node->client && node->settings.huge_pages &&
        limits->huge_free == limits->huge_left.bytes &&
        limits->huge_free < wanted) {
        PC_INFO("place",
                "of huge pages %s leaves %" PRIu64
                " MiB; what the pool has beyond that is of other pages",
                limits->huge_left.name, limits->huge_free / MIB);
    }
}

void pc_place_plan(struct peercache_node *node)
{
    struct pc_limits limits;
    char devices[PEERCACHE_STR_MAX];
    struct pc_topology topology;
    struct pc_topology_source source = {.synthetic = NULL};
    struct pc_placement_wish wish = {.numa_node = node->settings.numa_node,
                                     .engine_cpus = node->settings.engine_cpus,
                                     .devices = devices};
    struct pc_placement plan;
    name_devices(node, devices, sizeof(devices));
    pc_cpus_of_thread(&wish.thread);
    bool known = pc_topology_load(&source, &topology);
    pc_placement_make(known ? &topology : NULL, &wish, &plan);
    if (known) {
        pc_topology_fini(&topology);
    }
    say_plan(node, &plan);
    look_at_pinning(node);
    pc_limits_look("", &limits);
    say_huge(node, &limits);
    uint64_t region_most = cut_region(node, &limits);
    (void)pthread_mutex_lock(&node->pool_lock);
    node->place.region_most = region_most;
    node->place.region_cut = region_most;
    node->place.plan = plan;
    node->place.is_planned = true;
    node->place.started_ns = pc_clock_now(&node->clock);
    bind_engine(node);
    (void)pthread_mutex_unlock(&node->pool_lock);
}

int pc_place_next(struct peercache_node *node, uint64_t bytes)
{
    (void)pthread_mutex_lock(&node->pool_lock);
    int numa_node = pc_placement_next(&node->place.plan, bytes);
    bool may_bind = node->place.plan.may_bind;
    (void)pthread_mutex_unlock(&node->pool_lock);
    return may_bind ? numa_node : -1;
}

static bool has_plain(const struct pc_limits *limits, uint64_t bytes)
{
    uint64_t reserve = pc_limits_reserve(limits);
    return limits->left.bytes >= reserve &&
           limits->left.bytes - reserve >= bytes;
}

bool pc_place_has_plain_room(uint64_t bytes)
{
    struct pc_limits limits;
    pc_limits_look("", &limits);
    return has_plain(&limits, bytes);
}

bool pc_place_has_room(struct peercache_node *node, uint64_t bytes, bool say)
{
    struct pc_limits limits;
    pc_limits_look("", &limits);
    if (node->settings.huge_pages && limits.huge_free >= bytes) {
        return true;
    }
    if (has_plain(&limits, bytes)) {
        return true;
    }
    uint64_t reserve = pc_limits_reserve(&limits);
    if (say) {
        PC_ERROR("pool",
                 "the pool stays at %zu regions, %" PRIu64 " of %" PRIu64
                 " MiB: the next has %" PRIu64 " MiB, and under the limit of "
                 "%s %" PRIu64 " MiB are left, of which %" PRIu64
                 " stay free; it grows when there is more",
                 node->n_regions, node->pool_bytes / MIB,
                 node->settings.global_segment_size / MIB, bytes / MIB,
                 limits.left.name, limits.left.bytes / MIB, reserve / MIB);
    }
    return false;
}

/* ---- What it became --------------------------------------------------- */

static uint64_t all_pages(const struct pc_place_state *place)
{
    uint64_t sum = 0;
    for (int i = 0; i < PC_PAGES_N; i++) {
        sum += place->pages[i];
    }
    return sum;
}

/* One line a tenth of the pool. */
static void say_progress(const struct peercache_node *node, uint64_t bytes,
                         uint64_t ns)
{
    PC_INFO("pool",
            "%" PRIu64 " of %" PRIu64 " MiB are in use after %" PRIu64 " ms",
            bytes / MIB, node->settings.global_segment_size / MIB,
            (uint64_t)(ns / PC_MS));
}

void pc_place_count(struct peercache_node *node,
                    const struct pc_place_region *region)
{
    struct pc_place_state *place = &node->place;
    uint64_t bytes = region->bytes;
    (void)pthread_mutex_lock(&node->pool_lock);
    place->pages[region->pages] += bytes;
    place->shared += region->is_shared ? bytes : 0;
    place->with_gets += region->has_gets ? bytes : 0;
    place->locked += region->is_locked ? bytes : 0;
    bool bound = region->numa_node >= 0 && region->bind_error == 0;
    bool say_unbound = region->numa_node >= 0 && !bound && !place->said_unbound;
    place->bound += bound ? bytes : 0;
    place->said_unbound = place->said_unbound || say_unbound;
    uint64_t all = all_pages(place);
    uint64_t wanted = node->settings.global_segment_size;
    bool say = all - place->said_at >= wanted / 10 && all < wanted;
    place->said_at = say ? all : place->said_at;
    uint64_t ns = pc_clock_now(&node->clock) - place->started_ns;
    (void)pthread_mutex_unlock(&node->pool_lock);
    if (say_unbound) {
        PC_WARN("place",
                "memory cannot be bound to NUMA node %d, it goes where the "
                "system puts it: %s",
                region->numa_node, strerror(region->bind_error));
    }
    if (say) {
        say_progress(node, all, ns);
    }
}

/* UCX does not tell a device's largest registration, so it is found by trying.
 * Where the smallest is refused, too, size is not what is wrong. */
bool pc_place_try_smaller(struct peercache_node *node,
                          const struct pc_place_region *region)
{
    struct pc_place_state *place = &node->place;
    uint64_t most = region->bytes / 2 / 4096 * 4096;
    uint64_t rest = node->settings.global_segment_size - node->pool_bytes;
    bool may = !place->small_refused && most >= PC_SEGMENT_LEAST &&
               node->n_regions + rest / most < PC_REGIONS_MAX;
    (void)pthread_mutex_lock(&node->pool_lock);
    place->region_most = may ? most : place->region_cut;
    place->small_refused = !may;
    if (may) {
        pc_placement_give_back(&place->plan, region->numa_node, region->bytes);
    }
    (void)pthread_mutex_unlock(&node->pool_lock);
    if (may) {
        PC_WARN("place",
                "a region of %" PRIu64 " MiB is refused, trying regions of "
                "%" PRIu64 " MiB",
                region->bytes / MIB, most / MIB);
    }
    return may;
}

static struct pc_place_state copy_of(struct peercache_node *node)
{
    (void)pthread_mutex_lock(&node->pool_lock);
    struct pc_place_state place = node->place;
    (void)pthread_mutex_unlock(&node->pool_lock);
    return place;
}

/* Once the pool has come up, of what it is to have. A rest too small for a
 * region is not missing. */
static uint64_t missing(struct peercache_node *node,
                        const struct pc_place_state *place)
{
    uint64_t all = all_pages(place);
    uint64_t wanted = node->settings.global_segment_size;
    bool is_over = !node->client && pc_event_get(&node->pool_ready) == 2;
    return is_over && wanted > all + PC_REGION_LEAST ? wanted - all : 0;
}

void pc_place_json(struct peercache_node *node, struct pc_text *text)
{
    struct pc_place_state place = copy_of(node);
    const struct pc_placement *plan = &place.plan;
    char nodes[64];
    char cpus[128] = "any";
    pc_placement_nodes(plan, nodes, sizeof(nodes));
    if (plan->bind_engine) {
        pc_cpus_write(&plan->engine_cpus, cpus, sizeof(cpus));
    }
    pc_text_add(text,
                ",\"placement\":{\"missing\":%" PRIu64
                ",\"numa_nodes\":\"%s\",\"engine_cpus\":\"%s\","
                "\"engine_bound\":%s,\"why\":",
                missing(node, &place), nodes, cpus,
                place.is_engine_bound ? "true" : "false");
    pc_text_add_json(text, plan->why, strlen(plan->why));
    pc_text_add(text, ",\"unmet\":");
    pc_text_add_json(text, plan->unmet, strlen(plan->unmet));
    pc_text_add(text, ",\"pages\":{");
    for (int i = 0; i < PC_PAGES_N; i++) {
        pc_text_add(text, "%s\"%s\":%" PRIu64, i > 0 ? "," : "",
                    pc_pages_name((enum pc_pages)i), place.pages[i]);
    }
    pc_text_add(text,
                "},\"bound\":%" PRIu64 ",\"shared\":%" PRIu64
                ",\"one_sided\":%" PRIu64 ",\"locked\":%" PRIu64 "}",
                place.bound, place.shared, place.with_gets, place.locked);
}

void pc_place_metric(struct peercache_node *node, const char *labels,
                     struct pc_text *text)
{
    struct pc_place_state place = copy_of(node);
    char nodes[64];
    char cpus[128] = "any";
    pc_placement_nodes(&place.plan, nodes, sizeof(nodes));
    if (place.plan.bind_engine) {
        pc_cpus_write(&place.plan.engine_cpus, cpus, sizeof(cpus));
    }
    pc_text_add(text,
                "# HELP peercache_placement_info NUMA nodes chosen for the "
                "pool and cores for the engine's thread; always 1\n"
                "# TYPE peercache_placement_info gauge\n"
                "peercache_placement_info{%s,numa_nodes=\"%s\","
                "engine_cpus=\"%s\"} 1\n",
                labels, nodes, cpus);
}

void pc_place_gauges(struct peercache_node *node)
{
    struct pc_metrics *m = &node->metrics;
    struct pc_place_state place = copy_of(node);
    pc_metrics_set(m, PC_METRIC_POOL_WANTED,
                   node->client ? 0 : node->settings.global_segment_size);
    pc_metrics_set(m, PC_METRIC_POOL_MISSING, missing(node, &place));
    pc_metrics_set(m, PC_METRIC_POOL_HUGE, place.pages[PC_PAGES_HUGE]);
    pc_metrics_set(m, PC_METRIC_POOL_TRANSPARENT,
                   place.pages[PC_PAGES_TRANSPARENT]);
    pc_metrics_set(m, PC_METRIC_POOL_PLAIN, place.pages[PC_PAGES_PLAIN]);
    pc_metrics_set(m, PC_METRIC_POOL_BOUND, place.bound);
    pc_metrics_set(m, PC_METRIC_POOL_SHARED, place.shared);
    pc_metrics_set(m, PC_METRIC_POOL_GETS, place.with_gets);
    pc_metrics_set(m, PC_METRIC_POOL_LOCKED, place.locked);
    pc_metrics_set(m, PC_METRIC_ENGINE_BOUND, place.is_engine_bound ? 1 : 0);
}
