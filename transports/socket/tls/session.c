#include "openssl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* AES-GCM under one key is good for 2^24.5 full records (RFC 8446 5.5). */
#define REKEY_RECORDS (1ull << 23)

/* ---- Records in and out ---------------------------------------------------
 */

static ssize_t again_or(BIO *bio, ssize_t n, int retry_flag)
{
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
    }
    return n;
}

static int bio_read(BIO *bio, char *data, int len)
{
    struct pc_tls_io *io = BIO_get_data(bio);
    return (int)again_or(bio, io->read(io, data, (size_t)len), BIO_FLAGS_READ);
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct pc_tls_io *io = BIO_get_data(bio);
    return (int)again_or(bio, io->write(io, data, (size_t)len),
                         BIO_FLAGS_WRITE);
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* The rest is not for us. */
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *pc_session_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "peercache");
    if (method != NULL) {
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
        BIO_meth_set_create(method, bio_create);
    }
    return method;
}

static BIO *bio_of(struct pc_tls_session *session)
{
    BIO *bio = BIO_new(session->tls->method);
    if (bio != NULL) {
        BIO_set_data(bio, session->io);
    }
    return bio;
}

/* ---- What both sides must agree on ----------------------------------------
 */

static const unsigned char secret_alpn[] = "\x0bpeercache/1";
static const unsigned char clear_alpn[] = "\x11peercache-clear/1";

const unsigned char *pc_session_alpn(const struct pc_tls *tls, unsigned *len_p)
{
    *len_p = tls->encrypt ? sizeof(secret_alpn) - 1 : sizeof(clear_alpn) - 1;
    return tls->encrypt ? secret_alpn : clear_alpn;
}

int pc_session_choose_alpn(SSL *ssl, const unsigned char **out,
                           unsigned char *out_len, const unsigned char *in,
                           unsigned in_len, void *arg)
{
    unsigned len;
    const unsigned char *ours = pc_session_alpn(arg, &len);
    (void)ssl;
    if (in_len != len || memcmp(in, ours, len) != 0) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = ours + 1;
    *out_len = ours[0];
    return SSL_TLSEXT_ERR_OK;
}

static bool agrees(const struct pc_tls_session *session)
{
    unsigned len;
    unsigned chosen_len;
    const unsigned char *chosen;
    const unsigned char *ours = pc_session_alpn(session->tls, &len);
    SSL_get0_alpn_selected(session->ssl, &chosen, &chosen_len);
    return chosen_len + 1 == len && memcmp(chosen, ours + 1, chosen_len) == 0;
}

/* ---- Why not --------------------------------------------------------------
 */

static enum pc_tls_result say(struct pc_tls_session *session,
                              enum pc_tls_result result, const char *text)
{
    (void)snprintf(session->reason, sizeof(session->reason), "%s", text);
    return result;
}

/* The peer's alert, or NULL if the error is none. */
static const char *alert_of(int reason)
{
    switch (reason) {
    case SSL_AD_REASON_OFFSET + SSL3_AD_HANDSHAKE_FAILURE:
    case SSL_AD_REASON_OFFSET + TLS1_AD_DECRYPT_ERROR:
    case SSL_AD_REASON_OFFSET + TLS1_AD_UNKNOWN_PSK_IDENTITY:
    case SSL_AD_REASON_OFFSET + SSL3_AD_ILLEGAL_PARAMETER:
    case SSL_AD_REASON_OFFSET + TLS13_AD_MISSING_EXTENSION:
        return "it refused us: it has another key, or wants certificates";
    case SSL_AD_REASON_OFFSET + TLS1_AD_NO_APPLICATION_PROTOCOL:
        return "it refused us: its setting encrypt differs";
    case SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_EXPIRED:
        return "it refused us: our certificate has expired";
    case SSL_AD_REASON_OFFSET + TLS1_AD_UNKNOWN_CA:
        return "it refused us: its tls_ca does not know our certificate's "
               "authority";
    case SSL_AD_REASON_OFFSET + SSL3_AD_BAD_CERTIFICATE:
    case SSL_AD_REASON_OFFSET + SSL3_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_REVOKED:
    case SSL_AD_REASON_OFFSET + SSL3_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_REASON_OFFSET + TLS1_AD_ACCESS_DENIED:
    case SSL_AD_REASON_OFFSET + TLS13_AD_CERTIFICATE_REQUIRED:
        return "it refused us: it does not accept our certificate";
    default:
        return reason >= SSL_AD_REASON_OFFSET ? "it refused us" : NULL;
    }
}

static enum pc_tls_result no_certificate(struct pc_tls_session *session)
{
    long verdict = SSL_get_verify_result(session->ssl);
    char text[PC_TLS_REASON_MAX];
    if (verdict == X509_V_OK) {
        return say(session, PC_TLS_REFUSED, "it shows no certificate");
    }
    (void)snprintf(text, sizeof(text), "its certificate is not accepted: %s",
                   X509_verify_cert_error_string(verdict));
    return say(session, PC_TLS_REFUSED, text);
}

static enum pc_tls_result no_key(struct pc_tls_session *session)
{
    return say(session, PC_TLS_REFUSED,
               !session->server   ? "it does not know our cluster key"
               : session->offered ? "it has another cluster key"
                                  : "it offers no cluster key");
}

static enum pc_tls_result explain(struct pc_tls_session *session)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    const char *alert = alert_of(reason);
    const char *text = ERR_reason_error_string(error);

    if (ERR_GET_LIB(error) != ERR_LIB_SSL) {
        return say(session, PC_TLS_BROKEN, text != NULL ? text : "TLS failed");
    }
    if (session->tls->n_keys == 0 && session->server && session->offered) {
        return say(session, PC_TLS_REFUSED, "it offers a key, no certificate");
    }
    if (alert != NULL) {
        return say(session, PC_TLS_REFUSED, alert);
    }
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return session->tls->n_keys > 0 ? no_key(session)
                                        : no_certificate(session);
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_CERTIFICATE_SET:
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_MISSING_SIGALGS_EXTENSION:
        return session->tls->n_keys > 0 ? no_key(session)
                                        : no_certificate(session);
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return say(session, PC_TLS_REFUSED,
                   "its setting encrypt differs from ours");
    case SSL_R_UNSUPPORTED_PROTOCOL:
        return say(session, PC_TLS_REFUSED, "it speaks no TLS 1.3");
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
        return say(session, PC_TLS_BROKEN, "a record was forged or damaged");
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return say(session, PC_TLS_BROKEN,
                   "it does not speak TLS: has it no cluster key?");
    default:
        return say(session, PC_TLS_BROKEN, text != NULL ? text : "TLS failed");
    }
}

/* The thread may be the host's, and its queue of errors too: before each call,
 * or what stands there is taken for ours, and after it, for the same reason. */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

/*
 * OpenSSL writes to a socket without MSG_NOSIGNAL, and SIGPIPE ends a process
 * that does not ignore it. So the signal is held back in this thread, and taken
 * if it came, while OpenSSL has the socket.
 */
struct hush
{
    bool holds;
    sigset_t pipe, before;
};

static struct hush hush_begin(const struct pc_tls_session *session)
{
    struct hush hush = {.holds = session->on_socket};
    sigset_t pending;
    if (!hush.holds) {
        return hush;
    }
    (void)sigemptyset(&hush.pipe);
    (void)sigaddset(&hush.pipe, SIGPIPE);
    hush.holds = pthread_sigmask(SIG_BLOCK, &hush.pipe, &hush.before) == 0;
    if (hush.holds && sigismember(&hush.before, SIGPIPE) == 1) {
        /* One that waits already is the host's. */
        hush.holds =
            sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0;
    }
    return hush;
}

static void hush_end(const struct hush *hush, bool failed)
{
    const struct timespec at_once = {.tv_sec = 0};
    if (!hush->holds) {
        return;
    }
    while (failed && sigtimedwait(&hush->pipe, NULL, &at_once) < 0 &&
           errno == EINTR) {
    }
    (void)pthread_sigmask(SIG_SETMASK, &hush->before, NULL);
}

static enum pc_tls_result result_of(struct pc_tls_session *session, int rc)
{
    enum pc_tls_result result;
    int error = SSL_get_error(session->ssl, rc);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return PC_TLS_AGAIN;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return PC_TLS_ENDED;
    }
    unsigned long last = ERR_peek_last_error();
    if (last == 0 ||
        (ERR_GET_LIB(last) == ERR_LIB_SSL &&
         ERR_GET_REASON(last) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        result = PC_TLS_ENDED; /* The socket failed, or its end has come. */
    } else {
        result = explain(session);
    }
    return result;
}

/* ---- The life of a session ------------------------------------------------
 */

static bool set_up(struct pc_tls_session *session, int kernel_fd)
{
    unsigned alpn_len;
    const unsigned char *alpn = pc_session_alpn(session->tls, &alpn_len);
    SSL *ssl = session->ssl;

    SSL_set_app_data(ssl, session);
    if (kernel_fd >= 0) {
        session->on_socket = true;
        (void)SSL_set_options(ssl, SSL_OP_ENABLE_KTLS);
        if (SSL_set_fd(ssl, kernel_fd) != 1) {
            return false;
        }
    } else {
        BIO *bio = bio_of(session);
        if (bio == NULL) {
            return false;
        }
        SSL_set_bio(ssl, bio, bio);
    }
    if (session->server) {
        SSL_set_accept_state(ssl);
        if (session->tls->n_keys > 0) {
            /* It shows no certificate; shaken() looks for the key. */
            SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        }
        return true;
    }
    SSL_set_connect_state(ssl);
    return SSL_set_alpn_protos(ssl, alpn, alpn_len) == 0;
}

struct pc_tls_session *pc_session_start(struct pc_tls *tls,
                                        struct pc_tls_io *io, int kernel_fd,
                                        bool server)
{
    struct pc_tls_session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return NULL;
    }
    session->tls = tls;
    session->io = io;
    session->server = server;
    session->ssl = SSL_new(tls->context);
    if (session->ssl == NULL || !set_up(session, kernel_fd)) {
        pc_session_end(session);
        session = NULL;
    }
    forget_errors();
    return session;
}

void pc_session_end(struct pc_tls_session *session)
{
    if (session != NULL) {
        SSL_free(session->ssl);
        free(session);
    }
}

const char *pc_session_reason(const struct pc_tls_session *session)
{
    return session->reason;
}

/* What the kernel does not do goes through our own buffers from now on. */
static bool leave_socket(struct pc_tls_session *session)
{
    SSL *ssl = session->ssl;
    session->sends = BIO_get_ktls_send(SSL_get_wbio(ssl)) > 0;
    session->receives = BIO_get_ktls_recv(SSL_get_rbio(ssl)) > 0;
    if (BIO_method_type(SSL_get_rbio(ssl)) != BIO_TYPE_SOCKET) {
        return true;
    }
    if (!session->sends) {
        BIO *bio = bio_of(session);
        if (bio == NULL) {
            return false;
        }
        SSL_set0_wbio(ssl, bio);
    }
    if (!session->receives) {
        BIO *bio = bio_of(session);
        if (bio == NULL) {
            return false;
        }
        SSL_set0_rbio(ssl, bio);
    }
    session->on_socket = session->sends;
    return true;
}

static enum pc_tls_result shaken(struct pc_tls_session *session)
{
    const SSL *ssl = session->ssl;
    if (session->tls->n_keys > 0 && !SSL_session_reused(ssl)) {
        return no_key(session);
    }
    if (session->tls->n_keys == 0 &&
        (SSL_get0_peer_certificate(ssl) == NULL ||
         SSL_get_verify_result(ssl) != X509_V_OK)) {
        return no_certificate(session);
    }
    if (!agrees(session)) {
        return say(session, PC_TLS_REFUSED,
                   "its setting encrypt differs from ours");
    }
    session->shaken = true;
    return leave_socket(session) ? PC_TLS_OK
                                 : say(session, PC_TLS_BROKEN, "out of memory");
}

enum pc_tls_result pc_session_shake(struct pc_tls_session *session)
{
    forget_errors();
    struct hush hush = hush_begin(session);
    int rc = SSL_do_handshake(session->ssl);
    hush_end(&hush, rc != 1);
    enum pc_tls_result result =
        rc == 1 ? shaken(session) : result_of(session, rc);
    forget_errors();
    return result;
}

void pc_session_offloaded(const struct pc_tls_session *session,
                          bool *receives_p, bool *sends_p)
{
    *receives_p = session->receives;
    *sends_p = session->sends;
}

enum pc_tls_result pc_session_read(struct pc_tls_session *session, void *data,
                                   size_t len, size_t *n_p)
{
    forget_errors();
    struct hush hush = hush_begin(session); /* It may answer with an alert. */
    int rc = SSL_read_ex(session->ssl, data, len, n_p);
    hush_end(&hush, rc != 1);
    enum pc_tls_result result = rc == 1 ? PC_TLS_OK : result_of(session, rc);
    forget_errors();
    return result;
}

enum pc_tls_result pc_session_write(struct pc_tls_session *session,
                                    const void *data, size_t len)
{
    size_t n;
    forget_errors();
    if (++session->n_records >= REKEY_RECORDS && !session->sends) {
        session->n_records = 0;
        (void)SSL_key_update(session->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    }
    int rc = SSL_write_ex(session->ssl, data, len, &n);
    enum pc_tls_result result = rc == 1 ? PC_TLS_OK : result_of(session, rc);
    forget_errors();
    return result;
}

void pc_session_bye(struct pc_tls_session *session)
{
    if (session->shaken) {
        forget_errors();
        struct hush hush = hush_begin(session);
        (void)SSL_shutdown(session->ssl);
        hush_end(&hush, true);
        forget_errors();
    }
}
