#include "errand.h"

#include "base/mem.h"
#include "node/node.h"

/* At a time. */
#define ERRANDS_MAX 1024
/* Memory of all errands and of those of one peer, some 150 bytes a key: pins
 * have a bound of their own. What is beyond is told AGAIN. */
#define BYTES_MAX         (32ull << 20)
#define BYTES_OF_PEER_MAX (4ull << 20)
#define PROGRESS_NS       (50 * PC_MS)
/* What a promoted value is pinned for after its place was told. */
#define LEASE_NS (250 * PC_MS)
/* No reader waits for longer, whatever it says. */
#define PATIENCE_MAX_NS (5 * PC_S)

struct key
{
    struct pc_promote_wait wait;
    struct errand *errand;
    uint32_t i;
};

struct errand
{
    struct pc_list link; /* tier->errands, then tier->answering. */
    struct peercache_node *node;
    struct pc_conn *conn;
    struct pc_timer tick;
    uint64_t end_ns;
    uint64_t memory; /* Its own, of tier->errand_bytes. */
    uint64_t bytes;  /* Pinned, or about to be. */
    uint64_t answer; /* Bytes of its body. */
    uint64_t request;
    bool promote; /* Only say where they are. */
    bool told;    /* Only pins are left. */
    uint32_t n_keys, n_keys_waiting, n_disk;
    int8_t *statuses;
    uint64_t *generations, *lengths, *checksums;
    struct pc_pin *pins; /* slot NULL: none. */
    peercache_piece_t *pieces;
    struct key *keys; /* Those that wait for the disk. */
};

static void tick(struct pc_timer *timer, uint64_t now_ns);

/* ---- Memory and the end -------------------------------------------------- */

static void errand_free(struct errand *e)
{
    struct peercache_node *node = e->node;
    for (uint32_t k = 0; k < e->n_disk; k++) {
        pc_promote_stop(&e->keys[k].wait);
    }
    for (uint32_t i = 0; e->pins != NULL && i < e->n_keys; i++) {
        if (e->pins[i].slot != NULL) {
            pc_store_unpin(node->store, &e->pins[i]);
        }
    }
    pc_engine_timer_stop(&node->engine, &e->tick);
    pc_list_remove(&e->link);
    node->tier->n_errands--;
    node->tier->errand_bytes -= e->memory;
    pc_tier_unpinned(node->tier, e->bytes);
    pc_conn_unref(e->conn);
    pc_free(e->statuses);
    pc_free(e->generations);
    pc_free(e->lengths);
    pc_free(e->checksums);
    pc_free(e->pins);
    pc_free(e->pieces);
    pc_free(e->keys);
    pc_free(e);
}

static uint64_t memory_of(uint32_t n_keys)
{
    const struct errand *e = NULL;
    return sizeof(*e) +
           (uint64_t)n_keys *
               (sizeof(*e->statuses) + sizeof(*e->generations) +
                sizeof(*e->lengths) + sizeof(*e->checksums) + sizeof(*e->pins) +
                sizeof(*e->pieces) + sizeof(*e->keys));
}

static uint64_t memory_of_peer(const struct pc_list *errands,
                               uint64_t incarnation)
{
    uint64_t bytes = 0;
    for (const struct pc_list *at = errands->next; at != errands;
         at = at->next) {
        const struct errand *e = PC_CONTAINER_OF(at, struct errand, link);
        bytes += e->conn->remote.incarnation == incarnation ? e->memory : 0;
    }
    return bytes;
}

/* Whether one more, of so many keys, is within the bounds. */
static bool has_room(const struct pc_tier *tier, const struct pc_conn *conn,
                     uint32_t n_keys)
{
    uint64_t more = memory_of(n_keys);
    uint64_t peer = conn->remote.incarnation;
    return tier->n_errands < ERRANDS_MAX &&
           tier->errand_bytes + more <= BYTES_MAX &&
           memory_of_peer(&tier->errands, peer) +
                   memory_of_peer(&tier->answering, peer) + more <=
               BYTES_OF_PEER_MAX;
}

static struct errand *errand_new(struct peercache_node *node,
                                 struct pc_conn *conn, const struct pc_msg *msg)
{
    uint32_t n = msg->u.read.n_keys;
    struct errand *e = pc_alloc(1, sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->node = node;
    e->conn = conn;
    conn->refs++; /* It may close before we answer. */
    pc_engine_timer_init(&e->tick, tick);
    e->request = msg->request;
    e->promote = msg->type == PC_MSG_PROMOTE;
    e->n_keys = n;
    pc_list_push_back(&node->tier->errands, &e->link);
    node->tier->n_errands++;
    e->memory = memory_of(n);
    node->tier->errand_bytes += e->memory;
    e->statuses = pc_alloc(n, sizeof(*e->statuses));
    e->generations = pc_alloc(n, sizeof(*e->generations));
    e->lengths = pc_alloc(n, sizeof(*e->lengths));
    e->checksums = pc_alloc(n, sizeof(*e->checksums));
    e->pins = pc_alloc(n, sizeof(*e->pins));
    e->pieces = pc_alloc(n, sizeof(*e->pieces));
    e->keys = pc_alloc(n, sizeof(*e->keys));
    if (e->statuses == NULL || e->generations == NULL || e->lengths == NULL ||
        e->checksums == NULL || e->pins == NULL || e->pieces == NULL ||
        e->keys == NULL) {
        errand_free(e);
        return NULL;
    }
    return e;
}

/* ---- The answer ---------------------------------------------------------- */

static void pages_sent(void *arg)
{
    errand_free(arg);
}

static void answer_pages(struct errand *e)
{
    size_t n = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->n_keys; i++) {
        if (e->statuses[i] == PEERCACHE_OK) {
            e->pieces[n].addr = (void *)(uintptr_t)e->pins[i].addr;
            e->pieces[n++].len = (size_t)e->pins[i].place.length;
            bytes += e->pins[i].place.length;
        }
    }
    struct pc_msg out = {.type = PC_MSG_PAGES, .request = e->request};
    out.u.pages = (struct pc_msg_pages){
        .incarnation = e->node->self.incarnation,
        .n_keys = e->n_keys,
        .statuses = e->statuses,
        .generations = e->generations,
        .lengths = e->lengths,
        .checksums = e->checksums,
    };
    pc_metrics_add(&e->node->metrics, PC_METRIC_BYTES_SERVED, bytes);
    pc_list_remove(&e->link); /* The pins go with what is sent. */
    pc_list_push_back(&e->node->tier->answering, &e->link);
    if (pc_conn_send(e->conn, &out, e->pieces, n, pages_sent, e) !=
        PEERCACHE_OK) {
        pc_conn_fail(e->conn, e->request, PEERCACHE_NO_MEMORY, "no memory");
        errand_free(e);
    }
}

static void answer_places(struct errand *e)
{
    struct pc_record *records = pc_alloc(e->n_keys, sizeof(*records));
    struct pc_msg out = {.type = PC_MSG_PROMOTED, .request = e->request};
    out.u.promoted.n_keys = e->n_keys;
    out.u.promoted.statuses = e->statuses;
    out.u.promoted.records = records;
    for (uint32_t i = 0; records != NULL && i < e->n_keys; i++) {
        if (e->statuses[i] == PEERCACHE_OK) {
            pc_node_record(e->node, &e->pins[i].place,
                           &records[out.u.promoted.n_records++]);
        }
    }
    if (records == NULL ||
        pc_conn_send(e->conn, &out, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(e->conn, e->request, PEERCACHE_NO_MEMORY, "no memory");
    }
    pc_free(records);
    e->told = true;
    pc_engine_timer_start(&e->node->engine, &e->tick,
                          pc_engine_now(&e->node->engine) + LEASE_NS);
}

static void finish(struct errand *e)
{
    pc_engine_timer_stop(&e->node->engine, &e->tick);
    for (uint32_t k = 0; k < e->n_disk; k++) {
        pc_promote_stop(&e->keys[k].wait);
    }
    e->n_keys_waiting = 0;
    if (e->conn->state != PC_CONN_READY) {
        errand_free(e);
    } else if (e->promote) {
        answer_places(e);
    } else {
        answer_pages(e);
    }
}

/* ---- Waiting --------------------------------------------------------------
 */

static void tick(struct pc_timer *timer, uint64_t now_ns)
{
    struct errand *e = PC_CONTAINER_OF(timer, struct errand, tick);
    if (e->told) {
        errand_free(e);
        return;
    }
    if (now_ns >= e->end_ns || e->conn->state != PC_CONN_READY) {
        pc_metrics_add(&e->node->metrics, PC_METRIC_DISK_BUSY,
                       e->n_keys_waiting);
        finish(e);
        return;
    }
    struct pc_msg msg = {.type = PC_MSG_PROGRESS, .request = 0};
    msg.u.ping.token = e->request;
    (void)pc_conn_send(e->conn, &msg, NULL, 0, NULL, NULL);
    uint64_t next = now_ns + PROGRESS_NS;
    pc_engine_timer_start(&e->node->engine, timer,
                          next < e->end_ns ? next : e->end_ns);
}

static void take_pin(struct errand *e, uint32_t i, const struct pc_pin *pin)
{
    e->pins[i] = *pin;
    e->generations[i] = pin->place.generation;
    e->lengths[i] = pin->place.length;
    e->checksums[i] = pin->place.checksum;
    e->statuses[i] = PEERCACHE_OK;
}

static void promoted(struct pc_promote_wait *wait, peercache_status_t status,
                     struct pc_pin *pin)
{
    struct key *key = PC_CONTAINER_OF(wait, struct key, wait);
    struct errand *e = key->errand;
    if (status == PEERCACHE_OK && pin->place.length != e->lengths[key->i]) {
        /* Another value was put meanwhile. */
        e->lengths[key->i] = pin->place.length;
        e->statuses[key->i] = PEERCACHE_SIZE_MISMATCH;
        pc_store_unpin(e->node->store, pin);
    } else if (status == PEERCACHE_OK) {
        take_pin(e, key->i, pin);
    } else {
        e->statuses[key->i] =
            (int8_t)(status == PEERCACHE_NOT_FOUND ? PEERCACHE_NOT_FOUND
                                                   : PEERCACHE_AGAIN);
    }
    if (--e->n_keys_waiting == 0) {
        finish(e);
    }
}

/* ---- The start ------------------------------------------------------------
 */

/* Room for one more pin, of this errand and of all. */
static bool take_room(struct errand *e, uint64_t length)
{
    if (!pc_tier_may_pin(e->node->tier, e->bytes, length)) {
        return false;
    }
    e->bytes += length;
    return true;
}

/* In the pool: pinned now. True: that settles it. */
static bool take_from_pool(struct errand *e, uint32_t i,
                           const struct pc_record *wanted)
{
    struct pc_pin pin;
    if (!pc_store_pin(e->node->store, wanted->digest, &pin)) {
        return false;
    }
    take_pin(e, i, &pin);
    if (pin.place.length != wanted->length) {
        e->statuses[i] = PEERCACHE_SIZE_MISMATCH;
    } else if (!take_room(e, wanted->length)) {
        e->statuses[i] = PEERCACHE_AGAIN;
    } else {
        return true;
    }
    pc_store_unpin(e->node->store, &e->pins[i]);
    return true;
}

static void take_from_disk(struct errand *e, uint32_t i,
                           const struct pc_record *wanted)
{
    struct peercache_node *node = e->node;
    struct pc_disk_place place;
    struct key *key = &e->keys[e->n_disk];
    e->statuses[i] = PEERCACHE_NOT_FOUND;
    if (!pc_tier_find(node, wanted->digest, &place)) {
        return;
    }
    e->lengths[i] = place.length;
    if (place.length != wanted->length) {
        e->statuses[i] = PEERCACHE_SIZE_MISMATCH;
        return;
    }
    e->statuses[i] = PEERCACHE_AGAIN;
    if (!take_room(e, place.length)) {
        return;
    }
    key->errand = e;
    key->i = i;
    key->wait.done = promoted;
    pc_list_init(&key->wait.link);
    peercache_status_t status = pc_promote(node, wanted->digest, &key->wait);
    if (status == PEERCACHE_OK) {
        e->n_disk++;
        e->n_keys_waiting++;
    } else {
        e->statuses[i] = (int8_t)status;
    }
}

static void take_keys(struct errand *e, const struct pc_msg_read *read)
{
    uint64_t answer = 0;
    for (uint32_t i = 0; i < read->n_keys; i++) {
        const struct pc_record *wanted = &read->records[i];
        answer += wanted->length;
        if (!e->promote && i > 0 && answer > PC_ANSWER_BYTES_MAX) {
            /* No node of ours asks for so much at a time. */
            e->statuses[i] = PEERCACHE_NOT_FOUND;
        } else if (!take_from_pool(e, i, wanted)) {
            take_from_disk(e, i, wanted);
        }
    }
}

void pc_errand_start(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg)
{
    const struct pc_msg_read *read = &msg->u.read;
    uint64_t now_ns = pc_engine_now(&node->engine);
    uint64_t wait_ns =
        read->wait_ns < PATIENCE_MAX_NS ? read->wait_ns : PATIENCE_MAX_NS;
    if (node->tier == NULL) {
        pc_conn_fail(conn, msg->request, PEERCACHE_UNSUPPORTED, "no disk");
        return;
    }
    if (!has_room(node->tier, conn, read->n_keys)) {
        pc_metrics_add(&node->metrics, PC_METRIC_DISK_BUSY, read->n_keys);
        pc_conn_fail(conn, msg->request, PEERCACHE_AGAIN,
                     "too many wait for the disk");
        return;
    }
    /* acquire: pairs with the node's end, which has ended all errands. */
    if (atomic_load_explicit(&node->closing, memory_order_acquire)) {
        pc_conn_fail(conn, msg->request, PEERCACHE_SHUTDOWN, "shutting down");
        return;
    }
    struct errand *e = errand_new(node, conn, msg);
    if (e == NULL) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
        return;
    }
    /* The bytes need some of the time as well. */
    e->end_ns = now_ns + wait_ns - wait_ns / 4;
    take_keys(e, read);
    if (e->n_keys_waiting == 0) {
        finish(e);
    } else {
        uint64_t next = now_ns + PROGRESS_NS;
        pc_engine_timer_start(&node->engine, &e->tick,
                              next < e->end_ns ? next : e->end_ns);
    }
}

void pc_errand_end_all(struct peercache_node *node)
{
    struct pc_list *errands = &node->tier->errands;
    while (!pc_list_is_empty(errands)) {
        struct errand *e = PC_CONTAINER_OF(errands->next, struct errand, link);
        if (e->told) {
            errand_free(e);
        } else {
            finish(e);
        }
    }
}
