#include "base/log.h"
#include "base/mem.h"

#include "disk_int.h"

#include <errno.h>
#include <string.h>

#define PAUSE_MIN_NS (1 * PC_S)
#define PAUSE_MAX_NS (30 * PC_S)

/* ---- Places ------------------------------------------------------------- */

static uint64_t size_of(const struct pc_disk_request *request)
{
    return pc_disk_record_size(
        (uint64_t)request->name_space_len + request->key_len, request->length);
}

/* Room for a batch of n records with len bytes behind the tail? */
static bool has_room(const struct pc_disk_segment *segment, uint64_t len,
                     uint32_t n)
{
    return !segment->failed &&
           segment->tail + pc_disk_round(len, PC_DISK_BLOCK) +
                   pc_disk_index_size((uint64_t)segment->n_assigned + n) <=
               segment->size;
}

void pc_disk_close_head(struct pc_disk *disk)
{
    if (disk->active != NULL) {
        disk->active->state = PC_DISK_SEALING;
        disk->active = NULL;
        pc_disk_wake_keeper(disk);
    }
}

/* An active segment with room for a record of this size; false: the keeper
 * must make one first. */
static bool make_room(struct pc_disk *disk, uint64_t size)
{
    uint64_t need = PC_DISK_BLOCK + pc_disk_round(size, PC_DISK_BLOCK) +
                    pc_disk_index_size(1);
    struct pc_disk_segment *spare = disk->spare;
    if (disk->active != NULL && has_room(disk->active, size, 1)) {
        return true;
    }
    pc_disk_close_head(disk);
    pc_disk_wake_keeper(disk); /* For this one, or the next. */
    if (spare == NULL || spare->size < need) {
        disk->want_size = need;
        return false;
    }
    disk->spare = NULL;
    disk->active = spare;
    spare->state = PC_DISK_ACTIVE;
    pc_list_push_back(&disk->segments, &spare->link);
    return true;
}

/* The oldest segment is being forgotten, but its file is still there. */
static bool is_reclaiming(const struct pc_disk *disk)
{
    return !pc_list_is_empty(&disk->segments) &&
           PC_CONTAINER_OF(disk->segments.next, struct pc_disk_segment, link)
                   ->state == PC_DISK_RECLAIMED;
}

/* Nothing on disk has this digest, as far as we can know. */
static bool is_nowhere(const struct pc_disk *disk,
                       const struct pc_disk_request *request)
{
    uint32_t id = pc_disk_index_first(&disk->index, request->digest);
    for (; id != PC_DISK_NONE; id = pc_disk_index_next(&disk->index, id)) {
        if (pc_disk_index_item(&disk->index, id)->state != PC_DISK_MARK) {
            return false;
        }
    }
    return !disk->recovering && !disk->unsure && !is_reclaiming(disk) &&
           pc_list_is_empty(&disk->doomed);
}

/* What needs no place in the log any more. */
static bool is_settled(struct pc_disk *disk, struct pc_disk_request *request)
{
    bool old = request->epoch != disk->epoch;
    if (request->kind == PC_DISK_REQUEST_WRITE) {
        request->result = PC_DISK_REMOVED;
        return old;
    }
    if (old) {
        request->item = PC_DISK_NONE; /* Went with the index. */
        return false;
    }
    if (!is_nowhere(disk, request)) {
        return false;
    }
    pc_disk_drop(disk, request->item);
    request->result = PC_DISK_ABSENT;
    return true;
}

/* Account for a request that leaves the queue or its batch. */
static void uncount(struct pc_disk *disk, const struct pc_disk_request *request)
{
    if (request->kind == PC_DISK_REQUEST_WRITE) {
        disk->queued_bytes -=
            pc_disk_cost(request->length,
                         (uint64_t)request->name_space_len + request->key_len);
        if (request->result != PC_DISK_OK) {
            pc_disk_count_dropped(disk, request->result);
        }
    } else if (request->kind == PC_DISK_REQUEST_REMOVE &&
               request->written != NULL) {
        disk->n_told_removes--;
    }
}

/* Out of the queue without a place. */
static void refuse(struct pc_disk *disk, struct pc_disk_request *request,
                   struct pc_list *ended)
{
    if (request->kind == PC_DISK_REQUEST_REMOVE &&
        request->item != PC_DISK_NONE && request->epoch == disk->epoch &&
        request->result != PC_DISK_ABSENT) {
        /* Not found again until the next start, whatever the disk says; a
         * second try must not be told that there is nothing. */
        pc_disk_drop(disk, request->item);
        pc_disk_hide(disk, request->digest);
    }
    uncount(disk, request);
    pc_list_remove(&request->link);
    pc_list_push_back(ended, &request->link);
}

/* The next place in the worker's batch; false: no memory, or too many. */
static bool assign(struct pc_disk *disk, struct pc_disk_worker *worker,
                   struct pc_disk_request *request)
{
    bool is_remove = request->kind == PC_DISK_REQUEST_REMOVE;
    if (!is_remove) {
        bool full = request->kind == PC_DISK_REQUEST_WRITE &&
                    disk->n_records >= disk->params.max_records;
        request->result = full ? PC_DISK_NO_SPACE : PC_DISK_NO_MEMORY;
        request->item = full ? PC_DISK_NONE
                             : pc_disk_index_add(&disk->index, request->digest);
        if (request->item == PC_DISK_NONE) {
            return false;
        }
    }
    request->result = PC_DISK_OK;
    request->at = (uint32_t)((worker->start + worker->len) / PC_DISK_UNIT);
    worker->len += size_of(request);
    if (request->item == PC_DISK_NONE) {
        return true;
    }
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, request->item);
    item->segment = worker->segment->slot;
    item->at = request->at;
    item->length = (uint32_t)request->length;
    item->checksum = request->checksum;
    item->tag = request->tag;
    item->names_len = (uint16_t)(request->name_space_len + request->key_len);
    if (is_remove) {
        pc_disk_settle(disk, request->item);
        request->item = PC_DISK_NONE;
    } else {
        item->state = PC_DISK_PENDING;
    }
    return true;
}

static void begin_batch(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    worker->segment = disk->active;
    worker->start = disk->active->tail;
    worker->len = 0;
    worker->must_sync = disk->params.sync == PC_DISK_SYNC_ALWAYS;
    worker->abandoned = false;
}

static void place_batch(struct pc_disk *disk, struct pc_disk_worker *worker,
                        uint32_t n)
{
    struct pc_disk_segment *segment = worker->segment;
    segment->tail += pc_disk_round(worker->len, PC_DISK_BLOCK);
    segment->n_assigned += n;
    segment->n_writing++;
    segment->n_refs++;
    disk->n_batches++;
    pc_list_push_back(&disk->busy, &worker->link);
}

bool pc_disk_take_batch(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    uint32_t n = 0;
    while (!pc_list_is_empty(&disk->writes)) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(disk->writes.next, struct pc_disk_request, link);
        if (is_settled(disk, request)) {
            refuse(disk, request, &worker->ended);
            continue;
        }
        uint64_t size = size_of(request);
        if (n == 0 && !make_room(disk, size)) {
            if (disk->state != PC_DISK_PAUSED ||
                request->kind == PC_DISK_REQUEST_WRITE) {
                break;
            }
            request->result = disk->failure;
            refuse(disk, request, &worker->ended);
            continue;
        }
        if (n == 0) {
            begin_batch(disk, worker);
        } else if (worker->len + size > PC_DISK_STAGE ||
                   !has_room(worker->segment, worker->len + size, n + 1)) {
            break;
        }
        if (!assign(disk, worker, request)) {
            refuse(disk, request, &worker->ended);
            continue;
        }
        worker->must_sync =
            worker->must_sync || (request->kind == PC_DISK_REQUEST_REMOVE &&
                                  disk->params.sync != PC_DISK_SYNC_NEVER);
        pc_list_remove(&request->link);
        pc_list_push_back(&worker->requests, &request->link);
        n++;
    }
    if (n > 0) {
        place_batch(disk, worker, n);
    }
    return n > 0 || !pc_list_is_empty(&worker->ended);
}

/* A newer value has its place in the log already. */
static bool is_replaced(const struct pc_disk *disk, struct pc_digest digest)
{
    uint32_t id = pc_disk_index_first(&disk->index, digest);
    for (; id != PC_DISK_NONE; id = pc_disk_index_next(&disk->index, id)) {
        if (pc_disk_index_item(&disk->index, id)->state == PC_DISK_PENDING) {
            return true;
        }
    }
    return false;
}

/* Is the record still where it was when it was chosen? Carried behind a newer
 * value that is being written, the old one would win. */
static bool is_there(const struct pc_disk *disk,
                     const struct pc_disk_request *request)
{
    uint32_t id = pc_disk_find(disk, request->digest);
    if (id == PC_DISK_NONE || is_replaced(disk, request->digest)) {
        return false;
    }
    const struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    return item->segment == request->from->slot && item->at == request->from_at;
}

bool pc_disk_take_carried(struct pc_disk *disk, struct pc_disk_worker *worker,
                          struct pc_list *carried, struct pc_list *dropped)
{
    uint32_t n = 0;
    while (!pc_list_is_empty(carried)) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(carried->next, struct pc_disk_request, link);
        uint64_t size = size_of(request);
        if (n == 0) {
            if (disk->active == NULL || !has_room(disk->active, size, 1)) {
                break; /* Carrying must not wait for space: it makes some. */
            }
            begin_batch(disk, worker);
        } else if (worker->len + size > PC_DISK_STAGE ||
                   !has_room(worker->segment, worker->len + size, n + 1)) {
            break;
        }
        pc_list_remove(&request->link);
        request->epoch = disk->epoch;
        if (is_there(disk, request) && assign(disk, worker, request)) {
            pc_list_push_back(&worker->requests, &request->link);
            n++;
        } else {
            pc_list_push_back(dropped, &request->link);
        }
    }
    if (n > 0) {
        place_batch(disk, worker, n);
    }
    return n > 0;
}

/* ---- Writing ------------------------------------------------------------ */

/* Bytes on their way to the file, through the worker's buffer. */
struct out
{
    struct pc_disk *disk;
    struct pc_disk_worker *worker;
    uint64_t at; /* Of the buffer's first byte. */
    size_t n;    /* Bytes in the buffer. */
    int error;
};

static void flush(struct out *out)
{
    if (out->n > 0 && out->error == 0) {
        pc_disk_suspend(out->worker);
        out->error = pc_disk_write_all(&out->worker->segment->file,
                                       out->worker->buffer, out->n, out->at);
        if (!pc_disk_resume(out->worker)) {
            out->error = ECANCELED; /* The requests are not ours any more. */
        }
    }
    out->at += out->n;
    out->n = 0;
}

/* NULL: zeros. */
static void emit(struct out *out, const unsigned char *from, uint64_t len)
{
    while (len > 0 && out->error == 0) {
        size_t room = PC_DISK_STAGE - out->n;
        size_t n = len < room ? (size_t)len : room;
        if (from == NULL) {
            memset(out->worker->buffer + out->n, 0, n);
        } else {
            memcpy(out->worker->buffer + out->n, from, n);
            from += n;
        }
        out->n += n;
        len -= n;
        if (out->n == PC_DISK_STAGE) {
            flush(out);
        }
    }
}

static void emit_header(struct out *out, const struct pc_disk_record *record,
                        const unsigned char *names)
{
    unsigned char header[PC_DISK_RECORD_BYTES];
    pc_disk_put_record(record, names, out->worker->segment->nonce, header);
    emit(out, header, sizeof(header));
    emit(out, names, (uint64_t)record->name_space_len + record->key_len);
}

static void emit_own(struct out *out, const struct pc_disk_request *request)
{
    bool is_remove = request->kind == PC_DISK_REQUEST_REMOVE;
    struct pc_disk_record record = {.digest = request->digest,
                                    .length = request->length,
                                    .checksum = request->checksum,
                                    .name_space_len = request->name_space_len,
                                    .key_len = request->key_len,
                                    .kind = is_remove ? PC_DISK_TOMBSTONE
                                                      : PC_DISK_VALUE};
    const unsigned char *value = request->value;
    uint64_t length = request->length;
    emit_header(out, &record, request->names);
    emit(out, value, length);
}

static bool carry_names(void *arg, const struct pc_disk_record *record,
                        const unsigned char *names)
{
    struct out *out = arg;
    emit_header(out, record, names);
    return out->error == 0;
}

static bool carry_value(void *arg, const unsigned char *bytes, size_t len)
{
    struct out *out = arg;
    emit(out, bytes, len);
    return out->error == 0;
}

/* A record that turns out to be bad leaves a hole of zeros. */
static void emit_carried(struct out *out, struct pc_disk_request *request)
{
    struct pc_disk_proof proof = {
        .segment = request->from,
        .item = {.digest = request->digest,
                 .checksum = request->checksum,
                 .length = (uint32_t)request->length,
                 .at = request->from_at,
                 .names_len =
                     (uint16_t)(request->name_space_len + request->key_len)},
        .worker = out->worker,
        .buffer = out->worker->second,
        .names = carry_names,
        .sink = carry_value,
        .arg = out};
    request->result = pc_disk_prove(out->disk, &proof);
}

static void emit_all(struct out *out)
{
    struct pc_disk_worker *worker = out->worker;
    struct pc_list *link = worker->requests.next;
    while (out->error == 0 && link != &worker->requests) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(link, struct pc_disk_request, link);
        uint64_t end = (uint64_t)request->at * PC_DISK_UNIT + size_of(request);
        if (request->kind == PC_DISK_REQUEST_CARRY) {
            emit_carried(out, request);
        } else {
            emit_own(out, request);
        }
        emit(out, NULL, end - out->at - out->n);
        if (out->error == 0) {
            link = link->next;
        }
    }
    uint64_t end = worker->start + pc_disk_round(worker->len, PC_DISK_BLOCK);
    emit(out, NULL, end - out->at - out->n);
    flush(out);
}

/* ---- What became of it --------------------------------------------------- */

/* The entry that was made for it, if nothing has removed or replaced it. */
static struct pc_disk_item *pending(struct pc_disk *disk,
                                    const struct pc_disk_segment *segment,
                                    const struct pc_disk_request *request)
{
    if (request->epoch != disk->epoch || request->item == PC_DISK_NONE ||
        request->item >= disk->index.n_items) {
        return NULL;
    }
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, request->item);
    return item->state == PC_DISK_PENDING && item->segment == segment->slot &&
                   item->at == request->at
               ? item
               : NULL;
}

/* What the caller said about the record meanwhile goes with it. */
static void take_tag(struct pc_disk *disk, struct pc_disk_item *item)
{
    uint32_t id = pc_disk_find(disk, item->digest);
    if (id != PC_DISK_NONE) {
        item->tag = pc_disk_index_item(&disk->index, id)->tag;
    }
}

static void settle_written(struct pc_disk *disk,
                           struct pc_disk_segment *segment,
                           struct pc_disk_request *request)
{
    struct pc_disk_item *item = pending(disk, segment, request);
    if (item == NULL) {
        request->result =
            request->result == PC_DISK_OK ? PC_DISK_REMOVED : request->result;
        return;
    }
    if (request->result != PC_DISK_OK) {
        pc_disk_drop(disk, request->item);
        return;
    }
    if (request->kind == PC_DISK_REQUEST_CARRY) {
        take_tag(disk, item);
        disk->counts.n_carried++;
    } else {
        disk->counts.n_written++;
        disk->counts.bytes_written += request->length;
    }
    pc_disk_settle(disk, request->item);
}

static void note_entry(struct pc_disk_segment *segment,
                       const struct pc_disk_request *request)
{
    bool is_remove = request->kind == PC_DISK_REQUEST_REMOVE;
    struct pc_disk_entry entry = {
        .digest = request->digest,
        .checksum = request->checksum,
        .at = request->at,
        .length = (uint32_t)request->length,
        .names_len = (uint16_t)(request->name_space_len + request->key_len),
        .kind = is_remove ? PC_DISK_TOMBSTONE : PC_DISK_VALUE};
    segment->n_marks += is_remove ? 1 : 0;
    if (!pc_disk_entries_add(&segment->entries, &entry)) {
        segment->partial = true;
    }
}

static void settle_batch(struct pc_disk *disk, struct pc_disk_worker *worker,
                         enum pc_disk_result result)
{
    struct pc_disk_segment *segment = worker->segment;
    struct pc_list *link;
    while ((link = pc_list_pop_front(&worker->requests)) != NULL) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(link, struct pc_disk_request, link);
        if (request->result == PC_DISK_OK) {
            request->result = result;
        }
        if (request->result == PC_DISK_OK) {
            note_entry(segment, request);
        }
        if (request->kind == PC_DISK_REQUEST_REMOVE) {
            disk->counts.n_removed += request->result == PC_DISK_OK ? 1 : 0;
            disk->unsure = disk->unsure || request->result != PC_DISK_OK;
        } else {
            settle_written(disk, segment, request);
        }
        uncount(disk, request);
        pc_list_push_back(&worker->ended, &request->link);
    }
}

void pc_disk_pause(struct pc_disk *disk, enum pc_disk_result why,
                   struct pc_list *ended)
{
    if (disk->state == PC_DISK_GONE) {
        return;
    }
    if (disk->state != PC_DISK_PAUSED || disk->failure != why) {
        PC_WARN("disk", "nothing can be written to %s for now: %s", disk->path,
                pc_disk_result_name(why));
    }
    uint64_t pause = 2 * disk->pause_ns;
    pause = pause < PAUSE_MIN_NS ? PAUSE_MIN_NS : pause;
    disk->pause_ns = pause < PAUSE_MAX_NS ? pause : PAUSE_MAX_NS;
    disk->paused_until_ns = pc_disk_now(disk) + disk->pause_ns;
    disk->state = PC_DISK_PAUSED;
    disk->failure = why;
    disk->want_size = 0;
    while (!pc_list_is_empty(&disk->writes)) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(disk->writes.next, struct pc_disk_request, link);
        request->result = why;
        refuse(disk, request, ended);
    }
}

static void resume(struct pc_disk *disk)
{
    disk->pause_ns = 0;
    if (disk->state == PC_DISK_PAUSED) {
        disk->state = PC_DISK_RUNNING;
        disk->failure = PC_DISK_OK;
        PC_INFO("disk", "writing to %s again", disk->path);
    }
}

void pc_disk_write_batch(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    struct pc_disk_segment *segment = worker->segment;
    struct out out = {.disk = disk, .worker = worker, .at = worker->start};
    emit_all(&out);
    if (out.error == 0 && worker->must_sync) {
        pc_disk_suspend(worker);
        out.error = disk->io->sync(disk->io->arg, segment->file.file);
        if (!pc_disk_resume(worker)) {
            out.error = ECANCELED;
        }
    }
    pc_disk_lock(disk);
    pc_list_remove(&worker->link);
    disk->n_batches--;
    /* What was carried counts as a batch, and its end lets others begin: a
     * worker looks again by itself, but not after the keeper. */
    if (!pc_list_is_empty(&disk->writes)) {
        (void)pthread_cond_signal(&disk->work);
    }
    settle_batch(disk, worker,
                 out.error == ECANCELED ? PC_DISK_CLOSED
                                        : pc_disk_result_of(out.error));
    if (out.error == 0) {
        resume(disk);
    } else if (out.error != ECANCELED) {
        disk->counts.n_io_errors++;
        segment->failed = true;
        pc_disk_note_refusal(disk, out.error);
        if (disk->active == segment) {
            pc_disk_close_head(disk);
        }
        pc_disk_pause(disk, pc_disk_result_of(out.error), &worker->ended);
    }
    segment->n_writing--;
    if (segment->n_writing == 0 && segment->state == PC_DISK_SEALING) {
        pc_disk_wake_keeper(disk);
    }
    pc_disk_unref(disk, segment);
    bool call = pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        pc_disk_end_all(disk, &worker->ended);
    }
    /* After close there is nobody to tell: what was being carried. */
    struct pc_list *link;
    while ((link = pc_list_pop_front(&worker->ended)) != NULL) {
        pc_free(PC_CONTAINER_OF(link, struct pc_disk_request, link));
    }
}
