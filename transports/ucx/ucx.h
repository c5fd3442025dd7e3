/*
 * ucx.h - the insides of the UCX fabric, shared by its files only.
 *
 * A fabric has two sides, each with a UCX context and worker of its own:
 *
 *   map   allocates pool regions as shared memory and maps neighbours' regions
 *         by ucp_rkey_ptr on an endpoint to its own worker. It opens no port,
 *         needs no progress, and works between different versions of UCX.
 *   get   one-sided reads over RDMA, or over tcp where that was asked for. Its
 *         worker's address goes into HELLO. Never both sides in one context:
 *         peer error mode shuts shared memory out. With tcp it has two
 *         workers: one that others connect to, and one that we connect from.
 *         UCX 1.13 aborts when two workers connect to each other at the same
 *         time and one of them gives up.
 *
 * The life of a peer (get side; one without it starts in MAP_ONLY):
 *
 *   NEW ── ep made ──► PROBING ── probe's bytes right ──► READY
 *    │ no ep              │ error, wrong bytes              │ error
 *    └────────────────────┴──────────► FAILED ◄─────────────┘
 *   any ── detach ──► CLOSING ── closed, every get done ──► freed
 *
 * A lane that is closed while UCX still connects it may abort either process,
 * so CLOSING waits a moment for a lane's probe to come back.
 *
 * The engine's thread owns everything but what `lock` guards: the list of
 * registrations, and all use of the map side's worker (a registration checks
 * itself there). Contexts are thread-safe (mt_workers_shared).
 */
#ifndef PC_UCX_UCX_H
#define PC_UCX_UCX_H

#include "blob.h"
#include "ledger.h"

#include "base/list.h"
#include "seam/fabric.h"

#include <pthread.h>
#include <sys/types.h>
#include <ucp/api/ucp.h>

struct pc_ucx_side
{
    ucp_context_h context; /* NULL: this side is closed. */
    ucp_worker_h worker;
    ucp_worker_h out;  /* get: where our endpoints are; worker, or another. */
    int both_fd;       /* With two workers: readable if one has work. Or -1. */
    ucp_ep_h self;     /* map: an endpoint to the own worker. */
    bool has_address;  /* Others may connect to it. */
    char carrier[32];  /* map: "sysv", "posix". */
    char devices[256]; /* get: what was opened, for people. */
    char nics[256];    /* get: the devices alone. */
};

struct pc_fabric
{
    struct pc_fabric_params params; /* Its texts are dead after open. */
    pid_t pid;
    struct pc_ucx_side map;
    struct pc_ucx_side get;
    unsigned ucx_version[3];
    uint64_t map_domain;
    uint64_t boot;
    uint64_t net;
    bool loopback;
    bool reads_alone; /* RDMA: proved that gets need no owner. */
    size_t piece;     /* Longest software get. */
    bool serves_gets; /* tcp: peers' gets are served by our progress. */

    ucp_address_t *worker_address;
    size_t worker_address_len;
    uint64_t probe_value; /* Registered: peers read it to prove the way. */
    ucp_mem_h probe_mem;
    struct pc_blob hello;

    struct pc_ucx_ledger ledger; /* Of what a kill could leave behind. */
    pthread_mutex_t lock;
    struct pc_list mems;
    struct pc_list kept; /* Deregistered pools that gets may still be served
                          * from; until close. */

    struct pc_list peers;     /* All, by pc_fabric_peer.node. */
    struct pc_list rkeys;     /* All, by pc_fabric_rkey.node. */
    struct pc_list newcomers; /* Peers without an endpoint yet, by wait. */
    struct pc_list news;      /* Peers with something to tell, by turn. */
    struct pc_list closing;   /* Peers on their way out, by turn. */
    struct pc_list finished;  /* Gets whose done is due. */
    char text[512];
};

struct pc_fabric_mem
{
    struct pc_list node;
    struct pc_fabric *fabric;
    char *addr;
    size_t len;
    size_t mapped_len; /* What UCX made of len: whole huge pages. */
    bool is_mmap;      /* addr is ours to unmap. */
    struct pc_fabric_mem_info info;
    ucp_mem_h map_mem; /* NULL: not shared. */
    ucp_mem_h get_mem; /* NULL: no gets. */
    struct pc_blob rkey;
};

enum pc_ucx_peer_state {
    PC_UCX_MAP_ONLY,
    PC_UCX_NEW,
    PC_UCX_PROBING,
    PC_UCX_READY,
    PC_UCX_FAILED,
    PC_UCX_CLOSING
};

/* One endpoint. */
struct pc_ucx_lane
{
    struct pc_fabric_peer *peer;
    ucp_ep_h ep; /* NULL: not made, or closed. */
    void *close_request;
    bool probing; /* Its probe is on its way. */
    bool proven;  /* The probe's bytes were right. */
    ucp_rkey_h probe_rkey;
    uint64_t probe_landing;
    struct pc_fabric_get *get; /* Whose piece is on its way (software gets). */
};

/* Where gets run in software, as over tcp, an owner dies of a reader that goes
 * away with more than one request on a connection, or with an answer that
 * takes more than one segment: UCX's handler aborts when its second send fails
 * (1.13 and 1.22 alike). So such gets are cut into pieces, one a lane. */
#define PC_UCX_LANES 8
#define PC_UCX_PIECE ((size_t)128 << 10)

struct pc_fabric_peer
{
    struct pc_list node;
    struct pc_list turn; /* In fabric.news or fabric.closing. */
    struct pc_list wait; /* In fabric.newcomers. */
    struct pc_fabric *fabric;
    void *arg;
    void (*detached)(void *peer_arg);
    enum pc_ucx_peer_state state;
    bool tell_path;
    bool tell_failed;
    peercache_status_t why;
    struct pc_fabric_path path;

    struct pc_blob hello_bytes; /* Kept until the endpoint is made. */
    struct pc_ucx_hello hello;  /* Points into hello_bytes. */
    struct pc_ucx_lane lanes[PC_UCX_LANES];
    unsigned n_lanes;     /* Made so far. */
    struct pc_list queue; /* Software gets with pieces to be posted. */
    size_t n_posted;      /* Gets in UCX's hands, and probes. */
    size_t n_due;         /* Gets in fabric.finished. */
    uint64_t close_by_ns; /* CLOSING: wait for probes no longer than this. */
    struct pc_list rkeys;
};

/* A neighbour's region in our address space. */
struct pc_ucx_mapping
{
    ucp_rkey_h rkey;
    const char *addr; /* NULL: not mapped. */
    size_t copied;    /* Bytes of a mapping of our own at addr, or 0. */
};

struct pc_fabric_rkey
{
    struct pc_list node;
    struct pc_list peer_node;
    struct pc_fabric *fabric;
    struct pc_fabric_peer *peer; /* NULL after its detach. */
    struct pc_blob bytes;
    struct pc_ucx_region region; /* Points into bytes. */
    bool can_map;
    bool map_failed;
    bool released; /* Freed at the last get's end. */
    size_t n_gets;
    struct pc_ucx_mapping mapping;
    ucp_rkey_h get_rkeys[PC_UCX_LANES]; /* Each belongs to its endpoint. */
};

/* The poster's priv while a get is posted. */
struct pc_ucx_get
{
    struct pc_list node; /* In peer.queue or fabric.finished. */
    int64_t status;
    uint64_t n_sent; /* Software: bytes asked for, */
    uint64_t n_out;  /* and pieces on their way. */
    bool over;       /* In fabric.finished. */
};

/* Whether this is another process than the one that opened the fabric. */
bool pc_ucx_forked(const struct pc_fabric *fabric);
peercache_status_t pc_ucx_status(ucs_status_t status);

struct pc_ucx_setting
{
    const char *name;  /* Without "UCX_". */
    const char *value; /* NULL: leave it as it is. */
};

/* rdma.c: what this version of UCX needs for RDMA and the user's environment
 * leaves open; how many. */
#define PC_UCX_RDMA_SETTINGS 16
size_t pc_ucx_rdma_settings(const struct pc_fabric *fabric,
                            struct pc_ucx_setting settings[]);
/* Whether the get side's context reads from who does nothing; UNSUPPORTED: it
 * reads, but the owner's software has to help. */
ucs_status_t pc_ucx_rdma_prove(struct pc_fabric *fabric);

/* side.c: contexts and their settings. */
void pc_ucx_map_open(struct pc_fabric *fabric);
void pc_ucx_get_open(struct pc_fabric *fabric,
                     const struct pc_fabric_params *params);

/* worker.c. What a failed open leaves, the close takes. */
ucs_status_t pc_ucx_worker_open(struct pc_ucx_side *side, bool two);
ucs_status_t pc_ucx_self_open(struct pc_ucx_side *side);
void pc_ucx_side_close(struct pc_ucx_side *side);
unsigned pc_ucx_side_progress(struct pc_ucx_side *side);
/* UCS_ERR_BUSY: progress first. */
ucs_status_t pc_ucx_side_arm(struct pc_ucx_side *side, int *fd_p);

/* mem.c */
peercache_status_t pc_ucx_mem_register(
    struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
    struct pc_fabric_mem **mem_p);
void *pc_ucx_mem_addr(struct pc_fabric_mem *mem);
void pc_ucx_mem_deregister(struct pc_fabric_mem *mem);
struct pc_blob pc_ucx_mem_rkey(struct pc_fabric_mem *mem);
void pc_ucx_mem_info(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p);
/* After the end of the get side. */
void pc_ucx_mem_free_kept(struct pc_fabric *fabric);

/* peer.c */
peercache_status_t pc_ucx_attach(struct pc_fabric *fabric,
                                 struct pc_blob address, void *peer_arg,
                                 struct pc_fabric_peer **peer_p);
void pc_ucx_detach(struct pc_fabric_peer *peer,
                   void (*detached)(void *peer_arg));
/* One endpoint a turn: making one takes milliseconds. */
unsigned pc_ucx_connect_one(struct pc_fabric *fabric);
unsigned pc_ucx_tell_news(struct pc_fabric *fabric);
/* Free the peers that have ended. */
unsigned pc_ucx_reap(struct pc_fabric *fabric);

/* path.c: which transports an endpoint runs on; adds them to the carrier and
 * sets native. */
void pc_ucx_path_add(ucp_ep_h ep, struct pc_fabric_path *path);

/* rkey.c */
peercache_status_t pc_ucx_rkey_unpack(struct pc_fabric_peer *peer,
                                      struct pc_blob blob,
                                      struct pc_fabric_rkey **rkey_p);
const void *pc_ucx_rkey_map(struct pc_fabric_rkey *rkey, uint64_t remote_addr,
                            size_t len);
void pc_ucx_rkey_release(struct pc_fabric_rkey *rkey);
/* The peer goes: gets end, mappings stay. */
void pc_ucx_rkey_orphan(struct pc_fabric_rkey *rkey);
/* Hand UCX a packed rkey that it cannot read past the end of. */
peercache_status_t pc_ucx_rkey_hand_over(ucp_ep_h ep, struct pc_blob packed,
                                         ucp_rkey_h *rkey_p);
/* Map a packed rkey of len bytes at addr, and make sure that all of it is
 * there and protected; the caller of both holds fabric->lock. */
peercache_status_t pc_ucx_map(struct pc_fabric *fabric, struct pc_blob packed,
                              uint64_t addr, uint64_t len,
                              struct pc_ucx_mapping *mapping_p);
void pc_ucx_unmap(struct pc_ucx_mapping *mapping);

/* get.c */
peercache_status_t pc_ucx_get(struct pc_fabric_get *get);
bool pc_ucx_cancel(struct pc_fabric_get *get);
/* Bytes of the peer have come: post what the lanes have room for, and make
 * another lane when they have too little. */
void pc_ucx_heard(struct pc_fabric_peer *peer);
/* End what waits for a lane. */
void pc_ucx_drop_queue(struct pc_fabric_peer *peer, ucs_status_t status);
unsigned pc_ucx_run_finished(struct pc_fabric *fabric);
unsigned pc_ucx_progress(struct pc_fabric *fabric);
peercache_status_t pc_ucx_arm(struct pc_fabric *fabric, int *fd_p);

#endif /* PC_UCX_UCX_H */
