/*
 * actor.c - the process that owns or reads: its orders, threads and checks.
 */
#include "page.h"
#include "system.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    UNTIMED_BATCHES = 2, /* At the start of a slice: wake everything up. */
    CHECK_EVERY = 256    /* Pages: one of so many is verified while timed. */
};

#define HUGE_PAGE ((size_t)2 << 20)

uint64_t bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_why(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, BENCH_TEXT_MAX, format, args);
    va_end(args);
}

static size_t round_up(size_t len)
{
    return (len + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *bench_memory(size_t len)
{
    size_t room = round_up(len) + HUGE_PAGE;
    char *at = mmap(NULL, room, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    size_t head = (HUGE_PAGE - (uintptr_t)at % HUGE_PAGE) % HUGE_PAGE;
    if (head > 0) {
        munmap(at, head);
    }
    if (head < HUGE_PAGE) {
        munmap(at + head + round_up(len), HUGE_PAGE - head);
    }
    at += head;
    (void)madvise(at, round_up(len), MADV_HUGEPAGE);
    memset(at, 0, len);
    return at;
}

/* Removed at once: it lives while somebody is attached. */
void *bench_shared_memory(size_t len, int *id_p)
{
    int id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600);
    void *at = id >= 0 ? shmat(id, NULL, 0) : (void *)-1;
    if (id >= 0) {
        (void)shmctl(id, IPC_RMID, NULL);
    }
    if (at == (void *)-1) {
        return NULL;
    }
    memset(at, 0, len);
    *id_p = id;
    return at;
}

void bench_memory_free(void *memory, size_t len)
{
    if (memory != NULL) {
        munmap(memory, round_up(len));
    }
}

static bool say(const void *what, size_t len)
{
    return send(BENCH_CHANNEL_FD, what, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool hear(void *what, size_t len)
{
    ssize_t n;
    do {
        n = recv(BENCH_CHANNEL_FD, what, len, 0);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)len;
}

/* All threads of a reader. They begin an order when `turn` changes, and the
 * last one to end it wakes the actor. */
struct reader
{
    const struct bench_system *system;
    const struct bench_setup *setup;
    void *handle;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned turn;
    unsigned n_busy;
    bool is_over;
    struct bench_order order;
    uint64_t deadline_ns;
    struct bench_report *report;
};

struct worker
{
    struct bench_lane lane;
    struct reader *reader;
    pthread_t thread;
    uint32_t *order; /* All pages, in this thread's order. */
    uint32_t at;
    uint32_t until_check;
    struct bench_report report;
};

static bool is_checked(const struct worker *worker)
{
    return worker->reader->system->lands &&
           (worker->lane.setup->op == BENCH_GET || worker->lane.reads_back);
}

static void check_pages(struct worker *worker, const uint32_t *pages,
                        size_t first, size_t n)
{
    const struct bench_setup *setup = worker->lane.setup;
    uint64_t start = bench_now();
    for (size_t i = first; i < first + n; i++) {
        if (!bench_page_matches(worker->lane.buffer + i * setup->page_size,
                                setup->page_size, pages[i])) {
            worker->report.n_wrong++;
        }
    }
    worker->report.n_checked += n;
    worker->report.check_ns += bench_now() - start;
}

/* Only a batch that came whole: what a miss leaves in the buffer is nobody's
 * concern, and which page missed is not told here. */
static void check_some(struct worker *worker, const uint32_t *pages, size_t n,
                       size_t n_hits)
{
    if (!is_checked(worker) || n_hits != n) {
        return;
    }
    if (worker->reader->order.verb == BENCH_SCAN) {
        check_pages(worker, pages, 0, n);
    } else if (worker->until_check < n) {
        check_pages(worker, pages, worker->until_check, 1);
        worker->until_check += CHECK_EVERY;
    }
    worker->until_check -=
        worker->until_check < n ? worker->until_check : (uint32_t)n;
}

static size_t next_batch(struct worker *worker, const uint32_t **pages_p)
{
    const struct bench_setup *setup = worker->lane.setup;
    if (worker->at >= setup->n_pages) {
        worker->at = 0;
    }
    uint32_t left = setup->n_pages - worker->at;
    uint32_t n = left < setup->batch ? left : setup->batch;
    *pages_p = worker->order + worker->at;
    worker->at += n;
    worker->lane.round += worker->at >= setup->n_pages;
    return n;
}

static void one_batch(struct worker *worker, bool timed)
{
    const uint32_t *pages;
    size_t n = next_batch(worker, &pages);
    uint64_t start = bench_now();
    size_t n_hits = worker->reader->system->batch(&worker->lane, pages, n);
    if (!timed) {
        return;
    }
    bench_histogram_add(&worker->report.latency, bench_now() - start);
    worker->report.n_batches++;
    worker->report.n_pages += n;
    worker->report.n_hits += n_hits;
    check_some(worker, pages, n, n_hits);
}

static void run_slice(struct worker *worker)
{
    const struct bench_setup *setup = worker->lane.setup;
    struct bench_report *report = &worker->report;
    bool scan = worker->reader->order.verb == BENCH_SCAN;
    memset(report, 0, sizeof(*report));
    memset(worker->lane.sources, 0, sizeof(worker->lane.sources));
    worker->lane.why[0] = '\0';
    worker->lane.reads_back = scan && setup->op == BENCH_SET;
    if (scan) {
        worker->at = 0;
    }
    for (int i = 0; !scan && i < UNTIMED_BATCHES; i++) {
        one_batch(worker, false);
    }
    uint64_t start = bench_now();
    do {
        one_batch(worker, true);
    } while (scan ? worker->at < setup->n_pages
                  : bench_now() < worker->reader->deadline_ns);
    uint64_t elapsed = bench_now() - start;
    elapsed -= report->check_ns < elapsed ? report->check_ns : 0;
    report->elapsed_ns = elapsed;
    report->rate = (double)report->n_hits * 1e9 / (double)(elapsed + 1);
}

static void merge(struct bench_report *into, const struct worker *worker)
{
    const struct bench_report *from = &worker->report;
    into->n_batches += from->n_batches;
    into->n_pages += from->n_pages;
    into->n_hits += from->n_hits;
    into->n_wrong += from->n_wrong;
    into->n_checked += from->n_checked;
    into->check_ns += from->check_ns;
    into->rate += from->rate;
    if (into->why[0] == '\0') {
        memcpy(into->why, worker->lane.why, sizeof(into->why));
    }
    if (from->elapsed_ns > into->elapsed_ns) {
        into->elapsed_ns = from->elapsed_ns;
    }
    for (int i = 0; i < BENCH_N_SOURCES; i++) {
        into->sources[i] += worker->lane.sources[i];
    }
    bench_histogram_merge(&into->latency, &from->latency);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct reader *reader = worker->reader;
    unsigned turn = 0;
    pthread_mutex_lock(&reader->lock);
    for (;;) {
        while (reader->turn == turn && !reader->is_over) {
            pthread_cond_wait(&reader->changed, &reader->lock);
        }
        if (reader->is_over) {
            break;
        }
        turn = reader->turn;
        pthread_mutex_unlock(&reader->lock);
        run_slice(worker);
        pthread_mutex_lock(&reader->lock);
        merge(reader->report, worker);
        if (--reader->n_busy == 0) {
            pthread_cond_broadcast(&reader->changed);
        }
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

static bool worker_open(struct worker *worker, struct reader *reader,
                        unsigned number, char *why)
{
    const struct bench_setup *setup = reader->setup;
    struct bench_lane *lane = &worker->lane;
    worker->reader = reader;
    worker->order = malloc(setup->n_pages * sizeof(*worker->order));
    lane->setup = setup;
    lane->number = number;
    lane->reader = reader->handle;
    lane->buffer = bench_memory((size_t)setup->batch * setup->page_size);
    if (worker->order == NULL || lane->buffer == NULL) {
        bench_why(why, "out of memory");
        return false;
    }
    bench_page_order(worker->order, setup->n_pages, setup->run, number + 1);
    return reader->system->lane_open == NULL ||
           reader->system->lane_open(lane, why);
}

static void worker_close(struct worker *worker)
{
    struct bench_lane *lane = &worker->lane;
    if (worker->reader == NULL) {
        return;
    }
    if (worker->reader->system->lane_close != NULL) {
        worker->reader->system->lane_close(lane);
    }
    bench_memory_free(lane->buffer,
                      (size_t)lane->setup->batch * lane->setup->page_size);
    free(worker->order);
}

static void carry_out(struct reader *reader, struct bench_report *report)
{
    memset(report, 0, sizeof(*report));
    report->ok = true;
    pthread_mutex_lock(&reader->lock);
    reader->report = report;
    reader->deadline_ns = bench_now() + reader->order.duration_ns;
    reader->n_busy = reader->setup->n_threads;
    reader->turn++;
    pthread_cond_broadcast(&reader->changed);
    while (reader->n_busy > 0) {
        pthread_cond_wait(&reader->changed, &reader->lock);
    }
    pthread_mutex_unlock(&reader->lock);
}

static void tell_info(const struct reader *reader)
{
    char *text = reader->system->info != NULL
                     ? reader->system->info(reader->handle)
                     : NULL;
    size_t len = text != NULL ? strlen(text) : 0;
    (void)say(len > 0 && len < BENCH_INFO_MAX ? text : "{}",
              len > 0 && len < BENCH_INFO_MAX ? len : 2);
    free(text);
}

static void obey(struct reader *reader)
{
    struct bench_report *report = malloc(sizeof(*report));
    while (report != NULL && hear(&reader->order, sizeof(reader->order)) &&
           reader->order.verb != BENCH_STOP) {
        if (reader->order.verb == BENCH_INFO) {
            tell_info(reader);
            continue;
        }
        carry_out(reader, report);
        if (!say(report, sizeof(*report))) {
            break;
        }
    }
    free(report);
}

static int tell_ready(bool ok, const char *why, const struct bench_place *place)
{
    struct bench_ready ready = {.ok = ok};
    (void)snprintf(ready.why, sizeof(ready.why), "%s", why);
    if (place != NULL) {
        ready.place = *place;
    }
    return say(&ready, sizeof(ready)) && ok ? 0 : 1;
}

static int read_all(const struct bench_system *system,
                    const struct bench_setup *setup)
{
    char why[BENCH_TEXT_MAX] = "";
    struct reader reader = {.system = system, .setup = setup};
    struct worker *workers = calloc(setup->n_threads, sizeof(*workers));
    unsigned n = 0;
    pthread_mutex_init(&reader.lock, NULL);
    pthread_cond_init(&reader.changed, NULL);
    bool opened = workers != NULL && system->open(setup, &reader.handle, why);
    bool ok = opened;
    for (unsigned i = 0; ok && i < setup->n_threads; i++) {
        ok = worker_open(&workers[i], &reader, i, why);
    }
    for (; ok && n < setup->n_threads; n++) {
        ok = pthread_create(&workers[n].thread, NULL, work, &workers[n]) == 0;
    }
    int exit_code = tell_ready(ok, why, NULL);
    if (ok) {
        obey(&reader);
    }
    pthread_mutex_lock(&reader.lock);
    reader.is_over = true;
    pthread_cond_broadcast(&reader.changed);
    pthread_mutex_unlock(&reader.lock);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (unsigned i = 0; workers != NULL && i < setup->n_threads; i++) {
        worker_close(&workers[i]);
    }
    if (opened && system->close != NULL) {
        system->close(reader.handle);
    }
    free(workers);
    return exit_code;
}

static int own_all(const struct bench_system *system,
                   const struct bench_setup *setup)
{
    char why[BENCH_TEXT_MAX] = "";
    struct bench_place place = {.len = 0};
    struct bench_order order;
    void *owner = NULL;
    bool ok = system->own(setup, &place, &owner, why);
    int exit_code = tell_ready(ok, why, &place);
    if (!ok) {
        return exit_code;
    }
    if (system->serve != NULL) {
        system->serve(owner, BENCH_CHANNEL_FD);
    }
    (void)hear(&order, sizeof(order)); /* STOP, or the coordinator's end. */
    system->disown(owner);
    return exit_code;
}

int bench_actor_main(const struct bench_system *const *systems, size_t n)
{
    static struct bench_setup setup; /* Large for a stack, lives to the end. */
    /* Never outlive the coordinator, whatever ends it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (!hear(&setup, sizeof(setup)) || (size_t)setup.system >= n ||
        systems[setup.system] == NULL) {
        return 2;
    }
    const struct bench_system *system = systems[setup.system];
    return setup.side == BENCH_OWNER ? own_all(system, &setup)
                                     : read_all(system, &setup);
}
