/*
 * The same tests over every carrier of bytes, so that what differs between them
 * shows: verbs (RDMA), tcp (UCX's, one-sided) and shm (mapped). The variable
 * PC_TEST_CARRIER names it; ci/rdma runs all of them in a guest with a software
 * RDMA device, ctest the last two. PC_TEST_OTHER_UCX is a folder with another
 * version of UCX for the tests of unlike peers.
 */
#include "host.h"

#include "base/rand.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define PAGE      (16 * KIB)
#define POISON    0xEE
#define N_BATCH   64
#define N_PAGES   10000
#define QUIET_MS  300 /* How long memory is watched that nobody may touch. */
#define FLOOD_MAX 1000

/* ---- Carriers ----------------------------------------------------------- */

struct carrier
{
    const char *name;
    const char *settings;
    peercache_source_t source;
    bool needs_owner; /* A stopped owner's memory cannot be read. */
};

static const struct carrier carriers[] = {
    {"verbs", "protocol=rdma read_mode=one-sided", PEERCACHE_FROM_ONE_SIDED,
     false},
    {"tcp", "protocol=tcp ucx_tcp=lo read_mode=one-sided",
     PEERCACHE_FROM_ONE_SIDED, true},
    {"shm", "protocol=tcp read_mode=mapped", PEERCACHE_FROM_MAPPED, false},
};

static const struct carrier *carrier;

static bool is_verbs(void)
{
    return strcmp(carrier->name, "verbs") == 0;
}

/* An owner in another process and a reader here, both members. */
struct pair
{
    struct peer owner;
    peercache_node_t *node;
    uint16_t port;
};

static void pair_open(struct pair *pair, const char *both, const char *theirs,
                      const char *ours)
{
    pair->port = host_port();
    peer_start(&pair->owner);
    (void)peer_tell(&pair->owner, "ok",
                    "start discovery_addr=127.0.0.1:%u node_id=owner %s %s",
                    pair->port, both, theirs);
    (void)peer_tell(&pair->owner, "OK", "ready");
    pair->node = host_node("discovery_addr=127.0.0.1:%u node_id=reader %s %s",
                           pair->port, both, ours);
    host_ready(pair->node);
}

/* Deaths are not to be known before their gets notice them. */
#define SLOW "heartbeat_interval=2 member_ttl=20"

static void pair_start(struct pair *pair, const char *theirs)
{
    char both[256];
    (void)snprintf(both, sizeof(both), "%s %s", SLOW, carrier->settings);
    pair_open(pair, both, theirs, "");
}

static void pair_end(struct pair *pair)
{
    peercache_node_destroy(pair->node);
    peer_end(&pair->owner);
}

/* Looks until all of the batch is OK and by the expected way: the first look
 * also finds places and opens the way. */
static void read_all(struct pair *pair, struct batch *batch,
                     peercache_source_t source)
{
    size_t n_wrong = 0;
    uint64_t until = pc_clock_monotonic() + 20 * PC_S;
    bool done = false;
    while (!done) {
        if (pc_clock_monotonic() > until) {
            fail_msg("not all pages can be read by %s", carrier->name);
        }
        batch_poison(batch, POISON);
        (void)batch_do(batch, pair->node, PC_VERB_GET, 5 * PC_S);
        done = batch_count_ok(batch, &n_wrong) == batch->n;
        assert_int_equal(n_wrong, 0);
        for (size_t i = 0; i < batch->n; i++) {
            done = done && batch->items[i].source == source;
        }
    }
}

/* Nobody writes there any more. */
static void assert_left_alone(struct batch *batch)
{
    batch_poison(batch, POISON);
    (void)poll(NULL, 0, QUIET_MS);
    assert_true(batch_is_poison(batch, POISON));
}

static double ms_since(uint64_t began)
{
    return (double)(pc_clock_monotonic() - began) / (double)PC_MS;
}

/* ---- What an owner does on top ------------------------------------------ */

static void flood(peercache_node_t *node, unsigned n_rounds)
{
    struct batch batch;
    batch_init(&batch, N_BATCH, PAGE);
    for (unsigned round = 0; round < n_rounds; round++) {
        batch_name(&batch, "page", (round % 8) * N_BATCH);
        batch_fill(&batch);
        (void)batch_do(&batch, node, PC_VERB_PUT, 5 * PC_S);
    }
    batch_fini(&batch);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0
               ? (uint64_t)now.tv_sec * PC_S + (uint64_t)now.tv_nsec
               : 0;
}

static bool owner_command(peercache_node_t *node, char *line, char *out,
                          size_t out_len)
{
    unsigned n_rounds;
    if (sscanf(line, "flood %u", &n_rounds) == 1 && n_rounds <= FLOOD_MAX) {
        flood(node, n_rounds);
        (void)snprintf(out, out_len, "ok");
        return true;
    }
    if (strcmp(line, "cpu") == 0) {
        (void)snprintf(out, out_len, "%llu", (unsigned long long)cpu_ns());
        return true;
    }
    return false;
}

/* ---- Reading ------------------------------------------------------------ */

/* The owner's pool holds half of the keys, and it puts them all over and over:
 * places are given up and filled again under the reads. */
static void ten_thousand_pages_are_right_while_their_owner_evicts(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    struct pc_rand random;
    size_t n_ok = 0;
    size_t n_lost = 0;
    bool flooding = true;
    pair_start(&pair, "global_segment_size=4MiB region_size=4MiB");
    pc_rand_init(&random, 1);
    batch_init(&batch, N_BATCH, PAGE);
    (void)peer_tell(&pair.owner, "ok", "flood 8");
    peer_say(&pair.owner, "flood %u", is_verbs() ? 40u : 150u);
    uint64_t began = pc_clock_monotonic();
    while (n_ok < N_PAGES || flooding) {
        size_t n_wrong = 0;
        batch_name(&batch, "page",
                   pc_rand_below(&random, 8 * N_BATCH - batch.n + 1));
        batch_poison(&batch, POISON);
        (void)batch_do(&batch, pair.node, PC_VERB_GET, 5 * PC_S);
        size_t n = batch_count_ok(&batch, &n_wrong);
        assert_int_equal(n_wrong, 0);
        for (size_t i = 0; i < batch.n; i++) {
            assert_true(batch.items[i].status != PEERCACHE_OK ||
                        batch.items[i].source == carrier->source);
        }
        n_ok += n;
        n_lost += batch.n - n;
        if (flooding && poll(&(struct pollfd){.fd = fileno(pair.owner.from),
                                              .events = POLLIN},
                             1, 0) > 0) {
            (void)peer_hear(&pair.owner, "ok");
            flooding = false;
        }
        assert_true(pc_clock_monotonic() - began < 100 * PC_S);
    }
    print_message("%s: %zu pages right, 0 wrong, %zu were not there; %.0f ms\n",
                  carrier->name, n_ok, n_lost, ms_since(began));
    assert_true(n_lost > 0);
    pair_end(&pair);
    batch_fini(&batch);
}

/* Registered memory, two pieces a page as K and V lie, keys of a prefix;
 * exists, then get, as SGLang's HiCache calls it with its version 1 interface.
 */
static void pages_move_as_sglang_moves_them(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    peercache_mem_t *mem = NULL;
    peercache_piece_t halves[2 * N_BATCH];
    pair_start(&pair, "");
    batch_init(&batch, N_BATCH, PAGE);
    batch_name(&batch, "prefix", 0);
    assert_int_equal(peercache_mem_register(pair.node, PEERCACHE_MEM_HOST,
                                            batch.bytes, N_BATCH * PAGE, &mem),
                     PEERCACHE_OK);
    (void)peer_tell(&pair.owner, "OK", "put prefix %d %zu", N_BATCH / 2, PAGE);
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_EXISTS, 5 * PC_S),
                     PEERCACHE_PARTIAL);
    for (size_t i = 0; i < N_BATCH; i++) {
        assert_int_equal(batch.items[i].status,
                         i < N_BATCH / 2 ? PEERCACHE_OK : PEERCACHE_NOT_FOUND);
        halves[2 * i] = (peercache_piece_t){batch.pieces[i].addr, PAGE / 2};
        halves[2 * i + 1] = (peercache_piece_t){
            (char *)batch.pieces[i].addr + PAGE / 2, PAGE / 2};
        batch.items[i].pieces = &halves[2 * i];
        batch.items[i].n_pieces = 2;
        batch.items[i].mem = mem;
    }
    batch.n = N_BATCH / 2;
    batch.params.flags = PEERCACHE_OP_CHAIN;
    for (int round = 0; round < 5; round++) {
        read_all(&pair, &batch, carrier->source);
    }
    /* And the other way round: what is put here is read there. */
    batch_name(&batch, "back", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, pair.node, PC_VERB_PUT, 5 * PC_S),
                     PEERCACHE_OK);
    (void)peer_tell(&pair.owner, "OK 32 0", "get back %zu %zu", batch.n, PAGE);
    peercache_mem_deregister(mem);
    pair_end(&pair);
    batch_fini(&batch);
}

/* ---- Owners that stop and die ------------------------------------------- */

static void a_stopped_owners_known_places_are_read(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    size_t n_wrong = 0;
    pair_start(&pair, "");
    batch_init(&batch, N_BATCH, PAGE);
    batch_name(&batch, "known", 0);
    (void)peer_tell(&pair.owner, "OK", "put known %d %zu", N_BATCH, PAGE);
    read_all(&pair, &batch, carrier->source);
    uint64_t cpu = strtoull(peer_tell(&pair.owner, "", "cpu"), NULL, 10);
    read_all(&pair, &batch, carrier->source);
    cpu = strtoull(peer_tell(&pair.owner, "", "cpu"), NULL, 10) - cpu;
    peer_signal(&pair.owner, SIGSTOP);
    uint64_t began = pc_clock_monotonic();
    size_t n_ok = 0;
    for (int round = 0; round < 3; round++) {
        batch_poison(&batch, POISON);
        uint64_t begin = pc_clock_monotonic();
        (void)batch_do(&batch, pair.node, PC_VERB_GET, PC_S);
        assert_true(pc_clock_monotonic() - begin < PC_S + 2 * HOST_SLACK_NS);
        n_ok += batch_count_ok(&batch, &n_wrong);
        assert_int_equal(n_wrong, 0);
    }
    print_message("%s: owner stopped: %zu of %d pages in %.0f ms; for %d pages "
                  "before, it took %.1f ms of processor time\n",
                  carrier->name, n_ok, 3 * N_BATCH, ms_since(began), N_BATCH,
                  (double)cpu / (double)PC_MS);
    assert_int_equal(n_ok, carrier->needs_owner ? 0 : 3 * N_BATCH);
    /* Asked what only its process can answer, it is found to be silent; its
     * memory still is not. */
    struct batch unknown;
    batch_init(&unknown, 1, PAGE);
    batch_name(&unknown, "unknown", 0);
    (void)batch_do(&unknown, pair.node, PC_VERB_GET, PC_S);
    assert_int_not_equal(unknown.items[0].status, PEERCACHE_OK);
    batch_fini(&unknown);
    batch_poison(&batch, POISON);
    (void)batch_do(&batch, pair.node, PC_VERB_GET, PC_S);
    assert_int_equal(batch_count_ok(&batch, &n_wrong),
                     carrier->needs_owner ? 0 : N_BATCH);
    assert_int_equal(n_wrong, 0);
    peer_signal(&pair.owner, SIGCONT);
    assert_left_alone(&batch);
    read_all(&pair, &batch, carrier->source);
    pair_end(&pair);
    batch_fini(&batch);
}

struct reading
{
    pthread_t thread;
    peercache_node_t *node;
    struct batch *batch;
    uint64_t timeout_ns;
    uint64_t took_ns;
};

static void *read_in_background(void *arg)
{
    struct reading *reading = arg;
    uint64_t began = pc_clock_monotonic();
    (void)batch_do(reading->batch, reading->node, PC_VERB_GET,
                   reading->timeout_ns);
    reading->took_ns = pc_clock_monotonic() - began;
    return NULL;
}

static void reading_start(struct reading *reading, struct pair *pair,
                          struct batch *batch, uint64_t timeout_ns)
{
    *reading = (struct reading){
        .node = pair->node, .batch = batch, .timeout_ns = timeout_ns};
    batch_poison(batch, POISON);
    assert_int_equal(
        pthread_create(&reading->thread, NULL, read_in_background, reading), 0);
}

static void an_owner_killed_under_gets_ends_them(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    struct reading reading;
    size_t n_wrong = 0;
    pair_start(&pair, "global_segment_size=32MiB region_size=32MiB");
    batch_init(&batch, 4 * N_BATCH, 4 * PAGE);
    batch_name(&batch, "dying", 0);
    (void)peer_tell(&pair.owner, "OK", "put dying %d %zu", 4 * N_BATCH,
                    4 * PAGE);
    read_all(&pair, &batch, carrier->source);
    reading_start(&reading, &pair, &batch, 3 * PC_S);
    (void)poll(NULL, 0, 3);
    uint64_t killed = pc_clock_monotonic();
    peer_kill(&pair.owner);
    assert_int_equal(pthread_join(reading.thread, NULL), 0);
    size_t n_ok = batch_count_ok(&batch, &n_wrong);
    print_message("%s: owner killed: %zu of %zu pages, ended %.0f ms after\n",
                  carrier->name, n_ok, batch.n, ms_since(killed));
    assert_int_equal(n_wrong, 0);
    assert_true(reading.took_ns < 3 * PC_S + 2 * HOST_SLACK_NS);
    assert_left_alone(&batch);
    peercache_node_destroy(pair.node);
    batch_fini(&batch);
}

/* Deadlines end gets into registered memory by a forced close: poisoned as
 * soon as the call is back, looked at later. */
static void forced_detaches_write_nothing_after_the_end(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    peercache_mem_t *mem = NULL;
    size_t n_wrong = 0;
    size_t n_broken = 0;
    bool stop = carrier->needs_owner;
    pair_start(&pair, "global_segment_size=48MiB region_size=48MiB");
    /* More than software reads within the deadline below. */
    batch_init(&batch, 5 * N_BATCH, 8 * PAGE);
    batch_name(&batch, "cut", 0);
    assert_int_equal(peercache_mem_register(pair.node, PEERCACHE_MEM_HOST,
                                            batch.bytes, batch.n * batch.len,
                                            &mem),
                     PEERCACHE_OK);
    (void)peer_tell(&pair.owner, "OK", "put cut %zu %zu", batch.n, batch.len);
    for (size_t i = 0; i < batch.n; i++) {
        batch.items[i].mem = mem;
    }
    for (int round = 0; round < 4; round++) {
        read_all(&pair, &batch, carrier->source); /* Also: it came back. */
        batch_poison(&batch, POISON);
        if (stop) {
            peer_signal(&pair.owner, SIGSTOP);
        }
        (void)batch_do(&batch, pair.node, PC_VERB_GET, 220 * PC_MS);
        n_broken += batch.n - batch_count_ok(&batch, &n_wrong);
        assert_int_equal(n_wrong, 0);
        if (stop) {
            peer_signal(&pair.owner, SIGCONT);
        }
        assert_left_alone(&batch);
    }
    print_message("%s: %zu of %zu pages were broken off, 0 bytes came later\n",
                  carrier->name, n_broken, 4 * batch.n);
    if (carrier->source == PEERCACHE_FROM_ONE_SIDED) {
        assert_true(n_broken > 0);
    }
    peercache_mem_deregister(mem);
    pair_end(&pair);
    batch_fini(&batch);
}

/* ---- Owners that come back ---------------------------------------------- */

static void an_owner_that_starts_anew_is_read_again(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    size_t n_wrong = 0;
    pair_open(&pair, carrier->settings, "", "");
    batch_init(&batch, N_BATCH, PAGE);
    batch_name(&batch, "life", 0);
    (void)peer_tell(&pair.owner, "OK", "put life %d %zu", N_BATCH, PAGE);
    read_all(&pair, &batch, carrier->source);
    for (int life = 0; life < (is_verbs() ? 1 : 2); life++) {
        peer_kill(&pair.owner);
        peer_start(&pair.owner);
        (void)peer_tell(&pair.owner, "ok",
                        "start discovery_addr=127.0.0.1:%u node_id=owner %s",
                        pair.port, carrier->settings);
        (void)peer_tell(&pair.owner, "OK", "ready");
        /* Known places of the last life prove nothing. But a mapping outlives
         * its owner, and what it shows is right. */
        batch_poison(&batch, POISON);
        (void)batch_do(&batch, pair.node, PC_VERB_GET, 2 * PC_S);
        size_t n_ok = batch_count_ok(&batch, &n_wrong);
        assert_true(n_ok == 0 || carrier->source == PEERCACHE_FROM_MAPPED);
        assert_int_equal(n_wrong, 0);
        (void)peer_tell(&pair.owner, "OK", "put life %d %zu", N_BATCH, PAGE);
        read_all(&pair, &batch, carrier->source);
    }
    pair_end(&pair);
    batch_fini(&batch);
}

/* The process goes on, its node and pool do not: what an rkey still reaches
 * there is nobody's value any more. */
static void an_unmapped_pool_is_a_miss(void **state)
{
    (void)state;
    struct pair pair;
    struct batch batch;
    size_t n_wrong = 0;
    pair_start(&pair, "");
    batch_init(&batch, N_BATCH, PAGE);
    batch_name(&batch, "gone", 0);
    (void)peer_tell(&pair.owner, "OK", "put gone %d %zu", N_BATCH, PAGE);
    read_all(&pair, &batch, carrier->source);
    (void)peer_tell(&pair.owner, "ok", "stop");
    for (int round = 0; round < 3; round++) {
        batch_poison(&batch, POISON);
        uint64_t began = pc_clock_monotonic();
        (void)batch_do(&batch, pair.node, PC_VERB_GET, PC_S);
        assert_true(pc_clock_monotonic() - began < PC_S + 2 * HOST_SLACK_NS);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 0);
        assert_left_alone(&batch);
    }
    (void)peer_tell(&pair.owner, "ok",
                    "start discovery_addr=127.0.0.1:%u node_id=owner %s",
                    pair.port, carrier->settings);
    (void)peer_tell(&pair.owner, "OK", "ready");
    (void)peer_tell(&pair.owner, "OK", "put gone %d %zu", N_BATCH, PAGE);
    read_all(&pair, &batch, carrier->source);
    pair_end(&pair);
    batch_fini(&batch);
}

/* ---- Pairs without a way ------------------------------------------------ */

/* Forced, it is a quick miss; left to itself, another way. */
static void assert_other_way(const char *theirs, const char *ours, bool forced,
                             const char *said)
{
    struct pair pair;
    struct batch batch;
    size_t n_wrong = 0;
    batch_init(&batch, N_BATCH, PAGE);
    batch_name(&batch, "other", 0);
    host_log_keep();
    pair_open(&pair,
              forced ? SLOW " read_mode=one-sided" : SLOW " read_mode=auto",
              theirs, ours);
    (void)peer_tell(&pair.owner, "OK", "put other %d %zu", N_BATCH, PAGE);
    batch_poison(&batch, POISON);
    uint64_t began = pc_clock_monotonic();
    (void)batch_do(&batch, pair.node, PC_VERB_GET, 5 * PC_S);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), forced ? 0 : N_BATCH);
    assert_int_equal(n_wrong, 0);
    assert_true(pc_clock_monotonic() - began < 5 * PC_S);
    if (forced) {
        assert_true(batch_is_poison(&batch, POISON));
    } else {
        assert_true(batch.items[0].source == PEERCACHE_FROM_SERVED ||
                    batch.items[0].source == PEERCACHE_FROM_MAPPED);
    }
    if (host_log_count(PEERCACHE_LOG_INFO, said, "") == 0) {
        host_log_show();
        fail_msg("the log does not say: %s", said);
    }
    pair_end(&pair);
    batch_fini(&batch);
}

static void a_peer_without_rdma_is_read_in_another_way(void **state)
{
    (void)state;
    if (!is_verbs()) {
        skip();
    }
    assert_other_way("protocol=tcp", "protocol=rdma", false,
                     "bytes from owner");
    assert_other_way("protocol=rdma", "protocol=tcp", true, "bytes from owner");
}

static void a_peer_with_another_ucx_is_read_in_another_way(void **state)
{
    (void)state;
    const char *other = getenv("PC_TEST_OTHER_UCX");
    const char *own = getenv("LD_LIBRARY_PATH");
    char saved[256];
    if (!is_verbs() || other == NULL) {
        skip();
    }
    /* Read by the peers only: this process has long loaded its own. */
    (void)snprintf(saved, sizeof(saved), "%s", own != NULL ? own : "");
    assert_int_equal(setenv("LD_LIBRARY_PATH", other, 1), 0);
    for (int forced = 0; forced < 2; forced++) {
        assert_other_way("protocol=rdma", "protocol=rdma", forced,
                         "no one-sided reads from a peer with UCX");
    }
    assert_int_equal(setenv("LD_LIBRARY_PATH", saved, 1), 0);
}

static void a_port_that_is_down_is_left_out(void **state)
{
    (void)state;
    if (!is_verbs()) {
        skip();
    }
    assert_other_way("protocol=rdma", "protocol=rdma device_name=rxe1", false,
                     "RDMA device rxe1:1 is not used: its port is down");
}

static void a_wrong_gid_index_is_left_out(void **state)
{
    (void)state;
    if (!is_verbs()) {
        skip();
    }
    assert_other_way("protocol=rdma", "protocol=rdma gid_index=200", false,
                     "rxe0:1 is not used: it has no GID with the index");
}

/* Without the right to lock what it likes. */
static bool give_up_locking(rlim_t limit)
{
    struct __user_cap_header_struct head = {.version =
                                                _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    struct rlimit few = {limit, limit};
    if (syscall(SYS_capget, &head, data) != 0) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        data[i].effective &= i == 0 ? ~(1u << CAP_IPC_LOCK) : ~0u;
        data[i].permitted &= i == 0 ? ~(1u << CAP_IPC_LOCK) : ~0u;
    }
    return setrlimit(RLIMIT_MEMLOCK, &few) == 0 &&
           syscall(SYS_capset, &head, data) == 0;
}

static void few_locked_bytes_alone(void **state)
{
    (void)state;
    host_log_keep();
    assert_true(give_up_locking(64 * KIB));
    assert_other_way("protocol=rdma", "protocol=rdma", false, "ulimit -l");
}

static void a_small_limit_of_locked_memory_leaves_other_ways(void **state)
{
    (void)state;
    if (!is_verbs()) {
        skip();
    }
    assert_int_equal(host_run("few_locked_bytes_alone"), 0);
}

/* ---- Devices that do not do what they should ---------------------------- */

/* Whether the fabric here is this version's, and reads over RDMA. */
static bool is_version(const char *version)
{
    host_log_keep();
    peercache_node_t *node = host_node("protocol=rdma");
    unsigned n = host_log_count(PEERCACHE_LOG_INFO, version, "rc,ud on rxe0");
    peercache_node_destroy(node);
    return n > 0;
}

static void assert_refused(const char *settings)
{
    peercache_node_t *node = NULL;
    peercache_config_t *config = host_config(settings);
    assert_int_equal(peercache_node_create(config, &node),
                     PEERCACHE_UNSUPPORTED);
    peercache_config_destroy(config);
}

/* In peer error mode UCX 1.18 emulates gets by its newer protocols, which
 * brings right bytes by the owner's processor; 1.23 has none by its older. */
static void a_get_that_is_not_native_is_not_accepted(void **state)
{
    (void)state;
    static const char *const said = "carries them out with the owner's";
    bool is_new;
    if (!is_verbs()) {
        skip();
    }
    is_new = is_version("UCX 1.23.");
    assert_true(is_new || is_version("UCX 1.18."));
    assert_int_equal(setenv("UCX_PROTO_ENABLE", is_new ? "n" : "y", 1), 0);
    host_log_keep();
    peercache_node_destroy(host_node("protocol=rdma"));
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, said, "rxe0"), 1);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "one-sided", ""), 1);
    assert_other_way("protocol=rdma", "protocol=rdma", false, said);
    assert_other_way("protocol=rdma", "protocol=rdma", true, said);
    assert_refused("protocol=rdma protocol_strict=true");
    assert_int_equal(unsetenv("UCX_PROTO_ENABLE"), 0);
}

/* The port is up, its device is there, and nothing gets through: over rxe, UCX
 * 1.18's check of destinations drops all messages that connect. */
static void a_port_that_carries_nothing_holds_a_start_up_for_seconds(
    void **state)
{
    (void)state;
    if (!is_verbs() || !is_version("UCX 1.18.")) {
        skip();
    }
    assert_int_equal(setenv("UCX_UD_VERBS_ETH_DGID_CHECK", "y", 1), 0);
    host_log_keep();
    uint64_t began = pc_clock_monotonic();
    peercache_node_t *node = host_node("protocol=rdma");
    double took = ms_since(began);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "no one-sided reads:",
                                    "rxe0:1: Operation timed out"),
                     1);
    peercache_node_destroy(node);
    assert_int_equal(unsetenv("UCX_UD_VERBS_ETH_DGID_CHECK"), 0);
    print_message("%s: a dead port held a start up for %.0f ms\n",
                  carrier->name, took);
    assert_true(took < 9000);
}

static const struct carrier *find_carrier(void)
{
    const char *name = getenv("PC_TEST_CARRIER");
    for (size_t i = 0; name != NULL && i < PC_ARRAY_LEN(carriers); i++) {
        if (strcmp(carriers[i].name, name) == 0) {
            return &carriers[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    carrier = find_carrier();
    if (carrier == NULL) {
        (void)fprintf(stderr, "PC_TEST_CARRIER: verbs, tcp or shm\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_pages_are_right_while_their_owner_evicts),
        cmocka_unit_test(pages_move_as_sglang_moves_them),
        cmocka_unit_test(a_stopped_owners_known_places_are_read),
        cmocka_unit_test(an_owner_killed_under_gets_ends_them),
        cmocka_unit_test(forced_detaches_write_nothing_after_the_end),
        cmocka_unit_test(an_owner_that_starts_anew_is_read_again),
        cmocka_unit_test(an_unmapped_pool_is_a_miss),
        cmocka_unit_test(a_peer_without_rdma_is_read_in_another_way),
        cmocka_unit_test(a_peer_with_another_ucx_is_read_in_another_way),
        cmocka_unit_test(a_port_that_is_down_is_left_out),
        cmocka_unit_test(a_wrong_gid_index_is_left_out),
        cmocka_unit_test(a_small_limit_of_locked_memory_leaves_other_ways),
        cmocka_unit_test(a_get_that_is_not_native_is_not_accepted),
        cmocka_unit_test(
            a_port_that_carries_nothing_holds_a_start_up_for_seconds),
    };
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(few_locked_bytes_alone),
    };
    if (argc == 2 && strcmp(argv[1], alone[0].name) == 0) {
        return host_alone(argv[1], alone, 1, owner_command);
    }
    if (argc == 2) { /* A peer, or one of the tests. */
        return host_alone(argv[1], tests, PC_ARRAY_LEN(tests), owner_command);
    }
    host_log_keep();
    return cmocka_run_group_tests_name(carrier->name, tests, NULL, NULL);
}
