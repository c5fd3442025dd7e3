#include "rings.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"

#include <string.h>
#include <time.h>

/* Points that are sorted in well below a millisecond. */
#define AT_ONCE_POINTS 2560

static uint64_t current_view(const struct peercache_node *node,
                             struct pc_msg_view *view_p)
{
    size_t n;
    uint64_t hash;
    const struct pc_member *members = pc_cluster_view(node->cluster, &n, &hash);
    /* The job copies them. */
    *view_p =
        (struct pc_msg_view){hash, (uint32_t)n, (struct pc_member *)members};
    return hash;
}

/* A ring of that view that is there already. */
static struct pc_ring *find_ring(const struct peercache_node *node,
                                 uint64_t hash)
{
    const struct pc_rings *r = &node->rings;
    if (pc_ring_view(node->ring) == hash) {
        return node->ring;
    }
    for (size_t i = 0; i < node->n_former; i++) {
        if (node->former[i].view == hash) {
            return node->former[i].ring;
        }
    }
    for (size_t i = 0; i < r->n_built; i++) {
        if (pc_ring_view(r->built[i]) == hash) {
            return r->built[i];
        }
    }
    return NULL;
}

/* ---- Building --------------------------------------------------------- */

static void job_free(struct pc_rings_job *job)
{
    for (size_t i = 0; i < job->n; i++) {
        pc_free(job->views[i].members);
        pc_ring_unref(job->rings[i]);
    }
    pc_free(job);
}

static uint64_t cpu_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * PC_S + (uint64_t)t.tv_nsec;
}

static struct pc_ring *make_ring(const struct peercache_node *node,
                                 const struct pc_msg_view *view)
{
    uint32_t vnodes = (uint32_t)node->settings.vnodes;
    uint32_t replicas = (uint32_t)node->settings.directory_replicas;
    if (node->make_ring != NULL) {
        return node->make_ring(node->make_ring_arg, view->members,
                               view->n_members, vnodes, replicas);
    }
    return pc_ring_create(view->members, view->n_members, vnodes, replicas);
}

static void build(struct pc_rings_job *job)
{
    uint64_t since_ns = cpu_now();
    for (size_t i = 0; i < job->n; i++) {
        job->rings[i] = make_ring(job->node, &job->views[i]);
    }
    job->cpu_ns = cpu_now() - since_ns;
}

static void *builder_main(void *arg)
{
    struct pc_rings_job *job = arg;
    build(job);
    pc_engine_submit(&job->node->engine, &job->task);
    return NULL;
}

/* Keep a ring until the node's rings are changed. */
static void keep_built(struct pc_rings *r, struct pc_ring *ring)
{
    if (r->n_built == PC_RINGS_MAX) {
        pc_ring_unref(r->built[0]);
        r->n_built--;
        memmove(&r->built[0], &r->built[1], r->n_built * sizeof(r->built[0]));
    }
    r->built[r->n_built++] = ring;
}

/* False: memory ran out for one of them. */
static bool take_built(struct pc_rings_job *job)
{
    struct peercache_node *node = job->node;
    bool all = true;
    for (size_t i = 0; i < job->n; i++) {
        if (job->rings[i] != NULL) {
            keep_built(&node->rings, job->rings[i]);
            job->rings[i] = NULL;
        } else {
            all = false;
        }
    }
    pc_metrics_add(&node->metrics, PC_METRIC_RING_BUILDS, job->n);
    pc_metrics_add(&node->metrics, PC_METRIC_RING_BUILD_US, job->cpu_ns / 1000);
    return all;
}

static bool add_view(struct pc_rings_job *job, const struct pc_msg_view *view)
{
    struct pc_msg_view *copy = &job->views[job->n];
    *copy = *view;
    copy->members = pc_alloc(view->n_members, sizeof(*copy->members));
    if (copy->members == NULL) {
        return false;
    }
    memcpy(copy->members, view->members,
           view->n_members * sizeof(*copy->members));
    job->n++;
    return true;
}

/* The views that there is no ring of, the current one first; *job_p NULL: none.
 * False: no memory. */
static bool collect(struct peercache_node *node, struct pc_rings_job **job_p)
{
    size_t n;
    struct pc_msg_view current;
    const struct pc_msg_view *former = pc_cluster_former(node->cluster, &n);
    uint64_t hash = current_view(node, &current);
    bool ok = true;
    *job_p = NULL;
    struct pc_rings_job *job = pc_alloc(1, sizeof(*job));
    if (job == NULL) {
        return false;
    }
    job->node = node;
    if (hash != 0 && find_ring(node, hash) == NULL) {
        ok = add_view(job, &current);
    }
    for (size_t i = 0; i < n && ok; i++) {
        if (find_ring(node, former[i].hash) == NULL) {
            ok = add_view(job, &former[i]);
        }
    }
    if (!ok || job->n == 0) {
        job_free(job);
        return ok;
    }
    *job_p = job;
    return true;
}

static uint64_t points_of(const struct pc_rings_job *job)
{
    uint64_t n = 0;
    for (size_t i = 0; i < job->n; i++) {
        n += job->views[i].n_members;
    }
    return n * (uint64_t)job->node->settings.vnodes;
}

/* ---- Taking into use -------------------------------------------------- */

static void set_former(struct peercache_node *node)
{
    size_t n;
    const struct pc_msg_view *views = pc_cluster_former(node->cluster, &n);
    struct pc_former former[PC_FORMER_VIEWS_MAX];
    size_t n_former = 0;
    for (size_t i = 0; i < n && i < PC_FORMER_VIEWS_MAX; i++) {
        struct pc_ring *ring = find_ring(node, views[i].hash);
        if (ring != NULL) {
            former[n_former++] =
                (struct pc_former){views[i].hash, pc_ring_ref(ring)};
        }
    }
    for (size_t i = 0; i < node->n_former; i++) {
        pc_ring_unref(node->former[i].ring);
    }
    memcpy(node->former, former, n_former * sizeof(former[0]));
    node->n_former = n_former;
}

static void drop_built(struct pc_rings *r)
{
    while (r->n_built > 0) {
        pc_ring_unref(r->built[--r->n_built]);
    }
}

/* The ring to go on with: of the current view, or, while views come faster
 * than rings are built, of the newest one since the node's own. */
static struct pc_ring *best_ring(const struct peercache_node *node)
{
    const struct pc_rings *r = &node->rings;
    struct pc_msg_view current;
    struct pc_ring *ring = find_ring(node, current_view(node, &current));
    if (ring != NULL) {
        return ring;
    }
    size_t n;
    const struct pc_msg_view *former = pc_cluster_former(node->cluster, &n);
    for (size_t i = n; i-- > 0;) {
        for (size_t k = 0; k < r->n_built; k++) {
            if (pc_ring_view(r->built[k]) == former[i].hash) {
                return r->built[k];
            }
        }
    }
    return node->ring;
}

static void use(struct peercache_node *node)
{
    struct pc_ring *ring = pc_ring_ref(best_ring(node));
    bool changed = ring != node->ring;
    set_former(node); /* Finds the old ring too, which may be one of them. */
    pc_ring_unref(node->ring);
    node->ring = ring;
    drop_built(&node->rings);
    if (changed) {
        pc_view_ring_changed(node);
    }
}

/* ---- The walk of an update -------------------------------------------- */

static void built(struct pc_task *task)
{
    struct pc_rings_job *job = PC_CONTAINER_OF(task, struct pc_rings_job, task);
    struct peercache_node *node = job->node;
    if (node->rings.job == NULL) {
        job_free(job); /* The node ends; its thread has been joined. */
        return;
    }
    (void)pthread_join(job->thread, NULL); /* This was its last act. */
    node->rings.job = NULL;
    node->ring_is_old = !take_built(job);
    job_free(job);
    if (!node->left) {
        use(node);
        if (!node->ring_is_old) {
            pc_rings_update(node); /* Views may have changed meanwhile. */
        }
    }
}

static void build_now(struct peercache_node *node, struct pc_rings_job *job)
{
    build(job);
    node->ring_is_old = !take_built(job);
    job_free(job);
    use(node);
}

void pc_rings_update(struct peercache_node *node)
{
    struct pc_rings_job *job;
    if (node->rings.job != NULL) {
        return; /* Looks again when it is done. */
    }
    if (!collect(node, &job)) {
        PC_ERROR("view", "no memory for a ring, keeping the old one");
        node->ring_is_old = true;
        return;
    }
    node->ring_is_old = false;
    if (job == NULL) {
        use(node);
        return;
    }
    if (node->manual || points_of(job) <= AT_ONCE_POINTS) {
        build_now(node, job);
        return;
    }
    job->task.run = built;
    node->rings.job = job;
    if (pthread_create(&job->thread, NULL, builder_main, job) != 0) {
        PC_WARN("view", "no thread to build a ring, the engine does");
        node->rings.job = NULL;
        build_now(node, job);
    }
}

bool pc_rings_are_current(const struct peercache_node *node)
{
    size_t n;
    uint64_t hash;
    (void)pc_cluster_view(node->cluster, &n, &hash);
    return pc_ring_view(node->ring) == hash && node->rings.job == NULL;
}

void pc_rings_stop(struct peercache_node *node)
{
    if (node->rings.job != NULL) {
        (void)pthread_join(node->rings.job->thread, NULL);
        node->rings.job = NULL; /* Its task frees it. */
    }
}

void pc_rings_fini(struct peercache_node *node)
{
    drop_built(&node->rings);
}
