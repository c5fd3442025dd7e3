/* Tests of base/mem.h. */
#include "test.h"

#include "base/mem.h"

#include <string.h>

static void memory_comes_zeroed_and_is_counted(void **state)
{
    (void)state;
    int64_t before = pc_mem_outstanding();
    unsigned char *a = pc_alloc(100, 3);
    void *nothing = pc_alloc(0, 8);
    assert_non_null(a);
    assert_non_null(nothing);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(a[i], 0);
    }
    assert_int_equal(pc_mem_outstanding(), before + 2);
    pc_free(a);
    pc_free(nothing);
    pc_free(NULL);
    assert_int_equal(pc_mem_outstanding(), before);
}

static void a_product_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    int64_t before = pc_mem_outstanding();
    /* Volatile: the compiler would warn that this cannot work. */
    volatile size_t many = SIZE_MAX / 4;
    assert_null(pc_alloc(many, 8));
    assert_null(pc_realloc(NULL, many, 8));
    assert_null(pc_strndup("", many * 4 + 3));
    assert_int_equal(pc_mem_outstanding(), before);
}

static void growing_keeps_content_and_counts_once(void **state)
{
    (void)state;
    int64_t before = pc_mem_outstanding();
    int *numbers = pc_realloc(NULL, 4, sizeof(int));
    for (int i = 0; i < 4; i++) {
        numbers[i] = i;
    }
    numbers = pc_realloc(numbers, 1000, sizeof(int));
    assert_int_equal(pc_mem_outstanding(), before + 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(numbers[i], i);
    }
    pc_free(numbers);
    assert_int_equal(pc_mem_outstanding(), before);
}

static void the_chosen_allocation_fails_once(void **state)
{
    (void)state;
    int64_t before = pc_mem_outstanding();
    pc_mem_fail_after(2);
    void *a = pc_alloc(1, 1);
    char *b = pc_strndup("abc", 2);
    assert_string_equal(b, "ab");
    assert_null(pc_realloc(a, 100, 1));
    a = pc_realloc(a, 100, 1);
    assert_non_null(a);
    pc_mem_fail_after(0);
    pc_mem_fail_after(-1);
    void *c = pc_alloc(1, 1);
    assert_non_null(c);
    pc_free(a);
    pc_free(b);
    pc_free(c);
    assert_int_equal(pc_mem_outstanding(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_zeroed_and_is_counted),
        cmocka_unit_test(a_product_that_does_not_fit_is_refused),
        cmocka_unit_test(growing_keeps_content_and_counts_once),
        cmocka_unit_test(the_chosen_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
