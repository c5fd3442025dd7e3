/*
 * op.h - one operation: a batch of one of the four verbs.
 *
 *     caller: what needs no engine ──► all done ─────────────────────────►
 * ENDED │ rest                                                              ▲
 *        ▼                                                                   │
 *     engine: look up, read, publish … ── all done ──────────────────────────┤
 *        │ only mapped or local copies are left                              │
 *        ▼                                                                   │
 *     copier (a blocking caller itself, else a copy thread) ── to engine ────┘
 *
 * An operation belongs to exactly one of the three at a time and is handed over
 * whole; only its owner touches its items or acts on its deadline. Two
 * references: the user's handle, and the work; it is freed with the last.
 */
#ifndef PC_NODE_OP_H
#define PC_NODE_OP_H

#include "base/event.h"
#include "base/list.h"
#include "net/engine.h"
#include "node/lookup.h"
#include "node/miss.h"
#include "proto/limits.h"
#include "proto/record.h"
#include "store/store.h"

enum pc_verb { PC_VERB_PUT, PC_VERB_GET, PC_VERB_EXISTS, PC_VERB_REMOVE };

enum pc_item_state {
    PC_ITEM_NEW,       /* Nobody has looked at it. */
    PC_ITEM_LOOKUP,    /* Needs a lookup. */
    PC_ITEM_ASKED,     /* A lookup is under way. */
    PC_ITEM_READY,     /* Has places to try. */
    PC_ITEM_PATH,      /* Waits for the way to its holder. */
    PC_ITEM_DISK,      /* get: is on our own disk. */
    PC_ITEM_PINNED,    /* get: came from there, is pinned in our pool. */
    PC_ITEM_READING,   /* Bytes are on their way. */
    PC_ITEM_COPY,      /* Can be copied from a mapped neighbour. */
    PC_ITEM_WRITTEN,   /* put: bytes are in a reservation. */
    PC_ITEM_TOUCHING,  /* put: a holder is asked whether it still has it. */
    PC_ITEM_PUBLISHED, /* put: sealed, waits for owners. */
    PC_ITEM_REMOVING,
    PC_ITEM_DONE
};

/* Flags of an item. */
#define PC_ITEM_RELOOKED    1u /* A fresh lookup was done after a stale place. */
#define PC_ITEM_SERVED      2u  /* This holder is asked by digest. */
#define PC_ITEM_NO_GET      4u  /* Its one-sided read was broken off. */
#define PC_ITEM_FROM_CACHE  8u  /* Its places come from the location cache. */
#define PC_ITEM_STALE       16u /* A place turned out stale. */
#define PC_ITEM_PEER_DOWN   32u /* A holder or owner could not be reached. */
#define PC_ITEM_NO_PATH     64u /* A forced read mode had no way. */
#define PC_ITEM_CORRUPT     128u
#define PC_ITEM_OTHER_SIZE  256u /* Holders have it in another length. */
#define PC_ITEM_UNCONFIRMED 512u /* remove: a holder did not answer. */
#define PC_ITEM_MOVED       512u /* get: this holder was asked for its place. */
#define PC_ITEM_REMOVED     1024u
#define PC_ITEM_TOUCHED     2048u  /* Bytes may have landed in its pieces. */
#define PC_ITEM_BUSY        4096u  /* A disk had too much to do. */
#define PC_ITEM_LOOKED      32768u /* A lookup of it has ended. */
#define PC_ITEM_CACHE_READ  16384u /* The location cache was looked into. */
#define PC_ITEM_RESTS       8192u  /* PATH, DISK: not before u.path_since_ns. */

struct pc_op_item
{
    struct pc_digest digest;
    uint64_t length;       /* Sum of the pieces. */
    uint64_t other_length; /* What SIZE_MISMATCH tells. */
    uint16_t flags;
    uint8_t state; /* enum pc_item_state */
    uint8_t n_places;
    uint8_t at; /* Place that is being tried. */
    uint8_t n_waits;
    uint8_t stopped; /* enum pc_item_state in which its time was over. */
    struct pc_record places[PC_HOLDERS_PER_KEY];
    union
    {
        struct
        {
            struct pc_reservation reservation;
            uint64_t checksum;
            uint32_t probe;      /* Its place in op->probe. */
            struct pc_list wait; /* In its publication. */
            struct peercache_op *op;
        } put;
        struct
        {
            uint64_t path_since_ns;
            uint64_t rest_until_ns;
        };
        struct pc_pin pin; /* PINNED */
    } u;
};

enum pc_op_event { PC_OP_RUNNING = 0, PC_OP_ENDED = 1, PC_OP_COPY = 2 };

struct pc_put_probe; /* probe.c */

struct peercache_op
{
    struct pc_list link;  /* node->ops: the engine has it. */
    struct pc_list queue; /* Waiting for a view, a path, or a copy thread. */
    struct pc_list soon;  /* node->soon_ops: goes on when this turn ends. */
    struct peercache_node *node;
    enum pc_verb verb;
    uint32_t flags;
    bool blocking;
    peercache_item_t *items;
    struct pc_op_item *state;
    size_t n_items;
    size_t n_open;      /* Items not DONE. */
    size_t next;        /* put: first item that is not yet written. */
    size_t n_under_way; /* Engine: lookups, reads, publishes, landings. */
    uint64_t started_ns;
    uint64_t deadline_ns;
    peercache_done_fn done;
    void *arg;
    _Atomic int32_t status; /* peercache_status_t */
    _Atomic uint32_t refs;
    _Atomic bool cancel;
    struct pc_event event; /* enum pc_op_event */
    struct pc_task task;   /* To the engine. */
    struct pc_task cancel_task;
    _Atomic bool cancel_sent;
    bool cancel_ran; /* Engine: the cancel has had its say. */
    bool owes_count; /* Engine: it counts the operation off. */
    struct pc_timer deadline;
    bool in_engine;
    bool on_copier; /* Handed to a copy thread before. */
    bool advancing; /* pc_op_advance is on the stack. */
    bool again;     /* ... and shall run once more. */
    bool stopping;  /* Past its end: wait for what is under way, then end. */
    bool counted;   /* In node->n_ops. */
    peercache_status_t verdict; /* For open items when stopping. */
    struct pc_list reads;       /* Requests and pulls under way. */
    struct pc_put_probe *probe; /* put: NULL unless one was started. */
    struct pc_lookup lookup;
};

struct peercache_op *pc_op_create(struct peercache_node *node,
                                  enum pc_verb verb, peercache_item_t *items,
                                  size_t n_items,
                                  const peercache_op_params_t *params,
                                  bool blocking);
void pc_op_unref(struct peercache_op *op);

/* Set an item's result; the owner, once per item. */
void pc_op_item_done(struct peercache_op *op, size_t index,
                     peercache_status_t status, peercache_source_t source);
/* A get's or exists' item is not to be had: status and counted cause follow
 * from what happened on the way. */
void pc_op_item_miss(struct peercache_op *op, size_t index, enum pc_miss miss);

/* Engine: go on after anything happened; never from within a post. */
void pc_op_advance(struct peercache_op *op);
/* Engine: the same, once for all that happens in this turn: for what comes item
 * by item, for each look is at all items. */
void pc_op_advance_soon(struct peercache_op *op);
/* Engine, end of a turn: returns how many went on. */
unsigned pc_op_advance_all(struct peercache_node *node);
/* Engine: end the operation early; what is under way is stopped first. */
void pc_op_stop(struct peercache_op *op, peercache_status_t verdict);
/* Caller or copier, before the engine has seen it: nothing is left to do. */
void pc_op_finish_in_caller(struct peercache_op *op);
/* Engine task: take over an operation. */
void pc_op_enter_engine(struct pc_task *task);

/* Sum of an item's pieces. */
uint64_t pc_item_length(const peercache_item_t *item);

#endif /* PC_NODE_OP_H */
