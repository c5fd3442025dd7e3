/*
 * peers.h - the other nodes: who they are, how to reach them, whether they
 * answer, and which ways there are to their memory.
 *
 * A peer is an incarnation; a seed is an address whose incarnation is not known
 * yet. Connections are opened when first needed. A peer that owes an answer and
 * is silent for 200 ms (or four round trips) is suspect, unless it answers a
 * probe halfway there: then only that answer takes long. Breakable requests to
 * a suspect fail, nobody asks it anything, and one probe at a time finds out
 * whether it is back: only what it answers ends the suspicion, not what it asks
 * of us. A
 * request that was given up is owed until anything is heard, or hedges would
 * hide a hung peer for ever. With the engine's role.
 */
#ifndef PC_NET_PEERS_H
#define PC_NET_PEERS_H

#include "net/mappings.h"
#include "net/rpc.h"

struct pc_peer_region
{
    bool known;
    bool broken; /* Its rkey or page 0 was wrong: served reads only. */
    struct pc_msg_region info;
    uint8_t rkey_bytes[PC_RKEY_MAX];
    struct pc_fabric_rkey *rkey;
    struct pc_mapping *mapping; /* In peers->mappings as well. */
};

struct pc_peer
{
    struct pc_list link;
    struct pc_list in_owing; /* From the first thing that it owes us until a
                              * tick finds that it owes nothing. */
    struct pc_peers *peers;
    struct pc_member member;
    int32_t seed; /* Index of a seed, or -1. */
    uint32_t refs;
    bool gone; /* Known to be dead; freed with the last reference. */
    struct pc_conn *conns[2];
    struct pc_list waiting[2]; /* Requests until the connection is ready. */
    unsigned n_rpcs;           /* Waiting and sent. */
    uint64_t retry_ns[2];      /* No new attempt before. */
    uint64_t backoff_ns[2];
    uint64_t lost_ns[2]; /* When a connection broke last. */
    bool refused;        /* By the handshake: said once. */

    /* Breaker. */
    uint64_t heard_ns;
    uint64_t owing_ns;   /* Since when it owes us something. */
    uint64_t rtt_ns;     /* Smoothed. */
    uint64_t suspect_ns; /* Since when it is suspect. */
    bool given_up;       /* It owes an answer that nobody waits for. */
    bool suspect;
    bool probing;
    struct pc_rpc probe;

    /* Ways to its memory. */
    bool greeted; /* It has told of its memory. */
    uint64_t domain;
    struct pc_fabric_peer *fabric;
    struct pc_fabric_path path; /* status IN_PROGRESS until it is known. */
    bool detaching;
    bool path_failed;
    uint64_t attach_ns;   /* No new attempt before. */
    uint64_t attached_ns; /* When the current attempt began. */
    uint64_t reattach_ns; /* How long to wait if the next one fails. */
    uint8_t *fabric_address;
    size_t fabric_address_len;
    struct pc_peer_region *regions;
    uint32_t n_regions;
    unsigned n_gets; /* Posted one-sided reads. */
    uint64_t get_bytes;
    struct pc_list pulls;   /* The node's: reads that wait for those to end, */
    struct pc_list headers; /* and those that wait for their headers. */
    unsigned n_header_gets;
    struct pc_timer header_timer; /* The oldest of headers is due, */
    uint64_t header_due_ns;       /* at this time. */
    uint64_t get_heard_ns; /* When one completed, or the first was posted. */
    uint64_t get_rtt_ns;   /* Smoothed; with the wait for a lane. */
};

struct pc_peers_handlers
{
    void *arg;
    /* A peer asks (or tells, request 0). */
    void (*request)(void *arg, struct pc_conn *conn, const struct pc_msg *msg);
    /* A control connection to it became ready. */
    void (*up)(void *arg, struct pc_peer *peer);
    /* One of our connections to it ended. */
    void (*lost)(void *arg, struct pc_peer *peer, peercache_status_t why);
    /* The address of a seed answers with our own incarnation. */
    void (*seed_is_us)(void *arg, int32_t seed);
    /* What a seed said of itself: some settings are the seed's to say. */
    void (*seed_hello)(void *arg, int32_t seed,
                       const struct pc_msg_hello *hello);
    /* A way to its memory was found, or failed (posted gets then end by
     * themselves). */
    void (*path_changed)(void *arg, struct pc_peer *peer);
};

/* What happened so far, for the node's metrics. */
struct pc_peers_counts
{
    uint64_t connects, refused, suspected, returned, probes;
    uint64_t protocol_errors;
    uint64_t unasked; /* Answers that nothing waited for. */
};

/* Peers can be the cause of a line as often as they connect: of each kind there
 * is at most one in five seconds. */
struct pc_peers_quiet
{
    uint64_t next_ns;
    uint64_t n_hidden;
};

#define PC_GREETED_LISTS 256

struct pc_peers
{
    struct pc_engine *engine;
    struct pc_mappings *mappings;
    struct pc_peers_handlers up;
    struct pc_peers_counts counts;
    /* What we say of ourselves; regions and fabric are added as they come. */
    struct pc_msg_hello self;
    uint64_t connect_timeout_ns;
    bool needs_gets; /* Nothing but one-sided reads is allowed. */
    struct pc_list peers;
    struct pc_list owing; /* Those that a tick looks at. */
    struct pc_map by_incarnation;
    struct pc_list incoming;
    /* Those that have said who they are, by their incarnation: of the many that
     * a master has, a word on one node concerns few. */
    struct pc_list greeted[PC_GREETED_LISTS];
    unsigned n_incoming;
    unsigned n_conns;
    unsigned n_rpcs;
    unsigned n_gets;         /* One-sided reads posted, all peers. */
    unsigned n_suspect;      /* Breakers that are open. */
    unsigned n_fabric_peers; /* Attached or detaching. */
    uint64_t next_request;
    struct pc_timer tick;
    uint64_t last_tick_ns;
    struct pc_peers_quiet quiet_refused;
    struct pc_peers_quiet quiet_malformed;
    uint32_t next_number; /* Of connections: never the same twice. */
    bool closing;
};

/* Requests to one peer, and messages that its connection has not taken: with
 * both, a peer that hangs costs bounded memory. */
#define PC_PEER_RPCS_MAX    8192
#define PC_INCOMING_MAX     8192        /* Connections that peers opened. */
#define PC_CONN_TO_SEED     0x80000000u /* In a connection's number. */
#define PC_CONN_SENDS_PAUSE 64          /* Answers under way: stop reading. */
#define PC_CONN_BYTES_PAUSE (64u << 20) /* So do their bytes. */

void pc_peers_init(struct pc_peers *peers, struct pc_engine *engine,
                   struct pc_mappings *mappings,
                   const struct pc_msg_hello *self, uint64_t connect_timeout_ns,
                   const struct pc_peers_handlers *up);
void pc_peers_start(struct pc_peers *peers);
/* Close every connection, detach every path. pc_peers_is_idle tells when that
 * is done (turns are needed meanwhile). */
void pc_peers_close(struct pc_peers *peers);
bool pc_peers_is_idle(const struct pc_peers *peers);
void pc_peers_fini(struct pc_peers *peers);

/* The peer of an incarnation; NULL if it was never met. */
struct pc_peer *pc_peers_find(struct pc_peers *peers, uint64_t incarnation);
/* Find, or make from what somebody told of it; NULL: no memory, or it is us. */
struct pc_peer *pc_peers_learn(struct pc_peers *peers,
                               const struct pc_member *member);
struct pc_peer *pc_peers_seed(struct pc_peers *peers, int32_t index,
                              const char *address);
/* The address is no seed any more. */
void pc_peers_drop_seed(struct pc_peer *seed);
/* The incarnation is dead: end everything with it. */
/* The list in which a node's incoming connections are, beside others'. */
struct pc_list *pc_peers_greeted(struct pc_peers *peers, uint64_t incarnation);
void pc_peers_forget(struct pc_peers *peers, uint64_t incarnation);
struct pc_peer *pc_peer_ref(struct pc_peer *peer);
void pc_peer_unref(struct pc_peer *peer);
/* Open a control connection if there is none, to learn of its memory. */
void pc_peer_greet(struct pc_peer *peer);
/* Whether it makes sense to ask it now. */
bool pc_peer_is_usable(const struct pc_peer *peer);
/* Its connection is just breaking, and a new one may be opened: most such peers
 * live. */
bool pc_peer_is_returning(const struct pc_peer *peer);
/* It sent something. */
void pc_peer_heard(struct pc_peer *peer);
/* The same, and it was an answer: it is not suspect any more. */
void pc_peer_answered(struct pc_peer *peer);
/* A one-sided read of its memory has brought bytes. */
void pc_peer_get_came(struct pc_peer *peer, uint64_t posted_ns);
/* Requests and one-sided reads of the peer that owes us most. */
unsigned pc_peers_most_owed(const struct pc_peers *peers);
/* Since when it owes us an answer and is silent; 0: it owes none. */
uint64_t pc_peer_silent_since(const struct pc_peer *peer);
/* It is about to owe us something: the breaker watches it. */
void pc_peer_watch(struct pc_peer *peer);

/* Bytes on their way to peers: all, and those on the connection with most. */
void pc_peers_sending(const struct pc_peers *peers, uint64_t *bytes_p,
                      uint64_t *most_p);

/* A region of ours can be read from now on: tell those who listen. */
void pc_peers_add_region(struct pc_peers *peers,
                         const struct pc_msg_region *region);

/* paths.c: the ways to a peer's memory. */
void pc_paths_greeted(struct pc_peer *peer, const struct pc_msg_hello *hello);
/* False: no memory to remember it; it comes again with a new connection. */
bool pc_paths_region(struct pc_peer *peer, const struct pc_msg_region *region);
/* Make the region readable (mapping or rkey) if it can be; the region, or NULL
 * if the peer has not told of it. */
struct pc_peer_region *pc_paths_use(struct pc_peer *peer, uint32_t index);
bool pc_paths_can_get(const struct pc_peer *peer);
bool pc_paths_can_map(const struct pc_peer *peer);
/* End all gets from the peer (I6); the path comes back later by itself. */
void pc_paths_break(struct pc_peer *peer);
void pc_paths_end(struct pc_peer *peer);
/* Upcalls of the fabric; arg is the pc_peers. */
void pc_paths_attached(void *arg, void *peer_arg,
                       const struct pc_fabric_path *path);
void pc_paths_failed(void *arg, void *peer_arg, peercache_status_t why);

/* hello.c */
void pc_hello_fill(const struct pc_conn *conn, struct pc_msg_hello *hello);
/* OK, or why the peer is refused, in words. */
peercache_status_t pc_hello_check(const struct pc_msg_hello *ours,
                                  const struct pc_msg_hello *theirs,
                                  char reason[PC_REASON_MAX]);

/* For rpc.c. */
void pc_peer_asked(struct pc_peer *peer); /* Before it is counted. */
void pc_peer_round_trip(struct pc_peer *peer, uint64_t ns);
void pc_peers_conn_ready(struct pc_conn *conn,
                         const struct pc_msg_hello *hello);
void pc_peers_conn_lost(struct pc_conn *conn, peercache_status_t why);

#endif /* PC_NET_PEERS_H */
