/*
 * ledger.h - shared memory that a killed process left behind.
 *
 * UCX allocates a System V segment, attaches it and only then marks it to go
 * with its last user: a process that is killed in between leaves it for good.
 * So each fabric has a small file beside the shared memory, which says what it
 * is about to allocate, and holds a lock on it for as long as it lives. The
 * next fabric to open finds files whose lock is free and removes what their
 * owners were just making.
 *
 * A segment goes only if everything fits: its owner is dead (the lock is the
 * kernel's word, whatever the process number is now and in which name space),
 * the segment is private, ours, attached by nobody, of the length and the time
 * that the file says, and no living owner is making one like it. One lock; any
 * thread.
 */
#ifndef PC_UCX_LEDGER_H
#define PC_UCX_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PC_UCX_LEDGER_FOLDER "/dev/shm"
#define PC_UCX_LEDGER_PREFIX "peercache-shm-"

/* A ledger's content; always written as a whole. */
struct pc_ucx_ledger_page
{
    uint64_t magic;
    uint64_t boot;      /* Of the machine. */
    uint64_t pid_space; /* Name space that pid is of. */
    uint64_t ipc_space;
    uint64_t pid;
    uint64_t is_making; /* 1 between begin and end. */
    uint64_t len;       /* 0: any that UCX makes for itself. */
    uint64_t time_s;    /* When begin was called. */
    uint64_t checksum;  /* Of the above. */
};

struct pc_ucx_ledger
{
    pthread_mutex_t lock; /* Held from begin to end. */
    int fd;               /* -1: there is none, nothing is written down. */
    char path[64];
};

/* Remove what the dead left behind, then open a ledger of our own. */
void pc_ucx_ledger_open(struct pc_ucx_ledger *ledger);
void pc_ucx_ledger_close(struct pc_ucx_ledger *ledger);

/* Around each allocation of shared memory; len 0: several small ones. */
void pc_ucx_ledger_begin(struct pc_ucx_ledger *ledger, size_t len);
void pc_ucx_ledger_end(struct pc_ucx_ledger *ledger);

#endif /* PC_UCX_LEDGER_H */
