/*
 * record.h - where a value is: the 64 bytes that the directory keeps.
 *
 * The same layout in memory (little-endian fields, written by the codec) and
 * on the wire. A record names one copy: (digest, incarnation) is its key and
 * the higher generation is the newer one (I4). Pure data, any thread.
 */
#ifndef PC_PROTO_RECORD_H
#define PC_PROTO_RECORD_H

#include "base/digest.h"

#include <stdbool.h>
#include <stdint.h>

#define PC_RECORD_SIZE 64

/* Flags. */
#define PC_RECORD_ON_DISK 1u /* Only on the holder's disk tier. */

struct pc_record
{
    struct pc_digest digest;
    uint64_t incarnation; /* Of the holder. */
    uint64_t generation;  /* Of the slot; even. */
    uint64_t offset;      /* Of the extent in its region, bytes. */
    uint64_t length;      /* Bytes. */
    uint64_t checksum;    /* XXH3-64 of the value. */
    uint32_t slot;        /* Index in the region's slot table. */
    uint16_t region;
    uint16_t flags;
};

_Static_assert(sizeof(struct pc_record) == PC_RECORD_SIZE, "one layout");

static inline bool pc_record_is_on_disk(const struct pc_record *record)
{
    return (record->flags & PC_RECORD_ON_DISK) != 0;
}
/* The fields are such as a holder writes: even generation, length above 0, no
 * unknown flag. */
bool pc_record_is_valid(const struct pc_record *record);
void pc_record_encode(const struct pc_record *record,
                      uint8_t bytes[PC_RECORD_SIZE]);
/* False: it is not valid; *record is then untouched. */
bool pc_record_decode(const uint8_t bytes[PC_RECORD_SIZE],
                      struct pc_record *record);
/* 64-bit hash of all fields, for summaries. */
uint64_t pc_record_hash(const struct pc_record *record);

#endif /* PC_PROTO_RECORD_H */
