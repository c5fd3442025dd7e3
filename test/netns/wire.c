/*
 * wire.c - a slow, lossy cable in user space, for kernels without netem: two
 * TAP devices, one in the network namespace of a process, one in our own, and
 * this program between them.
 *
 *     wire PID DEVICE_THERE DEVICE_HERE DELAY_US LOSS_PPM RATE_BPS
 *
 * Frames go out DELAY_US after they came in, at most RATE_BPS bits a second
 * each way; LOSS_PPM of a million are dropped, and so are frames that find the
 * queue full. Says "ready" when both devices are there, and ends with its
 * standard input.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX 2048
#define QUEUE_MAX 512
#define NS_PER_S  1000000000u

struct frame
{
    uint64_t due_ns;
    size_t len;
    unsigned char bytes[FRAME_MAX];
};

/* One way: a ring of frames in order of their time. */
struct way
{
    int from, to;
    uint64_t idle_ns; /* When the cable has sent what is queued. */
    size_t first, n;
    struct frame frames[QUEUE_MAX];
};

static struct way ways[2];

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* A device belongs to the namespace in which /dev/net/tun was opened. */
static int open_tap_of(const char *pid, const char *name)
{
    char path[64];
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    int tap = -1;
    if (home >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0) {
        tap = open_tap(name);
        if (setns(home, CLONE_NEWNET) != 0) {
            exit(1);
        }
    }
    (void)close(home);
    (void)close(there);
    return tap;
}

static void take_frame(struct way *way, uint64_t delay_ns, uint64_t loss_ppm,
                       uint64_t rate_bps)
{
    unsigned char bytes[FRAME_MAX];
    ssize_t len;
    while ((len = read(way->from, bytes, sizeof(bytes))) > 0) {
        if (way->n == QUEUE_MAX || (uint64_t)random() % 1000000 < loss_ppm) {
            continue;
        }
        uint64_t now = now_ns();
        if (way->idle_ns < now) {
            way->idle_ns = now;
        }
        way->idle_ns += (uint64_t)len * 8 * NS_PER_S / rate_bps;
        struct frame *frame = &way->frames[(way->first + way->n++) % QUEUE_MAX];
        frame->due_ns = way->idle_ns + delay_ns;
        frame->len = (size_t)len;
        memcpy(frame->bytes, bytes, (size_t)len);
    }
}

static void send_due(struct way *way)
{
    uint64_t now = now_ns();
    while (way->n > 0 && way->frames[way->first].due_ns <= now) {
        const struct frame *frame = &way->frames[way->first];
        /* Refused by a device that is down: lost, as on a cable. */
        ssize_t sent = write(way->to, frame->bytes, frame->len);
        (void)sent;
        way->first = (way->first + 1) % QUEUE_MAX;
        way->n--;
    }
}

static uint64_t next_due(void)
{
    uint64_t due = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        if (ways[i].n > 0 && ways[i].frames[ways[i].first].due_ns < due) {
            due = ways[i].frames[ways[i].first].due_ns;
        }
    }
    return due;
}

static int run(uint64_t delay_ns, uint64_t loss_ppm, uint64_t rate_bps)
{
    for (;;) {
        struct pollfd fds[3] = {{.fd = ways[0].from, .events = POLLIN},
                                {.fd = ways[1].from, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        uint64_t due = next_due();
        uint64_t now = now_ns();
        uint64_t wait = due == UINT64_MAX ? NS_PER_S
                        : due > now       ? due - now
                                          : 0;
        struct timespec time = {.tv_sec = (time_t)(wait / NS_PER_S),
                                .tv_nsec = (long)(wait % NS_PER_S)};
        if (ppoll(fds, 3, &time, NULL) < 0 && errno != EINTR) {
            return 1;
        }
        if (fds[2].revents != 0) {
            return 0;
        }
        for (int i = 0; i < 2; i++) {
            take_frame(&ways[i], delay_ns, loss_ppm, rate_bps);
            send_due(&ways[i]);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        (void)fprintf(stderr, "usage: wire PID DEVICE_THERE DEVICE_HERE "
                              "DELAY_US LOSS_PPM RATE_BPS\n");
        return 2;
    }
    uint64_t delay_ns = strtoull(argv[4], NULL, 10) * 1000;
    uint64_t loss_ppm = strtoull(argv[5], NULL, 10);
    uint64_t rate_bps = strtoull(argv[6], NULL, 10);
    int there = open_tap_of(argv[1], argv[2]);
    int here = open_tap(argv[3]);
    if (there < 0 || here < 0 || rate_bps == 0) {
        perror("wire");
        return 1;
    }
    ways[0].from = ways[1].to = there;
    ways[0].to = ways[1].from = here;
    (void)puts("ready");
    (void)fflush(stdout);
    return run(delay_ns, loss_ppm, rate_bps);
}
