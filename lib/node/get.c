/*
 * get.c - the get.
 *
 *     caller: own pool ─► pin, copy, unpin ─────────────────────────► DONE
 *                └ cached place on a mapped neighbour ─► seqlock copy ──┤
 *     engine: LOOKUP ─► ASKED ─► READY ─┬─ mapped ─► COPY ─► copier ────┤
 *                ▲                      ├─ way unknown ─► PATH ─► READY │
 *                │ fresh lookup once    └─ one-sided, served ─► READING ┤
 *                └──────── stale: by digest once, next place ◄──────────┘
 *
 * Every way out is a proof of the bytes or a miss with a cause (I5).
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

/* How long an item rests whose holder's disk, or our own, is busy. */
#define REST_NS (20 * PC_MS)
/* How long an item waits for the way to a node it has not met. */
#define PATH_WAIT_NS (300 * PC_MS)

/* Come back after a while. */
static void wait_in_queue(struct peercache_op *op, uint64_t ns)
{
    struct peercache_node *node = op->node;
    uint64_t due_ns = pc_engine_now(&node->engine) + ns;
    if (!pc_list_is_linked(&op->queue)) {
        pc_list_push_back(&node->path_waiters, &op->queue);
    }
    if (node->path_timer.node.index == 0 ||
        node->path_timer.node.due_ns > due_ns) {
        pc_engine_timer_start(&node->engine, &node->path_timer, due_ns);
    }
}

static bool has_pinned(const struct peercache_op *op)
{
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_PINNED) {
            return true;
        }
    }
    return false;
}

/* ---- In the caller's thread ------------------------------------------- */

static bool checksum_fits(const struct peercache_op *op, size_t i,
                          uint64_t checksum)
{
    if (op->node->settings.verify != PC_VERIFY_CHECKSUM) {
        return true;
    }
    return pc_checksum_pieces(op->items[i].pieces, op->items[i].n_pieces) ==
           checksum;
}

/* From our own pool, under a pin. True: the item is done. */
static bool copy_local(struct peercache_op *op, size_t i)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    struct pc_pin pin;
    if (node->client || !pc_store_pin(node->store, state->digest, &pin)) {
        return false;
    }
    if (pin.place.length != state->length) {
        state->flags |= PC_ITEM_OTHER_SIZE;
        state->other_length = pin.place.length;
        pc_store_unpin(node->store, &pin);
        return false;
    }
    const uint8_t *from = pin.addr;
    for (size_t p = 0; p < op->items[i].n_pieces; p++) {
        const peercache_piece_t *piece = &op->items[i].pieces[p];
        pc_racy_copy(piece->addr, from, piece->len);
        from += piece->len;
    }
    uint64_t checksum = pin.place.checksum;
    pc_tier_admit(node, &pin.place, PC_TIER_USED);
    pc_store_unpin(node->store, &pin);
    if (!checksum_fits(op, i, checksum)) {
        PC_ERROR("get", "a value of our own pool fails its checksum");
        (void)pc_store_remove(node->store, state->digest);
        state->flags |= PC_ITEM_CORRUPT;
        return false;
    }
    op->items[i].value_len = state->length;
    pc_op_item_done(op, i, PEERCACHE_OK, PEERCACHE_FROM_LOCAL);
    return true;
}

enum copied { COPIED, COPY_STALE, COPY_CORRUPT, COPY_NO_WAY };

/* From a neighbour's mapped pool: one seqlock copy (rule 2). */
static enum copied copy_mapped(struct peercache_op *op, size_t i,
                               const struct pc_record *record)
{
    struct pc_mapping *m = pc_mappings_acquire(
        &op->node->mappings, record->incarnation, record->region);
    const struct pc_slot_header *header;
    const void *bytes;
    if (m == NULL) {
        return COPY_NO_WAY;
    }
    struct pc_slot_want want = {record->digest, record->generation,
                                record->length, record->offset};
    enum copied result = COPY_STALE;
    op->state[i].flags |= PC_ITEM_TOUCHED;
    if (record->length == op->state[i].length &&
        pc_mapping_locate(m, record->slot, record->offset, record->length,
                          &header, &bytes) &&
        pc_slot_copy(header, &want, bytes, op->items[i].pieces,
                     op->items[i].n_pieces)) {
        result = COPIED;
    }
    pc_mappings_release(m);
    if (result == COPIED && !checksum_fits(op, i, record->checksum)) {
        result = COPY_CORRUPT;
    }
    return result;
}

static bool may_map(const struct peercache_node *node)
{
    return node->settings.read_mode == PC_READ_MODE_AUTO ||
           node->settings.read_mode == PC_READ_MODE_MAPPED;
}

/* A place that was seen before, if it is on a mapped neighbour. */
static bool copy_cached(struct peercache_op *op, size_t i)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    struct pc_record record;
    if (!pc_cache_get(node->cache, state->digest, op->started_ns, &record) ||
        record.length != state->length || !may_map(node) ||
        copy_mapped(op, i, &record) != COPIED) {
        return false; /* The engine looks again, and finds out why. */
    }
    pc_metrics_add(&node->metrics, PC_METRIC_LOOKUPS_SAVED, 1);
    pc_uses_note(node, record.incarnation, state->digest);
    op->items[i].value_len = state->length;
    pc_op_item_done(op, i, PEERCACHE_OK, PEERCACHE_FROM_MAPPED);
    return true;
}

static bool is_late(const struct peercache_op *op)
{
    return pc_clock_now(&op->node->clock) >= op->deadline_ns ||
           atomic_load_explicit(&op->cancel, memory_order_relaxed);
}

/* A chain is touched back to front, so that its head stays longest. */
static size_t in_order(const struct peercache_op *op, size_t n)
{
    return (op->flags & PEERCACHE_OP_CHAIN) != 0 ? op->n_items - 1 - n : n;
}

/* On our own disk: true, the engine brings it. */
static bool is_on_disk(struct peercache_op *op, size_t i)
{
    struct pc_op_item *state = &op->state[i];
    struct pc_disk_place disk;
    if (!pc_tier_find(op->node, state->digest, &disk) ||
        disk.length != state->length) {
        return false;
    }
    state->state = PC_ITEM_DISK;
    return true;
}

/* What came from our disk, from its pin. */
static void copy_pinned(struct peercache_op *op, size_t i)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    const uint8_t *from = state->u.pin.addr;
    for (size_t p = 0; p < op->items[i].n_pieces; p++) {
        const peercache_piece_t *piece = &op->items[i].pieces[p];
        pc_racy_copy(piece->addr, from, piece->len);
        from += piece->len;
    }
    pc_store_unpin(node->store, &state->u.pin);
    pc_tier_unpinned(node->tier, state->length);
    op->items[i].value_len = state->length;
    pc_op_item_done(op, i, PEERCACHE_OK, PEERCACHE_FROM_DISK);
}

void pc_get_cleanup(struct peercache_op *op)
{
    for (size_t i = 0; op->verb == PC_VERB_GET && i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_PINNED) {
            pc_store_unpin(op->node->store, &state->u.pin);
            pc_tier_unpinned(op->node->tier, state->length);
            state->state = PC_ITEM_DISK;
        }
    }
}

bool pc_get_caller(struct peercache_op *op)
{
    for (size_t n = 0; n < op->n_items; n++) {
        size_t i = in_order(op, n);
        if (is_late(op)) {
            break;
        }
        if (!copy_local(op, i) && !is_on_disk(op, i)) {
            (void)copy_cached(op, i);
        }
    }
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_NEW) {
            op->state[i].state = PC_ITEM_LOOKUP;
        }
    }
    return op->n_open == 0;
}

/* The copier's part: items whose holder is mapped. */
bool pc_get_copy(struct peercache_op *op)
{
    for (size_t n = 0; n < op->n_items; n++) {
        size_t i = in_order(op, n);
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_PINNED && !is_late(op)) {
            copy_pinned(op, i);
            continue;
        }
        if (state->state != PC_ITEM_COPY || is_late(op)) {
            continue;
        }
        switch (copy_mapped(op, i, &state->places[state->at])) {
        case COPIED:
            pc_uses_note(op->node, state->places[state->at].incarnation,
                         state->digest);
            op->items[i].value_len = state->length;
            pc_op_item_done(op, i, PEERCACHE_OK, PEERCACHE_FROM_MAPPED);
            break;
        case COPY_CORRUPT:
            pc_get_item_corrupt(op, (uint32_t)i);
            break;
        case COPY_STALE:
            pc_get_item_stale(op, (uint32_t)i);
            break;
        case COPY_NO_WAY:
            pc_get_item_down(op, (uint32_t)i);
            break;
        }
    }
    return op->n_open == 0;
}

/* Not before REST_NS have passed; READY ones wait as PATH. */
static void rest(struct peercache_op *op, struct pc_op_item *state)
{
    struct peercache_node *node = op->node;
    if (state->state == PC_ITEM_READY) {
        state->state = PC_ITEM_PATH;
    }
    state->flags |= PC_ITEM_RESTS;
    state->u.rest_until_ns = pc_engine_now(&node->engine) + REST_NS;
    wait_in_queue(op, REST_NS);
}

/* ---- Outcomes of a read ----------------------------------------------- */

void pc_get_item_ok(struct peercache_op *op, uint32_t i,
                    peercache_source_t source)
{
    op->items[i].value_len = op->state[i].length;
    pc_op_item_done(op, i, PEERCACHE_OK, source);
}

/* The place that was tried is no good: the next one, or the end. */
static void next_place(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    state->at++;
    state->flags &=
        (uint16_t) ~(PC_ITEM_SERVED | PC_ITEM_NO_GET | PC_ITEM_MOVED);
    state->n_waits = 0;
    state->state = PC_ITEM_READY;
}

/* The mode that the settings force needs a place in memory. */
static bool is_placed(const struct peercache_node *node)
{
    return node->settings.read_mode == PC_READ_MODE_MAPPED ||
           node->settings.read_mode == PC_READ_MODE_ONE_SIDED;
}

void pc_get_item_stale(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    struct peercache_node *node = op->node;
    pc_cache_drop(node->cache, &state->places[state->at]);
    pc_doubt_note(node, &state->places[state->at]);
    pc_metrics_add(&node->metrics, PC_METRIC_READ_FAILED_STALE, 1);
    state->flags |= PC_ITEM_STALE;
    /* The holder may have it elsewhere by now, on its disk or back from there,
     * before any owner knows (rule 10): ask it by digest, once. */
    uint16_t once = is_placed(node) ? PC_ITEM_MOVED : PC_ITEM_SERVED;
    if (node->settings.read_mode != PC_READ_MODE_SERVED &&
        (state->flags & once) == 0) {
        state->flags |= once | PC_ITEM_SERVED;
        state->state = PC_ITEM_READY;
        return;
    }
    state->places[state->at].length = 0; /* Spent: see is_spent. */
    next_place(op, i);
}

void pc_get_item_down(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    pc_metrics_add(&op->node->metrics, PC_METRIC_READ_FAILED_PEER, 1);
    state->flags |= PC_ITEM_PEER_DOWN;
    next_place(op, i);
}

void pc_get_item_broken_off(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    if (op->node->settings.read_mode != PC_READ_MODE_AUTO) {
        pc_get_item_down(op, i);
        return;
    }
    state->flags |= PC_ITEM_NO_GET;
    state->state = PC_ITEM_READY;
}

void pc_get_item_corrupt(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    pc_cache_drop(op->node->cache, &state->places[state->at]);
    pc_metrics_add(&op->node->metrics, PC_METRIC_READ_FAILED_CORRUPT, 1);
    PC_ERROR("get", "a value from another node fails its checksum");
    state->flags |= PC_ITEM_CORRUPT;
    next_place(op, i);
}

void pc_get_item_other_size(struct peercache_op *op, uint32_t i,
                            uint64_t length)
{
    struct pc_op_item *state = &op->state[i];
    /* Its record said otherwise, so the record is old; others may have it. */
    pc_cache_drop(op->node->cache, &state->places[state->at]);
    state->flags |= PC_ITEM_OTHER_SIZE | PC_ITEM_STALE;
    state->other_length = length;
    next_place(op, i);
}

void pc_get_item_busy(struct peercache_op *op, uint32_t i, bool moved)
{
    struct pc_op_item *state = &op->state[i];
    state->flags |= PC_ITEM_BUSY;
    if (state->at + 1 < state->n_places) {
        next_place(op, i); /* Somebody else has it, perhaps in its pool. */
        return;
    }
    state->state = PC_ITEM_READY;
    if (!moved) {
        rest(op, state);
    }
}

/* No place is left. */
static void give_up(struct peercache_op *op, uint32_t i)
{
    uint16_t flags = op->state[i].flags;
    enum pc_miss miss = PC_MISS_NOT_FOUND;
    if ((flags & PC_ITEM_CORRUPT) != 0) {
        miss = PC_MISS_CORRUPT;
    } else if ((flags & PC_ITEM_BUSY) != 0) {
        miss = PC_MISS_BUSY; /* It has the value, whatever the others do. */
    } else if ((flags & PC_ITEM_OTHER_SIZE) != 0 &&
               (flags & PC_ITEM_TOUCHED) == 0) {
        /* Which promises untouched pieces; and that nobody has our length. */
        miss = PC_MISS_SIZE;
    } else if ((flags & PC_ITEM_NO_PATH) != 0) {
        miss = PC_MISS_NO_PATH;
    } else if ((flags & PC_ITEM_PEER_DOWN) != 0) {
        miss = PC_MISS_PEER_DOWN;
    } else if ((flags & PC_ITEM_STALE) != 0) {
        miss = PC_MISS_STALE;
    }
    pc_op_item_miss(op, i, miss);
}

/* ---- Lookup ----------------------------------------------------------- */

static void add_place(struct pc_op_item *state, const struct pc_record *record)
{
    if (record->length != state->length) {
        state->flags |= PC_ITEM_OTHER_SIZE;
        state->other_length = record->length;
        return;
    }
    if (state->n_places < PC_HOLDERS_PER_KEY) {
        state->places[state->n_places++] = *record;
    }
}

/* A retract may be on its way to one owner for longer than to another: the
 * record of a place that has just proved stale is no answer the second time,
 * nor is one that there is no way to.
 * Nor is a value of another length one while an owner that was not asked may
 * know of ours (rule 5). */
static bool is_spent(struct pc_lookup *lookup, uint32_t i,
                     const struct pc_record *record)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    struct pc_op_item *state = &op->state[i];
    if (record->length != state->length) {
        state->flags |= PC_ITEM_OTHER_SIZE;
        state->other_length = record->length;
        return true;
    }
    if (record->incarnation == op->node->self.incarnation) {
        /* What we held when the get began is gone. */
        state->flags |= PC_ITEM_STALE;
        return true;
    }
    for (size_t p = 0; p < state->n_places; p++) {
        const struct pc_record *place = &state->places[p];
        if (place->length == 0 && place->incarnation == record->incarnation &&
            place->generation >= record->generation) {
            return true;
        }
    }
    return false;
}

static void found(struct pc_lookup *lookup, uint32_t i,
                  const struct pc_record *records, size_t n)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    struct pc_op_item *state = &op->state[i];
    state->n_places = 0;
    state->at = 0;
    state->flags &=
        (uint16_t) ~(PC_ITEM_OTHER_SIZE | PC_ITEM_SERVED | PC_ITEM_FROM_CACHE |
                     PC_ITEM_NO_GET | PC_ITEM_MOVED);
    for (size_t r = 0; r < n; r++) {
        add_place(state, &records[r]);
    }
    pc_holders_sort(op->node, state->places, state->n_places);
    if (state->n_places > 0) {
        pc_cache_put(op->node->cache, &state->places[0],
                     pc_engine_now(&op->node->engine));
    }
}

static void lookup_ended(struct pc_lookup *lookup, uint32_t i,
                         enum pc_lookup_answer answer)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    struct pc_op_item *state = &op->state[i];
    if (answer == PC_LOOKUP_UNREACHABLE) {
        state->flags |= PC_ITEM_PEER_DOWN;
    }
    if (answer != PC_LOOKUP_FOUND) {
        state->n_places = 0;
        state->at = 0;
    }
    /* One more lookup is worth it only after a place of this one failed. */
    if (state->n_places == 0 || (state->flags & PC_ITEM_LOOKED) != 0) {
        state->flags |= PC_ITEM_RELOOKED;
    }
    state->flags |= PC_ITEM_LOOKED;
    state->state = PC_ITEM_READY;
}

static void lookup_progress(struct pc_lookup *lookup)
{
    pc_op_advance(PC_CONTAINER_OF(lookup, struct peercache_op, lookup));
}

static void lookup_finished(struct pc_lookup *lookup)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(lookup, struct peercache_op, lookup);
    op->n_under_way--;
    pc_op_advance(op);
}

/* Places that were seen before need no lookup: they prove themselves. */
static bool take_cached(struct peercache_op *op, struct pc_op_item *state)
{
    struct pc_record record;
    bool again = (state->flags & PC_ITEM_CACHE_READ) != 0;
    state->flags |= PC_ITEM_CACHE_READ;
    if (again ||
        !pc_cache_get(op->node->cache, state->digest, op->started_ns,
                      &record) ||
        record.length != state->length ||
        pc_node_is_dead(op->node, record.incarnation) ||
        pc_peers_find(&op->node->peers, record.incarnation) == NULL) {
        return false;
    }
    pc_metrics_add(&op->node->metrics, PC_METRIC_LOOKUPS_SAVED, 1);
    state->places[0] = record;
    state->n_places = 1;
    state->at = 0;
    state->flags |= PC_ITEM_FROM_CACHE;
    state->state = PC_ITEM_READY;
    return true;
}

static void start_lookup(struct peercache_op *op)
{
    size_t n = 0;
    for (size_t i = 0; i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_LOOKUP && !take_cached(op, state)) {
            n++;
        }
    }
    if (n == 0 || op->lookup.active) {
        return;
    }
    struct pc_digest *digests = pc_alloc(n, sizeof(*digests));
    uint32_t *users = pc_alloc(n, sizeof(*users));
    size_t at = 0;
    for (uint32_t i = 0; i < op->n_items && digests != NULL && users != NULL;
         i++) {
        if (op->state[i].state == PC_ITEM_LOOKUP) {
            digests[at] = op->state[i].digest;
            users[at++] = i;
            op->state[i].state = PC_ITEM_ASKED;
        }
    }
    op->lookup.is_spent = is_spent;
    op->lookup.found = found;
    op->lookup.ended = lookup_ended;
    op->lookup.progress = lookup_progress;
    op->lookup.finished = lookup_finished;
    op->n_under_way++;
    if (at != n ||
        pc_lookup_start(&op->lookup, op->node, PC_LOOKUP_FIRST, digests, users,
                        n, op->deadline_ns) != PEERCACHE_OK) {
        op->n_under_way--;
        for (size_t i = 0; i < op->n_items; i++) {
            uint8_t s = op->state[i].state;
            if (s == PC_ITEM_ASKED || s == PC_ITEM_LOOKUP) {
                pc_op_item_miss(op, i, PC_MISS_NO_MEMORY);
            }
        }
    }
    pc_free(digests);
    pc_free(users);
}

/* ---- Read ------------------------------------------------------------- */

/* What becomes of a READY item: its way, WAY_NONE when no place is left. */
static enum pc_read_way choose(struct peercache_op *op, uint32_t i,
                               struct pc_peer **peer_p)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    while (state->at < state->n_places) {
        const struct pc_record *record = &state->places[state->at];
        struct pc_peer *peer = pc_peers_find(&node->peers, record->incarnation);
        uint64_t now = pc_engine_now(&node->engine);
        /* A way that does not come in that time delays only the first gets. */
        bool waited = (state->n_waits > 0 &&
                       now - state->u.path_since_ns >= PATH_WAIT_NS) ||
                      (peer != NULL && peer->fabric != NULL &&
                       now - peer->attached_ns >= PATH_WAIT_NS);
        if ((state->flags & PC_ITEM_SERVED) != 0 && peer != NULL &&
            pc_peer_is_usable(peer)) {
            *peer_p = peer;
            return is_placed(node) ? PC_WAY_PROMOTE : PC_WAY_SERVED;
        }
        enum pc_read_way way =
            peer == NULL || pc_node_is_dead(node, record->incarnation)
                ? PC_WAY_DOWN
                : pc_read_way(node, peer, record,
                              (state->flags & PC_ITEM_NO_GET) != 0, waited);
        if (way == PC_WAY_DOWN && state->at + 1 == state->n_places &&
            peer != NULL && pc_peer_is_returning(peer)) {
            *peer_p = peer;
            return PC_WAY_LATER; /* Nobody else has it: see if it lives. */
        }
        if (way == PC_WAY_DOWN) {
            pc_get_item_down(op, i);
            continue;
        }
        if (way == PC_WAY_NONE) {
            state->flags |= PC_ITEM_NO_PATH;
            state->places[state->at].length = 0; /* Spent: see is_spent. */
            next_place(op, i);
            continue;
        }
        *peer_p = peer;
        return way;
    }
    return PC_WAY_NONE;
}

static void wait_for_path(struct peercache_op *op, struct pc_op_item *state)
{
    struct peercache_node *node = op->node;
    uint64_t now = pc_engine_now(&node->engine);
    if (state->n_waits == 0) {
        state->u.path_since_ns = now;
        state->n_waits = 1;
    }
    state->state = PC_ITEM_PATH;
    wait_in_queue(op, 50 * PC_MS);
}

/* All READY items that wait for this holder's disk go in one request. */
static void promote_group(struct peercache_op *op, struct pc_peer *peer,
                          uint32_t first, uint32_t *group)
{
    size_t n = 0;
    for (uint32_t i = first; i < op->n_items && n < PC_PROMOTED_AT_ONCE; i++) {
        struct pc_op_item *state = &op->state[i];
        struct pc_peer *other;
        if (state->state == PC_ITEM_READY && state->at < state->n_places &&
            state->places[state->at].incarnation == peer->member.incarnation &&
            choose(op, i, &other) == PC_WAY_PROMOTE && other == peer) {
            group[n++] = i;
        }
    }
    if (!pc_read_promote(op, peer, group, n)) {
        for (size_t k = 0; k < n; k++) {
            pc_get_item_down(op, group[k]);
        }
        op->again = true;
    }
}

/* All READY items that can be served by the same node go in one request. */
static void serve_group(struct peercache_op *op, struct pc_peer *peer,
                        uint32_t first, uint32_t *group)
{
    size_t n = 0;
    const struct pc_record *one = &op->state[first].places[op->state[first].at];
    bool on_disk = pc_record_is_on_disk(one);
    for (uint32_t i = first; i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        struct pc_peer *other;
        /* What lies in the pool does not wait for a disk. */
        if (state->state == PC_ITEM_READY && state->at < state->n_places &&
            state->places[state->at].incarnation == peer->member.incarnation &&
            pc_record_is_on_disk(&state->places[state->at]) == on_disk &&
            choose(op, i, &other) == PC_WAY_SERVED && other == peer) {
            group[n++] = i;
        }
    }
    if (!pc_read_served(op, peer, group, n)) {
        for (size_t k = 0; k < n; k++) {
            if (op->state[group[k]].state == PC_ITEM_READY) {
                pc_get_item_down(op, group[k]);
            }
        }
        op->again = true;
    }
}

/* One READY item without a place: a fresh lookup, once, else a miss. A cached
 * place is no lookup, and knows of one holder only; where a mode is forced, an
 * owner that was not asked may know of a holder that there is a way to (rule
 * 5). */
static void no_place(struct peercache_op *op, uint32_t i)
{
    struct pc_op_item *state = &op->state[i];
    if ((state->flags & PC_ITEM_RELOOKED) == 0 &&
        (state->flags & (PC_ITEM_STALE | PC_ITEM_PEER_DOWN | PC_ITEM_NO_PATH |
                         PC_ITEM_FROM_CACHE)) != 0) {
        state->state = PC_ITEM_LOOKUP;
        op->again = true;
    } else {
        give_up(op, i);
    }
}

static void read_item(struct peercache_op *op, uint32_t i, uint32_t *group)
{
    struct pc_op_item *state = &op->state[i];
    struct pc_peer *peer = NULL;
    switch (choose(op, i, &peer)) {
    case PC_WAY_MAPPED:
        state->state = PC_ITEM_COPY;
        break;
    case PC_WAY_ONE_SIDED:
        if (!pc_read_pull(op, peer, i)) {
            pc_get_item_broken_off(op, i);
            op->again = true;
        }
        break;
    case PC_WAY_SERVED:
        serve_group(op, peer, i, group);
        break;
    case PC_WAY_PROMOTE:
        promote_group(op, peer, i, group);
        break;
    case PC_WAY_LATER:
        wait_for_path(op, state);
        break;
    default:
        no_place(op, i);
        break;
    }
}

/* Items on our own disk, as many at a time as may be pinned. */
static void read_disk(struct peercache_op *op)
{
    bool rests = false;
    uint64_t pinned = op->node->tier != NULL ? pc_read_pinned(op) : 0;
    for (uint32_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_DISK &&
            !pc_read_disk(op, i, &pinned)) {
            rests = true;
            break;
        }
    }
    if (rests && op->n_under_way == 0 && !has_pinned(op)) {
        wait_in_queue(op, REST_NS); /* Others have all the room. */
    }
}

/* Those whose time has come to look for a way again. */
static void wake_waiting(struct peercache_op *op)
{
    uint64_t now_ns = pc_engine_now(&op->node->engine);
    bool rests = false;
    if (pc_list_is_linked(&op->queue)) {
        pc_list_remove(&op->queue);
    }
    for (size_t i = 0; i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        if (state->state != PC_ITEM_PATH) {
            continue;
        }
        if ((state->flags & PC_ITEM_RESTS) != 0 &&
            now_ns < state->u.rest_until_ns) {
            rests = true;
            continue;
        }
        state->flags &= (uint16_t)~PC_ITEM_RESTS;
        state->state = PC_ITEM_READY;
    }
    if (rests) {
        wait_in_queue(op, REST_NS);
    }
}

void pc_get_engine(struct peercache_op *op)
{
    bool ready = false;
    wake_waiting(op);
    read_disk(op);
    start_lookup(op);
    for (size_t i = 0; i < op->n_items && !ready; i++) {
        ready = op->state[i].state == PC_ITEM_READY;
    }
    if (!ready) {
        return;
    }
    uint32_t *group = pc_alloc(op->n_items, sizeof(*group));
    for (uint32_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state != PC_ITEM_READY) {
            continue;
        }
        if (group == NULL) {
            pc_op_item_miss(op, i, PC_MISS_NO_MEMORY);
        } else {
            read_item(op, i, group);
        }
    }
    pc_free(group);
}
