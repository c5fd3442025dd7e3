/*
 * format.h - what is on disk, byte by byte. Little endian. Pure.
 *
 * A segment file begins with a header block. Records follow, each at a multiple
 * of 64 bytes; what one write put there begins at a multiple of 4,096, and what
 * is between two writes is zero. A sealed segment ends with its index block and
 * a footer of 4,096 bytes, the last of the file. Everything but values is under
 * a checksum whose seed is the segment's nonce, a random number: bytes of an
 * older segment, or a value that looks like a record, are not taken for one.
 */
#ifndef PC_DISK_FORMAT_H
#define PC_DISK_FORMAT_H

#include "base/digest.h"

#include "io.h"

#define PC_DISK_VERSION      1u
#define PC_DISK_NODE_ID_MAX  128u
#define PC_DISK_UNIT         64u /* Records begin at multiples. */
#define PC_DISK_RECORD_BYTES 64u /* Of a record's header. */
#define PC_DISK_ENTRY_BYTES  40u /* Of an entry of the index block. */
#define PC_DISK_SPACE_MAX    255u
#define PC_DISK_KEY_MAX      PEERCACHE_KEY_MAX
#define PC_DISK_NAMES_MAX    (PC_DISK_SPACE_MAX + PC_DISK_KEY_MAX)
#define PC_DISK_VALUE_MAX    UINT32_MAX

enum pc_disk_kind { PC_DISK_VALUE = 1, PC_DISK_TOMBSTONE = 2 };

/* Whose segment it is: the header block, and again in the footer. */
struct pc_disk_ident
{
    uint64_t number; /* Grows: a higher one is newer. */
    uint64_t nonce;
    uint64_t seed;
    char node_id[PC_DISK_NODE_ID_MAX + 1];
};

struct pc_disk_record
{
    struct pc_digest digest;
    uint64_t length; /* 0: a tombstone. */
    uint64_t checksum;
    uint16_t name_space_len;
    uint16_t key_len;
    enum pc_disk_kind kind;
};

/* One record, as the index block says it. */
struct pc_disk_entry
{
    struct pc_digest digest;
    uint64_t checksum;
    uint32_t at; /* In units. */
    uint32_t length;
    uint16_t names_len; /* Of namespace and key. */
    uint16_t kind;
};

struct pc_disk_footer
{
    struct pc_disk_ident ident;
    uint64_t index_at; /* Bytes; a multiple of PC_DISK_BLOCK. */
    uint64_t n_entries;
    uint64_t checksum; /* Of the entries' bytes. */
};

enum pc_disk_header {
    PC_DISK_HEADER_OK,
    PC_DISK_HEADER_EMPTY,   /* Zeros: made, but never written. */
    PC_DISK_HEADER_UNKNOWN, /* Another version. */
    PC_DISK_HEADER_BAD
};

static inline uint64_t pc_disk_round(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

/* Bytes that a record takes in a segment. */
static inline uint64_t pc_disk_record_size(uint64_t names_len, uint64_t length)
{
    return pc_disk_round(PC_DISK_RECORD_BYTES + names_len + length,
                         PC_DISK_UNIT);
}

/* Bytes of index block and footer. */
static inline uint64_t pc_disk_index_size(uint64_t n_entries)
{
    return pc_disk_round(n_entries * PC_DISK_ENTRY_BYTES, PC_DISK_BLOCK) +
           PC_DISK_BLOCK;
}

/* Into a zeroed block of PC_DISK_BLOCK. */
void pc_disk_put_ident(const struct pc_disk_ident *ident, unsigned char *block);
enum pc_disk_header pc_disk_get_ident(const unsigned char *block,
                                      struct pc_disk_ident *ident_p);
void pc_disk_put_footer(const struct pc_disk_footer *footer,
                        unsigned char *block);
bool pc_disk_get_footer(const unsigned char *block,
                        struct pc_disk_footer *footer_p);

/* PC_DISK_RECORD_BYTES; `names` is namespace and key, one behind the other. */
void pc_disk_put_record(const struct pc_disk_record *record, const void *names,
                        uint64_t nonce, unsigned char *to);
/* Lengths, magic and reserved bytes are right: the names may be looked at. */
bool pc_disk_peek_record(const unsigned char *from,
                         struct pc_disk_record *record_p);
/* The names lie behind the header; does its checksum hold? */
bool pc_disk_check_record(const unsigned char *from, uint64_t nonce);

void pc_disk_put_entry(const struct pc_disk_entry *entry, unsigned char *to);
/* False: no entry looks like this. */
bool pc_disk_get_entry(const unsigned char *from,
                       struct pc_disk_entry *entry_p);

#define PC_DISK_NAME_BYTES 21 /* "seg-" and 16 digits, with the NUL. */

void pc_disk_name(uint64_t number, char *to);
/* Is it the name of a segment? */
bool pc_disk_parse_name(const char *name, uint64_t *number_p);

#endif /* PC_DISK_FORMAT_H */
