/*
 * args.h - arguments of a call by position or name, and the options that the
 * verbs share. All functions need the GIL.
 */
#ifndef PC_PY_ARGS_H
#define PC_PY_ARGS_H

#include "python.h"

#include <peercache/peercache.h>

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

/* Seconds to nanoseconds; NULL or None give `missing`. */
int pc_args_seconds(PyObject *object, uint64_t missing, uint64_t *ns_p);

/* namespace=, timeout=, chain= (each may be NULL) into *params. */
int pc_args_options(PyObject *name_space, PyObject *timeout, PyObject *chain,
                    peercache_op_params_t *params);

#endif /* PC_PY_ARGS_H */
