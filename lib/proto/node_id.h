/*
 * node_id.h - who a node is: stable id, incarnation, and facts about it.
 *
 * The id is the operator's word (1..128 of letters, digits, dot, dash,
 * underscore) and survives a restart; the incarnation is new at every start:
 * milliseconds since 1970 in the upper 42 bits, random below, so of two
 * incarnations of one id the larger one is the later.
 */
#ifndef PC_PROTO_NODE_ID_H
#define PC_PROTO_NODE_ID_H

#include "limits.h"

#include <stdbool.h>
#include <stdint.h>

struct pc_node_id
{
    char text[PC_NODE_ID_MAX + 1];
};

bool pc_node_id_is_valid(const char *text);
/* False, and *id untouched, if the text is not valid. */
bool pc_node_id_set(struct pc_node_id *id, const char *text);
int pc_node_id_compare(const struct pc_node_id *a, const struct pc_node_id *b);
uint64_t pc_incarnation_make(uint64_t wall_ns, uint64_t random);

enum pc_role {
    PC_ROLE_MEMBER, /* Has a pool, owns directory ranges. */
    PC_ROLE_STORAGE,
    PC_ROLE_CLIENT /* No pool, no range. */
};

enum pc_member_state {
    PC_MEMBER_ALIVE,
    PC_MEMBER_DRAINING, /* Still serves, owns no range. */
    PC_MEMBER_LEFT,
    PC_MEMBER_DEAD
};

/* One member as tables, views and answers to lookups tell of it. */
struct pc_member
{
    struct pc_node_id id;
    uint64_t incarnation;
    uint64_t epoch;               /* Only the member itself raises it. */
    uint64_t host;                /* Machine: replicas go to different ones. */
    uint32_t admission;           /* Of the nodes that had this id so far, how
                                   * many: the later one wins. */
    char address[PC_ADDRESS_MAX]; /* Control, "ip:port". */
    uint8_t state;                /* enum pc_member_state */
    uint8_t role;                 /* enum pc_role */
    bool republishing;            /* Still moving records for a new view. */
};

#endif /* PC_PROTO_NODE_ID_H */
