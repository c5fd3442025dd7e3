#include "promote.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

/* At a time: values that are being read, of the pool's bytes an eighth, and
 * values that wait for that. */
#define READING_MAX   64
#define READING_SHARE 8
#define QUEUED_MAX    16384
/* Looked at in one turn: each may try for room in the pool. */
#define PUMP_MAX 64

struct promotion
{
    struct pc_list link; /* tier->queued, until it has a slot. */
    struct pc_list waits;
    struct pc_tier *tier;
    struct pc_disk_place from;
    struct pc_reservation reservation;
    bool reading;
    struct pc_task task; /* From the disk to the engine. */
    enum pc_disk_result result;
};

static void pump(struct pc_tier *tier);

/* ---- The end ------------------------------------------------------------ */

/* Takes it out of the way first: those who are told may ask again. */
static void end(struct promotion *p, peercache_status_t status,
                const struct pc_place *place)
{
    struct pc_tier *tier = p->tier;
    struct peercache_node *node = tier->node;
    struct pc_list waits;
    struct pc_list *at;
    pc_list_init(&waits);
    pc_list_splice_back(&waits, &p->waits);
    if (pc_list_is_linked(&p->link)) {
        pc_list_remove(&p->link);
        tier->n_queued--;
    }
    (void)pc_map_remove(&tier->promotions, p->from.digest);
    pc_free(p);
    while ((at = pc_list_pop_front(&waits)) != NULL) {
        struct pc_promote_wait *wait =
            PC_CONTAINER_OF(at, struct pc_promote_wait, link);
        struct pc_pin pin = {0};
        peercache_status_t his = status;
        if (status == PEERCACHE_OK && !pc_store_hold(node->store, place->digest,
                                                     place->generation, &pin)) {
            his = PEERCACHE_AGAIN; /* Removed, while others were told. */
        }
        wait->done(wait, his, &pin);
    }
}

/* It came into the pool by another way, such as a put. */
static bool is_there(struct promotion *p)
{
    struct pc_place place;
    if (!pc_store_find(p->tier->node->store, p->from.digest, true, &place)) {
        return false;
    }
    end(p, PEERCACHE_OK, &place);
    return true;
}

static enum pc_metric failure_of(enum pc_disk_result result)
{
    switch (result) {
    case PC_DISK_CORRUPT:
        return PC_METRIC_PROMOTE_CORRUPT;
    case PC_DISK_IO:
    case PC_DISK_LOST:
        return PC_METRIC_PROMOTE_IO;
    default:
        return PC_METRIC_PROMOTE_GONE;
    }
}

/* Its bytes did not come. What the machine is short of now (memory, open
 * files, room in the queue) is no word about the value. */
static void fail(struct promotion *p, enum pc_disk_result result)
{
    bool busy = result == PC_DISK_QUEUE_FULL || result == PC_DISK_NO_MEMORY;
    pc_metrics_add(&p->tier->node->metrics,
                   busy ? PC_METRIC_PROMOTE_NO_ROOM : failure_of(result), 1);
    end(p, busy ? PEERCACHE_AGAIN : PEERCACHE_NOT_FOUND, NULL);
}

/* ---- Reading ------------------------------------------------------------ */

/* The record that was read is still the one that counts: neither removed nor
 * superseded, nor in the pool again, while the disk was busy. A clear has
 * looked at the pool before it empties the disk: nothing comes back behind it.
 */
static bool still_counts(const struct promotion *p)
{
    struct peercache_node *node = p->tier->node;
    struct pc_disk_place now;
    struct pc_place place;
    return p->tier->n_clearing == 0 &&
           pc_tier_find(node, p->from.digest, &now) &&
           now.length == p->from.length && now.checksum == p->from.checksum &&
           !pc_store_find(node->store, p->from.digest, false, &place);
}

static void seal(struct promotion *p)
{
    struct peercache_node *node = p->tier->node;
    struct pc_pin pin;
    pc_store_seal(node->store, &p->reservation, p->from.checksum, &pin);
    pc_metrics_add(&node->metrics, PC_METRIC_PROMOTES, 1);
    /* Nobody waits for the owners: its readers have it from here, and others
     * find the record of the disk until then. */
    pc_publish_unwaited(node, &pin.place);
    end(p, PEERCACHE_OK, &pin.place);
    pc_store_unpin(node->store, &pin);
}

static void read_over(struct pc_task *task)
{
    struct promotion *p = PC_CONTAINER_OF(task, struct promotion, task);
    struct pc_tier *tier = p->tier;
    struct peercache_node *node = tier->node;
    tier->n_reading--;
    tier->reading_bytes -= p->from.length;
    if (p->result == PC_DISK_OK && still_counts(p)) {
        seal(p);
    } else {
        pc_store_abandon(node->store, &p->reservation);
        /* Whatever became of the record: a put may have brought the value. */
        if (!is_there(p)) {
            fail(p, p->result);
        }
    }
    pump(tier);
}

/* From the disk, any thread. */
static void was_read(void *arg, enum pc_disk_result result,
                     const struct pc_disk_found *found)
{
    struct promotion *p = arg;
    p->result = result;
    if (result == PC_DISK_OK && (found->place.length != p->from.length ||
                                 found->place.checksum != p->from.checksum)) {
        p->result = PC_DISK_REMOVED; /* Another one, newer than we looked. */
    }
    pc_engine_submit(&p->tier->node->engine, &p->task);
}

/* False: it has to wait for others to end. */
static bool start(struct promotion *p)
{
    struct pc_tier *tier = p->tier;
    struct peercache_node *node = tier->node;
    peercache_status_t status = pc_store_reserve(
        node->store, p->from.digest, p->from.length, &p->reservation);
    if (status == PEERCACHE_NO_SPACE && tier->n_reading > 0) {
        return false;
    }
    if (status != PEERCACHE_OK) {
        pc_metrics_add(&node->metrics, PC_METRIC_PROMOTE_NO_ROOM, 1);
        end(p,
            status == PEERCACHE_NO_SPACE ? PEERCACHE_AGAIN
                                         : PEERCACHE_NOT_FOUND,
            NULL);
        return true;
    }
    struct pc_disk_read read = {.digest = p->from.digest,
                                .buffer = p->reservation.addr,
                                .length = p->from.length,
                                .done = was_read,
                                .arg = p};
    pc_list_remove(&p->link);
    tier->n_queued--;
    p->reading = true;
    tier->n_reading++;
    tier->reading_bytes += p->from.length;
    enum pc_disk_result result = pc_disk_read(tier->disk, &read);
    if (result == PC_DISK_OK) {
        return true;
    }
    tier->n_reading--;
    tier->reading_bytes -= p->from.length;
    pc_store_abandon(node->store, &p->reservation);
    if (!is_there(p)) {
        fail(p, result);
    }
    return true;
}

static bool has_room(const struct pc_tier *tier, uint64_t length)
{
    uint64_t limit = pc_store_capacity(tier->node->store) / READING_SHARE;
    return tier->n_reading == 0 || (tier->n_reading < READING_MAX &&
                                    tier->reading_bytes + length <= limit);
}

static void pump(struct pc_tier *tier)
{
    struct pc_engine *engine = &tier->node->engine;
    struct pc_list *at;
    if (tier->pump_timer.node.index != 0) {
        return; /* This turn had its part, whoever ends in it. */
    }
    for (unsigned n = 0; (at = tier->queued.next) != &tier->queued; n++) {
        struct promotion *p = PC_CONTAINER_OF(at, struct promotion, link);
        if (n == PUMP_MAX) {
            /* Not in this turn, which is the others' as well. */
            pc_engine_timer_start(engine, &tier->pump_timer,
                                  pc_engine_now(engine) + 1);
            return;
        }
        if (pc_list_is_empty(&p->waits)) {
            end(p, PEERCACHE_AGAIN, NULL); /* Nobody is told. */
        } else if (!has_room(tier, p->from.length)) {
            return;
        } else if (!is_there(p) && !start(p)) {
            return;
        }
    }
}

/* ---- Asking ------------------------------------------------------------- */

static struct promotion *find(const struct pc_tier *tier,
                              struct pc_digest digest)
{
    uint64_t value;
    if (!pc_map_get(&tier->promotions, digest, &value)) {
        return NULL;
    }
    return (struct promotion *)(uintptr_t)value;
}

static void pump_later(struct pc_task *task)
{
    struct pc_tier *tier = PC_CONTAINER_OF(task, struct pc_tier, pump_task);
    tier->pumping = false;
    pump(tier);
}

static void pump_on(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    pump(PC_CONTAINER_OF(timer, struct pc_tier, pump_timer));
}

void pc_promote_init(struct pc_tier *tier)
{
    pc_map_init(&tier->promotions);
    pc_list_init(&tier->queued);
    pc_engine_timer_init(&tier->pump_timer, pump_on);
}

static struct promotion *make(struct pc_tier *tier,
                              const struct pc_disk_place *from)
{
    struct promotion *p = pc_alloc(1, sizeof(*p));
    if (p == NULL ||
        !pc_map_put(&tier->promotions, from->digest, (uint64_t)(uintptr_t)p)) {
        pc_free(p);
        return NULL;
    }
    p->tier = tier;
    p->from = *from;
    p->task.run = read_over;
    pc_list_init(&p->waits);
    pc_list_push_back(&tier->queued, &p->link);
    tier->n_queued++;
    return p;
}

peercache_status_t pc_promote(struct peercache_node *node,
                              struct pc_digest digest,
                              struct pc_promote_wait *wait)
{
    struct pc_tier *tier = node->tier;
    struct pc_disk_place from;
    if (!pc_tier_find(node, digest, &from)) {
        return PEERCACHE_NOT_FOUND;
    }
    struct promotion *p = find(tier, digest);
    if (p == NULL && tier->n_queued >= QUEUED_MAX) {
        pc_metrics_add(&node->metrics, PC_METRIC_PROMOTE_NO_ROOM, 1);
        return PEERCACHE_AGAIN;
    }
    if (p == NULL) {
        p = make(tier, &from);
    }
    if (p == NULL) {
        return PEERCACHE_AGAIN;
    }
    pc_list_push_back(&p->waits, &wait->link);
    /* Not from here: who is told would still be asking. */
    if (!tier->pumping && !p->reading) {
        tier->pumping = true;
        tier->pump_task.run = pump_later;
        pc_engine_submit(&node->engine, &tier->pump_task);
    }
    return PEERCACHE_OK;
}

void pc_promote_stop(struct pc_promote_wait *wait)
{
    pc_list_remove(&wait->link);
}

void pc_promote_begin_close(struct pc_tier *tier)
{
    struct pc_list *at;
    pc_engine_timer_stop(&tier->node->engine, &tier->pump_timer);
    while ((at = tier->queued.next) != &tier->queued) {
        end(PC_CONTAINER_OF(at, struct promotion, link), PEERCACHE_SHUTDOWN,
            NULL);
    }
    /* Those being read end as their bytes come, or with the disk. */
}
