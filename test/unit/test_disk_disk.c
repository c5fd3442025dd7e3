#include "test.h"

#include "mem_disk.h"

#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEGMENT = 64 << 10, SIZE = 8 * SEGMENT };

/* What done functions were told. */
struct told
{
    unsigned n_writes, n_reads, n_gone, n_recovered;
    enum pc_disk_result write, read;
    enum pc_disk_gone why;
    struct pc_disk_place gone;
    char key[64];
    size_t key_len;
};

struct world
{
    struct mem_disk *mem;
    struct pc_disk *disk;
    struct pc_disk_params params;
    struct told told;
    uint64_t now;
    unsigned char value[SEGMENT], read[SEGMENT];
};

static uint64_t world_now(void *arg)
{
    return ((struct world *)arg)->now;
}

static void on_gone(void *arg, const struct pc_disk_place *place,
                    enum pc_disk_gone why)
{
    struct world *w = arg;
    w->told.n_gone++;
    w->told.why = why;
    w->told.gone = *place;
}

static void on_recovered(void *arg)
{
    ((struct world *)arg)->told.n_recovered++;
}

static void on_written(void *arg, enum pc_disk_result result)
{
    struct world *w = arg;
    w->told.n_writes++;
    w->told.write = result;
}

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    struct world *w = arg;
    w->told.n_reads++;
    w->told.read = result;
    if (result == PC_DISK_OK) {
        w->told.key_len = found->key_len;
        memcpy(w->told.key, found->key, found->key_len);
    } else {
        assert_null(found);
    }
}

static void turn_all(struct world *w)
{
    while (pc_disk_turn(w->disk)) {
    }
}

static void open_disk(struct world *w)
{
    char *error = NULL;
    assert_int_equal(pc_disk_open(&w->params, &w->disk, &error), PEERCACHE_OK);
    assert_null(error);
}

static void reopen(struct world *w)
{
    assert_true(pc_disk_close(w->disk, PC_S));
    w->disk = NULL;
    open_disk(w);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->mem = mem_disk_create(1);
    w->params = (struct pc_disk_params){.path = "/d",
                                        .node_id = "node-1",
                                        .seed = 99,
                                        .size = SIZE,
                                        .segment_size = SEGMENT,
                                        .queue_bytes = 1 << 20,
                                        .sync = PC_DISK_SYNC_SEAL,
                                        .io = mem_disk_io(w->mem),
                                        .clock = {world_now, w},
                                        .gone = on_gone,
                                        .recovered = on_recovered,
                                        .arg = w};
    *state = w;
    open_disk(w);
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    assert_true(pc_disk_close(w->disk, PC_S));
    mem_disk_destroy(w->mem);
    free(w);
    assert_int_equal(pc_mem_outstanding(), 0);
    return 0;
}

static struct pc_digest digest_of(unsigned key)
{
    return pc_digest_key(99, "ns", 2, &key, sizeof(key));
}

static void fill(unsigned char *value, unsigned key, size_t len)
{
    struct pc_rand r;
    pc_rand_init(&r, key * 1000003ull + len);
    for (size_t i = 0; i < len; i++) {
        value[i] = (unsigned char)(pc_rand_u64(&r) >> 24);
    }
}

static enum pc_disk_result queue(struct world *w, unsigned key, size_t len)
{
    fill(w->value, key, len);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .name_space = "ns",
                                  .name_space_len = 2,
                                  .key = &key,
                                  .key_len = sizeof(key),
                                  .value = w->value,
                                  .length = len,
                                  .checksum = pc_checksum(w->value, len),
                                  .tag = key,
                                  .done = on_written,
                                  .arg = w};
    return pc_disk_write(w->disk, &write);
}

static void put(struct world *w, unsigned key, size_t len)
{
    unsigned n = w->told.n_writes;
    assert_int_equal(queue(w, key, len), PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->told.n_writes, n + 1);
    assert_int_equal(w->told.write, PC_DISK_OK);
}

static enum pc_disk_result read_key(struct world *w, unsigned key, size_t len,
                                    const unsigned *as)
{
    struct pc_disk_read read = {.digest = digest_of(key),
                                .name_space = "ns",
                                .name_space_len = 2,
                                .key = as,
                                .key_len = sizeof(*as),
                                .buffer = w->read,
                                .length = len,
                                .done = on_read,
                                .arg = w};
    unsigned n = w->told.n_reads;
    memset(w->read, 0xee, sizeof(w->read));
    enum pc_disk_result result = pc_disk_read(w->disk, &read);
    if (result != PC_DISK_OK) {
        return result;
    }
    turn_all(w);
    assert_int_equal(w->told.n_reads, n + 1);
    return w->told.read;
}

static void assert_has(struct world *w, unsigned key, size_t len)
{
    struct pc_disk_place place;
    assert_true(pc_disk_lookup(w->disk, digest_of(key), &place));
    assert_int_equal(place.length, len);
    assert_int_equal(read_key(w, key, len, &key), PC_DISK_OK);
    fill(w->value, key, len);
    assert_memory_equal(w->read, w->value, len);
    assert_int_equal(w->told.key_len, sizeof(key));
    assert_memory_equal(w->told.key, &key, sizeof(key));
}

static bool has(struct world *w, unsigned key)
{
    struct pc_disk_place place;
    return pc_disk_lookup(w->disk, digest_of(key), &place);
}

/* ---- Tests
 * -------------------------------------------------------------------- */

static void what_is_written_is_read_back(void **state)
{
    struct world *w = *state;
    put(w, 1, 5000);
    put(w, 2, 1);
    put(w, 3, 40000);
    assert_has(w, 1, 5000);
    assert_has(w, 2, 1);
    assert_has(w, 3, 40000);
    assert_false(has(w, 4));
    assert_int_equal(read_key(w, 4, 10, NULL), PC_DISK_ABSENT);
    assert_int_equal(read_key(w, 1, 4999, NULL), PC_DISK_MISMATCH);
}

static void another_key_with_the_same_digest_is_a_mismatch(void **state)
{
    struct world *w = *state;
    unsigned other = 2;
    put(w, 1, 5000);
    assert_int_equal(read_key(w, 1, 5000, &other), PC_DISK_MISMATCH);
    assert_has(w, 1, 5000); /* Nothing is wrong with the record. */
    assert_int_equal(w->told.n_gone, 0);
}

static void what_is_there_is_not_written_again(void **state)
{
    struct world *w = *state;
    put(w, 1, 5000);
    assert_int_equal(queue(w, 1, 5000), PC_DISK_PRESENT);
    put(w, 1, 6000); /* Another value replaces it. */
    assert_has(w, 1, 6000);
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.n_records, 1);
    assert_int_equal(stats.n_dropped[PC_DISK_PRESENT], 1);
}

static void a_restart_finds_everything(void **state)
{
    struct world *w = *state;
    for (unsigned key = 0; key < 20; key++) {
        put(w, key, 10000 + key);
    }
    reopen(w);
    assert_true(pc_disk_recovering(w->disk));
    turn_all(w);
    assert_false(pc_disk_recovering(w->disk));
    assert_int_equal(w->told.n_recovered, 2);
    for (unsigned key = 0; key < 20; key++) {
        assert_has(w, key, 10000 + key);
    }
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.n_tails_cut, 0);
    assert_int_equal(stats.n_bad_indexes, 0);
    assert_true(stats.segments_found >= 4);
    assert_int_equal(stats.segments_indexed, stats.segments_found);
}

static void removed_values_stay_removed(void **state)
{
    struct world *w = *state;
    for (unsigned key = 0; key < 12; key++) {
        put(w, key, 10000);
    }
    w->told.n_writes = 0;
    for (unsigned key = 0; key < 12; key += 2) {
        assert_int_equal(pc_disk_remove(w->disk, digest_of(key), on_written, w),
                         PC_DISK_OK);
        assert_false(has(w, key)); /* At once. */
    }
    turn_all(w);
    assert_int_equal(w->told.n_writes, 6);
    assert_int_equal(w->told.write, PC_DISK_OK);
    put(w, 2, 7000);
    reopen(w);
    turn_all(w);
    for (unsigned key = 0; key < 12; key++) {
        assert_int_equal(has(w, key), key % 2 == 1 || key == 2);
    }
    assert_has(w, 2, 7000);
}

static void removing_what_is_not_there_writes_nothing(void **state)
{
    struct world *w = *state;
    turn_all(w);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(9), on_written, w),
                     PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->told.write, PC_DISK_ABSENT);
    assert_int_equal(mem_disk_bytes(w->mem), 0);
}

static void a_queued_write_is_removed_too(void **state)
{
    struct world *w = *state;
    assert_int_equal(queue(w, 1, 100), PC_DISK_OK);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(1), on_written, w),
                     PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->told.n_writes, 2);
    assert_false(has(w, 1));
    reopen(w);
    turn_all(w);
    assert_false(has(w, 1));
}

static void clear_leaves_nothing_on_disk(void **state)
{
    struct world *w = *state;
    for (unsigned key = 0; key < 20; key++) {
        put(w, key, 10000);
    }
    assert_int_equal(queue(w, 20, 10000), PC_DISK_OK);
    w->told.n_writes = 0;
    assert_int_equal(pc_disk_clear(w->disk, on_written, w), PC_DISK_OK);
    assert_false(has(w, 3));
    turn_all(w);
    assert_int_equal(w->told.n_writes, 2); /* The queued one: removed. */
    assert_int_equal(w->told.write, PC_DISK_OK);
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.n_records, 0);
    assert_int_equal(stats.live, 0);
    put(w, 30, 100);
    reopen(w);
    turn_all(w);
    for (unsigned key = 0; key < 21; key++) {
        assert_false(has(w, key));
    }
    assert_has(w, 30, 100);
}

static void the_bound_on_bytes_holds_and_the_oldest_go(void **state)
{
    struct world *w = *state;
    for (unsigned key = 0; key < 200; key++) {
        put(w, key, 10000);
        assert_true(mem_disk_bytes(w->mem) <= SIZE);
    }
    assert_has(w, 199, 10000);
    assert_false(has(w, 0));
    assert_true(w->told.n_gone > 100);
    assert_int_equal(w->told.why, PC_DISK_GONE_RECLAIMED);
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.n_reclaimed, w->told.n_gone);
    assert_int_equal(stats.n_records + w->told.n_gone, 200);
    assert_true(stats.used <= SIZE);
}

static void what_is_read_is_carried_over(void **state)
{
    struct world *w = *state;
    put(w, 0, 10000);
    for (unsigned key = 1; key < 200; key++) {
        put(w, key, 10000);
        assert_has(w, 0, 10000);
    }
    struct pc_disk_place place;
    assert_true(pc_disk_lookup(w->disk, digest_of(0), &place));
    assert_int_equal(place.tag, 0);
    assert_true(pc_disk_set_tag(w->disk, digest_of(0), 10000, 4711));
    for (unsigned key = 200; key < 260; key++) {
        put(w, key, 10000);
        assert_has(w, 0, 10000);
    }
    assert_true(pc_disk_lookup(w->disk, digest_of(0), &place));
    assert_int_equal(place.tag, 4711);
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_true(stats.n_carried > 0);
    reopen(w);
    turn_all(w);
    assert_has(w, 0, 10000);
}

static void over_the_queue_bound_the_newest_is_dropped(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    while (queue(w, n, 60000) == PC_DISK_OK) {
        n++;
    }
    assert_int_equal(n, (1 << 20) / 60000);
    assert_int_equal(queue(w, n, 60000), PC_DISK_QUEUE_FULL);
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.n_dropped[PC_DISK_QUEUE_FULL], 2);
    assert_true(stats.queued_bytes >= n * 60000);
    assert_true(stats.queued_bytes <= 1 << 20);
    turn_all(w);
    assert_int_equal(w->told.n_writes, n);
    pc_disk_stats(w->disk, &stats);
    assert_int_equal(stats.queued_bytes, 0);
}

static void a_value_larger_than_a_segment_gets_its_own(void **state)
{
    struct world *w = *state;
    static unsigned char big[SIZE];
    fill(big, 7, SIZE / 4 - 40000);
    w->params.queue_bytes = SIZE;
    reopen(w);
    struct pc_disk_write write = {.digest = digest_of(7),
                                  .value = big,
                                  .length = SIZE / 4 - 40000,
                                  .done = on_written,
                                  .arg = w};
    write.checksum = pc_checksum(big, write.length);
    put(w, 1, 100);
    assert_int_equal(pc_disk_write(w->disk, &write), PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->told.write, PC_DISK_OK);
    write.length = SIZE / 4;
    assert_int_equal(pc_disk_write(w->disk, &write), PC_DISK_TOO_LARGE);
    assert_has(w, 1, 100);
    assert_true(has(w, 7));
}

static void the_list_names_every_record(void **state)
{
    struct world *w = *state;
    struct pc_disk_place places[7];
    uint64_t cursor = 0;
    size_t n, n_all = 0;
    bool seen[30] = {false};
    for (unsigned key = 0; key < 30; key++) {
        put(w, key, 1000);
    }
    while ((n = pc_disk_list(w->disk, &cursor, places, 7)) > 0) {
        for (size_t i = 0; i < n; i++) {
            assert_true(places[i].tag < 30);
            assert_false(seen[places[i].tag]);
            seen[places[i].tag] = true;
        }
        n_all += n;
    }
    assert_int_equal(n_all, 30);
}

static void a_second_process_is_refused_by_name(void **state)
{
    struct world *w = *state;
    struct pc_disk *second = NULL;
    char *error = NULL;
    assert_int_equal(pc_disk_open(&w->params, &second, &error),
                     PEERCACHE_AGAIN);
    assert_null(second);
    assert_non_null(strstr(error, "/d"));
    assert_non_null(strstr(error, "77"));
    pc_free(error);
}

static void bad_parameters_are_refused_with_a_reason(void **state)
{
    struct world *w = *state;
    struct pc_disk_params params = w->params;
    struct pc_disk *disk;
    char *error;
    params.size = 3 * SEGMENT;
    assert_int_equal(pc_disk_open(&params, &disk, &error), PEERCACHE_INVALID);
    assert_non_null(strstr(error, "segments"));
    pc_free(error);
    params = w->params;
    params.node_id = "";
    assert_int_equal(pc_disk_open(&params, &disk, NULL), PEERCACHE_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(what_is_written_is_read_back),
        T(another_key_with_the_same_digest_is_a_mismatch),
        T(what_is_there_is_not_written_again),
        T(a_restart_finds_everything),
        T(removed_values_stay_removed),
        T(removing_what_is_not_there_writes_nothing),
        T(a_queued_write_is_removed_too),
        T(clear_leaves_nothing_on_disk),
        T(the_bound_on_bytes_holds_and_the_oldest_go),
        T(what_is_read_is_carried_over),
        T(over_the_queue_bound_the_newest_is_dropped),
        T(a_value_larger_than_a_segment_gets_its_own),
        T(the_list_names_every_record),
        T(a_second_process_is_refused_by_name),
        T(bad_parameters_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
