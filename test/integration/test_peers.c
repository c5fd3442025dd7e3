/*
 * A peer that is killed or stopped while others read from it, in each read
 * mode: every call ends by its deadline, what it calls OK is right, and nobody
 * writes to its buffers afterwards.
 */
#include "host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define N_KEYS     16
#define LEN        (256 * KIB)
#define TIMEOUT_NS (400 * PC_MS)
#define POISON     0x5A
#define N_BUFFERS  3

/* A reader in a thread of its own: gets all keys over and over, into one
 * buffer after the other. An ended call's buffer is poisoned and must still be
 * so when its turn comes again. */
struct reader
{
    pthread_t thread;
    peercache_node_t *node;
    peercache_mem_t *mem[N_BUFFERS];
    struct batch batches[N_BUFFERS];
    atomic_bool stop;
    atomic_uint n_calls, n_whole, n_wrong, n_late, n_touched, n_strange;
    atomic_uint n_by_source[PEERCACHE_FROM_DISK + 1];
    atomic_ullong longest_ns;
};

static void add(atomic_uint *count, unsigned n)
{
    /* relaxed: counts on their own. */
    (void)atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

static void read_once(struct reader *reader, struct batch *batch)
{
    size_t n_wrong;
    add(&reader->n_touched, !batch_is_poison(batch, POISON));
    uint64_t began = pc_clock_monotonic();
    (void)batch_do(batch, reader->node, PC_VERB_GET, TIMEOUT_NS);
    uint64_t took = pc_clock_monotonic() - began;
    add(&reader->n_whole, batch_count_ok(batch, &n_wrong) == batch->n);
    add(&reader->n_wrong, (unsigned)n_wrong);
    add(&reader->n_late, took > TIMEOUT_NS + HOST_SLACK_NS);
    if (took > atomic_load(&reader->longest_ns)) {
        atomic_store(&reader->longest_ns, took);
    }
    for (size_t i = 0; i < batch->n; i++) {
        peercache_status_t status = batch->items[i].status;
        if (status == PEERCACHE_OK) {
            add(&reader->n_by_source[batch->items[i].source], 1);
        } else {
            add(&reader->n_strange,
                status != PEERCACHE_NOT_FOUND && status != PEERCACHE_TIMED_OUT);
        }
    }
    batch_poison(batch, POISON);
    add(&reader->n_calls, 1);
}

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    for (size_t i = 0; !atomic_load(&reader->stop); i++) {
        read_once(reader, &reader->batches[i % N_BUFFERS]);
    }
    return NULL;
}

static void reader_start(struct reader *reader, peercache_node_t *node,
                         bool registered)
{
    memset(reader, 0, sizeof(*reader));
    reader->node = node;
    for (int b = 0; b < N_BUFFERS; b++) {
        struct batch *batch = &reader->batches[b];
        batch_init(batch, N_KEYS, LEN);
        batch_name(batch, "page", 0);
        batch_poison(batch, POISON);
        if (registered) {
            assert_int_equal(peercache_mem_register(node, PEERCACHE_MEM_HOST,
                                                    batch->bytes, N_KEYS * LEN,
                                                    &reader->mem[b]),
                             PEERCACHE_OK);
        }
        for (size_t i = 0; i < batch->n; i++) {
            batch->items[i].mem = reader->mem[b];
        }
    }
    assert_int_equal(pthread_create(&reader->thread, NULL, read_on, reader), 0);
}

/* Until so many more calls have ended. */
static void reader_calls(struct reader *reader, unsigned n)
{
    unsigned until = atomic_load(&reader->n_calls) + n;
    WAIT_UNTIL(atomic_load(&reader->n_calls) >= until, 20);
}

/* Until so many more calls have got everything. */
static void reader_wholes(struct reader *reader, unsigned n)
{
    unsigned until = atomic_load(&reader->n_whole) + n;
    WAIT_UNTIL(atomic_load(&reader->n_whole) >= until, 20);
}

static void reader_end(struct reader *reader)
{
    atomic_store(&reader->stop, true);
    pthread_join(reader->thread, NULL);
    assert_int_equal(atomic_load(&reader->n_wrong), 0);
    assert_int_equal(atomic_load(&reader->n_strange), 0);
    assert_int_equal(atomic_load(&reader->n_touched), 0);
    if (atomic_load(&reader->n_late) > 0) {
        fail_msg("%u of %u calls were late, the longest took %llu ms",
                 atomic_load(&reader->n_late), atomic_load(&reader->n_calls),
                 (unsigned long long)(reader->longest_ns / PC_MS));
    }
    for (int b = 0; b < N_BUFFERS; b++) {
        assert_true(batch_is_poison(&reader->batches[b], POISON));
        peercache_mem_deregister(reader->mem[b]);
        batch_fini(&reader->batches[b]);
    }
}

struct ground
{
    const char *mode;
    bool registered;
    peercache_source_t source;
};

static struct ground grounds[] = {
    {"mapped", false, PEERCACHE_FROM_MAPPED},
    {"one-sided", true, PEERCACHE_FROM_ONE_SIDED},
    {"one-sided", false, PEERCACHE_FROM_ONE_SIDED},
    {"served", false, PEERCACHE_FROM_SERVED},
    {"auto", false, PEERCACHE_FROM_MAPPED},
};

static void owner_start(struct peer *peer, uint16_t port)
{
    peer_start(peer);
    (void)peer_tell(peer, "ok", "start ucx_tcp=lo discovery_addr=127.0.0.1:%u",
                    port);
    (void)peer_tell(peer, "OK", "ready");
    (void)peer_tell(peer, "OK", "put page %d %zu", N_KEYS, LEN);
}

static peercache_node_t *reading_node(const struct ground *ground,
                                      uint16_t port)
{
    return host_node("ucx_tcp=lo discovery_addr=127.0.0.1:%u read_mode=%s",
                     port, ground->mode);
}

static void a_killed_owner_leaves_every_call_in_time_and_right(void **state)
{
    struct ground *ground = *state;
    struct peer owner;
    struct peer heir;
    struct reader reader;
    uint16_t port = host_port();
    peercache_node_t *node = reading_node(ground, port);
    host_ready(node);
    owner_start(&owner, port);
    reader_start(&reader, node, ground->registered);
    reader_wholes(&reader, 5);
    assert_true(atomic_load(&reader.n_by_source[ground->source]) > 0);
    peer_kill(&owner);
    reader_calls(&reader, 3);
    owner_start(&heir, port); /* The same values come back elsewhere. */
    reader_wholes(&reader, 3);
    peer_kill(&heir);
    reader_calls(&reader, 2);
    reader_end(&reader);
    peercache_node_destroy(node);
}

static void a_stopped_owner_leaves_every_call_in_time_and_comes_back(
    void **state)
{
    struct ground *ground = *state;
    struct peer owner;
    struct reader reader;
    uint16_t port = host_port();
    peercache_node_t *node = reading_node(ground, port);
    host_ready(node);
    owner_start(&owner, port);
    reader_start(&reader, node, ground->registered);
    reader_wholes(&reader, 5);
    for (int round = 0; round < 2; round++) {
        peer_signal(&owner, SIGSTOP);
        reader_calls(&reader, 3);
        if (round == 1) { /* So long that it counts as dead. */
            WAIT_UNTIL(host_metric(node, "members") == 1, 20);
        }
        peer_signal(&owner, SIGCONT);
        reader_wholes(&reader, 3);
    }
    reader_end(&reader);
    (void)peer_tell(&owner, "OK", "get page %d %zu", N_KEYS, LEN);
    peer_end(&owner);
    peercache_node_destroy(node);
}

/* The reader is killed in the middle: its owner does not mind. */
static void a_killed_reader_leaves_its_owner_well(void **state)
{
    struct ground *ground = *state;
    struct peer reader;
    struct batch batch;
    uint16_t port = host_port();
    peercache_node_t *node =
        host_node("ucx_tcp=lo discovery_addr=127.0.0.1:%u", port);
    host_ready(node);
    batch_init(&batch, N_KEYS, LEN);
    batch_name(&batch, "page", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 5 * PC_S),
                     PEERCACHE_OK);
    for (int round = 0; round < 2; round++) {
        peer_start(&reader);
        (void)peer_tell(&reader, "ok",
                        "start ucx_tcp=lo discovery_addr=127.0.0.1:%u "
                        "read_mode=%s",
                        port, ground->mode);
        (void)peer_tell(&reader, "OK", "ready");
        (void)peer_tell(&reader, "OK 16 0", "get page %d %zu", N_KEYS, LEN);
        for (int i = 0; i < 20; i++) {
            peer_say(&reader, "get page %d %zu", N_KEYS, LEN);
        }
        (void)peer_hear(&reader, "OK 16 0");
        peer_kill(&reader);
        WAIT_UNTIL(host_metric(node, "pool_pins") == 0, 10);
        batch_poison(&batch, 0);
        assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                         PEERCACHE_OK);
    }
    batch_fini(&batch);
    peercache_node_destroy(node);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, NULL);
    }
    host_log_keep();
    int failed = 0;
    for (size_t g = 0; g < sizeof(grounds) / sizeof(grounds[0]); g++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s%s", grounds[g].mode,
                       grounds[g].registered ? ", registered" : "");
#define CASE(name)                                                             \
    {                                                                          \
#name, name, NULL, NULL, &grounds[g]                                   \
    }
        const struct CMUnitTest tests[] = {
            CASE(a_killed_owner_leaves_every_call_in_time_and_right),
            CASE(a_stopped_owner_leaves_every_call_in_time_and_comes_back),
            CASE(a_killed_reader_leaves_its_owner_well),
        };
#undef CASE
        failed += cmocka_run_group_tests_name(name, tests, NULL, NULL);
    }
    return failed;
}
