#include "limits.h"

#include "clock.h"
#include "page.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Pages are taken from here at random; as much as the nodes' pages that are
 * read (MEASURE_PAGES), so that both are equally cold. */
enum { COLD_BYTES = 256 << 20, BATCH_MAX = 64 };

static uint8_t *map_memory(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    memset(memory, 0x37, len); /* Faulted in. */
    return memory;
}

static uint8_t *random_page(uint8_t *memory, size_t page_size, uint64_t *random)
{
    *random += 0x9e3779b97f4a7c15u;
    return memory + page_mix(*random) % (COLD_BYTES / page_size) * page_size;
}

double limits_memcpy(size_t page_size, size_t n, uint64_t ms)
{
    uint8_t *from = map_memory(COLD_BYTES);
    uint8_t *to = map_memory(n * page_size);
    uint64_t random = 1, bytes = 0;
    uint64_t begin = clock_ns(), end = begin + ms * 1000000u, now = begin;
    if (from == NULL || to == NULL) {
        return 0;
    }
    while (now < end) {
        for (size_t i = 0; i < n; i++) {
            memcpy(to + i * page_size, random_page(from, page_size, &random),
                   page_size);
        }
        bytes += n * page_size;
        now = clock_ns();
    }
    munmap(from, COLD_BYTES);
    munmap(to, n * page_size);
    return (double)bytes / (double)(now - begin);
}

/* Move all of the pieces; false: the peer is gone. */
static bool transfer(int fd, struct iovec *pieces, int n, bool out)
{
    while (n > 0) {
        ssize_t moved = out ? writev(fd, pieces, n) : readv(fd, pieces, n);
        if (moved <= 0) {
            return false;
        }
        size_t left = (size_t)moved;
        while (n > 0 && left >= pieces->iov_len) {
            left -= pieces->iov_len;
            pieces++;
            n--;
        }
        if (n > 0) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + left;
            pieces->iov_len -= left;
        }
    }
    return true;
}

/* Answer each byte with n pages. */
static void answer(int fd, size_t page_size, size_t n)
{
    uint8_t *from = map_memory(COLD_BYTES);
    uint64_t random = 1;
    char asked = 0;
    while (from != NULL && read(fd, &asked, 1) == 1) {
        struct iovec pieces[BATCH_MAX];
        for (size_t i = 0; i < n; i++) {
            pieces[i] = (struct iovec){random_page(from, page_size, &random),
                                       page_size};
        }
        if (!transfer(fd, pieces, (int)n, true)) {
            break;
        }
    }
}

static double ask(int fd, size_t page_size, size_t n, uint64_t ms)
{
    uint8_t *to = map_memory(n * page_size);
    uint64_t bytes = 0, begin = 0, now = 0;
    bool first = true;
    while (to != NULL && (first || now - begin < ms * 1000000u)) {
        struct iovec pieces[BATCH_MAX];
        for (size_t i = 0; i < n; i++) {
            pieces[i] = (struct iovec){to + i * page_size, page_size};
        }
        if (write(fd, "?", 1) != 1 || !transfer(fd, pieces, (int)n, false)) {
            return 0;
        }
        now = clock_ns();
        if (first) { /* The other side has made its memory by now. */
            first = false;
            begin = now;
        } else {
            bytes += n * page_size;
        }
    }
    munmap(to, n * page_size);
    return now > begin ? (double)bytes / (double)(now - begin) : 0;
}

static int listen_on_loopback(struct sockaddr_in *address)
{
    socklen_t len = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd >= 0 && bind(fd, (struct sockaddr *)address, len) == 0 &&
        listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)address, &len) == 0) {
        return fd;
    }
    return -1;
}

double limits_tcp(size_t page_size, size_t n, uint64_t ms)
{
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    pid_t child = listener >= 0 && n <= BATCH_MAX ? fork() : -1;
    if (child < 0) {
        return 0;
    }
    int on = 1;
    if (child == 0) {
        int fd = accept(listener, NULL, NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        answer(fd, page_size, n);
        _exit(0);
    }
    double speed = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        speed = ask(fd, page_size, n, ms);
    }
    close(fd);
    close(listener);
    kill(child, SIGKILL); /* It may still wait for us. */
    waitpid(child, NULL, 0);
    return speed;
}
