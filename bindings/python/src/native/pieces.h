/*
 * pieces.h - from Python values and buffers to ranges of memory.
 *
 * A value is a piece or a list or tuple of pieces. A piece is an object with
 * the buffer protocol, a tuple (pointer, length), or a tensor: something with
 * data_ptr(), nbytes and is_contiguous(). What a piece lies in is held until
 * pc_pieces_fini. All functions need the GIL.
 */
#ifndef PC_PY_PIECES_H
#define PC_PY_PIECES_H

#include "python.h"

#include <peercache/peercache.h>

#include <stdbool.h>
#include <stddef.h>

/* What keeps the memory of one piece: a buffer, or a tensor. */
struct pc_hold
{
    PyObject *owner; /* Of a tensor; NULL: view is held. */
    Py_buffer view;
};

/* Pieces of a batch in arrays that the batch allocated. */
struct pc_pieces
{
    peercache_piece_t *at;
    struct pc_hold *holds;
    size_t n;
    size_t n_max;
    size_t n_holds;
    const char *name; /* Argument that errors speak of: "values". */
    bool writable;    /* Destinations, not sources. */
};

/* Most pieces that a value can add. */
size_t pc_pieces_count(PyObject *value);

/*
 * Add the pieces of argument number index (-1: it is not in a list). Empty
 * ones are left out, but the value must not be empty. *device_p: memory of a
 * device. -1 with an exception set; what was added before stays.
 */
int pc_pieces_add(struct pc_pieces *pieces, PyObject *value, Py_ssize_t index,
                  bool *device_p);

/* Let go of everything that is held. */
void pc_pieces_fini(struct pc_pieces *pieces);
void pc_hold_fini(struct pc_hold *hold);

#endif /* PC_PY_PIECES_H */
