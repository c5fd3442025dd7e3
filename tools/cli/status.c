/*
 * status.c - `peercache status` and `peercache members`: the node's own view.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

/* "mapped over sysv", "served", "one-sided over rc_mlx5, suspect for 20 ms" */
static void path_text(const json_t *member, char *text, size_t len)
{
    const json_t *path = json_object_get(member, "path");
    const char *carrier = json_string_value(json_object_get(path, "carrier"));
    const char *mode = cli_text(path, "mode");
    bool names = carrier != NULL && carrier[0] != '\0' &&
                 strcmp(mode, "served") != 0 && strcmp(mode, "self") != 0;
    (void)snprintf(text, len, "%s%s%s%s", mode, names ? " over " : "",
                   names ? carrier : "",
                   is_true(path, "suspect") ? ", suspect" : "");
    const json_t *breaker = json_object_get(member, "breaker");
    size_t at = strlen(text);
    if (is_true(path, "suspect") && at < len) {
        (void)snprintf(text + at, len - at, " for %lld ms",
                       (long long)cli_integer(breaker, "open_ms"));
    }
}

static void print_members(const json_t *members)
{
    size_t i;
    json_t *member;
    char path[128];
    printf("%-24s %-10s %-8s %-22s %-18s %s\n", "NODE", "ROLE", "STATE",
           "ADDRESS", "INCARNATION", "READ");
    json_array_foreach(members, i, member)
    {
        path_text(member, path, sizeof(path));
        printf("%-24s %-10s %-8s %-22s %-18s %s\n", cli_text(member, "id"),
               cli_text(member, "role"), cli_text(member, "state"),
               cli_text(member, "address"), cli_text(member, "incarnation"),
               path);
    }
}

static void print_seeds(const json_t *cluster)
{
    size_t i;
    json_t *seed;
    printf("seeds       ");
    json_array_foreach(json_object_get(cluster, "seeds"), i, seed)
    {
        printf("%s%s%s", i > 0 ? ", " : "", cli_text(seed, "address"),
               is_true(seed, "ours") ? " (served here)" : "");
    }
    printf("\n");
}

static void print_status(const json_t *info)
{
    char size[32];
    char room[32];
    const json_t *node = json_object_get(info, "node");
    const json_t *cluster = json_object_get(info, "cluster");
    const json_t *pool = json_object_get(info, "pool");
    const json_t *directory = json_object_get(info, "directory");
    const json_t *members = json_object_get(info, "members");
    printf("cluster     %s, %s\n", cli_text(cluster, "name"),
           is_true(cluster, "joined") ? "joined" : "not joined");
    print_seeds(cluster);
    printf("view        %s, %zu members\n", cli_text(cluster, "view"),
           json_array_size(members));
    printf("this node   %s, %s, %s, %s\n", cli_text(node, "id"),
           cli_text(node, "role"), cli_text(node, "state"),
           cli_text(node, "address"));
    printf("pool        %s of %s, %lld values, %lld regions%s\n",
           cli_size(cli_integer(pool, "used"), size, sizeof(size)),
           cli_size(cli_integer(pool, "capacity"), room, sizeof(room)),
           (long long)cli_integer(pool, "values"),
           (long long)cli_integer(pool, "regions"),
           is_true(pool, "registering") ? ", growing" : "");
    const json_t *placement = json_object_get(info, "placement");
    printf("placement   NUMA node %s, engine on CPUs %s: %s\n",
           cli_text(placement, "numa_nodes"),
           cli_text(placement, "engine_cpus"), cli_text(placement, "why"));
    printf("directory   %lld records, %s\n",
           (long long)cli_integer(directory, "records"),
           cli_size(cli_integer(directory, "bytes"), size, sizeof(size)));
    printf("fabric      %s\n", cli_text(info, "fabric"));
    printf("library     %s\n\n", cli_text(info, "version"));
    print_members(members);
}

static int show(struct cli *cli, bool members_only)
{
    char *text;
    int result;
    peercache_node_t *node = cli_join(cli, &result);
    if (node == NULL) {
        return result;
    }
    peercache_status_t status = peercache_node_info(node, &text);
    peercache_node_destroy(node);
    if (status != PEERCACHE_OK) {
        return cli_fail("no information: %s", peercache_strerror(status));
    }
    if (cli->json && !members_only) {
        printf("%s\n", text);
        peercache_free(text);
        return CLI_OK;
    }
    json_error_t error;
    json_t *info = json_loads(text, 0, &error);
    peercache_free(text);
    if (info == NULL) {
        return cli_fail("the library's information is no JSON: %s", error.text);
    }
    const json_t *members = json_object_get(info, "members");
    if (cli->json) {
        (void)json_dumpf(members, stdout, JSON_INDENT(2));
        printf("\n");
    } else if (members_only) {
        print_members(members);
    } else {
        print_status(info);
    }
    json_decref(info);
    return CLI_OK;
}

int cli_status(struct cli *cli)
{
    return show(cli, false);
}

int cli_members(struct cli *cli)
{
    return show(cli, true);
}
