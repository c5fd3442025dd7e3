/* Where one thread sleeps while others decide what may wake it. */
#include "base/clock.h"
#include "base/park.h"
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define SHORT_NS (5 * PC_MS) /* A sleep that must last. */
#define LONG_NS  (20 * PC_S) /* A sleep that must be ended. */
#define SOON_NS  (10 * PC_S) /* ... much sooner than that. */

static void assert_sleeps(struct pc_park *park)
{
    uint64_t start = pc_clock_monotonic();
    pc_park_wait(park, SHORT_NS);
    assert_true(pc_clock_monotonic() - start >= SHORT_NS);
}

static void assert_wakes(struct pc_park *park)
{
    uint64_t start = pc_clock_monotonic();
    pc_park_wait(park, LONG_NS);
    assert_true(pc_clock_monotonic() - start < SOON_NS);
}

static void a_sleep_lasts_when_nothing_happens(void **state)
{
    struct pc_park park;
    (void)state;
    assert_true(pc_park_init(&park));
    assert_sleeps(&park);
    pc_park_fini(&park);
}

static void a_wake_before_the_sleep_counts_once(void **state)
{
    struct pc_park park;
    (void)state;
    assert_true(pc_park_init(&park));
    pc_park_wake(&park);
    pc_park_wake(&park);
    assert_wakes(&park);
    assert_sleeps(&park);
    pc_park_wake(&park);
    assert_wakes(&park);
    pc_park_fini(&park);
}

static void a_descriptor_wakes_once_for_each_arming(void **state)
{
    struct pc_park park;
    int fds[2];
    (void)state;
    assert_true(pc_park_init(&park));
    assert_int_equal(pipe(fds), 0);
    assert_true(pc_park_arm(&park, 0, fds[0]));
    assert_sleeps(&park);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_wakes(&park);
    assert_sleeps(&park); /* Still readable, but nobody armed it again. */
    assert_true(pc_park_arm(&park, 0, fds[0]));
    assert_wakes(&park); /* It was readable before. */
    close(fds[0]);
    close(fds[1]);
    pc_park_fini(&park);
}

static void a_disarmed_descriptor_wakes_nobody(void **state)
{
    struct pc_park park;
    int fds[2];
    (void)state;
    assert_true(pc_park_init(&park));
    assert_int_equal(pipe(fds), 0);
    assert_true(pc_park_arm(&park, 1, fds[0]));
    assert_int_equal(write(fds[1], "x", 1), 1);
    pc_park_disarm(&park);
    pc_park_disarm(&park);
    assert_sleeps(&park);
    assert_true(pc_park_arm(&park, 1, fds[0]));
    assert_wakes(&park);
    /* -1 takes the old one out. */
    assert_true(pc_park_arm(&park, 1, fds[0]));
    assert_true(pc_park_arm(&park, 1, -1));
    assert_sleeps(&park);
    close(fds[0]);
    close(fds[1]);
    pc_park_fini(&park);
}

static void another_descriptor_with_the_same_number_is_watched(void **state)
{
    struct pc_park park;
    (void)state;
    assert_true(pc_park_init(&park));
    for (int i = 0; i < 3; i++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        assert_true(pc_park_arm(&park, 0, fds[0]));
        assert_sleeps(&park);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_wakes(&park);
        close(fds[0]);
        close(fds[1]);
    }
    pc_park_fini(&park);
}

static void what_cannot_be_watched_is_told(void **state)
{
    struct pc_park park;
    (void)state;
    FILE *file = tmpfile(); /* Always readable, and epoll refuses it. */
    assert_non_null(file);
    assert_true(pc_park_init(&park));
    assert_false(pc_park_arm(&park, 0, fileno(file)));
    assert_sleeps(&park);
    fclose(file);
    pc_park_fini(&park);
}

/* ---- Threads ---------------------------------------------------------- */

enum { N_WAKERS = 3, N_WAKES = 2000 };

struct crowd
{
    struct pc_park park;
    _Atomic unsigned n_left;
};

static void *waker(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < N_WAKES; i++) {
        atomic_fetch_sub_explicit(&crowd->n_left, 1, memory_order_relaxed);
        pc_park_wake(&crowd->park);
    }
    return NULL;
}

static void no_wake_is_lost(void **state)
{
    struct crowd crowd;
    pthread_t threads[N_WAKERS];
    uint64_t start = pc_clock_monotonic();
    (void)state;
    assert_true(pc_park_init(&crowd.park));
    atomic_init(&crowd.n_left, N_WAKERS * N_WAKES);
    for (int i = 0; i < N_WAKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, waker, &crowd), 0);
    }
    /* The last wake comes after the last step: a sleeper that does not see the
     * one is woken by the other. */
    while (atomic_load_explicit(&crowd.n_left, memory_order_relaxed) > 0) {
        pc_park_wait(&crowd.park, LONG_NS);
    }
    assert_true(pc_clock_monotonic() - start < SOON_NS);
    for (int i = 0; i < N_WAKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pc_park_fini(&crowd.park);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sleep_lasts_when_nothing_happens),
        cmocka_unit_test(a_wake_before_the_sleep_counts_once),
        cmocka_unit_test(a_descriptor_wakes_once_for_each_arming),
        cmocka_unit_test(a_disarmed_descriptor_wakes_nobody),
        cmocka_unit_test(another_descriptor_with_the_same_number_is_watched),
        cmocka_unit_test(what_cannot_be_watched_is_told),
        cmocka_unit_test(no_wake_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
