#include "errors.h"

/* Filled by pc_errors_init at import, constant afterwards. */
static struct
{
    PyObject *from_status;
    PyObject *from_reasons;
} makers;

int pc_errors_init(void)
{
    PyObject *module = PyImport_ImportModule("peercache.errors");
    if (module == NULL) {
        return -1;
    }
    makers.from_status = PyObject_GetAttrString(module, "from_status");
    makers.from_reasons = PyObject_GetAttrString(module, "from_reasons");
    Py_DECREF(module);
    return makers.from_status != NULL && makers.from_reasons != NULL ? 0 : -1;
}

/* Raise what the maker returned; steals it. */
static PyObject *raise(PyObject *error)
{
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

PyObject *pc_errors_raise(peercache_status_t status, const char *what)
{
    return raise(PyObject_CallFunction(makers.from_status, "iss", (int)status,
                                       what, peercache_strerror(status)));
}

PyObject *pc_errors_raise_closed(void)
{
    return raise(PyObject_CallFunction(makers.from_status, "iss",
                                       (int)PEERCACHE_SHUTDOWN, "node",
                                       "the node is closed"));
}

PyObject *pc_errors_raise_config(PyObject *reasons)
{
    return raise(PyObject_CallFunctionObjArgs(makers.from_reasons, reasons,
                                              (PyObject *)NULL));
}
