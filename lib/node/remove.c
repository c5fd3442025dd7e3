/*
 * remove.c - ask every holder to give a value up.
 *
 *     LOOKUP at all owners ─► READY ─► our own copy; REMOVE to each other
 * holder ─ all answered ─► retracts are out ─► DONE
 *
 * Reaches the holders it can; an owner or holder that did not answer makes the
 * item UNREACHABLE and the batch PARTIAL. It is not erasure.
 */
#include "base/mem.h"
#include "node/ask.h"
#include "node/node.h"

static void found(struct pc_lookup *lookup, uint32_t i,
                  const struct pc_record *records, size_t n)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    struct pc_op_item *state = &op->state[i];
    for (size_t r = 0; r < n; r++) {
        bool known = records[r].incarnation == op->node->self.incarnation;
        for (size_t k = 0; k < state->n_places; k++) {
            known =
                known || state->places[k].incarnation == records[r].incarnation;
        }
        if (!known && state->n_places < PC_HOLDERS_PER_KEY) {
            state->places[state->n_places++] = records[r];
        } else if (!known) {
            state->flags |= PC_ITEM_UNCONFIRMED; /* More than we can ask. */
        }
    }
}

static void ended(struct pc_lookup *lookup, uint32_t i,
                  enum pc_lookup_answer answer)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    if (answer == PC_LOOKUP_PARTLY || answer == PC_LOOKUP_UNREACHABLE) {
        op->state[i].flags |= PC_ITEM_UNCONFIRMED;
    }
    op->state[i].state = PC_ITEM_READY;
}

static void progress(struct pc_lookup *lookup)
{
    (void)lookup;
}

static void finished(struct pc_lookup *lookup)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    op->n_under_way--;
    pc_op_advance(op);
}

static void start_lookup(struct peercache_op *op)
{
    struct pc_digest *digests = pc_alloc(op->n_items, sizeof(*digests));
    uint32_t *users = pc_alloc(op->n_items, sizeof(*users));
    op->lookup.found = found;
    op->lookup.ended = ended;
    op->lookup.progress = progress;
    op->lookup.finished = finished;
    for (uint32_t i = 0; i < op->n_items; i++) {
        op->state[i].state = PC_ITEM_ASKED;
        if (digests != NULL && users != NULL) {
            digests[i] = op->state[i].digest;
            users[i] = i;
        }
    }
    op->n_under_way++;
    if (digests == NULL || users == NULL ||
        pc_lookup_start(&op->lookup, op->node, PC_LOOKUP_ALL, digests, users,
                        op->n_items, op->deadline_ns) != PEERCACHE_OK) {
        op->n_under_way--;
        for (size_t i = 0; i < op->n_items; i++) {
            pc_op_item_done(op, i, PEERCACHE_NO_MEMORY, PEERCACHE_FROM_NONE);
        }
    }
    pc_free(digests);
    pc_free(users);
}

/* ---- Holders ---------------------------------------------------------- */

static void answered(struct peercache_op *op, uint32_t i,
                     peercache_status_t status)
{
    struct pc_op_item *state = &op->state[i];
    if (status == PEERCACHE_OK) {
        state->flags |= PC_ITEM_REMOVED;
    } else if (status != PEERCACHE_NOT_FOUND) {
        state->flags |= PC_ITEM_UNCONFIRMED;
    }
    state->at++;
    state->state = PC_ITEM_READY;
}

/* Ask the next holder of item `first`, and with it for all items that have the
 * same holder next. */
static void ask_group(struct peercache_op *op, uint32_t first)
{
    uint32_t group[256];
    size_t n = 0;
    uint64_t holder = op->state[first].places[op->state[first].at].incarnation;
    struct pc_peer *peer = pc_peers_find(&op->node->peers, holder);
    for (uint32_t i = first; i < op->n_items && n < PC_ARRAY_LEN(group); i++) {
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_READY && state->at < state->n_places &&
            state->places[state->at].incarnation == holder) {
            pc_cache_drop(op->node->cache, &state->places[state->at]);
            group[n++] = i;
        }
    }
    bool asked = peer != NULL && pc_peer_is_usable(peer) &&
                 pc_ask_start(op, peer, PC_MSG_REMOVE, group, n, answered);
    for (size_t k = 0; k < n; k++) {
        if (asked) {
            op->state[group[k]].state = PC_ITEM_REMOVING;
        } else {
            answered(op, group[k], PEERCACHE_UNREACHABLE);
        }
    }
}

/* ---- Our own copy, and the end ---------------------------------------- */

/* Waits until the owners know that our copies are gone. */
struct own
{
    struct pc_read read;
    struct pc_barrier barrier;
    uint32_t n_open; /* The owners, and our disk. */
};

static void own_part_done(struct own *own)
{
    struct peercache_op *op = own->read.op;
    if (--own->n_open > 0) {
        return;
    }
    if (op != NULL) {
        pc_list_remove(&own->read.link);
        op->n_under_way--;
    }
    pc_free(own);
    if (op != NULL) {
        pc_op_advance(op);
    }
}

static void own_done(struct pc_barrier *barrier)
{
    own_part_done(PC_CONTAINER_OF(barrier, struct own, barrier));
}

static void not_confirmed(struct peercache_op *op)
{
    for (size_t i = 0; i < op->n_items; i++) {
        if ((op->state[i].flags & PC_ITEM_REMOVED) != 0) {
            op->state[i].flags |= PC_ITEM_UNCONFIRMED;
        }
    }
}

/* Without its tombstone a value could be back after a restart (rule 10). */
static void own_disk_done(void *arg, bool safe)
{
    struct own *own = arg;
    if (!safe && own->read.op != NULL) {
        not_confirmed(own->read.op);
    }
    own_part_done(own);
}

static void own_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct own *own = PC_CONTAINER_OF(read, struct own, read);
    (void)verdict;
    pc_list_remove(&read->link);
    read->op->n_under_way--;
    own->read.op = NULL; /* The last part frees it. */
}

static bool give_up_own(struct peercache_op *op, struct pc_tier_fence *fence)
{
    struct peercache_node *node = op->node;
    bool any = false;
    for (size_t i = 0; i < op->n_items && !node->client; i++) {
        if (op->state[i].state != PC_ITEM_NEW) {
            continue;
        }
        /* First the pool: who writes it to disk just now looks there again
         * (tier.c, start_write). */
        bool gone = pc_pool_remove(node, op->state[i].digest);
        gone = pc_tier_remove(node, op->state[i].digest, fence) || gone;
        if (gone) {
            op->state[i].flags |= PC_ITEM_REMOVED;
            pc_metrics_add(&node->metrics, PC_METRIC_REMOVED, 1);
            any = true;
        }
    }
    (void)pc_pool_drain_gone(node); /* Queue the retracts now. */
    return any;
}

static void remove_own(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    struct own *own = pc_alloc(1, sizeof(*own));
    struct pc_tier_fence *fence =
        own != NULL ? pc_tier_fence_begin(node) : NULL;
    bool any = give_up_own(op, fence);
    if (node->tier != NULL && fence == NULL) {
        not_confirmed(op); /* Nobody will say what the disk did. */
    }
    if (own == NULL) {
        return;
    }
    own->read.op = op;
    own->read.stop = own_stop;
    if (any && pc_publish_barrier(node, &own->barrier, 200 * PC_MS, own_done)) {
        own->n_open++;
    }
    own->n_open += fence != NULL;
    if (own->n_open == 0) {
        pc_free(own);
        return;
    }
    pc_list_push_back(&op->reads, &own->read.link);
    op->n_under_way++;
    if (fence != NULL) {
        pc_tier_fence_end(fence, pc_read_patience(op), own_disk_done, own);
    }
}

static void end_item(struct peercache_op *op, uint32_t i)
{
    uint16_t flags = op->state[i].flags;
    peercache_status_t status = PEERCACHE_NOT_FOUND;
    if ((flags & PC_ITEM_UNCONFIRMED) != 0) {
        status = PEERCACHE_UNREACHABLE;
    } else if ((flags & PC_ITEM_REMOVED) != 0) {
        status = PEERCACHE_OK;
    }
    pc_op_item_done(op, i, status, PEERCACHE_FROM_NONE);
}

void pc_remove_engine(struct peercache_op *op)
{
    if (op->n_open > 0 && op->state[0].state == PC_ITEM_NEW) {
        remove_own(op);
        start_lookup(op);
    }
    for (uint32_t i = 0; i < op->n_items; i++) {
        while (op->state[i].state == PC_ITEM_READY &&
               op->state[i].at < op->state[i].n_places) {
            ask_group(op, i);
        }
    }
    if (op->n_under_way > 0) {
        return;
    }
    for (uint32_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_READY) {
            end_item(op, i);
        }
    }
}
