/*
 * seeds.c - where the cluster may be found: the addresses of discovery_addr,
 * looked up again and again where they are names, and the discovery port of
 * this host, which one of its nodes serves. With the engine's role.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"
#include "node/resolver.h"
#include "transports/socket/names.h"

#include <stdio.h>
#include <string.h>

#define LOOK_UP_SOON_S 5 /* While no seed answers. */
/* As in the table of settings: patience beyond would overflow. */
#define MEMBER_TTL_MAX_NS (24 * 3600 * PC_S)

/* ---- Addresses -------------------------------------------------------- */

static struct pc_cluster_event event_of(const struct peercache_node *node,
                                        enum pc_cluster_event_type type,
                                        size_t seed)
{
    return (struct pc_cluster_event){.type = type,
                                     .now_ns = pc_engine_now(&node->engine),
                                     .seed = (int32_t)seed};
}

static bool may_use(const struct peercache_node *node, const char *address)
{
    if (pc_node_goes_beyond_loopback(node) || pc_names_is_loopback(address)) {
        return true;
    }
    PC_ERROR("seeds",
             "seed %s is beyond loopback: this node stays alone; set "
             "cluster_key_file, tls_cert or allow_insecure = true",
             address);
    return false;
}

static struct pc_seed *find_seed(struct peercache_node *node,
                                 const char *address)
{
    for (size_t i = 0; i < node->n_seeds; i++) {
        if (strcmp(node->seeds[i].address, address) == 0) {
            return &node->seeds[i];
        }
    }
    return NULL;
}

/* The seed may be in the list already, under another name. */
static struct pc_seed *add_seed(struct peercache_node *node,
                                const char *address, int name)
{
    struct pc_seed *seed = find_seed(node, address);
    if (seed != NULL) {
        return NULL;
    }
    seed = find_seed(node, "");
    if (seed == NULL && node->n_seeds < PC_SEEDS_MAX) {
        seed = &node->seeds[node->n_seeds++];
    }
    if (seed != NULL) {
        memset(seed, 0, sizeof(*seed));
        (void)snprintf(seed->address, sizeof(seed->address), "%s", address);
        seed->name = name;
    }
    return seed;
}

static void connect_seed(struct peercache_node *node, struct pc_seed *seed)
{
    size_t i = (size_t)(seed - node->seeds);
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_SEED_NEW, i);
    seed->peer = pc_peers_seed(&node->peers, (int32_t)i, seed->address);
    pc_view_step(node, &event);
}

static void drop_seed(struct peercache_node *node, struct pc_seed *seed)
{
    size_t i = (size_t)(seed - node->seeds);
    struct pc_cluster_event event = event_of(node, PC_CLUSTER_SEED_GONE, i);
    PC_INFO("seeds", "%s is a seed no more", seed->address);
    if (seed->bound[0] != '\0') {
        node->link_ops->unlisten(node->link, seed->bound);
    }
    if (seed->peer != NULL) {
        pc_peers_drop_seed(seed->peer);
    }
    memset(seed, 0, sizeof(*seed));
    pc_view_step(node, &event);
}

static bool is_found(const struct pc_resolver *r, const struct pc_seed *seed)
{
    for (size_t i = 0; i < r->n_found; i++) {
        if (strcmp(r->found[i].address, seed->address) == 0) {
            return true;
        }
    }
    return false;
}

/* A name that is not known now keeps the addresses that it had. */
static void take_answer(struct peercache_node *node)
{
    struct pc_resolver *r = node->resolver;
    (void)pthread_mutex_lock(&r->lock);
    r->fresh = false;
    for (size_t i = 0; i < node->n_seeds; i++) {
        struct pc_seed *seed = &node->seeds[i];
        if (seed->address[0] != '\0' && seed->name >= 0 &&
            r->names[seed->name].known && !is_found(r, seed)) {
            drop_seed(node, seed);
        }
    }
    for (size_t i = 0; i < r->n_found; i++) {
        const struct pc_resolved *found = &r->found[i];
        if (find_seed(node, found->address) == NULL &&
            may_use(node, found->address)) {
            struct pc_seed *seed = add_seed(node, found->address, found->name);
            if (seed != NULL && node->cluster != NULL) {
                PC_INFO("seeds", "%s is a seed now", found->address);
                connect_seed(node, seed);
            }
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
}

/* ---- Setting up ------------------------------------------------------- */

static void add_name(struct peercache_node *node, const char *host,
                     uint16_t port)
{
    if (node->resolver == NULL) {
        node->resolver = pc_resolver_create();
    }
    struct pc_resolver *r = node->resolver;
    if (r != NULL && r->n_names < PC_SEEDS_MAX) {
        (void)snprintf(r->names[r->n_names].host,
                       sizeof(r->names[r->n_names].host), "%s", host);
        r->names[r->n_names++].port = port;
    }
}

static void add_word(struct peercache_node *node, const char *word,
                     bool is_simulated)
{
    char host[PC_ADDRESS_MAX];
    char address[PC_ADDRESS_MAX];
    uint16_t port;
    if (is_simulated) {
        (void)add_seed(node, word, -1);
        return;
    }
    if (!pc_parse_host_port(word, host, sizeof(host), &port)) {
        return; /* The check has refused it already. */
    }
    if (!pc_names_numeric(host, port, address, sizeof(address))) {
        add_name(node, host, port);
    } else if (may_use(node, address)) {
        (void)add_seed(node, address, -1);
    } else {
        node->local_only = true;
    }
}

static void first_answer(struct peercache_node *node)
{
    pc_resolver_start(node->resolver);
    take_answer(node);
    (void)pthread_mutex_lock(&node->resolver->lock);
    for (size_t i = 0; i < node->resolver->n_names; i++) {
        if (!node->resolver->names[i].known) {
            PC_WARN("seeds", "seed %s is not known, going on without it",
                    node->resolver->names[i].host);
        }
    }
    (void)pthread_mutex_unlock(&node->resolver->lock);
    /* Places for addresses that come later. */
    node->n_seeds = PC_SEEDS_MAX;
}

void pc_seeds_init(struct peercache_node *node, bool is_simulated)
{
    char list[PEERCACHE_STR_MAX];
    char *rest = list;
    char *word;
    (void)snprintf(list, sizeof(list), "%s", node->settings.discovery_addr);
    while ((word = strtok_r(rest, ", ", &rest)) != NULL) {
        add_word(node, word, is_simulated);
    }
    if (node->resolver != NULL && !node->local_only) {
        first_answer(node);
    }
    if (node->local_only) {
        node->n_seeds = 0;
    }
}

/* ---- The discovery port ----------------------------------------------- */

/* Serve the discovery port if it is this host's and nobody else does. */
static void try_to_serve(struct peercache_node *node)
{
    for (size_t i = 0; i < node->n_seeds && !node->client; i++) {
        struct pc_seed *seed = &node->seeds[i];
        if (seed->ours || seed->address[0] == '\0' ||
            node->link_ops->listen(node->link, seed->address, seed->bound,
                                   sizeof(seed->bound)) != PEERCACHE_OK) {
            continue;
        }
        seed->ours = true;
        PC_INFO("seeds", "serving discovery at %s", seed->bound);
        pc_seeds_is_us(node, (int32_t)i);
    }
}

void pc_seeds_is_us(struct peercache_node *node, int32_t seed)
{
    if (seed >= 0 && (size_t)seed < node->n_seeds) {
        struct pc_cluster_event event =
            event_of(node, PC_CLUSTER_SEED_IS_US, (size_t)seed);
        node->seeds[seed].ours = true;
        pc_view_step(node, &event);
    }
}

static bool all_fail(const struct peercache_node *node)
{
    for (size_t i = 0; i < node->n_seeds; i++) {
        const struct pc_seed *seed = &node->seeds[i];
        if (seed->address[0] != '\0' && (seed->ours || !seed->failing)) {
            return false;
        }
    }
    return true;
}

static void look(struct pc_timer *timer, uint64_t now_ns)
{
    struct peercache_node *node =
        PC_CONTAINER_OF(timer, struct peercache_node, seeds_timer);
    if (node->left || node->withdrawn) {
        return;
    }
    pc_engine_timer_start(&node->engine, timer,
                          now_ns + node->settings.heartbeat_interval_ns / 4);
    try_to_serve(node);
    if (node->resolver == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&node->resolver->lock);
    bool fresh = node->resolver->fresh;
    (void)pthread_mutex_unlock(&node->resolver->lock);
    if (fresh) {
        take_answer(node);
    } else if (all_fail(node) &&
               now_ns - node->looked_up_ns > LOOK_UP_SOON_S * PC_S) {
        node->looked_up_ns = now_ns;
        pc_resolver_want(node->resolver);
    }
}

/* ---- Settings that all should share ----------------------------------- */

/* Several seeds may differ: then the first in the list is right. */
void pc_seeds_hello(struct peercache_node *node, int32_t index,
                    const struct pc_msg_hello *hello)
{
    struct pc_settings *s = &node->settings;
    for (size_t i = 0; i < (size_t)index && i < node->n_seeds; i++) {
        if (node->seeds[i].ours) {
            return;
        }
    }
    if (hello->member_ttl_ns != s->member_ttl_ns &&
        hello->member_ttl_ns >= 2 * s->heartbeat_interval_ns &&
        hello->member_ttl_ns <= MEMBER_TTL_MAX_NS) {
        PC_WARN("seeds",
                "member_ttl is %llu ms here and %llu ms at the seed %s: taking "
                "the seed's",
                (unsigned long long)(s->member_ttl_ns / PC_MS),
                (unsigned long long)(hello->member_ttl_ns / PC_MS),
                hello->self.id.text);
        s->member_ttl_ns = hello->member_ttl_ns;
    }
    if ((int64_t)hello->max_masters != s->max_masters &&
        hello->max_masters > 0 && hello->max_masters <= PC_NODES_MAX) {
        PC_WARN("seeds",
                "max_masters is %lld here and %u at the seed %s: taking the "
                "seed's",
                (long long)s->max_masters, hello->max_masters,
                hello->self.id.text);
        s->max_masters = hello->max_masters;
    }
    node->peers.self.member_ttl_ns = s->member_ttl_ns;
    node->peers.self.max_masters = (uint32_t)s->max_masters;
    pc_cluster_tune(node->cluster, s->member_ttl_ns, (uint32_t)s->max_masters);
}

/* ---- Life ------------------------------------------------------------- */

void pc_seeds_prepare(struct peercache_node *node)
{
    for (size_t i = 0; i < node->n_seeds; i++) {
        struct pc_seed *seed = &node->seeds[i];
        if (seed->address[0] == '\0') {
            struct pc_cluster_event event =
                event_of(node, PC_CLUSTER_SEED_GONE, i);
            pc_view_step(node, &event);
        } else if (seed->peer == NULL) {
            seed->peer = pc_peers_seed(&node->peers, (int32_t)i, seed->address);
        }
    }
}

void pc_seeds_start(struct peercache_node *node)
{
    pc_engine_timer_init(&node->seeds_timer, look);
    look(&node->seeds_timer, pc_engine_now(&node->engine));
}

void pc_seeds_stop(struct peercache_node *node)
{
    pc_engine_timer_stop(&node->engine, &node->seeds_timer);
    for (size_t i = 0; i < node->n_seeds; i++) {
        if (node->seeds[i].bound[0] != '\0') {
            node->link_ops->unlisten(node->link, node->seeds[i].bound);
            node->seeds[i].bound[0] = '\0';
        }
    }
}

void pc_seeds_fini(struct peercache_node *node)
{
    if (node->resolver != NULL) {
        pc_resolver_stop(node->resolver);
        node->resolver = NULL;
    }
}
