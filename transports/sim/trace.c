#include "world.h"

#include "base/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20, LINE_MAX_LEN = 512 };

void pc_sim_trace_init(struct pc_sim_trace_log *trace)
{
    *trace = (struct pc_sim_trace_log){.text = NULL};
}

void pc_sim_trace_fini(struct pc_sim_trace_log *trace)
{
    free(trace->text);
    pc_sim_trace_init(trace);
}

/* Twice the bound is allocated, so that old lines are moved out of the way
 * once per TEXT_MAX bytes and not for each new one. */
static void append(struct pc_sim_trace_log *trace, const char *line, size_t len)
{
    if (trace->text == NULL) {
        trace->capacity = 2 * (size_t)TEXT_MAX + LINE_MAX_LEN;
        trace->text = pc_sim_alloc(trace->capacity, 1);
    }
    if (trace->len + len + 1 > trace->capacity) {
        trace->len -= trace->start;
        memmove(trace->text, trace->text + trace->start, trace->len);
        trace->start = 0;
    }
    memcpy(trace->text + trace->len, line, len + 1);
    trace->len += len;
    while (trace->len - trace->start > TEXT_MAX) {
        char *end = strchr(trace->text + trace->start, '\n');
        trace->start = (size_t)(end - trace->text) + 1;
    }
    trace->hash = pc_hash64(line, len, trace->hash);
}

void pc_sim_trace(struct pc_sim *sim, const char *format, ...)
{
    char line[LINE_MAX_LEN];
    uint64_t us = (sim->now_ns - PC_SIM_START_NS) / PC_US;
    int at = snprintf(line, sizeof(line), "%" PRIu64 ".%03" PRIu64 "ms ",
                      us / 1000, us % 1000);
    va_list args;
    va_start(args, format);
    /* One byte is kept for the newline. */
    int n = vsnprintf(line + at, sizeof(line) - (size_t)at - 1, format, args);
    va_end(args);
    size_t len = (size_t)at + (n < 0 ? 0 : (size_t)n);
    if (len > sizeof(line) - 2) {
        len = sizeof(line) - 2;
    }
    line[len] = '\n';
    line[len + 1] = '\0';
    append(&sim->trace, line, len + 1);
}

const char *pc_sim_trace_text(const struct pc_sim *sim)
{
    return sim->trace.text == NULL ? "" : sim->trace.text + sim->trace.start;
}

uint64_t pc_sim_trace_hash(const struct pc_sim *sim)
{
    return sim->trace.hash;
}

void pc_sim_trace_chunks(struct pc_sim *sim, bool on)
{
    sim->trace.chunks = on;
}
