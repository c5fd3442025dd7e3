#include "resolver.h"

#include "base/log.h"
#include "base/mem.h"
#include "transports/socket/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_UP_S       30 /* Names are looked up again. */
#define FIRST_LOOK_UP_S 1  /* The start waits so long for the first answer. */

static void resolver_unref(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    bool last = --r->refs == 0;
    (void)pthread_mutex_unlock(&r->lock);
    if (last) {
        (void)pthread_cond_destroy(&r->changed);
        (void)pthread_mutex_destroy(&r->lock);
        pc_free(r);
    }
}

/* Without the lock: names do not change after the start. */
static size_t look_up(struct pc_resolver *r, struct pc_resolved *found,
                      bool known[PC_SEEDS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_names; i++) {
        char addresses[PC_SEEDS_MAX][PC_ADDRESS_MAX];
        size_t n_new = r->resolve(r->names[i].host, r->names[i].port, addresses,
                                  PC_SEEDS_MAX - n);
        known[i] = n_new > 0;
        for (size_t k = 0; k < n_new; k++, n++) {
            memcpy(found[n].address, addresses[k], sizeof(found[n].address));
            found[n].name = (int)i;
        }
    }
    return n;
}

static void wait_for_want(struct pc_resolver *r)
{
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += LOOK_UP_S;
    while (!r->stopping && !r->wanted &&
           pthread_cond_timedwait(&r->changed, &r->lock, &end) != ETIMEDOUT) {
    }
    r->wanted = false;
}

static void *resolver_main(void *arg)
{
    struct pc_resolver *r = arg;
    static const size_t size = PC_SEEDS_MAX * sizeof(struct pc_resolved);
    struct pc_resolved *found = pc_alloc(1, size);
    (void)pthread_mutex_lock(&r->lock);
    while (!r->stopping && found != NULL) {
        bool known[PC_SEEDS_MAX] = {false};
        (void)pthread_mutex_unlock(&r->lock);
        size_t n = look_up(r, found, known);
        (void)pthread_mutex_lock(&r->lock);
        memcpy(r->found, found, n * sizeof(*found));
        r->n_found = n;
        for (size_t i = 0; i < r->n_names; i++) {
            r->names[i].known = known[i];
        }
        r->fresh = true;
        (void)pthread_cond_broadcast(&r->changed);
        wait_for_want(r);
    }
    (void)pthread_mutex_unlock(&r->lock);
    pc_free(found);
    resolver_unref(r);
    return NULL;
}

struct pc_resolver *pc_resolver_create(void)
{
    pthread_condattr_t attr;
    struct pc_resolver *r = pc_alloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->refs = 1;
    r->resolve = pc_names_resolve_all;
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    return r;
}

void pc_resolver_start(struct pc_resolver *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += FIRST_LOOK_UP_S;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_mutex_lock(&r->lock);
    r->refs++;
    if (pthread_create(&thread, &attr, resolver_main, r) != 0) {
        r->refs--;
        PC_ERROR("seeds", "no thread to look up the names of seeds");
    } else {
        while (!r->fresh && pthread_cond_timedwait(&r->changed, &r->lock,
                                                   &end) != ETIMEDOUT) {
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_attr_destroy(&attr);
}

void pc_resolver_stop(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->stopping = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    resolver_unref(r);
}

void pc_resolver_want(struct pc_resolver *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->wanted = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
}
