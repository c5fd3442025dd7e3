/*
 * msg.h - every message between nodes: a struct and a strict codec each.
 *
 *     header: magic "PCM1" | version u8 | type u8 | zero u16 | request id u64 |
 *             body length u32                     (20 bytes, little-endian)
 *     body:   one msgpack array; its length may grow in later versions: fields
 *             behind those we know are skipped
 *
 * A message is at most PC_HEAD_MAX (1 MiB). A member takes 39 bytes, its id and
 * its address (295 at most), so what always fits is: every request of
 * PC_KEYS_PER_REQUEST keys; a HELLO with PC_REGIONS_MAX regions; a FOUND of
 * 950 keys, or of 4096 with 880 holders; a TABLE of 3400 members, or of
 * PC_NODES_MAX whose id and address have 150 characters, with all
 * PC_FORMER_VIEWS_MAX views of these. Encoding more is INVALID: split it.
 *
 * Digests and records travel as packed binaries. Decoding checks lengths
 * before it reads and limits before it allocates; a decoded struct points into
 * the message's bytes and into the arena, and lives as long as both. Pure
 * functions, any thread. Only this folder knows msgpack.
 */
#ifndef PC_PROTO_MSG_H
#define PC_PROTO_MSG_H

#include "node_id.h"
#include "record.h"

#include "seam/link.h"

#define PC_MSG_HEADER_SIZE 20

/* X(NAME, value, struct suffix). Golden bytes of each are in the tests. */
#define PC_MSG_MAP(X)                                                          \
    X(HELLO, 1, hello)            /* Initiator's first message. */             \
    X(WELCOME, 2, hello)          /* Acceptor's answer: the same facts. */     \
    X(REJECT, 3, reject)          /* Acceptor refuses, and closes. */          \
    X(BEAT, 4, beat)              /* Request: I am alive. */                   \
    X(TABLE, 5, table)            /* Answer to BEAT and JOIN; also unasked. */ \
    X(LOOKUP, 6, lookup)          /* Request: where are these keys? */         \
    X(FOUND, 7, found)            /* Answer. */                                \
    X(PUBLISH, 8, publish)        /* Request: keep/forget my records. */       \
    X(PUBLISHED, 9, published)    /* Answer. */                                \
    X(TOUCH, 10, touch)           /* Request: do you still hold these? */      \
    X(TOUCHED, 11, statuses)      /* Answer. */                                \
    X(READ, 12, read)             /* Request: send me these values. */         \
    X(PAGES, 13, pages)           /* Answer, values in the message's body. */  \
    X(REMOVE, 14, remove)         /* Request: give up your copies. */          \
    X(REMOVED, 15, statuses)      /* Answer. */                                \
    X(REGION, 16, region)         /* Notice: a region of mine is readable. */  \
    X(PING, 17, ping)             /* Request. */                               \
    X(PONG, 18, ping)             /* Answer. */                                \
    X(FAILED, 19, failed)         /* Answer: the request failed as a whole. */ \
    X(PROBE, 20, probe)           /* Request: does this member answer you? */  \
    X(PROBED, 21, probed)         /* Answer. */                                \
    X(DRAIN, 22, drain)           /* Request: hand over what you own. */       \
    X(DRAINED, 23, drained)       /* Answer: is it done? */                    \
    X(SUMMARY, 24, summary)       /* Request: have you just these of mine? */  \
    X(SUMMARIZED, 25, summarized) /* Answer. */                                \
    X(LIST, 26, list)             /* Request: which of mine have you there? */ \
    X(LISTED, 27, listed)         /* Answer. */                                \
    X(STALE, 28, stale)           /* Notice: these places are no good. */      \
    X(DOUBT, 29, stale)           /* Notice to a holder: are these yours? */   \
    X(WHY, 30, why)               /* Request: what do you know of this key? */ \
    X(BECAUSE, 31, because)       /* Answer. */                                \
    X(PROMOTE, 32, read)          /* Request: from your disk into the pool. */ \
    X(PROMOTED, 33, promoted)     /* Answer. */                                \
    X(PROGRESS, 34, ping)         /* Notice: your read waits for my disk. */   \
    X(USED, 35, remove)           /* Notice: I read these from your pool. */

enum pc_msg_type {
#define PC_MSG_ENUM(name, value, suffix) PC_MSG_##name = (value),
    PC_MSG_MAP(PC_MSG_ENUM)
#undef PC_MSG_ENUM
};

/* A region of a node's pool, as peers need it. */
struct pc_msg_region
{
    uint32_t index;
    uint32_t n_slots;
    uint64_t base;         /* Address in the owner, what gets name. */
    uint64_t length;       /* Bytes, page 0 and slot table included. */
    uint64_t nonce;        /* In page 0 as well (rule 8). */
    uint64_t slots_offset; /* Of the slot table. */
    struct pc_blob rkey;   /* Empty: this region can only be served. */
};

struct pc_msg_hello
{
    uint32_t protocol, layout, digest_version;
    uint64_t digest_seed_check; /* Hash of the seed, not the seed. */
    char cluster_name[PC_CLUSTER_NAME_MAX + 1];
    struct pc_member self;
    uint8_t cls;     /* enum pc_link_class */
    uint32_t number; /* Of this connection in its (initiator, class). */
    uint32_t vnodes, directory_replicas, max_masters;
    uint64_t member_ttl_ns;
    uint64_t domain; /* Mappable together: boot id, IPC and PID ns, uid. */
    struct pc_blob fabric; /* Version and address, opaque; may be empty. */
    uint32_t n_regions;
    struct pc_msg_region *regions; /* Control connections only. */
};

struct pc_msg_reject
{
    int32_t status; /* peercache_status_t */
    char reason[PC_REASON_MAX];
};

struct pc_msg_beat
{
    struct pc_member self;
    uint64_t view;  /* Hash of the sender's table, 0: has none (a join). */
    uint64_t table; /* Hash over the whole table, states and epochs too. */
    uint8_t load;   /* How much it serves: 0..PC_LOAD_MAX. */
};

/* Steps of a member's load, by powers of eight: see node/load.h. */
#define PC_LOAD_MAX 3

/* A set of members that was a view; only what the ring is made of. */
struct pc_msg_view
{
    uint64_t hash;
    uint32_t n_members;
    struct pc_member *members; /* Only id, incarnation, host, state, role. */
};

struct pc_msg_table
{
    uint64_t view, table;
    bool same; /* Asker's table hash equals ours: members is empty. */
    uint32_t n_members;
    struct pc_member *members;
    uint32_t n_former;
    struct pc_msg_view *former; /* Views still asked: answer to a join. */
    uint64_t base; /* Hash of the table that this is the difference to; 0: this
                    * is all of it. */
    bool more;     /* A part: what is missing follows on this connection. */
    uint8_t admission; /* enum pc_admission, of the node that beat. */
    uint32_t n_busy;   /* <= PC_BUSY_MAX: those with the most to do. */
    uint64_t *busy;    /* Their incarnations, */
    uint8_t *loads;    /* and loads. */
};

/* May a node have the id that it beats with? */
enum pc_admission {
    PC_ADMISSION_OK,
    PC_ADMISSION_WAIT,   /* Another has it: whether that lives is looked up. */
    PC_ADMISSION_REFUSED /* Another one has it, and lives. */
};

struct pc_msg_probe
{
    uint64_t incarnation;
};

enum pc_probe_verdict {
    PC_PROBED_ALIVE,
    PC_PROBED_SILENT,
    PC_PROBED_UNKNOWN /* Not a member here, or too much to do. */
};

struct pc_msg_probed
{
    uint64_t incarnation;
    uint8_t verdict; /* enum pc_probe_verdict */
};

/* Whoever asks: the node hands its part of the directory over, for good. */
struct pc_msg_drain
{
    uint64_t incarnation; /* Of whom: not what followed it there. */
};

struct pc_msg_drained
{
    bool done;
};

#define PC_LOOKUP_FORMER 1u /* Asked as an owner of an older view. */

struct pc_msg_lookup
{
    uint64_t view;
    uint32_t flags;
    uint32_t n_keys; /* <= PC_KEYS_PER_REQUEST */
    struct pc_digest *digests;
};

/* Answer for key i: counts[i] records, one after the other in records. */
struct pc_msg_found
{
    uint64_t view;
    bool wrong_view; /* Absence in here is no answer (WRONG_VIEW). */
    uint32_t n_keys;
    uint8_t *counts; /* <= PC_HOLDERS_PER_KEY each. */
    uint32_t n_records;
    struct pc_record *records;
    uint32_t n_holders; /* Every holder named in records, once. */
    struct pc_member *holders;
};

enum pc_publish_kind { PC_PUBLISH, PC_RETRACT };

/* Entries of one holder's FIFO, in order (rule 11). */
struct pc_msg_publish
{
    uint64_t view;
    uint64_t incarnation; /* Of the holder: all records carry it. */
    uint32_t n_entries;   /* <= PC_KEYS_PER_REQUEST */
    uint8_t *kinds;       /* enum pc_publish_kind */
    struct pc_record *records;
};

enum pc_publish_result {
    PC_PUBLISH_OK,      /* Acknowledged by an owner. */
    PC_PUBLISH_FOREIGN, /* Stored, but I am no owner by my view. */
    PC_PUBLISH_REFUSED  /* Shard is full, or the record is not the sender's. */
};

struct pc_msg_published
{
    uint64_t view;
    uint32_t n_entries;
    uint8_t *results; /* enum pc_publish_result */
};

/* A holder's sum of its records up to a generation that the receiver owns. */
struct pc_msg_summary
{
    uint64_t view;
    uint64_t highest; /* Newer generations are not in it. */
    uint64_t count;
    uint64_t hash; /* XOR of pc_record_hash. */
};

enum pc_summary_state {
    PC_SUMMARY_SAME,
    PC_SUMMARY_DIFFERENT,
    PC_SUMMARY_OTHER_VIEW, /* No answer: I see another one. */
    PC_SUMMARY_WAIT        /* No answer yet: ask again. */
};

/* What the owner has; with DIFFERENT by ranges of digests. */
struct pc_msg_summarized
{
    uint64_t view;
    uint8_t state;     /* enum pc_summary_state */
    uint32_t n_ranges; /* 0 or PC_SUMMARY_RANGES */
    uint64_t *counts;
    uint64_t *hashes;
};

struct pc_msg_list
{
    uint64_t view;
    uint64_t highest;
    uint8_t range; /* < PC_SUMMARY_RANGES */
    uint64_t from; /* 0, or `next` of the last answer. */
};

struct pc_msg_listed
{
    uint64_t view;
    uint8_t state; /* enum pc_summary_state, never SAME. */
    uint64_t next; /* 0: this was the last page. */
    uint32_t n_keys;
    struct pc_digest *digests;
    uint64_t *generations;
};

/* STALE, from a reader to an owner: places that gave no proof. DOUBT, from the
 * owner to their holder: it looks, and retracts what is not so. */
struct pc_msg_stale
{
    uint32_t n_keys;
    struct pc_record *records;
};

struct pc_msg_touch
{
    uint32_t n_keys;
    struct pc_record *records; /* What is believed. */
};

/* TOUCHED: OK, NOT_FOUND. REMOVED: OK (gone now), NOT_FOUND (was not here). */
struct pc_msg_statuses
{
    uint32_t n_keys;
    int8_t *statuses; /* peercache_status_t */
};

struct pc_msg_remove
{
    uint32_t n_keys;
    struct pc_digest *digests;
};

#define PC_READ_CHECKSUM 1u /* Tell the stored checksums. */

/* A served read. records are hints: place and generation may be zero, the
 * digest and the length count (rule 10). */
struct pc_msg_read
{
    uint32_t flags;
    uint32_t n_keys;
    struct pc_record *records;
    uint64_t wait_ns; /* The reader waits no longer: what its holder's disk has
                       * not given by then is AGAIN. */
};

/* Where the keys whose status is OK are now; they stay for a moment. */
struct pc_msg_promoted
{
    uint32_t n_keys;
    int8_t *statuses; /* OK, NOT_FOUND, SIZE_MISMATCH, AGAIN */
    uint32_t n_records;
    struct pc_record *records; /* Of those that are OK, in order. */
};

/* Values of the keys whose status is OK follow in the body, in order. */
struct pc_msg_pages
{
    uint64_t incarnation;
    uint32_t n_keys;
    int8_t *statuses; /* OK, NOT_FOUND, SIZE_MISMATCH, AGAIN */
    uint64_t *generations;
    uint64_t *lengths; /* What is stored, also for SIZE_MISMATCH. */
    uint64_t *checksums;
};

struct pc_msg_why
{
    struct pc_digest digest;
};

/* What a node knows of a key, as the directory's owner and as a holder. */
struct pc_msg_because
{
    uint64_t view;
    bool owner; /* By that view. */
    bool held;  /* In its own pool. */
    bool published;
    uint64_t generation, length, checksum; /* Of the held one. */
    uint32_t n_records;                    /* Those of the shard. */
    uint8_t *dead; /* 1: its holder is known to be dead; lookups leave it out.
                    */
    struct pc_record *records;
    uint32_t n_holders;
    struct pc_member *holders;
    bool on_disk; /* In its disk tier; length and checksum are then of that, if
                   * it is not held. */
};

struct pc_msg_ping
{
    uint64_t token;
};

struct pc_msg_failed
{
    int32_t status;
    char reason[PC_REASON_MAX];
};

struct pc_msg
{
    enum pc_msg_type type;
    uint64_t request; /* 0 for notices. */
    union
    {
        struct pc_msg_hello hello;
        struct pc_msg_reject reject;
        struct pc_msg_beat beat;
        struct pc_msg_table table;
        struct pc_msg_lookup lookup;
        struct pc_msg_found found;
        struct pc_msg_publish publish;
        struct pc_msg_published published;
        struct pc_msg_touch touch;
        struct pc_msg_statuses statuses;
        struct pc_msg_read read;
        struct pc_msg_pages pages;
        struct pc_msg_promoted promoted;
        struct pc_msg_remove remove;
        struct pc_msg_region region;
        struct pc_msg_ping ping;
        struct pc_msg_failed failed;
        struct pc_msg_probe probe;
        struct pc_msg_probed probed;
        struct pc_msg_drain drain;
        struct pc_msg_drained drained;
        struct pc_msg_why why;
        struct pc_msg_because because;
        struct pc_msg_summary summary;
        struct pc_msg_summarized summarized;
        struct pc_msg_list list;
        struct pc_msg_listed listed;
        struct pc_msg_stale stale;
    } u;
};

/* Memory of one message: grows in chunks, freed at once. Not thread-safe. */
struct pc_arena
{
    struct pc_arena_chunk *chunks;
    size_t limit; /* Bytes in all; more is a failure. 0: 8 MiB. */
    size_t used;
};

void pc_arena_init(struct pc_arena *arena, size_t limit);
void pc_arena_fini(struct pc_arena *arena);
/* Zeroed, aligned to 16; NULL: no memory, or over the limit. */
void *pc_arena_alloc(struct pc_arena *arena, size_t n, size_t size);
/* Free all, keep one chunk for the next message. */
void pc_arena_reset(struct pc_arena *arena);

/* Header and body of a message, in memory from pc_alloc that the caller frees
 * with pc_free. INVALID: it breaks a limit. NO_MEMORY. */
peercache_status_t pc_msg_encode(const struct pc_msg *msg, uint8_t **bytes_p,
                                 size_t *len_p);
/* PROTOCOL: malformed; VERSION: another protocol version; NO_MEMORY: also if
 * the arena's limit is reached. After an error type and request are what the
 * header says (0 if there is none), type may be an unknown number, and u is
 * cleared. A TABLE of 4096 members decodes into 1.2 MiB, and each former view
 * as much. */
peercache_status_t pc_msg_decode(struct pc_blob bytes, struct pc_arena *arena,
                                 struct pc_msg *msg);
const char *pc_msg_name(enum pc_msg_type type);

#endif /* PC_PROTO_MSG_H */
