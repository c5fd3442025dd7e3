#include "mappings.h"

#include "base/mem.h"

static struct pc_digest key_of(uint64_t incarnation, uint32_t region)
{
    return (struct pc_digest){incarnation, region};
}

void pc_mappings_init(struct pc_mappings *table, struct pc_engine *engine)
{
    table->engine = engine;
    (void)pthread_mutex_init(&table->lock, NULL);
    pc_map_init(&table->map);
    atomic_init(&table->n_live, 0);
}

void pc_mappings_fini(struct pc_mappings *table)
{
    pc_map_fini(&table->map);
    (void)pthread_mutex_destroy(&table->lock);
}

static void unmap(struct pc_task *task)
{
    struct pc_mapping *m = PC_CONTAINER_OF(task, struct pc_mapping, unmap);
    struct pc_engine *e = m->table->engine;
    e->fabric_ops->rkey_release(m->rkey);
    /* relaxed: a gauge, and looked at by the engine alone. */
    atomic_fetch_sub_explicit(&m->table->n_live, 1, memory_order_relaxed);
    pc_free(m);
}

struct pc_mapping *pc_mappings_add(struct pc_mappings *table,
                                   uint64_t incarnation, uint32_t region,
                                   const void *base,
                                   const struct pc_fabric_rkey *rkey,
                                   uint64_t length, uint64_t slots_offset,
                                   uint32_t n_slots)
{
    struct pc_mapping *m = pc_alloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    m->unmap.run = unmap;
    m->table = table;
    m->incarnation = incarnation;
    m->region = region;
    m->base = base;
    m->length = length;
    m->slots_offset = slots_offset;
    m->n_slots = n_slots;
    m->rkey = (struct pc_fabric_rkey *)(uintptr_t)rkey;
    atomic_init(&m->refs, 1);
    (void)pthread_mutex_lock(&table->lock);
    bool added = pc_map_put(&table->map, key_of(incarnation, region),
                            (uint64_t)(uintptr_t)m);
    (void)pthread_mutex_unlock(&table->lock);
    if (!added) {
        pc_free(m);
        return NULL;
    }
    atomic_fetch_add_explicit(&table->n_live, 1, memory_order_relaxed);
    return m;
}

void pc_mappings_drop(struct pc_mappings *table, struct pc_mapping *mapping)
{
    (void)pthread_mutex_lock(&table->lock);
    (void)pc_map_remove(&table->map,
                        key_of(mapping->incarnation, mapping->region));
    (void)pthread_mutex_unlock(&table->lock);
    pc_mappings_release(mapping);
}

struct pc_mapping *pc_mappings_acquire(struct pc_mappings *table,
                                       uint64_t incarnation, uint32_t region)
{
    struct pc_mapping *m = NULL;
    uint64_t value;
    (void)pthread_mutex_lock(&table->lock);
    if (pc_map_get(&table->map, key_of(incarnation, region), &value)) {
        m = (struct pc_mapping *)(uintptr_t)value;
        /* relaxed: the table's own reference keeps it alive under the lock. */
        atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&table->lock);
    return m;
}

void pc_mappings_release(struct pc_mapping *mapping)
{
    /* acq_rel: every reader's copy happens before the unmapping. */
    if (atomic_fetch_sub_explicit(&mapping->refs, 1, memory_order_acq_rel) ==
        1) {
        pc_engine_submit(mapping->table->engine, &mapping->unmap);
    }
}

bool pc_mapping_locate(const struct pc_mapping *mapping, uint32_t slot,
                       uint64_t offset, uint64_t length,
                       const struct pc_slot_header **header_p,
                       const void **bytes_p)
{
    if (slot >= mapping->n_slots || offset > mapping->length ||
        length > mapping->length - offset) {
        return false;
    }
    const uint8_t *headers = mapping->base + mapping->slots_offset;
    *header_p = (const struct pc_slot_header *)(const void *)headers + slot;
    *bytes_p = mapping->base + offset;
    return true;
}
