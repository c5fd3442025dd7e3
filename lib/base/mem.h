/*
 * mem.h - heap memory of the library.
 *
 * Multiplications are checked. Tests can make the Nth allocation fail and
 * count what is outstanding. Any thread.
 */
#ifndef PC_BASE_MEM_H
#define PC_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* n objects of `size` bytes, zeroed; NULL when there is no memory or the
 * product does not fit. */
void *pc_alloc(size_t n, size_t size);
/* Grow or shrink an array to n objects; new objects are not zeroed. NULL
 * leaves the old array. */
void *pc_realloc(void *memory, size_t n, size_t size);
void pc_free(void *memory);
/* A copy of len bytes with a NUL behind them. */
char *pc_strndup(const char *text, size_t len);

/* Tests: let the allocation after n further ones fail (once); -1: never.
 * Returns what was left of the last such wish: -1 if it came true. */
int64_t pc_mem_fail_after(int64_t n);
/* Allocations not yet freed. */
int64_t pc_mem_outstanding(void);

#endif /* PC_BASE_MEM_H */
