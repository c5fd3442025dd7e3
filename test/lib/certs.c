#include "certs.h"

#include "test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EC "ec -pkeyopt ec_paramgen_curve:P-256"

/* Texts that tests hold, until the folder goes. */
static void *texts[512];
static size_t n_texts;

static bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool run(const char *format, ...)
{
    char command[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    /* The commands are made of constants and a folder that mkdtemp named. */
    return system(command) == 0; /* NOLINT(cert-env33-c) */
}

static bool make_authority(const char *folder, const char *name)
{
    return run("cd %s && openssl req -x509 -newkey ec -pkeyopt "
               "ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s "
               "-keyout %s.key -out %s.pem 2>/dev/null",
               folder, name, name, name);
}

static bool make_one(const char *folder, const char *name, const char *host,
                     const char *authority, int days, const char *more,
                     const char *key)
{
    return run(
        "cd %s && openssl req -newkey %s -nodes -subj /CN=%s -keyout %s.key "
        "-out %s.csr 2>/dev/null && "
        "printf 'subjectAltName=DNS:%s\\n%s' >%s.ext && "
        "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key "
        "-CAcreateserial -days %d -extfile %s.ext -out %s.pem "
        "2>/dev/null",
        folder, key, name, name, name, host, more, name, name, authority,
        authority, days, name, name);
}

bool certs_make(char *folder, size_t len)
{
    (void)snprintf(folder, len, "/tmp/peercache-certs-XXXXXX");
    return mkdtemp(folder) != NULL && make_authority(folder, "ca") &&
           make_authority(folder, "other") &&
           make_one(folder, "node", CERTS_NAME, "ca", 2, "", EC) &&
           make_one(folder, "expired", CERTS_NAME, "ca", -1, "", EC) &&
           make_one(folder, "stranger", "somebody.else", "ca", 2, "", EC) &&
           make_one(folder, "slow", CERTS_NAME, "ca", 2, "", "rsa:4096") &&
           make_one(folder, "server", CERTS_NAME, "ca", 2,
                    "extendedKeyUsage=serverAuth", EC) &&
           make_one(folder, "client", CERTS_NAME, "ca", 2,
                    "extendedKeyUsage=clientAuth", EC) &&
           make_one(folder, "foreign", CERTS_NAME, "other", 2, "", EC);
}

void certs_remove(const char *folder)
{
    (void)run("rm -rf %s", folder);
    while (n_texts > 0) {
        free(texts[--n_texts]);
    }
}

static struct pc_blob read_file(const char *folder, const char *name,
                                const char *ending)
{
    char path[256];
    enum { MAX = 16384 };
    char *text = malloc(MAX);
    (void)snprintf(path, sizeof(path), "%s/%s.%s", folder, name, ending);
    FILE *file = fopen(path, "r");
    assert_true(text != NULL && n_texts < sizeof(texts) / sizeof(texts[0]));
    assert_non_null(file);
    texts[n_texts++] = text;
    struct pc_blob blob = {.data = text, .len = fread(text, 1, MAX, file)};
    (void)fclose(file);
    return blob;
}

void certs_tls(const char *folder, const char *name, struct pc_link_tls *tls)
{
    static char reason[512];
    *tls = (struct pc_link_tls){.cluster = "peercache",
                                .cert = read_file(folder, name, "pem"),
                                .key = read_file(folder, name, "key"),
                                .ca = read_file(folder, "ca", "pem"),
                                .name = CERTS_NAME,
                                .encrypt = true,
                                .reason = reason,
                                .reason_len = sizeof(reason)};
}
