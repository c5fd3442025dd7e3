#include "ahead.h"

#include <string.h>

/* Behind the room for what is kept. */
static int read_into(const struct pc_disk_ahead *ahead, unsigned which,
                     uint64_t at, size_t *n_p)
{
    return ahead->source->read(ahead->source->arg,
                               ahead->buffers[which] + PC_DISK_KEPT,
                               PC_DISK_STAGE - PC_DISK_KEPT, at, n_p);
}

static void *ahead_main(void *arg)
{
    struct pc_disk_ahead *ahead = arg;
    (void)pthread_mutex_lock(&ahead->lock);
    while (!ahead->stop) {
        if (ahead->state != PC_DISK_ASKED) {
            (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
            continue;
        }
        unsigned other = 1 - ahead->current;
        uint64_t at = ahead->at;
        size_t n = 0;
        (void)pthread_mutex_unlock(&ahead->lock);
        int error = read_into(ahead, other, at, &n);
        (void)pthread_mutex_lock(&ahead->lock);
        ahead->n = n;
        ahead->error = error;
        ahead->state = PC_DISK_READY;
        (void)pthread_cond_broadcast(&ahead->changed);
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

void pc_disk_ahead_start(struct pc_disk_ahead *ahead,
                         const struct pc_disk_source *source,
                         unsigned char *buffer, unsigned char *second)
{
    *ahead = (struct pc_disk_ahead){.source = source,
                                    .buffers = {buffer, second},
                                    .bytes = buffer,
                                    .state = PC_DISK_IDLE};
    if (second == NULL) {
        return;
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

/* Ask for what follows the part, as far as there is something. */
static void ask(struct pc_disk_ahead *ahead)
{
    uint64_t end = ahead->start + ahead->len;
    if (!ahead->runs || end >= ahead->source->size ||
        end % PC_DISK_BLOCK != 0) {
        return;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    ahead->at = end;
    ahead->state = PC_DISK_ASKED;
    (void)pthread_cond_broadcast(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->lock);
}

/* Wait for what was asked for; false: nothing was. The thread is idle after
 * that, so the buffers are ours alone. */
static bool collect(struct pc_disk_ahead *ahead, uint64_t *at_p, size_t *n_p,
                    int *error_p)
{
    if (!ahead->runs) {
        return false;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    while (ahead->state == PC_DISK_ASKED) {
        (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
    }
    bool was_asked = ahead->state == PC_DISK_READY;
    ahead->state = PC_DISK_IDLE;
    *at_p = ahead->at;
    *n_p = ahead->n;
    *error_p = ahead->error;
    (void)pthread_mutex_unlock(&ahead->lock);
    return was_asked;
}

int pc_disk_ahead_jump(struct pc_disk_ahead *ahead, uint64_t start, size_t len)
{
    uint64_t at;
    size_t n = 0;
    int error;
    (void)collect(ahead, &at, &n, &error);
    n = 0;
    len = len < PC_DISK_STAGE ? len : PC_DISK_STAGE;
    error = ahead->source->read(ahead->source->arg,
                                ahead->buffers[ahead->current], len, start, &n);
    ahead->bytes = ahead->buffers[ahead->current];
    ahead->start = start;
    ahead->len = error == 0 ? n : 0;
    return error;
}

void pc_disk_ahead_blank(struct pc_disk_ahead *ahead, uint64_t start,
                         size_t len)
{
    uint64_t at;
    size_t n;
    int error;
    (void)collect(ahead, &at, &n, &error);
    len = len < PC_DISK_STAGE ? len : PC_DISK_STAGE;
    memset(ahead->buffers[ahead->current], 0, len);
    ahead->bytes = ahead->buffers[ahead->current];
    ahead->start = start;
    ahead->len = len;
}

/* The part that was read ahead, with the end of the one before in front. */
static void go_on(struct pc_disk_ahead *ahead, uint64_t start, size_t n)
{
    size_t kept = (size_t)(ahead->start + ahead->len - start);
    unsigned char *bytes =
        ahead->buffers[1 - ahead->current] + PC_DISK_KEPT - kept;
    memcpy(bytes, ahead->bytes + (start - ahead->start), kept);
    ahead->bytes = bytes;
    ahead->current = 1 - ahead->current;
    ahead->start = start;
    ahead->len = kept + n;
}

int pc_disk_ahead_move(struct pc_disk_ahead *ahead, uint64_t start)
{
    uint64_t end = ahead->start + ahead->len;
    uint64_t at = 0;
    size_t n = 0;
    int error = 0;
    bool follows =
        start >= ahead->start && start <= end && end - start <= PC_DISK_KEPT;
    if (collect(ahead, &at, &n, &error) && follows && at == end && error == 0) {
        go_on(ahead, start, n);
    } else {
        error = pc_disk_ahead_jump(ahead, start, PC_DISK_STAGE);
    }
    if (error == 0) {
        ask(ahead);
    }
    return error;
}
