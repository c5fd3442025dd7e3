/*
 * why.c - `peercache why KEY`: who owns the key's records, what each owner
 * answers, what each holder says, what a get would do, and how long each phase
 * took.
 */
#include "cli.h"

#include <stdio.h>

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static void print_us(const json_t *object)
{
    if (json_object_get(object, "us") != NULL) {
        printf(", %.3f ms", (double)cli_integer(object, "us") / 1000);
    }
}

static void print_records(const json_t *owner)
{
    size_t i;
    json_t *record;
    char size[32];
    json_array_foreach(json_object_get(owner, "records"), i, record)
    {
        printf("    at %s (%s): generation %lld, %s%s\n",
               cli_text(record, "holder"), cli_text(record, "incarnation"),
               (long long)cli_integer(record, "generation"),
               cli_size(cli_integer(record, "length"), size, sizeof(size)),
               is_true(record, "dead") ? ", a dead node" : "");
    }
}

static void print_owners(const json_t *root)
{
    size_t i;
    json_t *owner;
    const json_t *owners = json_object_get(root, "owners");
    printf("owners of its records\n");
    json_array_foreach(owners, i, owner)
    {
        printf("  %s (%s)%s%s: %s", cli_text(owner, "id"),
               cli_text(owner, "incarnation"),
               is_true(owner, "former") ? ", of a former view" : "",
               is_true(owner, "suspect") ? ", suspect" : "",
               cli_text(owner, "answer"));
        print_us(owner);
        printf("\n");
        print_records(owner);
    }
    if (json_array_size(owners) == 0) {
        printf("  none\n");
    }
}

static void print_holders(const json_t *root)
{
    size_t i;
    json_t *holder;
    const json_t *holders = json_object_get(root, "holders");
    printf("holders\n");
    json_array_foreach(holders, i, holder)
    {
        printf("  %s (%s)%s: %s", cli_text(holder, "id"),
               cli_text(holder, "incarnation"),
               is_true(holder, "suspect") ? ", suspect" : "",
               cli_text(holder, "says"));
        print_us(holder);
        printf("\n    read mode %s, %s\n", cli_text(holder, "mode"),
               is_true(holder, "usable") ? "usable" : "not usable");
    }
    if (json_array_size(holders) == 0) {
        printf("  none known\n");
    }
}

static void print_phases(const json_t *root)
{
    size_t i;
    json_t *phase;
    printf("phases\n");
    json_array_foreach(json_object_get(root, "phases"), i, phase)
    {
        printf("  %-8s %9.3f ms\n", cli_text(phase, "name"),
               (double)cli_integer(phase, "us") / 1000);
    }
}

static void print_why(const json_t *root)
{
    printf("key         %s\n", cli_text(root, "key"));
    printf("digest      %s\n", cli_text(root, "digest"));
    printf("view        %s\n", cli_text(root, "view"));
    print_owners(root);
    print_holders(root);
    print_phases(root);
    printf("a get here  %s: %s\n", cli_text(root, "result"),
           cli_text(root, "why"));
}

int cli_why(struct cli *cli)
{
    return cli_explain(cli, print_why);
}
