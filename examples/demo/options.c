#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option table[] = {
    {"trace", required_argument, NULL, 't'},
    {"seed", required_argument, NULL, 's'},
    {"conversations", required_argument, NULL, 'c'},
    {"turns", required_argument, NULL, 'u'},
    {"requests", required_argument, NULL, 'r'},
    {"page-size", required_argument, NULL, 'p'},
    {"max-pages", required_argument, NULL, 'm'},
    {"no-kill", no_argument, NULL, 'k'},
    {"logs", required_argument, NULL, 'l'},
    {"worker", required_argument, NULL, 'w'},
    {"set", required_argument, NULL, 'S'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: peercache-demo [option ...]\n"
    "Four nodes share the KV pages of a chat workload; one is killed.\n"
    "  --trace FILE         replay requests in the Mooncake JSONL format\n"
    "  --seed N             of the generated workload (1)\n"
    "  --conversations N    generated (120)\n"
    "  --turns N            of each conversation (8)\n"
    "  --requests N         stop after so many requests (all)\n"
    "  --page-size BYTES    of a KV page, a multiple of 8 (131072)\n"
    "  --max-pages N        different pages; of a longer trace a sample "
    "(6000)\n"
    "  --no-kill            leave all nodes alive\n"
    "  --logs FOLDER        the nodes' logs (standard error)\n";

static bool number(const char *name, const char *text, uint64_t min,
                   uint64_t max, uint64_t *value_p)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min ||
        value > max) {
        fprintf(stderr, "--%s %s: a number from %llu to %llu is wanted\n", name,
                text, (unsigned long long)min, (unsigned long long)max);
        return false;
    }
    *value_p = value;
    return true;
}

static bool take(struct options *o, int option, const char *name,
                 const char *text)
{
    uint64_t value = 0;
    switch (option) {
    case 't':
        o->trace = text;
        return true;
    case 's':
        return number(name, text, 0, UINT64_MAX, &o->seed);
    case 'c':
        if (!number(name, text, 1, 100000, &value)) {
            return false;
        }
        o->conversations = (uint32_t)value;
        return true;
    case 'u':
        if (!number(name, text, 1, 1000, &value)) {
            return false;
        }
        o->turns = (uint32_t)value;
        return true;
    case 'r':
        if (!number(name, text, 1, 10000000, &value)) {
            return false;
        }
        o->requests = (uint32_t)value;
        return true;
    case 'p':
        if (!number(name, text, 8, 16 << 20, &value) || value % 8 != 0) {
            return false;
        }
        o->page_size = (size_t)value;
        return true;
    case 'm':
        if (!number(name, text, 1, 10000000, &value)) {
            return false;
        }
        o->max_pages = (size_t)value;
        return true;
    case 'k':
        o->kill = false;
        return true;
    case 'l':
        o->logs = text;
        return true;
    case 'w':
        o->worker = text;
        return true;
    case 'S':
        if (o->n_settings == OPTIONS_SETTINGS_MAX) {
            return false;
        }
        o->settings[o->n_settings++] = text;
        return true;
    default:
        return false;
    }
}

bool options_parse(int argc, char **argv, struct options *o, int *exit_p)
{
    *o = (struct options){.seed = 1,
                          .conversations = 120,
                          .turns = 8,
                          .page_size = 128 << 10,
                          .max_pages = 6000,
                          .kill = true};
    *exit_p = 2;
    for (;;) {
        int index = 0;
        int option = getopt_long(argc, argv, "", table, &index);
        if (option == -1) {
            break;
        }
        if (option == 'h') {
            fputs(help, stdout);
            *exit_p = 0;
            return false;
        }
        if (option == '?' || !take(o, option, table[index].name, optarg)) {
            fputs(help, stderr);
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: not an option\n%s", argv[optind], help);
        return false;
    }
    return true;
}
