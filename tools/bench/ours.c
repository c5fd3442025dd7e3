/*
 * ours.c - the library as a system to be measured: two nodes of one cluster
 * on loopback, the owner with all pages, the reader with a small pool or none.
 */
#include "page.h"
#include "system.h"

#include <peercache/peercache.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PUT_BATCH = 256, PIECES_MAX = 2 };

#define READY_NS (10ull * 1000000000u)
#define PUT_NS   (30ull * 1000000000u)
/* Room for the pages, their slots and a margin that the evictor keeps free. */
#define POOL_SHARE 1.25
#define POOL_LEAST ((size_t)64 << 20)

struct node
{
    const struct bench_setup *setup;
    peercache_node_t *node;
    char *keys;           /* Of all pages, round 0. */
    unsigned char *pages; /* Sets: the user's memory. */
    peercache_mem_t *pages_mem;
};

struct lane
{
    peercache_mem_t *mem;
    peercache_item_t *items;
    peercache_piece_t *pieces;
    char *keys; /* Sets: of the batch. */
};

static size_t set_len(const struct bench_setup *setup)
{
    return (size_t)setup->n_pages * setup->page_size;
}

static bool set(peercache_config_t *config, const char *name, const char *value,
                char *why)
{
    if (peercache_config_set(config, name, value) == PEERCACHE_OK) {
        return true;
    }
    bench_why(why, "%s", peercache_config_error(config));
    return false;
}

/* The user's "name=value" lines; they win over what we set. */
static bool set_lines(peercache_config_t *config, const char *lines, char *why)
{
    char name[64];
    char value[PEERCACHE_STR_MAX];
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n");
        size_t name_len = strcspn(lines, "=");
        if (name_len < len && name_len < sizeof(name) &&
            len - name_len - 1 < sizeof(value)) {
            (void)snprintf(name, sizeof(name), "%.*s", (int)name_len, lines);
            (void)snprintf(value, sizeof(value), "%.*s",
                           (int)(len - name_len - 1), lines + name_len + 1);
            if (!set(config, name, value, why)) {
                return false;
            }
        }
        lines += len + (lines[len] == '\n');
    }
    return true;
}

static size_t pool_size(const struct bench_setup *setup)
{
    bool holds = setup->op == BENCH_SET ? setup->side == BENCH_READER
                                        : setup->side == BENCH_OWNER;
    size_t len = holds ? (size_t)((double)set_len(setup) * POOL_SHARE) : 0;
    return len < POOL_LEAST ? POOL_LEAST : len;
}

static bool configure(peercache_config_t *config,
                      const struct bench_setup *setup, char *why)
{
    char seed[64];
    char size[32];
    (void)snprintf(seed, sizeof(seed), "%.63s",
                   (const char *)setup->place.bytes);
    (void)snprintf(size, sizeof(size), "%zu", pool_size(setup));
    bool client = setup->side == BENCH_READER && setup->reader_is_client;
    return set(config, "discovery_addr", seed, why) &&
           set(config, "cluster_name", "bench", why) &&
           set(config, "node_id",
               setup->side == BENCH_OWNER ? "bench-owner" : "bench-reader",
               why) &&
           set(config, "global_segment_size", size, why) &&
           set(config, "disk_enabled", "false", why) &&
           set(config, "metrics_enabled", "false", why) &&
           set(config, "log_level", "error", why) &&
           (!client || (set(config, "mode", "centralized", why) &&
                        set(config, "role", "inference", why))) &&
           set_lines(config, setup->settings, why);
}

static bool create(struct node *node, char *why)
{
    peercache_config_t *config;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        bench_why(why, "out of memory");
        return false;
    }
    bool ok = configure(config, node->setup, why);
    if (ok) {
        peercache_status_t status = peercache_node_create(config, &node->node);
        ok = status == PEERCACHE_OK;
        if (!ok) {
            bench_why(why, "%s: %s", peercache_status_name(status),
                      peercache_config_error(config));
        }
    }
    peercache_config_destroy(config);
    if (!ok) {
        return false;
    }
    peercache_status_t status = peercache_node_wait_ready(node->node, READY_NS);
    if (status != PEERCACHE_OK) {
        bench_why(why, "node did not join: %s", peercache_strerror(status));
    }
    return status == PEERCACHE_OK;
}

static bool make_keys(struct node *node)
{
    const struct bench_setup *setup = node->setup;
    node->keys = malloc((size_t)setup->n_pages * BENCH_KEY_LEN);
    for (uint32_t i = 0; node->keys != NULL && i < setup->n_pages; i++) {
        bench_page_key(node->keys + (size_t)i * BENCH_KEY_LEN, i, 0);
    }
    return node->keys != NULL;
}

static peercache_op_params_t params_of(uint64_t timeout_ns)
{
    return (peercache_op_params_t){
        .struct_size = sizeof(peercache_op_params_t),
        .item_size = sizeof(peercache_item_t),
        .timeout_ns = timeout_ns,
    };
}

static void node_close(void *arg)
{
    struct node *node = arg;
    if (node->pages_mem != NULL) {
        peercache_mem_deregister(node->pages_mem);
    }
    if (node->node != NULL) {
        peercache_node_destroy(node->node);
    }
    bench_memory_free(node->pages, set_len(node->setup));
    free(node->keys);
    free(node);
}

static bool put_some(struct node *node, unsigned char *buffer, uint32_t first,
                     uint32_t n, char *why)
{
    size_t size = node->setup->page_size;
    peercache_item_t items[PUT_BATCH];
    peercache_piece_t pieces[PUT_BATCH];
    peercache_op_params_t params = params_of(PUT_NS);
    memset(items, 0, sizeof(items));
    for (uint32_t i = 0; i < n; i++) {
        pieces[i] = (peercache_piece_t){buffer + i * size, size};
        bench_page_fill(pieces[i].addr, size, first + i);
        items[i].key = node->keys + (size_t)(first + i) * BENCH_KEY_LEN;
        items[i].key_len = BENCH_KEY_LEN;
        items[i].pieces = &pieces[i];
        items[i].n_pieces = 1;
    }
    peercache_status_t status =
        peercache_put(node->node, items, n, &params, NULL);
    if (status != PEERCACHE_OK) {
        bench_why(why, "put of pages %u..%u: %s, first %s", first,
                  first + n - 1, peercache_strerror(status),
                  peercache_strerror(items[0].status));
    }
    return status == PEERCACHE_OK;
}

static bool put_all(struct node *node, char *why)
{
    const struct bench_setup *setup = node->setup;
    uint32_t at_most = (uint32_t)(((size_t)64 << 20) / setup->page_size);
    uint32_t step = at_most < 1 ? 1 : at_most;
    step = step < PUT_BATCH ? step : PUT_BATCH;
    size_t len = (size_t)step * setup->page_size;
    unsigned char *buffer = bench_memory(len);
    bool ok = buffer != NULL;
    for (uint32_t i = 0; ok && i < setup->n_pages; i += step) {
        uint32_t left = setup->n_pages - i;
        ok = put_some(node, buffer, i, left < step ? left : step, why);
    }
    bench_memory_free(buffer, len);
    return ok;
}

/* The owner is the only seed; its port is one that is free right now. */
static bool choose_seed(struct bench_setup *setup)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &len) == 0;
    if (fd >= 0) {
        close(fd);
    }
    int n = snprintf((char *)setup->place.bytes, sizeof(setup->place.bytes),
                     "127.0.0.1:%u", ntohs(address.sin_port));
    setup->place.len = (uint32_t)n + 1;
    return ok;
}

static bool own(const struct bench_setup *given, struct bench_place *place,
                void **owner_p, char *why)
{
    static struct bench_setup setup; /* Ours, with the place. */
    setup = *given;
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL || !choose_seed(&setup)) {
        bench_why(why, "no free port: %s", strerror(errno));
        free(node);
        return false;
    }
    node->setup = &setup;
    bool ok = make_keys(node) && create(node, why) &&
              (setup.op == BENCH_SET || put_all(node, why));
    if (!ok) {
        node_close(node);
        return false;
    }
    *place = setup.place;
    *owner_p = node;
    return true;
}

static bool open_pages(struct node *node, char *why)
{
    const struct bench_setup *setup = node->setup;
    node->pages = bench_memory(set_len(setup));
    if (node->pages == NULL) {
        bench_why(why, "no memory for the pages");
        return false;
    }
    for (uint32_t i = 0; i < setup->n_pages; i++) {
        bench_page_fill(node->pages + (size_t)i * setup->page_size,
                        setup->page_size, i);
    }
    return !setup->registered ||
           peercache_mem_register(node->node, PEERCACHE_MEM_HOST, node->pages,
                                  set_len(setup),
                                  &node->pages_mem) == PEERCACHE_OK;
}

static bool open_reader(const struct bench_setup *setup, void **reader_p,
                        char *why)
{
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return false;
    }
    node->setup = setup;
    bool ok = make_keys(node) && create(node, why) &&
              (setup->op != BENCH_SET || open_pages(node, why));
    if (!ok) {
        node_close(node);
        return false;
    }
    *reader_p = node;
    return true;
}

static void lane_close(struct bench_lane *bench_lane)
{
    struct lane *lane = bench_lane->priv;
    if (lane == NULL) {
        return;
    }
    if (lane->mem != NULL) {
        peercache_mem_deregister(lane->mem);
    }
    free(lane->items);
    free(lane->pieces);
    free(lane->keys);
    free(lane);
}

static bool lane_open(struct bench_lane *bench_lane, char *why)
{
    const struct bench_setup *setup = bench_lane->setup;
    struct node *node = bench_lane->reader;
    struct lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL) {
        return false;
    }
    bench_lane->priv = lane;
    lane->items = calloc(setup->batch, sizeof(*lane->items));
    lane->pieces =
        calloc((size_t)setup->batch * PIECES_MAX, sizeof(*lane->pieces));
    lane->keys = malloc((size_t)setup->batch * BENCH_KEY_LEN);
    if (lane->items == NULL || lane->pieces == NULL || lane->keys == NULL) {
        bench_why(why, "out of memory");
        return false;
    }
    if (setup->op != BENCH_GET || !setup->registered) {
        return true;
    }
    peercache_status_t status = peercache_mem_register(
        node->node, PEERCACHE_MEM_HOST, bench_lane->buffer,
        (size_t)setup->batch * setup->page_size, &lane->mem);
    if (status != PEERCACHE_OK) {
        bench_why(why, "buffer not registered: %s", peercache_strerror(status));
    }
    return status == PEERCACHE_OK;
}

/* A page lies in one piece, or in K and V apart. */
static void lay_out(struct lane *lane, size_t i, unsigned char *at,
                    const struct bench_setup *setup)
{
    peercache_piece_t *pieces = lane->pieces + i * PIECES_MAX;
    size_t first = setup->page_size / setup->n_pieces;
    pieces[0] = (peercache_piece_t){at, first};
    if (setup->n_pieces > 1) {
        pieces[1] = (peercache_piece_t){at + first, setup->page_size - first};
    }
    lane->items[i].pieces = pieces;
    lane->items[i].n_pieces = setup->n_pieces;
}

static void fill_item(struct bench_lane *bench_lane, size_t i, uint32_t page)
{
    const struct bench_setup *setup = bench_lane->setup;
    struct node *node = bench_lane->reader;
    struct lane *lane = bench_lane->priv;
    peercache_item_t *item = &lane->items[i];
    memset(item, 0, sizeof(*item));
    item->key_len = BENCH_KEY_LEN;
    item->key = node->keys + (size_t)page * BENCH_KEY_LEN;
    if (setup->op == BENCH_GET) {
        lay_out(lane, i, bench_lane->buffer + i * setup->page_size, setup);
        item->mem = lane->mem;
    } else if (setup->op == BENCH_SET) {
        /* A key that was never put: others would not be copied. */
        char *key = lane->keys + i * BENCH_KEY_LEN;
        uint64_t turn =
            1 + bench_lane->number + bench_lane->round * BENCH_THREADS_MAX;
        memcpy(key, item->key, BENCH_KEY_LEN);
        memcpy(key, &turn, sizeof(turn));
        item->key = key;
        lay_out(lane, i, node->pages + (size_t)page * setup->page_size, setup);
        item->mem = node->pages_mem;
    }
}

/* Sets prove in the warm-up that what was put can be got: the same keys are
 * read back into the lane's buffer, where the actor verifies them. */
static peercache_status_t read_back(struct bench_lane *bench_lane, size_t n)
{
    const struct bench_setup *setup = bench_lane->setup;
    struct node *node = bench_lane->reader;
    struct lane *lane = bench_lane->priv;
    peercache_op_params_t params = params_of(0);
    for (size_t i = 0; i < n; i++) {
        lay_out(lane, i, bench_lane->buffer + i * setup->page_size, setup);
        lane->items[i].mem = NULL;
    }
    return peercache_get(node->node, lane->items, n, &params, NULL);
}

static bool count_item(struct bench_lane *lane, const peercache_item_t *item)
{
    size_t source = (size_t)item->source;
    if (source < BENCH_N_SOURCES) {
        lane->sources[source]++;
    }
    if (item->status != PEERCACHE_OK && lane->why[0] == '\0') {
        bench_why(lane->why, "page: %s", peercache_strerror(item->status));
    }
    return item->status == PEERCACHE_OK;
}

static size_t batch(struct bench_lane *bench_lane, const uint32_t *pages,
                    size_t n)
{
    struct node *node = bench_lane->reader;
    struct lane *lane = bench_lane->priv;
    peercache_op_params_t params = params_of(0);
    peercache_status_t status;
    size_t n_ok = 0;
    for (size_t i = 0; i < n; i++) {
        fill_item(bench_lane, i, pages[i]);
    }
    switch (bench_lane->setup->op) {
    case BENCH_GET:
        status = peercache_get(node->node, lane->items, n, &params, NULL);
        break;
    case BENCH_SET:
        status = peercache_put(node->node, lane->items, n, &params, NULL);
        if (status == PEERCACHE_OK && bench_lane->reads_back) {
            status = read_back(bench_lane, n);
        }
        break;
    default:
        status = peercache_exists(node->node, lane->items, n, &params, NULL);
        break;
    }
    if (status != PEERCACHE_OK && status != PEERCACHE_PARTIAL) {
        bench_why(bench_lane->why, "call: %s", peercache_strerror(status));
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        n_ok += count_item(bench_lane, &lane->items[i]);
    }
    return n_ok;
}

static char *info(void *arg)
{
    struct node *node = arg;
    char *text;
    if (peercache_node_info(node->node, &text) != PEERCACHE_OK) {
        return NULL;
    }
    char *copy = strdup(text);
    peercache_free(text);
    return copy;
}

const struct bench_system bench_ours = {
    .name = "peercache",
    .lands = true,
    .own = own,
    .disown = node_close,
    .open = open_reader,
    .close = node_close,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .batch = batch,
    .info = info,
};
