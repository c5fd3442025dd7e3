#include "names.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool pc_names_resolve(const char *host, uint16_t port, char *address,
                      size_t len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char ip[INET6_ADDRSTRLEN];
    if (getaddrinfo(host, NULL, &hints, &list) != 0) {
        return false;
    }
    bool found =
        list != NULL && getnameinfo(list->ai_addr, list->ai_addrlen, ip,
                                    sizeof(ip), NULL, 0, NI_NUMERICHOST) == 0;
    if (found) {
        bool v6 = list->ai_family == AF_INET6;
        (void)snprintf(address, len, "%s%s%s:%u", v6 ? "[" : "", ip,
                       v6 ? "]" : "", port);
    }
    freeaddrinfo(list);
    return found;
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
