/*
 * raw_memory.c - limits of mapped gets and local puts: copies out of another
 * process's shared memory, and copies into one's own with their checksum.
 */
#include "page.h"
#include "system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>

/* As the library's digest.c: the functions that look at the processor. */
#define XXH_STATIC_LINKING_ONLY
#ifdef PC_HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

struct segment
{
    unsigned char *base;
    size_t len;
};

static size_t set_len(const struct bench_setup *setup)
{
    return (size_t)setup->n_pages * setup->page_size;
}

static bool own_segment(const struct bench_setup *setup,
                        struct bench_place *place, void **owner_p, char *why)
{
    int id;
    void *base = bench_shared_memory(set_len(setup), &id);
    if (base == NULL) {
        bench_why(why, "no shared memory: %s", strerror(errno));
        return false;
    }
    for (uint32_t i = 0; i < setup->n_pages; i++) {
        bench_page_fill((char *)base + (size_t)i * setup->page_size,
                        setup->page_size, i);
    }
    place->len = sizeof(id);
    memcpy(place->bytes, &id, sizeof(id));
    *owner_p = base;
    return true;
}

static void disown_segment(void *owner)
{
    shmdt(owner);
}

static bool open_segment(const struct bench_setup *setup, void **reader_p,
                         char *why)
{
    int id;
    memcpy(&id, setup->place.bytes, sizeof(id));
    void *base = shmat(id, NULL, SHM_RDONLY);
    if (base == (void *)-1) {
        bench_why(why, "cannot attach shared memory: %s", strerror(errno));
        return false;
    }
    /* Map every page now, as the library's reader has after its warm-up. */
    volatile const char *touch = base;
    for (size_t at = 0; at < set_len(setup); at += 4096) {
        (void)touch[at];
    }
    *reader_p = base;
    return true;
}

static size_t copy_batch(struct bench_lane *lane, const uint32_t *pages,
                         size_t n)
{
    const unsigned char *base = lane->reader;
    size_t size = lane->setup->page_size;
    for (size_t i = 0; i < n; i++) {
        memcpy(lane->buffer + i * size, base + pages[i] * size, size);
    }
    return n;
}

const struct bench_system bench_memcpy = {
    .name = "memcpy",
    .lands = true,
    .own = own_segment,
    .disown = disown_segment,
    .open = open_segment,
    .close = disown_segment,
    .batch = copy_batch,
};

/* The user's pages and the pool they are put into; nobody else takes part. */
struct putter
{
    unsigned char *from;
    unsigned char *to;
    size_t len;
};

static bool own_nothing(const struct bench_setup *setup,
                        struct bench_place *place, void **owner_p, char *why)
{
    (void)setup;
    (void)why;
    place->len = 0;
    *owner_p = NULL;
    return true;
}

static void disown_nothing(void *owner)
{
    (void)owner;
}

static void close_putter(void *reader)
{
    struct putter *putter = reader;
    bench_memory_free(putter->from, putter->len);
    if (putter->to != NULL) {
        shmdt(putter->to);
    }
    free(putter);
}

/* The pool is of the library's kind: SysV memory. */
static bool open_putter(const struct bench_setup *setup, void **reader_p,
                        char *why)
{
    struct putter *putter = calloc(1, sizeof(*putter));
    if (putter == NULL) {
        return false;
    }
    putter->len = set_len(setup);
    putter->from = bench_memory(putter->len);
    int id;
    putter->to = bench_shared_memory(putter->len, &id);
    if (putter->from == NULL || putter->to == NULL) {
        bench_why(why, "no memory for the pages: %s", strerror(errno));
        close_putter(putter);
        return false;
    }
    for (uint32_t i = 0; i < setup->n_pages; i++) {
        bench_page_fill(putter->from + (size_t)i * setup->page_size,
                        setup->page_size, i);
    }
    *reader_p = putter;
    return true;
}

/* Pages go where the next free place is, so in order: each thread has its part
 * of the pool. */
static size_t copy_hash_batch(struct bench_lane *lane, const uint32_t *pages,
                              size_t n)
{
    const struct bench_setup *setup = lane->setup;
    const struct putter *putter = lane->reader;
    size_t size = setup->page_size;
    size_t share = setup->n_pages / setup->n_threads;
    uintptr_t at = (uintptr_t)lane->priv;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++, at++) {
        unsigned char *to =
            putter->to + (lane->number * share + at % share) * size;
        memcpy(to, putter->from + pages[i] * size, size);
        sum ^= XXH3_64bits(to, size);
    }
    lane->priv = (void *)at;
    lane->sources[0] += sum & 1; /* Used, so that it is computed. */
    return n;
}

const struct bench_system bench_copy_hash = {
    .name = "memcpy+xxh3",
    .own = own_nothing,
    .disown = disown_nothing,
    .open = open_putter,
    .close = close_putter,
    .batch = copy_hash_batch,
};
