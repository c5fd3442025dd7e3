#include "base/log.h"
#include "base/mem.h"

#include "disk_int.h"

#include <stdlib.h>
#include <string.h>

static int by_place(const void *a, const void *b)
{
    const struct pc_disk_entry *of_a = a;
    const struct pc_disk_entry *of_b = b;
    return of_a->at < of_b->at ? -1 : of_a->at > of_b->at;
}

/* The block that says where the index is comes last. */
static int write_footer(struct pc_disk *disk,
                        const struct pc_disk_segment *segment,
                        uint64_t index_at, uint64_t checksum,
                        unsigned char *block)
{
    struct pc_disk_footer footer = {.ident = {.number = segment->number,
                                              .nonce = segment->nonce,
                                              .seed = disk->params.seed},
                                    .index_at = index_at,
                                    .n_entries = segment->entries.n,
                                    .checksum = checksum};
    memcpy(footer.ident.node_id, disk->node_id, sizeof(footer.ident.node_id));
    memset(block, 0, PC_DISK_BLOCK);
    pc_disk_put_footer(&footer, block);
    return pc_disk_write_all(&segment->file, block, PC_DISK_BLOCK,
                             index_at + pc_disk_index_size(segment->entries.n) -
                                 PC_DISK_BLOCK);
}

static int write_index(const struct pc_disk_segment *segment, uint64_t at,
                       unsigned char *buffer, uint64_t *checksum_p)
{
    /* Whole entries and whole blocks. */
    const size_t part = (size_t)50 * 5 * PC_DISK_BLOCK;
    struct pc_checksum_parts sum;
    size_t n = 0;
    pc_checksum_begin(&sum);
    for (size_t i = 0; i < segment->entries.n; i++) {
        pc_disk_put_entry(&segment->entries.entry[i], buffer + n);
        n += PC_DISK_ENTRY_BYTES;
        if (n == part || i + 1 == segment->entries.n) {
            size_t whole = (size_t)pc_disk_round(n, PC_DISK_BLOCK);
            pc_checksum_add(&sum, buffer, n);
            memset(buffer + n, 0, whole - n);
            int error = pc_disk_write_all(&segment->file, buffer, whole, at);
            if (error != 0) {
                return error;
            }
            at += whole;
            n = 0;
        }
    }
    *checksum_p = pc_checksum_end(&sum);
    return 0;
}

/* The data is safe before an index says so; the file is shortened before the
 * footer becomes its last block. A crash anywhere leaves a file without a
 * footer at its end, which is scanned. */
static int seal_file(struct pc_disk *disk, struct pc_disk_segment *segment,
                     uint64_t *size_p)
{
    const struct pc_disk_io *io = disk->io;
    bool sync = disk->params.sync != PC_DISK_SYNC_NEVER;
    uint64_t checksum = 0;
    uint64_t size = segment->tail + pc_disk_index_size(segment->entries.n);
    int error = sync ? io->sync(io->arg, segment->file.file) : 0;
    if (error == 0) {
        error = io->truncate(io->arg, segment->file.file, size);
    }
    if (error == 0) {
        *size_p = size;
        error =
            write_index(segment, segment->tail, disk->keeper.buffer, &checksum);
    }
    if (error == 0) {
        error = write_footer(disk, segment, segment->tail, checksum,
                             disk->keeper.buffer);
    }
    if (error == 0 && sync) {
        error = io->sync(io->arg, segment->file.file);
    }
    return error;
}

void pc_disk_seal(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    /* Nobody else looks at the entries of a segment that is not written to. */
    uint64_t size = segment->size;
    bool empty = segment->entries.n == 0 && !segment->partial;
    int error = 0;
    if (!empty && !segment->partial) {
        qsort(segment->entries.entry, segment->entries.n,
              sizeof(struct pc_disk_entry), by_place);
        error = seal_file(disk, segment, &size);
    }
    if (error != 0) {
        PC_WARN("disk", "segment %llx of %s has no index block: %s",
                (unsigned long long)segment->number, disk->path,
                strerror(error));
    }
    pc_disk_lock(disk);
    disk->counts.n_io_errors += error != 0 ? 1 : 0;
    disk->counts.n_sealed += error == 0 && !empty && !segment->partial ? 1 : 0;
    disk->used -= segment->size - size;
    segment->size = size;
    pc_disk_entries_fini(&segment->entries);
    if (segment->state == PC_DISK_SEALING) {
        segment->state = PC_DISK_SEALED;
        disk->some_empty = disk->some_empty || segment->n_live == 0;
    }
    pc_disk_unlock(disk);
}
