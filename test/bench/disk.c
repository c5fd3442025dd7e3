/*
 * disk.c - the disk tier against fio with the same size and depth on the same
 * file system, in pairs one right after the other; rebuilding of an index, and
 * scanning against sequential reads.
 *
 *     bench_disk <folder> [value bytes] [MiB] [depth] [records of the rebuild]
 *                [rounds]
 *
 * The tier's reads are compared with fio's reads of the very same files, all
 * past the page cache, so both find the blocks where they are, and in whatever
 * cache is below this machine's disk.
 */
#include "disk/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/rand.h"
#include "disk/file.h"
#include "disk/scan.h"

#include "disk_bare.h"
#include "disk_fio.h"
#include "series.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define QUEUE   ((uint64_t)64 << 20)
#define SEGMENT ((uint64_t)64 << 20)

struct run
{
    const char *folder;
    size_t value_len;
    uint64_t n_values;
    uint32_t depth;
    unsigned n_rounds;
    unsigned char *values; /* Some different ones, used in turn. */
    _Atomic uint64_t n_done, n_failed, next;
    sem_t ended;
    /* Values in any order, some twice, as fio takes its blocks; else each one
     * once. What lies below the disk may keep what was read before. */
    bool any_order;
    uint64_t salt;     /* Of that order: another one each time. */
    double cpu;        /* Seconds a GiB that was read. */
    double depth_seen; /* Reads in the kernel at a time, on average. */
    struct pc_disk_io io;
};

enum { N_DIFFERENT = 16, N_SLOTS = 64 };

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

static double cpu_seconds(void)
{
    struct rusage use;
    (void)getrusage(RUSAGE_SELF, &use);
    return (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* Where the time goes: how long reads are in the kernel, all together. */
static _Atomic uint64_t in_kernel_ns;

static int timed_pread(void *arg, int file, void *to, size_t len, uint64_t at,
                       size_t *n_p)
{
    uint64_t began = pc_clock_monotonic();
    int error = pc_disk_io_system()->pread(arg, file, to, len, at, n_p);
    atomic_fetch_add_explicit(&in_kernel_ns, pc_clock_monotonic() - began,
                              memory_order_relaxed);
    return error;
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

/* Each slot asks for the next value when it has one, so nobody has to poll, and
 * some reads always wait in the tier's queue, as when a batch is read. */
struct slot
{
    struct run *run;
    struct pc_disk *disk;
    unsigned char *buffer;
};

static bool ask(struct slot *slot);

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    struct slot *slot = arg;
    struct run *run = slot->run;
    (void)found;
    on_written(run, result);
    if (!ask(slot)) {
        (void)sem_post(&run->ended);
    }
}

static bool ask(struct slot *slot)
{
    struct run *run = slot->run;
    uint64_t i = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
    uint64_t any = run->any_order ? digest_of(i ^ run->salt).lo : i * 7919;
    struct pc_disk_read read = {.digest = digest_of(any % run->n_values),
                                .buffer = slot->buffer,
                                .length = run->value_len,
                                .done = on_read,
                                .arg = slot};
    if (i >= run->n_values) {
        return false;
    }
    if (pc_disk_read(slot->disk, &read) != PC_DISK_OK) {
        die("pc_disk_read");
    }
    return true;
}

static struct pc_disk *open_tier(struct run *run, const char *name)
{
    char path[4096];
    char *error = NULL;
    struct pc_disk *disk;
    (void)snprintf(path, sizeof(path), "%s/%s", run->folder, name);
    run->io = *pc_disk_io_system();
    run->io.pread = timed_pread;
    struct pc_disk_params params = {.path = path,
                                    .node_id = "bench",
                                    .size = 64ull << 30,
                                    .segment_size = SEGMENT,
                                    .max_records = 2 * run->n_values,
                                    .queue_bytes = QUEUE,
                                    .n_threads = run->depth,
                                    .sync = PC_DISK_SYNC_SEAL,
                                    .io = &run->io};
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
    struct slot slots[N_SLOTS];
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        slots[i] = (struct slot){run, disk, malloc(run->value_len)};
        if (slots[i].buffer == NULL) {
            die("memory");
        }
    }
    run->n_done = 0;
    run->n_failed = 0;
    run->next = 0;
    double cpu = cpu_seconds();
    in_kernel_ns = 0;
    uint64_t began = pc_clock_monotonic();
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        if (!ask(&slots[i])) {
            (void)sem_post(&run->ended);
        }
    }
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        (void)sem_wait(&run->ended);
    }
    double seconds = seconds_since(began);
    run->depth_seen = (double)in_kernel_ns / 1e9 / seconds;
    run->cpu = (cpu_seconds() - cpu) / mib_s(run, 1) * 1024;
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        free(slots[i].buffer);
    }
    if (run->n_failed > 0) {
        fprintf(stderr, "%llu reads failed\n",
                (unsigned long long)run->n_failed);
        exit(1);
    }
    return seconds;
}

/* The files of the tier's segments, for fio. */
static size_t segment_files(const struct run *run, char *files, size_t room)
{
    size_t n = 0;
    size_t len = 0;
    uint64_t need = run->n_values * run->value_len / SEGMENT;
    for (uint64_t number = 1; number <= need; number++) {
        char path[4096];
        int m =
            snprintf(path, sizeof(path), "%s%s/tier/seg-%016llx",
                     n > 0 ? ":" : "", run->folder, (unsigned long long)number);
        if (len + (size_t)m + 1 > room || access(path + (n > 0), R_OK) != 0) {
            break;
        }
        memcpy(files + len, path, (size_t)m + 1);
        len += (size_t)m;
        n++;
    }
    return n;
}

static void path_of_fio(const struct run *run, char *path, size_t room)
{
    (void)snprintf(path, room, "%s/fio", run->folder);
}

/* Fresh files for both; until all of it is safe on the disk. */
static void write_pair(struct run *run, bool first, bool with_fio,
                       struct series *series)
{
    char path[4096];
    path_of_fio(run, path, sizeof(path));
    struct fio_job job = {.files = path,
                          .n_files = 1,
                          .engine = FIO_PSYNC,
                          .write = true,
                          .block = run->value_len,
                          .bytes = run->n_values * run->value_len,
                          .depth = run->depth};
    double fio = with_fio && first ? fio_run(&job) : 0;
    struct pc_disk *disk = open_tier(run, "tier");
    (void)pc_disk_clear(disk, NULL, NULL);
    (void)pc_disk_close(disk, 60 * PC_S);
    disk = open_tier(run, "tier");
    uint64_t began = pc_clock_monotonic();
    (void)write_all(run, disk);
    (void)pc_disk_close(disk, 60 * PC_S);
    double tier = mib_s(run, seconds_since(began));
    fio = with_fio && !first ? fio_run(&job) : fio;
    (void)unlink(path);
    printf("  write: tier %.0f, fio %.0f MiB/s\n", tier, fio);
    if (fio > 0) {
        series_add(series, tier / fio);
    }
}

struct reads
{
    struct series tier, once, uring, aio, shape, tier_shape;
    struct series bare, tier_bare, proven, tier_proven;
};

/* fio: one for each engine, then with the tier's blocks, then a file of its own
 * without and with a look at the bytes; the tier; and the bare reader. */
enum { SHAPE = FIO_N_ENGINES, PLAIN, PROVEN, TIER, TIER_ONCE, BARE, N_WAYS };

/* fio with what a record of the tier is: its value does not begin with a block,
 * so one block more, which begin anywhere. MiB/s of values. */
static double records_of_fio(const struct run *run, const struct fio_job *of)
{
    struct fio_job job = *of;
    job.engine = FIO_PSYNC;
    job.block = run->value_len + PC_DISK_BLOCK;
    job.align = PC_DISK_BLOCK;
    job.bytes = run->n_values * job.block;
    return fio_run(&job) * (double)run->value_len / (double)job.block;
}

/* fio's own file, of as many bytes and blocks, with checksums in it. */
static double own_of_fio(const struct run *run, const struct fio_job *of,
                         bool write, bool proves)
{
    char path[4096];
    path_of_fio(run, path, sizeof(path));
    struct fio_job job = *of;
    job.files = path;
    job.engine = FIO_PSYNC;
    job.write = write;
    job.proves = proves;
    return fio_run(&job);
}

static double bare_of(const struct run *run, const struct fio_job *job)
{
    struct bare_job bare = {.files = job->files,
                            .span = SEGMENT / 2,
                            .value_len = run->value_len,
                            .n_values = run->n_values,
                            .depth = run->depth,
                            .salt = run->salt};
    return bare_run(&bare);
}

static double tier_of(struct run *run, struct pc_disk *disk, bool any_order)
{
    run->any_order = any_order;
    return mib_s(run, read_all(run, disk));
}

static double one_way(struct run *run, struct pc_disk *disk,
                      struct fio_job *job, unsigned way)
{
    switch (way) {
    case TIER:
    case TIER_ONCE:
        return tier_of(run, disk, way == TIER);
    case SHAPE:
        return records_of_fio(run, job);
    case PLAIN:
    case PROVEN:
        return own_of_fio(run, job, false, way == PROVEN);
    case BARE:
        return bare_of(run, job);
    default:
        job->engine = (enum fio_engine)way;
        return fio_run(job);
    }
}

static void add_ratio(struct series *series, double of, double to)
{
    if (of > 0 && to > 0) {
        series_add(series, of / to);
    }
}

static void read_round(struct run *run, struct pc_disk *disk,
                       struct fio_job *job, unsigned round, struct reads *reads)
{
    double got[N_WAYS] = {0};
    run->salt = ((uint64_t)round + 1) << 32;
    for (unsigned i = 0; i < N_WAYS; i++) {
        unsigned way = (i + round) % N_WAYS;
        if (job->n_files > 0 || way == TIER || way == TIER_ONCE) {
            got[way] = one_way(run, disk, job, way);
        }
    }
    printf(
        "  read: tier %.0f, each value once %.0f, bare reader %.0f, fio "
        "psync %.0f, libaio %.0f, io_uring %.0f, psync of the tier's blocks "
        "%.0f, of its own file %.0f, with a look at it %.0f MiB/s; %.2f s of "
        "a core a GiB, %.2f in the kernel\n",
        got[TIER], got[TIER_ONCE], got[BARE], got[FIO_PSYNC], got[FIO_LIBAIO],
        got[FIO_URING], got[SHAPE], got[PLAIN], got[PROVEN], run->cpu,
        run->depth_seen);
    add_ratio(&reads->shape, got[SHAPE], got[FIO_PSYNC]);
    add_ratio(&reads->tier_shape, got[TIER], got[SHAPE]);
    add_ratio(&reads->tier, got[TIER], got[FIO_PSYNC]);
    add_ratio(&reads->once, got[TIER_ONCE], got[FIO_PSYNC]);
    add_ratio(&reads->aio, got[FIO_LIBAIO], got[FIO_PSYNC]);
    add_ratio(&reads->uring, got[FIO_URING], got[FIO_PSYNC]);
    add_ratio(&reads->bare, got[BARE], got[FIO_PSYNC]);
    add_ratio(&reads->tier_bare, got[TIER], got[BARE]);
    add_ratio(&reads->proven, got[PROVEN], got[PLAIN]);
    add_ratio(&reads->tier_proven, got[TIER], got[PROVEN]);
}

static void throughput(struct run *run)
{
    static char files[32768];
    char path[4096];
    struct series writes = {0};
    struct reads reads = {0};
    struct pc_disk_stats stats;
    bool with_fio = fio_is_there();
    if (!with_fio) {
        printf("no fio on this machine: nothing to compare with\n");
    }
    for (unsigned round = 0; round < run->n_rounds; round++) {
        write_pair(run, round % 2 == 0, with_fio, &writes);
    }
    struct pc_disk *disk = open_tier(run, "tier");
    struct fio_job job = {.files = files,
                          .n_files = segment_files(run, files, sizeof(files)),
                          .block = run->value_len,
                          .bytes = run->n_values * run->value_len,
                          .depth = run->depth};
    while (pc_disk_recovering(disk)) {
        (void)usleep(1000);
    }
    if (with_fio) {
        (void)own_of_fio(run, &job, true, true);
    }
    for (unsigned round = 0; round < run->n_rounds; round++) {
        read_round(run, disk, &job, round, &reads);
    }
    pc_disk_stats(disk, &stats);
    printf("values of %zu bytes, %.0f MiB, depth %u, direct I/O %s\n",
           run->value_len, (double)(run->n_values * run->value_len) / (1 << 20),
           run->depth, stats.direct ? "yes" : "no");
    series_print(&writes, "write: tier / fio psync");
    series_print(&reads.tier, "read: tier / fio psync");
    series_print(&reads.once, "read: tier, each once / fio psync");
    series_print(&reads.shape, "read: fio of the tier's blocks");
    series_print(&reads.tier_shape, "read: tier / fio of its blocks");
    series_print(&reads.bare, "read: bare reader / fio psync");
    series_print(&reads.tier_bare, "read: tier / bare reader");
    series_print(&reads.proven, "read: fio that looks / that does not");
    series_print(&reads.tier_proven, "read: tier / fio that looks");
    series_print(&reads.aio, "read: fio libaio / fio psync");
    series_print(&reads.uring, "read: fio io_uring / fio psync");
    (void)pc_disk_clear(disk, NULL, NULL);
    (void)pc_disk_close(disk, 30 * PC_S);
    path_of_fio(run, path, sizeof(path));
    (void)unlink(path);
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

/* MiB/s of one pass over the file, as the scan reads it but without looking. */
static double read_through(const struct pc_disk_source *source, void *buffer)
{
    size_t n;
    uint64_t began = pc_clock_monotonic();
    for (uint64_t at = 0; at < source->size; at += PC_DISK_STAGE) {
        if (source->read(source->arg, buffer, PC_DISK_STAGE, at, &n) != 0) {
            die("read");
        }
    }
    return (double)source->size / (1 << 20) / seconds_since(began);
}

static double scan_through(const struct pc_disk_source *source, void *buffer,
                           void *second)
{
    struct pc_disk_scan result;
    struct pc_disk_ident ident;
    enum pc_disk_header header;
    (void)pc_disk_read_ident(source, buffer, &header, &ident);
    uint64_t began = pc_clock_monotonic();
    if (!pc_disk_scan(source, &ident, buffer, second, &result) ||
        result.entries.n == 0) {
        die("scan");
    }
    pc_disk_entries_fini(&result.entries);
    return (double)source->size / (1 << 20) / seconds_since(began);
}

/* One file of the tier, read and then scanned. */
static void scan(struct run *run)
{
    char path[4096];
    struct series with = {0};
    struct series without = {0};
    struct pc_disk *disk = open_tier(run, "scan");
    (void)write_all(run, disk);
    (void)pc_disk_close(disk, 60 * PC_S);
    (void)snprintf(path, sizeof(path), "%s/scan/seg-0000000000000001",
                   run->folder);
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0) {
        die(path);
    }
    struct pc_disk_file file = {pc_disk_io_system(), fd};
    struct pc_disk_source source =
        pc_disk_file_source(&file, (uint64_t)lseek(fd, 0, SEEK_END));
    unsigned char *buffer =
        pc_pages_map((1 + PC_DISK_AHEAD) * PC_DISK_STAGE, true);
    if (buffer == NULL) {
        die("memory");
    }
    unsigned char *second = buffer + PC_DISK_STAGE;
    for (unsigned round = 0; round < 2 * run->n_rounds; round++) {
        bool ahead = round % 2 == 0;
        double read = read_through(&source, buffer);
        double scan = scan_through(&source, buffer, ahead ? second : NULL);
        series_add(ahead ? &with : &without, scan / read);
        if (ahead) {
            printf("  scan: %.0f, sequential reads %.0f MiB/s\n", scan, read);
        }
    }
    series_print(&with, "scan / sequential reads");
    series_print(&without, "the same without reading ahead");
    pc_pages_unmap(buffer, (1 + PC_DISK_AHEAD) * PC_DISK_STAGE);
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
                "[records] [rounds]\n",
                argv[0]);
        return 2;
    }
    struct run run = {.folder = argv[1],
                      .value_len = argument(argc, argv, 2, 128 << 10),
                      .depth = (uint32_t)argument(argc, argv, 4, 4)};
    uint64_t bytes = argument(argc, argv, 3, 512) << 20;
    uint64_t n_records = argument(argc, argv, 5, 1000000);
    run.n_rounds = (unsigned)argument(argc, argv, 6, 9);
    struct pc_rand r;
    run.n_values = bytes / run.value_len;
    if (run.value_len < 4096 || run.value_len % 4096 != 0 || run.depth == 0 ||
        run.depth > 64 || run.n_values == 0 || run.n_rounds > SERIES_MOST) {
        fprintf(stderr,
                "values of whole 4,096 bytes, depth and rounds to 64\n");
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
    (void)sem_init(&run.ended, 0, 0);
    if (run.n_rounds > 0) {
        throughput(&run);
    }
    scan(&run);
    if (n_records > 0) {
        rebuild(&run, n_records);
    }
    free(run.values);
    return 0;
}
