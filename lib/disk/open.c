#include "base/log.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/rand.h"
#include "base/text.h"

#include "disk_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIB           ((uint64_t)1 << 20)
#define SEGMENT_LEAST (8 * (uint64_t)PC_DISK_BLOCK)
#define SEGMENTS_MOST 4096u
#define THREADS_MOST  256u
#define FILE_MOST     ((uint64_t)UINT32_MAX * PC_DISK_UNIT)
/* No directory has made as many segments; a higher number must prove itself. */
#define NUMBER_LIKELY ((uint64_t)1 << 48)

/* ---- Parameters
 * -------------------------------------------------------------- */

/* A 128th of the directory, 1 to 256 MiB; more where there would be more than
 * 512 of them. */
static uint64_t choose_segment_size(uint64_t size)
{
    uint64_t segment = size / 128;
    segment = segment < MIB ? MIB : segment;
    segment = segment > 256 * MIB ? 256 * MIB : segment;
    segment = size / segment > 512 ? size / 512 : segment;
    return segment / PC_DISK_BLOCK * PC_DISK_BLOCK;
}

static const char *check_params(const struct pc_disk_params *params)
{
    size_t id_len = params->node_id != NULL ? strlen(params->node_id) : 0;
    if (params->path == NULL || params->path[0] == '\0') {
        return "it has no path";
    }
    if (id_len == 0 || id_len > PC_DISK_NODE_ID_MAX) {
        return "the node id must have 1 to 128 characters";
    }
    if (params->segment_size < SEGMENT_LEAST ||
        params->segment_size > FILE_MOST / 2 ||
        params->size / 4 < params->segment_size ||
        params->size / SEGMENTS_MOST > params->segment_size) {
        return "its size must be 4 to 4,096 segments";
    }
    if (params->queue_bytes == 0) {
        return "the bound of its queue is 0 bytes";
    }
    return params->n_threads > THREADS_MOST ? "256 threads are the most" : NULL;
}

/* What is wrong, in a sentence. */
static peercache_status_t fail(char **error_p, peercache_status_t status,
                               const char *path, const char *why)
{
    if (error_p != NULL) {
        struct pc_text text;
        pc_text_init(&text);
        pc_text_add(&text, "disk directory %s: %s",
                    path != NULL ? path : "(none)", why);
        *error_p = pc_text_take(&text);
    }
    return status;
}

static peercache_status_t status_of(int error)
{
    switch (pc_disk_result_of(error)) {
    case PC_DISK_NO_SPACE:
        return PEERCACHE_NO_SPACE;
    case PC_DISK_NO_MEMORY:
        return PEERCACHE_NO_MEMORY;
    default:
        return PEERCACHE_IO;
    }
}

/* ---- What is there
 * ----------------------------------------------------------- */

struct names
{
    uint64_t *number;
    size_t n, capacity;
    bool failed;
};

static void add_name(void *to, const char *name)
{
    struct names *names = to;
    uint64_t number;
    if (!pc_disk_parse_name(name, &number) || number > UINT64_MAX / 2) {
        return;
    }
    if (names->n == names->capacity) {
        size_t capacity = names->capacity > 0 ? 2 * names->capacity : 64;
        uint64_t *grown =
            pc_realloc(names->number, capacity, sizeof(*names->number));
        if (grown == NULL) {
            names->failed = true;
            return;
        }
        names->number = grown;
        names->capacity = capacity;
    }
    names->number[names->n++] = number;
}

static int by_number(const void *a, const void *b)
{
    uint64_t of_a = *(const uint64_t *)a;
    uint64_t of_b = *(const uint64_t *)b;
    return of_a < of_b ? -1 : of_a > of_b;
}

/* A file that cannot be opened is left where it is. */
static int add_found(struct pc_disk *disk, uint64_t number)
{
    char name[PC_DISK_NAME_BYTES];
    struct pc_disk_segment *segment = pc_alloc(1, sizeof(*segment));
    if (segment == NULL) {
        return ENOMEM;
    }
    pc_list_init(&segment->link);
    segment->file = (struct pc_disk_file){disk->io, -1};
    segment->number = number;
    segment->state = PC_DISK_FOUND;
    pc_disk_name(number, name);
    int error =
        pc_disk_open_segment(disk, name, PC_DISK_OPEN_WRITE, &segment->file);
    if (error == EROFS || error == EACCES || error == EPERM) {
        segment->read_only = true;
        error = pc_disk_open_segment(disk, name, 0, &segment->file);
    }
    if (error == 0) {
        error =
            disk->io->size(disk->io->arg, segment->file.file, &segment->size);
    }
    if (error == 0 && segment->size > FILE_MOST) {
        error = EFBIG;
    }
    if (error != 0 || !pc_disk_add_slot(disk, segment)) {
        if (error != 0) {
            PC_WARN("disk", "cannot open %s in %s: %s", name, disk->path,
                    strerror(error));
            disk->counts.n_io_errors++;
            disk->unsure = true;
            disk->unopened = true;
        }
        pc_disk_close_file(&segment->file);
        pc_free(segment);
        return error != 0 ? 0 : ENOMEM;
    }
    pc_list_push_back(&disk->segments, &segment->link);
    disk->used += segment->size;
    disk->counts.segments_found++;
    segment->used_at = ++disk->n_uses;
    pc_disk_limit_files(disk);
    return 0;
}

/* Is the file what its name says? Anybody can give a file a name from which
 * there is hardly a next one. */
static bool is_genuine(struct pc_disk *disk, uint64_t number)
{
    enum pc_disk_header header;
    struct pc_disk_ident ident;
    if (pc_list_is_empty(&disk->segments)) {
        return false;
    }
    struct pc_disk_segment *last =
        PC_CONTAINER_OF(disk->segments.prev, struct pc_disk_segment, link);
    struct pc_disk_source source = pc_disk_file_source(&last->file, last->size);
    return last->number == number &&
           pc_disk_read_ident(&source, disk->keeper.buffer, &header, &ident) ==
               0 &&
           header == PC_DISK_HEADER_OK && ident.number == number;
}

static int find_segments(struct pc_disk *disk)
{
    struct names names = {0};
    int error = disk->io->list(disk->io->arg, disk->dir, add_name, &names);
    if (error == 0 && names.failed) {
        error = ENOMEM;
    }
    if (names.n > 0) {
        qsort(names.number, names.n, sizeof(*names.number), by_number);
    }
    for (size_t i = 0; error == 0 && i < names.n; i++) {
        uint64_t number = names.number[i];
        error = add_found(disk, number);
        if (number < NUMBER_LIKELY || is_genuine(disk, number)) {
            disk->next_number = number + 1;
        }
    }
    pc_free(names.number);
    return error;
}

/* ---- Life
 * ---------------------------------------------------------------------- */

static void free_segments(struct pc_list *segments)
{
    struct pc_list *link;
    while ((link = pc_list_pop_front(segments)) != NULL) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        pc_disk_close_file(&segment->file);
        pc_disk_entries_fini(&segment->entries);
        pc_free(segment);
    }
}

/* A buffer for each worker; for the keeper one, and those to read ahead. */
static size_t stages_len(const struct pc_disk *disk)
{
    return ((size_t)disk->n_workers + 1 + PC_DISK_AHEAD) * PC_DISK_STAGE;
}

void pc_disk_free(struct pc_disk *disk)
{
    if (disk->spare != NULL) {
        pc_list_push_back(&disk->doomed, &disk->spare->link);
    }
    free_segments(&disk->segments);
    free_segments(&disk->doomed);
    pc_disk_index_fini(&disk->index);
    pc_pages_unmap(disk->stages, stages_len(disk));
    if (disk->lock_file >= 0) {
        disk->io->close(disk->io->arg, disk->lock_file);
    }
    if (disk->dir >= 0) {
        disk->io->close(disk->io->arg, disk->dir);
    }
    (void)pthread_cond_destroy(&disk->changed);
    (void)pthread_cond_destroy(&disk->keep);
    (void)pthread_cond_destroy(&disk->work);
    (void)pthread_mutex_destroy(&disk->lock);
    pc_free(disk->slots);
    pc_free(disk->open_error);
    pc_free(disk->path);
    pc_free(disk);
}

static void init_worker(struct pc_disk *disk, struct pc_disk_worker *worker,
                        unsigned char *buffer)
{
    worker->disk = disk;
    pc_list_init(&worker->link);
    pc_list_init(&worker->requests);
    pc_list_init(&worker->ended);
    worker->buffer = buffer;
}

/* In huge pages, one run of physical memory each: a disk is told one piece for
 * a read of many blocks, which is worth a sixth of all reads where it was
 * measured. Simulation makes disks by the thousand and reads little. */
static bool init_workers(struct pc_disk *disk)
{
    unsigned char *stage =
        pc_pages_map(stages_len(disk), disk->params.n_threads > 0);
    disk->stages = stage;
    if (stage == NULL) {
        return false;
    }
    init_worker(disk, &disk->keeper, stage);
    disk->keeper.second = stage + PC_DISK_STAGE;
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        init_worker(disk, &disk->workers[i],
                    stage + ((size_t)i + 1 + PC_DISK_AHEAD) * PC_DISK_STAGE);
    }
    return true;
}

static void init_locks(struct pc_disk *disk)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&disk->lock, NULL);
    (void)pthread_cond_init(&disk->work, NULL);
    (void)pthread_cond_init(&disk->keep, &attr);
    (void)pthread_cond_init(&disk->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
}

/* All but the directory; NULL: no memory. */
static struct pc_disk *create(const struct pc_disk_params *params)
{
    uint32_t n_workers = params->n_threads > 0 ? params->n_threads : 1;
    struct pc_disk *disk =
        pc_alloc(1, sizeof(*disk) + n_workers * sizeof(disk->workers[0]));
    if (disk == NULL) {
        return NULL;
    }
    disk->params = *params;
    disk->io = params->io;
    disk->dir = -1;
    disk->lock_file = -1;
    disk->random = pc_rand_entropy();
    disk->direct = !params->buffered;
    disk->free_bytes = UINT64_MAX;
    disk->next_number = 1;
    disk->n_workers = n_workers;
    init_locks(disk);
    pc_list_init(&disk->reads);
    pc_list_init(&disk->writes);
    pc_list_init(&disk->busy);
    pc_list_init(&disk->clears);
    pc_list_init(&disk->segments);
    pc_list_init(&disk->doomed);
    pc_disk_index_init(&disk->index);
    memcpy(disk->node_id, params->node_id, strlen(params->node_id));
    disk->path = pc_strndup(params->path, strlen(params->path));
    disk->params.path = disk->path;
    disk->params.node_id = disk->node_id;
    if (disk->path == NULL || !init_workers(disk)) {
        pc_disk_free(disk);
        return NULL;
    }
    return disk;
}

/* Nothing deletes what was set aside: somebody may want it back. It grows with
 * each change of what the files belong to, so it is said aloud. */
static void tell_aside(struct pc_disk *disk)
{
    uint64_t n_files = 0;
    uint64_t bytes = 0;
    if (disk->io->folder(disk->io->arg, disk->dir, "aside", &n_files, &bytes) !=
            0 ||
        n_files == 0) {
        return;
    }
    disk->aside_bytes = bytes;
    PC_WARN("disk",
            "%s/aside has files of other nodes, clusters or versions, beside "
            "disk_size and never deleted: files %llu, MiB %llu",
            disk->path, (unsigned long long)n_files,
            (unsigned long long)(bytes / MIB));
}

static peercache_status_t enter(struct pc_disk *disk, char **error_p)
{
    char text[96];
    int64_t pid = 0;
    const struct pc_disk_io *io = disk->io;
    int error = io->open_dir(io->arg, disk->path, &disk->dir);
    if (error != 0) {
        disk->dir = -1;
        return fail(error_p, status_of(error), disk->path, strerror(error));
    }
    error = io->lock(io->arg, disk->dir, "lock", &disk->lock_file, &pid);
    if (error != 0) {
        disk->lock_file = -1;
        if (error == EWOULDBLOCK) {
            (void)snprintf(text, sizeof(text),
                           "process %" PRId64 " uses it already", pid);
            return fail(error_p, PEERCACHE_AGAIN, disk->path,
                        pid > 0 ? text : "another process uses it already");
        }
        return fail(error_p, status_of(error), disk->path, strerror(error));
    }
    tell_aside(disk);
    error = find_segments(disk);
    return error != 0
               ? fail(error_p, status_of(error), disk->path, strerror(error))
               : PEERCACHE_OK;
}

/* Found nothing that can be used: others may have the directory. */
static void leave(struct pc_disk *disk)
{
    free_segments(&disk->segments);
    pc_free(disk->slots);
    disk->slots = NULL;
    disk->n_slots = 0;
    disk->used = 0;
    if (disk->lock_file >= 0) {
        disk->io->close(disk->io->arg, disk->lock_file);
        disk->lock_file = -1;
    }
    if (disk->dir >= 0) {
        disk->io->close(disk->io->arg, disk->dir);
        disk->dir = -1;
    }
}

/* Nobody waited for the end of it. Lock held. */
static void tell_entered(const struct pc_disk *disk)
{
    if (disk->opened == PEERCACHE_OK) {
        PC_INFO("disk", "%s answers: its values are found from now on",
                disk->path);
    } else {
        PC_WARN("disk", "no disk until a restart: %s",
                disk->open_error != NULL ? disk->open_error
                                         : peercache_strerror(disk->opened));
    }
}

void pc_disk_enter(struct pc_disk *disk)
{
    char *error = NULL;
    peercache_status_t status = enter(disk, &error);
    if (status != PEERCACHE_OK) {
        leave(disk);
    }
    pc_disk_lock(disk);
    disk->opening = false;
    disk->opened = status;
    disk->open_error = error;
    disk->recovery_began_ns = pc_disk_now(disk);
    if (status == PEERCACHE_OK) {
        disk->state = PC_DISK_RUNNING;
        disk->failure = PC_DISK_OK;
    } else {
        disk->state = PC_DISK_GONE;
        disk->failure = PC_DISK_LOST;
        disk->recovering = false;
    }
    if (disk->unattended && !disk->closing) {
        tell_entered(disk);
    }
    (void)pthread_cond_broadcast(&disk->changed);
    pc_disk_unlock(disk);
}

static void complete_params(struct pc_disk_params *params)
{
    if (params->segment_size == 0) {
        params->segment_size = choose_segment_size(params->size);
    }
    params->segment_size = params->segment_size / PC_DISK_BLOCK * PC_DISK_BLOCK;
    if (params->max_records == 0) {
        params->max_records = params->size / PC_DISK_BLOCK;
    }
    if (params->max_records > UINT32_MAX / 2) {
        params->max_records = UINT32_MAX / 2;
    }
    params->max_reads = params->max_reads > 0 ? params->max_reads : 1024;
    params->io = params->io != NULL ? params->io : pc_disk_io_system();
    if (params->max_files == 0) {
        params->max_files = params->io == pc_disk_io_system()
                                ? pc_disk_io_files()
                                : SEGMENTS_MOST;
    }
    if (params->clock.now == NULL) {
        params->clock = pc_clock_system();
    }
}

static void wait_change(struct pc_disk *disk, uint64_t until_ns)
{
    struct timespec end = {.tv_sec = (time_t)(until_ns / PC_S),
                           .tv_nsec = (long)(until_ns % PC_S)};
    (void)pthread_cond_timedwait(&disk->changed, &disk->lock, &end);
}

/* The keeper opens the directory: a thread of ours may hang in it. */
static peercache_status_t wait_entered(struct pc_disk *disk, char **error_p)
{
    uint64_t most = disk->params.open_ns;
    uint64_t until = pc_clock_monotonic() + most;
    pc_disk_lock(disk);
    while (disk->opening && (most == 0 || pc_clock_monotonic() < until)) {
        wait_change(disk, most == 0 ? pc_clock_monotonic() + PC_S : until);
    }
    disk->unattended = disk->opening;
    peercache_status_t status = disk->opening ? PEERCACHE_OK : disk->opened;
    if (disk->unattended) {
        PC_WARN("disk",
                "%s does not answer: no disk until it does, values are kept in "
                "memory only",
                disk->path);
    } else if (error_p != NULL) {
        *error_p = disk->open_error;
        disk->open_error = NULL;
    }
    pc_disk_unlock(disk);
    return status;
}

static peercache_status_t start(struct pc_disk *disk, char **error_p)
{
    if (disk->params.n_threads == 0) {
        pc_disk_enter(disk);
    } else if (!pc_disk_start_threads(disk)) {
        return fail(error_p, PEERCACHE_NO_MEMORY, disk->path,
                    "no thread can be started");
    }
    return wait_entered(disk, error_p);
}

peercache_status_t pc_disk_open(const struct pc_disk_params *given,
                                struct pc_disk **disk_p, char **error_p)
{
    struct pc_disk_params params = *given;
    if (error_p != NULL) {
        *error_p = NULL;
    }
    complete_params(&params);
    const char *why = check_params(&params);
    if (why != NULL) {
        return fail(error_p, PEERCACHE_INVALID, params.path, why);
    }
    struct pc_disk *disk = create(&params);
    if (disk == NULL) {
        return fail(error_p, PEERCACHE_NO_MEMORY, params.path, "no memory");
    }
    disk->opening = true;
    disk->recovering = true;
    disk->state = PC_DISK_OPENING;
    disk->failure = PC_DISK_LOST;
    peercache_status_t status = start(disk, error_p);
    if (status != PEERCACHE_OK) {
        (void)pc_disk_close(disk, 10 * PC_S);
        return status;
    }
    *disk_p = disk;
    return PEERCACHE_OK;
}

/* ---- The directory is gone
 * ----------------------------------------------------- */

/* Their files are none of ours any more. Lock held. */
static void abandon_files(struct pc_disk *disk)
{
    if (disk->spare != NULL) {
        pc_list_push_back(&disk->segments, &disk->spare->link);
        disk->spare = NULL;
    }
    while (!pc_list_is_empty(&disk->segments)) {
        pc_disk_doom(disk, PC_CONTAINER_OF(disk->segments.next,
                                           struct pc_disk_segment, link));
    }
    struct pc_list *link = disk->doomed.next;
    while (link != &disk->doomed) {
        struct pc_disk_segment *segment =
            PC_CONTAINER_OF(link, struct pc_disk_segment, link);
        link = link->next;
        segment->unlinked = true;
        segment->n_refs++;
        pc_disk_unref(disk, segment);
    }
    disk->used = 0;
}

void pc_disk_lose(struct pc_disk *disk)
{
    struct pc_list ended;
    pc_list_init(&ended);
    PC_ERROR("disk",
             "directory %s is gone or another one: no disk until a restart",
             disk->path);
    pc_disk_lock(disk);
    pc_disk_pause(disk, PC_DISK_LOST, &ended);
    disk->state = PC_DISK_GONE;
    disk->failure = PC_DISK_LOST;
    disk->epoch++;
    disk->recovering = false;
    pc_disk_close_head(disk);
    bool call = pc_disk_begin_calls(disk);
    pc_disk_unlock(disk);
    if (call) {
        pc_disk_end_all(disk, &ended);
    }
    pc_disk_forget(disk, NULL, PC_DISK_GONE_LOST);
    pc_disk_lock(disk);
    abandon_files(disk);
    pc_disk_unlock(disk);
}

/* ---- Close
 * ---------------------------------------------------------------------- */

/* Nothing is left to do that a restart would miss. */
static bool is_quiet(const struct pc_disk *disk)
{
    if (disk->opening) {
        return false;
    }
    for (struct pc_list *link = disk->doomed.next; link != &disk->doomed;
         link = link->next) {
        if (!PC_CONTAINER_OF(link, struct pc_disk_segment, link)->unlinked &&
            disk->unlink_at_ns == 0) {
            return false; /* Unlinking it has not failed. */
        }
    }
    for (struct pc_list *link = disk->segments.next; link != &disk->segments;
         link = link->next) {
        if (PC_CONTAINER_OF(link, struct pc_disk_segment, link)->state ==
            PC_DISK_SEALING) {
            return false;
        }
    }
    return pc_list_is_empty(&disk->writes) && pc_list_is_empty(&disk->reads) &&
           disk->n_batches == 0 && disk->n_reading == 0 &&
           disk->n_calling == 0 && disk->active == NULL &&
           disk->spare == NULL && pc_list_is_empty(&disk->clears) &&
           !disk->keeping;
}

/* Does somebody use a request just now? */
static bool is_touching(const struct pc_disk *disk)
{
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        const struct pc_disk_worker *worker = &disk->workers[i];
        if (pc_list_is_linked(&worker->link) && !worker->suspended) {
            return true;
        }
    }
    return false;
}

/* From here on no thread touches a caller's memory or calls anybody but us. */
static void take_over(struct pc_disk *disk, struct pc_list *requests)
{
    disk->stop = true;
    (void)pthread_cond_broadcast(&disk->work);
    pc_disk_wake_keeper(disk);
    pc_list_splice_back(requests, &disk->writes);
    pc_list_splice_back(requests, &disk->reads);
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        disk->workers[i].abandoned = true;
    }
    while (is_touching(disk) || disk->n_calling > 0) {
        (void)pthread_cond_wait(&disk->changed, &disk->lock);
    }
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        pc_list_splice_back(requests, &disk->workers[i].requests);
    }
    disk->muted = true;
}

static void call_all(struct pc_list *requests, struct pc_list *clears)
{
    struct pc_list *link;
    while ((link = pc_list_pop_front(requests)) != NULL) {
        struct pc_disk_request *request =
            PC_CONTAINER_OF(link, struct pc_disk_request, link);
        if (request->kind == PC_DISK_REQUEST_READ) {
            request->read(request->arg, PC_DISK_CLOSED, NULL);
        } else if (request->written != NULL) {
            request->written(request->arg, PC_DISK_CLOSED);
        }
        pc_free(request);
    }
    while ((link = pc_list_pop_front(clears)) != NULL) {
        struct pc_disk_clear *clear =
            PC_CONTAINER_OF(link, struct pc_disk_clear, link);
        if (clear->done != NULL) {
            clear->done(clear->arg, PC_DISK_CLOSED);
        }
        pc_free(clear);
    }
}

static void join_all(struct pc_disk *disk)
{
    if (disk->keeper.runs) {
        (void)pthread_join(disk->keeper.thread, NULL);
    }
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        if (disk->workers[i].runs) {
            (void)pthread_join(disk->workers[i].thread, NULL);
        }
    }
}

static void detach_all(struct pc_disk *disk)
{
    if (disk->keeper.runs) {
        (void)pthread_detach(disk->keeper.thread);
    }
    for (uint32_t i = 0; i < disk->n_workers; i++) {
        if (disk->workers[i].runs) {
            (void)pthread_detach(disk->workers[i].thread);
        }
    }
}

/* Threads wait by the system's clock, whatever the disk's own is. */
static void drain(struct pc_disk *disk, uint64_t until_ns)
{
    bool threads = disk->keeper.runs;
    while (!is_quiet(disk) && pc_clock_monotonic() < until_ns) {
        if (threads) {
            wait_change(disk, until_ns);
            continue;
        }
        pc_disk_unlock(disk);
        bool did = pc_disk_turn(disk);
        pc_disk_lock(disk);
        if (!did) {
            break;
        }
    }
}

bool pc_disk_close(struct pc_disk *disk, uint64_t timeout_ns)
{
    struct pc_list requests, clears;
    uint64_t now = pc_clock_monotonic();
    if (disk == NULL) {
        return true;
    }
    pc_list_init(&requests);
    pc_list_init(&clears);
    timeout_ns = timeout_ns < UINT64_MAX / 4 ? timeout_ns : UINT64_MAX / 4;
    pc_disk_lock(disk);
    disk->closing = true;
    (void)pthread_cond_broadcast(&disk->work);
    pc_disk_wake_keeper(disk);
    drain(disk, now + timeout_ns / 4 * 3);
    take_over(disk, &requests);
    pc_list_splice_back(&clears, &disk->clears);
    pc_disk_unlock(disk);
    call_all(&requests, &clears);
    pc_disk_lock(disk);
    while (disk->n_running > 0 && pc_clock_monotonic() < now + timeout_ns) {
        wait_change(disk, now + timeout_ns);
    }
    bool ended = disk->n_running == 0;
    if (!ended) {
        PC_WARN("disk", "%s does not answer: closing without it", disk->path);
        disk->detached = true;
        detach_all(disk);
    }
    pc_disk_unlock(disk);
    if (ended) {
        join_all(disk);
        pc_disk_free(disk);
    }
    return ended;
}
