/*
 * directory_c.c - what the directory costs: memory of a record, time of the
 * longest step, rings of a thousand nodes, how much a join moves. Prints a line
 * for each, with the design's target where there is one.
 *
 *     bench_directory [records]
 */
#include "base/clock.h"
#include "base/rand.h"
#include "directory/ring.h"
#include "directory/shard.h"
#include "directory/summary.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODES    1000
#define VNODES   160
#define REPLICAS 2
#define HOLDERS  16
#define SLICE    2048 /* Cells, as node/purge.c and node/compare.c take. */

static uint64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * PC_S + (uint64_t)t.tv_nsec;
}

/* Everything that malloc has given out, its own overhead included. */
static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static struct pc_record record_of(struct pc_rand *rand, uint64_t i)
{
    struct pc_record r;
    memset(&r, 0, sizeof(r));
    r.digest.lo = pc_rand_u64(rand);
    r.digest.hi = pc_rand_u64(rand);
    r.incarnation = 1 + i % HOLDERS;
    r.generation = 2 * (i + 1);
    r.length = 131072;
    r.offset = 131072 * i;
    r.slot = (uint32_t)i;
    return r;
}

static void look(size_t n, size_t before, const struct pc_shard *shard)
{
    size_t bytes = heap_bytes() - before;
    printf("shard of %9zu records: %6.1f bytes each by malloc, %6.1f by its "
           "gauge   (<= 128)\n",
           n, (double)bytes / (double)n,
           (double)pc_shard_bytes(shard) / (double)n);
}

static bool count(void *arg, const struct pc_record *record)
{
    struct pc_summary *sums = arg;
    pc_summary_add(&sums[record->incarnation % HOLDERS], record, 1);
    return true;
}

/* A walk over all, as repair and purge make it, slice by slice. */
static void bench_walk(struct pc_shard *shard)
{
    static struct pc_summary sums[HOLDERS];
    size_t at = 0;
    uint64_t longest = 0;
    uint64_t all = 0;
    bool more = true;
    while (more) {
        uint64_t since = cpu_ns();
        more = pc_shard_sweep(shard, &at, SLICE, count, sums);
        uint64_t took = cpu_ns() - since;
        longest = took > longest ? took : longest;
        all += took;
    }
    printf("sum of all of them: %.1f ms in slices, the longest %.3f ms   (<= 1 "
           "ms)\n",
           (double)all / 1e6, (double)longest / 1e6);
}

static void bench_shard(size_t n_records)
{
    struct pc_rand rand;
    size_t before = heap_bytes();
    struct pc_shard *shard = pc_shard_create(0);
    uint64_t longest = 0;
    uint64_t all = 0;
    size_t n_long = 0;
    pc_rand_init(&rand, 1);
    for (size_t i = 1; i <= n_records; i++) {
        struct pc_record r = record_of(&rand, i);
        uint64_t since = cpu_ns();
        if (pc_shard_publish(shard, &r) != PEERCACHE_OK) {
            (void)fprintf(stderr, "a record was refused\n");
            exit(1);
        }
        uint64_t took = cpu_ns() - since;
        longest = took > longest ? took : longest;
        n_long += took > PC_MS;
        all += took;
        if (i == 1000 || i == 10000 || i == 100000 || i == n_records) {
            look(i, before, shard);
        }
    }
    printf("publish: %.0f ns each, the longest %.3f ms, %zu of %zu above 1 ms "
           "  (<= 1 ms)\n",
           (double)all / (double)n_records, (double)longest / 1e6, n_long,
           n_records);
    bench_walk(shard);
    pc_shard_destroy(shard);
}

/* ---- Rings ------------------------------------------------------------ */

static void make_members(struct pc_member *members, size_t n)
{
    memset(members, 0, n * sizeof(*members));
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(members[i].id.text, sizeof(members[i].id.text),
                       "node-%04zu", i);
        members[i].incarnation = 1000 + i;
        members[i].host = i;
    }
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Share of the records of which some owner is new; a node's share differs from
 * the others' by what 160 random points give. */
static double moved_by_join(const struct pc_ring *before,
                            struct pc_member *members, size_t join)
{
    enum { KEYS = 100000 };
    size_t n_moved = 0;
    size_t n;
    struct pc_rand rand;
    (void)snprintf(members[NODES].id.text, sizeof(members[NODES].id.text),
                   "joins-%04zu", join);
    struct pc_ring *after =
        pc_ring_create(members, NODES + 1, VNODES, REPLICAS);
    const struct pc_member *sorted = pc_ring_members(after, &n);
    pc_rand_init(&rand, 2 + join);
    for (size_t i = 0; i < KEYS; i++) {
        struct pc_owners owners;
        struct pc_digest digest = {pc_rand_u64(&rand), pc_rand_u64(&rand)};
        bool moved = false;
        pc_ring_owners(after, digest, &owners);
        for (uint32_t k = 0; k < owners.n; k++) {
            moved = moved || !pc_ring_owns(before, digest,
                                           sorted[owners.index[k]].incarnation);
        }
        n_moved += moved;
    }
    pc_ring_unref(after);
    return (double)n_moved / KEYS;
}

static void bench_joins(struct pc_member *members)
{
    enum { JOINS = 40 };
    struct pc_ring *before = pc_ring_create(members, NODES, VNODES, REPLICAS);
    double sum = 0;
    double most = 0;
    for (size_t i = 0; i < JOINS; i++) {
        double moved = moved_by_join(before, members, i);
        sum += moved;
        most = moved > most ? moved : most;
    }
    printf("a join to %d moves %.4f %% of the records on average   (<= %.4f "
           "%%), %.4f %% at most in %d joins\n",
           NODES, 100 * sum / JOINS, 200.0 / NODES, 100 * most, JOINS);
    pc_ring_unref(before);
}

static void bench_ring(void)
{
    static struct pc_member members[NODES + 1];
    uint64_t times[11];
    make_members(members, NODES + 1);
    for (size_t i = 0; i < 11; i++) {
        uint64_t since = cpu_ns();
        struct pc_ring *ring = pc_ring_create(members, NODES, VNODES, REPLICAS);
        times[i] = cpu_ns() - since;
        pc_ring_unref(ring);
    }
    qsort(times, 11, sizeof(times[0]), compare_times);
    printf("ring of %d x %d: built in %.1f ms of CPU, at worst %.1f   (<= 50 "
           "ms, beside the engine)\n",
           NODES, VNODES, (double)times[5] / 1e6, (double)times[10] / 1e6);

    bench_joins(members);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    bench_shard(n);
    bench_ring();
    return 0;
}
