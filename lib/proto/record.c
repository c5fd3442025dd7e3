#include "record.h"

#include "wire.h"

#define KNOWN_FLAGS PC_RECORD_ON_DISK

bool pc_record_is_valid(const struct pc_record *record)
{
    return record->generation % 2 == 0 && record->length > 0 &&
           (record->flags & ~KNOWN_FLAGS) == 0;
}

void pc_record_encode(const struct pc_record *record,
                      uint8_t bytes[PC_RECORD_SIZE])
{
    pc_wire_put64(bytes, record->digest.lo);
    pc_wire_put64(bytes + 8, record->digest.hi);
    pc_wire_put64(bytes + 16, record->incarnation);
    pc_wire_put64(bytes + 24, record->generation);
    pc_wire_put64(bytes + 32, record->offset);
    pc_wire_put64(bytes + 40, record->length);
    pc_wire_put64(bytes + 48, record->checksum);
    pc_wire_put32(bytes + 56, record->slot);
    pc_wire_put16(bytes + 60, record->region);
    pc_wire_put16(bytes + 62, record->flags);
}

bool pc_record_decode(const uint8_t bytes[PC_RECORD_SIZE],
                      struct pc_record *record)
{
    struct pc_record read = {
        .digest = {pc_wire_get64(bytes), pc_wire_get64(bytes + 8)},
        .incarnation = pc_wire_get64(bytes + 16),
        .generation = pc_wire_get64(bytes + 24),
        .offset = pc_wire_get64(bytes + 32),
        .length = pc_wire_get64(bytes + 40),
        .checksum = pc_wire_get64(bytes + 48),
        .slot = pc_wire_get32(bytes + 56),
        .region = pc_wire_get16(bytes + 60),
        .flags = pc_wire_get16(bytes + 62),
    };

    if (!pc_record_is_valid(&read)) {
        return false;
    }
    *record = read;
    return true;
}

uint64_t pc_record_hash(const struct pc_record *record)
{
    uint8_t bytes[PC_RECORD_SIZE];

    /* The wire form, so that machines of any byte order agree. */
    pc_record_encode(record, bytes);
    return pc_hash64(bytes, sizeof(bytes), 0);
}
