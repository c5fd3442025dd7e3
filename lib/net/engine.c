#include "engine.h"

enum role { ROLE_THREAD, ROLE_WANTED, ROLE_CALLER, ROLE_FREE };

/* A gap between turns that counts as a pause of our own. */
#define PAUSE_NS     (100 * PC_MS)
#define SLEEP_MAX_NS (1 * PC_S)
/* Turns that a caller runs, when its operation has ended, for what is left: a
 * task, what it sends, the end of that, and one that finds nothing. */
#define LEAVE_TURNS 4
/* A caller has nothing else to do, and an answer is a round trip away: it polls
 * longer than the thread. */
#define CALLER_SPINS   4
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
    e->threaded = false;
    pc_mpsc_init(&e->tasks);
    pc_heap_init(&e->timers);
    pc_list_init(&e->spare_timers);
    atomic_init(&e->sleeping, false);
    atomic_init(&e->stopping, false);
    atomic_init(&e->wake_at_ns, 0);
    atomic_init(&e->due_ns, 0);
    atomic_init(&e->missed, false);
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

/* The turn after a time that was meant to be slept: what goes beyond is a
 * pause. */
static void begin_turn_after(struct pc_engine *e, uint64_t meant_until_ns)
{
    uint64_t now = pc_clock_now(&e->clock);
    e->last_turn_ns = now < meant_until_ns ? now : meant_until_ns;
}

unsigned pc_engine_turn(struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    uint64_t due = pc_engine_next_due(e);
    if (!e->threaded && due > e->last_turn_ns) {
        begin_turn_after(e, due); /* Nothing was to be done until then. */
    }
    begin_turn(e);
    return e->link_ops->progress(e->link, -1, 0) + rest_of_turn(e);
}

/* A caller's sleep, with the role, until there is something to do or end_ns. */
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
    if (!pc_mpsc_is_empty(&e->tasks)) {
        wait = 0;
    }
    unsigned work = e->link_ops->progress(e->link, fd, wait);
    /* relaxed: only this thread reads it in order; a stale true costs the
     * submitter one spare wake. */
    atomic_store_explicit(&e->sleeping, false, memory_order_relaxed);
    begin_turn_after(e, e->last_turn_ns + wait);
    begin_turn(e);
    return work + rest_of_turn(e);
}

/* ---- Taking and leaving the role --------------------------------------- */

static bool swap_role(struct pc_engine *e, uint32_t from, uint32_t to)
{
    /* seq_cst: hands over all that the role owns, and pairs with those who
     * leave something to do and then look for the role. Also when it fails:
     * who has the role must then see what we left. */
    return atomic_compare_exchange_strong_explicit(
        &e->role.word, &from, to, memory_order_seq_cst, memory_order_seq_cst);
}

static void take(struct pc_engine *e)
{
    /* relaxed: for assertions only; the role's own word orders. */
    atomic_store_explicit(&e->holder, self_id(), memory_order_relaxed);
}

/* Take a role that is free: nobody worked since the last holder left. */
static bool take_free(struct pc_engine *e, uint32_t as)
{
    if (!swap_role(e, ROLE_FREE, as)) {
        return false;
    }
    take(e);
    begin_turn_after(e, atomic_load_explicit(&e->due_ns, memory_order_relaxed));
    return true;
}

/*
 * Leave the role to nobody, with the descriptors watched for the thread. False:
 * there is work to do at once, or somebody wants the role from us by name; we
 * still have it.
 *
 * The thread may wake for a descriptor before the role is free, and finds
 * nothing to take. It says so in `missed`, and then we wake it again.
 */
static bool leave(struct pc_engine *e, uint32_t role)
{
    int fd = -1;
    uint64_t now = pc_clock_now(&e->clock);
    uint64_t due = pc_engine_next_due(e);
    uint64_t link_due = e->link_ops->next_due(e->link);
    due = link_due < due ? link_due : due;
    due = due < now + SLEEP_MAX_NS ? due : now + SLEEP_MAX_NS;
    /* The queue: only who has the role can tell for certain that it is empty.
     * A pause that this turn made is for the next one to find. */
    if (due <= now || now - e->last_turn_ns > PAUSE_NS ||
        !pc_mpsc_is_empty(&e->tasks) ||
        (e->fabric != NULL &&
         e->fabric_ops->arm(e->fabric, &fd) == PEERCACHE_AGAIN)) {
        return false;
    }
    atomic_store_explicit(&e->due_ns, due, memory_order_relaxed);
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    atomic_store_explicit(&e->missed, false, memory_order_seq_cst);
    bool watched = pc_park_arm(&e->park, 0, e->link_ops->wait_fd(e->link)) &&
                   pc_park_arm(&e->park, 1, fd);
    if (!swap_role(e, role, ROLE_FREE)) {
        take(e);
        return false;
    }
    if (!watched || atomic_load_explicit(&e->missed, memory_order_seq_cst)) {
        pc_park_wake(&e->park);
    }
    return true;
}

/* ---- The engine's thread ---------------------------------------------- */

/*
 * How long the thread may sleep without the role. What a caller leaves while we
 * look is not lost: until we have said when we wake, every caller that leaves
 * with work due wakes us.
 */
static uint64_t plan_sleep(struct pc_engine *e)
{
    uint64_t now = pc_clock_now(&e->clock);
    uint64_t until = now + SLEEP_MAX_NS;
    /* seq_cst: a caller that leaves frees the role before it looks when we
     * wake; either it sees this, or we see that the role is free, and with it
     * what the caller knew to be due. */
    atomic_store_explicit(&e->wake_at_ns, UINT64_MAX, memory_order_seq_cst);
    if (atomic_load_explicit(&e->role.word, memory_order_seq_cst) ==
        ROLE_FREE) {
        uint64_t due = atomic_load_explicit(&e->due_ns, memory_order_relaxed);
        until = due < until ? due : until;
        if (pc_mpsc_has_more(&e->tasks)) {
            until = now;
        }
    } /* Else timers are the holder's business. */
    atomic_store_explicit(&e->wake_at_ns, until, memory_order_seq_cst);
    return until > now ? until - now : 0;
}

/* Sleep without the role until it is ours. False: the engine stops. */
static bool park(struct pc_engine *e)
{
    while (!atomic_load_explicit(&e->stopping, memory_order_acquire)) {
        uint64_t wait = plan_sleep(e);
        if (wait > 0) {
            pc_park_wait(&e->park, wait);
        }
        /* seq_cst: before we look whether the role is free. */
        atomic_store_explicit(&e->missed, true, memory_order_seq_cst);
        if (take_free(e, ROLE_THREAD)) {
            return true;
        }
    }
    return false;
}

static void *engine_main(void *arg)
{
    struct pc_engine *e = arg;
    take(e);
    uint64_t idle_since = pc_clock_now(&e->clock);
    bool mine = true;
    unsigned work = 0;
    while (mine && !atomic_load_explicit(&e->stopping, memory_order_acquire)) {
        if (pc_event_get(&e->role) == ROLE_WANTED) {
            atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
            pc_event_set(&e->role, ROLE_CALLER);
            mine = park(e);
        } else if ((work == 0 &&
                    pc_clock_now(&e->clock) - idle_since >= e->spin_ns) &&
                   leave(e, ROLE_THREAD)) {
            mine = park(e);
        }
        if (!mine) {
            break;
        }
        work = pc_engine_turn(e);
        if (work > 0) {
            idle_since = pc_clock_now(&e->clock); /* The turn may be long. */
        }
    }
    return NULL;
}

peercache_status_t pc_engine_start(struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    PC_ASSERT(e->link_ops->wait_fd != NULL && e->link_ops->next_due != NULL);
    if (!pc_park_init(&e->park)) {
        return PEERCACHE_IO;
    }
    /* relaxed: pthread_create orders it before the thread. */
    atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
    e->threaded = true; /* The thread reads it. */
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0) {
        e->threaded = false;
        pc_park_fini(&e->park);
        take(e);
        return PEERCACHE_NO_MEMORY;
    }
    return PEERCACHE_OK;
}

void pc_engine_stop(struct pc_engine *e)
{
    if (e->threaded) {
        atomic_store_explicit(&e->stopping, true, memory_order_release);
        pc_park_wake(&e->park);
        (void)pthread_join(e->thread, NULL);
        pc_park_fini(&e->park);
        e->threaded = false;
        /* relaxed: there is no other thread. The role is ours, not free, and a
         * later start begins as the first did. */
        atomic_store_explicit(&e->stopping, false, memory_order_relaxed);
        pc_event_init(&e->role, ROLE_THREAD);
        take(e);
    }
}

bool pc_engine_is_current(const struct pc_engine *e)
{
    return atomic_load_explicit(&e->holder, memory_order_relaxed) == self_id();
}

bool pc_engine_is_lent(const struct pc_engine *e)
{
    PC_ASSERT_ENGINE(e);
    /* relaxed: only who has the role changes it from or to CALLER. */
    return atomic_load_explicit(&e->role.word, memory_order_relaxed) ==
           ROLE_CALLER;
}

/* ---- Other threads ---------------------------------------------------- */

/* Something was left to do: a holder of the role that sleeps shall see it. */
static void rouse_holder(struct pc_engine *e)
{
    /* seq_cst: pairs with the fence before the holder sleeps in the link. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&e->sleeping, memory_order_seq_cst)) {
        e->link_ops->wake(e->link);
    }
}

/* ... and if nobody has the role, which is only while there is a thread, the
 * thread shall take it. */
static void rouse(struct pc_engine *e)
{
    rouse_holder(e);
    if (pc_event_get(&e->role) == ROLE_FREE) {
        pc_park_wake(&e->park);
    }
}

void pc_engine_submit(struct pc_engine *e, struct pc_task *task)
{
    pc_mpsc_push(&e->tasks, &task->node);
    rouse(e);
}

/* Run what is left of our own operation, then free the role; the thread is
 * woken if it has to go on. n_own: 1 if we are counted among those who wait. */
static void leave_as_caller(struct pc_engine *e, uint32_t n_own)
{
    bool left = false;
    for (int i = 0; !left && i < LEAVE_TURNS; i++) {
        left = pc_engine_turn(e) == 0 && leave(e, ROLE_CALLER);
    }
    if (!left) {
        /* Due at once, and the next turn sees a pause that ours made. */
        atomic_store_explicit(&e->due_ns, e->last_turn_ns,
                              memory_order_relaxed);
        atomic_store_explicit(&e->holder, 0, memory_order_relaxed);
        (void)swap_role(e, ROLE_CALLER, ROLE_FREE);
    }
    /* seq_cst: those who wait count themselves, those who submit push, and the
     * thread says when it wakes, before they look at the role. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!left || pc_mpsc_has_more(&e->tasks) ||
        atomic_load_explicit(&e->n_waiting, memory_order_seq_cst) > n_own ||
        atomic_load_explicit(&e->due_ns, memory_order_relaxed) <
            atomic_load_explicit(&e->wake_at_ns, memory_order_seq_cst)) {
        pc_park_wake(&e->park);
    }
}

void pc_engine_offer(struct pc_engine *e, struct pc_task *task)
{
    pc_mpsc_push(&e->tasks, &task->node);
    if (take_free(e, ROLE_CALLER)) {
        pc_park_disarm(&e->park);
        leave_as_caller(e, 0);
    } else {
        rouse(e);
    }
}

/* Run turns with the role until the event is set. */
static void drive(struct pc_engine *e, struct pc_event *event, uint64_t end_ns)
{
    uint64_t idle_since = pc_clock_now(&e->clock);
    unsigned work = 0;
    pc_park_disarm(&e->park);
    while (pc_event_get(event) == 0) {
        uint64_t now = pc_clock_now(&e->clock);
        if (now >= end_ns) {
            break;
        }
        bool spin = work > 0 || now - idle_since < CALLER_SPINS * e->spin_ns;
        work = spin ? pc_engine_turn(e) : sleeping_turn(e, end_ns);
        if (work > 0) {
            idle_since = pc_clock_now(&e->clock);
        }
    }
    leave_as_caller(e, 1);
}

/* Have the thread lend us the role; true when it did. */
static bool ask_for_role(struct pc_engine *e)
{
    if (!swap_role(e, ROLE_THREAD, ROLE_WANTED)) {
        return false;
    }
    (void)pc_event_wait(&e->role, ROLE_WANTED, UINT64_MAX);
    take(e);
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
        if (take_free(e, ROLE_CALLER) || ask_for_role(e)) {
            drive(e, event, end_ns);
            continue;
        }
        if (pc_event_get(&e->role) == ROLE_FREE) {
            continue; /* It was left between our two attempts. */
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
    rouse_holder(e);
    bool set = wait_counted(e, event, end_ns);
    atomic_fetch_sub_explicit(&e->n_waiting, 1, memory_order_seq_cst);
    if (!set) {
        rouse(e); /* Time was up before anybody ran it. */
    }
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
