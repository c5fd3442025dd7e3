/*
 * config.c - `peercache config`: every setting and its value here, with what
 * the environment and the command line said; `peercache version`.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char *value_of(const struct cli *cli,
                            const peercache_setting_t *row)
{
    const char *value = peercache_config_get(cli->config, row->name);
    return value != NULL ? value : "";
}

static json_t *row_json(const struct cli *cli, const peercache_setting_t *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s}", "name", row->name,
                     "type", row->type, "value", value_of(cli, row), "default",
                     row->value, "allowed", row->range, "cluster_wide",
                     (int)row->cluster_wide, "help", row->help);
}

static int print_json(const struct cli *cli)
{
    const peercache_setting_t *row;
    json_t *rows = json_array();
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        json_array_append_new(rows, row_json(cli, row));
    }
    int failed = json_dumpf(rows, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(rows);
    return failed == 0 ? CLI_OK : CLI_FAILED;
}

static void print_markdown(const struct cli *cli)
{
    const peercache_setting_t *row;
    printf("| name | type | value | default | allowed | meaning |\n"
           "|---|---|---|---|---|---|\n");
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        printf("| `%s`%s | %s | %s | %s | %s | %s |\n", row->name,
               row->cluster_wide ? " (c)" : "", row->type, value_of(cli, row),
               row->value, row->range, row->help);
    }
}

/* Only the names and values; what differs from its default is marked. */
static void print_plain(const struct cli *cli)
{
    const peercache_setting_t *row;
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        const char *value = value_of(cli, row);
        bool differs = strcmp(value, row->value) != 0;
        printf("%-30s %s", row->name, value[0] != '\0' ? value : "\"\"");
        if (differs) {
            printf("  (default %s)",
                   row->value[0] != '\0' ? row->value : "\"\"");
        }
        printf("\n");
    }
}

int cli_config(struct cli *cli)
{
    if (peercache_config_check(cli->config) != PEERCACHE_OK) {
        (void)cli_fail("%s", peercache_config_error(cli->config));
        return CLI_USAGE;
    }
    if (cli->json) {
        return print_json(cli);
    }
    if (cli->markdown) {
        print_markdown(cli);
    } else {
        print_plain(cli);
    }
    return CLI_OK;
}

int cli_version(struct cli *cli)
{
    printf(cli->json ? "{\"version\": \"%s\"}\n" : CLI_PROGRAM " %s\n",
           peercache_version());
    return CLI_OK;
}
