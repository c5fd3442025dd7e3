#include "assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void pc_assert_failed(const char *text, const char *file, int line)
{
    fprintf(stderr, "peercache: %s:%d: cannot happen: !(%s)\n", file, line,
            text);
    fflush(stderr);
    abort();
}
