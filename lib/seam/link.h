/*
 * link.h - words between nodes: connections that carry messages.
 *
 * transports/socket implements it on TCP and Unix sockets, transports/sim for
 * tests; both pass test/conformance. Bulk bytes may ride on a message (reads
 * that a peer serves, puts that are pushed); one-sided and mapped reads are
 * fabric.h's. Five rules hold for every operation:
 *
 *  1. One thread. All calls come from the engine's thread, except wake().
 *  2. Exactly once. A posted operation (IN_PROGRESS) calls its done function
 *     once, also when the peer dies or the connection is closed. A post that
 *     returns an error calls nothing.
 *  3. Never from within. done and the upcalls run inside progress() only, so
 *     a caller may post from a callback without recursion.
 *  4. The poster keeps the operation and its memory until done, and may reuse
 *     both from then on.
 *  5. No call blocks but progress(), and that no longer than it is told.
 */
#ifndef PC_SEAM_LINK_H
#define PC_SEAM_LINK_H

#include <peercache/peercache.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pc_link;      /* An open link layer. Each implementation embeds it. */
struct pc_link_conn; /* A connection to one peer. */

/* A range of bytes that the callee does not keep. */
struct pc_blob
{
    const void *data;
    size_t len;
};

#define PC_LINK_KEYS_MAX 2

/*
 * What a link proves itself with, and asks of its peers: keys that all nodes
 * share, or certificates. open() copies what it needs, so the memory may be
 * wiped afterwards.
 */
struct pc_link_tls
{
    const char *cluster; /* Keys of clusters with other names do not fit. */
    /* One is used to connect, the first; all of them are accepted. */
    struct pc_blob keys[PC_LINK_KEYS_MAX];
    size_t n_keys;
    /* Without keys: PEM texts of our chain and private key, and of the
     * authorities that a peer's chain must end at. Its certificate must be
     * made out to the DNS name `name`. */
    struct pc_blob cert, key, ca;
    const char *name;
    bool encrypt; /* False: only the handshake is protected. */
    /* Why open() failed because of all this, in words. */
    char *reason;
    size_t reason_len;
};

/* What a link has seen, for metrics. Refused: connections that others opened
 * and that ended before they were accepted, and ours that proved nothing. */
struct pc_link_stats
{
    uint64_t n_conns; /* Now: accepted and connected. */
    uint64_t
        n_incoming; /* Now: those that others opened, strangers included. */
    uint64_t n_strangers;       /* Now: of these, not yet accepted. */
    uint64_t n_secured;         /* Handshakes that succeeded. */
    uint64_t refused_untrusted; /* No key or another, a bad certificate. */
    uint64_t refused_protocol;  /* Not our protocol. */
    uint64_t refused_late;      /* Did not say hello in time. */
    uint64_t refused_full;      /* At the bounds of connections. */
    uint64_t forged;   /* Records of open connections that proved false. */
    uint64_t head_max; /* The longest head that came. */
};

/* A message: a short head, and a body gathered from pieces (may be none). */
struct pc_link_send
{
    struct pc_link_conn *conn;
    struct pc_blob head;
    const peercache_piece_t *pieces;
    size_t n_pieces;
    void (*done)(struct pc_link_send *send, peercache_status_t status);
    uint64_t priv[8]; /* For the implementation. */
};

/* Where the body of an incoming message goes. */
struct pc_link_sink
{
    const peercache_piece_t *pieces; /* NULL: drop the body. */
    size_t n_pieces;
    size_t landed; /* Bytes that have landed so far, in order. */
    void (*done)(struct pc_link_sink *sink, peercache_status_t status);
};

/* Control connections carry short messages; bulk ones carry pages, so that a
 * short message never waits behind a long body. */
enum pc_link_class { PC_LINK_CONTROL, PC_LINK_BULK };

/* Calls from the link up into the engine, inside progress(). */
struct pc_link_upcalls
{
    void *arg;
    /* A peer connected (and, with TLS, proved itself); conn_arg for its later
     * upcalls, or NULL to refuse: then nothing more is heard of conn. */
    void *(*accepted)(void *arg, struct pc_link_conn *conn,
                      enum pc_link_class cls, const char *from);
    /* connect() ended. After an error conn is gone, closed is not called. */
    void (*connected)(void *conn_arg, peercache_status_t status);
    /* A message's head is here (it lives until return) and body_len bytes
     * follow (0: none, done comes all the same): say where they go, in pieces
     * that sum to body_len. They land there without a further copy, then
     * sink->done is called. NULL closes the connection. */
    struct pc_link_sink *(*message)(void *conn_arg, struct pc_blob head,
                                    size_t body_len);
    /* The connection is gone; everything posted on it completes by itself. */
    void (*closed)(void *conn_arg, peercache_status_t why);
};

struct pc_link_params
{
    struct pc_link_upcalls up;
    const struct pc_link_tls *tls; /* NULL: none. Read by open() only. */
    bool loopback_only;            /* Refuse peers on other hosts. */
    size_t n_incoming_max;         /* Connections that others open; 0: many. */
    size_t head_max;               /* Longer heads close the connection. */
    uint64_t body_max;             /* So do longer bodies; 0: 4 GiB. */
    uint64_t stall_ns;             /* No send progress for so long closes it. */
    void *world; /* A simulated host; other links ignore it. */
};

struct pc_link_ops
{
    const char *name;
    peercache_status_t (*open)(const struct pc_link_params *params,
                               struct pc_link **link_p);
    void (*close)(struct pc_link *link);

    /* Listen on "ip:port" (port 0 picks one) or "unix:path"; several may be
     * open at once. bound is what others connect to. Addresses are numeric:
     * names are resolved above, on a thread of their own. */
    peercache_status_t (*listen)(struct pc_link *link, const char *address,
                                 char *bound, size_t bound_len);
    void (*unlisten)(struct pc_link *link, const char *bound);

    peercache_status_t (*connect)(struct pc_link *link, const char *address,
                                  enum pc_link_class cls, uint64_t deadline_ns,
                                  void *conn_arg, struct pc_link_conn **conn_p);
    /* Cancels what is posted; every done comes before closed does. */
    void (*disconnect)(struct pc_link_conn *conn);
    peercache_status_t (*send)(struct pc_link_send *send);
    /* An unsent message is taken back (CANCELED); one that has begun to leave
     * closes its connection. Its memory is free at done. */
    void (*cancel_send)(struct pc_link_send *send);
    /* Stop a sink's bytes from landing: the rest is read and dropped; its done
     * comes as CANCELED. Nothing is written after done. */
    void (*cancel_sink)(struct pc_link_conn *conn, struct pc_link_sink *sink);
    /* Stop or go on reading this connection (flow control). */
    void (*pause)(struct pc_link_conn *conn, bool paused);

    /* Run what is ready, else wait up to max_wait_ns for it, for fd (a
     * fabric's, or -1), or for wake(). Returns the amount of work done. */
    unsigned (*progress)(struct pc_link *link, int fd, uint64_t max_wait_ns);
    /* End a wait. Any thread. */
    void (*wake)(struct pc_link *link);

    /* To sleep without calling progress(), which another thread may call
     * meanwhile. NULL in links that no thread waits for. */
    /* A descriptor, for the life of the link, that is readable while progress()
     * would find something. */
    int (*wait_fd)(struct pc_link *link);
    /* When progress() has work by itself (clock): now or earlier: at once;
     * UINT64_MAX: only with the descriptor. */
    uint64_t (*next_due)(struct pc_link *link);

    /* For metrics and the log; NULL in links that count nothing. */
    void (*stats)(const struct pc_link *link, struct pc_link_stats *stats_p);
    /* How it is protected, in words. */
    const char *(*describe)(const struct pc_link *link);
};

#ifdef __cplusplus
}
#endif

#endif /* PC_SEAM_LINK_H */
