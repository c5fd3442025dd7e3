#include "digest.h"

#include "seqlock.h"

#include <string.h>

/*
 * libxxhash is built for the oldest machine of its architecture, SSE2 on
 * x86-64, where XXH3 does 14 GB/s in cache. Its dispatching functions look at
 * the processor once and use AVX2 or AVX-512 if it has them: 39 GB/s, and a
 * copy with checksum at 5.8 GB/s instead of 4.8 (memcpy alone: 7.0). They give
 * the same results and run everywhere, so we take them where the library has
 * them; xxh_x86dispatch.h maps XXH3_* to them. Inlining xxHash with
 * -march=native would be as fast, but only run on machines like the builder's.
 * On aarch64 the plain functions are built for NEON already.
 */
#define XXH_STATIC_LINKING_ONLY /* For states on the stack. */
#ifdef PC_HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

/* A part of a copy is hashed before the next is copied: it should still be in
 * the L2 cache (32 to 256 KiB measured the same, larger ones slower), and the
 * usual page fits one chunk, which needs no streaming state. */
enum { COPY_CHUNK = 128 * 1024, JOINED_KEY = 512 };

/* A copy of at least so many bytes goes by way of a small buffer in the L1
 * cache, is hashed there, and is stored past the caches: what is overwritten is
 * not read first. The next chunk of the source is on its way meanwhile. Of
 * memcpy and XXH3 that is 1.2 to 1.3 with sources from memory. */
enum { STREAM_LEAST = 32 * 1024, STREAM_CHUNK = 8 * 1024, CACHE_LINE = 64 };

static size_t put_le32(unsigned char *to, size_t value)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (unsigned char)(value >> (8 * i));
    }
    return 4;
}

uint64_t pc_digest_seed(const char *cluster_name, const char *salt)
{
    unsigned char len[4];
    size_t name_len = cluster_name != NULL ? strlen(cluster_name) : 0;
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, len, put_le32(len, name_len));
    if (name_len > 0) {
        XXH3_64bits_update(&state, cluster_name, name_len);
    }
    if (salt != NULL && salt[0] != '\0') {
        XXH3_64bits_update(&state, salt, strlen(salt));
    }
    return XXH3_64bits_digest(&state);
}

uint64_t pc_digest_seed_prefixed(uint64_t seed, const char *prefix)
{
    if (prefix == NULL || prefix[0] == '\0') {
        return seed;
    }
    return XXH3_64bits_withSeed(prefix, strlen(prefix), seed);
}

static XXH128_hash_t hash_long_key(uint64_t seed, const unsigned char *len,
                                   const void *name_space,
                                   size_t name_space_len, const void *key,
                                   size_t key_len)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset_withSeed(&state, seed);
    XXH3_128bits_update(&state, len, 4);
    if (name_space_len > 0) {
        XXH3_128bits_update(&state, name_space, name_space_len);
    }
    if (key_len > 0) {
        XXH3_128bits_update(&state, key, key_len);
    }
    return XXH3_128bits_digest(&state);
}

struct pc_digest pc_digest_key(uint64_t seed, const void *name_space,
                               size_t name_space_len, const void *key,
                               size_t key_len)
{
    unsigned char joined[JOINED_KEY];
    size_t len = put_le32(joined, name_space_len);
    XXH128_hash_t hash;
    if (name_space_len > sizeof(joined) - len ||
        key_len > sizeof(joined) - len - name_space_len) {
        hash = hash_long_key(seed, joined, name_space, name_space_len, key,
                             key_len);
        return (struct pc_digest){.lo = hash.low64, .hi = hash.high64};
    }
    /* Usual keys are short: joining them is cheaper than a hash in parts. */
    if (name_space_len > 0) {
        memcpy(joined + len, name_space, name_space_len);
        len += name_space_len;
    }
    if (key_len > 0) {
        memcpy(joined + len, key, key_len);
        len += key_len;
    }
    hash = XXH3_128bits_withSeed(joined, len, seed);
    return (struct pc_digest){.lo = hash.low64, .hi = hash.high64};
}

uint64_t pc_hash64(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(len > 0 ? data : "", len, seed);
}

uint64_t pc_checksum(const void *data, size_t len)
{
    return XXH3_64bits(len > 0 ? data : "", len);
}

uint64_t pc_checksum_pieces(const peercache_piece_t *pieces, size_t n_pieces)
{
    if (n_pieces == 1) {
        return pc_checksum(pieces[0].addr, pieces[0].len);
    }
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].len > 0) {
            XXH3_64bits_update(&state, pieces[i].addr, pieces[i].len);
        }
    }
    return XXH3_64bits_digest(&state);
}

_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct pc_checksum_parts),
               "a state must fit");

void pc_checksum_begin(struct pc_checksum_parts *parts)
{
    XXH3_state_t *state = (void *)parts->state;
    XXH3_INITSTATE(state);
    XXH3_64bits_reset(state);
}

void pc_checksum_add(struct pc_checksum_parts *parts, const void *data,
                     size_t len)
{
    if (len > 0) {
        XXH3_64bits_update((XXH3_state_t *)(void *)parts->state, data, len);
    }
}

uint64_t pc_checksum_end(const struct pc_checksum_parts *parts)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)parts->state);
}

/* The processor's own prefetching ends at each page of 4 KiB. */
static void ask_for(const unsigned char *from, size_t len)
{
    size_t n = len < STREAM_CHUNK ? len : STREAM_CHUNK;
    for (size_t i = 0; i < n; i += CACHE_LINE) {
        __builtin_prefetch(from + i);
    }
}

/* Hashes what is stored, not what was read. */
static uint64_t stream_checksum(unsigned char *to,
                                const peercache_piece_t *pieces,
                                size_t n_pieces)
{
    _Alignas(64) unsigned char chunk[STREAM_CHUNK];
    size_t n_held = 0;
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < n_pieces; i++) {
        const unsigned char *from = pieces[i].addr;
        size_t left = pieces[i].len;
        while (left > 0) {
            size_t room = sizeof(chunk) - n_held;
            size_t n = left < room ? left : room;
            memcpy(chunk + n_held, from, n);
            n_held += n;
            from += n;
            left -= n;
            if (n_held == sizeof(chunk)) {
                ask_for(from, left);
                XXH3_64bits_update(&state, chunk, n_held);
                pc_racy_stream(to, chunk, n_held);
                to += n_held;
                n_held = 0;
            }
        }
    }
    XXH3_64bits_update(&state, chunk, n_held);
    pc_racy_stream(to, chunk, n_held);
    pc_racy_stream_end();
    return XXH3_64bits_digest(&state);
}

static bool is_long(const peercache_piece_t *pieces, size_t n_pieces)
{
    size_t len = 0;
    for (size_t i = 0; i < n_pieces && len < STREAM_LEAST; i++) {
        len += pieces[i].len < STREAM_LEAST ? pieces[i].len : STREAM_LEAST;
    }
    return len >= STREAM_LEAST;
}

/* What was copied is hashed where it arrived, so that the checksum tells about
 * the bytes we keep, even if the user writes to the source meanwhile. Copied
 * bytes gather up to a chunk before they are hashed, whatever the pieces. */
uint64_t pc_copy_checksum(void *to, const peercache_piece_t *pieces,
                          size_t n_pieces)
{
    if (is_long(pieces, n_pieces)) {
        return stream_checksum(to, pieces, n_pieces);
    }
    unsigned char *at = to;     /* Where the next byte goes. */
    unsigned char *hashed = to; /* All before it went into the state. */
    XXH3_state_t state;
    for (size_t i = 0; i < n_pieces; i++) {
        const unsigned char *from = pieces[i].addr;
        size_t left = pieces[i].len;
        while (left > 0) {
            size_t room = COPY_CHUNK - (size_t)(at - hashed);
            if (room == 0) {
                if (hashed == to) {
                    XXH3_INITSTATE(&state);
                    XXH3_64bits_reset(&state);
                }
                XXH3_64bits_update(&state, hashed, COPY_CHUNK);
                hashed = at;
                room = COPY_CHUNK;
            }
            size_t n = left < room ? left : room;
            pc_racy_fill(at, from, n);
            at += n;
            from += n;
            left -= n;
        }
    }
    if (hashed == to) {
        return pc_checksum(to, (size_t)(at - hashed)); /* One chunk at most. */
    }
    XXH3_64bits_update(&state, hashed, (size_t)(at - hashed));
    return XXH3_64bits_digest(&state);
}
