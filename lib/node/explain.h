/*
 * explain.h - why a get of a key would find it, or not: what is asked and what
 * is told. explain.c asks, explain_text.c tells.
 */
#ifndef PC_NODE_EXPLAIN_H
#define PC_NODE_EXPLAIN_H

#include "node/node.h"

#define PC_EXPLAIN_ASKED_MAX   64
#define PC_EXPLAIN_HOLDERS_MAX 24

enum pc_asked_state {
    PC_ASKED_OPEN,
    PC_ASKED_ANSWERED,
    PC_ASKED_SILENT,     /* No answer in the time that a breaker takes. */
    PC_ASKED_UNREACHABLE /* It cannot be connected to, or the connection broke.
                          */
};

/* One node that was asked what it knows, itself included. */
struct pc_asked
{
    struct pc_rpc rpc;
    struct pc_explain *x;
    struct pc_member member;
    enum pc_asked_state state;
    bool former;  /* Owner by an older view only. */
    bool suspect; /* Its breaker is open: a get would not ask it. */
    uint64_t took_ns;
    struct pc_msg_because said; /* records and dead point into room. */
    struct pc_knowledge room;
};

/* Phases of a get, and what each took here. */
enum pc_explain_phase {
    PC_EXPLAIN_LOCAL,   /* Own pool and location cache. */
    PC_EXPLAIN_OWNERS,  /* The directory's owners, in parallel. */
    PC_EXPLAIN_HOLDERS, /* Holders that are no owners, in parallel. */
    PC_EXPLAIN_WAYS,    /* Until the ways to the holders are known. */
    PC_EXPLAIN_PHASES
};

struct pc_explain
{
    peercache_node_t *node;
    struct pc_digest digest;
    uint64_t end_ns;
    bool local, on_disk, cached, joined;
    struct pc_place place;          /* If local. */
    struct pc_record cached_record; /* If cached. */
    struct pc_event done; /* 1: all that were asked have answered, or not. */
    uint32_t n_open;
    bool starting;
    struct pc_asked *asked[PC_EXPLAIN_ASKED_MAX];
    uint32_t n_asked, n_owners; /* Owners come first. */
    /* One record a holder, the newest; of dead ones too. */
    struct pc_record holders[PC_EXPLAIN_HOLDERS_MAX];
    uint32_t n_holders;
    bool ways_known;
    uint64_t phase_ns[PC_EXPLAIN_PHASES];
    struct pc_text text;
};

/* The node that was asked under this number; NULL: it was not. */
const struct pc_asked *pc_explain_find(const struct pc_explain *x,
                                       uint64_t incarnation);
/* Engine: write everything but the key, which is there already. */
void pc_explain_write(struct pc_explain *x);

#endif /* PC_NODE_EXPLAIN_H */
