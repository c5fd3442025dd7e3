/*
 * drain.c - `peercache drain NODE`: a member hands over its part of the
 * directory, so that it can be ended without anybody noticing.
 */
#include "cli.h"

#include <stdio.h>

static void print_json(const struct cli *cli, peercache_status_t status)
{
    json_t *root = json_pack("{s:s,s:b,s:s}", "node", cli->key, "drained",
                             status == PEERCACHE_OK, "status",
                             peercache_status_name(status));
    if (root != NULL) {
        (void)json_dumpf(root, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(root);
    }
}

/* Why it is not done. */
static int failed(const struct cli *cli, peercache_status_t status)
{
    switch (status) {
    case PEERCACHE_NOT_FOUND:
        return cli_fail("no member is called %s; `peercache members` shows all",
                        cli->key);
    case PEERCACHE_TIMED_OUT:
        return cli_fail("%s still hands over after %g s, and goes on; ask "
                        "again, or give --wait more",
                        cli->key, cli->wait_s);
    case PEERCACHE_UNREACHABLE:
        return cli_fail("%s does not answer", cli->key);
    case PEERCACHE_PEER_FAILED:
        return cli_fail("%s ended before it was done", cli->key);
    default:
        return cli_fail("%s: %s", cli->key, peercache_strerror(status));
    }
}

int cli_drain(struct cli *cli)
{
    int result;
    peercache_node_t *node = cli_join(cli, &result);
    if (node == NULL) {
        return result;
    }
    peercache_status_t status =
        peercache_node_drain(node, cli->key, (uint64_t)(cli->wait_s * 1e9));
    peercache_node_destroy(node);
    bool begun = status == PEERCACHE_OK || status == PEERCACHE_IN_PROGRESS;
    if (cli->json) {
        print_json(cli, status);
    }
    if (!begun) {
        return failed(cli, status);
    }
    if (!cli->json) {
        printf("%s %s\n", cli->key,
               status == PEERCACHE_OK ? "is drained and may end" : "drains");
    }
    return CLI_OK;
}
