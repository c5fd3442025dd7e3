/*
 * promote.h - a value comes from our disk into the pool (rule 10).
 *
 *     QUEUED ─ room ─► READING (reserved) ─ proven ─► sealed, published, told
 *        │                 └─ else: given up, told why
 *        └─ nobody waits any more ─► dropped
 *
 * Many at once, one for each digest: who asks for a value that is on its way
 * joins. Reservations are bounded to an eighth of the pool, and nobody waits
 * for room while he holds some (rule 1): what finds none is AGAIN. The slot and
 * the generation are new; the record of the disk stays on disk, and is what the
 * directory gets when the slot is given up. With the engine's role.
 */
#ifndef PC_NODE_PROMOTE_H
#define PC_NODE_PROMOTE_H

#include "base/list.h"
#include "store/store.h"

struct peercache_node;
struct pc_tier;

/* Somebody who waits; embedded. */
struct pc_promote_wait
{
    struct pc_list link;
    /* OK: the value is in the pool, pinned for him (he unpins). NOT_FOUND: the
     * disk has not got it, or not unharmed; AGAIN: no room or too much to do;
     * SHUTDOWN. Called from a turn, once, unless stopped before. */
    void (*done)(struct pc_promote_wait *wait, peercache_status_t status,
                 struct pc_pin *pin);
};

void pc_promote_init(struct pc_tier *tier);
/* OK: done will come. NOT_FOUND: it is not on disk. AGAIN: too many wait. */
peercache_status_t pc_promote(struct peercache_node *node,
                              struct pc_digest digest,
                              struct pc_promote_wait *wait);
/* He waits no more; done does not come. */
void pc_promote_stop(struct pc_promote_wait *wait);
/* All that wait are told SHUTDOWN; what is being read is given up as it comes.
 */
void pc_promote_begin_close(struct pc_tier *tier);

#endif /* PC_NODE_PROMOTE_H */
