/*
 * index.h - which slot holds the value of a digest.
 *
 * Open addressing, 8 bytes a cell, in 64 parts that grow on their own, so that
 * growing never holds the store's lock for long. Digests are kept in the slots
 * only. Room is promised when a slot is reserved, so sealing cannot fail. Not
 * thread-safe: the store's lock guards it.
 */
#ifndef PC_STORE_INDEX_H
#define PC_STORE_INDEX_H

#include "slot.h"

enum { PC_INDEX_PARTS = 64 };

struct pc_index_cell
{
    uint32_t hash;
    uint32_t id_1; /* Id + 1; 0: empty. */
};

struct pc_index_part
{
    struct pc_index_cell *cells; /* NULL until the first promise. */
    uint32_t n_cells;            /* A power of two, or 0. */
    uint32_t n_used;
    uint32_t n_promised;
};

struct pc_index
{
    const struct pc_slot_table *slots;
    uint64_t n_bytes;
    struct pc_index_part parts[PC_INDEX_PARTS];
};

void pc_index_init(struct pc_index *index, const struct pc_slot_table *slots);
void pc_index_fini(struct pc_index *index);
/* Keep room for one more digest; false: no memory. */
bool pc_index_promise(struct pc_index *index, struct pc_digest digest);
/* The promise is not needed any more. */
void pc_index_forgive(struct pc_index *index, struct pc_digest digest);
/* The slot of a digest, or NULL. */
struct pc_slot *pc_index_find(const struct pc_index *index,
                              struct pc_digest digest);
/* Set the slot of a digest, uses up a promise; the old slot or NULL. */
struct pc_slot *pc_index_set(struct pc_index *index, struct pc_digest digest,
                             uint32_t id);
/* Take out a digest that is there. */
void pc_index_remove(struct pc_index *index, struct pc_digest digest);

#endif /* PC_STORE_INDEX_H */
