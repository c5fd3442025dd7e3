/*
 * flags.h - command lines of the tools: a program's own flags from a table,
 * and one flag for each setting of the library (--global-segment-size 4GiB),
 * with help for both. A program's own flag hides a setting of that name.
 */
#ifndef TOOLS_FLAGS_H
#define TOOLS_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

struct tool_flag
{
    const char *name;  /* "page-size"; NULL ends the table. */
    const char *value; /* What its value is called; NULL: takes none. */
    const char *help;
    int id; /* 1..999 */
};

enum tool_flag_result {
    TOOL_FLAG_OWN,     /* id and value are set. */
    TOOL_FLAG_SETTING, /* name and value are set; also from --set a=b. */
    TOOL_FLAG_END,     /* optind is the first of the rest. */
    TOOL_FLAG_WRONG    /* One line was printed. */
};

struct tool_flags
{
    const char *program; /* For messages. */
    const struct tool_flag *own;
    struct option *table; /* For getopt_long. */
    /* The flag at hand: */
    int id;
    char name[64];
    const char *value;
};

/* --help and --set are always known: --help has the id TOOL_HELP. */
enum { TOOL_HELP = 1000 };

bool tool_flags_init(struct tool_flags *flags, const char *program,
                     const struct tool_flag *own);
void tool_flags_fini(struct tool_flags *flags);
/* The next flag of the command line; others than flags are left for the end. */
enum tool_flag_result tool_flags_next(struct tool_flags *flags, int argc,
                                      char **argv);
/* "  --name VALUE   help", both tables, wrapped. */
void tool_flags_help(const struct tool_flags *flags);

#endif /* TOOLS_FLAGS_H */
