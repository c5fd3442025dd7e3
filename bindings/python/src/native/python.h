/*
 * python.h - Python.h as this extension uses it: only the stable interface of
 * CPython 3.11, so that one build serves every later version. CPython 3.9 and
 * 3.10 get builds of their own, with what they lack of it.
 */
#ifndef PC_PY_PYTHON_H
#define PC_PY_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <patchlevel.h>
#if !defined(Py_LIMITED_API) && PY_VERSION_HEX >= 0x030b0000
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#if PY_VERSION_HEX < 0x030a0000

#define Py_TPFLAGS_DISALLOW_INSTANTIATION 0

static inline int Py_IsNone(PyObject *object)
{
    return object == Py_None;
}

#endif

#if PY_VERSION_HEX < 0x030b0000

static inline PyObject *PyType_GetName(PyTypeObject *type)
{
    return PyObject_GetAttrString((PyObject *)type, "__name__");
}

#endif

#endif /* PC_PY_PYTHON_H */
