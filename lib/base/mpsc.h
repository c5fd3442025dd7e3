/*
 * mpsc.h - intrusive queue: many threads push, one thread pops.
 *
 * Push is one exchange and one store, and never waits. Pop can find the queue
 * non-empty yet get NULL, while a pusher stands between the two; it just tries
 * again on its next turn. (Vyukov's non-intrusive MPSC, made intrusive.)
 */
#ifndef PC_BASE_MPSC_H
#define PC_BASE_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>

struct pc_mpsc_node
{
    _Atomic(struct pc_mpsc_node *) next;
};

struct pc_mpsc
{
    _Alignas(64) _Atomic(struct pc_mpsc_node *) head; /* Pushers. */
    _Alignas(64) struct pc_mpsc_node *tail;           /* The popper. */
    struct pc_mpsc_node stub;
};

void pc_mpsc_init(struct pc_mpsc *q);
/* Any thread. Waking the consumer is the caller's business: push, then a
 * sequentially consistent fence, then wake if its `sleeping` flag was set. */
void pc_mpsc_push(struct pc_mpsc *q, struct pc_mpsc_node *node);
/* Whether nothing was pushed; looks at the head, so that a pusher that stands
 * between its two steps counts. The consumer asks this before it sleeps. */
bool pc_mpsc_is_empty(const struct pc_mpsc *q);
/* Whether anything stands to be taken; a hint. Any thread. */
bool pc_mpsc_has_more(const struct pc_mpsc *q);
/* NULL when there is nothing to take now. The consumer's thread. */
struct pc_mpsc_node *pc_mpsc_pop(struct pc_mpsc *q);

#endif /* PC_BASE_MPSC_H */
