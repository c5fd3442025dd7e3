/*
 * devices.h - the RDMA ports of this host that can be used. Knows the kernel's
 * files, not UCX.
 */
#ifndef PC_UCX_DEVICES_H
#define PC_UCX_DEVICES_H

#include "base/text.h"

#define PC_UCX_DEVICES_ROOT "/sys/class/infiniband"

struct pc_ucx_wanted
{
    const char *names; /* "mlx5_0,mlx5_1:2"; "" or NULL: all there are. */
    unsigned port;     /* Of devices that are named without one, or of all;
                        * 0: any, and 1 of those that are named. */
    int gid_index;     /* Must be there on Ethernet; -1: UCX chooses. */
};

/* Writes "mlx5_0:1,mlx5_1:1" to list, which the caller has initialised; ""
 * if there is none. What was wanted and cannot be used is a warning with its
 * reason, what merely is there and cannot, an info line. */
void pc_ucx_devices_find(const char *root, const struct pc_ucx_wanted *wanted,
                         struct pc_text *list);

#endif /* PC_UCX_DEVICES_H */
