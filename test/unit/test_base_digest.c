/* Tests of base/digest.h. The constants come from another implementation of
 * xxHash; a change of one breaks every cluster of mixed versions. */
#include "test.h"

#include "base/assert.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/rand.h"

#include <string.h>

enum { BIG = 1000003 };

static void fill(unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (unsigned char)(i * 7 + (i >> 8));
    }
}

static void seeds_are_as_documented(void **state)
{
    (void)state;
    assert_true(pc_digest_seed("peercache", "") == 0x86153a1ff5f16a78ull);
    assert_true(pc_digest_seed("peercache", NULL) == 0x86153a1ff5f16a78ull);
    assert_true(pc_digest_seed("peercache", "salt") == 0xe8f624979d3923fcull);
    assert_true(pc_digest_seed("peer", "cachesalt") == 0x4d49662c5f201d0cull);
}

static void a_prefix_gives_another_seed_and_none_the_same(void **state)
{
    (void)state;
    uint64_t seed = pc_digest_seed("peercache", "");
    assert_true(pc_digest_seed_prefixed(seed, NULL) == seed);
    assert_true(pc_digest_seed_prefixed(seed, "") == seed);
    uint64_t first = pc_digest_seed_prefixed(seed, "first");
    assert_true(first != seed);
    assert_true(first != pc_digest_seed_prefixed(seed, "second"));
    assert_true(first != pc_digest_seed_prefixed(seed + 1, "first"));
}

static void digests_of_keys_are_as_documented(void **state)
{
    (void)state;
    static const struct
    {
        const char *name_space;
        const char *key;
        struct pc_digest digest;
    } vectors[] = {
        {"", "", {0xb05ea1556c3f9a63ull, 0xa5be1b05e9bbf1c2ull}},
        {"", "key", {0xd03f30bc245fc995ull, 0x1dd30f12f35f0b1full}},
        {"ns", "key", {0xf854194f930ce096ull, 0x4a713f5addc3ae7bull}},
        {"n", "skey", {0xc7994513eb53db2cull, 0x110046b4b41c1cf5ull}},
    };
    uint64_t seed = pc_digest_seed("peercache", "");
    for (size_t i = 0; i < PC_ARRAY_LEN(vectors); i++) {
        struct pc_digest digest = pc_digest_key(
            seed, vectors[i].name_space, strlen(vectors[i].name_space),
            vectors[i].key, strlen(vectors[i].key));
        assert_true(pc_digest_equal(digest, vectors[i].digest));
    }
    assert_true(pc_digest_equal(pc_digest_key(seed, NULL, 0, NULL, 0),
                                vectors[0].digest));
}

static void long_keys_have_the_digest_of_their_joined_bytes(void **state)
{
    (void)state;
    uint64_t seed = pc_digest_seed("peercache", "");
    unsigned char bytes[2000];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    struct pc_digest d = pc_digest_key(seed, "model", 5, bytes, 2000);
    assert_true(d.lo == 0x989ee4dc0a178809ull && d.hi == 0x2364f0c4f1ee304dull);
    d = pc_digest_key(seed, bytes, 2000, "key", 3);
    assert_true(d.lo == 0x0e74d6538c157bf5ull && d.hi == 0xb88e6ebb9d23da87ull);
    /* On both sides of the length up to which keys are joined. */
    d = pc_digest_key(seed, "model", 5, bytes, 503);
    assert_true(d.lo == 0x276527a7fb98fc04ull && d.hi == 0xed19993da1a609e7ull);
    d = pc_digest_key(seed, "model", 5, bytes, 504);
    assert_true(d.lo == 0x9645d88afaa76f93ull && d.hi == 0xaf505ff2ff7d3069ull);
}

static void digests_sort_by_their_high_half_first(void **state)
{
    (void)state;
    struct pc_digest a = {.lo = 9, .hi = 1};
    struct pc_digest b = {.lo = 1, .hi = 2};
    struct pc_digest c = {.lo = 2, .hi = 2};
    assert_true(pc_digest_compare(a, b) < 0);
    assert_true(pc_digest_compare(c, b) > 0);
    assert_int_equal(pc_digest_compare(c, c), 0);
}

static void checksums_are_xxh3(void **state)
{
    (void)state;
    unsigned char *bytes = pc_alloc(BIG, 1);
    fill(bytes, BIG);
    assert_true(pc_checksum(NULL, 0) == 0x2d06800538d394c2ull);
    assert_true(pc_checksum("abc", 3) == 0x78af5f94892f3950ull);
    assert_true(pc_checksum(bytes, BIG) == 0xc87a10fa435a29beull);
    assert_true(pc_hash64("abc", 3, 0) == 0x78af5f94892f3950ull);
    assert_true(pc_hash64("abc", 3, 42) == 0xd8438def21bbdcc3ull);
    assert_true(pc_checksum_pieces(NULL, 0) == 0x2d06800538d394c2ull);
    assert_true(pc_copy_checksum(bytes, NULL, 0) == 0x2d06800538d394c2ull);
    pc_free(bytes);
}

/* Cut bytes into random pieces, some empty. */
static size_t cut(struct pc_rand *r, unsigned char *bytes, size_t len,
                  peercache_piece_t *pieces, size_t max)
{
    size_t n = 0;
    size_t at = 0;
    while (at < len && n + 1 < max) {
        size_t part = (size_t)pc_rand_below(r, 2 * len / max + 2);
        part = part < len - at ? part : len - at;
        pieces[n++] = (peercache_piece_t){.addr = bytes + at, .len = part};
        at += part;
    }
    pieces[n++] = (peercache_piece_t){.addr = bytes + at, .len = len - at};
    return n;
}

static void pieces_have_the_checksum_of_their_joined_bytes(void **state)
{
    (void)state;
    static const size_t lens[] = {0,      1,      240,    241,    32767,
                                  32768,  32799,  49152,  131071, 131072,
                                  131073, 262144, 262145, BIG};
    unsigned char *bytes = pc_alloc(BIG, 1);
    unsigned char *copy = pc_alloc(BIG + 2, 1);
    peercache_piece_t pieces[40];
    struct pc_rand r;
    pc_rand_init(&r, 4);
    fill(bytes, BIG);
    for (size_t i = 0; i < PC_ARRAY_LEN(lens); i++) {
        for (size_t max = 1; max <= PC_ARRAY_LEN(pieces); max += 3) {
            size_t n = cut(&r, bytes, lens[i], pieces, max);
            uint64_t sum = pc_checksum(bytes, lens[i]);
            assert_true(pc_checksum_pieces(pieces, n) == sum);
            /* Also where nothing is aligned; one byte behind stays. */
            for (unsigned char *to = copy; to <= copy + 1; to++) {
                memset(copy, 0xee, BIG + 2);
                assert_true(pc_copy_checksum(to, pieces, n) == sum);
                assert_memory_equal(to, bytes, lens[i]);
                assert_int_equal(to[lens[i]], 0xee);
            }
        }
    }
    pc_free(copy);
    pc_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_are_as_documented),
        cmocka_unit_test(a_prefix_gives_another_seed_and_none_the_same),
        cmocka_unit_test(digests_of_keys_are_as_documented),
        cmocka_unit_test(long_keys_have_the_digest_of_their_joined_bytes),
        cmocka_unit_test(digests_sort_by_their_high_half_first),
        cmocka_unit_test(checksums_are_xxh3),
        cmocka_unit_test(pieces_have_the_checksum_of_their_joined_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
