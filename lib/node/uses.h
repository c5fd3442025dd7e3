/*
 * uses.h - values that were read without their holder are told to it later.
 *
 *     reader: mapped or one-sided read ─► note ─ at most every 50 ms ─► USED
 *     holder: touches what it still has
 *
 * Such a read leaves no trace where the value lies, so what others use most
 * would be evicted first. The reads stay as they are; the holder hears of them
 * in a notice, each key once in such a time however often it was read. Nothing
 * depends on it: what finds no room, and what goes to a holder that cannot be
 * reached now, is dropped, the first counted.
 */
#ifndef PC_NODE_USES_H
#define PC_NODE_USES_H

#include "base/digest.h"
#include "net/engine.h"

#include <pthread.h>
#include <stdatomic.h>

struct peercache_node;
struct pc_msg;

#define PC_USES_MAX 2048

struct pc_use
{
    uint64_t incarnation; /* Of the holder. */
    struct pc_digest digest;
};

struct pc_uses
{
    pthread_mutex_t lock; /* A leaf: of notes and n. */
    struct pc_use notes[PC_USES_MAX];
    uint32_t n;
    /* What was noted since the last notice: hashes, where they fit. Relaxed; a
     * wrong one costs a second note or, rarely, leaves one out. */
    _Atomic uint32_t seen[2 * PC_USES_MAX];
    _Atomic bool any;
    struct pc_timer timer; /* Engine. */
    bool waiting;
};

void pc_uses_init(struct peercache_node *node);
void pc_uses_fini(struct peercache_node *node);
/* A value of this holder was read, or seen, without it. Any thread. */
void pc_uses_note(struct peercache_node *node, uint64_t incarnation,
                  struct pc_digest digest);
/* With the engine's role, each turn. */
void pc_uses_step(struct peercache_node *node);
/* The holder: a notice came. */
void pc_uses_heard(struct peercache_node *node, const struct pc_msg *msg);

#endif /* PC_NODE_USES_H */
