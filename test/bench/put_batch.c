#include "put_batch.h"

#include <stdio.h>
#include <string.h>

/* What a page may wait for room in a pool that is full of pinned ones. */
#define TIMEOUT_NS 10000000000u

peercache_status_t put_batch(peercache_node_t *node,
                             const unsigned char *sources, unsigned lane,
                             uint64_t *next)
{
    peercache_item_t items[BATCH];
    peercache_piece_t pieces[BATCH];
    char keys[BATCH][32];
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(items[0]),
                                    .timeout_ns = TIMEOUT_NS};
    memset(items, 0, sizeof(items));
    for (int i = 0; i < BATCH; i++) {
        uint64_t n = (*next)++;
        (void)snprintf(keys[i], sizeof(keys[i]), "%u-%020llu", lane,
                       (unsigned long long)n);
        pieces[i] = (peercache_piece_t){
            (void *)(uintptr_t)(sources + n % N_SOURCES * PAGE), PAGE};
        items[i].key = keys[i];
        items[i].key_len = strlen(keys[i]);
        items[i].pieces = &pieces[i];
        items[i].n_pieces = 1;
    }
    return peercache_put(node, items, BATCH, &params, NULL);
}
