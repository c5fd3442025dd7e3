#include "test.h"

#include "mem_disk.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEYS = 200, ROUNDS = 1500, LENGTH_MAX = 20000 };

struct world
{
    struct pc_disk *disk;
    struct pc_disk_params params;
    char folder[64], path[80];
    unsigned char *values[KEYS];
    _Atomic uint64_t n_queued, n_done, n_ok, n_wrong;
};

struct reading
{
    struct world *w;
    unsigned key;
    unsigned char *buffer;
};

static size_t length_of(unsigned key)
{
    return 1 + key * 97u % LENGTH_MAX;
}

static struct pc_digest digest_of(unsigned key)
{
    return pc_digest_key(5, NULL, 0, &key, sizeof(key));
}

static void on_written(void *arg, enum pc_disk_result result)
{
    struct world *w = arg;
    atomic_fetch_add(&w->n_done, 1);
    atomic_fetch_add(&w->n_ok, result == PC_DISK_OK ? 1 : 0);
}

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    struct reading *reading = arg;
    struct world *w = reading->w;
    if (result == PC_DISK_OK &&
        (found->key_len != sizeof(unsigned) ||
         memcmp(found->key, &reading->key, sizeof(unsigned)) != 0 ||
         memcmp(reading->buffer, w->values[reading->key],
                length_of(reading->key)) != 0)) {
        atomic_fetch_add(&w->n_wrong, 1);
    }
    on_written(w, result);
    free(reading->buffer);
    free(reading);
}

static void do_put(struct world *w, unsigned key)
{
    struct pc_disk_write write = {
        .digest = digest_of(key),
        .key = &key,
        .key_len = sizeof(key),
        .value = w->values[key],
        .length = length_of(key),
        .checksum = pc_checksum(w->values[key], length_of(key)),
        .done = on_written,
        .arg = w};
    if (pc_disk_write(w->disk, &write) == PC_DISK_OK) {
        atomic_fetch_add(&w->n_queued, 1);
    }
}

static void do_get(struct world *w, unsigned key)
{
    struct reading *reading = malloc(sizeof(*reading));
    assert_non_null(reading);
    *reading = (struct reading){w, key, malloc(length_of(key))};
    struct pc_disk_read read = {.digest = digest_of(key),
                                .key = &key,
                                .key_len = sizeof(key),
                                .buffer = reading->buffer,
                                .length = length_of(key),
                                .done = on_read,
                                .arg = reading};
    if (pc_disk_read(w->disk, &read) == PC_DISK_OK) {
        atomic_fetch_add(&w->n_queued, 1);
    } else {
        free(reading->buffer);
        free(reading);
    }
}

static void *caller_main(void *arg)
{
    struct world *w = arg;
    struct pc_rand r;
    struct pc_disk_place place;
    pc_rand_init(&r, (uint64_t)(uintptr_t)&r);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned key = (unsigned)pc_rand_below(&r, KEYS);
        switch (pc_rand_below(&r, 16)) {
        case 0:
            if (pc_disk_remove(w->disk, digest_of(key), on_written, w) ==
                PC_DISK_OK) {
                atomic_fetch_add(&w->n_queued, 1);
            }
            break;
        case 1:
            (void)pc_disk_lookup(w->disk, digest_of(key), &place);
            break;
        case 2:
            if (i % 100 == 0 &&
                pc_disk_clear(w->disk, on_written, w) == PC_DISK_OK) {
                atomic_fetch_add(&w->n_queued, 1);
            }
            break;
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
            do_put(w, key);
            break;
        default:
            do_get(w, key);
            break;
        }
    }
    return NULL;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct pc_rand r;
    assert_non_null(w);
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/pc-disk-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->path, sizeof(w->path), "%s/a/b", w->folder);
    w->params = (struct pc_disk_params){.path = w->path,
                                        .node_id = "n",
                                        .seed = 5,
                                        .size = 4 << 20,
                                        .segment_size = 256 << 10,
                                        .queue_bytes = 1 << 20,
                                        .n_threads = 4,
                                        .sync = PC_DISK_SYNC_SEAL};
    pc_rand_init(&r, 3);
    for (unsigned key = 0; key < KEYS; key++) {
        w->values[key] = malloc(length_of(key));
        for (size_t i = 0; i < length_of(key); i++) {
            w->values[key][i] = (unsigned char)(pc_rand_u64(&r) >> 20);
        }
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[128];
    for (unsigned key = 0; key < KEYS; key++) {
        free(w->values[key]);
    }
    (void)snprintf(command, sizeof(command), "rm -rf %s", w->folder);
    assert_int_equal(system(command), 0);
    free(w);
    assert_int_equal(pc_mem_outstanding(), 0);
    return 0;
}

static void many_threads_write_read_remove_and_clear_real_files(void **state)
{
    struct world *w = *state;
    pthread_t threads[3];
    for (unsigned round = 0; round < 2; round++) {
        char *error = NULL;
        assert_int_equal(pc_disk_open(&w->params, &w->disk, &error),
                         PEERCACHE_OK);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, caller_main, w),
                             0);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        }
        assert_true(pc_disk_close(w->disk, 30 * PC_S));
        /* Each was told once, by the end of close. */
        assert_int_equal(atomic_load(&w->n_done), atomic_load(&w->n_queued));
        assert_int_equal(atomic_load(&w->n_wrong), 0);
        assert_true(atomic_load(&w->n_ok) > 100);
    }
}

static void two_opens_of_one_directory_do_not_meet(void **state)
{
    struct world *w = *state;
    struct pc_disk *second;
    char *error = NULL;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_int_equal(pc_disk_open(&w->params, &second, &error),
                     PEERCACHE_AGAIN);
    assert_non_null(strstr(error, w->path));
    pc_free(error);
    assert_true(pc_disk_close(w->disk, PC_S));
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_true(pc_disk_close(w->disk, PC_S));
}

/* Somebody has cleaned up: the directory itself is locked as well. */
static void a_deleted_lock_file_lets_nobody_in(void **state)
{
    struct world *w = *state;
    struct pc_disk *second;
    char *error = NULL;
    char lock[96];
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    (void)snprintf(lock, sizeof(lock), "%s/lock", w->path);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(pc_disk_open(&w->params, &second, &error),
                     PEERCACHE_AGAIN);
    assert_non_null(strstr(error, w->path));
    pc_free(error);
    assert_true(pc_disk_close(w->disk, PC_S));
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_true(pc_disk_close(w->disk, PC_S));
}

/* It has our descriptors, but not our directory. */
static void a_forked_child_does_not_keep_what_its_parent_has_closed(
    void **state)
{
    struct world *w = *state;
    int to_child[2];
    int status;
    char byte;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_int_equal(pipe(to_child), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(to_child[1]);
        _exit(read(to_child[0], &byte, 1) == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    assert_true(pc_disk_close(w->disk, PC_S));
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_true(pc_disk_close(w->disk, PC_S));
    (void)close(to_child[1]); /* Now it ends. */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)close(to_child[0]);
}

/* ---- Where reads go
 * ------------------------------------------------------------ */

static _Atomic uintptr_t read_to;

static int noted_pread(void *arg, int file, void *to, size_t len, uint64_t at,
                       size_t *n_p)
{
    atomic_store(&read_to, (uintptr_t)to);
    return pc_disk_io_system()->pread(arg, file, to, len, at, n_p);
}

/* Was the kernel asked for huge pages there? */
static bool is_huge(uintptr_t addr)
{
    char line[512];
    unsigned long from, to;
    bool here = false;
    bool huge = false;
    FILE *smaps = fopen("/proc/self/smaps", "re");
    assert_non_null(smaps);
    while (fgets(line, sizeof(line), smaps) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            here = from <= addr && addr < to;
        } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            huge = strstr(line, " hg") != NULL;
        }
    }
    (void)fclose(smaps);
    return huge;
}

/* A read of many blocks is one piece for the disk, and not one a page. */
static void values_are_read_into_huge_pages(void **state)
{
    struct world *w = *state;
    struct pc_disk_io io = *pc_disk_io_system();
    io.pread = noted_pread;
    w->params.io = &io;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    do_put(w, 7);
    while (atomic_load(&w->n_done) < 1) {
        (void)usleep(100);
    }
    atomic_store(&read_to, 0);
    do_get(w, 7);
    while (atomic_load(&w->n_done) < 2) {
        (void)usleep(100);
    }
    assert_int_equal(atomic_load(&w->n_ok), 2);
    bool huge = is_huge(atomic_load(&read_to));
    assert_true(pc_disk_close(w->disk, 30 * PC_S));
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        skip(); /* This kernel has none. */
    }
    assert_true(huge);
}

/* ---- A disk that hangs
 * ------------------------------------------------------------ */

struct hang
{
    struct pc_disk_io io;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    unsigned n_hanging, n_ended;
    int error;      /* Of opening. */
    int list_error; /* Of looking into it then. */
};

static void hang_on(struct hang *hang)
{
    (void)pthread_mutex_lock(&hang->lock);
    hang->n_hanging++;
    (void)pthread_cond_broadcast(&hang->changed);
    while (hang->hangs) {
        (void)pthread_cond_wait(&hang->changed, &hang->lock);
    }
    hang->n_hanging--;
    (void)pthread_mutex_unlock(&hang->lock);
}

static int hanging_pwrite(void *arg, int file, const void *from, size_t len,
                          uint64_t at, size_t *n_p)
{
    hang_on(arg);
    return pc_disk_io_system()->pwrite(NULL, file, from, len, at, n_p);
}

static int hanging_open_dir(void *arg, const char *path, int *dir_p)
{
    struct hang *hang = arg;
    hang_on(hang);
    return hang->error != 0 ? hang->error
                            : pc_disk_io_system()->open_dir(NULL, path, dir_p);
}

static int failing_list(void *arg, int dir,
                        void (*each)(void *to, const char *name), void *to)
{
    struct hang *hang = arg;
    return hang->list_error != 0
               ? hang->list_error
               : pc_disk_io_system()->list(NULL, dir, each, to);
}

static void counted_close(void *arg, int file)
{
    struct hang *hang = arg;
    pc_disk_io_system()->close(NULL, file);
    (void)pthread_mutex_lock(&hang->lock);
    hang->n_ended++;
    (void)pthread_cond_broadcast(&hang->changed);
    (void)pthread_mutex_unlock(&hang->lock);
}

static void set_hangs(struct hang *hang, bool hangs)
{
    (void)pthread_mutex_lock(&hang->lock);
    hang->hangs = hangs;
    (void)pthread_cond_broadcast(&hang->changed);
    (void)pthread_mutex_unlock(&hang->lock);
}

static void make_hang(struct world *w, struct hang *hang)
{
    hang->io = *pc_disk_io_system();
    hang->io.arg = hang;
    hang->io.pwrite = hanging_pwrite;
    hang->io.open_dir = hanging_open_dir;
    hang->io.list = failing_list;
    hang->io.close = counted_close;
    (void)pthread_mutex_init(&hang->lock, NULL);
    (void)pthread_cond_init(&hang->changed, NULL);
    w->params.io = &hang->io;
}

static void close_does_not_wait_for_a_disk_that_hangs(void **state)
{
    struct world *w = *state;
    static struct hang hang;
    make_hang(w, &hang);
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    do_put(w, 1);
    while (atomic_load(&w->n_done) == 0) {
        (void)usleep(100); /* The first is written. */
    }
    set_hangs(&hang, true);
    for (unsigned key = 2; key < 30; key++) {
        do_put(w, key);
    }
    (void)pthread_mutex_lock(&hang.lock);
    while (hang.n_hanging == 0) {
        (void)pthread_cond_wait(&hang.changed, &hang.lock);
    }
    (void)pthread_mutex_unlock(&hang.lock);
    uint64_t began = pc_clock_monotonic();
    assert_false(pc_disk_close(w->disk, 200 * PC_MS));
    assert_true(pc_clock_monotonic() - began < 5 * PC_S);
    assert_int_equal(atomic_load(&w->n_done), atomic_load(&w->n_queued));
    for (unsigned key = 2; key < 30; key++) {
        memset(w->values[key], 0xee, length_of(key)); /* They are ours again. */
    }
    set_hangs(&hang, false);
    /* What is left over frees itself. */
    while (pc_mem_outstanding() > 0) {
        (void)usleep(1000);
    }
}

static enum pc_disk_state state_of(struct world *w)
{
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    return stats.state;
}

/* A directory that hangs is opened for a while only: no disk so far. */
static void open_hanging(struct world *w, struct hang *hang)
{
    struct pc_disk_place place;
    uint64_t cursor = 0;
    set_hangs(hang, true);
    w->params.open_ns = 20 * PC_MS;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    assert_int_equal(state_of(w), PC_DISK_OPENING);
    assert_true(pc_disk_recovering(w->disk));
    assert_false(pc_disk_lookup(w->disk, digest_of(1), &place));
    assert_int_equal(pc_disk_list(w->disk, &cursor, &place, 1), 0);
    /* What may be there cannot be removed, and nobody is told that it was. */
    assert_int_equal(pc_disk_remove(w->disk, digest_of(1), on_written, w),
                     PC_DISK_LOST);
    assert_int_equal(pc_disk_clear(w->disk, on_written, w), PC_DISK_LOST);
    uint64_t n_queued = atomic_load(&w->n_queued);
    do_put(w, 2);
    do_get(w, 1);
    assert_int_equal(atomic_load(&w->n_queued), n_queued);
}

static void a_directory_that_does_not_answer_is_opened_when_it_does(
    void **state)
{
    struct world *w = *state;
    struct pc_disk_place place;
    static struct hang hang;
    make_hang(w, &hang);
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    do_put(w, 1);
    assert_true(pc_disk_close(w->disk, 60 * PC_S));
    open_hanging(w, &hang);
    set_hangs(&hang, false);
    while (state_of(w) == PC_DISK_OPENING || pc_disk_recovering(w->disk)) {
        (void)usleep(1000);
    }
    assert_int_equal(state_of(w), PC_DISK_RUNNING);
    assert_true(pc_disk_lookup(w->disk, digest_of(1), &place));
    do_get(w, 1);
    do_put(w, 2);
    assert_true(pc_disk_close(w->disk, 60 * PC_S));
    assert_int_equal(atomic_load(&w->n_queued), 3);
    assert_int_equal(atomic_load(&w->n_ok), 3);
    assert_int_equal(atomic_load(&w->n_wrong), 0);
}

static void a_directory_that_answers_with_an_error_at_last_is_lost(void **state)
{
    struct world *w = *state;
    static struct hang hang;
    make_hang(w, &hang);
    hang.error = EIO;
    open_hanging(w, &hang);
    set_hangs(&hang, false);
    while (state_of(w) == PC_DISK_OPENING) {
        (void)usleep(1000);
    }
    assert_int_equal(state_of(w), PC_DISK_GONE);
    assert_false(pc_disk_recovering(w->disk));
    assert_true(pc_disk_close(w->disk, 60 * PC_S));
    /* In time it is what it was. */
    char *error = NULL;
    w->params.open_ns = 60 * PC_S;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, &error), PEERCACHE_IO);
    assert_non_null(strstr(error, w->params.path));
    pc_free(error);
}

static void a_directory_that_is_lost_while_it_opens_is_left_to_others(
    void **state)
{
    struct world *w = *state;
    static struct hang hang;
    make_hang(w, &hang);
    hang.list_error = EIO;
    open_hanging(w, &hang);
    set_hangs(&hang, false);
    while (state_of(w) == PC_DISK_OPENING) {
        (void)usleep(1000);
    }
    assert_int_equal(state_of(w), PC_DISK_GONE);
    struct pc_disk *other = NULL;
    struct pc_disk_params params = w->params;
    params.io = pc_disk_io_system();
    assert_int_equal(pc_disk_open(&params, &other, NULL), PEERCACHE_OK);
    assert_true(pc_disk_close(other, 60 * PC_S));
    assert_true(pc_disk_close(w->disk, 60 * PC_S));
}

static void close_does_not_wait_for_a_directory_that_does_not_answer(
    void **state)
{
    struct world *w = *state;
    static struct hang hang;
    make_hang(w, &hang);
    open_hanging(w, &hang);
    uint64_t began = pc_clock_monotonic();
    assert_false(pc_disk_close(w->disk, 200 * PC_MS));
    assert_true(pc_clock_monotonic() - began < 5 * PC_S);
    set_hangs(&hang, false);
    while (pc_mem_outstanding() > 0) {
        (void)usleep(1000); /* The thread that hung frees all. */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            many_threads_write_read_remove_and_clear_real_files, setup,
            teardown),
        cmocka_unit_test_setup_teardown(two_opens_of_one_directory_do_not_meet,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_lock_file_lets_nobody_in,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_forked_child_does_not_keep_what_its_parent_has_closed, setup,
            teardown),
        cmocka_unit_test_setup_teardown(values_are_read_into_huge_pages, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            close_does_not_wait_for_a_disk_that_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_directory_that_does_not_answer_is_opened_when_it_does, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            a_directory_that_answers_with_an_error_at_last_is_lost, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            a_directory_that_is_lost_while_it_opens_is_left_to_others, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            close_does_not_wait_for_a_directory_that_does_not_answer, setup,
            teardown),
    };
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
