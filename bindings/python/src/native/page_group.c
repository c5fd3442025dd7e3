#include "page_group.h"

#include "args.h"
#include "page_table.h"

#define MEMORY_FORMS "(PageTable, slots) or (sizes, pointers)"

/* ---- (PageTable, slots) ----------------------------------------------- */

static int fill_from_table(struct pc_batch *batch,
                           const struct pc_page_table *table, PyObject *slots)
{
    size_t n_slots = (size_t)PyTuple_Size(slots);
    size_t m = table->n_ranges;
    if (n_slots != batch->n_items) {
        PyErr_Format(PyExc_ValueError,
                     "%zu keys but %zu slots; allowed is one slot a key",
                     batch->n_items, n_slots);
        return -1;
    }
    if (pc_batch_allocate(batch, n_slots * m, 0) != 0) {
        return -1;
    }
    for (size_t i = 0; i < n_slots; i++) {
        size_t slot;
        if (pc_args_size_in(PyTuple_GetItem(slots, (Py_ssize_t)i), "slots",
                            (Py_ssize_t)i, 0, table->slot_max, &slot) != 0) {
            return -1;
        }
        batch->items[i].pieces = &batch->pieces.at[i * m];
        batch->items[i].n_pieces = m;
        pc_page_table_pieces(table, slot, &batch->pieces.at[i * m]);
    }
    return 0;
}

/* ---- (sizes, pointers) ------------------------------------------------ */

/* Whether every pointer has a size of its own, and how many make a page. */
static int get_shape(const struct pc_batch *batch, size_t n_sizes,
                     size_t n_pointers, size_t *n_pieces_p)
{
    size_t n_keys = batch->n_items;
    bool is_shared = n_sizes > 0 && n_pointers % n_sizes == 0 &&
                     n_pointers / n_sizes == n_keys;
    bool is_each = n_keys > 0 && n_sizes == n_pointers &&
                   n_pointers % n_keys == 0 && n_pointers > 0;
    if (!is_shared && !is_each && n_keys + n_pointers > 0) {
        PyErr_Format(PyExc_ValueError,
                     "%zu keys, %zu sizes and %zu pointers; allowed are a size "
                     "for each piece of a page and keys * sizes pointers, or a "
                     "size for each pointer and as many pointers for each key",
                     n_keys, n_sizes, n_pointers);
        return -1;
    }
    size_t n_pieces = n_keys == 0 ? 0 : n_pointers / n_keys;
    if (n_pieces > PC_PAGE_PIECES_MAX) {
        PyErr_Format(PyExc_ValueError, "%zu pieces a page, allowed are 1 to %d",
                     n_pieces, PC_PAGE_PIECES_MAX);
        return -1;
    }
    *n_pieces_p = n_pieces;
    return 0;
}

static int fill_piece(peercache_piece_t *piece, PyObject *sizes,
                      PyObject *pointers, Py_ssize_t at)
{
    size_t addr;
    Py_ssize_t size_at = at % PyTuple_Size(sizes);
    if (pc_args_size_in(PyTuple_GetItem(sizes, size_at), "sizes", size_at, 1,
                        PY_SSIZE_T_MAX, &piece->len) != 0 ||
        pc_args_size_in(PyTuple_GetItem(pointers, at), "pointers", at, 1,
                        SIZE_MAX, &addr) != 0) {
        return -1;
    }
    if (piece->len > SIZE_MAX - addr) {
        PyErr_Format(PyExc_ValueError,
                     "pointers[%zd] + sizes[%zd] goes beyond the address space",
                     at, size_at);
        return -1;
    }
    piece->addr = (void *)addr;
    return 0;
}

static int check_length(const peercache_item_t *item, size_t index)
{
    size_t length = 0;
    for (size_t i = 0; i < item->n_pieces; i++) {
        if (item->pieces[i].len > PY_SSIZE_T_MAX - length) {
            PyErr_Format(PyExc_ValueError,
                         "sizes of page %zu add up to more than the address "
                         "space",
                         index);
            return -1;
        }
        length += item->pieces[i].len;
    }
    return 0;
}

static int fill_from_pointers(struct pc_batch *batch, PyObject *sizes,
                              PyObject *pointers)
{
    size_t m;
    if (get_shape(batch, (size_t)PyTuple_Size(sizes),
                  (size_t)PyTuple_Size(pointers), &m) != 0 ||
        pc_batch_allocate(batch, batch->n_items * m, 0) != 0) {
        return -1;
    }
    for (size_t i = 0; i < batch->n_items; i++) {
        peercache_piece_t *pieces = &batch->pieces.at[i * m];
        for (size_t j = 0; j < m; j++) {
            if (fill_piece(&pieces[j], sizes, pointers,
                           (Py_ssize_t)(i * m + j)) != 0) {
                return -1;
            }
        }
        batch->items[i].pieces = pieces;
        batch->items[i].n_pieces = m;
        if (check_length(&batch->items[i], i) != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- A group ---------------------------------------------------------- */

static int fail_memory(PyObject *memory, const char *allowed)
{
    PyErr_Format(PyExc_TypeError, "memory must be %s, not %R", allowed,
                 (PyObject *)Py_TYPE(memory));
    return -1;
}

static int fill_memory(struct pc_batch *batch, PyObject *memory)
{
    if (!PyTuple_Check(memory) || PyTuple_Size(memory) != 2) {
        return fail_memory(memory, MEMORY_FORMS);
    }
    batch->values = memory;
    Py_INCREF(memory);
    batch->pieces.name = "memory";
    PyObject *first = PyTuple_GetItem(memory, 0);
    const struct pc_page_table *table = pc_page_table_from(first);
    PyObject *second = pc_args_tuple(PyTuple_GetItem(memory, 1),
                                     table != NULL ? "slots" : "pointers");
    PyObject *sizes = NULL;
    int result = -1;
    if (second != NULL && table != NULL) {
        result = fill_from_table(batch, table, second);
    } else if (second != NULL) {
        sizes = pc_args_tuple(first, "sizes");
        result = sizes == NULL ? -1 : fill_from_pointers(batch, sizes, second);
    }
    Py_XDECREF(sizes);
    Py_XDECREF(second);
    return result;
}

static int take_tuple(struct pc_page_group *group, PyObject *object)
{
    if (!PyTuple_Check(object) && !PyList_Check(object)) {
        PyErr_Format(PyExc_TypeError,
                     "must be (namespace, keys, memory), not %R",
                     (PyObject *)Py_TYPE(object));
        return -1;
    }
    group->tuple = PySequence_Tuple(object);
    if (group->tuple == NULL) {
        return -1;
    }
    if (PyTuple_Size(group->tuple) != 3) {
        PyErr_Format(PyExc_ValueError,
                     "has %zd elements, allowed is (namespace, keys, memory)",
                     PyTuple_Size(group->tuple));
        return -1;
    }
    return 0;
}

int pc_page_group_init(struct pc_page_group *group, PyObject *object,
                       const peercache_op_params_t *params, bool with_memory)
{
    struct pc_batch *batch = &group->batch;
    group->params = *params;
    if (take_tuple(group, object) != 0) {
        return -1;
    }
    PyObject *name_space = PyTuple_GetItem(group->tuple, 0);
    PyObject *memory = PyTuple_GetItem(group->tuple, 2);
    if (pc_args_name_space(name_space, &group->params) != 0) {
        return -1;
    }
    batch->keys = pc_args_tuple(PyTuple_GetItem(group->tuple, 1), "keys");
    if (batch->keys == NULL) {
        return -1;
    }
    batch->n_items = (size_t)PyTuple_Size(batch->keys);
    int result;
    if (with_memory) {
        result = fill_memory(batch, memory);
    } else if (!Py_IsNone(memory)) {
        result = fail_memory(memory, "None for exists and remove");
    } else {
        result = pc_batch_allocate(batch, 0, 0);
    }
    return result != 0 ? -1 : pc_batch_parse_keys(batch);
}

void pc_page_group_fini(struct pc_page_group *group)
{
    pc_batch_fini(&group->batch);
    Py_CLEAR(group->tuple);
}

PyObject *pc_page_group_result(const struct pc_page_group *group)
{
    const struct pc_batch *batch = &group->batch;
    PyObject *list = PyList_New((Py_ssize_t)batch->n_items);
    for (size_t i = 0; list != NULL && i < batch->n_items; i++) {
        PyObject *number = PyLong_FromLong(batch->items[i].status);
        if (number == NULL) {
            Py_CLEAR(list);
        } else {
            (void)PyList_SetItem(list, (Py_ssize_t)i, number);
        }
    }
    return list;
}
