/*
 * threads.c - the node's threads beside the engine: one evictor, copy threads
 * for asynchronous operations, and one that brings up the pool.
 *
 * A node of a simulation has none of them: its turns do their work.
 */
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#define EVICT_AT_ONCE 32
#define EVICT_A_TURN  16
#define COPIERS_MAX   16
/* A pool that came up short tries to grow after so long, and then after twice
 * as long each time, up to the most. */
#define AGAIN_FIRST PC_S
#define AGAIN_MOST  (300 * PC_S)
/* Room must be there at two looks, no further apart than this. */
#define AGAIN_LASTS (10 * PC_S)

struct pc_threads
{
    struct peercache_node *node;
    pthread_mutex_t lock;
    pthread_cond_t evict_wanted;
    pthread_cond_t copy_wanted;
    bool stopping;
    bool evict;
    struct pc_list copies; /* op->queue */
    pthread_t evictor, pool;
    pthread_t copiers[COPIERS_MAX];
    size_t n_copiers;
    bool has_evictor, has_pool;
    struct pc_event stop; /* 1: the pool's thread ends, also while it waits. */
};

/* ---- Evictor ---------------------------------------------------------- */

/* A pool that grows has more room in a moment. */
static bool wants_eviction(const struct peercache_node *node)
{
    return pc_store_wants_eviction(node->store) && !pc_pool_is_growing(node);
}

static void *evictor_main(void *arg)
{
    struct pc_threads *t = arg;
    for (;;) {
        (void)pthread_mutex_lock(&t->lock);
        while (!t->evict && !t->stopping) {
            (void)pthread_cond_wait(&t->evict_wanted, &t->lock);
        }
        t->evict = false;
        bool stopping = t->stopping;
        (void)pthread_mutex_unlock(&t->lock);
        if (stopping) {
            return NULL;
        }
        do {
            pc_tier_look_ahead(t->node);
        } while (wants_eviction(t->node) &&
                 pc_store_evict(t->node->store, EVICT_AT_ONCE) > 0);
    }
}

void pc_threads_wake_evictor(struct peercache_node *node)
{
    struct pc_threads *t = node->threads;
    if (t == NULL) {
        return; /* A turn looks by itself. */
    }
    (void)pthread_mutex_lock(&t->lock);
    t->evict = true;
    (void)pthread_cond_signal(&t->evict_wanted);
    (void)pthread_mutex_unlock(&t->lock);
}

/* What a put takes from the margin the turns that publish it give back, some
 * 5 us at a time, mostly while its owners answer. The evictor's thread is for
 * who is faster than that: to wake it costs the caller 30 to 50 us, and what it
 * touches is then in another core's cache. No work in the turn's sense: nobody
 * polls longer for it.
 *
 * Turns of the engine's own thread begin later than a caller's. Else the thread
 * would evict for each page that a caller copies, in another core, and what
 * that leaves to do would keep it awake until the next page. */
void pc_threads_make_room(struct peercache_node *node)
{
    uint64_t now = pc_engine_now(&node->engine);
    if (node->client || now < node->room_again_ns) {
        return;
    }
    node->makes_room = wants_eviction(node) &&
                       (node->makes_room || pc_engine_is_lent(&node->engine) ||
                        pc_store_is_halfway(node->store));
    if (node->makes_room && pc_store_evict(node->store, EVICT_A_TURN) == 0) {
        node->room_again_ns = now + PC_MS; /* All is pinned. */
    }
}

/* ---- Copiers ---------------------------------------------------------- */

static void copy_one(struct peercache_op *op)
{
    op->on_copier = true;
    if (op->verb == PC_VERB_PUT) {
        (void)pc_put_caller(op);
    } else {
        (void)pc_get_copy(op);
    }
    pc_engine_submit(&op->node->engine, &op->task);
}

static void *copier_main(void *arg)
{
    struct pc_threads *t = arg;
    for (;;) {
        (void)pthread_mutex_lock(&t->lock);
        while (pc_list_is_empty(&t->copies) && !t->stopping) {
            (void)pthread_cond_wait(&t->copy_wanted, &t->lock);
        }
        struct pc_list *at = pc_list_pop_front(&t->copies);
        (void)pthread_mutex_unlock(&t->lock);
        if (at == NULL) {
            return NULL; /* Stopping, and nothing is left. */
        }
        copy_one(PC_CONTAINER_OF(at, struct peercache_op, queue));
    }
}

void pc_threads_copy(struct peercache_node *node, struct peercache_op *op)
{
    struct pc_threads *t = node->threads;
    if (t == NULL) {
        pc_list_push_back(&node->copy_queue, &op->queue);
        return;
    }
    (void)pthread_mutex_lock(&t->lock);
    pc_list_push_back(&t->copies, &op->queue);
    (void)pthread_cond_signal(&t->copy_wanted);
    (void)pthread_mutex_unlock(&t->lock);
}

unsigned pc_threads_manual(struct peercache_node *node)
{
    unsigned work = 0;
    struct pc_list *at = pc_list_pop_front(&node->copy_queue);
    if (at != NULL) {
        copy_one(PC_CONTAINER_OF(at, struct peercache_op, queue));
        work++;
    }
    if (!node->client) {
        pc_tier_look_ahead(node);
    }
    if (!node->client && pc_store_wants_eviction(node->store)) {
        work += (unsigned)pc_store_evict(node->store, 1);
    }
    return work;
}

/* ---- Pool ------------------------------------------------------------- */

static bool is_stopping(struct pc_threads *t)
{
    (void)pthread_mutex_lock(&t->lock);
    bool stopping = t->stopping;
    (void)pthread_mutex_unlock(&t->lock);
    return stopping;
}

bool pc_threads_are_stopping(void *arg)
{
    struct peercache_node *node = arg;
    return node->threads != NULL && is_stopping(node->threads);
}

struct bounce_task
{
    struct pc_task task;
    struct peercache_node *node;
    struct pc_fabric_mem *mem;
    uint8_t *base;
};

/* Reads need not wait for bounce memory any more. */
static void bounce_settled(struct peercache_node *node)
{
    /* release: pairs with the acquire before a read. */
    atomic_store_explicit(&node->bounce.coming, false, memory_order_release);
}

static void bounce_run(struct pc_task *task)
{
    struct bounce_task *b = PC_CONTAINER_OF(task, struct bounce_task, task);
    struct peercache_node *node = b->node;
    node->bounce.mem = b->mem;
    node->bounce.base = b->base;
    bounce_settled(node);
    if (!pc_list_is_empty(&node->path_waiters)) {
        pc_engine_timer_start(&node->engine, &node->path_timer,
                              pc_engine_now(&node->engine));
    }
    pc_free(b);
}

void pc_threads_bring_up_bounce(struct peercache_node *node)
{
    size_t length = (size_t)PC_BOUNCE_CHUNK * PC_BOUNCE_CHUNKS;
    if (node->fabric == NULL ||
        node->settings.read_mode == PC_READ_MODE_SERVED ||
        node->settings.read_mode == PC_READ_MODE_MAPPED) {
        bounce_settled(node);
        return;
    }
    struct bounce_task *b = pc_alloc(1, sizeof(*b));
    uint8_t *base = pc_alloc(1, length);
    struct pc_fabric_mem_params params = {.use = PC_MEM_BUFFER,
                                          .kind = PEERCACHE_MEM_HOST,
                                          .addr = base,
                                          .len = length,
                                          .numa_node = -1};
    if (b == NULL || base == NULL ||
        node->fabric_ops->mem_register(node->fabric, &params, &b->mem) !=
            PEERCACHE_OK) {
        PC_WARN("pool", "no bounce buffers: one-sided reads need registered "
                        "memory");
        bounce_settled(node);
        pc_free(b);
        pc_free(base);
        return;
    }
    b->task.run = bounce_run;
    b->node = node;
    b->base = base;
    if (node->manual) {
        bounce_run(&b->task);
    } else {
        pc_engine_submit(&node->engine, &b->task);
    }
}

/* The pool has less than it is to have. Memory that others need only for a
 * moment is theirs: it is taken if it is free at two looks. */
static void grow_later(struct pc_threads *t)
{
    struct peercache_node *node = t->node;
    uint64_t delay = AGAIN_FIRST;
    bool was_room = false;
    while (pc_pool_is_short(node)) {
        uint64_t wait = was_room && delay > AGAIN_LASTS ? AGAIN_LASTS : delay;
        if (pc_event_wait(&t->stop, 0, wait)) {
            return;
        }
        pc_metrics_add(&node->metrics, PC_METRIC_POOL_RETRIES, 1);
        bool is_room = pc_pool_has_room(node);
        if (is_room && was_room && pc_pool_grow(node)) {
            delay = AGAIN_FIRST;
            continue;
        }
        if (!is_room || was_room) {
            delay = delay < AGAIN_MOST / 2 ? delay * 2 : AGAIN_MOST;
        }
        was_room = is_room && !was_room;
    }
    PC_INFO("pool", "the pool is whole now, regions %zu", node->n_regions);
}

static void *pool_main(void *arg)
{
    struct pc_threads *t = arg;
    struct peercache_node *node = t->node;
    pc_threads_bring_up_bounce(node);
    while (!is_stopping(t) && pc_pool_grow(node)) {
    }
    struct pc_store_stats stats;
    pc_store_stats(node->store, &stats);
    if (!node->client) {
        PC_INFO("pool", "pool is up, regions %zu, bytes for values %llu",
                (size_t)stats.n_regions, (unsigned long long)stats.capacity);
    }
    pc_pool_is_up(node);
    if (!is_stopping(t) && pc_pool_is_short(node)) {
        grow_later(t);
    }
    return NULL;
}

/* ---- Start and stop --------------------------------------------------- */

static peercache_status_t start_all(struct pc_threads *t)
{
    int64_t n = t->node->settings.copy_threads;
    t->has_evictor = pthread_create(&t->evictor, NULL, evictor_main, t) == 0;
    t->has_pool = pthread_create(&t->pool, NULL, pool_main, t) == 0;
    if (!t->has_evictor || !t->has_pool) {
        return PEERCACHE_NO_MEMORY;
    }
    for (int64_t i = 0; i < n && i < COPIERS_MAX; i++) {
        if (pthread_create(&t->copiers[i], NULL, copier_main, t) != 0) {
            return PEERCACHE_NO_MEMORY;
        }
        t->n_copiers++;
    }
    return PEERCACHE_OK;
}

peercache_status_t pc_threads_start(struct peercache_node *node)
{
    struct pc_threads *t = pc_alloc(1, sizeof(*t));
    if (t == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    t->node = node;
    pc_list_init(&t->copies);
    pc_event_init(&t->stop, 0);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_cond_init(&t->evict_wanted, NULL);
    (void)pthread_cond_init(&t->copy_wanted, NULL);
    node->threads = t;
    return start_all(t);
}

void pc_threads_stop(struct peercache_node *node)
{
    struct pc_threads *t = node->threads;
    if (t == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&t->lock);
    t->stopping = true;
    (void)pthread_cond_broadcast(&t->evict_wanted);
    (void)pthread_cond_broadcast(&t->copy_wanted);
    (void)pthread_mutex_unlock(&t->lock);
    pc_event_set(&t->stop, 1);
    if (t->has_evictor) {
        (void)pthread_join(t->evictor, NULL);
    }
    if (t->has_pool) {
        (void)pthread_join(t->pool, NULL);
    }
    for (size_t i = 0; i < t->n_copiers; i++) {
        (void)pthread_join(t->copiers[i], NULL);
    }
    (void)pthread_cond_destroy(&t->evict_wanted);
    (void)pthread_cond_destroy(&t->copy_wanted);
    (void)pthread_mutex_destroy(&t->lock);
    pc_free(t);
    node->threads = NULL;
}
