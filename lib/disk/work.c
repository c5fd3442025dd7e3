#include "base/log.h"
#include "base/mem.h"

#include "disk_int.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define CHECK_NS     (2 * PC_S) /* Is the directory still there? */
#define REFUSED_MOST 4u         /* Segments given up before a pause. */

/* ---- The keeper ------------------------------------------------------------
 */

static bool check_directory(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool due = pc_disk_now(disk) >= disk->check_at_ns;
    if (due) {
        disk->check_at_ns = pc_disk_now(disk) + CHECK_NS;
    }
    pc_disk_unlock(disk);
    if (!due) {
        return false;
    }
    int error = disk->io->check_dir(disk->io->arg, disk->dir, disk->path);
    if (error != ENOENT && error != ENOTDIR && error != ESTALE) {
        return false; /* Whatever else is wrong may pass. */
    }
    pc_disk_lose(disk);
    return true;
}

/* A segment that is full and has all its writes behind it. */
static bool seal_one(struct pc_disk *disk)
{
    struct pc_disk_segment *segment = NULL;
    pc_disk_lock(disk);
    for (struct pc_list *link = disk->segments.next;
         segment == NULL && link != &disk->segments; link = link->next) {
        struct pc_disk_segment *candidate =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (candidate->state == PC_DISK_SEALING && candidate->n_writing == 0) {
            segment = candidate;
            segment->n_refs++;
        }
    }
    pc_disk_unlock(disk);
    if (segment == NULL) {
        return false;
    }
    pc_disk_seal(disk, segment);
    pc_disk_lock(disk);
    pc_disk_unref(disk, segment);
    pc_disk_unlock(disk);
    return true;
}

static bool unlink_some(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool due =
        pc_disk_now(disk) >= disk->unlink_at_ns &&
        (!pc_list_is_empty(&disk->doomed) || !pc_list_is_empty(&disk->clears));
    pc_disk_unlock(disk);
    return due && pc_disk_unlink_doomed(disk);
}

/* Bytes of the spare that should be made, or 0. */
static uint64_t spare_wanted(const struct pc_disk *disk)
{
    uint64_t size = disk->params.segment_size;
    if ((disk->closing && pc_list_is_empty(&disk->writes)) ||
        disk->state == PC_DISK_GONE) {
        return 0;
    }
    /* A write that was under way may have ended the pause: then it is tried
     * again as soon as a write waits for it, and not only to have a spare. */
    if (pc_disk_now(disk) < disk->paused_until_ns &&
        (disk->state == PC_DISK_PAUSED || disk->want_size == 0)) {
        return 0;
    }
    if (disk->want_size > 0) {
        return disk->want_size > size ? disk->want_size : size;
    }
    bool used = disk->active != NULL && disk->active->n_assigned > 0;
    return used && disk->spare == NULL ? size : 0;
}

/* A spare that is too small for what waits. */
static void drop_spare(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    struct pc_disk_segment *spare = disk->spare;
    disk->spare = NULL;
    if (spare != NULL) {
        pc_disk_doom(disk, spare);
    }
    pc_disk_unlock(disk);
}

/* The bound is ours; what is free is everybody's, and we leave a segment of
 * it. */
static bool has_space(struct pc_disk *disk, uint64_t size)
{
    uint64_t free_bytes = UINT64_MAX;
    (void)disk->io->free_bytes(disk->io->arg, disk->dir, &free_bytes);
    pc_disk_lock(disk);
    disk->free_bytes = free_bytes;
    bool has = disk->used + size <= disk->params.size && free_bytes / 2 >= size;
    pc_disk_unlock(disk);
    return has;
}

static bool is_waiting(const struct pc_disk *disk)
{
    for (struct pc_list *link = disk->segments.next; link != &disk->segments;
         link = link->next) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        if (segment->state == PC_DISK_SEALING ||
            segment->state == PC_DISK_RECLAIMED) {
            return true;
        }
    }
    return false;
}

static void fail_writes(struct pc_disk *disk, enum pc_disk_result why)
{
    struct pc_list ended;
    pc_list_init(&ended);
    pc_disk_lock(disk);
    pc_disk_pause(disk, why, &ended);
    bool call = pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        pc_disk_end_all(disk, &ended);
    }
}

static bool has_doomed(struct pc_disk *disk)
{
    bool has = false;
    pc_disk_lock(disk);
    for (struct pc_list *link = disk->doomed.next;
         !has && link != &disk->doomed; link = link->next) {
        has = !PC_CONTAINER_OF(link, struct pc_disk_segment, link)->unlinked;
    }
    pc_disk_unlock(disk);
    return has;
}

/* No space and nothing to reclaim: what is doomed cannot be unlinked, or
 * others have filled the file system. The head, when nothing else is left, can
 * be given up. */
static bool make_space(struct pc_disk *disk)
{
    /* While nothing can be unlinked, giving up more records frees nothing. */
    if (!has_doomed(disk) && pc_disk_reclaim(disk)) {
        return true;
    }
    pc_disk_lock(disk);
    bool wanted = disk->want_size > 0 && !is_waiting(disk);
    bool closed = wanted && disk->active != NULL;
    if (closed) {
        pc_disk_close_head(disk);
    }
    pc_disk_unlock(disk);
    if (wanted && !closed) {
        fail_writes(disk, PC_DISK_NO_SPACE);
    }
    return wanted;
}

/* A quota, or whatever else statvfs() does not tell: what has been refused may
 * be granted when the oldest segment is gone. */
static bool make_way(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool refused = disk->refused;
    disk->refused = false;
    pc_disk_unlock(disk);
    return refused && !has_doomed(disk) && pc_disk_reclaim(disk);
}

/* A few segments at most, for it may be somebody else's bytes that are in the
 * way; then writing pauses before it is tried again. */
static bool may_try_again(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool refused = disk->refused && !pc_list_is_empty(&disk->segments);
    pc_disk_unlock(disk);
    bool again = refused && disk->n_refused < REFUSED_MOST;
    disk->n_refused = again ? disk->n_refused + 1 : 0;
    return again;
}

static bool make_spare(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    uint64_t size = spare_wanted(disk);
    bool too_small = disk->spare != NULL && disk->spare->size < size;
    bool has = disk->spare != NULL && !too_small;
    if (has) {
        disk->want_size = 0;
    }
    pc_disk_unlock(disk);
    if (size == 0 || has) {
        return false;
    }
    if (too_small) {
        drop_spare(disk);
        return true;
    }
    if (!has_space(disk, size)) {
        return make_space(disk);
    }
    if (make_way(disk)) {
        return true;
    }
    enum pc_disk_result result = pc_disk_make_spare(disk, size);
    if (result != PC_DISK_OK) {
        if (!may_try_again(disk)) {
            fail_writes(disk, result);
        }
        return true;
    }
    disk->n_refused = 0;
    return true;
}

/* More files than the bound allows were found: it is lower than before. */
static bool is_over(const struct pc_disk *disk)
{
    return !disk->recovering && disk->used > disk->params.size &&
           !pc_list_is_empty(&disk->segments) &&
           !PC_CONTAINER_OF(disk->segments.next, struct pc_disk_segment, link)
                ->read_only;
}

/* The index is nearly full, or the directory too large. */
static bool thin_out(struct pc_disk *disk)
{
    uint64_t most = disk->params.max_records;
    pc_disk_lock(disk);
    bool full = disk->n_records >= most - most / 16 || is_over(disk);
    pc_disk_unlock(disk);
    return full && !has_doomed(disk) && pc_disk_reclaim(disk);
}

/* Closing: seal what there is; the spare has never been used. */
static bool tidy_up(struct pc_disk *disk)
{
    pc_disk_lock(disk);
    bool idle = disk->closing && pc_list_is_empty(&disk->writes) &&
                disk->n_batches == 0;
    bool has_spare = idle && disk->spare != NULL;
    bool has_head = idle && disk->active != NULL;
    if (has_head) {
        pc_disk_close_head(disk);
    }
    pc_disk_unlock(disk);
    if (has_spare) {
        drop_spare(disk);
    }
    return has_head || has_spare;
}

bool pc_disk_keep(struct pc_disk *disk, uint64_t *due_p)
{
    pc_disk_lock(disk);
    bool closing = disk->closing;
    bool gone = disk->state == PC_DISK_GONE;
    pc_disk_unlock(disk);
    bool did = !gone && check_directory(disk);
    did = did || seal_one(disk) || unlink_some(disk);
    if (closing) {
        did = did || make_spare(disk) || tidy_up(disk);
    } else if (!gone) {
        did = did || make_spare(disk) || thin_out(disk) ||
              pc_disk_free_empty(disk) || pc_disk_rescan(disk);
        did = did || pc_disk_recover(disk);
    }
    pc_disk_lock(disk);
    /* A time that has passed would keep the keeper awake: nothing looks after
     * a directory that is gone, and a pause lasts until somebody writes. */
    uint64_t now = pc_disk_now(disk);
    *due_p = disk->state == PC_DISK_GONE ? now + CHECK_NS : disk->check_at_ns;
    if (disk->state == PC_DISK_PAUSED && disk->paused_until_ns > now &&
        disk->paused_until_ns < *due_p) {
        *due_p = disk->paused_until_ns;
    }
    pc_disk_unlock(disk);
    return did;
}

/* ---- Threads ---------------------------------------------------------------
 */

/* If anything waits to be written, one worker leaves the reads to the others.
 * Lock held. */
static bool may_read(const struct pc_disk *disk)
{
    return pc_list_is_empty(&disk->writes) || disk->n_workers < 2 ||
           disk->n_reading < disk->n_workers - 1 || !pc_disk_may_write(disk);
}

/* While a thread writes it does not take the core from one that puts or gets
 * whenever the disk has done something. Reads do: somebody waits for them. What
 * somebody else has chosen for this thread stays. */
static bool yield_to_others(void)
{
    struct sched_param none = {0};
    return sched_getscheduler(0) == SCHED_OTHER &&
           sched_setscheduler(0, SCHED_BATCH, &none) == 0;
}

static void stop_yielding(void)
{
    struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_OTHER, &none);
}

/* Takes one piece of work and does it; the lock is held before and after. */
static bool work(struct pc_disk *disk, struct pc_disk_worker *worker)
{
    if (may_read(disk) && pc_disk_take_read(disk, worker)) {
        pc_disk_unlock(disk);
        pc_disk_do_read(disk, worker);
        pc_disk_lock(disk);
        return true;
    }
    if (!pc_disk_may_write(disk) || !pc_disk_take_batch(disk, worker)) {
        return false;
    }
    bool write = !pc_list_is_empty(&worker->requests);
    bool call = !pc_list_is_empty(&worker->ended) && pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        pc_disk_end_all(disk, &worker->ended);
    }
    if (write) {
        bool yields = worker->runs && yield_to_others();
        pc_disk_write_batch(disk, worker);
        if (yields) {
            stop_yielding();
        }
    }
    pc_disk_lock(disk);
    return true;
}

/* The last thread of a disk that nobody waits for frees it. */
static void end_thread(struct pc_disk *disk)
{
    bool last = --disk->n_running == 0;
    bool detached = disk->detached;
    (void)pthread_cond_broadcast(&disk->changed);
    pc_disk_unlock(disk);
    if (last && detached) {
        pc_disk_free(disk);
    }
}

static void *worker_main(void *arg)
{
    struct pc_disk_worker *worker = arg;
    struct pc_disk *disk = worker->disk;
    pc_disk_lock(disk);
    while (!disk->stop) {
        if (work(disk, worker)) {
            if (disk->closing) {
                (void)pthread_cond_broadcast(&disk->changed);
                pc_disk_wake_keeper(disk);
            }
        } else {
            (void)pthread_cond_wait(&disk->work, &disk->lock);
        }
    }
    end_thread(disk);
    return NULL;
}

static void wait_until(struct pc_disk *disk, uint64_t due_ns)
{
    uint64_t now = pc_disk_now(disk);
    uint64_t wait = due_ns > now ? due_ns - now : 0;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    wait = wait < CHECK_NS ? wait : CHECK_NS;
    wait += (uint64_t)end.tv_nsec;
    end.tv_sec += (time_t)(wait / PC_S);
    end.tv_nsec = (long)(wait % PC_S);
    (void)pthread_cond_timedwait(&disk->keep, &disk->lock, &end);
}

static void *keeper_main(void *arg)
{
    struct pc_disk_worker *worker = arg;
    struct pc_disk *disk = worker->disk;
    uint64_t due;
    pc_disk_enter(disk);
    pc_disk_lock(disk);
    while (!disk->stop) {
        uint64_t before = disk->n_signals;
        disk->keeping = true;
        pc_disk_unlock(disk);
        bool did = pc_disk_keep(disk, &due);
        pc_disk_lock(disk);
        disk->keeping = did;
        (void)pthread_cond_broadcast(&disk->changed);
        if (!did && !disk->stop && before == disk->n_signals) {
            wait_until(disk, due);
        }
    }
    end_thread(disk);
    return NULL;
}

static bool start(struct pc_disk *disk, struct pc_disk_worker *worker,
                  void *(*run)(void *))
{
    if (pthread_create(&worker->thread, NULL, run, worker) != 0) {
        return false;
    }
    disk->n_running++;
    worker->runs = true;
    return true;
}

/* Signals are for the program's own threads; and one that says that a file
 * would grow beyond a limit becomes an error here. */
bool pc_disk_start_threads(struct pc_disk *disk)
{
    sigset_t all, before;
    bool ok = true;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pc_disk_lock(disk);
    ok = start(disk, &disk->keeper, keeper_main);
    for (uint32_t i = 0; ok && i < disk->params.n_threads; i++) {
        ok = start(disk, &disk->workers[i], worker_main);
    }
    pc_disk_unlock(disk);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

bool pc_disk_turn(struct pc_disk *disk)
{
    uint64_t due;
    pc_disk_lock(disk);
    bool did = work(disk, &disk->workers[0]);
    pc_disk_unlock(disk);
    return did || pc_disk_keep(disk, &due);
}
