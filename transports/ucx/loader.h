/*
 * loader.h - opens the UCX fabric's module at run time.
 *
 * Only who needs UCX loads it, and loading must not disturb the host process:
 * what the user left unset in the environment is preset while the module is
 * opened (no signal handlers, no memory hooks, logs to stderr), and unset again
 * after. Part of libpeercache, and peercache_ucx_load of its interface; knows
 * nothing of UCX's.
 */
#ifndef PC_UCX_LOADER_H
#define PC_UCX_LOADER_H

#include "seam/fabric.h"

/* Open the module, once per process however often this is called; it stays.
 * path NULL: the environment's PEERCACHE_UCX_MODULE, else beside this library,
 * in its folder peercache, in the folder it was installed to, and where the
 * system looks. "none" means that no UCX is wanted, which is no warning.
 * UNSUPPORTED, with one log line that names what was tried, if there is none or
 * UCX is missing. Adds to the environment for a moment, unless UCX is loaded:
 * other threads may read it then, none may change it. Any thread. */
peercache_status_t pc_fabric_load(const char *path,
                                  const struct pc_fabric_ops **ops_p);

#endif /* PC_UCX_LOADER_H */
