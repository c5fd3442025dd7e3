#include <peercache/peercache.h>

#include "base/log.h"
#include "base/mem.h"

#define STRING(value)    #value
#define VERSION(a, b, c) STRING(a) "." STRING(b) "." STRING(c)

const char *peercache_status_name(peercache_status_t status)
{
    switch (status) {
#define NAME(name, value, text)                                                \
    case PEERCACHE_##name:                                                     \
        return #name;
        PEERCACHE_STATUS_MAP(NAME)
#undef NAME
    }
    return "UNKNOWN";
}

const char *peercache_strerror(peercache_status_t status)
{
    switch (status) {
#define TEXT(name, value, text)                                                \
    case PEERCACHE_##name:                                                     \
        return text;
        PEERCACHE_STATUS_MAP(TEXT)
#undef TEXT
    }
    return "unknown status";
}

const char *peercache_version(void)
{
    return VERSION(PEERCACHE_VERSION_MAJOR, PEERCACHE_VERSION_MINOR,
                   PEERCACHE_VERSION_PATCH);
}

void peercache_log_set(peercache_log_level_t level, peercache_log_fn fn,
                       void *arg)
{
    pc_log_set(level, fn, arg);
}

void peercache_free(void *memory)
{
    pc_free(memory);
}
