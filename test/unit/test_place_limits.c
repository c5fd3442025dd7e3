/*
 * Limits of memory: control groups of both versions, as their files look on a
 * host, in a container and in a hybrid of both; and locked memory.
 */
#include "test/lib/test.h"

#include "place/limits.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* A machine's files, in a folder of their own. */
struct tree
{
    char root[64];
};

static void tree_write(const struct tree *tree, const char *name,
                       const char *text)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s%s", tree->root, name);
    for (char *at = path + strlen(tree->root) + 1;
         (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(path, 0700);
        *at = '/';
    }
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    struct tree *tree = calloc(1, sizeof(*tree));
    (void)snprintf(tree->root, sizeof(tree->root), "/tmp/pc-limits-XXXXXX");
    if (mkdtemp(tree->root) == NULL) {
        return -1;
    }
    tree_write(tree, "/proc/meminfo",
               "MemTotal:       67108864 kB\n"
               "MemFree:        10485760 kB\n"
               "MemAvailable:   33554432 kB\n"
               "HugePages_Total:    1024\n"
               "HugePages_Free:     1000\n"
               "HugePages_Rsvd:      488\n"
               "Hugepagesize:       2048 kB\n");
    *state = tree;
    return 0;
}

static int tear_down(void **state)
{
    struct tree *tree = *state;
    (void)nftw(tree->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(tree);
    return 0;
}

static void without_control_groups_the_machine_is_the_limit(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 64 * GIB);
    assert_int_equal(limits.left.bytes, 32 * GIB);
    assert_string_equal(limits.most.name, "this machine's memory");
    assert_int_equal(limits.huge_free, GIB); /* Reserved ones are taken. */
    assert_int_equal(pc_limits_reserve(&limits), 512 * MIB);
}

#define V2_MOUNT                                                               \
    "24 1 0:20 / /proc rw - proc proc rw\n"                                    \
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"

static void the_smallest_limit_on_the_way_up_counts(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo", V2_MOUNT);
    tree_write(tree, "/proc/self/cgroup", "0::/user.slice/serve.service\n");
    tree_write(tree, "/sys/fs/cgroup/user.slice/serve.service/memory.max",
               "max\n");
    tree_write(tree, "/sys/fs/cgroup/user.slice/memory.max", "8589934592\n");
    tree_write(tree, "/sys/fs/cgroup/user.slice/memory.current",
               "6442450944\n");
    tree_write(tree, "/sys/fs/cgroup/user.slice/memory.stat",
               "anon 1\nfile 3221225472\ninactive_file 1073741824\n"
               "active_file 2147483648\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 8 * GIB);
    assert_string_equal(limits.most.name,
                        "/sys/fs/cgroup/user.slice/memory.max");
    /* 8 - 6 used, of which 1 + 2/2 are cached files. */
    assert_int_equal(limits.left.bytes, 4 * GIB);
    assert_int_equal(pc_limits_reserve(&limits), 256 * MIB);
}

static void a_container_of_the_second_version_sees_its_own_top(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo", V2_MOUNT);
    tree_write(tree, "/proc/self/cgroup", "0::/\n");
    tree_write(tree, "/sys/fs/cgroup/memory.max", "4294967296\n");
    tree_write(tree, "/sys/fs/cgroup/memory.current", "5368709120\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 4 * GIB);
    assert_int_equal(limits.left.bytes, 0);
    /* Without a namespace of its own, its path is the host's and not there. */
    tree_write(tree, "/proc/self/cgroup", "0::/kubepods/pod1/c1\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 4 * GIB);
    tree_write(tree, "/proc/self/cgroup", "0::/../../c1\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 4 * GIB);
}

static void a_soft_limit_is_one_too(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo", V2_MOUNT);
    tree_write(tree, "/proc/self/cgroup", "0::/a\n");
    tree_write(tree, "/sys/fs/cgroup/a/memory.max", "8589934592\n");
    tree_write(tree, "/sys/fs/cgroup/a/memory.high", "2147483648\n");
    tree_write(tree, "/sys/fs/cgroup/a/memory.current", "1073741824\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 2 * GIB);
    assert_int_equal(limits.left.bytes, GIB);
    assert_string_equal(limits.left.name, "/sys/fs/cgroup/a/memory.high");
}

static void the_first_version_is_understood(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo",
               "40 30 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
               "41 30 0:34 / /sys/fs/cgroup/memory rw - cgroup cgroup "
               "rw,memory\n"
               "42 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    tree_write(tree, "/proc/self/cgroup",
               "5:cpu:/x\n4:memory:/docker/abc\n0::/docker/abc\n");
    tree_write(tree, "/sys/fs/cgroup/memory/memory.limit_in_bytes",
               "9223372036854771712\n");
    tree_write(tree, "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
               "3221225472\n");
    tree_write(tree, "/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes",
               "2147483648\n");
    tree_write(tree, "/sys/fs/cgroup/memory/docker/abc/memory.stat",
               "inactive_file 5\ntotal_inactive_file 1073741824\n"
               "total_active_file 0\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, 3 * GIB);
    assert_int_equal(limits.left.bytes, 2 * GIB);
    assert_string_equal(
        limits.most.name,
        "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes");
}

static void a_mount_that_begins_at_a_group_is_followed(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo",
               "41 30 0:34 /docker/abc /sys/fs/cgroup/memory ro - cgroup "
               "cgroup rw,memory\n");
    tree_write(tree, "/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
    tree_write(tree, "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes",
               "1073741824\n");
    tree_write(tree, "/sys/fs/cgroup/memory/memory.limit_in_bytes",
               "2147483648\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, GIB);
}

static void a_group_of_huge_pages_bounds_those_that_are_free(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/self/mountinfo",
               V2_MOUNT "41 30 0:34 / /sys/fs/cgroup/huge rw - cgroup cgroup "
                        "rw,hugetlb\n");
    tree_write(tree, "/proc/self/cgroup", "7:hugetlb:/a/b\n0::/a\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.huge_free, GIB);
    assert_int_equal(limits.huge_left.bytes, UINT64_MAX);
    /* The second version, of two groups the upper one. */
    tree_write(tree, "/sys/fs/cgroup/a/hugetlb.2MB.max", "max\n");
    tree_write(tree, "/sys/fs/cgroup/hugetlb.2MB.max", "838860800\n");
    tree_write(tree, "/sys/fs/cgroup/hugetlb.2MB.current", "104857600\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.huge_free, 700 * MIB);
    assert_string_equal(limits.huge_left.name,
                        "/sys/fs/cgroup/hugetlb.2MB.max");
    /* The first version; what is promised counts, too. */
    tree_write(tree, "/sys/fs/cgroup/huge/a/b/hugetlb.2MB.rsvd.limit_in_bytes",
               "629145600\n");
    tree_write(tree, "/sys/fs/cgroup/huge/a/b/hugetlb.2MB.rsvd.usage_in_bytes",
               "524288000\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.huge_free, 100 * MIB);
    /* Pages of another size are others'. */
    tree_write(tree, "/sys/fs/cgroup/a/hugetlb.1GB.max", "0\n");
    tree_write(tree, "/sys/fs/cgroup/huge/hugetlb.1GB.limit_in_bytes", "0\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.huge_free, 100 * MIB);
    assert_int_equal(limits.left.bytes, 32 * GIB);
    /* More in use than allowed, as after the limit was lowered. */
    tree_write(tree, "/sys/fs/cgroup/a/hugetlb.2MB.max", "2097152\n");
    tree_write(tree, "/sys/fs/cgroup/a/hugetlb.2MB.current", "4194304\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.huge_free, 0);
}

static void the_largest_segment_of_shared_memory_is_known(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.segment_most, UINT64_MAX);
    tree_write(tree, "/proc/sys/kernel/shmmax", "33554432\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.segment_most, 32 * MIB);
    /* As Linux has it by default: all that can be addressed. */
    tree_write(tree, "/proc/sys/kernel/shmmax", "18446744073692774399\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.segment_most, UINT64_MAX);
}

static void nonsense_in_the_files_is_no_limit(void **state)
{
    struct tree *tree = *state;
    struct pc_limits limits;
    tree_write(tree, "/proc/meminfo", "what\nMemTotal: many kB\n");
    tree_write(tree, "/proc/self/mountinfo",
               "\n - \n1 2\n41 30 0:34 / /sys/fs/cgroup - cgroup2\n"
               "41 30 0:34 / /sys/fs/cgroup rw - cgroup cgroup "
               "rw,memorytoo,notmemory\n");
    tree_write(tree, "/proc/self/cgroup", "0\n:\n::\n0::\n4:memorytoo:/\n");
    tree_write(tree, "/sys/fs/cgroup/memory.max", "-\n");
    pc_limits_look(tree->root, &limits);
    assert_int_equal(limits.most.bytes, UINT64_MAX);
    assert_int_equal(limits.left.bytes, UINT64_MAX);
    assert_int_equal(limits.huge_free, 0);
    pc_limits_look("/nowhere", &limits);
    assert_int_equal(limits.most.bytes, UINT64_MAX);
}

static void this_machine_has_limits(void **state)
{
    struct pc_limits limits;
    (void)state;
    pc_limits_look("", &limits);
    assert_in_range(limits.most.bytes, 64 * MIB, (uint64_t)1 << 50);
    assert_true(limits.left.bytes > 0);
    assert_true(limits.left.bytes <= limits.most.bytes);
}

/* In a process of its own, which has no right to lock more than its limit. */
static int lock_with_limit(uint64_t limit_bytes, uint64_t bytes)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {limit_bytes, limit_bytes};
        uint64_t seen = 0;
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
            (getuid() == 0 && setuid(65534) != 0)) {
            _exit(2);
        }
        bool can = pc_limits_can_lock(bytes, &seen);
        _exit(seen != limit_bytes ? 3 : can ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_may_be_locked_is_tried_without_memory(void **state)
{
    (void)state;
    assert_int_equal(lock_with_limit(MIB, MIB), 0);
    assert_int_equal(lock_with_limit(MIB, 2 * MIB), 1);
    assert_int_equal(lock_with_limit(MIB, 4096 * GIB), 1);
    assert_int_equal(lock_with_limit(0, 4096), 1);
    assert_int_equal(lock_with_limit(0, 0), 0);
}

int main(void)
{
#define TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TREE(without_control_groups_the_machine_is_the_limit),
        TREE(the_smallest_limit_on_the_way_up_counts),
        TREE(a_container_of_the_second_version_sees_its_own_top),
        TREE(a_soft_limit_is_one_too),
        TREE(the_first_version_is_understood),
        TREE(a_mount_that_begins_at_a_group_is_followed),
        TREE(a_group_of_huge_pages_bounds_those_that_are_free),
        TREE(the_largest_segment_of_shared_memory_is_known),
        TREE(nonsense_in_the_files_is_no_limit),
        cmocka_unit_test(this_machine_has_limits),
        cmocka_unit_test(what_may_be_locked_is_tried_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
