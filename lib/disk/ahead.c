#include "ahead.h"

#include <string.h>

#define READ_AT_ONCE (PC_DISK_STAGE - PC_DISK_KEPT)

/* The k-th behind the current one. */
static unsigned behind(const struct pc_disk_ahead *ahead, unsigned k)
{
    return (ahead->current + k) % (1 + PC_DISK_AHEAD);
}

/* Read the next part, behind the room for what is kept. The lock is held, but
 * not meanwhile: then the buffer is this thread's, whichever is the current
 * one by then. */
static void read_next(struct pc_disk_ahead *ahead)
{
    const struct pc_disk_source *source = ahead->source;
    unsigned which = behind(ahead, 1 + ahead->n_ready);
    struct pc_disk_ahead_part part = {.at = ahead->next};
    ahead->reading = true;
    (void)pthread_mutex_unlock(&ahead->lock);
    part.error = source->read(source->arg, ahead->buffers[which] + PC_DISK_KEPT,
                              READ_AT_ONCE, part.at, &part.n);
    (void)pthread_mutex_lock(&ahead->lock);
    ahead->reading = false;
    ahead->parts[which] = part;
    ahead->n_ready++;
    ahead->next = part.at + part.n;
    ahead->goes_on = ahead->goes_on && part.error == 0 &&
                     part.n == READ_AT_ONCE && ahead->next < source->size;
    (void)pthread_cond_broadcast(&ahead->changed);
}

static void *ahead_main(void *arg)
{
    struct pc_disk_ahead *ahead = arg;
    (void)pthread_mutex_lock(&ahead->lock);
    while (!ahead->stop) {
        if (ahead->goes_on && ahead->n_ready < PC_DISK_AHEAD) {
            read_next(ahead);
        } else {
            (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
        }
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

void pc_disk_ahead_start(struct pc_disk_ahead *ahead,
                         const struct pc_disk_source *source,
                         unsigned char *buffer, unsigned char *more)
{
    *ahead = (struct pc_disk_ahead){
        .source = source, .buffers = {buffer}, .bytes = buffer};
    if (more == NULL) {
        return;
    }
    for (size_t i = 0; i < PC_DISK_AHEAD; i++) {
        ahead->buffers[1 + i] = more + i * PC_DISK_STAGE;
    }
    (void)pthread_mutex_init(&ahead->lock, NULL);
    (void)pthread_cond_init(&ahead->changed, NULL);
    ahead->runs = pthread_create(&ahead->thread, NULL, ahead_main, ahead) == 0;
    if (!ahead->runs) {
        (void)pthread_cond_destroy(&ahead->changed);
        (void)pthread_mutex_destroy(&ahead->lock);
    }
}

void pc_disk_ahead_stop(struct pc_disk_ahead *ahead)
{
    if (!ahead->runs) {
        return;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    ahead->stop = true;
    (void)pthread_cond_broadcast(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->lock);
    (void)pthread_join(ahead->thread, NULL);
    (void)pthread_cond_destroy(&ahead->changed);
    (void)pthread_mutex_destroy(&ahead->lock);
    ahead->runs = false;
}

/* Let the thread go on behind the part, if it does not already. */
static void ask(struct pc_disk_ahead *ahead)
{
    uint64_t end = ahead->start + ahead->len;
    if (!ahead->runs || end >= ahead->source->size ||
        end % PC_DISK_BLOCK != 0) {
        return;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    if (!ahead->goes_on && !ahead->reading && ahead->n_ready == 0) {
        ahead->next = end;
        ahead->goes_on = true;
        (void)pthread_cond_broadcast(&ahead->changed);
    }
    (void)pthread_mutex_unlock(&ahead->lock);
}

/* Nothing is read ahead any more, and what was is forgotten: the buffers are
 * ours alone. */
static void cancel(struct pc_disk_ahead *ahead)
{
    if (!ahead->runs) {
        return;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    ahead->goes_on = false;
    while (ahead->reading) {
        (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
    }
    ahead->n_ready = 0;
    (void)pthread_mutex_unlock(&ahead->lock);
}

int pc_disk_ahead_jump(struct pc_disk_ahead *ahead, uint64_t start, size_t len)
{
    size_t n = 0;
    cancel(ahead);
    len = len < PC_DISK_STAGE ? len : PC_DISK_STAGE;
    int error = ahead->source->read(
        ahead->source->arg, ahead->buffers[ahead->current], len, start, &n);
    ahead->bytes = ahead->buffers[ahead->current];
    ahead->start = start;
    ahead->len = error == 0 ? n : 0;
    return error;
}

void pc_disk_ahead_blank(struct pc_disk_ahead *ahead, uint64_t start,
                         size_t len)
{
    cancel(ahead);
    len = len < PC_DISK_STAGE ? len : PC_DISK_STAGE;
    memset(ahead->buffers[ahead->current], 0, len);
    ahead->bytes = ahead->buffers[ahead->current];
    ahead->start = start;
    ahead->len = len;
}

/* Wait for the part that was read ahead from `at` on; false: there is none, or
 * it could not be read. It stays ready, and so its buffer is not read into. */
static bool await(struct pc_disk_ahead *ahead, uint64_t at, size_t *n_p)
{
    if (!ahead->runs) {
        return false;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    while (ahead->n_ready == 0 && (ahead->goes_on || ahead->reading)) {
        (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
    }
    const struct pc_disk_ahead_part *part = &ahead->parts[behind(ahead, 1)];
    bool is_it = ahead->n_ready > 0 && part->at == at && part->error == 0;
    *n_p = part->n;
    (void)pthread_mutex_unlock(&ahead->lock);
    return is_it;
}

/* The part that was read ahead, with the end of the one before in front. The
 * buffer of that one is free then. */
static void go_on(struct pc_disk_ahead *ahead, uint64_t start, size_t n)
{
    size_t kept = (size_t)(ahead->start + ahead->len - start);
    unsigned next = behind(ahead, 1);
    unsigned char *bytes = ahead->buffers[next] + PC_DISK_KEPT - kept;
    memcpy(bytes, ahead->bytes + (start - ahead->start), kept);
    ahead->bytes = bytes;
    ahead->start = start;
    ahead->len = kept + n;
    (void)pthread_mutex_lock(&ahead->lock);
    ahead->current = next;
    ahead->n_ready--;
    (void)pthread_cond_broadcast(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->lock);
}

int pc_disk_ahead_move(struct pc_disk_ahead *ahead, uint64_t start)
{
    uint64_t end = ahead->start + ahead->len;
    size_t n = 0;
    int error = 0;
    bool follows =
        start >= ahead->start && start <= end && end - start <= PC_DISK_KEPT;
    if (follows && await(ahead, end, &n)) {
        go_on(ahead, start, n);
    } else {
        error = pc_disk_ahead_jump(ahead, start, PC_DISK_STAGE);
    }
    if (error == 0) {
        ask(ahead);
    }
    return error;
}
