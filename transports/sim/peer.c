#include "fabric_state.h"

#include "base/assert.h"
#include "base/digest.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

uint64_t pc_sim_fabric_checksum(const struct pc_sim_fabric_blob *blob)
{
    return pc_checksum(blob, offsetof(struct pc_sim_fabric_blob, checksum));
}

void pc_sim_peer_notify(struct pc_fabric_peer *peer)
{
    if (!pc_list_is_linked(&peer->in_ready)) {
        pc_list_push_back(&peer->fabric->ready, &peer->in_ready);
        pc_sim_host_notify(peer->fabric->host);
    }
}

struct pc_sim_host *pc_sim_peer_host(const struct pc_fabric_peer *peer)
{
    const struct pc_fabric *fabric = pc_sim_table_get(
        &peer->fabric->host->sim->fabric_ids, peer->blob.fabric_id);
    return fabric == NULL ? NULL : fabric->host;
}

/* Somebody who is to answer by software must not be stopped; the network card
 * answers all the same. */
bool pc_sim_peer_is_silent(const struct pc_fabric_peer *peer)
{
    const struct pc_sim_host *reader = peer->fabric->host;
    const struct pc_sim_host *owner = pc_sim_peer_host(peer);
    return owner != NULL &&
           (pc_sim_is_cut(reader, owner) ||
            (!peer->path.native && (owner->frozen || reader->frozen)));
}

static void schedule(struct pc_fabric_peer *peer, uint64_t rounds)
{
    struct pc_sim_host *reader = peer->fabric->host;
    struct pc_sim_host *owner = pc_sim_peer_host(peer);
    uint64_t latency = pc_sim_latency(reader, owner == NULL ? reader : owner);
    pc_sim_schedule(reader->sim, &peer->event,
                    reader->sim->now_ns + rounds * latency);
}

/* ---- What happens to a peer ---------------------------------------------- */

/* There should be a way for gets, but it brings nothing. */
static void try_in_vain(struct pc_fabric_peer *peer,
                        const struct pc_sim_host *owner)
{
    const struct pc_sim_host *reader = peer->fabric->host;
    peer->state = PC_SIM_FAILED;
    if (peer->can_map) {
        peer->tells_failed = true;
    } else {
        peer->path.status = PEERCACHE_PEER_FAILED;
        peer->tells_path = true;
    }
    pc_sim_trace(reader->sim, "%s tries a way to %s in vain", reader->name,
                 owner->name);
    pc_sim_peer_notify(peer);
}

/* Its answer has come: there is a way for gets, or there is none. */
static void answer(struct pc_fabric_peer *peer, struct pc_sim_host *owner)
{
    const struct pc_sim_host *reader = peer->fabric->host;
    bool can_get = reader->can_get && owner->can_get;
    if (can_get && owner->n_bad_tries > 0) {
        owner->n_bad_tries--;
        try_in_vain(peer, owner);
        return;
    }
    peer->state = PC_SIM_KNOWN;
    if (!can_get && peer->can_map) {
        return; /* That has been told. */
    }
    peer->path = (struct pc_fabric_path){
        .status = can_get ? PEERCACHE_OK : PEERCACHE_UNREACHABLE,
        .can_map = peer->can_map,
        .can_get = can_get,
        .native = can_get && pc_sim_path_of(reader, owner).native,
    };
    snprintf(peer->path.carrier, sizeof(peer->path.carrier), "sim");
    peer->tells_path = true;
    pc_sim_trace(reader->sim, "%s finds a way to %s%s%s", reader->name,
                 owner->name, peer->can_map ? " map" : "",
                 !can_get            ? ""
                 : peer->path.native ? " get native"
                                     : " get");
    pc_sim_peer_notify(peer);
}

static void fail(struct pc_fabric_peer *peer)
{
    const struct pc_sim_host *reader = peer->fabric->host;
    const struct pc_sim_host *owner = pc_sim_peer_host(peer);
    pc_sim_trace(reader->sim, "%s loses its way to %s", reader->name,
                 owner == NULL ? "nobody" : owner->name);
    peer->state = PC_SIM_FAILED;
    peer->tells_failed = true;
    pc_sim_gets_end(peer, PEERCACHE_PEER_FAILED);
    pc_sim_peer_notify(peer);
}

static void peer_event(struct pc_sim_event *event)
{
    struct pc_fabric_peer *peer =
        PC_CONTAINER_OF(event, struct pc_fabric_peer, event);
    const struct pc_sim_host *reader = peer->fabric->host;
    struct pc_sim_host *owner = pc_sim_peer_host(peer);

    switch (peer->state) {
    case PC_SIM_PROBING:
        if (owner == NULL || owner->dead) {
            return; /* It will never answer. */
        }
        /* Even the first answer of a card takes its owner's process. */
        peer->stalled = pc_sim_is_cut(reader, owner) || owner->frozen;
        if (!peer->stalled) {
            answer(peer, owner);
        }
        break;
    case PC_SIM_KNOWN:
        peer->stalled = owner != NULL && pc_sim_is_cut(reader, owner);
        if (!peer->stalled) {
            fail(peer);
        }
        break;
    case PC_SIM_DETACHING:
        pc_sim_gets_end(peer, PEERCACHE_CANCELED);
        pc_sim_peer_notify(peer);
        break;
    case PC_SIM_FAILED:
        break;
    }
}

void pc_sim_peer_lose(struct pc_fabric_peer *peer)
{
    if (peer->state == PC_SIM_KNOWN && peer->path.can_get && !peer->stalled &&
        !pc_sim_is_scheduled(&peer->event)) {
        schedule(peer, 1);
    }
}

static void for_each_peer(struct pc_sim *sim,
                          void (*act)(struct pc_fabric_peer *peer,
                                      const void *arg),
                          const void *arg)
{
    for (struct pc_list *f = sim->fabrics.next; f != &sim->fabrics;
         f = f->next) {
        struct pc_fabric *fabric = PC_CONTAINER_OF(f, struct pc_fabric, in_sim);
        for (struct pc_list *p = fabric->peers.next; p != &fabric->peers;
             p = p->next) {
            act(PC_CONTAINER_OF(p, struct pc_fabric_peer, in_fabric), arg);
        }
    }
}

static void lose_if_host(struct pc_fabric_peer *peer, const void *host)
{
    if (pc_sim_peer_host(peer) == host) {
        pc_sim_peer_lose(peer);
    }
}

void pc_sim_fabrics_host_died(struct pc_sim_host *host)
{
    if (!pc_list_is_empty(&host->fabrics)) {
        for_each_peer(host->sim, lose_if_host, host);
    }
}

void pc_sim_peers_lose(struct pc_fabric *fabric, bool tell)
{
    struct pc_list *at;
    while ((at = pc_list_pop_front(&fabric->meant_by)) != NULL) {
        if (tell) {
            pc_sim_peer_lose(
                PC_CONTAINER_OF(at, struct pc_fabric_peer, in_meant));
        }
    }
}

static void resume(struct pc_fabric_peer *peer, const void *arg)
{
    (void)arg;
    if (peer->stalled) {
        peer->stalled = false;
        schedule(peer, 1);
    }
    pc_sim_gets_resume(peer);
}

void pc_sim_fabrics_resume(struct pc_sim *sim)
{
    for_each_peer(sim, resume, NULL);
}

/* ---- Attach and detach --------------------------------------------------- */

/* What is known from the address alone: shared memory, or another version. */
static void tell_first(struct pc_fabric_peer *peer, bool same_version)
{
    const struct pc_fabric *fabric = peer->fabric;
    const struct pc_sim_host *owner = pc_sim_peer_host(peer);
    peer->can_map = fabric->params.shm && owner != NULL &&
                    owner->machine == fabric->host->machine;
    if (!peer->can_map && same_version) {
        return;
    }
    peer->path.status = peer->can_map ? PEERCACHE_OK : PEERCACHE_VERSION;
    peer->path.can_map = peer->can_map;
    snprintf(peer->path.carrier, sizeof(peer->path.carrier), "sim");
    peer->tells_path = true;
}

peercache_status_t pc_sim_attach(struct pc_fabric *fabric,
                                 struct pc_blob address, void *peer_arg,
                                 struct pc_fabric_peer **peer_p)
{
    struct pc_sim_fabric_blob blob;
    if (address.len != sizeof(blob)) {
        return PEERCACHE_PROTOCOL;
    }
    memcpy(&blob, address.data, sizeof(blob));
    if (blob.magic != PC_SIM_ADDRESS_MAGIC ||
        blob.checksum != pc_sim_fabric_checksum(&blob)) {
        return PEERCACHE_PROTOCOL;
    }
    if (fabric->closing || fabric->host->dead) {
        return PEERCACHE_SHUTDOWN;
    }
    struct pc_fabric_peer *peer = pc_alloc(1, sizeof(*peer));
    if (peer == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    bool same_version = blob.version == fabric->blob.version;
    peer->fabric = fabric;
    peer->blob = blob;
    peer->arg = peer_arg;
    peer->state = same_version ? PC_SIM_PROBING : PC_SIM_KNOWN;
    pc_list_init(&peer->in_fabric);
    pc_list_init(&peer->in_ready);
    pc_list_init(&peer->in_meant);
    pc_list_init(&peer->gets);
    pc_list_init(&peer->waiting);
    pc_list_init(&peer->rkeys);
    pc_sim_event_init(&peer->event, peer_event);
    pc_list_push_back(&fabric->peers, &peer->in_fabric);
    struct pc_fabric *meant =
        pc_sim_table_get(&fabric->host->sim->fabric_ids, blob.fabric_id);
    if (meant != NULL) {
        pc_list_push_back(&meant->meant_by, &peer->in_meant);
    }
    peer->probes = same_version;
    tell_first(peer, same_version);
    pc_sim_peer_notify(peer);
    *peer_p = peer;
    return PEERCACHE_OK;
}

/* As on real cards, what is under way goes on landing for a while. */
void pc_sim_detach(struct pc_fabric_peer *peer,
                   void (*detached)(void *peer_arg))
{
    struct pc_sim *sim = peer->fabric->host->sim;
    peer->detached = detached;
    if (peer->state == PC_SIM_DETACHING) {
        return; /* The fabric is being closed, and detaches all by itself. */
    }
    peer->state = PC_SIM_DETACHING;
    peer->tells_path = false;
    peer->tells_failed = false;
    peer->probes = false;
    peer->stalled = false;
    while (!pc_list_is_empty(&peer->rkeys)) {
        pc_sim_rkey_forget_peer(
            PC_CONTAINER_OF(peer->rkeys.next, struct pc_fabric_rkey, in_peer));
    }
    pc_sim_gets_drop(peer, PEERCACHE_CANCELED);
    if (pc_list_is_empty(&peer->gets)) {
        pc_sim_unschedule(sim, &peer->event);
        pc_sim_peer_notify(peer);
    } else {
        schedule(peer, 1);
    }
}

static void peer_free(struct pc_fabric_peer *peer)
{
    PC_ASSERT(peer->n_gets == 0);
    pc_sim_unschedule(peer->fabric->host->sim, &peer->event);
    pc_list_remove(&peer->in_ready);
    pc_list_remove(&peer->in_fabric);
    pc_list_remove(&peer->in_meant);
    pc_free(peer);
}

void pc_sim_peer_get_over(struct pc_fabric_peer *peer)
{
    peer->n_gets--;
    if (peer->state == PC_SIM_DETACHING) {
        pc_sim_peer_notify(peer);
    }
}

unsigned pc_sim_peer_run(struct pc_fabric_peer *peer)
{
    const struct pc_fabric_params *params = &peer->fabric->params;
    unsigned work = 0;

    if (peer->probes) {
        peer->probes = false;
        schedule(peer, 2);
        work++;
    }
    if (peer->tells_path) {
        struct pc_fabric_path path = peer->path;
        peer->tells_path = false;
        peer->can_get = path.can_get;
        params->attached(params->arg, peer->arg, &path);
        work++;
    }
    if (peer->tells_failed) {
        peer->tells_failed = false;
        params->peer_failed(params->arg, peer->arg, PEERCACHE_PEER_FAILED);
        work++;
    }
    if (peer->state == PC_SIM_DETACHING && peer->n_gets == 0) {
        void (*detached)(void *) = peer->detached;
        void *arg = peer->arg;
        peer_free(peer);
        if (detached != NULL) {
            detached(arg);
        }
        work++;
    }
    return work;
}

void pc_sim_peer_close(struct pc_fabric_peer *peer)
{
    struct pc_fabric *fabric = peer->fabric;
    if (peer->state != PC_SIM_DETACHING) {
        pc_sim_detach(peer, NULL);
    }
    pc_sim_gets_end(peer, PEERCACHE_CANCELED);
    while (pc_sim_gets_deliver(fabric) > 0) {
    }
    pc_sim_peer_run(peer);
}
