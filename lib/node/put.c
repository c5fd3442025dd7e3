/*
 * put.c - the put (p2p: into our own pool).
 *
 *     caller: held here already ───────────────────────────────────► DONE
 *        │ else reserve, copy, checksum (a quarter of the pool at a time)
 *        ▼
 *     WRITTEN ─► ASKED: does anybody hold it? ─ no ─► seal, publish ─►
 * PUBLISHED │ maybe                              ▲                │ ▼ │ no ▼
 *               TOUCHING: holder, do you? ──────────────┘     enough owners:
 * DONE └─ yes: give the reservation back ─► DONE
 *
 * Reservations end only here, in the hands of their writer (rule 1). A slot is
 * sealed before its record is published (I1), and stays pinned until the
 * publish is queued, so that no retract can overtake it (rule 11). A put that
 * times out leaves its slot; the publish goes on by itself.
 */
#include "base/mem.h"
#include "node/ask.h"
#include "node/node.h"
#include "node/probe.h"

/* While a put waits for the pool's next region it looks so often whether it is
 * cancelled, and lets others have the copy thread. */
#define GROWTH_LOOK (20 * PC_MS)
/* A region that is so many waits late is waited for no more. */
#define GROWTH_HANGS 4

/* ---- In the caller's thread ------------------------------------------- */

/* Whether a holder that we can look at has it (rule 6). One that drains does
 * not count, and its memory does not tell that: then all are asked. */
static bool neighbour_has_it(struct peercache_op *op, size_t i)
{
    struct pc_record record;
    struct peercache_node *node = op->node;
    if (atomic_load_explicit(&node->any_drains, memory_order_relaxed) ||
        !pc_cache_get(node->cache, op->state[i].digest, op->started_ns,
                      &record) ||
        record.length != op->state[i].length) {
        return false;
    }
    struct pc_mapping *m =
        pc_mappings_acquire(&node->mappings, record.incarnation, record.region);
    const struct pc_slot_header *header;
    const void *bytes;
    if (m == NULL) {
        return false;
    }
    struct pc_slot_want want = {record.digest, record.generation, record.length,
                                record.offset};
    bool there = pc_mapping_locate(m, record.slot, record.offset, record.length,
                                   &header, &bytes) &&
                 pc_slot_matches(header, &want);
    pc_mappings_release(m);
    if (there) {
        pc_uses_note(node, record.incarnation, record.digest);
    }
    return there;
}

static void skip(struct peercache_op *op, size_t i)
{
    op->items[i].value_len = op->state[i].length;
    pc_metrics_add(&op->node->metrics, PC_METRIC_WRITE_SKIPPED, 1);
    pc_op_item_done(op, i, PEERCACHE_OK, PEERCACHE_FROM_NONE);
}

/* A chain is touched and sealed back to front, so that its head is the
 * youngest and its tail goes first. Number n from the front is number .. */
static size_t in_order(const struct peercache_op *op, size_t first, size_t end,
                       size_t n)
{
    return (op->flags & PEERCACHE_OP_CHAIN) != 0 ? end - 1 - (n - first) : n;
}

/* Held here, or at a neighbour: nothing to store. True: the item is settled,
 * or waits for the publish of an earlier put. */
static bool is_held(struct peercache_op *op, size_t i)
{
    struct pc_op_item *state = &op->state[i];
    struct pc_place place;
    if (pc_store_find(op->node->store, state->digest, true, &place) &&
        place.length == state->length) {
        pc_tier_admit(op->node, &place, PC_TIER_USED);
        if (place.published) {
            skip(op, i);
        } else {
            state->places[0].generation = place.generation;
            state->state = PC_ITEM_PUBLISHED;
        }
        return true;
    }
    if (op->node->settings.data_replicas == 1 && neighbour_has_it(op, i)) {
        skip(op, i);
        return true;
    }
    return false;
}

/* ---- In the caller's thread: the copy ---------------------------------- */

/* The pool's first region may still be on its way. False: it is, and others
 * wait for this thread. */
static bool wait_for_pool(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    uint64_t now = pc_clock_now(&node->clock);
    if (node->manual || now >= op->deadline_ns) {
        return true;
    }
    uint64_t left = op->deadline_ns - now;
    return pc_event_wait(&node->pool_ready, 0,
                         op->on_copier && left > GROWTH_LOOK ? GROWTH_LOOK
                                                             : left) ||
           !op->on_copier;
}

/* Whether the pool still grows and this put can wait for that: its first values
 * are not given up for its next ones, as long as there is time. Where the next
 * region hangs, puts after the first few do not wait for it anew. */
static bool is_patient(const struct peercache_op *op)
{
    const struct peercache_node *node = op->node;
    uint64_t now = pc_clock_now(&node->clock);
    uint64_t patience = (op->deadline_ns - op->started_ns) / 2;
    patience = patience < node->growth_ns ? patience : node->growth_ns;
    return pc_pool_is_growing(node) && now < op->started_ns + patience &&
           now < atomic_load_explicit(&node->grew_ns, memory_order_relaxed) +
                     GROWTH_HANGS * node->growth_ns &&
           !atomic_load_explicit(&node->closing, memory_order_relaxed);
}

/* False: there is no room for it yet, but the pool grows. */
static bool write_item(struct peercache_op *op, size_t i)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    struct pc_reservation *reservation = &state->u.put.reservation;
    bool patient = is_patient(op);
    peercache_status_t status =
        patient ? pc_store_reserve_free(node->store, state->digest,
                                        state->length, reservation)
                : pc_store_reserve(node->store, state->digest, state->length,
                                   reservation);
    /* A larger region may still come; nothing is larger than a region. */
    if (status == PEERCACHE_TOO_LARGE &&
        state->length <= pc_store_value_max(node->settings.region_size) &&
        pc_event_get(&node->pool_ready) != 2) {
        status = PEERCACHE_NO_SPACE;
    }
    if (status == PEERCACHE_NO_SPACE && patient) {
        return false;
    }
    if (status != PEERCACHE_OK) {
        pc_op_item_done(op, i, status, PEERCACHE_FROM_NONE);
        return true;
    }
    state->u.put.checksum =
        pc_copy_checksum(state->u.put.reservation.addr, op->items[i].pieces,
                         op->items[i].n_pieces);
    state->state = PC_ITEM_WRITTEN;
    return true;
}

/* Up to end, or to the first item that has to wait for the pool to grow. Nobody
 * waits for room while holding some (rule 1): what is written is sealed first,
 * and then this one's turn comes again. */
static void write_part(struct peercache_op *op, size_t end)
{
    struct peercache_node *node = op->node;
    bool may_wait = op->blocking || op->on_copier;
    for (bool any = false; op->next < end;) {
        if (pc_clock_now(&node->clock) >= op->deadline_ns ||
            atomic_load_explicit(&op->cancel, memory_order_relaxed)) {
            return; /* The engine ends it. */
        }
        uint32_t seen = pc_event_get(&node->pool_grown);
        if (op->state[op->next].state != PC_ITEM_NEW ||
            write_item(op, op->next)) {
            any = any || op->state[op->next].state == PC_ITEM_WRITTEN;
            op->next++;
        } else if (any || !may_wait) {
            return;
        } else if (!pc_event_wait(&node->pool_grown, seen, GROWTH_LOOK) &&
                   op->on_copier) {
            return; /* Others wait for this thread: their turn first. */
        }
    }
}

/* The items of this part: as many as a quarter of the pool takes, of its bytes
 * and of its slots, which tiny values use up first. */
static size_t end_of_part(const struct peercache_op *op)
{
    struct pc_store_stats stats;
    pc_store_stats(op->node->store, &stats);
    uint64_t bytes = op->state[op->next].length;
    size_t end = op->next + 1;
    while (end < op->n_items && end - op->next < stats.n_slots / 4 &&
           bytes + op->state[end].length <= stats.capacity / 4) {
        bytes += op->state[end++].length;
    }
    return end;
}

bool pc_put_caller(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    if (pc_event_get(&node->pool_ready) == 0) {
        if (!op->blocking && !op->on_copier) {
            return false; /* An asynchronous call does not wait. */
        }
        if (!wait_for_pool(op)) {
            return false;
        }
    }
    size_t end = end_of_part(op);
    size_t n_new = 0;
    for (size_t n = op->next; n < end; n++) {
        size_t i = in_order(op, op->next, end, n);
        if (op->state[i].state == PC_ITEM_NEW) {
            n_new += !is_held(op, i);
        }
    }
    if (n_new > 0) {
        pc_probe_start(op, op->next, end, n_new);
    }
    write_part(op, end);
    if (pc_store_is_short(node->store) || pc_tier_wants_look(node)) {
        pc_threads_wake_evictor(node);
    }
    return op->n_open == 0 && op->probe == NULL;
}

/* ---- Seal and publish ------------------------------------------------- */

void pc_put_settled(struct pc_list *wait, peercache_status_t status)
{
    struct pc_op_item *state =
        PC_CONTAINER_OF(wait, struct pc_op_item, u.put.wait);
    struct peercache_op *op = state->u.put.op;
    size_t i = (size_t)(state - op->state);
    pc_list_remove(wait);
    op->n_under_way--;
    op->items[i].value_len = state->length;
    pc_op_item_done(op, i, status, PEERCACHE_FROM_NONE);
    /* Other items do not care: a look at all of them for each one would take
     * the square of their number. */
    if (op->n_under_way == 0) {
        pc_op_advance(op);
    }
}

static void wait_for(struct peercache_op *op, size_t i,
                     struct pc_publication *publication)
{
    struct pc_op_item *state = &op->state[i];
    state->u.put.op = op;
    pc_list_init(&state->u.put.wait);
    state->state = PC_ITEM_PUBLISHED;
    op->n_under_way++;
    pc_publish_wait(op->node, publication, &state->u.put.wait);
}

static void seal(struct peercache_op *op, size_t i)
{
    struct peercache_node *node = op->node;
    struct pc_op_item *state = &op->state[i];
    struct pc_pin pin;
    pc_store_seal(node->store, &state->u.put.reservation, state->u.put.checksum,
                  &pin);
    pc_metrics_add(&node->metrics, PC_METRIC_WRITE_STORED, 1);
    pc_metrics_add(&node->metrics, PC_METRIC_BYTES_WRITTEN, state->length);
    struct pc_publication *publication = pc_publish_place(node, &pin.place);
    if (publication == NULL) {
        state->state = PC_ITEM_PUBLISHED;
        pc_op_item_done(op, i, PEERCACHE_NO_MEMORY, PEERCACHE_FROM_NONE);
    } else {
        wait_for(op, i, publication);
    }
    pc_tier_sealed(node, &pin.place);
    pc_store_unpin(node->store, &pin);
}

/* A put that found the value here, not yet published: join that publish. */
static void join(struct peercache_op *op, size_t i)
{
    struct pc_publication *publication =
        pc_publish_find(op->node, op->state[i].places[0].generation);
    struct pc_place place;
    if (publication == NULL) {
        if (!pc_store_find(op->node->store, op->state[i].digest, false,
                           &place) ||
            place.published) {
            skip(op, i); /* Settled meanwhile. */
            return;
        }
        /* Nobody took its record so far: try again. */
        publication = pc_publish_place(op->node, &place);
    }
    if (publication == NULL) {
        pc_op_item_done(op, i, PEERCACHE_NO_MEMORY, PEERCACHE_FROM_NONE);
    } else {
        wait_for(op, i, publication);
    }
}

/* ---- Dedupe: the holder's word ---------------------------------------- */

static void touched(struct peercache_op *op, uint32_t i,
                    peercache_status_t status)
{
    struct pc_op_item *state = &op->state[i];
    if (status == PEERCACHE_OK) {
        pc_store_abandon(op->node->store, &state->u.put.reservation);
        skip(op, i);
    } else {
        state->n_places = 0;
        state->state = PC_ITEM_WRITTEN;
    }
}

/* Items whose supposed holder is the same node share a request. Number `from`
 * in order is the first of them. */
static void touch_group(struct peercache_op *op, uint32_t from)
{
    uint32_t group[256];
    size_t n = 0;
    uint64_t holder =
        op->state[in_order(op, 0, op->n_items, from)].places[0].incarnation;
    struct pc_peer *peer = pc_peers_find(&op->node->peers, holder);
    for (uint32_t k = from; k < op->n_items && n < PC_ARRAY_LEN(group); k++) {
        uint32_t i = (uint32_t)in_order(op, 0, op->n_items, k);
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_WRITTEN && state->n_places > 0 &&
            state->places[0].incarnation == holder) {
            group[n++] = i;
        }
    }
    bool asked = peer != NULL && pc_peer_is_usable(peer) &&
                 pc_ask_start(op, peer, PC_MSG_TOUCH, group, n, touched);
    for (size_t k = 0; k < n; k++) {
        if (asked) {
            op->state[group[k]].state = PC_ITEM_TOUCHING;
        } else {
            op->state[group[k]].n_places = 0;
        }
    }
}

/* Sealing many items takes longer than a turn should: whether the deadline has
 * come meanwhile; its timer then ends the operation in the next turn. */
static bool is_late(const struct peercache_op *op, uint32_t i)
{
    return i % 1024 == 1023 &&
           pc_clock_now(&op->node->clock) >= op->deadline_ns;
}

void pc_put_engine(struct peercache_op *op)
{
    if (pc_probe_is_asking(op)) {
        return;
    }
    for (uint32_t n = 0; n < op->n_items && !is_late(op, n); n++) {
        uint32_t i = (uint32_t)in_order(op, 0, op->n_items, n);
        struct pc_op_item *state = &op->state[i];
        if (state->state == PC_ITEM_PUBLISHED &&
            !pc_list_is_linked(&state->u.put.wait)) {
            join(op, i);
        } else if (state->state == PC_ITEM_WRITTEN) {
            if (state->n_places > 0 && op->node->settings.data_replicas == 1) {
                touch_group(op, n);
            }
            if (state->state == PC_ITEM_WRITTEN) {
                seal(op, i);
            }
        }
    }
}

void pc_put_cleanup(struct peercache_op *op)
{
    pc_probe_drop(op);
    for (size_t i = 0; i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        switch (state->state) {
        case PC_ITEM_WRITTEN:
        case PC_ITEM_ASKED:
        case PC_ITEM_TOUCHING:
            pc_store_abandon(op->node->store, &state->u.put.reservation);
            state->state = PC_ITEM_NEW;
            break;
        case PC_ITEM_PUBLISHED:
            if (pc_list_is_linked(&state->u.put.wait)) {
                pc_list_remove(&state->u.put.wait);
                op->n_under_way--;
            }
            break;
        default:
            break;
        }
    }
}
