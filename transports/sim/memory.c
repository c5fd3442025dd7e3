#include "fabric_state.h"

#include "base/digest.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RKEY_MAGIC = 0x5253494d, PAGE = 4096 };

/* ---- Segments ------------------------------------------------------------ */

static struct pc_sim_segment *segment_create(struct pc_fabric *fabric,
                                             size_t len)
{
    size_t map_len = (len + PAGE - 1) / PAGE * PAGE;
    void *base = mmap(NULL, map_len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map_len < len || base == MAP_FAILED) {
        return NULL;
    }
    struct pc_sim *sim = fabric->host->sim;
    struct pc_sim_segment *segment = pc_sim_alloc(1, sizeof(*segment));
    segment->id = pc_sim_table_add(&sim->segment_ids, segment);
    segment->fabric_id = fabric->blob.fabric_id;
    segment->host = fabric->host;
    segment->base = base;
    segment->len = len;
    segment->map_len = map_len;
    segment->n_refs = 1;
    segment->registered = true;
    return segment;
}

void pc_sim_segment_unref(struct pc_sim_segment *segment)
{
    if (segment == NULL || --segment->n_refs > 0) {
        return;
    }
    pc_sim_table_remove(&segment->host->sim->segment_ids, segment->id);
    munmap(segment->base, segment->map_len);
    free(segment);
}

/* ---- Registrations ------------------------------------------------------- */

static uint64_t blob_checksum(const struct pc_sim_rkey_blob *blob)
{
    return pc_checksum(blob, offsetof(struct pc_sim_rkey_blob, checksum));
}

peercache_status_t pc_sim_mem_register(
    struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
    struct pc_fabric_mem **mem_p)
{
    bool pool = params->use == PC_MEM_POOL;
    if (params->kind != PEERCACHE_MEM_HOST) {
        return PEERCACHE_UNSUPPORTED;
    }
    if (params->len == 0 || pool != (params->addr == NULL)) {
        return PEERCACHE_INVALID;
    }
    struct pc_fabric_mem *mem = pc_alloc(1, sizeof(*mem));
    if (mem == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    mem->fabric = fabric;
    mem->use = params->use;
    mem->addr = params->addr;
    mem->len = params->len;
    if (pool) {
        mem->segment = segment_create(fabric, params->len);
        if (mem->segment == NULL) {
            pc_free(mem);
            return PEERCACHE_NO_MEMORY;
        }
        mem->addr = mem->segment->base;
        mem->blob = (struct pc_sim_rkey_blob){
            .magic = RKEY_MAGIC,
            .segment_id = mem->segment->id,
            .base = (uint64_t)(uintptr_t)mem->segment->base,
            .len = params->len,
        };
        mem->blob.checksum = blob_checksum(&mem->blob);
    }
    pc_list_init(&mem->in_fabric);
    pc_list_push_back(&fabric->mems, &mem->in_fabric);
    *mem_p = mem;
    return PEERCACHE_OK;
}

void *pc_sim_mem_addr(struct pc_fabric_mem *mem)
{
    return mem->addr;
}

void pc_sim_mem_deregister(struct pc_fabric_mem *mem)
{
    if (mem == NULL) {
        return;
    }
    if (mem->segment != NULL) {
        mem->segment->registered = false;
        pc_sim_segment_unref(mem->segment);
    }
    pc_list_remove(&mem->in_fabric);
    pc_free(mem);
}

void pc_sim_mem_info(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p)
{
    bool pool = mem->use == PC_MEM_POOL;
    *info_p = (struct pc_fabric_mem_info){
        .pages = PC_PAGES_PLAIN, .is_shared = pool, .has_gets = pool};
}

struct pc_blob pc_sim_mem_rkey(struct pc_fabric_mem *mem)
{
    if (mem->use != PC_MEM_POOL) {
        return (struct pc_blob){NULL, 0};
    }
    return (struct pc_blob){&mem->blob, sizeof(mem->blob)};
}

/* ---- Rkeys --------------------------------------------------------------- */

/* As with UCX, whether the region still exists shows only in use. */
peercache_status_t pc_sim_rkey_unpack(struct pc_fabric_peer *peer,
                                      struct pc_blob blob,
                                      struct pc_fabric_rkey **rkey_p)
{
    struct pc_sim_rkey_blob got;
    if (blob.len != sizeof(got)) {
        return PEERCACHE_PROTOCOL;
    }
    memcpy(&got, blob.data, sizeof(got));
    if (got.magic != RKEY_MAGIC || got.checksum != blob_checksum(&got)) {
        return PEERCACHE_PROTOCOL;
    }
    struct pc_fabric_rkey *rkey = pc_alloc(1, sizeof(*rkey));
    if (rkey == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    rkey->fabric = peer->fabric;
    rkey->peer = peer;
    rkey->blob = got;
    struct pc_sim_segment *segment =
        pc_sim_table_get(&peer->fabric->host->sim->segment_ids, got.segment_id);
    if (segment != NULL && segment->fabric_id == peer->blob.fabric_id &&
        (uint64_t)(uintptr_t)segment->base == got.base &&
        segment->len == got.len) {
        rkey->segment = segment;
        segment->n_refs++;
    }
    pc_list_init(&rkey->in_fabric);
    pc_list_init(&rkey->in_peer);
    pc_list_push_back(&peer->fabric->rkeys, &rkey->in_fabric);
    pc_list_push_back(&peer->rkeys, &rkey->in_peer);
    *rkey_p = rkey;
    return PEERCACHE_OK;
}

bool pc_sim_rkey_covers(const struct pc_fabric_rkey *rkey, uint64_t addr,
                        size_t len)
{
    return addr >= rkey->blob.base &&
           addr - rkey->blob.base <= rkey->blob.len &&
           len <= rkey->blob.len - (addr - rkey->blob.base);
}

/* A segment exists while its owner lives and has it, or somebody maps it. */
static bool can_map(const struct pc_fabric_rkey *rkey)
{
    const struct pc_sim_segment *segment = rkey->segment;
    const struct pc_fabric *fabric = rkey->fabric;
    return segment != NULL && fabric->params.shm &&
           segment->host->machine == fabric->host->machine &&
           (segment->n_mapped > 0 ||
            (segment->registered && !segment->host->dead));
}

const void *pc_sim_rkey_map(struct pc_fabric_rkey *rkey, uint64_t remote_addr,
                            size_t len)
{
    if (!pc_sim_rkey_covers(rkey, remote_addr, len) || !can_map(rkey)) {
        return NULL;
    }
    struct pc_sim_segment *segment = rkey->segment;
    if (!rkey->mapped) {
        rkey->mapped = true;
        segment->n_mapped++;
        pc_sim_trace(rkey->fabric->host->sim, "%s maps %s",
                     rkey->fabric->host->name, segment->host->name);
    }
    return segment->base + (remote_addr - rkey->blob.base);
}

void pc_sim_rkey_forget_peer(struct pc_fabric_rkey *rkey)
{
    rkey->peer = NULL;
    pc_list_remove(&rkey->in_peer);
}

void pc_sim_rkey_release(struct pc_fabric_rkey *rkey)
{
    if (rkey == NULL) {
        return;
    }
    if (rkey->mapped) {
        rkey->segment->n_mapped--;
    }
    pc_sim_segment_unref(rkey->segment);
    pc_list_remove(&rkey->in_peer);
    pc_list_remove(&rkey->in_fabric);
    pc_free(rkey);
}
