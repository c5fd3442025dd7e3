#include "pieces.h"

#include "args.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Which argument is looked at: values, values[3] or values[3][1]. */
struct where
{
    const char *name;
    Py_ssize_t index;
    Py_ssize_t piece;
};

#define WHERE_LEN 96

static const char *where_text(const struct where *where, char *text)
{
    int len = snprintf(text, WHERE_LEN, "%.30s", where->name);
    if (where->index >= 0) {
        len += snprintf(text + len, WHERE_LEN - (size_t)len, "[%zd]",
                        where->index);
    }
    if (where->piece >= 0) {
        (void)snprintf(text + len, WHERE_LEN - (size_t)len, "[%zd]",
                       where->piece);
    }
    return text;
}

static int fail(const struct where *where, PyObject *type, const char *problem)
{
    char text[WHERE_LEN];
    PyErr_Format(type, "%s %s", where_text(where, text), problem);
    return -1;
}

static int fail_type(const struct where *where, PyObject *object)
{
    char text[WHERE_LEN];
    PyObject *name = PyType_GetName(Py_TYPE(object));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s must be a buffer, a tuple (pointer, length), a tensor "
                     "or a list of these, not %U",
                     where_text(where, text), name);
        Py_DECREF(name);
    }
    return -1;
}

/* An int, or a number of another library; arrays have __index__ too. */
static bool is_number(PyObject *object)
{
    return PyLong_Check(object) || (PyIndex_Check(object) &&
                                    !PyObject_HasAttrString(object, "__len__"));
}

static bool is_pair(PyObject *object)
{
    return PyTuple_Check(object) && PyTuple_Size(object) == 2 &&
           is_number(PyTuple_GetItem(object, 0));
}

size_t pc_pieces_count(PyObject *value)
{
    if (PyList_Check(value)) {
        return (size_t)PyList_Size(value);
    }
    return PyTuple_Check(value) && !is_pair(value) ? (size_t)PyTuple_Size(value)
                                                   : 1;
}

/* Add a range, with what was put into holds[n_holds] before if `held`. */
static int add_range(struct pc_pieces *pieces, uintptr_t addr, size_t len,
                     const struct where *where)
{
    if (len == 0) {
        return 0;
    }
    if (addr == 0) {
        return fail(where, PyExc_ValueError, "has a null pointer");
    }
    if (len > UINTPTR_MAX - addr) {
        return fail(where, PyExc_ValueError, "goes beyond the address space");
    }
    pieces->at[pieces->n].addr = (void *)addr;
    pieces->at[pieces->n].len = len;
    pieces->n++;
    return 0;
}

static int add_pair(struct pc_pieces *pieces, PyObject *pair,
                    const struct where *where)
{
    size_t addr;
    size_t len;
    if (pc_args_size(PyTuple_GetItem(pair, 0), &addr) != 0 ||
        pc_args_size(PyTuple_GetItem(pair, 1), &len) != 0) {
        PyErr_Clear();
        return fail(where, PyExc_ValueError,
                    "must be (pointer, length), two integers from 0 on");
    }
    return add_range(pieces, addr, len, where);
}

/* Say why an object gave no buffer: it is not writable, or it has holes. */
static int fail_buffer(PyObject *object, bool writable,
                       const struct where *where)
{
    Py_buffer view;
    if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return -1;
    }
    PyErr_Clear();
    if (writable && PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) == 0) {
        PyBuffer_Release(&view);
        return fail(where, PyExc_ValueError,
                    "is read-only; a get needs a writable buffer");
    }
    PyErr_Clear();
    if (PyObject_GetBuffer(object, &view, PyBUF_STRIDES | PyBUF_FORMAT) == 0) {
        PyBuffer_Release(&view);
        return fail(where, PyExc_ValueError, "is not C-contiguous");
    }
    return fail(where, PyExc_ValueError, "gives no buffer of bytes");
}

static int add_buffer(struct pc_pieces *pieces, PyObject *object,
                      const struct where *where)
{
    struct pc_hold *hold = &pieces->holds[pieces->n_holds];
    int flags = pieces->writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (PyObject_GetBuffer(object, &hold->view, flags) != 0) {
        return fail_buffer(object, pieces->writable, where);
    }
    hold->owner = NULL;
    pieces->n_holds++;
    return add_range(pieces, (uintptr_t)hold->view.buf, (size_t)hold->view.len,
                     where);
}

/* Truth of an attribute, called first if it is a method; -1: it failed. */
static int ask(PyObject *object, const char *name)
{
    PyObject *answer = PyObject_GetAttrString(object, name);
    if (answer != NULL && PyCallable_Check(answer)) {
        PyObject *method = answer;
        answer = PyObject_CallNoArgs(method);
        Py_DECREF(method);
    }
    if (answer == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
}

/* A size that an attribute gives, called first if it is a method. */
static int ask_size(PyObject *object, const char *name, size_t *size_p)
{
    PyObject *answer = PyObject_GetAttrString(object, name);
    if (answer != NULL && PyCallable_Check(answer)) {
        PyObject *method = answer;
        answer = PyObject_CallNoArgs(method);
        Py_DECREF(method);
    }
    if (answer == NULL) {
        return -1;
    }
    int result = pc_args_size(answer, size_p);
    Py_DECREF(answer);
    return result;
}

/* Whether a tensor's memory is not the CPU's; -1: it failed. */
static int is_on_device(PyObject *tensor)
{
    if (PyObject_HasAttrString(tensor, "is_cpu")) {
        int on_cpu = ask(tensor, "is_cpu");
        return on_cpu < 0 ? -1 : !on_cpu;
    }
    return PyObject_HasAttrString(tensor, "is_cuda") ? ask(tensor, "is_cuda")
                                                     : 0;
}

static int add_tensor(struct pc_pieces *pieces, PyObject *tensor,
                      const struct where *where, bool *device_p)
{
    size_t addr;
    size_t len;
    int contiguous = ask(tensor, "is_contiguous");
    if (contiguous == 0) {
        return fail(where, PyExc_ValueError, "is not C-contiguous");
    }
    int device = is_on_device(tensor);
    if (contiguous < 0 || device < 0 ||
        ask_size(tensor, "data_ptr", &addr) != 0 ||
        ask_size(tensor, "nbytes", &len) != 0) {
        return -1;
    }
    struct pc_hold *hold = &pieces->holds[pieces->n_holds];
    Py_INCREF(tensor);
    hold->owner = tensor;
    pieces->n_holds++;
    *device_p = *device_p || device;
    return add_range(pieces, addr, len, where);
}

static int add_piece(struct pc_pieces *pieces, PyObject *object,
                     const struct where *where, bool *device_p)
{
    /* A list may have grown since the pieces were counted. */
    if (pieces->n == pieces->n_max || pieces->n_holds == pieces->n_max) {
        return fail(where, PyExc_RuntimeError, "changed during the call");
    }
    if (is_pair(object)) {
        return add_pair(pieces, object, where);
    }
    if (PyObject_CheckBuffer(object)) {
        return is_number(object) ? fail_type(where, object)
                                 : add_buffer(pieces, object, where);
    }
    if (PyObject_HasAttrString(object, "data_ptr")) {
        return add_tensor(pieces, object, where, device_p);
    }
    return fail_type(where, object);
}

static int add_all(struct pc_pieces *pieces, PyObject *list,
                   struct where *where, bool *device_p)
{
    bool is_list = PyList_Check(list);
    for (Py_ssize_t i = 0;
         i < (is_list ? PyList_Size(list) : PyTuple_Size(list)); i++) {
        PyObject *object =
            is_list ? PyList_GetItem(list, i) : PyTuple_GetItem(list, i);
        if (object == NULL) {
            return -1;
        }
        where->piece = i;
        Py_INCREF(object);
        int result = add_piece(pieces, object, where, device_p);
        Py_DECREF(object);
        if (result != 0) {
            return -1;
        }
    }
    where->piece = -1;
    return 0;
}

int pc_pieces_add(struct pc_pieces *pieces, PyObject *value, Py_ssize_t index,
                  bool *device_p)
{
    struct where where = {pieces->name, index, -1};
    size_t n_before = pieces->n;
    int result;
    *device_p = false;
    if ((PyList_Check(value) || PyTuple_Check(value)) && !is_pair(value)) {
        result = add_all(pieces, value, &where, device_p);
    } else {
        result = add_piece(pieces, value, &where, device_p);
    }
    if (result == 0 && pieces->n == n_before) {
        return fail(&where, PyExc_ValueError,
                    "is empty; a value has at least one byte");
    }
    return result;
}

void pc_hold_fini(struct pc_hold *hold)
{
    if (hold->owner != NULL) {
        Py_CLEAR(hold->owner);
    } else {
        PyBuffer_Release(&hold->view);
    }
}

void pc_pieces_fini(struct pc_pieces *pieces)
{
    for (size_t i = 0; i < pieces->n_holds; i++) {
        pc_hold_fini(&pieces->holds[i]);
    }
    pieces->n_holds = 0;
}
