/*
 * rand.h - random numbers from a seed (splitmix64); not for secrets.
 */
#ifndef PC_BASE_RAND_H
#define PC_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

struct pc_rand
{
    uint64_t state;
};

void pc_rand_init(struct pc_rand *r, uint64_t seed);
uint64_t pc_rand_u64(struct pc_rand *r);
/* 0 .. bound-1; 0 for bound 0. */
uint64_t pc_rand_below(struct pc_rand *r, uint64_t bound);
/* A seed from the operating system. */
uint64_t pc_rand_entropy(void);

#endif /* PC_BASE_RAND_H */
