/*
 * The engine as a role: tasks, timers, and threads that take the role while
 * they wait. Runs over the real link (sockets), without any peer.
 */
#include "net/engine.h"
#include "test.h"
#include "transports/socket/socket.h"

#include <stdlib.h>
#include <string.h>

#define N_THREADS 4
#define N_CALLS   500

struct fixture
{
    struct pc_engine engine;
    struct pc_link *link;
    _Atomic unsigned n_run;
};

static void *no_accept(void *arg, struct pc_link_conn *conn,
                       enum pc_link_class cls, const char *from)
{
    (void)arg;
    (void)conn;
    (void)cls;
    (void)from;
    return NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    struct pc_link_params link = {.up = {.arg = f, .accepted = no_accept},
                                  .head_max = 1024};
    struct pc_engine_params params = {.clock = pc_clock_system(),
                                      .spin_ns = 50 * PC_US};
    assert_int_equal(pc_socket_link()->open(&link, &f->link), PEERCACHE_OK);
    pc_engine_init(&f->engine, &params);
    pc_engine_use(&f->engine, pc_socket_link(), f->link, NULL, NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    pc_engine_stop(&f->engine);
    pc_socket_link()->close(f->link);
    pc_engine_fini(&f->engine);
    free(f);
    return 0;
}

/* ---- Timers, by hand -------------------------------------------------- */

struct fired
{
    struct pc_timer timer;
    unsigned *order;
    unsigned at;
};

static void note(struct pc_timer *timer, uint64_t now_ns)
{
    struct fired *fired = PC_CONTAINER_OF(timer, struct fired, timer);
    (void)now_ns;
    fired->at = ++*fired->order;
}

static void timers_fire_in_order_of_their_due_time(void **state)
{
    struct fixture *f = *state;
    struct fired fired[3];
    unsigned order = 0;
    for (int i = 0; i < 3; i++) {
        fired[i] = (struct fired){.order = &order};
        pc_engine_timer_init(&fired[i].timer, note);
    }
    uint64_t now = pc_engine_now(&f->engine);
    pc_engine_timer_start(&f->engine, &fired[0].timer, now + 3);
    pc_engine_timer_start(&f->engine, &fired[1].timer, now + 1);
    pc_engine_timer_start(&f->engine, &fired[2].timer, now + 2);
    pc_engine_timer_stop(&f->engine, &fired[2].timer);
    assert_int_equal(pc_engine_next_due(&f->engine), now + 1);
    while (order < 2) {
        (void)pc_engine_turn(&f->engine);
    }
    assert_int_equal(fired[1].at, 1);
    assert_int_equal(fired[0].at, 2);
    assert_int_equal(fired[2].at, 0);
    assert_int_equal(pc_engine_next_due(&f->engine), UINT64_MAX);
}

/* ---- Threads ---------------------------------------------------------- */

struct call
{
    struct pc_task task;
    struct pc_event done;
    struct fixture *f;
};

static void run_call(struct pc_task *task)
{
    struct call *call = PC_CONTAINER_OF(task, struct call, task);
    assert_true(pc_engine_is_current(&call->f->engine));
    atomic_fetch_add_explicit(&call->f->n_run, 1, memory_order_relaxed);
    pc_event_set(&call->done, 1);
}

static void prepare(struct call *call, struct fixture *f)
{
    memset(call, 0, sizeof(*call));
    call->f = f;
    call->task.run = run_call;
    pc_event_init(&call->done, 0);
}

static void *caller(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < N_CALLS; i++) {
        struct call call;
        prepare(&call, f);
        uint64_t end = pc_clock_monotonic() + 30 * PC_S;
        if (!pc_engine_call(&f->engine, &call.task, &call.done, end)) {
            return call.f; /* A call was lost. */
        }
    }
    return NULL;
}

static void *submitter(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < N_CALLS; i++) {
        struct call call;
        prepare(&call, f);
        pc_engine_submit(&f->engine, &call.task);
        if (!pc_event_wait(&call.done, 0, 30 * PC_S)) {
            return call.f; /* A task was lost. */
        }
    }
    return NULL;
}

static void run_threads(struct fixture *f, void *(*mains[N_THREADS])(void *))
{
    pthread_t threads[N_THREADS];
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, mains[i], f), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failure;
        assert_int_equal(pthread_join(threads[i], &failure), 0);
        assert_null(failure);
    }
    assert_int_equal(atomic_load(&f->n_run), N_THREADS * N_CALLS);
}

static void threads_that_only_submit_are_served_by_the_engine(void **state)
{
    void *(*mains[N_THREADS])(void *) = {submitter, submitter, submitter,
                                         submitter};
    run_threads(*state, mains);
}

static void threads_that_wait_share_the_role_and_lose_no_call(void **state)
{
    void *(*mains[N_THREADS])(void *) = {caller, caller, caller, caller};
    run_threads(*state, mains);
}

static void callers_and_submitters_do_not_starve_each_other(void **state)
{
    void *(*mains[N_THREADS])(void *) = {caller, submitter, caller, submitter};
    run_threads(*state, mains);
}

static void the_thread_takes_the_role_back_from_idle_callers(void **state)
{
    struct fixture *f = *state;
    struct call call;
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    assert_null(caller(f));
    /* Nobody waits in the engine now; a task must run all the same. */
    prepare(&call, f);
    pc_engine_submit(&f->engine, &call.task);
    assert_true(pc_event_wait(&call.done, 0, 30 * PC_S));
}

static void a_wait_ends_at_its_time(void **state)
{
    struct fixture *f = *state;
    struct pc_event never;
    pc_event_init(&never, 0);
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    uint64_t start = pc_clock_monotonic();
    assert_false(pc_engine_wait(&f->engine, &never, start + 5 * PC_MS));
    assert_true(pc_clock_monotonic() - start >= 5 * PC_MS);
    assert_null(submitter(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(timers_fire_in_order_of_their_due_time),
        TEST(threads_that_only_submit_are_served_by_the_engine),
        TEST(threads_that_wait_share_the_role_and_lose_no_call),
        TEST(callers_and_submitters_do_not_starve_each_other),
        TEST(the_thread_takes_the_role_back_from_idle_callers),
        TEST(a_wait_ends_at_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
