/* The link's suite over TLS with keys and with certificates. */
#include "test.h"

#include "certs.h"
#include "link_place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char reason[512];

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct pc_link_tls keys = {.cluster = "peercache",
                                        .keys = {{KEY, sizeof(KEY) - 1}},
                                        .n_keys = 1,
                                        .encrypt = true,
                                        .reason = reason,
                                        .reason_len = sizeof(reason)};
static const struct pc_link_tls clear = {.cluster = "peercache",
                                         .keys = {{KEY, sizeof(KEY) - 1}},
                                         .n_keys = 1,
                                         .encrypt = false,
                                         .reason = reason,
                                         .reason_len = sizeof(reason)};

int main(void)
{
    char folder[64];
    char sockets[] = "/tmp/peercache-link-XXXXXX";
    struct pc_link_tls certificates;
    int n_failed = 0;

    (void)setenv("PEERCACHE_TLS_MODULE", PC_TEST_TLS_MODULE, 0);
    if (mkdtemp(sockets) == NULL || !certs_make(folder, sizeof(folder))) {
        return 1;
    }
    certs_tls(folder, "node", &certificates);
    const struct
    {
        const char *name;
        const struct pc_link_tls *tls;
        bool is_unix;
    } places[] = {
        {"link over tcp, a key", &keys, false},
        {"link over unix, a key", &keys, true},
        {"link over tcp, a key, not encrypted", &clear, false},
        {"link over unix, a key, not encrypted", &clear, true},
        {"link over tcp, certificates", &certificates, false},
        {"link over unix, certificates", &certificates, true},
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct link_place place = {.is_unix = places[i].is_unix,
                                   .tls = places[i].tls};
        (void)snprintf(place.folder, sizeof(place.folder), "%s", sockets);
        n_failed += link_place_run(places[i].name, &place);
    }
    certs_remove(folder);
    (void)rmdir(sockets);
    return n_failed;
}
