/* Tests of base/seqlock.h. */
#include "test.h"

#include "base/mem.h"
#include "base/seqlock.h"

#include <pthread.h>
#include <string.h>

enum { VALUE = 4099, N_ROUNDS = 3000 };

static struct pc_slot_want want_of(uint64_t generation)
{
    return (struct pc_slot_want){
        .digest = {.lo = 11, .hi = 22},
        .generation = generation,
        .length = VALUE,
        .offset = 4096,
    };
}

static void a_slot_matches_only_what_was_sealed(void **state)
{
    (void)state;
    struct pc_slot_header header;
    memset(&header, 0, sizeof(header));
    struct pc_slot_want want = want_of(8);
    pc_slot_unseal(&header, 7);
    assert_false(pc_slot_matches(&header, &want));
    pc_slot_seal(&header, &want, 99);
    assert_true(pc_slot_matches(&header, &want));
    assert_int_equal(
        atomic_load_explicit(&header.checksum, memory_order_relaxed), 99);
    struct pc_slot_want other = want;
    other.generation = 10;
    assert_false(pc_slot_matches(&header, &other));
    other = want;
    other.digest.lo++;
    assert_false(pc_slot_matches(&header, &other));
    other = want;
    other.digest.hi++;
    assert_false(pc_slot_matches(&header, &other));
    other = want;
    other.length--;
    assert_false(pc_slot_matches(&header, &other));
    other = want;
    other.offset++;
    assert_false(pc_slot_matches(&header, &other));
}

static void an_unsealed_slot_matches_nobody(void **state)
{
    (void)state;
    struct pc_slot_header header;
    memset(&header, 0, sizeof(header));
    struct pc_slot_want want = want_of(2);
    pc_slot_unseal(&header, 1);
    pc_slot_seal(&header, &want, 0);
    pc_slot_unseal(&header, 3);
    assert_false(pc_slot_matches(&header, &want));
    want.generation = 3; /* Even asked for by its odd number. */
    assert_false(pc_slot_matches(&header, &want));
}

static void a_value_is_copied_into_its_pieces(void **state)
{
    (void)state;
    struct pc_slot_header header;
    memset(&header, 0, sizeof(header));
    unsigned char from[VALUE];
    unsigned char to[VALUE];
    for (size_t i = 0; i < VALUE; i++) {
        from[i] = (unsigned char)(i * 13);
    }
    memset(to, 0, sizeof(to));
    struct pc_slot_want want = want_of(2);
    peercache_piece_t pieces[] = {
        {to + 1000, 1}, {to + 1001, VALUE - 1001}, {to, 0}, {to, 1000}};
    pc_slot_unseal(&header, 1);
    pc_slot_seal(&header, &want, 0);
    assert_true(pc_slot_copy(&header, &want, from, pieces, 4));
    assert_memory_equal(to + 1000, from, VALUE - 1000);
    assert_memory_equal(to, from + VALUE - 1000, 1000);
}

static void a_slot_that_does_not_match_leaves_the_pieces_alone(void **state)
{
    (void)state;
    struct pc_slot_header header;
    memset(&header, 0, sizeof(header));
    unsigned char from[VALUE] = {1};
    unsigned char to[VALUE];
    memset(to, 0xee, sizeof(to));
    peercache_piece_t piece = {to, VALUE};
    struct pc_slot_want want = want_of(2);
    pc_slot_unseal(&header, 1);
    assert_false(pc_slot_copy(&header, &want, from, &piece, 1));
    for (size_t i = 0; i < VALUE; i++) {
        assert_int_equal(to[i], 0xee);
    }
}

static void racy_copies_are_exact_at_every_alignment(void **state)
{
    (void)state;
    unsigned char from[256];
    _Alignas(16) unsigned char to[256];
    for (unsigned i = 0; i < sizeof(from); i++) {
        from[i] = (unsigned char)(i + 1);
    }
    for (size_t f = 0; f < 9; f++) {
        for (size_t t = 0; t < 17; t++) {
            for (size_t len = 0; len < 40; len++) {
                memset(to, 0, sizeof(to));
                pc_racy_copy(to + t, from + f, len);
                assert_memory_equal(to + t, from + f, len);
                assert_int_equal(to[t + len], 0);
                memset(to, 0, sizeof(to));
                pc_racy_fill(to + t, from + f, len);
                assert_memory_equal(to + t, from + f, len);
                assert_int_equal(to[t + len], 0);
            }
            for (size_t len = 0; len < 200; len += 3) {
                memset(to, 0, sizeof(to));
                pc_racy_stream(to + t, from + f, len);
                pc_racy_stream_end();
                assert_memory_equal(to + t, from + f, len);
                assert_int_equal(to[t + len], 0);
            }
        }
    }
}

/* An owner that reuses one slot all the time: the value of generation g is
 * VALUE bytes of (unsigned char)g * 37. */
struct arena
{
    struct pc_slot_header header;
    _Atomic bool stop;
    _Atomic uint64_t sealed; /* The latest even generation. */
    unsigned char extent[VALUE];
};

static void refill(struct arena *arena, uint64_t generation)
{
    unsigned char value[VALUE];
    struct pc_slot_want want = want_of(generation);
    memset(value, (unsigned char)(generation * 37), VALUE);
    pc_slot_unseal(&arena->header, generation - 1);
    pc_racy_fill(arena->extent, value, VALUE);
    pc_slot_seal(&arena->header, &want, 0);
    atomic_store_explicit(&arena->sealed, generation, memory_order_release);
}

static void *own(void *arg)
{
    struct arena *arena = arg;
    uint64_t generation = 2;
    while (!atomic_load_explicit(&arena->stop, memory_order_acquire)) {
        generation += 2;
        refill(arena, generation);
    }
    return NULL;
}

/* Returns whether the copy was called good; then its bytes must be whole. */
static bool read_once(struct arena *arena)
{
    unsigned char to[VALUE];
    unsigned char expected[VALUE];
    uint64_t generation =
        atomic_load_explicit(&arena->sealed, memory_order_acquire);
    struct pc_slot_want want = want_of(generation);
    peercache_piece_t pieces[] = {{to, 1001}, {to + 1001, VALUE - 1001}};
    if (!pc_slot_copy(&arena->header, &want, arena->extent, pieces, 2)) {
        return false;
    }
    memset(expected, (unsigned char)(generation * 37), VALUE);
    assert_memory_equal(to, expected, VALUE);
    return true;
}

static void a_copy_that_is_called_good_is_never_torn(void **state)
{
    (void)state;
    struct arena *arena = pc_alloc(1, sizeof(*arena));
    pthread_t owner;
    refill(arena, 2);
    assert_true(read_once(arena));
    assert_int_equal(pthread_create(&owner, NULL, own, arena), 0);
    /* Until enough reads met an owner at work, in whatever order the system
     * runs the two; some reads fail, which is the point of the generation. */
    for (int n_good = 0, n_tries = 0;
         n_good < N_ROUNDS && n_tries < 200 * N_ROUNDS; n_tries++) {
        n_good += read_once(arena);
    }
    atomic_store_explicit(&arena->stop, true, memory_order_release);
    pthread_join(owner, NULL);
    assert_true(read_once(arena));
    pc_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_matches_only_what_was_sealed),
        cmocka_unit_test(an_unsealed_slot_matches_nobody),
        cmocka_unit_test(a_value_is_copied_into_its_pieces),
        cmocka_unit_test(a_slot_that_does_not_match_leaves_the_pieces_alone),
        cmocka_unit_test(racy_copies_are_exact_at_every_alignment),
        cmocka_unit_test(a_copy_that_is_called_good_is_never_torn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
