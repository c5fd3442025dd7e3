/*
 * listen.h - sockets that others connect to.
 */
#ifndef PC_SOCKET_LISTEN_H
#define PC_SOCKET_LISTEN_H

#include "transports/socket/state.h"

peercache_status_t pc_socket_listen(struct pc_link *link, const char *address,
                                    char *bound, size_t bound_len);
/* NULL: all of them. */
void pc_socket_unlisten(struct pc_link *link, const char *bound);
/* Accept what has come; the number of connections. */
unsigned pc_socket_listeners_run(struct pc_link *link);
/* Keep one descriptor for the day when there is no other. */
void pc_socket_keep_spare(struct pc_link *link);

#endif /* PC_SOCKET_LISTEN_H */
