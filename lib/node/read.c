/*
 * read.c - which way the bytes of a holder come.
 */
#include "read.h"

#include "node/node.h"

static bool lies_inside(const struct pc_peer_region *region,
                        const struct pc_record *record)
{
    const struct pc_msg_region *info = &region->info;
    return record->slot < info->n_slots && record->offset <= info->length &&
           record->length <= info->length - record->offset;
}

/* The way is not known yet: wait a while, then do without if that is allowed.
 */
static enum pc_read_way unknown(const struct peercache_node *node, bool waited)
{
    if (!waited) {
        return PC_WAY_LATER;
    }
    return node->settings.read_mode == PC_READ_MODE_AUTO ||
                   node->settings.read_mode == PC_READ_MODE_SERVED
               ? PC_WAY_SERVED
               : PC_WAY_NONE;
}

static enum pc_read_way forced_one_sided(const struct peercache_node *node,
                                         const struct pc_peer *peer,
                                         const struct pc_peer_region *region,
                                         bool no_get, bool waited)
{
    if (no_get) {
        return PC_WAY_NONE;
    }
    /* acquire: pairs with the release when the bounce memory has come. */
    if (!waited &&
        atomic_load_explicit(&node->bounce.coming, memory_order_acquire)) {
        return PC_WAY_LATER;
    }
    if (pc_paths_can_get(peer) && region != NULL && region->rkey != NULL) {
        return PC_WAY_ONE_SIDED;
    }
    return waited ? PC_WAY_NONE : PC_WAY_LATER;
}

/* RDMA asks nothing of the owner's process: it may be silent, as long as its
 * memory answers. */
static bool can_do_alone(const struct peercache_node *node,
                         const struct pc_peer *peer,
                         const struct pc_peer_region *region, bool no_get)
{
    enum pc_read_mode mode = node->settings.read_mode;
    return (mode == PC_READ_MODE_AUTO || mode == PC_READ_MODE_ONE_SIDED) &&
           !no_get && !peer->gone && peer->greeted && pc_paths_can_get(peer) &&
           peer->path.native && region != NULL && region->rkey != NULL;
}

enum pc_read_way pc_read_way(struct peercache_node *node, struct pc_peer *peer,
                             const struct pc_record *record, bool no_get,
                             bool waited)
{
    enum pc_read_mode mode = node->settings.read_mode;
    if (pc_record_is_on_disk(record)) {
        bool served = mode == PC_READ_MODE_AUTO || mode == PC_READ_MODE_SERVED;
        return !pc_peer_is_usable(peer) ? PC_WAY_DOWN
               : served                 ? PC_WAY_SERVED
                                        : PC_WAY_PROMOTE;
    }
    struct pc_peer_region *region = pc_paths_use(peer, record->region);
    if (region != NULL && !lies_inside(region, record)) {
        return PC_WAY_NONE; /* No place in that region. */
    }
    if (region != NULL && region->mapping != NULL &&
        (mode == PC_READ_MODE_AUTO || mode == PC_READ_MODE_MAPPED)) {
        return PC_WAY_MAPPED; /* Also while its owner is silent. */
    }
    if (!pc_peer_is_usable(peer)) {
        return can_do_alone(node, peer, region, no_get) ? PC_WAY_ONE_SIDED
                                                        : PC_WAY_DOWN;
    }
    if (mode == PC_READ_MODE_SERVED) {
        return PC_WAY_SERVED;
    }
    pc_peer_greet(peer); /* Also again: its memory went with a connection. */
    if (!peer->greeted) {
        return unknown(node, waited);
    }
    if (mode == PC_READ_MODE_ONE_SIDED) {
        return forced_one_sided(node, peer, region, no_get, waited);
    }
    if (mode == PC_READ_MODE_MAPPED) {
        bool hope =
            region == NULL || (!region->broken && peer->fabric != NULL &&
                               peer->path.status == PEERCACHE_IN_PROGRESS);
        return hope ? unknown(node, waited) : PC_WAY_NONE;
    }
    if (peer->path.status == PEERCACHE_IN_PROGRESS && peer->fabric != NULL) {
        return unknown(node, waited);
    }
    if (!no_get && pc_paths_can_get(peer) && peer->path.native &&
        region != NULL && region->rkey != NULL) {
        return PC_WAY_ONE_SIDED;
    }
    return PC_WAY_SERVED;
}
