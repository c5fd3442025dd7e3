#include "openssl.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Both with SHA-256, as the keys are derived for. */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"

/*
 * One library context for the process, made with the first link and never
 * freed: each thread that used it, which may be one of the host's, comes back
 * to it at its own end, and that may be long after the last link has gone.
 */
static OSSL_LIB_CTX *shared_library(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static OSSL_LIB_CTX *library;
    (void)pthread_mutex_lock(&lock);
    if (library == NULL) {
        library = OSSL_LIB_CTX_new();
    }
    OSSL_LIB_CTX *result = library;
    (void)pthread_mutex_unlock(&lock);
    return result;
}

static void module_close(struct pc_tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        BIO_meth_free(tls->method);
        OPENSSL_cleanse(tls->keys, sizeof(tls->keys));
        free(tls);
    }
}

static bool fail(const struct pc_link_tls *params, const char *what)
{
    const char *detail = ERR_reason_error_string(ERR_peek_last_error());
    (void)snprintf(params->reason, params->reason_len, "%s: %s", what,
                   detail != NULL ? detail : "out of memory");
    return false;
}

static bool make_context(const struct pc_link_tls *params, struct pc_tls *tls)
{
    tls->library = shared_library();
    tls->method = pc_session_method();
    tls->context = SSL_CTX_new_ex(tls->library, NULL, TLS_method());
    SSL_CTX *context = tls->context;
    if (tls->library == NULL || tls->method == NULL || context == NULL ||
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, CIPHERS) != 1) {
        return fail(params, "TLS 1.3 cannot be set up");
    }
    (void)SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE |
                                           SSL_OP_NO_RENEGOTIATION |
                                           SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(context, 0);
    /* With certificates it only sees that somebody offers a key. */
    SSL_CTX_set_psk_find_session_callback(context, pc_psk_find);
    SSL_CTX_set_alpn_select_cb(context, pc_session_choose_alpn, tls);
    return true;
}

/* A peer that shows a certificate instead is checked against no authority at
 * all, and fails. */
static bool use_keys(const struct pc_link_tls *params, struct pc_tls *tls)
{
    for (size_t i = 0; i < params->n_keys; i++) {
        if (!pc_psk_derive(tls->library, &params->keys[i], params->cluster,
                           &tls->keys[i])) {
            return fail(params, "the cluster key cannot be used");
        }
        tls->n_keys++;
    }
    SSL_CTX_set_psk_use_session_callback(tls->context, pc_psk_use);
    SSL_CTX_set_verify(tls->context,
                       SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return true;
}

static peercache_status_t module_open(const struct pc_link_tls *params,
                                      struct pc_tls **tls_p)
{
    struct pc_tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    ERR_clear_error();
    tls->encrypt = params->encrypt;
    bool ok = make_context(params, tls) &&
              (params->n_keys > 0 ? use_keys(params, tls)
                                  : pc_certificates_use(params, tls->context));
    ERR_clear_error();
    if (!ok) {
        module_close(tls);
        return PEERCACHE_INVALID;
    }
    *tls_p = tls;
    return PEERCACHE_OK;
}

static const char *module_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

__attribute__((visibility("default"))) const struct pc_tls_ops *pc_tls_module(
    unsigned interface);

/* At exit OpenSSL stays as it is: a node may still be running. In a process
 * that uses the same library, its own choice wins if it came first. */
const struct pc_tls_ops *pc_tls_module(unsigned interface)
{
    static const struct pc_tls_ops ops = {
        .version = module_version,
        .open = module_open,
        .close = module_close,
        .start = pc_session_start,
        .end = pc_session_end,
        .shake = pc_session_shake,
        .offloaded = pc_session_offloaded,
        .read = pc_session_read,
        .write = pc_session_write,
        .bye = pc_session_bye,
        .reason = pc_session_reason,
    };
    uint64_t options = OPENSSL_INIT_NO_ATEXIT;
#ifdef PC_TLS_STATIC
    options |= OPENSSL_INIT_NO_LOAD_CONFIG; /* The system's is of another. */
#endif
    if (interface != PC_TLS_INTERFACE || OPENSSL_init_ssl(options, NULL) != 1) {
        return NULL;
    }
    return &ops;
}
