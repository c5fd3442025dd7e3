/*
 * view.h - the name of a view: a hash of who is in it.
 *
 * The directory (rings) and the membership (views) must give one view one
 * name, and neither knows the other, so the rule is here. It is a sum over the
 * members, so their order does not matter and a change costs one member.
 * Pure functions, any thread.
 */
#ifndef PC_PROTO_VIEW_H
#define PC_PROTO_VIEW_H

#include "node_id.h"

#include "base/digest.h"

#include <stddef.h>
#include <string.h>

/* Whether a member is in the view: alive or draining. */
static inline bool pc_view_has(const struct pc_member *member)
{
    return member->state == PC_MEMBER_ALIVE ||
           member->state == PC_MEMBER_DRAINING;
}

/* What one member of a view adds to the sum: id, incarnation, live or
 * draining, role and host; no epoch, address or load. */
static inline uint64_t pc_view_part(const struct pc_member *member)
{
    uint64_t facts[5];
    facts[0] = pc_hash64(member->id.text, strlen(member->id.text), 0);
    facts[1] = member->incarnation;
    facts[2] = member->state;
    facts[3] = member->role;
    facts[4] = member->host;
    return pc_hash64(facts, sizeof(facts), 1);
}

/* The name of a view from its sum; never 0 for a view with members. */
static inline uint64_t pc_view_name(uint64_t sum, size_t n_members)
{
    uint64_t facts[2] = {sum, n_members};
    if (n_members == 0) {
        return 0;
    }
    uint64_t hash = pc_hash64(facts, sizeof(facts), 2);
    return hash == 0 ? 1 : hash;
}

#endif /* PC_PROTO_VIEW_H */
