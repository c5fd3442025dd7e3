/*
 * tls.h - what the socket link asks of a TLS library. transports/socket/tls
 * implements it with OpenSSL, in a module that is opened only by processes
 * that have a key or a certificate.
 *
 * TLS 1.3 only, both sides prove themselves, no early data, no resumption.
 * One thread at a time. The module calls nobody but struct pc_tls_io.
 */
#ifndef PC_SOCKET_TLS_H
#define PC_SOCKET_TLS_H

#include "seam/link.h"

#include <sys/types.h>

#define PC_TLS_INTERFACE  1
#define PC_TLS_ENTRY      "pc_tls_module"
#define PC_TLS_RECORD_LEN 16384 /* Bytes that one record carries at most. */
/* What a record needs at most around them. */
#define PC_TLS_RECORD_EXTRA 64
#define PC_TLS_REASON_MAX   256

struct pc_tls;         /* Keys or certificates. */
struct pc_tls_session; /* One connection. */

/* Where records come from and go to; results as recv and send have them. */
struct pc_tls_io
{
    ssize_t (*read)(struct pc_tls_io *io, void *data, size_t len);
    ssize_t (*write)(struct pc_tls_io *io, const void *data, size_t len);
};

enum pc_tls_result {
    PC_TLS_OK,
    PC_TLS_AGAIN,   /* More must come, or leave, first. */
    PC_TLS_ENDED,   /* The peer said its good-bye, or just hung up. */
    PC_TLS_REFUSED, /* A side did not prove itself. */
    PC_TLS_BROKEN   /* No TLS, or a record that was tampered with. */
};

struct pc_tls_ops
{
    const char *(*version)(void);
    /* On failure the reason is in tls->reason. */
    peercache_status_t (*open)(const struct pc_link_tls *tls,
                               struct pc_tls **tls_p);
    void (*close)(struct pc_tls *tls);

    /* kernel_fd: a TCP socket whose kernel may take the encryption over, then
     * io is not used until that is known; or -1. NULL: no memory. */
    struct pc_tls_session *(*start)(struct pc_tls *tls, struct pc_tls_io *io,
                                    int kernel_fd, bool server);
    void (*end)(struct pc_tls_session *session);
    enum pc_tls_result (*shake)(struct pc_tls_session *session);
    /* After shake: directions that the kernel does by itself. */
    void (*offloaded)(const struct pc_tls_session *session, bool *receives_p,
                      bool *sends_p);
    /* At least one byte if OK. */
    enum pc_tls_result (*read)(struct pc_tls_session *session, void *data,
                               size_t len, size_t *n_p);
    /* One record of at most PC_TLS_RECORD_LEN; io must have room for it. */
    enum pc_tls_result (*write)(struct pc_tls_session *session,
                                const void *data, size_t len);
    /* Say good-bye, if there is room for it. */
    void (*bye)(struct pc_tls_session *session);
    /* Why the last call was REFUSED or BROKEN; never NULL. */
    const char *(*reason)(const struct pc_tls_session *session);
};

typedef const struct pc_tls_ops *(*pc_tls_module_fn)(unsigned interface);

/* tls_load.c: the module, opened once. NULL: there is none, and why is in the
 * reason. */
const struct pc_tls_ops *pc_tls_load(char *reason, size_t len);

#endif /* PC_SOCKET_TLS_H */
