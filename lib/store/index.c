#include "index.h"

#include "base/assert.h"
#include "base/mem.h"

enum { FIRST_CELLS = 8 };

static uint64_t hash_of(struct pc_digest digest)
{
    /* Digests are hashes already; one multiplication spreads test keys too. */
    uint64_t hash = (digest.lo ^ (digest.hi << 32 | digest.hi >> 32)) *
                    0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 32;
}

static struct pc_index_part *part_of(const struct pc_index *index,
                                     uint64_t hash)
{
    return (struct pc_index_part *)&index->parts[hash >> 58];
}
_Static_assert(PC_INDEX_PARTS == 64, "the highest 6 bits choose the part");

void pc_index_init(struct pc_index *index, const struct pc_slot_table *slots)
{
    *index = (struct pc_index){.slots = slots, .n_bytes = sizeof(*index)};
}

void pc_index_fini(struct pc_index *index)
{
    for (size_t i = 0; i < PC_INDEX_PARTS; i++) {
        pc_free(index->parts[i].cells);
    }
    *index = (struct pc_index){0};
}

static void put(struct pc_index_cell *cells, uint32_t n_cells,
                struct pc_index_cell cell)
{
    uint32_t at = cell.hash & (n_cells - 1);
    while (cells[at].id_1 != 0) {
        at = (at + 1) & (n_cells - 1);
    }
    cells[at] = cell;
}

static bool grow(struct pc_index *index, struct pc_index_part *part)
{
    uint32_t n_cells = part->n_cells == 0 ? FIRST_CELLS : 2 * part->n_cells;
    struct pc_index_cell *cells = pc_alloc(n_cells, sizeof(*cells));
    if (cells == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < part->n_cells; i++) {
        if (part->cells[i].id_1 != 0) {
            put(cells, n_cells, part->cells[i]);
        }
    }
    pc_free(part->cells);
    index->n_bytes += (uint64_t)(n_cells - part->n_cells) * sizeof(*cells);
    part->cells = cells;
    part->n_cells = n_cells;
    return true;
}

bool pc_index_promise(struct pc_index *index, struct pc_digest digest)
{
    struct pc_index_part *part = part_of(index, hash_of(digest));
    uint64_t n = (uint64_t)part->n_used + part->n_promised + 1;
    /* At most three quarters full. */
    if (4 * n > 3 * (uint64_t)part->n_cells && !grow(index, part)) {
        return false;
    }
    part->n_promised++;
    return true;
}

void pc_index_forgive(struct pc_index *index, struct pc_digest digest)
{
    struct pc_index_part *part = part_of(index, hash_of(digest));
    PC_ASSERT(part->n_promised > 0);
    part->n_promised--;
}

/* The cell of a digest, or NULL. */
static struct pc_index_cell *find_cell(const struct pc_index *index,
                                       struct pc_digest digest, uint64_t hash)
{
    const struct pc_index_part *part = part_of(index, hash);
    if (part->n_used == 0) {
        return NULL;
    }
    uint32_t mask = part->n_cells - 1;
    uint32_t at = (uint32_t)hash & mask;
    for (; part->cells[at].id_1 != 0; at = (at + 1) & mask) {
        if (part->cells[at].hash == (uint32_t)hash &&
            pc_digest_equal(pc_slot_at(index->slots, part->cells[at].id_1 - 1)
                                ->entry.digest,
                            digest)) {
            return &part->cells[at];
        }
    }
    return NULL;
}

struct pc_slot *pc_index_find(const struct pc_index *index,
                              struct pc_digest digest)
{
    const struct pc_index_cell *cell =
        find_cell(index, digest, hash_of(digest));
    return cell != NULL ? pc_slot_at(index->slots, cell->id_1 - 1) : NULL;
}

struct pc_slot *pc_index_set(struct pc_index *index, struct pc_digest digest,
                             uint32_t id)
{
    uint64_t hash = hash_of(digest);
    struct pc_index_part *part = part_of(index, hash);
    struct pc_index_cell *cell = find_cell(index, digest, hash);
    PC_ASSERT(part->n_promised > 0);
    part->n_promised--;
    if (cell != NULL) {
        struct pc_slot *old = pc_slot_at(index->slots, cell->id_1 - 1);
        cell->id_1 = id + 1;
        return old;
    }
    put(part->cells, part->n_cells,
        (struct pc_index_cell){.hash = (uint32_t)hash, .id_1 = id + 1});
    part->n_used++;
    return NULL;
}

void pc_index_remove(struct pc_index *index, struct pc_digest digest)
{
    uint64_t hash = hash_of(digest);
    struct pc_index_part *part = part_of(index, hash);
    struct pc_index_cell *cell = find_cell(index, digest, hash);
    PC_ASSERT(cell != NULL);
    uint32_t mask = part->n_cells - 1;
    uint32_t hole = (uint32_t)(cell - part->cells);
    /* Shift back what would not be found behind a hole: cells whose home is
     * not between the hole and themselves. */
    for (uint32_t at = (hole + 1) & mask; part->cells[at].id_1 != 0;
         at = (at + 1) & mask) {
        uint32_t home = part->cells[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            part->cells[hole] = part->cells[at];
            hole = at;
        }
    }
    part->cells[hole] = (struct pc_index_cell){0};
    part->n_used--;
}
