/*
 * mem.c - registrations: pool regions that peers may read, and buffers that
 * gets write to.
 */
#include "ucx.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What was allocated, of either kind. */
static void give_back(struct pc_fabric_mem *mem)
{
    if (mem->map_mem != NULL) {
        ucp_mem_unmap(mem->fabric->map.context, mem->map_mem);
    }
    if (mem->is_mmap) {
        munmap(mem->addr, mem->mapped_len);
    }
    mem->map_mem = NULL;
    mem->is_mmap = false;
    mem->addr = NULL;
}

static size_t page_len(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* posix memory is a file: UCX fills it until the file system, or the machine,
 * is full. */
static bool has_room(const struct pc_fabric_mem *mem)
{
    struct statvfs shm;
    return strcmp(mem->fabric->map.carrier, "sysv") == 0 ||
           (statvfs("/dev/shm", &shm) == 0 &&
            mem->len / shm.f_frsize < shm.f_bavail);
}

/* Shared memory from UCX; NULL in map_mem when there is none. */
static void alloc_shared(struct pc_fabric_mem *mem)
{
    ucp_mem_map_params_t params = {.field_mask =
                                       UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                                       UCP_MEM_MAP_PARAM_FIELD_FLAGS,
                                   .length = mem->len,
                                   .flags = UCP_MEM_MAP_ALLOCATE};
    ucp_context_h context = mem->fabric->map.context;
    ucp_mem_h map_mem;
    pc_ucx_ledger_begin(&mem->fabric->ledger, mem->len);
    ucs_status_t status = has_room(mem)
                              ? ucp_mem_map(context, &params, &map_mem)
                              : UCS_ERR_NO_MEMORY;
    pc_ucx_ledger_end(&mem->fabric->ledger);
    if (status != UCS_OK) {
        PC_WARN("ucx",
                "a region of %zu bytes is not shared with other processes of "
                "this host: %s",
                mem->len, ucs_status_string(status));
        return;
    }
    ucp_mem_attr_t attr = {.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS |
                                         UCP_MEM_ATTR_FIELD_LENGTH};
    status = ucp_mem_query(map_mem, &attr);
    if (status != UCS_OK || attr.length < mem->len) {
        ucp_mem_unmap(context, map_mem);
        return;
    }
    mem->map_mem = map_mem;
    mem->addr = attr.address;
    mem->mapped_len = attr.length;
}

static bool alloc_private(struct pc_fabric_mem *mem)
{
    void *addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (addr == MAP_FAILED) {
        return false;
    }
    mem->addr = addr;
    mem->mapped_len = mem->len;
    mem->is_mmap = true;
    return true;
}

/* Wishes about pages, before the first touch; none of them is a must. */
static void place(struct pc_fabric_mem *mem,
                  const struct pc_fabric_mem_params *params)
{
    mem->info.bind_error = 0;
    if (params->numa_node >= 0) {
        mem->info.bind_error =
            pc_pages_bind(mem->addr, mem->mapped_len, params->numa_node);
    }
    mem->info.pages = pc_pages_prepare(mem->addr, mem->mapped_len,
                                       params->page_size > page_len());
}

/* NO_MEMORY: there is none behind it, and it was given back. */
static peercache_status_t fill(struct pc_fabric_mem *mem,
                               const struct pc_fabric_mem_params *params)
{
    place(mem, params);
    peercache_status_t status = pc_pages_fill(mem->addr, mem->mapped_len,
                                              params->is_stopping, params->arg);
    if (status == PEERCACHE_NO_MEMORY) {
        give_back(mem);
    }
    return status;
}

static ucs_status_t register_for_gets(struct pc_fabric_mem *mem)
{
    ucp_mem_map_params_t params = {.field_mask =
                                       UCP_MEM_MAP_PARAM_FIELD_ADDRESS |
                                       UCP_MEM_MAP_PARAM_FIELD_LENGTH,
                                   .address = mem->addr,
                                   .length = mem->len};
    ucs_status_t status =
        ucp_mem_map(mem->fabric->get.context, &params, &mem->get_mem);
    if (status != UCS_OK) {
        mem->get_mem = NULL;
    }
    return status;
}

/* Map one's own region as a neighbour would: some versions of UCX say that
 * memory is shared which is not. The thread sanitizer does not see System V
 * memory come and go: to it, an address that is used again has a past. */
__attribute__((no_sanitize_thread)) static bool can_be_mapped(
    struct pc_fabric_mem *mem, struct pc_blob packed)
{
    struct pc_fabric *fabric = mem->fabric;
    struct pc_ucx_mapping mapping;
    pthread_mutex_lock(&fabric->lock);
    bool same = false;
    if (pc_ucx_map(fabric, packed, (uint64_t)(uintptr_t)mem->addr, mem->len,
                   &mapping) == PEERCACHE_OK) {
        volatile char *last = mem->addr + mem->len - 1;
        *last = 1;
        same = *(const volatile char *)(mapping.addr + mem->len - 1) == 1;
        *last = 0;
        pc_ucx_unmap(&mapping);
    }
    pthread_mutex_unlock(&fabric->lock);
    return same;
}

static peercache_status_t pack_rkeys(struct pc_fabric_mem *mem)
{
    struct pc_fabric *fabric = mem->fabric;
    struct pc_ucx_region region = {.addr = (uint64_t)(uintptr_t)mem->addr,
                                   .len = mem->len};
    void *map_packed = NULL;
    void *get_packed = NULL;
    if (mem->map_mem != NULL &&
        ucp_rkey_pack(fabric->map.context, mem->map_mem, &map_packed,
                      &region.map_rkey.len) == UCS_OK) {
        region.map_rkey.data = map_packed;
        if (!can_be_mapped(mem, region.map_rkey)) {
            PC_WARN("ucx", "a region of %zu bytes cannot be mapped by others",
                    mem->len);
            region.map_rkey.len = 0;
        }
    }
    if (mem->get_mem != NULL &&
        ucp_rkey_pack(fabric->get.context, mem->get_mem, &get_packed,
                      &region.get_rkey.len) == UCS_OK) {
        region.get_rkey.data = get_packed;
    }
    mem->info.is_shared = region.map_rkey.len > 0;
    mem->info.has_gets = region.get_rkey.len > 0;
    mem->rkey = pc_ucx_region_pack(&region);
    if (map_packed != NULL) {
        ucp_rkey_buffer_release(map_packed);
    }
    if (get_packed != NULL) {
        ucp_rkey_buffer_release(get_packed);
    }
    return mem->rkey.data != NULL ? PEERCACHE_OK : PEERCACHE_NO_MEMORY;
}

static peercache_status_t make_pool(struct pc_fabric_mem *mem,
                                    const struct pc_fabric_mem_params *params)
{
    size_t page = page_len();
    if (params->len > SIZE_MAX - page) {
        return PEERCACHE_NO_MEMORY;
    }
    mem->len = (params->len + page - 1) / page * page;
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (mem->fabric->map.context != NULL) {
        alloc_shared(mem);
    }
    if (mem->addr != NULL) {
        status = fill(mem, params);
        if (status == PEERCACHE_NO_MEMORY) {
            PC_WARN("ucx",
                    "shared memory for a region of %zu bytes was promised and "
                    "is not there, taking memory that neighbours cannot map",
                    mem->len);
        }
    }
    if (status == PEERCACHE_NO_MEMORY && alloc_private(mem)) {
        status = fill(mem, params);
    }
    if (status != PEERCACHE_OK) {
        return status;
    }
    if (mem->fabric->get.context != NULL) {
        ucs_status_t result = register_for_gets(mem);
        if (result != UCS_OK) {
            mem->info.refused = true;
            PC_WARN("ucx", "a region of %zu bytes has no one-sided reads: %s",
                    mem->len, ucs_status_string(result));
        }
    }
    return pack_rkeys(mem);
}

static peercache_status_t make_buffer(struct pc_fabric_mem *mem,
                                      const struct pc_fabric_mem_params *params)
{
    mem->addr = params->addr;
    mem->len = params->len;
    if (mem->fabric->get.context == NULL) {
        return PEERCACHE_OK;
    }
    return pc_ucx_status(register_for_gets(mem));
}

static void memory_free(struct pc_fabric_mem *mem)
{
    give_back(mem);
    pc_free(mem);
}

static void mem_free(struct pc_fabric_mem *mem)
{
    struct pc_fabric *fabric = mem->fabric;
    if (mem->get_mem != NULL) {
        ucp_mem_unmap(fabric->get.context, mem->get_mem);
    }
    pc_free((void *)mem->rkey.data);
    mem->rkey = (struct pc_blob){NULL, 0};
    /* A get that runs in software is served from the bare address, whatever
     * the rkey says: a peer that asks late must find memory there. Without an
     * rkey for gets nobody asks. */
    if (fabric->serves_gets && mem->info.has_gets &&
        (mem->map_mem != NULL || mem->is_mmap)) {
        pthread_mutex_lock(&fabric->lock);
        pc_list_push_back(&fabric->kept, &mem->node);
        pthread_mutex_unlock(&fabric->lock);
        return;
    }
    memory_free(mem);
}

void pc_ucx_mem_free_kept(struct pc_fabric *fabric)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(&fabric->kept)) != NULL) {
        memory_free(PC_CONTAINER_OF(node, struct pc_fabric_mem, node));
    }
}

static bool are_usable(const struct pc_fabric_mem_params *params)
{
    if (params->len == 0) {
        return false;
    }
    if (params->use == PC_MEM_POOL) {
        return params->addr == NULL;
    }
    return params->use == PC_MEM_BUFFER && params->addr != NULL &&
           params->len <= SIZE_MAX - (uintptr_t)params->addr;
}

peercache_status_t pc_ucx_mem_register(
    struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
    struct pc_fabric_mem **mem_p)
{
    if (pc_ucx_forked(fabric)) {
        return PEERCACHE_FORKED;
    }
    if (!are_usable(params)) {
        return PEERCACHE_INVALID;
    }
    if (params->kind != PEERCACHE_MEM_HOST) {
        return PEERCACHE_UNSUPPORTED;
    }
    struct pc_fabric_mem *mem = pc_alloc(1, sizeof(*mem));
    if (mem == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    mem->fabric = fabric;
    pc_list_init(&mem->node);
    peercache_status_t status = params->use == PC_MEM_POOL
                                    ? make_pool(mem, params)
                                    : make_buffer(mem, params);
    if (status != PEERCACHE_OK) {
        mem_free(mem);
        return status;
    }
    pthread_mutex_lock(&fabric->lock);
    pc_list_push_back(&fabric->mems, &mem->node);
    pthread_mutex_unlock(&fabric->lock);
    *mem_p = mem;
    return PEERCACHE_OK;
}

void pc_ucx_mem_deregister(struct pc_fabric_mem *mem)
{
    if (mem == NULL || pc_ucx_forked(mem->fabric)) {
        return;
    }
    pthread_mutex_lock(&mem->fabric->lock);
    pc_list_remove(&mem->node);
    pthread_mutex_unlock(&mem->fabric->lock);
    mem_free(mem);
}

void *pc_ucx_mem_addr(struct pc_fabric_mem *mem)
{
    return mem->addr;
}

struct pc_blob pc_ucx_mem_rkey(struct pc_fabric_mem *mem)
{
    return mem->rkey;
}

void pc_ucx_mem_info(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p)
{
    *info_p = mem->info;
}
