/* Tests of base/list.h. */
#include "test.h"

#include "base/assert.h"
#include "base/list.h"

struct item
{
    int number;
    struct pc_list node;
};

static int pop(struct pc_list *head)
{
    struct pc_list *node = pc_list_pop_front(head);
    return node == NULL ? -1 : PC_CONTAINER_OF(node, struct item, node)->number;
}

static void items_come_out_in_the_order_of_their_ends(void **state)
{
    (void)state;
    struct item a = {.number = 1};
    struct item b = {.number = 2};
    struct item c = {.number = 3};
    struct pc_list head;
    pc_list_init(&head);
    pc_list_push_back(&head, &b.node);
    pc_list_push_back(&head, &c.node);
    pc_list_push_front(&head, &a.node);
    assert_int_equal(pop(&head), 1);
    assert_int_equal(pop(&head), 2);
    assert_int_equal(pop(&head), 3);
    assert_int_equal(pop(&head), -1);
    assert_true(pc_list_is_empty(&head));
}

static void removing_twice_is_harmless(void **state)
{
    (void)state;
    struct item a = {.number = 1};
    struct item b = {.number = 2};
    struct pc_list head;
    pc_list_init(&head);
    pc_list_push_back(&head, &a.node);
    pc_list_push_back(&head, &b.node);
    pc_list_remove(&a.node);
    assert_false(pc_list_is_linked(&a.node));
    pc_list_remove(&a.node);
    assert_true(pc_list_is_linked(&b.node));
    assert_int_equal(pop(&head), 2);
    assert_true(pc_list_is_empty(&head));
}

static void splicing_moves_everything_to_the_back(void **state)
{
    (void)state;
    struct item items[4] = {
        {.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct pc_list to;
    struct pc_list from;
    pc_list_init(&to);
    pc_list_init(&from);
    pc_list_splice_back(&to, &from);
    assert_true(pc_list_is_empty(&to));
    pc_list_push_back(&from, &items[0].node);
    pc_list_push_back(&from, &items[1].node);
    pc_list_splice_back(&to, &from);
    assert_true(pc_list_is_empty(&from));
    pc_list_push_back(&from, &items[2].node);
    pc_list_push_back(&from, &items[3].node);
    pc_list_splice_back(&to, &from);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pop(&to), i);
    }
    assert_true(pc_list_is_empty(&to) && pc_list_is_empty(&from));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_of_their_ends),
        cmocka_unit_test(removing_twice_is_harmless),
        cmocka_unit_test(splicing_moves_everything_to_the_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
