/*
 * identity.c - who this process is, on which machine.
 *
 * The automatic node id must survive a restart, and two processes must not have
 * one: so it is made of the machine's id and the lowest number whose lock file
 * is free. The lock is held as long as the node lives; the kernel gives it back
 * whatever ends the process.
 */
#include "base/digest.h"
#include "base/log.h"
#include "node/node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANKS_MAX 4096

static uint64_t hash_file(const char *path, uint64_t seed)
{
    char text[256];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return pc_hash64(path, strlen(path), seed);
    }
    size_t n = fread(text, 1, sizeof(text), file);
    (void)fclose(file);
    return pc_hash64(text, n, seed);
}

static uint64_t hash_link(const char *path, uint64_t seed)
{
    char text[256];
    ssize_t n = readlink(path, text, sizeof(text));
    return pc_hash64(text, n > 0 ? (size_t)n : 0, seed);
}

void pc_identity_of_machine(struct pc_identity *identity)
{
    uint64_t boot = hash_file("/proc/sys/kernel/random/boot_id", 0);
    uid_t uid = getuid();
    identity->host = boot;
    uint64_t domain = hash_link("/proc/self/ns/ipc", boot);
    domain = hash_link("/proc/self/ns/pid", domain);
    identity->domain = pc_hash64(&uid, sizeof(uid), domain);
}

static bool lock_folder(char *path, size_t len)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    if (run != NULL && run[0] == '/' && access(run, W_OK) == 0) {
        (void)snprintf(path, len, "%s/peercache", run);
    } else {
        (void)snprintf(path, len, "/tmp/peercache-%u", (unsigned)getuid());
    }
    if (mkdir(path, 0700) == 0) {
        return true;
    }
    struct stat info;
    /* A folder of somebody else could hold locks against us. */
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) &&
           info.st_uid == getuid();
}

bool pc_identity_auto_id(const char *cluster_name, struct pc_node_id *id,
                         int *lock_fd)
{
    char folder[256];
    char path[384];
    char text[PC_NODE_ID_MAX + 1];
    char host[65] = "host";
    if (!lock_folder(folder, sizeof(folder))) {
        return false;
    }
    uint64_t machine = hash_file("/etc/machine-id", 0);
    machine = hash_link("/proc/self/ns/ipc", machine);
    uint64_t name = pc_hash64(cluster_name, strlen(cluster_name), machine);
    (void)gethostname(host, sizeof(host) - 1);
    for (char *c = host; *c != '\0'; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                  (*c >= '0' && *c <= '9') || *c == '-' || *c == '.';
        *c = ok ? *c : '-';
    }
    for (unsigned rank = 0; rank < RANKS_MAX; rank++) {
        (void)snprintf(path, sizeof(path), "%s/%016llx-%u.lock", folder,
                       (unsigned long long)name, rank);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            return false;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            (void)snprintf(text, sizeof(text), "%.48s-%08x-%u", host,
                           (unsigned)name, rank);
            *lock_fd = fd;
            return pc_node_id_set(id, text);
        }
        (void)close(fd);
    }
    return false;
}
