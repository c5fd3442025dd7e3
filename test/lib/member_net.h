/*
 * member_net.h - memberships without nodes: the state machines of lib/cluster
 * on a virtual clock, with a net between them that loses, doubles and delays.
 */
#ifndef PC_TEST_MEMBER_NET_H
#define PC_TEST_MEMBER_NET_H

#include "test.h"

#include "base/assert.h"
#include "base/heap.h"
#include "base/mem.h"
#include "base/rand.h"
#include "cluster/member.h"
#include "directory/ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A net of machines on a virtual clock. Every message is a packet with a time
 * of arrival; a beat is answered by a table, and a beat that is not answered
 * within a second is SILENT. Node i listens at "n<i>"; seed i is node i.
 */
enum { NODES_MAX = 1024, CUTS_MAX = 64 };

#define MS      1000000ull
#define SECOND  (1000 * MS)
#define BEAT_NS (2 * SECOND)
#define TTL_NS  (6 * SECOND)
#define SETTLE  (10 * SECOND)

enum packet_kind { REQUEST, ANSWER, PUSH, PROBE, PROBED, TIMEOUT };

struct packet
{
    struct pc_heap_node heap;
    enum packet_kind kind;
    unsigned from, to;
    uint64_t from_incarnation;
    uint64_t to_incarnation; /* 0: whoever is there. */
    uint64_t about;
    enum pc_probe_verdict verdict;
    int32_t seed;
    uint64_t request;
    uint64_t asked_ns; /* When the request was sent, or 0. */
    struct pc_msg_beat beat;
    struct pc_msg_table table;
    struct packet *next; /* Waiting in the sockets of a paused node. */
};

struct node
{
    struct pc_cluster *cluster;
    uint64_t incarnation;
    uint64_t next_tick_ns;
    bool paused;
    struct packet *waiting, **last_waiting;
    bool is_joined;
    unsigned n_views; /* Changes of view. */
    unsigned n_refuted;
    unsigned n_superseded;
    unsigned n_refused;
    uint64_t bytes; /* Sent and received, counted while net->weighs. */
};

struct net
{
    struct node nodes[NODES_MAX];
    unsigned n_nodes;
    size_t n_seeds;
    uint32_t max_masters;
    uint64_t now_ns;
    struct pc_rand rand;
    struct pc_heap packets;
    uint64_t n_packets, n_requests, n_starts;
    uint64_t answered[8192]; /* Ring of request numbers that were answered. */
    bool cut[CUTS_MAX][CUTS_MAX]; /* Only among the first. */
    unsigned loss_percent, copy_percent;
    uint64_t delay_ns;  /* At most. */
    uint64_t settle_ns; /* Of nodes that are started. */
    bool weighs;        /* Messages are encoded and counted. */
    uint64_t back;      /* Incarnations are smaller by that: clocks that were
                         * set back. */
    bool is_mute;       /* Nothing is sent. */
};

void step(struct net *net, unsigned i, struct pc_cluster_event event);
void simple(struct net *net, unsigned i, enum pc_cluster_event_type type);
void start(struct net *net, unsigned i);
/* With the id of another. */
void start_as(struct net *net, unsigned i, unsigned named);
void stop(struct net *net, unsigned i);
void net_init(struct net *net, unsigned n_nodes, size_t n_seeds, uint64_t seed);
void net_fini(struct net *net);
void run_net(struct net *net, uint64_t duration_ns);
bool view_has(const struct net *net, unsigned i, unsigned other);
bool is_converged(const struct net *net);
void print_net(const struct net *net);
void start_all(struct net *net);
void cut(struct net *net, unsigned a, unsigned b, bool is_cut);
void pause_node(struct net *net, unsigned i, bool paused);
void check(const struct net *net, unsigned i);
struct pc_member other(const char *id, uint64_t incarnation, uint64_t epoch,
                       enum pc_member_state member_state);
void tell(struct net *net, unsigned i, uint64_t from, struct pc_member *members,
          uint32_t n);
bool is_up(const struct net *net, unsigned i);
bool is_cut(const struct net *net, unsigned from, unsigned to);

#endif /* PC_TEST_MEMBER_NET_H */
