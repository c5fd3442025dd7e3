#include "node.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/read_header.h"
#include "node/trust.h"
#include "proto/view.h"
#include "transports/socket/names.h"
#include "transports/socket/socket.h"
#include "transports/ucx/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* No send progress for so long drops a connection (design.md 11). */
#define STALL_NS (2 * PC_S)
/* What the end of a node waits for at most, step by step. */
#define CLOSE_NS (2 * PC_S)

/* ---- Small services --------------------------------------------------- */

bool pc_node_is_dead(const peercache_node_t *node, uint64_t incarnation)
{
    return incarnation != node->self.incarnation &&
           pc_cluster_is_dead(node->cluster, incarnation);
}

bool pc_node_is_over(const peercache_node_t *node,
                     const struct pc_member *member)
{
    size_t n;
    const struct pc_member *members = pc_ring_members(node->ring, &n);
    const struct pc_member *known =
        pc_cluster_find(node->cluster, member->incarnation);
    size_t low = 0;
    if (known != NULL && pc_view_has(known)) {
        return false; /* Most are: this is asked of all at each change. */
    }
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        int order = pc_node_id_compare(&members[middle].id, &member->id);
        if (order == 0 && members[middle].incarnation >= member->incarnation) {
            return members[middle].incarnation > member->incarnation;
        }
        if (order == 0) {
            break; /* One that is new to us, or of a clock that was put back. */
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return pc_node_is_dead(node, member->incarnation);
}

void pc_node_record(const peercache_node_t *node, const struct pc_place *place,
                    struct pc_record *record)
{
    memset(record, 0, sizeof(*record));
    record->digest = place->digest;
    record->incarnation = node->self.incarnation;
    record->generation = place->generation;
    record->offset = place->offset;
    record->length = place->length;
    record->checksum = place->checksum;
    record->slot = place->slot;
    record->region = place->region;
    record->flags = place->on_disk ? PC_RECORD_ON_DISK : 0;
}

bool pc_node_is_forked(const peercache_node_t *node)
{
    return node->pid != getpid();
}

struct call
{
    struct pc_task task;
    struct pc_event done;
    peercache_node_t *node;
    void (*fn)(peercache_node_t *node, void *arg);
    void *arg;
};

static void call_run(struct pc_task *task)
{
    struct call *call = PC_CONTAINER_OF(task, struct call, task);
    call->fn(call->node, call->arg);
    pc_event_set(&call->done, 1);
}

void pc_node_call(peercache_node_t *node,
                  void (*fn)(peercache_node_t *, void *), void *arg)
{
    if (node->manual || pc_engine_is_current(&node->engine)) {
        fn(node, arg);
        return;
    }
    struct call call = {.node = node, .fn = fn, .arg = arg};
    call.task.run = call_run;
    pc_event_init(&call.done, 0);
    (void)pc_engine_call(&node->engine, &call.task, &call.done, UINT64_MAX);
}

/* ---- The engine's part of each turn ----------------------------------- */

static void path_look(struct pc_timer *timer, uint64_t now_ns)
{
    struct peercache_node *node =
        PC_CONTAINER_OF(timer, struct peercache_node, path_timer);
    struct pc_list waiters;
    (void)now_ns;
    pc_list_init(&waiters);
    pc_list_splice_back(&waiters, &node->path_waiters);
    struct pc_list *at;
    while ((at = pc_list_pop_front(&waiters)) != NULL) {
        pc_op_advance(PC_CONTAINER_OF(at, struct peercache_op, queue));
    }
}

static unsigned node_idle(void *arg)
{
    struct peercache_node *node = arg;
    unsigned work = pc_op_advance_all(node);
    work += pc_publish_step(node);
    pc_doubt_step(node);
    pc_uses_step(node);
    if (node->manual) {
        work += pc_tier_turn(node);
        work += pc_pool_drain_gone(node);
        work += pc_threads_manual(node);
    } else {
        pc_threads_make_room(node);
    }
    return work;
}

static void on_up(void *arg, struct pc_peer *peer)
{
    struct peercache_node *node = arg;
    pc_fifo_peer_up(node, peer->member.incarnation);
    path_look(&node->path_timer, 0);
}

static void on_lost(void *arg, struct pc_peer *peer, peercache_status_t why)
{
    struct peercache_node *node = arg;
    (void)why;
    pc_members_lost(node, peer);
    path_look(&node->path_timer, 0);
}

static void on_seed_is_us(void *arg, int32_t seed)
{
    pc_seeds_is_us(arg, seed);
}

static void on_seed_hello(void *arg, int32_t seed,
                          const struct pc_msg_hello *hello)
{
    pc_seeds_hello(arg, seed, hello);
}

static void on_path_changed(void *arg, struct pc_peer *peer)
{
    struct peercache_node *node = arg;
    (void)peer;
    path_look(&node->path_timer, 0);
}

/* ---- Creation --------------------------------------------------------- */

static peercache_status_t fail(peercache_config_t *config,
                               peercache_status_t status, const char *text)
{
    PC_ERROR("node", "%s", text);
    pc_config_set_error(config, "%s", text);
    return status;
}

static peercache_status_t set_identity(struct peercache_node *node,
                                       const struct pc_node_env *env,
                                       peercache_config_t *config)
{
    struct pc_identity identity;
    uint64_t wall = env != NULL ? env->wall_ns : pc_clock_wall();
    if (env != NULL) {
        identity = (struct pc_identity){env->host, env->domain};
    } else {
        pc_identity_of_machine(&identity);
    }
    node->self.incarnation =
        pc_incarnation_make(wall, pc_rand_u64(&node->random));
    node->self.epoch = 1;
    node->self.host = identity.host;
    node->domain = identity.domain;
    node->client = node->settings.mode == PC_MODE_CENTRALIZED &&
                   node->settings.role != PC_ROLE_WANTED_STORAGE;
    node->self.role = (uint8_t)(node->client ? PC_ROLE_CLIENT
                                : node->settings.role == PC_ROLE_WANTED_STORAGE
                                    ? PC_ROLE_STORAGE
                                    : PC_ROLE_MEMBER);
    node->self.state = PC_MEMBER_ALIVE;
    if (node->settings.node_id[0] != '\0') {
        if (!pc_node_id_set(&node->self.id, node->settings.node_id)) {
            return fail(config, PEERCACHE_INVALID, "node_id is not valid");
        }
    } else if (!pc_identity_auto_id(node->settings.cluster_name, &node->self.id,
                                    &node->id_lock)) {
        return fail(config, PEERCACHE_IO,
                    "no lock file for an automatic node_id can be made in "
                    "XDG_RUNTIME_DIR or /tmp; set node_id");
    }
    node->digest_seed =
        pc_digest_seed(node->settings.cluster_name, node->settings.digest_salt);
    node->key_seed =
        pc_digest_seed_prefixed(node->digest_seed, node->settings.prefix);
    return PEERCACHE_OK;
}

static peercache_status_t make_parts(struct peercache_node *node)
{
    struct pc_store_params store = {
        .incarnation = node->self.incarnation,
        .nonce_seed = pc_rand_u64(&node->random),
        .max_regions = PC_REGIONS_MAX,
        .free_low = (double)node->settings.evict_low / 1000,
        .free_high = (double)node->settings.evict_high / 1000,
        .policy = node->settings.eviction_policy == PC_EVICTION_LRU
                      ? pc_evict_lru()
                      : pc_evict_s3fifo(),
        .gone = pc_pool_gone,
        .arg = node,
    };
    node->store = pc_store_create(&store);
    node->cache = pc_cache_create((size_t)node->settings.location_cache,
                                  node->settings.directory_read_cache_ttl_ns);
    node->shard = pc_shard_create((size_t)node->settings.directory_records);
    node->ring = pc_ring_create(&node->self, 1, (uint32_t)node->settings.vnodes,
                                (uint32_t)node->settings.directory_replicas);
    node->mems = pc_mem_table_create();
    node->regions = pc_alloc(PC_REGIONS_MAX, sizeof(*node->regions));
    bool all = node->store != NULL && node->cache != NULL &&
               node->shard != NULL && node->ring != NULL &&
               node->mems != NULL && node->regions != NULL;
    return all ? PEERCACHE_OK : PEERCACHE_NO_MEMORY;
}

static void fill_hello(const struct peercache_node *node,
                       struct pc_msg_hello *hello)
{
    memset(hello, 0, sizeof(*hello));
    hello->protocol = PC_PROTOCOL_VERSION;
    hello->layout = PC_LAYOUT_VERSION;
    hello->digest_version = PC_DIGEST_VERSION;
    hello->digest_seed_check =
        pc_hash64(&node->digest_seed, sizeof(node->digest_seed), 1);
    (void)snprintf(hello->cluster_name, sizeof(hello->cluster_name), "%.*s",
                   PC_CLUSTER_NAME_MAX, node->settings.cluster_name);
    hello->self = node->self;
    hello->vnodes = (uint32_t)node->settings.vnodes;
    hello->directory_replicas = (uint32_t)node->settings.directory_replicas;
    hello->max_masters = (uint32_t)node->settings.max_masters;
    hello->member_ttl_ns = node->settings.member_ttl_ns;
    hello->domain = node->domain;
    if (node->fabric != NULL) {
        hello->fabric = node->fabric_ops->address(node->fabric);
    }
}

static void init_engine(struct peercache_node *node)
{
    struct pc_engine_params params = {.clock = node->clock,
                                      .spin_ns = node->settings.spin_ns,
                                      .idle = node_idle,
                                      .idle_arg = node};
    pc_engine_init(&node->engine, &params);
    pc_mappings_init(&node->mappings, &node->engine);
    pc_list_init(&node->beats);
    pc_list_init(&node->ops);
    pc_list_init(&node->soon_ops);
    pc_list_init(&node->closing_ops);
    pc_list_init(&node->view_waiters);
    pc_list_init(&node->drains);
    pc_list_init(&node->path_waiters);
    pc_list_init(&node->copy_queue);
    pc_engine_timer_init(&node->path_timer, path_look);
    pc_engine_timer_init(&node->cluster_timer, NULL);
    pc_engine_timer_init(&node->first_view_timer, NULL);
    pc_engine_timer_init(&node->seeds_timer, NULL);
    pc_bounce_init(node);
    pc_publish_init(node);
    pc_repair_init(node);
    pc_compare_init(node);
    pc_purge_init(node);
    pc_doubt_init(node);
    pc_uses_init(node);
    node->hedge_budget = PC_HEDGE_BUDGET_MAX;
}

/* Whether nodes on other hosts may be met: because they prove themselves, or
 * because the user says that nobody else is there. */
bool pc_node_goes_beyond_loopback(const struct peercache_node *node)
{
    return node->trusted || node->settings.allow_insecure;
}

static peercache_status_t open_trusted(struct peercache_node *node,
                                       struct pc_link_params *params,
                                       const struct pc_trust *trust,
                                       peercache_config_t *config)
{
    node->trusted = trust->given;
    params->tls = trust->given ? &trust->tls : NULL;
    params->loopback_only =
        params->world == NULL && !pc_node_goes_beyond_loopback(node);
    peercache_status_t status = node->link_ops->open(params, &node->link);
    if (status == PEERCACHE_OK) {
        if (trust->given && !trust->tls.encrypt) {
            PC_WARN("node", "encrypt = false: nodes prove themselves when they "
                            "connect; what follows is neither secret nor safe "
                            "from changes on its way");
        }
        PC_INFO("node", "links: %s",
                trust->given ? node->link_ops->describe(node->link)
                : node->settings.allow_insecure
                    ? "neither authenticated nor encrypted (allow_insecure)"
                    : "without a key, on loopback only");
        return PEERCACHE_OK;
    }
    if (!trust->given || trust->reason[0] == '\0') {
        return fail(config, status, "the socket layer cannot be opened");
    }
    char text[sizeof(trust->reason) + 64];
    (void)snprintf(text, sizeof(text), "%s: %s",
                   trust->tls.n_keys > 0 ? "the cluster key" : "certificates",
                   trust->reason);
    return fail(config, status, text);
}

/* The link, and where others reach us. */
static peercache_status_t open_link(struct peercache_node *node,
                                    const struct pc_node_env *env,
                                    peercache_config_t *config)
{
    struct pc_link_params params = {.up = pc_conn_upcalls(&node->peers),
                                    .head_max = PC_HEAD_MAX + 64,
                                    .n_incoming_max = PC_INCOMING_MAX,
                                    .stall_ns = STALL_NS,
                                    .world =
                                        env != NULL ? env->link_world : NULL};
    char address[PEERCACHE_STR_MAX + 16];
    char text[PEERCACHE_STR_MAX + 256];
    const char *host = node->settings.control_bind_host;
    struct pc_trust trust = {.given = false};
    if (env == NULL && pc_trust_load(&node->settings, &trust) != PEERCACHE_OK) {
        return fail(config, PEERCACHE_INVALID, trust.reason);
    }
    peercache_status_t status = open_trusted(node, &params, &trust, config);
    pc_trust_wipe(&trust);
    if (status != PEERCACHE_OK) {
        return status;
    }
    if (env != NULL) {
        host = env->address;
    } else if (host[0] == '\0') {
        host = pc_node_goes_beyond_loopback(node) ? "0.0.0.0" : "127.0.0.1";
    }
    bool v6 = strchr(host, ':') != NULL;
    (void)snprintf(address, sizeof(address), "%s%s%s:%d", v6 ? "[" : "", host,
                   v6 ? "]" : "", (int)node->settings.control_port);
    if (env == NULL && !pc_node_goes_beyond_loopback(node) &&
        !pc_names_is_loopback(address)) {
        (void)snprintf(text, sizeof(text),
                       "control_bind_host is %s, beyond loopback; that needs "
                       "cluster_key_file, tls_cert or allow_insecure = true",
                       host);
        return fail(config, PEERCACHE_INVALID, text);
    }
    status = node->link_ops->listen(node->link, address, node->bound,
                                    sizeof(node->bound));
    if (status != PEERCACHE_OK) {
        (void)snprintf(text, sizeof(text),
                       "cannot listen on %s (control_bind_host, "
                       "control_port): %s, or in use",
                       address, peercache_strerror(status));
        return fail(config, status, text);
    }
    return PEERCACHE_OK;
}

/* What others connect to: the bound address, unless it says "all". */
static void set_address(struct peercache_node *node,
                        const struct pc_node_env *env)
{
    char ip[64] = "127.0.0.1";
    bool routed = false;
    (void)snprintf(node->self.address, sizeof(node->self.address), "%s",
                   node->bound);
    const char *port = strrchr(node->bound, ':');
    if (env != NULL || strncmp(node->bound, "0.0.0.0:", 8) != 0 ||
        port == NULL) {
        return;
    }
    if (node->settings.local_hostname[0] != '\0') {
        char resolved[PC_ADDRESS_MAX];
        if (pc_names_resolve(node->settings.local_hostname,
                             (uint16_t)atoi(port + 1), resolved,
                             sizeof(resolved))) {
            (void)snprintf(node->self.address, sizeof(node->self.address), "%s",
                           resolved);
            return;
        }
    }
    for (size_t i = 0; i < node->n_seeds; i++) {
        if (node->seeds[i].address[0] != '\0' &&
            pc_names_route(node->seeds[i].address, ip, sizeof(ip))) {
            routed = true;
            break;
        }
    }
    if (!routed && node->resolver != NULL) {
        /* No name was known yet: the way to anywhere (an address for
         * documentation, nothing is sent). */
        (void)pc_names_route("192.0.2.1:9", ip, sizeof(ip));
    }
    bool v6 = strchr(ip, ':') != NULL;
    (void)snprintf(node->self.address, sizeof(node->self.address), "%s%s%s%s",
                   v6 ? "[" : "", ip, v6 ? "]" : "", port);
}

/* Its default comes from times when every RoCE card had its version 2 there:
 * only who sets it means it. */
static bool is_given(const peercache_config_t *config, const char *name)
{
    return strcmp(pc_config_origin(config, name), "default") != 0;
}

/* UNSUPPORTED: there is no RDMA, and the settings insist on it. */
static peercache_status_t open_fabric(struct peercache_node *node,
                                      const struct pc_node_env *env,
                                      const peercache_config_t *config)
{
    const struct pc_settings *s = &node->settings;
    bool strict = s->protocol == PC_PROTOCOL_RDMA && s->protocol_strict;
    struct pc_fabric_params params = {
        .devices =
            s->device_names[0] != '\0' ? s->device_names : s->device_name,
        .rdma = s->protocol == PC_PROTOCOL_RDMA,
        .strict = strict,
        .rdma_port = is_given(config, "ib_port") ? (unsigned)s->ib_port : 0,
        .gid_index = is_given(config, "gid_index") ? (int)s->gid_index + 1 : 0,
        /* In every read mode: its neighbours may still map its pool. */
        .shm = true,
        .huge = s->huge_pages,
        .ucx_tcp = s->ucx_tcp[0] != '\0' ? s->ucx_tcp : NULL,
        .world = env != NULL ? env->fabric_world : NULL,
        .arg = &node->peers,
        .attached = pc_paths_attached,
        .peer_failed = pc_paths_failed,
    };
    node->fabric_ops = env != NULL ? env->fabric_ops : NULL;
    if (env == NULL &&
        pc_fabric_load(NULL, &node->fabric_ops) != PEERCACHE_OK) {
        node->fabric_ops = NULL;
    }
    if (node->fabric_ops == NULL) {
        /* The loader has said why, as loudly as the reason deserves. */
        PC_INFO("node", "no fabric: every read between nodes is served");
        return strict ? PEERCACHE_UNSUPPORTED : PEERCACHE_OK;
    }
    peercache_status_t status = node->fabric_ops->open(&params, &node->fabric);
    if (status != PEERCACHE_OK) {
        PC_WARN("node",
                "the fabric cannot be opened (%s): every read between "
                "nodes is served",
                peercache_strerror(status));
        node->fabric = NULL;
        return strict ? PEERCACHE_UNSUPPORTED : PEERCACHE_OK;
    }
    PC_INFO("node", "fabric: %s", node->fabric_ops->describe(node->fabric));
    return PEERCACHE_OK;
}

static peercache_status_t bring_up(struct peercache_node *node,
                                   const struct pc_node_env *env,
                                   peercache_config_t *config)
{
    struct pc_msg_hello hello;
    struct pc_peers_handlers up = {.arg = node,
                                   .request = pc_serve_request,
                                   .up = on_up,
                                   .lost = on_lost,
                                   .seed_is_us = on_seed_is_us,
                                   .seed_hello = on_seed_hello,
                                   .path_changed = on_path_changed};
    peercache_status_t status = open_link(node, env, config);
    if (status != PEERCACHE_OK) {
        return status;
    }
    pc_seeds_init(node, env != NULL);
    set_address(node, env);
    status = open_fabric(node, env, config);
    if (status != PEERCACHE_OK) {
        return fail(config, status,
                    "protocol = rdma and protocol_strict = true, but there are "
                    "no one-sided reads over RDMA here; the log says why");
    }
    pc_engine_use(&node->engine, node->link_ops, node->link, node->fabric_ops,
                  node->fabric);
    fill_hello(node, &hello);
    pc_peers_init(&node->peers, &node->engine, &node->mappings, &hello,
                  node->settings.connect_timeout_ns, &up);
    node->peers.needs_gets = node->settings.read_mode == PC_READ_MODE_ONE_SIDED;
    pc_peers_start(&node->peers);
    node->peers_up = true;
    pc_ring_unref(node->ring);
    node->ring = pc_ring_create(&node->self, 1, (uint32_t)node->settings.vnodes,
                                (uint32_t)node->settings.directory_replicas);
    if (node->ring == NULL) {
        return fail(config, PEERCACHE_NO_MEMORY, "out of memory");
    }
    pc_republish_start(node);
    pc_repair_start(node);
    pc_purge_start(node);
    status = pc_view_start(node);
    if (status != PEERCACHE_OK) {
        return fail(config, status, "out of memory");
    }
    return PEERCACHE_OK;
}

static peercache_status_t start_threads(struct peercache_node *node,
                                        peercache_config_t *config)
{
    if (node->manual) {
        pc_threads_bring_up_bounce(node);
        while (!node->client && pc_pool_grow(node)) {
        }
        pc_pool_is_up(node);
        return PEERCACHE_OK;
    }
    if (node->client) {
        node->settings.global_segment_size = 0;
    }
    /* Here, not by a thread: it reads the environment, and once the node is
     * made its user may change that. */
    pc_place_plan(node);
    tzset(); /* The first line of the log would, too. */
    peercache_status_t status = pc_threads_start(node);
    if (status == PEERCACHE_OK) {
        status = pc_engine_start(&node->engine);
    }
    if (status == PEERCACHE_OK) {
        pc_place_engine(node);
    }
    return status == PEERCACHE_OK
               ? status
               : fail(config, status, "a thread cannot be started");
}

/* The setting, where somebody gave one; else what peercache_log_set said. */
static void set_log_level(const struct pc_settings *settings,
                          const peercache_config_t *config)
{
    peercache_log_level_t level;
    peercache_log_fn fn;
    void *arg;
    if (strcmp(pc_config_origin(config, "log_level"), "default") != 0) {
        pc_log_get(&level, &fn, &arg);
        pc_log_set(settings->log_level, fn, arg);
    }
}

peercache_status_t pc_node_create(peercache_config_t *config,
                                  const struct pc_node_env *env,
                                  peercache_node_t **node_p)
{
    struct pc_settings settings;
    char reason[256];
    peercache_status_t status = pc_config_resolve(config, &settings);
    if (status != PEERCACHE_OK) {
        return status;
    }
    /* A simulated node has the memory of a simulated machine. */
    if (env == NULL) {
        status = pc_pool_check(&settings, reason, sizeof(reason));
    }
    if (status != PEERCACHE_OK) {
        return fail(config, status, reason);
    }
    set_log_level(&settings, config);
    struct peercache_node *node = pc_alloc(1, sizeof(*node));
    if (node == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    node->settings = settings;
    node->config = pc_config_clone(config);
    if (node->config == NULL) {
        pc_free(node);
        return fail(config, PEERCACHE_NO_MEMORY, "out of memory");
    }
    node->pid = getpid();
    node->id_lock = -1;
    node->gone_test = env != NULL ? env->gone : NULL;
    node->gone_test_arg = env != NULL ? env->gone_arg : NULL;
    node->make_ring = env != NULL ? env->make_ring : NULL;
    node->make_ring_arg = env != NULL ? env->make_ring_arg : NULL;
    node->manual = env != NULL && env->manual;
    node->clock = env != NULL ? env->clock : pc_clock_system();
    node->created_ns = pc_clock_now(&node->clock);
    node->growth_ns = PC_S;
    node->link_ops = env != NULL ? env->link_ops : pc_socket_link();
    pc_rand_init(&node->random,
                 env != NULL ? env->random_seed : pc_rand_entropy());
    (void)pthread_mutex_init(&node->gone_lock, NULL);
    (void)pthread_mutex_init(&node->pool_lock, NULL);
    init_engine(node);
    status = set_identity(node, env, config);
    if (status == PEERCACHE_OK && make_parts(node) != PEERCACHE_OK) {
        status = fail(config, PEERCACHE_NO_MEMORY, "out of memory");
    }
    if (status == PEERCACHE_OK) {
        status = bring_up(node, env, config);
    }
    if (status == PEERCACHE_OK) {
        PC_INFO("node", "node %s is up at %s", node->self.id.text,
                node->self.address);
        pc_tier_open(node, env != NULL ? env->disk_io : NULL,
                     env != NULL ? env->disk_turn_ns : 0);
        status = start_threads(node, config);
    }
    if (status != PEERCACHE_OK) {
        pc_node_begin_close(node);
        pc_node_free(node);
        return status;
    }
    *node_p = node;
    return PEERCACHE_OK;
}

/* ---- The end ---------------------------------------------------------- */

static void begin_close(peercache_node_t *node, void *arg)
{
    (void)arg;
    struct pc_list *at;
    while ((at = node->ops.next) != &node->ops) {
        struct peercache_op *op =
            PC_CONTAINER_OF(at, struct peercache_op, link);
        /* Those that must wait for a landing move to the back. */
        pc_list_remove(at);
        pc_list_push_back(&node->closing_ops, at);
        pc_op_stop(op, PEERCACHE_SHUTDOWN);
    }
    pc_drain_end_all(node);
    pc_tier_begin_close(node);
    if (node->cluster != NULL) {
        pc_view_leave(node);
    }
}

void pc_node_begin_close(peercache_node_t *node)
{
    atomic_store_explicit(&node->closing, true, memory_order_seq_cst);
    if (pc_event_get(&node->ready) == 0) {
        pc_event_set(&node->ready, 2); /* It will never be. */
    }
    pc_node_call(node, begin_close, NULL);
}

static void close_peers(peercache_node_t *node, void *arg)
{
    (void)arg;
    if (node->peers_up && !node->peers.closing) {
        pc_publish_end_barriers(node);
        pc_peers_close(&node->peers);
    }
}

static bool beats_are_out(const peercache_node_t *node)
{
    return pc_list_is_empty(&node->beats);
}

/* One look at how far the end is; starts its next part. */
static void look_if_idle(peercache_node_t *node, void *arg)
{
    bool *idle_p = arg;
    bool calm = pc_list_is_empty(&node->ops) &&
                pc_list_is_empty(&node->closing_ops) &&
                pc_list_is_empty(&node->copy_queue);
    if (calm && node->peers_up && !node->peers.closing &&
        (beats_are_out(node) ||
         pc_engine_now(&node->engine) > node->closing_ns + 100 * PC_MS)) {
        close_peers(node, NULL);
    }
    *idle_p = calm && (!node->peers_up ||
                       (node->peers.closing && pc_peers_is_idle(&node->peers) &&
                        pc_list_is_empty(&node->beats)));
}

bool pc_node_is_idle(peercache_node_t *node)
{
    bool idle = false;
    if (node->closing_ns == 0) {
        node->closing_ns = pc_clock_now(&node->clock);
    }
    pc_node_call(node, look_if_idle, &idle);
    return idle;
}

unsigned pc_node_turn(peercache_node_t *node)
{
    return pc_engine_turn(&node->engine);
}

uint64_t pc_node_next_due(peercache_node_t *node)
{
    return pc_engine_next_due(&node->engine);
}

static void stop_rings(peercache_node_t *node, void *arg)
{
    (void)arg;
    pc_rings_stop(node);
}

void pc_node_free(peercache_node_t *node)
{
    pc_threads_stop(node);
    pc_tier_close(node); /* The engine still takes what it ends. */
    /* Before the engine's wake-up descriptor is closed, which a builder's last
     * act may write to; with the role, as the engine may join it, too. */
    pc_node_call(node, stop_rings, NULL);
    pc_engine_stop(&node->engine);
    pc_engine_drain(&node->engine);
    close_peers(node, NULL);
    pc_engine_drain(&node->engine);
    /* What the peers did not end by themselves ends with link and fabric. */
    if (node->mems != NULL) {
        pc_mem_table_close(node);
    }
    if (node->link != NULL) {
        node->link_ops->close(node->link);
    }
    pc_tier_fini(node);
    pc_repair_fini(node);
    pc_publish_fini(node);
    pc_compare_fini(node);
    pc_purge_fini(node);
    pc_doubt_fini(node);
    pc_uses_fini(node);
    /* Gets that are still under way end with the fabric, and with them what
     * they land in. */
    bool landing = node->bounce.n_free != PC_BOUNCE_CHUNKS;
    if (!landing) {
        pc_bounce_fini(node);
    }
    pc_pool_free(node);
    if (node->fabric != NULL) {
        node->fabric_ops->close(node->fabric);
        node->engine.fabric = NULL;
    }
    pc_header_fini(node);
    if (landing && node->bounce.n_free == PC_BOUNCE_CHUNKS) {
        pc_free(node->bounce.base);
    }
    if (node->peers_up) {
        pc_peers_fini(&node->peers);
    }
    pc_view_fini(node);
    pc_mappings_fini(&node->mappings);
    pc_engine_fini(&node->engine);
    pc_store_destroy(node->store);
    pc_cache_destroy(node->cache);
    pc_shard_destroy(node->shard);
    peercache_config_destroy(node->config);
    pc_free(node->gone);
    (void)pthread_mutex_destroy(&node->gone_lock);
    (void)pthread_mutex_destroy(&node->pool_lock);
    if (node->id_lock >= 0) {
        (void)close(node->id_lock);
    }
    pc_free(node);
}

/* ---- Public ----------------------------------------------------------- */

peercache_status_t peercache_node_create(peercache_config_t *config,
                                         peercache_node_t **node_p)
{
    if (config == NULL || node_p == NULL) {
        return PEERCACHE_INVALID;
    }
    return pc_node_create(config, NULL, node_p);
}

peercache_status_t peercache_node_wait_ready(peercache_node_t *node,
                                             uint64_t timeout_ns)
{
    if (node == NULL) {
        return PEERCACHE_INVALID;
    }
    if (pc_node_is_forked(node)) {
        return PEERCACHE_FORKED;
    }
    if (pc_engine_is_current(&node->engine)) {
        return PEERCACHE_INVALID;
    }
    if (atomic_load_explicit(&node->closing, memory_order_acquire)) {
        return PEERCACHE_SHUTDOWN;
    }
    /* seq_cst: as for the verbs, the node's end sees us. */
    atomic_fetch_add_explicit(&node->n_calls, 1, memory_order_seq_cst);
    peercache_status_t status = PEERCACHE_TIMED_OUT;
    if (pc_event_wait(&node->ready, 0, timeout_ns)) {
        status =
            pc_event_get(&node->ready) == 1 ? PEERCACHE_OK : PEERCACHE_SHUTDOWN;
    }
    atomic_fetch_sub_explicit(&node->n_calls, 1, memory_order_seq_cst);
    return status;
}

void peercache_node_destroy(peercache_node_t *node)
{
    if (node == NULL || pc_node_is_forked(node)) {
        return; /* A fork's copy is not a node: nothing of it can be ended. */
    }
    struct pc_event never;
    pc_event_init(&never, 0);
    pc_node_begin_close(node);
    uint64_t end = pc_clock_now(&node->clock) + CLOSE_NS;
    for (;;) {
        bool calls =
            atomic_load_explicit(&node->n_calls, memory_order_acquire) > 0 ||
            atomic_load_explicit(&node->n_ops, memory_order_acquire) > 0;
        bool idle = pc_node_is_idle(node);
        /* Callers and operations must be out, whatever it takes: they end with
         * SHUTDOWN. Peers have until the deadline. */
        if (!calls && (idle || pc_clock_now(&node->clock) >= end)) {
            break;
        }
        (void)pc_event_wait(&never, 0, PC_MS);
    }
    pc_node_free(node);
}
