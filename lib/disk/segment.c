#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"

#include "disk_int.h"

#include <errno.h>
#include <string.h>

#define UNLINK_AGAIN_NS (5 * PC_S)

void pc_disk_count_error(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    disk->counts.n_io_errors++;
    pc_disk_unlock(disk);
}

/* ---- Files --------------------------------------------------------------- */

/* Past the page cache where the file system lets us; it says no at open or at
 * the first read or write, after which nobody asks again. */
int pc_disk_open_segment(struct pc_disk *disk, const char *name, unsigned flags,
                         struct pc_disk_file *file_p)
{
    int file;
    pc_disk_lock(disk);
    unsigned direct = disk->direct ? PC_DISK_OPEN_DIRECT : 0;
    pc_disk_unlock(disk);
    int error =
        disk->io->open(disk->io->arg, disk->dir, name, flags | direct, &file);
    if (error == EINVAL && direct != 0) {
        pc_disk_lock(disk);
        disk->direct = false;
        pc_disk_unlock(disk);
        if (flags & PC_DISK_OPEN_CREATE) {
            /* Linux has made it before it says that. */
            (void)disk->io->unlink(disk->io->arg, disk->dir, name);
        }
        error = disk->io->open(disk->io->arg, disk->dir, name, flags, &file);
    }
    if (error == 0) {
        *file_p = (struct pc_disk_file){disk->io, file};
    }
    return error;
}

void pc_disk_close_file(struct pc_disk_file *file)
{
    if (file->file >= 0) {
        file->io->close(file->io->arg, file->file);
        file->file = -1;
    }
}

static struct pc_disk_segment *least_used(const struct pc_disk *disk,
                                          uint32_t *n_open_p)
{
    struct pc_disk_segment *least = NULL;
    uint32_t n_open = 0;
    for (size_t i = 0; i < disk->n_slots; i++) {
        struct pc_disk_segment *segment = disk->slots[i];
        if (segment == NULL || segment->n_refs > 0 ||
            (segment->state != PC_DISK_SEALED &&
             segment->state != PC_DISK_FOUND) ||
            segment->file.file < 0) {
            continue; /* Somebody uses it, or there is nothing to close. */
        }
        n_open++;
        if (least == NULL || segment->used_at < least->used_at) {
            least = segment;
        }
    }
    *n_open_p = n_open;
    return least;
}

void pc_disk_limit_files(struct pc_disk *disk)
{
    bool more = true;
    while (more) {
        uint32_t n_open;
        struct pc_disk_file file = {disk->io, -1};
        pc_disk_lock(disk);
        struct pc_disk_segment *segment = least_used(disk, &n_open);
        if (n_open > disk->params.max_files) {
            file = segment->file;
            segment->file.file = -1;
        }
        more = file.file >= 0;
        pc_disk_unlock(disk);
        pc_disk_close_file(&file);
    }
}

int pc_disk_need_file(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    char name[PC_DISK_NAME_BYTES];
    struct pc_disk_file file = {disk->io, -1};
    pc_disk_lock(disk);
    bool is_open = segment->file.file >= 0;
    segment->used_at = ++disk->n_uses;
    unsigned flags = segment->read_only ? 0 : PC_DISK_OPEN_WRITE;
    pc_disk_unlock(disk);
    if (is_open) {
        return 0;
    }
    pc_disk_name(segment->number, name);
    int error = pc_disk_open_segment(disk, name, flags, &file);
    if (flags != 0 && (error == EROFS || error == EACCES || error == EPERM)) {
        error = pc_disk_open_segment(disk, name, 0, &file);
    }
    if (error != 0) {
        return error;
    }
    pc_disk_lock(disk);
    if (segment->file.file < 0) {
        segment->file = file;
        file.file = -1;
    }
    pc_disk_unlock(disk);
    pc_disk_close_file(&file); /* Another thread has been faster. */
    pc_disk_limit_files(disk);
    return 0;
}

/* ---- Slots and references ------------------------------------------------ */

bool pc_disk_add_slot(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    size_t slot = 0;
    while (slot < disk->n_slots && disk->slots[slot] != NULL) {
        slot++;
    }
    if (slot == disk->n_slots) {
        struct pc_disk_segment **grown =
            slot < UINT16_MAX ? pc_realloc(disk->slots, slot + 1,
                                           sizeof(struct pc_disk_segment *))
                              : NULL;
        if (grown == NULL) {
            return false;
        }
        disk->slots = grown;
        disk->n_slots = slot + 1;
    }
    disk->slots[slot] = segment;
    segment->slot = (uint16_t)slot;
    return true;
}

static void free_if_unused(struct pc_disk *disk,
                           struct pc_disk_segment *segment)
{
    if (segment->n_refs > 0 || !segment->unlinked) {
        return;
    }
    PC_ASSERT(segment->state == PC_DISK_DOOMED && segment->n_writing == 0);
    pc_list_remove(&segment->link);
    disk->slots[segment->slot] = NULL;
    pc_disk_close_file(&segment->file);
    pc_disk_entries_fini(&segment->entries);
    pc_free(segment);
}

void pc_disk_unref(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    PC_ASSERT(segment->n_refs > 0);
    segment->n_refs--;
    free_if_unused(disk, segment);
}

void pc_disk_doom(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    PC_ASSERT(segment != disk->spare);
    if (segment == disk->active) {
        disk->active = NULL;
    }
    pc_list_remove(&segment->link);
    pc_list_push_back(&disk->doomed, &segment->link);
    segment->state = PC_DISK_DOOMED;
    disk->unlink_at_ns = 0;
}

/* Not EFBIG: smaller files would help there, not fewer. */
void pc_disk_note_refusal(struct pc_disk *disk, int error)
{
    disk->refused = disk->refused || error == ENOSPC || error == EDQUOT;
}

/* ---- Making them --------------------------------------------------------- */

/* EINVAL: direct I/O was promised and does not work after all. */
static int fill_new(struct pc_disk *disk, struct pc_disk_segment *segment,
                    unsigned char *block)
{
    struct pc_disk_ident ident = {.number = segment->number,
                                  .nonce = segment->nonce,
                                  .seed = disk->params.seed};
    memcpy(ident.node_id, disk->node_id, sizeof(ident.node_id));
    memset(block, 0, PC_DISK_BLOCK);
    pc_disk_put_ident(&ident, block);
    int error =
        disk->io->allocate(disk->io->arg, segment->file.file, segment->size);
    if (error == 0 || error == EOPNOTSUPP || error == ENOSYS) {
        error = pc_disk_write_all(&segment->file, block, PC_DISK_BLOCK, 0);
    }
    if (error == 0 && disk->params.sync != PC_DISK_SYNC_NEVER) {
        error = disk->io->sync(disk->io->arg, segment->file.file);
    }
    if (error == 0 && disk->params.sync != PC_DISK_SYNC_NEVER) {
        error = disk->io->sync_dir(disk->io->arg, disk->dir);
    }
    return error;
}

static int make_file(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    char name[PC_DISK_NAME_BYTES];
    pc_disk_name(segment->number, name);
    int error = pc_disk_open_segment(
        disk, name, PC_DISK_OPEN_CREATE | PC_DISK_OPEN_WRITE, &segment->file);
    if (error != 0) {
        return error;
    }
    error = fill_new(disk, segment, disk->keeper.buffer);
    if (error != 0) {
        pc_disk_close_file(&segment->file);
        (void)disk->io->unlink(disk->io->arg, disk->dir, name);
    }
    return error;
}

enum pc_disk_result pc_disk_make_spare(struct pc_disk *disk, uint64_t size)
{
    struct pc_disk_segment *segment = pc_alloc(1, sizeof(*segment));
    if (segment == NULL) {
        return PC_DISK_NO_MEMORY;
    }
    struct pc_rand random = {disk->random};
    pc_list_init(&segment->link);
    segment->file = (struct pc_disk_file){disk->io, -1};
    segment->nonce = pc_rand_u64(&random);
    segment->size = size;
    segment->tail = PC_DISK_BLOCK;
    segment->state = PC_DISK_SPARE;
    disk->random = random.state;
    pc_disk_lock(disk);
    bool direct = disk->direct;
    segment->number = disk->next_number++;
    bool has_slot = pc_disk_add_slot(disk, segment);
    pc_disk_unlock(disk);
    int error = has_slot ? make_file(disk, segment) : ENOMEM;
    if (error == EINVAL && direct) {
        pc_disk_lock(disk);
        disk->direct = false;
        pc_disk_unlock(disk);
        error = make_file(disk, segment);
    }
    pc_disk_lock(disk);
    if (error == 0) {
        disk->spare = segment;
        disk->used += size;
        /* Here, and not later: a writer may have filled it by then and want
         * another. */
        disk->want_size = size >= disk->want_size ? 0 : disk->want_size;
        (void)pthread_cond_broadcast(&disk->work);
    } else {
        disk->counts.n_io_errors += has_slot ? 1 : 0;
        pc_disk_note_refusal(disk, error);
        if (has_slot) {
            disk->slots[segment->slot] = NULL;
        }
    }
    pc_disk_unlock(disk);
    if (error != 0) {
        pc_free(segment);
    } else {
        pc_disk_limit_files(disk);
    }
    return pc_disk_result_of(error);
}

/* ---- Unmaking them --------------------------------------------------------
 */

static void end_clears(struct pc_disk *disk, struct pc_list *clears,
                       enum pc_disk_result result)
{
    struct pc_list *link;
    while ((link = pc_list_pop_front(clears)) != NULL) {
        struct pc_disk_clear *clear =
            PC_CONTAINER_OF(link, struct pc_disk_clear, link);
        if (clear->done != NULL) {
            clear->done(clear->arg, result);
        }
        pc_free(clear);
    }
    pc_disk_end_calls(disk);
}

/* The first in the list whose file is still there, which is the oldest: of a
 * tombstone and what it stands against, the tombstone stays longer. */
static struct pc_disk_segment *first_linked(struct pc_disk *disk)
{
    for (struct pc_list *link = disk->doomed.next; link != &disk->doomed;
         link = link->next) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (!segment->unlinked) {
            return segment;
        }
    }
    return NULL;
}

/* All that a clear waited for has been unlinked, or cannot be. */
static void finish_clears(struct pc_disk *disk, enum pc_disk_result result)
{
    struct pc_list clears;
    if (result == PC_DISK_OK && disk->params.sync != PC_DISK_SYNC_NEVER) {
        result =
            pc_disk_result_of(disk->io->sync_dir(disk->io->arg, disk->dir));
    }
    pc_list_init(&clears);
    pc_disk_lock(disk);
    /* Another clear may have come while the directory was synced. */
    if (result != PC_DISK_OK || first_linked(disk) == NULL) {
        pc_list_splice_back(&clears, &disk->clears);
    }
    bool call = !pc_list_is_empty(&clears) && pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        end_clears(disk, &clears, result);
    }
}

bool pc_disk_unlink_doomed(struct pc_disk *disk)
{
    char name[PC_DISK_NAME_BYTES];
    pc_disk_lock(disk);
    struct pc_disk_segment *segment = first_linked(disk);
    bool some_clears = !pc_list_is_empty(&disk->clears);
    if (segment != NULL) {
        segment->n_refs++;
        pc_disk_name(segment->number, name);
    }
    pc_disk_unlock(disk);
    if (segment == NULL) {
        if (some_clears) {
            finish_clears(disk, PC_DISK_OK);
        }
        return some_clears;
    }
    int error = disk->io->unlink(disk->io->arg, disk->dir, name);
    error = error == ENOENT ? 0 : error;
    pc_disk_lock(disk);
    if (error == 0) {
        segment->unlinked = true;
        disk->used -= segment->size;
        disk->counts.n_freed++;
    } else {
        disk->counts.n_io_errors++;
        disk->unlink_at_ns = pc_disk_now(disk) + UNLINK_AGAIN_NS;
    }
    pc_disk_unref(disk, segment);
    pc_disk_unlock(disk);
    if (error != 0) {
        PC_WARN("disk", "cannot unlink %s in %s: %s", name, disk->path,
                strerror(error));
        finish_clears(disk, pc_disk_result_of(error));
    }
    return true;
}

/* Records that replace others must be as safe as those were. */
void pc_disk_sync_heads(struct pc_disk *disk)
{
    struct pc_disk_segment *heads[8];
    size_t n = 0;
    if (disk->params.sync == PC_DISK_SYNC_NEVER) {
        return;
    }
    pc_disk_lock(disk);
    for (struct pc_list *link = disk->segments.prev;
         link != &disk->segments && n < PC_ARRAY_LEN(heads);
         link = link->prev) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (segment->state == PC_DISK_ACTIVE ||
            segment->state == PC_DISK_SEALING) {
            segment->n_refs++;
            heads[n++] = segment;
        }
    }
    pc_disk_unlock(disk);
    for (size_t i = 0; i < n; i++) {
        if (disk->io->sync(disk->io->arg, heads[i]->file.file) != 0) {
            pc_disk_count_error(disk);
        }
        pc_disk_lock(disk);
        pc_disk_unref(disk, heads[i]);
        pc_disk_unlock(disk);
    }
}
