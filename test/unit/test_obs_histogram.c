#include "test.h"

#include "base/mem.h"
#include "obs/histogram.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void an_empty_histogram_has_no_quantiles(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    assert_int_equal(pc_histogram_quantile(&h, 0.5), 0);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 0);
}

static void bounds_belong_to_the_lower_bucket(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    pc_histogram_add(&h, 0);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 1000);
    pc_histogram_add(&h, 1000);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 1000);
    pc_histogram_add(&h, 1001);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 2000);
    pc_histogram_add(&h, 8388608000ull);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 8388608000ull);
    pc_histogram_add(&h, 8388608001ull);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), UINT64_MAX);
}

static void quantiles_lie_where_the_share_is_reached(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    for (int i = 0; i < 90; i++) {
        pc_histogram_add(&h, 3000);
    }
    for (int i = 0; i < 10; i++) {
        pc_histogram_add(&h, 1000000);
    }
    assert_int_equal(pc_histogram_quantile(&h, 0.0), 4000);
    assert_int_equal(pc_histogram_quantile(&h, 0.5), 4000);
    assert_int_equal(pc_histogram_quantile(&h, 0.9), 4000);
    assert_int_equal(pc_histogram_quantile(&h, 0.99), 1024000);
    assert_int_equal(pc_histogram_quantile(&h, 1.0), 1024000);
}

static void text_is_cumulative_and_agrees_with_the_count(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    struct pc_text text;
    pc_text_init(&text);
    pc_histogram_add(&h, 500);
    pc_histogram_add(&h, 1500);
    pc_histogram_add(&h, 20000000000ull);
    pc_histogram_text(&h, "x_seconds", "verb=\"get\"", &text);
    static const char *const lines[] = {
        "x_seconds_bucket{verb=\"get\",le=\"0.000001000\"} 1\n",
        "x_seconds_bucket{verb=\"get\",le=\"0.000002000\"} 2\n",
        "x_seconds_bucket{verb=\"get\",le=\"8.388608000\"} 2\n",
        "x_seconds_bucket{verb=\"get\",le=\"+Inf\"} 3\n",
        "x_seconds_sum{verb=\"get\"} 20.000002000\n",
        "x_seconds_count{verb=\"get\"} 3\n",
    };
    const char *at = text.data;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        at = strstr(at, lines[i]);
        assert_non_null(at);
    }
    pc_text_fini(&text);
}

static void text_without_labels_has_only_the_bound(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    struct pc_text text;
    pc_text_init(&text);
    pc_histogram_text(&h, "x", "", &text);
    assert_non_null(strstr(text.data, "x_bucket{le=\"+Inf\"} 0\n"));
    assert_non_null(strstr(text.data, "x_sum 0.000000000\nx_count 0\n"));
    pc_text_fini(&text);
}

static void missing_memory_marks_the_text(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    for (int64_t n = 0; n < 3; n++) {
        struct pc_text text;
        pc_text_init(&text);
        pc_mem_fail_after(n);
        pc_histogram_text(&h, "x", "", &text);
        pc_mem_fail_after(-1);
        assert_true(text.failed);
        pc_text_fini(&text);
    }
    assert_int_equal(pc_mem_outstanding(), 0);
}

static void *add_many(void *arg)
{
    for (unsigned i = 0; i < 10000; i++) {
        pc_histogram_add(arg, 1000ull * i);
    }
    return NULL;
}

static void threads_lose_no_measurement(void **state)
{
    (void)state;
    struct pc_histogram h = {0};
    struct pc_text text;
    pthread_t threads[4];
    pc_text_init(&text);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &h), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    pc_histogram_text(&h, "x", "", &text);
    assert_non_null(strstr(text.data, "x_count 40000\n"));
    pc_text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_histogram_has_no_quantiles),
        cmocka_unit_test(bounds_belong_to_the_lower_bucket),
        cmocka_unit_test(quantiles_lie_where_the_share_is_reached),
        cmocka_unit_test(text_is_cumulative_and_agrees_with_the_count),
        cmocka_unit_test(text_without_labels_has_only_the_bound),
        cmocka_unit_test(missing_memory_marks_the_text),
        cmocka_unit_test(threads_lose_no_measurement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
