/*
 * gen_config_docs.c - prints docs/configuration.md from the table of settings.
 */
#include <peercache/peercache.h>

#include <stdio.h>
#include <string.h>

static const char head[] =
    "# Settings\n"
    "\n"
    "<!-- Generated from the table in lib/node/settings.c: "
    "ci/checks/docs.sh GENERATOR --write -->\n"
    "\n"
    "The same names work everywhere: `peercache_config_set` in C, keyword "
    "arguments in\n"
    "Python, `--name` for the tools, `name = value` lines in a file (`#` "
    "begins "
    "a comment),\n"
    "and the environment as `PEERCACHE_` and the name in capitals, such as\n"
    "`PEERCACHE_GLOBAL_SEGMENT_SIZE=4GiB`. What is applied last wins. A value "
    "that is not\n"
    "allowed is an error that names the setting, the value and what is "
    "allowed; "
    "the check\n"
    "before a node starts tells all errors at once. `peercache_node_info` says "
    "which value is\n"
    "in effect and where it came from.\n"
    "\n"
    "- **size**: bytes, or with a suffix in powers of 1024: `4096`, `64kb`, "
    "`1.5GiB`, `2T`.\n"
    "- **seconds**: `2`, `0.5`, or with a unit: `500ms`, `50us`, `3s`, `2min`, "
    "`1h`.\n"
    "- **bool**: `true`, `yes`, `on`, `1`; `false`, `no`, `off`, `0`.\n"
    "- **choice**: one of the words, in any case.\n"
    "- **(c)**: must agree between all nodes of a cluster; nodes compare it "
    "when they meet.\n"
    "\n"
    "| name | type | default | allowed | meaning |\n"
    "|---|---|---|---|---|\n";

int main(void)
{
    const peercache_setting_t *row;
    (void)fputs(head, stdout);
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        const char *quote = row->value[0] != '\0' ? "`" : "";
        printf("| `%s`%s | %s | %s%s%s | %s | %s |\n", row->name,
               row->cluster_wide ? " (c)" : "", row->type, quote,
               row->value[0] != '\0' ? row->value : "empty", quote, row->range,
               row->help);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
