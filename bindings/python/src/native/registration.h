/*
 * registration.h - the type peercache.Registration: a registered range.
 *
 * The node keeps the range itself; this is the handle to give it back early.
 * It holds its node, and says nothing once the node is closed.
 */
#ifndef PC_PY_REGISTRATION_H
#define PC_PY_REGISTRATION_H

#include "python.h"

/* NodeBase.register(buffer, *, kind="host"). */
PyObject *pc_registration_new(PyObject *node, PyObject *const *args,
                              Py_ssize_t n_args, PyObject *kw_names);

/* Add Registration to the module; -1 with an exception set. */
int pc_registration_add_type(PyObject *module);

#endif /* PC_PY_REGISTRATION_H */
