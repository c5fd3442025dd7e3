/*
 * Strangers at the ports of a node, while two honest nodes go on: nobody
 * crashes, nothing is left behind, and no honest call is late. Prints what each
 * kind of stranger did and what it got.
 */
#include "host.h"

#include "base/assert.h"
#include "base/mem.h"
#include "node/node.h"
#include "transports/socket/socket.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define KEY_ENV     "PEERCACHE_CLUSTER_KEY"
#define KEY         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define N_MAX       1000
#define DEADLINE_NS (2 * PC_S)
#define DROP_S      8 /* By then a node has hung up on who says nothing. */
#define RECORD_MAX  4096

/* ---- The honest -----------------------------------------------------------
 */

struct honest
{
    peercache_node_t *holder, *reader;
    struct batch batch;
    pthread_t thread;
    _Atomic bool over;
    _Atomic uint64_t slowest_ns;
    /* Calls, those that brought wrong bytes, and those that missed a value. */
    _Atomic unsigned n_calls, n_wrong, n_missed;
};

static void *honest_main(void *arg)
{
    struct honest *honest = arg;
    struct batch *batch = &honest->batch;
    while (!atomic_load(&honest->over)) {
        uint64_t begin_ns = pc_clock_monotonic();
        size_t n_wrong = 0;
        batch_poison(batch, 0x5a);
        (void)batch_do(batch, honest->reader, PC_VERB_GET, DEADLINE_NS);
        uint64_t took_ns = pc_clock_monotonic() - begin_ns;
        size_t n_ok = batch_count_ok(batch, &n_wrong);
        atomic_fetch_add(&honest->n_wrong, n_wrong > 0);
        atomic_fetch_add(&honest->n_missed, n_ok != batch->n);
        atomic_fetch_add(&honest->n_calls, 1);
        if (took_ns > atomic_load(&honest->slowest_ns)) {
            atomic_store(&honest->slowest_ns, took_ns);
        }
        (void)poll(NULL, 0, 1);
    }
    return NULL;
}

static void honest_start(struct honest *honest, const char *settings)
{
    uint16_t port = host_port();
    memset(honest, 0, sizeof(*honest));
    honest->holder = host_node("discovery_addr=127.0.0.1:%u node_id=holder "
                               "member_ttl=3 read_mode=served %s",
                               port, settings);
    host_ready(honest->holder);
    honest->reader = host_node("discovery_addr=127.0.0.1:%u node_id=reader "
                               "member_ttl=3 read_mode=served %s",
                               port, settings);
    host_ready(honest->reader);
    batch_init(&honest->batch, 16, 32 * KIB);
    batch_name(&honest->batch, "honest", 0);
    batch_fill(&honest->batch);
    assert_int_equal(
        batch_do(&honest->batch, honest->holder, PC_VERB_PUT, 10 * PC_S),
        PEERCACHE_OK);
    WAIT_UNTIL(batch_do(&honest->batch, honest->reader, PC_VERB_GET, PC_S) ==
                   PEERCACHE_OK,
               20);
    assert_int_equal(pthread_create(&honest->thread, NULL, honest_main, honest),
                     0);
}

static void honest_end(struct honest *honest)
{
    atomic_store(&honest->over, true);
    assert_int_equal(pthread_join(honest->thread, NULL), 0);
    batch_fini(&honest->batch);
    peercache_node_destroy(honest->reader);
    peercache_node_destroy(honest->holder);
}

/* ---- Strangers ------------------------------------------------------------
 */

struct attack
{
    const char *address;
    uint64_t random;
    unsigned char recorded[RECORD_MAX]; /* How an honest node begins. */
    size_t n_recorded;
    bool tls;
    int fds[N_MAX];
};

struct kind
{
    const char *name;
    size_t n;
    /* What the i-th one sends, at most RECORD_MAX bytes; NULL: nothing. */
    size_t (*say)(struct attack *attack, size_t i, unsigned char *out);
    bool leaves; /* Hangs up at once. */
    bool drips;  /* A byte now and then. */
    bool passes; /* Without a key it may pass for the recorded node. */
};

static uint64_t draw(struct attack *attack)
{
    attack->random ^= attack->random << 13;
    attack->random ^= attack->random >> 7;
    attack->random ^= attack->random << 17;
    return attack->random;
}

static size_t garbage(struct attack *attack, size_t i, unsigned char *out)
{
    size_t len = 1 + draw(attack) % (RECORD_MAX - 1);
    for (size_t at = 0; at < len; at++) {
        out[at] = (unsigned char)draw(attack);
    }
    /* Every other one begins as a friend would. */
    if (i % 2 == 1) {
        memcpy(out, attack->tls ? "\x16\x03\x01\x02\x00\x01\x00" : "PCM1\x08",
               len < 5 ? len : 5);
    }
    return len;
}

static size_t replay(struct attack *attack, size_t i, unsigned char *out)
{
    (void)i;
    memcpy(out, attack->recorded, attack->n_recorded);
    return attack->n_recorded;
}

static size_t flip(struct attack *attack, size_t i, unsigned char *out)
{
    size_t len = replay(attack, i, out);
    out[draw(attack) % len] ^= (unsigned char)(1u << (draw(attack) % 8));
    return len;
}

static size_t cut(struct attack *attack, size_t i, unsigned char *out)
{
    return draw(attack) % replay(attack, i, out);
}

/* After a good beginning: a head and a body of gigabytes. */
static size_t oversized(struct attack *attack, size_t i, unsigned char *out)
{
    static const unsigned char huge[] = "PCM1\xff\xff\xff\xff\xff\xff\xff\xff"
                                        "\xff\xff\xff\x7f";
    (void)i;
    if (attack->tls) { /* A record longer than records may be. */
        memcpy(out, "\x16\x03\x01\xff\xff\x01\x00", 7);
        memset(out + 7, 0, 200);
        return 207;
    }
    memcpy(out, attack->recorded, 24);
    memcpy(out + 24, huge, 16);
    return 40;
}

static size_t of_the_other_sort(struct attack *attack, size_t i,
                                unsigned char *out)
{
    static const unsigned char hello[] = "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4"
                                         "\x03\x03";
    static const unsigned char preamble[] =
        "PCM1\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\0\0\0";
    (void)i;
    memset(out, 7, 205);
    if (attack->tls) {
        memcpy(out, preamble, 24);
    } else {
        memcpy(out, hello, 11);
    }
    return 205;
}

static size_t http(struct attack *attack, size_t i, unsigned char *out)
{
    (void)attack;
    return (size_t)snprintf((char *)out, RECORD_MAX,
                            "GET /%zu HTTP/1.1\r\nHost: x\r\n\r\n", i);
}

static const struct kind kinds[] = {
    {.name = "garbage", .n = 200, .say = garbage},
    {.name = "port scan", .n = 500, .leaves = true},
    {.name = "an HTTP client", .n = 50, .say = http},
    {.name = "half-open", .n = 200},
    {.name = "slow-loris", .n = 100, .say = replay, .drips = true},
    {.name = "replayed beginning", .n = 200, .say = replay, .passes = true},
    {.name = "bit-flipped beginning", .n = 400, .say = flip, .passes = true},
    {.name = "cut-off beginning", .n = 200, .say = cut, .leaves = true},
    {.name = "oversized heads", .n = 100, .say = oversized},
    {.name = "the other protocol", .n = 100, .say = of_the_other_sort},
    {.name = "1,000 at once", .n = 1000, .say = garbage},
};

static int connect_to(const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

struct got
{
    size_t n_closed, n_answered;
    uint64_t n_bytes;
};

/* What came back; whether the node has hung up. */
static bool listen_to(int fd, bool *answered_p, struct got *got)
{
    unsigned char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
        got->n_answered += !*answered_p;
        *answered_p = true;
        got->n_bytes += (uint64_t)n;
    }
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}

static void say_all(struct attack *attack, const struct kind *kind)
{
    unsigned char bytes[RECORD_MAX];
    for (size_t i = 0; i < kind->n; i++) {
        attack->fds[i] = connect_to(attack->address);
        if (kind->say != NULL && !kind->drips) {
            size_t len = kind->say(attack, i, bytes);
            (void)send(attack->fds[i], bytes, len, MSG_NOSIGNAL);
        }
        if (kind->leaves) {
            close(attack->fds[i]);
            attack->fds[i] = -1;
        }
    }
}

/* Until the node has hung up on all of them, or has had its time. */
static void wait_for_the_end(struct attack *attack, const struct kind *kind,
                             struct got *got)
{
    static bool answered[N_MAX];
    uint64_t end_ns = pc_clock_monotonic() + DROP_S * PC_S;
    size_t at = 0;
    size_t n_open = kind->leaves ? 0 : kind->n;
    memset(answered, 0, sizeof(answered));
    got->n_closed = kind->leaves ? kind->n : 0;
    while (n_open > 0 && pc_clock_monotonic() < end_ns) {
        for (size_t i = 0; i < kind->n; i++) {
            if (attack->fds[i] < 0) {
                continue;
            }
            if (kind->drips && at < attack->n_recorded) {
                (void)send(attack->fds[i], attack->recorded + at, 1,
                           MSG_NOSIGNAL);
            }
            if (listen_to(attack->fds[i], &answered[i], got)) {
                close(attack->fds[i]);
                attack->fds[i] = -1;
                got->n_closed++;
                n_open--;
            }
        }
        at++;
        (void)poll(NULL, 0, kind->drips ? 100 : 2);
    }
    for (size_t i = 0; i < kind->n; i++) {
        if (attack->fds[i] >= 0) {
            close(attack->fds[i]);
        }
    }
}

/* How an honest node begins, at a port that only listens. */
static void record(struct attack *attack, const char *settings)
{
    uint16_t port = 0;
    int listener = host_hold_port(&port);
    assert_int_equal(listen(listener, 4), 0);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u "
                                       "node_id=recorded %s",
                                       port, settings);
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    while (attack->n_recorded < 60) {
        ssize_t n = recv(fd, attack->recorded + attack->n_recorded,
                         RECORD_MAX - attack->n_recorded, 0);
        assert_true(n > 0);
        attack->n_recorded += (size_t)n;
    }
    close(fd);
    close(listener);
    peercache_node_destroy(node);
}

static int count_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n;
}

/* How many of the honest calls meanwhile have missed a value, or were late. */
static unsigned attack_once(struct attack *attack, const struct kind *kind,
                            struct honest *honest)
{
    struct got got = {0};
    unsigned n_calls = atomic_load(&honest->n_calls);
    unsigned n_missed = atomic_load(&honest->n_missed);
    atomic_store(&honest->slowest_ns, 0);
    say_all(attack, kind);
    wait_for_the_end(attack, kind, &got);
    /* A call that began meanwhile has ended by now, too. */
    WAIT_UNTIL(atomic_load(&honest->n_calls) >= n_calls + 2, 10);
    uint64_t slowest_ns = atomic_load(&honest->slowest_ns);
    n_missed = atomic_load(&honest->n_missed) - n_missed;
    printf("| %-21s | %5zu | %5zu | %5zu | %6llu | %5u | %6u | %5.1f |\n",
           kind->name, kind->n, got.n_closed, got.n_answered,
           (unsigned long long)got.n_bytes,
           atomic_load(&honest->n_calls) - n_calls, n_missed,
           (double)slowest_ns / PC_MS);
    if (attack->tls || !kind->passes) {
        assert_int_equal(got.n_closed, kind->n);
    }
    assert_int_equal(atomic_load(&honest->n_wrong), 0);
    return n_missed + (slowest_ns >= DEADLINE_NS);
}

/* On a busy machine a node may say nothing for 200 ms, and is not asked for a
 * while: that misses, whoever knocks. What strangers do they can do again. */
static void attack_with(struct attack *attack, const struct kind *kind,
                        struct honest *honest)
{
    unsigned n_missed = attack_once(attack, kind, honest);
    for (int i = 0; i < 3 && n_missed > 0; i++) {
        (void)poll(NULL, 0, 1000);
        n_missed = attack_once(attack, kind, honest);
    }
    assert_int_equal(n_missed, 0);
}

static const char *const causes[] = {"untrusted", "protocol", "late", "full"};

static uint64_t refused_by(peercache_node_t *node, const char *cause)
{
    char label[64];
    char *text = NULL;
    uint64_t n = 0;
    (void)snprintf(label, sizeof(label), "cause=\"%s\"} ", cause);
    assert_int_equal(peercache_node_metrics(node, &text), PEERCACHE_OK);
    char *rest = text;
    char *line;
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        const char *at = strstr(line, label);
        if (strstr(line, "connections_refused_total{") != NULL && at != NULL) {
            n = strtoull(at + strlen(label), NULL, 10);
        }
    }
    peercache_free(text);
    return n;
}

/* honest: static, as its thread goes on when something fails here. */
static void besiege(const char *title, const char *settings, bool tls,
                    struct honest *honest)
{
    static struct attack attack;
    uint64_t began_ns = pc_clock_monotonic();
    int n_lines = host_log_count(PEERCACHE_LOG_WARN, "malformed message", "");
    memset(&attack, 0, sizeof(attack));
    attack.random = 0x9e3779b97f4a7c15u;
    attack.tls = tls;
    record(&attack, settings);
    honest_start(honest, settings);
    attack.address = honest->holder->self.address;
    int n_before = count_descriptors();
    uint64_t conns_before = host_metric(honest->holder, "incoming_connections");
    printf("\n%s\n| stranger              | conns | ended | heard |  bytes | "
           "calls | missed | slowest, ms |\n"
           "|---|--:|--:|--:|--:|--:|--:|--:|\n",
           title);
    for (size_t i = 0; i < PC_ARRAY_LEN(kinds); i++) {
        attack_with(&attack, &kinds[i], honest);
        assert_true(host_metric(honest->holder, "handshakes_in_progress") <=
                    256);
    }
    WAIT_UNTIL(host_metric(honest->holder, "handshakes_in_progress") == 0, 20);
    WAIT_UNTIL(host_metric(honest->holder, "incoming_connections") <=
                   conns_before,
               20);
    WAIT_UNTIL(count_descriptors() <= n_before, 20);
    uint64_t n_refused = 0;
    printf("refused:");
    for (size_t i = 0; i < PC_ARRAY_LEN(causes); i++) {
        uint64_t n = refused_by(honest->holder, causes[i]);
        printf(" %s %llu", causes[i], (unsigned long long)n);
        n_refused += n;
    }
    printf("\n");
    assert_true(n_refused >= 1000);
    assert_int_equal(refused_by(honest->holder, "untrusted") > 0, tls);
    n_lines =
        host_log_count(PEERCACHE_LOG_WARN, "malformed message", "") - n_lines;
    uint64_t n_malformed = host_metric(honest->holder, "protocol_errors_total");
    printf("malformed %llu, lines %d\n", (unsigned long long)n_malformed,
           n_lines);
    /* Both nodes may say so, once in five seconds. */
    uint64_t n_periods = (pc_clock_monotonic() - began_ns) / (5 * PC_S) + 1;
    assert_true((uint64_t)n_lines <= 2 * n_periods);
    honest_end(honest);
}

static void strangers_at_a_plain_port_disturb_nobody(void **state)
{
    (void)state;
    static struct honest honest;
    besiege("no key", "", false, &honest);
}

static void strangers_at_a_port_with_a_key_disturb_nobody(void **state)
{
    static struct honest honest;
    char path[] = "/tmp/peercache-key-XXXXXX";
    char settings[128];
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, KEY "\n", sizeof(KEY)), sizeof(KEY));
    close(fd);
    (void)snprintf(settings, sizeof(settings), "cluster_key_file=%s", path);
    besiege("a cluster key", settings, true, &honest);
    (void)unlink(path);
}

/* ---- A peer that asks and does not read -----------------------------------
 */

#define N_VALUES 4
#define VALUE    (16 * MIB)
#define N_ASKS   64

struct greedy
{
    const struct pc_link_ops *ops;
    struct pc_link *link;
    struct pc_link_conn *conn;
    bool connected, closed;
    struct pc_link_send sends[N_ASKS + 1];
    uint8_t *bytes[N_ASKS + 1];
    size_t n_sends;
};

static void greedy_connected(void *arg, peercache_status_t status)
{
    ((struct greedy *)arg)->connected = status == PEERCACHE_OK;
}

static void greedy_closed(void *arg, peercache_status_t why)
{
    (void)why;
    ((struct greedy *)arg)->closed = true;
}

static struct pc_link_sink *greedy_message(void *arg, struct pc_blob head,
                                           size_t body_len)
{
    (void)arg;
    (void)head;
    (void)body_len;
    return NULL;
}

static void greedy_sent(struct pc_link_send *send, peercache_status_t status)
{
    (void)send;
    (void)status;
}

static void greedy_post(struct greedy *greedy, struct pc_msg *msg)
{
    size_t len;
    size_t at = greedy->n_sends++;
    assert_int_equal(pc_msg_encode(msg, &greedy->bytes[at], &len),
                     PEERCACHE_OK);
    greedy->sends[at] = (struct pc_link_send){.conn = greedy->conn,
                                              .head = {greedy->bytes[at], len},
                                              .done = greedy_sent};
    assert_int_equal(greedy->ops->send(&greedy->sends[at]),
                     PEERCACHE_IN_PROGRESS);
}

/* A member by its greeting, which asks for everything again and again. */
static void greedy_open(struct greedy *greedy, peercache_node_t *node)
{
    struct pc_link_params params = {.up = {.arg = greedy,
                                           .connected = greedy_connected,
                                           .message = greedy_message,
                                           .closed = greedy_closed},
                                    .head_max = PC_HEAD_MAX + 64};
    greedy->ops = pc_socket_link();
    assert_int_equal(greedy->ops->open(&params, &greedy->link), PEERCACHE_OK);
    assert_int_equal(greedy->ops->connect(greedy->link, node->self.address,
                                          PC_LINK_BULK, UINT64_MAX, greedy,
                                          &greedy->conn),
                     PEERCACHE_OK);
    WAIT_UNTIL(greedy->connected ||
                   greedy->ops->progress(greedy->link, -1, PC_MS) > 1000,
               10);
    greedy->ops->pause(greedy->conn, true);
    struct pc_msg hello = {.type = PC_MSG_HELLO, .request = 1};
    hello.u.hello = node->peers.self;
    hello.u.hello.self.incarnation++;
    (void)pc_node_id_set(&hello.u.hello.self.id, "greedy");
    hello.u.hello.cls = PC_LINK_BULK;
    hello.u.hello.number = 1;
    hello.u.hello.n_regions = 0;
    hello.u.hello.fabric = (struct pc_blob){NULL, 0};
    greedy_post(greedy, &hello);
}

static void greedy_ask(struct greedy *greedy, peercache_node_t *node,
                       const struct batch *batch)
{
    struct pc_record records[N_VALUES];
    memset(records, 0, sizeof(records));
    for (size_t i = 0; i < N_VALUES; i++) {
        records[i].digest = pc_digest_key(node->key_seed, "", 0, batch->keys[i],
                                          strlen(batch->keys[i]));
        records[i].length = VALUE;
        records[i].incarnation = node->self.incarnation;
        records[i].generation = 2;
    }
    for (unsigned i = 0; i < N_ASKS; i++) {
        struct pc_msg ask = {.type = PC_MSG_READ, .request = 2 + i};
        ask.u.read.n_keys = N_VALUES;
        ask.u.read.records = records;
        greedy_post(greedy, &ask);
    }
}

static void a_peer_that_does_not_read_holds_few_bytes_and_not_for_long(
    void **state)
{
    static struct greedy greedy;
    struct batch batch;
    uint64_t most = 0;
    (void)state;
    memset(&greedy, 0, sizeof(greedy));
    peercache_node_t *node = host_node("global_segment_size=128MiB "
                                       "region_size=128MiB");
    batch_init(&batch, N_VALUES, VALUE);
    batch_name(&batch, "large", 0);
    batch_fill(&batch);
    WAIT_UNTIL(batch_do(&batch, node, PC_VERB_PUT, 10 * PC_S) == PEERCACHE_OK,
               20);
    greedy_open(&greedy, node);
    greedy_ask(&greedy, node, &batch);
    uint64_t end_ns = pc_clock_monotonic() + 20 * PC_S;
    while (!greedy.closed && pc_clock_monotonic() < end_ns) {
        greedy.ops->progress(greedy.link, -1, PC_MS);
        uint64_t now = host_metric(node, "send_bytes_in_flight_connection_max");
        most = now > most ? now : most;
        if (most > 0 && now == 0) {
            break; /* The node has given up on it. */
        }
    }
    printf("asked for %u MiB, held at most %llu MiB\n",
           (unsigned)(N_ASKS * N_VALUES * VALUE / MIB),
           (unsigned long long)(most / MIB));
    assert_true(most >= VALUE);
    assert_true(most <= 64 * MIB + 32 * MIB + MIB);
    WAIT_UNTIL(host_metric(node, "send_bytes_in_flight") == 0, 10);
    WAIT_UNTIL(host_metric(node, "pool_pins") == 0, 10);
    greedy.ops->close(greedy.link);
    for (size_t i = 0; i < greedy.n_sends; i++) {
        pc_free(greedy.bytes[i]);
    }
    batch_fini(&batch);
    peercache_node_destroy(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_at_a_plain_port_disturb_nobody),
        cmocka_unit_test(strangers_at_a_port_with_a_key_disturb_nobody),
        cmocka_unit_test(
            a_peer_that_does_not_read_holds_few_bytes_and_not_for_long),
    };
    struct rlimit limit;
    (void)setenv("PEERCACHE_TLS_MODULE", PC_TEST_TLS_MODULE, 0);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    host_log_keep();
    return cmocka_run_group_tests_name("strangers", tests, NULL, NULL);
}
