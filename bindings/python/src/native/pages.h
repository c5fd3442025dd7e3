/*
 * pages.h - run_pages of a node: one verb on several groups of pages at once.
 *
 * A method of NodeBase in the vector call form; it needs the GIL and gives it
 * up while the library works.
 */
#ifndef PC_PY_PAGES_H
#define PC_PY_PAGES_H

#include "python.h"

PyObject *pc_pages_run(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *kw_names);

#endif /* PC_PY_PAGES_H */
