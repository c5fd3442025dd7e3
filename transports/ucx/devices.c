#include "devices.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_LEN 512

struct finder
{
    const char *root;
    const struct pc_ucx_wanted *wanted;
    struct pc_text *list;
};

/* The first line of a port's file; false: no such file. */
static bool read_line(const struct finder *finder, const char *port,
                      const char *name, char *line, size_t line_len)
{
    char path[PATH_LEN];
    const char *colon = strchr(port, ':');
    snprintf(path, sizeof(path), "%s/%.*s/ports/%s/%s", finder->root,
             (int)(colon - port), port, colon + 1, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, line, line_len - 1);
    close(fd);
    line[len > 0 ? len : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return true;
}

/* An entry that nobody filled reads as zeros, or cannot be read. */
static bool has_gid(const struct finder *finder, const char *port, int index)
{
    char name[32];
    char gid[64] = "";
    snprintf(name, sizeof(name), "gids/%d", index);
    return read_line(finder, port, name, gid, sizeof(gid)) &&
           strspn(gid, "0:") < strlen(gid);
}

/* NULL: it can be used. */
static const char *whats_wrong(const struct finder *finder, const char *port)
{
    char text[64];
    int gid_index = finder->wanted->gid_index;
    if (!read_line(finder, port, "state", text, sizeof(text))) {
        return "there is no such RDMA port";
    }
    if (strstr(text, "ACTIVE") == NULL) {
        return "its port is down";
    }
    /* InfiniBand itself addresses without them. */
    if (gid_index >= 0 &&
        read_line(finder, port, "link_layer", text, sizeof(text)) &&
        strcmp(text, "Ethernet") == 0 && !has_gid(finder, port, gid_index)) {
        return "it has no GID with the index that gid_index names";
    }
    return NULL;
}

static void consider(const struct finder *finder, const char *port, bool named)
{
    const char *wrong = whats_wrong(finder, port);
    if (wrong == NULL) {
        pc_text_add(finder->list, "%s%s", finder->list->len > 0 ? "," : "",
                    port);
    } else {
        PC_LOG(named ? PEERCACHE_LOG_WARN : PEERCACHE_LOG_INFO, "ucx",
               "RDMA device %s is not used: %s", port, wrong);
    }
}

static void consider_named(const struct finder *finder)
{
    const char *at = finder->wanted->names;
    unsigned number = finder->wanted->port > 0 ? finder->wanted->port : 1;
    while (*(at += strspn(at, ", ")) != '\0') {
        char port[128];
        size_t len = strcspn(at, ", ");
        bool full = memchr(at, ':', len) != NULL;
        if (full) {
            snprintf(port, sizeof(port), "%.*s", (int)len, at);
        } else {
            snprintf(port, sizeof(port), "%.*s:%u", (int)len, at, number);
        }
        if (len < sizeof(port) - 16 && strchr(port, '/') == NULL) {
            consider(finder, port, true);
        } else {
            PC_WARN("ucx",
                    "RDMA device %s is not used: no device has such a "
                    "name",
                    port);
        }
        at += len;
    }
}

static int is_entry(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Sorted, so that all nodes of a host list them in the same order. */
static int scan(const char *path, struct dirent ***entries_p)
{
    int n = scandir(path, entries_p, is_entry, versionsort);
    return n > 0 ? n : 0;
}

static void consider_ports(const struct finder *finder, const char *device)
{
    char path[PATH_LEN];
    struct dirent **ports = NULL;
    snprintf(path, sizeof(path), "%s/%s/ports", finder->root, device);
    int n = scan(path, &ports);
    for (int i = 0; i < n; i++) {
        char port[PATH_LEN];
        unsigned number = (unsigned)strtoul(ports[i]->d_name, NULL, 10);
        snprintf(port, sizeof(port), "%s:%u", device, number);
        if (finder->wanted->port == 0 || finder->wanted->port == number) {
            consider(finder, port, finder->wanted->port > 0);
        }
        free(ports[i]);
    }
    free(ports);
}

static void consider_all(const struct finder *finder)
{
    struct dirent **devices = NULL;
    int n = scan(finder->root, &devices);
    for (int i = 0; i < n; i++) {
        consider_ports(finder, devices[i]->d_name);
        free(devices[i]);
    }
    free(devices);
}

void pc_ucx_devices_find(const char *root, const struct pc_ucx_wanted *wanted,
                         struct pc_text *list)
{
    struct finder finder = {root, wanted, list};
    if (wanted->names != NULL && wanted->names[0] != '\0') {
        consider_named(&finder);
    } else {
        consider_all(&finder);
    }
}
