/*
 * probe.h - where the keys of a put may be held already, asked while its bytes
 * are copied (rule 6: an answer is a hint, only a holder's own word counts).
 *
 *     caller: start ──► engine: lookup ──► over ──► take, before it seals
 *
 * A probe is made by the caller and belongs to the engine from then on; the
 * operation finds it when it enters the engine, and waits for it if need be.
 */
#ifndef PC_NODE_PROBE_H
#define PC_NODE_PROBE_H

#include "node/op.h"

/* Caller: ask for the n items among first .. end - 1 that are NEW. Without
 * others to ask, or memory, there is no probe, and the put asks nobody. */
void pc_probe_start(struct peercache_op *op, size_t first, size_t end,
                    size_t n);
/* Engine: hand what was found to the items, once; true: it is still asking, and
 * the operation goes on when it is over. */
bool pc_probe_is_asking(struct peercache_op *op);
/* Engine: give up. */
void pc_probe_drop(struct peercache_op *op);

#endif /* PC_NODE_PROBE_H */
