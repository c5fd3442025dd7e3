/*
 * api.c - the four verbs as users call them, and their operations.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>

static const peercache_op_params_t default_params = {
    .struct_size = sizeof(peercache_op_params_t),
    .item_size = sizeof(peercache_item_t),
};

/* ---- Arguments -------------------------------------------------------- */

static bool pieces_are_valid(const peercache_item_t *item)
{
    uint64_t length = 0;
    if (item->pieces == NULL || item->n_pieces == 0) {
        return false;
    }
    for (size_t i = 0; i < item->n_pieces; i++) {
        if (item->pieces[i].addr == NULL && item->pieces[i].len > 0) {
            return false;
        }
        if (item->pieces[i].len > UINT64_MAX / 2 - length) {
            return false;
        }
        length += item->pieces[i].len;
    }
    return length > 0;
}

static bool items_are_valid(const peercache_node_t *node, enum pc_verb verb,
                            const peercache_item_t *items, size_t n_items)
{
    for (size_t i = 0; i < n_items; i++) {
        const peercache_item_t *item = &items[i];
        if (item->key == NULL || item->key_len == 0 ||
            item->key_len > PEERCACHE_KEY_MAX) {
            return false;
        }
        if ((verb == PC_VERB_PUT || verb == PC_VERB_GET) &&
            (!pieces_are_valid(item) || !pc_mem_is_valid(node, item))) {
            return false;
        }
    }
    return true;
}

static bool params_are_valid(const peercache_op_params_t *params, bool blocking)
{
    return params->struct_size == sizeof(*params) &&
           params->item_size == sizeof(peercache_item_t) &&
           params->name_space_len <= PC_NAME_SPACE_MAX &&
           (params->name_space != NULL || params->name_space_len == 0) &&
           (params->flags & ~PEERCACHE_OP_CHAIN) == 0 &&
           !(blocking && params->done != NULL);
}

/* ---- Running ---------------------------------------------------------- */

/* What needs no engine; true: everything is done. */
static bool caller_part(struct peercache_op *op)
{
    switch (op->verb) {
    case PC_VERB_PUT:
        return pc_put_caller(op);
    case PC_VERB_GET:
        return pc_get_caller(op);
    case PC_VERB_EXISTS:
        return pc_exists_caller(op);
    default:
        return false;
    }
}

static peercache_status_t run_blocking(struct peercache_op *op)
{
    struct pc_engine *engine = &op->node->engine;
    if (caller_part(op)) {
        pc_op_finish_in_caller(op);
    }
    while (pc_event_get(&op->event) != PC_OP_ENDED) {
        (void)pc_engine_call(engine, &op->task, &op->event, UINT64_MAX);
        if (pc_event_get(&op->event) == PC_OP_COPY) {
            /* Ours again: nobody else looks at the event now. */
            pc_event_init(&op->event, PC_OP_RUNNING);
            if (op->verb == PC_VERB_PUT) {
                (void)pc_put_caller(op);
            } else {
                (void)pc_get_copy(op);
            }
        }
    }
    peercache_status_t status = peercache_op_status(op);
    pc_op_unref(op);
    return status;
}

static peercache_status_t run(peercache_node_t *node, enum pc_verb verb,
                              peercache_item_t *items, size_t n_items,
                              const peercache_op_params_t *params,
                              peercache_op_t **op_p)
{
    /* acq_rel: counted before it is seen, for the node's end. */
    uint32_t running =
        atomic_fetch_add_explicit(&node->n_ops, 1, memory_order_acq_rel);
    if (running >= (uint64_t)node->settings.max_inflight) {
        atomic_fetch_sub_explicit(&node->n_ops, 1, memory_order_acq_rel);
        return PEERCACHE_AGAIN;
    }
    struct peercache_op *op =
        pc_op_create(node, verb, items, n_items, params, op_p == NULL);
    if (op == NULL) {
        atomic_fetch_sub_explicit(&node->n_ops, 1, memory_order_acq_rel);
        return PEERCACHE_NO_MEMORY;
    }
    op->counted = true;
    if (op_p == NULL) {
        return run_blocking(op);
    }
    *op_p = op;
    (void)caller_part(op);
    /* Its end comes from the engine even if all is done: never inside the call
     * that started it. */
    pc_engine_submit(&node->engine, &op->task);
    return PEERCACHE_IN_PROGRESS;
}

static peercache_status_t start(peercache_node_t *node, enum pc_verb verb,
                                peercache_item_t *items, size_t n_items,
                                const peercache_op_params_t *params,
                                peercache_op_t **op_p)
{
    if (params == NULL) {
        params = &default_params;
    }
    if (node == NULL || items == NULL || n_items == 0 ||
        n_items > PC_BATCH_MAX || !params_are_valid(params, op_p == NULL)) {
        return PEERCACHE_INVALID;
    }
    if (pc_node_is_forked(node)) {
        return PEERCACHE_FORKED;
    }
    if (op_p == NULL && pc_engine_is_current(&node->engine)) {
        return PEERCACHE_INVALID; /* A completion callback must not block. */
    }
    if (!items_are_valid(node, verb, items, n_items)) {
        return PEERCACHE_INVALID;
    }
    if (verb == PC_VERB_PUT && node->client) {
        /* relaxed: only one of the callers is to say it. */
        if (!atomic_exchange_explicit(&node->refused_put, true,
                                      memory_order_relaxed)) {
            PC_WARN("put", "refused, now and later: this node has no pool "
                           "(mode centralized, and its role is not storage), "
                           "and this version stores nothing on other nodes");
        }
        return PEERCACHE_UNSUPPORTED;
    }
    /* seq_cst: the node's end either sees us, or we see that it has begun. */
    atomic_fetch_add_explicit(&node->n_calls, 1, memory_order_seq_cst);
    peercache_status_t status = PEERCACHE_SHUTDOWN;
    if (!atomic_load_explicit(&node->closing, memory_order_seq_cst)) {
        status = run(node, verb, items, n_items, params, op_p);
    }
    atomic_fetch_sub_explicit(&node->n_calls, 1, memory_order_seq_cst);
    return status;
}

peercache_status_t peercache_put(peercache_node_t *node,
                                 peercache_item_t *items, size_t n_items,
                                 const peercache_op_params_t *params,
                                 peercache_op_t **op_p)
{
    return start(node, PC_VERB_PUT, items, n_items, params, op_p);
}

peercache_status_t peercache_get(peercache_node_t *node,
                                 peercache_item_t *items, size_t n_items,
                                 const peercache_op_params_t *params,
                                 peercache_op_t **op_p)
{
    return start(node, PC_VERB_GET, items, n_items, params, op_p);
}

peercache_status_t peercache_exists(peercache_node_t *node,
                                    peercache_item_t *items, size_t n_items,
                                    const peercache_op_params_t *params,
                                    peercache_op_t **op_p)
{
    return start(node, PC_VERB_EXISTS, items, n_items, params, op_p);
}

peercache_status_t peercache_remove(peercache_node_t *node,
                                    peercache_item_t *items, size_t n_items,
                                    const peercache_op_params_t *params,
                                    peercache_op_t **op_p)
{
    return start(node, PC_VERB_REMOVE, items, n_items, params, op_p);
}

/* ---- Operations ------------------------------------------------------- */

peercache_status_t peercache_op_status(const peercache_op_t *op)
{
    /* acquire: pairs with the release at its end; items are set by then. */
    return (peercache_status_t)atomic_load_explicit(&op->status,
                                                    memory_order_acquire);
}

peercache_status_t peercache_op_wait(peercache_op_t *op, uint64_t timeout_ns)
{
    if (op == NULL) {
        return PEERCACHE_INVALID;
    }
    if (peercache_op_status(op) == PEERCACHE_IN_PROGRESS) {
        if (pc_node_is_forked(op->node)) {
            return PEERCACHE_FORKED;
        }
        if (pc_engine_is_current(&op->node->engine)) {
            return PEERCACHE_INVALID;
        }
    }
    if (!pc_event_wait(&op->event, PC_OP_RUNNING, timeout_ns)) {
        return PEERCACHE_TIMED_OUT;
    }
    return peercache_op_status(op);
}

void peercache_op_cancel(peercache_op_t *op)
{
    if (op == NULL || peercache_op_status(op) != PEERCACHE_IN_PROGRESS) {
        return;
    }
    /* release: pairs with the engine's acquire when it takes the operation. */
    atomic_store_explicit(&op->cancel, true, memory_order_release);
    /* Who wins the flag before the operation's end keeps the node alive until
     * the task has run; nobody else may look at op->node. */
    if (!atomic_exchange_explicit(&op->cancel_sent, true,
                                  memory_order_acq_rel) &&
        !pc_node_is_forked(op->node)) {
        atomic_fetch_add_explicit(&op->refs, 1, memory_order_relaxed);
        pc_engine_submit(&op->node->engine, &op->cancel_task);
    }
}

void peercache_op_free(peercache_op_t *op)
{
    if (op == NULL) {
        return;
    }
    peercache_op_cancel(op);
    pc_op_unref(op);
}
