/* Tests of base/log.h. */
#include "test.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct seen
{
    int n_lines;
    peercache_log_level_t level;
    char where[32];
    char message[2048];
};

static void remember(void *arg, peercache_log_level_t level, const char *where,
                     const char *message)
{
    struct seen *seen = arg;
    seen->n_lines++;
    seen->level = level;
    snprintf(seen->where, sizeof(seen->where), "%s", where);
    snprintf(seen->message, sizeof(seen->message), "%s", message);
}

static int count_calls(int *n_calls)
{
    return ++*n_calls;
}

static void a_sink_gets_level_place_and_message(void **state)
{
    (void)state;
    struct seen seen = {0};
    pc_log_set(PEERCACHE_LOG_INFO, remember, &seen);
    PC_WARN("store", "no room for %d bytes", 42);
    assert_int_equal(seen.n_lines, 1);
    assert_int_equal(seen.level, PEERCACHE_LOG_WARN);
    assert_string_equal(seen.where, "store");
    assert_string_equal(seen.message, "no room for 42 bytes");
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
}

static void arguments_below_the_level_are_not_evaluated(void **state)
{
    (void)state;
    struct seen seen = {0};
    int n_calls = 0;
    pc_log_set(PEERCACHE_LOG_WARN, remember, &seen);
    PC_INFO("test", "%d", count_calls(&n_calls));
    assert_int_equal(n_calls, 0);
    assert_int_equal(seen.n_lines, 0);
    PC_ERROR("test", "%d", count_calls(&n_calls));
    assert_int_equal(n_calls, 1);
    assert_int_equal(seen.n_lines, 1);
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
}

static void a_peers_words_make_no_line_of_their_own(void **state)
{
    (void)state;
    struct seen seen = {0};
    pc_log_set(PEERCACHE_LOG_INFO, remember, &seen);
    PC_WARN("test", "it says %s", "x\nERROR y\r\033[2J\177 \xc3\xa4");
    assert_int_equal(seen.n_lines, 1);
    assert_string_equal(seen.message, "it says x ERROR y  [2J  \xc3\xa4");
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
}

static void a_long_line_is_cut(void **state)
{
    (void)state;
    struct seen seen = {0};
    char text[1500];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    pc_log_set(PEERCACHE_LOG_TRACE, remember, &seen);
    PC_TRACE("test", "%s", text);
    assert_int_equal(strlen(seen.message), 1023);
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
}

static void what_is_installed_can_be_handed_on(void **state)
{
    (void)state;
    struct seen seen = {0};
    peercache_log_level_t level;
    peercache_log_fn fn;
    void *arg;
    pc_log_set(PEERCACHE_LOG_DEBUG, remember, &seen);
    pc_log_get(&level, &fn, &arg);
    assert_int_equal(level, PEERCACHE_LOG_DEBUG);
    assert_true(fn == remember);
    assert_ptr_equal(arg, &seen);
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
    pc_log_get(&level, &fn, &arg);
    assert_true(fn != NULL && fn != remember);
    assert_null(arg);
}

static void without_a_sink_a_dated_line_goes_to_stderr(void **state)
{
    (void)state;
    int fds[2];
    char line[256];
    assert_int_equal(pipe(fds), 0);
    int saved = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    PC_ERROR("engine", "broken %s", "thing");
    dup2(saved, STDERR_FILENO);
    ssize_t len = read(fds[0], line, sizeof(line) - 1);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    assert_true(len > 0);
    line[len] = '\0';
    int n[7];
    int at = 0;
    assert_int_equal(sscanf(line, "%4d-%2d-%2d %2d:%2d:%2d.%3d %n", &n[0],
                            &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &at),
                     7);
    assert_int_equal(at, strlen("2000-01-01 00:00:00.000 "));
    assert_string_equal(line + at, "ERROR engine: broken thing\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sink_gets_level_place_and_message),
        cmocka_unit_test(arguments_below_the_level_are_not_evaluated),
        cmocka_unit_test(a_peers_words_make_no_line_of_their_own),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(what_is_installed_can_be_handed_on),
        cmocka_unit_test(without_a_sink_a_dated_line_goes_to_stderr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
