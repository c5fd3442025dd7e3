/*
 * The disk tier on real file systems that go wrong: full, used up by others,
 * read-only while it runs, and broken for reads and writes. They are mounted in
 * a mount namespace of this process only; where that is not allowed, or a tool
 * or a kernel cannot do it, a test is skipped and says why.
 */
#include "test.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Linux' <linux/fs.h> has it from 6.6 on; ext4 and xfs know it for longer. */
#define SHUTDOWN _IOR('X', 125, uint32_t)

enum { LENGTH = 100000, ROOM_MIB = 24, N_MANY = 400 };

struct world
{
    char folder[64], image[80], mounted[80], path[96];
    bool is_mounted;
    struct pc_disk *disk;
    struct pc_disk_params params;
    _Atomic uint64_t now;
    sem_t done;
    enum pc_disk_result result;
    unsigned char value[LENGTH], read[LENGTH];
};

/* ---- The tier, one call at a time ------------------------------------------
 */

static uint64_t world_now(void *arg)
{
    return atomic_load(&((struct world *)arg)->now);
}

static void on_done(void *arg, enum pc_disk_result result)
{
    struct world *w = arg;
    w->result = result;
    (void)sem_post(&w->done);
}

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    (void)found;
    on_done(arg, result);
}

static struct pc_digest digest_of(unsigned key)
{
    return (struct pc_digest){key * 0x9e3779b97f4a7c15ull, key};
}

static void fill(unsigned char *value, unsigned key)
{
    struct pc_rand r;
    pc_rand_init(&r, key);
    for (size_t i = 0; i < LENGTH; i++) {
        value[i] = (unsigned char)(pc_rand_u64(&r) >> 24);
    }
}

static enum pc_disk_result put(struct world *w, unsigned key)
{
    fill(w->value, key);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .value = w->value,
                                  .length = LENGTH,
                                  .checksum = pc_checksum(w->value, LENGTH),
                                  .done = on_done,
                                  .arg = w};
    enum pc_disk_result result = pc_disk_write(w->disk, &write);
    if (result == PC_DISK_OK) {
        (void)sem_wait(&w->done);
        result = w->result;
    }
    return result;
}

/* What is read is right, or it is not read. */
static enum pc_disk_result get(struct world *w, unsigned key)
{
    struct pc_disk_read read = {.digest = digest_of(key),
                                .buffer = w->read,
                                .length = LENGTH,
                                .done = on_read,
                                .arg = w};
    enum pc_disk_result result = pc_disk_read(w->disk, &read);
    if (result != PC_DISK_OK) {
        return result;
    }
    (void)sem_wait(&w->done);
    if (w->result == PC_DISK_OK) {
        fill(w->value, key);
        assert_memory_equal(w->read, w->value, LENGTH);
    }
    return w->result;
}

static unsigned n_right(struct world *w, unsigned n_keys)
{
    unsigned n = 0;
    for (unsigned key = 0; key < n_keys; key++) {
        n += get(w, key) == PC_DISK_OK ? 1 : 0;
    }
    return n;
}

static struct pc_disk_stats stats_of(struct world *w)
{
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    return stats;
}

static void open_disk(struct world *w)
{
    char *error = NULL;
    peercache_status_t status = pc_disk_open(&w->params, &w->disk, &error);
    if (status != PEERCACHE_OK) {
        fail_msg("%s", error != NULL ? error : "no reason");
    }
}

static void close_disk(struct world *w)
{
    assert_true(pc_disk_close(w->disk, 60 * PC_S));
    w->disk = NULL;
}

/* The pause after an error ends. */
static void let_pass(struct world *w, uint64_t ns)
{
    atomic_fetch_add(&w->now, ns);
}

/* ---- File systems -----------------------------------------------------------
 */

static bool mount_tmpfs(struct world *w)
{
    char options[32];
    (void)snprintf(options, sizeof(options), "size=%dm", ROOM_MIB);
    if (mount("tmpfs", w->mounted, "tmpfs", 0, options) != 0) {
        print_message("no tmpfs can be mounted: %s\n", strerror(errno));
        return false;
    }
    w->is_mounted = true;
    return true;
}

/* A small ext4 in a file. */
static bool mount_ext4(struct world *w)
{
    char command[400];
    (void)snprintf(command, sizeof(command),
                   "truncate -s %dM %s && mkfs.ext4 -q -F %s >/dev/null 2>&1 "
                   "&& mount -o loop %s %s 2>/dev/null",
                   ROOM_MIB, w->image, w->image, w->image, w->mounted);
    if (system(command) != 0) {
        print_message("no ext4 can be made and mounted here\n");
        return false;
    }
    w->is_mounted = true;
    return true;
}

/* Somebody else's file takes what is left. */
static void use_up(const struct world *w, const char *name)
{
    static const char zeros[1 << 16];
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", w->mounted, name);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    while (write(file, zeros, sizeof(zeros)) > 0) {
    }
    (void)close(file);
}

static void give_back(const struct world *w, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", w->mounted, name);
    assert_int_equal(unlink(path), 0);
}

static bool isolate(void)
{
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        print_message("no mount namespace of our own: %s\n", strerror(errno));
        return false;
    }
    return true;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/pc-files-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->image, sizeof(w->image), "%s/image", w->folder);
    (void)snprintf(w->mounted, sizeof(w->mounted), "%s/on", w->folder);
    (void)snprintf(w->path, sizeof(w->path), "%s/tier", w->mounted);
    assert_int_equal(mkdir(w->mounted, 0700), 0);
    (void)sem_init(&w->done, 0, 0);
    atomic_init(&w->now, PC_S);
    w->params = (struct pc_disk_params){.path = w->path,
                                        .node_id = "node-1",
                                        .seed = 99,
                                        .size = 256 << 20,
                                        .segment_size = 1 << 20,
                                        .queue_bytes = 1 << 20,
                                        .n_threads = 2,
                                        .sync = PC_DISK_SYNC_SEAL,
                                        .clock = {world_now, w}};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (w->disk != NULL) {
        (void)pc_disk_close(w->disk, 60 * PC_S);
    }
    if (w->is_mounted) {
        (void)umount2(w->mounted, MNT_DETACH);
    }
    (void)unlink(w->image);
    (void)rmdir(w->mounted);
    (void)rmdir(w->folder);
    (void)sem_destroy(&w->done);
    free(w);
    assert_int_equal(pc_mem_outstanding(), 0);
    return 0;
}

/* ---- Tests ------------------------------------------------------------------
 */

/* 400 values of 100 KB do not fit into 24 MiB, whatever the bound says. */
static void check_small(struct world *w)
{
    unsigned n_put = 0;
    open_disk(w);
    for (unsigned key = 0; key < N_MANY; key++) {
        bool ok = put(w, key) == PC_DISK_OK;
        n_put += ok ? 1 : 0;
        let_pass(w, ok ? 0 : 60 * PC_S);
    }
    assert_true(n_put >= N_MANY * 9 / 10);
    assert_true(stats_of(w).used <= (uint64_t)ROOM_MIB << 20);
    assert_int_equal(stats_of(w).n_corrupt, 0);
    unsigned n = n_right(w, N_MANY);
    assert_true(n >= N_MANY / 8 && n < N_MANY);
    assert_true(n_right(w, N_MANY) - n_right(w, N_MANY / 2) > n / 2);
    close_disk(w);
    open_disk(w);
    while (pc_disk_recovering(w->disk)) {
        (void)sched_yield();
    }
    assert_true(n_right(w, N_MANY) + 40 >= n);
}

/* Others take all that is left: nothing can be written, what is there can be
 * read, and when there is space again writing goes on. */
static void check_used_up(struct world *w)
{
    uint64_t dropped = stats_of(w).n_dropped[PC_DISK_NO_SPACE];
    use_up(w, "first");
    unsigned key = N_MANY;
    while (key < N_MANY + 2000 &&
           stats_of(w).n_dropped[PC_DISK_NO_SPACE] == dropped) {
        (void)put(w, key++);
        use_up(w, "second"); /* Also what the tier gives up. */
    }
    assert_true(stats_of(w).n_dropped[PC_DISK_NO_SPACE] > dropped);
    (void)n_right(w, key);
    assert_int_equal(stats_of(w).n_corrupt, 0);
    give_back(w, "first");
    give_back(w, "second");
    let_pass(w, 60 * PC_S);
    assert_int_equal(put(w, N_MANY + 5000), PC_DISK_OK);
    assert_int_equal(get(w, N_MANY + 5000), PC_DISK_OK);
}

static void a_full_tmpfs_makes_the_tier_smaller(void **state)
{
    struct world *w = *state;
    if (!mount_tmpfs(w)) {
        skip();
    }
    check_small(w);
    check_used_up(w);
}

static void a_full_ext4_makes_the_tier_smaller(void **state)
{
    struct world *w = *state;
    if (!mount_ext4(w)) {
        skip();
    }
    check_small(w);
    check_used_up(w);
}

static bool is_writable(const struct world *w)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/probe", w->mounted);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        (void)close(file);
    }
    return file >= 0;
}

/* As ext4 does itself when it finds an error: no more writing. */
static void a_file_system_that_becomes_read_only_serves_what_it_has(
    void **state)
{
    struct world *w = *state;
    if (!mount_ext4(w)) {
        skip();
    }
    open_disk(w);
    for (unsigned key = 0; key < 40; key++) {
        assert_int_equal(put(w, key), PC_DISK_OK);
    }
    if (mount("none", w->mounted, NULL, MS_REMOUNT, "abort") != 0 ||
        is_writable(w)) {
        print_message("ext4 here does not become read-only when told to\n");
        skip();
    }
    unsigned n_failed = 0;
    for (unsigned key = 40; key < 100; key++) {
        n_failed += put(w, key) != PC_DISK_OK ? 1 : 0;
        let_pass(w, PC_S);
    }
    struct pc_disk_stats stats = stats_of(w);
    assert_true(n_failed >= 40);
    assert_int_equal(stats.state, PC_DISK_PAUSED);
    assert_true(stats.failure == PC_DISK_READ_ONLY ||
                stats.failure == PC_DISK_IO);
    assert_true(stats.n_dropped[PC_DISK_READ_ONLY] +
                    stats.n_dropped[PC_DISK_IO] >=
                n_failed);
    assert_true(n_right(w, 40) >= 30);
    assert_int_equal(stats_of(w).n_corrupt, 0);
}

/* Every read and write is EIO from here on. */
static void a_file_system_that_is_shut_down_gives_misses(void **state)
{
    struct world *w = *state;
    uint32_t how = 2; /* Without writing what is in the log. */
    if (!mount_ext4(w)) {
        skip();
    }
    open_disk(w);
    for (unsigned key = 0; key < 40; key++) {
        assert_int_equal(put(w, key), PC_DISK_OK);
    }
    int root = open(w->mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool down = root >= 0 && ioctl(root, SHUTDOWN, &how) == 0;
    int error = errno;
    if (root >= 0) {
        (void)close(root);
    }
    if (!down) {
        print_message("no shutdown of a file system: %s\n", strerror(error));
        skip();
    }
    for (unsigned key = 0; key < 80; key++) {
        enum pc_disk_result result =
            key < 40 ? get(w, key) : put(w, key + 1000);
        assert_true(result != PC_DISK_OK || key < 40);
        let_pass(w, PC_S);
    }
    struct pc_disk_stats stats = stats_of(w);
    assert_true(stats.n_io_errors > 0);
    assert_true(stats.n_read_failed[PC_DISK_IO] > 0);
    assert_int_equal(stats.n_corrupt, 0);
    assert_true(stats.state != PC_DISK_RUNNING);
}

static void no_test(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_full_tmpfs_makes_the_tier_smaller),
        T(a_full_ext4_makes_the_tier_smaller),
        T(a_file_system_that_becomes_read_only_serves_what_it_has),
        T(a_file_system_that_is_shut_down_gives_misses),
    };
    const struct CMUnitTest none[] = {cmocka_unit_test(no_test)};
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    if (!isolate()) {
        return cmocka_run_group_tests(none, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
