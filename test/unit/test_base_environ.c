/* Tests of base/environ.h. */
#include "test.h"

#include "base/environ.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_ROUNDS 20000

static const char *const some[] = {"PC_TEST_A=1", "PC_TEST_B=", "PC_TEST_C=3"};

static size_t length_of(char *const *table)
{
    size_t n = 0;
    while (table[n] != NULL) {
        n++;
    }
    return n;
}

static void begin(struct pc_environ *e)
{
    pc_environ_begin(e, some, sizeof(some) / sizeof(some[0]));
}

static void what_is_added_is_seen_until_the_end(void **state)
{
    struct pc_environ e;
    (void)state;
    begin(&e);
    assert_string_equal(getenv("PC_TEST_A"), "1");
    assert_string_equal(getenv("PC_TEST_B"), "");
    assert_string_equal(getenv("PC_TEST_C"), "3");
    assert_non_null(getenv("PATH"));
    pc_environ_end(&e);
    assert_null(getenv("PC_TEST_A"));
    assert_null(getenv("PC_TEST_B"));
    assert_null(getenv("PC_TEST_C"));
    assert_non_null(getenv("PATH"));
}

/* A thread may be anywhere in the table when it is lent no processor: what it
 * goes on to find must be there, before, meanwhile and after. */
static void who_reads_a_table_may_go_on_reading_it(void **state)
{
    struct pc_environ e;
    char *copy[1024];
    (void)state;
    assert_int_equal(setenv("PC_TEST_HOST", "1", 1), 0); /* On the heap. */
    char **before = environ;
    size_t n = length_of(before);
    assert_true(n < 1024);
    memcpy(copy, before, n * sizeof(copy[0]));
    begin(&e);
    char **added = environ + n;
    assert_ptr_equal(added[0], some[0]);
    assert_memory_equal(copy, before, n * sizeof(copy[0]));
    assert_null(before[n]);
    pc_environ_end(&e);
    assert_memory_equal(copy, before, n * sizeof(copy[0]));
    assert_null(before[n]);
    /* Whatever it finds behind them now, it finds an end. */
    assert_true(length_of(added + 1) <= 2);
    assert_memory_equal(copy, environ, n * sizeof(copy[0]));
    assert_int_equal(length_of(environ), n);
    assert_int_equal(unsetenv("PC_TEST_HOST"), 0);
}

static void a_later_addition_takes_the_same_table(void **state)
{
    struct pc_environ e;
    (void)state;
    begin(&e);
    pc_environ_end(&e);
    char **table = environ;
    for (int i = 0; i < 100; i++) {
        begin(&e);
        assert_ptr_equal(environ, table);
        assert_string_equal(getenv("PC_TEST_C"), "3");
        pc_environ_end(&e);
        assert_ptr_equal(environ, table);
        assert_null(getenv("PC_TEST_C"));
    }
}

static void what_the_user_has_set_stays(void **state)
{
    struct pc_environ e;
    (void)state;
    assert_int_equal(setenv("PC_TEST_B", "user's", 1), 0);
    begin(&e);
    assert_string_equal(getenv("PC_TEST_A"), "1");
    assert_string_equal(getenv("PC_TEST_B"), "user's");
    pc_environ_end(&e);
    assert_null(getenv("PC_TEST_A"));
    assert_string_equal(getenv("PC_TEST_B"), "user's");
    assert_int_equal(unsetenv("PC_TEST_B"), 0);
}

static void what_the_host_changes_meanwhile_stays_changed(void **state)
{
    struct pc_environ e;
    (void)state;
    assert_int_equal(setenv("PC_TEST_OLD", "1", 1), 0);
    begin(&e);
    assert_int_equal(unsetenv("PC_TEST_OLD"), 0);
    pc_environ_end(&e);
    assert_null(getenv("PC_TEST_OLD"));
    assert_null(getenv("PC_TEST_A"));
    begin(&e);
    assert_int_equal(setenv("PC_TEST_NEW", "2", 1), 0);
    pc_environ_end(&e);
    assert_string_equal(getenv("PC_TEST_NEW"), "2");
    assert_null(getenv("PC_TEST_A"));
    assert_null(getenv("PC_TEST_B"));
    assert_null(getenv("PC_TEST_C"));
    assert_int_equal(unsetenv("PC_TEST_NEW"), 0);
}

struct reader
{
    pthread_t thread;
    _Atomic bool stop;
    bool lost; /* A variable that is always there was not found. */
};

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    /* relaxed: pthread_join orders the rest. */
    while (!atomic_load_explicit(&reader->stop, memory_order_relaxed)) {
        const char *a = getenv("PC_TEST_A");
        reader->lost = reader->lost || getenv("PC_TEST_FIXED") == NULL ||
                       (a != NULL && strcmp(a, "1") != 0);
    }
    return NULL;
}

static void threads_read_while_variables_come_and_go(void **state)
{
    struct reader reader = {.lost = false};
    struct pc_environ e;
    (void)state;
    assert_int_equal(setenv("PC_TEST_FIXED", "1", 1), 0);
    assert_int_equal(pthread_create(&reader.thread, NULL, read_on, &reader), 0);
    for (int i = 0; i < N_ROUNDS; i++) {
        begin(&e);
        pc_environ_end(&e);
    }
    atomic_store_explicit(&reader.stop, true, memory_order_relaxed);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    assert_false(reader.lost);
    assert_int_equal(unsetenv("PC_TEST_FIXED"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_is_seen_until_the_end),
        cmocka_unit_test(who_reads_a_table_may_go_on_reading_it),
        cmocka_unit_test(a_later_addition_takes_the_same_table),
        cmocka_unit_test(what_the_user_has_set_stays),
        cmocka_unit_test(what_the_host_changes_meanwhile_stays_changed),
        cmocka_unit_test(threads_read_while_variables_come_and_go),
    };
    return cmocka_run_group_tests_name("environ", tests, NULL, NULL);
}
