/*
 * fabric_state.h - what the modules of the simulated fabric share.
 *
 * A segment is a region as the machines see it. It stays as long as its owner
 * has it registered or somebody maps it, also when the owner is dead; then
 * only those who mapped it before can still read it.
 *
 *  attach ─► PROBING ─(the peer's host answers)─► KNOWN ─(its end)─► FAILED
 *               │ └─(it should, and nothing comes)──────────────────────┤
 *               └──────────────┬─────────────────────┴─────────────────┘
 *                           detach ─► DETACHING ─(no get left)─► freed
 */
#ifndef PC_SIM_FABRIC_STATE_H
#define PC_SIM_FABRIC_STATE_H

#include "world.h"

#define PC_SIM_ADDRESS_MAGIC 0x4653494du

struct pc_sim_segment
{
    uint64_t id;
    uint64_t fabric_id; /* Of its owner. */
    struct pc_sim_host *host;
    uint8_t *base;
    size_t len;
    size_t map_len;
    size_t n_mapped; /* Rkeys that map it. */
    size_t n_refs;   /* Of all kinds. */
    bool registered; /* Its owner has not given it up. */
};

/* What travels in HELLO; the layout is nobody else's business. */
struct pc_sim_fabric_blob
{
    uint32_t magic;
    uint32_t version;
    uint64_t fabric_id;
    uint64_t checksum; /* Of what is before. */
};

struct pc_sim_rkey_blob
{
    uint32_t magic;
    uint32_t pad;
    uint64_t segment_id;
    uint64_t base;
    uint64_t len;
    uint64_t checksum; /* Of what is before. */
};

struct pc_fabric
{
    struct pc_list in_sim;
    struct pc_list in_host;
    struct pc_sim_host *host;
    struct pc_fabric_params params;
    struct pc_sim_fabric_blob blob;
    struct pc_list mems;
    struct pc_list peers;
    struct pc_list meant_by; /* Peers of others that mean this fabric. */
    struct pc_list rkeys;
    struct pc_list ready; /* Peers that have something to tell. */
    struct pc_list done;  /* Gets whose done is due. */
    bool closing;
    char text[96];
};

struct pc_fabric_mem
{
    struct pc_list in_fabric;
    struct pc_fabric *fabric;
    enum pc_fabric_mem_use use;
    uint8_t *addr;
    size_t len;
    struct pc_sim_segment *segment; /* POOL. */
    struct pc_sim_rkey_blob blob;
};

struct pc_fabric_rkey
{
    struct pc_list in_fabric;
    struct pc_list in_peer;
    struct pc_fabric *fabric;
    struct pc_fabric_peer *peer;    /* NULL: it was detached. */
    struct pc_sim_segment *segment; /* NULL: not found. */
    struct pc_sim_rkey_blob blob;
    bool mapped;
};

enum pc_sim_peer_state {
    PC_SIM_PROBING,
    PC_SIM_KNOWN,
    PC_SIM_FAILED,
    PC_SIM_DETACHING
};

struct pc_fabric_peer
{
    struct pc_list in_fabric;
    struct pc_list in_ready;
    struct pc_list in_meant; /* Unless the fabric that it means is closed. */
    struct pc_fabric *fabric;
    struct pc_sim_fabric_blob blob;
    void *arg;
    enum pc_sim_peer_state state;
    struct pc_sim_event event; /* Its answer, its failure, the detach's end. */
    bool probes;               /* On the next turn. */
    bool stalled;              /* The event waits for a heal or a thaw. */
    bool can_map;
    bool can_get;    /* And it was told. */
    bool tells_path; /* Upcalls that are due. */
    bool tells_failed;
    struct pc_fabric_path path;
    struct pc_list gets;    /* Under way. */
    struct pc_list waiting; /* For one of those to end: software gets. */
    size_t n_lanes;         /* Software gets under way. */
    struct pc_list rkeys;
    size_t n_gets; /* Those and the ones whose done is due. */
    void (*detached)(void *peer_arg);
};

/* memory.c */
void pc_sim_segment_unref(struct pc_sim_segment *segment);
void pc_sim_rkey_forget_peer(struct pc_fabric_rkey *rkey);
peercache_status_t pc_sim_mem_register(
    struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
    struct pc_fabric_mem **mem_p);
void *pc_sim_mem_addr(struct pc_fabric_mem *mem);
void pc_sim_mem_deregister(struct pc_fabric_mem *mem);
void pc_sim_mem_info(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p);
struct pc_blob pc_sim_mem_rkey(struct pc_fabric_mem *mem);
peercache_status_t pc_sim_rkey_unpack(struct pc_fabric_peer *peer,
                                      struct pc_blob blob,
                                      struct pc_fabric_rkey **rkey_p);
const void *pc_sim_rkey_map(struct pc_fabric_rkey *rkey, uint64_t remote_addr,
                            size_t len);
void pc_sim_rkey_release(struct pc_fabric_rkey *rkey);
bool pc_sim_rkey_covers(const struct pc_fabric_rkey *rkey, uint64_t addr,
                        size_t len);

/* get.c */
peercache_status_t pc_sim_get(struct pc_fabric_get *get);
bool pc_sim_cancel(struct pc_fabric_get *get);
/* End every get of a peer that waits for a lane. */
void pc_sim_gets_drop(struct pc_fabric_peer *peer, peercache_status_t status);
/* And those that are under way. */
void pc_sim_gets_end(struct pc_fabric_peer *peer, peercache_status_t status);
void pc_sim_gets_resume(struct pc_fabric_peer *peer);
unsigned pc_sim_gets_deliver(struct pc_fabric *fabric);

/* peer.c */
uint64_t pc_sim_fabric_checksum(const struct pc_sim_fabric_blob *blob);
void pc_sim_peer_notify(struct pc_fabric_peer *peer);
/* The host that a peer means; NULL: its fabric is closed. */
struct pc_sim_host *pc_sim_peer_host(const struct pc_fabric_peer *peer);
/* Whether reads of the peer do not move now. */
bool pc_sim_peer_is_silent(const struct pc_fabric_peer *peer);
/* The peer, or what a get reads, is gone: tell after a while. */
void pc_sim_peer_lose(struct pc_fabric_peer *peer);
/* The fabric is being closed, in good order or not. */
void pc_sim_peers_lose(struct pc_fabric *fabric, bool tell);
void pc_sim_peer_get_over(struct pc_fabric_peer *peer);
peercache_status_t pc_sim_attach(struct pc_fabric *fabric,
                                 struct pc_blob address, void *peer_arg,
                                 struct pc_fabric_peer **peer_p);
void pc_sim_detach(struct pc_fabric_peer *peer,
                   void (*detached)(void *peer_arg));
/* One turn; may free the peer. */
unsigned pc_sim_peer_run(struct pc_fabric_peer *peer);
/* End everything now. */
void pc_sim_peer_close(struct pc_fabric_peer *peer);

#endif /* PC_SIM_FABRIC_STATE_H */
