/*
 * peer.c - a peer's life: see the drawing in ucx.h.
 */
#include "ucx.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

/* How long a close waits for UCX to have connected. */
#define CONNECT_PATIENCE (2 * PC_S)

static void queue_news(struct pc_fabric_peer *peer)
{
    if (!pc_list_is_linked(&peer->turn)) {
        pc_list_push_back(&peer->fabric->news, &peer->turn);
    }
}

/* Once; what is told depends on what the engine knows of the peer so far. */
static void fail(struct pc_fabric_peer *peer, peercache_status_t why)
{
    if (peer->state == PC_UCX_READY) {
        peer->tell_failed = true;
    } else if (peer->state == PC_UCX_NEW || peer->state == PC_UCX_PROBING) {
        if (peer->path.can_map) {
            peer->tell_failed = true;
        } else {
            peer->path.status = PEERCACHE_PEER_FAILED;
            peer->tell_path = true;
        }
    } else {
        return;
    }
    peer->state = PC_UCX_FAILED;
    peer->why = why;
    pc_list_remove(&peer->wait);
    pc_ucx_drop_queue(peer, UCS_ERR_CONNECTION_RESET);
    queue_news(peer);
}

static void on_ep_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)ep;
    PC_DEBUG("ucx", "a peer's endpoint failed: %s", ucs_status_string(status));
    fail(arg, PEERCACHE_PEER_FAILED);
}

static void become_ready(struct pc_fabric_peer *peer)
{
    peer->state = PC_UCX_READY;
    peer->path.status = PEERCACHE_OK;
    peer->path.can_get = true;
    pc_ucx_path_add(peer->lanes[0].ep, &peer->path);
    peer->path.native = peer->path.native && peer->fabric->reads_alone;
    peer->tell_path = true;
    queue_news(peer);
}

static void probe_ended(struct pc_ucx_lane *lane, ucs_status_t status)
{
    struct pc_fabric_peer *peer = lane->peer;
    lane->probing = false;
    if (peer->state != PC_UCX_PROBING && peer->state != PC_UCX_READY) {
        return;
    }
    if (status != UCS_OK || lane->probe_landing != peer->hello.probe_value) {
        fail(peer, peer->state == PC_UCX_READY ? PEERCACHE_PEER_FAILED
                                               : PEERCACHE_UNREACHABLE);
        return;
    }
    lane->proven = true;
    if (peer->state == PC_UCX_PROBING) {
        become_ready(peer);
    }
    pc_ucx_heard(peer);
}

static void on_probe(void *request, ucs_status_t status, void *arg)
{
    struct pc_ucx_lane *lane = arg;
    ucp_request_free(request);
    lane->peer->n_posted--;
    probe_ended(lane, status);
}

/* A way is believed in only after it has carried bytes of the very process
 * that said HELLO. */
static void probe(struct pc_ucx_lane *lane)
{
    struct pc_fabric_peer *peer = lane->peer;
    peercache_status_t status = pc_ucx_rkey_hand_over(
        lane->ep, peer->hello.probe_rkey, &lane->probe_rkey);
    if (status != PEERCACHE_OK) {
        lane->probe_rkey = NULL;
        fail(peer, PEERCACHE_UNREACHABLE);
        return;
    }
    lane->probing = true;
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA,
                                 .cb.send = on_probe,
                                 .user_data = lane};
    void *request =
        ucp_get_nbx(lane->ep, &lane->probe_landing, sizeof(lane->probe_landing),
                    peer->hello.probe_addr, lane->probe_rkey, &param);
    if (UCS_PTR_IS_PTR(request)) {
        peer->n_posted++;
    } else {
        probe_ended(lane, UCS_PTR_STATUS(request));
    }
}

static ucs_status_t make_lane(struct pc_fabric_peer *peer)
{
    struct pc_ucx_lane *lane = &peer->lanes[peer->n_lanes];
    unsigned char *room = pc_alloc(PC_UCX_OPAQUE_ROOM, 1);
    if (room == NULL) {
        return UCS_ERR_NO_MEMORY;
    }
    memcpy(room, peer->hello.worker.data, peer->hello.worker.len);
    /* Peer error mode is a must: without it a dead peer ends this process. */
    ucp_ep_params_t params = {.field_mask =
                                  UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                                  UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                  UCP_EP_PARAM_FIELD_ERR_HANDLER,
                              .address = (const ucp_address_t *)room,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER,
                              .err_handler = {.cb = on_ep_error, .arg = peer}};
    ucs_status_t status =
        ucp_ep_create(peer->fabric->get.out, &params, &lane->ep);
    pc_free(room);
    if (status != UCS_OK) {
        lane->ep = NULL;
        return status;
    }
    lane->peer = peer;
    peer->n_lanes++;
    return UCS_OK;
}

/* Without the first lane there is no way; more are only for speed. */
static void connect_peer(struct pc_fabric_peer *peer)
{
    ucs_status_t status = make_lane(peer);
    if (status == UCS_OK) {
        if (peer->state == PC_UCX_NEW) {
            peer->state = PC_UCX_PROBING;
        }
        probe(&peer->lanes[peer->n_lanes - 1]);
    } else if (peer->state == PC_UCX_NEW) {
        fail(peer, PEERCACHE_UNREACHABLE);
    }
}

unsigned pc_ucx_connect_one(struct pc_fabric *fabric)
{
    struct pc_list *wait = pc_list_pop_front(&fabric->newcomers);
    if (wait == NULL) {
        return 0;
    }
    connect_peer(PC_CONTAINER_OF(wait, struct pc_fabric_peer, wait));
    return 1;
}

/* VERSION, UNREACHABLE: there will be no gets. */
static peercache_status_t may_get(const struct pc_fabric *fabric,
                                  const struct pc_ucx_hello *hello)
{
    if (fabric->get.worker == NULL || hello->worker.len == 0 ||
        hello->probe_rkey.len == 0) {
        return PEERCACHE_UNREACHABLE;
    }
    /* Patch releases keep the wire. */
    if (hello->ucx_version[0] != fabric->ucx_version[0] ||
        hello->ucx_version[1] != fabric->ucx_version[1]) {
        PC_INFO("ucx",
                "no one-sided reads from a peer with UCX %u.%u.%u, ours is "
                "%u.%u.%u",
                hello->ucx_version[0], hello->ucx_version[1],
                hello->ucx_version[2], fabric->ucx_version[0],
                fabric->ucx_version[1], fabric->ucx_version[2]);
        return PEERCACHE_VERSION;
    }
    /* On one kernel but in another network namespace, the peer's loopback
     * address is somebody else here. */
    if (fabric->loopback && hello->loopback != 0 &&
        fabric->boot == hello->boot && fabric->net != hello->net) {
        return PEERCACHE_UNREACHABLE;
    }
    return PEERCACHE_OK;
}

/* Decide on the first state from what HELLO says. */
static void start(struct pc_fabric_peer *peer)
{
    struct pc_fabric *fabric = peer->fabric;
    if (fabric->map.worker != NULL && peer->hello.map_domain != 0 &&
        fabric->map_domain == peer->hello.map_domain) {
        peer->path.can_map = true;
        strcpy(peer->path.carrier, fabric->map.carrier);
        peer->tell_path = true;
    }
    peercache_status_t get = may_get(fabric, &peer->hello);
    if (get == PEERCACHE_OK) {
        peer->state = PC_UCX_NEW;
        pc_list_push_back(&fabric->newcomers, &peer->wait);
        if (peer->tell_path) {
            queue_news(peer);
        }
        return;
    }
    peer->state = PC_UCX_MAP_ONLY;
    peer->path.status = peer->path.can_map ? PEERCACHE_OK : get;
    peer->tell_path = true;
    queue_news(peer);
}

peercache_status_t pc_ucx_attach(struct pc_fabric *fabric,
                                 struct pc_blob address, void *peer_arg,
                                 struct pc_fabric_peer **peer_p)
{
    if (pc_ucx_forked(fabric)) {
        return PEERCACHE_FORKED;
    }
    struct pc_fabric_peer *peer = pc_alloc(1, sizeof(*peer));
    unsigned char *bytes = pc_alloc(address.len + 1, 1);
    peercache_status_t status = PEERCACHE_NO_MEMORY;
    if (peer == NULL || bytes == NULL) {
        goto free_both;
    }
    if (address.len > 0) {
        memcpy(bytes, address.data, address.len);
    }
    peer->hello_bytes = (struct pc_blob){bytes, address.len};
    status = pc_ucx_hello_unpack(peer->hello_bytes, &peer->hello);
    if (status != PEERCACHE_OK && status != PEERCACHE_VERSION) {
        goto free_both;
    }
    peer->fabric = fabric;
    peer->arg = peer_arg;
    pc_list_init(&peer->turn);
    pc_list_init(&peer->wait);
    pc_list_init(&peer->rkeys);
    pc_list_init(&peer->queue);
    pc_list_push_back(&fabric->peers, &peer->node);
    if (status == PEERCACHE_VERSION) {
        peer->state = PC_UCX_MAP_ONLY;
        peer->path.status = status;
        peer->tell_path = true;
        queue_news(peer);
    } else {
        start(peer);
    }
    *peer_p = peer;
    return PEERCACHE_OK;

free_both:
    pc_free(bytes);
    pc_free(peer);
    return status;
}

static void close_lanes(struct pc_fabric_peer *peer)
{
    bool is_late = pc_clock_monotonic() >= peer->close_by_ns;
    for (unsigned i = 0; i < peer->n_lanes; i++) {
        struct pc_ucx_lane *lane = &peer->lanes[i];
        if (lane->ep == NULL || (lane->probing && !is_late)) {
            continue;
        }
        ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                     .flags = UCP_EP_CLOSE_FLAG_FORCE};
        void *request = ucp_ep_close_nbx(lane->ep, &param);
        lane->ep = NULL;
        lane->close_request = UCS_PTR_IS_PTR(request) ? request : NULL;
    }
}

void pc_ucx_detach(struct pc_fabric_peer *peer,
                   void (*detached)(void *peer_arg))
{
    struct pc_fabric *fabric = peer->fabric;
    if (pc_ucx_forked(fabric) || peer->state == PC_UCX_CLOSING) {
        return;
    }
    peer->state = PC_UCX_CLOSING;
    peer->detached = detached;
    pc_list_remove(&peer->wait);
    pc_list_remove(&peer->turn);
    pc_list_push_back(&fabric->closing, &peer->turn);
    pc_ucx_drop_queue(peer, UCS_ERR_CANCELED);
    peer->close_by_ns = pc_clock_monotonic() + CONNECT_PATIENCE;
    close_lanes(peer);
}

unsigned pc_ucx_tell_news(struct pc_fabric *fabric)
{
    struct pc_list now;
    unsigned n = 0;
    pc_list_init(&now);
    pc_list_splice_back(&now, &fabric->news);
    for (struct pc_list *turn; (turn = pc_list_pop_front(&now)) != NULL; n++) {
        struct pc_fabric_peer *peer =
            PC_CONTAINER_OF(turn, struct pc_fabric_peer, turn);
        if (peer->tell_path) {
            peer->tell_path = false;
            struct pc_fabric_path path = peer->path;
            fabric->params.attached(fabric->params.arg, peer->arg, &path);
        }
        /* The upcall may have detached it. */
        if (peer->tell_failed && peer->state == PC_UCX_FAILED) {
            peer->tell_failed = false;
            fabric->params.peer_failed(fabric->params.arg, peer->arg,
                                       peer->why);
        }
    }
    return n;
}

static bool has_ended(struct pc_fabric_peer *peer)
{
    close_lanes(peer);
    for (unsigned i = 0; i < peer->n_lanes; i++) {
        void **request_p = &peer->lanes[i].close_request;
        if (peer->lanes[i].ep != NULL) {
            return false;
        }
        if (*request_p == NULL) {
            continue;
        }
        if (ucp_request_check_status(*request_p) == UCS_INPROGRESS) {
            return false;
        }
        ucp_request_free(*request_p);
        *request_p = NULL;
    }
    return peer->n_posted == 0 && peer->n_due == 0;
}

static void end(struct pc_fabric_peer *peer)
{
    void (*detached)(void *) = peer->detached;
    void *arg = peer->arg;
    while (!pc_list_is_empty(&peer->rkeys)) {
        pc_ucx_rkey_orphan(PC_CONTAINER_OF(peer->rkeys.next,
                                           struct pc_fabric_rkey, peer_node));
    }
    for (unsigned i = 0; i < peer->n_lanes; i++) {
        if (peer->lanes[i].probe_rkey != NULL) {
            ucp_rkey_destroy(peer->lanes[i].probe_rkey);
        }
    }
    pc_list_remove(&peer->node);
    pc_list_remove(&peer->turn);
    pc_free((void *)peer->hello_bytes.data);
    pc_free(peer);
    if (detached != NULL) {
        detached(arg);
    }
}

unsigned pc_ucx_reap(struct pc_fabric *fabric)
{
    struct pc_list now;
    unsigned n = 0;
    pc_list_init(&now);
    pc_list_splice_back(&now, &fabric->closing);
    for (struct pc_list *turn; (turn = pc_list_pop_front(&now)) != NULL;) {
        struct pc_fabric_peer *peer =
            PC_CONTAINER_OF(turn, struct pc_fabric_peer, turn);
        if (has_ended(peer)) {
            end(peer);
            n++;
        } else {
            pc_list_push_back(&fabric->closing, turn);
        }
    }
    return n;
}
