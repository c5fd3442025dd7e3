/*
 * The life of a value: reserve, seal, pin, replace, remove, clear, list.
 */
#include "store_fixture.h"

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
    struct pc_cleared cleared;
    while (pc_store_clear(f->store, &sweep, &cleared)) {
    }
    return sweep.n_gone;
}

static void a_clear_takes_what_was_sealed_before_it_and_no_more(void **state)
{
    (void)state;
    struct fixture f;
    struct pc_reservation before;
    struct pc_sweep sweep = {0};
    struct pc_cleared cleared;
    enum { N = 500 };
    set_up(&f, 0);
    add_granules(&f, 800);
    add_granules(&f, 800);
    for (uint64_t i = 0; i < N; i++) {
        put(&f, i, 1 + i * 17);
    }
    assert_int_equal(pc_store_reserve(f.store, key(N), 3 * PC_GRANULE, &before),
                     PEERCACHE_OK);
    assert_true(pc_store_clear(f.store, &sweep, &cleared));
    assert_in_range(sweep.n_gone, 1, N - 1);
    /* Meanwhile: a new value, a newer one of a key that is not yet gone, and
     * the end of a writing that had begun before. */
    put(&f, N + 1, 100);
    assert_true(has(&f, N - 1));
    put(&f, N - 1, 70);
    struct pc_pin pin = seal(&f, &before);
    pc_store_unpin(f.store, &pin);
    while (pc_store_clear(f.store, &sweep, &cleared)) {
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
    struct pc_sweep sweep = {0};
    struct pc_cleared cleared;
    assert_false(pc_store_clear(f.store, &sweep, &cleared));
    assert_int_equal(sweep.n_gone, 2);
    assert_false(has(&f, 1));
    assert_int_equal(f.n_gone, 1);
    /* Its end is told later: who cannot wait for it learns what it is. */
    assert_int_equal(cleared.n_pinned, 1);
    assert_int_equal(cleared.pinned[0].generation, pin.place.generation);
    assert_true(pc_digest_equal(cleared.pinned[0].digest, key(1)));
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
        cmocka_unit_test(pins_and_reservations_withstand_pressure),
        cmocka_unit_test(a_failed_reservation_evicts_nothing),
        cmocka_unit_test(an_abandoned_reservation_leaves_nothing),
        cmocka_unit_test(a_value_is_replaced_by_one_of_another_length),
        cmocka_unit_test(two_reservations_of_one_key_end_as_one_value),
        cmocka_unit_test(a_pinned_value_that_is_removed_dies_with_its_last_pin),
        cmocka_unit_test(a_clear_takes_what_was_sealed_before_it_and_no_more),
        cmocka_unit_test(a_clear_leaves_pinned_bytes_to_their_readers),
        cmocka_unit_test(an_add_that_finds_evicting_fails_and_is_undone),
        cmocka_unit_test(a_listing_shows_every_value_once),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
