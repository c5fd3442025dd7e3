/*
 * wire.h - a connection as the network and the two kernels see it: a stream
 * each way.
 *
 *   push ─► in flight (due times) ─event─► arrived ─► take
 *             │ held while the pair is cut              │
 *             └─────── acknowledged ◄───────────────────┘
 *
 * A wire has two ends: 0 connected, 1 listened. An end that has left takes
 * nothing more; what it pushed before still arrives. The wire goes when both
 * have left and nothing is in flight.
 */
#ifndef PC_SIM_WIRE_H
#define PC_SIM_WIRE_H

#include "world.h"

enum pc_sim_item_kind {
    PC_SIM_SYN,     /* The request to connect. */
    PC_SIM_SYN_ACK, /* Somebody listens. */
    PC_SIM_REFUSED, /* Nobody does. */
    PC_SIM_HEAD,    /* A message begins; data is its head. */
    PC_SIM_BODY,    /* A chunk of its body. */
    PC_SIM_ACK,     /* So many bytes were read. */
    PC_SIM_FIN,     /* The end has left. */
    PC_SIM_RST      /* It broke. */
};

struct pc_sim_item
{
    struct pc_list in_flow;
    enum pc_sim_item_kind kind;
    uint64_t due_ns;
    size_t body_len; /* HEAD: of the message. */
    size_t len;      /* Of data; ACK: the bytes. */
    uint8_t data[];
};

struct pc_sim_flow
{
    struct pc_sim_event event; /* The first item in flight arrives. */
    struct pc_sim_wire *wire;
    struct pc_list in_flight;
    struct pc_list arrived;
    uint64_t busy_ns;    /* The line is free again. */
    uint64_t held_ns;    /* Cut off since; 0: not. */
    uint64_t unheard_ns; /* It arrives, and its sender does not hear of it. */
    uint64_t latency_ns; /* Of what was pushed last. */
    size_t n_unacked;    /* Bytes sent that the sender does not know as read. */
    size_t n_unclaimed;  /* Bytes read that no acknowledgement named yet. */
    bool ended;          /* A FIN or RST was pushed: nothing follows. */
};

struct pc_sim_wire
{
    struct pc_list in_sim;
    struct pc_sim *sim;
    struct pc_sim_host *hosts[2];  /* 1: once it has been answered. */
    struct pc_link_conn *conns[2]; /* NULL: none yet, or it has left. */
    bool left[2];
    struct pc_sim_flow flows[2]; /* [i] carries from end i. */
    enum pc_link_class cls;
    char to[PC_SIM_ADDRESS_MAX]; /* What was connected to. */
    char from[PC_SIM_ADDRESS_MAX];
};

/* Who accepts. */
struct pc_sim_listener
{
    struct pc_list in_sim;
    struct pc_list in_link;
    struct pc_link *link;
    struct pc_sim_host *host;
    bool local; /* Seen on its machine only. */
    char bound[PC_SIM_ADDRESS_MAX];
};

/* Those that may listen on this text. */
struct pc_list *pc_sim_listeners(struct pc_sim *sim, const char *address);
/* The listener that a connect from there reaches; NULL: none. */
struct pc_sim_listener *pc_sim_listener_find(const struct pc_sim_host *from,
                                             const char *address);

struct pc_sim_wire *pc_sim_wire_open(struct pc_sim_host *from, const char *to,
                                     enum pc_link_class cls,
                                     struct pc_link_conn *conn);
/* An item of a kind with room for data; its pusher fills it. */
struct pc_sim_item *pc_sim_item_new(enum pc_sim_item_kind kind, size_t len);
void pc_sim_wire_push(struct pc_sim_wire *wire, int end,
                      struct pc_sim_item *item);
bool pc_sim_wire_has_room(const struct pc_sim_wire *wire, int end);
/* Since when something that this end sent is held; 0: nothing is. */
uint64_t pc_sim_wire_held_ns(const struct pc_sim_wire *wire, int end);
bool pc_sim_wire_is_moving(const struct pc_sim_wire *wire, int end);
/* The next item for this end; NULL: none. */
struct pc_sim_item *pc_sim_wire_peek(const struct pc_sim_wire *wire, int end);
/* Whether a reset has arrived, be it behind other items. */
bool pc_sim_wire_is_reset(const struct pc_sim_wire *wire, int end);
/* Take it out and acknowledge its bytes; the caller frees it. */
struct pc_sim_item *pc_sim_wire_take(struct pc_sim_wire *wire, int end);
/* The wire must not be used by this end afterwards. */
void pc_sim_wire_leave(struct pc_sim_wire *wire, int end);

/* conn.c: what the network tells a connection; incoming gives NULL when there
 * is no memory. */
void pc_sim_conn_notify(struct pc_link_conn *conn);
struct pc_link_conn *pc_sim_conn_incoming(struct pc_sim_listener *listener,
                                          struct pc_sim_wire *wire);

#endif /* PC_SIM_WIRE_H */
