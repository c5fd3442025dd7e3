/*
 * writer.h - builds a message in memory from pc_alloc; inside proto only.
 *
 * The mirror of reader.h: what breaks a limit there is refused here, so that
 * whatever is written can be read. The first failure stays and makes every
 * later call do nothing; look at the status once, at the end. Not thread-safe.
 */
#ifndef PC_PROTO_WRITER_H
#define PC_PROTO_WRITER_H

#include "msg.h"

struct pc_writer
{
    uint8_t *bytes;
    size_t len;
    size_t capacity;
    peercache_status_t status; /* OK, INVALID or NO_MEMORY. */
};

void pc_writer_init(struct pc_writer *w);
void pc_writer_fini(struct pc_writer *w);
void pc_writer_fail(struct pc_writer *w, peercache_status_t status);
/* Room for len bytes at the end, to be filled; NULL after a failure. */
uint8_t *pc_writer_space(struct pc_writer *w, size_t len);

/* Header of an array of n fields or items. */
void pc_writer_array(struct pc_writer *w, size_t n);
void pc_writer_number(struct pc_writer *w, uint64_t number, uint64_t max);
void pc_writer_u64(struct pc_writer *w, uint64_t number);
void pc_writer_bool(struct pc_writer *w, bool value);
void pc_writer_error(struct pc_writer *w, int32_t status);
/* A field of `size` bytes that has a NUL. */
void pc_writer_text(struct pc_writer *w, const char *text, size_t size);
void pc_writer_blob(struct pc_writer *w, struct pc_blob blob, size_t max);

/* Packed arrays; the message's encoder has checked n. */
void pc_writer_bytes(struct pc_writer *w, const uint8_t *bytes, uint32_t n,
                     uint8_t value_max);
void pc_writer_statuses(struct pc_writer *w, const int8_t *statuses,
                        uint32_t n);
void pc_writer_u64s(struct pc_writer *w, const uint64_t *numbers, uint32_t n);
void pc_writer_digests(struct pc_writer *w, const struct pc_digest *digests,
                       uint32_t n);
void pc_writer_records(struct pc_writer *w, const struct pc_record *records,
                       uint32_t n);
/* Header and room of a packed array; NULL after a failure, or if it is empty.
 */
uint8_t *pc_writer_packed(struct pc_writer *w, size_t item_size, size_t n);

#endif /* PC_PROTO_WRITER_H */
