/* One-sided reads: chunks that are copied at different times, in a random
 * order, from memory that its owner may be changing. In software a few of a
 * peer's are under way, one a lane, and the others wait for them: headers in
 * front, as they prove what has come. */
#include "fabric_state.h"

#include "base/assert.h"
#include "base/seqlock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Software reads under way from one peer. */
#define LANES 4

struct sim_get
{
    struct pc_list in_list; /* Of its peer: gets or waiting; then of done. */
    struct pc_sim_event event;
    struct pc_fabric_get *get;
    struct pc_fabric_peer *peer;
    struct pc_sim_segment *segment; /* NULL: was gone before. */
    const uint8_t *from;
    size_t chunk;
    size_t n_chunks;
    size_t n_landed;
    size_t first; /* Chunks go round from here. */
    bool backward;
    bool stalled;
    bool waiting;  /* For a lane. */
    bool canceled; /* Ends before its next chunk. */
    peercache_status_t status;
};

static_assert(sizeof(struct sim_get *) <=
                  sizeof(((struct pc_fabric_get *)0)->priv),
              "fits in the poster's memory");

static struct pc_sim *sim_of(const struct sim_get *sg)
{
    return sg->peer->fabric->host->sim;
}

static void start_get(struct sim_get *sg)
{
    struct pc_fabric_peer *peer = sg->peer;
    const struct pc_sim_host *reader = peer->fabric->host;
    const struct pc_sim_host *owner = pc_sim_peer_host(peer);
    sg->waiting = false;
    peer->n_lanes += !peer->path.native;
    pc_list_push_back(&peer->gets, &sg->in_list);
    pc_sim_schedule(
        reader->sim, &sg->event,
        reader->sim->now_ns +
            2 * pc_sim_latency(reader, owner == NULL ? reader : owner));
}

static void end_get(struct sim_get *sg, peercache_status_t status)
{
    struct pc_fabric *fabric = sg->peer->fabric;
    pc_sim_unschedule(sim_of(sg), &sg->event);
    sg->status = status;
    pc_list_remove(&sg->in_list);
    if (!sg->waiting && !sg->peer->path.native) {
        struct pc_list *next = pc_list_pop_front(&sg->peer->waiting);
        sg->peer->n_lanes--;
        if (next != NULL) {
            start_get(PC_CONTAINER_OF(next, struct sim_get, in_list));
        }
    }
    sg->waiting = false;
    pc_list_push_back(&fabric->done, &sg->in_list);
    pc_sim_host_notify(fabric->host);
    struct pc_sim_host *host = pc_sim_peer_host(sg->peer);
    if (fabric->host->dead) {
        return; /* Its owner cleans up; nothing of that happens. */
    }
    pc_sim_trace(sim_of(sg), "%s <- %s got %zu of %zu chunks %s",
                 fabric->host->name, host == NULL ? "nobody" : host->name,
                 sg->n_landed, sg->n_chunks, peercache_status_name(status));
}

static void copy_chunk(struct sim_get *sg)
{
    size_t at = sg->backward ? sg->n_chunks - 1 - sg->n_landed : sg->n_landed;
    at = (at + sg->first) % sg->n_chunks;
    size_t offset = at * sg->chunk;
    size_t len = sg->get->len - offset;
    len = len < sg->chunk ? len : sg->chunk;
    pc_racy_copy((uint8_t *)sg->get->local + offset, sg->from + offset, len);
    sg->n_landed++;
}

/* Until the next chunk: its time on the line, and some jitter. */
static uint64_t next_ns(const struct sim_get *sg,
                        const struct pc_sim_host *owner)
{
    const struct pc_sim_host *reader = sg->peer->fabric->host;
    struct pc_sim_path path = pc_sim_path_of(reader, owner);
    return pc_sim_transfer_ns(&path, sg->chunk) +
           pc_sim_rand_below(sim_of(sg), path.latency_max_ns / 8 + 1);
}

static void get_event(struct pc_sim_event *event)
{
    struct sim_get *sg = PC_CONTAINER_OF(event, struct sim_get, event);
    struct pc_fabric *fabric = sg->peer->fabric;
    struct pc_sim_host *owner = pc_sim_peer_host(sg->peer);

    if (fabric->host->dead) {
        return; /* So is the memory that it would land in. */
    }
    if (owner == NULL || owner->dead || sg->segment == NULL ||
        !sg->segment->registered) {
        pc_sim_peer_lose(sg->peer); /* Which ends this get as well. */
        return;
    }
    if (pc_sim_peer_is_silent(sg->peer)) {
        sg->stalled = true;
        return;
    }
    if (sg->n_landed == sg->n_chunks || sg->canceled) {
        end_get(sg, sg->n_landed == sg->n_chunks ? PEERCACHE_OK
                                                 : PEERCACHE_CANCELED);
        return;
    }
    copy_chunk(sg);
    pc_sim_schedule(sim_of(sg), &sg->event,
                    sim_of(sg)->now_ns + next_ns(sg, owner));
}

static bool covers(const struct pc_fabric_mem *mem, const void *local,
                   size_t len)
{
    uintptr_t base = (uintptr_t)mem->addr;
    uintptr_t at = (uintptr_t)local;
    return at >= base && at - base <= mem->len && len <= mem->len - (at - base);
}

static struct sim_get *create(struct pc_fabric_get *get)
{
    struct pc_fabric_peer *peer = get->peer;
    struct pc_sim *sim = peer->fabric->host->sim;
    struct sim_get *sg = pc_sim_alloc(1, sizeof(*sg));

    sg->get = get;
    sg->peer = peer;
    sg->segment = get->rkey->segment;
    if (sg->segment != NULL) {
        sg->segment->n_refs++;
        sg->from =
            sg->segment->base + (get->remote_addr - get->rkey->blob.base);
    }
    sg->chunk = sim->chunk;
    sg->n_chunks = get->len / sg->chunk + (get->len % sg->chunk != 0);
    sg->first = (size_t)pc_sim_rand_below(sim, sg->n_chunks);
    sg->backward = pc_sim_rand_below(sim, 2) == 1;
    sg->status = PEERCACHE_IN_PROGRESS;
    pc_sim_event_init(&sg->event, get_event);
    pc_list_init(&sg->in_list);
    return sg;
}

peercache_status_t pc_sim_get(struct pc_fabric_get *get)
{
    struct pc_fabric_rkey *rkey = get->rkey;
    if (rkey->peer == NULL || rkey->peer != get->peer || get->len == 0 ||
        !pc_sim_rkey_covers(rkey, get->remote_addr, get->len) ||
        (get->mem != NULL && !covers(get->mem, get->local, get->len))) {
        return PEERCACHE_INVALID;
    }
    struct pc_fabric_peer *peer = get->peer;
    struct pc_sim_host *reader = peer->fabric->host;
    if (peer->fabric->closing || reader->dead) {
        return PEERCACHE_SHUTDOWN;
    }
    if (peer->state == PC_SIM_FAILED) {
        return PEERCACHE_PEER_FAILED;
    }
    if (!peer->can_get) {
        return PEERCACHE_UNREACHABLE;
    }
    struct sim_get *sg = create(get);
    const struct pc_sim_host *owner = pc_sim_peer_host(peer);
    memcpy(get->priv, &sg, sizeof(struct sim_get *));
    peer->n_gets++;
    pc_sim_trace(reader->sim, "%s <- %s get %zu", reader->name,
                 owner == NULL ? "nobody" : owner->name, get->len);
    if (peer->path.native || peer->n_lanes < LANES) {
        start_get(sg);
    } else {
        sg->waiting = true;
        if (get->first) {
            pc_list_push_front(&peer->waiting, &sg->in_list);
        } else {
            pc_list_push_back(&peer->waiting, &sg->in_list);
        }
    }
    return PEERCACHE_IN_PROGRESS;
}

bool pc_sim_cancel(struct pc_fabric_get *get)
{
    struct sim_get *sg;
    memcpy(&sg, get->priv, sizeof(struct sim_get *));
    if (sg->status != PEERCACHE_IN_PROGRESS) {
        return true;
    }
    if (sg->waiting) {
        end_get(sg, PEERCACHE_CANCELED);
        return true;
    }
    sg->canceled = !sg->peer->path.native;
    return false;
}

void pc_sim_gets_drop(struct pc_fabric_peer *peer, peercache_status_t status)
{
    while (!pc_list_is_empty(&peer->waiting)) {
        end_get(PC_CONTAINER_OF(peer->waiting.next, struct sim_get, in_list),
                status);
    }
}

void pc_sim_gets_end(struct pc_fabric_peer *peer, peercache_status_t status)
{
    pc_sim_gets_drop(peer, status);
    while (!pc_list_is_empty(&peer->gets)) {
        struct sim_get *sg =
            PC_CONTAINER_OF(peer->gets.next, struct sim_get, in_list);
        /* A few end well while their way is being closed. */
        bool landed = status == PEERCACHE_CANCELED &&
                      sg->n_landed == sg->n_chunks && !peer->fabric->host->dead;
        end_get(sg, landed ? PEERCACHE_OK : status);
    }
}

void pc_sim_gets_resume(struct pc_fabric_peer *peer)
{
    for (struct pc_list *at = peer->gets.next; at != &peer->gets;
         at = at->next) {
        struct sim_get *sg = PC_CONTAINER_OF(at, struct sim_get, in_list);
        struct pc_sim_host *owner = pc_sim_peer_host(peer);
        if (sg->stalled) {
            sg->stalled = false;
            pc_sim_schedule(
                sim_of(sg), &sg->event,
                sim_of(sg)->now_ns +
                    pc_sim_latency(peer->fabric->host,
                                   owner == NULL ? peer->fabric->host : owner));
        }
    }
}

unsigned pc_sim_gets_deliver(struct pc_fabric *fabric)
{
    struct pc_list batch;
    struct pc_list *node;
    unsigned n_done = 0;

    pc_list_init(&batch);
    pc_list_splice_back(&batch, &fabric->done);
    while ((node = pc_list_pop_front(&batch)) != NULL) {
        struct sim_get *sg = PC_CONTAINER_OF(node, struct sim_get, in_list);
        struct pc_fabric_get *get = sg->get;
        struct pc_fabric_peer *peer = sg->peer;
        peercache_status_t status = sg->status;
        pc_sim_segment_unref(sg->segment);
        free(sg);
        get->done(get, status);
        pc_sim_peer_get_over(peer);
        n_done++;
    }
    return n_done;
}
