/*
 * wire.h - little-endian numbers, and what reader and writer both check.
 *
 * Compilers turn each of these into one move where the machine is
 * little-endian. Pure functions, any thread.
 */
#ifndef PC_PROTO_WIRE_H
#define PC_PROTO_WIRE_H

#include <peercache/peercache.h>

#include <stdbool.h>
#include <stdint.h>

static inline void pc_wire_put16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static inline void pc_wire_put32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
    bytes[2] = (uint8_t)(value >> 16);
    bytes[3] = (uint8_t)(value >> 24);
}

static inline void pc_wire_put64(uint8_t *bytes, uint64_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
    bytes[2] = (uint8_t)(value >> 16);
    bytes[3] = (uint8_t)(value >> 24);
    bytes[4] = (uint8_t)(value >> 32);
    bytes[5] = (uint8_t)(value >> 40);
    bytes[6] = (uint8_t)(value >> 48);
    bytes[7] = (uint8_t)(value >> 56);
}

static inline uint16_t pc_wire_get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t pc_wire_get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 |
           (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline uint64_t pc_wire_get64(const uint8_t *bytes)
{
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 |
           (uint64_t)bytes[2] << 16 | (uint64_t)bytes[3] << 24 |
           (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40 |
           (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
}

/* A status that this version knows and that can be a result. */
static inline bool pc_wire_is_status(int64_t status)
{
    switch (status) {
#define PC_WIRE_STATUS_CASE(name, value, text) case value:
        PEERCACHE_STATUS_MAP(PC_WIRE_STATUS_CASE)
#undef PC_WIRE_STATUS_CASE
        return status != PEERCACHE_IN_PROGRESS;
    default:
        return false;
    }
}

#endif /* PC_PROTO_WIRE_H */
