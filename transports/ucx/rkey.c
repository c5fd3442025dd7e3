/*
 * rkey.c - the right to read a peer's region: by gets, or mapped here.
 */
#include "ucx.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

peercache_status_t pc_ucx_rkey_hand_over(ucp_ep_h ep, struct pc_blob packed,
                                         ucp_rkey_h *rkey_p)
{
    unsigned char *room = pc_alloc(PC_UCX_OPAQUE_ROOM, 1);
    if (room == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    memcpy(room, packed.data, packed.len);
    ucs_status_t status = ucp_ep_rkey_unpack(ep, room, rkey_p);
    pc_free(room);
    return pc_ucx_status(status);
}

#define HUGE_PAGE ((uint64_t)2 << 20)

/* Whether one mapping of this process covers the range: a segment is attached
 * by its bare number, and the number may by now be another, shorter one. */
static bool is_mapped(const char *start, uint64_t len)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) {
        return false;
    }
    uint64_t wanted = (uint64_t)(uintptr_t)start;
    bool found = false;
    char line[512];
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        uint64_t from;
        uint64_t to;
        char shared[5] = "";
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, shared) ==
            3) {
            found = wanted >= from && wanted < to && len <= to - wanted &&
                    shared[3] == 's';
        }
    }
    fclose(maps);
    return found;
}

/* Whether the last byte can be read: behind the end of a file, a mapping
 * answers with SIGBUS, but the kernel's copy only with an error. */
static bool is_backed(const char *start, uint64_t len)
{
    char byte;
    struct iovec to = {&byte, 1};
    struct iovec from = {(void *)(start + len - 1), 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ||
           errno != EFAULT;
}

/* The region is of this very process, and newer versions of UCX then answer
 * with the owner's own mapping: it must not be protected, and it goes with the
 * owner. Linux makes a second one of a shared mapping when the old size is 0.
 */
static const char *map_again(void *mapped, uint64_t len)
{
    void *again = mremap(mapped, 0, len, MREMAP_MAYMOVE);
    return again != MAP_FAILED ? again : NULL;
}

/* Readable, not writable, and in no core dump. A mapping of huge pages is dealt
 * with as a whole, which is longer than a region that does not fill it. */
static bool protect(void *addr, uint64_t len)
{
    if (mprotect(addr, len, PROT_READ) != 0) {
        len = (len + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        if (errno != EINVAL || mprotect(addr, len, PROT_READ) != 0) {
            return false;
        }
    }
    if (madvise(addr, len, MADV_DONTDUMP) != 0) {
        PC_DEBUG("ucx", "a neighbour's region stays in core dumps");
    }
    return true;
}

void pc_ucx_unmap(struct pc_ucx_mapping *mapping)
{
    if (mapping->copied > 0) {
        munmap((void *)mapping->addr, mapping->copied);
    }
    ucp_rkey_destroy(mapping->rkey);
    mapping->addr = NULL;
}

peercache_status_t pc_ucx_map(struct pc_fabric *fabric, struct pc_blob packed,
                              uint64_t addr, uint64_t len,
                              struct pc_ucx_mapping *mapping_p)
{
    struct pc_ucx_mapping mapping = {.copied = 0};
    const char *remote = (const char *)(uintptr_t)addr;
    bool was_mapped = is_mapped(remote, len);
    peercache_status_t status =
        pc_ucx_rkey_hand_over(fabric->map.self, packed, &mapping.rkey);
    if (status != PEERCACHE_OK) {
        return status;
    }
    void *mapped;
    if (ucp_rkey_ptr(mapping.rkey, addr, &mapped) != UCS_OK ||
        !is_mapped(mapped, len) || !is_backed(mapped, len)) {
        goto destroy;
    }
    mapping.addr = mapped;
    if (was_mapped && mapped == remote) {
        mapping.addr = map_again(mapped, len);
        if (mapping.addr == NULL) {
            goto destroy;
        }
        mapping.copied = len;
    }
    /* The mapping is this rkey's alone, so protecting it harms nobody. */
    if (!protect((void *)mapping.addr, len)) {
        pc_ucx_unmap(&mapping);
        return PEERCACHE_UNREACHABLE;
    }
    *mapping_p = mapping;
    return PEERCACHE_OK;

destroy:
    ucp_rkey_destroy(mapping.rkey);
    return PEERCACHE_UNREACHABLE;
}

peercache_status_t pc_ucx_rkey_unpack(struct pc_fabric_peer *peer,
                                      struct pc_blob blob,
                                      struct pc_fabric_rkey **rkey_p)
{
    struct pc_fabric *fabric = peer->fabric;
    if (pc_ucx_forked(fabric)) {
        return PEERCACHE_FORKED;
    }
    if (peer->state == PC_UCX_CLOSING) {
        return PEERCACHE_INVALID;
    }
    struct pc_fabric_rkey *rkey = pc_alloc(1, sizeof(*rkey));
    unsigned char *bytes = pc_alloc(blob.len + 1, 1);
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (rkey == NULL || bytes == NULL) {
        goto free_both;
    }
    if (blob.len > 0) {
        memcpy(bytes, blob.data, blob.len);
    }
    rkey->bytes = (struct pc_blob){bytes, blob.len};
    status = pc_ucx_region_unpack(rkey->bytes, &rkey->region);
    if (status != PEERCACHE_OK) {
        goto free_both;
    }
    rkey->fabric = fabric;
    rkey->peer = peer;
    rkey->can_map = peer->path.can_map && rkey->region.map_rkey.len > 0;
    pc_list_push_back(&fabric->rkeys, &rkey->node);
    pc_list_push_back(&peer->rkeys, &rkey->peer_node);
    *rkey_p = rkey;
    return PEERCACHE_OK;

free_both:
    pc_free(bytes);
    pc_free(rkey);
    return status;
}

static void map_once(struct pc_fabric_rkey *rkey)
{
    struct pc_fabric *fabric = rkey->fabric;
    pthread_mutex_lock(&fabric->lock);
    peercache_status_t status =
        pc_ucx_map(fabric, rkey->region.map_rkey, rkey->region.addr,
                   rkey->region.len, &rkey->mapping);
    pthread_mutex_unlock(&fabric->lock);
    if (status != PEERCACHE_OK) {
        rkey->map_failed = true;
        PC_WARN("ucx",
                "a neighbour's region of %" PRIu64 " bytes cannot be "
                "mapped: %s",
                rkey->region.len,
                status == PEERCACHE_NO_MEMORY ? "no memory"
                                              : "it is not there");
    }
}

static bool is_inside(const struct pc_ucx_region *region, uint64_t addr,
                      uint64_t len)
{
    return addr >= region->addr && len <= region->len &&
           addr - region->addr <= region->len - len;
}

const void *pc_ucx_rkey_map(struct pc_fabric_rkey *rkey, uint64_t remote_addr,
                            size_t len)
{
    if (!rkey->can_map || rkey->map_failed || pc_ucx_forked(rkey->fabric) ||
        !is_inside(&rkey->region, remote_addr, len)) {
        return NULL;
    }
    if (rkey->mapping.addr == NULL) {
        map_once(rkey);
    }
    return rkey->mapping.addr != NULL
               ? rkey->mapping.addr + (remote_addr - rkey->region.addr)
               : NULL;
}

void pc_ucx_rkey_orphan(struct pc_fabric_rkey *rkey)
{
    for (unsigned i = 0; i < PC_UCX_LANES; i++) {
        if (rkey->get_rkeys[i] != NULL) {
            ucp_rkey_destroy(rkey->get_rkeys[i]);
            rkey->get_rkeys[i] = NULL;
        }
    }
    pc_list_remove(&rkey->peer_node);
    rkey->peer = NULL;
}

void pc_ucx_rkey_release(struct pc_fabric_rkey *rkey)
{
    if (rkey == NULL || pc_ucx_forked(rkey->fabric)) {
        return;
    }
    if (rkey->n_gets > 0) {
        rkey->released = true;
        return;
    }
    pc_ucx_rkey_orphan(rkey);
    if (rkey->mapping.addr != NULL) {
        pthread_mutex_lock(&rkey->fabric->lock);
        pc_ucx_unmap(&rkey->mapping);
        pthread_mutex_unlock(&rkey->fabric->lock);
    }
    pc_list_remove(&rkey->node);
    pc_free((void *)rkey->bytes.data);
    pc_free(rkey);
}
