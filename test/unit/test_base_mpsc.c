/* Tests of base/mpsc.h. */
#include "test.h"

#include "base/assert.h"
#include "base/mpsc.h"

#include <pthread.h>
#include <sched.h>

enum { N_PUSHERS = 4, N_EACH = 20000 };

struct message
{
    int pusher;
    int number;
    struct pc_mpsc_node node;
};

struct pusher
{
    struct pc_mpsc *q;
    struct message *messages;
    pthread_t thread;
};

static struct message *pop(struct pc_mpsc *q)
{
    struct pc_mpsc_node *node = pc_mpsc_pop(q);
    return node == NULL ? NULL : PC_CONTAINER_OF(node, struct message, node);
}

static void a_queue_is_first_in_first_out(void **state)
{
    (void)state;
    struct pc_mpsc q;
    struct message m[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    pc_mpsc_init(&q);
    assert_true(pc_mpsc_is_empty(&q));
    assert_null(pop(&q));
    for (int i = 0; i < 3; i++) {
        pc_mpsc_push(&q, &m[i].node);
        assert_false(pc_mpsc_is_empty(&q));
    }
    for (int i = 0; i < 3; i++) {
        assert_false(pc_mpsc_is_empty(&q));
        assert_ptr_equal(pop(&q), &m[i]);
    }
    assert_true(pc_mpsc_is_empty(&q));
    assert_null(pop(&q));
}

static void a_node_can_be_pushed_again_once_popped(void **state)
{
    (void)state;
    struct pc_mpsc q;
    struct message m = {.number = 0};
    pc_mpsc_init(&q);
    for (int i = 0; i < 10; i++) {
        pc_mpsc_push(&q, &m.node);
        assert_ptr_equal(pop(&q), &m);
        assert_true(pc_mpsc_is_empty(&q));
    }
}

/* A pusher that has exchanged the head but not linked its node yet, played by
 * hand: the one moment that threads rarely show. */
static void a_half_pushed_node_makes_the_queue_not_empty(void **state)
{
    (void)state;
    struct pc_mpsc q;
    struct message a = {.number = 0};
    struct message b = {.number = 1};
    pc_mpsc_init(&q);
    pc_mpsc_push(&q, &a.node);
    atomic_store_explicit(&b.node.next, NULL, memory_order_relaxed);
    struct pc_mpsc_node *before =
        atomic_exchange_explicit(&q.head, &b.node, memory_order_acq_rel);
    assert_null(pop(&q));
    assert_false(pc_mpsc_is_empty(&q));
    atomic_store_explicit(&before->next, &b.node, memory_order_release);
    assert_ptr_equal(pop(&q), &a);
    assert_false(pc_mpsc_is_empty(&q));
    assert_ptr_equal(pop(&q), &b);
    assert_true(pc_mpsc_is_empty(&q));
}

static void *push_all(void *arg)
{
    struct pusher *pusher = arg;
    for (int i = 0; i < N_EACH; i++) {
        pc_mpsc_push(pusher->q, &pusher->messages[i].node);
    }
    return NULL;
}

static void four_pushers_lose_and_reorder_nothing(void **state)
{
    (void)state;
    static struct message messages[N_PUSHERS][N_EACH];
    struct pusher pushers[N_PUSHERS];
    struct pc_mpsc q;
    int next[N_PUSHERS] = {0};
    pc_mpsc_init(&q);
    for (int p = 0; p < N_PUSHERS; p++) {
        for (int i = 0; i < N_EACH; i++) {
            messages[p][i].pusher = p;
            messages[p][i].number = i;
        }
        pushers[p].q = &q;
        pushers[p].messages = messages[p];
        assert_int_equal(
            pthread_create(&pushers[p].thread, NULL, push_all, &pushers[p]), 0);
    }
    for (int n_popped = 0; n_popped < N_PUSHERS * N_EACH;) {
        struct message *m = pop(&q);
        if (m == NULL) {
            sched_yield();
            continue;
        }
        assert_int_equal(m->number, next[m->pusher]);
        next[m->pusher]++;
        n_popped++;
    }
    for (int p = 0; p < N_PUSHERS; p++) {
        pthread_join(pushers[p].thread, NULL);
    }
    assert_null(pop(&q));
    assert_true(pc_mpsc_is_empty(&q));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_is_first_in_first_out),
        cmocka_unit_test(a_node_can_be_pushed_again_once_popped),
        cmocka_unit_test(a_half_pushed_node_makes_the_queue_not_empty),
        cmocka_unit_test(four_pushers_lose_and_reorder_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
