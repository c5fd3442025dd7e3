/*
 * Everything at once: threads of blocking verbs and asynchronous batches, on
 * two nodes whose pools are too small for what is put, in two processes and in
 * one. Every byte that a get calls OK is verified: a value is a function of its
 * key.
 */
#include "host.h"

#include "base/rand.h"

#include <pthread.h>
#include <stdatomic.h>

#define N_THREADS  4
#define N_KEYS     192
#define BATCH_MAX  8
#define N_LENGTHS  3
#define TIMEOUT_NS (2 * PC_S)

static const size_t lengths[N_LENGTHS] = {4 * KIB, 20 * KIB, 100 * KIB};

struct totals
{
    atomic_uint n_calls, n_gets_ok, n_gets, n_puts_ok, n_puts;
    atomic_uint n_wrong, n_strange, n_late, n_refused;
};

struct worker
{
    pthread_t thread;
    peercache_node_t *node;
    struct totals *totals;
    struct pc_rand random;
    uint64_t end_ns;
    bool asynchronous;
};

static void add(atomic_uint *count, size_t n)
{
    /* relaxed: counts on their own. */
    (void)atomic_fetch_add_explicit(count, (unsigned)n, memory_order_relaxed);
}

static bool is_expected(enum pc_verb verb, peercache_status_t status)
{
    switch (status) {
    case PEERCACHE_OK:
    case PEERCACHE_TIMED_OUT:
    case PEERCACHE_CANCELED:
        return true;
    case PEERCACHE_NOT_FOUND:
        return verb != PC_VERB_PUT;
    case PEERCACHE_NO_SPACE:
        return verb == PC_VERB_PUT;
    case PEERCACHE_UNREACHABLE:
        return verb == PC_VERB_REMOVE;
    default:
        return false;
    }
}

/* Keys in a row from a random one on; their length is part of the name. */
static void prepare(struct worker *worker, struct batch *batch)
{
    size_t length = pc_rand_below(&worker->random, N_LENGTHS);
    char prefix[16];
    batch_init(batch, 1 + pc_rand_below(&worker->random, BATCH_MAX),
               lengths[length]);
    (void)snprintf(prefix, sizeof(prefix), "%zu-", length);
    batch_name(batch, prefix, pc_rand_below(&worker->random, N_KEYS));
    batch->params.timeout_ns = TIMEOUT_NS;
}

static enum pc_verb pick(struct worker *worker)
{
    uint64_t dice = pc_rand_below(&worker->random, 100);
    return dice < 35   ? PC_VERB_PUT
           : dice < 85 ? PC_VERB_GET
           : dice < 95 ? PC_VERB_EXISTS
                       : PC_VERB_REMOVE;
}

static void judge(struct worker *worker, enum pc_verb verb,
                  const struct batch *batch)
{
    struct totals *totals = worker->totals;
    size_t n_wrong = 0;
    size_t n_ok = verb == PC_VERB_GET ? batch_count_ok(batch, &n_wrong) : 0;
    for (size_t i = 0; i < batch->n; i++) {
        peercache_status_t status = batch->items[i].status;
        add(&totals->n_strange, !is_expected(verb, status));
        add(&totals->n_puts_ok, verb == PC_VERB_PUT && status == PEERCACHE_OK);
    }
    add(&totals->n_puts, verb == PC_VERB_PUT ? batch->n : 0);
    add(&totals->n_gets, verb == PC_VERB_GET ? batch->n : 0);
    add(&totals->n_gets_ok, n_ok);
    add(&totals->n_wrong, n_wrong);
    add(&totals->n_calls, 1);
}

static void block(struct worker *worker)
{
    struct batch batch;
    enum pc_verb verb = pick(worker);
    prepare(worker, &batch);
    if (verb == PC_VERB_PUT) {
        batch_fill(&batch);
    }
    uint64_t began = pc_clock_monotonic();
    (void)batch_do(&batch, worker->node, verb, TIMEOUT_NS);
    uint64_t took = pc_clock_monotonic() - began;
    add(&worker->totals->n_late, took > TIMEOUT_NS + 4 * HOST_SLACK_NS);
    judge(worker, verb, &batch);
    batch_fini(&batch);
}

static void count_done(peercache_op_t *op, void *arg)
{
    (void)op;
    (void)atomic_fetch_add_explicit((atomic_uint *)arg, 1,
                                    memory_order_acq_rel);
}

static bool begin(struct worker *worker, enum pc_verb verb, struct batch *batch,
                  peercache_op_t **op_p)
{
    peercache_status_t status =
        verb == PC_VERB_PUT ? peercache_put(worker->node, batch->items,
                                            batch->n, &batch->params, op_p)
                            : peercache_get(worker->node, batch->items,
                                            batch->n, &batch->params, op_p);
    return status == PEERCACHE_IN_PROGRESS;
}

/* Some operations side by side; some have a callback, some are canceled. */
static void overlap(struct worker *worker)
{
    struct batch batches[4];
    peercache_op_t *ops[4] = {NULL};
    enum pc_verb verbs[4];
    atomic_uint n_done = 0;
    unsigned n_wanted = 0;
    for (int i = 0; i < 4; i++) {
        verbs[i] =
            pc_rand_below(&worker->random, 3) == 0 ? PC_VERB_PUT : PC_VERB_GET;
        prepare(worker, &batches[i]);
        if (verbs[i] == PC_VERB_PUT) {
            batch_fill(&batches[i]);
        }
        bool told = pc_rand_below(&worker->random, 2) == 0;
        if (told) {
            batches[i].params.done = count_done;
            batches[i].params.arg = &n_done;
        }
        if (!begin(worker, verbs[i], &batches[i], &ops[i])) {
            add(&worker->totals->n_refused, 1);
            ops[i] = NULL;
            continue;
        }
        n_wanted += told;
        if (pc_rand_below(&worker->random, 8) == 0) {
            peercache_op_cancel(ops[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        if (ops[i] != NULL) {
            if (peercache_op_wait(ops[i], TIMEOUT_NS + 4 * HOST_SLACK_NS) ==
                PEERCACHE_TIMED_OUT) {
                add(&worker->totals->n_late, 1);
                (void)peercache_op_wait(ops[i], UINT64_MAX);
            }
            judge(worker, verbs[i], &batches[i]);
            peercache_op_free(ops[i]);
        }
        batch_fini(&batches[i]);
    }
    /* Ended and told are one: whoever waited sees the call made. */
    add(&worker->totals->n_strange,
        atomic_load_explicit(&n_done, memory_order_acquire) != n_wanted);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    while (pc_clock_monotonic() < worker->end_ns) {
        if (worker->asynchronous) {
            overlap(worker);
        } else {
            block(worker);
        }
    }
    return NULL;
}

static void traffic_begin(struct worker workers[N_THREADS],
                          peercache_node_t *node, struct totals *totals,
                          uint64_t seed, uint64_t seconds)
{
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] =
            (struct worker){.node = node,
                            .totals = totals,
                            .end_ns = pc_clock_monotonic() + seconds * PC_S,
                            .asynchronous = i == N_THREADS - 1};
        pc_rand_init(&workers[i].random, seed * N_THREADS + i);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            abort();
        }
    }
}

static void traffic_end(struct worker workers[N_THREADS])
{
    for (unsigned i = 0; i < N_THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
}

static void check(const struct totals *totals)
{
    print_message("%u calls, gets %u of %u, puts %u of %u\n", totals->n_calls,
                  totals->n_gets_ok, totals->n_gets, totals->n_puts_ok,
                  totals->n_puts);
    assert_int_equal(totals->n_wrong, 0);
    assert_int_equal(totals->n_strange, 0);
    assert_int_equal(totals->n_late, 0);
    assert_int_equal(totals->n_refused, 0);
    assert_true(totals->n_gets_ok > 0 && totals->n_puts_ok > 0);
}

/* I9: nothing stays behind when all is quiet. */
static void is_at_rest(peercache_node_t *node)
{
    static const char *const gauges[] = {"operations_in_flight", "pool_pins",
                                         "pool_reservations", "bounce_bytes",
                                         "publish_queue_entries"};
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
        uint64_t until = pc_clock_monotonic() + 10 * PC_S;
        uint64_t value;
        while ((value = host_metric(node, gauges[i])) > 0) {
            if (pc_clock_monotonic() > until) {
                host_log_show();
                fail_msg("%s stays at %llu", gauges[i],
                         (unsigned long long)value);
            }
            (void)poll(NULL, 0, 1);
        }
    }
}

/* "traffic <seed> <seconds>" */
static bool traffic_command(peercache_node_t *node, char *line, char *out,
                            size_t out_len)
{
    unsigned seed;
    unsigned seconds;
    struct worker workers[N_THREADS];
    static struct totals totals;
    if (sscanf(line, "traffic %u %u", &seed, &seconds) != 2) {
        return false;
    }
    traffic_begin(workers, node, &totals, seed, seconds);
    traffic_end(workers);
    (void)snprintf(out, out_len, "traffic %s wrong %u strange %u late %u",
                   totals.n_gets_ok > 0 ? "found" : "lost", totals.n_wrong,
                   totals.n_strange, totals.n_late);
    return true;
}

#define SMALL "global_segment_size=6MiB region_size=3MiB ucx_tcp=lo"

static void two_processes_of_threads_read_only_right_bytes(void **state)
{
    const char *mode = *state;
    struct peer peer;
    struct worker workers[N_THREADS];
    struct totals totals = {0};
    uint16_t port = host_port();
    peer_start(&peer);
    (void)peer_tell(&peer, "ok",
                    "start discovery_addr=127.0.0.1:%u " SMALL " read_mode=%s",
                    port, mode);
    (void)peer_tell(&peer, "OK", "ready");
    peercache_node_t *node = host_node(
        "discovery_addr=127.0.0.1:%u " SMALL " read_mode=%s", port, mode);
    host_ready(node);
    peer_say(&peer, "traffic 1 4");
    traffic_begin(workers, node, &totals, 2, 4);
    traffic_end(workers);
    (void)peer_hear(&peer, "traffic found wrong 0 strange 0 late 0");
    check(&totals);
    assert_true(host_metric(node, "evictions_total") > 0);
    assert_true(host_metric(node, "read_remote_hits_total") > 0);
    is_at_rest(node);
    peer_end(&peer);
    peercache_node_destroy(node);
}

/* The same in one process, where a sanitizer sees both ends. */
static void two_nodes_in_one_process_read_only_right_bytes(void **state)
{
    const char *mode = *state;
    peercache_node_t *nodes[2];
    struct worker workers[2][N_THREADS];
    struct totals totals = {0};
    uint16_t port = host_port();
    for (int i = 0; i < 2; i++) {
        nodes[i] = host_node(
            "discovery_addr=127.0.0.1:%u " SMALL " read_mode=%s", port, mode);
        host_ready(nodes[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        traffic_begin(workers[i], nodes[i], &totals, 3 + i, 3);
    }
    for (int i = 0; i < 2; i++) {
        traffic_end(workers[i]);
    }
    check(&totals);
    for (int i = 0; i < 2; i++) {
        assert_true(host_metric(nodes[i], "read_remote_hits_total") > 0);
        is_at_rest(nodes[i]);
    }
    peercache_node_destroy(nodes[0]);
    peercache_node_destroy(nodes[1]);
}

int main(int argc, char **argv)
{
    static char modes[][16] = {"auto", "one-sided", "served"};
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, traffic_command);
    }
    host_log_keep();
    int failed = 0;
    for (int m = 0; m < 3; m++) {
#define CASE(name)                                                             \
    {                                                                          \
#name, name, NULL, NULL, modes[m]                                      \
    }
        const struct CMUnitTest tests[] = {
            CASE(two_processes_of_threads_read_only_right_bytes),
            CASE(two_nodes_in_one_process_read_only_right_bytes),
        };
#undef CASE
        failed += cmocka_run_group_tests_name(modes[m], tests, NULL, NULL);
    }
    return failed;
}
