#include "transports/socket/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define UNIX_SCHEME     "unix:"
#define UNIX_SCHEME_LEN (sizeof(UNIX_SCHEME) - 1)
#define HOST_TEXT_MAX   80 /* An IPv6 address with its scope. */
#define PORT_TEXT_MAX   8
#define PORT_MAX        65535

static bool parse_unix(const char *path, struct pc_socket_address *address_p)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(un.sun_path)) {
        return false;
    }
    memcpy(un.sun_path, path, len + 1);
    memset(address_p, 0, sizeof(*address_p));
    memcpy(&address_p->storage, &un, sizeof(un));
    address_p->len = (socklen_t)sizeof(un);
    return true;
}

/* Digits only: getaddrinfo would take "+80" and " 80" too. */
static bool is_port(const char *text)
{
    unsigned value = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value <= PORT_MAX;
}

/* Cut "host:port" or "[v6]:port" in two; false if it is neither. */
static bool split(const char *text, char *host, const char **port_p)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    size_t len = (size_t)(colon - text);
    bool bracketed = len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return false; /* IPv6 needs its brackets. */
    }
    if (len == 0 || len >= HOST_TEXT_MAX) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    *port_p = colon + 1;
    return bracketed == (strchr(host, ':') != NULL);
}

bool pc_socket_address_parse(const char *text,
                             struct pc_socket_address *address_p)
{
    char host[HOST_TEXT_MAX];
    const char *port;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *info = NULL;

    if (text == NULL) {
        return false;
    }
    if (strncmp(text, UNIX_SCHEME, UNIX_SCHEME_LEN) == 0) {
        return parse_unix(text + UNIX_SCHEME_LEN, address_p);
    }
    if (!split(text, host, &port) || !is_port(port) ||
        getaddrinfo(host, port, &hints, &info) != 0) {
        return false;
    }
    memset(address_p, 0, sizeof(*address_p));
    memcpy(&address_p->storage, info->ai_addr, info->ai_addrlen);
    address_p->len = info->ai_addrlen;
    freeaddrinfo(info);
    return true;
}

bool pc_socket_address_format(const struct pc_socket_address *address,
                              char *text, size_t len)
{
    char host[HOST_TEXT_MAX];
    char port[PORT_TEXT_MAX];
    int n;

    if (pc_socket_address_is_unix(address)) {
        n = snprintf(text, len, UNIX_SCHEME "%s",
                     pc_socket_address_path(address));
    } else {
        if (getnameinfo((const struct sockaddr *)&address->storage,
                        address->len, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
            return false;
        }
        n = snprintf(text, len,
                     address->storage.ss_family == AF_INET6 ? "[%s]:%s"
                                                            : "%s:%s",
                     host, port);
    }
    return n >= 0 && (size_t)n < len;
}

bool pc_socket_address_is_local(const struct pc_socket_address *address)
{
    const struct sockaddr *any = (const struct sockaddr *)&address->storage;
    if (any->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)any;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    if (any->sa_family == AF_INET6) {
        const struct in6_addr *in6 =
            &((const struct sockaddr_in6 *)any)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(in6) ||
               (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
    }
    return any->sa_family == AF_UNIX;
}

bool pc_socket_address_is_unix(const struct pc_socket_address *address)
{
    return address->storage.ss_family == AF_UNIX;
}

const char *pc_socket_address_path(const struct pc_socket_address *address)
{
    /* The kernel cuts the address of an unnamed socket off before the path;
     * the rest of the storage is zero then. */
    return pc_socket_address_is_unix(address)
               ? ((const struct sockaddr_un *)&address->storage)->sun_path
               : "";
}
