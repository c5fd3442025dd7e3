/*
 * args.h - arguments of a call by position or name, and the options that the
 * verbs share. All functions need the GIL.
 */
#ifndef PC_PY_ARGS_H
#define PC_PY_ARGS_H

#include "python.h"

#include <peercache/peercache.h>

#include <stddef.h>
#include <stdint.h>

#define PC_ARGS_MAX 6

/* How a method is called: the first n_positional arguments by position or by
 * name, the first n_required must be there, the rest is by name only. */
struct pc_signature
{
    const char *method;
    Py_ssize_t n_positional;
    Py_ssize_t n_required;
    const char *names[PC_ARGS_MAX + 1]; /* NULL ends the list. */
};

/* Sort a vector call's arguments into values[], NULL where there is none; the
 * references stay the caller's. -1 with TypeError. */
int pc_args_parse(const struct pc_signature *signature, PyObject *const *args,
                  Py_ssize_t n_args, PyObject *kw_names,
                  PyObject *values[PC_ARGS_MAX]);

/* The bytes of a str (as UTF-8) or bytes, which keeps them. `what` and index
 * (-1: none) name it in errors. -1 with an exception set. */
int pc_args_bytes(PyObject *object, const char *what, Py_ssize_t index,
                  size_t min, size_t max, const void **data_p, size_t *len_p);

/* A tuple of what an iterable gives: the caller's, and nobody changes it. A
 * single str or bytes is none. `what` names it in errors. */
PyObject *pc_args_tuple(PyObject *sequence, const char *what);

/* An int, or a number of another library, from 0 on; -1 with an exception. */
int pc_args_size(PyObject *number, size_t *size_p);
/* The same for what[index], from min to max, with errors that say so. */
int pc_args_size_in(PyObject *number, const char *what, Py_ssize_t index,
                    size_t min, size_t max, size_t *size_p);

/* Seconds to nanoseconds; NULL or None give `missing`. */
int pc_args_seconds(PyObject *object, uint64_t missing, uint64_t *ns_p);

/* A name space (NULL or None: the empty one) into *params. */
int pc_args_name_space(PyObject *name_space, peercache_op_params_t *params);

/* namespace=, timeout=, chain= (each may be NULL) into *params. */
int pc_args_options(PyObject *name_space, PyObject *timeout, PyObject *chain,
                    peercache_op_params_t *params);

#endif /* PC_PY_ARGS_H */
