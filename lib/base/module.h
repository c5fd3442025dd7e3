/*
 * module.h - parts of the library that are opened at run time, so that what
 * they need burdens only the processes that use them.
 *
 * Any thread.
 */
#ifndef PC_BASE_MODULE_H
#define PC_BASE_MODULE_H

/* Opens one file, or returns NULL; why goes where arg says. */
typedef const void *(*pc_module_open_fn)(void *arg, const char *path);

/* The first file of this name that opens: beside the running code (the
 * library, or a program that it is linked into), in peercache/ or
 * ../lib/peercache/ there, where the library was installed, and where dlopen
 * looks by itself. NULL: none. */
const void *pc_module_search(const char *file, pc_module_open_fn open,
                             void *arg);

#endif /* PC_BASE_MODULE_H */
