/*
 * bench.h - what the benchmark's coordinator and its actors tell each other.
 *
 * The coordinator starts every actor as a process of its own (fork and exec,
 * before anything else happens in it) and talks to it over a socket pair: one
 * setup, then orders, each answered by one report.
 *
 *     coordinator ── setup, RUN, SCAN, STOP ──► reader ── reads ──► owner
 *          └──────── setup, STOP ─────────────────────────────────────┘
 *
 * Ours and its limit are the same kind of pair, only the system differs; so
 * both have the same pages, order, batches, threads and checks. Actors of raw
 * systems are programs that do not link the library.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BENCH_CHANNEL_FD = 3, /* The actor's end of the socket pair. */
    BENCH_PLACE_MAX = 4096,
    BENCH_SETTINGS_MAX = 8192,
    BENCH_TEXT_MAX = 256,
    BENCH_INFO_MAX = 128 * 1024,
    BENCH_THREADS_MAX = 256,
    BENCH_KEY_LEN = 64, /* As SGLang's: a SHA-256 in hexadecimal digits. */
    BENCH_N_SOURCES = 6 /* Values of peercache_source_t. */
};

enum bench_system_id {
    BENCH_OURS,
    BENCH_MEMCPY,    /* Copies out of another process's shared memory. */
    BENCH_COPY_HASH, /* A copy and XXH3 of it, as a local put does. */
    BENCH_TCP,       /* Request and reply of pages over loopback TCP. */
    BENCH_KEYS,      /* Keys asked and answered over loopback TCP. */
    BENCH_UCX,       /* Bare ucp_get over loopback TCP. */
    BENCH_N_SYSTEMS
};

enum bench_op { BENCH_GET, BENCH_SET, BENCH_EXISTS };
enum bench_side { BENCH_OWNER, BENCH_READER };

/* How a reader finds its owner: a port, a segment, an address. */
struct bench_place
{
    uint32_t len;
    unsigned char bytes[BENCH_PLACE_MAX];
};

struct bench_setup
{
    enum bench_system_id system;
    enum bench_side side;
    enum bench_op op;
    uint32_t variant; /* Of the raw system: what is tried for the best. */
    uint32_t page_size;
    uint32_t n_pages; /* Working set. */
    uint32_t batch;
    uint32_t run; /* Pages read in the order they were put in. */
    uint32_t n_threads;
    uint32_t n_pieces; /* Of a page in the user's memory. */
    bool registered;
    bool reader_is_client;             /* Ours: no pool, no directory. */
    struct bench_place place;          /* Reader: of its owner. */
    char settings[BENCH_SETTINGS_MAX]; /* Ours: "name=value" lines. */
};

enum bench_verb {
    BENCH_RUN,  /* Batches for a time. */
    BENCH_SCAN, /* Every page once, every byte verified. */
    BENCH_INFO, /* Text of peercache_node_info. */
    BENCH_STOP
};

struct bench_order
{
    enum bench_verb verb;
    uint64_t duration_ns;
};

struct bench_report
{
    bool ok;
    char why[BENCH_TEXT_MAX]; /* Of the first page that was not OK. */
    uint64_t n_batches;
    uint64_t n_pages;   /* Asked for. */
    uint64_t n_hits;    /* Answered OK. */
    uint64_t n_wrong;   /* Verified and found to be other bytes. */
    uint64_t n_checked; /* Verified. */
    uint64_t elapsed_ns;
    uint64_t check_ns; /* Of all threads; not in elapsed_ns nor in rate. */
    double rate;       /* Pages a second, summed over threads. */
    uint64_t sources[BENCH_N_SOURCES];
    struct bench_histogram latency; /* Of batches. */
};

/* An owner's first report: ready, and where. */
struct bench_ready
{
    bool ok;
    char why[BENCH_TEXT_MAX];
    struct bench_place place;
};

uint64_t bench_now(void);
/* Memory for pages: aligned, faulted in, huge pages where there are any. */
void *bench_memory(size_t len);
void bench_memory_free(void *memory, size_t len);
/* Zeroed memory of the kind that a pool is of: a SysV segment, which other
 * processes attach by *id_p. Given back with shmdt; NULL: there is none. */
void *bench_shared_memory(size_t len, int *id_p);

#endif /* BENCH_BENCH_H */
