#include "openssl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static bool fail(const struct pc_link_tls *tls, const char *setting,
                 const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *detail = ERR_reason_error_string(error);
    (void)snprintf(tls->reason, tls->reason_len, "%s %s%s%s", setting, what,
                   error != 0 && detail != NULL ? ": " : "",
                   error != 0 && detail != NULL ? detail : "");
    return false;
}

/* Nobody is there to be asked for a pass phrase. */
static int no_pass_phrase(char *buffer, int size, int writing, void *arg)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static BIO *text_of(const struct pc_blob *blob)
{
    return BIO_new_mem_buf(blob->data, (int)blob->len);
}

/* Ours, then those between it and the authority. */
static bool use_chain(const struct pc_link_tls *tls, SSL_CTX *context)
{
    BIO *text = text_of(&tls->cert);
    X509 *own = text == NULL
                    ? NULL
                    : PEM_read_bio_X509_AUX(text, NULL, no_pass_phrase, NULL);
    bool ok = own != NULL && SSL_CTX_use_certificate(context, own) == 1;
    X509 *next;
    X509_free(own);
    while (ok && (next = PEM_read_bio_X509(text, NULL, no_pass_phrase, NULL)) !=
                     NULL) {
        ok = SSL_CTX_add0_chain_cert(context, next) == 1;
        if (!ok) {
            X509_free(next);
        }
    }
    BIO_free(text);
    if (!ok) {
        return fail(tls, "tls_cert", "holds no usable certificate");
    }
    ERR_clear_error(); /* The end of the text is one. */
    return true;
}

static bool use_private_key(const struct pc_link_tls *tls, SSL_CTX *context)
{
    BIO *text = text_of(&tls->key);
    EVP_PKEY *key =
        text == NULL
            ? NULL
            : PEM_read_bio_PrivateKey(text, NULL, no_pass_phrase, NULL);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(text);
    if (!ok) {
        return fail(tls, "tls_key",
                    "holds no usable private key without a pass phrase, or "
                    "one that does not belong to tls_cert");
    }
    return true;
}

static bool use_authorities(const struct pc_link_tls *tls, SSL_CTX *context)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    BIO *text = text_of(&tls->ca);
    unsigned n = 0;
    X509 *one;
    while (text != NULL && (one = PEM_read_bio_X509_AUX(
                                text, NULL, no_pass_phrase, NULL)) != NULL) {
        n += X509_STORE_add_cert(store, one) == 1;
        X509_free(one);
    }
    BIO_free(text);
    if (n == 0) {
        return fail(tls, "tls_ca", "holds no certificate");
    }
    ERR_clear_error();
    return true;
}

/* Who would be refused by all others had better hear it at once. */
static int verdict_on_own(SSL_CTX *context, const char *role)
{
    X509 *own = SSL_CTX_get0_certificate(context);
    STACK_OF(X509) *chain = NULL;
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    (void)SSL_CTX_get0_chain_certs(context, &chain);
    int error = X509_V_ERR_OUT_OF_MEM;
    if (check != NULL &&
        X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context), own,
                            chain) == 1 &&
        X509_STORE_CTX_set_default(check, role) == 1) {
        X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(check),
                               SSL_CTX_get0_param(context));
        (void)X509_verify_cert(check);
        error = X509_STORE_CTX_get_error(check);
    }
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return error;
}

/* A node is both: it listens and connects. */
static bool would_be_accepted(const struct pc_link_tls *tls, SSL_CTX *context)
{
    char text[192];
    int error = verdict_on_own(context, "ssl_server");
    if (error == X509_V_OK) {
        error = verdict_on_own(context, "ssl_client");
    }
    if (error == X509_V_OK) {
        return true;
    }
    (void)snprintf(text, sizeof(text),
                   "would be refused by a node with the same tls_ca and "
                   "tls_name (%s): %s",
                   tls->name, X509_verify_cert_error_string(error));
    return fail(tls, "tls_cert", text);
}

bool pc_certificates_use(const struct pc_link_tls *tls, SSL_CTX *context)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_WILDCARDS |
                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (X509_VERIFY_PARAM_set1_host(param, tls->name, 0) != 1) {
        return fail(tls, "tls_name", "is no DNS name");
    }
    SSL_CTX_set_verify(context,
                       SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return use_chain(tls, context) && use_private_key(tls, context) &&
           use_authorities(tls, context) && would_be_accepted(tls, context);
}
