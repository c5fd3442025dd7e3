#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static void write_to_stderr(void *arg, peercache_log_level_t level,
                            const char *where, const char *message)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG",
                                        "TRACE"};
    (void)arg;
    struct timespec now;
    struct tm local;
    char day[32];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &local);
    /* One call, so that lines of several threads do not mix. */
    fprintf(stderr, "%s.%03ld %s %s: %s\n", day, now.tv_nsec / 1000000,
            names[level], where, message);
}

/* The level is looked at often and without the lock; function and argument
 * belong together and are taken under it. The function runs outside it, so
 * that it may log, or change the sink. */
static _Atomic int sink_level = PEERCACHE_LOG_INFO;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static peercache_log_fn sink_fn = write_to_stderr;
static void *sink_arg;

void pc_log_set(peercache_log_level_t level, peercache_log_fn fn, void *arg)
{
    pthread_mutex_lock(&sink_lock);
    sink_fn = fn != NULL ? fn : write_to_stderr;
    sink_arg = fn != NULL ? arg : NULL;
    /* Relaxed: the lock orders the sink, and a late look costs one line. */
    atomic_store_explicit(&sink_level, (int)level, memory_order_relaxed);
    pthread_mutex_unlock(&sink_lock);
}

void pc_log_get(peercache_log_level_t *level_p, peercache_log_fn *fn_p,
                void **arg_p)
{
    pthread_mutex_lock(&sink_lock);
    *level_p = (peercache_log_level_t)atomic_load_explicit(
        &sink_level, memory_order_relaxed);
    *fn_p = sink_fn;
    *arg_p = sink_arg;
    pthread_mutex_unlock(&sink_lock);
}

bool pc_log_enabled(peercache_log_level_t level)
{
    return (int)level <=
           atomic_load_explicit(&sink_level, memory_order_relaxed);
}

void pc_log_line(peercache_log_level_t level, const char *where,
                 const char *format, ...)
{
    peercache_log_level_t installed;
    peercache_log_fn fn;
    void *arg;
    char message[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (len < 0) {
        message[0] = '\0';
    }
    /* Parts of it may be a peer's words: no more lines, no terminal's codes. */
    for (char *at = message; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = ' ';
        }
    }
    pc_log_get(&installed, &fn, &arg);
    fn(arg, level, where, message);
}
