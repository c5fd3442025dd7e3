/*
 * The graves: incarnations that are known to be dead and stay so. A ring: the
 * oldest one is forgotten first.
 */
#include "state.h"

#include "base/assert.h"
#include "base/mem.h"

bool pc_graves_reserve(struct pc_cluster *c, size_t n)
{
    n = n < GRAVES_MAX ? n : GRAVES_MAX;
    if (n <= c->graves_capacity) {
        return true;
    }
    n = n < 64 ? 64 : 2 * n;
    n = n < GRAVES_MAX ? n : GRAVES_MAX;
    struct grave *graves = pc_realloc(c->graves, n, sizeof(*graves));
    if (graves == NULL) {
        return false;
    }
    c->graves = graves;
    c->graves_capacity = n;
    return true;
}

struct grave *pc_graves_find(const struct pc_cluster *c, uint64_t incarnation)
{
    uint64_t at;
    if (!pc_map_get(&c->by_incarnation, pc_map_key(incarnation), &at) ||
        (at & GRAVE_BIT) == 0) {
        return NULL;
    }
    return &c->graves[at & ~GRAVE_BIT];
}

void pc_graves_add(struct pc_cluster *c, struct grave new_grave)
{
    struct grave *grave = pc_graves_find(c, new_grave.incarnation);
    if (grave != NULL) {
        if (grave->epoch < new_grave.epoch) {
            grave->epoch = new_grave.epoch;
        }
        if (grave->admission < new_grave.admission) {
            grave->admission = new_grave.admission;
        }
        return;
    }
    PC_ASSERT(pc_table_find(c, new_grave.incarnation) == NOBODY);
    size_t at = c->n_graves;
    if (c->n_graves < GRAVES_MAX) {
        PC_ASSERT(c->n_graves < c->graves_capacity);
        c->n_graves++;
    } else {
        at = c->oldest_grave;
        c->oldest_grave = (at + 1) % GRAVES_MAX;
        if (c->graves[at].incarnation != 0) {
            pc_map_remove(&c->by_incarnation,
                          pc_map_key(c->graves[at].incarnation));
        }
    }
    c->graves[at] = new_grave;
    bool ok = pc_map_put(&c->by_incarnation, pc_map_key(new_grave.incarnation),
                         GRAVE_BIT | at);
    PC_ASSERT(ok);
    (void)ok;
}

void pc_graves_add_loser(struct pc_cluster *c, uint64_t loser,
                         const struct pc_member *winner)
{
    /* With the winner's number a larger incarnation would be the later. */
    bool larger = loser > winner->incarnation && winner->admission > 0;
    pc_graves_add(
        c, (struct grave){loser, NEVER,
                          larger ? winner->admission - 1 : winner->admission});
}

void pc_graves_remove(struct pc_cluster *c, uint64_t incarnation)
{
    struct grave *grave = pc_graves_find(c, incarnation);
    if (grave != NULL) {
        grave->incarnation = 0; /* Its place in the ring stays, empty. */
        pc_map_remove(&c->by_incarnation, pc_map_key(incarnation));
    }
}
