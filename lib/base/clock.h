/*
 * clock.h - monotonic time, replaceable.
 *
 * Code that must be replayed from a seed takes a struct pc_clock and never
 * asks the system. Any thread.
 */
#ifndef PC_BASE_CLOCK_H
#define PC_BASE_CLOCK_H

#include <stdint.h>

#define PC_US 1000ull
#define PC_MS 1000000ull
#define PC_S  1000000000ull

struct pc_clock
{
    uint64_t (*now)(void *arg); /* Nanoseconds, never going back. */
    void *arg;
};

/* CLOCK_MONOTONIC. */
struct pc_clock pc_clock_system(void);
uint64_t pc_clock_monotonic(void);
/* Nanoseconds since 1970, for names and incarnations only. */
uint64_t pc_clock_wall(void);

static inline uint64_t pc_clock_now(const struct pc_clock *clock)
{
    return clock->now(clock->arg);
}

#endif /* PC_BASE_CLOCK_H */
