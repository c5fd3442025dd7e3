/*
 * environ.h - variables for a library that is just being loaded, in a process
 * whose other threads may be reading the environment.
 *
 * setenv() may move the table of variables and free the old one, under a thread
 * that walks along it in getenv(): that thread reads freed memory then. So here
 * a table is never moved or freed. A longer copy takes its place, for good, and
 * what was added to it is cut off again.
 */
#ifndef PC_BASE_ENVIRON_H
#define PC_BASE_ENVIRON_H

#include <stddef.h>

/* Most that one addition may have. */
#define PC_ENVIRON_MAX 16

/* What is there until pc_environ_end; nobody else adds until then. */
struct pc_environ
{
    const char *added[PC_ENVIRON_MAX];
    size_t n_added;
};

/* Add those of the entries ("NAME=value", never freed) whose names are not set
 * yet. Without memory for it, nothing is added. Any thread that may call
 * getenv. */
void pc_environ_begin(struct pc_environ *e, const char *const *entries,
                      size_t n_entries);
/* Take them away again. The same thread. */
void pc_environ_end(struct pc_environ *e);

#endif /* PC_BASE_ENVIRON_H */
