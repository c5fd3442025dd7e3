/*
 * system.h - what is measured: ours, or a raw system that does the same.
 *
 * A system is a table of functions that the actor (actor.c) drives. All
 * functions that can fail write why into their text and return false.
 */
#ifndef BENCH_SYSTEM_H
#define BENCH_SYSTEM_H

#include "bench.h"

/* One thread of a reader. */
struct bench_lane
{
    const struct bench_setup *setup;
    unsigned number;
    unsigned char *buffer; /* batch pages: where gets land. */
    void *reader;          /* The system's. */
    void *priv;            /* The system's, of this lane. */
    uint64_t round;        /* Of sets: each has keys of its own. */
    bool reads_back;       /* Sets: get into buffer what was put. */
    uint64_t sources[BENCH_N_SOURCES];
    char why[BENCH_TEXT_MAX]; /* First batch that was not whole, if any. */
};

struct bench_system
{
    const char *name;
    bool lands; /* Gets, and sets that read back, fill lane->buffer. */
    bool (*own)(const struct bench_setup *setup, struct bench_place *place,
                void **owner_p, char *why);
    /* Serve until the descriptor can be read; NULL: other threads serve. */
    void (*serve)(void *owner, int fd);
    void (*disown)(void *owner);
    bool (*open)(const struct bench_setup *setup, void **reader_p, char *why);
    void (*close)(void *reader);
    bool (*lane_open)(struct bench_lane *lane, char *why);
    void (*lane_close)(struct bench_lane *lane);
    /* One batch; how many pages were OK. */
    size_t (*batch)(struct bench_lane *lane, const uint32_t *pages, size_t n);
    /* JSON for people and reports, to be freed; may be NULL. */
    char *(*info)(void *reader);
};

/* Run the actor that the channel asks for; the exit status of its program. */
int bench_actor_main(const struct bench_system *const *systems, size_t n);

/* Reason of a failure, as printf. */
void bench_why(char *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

extern const struct bench_system bench_memcpy;
extern const struct bench_system bench_copy_hash;
extern const struct bench_system bench_tcp;
extern const struct bench_system bench_keys;
extern const struct bench_system bench_ucx;
extern const struct bench_system bench_ours;

#endif /* BENCH_SYSTEM_H */
