/*
 * The fabric's suite on UCX: shared memory, tcp over loopback, and both; then
 * what only real processes can show. "owner" as the argument makes this program
 * the other process. "verbs" as the last argument takes RDMA's verbs, which
 * must be there, instead of tcp; "processes" before it leaves the suite out.
 */
#include "fabric_suite.h"

#include "test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "transports/ucx/blob.h"
#include "transports/ucx/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB        ((size_t)1024)
#define MIB        (KIB * KIB)
#define OWNER_POOL (4 * MIB)
#define TOO_LONG   (20 * PC_S)
#define POISON     0xEE

/* Set by the argument, before any test. */
static bool on_verbs;

struct ucx_ground
{
    bool shm;
    bool rdma;
    const char *tcp;
    uint64_t began;
};

static peercache_status_t ucx_open(struct fabric_fixture *fixture,
                                   enum fabric_side side,
                                   struct pc_fabric_params *params,
                                   struct pc_fabric **fabric_p)
{
    struct ucx_ground *ground = fixture->arg;
    (void)side;
    params->shm = ground->shm;
    params->rdma = ground->rdma;
    params->ucx_tcp = ground->tcp;
    return fixture->ops->open(params, fabric_p);
}

/* Progress; when nothing moves, wait as an engine would. */
static unsigned turn(const struct pc_fabric_ops *ops,
                     struct pc_fabric *const *fabrics, size_t n_fabrics,
                     int max_wait_ms)
{
    struct pollfd fds[FABRIC_N_SIDES];
    nfds_t n_fds = 0;
    unsigned n = 0;
    bool may_sleep = true;
    for (size_t i = 0; i < n_fabrics; i++) {
        n += fabrics[i] != NULL ? ops->progress(fabrics[i]) : 0;
    }
    for (size_t i = 0; n == 0 && i < n_fabrics; i++) {
        int fd = -1;
        if (fabrics[i] == NULL) {
            continue;
        }
        may_sleep = may_sleep && ops->arm(fabrics[i], &fd) == PEERCACHE_OK;
        if (fd >= 0) {
            fds[n_fds++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
    if (n == 0 && may_sleep) {
        poll(fds, n_fds, max_wait_ms);
    }
    return n;
}

static bool ucx_step(struct fabric_fixture *fixture,
                     struct pc_fabric *const fabrics[FABRIC_N_SIDES],
                     unsigned n_steps)
{
    struct ucx_ground *ground = fixture->arg;
    if (n_steps == 0) {
        ground->began = pc_clock_monotonic();
    }
    turn(fixture->ops, fabrics, FABRIC_N_SIDES, 1);
    return pc_clock_monotonic() - ground->began < TOO_LONG;
}

/* ---- The other process ------------------------------------------------- */

static void no_attached(void *arg, void *peer_arg,
                        const struct pc_fabric_path *path)
{
    (void)arg;
    (void)peer_arg;
    (void)path;
}

static void no_peer_failed(void *arg, void *peer_arg, peercache_status_t why)
{
    (void)arg;
    (void)peer_arg;
    (void)why;
}

static bool write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, void *data, size_t len)
{
    char *at = data;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_blob(int fd, struct pc_blob blob)
{
    return write_all(fd, &blob.len, sizeof(blob.len)) &&
           write_all(fd, blob.data, blob.len);
}

static struct pc_blob read_blob(int fd)
{
    struct pc_blob blob = {NULL, 0};
    size_t len = 0;
    assert_true(read_all(fd, &len, sizeof(len)) && len < 65536);
    void *data = malloc(len);
    assert_non_null(data);
    assert_true(read_all(fd, data, len));
    blob.data = data;
    blob.len = len;
    return blob;
}

/* Serves a pool until its parent is gone. */
static int owner_main(void)
{
    const struct pc_fabric_ops *ops;
    struct pc_fabric *fabric;
    struct pc_fabric_mem *mem;
    struct pc_fabric_params params = {.devices = "",
                                      .shm = true,
                                      .rdma = on_verbs,
                                      .ucx_tcp = on_verbs ? NULL : "lo",
                                      .attached = no_attached,
                                      .peer_failed = no_peer_failed};
    struct pc_fabric_mem_params pool = {
        .use = PC_MEM_POOL, .len = OWNER_POOL, .numa_node = -1};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pc_fabric_load(NULL, &ops) != PEERCACHE_OK ||
        ops->open(&params, &fabric) != PEERCACHE_OK ||
        ops->mem_register(fabric, &pool, &mem) != PEERCACHE_OK) {
        return 1;
    }
    unsigned char *bytes = ops->mem_addr(mem);
    for (size_t i = 0; i < OWNER_POOL; i++) {
        bytes[i] = fabric_byte(i);
    }
    uint64_t base = (uint64_t)(uintptr_t)bytes;
    if (!write_blob(STDOUT_FILENO, ops->address(fabric)) ||
        !write_blob(STDOUT_FILENO, ops->mem_rkey(mem)) ||
        !write_all(STDOUT_FILENO, &base, sizeof(base))) {
        return 1;
    }
    for (;;) {
        turn(ops, &fabric, 1, 10);
    }
}

struct owner
{
    pid_t pid;
    struct pc_blob address;
    struct pc_blob rkey;
    uint64_t base;
};

static void owner_start(struct owner *owner)
{
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    owner->pid = fork();
    if (owner->pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        execl("/proc/self/exe", "owner", "owner", on_verbs ? "verbs" : NULL,
              (char *)NULL);
        _exit(127);
    }
    assert_true(owner->pid > 0);
    close(out[1]);
    owner->address = read_blob(out[0]);
    owner->rkey = read_blob(out[0]);
    assert_true(read_all(out[0], &owner->base, sizeof(owner->base)));
    close(out[0]);
}

static void owner_end(struct owner *owner)
{
    if (owner->pid > 0) {
        kill(owner->pid, SIGKILL);
        waitpid(owner->pid, NULL, 0);
    }
    free((void *)owner->address.data);
    free((void *)owner->rkey.data);
}

/* B reads from the other process; A stays idle. */
static void connect_to(struct fabric_bench *bench, struct owner *owner)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    assert_int_equal(ops->attach(bench->fabrics[FABRIC_B], owner->address,
                                 bench, &bench->peer),
                     PEERCACHE_OK);
    FABRIC_WAIT(bench, bench->path.can_get);
    assert_true(bench->path.can_map);
    assert_int_equal(bench->path.native, on_verbs);
    assert_string_equal(bench->path.carrier,
                        on_verbs ? "sysv rc_verbs/rxe0:1" : "sysv tcp/lo");
    assert_int_equal(ops->rkey_unpack(bench->peer, owner->rkey, &bench->rkey),
                     PEERCACHE_OK);
}

static struct fabric_read *post_all(struct fabric_bench *bench,
                                    struct owner *owner, unsigned char *buffer,
                                    size_t n)
{
    struct fabric_read *reads = calloc(n, sizeof(*reads));
    size_t len = OWNER_POOL / n;
    assert_non_null(reads);
    for (size_t i = 0; i < n; i++) {
        fabric_read_init(bench, &reads[i], owner->base + i * len,
                         buffer + i * len, len);
        assert_int_equal(bench->fixture->ops->get(&reads[i].get),
                         PEERCACHE_IN_PROGRESS);
    }
    return reads;
}

static const unsigned char *map_owner(struct fabric_bench *bench,
                                      struct owner *owner)
{
    const unsigned char *mapped =
        bench->fixture->ops->rkey_map(bench->rkey, owner->base, OWNER_POOL);
    assert_non_null(mapped);
    return mapped;
}

#define N_READS 32

static void another_process_is_read_and_mapped(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    assert_true(fabric_bytes_right(map_owner(&bench, &owner), 0, OWNER_POOL));
    unsigned char *buffer = malloc(OWNER_POOL);
    struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
    for (size_t i = 0; i < N_READS; i++) {
        FABRIC_WAIT(&bench, reads[i].n_done > 0);
        assert_int_equal(reads[i].status, PEERCACHE_OK);
    }
    assert_true(fabric_bytes_right(buffer, 0, OWNER_POOL));
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_mapping_cannot_be_written(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    const unsigned char *mapped = map_owner(&bench, &owner);
    /* The kernel's write into it answers what ours would die of. */
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_true(zeros >= 0);
    size_t at[] = {0, 4096, OWNER_POOL - 1};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        assert_int_equal(read(zeros, (void *)(uintptr_t)(mapped + at[i]), 1),
                         -1);
        assert_int_equal(errno, EFAULT);
    }
    close(zeros);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_killed_owner_fails_its_gets_and_leaves_its_mapping(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    const unsigned char *mapped = map_owner(&bench, &owner);
    unsigned char *buffer = malloc(OWNER_POOL);
    memset(buffer, POISON, OWNER_POOL);
    /* Stopped first, so that the gets are surely in flight when it dies. */
    kill(owner.pid, SIGSTOP);
    waitpid(owner.pid, NULL, WUNTRACED);
    struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
    kill(owner.pid, SIGKILL);
    waitpid(owner.pid, NULL, 0);
    owner.pid = 0;
    FABRIC_WAIT(&bench, bench.n_failed > 0);
    for (size_t i = 0; i < N_READS; i++) {
        FABRIC_WAIT(&bench, reads[i].n_done > 0);
        assert_int_not_equal(reads[i].status, PEERCACHE_OK);
    }
    memset(buffer, POISON, OWNER_POOL);
    assert_int_equal(bench.fixture->ops->get(&reads[0].get),
                     PEERCACHE_PEER_FAILED);
    fabric_bench_detach(&bench);
    for (size_t i = 0; i < OWNER_POOL; i++) {
        assert_int_equal(buffer[i], POISON);
    }
    assert_true(fabric_bytes_right(mapped, 0, OWNER_POOL));
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

/* ---- Memory that is read without its owner: verbs ----------------------- */

static void wait_all(struct fabric_bench *bench, struct fabric_read *reads,
                     size_t n)
{
    for (size_t i = 0; i < n; i++) {
        FABRIC_WAIT(bench, reads[i].n_done > 0);
    }
}

/* The proof that a get is one-sided is not its bytes: it is an owner that
 * cannot answer. */
static void a_stopped_owners_memory_is_read(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    unsigned char *buffer = malloc(OWNER_POOL);
    kill(owner.pid, SIGSTOP);
    waitpid(owner.pid, NULL, WUNTRACED);
    for (int round = 0; round < 3; round++) {
        memset(buffer, POISON, OWNER_POOL);
        struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
        wait_all(&bench, reads, N_READS);
        for (size_t i = 0; i < N_READS; i++) {
            assert_int_equal(reads[i].status, PEERCACHE_OK);
        }
        assert_true(fabric_bytes_right(buffer, 0, OWNER_POOL));
        free(reads);
    }
    assert_int_equal(bench.n_failed, 0);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_killed_owner_is_noticed_by_its_gets(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    unsigned char *buffer = malloc(OWNER_POOL);
    memset(buffer, POISON, OWNER_POOL);
    struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
    kill(owner.pid, SIGKILL);
    waitpid(owner.pid, NULL, 0);
    owner.pid = 0;
    uint64_t killed = pc_clock_monotonic();
    wait_all(&bench, reads, N_READS);
    /* They may all have been through before it died. */
    struct fabric_read last;
    fabric_read_init(&bench, &last, owner.base, buffer, 1);
    if (bench.n_failed == 0 &&
        bench.fixture->ops->get(&last.get) == PEERCACHE_IN_PROGRESS) {
        FABRIC_WAIT(&bench, last.n_done > 0);
        assert_int_not_equal(last.status, PEERCACHE_OK);
    }
    FABRIC_WAIT(&bench, bench.n_failed > 0);
    uint64_t took = pc_clock_monotonic() - killed;
    print_message("noticed after %.0f ms\n", (double)took / PC_MS);
    assert_true(took < 5 * PC_S);
    size_t len = OWNER_POOL / N_READS;
    for (size_t i = 0; i < N_READS; i++) {
        assert_true(reads[i].status != PEERCACHE_OK ||
                    fabric_bytes_right(buffer + i * len, i * len, len));
    }
    memset(buffer, POISON, OWNER_POOL);
    assert_int_equal(bench.fixture->ops->get(&reads[0].get),
                     PEERCACHE_PEER_FAILED);
    fabric_bench_detach(&bench);
    for (size_t i = 0; i < OWNER_POOL; i++) {
        assert_int_equal(buffer[i], POISON);
    }
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

/* Its registration is no longer cached, so the card refuses; the way goes, too.
 */
static void an_unregistered_pool_is_not_read(void **state)
{
    struct fabric_bench bench;
    struct fabric_read read;
    static unsigned char buffer[4096];
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    uint64_t base =
        (uint64_t)(uintptr_t)bench.fixture->ops->mem_addr(bench.pool);
    bench.fixture->ops->mem_deregister(bench.pool);
    bench.pool = NULL;
    memset(buffer, POISON, sizeof(buffer));
    fabric_read_init(&bench, &read, base, buffer, sizeof(buffer));
    assert_int_equal(bench.fixture->ops->get(&read.get), PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(&bench, read.n_done > 0);
    assert_int_not_equal(read.status, PEERCACHE_OK);
    for (size_t i = 0; i < sizeof(buffer); i++) {
        assert_int_equal(buffer[i], POISON);
    }
    FABRIC_WAIT(&bench, bench.n_failed > 0);
    fabric_bench_close(&bench);
}

/* Poisoned when the last get is done, looked at a while later. */
static void forced_detaches_leave_nothing_that_lands_later(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    unsigned n_ended = 0;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    unsigned char *buffer = malloc(OWNER_POOL);
    for (unsigned round = 0; round < 6; round++) {
        bench.n_attached = 0;
        bench.n_detached = 0;
        bench.path.can_get = false;
        connect_to(&bench, &owner);
        struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
        for (unsigned i = 0; i < 4 * round; i++) {
            fabric_bench_step(&bench, 0);
        }
        fabric_bench_detach(&bench);
        memset(buffer, POISON, OWNER_POOL);
        for (size_t i = 0; i < N_READS; i++) {
            assert_int_equal(reads[i].n_done, 1);
            n_ended += reads[i].status != PEERCACHE_OK;
        }
        uint64_t until = pc_clock_monotonic() + 150 * PC_MS;
        while (pc_clock_monotonic() < until) {
            fabric_bench_step(&bench, 0);
        }
        for (size_t i = 0; i < OWNER_POOL; i++) {
            assert_int_equal(buffer[i], POISON);
        }
        bench.fixture->ops->rkey_release(bench.rkey);
        bench.rkey = NULL;
        free(reads);
    }
    print_message("%u of %u gets were broken off\n", n_ended, 6 * N_READS);
    assert_true(n_ended > 0);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_killed_idle_owner_is_noticed(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    kill(owner.pid, SIGKILL);
    waitpid(owner.pid, NULL, 0);
    owner.pid = 0;
    FABRIC_WAIT(&bench, bench.n_failed > 0);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void detach_gets_away_from_a_stopped_owner(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    const unsigned char *mapped = map_owner(&bench, &owner);
    unsigned char *buffer = malloc(OWNER_POOL);
    memset(buffer, POISON, OWNER_POOL);
    kill(owner.pid, SIGSTOP);
    waitpid(owner.pid, NULL, WUNTRACED);
    struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
    for (unsigned i = 0; i < 50; i++) {
        fabric_bench_step(&bench, 0);
    }
    uint64_t before = pc_clock_monotonic();
    fabric_bench_detach(&bench);
    assert_true(pc_clock_monotonic() - before < 5 * PC_S);
    for (size_t i = 0; i < N_READS; i++) {
        assert_int_equal(reads[i].n_done, 1);
        assert_int_not_equal(reads[i].status, PEERCACHE_OK);
    }
    memset(buffer, POISON, OWNER_POOL);
    kill(owner.pid, SIGCONT);
    for (unsigned i = 0; i < 100; i++) {
        fabric_bench_step(&bench, 0);
    }
    for (size_t i = 0; i < OWNER_POOL; i++) {
        assert_int_equal(buffer[i], POISON);
    }
    assert_true(fabric_bytes_right(mapped, 0, OWNER_POOL));
    free(reads);
    free(buffer);
    assert_int_equal(waitpid(owner.pid, NULL, WNOHANG), 0);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

/* Its kernel answers, it does not: half a connection has to be given up. */
static void an_owner_stopped_before_attach_can_be_left(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    kill(owner.pid, SIGSTOP);
    waitpid(owner.pid, NULL, WUNTRACED);
    fabric_bench_open(&bench, *state);
    for (unsigned round = 0; round < 4; round++) {
        bench.n_attached = 0;
        bench.n_detached = 0;
        assert_int_equal(bench.fixture->ops->attach(bench.fabrics[FABRIC_B],
                                                    owner.address, &bench,
                                                    &bench.peer),
                         PEERCACHE_OK);
        for (unsigned i = 0; i < 10 * round; i++) {
            fabric_bench_step(&bench, 0);
        }
        assert_false(bench.path.can_get);
        fabric_bench_detach(&bench);
    }
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void one_done(struct pc_fabric_get *get, peercache_status_t status)
{
    (void)get;
    (void)status;
}

static void note_path(void *arg, void *peer_arg,
                      const struct pc_fabric_path *path)
{
    (void)arg;
    *(struct pc_fabric_path *)peer_arg = *path;
}

/* Attaches to the owner that it is told of and says so; told to go on, posts
 * gets for a whole pool, says so, and waits for its end. */
static int reader_main(void)
{
    static struct pc_fabric_get gets[N_READS];
    const struct pc_fabric_ops *ops;
    struct pc_fabric *fabric;
    struct pc_fabric_peer *peer;
    struct pc_fabric_rkey *rkey;
    struct pc_fabric_path path = {.can_get = false};
    struct pc_fabric_params params = {.devices = "",
                                      .rdma = on_verbs,
                                      .ucx_tcp = on_verbs ? NULL : "lo",
                                      .attached = note_path,
                                      .peer_failed = no_peer_failed};
    uint64_t base;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char *buffer = malloc(OWNER_POOL);
    struct pc_blob address = read_blob(STDIN_FILENO);
    struct pc_blob blob = read_blob(STDIN_FILENO);
    if (buffer == NULL || !read_all(STDIN_FILENO, &base, sizeof(base)) ||
        pc_fabric_load(NULL, &ops) != PEERCACHE_OK ||
        ops->open(&params, &fabric) != PEERCACHE_OK ||
        ops->attach(fabric, address, &path, &peer) != PEERCACHE_OK ||
        ops->rkey_unpack(peer, blob, &rkey) != PEERCACHE_OK) {
        return 1;
    }
    while (!path.can_get) {
        if (path.status != PEERCACHE_OK) {
            return 1;
        }
        turn(ops, &fabric, 1, 10);
    }
    char byte;
    if (!write_all(STDOUT_FILENO, "a", 1) ||
        !read_all(STDIN_FILENO, &byte, 1)) {
        return 1;
    }
    for (size_t i = 0; i < N_READS; i++) {
        size_t len = OWNER_POOL / N_READS;
        gets[i] = (struct pc_fabric_get){.peer = peer,
                                         .rkey = rkey,
                                         .remote_addr = base + i * len,
                                         .local = buffer + i * len,
                                         .len = len,
                                         .done = one_done};
        if (ops->get(&gets[i]) != PEERCACHE_IN_PROGRESS) {
            return 1;
        }
    }
    for (int i = 0; i < 20; i++) {
        turn(ops, &fabric, 1, 1);
    }
    if (!write_all(STDOUT_FILENO, "x", 1)) {
        return 1;
    }
    for (;;) {
        pause();
    }
}

/* A reader that is killed while a stopped owner has its gets to answer. */
static void reader_live_and_die(struct owner *owner)
{
    int in[2];
    int out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("/proc/self/exe", "reader", "reader", on_verbs ? "verbs" : NULL,
              (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    char byte;
    assert_true(write_blob(in[1], owner->address));
    assert_true(write_blob(in[1], owner->rkey));
    assert_true(write_all(in[1], &owner->base, sizeof(owner->base)));
    assert_true(read_all(out[0], &byte, 1));
    kill(owner->pid, SIGSTOP);
    waitpid(owner->pid, NULL, WUNTRACED);
    assert_true(write_all(in[1], "g", 1));
    assert_true(read_all(out[0], &byte, 1));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    kill(owner->pid, SIGCONT);
    close(in[1]);
    close(out[0]);
}

static void a_killed_reader_leaves_the_owner_well(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    for (int round = 0; round < 5; round++) {
        reader_live_and_die(&owner);
    }
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    unsigned char *buffer = malloc(OWNER_POOL);
    struct fabric_read *reads = post_all(&bench, &owner, buffer, N_READS);
    for (size_t i = 0; i < N_READS; i++) {
        FABRIC_WAIT(&bench, reads[i].n_done > 0);
        assert_int_equal(reads[i].status, PEERCACHE_OK);
    }
    assert_int_equal(waitpid(owner.pid, NULL, WNOHANG), 0);
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_forked_child_is_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    pid_t pid = fork();
    if (pid == 0) {
        struct pc_fabric *fabric = bench.fabrics[FABRIC_B];
        struct pc_fabric_mem_params pool = {
            .use = PC_MEM_POOL, .len = MIB, .numa_node = -1};
        struct pc_fabric_mem *mem;
        struct pc_fabric_peer *peer;
        struct pc_fabric_rkey *rkey;
        struct fabric_read read;
        char byte;
        int fd;
        bool refused =
            ops->mem_register(fabric, &pool, &mem) == PEERCACHE_FORKED &&
            ops->attach(fabric, ops->address(fabric), NULL, &peer) ==
                PEERCACHE_FORKED &&
            ops->rkey_unpack(bench.peer, ops->mem_rkey(bench.pool), &rkey) ==
                PEERCACHE_FORKED &&
            fabric_post(&bench, &read, 0, &byte, 1) == PEERCACHE_FORKED &&
            ops->arm(fabric, &fd) == PEERCACHE_FORKED &&
            ops->progress(fabric) == 0 &&
            ops->rkey_map(bench.rkey,
                          (uint64_t)(uintptr_t)ops->mem_addr(bench.pool),
                          1) == NULL;
        ops->detach(bench.peer, NULL);
        ops->rkey_release(bench.rkey);
        ops->mem_deregister(bench.pool);
        ops->close(fabric);
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    unsigned char byte;
    struct fabric_read read;
    assert_int_equal(fabric_post(&bench, &read, 1, &byte, 1),
                     PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(&bench, read.n_done > 0);
    assert_int_equal(byte, fabric_byte(1));
    fabric_bench_close(&bench);
}

/* ---- Threads ----------------------------------------------------------- */

struct registrar
{
    const struct pc_fabric_ops *ops;
    struct pc_fabric *fabric;
    enum pc_fabric_mem_use use;
    atomic_bool stop;
    unsigned n_rounds;
    bool failed;
};

static void *register_over_and_over(void *arg)
{
    struct registrar *registrar = arg;
    char *memory = malloc(3 * MIB);
    /* Relaxed: only the flag itself matters. */
    while (!atomic_load_explicit(&registrar->stop, memory_order_relaxed)) {
        struct pc_fabric_mem_params params = {
            .use = registrar->use,
            .addr = registrar->use == PC_MEM_BUFFER ? memory : NULL,
            .len = 3 * MIB,
            .numa_node = -1};
        struct pc_fabric_mem *mem;
        if (registrar->ops->mem_register(registrar->fabric, &params, &mem) !=
            PEERCACHE_OK) {
            registrar->failed = true;
            break;
        }
        memset(registrar->ops->mem_addr(mem), 1, 3 * MIB);
        registrar->ops->mem_deregister(mem);
        registrar->n_rounds++;
    }
    free(memory);
    return NULL;
}

static void memory_is_registered_by_others_during_gets(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, 4 * MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct registrar registrars[] = {
        {.ops = ops, .fabric = bench.fabrics[FABRIC_A], .use = PC_MEM_POOL},
        {.ops = ops, .fabric = bench.fabrics[FABRIC_B], .use = PC_MEM_POOL},
        {.ops = ops, .fabric = bench.fabrics[FABRIC_B], .use = PC_MEM_BUFFER}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL,
                                        register_over_and_over, &registrars[i]),
                         0);
    }
    unsigned char *buffer = malloc(MIB);
    for (int round = 0; round < (on_verbs ? 30 : 300); round++) {
        struct fabric_read read;
        assert_int_equal(
            fabric_post(&bench, &read, (uint64_t)round * 7, buffer, MIB),
            PEERCACHE_IN_PROGRESS);
        if (round % 10 == 0) { /* Unpacking shares the map side's worker. */
            struct pc_fabric_rkey *rkey;
            assert_int_equal(
                ops->rkey_unpack(bench.peer, ops->mem_rkey(bench.pool), &rkey),
                PEERCACHE_OK);
            const unsigned char *mapped = ops->rkey_map(
                rkey, (uint64_t)(uintptr_t)ops->mem_addr(bench.pool), MIB);
            assert_true(mapped != NULL && mapped[5] == fabric_byte(5));
            ops->rkey_release(rkey);
        }
        FABRIC_WAIT(&bench, read.n_done > 0);
        assert_int_equal(read.status, PEERCACHE_OK);
        assert_true(fabric_bytes_right(buffer, (uint64_t)round * 7, MIB));
    }
    for (int i = 0; i < 3; i++) {
        atomic_store_explicit(&registrars[i].stop, true, memory_order_relaxed);
        pthread_join(threads[i], NULL);
        assert_false(registrars[i].failed);
        assert_true(registrars[i].n_rounds > 0);
    }
    free(buffer);
    fabric_bench_close(&bench);
}

/* ---- The host process -------------------------------------------------- */

struct dispositions
{
    struct sigaction actions[65];
};

static void note_signals(struct dispositions *now)
{
    memset(now, 0, sizeof(*now));
    for (int i = 1; i < 65; i++) {
        sigaction(i, NULL, &now->actions[i]);
    }
}

/* In a process of its own: this one has loaded UCX long ago. */
static int signals_main(void)
{
    struct dispositions before;
    struct dispositions after;
    const struct pc_fabric_ops *ops;
    struct pc_fabric *fabric;
    struct pc_fabric_params params = {.devices = "",
                                      .shm = true,
                                      .ucx_tcp = "lo",
                                      .attached = no_attached,
                                      .peer_failed = no_peer_failed};
    note_signals(&before);
    if (pc_fabric_load(NULL, &ops) != PEERCACHE_OK ||
        ops->open(&params, &fabric) != PEERCACHE_OK) {
        return 1;
    }
    note_signals(&after);
    for (int i = 1; i < 65; i++) {
        if (before.actions[i].sa_handler != after.actions[i].sa_handler ||
            before.actions[i].sa_flags != after.actions[i].sa_flags) {
            return 100 + i;
        }
    }
    ops->close(fabric);
    return getenv("UCX_ERROR_SIGNALS") == NULL && getenv("UCX_LOG_FILE") == NULL
               ? 0
               : 2;
}

static void loading_leaves_signals_environment_and_stdout_alone(void **state)
{
    int out[2];
    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        unsetenv("UCX_ERROR_SIGNALS");
        unsetenv("UCX_LOG_FILE");
        execl("/proc/self/exe", "signals", "signals", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    char byte;
    assert_int_equal(read(out[0], &byte, 1), 0);
    close(out[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Of the internet; shared memory has Unix ones for wakeups. */
static unsigned count_sockets(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++) {
        int domain;
        socklen_t len = sizeof(domain);
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
            (domain == AF_INET || domain == AF_INET6)) {
            n++;
        }
    }
    return n;
}

/* UCX's tcp port lets anybody write to the process: it must stay shut. */
static void without_ucx_tcp_no_socket_is_opened(void **state)
{
    struct fabric_fixture *fixture = *state;
    struct ucx_ground ground = {.shm = true};
    struct fabric_fixture mapped = *fixture;
    struct fabric_bench bench;
    mapped.arg = &ground;
    mapped.expect_get = false;
    unsigned before = count_sockets();
    fabric_bench_open(&bench, &mapped);
    fabric_bench_connect(&bench, MIB);
    assert_int_equal(count_sockets(), before);
    fabric_bench_close(&bench);
}

static void another_version_of_ucx_still_maps(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_ucx_hello hello;
    assert_int_equal(
        pc_ucx_hello_unpack(ops->address(bench.fabrics[FABRIC_A]), &hello),
        PEERCACHE_OK);
    hello.ucx_version[1]++;
    for (int round = 0; round < 2; round++) {
        struct pc_blob blob = pc_ucx_hello_pack(&hello);
        bench.n_attached = 0;
        bench.n_detached = 0;
        assert_int_equal(
            ops->attach(bench.fabrics[FABRIC_B], blob, &bench, &bench.peer),
            PEERCACHE_OK);
        FABRIC_WAIT(&bench, bench.n_attached > 0);
        assert_int_equal(bench.path.can_map, round == 0);
        assert_false(bench.path.can_get);
        assert_int_equal(bench.path.status,
                         round == 0 ? PEERCACHE_OK : PEERCACHE_VERSION);
        fabric_bench_detach(&bench);
        pc_free((void *)(uintptr_t)blob.data);
        hello.map_domain++; /* And then from another host. */
    }
    fabric_bench_close(&bench);
}

static void an_owner_that_is_gone_is_a_way_that_failed(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    struct pc_ucx_hello hello;
    owner_start(&owner);
    kill(owner.pid, SIGKILL);
    waitpid(owner.pid, NULL, 0);
    owner.pid = 0;
    fabric_bench_open(&bench, *state);
    assert_int_equal(pc_ucx_hello_unpack(owner.address, &hello), PEERCACHE_OK);
    hello.map_domain = 0;
    struct pc_blob blob = pc_ucx_hello_pack(&hello);
    assert_int_equal(bench.fixture->ops->attach(bench.fabrics[FABRIC_B], blob,
                                                &bench, &bench.peer),
                     PEERCACHE_OK);
    FABRIC_WAIT(&bench, bench.n_attached > 0);
    assert_int_equal(bench.path.status, PEERCACHE_PEER_FAILED);
    assert_int_equal(bench.n_failed, 0);
    fabric_bench_close(&bench);
    pc_free((void *)(uintptr_t)blob.data);
    owner_end(&owner);
}

/* Its segment's number means nothing any more, or another segment. */
static void a_region_that_is_gone_is_not_mapped(void **state)
{
    struct fabric_bench bench;
    struct owner owner;
    owner_start(&owner);
    fabric_bench_open(&bench, *state);
    connect_to(&bench, &owner);
    kill(owner.pid, SIGKILL);
    waitpid(owner.pid, NULL, 0);
    owner.pid = 0;
    assert_null(bench.fixture->ops->rkey_map(bench.rkey, owner.base, 1));
    fabric_bench_close(&bench);
    owner_end(&owner);
}

static void a_missing_module_is_a_clear_answer(void **state)
{
    const struct pc_fabric_ops *ops = NULL;
    (void)state;
    assert_int_equal(pc_fabric_load("/nowhere/libpeercache_ucx.so", &ops),
                     PEERCACHE_UNSUPPORTED);
    assert_int_equal(pc_fabric_load("libc.so.6", &ops), PEERCACHE_UNSUPPORTED);
    assert_null(ops);
}

static void an_unknown_device_leaves_the_fabric_without_gets(void **state)
{
    struct fabric_fixture *fixture = *state;
    struct ucx_ground ground = {.tcp = "nosuchdevice0"};
    struct fabric_fixture poor = *fixture;
    struct fabric_bench bench;
    poor.arg = &ground;
    poor.expect_get = false;
    poor.expect_map = false;
    fabric_bench_open(&bench, &poor);
    const struct pc_fabric_ops *ops = fixture->ops;
    struct pc_fabric_mem_params pool = {
        .use = PC_MEM_POOL, .len = MIB, .numa_node = -1};
    assert_int_equal(
        ops->mem_register(bench.fabrics[FABRIC_A], &pool, &bench.pool),
        PEERCACHE_OK);
    memset(ops->mem_addr(bench.pool), 1, MIB);
    assert_int_equal(ops->attach(bench.fabrics[FABRIC_B],
                                 ops->address(bench.fabrics[FABRIC_A]), &bench,
                                 &bench.peer),
                     PEERCACHE_OK);
    FABRIC_WAIT(&bench, bench.n_attached > 0);
    assert_int_equal(bench.path.status, PEERCACHE_UNREACHABLE);
    fabric_bench_close(&bench);
}

static void fixtures_init(struct fabric_fixture *fixtures, size_t n,
                          struct ucx_ground *grounds,
                          const struct pc_fabric_ops *ops)
{
    for (size_t i = 0; i < n; i++) {
        fixtures[i].ops = ops;
        fixtures[i].arg = &grounds[i];
        fixtures[i].open = ucx_open;
        fixtures[i].step = ucx_step;
    }
}

static int verbs_main(const struct pc_fabric_ops *ops, bool only_processes)
{
    struct ucx_ground grounds[] = {{.rdma = true}, {.shm = true, .rdma = true}};
    struct fabric_fixture fixtures[] = {
        {.name = "ucx, verbs", .expect_get = true},
        {.name = "ucx, verbs and shared memory",
         .expect_map = true,
         .expect_get = true}};
    fixtures_init(fixtures, 2, grounds, ops);
#define CASE(name)                                                             \
    {                                                                          \
#name, name, NULL, NULL, &fixtures[1]                                  \
    }
    const struct CMUnitTest tests[] = {
        CASE(another_process_is_read_and_mapped),
        CASE(a_stopped_owners_memory_is_read),
        CASE(a_killed_owner_is_noticed_by_its_gets),
        CASE(an_unregistered_pool_is_not_read),
        CASE(forced_detaches_leave_nothing_that_lands_later),
        CASE(an_owner_stopped_before_attach_can_be_left),
        CASE(a_killed_reader_leaves_the_owner_well),
        CASE(a_forked_child_is_refused),
        CASE(memory_is_registered_by_others_during_gets),
        CASE(loading_leaves_signals_environment_and_stdout_alone),
        CASE(another_version_of_ucx_still_maps),
        CASE(an_owner_that_is_gone_is_a_way_that_failed),
    };
#undef CASE
    int failed = only_processes ? 0 : fabric_suite_run(&fixtures[0]);
    return failed + cmocka_run_group_tests_name("ucx, verbs, processes", tests,
                                                NULL, NULL);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    on_verbs = argc > 1 && strcmp(argv[argc - 1], "verbs") == 0;
    if (strcmp(what, "owner") == 0) {
        return owner_main();
    }
    if (strcmp(what, "reader") == 0) {
        return reader_main();
    }
    if (strcmp(what, "signals") == 0) {
        return signals_main();
    }
    const struct pc_fabric_ops *ops;
    if (pc_fabric_load(NULL, &ops) != PEERCACHE_OK) {
        return 1;
    }
    if (on_verbs) {
        return verbs_main(ops, strcmp(what, "processes") == 0);
    }
    struct ucx_ground grounds[] = {
        {.shm = true}, {.tcp = "lo"}, {.shm = true, .tcp = "lo"}};
    struct fabric_fixture fixtures[] = {
        {.name = "ucx, shared memory", .expect_map = true},
        {.name = "ucx, tcp", .expect_get = true},
        {.name = "ucx, both", .expect_map = true, .expect_get = true}};
    int failed = 0;
    fixtures_init(fixtures, 3, grounds, ops);
    for (int i = 0; i < 3; i++) {
        failed += fabric_suite_run(&fixtures[i]);
    }
#define CASE(name)                                                             \
    {                                                                          \
#name, name, NULL, NULL, &fixtures[2]                                  \
    }
    const struct CMUnitTest tests[] = {
        CASE(another_process_is_read_and_mapped),
        CASE(a_mapping_cannot_be_written),
        CASE(a_killed_owner_fails_its_gets_and_leaves_its_mapping),
        CASE(a_killed_idle_owner_is_noticed),
        CASE(detach_gets_away_from_a_stopped_owner),
        CASE(an_owner_stopped_before_attach_can_be_left),
        CASE(a_killed_reader_leaves_the_owner_well),
        CASE(a_forked_child_is_refused),
        CASE(memory_is_registered_by_others_during_gets),
        CASE(loading_leaves_signals_environment_and_stdout_alone),
        CASE(without_ucx_tcp_no_socket_is_opened),
        CASE(another_version_of_ucx_still_maps),
        CASE(an_owner_that_is_gone_is_a_way_that_failed),
        CASE(a_region_that_is_gone_is_not_mapped),
        CASE(a_missing_module_is_a_clear_answer),
        CASE(an_unknown_device_leaves_the_fabric_without_gets),
    };
#undef CASE
    failed += cmocka_run_group_tests_name("ucx, processes", tests, NULL, NULL);
    return failed;
}
