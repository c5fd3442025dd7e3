/*
 * batch.h - one batch of keys with their values or buffers.
 *
 * Items, pieces and what holds the memory lie in one allocation. A batch
 * belongs to the call that made it; all functions need the GIL, which
 * pc_batch_run gives up while the library works.
 */
#ifndef PC_PY_BATCH_H
#define PC_PY_BATCH_H

#include "python.h"

#include <peercache/peercache.h>

#include "pieces.h"
#include "regs.h"

#include <stdbool.h>
#include <stddef.h>

struct pc_batch
{
    PyObject *keys;   /* Tuples: they keep keys and values as they are now. */
    PyObject *values; /* NULL: exists, remove. */
    size_t n_items;
    peercache_item_t *items; /* Head of the one allocation. */
    struct pc_reg **regs;    /* Of each item, or NULL; after pin. */
    bool *on_device;         /* Of each item: memory of a device. */
    struct pc_pieces pieces;
};

/* One of peercache_put, _get, _exists, _remove. */
typedef peercache_status_t (*pc_verb_fn)(peercache_node_t *, peercache_item_t *,
                                         size_t, const peercache_op_params_t *,
                                         peercache_op_t **);

/* Most items that the library takes in one operation. */
#define PC_BATCH_ITEMS_PER_OP 65536

/* Parse the arguments; `name` is that of the values ("values", "buffers") and
 * NULL for none. -1 with an exception set and nothing to undo. */
int pc_batch_init(struct pc_batch *batch, PyObject *keys, PyObject *values,
                  const char *name, bool writable);
void pc_batch_fini(struct pc_batch *batch);

/* The steps of pc_batch_init for a batch that is filled otherwise: n_items,
 * keys and values are set before, name and items' pieces by whoever fills it.
 * -1 with an exception set; pc_batch_fini is due either way. */
int pc_batch_allocate(struct pc_batch *batch, size_t n_pieces, size_t n_holds);
int pc_batch_parse_keys(struct pc_batch *batch);

/* Find the registered range of each item, which then stays until unpin. -1
 * with ValueError: memory of a device that is not registered. */
int pc_batch_pin(struct pc_batch *batch, const struct pc_regs *regs);
/* True when a range that somebody wants to give back lost its last user. */
bool pc_batch_unpin(struct pc_batch *batch);

/* OK when every item has its status; an error when a part was refused. */
peercache_status_t pc_batch_run(struct pc_batch *batch, pc_verb_fn verb,
                                peercache_node_t *node,
                                const peercache_op_params_t *params);

/* A list of bool, true where the item is OK. */
PyObject *pc_batch_result(const struct pc_batch *batch);
/* Items that are OK, counted from the first up to one that is not. */
size_t pc_batch_leading(const struct pc_batch *batch);

#endif /* PC_PY_BATCH_H */
