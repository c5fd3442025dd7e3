/*
 * python.h - Python.h as this extension uses it: only the stable interface of
 * CPython 3.11, so that one build serves every later version.
 */
#ifndef PC_PY_PYTHON_H
#define PC_PY_PYTHON_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#endif /* PC_PY_PYTHON_H */
