#include "cpus.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define N_WORDS (PC_CPUS_MAX / 64)

bool pc_cpus_is_empty(const struct pc_cpus *cpus)
{
    return pc_cpus_count(cpus) == 0;
}

bool pc_cpus_equal(const struct pc_cpus *a, const struct pc_cpus *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

bool pc_cpus_within(const struct pc_cpus *a, const struct pc_cpus *b)
{
    uint64_t outside = 0;
    for (size_t i = 0; i < N_WORDS; i++) {
        outside |= a->bits[i] & ~b->bits[i];
    }
    return outside == 0;
}

void pc_cpus_unite(struct pc_cpus *cpus, const struct pc_cpus *more)
{
    for (size_t i = 0; i < N_WORDS; i++) {
        cpus->bits[i] |= more->bits[i];
    }
}

void pc_cpus_intersect(struct pc_cpus *cpus, const struct pc_cpus *with)
{
    for (size_t i = 0; i < N_WORDS; i++) {
        cpus->bits[i] &= with->bits[i];
    }
}

size_t pc_cpus_count(const struct pc_cpus *cpus)
{
    size_t n = 0;
    for (size_t i = 0; i < N_WORDS; i++) {
        n += (size_t)__builtin_popcountll(cpus->bits[i]);
    }
    return n;
}

static const char *skip_blanks(const char *at)
{
    while (isspace((unsigned char)*at)) {
        at++;
    }
    return at;
}

static const char *parse_number(const char *at, unsigned *value_p)
{
    unsigned value = 0;
    at = skip_blanks(at);
    if (!isdigit((unsigned char)*at)) {
        return NULL;
    }
    for (; isdigit((unsigned char)*at); at++) {
        value = value * 10 + (unsigned)(*at - '0');
        if (value >= PC_CPUS_MAX) {
            return NULL;
        }
    }
    *value_p = value;
    return skip_blanks(at);
}

bool pc_cpus_parse(const char *text, struct pc_cpus *cpus_p)
{
    struct pc_cpus cpus = {{0}};
    for (const char *at = text;; at++) {
        unsigned first;
        unsigned last;
        at = parse_number(at, &first);
        if (at == NULL) {
            return false;
        }
        last = first;
        if (*at == '-') {
            at = parse_number(at + 1, &last);
            if (at == NULL || last < first) {
                return false;
            }
        }
        for (unsigned cpu = first; cpu <= last; cpu++) {
            pc_cpus_add(&cpus, cpu);
        }
        if (*at == '\0') {
            *cpus_p = cpus;
            return true;
        }
        if (*at != ',') {
            return false;
        }
    }
}

void pc_cpus_write(const struct pc_cpus *cpus, char *text, size_t len)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned cpu = 0; cpu < PC_CPUS_MAX; cpu++) {
        if (!pc_cpus_has(cpus, cpu)) {
            continue;
        }
        unsigned last = cpu;
        while (pc_cpus_has(cpus, last + 1)) {
            last++;
        }
        char part[32];
        size_t n =
            (size_t)(last > cpu ? snprintf(part, sizeof(part), "%s%u-%u",
                                           used > 0 ? "," : "", cpu, last)
                                : snprintf(part, sizeof(part), "%s%u",
                                           used > 0 ? "," : "", cpu));
        if (used + n + sizeof("...") > len) {
            (void)snprintf(text + used, len - used, "...");
            return;
        }
        memcpy(text + used, part, n + 1);
        used += n;
        cpu = last;
    }
}

void pc_cpus_of_thread(struct pc_cpus *cpus_p)
{
    memset(cpus_p, 0, sizeof(*cpus_p));
    (void)sched_getaffinity(0, sizeof(cpus_p->bits), (cpu_set_t *)cpus_p->bits);
}
