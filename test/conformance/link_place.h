/*
 * link_place.h - the link's suite on real sockets: TCP or Unix, plain or TLS.
 */
#ifndef PC_TEST_LINK_PLACE_H
#define PC_TEST_LINK_PLACE_H

#include "link_suite.h"

#define LINK_PLACE_CROWD 16 /* Fills every backlog that asked for 0. */

struct link_place
{
    bool is_unix;
    const struct pc_link_tls *tls; /* NULL: plain. */
    char folder[64];
    unsigned n_paths;
    int crowd[LINK_PLACE_CROWD + 1];
    size_t n_crowd;
};

/* The number of failures. */
int link_place_run(const char *name, struct link_place *place);

#endif /* PC_TEST_LINK_PLACE_H */
