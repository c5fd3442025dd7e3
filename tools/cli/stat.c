/*
 * stat.c - `peercache stat KEY`: where a value is, in short, and what a get of
 * it would do.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

/* The record of a value that this node has or remembers. */
static void print_place(const char *title, const json_t *place)
{
    const char *name;
    json_t *value;
    bool first = true;
    printf("%-10s  ", title);
    if (!json_is_object(place)) {
        printf("no\n");
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)place, name, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        printf("%s%s %s", first ? "" : ", ", name, text != NULL ? text : "-");
        free(text);
        first = false;
    }
    printf("\n");
}

static void print_owners(const json_t *owners)
{
    size_t i;
    json_t *owner;
    if (json_array_size(owners) == 0) {
        printf("owners      none asked\n");
    }
    json_array_foreach(owners, i, owner)
    {
        printf("%-10s  %s (%s) says %s\n", i == 0 ? "owners" : "",
               cli_text(owner, "id"), cli_text(owner, "incarnation"),
               cli_text(owner, "answer"));
    }
}

static void print_holders(const json_t *holders)
{
    size_t i;
    json_t *holder;
    char size[32];
    if (json_array_size(holders) == 0) {
        printf("holders     none known\n");
    }
    json_array_foreach(holders, i, holder)
    {
        printf("%-10s  %s (%s), region %lld slot %lld generation %lld, %s, "
               "checksum %s, %s, %s\n",
               i == 0 ? "holders" : "", cli_text(holder, "id"),
               cli_text(holder, "incarnation"),
               (long long)cli_integer(holder, "region"),
               (long long)cli_integer(holder, "slot"),
               (long long)cli_integer(holder, "generation"),
               cli_size(cli_integer(holder, "length"), size, sizeof(size)),
               cli_text(holder, "checksum"), cli_text(holder, "mode"),
               json_is_true(json_object_get(holder, "usable")) ? "usable"
                                                               : "not usable");
    }
}

static void print_explanation(const json_t *root)
{
    printf("key         %s\n", cli_text(root, "key"));
    printf("digest      %s\n", cli_text(root, "digest"));
    print_place("local", json_object_get(root, "local"));
    print_place("cached", json_object_get(root, "cached"));
    print_owners(json_object_get(root, "owners"));
    print_holders(json_object_get(root, "holders"));
    printf("result      %s: %s\n", cli_text(root, "result"),
           cli_text(root, "why"));
}

int cli_explain(struct cli *cli, void (*print)(const json_t *root))
{
    char *text;
    json_error_t error;
    int result;
    peercache_node_t *node = cli_join(cli, &result);
    if (node == NULL) {
        return result;
    }
    peercache_status_t status =
        peercache_node_explain(node, cli->name_space, strlen(cli->name_space),
                               cli->key, strlen(cli->key), &text);
    peercache_node_destroy(node);
    if (status != PEERCACHE_OK) {
        return cli_fail("no explanation: %s", peercache_strerror(status));
    }
    json_t *root = json_loads(text, 0, &error);
    if (root == NULL) {
        peercache_free(text);
        return cli_fail("the library's explanation is no JSON: %s", error.text);
    }
    bool found = strcmp(cli_text(root, "result"), "OK") == 0;
    if (cli->json) {
        printf("%s\n", text);
    } else {
        print(root);
    }
    json_decref(root);
    peercache_free(text);
    return found ? CLI_OK : CLI_FAILED;
}

int cli_stat(struct cli *cli)
{
    return cli_explain(cli, print_explanation);
}
