/*
 * raw_ucx.c - peercache-bench-ucx: the limit of one-sided gets over UCX's tcp
 * carrier on loopback, with the settings that the library's module uses.
 *
 * One worker of the owner serves all readers, as in the library; each reader
 * thread has a worker of its own, and on it four endpoints with one get each,
 * as the library has. (With the whole batch on one endpoint a pair of processes
 * is as fast or half as fast for as long as it lives, as its start decides: no
 * limit to divide by.) Variants are sets of the bits below.
 */
#include "page.h"
#include "system.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

enum {
    POLLING = 1,     /* Never sleep; else 50 us of polling, then wait. */
    PEER_ERRORS = 2, /* Peer error mode, as the library needs it. */
    SPIN_NS = 50000,
    N_LANES = 4
};

struct side
{
    ucp_context_h context;
    ucp_worker_h worker;
    int event_fd;
    bool polling;
    uint64_t idle_since_ns; /* 0: the last turn did something. */
};

static bool context_open(ucp_context_h *context_p, char *why)
{
    unsigned major;
    unsigned minor;
    unsigned release;
    ucp_get_version(&major, &minor, &release);
    /* 1.13 wants a transport's settings without its name in front. */
    bool prefixed = major != 1 || minor > 13;
    const char *const settings[][2] = {
        {"TLS", "tcp"},
        {"NET_DEVICES", "lo"},
        {prefixed ? "TCP_TX_SEG_SIZE" : "TX_SEG_SIZE", "256k"},
        {prefixed ? "TCP_RX_SEG_SIZE" : "RX_SEG_SIZE", "256k"}};
    ucp_config_t *config;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status == UCS_OK) {
        for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
            (void)ucp_config_modify(config, settings[i][0], settings[i][1]);
        }
        ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                               .features =
                                   UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP};
        status = ucp_init(&params, config, context_p);
        ucp_config_release(config);
    }
    if (status != UCS_OK) {
        bench_why(why, "UCX: %s", ucs_status_string(status));
    }
    return status == UCS_OK;
}

static bool worker_open(struct side *side, uint32_t variant, char *why)
{
    ucp_worker_params_t params = {.field_mask =
                                      UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucs_status_t status =
        ucp_worker_create(side->context, &params, &side->worker);
    if (status == UCS_OK) {
        status = ucp_worker_get_efd(side->worker, &side->event_fd);
    }
    side->polling = (variant & POLLING) != 0;
    side->idle_since_ns = 0;
    if (status != UCS_OK) {
        bench_why(why, "UCX worker: %s", ucs_status_string(status));
    }
    return status == UCS_OK;
}

/* One turn; sleeps when nothing happened for a while, until something does on
 * the worker or on fd (-1: none). True: fd can be read. */
static bool turn(struct side *side, int fd)
{
    if (ucp_worker_progress(side->worker) != 0) {
        side->idle_since_ns = 0;
        return false;
    }
    uint64_t now = bench_now();
    if (side->idle_since_ns == 0) {
        side->idle_since_ns = now;
    }
    if (now - side->idle_since_ns < SPIN_NS) {
        return false;
    }
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                            {.fd = side->event_fd, .events = POLLIN}};
    if (side->polling) {
        side->idle_since_ns = now;
        return fd >= 0 && poll(fds, 1, 0) > 0;
    }
    if (ucp_worker_arm(side->worker) != UCS_OK) {
        return false; /* Something came meanwhile. */
    }
    (void)poll(fds, 2, -1);
    side->idle_since_ns = 0;
    return fd >= 0 && fds[0].revents != 0;
}

struct owner
{
    struct side side;
    unsigned char *pages;
    ucp_mem_h mem;
};

static bool put_blob(struct bench_place *place, const void *bytes, size_t len)
{
    uint32_t head = (uint32_t)len;
    if (place->len + sizeof(head) + len > sizeof(place->bytes)) {
        return false;
    }
    memcpy(place->bytes + place->len, &head, sizeof(head));
    memcpy(place->bytes + place->len + sizeof(head), bytes, len);
    place->len += (uint32_t)(sizeof(head) + len);
    return true;
}

static const void *take_blob(const unsigned char **at)
{
    const unsigned char *blob = *at + sizeof(uint32_t);
    uint32_t len;
    memcpy(&len, *at, sizeof(len));
    *at = blob + len;
    return blob;
}

static bool own_memory(struct owner *owner, const struct bench_setup *setup,
                       char *why)
{
    size_t len = (size_t)setup->n_pages * setup->page_size;
    int id; /* The library's pool is such memory. */
    owner->pages = bench_shared_memory(len, &id);
    if (owner->pages == NULL) {
        bench_why(why, "no memory for the pages");
        return false;
    }
    for (uint32_t i = 0; i < setup->n_pages; i++) {
        bench_page_fill(owner->pages + (size_t)i * setup->page_size,
                        setup->page_size, i);
    }
    ucp_mem_map_params_t params = {.field_mask =
                                       UCP_MEM_MAP_PARAM_FIELD_ADDRESS |
                                       UCP_MEM_MAP_PARAM_FIELD_LENGTH,
                                   .address = owner->pages,
                                   .length = len};
    ucs_status_t status =
        ucp_mem_map(owner->side.context, &params, &owner->mem);
    if (status != UCS_OK) {
        bench_why(why, "UCX memory: %s", ucs_status_string(status));
    }
    return status == UCS_OK;
}

static bool tell_place(struct owner *owner, struct bench_place *place)
{
    uint64_t base = (uintptr_t)owner->pages;
    ucp_address_t *address;
    size_t address_len;
    void *rkey;
    size_t rkey_len;
    place->len = 0;
    if (ucp_worker_get_address(owner->side.worker, &address, &address_len) !=
        UCS_OK) {
        return false;
    }
    bool ok = ucp_rkey_pack(owner->side.context, owner->mem, &rkey,
                            &rkey_len) == UCS_OK;
    if (ok) {
        ok = put_blob(place, &base, sizeof(base)) &&
             put_blob(place, address, address_len) &&
             put_blob(place, rkey, rkey_len);
        ucp_rkey_buffer_release(rkey);
    }
    ucp_worker_release_address(owner->side.worker, address);
    return ok;
}

static bool own(const struct bench_setup *setup, struct bench_place *place,
                void **owner_p, char *why)
{
    struct owner *owner = calloc(1, sizeof(*owner));
    if (owner == NULL || !context_open(&owner->side.context, why) ||
        !worker_open(&owner->side, setup->variant, why) ||
        !own_memory(owner, setup, why)) {
        return false; /* The process ends. */
    }
    if (!tell_place(owner, place)) {
        bench_why(why, "UCX tells no address");
        return false;
    }
    *owner_p = owner;
    return true;
}

static void serve(void *arg, int fd)
{
    struct owner *owner = arg;
    while (!turn(&owner->side, fd)) {
    }
}

static void disown(void *arg)
{
    (void)arg; /* The process ends now. */
}

/* An endpoint of a reader's thread. */
struct way
{
    struct lane *lane;
    ucp_ep_h ep;
    ucp_rkey_h rkey;
    bool is_busy;
};

struct lane
{
    struct side side;
    struct way ways[N_LANES];
    uint64_t base;
    size_t n_posted;
    size_t n_failed;
};

static bool open_reader(const struct bench_setup *setup, void **reader_p,
                        char *why)
{
    (void)setup;
    ucp_context_h context;
    if (!context_open(&context, why)) {
        return false;
    }
    *reader_p = context;
    return true;
}

static void on_peer_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)arg;
    (void)ep;
    (void)status; /* Its gets fail by themselves. */
}

static bool way_open(struct way *way, const struct bench_setup *setup,
                     const unsigned char *at)
{
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
                              .address = take_blob(&at)};
    if ((setup->variant & PEER_ERRORS) != 0) {
        params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                             UCP_EP_PARAM_FIELD_ERR_HANDLER;
        params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
        params.err_handler.cb = on_peer_error;
    }
    return ucp_ep_create(way->lane->side.worker, &params, &way->ep) == UCS_OK &&
           ucp_ep_rkey_unpack(way->ep, take_blob(&at), &way->rkey) == UCS_OK;
}

static bool lane_open(struct bench_lane *bench_lane, char *why)
{
    const struct bench_setup *setup = bench_lane->setup;
    struct lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL) {
        return false;
    }
    bench_lane->priv = lane;
    lane->side.context = bench_lane->reader;
    const unsigned char *at = setup->place.bytes;
    memcpy(&lane->base, take_blob(&at), sizeof(lane->base));
    if (!worker_open(&lane->side, setup->variant, why)) {
        return false;
    }
    for (size_t i = 0; i < N_LANES; i++) {
        lane->ways[i].lane = lane;
        if (!way_open(&lane->ways[i], setup, at)) {
            bench_why(why, "UCX reaches no owner");
            return false;
        }
    }
    return true;
}

static void on_get(void *request, ucs_status_t status, void *arg)
{
    struct way *way = arg;
    ucp_request_free(request);
    way->is_busy = false;
    way->lane->n_posted--;
    way->lane->n_failed += status != UCS_OK;
}

static void post(struct way *way, void *to, size_t len, uint64_t from)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA,
                                 .cb.send = on_get,
                                 .user_data = way};
    void *request = ucp_get_nbx(way->ep, to, len, from, way->rkey, &param);
    if (UCS_PTR_IS_ERR(request)) {
        way->lane->n_failed++;
    } else if (request != NULL) {
        way->is_busy = true;
        way->lane->n_posted++;
    }
}

static struct way *free_way(struct lane *lane)
{
    for (;;) {
        for (size_t i = 0; i < N_LANES; i++) {
            if (!lane->ways[i].is_busy) {
                return &lane->ways[i];
            }
        }
        (void)turn(&lane->side, -1);
    }
}

static size_t get_batch(struct bench_lane *bench_lane, const uint32_t *pages,
                        size_t n)
{
    struct lane *lane = bench_lane->priv;
    size_t size = bench_lane->setup->page_size;
    lane->n_failed = 0;
    for (size_t i = 0; i < n; i++) {
        post(free_way(lane), bench_lane->buffer + i * size, size,
             lane->base + pages[i] * size);
    }
    while (lane->n_posted > 0) {
        (void)turn(&lane->side, -1);
    }
    return n - lane->n_failed;
}

const struct bench_system bench_ucx = {
    .name = "raw ucp_get",
    .lands = true,
    .own = own,
    .serve = serve,
    .disown = disown,
    .open = open_reader,
    .lane_open = lane_open,
    .batch = get_batch,
};

int main(int argc, char **argv)
{
    static const struct bench_system *const systems[BENCH_N_SYSTEMS] = {
        [BENCH_UCX] = &bench_ucx,
    };
    if (argc != 2 || strcmp(argv[1], "actor") != 0) {
        (void)fprintf(stderr, "%s: is started by peercache-bench\n", argv[0]);
        return 2;
    }
    return bench_actor_main(systems, BENCH_N_SYSTEMS);
}
