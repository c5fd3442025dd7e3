/*
 * trace_offline.c - caches of a bounded number of pages that see the whole
 * trace: least recently used, and Belady's optimum.
 */
#include "trace.h"

#include <stdlib.h>

/* ---- Least recently used ------------------------------------------------ */

/* A ring of all pages that are there; the head is number n_pages. */
struct ring
{
    uint32_t *prev, *next;
    bool *there;
    uint32_t head, n;
};

static void ring_remove(struct ring *ring, uint32_t page)
{
    ring->next[ring->prev[page]] = ring->next[page];
    ring->prev[ring->next[page]] = ring->prev[page];
    ring->there[page] = false;
    ring->n--;
}

static void ring_push(struct ring *ring, uint32_t page)
{
    uint32_t last = ring->prev[ring->head];
    ring->prev[page] = last;
    ring->next[page] = ring->head;
    ring->next[last] = page;
    ring->prev[ring->head] = page;
    ring->there[page] = true;
    ring->n++;
}

/* What the request finds as it begins. */
static void look(const struct ring *ring, const uint32_t *pages, size_t n,
                 struct trace_hits *hits)
{
    size_t run = 0;
    while (run < n && ring->there[pages[run]]) {
        run++;
    }
    bool hole = false;
    for (size_t i = run; i < n && !hole; i++) {
        hole = ring->there[pages[i]];
    }
    hits->n_usable += run;
    hits->n_holes += hole;
    hits->n_requests++;
}

static void lru(const struct trace *trace, uint32_t capacity, struct ring *ring,
                struct trace_hits *hits)
{
    for (size_t r = 0; r < trace->n_requests; r++) {
        const uint32_t *pages = &trace->pages[trace->first[r]];
        size_t n = trace->first[r + 1] - trace->first[r];
        look(ring, pages, n, hits);
        for (size_t i = 0; i < n; i++) {
            if (ring->there[pages[i]]) {
                hits->n_hits++;
                ring_remove(ring, pages[i]);
            } else if (ring->n == capacity) {
                ring_remove(ring, ring->next[ring->head]);
            }
            ring_push(ring, pages[i]);
        }
    }
}

bool trace_lru(const struct trace *trace, uint32_t capacity,
               struct trace_hits *hits)
{
    size_t n = (size_t)trace->n_pages + 1;
    struct ring ring = {.head = trace->n_pages};
    ring.prev = calloc(n, sizeof(*ring.prev));
    ring.next = calloc(n, sizeof(*ring.next));
    ring.there = calloc(n, sizeof(*ring.there));
    bool ok = ring.prev != NULL && ring.next != NULL && ring.there != NULL &&
              capacity > 0;
    if (ok) {
        *hits = (struct trace_hits){0};
        ring.prev[ring.head] = ring.head;
        ring.next[ring.head] = ring.head;
        lru(trace, capacity, &ring, hits);
    }
    free(ring.prev);
    free(ring.next);
    free(ring.there);
    return ok;
}

/* ---- Belady's optimum --------------------------------------------------- */

/* A page in the cache, and when it is asked for again. A page that was asked
 * for meanwhile has another entry; this one is out of date then. */
struct use
{
    uint64_t next;
    uint32_t page;
};

/* The farthest use on top. */
struct heap
{
    struct use *uses;
    size_t n;
};

static void heap_push(struct heap *heap, struct use use)
{
    size_t at = heap->n++;
    while (at > 0 && heap->uses[(at - 1) / 2].next < use.next) {
        heap->uses[at] = heap->uses[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->uses[at] = use;
}

static struct use heap_pop(struct heap *heap)
{
    struct use top = heap->uses[0];
    struct use last = heap->uses[--heap->n];
    size_t at = 0;
    for (size_t child = 1; child < heap->n; child = 2 * at + 1) {
        child += child + 1 < heap->n &&
                 heap->uses[child].next < heap->uses[child + 1].next;
        if (heap->uses[child].next <= last.next) {
            break;
        }
        heap->uses[at] = heap->uses[child];
        at = child;
    }
    heap->uses[at] = last;
    return top;
}

/* For each page asked for, when it is asked for again; all different, so that
 * an entry out of date is known by its time. */
static void look_ahead(const struct trace *trace, uint64_t *next,
                       uint64_t *last)
{
    for (uint32_t p = 0; p < trace->n_pages; p++) {
        last[p] = 0;
    }
    for (size_t i = trace->n_asked; i-- > 0;) {
        uint32_t page = trace->pages[i];
        next[i] = last[page] != 0 ? last[page] - 1 : UINT64_MAX - page;
        last[page] = (uint64_t)i + 1;
    }
}

static void belady(const struct trace *trace, uint32_t capacity,
                   const uint64_t *next, uint64_t *cached, struct heap *heap,
                   struct trace_hits *hits)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < trace->n_pages; p++) {
        cached[p] = 0; /* When it is asked for again, if it is there. */
    }
    for (size_t i = 0; i < trace->n_asked; i++) {
        uint32_t page = trace->pages[i];
        bool hit = cached[page] != 0;
        hits->n_hits += hit;
        while (!hit && n == capacity) {
            struct use far = heap_pop(heap);
            if (cached[far.page] == far.next) {
                cached[far.page] = 0;
                n--;
            }
        }
        n += !hit;
        cached[page] = next[i];
        heap_push(heap, (struct use){next[i], page});
    }
}

bool trace_belady(const struct trace *trace, uint32_t capacity,
                  struct trace_hits *hits)
{
    uint64_t *next = calloc(trace->n_asked, sizeof(*next));
    uint64_t *cached = calloc(trace->n_pages, sizeof(*cached));
    struct heap heap = {.uses = calloc(trace->n_asked, sizeof(*heap.uses))};
    bool ok =
        next != NULL && cached != NULL && heap.uses != NULL && capacity > 0;
    if (ok) {
        *hits = (struct trace_hits){.n_requests = trace->n_requests};
        look_ahead(trace, next, cached);
        belady(trace, capacity, next, cached, &heap, hits);
    }
    free(next);
    free(cached);
    free(heap.uses);
    return ok;
}
