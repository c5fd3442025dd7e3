/*
 * limits.h - every bound of the wire, in one place.
 *
 * Decoders look at these before they allocate; encoders split before they
 * reach them. Changing one changes the protocol: see PC_PROTOCOL_VERSION.
 */
#ifndef PC_PROTO_LIMITS_H
#define PC_PROTO_LIMITS_H

#define PC_PROTOCOL_VERSION 1 /* Messages. */
#define PC_LAYOUT_VERSION   1 /* Slot headers, region page 0, records. */
#define PC_DIGEST_VERSION   1 /* What a digest is computed from. */

#define PC_HEAD_MAX         (1u << 20)    /* Bytes of one message's head. */
#define PC_ANSWER_BYTES_MAX (32ull << 20) /* Of values, or one value. */
#define PC_NODES_MAX        4096
#define PC_NODE_ID_MAX      128 /* Characters. */
#define PC_CLUSTER_NAME_MAX 128
#define PC_ADDRESS_MAX      128 /* Text of an address. */
#define PC_REASON_MAX       256
/* A longer TABLE may have to be told in parts, of so many members each, or of
 * former views with so many in all: those always fit. */
#define PC_TABLE_PART        2048
#define PC_TABLE_PART_VIEWED PC_NODES_MAX
/* Members in table and views that a receiver decodes in its memory. */
#define PC_TABLE_DECODED_MAX 24000
#define PC_KEYS_PER_REQUEST  4096 /* Digests in one request. */
#define PC_HOLDERS_PER_KEY   3    /* Records of one key in one answer. */
#define PC_WHY_RECORDS_MAX   24   /* The same when somebody asks why. */
#define PC_SUMMARY_RANGES    64   /* Ranges of digests that are compared. */
#define PC_REGIONS_MAX       1024 /* Regions of one node. */
#define PC_RKEY_MAX          512  /* Bytes of one packed rkey. */
#define PC_FABRIC_ADDR_MAX   4096
#define PC_BUSY_MAX          32 /* Members in one table that have much to do. */
#define PC_FORMER_VIEWS_MAX  16 /* Views in one table that are still asked. */
#define PC_NAME_SPACE_MAX    255
#define PC_BATCH_MAX         65536 /* Items of one call. */

#endif /* PC_PROTO_LIMITS_H */
