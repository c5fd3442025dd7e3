#include "base/list.h"
#include "base/mem.h"

#include "disk_int.h"

#include <stdlib.h>
#include <string.h>

#define SLICE 4096u /* Entries looked at while the lock is held. */

/* The oldest segment whose file nobody writes to. */
static struct pc_disk_segment *oldest(struct pc_disk *disk)
{
    struct pc_list *link = disk->segments.next;
    if (link == &disk->segments) {
        return NULL;
    }
    struct pc_disk_segment *segment =
        PC_CONTAINER_OF(link, struct pc_disk_segment, link);
    return segment->state == PC_DISK_SEALED || segment->state == PC_DISK_FOUND
               ? segment
               : NULL;
}

/* ---- What is carried over ---------------------------------------------------
 */

static struct pc_disk_request *carry_of(const struct pc_disk_item *item,
                                        struct pc_disk_segment *segment)
{
    struct pc_disk_request *request = pc_alloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    pc_list_init(&request->link);
    request->kind = PC_DISK_REQUEST_CARRY;
    request->digest = item->digest;
    request->length = item->length;
    request->checksum = item->checksum;
    request->from = segment;
    request->from_at = item->at;
    request->hits = item->hits;
    /* Only the sum matters: the names come from the record. */
    request->key_len = item->names_len;
    return request;
}

/* Records of the segment that were asked for since they were written. */
static size_t find_hot(struct pc_disk *disk, struct pc_disk_segment *segment,
                       struct pc_list *hot)
{
    uint32_t id = 0;
    size_t n = 0;
    bool more = true;
    while (more) {
        pc_disk_lock(disk);
        for (uint32_t i = 0; i < SLICE && id < disk->index.n_items; i++, id++) {
            struct pc_disk_item *item = pc_disk_index_item(&disk->index, id);
            if (item->state != PC_DISK_LIVE || item->hits == 0 ||
                item->segment != segment->slot) {
                continue;
            }
            struct pc_disk_request *request = carry_of(item, segment);
            if (request != NULL) {
                pc_list_push_back(hot, &request->link);
                n++;
            }
        }
        more = id < disk->index.n_items && segment->state == PC_DISK_RECLAIMED;
        pc_disk_unlock(disk);
    }
    return n;
}

static struct pc_disk_request *request_at(struct pc_list *link)
{
    return PC_CONTAINER_OF(link, struct pc_disk_request, link);
}

static void drop_all(struct pc_list *requests)
{
    struct pc_list *link;
    while ((link = pc_list_pop_front(requests)) != NULL) {
        pc_free(request_at(link));
    }
}

/* At most half of the segment is carried, so that reclaiming frees space even
 * when all of it is hot: first what was asked for more than once. */
static void choose(struct pc_list *hot, struct pc_list *chosen, uint64_t budget)
{
    for (int least = 2; least >= 1; least--) {
        struct pc_list *link = hot->next;
        while (link != hot) {
            struct pc_list *next = link->next;
            struct pc_disk_request *request = request_at(link);
            uint64_t size =
                pc_disk_record_size(request->key_len, request->length);
            if (request->hits >= least && size <= budget) {
                budget -= size;
                pc_list_remove(link);
                pc_list_push_back(chosen, link);
            }
            link = next;
        }
    }
}

static void carry(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    struct pc_disk_worker *worker = &disk->keeper;
    struct pc_list hot, chosen;
    bool more = true;
    pc_list_init(&hot);
    pc_list_init(&chosen);
    if (find_hot(disk, segment, &hot) > 0) {
        choose(&hot, &chosen, segment->size / 2);
    }
    while (more && !pc_list_is_empty(&chosen)) {
        pc_disk_lock(disk);
        more = disk->state == PC_DISK_RUNNING && !disk->stop &&
               pc_disk_take_carried(disk, worker, &chosen, &hot);
        pc_disk_unlock(disk);
        if (more) {
            pc_disk_write_batch(disk, worker);
        }
    }
    drop_all(&hot);
    drop_all(&chosen);
}

/* ---- Freeing
 * ----------------------------------------------------------------- */

/* The caller has a reference; the state is RECLAIMED, or clear was faster. */
static void free_segment(struct pc_disk *disk, struct pc_disk_segment *segment)
{
    pc_disk_sync_heads(disk);
    pc_disk_forget(disk, segment, PC_DISK_GONE_RECLAIMED);
    pc_disk_lock(disk);
    if (segment->state == PC_DISK_RECLAIMED) {
        pc_disk_doom(disk, segment);
    }
    pc_disk_unref(disk, segment);
    pc_disk_unlock(disk);
    (void)pc_disk_unlink_doomed(disk);
}

bool pc_disk_reclaim(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    struct pc_disk_segment *segment = oldest(disk);
    bool has_records = segment != NULL && segment->state == PC_DISK_SEALED;
    if (segment != NULL) {
        segment->state = PC_DISK_RECLAIMED;
        segment->n_refs++;
    }
    pc_disk_unlock(disk);
    if (segment == NULL) {
        return false;
    }
    if (has_records) {
        carry(disk, segment);
    }
    free_segment(disk, segment);
    return true;
}

/* Without tombstones it may go before older ones. */
static struct pc_disk_segment *find_empty(struct pc_disk *disk)
{
    for (struct pc_list *link = disk->segments.next; link != &disk->segments;
         link = link->next) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (segment->state == PC_DISK_SEALED && segment->n_live == 0 &&
            (segment->n_marks == 0 || (link == disk->segments.next &&
                                       pc_list_is_empty(&disk->doomed)))) {
            return segment;
        }
    }
    return NULL;
}

bool pc_disk_free_empty(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    struct pc_disk_segment *segment =
        disk->some_empty ? find_empty(disk) : NULL;
    disk->some_empty = segment != NULL;
    if (segment != NULL) {
        segment->state = PC_DISK_RECLAIMED;
        segment->n_refs++;
    }
    pc_disk_unlock(disk);
    if (segment == NULL) {
        return false;
    }
    free_segment(disk, segment);
    return true;
}
