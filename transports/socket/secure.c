#include "transports/socket/secure.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "transports/socket/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_LEN  (PC_TLS_RECORD_LEN + PC_TLS_RECORD_EXTRA)
#define RECORDS     8 /* That leave with one call. */
#define SLACK       1024
#define BUFFER_LEN  ((size_t)RECORDS * RECORD_LEN + SLACK)
#define SPARES_MAX  16
#define LARGE_PIECE 4096 /* Encrypted where it lies, not gathered first. */

struct buffer
{
    uint8_t *data; /* NULL while it would be empty. */
    size_t start, end;
};

struct pc_secure
{
    struct pc_tls_io io;
    struct pc_link *link;
    const struct pc_tls_ops *ops;
    struct pc_tls_session *session;
    int fd;
    bool shaken;
    bool receives, sends;      /* Through records of ours. */
    enum pc_tls_result failed; /* What ended the reading. */
    int error;                 /* Of the socket, if it was that; or 0. */
    struct buffer in, out;
    uint64_t sealed; /* Bytes of the queue whose records are in out. */
};

/* What a link that uses TLS has. */
struct pc_secure_link
{
    const struct pc_tls_ops *ops;
    struct pc_tls *tls;
    bool encrypt;
    bool kernel; /* This host's kernel knows TLS. */
    struct pc_list spares;
    size_t n_spares;
    uint8_t stage[PC_TLS_RECORD_LEN]; /* Where short pieces are gathered. */
    char words[128];
};

/* ---- Buffers --------------------------------------------------------------
 */

/* An unused buffer holds its own list node. */
static bool buffer_take(struct pc_secure_link *link, struct buffer *buffer)
{
    if (buffer->data != NULL) {
        return true;
    }
    struct pc_list *node = pc_list_pop_front(&link->spares);
    if (node != NULL) {
        link->n_spares--;
        buffer->data = (uint8_t *)node;
    } else {
        buffer->data = pc_alloc(1, BUFFER_LEN);
    }
    buffer->start = 0;
    buffer->end = 0;
    return buffer->data != NULL;
}

static void buffer_give_back(struct pc_secure_link *link, struct buffer *buffer)
{
    struct pc_list *node = (struct pc_list *)(void *)buffer->data;
    if (node == NULL) {
        return;
    }
    *buffer = (struct buffer){.data = NULL};
    if (link->n_spares == SPARES_MAX) {
        pc_free(node);
        return;
    }
    pc_list_init(node);
    pc_list_push_front(&link->spares, node);
    link->n_spares++;
}

/* ---- The module's side ----------------------------------------------------
 */

static ssize_t from_buffer(struct buffer *in, void *data, size_t len)
{
    size_t n = in->end - in->start;
    n = n < len ? n : len;
    memcpy(data, in->data + in->start, n);
    in->start += n;
    return (ssize_t)n;
}

/* TLS forgets what went wrong with the socket. */
static ssize_t note(struct pc_secure *secure, ssize_t n)
{
    bool failed =
        n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    secure->error = failed ? errno : secure->error;
    return n;
}

/*
 * In the handshake no more is read than is asked for: what follows may be for
 * the kernel to decrypt, or clear. Later one call reads several records.
 */
static ssize_t io_read(struct pc_tls_io *io, void *data, size_t len)
{
    struct pc_secure *secure = PC_CONTAINER_OF(io, struct pc_secure, io);
    struct buffer *in = &secure->in;

    if (in->start < in->end) {
        return from_buffer(in, data, len);
    }
    if (!secure->shaken || !buffer_take(secure->link->secure, in)) {
        return note(secure, recv(secure->fd, data, len, MSG_DONTWAIT));
    }
    struct iovec iov[] = {{.iov_base = data, .iov_len = len},
                          {.iov_base = in->data, .iov_len = BUFFER_LEN}};
    ssize_t n = note(secure, readv(secure->fd, iov, 2));
    in->start = 0;
    in->end = n > (ssize_t)len ? (size_t)n - len : 0;
    return n > (ssize_t)len ? (ssize_t)len : n;
}

static ssize_t io_write(struct pc_tls_io *io, const void *data, size_t len)
{
    struct pc_secure *secure = PC_CONTAINER_OF(io, struct pc_secure, io);
    struct buffer *out = &secure->out;

    if (!buffer_take(secure->link->secure, out)) {
        errno = ENOMEM;
        return -1;
    }
    if (len > BUFFER_LEN - out->end) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(out->data + out->end, data, len);
    out->end += len;
    return (ssize_t)len;
}

/* ---- The link -------------------------------------------------------------
 */

/* Not connected: a kernel that knows the protocol says so, another says that
 * it does not know it. */
static bool kernel_has_tls(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 &&
                 setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) != 0 &&
                 errno == ENOTCONN;
    if (fd >= 0) {
        close(fd);
    }
    return known;
}

static void put_into_words(struct pc_secure_link *secure,
                           const struct pc_link_tls *tls)
{
    (void)snprintf(secure->words, sizeof(secure->words),
                   "TLS 1.3 by %s, %s, %s", secure->ops->version(),
                   tls->n_keys > 1   ? "two shared keys"
                   : tls->n_keys > 0 ? "a shared key"
                                     : "certificates",
                   !tls->encrypt    ? "handshake only: the rest is in clear"
                   : secure->kernel ? "encrypted, by the kernel where it can"
                                    : "encrypted in this process: this kernel "
                                      "has no TLS");
}

peercache_status_t pc_secure_open(struct pc_link *link)
{
    const struct pc_link_tls *tls = link->params.tls;
    const struct pc_tls_ops *ops = pc_tls_load(tls->reason, tls->reason_len);
    if (ops == NULL) {
        return PEERCACHE_UNSUPPORTED;
    }
    struct pc_secure_link *secure = pc_alloc(1, sizeof(*secure));
    if (secure == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    peercache_status_t status = ops->open(tls, &secure->tls);
    if (status != PEERCACHE_OK) {
        pc_free(secure);
        return status;
    }
    secure->ops = ops;
    secure->encrypt = tls->encrypt;
    secure->kernel = tls->encrypt && kernel_has_tls();
    pc_list_init(&secure->spares);
    put_into_words(secure, tls);
    link->secure = secure;
    return PEERCACHE_OK;
}

void pc_secure_close(struct pc_link *link)
{
    struct pc_secure_link *secure = link->secure;
    struct pc_list *node;
    if (secure == NULL) {
        return;
    }
    while ((node = pc_list_pop_front(&secure->spares)) != NULL) {
        pc_free(node);
    }
    secure->ops->close(secure->tls);
    pc_free(secure);
    link->secure = NULL;
}

const char *pc_secure_describe(const struct pc_link *link)
{
    return link->secure == NULL ? "none" : link->secure->words;
}

/* ---- One connection -------------------------------------------------------
 */

bool pc_secure_start(struct pc_link_conn *conn, bool server)
{
    struct pc_secure_link *link = conn->link->secure;
    bool tcp = !pc_socket_address_is_unix(&conn->peer);
    struct pc_secure *secure = pc_alloc(1, sizeof(*secure));
    if (secure == NULL) {
        return false;
    }
    secure->io = (struct pc_tls_io){.read = io_read, .write = io_write};
    secure->link = conn->link;
    secure->ops = link->ops;
    secure->fd = conn->fd;
    secure->session = link->ops->start(
        link->tls, &secure->io, link->kernel && tcp ? conn->fd : -1, server);
    if (secure->session == NULL) {
        pc_free(secure);
        return false;
    }
    conn->secure = secure;
    return true;
}

/* Send what is in the buffer; its bytes, or -1. */
static ssize_t flush(struct pc_secure *secure)
{
    struct buffer *out = &secure->out;
    size_t moved = 0;
    while (out->start < out->end) {
        ssize_t n = send(secure->fd, out->data + out->start,
                         out->end - out->start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return (ssize_t)moved;
        }
        if (n < 0) {
            return -1;
        }
        out->start += (size_t)n;
        moved += (size_t)n;
    }
    buffer_give_back(secure->link->secure, out);
    return (ssize_t)moved;
}

static void settle(struct pc_secure *secure)
{
    bool kernel_receives;
    bool kernel_sends;
    bool encrypt = secure->link->secure->encrypt;
    secure->ops->offloaded(secure->session, &kernel_receives, &kernel_sends);
    secure->receives = encrypt && !kernel_receives;
    secure->sends = encrypt && !kernel_sends;
    secure->shaken = true;
}

peercache_status_t pc_secure_shake(struct pc_link_conn *conn)
{
    struct pc_secure *secure = conn->secure;
    enum pc_tls_result result = secure->ops->shake(secure->session);
    ssize_t n = flush(secure); /* Also an alert that says why not. */

    if (result == PC_TLS_REFUSED) {
        return PEERCACHE_UNAUTHENTICATED;
    }
    if (result == PC_TLS_BROKEN) {
        return PEERCACHE_PROTOCOL;
    }
    if (result == PC_TLS_ENDED || n < 0) {
        return PEERCACHE_PEER_FAILED;
    }
    if (result == PC_TLS_AGAIN) {
        return PEERCACHE_IN_PROGRESS;
    }
    settle(secure);
    return PEERCACHE_OK;
}

const char *pc_secure_reason(const struct pc_link_conn *conn)
{
    return conn->secure->ops->reason(conn->secure->session);
}

void pc_secure_end(struct pc_link_conn *conn, bool politely)
{
    struct pc_secure *secure = conn->secure;
    if (secure == NULL) {
        return;
    }
    if (politely && secure->shaken && secure->link->secure->encrypt &&
        secure->out.start == secure->out.end) {
        secure->ops->bye(secure->session);
        (void)flush(secure);
    }
    secure->ops->end(secure->session);
    buffer_give_back(secure->link->secure, &secure->in);
    buffer_give_back(secure->link->secure, &secure->out);
    pc_free(secure);
    conn->secure = NULL;
}

bool pc_secure_receives(const struct pc_link_conn *conn)
{
    return conn->secure != NULL && conn->secure->receives;
}

bool pc_secure_sends(const struct pc_link_conn *conn)
{
    /* Also what is left of the handshake. */
    return conn->secure != NULL &&
           (conn->secure->sends || !pc_secure_is_idle(conn));
}

uint64_t pc_secure_sealed(const struct pc_link_conn *conn)
{
    return conn->secure == NULL ? 0 : conn->secure->sealed;
}

bool pc_secure_is_idle(const struct pc_link_conn *conn)
{
    return conn->secure == NULL ||
           conn->secure->out.start == conn->secure->out.end;
}

/* ---- Reading --------------------------------------------------------------
 */

static ssize_t read_result(struct pc_secure *secure)
{
    switch (secure->failed) {
    case PC_TLS_ENDED:
        errno = secure->error;
        return secure->error == 0 ? 0 : -1;
    case PC_TLS_REFUSED:
        errno = EKEYREJECTED;
        return -1;
    case PC_TLS_BROKEN:
        errno = EBADMSG;
        return -1;
    default:
        errno = EAGAIN;
        return -1;
    }
}

/* Fill one range; false: there is no more for now, or for ever. */
static bool fill(struct pc_secure *secure, const struct iovec *iov,
                 size_t *total_p)
{
    size_t filled = 0;
    while (filled < iov->iov_len) {
        size_t n = 0;
        enum pc_tls_result result = secure->ops->read(
            secure->session, (uint8_t *)iov->iov_base + filled,
            iov->iov_len - filled, &n);
        if (result != PC_TLS_OK) {
            secure->failed = result == PC_TLS_AGAIN ? PC_TLS_OK : result;
            return false;
        }
        filled += n;
        *total_p += n;
    }
    return true;
}

ssize_t pc_secure_readv(struct pc_link_conn *conn, const struct iovec *iov,
                        size_t n_iov)
{
    struct pc_secure *secure = conn->secure;
    size_t total = 0;

    if (secure->failed != PC_TLS_OK) {
        return read_result(secure);
    }
    for (size_t i = 0; i < n_iov && fill(secure, &iov[i], &total); i++) {
    }
    if (secure->in.start == secure->in.end) {
        buffer_give_back(secure->link->secure, &secure->in);
    }
    if (total == 0) {
        return read_result(secure);
    }
    /* The end comes with the next call, and no event tells of it. */
    conn->hung_up |= secure->failed != PC_TLS_OK;
    return (ssize_t)total;
}

/* ---- Sending --------------------------------------------------------------
 */

static bool has_room(const struct pc_secure *secure)
{
    return secure->out.data == NULL ||
           BUFFER_LEN - SLACK - secure->out.end >= RECORD_LEN;
}

/* One record. */
static bool seal(struct pc_secure *secure, const void *data, size_t len)
{
    if (secure->ops->write(secure->session, data, len) != PC_TLS_OK) {
        return false;
    }
    secure->sealed += len;
    return true;
}

/* Short pieces share records, long ones are encrypted where they lie. False:
 * a record could not be made. */
static bool seal_all(struct pc_secure *secure, const struct iovec *iov,
                     size_t n_iov)
{
    uint8_t *stage = secure->link->secure->stage;
    size_t staged = 0;
    for (size_t i = 0; i < n_iov && has_room(secure); i++) {
        const uint8_t *data = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left > 0 && has_room(secure)) {
            bool large = left >= LARGE_PIECE;
            size_t room = PC_TLS_RECORD_LEN - staged;
            size_t n = left < room ? left : room;
            if (large && staged > 0) {
                n = 0;
            } else if (large) {
                if (!seal(secure, data, n)) {
                    return false;
                }
            } else {
                memcpy(stage + staged, data, n);
                staged += n;
            }
            data += n;
            left -= n;
            if (staged > 0 && (n == 0 || staged == PC_TLS_RECORD_LEN)) {
                if (!seal(secure, stage, staged)) {
                    return false;
                }
                staged = 0;
            }
        }
    }
    return staged == 0 || seal(secure, stage, staged);
}

ssize_t pc_secure_sendv(struct pc_link_conn *conn, const struct iovec *iov,
                        size_t n_iov, size_t *moved_p)
{
    struct pc_secure *secure = conn->secure;

    *moved_p = 0;
    if (pc_secure_is_idle(conn) && secure->sends &&
        !seal_all(secure, iov, n_iov)) {
        errno = EPROTO;
        return -1;
    }
    ssize_t moved = flush(secure);
    if (moved < 0) {
        return -1;
    }
    *moved_p = (size_t)moved;
    if (!pc_secure_is_idle(conn)) {
        return 0;
    }
    uint64_t left = secure->sealed;
    secure->sealed = 0;
    return (ssize_t)left;
}
