/*
 * config.h - settings: where they come from, their checks, their typed form.
 *
 * A configuration holds each setting as text and remembers who gave it. The
 * node resolves it once into a struct pc_settings and looks at nothing else
 * afterwards. The table of all settings is in settings.c; parser, checks,
 * help and documentation come from there. A configuration belongs to one
 * thread at a time.
 */
#ifndef PC_NODE_CONFIG_H
#define PC_NODE_CONFIG_H

#include <peercache/peercache.h>

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

/* In the order of the words in the table. */
enum pc_mode {
    PC_MODE_P2P,
    PC_MODE_HYBRID,
    PC_MODE_CENTRALIZED,
    PC_MODE_SLOTMAP /* Another name of p2p; see pc_settings.mode. */
};
enum pc_role_wanted { /* enum pc_role is what a member turns out to be. */
                      PC_ROLE_WANTED_AUTO,
                      PC_ROLE_WANTED_INFERENCE,
                      PC_ROLE_WANTED_STORAGE
};
enum pc_write_policy {
    PC_WRITE_POLICY_LOCAL,
    PC_WRITE_POLICY_STORAGE,
    PC_WRITE_POLICY_BOTH
};
enum pc_protocol { PC_PROTOCOL_RDMA, PC_PROTOCOL_TCP };
enum pc_read_mode {
    PC_READ_MODE_AUTO,
    PC_READ_MODE_MAPPED,
    PC_READ_MODE_ONE_SIDED,
    PC_READ_MODE_SERVED
};
enum pc_verify { PC_VERIFY_GENERATION, PC_VERIFY_CHECKSUM };
enum pc_eviction_policy { PC_EVICTION_S3FIFO, PC_EVICTION_LRU };
enum pc_disk_policy {
    PC_DISK_POLICY_PUT,
    PC_DISK_POLICY_EVICT,
    PC_DISK_POLICY_SECOND
};
enum pc_disk_fsync {
    PC_DISK_FSYNC_NEVER,
    PC_DISK_FSYNC_SEAL,
    PC_DISK_FSYNC_ALWAYS
};

/*
 * Every setting under its own name; times in nanoseconds end in _ns. Texts
 * that may say "auto" are "" here when they do: the node chooses. What each
 * means is its help text in the table.
 */
struct pc_settings
{
    /* Cluster. */
    char discovery_addr[PEERCACHE_STR_MAX]; /* "": a cluster of one. */
    char cluster_name[PEERCACHE_STR_MAX];
    char digest_salt[PEERCACHE_STR_MAX];
    char prefix[PEERCACHE_STR_MAX];
    char node_id[PEERCACHE_STR_MAX]; /* "": auto. */
    enum pc_mode mode;               /* Never SLOTMAP: that becomes P2P. */
    enum pc_role_wanted role;
    enum pc_write_policy write_policy;
    int64_t data_replicas;
    int64_t vnodes;
    int64_t directory_replicas;
    uint64_t directory_read_cache_ttl_ns;
    uint64_t heartbeat_interval_ns;
    uint64_t member_ttl_ns;
    int64_t max_masters;
    uint64_t settle_ns;
    bool protocol_strict;

    /* Addresses and trust. */
    char local_hostname[PEERCACHE_STR_MAX];    /* "": auto. */
    char rdma_bind_host[PEERCACHE_STR_MAX];    /* "": auto. */
    char control_bind_host[PEERCACHE_STR_MAX]; /* "": auto. */
    char meta_bind_host[PEERCACHE_STR_MAX];    /* "": auto. */
    char metrics_bind_host[PEERCACHE_STR_MAX];
    int64_t rdma_port;
    int64_t control_port;
    int64_t metrics_port;
    bool metrics_enabled;
    bool metrics_dashboard;
    char cluster_key_file[PEERCACHE_STR_MAX];
    bool cluster_key_in_env; /* No setting: the key is told to nobody. */
    char tls_cert[PEERCACHE_STR_MAX];
    char tls_key[PEERCACHE_STR_MAX];
    char tls_ca[PEERCACHE_STR_MAX];
    char tls_name[PEERCACHE_STR_MAX];
    bool allow_insecure;
    bool encrypt;

    /* Data plane. */
    enum pc_protocol protocol;
    enum pc_read_mode read_mode;
    enum pc_verify verify;
    char device_name[PEERCACHE_STR_MAX];
    char device_names[PEERCACHE_STR_MAX]; /* Comma list; wins if not "". */
    char ucx_tcp[PEERCACHE_STR_MAX];
    int64_t ib_port;
    int64_t gid_index;
    int64_t max_channels_per_peer;
    uint64_t op_timeout_ns;
    uint64_t connect_timeout_ns;
    uint64_t hedge_ns;
    uint64_t spin_ns;
    int64_t copy_threads;
    int64_t max_inflight;
    int64_t location_cache;
    int64_t directory_records;

    /* Pool and disk. */
    uint64_t global_segment_size;
    uint64_t region_size;
    bool lock_memory;
    bool huge_pages;
    char numa_node[PEERCACHE_STR_MAX];   /* "": auto. */
    char engine_cpus[PEERCACHE_STR_MAX]; /* "": auto. */
    enum pc_eviction_policy eviction_policy;
    int64_t evict_low; /* Thousandths. */
    int64_t evict_high;
    bool disk_enabled;
    char disk_path[PEERCACHE_STR_MAX];
    uint64_t disk_size;
    uint64_t disk_queue;
    int64_t disk_threads;
    enum pc_disk_policy disk_policy;
    enum pc_disk_fsync disk_fsync;

    /* Other. */
    peercache_log_level_t log_level;
    bool interface_v1;
    uint64_t slot_max_page_bytes;
    int64_t slot_ways;
    int64_t slot_num_buckets;
};

/* Check, then fill *out; *out is untouched unless OK. INVALID: every reason is
 * in peercache_config_error. */
peercache_status_t pc_config_resolve(peercache_config_t *config,
                                     struct pc_settings *out);

/* Who gave the value that is in effect: "default", "code", "environment" or
 * "file <path>:<line>"; NULL for an unknown name. */
const char *pc_config_origin(const peercache_config_t *config,
                             const char *name);

/* A JSON object of all settings: "name": {"value": ..., "origin": ...}. */
void pc_config_json(const peercache_config_t *config, struct pc_text *text);

/* A copy; NULL when there is no memory. */
peercache_config_t *pc_config_clone(const peercache_config_t *config);

/* What peercache_config_error says from now on. */
void pc_config_set_error(peercache_config_t *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif /* PC_NODE_CONFIG_H */
