#include "evict.h"

#include "base/assert.h"
#include "base/mem.h"

/* Least recently used first: one list, the oldest in front. */
struct pc_evict
{
    struct pc_list entries;
};

static struct pc_evict *create(void)
{
    struct pc_evict *evict = pc_alloc(1, sizeof(*evict));
    if (evict != NULL) {
        pc_list_init(&evict->entries);
    }
    return evict;
}

static void destroy(struct pc_evict *evict)
{
    pc_free(evict);
}

static uint64_t n_bytes(const struct pc_evict *evict)
{
    return sizeof(*evict);
}

/* It remembers nothing that it let go. */
static uint64_t n_back(const struct pc_evict *evict)
{
    (void)evict;
    return 0;
}

static void insert(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    pc_list_push_back(&evict->entries, &entry->link);
}

static void touch(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    pc_list_remove(&entry->link);
    pc_list_push_back(&evict->entries, &entry->link);
}

static void defer(struct pc_evict *evict, struct pc_evict_entry *entry)
{
    touch(evict, entry);
}

static void drop(struct pc_evict *evict, struct pc_evict_entry *entry,
                 bool evicted)
{
    (void)evict;
    (void)evicted;
    pc_list_remove(&entry->link);
}

static struct pc_evict_entry *victim(struct pc_evict *evict,
                                     struct pc_evict_entry *after)
{
    struct pc_list *at = after != NULL ? after->link.next : evict->entries.next;
    if (at == &evict->entries) {
        return NULL;
    }
    return PC_CONTAINER_OF(at, struct pc_evict_entry, link);
}

const struct pc_evict_ops *pc_evict_lru(void)
{
    static const struct pc_evict_ops ops = {
        .name = "lru",
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
