/*
 * Where values go, and what goes for them: extents, shared granules, slots, the
 * evictor, what bookkeeping takes.
 */
#include "store_fixture.h"

/* MLA pages are no powers of two; a value takes its granules, wherever they
 * are, and what comes after it begins right behind. */
static void pages_of_any_size_take_their_granules_and_no_more(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {70272, 4497408, 2049, 131072, 70272};
    struct fixture f;
    set_up(&f, 0);
    add_granules(&f, 1200);
    uint64_t end = 0;
    uint64_t n_granules = 0;
    for (uint64_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct pc_pin pin = put_pinned(&f, i, lengths[i]);
        uint64_t n = (lengths[i] + PC_GRANULE - 1) / PC_GRANULE;
        assert_true(i == 0 || pin.place.offset == end);
        end = pin.place.offset + n * PC_GRANULE;
        n_granules += n;
        assert_int_equal(stats_of(&f).used, n_granules * PC_GRANULE);
        pc_store_unpin(f.store, &pin);
    }
    /* 18, 1098, 1, 32 and 18 granules. */
    assert_int_equal(n_granules, 1167);
    tear_down(&f);
}

static void a_reservation_of_free_room_alone_evicts_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation reservation;
    set_up(&f, 0);
    add_granules(&f, 16);
    for (uint64_t i = 0; i < 4; i++) {
        put(&f, i, 4 * PC_GRANULE);
    }
    assert_int_equal(
        pc_store_reserve_free(f.store, key(9), 4 * PC_GRANULE, &reservation),
        PEERCACHE_NO_SPACE);
    assert_int_equal(stats_of(&f).evictions, 0);
    assert_true(pc_store_remove(f.store, key(2)));
    assert_int_equal(
        pc_store_reserve_free(f.store, key(9), 4 * PC_GRANULE, &reservation),
        PEERCACHE_OK);
    pc_store_abandon(f.store, &reservation);
    tear_down(&f);
}

/* 24 granules are wanted of values of 16: two neighbours would go, 32 granules.
 * Number 41 has only 10, so with it 26 go, and number 71 only 8, but that is
 * not among the 64 oldest. */
static void the_cheapest_of_the_64_oldest_runs_goes(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0);
    add_granules(&f, 98 * 16 + 10 + 8);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t n = i == 41 ? 10 : i == 71 ? 8 : 16;
        put(&f, i, n * PC_GRANULE);
    }
    assert_int_equal(stats_of(&f).evictions, 0);
    put(&f, 9000, 24 * PC_GRANULE);
    assert_int_equal(stats_of(&f).evictions, 2);
    for (uint64_t i = 0; i < 100; i++) {
        struct pc_place place;
        bool there = pc_store_find(f.store, key(i), false, &place);
        assert_int_equal(there, i != 40 && i != 41);
    }
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

/* The policy with its looks counted. */
static const struct pc_evict_ops *counted_policy;
static size_t n_looks;

static struct pc_evict_entry *counted_victim(struct pc_evict *evict,
                                             struct pc_evict_entry *after)
{
    n_looks++;
    return counted_policy->victim(evict, after);
}

/* A slow disk pins hundreds, and the oldest of all: they are met once, not by
 * each eviction again. */
static void pins_at_the_front_are_passed_over_once(void **state)
{
    (void)state;
    const struct pc_evict_ops *policies[] = {pc_evict_lru(), pc_evict_s3fifo()};
    for (size_t p = 0; p < 2; p++) {
        struct fixture f;
        struct pc_pin pins[300];
        struct pc_evict_ops ops = *policies[p];
        counted_policy = policies[p];
        ops.victim = counted_victim;
        set_up_with(&f, 0.1, &ops);
        add_granules(&f, 1000);
        for (uint64_t i = 0; i < 300; i++) {
            pins[i] = put_pinned(&f, i, 4096);
        }
        for (uint64_t i = 300; i < 1000; i++) {
            put(&f, i, 4096);
        }
        n_looks = 0;
        assert_int_equal(pc_store_evict(f.store, 1000), 100);
        assert_true(n_looks < 300 + 3 * 100);
        n_looks = 0;
        for (uint64_t i = 1000; i < 1050; i++) {
            put(&f, i, 4096);
        }
        assert_int_equal(pc_store_evict(f.store, 1000), 50);
        assert_true(n_looks < 3 * 50);
        for (uint64_t i = 0; i < 300; i++) {
            assert_true(has(&f, i));
            pc_store_unpin(f.store, &pins[i]);
        }
        tear_down(&f);
    }
}

/* All that is new is pinned, so nothing of the small queue can go: what the
 * main queue has goes. */
static void a_queue_of_pins_only_leaves_the_other_queue(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_pin pins[600];
    set_up_with(&f, 0.2, pc_evict_s3fifo());
    add_granules(&f, 1000);
    for (uint64_t i = 0; i < 600; i++) {
        pins[i] = put_pinned(&f, i, 4096);
    }
    for (uint64_t i = 600; i < 1000; i++) {
        struct pc_place place;
        put(&f, i, 4096);
        assert_true(pc_store_find(f.store, key(i), true, &place)); /* Used. */
    }
    assert_int_equal(pc_store_evict(f.store, 1000), 200);
    for (uint64_t i = 0; i < 600; i++) {
        assert_true(has(&f, i));
        pc_store_unpin(f.store, &pins[i]);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_of_any_size_take_their_granules_and_no_more),
        cmocka_unit_test(a_reservation_of_free_room_alone_evicts_nothing),
        cmocka_unit_test(the_cheapest_of_the_64_oldest_runs_goes),
        cmocka_unit_test(small_values_pack_and_give_their_granules_back),
        cmocka_unit_test(tiny_values_beyond_the_slots_push_out_the_oldest),
        cmocka_unit_test(
            a_quarter_of_the_slots_is_there_whoever_holds_the_rest),
        cmocka_unit_test(a_pool_full_of_single_granules_takes_a_double_one),
        cmocka_unit_test(a_lone_victim_that_makes_room_goes_alone),
        cmocka_unit_test(what_can_never_fit_evicts_nothing),
        cmocka_unit_test(the_evictor_frees_its_margin_and_no_more),
        cmocka_unit_test(the_evictor_passes_over_pins),
        cmocka_unit_test(pins_at_the_front_are_passed_over_once),
        cmocka_unit_test(a_queue_of_pins_only_leaves_the_other_queue),
        cmocka_unit_test(several_regions_fill_one_after_another),
        cmocka_unit_test(mixed_sizes_never_lack_space_when_nothing_is_pinned),
        cmocka_unit_test(bookkeeping_stays_under_128_bytes_a_value),
        cmocka_unit_test(no_number_of_exists_pins_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
