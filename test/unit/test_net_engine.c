/*
 * The engine as a role: tasks, timers, and threads that take the role while
 * they wait. Runs over the real link (sockets), without any peer.
 */
#include "base/rand.h"
#include "net/engine.h"
#include "test.h"
#include "transports/socket/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define N_THREADS 4
#define N_CALLS   500
#define SPIN_NS   (50 * PC_US)
/* What is lost comes when the thread looks by itself, after a second. What is
 * late by so much comes from a busy machine. */
#define LATE_NS (500 * PC_MS)

struct fixture
{
    struct pc_engine engine;
    struct pc_link *link;
    _Atomic unsigned n_run;
    _Atomic unsigned n_late;  /* Tasks that waited for more than 10 ms. */
    _Atomic uint64_t worst;   /* The longest that one waited. */
    struct pc_event accepted; /* A stranger was let in ... */
    struct pc_event closed;   /* ... and is gone. */
    struct pc_link_conn *conn;
    bool lets_in;
};

static void *accepted(void *arg, struct pc_link_conn *conn,
                      enum pc_link_class cls, const char *from)
{
    struct fixture *f = arg;
    (void)cls;
    (void)from;
    f->conn = conn;
    pc_event_set(&f->accepted, 1);
    return f->lets_in ? f : NULL;
}

static void closed(void *arg, peercache_status_t why)
{
    struct fixture *f = arg;
    (void)why;
    pc_event_set(&f->closed, 1);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    struct pc_link_params link = {
        .up = {.arg = f, .accepted = accepted, .closed = closed},
        .head_max = 1024,
        .stall_ns = 400 * PC_MS};
    struct pc_engine_params params = {.clock = pc_clock_system(),
                                      .spin_ns = SPIN_NS};
    assert_int_equal(pc_socket_link()->open(&link, &f->link), PEERCACHE_OK);
    pc_engine_init(&f->engine, &params);
    pc_engine_use(&f->engine, pc_socket_link(), f->link, NULL, NULL);
    pc_event_init(&f->accepted, 0);
    pc_event_init(&f->closed, 0);
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

/* ---- The thread sleeps without the role -------------------------------- */

/* Nothing to run for so long that the thread has parked. */
static void let_it_park(struct fixture *f)
{
    struct pc_event never;
    struct call call;
    prepare(&call, f);
    pc_event_init(&never, 0);
    pc_engine_submit(&f->engine, &call.task);
    assert_true(pc_event_wait(&call.done, 0, 30 * PC_S));
    (void)pc_event_wait(&never, 0, 100 * SPIN_NS);
}

static void an_idle_engine_uses_no_time(void **state)
{
    struct fixture *f = *state;
    struct rusage before;
    struct rusage after;
    struct pc_event never;
    pc_event_init(&never, 0);
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    let_it_park(f);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_false(pc_event_wait(&never, 0, PC_S));
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    uint64_t us = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec +
                             after.ru_stime.tv_sec - before.ru_stime.tv_sec) *
                  1000000;
    us += (uint64_t)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
                     after.ru_stime.tv_usec - before.ru_stime.tv_usec);
    assert_true(us < 10000);
    assert_true(after.ru_nvcsw - before.ru_nvcsw < 50);
}

static int stranger(struct fixture *f)
{
    char bound[64];
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(
        pc_socket_link()->listen(f->link, "127.0.0.1:0", bound, sizeof(bound)),
        PEERCACHE_OK);
    in.sin_port = htons((uint16_t)atoi(strrchr(bound, ':') + 1));
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    let_it_park(f);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

static const char preamble[] = "PCM1\x08\0\0\0\0\0\0\0\0\0\0\0PCL1\x01\0\0";

static void a_parked_thread_hears_what_comes_from_outside(void **state)
{
    struct fixture *f = *state;
    int fd = stranger(f);
    let_it_park(f);
    uint64_t start = pc_clock_monotonic();
    assert_int_equal(send(fd, preamble, sizeof(preamble), 0), sizeof(preamble));
    assert_true(pc_event_wait(&f->accepted, 0, 30 * PC_S));
    assert_true(pc_clock_monotonic() - start < LATE_NS);
    close(fd);
}

/* Each caller that comes and goes arms the descriptors anew. */
static void it_does_so_after_a_caller_has_left(void **state)
{
    struct fixture *f = *state;
    int fd = stranger(f);
    assert_null(caller(f));
    uint64_t start = pc_clock_monotonic();
    assert_int_equal(send(fd, preamble, sizeof(preamble), 0), sizeof(preamble));
    assert_true(pc_event_wait(&f->accepted, 0, 30 * PC_S));
    assert_true(pc_clock_monotonic() - start < LATE_NS);
    close(fd);
}

struct flood
{
    struct pc_task task;
    struct pc_link_send send;
    peercache_piece_t piece;
    struct fixture *f;
};

static void sent(struct pc_link_send *send, peercache_status_t status)
{
    (void)send;
    (void)status;
}

static void send_flood(struct pc_task *task)
{
    struct flood *flood = PC_CONTAINER_OF(task, struct flood, task);
    flood->send.conn = flood->f->conn;
    flood->send.pieces = &flood->piece;
    flood->send.n_pieces = 1;
    flood->send.done = sent;
    assert_int_equal(pc_socket_link()->send(&flood->send),
                     PEERCACHE_IN_PROGRESS);
}

/* A path of its own, and a stranger there: a Unix socket, as the kernel has a
 * timeout of its own for TCP. */
static int local_stranger(struct fixture *f)
{
    char address[64];
    char bound[64];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "/tmp/peercache-%ld.sock",
                   (long)getpid());
    (void)snprintf(address, sizeof(address), "unix:%.50s", un.sun_path);
    assert_int_equal(
        pc_socket_link()->listen(f->link, address, bound, sizeof(bound)),
        PEERCACHE_OK);
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    return fd;
}

/* The thread's own sleep is no pause that would excuse the peer. */
static void a_parked_thread_notices_a_peer_that_takes_nothing(void **state)
{
    struct fixture *f = *state;
    f->lets_in = true;
    size_t len = 64u << 20;
    struct flood flood = {.f = f, .piece = {.addr = malloc(len), .len = len}};
    flood.task.run = send_flood;
    assert_non_null(flood.piece.addr);
    memset(flood.piece.addr, 1, len);
    int fd = local_stranger(f);
    assert_int_equal(send(fd, preamble, sizeof(preamble), 0), sizeof(preamble));
    assert_true(pc_event_wait(&f->accepted, 0, 30 * PC_S));
    pc_engine_submit(&f->engine, &flood.task);
    assert_true(pc_event_wait(&f->closed, 0, 5 * PC_S));
    close(fd);
    pc_engine_stop(&f->engine);
    free(flood.piece.addr);
}

struct alarm
{
    struct pc_task task;
    struct pc_timer timer;
    struct pc_event set;
    struct pc_event fired;
    struct fixture *f;
    uint64_t due_ns;
    uint64_t late_ns;
};

static void ring(struct pc_timer *timer, uint64_t now_ns)
{
    struct alarm *alarm = PC_CONTAINER_OF(timer, struct alarm, timer);
    (void)now_ns;
    alarm->late_ns = pc_clock_monotonic() - alarm->due_ns;
    pc_event_set(&alarm->fired, 1);
}

static void set_alarm(struct pc_task *task)
{
    struct alarm *alarm = PC_CONTAINER_OF(task, struct alarm, task);
    alarm->due_ns = pc_engine_now(&alarm->f->engine) + 3 * PC_MS;
    pc_engine_timer_start(&alarm->f->engine, &alarm->timer, alarm->due_ns);
    pc_event_set(&alarm->set, 1);
}

static void a_timer_that_a_caller_sets_fires_while_the_thread_sleeps(
    void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    for (int i = 0; i < 20; i++) {
        struct alarm alarm = {.f = f, .task.run = set_alarm};
        pc_engine_timer_init(&alarm.timer, ring);
        pc_event_init(&alarm.set, 0);
        pc_event_init(&alarm.fired, 0);
        if (i % 2 == 0) {
            let_it_park(f);
        }
        assert_true(
            pc_engine_call(&f->engine, &alarm.task, &alarm.set, UINT64_MAX));
        assert_true(pc_event_wait(&alarm.fired, 0, 30 * PC_S));
        assert_true(alarm.late_ns < LATE_NS);
    }
}

static void an_offered_task_runs_here_while_the_thread_sleeps(void **state)
{
    struct fixture *f = *state;
    struct call call;
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    for (int i = 0; i < 20; i++) {
        let_it_park(f);
        prepare(&call, f);
        pc_engine_offer(&f->engine, &call.task);
        assert_int_equal(pc_event_get(&call.done), 1);
        assert_false(pc_engine_is_current(&f->engine));
    }
}

static void a_call_whose_time_is_up_still_runs_its_task(void **state)
{
    struct fixture *f = *state;
    struct call call;
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    for (int i = 0; i < 20; i++) {
        let_it_park(f);
        prepare(&call, f);
        uint64_t start = pc_clock_monotonic();
        (void)pc_engine_call(&f->engine, &call.task, &call.done, start);
        assert_true(pc_event_wait(&call.done, 0, 30 * PC_S));
        assert_true(pc_clock_monotonic() - start < LATE_NS);
    }
}

static void an_engine_may_be_stopped_and_started_again(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        struct call call;
        assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
        if (i % 3 == 0) {
            let_it_park(f);
        } else if (i % 3 == 1) {
            prepare(&call, f);
            assert_true(
                pc_engine_call(&f->engine, &call.task, &call.done, UINT64_MAX));
        }
        uint64_t start = pc_clock_monotonic();
        pc_engine_stop(&f->engine);
        assert_true(pc_clock_monotonic() - start < LATE_NS);
        assert_true(pc_engine_is_current(&f->engine));
        /* Nobody but us would run it now. */
        prepare(&call, f);
        pc_engine_submit(&f->engine, &call.task);
        assert_int_equal(pc_event_get(&call.done), 0);
        pc_engine_drain(&f->engine);
        assert_int_equal(pc_event_get(&call.done), 1);
    }
}

/* ---- Random moments --------------------------------------------------- */

enum { N_ROUNDS = 1500 };

static void count(struct fixture *f, uint64_t start)
{
    uint64_t took = pc_clock_monotonic() - start;
    uint64_t worst = atomic_load_explicit(&f->worst, memory_order_relaxed);
    while (took > worst && !atomic_compare_exchange_weak_explicit(
                               &f->worst, &worst, took, memory_order_relaxed,
                               memory_order_relaxed)) {
    }
    if (took > 10 * PC_MS) {
        atomic_fetch_add_explicit(&f->n_late, 1, memory_order_relaxed);
    }
}

/* Submit, offer or call, and between them wait up to four spins, so that the
 * role is found in each of its states and between them. */
static void *visitor(void *arg)
{
    struct fixture *f = arg;
    struct pc_rand random;
    struct pc_event never;
    pc_event_init(&never, 0);
    pc_rand_init(&random, (uintptr_t)&random);
    for (int i = 0; i < N_ROUNDS; i++) {
        struct call call;
        prepare(&call, f);
        uint64_t start = pc_clock_monotonic();
        switch (pc_rand_below(&random, 4)) {
        case 0:
        case 1:
            pc_engine_submit(&f->engine, &call.task);
            break;
        case 2:
            pc_engine_offer(&f->engine, &call.task);
            break;
        default:
            (void)pc_engine_call(&f->engine, &call.task, &call.done,
                                 start + 30 * PC_S);
            break;
        }
        if (!pc_event_wait(&call.done, 0, 30 * PC_S)) {
            return f; /* It was lost. */
        }
        count(f, start);
        (void)pc_event_wait(&never, 0, pc_rand_below(&random, 4 * SPIN_NS));
    }
    return NULL;
}

static void work_at_random_moments_is_run_soon(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[N_THREADS];
    assert_int_equal(pc_engine_start(&f->engine), PEERCACHE_OK);
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, visitor, f), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failure;
        assert_int_equal(pthread_join(threads[i], &failure), 0);
        assert_null(failure);
    }
    print_message("%u of %u later than 10 ms, the worst after %.1f ms\n",
                  atomic_load(&f->n_late), N_THREADS * N_ROUNDS,
                  (double)atomic_load(&f->worst) / PC_MS);
    assert_int_equal(atomic_load(&f->n_run), N_THREADS * N_ROUNDS);
    assert_true(atomic_load(&f->n_late) <= N_THREADS * N_ROUNDS / 100);
    assert_true(atomic_load(&f->worst) < LATE_NS);
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
        TEST(an_idle_engine_uses_no_time),
        TEST(a_parked_thread_hears_what_comes_from_outside),
        TEST(it_does_so_after_a_caller_has_left),
        TEST(a_parked_thread_notices_a_peer_that_takes_nothing),
        TEST(a_timer_that_a_caller_sets_fires_while_the_thread_sleeps),
        TEST(an_offered_task_runs_here_while_the_thread_sleeps),
        TEST(a_call_whose_time_is_up_still_runs_its_task),
        TEST(an_engine_may_be_stopped_and_started_again),
        TEST(work_at_random_moments_is_run_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
