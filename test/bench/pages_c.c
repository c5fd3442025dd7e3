/*
 * pages_c.c - the C half of adapter.py: a node that reads pages of two pieces
 * which another node of this host holds. Each line on stdin is one call, "get"
 * or "exists"; the answer is its time in nanoseconds.
 *
 * usage: pages_c NAMESPACE-IN-HEX N_PAGES PIECE_LEN [name=value ...]
 */
#include <peercache/peercache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEY_LEN  64
#define N_PIECES 2
#define NS_MAX   64

struct bench
{
    peercache_node_t *node;
    peercache_mem_t *mem;
    peercache_op_params_t params;
    unsigned char name_space[NS_MAX];
    size_t n_pages;
    size_t piece_len;
    char (*keys)[KEY_LEN + 1];
    peercache_piece_t *pieces;
    peercache_item_t *items;
};

static void require(int is_good, const char *what)
{
    if (!is_good) {
        (void)fprintf(stderr, "pages_c: %s failed\n", what);
        exit(1);
    }
}

static long long now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void read_name_space(struct bench *bench, const char *hex)
{
    size_t len = strlen(hex) / 2;
    require(len > 0 && len <= NS_MAX, "the name space");
    for (size_t i = 0; i < len; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bench->name_space[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    bench->params.name_space = bench->name_space;
    bench->params.name_space_len = len;
}

static void start(struct bench *bench, int n_settings, char **settings)
{
    peercache_config_t *config;
    require(peercache_config_create(&config) == PEERCACHE_OK, "config_create");
    for (int i = 0; i < n_settings; i++) {
        char *equals = strchr(settings[i], '=');
        require(equals != NULL, "name=value");
        *equals = '\0';
        require(peercache_config_set(config, settings[i], equals + 1) ==
                    PEERCACHE_OK,
                settings[i]);
    }
    require(peercache_node_create(config, &bench->node) == PEERCACHE_OK,
            "node_create");
    peercache_config_destroy(config);
    require(peercache_node_wait_ready(bench->node, 30000000000u) ==
                PEERCACHE_OK,
            "wait_ready");
    bench->params.struct_size = sizeof(bench->params);
    bench->params.item_size = sizeof(peercache_item_t);
    bench->params.flags = PEERCACHE_OP_CHAIN;
}

/* All K pieces, then all V pieces, in one registered block. */
static void make_pages(struct bench *bench)
{
    size_t half = bench->n_pages * bench->piece_len;
    unsigned char *memory = aligned_alloc(1u << 21, N_PIECES * half);
    bench->keys = calloc(bench->n_pages, sizeof(*bench->keys));
    bench->pieces = calloc(bench->n_pages * N_PIECES, sizeof(*bench->pieces));
    bench->items = calloc(bench->n_pages, sizeof(*bench->items));
    require(memory != NULL && bench->keys != NULL && bench->pieces != NULL &&
                bench->items != NULL,
            "memory");
    memset(memory, 0, N_PIECES * half);
    require(peercache_mem_register(bench->node, PEERCACHE_MEM_HOST, memory,
                                   N_PIECES * half,
                                   &bench->mem) == PEERCACHE_OK,
            "mem_register");
    for (size_t i = 0; i < bench->n_pages; i++) {
        (void)snprintf(bench->keys[i], KEY_LEN + 1, "%064zx", i);
        for (size_t j = 0; j < N_PIECES; j++) {
            peercache_piece_t *piece = &bench->pieces[i * N_PIECES + j];
            piece->addr = memory + j * half + i * bench->piece_len;
            piece->len = bench->piece_len;
        }
    }
}

/* The items are filled in every time, as a program would. */
static long long run(struct bench *bench, int is_get)
{
    long long begin = now_ns();
    memset(bench->items, 0, bench->n_pages * sizeof(*bench->items));
    for (size_t i = 0; i < bench->n_pages; i++) {
        bench->items[i].key = bench->keys[i];
        bench->items[i].key_len = KEY_LEN;
        if (is_get) {
            bench->items[i].pieces = &bench->pieces[i * N_PIECES];
            bench->items[i].n_pieces = N_PIECES;
            bench->items[i].mem = bench->mem;
        }
    }
    peercache_status_t status = (is_get ? peercache_get : peercache_exists)(
        bench->node, bench->items, bench->n_pages, &bench->params, NULL);
    return status == PEERCACHE_OK ? now_ns() - begin : -1;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    char line[32];
    if (argc < 4) {
        (void)fprintf(stderr, "usage: pages_c NAMESPACE N_PAGES PIECE_LEN "
                              "[name=value ...]\n");
        return 2;
    }
    read_name_space(&bench, argv[1]);
    bench.n_pages = strtoul(argv[2], NULL, 10);
    bench.piece_len = strtoul(argv[3], NULL, 10);
    start(&bench, argc - 4, argv + 4);
    make_pages(&bench);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        (void)printf("%lld\n", run(&bench, strncmp(line, "get", 3) == 0));
        (void)fflush(stdout);
    }
    peercache_mem_deregister(bench.mem);
    peercache_node_destroy(bench.node);
    return 0;
}
