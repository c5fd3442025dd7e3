/*
 * Calls that are wrong, or come at the wrong time: arguments, sizes, callbacks,
 * forks, and the end of a node with work in flight.
 */
#include "host.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define LEN (16 * KIB)

/* A peer in another process and a node here, both members. */
struct pair
{
    struct peer peer;
    peercache_node_t *node;
};

static void pair_start(struct pair *pair, const char *theirs, const char *ours)
{
    uint16_t port = host_port();
    peer_start(&pair->peer);
    (void)peer_tell(&pair->peer, "ok", "start discovery_addr=127.0.0.1:%u %s",
                    port, theirs);
    (void)peer_tell(&pair->peer, "OK", "ready");
    pair->node = host_node("discovery_addr=127.0.0.1:%u %s", port, ours);
    host_ready(pair->node);
}

static void pair_end(struct pair *pair)
{
    peercache_node_destroy(pair->node);
    peer_end(&pair->peer);
}

static const char *const modes[] = {"mapped", "one-sided", "served"};

/* ---- Arguments ---------------------------------------------------------- */

static void keys_of_a_wrong_length_are_invalid_and_set_no_status(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, PEERCACHE_KEY_MAX + 1};
    static char key[PEERCACHE_KEY_MAX + 1];
    peercache_node_t *node = host_node("%s", "");
    struct batch batch;
    memset(key, 'k', sizeof(key));
    for (int verb = PC_VERB_PUT; verb <= PC_VERB_REMOVE; verb++) {
        for (int i = 0; i < 2; i++) {
            batch_init(&batch, 2, LEN);
            batch_name(&batch, "fine", 0);
            batch.items[1].key = key;
            batch.items[1].key_len = lengths[i];
            batch.items[0].status = batch.items[1].status = PEERCACHE_STALE;
            assert_int_equal(batch_do(&batch, node, (enum pc_verb)verb, PC_S),
                             PEERCACHE_INVALID);
            assert_int_equal(batch.items[0].status, PEERCACHE_STALE);
            assert_int_equal(batch.items[1].status, PEERCACHE_STALE);
            batch_fini(&batch);
        }
    }
    batch_init(&batch, 1, LEN);
    batch_name(&batch, "long", 0);
    batch_fill(&batch);
    batch.items[0].key = key;
    batch.items[0].key_len = PEERCACHE_KEY_MAX;
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, PC_S), PEERCACHE_OK);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, PC_S), PEERCACHE_OK);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

static void calls_that_make_no_sense_are_invalid(void **state)
{
    (void)state;
    peercache_node_t *node = host_node("%s", "");
    peercache_op_t *op = NULL;
    peercache_mem_t *mem = NULL;
    struct batch b;
    batch_init(&b, 1, LEN);
    batch_name(&b, "key", 0);
    batch_fill(&b);
    peercache_op_params_t bad = b.params;
    bad.struct_size = 1;
    assert_int_equal(peercache_put(node, b.items, 1, &bad, NULL),
                     PEERCACHE_INVALID);
    bad = b.params;
    bad.flags = ~0u;
    assert_int_equal(peercache_put(node, b.items, 1, &bad, NULL),
                     PEERCACHE_INVALID);
    bad = b.params;
    bad.name_space = "x";
    bad.name_space_len = 256;
    assert_int_equal(peercache_put(node, b.items, 1, &bad, NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_put(NULL, b.items, 1, &b.params, NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_put(node, NULL, 1, &b.params, NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_get(node, b.items, 0, &b.params, &op),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_get(node, b.items, 65537, &b.params, &op),
                     PEERCACHE_INVALID);
    assert_null(op);
    b.items[0].n_pieces = 0;
    assert_int_equal(peercache_get(node, b.items, 1, &b.params, NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(
        peercache_mem_register(node, PEERCACHE_MEM_HOST, NULL, 1, &mem),
        PEERCACHE_INVALID);
    assert_int_equal(
        peercache_mem_register(node, PEERCACHE_MEM_HOST, b.bytes, 0, &mem),
        PEERCACHE_INVALID);
    assert_int_equal(
        peercache_mem_register(node, PEERCACHE_MEM_DEVICE, b.bytes, LEN, &mem),
        PEERCACHE_UNSUPPORTED);
    assert_null(mem);
    assert_int_equal(peercache_node_wait_ready(NULL, 1), PEERCACHE_INVALID);
    assert_int_equal(peercache_op_wait(NULL, 1), PEERCACHE_INVALID);
    peercache_op_free(NULL);
    peercache_op_cancel(NULL);
    peercache_mem_deregister(NULL);
    peercache_node_destroy(NULL);
    batch_fini(&b);
    peercache_node_destroy(node);
}

/* ---- Sizes -------------------------------------------------------------- */

static void puts_of_a_node_without_a_pool_are_refused_with_one_warning(
    void **state)
{
    (void)state;
    struct batch b;
    batch_init(&b, 1, LEN);
    batch_name(&b, "nowhere", 0);
    peercache_node_t *node = host_node("mode=centralized role=inference");
    host_ready(node);
    unsigned before = host_log_count(PEERCACHE_LOG_WARN, "has no pool", "");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(batch_do(&b, node, PC_VERB_PUT, PC_S),
                         PEERCACHE_UNSUPPORTED);
    }
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "has no pool", ""),
                     before + 1);
    peercache_node_destroy(node);
    batch_fini(&b);
}

static void a_get_of_another_length_leaves_the_buffer_untouched(void **state)
{
    (void)state;
    static const size_t lengths[] = {LEN / 2, LEN + 1};
    for (int m = -1; m < 3; m++) {
        struct pair pair;
        char settings[64];
        (void)snprintf(settings, sizeof(settings), "ucx_tcp=lo read_mode=%s",
                       m < 0 ? "auto" : modes[m]);
        pair_start(&pair, "ucx_tcp=lo", settings);
        (void)peer_tell(&pair.peer, "OK", "put sized 1 %zu", LEN);
        struct batch right;
        batch_init(&right, 1, LEN);
        batch_name(&right, "sized", 0);
        if (m < 0) { /* From our own pool. */
            (void)peer_tell(&pair.peer, "OK", "remove sized 1");
            batch_fill(&right);
            assert_int_equal(batch_do(&right, pair.node, PC_VERB_PUT, PC_S),
                             PEERCACHE_OK);
        }
        for (int round = 0; round < 4; round++) {
            struct batch batch;
            size_t len = lengths[round % 2];
            batch_init(&batch, 1, len);
            batch_name(&batch, "sized", 0);
            batch_poison(&batch, 0xA5);
            assert_int_equal(batch_do(&batch, pair.node, PC_VERB_GET, 2 * PC_S),
                             PEERCACHE_PARTIAL);
            assert_int_equal(batch.items[0].status, PEERCACHE_SIZE_MISMATCH);
            assert_int_equal(batch.items[0].value_len, LEN);
            assert_true(batch_is_poison(&batch, 0xA5));
            batch_fini(&batch);
            if (round == 1) { /* From then on the place is remembered. */
                assert_int_equal(
                    batch_do(&right, pair.node, PC_VERB_GET, 2 * PC_S),
                    PEERCACHE_OK);
                assert_true(value_is("sized0", right.bytes, LEN));
            }
        }
        batch_fini(&right);
        pair_end(&pair);
    }
}

static void a_value_larger_than_a_region_is_too_large(void **state)
{
    (void)state;
    struct batch large;
    struct batch small;
    size_t n_wrong;
    peercache_node_t *node =
        host_node("%s", "global_segment_size=8MiB region_size=1MiB");
    batch_init(&large, 1, MIB);
    batch_init(&small, 1, MIB / 2);
    batch_name(&large, "large", 0);
    batch_name(&small, "small", 0);
    batch_fill(&small);
    peercache_item_t items[] = {large.items[0], small.items[0]};
    assert_int_equal(peercache_put(node, items, 2, &large.params, NULL),
                     PEERCACHE_PARTIAL);
    assert_int_equal(items[0].status, PEERCACHE_TOO_LARGE);
    assert_int_equal(items[1].status, PEERCACHE_OK);
    assert_int_equal(batch_do(&small, node, PC_VERB_GET, PC_S), PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&small, &n_wrong), 1);
    assert_int_equal(n_wrong, 0);
    batch_fini(&large);
    batch_fini(&small);
    peercache_node_destroy(node);
}

static void the_same_key_many_times_in_a_batch_is_normal(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    size_t n_wrong;
    pair_start(&pair, "", "");
    batch_init(&batch, 8, LEN);
    batch_name(&batch, "twin", 0);
    for (size_t i = 1; i < batch.n; i++) {
        memcpy(batch.keys[i], batch.keys[i % 2], sizeof(batch.keys[i]));
    }
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_PUT, 2 * PC_S),
                     PEERCACHE_OK);
    (void)peer_tell(&pair.peer, "OK 2 0", "get twin 2 %zu", LEN);
    (void)peer_tell(&pair.peer, "OK", "put theirs 2 %zu", LEN);
    for (int round = 0; round < 2; round++) {
        batch_poison(&batch, 0);
        assert_int_equal(batch_do(&batch, pair.node, PC_VERB_GET, 2 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 8);
        assert_int_equal(n_wrong, 0);
        for (size_t i = 0; i < batch.n; i++) {
            (void)snprintf(batch.keys[i], sizeof(batch.keys[i]), "theirs%zu",
                           i % 2);
            batch.items[i].key_len = strlen(batch.keys[i]);
        }
    }
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_EXISTS, 2 * PC_S),
                     PEERCACHE_OK);
    (void)batch_do(&batch, pair.node, PC_VERB_REMOVE, 2 * PC_S);
    size_t n_removed = 0;
    for (size_t i = 0; i < batch.n; i++) {
        peercache_status_t status = batch.items[i].status;
        assert_true(status == PEERCACHE_OK || status == PEERCACHE_NOT_FOUND);
        n_removed += status == PEERCACHE_OK;
    }
    assert_true(n_removed >=
                2); /* Each key once; its twins may find it gone. */
    (void)peer_tell(&pair.peer, "PARTIAL 0", "get theirs 2 %zu", LEN);
    batch_fini(&batch);
    pair_end(&pair);
}

static void a_batch_larger_than_the_pool_is_normal(void **state)
{
    (void)state;
    struct batch batch;
    size_t n_wrong;
    peercache_node_t *node =
        host_node("%s", "global_segment_size=8MiB region_size=4MiB");
    host_whole(node);
    batch_init(&batch, 96, 256 * KIB); /* Three times the pool. */
    batch_name(&batch, "many", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 20 * PC_S),
                     PEERCACHE_OK);
    batch_poison(&batch, 0);
    (void)batch_do(&batch, node, PC_VERB_GET, 20 * PC_S);
    assert_true(batch_count_ok(&batch, &n_wrong) >= 16);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(batch.items[95].status, PEERCACHE_OK);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* Slots run out long before bytes do: the oldest make room, in one batch, too.
 */
static void a_batch_of_more_tiny_values_than_slots_is_normal(void **state)
{
    (void)state;
    struct batch batch;
    size_t n_wrong;
    enum { N = 9000 }; /* 8 MiB have 2,560 slots. */
    peercache_node_t *node =
        host_node("%s", "global_segment_size=8MiB region_size=4MiB");
    host_whole(node);
    batch_init(&batch, N, 8);
    batch_name(&batch, "tiny", 0);
    batch_fill(&batch);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 20 * PC_S),
                         PEERCACHE_OK);
    }
    batch_poison(&batch, 0);
    (void)batch_do(&batch, node, PC_VERB_GET, 20 * PC_S);
    assert_true(batch_count_ok(&batch, &n_wrong) >= 1500);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(batch.items[N - 1].status, PEERCACHE_OK);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* ---- Clear ----------------------------------------------------------------
 */

enum { N_CLEARED = 400, N_WRITERS = 3 };

struct writer
{
    pthread_t thread;
    peercache_node_t *node;
    _Atomic bool *stop;
    size_t n_wrong, n_not_put;
};

/* Puts and gets over the same keys as everybody else. */
static void *write_and_read(void *arg)
{
    struct writer *w = arg;
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, N_CLEARED, 5000);
    batch_name(&batch, "cleared", 0);
    while (!atomic_load(w->stop)) {
        batch_fill(&batch);
        (void)batch_do(&batch, w->node, PC_VERB_PUT, 20 * PC_S);
        w->n_not_put += N_CLEARED - batch_count_ok(&batch, &n_wrong);
        batch_poison(&batch, 0x5A);
        (void)batch_do(&batch, w->node, PC_VERB_GET, 20 * PC_S);
        (void)batch_count_ok(&batch, &n_wrong);
        w->n_wrong += n_wrong;
    }
    batch_fini(&batch);
    return NULL;
}

static void a_clear_under_traffic_drops_whole_values_only(void **state)
{
    (void)state;
    struct pair pair;
    struct writer writers[N_WRITERS];
    struct batch batch;
    _Atomic bool stop = false;
    uint64_t n_removed;
    uint64_t n_all = 0;
    size_t n_wrong;
    pair_start(&pair, "", "global_segment_size=16MiB region_size=8MiB");
    host_whole(pair.node);
    (void)peer_tell(&pair.peer, "OK", "put theirs 2 %zu", LEN);
    for (int i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer){.node = pair.node, .stop = &stop};
        assert_int_equal(pthread_create(&writers[i].thread, NULL,
                                        write_and_read, &writers[i]),
                         0);
    }
    uint64_t end_ns = pc_clock_monotonic() + 60 * PC_S;
    for (int round = 0; round < 50 || n_all < 10 * N_CLEARED; round++) {
        assert_true(pc_clock_monotonic() < end_ns);
        assert_int_equal(peercache_node_clear(pair.node, 20 * PC_S, &n_removed),
                         PEERCACHE_OK);
        n_all += n_removed;
    }
    atomic_store(&stop, true);
    for (int i = 0; i < N_WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        assert_int_equal(writers[i].n_wrong, 0);
        assert_int_equal(writers[i].n_not_put, 0);
    }
    assert_true(n_all > 0);
    assert_int_equal(peercache_node_clear(pair.node, 20 * PC_S, NULL),
                     PEERCACHE_OK);
    batch_init(&batch, N_CLEARED, 5000);
    batch_name(&batch, "cleared", 0);
    (void)batch_do(&batch, pair.node, PC_VERB_GET, 20 * PC_S);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 0);
    (void)peer_tell(&pair.peer, "PARTIAL 0", "get cleared 8 5000");
    (void)peer_tell(&pair.peer, "OK 2 0", "get theirs 2 %zu", LEN);
    assert_int_equal(peercache_node_clear(pair.node, 0, &n_removed),
                     PEERCACHE_OK);
    assert_int_equal(n_removed, 0);
    assert_int_equal(peercache_node_clear(NULL, 1, &n_removed),
                     PEERCACHE_INVALID);
    batch_fini(&batch);
    pair_end(&pair);
}

/* Most of the directory is kept by another node. */
static void a_large_batch_takes_no_longer_than_its_deadline(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    size_t n_wrong;
    enum { N = 30000 };
    pair_start(&pair, "", "global_segment_size=256MiB");
    batch_init(&batch, N, 8);
    batch_name(&batch, "small", 0);
    batch_fill(&batch);
    uint64_t began = pc_clock_monotonic();
    (void)batch_do(&batch, pair.node, PC_VERB_PUT, 20 * PC_MS);
    assert_true(pc_clock_monotonic() - began < 20 * PC_MS + HOST_SLACK_NS);
    /* With enough time all of it, and not for its square. */
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_PUT, 20 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), N);
    batch_fini(&batch);
    pair_end(&pair);
}

/* ---- Callbacks ---------------------------------------------------------- */

struct callback
{
    peercache_node_t *node;
    struct batch inner, other;
    atomic_int n_calls;
    peercache_status_t in_callback; /* Of op_status there. */
    peercache_status_t blocking[4];
    peercache_status_t waiting, ready, cleared;
    peercache_op_t *canceled, *next; /* Started there. */
};

static void called(peercache_op_t *op, void *arg)
{
    struct callback *c = arg;
    peercache_node_t *node = c->node;
    c->in_callback = peercache_op_status(op);
    for (int verb = 0; verb < 4; verb++) {
        c->blocking[verb] = batch_do(&c->inner, node, (enum pc_verb)verb, PC_S);
    }
    c->ready = peercache_node_wait_ready(node, PC_S);
    c->cleared = peercache_node_clear(node, PC_S, NULL);
    (void)peercache_remove(node, c->other.items, c->other.n, &c->other.params,
                           &c->canceled);
    c->waiting = peercache_op_wait(c->canceled, PC_S);
    peercache_op_cancel(c->canceled);
    (void)peercache_get(node, c->inner.items, c->inner.n, &c->inner.params,
                        &c->next);
    peercache_op_free(op);
    /* release: the test reads the rest after it has seen the count. */
    (void)atomic_fetch_add_explicit(&c->n_calls, 1, memory_order_release);
}

static void a_callback_may_start_cancel_and_free_but_not_block(void **state)
{
    (void)state;
    struct callback c = {.inner = {0}};
    struct batch outer;
    peercache_op_t *op = NULL;
    c.node = host_node("%s", "");
    batch_init(&c.inner, 1, LEN);
    batch_init(&c.other, 1, LEN);
    batch_init(&outer, 1, LEN);
    batch_name(&c.inner, "outer", 0);
    batch_name(&c.other, "other", 0);
    batch_name(&outer, "outer", 0);
    batch_fill(&outer);
    assert_int_equal(batch_do(&outer, c.node, PC_VERB_PUT, PC_S), PEERCACHE_OK);
    outer.params.done = called;
    outer.params.arg = &c;
    assert_int_equal(peercache_get(c.node, outer.items, 1, &outer.params, &op),
                     PEERCACHE_IN_PROGRESS);
    WAIT_UNTIL(atomic_load_explicit(&c.n_calls, memory_order_acquire) == 1, 5);
    assert_int_equal(c.in_callback, PEERCACHE_OK);
    for (int verb = 0; verb < 4; verb++) {
        assert_int_equal(c.blocking[verb], PEERCACHE_INVALID);
    }
    assert_int_equal(c.ready, PEERCACHE_INVALID);
    assert_int_equal(c.cleared, PEERCACHE_INVALID);
    assert_int_equal(c.waiting, PEERCACHE_INVALID);
    assert_int_equal(peercache_op_wait(c.next, 5 * PC_S), PEERCACHE_OK);
    assert_true(value_is("outer0", c.inner.bytes, LEN));
    assert_int_equal(peercache_op_wait(c.canceled, 5 * PC_S),
                     PEERCACHE_PARTIAL);
    assert_int_equal(c.other.items[0].status, PEERCACHE_CANCELED);
    peercache_op_free(c.next);
    peercache_op_free(c.canceled);
    assert_int_equal(atomic_load(&c.n_calls), 1);
    peercache_node_destroy(c.node);
    batch_fini(&c.inner);
    batch_fini(&c.other);
    batch_fini(&outer);
}

/* ---- Operations --------------------------------------------------------- */

/* A callback that does not return holds the node's engine: what is started
 * meanwhile stays under way until it is released. */
struct hold
{
    struct batch batch;
    peercache_op_t *op;
    sem_t in, out;
};

static void hold_on(peercache_op_t *op, void *arg)
{
    struct hold *hold = arg;
    (void)op;
    (void)sem_post(&hold->in);
    (void)sem_wait(&hold->out);
}

static void engine_hold(struct hold *hold, peercache_node_t *node)
{
    hold->op = NULL;
    assert_int_equal(sem_init(&hold->in, 0, 0), 0);
    assert_int_equal(sem_init(&hold->out, 0, 0), 0);
    batch_init(&hold->batch, 1, LEN);
    batch_name(&hold->batch, "hold", 0);
    hold->batch.params.done = hold_on;
    hold->batch.params.arg = hold;
    assert_int_equal(peercache_exists(node, hold->batch.items, 1,
                                      &hold->batch.params, &hold->op),
                     PEERCACHE_IN_PROGRESS);
    assert_int_equal(sem_wait(&hold->in), 0);
}

static void engine_release(struct hold *hold)
{
    (void)sem_post(&hold->out);
    (void)peercache_op_wait(hold->op, UINT64_MAX);
    peercache_op_free(hold->op);
    (void)sem_destroy(&hold->in);
    (void)sem_destroy(&hold->out);
    batch_fini(&hold->batch);
}

static void count_call(peercache_op_t *op, void *arg)
{
    (void)op;
    (void)atomic_fetch_add_explicit((atomic_int *)arg, 1, memory_order_acq_rel);
}

static void begin_get(peercache_node_t *node, struct batch *batch,
                      const char *name, peercache_op_t **op_p,
                      atomic_int *n_calls)
{
    batch_init(batch, 1, LEN);
    batch_name(batch, name, 0);
    batch->params.timeout_ns = 30 * PC_S;
    if (n_calls != NULL) {
        batch->params.done = count_call;
        batch->params.arg = n_calls;
    }
    assert_int_equal(peercache_get(node, batch->items, 1, &batch->params, op_p),
                     PEERCACHE_IN_PROGRESS);
}

static void more_than_max_inflight_is_refused(void **state)
{
    (void)state;
    struct hold hold;
    struct batch second;
    struct batch more;
    peercache_op_t *ops[2] = {NULL, NULL};
    peercache_node_t *node = host_node("%s", "max_inflight=2");
    engine_hold(&hold, node);
    begin_get(node, &second, "second", &ops[0], NULL);
    batch_init(&more, 1, LEN);
    batch_name(&more, "more", 0);
    more.items[0].status = PEERCACHE_STALE;
    assert_int_equal(batch_do(&more, node, PC_VERB_PUT, PC_S), PEERCACHE_AGAIN);
    assert_int_equal(peercache_get(node, more.items, 1, &more.params, &ops[1]),
                     PEERCACHE_AGAIN);
    assert_null(ops[1]);
    assert_int_equal(more.items[0].status, PEERCACHE_STALE);
    engine_release(&hold);
    assert_int_equal(peercache_op_wait(ops[0], 5 * PC_S), PEERCACHE_PARTIAL);
    peercache_op_free(ops[0]);
    WAIT_UNTIL(batch_do(&more, node, PC_VERB_PUT, PC_S) == PEERCACHE_OK, 5);
    peercache_node_destroy(node);
    batch_fini(&second);
    batch_fini(&more);
}

static void an_operation_freed_while_it_runs_is_canceled(void **state)
{
    (void)state;
    struct hold hold;
    struct batch batch;
    peercache_op_t *op = NULL;
    atomic_int n_calls = 0;
    peercache_node_t *node = host_node("%s", "");
    engine_hold(&hold, node);
    begin_get(node, &batch, "absent", &op, &n_calls);
    assert_int_equal(peercache_op_wait(op, PC_MS), PEERCACHE_TIMED_OUT);
    assert_int_equal(peercache_op_status(op), PEERCACHE_IN_PROGRESS);
    peercache_op_free(op);
    assert_int_equal(atomic_load(&n_calls), 0);
    engine_release(&hold);
    WAIT_UNTIL(atomic_load_explicit(&n_calls, memory_order_acquire) == 1, 5);
    assert_int_equal(batch.items[0].status, PEERCACHE_CANCELED);
    peercache_node_destroy(node);
    batch_fini(&batch);
}

/* ---- Registered memory -------------------------------------------------- */

static void memory_registered_twice_counts_and_outlives_its_node(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    peercache_mem_t *mem[2] = {NULL, NULL};
    size_t n_wrong;
    pair_start(&pair, "ucx_tcp=lo", "ucx_tcp=lo read_mode=one-sided");
    (void)peer_tell(&pair.peer, "OK", "put reg 4 %zu", LEN);
    batch_init(&batch, 4, LEN);
    batch_name(&batch, "reg", 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(peercache_mem_register(pair.node, PEERCACHE_MEM_HOST,
                                                batch.bytes, 4 * LEN, &mem[i]),
                         PEERCACHE_OK);
    }
    assert_ptr_equal(mem[0], mem[1]);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 4; i++) {
            batch.items[i].mem = mem[0];
        }
        batch_poison(&batch, 0);
        assert_int_equal(batch_do(&batch, pair.node, PC_VERB_GET, 5 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 4);
        assert_int_equal(n_wrong, 0);
        assert_int_equal(batch.items[0].source, PEERCACHE_FROM_ONE_SIDED);
        if (round == 0) {
            peercache_mem_deregister(mem[0]);
        }
    }
    batch.pieces[0].len = 4 * LEN + 1; /* Beyond it. */
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_GET, PC_S),
                     PEERCACHE_INVALID);
    pair_end(&pair);
    peercache_mem_deregister(mem[1]);
    batch_fini(&batch);
}

/* ---- The end ------------------------------------------------------------ */

struct caller
{
    pthread_t thread;
    peercache_node_t *node;
    struct batch batch;
    peercache_status_t status;
};

static void *call_and_wait(void *arg)
{
    struct caller *caller = arg;
    caller->status =
        batch_do(&caller->batch, caller->node, PC_VERB_GET, 30 * PC_S);
    return NULL;
}

static void callers_start(struct caller *callers, size_t n,
                          peercache_node_t *node, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        callers[i].node = node;
        batch_init(&callers[i].batch, 1, LEN);
        batch_name(&callers[i].batch, name, 0);
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_and_wait,
                                        &callers[i]),
                         0);
    }
}

/* Begins to end the node, and returns when it no longer takes calls. */
struct ending
{
    pthread_t thread;
    peercache_node_t *node;
};

static void *end_node(void *arg)
{
    struct ending *ending = arg;
    peercache_node_destroy(ending->node);
    return NULL;
}

static void a_destroyed_node_ends_what_is_in_flight_as_shutdown(void **state)
{
    (void)state;
    struct hold hold;
    struct batch batches[8];
    struct caller callers[4];
    peercache_op_t *ops[8] = {NULL};
    atomic_int n_calls = 0;
    struct batch here;
    struct ending ending = {.node = host_node("%s", "max_inflight=13")};
    host_ready(ending.node);
    batch_init(&here, 1, LEN);
    batch_name(&here, "here", 0);
    assert_int_equal(batch_do(&here, ending.node, PC_VERB_PUT, PC_S),
                     PEERCACHE_OK);
    engine_hold(&hold, ending.node);
    for (int i = 0; i < 8; i++) {
        begin_get(ending.node, &batches[i], "absent", &ops[i], &n_calls);
    }
    callers_start(callers, 4, ending.node, "absent");
    /* A local get needs no engine: it is refused when all 13 are inside. */
    WAIT_UNTIL(
        batch_do(&here, ending.node, PC_VERB_GET, PC_S) == PEERCACHE_AGAIN, 5);
    assert_int_equal(pthread_create(&ending.thread, NULL, end_node, &ending),
                     0);
    WAIT_UNTIL(peercache_node_wait_ready(ending.node, 0) == PEERCACHE_SHUTDOWN,
               5);
    assert_int_equal(batch_do(&here, ending.node, PC_VERB_GET, PC_S),
                     PEERCACHE_SHUTDOWN);
    batch_fini(&here);
    uint64_t began = pc_clock_monotonic();
    engine_release(&hold);
    pthread_join(ending.thread, NULL);
    assert_true(pc_clock_monotonic() - began < 3 * PC_S + HOST_SLACK_NS);
    assert_int_equal(atomic_load(&n_calls), 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(peercache_op_wait(ops[i], 0), PEERCACHE_PARTIAL);
        assert_int_equal(peercache_op_status(ops[i]), PEERCACHE_PARTIAL);
        assert_int_equal(batches[i].items[0].status, PEERCACHE_SHUTDOWN);
        peercache_op_cancel(ops[i]);
        peercache_op_free(ops[i]);
        batch_fini(&batches[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].status, PEERCACHE_PARTIAL);
        assert_int_equal(callers[i].batch.items[0].status, PEERCACHE_SHUTDOWN);
        batch_fini(&callers[i].batch);
    }
}

/* Reads under way from an owner that does not answer hold nothing up. */
static void a_node_ends_while_its_reads_hang(void **state)
{
    (void)state;
    for (int m = 0; m < 3; m++) {
        struct pair pair;
        struct batch batches[8];
        peercache_op_t *ops[8] = {NULL};
        peercache_mem_t *mem = NULL;
        atomic_int n_calls = 0;
        char settings[64];
        (void)snprintf(settings, sizeof(settings), "ucx_tcp=lo read_mode=%s",
                       modes[m]);
        pair_start(&pair, "ucx_tcp=lo", settings);
        (void)peer_tell(&pair.peer, "OK", "put hang 1 %zu", LEN);
        struct batch first;
        batch_init(&first, 1, LEN);
        batch_name(&first, "hang", 0);
        assert_int_equal(batch_do(&first, pair.node, PC_VERB_GET, 5 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(peercache_mem_register(pair.node, PEERCACHE_MEM_HOST,
                                                first.bytes, LEN, &mem),
                         PEERCACHE_OK);
        peer_signal(&pair.peer, SIGSTOP);
        for (int i = 0; i < 8; i++) {
            begin_get(pair.node, &batches[i], "hang", &ops[i], &n_calls);
        }
        first.items[0].mem = mem;
        uint64_t began = pc_clock_monotonic();
        peercache_op_t *direct = NULL;
        first.params.timeout_ns = 30 * PC_S;
        assert_int_equal(
            peercache_get(pair.node, first.items, 1, &first.params, &direct),
            PEERCACHE_IN_PROGRESS);
        peercache_node_destroy(pair.node);
        assert_true(pc_clock_monotonic() - began < 3 * PC_S + HOST_SLACK_NS);
        assert_int_equal(atomic_load(&n_calls), 8);
        for (int i = 0; i < 8; i++) {
            assert_int_not_equal(peercache_op_status(ops[i]),
                                 PEERCACHE_IN_PROGRESS);
            peercache_op_free(ops[i]);
            batch_poison(&batches[i], 0x5A);
        }
        assert_int_not_equal(peercache_op_status(direct),
                             PEERCACHE_IN_PROGRESS);
        peercache_op_free(direct);
        batch_poison(&first, 0x5A);
        peercache_mem_deregister(mem);
        peer_signal(&pair.peer, SIGCONT);
        (void)peer_tell(&pair.peer, "OK 1 0", "get hang 1 %zu", LEN);
        peer_end(&pair.peer);
        for (int i = 0; i < 8; i++) {
            assert_true(batch_is_poison(&batches[i], 0x5A));
            batch_fini(&batches[i]);
        }
        assert_true(batch_is_poison(&first, 0x5A));
        batch_fini(&first);
    }
}

/* ---- Forks -------------------------------------------------------------- */

/* The number of the first call that does not say FORKED. */
static int calls_in_a_child(peercache_node_t *node, peercache_op_t *running,
                            peercache_mem_t *mem)
{
    struct batch batch;
    peercache_op_t *op = NULL;
    peercache_mem_t *other = NULL;
    char *text = NULL;
    batch_init(&batch, 1, LEN);
    batch_name(&batch, "forked", 0);
    for (int verb = PC_VERB_PUT; verb <= PC_VERB_REMOVE; verb++) {
        if (batch_do(&batch, node, (enum pc_verb)verb, PC_S) !=
            PEERCACHE_FORKED) {
            return 1 + verb;
        }
    }
    if (peercache_get(node, batch.items, 1, &batch.params, &op) !=
            PEERCACHE_FORKED ||
        op != NULL) {
        return 10;
    }
    if (peercache_node_wait_ready(node, PC_S) != PEERCACHE_FORKED) {
        return 11;
    }
    if (peercache_node_clear(node, PC_S, NULL) != PEERCACHE_FORKED) {
        return 16;
    }
    if (peercache_mem_register(node, PEERCACHE_MEM_HOST, batch.bytes, LEN,
                               &other) != PEERCACHE_FORKED) {
        return 12;
    }
    if (peercache_node_metrics(node, &text) != PEERCACHE_FORKED) {
        return 13;
    }
    if (peercache_node_info(node, &text) != PEERCACHE_FORKED) {
        return 14;
    }
    if (peercache_op_wait(running, PC_S) != PEERCACHE_FORKED) {
        return 15;
    }
    peercache_op_cancel(running);
    peercache_op_free(running);
    peercache_mem_deregister(mem);
    peercache_node_destroy(node);
    batch_fini(&batch);
    return 0;
}

static void a_forked_child_is_refused_and_its_parent_goes_on(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    struct batch running;
    struct hold hold;
    peercache_mem_t *mem = NULL;
    peercache_op_t *op = NULL;
    size_t n_wrong;
    int status;
    /* While a callback holds our engine, we look dead to others. */
    pair_start(&pair, "ucx_tcp=lo member_ttl=60", "ucx_tcp=lo member_ttl=60");
    (void)peer_tell(&pair.peer, "OK", "put forked 4 %zu", LEN);
    batch_init(&batch, 4, LEN);
    batch_name(&batch, "forked", 0);
    assert_int_equal(peercache_mem_register(pair.node, PEERCACHE_MEM_HOST,
                                            batch.bytes, 4 * LEN, &mem),
                     PEERCACHE_OK);
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    engine_hold(&hold, pair.node);
    begin_get(pair.node, &running, "forked", &op, NULL);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        host_is_child();
        int bad = calls_in_a_child(pair.node, op, mem);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        _exit(bad); /* They would report what our threads have left. */
#else
        exit(bad); /* With all exit functions, UCX's too. */
#endif
    }
    uint64_t until = pc_clock_monotonic() + 10 * PC_S;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (pc_clock_monotonic() > until) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            fail_msg("the child hangs");
        }
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(status, 0);
    engine_release(&hold);
    assert_int_equal(peercache_op_wait(op, 10 * PC_S), PEERCACHE_OK);
    peercache_op_free(op);
    batch_poison(&batch, 0);
    WAIT_UNTIL(batch_do(&batch, pair.node, PC_VERB_GET, PC_S) == PEERCACHE_OK,
               10);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 4);
    assert_int_equal(n_wrong, 0);
    (void)peer_tell(&pair.peer, "OK 4 0", "get forked 4 %zu", LEN);
    peercache_mem_deregister(mem);
    pair_end(&pair);
    batch_fini(&batch);
    batch_fini(&running);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, NULL);
    }
    host_log_keep();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_a_wrong_length_are_invalid_and_set_no_status),
        cmocka_unit_test(calls_that_make_no_sense_are_invalid),
        cmocka_unit_test(
            puts_of_a_node_without_a_pool_are_refused_with_one_warning),
        cmocka_unit_test(a_get_of_another_length_leaves_the_buffer_untouched),
        cmocka_unit_test(a_value_larger_than_a_region_is_too_large),
        cmocka_unit_test(the_same_key_many_times_in_a_batch_is_normal),
        cmocka_unit_test(a_batch_larger_than_the_pool_is_normal),
        cmocka_unit_test(a_batch_of_more_tiny_values_than_slots_is_normal),
        cmocka_unit_test(a_clear_under_traffic_drops_whole_values_only),
        cmocka_unit_test(a_large_batch_takes_no_longer_than_its_deadline),
        cmocka_unit_test(a_callback_may_start_cancel_and_free_but_not_block),
        cmocka_unit_test(more_than_max_inflight_is_refused),
        cmocka_unit_test(an_operation_freed_while_it_runs_is_canceled),
        cmocka_unit_test(memory_registered_twice_counts_and_outlives_its_node),
        cmocka_unit_test(a_destroyed_node_ends_what_is_in_flight_as_shutdown),
        cmocka_unit_test(a_node_ends_while_its_reads_hang),
        cmocka_unit_test(a_forked_child_is_refused_and_its_parent_goes_on),
    };
    return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
