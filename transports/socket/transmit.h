/*
 * transmit.h - from posted messages into the socket.
 */
#ifndef PC_SOCKET_TRANSMIT_H
#define PC_SOCKET_TRANSMIT_H

#include "transports/socket/state.h"

void pc_socket_transmit_init(struct pc_link_conn *conn);
/* Queue a message. */
peercache_status_t pc_socket_transmit_post(struct pc_link_send *send);
/* Take it back; false if it has begun to leave. */
bool pc_socket_transmit_cancel(struct pc_link_send *send);
/* Send at most a turn's bytes. Returns the amount of work. */
unsigned pc_socket_transmit(struct pc_link_conn *conn);
bool pc_socket_transmit_is_idle(const struct pc_link_conn *conn);
/* Everything queued ends with `status`; its done is due. */
void pc_socket_transmit_end_all(struct pc_link_conn *conn,
                                peercache_status_t status);
/* Call every done that is due; their number. */
unsigned pc_socket_transmit_deliver(struct pc_link_conn *conn);

#endif /* PC_SOCKET_TRANSMIT_H */
