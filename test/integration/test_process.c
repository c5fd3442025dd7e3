/*
 * What a node does to the process that it lives in: signals, descriptors,
 * threads, shared memory, processor time; and what strangers can do to it by
 * its port.
 */
#include "host.h"

#include "transports/ucx/ledger.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#define LEN (16 * KIB)

/* ---- Signals ------------------------------------------------------------ */

static void note_signals(struct sigaction actions[65])
{
    memset(actions, 0, 65 * sizeof(actions[0]));
    for (int i = 1; i < 65; i++) {
        (void)sigaction(i, NULL, &actions[i]);
    }
}

static void no_signal(int number)
{
    (void)number;
}

/* In a process of its own, which has not loaded UCX yet. */
static void signals_alone(void **state)
{
    (void)state;
    struct sigaction before[65];
    struct sigaction after[65];
    struct sigaction ours = {.sa_handler = no_signal};
    sigset_t mask[2];
    assert_int_equal(sigaction(SIGSEGV, &ours, NULL), 0);
    note_signals(before);
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask[0]), 0);
    peercache_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    for (int round = 0; round < 2; round++) {
        peercache_node_t *node = host_node("%s", "ucx_tcp=lo");
        host_ready(node);
        note_signals(after);
        peercache_node_destroy(node);
        for (int i = 1; i < 65; i++) {
            if (before[i].sa_handler != after[i].sa_handler ||
                before[i].sa_flags != after[i].sa_flags) {
                fail_msg("signal %d has another handler", i);
            }
        }
    }
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask[1]), 0);
    assert_memory_equal(&mask[0], &mask[1], sizeof(mask[0]));
}

static void a_node_leaves_the_signal_handlers_of_its_process_alone(void **state)
{
    (void)state;
    assert_int_equal(host_run("signals_alone"), 0);
}

/* ---- Strangers ---------------------------------------------------------- */

static int visit(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
    return fd;
}

/* Whether the other end hangs up within some seconds. */
static bool is_hung_up_on(int fd)
{
    char bytes[4096];
    uint64_t until = pc_clock_monotonic() + 10 * PC_S;
    while (pc_clock_monotonic() < until) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        if (poll(&one, 1, 100) > 0 && recv(fd, bytes, sizeof(bytes), 0) <= 0) {
            return true;
        }
    }
    return false;
}

/* A prefix as transports/socket/frame.h draws it, with a magic that was
 * overheard from the node's own greeting. */
static void put_prefix(unsigned char *out, uint32_t magic, uint32_t head_len,
                       uint64_t body_len)
{
    memcpy(out, &magic, 4);
    memcpy(out + 4, &head_len, 4);
    memcpy(out + 8, &body_len, 8);
}

/* What an honest initiator says first, taken from a node that calls us. */
static size_t overhear(unsigned char *bytes, size_t len)
{
    uint16_t port = 0;
    int listener = host_hold_port(&port);
    size_t n = 0;
    assert_int_equal(listen(listener, 4), 0);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    while (n < 64) { /* The preamble, and some of the HELLO. */
        ssize_t part = recv(fd, bytes + n, len - n, 0);
        assert_true(part > 0);
        n += (size_t)part;
    }
    close(fd);
    close(listener);
    peercache_node_destroy(node);
    return n;
}

static void garbage_on_the_control_port_does_no_harm(void **state)
{
    (void)state;
    unsigned char greeting[4096];
    unsigned char bytes[65536];
    struct peer peer;
    uint32_t magic;
    uint16_t discovery = host_port();
    uint16_t port = host_port();
    size_t n = overhear(greeting, sizeof(greeting));
    memcpy(&magic, greeting, 4);
    host_log_keep();
    peercache_node_t *node = host_node(
        "control_port=%u discovery_addr=127.0.0.1:%u", port, discovery);
    host_ready(node);
    peer_start(&peer);
    (void)peer_tell(&peer, "ok", "start discovery_addr=127.0.0.1:%u",
                    discovery);
    (void)peer_tell(&peer, "OK", "ready");
    for (unsigned round = 0; round < 60; round++) {
        char seed[16];
        (void)snprintf(seed, sizeof(seed), "%u", round);
        value_fill(seed, bytes, sizeof(bytes));
        size_t len = 1 + round * 1000 % sizeof(bytes);
        int fd = visit(round % 2 == 0 ? port : discovery);
        switch (round % 6) {
        case 0: /* Noise. */
            break;
        case 1: /* Half of an honest greeting. */
            len = 1 + round % n;
            memcpy(bytes, greeting, len);
            break;
        case 2: /* An honest preamble, then a head of 4 GiB. */
            memcpy(bytes, greeting, 24);
            put_prefix(bytes + 24, magic, UINT32_MAX, 0);
            len = 40 + 100;
            break;
        case 3: /* ... a body of 16 EiB. */
            memcpy(bytes, greeting, 24);
            put_prefix(bytes + 24, magic, 16, UINT64_MAX);
            len = 40 + 100;
            break;
        case 4: /* ... a small head of noise. */
            memcpy(bytes, greeting, 24);
            put_prefix(bytes + 24, magic, 512, 0);
            len = 40 + 512;
            break;
        default: /* All of it, with one bit the other way. */
            len = n;
            memcpy(bytes, greeting, n);
            bytes[24 + round * 7 % (n - 24)] ^= (unsigned char)(1 << round % 8);
            break;
        }
        (void)!send(fd, bytes, len, MSG_NOSIGNAL);
        if (round % 6 == 0 || (round % 6 >= 2 && round % 6 <= 4)) {
            assert_true(is_hung_up_on(fd));
        }
        close(fd);
    }
    char prefix[16];
    (void)snprintf(prefix, sizeof(prefix), "after");
    (void)peer_tell(&peer, "OK 4 0", "put %s 4 %zu", prefix, LEN);
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, 4, LEN);
    batch_name(&batch, prefix, 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 4);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(host_metric(node, "members"), 2);
    batch_fini(&batch);
    peer_end(&peer);
    peercache_node_destroy(node);
}

/* Many that connect and say nothing are hung up on, and take nothing away. */
static void silent_strangers_are_sent_away(void **state)
{
    (void)state;
    int fds[64];
    uint16_t port = host_port();
    peercache_node_t *node =
        host_node("control_port=%u connect_timeout=300ms", port);
    host_ready(node);
    for (int i = 0; i < 64; i++) {
        fds[i] = visit(port);
    }
    for (int i = 0; i < 64; i++) {
        assert_true(is_hung_up_on(fds[i]));
        close(fds[i]);
    }
    peercache_node_destroy(node);
}

/* ---- Nothing is left behind --------------------------------------------- */

static unsigned count_entries(const char *path)
{
    unsigned n = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    (void)closedir(folder);
    return n;
}

/* SysV segments that this process made. */
static unsigned count_segments(void)
{
    char line[512];
    unsigned n = 0;
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        int creator = 0;
        n += sscanf(line, "%*s %*s %*s %*s %d", &creator) == 1 &&
             creator == (int)getpid();
    }
    (void)fclose(file);
    return n;
}

static unsigned count_mappings(void)
{
    char line[1024];
    unsigned n = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        n += strstr(line, "SYSV") != NULL || strstr(line, "/dev/shm") != NULL;
    }
    (void)fclose(file);
    return n;
}

/* Who made a file that UCX shares cannot be told: they are counted only in a
 * /dev/shm that no other program uses. A ledger says whose it is. */
static bool is_alone;

static bool is_our_ledger(int folder, const char *name)
{
    struct pc_ucx_ledger_page page;
    if (strncmp(name, PC_UCX_LEDGER_PREFIX, strlen(PC_UCX_LEDGER_PREFIX)) !=
        0) {
        return false;
    }
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    bool is_ours = fd >= 0 &&
                   read(fd, &page, sizeof(page)) == (ssize_t)sizeof(page) &&
                   page.pid == (uint64_t)getpid();
    if (fd >= 0) {
        close(fd);
    }
    return is_ours;
}

/* Of our own ledgers, or of all files that are ours to count. */
static unsigned count_files(bool ledgers)
{
    unsigned n = 0;
    DIR *folder = opendir(PC_UCX_LEDGER_FOLDER);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        n += (is_alone && !ledgers) ||
             is_our_ledger(dirfd(folder), entry->d_name);
    }
    (void)closedir(folder);
    return n;
}

struct leftovers
{
    unsigned descriptors, threads, segments, files, mappings;
};

static struct leftovers look(void)
{
    return (struct leftovers){
        count_entries("/proc/self/fd"), count_entries("/proc/self/task"),
        count_segments(), count_files(false), count_mappings()};
}

/* A busy machine may see a miss: a forced way, or a peer, that did not come in
 * time (no_path, peer_down, timed_out). Others have no excuse. */
static void get_all(struct batch *batch, peercache_node_t *node)
{
    static const char *const causes[] = {"not_found", "stale",     "corrupt",
                                         "no_path",   "peer_down", "timed_out"};
    if (batch_do(batch, node, PC_VERB_GET, 5 * PC_S) == PEERCACHE_OK) {
        return;
    }
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name),
                       "read_misses_by_cause_total{cause=\"%s\"}", causes[i]);
        uint64_t n = host_metric(node, name);
        print_message("missed: %s %llu\n", causes[i], (unsigned long long)n);
        assert_true(n == 0 || i > 2);
    }
    WAIT_UNTIL(batch_do(batch, node, PC_VERB_GET, 5 * PC_S) == PEERCACHE_OK,
               10);
}

static void live_and_end(uint16_t port, int round)
{
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, 4, LEN);
    batch_name(&batch, "kept", 0);
    peercache_node_t *node =
        host_node("ucx_tcp=lo discovery_addr=127.0.0.1:%u read_mode=%s", port,
                  round % 4 == 0   ? "one-sided"
                  : round % 4 == 1 ? "mapped"
                                   : "auto");
    if (round % 4 != 3) { /* Else it ends before it is a member. */
        host_ready(node);
        get_all(&batch, node);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 4);
        assert_int_equal(n_wrong, 0);
    }
    peercache_node_destroy(node);
    batch_fini(&batch);
}

static void fifty_nodes_one_after_the_other_leave_nothing_behind(void **state)
{
    (void)state;
    struct peer peer;
    uint16_t port = host_port();
    peer_start(&peer);
    (void)peer_tell(&peer, "ok", "start ucx_tcp=lo discovery_addr=127.0.0.1:%u",
                    port);
    (void)peer_tell(&peer, "OK", "ready");
    (void)peer_tell(&peer, "OK", "put kept 4 %zu", LEN);
    for (int round = 0; round < 4; round++) {
        live_and_end(port, round); /* What UCX and libc keep for good. */
    }
    struct leftovers before = look();
    for (int round = 0; round < 50; round++) {
        live_and_end(port, round);
    }
    /* The kernel removes a thread from the list after it was joined. */
    WAIT_UNTIL(count_entries("/proc/self/task") == before.threads, 5);
    struct leftovers after = look();
    assert_int_equal(after.descriptors, before.descriptors);
    assert_int_equal(after.segments, before.segments);
    assert_int_equal(after.mappings, before.mappings);
    assert_int_equal(after.segments, 0);
    assert_int_equal(after.files, before.files);
    assert_int_equal(count_files(true), 0);
    peer_end(&peer);
}

/* ---- Idle --------------------------------------------------------------- */

static uint64_t cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * PC_S + (uint64_t)now.tv_nsec;
}

static void an_idle_node_takes_next_to_no_processor_time(void **state)
{
    (void)state;
    struct peer peer;
    struct batch batch;
    uint16_t port = host_port();
    peer_start(&peer);
    (void)peer_tell(&peer, "ok",
                    "start ucx_tcp=lo discovery_addr=127.0.0.1:%u "
                    "heartbeat_interval=2 member_ttl=6",
                    port);
    (void)peer_tell(&peer, "OK", "ready");
    (void)peer_tell(&peer, "OK", "put idle 4 %zu", LEN);
    peercache_node_t *node = host_node("ucx_tcp=lo "
                                       "discovery_addr=127.0.0.1:%u "
                                       "heartbeat_interval=2 member_ttl=6",
                                       port);
    host_ready(node);
    batch_init(&batch, 4, LEN);
    batch_name(&batch, "idle", 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    /* The time is the measurement. */
    uint64_t began = pc_clock_monotonic();
    uint64_t cpu = cpu_ns();
    (void)poll(NULL, 0, 3000);
    cpu = cpu_ns() - cpu;
    double share = (double)cpu / (double)(pc_clock_monotonic() - began);
    print_message("an idle node takes %.2f %% of a core\n", 100 * share);
    assert_true(share < 0.05);
    batch_fini(&batch);
    peer_end(&peer);
    peercache_node_destroy(node);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(signals_alone),
    };
    if (argc == 2) {
        return host_alone(argv[1], alone, sizeof(alone) / sizeof(alone[0]),
                          NULL);
    }
    host_log_keep();
    is_alone = host_be_alone();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_node_leaves_the_signal_handlers_of_its_process_alone),
        cmocka_unit_test(garbage_on_the_control_port_does_no_harm),
        cmocka_unit_test(silent_strangers_are_sent_away),
        cmocka_unit_test(fifty_nodes_one_after_the_other_leave_nothing_behind),
        cmocka_unit_test(an_idle_node_takes_next_to_no_processor_time),
    };
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
