/*
 * state.h - what the modules of this transport share: the open link and its
 * connections. Everything belongs to the caller's one thread.
 *
 *  connect ─► CONNECTING ─(socket connected)─► SHAKING ─(proved)──► OPEN ─┐
 *  accept  ─► SHAKING ─(proved)─► GREETING ─(preamble is here)────► OPEN ─┤
 *                        any error, end of stream, disconnect ─► CLOSED ◄─┘
 *
 * Without TLS nothing is SHAKING. Whoever connects is a stranger until OPEN.
 * A CLOSED connection has no descriptor any more; it stays until its next turn
 * in progress(), which delivers what it owes and frees it.
 */
#ifndef PC_SOCKET_STATE_H
#define PC_SOCKET_STATE_H

#include "base/heap.h"
#include "base/list.h"
#include "seam/link.h"
#include "transports/socket/address.h"
#include "transports/socket/frame.h"
#include "transports/socket/loop.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define PC_SOCKET_BUFFER_LEN 65536 /* Receive buffer of a connection. */
/* Moved per connection and turn: what the kernel takes in one call costs less
 * than the same in four (docs/design-notes.md), and a turn of this is 1 ms. */
#define PC_SOCKET_TURN_BYTES (4u << 20)
#define PC_SOCKET_IOV_MAX    IOV_MAX

/* At most one line in five seconds of each kind. */
struct pc_socket_quiet
{
    uint64_t next_ns;
    uint64_t n_hidden;
};

struct pc_secure_link; /* secure.c */
struct pc_secure;

struct pc_link
{
    struct pc_link_params params;
    struct pc_secure_link *secure; /* NULL: no TLS. */
    struct pc_link_stats stats;    /* What only grows; the rest when asked. */
    struct pc_socket_loop loop;
    bool closing;
    bool takes_turns; /* The kernel grants send buffers for a whole turn. */
    uint64_t now_ns;  /* Read once or twice per progress(). */
    uint64_t back_ns; /* When this thread came back from a pause of its own. */
    struct pc_heap timers;
    struct pc_list conns;    /* All of them. */
    struct pc_list greeting; /* Strangers, oldest first. */
    size_t n_greeting;
    size_t n_conns;
    size_t n_incoming;
    unsigned n_shakes;        /* Handshakes that may go on in this turn ... */
    uint64_t shakes_ns;       /* ... and the time that they may take. */
    struct pc_list ready;     /* Those that get a turn. */
    struct pc_list listeners; /* All of them. */
    struct pc_list spares;    /* Receive buffers that nobody uses. */
    size_t n_spares;
    uint8_t *spare_head; /* Memory of a long head that nobody uses. */
    size_t spare_head_len;
    int spare_fd; /* Given up to accept and refuse when no descriptor is left.
                   */
    struct pc_socket_quiet quiet_accept;
    struct pc_socket_quiet quiet_stranger;
    struct pc_socket_quiet quiet_refused; /* Peers that we connect to. */
    struct iovec iov[PC_SOCKET_IOV_MAX];
};

/* A timer that knows what to do. */
struct pc_socket_timer
{
    struct pc_heap_node node;
    void (*expired)(struct pc_socket_timer *timer);
};

enum pc_socket_state {
    PC_SOCKET_CONNECTING,
    PC_SOCKET_SHAKING,
    PC_SOCKET_GREETING,
    PC_SOCKET_OPEN,
    PC_SOCKET_CLOSED
};

/* The upcall that a connection still has to make. */
enum pc_socket_owed {
    PC_SOCKET_OWES_NOTHING,
    PC_SOCKET_OWES_CONNECTED,
    PC_SOCKET_OWES_CLOSED
};

/* A place in a list of pieces where `left` more bytes go. Without pieces, or
 * behind the last one, they are dropped. */
struct pc_socket_cursor
{
    const peercache_piece_t *pieces;
    size_t n_pieces;
    size_t index;
    size_t offset;
    uint64_t left;
};

enum pc_socket_phase {
    PC_SOCKET_PREFIX, /* A prefix and a head that fits in the buffer. */
    PC_SOCKET_HEAD,   /* The rest of a longer head. */
    PC_SOCKET_BODY
};

/* The receiving half of a connection. */
struct pc_socket_in
{
    enum pc_socket_phase phase;
    uint8_t *buffer; /* NULL while it would be empty. */
    size_t start;
    size_t end;
    size_t ahead; /* How far to read into the buffer at once. */
    struct pc_frame_prefix prefix;
    uint8_t *head; /* In phase HEAD. */
    size_t head_capacity;
    peercache_piece_t head_piece;
    struct pc_socket_cursor cursor;
    struct pc_link_sink *sink;  /* Where the body goes. */
    struct pc_link_sink *ended; /* Its done is due, with this status. */
    peercache_status_t ended_status;
};

/* The sending half. */
struct pc_socket_out
{
    uint8_t preamble[PC_FRAME_PREAMBLE_LEN];
    size_t preamble_left;
    struct pc_list queue; /* struct pc_socket_item, the first may have begun. */
    struct pc_list ended; /* Those whose done is due. */
    uint64_t moved_ns;    /* When the queue last moved. */
    int in_kernel;        /* Bytes it held when the stall timer was started. */
    bool fresh;  /* The queue was idle before: moved_ns is of no use. */
    bool broken; /* The peer takes nothing more; what it sent is still read. */
};

struct pc_link_conn
{
    struct pc_socket_source source;
    struct pc_socket_timer timer; /* Of its state: deadline or stall. */
    struct pc_link *link;
    struct pc_list in_conns;
    struct pc_list in_greeting;
    struct pc_list in_ready;
    struct pc_socket_address peer;
    struct pc_secure *secure; /* NULL: no TLS, or CLOSED. */
    uint64_t deadline_ns;     /* Until OPEN. */
    void *arg;
    int fd;
    enum pc_socket_state state;
    enum pc_socket_owed owed;
    peercache_status_t why; /* Once CLOSED. */
    bool readable;
    bool writable;
    bool hung_up; /* The peer closed its side. */
    bool paused;
    bool incoming; /* Somebody connected to us. */
    bool heard;    /* A message has come. */
    struct pc_socket_in in;
    struct pc_socket_out out;
};

/* socket.c */
/* Give the connection a turn in this or the next progress(). */
void pc_socket_make_ready(struct pc_link_conn *conn);
/* (Re)start a timer; false if there is no memory. */
bool pc_socket_timer_start(struct pc_link *link, struct pc_socket_timer *timer,
                           uint64_t due_ns);
void pc_socket_timer_stop(struct pc_link *link, struct pc_socket_timer *timer);
/* Whether a line may be logged now; *n_hidden_p: how many were not. */
bool pc_socket_may_log(struct pc_link *link, struct pc_socket_quiet *quiet,
                       uint64_t *n_hidden_p);

#endif /* PC_SOCKET_STATE_H */
