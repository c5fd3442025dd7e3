#include "evict.h"

#include "ghost.h"

#include "base/assert.h"
#include "base/mem.h"

/*
 * S3-FIFO (Yang and others, SOSP 2023), by bytes. What is new enters the small
 * queue. While that is larger than its share, its oldest entry goes: out, if
 * nobody used it, and then the ghosts remember it; else into the main queue.
 * What comes back while the ghosts know it enters the main queue at once. The
 * main queue's oldest entry goes out if nobody used it since its last turn,
 * else it begins again as unused.
 *
 * A touch sets one bit: an exists and the get that follows are one use. The
 * numbers, and why they are not those of the paper: docs/design-notes.md.
 */
enum { NOWHERE, SMALL, MAIN };
enum { SMALL_SHARE_OF = 4 };
/* Used entries moved by one call, at most: some 10 us. Each move takes away a
 * use, so there are no more of them than of uses; what is left to move is moved
 * by the next calls. */
enum { MAX_MOVES = 256 };

/* Two cells of the ghosts a value, but of small values two a granule, so that
 * the bookkeeping of a value stays under 128 bytes. */
enum { CELLS_PER_VALUE = 2, GRANULE = 4096 };

struct queue
{
    struct pc_list entries; /* The oldest in front. */
    uint64_t bytes;
};

struct pc_evict
{
    struct queue small, main;
    uint64_t n_entries;
    uint64_t n_back;
    bool began_with_main; /* The walk through both queues. */
    struct pc_ghost ghost;
};

static struct pc_evict *create(void)
{
    struct pc_evict *evict = pc_alloc(1, sizeof(*evict));
    if (evict != NULL) {
        pc_list_init(&evict->small.entries);
        pc_list_init(&evict->main.entries);
        pc_ghost_init(&evict->ghost);
    }
    return evict;
}

static void destroy(struct pc_evict *evict)
{
    pc_ghost_fini(&evict->ghost);
    pc_free(evict);
}

static uint64_t n_bytes(const struct pc_evict *evict)
{
    return sizeof(*evict) + pc_ghost_n_bytes(&evict->ghost);
}

static uint64_t n_back(const struct pc_evict *evict)
{
    return evict->n_back;
}

static uint32_t tag_of(const struct pc_evict_entry *entry)
{
    uint64_t hi = entry->digest.hi;
    uint64_t word = entry->digest.lo ^ (hi << 32 | hi >> 32);
    return (uint32_t)(word * 0x9e3779b97f4a7c15ull >> 32);
}

static struct queue *queue_of(struct pc_evict *evict,
                              const struct pc_evict_entry *entry)
{
    PC_ASSERT(entry->queue != NOWHERE);
    return entry->queue == MAIN ? &evict->main : &evict->small;
}

static void enter(struct pc_evict *evict, struct pc_evict_entry *entry,
                  bool is_main)
{
    struct queue *queue = is_main ? &evict->main : &evict->small;
    entry->queue = is_main ? MAIN : SMALL;
    pc_list_push_back(&queue->entries, &entry->link);
    queue->bytes += entry->length;
}

static void leave(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    queue_of(evict, entry)->bytes -= entry->length;
    pc_list_remove(&entry->link);
    entry->queue = NOWHERE;
}

/* Ghosts are remembered for three quarters of the bytes that are here. */
static uint64_t ghost_span(const struct pc_evict *evict)
{
    uint64_t bytes = evict->small.bytes + evict->main.bytes;
    return bytes - bytes / 4;
}

static void insert(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    bool is_back =
        pc_ghost_take(&evict->ghost, tag_of(entry), ghost_span(evict));
    entry->is_used = 0;
    evict->n_back += is_back;
    enter(evict, entry, is_back);
    evict->n_entries++;
}

static void touch(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    (void)evict;
    entry->is_used = 1;
}

static void defer(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    struct queue *queue = queue_of(evict, entry);
    pc_list_remove(&entry->link);
    pc_list_push_back(&queue->entries, &entry->link);
}

static void drop(struct pc_evict *evict, struct pc_evict_entry *entry,
                 bool evicted)
{
    if (evicted && entry->queue == SMALL) {
        uint64_t n_granules =
            (evict->small.bytes + evict->main.bytes) / GRANULE;
        uint64_t n =
            evict->n_entries < n_granules ? evict->n_entries : n_granules;
        pc_ghost_add(&evict->ghost, tag_of(entry), entry->length,
                     ghost_span(evict), n * CELLS_PER_VALUE);
    }
    leave(evict, entry);
    evict->n_entries--;
}

static bool is_main_next(const struct pc_evict *evict)
{
    uint64_t all = evict->small.bytes + evict->main.bytes;
    return !pc_list_is_empty(&evict->main.entries) &&
           evict->small.bytes <= all / SMALL_SHARE_OF;
}

/* An entry that was used stays: at the end of the main queue. */
static void keep(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    leave(evict, entry);
    entry->is_used = 0;
    enter(evict, entry, true);
}

static struct pc_evict_entry *head_of(const struct queue *queue)
{
    return PC_CONTAINER_OF(queue->entries.next, struct pc_evict_entry, link);
}

/* Too many used ones in a row at the front of a queue, such as long chains
 * that were read. The other queue may have one that nobody used; if not, even
 * a used one goes. */
static struct pc_evict_entry *give_in(struct pc_evict *evict)
{
    evict->began_with_main = is_main_next(evict);
    struct queue *other = evict->began_with_main ? &evict->small : &evict->main;
    if (!pc_list_is_empty(&other->entries) && head_of(other)->is_used == 0) {
        evict->began_with_main = !evict->began_with_main;
        return head_of(other);
    }
    return head_of(evict->began_with_main ? &evict->main : &evict->small);
}

static struct pc_evict_entry *first(struct pc_evict *evict)
{
    for (int n_moves = 0; n_moves < MAX_MOVES; n_moves++) {
        evict->began_with_main = is_main_next(evict);
        struct queue *queue =
            evict->began_with_main ? &evict->main : &evict->small;
        if (pc_list_is_empty(&queue->entries)) {
            return NULL;
        }
        if (head_of(queue)->is_used == 0) {
            return head_of(queue);
        }
        keep(evict, head_of(queue));
    }
    return give_in(evict);
}

/* On through the queue of `after`, then through the other one. */
static struct pc_evict_entry *next(struct pc_evict *evict,
                                   struct pc_evict_entry *after)
{
    struct queue *queue = queue_of(evict, after);
    struct pc_list *at = after->link.next;
    for (int n_moves = 0;; n_moves++) {
        if (at == &queue->entries) {
            if ((queue == &evict->main) != evict->began_with_main) {
                return NULL;
            }
            queue = evict->began_with_main ? &evict->small : &evict->main;
            at = queue->entries.next;
        }
        if (at == &queue->entries) {
            return NULL;
        }
        struct pc_evict_entry *entry =
            PC_CONTAINER_OF(at, struct pc_evict_entry, link);
        if (entry->is_used == 0 || n_moves == MAX_MOVES) {
            return entry;
        }
        at = at->next;
        keep(evict, entry);
    }
}

static struct pc_evict_entry *victim(struct pc_evict *evict,
                                     struct pc_evict_entry *after)
{
    return after == NULL ? first(evict) : next(evict, after);
}

const struct pc_evict_ops *pc_evict_s3fifo(void)
{
    static const struct pc_evict_ops ops = {
        .name = "s3fifo",
        .create = create,
        .destroy = destroy,
        .n_bytes = n_bytes,
        .n_back = n_back,
        .insert = insert,
        .touch = touch,
        .defer = defer,
        .remove = drop,
        .victim = victim,
    };
    return &ops;
}
