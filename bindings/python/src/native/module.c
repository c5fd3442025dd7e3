/*
 * module.c - the module peercache._native.
 */
#include "python.h"

#include <peercache/peercache.h>

#include "errors.h"
#include "node.h"
#include "page_table.h"
#include "registration.h"

/* Add one entry of the dict; steals value. */
static int add(PyObject *dict, const char *name, PyObject *value)
{
    int result = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return result;
}

static PyObject *module_statuses(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    static const struct
    {
        const char *name;
        int value;
    } table[] = {
#define ROW(name, value, text) {#name, value},
        PEERCACHE_STATUS_MAP(ROW)
#undef ROW
    };
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < sizeof(table) / sizeof(table[0]);
         i++) {
        if (add(dict, table[i].name, PyLong_FromLong(table[i].value)) != 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static PyObject *module_version(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(peercache_version());
}

/* With the GIL: no other thread of Python changes the environment meanwhile. */
static PyObject *module_load_ucx(PyObject *module, PyObject *arg)
{
    PyObject *path = NULL;
    (void)module;
    if (PyUnicode_FSConverter(arg, &path) == 0) {
        return NULL;
    }
    peercache_status_t status = peercache_ucx_load(PyBytes_AsString(path));
    Py_DECREF(path);
    return PyBool_FromLong(status == PEERCACHE_OK);
}

static PyMethodDef functions[] = {
    {"load_ucx", module_load_ucx, METH_O,
     "Load UCX from a path, or \"none\" for nodes without; whether it is "
     "there."},
    {"statuses", module_statuses, METH_NOARGS,
     "Every status of the library, name to value."},
    {"version", module_version, METH_NOARGS,
     "Version of the library that is loaded."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "peercache._native",
    .m_doc = "The C library peercache; use the package instead.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL &&
        (pc_errors_init() != 0 || pc_registration_add_type(module) != 0 ||
         pc_page_table_add_type(module) != 0 ||
         pc_node_add_type(module) != 0)) {
        Py_CLEAR(module);
    }
    return module;
}
