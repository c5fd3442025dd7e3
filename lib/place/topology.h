/*
 * topology.h - the NUMA nodes of a machine and the devices at them, by hwloc.
 *
 * Nothing of hwloc shows outside: what is found is copied into plain arrays, so
 * that plans can be made, and tested, without it. Finding it may take some
 * 100 ms on a large machine; any thread.
 */
#ifndef PC_PLACE_TOPOLOGY_H
#define PC_PLACE_TOPOLOGY_H

#include "cpus.h"

struct pc_place_node
{
    unsigned number; /* As the system counts. */
    bool is_allowed; /* Its memory may be used here. */
    bool has_memory;
    struct pc_cpus cpus; /* May be none: memory of an accelerator. */
};

struct pc_place_device
{
    char name[64]; /* "mlx5_0", "eth0" */
    bool is_rdma;  /* Else a network device. */
    char bus[32];  /* "0000:3b:00.0", "" if there is none. */
    int numa_node; /* The one node it is at, -1: unknown, or at several. */
};

struct pc_topology
{
    struct pc_place_node *nodes;
    size_t n_nodes;
    struct pc_place_device *devices;
    size_t n_devices;
    struct pc_cpus allowed; /* CPUs that may be used here. */
    bool is_this_machine;   /* Not of a file or a made-up one. */
};

/* Where the topology comes from: of all NULL, this machine (and hwloc's own
 * variables, such as HWLOC_XMLFILE, work). */
struct pc_topology_source
{
    const char *synthetic;     /* hwloc's description: "node:2 core:4 pu:1" */
    const char *xml;           /* The text of a file that lstopo wrote. */
    const char *allowed_cpus;  /* A container's: "0-3"; NULL: all. */
    const char *allowed_nodes; /* "1"; NULL: all. */
};

/* False: there is none; *t is empty then. */
bool pc_topology_load(const struct pc_topology_source *source,
                      struct pc_topology *t);
void pc_topology_fini(struct pc_topology *t);

const struct pc_place_node *pc_topology_node(const struct pc_topology *t,
                                             unsigned number);
const struct pc_place_device *pc_topology_device(const struct pc_topology *t,
                                                 const char *name);

#endif /* PC_PLACE_TOPOLOGY_H */
