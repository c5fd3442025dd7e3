#include "trust.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_MAX 16384
#define PEM_FILE_MAX (1u << 20)
/* A key of fewer different characters was not chosen at random: 64 digits of
 * a random number have about 15.7 of 16. */
#define DISTINCT_MIN 8

/* ---- Keys ------------------------------------------------------------- */

static size_t n_distinct(const char *word, size_t len)
{
    bool seen[256] = {false};
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += !seen[(unsigned char)word[i]];
        seen[(unsigned char)word[i]] = true;
    }
    return n;
}

static const char *key_fault(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isgraph((unsigned char)word[i])) {
            return "a key is of printable characters only";
        }
    }
    if (len < PC_KEY_LEN_MIN || len > PC_KEY_LEN_MAX) {
        return "a key has 32 to 1,024 characters (openssl rand -hex 32 makes "
               "one)";
    }
    return n_distinct(word, len) < DISTINCT_MIN
               ? "a key is random, this one is not (openssl rand -hex 32 makes "
                 "one)"
               : NULL;
}

static bool is_between(char c)
{
    return c == ',' || isspace((unsigned char)c);
}

bool pc_trust_parse_keys(const char *text, size_t len,
                         struct pc_blob keys[PC_LINK_KEYS_MAX],
                         size_t *n_keys_p, char *reason, size_t reason_len)
{
    size_t n = 0;
    size_t at = 0;
    while (at < len) {
        size_t start = at;
        if (text[at] == '#') {
            while (at < len && text[at] != '\n') {
                at++;
            }
            continue;
        }
        while (at < len && !is_between(text[at])) {
            at++;
        }
        const char *fault =
            at == start ? NULL : key_fault(text + start, at - start);
        if (at > start && fault == NULL && n == PC_LINK_KEYS_MAX) {
            fault = "there are more than two keys";
        }
        if (fault != NULL) {
            (void)snprintf(reason, reason_len, "%s", fault);
            return false;
        }
        if (at > start) {
            keys[n++] = (struct pc_blob){text + start, at - start};
        } else {
            at++;
        }
    }
    if (n == 0) {
        (void)snprintf(reason, reason_len, "there is no key in it");
        return false;
    }
    *n_keys_p = n;
    return true;
}

/* ---- Files ------------------------------------------------------------ */

static peercache_status_t fail(struct pc_trust *trust, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static peercache_status_t fail(struct pc_trust *trust, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(trust->reason, sizeof(trust->reason), format, args);
    va_end(args);
    return PEERCACHE_INVALID;
}

struct wanted
{
    const char *setting;
    const char *path;
    size_t max;
    bool secret; /* Nobody but its owner may read it. */
};

/* Why the open file cannot be used, or NULL. */
static const char *file_fault(const struct wanted *wanted,
                              const struct stat *info)
{
    if (!S_ISREG(info->st_mode)) {
        return "it is not a regular file";
    }
    if (wanted->secret && info->st_uid != geteuid() && info->st_uid != 0) {
        return "it belongs to another user";
    }
    if (wanted->secret && (info->st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return "others than its owner may open it (chmod 600 helps)";
    }
    if (info->st_size > (off_t)wanted->max) {
        return "it is too large";
    }
    return info->st_size == 0 ? "it is empty" : NULL;
}

static bool read_all(int fd, char *text, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(fd, text + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* The checks look at what was opened, which no rename changes any more. A
 * pipe without a writer must not hold us up. */
static peercache_status_t read_file(struct pc_trust *trust, int index,
                                    const struct wanted *wanted)
{
    struct stat info;
    int fd = open(wanted->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return fail(trust, "%s = \"%s\" cannot be opened: %s", wanted->setting,
                    wanted->path, strerror(error));
    }
    const char *fault = file_fault(wanted, &info);
    size_t len = (size_t)info.st_size;
    if (fault == NULL) {
        trust->texts[index] = pc_alloc(1, len);
        trust->lens[index] = len;
        if (trust->texts[index] == NULL) {
            fault = "out of memory";
        } else if (!read_all(fd, trust->texts[index], len)) {
            fault = "it cannot be read";
        }
    }
    close(fd);
    return fault == NULL ? PEERCACHE_OK
                         : fail(trust, "%s = \"%s\" is not allowed: %s",
                                wanted->setting, wanted->path, fault);
}

/* ---- Both kinds ------------------------------------------------------- */

static peercache_status_t load_key(const struct pc_settings *settings,
                                   struct pc_trust *trust)
{
    char why[256];
    const char *path = settings->cluster_key_file;
    const struct wanted wanted = {"cluster_key_file", path, KEY_FILE_MAX, true};
    const char *variable = getenv(PC_KEY_ENV);
    if (path[0] != '\0') {
        peercache_status_t status = read_file(trust, 0, &wanted);
        if (status != PEERCACHE_OK) {
            return status;
        }
    } else {
        size_t len = variable == NULL ? 0 : strlen(variable);
        trust->texts[0] = pc_alloc(1, len + 1);
        if (trust->texts[0] == NULL) {
            return fail(trust, "out of memory");
        }
        memcpy(trust->texts[0], variable == NULL ? "" : variable, len);
        trust->lens[0] = len;
    }
    if (!pc_trust_parse_keys(trust->texts[0], trust->lens[0], trust->tls.keys,
                             &trust->tls.n_keys, why, sizeof(why))) {
        return path[0] != '\0'
                   ? fail(trust, "cluster_key_file = \"%s\" is not allowed: %s",
                          path, why)
                   : fail(trust, PC_KEY_ENV " is not allowed: %s", why);
    }
    return PEERCACHE_OK;
}

static peercache_status_t load_certificates(const struct pc_settings *settings,
                                            struct pc_trust *trust)
{
    const struct wanted wanted[] = {
        {"tls_cert", settings->tls_cert, PEM_FILE_MAX, false},
        {"tls_key", settings->tls_key, PEM_FILE_MAX, true},
        {"tls_ca", settings->tls_ca, PEM_FILE_MAX, false},
    };
    for (int i = 0; i < 3; i++) {
        peercache_status_t status = read_file(trust, i, &wanted[i]);
        if (status != PEERCACHE_OK) {
            return status;
        }
    }
    trust->tls.cert = (struct pc_blob){trust->texts[0], trust->lens[0]};
    trust->tls.key = (struct pc_blob){trust->texts[1], trust->lens[1]};
    trust->tls.ca = (struct pc_blob){trust->texts[2], trust->lens[2]};
    trust->tls.name = settings->tls_name;
    return PEERCACHE_OK;
}

peercache_status_t pc_trust_load(const struct pc_settings *settings,
                                 struct pc_trust *trust)
{
    bool key =
        settings->cluster_key_file[0] != '\0' || settings->cluster_key_in_env;
    bool certificates = settings->tls_cert[0] != '\0';
    memset(trust, 0, sizeof(*trust));
    if (!key && !certificates) {
        return PEERCACHE_OK;
    }
    trust->tls.cluster = settings->cluster_name;
    trust->tls.encrypt = settings->encrypt;
    trust->tls.reason = trust->reason;
    trust->tls.reason_len = sizeof(trust->reason);
    peercache_status_t status =
        key ? load_key(settings, trust) : load_certificates(settings, trust);
    if (status != PEERCACHE_OK) {
        pc_trust_wipe(trust);
        return status;
    }
    trust->given = true;
    return PEERCACHE_OK;
}

void pc_trust_wipe(struct pc_trust *trust)
{
    for (int i = 0; i < 3; i++) {
        if (trust->texts[i] != NULL) {
            explicit_bzero(trust->texts[i], trust->lens[i]);
            pc_free(trust->texts[i]);
            trust->texts[i] = NULL;
        }
    }
}
