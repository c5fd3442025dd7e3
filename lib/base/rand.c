#include "rand.h"

#include "clock.h"

#include <sys/random.h>
#include <unistd.h>

void pc_rand_init(struct pc_rand *r, uint64_t seed)
{
    r->state = seed;
}

/* Splitmix64: a Weyl sequence, finished by a mixing function. */
uint64_t pc_rand_u64(struct pc_rand *r)
{
    r->state += 0x9e3779b97f4a7c15ull;
    uint64_t x = r->state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint64_t pc_rand_below(struct pc_rand *r, uint64_t bound)
{
    if (bound == 0) {
        return 0;
    }
    /* Below 2^64 mod bound a draw would favour small results: draw again. */
    uint64_t unfair = (0 - bound) % bound;
    uint64_t x;
    do {
        x = pc_rand_u64(r);
    } while (x < unfair);
    return x % bound;
}

uint64_t pc_rand_entropy(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed)) {
        return seed;
    }
    /* A kernel or sandbox without getrandom: differ by time and process. */
    struct pc_rand r;
    pc_rand_init(&r, pc_clock_wall() ^ pc_clock_monotonic() << 20 ^
                         (uint64_t)getpid() << 48);
    return pc_rand_u64(&r);
}
