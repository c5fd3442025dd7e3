/*
 * clear.c - drop all that this node holds.
 *
 *     SWEEP: some values go, their retracts are queued ─ more? ─► next turn
 *        │ all slots seen, then all     ▲                             │
 *        │ records on disk              │                             │
 *        │                              └─────── FIFOs not too full ◄─┤
 *        ▼                                       else wait for owners ┘
 *     the disk is emptied (rule 10) ─► owners have taken the retracts, or the
 *     deadline ─► DONE
 *
 * Runs in the engine, a small part a turn, so traffic goes on. Only values that
 * were sealed before it began go: their generations become odd at once, as with
 * eviction, and each retract names its generation (rule 11), so neither newer
 * values nor those of other holders lose their records. Reservations are their
 * writers' (rule 1): a put under way is sealed later and stays.
 */
#include "node/node.h"

/* Steps of the store in one turn: some 100 us. */
#define STEPS_PER_TURN 16
/* FIFOs hold PC_OUTBOX_MAX each; what finds no room would stay in the
 * directory. */
#define BACKLOG_MAX (PC_OUTBOX_MAX / 2)

static void end(struct pc_clear *clear, peercache_status_t status)
{
    if (clear->holds_disk) {
        pc_tier_clear_over(clear->node);
    }
    clear->status = status;
    clear->done(clear);
}

static bool is_late(const struct pc_clear *clear)
{
    return pc_engine_now(&clear->node->engine) >= clear->deadline_ns;
}

static bool is_closing(const struct pc_clear *clear)
{
    return atomic_load_explicit(&clear->node->closing, memory_order_acquire);
}

static void sweep(struct pc_clear *clear);

/* The owners have taken what was queued, or it is too late. */
static void owners_know(struct pc_barrier *barrier)
{
    struct pc_clear *clear = PC_CONTAINER_OF(barrier, struct pc_clear, barrier);
    if (is_closing(clear)) {
        end(clear, PEERCACHE_SHUTDOWN);
    } else if (is_late(clear)) {
        end(clear, PEERCACHE_TIMED_OUT);
    } else if (clear->disk_cleared) {
        end(clear, clear->unsafe ? PEERCACHE_IO : PEERCACHE_OK);
    } else {
        sweep(clear);
    }
}

static void wait_for_owners(struct pc_clear *clear)
{
    struct peercache_node *node = clear->node;
    uint64_t left_ns = clear->deadline_ns - pc_engine_now(&node->engine);
    if (!pc_publish_barrier(node, &clear->barrier, left_ns, owners_know)) {
        end(clear, PEERCACHE_NO_MEMORY);
    }
}

static void disk_is_empty(void *arg, bool safe)
{
    struct pc_clear *clear = arg;
    clear->disk_cleared = true;
    clear->unsafe = !safe;
    if (is_closing(clear)) {
        end(clear, PEERCACHE_SHUTDOWN);
    } else if (is_late(clear)) {
        end(clear, PEERCACHE_TIMED_OUT);
    } else {
        wait_for_owners(clear);
    }
}

/* All records of what was only on disk are retracted; now the values go. */
static void empty_disk(struct pc_clear *clear)
{
    struct peercache_node *node = clear->node;
    struct pc_tier_fence *fence = pc_tier_fence_begin(node);
    if (fence == NULL) {
        clear->disk_cleared = true;
        clear->unsafe = node->tier != NULL;
        wait_for_owners(clear);
        return;
    }
    pc_tier_clear(node, fence);
    pc_tier_fence_end(fence, clear->deadline_ns - pc_engine_now(&node->engine),
                      disk_is_empty, clear);
}

static void go_on(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    sweep(PC_CONTAINER_OF(timer, struct pc_clear, next));
}

/* What is pinned is told to be gone when its last pin goes, perhaps that of a
 * write to a slow disk: too late for who waits for this clear, as in
 * pc_pool_remove. */
static void sweep_pool(struct pc_clear *clear)
{
    struct pc_cleared cleared;
    clear->swept = !pc_store_clear(clear->node->store, &clear->sweep, &cleared);
    for (size_t i = 0; i < cleared.n_pinned; i++) {
        pc_publish_retract(clear->node, &cleared.pinned[i]);
    }
}

static void sweep(struct pc_clear *clear)
{
    struct peercache_node *node = clear->node;
    if (is_closing(clear)) {
        end(clear, PEERCACHE_SHUTDOWN);
        return;
    }
    if (!clear->holds_disk) {
        clear->holds_disk = pc_tier_clear_begin(node);
    }
    for (int i = 0; i < STEPS_PER_TURN && !clear->swept; i++) {
        sweep_pool(clear);
    }
    if (clear->swept && !clear->disk_swept) {
        clear->disk_swept =
            !pc_tier_clear_some(node, &clear->cursor, &clear->n_on_disk);
    }
    uint64_t n_gone = clear->sweep.n_gone + clear->n_on_disk;
    pc_metrics_add(&node->metrics, PC_METRIC_REMOVED,
                   n_gone - clear->n_counted);
    clear->n_counted = n_gone;
    (void)pc_pool_drain_gone(node); /* Queue the retracts now. */
    if (is_late(clear)) {
        end(clear, PEERCACHE_TIMED_OUT);
    } else if (clear->disk_swept) {
        empty_disk(clear);
    } else if (node->publisher.n_entries > BACKLOG_MAX) {
        wait_for_owners(clear);
    } else {
        /* Not in this turn, which is the others' as well. */
        pc_engine_timer_start(&node->engine, &clear->next,
                              pc_engine_now(&node->engine) + 1);
    }
}

static void start(struct pc_task *task)
{
    struct pc_clear *clear = PC_CONTAINER_OF(task, struct pc_clear, task);
    pc_engine_timer_init(&clear->next, go_on);
    sweep(clear);
}

void pc_clear_start(struct pc_clear *clear)
{
    clear->task.run = start;
    pc_engine_submit(&clear->node->engine, &clear->task);
}

/* ---- Public ----------------------------------------------------------- */

/* A clear that a thread waits for. */
struct waited
{
    struct pc_clear clear;
    struct pc_event over;
};

static void wake(struct pc_clear *clear)
{
    /* The last look at it: its memory is the waiting thread's. */
    pc_event_set(&PC_CONTAINER_OF(clear, struct waited, clear)->over, 1);
}

static peercache_status_t clear_all(peercache_node_t *node, uint64_t timeout_ns,
                                    uint64_t *n_removed_p)
{
    uint64_t now = pc_clock_now(&node->clock);
    uint64_t timeout =
        timeout_ns != 0 ? timeout_ns : node->settings.op_timeout_ns;
    struct waited waited = {.clear.node = node, .clear.done = wake};
    waited.clear.deadline_ns =
        timeout > UINT64_MAX / 2 ? UINT64_MAX / 2 : now + timeout;
    waited.clear.task.run = start;
    pc_event_init(&waited.over, 0);
    /* Without a limit: it looks at its deadline itself. */
    (void)pc_engine_call(&node->engine, &waited.clear.task, &waited.over,
                         UINT64_MAX);
    *n_removed_p = waited.clear.sweep.n_gone + waited.clear.n_on_disk;
    return waited.clear.status;
}

peercache_status_t peercache_node_clear(peercache_node_t *node,
                                        uint64_t timeout_ns,
                                        uint64_t *n_removed_p)
{
    uint64_t n_removed = 0;
    peercache_status_t status = PEERCACHE_INVALID;
    if (node != NULL && pc_node_is_forked(node)) {
        status = PEERCACHE_FORKED;
    } else if (node != NULL && !pc_engine_is_current(&node->engine)) {
        /* seq_cst: as for the verbs, the node's end sees us. */
        atomic_fetch_add_explicit(&node->n_calls, 1, memory_order_seq_cst);
        status = PEERCACHE_SHUTDOWN;
        if (!atomic_load_explicit(&node->closing, memory_order_seq_cst)) {
            status = node->client ? PEERCACHE_OK
                                  : clear_all(node, timeout_ns, &n_removed);
        }
        atomic_fetch_sub_explicit(&node->n_calls, 1, memory_order_seq_cst);
    }
    if (n_removed_p != NULL) {
        *n_removed_p = n_removed;
    }
    return status;
}
