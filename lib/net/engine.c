#include "engine.h"

enum role { ROLE_THREAD, ROLE_WANTED, ROLE_CALLER, ROLE_FREE };

/* How long the thread leaves the role to callers before it looks whether they
 * still use it: long enough that a caller in a loop keeps it, short against a
 * peer's round trip over a network. */
#define LINGER_NS (200 * PC_US)
/* ... and when nobody but callers had work for us lately. */
#define LINGER_IDLE_NS (2 * PC_MS)
#define LATELY_NS      (100 * PC_MS)
/* A gap between turns that counts as a pause of our own. */
#define PAUSE_NS       (100 * PC_MS)
#define SLEEP_MAX_NS   (1 * PC_S)
#define TASKS_PER_TURN 256

static uintptr_t self_id(void)
{
    return (uintptr_t)pthread_self();
}

void pc_engine_init(struct pc_engine *e, const struct pc_engine_params *params)
{
    e->link_ops = NULL;
    e->link = NULL;
    e->fabric_ops = NULL;
    e->fabric = NULL;
    e->clock = params->clock;
    e->now_ns = pc_clock_now(&e->clock);
    e->last_turn_ns = e->now_ns;
    e->pause_ns = 0;
    e->last_pause_ns = 0;
    e->spin_ns = params->spin_ns;
    e->idle = params->idle;
    e->idle_arg = params->idle_arg;
    e->thread_work_ns = e->now_ns;
    e->threaded = false;
    pc_mpsc_init(&e->tasks);
    pc_heap_init(&e->timers);
    pc_list_init(&e->spare_timers);
    atomic_init(&e->sleeping, false);
    atomic_init(&e->stopping, false);
    atomic_init(&e->n_drives, 0);
    atomic_init(&e->n_waiting, 0);
    atomic_init(&e->holder, self_id());
    pc_event_init(&e->role, ROLE_THREAD);
}

void pc_engine_use(struct pc_engine *e, const struct pc_link_ops *link_ops,
                   struct pc_link *link, const struct pc_fabric_ops *fabric_ops,
                   struct pc_fabric *fabric)
{
    e->link_ops = link_ops;
    e->link = link;
    e->fabric_ops = fabric_ops;
    e->fabric = fabric;
}

void pc_engine_fini(struct pc_engine *e)
{
    pc_heap_fini(&e->timers);
}

/* ---- Turns ------------------------------------------------------------ */

static void begin_turn(struct pc_engine *e)
{
    e->now_ns = pc_clock_now(&e->clock);
    uint64_t gap = e->now_ns - e->last_turn_ns;
    e->pause_ns = gap > PAUSE_NS ? gap : 0;
    e->last_turn_ns = e->now_ns;
    if (e->pause_ns > 0) {
        e->last_pause_ns = e->now_ns;
    }
}

static unsigned run_tasks(struct pc_engine *e)
{
    unsigned n = 0;
    struct pc_mpsc_node *node;
    while (n < TASKS_PER_TURN && (node = pc_mpsc_pop(&e->tasks)) != NULL) {
        struct pc_task *task = PC_CONTAINER_OF(node, struct pc_task, node);
        task->run(task);
        n++;
    }
    return n;
}

static unsigned run_timers(struct pc_engine *e)
{
    unsigned n = 0;
    struct pc_heap_node *node;
    while ((node = pc_heap_first(&e->timers)) != NULL &&
           node->due_ns <= e->now_ns) {
        struct pc_timer *timer = PC_CONTAINER_OF(node, struct pc_timer, node);
        pc_heap_remove(&e->timers, node);
        timer->fire(timer, e->now_ns);
        n++;
    }
    return n;
}

/* Timers that found no memory in the heap: fire what is due. */
static unsigned run_spare_timers(struct pc_engine *e)
{
    struct pc_list due;
    pc_list_init(&due);
    struct pc_list *at = e->spare_timers.next;
    while (at != &e->spare_timers) {
        struct pc_timer *timer = PC_CONTAINER_OF(at, struct pc_timer, spare);
        at = at->next;
        if (timer->node.due_ns <= e->now_ns) {
            pc_list_remove(&timer->spare);
            pc_list_push_back(&due, &timer->spare);
        }
    }
    unsigned n = 0;
    while ((at = pc_list_pop_front(&due)) != NULL) {
        struct pc_timer *timer = PC_CONTAINER_OF(at, struct pc_timer, spare);
        timer->fire(timer, e->now_ns);
        n++;
    }
    return n;
}

static unsigned rest_of_turn(struct pc_engine *e)
{
    unsigned work = 0;
    if (e->fabric != NULL) {
        work += e->fabric_ops->progress(e->fabric);
    }
    work += run_tasks(e);
    work += run_timers(e);
    if (!pc_list_is_empty(&e->spare_timers)) {
        work += run_spare_timers(e);
    }
    if (e->idle != NULL) {
        work += e->idle(e->idle_arg);
    }
    return work;
}

void pc_engine_drain(struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    while (run_tasks(e) > 0) {
    }
}

void pc_engine_refresh(struct pc_engine *e)
{
    e->now_ns = pc_clock_now(&e->clock);
}

unsigned pc_engine_turn(struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    begin_turn(e);
    return e->link_ops->progress(e->link, -1, 0) + rest_of_turn(e);
}

/* Sleep until there is something to do, at most until end_ns. */
static unsigned sleeping_turn(struct pc_engine *e, uint64_t end_ns)
{
    int fd = -1;
    if (e->fabric != NULL &&
        e->fabric_ops->arm(e->fabric, &fd) == PEERCACHE_AGAIN) {
        return pc_engine_turn(e);
    }
    /* seq_cst: pairs with the fence in submit. Either we see the task, or the
     * submitter sees that we sleep and wakes us. */
    atomic_store_explicit(&e->sleeping, true, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t now = pc_clock_now(&e->clock);
    uint64_t due = pc_engine_next_due(e);
    if (end_ns < due) {
        due = end_ns;
    }
    uint64_t wait = due > now ? due - now : 0;
    if (wait > SLEEP_MAX_NS) {
        wait = SLEEP_MAX_NS;
    }
    uint32_t role = pc_event_get(&e->role);
    if (!pc_mpsc_is_empty(&e->tasks) || role == ROLE_WANTED ||
        atomic_load_explicit(&e->stopping, memory_order_acquire)) {
        wait = 0;
    }
    unsigned work = e->link_ops->progress(e->link, fd, wait);
    /* relaxed: only this thread reads it in order; a stale true costs the
     * submitter one spare wake. */
    atomic_store_explicit(&e->sleeping, false, memory_order_relaxed);
    e->last_turn_ns += wait; /* We meant to sleep so long. */
    if (e->last_turn_ns > pc_clock_now(&e->clock)) {
        e->last_turn_ns = pc_clock_now(&e->clock);
    }
    begin_turn(e);
    return work + rest_of_turn(e);
}

/* ---- The engine's thread ---------------------------------------------- */

static void take(struct pc_engine *e)
{
    /* relaxed: for assertions only; the role's own word orders. */
    atomic_store_explicit(&e->holder, self_id(), memory_order_relaxed);
}

static bool swap_role(struct pc_engine *e, uint32_t from, uint32_t to)
{
    /* seq_cst: hands over all that the role owns, and pairs with the fence
     * before the engine sleeps. */
    return atomic_compare_exchange_strong_explicit(
        &e->role.word, &from, to, memory_order_seq_cst, memory_order_acquire);
}

/*
 * Let a caller have the role, and come back when it is ours again. Callers
 * give it back as FREE without a wake, which would cost each of them a system
 * call: so the thread looks now and then, and takes the role when no caller
 * used it between two looks.
 */
static void lend(struct pc_engine *e)
{
    uint32_t seen = atomic_load_explicit(&e->n_drives, memory_order_relaxed);
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    pc_event_set(&e->role, ROLE_CALLER);
    for (;;) {
        uint32_t role = pc_event_get(&e->role);
        if (role == ROLE_THREAD || role == ROLE_WANTED) {
            break; /* Given back by name. */
        }
        uint64_t idle_ns = pc_clock_now(&e->clock) - e->thread_work_ns;
        (void)pc_event_wait(&e->role, role,
                            idle_ns < LATELY_NS ? LINGER_NS : LINGER_IDLE_NS);
        uint32_t now = atomic_load_explicit(&e->n_drives, memory_order_relaxed);
        bool unused = now == seen;
        seen = now;
        if (unused && swap_role(e, ROLE_FREE, ROLE_THREAD)) {
            break;
        }
    }
    take(e);
}

static void *engine_main(void *arg)
{
    struct pc_engine *e = arg;
    take(e);
    uint64_t idle_since = pc_clock_now(&e->clock);
    unsigned work = 0;
    while (!atomic_load_explicit(&e->stopping, memory_order_acquire)) {
        if (pc_event_get(&e->role) == ROLE_WANTED) {
            lend(e);
            idle_since = pc_clock_now(&e->clock);
        }
        bool spin =
            work > 0 || pc_clock_now(&e->clock) - idle_since < e->spin_ns;
        work = spin ? pc_engine_turn(e) : sleeping_turn(e, UINT64_MAX);
        if (work > 0) {
            idle_since = e->now_ns;
            e->thread_work_ns = e->now_ns;
        }
    }
    return NULL;
}

peercache_status_t pc_engine_start(struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    /* relaxed: pthread_create orders it before the thread. */
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0) {
        take(e);
        return PEERCACHE_NO_MEMORY;
    }
    e->threaded = true;
    return PEERCACHE_OK;
}

void pc_engine_stop(struct pc_engine *e)
{
    if (e->threaded) {
        atomic_store_explicit(&e->stopping, true, memory_order_release);
        if (swap_role(e, ROLE_FREE, ROLE_THREAD)) {
            pc_event_wake(&e->role);
        }
        e->link_ops->wake(e->link);
        (void)pthread_join(e->thread, NULL);
        e->threaded = false;
        take(e);
    }
}

bool pc_engine_is_current(const struct pc_engine *e)
{
    return atomic_load_explicit(&e->holder, memory_order_relaxed) == self_id();
}

/* ---- Other threads ---------------------------------------------------- */

static void wake_if_asleep(struct pc_engine *e)
{
    /* seq_cst: pairs with the fence before the engine looks at the queue. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&e->sleeping, memory_order_seq_cst)) {
        e->link_ops->wake(e->link);
    }
}

void pc_engine_submit(struct pc_engine *e, struct pc_task *task)
{
    pc_mpsc_push(&e->tasks, &task->node);
    wake_if_asleep(e);
    /* Nobody has the role for the moment: do not let the task wait until the
     * thread looks. */
    if (pc_event_get(&e->role) == ROLE_FREE &&
        swap_role(e, ROLE_FREE, ROLE_THREAD)) {
        /* No second store: the thread may have lent the role by now. */
        pc_event_wake(&e->role);
    }
}

/* Run turns with the role until the event is set; then leave the role to the
 * thread if anybody needs it now, else to the next caller. */
static void drive(struct pc_engine *e, struct pc_event *event, uint64_t end_ns)
{
    take(e);
    atomic_fetch_add_explicit(&e->n_drives, 1, memory_order_relaxed);
    uint64_t idle_since = pc_clock_now(&e->clock);
    unsigned work = 0;
    while (pc_event_get(event) == 0) {
        uint64_t now = pc_clock_now(&e->clock);
        if (now >= end_ns) {
            break;
        }
        bool spin = work > 0 || now - idle_since < e->spin_ns;
        work = spin ? pc_engine_turn(e) : sleeping_turn(e, end_ns);
        if (work > 0) {
            idle_since = e->now_ns;
        }
    }
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    /* seq_cst: a waiter counts itself before it looks at the role. */
    if (atomic_load_explicit(&e->n_waiting, memory_order_seq_cst) > 1 ||
        !pc_mpsc_is_empty(&e->tasks)) {
        pc_event_set(&e->role, ROLE_THREAD);
    } else {
        atomic_store_explicit(&e->role.word, ROLE_FREE, memory_order_seq_cst);
        /* Who came between the look and the store saw CALLER, and counts on
         * us to hand over. */
        if ((atomic_load_explicit(&e->n_waiting, memory_order_seq_cst) > 1 ||
             pc_mpsc_has_more(&e->tasks)) &&
            swap_role(e, ROLE_FREE, ROLE_THREAD)) {
            pc_event_wake(&e->role);
        }
    }
}

/* Have the thread lend us the role; true when it did. */
static bool ask_for_role(struct pc_engine *e)
{
    if (!swap_role(e, ROLE_THREAD, ROLE_WANTED)) {
        return false;
    }
    wake_if_asleep(e);
    (void)pc_event_wait(&e->role, ROLE_WANTED, UINT64_MAX);
    return true;
}

static bool wait_counted(struct pc_engine *e, struct pc_event *event,
                         uint64_t end_ns)
{
    while (pc_event_get(event) == 0) {
        uint64_t now = pc_clock_now(&e->clock);
        if (now >= end_ns) {
            return false;
        }
        if (swap_role(e, ROLE_FREE, ROLE_CALLER) || ask_for_role(e)) {
            drive(e, event, end_ns);
            continue;
        }
        /* Another caller runs the engine; it hands over when it leaves. */
        uint64_t left = end_ns - now;
        (void)pc_event_wait(event, 0, left < PC_MS ? left : PC_MS);
    }
    return true;
}

bool pc_engine_wait(struct pc_engine *e, struct pc_event *event,
                    uint64_t end_ns)
{
    atomic_fetch_add_explicit(&e->n_waiting, 1, memory_order_seq_cst);
    bool set = wait_counted(e, event, end_ns);
    atomic_fetch_sub_explicit(&e->n_waiting, 1, memory_order_seq_cst);
    return set;
}

bool pc_engine_call(struct pc_engine *e, struct pc_task *task,
                    struct pc_event *event, uint64_t end_ns)
{
    atomic_fetch_add_explicit(&e->n_waiting, 1, memory_order_seq_cst);
    pc_mpsc_push(&e->tasks, &task->node);
    wake_if_asleep(e);
    bool set = wait_counted(e, event, end_ns);
    atomic_fetch_sub_explicit(&e->n_waiting, 1, memory_order_seq_cst);
    return set;
}

/* ---- Timers ----------------------------------------------------------- */

void pc_engine_timer_init(struct pc_timer *t,
                          void (*fire)(struct pc_timer *, uint64_t))
{
    t->node.index = 0;
    pc_list_init(&t->spare);
    t->fire = fire;
}

void pc_engine_timer_start(struct pc_engine *e, struct pc_timer *t,
                           uint64_t due_ns)
{
    PC_ASSERT_ENGINE(e);
    pc_engine_timer_stop(e, t);
    t->node.due_ns = due_ns;
    if (!pc_heap_push(&e->timers, &t->node)) {
        pc_list_push_back(&e->spare_timers, &t->spare);
    }
}

void pc_engine_timer_stop(struct pc_engine *e, struct pc_timer *t)
{
    PC_ASSERT_ENGINE(e);
    pc_heap_remove(&e->timers, &t->node);
    pc_list_remove(&t->spare);
}

uint64_t pc_engine_next_due(const struct pc_engine *e)
{
    if (!pc_list_is_empty(&e->spare_timers)) {
        return e->now_ns + PC_MS;
    }
    struct pc_heap_node *node = pc_heap_first(&e->timers);
    return node == NULL ? UINT64_MAX : node->due_ns;
}
