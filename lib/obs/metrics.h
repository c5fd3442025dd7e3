/*
 * metrics.h - every number a node tells: one table, atomic counters.
 *
 * Names, types, help texts, the Prometheus output and the documentation come
 * from the table. Counters only grow; gauges are set when asked. Any thread.
 */
#ifndef PC_OBS_METRICS_H
#define PC_OBS_METRICS_H

#include "base/text.h"

#include <stdatomic.h>
#include <stdint.h>

/*
 * X(ID, kind, name, labels, help): one line a series; lines of one family are
 * neighbours. Everything is prefixed peercache_. Counts are objects (items of
 * a call) unless the name says otherwise.
 */
#define PC_METRIC_MAP(X)                                                       \
    X(READ_REQUESTS, COUNTER, "read_requests_total", "",                       \
      "values asked by get")                                                   \
    X(READ_HITS, COUNTER, "read_hits_total", "", "values delivered by get")    \
    X(READ_MISSES, COUNTER, "read_misses_total", "", "values not delivered")   \
    X(READ_LOCAL, COUNTER, "read_local_hits_total", "", "from our own pool")   \
    X(READ_REMOTE, COUNTER, "read_remote_hits_total", "", "from other nodes")  \
    X(READ_DISK, COUNTER, "read_disk_hits_total", "",                          \
      "from a disk, ours or another node's")                                   \
    X(READ_MODE_MAPPED, COUNTER, "read_mode_hits_total", "mode=\"mapped\"",    \
      "remote hits by read mode")                                              \
    X(READ_MODE_ONE_SIDED, COUNTER, "read_mode_hits_total",                    \
      "mode=\"one_sided\"", "remote hits by read mode")                        \
    X(READ_MODE_SERVED, COUNTER, "read_mode_hits_total", "mode=\"served\"",    \
      "remote hits by read mode")                                              \
    X(MISS_NOT_FOUND, COUNTER, "read_misses_by_cause_total",                   \
      "cause=\"not_found\"", "misses by cause")                                \
    X(MISS_STALE, COUNTER, "read_misses_by_cause_total", "cause=\"stale\"",    \
      "misses by cause")                                                       \
    X(MISS_CORRUPT, COUNTER, "read_misses_by_cause_total",                     \
      "cause=\"corrupt\"", "misses by cause")                                  \
    X(MISS_PEER_DOWN, COUNTER, "read_misses_by_cause_total",                   \
      "cause=\"peer_down\"", "misses by cause")                                \
    X(MISS_TIMED_OUT, COUNTER, "read_misses_by_cause_total",                   \
      "cause=\"timed_out\"", "misses by cause")                                \
    X(MISS_NO_PATH, COUNTER, "read_misses_by_cause_total",                     \
      "cause=\"no_path\"", "misses by cause")                                  \
    X(MISS_BUSY, COUNTER, "read_misses_by_cause_total", "cause=\"disk_busy\"", \
      "")                                                                      \
    X(MISS_SIZE, COUNTER, "read_misses_by_cause_total",                        \
      "cause=\"size_mismatch\"", "misses by cause")                            \
    X(MISS_NOT_READY, COUNTER, "read_misses_by_cause_total",                   \
      "cause=\"not_ready\"", "misses by cause")                                \
    X(MISS_CANCELED, COUNTER, "read_misses_by_cause_total",                    \
      "cause=\"canceled\"", "misses by cause")                                 \
    X(MISS_NO_MEMORY, COUNTER, "read_misses_by_cause_total",                   \
      "cause=\"no_memory\"", "misses by cause")                                \
    X(MISS_SHUTDOWN, COUNTER, "read_misses_by_cause_total",                    \
      "cause=\"shutdown\"", "misses by cause")                                 \
    X(READ_FAILED_STALE, COUNTER, "read_failures_total", "cause=\"stale\"",    \
      "places found whose read failed, then tried elsewhere")                  \
    X(READ_FAILED_CORRUPT, COUNTER, "read_failures_total",                     \
      "cause=\"corrupt\"", "places found whose read failed")                   \
    X(READ_FAILED_PEER, COUNTER, "read_failures_total", "cause=\"peer_down\"", \
      "places found whose read failed")                                        \
    X(WRITE_REQUESTS, COUNTER, "write_requests_total", "", "values put")       \
    X(USES_TOLD, COUNTER, "uses_total", "side=\"reader\"",                     \
      "reads without the holder that it was told of later")                    \
    X(USES_HEARD, COUNTER, "uses_total", "side=\"holder\"",                    \
      "reads without the holder that it was told of later")                    \
    X(USES_DROPPED, COUNTER, "uses_dropped_total", "",                         \
      "of these, what found no room in a notice")                              \
    X(WRITE_STORED, COUNTER, "writes_stored_total", "", "values stored")       \
    X(WRITE_SKIPPED, COUNTER, "writes_skipped_total", "",                      \
      "puts skipped because a confirmed holder has the value")                 \
    X(WRITE_FAILED_NO_SPACE, COUNTER, "write_failures_total",                  \
      "cause=\"no_space\"", "puts that failed")                                \
    X(WRITE_FAILED_TIMED_OUT, COUNTER, "write_failures_total",                 \
      "cause=\"timed_out\"", "puts that failed")                               \
    X(WRITE_FAILED_OTHER, COUNTER, "write_failures_total", "cause=\"other\"",  \
      "puts that failed")                                                      \
    X(BYTES_READ, COUNTER, "bytes_read_total", "", "payload bytes delivered")  \
    X(BYTES_WRITTEN, COUNTER, "bytes_written_total", "",                       \
      "payload bytes stored")                                                  \
    X(BYTES_SERVED, COUNTER, "bytes_served_total", "",                         \
      "payload bytes sent to readers over the link")                           \
    X(EXISTS_REQUESTS, COUNTER, "exists_requests_total", "",                   \
      "calls of exists")                                                       \
    X(EXISTS_ASKED, COUNTER, "exists_pages_asked_total", "", "keys asked")     \
    X(EXISTS_FOUND, COUNTER, "exists_pages_found_total", "", "keys found")     \
    X(EXISTS_MISS_NOT_FOUND, COUNTER, "exists_misses_by_cause_total",          \
      "cause=\"not_found\"", "keys that exists did not find, by cause")        \
    X(EXISTS_MISS_PEER_DOWN, COUNTER, "exists_misses_by_cause_total",          \
      "cause=\"peer_down\"", "")                                               \
    X(EXISTS_MISS_TIMED_OUT, COUNTER, "exists_misses_by_cause_total",          \
      "cause=\"timed_out\"", "")                                               \
    X(EXISTS_MISS_OTHER, COUNTER, "exists_misses_by_cause_total",              \
      "cause=\"other\"", "")                                                   \
    X(LATE_VIEW, COUNTER, "timeouts_total", "phase=\"view\"",                  \
      "values of any call whose time was over, by what they waited for")       \
    X(LATE_LOOKUP, COUNTER, "timeouts_total", "phase=\"lookup\"", "")          \
    X(LATE_PATH, COUNTER, "timeouts_total", "phase=\"path\"", "")              \
    X(LATE_READ, COUNTER, "timeouts_total", "phase=\"read\"", "")              \
    X(LATE_DISK, COUNTER, "timeouts_total", "phase=\"disk\"", "")              \
    X(LATE_COPY, COUNTER, "timeouts_total", "phase=\"copy\"", "")              \
    X(LATE_TOUCH, COUNTER, "timeouts_total", "phase=\"touch\"", "")            \
    X(LATE_PUBLISH, COUNTER, "timeouts_total", "phase=\"publish\"", "")        \
    X(LATE_REMOVE, COUNTER, "timeouts_total", "phase=\"remove\"", "")          \
    X(REMOVED, COUNTER, "removed_total", "",                                   \
      "values given up by remove and clear")                                   \
    X(EVICTIONS, COUNTER, "evictions_total", "", "values evicted")             \
    X(EVICTED_BACK, COUNTER, "evicted_back_total", "",                         \
      "values put or promoted again soon after they were evicted")             \
    X(PROMOTES, COUNTER, "promotes_total", "",                                 \
      "values brought from our disk into the pool")                            \
    X(PROMOTE_NO_ROOM, COUNTER, "promote_failures_total", "cause=\"no_room\"", \
      "values that did not come from our disk")                                \
    X(PROMOTE_GONE, COUNTER, "promote_failures_total", "cause=\"gone\"", "")   \
    X(PROMOTE_CORRUPT, COUNTER, "promote_failures_total", "cause=\"corrupt\"", \
      "")                                                                      \
    X(PROMOTE_IO, COUNTER, "promote_failures_total", "cause=\"io\"", "")       \
    X(DISK_BUSY, COUNTER, "disk_busy_total", "",                               \
      "values asked by peers that our disk did not bring in time")             \
    X(DISK_WRITES, COUNTER, "disk_writes_total", "", "values on disk")         \
    X(DISK_BYTES_WRITTEN, COUNTER, "disk_bytes_written_total", "",             \
      "payload bytes on disk")                                                 \
    X(DISK_READS, COUNTER, "disk_reads_total", "", "values read from disk")    \
    X(DISK_BYTES_READ, COUNTER, "disk_bytes_read_total", "",                   \
      "payload bytes read from disk")                                          \
    X(DISK_EVICTIONS, COUNTER, "disk_evictions_total", "",                     \
      "values given up on disk for space")                                     \
    X(DISK_CARRIED, COUNTER, "disk_carried_total", "",                         \
      "values kept beyond their segment because they were used")               \
    X(DISK_DROPPED_QUEUE, COUNTER, "disk_dropped_total", "cause=\"queue\"",    \
      "values that were not written to disk")                                  \
    X(DISK_DROPPED_PINS, COUNTER, "disk_dropped_total", "cause=\"pins\"", "")  \
    X(DISK_DROPPED_SPACE, COUNTER, "disk_dropped_total", "cause=\"no_space\"", \
      "")                                                                      \
    X(DISK_DROPPED_READ_ONLY, COUNTER, "disk_dropped_total",                   \
      "cause=\"read_only\"", "")                                               \
    X(DISK_DROPPED_IO, COUNTER, "disk_dropped_total", "cause=\"io\"", "")      \
    X(DISK_DROPPED_LOST, COUNTER, "disk_dropped_total", "cause=\"lost\"", "")  \
    X(DISK_DROPPED_LARGE, COUNTER, "disk_dropped_total",                       \
      "cause=\"too_large\"", "")                                               \
    X(DISK_DROPPED_REMOVED, COUNTER, "disk_dropped_total",                     \
      "cause=\"removed\"", "")                                                 \
    X(DISK_DROPPED_MEMORY, COUNTER, "disk_dropped_total",                      \
      "cause=\"no_memory\"", "")                                               \
    X(DISK_NOT_WRITTEN, COUNTER, "disk_not_written_total", "",                 \
      "values that were evicted and are not on disk")                          \
    X(DISK_SUPERSEDED, COUNTER, "disk_superseded_total", "",                   \
      "values on disk that another put under their key replaced")              \
    X(DISK_UNFIT, COUNTER, "disk_unfit_total", "",                             \
      "values found on disk that do not fit into the pool")                    \
    X(DISK_ANNOUNCED, COUNTER, "disk_announced_total", "",                     \
      "values found on disk at the start and told to the directory")           \
    X(DISK_IO_ERRORS, COUNTER, "disk_io_errors_total", "",                     \
      "calls that the disk failed")                                            \
    X(DISK_CORRUPT, COUNTER, "disk_corrupt_total", "",                         \
      "records on disk whose bytes were wrong")                                \
    X(DISK_SET_ASIDE, COUNTER, "disk_set_aside_total", "",                     \
      "files of another format or node, set aside")                            \
    X(DISK_ASIDE_BYTES, GAUGE, "disk_aside_bytes", "",                         \
      "bytes of files set aside, now or before: beside disk_size, and "        \
      "nothing "                                                               \
      "deletes them")                                                          \
    X(DISK_USED, GAUGE, "disk_bytes_used", "", "bytes of files")               \
    X(DISK_CAPACITY, GAUGE, "disk_capacity_bytes", "",                         \
      "bytes of files there "                                                  \
      "may be")                                                                \
    X(DISK_KEYS, GAUGE, "disk_keys", "", "values on disk")                     \
    X(DISK_SEGMENTS, GAUGE, "disk_segments", "", "files with values")          \
    X(DISK_INDEX_BYTES, GAUGE, "disk_index_bytes", "", "memory of the index")  \
    X(DISK_QUEUE_BYTES, GAUGE, "disk_queue_bytes", "",                         \
      "bytes that wait to be written")                                         \
    X(DISK_QUEUED_READS, GAUGE, "disk_queued_reads", "",                       \
      "reads that wait for the disk")                                          \
    X(DISK_STATE, GAUGE, "disk_state", "",                                     \
      "0 no disk tier, 1 running, 2 writing is paused after errors, 3 lost, "  \
      "4 does not answer yet")                                                 \
    X(DISK_RECOVERING, GAUGE, "disk_recovering", "",                           \
      "1 while what was found at the start is being indexed")                  \
    X(PROMOTIONS, GAUGE, "promotions_in_flight", "",                           \
      "values on their way from our disk, those that wait too")                \
    X(PROMOTE_PINNED, GAUGE, "promoted_bytes_pinned", "",                      \
      "bytes pinned until they are delivered")                                 \
    X(ERRAND_BYTES, GAUGE, "disk_requests_bytes", "",                          \
      "memory of peers' requests that wait for our disk")                      \
    X(LOOKUP_REQUESTS, COUNTER, "directory_lookup_requests_total", "",         \
      "lookup messages sent")                                                  \
    X(LOOKUPS_SAVED, COUNTER, "directory_lookups_saved_total", "",             \
      "keys answered by the location cache")                                   \
    X(HEDGES, COUNTER, "directory_hedges_total", "",                           \
      "lookup messages sent because another owner was slow")                   \
    X(HEDGES_WON, COUNTER, "directory_hedges_won_total", "",                   \
      "of these, answered before the slow owner")                              \
    X(HEDGES_HELD_BACK, COUNTER, "directory_hedges_held_back_total", "",       \
      "times that lookups were slow and the budget of hedges was used up")     \
    X(LOOKUPS_AGAIN, COUNTER, "directory_lookups_repeated_total", "",          \
      "keys asked again after an answer of another view or a lost connection") \
    X(WRONG_VIEW, COUNTER, "directory_wrong_view_total", "",                   \
      "answers from nodes that see another view")                              \
    X(RING_BUILDS, COUNTER, "directory_rings_built_total", "",                 \
      "rings built from views")                                                \
    X(RING_BUILD_US, COUNTER, "directory_ring_build_microseconds_total", "",   \
      "processor time for that, beside the engine when they are large")        \
    X(REPUBLISHES, COUNTER, "directory_republishes_total", "",                 \
      "records published again after a change of view")                        \
    X(REPAIR_ROUNDS, COUNTER, "directory_repair_rounds_total", "",             \
      "times our records were compared with what their owners have")           \
    X(REPAIR_DIFFERENT, COUNTER, "directory_repair_different_total", "",       \
      "comparisons with an owner that found a difference")                     \
    X(REPAIR_EXTRA, COUNTER, "directory_repair_records_total",                 \
      "kind=\"extra\"", "records retracted or published again by repair")      \
    X(REPAIR_MISSING, COUNTER, "directory_repair_records_total",               \
      "kind=\"missing\"", "records retracted or published again by repair")    \
    X(PURGED_DEAD, COUNTER, "directory_purged_total", "cause=\"dead\"",        \
      "records dropped from our shard without their holder's word")            \
    X(PURGED_UNOWNED, COUNTER, "directory_purged_total",                       \
      "cause=\"not_owned\"",                                                   \
      "records dropped from our shard without their holder's word")            \
    X(STALE_TOLD, COUNTER, "directory_stale_told_total", "",                   \
      "places without proof that were told to their owners")                   \
    X(STALE_DROPPED, COUNTER, "directory_stale_dropped_total", "",             \
      "places without proof beyond what is told at once")                      \
    X(DOUBTED, COUNTER, "directory_doubted_total", "",                         \
      "records that a holder was asked about after a reader's failure")        \
    X(SHARD_FULL, COUNTER, "directory_refused_total", "side=\"holder\"",       \
      "records refused because a shard is full: ours by others, and others' "  \
      "here")                                                                  \
    X(SHARD_REFUSED, COUNTER, "directory_refused_total", "side=\"owner\"",     \
      "records refused because a shard is full: ours by others, and others' "  \
      "here")                                                                  \
    X(PUBLISH_MESSAGES, COUNTER, "publish_messages_total", "",                 \
      "messages of publishes and retracts sent to owners")                     \
    X(PUBLISH_RETRIES, COUNTER, "publish_retries_total", "",                   \
      "records told again because no owner took them, or a connection broke")  \
    X(FIFO_DROPPED, COUNTER, "publish_dropped_total", "",                      \
      "publishes and retracts dropped at the bound of a queue")                \
    X(PEER_SUSPECTED, COUNTER, "peer_suspected_total", "",                     \
      "times a silent peer was set aside")                                     \
    X(PEER_RETURNED, COUNTER, "peer_returned_total", "",                       \
      "times a suspect peer answered again")                                   \
    X(PEER_PROBES, COUNTER, "peer_probes_total", "",                           \
      "probes of peers that are suspect, or owe an answer for half as long")   \
    X(PEER_CONNECTS, COUNTER, "peer_connects_total", "", "connections opened") \
    X(PEER_REFUSED, COUNTER, "peer_refused_total", "",                         \
      "peers refused in the handshake")                                        \
    X(PROTOCOL_ERRORS, COUNTER, "protocol_errors_total", "",                   \
      "malformed messages")                                                    \
    X(UNASKED, COUNTER, "unasked_answers_total", "",                           \
      "answers that came late, twice or unasked, and were dropped")            \
    X(POOL_USED, GAUGE, "pool_bytes_used", "", "bytes of extents in use")      \
    X(POOL_CAPACITY, GAUGE, "pool_capacity_bytes", "", "bytes of extents")     \
    X(POOL_WANTED, GAUGE, "pool_wanted_bytes", "",                             \
      "memory that the pool is to have; it grows in the background")           \
    X(POOL_HUGE, GAUGE, "pool_memory_bytes", "pages=\"huge\"",                 \
      "memory of the pool so far, by its pages")                               \
    X(POOL_TRANSPARENT, GAUGE, "pool_memory_bytes", "pages=\"transparent\"",   \
      "memory of the pool so far, by its pages")                               \
    X(POOL_PLAIN, GAUGE, "pool_memory_bytes", "pages=\"plain\"",               \
      "memory of the pool so far, by its pages")                               \
    X(POOL_MISSING, GAUGE, "pool_missing_bytes", "",                           \
      "wanted memory that could not be had; it is tried again")                \
    X(POOL_RETRIES, COUNTER, "pool_retries_total", "",                         \
      "times that a pool with less memory than wanted tried to get more")      \
    X(POOL_BOUND, GAUGE, "pool_bound_bytes", "",                               \
      "of it, bound to a NUMA node")                                           \
    X(POOL_SHARED, GAUGE, "pool_shared_bytes", "",                             \
      "of it, mappable by processes of this host")                             \
    X(POOL_GETS, GAUGE, "pool_registered_bytes", "",                           \
      "of it, registered for one-sided reads")                                 \
    X(POOL_LOCKED, GAUGE, "pool_locked_bytes", "", "of it, locked in memory")  \
    X(ENGINE_BOUND, GAUGE, "engine_bound", "",                                 \
      "1: the engine's thread is bound to CPUs")                               \
    X(POOL_KEYS, GAUGE, "pool_keys", "", "values in the pool")                 \
    X(POOL_RESERVED, GAUGE, "pool_reservations", "", "slots being written")    \
    X(POOL_PINS, GAUGE, "pool_pins", "", "values pinned by readers")           \
    X(INDEX_BYTES, GAUGE, "pool_index_bytes", "", "memory of the index")       \
    X(SHARD_RECORDS, GAUGE, "directory_records", "", "records in our shard")   \
    X(SHARD_LIMIT, GAUGE, "directory_records_limit", "",                       \
      "records that our shard may hold")                                       \
    X(SHARD_BYTES, GAUGE, "directory_bytes", "", "memory of our shard")        \
    X(CACHE_RECORDS, GAUGE, "location_cache_records", "", "places remembered") \
    X(FIFO_ENTRIES, GAUGE, "publish_queue_entries", "",                        \
      "publishes and retracts not yet acknowledged")                           \
    X(FIFO_PARKED, GAUGE, "publish_parked_entries", "",                        \
      "of those, for owners that are held dead")                               \
    X(FIFO_MOVED, GAUGE, "publish_moving_records", "",                         \
      "records on their way to new owners, and to be repaired")                \
    X(OPS_IN_FLIGHT, GAUGE, "operations_in_flight", "", "operations running")  \
    X(RPCS_IN_FLIGHT, GAUGE, "requests_in_flight", "", "requests to peers")    \
    X(PEER_RPCS_MOST, GAUGE, "requests_in_flight_to_one_peer", "",             \
      "requests and one-sided reads of the peer that owes most")               \
    X(PEERS_SUSPECT, GAUGE, "peers_suspect", "",                               \
      "silent peers that are not asked now")                                   \
    X(CONNECTIONS, GAUGE, "connections", "", "open connections")               \
    X(INCOMING, GAUGE, "incoming_connections", "",                             \
      "connections that others opened")                                        \
    X(STRANGERS, GAUGE, "handshakes_in_progress", "",                          \
      "of these, not yet proved and greeted")                                  \
    X(HEAD_MAX, GAUGE, "message_head_bytes_max", "",                           \
      "longest message head received")                                         \
    X(SEND_BYTES, GAUGE, "send_bytes_in_flight", "",                           \
      "bytes being sent to peers")                                             \
    X(SEND_BYTES_PEER, GAUGE, "send_bytes_in_flight_connection_max", "",       \
      "of these, on the connection with the most")                             \
    X(HANDSHAKES, COUNTER, "handshakes_total", "",                             \
      "peers that proved themselves")                                          \
    X(REFUSED_UNTRUSTED, COUNTER, "connections_refused_total",                 \
      "cause=\"untrusted\"", "strangers turned away")                          \
    X(REFUSED_PROTOCOL, COUNTER, "connections_refused_total",                  \
      "cause=\"protocol\"", "strangers turned away")                           \
    X(REFUSED_LATE, COUNTER, "connections_refused_total", "cause=\"late\"",    \
      "strangers turned away")                                                 \
    X(REFUSED_FULL, COUNTER, "connections_refused_total", "cause=\"full\"",    \
      "strangers turned away")                                                 \
    X(FORGED, COUNTER, "forged_records_total", "",                             \
      "records that proved false")                                             \
    X(MAPPINGS, GAUGE, "mapped_regions", "", "neighbours' regions mapped")     \
    X(BOUNCE_BYTES, GAUGE, "bounce_bytes", "", "bounce buffers in use")        \
    X(MEMBERS, GAUGE, "members", "", "live nodes seen")                        \
    X(MEMBERS_KNOWN, GAUGE, "members_known", "", "nodes known, dead ones too") \
    X(MEMBERS_BURIED, GAUGE, "members_buried", "",                             \
      "incarnations remembered as dead only")                                  \
    X(MASTERS, GAUGE, "masters", "", "nodes that keep the table of members")   \
    X(FORMER_VIEWS, GAUGE, "former_views", "", "former views still asked")     \
    X(MEMBERS_IGNORED, COUNTER, "members_ignored_total", "",                   \
      "nodes that did not fit into the table")                                 \
    X(FORMER_DROPPED, COUNTER, "former_views_dropped_total", "",               \
      "former views that did not fit")                                         \
    X(DEATHS_DECLARED, COUNTER, "member_deaths_total", "",                     \
      "nodes declared dead by this one")                                       \
    X(DEATHS_REFUTED, COUNTER, "member_refutations_total", "",                 \
      "times this node was held dead and said that it lives")                  \
    X(MEMBER_PAUSES, COUNTER, "member_pauses_total", "",                       \
      "times this node was stopped for longer than a heartbeat")               \
    X(MEMBER_PROBES, COUNTER, "member_probes_total", "",                       \
      "questions to others about silent nodes")                                \
    X(MEMBER_VOUCHED, COUNTER, "member_vouched_total", "",                     \
      "silent nodes that others reached")                                      \
    X(WORDS_LATE, COUNTER, "member_words_late_total", "",                      \
      "words on members that were out of date, ignored")                       \
    X(WORDS_FORGED, COUNTER, "member_words_forged_total", "",                  \
      "words on members that cannot be true, ignored")                         \
    X(IDS_REFUSED, COUNTER, "member_ids_refused_total", "",                    \
      "answers that an id is another live node's")                             \
    X(STORAGE_NODES, GAUGE, "storage_nodes", "", "live storage nodes seen")    \
    X(UPTIME, GAUGE, "uptime_seconds", "", "seconds since the node started")

enum pc_metric {
#define PC_METRIC_ENUM(id, kind, name, labels, help) PC_METRIC_##id,
    PC_METRIC_MAP(PC_METRIC_ENUM)
#undef PC_METRIC_ENUM
        PC_METRIC_N
};

struct pc_metrics
{
    _Atomic uint64_t values[PC_METRIC_N];
};

static inline void pc_metrics_add(struct pc_metrics *m, enum pc_metric id,
                                  uint64_t n)
{
    /* relaxed: a count on its own, ordered with nothing. */
    atomic_fetch_add_explicit(&m->values[id], n, memory_order_relaxed);
}

static inline void pc_metrics_set(struct pc_metrics *m, enum pc_metric id,
                                  uint64_t value)
{
    /* relaxed: as above. */
    atomic_store_explicit(&m->values[id], value, memory_order_relaxed);
}

static inline uint64_t pc_metrics_get(const struct pc_metrics *m,
                                      enum pc_metric id)
{
    /* relaxed: as above. */
    return atomic_load_explicit(&m->values[id], memory_order_relaxed);
}

/* Prometheus text 0.0.4: HELP and TYPE once a family; `labels` (such as
 * `node="a",rank="0"`, values escaped by pc_metrics_label) on every line. */
void pc_metrics_text(const struct pc_metrics *m, const char *labels,
                     struct pc_text *text);
/* Append name="value" with the value escaped. */
void pc_metrics_label(struct pc_text *text, const char *name,
                      const char *value);

#endif /* PC_OBS_METRICS_H */
