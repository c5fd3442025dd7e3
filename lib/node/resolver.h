/*
 * resolver.h - looks up the names of seeds, again and again.
 *
 * getaddrinfo blocks, sometimes for long: a thread of its own calls it, which
 * nobody waits for. It shares nothing with the node but this, and whoever is
 * the last to use it frees it.
 */
#ifndef PC_NODE_RESOLVER_H
#define PC_NODE_RESOLVER_H

#include "proto/limits.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PC_SEEDS_MAX 64

/* An address of a name. */
struct pc_resolved
{
    char address[PC_ADDRESS_MAX];
    int name;
};

/* Names are set before the start and do not change; the rest under the lock. */
struct pc_resolver
{
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned refs;
    /* pc_names_resolve_all, or a test's. */
    size_t (*resolve)(const char *host, uint16_t port,
                      char (*addresses)[PC_ADDRESS_MAX], size_t max);
    bool stopping;
    bool wanted;
    bool fresh; /* An answer that nobody has looked at. */
    size_t n_names;
    struct
    {
        char host[PC_ADDRESS_MAX];
        uint16_t port;
        bool known; /* Some address was found last time. */
    } names[PC_SEEDS_MAX];
    size_t n_found;
    struct pc_resolved found[PC_SEEDS_MAX];
};

struct pc_resolver *pc_resolver_create(void);
/* Start it, and wait a little for its first answer. */
void pc_resolver_start(struct pc_resolver *resolver);
/* Does not wait for the thread. */
void pc_resolver_stop(struct pc_resolver *resolver);
/* Look the names up now. */
void pc_resolver_want(struct pc_resolver *resolver);

#endif /* PC_NODE_RESOLVER_H */
