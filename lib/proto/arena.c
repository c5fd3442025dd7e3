#include "msg.h"

#include "base/mem.h"

#include <string.h>

#define ARENA_LIMIT     ((size_t)8 << 20)
#define ARENA_ALIGN     16u
#define CHUNK_FIRST     ((size_t)4 << 10)
#define CHUNK_KEPT_MOST ((size_t)64 << 10) /* What an idle arena holds. */

struct pc_arena_chunk
{
    struct pc_arena_chunk *next;
    size_t size; /* Of data. */
    size_t used;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

void pc_arena_init(struct pc_arena *arena, size_t limit)
{
    arena->chunks = NULL;
    arena->limit = limit != 0 ? limit : ARENA_LIMIT;
    arena->used = 0;
}

void pc_arena_fini(struct pc_arena *arena)
{
    while (arena->chunks != NULL) {
        struct pc_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        pc_free(chunk);
    }
    arena->used = 0;
}

/* Chunks double, so that a connection's arena soon keeps one in which its
 * usual message fits as a whole. */
static struct pc_arena_chunk *add_chunk(struct pc_arena *arena, size_t bytes)
{
    size_t size = CHUNK_FIRST;

    if (arena->chunks != NULL && arena->chunks->size < CHUNK_KEPT_MOST) {
        size = arena->chunks->size * 2;
    }
    if (size < bytes) {
        size = bytes;
    }
    struct pc_arena_chunk *chunk =
        pc_alloc(1, sizeof(struct pc_arena_chunk) + size);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->size = size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *pc_arena_alloc(struct pc_arena *arena, size_t n, size_t size)
{
    size_t left = arena->limit - arena->used;

    if (size != 0 && n > left / size) {
        return NULL;
    }
    /* An empty array has an address of its own, too. */
    size_t bytes = n * size != 0 ? n * size : 1;
    bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (bytes > left) {
        return NULL;
    }
    struct pc_arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->size - chunk->used < bytes) {
        chunk = add_chunk(arena, bytes);
        if (chunk == NULL) {
            return NULL;
        }
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += bytes;
    arena->used += bytes;
    return memset(memory, 0, bytes);
}

void pc_arena_reset(struct pc_arena *arena)
{
    struct pc_arena_chunk *kept = NULL;

    while (arena->chunks != NULL) {
        struct pc_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        if (chunk->size <= CHUNK_KEPT_MOST &&
            (kept == NULL || chunk->size > kept->size)) {
            pc_free(kept);
            kept = chunk;
        } else {
            pc_free(chunk);
        }
    }
    if (kept != NULL) {
        kept->next = NULL;
        kept->used = 0;
    }
    arena->chunks = kept;
    arena->used = 0;
}
