/*
 * address.h - numeric addresses as text and as the kernel wants them.
 *
 * Pure functions, any thread.
 */
#ifndef PC_SOCKET_ADDRESS_H
#define PC_SOCKET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Room for every address as text, "unix:" and the NUL included. */
#define PC_SOCKET_TEXT_MAX 128

struct pc_socket_address
{
    struct sockaddr_storage storage;
    socklen_t len;
};

/* "ip:port", "[v6]:port" or "unix:path"; false for anything else. */
bool pc_socket_address_parse(const char *text,
                             struct pc_socket_address *address_p);
/* The same text again; false if it does not fit. */
bool pc_socket_address_format(const struct pc_socket_address *address,
                              char *text, size_t len);
/* A Unix address, or one on the loopback. */
bool pc_socket_address_is_local(const struct pc_socket_address *address);
bool pc_socket_address_is_unix(const struct pc_socket_address *address);
/* The path of a Unix address; "" for any other. */
const char *pc_socket_address_path(const struct pc_socket_address *address);

#endif /* PC_SOCKET_ADDRESS_H */
