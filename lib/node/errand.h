/*
 * errand.h - a peer's request that needs our disk: READ and PROMOTE.
 *
 *     pin what is in the pool, promote what is on disk ─┬─ all come ─► answer
 *               └─ PROGRESS each 50 ms                  └─ time over ─► answer,
 *                                                          the rest is AGAIN
 *
 * The answer comes before the reader's patience ends. What was promoted stays
 * pinned until it has left (READ), or for a moment (PROMOTE), for the reader is
 * about to fetch it. Pins of all errands take a quarter of the pool at most;
 * what is beyond is AGAIN at once, and the reader asks for it again when it has
 * the rest: a batch larger than the pool comes in parts. With the engine's
 * role.
 */
#ifndef PC_NODE_ERRAND_H
#define PC_NODE_ERRAND_H

struct peercache_node;
struct pc_conn;
struct pc_msg;

/* Takes over a READ or PROMOTE; it is answered in any case. */
void pc_errand_start(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg);
/* The node ends: all are answered now. */
void pc_errand_end_all(struct peercache_node *node);

#endif /* PC_NODE_ERRAND_H */
