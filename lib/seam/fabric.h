/*
 * fabric.h - bytes between nodes: registered memory that peers may read.
 *
 * transports/ucx implements it on UCX's rkey and get interface, over whatever
 * UCX finds: InfiniBand and RoCE, shared memory, TCP; transports/sim for tests.
 * What a peer needs to reach us (worker address, rkeys) is a blob that the
 * link's HELLO carries, so a fabric opens no connection that was not
 * authenticated first. The rules of link.h hold here too (but mem_register may
 * be called by any thread, and may take long); no protocol of ours writes into
 * a peer's memory. In a forked child every operation answers FORKED or does
 * nothing.
 */
#ifndef PC_SEAM_FABRIC_H
#define PC_SEAM_FABRIC_H

#include <peercache/peercache.h>

#include "base/pages.h"

#include "link.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pc_fabric;      /* An open fabric. Each implementation embeds it. */
struct pc_fabric_mem;  /* A local registration. */
struct pc_fabric_peer; /* A peer that we can read from. */
struct pc_fabric_rkey; /* The right to read one region of a peer. */

/* A one-sided read of contiguous remote memory. What is under way cannot be
 * called back: it ends, or detach() ends it. Gets are not ordered among each
 * other. */
struct pc_fabric_get
{
    struct pc_fabric_peer *peer;
    struct pc_fabric_rkey *rkey;
    uint64_t remote_addr;
    void *local;
    size_t len;
    struct pc_fabric_mem *mem; /* Covers local, or NULL. */
    bool first; /* Where gets wait for each other: before others, as what it
                 * brings proves what has come already. */
    /* After done no hardware writes to local any more. */
    void (*done)(struct pc_fabric_get *get, peercache_status_t status);
    uint64_t priv[8]; /* For the implementation. */
};

/* The way to a peer, known some time after attach(). OK: at least one of
 * can_map and can_get. */
struct pc_fabric_path
{
    /* VERSION, UNREACHABLE: no path, be served. PEER_FAILED: there should be
     * one, but it brought nothing, or wrong bytes; to be tried again after a
     * detach. */
    peercache_status_t status;
    bool can_map;     /* rkey_map works: same host, shared memory. */
    bool can_get;     /* get works. */
    bool native;      /* get runs without the owner's CPU. */
    char carrier[64]; /* "sysv", "rc_mlx5/mlx5_0", "sysv tcp/lo". */
};

enum pc_fabric_mem_use {
    PC_MEM_POOL,  /* Allocated by the fabric; its rkey is given to peers. */
    PC_MEM_BUFFER /* The user's; its rkey is given to nobody. */
};

struct pc_fabric_mem_params
{
    enum pc_fabric_mem_use use;
    peercache_mem_kind_t kind;
    void *addr;       /* BUFFER: the user's; POOL: NULL. */
    size_t len;       /* Bytes. */
    int numa_node;    /* POOL: where to put it, -1 anywhere. */
    size_t page_size; /* POOL: wanted, 0 plain; mem_info says what was got. */
    /* POOL: asked while memory is touched, which may take seconds; true ends
     * the registration with SHUTDOWN. NULL: never. */
    bool (*is_stopping)(void *arg);
    void *arg;
};

/* What a POOL turned out to be. */
struct pc_fabric_mem_info
{
    enum pc_pages pages;
    int bind_error; /* errno; 0 also where no node was asked for. */
    bool is_shared; /* Processes of this host can map it. */
    bool has_gets;  /* Peers can read it one-sided. */
    bool refused;   /* They cannot: its registration was refused. As long as
                     * nobody knows of it, it may be given back for a smaller
                     * one. */
};

struct pc_fabric_params
{
    const char *devices; /* "" lets the fabric choose by NUMA distance. */
    bool rdma;           /* Use RDMA devices. */
    bool strict;         /* RDMA that needs no owner's processor, or no fabric:
                          * open() then answers UNSUPPORTED. */
    unsigned rdma_port;  /* Of devices named without one, or of all; 0: any. */
    int gid_index;       /* One more than the index, which must be there on
                          * Ethernet; 0: the fabric chooses. */
    bool shm;            /* Map neighbours' pools. */
    bool huge;           /* Take POOLs from the pool of huge pages. */
    const char *ucx_tcp; /* Device whose tcp carrier is opened; NULL: none. */
    void *world;         /* A simulated host; other fabrics ignore it. */
    void *arg;
    /* attach() has found the way. Comes once, or twice: shared memory is known
     * at once, a way for gets only after it has carried one; the second path
     * replaces the first. Nothing comes while a peer does not answer. */
    void (*attached)(void *arg, void *peer_arg,
                     const struct pc_fabric_path *path);
    /* A peer's way for gets failed, or, if the last path had can_map alone,
     * there should be one and it was tried in vain; posted gets complete by
     * themselves. Comes once, after a path that is OK. There is no other try
     * before a detach; mappings stay readable until their rkey is released. */
    void (*peer_failed)(void *arg, void *peer_arg, peercache_status_t why);
};

struct pc_fabric_ops
{
    const char *name;
    peercache_status_t (*open)(const struct pc_fabric_params *params,
                               struct pc_fabric **fabric_p);
    /* To be called when nothing is attached, registered or unpacked any more;
     * what is left is ended all the same, and its done and detached functions
     * then run inside close. */
    void (*close)(struct pc_fabric *fabric);
    /* What HELLO tells others: version and address. Valid until close. */
    struct pc_blob (*address)(struct pc_fabric *fabric);

    /* Any thread; may take seconds. */
    peercache_status_t (*mem_register)(
        struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
        struct pc_fabric_mem **mem_p);
    void *(*mem_addr)(struct pc_fabric_mem *mem);
    /* Any thread. No get into the memory may be posted; readers who mapped a
     * pool keep it. */
    void (*mem_deregister)(struct pc_fabric_mem *mem);
    void (*mem_info)(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p);
    /* Never empty for a POOL, but peers may find no path in it. */
    struct pc_blob (*mem_rkey)(struct pc_fabric_mem *mem);

    /* From the peer's HELLO; attached() tells the way when it is known.
     * PROTOCOL: the blob is malformed; another version of the fabric is no
     * error here but the status of the path. */
    peercache_status_t (*attach)(struct pc_fabric *fabric,
                                 struct pc_blob address, void *peer_arg,
                                 struct pc_fabric_peer **peer_p);
    /* Ends posted gets. The transport's own close may end first: detached comes
     * only after every done, and until then the buffers are not free. */
    void (*detach)(struct pc_fabric_peer *peer,
                   void (*detached)(void *peer_arg));
    /* PROTOCOL: malformed. An rkey may outlive its peer's detach: then it still
     * maps, but gets with it are INVALID. */
    peercache_status_t (*rkey_unpack)(struct pc_fabric_peer *peer,
                                      struct pc_blob blob,
                                      struct pc_fabric_rkey **rkey_p);
    /* The remote range in our address space, protected against writing; NULL
     * if it cannot. The mapping lives until rkey_release: the caller counts
     * who still copies from it. */
    const void *(*rkey_map)(struct pc_fabric_rkey *rkey, uint64_t remote_addr,
                            size_t len);
    void (*rkey_release)(struct pc_fabric_rkey *rkey);

    /* IN_PROGRESS: done comes from progress(). INVALID: outside of the rkey's
     * region. UNREACHABLE: no way for gets (yet). PEER_FAILED: it failed. */
    peercache_status_t (*get)(struct pc_fabric_get *get);
    /* Of a posted get that nobody waits for any more, ask for nothing more:
     * where gets run in software they wait for each other, and the dead must
     * not keep the living from the line. done comes from progress() as ever,
     * CANCELED if bytes are missing. True: nothing of it is under way, so that
     * nothing is written any more, and done comes with the next progress(). */
    bool (*cancel)(struct pc_fabric_get *get);

    /* Run completions; returns the amount of work done. */
    unsigned (*progress)(struct pc_fabric *fabric);
    /* A descriptor that turns readable on work; AGAIN: progress first; -1 in
     * *fd_p: nothing to wait for. */
    peercache_status_t (*arm)(struct pc_fabric *fabric, int *fd_p);

    /* For info lines: "UCX 1.13.1, map sysv, get tcp/lo". Until close. */
    const char *(*describe)(struct pc_fabric *fabric);
    /* The devices that gets go over: "mlx5_0:1,mlx5_1:1", "". Until close. */
    const char *(*devices)(struct pc_fabric *fabric);
};

/*
 * A fabric in a module of its own, opened at run time, exports one function of
 * type pc_fabric_module_fn. The module holds a copy of the base layer, so it is
 * told where its log lines go. NULL: another interface number.
 */
#define PC_FABRIC_MODULE_INTERFACE 2u
#define PC_FABRIC_UCX_ENTRY        "peercache_fabric_ucx"

struct pc_fabric_module_env
{
    uint32_t interface; /* PC_FABRIC_MODULE_INTERFACE */
    peercache_log_level_t log_level;
    peercache_log_fn log;
    void *log_arg;
};

typedef const struct pc_fabric_ops *(*pc_fabric_module_fn)(
    const struct pc_fabric_module_env *env);

#ifdef __cplusplus
}
#endif

#endif /* PC_SEAM_FABRIC_H */
