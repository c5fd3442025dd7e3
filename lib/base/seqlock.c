#include "seqlock.h"

#include "assert.h"

#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define PC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PC_TSAN 1
#endif
#endif

/* SSE2 is part of x86-64. */
#if defined(__SSE2__) && !defined(PC_TSAN)
#include <emmintrin.h>
#define PC_STREAMS 1
#endif

#ifdef PC_TSAN

/* Both sides of the race by relaxed atomic words, so that the sanitizer knows
 * it is meant; validity comes from the generation. `shared` decides where words
 * are aligned, the other side is private and may lie anywhere. */
typedef uint64_t word_t;

static size_t bytes_to_word(const void *shared, size_t len)
{
    size_t odd = (uintptr_t)shared % sizeof(word_t);
    size_t head = odd == 0 ? 0 : sizeof(word_t) - odd;
    return head < len ? head : len;
}

static void copy_bytes(unsigned char *to, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}

static void fill_bytes(unsigned char *to, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
    }
}

void pc_racy_copy(void *to, const void *from, size_t len)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    size_t head = bytes_to_word(from, len);
    size_t i = head;
    copy_bytes(t, f, head);
    for (; len - i >= sizeof(word_t); i += sizeof(word_t)) {
        word_t word = __atomic_load_n((const word_t *)(const void *)(f + i),
                                      __ATOMIC_RELAXED);
        memcpy(t + i, &word, sizeof(word));
    }
    copy_bytes(t + i, f + i, len - i);
}

void pc_racy_fill(void *to, const void *from, size_t len)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    size_t head = bytes_to_word(to, len);
    size_t i = head;
    fill_bytes(t, f, head);
    for (; len - i >= sizeof(word_t); i += sizeof(word_t)) {
        word_t word;
        memcpy(&word, f + i, sizeof(word));
        __atomic_store_n((word_t *)(void *)(t + i), word, __ATOMIC_RELAXED);
    }
    fill_bytes(t + i, f + i, len - i);
}

#else

void pc_racy_copy(void *to, const void *from, size_t len)
{
    if (len > 0) {
        memcpy(to, from, len);
    }
}

void pc_racy_fill(void *to, const void *from, size_t len)
{
    if (len > 0) {
        memcpy(to, from, len);
    }
}

#endif /* PC_TSAN */

#ifdef PC_STREAMS

void pc_racy_stream(void *to, const void *from, size_t len)
{
    const unsigned char *f = from;
    __m128i *t = to;
    size_t n_blocks = (uintptr_t)to % sizeof(*t) == 0 ? len / 64 : 0;
    for (size_t i = 0; i < n_blocks; i++) {
        const __m128i *block = (const void *)(f + 64 * i);
        __m128i a = _mm_loadu_si128(block);
        __m128i b = _mm_loadu_si128(block + 1);
        __m128i c = _mm_loadu_si128(block + 2);
        __m128i d = _mm_loadu_si128(block + 3);
        _mm_stream_si128(t + 4 * i, a);
        _mm_stream_si128(t + 4 * i + 1, b);
        _mm_stream_si128(t + 4 * i + 2, c);
        _mm_stream_si128(t + 4 * i + 3, d);
    }
    size_t done = 64 * n_blocks;
    pc_racy_fill((unsigned char *)to + done, f + done, len - done);
}

void pc_racy_stream_end(void)
{
    _mm_sfence();
}

#else

void pc_racy_stream(void *to, const void *from, size_t len)
{
    pc_racy_fill(to, from, len);
}

void pc_racy_stream_end(void)
{
}

#endif /* PC_STREAMS */

bool pc_slot_matches(const struct pc_slot_header *header,
                     const struct pc_slot_want *want)
{
    /* Acquire on each: the one on the generation pairs with the seal, so an
     * even generation comes with its fields and bytes; the others keep the
     * copy that follows from starting early. */
    uint64_t generation =
        atomic_load_explicit(&header->generation, memory_order_acquire);
    struct pc_digest digest = {
        .lo = atomic_load_explicit(&header->digest_lo, memory_order_acquire),
        .hi = atomic_load_explicit(&header->digest_hi, memory_order_acquire),
    };
    uint64_t length =
        atomic_load_explicit(&header->length, memory_order_acquire);
    uint64_t offset =
        atomic_load_explicit(&header->offset, memory_order_acquire);
    return generation % 2 == 0 && generation == want->generation &&
           pc_digest_equal(digest, want->digest) && length == want->length &&
           offset == want->offset;
}

bool pc_slot_copy(const struct pc_slot_header *header,
                  const struct pc_slot_want *want, const void *from,
                  const peercache_piece_t *pieces, size_t n_pieces)
{
    if (!pc_slot_matches(header, want)) {
        return false;
    }
    const unsigned char *at = from;
    uint64_t left = want->length;
    for (size_t i = 0; i < n_pieces; i++) {
        PC_ASSERT(pieces[i].len <= left);
        pc_racy_copy(pieces[i].addr, at, pieces[i].len);
        at += pieces[i].len;
        left -= pieces[i].len;
    }
    PC_ASSERT(left == 0);
    /* If a byte came from a writer that followed an unseal, then by this fence
     * and the one in unseal the load below sees the odd generation or a later
     * one; none comes twice. */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&header->generation, memory_order_relaxed) ==
           want->generation;
}

void pc_slot_seal(struct pc_slot_header *header,
                  const struct pc_slot_want *want, uint64_t checksum)
{
    PC_ASSERT(want->generation % 2 == 0);
    PC_ASSERT(atomic_load_explicit(&header->generation, memory_order_relaxed) %
                  2 ==
              1);
    /* Relaxed: the fence orders them, and the bytes, before the generation. */
    atomic_store_explicit(&header->digest_lo, want->digest.lo,
                          memory_order_relaxed);
    atomic_store_explicit(&header->digest_hi, want->digest.hi,
                          memory_order_relaxed);
    atomic_store_explicit(&header->length, want->length, memory_order_relaxed);
    atomic_store_explicit(&header->offset, want->offset, memory_order_relaxed);
    atomic_store_explicit(&header->checksum, checksum, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    /* Release, though the fence would do: the thread sanitizer does not know
     * fences, and after one it costs nothing. Pairs with pc_slot_matches. */
    atomic_store_explicit(&header->generation, want->generation,
                          memory_order_release);
}

void pc_slot_unseal(struct pc_slot_header *header, uint64_t odd_generation)
{
    PC_ASSERT(odd_generation % 2 == 1);
    /* Relaxed: the fence puts it before every write that follows; it pairs
     * with the fence in pc_slot_copy, and with a pin's look (rule 3). */
    atomic_store_explicit(&header->generation, odd_generation,
                          memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}
