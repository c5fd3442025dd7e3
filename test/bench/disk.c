/*
 * disk.c - the disk tier against plain positioned writes and reads of the same
 * size and depth on the same file system, rebuilding of an index, and scanning.
 *
 *     bench_disk <folder> [value bytes] [MiB] [depth] [records of the rebuild]
 */
#include "disk/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/file.h"
#include "disk/scan.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE ((uint64_t)64 << 20)

struct run
{
    const char *folder;
    size_t value_len;
    uint64_t n_values;
    uint32_t depth;
    unsigned char *values; /* Some different ones, used in turn. */
    _Atomic uint64_t n_done, n_failed;
};

enum { N_DIFFERENT = 16 };

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static double seconds_since(uint64_t began)
{
    return (double)(pc_clock_monotonic() - began) / 1e9;
}

static double mib_s(const struct run *run, double seconds)
{
    return (double)run->n_values * (double)run->value_len / (1 << 20) / seconds;
}

/* ---- The limit: pwrite and pread
 * ----------------------------------------------- */

struct plain
{
    struct run *run;
    int file;
    bool write;
    _Atomic uint64_t next;
};

static void *plain_main(void *arg)
{
    struct plain *plain = arg;
    struct run *run = plain->run;
    unsigned char *buffer = pc_disk_buffer_alloc(run->value_len);
    uint64_t i;
    if (buffer == NULL) {
        die("memory");
    }
    memcpy(buffer, run->values, run->value_len);
    while ((i = atomic_fetch_add_explicit(
                &plain->next, 1, memory_order_relaxed)) < run->n_values) {
        /* Reads in an order that is not the file's, as with the tier. */
        uint64_t at = plain->write ? i : i * 7919 % run->n_values;
        off_t offset = (off_t)(at * run->value_len);
        ssize_t n = plain->write
                        ? pwrite(plain->file, buffer, run->value_len, offset)
                        : pread(plain->file, buffer, run->value_len, offset);
        if (n != (ssize_t)run->value_len) {
            die("plain I/O");
        }
    }
    pc_disk_buffer_free(buffer);
    return NULL;
}

static double plain_run(struct run *run, int file, bool write)
{
    pthread_t threads[64];
    struct plain plain = {.run = run, .file = file, .write = write};
    uint64_t began = pc_clock_monotonic();
    for (uint32_t i = 0; i < run->depth; i++) {
        if (pthread_create(&threads[i], NULL, plain_main, &plain) != 0) {
            die("pthread_create");
        }
    }
    for (uint32_t i = 0; i < run->depth; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    if (write && fdatasync(file) != 0) {
        die("fdatasync");
    }
    return seconds_since(began);
}

static void plain_both(struct run *run, double *write_p, double *read_p)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/plain", run->folder);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    if (file < 0 ||
        fallocate(file, 0, 0, (off_t)(run->n_values * run->value_len)) != 0) {
        die(path);
    }
    *write_p = mib_s(run, plain_run(run, file, true));
    *read_p = mib_s(run, plain_run(run, file, false));
    (void)close(file);
    (void)unlink(path);
}

/* ---- The tier
 * ---------------------------------------------------------------------- */

static struct pc_digest digest_of(uint64_t i)
{
    return pc_digest_key(1, NULL, 0, &i, sizeof(i));
}

static void on_written(void *arg, enum pc_disk_result result)
{
    struct run *run = arg;
    atomic_fetch_add_explicit(result == PC_DISK_OK ? &run->n_done
                                                   : &run->n_failed,
                              1, memory_order_relaxed);
}

struct slot
{
    struct run *run;
    unsigned char *buffer;
    _Atomic bool busy;
};

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    struct slot *slot = arg;
    (void)found;
    on_written(slot->run, result);
    atomic_store_explicit(&slot->busy, false, memory_order_release);
}

static struct pc_disk *open_tier(const struct run *run, const char *name)
{
    char path[4096];
    char *error = NULL;
    struct pc_disk *disk;
    (void)snprintf(path, sizeof(path), "%s/%s", run->folder, name);
    struct pc_disk_params params = {.path = path,
                                    .node_id = "bench",
                                    .size = 64ull << 30,
                                    .max_records = 2 * run->n_values,
                                    .queue_bytes = QUEUE,
                                    .n_threads = run->depth,
                                    .sync = PC_DISK_SYNC_SEAL};
    if (pc_disk_open(&params, &disk, &error) != PEERCACHE_OK) {
        fprintf(stderr, "%s\n", error);
        exit(1);
    }
    return disk;
}

static void wait_done(struct run *run, uint64_t n)
{
    while (atomic_load_explicit(&run->n_done, memory_order_relaxed) +
               atomic_load_explicit(&run->n_failed, memory_order_relaxed) <
           n) {
        (void)usleep(50);
    }
}

static double write_all(struct run *run, struct pc_disk *disk)
{
    uint64_t sums[N_DIFFERENT];
    for (size_t i = 0; i < N_DIFFERENT; i++) {
        sums[i] = pc_checksum(run->values + i * run->value_len, run->value_len);
    }
    run->n_done = 0;
    run->n_failed = 0;
    uint64_t began = pc_clock_monotonic();
    for (uint64_t i = 0; i < run->n_values;) {
        struct pc_disk_write write = {.digest = digest_of(i),
                                      .key = &i,
                                      .key_len = sizeof(i),
                                      .value = run->values +
                                               i % N_DIFFERENT * run->value_len,
                                      .length = run->value_len,
                                      .checksum = sums[i % N_DIFFERENT],
                                      .done = on_written,
                                      .arg = run};
        if (pc_disk_write(disk, &write) == PC_DISK_OK) {
            i++;
        } else {
            (void)usleep(100); /* The queue is full. */
        }
    }
    wait_done(run, run->n_values);
    if (run->n_failed > 0) {
        fprintf(stderr, "%llu writes failed\n",
                (unsigned long long)run->n_failed);
    }
    return seconds_since(began);
}

static double read_all(struct run *run, struct pc_disk *disk)
{
    struct slot slots[64];
    for (uint32_t i = 0; i < 64; i++) {
        slots[i].run = run;
        slots[i].buffer = malloc(run->value_len);
        atomic_init(&slots[i].busy, false);
    }
    run->n_done = 0;
    run->n_failed = 0;
    uint64_t began = pc_clock_monotonic();
    for (uint64_t i = 0, s = 0; i < run->n_values; s = (s + 1) % 64) {
        if (atomic_load_explicit(&slots[s].busy, memory_order_acquire)) {
            if (s == 63) {
                (void)usleep(20);
            }
            continue;
        }
        struct pc_disk_read read = {.digest =
                                        digest_of(i * 7919 % run->n_values),
                                    .buffer = slots[s].buffer,
                                    .length = run->value_len,
                                    .done = on_read,
                                    .arg = &slots[s]};
        atomic_store_explicit(&slots[s].busy, true, memory_order_relaxed);
        if (pc_disk_read(disk, &read) != PC_DISK_OK) {
            die("pc_disk_read");
        }
        i++;
    }
    wait_done(run, run->n_values);
    double seconds = seconds_since(began);
    for (uint32_t i = 0; i < 64; i++) {
        free(slots[i].buffer);
    }
    if (run->n_failed > 0) {
        fprintf(stderr, "%llu reads failed\n",
                (unsigned long long)run->n_failed);
    }
    return seconds;
}

static void throughput(struct run *run)
{
    double plain_write, plain_read;
    struct pc_disk_stats stats;
    plain_both(run, &plain_write, &plain_read);
    struct pc_disk *disk = open_tier(run, "tier");
    double tier_write = mib_s(run, write_all(run, disk));
    double tier_read = mib_s(run, read_all(run, disk));
    pc_disk_stats(disk, &stats);
    printf("values of %zu bytes, depth %u, direct I/O %s, MiB/s\n",
           run->value_len, run->depth, stats.direct ? "yes" : "no");
    printf("  write: tier %.0f, plain %.0f, ratio %.2f\n", tier_write,
           plain_write, tier_write / plain_write);
    printf("  read:  tier %.0f, plain %.0f, ratio %.2f\n", tier_read,
           plain_read, tier_read / plain_read);
    (void)pc_disk_clear(disk, NULL, NULL);
    (void)pc_disk_close(disk, 30 * PC_S);
}

/* ---- Rebuild and scan
 * ------------------------------------------------------------------ */

static void rebuild(const struct run *of, uint64_t n_records)
{
    struct run run = {.folder = of->folder,
                      .value_len = 64,
                      .n_values = n_records,
                      .depth = 4,
                      .values = of->values};
    struct pc_disk_stats stats;
    struct pc_disk *disk = open_tier(&run, "small");
    (void)write_all(&run, disk);
    (void)pc_disk_close(disk, 60 * PC_S);
    disk = open_tier(&run, "small");
    while (pc_disk_recovering(disk)) {
        (void)usleep(1000);
    }
    pc_disk_stats(disk, &stats);
    printf("rebuild of %llu records from index blocks: %.2f s, %.1f bytes of "
           "index each\n",
           (unsigned long long)stats.n_records, (double)stats.recovery_ns / 1e9,
           (double)stats.index_bytes / (double)stats.n_records);
    (void)pc_disk_clear(disk, NULL, NULL);
    (void)pc_disk_close(disk, 30 * PC_S);
}

/* One file of the tier, read and then scanned. */
static void scan(struct run *run)
{
    char path[4096];
    struct pc_disk *disk = open_tier(run, "scan");
    (void)write_all(run, disk);
    (void)pc_disk_close(disk, 60 * PC_S);
    (void)snprintf(path, sizeof(path), "%s/scan/seg-0000000000000001",
                   run->folder);
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0) {
        die(path);
    }
    uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
    struct pc_disk_file file = {pc_disk_io_system(), fd};
    struct pc_disk_source source = pc_disk_file_source(&file, size);
    unsigned char *buffer = pc_disk_buffer_alloc(PC_DISK_STAGE);
    size_t n;
    for (int round = 0; round < 3; round++) {
        uint64_t began = pc_clock_monotonic();
        for (uint64_t at = 0; at < size; at += PC_DISK_STAGE) {
            (void)source.read(source.arg, buffer, PC_DISK_STAGE, at, &n);
        }
        double read_s = seconds_since(began);
        struct pc_disk_scan result;
        struct pc_disk_ident ident;
        enum pc_disk_header header;
        (void)pc_disk_read_ident(&source, buffer, &header, &ident);
        began = pc_clock_monotonic();
        if (!pc_disk_scan(&source, &ident, buffer, &result)) {
            die("scan");
        }
        double scan_s = seconds_since(began);
        printf("scan: %zu records, %.0f MiB/s, sequential read %.0f MiB/s, "
               "ratio %.2f\n",
               result.entries.n, (double)size / (1 << 20) / scan_s,
               (double)size / (1 << 20) / read_s, read_s / scan_s);
        pc_disk_entries_fini(&result.entries);
    }
    pc_disk_buffer_free(buffer);
    (void)close(fd);
    disk = open_tier(run, "scan");
    (void)pc_disk_clear(disk, NULL, NULL);
    (void)pc_disk_close(disk, 30 * PC_S);
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr,
                "usage: %s folder [value bytes] [MiB] [depth] "
                "[records]\n",
                argv[0]);
        return 2;
    }
    struct run run = {.folder = argv[1],
                      .value_len = argument(argc, argv, 2, 128 << 10),
                      .depth = (uint32_t)argument(argc, argv, 4, 4)};
    uint64_t bytes = argument(argc, argv, 3, 512) << 20;
    uint64_t n_records = argument(argc, argv, 5, 1000000);
    struct pc_rand r;
    run.n_values = bytes / run.value_len;
    if (run.value_len < 4096 || run.value_len % 4096 != 0 || run.depth == 0 ||
        run.depth > 64 || run.n_values == 0) {
        fprintf(stderr, "values of whole 4,096 bytes, depth 1 to 64\n");
        return 2;
    }
    run.values = malloc(N_DIFFERENT * run.value_len);
    if (run.values == NULL) {
        die("memory");
    }
    pc_rand_init(&r, 1);
    for (size_t i = 0; i < N_DIFFERENT * run.value_len; i++) {
        run.values[i] = (unsigned char)(pc_rand_u64(&r) >> 30);
    }
    pc_log_set(PEERCACHE_LOG_WARN, NULL, NULL);
    for (int round = 0; round < 3; round++) {
        throughput(&run);
    }
    scan(&run);
    if (n_records > 0) {
        rebuild(&run, n_records);
    }
    free(run.values);
    return 0;
}
