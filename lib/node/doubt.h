/*
 * doubt.h - places that gave no proof: readers tell the owner, the owner asks
 * the holder, the holder retracts what is not so.
 *
 *     reader ─ STALE ─► owner ─ DOUBT ─► holder ─ retract (its FIFO) ─► owner
 *
 * Nobody drops a record by a reader's word. Bounded: what a reader cannot note
 * is counted and left to repair.
 */
#ifndef PC_NODE_DOUBT_H
#define PC_NODE_DOUBT_H

#include "net/engine.h"
#include "proto/record.h"

#include <pthread.h>
#include <stdatomic.h>

struct peercache_node;
struct pc_conn;
struct pc_msg;

#define PC_DOUBTS_MAX 256

struct pc_doubt
{
    pthread_mutex_t lock; /* A leaf: of what follows. */
    struct pc_record records[PC_DOUBTS_MAX];
    uint32_t n;
    _Atomic bool any;
    struct pc_timer timer; /* Engine: told in parts. */
    bool waiting;
};

void pc_doubt_init(struct peercache_node *node);
void pc_doubt_fini(struct peercache_node *node);
/* A read found no proof at this place. Any thread. */
void pc_doubt_note(struct peercache_node *node, const struct pc_record *record);
/* With the engine's role: tell the owners of what was noted. */
void pc_doubt_step(struct peercache_node *node);
void pc_doubt_stale(struct peercache_node *node, const struct pc_msg *msg);
void pc_doubt_asked(struct peercache_node *node, struct pc_conn *conn,
                    const struct pc_msg *msg);

#endif /* PC_NODE_DOUBT_H */
