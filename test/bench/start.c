/*
 * start.c - how soon a node with a large pool serves, and how it grows.
 *
 * Usage: bench_start [POOL [REGION [STARTS [name=value ...]]]], such as
 * 16GiB 1GiB 3 huge_pages=false. For each start: the time from before the
 * node's creation to the end of its first put (of 128 KiB), to the first get of
 * it, and to the whole pool.
 */
#include "base/clock.h"

#include <peercache/peercache.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE ((size_t)128 << 10)

static char page[PAGE];

static peercache_config_t *settings(int argc, char **argv)
{
    peercache_config_t *config = NULL;
    static const char *const fixed[][2] = {{"disk_enabled", "false"},
                                           {"metrics_enabled", "false"},
                                           {"log_level", "warn"}};
    bool set = peercache_config_create(&config) == PEERCACHE_OK;
    for (size_t i = 0; set && i < 3; i++) {
        set = peercache_config_set(config, fixed[i][0], fixed[i][1]) ==
              PEERCACHE_OK;
    }
    set = set &&
          peercache_config_set(config, "global_segment_size",
                               argc > 1 ? argv[1] : "16GiB") == PEERCACHE_OK;
    set = set &&
          peercache_config_set(config, "region_size",
                               argc > 2 ? argv[2] : "1GiB") == PEERCACHE_OK;
    for (int i = 4; set && i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL) {
            return NULL;
        }
        *value = '\0';
        set = peercache_config_set(config, argv[i], value + 1) == PEERCACHE_OK;
        *value = '=';
    }
    return set ? config : NULL;
}

static uint64_t number(const char *info, const char *name)
{
    const char *at = strstr(info, name);
    return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static uint64_t wait_for_all(peercache_node_t *node)
{
    struct timespec step = {0, 10 * 1000 * 1000};
    char *text = NULL;
    while (peercache_node_info(node, &text) == PEERCACHE_OK) {
        if (strstr(text, "\"registering\":true") == NULL) {
            (void)printf("pages: %" PRIu64 " MiB plain, %" PRIu64
                         " transparent, %" PRIu64 " huge of %" PRIu64 "; ",
                         number(text, "\"plain\":") >> 20,
                         number(text, "\"transparent\":") >> 20,
                         number(text, "\"huge\":") >> 20,
                         number(text, "\"wanted\":") >> 20);
            peercache_free(text);
            break;
        }
        peercache_free(text);
        (void)nanosleep(&step, NULL);
    }
    return pc_clock_monotonic();
}

static bool once(peercache_config_t *config)
{
    static char back[PAGE];
    peercache_piece_t piece = {.addr = page, .len = PAGE};
    peercache_item_t item = {
        .key = "first", .key_len = 5, .pieces = &piece, .n_pieces = 1};
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(item),
                                    .timeout_ns = 10 * PC_S};
    uint64_t began = pc_clock_monotonic();
    peercache_node_t *node;
    if (peercache_node_create(config, &node) != PEERCACHE_OK) {
        (void)fprintf(stderr, "%s\n", peercache_config_error(config));
        return false;
    }
    uint64_t created = pc_clock_monotonic();
    peercache_status_t put = peercache_put(node, &item, 1, &params, NULL);
    uint64_t stored = pc_clock_monotonic();
    piece.addr = back;
    peercache_status_t got = peercache_get(node, &item, 1, &params, NULL);
    uint64_t read = pc_clock_monotonic();
    uint64_t whole = wait_for_all(node);
    bool right = put == PEERCACHE_OK && got == PEERCACHE_OK &&
                 memcmp(page, back, PAGE) == 0;
    (void)printf("created after %.3f s, first put %.3f s, first get %.3f s, "
                 "whole pool %.3f s%s\n",
                 (double)(created - began) / PC_S,
                 (double)(stored - began) / PC_S, (double)(read - began) / PC_S,
                 (double)(whole - began) / PC_S, right ? "" : ": FAILED");
    peercache_node_destroy(node);
    return right;
}

int main(int argc, char **argv)
{
    peercache_config_t *config = settings(argc, argv);
    int n = argc > 3 ? atoi(argv[3]) : 1;
    if (config == NULL || n < 1) {
        (void)fprintf(stderr, "usage: bench_start [POOL [REGION [STARTS "
                              "[name=value ...]]]]\n");
        return 2;
    }
    memset(page, 0x5a, sizeof(page));
    bool right = true;
    for (int i = 0; i < n && right; i++) {
        right = once(config);
    }
    peercache_config_destroy(config);
    return right ? 0 : 1;
}
