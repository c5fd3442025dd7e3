/*
 * get.c - one-sided reads and the fabric's turn.
 *
 * UCX may end a get inside the post or inside its own progress; both ways it
 * is put on `finished`, and done runs from there, outside of UCX: so a done
 * function may post and detach as it likes.
 */
#include "ucx.h"

#include "base/assert.h"

#include <assert.h>
#include <string.h>

/* Turns of UCX's progress in one of ours. */
#define PROGRESS_TURNS 16

static_assert(sizeof(struct pc_ucx_get) <=
                  sizeof(((struct pc_fabric_get *)0)->priv),
              "fits in the poster's memory");

static struct pc_ucx_get *state_of(struct pc_fabric_get *get)
{
    return (struct pc_ucx_get *)(void *)get->priv;
}

static void finish(struct pc_fabric_get *get, ucs_status_t status)
{
    struct pc_ucx_get *state = state_of(get);
    state->status = pc_ucx_status(status);
    state->over = true;
    get->peer->n_due++;
    pc_list_push_back(&get->peer->fabric->finished, &state->node);
}

static void on_get(void *request, ucs_status_t status, void *arg)
{
    struct pc_fabric_get *get = arg;
    ucp_request_free(request);
    get->peer->n_posted--;
    finish(get, status);
}

/* A piece has ended. The get goes on, or ends with its last piece. */
static void piece_ended(struct pc_fabric_get *get, ucs_status_t status)
{
    struct pc_ucx_get *state = state_of(get);
    state->n_out--;
    if (status != UCS_OK) {
        state->status = status;
        pc_list_remove(&state->node);
    }
    if (state->n_out == 0 && !pc_list_is_linked(&state->node)) {
        finish(get, (ucs_status_t)state->status);
    }
}

static void pump(struct pc_fabric_peer *peer);

static void on_piece(void *request, ucs_status_t status, void *arg)
{
    struct pc_ucx_lane *lane = arg;
    struct pc_fabric_get *get = lane->get;
    ucp_request_free(request);
    lane->get = NULL;
    lane->peer->n_posted--;
    piece_ended(get, status);
    if (status == UCS_OK) {
        pc_ucx_heard(lane->peer);
    } else {
        pump(lane->peer);
    }
}

/* Not in rkey_unpack: the endpoint may not have been there yet. */
static peercache_status_t rkey_of(struct pc_ucx_lane *lane,
                                  struct pc_fabric_rkey *rkey,
                                  ucp_rkey_h *rkey_p)
{
    ucp_rkey_h *slot = &rkey->get_rkeys[lane - lane->peer->lanes];
    if (*slot == NULL) {
        peercache_status_t status =
            pc_ucx_rkey_hand_over(lane->ep, rkey->region.get_rkey, slot);
        if (status != PEERCACHE_OK) {
            *slot = NULL;
            return status;
        }
    }
    *rkey_p = *slot;
    return PEERCACHE_OK;
}

static void post_piece(struct pc_ucx_lane *lane, struct pc_fabric_get *get)
{
    struct pc_ucx_get *state = state_of(get);
    uint64_t at = state->n_sent;
    size_t len = get->len - at < lane->peer->fabric->piece
                     ? get->len - at
                     : lane->peer->fabric->piece;
    state->n_sent += len;
    state->n_out++;
    if (state->n_sent == get->len) {
        pc_list_remove(&state->node);
    }
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA,
                                 .cb.send = on_piece,
                                 .user_data = lane};
    lane->get = get;
    ucp_rkey_h rkey;
    if (rkey_of(lane, get->rkey, &rkey) != PEERCACHE_OK) {
        lane->get = NULL;
        piece_ended(get, UCS_ERR_NO_MEMORY);
        return;
    }
    void *request = ucp_get_nbx(lane->ep, (char *)get->local + at, len,
                                get->remote_addr + at, rkey, &param);
    if (UCS_PTR_IS_PTR(request)) {
        lane->peer->n_posted++;
    } else {
        lane->get = NULL;
        piece_ended(get, UCS_PTR_STATUS(request));
    }
}

static void pump(struct pc_fabric_peer *peer)
{
    for (unsigned i = 0; i < peer->n_lanes; i++) {
        while (peer->state == PC_UCX_READY && peer->lanes[i].proven &&
               peer->lanes[i].get == NULL && !pc_list_is_empty(&peer->queue)) {
            struct pc_ucx_get *state =
                PC_CONTAINER_OF(peer->queue.next, struct pc_ucx_get, node);
            post_piece(&peer->lanes[i],
                       PC_CONTAINER_OF(state, struct pc_fabric_get, priv));
        }
    }
}

/* One more lane when all have something to do, and one after the other: what
 * is being connected is in danger when either process ends. Only now that the
 * peer was heard: UCX's connect() waits, and if that host were cut off, so
 * would the engine. */
void pc_ucx_heard(struct pc_fabric_peer *peer)
{
    pump(peer);
    if (peer->state == PC_UCX_READY && !pc_list_is_empty(&peer->queue) &&
        peer->n_lanes < PC_UCX_LANES &&
        !peer->lanes[peer->n_lanes - 1].probing &&
        !pc_list_is_linked(&peer->wait)) {
        pc_list_push_back(&peer->fabric->newcomers, &peer->wait);
    }
}

void pc_ucx_drop_queue(struct pc_fabric_peer *peer, ucs_status_t status)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(&peer->queue)) != NULL) {
        struct pc_ucx_get *state =
            PC_CONTAINER_OF(node, struct pc_ucx_get, node);
        state->status = status;
        if (state->n_out == 0) {
            finish(PC_CONTAINER_OF(state, struct pc_fabric_get, priv), status);
        }
    }
}

static peercache_status_t check(const struct pc_fabric_get *get)
{
    const struct pc_fabric_peer *peer = get->peer;
    const struct pc_fabric_rkey *rkey = get->rkey;
    const struct pc_ucx_region *region = &rkey->region;
    const struct pc_fabric_mem *mem = get->mem;
    if (rkey->peer != peer || rkey->released || get->len == 0 ||
        get->remote_addr < region->addr || get->len > region->len ||
        get->remote_addr - region->addr > region->len - get->len) {
        return PEERCACHE_INVALID;
    }
    if (mem != NULL &&
        ((const char *)get->local < mem->addr || get->len > mem->len ||
         (size_t)((const char *)get->local - mem->addr) >
             mem->len - get->len)) {
        return PEERCACHE_INVALID;
    }
    if (peer->state == PC_UCX_FAILED && peer->path.can_get) {
        return PEERCACHE_PEER_FAILED;
    }
    if (peer->state != PC_UCX_READY || region->get_rkey.len == 0) {
        return PEERCACHE_UNREACHABLE;
    }
    return PEERCACHE_OK;
}

static peercache_status_t post_native(struct pc_fabric_get *get,
                                      ucp_rkey_h rkey)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA,
                                 .cb.send = on_get,
                                 .user_data = get};
    if (get->mem != NULL && get->mem->get_mem != NULL) {
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
        param.memh = get->mem->get_mem;
    }
    void *request = ucp_get_nbx(get->peer->lanes[0].ep, get->local, get->len,
                                get->remote_addr, rkey, &param);
    if (UCS_PTR_IS_ERR(request)) {
        return pc_ucx_status(UCS_PTR_STATUS(request));
    }
    get->rkey->n_gets++;
    if (request != NULL) {
        get->peer->n_posted++;
    } else {
        finish(get, UCS_OK);
    }
    return PEERCACHE_IN_PROGRESS;
}

peercache_status_t pc_ucx_get(struct pc_fabric_get *get)
{
    struct pc_fabric_peer *peer = get->peer;
    struct pc_fabric_rkey *rkey = get->rkey;
    if (pc_ucx_forked(peer->fabric)) {
        return PEERCACHE_FORKED;
    }
    peercache_status_t status = check(get);
    if (status != PEERCACHE_OK) {
        return status;
    }
    ucp_rkey_h unpacked;
    status = rkey_of(&peer->lanes[0], rkey, &unpacked);
    if (status != PEERCACHE_OK) {
        return status;
    }
    memset(get->priv, 0, sizeof(get->priv));
    pc_list_init(&state_of(get)->node);
    if (!peer->path.native) {
        rkey->n_gets++;
        if (get->first) {
            pc_list_push_front(&peer->queue, &state_of(get)->node);
        } else {
            pc_list_push_back(&peer->queue, &state_of(get)->node);
        }
        pump(peer);
        return PEERCACHE_IN_PROGRESS;
    }
    return post_native(get, unpacked);
}

/* Pieces that were not asked for are taken back; those under way end as they
 * will. UCX has nothing for native gets. */
bool pc_ucx_cancel(struct pc_fabric_get *get)
{
    struct pc_ucx_get *state = state_of(get);
    if (pc_ucx_forked(get->peer->fabric)) {
        return false;
    }
    if (!state->over && pc_list_is_linked(&state->node)) {
        pc_list_remove(&state->node);
        state->status = UCS_ERR_CANCELED;
        if (state->n_out == 0) {
            finish(get, UCS_ERR_CANCELED);
        }
    }
    return state->over;
}

unsigned pc_ucx_run_finished(struct pc_fabric *fabric)
{
    struct pc_list now;
    unsigned n = 0;
    pc_list_init(&now);
    pc_list_splice_back(&now, &fabric->finished);
    for (struct pc_list *node; (node = pc_list_pop_front(&now)) != NULL; n++) {
        struct pc_ucx_get *state =
            PC_CONTAINER_OF(node, struct pc_ucx_get, node);
        struct pc_fabric_get *get =
            PC_CONTAINER_OF(state, struct pc_fabric_get, priv);
        struct pc_fabric_rkey *rkey = get->rkey;
        peercache_status_t status = (peercache_status_t)state->status;
        get->peer->n_due--;
        if (--rkey->n_gets == 0 && rkey->released) {
            pc_ucx_rkey_release(rkey);
        }
        get->done(get, status);
    }
    return n;
}

unsigned pc_ucx_progress(struct pc_fabric *fabric)
{
    if (pc_ucx_forked(fabric)) {
        return 0;
    }
    unsigned n = pc_ucx_connect_one(fabric);
    if (fabric->get.worker != NULL) {
        unsigned moved = 1;
        for (unsigned i = 0; i < PROGRESS_TURNS && moved > 0; i++) {
            moved = pc_ucx_side_progress(&fabric->get);
            n += moved;
        }
    }
    n += pc_ucx_run_finished(fabric);
    n += pc_ucx_tell_news(fabric);
    n += pc_ucx_reap(fabric);
    return n;
}

/* Whether a peer's close may end without an event of UCX. */
static bool is_about_to_close(struct pc_fabric *fabric)
{
    for (struct pc_list *turn = fabric->closing.next; turn != &fabric->closing;
         turn = turn->next) {
        if (PC_CONTAINER_OF(turn, struct pc_fabric_peer, turn)->n_posted == 0) {
            return true;
        }
    }
    return false;
}

peercache_status_t pc_ucx_arm(struct pc_fabric *fabric, int *fd_p)
{
    if (pc_ucx_forked(fabric)) {
        return PEERCACHE_FORKED;
    }
    if (!pc_list_is_empty(&fabric->newcomers) ||
        !pc_list_is_empty(&fabric->finished) ||
        !pc_list_is_empty(&fabric->news) || is_about_to_close(fabric)) {
        return PEERCACHE_AGAIN;
    }
    if (fabric->get.worker == NULL) {
        *fd_p = -1;
        return PEERCACHE_OK;
    }
    return pc_ucx_status(pc_ucx_side_arm(&fabric->get, fd_p));
}
