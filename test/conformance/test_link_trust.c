/* Who is believed on a link, what leaves it readable, and what tampering
 * does. */
#include "test.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "certs.h"
#include "transports/socket/socket.h"
#include "transports/socket/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP_NS     PC_MS
#define PATIENCE_NS (20 * PC_S)

#define KEY_A "aaaabbbbccccddddeeeeffff00001111222233334444555566667777deadbeef"
#define KEY_B "f00dbbbbccccddddeeeeffff00001111222233334444555566667777deadbeef"

static char folder[64]; /* Of the certificates. */

/* ---- Two links ------------------------------------------------------------
 */

struct end
{
    const struct pc_link_ops *ops;
    struct pc_link *link;
    struct pc_link_conn *conn;
    char bound[128];
    struct pc_link_sink sink;
    char got[256];
    peercache_piece_t piece;
    int n_accepted, n_connected, n_closed, n_messages;
    peercache_status_t connected, why;
};

static void *accepted(void *arg, struct pc_link_conn *conn,
                      enum pc_link_class cls, const char *from)
{
    struct end *end = arg;
    (void)cls;
    (void)from;
    end->conn = conn;
    end->n_accepted++;
    return end;
}

static void connected(void *conn_arg, peercache_status_t status)
{
    struct end *end = conn_arg;
    end->n_connected++;
    end->connected = status;
    end->conn = status == PEERCACHE_OK ? end->conn : NULL;
}

static void landed(struct pc_link_sink *sink, peercache_status_t status)
{
    struct end *end = PC_CONTAINER_OF(sink, struct end, sink);
    end->n_messages += status == PEERCACHE_OK;
}

static struct pc_link_sink *message(void *conn_arg, struct pc_blob head,
                                    size_t body_len)
{
    struct end *end = conn_arg;
    (void)head;
    if (body_len > sizeof(end->got)) {
        return NULL;
    }
    end->piece = (peercache_piece_t){.addr = end->got, .len = body_len};
    end->sink = (struct pc_link_sink){
        .pieces = &end->piece, .n_pieces = 1, .done = landed};
    return &end->sink;
}

static void closed(void *conn_arg, peercache_status_t why)
{
    struct end *end = conn_arg;
    end->n_closed++;
    end->why = why;
    end->conn = NULL;
}

static peercache_status_t end_try(struct end *end,
                                  const struct pc_link_tls *tls)
{
    struct pc_link_params params = {.up = {.arg = end,
                                           .accepted = accepted,
                                           .connected = connected,
                                           .message = message,
                                           .closed = closed},
                                    .tls = tls,
                                    .head_max = 4096,
                                    .stall_ns = PC_S};
    memset(end, 0, sizeof(*end));
    end->ops = pc_socket_link();
    return end->ops->open(&params, &end->link);
}

static void end_open(struct end *end, const struct pc_link_tls *tls)
{
    assert_int_equal(end_try(end, tls), PEERCACHE_OK);
    assert_int_equal(end->ops->listen(end->link, "127.0.0.1:0", end->bound,
                                      sizeof(end->bound)),
                     PEERCACHE_OK);
}

static void end_close(struct end *end)
{
    end->ops->close(end->link);
}

static struct pc_link_stats stats_of(const struct end *end)
{
    struct pc_link_stats stats;
    end->ops->stats(end->link, &stats);
    return stats;
}

static void step(struct end *a, struct end *b)
{
    unsigned work = a->ops->progress(a->link, -1, 0);
    work += b == NULL ? 0 : b->ops->progress(b->link, -1, 0);
    if (work == 0) {
        a->ops->progress(a->link, -1, STEP_NS);
    }
}

#define UNTIL(a, b, condition)                                                 \
    do {                                                                       \
        uint64_t until_ns = pc_clock_monotonic() + PATIENCE_NS;                \
        while (!(condition)) {                                                 \
            if (pc_clock_monotonic() >= until_ns) {                            \
                fail_msg("in vain: %s", #condition);                           \
            }                                                                  \
            step(a, b);                                                        \
        }                                                                      \
    } while (0)

static void call(struct end *from, struct end *to, const char *address)
{
    assert_int_equal(from->ops->connect(from->link, address, PC_LINK_CONTROL,
                                        pc_clock_monotonic() + PATIENCE_NS,
                                        from, &from->conn),
                     PEERCACHE_OK);
    UNTIL(from, to, from->n_connected == 1);
}

static void never_sent(struct pc_link_send *send, peercache_status_t status)
{
    (void)send;
    (void)status;
}

static void tell(struct end *from, struct end *to, const char *text)
{
    peercache_piece_t piece = {.addr = (void *)(uintptr_t)text,
                               .len = strlen(text)};
    struct pc_link_send send = {.conn = from->conn,
                                .head = {"head", 4},
                                .pieces = &piece,
                                .n_pieces = 1,
                                .done = never_sent};
    int n = to->n_messages;
    assert_int_equal(from->ops->send(&send), PEERCACHE_IN_PROGRESS);
    UNTIL(from, to, to->n_messages == n + 1);
    assert_memory_equal(to->got, text, strlen(text));
}

/* ---- What they prove themselves with ---------------------------------------
 */

static char reason[512];

static struct pc_link_tls with_keys(const char *first, const char *second)
{
    struct pc_link_tls tls = {.cluster = "peercache",
                              .keys = {{first, strlen(first)}},
                              .n_keys = second == NULL ? 1 : 2,
                              .encrypt = true,
                              .reason = reason,
                              .reason_len = sizeof(reason)};
    if (second != NULL) {
        tls.keys[1] = (struct pc_blob){second, strlen(second)};
    }
    return tls;
}

/* The last lines of the log that were warnings. */
static char lines[2][512];
static unsigned n_lines;

static void keep_line(void *arg, peercache_log_level_t level, const char *where,
                      const char *text)
{
    (void)arg;
    (void)where;
    if (level <= PEERCACHE_LOG_WARN) {
        (void)snprintf(lines[n_lines++ % 2], sizeof(lines[0]), "%s", text);
    }
}

static bool was_said(const char *text)
{
    return strstr(lines[0], text) != NULL || strstr(lines[1], text) != NULL;
}

static void meet(const struct pc_link_tls *caller,
                 const struct pc_link_tls *listener)
{
    struct end a;
    struct end b;
    end_open(&a, caller);
    end_open(&b, listener);
    call(&a, &b, b.bound);
    assert_int_equal(a.connected, PEERCACHE_OK);
    UNTIL(&a, &b, b.n_accepted == 1);
    tell(&a, &b, "there");
    tell(&b, &a, "and back");
    if (caller != NULL) {
        assert_int_equal(stats_of(&a).n_secured, 1);
        assert_int_equal(stats_of(&b).n_secured, 1);
    }
    end_close(&a);
    end_close(&b);
}

/* Neither is told of the other; both say why, once, and count it. */
static void refuse(const struct pc_link_tls *caller,
                   const struct pc_link_tls *listener, const char *caller_says,
                   const char *listener_says)
{
    struct end a;
    struct end b;
    memset(lines, 0, sizeof(lines));
    end_open(&a, caller);
    end_open(&b, listener);
    call(&a, &b, b.bound);
    if (a.connected == PEERCACHE_OK) {
        /* With certificates the caller is judged last. */
        UNTIL(&a, &b, a.n_closed == 1);
        a.connected = a.why;
    }
    UNTIL(&a, &b, stats_of(&b).n_conns == 0);
    if (caller_says != NULL) {
        assert_int_equal(a.connected, PEERCACHE_UNAUTHENTICATED);
        assert_int_equal(stats_of(&a).refused_untrusted, 1);
        if (!was_said(caller_says)) {
            fail_msg("\"%s\" was not said: %s / %s", caller_says, lines[0],
                     lines[1]);
        }
    }
    if (listener_says != NULL && !was_said(listener_says)) {
        fail_msg("\"%s\" was not said: %s / %s", listener_says, lines[0],
                 lines[1]);
    }
    struct pc_link_stats stats = stats_of(&b);
    assert_int_equal(stats.refused_untrusted + stats.refused_protocol,
                     listener_says != NULL);
    assert_int_equal(b.n_accepted, 0);
    assert_int_equal(b.n_messages, 0);
    end_close(&a);
    end_close(&b);
}

static void the_same_key_is_believed(void **state)
{
    struct pc_link_tls tls = with_keys(KEY_A, NULL);
    (void)state;
    meet(&tls, &tls);
}

static void another_key_is_refused(void **state)
{
    struct pc_link_tls a = with_keys(KEY_A, NULL);
    struct pc_link_tls b = with_keys(KEY_B, NULL);
    (void)state;
    refuse(&a, &b, "it has another key", "it has another cluster key");
}

static void a_key_is_good_for_one_cluster_only(void **state)
{
    struct pc_link_tls a = with_keys(KEY_A, NULL);
    struct pc_link_tls b = with_keys(KEY_A, NULL);
    (void)state;
    b.cluster = "another";
    refuse(&a, &b, "it has another key", "it has another cluster key");
}

/* old -> (old, new) -> (new, old) -> new: at each step nodes of both sides of
 * it meet, whoever calls. */
static void keys_change_without_a_moment_of_distrust(void **state)
{
    struct pc_link_tls steps[] = {
        with_keys(KEY_A, NULL), with_keys(KEY_A, KEY_B),
        with_keys(KEY_B, KEY_A), with_keys(KEY_B, NULL)};
    (void)state;
    for (int i = 0; i < 3; i++) {
        meet(&steps[i], &steps[i + 1]);
        meet(&steps[i + 1], &steps[i]);
    }
    refuse(&steps[2], &steps[0], "another key", "another cluster key");
}

static void keys_and_certificates_do_not_mix(void **state)
{
    struct pc_link_tls key = with_keys(KEY_A, NULL);
    struct pc_link_tls node;
    (void)state;
    certs_tls(folder, "node", &node);
    refuse(&key, &node, "not know our cluster key", "a key, no certificate");
    refuse(&node, &key, "it refused us", "no cluster key");
}

static void encrypt_must_agree(void **state)
{
    struct pc_link_tls secret = with_keys(KEY_A, NULL);
    struct pc_link_tls clear = with_keys(KEY_A, NULL);
    (void)state;
    clear.encrypt = false;
    meet(&clear, &clear);
    refuse(&secret, &clear, "its setting encrypt differs", "encrypt differs");
    refuse(&clear, &secret, "its setting encrypt differs", "encrypt differs");
}

static void plain_and_tls_do_not_meet(void **state)
{
    struct pc_link_tls tls = with_keys(KEY_A, NULL);
    (void)state;
    refuse(&tls, NULL, "has it no cluster key", "it wants TLS");
    /* A plain caller is connected at once, and hears the alert later. */
    struct end a;
    struct end b;
    memset(lines, 0, sizeof(lines));
    end_open(&a, NULL);
    end_open(&b, &tls);
    call(&a, &b, b.bound);
    UNTIL(&a, &b, a.n_closed == 1);
    assert_int_equal(b.n_accepted, 0);
    assert_int_equal(stats_of(&b).refused_protocol, 1);
    assert_true(was_said("it does not speak TLS"));
    end_close(&a);
    end_close(&b);
}

/* ---- Certificates ---------------------------------------------------------
 */

static void certificates_of_one_authority_are_believed(void **state)
{
    struct pc_link_tls node;
    (void)state;
    certs_tls(folder, "node", &node);
    meet(&node, &node);
    node.encrypt = false;
    meet(&node, &node);
}

static void a_foreign_certificate_is_refused(void **state)
{
    struct pc_link_tls node;
    struct pc_link_tls foreign;
    struct pc_link_tls other;
    (void)state;
    certs_tls(folder, "node", &node);
    certs_tls(folder, "foreign", &foreign);
    certs_tls(folder, "other", &other);
    foreign.ca = other.cert;
    /* The caller looks at the listener's first. */
    refuse(&foreign, &node, "its certificate is not accepted",
           "its tls_ca does not know");
    refuse(&node, &foreign, "its certificate is not accepted",
           "its tls_ca does not know");
}

static void a_certificate_for_another_name_is_refused(void **state)
{
    struct pc_link_tls node;
    struct pc_link_tls stranger;
    (void)state;
    certs_tls(folder, "node", &node);
    certs_tls(folder, "stranger", &stranger);
    stranger.name = "somebody.else";
    refuse(&node, &stranger, "hostname mismatch",
           "it does not accept our certificate");
}

/* One that would believe anybody: openssl's own client, with a certificate
 * that the listener must not accept. */
static void show(const char *name, const char *listener_says)
{
    char command[512];
    struct pc_link_tls node;
    struct end b;
    certs_tls(folder, "node", &node);
    memset(lines, 0, sizeof(lines));
    end_open(&b, &node);
    (void)snprintf(command, sizeof(command),
                   "exec openssl s_client -connect %s -tls1_3 -alpn "
                   "peercache/1 -cert %s/%s.pem -key %s/%s.key -quiet "
                   "</dev/null >/dev/null 2>&1",
                   b.bound, folder, name, folder, name);
    FILE *client = popen(command, "r");
    assert_non_null(client);
    UNTIL(&b, NULL, stats_of(&b).refused_untrusted == 1);
    (void)pclose(client);
    if (!was_said(listener_says)) {
        fail_msg("\"%s\" was not said: %s", listener_says, lines[0]);
    }
    assert_int_equal(b.n_accepted, 0);
    end_close(&b);
}

static void the_listener_judges_certificates_itself(void **state)
{
    (void)state;
    show("expired", "certificate has expired");
    show("stranger", "hostname mismatch");
    show("foreign", "unable to get local issuer certificate");
    show("server", "certificate purpose");
}

static void who_would_be_refused_hears_it_at_its_start(void **state)
{
    static const char *const names[] = {"expired", "stranger", "foreign",
                                        "server", "client"};
    static const char *const says[] = {"expired", "mismatch", "issuer",
                                       "purpose", "purpose"};
    (void)state;
    for (size_t i = 0; i < PC_ARRAY_LEN(names); i++) {
        struct pc_link_tls tls;
        struct end a;
        certs_tls(folder, names[i], &tls);
        assert_int_equal(end_try(&a, &tls), PEERCACHE_INVALID);
        assert_non_null(strstr(tls.reason, "tls_cert"));
        assert_non_null(strstr(tls.reason, says[i]));
    }
    struct pc_link_tls tls;
    struct pc_link_tls other;
    struct end a;
    certs_tls(folder, "node", &tls);
    certs_tls(folder, "foreign", &other);
    tls.key = other.key;
    assert_int_equal(end_try(&a, &tls), PEERCACHE_INVALID);
    assert_non_null(strstr(tls.reason, "tls_key"));
}

/* ---- Somebody on the path --------------------------------------------------
 */

#define TAPE_LEN (256u << 10)

/* Between a caller and a listener, one connection; it keeps what passes. */
struct tap
{
    int listener, caller, callee;
    char address[64];
    char to[128];
    size_t n_there, n_back;
    bool flip; /* One bit of what passes next. */
    unsigned char there[TAPE_LEN], back[TAPE_LEN];
};

static int connect_to(const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void tap_open(struct tap *tap, const char *to)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    memset(tap, 0, sizeof(*tap));
    tap->caller = -1;
    tap->callee = -1;
    tap->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(tap->listener, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(tap->listener, 1), 0);
    assert_int_equal(getsockname(tap->listener, (struct sockaddr *)&in, &len),
                     0);
    (void)snprintf(tap->address, sizeof(tap->address), "127.0.0.1:%u",
                   ntohs(in.sin_port));
    (void)snprintf(tap->to, sizeof(tap->to), "%s", to);
}

static void tap_close(struct tap *tap)
{
    close(tap->listener);
    close(tap->caller);
    close(tap->callee);
}

static void pass(struct tap *tap, int from, int to, unsigned char *tape,
                 size_t *n_p)
{
    ssize_t n = recv(from, tape + *n_p, TAPE_LEN - *n_p, 0);
    if (n <= 0) {
        return;
    }
    unsigned char saved = tape[*n_p + (size_t)n - 1];
    if (tap->flip) {
        tape[*n_p + (size_t)n - 1] ^= 0x10;
        tap->flip = false;
    }
    (void)send(to, tape + *n_p, (size_t)n, MSG_NOSIGNAL);
    tape[*n_p + (size_t)n - 1] = saved;
    *n_p += (size_t)n;
}

static void tap_step(struct tap *tap)
{
    if (tap->caller < 0) {
        tap->caller =
            accept4(tap->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (tap->caller < 0) {
            return;
        }
        tap->callee = connect_to(tap->to);
    }
    pass(tap, tap->caller, tap->callee, tap->there, &tap->n_there);
    pass(tap, tap->callee, tap->caller, tap->back, &tap->n_back);
}

static struct tap tap;
static struct pc_link_tls tap_tls;

#define UNTIL_TAPPED(a, b, condition) UNTIL(a, b, (tap_step(&tap), (condition)))

/* Two links that have talked through a tap. */
static void talk_tapped(struct end *a, struct end *b)
{
    static const char text[] = "nobody shall read these words";
    peercache_piece_t piece = {.addr = (void *)(uintptr_t)text,
                               .len = sizeof(text)};
    end_open(a, &tap_tls);
    end_open(b, &tap_tls);
    tap_open(&tap, b->bound);
    assert_int_equal(a->ops->connect(a->link, tap.address, PC_LINK_CONTROL,
                                     UINT64_MAX, a, &a->conn),
                     PEERCACHE_OK);
    UNTIL_TAPPED(a, b, a->n_connected == 1 && b->n_accepted == 1);
    struct pc_link_send send = {.conn = a->conn,
                                .head = {"head", 4},
                                .pieces = &piece,
                                .n_pieces = 1,
                                .done = never_sent};
    assert_int_equal(a->ops->send(&send), PEERCACHE_IN_PROGRESS);
    UNTIL_TAPPED(a, b, b->n_messages == 1);
}

static bool was_seen(const char *text)
{
    return memmem(tap.there, tap.n_there, text, strlen(text)) != NULL ||
           memmem(tap.back, tap.n_back, text, strlen(text)) != NULL;
}

static void nothing_readable_passes(void **state)
{
    struct end a;
    struct end b;
    (void)state;
    for (int encrypt = 0; encrypt <= 1; encrypt++) {
        tap_tls = with_keys(KEY_A, NULL);
        tap_tls.encrypt = encrypt == 1;
        talk_tapped(&a, &b);
        /* In clear the tap proves that it would see it. */
        assert_int_equal(was_seen("nobody shall read"), !encrypt);
        assert_int_equal(was_seen("PCM1"), !encrypt);
        /* Of the key never anything, nor of its cluster. */
        assert_false(was_seen("aaaabbbb"));
        assert_false(was_seen("deadbeef"));
        end_close(&a);
        end_close(&b);
        tap_close(&tap);
    }
}

static void a_flipped_bit_ends_the_connection_and_is_counted(void **state)
{
    static const char text[] = "these words will not arrive";
    peercache_piece_t piece = {.addr = (void *)(uintptr_t)text,
                               .len = sizeof(text)};
    struct end a;
    struct end b;
    (void)state;
    tap_tls = with_keys(KEY_A, NULL);
    talk_tapped(&a, &b);
    struct pc_link_send send = {.conn = a.conn,
                                .head = {"head", 4},
                                .pieces = &piece,
                                .n_pieces = 1,
                                .done = never_sent};
    tap.flip = true;
    assert_int_equal(a.ops->send(&send), PEERCACHE_IN_PROGRESS);
    UNTIL_TAPPED(&a, &b, b.n_closed == 1);
    assert_int_equal(b.why, PEERCACHE_PROTOCOL);
    assert_int_equal(b.n_messages, 1);
    assert_int_equal(stats_of(&b).forged, 1);
    assert_true(was_said("forged or damaged"));
    end_close(&a);
    end_close(&b);
    tap_close(&tap);
}

/* Every bit of a handshake's bytes, the first 2,000 of them. */
static void a_flipped_bit_in_a_handshake_is_never_believed(void **state)
{
    struct end a;
    struct end b;
    (void)state;
    tap_tls = with_keys(KEY_A, NULL);
    talk_tapped(&a, &b);
    tap_close(&tap);
    end_close(&a);
    size_t len = tap.n_there < 600 ? tap.n_there : 600;
    for (size_t i = 0; i < len; i++) {
        int fd = connect_to(b.bound);
        tap.there[i] ^= (unsigned char)(1u << (i % 8));
        (void)send(fd, tap.there, tap.n_there, MSG_NOSIGNAL);
        tap.there[i] ^= (unsigned char)(1u << (i % 8));
        close(fd);
        b.ops->progress(b.link, -1, 0);
    }
    UNTIL(&b, NULL, stats_of(&b).n_conns == 0);
    assert_int_equal(b.n_accepted, 1);
    assert_int_equal(b.n_messages, 1);
    end_close(&b);
}

static void a_recording_is_not_believed(void **state)
{
    struct end a;
    struct end b;
    (void)state;
    tap_tls = with_keys(KEY_A, NULL);
    talk_tapped(&a, &b);
    tap_close(&tap);
    end_close(&a);
    UNTIL(&b, NULL, stats_of(&b).n_conns == 0);
    /* Whole, and cut off at every place. */
    for (size_t len = tap.n_there; len > 0; len -= len > 7 ? 7 : len) {
        int fd = connect_to(b.bound);
        (void)send(fd, tap.there, len, MSG_NOSIGNAL);
        b.ops->progress(b.link, -1, 0);
        close(fd);
    }
    UNTIL(&b, NULL, stats_of(&b).n_conns == 0);
    assert_int_equal(b.n_accepted, 1);
    assert_int_equal(b.n_messages, 1);
    end_close(&b);
}

/* ---- Strangers ------------------------------------------------------------
 */

static bool hung_up(int fd)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
    }
    return n == 0 || errno != EAGAIN;
}

static void handshakes_are_bounded_and_a_friend_gets_through(void **state)
{
    enum { N_STRANGERS = 300, N_KEPT = 256 };
    static int fds[N_STRANGERS];
    struct pc_link_tls tls = with_keys(KEY_A, NULL);
    struct end a;
    struct end b;
    int n_gone = 0;
    (void)state;
    end_open(&a, &tls);
    end_open(&b, &tls);
    for (int i = 0; i < N_STRANGERS; i++) {
        fds[i] = connect_to(b.bound);
        /* The beginning of a record whose rest never comes. */
        (void)send(fds[i], "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
        b.ops->progress(b.link, -1, 0);
    }
    UNTIL(&b, NULL, stats_of(&b).refused_full == N_STRANGERS - N_KEPT);
    assert_int_equal(stats_of(&b).n_strangers, N_KEPT);
    call(&a, &b, b.bound);
    assert_int_equal(a.connected, PEERCACHE_OK);
    UNTIL(&a, &b, b.n_accepted == 1);
    /* Those that say nothing go by themselves, in time. */
    UNTIL(&a, &b, stats_of(&b).n_strangers == 0);
    for (int i = 0; i < N_STRANGERS; i++) {
        n_gone += hung_up(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(n_gone, N_STRANGERS);
    assert_true(stats_of(&b).refused_late > 0);
    end_close(&a);
    end_close(&b);
}

/* Hellos that cost the listener a signature each. */
static void costly_handshakes_take_turns(void **state)
{
    enum { N_STRANGERS = 12 };
    int fds[N_STRANGERS];
    bool answered[N_STRANGERS] = {false};
    int n_answered = 0;
    struct end a;
    struct end b;
    (void)state;
    certs_tls(folder, "slow", &tap_tls);
    talk_tapped(&a, &b);
    tap_close(&tap);
    end_close(&a);
    UNTIL(&b, NULL, stats_of(&b).n_conns == 0);
    /* The first record of the recording: its length is in bytes 3 and 4. */
    size_t len = 5 + ((size_t)tap.there[3] << 8) + tap.there[4];
    for (int i = 0; i < N_STRANGERS; i++) {
        fds[i] = connect_to(b.bound);
        assert_int_equal(send(fds[i], tap.there, len, MSG_NOSIGNAL), len);
    }
    uint64_t until_ns = pc_clock_monotonic() + PATIENCE_NS;
    while (n_answered < N_STRANGERS && pc_clock_monotonic() < until_ns) {
        int n_before = n_answered;
        b.ops->progress(b.link, -1, STEP_NS);
        for (int i = 0; i < N_STRANGERS; i++) {
            char byte;
            if (!answered[i] && recv(fds[i], &byte, 1, MSG_PEEK) == 1) {
                answered[i] = true;
                n_answered++;
            }
        }
        assert_true(n_answered - n_before <= 4);
    }
    assert_int_equal(n_answered, N_STRANGERS);
    for (int i = 0; i < N_STRANGERS; i++) {
        close(fds[i]);
    }
    end_close(&b);
}

static void incoming_connections_are_bounded(void **state)
{
    enum { N = 4 };
    int fds[N + 2];
    struct end b = {.ops = pc_socket_link()};
    struct pc_link_params params = {.up = {.arg = &b,
                                           .accepted = accepted,
                                           .message = message,
                                           .closed = closed},
                                    .n_incoming_max = N,
                                    .head_max = 64};
    (void)state;
    assert_int_equal(b.ops->open(&params, &b.link), PEERCACHE_OK);
    assert_int_equal(
        b.ops->listen(b.link, "127.0.0.1:0", b.bound, sizeof(b.bound)),
        PEERCACHE_OK);
    for (int i = 0; i < N + 2; i++) {
        fds[i] = connect_to(b.bound);
        UNTIL(&b, NULL,
              stats_of(&b).n_incoming + stats_of(&b).refused_full >=
                  (uint64_t)i + 1);
    }
    assert_int_equal(stats_of(&b).n_incoming, N);
    assert_int_equal(stats_of(&b).refused_full, 2);
    for (int i = 0; i < N + 2; i++) {
        close(fds[i]);
    }
    UNTIL(&b, NULL, stats_of(&b).n_incoming == 0);
    end_close(&b);
}

static void bodies_are_bounded(void **state)
{
    struct end a;
    struct end b = {.ops = pc_socket_link()};
    struct pc_link_params params = {.up = {.arg = &b,
                                           .accepted = accepted,
                                           .message = message,
                                           .closed = closed},
                                    .body_max = 8,
                                    .head_max = 64};
    peercache_piece_t piece = {.addr = (void *)(uintptr_t) "123456789",
                               .len = 9};
    (void)state;
    end_open(&a, NULL);
    assert_int_equal(b.ops->open(&params, &b.link), PEERCACHE_OK);
    assert_int_equal(
        b.ops->listen(b.link, "127.0.0.1:0", b.bound, sizeof(b.bound)),
        PEERCACHE_OK);
    call(&a, &b, b.bound);
    UNTIL(&a, &b, b.n_accepted == 1);
    tell(&a, &b, "12345678");
    assert_int_equal(stats_of(&b).head_max, 8); /* The preamble's. */
    struct pc_link_send send = {.conn = a.conn,
                                .head = {"head", 4},
                                .pieces = &piece,
                                .n_pieces = 1,
                                .done = never_sent};
    assert_int_equal(a.ops->send(&send), PEERCACHE_IN_PROGRESS);
    UNTIL(&a, &b, b.n_closed == 1);
    assert_int_equal(b.why, PEERCACHE_PROTOCOL);
    end_close(&a);
    end_close(&b);
}

static void without_a_key_other_hosts_are_out_of_reach(void **state)
{
    struct end a = {.ops = pc_socket_link()};
    struct pc_link_params params = {
        .up = {.arg = &a, .connected = connected, .closed = closed},
        .loopback_only = true,
        .head_max = 64};
    (void)state;
    assert_int_equal(a.ops->open(&params, &a.link), PEERCACHE_OK);
    assert_int_equal(a.ops->connect(a.link, "192.0.2.1:1", PC_LINK_CONTROL,
                                    UINT64_MAX, &a, &a.conn),
                     PEERCACHE_UNAUTHENTICATED);
    assert_int_equal(a.ops->connect(a.link, "127.0.0.1:1", PC_LINK_CONTROL,
                                    UINT64_MAX, &a, &a.conn),
                     PEERCACHE_OK);
    end_close(&a);
}

/* ---- Beside a host ---------------------------------------------------------
 */

struct helper
{
    struct end *a, *b;
    sem_t met, parted;
};

static void *meet_and_stay(void *arg)
{
    struct helper *helper = arg;
    call(helper->a, helper->b, helper->b->bound);
    assert_int_equal(sem_post(&helper->met), 0);
    while (sem_wait(&helper->parted) != 0) {
    }
    return NULL;
}

/* Threads of the host that made turns may end long after the link. */
static void a_thread_may_outlive_the_links_it_served(void **state)
{
    struct pc_link_tls tls = with_keys(KEY_A, NULL);
    struct end a;
    struct end b;
    struct helper helper = {.a = &a, .b = &b};
    pthread_t thread;
    (void)state;
    assert_int_equal(sem_init(&helper.met, 0, 0), 0);
    assert_int_equal(sem_init(&helper.parted, 0, 0), 0);
    end_open(&a, &tls);
    end_open(&b, &tls);
    assert_int_equal(pthread_create(&thread, NULL, meet_and_stay, &helper), 0);
    while (sem_wait(&helper.met) != 0) {
    }
    assert_int_equal(a.connected, PEERCACHE_OK);
    end_close(&a);
    end_close(&b);
    assert_int_equal(sem_post(&helper.parted), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sem_destroy(&helper.met), 0);
    assert_int_equal(sem_destroy(&helper.parted), 0);
}

static bool is_pending(int number)
{
    sigset_t set;
    assert_int_equal(sigpending(&set), 0);
    return sigismember(&set, number) == 1;
}

/* The way of a host whose kernel has TLS: OpenSSL has the socket itself. */
static void a_peer_that_is_gone_raises_no_signal(void **state)
{
    struct pc_link_tls keys = with_keys(KEY_A, NULL);
    const struct pc_tls_ops *ops = pc_tls_load(reason, sizeof(reason));
    struct pc_tls *tls;
    struct pc_tls_io io = {.read = NULL};
    sigset_t pipe;
    sigset_t before;
    int fds[2];
    (void)state;
    assert_non_null(ops);
    assert_int_equal(ops->open(&keys, &tls), PEERCACHE_OK);
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    for (int blocked = 0; blocked <= 1; blocked++) {
        if (blocked != 0) {
            /* What it leaves would be the host's when it unblocks. */
            assert_int_equal(pthread_sigmask(SIG_BLOCK, &pipe, &before), 0);
        }
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        close(fds[1]);
        struct pc_tls_session *session = ops->start(tls, &io, fds[0], false);
        assert_non_null(session);
        assert_int_equal(ops->shake(session), PC_TLS_ENDED);
        ops->end(session);
        close(fds[0]);
        assert_false(is_pending(SIGPIPE));
    }
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    ops->close(tls);
}

static void lack_of_memory_ends_politely(void **state)
{
    enum { N_ALLOCATIONS = 24, N_STEPS = 40 };
    struct pc_link_tls tls = with_keys(KEY_A, NULL);
    int64_t n_before = pc_mem_outstanding();
    (void)state;
    for (int n = 0; n < N_ALLOCATIONS; n++) {
        struct end a;
        pc_mem_fail_after(n);
        if (end_try(&a, &tls) == PEERCACHE_OK) {
            if (a.ops->listen(a.link, "127.0.0.1:0", a.bound,
                              sizeof(a.bound)) == PEERCACHE_OK) {
                (void)a.ops->connect(a.link, a.bound, PC_LINK_BULK, UINT64_MAX,
                                     &a, &a.conn);
            }
            for (int i = 0; i < N_STEPS; i++) {
                a.ops->progress(a.link, -1, PC_US);
            }
            end_close(&a);
        }
        pc_mem_fail_after(-1);
        assert_int_equal(pc_mem_outstanding(), n_before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_key_is_believed),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(a_key_is_good_for_one_cluster_only),
        cmocka_unit_test(keys_change_without_a_moment_of_distrust),
        cmocka_unit_test(keys_and_certificates_do_not_mix),
        cmocka_unit_test(encrypt_must_agree),
        cmocka_unit_test(plain_and_tls_do_not_meet),
        cmocka_unit_test(certificates_of_one_authority_are_believed),
        cmocka_unit_test(a_foreign_certificate_is_refused),
        cmocka_unit_test(a_certificate_for_another_name_is_refused),
        cmocka_unit_test(the_listener_judges_certificates_itself),
        cmocka_unit_test(who_would_be_refused_hears_it_at_its_start),
        cmocka_unit_test(nothing_readable_passes),
        cmocka_unit_test(a_flipped_bit_ends_the_connection_and_is_counted),
        cmocka_unit_test(a_flipped_bit_in_a_handshake_is_never_believed),
        cmocka_unit_test(a_recording_is_not_believed),
        cmocka_unit_test(handshakes_are_bounded_and_a_friend_gets_through),
        cmocka_unit_test(costly_handshakes_take_turns),
        cmocka_unit_test(incoming_connections_are_bounded),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(without_a_key_other_hosts_are_out_of_reach),
        cmocka_unit_test(a_thread_may_outlive_the_links_it_served),
        cmocka_unit_test(a_peer_that_is_gone_raises_no_signal),
        cmocka_unit_test(lack_of_memory_ends_politely),
    };
    (void)setenv("PEERCACHE_TLS_MODULE", PC_TEST_TLS_MODULE, 0);
    if (!certs_make(folder, sizeof(folder))) {
        return 1;
    }
    pc_log_set(PEERCACHE_LOG_WARN, keep_line, NULL);
    int n_failed = cmocka_run_group_tests_name("trust", tests, NULL, NULL);
    certs_remove(folder);
    return n_failed;
}
