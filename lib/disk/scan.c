#include "scan.h"

#include "base/mem.h"

#include <string.h>

#define SKIPPED ((size_t)64 << 10) /* Bytes given up where a read fails. */

/* Index blocks are read in parts that hold whole entries and whole blocks. */
#define PART ((size_t)51 * 5 * PC_DISK_BLOCK)
_Static_assert(PART % PC_DISK_ENTRY_BYTES == 0 && PART <= PC_DISK_STAGE,
               "whole entries in a buffer");

void pc_disk_entries_fini(struct pc_disk_entries *entries)
{
    pc_free(entries->entry);
    *entries = (struct pc_disk_entries){0};
}

bool pc_disk_entries_add(struct pc_disk_entries *entries,
                         const struct pc_disk_entry *entry)
{
    if (entries->n == entries->capacity) {
        size_t capacity = entries->capacity > 0 ? 2 * entries->capacity : 64;
        struct pc_disk_entry *grown =
            pc_realloc(entries->entry, capacity, sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        entries->entry = grown;
        entries->capacity = capacity;
    }
    entries->entry[entries->n++] = *entry;
    return true;
}

/* ---- The index block -------------------------------------------------- */

static int read_block(const struct pc_disk_source *source, void *to,
                      uint64_t at, bool *whole_p)
{
    size_t n = 0;
    int error = source->read(source->arg, to, PC_DISK_BLOCK, at, &n);
    *whole_p = error == 0 && n == PC_DISK_BLOCK;
    return error;
}

/* False also where there is none. */
static int read_footer(const struct pc_disk_source *source, void *buffer,
                       bool *found_p, struct pc_disk_footer *footer_p)
{
    bool whole = false;
    int error = 0;
    if (source->size >= 2 * PC_DISK_BLOCK &&
        source->size % PC_DISK_BLOCK == 0) {
        error =
            read_block(source, buffer, source->size - PC_DISK_BLOCK, &whole);
    }
    *found_p = whole && pc_disk_get_footer(buffer, footer_p);
    return error;
}

int pc_disk_read_ident(const struct pc_disk_source *source, void *buffer,
                       enum pc_disk_header *header_p,
                       struct pc_disk_ident *ident_p)
{
    struct pc_disk_footer footer;
    bool whole = false;
    bool found = false;
    int error = read_block(source, buffer, 0, &whole);
    *header_p = whole
                    ? pc_disk_get_ident(buffer, ident_p)
                    : (error == 0 ? PC_DISK_HEADER_EMPTY : PC_DISK_HEADER_BAD);
    if (*header_p == PC_DISK_HEADER_OK || *header_p == PC_DISK_HEADER_UNKNOWN) {
        return 0;
    }
    (void)read_footer(source, buffer, &found, &footer);
    if (found) {
        *header_p = PC_DISK_HEADER_OK;
        *ident_p = footer.ident;
        return 0;
    }
    return error;
}

/* Take over the entries in one part of the index block. */
static enum pc_disk_load load_part(const unsigned char *part, size_t n,
                                   uint64_t index_at, uint64_t *end,
                                   struct pc_disk_entries *entries)
{
    for (size_t i = 0; i < n; i++) {
        struct pc_disk_entry entry;
        if (!pc_disk_get_entry(part + i * PC_DISK_ENTRY_BYTES, &entry)) {
            return PC_DISK_LOAD_LIES;
        }
        uint64_t at = (uint64_t)entry.at * PC_DISK_UNIT;
        if (at < *end) {
            return PC_DISK_LOAD_LIES;
        }
        *end = at + pc_disk_record_size(entry.names_len, entry.length);
        if (*end > index_at) {
            return PC_DISK_LOAD_LIES;
        }
        if (!pc_disk_entries_add(entries, &entry)) {
            return PC_DISK_LOAD_NO_MEMORY;
        }
    }
    return PC_DISK_LOAD_OK;
}

static enum pc_disk_load load_entries(const struct pc_disk_source *source,
                                      const struct pc_disk_footer *footer,
                                      unsigned char *buffer,
                                      struct pc_disk_entries *entries)
{
    struct pc_checksum_parts sum;
    uint64_t left = footer->n_entries * PC_DISK_ENTRY_BYTES;
    uint64_t at = footer->index_at;
    uint64_t end = PC_DISK_BLOCK;
    enum pc_disk_load load = PC_DISK_LOAD_OK;
    pc_checksum_begin(&sum);
    while (left > 0 && load == PC_DISK_LOAD_OK) {
        size_t len = left < PART ? (size_t)left : PART;
        size_t n = 0;
        if (source->read(source->arg, buffer,
                         (size_t)pc_disk_round(len, PC_DISK_BLOCK), at,
                         &n) != 0 ||
            n < len) {
            return PC_DISK_LOAD_IO;
        }
        pc_checksum_add(&sum, buffer, len);
        load = load_part(buffer, len / PC_DISK_ENTRY_BYTES, footer->index_at,
                         &end, entries);
        at += len;
        left -= len;
    }
    return load == PC_DISK_LOAD_OK && pc_checksum_end(&sum) != footer->checksum
               ? PC_DISK_LOAD_LIES
               : load;
}

enum pc_disk_load pc_disk_load_index(const struct pc_disk_source *source,
                                     const struct pc_disk_ident *ident,
                                     void *buffer,
                                     struct pc_disk_entries *entries_p)
{
    struct pc_disk_footer footer;
    struct pc_disk_entries entries = {0};
    bool found;
    if (read_footer(source, buffer, &found, &footer) != 0) {
        return PC_DISK_LOAD_IO;
    }
    if (!found) {
        return PC_DISK_LOAD_NONE;
    }
    if (footer.ident.nonce != ident->nonce ||
        footer.ident.number != ident->number ||
        footer.n_entries > source->size / PC_DISK_UNIT ||
        footer.index_at % PC_DISK_BLOCK != 0 ||
        footer.index_at > source->size ||
        source->size - footer.index_at !=
            pc_disk_index_size(footer.n_entries)) {
        return PC_DISK_LOAD_LIES;
    }
    enum pc_disk_load load = load_entries(source, &footer, buffer, &entries);
    if (load != PC_DISK_LOAD_OK) {
        pc_disk_entries_fini(&entries);
        return load;
    }
    *entries_p = entries;
    return PC_DISK_LOAD_OK;
}

/* ---- The scan --------------------------------------------------------- */

/* A part of the file in memory, moving on. */
struct window
{
    struct pc_disk_ahead ahead;
    uint64_t size; /* Of the file. */
    bool io_error;
};

/* What cannot be read counts as zeros. */
static void move_window(struct window *w, uint64_t at)
{
    struct pc_disk_ahead *ahead = &w->ahead;
    uint64_t start = at - at % PC_DISK_BLOCK;
    if (pc_disk_ahead_move(ahead, start) == 0) {
        return;
    }
    w->io_error = true;
    if (pc_disk_ahead_jump(ahead, start, SKIPPED) != 0) {
        pc_disk_ahead_blank(ahead, start, SKIPPED);
    }
    uint64_t left = w->size - start;
    ahead->len = left < ahead->len ? (size_t)left : ahead->len;
}

/* At least `need` bytes at `at`, and how many there are; NULL: not that many
 * in the file. */
static const unsigned char *look(struct window *w, uint64_t at, size_t need,
                                 size_t *n_p)
{
    const struct pc_disk_ahead *ahead = &w->ahead;
    if (at >= w->size || w->size - at < need) {
        return NULL;
    }
    if (at < ahead->start || at + need > ahead->start + ahead->len) {
        move_window(w, at);
        if (at + need > ahead->start + ahead->len) {
            return NULL; /* The file became shorter. */
        }
    }
    *n_p = (size_t)(ahead->start + ahead->len - at);
    return ahead->bytes + (at - ahead->start);
}

static bool value_is_right(struct window *w, uint64_t at,
                           const struct pc_disk_record *record)
{
    struct pc_checksum_parts sum;
    uint64_t left = record->length;
    size_t n;
    pc_checksum_begin(&sum);
    while (left > 0) {
        const unsigned char *part = look(w, at, 1, &n);
        if (part == NULL) {
            return false;
        }
        n = n < left ? n : (size_t)left;
        if (n == record->length) {
            return pc_checksum(part, n) == record->checksum;
        }
        pc_checksum_add(&sum, part, n);
        at += n;
        left -= n;
    }
    return pc_checksum_end(&sum) == record->checksum;
}

/* Is there a record's header whose checksum holds? */
static bool header_is_right(struct window *w, uint64_t at, uint64_t nonce,
                            struct pc_disk_record *record_p)
{
    struct pc_disk_record record;
    size_t n;
    const unsigned char *header = look(w, at, PC_DISK_RECORD_BYTES, &n);
    if (header == NULL || !pc_disk_peek_record(header, &record)) {
        return false;
    }
    size_t names_len = (size_t)record.name_space_len + record.key_len;
    header = look(w, at, PC_DISK_RECORD_BYTES + names_len, &n);
    if (header == NULL || !pc_disk_check_record(header, nonce) ||
        pc_disk_record_size(names_len, record.length) > w->size - at) {
        return false;
    }
    *record_p = record;
    return true;
}

/* Nothing was written here, or the rest of the block is padding. */
static bool is_unwritten(struct window *w, uint64_t at)
{
    static const unsigned char zeros[PC_DISK_UNIT];
    size_t n;
    const unsigned char *bytes = look(w, at, PC_DISK_UNIT, &n);
    return bytes != NULL && memcmp(bytes, zeros, sizeof(zeros)) == 0;
}

static bool scan_window(struct window *w, const struct pc_disk_ident *ident,
                        struct pc_disk_scan *scan_p)
{
    struct pc_disk_scan scan = {.end = PC_DISK_BLOCK};
    uint64_t n_bad = 0; /* Since the last good one. */
    uint64_t at = PC_DISK_BLOCK;
    while (at < w->size && w->size - at >= PC_DISK_UNIT) {
        struct pc_disk_record record;
        if (!header_is_right(w, at, ident->nonce, &record)) {
            scan.torn = scan.torn || !is_unwritten(w, at);
            at += PC_DISK_UNIT;
            continue;
        }
        size_t names_len = (size_t)record.name_space_len + record.key_len;
        uint64_t next = at + pc_disk_record_size(names_len, record.length);
        struct pc_disk_entry entry = {record.digest,
                                      record.checksum,
                                      (uint32_t)(at / PC_DISK_UNIT),
                                      (uint32_t)record.length,
                                      (uint16_t)names_len,
                                      (uint16_t)record.kind};
        if (record.kind == PC_DISK_VALUE &&
            !value_is_right(w, at + PC_DISK_RECORD_BYTES + names_len,
                            &record)) {
            scan.torn = true;
            n_bad++;
        } else if (!pc_disk_entries_add(&scan.entries, &entry)) {
            pc_disk_entries_fini(&scan.entries);
            return false;
        } else {
            scan.n_corrupt += n_bad;
            n_bad = 0;
            scan.torn = false;
            scan.end = pc_disk_round(next, PC_DISK_BLOCK);
        }
        at = next;
    }
    scan.io_error = w->io_error;
    *scan_p = scan;
    return true;
}

bool pc_disk_scan(const struct pc_disk_source *source,
                  const struct pc_disk_ident *ident, void *buffer, void *more,
                  struct pc_disk_scan *scan_p)
{
    struct window w = {.size = source->size};
    pc_disk_ahead_start(&w.ahead, source, buffer, more);
    bool ok = scan_window(&w, ident, scan_p);
    pc_disk_ahead_stop(&w.ahead);
    return ok;
}
