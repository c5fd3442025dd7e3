/*
 * cpus.h - a set of CPUs, or of NUMA nodes, by their numbers. Plain data.
 */
#ifndef PC_PLACE_CPUS_H
#define PC_PLACE_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PC_CPUS_MAX 8192

struct pc_cpus
{
    uint64_t bits[PC_CPUS_MAX / 64];
};

static inline bool pc_cpus_has(const struct pc_cpus *cpus, unsigned cpu)
{
    return cpu < PC_CPUS_MAX && (cpus->bits[cpu / 64] >> (cpu % 64) & 1) != 0;
}

static inline void pc_cpus_add(struct pc_cpus *cpus, unsigned cpu)
{
    if (cpu < PC_CPUS_MAX) {
        cpus->bits[cpu / 64] |= (uint64_t)1 << (cpu % 64);
    }
}

bool pc_cpus_is_empty(const struct pc_cpus *cpus);
bool pc_cpus_equal(const struct pc_cpus *a, const struct pc_cpus *b);
/* Whether all of a are in b. */
bool pc_cpus_within(const struct pc_cpus *a, const struct pc_cpus *b);
void pc_cpus_unite(struct pc_cpus *cpus, const struct pc_cpus *more);
void pc_cpus_intersect(struct pc_cpus *cpus, const struct pc_cpus *with);
size_t pc_cpus_count(const struct pc_cpus *cpus);

/* "0-3,8" as the kernel and taskset write it; spaces around parts are allowed.
 * False: something else, or a number that is too large. */
bool pc_cpus_parse(const char *text, struct pc_cpus *cpus_p);
/* The same back; cut with "..." where it does not fit. */
void pc_cpus_write(const struct pc_cpus *cpus, char *text, size_t len);

/* Those that the calling thread may use, as it was told or as it inherited. */
void pc_cpus_of_thread(struct pc_cpus *cpus_p);

#endif /* PC_PLACE_CPUS_H */
