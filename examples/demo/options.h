/*
 * options.h - the command line of the demo, for the driver and its workers.
 */
#ifndef DEMO_OPTIONS_H
#define DEMO_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTIONS_SETTINGS_MAX = 16 };

struct options
{
    /* The workload. */
    const char *trace; /* NULL: generate one. */
    uint64_t seed;
    uint32_t conversations; /* Generated. */
    uint32_t turns;         /* Each. */
    uint32_t requests;      /* At most; 0: all. */
    size_t page_size;
    size_t max_pages; /* Different ones; of a longer trace a sample. */

    bool kill;        /* One node, on the way. */
    const char *logs; /* Folder for the nodes' logs; NULL: stderr. */

    const char *worker; /* Set: be the node of this name. */
    const char *settings[OPTIONS_SETTINGS_MAX]; /* "name=value" */
    size_t n_settings;
};

/* False: told what is wrong, or helped (*exit_p). */
bool options_parse(int argc, char **argv, struct options *options, int *exit_p);

#endif /* DEMO_OPTIONS_H */
