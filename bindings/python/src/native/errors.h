/*
 * errors.h - exceptions of the package, raised from C.
 *
 * The classes live in peercache/errors.py. They are looked up once at import
 * and are constant afterwards. All functions need the GIL.
 */
#ifndef PC_PY_ERRORS_H
#define PC_PY_ERRORS_H

#include "python.h"

#include <peercache/peercache.h>

/* Look up the classes; -1 with an exception set. */
int pc_errors_init(void);

/* Raise the exception of a status; `what` names the call. Returns NULL. */
PyObject *pc_errors_raise(peercache_status_t status, const char *what);

/* Raise ClosedError. Returns NULL. */
PyObject *pc_errors_raise_closed(void);

/* Raise ConfigError with every reason, a list of str. Returns NULL. */
PyObject *pc_errors_raise_config(PyObject *reasons);

#endif /* PC_PY_ERRORS_H */
