#include "page_table.h"

#include "args.h"

#include <stdlib.h>

/* Filled at import, constant afterwards. */
static PyTypeObject *table_type;

const struct pc_page_table *pc_page_table_from(PyObject *object)
{
    return PyObject_TypeCheck(object, table_type)
               ? (const struct pc_page_table *)object
               : NULL;
}

void pc_page_table_pieces(const struct pc_page_table *table, size_t slot,
                          peercache_piece_t *pieces)
{
    for (size_t i = 0; i < table->n_ranges; i++) {
        const struct pc_page_range *range = &table->ranges[i];
        pieces[i].addr = (void *)(range->base + slot * range->stride);
        pieces[i].len = range->size;
    }
}

/* The arguments as tuples of one length. */
struct columns
{
    PyObject *bases;
    PyObject *strides;
    PyObject *sizes;
    size_t n;
};

static void columns_fini(struct columns *columns)
{
    Py_XDECREF(columns->bases);
    Py_XDECREF(columns->strides);
    Py_XDECREF(columns->sizes);
}

static int columns_init(struct columns *columns, PyObject *const values[])
{
    *columns = (struct columns){.bases = pc_args_tuple(values[0], "bases")};
    if (columns->bases == NULL) {
        return -1;
    }
    columns->strides = pc_args_tuple(values[1], "strides");
    if (columns->strides == NULL) {
        return -1;
    }
    columns->sizes = pc_args_tuple(values[2], "sizes");
    if (columns->sizes == NULL) {
        return -1;
    }
    columns->n = (size_t)PyTuple_Size(columns->bases);
    size_t n_strides = (size_t)PyTuple_Size(columns->strides);
    size_t n_sizes = (size_t)PyTuple_Size(columns->sizes);
    if (n_strides != columns->n || n_sizes != columns->n) {
        PyErr_Format(PyExc_ValueError,
                     "%zu bases, %zu strides and %zu sizes; there must be as "
                     "many of each",
                     columns->n, n_strides, n_sizes);
        return -1;
    }
    if (columns->n == 0 || columns->n > PC_PAGE_PIECES_MAX) {
        PyErr_Format(PyExc_ValueError, "%zu pieces a page, allowed are 1 to %d",
                     columns->n, PC_PAGE_PIECES_MAX);
        return -1;
    }
    return 0;
}

static int parse_range(struct pc_page_range *range,
                       const struct columns *columns, Py_ssize_t i)
{
    size_t base;
    if (pc_args_size_in(PyTuple_GetItem(columns->bases, i), "bases", i, 1,
                        SIZE_MAX, &base) != 0 ||
        pc_args_size_in(PyTuple_GetItem(columns->sizes, i), "sizes", i, 1,
                        PY_SSIZE_T_MAX, &range->size) != 0 ||
        pc_args_size_in(PyTuple_GetItem(columns->strides, i), "strides", i, 0,
                        PY_SSIZE_T_MAX, &range->stride) != 0) {
        return -1;
    }
    range->base = base;
    if (range->stride < range->size) {
        PyErr_Format(PyExc_ValueError,
                     "strides[%zd] is %zu, but sizes[%zd] is %zu: pages would "
                     "overlap",
                     i, range->stride, i, range->size);
        return -1;
    }
    if (range->size > SIZE_MAX - range->base) {
        PyErr_Format(PyExc_ValueError,
                     "bases[%zd] + sizes[%zd] goes beyond the address space", i,
                     i);
        return -1;
    }
    return 0;
}

static int parse_ranges(struct pc_page_table *self,
                        const struct columns *columns)
{
    self->n_ranges = columns->n;
    self->ranges = calloc(columns->n, sizeof(*self->ranges));
    self->slot_max = PY_SSIZE_T_MAX;
    if (self->ranges == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < columns->n; i++) {
        struct pc_page_range *range = &self->ranges[i];
        if (parse_range(range, columns, (Py_ssize_t)i) != 0) {
            return -1;
        }
        size_t room = SIZE_MAX - range->base - range->size;
        size_t slot_max = room / range->stride;
        self->slot_max = slot_max < self->slot_max ? slot_max : self->slot_max;
        if (range->size > PY_SSIZE_T_MAX - self->page_size) {
            PyErr_SetString(PyExc_ValueError,
                            "sizes add up to more than the address space");
            return -1;
        }
        self->page_size += range->size;
    }
    return 0;
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bases", "strides", "sizes", NULL};
    PyObject *values[3];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:PageTable", names,
                                     &values[0], &values[1], &values[2])) {
        return NULL;
    }
    struct columns columns;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct pc_page_table *self = NULL;
    if (columns_init(&columns, values) == 0) {
        self = (struct pc_page_table *)alloc(type, 0);
    }
    if (self != NULL && parse_ranges(self, &columns) != 0) {
        Py_CLEAR(self);
    }
    columns_fini(&columns);
    return (PyObject *)self;
}

static void table_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    free(((struct pc_page_table *)object)->ranges);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *table_n_pieces(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct pc_page_table *)object)->n_ranges);
}

static PyObject *table_page_size(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct pc_page_table *)object)->page_size);
}

static PyGetSetDef getset[] = {
    {"n_pieces", table_n_pieces, NULL, "Pieces of one page.", NULL},
    {"page_size", table_page_size, NULL, "Bytes of one page.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static char doc[] =
    "PageTable(bases, strides, sizes)\n--\n\n"
    "Where the pages of a pool of memory lie, for Node.run_pages.\n\n"
    "Piece j of the page in slot s lies at bases[j] + s * strides[j] and has\n"
    "sizes[j] bytes; a page is its pieces, joined in order. Only addresses:\n"
    "whoever owns the memory keeps it mapped. Never changes.\n\n"
    "Raises TypeError, and ValueError for sequences of several lengths, null\n"
    "addresses, empty pieces, and strides below the size of their piece.";

static PyType_Slot slots[] = {
    {Py_tp_doc, doc},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "peercache._native.PageTable",
    .basicsize = sizeof(struct pc_page_table),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int pc_page_table_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL) {
        return -1;
    }
    table_type = (PyTypeObject *)type;
    return PyModule_AddType(module, table_type);
}
