/*
 * heap.h - binary heap of timers by due time; not thread-safe.
 *
 * Intrusive: a node knows its index, so stopping one is O(log n). Nodes with
 * the same due time come out in the order in which they were started.
 */
#ifndef PC_BASE_HEAP_H
#define PC_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_heap_node
{
    uint64_t due_ns;
    uint64_t order; /* Set by push. */
    size_t index;   /* Position + 1; 0: in no heap. */
};

struct pc_heap
{
    struct pc_heap_node **nodes;
    size_t n_nodes;
    size_t capacity;
    uint64_t next_order;
};

void pc_heap_init(struct pc_heap *heap);
void pc_heap_fini(struct pc_heap *heap);
/* False: no memory. The node must be in no heap. */
bool pc_heap_push(struct pc_heap *heap, struct pc_heap_node *node);
/* The earliest node, left in place; NULL if there is none. */
struct pc_heap_node *pc_heap_first(const struct pc_heap *heap);
/* Harmless for a node that is in no heap. */
void pc_heap_remove(struct pc_heap *heap, struct pc_heap_node *node);

#endif /* PC_BASE_HEAP_H */
