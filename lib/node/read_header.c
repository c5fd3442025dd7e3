#include "read_header.h"

#include "base/mem.h"
#include "node/node.h"

#define HEADER_LEN sizeof(struct pc_slot_header)
/* Headers of one get; gets to one peer; waits that are looked at for one. */
#define SPAN_MAX  64u
#define SOFT_GETS 2u
#define LOOK_MAX  256u

/* One get, and who waits for it. */
struct header_get
{
    struct pc_fabric_get get;
    struct peercache_node *node;
    struct pc_peer *peer;
    struct pc_list waits;
    uint32_t first; /* Slot. */
    uint64_t posted_ns;
    uint8_t bytes[];
};

static void post_waiting(struct peercache_node *node, struct pc_peer *peer);

static void tell(struct pc_list *waits, peercache_status_t status,
                 uint32_t first, const uint8_t *bytes)
{
    struct pc_list *at;
    while ((at = pc_list_pop_front(waits)) != NULL) {
        struct pc_header_wait *wait =
            PC_CONTAINER_OF(at, struct pc_header_wait, link);
        wait->came(wait, status,
                   bytes == NULL
                       ? NULL
                       : bytes + (size_t)(wait->slot - first) * HEADER_LEN);
    }
}

static void get_done(struct pc_fabric_get *get, peercache_status_t status)
{
    struct header_get *h = PC_CONTAINER_OF(get, struct header_get, get);
    struct peercache_node *node = h->node;
    struct pc_peer *peer = h->peer;
    peer->n_gets--;
    peer->n_header_gets--;
    peer->get_bytes -= get->len;
    node->peers.n_gets--;
    if (status == PEERCACHE_OK) {
        pc_peer_get_came(peer, h->posted_ns);
    }
    tell(&h->waits, status, h->first, status == PEERCACHE_OK ? h->bytes : NULL);
    pc_free(h);
    post_waiting(node, peer);
    pc_pull_pump(node, peer);
    pc_peer_unref(peer);
}

static peercache_status_t post(struct header_get *h, uint32_t region_index,
                               uint32_t n)
{
    struct pc_peer *peer = h->peer;
    if (!pc_paths_can_get(peer) || region_index >= peer->n_regions ||
        peer->regions[region_index].rkey == NULL) {
        return PEERCACHE_UNREACHABLE;
    }
    const struct pc_peer_region *region = &peer->regions[region_index];
    h->get.peer = peer->fabric;
    h->get.rkey = region->rkey;
    h->get.remote_addr = region->info.base + region->info.slots_offset +
                         (uint64_t)h->first * HEADER_LEN;
    h->get.local = h->bytes;
    h->get.len = n * HEADER_LEN;
    h->get.first = true;
    h->get.done = get_done;
    return h->node->engine.fabric_ops->get(&h->get);
}

/* Takes the oldest wait out, and those near it; the number of slots. */
static uint32_t gather(struct pc_peer *peer, struct pc_list *waits,
                       uint32_t *first_p)
{
    struct pc_header_wait *oldest =
        PC_CONTAINER_OF(peer->headers.next, struct pc_header_wait, link);
    uint32_t low = oldest->slot;
    uint32_t high = oldest->slot;
    uint32_t n_most = peer->path.native ? 1 : LOOK_MAX;
    struct pc_list *at = peer->headers.next;
    for (uint32_t n = 0; n < n_most && at != &peer->headers; n++) {
        struct pc_header_wait *wait =
            PC_CONTAINER_OF(at, struct pc_header_wait, link);
        at = at->next;
        uint32_t to_low = wait->slot < low ? wait->slot : low;
        uint32_t to_high = wait->slot > high ? wait->slot : high;
        if (wait->region == oldest->region && to_high - to_low < SPAN_MAX) {
            low = to_low;
            high = to_high;
            pc_list_remove(&wait->link);
            pc_list_push_back(waits, &wait->link);
        }
    }
    *first_p = low;
    return high - low + 1;
}

/* The oldest, with its neighbours. */
static void post_some(struct peercache_node *node, struct pc_peer *peer)
{
    struct pc_list waits;
    uint32_t first;
    pc_list_init(&waits);
    uint32_t region =
        PC_CONTAINER_OF(peer->headers.next, struct pc_header_wait, link)
            ->region;
    uint32_t n = gather(peer, &waits, &first);
    struct header_get *h = pc_alloc(1, sizeof(*h) + n * HEADER_LEN);
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (h != NULL) {
        h->node = node;
        h->peer = peer;
        h->first = first;
        h->posted_ns = pc_engine_now(&node->engine);
        pc_list_init(&h->waits);
        pc_list_splice_back(&h->waits, &waits);
        status = post(h, region, n);
        if (status == PEERCACHE_IN_PROGRESS) {
            pc_peer_ref(peer);
            pc_peer_watch(peer);
            if (peer->n_gets++ == 0) {
                peer->get_heard_ns = h->posted_ns;
            }
            peer->n_header_gets++;
            peer->get_bytes += h->get.len;
            node->peers.n_gets++;
            return;
        }
        pc_list_splice_back(&waits, &h->waits);
        pc_free(h);
    }
    tell(&waits, status == PEERCACHE_OK ? PEERCACHE_TRANSPORT : status, 0,
         NULL);
}

static void post_waiting(struct peercache_node *node, struct pc_peer *peer)
{
    pc_peer_ref(peer); /* Who is told may let go of it. */
    while (!pc_list_is_empty(&peer->headers) &&
           (peer->path.native || peer->n_header_gets < SOFT_GETS)) {
        post_some(node, peer);
    }
    pc_peer_unref(peer);
}

void pc_header_ask(struct peercache_node *node, struct pc_peer *peer,
                   struct pc_header_wait *wait)
{
    PC_ASSERT(!pc_list_is_linked(&wait->link));
    pc_list_push_back(&peer->headers, &wait->link);
    post_waiting(node, peer);
}

void pc_header_leave(struct pc_header_wait *wait)
{
    pc_list_remove(&wait->link);
}
