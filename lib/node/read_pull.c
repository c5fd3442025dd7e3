/*
 * read_pull.c - a one-sided read of one value.
 *
 *     queued ─ window, chunks ─► data gets ─ all done ─► header get ─► proof
 *
 * The header is fetched after all data (rule 9): UCX orders nothing across
 * lanes. Gets land in the user's registered pieces, or, when the memory is not
 * registered or the operation ends soon, in bounce chunks of ours, so that its
 * end never has to wait for a peer. An ended operation leaves a bounced pull
 * behind as an orphan that only gives its chunks back; what the fabric has not
 * begun of it is taken back, so that ended operations keep none from the line.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"
#include "node/read_header.h"

#include <string.h>

/* Under way to one peer. Gets in software wait for a few lanes anyway: what
 * waits here instead ends with its operation, in order of arrival. */
#define WINDOW_BYTES      (64ull << 20)
#define WINDOW_GETS       256u
#define SOFT_WINDOW_BYTES (4ull << 20)
#define SOFT_WINDOW_GETS  32u
/* The longest single get: bounds what a cancel has to wait for. */
#define GET_MAX (4u << 20)
/* Operations with less time left do not let gets into user memory. */
#define DIRECT_MIN_NS (200 * PC_MS)

struct pull;

struct pull_get
{
    struct pc_fabric_get get;
    struct pc_list link; /* pull->gets */
    struct pull *pull;
    uint64_t posted_ns;
    uint64_t offset; /* In the value. */
    int32_t chunk;   /* Of the bounce memory, or -1. */
};

struct pull
{
    struct pc_read read;  /* op is NULL for an orphan. */
    struct pc_list queue; /* bounce.pulls or peer->pulls, while it waits. */
    struct pc_list gets;  /* Posted. */
    struct peercache_node *node;
    struct pc_peer *peer;
    struct pc_record record;
    struct pc_fabric_mem *mem; /* NULL: bounced. */
    uint32_t item;
    uint32_t n_open; /* Gets of data. */
    size_t piece;    /* Next byte to ask for. */
    uint64_t piece_offset;
    uint64_t offset;
    bool all_posted;
    bool has_header;
    bool ending; /* Post nothing more. */
    peercache_status_t failure;
    struct pc_header_wait wait;
    struct pc_slot_header header;
};

static struct pc_list *settle(struct pull *p);

/* ---- The end ---------------------------------------------------------- */

static void pull_free(struct pull *p)
{
    pc_header_leave(&p->wait);
    pc_list_remove(&p->queue);
    pc_peer_unref(p->peer);
    pc_free(p);
}

/* Let go of the operation; what is open lands in our own memory. */
static void leave_op(struct pull *p)
{
    if (p->read.op != NULL) {
        pc_list_remove(&p->read.link);
        p->read.op->n_under_way--;
        p->read.op = NULL;
    }
}

static bool header_proves(const struct pull *p)
{
    struct pc_slot_want want = {p->record.digest, p->record.generation,
                                p->record.length, p->record.offset};
    return pc_slot_matches(&p->header, &want);
}

static void judge(struct pull *p, struct peercache_op *op)
{
    const peercache_item_t *item = &op->items[p->item];
    if (p->failure != PEERCACHE_OK) {
        if (!op->stopping) {
            pc_get_item_broken_off(op, p->item);
        }
    } else if (!p->has_header) {
        return; /* Stopped half way. */
    } else if (!header_proves(p)) {
        pc_get_item_stale(op, p->item);
    } else if (op->node->settings.verify == PC_VERIFY_CHECKSUM &&
               pc_checksum_pieces(item->pieces, item->n_pieces) !=
                   p->record.checksum) {
        pc_get_item_corrupt(op, p->item);
    } else {
        pc_uses_note(op->node, p->record.incarnation, p->record.digest);
        pc_get_item_ok(op, p->item, PEERCACHE_FROM_ONE_SIDED);
    }
}

/* Nothing is open and nothing more will be posted. */
static void pull_end(struct pull *p)
{
    struct peercache_op *op = p->read.op;
    if (op != NULL) {
        judge(p, op);
        bool is_done = op->state[p->item].state == PC_ITEM_DONE;
        leave_op(p);
        /* Other items do not care how this one ended. */
        if (!is_done || op->n_under_way == 0) {
            pc_op_advance_soon(op);
        }
    }
    pull_free(p);
}

/* ---- Gets ------------------------------------------------------------- */

static void give_chunk(struct peercache_node *node, int32_t chunk)
{
    if (chunk >= 0) {
        node->bounce.free[node->bounce.n_free++] = (uint32_t)chunk;
    }
}

static int32_t take_chunk(struct peercache_node *node)
{
    if (node->bounce.n_free == 0) {
        return -1;
    }
    return (int32_t)node->bounce.free[--node->bounce.n_free];
}

/* Bytes of a bounce chunk go to their place in the user's pieces. */
static void scatter(const peercache_item_t *item, uint64_t offset,
                    const uint8_t *from, size_t len)
{
    for (size_t p = 0; p < item->n_pieces && len > 0; p++) {
        const peercache_piece_t *piece = &item->pieces[p];
        if (offset >= piece->len) {
            offset -= piece->len;
            continue;
        }
        size_t part = piece->len - (size_t)offset;
        if (part > len) {
            part = len;
        }
        memcpy((uint8_t *)piece->addr + offset, from, part);
        from += part;
        len -= part;
        offset = 0;
    }
}

static void get_done(struct pc_fabric_get *get, peercache_status_t status)
{
    struct pull_get *g = PC_CONTAINER_OF(get, struct pull_get, get);
    struct pull *p = g->pull;
    struct peercache_node *node = p->node;
    p->n_open--;
    pc_list_remove(&g->link);
    p->peer->n_gets--;
    p->peer->get_bytes -= get->len;
    node->peers.n_gets--;
    if (status == PEERCACHE_OK) {
        /* Its memory answers; its process need not (native reads). */
        pc_peer_get_came(p->peer, g->posted_ns);
        if (g->chunk >= 0 && p->read.op != NULL) {
            scatter(&p->read.op->items[p->item], g->offset,
                    node->bounce.base + (size_t)g->chunk * PC_BOUNCE_CHUNK,
                    get->len);
        }
    } else if (p->failure == PEERCACHE_OK) {
        p->failure = status;
    }
    give_chunk(node, g->chunk);
    pc_free(g);
    struct pc_peer *peer = pc_peer_ref(p->peer);
    bool over = p->failure != PEERCACHE_OK || p->ending;
    if (p->n_open == 0 && (over || p->all_posted)) {
        (void)settle(p); /* Its end, or its header, which waits for no room. */
    }
    pc_pull_pump(node, peer);
    pc_header_pump(node, peer);
    pc_peer_unref(peer);
}

static bool window_has_room(const struct pc_peer *peer, size_t len)
{
    unsigned gets = peer->path.native ? WINDOW_GETS : SOFT_WINDOW_GETS;
    uint64_t bytes = peer->path.native ? WINDOW_BYTES : SOFT_WINDOW_BYTES;
    return peer->n_gets < gets &&
           (peer->n_gets == 0 || peer->get_bytes + len <= bytes);
}

/* False: it failed for good. */
static bool post(struct pull *p, uint64_t remote, void *local, size_t len,
                 int32_t chunk)
{
    struct pull_get *g = pc_alloc(1, sizeof(*g));
    if (g == NULL) {
        p->failure = PEERCACHE_NO_MEMORY;
        return false;
    }
    const struct pc_peer_region *region = &p->peer->regions[p->record.region];
    g->pull = p;
    g->posted_ns = pc_engine_now(&p->node->engine);
    g->chunk = chunk;
    g->offset = p->offset;
    g->get.peer = p->peer->fabric;
    g->get.rkey = region->rkey;
    g->get.remote_addr = region->info.base + remote;
    g->get.local = local;
    g->get.len = len;
    g->get.mem = chunk >= 0 ? p->node->bounce.mem : p->mem;
    g->get.done = get_done;
    peercache_status_t status = PEERCACHE_UNREACHABLE;
    if (pc_paths_can_get(p->peer) && region->rkey != NULL) {
        status = p->node->engine.fabric_ops->get(&g->get);
    }
    if (status != PEERCACHE_IN_PROGRESS) {
        p->failure = status == PEERCACHE_OK ? PEERCACHE_TRANSPORT : status;
        pc_free(g);
        return false;
    }
    p->n_open++;
    pc_list_push_back(&p->gets, &g->link);
    if (p->peer->n_gets == 0) {
        p->peer->get_heard_ns = g->posted_ns;
    }
    pc_peer_watch(p->peer);
    p->peer->n_gets++;
    p->peer->get_bytes += len;
    p->node->peers.n_gets++;
    return true;
}

/* The next part of the value; false: no room now, or failed. */
static bool post_part(struct pull *p)
{
    const peercache_item_t *item = &p->read.op->items[p->item];
    while (p->piece < item->n_pieces &&
           p->piece_offset >= item->pieces[p->piece].len) {
        p->piece++;
        p->piece_offset = 0;
    }
    int32_t chunk = -1;
    uint64_t len;
    void *local;
    if (p->mem == NULL) {
        len = p->record.length - p->offset;
        len = len > PC_BOUNCE_CHUNK ? PC_BOUNCE_CHUNK : len;
        if (!window_has_room(p->peer, len) ||
            (chunk = take_chunk(p->node)) < 0) {
            return false;
        }
        local = p->node->bounce.base + (size_t)chunk * PC_BOUNCE_CHUNK;
    } else {
        len = item->pieces[p->piece].len - p->piece_offset;
        len = len > GET_MAX ? GET_MAX : len;
        if (!window_has_room(p->peer, len)) {
            return false;
        }
        local = (uint8_t *)item->pieces[p->piece].addr + p->piece_offset;
    }
    if (!post(p, p->record.offset + p->offset, local, len, chunk)) {
        give_chunk(p->node, chunk);
        return false;
    }
    p->offset += len;
    p->piece_offset += p->mem == NULL ? 0 : len;
    p->all_posted = p->offset == p->record.length;
    return true;
}

static void header_came(struct pc_header_wait *wait, peercache_status_t status,
                        const void *header)
{
    struct pull *p = PC_CONTAINER_OF(wait, struct pull, wait);
    PC_ASSERT(p->n_open == 0); /* It proves what came before. */
    if (header != NULL) {
        memcpy(&p->header, header, sizeof(p->header));
        p->has_header = true;
    } else if (p->failure == PEERCACHE_OK) {
        p->failure = status;
    }
    pull_end(p);
}

/* Post what can be posted; true: there is more. */
static bool feed(struct pull *p)
{
    if (p->read.op == NULL || p->ending) {
        return false;
    }
    while (!p->all_posted && post_part(p)) {
    }
    return !p->all_posted && p->failure == PEERCACHE_OK;
}

/* Post what can be posted now. The list to wait in for more room; NULL: the
 * pull needs none, or it has ended and is no more. */
static struct pc_list *settle(struct pull *p)
{
    struct pc_bounce *b = &p->node->bounce;
    bool more = feed(p);
    if (p->n_open == 0 &&
        (p->failure != PEERCACHE_OK || p->ending || p->read.op == NULL)) {
        pull_end(p);
        return NULL;
    }
    if (p->all_posted && p->n_open == 0) {
        pc_header_ask(p->node, p->peer, &p->wait); /* Which may end it. */
        return NULL;
    }
    if (!more) {
        return NULL;
    }
    return p->mem == NULL && b->n_free == 0 ? &b->pulls : &p->peer->pulls;
}

/* A get of this peer has ended, and may have given back a chunk: those that
 * wait longest go on. Looks only at pulls that can, but for one: with thousands
 * of them waiting, a look at all for each get would take their square. Who
 * waits in a peer's list is looked at again, for a peer's full window means
 * that gets are under way. */
void pc_pull_pump(struct peercache_node *node, struct pc_peer *peer)
{
    struct pc_list *chunks = &node->bounce.pulls;
    struct pc_list *at;
    while ((at = pc_list_pop_front(&peer->pulls)) != NULL) {
        struct pc_list *list = settle(PC_CONTAINER_OF(at, struct pull, queue));
        if (list == &peer->pulls) {
            pc_list_push_front(list, at);
            break;
        }
        if (list != NULL) {
            pc_list_push_back(list, at);
        }
    }
    while (node->bounce.n_free > 0 &&
           (at = pc_list_pop_front(chunks)) != NULL) {
        struct pc_list *list = settle(PC_CONTAINER_OF(at, struct pull, queue));
        if (list != NULL) {
            pc_list_push_back(list, at);
        }
    }
}

/* ---- For the operation ------------------------------------------------ */

/* True: nothing of it is under way any more, and its end comes at once. */
static bool take_back(struct pull *p)
{
    bool all = true;
    for (struct pc_list *at = p->gets.next; at != &p->gets; at = at->next) {
        struct pull_get *g = PC_CONTAINER_OF(at, struct pull_get, link);
        all = p->node->engine.fabric_ops->cancel(&g->get) && all;
    }
    return all;
}

static void pull_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct pull *p = PC_CONTAINER_OF(read, struct pull, read);
    p->ending = true;
    if (p->n_open == 0) {
        leave_op(p);
        pull_free(p);
        return;
    }
    bool is_over = take_back(p);
    if (p->mem == NULL) {
        leave_op(p); /* Nothing lands in the user's memory any more. */
        return;
    }
    if (verdict != PEERCACHE_CANCELED && !is_over) {
        pc_paths_break(p->peer); /* The only way to end gets (rule 9). */
    }
}

bool pc_read_pull(struct peercache_op *op, struct pc_peer *peer, uint32_t item)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[item];
    struct pull *p = pc_alloc(1, sizeof(*p));
    if (p == NULL) {
        return false;
    }
    p->record = state->places[state->at];
    uint64_t now = pc_engine_now(&node->engine);
    if (op->deadline_ns > now + DIRECT_MIN_NS) {
        p->mem = pc_mem_cover(node, &op->items[item]);
    }
    if (p->mem == NULL && node->bounce.base == NULL) {
        pc_free(p);
        return false;
    }
    p->read.op = op;
    p->read.stop = pull_stop;
    p->node = node;
    p->peer = pc_peer_ref(peer);
    p->item = item;
    p->failure = PEERCACHE_OK;
    p->wait.region = p->record.region;
    p->wait.slot = p->record.slot;
    p->wait.came = header_came;
    pc_list_init(&p->wait.link);
    pc_list_init(&p->queue);
    pc_list_init(&p->gets);
    pc_list_push_back(&op->reads, &p->read.link);
    op->n_under_way++;
    state->state = PC_ITEM_READING;
    state->flags |= PC_ITEM_TOUCHED;
    /* Who came before goes first. */
    struct pc_list *list = &peer->pulls;
    if (p->mem == NULL && !pc_list_is_empty(&node->bounce.pulls)) {
        list = &node->bounce.pulls;
    } else if (pc_list_is_empty(list)) {
        list = settle(p);
    }
    if (list != NULL) {
        pc_list_push_back(list, &p->queue);
    }
    return true;
}

void pc_bounce_init(struct peercache_node *node)
{
    struct pc_bounce *b = &node->bounce;
    pc_list_init(&b->pulls);
    atomic_init(&b->coming, true);
    b->n_free = PC_BOUNCE_CHUNKS;
    for (uint32_t i = 0; i < PC_BOUNCE_CHUNKS; i++) {
        b->free[i] = PC_BOUNCE_CHUNKS - 1 - i;
    }
}

void pc_bounce_fini(struct peercache_node *node)
{
    PC_ASSERT(node->bounce.n_free == PC_BOUNCE_CHUNKS);
    PC_ASSERT(pc_list_is_empty(&node->bounce.pulls));
    if (node->bounce.mem != NULL) {
        node->fabric_ops->mem_deregister(node->bounce.mem);
    }
    pc_free(node->bounce.base);
}
