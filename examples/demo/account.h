/*
 * account.h - what the driver knows: who holds which page, and the sums.
 *
 * A page has a live holder for certain when a living node stored it while no
 * other had it. When a node puts a page that another one has or had (its get
 * failed, or that node was killed, which the others notice only a little
 * later), the put may have been skipped as not needed, so either of them is the
 * holder; then the page counts only while all of them live. Pools are large
 * enough that nothing is evicted.
 */
#ifndef DEMO_ACCOUNT_H
#define DEMO_ACCOUNT_H

#include "worker.h"
#include "workload.h"

#include <stdbool.h>
#include <stdint.h>

struct account
{
    const struct workload *workload;
    unsigned alive;     /* Bit per node. */
    uint8_t *sure;      /* Page: nodes that hold it for certain. */
    uint8_t *maybe;     /* Page: one of these holds it. */
    uint8_t *computing; /* Page: requests that may store it now. */

    /* Sums over the replay. */
    uint64_t n_requests, n_asked, n_put, n_put_failed;
    uint64_t n_hit;        /* Delivered as part of a leading run. */
    uint64_t by_mode[256]; /* Letters of worker.h. */
    uint64_t n_live, n_live_found;

    /* Sums over all calls. */
    uint64_t n_calls, n_late, n_errors, wrong_bytes;
    uint64_t slowest_ns;
    char slowest[16];
    unsigned slowest_node;
};

/* A request that a node works on. */
struct in_flight
{
    size_t number;
    bool *live; /* Page of the request: had a live holder at the start. */
};

void account_init(struct account *account, const struct workload *workload);
void account_fini(struct account *account);
bool account_is_live(const struct account *account, uint32_t page);
/* A node that holds the page for certain and lives; -1: nobody. */
int account_holder(const struct account *account, uint32_t page);
/* Whether another request is computing a page that this one lacks: it waits,
 * as a server would let it. */
bool account_must_wait(const struct account *account, size_t number);
void account_begin(struct account *account, struct in_flight *flight,
                   size_t number);
/* The node's "done" line. */
void account_done(struct account *account, struct in_flight *flight,
                  unsigned node, const char *line);
/* The node was killed in the middle of it (flight may be NULL). */
void account_killed(struct account *account, struct in_flight *flight,
                    unsigned node);
/* The calls that a "done" or "measured" line tells of. */
void account_calls(struct account *account, unsigned node, const char *line);

#endif /* DEMO_ACCOUNT_H */
