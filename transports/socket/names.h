/*
 * names.h - host names and local addresses. These block; never call them with
 * the engine's role.
 */
#ifndef PC_SOCKET_NAMES_H
#define PC_SOCKET_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first address of a host name (or a numeric one), as "ip:port" or
 * "[ip]:port". False: the name is not known. */
bool pc_names_resolve(const char *host, uint16_t port, char *address,
                      size_t len);
/* The same, of a numeric address only: does not block. */
bool pc_names_numeric(const char *host, uint16_t port, char *address,
                      size_t len);
#define PC_NAMES_ADDRESS_MAX 128
/* All its addresses, each once, in an order that every host finds. The number;
 * 0: the name is not known. */
size_t pc_names_resolve_all(const char *host, uint16_t port,
                            char (*addresses)[PC_NAMES_ADDRESS_MAX],
                            size_t max);
/* Whether an "ip:port" is on the loopback. */
bool pc_names_is_loopback(const char *address);
/* The local IP from which packets to "ip:port" would leave. */
bool pc_names_route(const char *address, char *ip, size_t len);

/* The network device that has the IP of "ip:port", "" if none of this host. */
void pc_names_device(const char *address, char *name, size_t len);

#endif /* PC_SOCKET_NAMES_H */
