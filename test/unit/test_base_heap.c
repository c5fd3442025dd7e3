/* Tests of base/heap.h. */
#include "test.h"

#include "base/assert.h"
#include "base/heap.h"
#include "base/mem.h"
#include "base/rand.h"

#include <string.h>

enum { N_TIMERS = 300, N_STEPS = 20000 };

static void timers_with_equal_times_come_in_starting_order(void **state)
{
    (void)state;
    struct pc_heap heap;
    struct pc_heap_node nodes[100];
    memset(nodes, 0, sizeof(nodes));
    pc_heap_init(&heap);
    assert_null(pc_heap_first(&heap));
    for (size_t i = 0; i < PC_ARRAY_LEN(nodes); i++) {
        nodes[i].due_ns = i < 50 ? 7 : 3;
        assert_true(pc_heap_push(&heap, &nodes[i]));
    }
    for (size_t i = 0; i < PC_ARRAY_LEN(nodes); i++) {
        struct pc_heap_node *first = pc_heap_first(&heap);
        assert_ptr_equal(first, &nodes[(i + 50) % 100]);
        pc_heap_remove(&heap, first);
    }
    assert_null(pc_heap_first(&heap));
    pc_heap_fini(&heap);
}

static void removing_a_node_of_no_heap_is_harmless(void **state)
{
    (void)state;
    struct pc_heap heap;
    struct pc_heap_node a = {.due_ns = 1};
    struct pc_heap_node b = {.due_ns = 2};
    pc_heap_init(&heap);
    pc_heap_remove(&heap, &a);
    assert_true(pc_heap_push(&heap, &a) && pc_heap_push(&heap, &b));
    pc_heap_remove(&heap, &a);
    pc_heap_remove(&heap, &a);
    assert_ptr_equal(pc_heap_first(&heap), &b);
    pc_heap_fini(&heap);
    assert_int_equal(b.index, 0);
}

static struct pc_heap_node *earliest(struct pc_heap_node *nodes)
{
    struct pc_heap_node *best = NULL;
    for (size_t i = 0; i < N_TIMERS; i++) {
        struct pc_heap_node *n = &nodes[i];
        if (n->index != 0 &&
            (best == NULL || n->due_ns < best->due_ns ||
             (n->due_ns == best->due_ns && n->order < best->order))) {
            best = n;
        }
    }
    return best;
}

static void random_starts_and_stops_keep_the_first_one_first(void **state)
{
    (void)state;
    struct pc_heap heap;
    struct pc_heap_node nodes[N_TIMERS];
    struct pc_rand r;
    memset(nodes, 0, sizeof(nodes));
    pc_heap_init(&heap);
    pc_rand_init(&r, 1);
    for (int step = 0; step < N_STEPS; step++) {
        struct pc_heap_node *node = &nodes[pc_rand_below(&r, N_TIMERS)];
        if (node->index != 0) {
            pc_heap_remove(&heap, node);
        } else {
            node->due_ns = pc_rand_below(&r, 200);
            assert_true(pc_heap_push(&heap, node));
        }
        assert_ptr_equal(pc_heap_first(&heap), earliest(nodes));
    }
    pc_heap_fini(&heap);
}

static void without_memory_a_push_changes_nothing(void **state)
{
    (void)state;
    struct pc_heap heap;
    struct pc_heap_node node = {.due_ns = 5};
    pc_heap_init(&heap);
    pc_mem_fail_after(0);
    assert_false(pc_heap_push(&heap, &node));
    assert_int_equal(node.index, 0);
    assert_null(pc_heap_first(&heap));
    assert_true(pc_heap_push(&heap, &node));
    pc_heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_with_equal_times_come_in_starting_order),
        cmocka_unit_test(removing_a_node_of_no_heap_is_harmless),
        cmocka_unit_test(random_starts_and_stops_keep_the_first_one_first),
        cmocka_unit_test(without_memory_a_push_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
