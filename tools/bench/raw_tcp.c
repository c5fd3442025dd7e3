/*
 * raw_tcp.c - limits of served gets and of lookups: request and reply over
 * loopback TCP with a connection and a thread of the owner per reader thread.
 *
 * A variant is a set of the bits below; which is best depends on the machine,
 * so the coordinator tries them.
 */
#include "page.h"
#include "system.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SPIN = 1,  /* Poll for 50 us before sleeping. */
    LARGE = 2, /* 4 MiB socket buffers. */
    RENO = 4,  /* Not the system's congestion control, which may pace. */
    SPIN_NS = 50000,
    LARGE_BYTES = 4 << 20,
    BATCH_MAX = 4096,
    IOV_STEP = 256
};

struct request
{
    uint32_t n;
    uint32_t pages[BATCH_MAX];
};

struct owner
{
    const struct bench_setup *setup;
    unsigned char *pages; /* NULL: keys. */
    int fd;
    pthread_t acceptor;
};

struct served
{
    const struct owner *owner;
    int fd;
};

static void tune(int fd, uint32_t variant)
{
    static const char reno[] = "reno";
    int on = 1;
    int large = LARGE_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if ((variant & RENO) != 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, reno,
                         sizeof(reno) - 1);
    }
    if ((variant & LARGE) != 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
    }
}

/* Waits until there is something to read, polling first if that is wanted. */
static void await(int fd, bool spin)
{
    char byte;
    uint64_t end = spin ? bench_now() + SPIN_NS : 0;
    while (spin && bench_now() < end) {
        if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
            errno != EAGAIN) {
            return;
        }
    }
}

static bool receive(int fd, void *to, size_t len, bool spin)
{
    char *at = to;
    while (len > 0) {
        await(fd, spin);
        ssize_t n = recv(fd, at, len, spin ? 0 : MSG_WAITALL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_all(int fd, const void *from, size_t len)
{
    const char *at = from;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* writev until all of it went; changes the array. */
static bool send_vector(int fd, struct iovec *iov, size_t n)
{
    while (n > 0) {
        ssize_t sent = writev(fd, iov, (int)n);
        if (sent <= 0) {
            return false;
        }
        size_t left = (size_t)sent;
        for (; n > 0 && left >= iov->iov_len; iov++, n--) {
            left -= iov->iov_len;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
    return true;
}

static bool reply_pages(const struct served *served,
                        const struct request *request)
{
    size_t size = served->owner->setup->page_size;
    struct iovec iov[IOV_STEP];
    for (size_t at = 0; at < request->n;) {
        size_t n = 0;
        for (; n < IOV_STEP && at < request->n; n++, at++) {
            iov[n].iov_base = served->owner->pages + request->pages[at] * size;
            iov[n].iov_len = size;
        }
        if (!send_vector(served->fd, iov, n)) {
            return false;
        }
    }
    return true;
}

static bool is_request(const struct owner *owner, struct request *request)
{
    if (request->n == 0 || request->n > BATCH_MAX) {
        return false;
    }
    for (uint32_t i = 0; owner->pages != NULL && i < request->n; i++) {
        if (request->pages[i] >= owner->setup->n_pages) {
            return false;
        }
    }
    return true;
}

static bool serve_pages(struct served *served, struct request *request,
                        bool spin)
{
    return receive(served->fd, &request->n, sizeof(request->n), spin) &&
           request->n <= BATCH_MAX &&
           receive(served->fd, request->pages,
                   request->n * sizeof(request->pages[0]), false) &&
           is_request(served->owner, request) && reply_pages(served, request);
}

/* Keys come whole, a byte a key goes back: the least any store must say. */
static bool serve_keys(struct served *served, char *keys, bool spin)
{
    uint32_t n;
    if (!receive(served->fd, &n, sizeof(n), spin) || n > BATCH_MAX ||
        !receive(served->fd, keys, (size_t)n * BENCH_KEY_LEN, false)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = keys[(size_t)i * BENCH_KEY_LEN] != '\0';
    }
    return send_all(served->fd, keys, n);
}

static void *serve(void *arg)
{
    struct served *served = arg;
    bool spin = (served->owner->setup->variant & SPIN) != 0;
    struct request *request = malloc(sizeof(*request));
    char *keys = malloc((size_t)BATCH_MAX * BENCH_KEY_LEN);
    bool has_pages = served->owner->pages != NULL;
    while (request != NULL && keys != NULL &&
           (has_pages ? serve_pages(served, request, spin)
                      : serve_keys(served, keys, spin))) {
    }
    close(served->fd);
    free(keys);
    free(request);
    free(served);
    return NULL;
}

/* Threads of connections end with their readers, at the latest with us. */
static void *accept_all(void *arg)
{
    struct owner *owner = arg;
    int fd;
    while ((fd = accept(owner->fd, NULL, NULL)) >= 0) {
        struct served *served = malloc(sizeof(*served));
        pthread_t thread;
        if (served == NULL) {
            close(fd);
            continue;
        }
        tune(fd, owner->setup->variant);
        *served = (struct served){.owner = owner, .fd = fd};
        if (pthread_create(&thread, NULL, serve, served) != 0) {
            close(fd);
            free(served);
            continue;
        }
        pthread_detach(thread);
    }
    return NULL;
}

static bool listen_loopback(int fd, struct bench_place *place)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    if (bind(fd, (struct sockaddr *)&address, len) != 0 ||
        listen(fd, BENCH_THREADS_MAX) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return false;
    }
    place->len = sizeof(address);
    memcpy(place->bytes, &address, sizeof(address));
    return true;
}

/* In memory of the pool's kind: what is measured is the way, not the pages. */
static bool own_pages(const struct bench_setup *setup, struct owner *owner)
{
    int id;
    owner->pages =
        bench_shared_memory((size_t)setup->n_pages * setup->page_size, &id);
    for (uint32_t i = 0; owner->pages != NULL && i < setup->n_pages; i++) {
        bench_page_fill(owner->pages + (size_t)i * setup->page_size,
                        setup->page_size, i);
    }
    return owner->pages != NULL;
}

static bool own(const struct bench_setup *setup, struct bench_place *place,
                void **owner_p, char *why)
{
    struct owner *owner = calloc(1, sizeof(*owner));
    if (owner == NULL) {
        return false;
    }
    owner->setup = setup;
    owner->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tune(owner->fd, setup->variant);
    if ((setup->system == BENCH_TCP && !own_pages(setup, owner)) ||
        !listen_loopback(owner->fd, place) ||
        pthread_create(&owner->acceptor, NULL, accept_all, owner) != 0) {
        bench_why(why, "raw TCP owner: %s", strerror(errno));
        return false;
    }
    *owner_p = owner;
    return true;
}

static void disown(void *arg)
{
    (void)arg; /* The process ends now, and its threads with it. */
}

/* The reader's handle is the table of all keys, made before any time counts. */
static bool open_reader(const struct bench_setup *setup, void **reader_p,
                        char *why)
{
    if (setup->batch > BATCH_MAX) {
        bench_why(why, "batches of raw TCP have at most %d pages", BATCH_MAX);
        return false;
    }
    char *keys = malloc((size_t)setup->n_pages * BENCH_KEY_LEN);
    if (keys == NULL) {
        bench_why(why, "out of memory");
        return false;
    }
    for (uint32_t i = 0; i < setup->n_pages; i++) {
        bench_page_key(keys + (size_t)i * BENCH_KEY_LEN, i, 0);
    }
    *reader_p = keys;
    return true;
}

struct connection
{
    int fd;
    bool spin;
    struct request request;
    char keys[BATCH_MAX * BENCH_KEY_LEN];
};

static bool lane_open(struct bench_lane *lane, char *why)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    struct sockaddr_in address;
    if (connection == NULL) {
        return false;
    }
    memcpy(&address, lane->setup->place.bytes, sizeof(address));
    connection->spin = (lane->setup->variant & SPIN) != 0;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tune(connection->fd, lane->setup->variant);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof(address)) !=
        0) {
        bench_why(why, "raw TCP reader: %s", strerror(errno));
        close(connection->fd);
        free(connection);
        return false;
    }
    lane->priv = connection;
    return true;
}

static void lane_close(struct bench_lane *lane)
{
    struct connection *connection = lane->priv;
    if (connection != NULL) {
        close(connection->fd);
        free(connection);
    }
}

static size_t read_batch(struct bench_lane *lane, const uint32_t *pages,
                         size_t n)
{
    struct connection *connection = lane->priv;
    struct request *request = &connection->request;
    request->n = (uint32_t)n;
    memcpy(request->pages, pages, n * sizeof(pages[0]));
    bool ok = send_all(connection->fd, request,
                       sizeof(request->n) + n * sizeof(pages[0])) &&
              receive(connection->fd, lane->buffer, n * lane->setup->page_size,
                      connection->spin);
    return ok ? n : 0;
}

static size_t ask_batch(struct bench_lane *lane, const uint32_t *pages,
                        size_t n)
{
    struct connection *connection = lane->priv;
    uint32_t count = (uint32_t)n;
    char there[BATCH_MAX];
    size_t n_there = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(connection->keys + i * BENCH_KEY_LEN,
               (char *)lane->reader + (size_t)pages[i] * BENCH_KEY_LEN,
               BENCH_KEY_LEN);
    }
    struct iovec iov[2] = {{&count, sizeof(count)},
                           {connection->keys, n * BENCH_KEY_LEN}};
    if (!send_vector(connection->fd, iov, 2) ||
        !receive(connection->fd, there, n, connection->spin)) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        n_there += there[i] != 0;
    }
    return n_there;
}

const struct bench_system bench_tcp = {
    .name = "raw tcp",
    .lands = true,
    .own = own,
    .disown = disown,
    .open = open_reader,
    .close = free,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .batch = read_batch,
};

const struct bench_system bench_keys = {
    .name = "raw tcp keys",
    .own = own,
    .disown = disown,
    .open = open_reader,
    .close = free,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .batch = ask_batch,
};
