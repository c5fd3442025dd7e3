/*
 * load.h - how much this node has to do for others, in a few steps.
 *
 * Served reads cost the holder: its processor and its network. What counts is
 * the rate of the last interval, and the bytes that peers wait for now, which
 * also tell of a network that is slow. A step is eight times the one before; a
 * node falls to a lower one only at half of what had raised it, so that the
 * order of holders does not flap. One-sided and mapped reads cost it nothing.
 *
 * Beats carry the step (cluster/load.c). With the engine's role.
 */
#ifndef PC_NODE_LOAD_H
#define PC_NODE_LOAD_H

#include <stdint.h>

struct peercache_node;

/* A load of 1, 2, 3 begins here: bytes a second, and bytes waited for. */
#define PC_LOAD_RATE    (32ull << 20)
#define PC_LOAD_WAITING (4ull << 20)

struct pc_load
{
    uint64_t waiting;  /* Bytes of served reads that are not sent yet, */
    uint64_t peak;     /* and the most since. */
    uint64_t served;   /* Counted up to then. */
    uint64_t since_ns; /* The interval's begin; 0: there was none. */
    uint8_t level;
};

/* The step of a rate and of what waits, after `level`. */
uint8_t pc_load_level(uint64_t bytes_per_s, uint64_t waiting, uint8_t level);
/* Before a beat: measures once an interval, and tells the membership. */
void pc_load_update(struct peercache_node *node);
/* A served read begins; it ends. */
void pc_load_begin(struct peercache_node *node, uint64_t bytes);
void pc_load_end(struct peercache_node *node, uint64_t bytes);

#endif /* PC_NODE_LOAD_H */
