/*
 * peercache-demo - four nodes as four processes share the KV pages of a chat.
 *
 *     start ─► all see four members ─► replay, one is killed ─► measure ─►
 * table
 *
 * The driver hands each request to a server that is chosen at random, so that
 * prefixes computed on one are asked for on another. It never touches the
 * library itself: all it knows is what its nodes tell.
 */
#include "clock.h"
#include "driver.h"
#include "limits.h"
#include "line.h"

#include <signal.h>
#include <stdlib.h>

static double seconds_since(uint64_t then)
{
    return (double)(clock_ns() - then) / 1e9;
}

static unsigned index_of(const struct driver *d, const struct node *node)
{
    return (unsigned)(node - d->nodes);
}

/* ---- What nodes tell ------------------------------------------------------
 */

static void take_measured(struct driver *d, struct node *node, const char *line)
{
    struct measured *m = &d->measured[index_of(d, node)];
    uint64_t ns = line_number(line, "ns");
    m->speed = ns > 0 ? (double)line_number(line, "bytes") / (double)ns : 0;
    m->by_mode['m'] = line_number(line, "m");
    m->by_mode['o'] = line_number(line, "o");
    m->by_mode['s'] = line_number(line, "s");
    account_calls(&d->account, index_of(d, node), line);
}

static void take_line(void *arg, struct node *node, const char *line)
{
    struct driver *d = arg;
    size_t len = 0;
    const char *event = line_text(line, "event", &len);
    if (len == 5 && memcmp(event, "ready", 5) == 0) {
        node->ready = true;
    } else if (len == 4 && memcmp(event, "done", 4) == 0) {
        account_done(&d->account, &node->flight, index_of(d, node), line);
        node->busy = false;
    } else if (len == 8 && memcmp(event, "measured", 8) == 0) {
        take_measured(d, node, line);
        node->busy = false;
    } else if (len == 6 && memcmp(event, "failed", 6) == 0) {
        printf("%s: %s\n", node->name, line);
        d->broken = true;
    }
}

/* Listen; false: a node is gone that should be there, or says nothing. */
static bool listen(struct driver *d)
{
    nodes_listen(d->nodes, 100, take_line, d);
    for (size_t i = 0; i < DEMO_NODES; i++) {
        const struct node *node = &d->nodes[i];
        if (node->killed) {
            continue;
        }
        if (node->left) {
            printf("%s has gone\n", node->name);
            d->broken = true;
        } else if (node->busy && seconds_since(node->since_ns) > SILENCE_S) {
            printf("%s has not answered for %d s\n", node->name, SILENCE_S);
            d->broken = true;
        }
    }
    return !d->broken;
}

/* ---- Replay ---------------------------------------------------------------
 */

/* The server of a request; the next one if that was killed. */
static struct node *server_of(struct driver *d, const struct request *r)
{
    struct node *node = &d->nodes[r->where % DEMO_NODES];
    if (node->killed) {
        node = &d->nodes[(r->where / DEMO_NODES) % (DEMO_NODES - 1)];
        node = node->killed ? &d->nodes[DEMO_NODES - 1] : node;
    }
    return node;
}

/* An earlier turn of the conversation is not even sent. */
static bool is_early(const struct driver *d, size_t number)
{
    const struct request *requests = d->workload.requests;
    for (size_t i = d->first; i < number; i++) {
        if (!d->sent[i] &&
            requests[i].conversation == requests[number].conversation) {
            return true;
        }
    }
    return false;
}

static void send_request(struct driver *d, struct node *node, size_t number)
{
    char text[64];
    snprintf(text, sizeof(text), "request %zu\n", number);
    account_begin(&d->account, &node->flight, number);
    node->busy = true;
    node->since_ns = clock_ns();
    d->sent[number] = true;
    d->n_sent++;
    node_tell(node, text); /* A node that is gone shows in its other pipe. */
}

static void kill_one(struct driver *d)
{
    struct node *victim = &d->nodes[VICTIM];
    printf("  kill -9 %s (process %d), in the middle of a request\n",
           victim->name, (int)victim->pid);
    node_kill(victim);
    d->sent[victim->flight.number] = false; /* Its client asks again. */
    if (victim->flight.number < d->first) {
        d->first = victim->flight.number;
    }
    d->n_sent--;
    d->n_again++;
    account_killed(&d->account, &victim->flight, VICTIM);
    victim->busy = false;
}

static bool is_time_to_kill(const struct driver *d)
{
    return d->options.kill && !d->nodes[VICTIM].killed &&
           d->n_sent * 2 >= d->workload.n_requests;
}

/* Give every idle server the first request that it can have. */
static void dispatch(struct driver *d)
{
    size_t n_requests = d->workload.n_requests;
    while (d->first < n_requests && d->sent[d->first]) {
        d->first++;
    }
    for (size_t i = d->first; i < n_requests && i < d->first + WINDOW; i++) {
        struct node *node = server_of(d, &d->workload.requests[i]);
        if (d->sent[i] || node->busy || is_early(d, i) ||
            account_must_wait(&d->account, i)) {
            continue;
        }
        send_request(d, node, i);
        if (node == &d->nodes[VICTIM] && is_time_to_kill(d)) {
            kill_one(d);
        }
    }
}

static void show_progress(struct driver *d, bool always)
{
    const struct account *a = &d->account;
    double passed = seconds_since(d->progress_ns);
    if (!always && passed < 1) {
        return;
    }
    uint64_t n_read = driver_count_read(a);
    double bytes =
        (double)(n_read - d->n_read_then) * (double)d->options.page_size;
    printf("  %5.1f s  %" PRIu64 "/%zu requests  %" PRIu64
           " pages put  %" PRIu64 " read  %.2f GB/s  %" PRIu64 " wrong bytes\n",
           seconds_since(d->begin_ns), a->n_requests, d->workload.n_requests,
           a->n_put, n_read, bytes / passed / 1e9, a->wrong_bytes);
    fflush(stdout);
    d->progress_ns = clock_ns();
    d->n_read_then = n_read;
}

static bool replay(struct driver *d)
{
    uint64_t begin = d->begin_ns = d->progress_ns = clock_ns();
    printf("replay: %zu requests ask for %zu pages of %zu KiB\n",
           d->workload.n_requests, d->workload.n_asked,
           d->options.page_size >> 10);
    while (d->account.n_requests < d->workload.n_requests) {
        dispatch(d);
        if (!listen(d)) {
            return false;
        }
        show_progress(d, false);
    }
    show_progress(d, true);
    d->replay_s = seconds_since(begin);
    return true;
}

/* ---- Measuring ------------------------------------------------------------
 */

/* One node reads what others hold, while nobody else does anything. */
static bool measure(struct driver *d, unsigned reader)
{
    struct node *node = &d->nodes[reader];
    char *text = malloc(32 + 12 * MEASURE_PAGES);
    if (text == NULL) {
        return false;
    }
    int at = sprintf(text, "measure %d", MEASURE_MS);
    unsigned n = 0;
    for (uint32_t i = 0; i < d->workload.n_keys && n < MEASURE_PAGES; i++) {
        int holder = account_holder(&d->account, i);
        if (holder >= 0 && (unsigned)holder != reader) {
            at += sprintf(text + at, " %" PRIu32, i);
            n++;
        }
    }
    sprintf(text + at, "\n");
    node->busy = true;
    node->since_ns = clock_ns();
    node_tell(node, text);
    free(text);
    while (node->busy) {
        if (!listen(d)) {
            return false;
        }
    }
    return true;
}

/* What the machine can do, without us. */
static void measure_limits(struct driver *d)
{
    size_t page_size = d->options.page_size;
    double copied = limits_memcpy(page_size, DEMO_MEASURE_BATCH, LIMIT_MS);
    double sent = limits_tcp(page_size, DEMO_MEASURE_BATCH, LIMIT_MS);
    d->memcpy_speed = copied > d->memcpy_speed ? copied : d->memcpy_speed;
    d->tcp_speed = sent > d->tcp_speed ? sent : d->tcp_speed;
}

/* The limits before and after, and the better of both: others may use this
 * machine, too. */
static bool measure_all(struct driver *d)
{
    printf("measure: one reader at a time, batches of %d pages\n",
           DEMO_MEASURE_BATCH);
    fflush(stdout);
    measure_limits(d);
    for (unsigned i = 0; i < DEMO_NODES; i++) {
        if (i != VICTIM && !measure(d, i)) {
            return false;
        }
    }
    measure_limits(d);
    return true;
}

/* ---- The end --------------------------------------------------------------
 */

static bool meet(struct driver *d)
{
    uint64_t begin = clock_ns();
    printf("start: four nodes, two with read_mode auto, one one-sided, one "
           "served\n");
    fflush(stdout);
    for (;;) {
        unsigned n_ready = 0;
        for (size_t i = 0; i < DEMO_NODES; i++) {
            n_ready += d->nodes[i].ready;
        }
        if (n_ready == DEMO_NODES) {
            printf("  %5.1f s  every node has its pool and sees %d members\n",
                   seconds_since(begin), DEMO_NODES);
            return true;
        }
        if (!listen(d) || seconds_since(begin) > SILENCE_S) {
            d->broken = true;
            return false;
        }
    }
}

static int drive(struct driver *d, int argc, char **argv)
{
    char why[512];
    struct launch launch = {.options = &d->options, .argc = argc, .argv = argv};
    /* After the kill three nodes hold all pages, not quite evenly; what is left
     * is the margin that the library keeps free. */
    launch.pool_size =
        d->workload.n_keys * d->options.page_size / 10 * 6 + ((size_t)64 << 20);
    d->sent = calloc(d->workload.n_requests, sizeof(*d->sent));
    bool ok = d->sent != NULL && nodes_start(d->nodes, &launch);
    if (!ok) {
        d->broken = true;
    }
    ok = ok && meet(d) && replay(d) && measure_all(d);
    unsigned n_left_badly = nodes_stop(d->nodes, LEAVE_MS, take_line, d);
    if (d->account.n_requests > 0) {
        driver_table(d);
    }
    ok = driver_judge(d, n_left_badly, why, sizeof(why)) && ok;
    free(d->sent);
    if (!ok) {
        printf("demo: FAILED (%s)\n", why);
        return 1;
    }
    printf("demo: ok, %" PRIu64 " pages read and every byte right, one of %d "
           "nodes killed\n",
           driver_count_read(&d->account), DEMO_NODES);
    return 0;
}

int main(int argc, char **argv)
{
    struct driver d = {.broken = false};
    int status = 0;
    if (!options_parse(argc, argv, &d.options, &status)) {
        return status;
    }
    if (d.options.worker != NULL) {
        return worker_main(&d.options);
    }
    if (!workload_make(&d.workload, &d.options)) {
        printf("demo: FAILED (no workload)\n");
        return 1;
    }
    if (d.workload.sampled) {
        printf("workload: a sample of the trace by prefix, %zu different pages "
               "(--max-pages %zu)\n",
               d.workload.n_keys, d.options.max_pages);
    }
    account_init(&d.account, &d.workload);
    status = drive(&d, argc, argv);
    account_fini(&d.account);
    workload_free(&d.workload);
    return status;
}
