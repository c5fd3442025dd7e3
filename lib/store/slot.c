#include "slot.h"

#include "base/assert.h"
#include "base/mem.h"

void pc_slot_table_init(struct pc_slot_table *table)
{
    *table = (struct pc_slot_table){0};
}

void pc_slot_table_fini(struct pc_slot_table *table)
{
    for (uint32_t i = 0; i < table->n_chunks; i++) {
        pc_free(table->chunks[i]);
    }
    pc_free(table->chunks);
    pc_slot_table_init(table);
}

bool pc_slot_table_grow(struct pc_slot_table *table, uint32_t n,
                        uint32_t *first_p)
{
    uint64_t n_chunks = (uint64_t)table->n_chunks +
                        ((uint64_t)n + PC_SLOT_CHUNK - 1) / PC_SLOT_CHUNK;
    /* Cells of the index hold id + 1 in 32 bits. */
    if (n_chunks * PC_SLOT_CHUNK >= UINT32_MAX) {
        return false;
    }
    struct pc_slot **chunks =
        pc_realloc(table->chunks, n_chunks, sizeof(*chunks));
    if (chunks == NULL) {
        return false;
    }
    for (uint64_t i = table->n_chunks; i < n_chunks; i++) {
        chunks[i] = NULL;
    }
    *first_p = table->n_chunks * PC_SLOT_CHUNK;
    table->n_bytes += (n_chunks - table->n_chunks) * sizeof(*chunks);
    table->chunks = chunks;
    table->n_chunks = (uint32_t)n_chunks;
    return true;
}

struct pc_slot *pc_slot_table_make(struct pc_slot_table *table, uint32_t id)
{
    struct pc_slot **chunk_p = &table->chunks[id / PC_SLOT_CHUNK];
    if (*chunk_p == NULL) {
        *chunk_p = pc_alloc(PC_SLOT_CHUNK, sizeof(**chunk_p));
        if (*chunk_p == NULL) {
            return NULL;
        }
        table->n_bytes += PC_SLOT_CHUNK * sizeof(**chunk_p);
    }
    return pc_slot_at(table, id);
}

bool pc_slot_add_pin(struct pc_slot *slot, uint64_t generation)
{
    /* Acquire: after an EVICTING that has come and gone (a release) the look
     * below sees the generation that came with it. Sequentially consistent, as
     * are the store and the swap of whoever makes the value die: either we see
     * the odd generation, or they see our pin. */
    uint32_t old =
        atomic_fetch_add_explicit(&slot->pins, 1, memory_order_seq_cst);
    if ((old & PC_SLOT_EVICTING) != 0) {
        return false;
    }
    return atomic_load_explicit(&slot->generation, memory_order_seq_cst) ==
           generation;
}

bool pc_slot_drop_pin(struct pc_slot *slot)
{
    /* Release: what was read under the pin was read before somebody who
     * claims the slot writes. Sequentially consistent with DYING being set and
     * the claim that follows it: one side sees the other. */
    uint32_t old =
        atomic_fetch_sub_explicit(&slot->pins, 1, memory_order_seq_cst);
    PC_ASSERT((old & ~PC_SLOT_EVICTING) > 0);
    return old == 1 && atomic_load_explicit(
                           &slot->state, memory_order_seq_cst) == PC_SLOT_DYING;
}

bool pc_slot_claim(struct pc_slot *slot)
{
    uint32_t none = 0;
    return atomic_compare_exchange_strong_explicit(
        &slot->pins, &none, PC_SLOT_EVICTING, memory_order_seq_cst,
        memory_order_relaxed);
}

void pc_slot_unclaim(struct pc_slot *slot)
{
    /* Release: pairs with the acquire of a later pin, which then sees the
     * generation that was set meanwhile. */
    uint32_t old = atomic_fetch_sub_explicit(&slot->pins, PC_SLOT_EVICTING,
                                             memory_order_acq_rel);
    PC_ASSERT((old & PC_SLOT_EVICTING) != 0);
    (void)old;
}
