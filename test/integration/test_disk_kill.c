/*
 * A process that writes to a directory is killed by the system, again and
 * again; what it had said was written is there, byte for byte.
 */
#include "test.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 12, KEYS = 4000, LENGTH_MAX = 30000 };

/* What the killed process leaves in memory that outlives it. */
struct shared
{
    _Atomic bool written[KEYS], removed[KEYS], reclaimed[KEYS];
    _Atomic unsigned next;
};

struct write
{
    struct shared *shared;
    unsigned key;
    unsigned char value[LENGTH_MAX];
};

static size_t length_of(unsigned key)
{
    return 1 + key * 7919u % LENGTH_MAX;
}

static struct pc_digest digest_of(unsigned key)
{
    return (struct pc_digest){key * 0x9e3779b97f4a7c15ull, key};
}

static void fill(unsigned char *value, unsigned key)
{
    struct pc_rand r;
    pc_rand_init(&r, key);
    for (size_t i = 0; i < length_of(key); i++) {
        value[i] = (unsigned char)(pc_rand_u64(&r) >> 24);
    }
}

static void on_gone(void *arg, const struct pc_disk_place *place,
                    enum pc_disk_gone why)
{
    struct shared *shared = arg;
    if (why == PC_DISK_GONE_RECLAIMED) {
        atomic_store(&shared->reclaimed[place->digest.hi], true);
    }
}

static void on_written(void *arg, enum pc_disk_result result)
{
    struct write *write = arg;
    if (result == PC_DISK_OK) {
        atomic_store(&write->shared->written[write->key], true);
    }
    free(write);
}

static void on_removed(void *arg, enum pc_disk_result result)
{
    if (result == PC_DISK_OK) {
        atomic_store((_Atomic bool *)arg, true);
    }
}

static struct pc_disk *open_disk(const char *path, struct shared *shared,
                                 uint32_t n_threads)
{
    struct pc_disk *disk;
    char *error = NULL;
    struct pc_disk_params params = {.path = path,
                                    .node_id = "n",
                                    .size = 1 << 30,
                                    .segment_size = 512 << 10,
                                    .queue_bytes = 1 << 20,
                                    .n_threads = n_threads,
                                    .sync = PC_DISK_SYNC_NEVER,
                                    .gone = on_gone,
                                    .arg = shared};
    if (pc_disk_open(&params, &disk, &error) != PEERCACHE_OK) {
        print_message("%s\n", error);
        return NULL;
    }
    return disk;
}

/* Writes until it is killed. */
static _Noreturn void child_main(const char *path, struct shared *shared)
{
    struct pc_disk *disk = open_disk(path, shared, 2);
    while (disk != NULL) {
        unsigned key = atomic_fetch_add(&shared->next, 1) % KEYS;
        struct write *write = malloc(sizeof(*write));
        if (write == NULL || atomic_load(&shared->removed[key])) {
            free(write);
            continue;
        }
        write->shared = shared;
        write->key = key;
        fill(write->value, key);
        struct pc_disk_write w = {.digest = digest_of(key),
                                  .value = write->value,
                                  .length = length_of(key),
                                  .checksum =
                                      pc_checksum(write->value, length_of(key)),
                                  .done = on_written,
                                  .arg = write};
        if (pc_disk_write(disk, &w) != PC_DISK_OK) {
            free(write);
            (void)usleep(100);
        }
        if (key % 10 == 9) {
            unsigned victim = key - 9;
            (void)pc_disk_remove(disk, digest_of(victim), on_removed,
                                 (void *)&shared->removed[victim]);
        }
    }
    _exit(3);
}

struct got
{
    bool done;
    enum pc_disk_result result;
};

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    struct got *got = arg;
    (void)found;
    got->done = true;
    got->result = result;
}

static unsigned check_key(struct pc_disk *disk, const struct shared *shared,
                          unsigned key)
{
    static unsigned char expected[LENGTH_MAX], read_bytes[LENGTH_MAX];
    struct pc_disk_place place;
    bool found = pc_disk_lookup(disk, digest_of(key), &place);
    if (atomic_load(&shared->removed[key])) {
        assert_false(found);
        return 0;
    }
    if (!found) {
        /* Not one that was said to be written, and not removed since. */
        assert_true(!atomic_load(&shared->written[key]) || key % 10 == 0 ||
                    atomic_load(&shared->reclaimed[key]));
        return 0;
    }
    struct got got = {false, PC_DISK_OK};
    struct pc_disk_read read = {.digest = digest_of(key),
                                .buffer = read_bytes,
                                .length = length_of(key),
                                .done = on_read,
                                .arg = &got};
    assert_int_equal(pc_disk_read(disk, &read), PC_DISK_OK);
    while (!got.done) {
        (void)pc_disk_turn(disk);
    }
    assert_int_equal(got.result, PC_DISK_OK);
    fill(expected, key);
    assert_memory_equal(read_bytes, expected, length_of(key));
    return 1;
}

static void a_killed_process_loses_nothing_that_it_said_was_written(
    void **state)
{
    char folder[] = "/tmp/pc-disk-kill-XXXXXX";
    char command[64];
    unsigned n_found = 0;
    (void)state;
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    assert_non_null(mkdtemp(folder));
    for (unsigned i = 0; i < KILLS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            child_main(folder, shared);
        }
        (void)usleep(20000 + i * 13000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        struct pc_disk *disk = open_disk(folder, shared, 0);
        assert_non_null(disk);
        while (pc_disk_recovering(disk)) {
            (void)pc_disk_turn(disk);
        }
        for (unsigned key = 0; key < KEYS; key++) {
            n_found += check_key(disk, shared, key);
        }
        assert_true(pc_disk_close(disk, 10 * PC_S));
    }
    assert_true(n_found > 100);
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
    (void)munmap(shared, sizeof(*shared));
    assert_int_equal(pc_mem_outstanding(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_killed_process_loses_nothing_that_it_said_was_written),
    };
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
