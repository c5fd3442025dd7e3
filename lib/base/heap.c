#include "heap.h"

#include "assert.h"
#include "mem.h"

enum { FIRST_CAPACITY = 64 };

void pc_heap_init(struct pc_heap *heap)
{
    *heap = (struct pc_heap){.nodes = NULL};
}

void pc_heap_fini(struct pc_heap *heap)
{
    for (size_t i = 0; i < heap->n_nodes; i++) {
        heap->nodes[i]->index = 0;
    }
    pc_free(heap->nodes);
    pc_heap_init(heap);
}

static bool is_before(const struct pc_heap_node *a,
                      const struct pc_heap_node *b)
{
    if (a->due_ns != b->due_ns) {
        return a->due_ns < b->due_ns;
    }
    return a->order < b->order;
}

static void place(struct pc_heap *heap, size_t at, struct pc_heap_node *node)
{
    heap->nodes[at] = node;
    node->index = at + 1;
}

/* Move the hole at `at` up to where `node` belongs, and put it there. */
static void sift_up(struct pc_heap *heap, size_t at, struct pc_heap_node *node)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!is_before(node, heap->nodes[parent])) {
            break;
        }
        place(heap, at, heap->nodes[parent]);
        at = parent;
    }
    place(heap, at, node);
}

static void sift_down(struct pc_heap *heap, size_t at,
                      struct pc_heap_node *node)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->n_nodes) {
            break;
        }
        if (child + 1 < heap->n_nodes &&
            is_before(heap->nodes[child + 1], heap->nodes[child])) {
            child++;
        }
        if (!is_before(heap->nodes[child], node)) {
            break;
        }
        place(heap, at, heap->nodes[child]);
        at = child;
    }
    place(heap, at, node);
}

bool pc_heap_push(struct pc_heap *heap, struct pc_heap_node *node)
{
    PC_ASSERT(node->index == 0);
    if (heap->n_nodes == heap->capacity) {
        size_t capacity =
            heap->capacity == 0 ? FIRST_CAPACITY : 2 * heap->capacity;
        struct pc_heap_node **nodes =
            pc_realloc(heap->nodes, capacity, sizeof(struct pc_heap_node *));
        if (nodes == NULL) {
            return false;
        }
        heap->nodes = nodes;
        heap->capacity = capacity;
    }
    node->order = heap->next_order++;
    sift_up(heap, heap->n_nodes++, node);
    return true;
}

struct pc_heap_node *pc_heap_first(const struct pc_heap *heap)
{
    return heap->n_nodes == 0 ? NULL : heap->nodes[0];
}

void pc_heap_remove(struct pc_heap *heap, struct pc_heap_node *node)
{
    if (node->index == 0) {
        return;
    }
    size_t at = node->index - 1;
    PC_ASSERT(at < heap->n_nodes && heap->nodes[at] == node);
    node->index = 0;
    struct pc_heap_node *last = heap->nodes[--heap->n_nodes];
    if (last == node) {
        return;
    }
    /* The last one fills the hole; it may belong further up or down. */
    if (at > 0 && is_before(last, heap->nodes[(at - 1) / 2])) {
        sift_up(heap, at, last);
    } else {
        sift_down(heap, at, last);
    }
}
