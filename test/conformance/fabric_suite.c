#include "fabric_suite.h"

#include "test.h"

#include "base/rand.h"

#include <stdlib.h>
#include <string.h>

#define KIB       ((size_t)1024)
#define MIB       (KIB * KIB)
#define POISON    0xEE
#define POOL_LEN  (16 * MIB)
#define MANY      64
#define MANY_LEN  (128 * KIB)
#define GUARD_LEN 64

unsigned char fabric_byte(uint64_t offset)
{
    return (unsigned char)((offset * 0x9E3779B97F4A7C15ull) >> 56);
}

bool fabric_bytes_right(const void *data, uint64_t offset, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != fabric_byte(offset + i)) {
            return false;
        }
    }
    return true;
}

static bool is_all(const void *data, unsigned char value, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* ---- The bench --------------------------------------------------------- */

static void on_attached(void *arg, void *peer_arg,
                        const struct pc_fabric_path *path)
{
    struct fabric_bench *bench = peer_arg;
    assert_non_null(arg);
    assert_true(bench->in_progress);
    if (path->status == PEERCACHE_OK) {
        assert_true(path->can_map || path->can_get);
    } else {
        assert_false(path->can_get);
    }
    assert_true(memchr(path->carrier, '\0', sizeof(path->carrier)) != NULL);
    bench->path = *path;
    bench->n_attached++;
    assert_true(bench->n_attached <= 2);
}

static void on_peer_failed(void *arg, void *peer_arg, peercache_status_t why)
{
    struct fabric_bench *bench = peer_arg;
    assert_non_null(arg);
    assert_true(bench->in_progress);
    assert_true(why < 0);
    bench->n_failed++;
    assert_int_equal(bench->n_failed, 1);
}

static void on_detached(void *peer_arg)
{
    struct fabric_bench *bench = peer_arg;
    assert_true(bench->in_progress);
    bench->n_detached++;
    bench->peer = NULL;
}

static void open_side(struct fabric_bench *bench, enum fabric_side side)
{
    struct pc_fabric_params params = {.devices = "",
                                      .arg = bench,
                                      .attached = on_attached,
                                      .peer_failed = on_peer_failed};
    assert_int_equal(bench->fixture->open(bench->fixture, side, &params,
                                          &bench->fabrics[side]),
                     PEERCACHE_OK);
}

void fabric_bench_open(struct fabric_bench *bench,
                       struct fabric_fixture *fixture)
{
    memset(bench, 0, sizeof(*bench));
    bench->fixture = fixture;
    if (fixture->begin != NULL) {
        fixture->begin(fixture);
    }
    open_side(bench, FABRIC_A);
    open_side(bench, FABRIC_B);
}

bool fabric_bench_step(struct fabric_bench *bench, unsigned n_steps)
{
    bench->in_progress = true;
    bool in_time =
        bench->fixture->step(bench->fixture, bench->fabrics, n_steps);
    bench->in_progress = false;
    return in_time;
}

static struct pc_fabric_mem *add_pool(struct fabric_bench *bench, size_t len)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    struct pc_fabric_mem_params params = {.use = PC_MEM_POOL,
                                          .kind = PEERCACHE_MEM_HOST,
                                          .len = len,
                                          .numa_node = -1};
    struct pc_fabric_mem *mem = NULL;
    assert_int_equal(ops->mem_register(bench->fabrics[FABRIC_A], &params, &mem),
                     PEERCACHE_OK);
    unsigned char *bytes = ops->mem_addr(mem);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = fabric_byte(i);
    }
    return mem;
}

static void attach_only(struct fabric_bench *bench)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    struct pc_blob address = ops->address(bench->fabrics[FABRIC_A]);
    assert_true(address.len > 0);
    bench->n_attached = 0;
    bench->n_failed = 0;
    bench->n_detached = 0;
    memset(&bench->path, 0, sizeof(bench->path));
    assert_int_equal(
        ops->attach(bench->fabrics[FABRIC_B], address, bench, &bench->peer),
        PEERCACHE_OK);
    assert_int_equal(bench->n_attached, 0); /* Never from within. */
}

static void attach_fully(struct fabric_bench *bench)
{
    struct fabric_fixture *fixture = bench->fixture;
    attach_only(bench);
    FABRIC_WAIT(bench, bench->n_attached > 0 &&
                           (bench->path.can_get || !fixture->expect_get));
    assert_int_equal(bench->path.status, PEERCACHE_OK);
    assert_int_equal(bench->path.can_map, fixture->expect_map);
    assert_int_equal(bench->path.can_get, fixture->expect_get);
    assert_true(bench->path.carrier[0] != '\0');
}

static void unpack(struct fabric_bench *bench)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    assert_int_equal(
        ops->rkey_unpack(bench->peer, ops->mem_rkey(bench->pool), &bench->rkey),
        PEERCACHE_OK);
}

void fabric_bench_connect(struct fabric_bench *bench, size_t len)
{
    bench->pool = add_pool(bench, len);
    attach_fully(bench);
    unpack(bench);
}

void fabric_bench_detach(struct fabric_bench *bench)
{
    bench->fixture->ops->detach(bench->peer, on_detached);
    assert_int_equal(bench->n_detached, 0); /* Never from within. */
    FABRIC_WAIT(bench, bench->n_detached > 0);
    assert_int_equal(bench->n_detached, 1);
}

void fabric_bench_close(struct fabric_bench *bench)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    if (bench->peer != NULL) {
        fabric_bench_detach(bench);
    }
    if (bench->rkey != NULL) {
        ops->rkey_release(bench->rkey);
    }
    if (bench->pool != NULL) {
        ops->mem_deregister(bench->pool);
    }
    for (int side = FABRIC_N_SIDES - 1; side >= 0; side--) {
        if (bench->fabrics[side] != NULL) {
            ops->close(bench->fabrics[side]);
        }
    }
    if (bench->fixture->end != NULL) {
        bench->fixture->end(bench->fixture);
    }
}

static void on_done(struct pc_fabric_get *get, peercache_status_t status)
{
    struct fabric_read *read = (struct fabric_read *)(void *)get;
    assert_true(read->bench->in_progress);
    assert_true(status <= 0);
    assert_int_equal(read->bench->n_detached, 0);
    read->n_done++;
    assert_int_equal(read->n_done, 1);
    read->status = status;
}

void fabric_read_init(struct fabric_bench *bench, struct fabric_read *read,
                      uint64_t remote_addr, void *local, size_t len)
{
    *read = (struct fabric_read){.get = {.peer = bench->peer,
                                         .rkey = bench->rkey,
                                         .remote_addr = remote_addr,
                                         .local = local,
                                         .len = len,
                                         .done = on_done},
                                 .bench = bench,
                                 .status = PEERCACHE_IN_PROGRESS};
}

static struct fabric_read reading(struct fabric_bench *bench, uint64_t offset,
                                  void *local, size_t len)
{
    struct fabric_read read;
    void *pool = bench->fixture->ops->mem_addr(bench->pool);
    fabric_read_init(bench, &read, (uint64_t)(uintptr_t)pool + offset, local,
                     len);
    return read;
}

peercache_status_t fabric_post(struct fabric_bench *bench,
                               struct fabric_read *read, uint64_t offset,
                               void *local, size_t len)
{
    *read = reading(bench, offset, local, len);
    peercache_status_t status = bench->fixture->ops->get(&read->get);
    assert_int_equal(read->n_done, 0); /* Never from within. */
    return status;
}

/* ---- Memory ------------------------------------------------------------ */

static void a_pool_is_writable_memory_with_an_rkey(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    bench.pool = add_pool(&bench, MIB);
    struct pc_blob rkey = ops->mem_rkey(bench.pool);
    assert_non_null(rkey.data);
    assert_true(rkey.len > 0);
    assert_true(fabric_bytes_right(ops->mem_addr(bench.pool), 0, MIB));
    fabric_bench_close(&bench);
}

static void fresh_pool_memory_is_zero(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_POOL, .len = MIB + 1, .numa_node = 0};
    struct pc_fabric_mem *mem;
    assert_int_equal(ops->mem_register(bench.fabrics[FABRIC_A], &params, &mem),
                     PEERCACHE_OK);
    assert_true(is_all(ops->mem_addr(mem), 0, MIB + 1));
    ops->mem_deregister(mem);
    fabric_bench_close(&bench);
}

static void a_buffer_stays_where_the_user_has_it(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    char *buffer = malloc(100000);
    assert_non_null(buffer);
    struct pc_fabric_mem_params params = {.use = PC_MEM_BUFFER,
                                          .addr = buffer + 1,
                                          .len = 99999,
                                          .numa_node = -1};
    struct pc_fabric_mem *mem;
    assert_int_equal(ops->mem_register(bench.fabrics[FABRIC_B], &params, &mem),
                     PEERCACHE_OK);
    assert_ptr_equal(ops->mem_addr(mem), buffer + 1);
    ops->mem_deregister(mem);
    free(buffer);
    fabric_bench_close(&bench);
}

static void senseless_memory_is_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_fabric *fabric = bench.fabrics[FABRIC_A];
    struct pc_fabric_mem *mem = NULL;
    struct pc_fabric_mem_params params = {.use = PC_MEM_POOL, .numa_node = -1};
    assert_int_equal(ops->mem_register(fabric, &params, &mem),
                     PEERCACHE_INVALID);
    params = (struct pc_fabric_mem_params){
        .use = PC_MEM_BUFFER, .len = 10, .numa_node = -1};
    assert_int_equal(ops->mem_register(fabric, &params, &mem),
                     PEERCACHE_INVALID);
    assert_null(mem);
    fabric_bench_close(&bench);
}

static void a_pool_beyond_all_memory_is_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_POOL, .len = (size_t)1 << 55, .numa_node = -1};
    struct pc_fabric_mem *mem = NULL;
    assert_int_equal(ops->mem_register(bench.fabrics[FABRIC_A], &params, &mem),
                     PEERCACHE_NO_MEMORY);
    assert_null(mem);
    fabric_bench_close(&bench);
}

/* ---- Gets -------------------------------------------------------------- */

static void skip_without_gets(struct fabric_fixture *fixture)
{
    if (!fixture->expect_get) {
        skip();
    }
}

static void read_and_compare(struct fabric_bench *bench, uint64_t offset,
                             size_t len, size_t local_shift)
{
    unsigned char *memory = malloc(len + 2 * GUARD_LEN + local_shift);
    assert_non_null(memory);
    memset(memory, POISON, len + 2 * GUARD_LEN + local_shift);
    unsigned char *local = memory + GUARD_LEN + local_shift;
    struct fabric_read read;
    assert_int_equal(fabric_post(bench, &read, offset, local, len),
                     PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(bench, read.n_done > 0);
    assert_int_equal(read.status, PEERCACHE_OK);
    assert_true(fabric_bytes_right(local, offset, len));
    assert_true(is_all(memory, POISON, GUARD_LEN + local_shift));
    assert_true(is_all(local + len, POISON, GUARD_LEN));
    free(memory);
}

static void gets_of_every_size_bring_the_right_bytes(void **state)
{
    static const size_t lens[] = {1,           2,        7,      8,
                                  63,          64,       4095,   4 * KIB,
                                  8 * KIB + 1, 64 * KIB, 100001, 128 * KIB,
                                  256 * KIB,   MIB + 3,  8 * MIB};
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        read_and_compare(&bench, 0, lens[i], 0);
        read_and_compare(&bench, 4097 * i + 1, lens[i], i % 7);
        read_and_compare(&bench, POOL_LEN - lens[i], lens[i], 1);
    }
    fabric_bench_close(&bench);
}

static void gets_into_a_registered_buffer_work(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    unsigned char *buffer = malloc(2 * MIB);
    assert_non_null(buffer);
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_BUFFER, .addr = buffer, .len = 2 * MIB, .numa_node = -1};
    struct pc_fabric_mem *mem;
    assert_int_equal(ops->mem_register(bench.fabrics[FABRIC_B], &params, &mem),
                     PEERCACHE_OK);
    struct fabric_read read = reading(&bench, 5, buffer + 3, MIB);
    read.get.mem = mem;
    assert_int_equal(ops->get(&read.get), PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(&bench, read.n_done > 0);
    assert_int_equal(read.status, PEERCACHE_OK);
    assert_true(fabric_bytes_right(buffer + 3, 5, MIB));
    /* A range that the registration does not cover. */
    read = reading(&bench, 5, buffer + MIB + 1, MIB);
    read.get.mem = mem;
    assert_int_equal(ops->get(&read.get), PEERCACHE_INVALID);
    ops->mem_deregister(mem);
    free(buffer);
    fabric_bench_close(&bench);
}

static void many_gets_in_flight_end_once_each(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    struct fabric_read *reads = calloc(MANY, sizeof(*reads));
    unsigned char *buffer = malloc(MANY * MANY_LEN);
    assert_true(reads != NULL && buffer != NULL);
    struct pc_rand rand;
    pc_rand_init(&rand, 1);
    for (int round = 0; round < 5; round++) {
        uint64_t offsets[MANY];
        memset(buffer, POISON, MANY * MANY_LEN);
        for (size_t i = 0; i < MANY; i++) {
            offsets[i] = pc_rand_below(&rand, POOL_LEN - MANY_LEN);
            assert_int_equal(fabric_post(&bench, &reads[i], offsets[i],
                                         buffer + i * MANY_LEN, MANY_LEN),
                             PEERCACHE_IN_PROGRESS);
        }
        for (size_t i = 0; i < MANY; i++) {
            FABRIC_WAIT(&bench, reads[i].n_done > 0);
            assert_int_equal(reads[i].status, PEERCACHE_OK);
            assert_true(fabric_bytes_right(buffer + i * MANY_LEN, offsets[i],
                                           MANY_LEN));
        }
        for (unsigned i = 0; i < 20; i++) { /* A second done would show. */
            fabric_bench_step(&bench, 0);
        }
    }
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
}

struct chain
{
    struct fabric_read read;
    unsigned char *buffer;
    unsigned n_left;
};

static void post_next(struct pc_fabric_get *get, peercache_status_t status)
{
    struct chain *chain = (struct chain *)(void *)get;
    struct fabric_bench *bench = chain->read.bench;
    assert_true(bench->in_progress);
    assert_int_equal(status, PEERCACHE_OK);
    if (--chain->n_left > 0) {
        assert_int_equal(bench->fixture->ops->get(get), PEERCACHE_IN_PROGRESS);
    }
}

static void a_done_function_may_post_again(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    unsigned char buffer[100];
    struct chain chain = {.read = reading(&bench, 9, buffer, sizeof(buffer)),
                          .n_left = 50};
    chain.read.get.done = post_next;
    assert_int_equal(bench.fixture->ops->get(&chain.read.get),
                     PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(&bench, chain.n_left == 0);
    assert_true(fabric_bytes_right(buffer, 9, sizeof(buffer)));
    fabric_bench_close(&bench);
}

static void gets_outside_of_the_region_are_refused(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    unsigned char buffer[16];
    struct fabric_read read;
    assert_int_equal(fabric_post(&bench, &read, MIB - 15, buffer, 16),
                     PEERCACHE_INVALID);
    assert_int_equal(fabric_post(&bench, &read, (uint64_t)-1, buffer, 1),
                     PEERCACHE_INVALID);
    assert_int_equal(fabric_post(&bench, &read, MIB, buffer, 1),
                     PEERCACHE_INVALID);
    assert_int_equal(fabric_post(&bench, &read, 0, buffer, 0),
                     PEERCACHE_INVALID);
    assert_int_equal(fabric_post(&bench, &read, MIB - 16, buffer, 16),
                     PEERCACHE_IN_PROGRESS);
    FABRIC_WAIT(&bench, read.n_done > 0);
    assert_true(fabric_bytes_right(buffer, MIB - 16, 16));
    fabric_bench_close(&bench);
}

static void a_released_rkey_lasts_until_its_gets_end(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    unsigned char *buffer = malloc(8 * MIB);
    assert_non_null(buffer);
    struct fabric_read read;
    assert_int_equal(fabric_post(&bench, &read, 1, buffer, 8 * MIB),
                     PEERCACHE_IN_PROGRESS);
    bench.fixture->ops->rkey_release(bench.rkey);
    bench.rkey = NULL;
    FABRIC_WAIT(&bench, read.n_done > 0);
    assert_int_equal(read.status, PEERCACHE_OK);
    assert_true(fabric_bytes_right(buffer, 1, 8 * MIB));
    free(buffer);
    fabric_bench_close(&bench);
}

/* ---- Mapped reads ------------------------------------------------------ */

static void skip_without_maps(struct fabric_fixture *fixture)
{
    if (!fixture->expect_map) {
        skip();
    }
}

static const unsigned char *map_all(struct fabric_bench *bench, size_t len)
{
    const struct pc_fabric_ops *ops = bench->fixture->ops;
    uint64_t base = (uint64_t)(uintptr_t)ops->mem_addr(bench->pool);
    const unsigned char *mapped = ops->rkey_map(bench->rkey, base, len);
    assert_non_null(mapped);
    return mapped;
}

static void a_mapped_region_shows_the_owners_bytes(void **state)
{
    struct fabric_bench bench;
    skip_without_maps(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    unsigned char *own = ops->mem_addr(bench.pool);
    uint64_t base = (uint64_t)(uintptr_t)own;
    const unsigned char *mapped = map_all(&bench, MIB);
    assert_true(fabric_bytes_right(mapped, 0, MIB));
    own[777] = 42; /* Written after the mapping was made. */
    assert_int_equal(mapped[777], 42);
    assert_ptr_equal(ops->rkey_map(bench.rkey, base + 777, 3), mapped + 777);
    assert_null(ops->rkey_map(bench.rkey, base + MIB - 2, 3));
    assert_null(ops->rkey_map(bench.rkey, base - 1, 1));
    fabric_bench_close(&bench);
}

static void a_mapping_outlives_the_owners_deregistration(void **state)
{
    struct fabric_bench bench;
    skip_without_maps(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const unsigned char *mapped = map_all(&bench, MIB);
    bench.fixture->ops->mem_deregister(bench.pool);
    bench.pool = NULL;
    assert_true(fabric_bytes_right(mapped, 0, MIB));
    fabric_bench_close(&bench);
}

static void a_mapping_outlives_its_peer(void **state)
{
    struct fabric_bench bench;
    skip_without_maps(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const unsigned char *mapped = map_all(&bench, MIB);
    fabric_bench_detach(&bench);
    assert_true(fabric_bytes_right(mapped, 0, MIB));
    bench.fixture->ops->mem_deregister(bench.pool);
    bench.pool = NULL;
    bench.fixture->ops->close(bench.fabrics[FABRIC_A]);
    bench.fabrics[FABRIC_A] = NULL;
    assert_true(fabric_bytes_right(mapped, 0, MIB));
    fabric_bench_close(&bench);
}

/* ---- Peers ------------------------------------------------------------- */

static void cut_blobs_are_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_blob blobs[] = {ops->address(bench.fabrics[FABRIC_A]),
                              ops->mem_rkey(bench.pool)};
    for (int which = 0; which < 2; which++) {
        for (size_t len = 0; len < blobs[which].len; len++) {
            /* Memory of just that length, so that a sanitizer sees more. */
            void *copy = malloc(len + (len == 0));
            assert_non_null(copy);
            memcpy(copy, blobs[which].data, len);
            struct pc_blob cut = {copy, len};
            struct pc_fabric_peer *peer = NULL;
            struct pc_fabric_rkey *rkey = NULL;
            peercache_status_t status =
                which == 0
                    ? ops->attach(bench.fabrics[FABRIC_B], cut, &bench, &peer)
                    : ops->rkey_unpack(bench.peer, cut, &rkey);
            assert_int_equal(status, PEERCACHE_PROTOCOL);
            assert_true(peer == NULL && rkey == NULL);
            free(copy);
        }
    }
    fabric_bench_close(&bench);
}

/* Flip every byte: all are refused, but for the ones that say which version it
 * is; those may attach and then have no path. */
static void damaged_blobs_are_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_blob blobs[] = {ops->address(bench.fabrics[FABRIC_A]),
                              ops->mem_rkey(bench.pool)};
    for (int which = 0; which < 2; which++) {
        unsigned char *copy = malloc(blobs[which].len);
        assert_non_null(copy);
        for (size_t i = 0; i < blobs[which].len; i++) {
            memcpy(copy, blobs[which].data, blobs[which].len);
            copy[i] ^= 0x55;
            struct pc_blob bad = {copy, blobs[which].len};
            if (which == 1) {
                struct pc_fabric_rkey *rkey = NULL;
                assert_true(ops->rkey_unpack(bench.peer, bad, &rkey) < 0);
                assert_null(rkey);
                continue;
            }
            struct fabric_bench other = {.fixture = bench.fixture};
            peercache_status_t status =
                ops->attach(bench.fabrics[FABRIC_B], bad, &other, &other.peer);
            if (status == PEERCACHE_OK) {
                bench.in_progress = true;
                other.in_progress = true;
                for (unsigned n = 0; other.n_attached == 0; n++) {
                    assert_true(
                        bench.fixture->step(bench.fixture, bench.fabrics, n));
                }
                assert_int_equal(other.path.status, PEERCACHE_VERSION);
                ops->detach(other.peer, on_detached);
                for (unsigned n = 0; other.n_detached == 0; n++) {
                    assert_true(
                        bench.fixture->step(bench.fixture, bench.fabrics, n));
                }
                bench.in_progress = false;
            } else {
                assert_int_equal(status, PEERCACHE_PROTOCOL);
            }
        }
        free(copy);
    }
    fabric_bench_close(&bench);
}

static void random_blobs_are_refused(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct pc_rand rand;
    pc_rand_init(&rand, 7);
    for (int round = 0; round < 2000; round++) {
        unsigned char noise[512];
        for (size_t i = 0; i < sizeof(noise); i++) {
            noise[i] = (unsigned char)pc_rand_u64(&rand);
        }
        struct pc_blob bad = {noise, pc_rand_below(&rand, sizeof(noise) + 1)};
        struct pc_fabric_peer *peer = NULL;
        struct pc_fabric_rkey *rkey = NULL;
        assert_int_equal(
            ops->attach(bench.fabrics[FABRIC_B], bad, &bench, &peer),
            PEERCACHE_PROTOCOL);
        assert_int_equal(ops->rkey_unpack(bench.peer, bad, &rkey),
                         PEERCACHE_PROTOCOL);
        assert_true(peer == NULL && rkey == NULL);
    }
    fabric_bench_close(&bench);
}

static void detaching_at_once_is_fine(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    for (unsigned n = 0; n < 4; n++) {
        attach_only(&bench);
        for (unsigned i = 0; i < n; i++) {
            fabric_bench_step(&bench, 0);
        }
        fabric_bench_detach(&bench);
    }
    fabric_bench_close(&bench);
}

static void attaching_again_finds_the_way_again(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    bench.pool = add_pool(&bench, MIB);
    for (int round = 0; round < 10; round++) {
        attach_fully(&bench);
        unpack(&bench);
        if (bench.fixture->expect_get) {
            read_and_compare(&bench, (uint64_t)round, 5000, 0);
        }
        if (bench.fixture->expect_map) {
            assert_true(fabric_bytes_right(map_all(&bench, MIB), 0, MIB));
        }
        fabric_bench_detach(&bench);
        ops->rkey_release(bench.rkey);
        bench.rkey = NULL;
    }
    fabric_bench_close(&bench);
}

/* What was not read must not be written after done, and detached comes last. */
static void detach_ends_gets_in_flight(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    struct fabric_read *reads = calloc(MANY, sizeof(*reads));
    unsigned char *buffer = malloc(MANY * MANY_LEN);
    assert_true(reads != NULL && buffer != NULL);
    for (unsigned round = 0; round < 8; round++) {
        memset(buffer, POISON, MANY * MANY_LEN);
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(fabric_post(&bench, &reads[i], i * MANY_LEN,
                                         buffer + i * MANY_LEN, MANY_LEN),
                             PEERCACHE_IN_PROGRESS);
        }
        for (unsigned i = 0; i < round; i++) { /* Some are further along. */
            fabric_bench_step(&bench, 0);
        }
        fabric_bench_detach(&bench);
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(reads[i].n_done, 1); /* Before detached. */
            if (reads[i].status == PEERCACHE_OK) {
                assert_true(fabric_bytes_right(buffer + i * MANY_LEN,
                                               i * MANY_LEN, MANY_LEN));
            }
        }
        memset(buffer, POISON, MANY * MANY_LEN);
        for (unsigned i = 0; i < 60; i++) {
            fabric_bench_step(&bench, 0);
        }
        assert_true(is_all(buffer, POISON, MANY * MANY_LEN));
        bench.fixture->ops->rkey_release(bench.rkey);
        attach_fully(&bench);
        unpack(&bench);
    }
    free(reads);
    free(buffer);
    fabric_bench_close(&bench);
}

/* In software gets wait for each other; what was given up must not keep the
 * next one waiting. Whether any had begun is asked of the fabric, not known. */
static void gets_that_were_given_up_keep_nobody_waiting(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    struct fabric_read *reads = calloc(MANY, sizeof(*reads));
    unsigned char *buffer = malloc(MANY * MANY_LEN);
    bool *over = calloc(MANY, sizeof(*over));
    unsigned char small[100];
    struct fabric_read late;
    assert_true(reads != NULL && buffer != NULL && over != NULL);
    for (unsigned round = 0; round < 8; round++) {
        size_t n_ok = 0;
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(fabric_post(&bench, &reads[i], i * MANY_LEN,
                                         buffer + i * MANY_LEN, MANY_LEN),
                             PEERCACHE_IN_PROGRESS);
        }
        for (unsigned i = 0; i < round; i++) { /* Some are further along. */
            fabric_bench_step(&bench, 0);
        }
        for (size_t i = 0; i < MANY; i++) {
            over[i] = reads[i].n_done > 0 ||
                      bench.fixture->ops->cancel(&reads[i].get);
            if (over[i]) {
                memset(buffer + i * MANY_LEN, POISON, MANY_LEN);
            }
        }
        for (size_t i = 0; i < MANY; i++) { /* Again is no harm. */
            if (reads[i].n_done == 0) {
                assert_int_equal(bench.fixture->ops->cancel(&reads[i].get),
                                 over[i]);
            }
        }
        assert_int_equal(fabric_post(&bench, &late, 7, small, sizeof(small)),
                         PEERCACHE_IN_PROGRESS);
        FABRIC_WAIT(&bench, late.n_done > 0);
        assert_int_equal(late.status, PEERCACHE_OK);
        assert_true(fabric_bytes_right(small, 7, sizeof(small)));
        for (size_t i = 0; i < MANY; i++) {
            assert_true(!over[i] || reads[i].n_done == 1);
            FABRIC_WAIT(&bench, reads[i].n_done > 0);
            bool ok = reads[i].status == PEERCACHE_OK;
            assert_true(ok || reads[i].status == PEERCACHE_CANCELED);
            assert_true(ok || !bench.path.native);
            n_ok += ok;
            assert_true(!over[i] ||
                        is_all(buffer + i * MANY_LEN, POISON, MANY_LEN));
        }
        /* A few were under way. */
        assert_true(bench.path.native || round > 0 || n_ok <= MANY / 3);
    }
    free(reads);
    free(buffer);
    free(over);
    fabric_bench_close(&bench);
}

static void gets_with_the_rkey_of_a_detached_peer_are_refused(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    struct pc_fabric_rkey *old = bench.rkey;
    fabric_bench_detach(&bench);
    attach_fully(&bench);
    unpack(&bench);
    unsigned char byte;
    struct fabric_read read = reading(&bench, 0, &byte, 1);
    read.get.rkey = old;
    assert_int_equal(bench.fixture->ops->get(&read.get), PEERCACHE_INVALID);
    bench.fixture->ops->rkey_release(old);
    fabric_bench_close(&bench);
}

/* An owner that goes away is noticed by a get at the latest. */
static void an_owner_that_closes_is_a_failed_peer(void **state)
{
    struct fabric_bench bench;
    skip_without_gets(*state);
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    const struct pc_fabric_ops *ops = bench.fixture->ops;
    struct fabric_read reads[4];
    unsigned char *buffer = malloc(4 * MANY_LEN);
    assert_non_null(buffer);
    memset(buffer, POISON, 4 * MANY_LEN);
    for (size_t i = 0; i < 4; i++) {
        reads[i] = reading(&bench, i, buffer + i * MANY_LEN, MANY_LEN);
    }
    ops->mem_deregister(bench.pool);
    bench.pool = NULL;
    ops->close(bench.fabrics[FABRIC_A]);
    bench.fabrics[FABRIC_A] = NULL;
    for (size_t i = 0; i < 4; i++) {
        peercache_status_t status = ops->get(&reads[i].get);
        assert_true(status < 0 || status == PEERCACHE_IN_PROGRESS);
        if (status == PEERCACHE_IN_PROGRESS) {
            FABRIC_WAIT(&bench, reads[i].n_done > 0);
            assert_int_not_equal(reads[i].status, PEERCACHE_OK);
        }
    }
    FABRIC_WAIT(&bench, bench.n_failed > 0);
    assert_int_equal(ops->get(&reads[0].get), PEERCACHE_PEER_FAILED);
    fabric_bench_detach(&bench);
    assert_int_equal(bench.n_failed, 1);
    assert_true(is_all(buffer, POISON, 4 * MANY_LEN));
    free(buffer);
    fabric_bench_close(&bench);
}

static void close_ends_what_was_left_behind(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, POOL_LEN);
    struct fabric_read reads[MANY];
    unsigned char *buffer = malloc(MANY * KIB);
    assert_non_null(buffer);
    for (size_t i = 0; bench.fixture->expect_get && i < MANY; i++) {
        assert_int_equal(
            fabric_post(&bench, &reads[i], i, buffer + i * KIB, KIB),
            PEERCACHE_IN_PROGRESS);
    }
    bench.in_progress = true; /* Here only, done may come from within. */
    bench.fixture->ops->close(bench.fabrics[FABRIC_B]);
    bench.in_progress = false;
    bench.fabrics[FABRIC_B] = NULL;
    bench.peer = NULL;
    bench.rkey = NULL;
    for (size_t i = 0; bench.fixture->expect_get && i < MANY; i++) {
        assert_int_equal(reads[i].n_done, 1);
    }
    free(buffer);
    fabric_bench_close(&bench);
}

static void an_idle_fabric_can_be_waited_for(void **state)
{
    struct fabric_bench bench;
    fabric_bench_open(&bench, *state);
    fabric_bench_connect(&bench, MIB);
    int fd = -2;
    peercache_status_t status = PEERCACHE_AGAIN;
    for (unsigned n = 0; status == PEERCACHE_AGAIN; n++) {
        assert_true(fabric_bench_step(&bench, n));
        status = bench.fixture->ops->arm(bench.fabrics[FABRIC_B], &fd);
    }
    assert_int_equal(status, PEERCACHE_OK);
    assert_true(fd >= -1);
    if (bench.fixture->ops->describe != NULL) {
        assert_non_null(bench.fixture->ops->describe(bench.fabrics[FABRIC_B]));
    }
    /* What is due for the next progress is not slept through. */
    struct fabric_bench other = {
        .fixture = bench.fixture,
        .fabrics = {bench.fabrics[FABRIC_A], bench.fabrics[FABRIC_B]}};
    attach_only(&other);
    assert_int_equal(bench.fixture->ops->arm(bench.fabrics[FABRIC_B], &fd),
                     PEERCACHE_AGAIN);
    fabric_bench_detach(&other);
    fabric_bench_close(&bench);
}

int fabric_suite_run(struct fabric_fixture *fixture)
{
#define CASE(name)                                                             \
    {                                                                          \
#name, name, NULL, NULL, fixture                                       \
    }
    const struct CMUnitTest tests[] = {
        CASE(a_pool_is_writable_memory_with_an_rkey),
        CASE(fresh_pool_memory_is_zero),
        CASE(a_buffer_stays_where_the_user_has_it),
        CASE(senseless_memory_is_refused),
        CASE(a_pool_beyond_all_memory_is_refused),
        CASE(gets_of_every_size_bring_the_right_bytes),
        CASE(gets_into_a_registered_buffer_work),
        CASE(many_gets_in_flight_end_once_each),
        CASE(a_done_function_may_post_again),
        CASE(gets_outside_of_the_region_are_refused),
        CASE(a_released_rkey_lasts_until_its_gets_end),
        CASE(a_mapped_region_shows_the_owners_bytes),
        CASE(a_mapping_outlives_the_owners_deregistration),
        CASE(a_mapping_outlives_its_peer),
        CASE(cut_blobs_are_refused),
        CASE(damaged_blobs_are_refused),
        CASE(random_blobs_are_refused),
        CASE(detaching_at_once_is_fine),
        CASE(attaching_again_finds_the_way_again),
        CASE(detach_ends_gets_in_flight),
        CASE(gets_that_were_given_up_keep_nobody_waiting),
        CASE(gets_with_the_rkey_of_a_detached_peer_are_refused),
        CASE(an_owner_that_closes_is_a_failed_peer),
        CASE(close_ends_what_was_left_behind),
        CASE(an_idle_fabric_can_be_waited_for),
    };
#undef CASE
    return _cmocka_run_group_tests(
        fixture->name, tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
}
