#include "compare.h"

#include "base/mem.h"
#include "directory/summary.h"
#include "node/node.h"

/* A segment of the shard each two milliseconds: below half of one. */
#define SLICE_CELLS 2048
#define SLICE_NS    (2 * PC_MS)
/* Cells that a list looks at before it answers with what it has. */
#define LIST_CELLS 4096

/* Who has not asked for so long asks no more. */
#define FORGOTTEN_NS (10 * PC_S)

struct job
{
    struct pc_list link;
    uint64_t holder, view, highest;
    uint64_t asked_ns; /* Last. */
    size_t from;       /* Where the walk was, */
    uint64_t laps;     /* and in which lap. */
    bool done;
    struct pc_summary sums;
};

static void job_free(struct peercache_node *node, struct job *job)
{
    pc_list_remove(&job->link);
    (void)pc_map_remove(&node->compare.by_incarnation, pc_map_key(job->holder));
    pc_free(job);
}

static struct job *job_of(const struct peercache_node *node, uint64_t holder)
{
    uint64_t value;
    if (!pc_map_get(&node->compare.by_incarnation, pc_map_key(holder),
                    &value)) {
        return NULL;
    }
    return (struct job *)(uintptr_t)value;
}

static void send(struct pc_conn *conn, struct pc_msg *msg)
{
    if (pc_conn_send(conn, msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
    }
}

static void answer(struct peercache_node *node, struct pc_conn *conn,
                   const struct pc_msg *msg, struct job *job)
{
    struct pc_msg out = {.type = PC_MSG_SUMMARIZED, .request = msg->request};
    struct pc_msg_summarized *s = &out.u.summarized;
    s->view = pc_ring_view(node->ring);
    s->state = PC_SUMMARY_DIFFERENT;
    if (s->view != msg->u.summary.view) {
        s->state = PC_SUMMARY_OTHER_VIEW;
    } else if (!job->done) {
        s->state = PC_SUMMARY_WAIT;
    } else if (pc_summary_count(&job->sums) == msg->u.summary.count &&
               pc_summary_hash(&job->sums) == msg->u.summary.hash) {
        s->state = PC_SUMMARY_SAME;
    } else {
        s->n_ranges = PC_SUMMARY_RANGES;
        s->counts = job->sums.counts;
        s->hashes = job->sums.hashes;
    }
    send(conn, &out);
    if (s->state != PC_SUMMARY_WAIT) {
        job_free(node, job);
    }
}

/* ---- The walk --------------------------------------------------------- */

static bool sum_record(void *arg, const struct pc_record *record)
{
    struct peercache_node *node = arg;
    struct job *job = job_of(node, record->incarnation);
    if (job != NULL && !job->done && record->generation <= job->highest &&
        pc_ring_owns(node->ring, record->digest, node->self.incarnation)) {
        pc_summary_add(&job->sums, record, 1);
    }
    return true;
}

/* Jobs that the walk has come round for; true: some are left. */
static bool look_at_jobs(struct peercache_node *node, uint64_t now_ns)
{
    struct pc_compare *c = &node->compare;
    struct pc_list *at = c->jobs.next;
    bool any = false;
    while (at != &c->jobs) {
        struct job *job = PC_CONTAINER_OF(at, struct job, link);
        at = at->next;
        job->done = job->done || c->laps > job->laps + 1 ||
                    (c->laps == job->laps + 1 && c->at >= job->from);
        any = any || !job->done;
        if (job->view != pc_ring_view(node->ring) ||
            now_ns - job->asked_ns >= FORGOTTEN_NS) {
            job_free(node, job);
        }
    }
    return any;
}

static void walk(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_compare *c = PC_CONTAINER_OF(timer, struct pc_compare, timer);
    struct peercache_node *node =
        PC_CONTAINER_OF(c, struct peercache_node, compare);
    c->walking = false;
    if (!pc_shard_sweep(node->shard, &c->at, SLICE_CELLS, sum_record, node)) {
        c->at = 0;
        c->laps++;
    }
    if (look_at_jobs(node, now_ns)) {
        c->walking = true;
        pc_engine_timer_start(&node->engine, timer, now_ns + SLICE_NS);
    }
}

static struct job *add_job(struct peercache_node *node, uint64_t holder,
                           const struct pc_msg_summary *summary)
{
    struct pc_compare *c = &node->compare;
    struct job *job = pc_alloc(1, sizeof(*job));
    if (job == NULL || !pc_map_put(&c->by_incarnation, pc_map_key(holder),
                                   (uint64_t)(uintptr_t)job)) {
        pc_free(job);
        return NULL;
    }
    job->holder = holder;
    job->view = summary->view;
    job->highest = summary->highest;
    job->from = c->at;
    job->laps = c->laps;
    job->asked_ns = pc_engine_now(&node->engine);
    pc_list_push_back(&c->jobs, &job->link);
    if (!c->walking) {
        walk(&c->timer, job->asked_ns); /* A small shard is done at once. */
    }
    return job_of(node, holder);
}

void pc_compare_summary(struct peercache_node *node, struct pc_conn *conn,
                        const struct pc_msg *msg)
{
    const struct pc_msg_summary *summary = &msg->u.summary;
    struct pc_msg out = {.type = PC_MSG_SUMMARIZED, .request = msg->request};
    uint64_t holder = conn->remote.incarnation;
    struct job *job = job_of(node, holder);
    if (summary->view != pc_ring_view(node->ring)) {
        out.u.summarized.view = pc_ring_view(node->ring);
        out.u.summarized.state = PC_SUMMARY_OTHER_VIEW;
        send(conn, &out);
        return;
    }
    if (job != NULL &&
        (job->view != summary->view || job->highest != summary->highest)) {
        job_free(node, job); /* A new round. */
        job = NULL;
    }
    if (job == NULL) {
        job = add_job(node, holder, summary);
    }
    if (job == NULL) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
        return;
    }
    job->asked_ns = pc_engine_now(&node->engine);
    answer(node, conn, msg, job);
}

/* ---- Lists ------------------------------------------------------------ */

struct listing
{
    struct peercache_node *node;
    const struct pc_msg_list *list;
    uint64_t holder;
    struct pc_msg_listed *out;
    uint32_t max;
    bool full;
};

static bool list_record(void *arg, const struct pc_record *record)
{
    struct listing *l = arg;
    if (record->incarnation == l->holder &&
        record->generation <= l->list->highest &&
        pc_summary_range(record->digest) == l->list->range &&
        pc_ring_owns(l->node->ring, record->digest,
                     l->node->self.incarnation)) {
        l->full = l->full || l->out->n_keys == l->max;
        if (!l->full) {
            l->out->digests[l->out->n_keys] = record->digest;
            l->out->generations[l->out->n_keys++] = record->generation;
        }
    }
    return true;
}

/* Pages end between segments; a segment has no more than SLICE_CELLS. */
static void fill_list(struct listing *l)
{
    struct pc_shard *shard = l->node->shard;
    size_t from = (size_t)l->list->range << (PC_SHARD_PLACE_BITS - 6);
    size_t end = from + ((size_t)1 << (PC_SHARD_PLACE_BITS - 6));
    size_t at = l->list->from == 0 ? from : (size_t)l->list->from;
    for (uint32_t n = 0; n < LIST_CELLS / SLICE_CELLS && at < end; n++) {
        (void)pc_shard_sweep(shard, &at, 1, list_record, l);
    }
    l->out->next = at < end ? at : 0;
}

void pc_compare_list(struct peercache_node *node, struct pc_conn *conn,
                     const struct pc_msg *msg)
{
    const struct pc_msg_list *list = &msg->u.list;
    struct pc_msg out = {.type = PC_MSG_LISTED, .request = msg->request};
    struct pc_msg_listed *listed = &out.u.listed;
    struct listing l = {.node = node,
                        .list = list,
                        .holder = conn->remote.incarnation,
                        .out = listed,
                        .max = PC_KEYS_PER_REQUEST};
    listed->view = pc_ring_view(node->ring);
    listed->state = listed->view == list->view ? PC_SUMMARY_DIFFERENT
                                               : PC_SUMMARY_OTHER_VIEW;
    listed->digests = pc_alloc(l.max, sizeof(*listed->digests));
    listed->generations = pc_alloc(l.max, sizeof(*listed->generations));
    if (listed->digests == NULL || listed->generations == NULL) {
        pc_conn_fail(conn, msg->request, PEERCACHE_NO_MEMORY, "no memory");
    } else {
        if (listed->state == PC_SUMMARY_DIFFERENT) {
            fill_list(&l);
        }
        send(conn, &out);
    }
    pc_free(listed->digests);
    pc_free(listed->generations);
}

void pc_compare_init(struct peercache_node *node)
{
    pc_list_init(&node->compare.jobs);
    pc_map_init(&node->compare.by_incarnation);
    pc_engine_timer_init(&node->compare.timer, walk);
}

void pc_compare_fini(struct peercache_node *node)
{
    struct pc_list *jobs = &node->compare.jobs;
    pc_engine_timer_stop(&node->engine, &node->compare.timer);
    while (!pc_list_is_empty(jobs)) {
        job_free(node, PC_CONTAINER_OF(jobs->next, struct job, link));
    }
    pc_map_fini(&node->compare.by_incarnation);
}
