/*
 * lookup.h - ask the directory where keys are.
 *
 *     key: own shard ─► first owner ─ positive ─► found
 *                          │  └ no answer after `hedge`: the next owner too
 *                          │ absent, error, silence
 *                          ▼
 *                   all other owners (those of every view still asked too), in
 *                   parallel ─ one positive ─► found
 *                          │ all answered        │ somebody sees another view
 *                          ▼                     ▼
 *                       absent             fetch it, ask again
 *
 * Absence needs a complete answer from every reachable owner (rule 5), hedged
 * or not. Keys of a batch that go to the same node share a message. Hedges are
 * messages of their own, and at most one for ten others: a slow cluster is not
 * asked twice as much. With the engine's role.
 */
#ifndef PC_NODE_LOOKUP_H
#define PC_NODE_LOOKUP_H

#include "base/list.h"
#include "net/engine.h"
#include "proto/msg.h"

struct peercache_node;

#define PC_LOOKUP_TARGETS_MAX 30 /* Bits of a word. */

enum pc_lookup_how {
    PC_LOOKUP_FIRST, /* The first positive answer ends a key. */
    PC_LOOKUP_HINT,  /* And so does the first absence (dedupe of a put). */
    PC_LOOKUP_ALL    /* Every owner is asked, answers are joined (remove). */
};

enum pc_lookup_answer {
    PC_LOOKUP_FOUND,
    PC_LOOKUP_ABSENT,      /* Every owner that could be reached says so. */
    PC_LOOKUP_UNREACHABLE, /* No owner could be reached. */
    PC_LOOKUP_PARTLY       /* ALL: some owner could not be reached. */
};

struct pc_lookup_key
{
    struct pc_digest digest;
    uint32_t user;                /* The asker's name of the key. */
    uint32_t asked, failed, open; /* Bits over targets. */
    bool ended, found;
    bool again;  /* An owner's answer is missing that may still come. */
    bool parked; /* Goes to its other owners when the round is over. */
    uint8_t n_targets, n_current; /* Owners of the current view come first. */
    uint64_t targets[PC_LOOKUP_TARGETS_MAX];
};

struct pc_lookup
{
    struct peercache_node *node;
    enum pc_lookup_how how;
    uint64_t deadline_ns;
    struct pc_lookup_key *keys;
    size_t n_keys;
    size_t n_open;
    struct pc_list rpcs;
    struct pc_timer again; /* After WRONG_VIEW. */
    uint64_t again_ns;
    struct pc_timer hedge; /* First owners have had their time. */
    bool hedging;          /* What is sent now is a hedge. */
    size_t n_parked;
    bool active;
    bool starting;
    /* Whether a record is of no use to the asker, as its place has proved
     * stale; NULL: none is. An owner that has no other answers absent. */
    bool (*is_spent)(struct pc_lookup *lookup, uint32_t user,
                     const struct pc_record *record);
    /* Records of live holders (never 0 of them). ALL: may come repeatedly. */
    void (*found)(struct pc_lookup *lookup, uint32_t user,
                  const struct pc_record *records, size_t n_records);
    /* A key's end; comes once each, found or not. */
    void (*ended)(struct pc_lookup *lookup, uint32_t user,
                  enum pc_lookup_answer answer);
    /* Some keys ended, others are open: from a turn, never within start. */
    void (*progress)(struct pc_lookup *lookup);
    /* All keys have ended: the last call. */
    void (*finished)(struct pc_lookup *lookup);
};

/* n digests with the asker's names; the functions above are set. found, ended
 * and finished are called from turns and, for what the own shard answers, from
 * within start too. found and ended must not stop the lookup. NO_MEMORY:
 * nothing was started. */
peercache_status_t pc_lookup_start(struct pc_lookup *lookup,
                                   struct peercache_node *node,
                                   enum pc_lookup_how how,
                                   const struct pc_digest *digests,
                                   const uint32_t *users, size_t n,
                                   uint64_t deadline_ns);
/* Whom a lookup of key->digest asks: fills targets, n_targets, n_current. */
void pc_lookup_targets(const struct peercache_node *node,
                       struct pc_lookup_key *key);
/* Tenths of messages that hedges may still send, at most. */
#define PC_HEDGE_BUDGET_MAX 320

/* Give up; nothing is called any more. */
void pc_lookup_stop(struct pc_lookup *lookup);

#endif /* PC_NODE_LOOKUP_H */
