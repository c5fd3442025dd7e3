/*
 * secure.h - TLS on a connection: its handshake, its records in and out.
 *
 * Between OpenSSL and the socket lie two buffers, so that several records
 * leave and come with one call; each is borrowed from the link while it holds
 * something. What was posted counts as sent when all records of it have left,
 * so the queue's rules are those of a plain connection. A direction that the
 * kernel encrypts, or that stays clear (encrypt = off), goes around all this.
 */
#ifndef PC_SOCKET_SECURE_H
#define PC_SOCKET_SECURE_H

#include "transports/socket/state.h"

/* The link's keys; params->tls is not NULL. */
peercache_status_t pc_secure_open(struct pc_link *link);
void pc_secure_close(struct pc_link *link);
/* For people: "TLS 1.3 (OpenSSL 3.0.1, a shared key)". */
const char *pc_secure_describe(const struct pc_link *link);

/* False: no memory. */
bool pc_secure_start(struct pc_link_conn *conn, bool server);
/* One try; OK: both sides have proved themselves. IN_PROGRESS: it goes on with
 * the socket's next event. Else the connection is to be closed, and
 * pc_secure_reason says why. */
peercache_status_t pc_secure_shake(struct pc_link_conn *conn);
const char *pc_secure_reason(const struct pc_link_conn *conn);
/* Good-bye, as far as the socket takes it; then the session's memory. */
void pc_secure_end(struct pc_link_conn *conn, bool politely);

/* Whether bytes are read and sent by the two below, not by plain calls. */
bool pc_secure_receives(const struct pc_link_conn *conn);
bool pc_secure_sends(const struct pc_link_conn *conn);

/* As readv; errno EBADMSG: a record proved false, EKEYREJECTED: the peer did
 * not accept us. */
ssize_t pc_secure_readv(struct pc_link_conn *conn, const struct iovec *iov,
                        size_t n_iov);
/* Encrypt from these and send. Bytes of them that have left since the last
 * call that returned more than 0, counted once all records of them have, or
 * -1; *moved_p: records that left now. */
ssize_t pc_secure_sendv(struct pc_link_conn *conn, const struct iovec *iov,
                        size_t n_iov, size_t *moved_p);
/* Bytes of the queue that are encrypted already. */
uint64_t pc_secure_sealed(const struct pc_link_conn *conn);
bool pc_secure_is_idle(const struct pc_link_conn *conn);

#endif /* PC_SOCKET_SECURE_H */
