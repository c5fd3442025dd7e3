/*
 * batch_c.c - the C half of python_overhead.py: exists and get of a batch of
 * small values on one node, over and over. Prints microseconds a key as JSON.
 */
#include <peercache/peercache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_KEYS    128
#define VALUE_LEN 64
#define KEY_SIZE  32

struct bench
{
    peercache_node_t *node;
    peercache_op_params_t params;
    char keys[N_KEYS][KEY_SIZE];
    char values[N_KEYS][VALUE_LEN];
    peercache_piece_t pieces[N_KEYS];
};

typedef peercache_status_t (*verb_fn)(peercache_node_t *, peercache_item_t *,
                                      size_t, const peercache_op_params_t *,
                                      peercache_op_t **);

static void require(int is_good, const char *what)
{
    if (!is_good) {
        (void)fprintf(stderr, "batch_c: %s failed\n", what);
        exit(1);
    }
}

static double now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The items are filled in every time, as a program would. */
static void run(struct bench *bench, verb_fn verb)
{
    peercache_item_t items[N_KEYS];
    memset(items, 0, sizeof(items));
    for (size_t i = 0; i < N_KEYS; i++) {
        items[i].key = bench->keys[i];
        items[i].key_len = strlen(bench->keys[i]);
        if (verb != peercache_exists) {
            items[i].pieces = &bench->pieces[i];
            items[i].n_pieces = 1;
        }
    }
    require(verb(bench->node, items, N_KEYS, &bench->params, NULL) ==
                PEERCACHE_OK,
            "an operation");
}

/* Median of n_rounds calls, in microseconds a key. */
static double measure(struct bench *bench, verb_fn verb, size_t n_rounds)
{
    double *times = calloc(n_rounds, sizeof(*times));
    require(times != NULL, "calloc");
    for (size_t i = 0; i < n_rounds; i++) {
        double begin = now_us();
        run(bench, verb);
        times[i] = now_us() - begin;
    }
    qsort(times, n_rounds, sizeof(*times), compare);
    double median = times[n_rounds / 2] / N_KEYS;
    free(times);
    return median;
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
    for (size_t i = 0; i < N_KEYS; i++) {
        (void)snprintf(bench->keys[i], KEY_SIZE, "layer-0/page-%zu", i);
        bench->pieces[i].addr = bench->values[i];
        bench->pieces[i].len = VALUE_LEN;
    }
    run(bench, peercache_put);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: batch_c ROUNDS [name=value ...]\n");
        return 2;
    }
    size_t n_rounds = strtoul(argv[1], NULL, 10);
    start(&bench, argc - 2, argv + 2);
    double exists = measure(&bench, peercache_exists, n_rounds);
    double get = measure(&bench, peercache_get, n_rounds);
    (void)printf("{\"exists\": %.4f, \"get_into\": %.4f}\n", exists, get);
    peercache_node_destroy(bench.node);
    return 0;
}
