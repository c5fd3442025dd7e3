/*
 * mappings.h - regions of neighbours that are mapped into this process.
 *
 * Any thread may copy from a mapping while it holds a reference; unmapping
 * waits for the last one (rule 8) and runs with the engine's role, because only
 * that may call the fabric. One lock (a leaf) guards the table.
 */
#ifndef PC_NET_MAPPINGS_H
#define PC_NET_MAPPINGS_H

#include "base/map.h"
#include "base/seqlock.h"
#include "net/engine.h"

struct pc_mappings;

struct pc_mapping
{
    struct pc_task unmap; /* First: submitted by the last reader. */
    struct pc_mappings *table;
    uint64_t incarnation;
    uint32_t region;
    const uint8_t *base;
    uint64_t length;
    uint64_t slots_offset;
    uint32_t n_slots;
    struct pc_fabric_rkey *rkey;
    _Atomic uint32_t refs;
};

struct pc_mappings
{
    struct pc_engine *engine;
    pthread_mutex_t lock;
    struct pc_map map;       /* (incarnation, region) -> pc_mapping */
    _Atomic uint32_t n_live; /* Not yet unmapped. */
};

void pc_mappings_init(struct pc_mappings *table, struct pc_engine *engine);
void pc_mappings_fini(struct pc_mappings *table);

/* Engine: add what was mapped and checked; takes the rkey over. */
struct pc_mapping *pc_mappings_add(struct pc_mappings *table,
                                   uint64_t incarnation, uint32_t region,
                                   const void *base,
                                   const struct pc_fabric_rkey *rkey,
                                   uint64_t length, uint64_t slots_offset,
                                   uint32_t n_slots);
/* Engine: take it out; it is unmapped when nobody copies from it any more. */
void pc_mappings_drop(struct pc_mappings *table, struct pc_mapping *mapping);

/* Any thread: NULL if there is none. */
struct pc_mapping *pc_mappings_acquire(struct pc_mappings *table,
                                       uint64_t incarnation, uint32_t region);
void pc_mappings_release(struct pc_mapping *mapping);
/* Any thread. Where a wanted value's header and bytes are; false if the place
 * does not lie inside the region. */
bool pc_mapping_locate(const struct pc_mapping *mapping, uint32_t slot,
                       uint64_t offset, uint64_t length,
                       const struct pc_slot_header **header_p,
                       const void **bytes_p);

#endif /* PC_NET_MAPPINGS_H */
