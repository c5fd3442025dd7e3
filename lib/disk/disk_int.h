/*
 * disk_int.h - what the files of lib/disk share: the state under the lock, and
 * who does what.
 *
 *     segment:  SPARE ─► ACTIVE ─► SEALING ─► SEALED ─► RECLAIMED ─► DOOMED
 *                         found at open: FOUND ──┴─────────┘
 *
 * The log has one head, the ACTIVE segment. A place in it is given under the
 * lock, so the order of places is the order of events: of two records of one
 * digest, or a record and a tombstone, the one with the later place (segment
 * number, then offset) is true. Segments go in the order they were made, so
 * what a tombstone stands against is always gone before the tombstone is.
 *
 * Threads: workers take reads and batches of writes; one keeper makes spare
 * segments, seals, reclaims, unlinks and recovers. Only the keeper changes the
 * list of segments, but for the head (workers) and clear (any thread), which
 * dooms them: after each taking of the lock the keeper looks at the state
 * again. A file stays open while somebody holds a reference to its segment;
 * of the others the one that was not used for the longest time is closed when
 * there are too many, and opened again when it is needed.
 */
#ifndef PC_DISK_DISK_INT_H
#define PC_DISK_DISK_INT_H

#include "base/assert.h"
#include "base/list.h"

#include "disk.h"
#include "file.h"
#include "format.h"
#include "index.h"
#include "scan.h"

#include <pthread.h>

enum pc_disk_segment_state {
    PC_DISK_SPARE,
    PC_DISK_ACTIVE,
    PC_DISK_SEALING, /* Full: waits for its last writes, then for the keeper. */
    PC_DISK_SEALED,
    PC_DISK_FOUND, /* At open; not indexed yet. */
    PC_DISK_RECLAIMED,
    PC_DISK_DOOMED /* In disk->doomed: its records are not in the index. */
};

struct pc_disk_segment
{
    struct pc_list link;
    uint64_t number, nonce;
    uint64_t size; /* Of the file. */
    uint64_t tail; /* Active: where the next batch begins. */
    enum pc_disk_segment_state state;
    struct pc_disk_file file;
    uint64_t used_at; /* By disk->n_uses. */
    uint16_t slot;    /* In disk->slots. */
    bool failed;      /* A write or sync failed: nothing more goes here. */
    bool read_only;
    bool partial;  /* Entries are missing: it cannot have an index block. */
    bool by_index; /* Its entries come from its index block. */
    bool doubted;  /* A record was not where the index block said. */
    bool unlinked;
    uint32_t n_refs;    /* Who uses the file. */
    uint32_t n_writing; /* Batches under way. */
    uint32_t n_live, n_marks;
    uint32_t n_assigned; /* Entries that the index block will have. */
    struct pc_disk_entries entries; /* Until it is sealed. */
};

enum pc_disk_request_kind {
    PC_DISK_REQUEST_WRITE,
    PC_DISK_REQUEST_REMOVE,
    PC_DISK_REQUEST_CARRY,
    PC_DISK_REQUEST_READ
};

struct pc_disk_request
{
    struct pc_list link;
    enum pc_disk_request_kind kind;
    enum pc_disk_result result;
    struct pc_digest digest;
    uint64_t length, checksum, tag;
    const void *value;
    void *buffer;
    pc_disk_write_fn written;
    pc_disk_read_fn read;
    void *arg;
    uint64_t epoch; /* Of the disk when it was queued: clear counts it up. */
    uint32_t item;  /* In the index, when it has a place in the log; a remove
                     * has its mark from the beginning. */
    uint32_t at;
    struct pc_disk_segment *from; /* Carry: where it is now. */
    uint32_t from_at;
    uint8_t hits;
    bool any_key;
    uint16_t name_space_len, key_len;
    unsigned char names[];
};

struct pc_disk_clear
{
    struct pc_list link;
    pc_disk_write_fn done;
    void *arg;
};

/* What one thread is doing. */
struct pc_disk_worker
{
    struct pc_list link; /* In disk->busy while it has requests of others. */
    struct pc_disk *disk;
    struct pc_list requests; /* Under way. */
    struct pc_list ended;    /* Their done functions are due. */
    struct pc_disk_segment *segment;
    uint64_t start, len; /* Of a batch. */
    unsigned char *buffer;
    unsigned char *second; /* The keeper's: PC_DISK_AHEAD of them. */
    bool suspended;        /* In the kernel: close need not wait. */
    bool abandoned;        /* Close has called the done functions. */
    bool must_sync;
    bool runs;
    pthread_t thread;
};

struct pc_disk
{
    struct pc_disk_params params; /* With path and node_id of our own. */
    const struct pc_disk_io *io;
    char *path;
    char node_id[PC_DISK_NODE_ID_MAX + 1];
    int dir, lock_file;
    uint64_t random; /* State for nonces. Keeper. */
    bool has_lock;

    pthread_mutex_t lock;
    pthread_cond_t work, keep, changed;

    /* All below: under the lock, but while it is being opened: then the one who
     * opens has files and segments alone. */
    bool opening, unattended;
    peercache_status_t opened; /* What came of it, and in a sentence. */
    char *open_error;
    bool closing, stop;
    bool muted;    /* Close has told everybody: no more calls. */
    bool detached; /* Close does not wait any more: the last thread frees. */
    bool direct, direct_known;
    uint32_t n_running; /* Threads that have not ended. */
    uint32_t n_reading, n_batches;
    uint32_t n_calling; /* Threads that call done functions. */

    struct pc_list reads, writes; /* Requests that nobody works on. */
    uint32_t n_reads;
    uint32_t n_told_removes; /* Those with a done function. */
    uint64_t queued_bytes;
    uint64_t epoch;
    struct pc_list busy;   /* Workers. */
    struct pc_list clears; /* Done when nothing is doomed any more. */

    struct pc_disk_index index;
    struct pc_list segments; /* By number, the oldest first. */
    struct pc_list doomed;
    struct pc_disk_segment *active, *spare;
    struct pc_disk_segment **slots;
    size_t n_slots;
    uint64_t n_uses; /* Of files: which one was used last. */
    uint64_t next_number;
    uint64_t want_size; /* Of the spare: a writer waits for it. 0: nobody. */
    bool keeping;       /* The keeper is at work. */
    uint64_t n_signals; /* To the keeper: none is lost while it is. */
    bool some_empty, some_doubted;
    uint64_t used, live, n_records;
    uint64_t aside_bytes;
    uint64_t free_bytes; /* Of the file system, when last looked at. */
    /* The file system had no space although it said so, as with a quota: the
     * oldest segment goes before the next file is made. */
    bool refused;
    uint32_t n_refused; /* Times in a row. Keeper. */

    bool recovering;
    /* An entry was left out, for want of memory or room in the index: nothing
     * older is indexed. */
    bool blind;
    /* There may be records on disk that the index does not know: a remove
     * writes its tombstone also for what is not found. */
    bool unsure;
    bool forgot_marks; /* The index does not know every tombstone any more. */
    bool unopened;     /* A file that clear does not unlink either. */
    uint64_t recovery_began_ns, check_at_ns, unlink_at_ns;
    enum pc_disk_state state;
    enum pc_disk_result failure;
    uint64_t paused_until_ns, pause_ns;
    struct pc_disk_stats counts; /* Counters only. */

    unsigned char *stages; /* The buffers of all workers and the keeper. */
    struct pc_disk_worker keeper;
    uint32_t n_workers;
    struct pc_disk_worker workers[];
};

static inline void pc_disk_lock(struct pc_disk *disk)
{
    (void)pthread_mutex_lock(&disk->lock);
}

static inline void pc_disk_unlock(struct pc_disk *disk)
{
    (void)pthread_mutex_unlock(&disk->lock);
}

static inline void pc_disk_wake_keeper(struct pc_disk *disk)
{
    disk->n_signals++;
    (void)pthread_cond_signal(&disk->keep);
}

/* Half of the workers write at most. Lock held. */
static inline bool pc_disk_may_write(const struct pc_disk *disk)
{
    return disk->n_batches < (disk->n_workers + 1) / 2;
}

/* For what was queued. While as many write as may, whoever ends looks again:
 * to wake another would cost each put a switch, and it would only lie down
 * again. Lock held. */
static inline void pc_disk_wake_writer(struct pc_disk *disk)
{
    if (pc_disk_may_write(disk)) {
        (void)pthread_cond_signal(&disk->work);
    }
}

static inline uint64_t pc_disk_now(const struct pc_disk *disk)
{
    return pc_clock_now(&disk->params.clock);
}

/* ---- disk.c: entries and requests; the lock is held ------------------- */

struct pc_disk_segment *pc_disk_segment_of(const struct pc_disk *disk,
                                           const struct pc_disk_item *item);
/* The entry that can be read, or PC_DISK_NONE. */
uint32_t pc_disk_find(const struct pc_disk *disk, struct pc_digest digest);
/* Take an entry out and its counts with it. */
void pc_disk_drop(struct pc_disk *disk, uint32_t id);
/* Without a tombstone: not found again until the next start, and a later remove
 * of it writes one. */
void pc_disk_hide(struct pc_disk *disk, struct pc_digest digest);
/* A record has become readable (or a tombstone true): what is older goes. */
void pc_disk_settle(struct pc_disk *disk, uint32_t id);
bool pc_disk_is_later(const struct pc_disk *disk, const struct pc_disk_item *a,
                      const struct pc_disk_item *b);
struct pc_disk_place pc_disk_place_of(const struct pc_disk_item *item);
/* Before the lock is given back: functions of the caller are going to be
 * called. False: close has returned, they must not. Close waits for the end. */
bool pc_disk_begin_calls(struct pc_disk *disk);
void pc_disk_end_calls(struct pc_disk *disk); /* Lock not held. */
/* Call the done functions and free the requests, between begin and end. */
void pc_disk_end_all(struct pc_disk *disk, struct pc_list *requests);
/* Count a refused or failed write. */
void pc_disk_count_dropped(struct pc_disk *disk, enum pc_disk_result result);
/* Take out the entries of one segment, or of all segments (NULL). Calls gone.
 * The lock is not held. Keeper. */
void pc_disk_forget(struct pc_disk *disk, struct pc_disk_segment *segment,
                    enum pc_disk_gone why);

/* What a queued write counts for: its value, and what we keep of it. */
static inline uint64_t pc_disk_cost(uint64_t length, uint64_t names_len)
{
    return length + names_len + sizeof(struct pc_disk_request);
}

/* ---- log.c: the head of the log --------------------------------------- */

/* Give the requests that are first in the queue their places. False: there is
 * nothing to write now. Lock held. */
bool pc_disk_take_batch(struct pc_disk *disk, struct pc_disk_worker *worker);
/* The same for records that are carried over, as many as one batch takes; those
 * that are not there any more go to `dropped`. False: no room. */
bool pc_disk_take_carried(struct pc_disk *disk, struct pc_disk_worker *worker,
                          struct pc_list *carried, struct pc_list *dropped);
/* Write what was taken and tell everybody. Lock not held. */
void pc_disk_write_batch(struct pc_disk *disk, struct pc_disk_worker *worker);
/* Writing has failed: no more for a while. Queued writes go to `ended`. Lock
 * held. */
void pc_disk_pause(struct pc_disk *disk, enum pc_disk_result why,
                   struct pc_list *ended);
/* The active segment takes no more. Lock held. */
void pc_disk_close_head(struct pc_disk *disk);

/* ---- read.c ------------------------------------------------------------ */

bool pc_disk_take_read(struct pc_disk *disk, struct pc_disk_worker *worker);
void pc_disk_do_read(struct pc_disk *disk, struct pc_disk_worker *worker);

/* Read a record and prove it. The sink gets the value in parts; false from it
 * ends the read. *names_p: in the buffer, until the next call. */
struct pc_disk_proof
{
    struct pc_disk_segment *segment;
    struct pc_disk_item item;
    struct pc_disk_worker *worker;
    unsigned char *buffer;
    bool (*names)(void *arg, const struct pc_disk_record *record,
                  const unsigned char *names);
    bool (*sink)(void *arg, const unsigned char *bytes, size_t len);
    void *arg;
    bool sums; /* The sink checks the checksum. */
};
enum pc_disk_result pc_disk_prove(struct pc_disk *disk,
                                  const struct pc_disk_proof *proof);

/* Around each call that may hang in the kernel, and only there, close may take
 * the worker's requests away: then resume is false, and they must not be
 * touched. */
void pc_disk_suspend(struct pc_disk_worker *worker);
bool pc_disk_resume(struct pc_disk_worker *worker);

/* ---- segment.c: files --------------------------------------------------- */

/* Make, allocate and head a new file. Keeper, lock not held. */
enum pc_disk_result pc_disk_make_spare(struct pc_disk *disk, uint64_t size);
/* Note whether an error says that there is no space left. Lock held. */
void pc_disk_note_refusal(struct pc_disk *disk, int error);
/* Take a slot; false: no memory. Lock held. */
bool pc_disk_add_slot(struct pc_disk *disk, struct pc_disk_segment *segment);
void pc_disk_unref(struct pc_disk *disk, struct pc_disk_segment *segment);
/* Its file goes; its entries must be gone already. Lock held. */
void pc_disk_doom(struct pc_disk *disk, struct pc_disk_segment *segment);
/* Unlink the oldest doomed segment; true: did something. Keeper. */
bool pc_disk_unlink_doomed(struct pc_disk *disk);
int pc_disk_open_segment(struct pc_disk *disk, const char *name, unsigned flags,
                         struct pc_disk_file *file_p);
void pc_disk_close_file(struct pc_disk_file *file);
/* Let the file of a segment be open, for as long as the caller has its
 * reference. Lock not held. */
int pc_disk_need_file(struct pc_disk *disk, struct pc_disk_segment *segment);
/* Close what is over the bound. Lock not held. */
void pc_disk_limit_files(struct pc_disk *disk);
void pc_disk_count_error(struct pc_disk *disk);
/* Sync what was written to segments that are not sealed. Keeper. */
void pc_disk_sync_heads(struct pc_disk *disk);

/* ---- seal.c -------------------------------------------------------------- */

/* Write index block and footer of a segment in state SEALING. Keeper. */
void pc_disk_seal(struct pc_disk *disk, struct pc_disk_segment *segment);

/* ---- reclaim.c, recover.c, open.c ---------------------------------------- */

/* Free the space of the oldest segment. Keeper; false: there is none. */
bool pc_disk_reclaim(struct pc_disk *disk);
/* Segments of which nothing can be found any more. */
bool pc_disk_free_empty(struct pc_disk *disk);
/* Open the directory, list what is there, and say so. Keeper, or the one who
 * opens where there is none. */
void pc_disk_enter(struct pc_disk *disk);
/* Index the newest segment that is not yet. Keeper; false: all are. */
bool pc_disk_recover(struct pc_disk *disk);
/* Scan a segment whose index block has lied. Keeper; false: none. */
bool pc_disk_rescan(struct pc_disk *disk);
/* The directory is gone: forget everything. Keeper. */
void pc_disk_lose(struct pc_disk *disk);
void pc_disk_free(struct pc_disk *disk);

/* ---- work.c ---------------------------------------------------------------
 */

/* One piece of the keeper's work; false: none. *due_p: when there may be. */
bool pc_disk_keep(struct pc_disk *disk, uint64_t *due_p);
bool pc_disk_start_threads(struct pc_disk *disk);

#endif /* PC_DISK_DISK_INT_H */
