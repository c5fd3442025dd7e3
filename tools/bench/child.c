#include "child.h"

#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    START_MS = 120000, /* To fill memory, join and put all pages. */
    END_MS = 10000
};

/* Programs of raw systems lie beside our own. */
static bool program_of(enum bench_system_id system, char *path, size_t len)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0) {
        return false;
    }
    self[n] = '\0';
    if (system == BENCH_OURS) {
        (void)snprintf(path, len, "%s", self);
    } else {
        (void)snprintf(path, len, "%s/%s", dirname(self),
                       system == BENCH_UCX ? "peercache-bench-ucx"
                                           : "peercache-bench-raw");
    }
    return access(path, X_OK) == 0;
}

/* In the child, between fork and exec. */
static void become(const char *path, int fd)
{
    char *const argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t) "actor",
                          NULL};
    if (fd == BENCH_CHANNEL_FD) {
        (void)fcntl(fd, F_SETFD, 0);
    } else if (dup2(fd, BENCH_CHANNEL_FD) < 0) {
        _exit(127);
    }
    execv(path, argv);
    _exit(127);
}

static bool hear(const struct bench_child *child, void *what, size_t len,
                 int wait_ms)
{
    struct pollfd poll_fd = {.fd = child->fd, .events = POLLIN};
    int n;
    do {
        n = poll(&poll_fd, 1, wait_ms);
    } while (n < 0 && errno == EINTR);
    return n == 1 && recv(child->fd, what, len, 0) == (ssize_t)len;
}

static void child_stop(struct bench_child *child)
{
    struct bench_order order = {.verb = BENCH_STOP};
    if (child->pid == 0) {
        return;
    }
    (void)send(child->fd, &order, sizeof(order), MSG_NOSIGNAL);
    close(child->fd);
    for (int ms = 0; waitpid(child->pid, NULL, WNOHANG) == 0; ms++) {
        if (ms == END_MS) {
            (void)fprintf(stderr, "peercache-bench: process %d does not end\n",
                          (int)child->pid);
            kill(child->pid, SIGKILL);
        }
        (void)poll(NULL, 0, 1);
    }
    child->pid = 0;
}

static bool child_start(struct bench_child *child,
                        const struct bench_setup *setup,
                        struct bench_place *place, char *why)
{
    char path[PATH_MAX + 64];
    int fds[2];
    int large = 2 * BENCH_INFO_MAX;
    struct bench_ready ready;
    if (!program_of(setup->system, path, sizeof(path))) {
        bench_why(why, "program %.200s is missing", path);
        return false;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        bench_why(why, "no socket pair: %s", strerror(errno));
        return false;
    }
    for (int i = 0; i < 2; i++) {
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(path, fds[1]);
    }
    close(fds[1]);
    if (pid < 0) {
        bench_why(why, "cannot start a process: %s", strerror(errno));
        close(fds[0]);
        return false;
    }
    *child = (struct bench_child){.pid = pid, .fd = fds[0]};
    if (send(child->fd, setup, sizeof(*setup), MSG_NOSIGNAL) !=
            (ssize_t)sizeof(*setup) ||
        !hear(child, &ready, sizeof(ready), START_MS)) {
        bench_why(why, "the %s ended or hung while starting",
                  setup->side == BENCH_OWNER ? "owner" : "reader");
    } else if (!ready.ok) {
        bench_why(why, "%s", ready.why);
    } else {
        *place = ready.place;
        return true;
    }
    kill(child->pid, SIGKILL);
    child_stop(child);
    return false;
}

bool bench_pair_start(struct bench_pair *pair, const struct bench_setup *setup,
                      char *why)
{
    struct bench_place nowhere;
    memset(pair, 0, sizeof(*pair));
    pair->setup = *setup;
    pair->setup.side = BENCH_OWNER;
    if (!child_start(&pair->owner, &pair->setup, &pair->setup.place, why)) {
        return false;
    }
    pair->setup.side = BENCH_READER;
    if (!child_start(&pair->reader, &pair->setup, &nowhere, why)) {
        child_stop(&pair->owner);
        return false;
    }
    return true;
}

void bench_pair_stop(struct bench_pair *pair)
{
    bench_pair_rest(pair, false);
    child_stop(&pair->reader);
    child_stop(&pair->owner);
}

bool bench_pair_order(struct bench_pair *pair, enum bench_verb verb,
                      uint64_t duration_ns, struct bench_report *report)
{
    struct bench_order order = {.verb = verb, .duration_ns = duration_ns};
    int wait_ms = START_MS + (int)(duration_ns / 1000000u);
    return send(pair->reader.fd, &order, sizeof(order), MSG_NOSIGNAL) ==
               (ssize_t)sizeof(order) &&
           hear(&pair->reader, report, sizeof(*report), wait_ms);
}

char *bench_pair_info(struct bench_pair *pair)
{
    struct bench_order order = {.verb = BENCH_INFO};
    char *text = calloc(1, BENCH_INFO_MAX + 1);
    if (text != NULL &&
        (send(pair->reader.fd, &order, sizeof(order), MSG_NOSIGNAL) < 0 ||
         recv(pair->reader.fd, text, BENCH_INFO_MAX, 0) <= 0)) {
        free(text);
        text = NULL;
    }
    return text;
}

void bench_pair_rest(struct bench_pair *pair, bool rest)
{
    if (pair->setup.system == BENCH_UCX && pair->owner.pid != 0) {
        kill(pair->owner.pid, rest ? SIGSTOP : SIGCONT);
    }
}

uint64_t bench_child_cpu(const struct bench_child *child)
{
    clockid_t clock;
    struct timespec time;
    if (child->pid == 0 || clock_getcpuclockid(child->pid, &clock) != 0 ||
        clock_gettime(clock, &time) != 0) {
        return 0;
    }
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t bench_pair_cpu(const struct bench_pair *pair)
{
    return bench_child_cpu(&pair->owner) + bench_child_cpu(&pair->reader);
}
