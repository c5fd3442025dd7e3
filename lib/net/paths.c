/*
 * paths.c - the ways to a peer's memory: attach, regions, mappings, detach.
 */
#include "base/log.h"
#include "base/mem.h"
#include "peers.h"

#include <string.h>

/* A way that broke is tried again after so long, and after twice as long each
 * time that it could not be opened. */
#define REATTACH_NS     (1 * PC_S)
#define REATTACH_MAX_NS (30 * PC_S)

/* How long to wait now. */
static uint64_t back_off(struct pc_peer *peer)
{
    uint64_t wait = peer->reattach_ns;
    if (wait == 0 || peer->path.can_get) {
        wait = REATTACH_NS;
    }
    peer->reattach_ns = wait < REATTACH_MAX_NS / 2 ? 2 * wait : REATTACH_MAX_NS;
    return wait;
}

static void detached(void *peer_arg)
{
    struct pc_peer *peer = peer_arg;
    peer->attach_ns = pc_engine_now(peer->peers->engine) + back_off(peer);
    for (uint32_t i = 0; i < peer->n_regions; i++) {
        struct pc_peer_region *region = &peer->regions[i];
        if (region->rkey != NULL) {
            peer->peers->engine->fabric_ops->rkey_release(region->rkey);
            region->rkey = NULL;
        }
    }
    peer->fabric = NULL;
    peer->detaching = false;
    peer->path_failed = false;
    peer->path.can_get = false;
    peer->peers->n_fabric_peers--;
    pc_peer_unref(peer);
}

static void attach(struct pc_peer *peer)
{
    struct pc_peers *peers = peer->peers;
    struct pc_engine *e = peers->engine;
    if (e->fabric == NULL || peer->fabric != NULL || peer->gone ||
        peer->fabric_address == NULL || pc_engine_now(e) < peer->attach_ns) {
        return;
    }
    /* Not to who is silent: UCX may wait for a host that is cut off. */
    if (peer->suspect) {
        return;
    }
    struct pc_blob address = {peer->fabric_address, peer->fabric_address_len};
    peercache_status_t status =
        e->fabric_ops->attach(e->fabric, address, peer, &peer->fabric);
    if (status != PEERCACHE_OK && status != PEERCACHE_IN_PROGRESS) {
        PC_WARN("net", "no way to the memory of %s: %s", peer->member.id.text,
                peercache_strerror(status));
        peer->fabric = NULL;
        peer->path.status = status;
        peer->attach_ns = pc_engine_now(e) + 10 * REATTACH_NS;
        return;
    }
    peer->attached_ns = pc_engine_now(e);
    pc_peer_ref(peer);
    peers->n_fabric_peers++;
}

static bool grow_regions(struct pc_peer *peer, uint32_t n)
{
    if (n <= peer->n_regions) {
        return true;
    }
    struct pc_peer_region *regions =
        pc_realloc(peer->regions, n, sizeof(*regions));
    if (regions == NULL) {
        return false;
    }
    memset(regions + peer->n_regions, 0,
           (n - peer->n_regions) * sizeof(*regions));
    peer->regions = regions;
    peer->n_regions = n;
    return true;
}

bool pc_paths_region(struct pc_peer *peer, const struct pc_msg_region *info)
{
    if (info->index >= PC_REGIONS_MAX || info->rkey.len > PC_RKEY_MAX ||
        info->slots_offset > info->length ||
        info->n_slots > (info->length - info->slots_offset) / 64) {
        return true;
    }
    if (!grow_regions(peer, info->index + 1)) {
        return false;
    }
    struct pc_peer_region *region = &peer->regions[info->index];
    if (region->known) {
        return true; /* Regions never change in a node's life. */
    }
    region->info = *info;
    if (info->rkey.len > 0) {
        memcpy(region->rkey_bytes, info->rkey.data, info->rkey.len);
    }
    region->info.rkey.data = NULL; /* The array may move: see use(). */
    region->known = true;
    return true;
}

void pc_paths_greeted(struct pc_peer *peer, const struct pc_msg_hello *hello)
{
    peer->domain = hello->domain;
    peer->greeted = true;
    if (peer->peers->engine->fabric == NULL || hello->fabric.len == 0) {
        peer->path.status = PEERCACHE_UNREACHABLE;
    }
    for (uint32_t i = 0; i < hello->n_regions; i++) {
        (void)pc_paths_region(peer, &hello->regions[i]);
    }
    if (peer->fabric_address == NULL && hello->fabric.len > 0) {
        peer->fabric_address = pc_alloc(1, hello->fabric.len);
        if (peer->fabric_address != NULL) {
            memcpy(peer->fabric_address, hello->fabric.data, hello->fabric.len);
            peer->fabric_address_len = hello->fabric.len;
        }
    }
    attach(peer);
}

/* Loud once: it is tried again for as long as somebody wants to read there. */
static void tried_in_vain(const struct pc_peer *peer, peercache_status_t why)
{
    if (peer->reattach_ns == 0) {
        PC_WARN("net",
                "no one-sided reads from %s for now: its memory cannot be "
                "reached (%s)",
                peer->member.id.text, peercache_strerror(why));
    } else {
        PC_DEBUG("net", "the memory of %s still cannot be reached (%s)",
                 peer->member.id.text, peercache_strerror(why));
    }
}

void pc_paths_attached(void *arg, void *peer_arg,
                       const struct pc_fabric_path *path)
{
    struct pc_peers *peers = arg;
    struct pc_peer *peer = peer_arg;
    peer->path = *path;
    if (path->status == PEERCACHE_OK) {
        PC_INFO("net", "bytes from %s: %s%s%s, carried by %s",
                peer->member.id.text, pc_paths_can_map(peer) ? "mapped " : "",
                path->can_get ? (path->native ? "one-sided "
                                              : "one-sided "
                                                "(emulated) ")
                              : "",
                "served", path->carrier);
    } else if (path->status != PEERCACHE_PEER_FAILED) {
        PC_INFO("net", "bytes from %s: served (%s)", peer->member.id.text,
                peercache_strerror(path->status));
    } else {
        tried_in_vain(peer, path->status);
        pc_paths_break(peer);
    }
    peers->up.path_changed(peers->up.arg, peer);
}

void pc_paths_failed(void *arg, void *peer_arg, peercache_status_t why)
{
    struct pc_peers *peers = arg;
    struct pc_peer *peer = peer_arg;
    if (peer->path.can_get) {
        PC_INFO("net", "one-sided way to %s failed: %s", peer->member.id.text,
                peercache_strerror(why));
        pc_paths_break(peer);
    } else {
        tried_in_vain(peer, why);
        /* While it is detached nothing new of it can be mapped, which is the
         * better way where it is allowed. */
        if (peers->needs_gets) {
            pc_paths_break(peer);
        }
    }
    peers->up.path_changed(peers->up.arg, peer);
}

bool pc_paths_can_get(const struct pc_peer *peer)
{
    return peer->fabric != NULL && !peer->detaching && !peer->path_failed &&
           peer->path.can_get;
}

bool pc_paths_can_map(const struct pc_peer *peer)
{
    return peer->fabric != NULL && !peer->detaching && peer->path.can_map &&
           peer->domain == peer->peers->self.domain;
}

/* What the region says of itself in page 0 must be what the peer told over its
 * own connection: another container's segment can have the same number. */
static bool page_fits(const struct pc_peer *peer,
                      const struct pc_msg_region *info, const void *base)
{
    struct pc_region_page page;
    memcpy(&page, base, sizeof(page));
    return page.magic == PC_REGION_MAGIC &&
           page.layout_version == PC_LAYOUT_VERSION &&
           page.nonce == info->nonce &&
           page.incarnation == peer->member.incarnation &&
           page.length == info->length && page.n_slots == info->n_slots &&
           page.slots_offset == info->slots_offset;
}

static void map_region(struct pc_peer *peer, struct pc_peer_region *region)
{
    const struct pc_fabric_ops *ops = peer->peers->engine->fabric_ops;
    struct pc_msg_region *info = &region->info;
    struct pc_blob blob = {region->rkey_bytes, info->rkey.len};
    struct pc_fabric_rkey *rkey;
    peercache_status_t status = ops->rkey_unpack(peer->fabric, blob, &rkey);
    if (status != PEERCACHE_OK) {
        region->broken = status != PEERCACHE_NO_MEMORY;
        return;
    }
    const void *base = ops->rkey_map(rkey, info->base, info->length);
    bool fits = base != NULL && page_fits(peer, info, base);
    if (fits) {
        region->mapping = pc_mappings_add(
            peer->peers->mappings, peer->member.incarnation, info->index, base,
            rkey, info->length, info->slots_offset, info->n_slots);
    }
    if (region->mapping == NULL && fits) {
        ops->rkey_release(rkey); /* No memory: again with the next use. */
    } else if (region->mapping == NULL) {
        PC_WARN("net", "region %u of %s cannot be mapped (%s)", info->index,
                peer->member.id.text,
                base == NULL ? "no access" : "not the memory it told of");
        region->broken = true;
        ops->rkey_release(rkey);
    }
}

static void unpack_region(struct pc_peer *peer, struct pc_peer_region *region)
{
    struct pc_blob blob = {region->rkey_bytes, region->info.rkey.len};
    peercache_status_t status = peer->peers->engine->fabric_ops->rkey_unpack(
        peer->fabric, blob, &region->rkey);
    if (status == PEERCACHE_NO_MEMORY) {
        region->rkey = NULL; /* Again with the next use. */
    } else if (status != PEERCACHE_OK) {
        PC_WARN("net", "rkey of region %u of %s is malformed",
                region->info.index, peer->member.id.text);
        region->rkey = NULL;
        region->broken = true;
    }
}

struct pc_peer_region *pc_paths_use(struct pc_peer *peer, uint32_t index)
{
    attach(peer); /* If the way broke, and it is time. */
    if (index >= peer->n_regions || !peer->regions[index].known) {
        return NULL;
    }
    struct pc_peer_region *region = &peer->regions[index];
    if (region->broken || region->info.rkey.len == 0) {
        return region;
    }
    if (region->mapping == NULL && pc_paths_can_map(peer)) {
        map_region(peer, region);
    }
    if (region->rkey == NULL && !region->broken && pc_paths_can_get(peer)) {
        unpack_region(peer, region);
    }
    return region;
}

void pc_paths_break(struct pc_peer *peer)
{
    if (peer->fabric == NULL || peer->detaching) {
        return;
    }
    peer->detaching = true;
    peer->path_failed = true;
    peer->peers->engine->fabric_ops->detach(peer->fabric, detached);
}

void pc_paths_end(struct pc_peer *peer)
{
    for (uint32_t i = 0; i < peer->n_regions; i++) {
        struct pc_peer_region *region = &peer->regions[i];
        if (region->mapping != NULL) {
            pc_mappings_drop(peer->peers->mappings, region->mapping);
            region->mapping = NULL;
        }
    }
    pc_paths_break(peer);
}
