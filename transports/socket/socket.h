/*
 * socket.h - the link over TCP ("1.2.3.4:5", "[::1]:5") and Unix
 * ("unix:path") stream sockets.
 *
 * One epoll instance, nonblocking sockets, a frame per message. Bodies go from
 * the sender's pieces to the kernel and from there into the sink's pieces
 * without a further copy. What the contract in seam/link.h leaves open:
 *  - closed says CANCELED after one's own disconnect, PEER_FAILED when the peer
 *    is gone, TIMED_OUT after a stall, PROTOCOL for a malformed frame;
 *  - connect to a place where nobody listens ends as UNREACHABLE, connect that
 *    is disconnected before its end as CANCELED;
 *  - close() ends what is left as disconnect does, and calls its done and
 *    closed functions before it returns.
 */
#ifndef PC_SOCKET_SOCKET_H
#define PC_SOCKET_SOCKET_H

#include "seam/link.h"

const struct pc_link_ops *pc_socket_link(void);

#endif /* PC_SOCKET_SOCKET_H */
