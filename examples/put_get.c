/*
 * put_get.c - put a value on one node, read it on another.
 *
 * Two nodes in one process stand for two servers; on two machines each would
 * run in its own process, with discovery_addr naming the first one's host.
 */
#include <peercache/peercache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(peercache_status_t status, const char *what)
{
    if (status != PEERCACHE_OK) {
        fprintf(stderr, "%s: %s\n", what, peercache_strerror(status));
        exit(1);
    }
}

static peercache_node_t *start(const char *name, const char *seed)
{
    peercache_config_t *config = NULL;
    peercache_node_t *node = NULL;
    check(peercache_config_create(&config), "configuration");
    /* A wrong setting is told by create, together with all other errors. */
    peercache_config_set(config, "node_id", name);
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
    check(peercache_node_wait_ready(node, 10000000000u), "join");
    return node;
}

static const char *source_name(peercache_source_t source)
{
    static const char *const names[] = {"nowhere",   "our own pool",
                                        "a mapping", "a one-sided read",
                                        "its owner", "a disk"};
    return names[source];
}

int main(int argc, char **argv)
{
    const char *seed = argc > 1 ? argv[1] : "127.0.0.1:31998";
    peercache_node_t *writer = start("writer", seed);
    peercache_node_t *reader = start("reader", seed);

    char page[4096] = "the KV cache of a prefix";
    peercache_piece_t from = {page, sizeof(page)};
    peercache_item_t item = {
        .key = "page-0", .key_len = 6, .pieces = &from, .n_pieces = 1};
    check(peercache_put(writer, &item, 1, NULL, NULL), "put");

    char copy[4096];
    peercache_piece_t to = {copy, sizeof(copy)};
    item.pieces = &to;
    check(peercache_get(reader, &item, 1, NULL, NULL), "get");
    printf("%s: %s, by %s\n", (const char *)item.key, copy,
           source_name(item.source));

    int same = memcmp(page, copy, sizeof(page)) == 0;
    peercache_node_destroy(reader);
    peercache_node_destroy(writer);
    puts(same ? "ok" : "FAILED: other bytes");
    return same ? 0 : 1;
}
