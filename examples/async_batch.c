/*
 * async_batch.c - a batch of KV pages whose halves lie apart, asynchronously.
 *
 * The page of a block is its K and its V, each somewhere else in the server's
 * memory; as two pieces they are one value. The calls start the work and
 * return; one waits in the usual way, the other is told by a function.
 */
#include <peercache/peercache.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_PAGES = 32, HALF = 64 << 10 };

static uint8_t keys[N_PAGES][HALF], values[N_PAGES][HALF];

struct batch
{
    char names[N_PAGES][16];
    peercache_piece_t pieces[N_PAGES][2];
    peercache_item_t items[N_PAGES];
};

static void check(peercache_status_t status, peercache_status_t wanted,
                  const char *what)
{
    if (status != wanted) {
        fprintf(stderr, "%s: %s\n", what, peercache_strerror(status));
        exit(1);
    }
}

static peercache_node_t *start(const char *seed)
{
    peercache_config_t *config = NULL;
    peercache_node_t *node = NULL;
    check(peercache_config_create(&config), PEERCACHE_OK, "configuration");
    peercache_config_set(config, "node_id", "async-batch");
    peercache_config_set(config, "discovery_addr", seed);
    peercache_config_set(config, "global_segment_size", "64MiB");
    peercache_config_set(config, "region_size", "64MiB");
    peercache_config_set(config, "disk_enabled", "false");
    peercache_config_set(config, "metrics_enabled", "false");
    if (peercache_node_create(config, &node) != PEERCACHE_OK) {
        fprintf(stderr, "%s\n", peercache_config_error(config));
        exit(1);
    }
    peercache_config_destroy(config);
    check(peercache_node_wait_ready(node, 10000000000u), PEERCACHE_OK, "join");
    return node;
}

static void fill_batch(struct batch *batch)
{
    for (size_t i = 0; i < N_PAGES; i++) {
        snprintf(batch->names[i], sizeof(batch->names[i]), "block-%zu", i);
        batch->pieces[i][0] = (peercache_piece_t){keys[i], HALF};
        batch->pieces[i][1] = (peercache_piece_t){values[i], HALF};
        batch->items[i] = (peercache_item_t){.key = batch->names[i],
                                             .key_len = strlen(batch->names[i]),
                                             .pieces = batch->pieces[i],
                                             .n_pieces = 2};
    }
}

/* What the completion function tells the rest of the program. */
struct answer
{
    peercache_status_t status;
    sem_t ready;
};

/* Runs once, on a thread of the library: it must not block. */
static void got(peercache_op_t *op, void *arg)
{
    struct answer *answer = arg;
    answer->status = peercache_op_status(op);
    sem_post(&answer->ready);
}

static int is_right(void)
{
    for (size_t i = 0; i < N_PAGES; i++) {
        if (keys[i][0] != i || keys[i][HALF - 1] != i || values[i][0] != 100 ||
            values[i][HALF - 1] != 100) {
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    static struct batch batch; /* Outlives the operations. */
    peercache_node_t *node = start(argc > 1 ? argv[1] : "127.0.0.1:31998");
    peercache_op_t *op = NULL;

    for (size_t i = 0; i < N_PAGES; i++) {
        memset(keys[i], (int)i, HALF);
        memset(values[i], 100, HALF);
    }
    fill_batch(&batch);
    check(peercache_put(node, batch.items, N_PAGES, NULL, &op),
          PEERCACHE_IN_PROGRESS, "put");
    check(peercache_op_wait(op, 5000000000u), PEERCACHE_OK, "put");
    peercache_op_free(op);

    memset(keys, 0xff, sizeof(keys));
    memset(values, 0xff, sizeof(values));
    struct answer answer = {.status = PEERCACHE_IN_PROGRESS};
    sem_init(&answer.ready, 0, 0);
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(peercache_item_t),
                                    .timeout_ns = 1000000000u,
                                    .done = got,
                                    .arg = &answer};
    check(peercache_get(node, batch.items, N_PAGES, &params, &op),
          PEERCACHE_IN_PROGRESS, "get");
    /* ... the server does something else here ... */
    sem_wait(&answer.ready);
    check(answer.status, PEERCACHE_OK, "get");
    sem_destroy(&answer.ready);
    peercache_op_free(op);

    int right = is_right();
    peercache_node_destroy(node);
    printf("%d pages in two halves: %s\n", N_PAGES, right ? "ok" : "FAILED");
    return right ? 0 : 1;
}
