#include "disk.h"

#include "base/log.h"
#include "base/mem.h"

#include "disk_int.h"

#include <string.h>

#define REMOVES_MAX 65536u /* Somebody waits for their tombstones. */
#define SLICE       4096u  /* Entries looked at while the lock is held. */
#define AT_ONCE     128u   /* Places handed out from one slice. */

const char *pc_disk_result_name(enum pc_disk_result result)
{
    static const char *const names[] = {
#define PC_DISK_RESULT_NAME(id, name) [PC_DISK_##id] = name,
        PC_DISK_RESULT_MAP(PC_DISK_RESULT_NAME)
#undef PC_DISK_RESULT_NAME
    };
    return (size_t)result < PC_ARRAY_LEN(names) ? names[result] : "unknown";
}

/* ---- Entries ------------------------------------------------------------ */

struct pc_disk_segment *pc_disk_segment_of(const struct pc_disk *disk,
                                           const struct pc_disk_item *item)
{
    return item->segment < disk->n_slots ? disk->slots[item->segment] : NULL;
}

struct pc_disk_place pc_disk_place_of(const struct pc_disk_item *item)
{
    return (struct pc_disk_place){item->digest, item->length, item->checksum,
                                  item->tag};
}

/* A mark without a place yet is later than everything that has one. */
bool pc_disk_is_later(const struct pc_disk *disk, const struct pc_disk_item *a,
                      const struct pc_disk_item *b)
{
    const struct pc_disk_segment *of_a = pc_disk_segment_of(disk, a);
    const struct pc_disk_segment *of_b = pc_disk_segment_of(disk, b);
    uint64_t number_a = of_a != NULL ? of_a->number : UINT64_MAX;
    uint64_t number_b = of_b != NULL ? of_b->number : UINT64_MAX;
    return number_a != number_b ? number_a > number_b : a->at > b->at;
}

uint32_t pc_disk_find(const struct pc_disk *disk, struct pc_digest digest)
{
    uint32_t found = PC_DISK_NONE;
    uint32_t id = pc_disk_index_first(&disk->index, digest);
    for (; id != PC_DISK_NONE; id = pc_disk_index_next(&disk->index, id)) {
        struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
        if (item->state == PC_DISK_MARK &&
            pc_disk_segment_of(disk, item) == NULL) {
            return PC_DISK_NONE; /* Being removed. */
        }
        if (item->state == PC_DISK_LIVE) {
            found = id;
        }
    }
    return found;
}

void pc_disk_drop(struct pc_disk *disk, uint32_t id)
{
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    struct pc_disk_segment *segment = pc_disk_segment_of(disk, item);
    if (item->state == PC_DISK_LIVE) {
        PC_ASSERT(segment != NULL && segment->n_live > 0);
        disk->live -= pc_disk_record_size(item->names_len, item->length);
        disk->n_records--;
        segment->n_live--;
        if (segment->n_live == 0 && segment->state == PC_DISK_SEALED) {
            disk->some_empty = true;
            pc_disk_wake_keeper(disk);
        }
    }
    disk->forgot_marks = disk->forgot_marks || item->state == PC_DISK_MARK;
    pc_disk_index_remove(&disk->index, id);
}

static void make_live(struct pc_disk *disk, struct pc_disk_item *item)
{
    struct pc_disk_segment *segment = pc_disk_segment_of(disk, item);
    item->state = PC_DISK_LIVE;
    disk->live += pc_disk_record_size(item->names_len, item->length);
    disk->n_records++;
    segment->n_live++;
}

/* While segments are still being found, a mark stays: what it stands against
 * may come yet. */
void pc_disk_settle(struct pc_disk *disk, uint32_t id)
{
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
    uint32_t other = pc_disk_index_first(&disk->index, item->digest);
    while (other != PC_DISK_NONE) {
        uint32_t next = pc_disk_index_next(&disk->index, other);
        struct pc_disk_item *old = pc_disk_index_item(&disk->index, other);
        if (other != id && pc_disk_is_later(disk, old, item)) {
            if (old->state != PC_DISK_PENDING &&
                pc_disk_segment_of(disk, old) != NULL) {
                pc_disk_drop(disk, id); /* What is there is newer. */
                return;
            }
        } else if (other != id) {
            pc_disk_drop(disk, other);
        }
        other = next;
    }
    if (item->state == PC_DISK_PENDING) {
        make_live(disk, item);
    } else if (item->state == PC_DISK_MARK && !disk->recovering) {
        pc_disk_drop(disk, id);
    }
}

static size_t forget_slice(struct pc_disk *disk, uint32_t *id,
                           const struct pc_disk_segment *segment,
                           struct pc_disk_place *places)
{
    size_t n = 0;
    for (uint32_t i = 0; i < SLICE && *id < disk->index.n_items; i++, (*id)++) {
        struct pc_disk_item *item = pc_disk_index_item(&disk->index, *id);
        if (item->state == PC_DISK_FREE ||
            (segment != NULL && item->segment != segment->slot)) {
            continue;
        }
        if (item->state == PC_DISK_LIVE) {
            places[n++] = pc_disk_place_of(item);
        }
        if (item->state != PC_DISK_MARK ||
            pc_disk_segment_of(disk, item) != NULL) {
            pc_disk_drop(disk, *id);
        }
        if (n == AT_ONCE) {
            (*id)++;
            break;
        }
    }
    return n;
}

void pc_disk_forget(struct pc_disk *disk, struct pc_disk_segment *segment,
                    enum pc_disk_gone why)
{
    struct pc_disk_place places[AT_ONCE];
    uint32_t id = 0;
    bool more = true;
    while (more) {
        pc_disk_lock(disk);
        size_t n = forget_slice(disk, &id, segment, places);
        disk->counts.n_reclaimed += why == PC_DISK_GONE_RECLAIMED ? n : 0;
        more = id < disk->index.n_items;
        bool call =
            n > 0 && disk->params.gone != NULL && pc_disk_begin_calls(disk);
        pc_disk_unlock(disk);
        for (size_t i = 0; call && i < n; i++) {
            disk->params.gone(disk->params.arg, &places[i], why);
        }
        if (call) {
            pc_disk_end_calls(disk);
        }
    }
}

/* ---- Requests ----------------------------------------------------------- */

void pc_disk_count_dropped(struct pc_disk *disk, enum pc_disk_result result)
{
    disk->counts.n_dropped[result]++;
}

bool pc_disk_begin_calls(struct pc_disk *disk)
{
    disk->n_calling += disk->muted ? 0 : 1;
    return !disk->muted;
}

void pc_disk_end_calls(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    if (--disk->n_calling == 0 && disk->closing) {
        (void)pthread_cond_broadcast(&disk->changed);
    }
    pc_disk_unlock(disk);
}

/* What had been read is told by pc_disk_do_read; here it has failed. */
static void call_done(struct pc_disk_request *request)
{
    if (request->kind == PC_DISK_REQUEST_READ) {
        request->read(request->arg, request->result, NULL);
    } else if (request->written != NULL) {
        request->written(request->arg, request->result);
    }
}

void pc_disk_end_all(struct pc_disk *disk, struct pc_list *requests)
{
    struct pc_list *link;
    while ((link = pc_list_pop_front(requests)) != NULL) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(link, struct pc_disk_request, link);
        call_done(request);
        pc_free(request);
    }
    pc_disk_end_calls(disk);
}

static struct pc_disk_request *make_request(enum pc_disk_request_kind kind,
                                            struct pc_digest digest,
                                            const void *name_space,
                                            size_t name_space_len,
                                            const void *key, size_t key_len)
{
    struct pc_disk_request *request =
        pc_alloc(1, sizeof(*request) + name_space_len + key_len);
    if (request == NULL) {
        return NULL;
    }
    pc_list_init(&request->link);
    request->kind = kind;
    request->digest = digest;
    request->item = PC_DISK_NONE;
    request->name_space_len = (uint16_t)name_space_len;
    request->key_len = (uint16_t)key_len;
    if (name_space_len > 0) {
        memcpy(request->names, name_space, name_space_len);
    }
    if (key_len > 0) {
        memcpy(request->names + name_space_len, key, key_len);
    }
    return request;
}

/* Why nothing can be accepted at all. */
static enum pc_disk_result refusal(const struct pc_disk *disk)
{
    if (disk->closing) {
        return PC_DISK_CLOSED;
    }
    return disk->opening || disk->state == PC_DISK_GONE ? PC_DISK_LOST
                                                        : PC_DISK_OK;
}

static bool is_paused(const struct pc_disk *disk)
{
    return disk->state == PC_DISK_PAUSED &&
           pc_disk_now(disk) < disk->paused_until_ns;
}

/* ---- Write -------------------------------------------------------------- */

static enum pc_disk_result check_write(struct pc_disk *disk,
                                       const struct pc_disk_write *write)
{
    enum pc_disk_result result = refusal(disk);
    uint32_t id = pc_disk_find(disk, write->digest);
    if (result != PC_DISK_OK) {
        return result;
    }
    if (id != PC_DISK_NONE) {
        struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
        if (item->length == write->length &&
            item->checksum == write->checksum) {
            item->hits += item->hits < UINT8_MAX ? 1 : 0;
            return PC_DISK_PRESENT;
        }
    }
    if (is_paused(disk)) {
        return disk->failure;
    }
    return write->length > disk->params.queue_bytes ||
                   disk->queued_bytes > disk->params.queue_bytes - write->length
               ? PC_DISK_QUEUE_FULL
               : PC_DISK_OK;
}

static bool fits(const struct pc_disk *disk, const struct pc_disk_write *write)
{
    return write->length > 0 && write->length <= PC_DISK_VALUE_MAX &&
           write->name_space_len <= PC_DISK_SPACE_MAX &&
           write->key_len <= PC_DISK_KEY_MAX &&
           write->length <= disk->params.size / 4 - 4 * PC_DISK_BLOCK;
}

enum pc_disk_result pc_disk_write(struct pc_disk *disk,
                                  const struct pc_disk_write *write)
{
    struct pc_disk_request *request = NULL;
    pc_disk_lock(disk);
    enum pc_disk_result result =
        fits(disk, write) ? check_write(disk, write) : PC_DISK_TOO_LARGE;
    if (result == PC_DISK_OK) {
        /* Under the lock: it is short, and the bound is kept exactly. */
        request = make_request(PC_DISK_REQUEST_WRITE, write->digest,
                               write->name_space, write->name_space_len,
                               write->key, write->key_len);
        result = request != NULL ? PC_DISK_OK : PC_DISK_NO_MEMORY;
    }
    if (result != PC_DISK_OK) {
        pc_disk_count_dropped(disk, result);
        pc_disk_unlock(disk);
        return result;
    }
    request->value = write->value;
    request->length = write->length;
    request->checksum = write->checksum;
    request->tag = write->tag;
    request->written = write->done;
    request->arg = write->arg;
    request->epoch = disk->epoch;
    disk->queued_bytes +=
        pc_disk_cost(write->length, write->name_space_len + write->key_len);
    pc_list_push_back(&disk->writes, &request->link);
    pc_disk_wake_writer(disk);
    pc_disk_unlock(disk);
    return PC_DISK_OK;
}

/* ---- Remove ------------------------------------------------------------- */

void pc_disk_hide(struct pc_disk *disk, struct pc_digest digest)
{
    disk->unsure = true;
    uint32_t id = pc_disk_index_first(&disk->index, digest);
    while (id != PC_DISK_NONE) {
        uint32_t next = pc_disk_index_next(&disk->index, id);
        struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
        if (item->state != PC_DISK_MARK) {
            pc_disk_drop(disk, id);
        }
        id = next;
    }
}

/* From now on nobody finds the digest; the mark says so until the tombstone has
 * its place. Who is told of the end can be told of a full queue as well; the
 * others have nobody who would try again. */
static enum pc_disk_result queue_remove(struct pc_disk *disk,
                                        struct pc_disk_request *request)
{
    enum pc_disk_result result = refusal(disk);
    bool told = request->written != NULL;
    if (result != PC_DISK_OK) {
        return result;
    }
    if (told && disk->n_told_removes == REMOVES_MAX) {
        return PC_DISK_QUEUE_FULL;
    }
    request->item = pc_disk_index_add(&disk->index, request->digest);
    if (request->item == PC_DISK_NONE) {
        return PC_DISK_NO_MEMORY;
    }
    struct pc_disk_item *item = pc_disk_index_item(&disk->index, request->item);
    item->state = PC_DISK_MARK;
    item->segment = UINT16_MAX; /* None. */
    request->epoch = disk->epoch;
    disk->n_told_removes += told ? 1 : 0;
    pc_list_push_back(&disk->writes, &request->link);
    pc_disk_wake_writer(disk);
    return PC_DISK_OK;
}

enum pc_disk_result pc_disk_remove(struct pc_disk *disk,
                                   struct pc_digest digest,
                                   pc_disk_write_fn done, void *arg)
{
    enum pc_disk_result result = PC_DISK_NO_MEMORY;
    struct pc_disk_request *request =
        make_request(PC_DISK_REQUEST_REMOVE, digest, NULL, 0, NULL, 0);
    pc_disk_lock(disk);
    if (request != NULL) {
        request->written = done;
        request->arg = arg;
        result = queue_remove(disk, request);
    }
    /* Better than nothing; while it opens there is nothing, and the index is
     * the keeper's. */
    if (result == PC_DISK_NO_MEMORY && done == NULL && !disk->opening) {
        pc_disk_hide(disk, digest);
    }
    pc_disk_unlock(disk);
    if (result != PC_DISK_OK) {
        pc_free(request);
    }
    return result;
}

/* Every segment goes, and every entry; who is on the way to write or to remove
 * will see that the epoch is another. */
enum pc_disk_result pc_disk_clear(struct pc_disk *disk, pc_disk_write_fn done,
                                  void *arg)
{
    struct pc_disk_index old;
    struct pc_disk_clear *clear = pc_alloc(1, sizeof(*clear));
    if (clear == NULL) {
        return PC_DISK_NO_MEMORY;
    }
    clear->done = done;
    clear->arg = arg;
    pc_disk_lock(disk);
    enum pc_disk_result result = refusal(disk);
    if (result != PC_DISK_OK) {
        pc_disk_unlock(disk);
        pc_free(clear);
        return result;
    }
    disk->epoch++;
    disk->unsure = disk->unsure && disk->unopened;
    old = disk->index;
    pc_disk_index_init(&disk->index);
    disk->live = 0;
    disk->n_records = 0;
    disk->active = NULL;
    while (!pc_list_is_empty(&disk->segments)) {
        pc_disk_doom(disk, PC_CONTAINER_OF(disk->segments.next,
                                           struct pc_disk_segment, link));
    }
    pc_list_push_back(&disk->clears, &clear->link);
    pc_disk_wake_keeper(disk);
    pc_disk_unlock(disk);
    pc_disk_index_fini(&old);
    return PC_DISK_OK;
}

/* ---- Read and look up -----------------------------------------------------
 */

static enum pc_disk_result check_read(struct pc_disk *disk,
                                      const struct pc_disk_read *read)
{
    enum pc_disk_result result = refusal(disk);
    if (result != PC_DISK_OK) {
        return result;
    }
    uint32_t id = pc_disk_find(disk, read->digest);
    if (id == PC_DISK_NONE) {
        return PC_DISK_ABSENT;
    }
    if (pc_disk_index_item(&disk->index, id)->length != read->length) {
        return PC_DISK_MISMATCH;
    }
    return disk->n_reads < disk->params.max_reads ? PC_DISK_OK
                                                  : PC_DISK_QUEUE_FULL;
}

enum pc_disk_result pc_disk_read(struct pc_disk *disk,
                                 const struct pc_disk_read *read)
{
    bool any_key = read->key == NULL;
    size_t name_space_len = any_key ? 0 : read->name_space_len;
    size_t key_len = any_key ? 0 : read->key_len;
    if (name_space_len > PC_DISK_SPACE_MAX || key_len > PC_DISK_KEY_MAX) {
        return PC_DISK_MISMATCH; /* No record has such a key. */
    }
    struct pc_disk_request *request =
        make_request(PC_DISK_REQUEST_READ, read->digest, read->name_space,
                     name_space_len, read->key, key_len);
    pc_disk_lock(disk);
    enum pc_disk_result result =
        request != NULL ? check_read(disk, read) : PC_DISK_NO_MEMORY;
    if (result == PC_DISK_OK) {
        request->any_key = any_key;
        request->buffer = read->buffer;
        request->length = read->length;
        request->read = read->done;
        request->arg = read->arg;
        disk->n_reads++;
        pc_list_push_back(&disk->reads, &request->link);
        (void)pthread_cond_signal(&disk->work);
    } else {
        disk->counts.n_read_failed[result]++;
    }
    pc_disk_unlock(disk);
    if (result != PC_DISK_OK) {
        pc_free(request);
    }
    return result;
}

bool pc_disk_lookup(struct pc_disk *disk, struct pc_digest digest,
                    struct pc_disk_place *place_p)
{
    pc_disk_lock(disk);
    uint32_t id =
        disk->state != PC_DISK_GONE ? pc_disk_find(disk, digest) : PC_DISK_NONE;
    if (id != PC_DISK_NONE) {
        *place_p = pc_disk_place_of(pc_disk_index_item(&disk->index, id));
    }
    pc_disk_unlock(disk);
    return id != PC_DISK_NONE;
}

bool pc_disk_recovering(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool recovering = disk->recovering;
    pc_disk_unlock(disk);
    return recovering;
}

bool pc_disk_set_tag(struct pc_disk *disk, struct pc_digest digest,
                     uint64_t length, uint64_t tag)
{
    pc_disk_lock(disk);
    uint32_t id = pc_disk_find(disk, digest);
    struct pc_disk_item *item =
        id != PC_DISK_NONE ? pc_disk_index_item(&disk->index, id) : NULL;
    bool is_it = item != NULL && item->length == length;
    if (is_it) {
        item->tag = tag;
    }
    pc_disk_unlock(disk);
    return is_it;
}

size_t pc_disk_list(struct pc_disk *disk, uint64_t *cursor,
                    struct pc_disk_place *places, size_t n)
{
    size_t found = 0;
    while (found == 0) {
        pc_disk_lock(disk);
        uint32_t n_items = disk->index.n_items;
        for (uint32_t i = 0; i < SLICE && found < n && *cursor < n_items; i++) {
            struct pc_disk_item *item =
                pc_disk_index_item(&disk->index, (uint32_t)(*cursor)++);
            if (item->state == PC_DISK_LIVE) {
                places[found++] = pc_disk_place_of(item);
            }
        }
        bool more = n > 0 && *cursor < n_items;
        pc_disk_unlock(disk);
        if (!more) {
            break;
        }
    }
    return found;
}

void pc_disk_stats(struct pc_disk *disk, struct pc_disk_stats *stats_p)
{
    uint64_t free_bytes = 0;
    uint64_t now = pc_disk_now(disk);
    pc_disk_lock(disk);
    if (disk->opening) {
        *stats_p = (struct pc_disk_stats){.state = disk->state,
                                          .failure = disk->failure};
        pc_disk_unlock(disk);
        return;
    }
    struct pc_disk_stats stats = disk->counts;
    stats.state = disk->state;
    stats.failure = disk->failure;
    stats.direct = disk->direct;
    stats.capacity = disk->params.size;
    free_bytes = disk->free_bytes;
    if (free_bytes < stats.capacity - disk->used &&
        disk->used < stats.capacity) {
        stats.capacity = disk->used + free_bytes;
    }
    stats.used = disk->used;
    stats.live = disk->live;
    stats.n_records = disk->n_records;
    stats.index_bytes = pc_disk_index_bytes(&disk->index);
    stats.queued_bytes = disk->queued_bytes;
    stats.n_queued_reads = disk->n_reads;
    stats.aside_bytes = disk->aside_bytes;
    for (struct pc_list *link = disk->segments.next; link != &disk->segments;
         link = link->next) {
        stats.n_segments++;
    }
    if (disk->recovering) {
        stats.recovery_ns = now - disk->recovery_began_ns;
    }
    pc_disk_unlock(disk);
    *stats_p = stats;
}
