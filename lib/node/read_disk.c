/*
 * read_disk.c - values on a disk come into a pool before they are read: from
 * our own disk into our pool, and, for the read modes that need a place in
 * memory, from a peer's disk into its pool.
 */
#include "base/mem.h"
#include "node/node.h"

/* ---- Our own ------------------------------------------------------------ */

struct local
{
    struct pc_read read;
    struct pc_promote_wait wait;
    uint32_t item;
};

static struct peercache_op *local_free(struct local *local)
{
    struct peercache_op *op = local->read.op;
    pc_promote_stop(&local->wait);
    pc_list_remove(&local->read.link);
    op->n_under_way--;
    pc_free(local);
    return op;
}

static void local_done(struct pc_promote_wait *wait, peercache_status_t status,
                       struct pc_pin *pin)
{
    struct local *local = PC_CONTAINER_OF(wait, struct local, wait);
    struct pc_op_item *state = &local->read.op->state[local->item];
    struct peercache_node *node = local->read.op->node;
    if (status == PEERCACHE_OK && pin->place.length == state->length) {
        state->u.pin = *pin;
        state->state = PC_ITEM_PINNED;
    } else {
        if (status == PEERCACHE_OK) {
            pc_store_unpin(node->store, pin);
        }
        pc_tier_unpinned(node->tier, state->length);
        if (status == PEERCACHE_AGAIN) {
            state->flags |= PC_ITEM_BUSY;
        }
        state->state = PC_ITEM_LOOKUP; /* Another node may have it. */
    }
    pc_op_advance_soon(local_free(local));
}

static void local_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct local *local = PC_CONTAINER_OF(read, struct local, read);
    (void)verdict;
    pc_tier_unpinned(read->op->node->tier, read->op->state[local->item].length);
    (void)local_free(local);
}

uint64_t pc_read_pinned(const struct peercache_op *op)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_PINNED ||
            op->state[i].state == PC_ITEM_READING) {
            bytes += op->state[i].length;
        }
    }
    return bytes;
}

/* Gone from the disk since we looked, but in the pool, by another's hand. */
static bool is_in_pool(struct peercache_op *op, uint32_t item)
{
    struct pc_op_item *state = &op->state[item];
    struct pc_pin pin;
    if (!pc_store_pin(op->node->store, state->digest, &pin)) {
        return false;
    }
    if (pin.place.length != state->length) {
        pc_store_unpin(op->node->store, &pin);
        return false;
    }
    state->u.pin = pin;
    state->state = PC_ITEM_PINNED;
    return true;
}

bool pc_read_disk(struct peercache_op *op, uint32_t item, uint64_t *pinned_p)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[item];
    if (!pc_tier_may_pin(node->tier, *pinned_p, state->length)) {
        return false;
    }
    *pinned_p += state->length;
    struct local *local = pc_alloc(1, sizeof(*local));
    peercache_status_t status = PEERCACHE_AGAIN;
    if (local != NULL) {
        local->read.op = op;
        local->read.stop = local_stop;
        local->wait.done = local_done;
        local->item = item;
        pc_list_init(&local->read.link);
        pc_list_init(&local->wait.link);
        status = pc_promote(node, state->digest, &local->wait);
    }
    if (status == PEERCACHE_OK) {
        state->state = PC_ITEM_READING;
        pc_list_push_back(&op->reads, &local->read.link);
        op->n_under_way++;
        return true;
    }
    pc_free(local);
    if (status == PEERCACHE_NOT_FOUND && is_in_pool(op, item)) {
        return true;
    }
    pc_tier_unpinned(node->tier, state->length);
    *pinned_p -= state->length;
    if (status == PEERCACHE_AGAIN) {
        state->flags |= PC_ITEM_BUSY;
    }
    state->state = PC_ITEM_LOOKUP; /* Another node may have it. */
    return true;
}

/* ---- A peer's ------------------------------------------------------------ */

struct remote
{
    struct pc_read read;
    struct pc_rpc rpc;
    uint32_t n_items;
    uint32_t items[];
};

uint64_t pc_read_patience(const struct peercache_op *op)
{
    uint64_t now_ns = pc_engine_now(&op->node->engine);
    return op->deadline_ns > now_ns ? op->deadline_ns - now_ns : 0;
}

static void remote_free(struct remote *remote)
{
    pc_list_remove(&remote->read.link);
    remote->read.op->n_under_way--;
    pc_free(remote);
}

/* A holder speaks of the value that was asked for, and of its own pool. */
static bool is_place(const struct remote *remote, uint32_t item,
                     const struct pc_record *record)
{
    const struct pc_op_item *state = &remote->read.op->state[item];
    return pc_digest_equal(record->digest, state->digest) &&
           record->incarnation == remote->rpc.peer->member.incarnation &&
           record->length == state->length && !pc_record_is_on_disk(record);
}

static void take_place(struct remote *remote, uint32_t item, int8_t status,
                       const struct pc_record *record, bool moved)
{
    struct peercache_op *op = remote->read.op;
    struct pc_op_item *state = &op->state[item];
    if (status == PEERCACHE_OK && is_place(remote, item, record)) {
        pc_cache_drop(op->node->cache, &state->places[state->at]);
        state->places[state->at] = *record;
        state->flags &= (uint16_t)~PC_ITEM_SERVED;
        state->state = PC_ITEM_READY;
    } else if (status == PEERCACHE_AGAIN) {
        pc_get_item_busy(op, item, moved);
    } else {
        state->flags |= PC_ITEM_MOVED; /* It has just said so. */
        pc_get_item_stale(op, item);
    }
}

static void remote_done(struct pc_rpc *rpc, peercache_status_t status,
                        const struct pc_msg *reply)
{
    struct remote *remote = PC_CONTAINER_OF(rpc, struct remote, rpc);
    struct peercache_op *op = remote->read.op;
    const struct pc_msg_promoted *said =
        reply != NULL ? &reply->u.promoted : NULL;
    bool good = status == PEERCACHE_OK && reply != NULL &&
                reply->type == PC_MSG_PROMOTED &&
                said->n_keys == remote->n_items;
    uint32_t n_taken = 0; /* The codec has counted the records. */
    for (uint32_t i = 0; i < remote->n_items && !op->stopping; i++) {
        if (status == PEERCACHE_AGAIN) {
            pc_get_item_busy(op, remote->items[i], false);
            continue;
        }
        if (status == PEERCACHE_UNSUPPORTED) {
            /* It has no disk: what it has given up is gone. */
            take_place(remote, remote->items[i], PEERCACHE_NOT_FOUND, NULL,
                       false);
            continue;
        }
        if (!good) {
            pc_get_item_down(op, remote->items[i]);
            continue;
        }
        bool ok = said->statuses[i] == PEERCACHE_OK;
        take_place(remote, remote->items[i], said->statuses[i],
                   ok ? &said->records[n_taken] : NULL, said->n_records > 0);
        n_taken += ok;
    }
    remote_free(remote);
    pc_op_advance(op);
}

static void remote_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct remote *remote = PC_CONTAINER_OF(read, struct remote, read);
    /* Answers have no body, so it is over at once. */
    (void)pc_rpc_stop(&remote->rpc, verdict);
    remote_free(remote);
}

bool pc_read_promote(struct peercache_op *op, struct pc_peer *peer,
                     const uint32_t *items, size_t n)
{
    PC_ASSERT(n > 0 && n <= PC_PROMOTED_AT_ONCE);
    struct remote *remote =
        pc_alloc(1, sizeof(*remote) + n * sizeof(remote->items[0]));
    struct pc_record records[PC_PROMOTED_AT_ONCE];
    if (remote == NULL) {
        return false;
    }
    for (size_t k = 0; k < n; k++) {
        const struct pc_op_item *state = &op->state[items[k]];
        remote->items[k] = items[k];
        records[k] = state->places[state->at];
    }
    remote->n_items = (uint32_t)n;
    remote->read.op = op;
    remote->read.stop = remote_stop;
    remote->rpc.done = remote_done;
    remote->rpc.body = NULL;
    remote->rpc.breakable = true;
    struct pc_msg msg = {.type = PC_MSG_PROMOTE};
    msg.u.read.flags = PC_READ_CHECKSUM;
    msg.u.read.n_keys = (uint32_t)n;
    msg.u.read.records = records;
    msg.u.read.wait_ns = pc_read_patience(op);
    if (pc_rpc_start(&remote->rpc, peer, PC_LINK_CONTROL, &msg,
                     op->deadline_ns) != PEERCACHE_OK) {
        pc_free(remote);
        return false;
    }
    for (size_t k = 0; k < n; k++) {
        op->state[items[k]].state = PC_ITEM_READING;
    }
    pc_list_push_back(&op->reads, &remote->read.link);
    op->n_under_way++;
    return true;
}
