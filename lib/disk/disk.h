/*
 * disk.h - values on disk: a log of append-only segments in one directory.
 *
 *     segment:  header block | record | record | ... | index block, footer
 *     record:   64-byte header, namespace, key, value   (format.h)
 *
 *     a write:  queued ─► in a batch ─► written, found ─► synced with its
 *                  │         │                            segment
 *                  └─────────┴─► dropped, with the reason
 *
 * What is on disk stays on disk over restarts: opening the directory finds its
 * segments, newest first, in the background; what a segment holds is found as
 * soon as that segment's index block has been read, or the segment has been
 * scanned if it has none, or one that lies. When the bound on bytes is reached,
 * the oldest segment goes; those of its records that were read since they were
 * written are carried over. Removed values leave a tombstone.
 *
 * No byte is delivered that has not proven itself: what a read gives back was
 * compared with digest, key, length and checksum. Whatever fails is a result
 * other than OK, and is counted.
 *
 * Threads: any thread may call any function. One lock (a leaf) guards queue,
 * index and segments for a microsecond at a time; nobody holds it while
 * anything is read, written, copied or called back. Only open, close and turn
 * may wait for a disk. Done functions are called once, from an I/O thread, with
 * no lock held, never inside the call that started the work; they may call
 * anything here but close.
 */
#ifndef PC_DISK_DISK_H
#define PC_DISK_DISK_H

#include "base/clock.h"
#include "base/digest.h"

#include "io.h"

struct pc_disk;

/* X(ID, name): how a request ended, and the labels of the counters. */
#define PC_DISK_RESULT_MAP(X)                                                  \
    X(OK, "ok")                                                                \
    X(PRESENT, "present")     /* Write: the same value is there already. */    \
    X(ABSENT, "absent")       /* No such record, or none any more. */          \
    X(QUEUE_FULL, "queue")    /* The bound of the queue is reached. */         \
    X(TOO_LARGE, "too_large") /* Not in a directory of this size. */           \
    X(NO_SPACE, "no_space")   /* The file system is full. */                   \
    X(READ_ONLY, "read_only")                                                  \
    X(IO, "io")             /* The disk could not. */                          \
    X(CORRUPT, "corrupt")   /* What was read is not what was written. */       \
    X(MISMATCH, "mismatch") /* Read: another key or length than asked. */      \
    X(REMOVED, "removed")   /* Removed or replaced while under way. */         \
    X(LOST, "lost")         /* No directory: gone, or not there yet. */        \
    X(CLOSED, "closed")                                                        \
    X(NO_MEMORY, "no_memory")

enum pc_disk_result {
#define PC_DISK_RESULT_ENUM(id, name) PC_DISK_##id,
    PC_DISK_RESULT_MAP(PC_DISK_RESULT_ENUM)
#undef PC_DISK_RESULT_ENUM
        PC_DISK_N_RESULTS
};

const char *pc_disk_result_name(enum pc_disk_result result);

/* When data is made safe from a crash of the machine (a crash of the process
 * alone loses nothing that was written). Tombstones are synced before they are
 * confirmed but with NEVER. */
enum pc_disk_sync {
    PC_DISK_SYNC_NEVER,  /* When the operating system likes. */
    PC_DISK_SYNC_SEAL,   /* When a segment is full, before its index block. */
    PC_DISK_SYNC_ALWAYS, /* Each batch, before its writes are done. */
};

/* A record that is on disk. */
struct pc_disk_place
{
    struct pc_digest digest;
    uint64_t length;
    uint64_t checksum;
    uint64_t tag; /* The caller's; 0 after a restart. */
};

enum pc_disk_gone {
    PC_DISK_GONE_RECLAIMED, /* Its segment was the oldest, space was needed. */
    PC_DISK_GONE_BAD,       /* It could not be read, or its bytes were wrong. */
    PC_DISK_GONE_LOST       /* The directory is gone or another one. */
};

struct pc_disk_params
{
    const char *path; /* This node's own directory; made if not there. */
    /* Whose values they are. Segments that say otherwise, and those of unknown
     * format, are set aside into a folder of the directory, not read. */
    const char *node_id;
    uint64_t seed; /* What digests are computed from: pc_digest_seed(). */
    /* Bytes of all files but those set aside. 4 to 4,096 segments. */
    uint64_t size;
    uint64_t segment_size; /* 0: chosen: a 128th, 1 to 256 MiB. */
    uint64_t max_records;  /* In the index; 0: size / 4 KiB. */
    /* Bytes that are accepted and not yet written: values, and what is kept of
     * each write. */
    uint64_t queue_bytes;
    uint32_t max_reads; /* Reads waiting; 0: 1,024. */
    /* Threads for reads and writes, one more works in the background. 0: no
     * thread at all, pc_disk_turn() does the work (simulation). */
    uint32_t n_threads;
    enum pc_disk_sync sync;
    /* Files of segments open at a time, those in use apart; 0: chosen, by what
     * the process may have open. */
    uint32_t max_files;
    bool buffered; /* Use the page cache even where direct I/O would work. */
    const struct pc_disk_io *io; /* NULL: the operating system's. */
    struct pc_clock clock; /* For pauses after errors. now NULL: system. */
    /* How long open waits for a directory that does not answer, as on a network
     * that is down: then it goes on in the background. 0: for ever. */
    uint64_t open_ns;
    /* Each may be NULL; called like done functions.
     * gone: a record that lookup has shown is not there any more for a reason
     * other than remove, clear or a newer write. recovered: all segments that
     * were there at open have been indexed. */
    void (*gone)(void *arg, const struct pc_disk_place *place,
                 enum pc_disk_gone why);
    void (*recovered)(void *arg);
    void *arg;
};

/*
 * Open the directory, lock it, list its segments and start the threads;
 * indexing goes on in the background. On failure *error_p (of pc_alloc, may be
 * NULL) says in a sentence what is wrong. INVALID: a parameter; ALREADY:
 * another process (or this one) has it open; IO, NO_SPACE, NO_MEMORY: what it
 * says. A read-only directory opens: its values can be read. Blocks,
 * with threads for open_ns at most: then OK, and the state is OPENING. Until
 * that ends, in RUNNING or GONE, nothing is found, nothing is accepted (LOST),
 * and so no removal is confirmed.
 */
peercache_status_t pc_disk_open(const struct pc_disk_params *params,
                                struct pc_disk **disk_p, char **error_p);

/*
 * Take no more work, write what is queued and seal the segment, at most for
 * timeout_ns; then what is left is dropped (CLOSED). After this no done
 * function is called and no caller's memory is touched. If a thread still
 * hangs in the kernel after that, false: it keeps what it needs (io and clock
 * must stay), and the directory stays locked until it returns; else all is
 * freed and true. Either way the disk must not be used any more. NULL: true.
 */
bool pc_disk_close(struct pc_disk *disk, uint64_t timeout_ns);

/* Without threads: do one piece of work; false: there is none to do now. */
bool pc_disk_turn(struct pc_disk *disk);

/* Write: OK: in the log and found by lookup. */
typedef void (*pc_disk_write_fn)(void *arg, enum pc_disk_result result);

struct pc_disk_write
{
    struct pc_digest digest;
    const void *name_space; /* These are copied. */
    size_t name_space_len;
    const void *key;
    size_t key_len;
    const void *value; /* Stays as it is (a pin) until done is called. */
    uint64_t length;
    uint64_t checksum; /* pc_checksum() of the value. */
    uint64_t tag;      /* For lookups; not on disk. */
    pc_disk_write_fn done;
    void *arg;
};

/*
 * Queue a value; never waits. OK: done will be called. Anything else: it will
 * not, nothing was kept: PRESENT (a record with this digest, length and
 * checksum is there: its tag stays), QUEUE_FULL (the newest is the one that is
 * dropped), TOO_LARGE, NO_SPACE, READ_ONLY and IO (writing has just failed and
 * is not tried for a while), LOST, CLOSED, NO_MEMORY. All are counted.
 */
enum pc_disk_result pc_disk_write(struct pc_disk *disk,
                                  const struct pc_disk_write *write);

/* What a read found. On OK the key as it is on disk, for as long as the call
 * lasts; otherwise NULL. */
struct pc_disk_found
{
    struct pc_disk_place place;
    const void *name_space;
    size_t name_space_len;
    const void *key;
    size_t key_len;
};

/* OK: the buffer has the value, proven; otherwise its content is undefined. */
typedef void (*pc_disk_read_fn)(void *arg, enum pc_disk_result result,
                                const struct pc_disk_found *found);

struct pc_disk_read
{
    struct pc_digest digest;
    /* The key that the record must have, copied; key NULL: any. */
    const void *name_space;
    size_t name_space_len;
    const void *key;
    size_t key_len;
    void *buffer;    /* `length` bytes, written until done is called. */
    uint64_t length; /* As lookup says; another one is MISMATCH. */
    pc_disk_read_fn done;
    void *arg;
};

/* Queue a read; never waits. OK: done will be called. Otherwise it will not:
 * ABSENT, MISMATCH, QUEUE_FULL (max_reads are waiting), LOST, CLOSED,
 * NO_MEMORY. A read makes the record worth carrying over. */
enum pc_disk_result pc_disk_read(struct pc_disk *disk,
                                 const struct pc_disk_read *read);

/* Is there a record that can be read? From memory. While segments are being
 * indexed false may mean "not yet" (pc_disk_recovering). */
bool pc_disk_lookup(struct pc_disk *disk, struct pc_digest digest,
                    struct pc_disk_place *place_p);
bool pc_disk_recovering(struct pc_disk *disk);
/* Set the tag of a record; false: there is none with this digest and length. */
bool pc_disk_set_tag(struct pc_disk *disk, struct pc_digest digest,
                     uint64_t length, uint64_t tag);

/* Up to n records from the cursor on (start with 0); 0: that was all. Sees
 * every record that is there from the first call to the last; one that comes
 * meanwhile may be missed, which its tag then shows. */
size_t pc_disk_list(struct pc_disk *disk, uint64_t *cursor,
                    struct pc_disk_place *places, size_t n);

/*
 * Remove a value. Lookups do not find it from here on, also if it is in the
 * queue; done is called when a tombstone is on disk, so that it stays removed
 * over a restart (OK), or when there was nothing to remove (ABSENT), or with
 * what went wrong: then it may come back at the next start. The result of the
 * call: OK, or QUEUE_FULL, LOST, CLOSED, NO_MEMORY: not removed, done is not
 * called. A write that is queued later is not touched.
 *
 * done NULL: nobody could be told of a full queue, so it never is. Only for
 * what lookup has just shown, or what the caller has queued itself: then there
 * are never more of these than records and queued writes. NO_MEMORY: not found
 * any more, but there will be no tombstone.
 */
enum pc_disk_result pc_disk_remove(struct pc_disk *disk,
                                   struct pc_digest digest,
                                   pc_disk_write_fn done, void *arg);
/* The same for everything: all segments are unlinked. */
enum pc_disk_result pc_disk_clear(struct pc_disk *disk, pc_disk_write_fn done,
                                  void *arg);

enum pc_disk_state {
    PC_DISK_RUNNING,
    PC_DISK_PAUSED, /* Writing failed; it is tried again later. */
    PC_DISK_GONE,   /* The directory is lost; until the next start. */
    PC_DISK_OPENING /* The directory does not answer yet. */
};

struct pc_disk_stats
{
    enum pc_disk_state state;
    enum pc_disk_result failure; /* Why it is not RUNNING. */
    bool direct; /* Files are read and written past the cache. */
    /* Gauges. */
    uint64_t capacity;  /* Bytes that files may have now: the bound, or less
                         * when the file system was full. */
    uint64_t used;      /* Bytes of files. */
    uint64_t live;      /* Bytes of records that can be found. */
    uint64_t n_records; /* That can be found. */
    uint64_t n_segments;
    uint64_t index_bytes;  /* Memory of the index. */
    uint64_t queued_bytes; /* Of values accepted and not yet written. */
    uint64_t n_queued_reads;
    uint64_t aside_bytes; /* Of files that were ever set aside. Not in used. */
    /* Counters. */
    uint64_t n_written, bytes_written;         /* On disk, not when queued. */
    uint64_t n_read, bytes_read;               /* Proven and delivered. */
    uint64_t n_dropped[PC_DISK_N_RESULTS];     /* Writes, by why. */
    uint64_t n_read_failed[PC_DISK_N_RESULTS]; /* Reads, by why. */
    uint64_t n_removed;                        /* Tombstones. */
    uint64_t n_reclaimed;       /* Records that went for space. */
    uint64_t n_carried;         /* Records that were carried over. */
    uint64_t n_sealed, n_freed; /* Segments. */
    uint64_t n_io_errors;       /* Of any call to the disk. */
    /* What was found at and since open. */
    uint64_t n_corrupt; /* Records whose bytes were wrong. */
    uint64_t
        n_bad_indexes;    /* Index blocks that lied; the segment is scanned. */
    uint64_t n_tails_cut; /* Segments whose end was torn. */
    uint64_t n_set_aside, bytes_set_aside;     /* Files. */
    uint64_t segments_found, segments_indexed; /* Progress. */
    uint64_t recovery_ns;                      /* So far, or what it took. */
};

void pc_disk_stats(struct pc_disk *disk, struct pc_disk_stats *stats_p);

#endif /* PC_DISK_DISK_H */
