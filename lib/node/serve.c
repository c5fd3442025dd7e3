/*
 * serve.c - what other nodes ask of us. With the engine's role; nothing here
 * waits.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>

/* An answer that cannot be encoded or queued ends the connection: its asker
 * must not wait for its deadline. */
static void answer(struct pc_conn *conn, struct pc_msg *msg)
{
    if (pc_conn_send(conn, msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY,
                     "no memory for the answer");
    }
}

static void no_memory(struct pc_conn *conn, const struct pc_msg *msg)
{
    pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
}

/* ---- Directory -------------------------------------------------------- */

static void add_holder(struct peercache_node *node, struct pc_msg_found *found,
                       uint64_t incarnation)
{
    const struct pc_member *member =
        incarnation == node->self.incarnation
            ? &node->self
            : pc_cluster_find(node->cluster, incarnation);
    for (uint32_t i = 0; i < found->n_holders; i++) {
        if (found->holders[i].incarnation == incarnation) {
            return;
        }
    }
    if (member == NULL) {
        struct pc_peer *peer = pc_peers_find(&node->peers, incarnation);
        member = peer == NULL ? NULL : &peer->member;
    }
    if (member != NULL) {
        found->holders[found->n_holders++] = *member;
    }
}

static bool find_key(struct peercache_node *node, struct pc_msg_found *found,
                     struct pc_digest digest, const struct pc_member *reader)
{
    struct pc_record *records = &found->records[found->n_records];
    size_t n = pc_holders_find(node, digest, reader, records);
    for (size_t i = 0; i < n; i++) {
        add_holder(node, found, records[i].incarnation);
    }
    found->counts[found->n_keys++] = (uint8_t)n;
    found->n_records += (uint32_t)n;
    return n > 0;
}

static void on_lookup(struct peercache_node *node, struct pc_conn *conn,
                      const struct pc_msg *msg)
{
    const struct pc_msg_lookup *lookup = &msg->u.lookup;
    size_t n_max = (size_t)lookup->n_keys * PC_HOLDERS_PER_KEY;
    struct pc_msg out = {.type = PC_MSG_FOUND, .request = msg->request};
    struct pc_msg_found *found = &out.u.found;
    found->view = pc_ring_view(node->ring);
    found->counts = pc_alloc(lookup->n_keys, 1);
    found->records = pc_alloc(n_max, sizeof(*found->records));
    found->holders = pc_alloc(n_max, sizeof(*found->holders));
    if (found->counts == NULL || found->records == NULL ||
        found->holders == NULL) {
        no_memory(conn, msg);
    } else {
        bool former = (lookup->flags & PC_LOOKUP_FORMER) != 0;
        for (uint32_t i = 0; i < lookup->n_keys; i++) {
            if (!find_key(node, found, lookup->digests[i], &conn->remote) &&
                !former &&
                !pc_ring_owns(node->ring, lookup->digests[i],
                              node->self.incarnation)) {
                found->wrong_view = true; /* Our absence means nothing. */
            }
        }
        answer(conn, &out);
    }
    pc_free(found->counts);
    pc_free(found->records);
    pc_free(found->holders);
}

static uint8_t take_entry(struct peercache_node *node, uint8_t kind,
                          const struct pc_record *record)
{
    if (kind == PC_RETRACT) {
        (void)pc_shard_retract(node->shard, record);
        return PC_PUBLISH_OK;
    }
    if (pc_shard_publish(node->shard, record) != PEERCACHE_OK) {
        pc_metrics_add(&node->metrics, PC_METRIC_SHARD_REFUSED, 1);
        if (!node->shard_is_full) {
            node->shard_is_full = true;
            PC_WARN("serve",
                    "the directory's part here is full, new records are "
                    "refused (directory_records); records %zu",
                    pc_shard_count(node->shard));
        }
        return PC_PUBLISH_REFUSED;
    }
    return pc_ring_owns(node->ring, record->digest, node->self.incarnation)
               ? PC_PUBLISH_OK
               : PC_PUBLISH_FOREIGN;
}

static void on_publish(struct peercache_node *node, struct pc_conn *conn,
                       const struct pc_msg *msg)
{
    const struct pc_msg_publish *publish = &msg->u.publish;
    struct pc_msg out = {.type = PC_MSG_PUBLISHED, .request = msg->request};
    /* A holder speaks for itself alone (I4). */
    bool own = publish->incarnation == conn->remote.incarnation;
    out.u.published.view = pc_ring_view(node->ring);
    out.u.published.n_entries = publish->n_entries;
    out.u.published.results = pc_alloc(publish->n_entries, 1);
    if (out.u.published.results == NULL) {
        no_memory(conn, msg);
        return;
    }
    for (uint32_t i = 0; i < publish->n_entries; i++) {
        const struct pc_record *record = &publish->records[i];
        out.u.published.results[i] =
            own && record->incarnation == publish->incarnation
                ? take_entry(node, publish->kinds[i], record)
                : PC_PUBLISH_REFUSED;
    }
    answer(conn, &out);
    pc_free(out.u.published.results);
}

/* ---- Values ----------------------------------------------------------- */

static void on_touch(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg)
{
    const struct pc_msg_touch *touch = &msg->u.touch;
    struct pc_msg out = {.type = PC_MSG_TOUCHED, .request = msg->request};
    /* It is no copy to count on: the asker shall store its own. */
    bool is_going = node->self.state != PC_MEMBER_ALIVE;
    out.u.statuses.n_keys = touch->n_keys;
    out.u.statuses.statuses = pc_alloc(touch->n_keys, 1);
    if (out.u.statuses.statuses == NULL) {
        no_memory(conn, msg);
        return;
    }
    for (uint32_t i = 0; i < touch->n_keys; i++) {
        const struct pc_record *record = &touch->records[i];
        struct pc_place place;
        bool held = !node->client && !is_going &&
                    pc_store_find(node->store, record->digest, true, &place) &&
                    place.published && place.generation == record->generation &&
                    place.length == record->length;
        out.u.statuses.statuses[i] =
            (int8_t)(held ? PEERCACHE_OK : PEERCACHE_NOT_FOUND);
    }
    answer(conn, &out);
    pc_free(out.u.statuses.statuses);
}

/* The pins of a served read; they last until the kernel has the bytes. */
struct serving
{
    struct peercache_node *node;
    uint32_t n_pins;
    uint64_t bytes;
    struct pc_pin *pins;
    peercache_piece_t *pieces;
};

static void serving_free(struct serving *s)
{
    for (uint32_t i = 0; i < s->n_pins; i++) {
        pc_store_unpin(s->node->store, &s->pins[i]);
    }
    pc_free(s->pins);
    pc_free(s->pieces);
    pc_load_end(s->node, s->bytes);
    pc_free(s);
}

static void serving_sent(void *arg)
{
    serving_free(arg);
}

static struct serving *serving_new(struct peercache_node *node, uint32_t n)
{
    struct serving *s = pc_alloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->node = node;
    s->pins = pc_alloc(n, sizeof(*s->pins));
    s->pieces = pc_alloc(n, sizeof(*s->pieces));
    if (s->pins == NULL || s->pieces == NULL) {
        serving_free(s);
        return NULL;
    }
    return s;
}

/* Served reads name the digest; slot and generation are hints (rule 10). */
static void serve_key(struct serving *s, const struct pc_record *wanted,
                      struct pc_msg_pages *pages, uint32_t i)
{
    struct pc_pin *pin = &s->pins[s->n_pins];
    pages->statuses[i] = PEERCACHE_NOT_FOUND;
    if (s->n_pins > 0 && wanted->length + s->bytes > PC_ANSWER_BYTES_MAX) {
        return; /* No node of ours asks for so much at a time. */
    }
    if (s->node->client || !pc_store_pin(s->node->store, wanted->digest, pin)) {
        return;
    }
    pages->generations[i] = pin->place.generation;
    pages->lengths[i] = pin->place.length;
    pages->checksums[i] = pin->place.checksum;
    if (pin->place.length != wanted->length) {
        pages->statuses[i] = PEERCACHE_SIZE_MISMATCH;
        pc_store_unpin(s->node->store, pin);
        return;
    }
    pages->statuses[i] = PEERCACHE_OK;
    s->pieces[s->n_pins].addr = (void *)(uintptr_t)pin->addr;
    s->pieces[s->n_pins].len = (size_t)pin->place.length;
    s->n_pins++;
    s->bytes += pin->place.length;
    pc_tier_admit(s->node, &pin->place, PC_TIER_USED);
}

static void serve(struct peercache_node *node, struct pc_conn *conn,
                  const struct pc_msg *msg, struct pc_msg_pages *pages)
{
    const struct pc_msg_read *read = &msg->u.read;
    struct serving *s = serving_new(node, read->n_keys);
    if (s == NULL) {
        no_memory(conn, msg);
        return;
    }
    for (uint32_t i = 0; i < read->n_keys; i++) {
        struct pc_disk_place disk;
        serve_key(s, &read->records[i], pages, i);
        if (pages->statuses[i] == PEERCACHE_NOT_FOUND &&
            pc_tier_find(node, read->records[i].digest, &disk)) {
            s->bytes = 0; /* Nothing was begun. */
            serving_free(s);
            pc_errand_start(node, conn, msg); /* All of them: one answer. */
            return;
        }
    }
    pc_load_begin(node, s->bytes);
    pc_metrics_add(&node->metrics, PC_METRIC_BYTES_SERVED, s->bytes);
    struct pc_msg out = {.type = PC_MSG_PAGES, .request = msg->request};
    out.u.pages = *pages;
    if (pc_conn_send(conn, &out, s->pieces, s->n_pins, serving_sent, s) !=
        PEERCACHE_OK) {
        serving_free(s);
        no_memory(conn, msg);
    }
}

static void on_read(struct peercache_node *node, struct pc_conn *conn,
                    const struct pc_msg *msg)
{
    uint32_t n = msg->u.read.n_keys;
    struct pc_msg_pages pages = {.incarnation = node->self.incarnation,
                                 .n_keys = n};
    pages.statuses = pc_alloc(n, sizeof(*pages.statuses));
    pages.generations = pc_alloc(n, sizeof(*pages.generations));
    pages.lengths = pc_alloc(n, sizeof(*pages.lengths));
    pages.checksums = pc_alloc(n, sizeof(*pages.checksums));
    if (pages.statuses == NULL || pages.generations == NULL ||
        pages.lengths == NULL || pages.checksums == NULL) {
        no_memory(conn, msg);
    } else {
        serve(node, conn, msg, &pages);
    }
    pc_free(pages.statuses);
    pc_free(pages.generations);
    pc_free(pages.lengths);
    pc_free(pages.checksums);
}

/* ---- Why ----------------------------------------------------------------- */

void pc_serve_why(struct peercache_node *node, struct pc_digest digest,
                  struct pc_knowledge *room, struct pc_msg_because *because)
{
    struct pc_place place;
    struct pc_msg_found found = {.holders = room->holders};
    size_t n =
        pc_shard_lookup(node->shard, digest, room->records, PC_WHY_RECORDS_MAX);
    n = n > PC_WHY_RECORDS_MAX ? PC_WHY_RECORDS_MAX : n;
    for (size_t i = 0; i < n; i++) {
        uint64_t holder = room->records[i].incarnation;
        room->dead[i] = pc_node_is_dead(node, holder);
        add_holder(node, &found, holder);
    }
    *because = (struct pc_msg_because){
        .view = pc_ring_view(node->ring),
        .owner = pc_ring_owns(node->ring, digest, node->self.incarnation),
        .n_records = (uint32_t)n,
        .dead = room->dead,
        .records = room->records,
        .n_holders = found.n_holders,
        .holders = room->holders,
    };
    /* Without a touch: to ask why changes nothing. */
    if (!node->client && pc_store_find(node->store, digest, false, &place)) {
        because->held = true;
        because->published = place.published;
        because->generation = place.generation;
        because->length = place.length;
        because->checksum = place.checksum;
    }
    struct pc_disk_place disk;
    if (pc_tier_find(node, digest, &disk)) {
        because->on_disk = true;
        if (!because->held) {
            because->generation = disk.tag;
            because->length = disk.length;
            because->checksum = disk.checksum;
        }
    }
}

static void on_why(struct peercache_node *node, struct pc_conn *conn,
                   const struct pc_msg *msg)
{
    struct pc_msg out = {.type = PC_MSG_BECAUSE, .request = msg->request};
    struct pc_knowledge *room = pc_alloc(1, sizeof(*room));
    if (room == NULL) {
        no_memory(conn, msg);
        return;
    }
    pc_serve_why(node, msg->u.why.digest, room, &out.u.because);
    answer(conn, &out);
    pc_free(room);
}

/* ---- Remove -------------------------------------------------------------- */

/* Less than the asker's patience with a silent peer. */
#define REMOVE_WAIT_NS (100 * PC_MS)

/* A remove is answered when the owners have taken the retracts, so that a
 * lookup after it does not find what is gone, and when the disk has tombstones,
 * so that it is not back after a restart (rule 10). */
struct removal
{
    struct pc_barrier barrier;
    uint32_t n_open;
    struct pc_conn *conn;
    struct pc_msg out;
};

static void removal_part_done(struct removal *r)
{
    if (--r->n_open > 0) {
        return;
    }
    if (r->conn->state == PC_CONN_READY) {
        answer(r->conn, &r->out);
    }
    pc_conn_unref(r->conn);
    pc_free(r->out.u.statuses.statuses);
    pc_free(r);
}

static void removal_done(struct pc_barrier *barrier)
{
    removal_part_done(PC_CONTAINER_OF(barrier, struct removal, barrier));
}

/* What its asker shall not take for confirmed. */
static void removal_is_unsafe(struct removal *r)
{
    for (uint32_t i = 0; i < r->out.u.statuses.n_keys; i++) {
        r->out.u.statuses.statuses[i] = PEERCACHE_IO;
    }
}

static void removal_on_disk(void *arg, bool safe)
{
    struct removal *r = arg;
    if (!safe) {
        removal_is_unsafe(r);
    }
    removal_part_done(r);
}

static void on_remove(struct peercache_node *node, struct pc_conn *conn,
                      const struct pc_msg *msg)
{
    const struct pc_msg_remove *remove = &msg->u.remove;
    struct removal *r = pc_alloc(1, sizeof(*r));
    int8_t *statuses = pc_alloc(remove->n_keys, 1);
    if (r == NULL || statuses == NULL) {
        pc_free(r);
        pc_free(statuses);
        no_memory(conn, msg);
        return;
    }
    struct pc_tier_fence *fence = pc_tier_fence_begin(node);
    for (uint32_t i = 0; i < remove->n_keys; i++) {
        /* First the pool: who writes it to disk just now looks there again
         * (tier.c, start_write). */
        bool gone = !node->client && pc_pool_remove(node, remove->digests[i]);
        gone = pc_tier_remove(node, remove->digests[i], fence) || gone;
        pc_metrics_add(&node->metrics, PC_METRIC_REMOVED, gone);
        statuses[i] = (int8_t)(gone ? PEERCACHE_OK : PEERCACHE_NOT_FOUND);
    }
    (void)pc_pool_drain_gone(node);
    r->conn = conn;
    conn->refs++; /* It may close before the owners have answered. */
    r->out.type = PC_MSG_REMOVED;
    r->out.request = msg->request;
    r->out.u.statuses.n_keys = remove->n_keys;
    r->out.u.statuses.statuses = statuses;
    if (node->tier != NULL && fence == NULL) {
        removal_is_unsafe(r);
    }
    r->n_open = 1;
    if (pc_publish_barrier(node, &r->barrier, REMOVE_WAIT_NS, removal_done)) {
        r->n_open++;
    }
    if (fence != NULL) {
        r->n_open++;
        pc_tier_fence_end(fence, REMOVE_WAIT_NS, removal_on_disk, r);
    }
    removal_part_done(r);
}

/* ---- All -------------------------------------------------------------- */

void pc_serve_request(void *arg, struct pc_conn *conn, const struct pc_msg *msg)
{
    struct peercache_node *node = arg;
    struct pc_msg pong;
    switch (msg->type) {
    case PC_MSG_BEAT:
        pc_members_beat(node, conn, msg);
        break;
    case PC_MSG_TABLE:
        pc_members_table(node, &msg->u.table, conn->remote.incarnation);
        break;
    case PC_MSG_PROBE:
        pc_members_probe(node, conn, msg);
        break;
    case PC_MSG_DRAIN:
        pc_drain_asked(node, conn, msg);
        break;
    case PC_MSG_LOOKUP:
        on_lookup(node, conn, msg);
        break;
    case PC_MSG_PUBLISH:
        on_publish(node, conn, msg);
        break;
    case PC_MSG_SUMMARY:
        pc_compare_summary(node, conn, msg);
        break;
    case PC_MSG_LIST:
        pc_compare_list(node, conn, msg);
        break;
    case PC_MSG_STALE:
        pc_doubt_stale(node, msg);
        break;
    case PC_MSG_DOUBT:
        pc_doubt_asked(node, conn, msg);
        break;
    case PC_MSG_USED:
        pc_uses_heard(node, msg);
        break;
    case PC_MSG_TOUCH:
        on_touch(node, conn, msg);
        break;
    case PC_MSG_READ:
        on_read(node, conn, msg);
        break;
    case PC_MSG_PROMOTE:
        pc_errand_start(node, conn, msg);
        break;
    case PC_MSG_REMOVE:
        on_remove(node, conn, msg);
        break;
    case PC_MSG_WHY:
        on_why(node, conn, msg);
        break;
    case PC_MSG_REGION:
        if (conn->outgoing && !pc_paths_region(conn->peer, &msg->u.region)) {
            pc_conn_close(conn, PEERCACHE_NO_MEMORY);
        }
        break;
    case PC_MSG_PROGRESS:
        break; /* That it was heard is all (net/peers.h). */
    case PC_MSG_PING:
        pong.type = PC_MSG_PONG;
        pong.request = msg->request;
        pong.u.ping = msg->u.ping;
        answer(conn, &pong);
        break;
    default:
        PC_DEBUG("serve", "unexpected %s from %s", pc_msg_name(msg->type),
                 conn->remote.id.text);
        pc_conn_close(conn, PEERCACHE_PROTOCOL);
        break;
    }
}
