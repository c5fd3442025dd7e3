/* The link's suite over TCP and Unix sockets, and what only sockets do. */
#include "test.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "link_place.h"
#include "transports/socket/socket.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STEP_NS     PC_MS
#define PATIENCE_NS (20 * PC_S)
#define ADDRESS_MAX 256

/* ---- A listening link that counts ---------------------------------------- */

struct host
{
    const struct pc_link_ops *ops;
    struct pc_link *link;
    char bound[ADDRESS_MAX];
    int n_accepted;
    int n_connected;
    int n_closed;
    int n_messages;
    peercache_status_t connected;
    peercache_status_t why;
};

static void *host_accepted(void *arg, struct pc_link_conn *conn,
                           enum pc_link_class cls, const char *from)
{
    (void)conn;
    (void)cls;
    (void)from;
    ((struct host *)arg)->n_accepted++;
    return arg;
}

static void host_connected(void *conn_arg, peercache_status_t status)
{
    struct host *host = conn_arg;
    host->n_connected++;
    host->connected = status;
}

static struct pc_link_sink *host_message(void *conn_arg, struct pc_blob head,
                                         size_t body_len)
{
    (void)head;
    (void)body_len;
    ((struct host *)conn_arg)->n_messages++;
    return NULL;
}

static void host_closed(void *conn_arg, peercache_status_t why)
{
    struct host *host = conn_arg;
    host->n_closed++;
    host->why = why;
}

static void host_open(struct host *host, const char *address)
{
    struct pc_link_params params = {.up = {.arg = host,
                                           .accepted = host_accepted,
                                           .connected = host_connected,
                                           .message = host_message,
                                           .closed = host_closed},
                                    .head_max = 4096,
                                    .stall_ns = PC_S};
    memset(host, 0, sizeof(*host));
    host->ops = pc_socket_link();
    assert_int_equal(host->ops->open(&params, &host->link), PEERCACHE_OK);
    if (address != NULL) {
        assert_int_equal(host->ops->listen(host->link, address, host->bound,
                                           sizeof(host->bound)),
                         PEERCACHE_OK);
    }
}

#define UNTIL(host, condition)                                                 \
    do {                                                                       \
        uint64_t until_ns = pc_clock_monotonic() + PATIENCE_NS;                \
        while (!(condition)) {                                                 \
            assert_true(pc_clock_monotonic() < until_ns);                      \
            (host)->ops->progress((host)->link, -1, STEP_NS);                  \
        }                                                                      \
    } while (0)

/* A plain socket, connected to the host. */
static int stranger(const struct host *host)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons((uint16_t)atoi(strrchr(host->bound, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static bool hung_up(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* ---- Garbage ------------------------------------------------------------- */

#define PREFIX   "PCM1"
#define PREAMBLE PREFIX "\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\0\0\0"

struct garbage
{
    const char *bytes;
    size_t len;
    bool greets; /* Begins with a good preamble. */
};
#define GARBAGE(greets, text)                                                  \
    {                                                                          \
        text, sizeof(text) - 1, greets                                         \
    }

static const struct garbage garbage[] = {
    GARBAGE(false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    GARBAGE(false, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    GARBAGE(false, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                   "\xff\xff"),
    /* A message where the preamble belongs. */
    GARBAGE(false, PREFIX "\x04\0\0\0\0\0\0\0\0\0\0\0abcd"),
    /* Preambles with a body, of a longer head, another version, class. */
    GARBAGE(false, PREFIX "\x08\0\0\0\x01\0\0\0\0\0\0\0PCL1\x01\0\0\0"),
    GARBAGE(false, PREFIX "\x09\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\0\0\0\0"),
    GARBAGE(false, PREFIX "\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x02\0\0\0"),
    GARBAGE(false, PREFIX "\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\x02\0\0"),
    GARBAGE(false, PREFIX "\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\0\x01\0"),
    GARBAGE(false, PREFIX "\x08\0\0\0\0\0\0\0\0\0\0\0XXXX\x01\0\0\0"),
    /* After a good one: wrong magic, a huge head, a huge body. */
    GARBAGE(true, PREAMBLE "XXXX\0\0\0\0\0\0\0\0\0\0\0\0"),
    GARBAGE(true, PREAMBLE PREFIX "\xff\xff\xff\xff\0\0\0\0\0\0\0\0"),
    GARBAGE(true, PREAMBLE PREFIX "\x01\x10\0\0\0\0\0\0\0\0\0\0"),
    GARBAGE(true, PREAMBLE PREFIX "\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
    GARBAGE(true, PREAMBLE PREFIX "\0\0\0\0\x01\0\0\0\x01\0\0\0"),
};

static void malformed_bytes_are_refused(void **state)
{
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    for (size_t i = 0; i < PC_ARRAY_LEN(garbage); i++) {
        int n_accepted = host.n_accepted;
        int n_closed = host.n_closed;
        int fd = stranger(&host);
        assert_int_equal(send(fd, garbage[i].bytes, garbage[i].len, 0),
                         garbage[i].len);
        UNTIL(&host, hung_up(fd));
        close(fd);
        assert_int_equal(host.n_accepted - n_accepted, garbage[i].greets);
        assert_int_equal(host.n_closed - n_closed, garbage[i].greets);
        if (garbage[i].greets) {
            assert_int_equal(host.why, PEERCACHE_PROTOCOL);
        }
    }
    assert_int_equal(host.n_messages, 0);
    host.ops->close(host.link);
}

/* Cut a good beginning at every byte, and hang up there. */
static void a_frame_that_is_cut_off_ends_quietly(void **state)
{
    static const char bytes[] =
        PREAMBLE PREFIX "\x04\0\0\0\x04\0\0\0\0\0\0\0abcdefgh";
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    for (size_t len = 0; len < sizeof(bytes) - 1; len++) {
        int n_closed = host.n_closed;
        int fd = stranger(&host);
        assert_int_equal(send(fd, bytes, len, 0), len);
        close(fd);
        if (len >= sizeof(PREAMBLE) - 1) {
            UNTIL(&host, host.n_closed > n_closed);
        }
    }
    host.ops->close(host.link);
    assert_int_equal(host.n_accepted, host.n_closed);
}

static void a_frame_may_come_byte_by_byte(void **state)
{
    static const char bytes[] =
        PREAMBLE PREFIX "\x04\0\0\0\x04\0\0\0\0\0\0\0abcdefgh";
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    int fd = stranger(&host);
    for (size_t i = 0; i < sizeof(bytes) - 1 && host.n_messages == 0; i++) {
        assert_int_equal(send(fd, bytes + i, 1, 0), 1);
        host.ops->progress(host.link, -1, 0);
    }
    UNTIL(&host, host.n_messages == 1);
    close(fd);
    host.ops->close(host.link);
}

static void strangers_without_a_preamble_are_bounded(void **state)
{
    enum { N_STRANGERS = 300, N_KEPT = 256 };
    static int fds[N_STRANGERS];
    int n_gone = 0;
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    for (int i = 0; i < N_STRANGERS; i++) {
        fds[i] = stranger(&host);
        host.ops->progress(host.link, -1, 0);
    }
    for (int i = 0; i < N_STRANGERS - N_KEPT; i++) {
        UNTIL(&host, hung_up(fds[i]));
    }
    for (int i = 0; i < N_STRANGERS; i++) {
        n_gone += hung_up(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(n_gone, N_STRANGERS - N_KEPT);
    host.ops->close(host.link);
}

/* ---- Waiting ------------------------------------------------------------- */

static void *wake_it(void *arg)
{
    struct host *host = arg;
    host->ops->wake(host->link);
    return NULL;
}

static void wake_from_another_thread_ends_a_wait(void **state)
{
    enum { N_ROUNDS = 200 };
    struct host host;
    (void)state;
    host_open(&host, NULL);
    uint64_t begin_ns = pc_clock_monotonic();
    for (int i = 0; i < N_ROUNDS; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_it, &host), 0);
        host.ops->progress(host.link, -1, 10 * PATIENCE_NS);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_true(pc_clock_monotonic() - begin_ns < PATIENCE_NS);
    host.ops->close(host.link);
}

static void a_wait_ends_for_a_foreign_descriptor(void **state)
{
    int pipe_fds[2];
    struct host host;
    (void)state;
    host_open(&host, NULL);
    /* Closed and opened again: another pipe with the same number. */
    for (int i = 0; i < 3; i++) {
        uint64_t begin_ns = pc_clock_monotonic();
        assert_int_equal(pipe(pipe_fds), 0);
        host.ops->progress(host.link, pipe_fds[0], 2 * PC_MS);
        assert_true(pc_clock_monotonic() - begin_ns >= 2 * PC_MS);
        assert_int_equal(write(pipe_fds[1], "x", 1), 1);
        host.ops->progress(host.link, pipe_fds[0], 10 * PATIENCE_NS);
        host.ops->progress(host.link, pipe_fds[0], 10 * PATIENCE_NS);
        assert_true(pc_clock_monotonic() - begin_ns < PATIENCE_NS);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    host.ops->close(host.link);
}

/* ---- Slow peers ---------------------------------------------------------- */

#define DRIP_BODY (8u << 20)

struct drip
{
    int fd;
    _Atomic bool over;
};

/* A byte of a long body, as often as can be. */
static void *drip_main(void *arg)
{
    struct drip *drip = arg;
    for (unsigned i = 0; i < DRIP_BODY && !atomic_load(&drip->over); i++) {
        (void)send(drip->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    return NULL;
}

static void sink_done(struct pc_link_sink *sink, peercache_status_t status)
{
    (void)sink;
    (void)status;
}

static struct pc_link_sink *drops(void *conn_arg, struct pc_blob head,
                                  size_t body_len)
{
    static struct pc_link_sink sink = {.done = sink_done};
    (void)head;
    (void)body_len;
    ((struct host *)conn_arg)->n_messages++;
    return &sink;
}

/* One call of progress does not go on for as long as such a peer does. */
static void a_body_that_drips_does_not_hold_the_loop(void **state)
{
    static const char bytes[] =
        PREAMBLE PREFIX "\x04\0\0\0\0\0\x80\0\0\0\0\0abcd";
    struct drip drip = {.over = false};
    struct host host = {.ops = pc_socket_link()};
    struct pc_link_params params = {.up = {.arg = &host,
                                           .accepted = host_accepted,
                                           .message = drops,
                                           .closed = host_closed},
                                    .head_max = 4096};
    pthread_t thread;
    (void)state;
    assert_int_equal(host.ops->open(&params, &host.link), PEERCACHE_OK);
    assert_int_equal(host.ops->listen(host.link, "127.0.0.1:0", host.bound,
                                      sizeof(host.bound)),
                     PEERCACHE_OK);
    drip.fd = stranger(&host);
    assert_int_equal(
        setsockopt(drip.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)),
        0);
    assert_int_equal(send(drip.fd, bytes, sizeof(bytes) - 1, 0),
                     sizeof(bytes) - 1);
    UNTIL(&host, host.n_messages == 1);
    assert_int_equal(pthread_create(&thread, NULL, drip_main, &drip), 0);
    uint64_t end_ns = pc_clock_monotonic() + 300 * PC_MS;
    unsigned worst = 0;
    while (pc_clock_monotonic() < end_ns) {
        unsigned work = host.ops->progress(host.link, -1, PC_MS);
        worst = work > worst ? work : worst;
    }
    atomic_store(&drip.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(drip.fd);
    host.ops->close(host.link);
    assert_true(worst > 0);
    assert_true(worst <= 16); /* Reads in one call, of a byte or so. */
}

/* ---- Descriptors --------------------------------------------------------- */

static int count_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n;
}

static void connections_leak_no_descriptor(void **state)
{
    enum { N_CYCLES = 200 };
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    int n_before = count_descriptors();
    for (int i = 1; i <= N_CYCLES; i++) {
        struct pc_link_conn *conn;
        assert_int_equal(host.ops->connect(host.link, host.bound,
                                           PC_LINK_CONTROL, UINT64_MAX, &host,
                                           &conn),
                         PEERCACHE_OK);
        UNTIL(&host, host.n_connected == i && host.n_accepted == i);
        assert_int_equal(host.connected, PEERCACHE_OK);
        host.ops->disconnect(conn);
        UNTIL(&host, host.n_closed == 2 * i);
    }
    assert_int_equal(count_descriptors(), n_before);
    host.ops->close(host.link);
}

static void a_listener_survives_the_lack_of_descriptors(void **state)
{
    enum { N_STRANGERS = 4 };
    int fds[N_STRANGERS];
    struct rlimit limit;
    struct rlimit low;
    struct host host;
    (void)state;
    host_open(&host, "127.0.0.1:0");
    for (int i = 0; i < N_STRANGERS; i++) {
        fds[i] = stranger(&host);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)fds[N_STRANGERS - 1] + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < N_STRANGERS; i++) {
        UNTIL(&host, hung_up(fds[i]));
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < N_STRANGERS; i++) {
        close(fds[i]);
    }
    int fd = stranger(&host);
    assert_int_equal(send(fd, PREAMBLE, sizeof(PREAMBLE) - 1, 0),
                     sizeof(PREAMBLE) - 1);
    UNTIL(&host, host.n_accepted == 1);
    close(fd);
    host.ops->close(host.link);
}

/* ---- Memory -------------------------------------------------------------- */

/* Whatever allocation fails, nothing crashes and nothing is left behind. */
static void lack_of_memory_ends_politely(void **state)
{
    enum { N_ALLOCATIONS = 24, N_STEPS = 12 };
    int64_t n_before = pc_mem_outstanding();
    (void)state;
    for (int n = 0; n < N_ALLOCATIONS; n++) {
        struct host host = {.ops = pc_socket_link()};
        struct pc_link_conn *conn;
        struct pc_link_params params = {.up = {.arg = &host,
                                               .accepted = host_accepted,
                                               .connected = host_connected,
                                               .message = host_message,
                                               .closed = host_closed},
                                        .head_max = 4096,
                                        .stall_ns = PC_S};
        pc_mem_fail_after(n);
        if (host.ops->open(&params, &host.link) == PEERCACHE_OK) {
            if (host.ops->listen(host.link, "127.0.0.1:0", host.bound,
                                 sizeof(host.bound)) == PEERCACHE_OK) {
                (void)host.ops->connect(host.link, host.bound, PC_LINK_BULK,
                                        UINT64_MAX, &host, &conn);
            }
            for (int i = 0; i < N_STEPS; i++) {
                host.ops->progress(host.link, -1, PC_US);
            }
            host.ops->close(host.link);
        }
        pc_mem_fail_after(-1);
        assert_int_equal(pc_mem_outstanding(), n_before);
    }
}

/* ---- Addresses ----------------------------------------------------------- */

static void ipv6_addresses_have_brackets(void **state)
{
    struct host host;
    struct pc_link_conn *conn;
    (void)state;
    /* Not every machine that builds has IPv6. */
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool available =
        fd >= 0 && bind(fd, (struct sockaddr *)&in6, sizeof(in6)) == 0;
    close(fd);
    if (!available) {
        skip();
    }
    host_open(&host, "[::1]:0");
    assert_int_equal(strncmp(host.bound, "[::1]:", 6), 0);
    assert_int_equal(host.ops->connect(host.link, host.bound, PC_LINK_BULK,
                                       UINT64_MAX, &host, &conn),
                     PEERCACHE_OK);
    UNTIL(&host, host.n_accepted == 1);
    host.ops->close(host.link);
    assert_int_equal(host.n_closed, 2);
}

static void an_abandoned_unix_path_is_taken_over(void **state)
{
    const char *folder = *state;
    char address[ADDRESS_MAX];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct host host;
    struct pc_link *other;
    char bound[ADDRESS_MAX];

    snprintf(un.sun_path, sizeof(un.sun_path), "%s/left", folder);
    snprintf(address, sizeof(address), "unix:%s/left", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    close(fd);
    host_open(&host, address);

    /* One in use is not. */
    struct pc_link_params params = {.head_max = 1};
    assert_int_equal(host.ops->open(&params, &other), PEERCACHE_OK);
    assert_int_equal(host.ops->listen(other, address, bound, sizeof(bound)),
                     PEERCACHE_IO);
    host.ops->close(other);
    host.ops->close(host.link);
    assert_int_not_equal(access(un.sun_path, F_OK), 0);
}

int main(void)
{
    struct link_place tcp = {.is_unix = false};
    struct link_place local = {.is_unix = true};
    char folder[] = "/tmp/peercache-link-XXXXXX";
    int n_failed = 0;

    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    snprintf(tcp.folder, sizeof(tcp.folder), "%s", folder);
    snprintf(local.folder, sizeof(local.folder), "%s", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(a_frame_that_is_cut_off_ends_quietly),
        cmocka_unit_test(a_frame_may_come_byte_by_byte),
        cmocka_unit_test(strangers_without_a_preamble_are_bounded),
        cmocka_unit_test(wake_from_another_thread_ends_a_wait),
        cmocka_unit_test(a_wait_ends_for_a_foreign_descriptor),
        cmocka_unit_test(a_body_that_drips_does_not_hold_the_loop),
        cmocka_unit_test(connections_leak_no_descriptor),
        cmocka_unit_test(a_listener_survives_the_lack_of_descriptors),
        cmocka_unit_test(lack_of_memory_ends_politely),
        cmocka_unit_test(ipv6_addresses_have_brackets),
        cmocka_unit_test_prestate(an_abandoned_unix_path_is_taken_over, folder),
    };
    n_failed += link_place_run("link over tcp", &tcp);
    n_failed += link_place_run("link over unix", &local);
    n_failed += cmocka_run_group_tests_name("socket", tests, NULL, NULL);
    (void)rmdir(folder);
    return n_failed;
}
