/*
 * regs.h - the ranges of memory that a node has registered, by address.
 *
 * Ranges may overlap; a look-up finds one that covers all pieces of an item.
 * Owned by a node object; everything happens under the GIL.
 */
#ifndef PC_PY_REGS_H
#define PC_PY_REGS_H

#include <peercache/peercache.h>

#include "pieces.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_reg
{
    uintptr_t addr;
    uintptr_t end;     /* First address behind. */
    uintptr_t max_end; /* Largest end of this and all ranges before it. */
    peercache_mem_kind_t kind;
    peercache_mem_t *mem;
    struct pc_hold hold; /* Keeps the object that owns the memory. */
    uint64_t id;         /* Never 0, never used again. */
    size_t n_users;      /* Items of running calls. */
    bool closing;        /* Out of the table, waiting for its users. */
};

struct pc_regs
{
    struct pc_reg **at; /* Sorted by address. */
    size_t n;
    size_t n_max;
    size_t n_device; /* Of kind PEERCACHE_MEM_DEVICE. */
    uint64_t last_id;
};

void pc_regs_fini(struct pc_regs *regs);

/* Make room for one more; false: no memory. */
bool pc_regs_reserve(struct pc_regs *regs);
/* Insert into reserved room and give it an id; takes the range. */
void pc_regs_insert(struct pc_regs *regs, struct pc_reg *reg);
/* Take a range out; NULL if there is none with this id (0: any). */
struct pc_reg *pc_regs_take(struct pc_regs *regs, uint64_t id);

/* The range that covers all pieces, or NULL. *device_p: some piece lies in
 * device memory, which must not be touched without the range. */
struct pc_reg *pc_regs_find(const struct pc_regs *regs,
                            const peercache_piece_t *pieces, size_t n_pieces,
                            bool *device_p);

#endif /* PC_PY_REGS_H */
