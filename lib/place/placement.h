/*
 * placement.h - where the pool's regions and the engine's thread go.
 *
 * A pure function of topology, devices in use and settings. Nothing is bound
 * here. A plan always comes out; what could not be followed is in its text.
 */
#ifndef PC_PLACE_PLACEMENT_H
#define PC_PLACE_PLACEMENT_H

#include "topology.h"

#define PC_PLACEMENT_SHARES_MAX 64

struct pc_placement_wish
{
    const char *numa_node;   /* "": the NICs decide. "none", or "0,1". */
    const char *engine_cpus; /* The same with CPUs: "0-3,8". */
    const char *devices;     /* In use: "mlx5_0:1,mlx5_1", "" if there are
                              * none. */
    struct pc_cpus thread;   /* CPUs that the engine's thread may use now;
                              * empty: unknown. */
};

/* A NUMA node's part of the pool. */
struct pc_placement_share
{
    unsigned numa_node;
    unsigned weight; /* NICs at it. */
    uint64_t bytes;  /* Of regions placed there so far. */
};

struct pc_placement
{
    struct pc_placement_share shares[PC_PLACEMENT_SHARES_MAX];
    size_t n_shares; /* 0: anywhere. */
    bool bind_engine;
    struct pc_cpus engine_cpus;
    bool may_bind;   /* The topology is this machine's. */
    char why[256];   /* For people: what decided. */
    char unmet[256]; /* What could not be followed; "" mostly. */
};

/* topology NULL: there is none. */
void pc_placement_make(const struct pc_topology *topology,
                       const struct pc_placement_wish *wish,
                       struct pc_placement *plan_p);
/* The NUMA node for the next region, counted as placed there; -1: anywhere. */
int pc_placement_next(struct pc_placement *plan, uint64_t bytes);
/* The region was not placed there after all. */
void pc_placement_give_back(struct pc_placement *plan, int numa_node,
                            uint64_t bytes);
/* "0-1" or "any" */
void pc_placement_nodes(const struct pc_placement *plan, char *text,
                        size_t len);

/* What a setting may say: "auto", "none" or a list of numbers. */
bool pc_placement_is_list(const char *text);

#endif /* PC_PLACE_PLACEMENT_H */
