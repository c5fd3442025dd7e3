#include "loader.h"

#include "base/assert.h"
#include "base/environ.h"
#include "base/log.h"
#include "base/module.h"
#include "base/text.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MODULE_NAME "libpeercache_ucx.so"
#define UCX_LIBRARY "libucp.so.0"

/* UCX reads these in its constructors only. */
static const char *const presets[] = {
    "UCX_ERROR_SIGNALS=",         /* SIGSEGV and so on are the host's. */
    "UCX_DEBUG_SIGNO=0",          /* So is SIGHUP. */
    "UCX_LOG_FILE=stderr",        /* stdout is, too. */
    "UCX_WARN_UNUSED_ENV_VARS=n", /* Of other versions, and of ours. */
    /* No hooks on mmap and malloc. UCX then keeps no cache of registrations,
     * which could not be trusted without them; ours are explicit. */
    "UCX_MEM_EVENTS=n",
    "UCX_VFS_ENABLE=n", /* No thread for a debug file system. */
};

/* peercache_ucx_load("none") */
static _Atomic bool none_is_wanted;

/* Its constructors have run then: the environment need not be touched. */
static bool ucx_is_loaded(void)
{
    void *ucx = dlopen(UCX_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (ucx == NULL) {
        (void)dlerror();
        return false;
    }
    (void)dlclose(ucx);
    return true;
}

/* RTLD_NODELETE: threads and exit functions of UCX outlive any dlclose, so the
 * handle itself need not be kept. */
static void *open_quietly(const char *path)
{
    const int mode = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    struct pc_environ preset;
    if (ucx_is_loaded()) {
        return dlopen(path, mode);
    }
    pc_environ_begin(&preset, presets, PC_ARRAY_LEN(presets));
    void *module = dlopen(path, mode);
    pc_environ_end(&preset);
    return module;
}

static void forward(void *arg, peercache_log_level_t level, const char *where,
                    const char *message)
{
    (void)arg;
    PC_LOG(level, where, "%s", message);
}

/* The last part of every attempt's story goes into tried. */
static const void *try_path(void *arg, const char *path)
{
    struct pc_text *tried = arg;
    void *module = open_quietly(path);
    if (module == NULL) {
        const char *why = dlerror();
        pc_text_add(tried, "; %s", why != NULL ? why : path);
        return NULL;
    }
    pc_fabric_module_fn entry;
    /* POSIX guarantees this, ISO C does not. */
    *(void **)(&entry) = dlsym(module, PC_FABRIC_UCX_ENTRY);
    const struct pc_fabric_module_env env = {
        .interface = PC_FABRIC_MODULE_INTERFACE,
        .log_level = PEERCACHE_LOG_TRACE, /* Our own level is applied here. */
        .log = forward};
    const struct pc_fabric_ops *ops = entry != NULL ? entry(&env) : NULL;
    if (ops == NULL) {
        pc_text_add(tried, "; %s: of another version", path);
    }
    dlclose(module);
    return ops;
}

peercache_status_t pc_fabric_load(const char *path,
                                  const struct pc_fabric_ops **ops_p)
{
    struct pc_text tried;
    pc_text_init(&tried);
    if (path == NULL) {
        /* Not for programs that run with another user's rights. */
        path = atomic_load_explicit(&none_is_wanted, memory_order_relaxed)
                   ? "none"
                   : secure_getenv("PEERCACHE_UCX_MODULE");
    }
    if (path != NULL && strcmp(path, "none") == 0) {
        PC_INFO("ucx", "no UCX is wanted");
        return PEERCACHE_UNSUPPORTED;
    }
    bool named = path != NULL && path[0] != '\0';
    const struct pc_fabric_ops *ops =
        named ? try_path(&tried, path)
              : pc_module_search(MODULE_NAME, try_path, &tried);
    if (ops == NULL) {
        PC_WARN("ucx", "no UCX, so no mapped and no one-sided reads%s",
                tried.data != NULL ? tried.data : "");
    } else {
        *ops_p = ops;
    }
    pc_text_fini(&tried);
    return ops != NULL ? PEERCACHE_OK : PEERCACHE_UNSUPPORTED;
}

peercache_status_t peercache_ucx_load(const char *path)
{
    if (path == NULL || path[0] == '\0') {
        return PEERCACHE_INVALID;
    }
    if (strcmp(path, "none") == 0) {
        /* relaxed: for nodes that are made after this by whoever knows. */
        atomic_store_explicit(&none_is_wanted, true, memory_order_relaxed);
        return PEERCACHE_OK;
    }
    void *ucx = open_quietly(path);
    if (ucx == NULL) {
        const char *why = dlerror();
        PC_DEBUG("ucx", "%s", why != NULL ? why : path);
        return PEERCACHE_UNSUPPORTED;
    }
    (void)dlclose(ucx);
    return PEERCACHE_OK;
}
