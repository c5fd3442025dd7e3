/*
 * main.c - the command `peercache`: looks at a cluster as a member without
 * pool and directory.
 */
#include "cli.h"

#include "../common/flags.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum flag { F_NAME_SPACE = 1, F_TIMEOUT, F_WAIT, F_JSON, F_MARKDOWN, F_CONFIG };

static const struct tool_flag table[] = {
    {"name-space", "TEXT", "Name space of the key (empty).", F_NAME_SPACE},
    {"timeout", "SECONDS", "How long to wait for the cluster (5).", F_TIMEOUT},
    {"wait", "SECONDS", "drain: how long until it is done; 0: do not (60).",
     F_WAIT},
    {"json", NULL, "Print JSON.", F_JSON},
    {"markdown", NULL, "config: print a table in Markdown.", F_MARKDOWN},
    {"config-file", "PATH", "Settings as lines \"name = value\".", F_CONFIG},
    {NULL, NULL, NULL, 0},
};

struct command
{
    const char *name;
    const char *help;
    int (*run)(struct cli *cli);
    const char *wants; /* Its word, or NULL. */
};

static const struct command commands[] = {
    {"status", "cluster, this observer, its view of all members", cli_status,
     NULL},
    {"members", "the members and the way to each", cli_members, NULL},
    {"stat", "KEY: where a value is and what a get would do", cli_stat, "key"},
    {"why", "KEY: the same with what every owner and holder says", cli_why,
     "key"},
    {"drain", "NODE: hand over its part of the directory before it ends",
     cli_drain, "node"},
    {"config", "every setting, its value and what is allowed", cli_config,
     NULL},
    {"version", "version of the library that is loaded", cli_version, NULL},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int usage(const char *what, const char *value)
{
    (void)fprintf(stderr, CLI_PROGRAM ": %s%s%s%s; --help shows more\n", what,
                  value != NULL ? " \"" : "", value != NULL ? value : "",
                  value != NULL ? "\"" : "");
    return CLI_USAGE;
}

static void help(const struct tool_flags *flags)
{
    printf("Usage: peercache COMMAND [flags]\n"
           "\n"
           "Looks at a PeerCache cluster, and drains its members. It joins "
           "as a member\nwithout pool and directory, by way of "
           "--discovery-addr, and leaves again.\n"
           "\n"
           "Commands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-10s %s\n", commands[i].name, commands[i].help);
    }
    printf("\nExit status: 0 done, 1 not found or cluster not reachable, 2 "
           "wrong usage.\n");
    tool_flags_help(flags);
}

static bool seconds(const char *text, bool or_none, double *value_p)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 ||
        !((value > 0 || (or_none && value == 0)) && value <= 86400)) {
        return false;
    }
    *value_p = value;
    return true;
}

/* -1: taken. */
static int take_own(struct cli *cli, const struct tool_flags *flags)
{
    switch (flags->id) {
    case TOOL_HELP:
        help(flags);
        return CLI_OK;
    case F_NAME_SPACE:
        cli->name_space = flags->value;
        return strlen(flags->value) <= 255
                   ? -1
                   : usage("a name space has at most 255 bytes", NULL);
    case F_TIMEOUT:
        return seconds(flags->value, false, &cli->timeout_s)
                   ? -1
                   : usage("--timeout wants seconds up to 86400, not",
                           flags->value);
    case F_WAIT:
        return seconds(flags->value, true, &cli->wait_s)
                   ? -1
                   : usage("--wait wants seconds from 0 to 86400, not",
                           flags->value);
    case F_JSON:
        cli->json = true;
        return -1;
    case F_MARKDOWN:
        cli->markdown = true;
        return -1;
    default:
        break;
    }
    if (peercache_config_load(cli->config, flags->value) != PEERCACHE_OK) {
        (void)cli_fail("%s", peercache_config_error(cli->config));
        return CLI_USAGE;
    }
    return -1;
}

static int take_setting(struct cli *cli, const struct tool_flags *flags)
{
    if (peercache_config_set(cli->config, flags->name, flags->value) !=
        PEERCACHE_OK) {
        (void)cli_fail("%s", peercache_config_error(cli->config));
        return CLI_USAGE;
    }
    cli->logs = cli->logs || strcmp(flags->name, "log_level") == 0;
    return -1;
}

static int take_flags(struct cli *cli, struct tool_flags *flags, int argc,
                      char **argv)
{
    int result = -1;
    while (result == -1) {
        switch (tool_flags_next(flags, argc, argv)) {
        case TOOL_FLAG_OWN:
            result = take_own(cli, flags);
            break;
        case TOOL_FLAG_SETTING:
            result = take_setting(cli, flags);
            break;
        case TOOL_FLAG_WRONG:
            return CLI_USAGE;
        case TOOL_FLAG_END:
            return -1;
        }
    }
    return result;
}

static int run(struct cli *cli, int n_words, char **words)
{
    if (n_words == 0) {
        return usage("a command is missing", NULL);
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(words[0], commands[i].name) != 0) {
            continue;
        }
        int wanted = commands[i].wants != NULL ? 2 : 1;
        if (n_words < wanted) {
            char what[64];
            (void)snprintf(what, sizeof(what), "a %s is missing after",
                           commands[i].wants);
            return usage(what, words[0]);
        }
        if (n_words > wanted) {
            return usage("unexpected", words[wanted]);
        }
        cli->key = wanted == 2 ? words[1] : NULL;
        if (cli->key != NULL &&
            (cli->key[0] == '\0' || strlen(cli->key) > PEERCACHE_KEY_MAX)) {
            return usage("a key has 1 to 1024 bytes", NULL);
        }
        return commands[i].run(cli);
    }
    return usage("unknown command", words[0]);
}

int main(int argc, char **argv)
{
    struct cli cli = {.name_space = "",
                      .timeout_s = 5,
                      .wait_s = 60,
                      .logs = getenv("PEERCACHE_LOG_LEVEL") != NULL};
    struct tool_flags flags = {.table = NULL};
    int result = CLI_FAILED;
    if (peercache_config_create(&cli.config) != PEERCACHE_OK ||
        !tool_flags_init(&flags, CLI_PROGRAM, table)) {
        (void)cli_fail("out of memory");
    } else if (peercache_config_from_env(cli.config) != PEERCACHE_OK) {
        (void)cli_fail("%s", peercache_config_error(cli.config));
        result = CLI_USAGE;
    } else {
        result = take_flags(&cli, &flags, argc, argv);
        if (result == -1) {
            result = run(&cli, argc - optind, argv + optind);
        }
    }
    tool_flags_fini(&flags);
    peercache_config_destroy(cli.config);
    if (fflush(stdout) != 0 && result == CLI_OK) {
        result = cli_fail("cannot write: %s", strerror(errno));
    }
    return result;
}
