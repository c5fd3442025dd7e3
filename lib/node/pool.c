/*
 * pool.c - the pool's regions, and what the store gives up.
 *
 * Regions are allocated and registered in the background, one after the other,
 * so the node serves while its pool still grows. place.c says where each goes.
 * Where there is no memory for one, the pool is short, said once, and tried
 * again later.
 * A region's memory comes from the fabric, so that peers can read it; without
 * one it is plain memory and every read of it is served.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The first region of a pool of several: there in a moment, so that the first
 * put does not wait for a whole one to be filled with zeros. */
#define REGION_FIRST PC_SEGMENT_LEAST
#define HUGE_PAGE    (2ull << 20)
/* Descriptors that a node needs for itself and a few peers. */
#define DESCRIPTORS_MIN 64

/* ---- Checks before the start -------------------------------------------- */

/* Descriptors of this process that are in use; 0 where that cannot be seen. UCX
 * ends the process when it runs out of them while it starts. */
static uint64_t open_files(uint64_t limit)
{
    uint64_t n = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return errno == EMFILE ? limit : 0;
    }
    while (readdir(folder) != NULL) {
        n++;
    }
    (void)closedir(folder);
    return n > 3 ? n - 3 : 0; /* Without ".", ".." and the folder's own. */
}

static peercache_status_t check_descriptors(char *reason, size_t reason_len)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY) {
        return PEERCACHE_OK;
    }
    uint64_t n_open = open_files(limit.rlim_cur);
    if (limit.rlim_cur >= DESCRIPTORS_MIN + n_open) {
        return PEERCACHE_OK;
    }
    (void)snprintf(reason, reason_len,
                   "the limit of open files (ulimit -n) is %llu, of which %llu "
                   "are open; at least %d more are needed",
                   (unsigned long long)limit.rlim_cur,
                   (unsigned long long)n_open, DESCRIPTORS_MIN);
    return PEERCACHE_IO;
}

/* A node tells others of so many regions. */
static peercache_status_t check_count(const struct pc_settings *settings,
                                      uint64_t wanted, char *reason,
                                      size_t reason_len)
{
    if (wanted / settings->region_size <= PC_REGIONS_MAX) {
        return PEERCACHE_OK;
    }
    (void)snprintf(reason, reason_len,
                   "global_segment_size is %llu bytes and region_size %llu; "
                   "a pool has %d regions at most",
                   (unsigned long long)wanted,
                   (unsigned long long)settings->region_size, PC_REGIONS_MAX);
    return PEERCACHE_INVALID;
}

peercache_status_t pc_pool_check(const struct pc_settings *settings,
                                 char *reason, size_t reason_len)
{
    uint64_t wanted = settings->global_segment_size;
    if (settings->mode == PC_MODE_CENTRALIZED &&
        settings->role != PC_ROLE_WANTED_STORAGE) {
        wanted = 0; /* A client has no pool. */
    }
    peercache_status_t status =
        pc_place_check(settings, wanted, reason, reason_len);
    if (status == PEERCACHE_OK) {
        status = check_count(settings, wanted, reason, reason_len);
    }
    if (status == PEERCACHE_OK) {
        status = check_descriptors(reason, reason_len);
    }
    return status;
}

/* ---- Regions ---------------------------------------------------------- */

struct announce
{
    struct pc_task task;
    struct peercache_node *node;
    struct pc_msg_region region;
};

static void announce_run(struct pc_task *task)
{
    struct announce *a = PC_CONTAINER_OF(task, struct announce, task);
    pc_peers_add_region(&a->node->peers, &a->region);
    pc_free(a);
}

static void announce(struct peercache_node *node, uint32_t index,
                     const struct pc_pool_region *region)
{
    struct pc_region_info info;
    struct announce *a = pc_alloc(1, sizeof(*a));
    if (a == NULL || !pc_store_region(node->store, index, &info)) {
        PC_WARN("pool", "no memory to announce region %u: it is served only",
                index);
        pc_free(a);
        return;
    }
    a->task.run = announce_run;
    a->node = node;
    a->region.index = index;
    a->region.n_slots = info.n_slots;
    a->region.base = (uint64_t)(uintptr_t)info.addr;
    a->region.length = info.length;
    a->region.nonce = info.nonce;
    a->region.slots_offset = info.slots_offset;
    if (region->mem != NULL) {
        a->region.rkey = node->fabric_ops->mem_rkey(region->mem);
    }
    if (node->manual) {
        announce_run(&a->task);
    } else {
        pc_engine_submit(&node->engine, &a->task);
    }
}

/* From the fabric, so that peers can read it. */
static peercache_status_t allocate_shared(struct peercache_node *node,
                                          struct pc_pool_region *region,
                                          struct pc_place_region *place)
{
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_POOL,
        .kind = PEERCACHE_MEM_HOST,
        .len = (size_t)region->length,
        .numa_node = place->numa_node,
        .page_size = node->settings.huge_pages ? HUGE_PAGE : 0,
        .is_stopping = pc_threads_are_stopping,
        .arg = node};
    peercache_status_t status =
        node->fabric_ops->mem_register(node->fabric, &params, &region->mem);
    if (status != PEERCACHE_OK) {
        region->mem = NULL;
        return status;
    }
    struct pc_fabric_mem_info info;
    node->fabric_ops->mem_info(region->mem, &info);
    region->addr = node->fabric_ops->mem_addr(region->mem);
    place->pages = info.pages;
    place->bind_error = info.bind_error;
    place->is_shared = info.is_shared;
    place->has_gets = info.has_gets;
    place->refused = info.refused;
    return PEERCACHE_OK;
}

static peercache_status_t allocate_plain(struct peercache_node *node,
                                         struct pc_pool_region *region,
                                         struct pc_place_region *place)
{
    size_t len = (size_t)region->length;
    /* There may have been room in huge pages alone, which are not for this. */
    if (!node->manual && !pc_place_has_plain_room(region->length)) {
        return PEERCACHE_NO_MEMORY;
    }
    void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (addr == MAP_FAILED) {
        return PEERCACHE_NO_MEMORY;
    }
    if (place->numa_node >= 0) {
        place->bind_error = pc_pages_bind(addr, len, place->numa_node);
    }
    place->pages = pc_pages_prepare(addr, len, node->settings.huge_pages);
    peercache_status_t status =
        pc_pages_fill(addr, len, pc_threads_are_stopping, node);
    if (status != PEERCACHE_OK) {
        (void)munmap(addr, len);
        return status;
    }
    region->addr = addr;
    return PEERCACHE_OK;
}

static bool allocate(struct peercache_node *node, struct pc_pool_region *region,
                     struct pc_place_region *place)
{
    place->bytes = region->length;
    place->numa_node = pc_place_next(node, region->length);
    if (node->fabric != NULL) {
        peercache_status_t status = allocate_shared(node, region, place);
        if (status == PEERCACHE_OK || status == PEERCACHE_SHUTDOWN) {
            return status == PEERCACHE_OK;
        }
        PC_WARN("pool", "the fabric gave no memory, using plain memory");
    }
    return allocate_plain(node, region, place) == PEERCACHE_OK;
}

static void release(struct peercache_node *node, struct pc_pool_region *region)
{
    if (region->mem != NULL) {
        node->fabric_ops->mem_deregister(region->mem);
    } else if (region->addr != NULL) {
        (void)munmap(region->addr, (size_t)region->length);
    }
    region->mem = NULL;
    region->addr = NULL;
}

static uint64_t next_length(const struct peercache_node *node)
{
    uint64_t total = node->settings.global_segment_size;
    uint64_t size = node->settings.region_size;
    uint64_t most = node->place.region_most;
    size = most > 0 && most < size ? most : size;
    uint64_t rest = total - node->pool_bytes;
    if (rest == 0 || node->n_regions >= PC_REGIONS_MAX) {
        return 0;
    }
    if (!node->manual && node->n_regions == 0 && size > REGION_FIRST &&
        total / size >= 2 && total / size < PC_REGIONS_MAX) {
        return REGION_FIRST;
    }
    return (rest < size ? rest : size) / 4096 * 4096;
}

static bool has_room(struct peercache_node *node, uint64_t length, bool say)
{
    /* The memory of simulated machines is not that of this one. */
    return node->manual || pc_place_has_room(node, length, say);
}

bool pc_pool_is_short(const struct peercache_node *node)
{
    return !node->client && next_length(node) >= PC_REGION_LEAST;
}

bool pc_pool_has_room(struct peercache_node *node)
{
    return has_room(node, next_length(node), false);
}

static bool lock(struct peercache_node *node,
                 const struct pc_pool_region *region)
{
    if (!node->settings.lock_memory) {
        return false;
    }
    bool is_locked = mlock(region->addr, (size_t)region->length) == 0;
    if (!is_locked) {
        PC_WARN("pool", "region %zu cannot be locked in memory: %s",
                node->n_regions, strerror(errno));
    }
    return is_locked;
}

static bool use(struct peercache_node *node, struct pc_pool_region *region)
{
    uint32_t index;
    peercache_status_t status =
        pc_store_add_region(node->store, region->addr, region->length, &index);
    if (status != PEERCACHE_OK) {
        PC_ERROR("pool", "region %zu cannot be used: %s", node->n_regions,
                 peercache_strerror(status));
        release(node, region);
        return false;
    }
    (void)pthread_mutex_lock(&node->pool_lock);
    node->regions[node->n_regions++] = *region;
    node->pool_bytes += region->length;
    (void)pthread_mutex_unlock(&node->pool_lock);
    announce(node, index, region);
    atomic_store_explicit(&node->grew_ns, pc_clock_now(&node->clock),
                          memory_order_relaxed);
    if (pc_event_get(&node->pool_ready) == 0) {
        pc_event_set(&node->pool_ready, 1);
    }
    pc_event_set(&node->pool_grown, pc_event_get(&node->pool_grown) + 1);
    return true;
}

bool pc_pool_is_growing(const struct peercache_node *node)
{
    return pc_event_get(&node->pool_ready) == 1;
}

void pc_pool_is_up(struct peercache_node *node)
{
    pc_event_set(&node->pool_ready, 2);
    pc_event_set(&node->pool_grown, pc_event_get(&node->pool_grown) + 1);
}

bool pc_pool_grow(struct peercache_node *node)
{
    struct pc_pool_region region = {.length = next_length(node)};
    struct pc_place_region place = {.numa_node = -1};
    if (region.length < PC_REGION_LEAST) {
        return false;
    }
    if (!has_room(node, region.length, !node->said_short)) {
        node->said_short = true;
        return false;
    }
    if (!allocate(node, &region, &place)) {
        if (!pc_threads_are_stopping(node) && !node->said_short) {
            PC_ERROR("pool",
                     "no memory for region %zu, the pool stays at %zu "
                     "regions until there is",
                     node->n_regions, node->n_regions);
        }
        node->said_short = true;
        return false;
    }
    if (place.refused && pc_place_try_smaller(node, &place)) {
        release(node, &region);
        return true;
    }
    place.is_locked = lock(node, &region);
    if (!use(node, &region)) {
        return false;
    }
    pc_place_count(node, &place);
    return true;
}

void pc_pool_free(struct peercache_node *node)
{
    for (size_t i = 0; i < node->n_regions; i++) {
        release(node, &node->regions[i]);
    }
    pc_free(node->regions);
    node->regions = NULL;
    node->n_regions = 0;
}

/* ---- What the store gave up ------------------------------------------- */

#define GONE_AT_ONCE  256
#define GONE_PER_TURN 2048
#define GONE_KEPT     4096 /* Room that an empty list keeps. */

/* Oldest first; 0: there are none. */
static unsigned take_gone(struct peercache_node *node,
                          struct pc_gone_place places[GONE_AT_ONCE])
{
    (void)pthread_mutex_lock(&node->gone_lock);
    size_t n = node->n_gone - node->gone_at;
    n = n < GONE_AT_ONCE ? n : GONE_AT_ONCE;
    if (n > 0) {
        memcpy(places, node->gone + node->gone_at, n * sizeof(places[0]));
        node->gone_at += n;
    }
    if (node->gone_at == node->n_gone) {
        node->gone_at = 0;
        node->n_gone = 0;
        if (node->gone_capacity > GONE_KEPT) {
            pc_free(node->gone);
            node->gone = NULL;
            node->gone_capacity = 0;
        }
    }
    (void)pthread_mutex_unlock(&node->gone_lock);
    return (unsigned)n;
}

/* Its record goes, unless the value stays on disk: then that of the disk takes
 * its place (rule 10). */
static void tell_gone(struct peercache_node *node,
                      const struct pc_gone_place *gone)
{
    struct pc_place kept;
    if (!gone->place.on_disk &&
        pc_tier_keeps(node, &gone->place, gone->why, &kept)) {
        pc_publish_kept(node, &gone->place, &kept);
    } else {
        pc_publish_retract(node, &gone->place);
    }
}

static unsigned drain_some(struct peercache_node *node)
{
    struct pc_gone_place places[GONE_AT_ONCE];
    unsigned n = take_gone(node, places);
    for (unsigned i = 0; i < n; i++) {
        tell_gone(node, &places[i]);
    }
    return n;
}

static void gone_run(struct pc_task *task)
{
    struct peercache_node *node =
        PC_CONTAINER_OF(task, struct peercache_node, gone_task);
    /* Off before the look: what comes later queues the task again. */
    atomic_store_explicit(&node->gone_any, false, memory_order_release);
    unsigned n = 0;
    unsigned more;
    while (n < GONE_PER_TURN && (more = drain_some(node)) > 0) {
        n += more;
    }
    /* The rest in another turn. */
    if (n >= GONE_PER_TURN && !atomic_exchange_explicit(&node->gone_any, true,
                                                        memory_order_acq_rel)) {
        pc_engine_submit(&node->engine, &node->gone_task);
    }
}

static void add_gone(struct peercache_node *node, const struct pc_place *place,
                     enum pc_gone why)
{
    (void)pthread_mutex_lock(&node->gone_lock);
    if (node->n_gone == node->gone_capacity) {
        size_t n = node->gone_capacity == 0 ? 256 : node->gone_capacity * 2;
        struct pc_gone_place *gone = pc_realloc(node->gone, n, sizeof(*gone));
        if (gone != NULL) {
            node->gone = gone;
            node->gone_capacity = n;
        }
    }
    bool kept = node->n_gone < node->gone_capacity;
    if (kept) {
        node->gone[node->n_gone++] = (struct pc_gone_place){*place, why};
    }
    (void)pthread_mutex_unlock(&node->gone_lock);
    if (!kept) {
        /* The record stays and costs readers a failed proof. */
        pc_metrics_add(&node->metrics, PC_METRIC_FIFO_DROPPED, 1);
    }
    /* acq_rel: the task is queued by the one who turns the flag on. */
    if (!node->manual && !atomic_exchange_explicit(&node->gone_any, true,
                                                   memory_order_acq_rel)) {
        node->gone_task.run = gone_run;
        pc_engine_submit(&node->engine, &node->gone_task);
    }
}

void pc_pool_gone(void *arg, const struct pc_place *place, enum pc_gone why)
{
    struct peercache_node *node = arg;
    if (why == PC_GONE_EVICTED) {
        pc_metrics_add(&node->metrics, PC_METRIC_EVICTIONS, 1);
    }
    if (node->gone_test != NULL) {
        node->gone_test(node->gone_test_arg, place, why);
    }
    add_gone(node, place, why);
}

void pc_pool_gone_from_disk(struct peercache_node *node,
                            const struct pc_place *place)
{
    if (node->gone_test != NULL) {
        node->gone_test(node->gone_test_arg, place, PC_GONE_EVICTED);
    }
    add_gone(node, place, PC_GONE_EVICTED);
}

bool pc_pool_remove(struct peercache_node *node, struct pc_digest digest)
{
    struct pc_place place;
    bool pinned;
    if (!pc_store_take_out(node->store, digest, &place, &pinned)) {
        return false;
    }
    if (pinned) {
        /* Its end is told when the last pin goes, perhaps that of a write to a
         * slow disk: too late for who waits for this remove. Told twice is told
         * once (I4). */
        pc_publish_retract(node, &place);
    }
    return true;
}

unsigned pc_pool_drain_gone(struct peercache_node *node)
{
    unsigned n = 0;
    unsigned more;
    (void)pthread_mutex_lock(&node->gone_lock);
    size_t wanted = node->n_gone - node->gone_at;
    (void)pthread_mutex_unlock(&node->gone_lock);
    /* Those that are there now; others may come all the time. */
    while (n < wanted && (more = drain_some(node)) > 0) {
        n += more;
    }
    return n;
}
