#include "clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * PC_S + (uint64_t)t.tv_nsec;
}

static uint64_t now_monotonic(void *arg)
{
    (void)arg;
    return pc_clock_monotonic();
}

struct pc_clock pc_clock_system(void)
{
    return (struct pc_clock){.now = now_monotonic};
}

uint64_t pc_clock_monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t pc_clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}
