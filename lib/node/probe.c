#include "probe.h"

#include "base/mem.h"
#include "node/node.h"

struct pc_put_probe
{
    struct pc_task task;
    struct pc_lookup lookup;
    struct peercache_node *node;
    struct peercache_op *op; /* Waits for it. */
    uint64_t deadline_ns;
    bool over;
    uint32_t n;
    struct pc_digest *digests;
    uint32_t *items;
    uint64_t *lengths;
    struct pc_record *found; /* length 0: nobody is known to hold it. */
};

static void probe_free(struct pc_put_probe *probe)
{
    pc_free(probe->digests);
    pc_free(probe->items);
    pc_free(probe->lengths);
    pc_free(probe->found);
    pc_free(probe);
}

/* It drains: not a copy to count on. */
static bool is_going(const struct peercache_node *node, uint64_t incarnation)
{
    const struct pc_member *m = pc_cluster_find(node->cluster, incarnation);
    return m != NULL && m->state == PC_MEMBER_DRAINING;
}

static void probe_found(struct pc_lookup *lookup, uint32_t k,
                        const struct pc_record *records, size_t n)
{
    struct pc_put_probe *probe =
        PC_CONTAINER_OF(lookup, struct pc_put_probe, lookup);
    for (size_t r = 0; r < n && probe->found[k].length == 0; r++) {
        if (records[r].incarnation != probe->node->self.incarnation &&
            !pc_record_is_on_disk(&records[r]) &&
            records[r].length == probe->lengths[k] &&
            !is_going(probe->node, records[r].incarnation)) {
            probe->found[k] = records[r];
        }
    }
}

static void probe_ended(struct pc_lookup *lookup, uint32_t k,
                        enum pc_lookup_answer answer)
{
    (void)lookup;
    (void)k;
    (void)answer; /* Only a holder's own word matters. */
}

static void probe_progress(struct pc_lookup *lookup)
{
    (void)lookup;
}

static void probe_over(struct pc_put_probe *probe)
{
    struct peercache_op *op = probe->op;
    probe->op = NULL;
    probe->over = true;
    if (op != NULL) {
        op->n_under_way--;
        pc_op_advance(op);
    }
}

static void probe_finished(struct pc_lookup *lookup)
{
    probe_over(PC_CONTAINER_OF(lookup, struct pc_put_probe, lookup));
}

static void probe_run(struct pc_task *task)
{
    struct pc_put_probe *probe =
        PC_CONTAINER_OF(task, struct pc_put_probe, task);
    struct peercache_node *node = probe->node;
    probe->lookup.found = probe_found;
    probe->lookup.ended = probe_ended;
    probe->lookup.progress = probe_progress;
    probe->lookup.finished = probe_finished;
    if (atomic_load_explicit(&node->closing, memory_order_acquire) ||
        pc_lookup_start(&probe->lookup, node, PC_LOOKUP_HINT, probe->digests,
                        probe->items, probe->n,
                        probe->deadline_ns) != PEERCACHE_OK) {
        probe_over(probe);
    }
}

void pc_probe_start(struct peercache_op *op, size_t first, size_t end, size_t n)
{
    struct peercache_node *node = op->node;
    /* relaxed: a hint; a node that joins now is asked for the next part. */
    if (atomic_load_explicit(&node->n_members, memory_order_relaxed) <= 1 ||
        op->probe != NULL) {
        return;
    }
    struct pc_put_probe *probe = pc_alloc(1, sizeof(*probe));
    if (probe == NULL) {
        return; /* Stored without asking. */
    }
    probe->digests = pc_alloc(n, sizeof(*probe->digests));
    probe->items = pc_alloc(n, sizeof(*probe->items));
    probe->found = pc_alloc(n, sizeof(*probe->found));
    probe->lengths = pc_alloc(n, sizeof(*probe->lengths));
    if (probe->digests == NULL || probe->items == NULL ||
        probe->found == NULL || probe->lengths == NULL) {
        probe_free(probe);
        return;
    }
    for (size_t i = first; i < end; i++) {
        if (op->state[i].state == PC_ITEM_NEW) {
            op->state[i].u.put.probe = probe->n;
            probe->digests[probe->n] = op->state[i].digest;
            probe->items[probe->n] = probe->n;
            probe->lengths[probe->n] = op->state[i].length;
            probe->n++;
        }
    }
    probe->node = node;
    probe->deadline_ns = op->deadline_ns;
    probe->task.run = probe_run;
    op->probe = probe;
    pc_engine_offer(&node->engine, &probe->task);
}

/* What was found of an item that was asked for; or NULL. */
static const struct pc_record *found_of(const struct pc_put_probe *probe,
                                        const struct pc_op_item *state)
{
    uint32_t k = state->u.put.probe;
    if (k >= probe->n || !pc_digest_equal(probe->digests[k], state->digest) ||
        probe->found[k].length != state->length) {
        return NULL;
    }
    return &probe->found[k];
}

bool pc_probe_is_asking(struct peercache_op *op)
{
    struct pc_put_probe *probe = op->probe;
    if (probe == NULL) {
        return false;
    }
    if (!probe->over) {
        if (probe->op == NULL) {
            probe->op = op;
            op->n_under_way++;
        }
        return true;
    }
    for (size_t i = 0; i < op->n_items; i++) {
        struct pc_op_item *state = &op->state[i];
        const struct pc_record *record =
            state->state == PC_ITEM_WRITTEN ? found_of(probe, state) : NULL;
        if (record != NULL) {
            state->places[0] = *record;
            state->n_places = 1;
            state->at = 0;
        }
    }
    op->probe = NULL;
    probe_free(probe);
    return false;
}

void pc_probe_drop(struct peercache_op *op)
{
    struct pc_put_probe *probe = op->probe;
    if (probe == NULL) {
        return;
    }
    if (probe->op != NULL) {
        op->n_under_way--;
    }
    pc_lookup_stop(&probe->lookup);
    op->probe = NULL;
    probe_free(probe);
}
