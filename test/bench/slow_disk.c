/*
 * slow_disk.c - puts of a node whose disk is ten times too slow, beside those
 * of one without a disk, in pairs one right after the other; and as a limit of
 * what a disk costs a machine, those of the node without one while two plain
 * threads copy and write as much to the same file system.
 *
 *     bench_slow_disk [folder] [pairs] [ms of each] [times too slow]
 *                     [GiB of the disk]
 *                     (/tmp, 16, 150, 10, 32)
 *
 * Both nodes are in this process, alone in their clusters, with full pools of
 * the same kind. The disk is a real one below `folder` whose writes have a
 * limit of bytes a second: the tenth part of what is put without a disk,
 * measured at the start.
 *
 * A pair begins when all queues are empty, and the rate is taken once that of
 * the disk is full. Exit status 0: measured, met or not.
 */
#include "base/clock.h"
#include "disk/disk.h"
#include "node/node.h"
#include "node/tier.h"
#include "transports/socket/socket.h"

#include "put_batch.h"
#include "series.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { LANES_MAX = 2 };

#define POOL "1GiB"

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "bench_slow_disk: %s: failed\n", what);
    exit(1);
}

static void require(bool is_good, const char *what)
{
    if (!is_good) {
        die(what);
    }
}

/* Nothing here takes that long unless something is broken. */
#define PATIENCE_NS (60 * PC_S)

static void pause_ns(uint64_t ns)
{
    struct timespec step = {(time_t)(ns / PC_S), (long)(ns % PC_S)};
    (void)nanosleep(&step, NULL);
}

/* ---- The disk ----------------------------------------------------------- */

static struct
{
    pthread_mutex_t lock;
    uint64_t bytes_s; /* 0: without a limit. */
    uint64_t free_ns; /* When it has done what it was given. */
    uint64_t n_bytes;
} brake = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* One head, which all threads wait for. */
static int slow_pwrite(void *arg, int file, const void *from, size_t len,
                       uint64_t at, size_t *n_p)
{
    uint64_t now = pc_clock_monotonic();
    (void)pthread_mutex_lock(&brake.lock);
    uint64_t until = brake.free_ns > now ? brake.free_ns : now;
    until += brake.bytes_s > 0 ? len * PC_S / brake.bytes_s : 0;
    brake.free_ns = until;
    brake.n_bytes += len;
    (void)pthread_mutex_unlock(&brake.lock);
    int error = pc_disk_io_system()->pwrite(arg, file, from, len, at, n_p);
    now = pc_clock_monotonic();
    if (until > now) {
        pause_ns(until - now);
    }
    return error;
}

static uint64_t written_by_disk(void)
{
    (void)pthread_mutex_lock(&brake.lock);
    uint64_t n = brake.n_bytes;
    (void)pthread_mutex_unlock(&brake.lock);
    return n;
}

static int unlink_one(const char *path, const struct stat *about, int kind,
                      struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static char folder[4096];
static char disk_size[32];

/* Also when something has failed: its files are large. */
static void remove_folder(void)
{
    (void)nftw(folder, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- The nodes ---------------------------------------------------------- */

static void set(peercache_config_t *config, const char *name, const char *value)
{
    require(peercache_config_set(config, name, value) == PEERCACHE_OK, name);
}

static peercache_node_t *start(bool with_disk)
{
    static struct pc_disk_io slow;
    slow = *pc_disk_io_system();
    slow.pwrite = slow_pwrite;
    struct pc_node_env env = {.link_ops = pc_socket_link(),
                              .clock = pc_clock_system(),
                              .address = "127.0.0.1",
                              .random_seed = 1,
                              .wall_ns = pc_clock_wall(),
                              .disk_io = &slow};
    peercache_config_t *config;
    peercache_node_t *node;
    char name[64];
    (void)snprintf(name, sizeof(name), "slow-%d-%s", (int)getpid(),
                   with_disk ? "disk" : "none");
    require(peercache_config_create(&config) == PEERCACHE_OK, "configuration");
    set(config, "cluster_name", name);
    set(config, "node_id", name);
    set(config, "control_bind_host", "127.0.0.1");
    set(config, "global_segment_size", POOL);
    set(config, "metrics_enabled", "false");
    set(config, "log_level", "error");
    set(config, "disk_enabled", with_disk ? "true" : "false");
    if (with_disk) {
        set(config, "disk_path", folder);
        set(config, "disk_size", disk_size);
    }
    require(pc_node_create(config, &env, &node) == PEERCACHE_OK &&
                peercache_node_wait_ready(node, 10 * PC_S) == PEERCACHE_OK,
            "a node");
    peercache_config_destroy(config);
    uint64_t until = pc_clock_monotonic() + PATIENCE_NS;
    while (pc_event_get(&node->pool_ready) != 2) {
        require(pc_clock_monotonic() < until, "growing the pool");
        pause_ns(PC_MS);
    }
    require(with_disk == (node->tier != NULL), "the disk tier");
    return node;
}

static struct pc_disk_stats disk_of(const peercache_node_t *node)
{
    struct pc_disk_stats stats;
    require(pc_tier_stats(node, &stats), "the disk tier");
    return stats;
}

/* All that was queued is on the disk, so that nothing of it is written while
 * the other node is measured. */
static void settle(peercache_node_t *node)
{
    uint64_t until = pc_clock_monotonic() + PATIENCE_NS;
    while (disk_of(node).queued_bytes > 0 ||
           atomic_load_explicit(&node->tier->n_writing, memory_order_relaxed) >
               0) {
        require(pc_clock_monotonic() < until, "writing what was queued");
        pause_ns(PC_MS);
    }
    pause_ns(5 * PC_MS);
}

/* ---- Puts --------------------------------------------------------------- */

static unsigned char *sources;

struct lane
{
    peercache_node_t *node;
    unsigned number;
    uint64_t next; /* Key: each is put once. */
    uint64_t n_done;
    uint64_t end_ns;
};

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    /* So that a profiler tells them apart. */
    (void)prctl(PR_SET_NAME,
                lane->node->tier != NULL ? "put-disk" : "put-none");
    while (pc_clock_monotonic() < lane->end_ns) {
        peercache_status_t status =
            put_batch(lane->node, sources, lane->number, &lane->next);
        if (status != PEERCACHE_OK) {
            die(peercache_strerror(status));
        }
        lane->n_done += BATCH;
    }
    return NULL;
}

struct arena
{
    peercache_node_t *node;
    struct lane lanes[LANES_MAX];
};

/* Bytes a second of all lanes. */
static double run(struct arena *arena, unsigned n_lanes, uint64_t ns)
{
    pthread_t threads[LANES_MAX];
    uint64_t n = 0;
    uint64_t began = pc_clock_monotonic();
    for (unsigned i = 0; i < n_lanes; i++) {
        struct lane *lane = &arena->lanes[i];
        lane->node = arena->node;
        lane->number = i;
        lane->n_done = 0;
        lane->end_ns = began + ns;
        require(pthread_create(&threads[i], NULL, lane_main, lane) == 0,
                "a thread");
    }
    for (unsigned i = 0; i < n_lanes; i++) {
        (void)pthread_join(threads[i], NULL);
        n += arena->lanes[i].n_done;
    }
    double seconds = (double)(pc_clock_monotonic() - began) / PC_S;
    return (double)n * PAGE / seconds;
}

/* ---- The limit: plain writes beside the puts ---------------------------- */

enum { BARE_CHUNK = 1 << 20, BARE_CHUNKS = 64, BARE_WRITERS = 2 };

/* Each has its own file of a segment's size, and as the tier makes a new one
 * when it is full and gives up the old one. */
struct bare
{
    unsigned number;
    int file;
    size_t at;
    unsigned char *from; /* Larger than a cache of the core. */
    unsigned char *stage;
    atomic_bool stop;
};

static void bare_next_file(struct bare *bare)
{
    char path[sizeof(folder) + 16];
    size_t len = (size_t)BARE_CHUNK * BARE_CHUNKS;
    (void)snprintf(path, sizeof(path), "%s/plain-%u", folder, bare->number);
    if (bare->file >= 0) {
        (void)fdatasync(bare->file);
        (void)close(bare->file);
        require(unlink(path) == 0, "a plain file");
    }
    bare->file = open(path, O_CREAT | O_RDWR | O_DIRECT, 0600);
    if (bare->file < 0) { /* No direct writes: the tier has none either. */
        bare->file = open(path, O_CREAT | O_RDWR, 0600);
    }
    require(bare->file >= 0 && posix_fallocate(bare->file, 0, (off_t)len) == 0,
            "a plain file");
    bare->at = 0;
}

static void bare_open(struct bare *bare, unsigned number)
{
    size_t len = (size_t)BARE_CHUNK * BARE_CHUNKS;
    *bare = (struct bare){.number = number, .file = -1};
    bare->from = aligned_alloc(4096, len);
    bare->stage = aligned_alloc(4096, BARE_CHUNK);
    require(bare->from != NULL && bare->stage != NULL, "memory");
    memset(bare->from, 7, len);
    bare_next_file(bare);
}

static void bare_close(struct bare *bare)
{
    (void)close(bare->file);
    free(bare->from);
    free(bare->stage);
}

static void *bare_main(void *arg)
{
    struct bare *bare = arg;
    struct sched_param none = {0};
    /* As the tier's. */
    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    while (!atomic_load(&bare->stop)) {
        size_t n;
        if (bare->at == (size_t)BARE_CHUNK * BARE_CHUNKS) {
            bare_next_file(bare);
        }
        memcpy(bare->stage, bare->from + bare->at, BARE_CHUNK);
        require(slow_pwrite(NULL, bare->file, bare->stage, BARE_CHUNK, bare->at,
                            &n) == 0,
                "a plain write");
        bare->at += BARE_CHUNK;
    }
    return NULL;
}

/* ---- Pairs -------------------------------------------------------------- */

struct plan
{
    unsigned n_pairs;
    uint64_t slice_ns;
    double slower;
};

/* Half a slice for the queue to fill, and a whole one that counts. */
static double rate_of(struct arena *arena, unsigned n_lanes,
                      const struct plan *plan)
{
    (void)run(arena, n_lanes, plan->slice_ns / 2);
    return run(arena, n_lanes, plan->slice_ns);
}

/* The same puts without a disk, beside the plain writers. */
static double rate_beside(struct arena *arena, unsigned n_lanes,
                          const struct plan *plan, struct bare *bare)
{
    pthread_t threads[BARE_WRITERS];
    for (unsigned i = 0; i < BARE_WRITERS; i++) {
        atomic_store(&bare[i].stop, false);
        require(pthread_create(&threads[i], NULL, bare_main, &bare[i]) == 0,
                "a thread");
    }
    double rate = rate_of(arena, n_lanes, plan);
    for (unsigned i = 0; i < BARE_WRITERS; i++) {
        atomic_store(&bare[i].stop, true);
    }
    for (unsigned i = 0; i < BARE_WRITERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return rate;
}

static void compare(struct arena *none, struct arena *slow, unsigned n_lanes,
                    const struct plan *plan, struct bare *bare)
{
    struct series ratios = {0}, limits = {0}, ours = {0};
    double rate = 0;
    uint64_t disk_ns = 0;
    char what[64];
    brake.bytes_s = 0;
    (void)run(slow, n_lanes, PC_S); /* Both are full from here on. */
    (void)run(none, n_lanes, PC_S);
    settle(slow->node);
    rate = run(none, n_lanes, PC_S);
    brake.bytes_s = (uint64_t)(rate / plan->slower);
    uint64_t bytes = 0;
    struct pc_disk_stats before = disk_of(slow->node);
    uint64_t n_put = slow->lanes[0].next + slow->lanes[1].next;
    for (unsigned i = 0; i < plan->n_pairs; i++) {
        double without = i % 2 == 0 ? rate_of(none, n_lanes, plan) : 0;
        uint64_t began = pc_clock_monotonic();
        uint64_t before_bytes = written_by_disk();
        double with = rate_of(slow, n_lanes, plan);
        settle(slow->node);
        disk_ns += pc_clock_monotonic() - began;
        bytes += written_by_disk() - before_bytes;
        double beside = rate_beside(none, n_lanes, plan, bare);
        without = i % 2 == 0 ? without : rate_of(none, n_lanes, plan);
        series_add(&ratios, with / without);
        series_add(&limits, beside / without);
        series_add(&ours, with / beside);
    }
    struct pc_disk_stats after = disk_of(slow->node);
    n_put = slow->lanes[0].next + slow->lanes[1].next - n_put;
    (void)snprintf(what, sizeof(what), "put, slow disk / no disk, %u thread%s",
                   n_lanes, n_lanes > 1 ? "s" : "");
    series_print(&ratios, what);
    series_print(&limits, "  limit: plain writes beside / no disk");
    series_print(&ours, "  slow disk / plain writes beside");
    printf("  without a disk %.0f MiB/s; the disk took %.0f MiB/s, and of %llu "
           "values put wrote %llu\n",
           rate / (1 << 20),
           (double)bytes / (1 << 20) / ((double)disk_ns / PC_S),
           (unsigned long long)n_put,
           (unsigned long long)(after.n_written - before.n_written));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct plan plan = {
        .n_pairs = argc > 2 ? (unsigned)atoi(argv[2]) : 16,
        .slice_ns = (argc > 3 ? (uint64_t)atoi(argv[3]) : 150) * PC_MS,
        .slower = argc > 4 ? strtod(argv[4], NULL) : 10,
    };
    /* One of 2 GiB, with segments of 16 MiB, is full at once, and then makes
     * and unlinks a file every few milliseconds. */
    (void)snprintf(disk_size, sizeof(disk_size), "%uGiB",
                   argc > 5 ? (unsigned)atoi(argv[5]) : 32);
    int n = snprintf(folder, sizeof(folder), "%s/slow-disk-XXXXXX",
                     argc > 1 ? argv[1] : "/tmp");
    require(n > 0 && (size_t)n < sizeof(folder), "the folder's name");
    require(plan.n_pairs > 0 && plan.n_pairs <= SERIES_MOST &&
                plan.slice_ns > 0 && plan.slower > 0,
            "a number of the command line");
    require(mkdtemp(folder) != NULL && atexit(remove_folder) == 0,
            "the folder");
    sources = malloc((size_t)N_SOURCES * PAGE);
    require(sources != NULL, "memory");
    memset(sources, 7, (size_t)N_SOURCES * PAGE);
    struct bare bare[BARE_WRITERS];
    for (unsigned i = 0; i < BARE_WRITERS; i++) {
        bare_open(&bare[i], i);
    }
    struct arena none = {.node = start(false)};
    struct arena slow = {.node = start(true)};
    for (unsigned n_lanes = 1; n_lanes <= LANES_MAX; n_lanes++) {
        compare(&none, &slow, n_lanes, &plan, bare);
    }
    for (unsigned i = 0; i < BARE_WRITERS; i++) {
        bare_close(&bare[i]);
    }
    peercache_node_destroy(slow.node);
    peercache_node_destroy(none.node);
    free(sources);
    return 0;
}
