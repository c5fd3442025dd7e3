#include "tier.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <stdio.h>
#include <string.h>

/* Shares of the pool's bytes are of those that are there, which are fewer than
 * the setting says while it grows, or where memory is short.
 * Values that are pinned to be written: of the pool's bytes an eighth, and
 * fewer than an eviction passes over, so that slow writes never fill a pool
 * with what cannot go. */
#define WRITING_MAX   512
#define WRITING_SHARE 8
/* Of the pool's bytes: what is pinned until it is delivered, and of that what
 * one request or operation pins. */
#define PINNED_SHARE 4
#define MINE_SHARE   8
/* What the start of a node waits for the directory to answer. */
#define OPEN_NS (2 * PC_S)
/* What the end of a node waits for its queue of writes. */
#define CLOSE_NS (2 * PC_S)
/* Announced: 256 records each 5 ms at most, 51,200 a second. */
#define ANNOUNCE_SLICE    256
#define ANNOUNCE_EVERY_NS (5 * PC_MS)
#define CLEAR_SLICE       256
/* Looked at ahead of the evictor. */
#define AHEAD_MAX 64
/* How much of the pool is still free, beside what the evictor keeps free, when
 * that begins. */
#define AHEAD_SHARE 0.1

/* Cursor of a walk: the pool's, then, with this bit, the disk's. */
#define ON_DISK_BIT ((size_t)1 << (8 * sizeof(size_t) - 1))

static bool is_closing(const struct pc_tier *tier)
{
    /* acquire: pairs with the release of begin_close. */
    return atomic_load_explicit(&tier->closing, memory_order_acquire);
}

/* ---- Any thread --------------------------------------------------------- */

bool pc_tier_find(struct peercache_node *node, struct pc_digest digest,
                  struct pc_disk_place *place_p)
{
    struct pc_tier *tier = node->tier;
    return tier != NULL && !is_closing(tier) &&
           pc_disk_lookup(tier->disk, digest, place_p) &&
           place_p->length <= tier->value_max;
}

static bool is_same(const struct pc_disk_place *disk,
                    const struct pc_place *place)
{
    return disk->length == place->length && disk->checksum == place->checksum;
}

bool pc_tier_stats(const struct peercache_node *node,
                   struct pc_disk_stats *stats)
{
    struct pc_tier *tier = node->tier;
    if (tier == NULL || is_closing(tier)) {
        return false;
    }
    pc_disk_stats(tier->disk, stats);
    return true;
}

uint64_t pc_tier_pinned_bytes(const struct pc_tier *tier)
{
    /* relaxed: a gauge. */
    return atomic_load_explicit(&tier->pinned_bytes, memory_order_relaxed);
}

bool pc_tier_may_pin(struct pc_tier *tier, uint64_t mine, uint64_t length)
{
    uint64_t pool = pc_store_capacity(tier->node->store);
    /* relaxed: a bound, exact enough. */
    uint64_t all = atomic_fetch_add_explicit(&tier->pinned_bytes, length,
                                             memory_order_relaxed);
    if (all == 0 || (all + length <= pool / PINNED_SHARE &&
                     (mine == 0 || mine + length <= pool / MINE_SHARE))) {
        return true;
    }
    pc_tier_unpinned(tier, length);
    return false;
}

void pc_tier_unpinned(struct pc_tier *tier, uint64_t bytes)
{
    /* relaxed: as above. */
    atomic_fetch_sub_explicit(&tier->pinned_bytes, bytes, memory_order_relaxed);
}

/* ---- Writing ------------------------------------------------------------ */

/* What is or will be on disk, and must not be found again. The queue is never
 * full for this; what else keeps it from its tombstone keeps it from every
 * lookup too, until the next start. */
static void forget(struct pc_tier *tier, struct pc_digest digest)
{
    enum pc_disk_result result = pc_disk_remove(tier->disk, digest, NULL, NULL);
    if (result == PC_DISK_NO_MEMORY) {
        PC_WARN("disk", "no memory to remove a value for good: it may be back "
                        "after a restart");
    }
}

struct write
{
    struct pc_tier *tier;
    struct pc_pin pin;
};

static void give_room_back(struct pc_tier *tier, uint64_t length)
{
    /* relaxed: bounds, exact enough. */
    atomic_fetch_sub_explicit(&tier->writing_bytes, length,
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&tier->n_writing, 1, memory_order_relaxed);
}

static void write_over(struct write *write)
{
    struct pc_tier *tier = write->tier;
    give_room_back(tier, write->pin.place.length);
    pc_store_unpin(tier->node->store, &write->pin);
    pc_free(write);
}

static void written(void *arg, enum pc_disk_result result)
{
    (void)result; /* The disk counts what it dropped. */
    write_over(arg);
}

static bool is_wanted(const struct peercache_node *node, enum pc_tier_use use)
{
    switch (node->settings.disk_policy) {
    case PC_DISK_POLICY_EVICT:
        return use == PC_TIER_NEXT;
    case PC_DISK_POLICY_SECOND:
        return use == PC_TIER_USED;
    default:
        /* Also again: it may have been dropped when it was put. */
        return use != PC_TIER_NEXT;
    }
}

/* Room for one more pin. */
static bool take_room(struct pc_tier *tier, uint64_t length)
{
    uint64_t limit = pc_store_capacity(tier->node->store) / WRITING_SHARE;
    /* relaxed: bounds, exact enough. */
    uint32_t n =
        atomic_fetch_add_explicit(&tier->n_writing, 1, memory_order_relaxed);
    uint64_t bytes = atomic_fetch_add_explicit(&tier->writing_bytes, length,
                                               memory_order_relaxed);
    if (n < WRITING_MAX && (bytes == 0 || bytes + length <= limit)) {
        return true;
    }
    give_room_back(tier, length);
    return false;
}

static void start_write(struct pc_tier *tier, struct write *write)
{
    const struct pc_place *place = &write->pin.place;
    struct pc_disk_write request = {.digest = place->digest,
                                    .value = write->pin.addr,
                                    .length = place->length,
                                    .checksum = place->checksum,
                                    .done = written,
                                    .arg = write};
    struct pc_digest digest = place->digest;
    uint64_t generation = place->generation;
    if (pc_disk_write(tier->disk, &request) != PC_DISK_OK) {
        write_over(write);
        return;
    }
    /* A remove that came between our pin and the queue has found nothing to
     * remove there: what it has removed must not come back. */
    struct pc_place now;
    if (!pc_store_find(tier->node->store, digest, false, &now) ||
        now.generation != generation) {
        forget(tier, digest);
    }
}

/* What is not on disk, as far as the caller knows. */
static void admit(struct pc_tier *tier, const struct pc_place *place,
                  enum pc_tier_use use)
{
    struct peercache_node *node = tier->node;
    if (!take_room(tier, place->length)) {
        /* A further use of what was dropped once is no further loss. */
        bool again = use == PC_TIER_USED &&
                     node->settings.disk_policy == PC_DISK_POLICY_PUT;
        pc_metrics_add(&node->metrics, PC_METRIC_DISK_DROPPED_PINS, !again);
        return;
    }
    struct write *write = pc_alloc(1, sizeof(*write));
    if (write == NULL || !pc_store_hold(node->store, place->digest,
                                        place->generation, &write->pin)) {
        pc_free(write);
        give_room_back(tier, place->length);
        return;
    }
    write->tier = tier;
    start_write(tier, write);
}

void pc_tier_admit(struct peercache_node *node, const struct pc_place *place,
                   enum pc_tier_use use)
{
    struct pc_tier *tier = node->tier;
    struct pc_disk_place there;
    if (tier == NULL || !is_wanted(node, use) || is_closing(tier) ||
        (pc_disk_lookup(tier->disk, place->digest, &there) &&
         is_same(&there, place))) {
        return;
    }
    admit(tier, place, use);
}

bool pc_tier_wants_look(const struct peercache_node *node)
{
    return node->tier != NULL && is_wanted(node, PC_TIER_NEXT) &&
           pc_store_is_below(node->store,
                             (double)node->settings.evict_high / 1000 +
                                 AHEAD_SHARE);
}

void pc_tier_look_ahead(struct peercache_node *node)
{
    struct pc_place places[AHEAD_MAX];
    if (!pc_tier_wants_look(node)) {
        return;
    }
    size_t n = pc_store_next_out(node->store, AHEAD_MAX, places);
    for (size_t i = 0; i < n; i++) {
        pc_tier_admit(node, &places[i], PC_TIER_NEXT);
    }
}

/* ---- What the directory shall have -------------------------------------- */

static struct pc_place place_of(const struct pc_disk_place *disk)
{
    return (struct pc_place){.digest = disk->digest,
                             .generation = disk->tag,
                             .length = disk->length,
                             .checksum = disk->checksum,
                             .on_disk = true};
}

bool pc_tier_held(struct peercache_node *node, struct pc_digest digest,
                  struct pc_place *place_p)
{
    struct pc_disk_place disk;
    if (node->client) {
        return false;
    }
    if (pc_store_find(node->store, digest, false, place_p)) {
        return true;
    }
    if (!pc_tier_find(node, digest, &disk) || disk.tag == 0) {
        return false;
    }
    *place_p = place_of(&disk);
    return true;
}

static bool walk_disk(struct peercache_node *node, size_t *at, size_t max,
                      struct pc_place *places, size_t *n_p)
{
    struct pc_disk_place found[ANNOUNCE_SLICE];
    uint64_t cursor = *at & ~ON_DISK_BIT;
    if (is_closing(node->tier)) {
        return false; /* The disk may be gone already. */
    }
    size_t n =
        pc_disk_list(node->tier->disk, &cursor, found,
                     max < ANNOUNCE_SLICE ? max : (size_t)ANNOUNCE_SLICE);
    struct pc_place place;
    for (size_t i = 0; i < n; i++) {
        if (found[i].tag != 0 &&
            !pc_store_find(node->store, found[i].digest, false, &place)) {
            places[(*n_p)++] = place_of(&found[i]);
        }
    }
    *at = (size_t)cursor | ON_DISK_BIT;
    return n > 0;
}

bool pc_tier_walk(struct peercache_node *node, size_t *at, size_t max,
                  struct pc_place *places, size_t *n_p)
{
    *n_p = 0;
    if ((*at & ON_DISK_BIT) == 0) {
        if (pc_store_walk(node->store, at, max, places, n_p)) {
            return true;
        }
        *at = ON_DISK_BIT;
        return node->tier != NULL;
    }
    return node->tier != NULL && walk_disk(node, at, max, places, n_p);
}

/* ---- Seals and evictions ------------------------------------------------ */

/* Another value of this key is on disk, or was when its record was written: it
 * must not come back, neither after an eviction nor after a restart. True: the
 * value itself is there. */
static bool drop_other(struct peercache_node *node,
                       const struct pc_place *place)
{
    struct pc_disk_place disk;
    if (!pc_disk_lookup(node->tier->disk, place->digest, &disk)) {
        return false;
    }
    if (is_same(&disk, place)) {
        return true;
    }
    pc_metrics_add(&node->metrics, PC_METRIC_DISK_SUPERSEDED, 1);
    forget(node->tier, place->digest);
    return false;
}

void pc_tier_sealed(struct peercache_node *node, const struct pc_place *place)
{
    /* One look at the disk's index for both, for each put pays for it. */
    if (node->tier != NULL && !is_closing(node->tier) &&
        !drop_other(node, place) && is_wanted(node, PC_TIER_PUT)) {
        admit(node->tier, place, PC_TIER_PUT);
    }
}

/* A value was replaced by a put of another one while it was being written: its
 * record is newer on disk than the put's look at it. */
static void drop_replaced(struct peercache_node *node,
                          const struct pc_place *gone)
{
    struct pc_disk_place disk;
    struct pc_place now;
    if (pc_disk_lookup(node->tier->disk, gone->digest, &disk) &&
        is_same(&disk, gone) &&
        pc_store_find(node->store, gone->digest, false, &now) &&
        !is_same(&disk, &now)) {
        pc_tier_sealed(node, &now);
    }
}

bool pc_tier_keeps(struct peercache_node *node, const struct pc_place *gone,
                   enum pc_gone why, struct pc_place *place_p)
{
    struct pc_tier *tier = node->tier;
    struct pc_disk_place disk;
    struct pc_place now;
    if (tier == NULL || is_closing(tier)) {
        return false;
    }
    if (why == PC_GONE_REPLACED) {
        drop_replaced(node, gone);
    }
    if (why != PC_GONE_EVICTED || tier->n_clearing > 0 ||
        pc_store_find(node->store, gone->digest, false, &now)) {
        return false; /* Or it is back already, under a newer generation. */
    }
    if (!pc_disk_lookup(tier->disk, gone->digest, &disk)) {
        pc_metrics_add(&node->metrics, PC_METRIC_DISK_NOT_WRITTEN, 1);
        return false;
    }
    if (!is_same(&disk, gone)) {
        (void)drop_other(node, gone); /* Found late, or written too late. */
        return false;
    }
    disk.tag = pc_store_take_generation(node->store);
    if (!pc_disk_set_tag(tier->disk, disk.digest, disk.length, disk.tag)) {
        return false;
    }
    *place_p = place_of(&disk);
    return true;
}

/* ---- Announcing what was found ------------------------------------------ */

/* A lane that is drained rests the walk, as in republish.c. */
static bool must_rest(const struct peercache_node *node)
{
    return node->republish.listing ||
           node->publisher.n_moved >= PC_MOVED_MAX / 2;
}

static void announce_one(struct peercache_node *node,
                         struct pc_disk_place *disk)
{
    struct pc_place place;
    if (pc_store_find(node->store, disk->digest, false, &place)) {
        if (!is_same(disk, &place)) {
            (void)drop_other(node, &place);
        }
        return; /* The directory has that record. */
    }
    if (disk->length > node->tier->value_max) {
        pc_metrics_add(&node->metrics, PC_METRIC_DISK_UNFIT, 1);
        return;
    }
    disk->tag = pc_store_take_generation(node->store);
    if (pc_disk_set_tag(node->tier->disk, disk->digest, disk->length,
                        disk->tag)) {
        place = place_of(disk);
        pc_republish_tell(node, &place);
        pc_metrics_add(&node->metrics, PC_METRIC_DISK_ANNOUNCED, 1);
    }
}

/* Some more; false: this pass has come to its end. */
static bool announce_some(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    struct pc_disk_place found[ANNOUNCE_SLICE];
    size_t n = pc_disk_list(tier->disk, &tier->cursor, found, ANNOUNCE_SLICE);
    for (size_t i = 0; i < n; i++) {
        if (found[i].tag == 0) {
            announce_one(node, &found[i]);
        }
    }
    return n > 0;
}

static void announce(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_tier *tier = PC_CONTAINER_OF(timer, struct pc_tier, timer);
    struct peercache_node *node = tier->node;
    bool rest = !node->view_ready || tier->n_clearing > 0 || must_rest(node);
    if (is_closing(tier)) {
        return;
    }
    if (!rest && !announce_some(node)) {
        if (tier->last_pass) {
            tier->announced = true;
            return;
        }
        tier->cursor = 0; /* What was indexed behind the cursor: once more. */
        tier->last_pass = !pc_disk_recovering(tier->disk);
    }
    pc_engine_timer_start(&node->engine, timer, now_ns + ANNOUNCE_EVERY_NS);
}

/* From the disk, any thread: the record is to be retracted. */
static void gone(void *arg, const struct pc_disk_place *place,
                 enum pc_disk_gone why)
{
    struct pc_tier *tier = arg;
    struct pc_place was = place_of(place);
    (void)why; /* Counted by the disk. */
    if (place->tag != 0) {
        pc_pool_gone_from_disk(tier->node, &was);
    }
}

/* ---- Removing ----------------------------------------------------------- */

struct pc_tier_fence
{
    struct peercache_node *node;
    struct pc_task task;
    struct pc_timer deadline;
    _Atomic uint32_t n_open; /* Tombstones, and the one who begins. */
    _Atomic bool unsafe;
    bool told;
    void (*done)(void *arg, bool safe);
    void *arg;
};

static void fence_tell(struct pc_tier_fence *fence, bool safe)
{
    if (!fence->told) {
        fence->told = true;
        fence->done(fence->arg, safe);
    }
}

static void fence_over(struct pc_task *task)
{
    struct pc_tier_fence *fence =
        PC_CONTAINER_OF(task, struct pc_tier_fence, task);
    pc_engine_timer_stop(&fence->node->engine, &fence->deadline);
    /* relaxed: the task's submission has ordered it. */
    fence_tell(fence,
               !atomic_load_explicit(&fence->unsafe, memory_order_relaxed));
    pc_free(fence);
}

static void fence_late(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    fence_tell(PC_CONTAINER_OF(timer, struct pc_tier_fence, deadline), false);
}

static void fence_leave(struct pc_tier_fence *fence)
{
    /* acq_rel: the last one sees what the others found. */
    if (atomic_fetch_sub_explicit(&fence->n_open, 1, memory_order_acq_rel) ==
        1) {
        pc_engine_submit(&fence->node->engine, &fence->task);
    }
}

/* Any thread. */
static void tombstone(void *arg, enum pc_disk_result result)
{
    struct pc_tier_fence *fence = arg;
    if (result != PC_DISK_OK && result != PC_DISK_ABSENT) {
        /* relaxed: fence_leave orders it. */
        atomic_store_explicit(&fence->unsafe, true, memory_order_relaxed);
    }
    fence_leave(fence);
}

/* Nobody waits for it: who removes without a fence has said so already. */
static void not_confirmed(void *arg, enum pc_disk_result result)
{
    (void)arg;
    (void)result;
}

struct pc_tier_fence *pc_tier_fence_begin(struct peercache_node *node)
{
    struct pc_tier_fence *fence = node->tier != NULL && !is_closing(node->tier)
                                      ? pc_alloc(1, sizeof(*fence))
                                      : NULL;
    if (fence != NULL) {
        fence->node = node;
        fence->task.run = fence_over;
        atomic_init(&fence->n_open, 1);
        pc_engine_timer_init(&fence->deadline, fence_late);
    }
    return fence;
}

void pc_tier_fence_end(struct pc_tier_fence *fence, uint64_t wait_ns,
                       void (*done)(void *arg, bool safe), void *arg)
{
    struct pc_engine *engine = &fence->node->engine;
    fence->done = done;
    fence->arg = arg;
    pc_engine_timer_start(engine, &fence->deadline,
                          pc_engine_now(engine) + wait_ns);
    fence_leave(fence);
}

bool pc_tier_remove(struct peercache_node *node, struct pc_digest digest,
                    struct pc_tier_fence *fence)
{
    struct pc_disk_place disk;
    if (node->tier == NULL || is_closing(node->tier)) {
        return false;
    }
    bool there = pc_disk_lookup(node->tier->disk, digest, &disk);
    if (there && disk.tag != 0) {
        struct pc_place place = place_of(&disk);
        pc_publish_retract(node, &place);
    }
    if (fence == NULL) {
        (void)pc_disk_remove(node->tier->disk, digest, not_confirmed, NULL);
        return there;
    }
    /* relaxed: it is not over while we are in it. */
    atomic_fetch_add_explicit(&fence->n_open, 1, memory_order_relaxed);
    if (pc_disk_remove(node->tier->disk, digest, tombstone, fence) !=
        PC_DISK_OK) {
        tombstone(fence, PC_DISK_IO);
    }
    return there;
}

bool pc_tier_clear_begin(struct peercache_node *node)
{
    if (node->tier == NULL) {
        return false;
    }
    node->tier->n_clearing++;
    return true;
}

bool pc_tier_clear_some(struct peercache_node *node, uint64_t *cursor,
                        uint64_t *n_gone)
{
    struct pc_disk_place found[CLEAR_SLICE];
    struct pc_place place;
    if (node->tier == NULL || is_closing(node->tier)) {
        return false;
    }
    size_t n = pc_disk_list(node->tier->disk, cursor, found, CLEAR_SLICE);
    for (size_t i = 0; i < n; i++) {
        if (pc_store_find(node->store, found[i].digest, false, &place)) {
            continue;
        }
        (*n_gone)++;
        if (found[i].tag != 0) {
            place = place_of(&found[i]);
            pc_publish_retract(node, &place);
        }
    }
    return n > 0;
}

void pc_tier_clear(struct peercache_node *node, struct pc_tier_fence *fence)
{
    /* relaxed: it is not over while we are in it. */
    atomic_fetch_add_explicit(&fence->n_open, 1, memory_order_relaxed);
    if (pc_disk_clear(node->tier->disk, tombstone, fence) != PC_DISK_OK) {
        tombstone(fence, PC_DISK_IO);
    }
}

void pc_tier_clear_over(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    if (tier == NULL || --tier->n_clearing > 0 || is_closing(tier)) {
        return;
    }
    /* What left the pool meanwhile got no record, and stays on disk if the
     * clear did not come to its end: it is announced now. */
    tier->cursor = 0;
    tier->last_pass = false;
    tier->announced = false;
    pc_engine_timer_start(&node->engine, &tier->timer,
                          pc_engine_now(&node->engine) + ANNOUNCE_EVERY_NS);
}

/* ---- Life ---------------------------------------------------------------- */

static enum pc_disk_sync sync_of(const struct pc_settings *settings)
{
    switch (settings->disk_fsync) {
    case PC_DISK_FSYNC_NEVER:
        return PC_DISK_SYNC_NEVER;
    case PC_DISK_FSYNC_ALWAYS:
        return PC_DISK_SYNC_ALWAYS;
    default:
        return PC_DISK_SYNC_SEAL;
    }
}

/* An id may be made of dots; a directory must not be ".." */
static void path_of(const struct peercache_node *node, char *path, size_t len)
{
    const char *id = node->self.id.text;
    size_t n = strlen(node->settings.disk_path);
    const char *slash =
        n > 0 && node->settings.disk_path[n - 1] == '/' ? "" : "/";
    (void)snprintf(path, len, "%s%s%s%s", node->settings.disk_path, slash,
                   id[0] == '.' ? "_" : "", id);
}

static bool open_disk(struct pc_tier *tier, const char *path,
                      const struct pc_disk_io *io)
{
    struct peercache_node *node = tier->node;
    const struct pc_settings *s = &node->settings;
    char *error = NULL;
    struct pc_disk_params params = {
        .path = path,
        .node_id = node->self.id.text,
        .seed = node->digest_seed,
        .size = s->disk_size,
        .queue_bytes = s->disk_queue,
        .n_threads = node->manual ? 0 : (uint32_t)s->disk_threads,
        .sync = sync_of(s),
        .io = io,
        .clock = node->clock,
        .open_ns = OPEN_NS,
        .gone = gone,
        .arg = tier,
    };
    peercache_status_t status = pc_disk_open(&params, &tier->disk, &error);
    if (status != PEERCACHE_OK) {
        PC_WARN("disk",
                "no disk tier (disk_path %s): %s; values are kept in "
                "memory only",
                path, error != NULL ? error : peercache_strerror(status));
    }
    pc_free(error);
    return status == PEERCACHE_OK;
}

static void turn_is_due(struct pc_timer *timer, uint64_t now_ns)
{
    (void)timer; /* It has made a turn: that is all. */
    (void)now_ns;
}

void pc_tier_open(struct peercache_node *node, const struct pc_disk_io *io,
                  uint64_t turn_ns)
{
    char path[PEERCACHE_STR_MAX + PC_NODE_ID_MAX + 4];
    if (!node->settings.disk_enabled || node->client) {
        return;
    }
    struct pc_tier *tier = pc_alloc(1, sizeof(*tier));
    if (tier == NULL) {
        return;
    }
    tier->node = node;
    tier->value_max = pc_store_value_max(
        node->settings.region_size < node->settings.global_segment_size
            ? node->settings.region_size
            : node->settings.global_segment_size);
    pc_promote_init(tier);
    pc_list_init(&tier->errands);
    pc_list_init(&tier->answering);
    pc_engine_timer_init(&tier->timer, announce);
    pc_engine_timer_init(&tier->turn_timer, turn_is_due);
    tier->turn_ns = turn_ns;
    path_of(node, path, sizeof(path));
    if (!open_disk(tier, path, io)) {
        pc_map_fini(&tier->promotions);
        pc_free(tier);
        return;
    }
    struct pc_disk_stats stats;
    pc_disk_stats(tier->disk, &stats);
    if (stats.state != PC_DISK_OPENING) { /* Which is said already. */
        PC_INFO("disk", "disk tier at %s, at most %llu bytes", path,
                (unsigned long long)node->settings.disk_size);
    }
    node->tier = tier;
    pc_engine_timer_start(&node->engine, &tier->timer,
                          pc_engine_now(&node->engine) + ANNOUNCE_EVERY_NS);
}

void pc_tier_begin_close(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    if (tier != NULL && !is_closing(tier)) {
        /* release: pairs with is_closing. */
        atomic_store_explicit(&tier->closing, true, memory_order_release);
        pc_engine_timer_stop(&node->engine, &tier->timer);
        tier->turn_ns = 0; /* What is left is done at once. */
        tier->next_turn_ns = 0;
        pc_engine_timer_stop(&node->engine, &tier->turn_timer);
        pc_promote_begin_close(tier);
        pc_errand_end_all(node);
    }
}

void pc_tier_close(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    if (tier == NULL) {
        return;
    }
    if (!pc_disk_close(tier->disk, CLOSE_NS)) {
        PC_WARN("disk", "a thread still hangs in the disk; the directory stays "
                        "locked until it returns");
    }
    tier->disk = NULL;
}

void pc_tier_fini(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    if (tier != NULL) {
        PC_ASSERT(pc_list_is_empty(&tier->errands) &&
                  pc_list_is_empty(&tier->answering) &&
                  tier->promotions.n_used == 0);
        pc_map_fini(&tier->promotions);
        pc_free(tier);
        node->tier = NULL;
    }
}

unsigned pc_tier_turn(struct peercache_node *node)
{
    struct pc_tier *tier = node->tier;
    uint64_t now_ns = pc_engine_now(&node->engine);
    if (tier == NULL || tier->disk == NULL) {
        return 0;
    }
    if (now_ns >= tier->next_turn_ns && pc_disk_turn(tier->disk)) {
        tier->next_turn_ns = now_ns + tier->turn_ns;
        if (tier->turn_ns > 0) {
            pc_engine_timer_start(&node->engine, &tier->turn_timer,
                                  tier->next_turn_ns);
        }
        return 1;
    }
    return 0;
}
