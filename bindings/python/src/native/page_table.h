/*
 * page_table.h - the type peercache._native.PageTable: where the pages of a
 * pool of memory lie.
 *
 * A page is m pieces; piece j of the page in slot s lies at base[j] + s *
 * stride[j]. A table holds addresses only, not the memory. It never changes.
 */
#ifndef PC_PY_PAGE_TABLE_H
#define PC_PY_PAGE_TABLE_H

#include "python.h"

#include <peercache/peercache.h>

#include <stddef.h>
#include <stdint.h>

/* Most pieces of one page, here and in a list of pointers. */
#define PC_PAGE_PIECES_MAX 65536

/* One of the ranges that a page consists of. */
struct pc_page_range
{
    uintptr_t base;
    size_t stride;
    size_t size;
};

struct pc_page_table
{
    PyObject_HEAD size_t n_ranges;
    struct pc_page_range *ranges;
    size_t page_size; /* Bytes of all pieces. */
    size_t slot_max;  /* Pages behind it would leave the address space. */
};

/* The table that an object is, or NULL without an exception. */
const struct pc_page_table *pc_page_table_from(PyObject *object);

/* Write the n_ranges pieces of the page in a slot, at most slot_max. */
void pc_page_table_pieces(const struct pc_page_table *table, size_t slot,
                          peercache_piece_t *pieces);

/* Add PageTable to the module; -1 with an exception set. */
int pc_page_table_add_type(PyObject *module);

#endif /* PC_PY_PAGE_TABLE_H */
