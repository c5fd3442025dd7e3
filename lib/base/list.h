/*
 * list.h - intrusive doubly linked ring with a head; not thread-safe.
 *
 * A node that is in no list points at itself, so removing twice is harmless.
 */
#ifndef PC_BASE_LIST_H
#define PC_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pc_list
{
    struct pc_list *prev;
    struct pc_list *next;
};

static inline void pc_list_init(struct pc_list *node)
{
    node->prev = node;
    node->next = node;
}

static inline bool pc_list_is_empty(const struct pc_list *head)
{
    return head->next == head;
}

/* Whether a node is in some list. */
static inline bool pc_list_is_linked(const struct pc_list *node)
{
    return node->next != node;
}

static inline void pc_list_insert_after(struct pc_list *at,
                                        struct pc_list *node)
{
    node->prev = at;
    node->next = at->next;
    at->next->prev = node;
    at->next = node;
}

static inline void pc_list_push_front(struct pc_list *head,
                                      struct pc_list *node)
{
    pc_list_insert_after(head, node);
}

static inline void pc_list_push_back(struct pc_list *head, struct pc_list *node)
{
    pc_list_insert_after(head->prev, node);
}

static inline void pc_list_remove(struct pc_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    pc_list_init(node);
}

/* The first node, taken out; NULL if there is none. */
static inline struct pc_list *pc_list_pop_front(struct pc_list *head)
{
    struct pc_list *node = head->next;
    if (node == head) {
        return NULL;
    }
    pc_list_remove(node);
    return node;
}

/* Move everything in `from` to the back of `to`. */
static inline void pc_list_splice_back(struct pc_list *to, struct pc_list *from)
{
    if (pc_list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    pc_list_init(from);
}

#endif /* PC_BASE_LIST_H */
