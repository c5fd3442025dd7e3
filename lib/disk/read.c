#include "base/mem.h"
#include "base/seqlock.h"

#include "disk_int.h"

#include <errno.h>
#include <string.h>

/* Hashed while it is still in the cache. */
#define COPY_CHUNK ((size_t)128 << 10)

void pc_disk_suspend(struct pc_disk_worker *worker)
{
    struct pc_disk *disk = worker->disk;
    pc_disk_lock(disk);
    worker->suspended = true;
    if (disk->closing) {
        (void)pthread_cond_broadcast(&disk->changed);
    }
    pc_disk_unlock(disk);
}

bool pc_disk_resume(struct pc_disk_worker *worker)
{
    struct pc_disk *disk = worker->disk;
    pc_disk_lock(disk);
    worker->suspended = false;
    bool ours = !worker->abandoned;
    pc_disk_unlock(disk);
    return ours;
}

/* ---- Proof --------------------------------------------------------------- */

static bool is_record(const struct pc_disk_proof *proof,
                      const unsigned char *from,
                      struct pc_disk_record *record_p)
{
    struct pc_disk_record record;
    const struct pc_disk_item *item = &proof->item;
    if (!pc_disk_peek_record(from, &record) || record.kind != PC_DISK_VALUE ||
        !pc_digest_equal(record.digest, item->digest) ||
        record.length != item->length || record.checksum != item->checksum ||
        record.name_space_len + record.key_len != item->names_len ||
        !pc_disk_check_record(from, proof->segment->nonce)) {
        return false;
    }
    *record_p = record;
    return true;
}

/* From the block in which the record begins, part by part. */
struct parts
{
    const struct pc_disk_proof *proof;
    uint64_t at, end; /* The next part, and the last one's end. */
    size_t skip;      /* What comes before the record in its first block. */
};

static int next_part(struct parts *parts, size_t *n_p)
{
    uint64_t left = parts->end - parts->at;
    size_t len = left < PC_DISK_STAGE ? (size_t)left : PC_DISK_STAGE;
    size_t n = 0;
    pc_disk_suspend(parts->proof->worker);
    int error = pc_disk_read_all(&parts->proof->segment->file,
                                 parts->proof->buffer, len, parts->at, &n);
    if (!pc_disk_resume(parts->proof->worker)) {
        return ECANCELED;
    }
    if (error == 0 && n < len) {
        return EBADMSG; /* The file is shorter than it was. */
    }
    parts->at += len;
    *n_p = len;
    return error;
}

static enum pc_disk_result result_of_part(int error)
{
    return error == ECANCELED ? PC_DISK_CLOSED
           : error == EBADMSG ? PC_DISK_CORRUPT
                              : PC_DISK_IO;
}

/* The value, the first part of which lies behind the names. */
static enum pc_disk_result prove_value(struct parts *parts, size_t skip,
                                       size_t n)
{
    const struct pc_disk_proof *proof = parts->proof;
    struct pc_checksum_parts sum;
    uint64_t left = proof->item.length;
    pc_checksum_begin(&sum);
    for (;;) {
        size_t len = n - skip < left ? n - skip : (size_t)left;
        if (!proof->sums) {
            pc_checksum_add(&sum, proof->buffer + skip, len);
        }
        if (!proof->sink(proof->arg, proof->buffer + skip, len)) {
            return PC_DISK_CLOSED;
        }
        left -= len;
        if (left == 0) {
            break;
        }
        skip = 0;
        int error = next_part(parts, &n);
        if (error != 0) {
            return result_of_part(error);
        }
    }
    return proof->sums || pc_checksum_end(&sum) == proof->item.checksum
               ? PC_DISK_OK
               : PC_DISK_CORRUPT;
}

/* Too many open files is nothing that the record is to blame for. */
static enum pc_disk_result open_again(struct pc_disk *disk,
                                      const struct pc_disk_proof *proof)
{
    pc_disk_lock(disk);
    bool is_open = proof->segment->file.file >= 0;
    proof->segment->used_at = ++disk->n_uses;
    pc_disk_unlock(disk);
    if (is_open) {
        return PC_DISK_OK;
    }
    pc_disk_suspend(proof->worker);
    int error = pc_disk_need_file(disk, proof->segment);
    if (!pc_disk_resume(proof->worker)) {
        return PC_DISK_CLOSED;
    }
    if (error == EMFILE || error == ENFILE || error == ENOMEM) {
        return PC_DISK_NO_MEMORY;
    }
    return error == 0 ? PC_DISK_OK : PC_DISK_IO;
}

enum pc_disk_result pc_disk_prove(struct pc_disk *disk,
                                  const struct pc_disk_proof *proof)
{
    struct pc_disk_record record;
    uint64_t first = (uint64_t)proof->item.at * PC_DISK_UNIT;
    size_t skip = (size_t)(first % PC_DISK_BLOCK);
    uint64_t size = PC_DISK_RECORD_BYTES + (uint64_t)proof->item.names_len +
                    proof->item.length;
    struct parts parts = {.proof = proof,
                          .at = first - skip,
                          .end = pc_disk_round(first + size, PC_DISK_BLOCK)};
    size_t n;
    enum pc_disk_result result = open_again(disk, proof);
    if (result != PC_DISK_OK) {
        return result;
    }
    int error = next_part(&parts, &n);
    if (error != 0) {
        return result_of_part(error);
    }
    if (!is_record(proof, proof->buffer + skip, &record)) {
        return PC_DISK_MISMATCH;
    }
    if (!proof->names(proof->arg, &record,
                      proof->buffer + skip + PC_DISK_RECORD_BYTES)) {
        return PC_DISK_CLOSED;
    }
    return prove_value(&parts,
                       skip + PC_DISK_RECORD_BYTES + proof->item.names_len, n);
}

/* ---- Reads ----------------------------------------------------------------
 */

bool pc_disk_take_read(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    struct pc_list *link = pc_list_pop_front(&disk->reads);
    if (link == NULL) {
        return false;
    }
    disk->n_reads--;
    disk->n_reading++;
    worker->abandoned = false;
    worker->segment = NULL;
    pc_list_push_back(&worker->requests, link);
    pc_list_push_back(&disk->busy, &worker->link);
    return true;
}

/* One read: where its bytes go, and what was found. */
struct reading
{
    struct pc_disk_worker *worker;
    struct pc_disk_request *request;
    struct pc_checksum_parts sum;
    unsigned char *to;
    bool other_key;
    struct pc_disk_found found;
    unsigned char names[PC_DISK_NAMES_MAX];
};

static bool read_names(void *arg, const struct pc_disk_record *record,
                       const unsigned char *names)
{
    struct reading *reading = arg;
    struct pc_disk_found *found = &reading->found;
    size_t space_len = record->name_space_len;
    memcpy(reading->names, names, space_len + record->key_len);
    found->name_space = reading->names;
    found->name_space_len = space_len;
    found->key = reading->names + space_len;
    found->key_len = record->key_len;
    const struct pc_disk_request *request = reading->request;
    reading->other_key =
        !request->any_key &&
        (request->name_space_len != space_len ||
         request->key_len != record->key_len ||
         memcmp(request->names, names, space_len + record->key_len) != 0);
    return !reading->other_key;
}

static bool read_value(void *arg, const unsigned char *bytes, size_t len)
{
    struct reading *reading = arg;
    for (size_t done = 0; done < len;) {
        size_t n = len - done < COPY_CHUNK ? len - done : COPY_CHUNK;
        pc_racy_fill(reading->to, bytes + done, n);
        pc_checksum_add(&reading->sum, reading->to, n);
        reading->to += n;
        done += n;
    }
    return true;
}

/* Look again: the record may have been carried elsewhere since it was asked
 * for. Keeps the segment. */
static enum pc_disk_result find_again(struct pc_disk *disk,
                                      const struct pc_disk_request *request,
                                      struct pc_disk_item *item_p)
{
    uint32_t id = pc_disk_find(disk, request->digest);
    if (id == PC_DISK_NONE) {
        return disk->state == PC_DISK_GONE ? PC_DISK_LOST : PC_DISK_ABSENT;
    }
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    if (item->length != request->length) {
        return PC_DISK_MISMATCH;
    }
    item->hits += item->hits < UINT8_MAX ? 1 : 0;
    pc_disk_segment_of(disk, item)->n_refs++;
    *item_p = *item;
    return PC_DISK_OK;
}

/* The record cannot be read: it is not found again, but known to be on disk.
 * True: somebody should be told that it is gone. */
static bool give_up(struct pc_disk *disk, const struct pc_disk_item *item,
                    bool lied)
{
    struct pc_disk_segment *segment = pc_disk_segment_of(disk, item);
    uint32_t id = pc_disk_find(disk, item->digest);
    if (id == PC_DISK_NONE || segment == NULL) {
        return false;
    }
    struct pc_disk_item *now = pc_disk_index_item(&disk->index, id);
    if (now->segment != item->segment || now->at != item->at) {
        return false;
    }
    struct pc_disk_item dead = *now;
    pc_disk_drop(disk, id);
    /* Without memory a later remove may leave no tombstone: it is bad anyway.
     */
    id = pc_disk_index_add(&disk->index, dead.digest);
    if (id != PC_DISK_NONE) {
        now = pc_disk_index_item(&disk->index, id);
        uint32_t next = now->next;
        *now = dead;
        now->next = next;
        now->state = PC_DISK_DEAD;
    }
    segment->n_marks++; /* Against what it has replaced: goes in its turn. */
    if (lied && segment->by_index && !segment->doubted) {
        segment->doubted = true;
        disk->some_doubted = true;
        disk->counts.n_bad_indexes++;
        pc_disk_wake_keeper(disk);
    }
    return true;
}

static enum pc_disk_result read_record(struct pc_disk *disk,
                                       struct reading *reading,
                                       const struct pc_disk_item *item)
{
    struct pc_disk_proof proof = {.segment = reading->worker->segment,
                                  .item = *item,
                                  .worker = reading->worker,
                                  .buffer = reading->worker->buffer,
                                  .names = read_names,
                                  .sink = read_value,
                                  .arg = reading,
                                  .sums = true};
    pc_checksum_begin(&reading->sum);
    enum pc_disk_result result = pc_disk_prove(disk, &proof);
    if (result == PC_DISK_OK &&
        pc_checksum_end(&reading->sum) != item->checksum) {
        return PC_DISK_CORRUPT;
    }
    return result;
}

/* Count, and forget a record that is bad. A header that is another record's
 * is the index's lie or a flipped bit. */
static enum pc_disk_result judge(struct pc_disk *disk,
                                 const struct reading *reading,
                                 const struct pc_disk_item *item,
                                 enum pc_disk_result result, bool *gone_p)
{
    if (result == PC_DISK_OK) {
        disk->counts.n_read++;
        disk->counts.bytes_read += item->length;
        return PC_DISK_OK;
    }
    if (reading->other_key) {
        return PC_DISK_MISMATCH;
    }
    if (result == PC_DISK_MISMATCH || result == PC_DISK_CORRUPT) {
        disk->counts.n_corrupt++;
        *gone_p = give_up(disk, item, result == PC_DISK_MISMATCH);
        return PC_DISK_CORRUPT;
    }
    if (result == PC_DISK_IO) {
        disk->counts.n_io_errors++;
        *gone_p = give_up(disk, item, false);
    }
    return result;
}

static void tell(struct pc_disk *disk, struct reading *reading,
                 enum pc_disk_result result, const struct pc_disk_place *gone)
{
    struct pc_disk_request *request = reading->request;
    request->read(request->arg, result,
                  result == PC_DISK_OK ? &reading->found : NULL);
    if (gone != NULL && disk->params.gone != NULL) {
        disk->params.gone(disk->params.arg, gone, PC_DISK_GONE_BAD);
    }
    pc_free(request);
    pc_disk_end_calls(disk);
}

/* Where the record is now; false: the read has failed. */
static enum pc_disk_result begin_read(struct pc_disk *disk,
                                      struct reading *reading,
                                      struct pc_disk_item *item_p)
{
    struct pc_disk_worker *worker = reading->worker;
    pc_disk_lock(disk);
    enum pc_disk_result result =
        worker->abandoned ? PC_DISK_CLOSED
                          : find_again(disk, reading->request, item_p);
    if (result == PC_DISK_OK) {
        worker->segment = pc_disk_segment_of(disk, item_p);
        reading->found.place = pc_disk_place_of(item_p);
    }
    pc_disk_unlock(disk);
    return result;
}

void pc_disk_do_read(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    struct pc_disk_item item = {0};
    struct reading reading = {.worker = worker};
    bool gone = false;
    reading.request =
        PC_CONTAINER_OF(worker->requests.next, struct pc_disk_request, link);
    reading.to = reading.request->buffer;
    enum pc_disk_result result = begin_read(disk, &reading, &item);
    bool was_read = result == PC_DISK_OK;
    if (was_read) {
        result = read_record(disk, &reading, &item);
    }
    pc_disk_lock(disk);
    if (was_read) {
        result = judge(disk, &reading, &item, result, &gone);
        pc_disk_unref(disk, worker->segment);
    }
    if (result != PC_DISK_OK) {
        disk->counts.n_read_failed[result]++;
    }
    pc_list_remove(&worker->link);
    disk->n_reading--;
    /* Empty: close has taken it. */
    bool call = pc_list_pop_front(&worker->requests) != NULL &&
                pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        tell(disk, &reading, result, gone ? &reading.found.place : NULL);
    }
}
