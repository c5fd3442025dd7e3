/*
 * log.h - one process-wide sink for log lines.
 *
 * Levels mean: error = something cannot go on, warn = it went on in another
 * way, info = rare, once per event of a node's life, debug = per object,
 * trace = per operation. The level is looked at before arguments are
 * formatted. Any thread.
 */
#ifndef PC_BASE_LOG_H
#define PC_BASE_LOG_H

#include <peercache/peercache.h>

#include <stdbool.h>

/* Install a sink; NULL restores stderr. Also used by modules that were opened
 * at run time and hold a copy of this file's state. */
void pc_log_set(peercache_log_level_t level, peercache_log_fn fn, void *arg);
/* What is installed now: to hand it on to such a module. */
void pc_log_get(peercache_log_level_t *level_p, peercache_log_fn *fn_p,
                void **arg_p);
bool pc_log_enabled(peercache_log_level_t level);
/* Format and deliver one line; cut at 1,023 characters. */
void pc_log_line(peercache_log_level_t level, const char *where,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

#define PC_LOG(level, where, ...)                                              \
    do {                                                                       \
        if (pc_log_enabled(level)) {                                           \
            pc_log_line((level), (where), __VA_ARGS__);                        \
        }                                                                      \
    } while (0)
#define PC_ERROR(where, ...) PC_LOG(PEERCACHE_LOG_ERROR, where, __VA_ARGS__)
#define PC_WARN(where, ...)  PC_LOG(PEERCACHE_LOG_WARN, where, __VA_ARGS__)
#define PC_INFO(where, ...)  PC_LOG(PEERCACHE_LOG_INFO, where, __VA_ARGS__)
#define PC_DEBUG(where, ...) PC_LOG(PEERCACHE_LOG_DEBUG, where, __VA_ARGS__)
#define PC_TRACE(where, ...) PC_LOG(PEERCACHE_LOG_TRACE, where, __VA_ARGS__)

#endif /* PC_BASE_LOG_H */
