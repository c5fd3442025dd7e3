#include "module.h"

#include "base/assert.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The folder of the code that is running: libpeercache.so or a program. */
static bool own_folder(char *folder, size_t len)
{
    Dl_info info;
    if (dladdr((void *)(uintptr_t)pc_module_search, &info) == 0 ||
        info.dli_fname == NULL) {
        return false;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    if (slash == NULL) {
        return false;
    }
    int n = snprintf(folder, len, "%.*s", (int)(slash - info.dli_fname),
                     info.dli_fname);
    return n >= 0 && (size_t)n < len;
}

const void *pc_module_search(const char *file, pc_module_open_fn open,
                             void *arg)
{
    const void *found = NULL;
    char folder[4096];
    char path[4096 + 128];
    if (own_folder(folder, sizeof(folder))) {
        const char *const paths[] = {"", "/peercache", "/../lib/peercache"};
        for (size_t i = 0; found == NULL && i < PC_ARRAY_LEN(paths); i++) {
            (void)snprintf(path, sizeof(path), "%s%s/%s", folder, paths[i],
                           file);
            found = open(arg, path);
        }
    }
    if (found == NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", PEERCACHE_MODULE_DIR, file);
        found = open(arg, path);
    }
    return found != NULL ? found : open(arg, file);
}
