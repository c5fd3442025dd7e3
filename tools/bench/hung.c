/*
 * hung.c - `peercache-bench hung`: one of four nodes hangs.
 *
 * Three processes with a node each, and a fourth that calls: exists and get of
 * 128 keys, whose values lie on one node that lives, and exists of 128 keys
 * that nobody has. Then one of the others is stopped (SIGSTOP), and what calls
 * take is told for the time before its breaker opens, and after. The caller
 * remembers no places, so each call asks the directory.
 */
#include "hung.h"

#include "system.h"

#include <peercache/peercache.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    N_OTHERS = 3,
    HOLDER = 0,
    HUNG = 1,
    N_KEYS = 128,
    KEY_LEN = 32,
    N_CALLS_MAX = 20000,
    SETTLE_S = 4
};

enum verb { EXISTS, GET, PUT };

#define VALUE_LEN  4096
#define MS         1000000ull
#define READY_NS   (20000 * MS)
#define TIMEOUT_NS (2000 * MS)
#define WARM_NS    (500 * MS)
#define AFTER_NS   (3000 * MS)
#define BREAKER_NS (2000 * MS) /* It opens long before. */
#define HEDGE_NS   (3 * MS)    /* The setting's default. */

struct other
{
    pid_t pid;
    int to, from;
};

struct calls
{
    peercache_item_t items[N_KEYS];
    peercache_piece_t pieces[N_KEYS];
    char keys[N_KEYS][KEY_LEN];
    unsigned char *bytes;
    enum verb verb;
};

/* ---- Nodes ------------------------------------------------------------ */

static peercache_node_t *open_node(unsigned port, const char *id,
                                   const char *pool)
{
    char seed[32];
    (void)snprintf(seed, sizeof(seed), "127.0.0.1:%u", port);
    const char *const settings[][2] = {
        {"discovery_addr", seed}, {"node_id", id},
        {"control_port", "0"},    {"global_segment_size", pool},
        {"region_size", pool},    {"disk_enabled", "false"},
        {"location_cache", "0"},  {"metrics_enabled", "false"},
        {"log_level", "error"},   {"member_ttl", "60"},
        {"read_mode", "served"},  {"heartbeat_interval", "0.5"},
        {"settle", "1"},
    };
    peercache_config_t *config;
    peercache_node_t *node = NULL;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        return NULL;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof(settings) / sizeof(settings[0]); i++) {
        ok = peercache_config_set(config, settings[i][0], settings[i][1]) ==
             PEERCACHE_OK;
    }
    if (!ok || peercache_node_create(config, &node) != PEERCACHE_OK) {
        (void)fprintf(stderr, "peercache-bench: %s\n",
                      peercache_config_error(config));
        node = NULL;
    }
    peercache_config_destroy(config);
    return node;
}

static void name_keys(struct calls *calls, const char *prefix)
{
    for (unsigned i = 0; i < N_KEYS; i++) {
        peercache_item_t *item = &calls->items[i];
        item->key_len =
            (size_t)snprintf(calls->keys[i], KEY_LEN, "%s-%u", prefix, i);
        item->key = calls->keys[i];
        calls->pieces[i].addr = calls->bytes + (size_t)i * VALUE_LEN;
        calls->pieces[i].len = VALUE_LEN;
        bool has_value = calls->verb != EXISTS;
        item->pieces = has_value ? &calls->pieces[i] : NULL;
        item->n_pieces = has_value ? 1 : 0;
    }
}

static struct calls *calls_new(enum verb verb, const char *prefix)
{
    struct calls *calls = calloc(1, sizeof(*calls));
    if (calls != NULL) {
        calls->verb = verb;
        calls->bytes = calloc(N_KEYS, VALUE_LEN);
    }
    if (calls == NULL || calls->bytes == NULL) {
        free(calls);
        return NULL;
    }
    name_keys(calls, prefix);
    return calls;
}

static void calls_free(struct calls *calls)
{
    if (calls != NULL) {
        free(calls->bytes);
        free(calls);
    }
}

static unsigned n_ok(const struct calls *calls)
{
    unsigned n = 0;
    for (unsigned i = 0; i < N_KEYS; i++) {
        n += calls->items[i].status == PEERCACHE_OK;
    }
    return n;
}

static uint64_t call_once(peercache_node_t *node, struct calls *calls)
{
    peercache_op_params_t params = {
        .struct_size = sizeof(params),
        .item_size = sizeof(peercache_item_t),
        .timeout_ns = TIMEOUT_NS,
    };
    uint64_t start_ns = bench_now();
    switch (calls->verb) {
    case EXISTS:
        (void)peercache_exists(node, calls->items, N_KEYS, &params, NULL);
        break;
    case GET:
        (void)peercache_get(node, calls->items, N_KEYS, &params, NULL);
        break;
    case PUT:
        (void)peercache_put(node, calls->items, N_KEYS, &params, NULL);
        break;
    }
    return bench_now() - start_ns;
}

/* ---- The other processes ---------------------------------------------- */

/* A node until its pipe says "q" or ends; says when it is ready. "p": put all
 * values. */
static int be_other(unsigned index, unsigned port, int from, int to)
{
    char id[16];
    char byte = 'r';
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(id, sizeof(id), "other-%u", index);
    peercache_node_t *node = open_node(port, id, "64mib");
    if (node == NULL ||
        peercache_node_wait_ready(node, READY_NS) != PEERCACHE_OK) {
        return 1;
    }
    struct calls *put = calls_new(PUT, "value");
    bool ok = put != NULL && write(to, &byte, 1) == 1;
    while (ok && read(from, &byte, 1) == 1 && byte == 'p') {
        (void)call_once(node, put);
        byte = n_ok(put) == N_KEYS ? 'r' : 'f';
        ok = write(to, &byte, 1) == 1;
    }
    calls_free(put);
    peercache_node_destroy(node);
    return ok ? 0 : 1;
}

static bool is_ready(const struct other *other)
{
    char byte;
    return read(other->from, &byte, 1) == 1 && byte == 'r';
}

static bool start_other(struct other *other, unsigned index, unsigned port)
{
    int down[2];
    int up[2];
    if (pipe(down) != 0 || pipe(up) != 0) {
        return false;
    }
    other->pid = fork();
    if (other->pid == 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        _exit(be_other(index, port, down[0], up[1]));
    }
    (void)close(down[0]);
    (void)close(up[1]);
    other->to = down[1];
    other->from = up[0];
    return other->pid > 0 && is_ready(other);
}

static void end_other(struct other *other)
{
    if (other->pid > 0) {
        (void)kill(other->pid, SIGCONT);
        (void)!write(other->to, "q", 1);
        (void)close(other->to);
        (void)close(other->from);
        (void)waitpid(other->pid, NULL, 0);
    }
}

/* ---- Measuring -------------------------------------------------------- */

struct sample
{
    uint64_t took_ns[N_CALLS_MAX];
    unsigned n, n_wrong;
};

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(struct sample *sample, double share)
{
    if (sample->n == 0) {
        return 0;
    }
    qsort(sample->took_ns, sample->n, sizeof(sample->took_ns[0]), by_size);
    unsigned at = (unsigned)(share * (double)(sample->n - 1) + 0.5);
    return (double)sample->took_ns[at] / 1e6;
}

static bool breaker_is_open(peercache_node_t *node)
{
    char *text;
    bool open = false;
    if (peercache_node_info(node, &text) == PEERCACHE_OK) {
        open = strstr(text, "\"state\":\"open\"") != NULL;
        peercache_free(text);
    }
    return open;
}

/* Call until the time is over, or the breaker is open if it shall end that. */
static void take(peercache_node_t *node, struct calls *calls, uint64_t ns,
                 bool until_open, unsigned expected, struct sample *sample)
{
    uint64_t end_ns = bench_now() + ns;
    sample->n = 0;
    sample->n_wrong = 0;
    while (bench_now() < end_ns && sample->n < N_CALLS_MAX) {
        sample->took_ns[sample->n++] = call_once(node, calls);
        sample->n_wrong += n_ok(calls) != expected;
        if (until_open && breaker_is_open(node)) {
            return;
        }
    }
}

static void print_sample(const char *what, const char *when,
                         struct sample *sample)
{
    printf("%-22s %-22s %6u %9.3f %9.3f %9.3f %6u\n", what, when, sample->n,
           quantile_ms(sample, 0.5), quantile_ms(sample, 0.99),
           quantile_ms(sample, 1), sample->n_wrong);
    (void)fflush(stdout);
}

/* One kind of call through all three times. */
static bool measure(peercache_node_t *node, struct other *hung,
                    const char *what, struct calls *calls, unsigned expected,
                    struct sample *sample)
{
    take(node, calls, WARM_NS, false, expected, sample);
    print_sample(what, "nobody hangs", sample);
    (void)kill(hung->pid, SIGSTOP);
    take(node, calls, BREAKER_NS, true, expected, sample);
    print_sample(what, "before the breaker", sample);
    double worst = quantile_ms(sample, 1);
    bool ok = worst <= (double)TIMEOUT_NS / 1e6;
    take(node, calls, AFTER_NS, false, expected, sample);
    print_sample(what, "after it has opened", sample);
    ok = ok && quantile_ms(sample, 0.99) <= 2 * (double)HEDGE_NS / 1e6;
    (void)kill(hung->pid, SIGCONT);
    for (unsigned i = 0; i < 200 && breaker_is_open(node); i++) {
        (void)usleep(10000);
    }
    return ok && sample->n_wrong == 0;
}

static bool measure_all(peercache_node_t *node, struct other *hung)
{
    static struct sample sample;
    struct calls *present = calls_new(EXISTS, "value");
    struct calls *absent = calls_new(EXISTS, "nothing");
    struct calls *get = calls_new(GET, "value");
    bool ok = present != NULL && absent != NULL && get != NULL;
    printf("%-22s %-22s %6s %9s %9s %9s %6s\n", "128 keys", "one of 4 hangs",
           "calls", "p50 ms", "p99 ms", "max ms", "wrong");
    ok = ok && measure(node, hung, "exists, present", present, N_KEYS, &sample);
    ok = ok && measure(node, hung, "exists, absent", absent, 0, &sample);
    ok = ok && measure(node, hung, "get, 4 KiB, served", get, N_KEYS, &sample);
    calls_free(present);
    calls_free(absent);
    calls_free(get);
    printf("bars: within the deadline of %.0f ms before, p99 of %.0f ms (2 x "
           "hedge) after: %s\n",
           (double)TIMEOUT_NS / 1e6, 2 * (double)HEDGE_NS / 1e6,
           ok ? "met" : "missed");
    return ok;
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned port = 0;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
        port = ntohs(address.sin_port);
    }
    (void)close(fd);
    return port;
}

int bench_hung(void)
{
    unsigned port = free_port();
    struct other others[N_OTHERS] = {{0}};
    bool ok = port != 0;
    (void)signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; ok && i < N_OTHERS; i++) {
        ok = start_other(&others[i], i, port);
    }
    peercache_node_t *node = ok ? open_node(port, "caller", "64mib") : NULL;
    ok = node != NULL &&
         peercache_node_wait_ready(node, READY_NS) == PEERCACHE_OK;
    if (ok) {
        /* Until everybody sees everybody, and no former view is asked. */
        (void)sleep(SETTLE_S);
        ok = write(others[HOLDER].to, "p", 1) == 1 && is_ready(&others[HOLDER]);
    }
    if (ok) {
        ok = measure_all(node, &others[HUNG]);
    } else {
        (void)fprintf(stderr, "peercache-bench: the nodes did not start\n");
    }
    peercache_node_destroy(node);
    for (unsigned i = 0; i < N_OTHERS; i++) {
        end_other(&others[i]);
    }
    return ok ? 0 : 1;
}
