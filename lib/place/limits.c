#include "limits.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define LINE_MAX_LEN 4096
/* "No limit" of the older control groups is about 2^63. */
#define NO_LIMIT    ((uint64_t)1 << 60)
#define RESERVE_MAX ((uint64_t)512 << 20)

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/* ---- Files ------------------------------------------------------------ */

/* A number, or "max", which is false as a file that is not there is. */
static bool read_number(const char *folder, const char *name, uint64_t *value_p)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
    if (file == NULL) {
        return false;
    }
    bool found = fscanf(file, "%" SCNu64, value_p) == 1 && *value_p < NO_LIMIT;
    (void)fclose(file);
    return found;
}

/* The number behind a word, in a file of lines "word number". */
static bool read_field(const char *path, const char *word, uint64_t *value_p)
{
    char line[256];
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    size_t len = strlen(word);
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = strncmp(line, word, len) == 0 &&
                sscanf(line + len, "%" SCNu64, value_p) == 1;
    }
    (void)fclose(file);
    return found;
}

static void at_most(struct pc_limit *limit, uint64_t bytes, const char *name)
{
    if (bytes < limit->bytes) {
        limit->bytes = bytes;
        (void)snprintf(limit->name, sizeof(limit->name), "%.*s",
                       (int)sizeof(limit->name) - 1, name);
    }
}

static void look_at_machine(const char *root, struct pc_limits *limits)
{
    char path[PATH_MAX];
    uint64_t kib;
    uint64_t n_huge = 0;
    (void)snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    if (read_field(path, "MemTotal:", &kib)) {
        at_most(&limits->most, kib * 1024, "this machine's memory");
    }
    if (read_field(path, "MemAvailable:", &kib)) {
        at_most(&limits->left, kib * 1024, "this machine's memory");
    }
    uint64_t reserved = 0;
    if (read_field(path, "HugePages_Free:", &n_huge) &&
        read_field(path, "Hugepagesize:", &kib)) {
        /* Reserved ones are free and already somebody's. */
        (void)read_field(path, "HugePages_Rsvd:", &reserved);
        limits->huge_free =
            n_huge > reserved ? (n_huge - reserved) * kib * 1024 : 0;
        limits->huge_page = kib * 1024;
    }
    (void)snprintf(path, sizeof(path), "%s/proc/sys/kernel", root);
    uint64_t bytes;
    if (read_number(path, "shmmax", &bytes)) {
        limits->segment_most = bytes;
    }
}

/* ---- Control groups --------------------------------------------------- */

/* Names of a version's files. */
struct version
{
    const char *limits[2];
    const char *usage;
    const char *cached[2]; /* In memory.stat: given back when it is needed. */
};

static const struct version versions[] = {
    {{"memory.limit_in_bytes", NULL},
     "memory.usage_in_bytes",
     {"total_inactive_file", "total_active_file"}},
    {{"memory.max", "memory.high"},
     "memory.current",
     {"inactive_file", "active_file"}},
};

/* Cached files that can go. Of those in use lately, half: as the kernel
 * reckons for the whole machine. */
static uint64_t cached(const char *folder, const struct version *v)
{
    char path[PATH_MAX];
    uint64_t inactive = 0;
    uint64_t active = 0;
    int n = snprintf(path, sizeof(path), "%s/memory.stat", folder);
    if (n > 0 && (size_t)n < sizeof(path)) {
        (void)read_field(path, v->cached[0], &inactive);
        (void)read_field(path, v->cached[1], &active);
    }
    return inactive + active / 2;
}

static void look_at_group(const char *root, const char *folder, bool v2,
                          struct pc_limits *limits)
{
    const struct version *v = &versions[v2];
    for (size_t i = 0; i < 2 && v->limits[i] != NULL; i++) {
        uint64_t most;
        uint64_t used = 0;
        char name[PATH_MAX + 32];
        if (!read_number(folder, v->limits[i], &most)) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s/%s", folder + strlen(root),
                       v->limits[i]);
        at_most(&limits->most, most, name);
        (void)read_number(folder, v->usage, &used);
        uint64_t free_again = cached(folder, v);
        used = used > free_again ? used - free_again : 0;
        at_most(&limits->left, most > used ? most - used : 0, name);
    }
}

/* The names of files have the size of a page as the kernel writes it. */
static void huge_file(char *name, size_t len, uint64_t page, const char *rest)
{
    static const char *const units[] = {"KB", "MB", "GB"};
    uint64_t n = page / 1024;
    size_t unit = 0;
    for (; n >= 1024 && unit < 2; n /= 1024) {
        unit++;
    }
    (void)snprintf(name, len, "hugetlb.%" PRIu64 "%s.%s", n, units[unit], rest);
}

/* Pages in use, and pages promised, have limits of their own. */
static void look_at_huge_group(const char *root, const char *folder, bool v2,
                               struct pc_limits *limits)
{
    static const char *const files[2][2][2] = {
        {{"limit_in_bytes", "usage_in_bytes"},
         {"rsvd.limit_in_bytes", "rsvd.usage_in_bytes"}},
        {{"max", "current"}, {"rsvd.max", "rsvd.current"}},
    };
    for (size_t i = 0; i < 2 && limits->huge_page > 0; i++) {
        char name[64];
        char usage[64];
        char path[PATH_MAX + 64];
        uint64_t most;
        uint64_t used = 0;
        huge_file(name, sizeof(name), limits->huge_page, files[v2][i][0]);
        huge_file(usage, sizeof(usage), limits->huge_page, files[v2][i][1]);
        if (read_number(folder, name, &most)) {
            (void)read_number(folder, usage, &used);
            (void)snprintf(path, sizeof(path), "%s/%s", folder + strlen(root),
                           name);
            at_most(&limits->huge_left, most > used ? most - used : 0, path);
        }
    }
}

typedef void (*look_fn)(const char *root, const char *folder, bool v2,
                        struct pc_limits *limits);

/* A group and all above it, up to where the hierarchy is mounted. */
static void look_at_groups(const char *root, const char *mount,
                           const char *group, look_fn look, bool v2,
                           struct pc_limits *limits)
{
    char folder[PATH_MAX];
    int n = snprintf(folder, sizeof(folder), "%s%s%s", root, mount, group);
    size_t top = strlen(root) + strlen(mount);
    if (n <= 0 || (size_t)n >= sizeof(folder)) {
        return;
    }
    if (access(folder, F_OK) != 0) {
        folder[top] = '\0'; /* A container that sees itself as the top. */
    }
    for (;;) {
        look(root, folder, v2, limits);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= top || slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len) {
        bool begins = at == list || at[-1] == ',';
        if (begins && (at[len] == '\0' || at[len] == ',' || at[len] == '\n' ||
                       at[len] == ':')) {
            return true;
        }
    }
    return false;
}

/* This process's group in the hierarchy: "0::/a/b", "4:memory:/a/b". */
static bool find_group(const char *root, bool v2, const char *controller,
                       char *group, size_t len)
{
    char path[PATH_MAX];
    char line[LINE_MAX_LEN];
    bool found = false;
    (void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        char *first = strchr(line, ':');
        char *second = first != NULL ? strchr(first + 1, ':') : NULL;
        if (second == NULL) {
            continue;
        }
        *second = '\0';
        found = v2 ? strcmp(line, "0:") == 0 : has_word(first + 1, controller);
        if (found) {
            second[1 + strcspn(second + 1, "\n")] = '\0';
            (void)snprintf(group, len, "%s", second + 1);
        }
    }
    (void)fclose(file);
    return found;
}

/* The group's path below the mount, whose own top may be a group. */
static const char *below(const char *group, const char *mounted)
{
    size_t len = strlen(mounted);
    if (strcmp(mounted, "/") != 0 && strncmp(group, mounted, len) == 0 &&
        (group[len] == '/' || group[len] == '\0')) {
        group += len;
    }
    /* "/..": outside of what this container sees. */
    return strcmp(group, "/") == 0 || strncmp(group, "/..", 3) == 0 ? ""
                                                                    : group;
}

static const struct
{
    const char *name;
    look_fn look;
} controllers[] = {{"memory", look_at_group}, {"hugetlb", look_at_huge_group}};

/* One line of mountinfo: "36 35 98:0 TOP MOUNT rw - cgroup2 cgroup2 rw". */
static void look_at_mount(const char *root, char *line,
                          struct pc_limits *limits)
{
    char top[LINE_MAX_LEN];
    char mount[LINE_MAX_LEN];
    char type[32];
    char options[LINE_MAX_LEN] = "";
    char group[LINE_MAX_LEN];
    const char *rest = strstr(line, " - ");
    if (rest == NULL ||
        sscanf(line, "%*s %*s %*s %4095s %4095s", top, mount) != 2 ||
        sscanf(rest, " - %31s %*s %4095s", type, options) < 1) {
        return;
    }
    bool v2 = strcmp(type, "cgroup2") == 0;
    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
        const char *name = controllers[i].name;
        bool v1 = strcmp(type, "cgroup") == 0 && has_word(options, name);
        if ((v1 || v2) && find_group(root, v2, name, group, sizeof(group))) {
            look_at_groups(root, mount, below(group, top), controllers[i].look,
                           v2, limits);
        }
    }
}

void pc_limits_look(const char *root, struct pc_limits *limits_p)
{
    struct pc_limits limits = {.most = {UINT64_MAX, "no limit is known"},
                               .left = {UINT64_MAX, "no limit is known"},
                               .huge_left = {UINT64_MAX, "no limit is known"},
                               .segment_most = UINT64_MAX};
    char path[PATH_MAX];
    char line[LINE_MAX_LEN];
    look_at_machine(root, &limits);
    (void)snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        while (fgets(line, sizeof(line), file) != NULL) {
            look_at_mount(root, line, &limits);
        }
        (void)fclose(file);
    }
    if (limits.huge_left.bytes < limits.huge_free) {
        limits.huge_free = limits.huge_left.bytes;
    }
    *limits_p = limits;
}

uint64_t pc_limits_reserve(const struct pc_limits *limits)
{
    uint64_t share = limits->most.bytes / 32;
    return share < RESERVE_MAX ? share : RESERVE_MAX;
}

/* ---- Locked memory ---------------------------------------------------- */

bool pc_limits_can_lock(uint64_t bytes, uint64_t *limit_p)
{
    struct rlimit limit;
    *limit_p = UINT64_MAX;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY) {
        *limit_p = limit.rlim_cur;
    }
    /* Address space without memory behind it, locked "as soon as it is
     * touched", is weighed and costs nothing. No reckoning of ours knows what
     * this process has locked, and whether the limit counts for it. */
    size_t len = (size_t)bytes;
    if (len == 0) {
        return true;
    }
    void *probe = mmap(NULL, len, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) {
        return bytes <= *limit_p;
    }
    bool can = mlock2(probe, len, MLOCK_ONFAULT) == 0 ||
               (errno == ENOSYS && bytes <= *limit_p);
    (void)munmap(probe, len);
    return can;
}
