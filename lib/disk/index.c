#include "index.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdbool.h>
#include <string.h>

#define CHUNK       1024u  /* Entries. */
#define HEAD_CHUNK  16384u /* Buckets. */
#define PER_BUCKETS 3u     /* So many entries ... */
#define TO_BUCKETS  2u     /* ... to so many buckets. */
#define CHUNKS_MAX  (UINT32_MAX / CHUNK)

_Static_assert(sizeof(struct pc_disk_item) == 56, "64 bytes a record in all");

void pc_disk_index_init(struct pc_disk_index *index)
{
    memset(index, 0, sizeof(*index));
    index->first_free = PC_DISK_NONE;
}

void pc_disk_index_fini(struct pc_disk_index *index)
{
    for (size_t i = 0; i < index->n_chunks; i++) {
        pc_free(index->chunks[i]);
    }
    for (size_t i = 0; i < index->n_head_chunks; i++) {
        pc_free(index->heads[i]);
    }
    pc_free(index->chunks);
    pc_free(index->heads);
    pc_disk_index_init(index);
}

struct pc_disk_item *pc_disk_index_item(const struct pc_disk_index *index,
                                        uint32_t id)
{
    PC_ASSERT(id < index->n_items);
    struct pc_disk_item *chunk = index->chunks[id / CHUNK];
    return &chunk[id % CHUNK];
}

/* Most lookups are for what is not there: they end at `seen`, which has a bit
 * for each entry of the chain, and touch no entry. */
struct bucket
{
    uint32_t first;
    uint32_t seen;
};

static struct bucket *bucket_at(const struct pc_disk_index *index,
                                uint32_t number)
{
    struct bucket *chunk = index->heads[number / HEAD_CHUNK];
    return &chunk[number % HEAD_CHUNK];
}

static uint32_t bit_of(struct pc_digest digest)
{
    return 1u << (digest.hi & 31);
}

/* The lowest power of two that is not below n_buckets, less one. */
static uint32_t mask_of(const struct pc_disk_index *index)
{
    uint32_t n = index->n_buckets - 1;
    return n == 0 ? 0 : UINT32_MAX >> __builtin_clz(n);
}

/* Digests are hashes: their bits serve as they are. */
static uint32_t bucket_of(const struct pc_disk_index *index,
                          struct pc_digest digest)
{
    uint32_t mask = mask_of(index);
    uint32_t bucket = (uint32_t)digest.lo & mask;
    return bucket < index->n_buckets ? bucket : bucket & (mask >> 1);
}

/* One more pointer's room in an array of them. */
static bool add_chunk(void ***array, size_t *n, size_t count, size_t size)
{
    void *chunk = pc_alloc(count, size);
    void **grown = pc_realloc(*array, *n + 1, sizeof(**array));
    if (grown != NULL) {
        *array = grown;
    }
    if (chunk == NULL || grown == NULL) {
        pc_free(chunk);
        return false;
    }
    (*array)[(*n)++] = chunk;
    return true;
}

/* Half of the entries of one bucket move to a new one. Without memory chains
 * get longer, nothing else. */
static void split_bucket(struct pc_disk_index *index)
{
    if (index->n_buckets == UINT32_MAX ||
        (index->n_buckets % HEAD_CHUNK == 0 &&
         !add_chunk(&index->heads, &index->n_head_chunks, HEAD_CHUNK,
                    sizeof(struct bucket)))) {
        return;
    }
    uint32_t number = index->n_buckets++;
    struct bucket *bucket = bucket_at(index, number);
    *bucket = (struct bucket){.first = PC_DISK_NONE};
    if (number == 0) {
        return;
    }
    struct bucket *old = bucket_at(index, number & (mask_of(index) >> 1));
    uint32_t *link = &old->first;
    uint32_t *new_link = &bucket->first;
    old->seen = 0;
    for (uint32_t id = *link; id != PC_DISK_NONE;) {
        struct pc_disk_item *item = pc_disk_index_item(index, id);
        if (bucket_of(index, item->digest) == number) {
            *new_link = id;
            new_link = &item->next;
            bucket->seen |= bit_of(item->digest);
        } else {
            *link = id;
            link = &item->next;
            old->seen |= bit_of(item->digest);
        }
        id = item->next;
    }
    *link = PC_DISK_NONE;
    *new_link = PC_DISK_NONE;
}

static uint32_t take_id(struct pc_disk_index *index)
{
    uint32_t id = index->first_free;
    if (id != PC_DISK_NONE) {
        index->first_free = pc_disk_index_item(index, id)->next;
        return id;
    }
    if (index->n_items % CHUNK == 0 &&
        index->n_items / CHUNK == index->n_chunks) {
        if (index->n_chunks == CHUNKS_MAX ||
            !add_chunk(&index->chunks, &index->n_chunks, CHUNK,
                       sizeof(struct pc_disk_item))) {
            return PC_DISK_NONE;
        }
    }
    return index->n_items++;
}

uint32_t pc_disk_index_add(struct pc_disk_index *index, struct pc_digest digest)
{
    if ((uint64_t)index->n_used * TO_BUCKETS >=
        (uint64_t)index->n_buckets * PER_BUCKETS) {
        split_bucket(index);
    }
    if (index->n_buckets == 0) {
        return PC_DISK_NONE;
    }
    uint32_t id = take_id(index);
    if (id == PC_DISK_NONE) {
        return PC_DISK_NONE;
    }
    struct pc_disk_item *item = pc_disk_index_item(index, id);
    struct bucket *bucket = bucket_at(index, bucket_of(index, digest));
    *item = (struct pc_disk_item){.digest = digest, .next = bucket->first};
    bucket->first = id;
    bucket->seen |= bit_of(digest);
    index->n_used++;
    return id;
}

void pc_disk_index_remove(struct pc_disk_index *index, uint32_t id)
{
    struct pc_disk_item *item = pc_disk_index_item(index, id);
    struct bucket *bucket = bucket_at(index, bucket_of(index, item->digest));
    uint32_t *link = &bucket->first;
    uint32_t seen = 0;
    bool found = false;
    while (*link != PC_DISK_NONE) {
        struct pc_disk_item *at = pc_disk_index_item(index, *link);
        if (at == item) {
            *link = item->next;
            found = true;
        } else {
            seen |= bit_of(at->digest);
            link = &at->next;
        }
    }
    PC_ASSERT(found);
    (void)found;
    bucket->seen = seen;
    *item =
        (struct pc_disk_item){.next = index->first_free, .state = PC_DISK_FREE};
    index->first_free = id;
    index->n_used--;
}

static uint32_t same_digest(const struct pc_disk_index *index, uint32_t id,
                            struct pc_digest digest)
{
    while (id != PC_DISK_NONE) {
        const struct pc_disk_item *item = pc_disk_index_item(index, id);
        if (pc_digest_equal(item->digest, digest)) {
            return id;
        }
        id = item->next;
    }
    return PC_DISK_NONE;
}

uint32_t pc_disk_index_first(const struct pc_disk_index *index,
                             struct pc_digest digest)
{
    if (index->n_buckets == 0) {
        return PC_DISK_NONE;
    }
    const struct bucket *bucket = bucket_at(index, bucket_of(index, digest));
    return (bucket->seen & bit_of(digest)) != 0
               ? same_digest(index, bucket->first, digest)
               : PC_DISK_NONE;
}

uint32_t pc_disk_index_next(const struct pc_disk_index *index, uint32_t id)
{
    const struct pc_disk_item *item = pc_disk_index_item(index, id);
    return same_digest(index, item->next, item->digest);
}

uint64_t pc_disk_index_bytes(const struct pc_disk_index *index)
{
    return (uint64_t)index->n_chunks *
               (CHUNK * sizeof(struct pc_disk_item) + sizeof(void *)) +
           (uint64_t)index->n_head_chunks *
               (HEAD_CHUNK * sizeof(struct bucket) + sizeof(void *));
}
