/*
 * node.c - the observer that the commands look through.
 */
#include "cli.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int cli_fail(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\n' ? ';' : *at;
    }
    (void)fprintf(stderr, CLI_PROGRAM ": %s\n", text);
    return CLI_FAILED;
}

const char *cli_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && text[0] != '\0' ? text : "-";
}

json_int_t cli_integer(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

const char *cli_size(json_int_t bytes, char *text, size_t len)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, len, unit == 0 ? "%.0f %s" : "%.1f %s", value,
                   units[unit]);
    return text;
}

/* What makes a node an observer. Ports are any free ones, so that it never
 * takes one that a node of this host wants. */
static const char *const observer[][2] = {
    {"mode", "centralized"},   {"role", "inference"},
    {"disk_enabled", "false"}, {"metrics_enabled", "false"},
    {"control_port", "0"},     {"rdma_port", "0"},
    {"location_cache", "0"},
};

static bool configure(struct cli *cli)
{
    size_t n = sizeof(observer) / sizeof(observer[0]);
    for (size_t i = 0; i < n; i++) {
        if (peercache_config_set(cli->config, observer[i][0], observer[i][1]) !=
            PEERCACHE_OK) {
            return false;
        }
    }
    /* The library's own lines would hide the answer. */
    return cli->logs || peercache_config_set(cli->config, "log_level",
                                             "error") == PEERCACHE_OK;
}

peercache_node_t *cli_join(struct cli *cli, int *result_p)
{
    peercache_node_t *node;
    *result_p = CLI_USAGE;
    if (peercache_config_get(cli->config, "discovery_addr")[0] == '\0') {
        (void)cli_fail("--discovery-addr HOST:PORT says which cluster; it is "
                       "missing");
        return NULL;
    }
    if (!configure(cli) ||
        peercache_config_check(cli->config) != PEERCACHE_OK) {
        (void)cli_fail("%s", peercache_config_error(cli->config));
        return NULL;
    }
    *result_p = CLI_FAILED;
    peercache_status_t status = peercache_node_create(cli->config, &node);
    if (status != PEERCACHE_OK) {
        const char *why = peercache_config_error(cli->config);
        (void)cli_fail("%s", why[0] != '\0' ? why : peercache_strerror(status));
        return NULL;
    }
    status = peercache_node_wait_ready(node, (uint64_t)(cli->timeout_s * 1e9));
    if (status != PEERCACHE_OK) {
        (void)cli_fail("no cluster at %s within %g s: %s",
                       peercache_config_get(cli->config, "discovery_addr"),
                       cli->timeout_s, peercache_strerror(status));
        peercache_node_destroy(node);
        return NULL;
    }
    return node;
}
