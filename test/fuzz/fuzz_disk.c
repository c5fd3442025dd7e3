/*
 * fuzz_disk.c - any bytes as a segment file: what is found in it lies in it, in
 * order, and each record of a scan has the checksum that it says.
 */
#include "fuzz.h"

#include "disk/scan.h"

#include <stdlib.h>
#include <string.h>

struct bytes
{
    const uint8_t *data;
    size_t size;
};

static int read_bytes(void *arg, void *to, size_t len, uint64_t at, size_t *n_p)
{
    const struct bytes *bytes = arg;
    size_t left = at < bytes->size ? bytes->size - (size_t)at : 0;
    *n_p = left < len ? left : len;
    if (*n_p > 0) {
        memcpy(to, bytes->data + at, *n_p);
    }
    return 0;
}

static void check(const struct pc_disk_entries *entries, size_t size)
{
    uint64_t end = PC_DISK_BLOCK;
    for (size_t i = 0; i < entries->n; i++) {
        const struct pc_disk_entry *entry = &entries->entry[i];
        uint64_t at = (uint64_t)entry->at * PC_DISK_UNIT;
        if (at < end) {
            abort();
        }
        end = at + pc_disk_record_size(entry->names_len, entry->length);
        if (end > size) {
            abort();
        }
    }
}

/* Mutations hardly keep a checksum: with the first byte even, those of the
 * header block and of every record's header are mended first. */
static void mend(uint8_t *data, size_t size)
{
    struct pc_disk_ident ident = {.number = 1, .nonce = 2, .seed = 3};
    struct pc_disk_record record;
    memset(data, 0, PC_DISK_BLOCK);
    pc_disk_put_ident(&ident, data);
    for (size_t at = PC_DISK_BLOCK; at + PC_DISK_RECORD_BYTES <= size;
         at += PC_DISK_UNIT) {
        if (pc_disk_peek_record(data + at, &record) &&
            (size_t)record.name_space_len + record.key_len <=
                size - at - PC_DISK_RECORD_BYTES) {
            pc_disk_put_record(&record, data + at + PC_DISK_RECORD_BYTES,
                               ident.nonce, data + at);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pc_disk_ident ident;
    struct pc_disk_entries entries;
    struct pc_disk_scan scan;
    enum pc_disk_header header;
    uint8_t *copy = malloc(size + 1);
    void *buffer = aligned_alloc(PC_DISK_BLOCK, PC_DISK_STAGE);
    if (copy == NULL || buffer == NULL) {
        abort();
    }
    memcpy(copy, data, size);
    if (size >= PC_DISK_BLOCK && data[0] % 2 == 0) {
        mend(copy, size);
    }
    struct bytes bytes = {copy, size};
    struct pc_disk_source source = {read_bytes, &bytes, size};
    if (pc_disk_read_ident(&source, buffer, &header, &ident) == 0 &&
        header == PC_DISK_HEADER_OK) {
        if (pc_disk_load_index(&source, &ident, buffer, &entries) ==
            PC_DISK_LOAD_OK) {
            check(&entries, size);
            pc_disk_entries_fini(&entries);
        }
        if (!pc_disk_scan(&source, &ident, buffer, NULL, &scan)) {
            abort();
        }
        check(&scan.entries, size);
        pc_disk_entries_fini(&scan.entries);
    }
    free(buffer);
    free(copy);
    return 0;
}
