/*
 * conn.h - the life of a connection: made, given turns, closed, freed.
 */
#ifndef PC_SOCKET_CONN_H
#define PC_SOCKET_CONN_H

#include "transports/socket/state.h"

peercache_status_t pc_socket_conn_connect(struct pc_link *link,
                                          const char *address,
                                          enum pc_link_class cls,
                                          uint64_t deadline_ns, void *conn_arg,
                                          struct pc_link_conn **conn_p);
/* Takes fd over, closes it on failure too. */
void pc_socket_conn_accept(struct pc_link *link, int fd,
                           const struct pc_socket_address *peer);

/* Close the socket now; what is owed is delivered on the next turn. Harmless
 * for a connection that is closed already. */
void pc_socket_conn_fail(struct pc_link_conn *conn, peercache_status_t why);
/* For a stranger: it is counted, and a line in the log says why. */
void pc_socket_conn_refuse(struct pc_link_conn *conn, peercache_status_t why,
                           const char *reason);
/* For a peer that we connected to and that proved nothing, or that refused us.
 */
void pc_socket_conn_distrust(struct pc_link_conn *conn, peercache_status_t why,
                             const char *reason);
/* An open connection brought bytes that prove false. */
void pc_socket_conn_forged(struct pc_link_conn *conn);
/* The preamble is here; false: the connection was closed. */
bool pc_socket_conn_greeted(struct pc_link_conn *conn, enum pc_link_class cls);

/* One turn: receive, send, deliver; may free the connection. Returns the
 * amount of work done. */
unsigned pc_socket_conn_run(struct pc_link_conn *conn);

/* Whether this system grants send buffers that take a whole turn. */
bool pc_socket_conn_takes_turns(void);

/* What a failed call on an open connection's socket means. */
peercache_status_t pc_socket_conn_status(int error);

#endif /* PC_SOCKET_CONN_H */
