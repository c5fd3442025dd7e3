/*
 * world.h - what the simulation shares inside: events, machines, hosts.
 *
 *     fabric.c   link.c           the seams, run by progress() of a host
 *         |         |
 *         |      wire.c           streams in the network, run by events
 *         |         |
 *     world.c   host.c   trace.c  clock and events, hosts and faults, lines
 */
#ifndef PC_SIM_WORLD_H
#define PC_SIM_WORLD_H

#include "sim.h"

#include "base/heap.h"
#include "base/list.h"
#include "base/rand.h"

#include <stdarg.h>

enum { PC_SIM_NAME_MAX = 64, PC_SIM_ADDRESS_MAX = 128, PC_SIM_BUCKETS = 1024 };

/* Something that happens at a time; embedded. */
struct pc_sim_event
{
    struct pc_heap_node node;
    void (*fire)(struct pc_sim_event *event);
};

/* Things by number: 1, 2, ..., never given twice. */
struct pc_sim_table
{
    void **slots;
    size_t n_slots;
    size_t capacity;
};

struct pc_sim_trace_log
{
    char *text;
    size_t start; /* Lines before this were dropped. */
    size_t len;
    size_t capacity;
    uint64_t hash;
    bool chunks;
};

struct pc_sim
{
    uint64_t now_ns;
    struct pc_rand rand;
    struct pc_heap events;
    struct pc_list machines;
    struct pc_list machines_by_ip[PC_SIM_BUCKETS];
    struct pc_list hosts;
    struct pc_list wires;
    struct pc_list listeners[PC_SIM_BUCKETS]; /* By hash of the text. */
    struct pc_list fabrics;
    struct pc_sim_table fabric_ids;
    struct pc_sim_table segment_ids;
    struct pc_sim_path path; /* Of pairs that have none of their own. */
    size_t chunk;
    size_t window;
    uint64_t next_id;
    struct pc_sim_trace_log trace;
};

struct pc_sim_machine
{
    struct pc_list in_sim;
    struct pc_list in_bucket;
    struct pc_sim_host *newest;
    char name[PC_SIM_NAME_MAX];
    char ip[PC_SIM_NAME_MAX];
    uint16_t next_port;
};

struct pc_sim_host
{
    struct pc_list in_sim;
    struct pc_sim *sim;
    struct pc_sim_machine *machine;
    char name[PC_SIM_NAME_MAX];
    uint64_t id;
    bool dead;
    bool buried; /* Dead, and everything of it has ended. */
    bool frozen;
    bool can_get;
    unsigned n_bad_tries;
    unsigned island;
    uint32_t fabric_version;
    uint64_t slow_ns;
    uint64_t clock_ns; /* What its clock showed when it was set, */
    uint64_t set_ns;   /* and the world's time then. */
    int64_t ppm;
    uint64_t broke_ns;
    uint64_t n_bytes;
    bool *ready;            /* Of who drives it; NULL: does not care. */
    struct pc_list pairs;   /* With hosts of a higher id. */
    struct pc_list links;   /* Open ones. */
    struct pc_list fabrics; /* Open ones. */
};

/* Zeroed memory of the world; never NULL. */
void *pc_sim_alloc(size_t n, size_t size);

uint64_t pc_sim_table_add(struct pc_sim_table *table, void *thing);
/* NULL: there is none, or no longer. */
void *pc_sim_table_get(const struct pc_sim_table *table, uint64_t id);
void pc_sim_table_remove(struct pc_sim_table *table, uint64_t id);

void pc_sim_event_init(struct pc_sim_event *event,
                       void (*fire)(struct pc_sim_event *event));
/* Moves an event that is already scheduled. */
void pc_sim_schedule(struct pc_sim *sim, struct pc_sim_event *event,
                     uint64_t due_ns);
void pc_sim_unschedule(struct pc_sim *sim, struct pc_sim_event *event);
bool pc_sim_is_scheduled(const struct pc_sim_event *event);

struct pc_sim_path pc_sim_path_of(const struct pc_sim_host *a,
                                  const struct pc_sim_host *b);
/* Whether nothing gets through now: this way, or at least one way. */
bool pc_sim_is_cut_to(const struct pc_sim_host *from,
                      const struct pc_sim_host *to);
bool pc_sim_is_cut(const struct pc_sim_host *a, const struct pc_sim_host *b);
/* How long something takes from one to the other; random. */
uint64_t pc_sim_latency(const struct pc_sim_host *a,
                        const struct pc_sim_host *b);
uint64_t pc_sim_transfer_ns(const struct pc_sim_path *path, size_t len);
/* The newest host on the machine of "ip:port"; NULL: no such machine. */
struct pc_sim_host *pc_sim_host_at(const struct pc_sim *sim,
                                   const char *address);
/* A port that was not handed out lately. */
uint16_t pc_sim_machine_port(struct pc_sim_machine *machine);
void pc_sim_hosts_free(struct pc_sim *sim);

static inline void pc_sim_host_notify(struct pc_sim_host *host)
{
    if (host->ready != NULL) {
        *host->ready = true;
    }
}

/* What the layers above do when a fault changes. */
void pc_sim_wires_resume(struct pc_sim *sim);
void pc_sim_wires_host_died(struct pc_sim_host *host);
void pc_sim_wires_break(struct pc_sim *sim, const struct pc_sim_host *a,
                        const struct pc_sim_host *b);
void pc_sim_wires_break_late(struct pc_sim *sim, const struct pc_sim_host *a,
                             const struct pc_sim_host *b, uint64_t late_ns);
void pc_sim_wires_free(struct pc_sim *sim);
void pc_sim_links_host_buried(struct pc_sim_host *host);
bool pc_sim_links_are_ready(const struct pc_sim_host *host);
void pc_sim_fabrics_resume(struct pc_sim *sim);
void pc_sim_fabrics_host_died(struct pc_sim_host *host);
void pc_sim_fabrics_host_buried(struct pc_sim_host *host);
bool pc_sim_fabrics_are_ready(const struct pc_sim_host *host);

void pc_sim_trace_init(struct pc_sim_trace_log *trace);
void pc_sim_trace_fini(struct pc_sim_trace_log *trace);

#endif /* PC_SIM_WORLD_H */
