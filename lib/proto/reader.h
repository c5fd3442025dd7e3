/*
 * reader.h - a strict cursor over a msgpack body; inside proto only.
 *
 * The first failure stays: every later read returns 0 or NULL and does
 * nothing, so a message's reader looks at the status where it would use a
 * value, and the caller at the end. Lengths are checked before bytes are read
 * and limits before anything is allocated. Not thread-safe.
 */
#ifndef PC_PROTO_READER_H
#define PC_PROTO_READER_H

#include "msg.h"

struct pc_reader
{
    struct pc_blob bytes;
    size_t at;
    struct pc_arena *arena;
    peercache_status_t status; /* OK, PROTOCOL or NO_MEMORY. */
};

void pc_reader_init(struct pc_reader *r, struct pc_blob bytes,
                    struct pc_arena *arena);
void pc_reader_fail(struct pc_reader *r, peercache_status_t status);

/* An array of fields: fewer than n_known is an error. Returns how many there
 * are behind those, for pc_reader_close, which skips them. */
uint32_t pc_reader_open(struct pc_reader *r, uint32_t n_known);
void pc_reader_close(struct pc_reader *r, uint32_t n_unknown);
/* An array of items of one kind, of at least item_min bytes each. */
uint32_t pc_reader_list(struct pc_reader *r, uint32_t max, size_t item_min);

/* A number of at most max. */
uint64_t pc_reader_number(struct pc_reader *r, uint64_t max);
uint64_t pc_reader_u64(struct pc_reader *r);
uint32_t pc_reader_u32(struct pc_reader *r);
bool pc_reader_bool(struct pc_reader *r);
/* An error; 0 only after a failure. */
int32_t pc_reader_error(struct pc_reader *r);
/* Into a cleared field of `size` bytes, NUL included. */
void pc_reader_text(struct pc_reader *r, char *text, size_t size);
/* Points into the message. */
struct pc_blob pc_reader_blob(struct pc_reader *r, size_t max);

/* How many items a packed array may have. */
struct pc_bounds
{
    uint32_t min, max;
};

/* Packed arrays, copied to the arena: NULL if empty or failed. */
uint8_t *pc_reader_bytes(struct pc_reader *r, struct pc_bounds bounds,
                         uint8_t value_max, uint32_t *n_p);
int8_t *pc_reader_statuses(struct pc_reader *r, uint32_t *n_p);
uint64_t *pc_reader_u64s(struct pc_reader *r, struct pc_bounds bounds);
struct pc_digest *pc_reader_digests(struct pc_reader *r,
                                    struct pc_bounds bounds, uint32_t *n_p);
struct pc_record *pc_reader_records(struct pc_reader *r,
                                    struct pc_bounds bounds, uint32_t *n_p);
/* The same, but left in the message: n items of item_size bytes. */
const uint8_t *pc_reader_packed(struct pc_reader *r, size_t item_size,
                                struct pc_bounds bounds, uint32_t *n_p);
/* Zeroed items from the arena, NULL if n is 0 or memory is short. */
void *pc_reader_alloc(struct pc_reader *r, uint32_t n, size_t size);

#endif /* PC_PROTO_READER_H */
