#include "registration.h"

#include "args.h"
#include "errors.h"
#include "node.h"

#include <stdlib.h>
#include <string.h>

struct registration
{
    PyObject_HEAD struct pc_node_object *node;
    uint64_t id; /* 0: given back. */
    uintptr_t addr;
    size_t len;
};

/* Filled at import, constant afterwards. */
static PyTypeObject *registration_type;

static int parse_kind(PyObject *object, peercache_mem_kind_t *kind_p)
{
    if (object == NULL ||
        (PyUnicode_Check(object) &&
         PyUnicode_CompareWithASCIIString(object, "host") == 0)) {
        *kind_p = PEERCACHE_MEM_HOST;
    } else if (PyUnicode_Check(object) &&
               PyUnicode_CompareWithASCIIString(object, "device") == 0) {
        *kind_p = PEERCACHE_MEM_DEVICE;
    } else {
        PyErr_SetString(PyExc_ValueError,
                        "kind must be \"host\" or \"device\"");
        return -1;
    }
    return 0;
}

/* The one range of a buffer, pair or tensor. */
static struct pc_reg *parse_range(PyObject *buffer, PyObject *kind)
{
    peercache_piece_t piece;
    bool on_device;
    struct pc_reg *reg = calloc(1, sizeof(*reg));
    if (reg == NULL) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    struct pc_pieces pieces = {.at = &piece,
                               .holds = &reg->hold,
                               .n_max = 1,
                               .name = "buffer",
                               .writable = true};
    if (parse_kind(kind, &reg->kind) != 0 ||
        pc_pieces_add(&pieces, buffer, -1, &on_device) != 0) {
        pc_pieces_fini(&pieces);
        free(reg);
        return NULL;
    }
    if (on_device && reg->kind != PEERCACHE_MEM_DEVICE) {
        PyErr_SetString(PyExc_ValueError,
                        "buffer is in device memory: kind must be \"device\"");
        pc_pieces_fini(&pieces);
        free(reg);
        return NULL;
    }
    reg->addr = (uintptr_t)piece.addr;
    reg->end = reg->addr + piece.len;
    return reg;
}

/* Register the range with the library and enter it into the node's table. */
static int enter_range(struct pc_node_object *node, struct pc_reg *reg)
{
    peercache_status_t status;
    if (pc_node_enter(node) != 0) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS status =
        peercache_mem_register(node->node, reg->kind, (void *)reg->addr,
                               reg->end - reg->addr, &reg->mem);
    Py_END_ALLOW_THREADS int result = -1;
    if (status != PEERCACHE_OK) {
        (void)pc_errors_raise(status, "register");
    } else if (!pc_regs_reserve(&node->regs)) {
        peercache_mem_deregister(reg->mem);
        (void)PyErr_NoMemory();
    } else {
        pc_regs_insert(&node->regs, reg);
        result = 0;
    }
    pc_node_leave(node);
    return result;
}

PyObject *pc_registration_new(PyObject *node, PyObject *const *args,
                              Py_ssize_t n_args, PyObject *kw_names)
{
    static const struct pc_signature signature = {
        "register", 1, 1, {"buffer", "kind", NULL}};
    PyObject *values[PC_ARGS_MAX];
    if (pc_args_parse(&signature, args, n_args, kw_names, values) != 0) {
        return NULL;
    }
    struct pc_reg *reg = parse_range(values[0], values[1]);
    if (reg == NULL) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(registration_type, Py_tp_alloc);
    struct registration *self =
        (struct registration *)alloc(registration_type, 0);
    if (self == NULL || enter_range((struct pc_node_object *)node, reg) != 0) {
        pc_hold_fini(&reg->hold);
        free(reg);
        Py_XDECREF((PyObject *)self);
        return NULL;
    }
    Py_INCREF(node);
    self->node = (struct pc_node_object *)node;
    self->id = reg->id;
    self->addr = reg->addr;
    self->len = reg->end - reg->addr;
    return (PyObject *)self;
}

static PyObject *registration_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct registration *self = (struct registration *)object;
    struct pc_reg *reg =
        self->id == 0 ? NULL : pc_regs_take(&self->node->regs, self->id);
    self->id = 0;
    if (reg != NULL) {
        pc_node_release(self->node, reg);
    }
    Py_RETURN_NONE;
}

static PyObject *registration_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_INCREF(object);
    return object;
}

static PyObject *registration_exit(PyObject *object, PyObject *args)
{
    (void)args;
    return registration_close(object, NULL);
}

static PyObject *registration_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct registration *)object)->addr);
}

static PyObject *registration_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct registration *)object)->len);
}

static int registration_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)((struct registration *)object)->node);
    return 0;
}

static void registration_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF((PyObject *)((struct registration *)object)->node);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"close", registration_close, METH_NOARGS,
     "Give the memory back early; waits for calls that use it. Twice is fine."},
    {"__enter__", registration_enter, METH_NOARGS, NULL},
    {"__exit__", registration_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"address", registration_address, NULL, "First address.", NULL},
    {"nbytes", registration_nbytes, NULL, "Length in bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static char doc[] =
    "A registered range of memory. Its node keeps it registered, with or "
    "without this handle, until close of either.";

static PyType_Slot slots[] = {
    {Py_tp_doc, doc},
    {Py_tp_traverse, registration_traverse},
    {Py_tp_dealloc, registration_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "peercache._native.Registration",
    .basicsize = sizeof(struct registration),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int pc_registration_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL) {
        return -1;
    }
    registration_type = (PyTypeObject *)type;
#if PY_VERSION_HEX < 0x030a0000 /* There is no flag for it. */
    registration_type->tp_new = NULL;
#endif
    return PyModule_AddType(module, registration_type);
}
