/*
 * blob.h - what travels in HELLO: the address of a fabric and the rkeys of its
 * regions, as bytes.
 *
 * A fixed layout in little-endian order with a checksum in front of UCX's own
 * opaque bytes, because UCX parses those without looking at a length: what was
 * cut or damaged must not get that far. Pure functions; any thread.
 */
#ifndef PC_UCX_BLOB_H
#define PC_UCX_BLOB_H

#include "seam/fabric.h"

#include <stdint.h>

/* Longest worker address or packed rkey that is taken. */
#define PC_UCX_OPAQUE_MAX 4096u

/* UCX reads a packed rkey up to 64 parts of a length byte and 255 bytes; a
 * copy with this much behind it cannot be read past its end. */
#define PC_UCX_OPAQUE_ROOM (PC_UCX_OPAQUE_MAX + 64u * 256u + 16u)

/* The address of a fabric. */
struct pc_ucx_hello
{
    uint16_t ucx_version[3];
    uint16_t loopback;   /* 1: its tcp carrier is bound to loopback. */
    uint64_t map_domain; /* Who shares memory with it; 0: nobody. */
    uint64_t boot;       /* The running kernel. */
    uint64_t net;        /* Boot and network namespace. */
    uint64_t probe_addr; /* A few registered bytes that hold probe_value. */
    uint64_t probe_value;
    struct pc_blob worker; /* Empty: no gets. */
    struct pc_blob probe_rkey;
};

/* The right to read a region. */
struct pc_ucx_region
{
    uint64_t addr;
    uint64_t len;
    struct pc_blob map_rkey; /* Empty: cannot be mapped. */
    struct pc_blob get_rkey; /* Empty: no gets. */
};

/* Bytes from pc_alloc; data NULL if there is no memory. */
struct pc_blob pc_ucx_hello_pack(const struct pc_ucx_hello *hello);
struct pc_blob pc_ucx_region_pack(const struct pc_ucx_region *region);

/* PROTOCOL: malformed. VERSION: another layout. The result points into blob. */
peercache_status_t pc_ucx_hello_unpack(struct pc_blob blob,
                                       struct pc_ucx_hello *hello_p);
peercache_status_t pc_ucx_region_unpack(struct pc_blob blob,
                                        struct pc_ucx_region *region_p);

#endif /* PC_UCX_BLOB_H */
