/*
 * assert.h - statements about what cannot happen.
 *
 * PC_ASSERT aborts in builds with PC_CHECKED (debug, sanitizers, tests) and
 * costs nothing in a release. It is never applied to input: what users,
 * files or peers give is checked with `if`.
 */
#ifndef PC_BASE_ASSERT_H
#define PC_BASE_ASSERT_H

#include <stddef.h>

_Noreturn void pc_assert_failed(const char *text, const char *file, int line);

#ifdef PC_CHECKED
#define PC_ASSERT(condition)                                                   \
    ((condition) ? (void)0 : pc_assert_failed(#condition, __FILE__, __LINE__))
#else
#define PC_ASSERT(condition) ((void)sizeof(!(condition)))
#endif

/* The struct of `type` whose member `member` is at `pointer`. */
#define PC_CONTAINER_OF(pointer, type, member)                                 \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define PC_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif /* PC_BASE_ASSERT_H */
