/*
 * link_suite.h - what every implementation of seam/link.h must do.
 *
 * The suite makes no system call and never sleeps: all time passes in the
 * fixture's step, so the same tests run over real sockets and over a simulated
 * network with a virtual clock.
 */
#ifndef PC_TEST_LINK_SUITE_H
#define PC_TEST_LINK_SUITE_H

#include "seam/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The limits that every test's links are opened with. */
#define LINK_SUITE_HEAD_MAX ((size_t)200000)
#define LINK_SUITE_STALL_NS 2000000000ull

struct link_fixture
{
    const char *name;
    const struct pc_link_ops *ops;
    void *arg;
    /* Bodies land and leave in parts (sockets), so a message can be caught in
     * the middle; false: a message may arrive in one step. */
    bool streams;

    /* Around each test; may be NULL. */
    void (*setup)(struct link_fixture *fixture);
    void (*teardown)(struct link_fixture *fixture);

    /* ops->open, for one more node; ops->close ends it. */
    peercache_status_t (*open)(struct link_fixture *fixture,
                               const struct pc_link_params *params,
                               struct pc_link **link_p);
    /* Where `link` may listen: a place of its own at every call. */
    void (*address)(struct link_fixture *fixture, struct pc_link *link,
                    char *text, size_t len);
    /* A place where nobody listens. */
    void (*nowhere)(struct link_fixture *fixture, char *text, size_t len);
    /* A place that never answers; NULL or false: there is none. */
    bool (*silent)(struct link_fixture *fixture, char *text, size_t len);

    /* Drive progress on these links; let time pass if nothing happens. Links
     * that are not named are not driven: their process stands still. */
    void (*step)(struct link_fixture *fixture, struct pc_link **links,
                 size_t n_links);
    uint64_t (*now)(struct link_fixture *fixture);
};

/* Run all tests; the number of failures. */
int link_suite_run(struct link_fixture *fixture);

#endif /* PC_TEST_LINK_SUITE_H */
