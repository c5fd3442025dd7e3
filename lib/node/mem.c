/*
 * mem.c - the user's registered memory.
 *
 * A registration belongs to a table that outlives the node for as long as there
 * are handles: after the node's end a handle can only be given back.
 */
#include "base/mem.h"
#include "base/list.h"
#include "node/node.h"

struct pc_mem_table
{
    pthread_mutex_t lock;
    struct pc_list mems;
    size_t refs;                 /* The node, and each registration. */
    struct peercache_node *node; /* NULL after its end. */
};

struct peercache_mem
{
    struct pc_list link;
    struct pc_mem_table *table;
    struct pc_fabric_mem *mem; /* NULL: the fabric needs none. */
    const uint8_t *addr;
    size_t len;
    size_t refs;
};

struct pc_mem_table *pc_mem_table_create(void)
{
    struct pc_mem_table *table = pc_alloc(1, sizeof(*table));
    if (table != NULL) {
        (void)pthread_mutex_init(&table->lock, NULL);
        pc_list_init(&table->mems);
        table->refs = 1;
    }
    return table;
}

/* The lock is held on entry and gone on return. */
static void unlock_and_unref(struct pc_mem_table *table)
{
    bool last = --table->refs == 0;
    (void)pthread_mutex_unlock(&table->lock);
    if (last) {
        (void)pthread_mutex_destroy(&table->lock);
        pc_free(table);
    }
}

void pc_mem_table_close(struct peercache_node *node)
{
    struct pc_mem_table *table = node->mems;
    if (table == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&table->lock);
    for (struct pc_list *at = table->mems.next; at != &table->mems;
         at = at->next) {
        struct peercache_mem *mem =
            PC_CONTAINER_OF(at, struct peercache_mem, link);
        if (mem->mem != NULL) {
            node->fabric_ops->mem_deregister(mem->mem);
            mem->mem = NULL;
        }
    }
    table->node = NULL;
    node->mems = NULL;
    unlock_and_unref(table);
}

static bool covers(const struct peercache_mem *mem,
                   const peercache_piece_t *piece)
{
    const uint8_t *addr = piece->addr;
    return addr >= mem->addr && piece->len <= mem->len &&
           (size_t)(addr - mem->addr) <= mem->len - piece->len;
}

bool pc_mem_is_valid(const struct peercache_node *node,
                     const peercache_item_t *item)
{
    if (item->mem == NULL) {
        return true;
    }
    if (item->mem->table != node->mems) {
        return false;
    }
    for (size_t i = 0; i < item->n_pieces; i++) {
        if (!covers(item->mem, &item->pieces[i])) {
            return false;
        }
    }
    return true;
}

struct pc_fabric_mem *pc_mem_cover(const struct peercache_node *node,
                                   const peercache_item_t *item)
{
    (void)node;
    return item->mem == NULL ? NULL : item->mem->mem;
}

/* ---- Public ----------------------------------------------------------- */

static struct peercache_mem *find(struct pc_mem_table *table, void *addr,
                                  size_t len)
{
    for (struct pc_list *at = table->mems.next; at != &table->mems;
         at = at->next) {
        struct peercache_mem *mem =
            PC_CONTAINER_OF(at, struct peercache_mem, link);
        if (mem->addr == addr && mem->len == len) {
            mem->refs++;
            return mem;
        }
    }
    return NULL;
}

static peercache_status_t add(struct peercache_node *node,
                              peercache_mem_kind_t kind, void *addr, size_t len,
                              struct pc_fabric_mem *fabric_mem,
                              peercache_mem_t **mem_p)
{
    (void)kind;
    struct peercache_mem *mem = pc_alloc(1, sizeof(*mem));
    if (mem == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    mem->table = node->mems;
    mem->mem = fabric_mem;
    mem->addr = addr;
    mem->len = len;
    mem->refs = 1;
    (void)pthread_mutex_lock(&node->mems->lock);
    pc_list_push_back(&node->mems->mems, &mem->link);
    node->mems->refs++;
    (void)pthread_mutex_unlock(&node->mems->lock);
    *mem_p = mem;
    return PEERCACHE_OK;
}

peercache_status_t peercache_mem_register(peercache_node_t *node,
                                          peercache_mem_kind_t kind, void *addr,
                                          size_t len, peercache_mem_t **mem_p)
{
    if (node == NULL || addr == NULL || len == 0 || mem_p == NULL ||
        (uintptr_t)addr > UINTPTR_MAX - len ||
        (kind != PEERCACHE_MEM_HOST && kind != PEERCACHE_MEM_DEVICE)) {
        return PEERCACHE_INVALID;
    }
    if (pc_node_is_forked(node)) {
        return PEERCACHE_FORKED;
    }
    if (kind == PEERCACHE_MEM_DEVICE) {
        return PEERCACHE_UNSUPPORTED;
    }
    (void)pthread_mutex_lock(&node->mems->lock);
    node->mems->node = node;
    struct peercache_mem *known = find(node->mems, addr, len);
    (void)pthread_mutex_unlock(&node->mems->lock);
    if (known != NULL) {
        *mem_p = known;
        return PEERCACHE_OK;
    }
    struct pc_fabric_mem *fabric_mem = NULL;
    if (node->fabric != NULL) {
        struct pc_fabric_mem_params params = {.use = PC_MEM_BUFFER,
                                              .kind = kind,
                                              .addr = addr,
                                              .len = len,
                                              .numa_node = -1};
        peercache_status_t status =
            node->fabric_ops->mem_register(node->fabric, &params, &fabric_mem);
        if (status != PEERCACHE_OK) {
            return status;
        }
    }
    peercache_status_t status = add(node, kind, addr, len, fabric_mem, mem_p);
    if (status != PEERCACHE_OK && fabric_mem != NULL) {
        node->fabric_ops->mem_deregister(fabric_mem);
    }
    return status;
}

void peercache_mem_deregister(peercache_mem_t *mem)
{
    if (mem == NULL) {
        return;
    }
    struct pc_mem_table *table = mem->table;
    (void)pthread_mutex_lock(&table->lock);
    if (--mem->refs > 0) {
        (void)pthread_mutex_unlock(&table->lock);
        return;
    }
    pc_list_remove(&mem->link);
    if (mem->mem != NULL && table->node != NULL &&
        !pc_node_is_forked(table->node)) {
        table->node->fabric_ops->mem_deregister(mem->mem);
    }
    pc_free(mem);
    unlock_and_unref(table);
}
