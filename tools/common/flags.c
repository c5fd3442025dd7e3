#include "flags.h"

#include <peercache/peercache.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SET_ID = TOOL_HELP + 1,
    SETTING_ID = TOOL_HELP + 2, /* And the number of the setting. */
    HELP_COLUMN = 6,
    LINE = 79
};

static const struct tool_flag common[] = {
    {"set", "NAME=VALUE", "Set any setting by its name.", SET_ID},
    {"help", NULL, "Show this text.", TOOL_HELP},
    {NULL, NULL, NULL, 0},
};

static size_t count(const struct tool_flag *table)
{
    size_t n = 0;
    while (table[n].name != NULL) {
        n++;
    }
    return n;
}

static size_t count_settings(void)
{
    size_t n = 0;
    while (peercache_setting(n) != NULL) {
        n++;
    }
    return n;
}

/* "op_timeout" and "op-timeout" are the same. */
static bool same_name(const char *flag, const char *setting)
{
    for (; *flag != '\0' && *setting != '\0'; flag++, setting++) {
        if (*flag != *setting && !(*flag == '-' && *setting == '_')) {
            return false;
        }
    }
    return *flag == *setting;
}

static bool is_hidden(const struct tool_flags *flags, const char *setting)
{
    for (const struct tool_flag *own = flags->own; own->name != NULL; own++) {
        if (same_name(own->name, setting)) {
            return true;
        }
    }
    return false;
}

static char *flag_name(const char *setting)
{
    char *name = strdup(setting);
    for (char *at = name; at != NULL && *at != '\0'; at++) {
        *at = *at == '_' ? '-' : *at;
    }
    return name;
}

static struct option *add(struct option *at, const struct tool_flag *table)
{
    for (; table->name != NULL; table++, at++) {
        *at = (struct option){.name = strdup(table->name),
                              .has_arg = table->value != NULL,
                              .val = table->id};
    }
    return at;
}

bool tool_flags_init(struct tool_flags *flags, const char *program,
                     const struct tool_flag *own)
{
    size_t n_settings = count_settings();
    memset(flags, 0, sizeof(*flags));
    flags->program = program;
    flags->own = own;
    flags->table = calloc(count(own) + count(common) + n_settings + 1,
                          sizeof(*flags->table));
    if (flags->table == NULL) {
        return false;
    }
    struct option *at = add(add(flags->table, own), common);
    for (size_t i = 0; i < n_settings; i++) {
        const char *name = peercache_setting(i)->name;
        if (!is_hidden(flags, name)) {
            *at++ = (struct option){.name = flag_name(name),
                                    .has_arg = required_argument,
                                    .val = SETTING_ID + (int)i};
        }
    }
    return true;
}

void tool_flags_fini(struct tool_flags *flags)
{
    for (struct option *at = flags->table; at != NULL && at->name != NULL;
         at++) {
        free((void *)(uintptr_t)at->name);
    }
    free(flags->table);
    flags->table = NULL;
}

static enum tool_flag_result take_set(struct tool_flags *flags)
{
    const char *equals = strchr(optarg, '=');
    if (equals == NULL || (size_t)(equals - optarg) >= sizeof(flags->name)) {
        (void)fprintf(stderr, "%s: --set wants NAME=VALUE, not \"%s\"\n",
                      flags->program, optarg);
        return TOOL_FLAG_WRONG;
    }
    (void)snprintf(flags->name, sizeof(flags->name), "%.*s",
                   (int)(equals - optarg), optarg);
    flags->value = equals + 1;
    return TOOL_FLAG_SETTING;
}

enum tool_flag_result tool_flags_next(struct tool_flags *flags, int argc,
                                      char **argv)
{
    opterr = 0;
    int id = getopt_long(argc, argv, ":", flags->table, NULL);
    if (id == -1) {
        return TOOL_FLAG_END;
    }
    if (id == '?' || id == ':') {
        (void)fprintf(stderr, "%s: %s %s; --help shows all flags\n",
                      flags->program,
                      id == '?' ? "unknown or ambiguous flag or a value too "
                                  "many:"
                                : "a value is missing after",
                      optind > 1 ? argv[optind - 1] : "?");
        return TOOL_FLAG_WRONG;
    }
    if (id == SET_ID) {
        return take_set(flags);
    }
    flags->value = optarg;
    if (id < SETTING_ID) {
        flags->id = id;
        return TOOL_FLAG_OWN;
    }
    (void)snprintf(flags->name, sizeof(flags->name), "%s",
                   peercache_setting((size_t)(id - SETTING_ID))->name);
    return TOOL_FLAG_SETTING;
}

/* Words of a text from a column on, ended by a new line. */
static void print_wrapped(const char *text)
{
    size_t column = LINE; /* The first word begins a line. */
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column + 1 + len > LINE) {
            printf("%s%*s", column == LINE ? "" : "\n", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else {
            (void)putchar(' ');
            column++;
        }
        printf("%.*s", (int)len, text);
        column += len;
        text += len;
        text += strspn(text, " ");
    }
    (void)putchar('\n');
}

static void print_own(const struct tool_flag *table)
{
    for (; table->name != NULL; table++) {
        printf("  --%s%s%s\n", table->name, table->value != NULL ? " " : "",
               table->value != NULL ? table->value : "");
        print_wrapped(table->help);
    }
}

static void print_setting(const peercache_setting_t *row)
{
    char text[1024];
    char *name = flag_name(row->name);
    printf("  --%s %s\n", name != NULL ? name : row->name,
           strcmp(row->type, "choice") == 0 ? "WORD" : row->type);
    free(name);
    (void)snprintf(text, sizeof(text), "%s (%s; default: %s%s)", row->help,
                   row->range, row->value[0] != '\0' ? row->value : "empty",
                   row->cluster_wide ? "; the same on all nodes" : "");
    print_wrapped(text);
}

void tool_flags_help(const struct tool_flags *flags)
{
    printf("\nFlags:\n");
    print_own(flags->own);
    print_own(common);
    printf("\nSettings, as flags, by --set, or as PEERCACHE_<NAME> in the "
           "environment:\n");
    const peercache_setting_t *row;
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        if (!is_hidden(flags, row->name)) {
            print_setting(row);
        }
    }
}
