/*
 * store_fixture.h - a store over plain memory that checks what it says: no
 * generation twice, every value that was sealed is there or was given up once.
 */
#ifndef PC_TEST_STORE_FIXTURE_H
#define PC_TEST_STORE_FIXTURE_H

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

static inline const struct pc_slot_header *header_of(
    const struct fixture *f, const struct pc_place *place)
{
    struct pc_region_info info;
    assert_true(pc_store_region(f->store, place->region, &info));
    return (const struct pc_slot_header *)(const void *)((char *)info.addr +
                                                         info.slots_offset) +
           place->slot;
}

static inline void on_gone(void *arg, const struct pc_place *place,
                           enum pc_gone why)
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

static inline void set_up_with(struct fixture *f, double margin,
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

static inline void set_up(struct fixture *f, double margin)
{
    set_up_with(f, margin, pc_evict_lru());
}

static inline void add_region(struct fixture *f, uint64_t length)
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
static inline void add_granules(struct fixture *f, uint64_t n)
{
    uint64_t length = n * PC_GRANULE;
    while (pc_store_value_max(length) < n * PC_GRANULE) {
        length += PC_GRANULE;
    }
    assert_int_equal(pc_store_value_max(length), n * PC_GRANULE);
    add_region(f, length);
}

static inline int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Every header: even exactly if it is listed, and no generation twice. */
static inline void check_generations(const struct fixture *f)
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
static inline void tear_down(struct fixture *f)
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

static inline struct pc_digest key(uint64_t number)
{
    return (struct pc_digest){number, number * 3 + 1};
}

static inline struct pc_pin seal(struct fixture *f,
                                 struct pc_reservation *reservation)
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

static inline struct pc_pin put_pinned(struct fixture *f, uint64_t number,
                                       uint64_t length)
{
    struct pc_reservation reservation;
    assert_int_equal(
        pc_store_reserve(f->store, key(number), length, &reservation),
        PEERCACHE_OK);
    return seal(f, &reservation);
}

static inline void put(struct fixture *f, uint64_t number, uint64_t length)
{
    struct pc_pin pin = put_pinned(f, number, length);
    pc_store_unpin(f->store, &pin);
}

/* Whether a value is there; if so, its bytes are right. */
static inline bool has(struct fixture *f, uint64_t number)
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

static inline struct pc_store_stats stats_of(const struct fixture *f)
{
    struct pc_store_stats stats;
    pc_store_stats(f->store, &stats);
    return stats;
}

#endif /* PC_TEST_STORE_FIXTURE_H */
