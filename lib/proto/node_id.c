#include "node_id.h"

#include <string.h>

#define RANDOM_BITS 22 /* Of an incarnation; the rest is the time. */

static bool is_id_char(char c)
{
    /* Not isalnum(): the answer must not depend on the locale. */
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

bool pc_node_id_is_valid(const char *text)
{
    size_t len = 0;

    while (text[len] != '\0') {
        if (len == PC_NODE_ID_MAX || !is_id_char(text[len])) {
            return false;
        }
        len++;
    }
    return len > 0;
}

bool pc_node_id_set(struct pc_node_id *id, const char *text)
{
    if (!pc_node_id_is_valid(text)) {
        return false;
    }
    /* Cleared to the end, so that equal ids are equal bytes. The detour lets
     * text be id->text itself. */
    struct pc_node_id made = {{0}};
    memcpy(made.text, text, strlen(text));
    *id = made;
    return true;
}

int pc_node_id_compare(const struct pc_node_id *a, const struct pc_node_id *b)
{
    return strcmp(a->text, b->text);
}

uint64_t pc_incarnation_make(uint64_t wall_ns, uint64_t random)
{
    uint64_t ms = wall_ns / 1000000u;
    uint64_t made =
        ms << RANDOM_BITS | (random & (((uint64_t)1 << RANDOM_BITS) - 1));

    /* 0 means "no incarnation" wherever one is stored. */
    return made != 0 ? made : 1;
}
