/*
 * page.h - the keys and the bytes of KV pages.
 *
 * An LLM server names a block of tokens by a hash over the block and the name
 * of the block before it, so one key stands for a whole prefix. The demo does
 * the same with blocks that are just numbers, and makes a page's bytes from its
 * key, so that whoever reads a page can tell whether every byte is right.
 */
#ifndef DEMO_PAGE_H
#define DEMO_PAGE_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Of all keys of the demo: a model, a rank, a page size. */
#define PAGE_NAME_SPACE "demo-model/tp0/128k"

struct page_key
{
    uint64_t a, b; /* Both 0: before the first block. */
};

enum { PAGE_KEY_TEXT = 33 };

static inline uint64_t page_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The key of a block behind its prefix. */
static inline struct page_key page_next(struct page_key prefix, uint64_t block)
{
    struct page_key key;
    key.a = page_mix(prefix.a + page_mix(block + 0x9e3779b97f4a7c15u));
    key.b = page_mix(prefix.b ^ page_mix(block ^ key.a));
    return key;
}

static inline void page_key_text(struct page_key key, char text[PAGE_KEY_TEXT])
{
    snprintf(text, PAGE_KEY_TEXT, "%016" PRIx64 "%016" PRIx64, key.a, key.b);
}

static inline uint64_t page_word(struct page_key key, size_t i)
{
    return page_mix(key.a + i * 0x9e3779b97f4a7c15u) ^ key.b;
}

/* len is a multiple of 8. */
static inline void page_fill(struct page_key key, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len / 8; i++) {
        uint64_t word = page_word(key, i);
        memcpy(bytes + i * 8, &word, 8);
    }
}

/* How many bytes are not what page_fill writes. */
static inline size_t page_wrong(struct page_key key, const uint8_t *bytes,
                                size_t len)
{
    size_t n_wrong = 0;
    for (size_t i = 0; i < len / 8; i++) {
        uint64_t word;
        memcpy(&word, bytes + i * 8, 8);
        uint64_t difference = word ^ page_word(key, i);
        for (; difference != 0; difference >>= 8) {
            n_wrong += (difference & 0xff) != 0;
        }
    }
    return n_wrong;
}

/* Make sure that bytes of an earlier read do not pass for those of the next. */
static inline void page_spoil(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i + 8 <= len; i += 1024) {
        for (size_t j = 0; j < 8; j++) {
            bytes[i + j] ^= 0x5a;
        }
    }
}

#endif /* DEMO_PAGE_H */
