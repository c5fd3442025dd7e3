#include "shard.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

/*
 * The table is cut into segments by the upper bits of a digest's lower half
 * (the upper half places it on the ring). The directory has 2^depth entries; a
 * segment that tells apart fewer bits has several. A segment grows by a
 * quarter at a time up to SEGMENT_MAX cells and then splits in two, so no
 * single operation moves more than about SEGMENT_MAX records (well below a
 * millisecond), and two thirds to seven eighths of the cells are in use: 73 to
 * 96 bytes a record.
 *
 * Within a segment: linear probing, cells in the order of their distance from
 * home (robin hood). All records of a digest lie side by side, a search for an
 * absent one ends early, and removal shifts back: no tombstones.
 */
#define SEGMENT_MIN 64
#define SEGMENT_MAX 2048
#define DEPTH_MAX   PC_SHARD_PLACE_BITS
#define RECORDS_MAX ((size_t)16 << 20)

struct segment
{
    uint32_t n_cells;
    uint32_t n_used;
    uint32_t depth; /* Upper bits that all its digests share. */
    uint32_t zero;
    struct pc_record cells[]; /* Length 0: empty. */
};

struct pc_shard
{
    struct segment **directory;
    uint32_t depth;
    size_t n_segments;
    size_t n_records;
    size_t max_records;
    size_t bytes;
    uint64_t n_changes;
};

static size_t prefix(struct pc_digest digest, uint32_t depth)
{
    return depth == 0 ? 0 : (size_t)(digest.lo >> (64 - depth));
}

static struct segment *segment_of(const struct pc_shard *shard,
                                  struct pc_digest digest)
{
    return shard->directory[prefix(digest, shard->depth)];
}

static bool is_empty(const struct pc_record *cell)
{
    return cell->length == 0;
}

/* Where a digest wants to be: its lower 32 bits, scaled. */
static uint32_t home_of(const struct segment *segment, struct pc_digest digest)
{
    return (uint32_t)(((digest.lo & UINT32_MAX) * segment->n_cells) >> 32);
}

static uint32_t next_cell(const struct segment *segment, uint32_t at)
{
    return at + 1 == segment->n_cells ? 0 : at + 1;
}

/* How far the record in a cell is from home. */
static uint32_t distance(const struct segment *segment, uint32_t at)
{
    uint32_t home = home_of(segment, segment->cells[at].digest);
    return at >= home ? at - home : at + segment->n_cells - home;
}

static size_t segment_bytes(uint32_t n_cells)
{
    return sizeof(struct segment) + (size_t)n_cells * sizeof(struct pc_record);
}

static struct segment *segment_create(struct pc_shard *shard, uint32_t n_cells,
                                      uint32_t depth)
{
    struct segment *segment = pc_alloc(1, segment_bytes(n_cells));
    if (segment != NULL) {
        segment->n_cells = n_cells;
        segment->depth = depth;
        shard->bytes += segment_bytes(n_cells);
        shard->n_segments++;
    }
    return segment;
}

static void segment_destroy(struct pc_shard *shard, struct segment *segment)
{
    if (segment != NULL) {
        shard->bytes -= segment_bytes(segment->n_cells);
        shard->n_segments--;
        pc_free(segment);
    }
}

/* Put a record where its distance says; there is an empty cell. */
static void insert(struct segment *segment, const struct pc_record *record)
{
    struct pc_record carried = *record;
    uint32_t at = home_of(segment, carried.digest);
    uint32_t away = 0;
    while (!is_empty(&segment->cells[at])) {
        uint32_t other = distance(segment, at);
        if (other < away) {
            struct pc_record swap = segment->cells[at];
            segment->cells[at] = carried;
            carried = swap;
            away = other;
        }
        at = next_cell(segment, at);
        away++;
    }
    segment->cells[at] = carried;
    segment->n_used++;
    PC_ASSERT(segment->n_used < segment->n_cells);
}

static void erase(struct segment *segment, uint32_t at)
{
    uint32_t next = next_cell(segment, at);
    while (!is_empty(&segment->cells[next]) && distance(segment, next) > 0) {
        segment->cells[at] = segment->cells[next];
        at = next;
        next = next_cell(segment, next);
    }
    memset(&segment->cells[at], 0, sizeof(segment->cells[at]));
    segment->n_used--;
}

/* The first cell from *at on that holds the digest; *at starts at home with
 * *away 0. */
static bool find_next(const struct segment *segment, struct pc_digest digest,
                      uint32_t *at, uint32_t *away)
{
    while (!is_empty(&segment->cells[*at]) && distance(segment, *at) >= *away) {
        if (pc_digest_equal(segment->cells[*at].digest, digest)) {
            return true;
        }
        *at = next_cell(segment, *at);
        ++*away;
    }
    return false;
}

/* The cell of (digest, incarnation). */
static bool find(const struct segment *segment, const struct pc_record *record,
                 uint32_t *at_p)
{
    uint32_t at = home_of(segment, record->digest);
    uint32_t away = 0;
    while (find_next(segment, record->digest, &at, &away)) {
        if (segment->cells[at].incarnation == record->incarnation) {
            *at_p = at;
            return true;
        }
        at = next_cell(segment, at);
        away++;
    }
    return false;
}

/* Let all directory entries of a segment's range point at another one; half 0
 * and 1 are the halves of the range, -1 is all. */
static void point_at(struct pc_shard *shard, struct pc_digest digest,
                     uint32_t depth, struct segment *segment)
{
    size_t n = (size_t)1 << (shard->depth - depth);
    size_t first = prefix(digest, depth) * n;
    for (size_t i = 0; i < n; i++) {
        shard->directory[first + i] = segment;
    }
}

static bool grow_in_place(struct pc_shard *shard, struct segment *old,
                          struct pc_digest digest)
{
    struct segment *segment =
        segment_create(shard, old->n_cells + old->n_cells / 4, old->depth);
    if (segment == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < old->n_cells; i++) {
        if (!is_empty(&old->cells[i])) {
            insert(segment, &old->cells[i]);
        }
    }
    point_at(shard, digest, old->depth, segment);
    segment_destroy(shard, old);
    return true;
}

static bool double_directory(struct pc_shard *shard)
{
    size_t n = (size_t)1 << shard->depth;
    struct segment **directory = pc_alloc(2 * n, sizeof(struct segment *));
    if (directory == NULL) {
        return false;
    }
    for (size_t i = 0; i < 2 * n; i++) {
        directory[i] = shard->directory[i / 2];
    }
    pc_free(shard->directory);
    shard->directory = directory;
    shard->depth++;
    shard->bytes += n * sizeof(struct segment *);
    return true;
}

/* How many records go into the upper half. */
static uint32_t count_upper(const struct segment *segment)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < segment->n_cells; i++) {
        const struct pc_record *cell = &segment->cells[i];
        n += !is_empty(cell) &&
             (prefix(cell->digest, segment->depth + 1) & 1) != 0;
    }
    return n;
}

/* Whether splitting helps: not if nearly all digests share the next bit
 * (digests of somebody's choice, or one digest with thousands of holders), and
 * the directory must stay small beside the segments. */
static bool can_split(const struct pc_shard *shard,
                      const struct segment *segment, uint32_t n_upper)
{
    uint32_t n_lower = segment->n_used - n_upper;
    return segment->depth < DEPTH_MAX &&
           ((size_t)1 << segment->depth) <= 64 * shard->n_segments &&
           n_upper >= segment->n_used / 8 && n_lower >= segment->n_used / 8;
}

/* Two thirds full. */
static uint32_t cells_for(uint32_t n_records)
{
    uint32_t n = n_records + n_records / 2;
    return n < SEGMENT_MIN ? SEGMENT_MIN : n;
}

static bool split(struct pc_shard *shard, struct segment *old,
                  struct pc_digest digest, uint32_t n_upper)
{
    if (old->depth == shard->depth && !double_directory(shard)) {
        return false;
    }
    struct segment *lower =
        segment_create(shard, cells_for(old->n_used - n_upper), old->depth + 1);
    struct segment *upper =
        segment_create(shard, cells_for(n_upper), old->depth + 1);
    if (lower == NULL || upper == NULL) {
        segment_destroy(shard, lower);
        segment_destroy(shard, upper);
        return false;
    }
    for (uint32_t i = 0; i < old->n_cells; i++) {
        const struct pc_record *cell = &old->cells[i];
        if (!is_empty(cell)) {
            bool up = (prefix(cell->digest, old->depth + 1) & 1) != 0;
            insert(up ? upper : lower, cell);
        }
    }
    uint64_t bit = (uint64_t)1 << (63 - old->depth);
    struct pc_digest half = digest;
    half.lo &= ~bit;
    point_at(shard, half, old->depth + 1, lower);
    half.lo |= bit;
    point_at(shard, half, old->depth + 1, upper);
    segment_destroy(shard, old);
    return true;
}

static bool grow(struct pc_shard *shard, struct segment *segment,
                 struct pc_digest digest)
{
    if (segment->n_cells + segment->n_cells / 4 > SEGMENT_MAX) {
        uint32_t n_upper = count_upper(segment);
        if (can_split(shard, segment, n_upper)) {
            return split(shard, segment, digest, n_upper);
        }
    }
    return grow_in_place(shard, segment, digest);
}

/* Make room for one more record of a digest. Without memory a segment fills
 * up further, down to one empty cell, which ends every search. */
static bool make_room(struct pc_shard *shard, struct pc_digest digest)
{
    struct segment *segment = segment_of(shard, digest);
    if (segment->n_used + 1 <= segment->n_cells - segment->n_cells / 8) {
        return true;
    }
    return grow(shard, segment, digest) ||
           segment->n_used + 2 <= segment->n_cells;
}

struct pc_shard *pc_shard_create(size_t max_records)
{
    struct pc_shard *shard = pc_alloc(1, sizeof(*shard));
    if (shard == NULL) {
        return NULL;
    }
    shard->bytes = sizeof(*shard) + sizeof(struct segment *);
    shard->max_records = max_records == 0 ? RECORDS_MAX : max_records;
    shard->directory = pc_alloc(1, sizeof(struct segment *));
    if (shard->directory != NULL) {
        shard->directory[0] = segment_create(shard, SEGMENT_MIN, 0);
    }
    if (shard->directory == NULL || shard->directory[0] == NULL) {
        pc_free(shard->directory);
        pc_free(shard);
        return NULL;
    }
    return shard;
}

void pc_shard_destroy(struct pc_shard *shard)
{
    if (shard == NULL) {
        return;
    }
    size_t n = (size_t)1 << shard->depth;
    for (size_t i = 0; i < n;) {
        struct segment *segment = shard->directory[i];
        i += (size_t)1 << (shard->depth - segment->depth);
        segment_destroy(shard, segment);
    }
    PC_ASSERT(shard->n_segments == 0);
    pc_free(shard->directory);
    pc_free(shard);
}

peercache_status_t pc_shard_publish(struct pc_shard *shard,
                                    const struct pc_record *record)
{
    uint32_t at;
    if (record->length == 0) {
        return PEERCACHE_INVALID;
    }
    struct segment *segment = segment_of(shard, record->digest);
    if (find(segment, record, &at)) {
        if (record->generation > segment->cells[at].generation) {
            segment->cells[at] = *record;
            shard->n_changes++;
        }
        return PEERCACHE_OK;
    }
    if (shard->n_records >= shard->max_records) {
        return PEERCACHE_NO_SPACE;
    }
    if (!make_room(shard, record->digest)) {
        return PEERCACHE_NO_MEMORY;
    }
    insert(segment_of(shard, record->digest), record);
    shard->n_records++;
    shard->n_changes++;
    return PEERCACHE_OK;
}

bool pc_shard_retract(struct pc_shard *shard, const struct pc_record *record)
{
    uint32_t at;
    struct segment *segment = segment_of(shard, record->digest);
    if (!find(segment, record, &at) ||
        segment->cells[at].generation > record->generation) {
        return false;
    }
    erase(segment, at);
    shard->n_records--;
    shard->n_changes++;
    return true;
}

size_t pc_shard_lookup(const struct pc_shard *shard, struct pc_digest digest,
                       struct pc_record *records, size_t max)
{
    const struct segment *segment = segment_of(shard, digest);
    uint32_t at = home_of(segment, digest);
    uint32_t away = 0;
    size_t n = 0;
    while (find_next(segment, digest, &at, &away)) {
        if (n < max) {
            records[n] = segment->cells[at];
        }
        n++;
        at = next_cell(segment, at);
        away++;
    }
    return n;
}

size_t pc_shard_count(const struct pc_shard *shard)
{
    return shard->n_records;
}

size_t pc_shard_bytes(const struct pc_shard *shard)
{
    return shard->bytes;
}

uint64_t pc_shard_changes(const struct pc_shard *shard)
{
    return shard->n_changes;
}

/* Begin where no run of cells wraps around, so that a removal never shifts an
 * unvisited record behind us, nor a visited one in front. */
static uint32_t run_start(const struct segment *segment)
{
    uint32_t at = 0;
    while (!is_empty(&segment->cells[at]) && distance(segment, at) > 0) {
        at++;
    }
    return at;
}

static void sweep_segment(struct pc_shard *shard, struct segment *segment,
                          bool (*keep)(void *arg,
                                       const struct pc_record *record),
                          void *arg)
{
    uint32_t at = run_start(segment);
    for (uint32_t n_left = segment->n_cells; n_left > 0; n_left--) {
        /* A removal brings the next record of the run into this cell. */
        while (!is_empty(&segment->cells[at]) &&
               !keep(arg, &segment->cells[at])) {
            erase(segment, at);
            shard->n_records--;
            shard->n_changes++;
        }
        at = next_cell(segment, at);
    }
}

/* *at is a prefix of DEPTH_MAX bits, so it means the same range of digests
 * after a growth between two calls: nothing is left out or visited twice. */
bool pc_shard_sweep(struct pc_shard *shard, size_t *at, size_t max,
                    bool (*keep)(void *arg, const struct pc_record *record),
                    void *arg)
{
    size_t n_visited = 0;
    size_t end = (size_t)1 << DEPTH_MAX;
    while (*at < end) {
        struct segment *segment =
            shard->directory[*at >> (DEPTH_MAX - shard->depth)];
        if (n_visited > 0 && n_visited + segment->n_cells > max) {
            return true;
        }
        n_visited += segment->n_cells;
        sweep_segment(shard, segment, keep, arg);
        *at += (size_t)1 << (DEPTH_MAX - segment->depth);
    }
    return false;
}
