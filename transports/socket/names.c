#include "names.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool write_address(const struct addrinfo *info, uint16_t port,
                          char *address, size_t len)
{
    char ip[INET6_ADDRSTRLEN + 16]; /* With a scope. */
    bool v6 = info->ai_family == AF_INET6;
    if (getnameinfo(info->ai_addr, info->ai_addrlen, ip, sizeof(ip), NULL, 0,
                    NI_NUMERICHOST) != 0) {
        return false;
    }
    (void)snprintf(address, len, "%s%s%s:%u", v6 ? "[" : "", ip, v6 ? "]" : "",
                   port);
    return true;
}

static bool resolve(const char *host, uint16_t port, int flags, char *address,
                    size_t len)
{
    struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(host, NULL, &hints, &list) != 0) {
        return false;
    }
    bool found = list != NULL && write_address(list, port, address, len);
    freeaddrinfo(list);
    return found;
}

bool pc_names_resolve(const char *host, uint16_t port, char *address,
                      size_t len)
{
    return resolve(host, port, 0, address, len);
}

bool pc_names_numeric(const char *host, uint16_t port, char *address,
                      size_t len)
{
    return resolve(host, port, AI_NUMERICHOST, address, len);
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t pc_names_resolve_all(const char *host, uint16_t port,
                            char (*addresses)[PC_NAMES_ADDRESS_MAX], size_t max)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    size_t n = 0;
    if (getaddrinfo(host, NULL, &hints, &list) != 0) {
        return 0;
    }
    for (const struct addrinfo *at = list; at != NULL && n < max;
         at = at->ai_next) {
        n += write_address(at, port, addresses[n], sizeof(addresses[n]));
    }
    freeaddrinfo(list);
    qsort(addresses, n, sizeof(*addresses), compare);
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (n_kept == 0 || strcmp(addresses[n_kept - 1], addresses[i]) != 0) {
            memmove(addresses[n_kept++], addresses[i], sizeof(addresses[i]));
        }
    }
    return n_kept;
}

/* A numeric address with port; false: it is none. */
static bool parse(const char *address, struct sockaddr_storage *to,
                  socklen_t *to_len)
{
    char text[128];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *list = NULL;
    (void)snprintf(text, sizeof(text), "%s", address);
    char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    *colon = '\0';
    char *host = text;
    if (text[0] == '[' && colon > text && colon[-1] == ']') {
        colon[-1] = '\0';
        host = text + 1;
    }
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0) {
        return false;
    }
    memcpy(to, list->ai_addr, list->ai_addrlen);
    *to_len = list->ai_addrlen;
    freeaddrinfo(list);
    return true;
}

bool pc_names_is_loopback(const char *address)
{
    struct sockaddr_storage to;
    socklen_t len;
    if (strncmp(address, "unix:", 5) == 0) {
        return true;
    }
    if (!parse(address, &to, &len)) {
        return false;
    }
    if (to.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&to;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&to;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

bool pc_names_route(const char *address, char *ip, size_t len)
{
    struct sockaddr_storage to;
    struct sockaddr_storage from;
    socklen_t to_len;
    socklen_t from_len = sizeof(from);
    if (!parse(address, &to, &to_len)) {
        return false;
    }
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    /* Connecting a datagram socket sends nothing; it only picks the route. */
    bool found = connect(fd, (struct sockaddr *)&to, to_len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&from, &from_len) == 0 &&
                 getnameinfo((struct sockaddr *)&from, from_len, ip,
                             (socklen_t)len, NULL, 0, NI_NUMERICHOST) == 0;
    (void)close(fd);
    return found;
}

static bool same_ip(const struct sockaddr *a, const struct sockaddr_storage *b)
{
    if (a == NULL || a->sa_family != b->ss_family) {
        return false;
    }
    if (a->sa_family == AF_INET) {
        return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
                      &((const struct sockaddr_in *)b)->sin_addr,
                      sizeof(struct in_addr)) == 0;
    }
    return a->sa_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

void pc_names_device(const char *address, char *name, size_t len)
{
    struct sockaddr_storage ip;
    socklen_t ip_len;
    struct ifaddrs *list;
    name[0] = '\0';
    if (!parse(address, &ip, &ip_len) || getifaddrs(&list) != 0) {
        return;
    }
    for (const struct ifaddrs *at = list; at != NULL; at = at->ifa_next) {
        if (same_ip(at->ifa_addr, &ip)) {
            (void)snprintf(name, len, "%s", at->ifa_name);
            break;
        }
    }
    freeifaddrs(list);
}
