/*
 * mem.c - registrations: pool regions that peers may read, and buffers that
 * gets write to.
 */
#include "ucx.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Faulting in goes in steps, so that the kernel's lock on the address space is
 * free for others in between: a thread that allocates waits for the step, and
 * on a busy machine the step waits for a CPU. */
#define POPULATE_STEP ((size_t)4 << 20)
#define MAX_NODES     1024

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
    ucs_status_t status = has_room(mem)
                              ? ucp_mem_map(context, &params, &map_mem)
                              : UCS_ERR_NO_MEMORY;
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
}

static bool alloc_private(struct pc_fabric_mem *mem)
{
    void *addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (addr == MAP_FAILED) {
        return false;
    }
    mem->addr = addr;
    mem->is_mmap = true;
    return true;
}

/* Wishes about pages, before the first touch; none of them is a must. */
static void place(struct pc_fabric_mem *mem, int numa_node, size_t page_size)
{
    if (numa_node >= 0 && numa_node < MAX_NODES) {
        unsigned long mask[MAX_NODES / (8 * sizeof(unsigned long))] = {0};
        mask[(size_t)numa_node / (8 * sizeof(mask[0]))] |=
            1ul << ((size_t)numa_node % (8 * sizeof(mask[0])));
        if (syscall(SYS_mbind, mem->addr, mem->len, MPOL_PREFERRED, mask,
                    (unsigned long)MAX_NODES, 0u) != 0) {
            PC_WARN("ucx", "a region of %zu bytes is not bound to NUMA node %d",
                    mem->len, numa_node);
        }
    }
    if (page_size > page_len() &&
        madvise(mem->addr, mem->len, MADV_HUGEPAGE) != 0) {
        PC_DEBUG("ucx", "a region of %zu bytes gets no huge pages", mem->len);
    }
    if (madvise(mem->addr, mem->len, MADV_DONTDUMP) != 0) {
        PC_DEBUG("ucx", "a region of %zu bytes stays in core dumps", mem->len);
    }
}

/* Touch every page; NO_MEMORY: there is none behind it. */
static peercache_status_t populate(struct pc_fabric_mem *mem,
                                   const struct pc_fabric_mem_params *params)
{
    size_t page = page_len();
    bool by_kernel = true;
    for (size_t at = 0; at < mem->len; at += POPULATE_STEP) {
        size_t step =
            mem->len - at < POPULATE_STEP ? mem->len - at : POPULATE_STEP;
        if (params->is_stopping != NULL && params->is_stopping(params->arg)) {
            return PEERCACHE_SHUTDOWN;
        }
        if (by_kernel &&
            madvise(mem->addr + at, step, MADV_POPULATE_WRITE) == 0) {
            continue;
        }
        if (by_kernel && errno != EINVAL) {
            return PEERCACHE_NO_MEMORY;
        }
        by_kernel = false;
        for (size_t i = 0; i < step; i += page) {
            *(volatile char *)(mem->addr + at + i) = 0;
        }
    }
    return PEERCACHE_OK;
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
    if (mem->fabric->map.context != NULL) {
        alloc_shared(mem);
    }
    if (mem->addr == NULL && !alloc_private(mem)) {
        return PEERCACHE_NO_MEMORY;
    }
    place(mem, params->numa_node, params->page_size);
    peercache_status_t populated = populate(mem, params);
    if (populated != PEERCACHE_OK) {
        return populated;
    }
    if (mem->fabric->get.context != NULL) {
        ucs_status_t status = register_for_gets(mem);
        if (status != UCS_OK) {
            PC_WARN("ucx", "a region of %zu bytes has no one-sided reads: %s",
                    mem->len, ucs_status_string(status));
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
    if (mem->map_mem != NULL) {
        ucp_mem_unmap(mem->fabric->map.context, mem->map_mem);
    }
    if (mem->is_mmap) {
        munmap(mem->addr, mem->len);
    }
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
     * the rkey says: a peer that asks late must find memory there. */
    if (fabric->serves_gets && (mem->map_mem != NULL || mem->is_mmap)) {
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
