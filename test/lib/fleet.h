/*
 * fleet.h - a simulated cluster of up to a thousand nodes, and its figures.
 *
 * The same nodes as in every simulation, with the default settings but small
 * pools. Rings are built once and shared by all nodes of one view, found by the
 * view's hash and checked against its members: they are immutable, and 1,000
 * nodes build the same one.
 */
#ifndef PC_TEST_FLEET_H
#define PC_TEST_FLEET_H

#include "cluster.h"

#define FLEET_NODES_MAX 1024
#define FLEET_RINGS_MAX 64

struct fleet
{
    struct cluster *cluster;
    int n; /* Nodes that were started first. */
    struct fleet_ring
    {
        struct pc_ring *ring;
        uint32_t vnodes, replicas;
    } rings[FLEET_RINGS_MAX];
    unsigned next_ring;
    uint64_t n_rings_built, n_rings_shared;
    unsigned n_words; /* Values that were put. */
    int leaver;       /* Whose values are looked up no more. */
    /* Lookups while something else goes on. */
    uint64_t n_lookups, n_lookups_failed, slowest_lookup_ns;
};

/* Start n nodes, each on a machine of its own, and run until all see all. */
struct fleet *fleet_create(uint64_t seed, int n,
                           void (*failed)(struct cluster *c));
void fleet_destroy(struct fleet *f);
/* Until all nodes that are up have one view, no former ones and nothing to
 * move; fails after limit_ns. Returns how long it took. */
uint64_t fleet_settle(struct fleet *f, uint64_t limit_ns);

/* Bytes a second, on the wire, both directions, in so much time without work:
 * the most that an ordinary node and that a master had. */
struct fleet_quiet
{
    double ordinary, master, master_per_node;
};
void fleet_be_quiet(struct fleet *f, uint64_t ns, struct fleet_quiet *quiet);

/* Put so many values, a few a node. */
void fleet_put(struct fleet *f, unsigned n_words);
/* Run for so long, with somebody looking something up every few ms. */
void fleet_look_up(struct fleet *f, uint64_t ns);
/* Kill a node that is no master; how long until everybody knows. */
uint64_t fleet_death(struct fleet *f, int victim);
/* A new node, with lookups all the while, until all is settled: the share of
 * all records that holders sent again. */
double fleet_join(struct fleet *f, int i);
/* The same for one that goes in good order. */
void fleet_leave(struct fleet *f, int i);

/* What one exists of 128 keys costs node i: round trips, and messages. */
struct fleet_cost
{
    double rounds;
    uint64_t n_messages;
    bool all_found;
};
void fleet_ask(struct fleet *f, int i, bool present, struct fleet_cost *cost);

/* CPU of the engine's one step in which node i hears of a change of view and
 * takes the new ring, which is there already, into use: the longer one of a
 * join and a leave, in ns. The node has a FIFO for each other one by then. With
 * telling_p also the longest of its turns of the next 100 ms, in which a master
 * tells the others. */
uint64_t fleet_install(struct fleet *f, int i, uint64_t *telling_p);

struct fleet_figures
{
    struct fleet_quiet quiet;
    uint64_t death_ns;
    double moved; /* Share of all records. */
    struct fleet_cost present, absent;
};
/* All of the above, one after the other; f has the lookups. */
void fleet_measure(struct fleet *f, unsigned n_words,
                   struct fleet_figures *figures);

#endif /* PC_TEST_FLEET_H */
