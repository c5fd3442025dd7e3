#include "disk_bare.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/pages.h"
#include "disk/format.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_SLOTS = 64, FILES_MOST = 1024, THREADS_MOST = 64 };

struct bare
{
    const struct bare_job *job;
    int files[FILES_MOST];
    size_t n_files;
    unsigned char *slots;   /* Where values go, one after the other. */
    unsigned char *buffers; /* One for each thread, in such pages as the
                             * tier's. */
    size_t buffer_len;
    _Atomic uint64_t next, sum;
    _Atomic uint32_t n_started;
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static void open_files(struct bare *bare)
{
    const char *at = bare->job->files;
    while (*at != '\0' && bare->n_files < FILES_MOST) {
        char path[4096];
        size_t len = strcspn(at, ":");
        (void)snprintf(path, sizeof(path), "%.*s", (int)len, at);
        int file = open(path, O_RDONLY | O_DIRECT);
        if (file < 0) {
            die(path);
        }
        bare->files[bare->n_files++] = file;
        at += len + (at[len] == ':' ? 1 : 0);
    }
}

static void read_one(struct bare *bare, unsigned char *buffer, uint64_t i)
{
    const struct bare_job *job = bare->job;
    uint64_t key = i ^ job->salt;
    struct pc_digest any = pc_digest_key(1, NULL, 0, &key, sizeof(key));
    size_t len = job->value_len + PC_DISK_BLOCK;
    uint64_t n_places = (job->span - len) / PC_DISK_BLOCK + 1;
    unsigned char *to = bare->slots + i % N_SLOTS * job->value_len;
    if (pread(bare->files[any.hi % bare->n_files], buffer, len,
              (off_t)(any.lo % n_places * PC_DISK_BLOCK)) != (ssize_t)len) {
        die("pread");
    }
    memcpy(to, buffer + PC_DISK_RECORD_BYTES, job->value_len);
    /* Used, so that the compiler cannot leave it out. */
    atomic_fetch_add_explicit(&bare->sum, pc_checksum(to, job->value_len),
                              memory_order_relaxed);
}

static void *read_some(void *arg)
{
    struct bare *bare = arg;
    uint32_t which =
        atomic_fetch_add_explicit(&bare->n_started, 1, memory_order_relaxed);
    unsigned char *buffer = bare->buffers + which * bare->buffer_len;
    for (;;) {
        uint64_t i =
            atomic_fetch_add_explicit(&bare->next, 1, memory_order_relaxed);
        if (i >= bare->job->n_values) {
            break;
        }
        read_one(bare, buffer, i);
    }
    return NULL;
}

double bare_run(const struct bare_job *job)
{
    static struct bare bare;
    pthread_t threads[THREADS_MOST];
    bare = (struct bare){.job = job};
    bare.slots = malloc(N_SLOTS * job->value_len);
    bare.buffer_len =
        (size_t)pc_disk_round(job->value_len + PC_DISK_BLOCK, (size_t)1 << 20);
    bare.buffers = pc_pages_map(job->depth * bare.buffer_len, true);
    if (bare.slots == NULL || bare.buffers == NULL ||
        job->depth > THREADS_MOST) {
        die("memory");
    }
    open_files(&bare);
    uint64_t began = pc_clock_monotonic();
    for (uint32_t i = 0; i < job->depth; i++) {
        if (pthread_create(&threads[i], NULL, read_some, &bare) != 0) {
            die("thread");
        }
    }
    for (uint32_t i = 0; i < job->depth; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    double seconds = (double)(pc_clock_monotonic() - began) / 1e9;
    for (size_t i = 0; i < bare.n_files; i++) {
        (void)close(bare.files[i]);
    }
    pc_pages_unmap(bare.buffers, job->depth * bare.buffer_len);
    free(bare.slots);
    return (double)job->n_values * (double)job->value_len / (1 << 20) / seconds;
}
