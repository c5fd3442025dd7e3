/*
 * read_served.c - a served read: one request to a holder, whose answer carries
 * the values straight into the user's pieces.
 *
 * The owner finds each value by its digest, pins it and sends it from the pool,
 * so what arrives whole is proven: incarnation by the connection, generation,
 * digest and length by the answer, the checksum if the policy asks for it.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

struct served_item
{
    uint32_t item;
    int8_t status; /* The owner's; AGAIN until it has answered. */
    uint64_t end;  /* In the body. */
    uint64_t length;
    uint64_t checksum;
};

struct served
{
    struct pc_read read;
    struct pc_rpc rpc;
    peercache_piece_t *pieces;
    uint32_t n_items;
    struct served_item items[];
};

static void served_free(struct served *s)
{
    pc_list_remove(&s->read.link);
    s->read.op->n_under_way--;
    pc_free(s->pieces);
    pc_free(s);
}

/* The owner's word on each value; false: it makes no sense. */
static bool take_head(struct served *s, const struct pc_msg *reply,
                      uint64_t *body_p)
{
    const struct pc_msg_pages *pages = &reply->u.pages;
    struct peercache_op *op = s->read.op;
    uint64_t at = 0;
    if (reply->type != PC_MSG_PAGES || pages->n_keys != s->n_items ||
        pages->incarnation != s->rpc.peer->member.incarnation) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_items; i++) {
        struct served_item *item = &s->items[i];
        item->status = pages->statuses[i];
        item->length = pages->lengths[i];
        item->checksum = pages->checksums[i];
        if (item->status == PEERCACHE_OK) {
            if (item->length != op->state[item->item].length ||
                (pages->generations[i] & 1) != 0) {
                return false;
            }
            at += item->length;
        }
        item->end = at;
    }
    *body_p = at;
    return true;
}

static bool served_body(struct pc_rpc *rpc, const struct pc_msg *reply,
                        size_t body_len)
{
    struct served *s = PC_CONTAINER_OF(rpc, struct served, rpc);
    struct peercache_op *op = s->read.op;
    uint64_t body;
    if (!take_head(s, reply, &body) || body != body_len) {
        return false;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_items; i++) {
        n += op->items[s->items[i].item].n_pieces;
    }
    s->pieces = pc_alloc(n, sizeof(*s->pieces));
    if (s->pieces == NULL) {
        return false;
    }
    n = 0;
    for (uint32_t i = 0; i < s->n_items; i++) {
        const peercache_item_t *item = &op->items[s->items[i].item];
        if (s->items[i].status == PEERCACHE_OK) {
            op->state[s->items[i].item].flags |= PC_ITEM_TOUCHED;
        }
        for (size_t p = 0;
             s->items[i].status == PEERCACHE_OK && p < item->n_pieces; p++) {
            s->pieces[n++] = item->pieces[p];
        }
    }
    rpc->sink.pieces = s->pieces;
    rpc->sink.n_pieces = n;
    return true;
}

static void delivered(struct peercache_op *op, uint32_t item)
{
    const struct pc_op_item *state = &op->state[item];
    const struct pc_record *place = &state->places[state->at];
    if (!pc_record_is_on_disk(place)) {
        pc_get_item_ok(op, item, PEERCACHE_FROM_SERVED);
        return;
    }
    /* It is in its holder's pool now: the next lookup tells where. */
    pc_cache_drop(op->node->cache, place);
    pc_get_item_ok(op, item, PEERCACHE_FROM_DISK);
}

static void take_item(struct served *s, const struct served_item *item,
                      bool moved)
{
    struct peercache_op *op = s->read.op;
    const peercache_item_t *user = &op->items[item->item];
    switch (item->status) {
    case PEERCACHE_OK:
        if (op->node->settings.verify == PC_VERIFY_CHECKSUM &&
            pc_checksum_pieces(user->pieces, user->n_pieces) !=
                item->checksum) {
            pc_get_item_corrupt(op, item->item);
        } else {
            delivered(op, item->item);
        }
        break;
    case PEERCACHE_AGAIN:
        pc_get_item_busy(op, item->item, moved);
        break;
    case PEERCACHE_SIZE_MISMATCH:
        pc_get_item_other_size(op, item->item, item->length);
        break;
    case PEERCACHE_NOT_FOUND:
        op->state[item->item].flags |= PC_ITEM_SERVED;
        pc_get_item_stale(op, item->item);
        break;
    default:
        pc_get_item_down(op, item->item);
        break;
    }
}

static void served_done(struct pc_rpc *rpc, peercache_status_t status,
                        const struct pc_msg *reply)
{
    struct served *s = PC_CONTAINER_OF(rpc, struct served, rpc);
    struct peercache_op *op = s->read.op;
    uint64_t body = 0;
    uint64_t landed = rpc->sink.landed;
    if (reply != NULL && (!take_head(s, reply, &body) || body != 0)) {
        status = PEERCACHE_PROTOCOL;
    }
    bool moved = false;
    for (uint32_t i = 0; i < s->n_items; i++) {
        moved = moved || s->items[i].status == PEERCACHE_OK;
    }
    for (uint32_t i = 0; i < s->n_items; i++) {
        struct served_item *item = &s->items[i];
        /* What has landed whole counts, however the request ended (I7). */
        bool whole = s->pieces != NULL && item->status == PEERCACHE_OK &&
                     item->end <= landed;
        if (status == PEERCACHE_OK || whole) {
            take_item(s, item, moved);
        } else if (!op->stopping && status == PEERCACHE_AGAIN) {
            pc_get_item_busy(op, item->item, false); /* It has much to do. */
        } else if (!op->stopping) {
            pc_get_item_down(op, item->item);
        }
    }
    served_free(s);
    pc_op_advance(op);
}

static void served_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct served *s = PC_CONTAINER_OF(read, struct served, read);
    if (pc_rpc_stop(&s->rpc, verdict)) {
        served_free(s);
    }
}

static bool request(struct peercache_op *op, struct pc_peer *peer,
                    const uint32_t *items, uint32_t n)
{
    struct served *s = pc_alloc(1, sizeof(*s) + n * sizeof(s->items[0]));
    struct pc_record *records = pc_alloc(n, sizeof(*records));
    if (s == NULL || records == NULL) {
        pc_free(s);
        pc_free(records);
        return false;
    }
    s->read.op = op;
    s->read.stop = served_stop;
    s->rpc.done = served_done;
    s->rpc.body = served_body;
    s->rpc.breakable = true;
    s->n_items = n;
    for (uint32_t i = 0; i < n; i++) {
        struct pc_op_item *state = &op->state[items[i]];
        s->items[i].item = items[i];
        s->items[i].status = PEERCACHE_AGAIN;
        records[i] = state->places[state->at];
    }
    struct pc_msg msg = {.type = PC_MSG_READ};
    msg.u.read.flags = PC_READ_CHECKSUM;
    msg.u.read.n_keys = n;
    msg.u.read.records = records;
    msg.u.read.wait_ns = pc_read_patience(op);
    peercache_status_t status =
        pc_rpc_start(&s->rpc, peer, PC_LINK_BULK, &msg,
                     op->deadline_ns + PC_S); /* The operation ends it. */
    pc_free(records);
    if (status != PEERCACHE_OK) {
        pc_free(s);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        op->state[items[i]].state = PC_ITEM_READING;
    }
    pc_list_push_back(&op->reads, &s->read.link);
    op->n_under_way++;
    return true;
}

/* Several requests are under way at once, and a broken connection costs no more
 * than one's bytes. */
bool pc_read_served(struct peercache_op *op, struct pc_peer *peer,
                    const uint32_t *items, size_t n)
{
    size_t first = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += op->state[items[i]].length;
        bool last = i + 1 == n;
        if (last || i + 1 - first == PC_KEYS_PER_REQUEST ||
            bytes + op->state[items[i + 1]].length > PC_ANSWER_BYTES_MAX) {
            if (!request(op, peer, items + first, (uint32_t)(i + 1 - first))) {
                return false;
            }
            first = i + 1;
            bytes = 0;
        }
    }
    return true;
}
