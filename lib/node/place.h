/*
 * place.h - where a node's pool and engine are, and what the pool is made of.
 *
 * The plan is made by the thread that creates the node: the look at the machine
 * reads the environment, which no thread of a node may do at its own time. The
 * node's pool_lock guards everything in here.
 */
#ifndef PC_NODE_PLACE_H
#define PC_NODE_PLACE_H

#include "base/pages.h"
#include "base/text.h"
#include "place/limits.h"
#include "place/placement.h"

#include <pthread.h>

/* Smaller rests of the pool are not worth a region. */
#define PC_REGION_LEAST (64ull << 10)
/* Regions are not made smaller than this for a limit of the system. */
#define PC_SEGMENT_LEAST (64ull << 20)

struct peercache_node;
struct pc_settings;

struct pc_place_state
{
    struct pc_placement plan;
    bool is_planned;
    bool has_engine; /* Its thread runs. */
    pthread_t engine;
    bool is_engine_bound;
    bool said_unbound; /* The one line on memory that could not be bound. */
    uint64_t pages[PC_PAGES_N]; /* Bytes of the pool by the size of pages. */
    uint64_t bound, shared, locked, with_gets; /* Bytes of the pool. */
    uint64_t started_ns;
    uint64_t said_at; /* Bytes when the last line on progress was written. */
    uint64_t region_most; /* Of one region; 0: as the settings say. */
    uint64_t region_cut;  /* The same, before smaller ones were tried, */
    bool small_refused;   /* which were refused, too. */
};

/* Whether a pool of this size fits this machine, its control groups and the
 * limit of locked memory; NO_MEMORY with the reason if not. */
peercache_status_t pc_place_check(const struct pc_settings *settings,
                                  uint64_t wanted, char *reason,
                                  size_t reason_len);
/* Before the threads of the node. */
void pc_place_plan(struct peercache_node *node);
/* The engine's thread has begun. */
void pc_place_engine(struct peercache_node *node);
/* The NUMA node of the next region; -1: anywhere. */
int pc_place_next(struct peercache_node *node, uint64_t bytes);
/* Whether the next region would fit now; says so if not and wanted. */
bool pc_place_has_room(struct peercache_node *node, uint64_t bytes, bool say);
/* The same of memory that is no huge pages. */
bool pc_place_has_plain_room(uint64_t bytes);

/* A region's memory, wherever it came from. */
struct pc_place_region
{
    uint64_t bytes;
    int numa_node; /* Asked for; -1: none. */
    int bind_error;
    enum pc_pages pages;
    bool is_shared, has_gets, refused, is_locked;
};
void pc_place_count(struct peercache_node *node,
                    const struct pc_place_region *region);
/* Its registration was refused. True: the next one is to be smaller, and this
 * one is given back for it. The pool's thread. */
bool pc_place_try_smaller(struct peercache_node *node,
                          const struct pc_place_region *region);

/* A member of a JSON object, a metric with all in its labels, and gauges. Any
 * thread. */
void pc_place_json(struct peercache_node *node, struct pc_text *text);
void pc_place_metric(struct peercache_node *node, const char *labels,
                     struct pc_text *text);
void pc_place_gauges(struct peercache_node *node);

#endif /* PC_NODE_PLACE_H */
