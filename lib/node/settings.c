#include "settings.h"

#include "base/assert.h"
#include "place/placement.h"
#include "proto/limits.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool is_label(const char *text, size_t max)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) &&
            strchr("._-", text[i]) == NULL) {
            return false;
        }
    }
    return len >= 1 && len <= max;
}

static bool is_node_id(const char *text)
{
    return is_label(text, PC_NODE_ID_MAX);
}

static bool is_cluster_name(const char *text)
{
    return is_label(text, PC_CLUSTER_NAME_MAX);
}

/* A name or an address as people write it, without a port. Whether it is one
 * of this host is found out by binding it. */
static bool is_host(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) &&
            strchr(".:-_%[]", text[i]) == NULL) {
            return false;
        }
    }
    return len >= 1;
}

static const char *next_part(const char *text, char *part, size_t part_len)
{
    size_t len = strcspn(text, ",");
    size_t start = 0;
    size_t end = len;
    while (start < end && isspace((unsigned char)text[start])) {
        start++;
    }
    while (end > start && isspace((unsigned char)text[end - 1])) {
        end--;
    }
    size_t n = end - start < part_len ? end - start : part_len - 1;
    memcpy(part, text + start, n);
    part[n] = '\0';
    return text[len] == ',' ? text + len + 1 : NULL;
}

static bool is_seed_list(const char *text)
{
    char part[PEERCACHE_STR_MAX];
    char host[PEERCACHE_STR_MAX];
    uint16_t port;
    uint16_t first = 0;
    if (*text == '\0') {
        return true;
    }
    for (const char *at = text; at != NULL;) {
        at = next_part(at, part, sizeof(part));
        if (!pc_parse_host_port(part, host, sizeof(host), &port) || port == 0 ||
            !is_host(host) || (first != 0 && port != first)) {
            return false;
        }
        first = port;
    }
    return true;
}

/* Parts of a comma list, none empty, none twice. */
static bool is_device_list(const char *text)
{
    char part[PEERCACHE_STR_MAX];
    char other[PEERCACHE_STR_MAX];
    if (*text == '\0') {
        return true;
    }
    for (const char *at = text; at != NULL;) {
        at = next_part(at, part, sizeof(part));
        if (part[0] == '\0') {
            return false;
        }
        for (const char *rest = at; rest != NULL;) {
            rest = next_part(rest, other, sizeof(other));
            if (strcmp(part, other) == 0) {
                return false;
            }
        }
    }
    return true;
}

static bool is_dns_name(const char *text)
{
    return is_label(text, PEERCACHE_STR_MAX - 1) && strchr(text, '_') == NULL;
}

static bool is_path(const char *text)
{
    return *text != '\0';
}

static bool is_place(const char *text)
{
    return pc_placement_is_list(text);
}

/* Lower case with underscores, as names and words of choices are written. */
static char fold(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static bool same_word(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len) {
        return false;
    }
    for (size_t i = 0; i < a_len; i++) {
        if (fold(a[i]) != fold(b[i])) {
            return false;
        }
    }
    return true;
}

#define ROW(name, kind, kind_text, field, value, range, check, is_auto, scope, \
            help)                                                              \
    {                                                                          \
        {#name, kind_text, range, value, help, scope}, kind,                   \
            offsetof(struct pc_settings, field), check, is_auto                \
    }
#define SIZE(name, value, range, scope, help)                                  \
    ROW(name, PC_SETTING_SIZE, "size", name, value, range, NULL, false, scope, \
        help)
#define SECONDS(name, value, range, scope, help)                               \
    ROW(name, PC_SETTING_SECONDS, "seconds", name##_ns, value, range, NULL,    \
        false, scope, help)
#define BOOL(name, value, scope, help)                                         \
    ROW(name, PC_SETTING_BOOL, "bool", name, value, "true, false", NULL,       \
        false, scope, help)
#define INT(name, value, range, scope, help)                                   \
    ROW(name, PC_SETTING_INT, "int", name, value, range, NULL, false, scope,   \
        help)
#define CHOICE(name, value, range, scope, help)                                \
    ROW(name, PC_SETTING_CHOICE, "choice", name, value, range, NULL, false,    \
        scope, help)
#define TEXT(name, value, range, check, scope, help)                           \
    ROW(name, PC_SETTING_TEXT, "text", name, value, range, check, false,       \
        scope, help)
#define AUTO(name, range, check, help)                                         \
    ROW(name, PC_SETTING_TEXT, "text", name, "auto", range, check, true, NODE, \
        help)
#define NODE    false
#define CLUSTER true

#define ANY_TEXT  "up to 255 characters"
#define LABEL_SET "1 to 128 of letters, digits, dot, dash, underscore"
#define A_PLACE   "auto, none, or numbers such as 0-3,8"
#define A_HOST    "auto, or an address or name of this host"
#define BIND_AUTO                                                              \
    "auto: all interfaces with a key, certificates or allow_insecure, else "   \
    "127.0.0.1"

static const struct pc_setting table[] = {
    /* Cluster. */
    TEXT(discovery_addr, "",
         "empty, or host:port, several with commas and the same port",
         is_seed_list, CLUSTER,
         "Seeds: nodes to ask for the cluster. The port is the same for all "
         "and must agree in the cluster; the hosts need not. Empty: a cluster "
         "of one, this node alone."),
    TEXT(cluster_name, "peercache", LABEL_SET, is_cluster_name, CLUSTER,
         "Name of the cluster; nodes of another name are refused."),
    TEXT(digest_salt, "", ANY_TEXT, NULL, CLUSTER,
         "Mixed into every key's digest, so that digests cannot be guessed."),
    TEXT(prefix, "", ANY_TEXT, NULL, NODE,
         "Keeps tenants or models that share a cluster apart: keys under "
         "different prefixes never meet."),
    AUTO(node_id, "auto, or " LABEL_SET, is_node_id,
         "Stable name of this node. auto: kept in a file, the same after a "
         "restart."),
    CHOICE(
        mode, "p2p", "p2p, hybrid, centralized, slotmap", NODE,
        "Where values live: p2p: with who put them. hybrid: there too in this "
        "version. centralized: on storage nodes; others have no pool, and "
        "their puts are refused in this version. slotmap: another name of "
        "p2p."),
    CHOICE(role, "auto", "auto, inference, storage", NODE,
           "auto: what the process is. storage: keeps values for others; needs "
           "mode hybrid or centralized."),
    CHOICE(write_policy, "local", "local, storage, both", NODE,
           "Where a put in mode hybrid goes; without effect in this version."),
    INT(data_replicas, "1", "1 to 3", NODE,
        "Above 1 a node keeps what it puts also where another one holds the "
        "key. This version makes no copies on other nodes."),
    INT(vnodes, "160", "1 to 65536", CLUSTER,
        "Points of each node on the ring of the directory."),
    INT(directory_replicas, "2", "1 to 16", CLUSTER,
        "Nodes that keep the directory's records of a key."),
    SECONDS(directory_read_cache_ttl, "0", "0 to 1h", NODE,
            "How long a looked-up place is believed without asking again; 0: "
            "as long as the bytes it leads to prove right."),
    SECONDS(heartbeat_interval, "2", "10ms to 1h", NODE,
            "Time between two heartbeats."),
    SECONDS(member_ttl, "6", "20ms to 24h", CLUSTER,
            "A node silent for so long is probed and then counts as dead; at "
            "least twice heartbeat_interval."),
    INT(max_masters, "3", "1 to 64", CLUSTER,
        "Nodes that keep the table of members: seeds first."),
    SECONDS(settle, "10", "0 to 10min", NODE,
            "After a change of members the former owners of a record are "
            "asked too, at least for so long."),
    BOOL(protocol_strict, "false", NODE,
         "protocol = rdma, but no RDMA device whose reads need no processor of "
         "the owner: true: an error; false: a line in the log, and another way "
         "is taken."),

    /* Addresses and trust. */
    AUTO(local_hostname, A_HOST, is_host,
         "Address that other nodes reach this one by."),
    AUTO(rdma_bind_host, A_HOST, is_host,
         "Without effect in this version: all connections come in at "
         "control_bind_host."),
    INT(rdma_port, "0", "0 to 65535", NODE,
        "Without effect in this version: all connections come in at "
        "control_port."),
    AUTO(control_bind_host, A_HOST, is_host,
         "Address of the control connections. " BIND_AUTO "."),
    INT(control_port, "0", "0 to 65535", NODE,
        "Port of the control connections; 0: any free one."),
    AUTO(meta_bind_host, A_HOST, is_host,
         "Without effect in this version: the discovery port is bound at the "
         "address that discovery_addr names."),
    BOOL(metrics_enabled, "true", NODE,
         "Without effect in this version: metrics are a text, and are not "
         "served over HTTP."),
    BOOL(metrics_dashboard, "true", NODE, "Without effect in this version."),
    TEXT(metrics_bind_host, "127.0.0.1", "an address or name of this host",
         is_host, NODE, "Without effect in this version."),
    INT(metrics_port, "31997", "0 to 65535", NODE,
        "Without effect in this version."),
    TEXT(cluster_key_file, "", ANY_TEXT, NULL, NODE,
         "File with the cluster's key, or with two while keys are changed; "
         "only its owner may open it. The variable PEERCACHE_CLUSTER_KEY holds "
         "the key itself instead. Nodes with other keys are refused."),
    TEXT(tls_cert, "", ANY_TEXT, NULL, NODE,
         "PEM file with this node's certificate and what is between it and "
         "the authority; instead of a key. With tls_key and tls_ca."),
    TEXT(tls_key, "", ANY_TEXT, NULL, NODE,
         "PEM file with the certificate's private key, without a pass phrase; "
         "only its owner may open it."),
    TEXT(tls_ca, "", ANY_TEXT, NULL, NODE,
         "PEM file with the authorities that other nodes' certificates must "
         "come from."),
    TEXT(tls_name, "peercache", "1 to 255 of letters, digits, dot, dash",
         is_dns_name, CLUSTER,
         "DNS name that every node's certificate must be made out to."),
    BOOL(allow_insecure, "false", NODE,
         "Bind and join beyond loopback without key or certificate: who "
         "reaches the ports can read and write every value."),
    BOOL(encrypt, "true", NODE,
         "With a key or certificates: encrypt the connections between nodes. "
         "false: only their beginning is protected, for networks that are "
         "trusted otherwise. The same on all nodes."),

    /* Data plane. */
    CHOICE(protocol, "rdma", "rdma, tcp", NODE,
           "rdma: RDMA devices are used where there are any. tcp: never."),
    CHOICE(read_mode, "auto", "auto, mapped, one-sided, served", NODE,
           "How bytes come from another node. auto: the best way to each."),
    CHOICE(verify, "generation", "generation, checksum", NODE,
           "What a read proves: that the slot still held the value, or also "
           "that every byte is as it was put."),
    TEXT(device_name, "", ANY_TEXT, NULL, NODE,
         "RDMA device, such as mlx5_0; empty: the nearest whose port is up."),
    TEXT(device_names, "", "empty, or names with commas, none twice",
         is_device_list, NODE, "Several RDMA devices; wins over device_name."),
    TEXT(ucx_tcp, "", ANY_TEXT, NULL, NODE,
         "Network device on which UCX may use TCP. UCX cannot prove who "
         "connects, so anything but lo needs allow_insecure. Empty: none."),
    INT(ib_port, "1", "1 to 255", NODE,
        "Port of the RDMA device. Where it is not set and no device is named, "
        "every port that is up is considered."),
    INT(gid_index, "3", "-1 to 255", NODE,
        "GID of the RDMA port (RoCE): set it, and it must be there; unset, or "
        "-1, UCX chooses."),
    INT(max_channels_per_peer, "16", "1 to 1024", NODE,
        "Without effect in this version: what is in flight to a peer is "
        "bounded in bytes."),
    SECONDS(op_timeout, "2", "1ms to 5min", NODE,
            "Longest time of an operation that names none. The variable "
            "PEERCACHE_RDMA_OP_TIMEOUT_MS wins over PEERCACHE_OP_TIMEOUT, at "
            "most 5 s."),
    SECONDS(connect_timeout, "1", "1ms to 1min", NODE,
            "Longest time to open a connection."),
    SECONDS(hedge, "3ms", "0 to 1min", NODE,
            "A lookup that took so long is sent to another owner too; 0: "
            "never."),
    SECONDS(
        spin, "50us", "0 to 1s", NODE,
        "How long the engine polls before it sleeps; a caller that waits polls "
        "four times as long."),
    INT(copy_threads, "1", "1 to 64", NODE,
        "Threads that copy for asynchronous operations."),
    INT(max_inflight, "1024", "1 to 1048576", NODE,
        "Operations running at a time; further ones are refused."),
    INT(location_cache, "65536", "0 to 16777216", NODE,
        "Places of values remembered; 0: none."),
    INT(directory_records, "16777216", "64 to 1073741824", NODE,
        "Records that this node keeps for the directory, of up to 128 bytes "
        "each; further ones are refused and counted, and come with repair when "
        "there is room."),

    /* Pool and disk. */
    SIZE(global_segment_size, "4GiB", "4KiB to 1PiB", NODE,
         "Memory of this node's pool."),
    SIZE(region_size, "1GiB", "4KiB to 1TiB", NODE,
         "The pool grows by regions of this size; also the largest value."),
    BOOL(lock_memory, "false", NODE, "Keep the pool from being swapped out."),
    BOOL(huge_pages, "true", NODE,
         "Make the pool of huge pages: from the system's pool of them where it "
         "has enough free, else transparent ones, else plain pages."),
    AUTO(numa_node, A_PLACE, is_place,
         "NUMA nodes that the pool's memory comes from. auto: those next to "
         "the network cards in use. none: wherever the system puts it."),
    AUTO(engine_cpus, A_PLACE, is_place,
         "CPUs that the engine's thread runs on. auto: those of the pool's "
         "NUMA nodes. none: any."),
    CHOICE(eviction_policy, "s3fifo", "s3fifo, lru", NODE,
           "Which values go when the pool is full: s3fifo keeps what is used "
           "again through a wave of new ones, lru drops what was used longest "
           "ago."),
    INT(evict_low, "10", "0 to 500", NODE,
        "Thousandths of the pool: when less is free, the evictor begins; 0: "
        "a put that needs room makes it itself."),
    INT(evict_high, "20", "0 to 500", NODE,
        "Thousandths of the pool: when so much is free, the evictor rests. At "
        "least evict_low."),
    BOOL(disk_enabled, "true", NODE,
         "Keep values on disk too; off, with a warning, where disk_path "
         "cannot be written."),
    TEXT(disk_path, "/data/peercache/", "a directory", is_path, NODE,
         "Directory of the disk tier; each node has one of its own in it, "
         "named by its node_id."),
    SIZE(disk_size, "100GiB", "4MiB to 1PiB", NODE,
         "Space of the disk tier of this node; SGLang's processes on a host "
         "share it as they share global_segment_size."),
    SIZE(disk_queue, "256MiB", "4KiB to 1TiB", NODE,
         "Bytes that wait to be written to disk, at most."),
    INT(disk_threads, "4", "1 to 64", NODE,
        "Threads that read and write the disk tier."),
    CHOICE(disk_policy, "put", "put, evict, second", NODE,
           "When a value is written to disk: with its put, ahead of its first "
           "eviction, or when it is used a second time, which spares the "
           "disk."),
    CHOICE(disk_fsync, "seal", "never, seal, always", NODE,
           "When what was written is made safe from a crash of the machine: "
           "when the system likes, with each full segment, or with each batch "
           "of writes. A crash of the process alone loses nothing that was "
           "written."),

    /* Other. */
    CHOICE(log_level, "info", "error, warn, info, debug, trace", NODE,
           "What is logged."),
    BOOL(interface_v1, "false", NODE,
         "Read by SGLang: use the zero-copy interface."),
    SIZE(slot_max_page_bytes, "256KiB", "1 to 1TiB", NODE,
         "Of mode slotmap; accepted, without effect."),
    INT(slot_ways, "4", "1 to 1024", NODE,
        "Of mode slotmap; accepted, without effect."),
    INT(slot_num_buckets, "0", "0 to 4294967296", NODE,
        "Of mode slotmap; accepted, without effect."),
};

const struct pc_setting *pc_setting_at(size_t index)
{
    return index < PC_ARRAY_LEN(table) ? &table[index] : NULL;
}

const peercache_setting_t *peercache_setting(size_t index)
{
    return index < PC_ARRAY_LEN(table) ? &table[index].public : NULL;
}

int pc_setting_find(const char *name)
{
    for (size_t i = 0; i < PC_ARRAY_LEN(table); i++) {
        const char *known = table[i].public.name;
        if (same_word(name, strlen(name), known, strlen(known))) {
            return (int)i;
        }
    }
    return -1;
}

const char *pc_setting_nearest(const char *name)
{
    const char *nearest = NULL;
    size_t least = (strlen(name) + 1) / 2; /* Half is another word. */
    for (size_t i = 0; i < PC_ARRAY_LEN(table); i++) {
        size_t distance = pc_text_distance(name, table[i].public.name);
        if (distance < least) {
            least = distance;
            nearest = table[i].public.name;
        }
    }
    return nearest;
}

/* The two ends of a range "low to high". */
static void split_range(const char *range, char *low, size_t low_len,
                        const char **high_p)
{
    const char *middle = strstr(range, " to ");
    PC_ASSERT(middle != NULL && (size_t)(middle - range) < low_len);
    (void)snprintf(low, low_len, "%.*s", (int)(middle - range), range);
    *high_p = middle + strlen(" to ");
}

static bool parse_unsigned(const struct pc_setting *setting, const char *text,
                           uint64_t *value_p)
{
    bool (*parse)(const char *, uint64_t *) =
        setting->type == PC_SETTING_SIZE ? pc_parse_size : pc_parse_seconds;
    char low_text[32];
    const char *high_text;
    uint64_t low = 0;
    uint64_t high = 0;
    uint64_t value;
    split_range(setting->public.range, low_text, sizeof(low_text), &high_text);
    if (!parse(low_text, &low) || !parse(high_text, &high) ||
        !parse(text, &value) || value < low || value > high) {
        return false;
    }
    *value_p = value;
    return true;
}

static bool parse_int(const struct pc_setting *setting, const char *text,
                      int64_t *value_p)
{
    char low_text[32];
    const char *high_text;
    int64_t low = 0;
    int64_t high = 0;
    int64_t value;
    split_range(setting->public.range, low_text, sizeof(low_text), &high_text);
    if (!pc_parse_int(low_text, &low) || !pc_parse_int(high_text, &high) ||
        !pc_parse_int(text, &value) || value < low || value > high) {
        return false;
    }
    *value_p = value;
    return true;
}

/* Number of the word in the range's list. */
static bool parse_choice(const struct pc_setting *setting, const char *text,
                         int *value_p)
{
    int n = 0;
    for (const char *at = setting->public.range; at != NULL; n++) {
        char word[32];
        at = next_part(at, word, sizeof(word));
        if (same_word(text, strlen(text), word, strlen(word))) {
            *value_p = n;
            return true;
        }
    }
    return false;
}

static bool parse_text(const struct pc_setting *setting, const char *text,
                       char *value)
{
    if (strlen(text) >= PEERCACHE_STR_MAX) {
        return false;
    }
    if (setting->may_be_auto &&
        (*text == '\0' || same_word(text, strlen(text), "auto", 4))) {
        text = "";
    } else if (setting->is_allowed != NULL && !setting->is_allowed(text)) {
        return false;
    }
    (void)snprintf(value, PEERCACHE_STR_MAX, "%s", text);
    return true;
}

/* Any of the kinds of value; a choice is the number of its word. */
union value
{
    uint64_t number;
    int64_t integer;
    bool flag;
    int choice;
    char text[PEERCACHE_STR_MAX];
};

static size_t parse_value(const struct pc_setting *setting, const char *text,
                          union value *value)
{
    switch (setting->type) {
    case PC_SETTING_SIZE:
    case PC_SETTING_SECONDS:
        return parse_unsigned(setting, text, &value->number)
                   ? sizeof(value->number)
                   : 0;
    case PC_SETTING_INT:
        return parse_int(setting, text, &value->integer)
                   ? sizeof(value->integer)
                   : 0;
    case PC_SETTING_BOOL:
        return pc_parse_bool(text, &value->flag) ? sizeof(value->flag) : 0;
    case PC_SETTING_CHOICE:
        return parse_choice(setting, text, &value->choice)
                   ? sizeof(value->choice)
                   : 0;
    case PC_SETTING_TEXT:
        return parse_text(setting, text, value->text) ? sizeof(value->text) : 0;
    }
    return 0;
}

/* All enums of struct pc_settings are stored through an int. */
_Static_assert(sizeof(enum pc_mode) == sizeof(int), "enum is an int");
_Static_assert(sizeof(peercache_log_level_t) == sizeof(int), "enum is an int");

bool pc_setting_parse(const struct pc_setting *setting, const char *text,
                      struct pc_settings *settings)
{
    union value value;
    size_t size = parse_value(setting, text, &value);
    if (size != 0 && settings != NULL) {
        memcpy((char *)settings + setting->offset, &value, size);
    }
    return size != 0;
}
