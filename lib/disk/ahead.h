/*
 * ahead.h - a file read from its beginning to its end: while one part is looked
 * at, a thread of its own reads the next two. Two, so that it need not wait for
 * the one that looks when it has read one.
 *
 * One thread uses it. Between start and stop the buffers are its.
 */
#ifndef PC_DISK_AHEAD_H
#define PC_DISK_AHEAD_H

#include "file.h"

#include <pthread.h>

#define PC_DISK_STAGE ((size_t)1 << 20) /* Bytes of a buffer, at least. */
/* What a move may keep of the part before: a header with the longest names. */
#define PC_DISK_KEPT ((size_t)4 * PC_DISK_BLOCK)

enum { PC_DISK_AHEAD = 2 }; /* Parts. */

/* What came of reading a part ahead. */
struct pc_disk_ahead_part
{
    uint64_t at;
    size_t n;
    int error;
};

struct pc_disk_ahead
{
    const struct pc_disk_source *source;
    unsigned char *buffers[1 + PC_DISK_AHEAD];
    unsigned current; /* The buffer that the part lies in. */
    /* The part: bytes of the file from `start` on. */
    const unsigned char *bytes;
    uint64_t start;
    size_t len;

    bool runs;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    bool stop;
    bool goes_on; /* There is more to read from `next` on. */
    bool reading; /* Into the buffer behind those that are ready. */
    uint64_t next;
    unsigned n_ready; /* Parts in the buffers behind the current one, */
    struct pc_disk_ahead_part parts[1 + PC_DISK_AHEAD]; /* by buffer. */
};

/* An aligned buffer of PC_DISK_STAGE, and PC_DISK_AHEAD more, one behind the
 * other. Without more (NULL), or where no thread can be started, nothing is
 * read ahead. */
void pc_disk_ahead_start(struct pc_disk_ahead *ahead,
                         const struct pc_disk_source *source,
                         unsigned char *buffer, unsigned char *more);
void pc_disk_ahead_stop(struct pc_disk_ahead *ahead);

/* Let the part begin at `start`, a multiple of PC_DISK_BLOCK, with
 * PC_DISK_STAGE less PC_DISK_KEPT bytes at least, or what the file has. On an
 * error there is no part. */
int pc_disk_ahead_move(struct pc_disk_ahead *ahead, uint64_t start);
/* The same without reading ahead, and of no more than len bytes. */
int pc_disk_ahead_jump(struct pc_disk_ahead *ahead, uint64_t start, size_t len);
/* Zeros in place of what cannot be read. */
void pc_disk_ahead_blank(struct pc_disk_ahead *ahead, uint64_t start,
                         size_t len);

#endif /* PC_DISK_AHEAD_H */
