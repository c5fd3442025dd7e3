#include "batch.h"

#include "args.h"

#include <stdlib.h>
#include <string.h>

/* References to keys and values that nobody else can change. */
static int take(struct pc_batch *batch, PyObject *keys, PyObject *values,
                const char *name)
{
    batch->keys = pc_args_tuple(keys, "keys");
    if (batch->keys == NULL) {
        return -1;
    }
    batch->n_items = (size_t)PyTuple_Size(batch->keys);
    if (name == NULL) {
        return 0;
    }
    batch->values = pc_args_tuple(values, name);
    if (batch->values == NULL) {
        return -1;
    }
    size_t n_values = (size_t)PyTuple_Size(batch->values);
    if (n_values != batch->n_items) {
        PyErr_Format(PyExc_ValueError, "%zu keys but %zu %s", batch->n_items,
                     n_values, name);
        return -1;
    }
    return 0;
}

static size_t count_pieces(const struct pc_batch *batch)
{
    size_t n = 0;
    for (size_t i = 0; batch->values != NULL && i < batch->n_items; i++) {
        n += pc_pieces_count(PyTuple_GetItem(batch->values, (Py_ssize_t)i));
    }
    return n;
}

/* Arrays in order of alignment, in one piece of memory. */
int pc_batch_allocate(struct pc_batch *batch, size_t n_pieces, size_t n_holds)
{
    size_t n = batch->n_items;
    size_t n_regs = batch->values != NULL ? n : 0;
    size_t items = n * sizeof(*batch->items);
    size_t pieces = n_pieces * sizeof(*batch->pieces.at);
    size_t holds = n_holds * sizeof(*batch->pieces.holds);
    size_t regs = n_regs * sizeof(*batch->regs);
    char *memory = malloc(items + pieces + holds + regs + n_regs + 1);
    if (memory == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    batch->items = (peercache_item_t *)memory;
    batch->pieces.at = (peercache_piece_t *)(memory + items);
    batch->pieces.holds = (struct pc_hold *)(memory + items + pieces);
    batch->regs = (struct pc_reg **)(memory + items + pieces + holds);
    batch->on_device = (bool *)(memory + items + pieces + holds + regs);
    batch->pieces.n_max = n_pieces;
    memset(batch->items, 0, items);
    memset(batch->regs, 0, regs + n_regs);
    return 0;
}

int pc_batch_parse_keys(struct pc_batch *batch)
{
    for (size_t i = 0; i < batch->n_items; i++) {
        peercache_item_t *item = &batch->items[i];
        PyObject *key = PyTuple_GetItem(batch->keys, (Py_ssize_t)i);
        if (pc_args_bytes(key, "keys", (Py_ssize_t)i, 1, PEERCACHE_KEY_MAX,
                          &item->key, &item->key_len) != 0) {
            return -1;
        }
    }
    return 0;
}

static int parse_values(struct pc_batch *batch)
{
    for (size_t i = 0; batch->values != NULL && i < batch->n_items; i++) {
        peercache_item_t *item = &batch->items[i];
        size_t first = batch->pieces.n;
        PyObject *value = PyTuple_GetItem(batch->values, (Py_ssize_t)i);
        if (pc_pieces_add(&batch->pieces, value, (Py_ssize_t)i,
                          &batch->on_device[i]) != 0) {
            return -1;
        }
        item->pieces = &batch->pieces.at[first];
        item->n_pieces = batch->pieces.n - first;
    }
    return 0;
}

int pc_batch_init(struct pc_batch *batch, PyObject *keys, PyObject *values,
                  const char *name, bool writable)
{
    memset(batch, 0, sizeof(*batch));
    batch->pieces.name = name;
    batch->pieces.writable = writable;
    if (take(batch, keys, values, name) != 0) {
        pc_batch_fini(batch);
        return -1;
    }
    size_t n_pieces = count_pieces(batch);
    if (pc_batch_allocate(batch, n_pieces, n_pieces) != 0 ||
        pc_batch_parse_keys(batch) != 0 || parse_values(batch) != 0) {
        pc_batch_fini(batch);
        return -1;
    }
    return 0;
}

void pc_batch_fini(struct pc_batch *batch)
{
    pc_pieces_fini(&batch->pieces);
    Py_CLEAR(batch->keys);
    Py_CLEAR(batch->values);
    free(batch->items);
    batch->items = NULL;
}

int pc_batch_pin(struct pc_batch *batch, const struct pc_regs *regs)
{
    for (size_t i = 0; batch->values != NULL && i < batch->n_items; i++) {
        peercache_item_t *item = &batch->items[i];
        bool in_device;
        struct pc_reg *reg =
            pc_regs_find(regs, item->pieces, item->n_pieces, &in_device);
        bool is_wrong = batch->on_device[i] &&
                        (reg == NULL || reg->kind != PEERCACHE_MEM_DEVICE);
        if (in_device || is_wrong) {
            PyErr_Format(PyExc_ValueError,
                         "%s[%zu] is in device memory that no single "
                         "registration of kind \"device\" covers",
                         batch->pieces.name, i);
            return -1;
        }
        if (reg != NULL) {
            reg->n_users++;
            item->mem = reg->mem;
            batch->regs[i] = reg;
        }
    }
    return 0;
}

bool pc_batch_unpin(struct pc_batch *batch)
{
    bool is_wanted = false;
    for (size_t i = 0; batch->values != NULL && i < batch->n_items; i++) {
        struct pc_reg *reg = batch->regs[i];
        if (reg != NULL) {
            reg->n_users--;
            is_wanted = is_wanted || (reg->closing && reg->n_users == 0);
            batch->regs[i] = NULL;
        }
    }
    return is_wanted;
}

peercache_status_t pc_batch_run(struct pc_batch *batch, pc_verb_fn verb,
                                peercache_node_t *node,
                                const peercache_op_params_t *params)
{
    peercache_status_t status = PEERCACHE_OK;
    Py_BEGIN_ALLOW_THREADS for (size_t at = 0; at < batch->n_items;
                                at += PC_BATCH_ITEMS_PER_OP)
    {
        size_t left = batch->n_items - at;
        status =
            verb(node, &batch->items[at],
                 left < PC_BATCH_ITEMS_PER_OP ? left : PC_BATCH_ITEMS_PER_OP,
                 params, NULL);
        if (status != PEERCACHE_OK && status != PEERCACHE_PARTIAL) {
            break;
        }
        status = PEERCACHE_OK;
    }
    Py_END_ALLOW_THREADS return status;
}

PyObject *pc_batch_result(const struct pc_batch *batch)
{
    PyObject *list = PyList_New((Py_ssize_t)batch->n_items);
    for (size_t i = 0; list != NULL && i < batch->n_items; i++) {
        PyObject *truth =
            batch->items[i].status == PEERCACHE_OK ? Py_True : Py_False;
        Py_INCREF(truth);
        (void)PyList_SetItem(list, (Py_ssize_t)i, truth);
    }
    return list;
}

size_t pc_batch_leading(const struct pc_batch *batch)
{
    size_t n = 0;
    while (n < batch->n_items && batch->items[n].status == PEERCACHE_OK) {
        n++;
    }
    return n;
}
