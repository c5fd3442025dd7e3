/*
 * hello.c - what two nodes tell each other first, and whether they fit.
 */
#include "peers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void pc_hello_fill(const struct pc_conn *conn, struct pc_msg_hello *hello)
{
    *hello = conn->peers->self;
    hello->cls = (uint8_t)conn->cls;
    hello->number = conn->number;
    /* Who accepts a control connection tells what can be read of it; its
     * caller is told the same when the other opens one back. */
    if (conn->outgoing || conn->cls != PC_LINK_CONTROL) {
        hello->fabric = (struct pc_blob){NULL, 0};
        hello->n_regions = 0;
        hello->regions = NULL;
    }
}

static peercache_status_t differs(char reason[PC_REASON_MAX],
                                  peercache_status_t status, const char *format,
                                  ...) __attribute__((format(printf, 3, 4)));

static peercache_status_t differs(char reason[PC_REASON_MAX],
                                  peercache_status_t status, const char *format,
                                  ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, PC_REASON_MAX, format, args);
    va_end(args);
    return status;
}

peercache_status_t pc_hello_check(const struct pc_msg_hello *ours,
                                  const struct pc_msg_hello *theirs,
                                  char reason[PC_REASON_MAX])
{
    if (theirs->protocol != ours->protocol || theirs->layout != ours->layout ||
        theirs->digest_version != ours->digest_version) {
        return differs(reason, PEERCACHE_VERSION,
                       "versions of protocol, layout, digest are %u, %u, %u "
                       "and %u, %u, %u",
                       theirs->protocol, theirs->layout, theirs->digest_version,
                       ours->protocol, ours->layout, ours->digest_version);
    }
    if (strcmp(theirs->cluster_name, ours->cluster_name) != 0) {
        return differs(reason, PEERCACHE_MISMATCH,
                       "cluster_name is %.100s and %.100s",
                       theirs->cluster_name, ours->cluster_name);
    }
    if (theirs->digest_seed_check != ours->digest_seed_check) {
        return differs(reason, PEERCACHE_MISMATCH, "digest_salt differs");
    }
    if (theirs->vnodes != ours->vnodes) {
        return differs(reason, PEERCACHE_MISMATCH, "vnodes is %u and %u",
                       theirs->vnodes, ours->vnodes);
    }
    if (theirs->directory_replicas != ours->directory_replicas) {
        return differs(reason, PEERCACHE_MISMATCH,
                       "directory_replicas is %u and %u",
                       theirs->directory_replicas, ours->directory_replicas);
    }
    return PEERCACHE_OK;
}
