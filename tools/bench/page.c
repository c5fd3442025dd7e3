#include "page.h"

#include "bench.h"

#include <string.h>

/* The last step of splitmix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* Cheap enough that a check runs at the speed of memory, and no two words of
 * any two pages agree by construction. */
static uint64_t word_at(uint64_t base, size_t i)
{
    uint64_t x = base + i * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 32);
}

void bench_page_fill(void *memory, size_t len, uint32_t page)
{
    unsigned char *to = memory;
    uint64_t base = mix(page + 1ull);
    size_t n = len / sizeof(uint64_t);
    for (size_t i = 0; i < n; i++) {
        uint64_t word = word_at(base, i);
        memcpy(to + i * sizeof(word), &word, sizeof(word));
    }
    uint64_t last = word_at(base, n);
    memcpy(to + n * sizeof(last), &last, len - n * sizeof(last));
}

bool bench_page_matches(const void *memory, size_t len, uint32_t page)
{
    const unsigned char *from = memory;
    uint64_t base = mix(page + 1ull);
    uint64_t differ = 0;
    size_t n = len / sizeof(uint64_t);
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        memcpy(&word, from + i * sizeof(word), sizeof(word));
        differ |= word ^ word_at(base, i);
    }
    uint64_t last = word_at(base, n);
    return differ == 0 &&
           memcmp(from + n * sizeof(last), &last, len - n * sizeof(last)) == 0;
}

void bench_page_key(char *key, uint32_t page, uint64_t round)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t part = 0; part < BENCH_KEY_LEN / 16; part++) {
        uint64_t word = mix(mix(page + 1ull) + (round << 8) + part);
        for (size_t i = 0; i < 16; i++) {
            key[part * 16 + i] = digits[(word >> (4 * i)) & 15];
        }
    }
}

/* 0 .. n-1 in an order that follows from the seed. */
static void shuffle(uint32_t *numbers, uint32_t n, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        numbers[i] = i;
    }
    for (uint32_t i = n; i > 1; i--) {
        seed += 0x9e3779b97f4a7c15ull;
        uint32_t j = (uint32_t)(mix(seed) % i);
        uint32_t number = numbers[i - 1];
        numbers[i - 1] = numbers[j];
        numbers[j] = number;
    }
}

void bench_page_order(uint32_t *pages, uint32_t n, uint32_t run, uint64_t seed)
{
    uint32_t n_runs = n / run;
    shuffle(pages, n_runs, seed);
    /* Backwards: run i is written where only runs behind it have been read. */
    for (uint32_t i = n_runs; i-- > 0;) {
        uint32_t first = pages[i] * run;
        for (uint32_t k = 0; k < run; k++) {
            pages[i * run + k] = first + k;
        }
    }
    for (uint32_t i = n_runs * run; i < n; i++) {
        pages[i] = i; /* No whole run. */
    }
}
