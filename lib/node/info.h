/*
 * info.h - what the calls that only look have in common.
 */
#ifndef PC_NODE_INFO_H
#define PC_NODE_INFO_H

#include <peercache/peercache.h>

/* Count a caller inside the library. OK: pc_info_leave ends it; FORKED or
 * SHUTDOWN: it was not let in. Any thread. */
peercache_status_t pc_info_enter(peercache_node_t *node);
void pc_info_leave(peercache_node_t *node);

#endif /* PC_NODE_INFO_H */
