/*
 * seeds.c - where the cluster may be found: the addresses of discovery_addr,
 * looked up again and again where they are names, and the discovery port of
 * this host, which one of its nodes serves. With the engine's role, but for the
 * resolver's thread.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"
#include "transports/socket/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_UP_S       30 /* Names are looked up again. */
#define LOOK_UP_SOON_S  5  /* While no seed answers. */
#define FIRST_LOOK_UP_S 1  /* Creation waits so long for the first answer. */

/* ---- The resolver ----------------------------------------------------- */

/*
 * getaddrinfo blocks, sometimes for long: a thread of its own calls it, which
 * nobody waits for. It shares nothing with the node but this, and whoever is
 * the last to use it frees it.
 */
struct pc_resolver
{
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned refs;
    bool stopping;
    bool wanted;
    bool fresh; /* An answer that nobody has looked at. */
    size_t n_names;
    struct
    {
        char host[PC_ADDRESS_MAX];
        uint16_t port;
        bool known; /* Some address was found last time. */
    } names[PC_SEEDS_MAX];
    size_t n_found;
    struct pc_resolved found[PC_SEEDS_MAX];
};

static void resolver_unref(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    bool last = --r->refs == 0;
    (void)pthread_mutex_unlock(&r->lock);
    if (last) {
        (void)pthread_cond_destroy(&r->changed);
        (void)pthread_mutex_destroy(&r->lock);
        pc_free(r);
    }
}

/* Without the lock: names do not change after the start. */
static size_t look_up(struct pc_resolver *r, struct pc_resolved *found,
                      bool known[PC_SEEDS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_names; i++) {
        char addresses[PC_SEEDS_MAX][PC_ADDRESS_MAX];
        size_t n_new = pc_names_resolve_all(r->names[i].host, r->names[i].port,
                                            addresses, PC_SEEDS_MAX - n);
        known[i] = n_new > 0;
        for (size_t k = 0; k < n_new; k++, n++) {
            memcpy(found[n].address, addresses[k], sizeof(found[n].address));
            found[n].name = (int)i;
        }
    }
    return n;
}

static void wait_for_want(struct pc_resolver *r)
{
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += LOOK_UP_S;
    while (!r->stopping && !r->wanted &&
           pthread_cond_timedwait(&r->changed, &r->lock, &end) != ETIMEDOUT) {
    }
    r->wanted = false;
}

static void *resolver_main(void *arg)
{
    struct pc_resolver *r = arg;
    static const size_t size = PC_SEEDS_MAX * sizeof(struct pc_resolved);
    struct pc_resolved *found = pc_alloc(1, size);
    (void)pthread_mutex_lock(&r->lock);
    while (!r->stopping && found != NULL) {
        bool known[PC_SEEDS_MAX] = {false};
        (void)pthread_mutex_unlock(&r->lock);
        size_t n = look_up(r, found, known);
        (void)pthread_mutex_lock(&r->lock);
        memcpy(r->found, found, n * sizeof(*found));
        r->n_found = n;
        for (size_t i = 0; i < r->n_names; i++) {
            r->names[i].known = known[i];
        }
        r->fresh = true;
        (void)pthread_cond_broadcast(&r->changed);
        wait_for_want(r);
    }
    (void)pthread_mutex_unlock(&r->lock);
    pc_free(found);
    resolver_unref(r);
    return NULL;
}

static struct pc_resolver *resolver_create(void)
{
    pthread_condattr_t attr;
    struct pc_resolver *r = pc_alloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->refs = 1;
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    return r;
}

/* Start it, and wait a little for its first answer. */
static void resolver_start(struct pc_resolver *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += FIRST_LOOK_UP_S;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_mutex_lock(&r->lock);
    r->refs++;
    if (pthread_create(&thread, &attr, resolver_main, r) != 0) {
        r->refs--;
        PC_ERROR("seeds", "no thread to look up the names of seeds");
    } else {
        while (!r->fresh && pthread_cond_timedwait(&r->changed, &r->lock,
                                                   &end) != ETIMEDOUT) {
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_attr_destroy(&attr);
}

static void resolver_stop(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->stopping = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    resolver_unref(r);
}

static void resolver_want(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->wanted = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
}

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
        node->resolver = resolver_create();
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
    resolver_start(node->resolver);
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
        resolver_want(node->resolver);
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
        hello->member_ttl_ns >= 2 * s->heartbeat_interval_ns) {
        PC_WARN("seeds",
                "member_ttl is %llu ms here and %llu ms at the seed %s: taking "
                "the seed's",
                (unsigned long long)(s->member_ttl_ns / PC_MS),
                (unsigned long long)(hello->member_ttl_ns / PC_MS),
                hello->self.id.text);
        s->member_ttl_ns = hello->member_ttl_ns;
    }
    if ((int64_t)hello->max_masters != s->max_masters &&
        hello->max_masters > 0) {
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
        resolver_stop(node->resolver);
        node->resolver = NULL;
    }
}
