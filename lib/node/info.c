/*
 * info.c - a node describes itself: as JSON, and as metrics.
 *
 * The engine's part is short: it writes the text (or sets the gauges) from what
 * only its role may read. All else is done in the caller's thread.
 */
#include "info.h"

#include "node/node.h"

#include <inttypes.h>
#include <string.h>

peercache_status_t pc_info_enter(peercache_node_t *node)
{
    if (pc_node_is_forked(node)) {
        return PEERCACHE_FORKED;
    }
    /* seq_cst: the node's end either sees us, or we see that it has begun. */
    atomic_fetch_add_explicit(&node->n_calls, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&node->closing, memory_order_seq_cst)) {
        pc_info_leave(node);
        return PEERCACHE_SHUTDOWN;
    }
    return PEERCACHE_OK;
}

void pc_info_leave(peercache_node_t *node)
{
    atomic_fetch_sub_explicit(&node->n_calls, 1, memory_order_seq_cst);
}

static const char *role_name(uint8_t role)
{
    static const char *const names[] = {[PC_ROLE_MEMBER] = "member",
                                        [PC_ROLE_STORAGE] = "storage",
                                        [PC_ROLE_CLIENT] = "client"};
    return role < sizeof(names) / sizeof(names[0]) ? names[role] : "unknown";
}

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {[PC_MEMBER_ALIVE] = "alive",
                                        [PC_MEMBER_DRAINING] = "draining",
                                        [PC_MEMBER_LEFT] = "left",
                                        [PC_MEMBER_DEAD] = "dead"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void add_string(struct pc_text *text, const char *value)
{
    pc_text_add_json(text, value, strlen(value));
}

/* The view, or this node alone while it has not joined. */
static const struct pc_member *live_members(const peercache_node_t *node,
                                            size_t *n_p, uint64_t *view_p)
{
    if (pc_cluster_is_joined(node->cluster)) {
        return pc_cluster_view(node->cluster, n_p, view_p);
    }
    *n_p = 1;
    *view_p = 0;
    return &node->self;
}

/* ---- JSON ------------------------------------------------------------- */

static void add_node(const peercache_node_t *node, struct pc_text *text)
{
    pc_text_add(text, "{\"version\":");
    add_string(text, peercache_version());
    pc_text_add(text, ",\"node\":{\"id\":");
    add_string(text, node->self.id.text);
    pc_text_add(text,
                ",\"incarnation\":\"%016" PRIx64 "\",\"role\":\"%s\","
                "\"address\":",
                node->self.incarnation, role_name(node->self.role));
    add_string(text, node->self.address);
    pc_text_add(text, ",\"state\":\"%s\",\"drained\":%s}",
                state_name(node->self.state), truth(pc_drain_is_done(node)));
}

static void add_cluster(const peercache_node_t *node, uint64_t view,
                        struct pc_text *text)
{
    pc_text_add(text, ",\"cluster\":{\"name\":");
    add_string(text, node->settings.cluster_name);
    pc_text_add(text, ",\"joined\":%s,\"view\":\"%016" PRIx64 "\",\"seeds\":[",
                truth(pc_cluster_is_joined(node->cluster)), view);
    bool any = false;
    for (size_t i = 0; i < node->n_seeds; i++) {
        if (node->seeds[i].address[0] == '\0') {
            continue;
        }
        pc_text_add(text, "%s{\"address\":", any ? "," : "");
        any = true;
        add_string(text, node->seeds[i].address);
        pc_text_add(text, ",\"ours\":%s}", truth(node->seeds[i].ours));
    }
    pc_text_add(text, "]}");
}

/* What a get from the peer would use now. "none": the configured read mode has
 * no way to it. */
static const char *mode_of(const peercache_node_t *node,
                           const struct pc_peer *peer)
{
    if (peer == NULL || !peer->greeted) {
        return "unknown";
    }
    bool map = pc_paths_can_map(peer);
    bool get = pc_paths_can_get(peer);
    switch (node->settings.read_mode) {
    case PC_READ_MODE_MAPPED:
        return map ? "mapped" : "none";
    case PC_READ_MODE_ONE_SIDED:
        return get ? "one-sided" : "none";
    case PC_READ_MODE_SERVED:
        return "served";
    default:
        break;
    }
    if (map) {
        return "mapped";
    }
    return get && peer->path.native ? "one-sided" : "served";
}

/* Whether the peer answers, and what it owes. */
static void add_breaker(const struct pc_peer *peer, struct pc_text *text)
{
    uint64_t now_ns = pc_engine_now(peer->peers->engine);
    uint64_t since_ns = pc_peer_silent_since(peer);
    uint64_t silent_ns = since_ns != 0 ? now_ns - since_ns : 0;
    uint64_t open_ns = peer->suspect ? now_ns - peer->suspect_ns : 0;
    pc_text_add(text,
                ",\"breaker\":{\"state\":\"%s\",\"open_ms\":%" PRIu64
                ",\"silent_ms\":%" PRIu64 ",\"round_trip_us\":%" PRIu64
                ",\"requests\":%u,\"one_sided_reads\":%u}",
                peer->suspect ? "open" : "closed", (uint64_t)(open_ns / PC_MS),
                (uint64_t)(silent_ns / PC_MS), (uint64_t)(peer->rtt_ns / PC_US),
                peer->n_rpcs, peer->n_gets);
}

static void add_path(peercache_node_t *node, const struct pc_member *member,
                     struct pc_text *text)
{
    bool self = member->incarnation == node->self.incarnation;
    const struct pc_peer *peer =
        self ? NULL : pc_peers_find(&node->peers, member->incarnation);
    bool get = peer != NULL && pc_paths_can_get(peer);
    const char *carrier = "";
    if (peer != NULL && peer->path.status == PEERCACHE_OK) {
        carrier = peer->path.carrier;
    }
    pc_text_add(text,
                ",\"path\":{\"map\":%s,\"get\":%s,\"native\":%s,\"carrier\":",
                truth(peer != NULL && pc_paths_can_map(peer)), truth(get),
                truth(get && peer->path.native));
    pc_text_add_json(text, carrier,
                     strnlen(carrier, sizeof(peer->path.carrier)));
    pc_text_add(text, ",\"suspect\":%s,\"mode\":\"%s\"}",
                truth(peer != NULL && peer->suspect),
                self ? "self" : mode_of(node, peer));
    if (peer != NULL) {
        add_breaker(peer, text);
    }
}

static void add_members(peercache_node_t *node, const struct pc_member *members,
                        size_t n, struct pc_text *text)
{
    pc_text_add(text, ",\"members\":[");
    for (size_t i = 0; i < n; i++) {
        const struct pc_member *m = &members[i];
        pc_text_add(text, "%s{\"id\":", i > 0 ? "," : "");
        add_string(text, m->id.text);
        pc_text_add(text, ",\"incarnation\":\"%016" PRIx64 "\",\"address\":",
                    m->incarnation);
        add_string(text, m->address);
        pc_text_add(text,
                    ",\"role\":\"%s\",\"state\":\"%s\",\"host\":\"%016" PRIx64
                    "\"",
                    role_name(m->role), state_name(m->state), m->host);
        add_path(node, m, text);
        pc_text_add(text, "}");
    }
    pc_text_add(text, "]");
}

static void add_stores(peercache_node_t *node, struct pc_text *text)
{
    struct pc_store_stats stats;
    pc_store_stats(node->store, &stats);
    bool registering = !node->client && pc_event_get(&node->pool_ready) != 2;
    pc_text_add(text,
                ",\"pool\":{\"capacity\":%" PRIu64 ",\"used\":%" PRIu64
                ",\"values\":%" PRIu64 ",\"regions\":%" PRIu64
                ",\"wanted\":%" PRIu64 ",\"registering\":%s}",
                stats.capacity, stats.used, stats.n_values, stats.n_regions,
                node->client ? 0 : node->settings.global_segment_size,
                truth(registering));
    pc_place_json(node, text);
    pc_text_add(text, ",\"directory\":{\"records\":%zu,\"bytes\":%zu}",
                pc_shard_count(node->shard), pc_shard_bytes(node->shard));
}

static void add_disk(const peercache_node_t *node, struct pc_text *text)
{
    static const char *const states[] = {[PC_DISK_RUNNING] = "running",
                                         [PC_DISK_PAUSED] = "paused",
                                         [PC_DISK_GONE] = "lost",
                                         [PC_DISK_OPENING] = "opening"};
    struct pc_disk_stats stats;
    if (!pc_tier_stats(node, &stats)) {
        pc_text_add(text, ",\"disk\":{\"state\":\"none\"}");
        return;
    }
    pc_text_add(text,
                ",\"disk\":{\"state\":\"%s\",\"failure\":\"%s\","
                "\"capacity\":%" PRIu64 ",\"used\":%" PRIu64
                ",\"values\":%" PRIu64 ",\"segments\":%" PRIu64
                ",\"direct\":%s,\"indexed\":%s,\"announced\":%s}",
                states[stats.state],
                stats.state == PC_DISK_RUNNING
                    ? ""
                    : pc_disk_result_name(stats.failure),
                stats.capacity, stats.used, stats.n_records, stats.n_segments,
                truth(stats.direct),
                truth(stats.segments_indexed >= stats.segments_found),
                truth(node->tier->announced));
}

static void write_info(peercache_node_t *node, void *arg)
{
    struct pc_text *text = arg;
    size_t n;
    uint64_t view;
    const struct pc_member *members = live_members(node, &n, &view);
    add_node(node, text);
    add_cluster(node, view, text);
    add_members(node, members, n, text);
    add_stores(node, text);
    add_disk(node, text);
    pc_text_add(text, ",\"links\":");
    add_string(text, node->trusted ? node->link_ops->describe(node->link)
                                   : "neither authenticated nor encrypted");
    pc_text_add(text, ",\"fabric\":");
    add_string(text, node->fabric == NULL
                         ? "none"
                         : node->fabric_ops->describe(node->fabric));
}

peercache_status_t peercache_node_info(peercache_node_t *node, char **text_p)
{
    if (node == NULL || text_p == NULL) {
        return PEERCACHE_INVALID;
    }
    peercache_status_t status = pc_info_enter(node);
    if (status != PEERCACHE_OK) {
        return status;
    }
    struct pc_text text;
    pc_text_init(&text);
    pc_node_call(node, write_info, &text);
    pc_text_add(&text, ",\"settings\":");
    pc_config_json(node->config, &text);
    pc_text_add(&text, "}");
    pc_info_leave(node);
    char *taken = pc_text_take(&text);
    if (taken == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    *text_p = taken;
    return PEERCACHE_OK;
}

/* ---- Metrics ---------------------------------------------------------- */

static void set_pool_gauges(peercache_node_t *node)
{
    struct pc_metrics *m = &node->metrics;
    struct pc_store_stats stats;
    pc_place_gauges(node);
    pc_store_stats(node->store, &stats);
    pc_metrics_set(m, PC_METRIC_POOL_USED, stats.used);
    pc_metrics_set(m, PC_METRIC_POOL_CAPACITY, stats.capacity);
    pc_metrics_set(m, PC_METRIC_POOL_KEYS, stats.n_values);
    pc_metrics_set(m, PC_METRIC_POOL_RESERVED, stats.n_reserved);
    pc_metrics_set(m, PC_METRIC_POOL_PINS, stats.n_pins);
    pc_metrics_set(m, PC_METRIC_INDEX_BYTES, stats.index_bytes);
    pc_metrics_set(m, PC_METRIC_EVICTED_BACK, stats.n_back);
    pc_metrics_set(m, PC_METRIC_CACHE_RECORDS, pc_cache_count(node->cache));
    pc_metrics_set(m, PC_METRIC_OPS_IN_FLIGHT,
                   atomic_load_explicit(&node->n_ops, memory_order_relaxed));
    pc_metrics_set(
        m, PC_METRIC_MAPPINGS,
        atomic_load_explicit(&node->mappings.n_live, memory_order_relaxed));
    uint64_t age_ns = pc_clock_now(&node->clock) - node->created_ns;
    pc_metrics_set(m, PC_METRIC_UPTIME, age_ns / PC_S);
}

static void set_peer_gauges(peercache_node_t *node)
{
    struct pc_metrics *m = &node->metrics;
    const struct pc_peers_counts *counts = &node->peers.counts;
    pc_metrics_set(m, PC_METRIC_PEER_CONNECTS, counts->connects);
    pc_metrics_set(m, PC_METRIC_PEER_REFUSED, counts->refused);
    pc_metrics_set(m, PC_METRIC_PEER_SUSPECTED, counts->suspected);
    pc_metrics_set(m, PC_METRIC_PEER_RETURNED, counts->returned);
    pc_metrics_set(m, PC_METRIC_PEER_PROBES, counts->probes);
    pc_metrics_set(m, PC_METRIC_PEERS_SUSPECT, node->peers.n_suspect);
    pc_metrics_set(m, PC_METRIC_PEER_RPCS_MOST,
                   pc_peers_most_owed(&node->peers));
    pc_metrics_set(m, PC_METRIC_PROTOCOL_ERRORS, counts->protocol_errors);
    pc_metrics_set(m, PC_METRIC_UNASKED, counts->unasked);
    pc_metrics_set(m, PC_METRIC_RPCS_IN_FLIGHT, node->peers.n_rpcs);
    pc_metrics_set(m, PC_METRIC_CONNECTIONS, node->peers.n_conns);
    pc_metrics_set(m, PC_METRIC_SHARD_LIMIT,
                   (uint64_t)node->settings.directory_records);
    pc_metrics_set(m, PC_METRIC_SHARD_RECORDS, pc_shard_count(node->shard));
    pc_metrics_set(m, PC_METRIC_SHARD_BYTES, pc_shard_bytes(node->shard));
    pc_metrics_set(m, PC_METRIC_FIFO_ENTRIES, node->publisher.n_entries);
    pc_metrics_set(m, PC_METRIC_FIFO_PARKED, node->publisher.n_parked);
    pc_metrics_set(m, PC_METRIC_FIFO_MOVED, node->publisher.n_moved);
    uint64_t chunks =
        node->bounce.base == NULL ? 0 : PC_BOUNCE_CHUNKS - node->bounce.n_free;
    pc_metrics_set(m, PC_METRIC_BOUNCE_BYTES, chunks * PC_BOUNCE_CHUNK);
}

static void set_disk_gauges(peercache_node_t *node)
{
    struct pc_metrics *m = &node->metrics;
    struct pc_disk_stats s;
    if (!pc_tier_stats(node, &s)) {
        return;
    }
    const uint64_t *dropped = s.n_dropped;
    pc_metrics_set(m, PC_METRIC_DISK_WRITES, s.n_written);
    pc_metrics_set(m, PC_METRIC_DISK_BYTES_WRITTEN, s.bytes_written);
    pc_metrics_set(m, PC_METRIC_DISK_READS, s.n_read);
    pc_metrics_set(m, PC_METRIC_DISK_BYTES_READ, s.bytes_read);
    pc_metrics_set(m, PC_METRIC_DISK_EVICTIONS, s.n_reclaimed);
    pc_metrics_set(m, PC_METRIC_DISK_CARRIED, s.n_carried);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_QUEUE,
                   dropped[PC_DISK_QUEUE_FULL]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_SPACE, dropped[PC_DISK_NO_SPACE]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_READ_ONLY,
                   dropped[PC_DISK_READ_ONLY]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_IO, dropped[PC_DISK_IO]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_LOST, dropped[PC_DISK_LOST]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_LARGE, dropped[PC_DISK_TOO_LARGE]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_REMOVED, dropped[PC_DISK_REMOVED]);
    pc_metrics_set(m, PC_METRIC_DISK_DROPPED_MEMORY,
                   dropped[PC_DISK_NO_MEMORY]);
    pc_metrics_set(m, PC_METRIC_DISK_IO_ERRORS, s.n_io_errors);
    pc_metrics_set(m, PC_METRIC_DISK_CORRUPT, s.n_corrupt);
    pc_metrics_set(m, PC_METRIC_DISK_SET_ASIDE, s.n_set_aside);
    pc_metrics_set(m, PC_METRIC_DISK_ASIDE_BYTES, s.aside_bytes);
    pc_metrics_set(m, PC_METRIC_DISK_USED, s.used);
    pc_metrics_set(m, PC_METRIC_DISK_CAPACITY, s.capacity);
    pc_metrics_set(m, PC_METRIC_DISK_KEYS, s.n_records);
    pc_metrics_set(m, PC_METRIC_DISK_SEGMENTS, s.n_segments);
    pc_metrics_set(m, PC_METRIC_DISK_INDEX_BYTES, s.index_bytes);
    pc_metrics_set(m, PC_METRIC_DISK_QUEUE_BYTES, s.queued_bytes);
    pc_metrics_set(m, PC_METRIC_DISK_QUEUED_READS, s.n_queued_reads);
    pc_metrics_set(m, PC_METRIC_DISK_STATE, (uint64_t)s.state + 1);
    pc_metrics_set(m, PC_METRIC_DISK_RECOVERING,
                   s.segments_indexed < s.segments_found);
    pc_metrics_set(m, PC_METRIC_PROMOTIONS, node->tier->promotions.n_used);
    pc_metrics_set(m, PC_METRIC_PROMOTE_PINNED,
                   pc_tier_pinned_bytes(node->tier));
    pc_metrics_set(m, PC_METRIC_ERRAND_BYTES, node->tier->errand_bytes);
}

static void set_link_gauges(peercache_node_t *node)
{
    struct pc_metrics *m = &node->metrics;
    struct pc_link_stats stats;
    uint64_t bytes;
    uint64_t bytes_max;
    pc_peers_sending(&node->peers, &bytes, &bytes_max);
    pc_metrics_set(m, PC_METRIC_SEND_BYTES, bytes);
    pc_metrics_set(m, PC_METRIC_SEND_BYTES_PEER, bytes_max);
    if (node->link_ops->stats == NULL) {
        return;
    }
    node->link_ops->stats(node->link, &stats);
    pc_metrics_set(m, PC_METRIC_INCOMING, stats.n_incoming);
    pc_metrics_set(m, PC_METRIC_STRANGERS, stats.n_strangers);
    pc_metrics_set(m, PC_METRIC_HEAD_MAX, stats.head_max);
    pc_metrics_set(m, PC_METRIC_HANDSHAKES, stats.n_secured);
    pc_metrics_set(m, PC_METRIC_REFUSED_UNTRUSTED, stats.refused_untrusted);
    pc_metrics_set(m, PC_METRIC_REFUSED_PROTOCOL, stats.refused_protocol);
    pc_metrics_set(m, PC_METRIC_REFUSED_LATE, stats.refused_late);
    pc_metrics_set(m, PC_METRIC_REFUSED_FULL, stats.refused_full);
    pc_metrics_set(m, PC_METRIC_FORGED, stats.forged);
}

static void set_cluster_gauges(peercache_node_t *node)
{
    struct pc_metrics *m = &node->metrics;
    struct pc_cluster_counts counts;
    pc_cluster_counts(node->cluster, &counts);
    pc_metrics_set(m, PC_METRIC_MEMBERS_KNOWN, counts.n_members);
    pc_metrics_set(m, PC_METRIC_MEMBERS_BURIED, counts.n_graves);
    pc_metrics_set(m, PC_METRIC_MASTERS, counts.n_masters);
    pc_metrics_set(m, PC_METRIC_FORMER_VIEWS, counts.n_former);
    pc_metrics_set(m, PC_METRIC_MEMBERS_IGNORED, counts.n_ignored);
    pc_metrics_set(m, PC_METRIC_FORMER_DROPPED, counts.n_former_dropped);
    pc_metrics_set(m, PC_METRIC_DEATHS_DECLARED, counts.n_declared);
    pc_metrics_set(m, PC_METRIC_DEATHS_REFUTED, counts.n_refuted);
    pc_metrics_set(m, PC_METRIC_MEMBER_PAUSES, counts.n_pauses);
    pc_metrics_set(m, PC_METRIC_MEMBER_PROBES, counts.n_probes);
    pc_metrics_set(m, PC_METRIC_MEMBER_VOUCHED, counts.n_vouched);
    pc_metrics_set(m, PC_METRIC_WORDS_LATE, counts.n_late);
    pc_metrics_set(m, PC_METRIC_WORDS_FORGED, counts.n_forged);
    pc_metrics_set(m, PC_METRIC_IDS_REFUSED, counts.n_refused);
}

static void set_engine_gauges(peercache_node_t *node, void *arg)
{
    (void)arg;
    size_t n;
    uint64_t view;
    const struct pc_member *members = live_members(node, &n, &view);
    size_t n_storage = 0;
    for (size_t i = 0; i < n; i++) {
        n_storage += members[i].role == PC_ROLE_STORAGE;
    }
    pc_metrics_set(&node->metrics, PC_METRIC_MEMBERS, n);
    pc_metrics_set(&node->metrics, PC_METRIC_STORAGE_NODES, n_storage);
    set_peer_gauges(node);
    set_cluster_gauges(node);
    set_link_gauges(node);
    set_disk_gauges(node);
}

#define LATENCY "peercache_op_latency_seconds"

static void add_quantiles(const struct pc_histogram *h, const char *labels,
                          struct pc_text *text)
{
    static const struct
    {
        const char *name;
        double share;
    } quantiles[] = {{"0.5", 0.5}, {"0.9", 0.9}, {"0.99", 0.99}};
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        uint64_t ns = pc_histogram_quantile(h, quantiles[i].share);
        pc_text_add(text, LATENCY "_quantile{%s,quantile=\"%s\"} ", labels,
                    quantiles[i].name);
        if (ns == UINT64_MAX) {
            pc_text_add(text, "+Inf\n");
        } else {
            /* Not %f: its decimal point depends on the user's locale. */
            pc_text_add(text, "%" PRIu64 ".%09" PRIu64 "\n",
                        (uint64_t)(ns / PC_S), (uint64_t)(ns % PC_S));
        }
    }
}

static void add_latencies(const peercache_node_t *node, const char *labels,
                          struct pc_text *text)
{
    struct pc_text read;
    struct pc_text write;
    pc_text_init(&read);
    pc_text_init(&write);
    pc_text_add(&read, "%s,op=\"read\"", labels);
    pc_text_add(&write, "%s,op=\"write\"", labels);
    if (read.failed || write.failed) {
        text->failed = true;
    } else {
        pc_text_add(text, "# HELP " LATENCY " time of whole calls\n"
                          "# TYPE " LATENCY " histogram\n");
        pc_histogram_text(&node->read_latency, LATENCY, read.data, text);
        pc_histogram_text(&node->write_latency, LATENCY, write.data, text);
        pc_text_add(text, "# HELP " LATENCY "_quantile upper bound of the "
                          "bucket of a share of calls, 0 if there were none\n"
                          "# TYPE " LATENCY "_quantile gauge\n");
        add_quantiles(&node->read_latency, read.data, text);
        add_quantiles(&node->write_latency, write.data, text);
    }
    pc_text_fini(&read);
    pc_text_fini(&write);
}

peercache_status_t peercache_node_metrics(peercache_node_t *node, char **text_p)
{
    if (node == NULL || text_p == NULL) {
        return PEERCACHE_INVALID;
    }
    peercache_status_t status = pc_info_enter(node);
    if (status != PEERCACHE_OK) {
        return status;
    }
    struct pc_text labels;
    struct pc_text text;
    pc_text_init(&labels);
    pc_text_init(&text);
    set_pool_gauges(node);
    pc_node_call(node, set_engine_gauges, NULL);
    pc_metrics_label(&labels, "node", node->self.id.text);
    pc_text_add(&labels, ",");
    pc_metrics_label(&labels, "role", role_name(node->self.role));
    if (labels.failed) {
        text.failed = true;
    } else {
        pc_metrics_text(&node->metrics, labels.data, &text);
        pc_place_metric(node, labels.data, &text);
        add_latencies(node, labels.data, &text);
    }
    pc_info_leave(node);
    pc_text_fini(&labels);
    char *taken = pc_text_take(&text);
    if (taken == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    *text_p = taken;
    return PEERCACHE_OK;
}
