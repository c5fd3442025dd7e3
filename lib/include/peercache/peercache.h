/*
 * peercache.h - the public API of PeerCache.
 *
 * A node keeps values in its own registered memory and publishes where they
 * are in a directory that is sharded over all nodes. Readers look the place up
 * and fetch the bytes from the owner's memory straight into their own buffer.
 *
 * Reading order: status, config, node, memory, items, operations, inspection.
 * Every function says in its last line which threads may call it.
 */
#ifndef PEERCACHE_H
#define PEERCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PEERCACHE_API __attribute__((visibility("default")))
#else
#define PEERCACHE_API
#endif

#define PEERCACHE_VERSION_MAJOR 0
#define PEERCACHE_VERSION_MINOR 1
#define PEERCACHE_VERSION_PATCH 0

/* ---- Status ----------------------------------------------------------- */

/*
 * X(NAME, value, text). Errors are negative and grouped by the largest thing
 * they damage, so that a caller knows what to retry: one item (-1..-19), one
 * request (-20..-39), one peer (-40..-59), this node (-60..-79).
 */
#define PEERCACHE_STATUS_MAP(X)                                                \
    X(OK, 0, "success")                                                        \
    X(IN_PROGRESS, 1, "operation in progress")                                 \
    X(NOT_FOUND, -1, "no such key")                                            \
    X(TOO_LARGE, -3, "value is larger than a region")                          \
    X(SIZE_MISMATCH, -4, "value and buffer differ in length")                  \
    X(STALE, -5, "value moved while it was read")                              \
    X(CORRUPT, -6, "stored value fails its checksum")                          \
    X(INVALID, -20, "invalid argument")                                        \
    X(AGAIN, -21, "too many operations in flight")                             \
    X(TIMED_OUT, -22, "operation timed out")                                   \
    X(CANCELED, -23, "operation canceled")                                     \
    X(PARTIAL, -24, "some items failed, see their status")                     \
    X(NO_SPACE, -25, "pool is full and nothing can be evicted")                \
    X(UNREACHABLE, -40, "no peer that has the answer can be reached")          \
    X(PEER_FAILED, -41, "peer failed during the operation")                    \
    X(PROTOCOL, -42, "peer sent a malformed message")                          \
    X(VERSION, -43, "peer speaks an incompatible version")                     \
    X(UNAUTHENTICATED, -44, "peer did not prove the cluster key")              \
    X(MISMATCH, -45, "peer's cluster settings differ from ours")               \
    X(NO_MEMORY, -60, "out of memory")                                         \
    X(NOT_READY, -61, "node has not joined a cluster yet")                     \
    X(SHUTDOWN, -62, "node is stopping")                                       \
    X(IO, -63, "file or socket error")                                         \
    X(TRANSPORT, -64, "transport error")                                       \
    X(UNSUPPORTED, -65, "not supported by this build or transport")            \
    X(FORKED, -66, "node was created before a fork, in another process")

typedef enum peercache_status {
#define PEERCACHE_STATUS_ENUM(name, value, text) PEERCACHE_##name = (value),
    PEERCACHE_STATUS_MAP(PEERCACHE_STATUS_ENUM)
#undef PEERCACHE_STATUS_ENUM
} peercache_status_t;

/* Name ("NOT_FOUND") and text of a status; never NULL. Any thread. */
PEERCACHE_API const char *peercache_status_name(peercache_status_t status);
PEERCACHE_API const char *peercache_strerror(peercache_status_t status);

/* ---- Configuration ---------------------------------------------------- */

#define PEERCACHE_STR_MAX 256
#define PEERCACHE_KEY_MAX 1024

/*
 * All settings by name, with the same names, defaults and checks in C, Python,
 * the environment (PEERCACHE_GLOBAL_SEGMENT_SIZE=4GiB), configuration files and
 * command lines: they all come from one table in lib/node/config.c.
 */
typedef struct peercache_config peercache_config_t;

/* A configuration with every default. Any thread. */
PEERCACHE_API peercache_status_t
peercache_config_create(peercache_config_t **config_p);
PEERCACHE_API void peercache_config_destroy(peercache_config_t *config);

/* Set one setting from text ("global_segment_size", "4GiB"). INVALID for an
 * unknown name or a value out of range; peercache_config_error says which, what
 * was given and what is allowed. Any thread. */
PEERCACHE_API peercache_status_t peercache_config_set(
    peercache_config_t *config, const char *name, const char *value);

/* Apply every PEERCACHE_<NAME> variable that is set. Any thread. */
PEERCACHE_API peercache_status_t
peercache_config_from_env(peercache_config_t *config);

/* Apply a file of "name = value" lines. Any thread. */
PEERCACHE_API peercache_status_t
peercache_config_load(peercache_config_t *config, const char *path);

/* Value of one setting as text; NULL for an unknown name. The text lives until
 * the next call on this configuration. Any thread. */
PEERCACHE_API const char *peercache_config_get(const peercache_config_t *config,
                                               const char *name);

/* One row of the table of settings. */
typedef struct peercache_setting
{
    const char *name;
    const char *type;  /* "size", "seconds", "bool", "int", "text", "choice" */
    const char *range; /* Allowed values, for people. */
    const char *value; /* Default. */
    const char *help;
    bool cluster_wide; /* Must agree between all nodes. */
} peercache_setting_t;

/* Rows of the table, 0, 1, ...; NULL after the last. Any thread. */
PEERCACHE_API const peercache_setting_t *peercache_setting(size_t index);

/* Check everything at once, before any port opens; INVALID with every reason,
 * one a line, in peercache_config_error. Any thread. */
PEERCACHE_API peercache_status_t
peercache_config_check(peercache_config_t *config);

/* Text of the last failure of this configuration; "" if none. */
PEERCACHE_API const char *peercache_config_error(
    const peercache_config_t *config);

/* ---- Node ------------------------------------------------------------- */

typedef struct peercache_node peercache_node_t;

/*
 * Create a node and start to join the cluster; the pool grows in the
 * background. Never waits for other nodes. Copies *config. On failure *node_p
 * is untouched and peercache_config_error(config) says why. Any thread.
 */
PEERCACHE_API peercache_status_t
peercache_node_create(peercache_config_t *config, peercache_node_t **node_p);

/* Wait until the node is a member, or the timeout passed. Any thread but a
 * completion callback. */
PEERCACHE_API peercache_status_t
peercache_node_wait_ready(peercache_node_t *node, uint64_t timeout_ns);

/*
 * Drop every value that this node holds in its own pool, of all name spaces,
 * and wait until the directory knows. What was sealed before the call is not
 * found any more; copies that other nodes hold stay, and so does what a put
 * stores meanwhile. A value that is being read stays in memory, unfindable,
 * until that read has ended. It is not erasure: memory is not overwritten.
 *
 * timeout_ns: how long it may take; 0: the setting op_timeout. *n_removed_p
 * (unless NULL): values dropped; it is set whatever the result is.
 *
 * OK: all are gone (a node without a pool has none). TIMED_OUT: some values may
 * still be there (call again), or an owner has not said yet that it forgot
 * them, which costs readers a failed look until it has. INVALID: no node, or
 * called from a completion callback. FORKED, SHUTDOWN: nothing was done, or the
 * node ended meanwhile. Any thread but a completion callback.
 */
PEERCACHE_API peercache_status_t peercache_node_clear(peercache_node_t *node,
                                                      uint64_t timeout_ns,
                                                      uint64_t *n_removed_p);

/*
 * Prepare the end of a node: node_id names a member of the cluster, NULL is
 * this node. It goes on with puts, gets and serving, but hands over its part of
 * the directory, and does not count as a copy any more:
 *
 *   - other nodes keep the directory's records that it kept; until every holder
 *     has told them, it is asked as well, so no lookup fails or waits;
 *   - values are not copied: what it holds is found and read until it ends. A
 *     put anywhere else of a key that only draining nodes hold stores the value
 *     there, where it would have been skipped before;
 *   - readers take other holders first.
 *
 * When that is done the node may end, and every key that another node holds is
 * found as before. There is no way back: a node that shall stay is restarted.
 *
 * timeout_ns: how long to wait until it is done, at least the setting settle
 * plus some heartbeats to be of use; 0: do not wait. Waiting is not needed for
 * the drain to go on, and asking again is harmless: this is also how to look.
 * peercache_node_info says "drained" of this node.
 *
 * OK: it is done. IN_PROGRESS (only with timeout_ns 0), TIMED_OUT: it has begun
 * and goes on. NOT_FOUND: there is no such member. NOT_READY: this node has not
 * joined a cluster, so it knows nobody. UNREACHABLE: the member did not answer.
 * PEER_FAILED: the member ended before it was done. INVALID: no node, or called
 * from a completion callback. FORKED, SHUTDOWN: as for the other calls. Any
 * thread but a completion callback.
 */
PEERCACHE_API peercache_status_t peercache_node_drain(peercache_node_t *node,
                                                      const char *node_id,
                                                      uint64_t timeout_ns);

/* Leave the cluster, complete every operation with SHUTDOWN, release all.
 * Blocks. The last call on a node; any thread but a completion callback. */
PEERCACHE_API void peercache_node_destroy(peercache_node_t *node);

/* ---- Registered memory ------------------------------------------------ */

typedef struct peercache_mem peercache_mem_t;

/* What kind of memory an address means. */
typedef enum peercache_mem_kind {
    PEERCACHE_MEM_HOST,
    PEERCACHE_MEM_DEVICE /* GPU memory; copied by UCX, never by the CPU. */
} peercache_mem_kind_t;

/*
 * Register memory that gets will write to, so that RDMA needs no copy; never
 * exposed to peers. Registering a range twice counts references. The memory
 * must stay mapped until peercache_mem_deregister returns. Optional: gets into
 * other memory work through a bounce buffer. A handle outlives its node (only
 * deregister is left then). Any thread but a completion callback.
 */
PEERCACHE_API peercache_status_t
peercache_mem_register(peercache_node_t *node, peercache_mem_kind_t kind,
                       void *addr, size_t len, peercache_mem_t **mem_p);
PEERCACHE_API void peercache_mem_deregister(peercache_mem_t *mem);

/* ---- Items and operations --------------------------------------------- */

/* Where the bytes of a get came from. */
typedef enum peercache_source {
    PEERCACHE_FROM_NONE,
    PEERCACHE_FROM_LOCAL,     /* This node's pool. */
    PEERCACHE_FROM_MAPPED,    /* A neighbour's pool, same host. */
    PEERCACHE_FROM_ONE_SIDED, /* A peer's memory, by RDMA. */
    PEERCACHE_FROM_SERVED,    /* A peer sent them. */
    PEERCACHE_FROM_DISK       /* A disk tier, ours or a peer's. */
} peercache_source_t;

/* One contiguous range of the caller's memory. */
typedef struct peercache_piece
{
    void *addr; /* put: only read. get: destination. */
    size_t len; /* Bytes. */
} peercache_piece_t;

/*
 * One key of a batch. Its value is the pieces, joined in order: KV pages often
 * lie scattered (K and V apart, or one range a layer). The caller owns the
 * array and everything it points to, and leaves all of it alone until the
 * operation completes; afterwards the library never touches it again, whatever
 * happened to the peers in between.
 */
typedef struct peercache_item
{
    const void *key;
    size_t key_len;                  /* 1..PEERCACHE_KEY_MAX */
    const peercache_piece_t *pieces; /* exists, remove: NULL. */
    size_t n_pieces;
    peercache_mem_t *mem; /* Registration that covers all pieces, or NULL. */
    /* Set by the operation: */
    size_t value_len; /* Bytes stored; also by exists. */
    peercache_status_t status;
    peercache_source_t source;
} peercache_item_t;

typedef struct peercache_op peercache_op_t;

/* Called once, with no lock held, by the thread that runs the node's engine:
 * the library's own, or one that is inside a blocking call of the same node.
 * May start new operations and free op; calls that block return INVALID here.
 */
typedef void (*peercache_done_fn)(peercache_op_t *op, void *arg);

/* The items are the pages of one prefix, first page first: a hint for
 * eviction, which then takes the tail first. */
#define PEERCACHE_OP_CHAIN 1u

typedef struct peercache_op_params
{
    size_t struct_size;     /* sizeof(peercache_op_params_t) */
    size_t item_size;       /* sizeof(peercache_item_t) */
    uint32_t flags;         /* PEERCACHE_OP_... */
    const void *name_space; /* Keys of different name spaces never meet. */
    size_t name_space_len;  /* 0..255 */
    uint64_t timeout_ns;    /* 0 takes the configured default. */
    peercache_done_fn done; /* NULL: poll or wait for the operation. */
    void *arg;
} peercache_op_params_t;

/*
 * The four verbs share one shape. With op_p == NULL the call blocks and
 * returns the result (params->done must be NULL then). Otherwise *op_p is set
 * before anything is submitted, the call returns IN_PROGRESS, and the caller
 * ends the operation with peercache_op_free; or AGAIN when max_inflight is
 * reached, and nothing was started.
 *
 * Result: OK when every item is OK, else PARTIAL (look at each item's status:
 * OK, NOT_FOUND, SIZE_MISMATCH, TOO_LARGE, NO_SPACE, CORRUPT, TIMED_OUT,
 * CANCELED, SHUTDOWN), another error when the batch as a whole was refused
 * (then no item's status is set).
 * put: a value that enough holders have already is OK and not stored again.
 * get: pieces are undefined unless the item is OK; SIZE_MISMATCH leaves them
 * untouched. Any thread; the blocking form not from a completion callback.
 */
PEERCACHE_API peercache_status_t
peercache_put(peercache_node_t *node, peercache_item_t *items, size_t n_items,
              const peercache_op_params_t *params, peercache_op_t **op_p);
PEERCACHE_API peercache_status_t
peercache_get(peercache_node_t *node, peercache_item_t *items, size_t n_items,
              const peercache_op_params_t *params, peercache_op_t **op_p);
PEERCACHE_API peercache_status_t peercache_exists(
    peercache_node_t *node, peercache_item_t *items, size_t n_items,
    const peercache_op_params_t *params, peercache_op_t **op_p);
PEERCACHE_API peercache_status_t peercache_remove(
    peercache_node_t *node, peercache_item_t *items, size_t n_items,
    const peercache_op_params_t *params, peercache_op_t **op_p);

/* Result so far (IN_PROGRESS until complete). Any thread. */
PEERCACHE_API peercache_status_t peercache_op_status(const peercache_op_t *op);
/* Wait for completion; TIMED_OUT leaves the operation running. */
PEERCACHE_API peercache_status_t peercache_op_wait(peercache_op_t *op,
                                                   uint64_t timeout_ns);
/* Ask it to end early; it still completes, as CANCELED or not. Any thread. */
PEERCACHE_API void peercache_op_cancel(peercache_op_t *op);
/* Give an operation back; a running one is cancelled first and goes when it
 * has ended. Also from its own done, and after the node was destroyed. Any
 * thread. */
PEERCACHE_API void peercache_op_free(peercache_op_t *op);

/* ---- Inspection ------------------------------------------------------- */

/* Texts for people and programs: caller frees *text_p with peercache_free. */
PEERCACHE_API void peercache_free(void *memory);

/* Prometheus text of every metric. Any thread. */
PEERCACHE_API peercache_status_t peercache_node_metrics(peercache_node_t *node,
                                                        char **text_p);
/* JSON: identity, bound addresses and ports, members, path to each peer, pool,
 * settings in effect and where each came from. Any thread. */
PEERCACHE_API peercache_status_t peercache_node_info(peercache_node_t *node,
                                                     char **text_p);
/* JSON: what a get of this key would do and why, phase by phase. Blocks, at
 * most the configured timeout. Any thread but a completion callback. */
PEERCACHE_API peercache_status_t peercache_node_explain(
    peercache_node_t *node, const void *name_space, size_t name_space_len,
    const void *key, size_t key_len, char **text_p);
/* Version of the library that is loaded, "0.1.0". Any thread. */
PEERCACHE_API const char *peercache_version(void);

typedef enum peercache_log_level {
    PEERCACHE_LOG_ERROR,
    PEERCACHE_LOG_WARN,
    PEERCACHE_LOG_INFO,
    PEERCACHE_LOG_DEBUG,
    PEERCACHE_LOG_TRACE
} peercache_log_level_t;

typedef void (*peercache_log_fn)(void *arg, peercache_log_level_t level,
                                 const char *where, const char *message);

/* Process-wide; NULL restores stderr. Before the first node is created. */
PEERCACHE_API void peercache_log_set(peercache_log_level_t level,
                                     peercache_log_fn fn, void *arg);

/* Load UCX from this path, or the library of this name, before the first node
 * would load the one that the system has; "none": nodes that are made after
 * this use none. What is loaded stays. Signal handlers, memory and environment
 * of the process are left as they are. UNSUPPORTED: it cannot be loaded. Before
 * the first node is created; where the process has a UCX loaded under the name
 * libucp.so.0, nodes use that. */
PEERCACHE_API peercache_status_t peercache_ucx_load(const char *path);

#ifdef __cplusplus
}
#endif

#endif /* PEERCACHE_H */
