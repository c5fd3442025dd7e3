/*
 * page.h - keys and the bytes that belong to them: both follow from the number
 * of the page, so any process can check what it got.
 */
#ifndef BENCH_PAGE_H
#define BENCH_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bench_page_fill(void *memory, size_t len, uint32_t page);
bool bench_page_matches(const void *memory, size_t len, uint32_t page);
/* BENCH_KEY_LEN characters, no end mark. Keys of one page in other rounds are
 * other keys of the same bytes. */
void bench_page_key(char *key, uint32_t page, uint64_t round);
/* 0 .. n-1 in an order that follows from the seed; runs of `run` pages stay
 * together, in the order they were put in. */
void bench_page_order(uint32_t *pages, uint32_t n, uint32_t run, uint64_t seed);

#endif /* BENCH_PAGE_H */
