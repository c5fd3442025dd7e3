/*
 * cli.h - the command `peercache`: what its files share.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <peercache/peercache.h>

#include <jansson.h>
#include <stdbool.h>

#define CLI_PROGRAM "peercache"

/* Exit statuses. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1, /* Not found, cluster not reachable. */
    CLI_USAGE = 2
};

struct cli
{
    peercache_config_t *config;
    const char *name_space;
    double timeout_s;
    double wait_s; /* Of drain. */
    bool json;
    bool markdown;
    bool logs;       /* The user chose a log level. */
    const char *key; /* Of stat and why; the node of drain. */
};

/* One line on stderr, prefixed; returns CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A member without pool and directory. NULL: printed why, and *result_p is
 * the exit status. */
peercache_node_t *cli_join(struct cli *cli, int *result_p);

/* Texts and numbers of JSON that may lack them: "-" and 0. */
const char *cli_text(const json_t *object, const char *name);
json_int_t cli_integer(const json_t *object, const char *name);
/* "1.5 GiB" */
const char *cli_size(json_int_t bytes, char *text, size_t len);

int cli_status(struct cli *cli);
int cli_members(struct cli *cli);
int cli_stat(struct cli *cli);
int cli_why(struct cli *cli);
int cli_drain(struct cli *cli);
/* Explain cli->key, by `print` or as JSON. */
int cli_explain(struct cli *cli, void (*print)(const json_t *root));
int cli_config(struct cli *cli);
int cli_version(struct cli *cli);

#endif /* CLI_CLI_H */
