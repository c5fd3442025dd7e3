/*
 * verbs.h - put, get_into, get, exists, match and remove of a node.
 *
 * Methods of NodeBase in the vector call form; they need the GIL and give it
 * up while the library works.
 */
#ifndef PC_PY_VERBS_H
#define PC_PY_VERBS_H

#include "python.h"

PyObject *pc_verbs_put(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *kw_names);
PyObject *pc_verbs_get_into(PyObject *self, PyObject *const *args,
                            Py_ssize_t n_args, PyObject *kw_names);
PyObject *pc_verbs_get(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *kw_names);
PyObject *pc_verbs_exists(PyObject *self, PyObject *const *args,
                          Py_ssize_t n_args, PyObject *kw_names);
PyObject *pc_verbs_match(PyObject *self, PyObject *const *args,
                         Py_ssize_t n_args, PyObject *kw_names);
PyObject *pc_verbs_remove(PyObject *self, PyObject *const *args,
                          Py_ssize_t n_args, PyObject *kw_names);

#endif /* PC_PY_VERBS_H */
