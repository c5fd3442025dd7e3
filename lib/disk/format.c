#include "format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_MAGIC "PCDSEGM"
#define FOOTER_MAGIC  "PCDFOOT"
#define RECORD_MAGIC  0x52444350u /* "PCDR" */

/* Where things are in the header block, and in the copy in the footer. */
enum {
    IDENT_VERSION = 8,
    IDENT_BLOCK = 12,
    IDENT_NUMBER = 16,
    IDENT_NONCE = 24,
    IDENT_SEED = 32,
    IDENT_ID_LEN = 40,
    IDENT_ID = 48,
    IDENT_CHECKSUM = IDENT_ID + (int)PC_DISK_NODE_ID_MAX,
    IDENT_BYTES = IDENT_CHECKSUM + 8,

    FOOTER_INDEX_AT = 8,
    FOOTER_N = 16,
    FOOTER_INDEX_CHECKSUM = 24,
    FOOTER_IDENT = 32,
    FOOTER_CHECKSUM = FOOTER_IDENT + IDENT_BYTES,

    RECORD_KIND = 4,
    RECORD_SPACE_LEN = 6,
    RECORD_DIGEST = 8,
    RECORD_LENGTH = 24,
    RECORD_VALUE_CHECKSUM = 32,
    RECORD_KEY_LEN = 40,
    RECORD_ZERO = 42,
    RECORD_CHECKSUM = 56,

    ENTRY_CHECKSUM = 16,
    ENTRY_AT = 24,
    ENTRY_LENGTH = 28,
    ENTRY_NAMES = 32,
    ENTRY_KIND = 34,
    ENTRY_ZERO = 36
};

static void put(unsigned char *to, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        to[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint64_t get(const unsigned char *from, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

static bool is_zero(const unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

void pc_disk_put_ident(const struct pc_disk_ident *ident, unsigned char *block)
{
    size_t id_len = strlen(ident->node_id);
    memcpy(block, SEGMENT_MAGIC, 8);
    put(block + IDENT_VERSION, PC_DISK_VERSION, 4);
    put(block + IDENT_BLOCK, PC_DISK_BLOCK, 4);
    put(block + IDENT_NUMBER, ident->number, 8);
    put(block + IDENT_NONCE, ident->nonce, 8);
    put(block + IDENT_SEED, ident->seed, 8);
    put(block + IDENT_ID_LEN, id_len, 4);
    memcpy(block + IDENT_ID, ident->node_id, id_len);
    put(block + IDENT_CHECKSUM, pc_hash64(block, IDENT_CHECKSUM, 0), 8);
}

/* The first 16 bytes mean the same in every version; the rest is this one's. */
enum pc_disk_header pc_disk_get_ident(const unsigned char *block,
                                      struct pc_disk_ident *ident_p)
{
    if (is_zero(block, IDENT_BYTES)) {
        return PC_DISK_HEADER_EMPTY;
    }
    if (memcmp(block, SEGMENT_MAGIC, 8) != 0) {
        return PC_DISK_HEADER_BAD;
    }
    if (get(block + IDENT_VERSION, 4) != PC_DISK_VERSION) {
        return PC_DISK_HEADER_UNKNOWN;
    }
    uint64_t id_len = get(block + IDENT_ID_LEN, 4);
    if (get(block + IDENT_CHECKSUM, 8) != pc_hash64(block, IDENT_CHECKSUM, 0) ||
        get(block + IDENT_BLOCK, 4) != PC_DISK_BLOCK ||
        id_len > PC_DISK_NODE_ID_MAX) {
        return PC_DISK_HEADER_BAD;
    }
    struct pc_disk_ident ident = {.number = get(block + IDENT_NUMBER, 8),
                                  .nonce = get(block + IDENT_NONCE, 8),
                                  .seed = get(block + IDENT_SEED, 8)};
    memcpy(ident.node_id, block + IDENT_ID, id_len);
    *ident_p = ident;
    return PC_DISK_HEADER_OK;
}

void pc_disk_put_footer(const struct pc_disk_footer *footer,
                        unsigned char *block)
{
    memcpy(block, FOOTER_MAGIC, 8);
    put(block + FOOTER_INDEX_AT, footer->index_at, 8);
    put(block + FOOTER_N, footer->n_entries, 8);
    put(block + FOOTER_INDEX_CHECKSUM, footer->checksum, 8);
    pc_disk_put_ident(&footer->ident, block + FOOTER_IDENT);
    put(block + FOOTER_CHECKSUM, pc_hash64(block, FOOTER_CHECKSUM, 0), 8);
}

bool pc_disk_get_footer(const unsigned char *block,
                        struct pc_disk_footer *footer_p)
{
    struct pc_disk_footer footer;
    if (memcmp(block, FOOTER_MAGIC, 8) != 0 ||
        get(block + FOOTER_CHECKSUM, 8) !=
            pc_hash64(block, FOOTER_CHECKSUM, 0) ||
        pc_disk_get_ident(block + FOOTER_IDENT, &footer.ident) !=
            PC_DISK_HEADER_OK) {
        return false;
    }
    footer.index_at = get(block + FOOTER_INDEX_AT, 8);
    footer.n_entries = get(block + FOOTER_N, 8);
    footer.checksum = get(block + FOOTER_INDEX_CHECKSUM, 8);
    *footer_p = footer;
    return true;
}

static uint64_t record_checksum(const unsigned char *header, const void *names,
                                size_t names_len, uint64_t nonce)
{
    return pc_hash64(header, RECORD_CHECKSUM,
                     pc_hash64(names, names_len, nonce));
}

void pc_disk_put_record(const struct pc_disk_record *record, const void *names,
                        uint64_t nonce, unsigned char *to)
{
    memset(to, 0, PC_DISK_RECORD_BYTES);
    put(to, RECORD_MAGIC, 4);
    put(to + RECORD_KIND, (uint64_t)record->kind, 1);
    put(to + RECORD_SPACE_LEN, record->name_space_len, 2);
    put(to + RECORD_DIGEST, record->digest.lo, 8);
    put(to + RECORD_DIGEST + 8, record->digest.hi, 8);
    put(to + RECORD_LENGTH, record->length, 8);
    put(to + RECORD_VALUE_CHECKSUM, record->checksum, 8);
    put(to + RECORD_KEY_LEN, record->key_len, 2);
    size_t names_len = (size_t)record->name_space_len + record->key_len;
    put(to + RECORD_CHECKSUM, record_checksum(to, names, names_len, nonce), 8);
}

static bool right_lengths(uint64_t kind, uint64_t names_len, uint64_t length)
{
    return kind == PC_DISK_VALUE
               ? length > 0 && length <= PC_DISK_VALUE_MAX
               : kind == PC_DISK_TOMBSTONE && length == 0 && names_len == 0;
}

bool pc_disk_peek_record(const unsigned char *from,
                         struct pc_disk_record *record_p)
{
    if (get(from, 4) != RECORD_MAGIC) {
        return false;
    }
    uint64_t kind = from[RECORD_KIND];
    struct pc_disk_record record = {
        .digest = {get(from + RECORD_DIGEST, 8),
                   get(from + RECORD_DIGEST + 8, 8)},
        .length = get(from + RECORD_LENGTH, 8),
        .checksum = get(from + RECORD_VALUE_CHECKSUM, 8),
        .name_space_len = (uint16_t)get(from + RECORD_SPACE_LEN, 2),
        .key_len = (uint16_t)get(from + RECORD_KEY_LEN, 2),
        .kind = kind == PC_DISK_VALUE ? PC_DISK_VALUE : PC_DISK_TOMBSTONE};
    if (!right_lengths(kind, (uint64_t)record.name_space_len + record.key_len,
                       record.length) ||
        record.name_space_len > PC_DISK_SPACE_MAX ||
        record.key_len > PC_DISK_KEY_MAX || from[RECORD_KIND + 1] != 0 ||
        !is_zero(from + RECORD_ZERO, RECORD_CHECKSUM - RECORD_ZERO)) {
        return false;
    }
    *record_p = record;
    return true;
}

bool pc_disk_check_record(const unsigned char *from, uint64_t nonce)
{
    size_t names_len = (size_t)get(from + RECORD_SPACE_LEN, 2) +
                       (size_t)get(from + RECORD_KEY_LEN, 2);
    return get(from + RECORD_CHECKSUM, 8) ==
           record_checksum(from, from + PC_DISK_RECORD_BYTES, names_len, nonce);
}

void pc_disk_put_entry(const struct pc_disk_entry *entry, unsigned char *to)
{
    put(to, entry->digest.lo, 8);
    put(to + 8, entry->digest.hi, 8);
    put(to + ENTRY_CHECKSUM, entry->checksum, 8);
    put(to + ENTRY_AT, entry->at, 4);
    put(to + ENTRY_LENGTH, entry->length, 4);
    put(to + ENTRY_NAMES, entry->names_len, 2);
    put(to + ENTRY_KIND, entry->kind, 2);
    put(to + ENTRY_ZERO, 0, 4);
}

bool pc_disk_get_entry(const unsigned char *from, struct pc_disk_entry *entry_p)
{
    struct pc_disk_entry entry = {
        .digest = {get(from, 8), get(from + 8, 8)},
        .checksum = get(from + ENTRY_CHECKSUM, 8),
        .at = (uint32_t)get(from + ENTRY_AT, 4),
        .length = (uint32_t)get(from + ENTRY_LENGTH, 4),
        .names_len = (uint16_t)get(from + ENTRY_NAMES, 2),
        .kind = (uint16_t)get(from + ENTRY_KIND, 2)};
    if (!right_lengths(entry.kind, entry.names_len, entry.length) ||
        entry.names_len > PC_DISK_NAMES_MAX || get(from + ENTRY_ZERO, 4) != 0) {
        return false;
    }
    *entry_p = entry;
    return true;
}

void pc_disk_name(uint64_t number, char *to)
{
    (void)snprintf(to, PC_DISK_NAME_BYTES, "seg-%016" PRIx64, number);
}

bool pc_disk_parse_name(const char *name, uint64_t *number_p)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t number = 0;
    if (strlen(name) != PC_DISK_NAME_BYTES - 1 ||
        memcmp(name, "seg-", 4) != 0) {
        return false;
    }
    for (const char *at = name + 4; *at != '\0'; at++) {
        const char *digit = strchr(digits, *at);
        if (digit == NULL) {
            return false;
        }
        number = number << 4 | (uint64_t)(digit - digits);
    }
    *number_p = number;
    return true;
}
