#include "test.h"

#include "cluster_value.h"

#include "base/digest.h"
#include "base/rand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WORD_LEN = 24, KEPT = 256, PAGE = 4096 };

/* ---- Values ---------------------------------------------------------------
 */

static uint64_t value_seed(const char *word, unsigned version)
{
    return pc_hash64(word, strlen(word), version + 1000);
}

size_t cluster_value_length(const char *word, unsigned version)
{
    size_t extra = 64 * (size_t)version;
    uint64_t h = value_seed(word, 0);
    switch (word[0]) {
    case 's': /* Small: shares a granule. */
        return 1 + h % 2000 + extra;
    case 'l': /* Large: several chunks of everything. */
        return 90000 + h % 20000 + extra;
    case 'h': /* Huge: more than a bounce chunk. */
        return 600000 + h % 1000 + extra;
    default:
        return 16384 + extra;
    }
}

void cluster_value(const char *word, unsigned version, uint8_t *bytes,
                   size_t len)
{
    struct pc_rand r;
    pc_rand_init(&r, value_seed(word, version));
    size_t at = 0;
    while (at < len) {
        uint64_t x = pc_rand_u64(&r);
        size_t n = len - at < sizeof(x) ? len - at : sizeof(x);
        memcpy(bytes + at, &x, n);
        at += n;
    }
}

struct kept
{
    char word[WORD_LEN];
    unsigned version;
    uint8_t *bytes; /* NULL: nothing is kept here. */
};

/* Each value has one place, and the newer one stays. */
struct cluster_values
{
    struct kept kept[KEPT];
};

struct cluster_values *cluster_values_create(void)
{
    return calloc(1, sizeof(struct cluster_values));
}

void cluster_values_destroy(struct cluster_values *values)
{
    for (unsigned i = 0; i < KEPT; i++) {
        free(values->kept[i].bytes);
    }
    free(values);
}

const uint8_t *cluster_values_get(struct cluster_values *values,
                                  const char *word, unsigned version)
{
    struct kept *k = &values->kept[value_seed(word, version) % KEPT];
    if (k->bytes == NULL || k->version != version ||
        strcmp(k->word, word) != 0) {
        size_t len = cluster_value_length(word, version);
        free(k->bytes);
        k->bytes = malloc(len);
        cluster_value(word, version, k->bytes, len);
        snprintf(k->word, sizeof(k->word), "%s", word);
        k->version = version;
    }
    return k->bytes;
}

/* ---- Memory ---------------------------------------------------------------
 */

#define RANGE_LEN ((size_t)256 << 20)
/* What stays there for the next cluster, so that one large run is no burden to
 * all that come after it. */
#define STAYS_LEN ((size_t)64 << 20)

/* Ranges, the newest first; most runs need one. */
struct cluster_arena
{
    struct cluster_arena *older;
    uint8_t *range;
    size_t len;
    size_t used;
    size_t touched; /* By this or an earlier cluster. */
};

/* The first range of a cluster that is no more. */
static struct cluster_arena *spare;

static struct cluster_arena *arena_create(size_t len)
{
    struct cluster_arena *arena = calloc(1, sizeof(*arena));
    arena->len = len < RANGE_LEN ? RANGE_LEN : len;
    arena->range = mmap(NULL, arena->len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena->range == MAP_FAILED) {
        fprintf(stderr, "no memory for operations\n");
        abort();
    }
    return arena;
}

static void arena_destroy(struct cluster_arena *arena)
{
    (void)munmap(arena->range, arena->len);
    free(arena);
}

struct cluster_arena *cluster_arena_take(void)
{
    struct cluster_arena *arena = spare;
    if (arena == NULL) {
        return arena_create(RANGE_LEN);
    }
    spare = NULL;
    return arena;
}

void cluster_arena_give(struct cluster_arena *arena)
{
    while (arena->older != NULL || spare != NULL) {
        struct cluster_arena *older = arena->older;
        arena_destroy(arena);
        if (older == NULL) {
            return;
        }
        arena = older;
    }
    if (mprotect(arena->range, arena->touched, PROT_READ | PROT_WRITE) != 0) {
        arena_destroy(arena);
        return;
    }
    if (arena->touched > STAYS_LEN) {
        (void)madvise(arena->range + STAYS_LEN, arena->touched - STAYS_LEN,
                      MADV_DONTNEED);
        arena->touched = STAYS_LEN;
    }
    arena->used = 0;
    spare = arena;
}

void *cluster_arena_pages(struct cluster_arena *arena, size_t len)
{
    len = (len + PAGE - 1) / PAGE * PAGE;
    if (len > arena->len - arena->used) {
        /* The caller knows the head: it becomes the new range. */
        struct cluster_arena *older = arena_create(len);
        struct cluster_arena head = *older;
        *older = *arena;
        *arena = head;
        arena->older = older;
    }
    void *pages = arena->range + arena->used;
    arena->used += len;
    if (arena->used > arena->touched) {
        arena->touched = arena->used;
    }
    return pages;
}

bool cluster_arena_take_away(void *pages, size_t len)
{
    len = (len + PAGE - 1) / PAGE * PAGE;
    return mprotect(pages, len, PROT_NONE) == 0;
}
