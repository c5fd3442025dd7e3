#include "extent.h"

#include "base/assert.h"
#include "base/mem.h"

/*
 * Free runs hang in bins by length. Up to 127 granules every length has a bin
 * of its own; above, each power of two is cut into 64 bins, so a bin spans at
 * most 1.6 % of its length. Two levels of bitmaps find the next bin that has
 * something in it.
 */
enum { SL_BITS = 6, N_SL = 1 << SL_BITS, N_FL = 32 - SL_BITS + 1 };

#define NONE     UINT32_MAX
#define FREE_BIT 0x80000000u

/* Written at the first and the last granule of each run, so that both
 * neighbours can be found; what lies between is stale. */
struct granule
{
    uint32_t tag; /* Length of the run, and FREE_BIT. */
    uint32_t a;   /* First granule, free: next in the bin; taken: owner. */
    uint32_t b;   /* First granule, free: previous in the bin; taken: owner. */
};

struct pc_extents
{
    uint32_t n_granules;
    uint32_t n_free;
    uint64_t n_steps;
    uint32_t fl_map;
    uint64_t sl_map[N_FL];
    uint32_t heads[N_FL][N_SL];
    struct granule granules[];
};

struct bin
{
    uint32_t fl, sl;
};

static struct bin bin_of(uint32_t n)
{
    if (n < N_SL) {
        return (struct bin){0, n};
    }
    uint32_t msb = 31 - (uint32_t)__builtin_clz(n);
    return (struct bin){msb - SL_BITS + 1, (n >> (msb - SL_BITS)) & (N_SL - 1)};
}

/* The first bin all of whose runs have n granules or more. */
static struct bin bin_for(uint32_t n)
{
    if (n >= 2 * N_SL) {
        uint32_t msb = 31 - (uint32_t)__builtin_clz(n);
        n += (1u << (msb - SL_BITS)) - 1;
    }
    return bin_of(n);
}

static void put_tags(struct pc_extents *extents, uint32_t first, uint32_t n,
                     uint32_t flag)
{
    extents->granules[first].tag = n | flag;
    extents->granules[first + n - 1].tag = n | flag;
}

static void link_free(struct pc_extents *extents, uint32_t first, uint32_t n)
{
    struct bin bin = bin_of(n);
    uint32_t head = extents->heads[bin.fl][bin.sl];
    put_tags(extents, first, n, FREE_BIT);
    extents->granules[first].a = head;
    extents->granules[first].b = NONE;
    if (head != NONE) {
        extents->granules[head].b = first;
    }
    extents->heads[bin.fl][bin.sl] = first;
    extents->sl_map[bin.fl] |= 1ull << bin.sl;
    extents->fl_map |= 1u << bin.fl;
}

static void unlink_free(struct pc_extents *extents, uint32_t first, uint32_t n)
{
    struct bin bin = bin_of(n);
    const struct granule *granule = &extents->granules[first];
    if (granule->a != NONE) {
        extents->granules[granule->a].b = granule->b;
    }
    if (granule->b != NONE) {
        extents->granules[granule->b].a = granule->a;
        return;
    }
    extents->heads[bin.fl][bin.sl] = granule->a;
    if (granule->a == NONE) {
        extents->sl_map[bin.fl] &= ~(1ull << bin.sl);
        if (extents->sl_map[bin.fl] == 0) {
            extents->fl_map &= ~(1u << bin.fl);
        }
    }
}

struct pc_extents *pc_extents_create(uint32_t n_granules)
{
    if (n_granules == 0 || n_granules >= FREE_BIT) {
        return NULL;
    }
    struct pc_extents *extents =
        pc_alloc(1, sizeof(*extents) +
                        (size_t)n_granules * sizeof(extents->granules[0]));
    if (extents == NULL) {
        return NULL;
    }
    extents->n_granules = n_granules;
    extents->n_free = n_granules;
    for (uint32_t fl = 0; fl < N_FL; fl++) {
        for (uint32_t sl = 0; sl < N_SL; sl++) {
            extents->heads[fl][sl] = NONE;
        }
    }
    link_free(extents, 0, n_granules);
    return extents;
}

void pc_extents_destroy(struct pc_extents *extents)
{
    pc_free(extents);
}

/* A free run of n granules or more from the bins above n's own; else NONE. */
static uint32_t find_above(const struct pc_extents *extents, uint32_t n)
{
    struct bin bin = bin_for(n);
    if (bin.fl >= N_FL) {
        return NONE;
    }
    uint64_t sl_map = extents->sl_map[bin.fl] & (UINT64_MAX << bin.sl);
    if (sl_map == 0) {
        uint32_t fl_map = extents->fl_map & ~((2u << bin.fl) - 1);
        if (fl_map == 0) {
            return NONE;
        }
        bin.fl = (uint32_t)__builtin_ctz(fl_map);
        sl_map = extents->sl_map[bin.fl];
    }
    return extents->heads[bin.fl][__builtin_ctzll(sl_map)];
}

/* The same from n's own bin, whose runs may be a little too short. Only runs
 * of 128 granules and more share a bin, and only a nearly full region comes
 * here, so the list is short in practice. */
static uint32_t find_beside(const struct pc_extents *extents, uint32_t n,
                            uint64_t *n_steps_p)
{
    struct bin bin = bin_of(n);
    uint32_t at = extents->heads[bin.fl][bin.sl];
    while (at != NONE && (extents->granules[at].tag & ~FREE_BIT) < n) {
        at = extents->granules[at].a;
        (*n_steps_p)++;
    }
    return at;
}

static uint32_t find(const struct pc_extents *extents, uint32_t n,
                     uint64_t *n_steps_p)
{
    if (n == 0 || n > extents->n_free) {
        return NONE;
    }
    uint32_t at = find_above(extents, n);
    return at != NONE ? at : find_beside(extents, n, n_steps_p);
}

bool pc_extents_alloc(struct pc_extents *extents, uint32_t n, uint32_t *first_p)
{
    uint32_t first = find(extents, n, &extents->n_steps);
    if (first == NONE) {
        return false;
    }
    uint32_t len = extents->granules[first].tag & ~FREE_BIT;
    PC_ASSERT(len >= n && first + len <= extents->n_granules);
    unlink_free(extents, first, len);
    if (len > n) {
        link_free(extents, first + n, len - n);
    }
    put_tags(extents, first, n, 0);
    pc_extents_set_owner(extents, first, NULL);
    extents->n_free -= n;
    *first_p = first;
    return true;
}

void pc_extents_free(struct pc_extents *extents, uint32_t first, uint32_t n)
{
    PC_ASSERT(n > 0 && first + n <= extents->n_granules);
    PC_ASSERT(extents->granules[first].tag == n);
    PC_ASSERT(extents->granules[first + n - 1].tag == n);
    uint32_t before = pc_extents_free_before(extents, first);
    uint32_t behind = pc_extents_free_behind(extents, first, n);
    if (before > 0) {
        unlink_free(extents, first - before, before);
    }
    if (behind > 0) {
        unlink_free(extents, first + n, behind);
    }
    link_free(extents, first - before, before + n + behind);
    extents->n_free += n;
}

uint32_t pc_extents_n_granules(const struct pc_extents *extents)
{
    return extents->n_granules;
}

uint32_t pc_extents_n_free(const struct pc_extents *extents)
{
    return extents->n_free;
}

uint32_t pc_extents_longest(const struct pc_extents *extents)
{
    if (extents->fl_map == 0) {
        return 0;
    }
    uint32_t fl = 31 - (uint32_t)__builtin_clz(extents->fl_map);
    uint32_t sl = 63 - (uint32_t)__builtin_clzll(extents->sl_map[fl]);
    uint32_t longest = 0;
    for (uint32_t at = extents->heads[fl][sl]; at != NONE;
         at = extents->granules[at].a) {
        uint32_t n = extents->granules[at].tag & ~FREE_BIT;
        longest = n > longest ? n : longest;
        if (fl <= 1) {
            break; /* All runs of this bin are of one length. */
        }
    }
    return longest;
}

uint32_t pc_extents_free_before(const struct pc_extents *extents,
                                uint32_t first)
{
    uint32_t tag = first > 0 ? extents->granules[first - 1].tag : 0;
    return (tag & FREE_BIT) != 0 ? tag & ~FREE_BIT : 0;
}

uint32_t pc_extents_free_behind(const struct pc_extents *extents,
                                uint32_t first, uint32_t n)
{
    uint32_t behind = first + n;
    uint32_t tag =
        behind < extents->n_granules ? extents->granules[behind].tag : 0;
    return (tag & FREE_BIT) != 0 ? tag & ~FREE_BIT : 0;
}

void pc_extents_set_owner(struct pc_extents *extents, uint32_t first,
                          void *owner)
{
    uint64_t word = (uintptr_t)owner;
    PC_ASSERT((extents->granules[first].tag & FREE_BIT) == 0);
    extents->granules[first].a = (uint32_t)word;
    extents->granules[first].b = (uint32_t)(word >> 32);
}

struct pc_extent_run pc_extents_run(const struct pc_extents *extents,
                                    uint32_t first)
{
    PC_ASSERT(first < extents->n_granules);
    const struct granule *granule = &extents->granules[first];
    struct pc_extent_run run = {.first = first,
                                .n = granule->tag & ~FREE_BIT,
                                .free = (granule->tag & FREE_BIT) != 0};
    if (!run.free) {
        run.owner = (void *)(uintptr_t)((uint64_t)granule->b << 32 |
                                        (uint64_t)granule->a);
    }
    return run;
}

struct pc_extent_run pc_extents_run_before(const struct pc_extents *extents,
                                           uint32_t first)
{
    PC_ASSERT(first > 0 && first <= extents->n_granules);
    uint32_t n = extents->granules[first - 1].tag & ~FREE_BIT;
    return pc_extents_run(extents, first - n);
}

bool pc_extents_fits(const struct pc_extents *extents, uint32_t n)
{
    uint64_t ignored = 0;
    return find(extents, n, &ignored) != NONE;
}

uint64_t pc_extents_n_steps(const struct pc_extents *extents)
{
    return extents->n_steps;
}
