#include "transports/socket/tls.h"

#include "base/module.h"
#include "base/text.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define MODULE_NAME "libpeercache_tls.so"

/* The module stays: OpenSSL keeps state per thread that outlives a dlclose. */
static const void *try_path(void *arg, const char *path)
{
    struct pc_text *tried = arg;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (module == NULL) {
        const char *why = dlerror();
        pc_text_add(tried, "; %s", why != NULL ? why : path);
        return NULL;
    }
    pc_tls_module_fn entry;
    /* POSIX guarantees this, ISO C does not. */
    *(void **)(&entry) = dlsym(module, PC_TLS_ENTRY);
    const struct pc_tls_ops *ops =
        entry != NULL ? entry(PC_TLS_INTERFACE) : NULL;
    if (ops == NULL) {
        pc_text_add(tried, "; %s: of another version", path);
    }
    (void)dlclose(module);
    return ops;
}

const struct pc_tls_ops *pc_tls_load(char *reason, size_t len)
{
    struct pc_text tried;
    /* Not for programs that run with another user's rights. */
    const char *path = secure_getenv("PEERCACHE_TLS_MODULE");
    pc_text_init(&tried);
    const struct pc_tls_ops *ops =
        path != NULL && *path != '\0'
            ? try_path(&tried, path)
            : pc_module_search(MODULE_NAME, try_path, &tried);
    if (ops == NULL) {
        (void)snprintf(reason, len, "needs OpenSSL 3 and " MODULE_NAME "%s",
                       tried.data != NULL ? tried.data : "");
    }
    pc_text_fini(&tried);
    return ops;
}
