#include "mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Counters only: no other memory is published through them, so every access
 * is relaxed. */
static _Atomic int64_t outstanding;
static _Atomic int64_t fail_after = -1;

static bool must_fail(void)
{
    int64_t left = atomic_load_explicit(&fail_after, memory_order_relaxed);
    while (left >= 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_after, &left, left - 1,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return left == 0;
        }
    }
    return false;
}

static void count(int64_t change)
{
    atomic_fetch_add_explicit(&outstanding, change, memory_order_relaxed);
}

void *pc_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || must_fail()) {
        return NULL;
    }
    /* Nothing of something is no failure: never NULL for it. */
    void *memory = calloc(1, bytes == 0 ? 1 : bytes);
    if (memory != NULL) {
        count(1);
    }
    return memory;
}

void *pc_realloc(void *memory, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || must_fail()) {
        return NULL;
    }
    void *grown = realloc(memory, bytes == 0 ? 1 : bytes);
    if (grown != NULL && memory == NULL) {
        count(1);
    }
    return grown;
}

void pc_free(void *memory)
{
    if (memory != NULL) {
        count(-1);
        free(memory);
    }
}

char *pc_strndup(const char *text, size_t len)
{
    if (len == SIZE_MAX) {
        return NULL;
    }
    char *copy = pc_alloc(len + 1, 1);
    if (copy != NULL && len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

int64_t pc_mem_fail_after(int64_t n)
{
    return atomic_exchange_explicit(&fail_after, n, memory_order_relaxed);
}

int64_t pc_mem_outstanding(void)
{
    return atomic_load_explicit(&outstanding, memory_order_relaxed);
}
