#include "openssl.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#define SALT "peercache link 1"

/* out = HKDF-SHA256(key, SALT, label || cluster). */
static bool derive(EVP_KDF_CTX *kdf, const struct pc_blob *key,
                   const char *label, const char *cluster, uint8_t *out,
                   size_t out_len)
{
    char info[512];
    int n = snprintf(info, sizeof(info), "%s %s", label, cluster);
    if (n < 0 || (size_t)n >= sizeof(info)) {
        return false;
    }
    /* OpenSSL only reads them, but its parameters have no const. */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                         (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key->data, key->len),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)SALT, sizeof(SALT) - 1),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, (size_t)n),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX_reset(kdf);
    return EVP_KDF_derive(kdf, out, out_len, params) == 1;
}

bool pc_psk_derive(OSSL_LIB_CTX *library, const struct pc_blob *key,
                   const char *cluster, struct pc_psk *psk_p)
{
    uint8_t name[PC_PSK_IDENTITY_LEN / 2];
    bool ok = false;
    EVP_KDF *hkdf = EVP_KDF_fetch(library, OSSL_KDF_NAME_HKDF, NULL);
    EVP_KDF_CTX *kdf = hkdf == NULL ? NULL : EVP_KDF_CTX_new(hkdf);
    if (kdf != NULL &&
        derive(kdf, key, "secret", cluster, psk_p->secret, PC_PSK_LEN) &&
        derive(kdf, key, "identity", cluster, name, sizeof(name))) {
        for (size_t i = 0; i < sizeof(name); i++) {
            (void)snprintf(psk_p->identity + 2 * i, 3, "%02x", name[i]);
        }
        ok = true;
    }
    EVP_KDF_CTX_free(kdf);
    EVP_KDF_free(hkdf);
    return ok;
}

/* One for each handshake: TLS makes it the connection's. */
static SSL_SESSION *session_of(SSL *ssl, const struct pc_psk *psk)
{
    static const unsigned char aes128[] = {0x13, 0x01};
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes128);
    SSL_SESSION *session = SSL_SESSION_new();
    if (session != NULL && cipher != NULL &&
        SSL_SESSION_set1_master_key(session, psk->secret, PC_PSK_LEN) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
        return session;
    }
    SSL_SESSION_free(session);
    return NULL;
}

int pc_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id_p,
               size_t *id_len_p, SSL_SESSION **session_p)
{
    const struct pc_tls_session *session = SSL_get_app_data(ssl);
    const struct pc_psk *psk = &session->tls->keys[0];

    *id_p = NULL;
    *id_len_p = 0;
    *session_p = NULL;
    /* After a retry with another digest the key does not fit: without it the
     * handshake fails. */
    if (md != NULL && EVP_MD_get_size(md) != PC_PSK_LEN) {
        return 1;
    }
    *session_p = session_of(ssl, psk);
    *id_p = (const unsigned char *)psk->identity;
    *id_len_p = PC_PSK_IDENTITY_LEN;
    return *session_p != NULL;
}

int pc_psk_find(SSL *ssl, const unsigned char *id, size_t id_len,
                SSL_SESSION **session_p)
{
    struct pc_tls_session *session = SSL_get_app_data(ssl);
    const struct pc_tls *tls = session->tls;

    session->offered = true;
    *session_p = NULL;
    for (size_t i = 0; i < tls->n_keys; i++) {
        if (id_len == PC_PSK_IDENTITY_LEN &&
            memcmp(id, tls->keys[i].identity, id_len) == 0) {
            *session_p = session_of(ssl, &tls->keys[i]);
            return *session_p != NULL;
        }
    }
    return 1; /* Not known: the handshake goes on, and fails, without it. */
}
