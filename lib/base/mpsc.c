#include "mpsc.h"

#include <stddef.h>

void pc_mpsc_init(struct pc_mpsc *q)
{
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    q->tail = &q->stub;
}

void pc_mpsc_push(struct pc_mpsc *q, struct pc_mpsc_node *node)
{
    /* Relaxed: the exchange publishes it. */
    atomic_store_explicit(&node->next, NULL, memory_order_relaxed);
    /* Acquire and release: pairs with the exchange of the pusher before us,
     * whose node we are going to write to, and of the one after us. */
    struct pc_mpsc_node *before =
        atomic_exchange_explicit(&q->head, node, memory_order_acq_rel);
    /* Release: pairs with the acquire in pop, which reads what the node is
     * part of. */
    atomic_store_explicit(&before->next, node, memory_order_release);
}

bool pc_mpsc_is_empty(const struct pc_mpsc *q)
{
    /* The head alone is not enough: pop may have put the stub behind the node
     * of a pusher that has not linked it yet. Acquire pairs with push. */
    return q->tail == &q->stub &&
           atomic_load_explicit(&q->head, memory_order_acquire) == &q->stub;
}

static struct pc_mpsc_node *next_of(struct pc_mpsc_node *node)
{
    /* Pairs with the release in push. */
    return atomic_load_explicit(&node->next, memory_order_acquire);
}

struct pc_mpsc_node *pc_mpsc_pop(struct pc_mpsc *q)
{
    struct pc_mpsc_node *tail = q->tail;
    struct pc_mpsc_node *next = next_of(tail);
    if (tail == &q->stub) {
        if (next == NULL) {
            return NULL;
        }
        q->tail = tail = next;
        next = next_of(tail);
    }
    if (next == NULL) {
        if (atomic_load_explicit(&q->head, memory_order_acquire) != tail) {
            return NULL; /* A pusher has yet to link its node to this one. */
        }
        /* The last node can only go when something stands behind it. */
        pc_mpsc_push(q, &q->stub);
        next = next_of(tail);
        if (next == NULL) {
            return NULL; /* A pusher came between and has yet to link. */
        }
    }
    q->tail = next;
    return tail;
}

bool pc_mpsc_has_more(const struct pc_mpsc *q)
{
    /* seq_cst: pairs with a pusher's fence, as in is_empty. */
    return atomic_load_explicit(&q->head, memory_order_seq_cst) != &q->stub;
}
