#include "test.h"

#include "base/mem.h"
#include "base/rand.h"
#include "store/extent.h"
#include "store/slot.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_REGIONS = 4, MAX_SEEN = 1 << 19 };

/* A store with its regions, and what gone() has said so far. */
struct fixture
{
    struct pc_store *store;
    void *memory[MAX_REGIONS];
    size_t n_regions;
    uint64_t last_generation;
    unsigned char *gone; /* By half of the generation: how often. */
    unsigned char *sealed;
    uint64_t n_gone, n_sealed;
    enum pc_gone last_why;
    struct pc_place last_gone;
    bool bad;
};

static const struct pc_slot_header *header_of(const struct fixture *f,
                                              const struct pc_place *place)
{
    struct pc_region_info info;
    assert_true(pc_store_region(f->store, place->region, &info));
    return (const struct pc_slot_header *)(const void *)((char *)info.addr +
                                                         info.slots_offset) +
           place->slot;
}

static void on_gone(void *arg, const struct pc_place *place, enum pc_gone why)
{
    struct fixture *f = arg;
    uint64_t now = atomic_load(&header_of(f, place)->generation);
    f->bad |= now % 2 == 0 || place->generation % 2 == 1;
    f->gone[place->generation / 2]++;
    f->n_gone++;
    f->last_why = why;
    f->last_gone = *place;
    /* No lock is held here: this would hang. */
    struct pc_store_stats stats;
    pc_store_stats(f->store, &stats);
}

static void set_up_with(struct fixture *f, double margin,
                        const struct pc_evict_ops *policy)
{
    *f = (struct fixture){.n_regions = 0};
    f->gone = pc_alloc(MAX_SEEN, 1);
    f->sealed = pc_alloc(MAX_SEEN, 1);
    struct pc_store_params params = {
        .incarnation = 77,
        .nonce_seed = 5,
        .max_regions = MAX_REGIONS,
        .free_low = margin / 2,
        .free_high = margin,
        .policy = policy,
        .gone = on_gone,
        .arg = f,
    };
    f->store = pc_store_create(&params);
    assert_non_null(f->store);
}

static void set_up(struct fixture *f, double margin)
{
    set_up_with(f, margin, pc_evict_lru());
}

static void add_region(struct fixture *f, uint64_t length)
{
    uint32_t index;
    void *memory = aligned_alloc(PC_GRANULE, length);
    memset(memory, 0, length);
    f->memory[f->n_regions] = memory;
    assert_int_equal(pc_store_add_region(f->store, memory, length, &index),
                     PEERCACHE_OK);
    assert_int_equal(index, f->n_regions);
    f->n_regions++;
}

/* A region with room for exactly n granules of values. */
static void add_granules(struct fixture *f, uint64_t n)
{
    uint64_t length = n * PC_GRANULE;
    while (pc_store_value_max(length) < n * PC_GRANULE) {
        length += PC_GRANULE;
    }
    assert_int_equal(pc_store_value_max(length), n * PC_GRANULE);
    add_region(f, length);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Every header: even exactly if it is listed, and no generation twice. */
static void check_generations(const struct fixture *f)
{
    size_t n_even = 0;
    size_t n_listed = 0;
    for (uint32_t i = 0; i < f->n_regions; i++) {
        struct pc_region_info info;
        assert_true(pc_store_region(f->store, i, &info));
        const struct pc_slot_header *headers =
            (const void *)((char *)info.addr + info.slots_offset);
        uint64_t *all = pc_alloc(info.n_slots, sizeof(*all));
        for (uint32_t k = 0; k < info.n_slots; k++) {
            all[k] = atomic_load(&headers[k].generation);
            n_even += all[k] % 2 == 0;
        }
        qsort(all, info.n_slots, sizeof(*all), compare_u64);
        for (uint32_t k = 1; k < info.n_slots; k++) {
            assert_true(all[k] != all[k - 1]);
        }
        pc_free(all);
    }
    size_t at = 0;
    size_t n;
    struct pc_place places[7];
    while (pc_store_list(f->store, &at, 7, places, &n)) {
        for (size_t i = 0; i < n; i++) {
            const struct pc_slot_header *header = header_of(f, &places[i]);
            struct pc_slot_want want = {places[i].digest, places[i].generation,
                                        places[i].length, places[i].offset};
            assert_true(pc_slot_matches(header, &want));
            assert_int_equal(atomic_load(&header->checksum),
                             places[i].checksum);
        }
        n_listed += n;
    }
    assert_int_equal(n_even, n_listed);
}

/* I9, and that each sealed slot has gone exactly once. */
static void tear_down(struct fixture *f)
{
    struct pc_place place;
    struct pc_store_stats stats;
    size_t n;
    check_generations(f);
    for (size_t at = 0; pc_store_list(f->store, &at, 1, &place, &n); at = 0) {
        assert_true(pc_store_remove(f->store, place.digest));
    }
    pc_store_stats(f->store, &stats);
    assert_int_equal(stats.used, 0);
    assert_int_equal(stats.n_values, 0);
    assert_int_equal(stats.n_reserved, 0);
    assert_int_equal(stats.n_pins, 0);
    assert_int_equal(stats.n_dying, 0);
    check_generations(f);
    assert_false(f->bad);
    assert_int_equal(f->n_gone, f->n_sealed);
    assert_memory_equal(f->gone, f->sealed, MAX_SEEN);
    pc_store_destroy(f->store);
    for (size_t i = 0; i < f->n_regions; i++) {
        free(f->memory[i]);
    }
    pc_free(f->gone);
    pc_free(f->sealed);
}

static struct pc_digest key(uint64_t number)
{
    return (struct pc_digest){number, number * 3 + 1};
}

static struct pc_pin seal(struct fixture *f, struct pc_reservation *reservation)
{
    struct pc_pin pin;
    memset(reservation->addr, (int)(reservation->digest.lo & 0xff),
           reservation->length);
    pc_store_seal(f->store, reservation, reservation->digest.lo, &pin);
    assert_true(pin.place.generation > f->last_generation);
    assert_int_equal(pin.place.generation % 2, 0);
    f->last_generation = pin.place.generation;
    f->sealed[pin.place.generation / 2]++;
    f->n_sealed++;
    return pin;
}

static struct pc_pin put_pinned(struct fixture *f, uint64_t number,
                                uint64_t length)
{
    struct pc_reservation reservation;
    assert_int_equal(
        pc_store_reserve(f->store, key(number), length, &reservation),
        PEERCACHE_OK);
    return seal(f, &reservation);
}

static void put(struct fixture *f, uint64_t number, uint64_t length)
{
    struct pc_pin pin = put_pinned(f, number, length);
    pc_store_unpin(f->store, &pin);
}

/* Whether a value is there; if so, its bytes are right. */
static bool has(struct fixture *f, uint64_t number)
{
    struct pc_pin pin;
    if (!pc_store_pin(f->store, key(number), &pin)) {
        return false;
    }
    const unsigned char *bytes = pin.addr;
    for (uint64_t i = 0; i < pin.place.length; i += 61) {
        assert_int_equal(bytes[i], number & 0xff);
    }
    assert_int_equal(bytes[pin.place.length - 1], number & 0xff);
    pc_store_unpin(f->store, &pin);
    return true;
}

static struct pc_store_stats stats_of(const struct fixture *f)
{
    struct pc_store_stats stats;
    pc_store_stats(f->store, &stats);
    return stats;
}

static void a_value_is_found_only_after_its_seal(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    struct pc_place place;
    set_up(&f, 0);
    assert_int_equal(pc_store_reserve(f.store, key(1), 10, &reservation),
                     PEERCACHE_NO_SPACE);
    add_granules(&f, 20);
    assert_int_equal(pc_store_reserve(f.store, key(1), 0, &reservation),
                     PEERCACHE_INVALID);
    assert_int_equal(pc_store_reserve(f.store, key(1), 9000, &reservation),
                     PEERCACHE_OK);
    assert_int_equal(reservation.length, 9000);
    assert_false(pc_store_find(f.store, key(1), true, &place));
    assert_false(has(&f, 1));
    check_generations(&f);
    assert_int_equal(stats_of(&f).n_reserved, 1);
    struct pc_pin pin = seal(&f, &reservation);
    assert_true(pc_store_find(f.store, key(1), true, &place));
    assert_int_equal(place.generation, pin.place.generation);
    assert_int_equal(place.length, 9000);
    assert_int_equal(place.checksum, 1);
    assert_false(place.published);
    assert_int_equal(stats_of(&f).n_pins, 1);
    pc_store_mark_published(f.store, key(1), place.generation + 2);
    assert_true(pc_store_find(f.store, key(1), false, &place));
    assert_false(place.published);
    pc_store_mark_published(f.store, key(1), place.generation);
    assert_true(pc_store_find(f.store, key(1), false, &place));
    assert_true(place.published);
    pc_store_unpin(f.store, &pin);
    assert_true(has(&f, 1));
    tear_down(&f);
}

static void a_region_says_what_it_is(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_region_info info[2];
    uint32_t index;
    set_up(&f, 0);
    add_region(&f, 1 << 20);
    add_region(&f, 1 << 20);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(pc_store_region(f.store, i, &info[i]));
        const struct pc_region_page *page = info[i].addr;
        assert_true(page->magic == PC_REGION_MAGIC);
        assert_int_equal(page->nonce, info[i].nonce);
        assert_int_equal(page->incarnation, 77);
        assert_int_equal(page->length, 1 << 20);
        assert_int_equal(page->slots_offset, info[i].slots_offset);
        assert_int_equal(page->n_slots, info[i].n_slots);
        assert_int_equal(page->data_offset + pc_store_value_max(1 << 20),
                         1 << 20);
    }
    assert_true(info[0].nonce != info[1].nonce);
    assert_false(pc_store_region(f.store, 2, &info[0]));
    assert_int_equal(pc_store_value_max(2 * PC_GRANULE), 0);
    assert_int_equal(
        pc_store_add_region(f.store, f.memory[0], 2 * PC_GRANULE, &index),
        PEERCACHE_INVALID);
    /* The slot table costs at most 2 %. */
    uint64_t gib = 1ull << 30;
    assert_true(gib - pc_store_value_max(gib) <= gib / 50);
    tear_down(&f);
}

static void small_values_pack_and_give_their_granules_back(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0);
    add_granules(&f, 200);
    for (uint64_t i = 0; i < 128; i++) {
        put(&f, i, 64);
    }
    assert_int_equal(stats_of(&f).used, 2 * PC_GRANULE);
    for (uint64_t i = 0; i < 128; i++) {
        assert_true(has(&f, i));
    }
    for (uint64_t i = 0; i < 64; i++) {
        assert_true(pc_store_remove(f.store, key(i)));
    }
    assert_int_equal(stats_of(&f).used, PC_GRANULE);
    tear_down(&f);
}

static void tiny_values_beyond_the_slots_push_out_the_oldest(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_region_info info;
    set_up(&f, 0);
    add_granules(&f, 61);
    assert_true(pc_store_region(f.store, 0, &info));
    for (uint64_t i = 0; i < info.n_slots + 10; i++) {
        put(&f, i, 1);
        assert_int_equal(stats_of(&f).evictions,
                         i < info.n_slots ? 0 : i - info.n_slots + 1);
    }
    assert_false(has(&f, 9));
    assert_true(has(&f, 10));
    /* A large one needs one slot only: one tiny value goes. */
    put(&f, 1000000, 40 * PC_GRANULE);
    assert_int_equal(stats_of(&f).evictions, 11);
    tear_down(&f);
}

/* What a batch reserves at a time. */
static void a_quarter_of_the_slots_is_there_whoever_holds_the_rest(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reserved[64];
    set_up(&f, 0);
    add_granules(&f, 61);
    add_granules(&f, 61);
    uint64_t quarter = stats_of(&f).n_slots / 4;
    assert_in_range(quarter, 30, 64);
    for (uint64_t at = 0; at < 5000; at += quarter) {
        for (uint64_t i = 0; i < quarter; i++) {
            assert_int_equal(
                pc_store_reserve(f.store, key(at + i), 8, &reserved[i]),
                PEERCACHE_OK);
        }
        for (uint64_t i = 0; i < quarter; i++) {
            struct pc_pin pin = seal(&f, &reserved[i]);
            pc_store_unpin(f.store, &pin);
        }
    }
    assert_int_equal(stats_of(&f).n_values, stats_of(&f).n_slots);
    tear_down(&f);
}

static void a_pool_full_of_single_granules_takes_a_double_one(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0);
    add_granules(&f, 100);
    for (uint64_t i = 0; i < 100; i++) {
        put(&f, i, 4096);
    }
    assert_int_equal(stats_of(&f).evictions, 0);
    put(&f, 1000, 8192);
    assert_int_equal(stats_of(&f).evictions, 2);
    assert_true(has(&f, 1000));
    /* And one of ten, over values of which every second one was used. */
    for (uint64_t i = 0; i < 100; i += 2) {
        has(&f, i);
    }
    put(&f, 1001, 40960);
    assert_true(stats_of(&f).evictions <= 12);
    tear_down(&f);
}

static void a_lone_victim_that_makes_room_goes_alone(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0);
    add_granules(&f, 16);
    for (uint64_t i = 0; i < 4; i++) {
        put(&f, i, 4 * 4096);
    }
    put(&f, 10, 4096);
    assert_int_equal(stats_of(&f).evictions, 1);
    assert_false(has(&f, 0));
    put(&f, 11, 3 * 4096);
    assert_int_equal(stats_of(&f).evictions, 1);
    /* The neighbour of a free run goes, not one more than it needs. */
    assert_true(pc_store_remove(f.store, key(11)));
    put(&f, 12, 7 * 4096);
    assert_int_equal(stats_of(&f).evictions, 2);
    assert_false(has(&f, 1));
    assert_true(has(&f, 2));
    assert_true(has(&f, 10));
    tear_down(&f);
}

static void what_can_never_fit_evicts_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    set_up(&f, 0);
    add_granules(&f, 10);
    for (uint64_t i = 0; i < 10; i++) {
        put(&f, i, 4096);
    }
    assert_int_equal(
        pc_store_reserve(f.store, key(50), 10 * 4096 + 1, &reservation),
        PEERCACHE_TOO_LARGE);
    assert_int_equal(
        pc_store_reserve(f.store, key(50), UINT64_MAX, &reservation),
        PEERCACHE_TOO_LARGE);
    assert_int_equal(stats_of(&f).evictions, 0);
    put(&f, 50, 10 * 4096);
    assert_int_equal(stats_of(&f).evictions, 10);
    tear_down(&f);
}

static void pins_and_reservations_withstand_pressure(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation kept;
    struct pc_reservation reservation;
    set_up(&f, 0);
    add_granules(&f, 10);
    struct pc_pin pin = put_pinned(&f, 1, 3 * 4096);
    assert_int_equal(pc_store_reserve(f.store, key(2), 4 * 4096, &kept),
                     PEERCACHE_OK);
    memset(kept.addr, 2, kept.length);
    for (uint64_t i = 0; i < 50; i++) {
        put(&f, 100 + i, 4096 * (1 + i % 3));
    }
    assert_int_equal(pc_store_reserve(f.store, key(3), 4 * 4096, &reservation),
                     PEERCACHE_NO_SPACE);
    assert_true(has(&f, 1));
    for (uint64_t i = 0; i < kept.length; i++) {
        assert_int_equal(((unsigned char *)kept.addr)[i], 2);
    }
    struct pc_pin second = seal(&f, &kept);
    assert_true(has(&f, 2));
    pc_store_unpin(f.store, &second);
    pc_store_unpin(f.store, &pin);
    put(&f, 4, 4 * 4096);
    tear_down(&f);
}

static void a_failed_reservation_evicts_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    struct pc_pin pins[5];
    set_up(&f, 0);
    add_granules(&f, 10);
    /* Every second one is pinned: no run of two. */
    for (uint64_t i = 0; i < 5; i++) {
        put(&f, i, 4096);
        pins[i] = put_pinned(&f, 100 + i, 4096);
    }
    assert_int_equal(pc_store_reserve(f.store, key(50), 8192, &reservation),
                     PEERCACHE_NO_SPACE);
    assert_int_equal(stats_of(&f).evictions, 0);
    pc_store_unpin(f.store, &pins[2]);
    put(&f, 50, 8192);
    assert_int_equal(stats_of(&f).evictions, 2);
    for (int i = 0; i < 5; i++) {
        if (i != 2) {
            pc_store_unpin(f.store, &pins[i]);
        }
    }
    tear_down(&f);
}

static void an_abandoned_reservation_leaves_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    set_up(&f, 0);
    add_granules(&f, 10);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(
            pc_store_reserve(f.store, key(i), 1 + i * 400, &reservation),
            PEERCACHE_OK);
        pc_store_abandon(f.store, &reservation);
        check_generations(&f);
    }
    assert_int_equal(stats_of(&f).used, 0);
    assert_int_equal(f.n_gone, 0);
    assert_int_equal(stats_of(&f).longest_free, 10 * 4096);
    tear_down(&f);
}

static void a_value_is_replaced_by_one_of_another_length(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_place place;
    set_up(&f, 0);
    add_granules(&f, 10);
    put(&f, 1, 100);
    put(&f, 1, 5000);
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(f.last_why, PC_GONE_REPLACED);
    assert_int_equal(f.last_gone.length, 100);
    assert_true(pc_store_find(f.store, key(1), false, &place));
    assert_int_equal(place.length, 5000);
    assert_int_equal(stats_of(&f).n_values, 1);
    /* A pinned one stays for its reader, but nobody finds it any more. */
    struct pc_pin pin;
    assert_true(pc_store_pin(f.store, key(1), &pin));
    put(&f, 1, 64);
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(stats_of(&f).n_dying, 1);
    assert_int_equal(atomic_load(&header_of(&f, &pin.place)->generation) % 2,
                     1);
    assert_int_equal(((const unsigned char *)pin.addr)[4999], 1);
    assert_true(pc_store_find(f.store, key(1), false, &place));
    assert_int_equal(place.length, 64);
    pc_store_unpin(f.store, &pin);
    assert_int_equal(f.n_gone, 2);
    assert_int_equal(f.last_gone.length, 5000);
    assert_int_equal(f.last_why, PC_GONE_REPLACED);
    assert_int_equal(stats_of(&f).used, 4096);
    tear_down(&f);
}

static void two_reservations_of_one_key_end_as_one_value(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation a;
    struct pc_reservation b;
    struct pc_place place;
    set_up(&f, 0);
    add_granules(&f, 10);
    assert_int_equal(pc_store_reserve(f.store, key(1), 10, &a), PEERCACHE_OK);
    assert_int_equal(pc_store_reserve(f.store, key(1), 20, &b), PEERCACHE_OK);
    struct pc_pin pin_b = seal(&f, &b);
    struct pc_pin pin_a = seal(&f, &a);
    assert_int_equal(f.n_gone, 0);
    pc_store_unpin(f.store, &pin_b);
    assert_int_equal(f.n_gone, 1);
    assert_true(pc_store_find(f.store, key(1), false, &place));
    assert_int_equal(place.length, 10);
    assert_int_equal(place.generation, pin_a.place.generation);
    pc_store_unpin(f.store, &pin_a);
    tear_down(&f);
}

static void a_pinned_value_that_is_removed_dies_with_its_last_pin(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_pin a;
    struct pc_pin b;
    set_up(&f, 0);
    add_granules(&f, 10);
    put(&f, 1, 6000);
    assert_true(pc_store_pin(f.store, key(1), &a));
    assert_true(pc_store_pin(f.store, key(1), &b));
    assert_true(pc_store_remove(f.store, key(1)));
    assert_false(pc_store_remove(f.store, key(1)));
    assert_false(has(&f, 1));
    assert_int_equal(stats_of(&f).n_dying, 1);
    assert_int_equal(stats_of(&f).n_values, 0);
    assert_int_equal(stats_of(&f).used, 8192);
    assert_int_equal(atomic_load(&header_of(&f, &a.place)->generation) % 2, 1);
    pc_store_unpin(f.store, &a);
    assert_int_equal(f.n_gone, 0);
    assert_int_equal(((const unsigned char *)b.addr)[5999], 1);
    pc_store_unpin(f.store, &b);
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(f.last_why, PC_GONE_REMOVED);
    assert_int_equal(f.last_gone.generation, a.place.generation);
    assert_int_equal(stats_of(&f).used, 0);
    /* The same key can live again at once. */
    put(&f, 1, 10);
    assert_true(has(&f, 1));
    assert_true(pc_store_remove(f.store, key(1)));
    assert_false(pc_store_remove(f.store, key(1)));
    tear_down(&f);
}

static size_t clear_store(struct fixture *f)
{
    struct pc_sweep sweep = {0};
    while (pc_store_clear(f->store, &sweep)) {
    }
    return sweep.n_gone;
}

static void a_clear_takes_what_was_sealed_before_it_and_no_more(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation before;
    struct pc_sweep sweep = {0};
    enum { N = 500 };
    set_up(&f, 0);
    add_granules(&f, 800);
    add_granules(&f, 800);
    for (uint64_t i = 0; i < N; i++) {
        put(&f, i, 1 + i * 17);
    }
    assert_int_equal(pc_store_reserve(f.store, key(N), 3 * PC_GRANULE, &before),
                     PEERCACHE_OK);
    assert_true(pc_store_clear(f.store, &sweep));
    assert_in_range(sweep.n_gone, 1, N - 1);
    /* Meanwhile: a new value, a newer one of a key that is not yet gone, and
     * the end of a writing that had begun before. */
    put(&f, N + 1, 100);
    assert_true(has(&f, N - 1));
    put(&f, N - 1, 70);
    struct pc_pin pin = seal(&f, &before);
    pc_store_unpin(f.store, &pin);
    while (pc_store_clear(f.store, &sweep)) {
    }
    for (uint64_t i = 0; i < N - 1; i++) {
        assert_false(has(&f, i));
    }
    assert_int_equal(sweep.n_gone, N - 1);
    assert_true(has(&f, N - 1));
    assert_true(has(&f, N));
    assert_true(has(&f, N + 1));
    assert_int_equal(stats_of(&f).n_values, 3);
    assert_int_equal(f.n_gone, N);
    assert_int_equal(clear_store(&f), 3);
    assert_int_equal(f.last_why, PC_GONE_REMOVED);
    assert_int_equal(clear_store(&f), 0);
    assert_int_equal(stats_of(&f).used, 0);
    tear_down(&f);
}

static void a_clear_leaves_pinned_bytes_to_their_readers(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_pin pin;
    set_up(&f, 0);
    add_granules(&f, 10);
    put(&f, 1, 6000);
    put(&f, 2, 100);
    assert_true(pc_store_pin(f.store, key(1), &pin));
    assert_int_equal(clear_store(&f), 2);
    assert_false(has(&f, 1));
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(clear_store(&f), 0);
    put(&f, 1, 200);
    assert_int_equal(((const unsigned char *)pin.addr)[5999], 1);
    pc_store_unpin(f.store, &pin);
    assert_int_equal(f.n_gone, 2);
    assert_true(has(&f, 1));
    tear_down(&f);
}

static void an_add_that_finds_evicting_fails_and_is_undone(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_pin pin;
    set_up(&f, 0);
    add_granules(&f, 10);
    put(&f, 1, 10);
    assert_true(pc_store_pin(f.store, key(1), &pin));
    struct pc_slot *slot = pin.slot;
    uint64_t generation = pin.place.generation;
    assert_false(pc_slot_claim(slot));
    pc_store_unpin(f.store, &pin);
    assert_true(pc_slot_claim(slot));
    assert_false(pc_slot_claim(slot));
    assert_false(pc_slot_add_pin(slot, generation));
    assert_false(pc_slot_drop_pin(slot));
    pc_slot_unclaim(slot);
    assert_int_equal(atomic_load(&slot->pins), 0);
    /* Another generation: the slot was given up or holds another value. */
    assert_false(pc_slot_add_pin(slot, generation + 2));
    assert_false(pc_slot_drop_pin(slot));
    assert_true(pc_slot_add_pin(slot, generation));
    assert_false(pc_slot_drop_pin(slot));
    tear_down(&f);
}

static void the_evictor_frees_its_margin_and_no_more(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0.1);
    add_granules(&f, 100);
    for (uint64_t i = 0; i < 90; i++) {
        put(&f, i, 4096);
    }
    assert_false(pc_store_wants_eviction(f.store));
    assert_int_equal(pc_store_evict(f.store, 100), 0);
    for (uint64_t i = 90; i < 100; i++) {
        put(&f, i, 4096);
    }
    assert_true(pc_store_wants_eviction(f.store));
    assert_true(has(&f, 0));
    assert_int_equal(pc_store_evict(f.store, 3), 3);
    assert_true(pc_store_wants_eviction(f.store));
    assert_int_equal(pc_store_evict(f.store, 100), 7);
    assert_false(pc_store_wants_eviction(f.store));
    assert_int_equal(f.last_why, PC_GONE_EVICTED);
    /* The least recently used ten went: 1 to 10, for 0 was used. */
    assert_true(has(&f, 0));
    assert_false(has(&f, 10));
    assert_true(has(&f, 11));
    tear_down(&f);
}

static void the_evictor_passes_over_pins(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_pin pins[50];
    set_up(&f, 0.2);
    add_granules(&f, 100);
    for (uint64_t i = 0; i < 50; i++) {
        pins[i] = put_pinned(&f, i, 4096);
    }
    for (uint64_t i = 50; i < 100; i++) {
        put(&f, i, 4096);
    }
    assert_int_equal(pc_store_evict(f.store, 1000), 20);
    assert_false(has(&f, 69));
    assert_true(has(&f, 70));
    for (uint64_t i = 0; i < 50; i++) {
        assert_true(has(&f, i));
        pc_store_unpin(f.store, &pins[i]);
    }
    tear_down(&f);
}

static void a_listing_shows_every_value_once(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_place places[10];
    bool seen[500] = {false};
    set_up(&f, 0);
    add_granules(&f, 300);
    add_granules(&f, 300);
    for (uint64_t i = 0; i < 500; i++) {
        put(&f, i, 4096);
    }
    for (uint64_t i = 0; i < 500; i += 5) {
        assert_true(pc_store_remove(f.store, key(i)));
    }
    size_t at = 0;
    size_t n;
    size_t n_all = 0;
    while (pc_store_list(f.store, &at, 10, places, &n)) {
        assert_true(n > 0 && n <= 10);
        for (size_t i = 0; i < n; i++) {
            assert_true(places[i].digest.lo < 500);
            assert_false(seen[places[i].digest.lo]);
            seen[places[i].digest.lo] = true;
        }
        n_all += n;
    }
    assert_int_equal(n_all, 400);
    tear_down(&f);
}

static void several_regions_fill_one_after_another(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    set_up(&f, 0);
    add_granules(&f, 10);
    for (uint64_t i = 0; i < 10; i++) {
        put(&f, i, 4096);
    }
    assert_int_equal(
        pc_store_reserve(f.store, key(100), 20 * 4096, &reservation),
        PEERCACHE_TOO_LARGE);
    add_granules(&f, 40);
    put(&f, 100, 20 * 4096);
    put(&f, 101, 20 * 4096);
    assert_int_equal(stats_of(&f).evictions, 0);
    assert_int_equal(stats_of(&f).capacity, 50 * 4096);
    /* The victims that come first lie in the region that is too small. */
    put(&f, 102, 40 * 4096);
    assert_int_equal(stats_of(&f).evictions, 2);
    for (uint64_t i = 0; i < 10; i++) {
        assert_true(has(&f, i));
    }
    assert_true(has(&f, 102));
    tear_down(&f);
}

static void mixed_sizes_never_lack_space_when_nothing_is_pinned(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {64,      4096, 70272, 4497408,
                                       1 << 20, 700,  2048,  1};
    struct fixture f;
    struct pc_rand r;
    set_up(&f, 0);
    add_region(&f, 6 << 20);
    add_region(&f, 5 << 20);
    pc_rand_init(&r, 11);
    for (int i = 0; i < 6000; i++) {
        uint64_t number = pc_rand_below(&r, 3000);
        size_t which = pc_rand_below(&r, 8);
        if (which == 3 && pc_rand_below(&r, 8) != 0) {
            which = 0;
        }
        uint64_t length = lengths[which];
        if (pc_rand_below(&r, 400) == 0) {
            length = pc_store_value_max(6 << 20);
        }
        put(&f, number, length);
        has(&f, pc_rand_below(&r, 3000));
        if (pc_rand_below(&r, 10) == 0) {
            pc_store_remove(f.store, key(pc_rand_below(&r, 3000)));
        }
        if (i % 500 == 0) {
            check_generations(&f);
        }
    }
    assert_true(stats_of(&f).evictions > 0);
    tear_down(&f);
}

/* In a pool that becomes full, so that the policy has ghosts, too. */
static void bookkeeping_stays_under_128_bytes_a_value(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {4096, 2048, 64};
    for (size_t i = 0; i < 6; i++) {
        struct fixture f;
        set_up_with(&f, 0, i < 3 ? pc_evict_lru() : pc_evict_s3fifo());
        add_region(&f, 32 << 20);
        uint64_t worst = 0;
        uint64_t n_evicted = 0;
        for (uint64_t n = 0; n < 24000; n++) {
            put(&f, n, lengths[i % 3]);
            struct pc_store_stats stats = stats_of(&f);
            uint64_t per_value = stats.index_bytes / stats.n_values;
            if (n >= 1000 && per_value > worst) {
                worst = per_value;
            }
            n_evicted = stats.evictions;
        }
        assert_true(worst > 80 && worst <= 128);
        assert_true(n_evicted > 1000);
        tear_down(&f);
    }
}

/* exists refreshes a value, and every value was asked for: still there is room
 * for a new one, at once. */
static void no_number_of_exists_pins_a_value(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        struct fixture f;
        struct pc_place place;
        set_up_with(&f, 0, p == 0 ? pc_evict_lru() : pc_evict_s3fifo());
        add_granules(&f, 200);
        for (uint64_t k = 0; k < 600; k++) {
            put(&f, k, PC_GRANULE);
            uint64_t n_found = 0;
            for (uint64_t i = 0; i <= k; i++) {
                n_found += pc_store_find(f.store, key(i), true, &place);
            }
            assert_int_equal(n_found, k < 200 ? k + 1 : 200);
        }
        assert_int_equal(stats_of(&f).evictions, 400);
        tear_down(&f);
    }
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    struct pc_store_params params = {.max_regions = 1,
                                     .policy = pc_evict_lru()};
    for (int i = 0; i < 3; i++) {
        pc_mem_fail_after(i);
        assert_null(pc_store_create(&params));
        pc_mem_fail_after(-1);
    }
    set_up(&f, 0);
    uint32_t index;
    void *memory = aligned_alloc(PC_GRANULE, 1 << 20);
    memset(memory, 0, 1 << 20);
    for (int i = 0; i < 3; i++) {
        pc_mem_fail_after(i);
        assert_int_equal(pc_store_add_region(f.store, memory, 1 << 20, &index),
                         PEERCACHE_NO_MEMORY);
        pc_mem_fail_after(-1);
    }
    free(memory);
    add_granules(&f, 50);
    /* Cells of the index, a shared granule, private sides; what came before
     * the failure stays, so the next one fails first. */
    for (int i = 0; i < 3; i++) {
        pc_mem_fail_after(i == 2 ? 1 : i);
        assert_int_equal(pc_store_reserve(f.store, key(1), 10, &reservation),
                         PEERCACHE_NO_MEMORY);
        pc_mem_fail_after(-1);
        assert_int_equal(stats_of(&f).used, 0);
        assert_int_equal(stats_of(&f).n_reserved, 0);
    }
    put(&f, 1, 10);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_found_only_after_its_seal),
        cmocka_unit_test(a_region_says_what_it_is),
        cmocka_unit_test(small_values_pack_and_give_their_granules_back),
        cmocka_unit_test(tiny_values_beyond_the_slots_push_out_the_oldest),
        cmocka_unit_test(
            a_quarter_of_the_slots_is_there_whoever_holds_the_rest),
        cmocka_unit_test(a_pool_full_of_single_granules_takes_a_double_one),
        cmocka_unit_test(a_lone_victim_that_makes_room_goes_alone),
        cmocka_unit_test(what_can_never_fit_evicts_nothing),
        cmocka_unit_test(pins_and_reservations_withstand_pressure),
        cmocka_unit_test(a_failed_reservation_evicts_nothing),
        cmocka_unit_test(an_abandoned_reservation_leaves_nothing),
        cmocka_unit_test(a_value_is_replaced_by_one_of_another_length),
        cmocka_unit_test(two_reservations_of_one_key_end_as_one_value),
        cmocka_unit_test(a_pinned_value_that_is_removed_dies_with_its_last_pin),
        cmocka_unit_test(a_clear_takes_what_was_sealed_before_it_and_no_more),
        cmocka_unit_test(a_clear_leaves_pinned_bytes_to_their_readers),
        cmocka_unit_test(an_add_that_finds_evicting_fails_and_is_undone),
        cmocka_unit_test(the_evictor_frees_its_margin_and_no_more),
        cmocka_unit_test(the_evictor_passes_over_pins),
        cmocka_unit_test(a_listing_shows_every_value_once),
        cmocka_unit_test(several_regions_fill_one_after_another),
        cmocka_unit_test(mixed_sizes_never_lack_space_when_nothing_is_pinned),
        cmocka_unit_test(bookkeeping_stays_under_128_bytes_a_value),
        cmocka_unit_test(no_number_of_exists_pins_a_value),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
