/*
 * receive.h - from the socket into heads and sinks.
 */
#ifndef PC_SOCKET_RECEIVE_H
#define PC_SOCKET_RECEIVE_H

#include "transports/socket/state.h"

void pc_socket_receive_init(struct pc_link_conn *conn);
/* Frees buffers; the sink was completed before. */
void pc_socket_receive_fini(struct pc_link_conn *conn);
/* Read and hand up at most a turn's bytes. Returns the amount of work. */
unsigned pc_socket_receive(struct pc_link_conn *conn);
/* The current sink gets nothing more; its done is due with `status`. */
void pc_socket_receive_end_sink(struct pc_link_conn *conn,
                                peercache_status_t status);
/* Call a done that is due; 1 if there was one. */
unsigned pc_socket_receive_deliver(struct pc_link_conn *conn);

#endif /* PC_SOCKET_RECEIVE_H */
