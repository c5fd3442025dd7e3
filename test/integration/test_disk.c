/*
 * The disk tier of real processes on a real file system: read from disk by
 * another node in each read mode, kill -9 and start again, two ranks of one
 * host, directories that cannot be had.
 */
#include "host.h"

#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>

#define LEN   (128 * KIB)
#define N     32
#define OTHER 600

static char folder[64];

static int forget(const char *path, const struct stat *info, int kind,
                  struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static int folder_make(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/peercache-disk-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int folder_remove(void **state)
{
    (void)state;
    return nftw(folder, forget, 16, FTW_DEPTH | FTW_PHYS);
}

static bool command(peercache_node_t *node, char *line, char *out,
                    size_t out_len)
{
    if (strncmp(line, "metric ", 7) == 0) {
        (void)snprintf(out, out_len, "%llu",
                       (unsigned long long)host_metric(node, line + 7));
        return true;
    }
    return false;
}

static uint64_t metric(struct peer *peer, const char *name)
{
    return strtoull(peer_tell(peer, "", "metric %s", name), NULL, 10);
}

static void start_holder(struct peer *peer, uint16_t port, const char *more)
{
    peer_start(peer);
    (void)peer_tell(peer, "ok",
                    "start discovery_addr=127.0.0.1:%u node_id=holder "
                    "ucx_tcp=lo global_segment_size=64MiB region_size=64MiB "
                    "disk_enabled=true disk_path=%s disk_size=256MiB %s",
                    port, folder, more);
    (void)peer_tell(peer, "OK", "ready");
}

static void tell_why_not(struct peer *peer)
{
    static const char *const names[] = {
        "disk_state",
        "disk_recovering",
        "disk_keys",
        "disk_writes_total",
        "disk_dropped_total{cause=\"queue\"}",
        "disk_dropped_total{cause=\"pins\"}",
        "disk_dropped_total{cause=\"no_space\"}",
        "disk_dropped_total{cause=\"io\"}",
        "disk_dropped_total{cause=\"removed\"}",
        "disk_dropped_total{cause=\"no_memory\"}",
        "pool_keys",
        "evictions_total",
        "disk_announced_total",
        "promotes_total"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)fprintf(stderr, "%s %llu\n", names[i],
                      (unsigned long long)metric(peer, names[i]));
    }
}

static void wait_written(struct peer *peer, uint64_t n)
{
    uint64_t end_ns = pc_clock_monotonic() + 20 * PC_S;
    while (metric(peer, "disk_writes_total") < n) {
        if (pc_clock_monotonic() > end_ns) {
            tell_why_not(peer);
            fail_msg("%llu values are not written", (unsigned long long)n);
        }
        (void)poll(NULL, 0, 1);
    }
}

/* N values "old", on disk, and enough others to push them out of the pool. */
static void fill_holder(struct peer *peer)
{
    (void)peer_tell(peer, "OK 32 0", "put old %d %zu", N, LEN);
    wait_written(peer, N);
    for (int i = 0; i < OTHER / 50; i++) {
        (void)peer_tell(peer, "OK 50 0", "put o%d- 50 %zu", i, LEN);
        /* Slower than memory: more than it may pin would not be written. */
        wait_written(peer, (uint64_t)(N + 50 * (i + 1)));
    }
    assert_true(metric(peer, "evictions_total") > N);
}

static void get_all(peercache_node_t *node, const char *prefix, size_t n,
                    peercache_source_t source)
{
    struct batch batch;
    size_t n_wrong = 0;
    batch_init(&batch, n, LEN);
    batch_name(&batch, prefix, 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), n);
    assert_int_equal(n_wrong, 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(batch.items[i].source, source);
    }
    batch_fini(&batch);
}

static bool all_are_there(peercache_node_t *node, const char *prefix, size_t n)
{
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, n, LEN);
    batch_name(&batch, prefix, 0);
    (void)batch_do(&batch, node, PC_VERB_EXISTS, 5 * PC_S);
    size_t n_ok = batch_count_ok(&batch, &n_wrong);
    batch_fini(&batch);
    return n_ok == n;
}

static void another_node_reads_from_disk_in_each_mode(void **state)
{
    (void)state;
    static const struct
    {
        const char *mode;
        peercache_source_t source;
    } cases[] = {{"auto", PEERCACHE_FROM_DISK},
                 {"served", PEERCACHE_FROM_DISK},
                 {"one-sided", PEERCACHE_FROM_ONE_SIDED},
                 {"mapped", PEERCACHE_FROM_MAPPED}};
    for (size_t k = 0; k < 4; k++) {
        struct peer holder;
        uint16_t port = host_port();
        start_holder(&holder, port, "");
        fill_holder(&holder);
        peercache_node_t *node =
            host_node("discovery_addr=127.0.0.1:%u ucx_tcp=lo read_mode=%s",
                      port, cases[k].mode);
        host_ready(node);
        get_all(node, "old", 16, cases[k].source);
        assert_int_equal(metric(&holder, "promotes_total"), 16);
        (void)peer_tell(&holder, "OK 32 0", "get old %d %zu", N, LEN);
        peercache_node_destroy(node);
        peer_end(&holder);
        assert_int_equal(folder_remove(NULL), 0);
        assert_int_equal(folder_make(NULL), 0);
    }
}

static void a_killed_node_hits_at_once_when_it_is_back(void **state)
{
    (void)state;
    struct peer holder;
    uint16_t port = host_port();
    start_holder(&holder, port, "");
    fill_holder(&holder);
    (void)peer_tell(&holder, "OK", "remove o0- 4");
    peer_kill(&holder);
    start_holder(&holder, port, "");
    WAIT_UNTIL(metric(&holder, "disk_recovering") == 0 &&
                   metric(&holder, "pool_capacity_bytes") > 0,
               20);
    (void)peer_tell(&holder, "OK 32 0", "get old %d %zu", N, LEN);
    (void)peer_tell(&holder, "PARTIAL 0 0", "get o0- 4 %zu", LEN);
    peercache_node_t *node = host_node("discovery_addr=127.0.0.1:%u", port);
    host_ready(node);
    /* What it has promoted meanwhile it announces as of its pool. */
    WAIT_UNTIL(all_are_there(node, "o1-", 16), 20);
    get_all(node, "o1-", 16, PEERCACHE_FROM_DISK);
    peercache_node_destroy(node);
    peer_end(&holder);
}

static void ranks_have_directories_of_their_own_and_keep_them(void **state)
{
    (void)state;
    struct stat info;
    char path[256];
    peercache_node_t *nodes[2];
    for (int i = 0; i < 2; i++) {
        nodes[i] = host_node("node_id=rank%d disk_enabled=true disk_path=%s "
                             "disk_size=16MiB",
                             i, folder);
    }
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/rank%d", folder, i);
        assert_int_equal(stat(path, &info), 0);
        peercache_node_destroy(nodes[i]);
    }
}

/* A directory that another has, or that cannot be made: a loud line, and a node
 * that works without a disk. */
static void a_node_without_its_directory_works_in_memory(void **state)
{
    (void)state;
    peercache_node_t *first = host_node("node_id=one disk_enabled=true "
                                        "disk_path=%s disk_size=16MiB",
                                        folder);
    host_log_keep();
    peercache_node_t *second = host_node("node_id=one disk_enabled=true "
                                         "disk_path=%s disk_size=16MiB",
                                         folder);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "no disk tier", folder),
                     1);
    peercache_node_t *third =
        host_node("disk_enabled=true disk_path=/proc/nowhere disk_size=16MiB");
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_WARN, "no disk tier", "/proc/nowhere"), 1);
    peercache_node_t *nodes[] = {first, second, third};
    for (int i = 0; i < 3; i++) {
        struct batch batch;
        batch_init(&batch, 4, LEN);
        batch_name(&batch, "x", 0);
        batch_fill(&batch);
        assert_int_equal(batch_do(&batch, nodes[i], PC_VERB_PUT, 5 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(batch_do(&batch, nodes[i], PC_VERB_GET, 5 * PC_S),
                         PEERCACHE_OK);
        assert_int_equal(host_metric(nodes[i], "disk_state"), i == 0);
        batch_fini(&batch);
        peercache_node_destroy(nodes[i]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, command);
    }
    host_log_keep();
    const struct CMUnitTest tests[] = {
#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)
        CASE(another_node_reads_from_disk_in_each_mode),
        CASE(a_killed_node_hits_at_once_when_it_is_back),
        CASE(ranks_have_directories_of_their_own_and_keep_them),
        CASE(a_node_without_its_directory_works_in_memory),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
