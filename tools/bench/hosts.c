/*
 * hosts.c - reads between two hosts: one serves pages, the other reads them.
 */
#include "hosts.h"

#include <peercache/peercache.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE  ((size_t)128 << 10)
#define BATCH 32u

struct pages
{
    size_t n;
    unsigned char *bytes; /* Of one batch. */
    peercache_mem_t *mem;
    char keys[BATCH][32];
    peercache_piece_t pieces[BATCH];
    peercache_item_t items[BATCH];
    peercache_op_params_t params;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static peercache_node_t *start(const char *seed, size_t pool)
{
    peercache_config_t *config = NULL;
    peercache_node_t *node = NULL;
    char size[32];
    snprintf(size, sizeof(size), "%zu", pool);
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        return NULL;
    }
    peercache_config_set(config, "discovery_addr", seed);
    peercache_config_set(config, "global_segment_size", size);
    (void)peercache_config_from_env(config);
    if (peercache_node_create(config, &node) != PEERCACHE_OK) {
        fprintf(stderr, "%s\n", peercache_config_error(config));
    } else if (peercache_node_wait_ready(node, 30000000000u) != PEERCACHE_OK) {
        fprintf(stderr, "no cluster at %s\n", seed);
        peercache_node_destroy(node);
        node = NULL;
    }
    peercache_config_destroy(config);
    return node;
}

/* Keys of the batch that begins at page `first`, round the end. */
static void name_pages(struct pages *pages, size_t first)
{
    for (size_t i = 0; i < BATCH; i++) {
        snprintf(pages->keys[i], sizeof(pages->keys[i]), "page-%zu",
                 (first + i) % pages->n);
        pages->pieces[i] = (peercache_piece_t){pages->bytes + i * PAGE, PAGE};
        pages->items[i] = (peercache_item_t){.key = pages->keys[i],
                                             .key_len = strlen(pages->keys[i]),
                                             .pieces = &pages->pieces[i],
                                             .n_pieces = 1,
                                             .mem = pages->mem};
    }
}

static uint64_t word_of(size_t page, size_t at)
{
    return (page + 1) * 0x9E3779B97F4A7C15u ^ at * 0xBF58476D1CE4E5B9u;
}

/* Writes the batch's bytes, or compares them. */
static bool each_word(struct pages *pages, size_t first, bool compare)
{
    for (size_t i = 0; i < BATCH; i++) {
        for (size_t at = 0; at < PAGE; at += sizeof(uint64_t)) {
            uint64_t word = word_of((first + i) % pages->n, at);
            unsigned char *bytes = pages->bytes + i * PAGE + at;
            if (!compare) {
                memcpy(bytes, &word, sizeof(word));
            } else if (memcmp(bytes, &word, sizeof(word)) != 0) {
                return false;
            }
        }
    }
    return true;
}

static int serve(peercache_node_t *node, struct pages *pages)
{
    for (size_t first = 0; first < pages->n; first += BATCH) {
        name_pages(pages, first);
        (void)each_word(pages, first, false);
        if (peercache_put(node, pages->items, BATCH, &pages->params, NULL) !=
            PEERCACHE_OK) {
            fprintf(stderr, "page %zu cannot be put\n", first);
            return 1;
        }
    }
    printf("serving %zu pages of %zu bytes\n", pages->n, PAGE);
    fflush(stdout);
    for (;;) {
        pause();
    }
}

static int drive(peercache_node_t *node, struct pages *pages, double seconds)
{
    uint64_t n_read = 0;
    uint64_t n_one_sided = 0;
    if (peercache_mem_register(node, PEERCACHE_MEM_HOST, pages->bytes,
                               BATCH * PAGE, &pages->mem) != PEERCACHE_OK) {
        fprintf(stderr, "the buffer cannot be registered\n");
        pages->mem = NULL;
    }
    for (size_t first = 0; first < pages->n; first += BATCH) {
        name_pages(pages, first);
        if (peercache_get(node, pages->items, BATCH, &pages->params, NULL) !=
                PEERCACHE_OK ||
            !each_word(pages, first, true)) {
            fprintf(stderr, "page %zu and the next are missing or wrong\n",
                    first);
            return 1;
        }
    }
    double began = now_s();
    double took = 0;
    for (size_t first = 0; took < seconds; first += 7 * BATCH) {
        name_pages(pages, first);
        (void)peercache_get(node, pages->items, BATCH, &pages->params, NULL);
        for (size_t i = 0; i < BATCH; i++) {
            n_read += pages->items[i].status == PEERCACHE_OK;
            n_one_sided += pages->items[i].status == PEERCACHE_OK &&
                           pages->items[i].source == PEERCACHE_FROM_ONE_SIDED;
        }
        took = now_s() - began;
    }
    printf("{\"pages\": %" PRIu64 ", \"one_sided\": %" PRIu64
           ", \"seconds\": %.3f, \"bytes_per_s\": %.0f}\n",
           n_read, n_one_sided, took, (double)n_read * (double)PAGE / took);
    peercache_mem_deregister(pages->mem);
    return n_read > 0 ? 0 : 1;
}

static const char usage[] =
    "usage: peercache-bench serve SEED PAGES\n"
    "       peercache-bench drive SEED PAGES SECONDS\n"
    "\n"
    "Reads between two hosts: serve puts so many pages of 128 KiB on the "
    "first\n"
    "and serves them until it is ended; drive looks at all of them on the\n"
    "second, then reads for so long, 32 a call, and prints the rate as JSON.\n"
    "SEED is host:port of the first host. All other settings come from\n"
    "PEERCACHE_... variables.\n";

int hosts_main(int argc, char **argv)
{
    bool serves = argc == 3 && strcmp(argv[0], "serve") == 0;
    bool drives = argc == 4 && strcmp(argv[0], "drive") == 0;
    if (!serves && !drives) {
        bool asked = argc == 2 && strcmp(argv[1], "--help") == 0;
        (void)fputs(usage, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    struct pages pages = {.n = strtoul(argv[2], NULL, 10)};
    pages.n = (pages.n + BATCH - 1) / BATCH * BATCH;
    pages.bytes = malloc(BATCH * PAGE);
    pages.params.struct_size = sizeof(pages.params);
    pages.params.item_size = sizeof(peercache_item_t);
    pages.params.timeout_ns = 5000000000u;
    if (pages.n == 0 || pages.n > 1u << 20 || pages.bytes == NULL) {
        fprintf(stderr, "1 to 1048576 pages\n");
        return 2;
    }
    peercache_node_t *node =
        start(argv[1],
              serves ? pages.n * PAGE / 4 * 5 + (64u << 20) : (size_t)64 << 20);
    if (node == NULL) {
        return 1;
    }
    int status = serves ? serve(node, &pages)
                        : drive(node, &pages, strtod(argv[3], NULL));
    peercache_node_destroy(node);
    free(pages.bytes);
    return status;
}
