#include "args.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define NAME_SPACE_MAX 255
#define NS_PER_SECOND  1e9
/* More than a century; the library has smaller limits of its own. */
#define SECONDS_MAX 4e9

static int find_name(const struct pc_signature *signature, PyObject *name)
{
    for (int i = 0; signature->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, signature->names[i]) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument '%U'",
                 signature->method, name);
    return -1;
}

static int parse_keywords(const struct pc_signature *signature,
                          PyObject *const *args, PyObject *kw_names,
                          PyObject *values[PC_ARGS_MAX])
{
    Py_ssize_t n = kw_names == NULL ? 0 : PyTuple_Size(kw_names);
    for (Py_ssize_t i = 0; i < n; i++) {
        int at = find_name(signature, PyTuple_GetItem(kw_names, i));
        if (at < 0) {
            return -1;
        }
        if (values[at] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%s'",
                         signature->method, signature->names[at]);
            return -1;
        }
        values[at] = args[i];
    }
    return 0;
}

int pc_args_parse(const struct pc_signature *signature, PyObject *const *args,
                  Py_ssize_t n_args, PyObject *kw_names,
                  PyObject *values[PC_ARGS_MAX])
{
    memset(values, 0, PC_ARGS_MAX * sizeof(*values));
    if (n_args > signature->n_positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes %zd positional arguments but %zd were given",
                     signature->method, signature->n_positional, n_args);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n_args; i++) {
        values[i] = args[i];
    }
    if (parse_keywords(signature, args + n_args, kw_names, values) != 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < signature->n_required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() is missing the argument '%s'",
                         signature->method, signature->names[i]);
            return -1;
        }
    }
    return 0;
}

static int fail_bytes(PyObject *object, const char *what, Py_ssize_t index)
{
    PyObject *name = PyType_GetName(Py_TYPE(object));
    if (name == NULL) {
        return -1;
    }
    if (index >= 0) {
        PyErr_Format(PyExc_TypeError, "%s[%zd] must be str or bytes, not %U",
                     what, index, name);
    } else {
        PyErr_Format(PyExc_TypeError, "%s must be str or bytes, not %U", what,
                     name);
    }
    Py_DECREF(name);
    return -1;
}

static int fail_length(const char *what, Py_ssize_t index, size_t len,
                       size_t min, size_t max)
{
    if (index >= 0) {
        PyErr_Format(PyExc_ValueError,
                     "%s[%zd] has %zu bytes, allowed are %zu to %zu", what,
                     index, len, min, max);
    } else {
        PyErr_Format(PyExc_ValueError,
                     "%s has %zu bytes, allowed are %zu to %zu", what, len, min,
                     max);
    }
    return -1;
}

int pc_args_bytes(PyObject *object, const char *what, Py_ssize_t index,
                  size_t min, size_t max, const void **data_p, size_t *len_p)
{
    Py_ssize_t len;
    if (PyUnicode_Check(object)) {
        const char *text = PyUnicode_AsUTF8AndSize(object, &len);
        if (text == NULL) {
            return -1;
        }
        *data_p = text;
    } else if (PyBytes_Check(object)) {
        char *bytes;
        if (PyBytes_AsStringAndSize(object, &bytes, &len) != 0) {
            return -1;
        }
        *data_p = bytes;
    } else {
        return fail_bytes(object, what, index);
    }
    if ((size_t)len < min || (size_t)len > max) {
        return fail_length(what, index, (size_t)len, min, max);
    }
    *len_p = (size_t)len;
    return 0;
}

static int fail_type(PyObject *object, const char *what, const char *allowed)
{
    PyObject *name = PyType_GetName(Py_TYPE(object));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", what, allowed,
                     name);
        Py_DECREF(name);
    }
    return -1;
}

PyObject *pc_args_tuple(PyObject *sequence, const char *what)
{
    if (PyTuple_Check(sequence) || PyList_Check(sequence)) {
        return PySequence_Tuple(sequence);
    }
    if (PyUnicode_Check(sequence) || PyBytes_Check(sequence)) {
        (void)fail_type(sequence, what, "a list, one element each");
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(sequence);
    if (iterator == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            (void)fail_type(sequence, what, "a list or another iterable");
        }
        return NULL;
    }
    PyObject *tuple = PySequence_Tuple(iterator);
    Py_DECREF(iterator);
    return tuple;
}

int pc_args_size(PyObject *number, size_t *size_p)
{
    if (PyLong_Check(number)) {
        *size_p = PyLong_AsSize_t(number);
    } else {
        PyObject *index = PyNumber_Index(number);
        if (index == NULL) {
            return -1;
        }
        *size_p = PyLong_AsSize_t(index);
        Py_DECREF(index);
    }
    return *size_p == (size_t)-1 && PyErr_Occurred() != NULL ? -1 : 0;
}

/* Neither an int nor in the range; an exception of its own goes through. */
static int fail_size(PyObject *number, const char *what, Py_ssize_t index,
                     size_t min, size_t max)
{
    if (PyErr_Occurred() != NULL &&
        !PyErr_ExceptionMatches(PyExc_OverflowError) &&
        !PyErr_ExceptionMatches(PyExc_TypeError)) {
        return -1;
    }
    PyErr_Clear();
    if (PyIndex_Check(number)) {
        PyErr_Format(PyExc_ValueError, "%s[%zd] is %S, allowed are %zu to %zu",
                     what, index, number, min, max);
    } else {
        PyObject *name = PyType_GetName(Py_TYPE(number));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "%s[%zd] must be an int, not %U",
                         what, index, name);
            Py_DECREF(name);
        }
    }
    return -1;
}

int pc_args_size_in(PyObject *number, const char *what, Py_ssize_t index,
                    size_t min, size_t max, size_t *size_p)
{
    if (pc_args_size(number, size_p) != 0 || *size_p < min || *size_p > max) {
        return fail_size(number, what, index, min, max);
    }
    return 0;
}

int pc_args_seconds(PyObject *object, uint64_t missing, uint64_t *ns_p)
{
    if (object == NULL || Py_IsNone(object)) {
        *ns_p = missing;
        return 0;
    }
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred() != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "timeout must be a number of seconds, or None");
        return -1;
    }
    if (isnan(seconds) || seconds < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be seconds, 0 or more, or None");
        return -1;
    }
    seconds = seconds < SECONDS_MAX ? seconds : SECONDS_MAX;
    *ns_p = (uint64_t)(seconds * NS_PER_SECOND);
    return 0;
}

int pc_args_name_space(PyObject *name_space, peercache_op_params_t *params)
{
    if (name_space == NULL || Py_IsNone(name_space)) {
        return 0;
    }
    return pc_args_bytes(name_space, "namespace", -1, 0, NAME_SPACE_MAX,
                         &params->name_space, &params->name_space_len);
}

int pc_args_options(PyObject *name_space, PyObject *timeout, PyObject *chain,
                    peercache_op_params_t *params)
{
    memset(params, 0, sizeof(*params));
    params->struct_size = sizeof(*params);
    params->item_size = sizeof(peercache_item_t);
    if (pc_args_name_space(name_space, params) != 0 ||
        pc_args_seconds(timeout, 0, &params->timeout_ns) != 0) {
        return -1;
    }
    bool is_given = timeout != NULL && !Py_IsNone(timeout);
    if (is_given && params->timeout_ns == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be more than 0 seconds, or None for the "
                        "setting op_timeout");
        return -1;
    }
    int is_chain = chain == NULL ? 0 : PyObject_IsTrue(chain);
    if (is_chain < 0) {
        return -1;
    }
    params->flags = is_chain ? PEERCACHE_OP_CHAIN : 0;
    return 0;
}
