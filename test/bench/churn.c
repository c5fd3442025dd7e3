/*
 * churn.c - the memory of a process that stores, reads and removes at full
 * speed for long, against what its settings allow.
 *
 * usage: bench_churn [SECONDS [POOL_MIB [ROWS [FOLDER DISK_MIB]]]]
 *                     (60, 256, 12, no disk tier)
 *
 * Two nodes of one cluster in this process, two threads each: puts, gets,
 * exists and removes of values of many sizes, from a key space of eight times
 * the pools, so that both evict all the time; with FOLDER, what is evicted goes
 * to a disk tier of DISK_MIB a node there. Every value that is read is checked
 * in each block of 512 bytes. Prints a row each SECONDS / ROWS; calls that ran
 * out of time, as they do beside other work, are counted. Exit status: 0; 1: a
 * wrong byte, a failed call, or more memory or disk than allowed.
 */
#include <peercache/peercache.h>

#include "base/rand.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NODES = 2,
    LANES = 2,
    BATCH = 16,
    VALUE_MAX = 4497408,
    KEY_LEN = 24,
    BLOCK = 512
};

/* What a call may hold beside the nodes: buffers of the lanes. */
#define LANE_BYTES ((uint64_t)BATCH * VALUE_MAX)

static const uint64_t sizes[] = {64,     700,     2048,   4096,   8448,
                                 36864,  40960,   70272,  131072, 131072,
                                 262144, 1048576, 4497408};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct lane
{
    peercache_node_t *node;
    unsigned char *buffer; /* Touched at once, so that it counts from start. */
    struct pc_rand rand;
    _Atomic uint64_t n_calls, n_put, n_read, n_late, put_bytes;
    pthread_t thread;
};

static _Atomic bool stopping;
static _Atomic bool failed;
static uint64_t n_keys;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void require(bool is_good, const char *what)
{
    if (!is_good) {
        (void)fprintf(stderr, "bench_churn: %s failed\n", what);
        exit(1);
    }
}

/* ---- Work --------------------------------------------------------------- */

/* The same size of a key at all times: mostly small, about as many bytes of
 * each. */
static uint64_t size_of(uint64_t key)
{
    uint64_t x = (key + 1) * 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    for (size_t i = N_SIZES - 1; i > 0; i--) {
        if (x % (sizes[i] / 512 + 2) == 0) {
            return sizes[i];
        }
        x = x * 0xd6e8feb86659fd93ull + 1;
        x ^= x >> 31;
    }
    return sizes[0];
}

/* What stands at an offset of a key's value, so that neither a block of another
 * value nor one from another place of its own is taken for it. */
static uint64_t mark_at(uint64_t key, uint64_t at)
{
    return (key + 1) * 0x9e3779b97f4a7c15ull ^ at;
}

static void mark(unsigned char *value, uint64_t key, uint64_t len)
{
    uint64_t last = len - sizeof(last);
    for (uint64_t at = 0; at < len; at += BLOCK) {
        uint64_t word = mark_at(key, at);
        memcpy(value + at, &word, sizeof(word));
    }
    uint64_t word = mark_at(key, last);
    memcpy(value + last, &word, sizeof(word));
}

static bool is_marked(const unsigned char *value, uint64_t key, uint64_t len)
{
    uint64_t last = len - sizeof(last);
    for (uint64_t at = 0; at + sizeof(last) <= last; at += BLOCK) {
        uint64_t word = mark_at(key, at);
        if (memcmp(value + at, &word, sizeof(word)) != 0) {
            return false;
        }
    }
    uint64_t word = mark_at(key, last);
    return memcmp(value + last, &word, sizeof(word)) == 0;
}

typedef peercache_status_t (*verb_fn)(peercache_node_t *, peercache_item_t *,
                                      size_t, const peercache_op_params_t *,
                                      peercache_op_t **);

static void call(struct lane *lane, verb_fn verb, const uint64_t *keys)
{
    peercache_item_t items[BATCH];
    peercache_piece_t pieces[BATCH];
    char names[BATCH][KEY_LEN + 1];
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(items[0])};
    bool has_bytes = verb == peercache_put || verb == peercache_get;
    memset(items, 0, sizeof(items));
    for (int i = 0; i < BATCH; i++) {
        unsigned char *at = lane->buffer + (uint64_t)i * VALUE_MAX;
        pieces[i] = (peercache_piece_t){at, size_of(keys[i])};
        if (verb == peercache_put) {
            mark(at, keys[i], pieces[i].len);
        }
        (void)snprintf(names[i], sizeof(names[i]), "%024llu",
                       (unsigned long long)keys[i]);
        items[i].key = names[i];
        items[i].key_len = KEY_LEN;
        items[i].pieces = has_bytes ? &pieces[i] : NULL;
        items[i].n_pieces = has_bytes;
    }
    peercache_status_t status = verb(lane->node, items, BATCH, &params, NULL);
    if (status == PEERCACHE_TIMED_OUT) {
        atomic_fetch_add(&lane->n_late, 1);
    } else if (status != PEERCACHE_OK && status != PEERCACHE_PARTIAL) {
        (void)fprintf(stderr, "bench_churn: %s\n", peercache_strerror(status));
        atomic_store(&failed, true);
    }
    for (int i = 0; i < BATCH; i++) {
        bool ok = items[i].status == PEERCACHE_OK;
        if (verb == peercache_put && ok) {
            atomic_fetch_add(&lane->n_put, 1);
            atomic_fetch_add(&lane->put_bytes, pieces[i].len);
        }
        if (verb == peercache_get && ok) {
            atomic_fetch_add(&lane->n_read, 1);
            if (!is_marked(pieces[i].addr, keys[i], pieces[i].len)) {
                (void)fprintf(stderr, "bench_churn: wrong bytes of key %llu\n",
                              (unsigned long long)keys[i]);
                atomic_store(&failed, true);
            }
        }
    }
    atomic_fetch_add(&lane->n_calls, 1);
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    while (!atomic_load(&stopping) && !atomic_load(&failed)) {
        uint64_t keys[BATCH];
        uint64_t first = pc_rand_u64(&lane->rand) % n_keys;
        uint64_t what = pc_rand_u64(&lane->rand) % 16;
        for (uint64_t i = 0; i < BATCH; i++) {
            keys[i] = (first + i) % n_keys;
        }
        call(lane, peercache_get, keys);
        if (what == 0) {
            call(lane, peercache_remove, keys);
        } else if (what < 4) {
            call(lane, peercache_exists, keys);
        } else {
            call(lane, peercache_put, keys);
        }
    }
    return NULL;
}

/* ---- Memory ------------------------------------------------------------- */

static double status_mib(const char *name)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    require(file != NULL, "/proc/self/status");
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtod(line + strlen(name) + 1, NULL);
        }
    }
    (void)fclose(file);
    return kib / 1024;
}

/* A gauge, summed over the nodes. */
static double gauge(peercache_node_t *const *nodes, const char *name)
{
    double sum = 0;
    for (int i = 0; i < NODES; i++) {
        char *text = NULL;
        char line[96];
        (void)snprintf(line, sizeof(line), "\npeercache_%s", name);
        require(peercache_node_metrics(nodes[i], &text) == PEERCACHE_OK,
                "metrics");
        const char *at = strstr(text, line);
        require(at != NULL, name);
        at += strlen(line);
        at += *at == '{' ? strcspn(at, "}") + 1 : 0;
        sum += strtod(at, NULL);
        peercache_free(text);
    }
    return sum;
}

/* What memory beside the pools may grow to, from what the settings bound: 128
 * bytes of bookkeeping a slot, 128 a record of the shards and of the location
 * caches, and 32 MiB a node for messages and operations under way; with a disk
 * 64 bytes for each key, and 8 MiB a node for the buffers of its threads. */
static double allowed_mib(peercache_node_t *const *nodes, double pool_mib,
                          double at_start, bool with_disk)
{
    double disk = with_disk ? NODES * ((double)n_keys * 64 / 1048576 + 8) : 0;
    double slots = NODES * pool_mib * 1048576 / 4096 * 5 / 4;
    double records = gauge(nodes, "directory_records_limit");
    double most = slots * 2 < records ? slots * 2 : records; /* Two copies. */
    return at_start + (slots + most + NODES * 65536.0) * 128 / 1048576 +
           NODES * 32 + disk;
}

struct sums
{
    unsigned long long calls, put, read, late, bytes;
};

static struct sums sum_up(struct lane *lanes)
{
    struct sums sums = {0};
    for (int i = 0; i < NODES * LANES; i++) {
        sums.calls += atomic_load(&lanes[i].n_calls);
        sums.put += atomic_load(&lanes[i].n_put);
        sums.read += atomic_load(&lanes[i].n_read);
        sums.late += atomic_load(&lanes[i].n_late);
        sums.bytes += atomic_load(&lanes[i].put_bytes);
    }
    return sums;
}

static void print_row(peercache_node_t *const *nodes, struct lane *lanes,
                      double seconds, double allowed)
{
    struct sums sums = sum_up(lanes);
    printf("| %7.0f | %9llu | %9llu | %9llu | %6llu | %8.1f | %7.3f | %8.1f | "
           "%8.1f | %8.1f | %8.1f | %8.1f | %6.0f | %8.1f | %9.0f | %9.0f |\n",
           seconds, sums.calls, sums.put, sums.read, sums.late,
           (double)sums.bytes / 1073741824,
           gauge(nodes, "pool_bytes_used") /
               gauge(nodes, "pool_capacity_bytes"),
           status_mib("RssShmem"), status_mib("RssAnon"), allowed,
           gauge(nodes, "pool_index_bytes") / 1048576,
           gauge(nodes, "directory_bytes") / 1048576,
           gauge(nodes, "publish_queue_entries"),
           gauge(nodes, "disk_bytes_used") / 1048576, gauge(nodes, "disk_keys"),
           gauge(nodes, "read_disk_hits_total"));
    (void)fflush(stdout);
}

/* ---- Nodes -------------------------------------------------------------- */

static void set(peercache_config_t *config, const char *name, const char *value)
{
    require(peercache_config_set(config, name, value) == PEERCACHE_OK, name);
}

/* Without a folder: no disk tier. */
struct disk
{
    const char *folder;
    uint64_t mib;
};

static void set_disk(peercache_config_t *config, const struct disk *disk)
{
    char size[48];
    set(config, "disk_enabled", disk->folder != NULL ? "true" : "false");
    if (disk->folder != NULL) {
        (void)snprintf(size, sizeof(size), "%lluMiB",
                       (unsigned long long)disk->mib);
        set(config, "disk_path", disk->folder);
        set(config, "disk_size", size);
    }
}

static peercache_node_t *open_node(int number, uint64_t pool_mib,
                                   const struct disk *disk)
{
    peercache_config_t *config;
    peercache_node_t *node;
    char name[48];
    char seed[48];
    char pool[48];
    unsigned port = 21000 + (unsigned)getpid() % 20000;
    (void)snprintf(seed, sizeof(seed), "127.0.0.1:%u", port);
    (void)snprintf(pool, sizeof(pool), "%lluMiB", (unsigned long long)pool_mib);
    require(peercache_config_create(&config) == PEERCACHE_OK, "configuration");
    (void)snprintf(name, sizeof(name), "churn-%d", (int)getpid());
    set(config, "cluster_name", name);
    (void)snprintf(name, sizeof(name), "churn-%d-%d", (int)getpid(), number);
    set(config, "node_id", name);
    set(config, "discovery_addr", seed);
    set(config, "control_bind_host", "127.0.0.1");
    set(config, "global_segment_size", pool);
    set_disk(config, disk);
    set(config, "metrics_enabled", "false");
    set(config, "log_level", "error");
    require(peercache_node_create(config, &node) == PEERCACHE_OK &&
                peercache_node_wait_ready(node, 10000000000u) == PEERCACHE_OK,
            "a node");
    peercache_config_destroy(config);
    return node;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 60;
    uint64_t pool_mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 256;
    int n_rows = argc > 3 ? atoi(argv[3]) : 12;
    struct disk disk = {argc > 5 ? argv[4] : NULL,
                        argc > 5 ? strtoull(argv[5], NULL, 10) : 0};
    require(seconds > 0 && pool_mib >= 32 && n_rows > 0 &&
                (argc < 5 || disk.mib >= 4),
            "an argument");
    peercache_node_t *nodes[NODES];
    static struct lane lanes[NODES * LANES];
    double mean = 0;
    for (int i = 0; i < NODES; i++) {
        nodes[i] = open_node(i, pool_mib, &disk);
    }
    for (uint64_t k = 0; k < 4096; k++) {
        mean += (double)size_of(k) / 4096;
    }
    n_keys = (uint64_t)(8 * NODES * (double)pool_mib * 1048576 / mean);
    for (unsigned i = 0; i < NODES * LANES; i++) {
        lanes[i].node = nodes[i % NODES];
        lanes[i].buffer = malloc(LANE_BYTES);
        require(lanes[i].buffer != NULL, "memory");
        memset(lanes[i].buffer, 7, LANE_BYTES);
        pc_rand_init(&lanes[i].rand, i + 1);
    }
    double at_start = status_mib("RssAnon");
    double allowed =
        allowed_mib(nodes, (double)pool_mib, at_start, disk.folder != NULL);
    printf("%d nodes of %llu MiB, %llu keys of %.0f bytes on average; memory "
           "in MiB\n",
           NODES, (unsigned long long)pool_mib, (unsigned long long)n_keys,
           mean);
    printf(
        "| seconds |     calls |    stored |      read |   late | GiB put  | "
        "pool    | shared   | private  | allowed  | index    | directory| "
        "queued | disk     | on disk   | from disk |\n"
        "|--------:|----------:|----------:|----------:|-------:|---------:|-"
        "-------:|---------:|---------:|---------:|---------:|---------:|--"
        "-----:|---------:|----------:|----------:|\n");
    print_row(nodes, lanes, 0, allowed);
    for (int i = 0; i < NODES * LANES; i++) {
        require(pthread_create(&lanes[i].thread, NULL, lane_main, &lanes[i]) ==
                    0,
                "a thread");
    }
    uint64_t begin = now_ns();
    bool too_much = false;
    for (int row = 1; row <= n_rows && !atomic_load(&failed); row++) {
        uint64_t due = begin + (uint64_t)(seconds * 1e9 * row / n_rows);
        while (now_ns() < due && !atomic_load(&failed)) {
            (void)usleep(20000);
        }
        print_row(nodes, lanes, (double)(now_ns() - begin) / 1e9, allowed);
        too_much = too_much || status_mib("RssAnon") > allowed ||
                   gauge(nodes, "disk_bytes_used") >
                       NODES * (double)disk.mib * 1048576;
    }
    atomic_store(&stopping, true);
    for (int i = 0; i < NODES * LANES; i++) {
        (void)pthread_join(lanes[i].thread, NULL);
        free(lanes[i].buffer);
    }
    for (int i = 0; i < NODES; i++) {
        peercache_node_destroy(nodes[i]);
    }
    printf("%s\n",
           too_much ? "more memory or disk than allowed" : "within bounds");
    return atomic_load(&failed) || too_much;
}
