/*
 * exists.c - is a value there? Only proof counts (rule 7): our own pool, the
 * header of a mapped neighbour's slot (also while that neighbour is silent: a
 * get would read it, too), or the directory's word on a holder that is not
 * known to be dead or silent. A record of none but silent holders is a miss
 * whose cause is counted: a get that comes now finds nothing there either. What
 * was found is remembered, so that the get that follows needs no second lookup.
 */
#include "base/mem.h"
#include "node/node.h"

static void say_yes(struct peercache_op *op, size_t i, uint64_t length,
                    peercache_source_t source)
{
    op->items[i].value_len = length;
    pc_op_item_done(op, i, PEERCACHE_OK, source);
}

static bool header_says_so(struct peercache_op *op,
                           const struct pc_record *record)
{
    struct pc_mapping *m = pc_mappings_acquire(
        &op->node->mappings, record->incarnation, record->region);
    const struct pc_slot_header *header;
    const void *bytes;
    if (m == NULL) {
        return false;
    }
    struct pc_slot_want want = {record->digest, record->generation,
                                record->length, record->offset};
    bool there = pc_mapping_locate(m, record->slot, record->offset,
                                   record->length, &header, &bytes) &&
                 pc_slot_matches(header, &want);
    pc_mappings_release(m);
    if (there) {
        pc_uses_note(op->node, record->incarnation, record->digest);
    }
    return there;
}

bool pc_exists_caller(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    for (size_t n = 0; n < op->n_items; n++) {
        size_t i =
            (op->flags & PEERCACHE_OP_CHAIN) != 0 ? op->n_items - 1 - n : n;
        struct pc_place place;
        struct pc_disk_place disk;
        struct pc_record record;
        if (!node->client &&
            pc_store_find(node->store, op->state[i].digest, true, &place)) {
            say_yes(op, i, place.length, PEERCACHE_FROM_LOCAL);
        } else if (pc_tier_find(node, op->state[i].digest, &disk)) {
            say_yes(op, i, disk.length, PEERCACHE_FROM_DISK);
        } else if (pc_cache_get(node->cache, op->state[i].digest,
                                op->started_ns, &record) &&
                   header_says_so(op, &record)) {
            say_yes(op, i, record.length, PEERCACHE_FROM_MAPPED);
        } else {
            op->state[i].state = PC_ITEM_LOOKUP;
        }
    }
    return op->n_open == 0;
}

/* Whether a get would have it from there. One whose connection broke just now
 * is given an attempt, as a get gives it one. */
static bool can_deliver(struct peercache_op *op, const struct pc_record *record)
{
    struct peercache_node *node = op->node;
    struct pc_peer *peer = pc_peers_find(&node->peers, record->incarnation);
    if (record->incarnation == node->self.incarnation || peer == NULL) {
        return false;
    }
    return pc_peer_is_usable(peer) || pc_peer_is_returning(peer) ||
           header_says_so(op, record);
}

/* Another owner may know of a holder that answers. */
static bool is_spent(struct pc_lookup *lookup, uint32_t i,
                     const struct pc_record *record)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    if (can_deliver(op, record)) {
        return false;
    }
    if (record->incarnation != op->node->self.incarnation) {
        op->state[i].flags |= PC_ITEM_PEER_DOWN;
    }
    return true;
}

static void found(struct pc_lookup *lookup, uint32_t i,
                  const struct pc_record *records, size_t n)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    (void)n;
    op->state[i].places[0] = records[0];
    op->state[i].n_places = 1;
    pc_cache_put(op->node->cache, &records[0],
                 pc_engine_now(&op->node->engine));
}

static void ended(struct pc_lookup *lookup, uint32_t i,
                  enum pc_lookup_answer answer)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    struct pc_op_item *state = &op->state[i];
    if (state->n_places > 0) {
        say_yes(op, i, state->places[0].length, PEERCACHE_FROM_NONE);
        return;
    }
    bool absent =
        answer == PC_LOOKUP_ABSENT && (state->flags & PC_ITEM_PEER_DOWN) == 0;
    pc_op_item_miss(op, i, absent ? PC_MISS_NOT_FOUND : PC_MISS_PEER_DOWN);
}

static void progress(struct pc_lookup *lookup)
{
    (void)lookup; /* Nothing follows from a part. */
}

static void finished(struct pc_lookup *lookup)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    op->n_under_way--;
    pc_op_advance(op);
}

void pc_exists_engine(struct peercache_op *op)
{
    if (op->lookup.active || op->n_open == 0) {
        return;
    }
    struct pc_digest *digests = pc_alloc(op->n_open, sizeof(*digests));
    uint32_t *users = pc_alloc(op->n_open, sizeof(*users));
    size_t n = 0;
    for (uint32_t i = 0; i < op->n_items && digests != NULL && users != NULL;
         i++) {
        if (op->state[i].state == PC_ITEM_LOOKUP) {
            op->state[i].state = PC_ITEM_ASKED;
            digests[n] = op->state[i].digest;
            users[n++] = i;
        }
    }
    op->lookup.is_spent = is_spent;
    op->lookup.found = found;
    op->lookup.ended = ended;
    op->lookup.progress = progress;
    op->lookup.finished = finished;
    op->n_under_way++;
    if (n == 0 ||
        pc_lookup_start(&op->lookup, op->node, PC_LOOKUP_FIRST, digests, users,
                        n, op->deadline_ns) != PEERCACHE_OK) {
        op->n_under_way--;
        for (size_t i = 0; i < op->n_items; i++) {
            if (op->state[i].state != PC_ITEM_DONE) {
                pc_op_item_miss(op, i, PC_MISS_NO_MEMORY);
            }
        }
    }
    pc_free(digests);
    pc_free(users);
}
