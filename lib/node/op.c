#include "op.h"

#include "base/digest.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>

uint64_t pc_item_length(const peercache_item_t *item)
{
    uint64_t length = 0;
    for (size_t i = 0; i < item->n_pieces; i++) {
        length += item->pieces[i].len;
    }
    return length;
}

static void cancel_run(struct pc_task *task);

static void fill_items(struct peercache_op *op,
                       const peercache_op_params_t *params)
{
    for (size_t i = 0; i < op->n_items; i++) {
        peercache_item_t *item = &op->items[i];
        struct pc_op_item *state = &op->state[i];
        state->digest =
            pc_digest_key(op->node->key_seed, params->name_space,
                          params->name_space_len, item->key, item->key_len);
        state->length = pc_item_length(item);
        pc_list_init(&state->u.put.wait);
        item->status = PEERCACHE_IN_PROGRESS;
        item->source = PEERCACHE_FROM_NONE;
        item->value_len = 0;
    }
}

struct peercache_op *pc_op_create(struct peercache_node *node,
                                  enum pc_verb verb, peercache_item_t *items,
                                  size_t n_items,
                                  const peercache_op_params_t *params,
                                  bool blocking)
{
    struct peercache_op *op = pc_alloc(1, sizeof(*op));
    if (op == NULL) {
        return NULL;
    }
    op->state = pc_alloc(n_items, sizeof(*op->state));
    if (op->state == NULL) {
        pc_free(op);
        return NULL;
    }
    op->node = node;
    op->verb = verb;
    op->flags = params->flags;
    op->blocking = blocking;
    op->items = items;
    op->n_items = n_items;
    op->n_open = n_items;
    op->done = params->done;
    op->arg = params->arg;
    op->started_ns = pc_clock_now(&node->clock);
    uint64_t timeout = params->timeout_ns != 0 ? params->timeout_ns
                                               : node->settings.op_timeout_ns;
    op->deadline_ns =
        timeout > UINT64_MAX / 2 ? UINT64_MAX / 2 : op->started_ns + timeout;
    atomic_init(&op->status, PEERCACHE_IN_PROGRESS);
    atomic_init(&op->refs, 2);
    atomic_init(&op->cancel, false);
    atomic_init(&op->cancel_sent, false);
    pc_event_init(&op->event, PC_OP_RUNNING);
    pc_list_init(&op->link);
    pc_list_init(&op->queue);
    pc_list_init(&op->soon);
    pc_list_init(&op->reads);
    op->task.run = pc_op_enter_engine;
    op->cancel_task.run = cancel_run;
    fill_items(op, params);
    return op;
}

void pc_op_unref(struct peercache_op *op)
{
    /* acq_rel: the last one sees all that the others did. */
    if (atomic_fetch_sub_explicit(&op->refs, 1, memory_order_acq_rel) == 1) {
        pc_free(op->state);
        pc_free(op);
    }
}

/* ---- Results ---------------------------------------------------------- */

void pc_op_item_done(struct peercache_op *op, size_t index,
                     peercache_status_t status, peercache_source_t source)
{
    PC_ASSERT(op->state[index].state != PC_ITEM_DONE);
    op->state[index].state = PC_ITEM_DONE;
    op->items[index].status = status;
    op->items[index].source = source;
    op->n_open--;
}

static peercache_status_t miss_status(enum pc_miss miss)
{
    switch (miss) {
    case PC_MISS_CORRUPT:
        return PEERCACHE_CORRUPT;
    case PC_MISS_TIMED_OUT:
        return PEERCACHE_TIMED_OUT;
    case PC_MISS_SIZE:
        return PEERCACHE_SIZE_MISMATCH;
    case PC_MISS_CANCELED:
        return PEERCACHE_CANCELED;
    case PC_MISS_SHUTDOWN:
        return PEERCACHE_SHUTDOWN;
    default:
        return PEERCACHE_NOT_FOUND;
    }
}

static enum pc_metric miss_metric(enum pc_miss miss)
{
    switch (miss) {
    case PC_MISS_STALE:
        return PC_METRIC_MISS_STALE;
    case PC_MISS_CORRUPT:
        return PC_METRIC_MISS_CORRUPT;
    case PC_MISS_PEER_DOWN:
        return PC_METRIC_MISS_PEER_DOWN;
    case PC_MISS_TIMED_OUT:
        return PC_METRIC_MISS_TIMED_OUT;
    case PC_MISS_NO_PATH:
        return PC_METRIC_MISS_NO_PATH;
    case PC_MISS_BUSY:
        return PC_METRIC_MISS_BUSY;
    case PC_MISS_SIZE:
        return PC_METRIC_MISS_SIZE;
    case PC_MISS_CANCELED:
        return PC_METRIC_MISS_CANCELED;
    case PC_MISS_SHUTDOWN:
        return PC_METRIC_MISS_SHUTDOWN;
    case PC_MISS_NO_MEMORY:
        return PC_METRIC_MISS_NO_MEMORY;
    default:
        return PC_METRIC_MISS_NOT_FOUND;
    }
}

static enum pc_metric exists_miss_metric(enum pc_miss miss)
{
    switch (miss) {
    case PC_MISS_NOT_FOUND:
        return PC_METRIC_EXISTS_MISS_NOT_FOUND;
    case PC_MISS_PEER_DOWN:
        return PC_METRIC_EXISTS_MISS_PEER_DOWN;
    case PC_MISS_TIMED_OUT:
        return PC_METRIC_EXISTS_MISS_TIMED_OUT;
    default:
        return PC_METRIC_EXISTS_MISS_OTHER;
    }
}

/* What a value was waiting for when its time was over. */
static enum pc_metric late_metric(const struct peercache_op *op, size_t index)
{
    uint8_t state = op->state[index].stopped;
    if (state == PC_ITEM_DISK || state == PC_ITEM_PINNED ||
        (op->verb == PC_VERB_GET &&
         (op->state[index].flags & PC_ITEM_BUSY) != 0)) {
        return PC_METRIC_LATE_DISK;
    }
    if (!op->node->view_ready) {
        return PC_METRIC_LATE_VIEW;
    }
    switch (state) {
    case PC_ITEM_LOOKUP:
    case PC_ITEM_ASKED:
        return PC_METRIC_LATE_LOOKUP;
    case PC_ITEM_WRITTEN: /* Its dedupe asks where it is. */
        return PC_METRIC_LATE_LOOKUP;
    case PC_ITEM_READY:
    case PC_ITEM_PATH:
        return PC_METRIC_LATE_PATH;
    case PC_ITEM_READING:
        return PC_METRIC_LATE_READ;
    case PC_ITEM_TOUCHING:
        return PC_METRIC_LATE_TOUCH;
    case PC_ITEM_PUBLISHED:
        return PC_METRIC_LATE_PUBLISH;
    case PC_ITEM_REMOVING:
        return PC_METRIC_LATE_REMOVE;
    default:
        return PC_METRIC_LATE_COPY;
    }
}

void pc_op_item_miss(struct peercache_op *op, size_t index, enum pc_miss miss)
{
    if (op->verb == PC_VERB_GET) {
        pc_metrics_add(&op->node->metrics, miss_metric(miss), 1);
        if (miss == PC_MISS_SIZE) {
            op->items[index].value_len = op->state[index].other_length;
        }
    } else if (op->verb == PC_VERB_EXISTS) {
        pc_metrics_add(&op->node->metrics, exists_miss_metric(miss), 1);
    }
    pc_op_item_done(op, index, miss_status(miss), PEERCACHE_FROM_NONE);
}

static enum pc_miss verdict_miss(peercache_status_t verdict)
{
    switch (verdict) {
    case PEERCACHE_TIMED_OUT:
        return PC_MISS_TIMED_OUT;
    case PEERCACHE_CANCELED:
        return PC_MISS_CANCELED;
    case PEERCACHE_SHUTDOWN:
        return PC_MISS_SHUTDOWN;
    default:
        return PC_MISS_NO_MEMORY;
    }
}

static void count_get(struct peercache_op *op)
{
    struct pc_metrics *m = &op->node->metrics;
    uint64_t from[PEERCACHE_FROM_DISK + 1] = {0};
    uint64_t bytes = 0;
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->items[i].status == PEERCACHE_OK) {
            from[op->items[i].source]++;
            bytes += op->state[i].length;
        }
    }
    uint64_t remote = from[PEERCACHE_FROM_MAPPED] +
                      from[PEERCACHE_FROM_ONE_SIDED] +
                      from[PEERCACHE_FROM_SERVED];
    uint64_t hits =
        remote + from[PEERCACHE_FROM_LOCAL] + from[PEERCACHE_FROM_DISK];
    pc_metrics_add(m, PC_METRIC_READ_REQUESTS, op->n_items);
    pc_metrics_add(m, PC_METRIC_READ_HITS, hits);
    pc_metrics_add(m, PC_METRIC_READ_MISSES, op->n_items - hits);
    pc_metrics_add(m, PC_METRIC_READ_LOCAL, from[PEERCACHE_FROM_LOCAL]);
    pc_metrics_add(m, PC_METRIC_READ_REMOTE, remote);
    pc_metrics_add(m, PC_METRIC_READ_DISK, from[PEERCACHE_FROM_DISK]);
    pc_metrics_add(m, PC_METRIC_READ_MODE_MAPPED, from[PEERCACHE_FROM_MAPPED]);
    pc_metrics_add(m, PC_METRIC_READ_MODE_ONE_SIDED,
                   from[PEERCACHE_FROM_ONE_SIDED]);
    pc_metrics_add(m, PC_METRIC_READ_MODE_SERVED, from[PEERCACHE_FROM_SERVED]);
    pc_metrics_add(m, PC_METRIC_BYTES_READ, bytes);
}

static void count_put(struct peercache_op *op)
{
    struct pc_metrics *m = &op->node->metrics;
    pc_metrics_add(m, PC_METRIC_WRITE_REQUESTS, op->n_items);
    for (size_t i = 0; i < op->n_items; i++) {
        switch (op->items[i].status) {
        case PEERCACHE_OK:
            break;
        case PEERCACHE_NO_SPACE:
            pc_metrics_add(m, PC_METRIC_WRITE_FAILED_NO_SPACE, 1);
            break;
        case PEERCACHE_TIMED_OUT:
            pc_metrics_add(m, PC_METRIC_WRITE_FAILED_TIMED_OUT, 1);
            break;
        default:
            pc_metrics_add(m, PC_METRIC_WRITE_FAILED_OTHER, 1);
            break;
        }
    }
}

static void count(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    uint64_t ns = pc_clock_now(&node->clock) - op->started_ns;
    switch (op->verb) {
    case PC_VERB_GET:
        count_get(op);
        pc_histogram_add(&node->read_latency, ns);
        break;
    case PC_VERB_PUT:
        count_put(op);
        pc_histogram_add(&node->write_latency, ns);
        break;
    case PC_VERB_EXISTS:
        pc_metrics_add(&node->metrics, PC_METRIC_EXISTS_REQUESTS, 1);
        pc_metrics_add(&node->metrics, PC_METRIC_EXISTS_ASKED, op->n_items);
        for (size_t i = 0; i < op->n_items; i++) {
            if (op->items[i].status == PEERCACHE_OK) {
                pc_metrics_add(&node->metrics, PC_METRIC_EXISTS_FOUND, 1);
            }
        }
        break;
    case PC_VERB_REMOVE:
        break;
    }
}

static peercache_status_t result_of(const struct peercache_op *op)
{
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->items[i].status != PEERCACHE_OK) {
            return PEERCACHE_PARTIAL;
        }
    }
    return PEERCACHE_OK;
}

/* Everything is known: publish the result. From here on the user may free op
 * and the items; only our own reference keeps op for the last lines. */
static void end(struct peercache_op *op)
{
    struct peercache_node *node = op->node;
    PC_ASSERT(op->n_open == 0 && pc_list_is_empty(&op->reads));
    count(op);
    atomic_store_explicit(&op->status, result_of(op), memory_order_release);
    peercache_done_fn done = op->done;
    void *arg = op->arg;
    if (done != NULL) {
        done(op, arg);
    }
    pc_event_set(&op->event, PC_OP_ENDED);
    /* A cancel that won this flag still needs the node: its task counts the
     * operation off. acq_rel: one of both sees the other. */
    bool canceling = atomic_exchange_explicit(&op->cancel_sent, true,
                                              memory_order_acq_rel) &&
                     !op->cancel_ran;
    if (canceling) {
        op->owes_count = true;
    } else if (op->counted) {
        atomic_fetch_sub_explicit(&node->n_ops, 1, memory_order_acq_rel);
    }
    pc_op_unref(op);
}

void pc_op_finish_in_caller(struct peercache_op *op)
{
    end(op);
}

/* ---- In the engine ---------------------------------------------------- */

static void leave_engine(struct peercache_op *op)
{
    op->in_engine = false;
    pc_list_remove(&op->link);
    pc_list_remove(&op->queue);
    pc_list_remove(&op->soon);
    pc_engine_timer_stop(&op->node->engine, &op->deadline);
}

static void run_verb(struct peercache_op *op)
{
    switch (op->verb) {
    case PC_VERB_PUT:
        pc_put_engine(op);
        break;
    case PC_VERB_GET:
        pc_get_engine(op);
        break;
    case PC_VERB_EXISTS:
        pc_exists_engine(op);
        break;
    case PC_VERB_REMOVE:
        pc_remove_engine(op);
        break;
    }
}

/* Only copies are left, or (put) the next part of a large batch. */
static bool wants_copier(const struct peercache_op *op)
{
    if (op->verb == PC_VERB_PUT) {
        return op->next < op->n_items;
    }
    for (size_t i = 0; i < op->n_items; i++) {
        if (op->state[i].state == PC_ITEM_COPY ||
            op->state[i].state == PC_ITEM_PINNED) {
            return true;
        }
    }
    return false;
}

static void hand_to_copier(struct peercache_op *op)
{
    leave_engine(op);
    if (op->blocking) {
        pc_event_set(&op->event, PC_OP_COPY);
    } else {
        pc_threads_copy(op->node, op);
    }
}

static void conclude(struct peercache_op *op)
{
    if (op->n_under_way > 0) {
        return;
    }
    if (op->stopping) {
        pc_get_cleanup(op);
        enum pc_miss miss = verdict_miss(op->verdict);
        for (size_t i = 0; i < op->n_items; i++) {
            if (op->state[i].state == PC_ITEM_DONE) {
                continue;
            }
            if (miss == PC_MISS_TIMED_OUT) {
                pc_metrics_add(&op->node->metrics, late_metric(op, i), 1);
            }
            pc_op_item_miss(op, i, miss);
        }
    }
    if (op->n_open > 0) {
        /* What has come to a get does not wait for items that rest: its pins
         * would be missing elsewhere, and at the deadline it would be lost. */
        if ((op->verb == PC_VERB_GET || !pc_list_is_linked(&op->queue)) &&
            wants_copier(op)) {
            hand_to_copier(op);
        }
        return;
    }
    if (op->verb == PC_VERB_PUT) {
        pc_put_cleanup(op);
    }
    leave_engine(op);
    end(op);
}

void pc_op_advance(struct peercache_op *op)
{
    PC_ASSERT_ENGINE(&op->node->engine);
    if (!op->in_engine) {
        return;
    }
    if (op->advancing) {
        op->again = true;
        return;
    }
    op->advancing = true;
    do {
        op->again = false;
        if (!op->stopping) {
            run_verb(op);
        }
    } while (op->again);
    op->advancing = false;
    conclude(op);
}

void pc_op_advance_soon(struct peercache_op *op)
{
    PC_ASSERT_ENGINE(&op->node->engine);
    if (op->in_engine && !pc_list_is_linked(&op->soon)) {
        pc_list_push_back(&op->node->soon_ops, &op->soon);
    }
}

unsigned pc_op_advance_all(struct peercache_node *node)
{
    unsigned n = 0;
    struct pc_list *at;
    while ((at = pc_list_pop_front(&node->soon_ops)) != NULL) {
        pc_op_advance(PC_CONTAINER_OF(at, struct peercache_op, soon));
        n++;
    }
    return n;
}

static void stop_reads(struct peercache_op *op, peercache_status_t verdict)
{
    struct pc_list *at = op->reads.next;
    while (at != &op->reads) {
        struct pc_read *read = PC_CONTAINER_OF(at, struct pc_read, link);
        at = at->next;
        read->stop(read, verdict);
    }
}

void pc_op_stop(struct peercache_op *op, peercache_status_t verdict)
{
    if (!op->in_engine) {
        return;
    }
    if (op->stopping) {
        /* A cancel waits for what is under way, but not beyond the deadline. */
        if (op->verdict == PEERCACHE_CANCELED &&
            verdict != PEERCACHE_CANCELED) {
            stop_reads(op, verdict);
            pc_op_advance(op);
        }
        return;
    }
    op->stopping = true;
    op->verdict = verdict;
    for (size_t i = 0; i < op->n_items; i++) {
        op->state[i].stopped = op->state[i].state;
    }
    if (verdict != PEERCACHE_CANCELED) {
        pc_engine_timer_stop(&op->node->engine, &op->deadline);
    }
    pc_list_remove(&op->queue);
    if (op->lookup.active) {
        pc_lookup_stop(&op->lookup);
        op->n_under_way--;
    }
    if (op->verb == PC_VERB_PUT) {
        pc_put_cleanup(op);
    }
    stop_reads(op, verdict);
    pc_op_advance(op);
}

static void deadline_passed(struct pc_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    pc_op_stop(PC_CONTAINER_OF(timer, struct peercache_op, deadline),
               PEERCACHE_TIMED_OUT);
}

void pc_op_enter_engine(struct pc_task *task)
{
    struct peercache_op *op = PC_CONTAINER_OF(task, struct peercache_op, task);
    struct peercache_node *node = op->node;
    op->in_engine = true;
    pc_list_push_back(&node->ops, &op->link);
    pc_engine_timer_init(&op->deadline, deadline_passed);
    if (atomic_load_explicit(&node->closing, memory_order_acquire)) {
        pc_op_stop(op, PEERCACHE_SHUTDOWN);
        return;
    }
    if (atomic_load_explicit(&op->cancel, memory_order_acquire)) {
        pc_op_stop(op, PEERCACHE_CANCELED);
        return;
    }
    if (pc_engine_now(&node->engine) >= op->deadline_ns && op->n_open > 0) {
        pc_op_stop(op, PEERCACHE_TIMED_OUT);
        return;
    }
    pc_engine_timer_start(&node->engine, &op->deadline, op->deadline_ns);
    if (op->n_open > 0 && !pc_view_wait(node, op)) {
        return; /* It comes back when there is a view. */
    }
    pc_op_advance(op);
}

static void cancel_run(struct pc_task *task)
{
    struct peercache_op *op =
        PC_CONTAINER_OF(task, struct peercache_op, cancel_task);
    struct peercache_node *node = op->node;
    op->cancel_ran = true;
    pc_op_stop(op, PEERCACHE_CANCELED);
    if (op->owes_count && op->counted) {
        atomic_fetch_sub_explicit(&node->n_ops, 1, memory_order_acq_rel);
    }
    pc_op_unref(op);
}
