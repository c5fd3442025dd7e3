#include "regs.h"

#include <stdlib.h>
#include <string.h>

void pc_regs_fini(struct pc_regs *regs)
{
    free(regs->at);
    memset(regs, 0, sizeof(*regs));
}

bool pc_regs_reserve(struct pc_regs *regs)
{
    if (regs->n < regs->n_max) {
        return true;
    }
    size_t n_max = regs->n_max == 0 ? 8 : 2 * regs->n_max;
    void *at = realloc(regs->at, n_max * sizeof(*regs->at));
    if (at == NULL) {
        return false;
    }
    regs->at = at;
    regs->n_max = n_max;
    return true;
}

/* Number of ranges that begin at or before addr. */
static size_t n_before(const struct pc_regs *regs, uintptr_t addr)
{
    size_t low = 0;
    size_t high = regs->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (regs->at[middle]->addr <= addr) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void update_max_ends(struct pc_regs *regs, size_t from)
{
    uintptr_t max_end = from > 0 ? regs->at[from - 1]->max_end : 0;
    for (size_t i = from; i < regs->n; i++) {
        if (regs->at[i]->end > max_end) {
            max_end = regs->at[i]->end;
        }
        regs->at[i]->max_end = max_end;
    }
}

void pc_regs_insert(struct pc_regs *regs, struct pc_reg *reg)
{
    size_t place = n_before(regs, reg->addr);
    memmove(&regs->at[place + 1], &regs->at[place],
            (regs->n - place) * sizeof(*regs->at));
    regs->at[place] = reg;
    regs->n++;
    regs->n_device += reg->kind == PEERCACHE_MEM_DEVICE;
    reg->id = ++regs->last_id;
    update_max_ends(regs, place);
}

struct pc_reg *pc_regs_take(struct pc_regs *regs, uint64_t id)
{
    for (size_t i = 0; i < regs->n; i++) {
        struct pc_reg *reg = regs->at[i];
        if (id != 0 && reg->id != id) {
            continue;
        }
        regs->n--;
        regs->n_device -= reg->kind == PEERCACHE_MEM_DEVICE;
        memmove(&regs->at[i], &regs->at[i + 1],
                (regs->n - i) * sizeof(*regs->at));
        update_max_ends(regs, i);
        return reg;
    }
    return NULL;
}

/* Whether any device range overlaps the piece. */
static bool in_device(const struct pc_regs *regs,
                      const peercache_piece_t *piece)
{
    uintptr_t addr = (uintptr_t)piece->addr;
    for (size_t i = n_before(regs, addr + piece->len - 1); i-- > 0;) {
        const struct pc_reg *reg = regs->at[i];
        if (reg->max_end <= addr) {
            return false;
        }
        if (reg->kind == PEERCACHE_MEM_DEVICE && reg->end > addr) {
            return true;
        }
    }
    return false;
}

struct pc_reg *pc_regs_find(const struct pc_regs *regs,
                            const peercache_piece_t *pieces, size_t n_pieces,
                            bool *device_p)
{
    uintptr_t low = UINTPTR_MAX;
    uintptr_t high = 0;
    *device_p = false;
    if (regs->n == 0) {
        return NULL;
    }
    for (size_t i = 0; i < n_pieces; i++) {
        uintptr_t addr = (uintptr_t)pieces[i].addr;
        low = addr < low ? addr : low;
        high = addr + pieces[i].len > high ? addr + pieces[i].len : high;
    }
    for (size_t i = n_before(regs, low); i-- > 0;) {
        if (regs->at[i]->max_end < high) {
            break;
        }
        if (regs->at[i]->end >= high) {
            return regs->at[i];
        }
    }
    for (size_t i = 0; regs->n_device > 0 && i < n_pieces; i++) {
        *device_p = *device_p || in_device(regs, &pieces[i]);
    }
    return NULL;
}
