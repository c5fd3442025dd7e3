/*
 * fuzz_record.c - 64 bytes at a time to pc_record_decode: what decodes
 * encodes to the same bytes.
 */
#include "fuzz.h"

#include "proto/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (; size >= PC_RECORD_SIZE; size -= PC_RECORD_SIZE) {
        struct pc_record record;
        uint8_t bytes[PC_RECORD_SIZE];
        if (pc_record_decode(data, &record)) {
            pc_record_encode(&record, bytes);
            if (memcmp(bytes, data, PC_RECORD_SIZE) != 0) {
                abort();
            }
        }
        data += PC_RECORD_SIZE;
    }
    return 0;
}
