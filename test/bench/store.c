/*
 * store.c - what the pool costs, beside what a copy and a checksum cost:
 * extents, utilisation under churn, puts into a full pool, bookkeeping.
 *
 * usage: bench_store [SECONDS [PART ...]]
 *
 * SECONDS of each timed row (2); PART: extents, utilisation, memory, store,
 * node (all).
 *
 * Prints one row a figure: measured, target, met or missed. Never part of the
 * tests: times depend on the machine. Exit status 0: measured, met or not.
 */
#include "store/store.h"
#include <peercache/peercache.h>

#include "base/digest.h"
#include "base/rand.h"
#include "store/extent.h"

#include "put_batch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 2 };

/* Half of the default size of a pool. */
#define POOL (2048ull << 20)

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void require(bool is_good, const char *what)
{
    if (!is_good) {
        (void)fprintf(stderr, "bench_store: %s failed\n", what);
        exit(1);
    }
}

static void row(const char *what, double measured, int digits, double target,
                bool is_most)
{
    char text[32];
    char bound[32];
    (void)snprintf(text, sizeof(text), "%.*f", digits, measured);
    (void)snprintf(bound, sizeof(bound), "%.*f", digits, target);
    bool met = is_most ? measured <= target : measured >= target;
    printf("| %-52s | %10s | %s %8s | %-6s |\n", what, text,
           is_most ? "<=" : ">=", bound, met ? "met" : "missed");
    (void)fflush(stdout);
}

/* Not touched before it is used; or touched, in huge pages where there are. */
static void *map(uint64_t length, bool touched)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    if (touched) {
        (void)madvise(memory, length, MADV_HUGEPAGE);
        memset(memory, 1, length);
        memset(memory, 0, length);
    }
    return memory;
}

static struct pc_store *make_store(void *memory, uint64_t length)
{
    struct pc_store_params params = {
        .incarnation = 1,
        .nonce_seed = 1,
        .max_regions = 1,
        .policy = pc_evict_s3fifo(),
    };
    uint32_t index;
    struct pc_store *store = pc_store_create(&params);
    require(store != NULL && pc_store_add_region(store, memory, length,
                                                 &index) == PEERCACHE_OK,
            "the store");
    return store;
}

static struct pc_digest key(uint64_t n)
{
    uint64_t x = (n + 1) * 0x9e3779b97f4a7c15ull;
    return (struct pc_digest){x ^ x >> 31, n * 0xd6e8feb86659fd93ull + 7};
}

static bool put_empty(struct pc_store *store, uint64_t n, uint64_t length)
{
    struct pc_reservation reservation;
    struct pc_pin pin;
    if (pc_store_reserve(store, key(n), length, &reservation) != PEERCACHE_OK) {
        return false;
    }
    pc_store_seal(store, &reservation, 0, &pin);
    pc_store_unpin(store, &pin);
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

/* ---- Extents ------------------------------------------------------------ */

/* A million live runs of 1 to 8 granules in random places: one goes, one comes.
 */
static void bench_extents(double seconds)
{
    enum { LIVE = 1000000, AT_ONCE = 4096 };
    static struct
    {
        uint32_t first, n;
    } live[LIVE];
    struct pc_extents *extents = pc_extents_create(5 * LIVE);
    struct pc_rand rand;
    pc_rand_init(&rand, 3);
    require(extents != NULL, "extents");
    for (uint32_t i = 0; i < LIVE; i++) {
        live[i].n = 1 + (uint32_t)(pc_rand_u64(&rand) % 8);
        require(pc_extents_alloc(extents, live[i].n, &live[i].first),
                "an extent");
    }
    uint64_t n_done = 0;
    uint64_t n_full = 0;
    uint64_t begin = now_ns();
    uint64_t end = begin + (uint64_t)(seconds * 1e9);
    while (now_ns() < end) {
        for (int i = 0; i < AT_ONCE; i++) {
            uint64_t x = pc_rand_u64(&rand);
            uint32_t at = (uint32_t)(x >> 32) % LIVE;
            uint32_t n = 1 + (uint32_t)(x % 8);
            pc_extents_free(extents, live[at].first, live[at].n);
            if (!pc_extents_alloc(extents, n, &live[at].first)) {
                n = 1;
                n_full++;
                require(pc_extents_alloc(extents, n, &live[at].first),
                        "an extent");
            }
            live[at].n = n;
        }
        n_done += AT_ONCE;
    }
    double ns = (double)(now_ns() - begin) / (double)n_done;
    row("extents: allocation + free at 1 M live, ns", ns, 0, 300, true);
    printf("|   of these %llu of %llu did not fit at once\n",
           (unsigned long long)n_full, (unsigned long long)n_done);
    pc_extents_destroy(extents);
}

/* ---- Utilisation -------------------------------------------------------- */

struct mix
{
    const char *name;
    uint64_t lengths[6];
    double target;
};

/* Each size gets about the same bytes. Ten times the pool goes through; over
 * the last half of that the least part of the pool that held values' bytes. */
static void bench_mix(const struct mix *mix)
{
    enum { POOL_BYTES = 1 << 30 };
    void *memory = map(POOL_BYTES, false);
    struct pc_store *store = make_store(memory, POOL_BYTES);
    struct pc_store_stats stats;
    struct pc_rand rand;
    pc_rand_init(&rand, 5);
    size_t n = 0;
    uint64_t longest = 0;
    for (; n < 6 && mix->lengths[n] != 0; n++) {
        longest = mix->lengths[n] > longest ? mix->lengths[n] : longest;
    }
    uint64_t turn[6] = {0};
    uint64_t put = 0;
    uint64_t live = 0;
    double least = 1;
    for (uint64_t k = 0; put < 10ull * POOL_BYTES; k++) {
        size_t which = pc_rand_u64(&rand) % n;
        for (size_t i = 0; i < n; i++) {
            which = turn[i] < turn[which] ? i : which;
        }
        /* Not quite in turn: a burst of one size now and then. */
        uint64_t burst = pc_rand_u64(&rand) % 16 == 0 ? 32 : 1;
        for (; burst > 0; burst--, k++) {
            require(put_empty(store, k, mix->lengths[which]), "a put");
            put += mix->lengths[which];
            turn[which] += mix->lengths[which];
        }
        if (put > 5ull * POOL_BYTES && k % 64 < 2) {
            struct pc_place places[256];
            size_t at = 0;
            size_t n_found;
            live = 0;
            while (pc_store_list(store, &at, 256, places, &n_found)) {
                for (size_t i = 0; i < n_found; i++) {
                    live += places[i].length;
                }
            }
            pc_store_stats(store, &stats);
            double used = (double)live / (double)stats.capacity;
            least = used < least ? used : least;
        }
    }
    pc_store_stats(store, &stats);
    char what[80];
    (void)snprintf(what, sizeof(what), "utilisation: %s", mix->name);
    row(what, least, 3, mix->target, false);
    printf("|   of the whole pool with its slot table: %.3f; %llu of %llu "
           "values left\n",
           least * (double)stats.capacity / POOL_BYTES,
           (unsigned long long)stats.evictions,
           (unsigned long long)(stats.evictions + stats.n_values));
    pc_store_destroy(store);
    (void)munmap(memory, POOL_BYTES);
}

static void bench_utilisation(void)
{
    static const struct mix mixes[] = {
        {"one size, 70272 bytes", {70272}, 0.95},
        {"one size, 131072 bytes", {131072}, 0.95},
        {"one size, 4497408 bytes", {4497408}, 0.95},
        {"70272, 131072, 4497408 bytes", {70272, 131072, 4497408}, 0.90},
        {"4497408, 515328, 1048576, 262144 bytes",
         {4497408, 515328, 1048576, 262144},
         0.90},
        {"70272, 40960, 36864, 655360 bytes",
         {70272, 40960, 36864, 655360},
         0.90},
    };
    for (size_t i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++) {
        bench_mix(&mixes[i]);
    }
}

/* ---- Bookkeeping -------------------------------------------------------- */

static void bench_memory(void)
{
    static const uint64_t lengths[] = {64, 2048, 4096, 70272};
    for (size_t i = 0; i < 4; i++) {
        uint64_t length = 2048ull << 20;
        void *memory = map(length, false);
        struct pc_store *store = make_store(memory, length);
        struct pc_store_stats stats;
        double worst = 0;
        for (uint64_t k = 0; k < 3 * length / lengths[i] && k < 600000; k++) {
            require(put_empty(store, k, lengths[i]), "a put");
            if (k >= 16384 && k % 64 == 0) {
                pc_store_stats(store, &stats);
                double each =
                    (double)stats.index_bytes / (double)stats.n_values;
                worst = each > worst ? each : worst;
            }
        }
        char what[80];
        (void)snprintf(what, sizeof(what),
                       "bookkeeping of a value of %llu bytes, bytes",
                       (unsigned long long)lengths[i]);
        row(what, worst, 1, 128, true);
        pc_store_destroy(store);
        (void)munmap(memory, length);
    }
}

/* ---- Puts into a full pool ---------------------------------------------- */

struct lane
{
    struct arena *arena;
    unsigned number;
    uint64_t n_done;
    uint64_t next; /* Key, or place in the raw pool. */
    double *times; /* Of single pages, in ns; NULL: not wanted. */
    size_t n_times, max_times;
};

/* What pages are put into: a store, a node, or (neither) memory. */
struct arena
{
    struct pc_store *store;
    peercache_node_t *node;
    unsigned char *raw;
    unsigned char *sources;
    unsigned n_lanes;
    bool checksum;
    uint64_t end_ns;
};

static void put_page(struct lane *lane)
{
    struct arena *arena = lane->arena;
    peercache_piece_t piece = {arena->sources + (lane->next % N_SOURCES) * PAGE,
                               PAGE};
    uint64_t n = lane->next++;
    if (arena->store != NULL) {
        struct pc_reservation reservation;
        struct pc_pin pin;
        require(pc_store_reserve(arena->store,
                                 key(n * THREADS_MAX + lane->number), PAGE,
                                 &reservation) == PEERCACHE_OK,
                "a reservation");
        uint64_t sum = pc_copy_checksum(reservation.addr, &piece, 1);
        pc_store_seal(arena->store, &reservation, sum, &pin);
        pc_store_unpin(arena->store, &pin);
        return;
    }
    uint64_t share = POOL / PAGE / arena->n_lanes;
    unsigned char *to = arena->raw + (lane->number * share + n % share) * PAGE;
    memcpy(to, piece.addr, PAGE);
    if (arena->checksum) {
        volatile uint64_t sum = pc_checksum(to, PAGE);
        (void)sum;
    }
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    for (uint64_t before = now_ns(); before < lane->arena->end_ns;) {
        if (lane->arena->node != NULL) {
            require(put_batch(lane->arena->node, lane->arena->sources,
                              lane->number, &lane->next) == PEERCACHE_OK,
                    "a put of the node");
            lane->n_done += BATCH;
        } else {
            put_page(lane);
            lane->n_done++;
        }
        uint64_t after = now_ns();
        if (lane->times != NULL && lane->n_times < lane->max_times) {
            lane->times[lane->n_times++] = (double)(after - before);
        }
        before = after;
    }
    return NULL;
}

/* Pages a second of all lanes. */
static double run(struct arena *arena, struct lane *lanes, uint64_t ns)
{
    pthread_t threads[THREADS_MAX];
    uint64_t n = 0;
    uint64_t begin = now_ns();
    arena->end_ns = begin + ns;
    for (unsigned i = 0; i < arena->n_lanes; i++) {
        lanes[i].arena = arena;
        lanes[i].number = i;
        lanes[i].n_done = 0;
        if (i > 0) {
            require(pthread_create(&threads[i], NULL, lane_main, &lanes[i]) ==
                        0,
                    "a thread");
        }
    }
    (void)lane_main(&lanes[0]);
    for (unsigned i = 0; i < arena->n_lanes; i++) {
        if (i > 0) {
            (void)pthread_join(threads[i], NULL);
        }
        n += lanes[i].n_done;
    }
    return (double)n * 1e9 / (double)(now_ns() - begin);
}

static double tail(struct lane *lane)
{
    qsort(lane->times, lane->n_times, sizeof(*lane->times), compare);
    return lane->times[lane->n_times * 99 / 100] /
           lane->times[lane->n_times / 2];
}

enum { SLICE_NS = 20000000, PAIRS_MAX = 1000 };

static size_t pairs_of(double seconds)
{
    size_t n = (size_t)(seconds * 1e9 / (2.0 * SLICE_NS));
    return n < PAIRS_MAX ? n + 1 : PAIRS_MAX;
}

/* Slices of ours and of the limit alternate; the median of their ratios. */
static void bench_rates(struct arena *ours, struct arena *limit,
                        const char *name, double seconds)
{
    struct lane our_lanes[THREADS_MAX] = {{0}};
    struct lane limit_lanes[THREADS_MAX] = {{0}};
    double ratios[PAIRS_MAX];
    size_t n_pairs = pairs_of(seconds);
    for (unsigned n_lanes = 1; n_lanes <= THREADS_MAX; n_lanes++) {
        ours->n_lanes = n_lanes;
        limit->n_lanes = n_lanes;
        (void)run(ours, our_lanes, 500000000); /* Full from here on. */
        for (size_t i = 0; i < n_pairs; i++) {
            double rate = run(ours, our_lanes, SLICE_NS);
            ratios[i] = rate / run(limit, limit_lanes, SLICE_NS);
        }
        char what[80];
        (void)snprintf(what, sizeof(what), "%s, %u thread%s", name, n_lanes,
                       n_lanes > 1 ? "s" : "");
        row(what, median(ratios, n_pairs), 3, 0.90, false);
    }
}

static void bench_tail(struct arena *ours, struct arena *limit, double seconds)
{
    enum { TIMES = 1 << 20 };
    struct lane our_lane = {.times = calloc(TIMES, sizeof(double)),
                            .max_times = TIMES,
                            .next = 1ull << 40};
    struct lane limit_lane = {.times = calloc(TIMES, sizeof(double)),
                              .max_times = TIMES};
    require(our_lane.times != NULL && limit_lane.times != NULL, "memory");
    ours->n_lanes = 1;
    limit->n_lanes = 1;
    limit->checksum = false;
    for (size_t i = 0; i < pairs_of(seconds); i++) {
        (void)run(ours, &our_lane, SLICE_NS);
        (void)run(limit, &limit_lane, SLICE_NS);
    }
    double at_put = tail(&our_lane);
    double at_copy = tail(&limit_lane);
    row("put when full: p99/p50 over that of memcpy", at_put / at_copy, 2, 1.5,
        true);
    printf("|   p99/p50 %.2f (p50 %.1f us) over %.2f (p50 %.1f us)\n", at_put,
           our_lane.times[our_lane.n_times / 2] / 1e3, at_copy,
           limit_lane.times[limit_lane.n_times / 2] / 1e3);
    free(our_lane.times);
    free(limit_lane.times);
}

static void bench_store_puts(unsigned char *sources, double seconds)
{
    unsigned char *memory = map(POOL, true);
    unsigned char *raw = map(POOL, true);
    struct arena ours = {.store = make_store(memory, POOL), .sources = sources};
    struct arena limit = {.raw = raw, .sources = sources, .checksum = true};
    bench_rates(&ours, &limit, "store: put of 128 KiB when full", seconds);
    bench_tail(&ours, &limit, seconds);
    pc_store_destroy(ours.store);
    (void)munmap(memory, POOL);
    (void)munmap(raw, POOL);
}

static void set(peercache_config_t *config, const char *name, const char *value)
{
    require(peercache_config_set(config, name, value) == PEERCACHE_OK, name);
}

/* A cluster of one: what a put costs beside the copy when nobody else has to
 * be told. */
static void bench_node_puts(unsigned char *sources, double seconds)
{
    peercache_config_t *config;
    peercache_node_t *node;
    char name[32];
    (void)snprintf(name, sizeof(name), "bench-%d", (int)getpid());
    require(peercache_config_create(&config) == PEERCACHE_OK, "configuration");
    set(config, "cluster_name", name);
    set(config, "node_id", name);
    set(config, "control_bind_host", "127.0.0.1");
    set(config, "global_segment_size", "2GiB");
    set(config, "disk_enabled", "false");
    set(config, "metrics_enabled", "false");
    set(config, "log_level", "error");
    require(peercache_node_create(config, &node) == PEERCACHE_OK &&
                peercache_node_wait_ready(node, 10000000000u) == PEERCACHE_OK,
            "the node");
    peercache_config_destroy(config);
    /* As the node's pool: faulted in, in the kernel's default pages. */
    unsigned char *raw = map(POOL, false);
    memset(raw, 0, POOL);
    struct arena ours = {.node = node, .sources = sources};
    struct arena limit = {.raw = raw, .sources = sources, .checksum = true};
    bench_rates(&ours, &limit, "node of one: put of 32 x 128 KiB when full",
                seconds);
    peercache_node_destroy(node);
    (void)munmap(raw, POOL);
}

static bool is_wanted(int argc, char **argv, const char *part)
{
    bool wanted = argc <= 2;
    for (int i = 2; i < argc; i++) {
        wanted = wanted || strcmp(argv[i], part) == 0;
    }
    return wanted;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    require(seconds > 0 && seconds <= 60, "the number of seconds");
    if (is_wanted(argc, argv, "extents")) {
        bench_extents(seconds);
    }
    if (is_wanted(argc, argv, "utilisation")) {
        bench_utilisation();
    }
    if (is_wanted(argc, argv, "memory")) {
        bench_memory();
    }
    unsigned char *sources = map((uint64_t)N_SOURCES * PAGE, true);
    printf("| of memcpy + XXH3:\n");
    if (is_wanted(argc, argv, "store")) {
        bench_store_puts(sources, seconds);
    }
    if (is_wanted(argc, argv, "node")) {
        bench_node_puts(sources, seconds);
    }
    (void)munmap(sources, (uint64_t)N_SOURCES * PAGE);
    return 0;
}
