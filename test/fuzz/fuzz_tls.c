/*
 * fuzz_tls.c - what a stranger sends to a port with a key: never believed,
 * whatever it is. (The one beginning that is right stops where the stranger
 * would have to know the key.)
 */
#include "fuzz.h"

#include "transports/socket/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The seed's hello was made with it, so that its proof is looked at. */
#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct stranger
{
    struct pc_tls_io io;
    const uint8_t *data;
    size_t left;
};

static ssize_t say(struct pc_tls_io *io, void *data, size_t len)
{
    struct stranger *stranger = (struct stranger *)io; /* Its first member. */
    size_t n = stranger->left < len ? stranger->left : len;
    if (n == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, stranger->data, n);
    stranger->data += n;
    stranger->left -= n;
    return (ssize_t)n;
}

static ssize_t ignore(struct pc_tls_io *io, const void *data, size_t len)
{
    (void)io;
    (void)data;
    return (ssize_t)len;
}

static const struct pc_tls_ops *module(struct pc_tls **tls_p)
{
    static const struct pc_tls_ops *ops;
    static struct pc_tls *tls;
    static char reason[512];
    if (ops == NULL) {
        const struct pc_link_tls keys = {.cluster = "peercache",
                                         .keys = {{KEY, sizeof(KEY) - 1}},
                                         .n_keys = 1,
                                         .encrypt = true,
                                         .reason = reason,
                                         .reason_len = sizeof(reason)};
#ifdef PC_TEST_TLS_MODULE
        (void)setenv("PEERCACHE_TLS_MODULE", PC_TEST_TLS_MODULE, 0);
#endif
        ops = pc_tls_load(reason, sizeof(reason));
        if (ops == NULL || ops->open(&keys, &tls) != PEERCACHE_OK) {
            abort();
        }
    }
    *tls_p = tls;
    return ops;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stranger stranger = {
        .io = {.read = say, .write = ignore}, .data = data, .left = size};
    struct pc_tls *tls;
    const struct pc_tls_ops *ops = module(&tls);
    struct pc_tls_session *session = ops->start(tls, &stranger.io, -1, true);
    if (session == NULL || ops->shake(session) == PC_TLS_OK) {
        abort();
    }
    ops->end(session);
    return 0;
}
