/*
 * Where pool and engine go on a real machine, what the pool is made of, and the
 * limits that are looked at first: with the rights, settings and control groups
 * that a container gives and takes.
 */
#include "host.h"
#include "topo_xml.h"

#include "node/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- Helpers ------------------------------------------------------------ */

static void wait_for_pool(peercache_node_t *node)
{
    WAIT_UNTIL(pc_event_get(&node->pool_ready) == 2, 30);
}

/* What was decided is among the metrics, too. */
static void assert_in_metrics(peercache_node_t *node, const char *labels)
{
    char *text;
    assert_int_equal(peercache_node_metrics(node, &text), PEERCACHE_OK);
    const char *line = strstr(text, "\npeercache_placement_info{");
    assert_non_null(line);
    const char *found = strstr(line, labels);
    assert_non_null(found);
    assert_true(found < strchr(line + 1, '\n'));
    peercache_free(text);
}

static void assert_in_info(peercache_node_t *node, const char *part)
{
    char *text = NULL;
    assert_int_equal(peercache_node_info(node, &text), PEERCACHE_OK);
    if (strstr(text, part) == NULL) {
        fail_msg("no %s in %s", part, text);
    }
    peercache_free(text);
}

/* Each kind of pages is a line of its own. */
static uint64_t pool_memory(peercache_node_t *node)
{
    uint64_t sum = 0;
    char *text = NULL;
    assert_int_equal(peercache_node_metrics(node, &text), PEERCACHE_OK);
    for (const char *at = text;
         (at = strstr(at, "\npeercache_pool_memory_bytes{")) != NULL; at++) {
        sum += strtoull(strchr(at, '}') + 1, NULL, 10);
    }
    peercache_free(text);
    return sum;
}

static void works(peercache_node_t *node)
{
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, 8, 64 * KIB);
    batch_name(&batch, "place", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 5 * PC_S),
                     PEERCACHE_OK);
    batch_poison(&batch, 0x11);
    assert_int_equal(batch_do(&batch, node, PC_VERB_GET, 5 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 8);
    assert_int_equal(n_wrong, 0);
    batch_fini(&batch);
}

/* Threads of this process that may run on exactly this CPU. */
static unsigned threads_on(unsigned cpu)
{
    char path[300];
    char line[256];
    char wanted[64];
    unsigned n = 0;
    (void)snprintf(wanted, sizeof(wanted), "Cpus_allowed_list:\t%u\n", cpu);
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/status",
                       task->d_name);
        FILE *file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            n += strcmp(line, wanted) == 0;
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    (void)closedir(tasks);
    return n;
}

/* The line of smaps that begins with `name`, of the mapping at addr. */
static bool mapping_line(const void *addr, const char *name, char *line,
                         int len)
{
    bool here = false;
    uint64_t wanted = (uint64_t)(uintptr_t)addr;
    FILE *file = fopen("/proc/self/smaps", "re");
    assert_non_null(file);
    while (fgets(line, len, file) != NULL) {
        uint64_t from;
        uint64_t to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            here = wanted >= from && wanted < to;
        } else if (here && strncmp(line, name, strlen(name)) == 0) {
            (void)fclose(file);
            return true;
        }
    }
    (void)fclose(file);
    return false;
}

static void may(int capability, bool yes)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    assert_int_equal(syscall(SYS_capget, &header, data), 0);
    uint32_t bit = 1u << capability;
    data[0].effective &= ~bit;
    data[0].effective |= yes ? data[0].permitted & bit : 0;
    assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

/* ---- Binding ------------------------------------------------------------ */

static void pool_and_engine_go_where_the_settings_say(void **state)
{
    (void)state;
    struct pc_cpus mine;
    char labels[64];
    unsigned cpu = PC_CPUS_MAX - 1;
    pc_cpus_of_thread(&mine);
    while (!pc_cpus_has(&mine, cpu)) {
        cpu--;
    }
    unsigned before = threads_on(cpu);
    host_log_keep();
    peercache_node_t *node = host_node("numa_node=0 engine_cpus=%u", cpu);
    wait_for_pool(node);
    works(node);
    if (pc_cpus_count(&mine) > 1) {
        WAIT_UNTIL(threads_on(cpu) == before + 1, 5);
        assert_int_equal(host_metric(node, "engine_bound"), 1);
    }
    assert_in_info(node, "\"numa_nodes\":\"0\"");
    assert_in_info(node, "\"why\":\"by numa_node\"");
    (void)snprintf(labels, sizeof(labels),
                   "numa_nodes=\"0\",engine_cpus=\"%u\"} 1", cpu);
    assert_in_metrics(node, labels);
    assert_int_equal(host_log_count(PEERCACHE_LOG_INFO, "pool on NUMA node 0",
                                    "engine on CPUs"),
                     1);
    int mode = -1;
    unsigned long mask[16] = {0};
    assert_int_equal(syscall(SYS_get_mempolicy, &mode, mask, 1024,
                             node->regions[0].addr, MPOL_F_ADDR),
                     0);
    if (host_log_count(PEERCACHE_LOG_WARN, "memory", "cannot be bound") == 0) {
        assert_int_equal(mode, MPOL_PREFERRED);
        assert_int_equal(mask[0], 1);
        assert_int_equal(host_metric(node, "pool_bound_bytes"), 16 * MIB);
    }
    peercache_node_destroy(node);
}

static void settings_that_cannot_be_followed_are_one_warning(void **state)
{
    (void)state;
    host_log_keep();
    peercache_node_t *node =
        host_node("numa_node=4711 engine_cpus=8191 region_size=4MiB");
    wait_for_pool(node);
    works(node);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "cannot be bound", ""),
                     0);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "NUMA node 4711",
                                    "CPUs in engine_cpus"),
                     1);
    assert_in_info(node, "\"unmet\":\"there is no NUMA node 4711");
    assert_int_equal(host_metric(node, "engine_bound"), 0);
    assert_int_equal(host_metric(node, "pool_bound_bytes"), 0);
    peercache_node_destroy(node);
}

/* A device of this host with an address beyond loopback. */
static bool find_nic(char *name, char *ip, size_t len)
{
    struct ifaddrs *list;
    bool found = false;
    assert_int_equal(getifaddrs(&list), 0);
    for (struct ifaddrs *at = list; at != NULL && !found; at = at->ifa_next) {
        if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET ||
            (at->ifa_flags & IFF_LOOPBACK) != 0) {
            continue;
        }
        uint32_t bits =
            ntohl(((struct sockaddr_in *)at->ifa_addr)->sin_addr.s_addr);
        (void)snprintf(name, len, "%s", at->ifa_name);
        (void)snprintf(ip, len, "%u.%u.%u.%u", bits >> 24, bits >> 16 & 255,
                       bits >> 8 & 255, bits & 255);
        found = true;
    }
    freeifaddrs(list);
    return found;
}

/* The NIC that connections go over, on a machine of eight nodes that hwloc
 * reads from a file: planned, said, and nothing bound. */
static void the_nic_in_use_alone(void **state)
{
    (void)state;
    char path[] = "/tmp/pc-topo-XXXXXX";
    char nic[64];
    char ip[64];
    struct pc_text xml;
    if (!find_nic(nic, ip, sizeof(nic))) {
        skip();
    }
    const struct topo_device devices[] = {{"other0", false, 2},
                                          {nic, false, 5}};
    pc_text_init(&xml);
    topo_xml(&xml, 8, devices, 2);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, xml.data, xml.len), xml.len);
    close(fd);
    pc_text_fini(&xml);
    assert_int_equal(setenv("HWLOC_XMLFILE", path, 1), 0);
    host_log_keep();
    peercache_node_t *node =
        host_node("allow_insecure=true control_bind_host=%s", ip);
    wait_for_pool(node);
    works(node);
    assert_in_info(node, "\"numa_nodes\":\"5\",\"engine_cpus\":\"20-23\"");
    assert_in_metrics(node, "numa_nodes=\"5\",engine_cpus=\"20-23\"} 1");
    assert_int_equal(host_log_count(PEERCACHE_LOG_INFO, "nothing is bound",
                                    "is at NUMA node 5"),
                     1);
    assert_int_equal(host_metric(node, "engine_bound"), 0);
    assert_int_equal(host_metric(node, "pool_bound_bytes"), 0);
    peercache_node_destroy(node);
    assert_int_equal(unlink(path), 0);
}

static void the_nic_in_use_decides(void **state)
{
    (void)state;
    assert_int_equal(host_run("the_nic_in_use_alone"), 0);
}

/* As Docker's filter does: EPERM for calls that bind. */
static void forbid_to_bind(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void no_permission_to_bind_alone(void **state)
{
    (void)state;
    forbid_to_bind();
    host_log_keep();
    peercache_node_t *node =
        host_node("numa_node=0 engine_cpus=0 region_size=4MiB");
    wait_for_pool(node);
    works(node);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_WARN, "memory cannot be bound", ""), 1);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_WARN, "thread cannot be bound", ""), 1);
    assert_int_equal(host_metric(node, "pool_bound_bytes"), 0);
    assert_int_equal(host_metric(node, "engine_bound"), 0);
    assert_int_equal(pool_memory(node), 16 * MIB);
    peercache_node_destroy(node);
}

static void no_permission_to_bind_is_one_line_each(void **state)
{
    (void)state;
    assert_int_equal(host_run("no_permission_to_bind_alone"), 0);
}

/* ---- What the pool is made of ------------------------------------------- */

static void pages_are_named_and_left_out_of_core_dumps(void **state)
{
    (void)state;
    static const char *const settings[] = {"huge_pages=true",
                                           "huge_pages=false"};
    for (size_t i = 0; i < 2; i++) {
        char line[256];
        peercache_node_t *node = host_node("%s", settings[i]);
        wait_for_pool(node);
        works(node);
        const void *addr = node->regions[0].addr;
        assert_true(mapping_line(addr, "VmFlags:", line, sizeof(line)));
        assert_non_null(strstr(line, " dd"));
        bool from_pool = strstr(line, " ht") != NULL;
        assert_int_equal(node->place.pages[PC_PAGES_HUGE] > 0, from_pool);
        assert_int_equal(pool_memory(node), 16 * MIB);
        assert_true(i == 0 || node->place.pages[PC_PAGES_PLAIN] == 16 * MIB);
        peercache_node_destroy(node);
    }
}

/* The words: a pool of huge pages that is empty. Where it is not, this
 * test takes what is there first. */
static void an_empty_pool_of_huge_pages_alone(void **state)
{
    (void)state;
    struct pc_limits limits;
    pc_limits_look("", &limits);
    if (limits.huge_free > 0 &&
        mmap(NULL, (size_t)limits.huge_free, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) == MAP_FAILED) {
        skip();
    }
    peercache_node_t *node = host_node("huge_pages=true region_size=4MiB");
    wait_for_pool(node);
    works(node);
    assert_int_equal(node->place.pages[PC_PAGES_HUGE], 0);
    assert_int_equal(pool_memory(node), 16 * MIB);
    assert_int_equal(host_metric(node, "pool_shared_bytes"), 16 * MIB);
    peercache_node_destroy(node);
}

static void an_empty_pool_of_huge_pages_gives_other_pages(void **state)
{
    (void)state;
    assert_int_equal(host_run("an_empty_pool_of_huge_pages_alone"), 0);
}

static void a_pool_of_several_regions_serves_from_a_short_first_one(
    void **state)
{
    (void)state;
    host_log_keep();
    peercache_node_t *node =
        host_node("global_segment_size=320MiB region_size=128MiB");
    works(node);
    wait_for_pool(node);
    assert_int_equal(node->regions[0].length, 64 * MIB);
    assert_int_equal(pool_memory(node), 320 * MIB);
    assert_int_equal(host_metric(node, "pool_wanted_bytes"), 320 * MIB);
    assert_true(host_log_count(PEERCACHE_LOG_INFO, "", "of 320 MiB are") > 0);
    /* The largest value is still that of region_size. */
    struct batch batch;
    batch_init(&batch, 1, 120 * MIB);
    batch_name(&batch, "large", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 10 * PC_S),
                     PEERCACHE_OK);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* ---- Shared memory that is not there ------------------------------------- */

static bool set_shmmax(const char *bytes)
{
    int fd = open("/proc/sys/kernel/shmmax", O_WRONLY | O_CLOEXEC);
    bool set =
        fd >= 0 && write(fd, bytes, strlen(bytes)) == (ssize_t)strlen(bytes);
    if (fd >= 0) {
        close(fd);
    }
    return set;
}

/* System V memory is forbidden, so the pool is of files in /dev/shm, where 48
 * MiB are free: not for all of its regions. */
static void small_shm_alone(void **state)
{
    (void)state;
    struct batch batch;
    size_t n_wrong;
    if (unshare(CLONE_NEWIPC | CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=48m") != 0 ||
        !set_shmmax("1")) {
        skip(); /* Not the rights for name spaces of our own. */
    }
    host_log_keep();
    peercache_node_t *node = host_node("global_segment_size=96MiB "
                                       "region_size=16MiB huge_pages=false");
    wait_for_pool(node);
    assert_int_equal(pool_memory(node), 96 * MIB);
    assert_in_range(host_metric(node, "pool_shared_bytes"), 16 * MIB, 47 * MIB);
    assert_true(
        host_log_count(PEERCACHE_LOG_WARN, "is not shared with other", "") > 0);
    /* Every page is really there: fill the pool several times over. */
    batch_init(&batch, 240, MIB);
    for (size_t round = 0; round < 2; round++) {
        batch_name(&batch, "fill", round * 240);
        batch_fill(&batch);
        assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 30 * PC_S),
                         PEERCACHE_OK);
        batch_poison(&batch, 0x22);
        (void)batch_do(&batch, node, PC_VERB_GET, 30 * PC_S);
        assert_true(batch_count_ok(&batch, &n_wrong) > 16);
        assert_int_equal(n_wrong, 0);
    }
    assert_true(host_metric(node, "pool_bytes_used") > 80 * MIB);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

static void too_small_a_dev_shm_ends_in_private_memory_and_no_signal(
    void **state)
{
    (void)state;
    assert_int_equal(host_run("small_shm_alone"), 0);
}

/* A region's memory is one segment: the system allows 64 MiB of one. */
static void small_segments_alone(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWIPC) != 0 || !set_shmmax("67108864")) {
        skip(); /* Not the rights for a name space of our own. */
    }
    host_log_keep();
    peercache_node_t *node = host_node("global_segment_size=160MiB "
                                       "region_size=128MiB huge_pages=false");
    wait_for_pool(node);
    works(node);
    assert_int_equal(pool_memory(node), 160 * MIB);
    assert_int_equal(host_metric(node, "pool_shared_bytes"), 160 * MIB);
    assert_int_equal(node->regions[0].length, 64 * MIB);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_WARN, "kernel.shmmax", "made as small"),
        1);
    peercache_node_destroy(node);
    /* Too small to make regions so small: the pool is private. */
    assert_true(set_shmmax("4194304"));
    node = host_node("global_segment_size=32MiB huge_pages=false");
    wait_for_pool(node);
    works(node);
    assert_int_equal(pool_memory(node), 32 * MIB);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_WARN, "kernel.shmmax", "may not be able"),
        1);
    peercache_node_destroy(node);
}

static void regions_are_no_larger_than_a_segment_may_be(void **state)
{
    (void)state;
    assert_int_equal(host_run("small_segments_alone"), 0);
}

/* ---- Locked memory ------------------------------------------------------ */

/* The sanitizers make mlock a call that does nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MLOCK_WORKS 0
#else
#define MLOCK_WORKS 1
#endif

static void lock_alone(void **state)
{
    (void)state;
    char line[256];
    struct rlimit limit = {6 * MIB, 6 * MIB};
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    may(CAP_IPC_LOCK, false);
    peercache_node_t *node =
        host_node("lock_memory=true global_segment_size=4MiB huge_pages=false");
    wait_for_pool(node);
    works(node);
    assert_int_equal(host_metric(node, "pool_locked_bytes"), 4 * MIB);
    assert_true(
        mapping_line(node->regions[0].addr, "Locked:", line, sizeof(line)));
    assert_true(strtoull(line + strlen("Locked:"), NULL, 10) > 0 ||
                !MLOCK_WORKS);
    /* A second pool does not fit beside what is locked already. */
    peercache_config_t *config = host_config(
        MLOCK_WORKS
            ? "lock_memory=true global_segment_size=4MiB huge_pages=false"
            : "lock_memory=true global_segment_size=8MiB huge_pages=false");
    peercache_node_t *other = NULL;
    assert_int_equal(peercache_node_create(config, &other),
                     PEERCACHE_NO_MEMORY);
    assert_non_null(strstr(peercache_config_error(config), "ulimit -l"));
    assert_non_null(strstr(peercache_config_error(config), "6291456"));
    peercache_config_destroy(config);
    peercache_node_destroy(node);
}

static void a_pool_can_be_locked_within_the_limit(void **state)
{
    (void)state;
    assert_int_equal(host_run("lock_alone"), 0);
}

/* ---- Control groups ----------------------------------------------------- */

/* A control group below this process's own, of either version; "": none can be
 * made. The folder, and the name of its file with the limit. */
static const char *make_group(char *folder, size_t len)
{
    static const char *const limits[] = {"memory.max", "memory.limit_in_bytes"};
    char line[512];
    char own[512] = "";
    bool v1 = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *memory = strstr(line, ":memory:");
        if (memory != NULL) {
            v1 = true;
            (void)snprintf(own, sizeof(own), "/memory%s", memory + 8);
        } else if (!v1 && strncmp(line, "0::", 3) == 0) {
            (void)snprintf(own, sizeof(own), "%s", line + 3);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    (void)snprintf(folder, len, "/sys/fs/cgroup%s/peercache-test-%d", own,
                   (int)getpid());
    if (own[0] == '\0' || mkdir(folder, 0700) != 0) {
        return NULL;
    }
    return limits[v1];
}

static bool write_to(const char *folder, const char *name, const char *text)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written =
        fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return written;
}

/* Under the address sanitizer what is freed stays in memory for a while: beside
 * a pool that has filled its group, that alone is soon too much. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_LITTLE 0
#else
#define HAS_LITTLE 1
#endif

/* The node is short of memory under its group's limit, and says so once. */
static void it_grows_when_the_limit_is_lifted(peercache_node_t *node)
{
    /* With the ballast there was never room for all of it. */
    assert_in_range(host_metric(node, "pool_missing_bytes"), 1, 112 * MIB);
    assert_true(write_to(getenv("PC_TEST_FOLDER"), getenv("PC_TEST_LIMIT"),
                         "1073741824"));
    WAIT_UNTIL(pool_memory(node) == 128 * MIB, 60);
    assert_true(host_metric(node, "pool_retries_total") >= 2);
    WAIT_UNTIL(host_metric(node, "pool_missing_bytes") == 0, 10);
    WAIT_UNTIL(host_log_count(PEERCACHE_LOG_INFO, "the pool is whole", "") == 1,
               10);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_ERROR, "the pool stays at", ""), 1);
    works(node);
}

/* With PC_TEST_GROUP's limit of 160 MiB. */
static void group_alone(void **state)
{
    (void)state;
    const char *group = getenv("PC_TEST_GROUP");
    assert_non_null(group);
    peercache_config_t *config =
        host_config("global_segment_size=256MiB region_size=16MiB "
                    "huge_pages=false");
    peercache_node_t *node = NULL;
    assert_int_equal(peercache_node_create(config, &node), PEERCACHE_NO_MEMORY);
    assert_non_null(strstr(peercache_config_error(config), "268435456"));
    assert_non_null(strstr(peercache_config_error(config), "167772160"));
    assert_non_null(strstr(peercache_config_error(config), group));
    peercache_config_destroy(config);

    /* What is in use counts: the pool stays short, and the process lives. */
    size_t used = 64 * MIB;
    char *ballast = malloc(used);
    assert_non_null(ballast);
    memset(ballast, 1, used);
    host_log_keep();
    node = host_node("global_segment_size=128MiB region_size=16MiB "
                     "huge_pages=false");
    wait_for_pool(node);
    works(node);
    assert_in_range(pool_memory(node), 16 * MIB, 96 * MIB);
    assert_int_equal(
        host_log_count(PEERCACHE_LOG_ERROR, "the pool stays at", group), 1);
    if (HAS_LITTLE) {
        it_grows_when_the_limit_is_lifted(node);
    }
    peercache_node_destroy(node);
    free(ballast);
}

static void the_limit_of_a_control_group_is_kept_to(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* Its own memory is beyond the group's. */
#endif
    char folder[700];
    const char *limit = make_group(folder, sizeof(folder));
    if (limit == NULL) {
        skip(); /* Not the rights, or no such controller. */
    }
    int result = -1;
    bool set = write_to(folder, limit, "167772160");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        host_is_child();
        if (!set || !write_to(folder, "cgroup.procs", "0")) {
            _exit(77);
        }
        (void)setenv("PC_TEST_GROUP", strstr(folder, "/peercache-test"), 1);
        (void)setenv("PC_TEST_FOLDER", folder, 1);
        (void)setenv("PC_TEST_LIMIT", limit, 1);
        execl("/proc/self/exe", "group_alone", "group_alone", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &result, 0), pid);
    WAIT_UNTIL(rmdir(folder) == 0, 10);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 77) {
        skip();
    }
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
}

static void more_regions_than_there_can_be_are_a_clear_error(void **state)
{
    (void)state;
    peercache_config_t *config =
        host_config("global_segment_size=1GiB region_size=512KiB");
    peercache_node_t *node = NULL;
    assert_int_equal(peercache_node_create(config, &node), PEERCACHE_INVALID);
    assert_non_null(strstr(peercache_config_error(config), "region_size"));
    assert_non_null(strstr(peercache_config_error(config), "1024 regions"));
    peercache_config_destroy(config);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(the_nic_in_use_alone),
        cmocka_unit_test(no_permission_to_bind_alone),
        cmocka_unit_test(an_empty_pool_of_huge_pages_alone),
        cmocka_unit_test(small_shm_alone),
        cmocka_unit_test(small_segments_alone),
        cmocka_unit_test(lock_alone),
        cmocka_unit_test(group_alone),
    };
    if (argc == 2) {
        return host_alone(argv[1], alone, sizeof(alone) / sizeof(alone[0]),
                          NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_and_engine_go_where_the_settings_say),
        cmocka_unit_test(settings_that_cannot_be_followed_are_one_warning),
        cmocka_unit_test(the_nic_in_use_decides),
        cmocka_unit_test(no_permission_to_bind_is_one_line_each),
        cmocka_unit_test(pages_are_named_and_left_out_of_core_dumps),
        cmocka_unit_test(an_empty_pool_of_huge_pages_gives_other_pages),
        cmocka_unit_test(
            a_pool_of_several_regions_serves_from_a_short_first_one),
        cmocka_unit_test(
            too_small_a_dev_shm_ends_in_private_memory_and_no_signal),
        cmocka_unit_test(regions_are_no_larger_than_a_segment_may_be),
        cmocka_unit_test(a_pool_can_be_locked_within_the_limit),
        cmocka_unit_test(the_limit_of_a_control_group_is_kept_to),
        cmocka_unit_test(more_regions_than_there_can_be_are_a_clear_error),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
