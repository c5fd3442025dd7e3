/*
 * test.h - what every CMocka test includes, in the order CMocka wants.
 */
#ifndef PC_TEST_H
#define PC_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif /* PC_TEST_H */
