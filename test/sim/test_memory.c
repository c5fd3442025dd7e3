/*
 * A process that is out of memory now and then: in each run of a call one more
 * allocation succeeds before one fails, until the call needs no more. Whatever
 * failed, the call ends by its deadline with a status that says so, nothing is
 * left over, and afterwards the cluster works.
 */
#include "test.h"

#include "cluster.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* Failed allocations of one call at most; more than any of them makes. */
enum { MAX_FAILURES = 600 };

static const char settings[] =
    "global_segment_size=4mib region_size=4mib location_cache=0";

/* What a call may say when its memory, or that of a node it asks, failed. */
static bool is_clear(enum pc_verb verb, peercache_status_t status)
{
    switch (status) {
    case PEERCACHE_OK:
    case PEERCACHE_PARTIAL:
    case PEERCACHE_NO_MEMORY:
    case PEERCACHE_TIMED_OUT:
        return true;
    case PEERCACHE_NOT_FOUND:
        return verb != PC_VERB_PUT;
    case PEERCACHE_NO_SPACE:
        return verb == PC_VERB_PUT;
    case PEERCACHE_UNREACHABLE:
        return verb == PC_VERB_REMOVE;
    default:
        return false;
    }
}

static void check_result(const struct cluster_op *op, int n)
{
    if (!op->ended || !is_clear(op->verb, op->result)) {
        fail_msg("verb %d, failure %d: %s", (int)op->verb, n,
                 op->ended ? peercache_status_name(op->result) : "no end");
    }
    for (size_t i = 0; i < op->n; i++) {
        if (!is_clear(op->verb, op->statuses[i])) {
            fail_msg("verb %d, failure %d: item %zu: %s", (int)op->verb, n, i,
                     peercache_status_name(op->statuses[i]));
        }
    }
}

/* Put at one node, got at the other: both ways. */
static void assert_works(struct cluster *c, int n)
{
    for (int i = 0; i < 2; i++) {
        char words[64];
        (void)snprintf(words, sizeof(words), "w%d_%dx w%d_%dy", n, i, n, i);
        assert_int_equal(cluster_do(c, i, PC_VERB_PUT, words), PEERCACHE_OK);
        assert_int_equal(cluster_do(c, 1 - i, PC_VERB_GET, words),
                         PEERCACHE_OK);
        assert_int_equal(cluster_do(c, i, PC_VERB_REMOVE, words), PEERCACHE_OK);
    }
}

struct plan
{
    enum pc_verb verb;
    bool is_put; /* Before the call, at the other node. */
    int n_words;
    const char *more; /* Settings. */
};

/* Words of run n; of another run, other words. */
static void name_words(const struct plan *plan, int n, char *words, size_t len)
{
    words[0] = '\0';
    for (int k = 0; k < plan->n_words; k++) {
        size_t at = strlen(words);
        (void)snprintf(words + at, len - at, "%sv%d_%d", k == 0 ? "" : " ", n,
                       k);
    }
}

/* False: nothing failed any more. */
static bool run_once(struct cluster *c, const struct plan *plan, int n)
{
    char words[512];
    name_words(plan, n, words, sizeof(words));
    if (plan->is_put) {
        assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    struct cluster_call call = {.node = 0,
                                .verb = plan->verb,
                                .words = words,
                                .timeout_ns = 500 * PC_MS,
                                .may_be_refused = true};
    pc_mem_fail_after(n);
    struct cluster_op *op = cluster_begin(c, &call);
    cluster_wait(op);
    cluster_run(c, PC_MS);
    bool has_failed = pc_mem_fail_after(-1) < 0;
    check_result(op, n);
    cluster_run(c, 3 * PC_S);
    cluster_settle(c, 60 * PC_S);
    assert_works(c, n);
    return has_failed;
}

static void fail_each(const struct plan *plan)
{
    int64_t before = pc_mem_outstanding();
    struct cluster *c = cluster_create(800 + (uint64_t)plan->verb);
    char text[256];
    (void)snprintf(text, sizeof(text), "%s %s", settings, plan->more);
    cluster_start_all(c, 2, text);
    int n = 0;
    while (n < MAX_FAILURES && run_once(c, plan, n)) {
        n++;
    }
    print_message("verb %d, %d words: %d allocations failed\n", (int)plan->verb,
                  plan->n_words, n);
    assert_in_range(n, 5, MAX_FAILURES - 1);
    cluster_run(c, PC_S);
    cluster_check_rest(c);
    cluster_destroy(c);
    assert_int_equal(pc_mem_outstanding(), before);
}

/* Not one allocation but one of each step, until the call has ended. */
static void starve(struct cluster *c, const struct plan *plan, int n)
{
    char words[512];
    name_words(plan, n, words, sizeof(words));
    if (plan->is_put) {
        assert_int_equal(cluster_do(c, 1, PC_VERB_PUT, words), PEERCACHE_OK);
    }
    struct cluster_call call = {.node = 0,
                                .verb = plan->verb,
                                .words = words,
                                .timeout_ns = 300 * PC_MS,
                                .may_be_refused = true};
    struct cluster_op *op = cluster_begin(c, &call);
    uint64_t limit = cluster_now(c) + PC_S;
    while (!op->ended && cluster_now(c) < limit) {
        (void)pc_mem_fail_after(n);
        cluster_step(c, limit);
    }
    (void)pc_mem_fail_after(-1);
    check_result(op, n);
    cluster_run(c, 3 * PC_S);
    cluster_settle(c, 60 * PC_S);
    assert_works(c, n);
}

static void calls_end_while_memory_stays_short(void **state)
{
    (void)state;
    static const struct plan plans[] = {{PC_VERB_PUT, false, 8, ""},
                                        {PC_VERB_GET, true, 8, ""},
                                        {PC_VERB_EXISTS, true, 8, ""},
                                        {PC_VERB_REMOVE, true, 8, ""}};
    int64_t before = pc_mem_outstanding();
    for (size_t k = 0; k < PC_ARRAY_LEN(plans); k++) {
        struct cluster *c = cluster_create(820 + k);
        cluster_start_all(c, 2, settings);
        for (int n = 0; n < 10; n++) {
            starve(c, &plans[k], n);
        }
        cluster_check_rest(c);
        cluster_destroy(c);
    }
    assert_int_equal(pc_mem_outstanding(), before);
}

static void a_put_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_PUT, false, 1, ""});
}

static void a_batch_of_puts_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_PUT, false, 8, ""});
}

static void a_get_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_GET, true, 1, ""});
    fail_each(&(struct plan){PC_VERB_GET, true, 1, "read_mode=served"});
    fail_each(&(struct plan){PC_VERB_GET, true, 1, "read_mode=one-sided"});
}

static void a_batch_of_gets_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_GET, true, 8, "read_mode=served"});
    fail_each(&(struct plan){PC_VERB_GET, true, 8, "read_mode=one-sided"});
}

static void an_exists_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_EXISTS, true, 1, ""});
    fail_each(&(struct plan){PC_VERB_EXISTS, true, 8, ""});
}

static void a_remove_without_memory_ends(void **state)
{
    (void)state;
    fail_each(&(struct plan){PC_VERB_REMOVE, true, 1, ""});
    fail_each(&(struct plan){PC_VERB_REMOVE, true, 8, ""});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_without_memory_ends),
        cmocka_unit_test(a_batch_of_puts_without_memory_ends),
        cmocka_unit_test(a_get_without_memory_ends),
        cmocka_unit_test(a_batch_of_gets_without_memory_ends),
        cmocka_unit_test(an_exists_without_memory_ends),
        cmocka_unit_test(a_remove_without_memory_ends),
        cmocka_unit_test(calls_end_while_memory_stays_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
