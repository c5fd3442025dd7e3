#include "test.h"

#include "base/mem.h"
#include "base/rand.h"
#include "disk/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 6 << 20, NONCE = 4711 };

/* A segment in memory, in which a range may be unreadable. */
struct world
{
    unsigned char *bytes, *buffer, *second;
    uint64_t bad_from, bad_to;
    uint64_t cut; /* The file has become this short. */
    unsigned n_records;
};

static int read_bytes(void *arg, void *to, size_t len, uint64_t at, size_t *n_p)
{
    struct world *w = arg;
    uint64_t left = at < w->cut ? w->cut - at : 0;
    if (at < w->bad_to && at + len > w->bad_from) {
        return EIO;
    }
    *n_p = left < len ? (size_t)left : len;
    memcpy(to, w->bytes + at, *n_p);
    return 0;
}

static size_t length_of(struct pc_rand *r)
{
    switch (pc_rand_below(r, 8)) {
    case 0:
        return 1200000 + (size_t)pc_rand_below(r, 100000);
    case 1:
        return 131072;
    default:
        return 1 + (size_t)pc_rand_below(r, 9000);
    }
}

/* Records one behind the other; now and then one that begins at a block. */
static void fill(struct world *w, uint64_t seed)
{
    struct pc_rand r;
    uint64_t at = PC_DISK_BLOCK;
    pc_rand_init(&r, seed);
    for (size_t i = 0; i < SIZE; i++) {
        w->bytes[i] = 0;
    }
    w->n_records = 0;
    for (;;) {
        char names[PC_DISK_NAMES_MAX] = {0};
        struct pc_disk_record record = {
            .digest = {w->n_records, seed},
            .length = length_of(&r),
            .key_len = (uint16_t)pc_rand_below(&r, PC_DISK_KEY_MAX),
            .kind = PC_DISK_VALUE};
        uint64_t size = pc_disk_record_size(record.key_len, record.length);
        if (at + size > SIZE) {
            return;
        }
        unsigned char *value =
            w->bytes + at + PC_DISK_RECORD_BYTES + record.key_len;
        for (size_t i = 0; i < record.length; i++) {
            value[i] = (unsigned char)(i * 31 + w->n_records);
        }
        record.checksum = pc_checksum(value, record.length);
        pc_disk_put_record(&record, names, NONCE, w->bytes + at);
        w->n_records++;
        at += size;
        if (pc_rand_below(&r, 4) == 0) {
            at = pc_disk_round(at, PC_DISK_BLOCK);
        }
    }
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->bytes = malloc(SIZE);
    w->buffer = aligned_alloc(PC_DISK_BLOCK, PC_DISK_STAGE);
    w->second = aligned_alloc(PC_DISK_BLOCK, PC_DISK_AHEAD * PC_DISK_STAGE);
    w->cut = SIZE;
    assert_non_null(w->bytes);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    free(w->buffer);
    free(w->second);
    free(w->bytes);
    free(w);
    assert_int_equal(pc_mem_outstanding(), 0);
    return 0;
}

/* The same is found with the thread as without; how many records. */
static size_t scan_both(struct world *w)
{
    struct pc_disk_source source = {read_bytes, w, SIZE};
    struct pc_disk_ident ident = {.nonce = NONCE};
    struct pc_disk_scan with, without;
    assert_true(pc_disk_scan(&source, &ident, w->buffer, NULL, &without));
    assert_true(pc_disk_scan(&source, &ident, w->buffer, w->second, &with));
    assert_int_equal(with.entries.n, without.entries.n);
    for (size_t i = 0; i < with.entries.n; i++) {
        assert_int_equal(with.entries.entry[i].at, without.entries.entry[i].at);
        assert_true(pc_digest_equal(with.entries.entry[i].digest,
                                    without.entries.entry[i].digest));
    }
    assert_int_equal(with.end, without.end);
    assert_int_equal(with.n_corrupt, without.n_corrupt);
    assert_int_equal(with.torn, without.torn);
    size_t n = with.entries.n;
    pc_disk_entries_fini(&with.entries);
    pc_disk_entries_fini(&without.entries);
    return n;
}

static void reading_ahead_finds_every_record(void **state)
{
    struct world *w = *state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        fill(w, seed);
        assert_int_equal(scan_both(w), w->n_records);
    }
}

static void a_wrong_byte_costs_one_record(void **state)
{
    struct world *w = *state;
    struct pc_rand r;
    pc_rand_init(&r, 3);
    fill(w, 3);
    for (int i = 0; i < 8; i++) {
        uint64_t at = PC_DISK_BLOCK + pc_rand_below(&r, SIZE / 2);
        w->bytes[at] ^= 1;
        assert_true(scan_both(w) + 1 >= w->n_records);
        w->bytes[at] ^= 1;
    }
}

static void what_cannot_be_read_costs_what_lies_there(void **state)
{
    struct world *w = *state;
    fill(w, 5);
    for (uint64_t at = PC_DISK_BLOCK; at < SIZE; at += 777 * PC_DISK_BLOCK) {
        w->bad_from = at;
        w->bad_to = at + PC_DISK_BLOCK;
        size_t n = scan_both(w);
        assert_true(n < w->n_records && n > 0);
    }
}

static void a_file_that_has_become_shorter_ends_there(void **state)
{
    struct world *w = *state;
    fill(w, 6);
    for (uint64_t cut = 0; cut < SIZE / 2; cut += 300 * PC_DISK_BLOCK + 99) {
        w->cut = cut;
        assert_true(scan_both(w) < w->n_records);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(reading_ahead_finds_every_record),
        T(a_wrong_byte_costs_one_record),
        T(what_cannot_be_read_costs_what_lies_there),
        T(a_file_that_has_become_shorter_ends_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
