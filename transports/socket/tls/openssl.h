/*
 * openssl.h - what the files of the TLS module share.
 */
#ifndef PC_SOCKET_TLS_OPENSSL_H
#define PC_SOCKET_TLS_OPENSSL_H

#include "transports/socket/tls.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PC_PSK_LEN          32
#define PC_PSK_IDENTITY_LEN 32 /* Characters. */

/* A shared key as TLS wants it; nothing else of it is kept. */
struct pc_psk
{
    uint8_t secret[PC_PSK_LEN];
    char identity[PC_PSK_IDENTITY_LEN + 1];
};

struct pc_tls
{
    /* Of all our links: the host's settings stay its own. */
    OSSL_LIB_CTX *library;
    SSL_CTX *context;
    BIO_METHOD *method;
    struct pc_psk keys[PC_LINK_KEYS_MAX];
    size_t n_keys; /* 0: certificates. */
    bool encrypt;
};

struct pc_tls_session
{
    struct pc_tls *tls;
    struct pc_tls_io *io;
    SSL *ssl;
    bool server;
    bool on_socket;     /* OpenSSL writes to a socket by itself. */
    bool shaken;        /* The handshake is over. */
    bool offered;       /* Server: the peer offered a key. */
    bool receives;      /* The kernel decrypts. */
    bool sends;         /* The kernel encrypts. */
    uint64_t n_records; /* Under the current key. */
    char reason[PC_TLS_REASON_MAX];
};

/* keys.c: derive by HKDF-SHA256 what TLS gets, so that neither the identity,
 * which everybody on the path sees, nor one cluster's secret tells anything
 * about the key. */
bool pc_psk_derive(OSSL_LIB_CTX *library, const struct pc_blob *key,
                   const char *cluster, struct pc_psk *psk_p);
/* The key callbacks of SSL_CTX. */
int pc_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id_p,
               size_t *id_len_p, SSL_SESSION **session_p);
int pc_psk_find(SSL *ssl, const unsigned char *id, size_t id_len,
                SSL_SESSION **session_p);

/* certificates.c: OK, or a reason in tls->reason. */
bool pc_certificates_use(const struct pc_link_tls *tls, SSL_CTX *context);

/* session.c */
struct pc_tls_session *pc_session_start(struct pc_tls *tls,
                                        struct pc_tls_io *io, int kernel_fd,
                                        bool server);
void pc_session_end(struct pc_tls_session *session);
enum pc_tls_result pc_session_shake(struct pc_tls_session *session);
void pc_session_offloaded(const struct pc_tls_session *session,
                          bool *receives_p, bool *sends_p);
enum pc_tls_result pc_session_read(struct pc_tls_session *session, void *data,
                                   size_t len, size_t *n_p);
enum pc_tls_result pc_session_write(struct pc_tls_session *session,
                                    const void *data, size_t len);
void pc_session_bye(struct pc_tls_session *session);
const char *pc_session_reason(const struct pc_tls_session *session);
BIO_METHOD *pc_session_method(void);
/* Length-prefixed, as ALPN has it: what the two sides must agree on. */
const unsigned char *pc_session_alpn(const struct pc_tls *tls, unsigned *len_p);
int pc_session_choose_alpn(SSL *ssl, const unsigned char **out,
                           unsigned char *out_len, const unsigned char *in,
                           unsigned in_len, void *arg);

#endif /* PC_SOCKET_TLS_OPENSSL_H */
