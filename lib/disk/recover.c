#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"

#include "disk_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE   256u  /* Entries taken over while the lock is held. */
#define AT_ONCE 128u  /* Places handed out from one slice. */
#define WALK    4096u /* Entries looked at while the lock is held. */

/* ---- Into the index --------------------------------------------------------
 */

static bool is_there(const struct pc_disk *disk,
                     const struct pc_disk_segment *segment,
                     const struct pc_disk_entry *entry)
{
    uint32_t id = pc_disk_find(disk, entry->digest);
    if (id == PC_DISK_NONE) {
        return false;
    }
    const struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    return item->segment == segment->slot && item->at == entry->at;
}

/* Whatever is in the index already and lies later in the log wins. False: the
 * entry had to be left out, so nothing older may be taken over: of this digest
 * it would be an old value. */
static bool take_entry(struct pc_disk *disk, struct pc_disk_segment *segment,
                       const struct pc_disk_entry *entry)
{
    bool is_mark = entry->kind == PC_DISK_TOMBSTONE;
    if (is_there(disk, segment, entry)) {
        return true;
    }
    if (!is_mark && disk->n_records >= disk->params.max_records) {
        return false;
    }
    uint32_t id = pc_disk_index_add(&disk->index, entry->digest);
    if (id == PC_DISK_NONE) {
        return false;
    }
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    item->checksum = entry->checksum;
    item->length = entry->length;
    item->at = entry->at;
    item->segment = segment->slot;
    item->names_len = entry->names_len;
    item->state = is_mark ? PC_DISK_MARK : PC_DISK_PENDING;
    pc_disk_settle(disk, id);
    return true;
}

/* From the end on, so that a tombstone is known before what it stands
 * against. */
static void take_entries(struct pc_disk *disk, struct pc_disk_segment *segment,
                         const struct pc_disk_entries *entries)
{
    uint32_t n_marks = 0;
    size_t i = entries->n;
    bool more = i > 0;
    while (more) {
        pc_disk_lock(disk);
        for (size_t n = 0; n < SLICE && i > 0; n++, i--) {
            if (segment->state == PC_DISK_DOOMED || disk->blind) {
                i = 0; /* Cleared meanwhile, or no memory. */
                break;
            }
            if (!take_entry(disk, segment, &entries->entry[i - 1])) {
                disk->blind = true;
                disk->unsure = true;
            }
            n_marks += entries->entry[i - 1].kind == PC_DISK_TOMBSTONE ? 1 : 0;
        }
        more = i > 0;
        pc_disk_unlock(disk);
    }
    pc_disk_lock(disk);
    /* What was not looked at may have been tombstones. */
    segment->n_marks = n_marks > 0 || !disk->blind ? n_marks : 1;
    pc_disk_unlock(disk);
}

/* ---- Segments that are not ours --------------------------------------------
 */

static void set_aside(struct pc_disk *disk, struct pc_disk_segment *segment,
                      const char *why)
{
    char name[PC_DISK_NAME_BYTES];
    char to[64];
    struct pc_rand random = {disk->random};
    pc_disk_name(segment->number, name);
    (void)snprintf(to, sizeof(to), "aside/%s-%016" PRIx64, name,
                   pc_rand_u64(&random));
    disk->random = random.state;
    int error = disk->io->rename(disk->io->arg, disk->dir, name, to);
    PC_WARN("disk", "%s in %s is %s: %s %s", name, disk->path, why,
            error == 0 ? "set aside as" : "left alone, it cannot be moved to",
            to);
    pc_disk_lock(disk);
    disk->counts.n_set_aside++;
    disk->counts.bytes_set_aside += segment->size;
    disk->aside_bytes += error == 0 ? segment->size : 0;
    disk->counts.n_io_errors += error != 0 ? 1 : 0;
    if (segment->state != PC_DISK_DOOMED) {
        pc_disk_doom(disk, segment);
    }
    if (!segment->unlinked) {
        segment->unlinked = true; /* Not ours to unlink. */
        disk->used -= segment->size;
    }
    pc_disk_unlock(disk);
}

/* Why the file is not read, or NULL. */
static const char *stranger(const struct pc_disk *disk,
                            const struct pc_disk_segment *segment,
                            enum pc_disk_header header,
                            const struct pc_disk_ident *ident)
{
    if (header == PC_DISK_HEADER_UNKNOWN) {
        return "of an unknown format";
    }
    if (header != PC_DISK_HEADER_OK) {
        return "no segment that can be read";
    }
    if (strcmp(ident->node_id, disk->node_id) != 0) {
        return "of another node id";
    }
    if (ident->seed != disk->params.seed) {
        return "of another cluster name or salt";
    }
    return ident->number != segment->number ? "under another's name" : NULL;
}

/* ---- One segment ------------------------------------------------------------
 */

/* Give up: what is in the file stays unknown until its turn to be reclaimed. It
 * may have tombstones, so it does not go before older ones. */
static void leave_unread(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    pc_disk_lock(disk);
    if (segment->state == PC_DISK_FOUND) {
        segment->state = PC_DISK_SEALED;
        segment->n_marks = 1;
        disk->unsure = true;
    }
    pc_disk_unlock(disk);
}

static void drop_file(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    pc_disk_lock(disk);
    if (segment->state != PC_DISK_DOOMED) {
        pc_disk_doom(disk, segment);
    }
    pc_disk_unlock(disk);
}

/* The entries become the segment's, and a new index block is written behind
 * the last record: the torn tail is cut. */
static void mend(struct pc_disk *disk, struct pc_disk_segment *segment,
                 struct pc_disk_scan *scan)
{
    pc_disk_lock(disk);
    bool alive = segment->state != PC_DISK_DOOMED;
    if (alive) {
        segment->state = PC_DISK_SEALING;
        segment->tail = scan->end;
        segment->entries = scan->entries;
        scan->entries = (struct pc_disk_entries){0};
    }
    segment->n_writing += alive ? 1 : 0; /* Nobody else seals it. */
    pc_disk_unlock(disk);
    if (alive) {
        pc_disk_seal(disk, segment);
        pc_disk_lock(disk);
        segment->n_writing--;
        pc_disk_unlock(disk);
    }
}

/* Behind the records of a segment that was sealed is its index block. */
static void count_scan(struct pc_disk *disk, const struct pc_disk_scan *scan,
                       bool was_sealed)
{
    pc_disk_lock(disk);
    disk->counts.n_corrupt += scan->n_corrupt;
    disk->counts.n_tails_cut += scan->torn && !was_sealed ? 1 : 0;
    disk->counts.n_io_errors += scan->io_error ? 1 : 0;
    pc_disk_unlock(disk);
}

/* Reading ahead takes a thread, which simulation has not. */
static bool scan_segment(struct pc_disk *disk,
                         const struct pc_disk_source *source,
                         const struct pc_disk_ident *ident,
                         struct pc_disk_scan *scan_p)
{
    bool ahead = disk->params.n_threads > 0;
    return pc_disk_scan(source, ident, disk->keeper.buffer,
                        ahead ? disk->keeper.second : NULL, scan_p);
}

static void recover_by_scan(struct pc_disk *disk,
                            struct pc_disk_segment *segment,
                            const struct pc_disk_source *source,
                            const struct pc_disk_ident *ident, bool was_sealed)
{
    struct pc_disk_scan scan;
    if (!scan_segment(disk, source, ident, &scan)) {
        leave_unread(disk, segment);
        return;
    }
    count_scan(disk, &scan, was_sealed);
    if (scan.entries.n == 0 && !scan.io_error) {
        drop_file(disk, segment);
    } else {
        take_entries(disk, segment, &scan.entries);
        if (scan.io_error || segment->read_only) {
            leave_unread(disk, segment); /* As it is, for the next start. */
        } else {
            mend(disk, segment, &scan);
        }
    }
    pc_disk_entries_fini(&scan.entries);
}

static void recover_ours(struct pc_disk *disk, struct pc_disk_segment *segment,
                         const struct pc_disk_source *source,
                         const struct pc_disk_ident *ident)
{
    struct pc_disk_entries entries;
    segment->nonce = ident->nonce;
    enum pc_disk_load load =
        pc_disk_load_index(source, ident, disk->keeper.buffer, &entries);
    if (load != PC_DISK_LOAD_OK) {
        pc_disk_lock(disk);
        disk->counts.n_bad_indexes += load == PC_DISK_LOAD_LIES ? 1 : 0;
        disk->counts.n_io_errors += load == PC_DISK_LOAD_IO ? 1 : 0;
        pc_disk_unlock(disk);
        recover_by_scan(disk, segment, source, ident,
                        load != PC_DISK_LOAD_NONE);
        return;
    }
    segment->by_index = true;
    take_entries(disk, segment, &entries);
    pc_disk_entries_fini(&entries);
    pc_disk_lock(disk);
    if (segment->state == PC_DISK_FOUND) {
        segment->state = PC_DISK_SEALED;
        disk->some_empty = disk->some_empty || segment->n_live == 0;
    }
    pc_disk_unlock(disk);
}

/* Direct I/O that works at open may still be refused at the first read. */
static int read_ident(struct pc_disk *disk, struct pc_disk_segment *segment,
                      struct pc_disk_source *source,
                      enum pc_disk_header *header_p,
                      struct pc_disk_ident *ident_p)
{
    char name[PC_DISK_NAME_BYTES];
    int error =
        pc_disk_read_ident(source, disk->keeper.buffer, header_p, ident_p);
    if (error != EINVAL) {
        return error;
    }
    /* Each of those that were opened before we knew. */
    pc_disk_lock(disk);
    disk->direct = false;
    pc_disk_unlock(disk);
    struct pc_disk_file file;
    pc_disk_name(segment->number, name);
    error = pc_disk_open_segment(
        disk, name, segment->read_only ? 0 : PC_DISK_OPEN_WRITE, &file);
    if (error == 0) {
        pc_disk_close_file(&segment->file);
        segment->file = file;
        error =
            pc_disk_read_ident(source, disk->keeper.buffer, header_p, ident_p);
    }
    return error;
}

static void recover_segment(struct pc_disk *disk,
                            struct pc_disk_segment *segment)
{
    struct pc_disk_ident ident;
    enum pc_disk_header header = PC_DISK_HEADER_BAD;
    struct pc_disk_source source =
        pc_disk_file_source(&segment->file, segment->size);
    int error = pc_disk_need_file(disk, segment);
    if (error == 0) {
        error = read_ident(disk, segment, &source, &header, &ident);
    }
    if (error != 0 && header == PC_DISK_HEADER_BAD) {
        pc_disk_count_error(disk);
        leave_unread(disk, segment);
        return;
    }
    if (header == PC_DISK_HEADER_EMPTY) {
        drop_file(disk, segment); /* Made just before a crash. */
        return;
    }
    const char *why = stranger(disk, segment, header, &ident);
    if (why != NULL) {
        set_aside(disk, segment, why);
        return;
    }
    recover_ours(disk, segment, &source, &ident);
}

/* ---- All of them
 * --------------------------------------------------------------- */

/* Nothing older can come any more: marks have done their work. */
static void finish(struct pc_disk *disk)
{
    uint32_t id = 0;
    bool more = true;
    pc_disk_lock(disk);
    disk->recovering = false;
    disk->counts.recovery_ns = pc_disk_now(disk) - disk->recovery_began_ns;
    pc_disk_unlock(disk);
    while (more) {
        pc_disk_lock(disk);
        for (uint32_t n = 0; n < WALK && id < disk->index.n_items; n++, id++) {
            struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
            if (item->state == PC_DISK_MARK &&
                pc_disk_segment_of(disk, item) != NULL) {
                pc_disk_drop(disk, id);
            }
        }
        more = id < disk->index.n_items;
        pc_disk_unlock(disk);
    }
    pc_disk_lock(disk);
    bool call = disk->params.recovered != NULL && pc_disk_begin_calls(disk);
    uint64_t n_records = disk->n_records;
    uint64_t n_segments = disk->counts.segments_found;
    uint64_t took_ns = disk->counts.recovery_ns;
    pc_disk_unlock(disk);
    PC_INFO("disk", "%llu values in %llu segments of %s, found in %llu ms",
            (unsigned long long)n_records, (unsigned long long)n_segments,
            disk->path, (unsigned long long)(took_ns / PC_MS));
    if (call) {
        disk->params.recovered(disk->params.arg);
        pc_disk_end_calls(disk);
    }
}

static struct pc_disk_segment *newest_found(struct pc_disk *disk)
{
    for (struct pc_list *link = disk->segments.prev; link != &disk->segments;
         link = link->prev) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (segment->state == PC_DISK_FOUND) {
            return segment;
        }
    }
    return NULL;
}

bool pc_disk_recover(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool recovering = disk->recovering;
    bool blind = disk->blind;
    struct pc_disk_segment *segment = recovering ? newest_found(disk) : NULL;
    if (segment != NULL) {
        segment->n_refs++;
    }
    pc_disk_unlock(disk);
    if (!recovering) {
        return false;
    }
    if (segment == NULL) {
        finish(disk);
        return true;
    }
    if (blind) {
        leave_unread(disk, segment);
    } else {
        recover_segment(disk, segment);
    }
    pc_disk_lock(disk);
    disk->counts.segments_indexed++;
    pc_disk_unref(disk, segment);
    pc_disk_unlock(disk);
    return true;
}

/* ---- An index block that lied
 * ---------------------------------------------------- */

static bool in_scan(const struct pc_disk_entries *entries,
                    const struct pc_disk_item *item)
{
    size_t from = 0;
    size_t to = entries->n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (entries->entry[middle].at < item->at) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from < entries->n && entries->entry[from].at == item->at &&
           pc_digest_equal(entries->entry[from].digest, item->digest);
}

/* Entries that the scan did not find: a slice of them. */
static size_t refute_slice(struct pc_disk *disk,
                           const struct pc_disk_segment *segment,
                           const struct pc_disk_entries *entries, uint32_t *id,
                           struct pc_disk_place *places)
{
    size_t n = 0;
    for (uint32_t i = 0; i < WALK && n < AT_ONCE && *id < disk->index.n_items;
         i++, (*id)++) {
        struct pc_disk_item *item = pc_disk_index_item(&disk->index, *id);
        if (item->segment != segment->slot || in_scan(entries, item)) {
            continue;
        }
        if (item->state == PC_DISK_LIVE) {
            places[n++] = pc_disk_place_of(item);
            pc_disk_drop(disk, *id);
        } else if (item->state == PC_DISK_DEAD) {
            pc_disk_drop(disk, *id);
        }
    }
    return n;
}

static void refute(struct pc_disk *disk, const struct pc_disk_segment *segment,
                   const struct pc_disk_entries *entries)
{
    struct pc_disk_place places[AT_ONCE];
    uint32_t id = 0;
    bool more = true;
    while (more) {
        pc_disk_lock(disk);
        size_t n = refute_slice(disk, segment, entries, &id, places);
        more = id < disk->index.n_items;
        bool call =
            n > 0 && disk->params.gone != NULL && pc_disk_begin_calls(disk);
        pc_disk_unlock(disk);
        for (size_t i = 0; call && i < n; i++) {
            disk->params.gone(disk->params.arg, &places[i], PC_DISK_GONE_BAD);
        }
        if (call) {
            pc_disk_end_calls(disk);
        }
    }
}

static struct pc_disk_segment *find_doubted(struct pc_disk *disk)
{
    for (struct pc_list *link = disk->segments.next; link != &disk->segments;
         link = link->next) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (segment->doubted && segment->by_index &&
            segment->state == PC_DISK_SEALED) {
            return segment;
        }
    }
    return NULL;
}

bool pc_disk_rescan(struct pc_disk *disk)
{
    struct pc_disk_scan scan;
    struct pc_disk_ident ident = {0};
    pc_disk_lock(disk);
    struct pc_disk_segment *segment =
        disk->some_doubted ? find_doubted(disk) : NULL;
    disk->some_doubted = segment != NULL;
    if (segment != NULL) {
        segment->n_refs++;
        segment->by_index = false;
        ident.nonce = segment->nonce;
        disk->unsure = true;
    }
    pc_disk_unlock(disk);
    if (segment == NULL) {
        return false;
    }
    PC_WARN("disk", "the index of segment %llx of %s is wrong: scanning it",
            (unsigned long long)segment->number, disk->path);
    struct pc_disk_source source =
        pc_disk_file_source(&segment->file, segment->size);
    if (pc_disk_need_file(disk, segment) == 0 &&
        scan_segment(disk, &source, &ident, &scan)) {
        count_scan(disk, &scan, true);
        refute(disk, segment, &scan.entries);
        pc_disk_lock(disk);
        bool ordered = disk->recovering || !disk->forgot_marks;
        pc_disk_unlock(disk);
        /* What a forgotten tombstone stands against would come back: then the
         * next start takes it in order. */
        if (ordered) {
            take_entries(disk, segment, &scan.entries);
        }
        if (!scan.io_error && !segment->read_only) {
            mend(disk, segment, &scan);
        }
        pc_disk_entries_fini(&scan.entries);
    }
    pc_disk_lock(disk);
    pc_disk_unref(disk, segment);
    pc_disk_unlock(disk);
    return true;
}
