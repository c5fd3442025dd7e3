/*
 * A run of writes, reads, removals and clears is cut at every change it makes
 * to the disk, within writes at every class of byte boundary; then the process
 * is killed, or the power goes, and the directory is opened again.
 *
 *     test_unit_disk_crash [--long]
 */
#include "test.h"

#include "mem_disk.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 32 << 10, SIZE = 8 * SEGMENT, KEYS = 40, VERSIONS = 64 };

static bool run_long;

struct world;

/* One write that was asked for. */
struct put
{
    struct world *w;
    unsigned key, version;
    size_t length;
    unsigned char *value;
};

struct key
{
    unsigned n_versions; /* Asked for so far. */
    unsigned least;      /* Older ones were removed, and that was confirmed. */
    unsigned asked_removed;
    bool must;    /* Must be found after a crash of the machine. */
    bool written; /* Must be found after a kill. */
};

struct world
{
    struct mem_disk *mem;
    struct pc_disk *disk;
    struct pc_disk_params params;
    struct key keys[KEYS];
    struct pc_rand random;
    unsigned cleared_below[KEYS];
    bool checking;
    enum pc_disk_result read;
    unsigned char buffer[SIZE / 4];
};

struct removal
{
    struct world *w;
    unsigned key, version;
};

static struct
{
    uint64_t points, found, lost, resurrected, unreadable, n_must;
} totals;

static uint64_t fixed_now(void *arg)
{
    (void)arg;
    return PC_S;
}

static struct pc_digest digest_of(unsigned key)
{
    return (struct pc_digest){key * 0x9e3779b97f4a7c15ull, key};
}

static size_t length_of(unsigned key, unsigned version)
{
    static const size_t lengths[] = {1,    100,  700,   3968, 4000,
                                     4096, 5000, 12000, 64,   30000};
    return lengths[(key * 7 + version * 3) % PC_ARRAY_LEN(lengths)] + version;
}

static void fill(unsigned char *to, unsigned key, unsigned version)
{
    struct pc_rand r;
    pc_rand_init(&r, ((uint64_t)key << 32) + version);
    uint64_t word = 0;
    for (size_t i = 0; i < length_of(key, version); i++) {
        word = i % 8 == 0 ? pc_rand_u64(&r) : word >> 8;
        to[i] = (unsigned char)word;
    }
}

/* ---- What the disk tells
 * ------------------------------------------------------- */

static void on_gone(void *arg, const struct pc_disk_place *place,
                    enum pc_disk_gone why)
{
    struct world *w = arg;
    struct key *key = &w->keys[place->digest.hi];
    assert_true(w->checking || why == PC_DISK_GONE_RECLAIMED ||
                mem_disk_has_stopped(w->mem));
    if (why == PC_DISK_GONE_RECLAIMED) {
        key->must = false;
        key->written = false;
    }
}

static void on_written(void *arg, enum pc_disk_result result)
{
    struct put *put = arg;
    if (result == PC_DISK_OK) {
        struct key *key = &put->w->keys[put->key];
        key->written = key->asked_removed <= put->version;
        if (put->w->params.sync == PC_DISK_SYNC_ALWAYS) {
            key->must = key->written;
        }
    }
    free(put->value);
    free(put);
}

static void on_removed(void *arg, enum pc_disk_result result)
{
    struct removal *removal = arg;
    struct key *key = &removal->w->keys[removal->key];
    if ((result == PC_DISK_OK || result == PC_DISK_ABSENT) &&
        key->least < removal->version) {
        key->least = removal->version;
    }
    free(removal);
}

static void on_cleared(void *arg, enum pc_disk_result result)
{
    struct world *w = arg;
    for (unsigned i = 0; i < KEYS && result == PC_DISK_OK; i++) {
        if (w->keys[i].least < w->cleared_below[i]) {
            w->keys[i].least = w->cleared_below[i];
        }
    }
}

static void on_read(void *arg, enum pc_disk_result result,
                    const struct pc_disk_found *found)
{
    (void)found;
    ((struct world *)arg)->read = result;
}

/* Sealed and synced: has to survive whatever comes. */
static void note_sealed(struct world *w)
{
    for (unsigned i = 0; i < KEYS; i++) {
        uint32_t id = pc_disk_find(w->disk, digest_of(i));
        if (id == PC_DISK_NONE) {
            continue;
        }
        struct pc_disk_segment *segment = pc_disk_segment_of(
            w->disk, pc_disk_index_item(&w->disk->index, id));
        if (segment->state == PC_DISK_SEALED && !segment->failed) {
            w->keys[i].must = true;
        }
    }
}

static void turns(struct world *w, unsigned n)
{
    while (n-- > 0 && pc_disk_turn(w->disk)) {
        if (!mem_disk_has_stopped(w->mem)) {
            note_sealed(w);
        }
    }
}

/* ---- The run
 * --------------------------------------------------------------------- */

static void do_put(struct world *w, unsigned key)
{
    unsigned version = w->keys[key].n_versions;
    struct put *put = calloc(1, sizeof(*put));
    if (put == NULL || version == VERSIONS) {
        free(put);
        return;
    }
    w->keys[key].n_versions++;
    *put = (struct put){w, key, version, length_of(key, version), NULL};
    put->value = malloc(put->length);
    assert_non_null(put->value);
    fill(put->value, key, version);
    struct pc_disk_write write = {.digest = digest_of(key),
                                  .key = &put->key,
                                  .key_len = sizeof(put->key),
                                  .value = put->value,
                                  .length = put->length,
                                  .done = on_written,
                                  .arg = put};
    write.checksum = pc_checksum(put->value, put->length);
    if (pc_disk_write(w->disk, &write) != PC_DISK_OK) {
        free(put->value);
        free(put);
    }
}

static void do_remove(struct world *w, unsigned key)
{
    struct removal *removal = calloc(1, sizeof(*removal));
    assert_non_null(removal);
    *removal = (struct removal){w, key, w->keys[key].n_versions};
    w->keys[key].asked_removed = w->keys[key].n_versions;
    w->keys[key].must = false;
    w->keys[key].written = false;
    if (pc_disk_remove(w->disk, digest_of(key), on_removed, removal) !=
        PC_DISK_OK) {
        free(removal);
    }
}

static void do_clear(struct world *w)
{
    for (unsigned i = 0; i < KEYS; i++) {
        w->cleared_below[i] = w->keys[i].n_versions;
        w->keys[i].asked_removed = w->keys[i].n_versions;
        w->keys[i].must = false;
        w->keys[i].written = false;
    }
    (void)pc_disk_clear(w->disk, on_cleared, w);
}

static enum pc_disk_result do_read(struct world *w, unsigned key)
{
    struct pc_disk_place place;
    if (!pc_disk_lookup(w->disk, digest_of(key), &place)) {
        return PC_DISK_ABSENT;
    }
    struct pc_disk_read read = {.digest = digest_of(key),
                                .buffer = w->buffer,
                                .length = place.length,
                                .done = on_read,
                                .arg = w};
    w->read = PC_DISK_N_RESULTS;
    enum pc_disk_result result = pc_disk_read(w->disk, &read);
    if (result != PC_DISK_OK) {
        return result;
    }
    turns(w, UINT32_MAX);
    return w->read;
}

static void open_disk(struct world *w)
{
    assert_int_equal(pc_disk_open(&w->params, &w->disk, NULL), PEERCACHE_OK);
}

static void do_steps(struct world *w)
{
    for (unsigned step = 0; step < 150; step++) {
        if (mem_disk_has_stopped(w->mem)) {
            return;
        }
        switch (pc_rand_below(&w->random, 12)) {
        case 0:
            do_remove(w, (unsigned)pc_rand_below(&w->random, KEYS));
            break;
        case 1:
        case 2:
            (void)do_read(w, (unsigned)pc_rand_below(&w->random, KEYS));
            break;
        case 3:
            turns(w, 1 + (unsigned)pc_rand_below(&w->random, 20));
            break;
        default:
            do_put(w, (unsigned)pc_rand_below(&w->random, KEYS));
            break;
        }
        if (step == 90) {
            do_clear(w);
        }
        if (step == 60) {
            (void)pc_disk_close(w->disk, PC_S);
            if (mem_disk_has_stopped(w->mem)) {
                w->disk = NULL;
                return;
            }
            open_disk(w);
            turns(w, UINT32_MAX);
        }
    }
    turns(w, UINT32_MAX);
}

static void begin(struct world *w, enum pc_disk_sync sync)
{
    memset(w, 0, sizeof(*w));
    w->mem = mem_disk_create(7);
    pc_rand_init(&w->random, 42);
    w->params = (struct pc_disk_params){.path = "/d",
                                        .node_id = "n",
                                        .size = SIZE,
                                        .segment_size = SEGMENT,
                                        .queue_bytes = SIZE,
                                        .sync = sync,
                                        .io = mem_disk_io(w->mem),
                                        .clock = {fixed_now, NULL},
                                        .gone = on_gone,
                                        .arg = w};
    open_disk(w);
}

static void end(struct world *w)
{
    (void)pc_disk_close(w->disk, PC_S);
    mem_disk_destroy(w->mem);
}

/* ---- After the crash
 * --------------------------------------------------------------- */

/* The version that was read, or VERSIONS: no version of this key. */
static unsigned version_read(const struct world *w, unsigned key, size_t length)
{
    static unsigned char expected[SIZE / 4];
    for (unsigned version = 0; version < w->keys[key].n_versions; version++) {
        if (length_of(key, version) != length) {
            continue;
        }
        fill(expected, key, version);
        if (memcmp(expected, w->buffer, length) == 0) {
            return version;
        }
    }
    return VERSIONS;
}

static void check_key(struct world *w, unsigned i, enum mem_disk_crash how)
{
    struct key *key = &w->keys[i];
    struct pc_disk_place place;
    bool must = how == MEM_DISK_KILLED ? key->written : key->must;
    bool found = pc_disk_lookup(w->disk, digest_of(i), &place);
    totals.n_must += must ? 1 : 0;
    totals.found += found ? 1 : 0;
    totals.lost += must && !found ? 1 : 0;
    if (!found) {
        return;
    }
    if (do_read(w, i) != PC_DISK_OK) {
        totals.unreadable++;
        totals.lost += must ? 1 : 0;
        return;
    }
    unsigned version = version_read(w, i, place.length);
    assert_true(version < VERSIONS); /* Never a wrong byte. */
    totals.resurrected += version < key->least ? 1 : 0;
}

static void check_after(struct world *w, enum mem_disk_crash how)
{
    w->checking = true;
    turns(w, UINT32_MAX);
    for (unsigned i = 0; i < KEYS; i++) {
        check_key(w, i, how);
    }
    /* It goes on: what is written now is there. */
    uint64_t lost = totals.lost;
    do_put(w, 0);
    turns(w, UINT32_MAX);
    assert_true(pc_disk_find(w->disk, digest_of(0)) != PC_DISK_NONE);
    assert_int_equal(totals.lost, lost);
}

/* Cut at one point; then, `again` >= 0, cut the recovery as well. */
static void cut_at(enum pc_disk_sync sync, enum mem_disk_crash how, uint64_t at,
                   uint64_t bytes, int again)
{
    static struct world w;
    uint64_t lost = totals.lost;
    uint64_t bad = totals.resurrected + totals.unreadable;
    begin(&w, sync);
    mem_disk_stop_at(w.mem, at, bytes);
    do_steps(&w);
    w.checking = true;
    (void)pc_disk_close(w.disk, PC_S);
    mem_disk_crash(w.mem, how);
    open_disk(&w);
    if (again >= 0) {
        mem_disk_stop_at(w.mem, (uint64_t)again, 4096);
        turns(&w, UINT32_MAX);
        (void)pc_disk_close(w.disk, PC_S);
        mem_disk_crash(w.mem, how);
        open_disk(&w);
    }
    check_after(&w, how);
    if (totals.lost != lost || totals.resurrected + totals.unreadable != bad) {
        print_message("sync %d crash %d change %llu bytes %llu again %d: lost "
                      "%llu, resurrected %llu, unreadable %llu in all\n",
                      (int)sync, (int)how, (unsigned long long)at,
                      (unsigned long long)bytes, again,
                      (unsigned long long)totals.lost,
                      (unsigned long long)totals.resurrected,
                      (unsigned long long)totals.unreadable);
    }
    end(&w);
    totals.points++;
}

/* The boundaries that matter within a write of this length. */
static size_t cuts_of(uint64_t len, uint64_t *cuts)
{
    static const uint64_t near[] = {0,   1,   63,   64,   65,  511,
                                    512, 513, 4095, 4096, 4097};
    size_t n = 0;
    for (size_t i = 0; i < PC_ARRAY_LEN(near) && near[i] < len; i++) {
        cuts[n++] = near[i];
    }
    if (len > 8192) {
        cuts[n++] = len / 2;
        cuts[n++] = len - 513;
        cuts[n++] = len - 64;
    }
    if (len > 0) {
        cuts[n++] = len - 1;
    }
    cuts[n++] = len; /* Done, but nobody has heard of it. */
    return n;
}

static void cut_everywhere(enum pc_disk_sync sync, unsigned stride)
{
    static struct world w;
    uint64_t cuts[16];
    uint64_t turn = 0;
    begin(&w, sync);
    uint64_t first = mem_disk_n_changes(w.mem);
    do_steps(&w);
    uint64_t n = mem_disk_n_changes(w.mem) - first;
    static uint64_t lens[65536];
    assert_true(n < PC_ARRAY_LEN(lens));
    for (uint64_t i = 0; i < n; i++) {
        lens[i] = mem_disk_change_len(w.mem, first + i);
    }
    end(&w);
    for (uint64_t i = 0; i < n; i++) {
        size_t n_cuts = cuts_of(lens[i], cuts);
        for (size_t c = 0; c < n_cuts; c++) {
            for (int how = MEM_DISK_KILLED; how <= MEM_DISK_POWER_SOME; how++) {
                if (turn++ % stride == 0) {
                    cut_at(sync, (enum mem_disk_crash)how, i, cuts[c], -1);
                }
                if (turn % (7 * stride) == 0) {
                    cut_at(sync, (enum mem_disk_crash)how, i, cuts[c],
                           (int)(turn % 5));
                }
            }
        }
    }
}

static void report(const char *name)
{
    print_message("%s: %llu points, %llu records had to be there, lost %llu, "
                  "resurrected %llu, unreadable %llu\n",
                  name, (unsigned long long)totals.points,
                  (unsigned long long)totals.n_must,
                  (unsigned long long)totals.lost,
                  (unsigned long long)totals.resurrected,
                  (unsigned long long)totals.unreadable);
    assert_true(totals.points > 100);
    assert_true(totals.n_must > totals.points);
    assert_int_equal(totals.lost, 0);
    assert_int_equal(totals.resurrected, 0);
    assert_int_equal(totals.unreadable, 0);
    memset(&totals, 0, sizeof(totals));
}

static void what_was_sealed_and_synced_survives_any_crash(void **state)
{
    (void)state;
    cut_everywhere(PC_DISK_SYNC_SEAL, run_long ? 1 : 11);
    report("synced when sealed");
}

static void what_was_confirmed_survives_if_every_write_is_synced(void **state)
{
    (void)state;
    cut_everywhere(PC_DISK_SYNC_ALWAYS, run_long ? 1 : 17);
    report("always synced");
}

static int no_leaks(void **state)
{
    (void)state;
    assert_int_equal(pc_mem_outstanding(), 0);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_was_sealed_and_synced_survives_any_crash,
                                  no_leaks),
        cmocka_unit_test_teardown(
            what_was_confirmed_survives_if_every_write_is_synced, no_leaks),
    };
    run_long = argc > 1 && strcmp(argv[1], "--long") == 0;
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
