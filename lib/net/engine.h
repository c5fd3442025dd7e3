/*
 * engine.h - the role that owns link, fabric and a node's cluster state.
 *
 *     turn: link ─► fabric ─► submitted tasks ─► timers ─► idle work
 *
 * Other threads hand it work with pc_engine_submit and never touch what it
 * owns. The engine's thread takes the role for what comes from outside and for
 * timers. It spins for a short while after its last piece of work, then parks:
 * it sleeps without the role. So a thread that waits for an operation finds the
 * role free, takes it with one atomic exchange and runs the turns itself
 * (pc_engine_wait): a short call needs no hand-over between threads.
 *
 *            there is work                   a caller waits
 *     THREAD ◄───────────── FREE (parked) ─────────────► CALLER
 *       │  ───────────────►   ▲  ◄───────────────────────  │
 *       │     nothing to do   └──── wakes the thread if ───┘
 *       │                           anything is left
 *       └── WANTED: a caller asks; the thread makes it CALLER between turns
 *
 * Without a thread (every simulated test) the same turns are driven from
 * outside, one at a time.
 */
#ifndef PC_NET_ENGINE_H
#define PC_NET_ENGINE_H

#include "base/assert.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mpsc.h"
#include "base/park.h"
#include "seam/fabric.h"
#include "seam/link.h"

#include <pthread.h>

struct pc_engine;

struct pc_task
{
    struct pc_mpsc_node node;
    void (*run)(struct pc_task *task);
};

struct pc_timer
{
    struct pc_heap_node node;
    struct pc_list spare; /* When the heap could not grow. */
    void (*fire)(struct pc_timer *timer, uint64_t now_ns);
};

struct pc_engine
{
    const struct pc_link_ops *link_ops;
    struct pc_link *link;
    const struct pc_fabric_ops *fabric_ops; /* NULL: no fabric. */
    struct pc_fabric *fabric;
    struct pc_clock clock;
    uint64_t now_ns; /* At the start of the turn. */
    uint64_t last_turn_ns;
    uint64_t pause_ns;      /* Gap before this turn, when it was long. */
    uint64_t last_pause_ns; /* When that was last so. */
    uint64_t spin_ns;
    struct pc_mpsc tasks;
    struct pc_heap timers;
    struct pc_list spare_timers; /* Looked through each turn; mostly empty. */
    /* Work of the node for each turn; returns how much it did. */
    unsigned (*idle)(void *arg);
    void *idle_arg;
    _Atomic bool sleeping; /* The holder of the role, in the link. */
    _Atomic bool stopping;
    struct pc_event role;        /* enum role in engine.c */
    struct pc_park park;         /* Where the thread sleeps without the role. */
    _Atomic bool missed;         /* The thread woke and found it taken. */
    _Atomic uint64_t wake_at_ns; /* When it wakes by itself. */
    _Atomic uint64_t due_ns;     /* When work is due, as the last holder saw. */
    bool threaded;
    pthread_t thread;
    _Atomic uint32_t n_waiting; /* Callers inside wait or call. */
    _Atomic uintptr_t holder;   /* Who has the role, for assertions. */
};

struct pc_engine_params
{
    struct pc_clock clock;
    uint64_t spin_ns;
    unsigned (*idle)(void *arg);
    void *idle_arg;
};

void pc_engine_init(struct pc_engine *e, const struct pc_engine_params *params);
/* Link and fabric are opened by the owner, before start, and closed by it
 * after stop. */
void pc_engine_use(struct pc_engine *e, const struct pc_link_ops *link_ops,
                   struct pc_link *link, const struct pc_fabric_ops *fabric_ops,
                   struct pc_fabric *fabric);
peercache_status_t pc_engine_start(struct pc_engine *e);
/* End the thread; the caller has the role from then on. */
void pc_engine_stop(struct pc_engine *e);
void pc_engine_fini(struct pc_engine *e);

/* Run task->run with the role, in order of submission. The task's memory is
 * the submitter's until run. Any thread. */
void pc_engine_submit(struct pc_engine *e, struct pc_task *task);
/* Submit; where nobody has the role, run the task here, with what else a turn
 * brings: for short tasks, cheaper than to wake the thread. Any thread that
 * does not have the role. */
void pc_engine_offer(struct pc_engine *e, struct pc_task *task);
/* Submit and wait in one, without waking the thread where this one can do the
 * work. Any thread that does not have the role. */
bool pc_engine_call(struct pc_engine *e, struct pc_task *task,
                    struct pc_event *event, uint64_t end_ns);
/* Wait until the event's word is not 0 or end_ns (clock) has come; runs turns
 * with the role if it can be had. False on timeout. Any thread that does not
 * have the role. */
bool pc_engine_wait(struct pc_engine *e, struct pc_event *event,
                    uint64_t end_ns);

/* The rest: only with the role, checked with PC_ASSERT_ENGINE. */
static inline uint64_t pc_engine_now(const struct pc_engine *e)
{
    return e->now_ns;
}

void pc_engine_timer_init(struct pc_timer *t,
                          void (*fire)(struct pc_timer *, uint64_t));
/* Start or restart; cannot fail: without memory for the heap a timer waits in
 * a list. */
void pc_engine_timer_start(struct pc_engine *e, struct pc_timer *t,
                           uint64_t due_ns);
void pc_engine_timer_stop(struct pc_engine *e, struct pc_timer *t);
/* Run every submitted task. */
void pc_engine_drain(struct pc_engine *e);
/* Look at the clock: for callbacks of the link, which may come after a sleep.
 */
void pc_engine_refresh(struct pc_engine *e);
/* One turn without waiting; returns the amount of work done. */
unsigned pc_engine_turn(struct pc_engine *e);
/* When the next timer is due, UINT64_MAX if there is none. */
uint64_t pc_engine_next_due(const struct pc_engine *e);
bool pc_engine_is_current(const struct pc_engine *e);
/* Whether the turn is a caller's, who waits for it; needs the role. */
bool pc_engine_is_lent(const struct pc_engine *e);

#define PC_ASSERT_ENGINE(e) PC_ASSERT(pc_engine_is_current(e))

#endif /* PC_NET_ENGINE_H */
