/*
 * ring.h - the consistent-hash ring: which nodes own a digest.
 *
 * Immutable once built, counted, shared by everything that still needs the
 * view it was built from. A member has `vnodes` points; a digest's owners are
 * the first `replicas` distinct members from its place on, on different hosts
 * where there are that many hosts. Only live members and storage nodes own
 * ranges (no clients, nobody draining). References: any thread.
 */
#ifndef PC_DIRECTORY_RING_H
#define PC_DIRECTORY_RING_H

#include "proto/node_id.h"
#include "proto/record.h"

#include <stddef.h>

#define PC_REPLICAS_MAX 16

struct pc_ring;

/* One owner: which member of the view, by index into pc_ring_members. */
struct pc_owners
{
    uint32_t n;
    uint32_t index[PC_REPLICAS_MAX];
};

/* Build from a view's members (any order; copied, kept sorted by id). NULL: no
 * memory, or more than PC_NODES_MAX. Members that are alive and have a pool own
 * ranges; those that drain only where nobody else is left. With no eligible
 * member the ring is empty (it names the view all the same). */
struct pc_ring *pc_ring_create(const struct pc_member *members,
                               size_t n_members, uint32_t vnodes,
                               uint32_t replicas);
struct pc_ring *pc_ring_ref(struct pc_ring *ring);
void pc_ring_unref(struct pc_ring *ring); /* Takes NULL. */

/* Hash over the ids, incarnations, live or draining, roles and hosts, whatever
 * the order (proto/view.h); LEFT and DEAD members do not count. Never 0 for a
 * view with members. */
uint64_t pc_view_hash(const struct pc_member *members, size_t n_members);
uint64_t pc_ring_view(const struct pc_ring *ring);
/* All members of the view (alive or draining), sorted by id. */
const struct pc_member *pc_ring_members(const struct pc_ring *ring,
                                        size_t *n_p);
/* Whether that incarnation owns ranges, and its place among the members. */
bool pc_ring_place(const struct pc_ring *ring, const struct pc_member *member,
                   size_t *place_p);
/* Owners in order of preference. */
void pc_ring_owners(const struct pc_ring *ring, struct pc_digest digest,
                    struct pc_owners *owners);
/* Whether the incarnation is an owner of the digest. */
bool pc_ring_owns(const struct pc_ring *ring, struct pc_digest digest,
                  uint64_t incarnation);

#endif /* PC_DIRECTORY_RING_H */
