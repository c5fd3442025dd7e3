#include "line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *value_of(const char *line, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":", name);
    const char *at = strstr(line, quoted);
    return at != NULL ? at + strlen(quoted) : NULL;
}

uint64_t line_number(const char *line, const char *name)
{
    const char *at = value_of(line, name);
    return at != NULL ? strtoull(at, NULL, 10) : 0;
}

const char *line_text(const char *line, const char *name, size_t *len_p)
{
    const char *at = value_of(line, name);
    *len_p = 0;
    if (at == NULL || *at != '"') {
        return "";
    }
    at++;
    *len_p = strcspn(at, "\"");
    return at;
}
