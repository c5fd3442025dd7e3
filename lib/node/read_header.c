#include "read_header.h"

#include "base/mem.h"
#include "node/node.h"

#define HEADER_LEN sizeof(struct pc_slot_header)
/* A software get of 64 bytes costs what some 500 headers cost on their way. */
#define GAP_MAX   512u
#define SPAN_MAX  4096u /* Headers of one get. */
#define SOFT_GETS 2u    /* To one peer. */
#define KEPT_MIN  256u  /* Shorter ones are not worth keeping. */
/* How long a header waits for others; not at all where gets take long. */
#define HOLD_NS 1000000u
#define SLOW_NS 20000000u
/* Waits that are looked at for one get, and how often. */
#define LOOK_MAX   256u
#define ROUNDS_MAX 4u

/* One get, and who waits for it. */
struct pc_header_get
{
    struct pc_fabric_get get;
    struct peercache_node *node;
    struct pc_peer *peer;
    struct pc_list waits;
    uint32_t first; /* Slot. */
    uint32_t room;  /* Headers that bytes has room for. */
    uint64_t posted_ns;
    uint8_t bytes[];
};

/* One as long as they get is kept for the next: from the system it would come
 * as fresh pages, each a fault, for every batch. */
static struct pc_header_get *get_new(struct peercache_node *node, uint32_t n)
{
    struct pc_header_get *h = node->kept_headers;
    if (n <= KEPT_MIN || h == NULL) {
        uint32_t room = n <= KEPT_MIN ? n : SPAN_MAX;
        h = pc_alloc(1, sizeof(*h) + room * HEADER_LEN);
        if (h == NULL) {
            return NULL;
        }
        h->room = room;
    } else {
        node->kept_headers = NULL;
        *h = (struct pc_header_get){.room = h->room};
    }
    h->node = node;
    pc_list_init(&h->waits);
    return h;
}

static void get_free(struct pc_header_get *h)
{
    if (h->room == SPAN_MAX && h->node->kept_headers == NULL) {
        h->node->kept_headers = h;
        return;
    }
    pc_free(h);
}

void pc_header_fini(struct peercache_node *node)
{
    pc_free(node->kept_headers);
    node->kept_headers = NULL;
}

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
    struct pc_header_get *h = PC_CONTAINER_OF(get, struct pc_header_get, get);
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
    get_free(h);
    pc_pull_pump(node, peer);
    pc_header_pump(node, peer);
    pc_peer_unref(peer);
}

static peercache_status_t post(struct pc_header_get *h, uint32_t region_index,
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

/* Does slot come with [low, high] for less than a get of its own? */
static bool is_near(uint32_t low, uint32_t high, uint32_t slot)
{
    if (slot < low) {
        return low - slot <= GAP_MAX && high - slot < SPAN_MAX;
    }
    return slot <= high || (slot - high <= GAP_MAX && slot - low < SPAN_MAX);
}

/* Takes the oldest wait out, and those near it; the number of slots. */
static uint32_t gather(struct pc_peer *peer, struct pc_list *waits,
                       uint32_t *first_p)
{
    struct pc_header_wait *oldest =
        PC_CONTAINER_OF(peer->headers.next, struct pc_header_wait, link);
    uint32_t low = oldest->slot;
    uint32_t high = oldest->slot;
    pc_list_remove(&oldest->link);
    pc_list_push_back(waits, &oldest->link);
    bool grew = !peer->path.native;
    for (unsigned round = 0; grew && round < ROUNDS_MAX; round++) {
        struct pc_list *at = peer->headers.next;
        grew = false;
        for (uint32_t n = 0; n < LOOK_MAX && at != &peer->headers; n++) {
            struct pc_header_wait *wait =
                PC_CONTAINER_OF(at, struct pc_header_wait, link);
            at = at->next;
            if (wait->region == oldest->region &&
                is_near(low, high, wait->slot)) {
                low = wait->slot < low ? wait->slot : low;
                high = wait->slot > high ? wait->slot : high;
                pc_list_remove(&wait->link);
                pc_list_push_back(waits, &wait->link);
                grew = true;
            }
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
    struct pc_header_get *h = get_new(node, n);
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (h != NULL) {
        h->peer = peer;
        h->first = first;
        h->posted_ns = pc_engine_now(&node->engine);
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
        get_free(h);
    }
    tell(&waits, status == PEERCACHE_OK ? PEERCACHE_TRANSPORT : status, 0,
         NULL);
}

/* While data is under way its headers come later, and with this one. */
static bool is_due(const struct peercache_node *node,
                   const struct pc_peer *peer)
{
    if (pc_list_is_empty(&peer->headers)) {
        return false;
    }
    if (peer->path.native || peer->get_rtt_ns > SLOW_NS) {
        return peer->path.native || peer->n_header_gets < SOFT_GETS;
    }
    if (peer->n_header_gets >= SOFT_GETS) {
        return false;
    }
    if (peer->n_gets == peer->n_header_gets && pc_list_is_empty(&peer->pulls)) {
        return true;
    }
    const struct pc_header_wait *oldest =
        PC_CONTAINER_OF(peer->headers.next, struct pc_header_wait, link);
    return pc_engine_now(&node->engine) >= oldest->asked_ns + HOLD_NS;
}

/* No get of the peer has ended for so long. */
static void hold_over(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_peer *peer = PC_CONTAINER_OF(timer, struct pc_peer, header_timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(peer->peers, struct peercache_node, peers);
    (void)now_ns;
    pc_header_pump(node, peer);
}

/* Those that wait for a header get to end need no timer: its end looks. */
static void watch_oldest(struct peercache_node *node, struct pc_peer *peer)
{
    if (pc_list_is_empty(&peer->headers) || peer->n_header_gets >= SOFT_GETS) {
        return;
    }
    const struct pc_header_wait *oldest =
        PC_CONTAINER_OF(peer->headers.next, struct pc_header_wait, link);
    uint64_t due_ns = oldest->asked_ns + HOLD_NS;
    if (peer->header_due_ns != due_ns) {
        peer->header_due_ns = due_ns;
        peer->header_timer.fire = hold_over;
        pc_engine_timer_start(&node->engine, &peer->header_timer, due_ns);
    }
}

void pc_header_pump(struct peercache_node *node, struct pc_peer *peer)
{
    pc_peer_ref(peer);
    while (is_due(node, peer)) {
        post_some(node, peer);
    }
    watch_oldest(node, peer);
    pc_peer_unref(peer);
}

void pc_header_ask(struct peercache_node *node, struct pc_peer *peer,
                   struct pc_header_wait *wait)
{
    PC_ASSERT(!pc_list_is_linked(&wait->link));
    wait->asked_ns = pc_engine_now(&node->engine);
    pc_list_push_back(&peer->headers, &wait->link);
    pc_header_pump(node, peer);
}

void pc_header_leave(struct pc_header_wait *wait)
{
    pc_list_remove(&wait->link);
}
