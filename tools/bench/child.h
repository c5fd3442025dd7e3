/*
 * child.h - the coordinator's side of actors: start them, give orders, read
 * their processor time from outside.
 */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "bench.h"

#include <sys/types.h>

struct bench_child
{
    pid_t pid; /* 0: none. */
    int fd;
};

/* An owner and its reader. */
struct bench_pair
{
    struct bench_setup setup;
    struct bench_child owner;
    struct bench_child reader;
};

/* Fills setup.side and setup.place. False: why says what is wrong. */
bool bench_pair_start(struct bench_pair *pair, const struct bench_setup *setup,
                      char *why);
void bench_pair_stop(struct bench_pair *pair);
/* False: the reader is gone. */
bool bench_pair_order(struct bench_pair *pair, enum bench_verb verb,
                      uint64_t duration_ns, struct bench_report *report);
/* Text of the reader's node, to be freed; NULL if there is none. */
char *bench_pair_info(struct bench_pair *pair);
/* A raw owner that polls would take a core from others: it stands still while
 * it is not its turn. */
void bench_pair_rest(struct bench_pair *pair, bool rest);
/* Processor time of both so far, of all their threads. */
uint64_t bench_pair_cpu(const struct bench_pair *pair);
uint64_t bench_child_cpu(const struct bench_child *child);

#endif /* BENCH_CHILD_H */
