/*
 * holders.h - which of a value's holders, and in which order.
 *
 * An owner tells a reader of three at most: those on the reader's machine
 * first, then others; among these, those that serve much less (load.h) before
 * those that serve much more; and beginning somewhere else for each reader, so
 * that readers spread over holders. Who drains comes last. The reader orders
 * them by what it knows: who answers before who is silent, who stays before who
 * drains, the same machine before others, what it can map before what it
 * cannot, who is less busy, and who has less of our own work. With the engine's
 * role.
 */
#ifndef PC_NODE_HOLDERS_H
#define PC_NODE_HOLDERS_H

#include "proto/node_id.h"
#include "proto/record.h"

#include <stddef.h>

struct peercache_node;

/* Live holders of a digest in our shard (rule 4: unknown is not dead), for a
 * reader; returns how many, PC_HOLDERS_PER_KEY at most. */
size_t pc_holders_find(const struct peercache_node *node,
                       struct pc_digest digest, const struct pc_member *reader,
                       struct pc_record *records);
/* Put the best to the front. */
void pc_holders_sort(struct peercache_node *node, struct pc_record *records,
                     size_t n);

#endif /* PC_NODE_HOLDERS_H */
