#include "test.h"

#include "mem_disk.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"
#include "disk/disk_int.h"
#include "disk/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEGMENT = 64 << 10,
    SIZE = 8 * SEGMENT,
    LENGTH = 5000,
    ONE = 6 /* Records in one segment. */
};

struct world
{
    struct mem_disk *mem;
    struct pc_disk *disk;
    struct pc_disk_params params;
    uint64_t now;
    unsigned n_done, n_gone;
    enum pc_disk_result result;
    enum pc_disk_gone why;
    unsigned char value[LENGTH], read[LENGTH];
};

static uint64_t world_now(void *arg)
{
    return ((struct world *)arg)->now;
}

static void on_gone(void *arg, const struct pc_disk_place *place,
                    enum pc_disk_gone why)
{
    struct world *w = arg;
    (void)place;
    w->n_gone++;
    w->why = why;
}

static void on_done(void *arg, enum pc_disk_result result)
{
    struct world *w = arg;
    w->n_done++;
    w->result = result;
}

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    (void)found;
    on_done(arg, result);
}

static void turn_all(struct world *w)
{
    while (pc_disk_turn(w->disk)) {
    }
}

static void open_disk(struct world *w)
{
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
    turn_all(w);
}

static void close_disk(struct world *w)
{
    assert_true(pc_disk_close(w->disk, PC_S));
    w->disk = NULL;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->mem = mem_disk_create(1);
    w->now = PC_S;
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
    return pc_digest_key(99, NULL, 0, &key, sizeof(key));
}

static void fill(unsigned char *value, unsigned key)
{
    struct pc_rand r;
    pc_rand_init(&r, key);
    for (size_t i = 0; i < LENGTH; i++) {
        value[i] = (unsigned char)(pc_rand_u64(&r) >> 24);
    }
}

/* How a write ends, at once or by its done function. */
static enum pc_disk_result put(struct world *w, unsigned key)
{
    fill(w->value, key);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .key = &key,
                                  .key_len = sizeof(key),
                                  .value = w->value,
                                  .length = LENGTH,
                                  .checksum = pc_checksum(w->value, LENGTH),
                                  .done = on_done,
                                  .arg = w};
    unsigned n = w->n_done;
    enum pc_disk_result result = pc_disk_write(w->disk, &write);
    if (result != PC_DISK_OK) {
        return result;
    }
    turn_all(w);
    assert_int_equal(w->n_done, n + 1);
    return w->result;
}

static void put_many(struct world *w, unsigned n)
{
    for (unsigned key = 0; key < n; key++) {
        assert_int_equal(put(w, key), PC_DISK_OK);
    }
}

static bool has(struct world *w, unsigned key)
{
    struct pc_disk_place place;
    return pc_disk_lookup(w->disk, digest_of(key), &place);
}

/* A read is right, or it is none. */
static enum pc_disk_result get(struct world *w, unsigned key)
{
    struct pc_disk_read read = {.digest = digest_of(key),
                                .key = &key,
                                .key_len = sizeof(key),
                                .buffer = w->read,
                                .length = LENGTH,
                                .done = on_read,
                                .arg = w};
    enum pc_disk_result result = pc_disk_read(w->disk, &read);
    if (result != PC_DISK_OK) {
        return result;
    }
    turn_all(w);
    if (w->result == PC_DISK_OK) {
        fill(w->value, key);
        assert_memory_equal(w->read, w->value, LENGTH);
    }
    return w->result;
}

static struct pc_disk_stats stats_of(struct world *w)
{
    struct pc_disk_stats stats;
    pc_disk_stats(w->disk, &stats);
    return stats;
}

/* Its thread has nothing to do now, and sleeps until there may be something. */
static void assert_keeper_sleeps(struct world *w)
{
    uint64_t due;
    turn_all(w);
    assert_false(pc_disk_keep(w->disk, &due));
    assert_true(due > w->now);
}

/* ---- Errors of the disk
 * ------------------------------------------------------- */

static void a_write_error_is_told_and_writing_goes_on_after_a_pause(
    void **state)
{
    struct world *w = *state;
    put_many(w, 3);
    mem_disk_fail(w->mem, MEM_DISK_WRITE, EIO, 0, 1);
    assert_int_equal(put(w, 3), PC_DISK_IO);
    assert_int_equal(put(w, 4), PC_DISK_IO); /* Not tried. */
    assert_int_equal(stats_of(w).state, PC_DISK_PAUSED);
    assert_int_equal(stats_of(w).failure, PC_DISK_IO);
    for (unsigned key = 0; key < 3; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK);
    }
    assert_false(has(w, 3));
    assert_keeper_sleeps(w);
    w->now += 2 * PC_S;
    assert_keeper_sleeps(w); /* Nobody has anything to write. */
    assert_int_equal(put(w, 3), PC_DISK_OK);
    assert_int_equal(stats_of(w).state, PC_DISK_RUNNING);
    assert_int_equal(stats_of(w).n_dropped[PC_DISK_IO], 2);
    close_disk(w);
    open_disk(w);
    for (unsigned key = 0; key < 4; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK);
    }
}

static void a_read_error_is_a_miss_of_that_record_only(void **state)
{
    struct world *w = *state;
    put_many(w, 3);
    mem_disk_fail(w->mem, MEM_DISK_READ, EIO, 0, 1);
    assert_int_equal(get(w, 1), PC_DISK_IO);
    assert_int_equal(w->n_gone, 1);
    assert_int_equal(w->why, PC_DISK_GONE_BAD);
    assert_false(has(w, 1));
    assert_int_equal(get(w, 1), PC_DISK_ABSENT);
    assert_int_equal(get(w, 0), PC_DISK_OK);
    assert_int_equal(stats_of(w).n_read_failed[PC_DISK_IO], 1);
    /* What cannot be read is on disk nevertheless: removing it needs a
     * tombstone. */
    assert_int_equal(pc_disk_remove(w->disk, digest_of(1), on_done, w),
                     PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->result, PC_DISK_OK);
    close_disk(w);
    open_disk(w);
    assert_false(has(w, 1));
    assert_true(has(w, 2));
}

static void a_full_file_system_makes_the_tier_smaller(void **state)
{
    struct world *w = *state;
    unsigned n_ok = 0;
    mem_disk_set_space(w->mem, 5 * SEGMENT);
    for (unsigned key = 0; key < 300; key++) {
        n_ok += put(w, key) == PC_DISK_OK ? 1 : 0;
        w->now += PC_S;
    }
    assert_true(n_ok > 250);
    assert_true(mem_disk_bytes(w->mem) <= 5 * SEGMENT);
    assert_true(stats_of(w).capacity < SIZE);
    mem_disk_set_space(w->mem, 1);
    for (unsigned key = 300; key < 400; key++) {
        (void)put(w, key);
        w->now += PC_MS;
    }
    assert_int_equal(stats_of(w).state, PC_DISK_PAUSED);
    assert_int_equal(stats_of(w).failure, PC_DISK_NO_SPACE);
    assert_true(stats_of(w).n_dropped[PC_DISK_NO_SPACE] > 0);
    mem_disk_set_space(w->mem, 0);
    w->now += 60 * PC_S;
    assert_int_equal(put(w, 500), PC_DISK_OK);
    assert_int_equal(get(w, 500), PC_DISK_OK);
}

static unsigned n_found(struct world *w, unsigned n_keys)
{
    unsigned n = 0;
    for (unsigned key = 0; key < n_keys; key++) {
        n += has(w, key) ? 1 : 0;
    }
    return n;
}

/* The file system says that there is space, and has none for us. */
static void under_a_quota_the_oldest_segments_go_and_writing_goes_on(
    void **state)
{
    struct world *w = *state;
    mem_disk_set_quota(w->mem, 5 * SEGMENT);
    for (unsigned key = 0; key < 300; key++) {
        assert_int_equal(put(w, key), PC_DISK_OK);
    }
    assert_true(mem_disk_bytes(w->mem) <= 5 * SEGMENT);
    assert_true(n_found(w, 300) >= 2 * ONE);
    assert_int_equal(get(w, 299), PC_DISK_OK);
    assert_int_equal(stats_of(w).state, PC_DISK_RUNNING);
    assert_int_equal(stats_of(w).n_dropped[PC_DISK_NO_SPACE], 0);
}

/* Others have all of it: giving up everything of ours would not help. */
static void a_quota_that_others_use_up_costs_a_few_segments_a_pause(
    void **state)
{
    struct world *w = *state;
    unsigned before;
    put_many(w, 7 * ONE);
    before = n_found(w, 7 * ONE);
    mem_disk_set_quota(w->mem, 1);
    for (unsigned key = 7 * ONE; key < 9 * ONE; key++) {
        (void)put(w, key);
    }
    assert_int_equal(n_found(w, 7 * ONE), before);
    w->now += 2 * PC_S; /* The pause is over. */
    assert_int_equal(put(w, 400), PC_DISK_NO_SPACE);
    assert_int_equal(stats_of(w).state, PC_DISK_PAUSED);
    assert_int_equal(stats_of(w).failure, PC_DISK_NO_SPACE);
    assert_true(n_found(w, 7 * ONE) < before);
    assert_true(n_found(w, 7 * ONE) + 5 * ONE >= before);
    mem_disk_set_space(w->mem, 0);
    w->now += 60 * PC_S;
    assert_int_equal(put(w, 500), PC_DISK_OK);
    assert_int_equal(stats_of(w).state, PC_DISK_RUNNING);
}

static void few_files_are_open_whatever_the_number_of_segments(void **state)
{
    struct world *w = *state;
    close_disk(w);
    w->params.max_files = 2;
    open_disk(w);
    put_many(w, 6 * ONE);
    /* Besides those two: one that is written to, and one for later. */
    assert_true(stats_of(w).n_segments >= 6);
    assert_true(mem_disk_n_open(w->mem) <= 4);
    for (unsigned key = 0; key < 6 * ONE; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK);
        assert_true(mem_disk_n_open(w->mem) <= 5);
    }
    close_disk(w);
    assert_int_equal(mem_disk_n_open(w->mem), 0);
    open_disk(w);
    assert_true(mem_disk_n_open(w->mem) <= 4);
    for (unsigned key = 0; key < 6 * ONE; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK);
    }
}

static void a_process_out_of_files_loses_no_record(void **state)
{
    struct world *w = *state;
    close_disk(w);
    w->params.max_files = 1;
    open_disk(w);
    put_many(w, 4 * ONE);
    assert_int_equal(get(w, ONE), PC_DISK_OK); /* Closes the first. */
    mem_disk_fail(w->mem, MEM_DISK_OPEN, EMFILE, 0, 1);
    assert_int_equal(get(w, 0), PC_DISK_NO_MEMORY);
    assert_int_equal(get(w, 0), PC_DISK_OK);
    assert_int_equal(w->n_gone, 0);
    /* A file that somebody has deleted is another matter. */
    assert_int_equal(get(w, ONE), PC_DISK_OK);
    assert_int_equal(get(w, 2 * ONE), PC_DISK_OK);
    mem_disk_fail(w->mem, MEM_DISK_OPEN, ENOENT, 0, 1);
    assert_int_equal(get(w, 0), PC_DISK_IO);
    assert_false(has(w, 0));
    assert_int_equal(w->n_gone, 1);
}

static void a_read_only_disk_serves_what_it_has(void **state)
{
    struct world *w = *state;
    put_many(w, 20);
    mem_disk_set_read_only(w->mem, true);
    for (unsigned key = 20; key < 40; key++) {
        assert_int_equal(put(w, key), PC_DISK_READ_ONLY);
    }
    assert_int_equal(get(w, 3), PC_DISK_OK);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(3), on_done, w),
                     PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->result, PC_DISK_READ_ONLY); /* It may come back. */
    assert_false(has(w, 3));
    assert_int_equal(pc_disk_clear(w->disk, on_done, w), PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->result, PC_DISK_READ_ONLY);
    assert_int_equal(stats_of(w).n_records, 0);
    close_disk(w);
    open_disk(w); /* Also like this. */
    assert_int_equal(get(w, 5), PC_DISK_OK);
    mem_disk_set_read_only(w->mem, false);
    w->now += 60 * PC_S;
    assert_int_equal(put(w, 41), PC_DISK_OK);
}

static void what_cannot_be_unlinked_costs_no_more_than_one_segment(void **state)
{
    struct world *w = *state;
    unsigned n_left = 0;
    put_many(w, 40);
    mem_disk_fail(w->mem, MEM_DISK_UNLINK, EIO, 0, 1000000);
    for (unsigned key = 40; key < 100; key++) {
        (void)put(w, key);
        w->now += PC_MS;
    }
    for (unsigned key = 0; key < 100; key++) {
        n_left += has(w, key) ? 1 : 0;
    }
    assert_true(n_left >= 25);
    assert_int_equal(stats_of(w).state, PC_DISK_PAUSED);
    mem_disk_fail(w->mem, MEM_DISK_UNLINK, EIO, 0, 0);
    w->now += 60 * PC_S;
    turn_all(w);
    assert_int_equal(put(w, 100), PC_DISK_OK);
}

static void a_directory_that_is_replaced_is_left_alone(void **state)
{
    struct world *w = *state;
    put_many(w, 20);
    mem_disk_replace(w->mem);
    w->now += 10 * PC_S;
    turn_all(w);
    assert_int_equal(stats_of(w).state, PC_DISK_GONE);
    assert_int_equal(w->n_gone, 20);
    assert_int_equal(w->why, PC_DISK_GONE_LOST);
    assert_false(has(w, 1));
    assert_int_equal(put(w, 21), PC_DISK_LOST);
    assert_int_equal(get(w, 1), PC_DISK_LOST);
    uint64_t n = mem_disk_n_changes(w->mem);
    w->now += 100 * PC_S;
    assert_keeper_sleeps(w);
    assert_int_equal(mem_disk_n_changes(w->mem), n);
}

static void a_plain_file_system_is_enough(void **state)
{
    struct world *w = *state;
    close_disk(w);
    mem_disk_set_plain(w->mem);
    open_disk(w);
    put_many(w, 100);
    assert_false(stats_of(w).direct);
    close_disk(w);
    open_disk(w);
    assert_int_equal(get(w, 99), PC_DISK_OK);
}

static void a_sync_that_fails_leaves_no_index_block(void **state)
{
    struct world *w = *state;
    put_many(w, 5);
    mem_disk_fail(w->mem, MEM_DISK_SYNC, EIO, 0, 1000000);
    for (unsigned key = 5; key < 30; key++) {
        (void)put(w, key);
    }
    assert_int_equal(stats_of(w).n_sealed, 0);
    assert_true(stats_of(w).n_io_errors > 0);
    assert_int_equal(get(w, 1), PC_DISK_OK);
}

/* ---- What is found on disk
 * ------------------------------------------------------ */

static void flip(struct world *w, size_t file, uint64_t at)
{
    struct mem_disk_view view;
    assert_true(mem_disk_file(w->mem, "seg-", file, &view));
    assert_true(at < view.size);
    view.data[at] ^= (unsigned char)(1 << at % 8);
}

static void no_flipped_bit_gives_a_wrong_byte(void **state)
{
    struct world *w = *state;
    unsigned n_missed = 0, n_tried = 0;
    put_many(w, ONE);
    close_disk(w);
    struct mem_disk_view view;
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    unsigned char *copy = malloc(view.size);
    uint64_t size = view.size;
    memcpy(copy, view.data, size);
    for (uint64_t at = 0; at < size; at += at < 4300 ? 3 : 61) {
        flip(w, 0, at);
        open_disk(w);
        for (unsigned key = 0; key < ONE; key++) {
            n_missed += get(w, key) == PC_DISK_OK ? 0 : 1;
        }
        close_disk(w);
        /* Whatever was made of it: back to where we began. */
        mem_disk_wipe(w->mem);
        mem_disk_put(w->mem, "seg-0000000000000001", copy, size);
        n_tried++;
    }
    free(copy);
    open_disk(w);
    assert_true(n_tried > 1000);
    assert_true(n_missed > 500);
    assert_true(n_missed < 2 * n_tried); /* At most the one that was hit. */
}

static void an_index_block_that_lies_is_found_out_and_the_segment_scanned(
    void **state)
{
    struct world *w = *state;
    struct pc_disk_footer footer;
    struct mem_disk_view view;
    put_many(w, ONE);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    unsigned char *block = view.data + view.size - PC_DISK_BLOCK;
    assert_true(pc_disk_get_footer(block, &footer));
    /* It exchanges the names of two records, under a right checksum. */
    unsigned char *index = view.data + footer.index_at;
    unsigned char name[16];
    memcpy(name, index, 16);
    memcpy(index, index + PC_DISK_ENTRY_BYTES, 16);
    memcpy(index + PC_DISK_ENTRY_BYTES, name, 16);
    footer.checksum =
        pc_checksum(index, footer.n_entries * PC_DISK_ENTRY_BYTES);
    memset(block, 0, PC_DISK_BLOCK);
    pc_disk_put_footer(&footer, block);
    open_disk(w);
    assert_int_equal(stats_of(w).n_bad_indexes, 0); /* Who could know. */
    assert_int_equal(get(w, 0), PC_DISK_CORRUPT);
    assert_int_equal(stats_of(w).n_bad_indexes, 1);
    for (unsigned key = 0; key < ONE; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK); /* The scan found them. */
    }
    close_disk(w);
    open_disk(w);
    assert_int_equal(get(w, 0), PC_DISK_OK);
    assert_int_equal(stats_of(w).n_bad_indexes, 0);
}

static enum pc_disk_result take_away(struct world *w, unsigned key)
{
    unsigned n = w->n_done;
    assert_int_equal(pc_disk_remove(w->disk, digest_of(key), on_done, w),
                     PC_DISK_OK);
    turn_all(w);
    assert_int_equal(w->n_done, n + 1);
    return w->result;
}

static void scanning_a_segment_brings_nothing_back_that_was_removed(
    void **state)
{
    struct world *w = *state;
    put_many(w, ONE);
    close_disk(w);
    flip(w, 0, PC_DISK_BLOCK + 9); /* In the first record's header. */
    open_disk(w);
    assert_int_equal(take_away(w, 1), PC_DISK_OK);
    assert_int_equal(get(w, 0), PC_DISK_CORRUPT);
    assert_int_equal(stats_of(w).n_bad_indexes, 1); /* So it was scanned. */
    assert_false(has(w, 1));
    assert_int_equal(get(w, 2), PC_DISK_OK);
    close_disk(w);
    open_disk(w);
    assert_false(has(w, 1));
    assert_int_equal(get(w, 2), PC_DISK_OK);
}

static void what_is_removed_unseen_stays_removed(void **state)
{
    struct world *w = *state;
    put_many(w, ONE);
    close_disk(w);
    mem_disk_fail(w->mem, MEM_DISK_READ, EIO, 0, 100);
    open_disk(w);
    mem_disk_fail(w->mem, MEM_DISK_READ, 0, 0, 0);
    assert_false(has(w, 1));
    assert_int_equal(take_away(w, 1), PC_DISK_OK); /* Not: there is none. */
    close_disk(w);
    open_disk(w);
    assert_false(has(w, 1));
    assert_int_equal(get(w, 2), PC_DISK_OK);
}

static void a_remove_that_failed_can_be_tried_again(void **state)
{
    struct world *w = *state;
    put_many(w, ONE);
    mem_disk_fail(w->mem, MEM_DISK_WRITE, EIO, 0, 1);
    assert_int_equal(take_away(w, 1), PC_DISK_IO);
    assert_false(has(w, 1));
    w->now += 60 * PC_S;
    assert_int_equal(take_away(w, 1), PC_DISK_OK);
    close_disk(w);
    open_disk(w);
    assert_false(has(w, 1));
    assert_int_equal(get(w, 2), PC_DISK_OK);
}

/* Who waits for a tombstone is told that there is no room for it. Who does not
 * could only lose it: these are bounded by what there is to remove. */
static void a_full_queue_loses_no_remove_that_nobody_waits_for(void **state)
{
    struct world *w = *state;
    unsigned key = 3;
    put_many(w, 3);
    for (unsigned n = 0; n < 65536; n++) {
        assert_int_equal(pc_disk_remove(w->disk, digest_of(10 + n), on_done, w),
                         PC_DISK_OK);
    }
    assert_int_equal(pc_disk_remove(w->disk, digest_of(1), on_done, w),
                     PC_DISK_QUEUE_FULL);
    assert_true(has(w, 1));
    fill(w->value, key);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .value = w->value,
                                  .length = LENGTH,
                                  .checksum = pc_checksum(w->value, LENGTH),
                                  .done = on_done,
                                  .arg = w};
    assert_int_equal(pc_disk_write(w->disk, &write), PC_DISK_OK);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(key), NULL, NULL),
                     PC_DISK_OK);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(0), NULL, NULL),
                     PC_DISK_OK);
    assert_false(has(w, 0));
    turn_all(w);
    assert_int_equal(pc_disk_remove(w->disk, digest_of(1), on_done, w),
                     PC_DISK_OK); /* There is room again. */
    for (unsigned opened = 0; opened < 2; opened++) {
        turn_all(w);
        assert_false(has(w, 0));
        assert_false(has(w, 1));
        assert_true(has(w, 2));
        assert_false(has(w, key));
        close_disk(w);
        open_disk(w);
    }
}

static void a_lower_bound_holds_from_the_start_on(void **state)
{
    struct world *w = *state;
    put_many(w, 7 * ONE);
    close_disk(w);
    assert_true(mem_disk_bytes(w->mem) > 4 * SEGMENT);
    w->params.size = 4 * SEGMENT;
    open_disk(w);
    assert_true(mem_disk_bytes(w->mem) <= 4 * SEGMENT);
    assert_false(has(w, 0));
    assert_int_equal(get(w, 7 * ONE - 1), PC_DISK_OK);
}

/* The old value is carried over while the new one is being written. */
static void an_old_value_is_not_carried_past_a_newer_one(void **state)
{
    struct world *w = *state;
    struct pc_disk_worker *worker = &w->disk->workers[0];
    struct pc_disk_place place;
    unsigned key = 0;
    put_many(w, 4 * ONE);
    assert_int_equal(get(w, key), PC_DISK_OK); /* Worth carrying over. */
    fill(w->value, 1000);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .key = &key,
                                  .key_len = sizeof(key),
                                  .value = w->value,
                                  .length = LENGTH,
                                  .checksum = pc_checksum(w->value, LENGTH),
                                  .done = on_done,
                                  .arg = w};
    assert_int_equal(pc_disk_write(w->disk, &write), PC_DISK_OK);
    pc_disk_lock(w->disk);
    assert_true(pc_disk_take_batch(w->disk, worker));
    pc_disk_unlock(w->disk);
    assert_true(pc_disk_reclaim(w->disk));
    pc_disk_write_batch(w->disk, worker);
    assert_int_equal(w->result, PC_DISK_OK);
    for (unsigned start = 0; start < 2; start++) {
        assert_true(pc_disk_lookup(w->disk, digest_of(key), &place));
        assert_true(place.checksum == write.checksum);
        close_disk(w);
        open_disk(w);
    }
}

static void a_segment_cut_anywhere_keeps_what_is_whole(void **state)
{
    struct world *w = *state;
    struct mem_disk_view view;
    put_many(w, ONE);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    unsigned char *copy = malloc(view.size);
    uint64_t size = view.size;
    memcpy(copy, view.data, size);
    uint64_t last = 0;
    for (uint64_t cut = 0; cut < size; cut += 509) {
        mem_disk_put(w->mem, "seg-0000000000000001", copy, size);
        mem_disk_cut(w->mem, "seg-0000000000000001", cut);
        open_disk(w);
        uint64_t n = stats_of(w).n_records;
        assert_true(n >= last);
        last = n;
        for (unsigned key = 0; key < ONE; key++) {
            enum pc_disk_result result = get(w, key);
            assert_true(result == (has(w, key) ? PC_DISK_OK : PC_DISK_ABSENT));
        }
        close_disk(w);
        mem_disk_wipe(w->mem);
    }
    assert_int_equal(last, ONE);
    free(copy);
    open_disk(w);
}

static void expect_aside(struct world *w)
{
    struct mem_disk_view view;
    open_disk(w);
    assert_int_equal(stats_of(w).n_set_aside, 1);
    assert_int_equal(stats_of(w).n_records, 0);
    assert_true(mem_disk_file(w->mem, "aside/", 0, &view));
    assert_int_equal(stats_of(w).bytes_set_aside, view.size);
    assert_int_equal(put(w, 77), PC_DISK_OK);
}

static void an_unknown_version_is_set_aside_unchanged(void **state)
{
    struct world *w = *state;
    struct mem_disk_view view;
    put_many(w, 3);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    view.data[8]++; /* Version, low byte. */
    uint64_t before = pc_checksum(view.data, view.size);
    expect_aside(w);
    assert_true(mem_disk_file(w->mem, "aside/", 0, &view));
    assert_int_equal(pc_checksum(view.data, view.size), before);
    assert_int_equal(stats_of(w).aside_bytes, view.size);
    close_disk(w);
    open_disk(w); /* Also what was there before. */
    assert_int_equal(stats_of(w).n_set_aside, 0);
    assert_int_equal(stats_of(w).aside_bytes, view.size);
}

/* A later version may have written it, and its header may be damaged since. */
static void what_cannot_be_read_as_a_segment_is_set_aside_too(void **state)
{
    struct world *w = *state;
    struct mem_disk_view view;
    put_many(w, 3);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    view.data[0] ^= 1;                           /* The header's magic, */
    view.data[view.size - PC_DISK_BLOCK + 40]++; /* the footer's version. */
    uint64_t before = pc_checksum(view.data, view.size);
    expect_aside(w);
    assert_true(mem_disk_file(w->mem, "aside/", 0, &view));
    assert_int_equal(pc_checksum(view.data, view.size), before);
}

static void a_name_without_a_next_number_is_no_obstacle(void **state)
{
    struct world *w = *state;
    struct mem_disk_view view;
    unsigned char junk[2 * PC_DISK_BLOCK];
    memset(junk, 7, sizeof(junk));
    put_many(w, 3);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 0, &view));
    mem_disk_put(w->mem, "seg-7fffffffffffffff", junk, sizeof(junk));
    mem_disk_put(w->mem, "seg-7ffffffffffffffe", view.data, view.size);
    open_disk(w);
    assert_int_equal(stats_of(w).n_set_aside, 2);
    assert_int_equal(put(w, 3), PC_DISK_OK);
    close_disk(w);
    assert_true(mem_disk_file(w->mem, "seg-", 1, &view));
    assert_string_equal(view.name, "seg-0000000000000002");
    assert_false(mem_disk_file(w->mem, "seg-", 2, &view));
    open_disk(w);
    for (unsigned key = 0; key < 4; key++) {
        assert_int_equal(get(w, key), PC_DISK_OK);
    }
}

static void segments_of_another_node_or_cluster_are_set_aside(void **state)
{
    struct world *w = *state;
    put_many(w, 3);
    close_disk(w);
    w->params.node_id = "node-2";
    expect_aside(w);
    close_disk(w);
    mem_disk_wipe(w->mem);
    open_disk(w);
    put_many(w, 3);
    close_disk(w);
    w->params.seed = 100;
    expect_aside(w);
}

static void the_index_has_a_bound_of_records(void **state)
{
    struct world *w = *state;
    close_disk(w);
    w->params.max_records = 30;
    open_disk(w);
    for (unsigned key = 0; key < 90; key++) {
        (void)put(w, key);
        assert_true(stats_of(w).n_records <= 30);
    }
    assert_true(has(w, 89));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_write_error_is_told_and_writing_goes_on_after_a_pause),
        T(a_read_error_is_a_miss_of_that_record_only),
        T(a_full_file_system_makes_the_tier_smaller),
        T(under_a_quota_the_oldest_segments_go_and_writing_goes_on),
        T(a_quota_that_others_use_up_costs_a_few_segments_a_pause),
        T(few_files_are_open_whatever_the_number_of_segments),
        T(a_process_out_of_files_loses_no_record),
        T(a_read_only_disk_serves_what_it_has),
        T(what_cannot_be_unlinked_costs_no_more_than_one_segment),
        T(a_directory_that_is_replaced_is_left_alone),
        T(a_plain_file_system_is_enough),
        T(a_sync_that_fails_leaves_no_index_block),
        T(no_flipped_bit_gives_a_wrong_byte),
        T(an_index_block_that_lies_is_found_out_and_the_segment_scanned),
        T(scanning_a_segment_brings_nothing_back_that_was_removed),
        T(what_is_removed_unseen_stays_removed),
        T(a_remove_that_failed_can_be_tried_again),
        T(a_full_queue_loses_no_remove_that_nobody_waits_for),
        T(a_lower_bound_holds_from_the_start_on),
        T(an_old_value_is_not_carried_past_a_newer_one),
        T(a_segment_cut_anywhere_keeps_what_is_whole),
        T(an_unknown_version_is_set_aside_unchanged),
        T(what_cannot_be_read_as_a_segment_is_set_aside_too),
        T(a_name_without_a_next_number_is_no_obstacle),
        T(segments_of_another_node_or_cluster_are_set_aside),
        T(the_index_has_a_bound_of_records),
    };
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
