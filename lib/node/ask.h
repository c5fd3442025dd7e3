/*
 * ask.h - requests of an operation whose answer is one status a key: TOUCH and
 * REMOVE. With the engine's role.
 */
#ifndef PC_NODE_ASK_H
#define PC_NODE_ASK_H

#include "net/peers.h"

struct peercache_op;

/*
 * Ask the holder of each item's place op->state[i].places[place[k]] in one
 * request; answered comes once for each item from a later turn: the holder's
 * status, or why there is none. False: nothing was started.
 */
bool pc_ask_start(struct peercache_op *op, struct pc_peer *peer,
                  enum pc_msg_type type, const uint32_t *items, size_t n,
                  void (*answered)(struct peercache_op *op, uint32_t item,
                                   peercache_status_t status));

#endif /* PC_NODE_ASK_H */
