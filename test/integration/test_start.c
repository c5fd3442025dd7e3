/*
 * What can go wrong before and while a node starts: settings, ports, seeds that
 * are not there or are somebody else, limits of the host.
 */
#include "host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A node that must not come up; its configuration keeps the reason. */
static peercache_status_t create_in_vain(peercache_config_t *config)
{
    peercache_node_t *node = NULL;
    uint64_t began = pc_clock_monotonic();
    peercache_status_t status = peercache_node_create(config, &node);
    assert_int_not_equal(status, PEERCACHE_OK);
    assert_null(node);
    assert_true(pc_clock_monotonic() - began < 2 * PC_S);
    return status;
}

static void assert_says(const char *text, const char *what)
{
    if (strstr(text, what) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", text, what);
    }
}

/* Put and get on a node that has nobody else. */
static void works_alone(peercache_node_t *node)
{
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, 4, 32 * KIB);
    batch_name(&batch, "alone", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 5 * PC_S),
                     PEERCACHE_OK);
    batch_poison(&batch, 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 4);
    assert_int_equal(n_wrong, 0);
    batch_fini(&batch);
}

static void ends_soon(peercache_node_t *node)
{
    uint64_t began = pc_clock_monotonic();
    peercache_node_destroy(node);
    assert_true(pc_clock_monotonic() - began < 3 * PC_S);
}

/* ---- Settings ----------------------------------------------------------- */

static void all_bad_settings_are_told_at_once(void **state)
{
    (void)state;
    peercache_config_t *config = host_config("");
    assert_int_equal(peercache_config_set(config, "globl_segment_size", "1GiB"),
                     PEERCACHE_INVALID);
    assert_says(peercache_config_error(config), "globl_segment_size");
    assert_says(peercache_config_error(config), "\"global_segment_size\"");
    assert_int_equal(peercache_config_set(config, "control_port", "70000"),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_config_set(config, "read_mode", "psychic"),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_config_set(config, "heartbeat_interval", "10s"),
                     PEERCACHE_OK);
    assert_int_equal(create_in_vain(config), PEERCACHE_INVALID);
    const char *all = peercache_config_error(config);
    assert_says(all, "control_port = \"70000\"");
    assert_says(all, "0 to 65535");
    assert_says(all, "read_mode = \"psychic\"");
    assert_says(all, "auto, mapped, one-sided, served");
    assert_says(all, "member_ttl");
    /* Given right, all is forgiven. */
    assert_int_equal(peercache_config_set(config, "control_port", "0"),
                     PEERCACHE_OK);
    assert_int_equal(peercache_config_set(config, "read_mode", "auto"),
                     PEERCACHE_OK);
    assert_int_equal(peercache_config_set(config, "heartbeat_interval", "0.1"),
                     PEERCACHE_OK);
    assert_int_equal(peercache_config_check(config), PEERCACHE_OK);
    peercache_config_destroy(config);
}

/* ---- Ports -------------------------------------------------------------- */

static void a_control_port_in_use_is_a_clear_error(void **state)
{
    (void)state;
    char settings[64];
    char text[32];
    uint16_t port = 0;
    int fd = host_hold_port(&port);
    assert_int_equal(listen(fd, 1), 0);
    (void)snprintf(settings, sizeof(settings), "control_port=%u", port);
    (void)snprintf(text, sizeof(text), ":%u", port);
    peercache_config_t *config = host_config(settings);
    (void)create_in_vain(config);
    assert_says(peercache_config_error(config), "control_port");
    assert_says(peercache_config_error(config), text);
    close(fd);
    peercache_node_t *node = NULL;
    assert_int_equal(peercache_node_create(config, &node), PEERCACHE_OK);
    peercache_node_destroy(node);
    peercache_config_destroy(config);
}

static void a_seed_that_never_answers_leaves_the_node_working_alone(
    void **state)
{
    (void)state;
    uint16_t port = 0;
    int fd = host_hold_port(&port);
    assert_int_equal(listen(fd, 64), 0); /* Connects, and that is all. */
    uint64_t began = pc_clock_monotonic();
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    assert_true(pc_clock_monotonic() - began < 2 * PC_S);
    works_alone(node);
    assert_int_equal(peercache_node_wait_ready(node, 100 * PC_MS),
                     PEERCACHE_TIMED_OUT);
    ends_soon(node);
    close(fd);
}

struct stranger
{
    int listener;
    atomic_uint n_accepted;
};

/* Says many random bytes to everybody who comes, then hangs up. */
static void *babble(void *arg)
{
    struct stranger *stranger = arg;
    unsigned char bytes[4096];
    for (;;) {
        int fd = accept(stranger->listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        unsigned n = atomic_fetch_add_explicit(&stranger->n_accepted, 1,
                                               memory_order_relaxed);
        char seed[16];
        (void)snprintf(seed, sizeof(seed), "%u", n);
        value_fill(seed, bytes, sizeof(bytes));
        (void)!send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
        close(fd);
    }
}

static void a_seed_that_talks_nonsense_leaves_the_node_working_alone(
    void **state)
{
    (void)state;
    uint16_t port = 0;
    pthread_t thread;
    struct stranger stranger = {.listener = host_hold_port(&port)};
    assert_int_equal(listen(stranger.listener, 64), 0);
    assert_int_equal(pthread_create(&thread, NULL, babble, &stranger), 0);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    works_alone(node);
    WAIT_UNTIL(atomic_load(&stranger.n_accepted) >= 3, 10);
    works_alone(node);
    assert_int_equal(peercache_node_wait_ready(node, PC_MS),
                     PEERCACHE_TIMED_OUT);
    ends_soon(node);
    (void)shutdown(stranger.listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(stranger.listener);
}

static void a_node_without_a_reachable_seed_joins_when_there_is_one(
    void **state)
{
    (void)state;
    struct peer peer;
    uint16_t port = 0;
    int fd = host_hold_port(&port); /* Connections are refused. */
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    works_alone(node);
    assert_int_equal(peercache_node_wait_ready(node, 50 * PC_MS),
                     PEERCACHE_TIMED_OUT);
    close(fd);
    host_ready(node);
    peer_start(&peer);
    (void)peer_tell(&peer, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&peer, "OK", "ready");
    (void)peer_tell(&peer, "OK 4 0", "get alone 4 %zu", 32 * KIB);
    peer_end(&peer);
    ends_soon(node);
}

/* ---- The first moments -------------------------------------------------- */

static void a_first_get_waits_half_a_second_for_a_view_and_no_longer(
    void **state)
{
    (void)state;
    struct batch batch;
    uint16_t port = 0;
    int fd = host_hold_port(&port);
    assert_int_equal(listen(fd, 64), 0);
    batch_init(&batch, 1, 4 * KIB);
    batch_name(&batch, "nowhere", 0);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    uint64_t began = pc_clock_monotonic();
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_PARTIAL);
    uint64_t took = pc_clock_monotonic() - began;
    assert_int_equal(batch.items[0].status, PEERCACHE_NOT_FOUND);
    assert_true(took < 500 * PC_MS + HOST_SLACK_NS);
    began = pc_clock_monotonic();
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_PARTIAL);
    assert_true(pc_clock_monotonic() - began < HOST_SLACK_NS);
    ends_soon(node);
    batch_fini(&batch);
    close(fd);
}

static void a_first_get_finds_what_the_cluster_has(void **state)
{
    (void)state;
    struct peer peer;
    struct batch batch;
    size_t n_wrong;
    uint16_t port = host_port();
    peer_start(&peer);
    (void)peer_tell(&peer, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&peer, "OK", "ready");
    (void)peer_tell(&peer, "OK", "put early 8 %zu", 16 * KIB);
    batch_init(&batch, 8, 16 * KIB);
    batch_name(&batch, "early", 0);
    for (int round = 0; round < 3; round++) {
        peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
        peercache_status_t status =
            batch_do(&batch, node, PC_VERB_GET, 5 * PC_S);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 8);
        assert_int_equal(n_wrong, 0);
        assert_int_equal(status, PEERCACHE_OK);
        ends_soon(node);
    }
    batch_fini(&batch);
    peer_end(&peer);
}

/* ---- Limits ------------------------------------------------------------- */

/* A device that no host has, so that it holds beside RDMA cards as well. */
static void strict_rdma_without_a_device_is_a_clear_error(void **state)
{
    (void)state;
    host_log_keep();
    peercache_config_t *config =
        host_config("protocol_strict=true device_name=nosuchcard");
    assert_int_equal(create_in_vain(config), PEERCACHE_UNSUPPORTED);
    assert_says(peercache_config_error(config), "protocol_strict = true");
    assert_true(host_log_count(PEERCACHE_LOG_WARN, "nosuchcard:1 is not used",
                               "no such RDMA port") == 1);
    peercache_config_destroy(config);
    /* It is for RDMA only, and a wish is enough without it. */
    peercache_node_t *node = host_node("%s", "protocol_strict=true "
                                             "protocol=tcp");
    peercache_node_destroy(node);
    node = host_node("%s", "device_name=nosuchcard");
    peercache_node_destroy(node);
}

static void a_pool_larger_than_memory_is_a_clear_error(void **state)
{
    (void)state;
    peercache_config_t *config =
        host_config("global_segment_size=1PiB region_size=1GiB");
    assert_int_equal(create_in_vain(config), PEERCACHE_NO_MEMORY);
    assert_says(peercache_config_error(config), "global_segment_size");
    assert_says(peercache_config_error(config), "1125899906842624");
    peercache_config_destroy(config);
}

static void with_limit(int resource, rlim_t value, const char *settings,
                       const char *one, const char *other)
{
    struct rlimit before;
    assert_int_equal(getrlimit(resource, &before), 0);
    struct rlimit now = {value, before.rlim_max};
    assert_int_equal(setrlimit(resource, &now), 0);
    peercache_config_t *config = host_config(settings);
    (void)create_in_vain(config);
    assert_says(peercache_config_error(config), one);
    assert_says(peercache_config_error(config), other);
    peercache_config_destroy(config);
    assert_int_equal(setrlimit(resource, &before), 0);
}

/* The limit is none for who may lock as much as he likes. */
static void may_lock(bool may)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    assert_int_equal(syscall(SYS_capget, &header, data), 0);
    uint32_t bit = 1u << CAP_IPC_LOCK;
    data[0].effective &= ~bit;
    data[0].effective |= may ? data[0].permitted & bit : 0;
    assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void a_small_limit_of_locked_memory_is_a_clear_error(void **state)
{
    (void)state;
    may_lock(false);
    with_limit(RLIMIT_MEMLOCK, 64 * KIB, "lock_memory=true", "lock_memory",
               "65536");
    may_lock(true);
}

static void a_small_limit_of_descriptors_is_a_clear_error(void **state)
{
    (void)state;
    with_limit(RLIMIT_NOFILE, 32, "", "ulimit -n", "32");
}

/* Take descriptors until `left` are; returns how many, in fds. */
static size_t take_descriptors(int *fds, size_t max, size_t left)
{
    size_t n = 0;
    while (n < max && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        n++;
    }
    assert_true(n < max && n >= left);
    while (left-- > 0) {
        close(fds[--n]);
    }
    return n;
}

static void give_descriptors(const int *fds, size_t n)
{
    while (n > 0) {
        close(fds[--n]);
    }
}

/* In a process of its own, for its limit. A new peer connects while nothing
 * can be accepted: it joins when there are descriptors again. */
static void descriptors_alone(void **state)
{
    (void)state;
    static int fds[512];
    struct peer peer;
    struct rlimit limit;
    uint16_t port = host_port();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    peercache_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    peer_start(&peer);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    host_ready(node);
    works_alone(node);
    size_t n = take_descriptors(fds, 512, 0);
    (void)peer_tell(&peer, "ok", "start discovery_addr=127.0.0.1:%u", port);
    peer_say(&peer, "ready");
    works_alone(node);
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec cpu[2];
    uint64_t began = pc_clock_monotonic();
    assert_int_equal(clock_gettime(clock, &cpu[0]), 0);
    while (pc_clock_monotonic() - began < 500 * PC_MS) {
        (void)poll(NULL, 0, 50);
    }
    assert_int_equal(clock_gettime(clock, &cpu[1]), 0);
    double used = (double)(cpu[1].tv_sec - cpu[0].tv_sec) +
                  (double)(cpu[1].tv_nsec - cpu[0].tv_nsec) / 1e9;
    assert_true(used < 0.25); /* Nobody spins on the backlog. */
    works_alone(node);
    give_descriptors(fds, n);
    (void)peer_hear(&peer, "OK");
    (void)peer_tell(&peer, "OK 4 0", "get alone 4 %zu", 32 * KIB);
    peer_end(&peer);
    peercache_node_destroy(node);
}

static void descriptors_that_run_out_later_stop_nothing(void **state)
{
    (void)state;
    assert_int_equal(host_run("descriptors_alone"), 0);
}

/* However few there are, a node comes up whole or is a clear error. */
static void few_descriptors_alone(void **state)
{
    (void)state;
    static int fds[512];
    struct rlimit limit;
    unsigned n_up = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    host_log_keep();
    for (size_t left = 0; left < 96; left += 3) {
        peercache_config_t *config = host_config("ucx_tcp=lo");
        peercache_node_t *node = NULL;
        size_t n = take_descriptors(fds, 512, left);
        if (peercache_node_create(config, &node) == PEERCACHE_OK) {
            works_alone(node);
            n_up++;
        } else {
            assert_true(peercache_config_error(config)[0] != '\0');
        }
        peercache_node_destroy(node);
        give_descriptors(fds, n);
        peercache_config_destroy(config);
    }
    assert_true(n_up > 0);
}

static void a_start_with_few_descriptors_left_succeeds_or_says_why(void **state)
{
    (void)state;
    assert_int_equal(host_run("few_descriptors_alone"), 0);
}

/* 16 MiB of /dev/shm in a mount name space of our own. */
static void small_shm_alone(void **state)
{
    (void)state;
    struct peer peer;
    struct batch batch;
    size_t n_wrong;
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=16m") != 0) {
        skip(); /* Not the rights for a mount of our own. */
    }
    host_log_keep();
    uint16_t port = host_port();
    peer_start(&peer);
    (void)peer_tell(&peer, "ok", "start discovery_addr=127.0.0.1:%u", port);
    (void)peer_tell(&peer, "OK", "ready");
    (void)peer_tell(&peer, "OK", "put small 8 %zu", 64 * KIB);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    host_ready(node);
    batch_init(&batch, 8, 64 * KIB);
    batch_name(&batch, "small", 0);
    for (int round = 0; round < 3; round++) {
        batch_poison(&batch, 0);
        assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(batch_count_ok(&batch, &n_wrong), 8);
        assert_int_equal(n_wrong, 0);
        assert_int_equal(batch.items[0].source, PEERCACHE_FROM_SERVED);
    }
    works_alone(node);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "/dev/shm", "mapped"),
                     1);
    batch_fini(&batch);
    peer_end(&peer);
    peercache_node_destroy(node);
}

static void too_little_shared_memory_turns_mapped_reads_off_and_says_so_once(
    void **state)
{
    (void)state;
    assert_int_equal(host_run("small_shm_alone"), 0);
}

/* ---- Trust -------------------------------------------------------------- */

static void a_seed_beyond_loopback_is_not_asked_without_leave(void **state)
{
    (void)state;
    host_log_keep();
    peercache_node_t *node = host_node("discovery_addr=192.0.2.1:31998");
    works_alone(node);
    assert_int_equal(host_log_count(PEERCACHE_LOG_ERROR, "cluster_key_file",
                                    "allow_insecure"),
                     1);
    assert_int_equal(host_log_count(PEERCACHE_LOG_ERROR, "", ""), 1);
    ends_soon(node);
}

static void an_address_beyond_loopback_is_not_bound_without_leave(void **state)
{
    (void)state;
    peercache_config_t *config = host_config("control_bind_host=0.0.0.0");
    assert_int_equal(create_in_vain(config), PEERCACHE_INVALID);
    assert_says(peercache_config_error(config), "control_bind_host");
    assert_says(peercache_config_error(config), "allow_insecure");
    peercache_config_destroy(config);
}

/* Both sides say why, and neither sees the other's values. */
static void refuse_each_other(const char *ours, const char *theirs,
                              const char *name)
{
    uint16_t port = host_port();
    struct batch batch;
    host_log_keep();
    peercache_node_t *first =
        host_node("discovery_addr=127.0.0.1:%u node_id=first %s", port, ours);
    host_ready(first);
    works_alone(first);
    peercache_node_t *second = host_node(
        "discovery_addr=127.0.0.1:%u node_id=second %s", port, theirs);
    WAIT_UNTIL(host_log_count(PEERCACHE_LOG_WARN, name, "") >= 2, 10);
    assert_true(host_log_count(PEERCACHE_LOG_WARN, name, "refused node") > 0);
    assert_true(host_log_count(PEERCACHE_LOG_WARN, name, "refused by") > 0);
    batch_init(&batch, 1, 32 * KIB);
    batch_name(&batch, "alone", 0);
    assert_int_equal(batch_do(&batch, second, PC_VERB_GET, PC_S),
                     PEERCACHE_PARTIAL);
    assert_int_equal(batch.items[0].status, PEERCACHE_NOT_FOUND);
    works_alone(second);
    assert_int_equal(host_metric(first, "members"), 1);
    batch_fini(&batch);
    ends_soon(second);
    ends_soon(first);
}

static void nodes_of_two_clusters_refuse_each_other(void **state)
{
    (void)state;
    refuse_each_other("", "cluster_name=another", "cluster_name");
}

static void nodes_with_different_vnodes_refuse_each_other(void **state)
{
    (void)state;
    refuse_each_other("vnodes=160", "vnodes=128", "vnodes");
}

static void nodes_with_different_salts_refuse_each_other(void **state)
{
    (void)state;
    refuse_each_other("", "digest_salt=pepper", "digest_salt");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(descriptors_alone),
        cmocka_unit_test(few_descriptors_alone),
        cmocka_unit_test(small_shm_alone),
    };
    if (argc == 2) {
        return host_alone(argv[1], alone, sizeof(alone) / sizeof(alone[0]),
                          NULL);
    }
    host_log_keep();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bad_settings_are_told_at_once),
        cmocka_unit_test(a_control_port_in_use_is_a_clear_error),
        cmocka_unit_test(
            a_seed_that_never_answers_leaves_the_node_working_alone),
        cmocka_unit_test(
            a_seed_that_talks_nonsense_leaves_the_node_working_alone),
        cmocka_unit_test(
            a_node_without_a_reachable_seed_joins_when_there_is_one),
        cmocka_unit_test(
            a_first_get_waits_half_a_second_for_a_view_and_no_longer),
        cmocka_unit_test(a_first_get_finds_what_the_cluster_has),
        cmocka_unit_test(strict_rdma_without_a_device_is_a_clear_error),
        cmocka_unit_test(a_pool_larger_than_memory_is_a_clear_error),
        cmocka_unit_test(a_small_limit_of_locked_memory_is_a_clear_error),
        cmocka_unit_test(a_small_limit_of_descriptors_is_a_clear_error),
        cmocka_unit_test(descriptors_that_run_out_later_stop_nothing),
        cmocka_unit_test(
            a_start_with_few_descriptors_left_succeeds_or_says_why),
        cmocka_unit_test(
            too_little_shared_memory_turns_mapped_reads_off_and_says_so_once),
        cmocka_unit_test(a_seed_beyond_loopback_is_not_asked_without_leave),
        cmocka_unit_test(an_address_beyond_loopback_is_not_bound_without_leave),
        cmocka_unit_test(nodes_of_two_clusters_refuse_each_other),
        cmocka_unit_test(nodes_with_different_vnodes_refuse_each_other),
        cmocka_unit_test(nodes_with_different_salts_refuse_each_other),
    };
    return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
