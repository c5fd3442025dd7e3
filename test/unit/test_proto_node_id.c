#include "test.h"

#include "proto/node_id.h"

#include <string.h>

static void ids_are_letters_digits_dot_dash_underscore(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char text[3] = {'a', (char)c, '\0'};
        bool allowed = strchr("abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
                              c) != NULL;
        assert_int_equal(pc_node_id_is_valid(text), allowed);
    }
}

static void ids_have_1_to_128_characters(void **state)
{
    char text[PC_NODE_ID_MAX + 2];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[PC_NODE_ID_MAX + 1] = '\0';
    assert_false(pc_node_id_is_valid(text));
    text[PC_NODE_ID_MAX] = '\0';
    assert_true(pc_node_id_is_valid(text));
    assert_true(pc_node_id_is_valid("x"));
    assert_false(pc_node_id_is_valid(""));
}

static void an_invalid_text_leaves_the_id(void **state)
{
    struct pc_node_id id;

    (void)state;
    assert_true(pc_node_id_set(&id, "first"));
    assert_false(pc_node_id_set(&id, "not valid"));
    assert_false(pc_node_id_set(&id, ""));
    assert_string_equal(id.text, "first");
}

static void equal_ids_are_equal_bytes(void **state)
{
    struct pc_node_id a;
    struct pc_node_id b;

    (void)state;
    memset(&a, 0xff, sizeof(a));
    assert_true(pc_node_id_set(&a, "a-long-name"));
    assert_true(pc_node_id_set(&a, "name"));
    memset(&b, 0x11, sizeof(b));
    assert_true(pc_node_id_set(&b, "name"));
    assert_memory_equal(&a, &b, sizeof(a));
    assert_true(pc_node_id_set(&a, a.text));
    assert_memory_equal(&a, &b, sizeof(a));
}

static void ids_are_ordered_as_texts(void **state)
{
    struct pc_node_id a;
    struct pc_node_id b;

    (void)state;
    assert_true(pc_node_id_set(&a, "node-1"));
    assert_true(pc_node_id_set(&b, "node-10"));
    assert_true(pc_node_id_compare(&a, &b) < 0);
    assert_true(pc_node_id_compare(&b, &a) > 0);
    assert_int_equal(pc_node_id_compare(&a, &a), 0);
}

static void a_later_start_has_the_larger_incarnation(void **state)
{
    uint64_t start = 1700000000000000000u;

    (void)state;
    assert_true(pc_incarnation_make(start, UINT64_MAX) <
                pc_incarnation_make(start + 1000000, 0));
    assert_true(pc_incarnation_make(start, 1) != pc_incarnation_make(start, 2));
    assert_true(pc_incarnation_make(start, UINT64_MAX) >> 22 ==
                start / 1000000);
}

static void no_incarnation_is_zero(void **state)
{
    (void)state;
    assert_true(pc_incarnation_make(0, 0) != 0);
    assert_true(pc_incarnation_make(999999, (uint64_t)1 << 22) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_letters_digits_dot_dash_underscore),
        cmocka_unit_test(ids_have_1_to_128_characters),
        cmocka_unit_test(an_invalid_text_leaves_the_id),
        cmocka_unit_test(equal_ids_are_equal_bytes),
        cmocka_unit_test(ids_are_ordered_as_texts),
        cmocka_unit_test(a_later_start_has_the_larger_incarnation),
        cmocka_unit_test(no_incarnation_is_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
