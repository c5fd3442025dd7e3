/*
 * A pool that still grows: what is put then does not push out what was put a
 * moment before, as long as there is time to wait for the next region; and no
 * longer than that. The regions come from a fabric that waits for the test.
 */
#include "host.h"

#include "base/mem.h"
#include "node/node.h"
#include "transports/socket/socket.h"

#include <stdatomic.h>

enum { REGION = 1 << 20, PAGE = 64 << 10, N_PAGES = 24 };

/* ---- A fabric that has memory when the test says so ---------------------- */

struct pc_fabric
{
    _Atomic unsigned n_regions; /* Asked for so far. */
    struct pc_event n_allowed;  /* Those beyond have to wait. */
    size_t most;                /* Bytes of a region, if not 0. */
    size_t gets_most;           /* The same of one with one-sided reads. */
};

struct pc_fabric_mem
{
    void *addr;
    bool refused;
    bool is_ours;
};

static peercache_status_t fabric_open(const struct pc_fabric_params *params,
                                      struct pc_fabric **fabric_p)
{
    *fabric_p = params->world;
    return PEERCACHE_OK;
}

static void fabric_close(struct pc_fabric *fabric)
{
    (void)fabric;
}

static struct pc_blob fabric_address(struct pc_fabric *fabric)
{
    (void)fabric;
    return (struct pc_blob){"gate", 4};
}

static peercache_status_t mem_register(
    struct pc_fabric *fabric, const struct pc_fabric_mem_params *params,
    struct pc_fabric_mem **mem_p)
{
    struct pc_fabric_mem *mem = pc_alloc(1, sizeof(*mem));
    *mem = (struct pc_fabric_mem){.addr = params->addr};
    if (params->use == PC_MEM_POOL) {
        unsigned number = atomic_fetch_add(&fabric->n_regions, 1);
        uint32_t allowed;
        while ((allowed = pc_event_get(&fabric->n_allowed)) <= number) {
            (void)pc_event_wait(&fabric->n_allowed, allowed, UINT64_MAX);
        }
        if (fabric->most != 0 && params->len > fabric->most) {
            pc_free(mem);
            return PEERCACHE_NO_MEMORY;
        }
        mem->is_ours = true;
        mem->refused =
            fabric->gets_most != 0 && params->len > fabric->gets_most;
        mem->addr = aligned_alloc(4096, params->len);
        memset(mem->addr, 0, params->len);
    }
    *mem_p = mem;
    return PEERCACHE_OK;
}

static void *mem_addr(struct pc_fabric_mem *mem)
{
    return mem->addr;
}

static void mem_deregister(struct pc_fabric_mem *mem)
{
    if (mem->is_ours) {
        free(mem->addr);
    }
    pc_free(mem);
}

static void mem_info(struct pc_fabric_mem *mem,
                     struct pc_fabric_mem_info *info_p)
{
    *info_p = (struct pc_fabric_mem_info){.pages = PC_PAGES_PLAIN,
                                          .has_gets = !mem->refused,
                                          .refused = mem->refused};
}

static struct pc_blob mem_rkey(struct pc_fabric_mem *mem)
{
    (void)mem;
    return (struct pc_blob){"rkey", 4};
}

static unsigned progress(struct pc_fabric *fabric)
{
    (void)fabric;
    return 0;
}

static peercache_status_t arm(struct pc_fabric *fabric, int *fd_p)
{
    (void)fabric;
    *fd_p = -1;
    return PEERCACHE_OK;
}

static const char *no_words(struct pc_fabric *fabric)
{
    (void)fabric;
    return "";
}

static const struct pc_fabric_ops gate_ops = {
    .name = "gate",
    .open = fabric_open,
    .close = fabric_close,
    .address = fabric_address,
    .mem_register = mem_register,
    .mem_addr = mem_addr,
    .mem_deregister = mem_deregister,
    .mem_info = mem_info,
    .mem_rkey = mem_rkey,
    .progress = progress,
    .arm = arm,
    .describe = no_words,
    .devices = no_words,
};

static peercache_node_t *start_with(struct pc_fabric *fabric,
                                    const char *settings)
{
    struct pc_node_env env = {
        .link_ops = pc_socket_link(),
        .fabric_ops = &gate_ops,
        .fabric_world = fabric,
        .clock = pc_clock_system(),
        .address = "127.0.0.1",
        .random_seed = 1,
        .wall_ns = 1700000000 * PC_S,
    };
    peercache_config_t *config = host_config(settings);
    peercache_node_t *node = NULL;
    assert_int_equal(pc_node_create(config, &env, &node), PEERCACHE_OK);
    peercache_config_destroy(config);
    host_ready(node);
    return node;
}

/* A node with a pool of four regions, the first of which is there. */
static peercache_node_t *start(struct pc_fabric *fabric, uint64_t growth_ns)
{
    *fabric = (struct pc_fabric){.n_regions = 0};
    pc_event_init(&fabric->n_allowed, 1);
    peercache_node_t *node = start_with(
        fabric, "global_segment_size=4MiB region_size=1MiB node_id=gate");
    node->growth_ns = growth_ns;
    WAIT_UNTIL(atomic_load(&fabric->n_regions) == 2, 30);
    return node;
}

static struct pc_store_stats stats_of(const peercache_node_t *node)
{
    struct pc_store_stats stats;
    pc_store_stats(node->store, &stats);
    return stats;
}

static void make_batch(struct batch *batch)
{
    batch_init(batch, N_PAGES, PAGE);
    batch_name(batch, "early", 0);
    batch_fill(batch);
}

static void assert_all_there(struct batch *batch, peercache_node_t *node)
{
    size_t n_wrong;
    batch_poison(batch, 0);
    assert_int_equal(batch_do(batch, node, PC_VERB_GET, 30 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(batch, &n_wrong), N_PAGES);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(stats_of(node).evictions, 0);
}

/* ---- Tests -------------------------------------------------------------- */

static void a_put_waits_for_the_next_region_and_evicts_nothing(void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch batch;
    peercache_op_t *op;
    peercache_node_t *node = start(&fabric, 100 * PC_S);
    make_batch(&batch);
    batch.params.timeout_ns = 300 * PC_S;
    /* The call returns though there is no room for all of it. */
    assert_int_equal(
        peercache_put(node, batch.items, batch.n, &batch.params, &op),
        PEERCACHE_IN_PROGRESS);
    /* Neither values nor reservations: one more page is too much. */
    WAIT_UNTIL(stats_of(node).longest_free < PAGE &&
                   stats_of(node).n_reserved == 0,
               30);
    assert_int_equal(peercache_op_status(op), PEERCACHE_IN_PROGRESS);
    pc_event_set(&fabric.n_allowed, 4);
    assert_int_equal(peercache_op_wait(op, 60 * PC_S), PEERCACHE_OK);
    peercache_op_free(op);
    assert_all_there(&batch, node);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

struct late
{
    struct pc_fabric *fabric;
    peercache_node_t *node;
};

static void *allow_when_full(void *arg)
{
    struct late *late = arg;
    while (stats_of(late->node).longest_free >= PAGE) {
        (void)poll(NULL, 0, 1);
    }
    pc_event_set(&late->fabric->n_allowed, 4);
    return NULL;
}

static void so_does_a_put_that_blocks(void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch batch;
    pthread_t thread;
    peercache_node_t *node = start(&fabric, 100 * PC_S);
    struct late late = {&fabric, node};
    make_batch(&batch);
    assert_int_equal(pthread_create(&thread, NULL, allow_when_full, &late), 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 300 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_all_there(&batch, node);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

static void a_region_that_does_not_come_is_waited_for_a_moment_only(
    void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch batch;
    peercache_node_t *node = start(&fabric, 20 * PC_MS);
    make_batch(&batch);
    uint64_t began = pc_clock_monotonic();
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 300 * PC_S),
                     PEERCACHE_OK);
    assert_true(pc_clock_monotonic() - began < 30 * PC_S);
    assert_true(stats_of(node).evictions > 0);
    assert_int_equal(stats_of(node).n_regions, 1);
    /* What went is put once more: it should rather have stayed. */
    assert_int_equal(host_metric(node, "evicted_back_total"), 0);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 300 * PC_S),
                     PEERCACHE_OK);
    assert_true(host_metric(node, "evicted_back_total") > 0);
    pc_event_set(&fabric.n_allowed, 4);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

static void a_put_that_waits_can_be_cancelled(void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch batch;
    peercache_op_t *op;
    peercache_node_t *node = start(&fabric, 100 * PC_S);
    make_batch(&batch);
    batch.params.timeout_ns = 300 * PC_S;
    assert_int_equal(
        peercache_put(node, batch.items, batch.n, &batch.params, &op),
        PEERCACHE_IN_PROGRESS);
    WAIT_UNTIL(stats_of(node).longest_free < PAGE, 30);
    peercache_op_cancel(op);
    assert_int_equal(peercache_op_wait(op, 30 * PC_S), PEERCACHE_PARTIAL);
    assert_int_equal(batch.items[0].status, PEERCACHE_OK);
    assert_int_equal(batch.items[N_PAGES - 1].status, PEERCACHE_CANCELED);
    peercache_op_free(op);
    assert_int_equal(stats_of(node).evictions, 0);
    pc_event_set(&fabric.n_allowed, 4);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* There is one copy thread. */
static void a_put_that_waits_does_not_keep_others_from_the_copy_thread(
    void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch first;
    struct batch second;
    struct batch nobody;
    peercache_op_t *ops[2];
    peercache_node_t *node = start(&fabric, 100 * PC_S);
    make_batch(&first);
    batch_init(&second, N_PAGES, PAGE);
    batch_init(&nobody, 1, PAGE);
    batch_name(&nobody, "nobody", 0);
    batch_name(&second, "other", 0);
    batch_fill(&second);
    first.params.timeout_ns = 300 * PC_S;
    second.params.timeout_ns = 300 * PC_S;
    assert_int_equal(
        peercache_put(node, first.items, first.n, &first.params, &ops[0]),
        PEERCACHE_IN_PROGRESS);
    WAIT_UNTIL(stats_of(node).longest_free < PAGE, 30);
    assert_int_equal(
        peercache_put(node, second.items, second.n, &second.params, &ops[1]),
        PEERCACHE_IN_PROGRESS);
    /* Went through the engine after it: now the second waits for the thread. */
    (void)batch_do(&nobody, node, PC_VERB_EXISTS, 30 * PC_S);
    peercache_op_cancel(ops[1]);
    assert_int_equal(peercache_op_wait(ops[1], 30 * PC_S), PEERCACHE_PARTIAL);
    assert_int_equal(peercache_op_status(ops[0]), PEERCACHE_IN_PROGRESS);
    pc_event_set(&fabric.n_allowed, 4);
    assert_int_equal(peercache_op_wait(ops[0], 60 * PC_S), PEERCACHE_OK);
    assert_all_there(&first, node);
    peercache_op_free(ops[0]);
    peercache_op_free(ops[1]);
    batch_fini(&first);
    batch_fini(&second);
    batch_fini(&nobody);
    peercache_node_destroy(node);
}

/* Only the first puts wait for it: else each would, as long as it hangs. */
static void a_region_that_hangs_is_not_waited_for_by_each_put(void **state)
{
    (void)state;
    struct pc_fabric fabric;
    struct batch batch;
    peercache_node_t *node = start(&fabric, 500 * PC_MS);
    make_batch(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 300 * PC_S),
                     PEERCACHE_OK); /* The pool is full. */
    WAIT_UNTIL(pc_clock_monotonic() > node->grew_ns + 2 * PC_S, 30);
    uint64_t began = pc_clock_monotonic();
    for (unsigned i = 0; i < 40; i++) {
        batch_name(&batch, "late", i);
        assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 300 * PC_S),
                         PEERCACHE_OK);
    }
    assert_true(pc_clock_monotonic() - began < 40 * 500 * PC_MS / 2);
    pc_event_set(&fabric.n_allowed, 4);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* Without any region. */
static void a_put_before_the_first_region_leaves_the_copy_thread_to_others(
    void **state)
{
    (void)state;
    struct pc_fabric fabric = {.n_regions = 0};
    struct batch batches[2];
    peercache_op_t *ops[2];
    pc_event_init(&fabric.n_allowed, 0);
    peercache_node_t *node = start_with(
        &fabric, "global_segment_size=4MiB region_size=1MiB node_id=gate");
    for (unsigned i = 0; i < 2; i++) {
        batch_init(&batches[i], 1, PAGE);
        batch_name(&batches[i], "first", i);
        batch_fill(&batches[i]);
        batches[i].params.timeout_ns = 300 * PC_S;
        assert_int_equal(peercache_put(node, batches[i].items, 1,
                                       &batches[i].params, &ops[i]),
                         PEERCACHE_IN_PROGRESS);
    }
    peercache_op_cancel(ops[1]); /* The first one does not keep it. */
    assert_int_equal(peercache_op_wait(ops[1], 30 * PC_S), PEERCACHE_PARTIAL);
    assert_int_equal(batches[1].items[0].status, PEERCACHE_CANCELED);
    assert_int_equal(peercache_op_status(ops[0]), PEERCACHE_IN_PROGRESS);
    pc_event_set(&fabric.n_allowed, 4);
    assert_int_equal(peercache_op_wait(ops[0], 60 * PC_S), PEERCACHE_OK);
    for (unsigned i = 0; i < 2; i++) {
        peercache_op_free(ops[i]);
        batch_fini(&batches[i]);
    }
    peercache_node_destroy(node);
}

/* As that of a device whose largest registration is smaller than a region:
 * the pool comes up all the same, in memory that is read in another way. */
static void regions_that_cannot_be_registered_are_plain_memory(void **state)
{
    (void)state;
    struct pc_fabric fabric = {.most = REGION - 1};
    struct batch batch;
    pc_event_init(&fabric.n_allowed, UINT32_MAX);
    host_log_keep();
    peercache_node_t *node = start_with(
        &fabric, "global_segment_size=4MiB region_size=1MiB node_id=gate");
    host_whole(node);
    assert_int_equal(stats_of(node).n_regions, 4);
    assert_int_equal(atomic_load(&fabric.n_regions), 4);
    assert_true(host_log_count(PEERCACHE_LOG_WARN, "no memory",
                               "using plain memory") > 0);
    make_batch(&batch);
    assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 30 * PC_S),
                     PEERCACHE_OK);
    assert_all_there(&batch, node);
    assert_int_equal(host_metric(node, "pool_missing_bytes"), 0);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* Puts beyond what there is: the margin comes back by itself, for who is next.
 * A put makes no more room than it needs. */
static void a_full_pool_gets_its_margin_back(void **state)
{
    (void)state;
    struct pc_fabric fabric = {.n_regions = 0};
    struct batch batch;
    pc_event_init(&fabric.n_allowed, UINT32_MAX);
    peercache_node_t *node = start_with(
        &fabric, "global_segment_size=4MiB region_size=1MiB node_id=gate "
                 "evict_low=200 evict_high=300");
    host_whole(node);
    make_batch(&batch);
    for (size_t n = 0; n < 2 * 4 * REGION / PAGE; n += N_PAGES) {
        batch_name(&batch, "more", n);
        assert_int_equal(batch_do(&batch, node, PC_VERB_PUT, 30 * PC_S),
                         PEERCACHE_OK);
    }
    assert_true(stats_of(node).evictions > 0);
    WAIT_UNTIL(!pc_store_is_short(node->store), 30);
    batch_fini(&batch);
    peercache_node_destroy(node);
}

/* A device may register less at once than a region has. */
static void refused_regions_are_made_smaller(void **state)
{
    (void)state;
    struct pc_fabric fabric = {.gets_most = 100 * MIB};
    pc_event_init(&fabric.n_allowed, UINT32_MAX);
    host_log_keep();
    peercache_node_t *node =
        start_with(&fabric, "global_segment_size=640MiB region_size=256MiB "
                            "node_id=gate");
    host_whole(node);
    /* 64 MiB first, then 256 and 128 in vain, then 64 of what is left. */
    assert_int_equal(stats_of(node).n_regions, 10);
    assert_int_equal(atomic_load(&fabric.n_regions), 12);
    assert_int_equal(node->place.with_gets, 640 * MIB);
    assert_int_equal(host_metric(node, "pool_missing_bytes"), 0);
    assert_int_equal(host_log_count(PEERCACHE_LOG_WARN, "is refused",
                                    "trying regions of 64 MiB"),
                     1);
    peercache_node_destroy(node);
}

/* Where small ones are refused, too, the pool is as it would be. */
static void refused_small_regions_stay_as_large_as_wanted(void **state)
{
    (void)state;
    struct pc_fabric fabric = {.gets_most = 1};
    pc_event_init(&fabric.n_allowed, UINT32_MAX);
    peercache_node_t *node =
        start_with(&fabric, "global_segment_size=640MiB region_size=256MiB "
                            "node_id=gate");
    host_whole(node);
    assert_int_equal(stats_of(node).n_regions, 4);
    assert_int_equal(atomic_load(&fabric.n_regions), 4);
    assert_int_equal(node->place.with_gets, 0);
    assert_int_equal(host_metric(node, "pool_missing_bytes"), 0);
    peercache_node_destroy(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_waits_for_the_next_region_and_evicts_nothing),
        cmocka_unit_test(so_does_a_put_that_blocks),
        cmocka_unit_test(
            a_region_that_does_not_come_is_waited_for_a_moment_only),
        cmocka_unit_test(a_put_that_waits_can_be_cancelled),
        cmocka_unit_test(
            a_put_that_waits_does_not_keep_others_from_the_copy_thread),
        cmocka_unit_test(a_region_that_hangs_is_not_waited_for_by_each_put),
        cmocka_unit_test(
            a_put_before_the_first_region_leaves_the_copy_thread_to_others),
        cmocka_unit_test(regions_that_cannot_be_registered_are_plain_memory),
        cmocka_unit_test(a_full_pool_gets_its_margin_back),
        cmocka_unit_test(refused_regions_are_made_smaller),
        cmocka_unit_test(refused_small_regions_stay_as_large_as_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
