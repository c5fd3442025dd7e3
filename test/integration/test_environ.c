/*
 * What nodes do with the variables of the process that they are in: they change
 * none while others may be reading, and their threads read none while others
 * may be changing them. Either is how getenv() comes to read freed memory.
 *
 * This program's own getenv, setenv and unsetenv count and go on to the C
 * library's; every library in the process is given these.
 */
#include "host.h"

#include "transports/ucx/loader.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static _Atomic unsigned n_changes;
static _Atomic unsigned n_reads_by_threads;
static char read_last[64];

/* Other libraries' calls come here, too. */
#define FOR_ALL __attribute__((visibility("default")))

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL) {
        abort();
    }
    return function;
}

static void note_read(const char *name)
{
    if (syscall(SYS_gettid) != getpid()) {
        (void)snprintf(read_last, sizeof(read_last), "%s", name);
        atomic_fetch_add_explicit(&n_reads_by_threads, 1, memory_order_relaxed);
    }
}

FOR_ALL char *getenv(const char *name)
{
    char *(*real)(const char *);
    *(void **)(&real) = next("getenv");
    note_read(name);
    return real(name);
}

FOR_ALL char *secure_getenv(const char *name)
{
    char *(*real)(const char *);
    *(void **)(&real) = next("secure_getenv");
    note_read(name);
    return real(name);
}

FOR_ALL int setenv(const char *name, const char *value, int replace)
{
    int (*real)(const char *, const char *, int);
    *(void **)(&real) = next("setenv");
    atomic_fetch_add_explicit(&n_changes, 1, memory_order_relaxed);
    return real(name, value, replace);
}

FOR_ALL int unsetenv(const char *name)
{
    int (*real)(const char *);
    *(void **)(&real) = next("unsetenv");
    atomic_fetch_add_explicit(&n_changes, 1, memory_order_relaxed);
    return real(name);
}

static void forget(void)
{
    atomic_store_explicit(&n_changes, 0, memory_order_relaxed);
    atomic_store_explicit(&n_reads_by_threads, 0, memory_order_relaxed);
}

/* So that the tests can fail. */
static void *read_one(void *arg)
{
    (void)arg;
    (void)getenv("PATH");
    return NULL;
}

static void reads_and_changes_are_counted(void **state)
{
    pthread_t thread;
    (void)state;
    forget();
    assert_int_equal(pthread_create(&thread, NULL, read_one, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(setenv("PC_TEST_X", "1", 1), 0);
    assert_int_equal(unsetenv("PC_TEST_X"), 0);
    assert_int_equal(n_reads_by_threads, 1);
    assert_int_equal(n_changes, 2);
}

static void a_module_is_looked_for_without_a_change(void **state)
{
    const struct pc_fabric_ops *ops = NULL;
    (void)state;
    forget();
    assert_int_equal(pc_fabric_load("/nowhere/libpeercache_ucx.so", &ops),
                     PEERCACHE_UNSUPPORTED);
    assert_int_equal(n_changes, 0);
    assert_null(getenv("UCX_MEM_EVENTS"));
}

static void threads_of_nodes_read_no_variable_and_starts_change_none(
    void **state)
{
    struct batch batch;
    size_t n_wrong;
    uint16_t port = host_port();
    (void)state;
    forget();
    peercache_node_t *one = host_node("discovery_addr=127.0.0.1:%u", port);
    peercache_node_t *two = host_node("discovery_addr=127.0.0.1:%u", port);
    host_whole(one);
    host_whole(two);
    WAIT_UNTIL(host_metric(one, "members") == 2 &&
                   host_metric(two, "members") == 2,
               30);
    batch_init(&batch, 8, 32 * KIB);
    batch_name(&batch, "environ", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, one, PC_VERB_PUT, 20 * PC_S),
                     PEERCACHE_OK);
    batch_poison(&batch, 0);
    assert_int_equal(batch_do(&batch, two, PC_VERB_GET, 20 * PC_S),
                     PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), 8);
    assert_int_equal(n_wrong, 0);
    batch_fini(&batch);
    peercache_node_destroy(two);
    peercache_node_destroy(one);
    if (n_reads_by_threads > 0) {
        fail_msg("%u reads by threads, the last of %s", n_reads_by_threads,
                 read_last);
    }
    assert_int_equal(n_changes, 0);
}

int main(void)
{
    host_log_keep();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_changes_are_counted),
        cmocka_unit_test(a_module_is_looked_for_without_a_change),
        cmocka_unit_test(
            threads_of_nodes_read_no_variable_and_starts_change_none),
    };
    return cmocka_run_group_tests_name("environ", tests, NULL, NULL);
}
