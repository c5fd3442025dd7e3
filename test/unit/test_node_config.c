#include "test.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/config.h"
#include "node/settings.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int setup(void **state)
{
    peercache_config_t *config;
    assert_int_equal(peercache_config_create(&config), PEERCACHE_OK);
    *state = config;
    return 0;
}

static int teardown(void **state)
{
    peercache_config_destroy(*state);
    return pc_mem_outstanding() == 0 ? 0 : -1;
}

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, text);
    }
}

static void assert_set(peercache_config_t *config, const char *name,
                       const char *value)
{
    if (peercache_config_set(config, name, value) != PEERCACHE_OK) {
        fail_msg("%s = %s: %s", name, value, peercache_config_error(config));
    }
}

static void assert_refused(peercache_config_t *config, const char *name,
                           const char *value)
{
    if (peercache_config_set(config, name, value) != PEERCACHE_INVALID) {
        fail_msg("%s = %s was taken", name, value);
    }
    assert_contains(peercache_config_error(config), name);
    assert_contains(peercache_config_error(config), value);
}

static void every_default_passes_its_own_check(void **state)
{
    struct pc_settings settings;
    const struct pc_setting *setting;
    for (size_t i = 0; (setting = pc_setting_at(i)) != NULL; i++) {
        const peercache_setting_t *row = &setting->public;
        assert_ptr_equal(peercache_setting(i), row);
        assert_true(pc_setting_parse(setting, row->value, &settings));
        assert_string_equal(peercache_config_get(*state, row->name),
                            row->value);
        assert_string_equal(pc_config_origin(*state, row->name), "default");
        assert_true(strlen(row->help) > 10 && strlen(row->range) > 0);
        assert_int_equal(pc_setting_find(row->name), (int)i);
    }
    assert_null(peercache_setting(1000));
    assert_int_equal(peercache_config_check(*state), PEERCACHE_OK);
    assert_string_equal(peercache_config_error(*state), "");
}

static void every_setting_refuses_a_value_of_a_wrong_type(void **state)
{
    const peercache_setting_t *row;
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        if (strcmp(row->type, "text") == 0) {
            char longest[PEERCACHE_STR_MAX + 1];
            memset(longest, 'a', sizeof(longest) - 1);
            longest[sizeof(longest) - 1] = '\0';
            assert_int_equal(peercache_config_set(*state, row->name, longest),
                             PEERCACHE_INVALID);
        } else {
            assert_refused(*state, row->name, "wombat");
            assert_refused(*state, row->name, "1x");
            assert_int_equal(peercache_config_set(*state, row->name, ""),
                             PEERCACHE_INVALID);
        }
    }
}

/* One outside of what a number allows, as text. */
static void just_beyond(const char *type, const char *end, int step, char *out,
                        size_t out_len)
{
    uint64_t value = 0;
    int64_t integer = 0;
    if (strcmp(type, "size") == 0) {
        assert_true(pc_parse_size(end, &value));
        snprintf(out, out_len, "%llu",
                 (unsigned long long)(value + (uint64_t)(int64_t)step));
    } else if (strcmp(type, "seconds") == 0) {
        assert_true(pc_parse_seconds(end, &value));
        snprintf(out, out_len, "%lluns",
                 (unsigned long long)(value + (uint64_t)(int64_t)step));
    } else {
        assert_true(pc_parse_int(end, &integer));
        snprintf(out, out_len, "%lld", (long long)(integer + step));
    }
}

static void every_number_takes_its_bounds_and_nothing_beyond(void **state)
{
    const peercache_setting_t *row;
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        const char *middle = strstr(row->range, " to ");
        if (strcmp(row->type, "size") != 0 && strcmp(row->type, "int") != 0 &&
            strcmp(row->type, "seconds") != 0) {
            continue;
        }
        char low[64];
        char beyond[64];
        snprintf(low, sizeof(low), "%.*s", (int)(middle - row->range),
                 row->range);
        const char *high = middle + 4;
        assert_set(*state, row->name, low);
        assert_set(*state, row->name, high);
        just_beyond(row->type, high, 1, beyond, sizeof(beyond));
        assert_refused(*state, row->name, beyond);
        just_beyond(row->type, low, -1, beyond, sizeof(beyond));
        assert_refused(*state, row->name, beyond);
    }
}

static void every_choice_takes_its_words_in_any_case(void **state)
{
    const peercache_setting_t *row;
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        if (strcmp(row->type, "choice") != 0) {
            continue;
        }
        char words[128];
        char *rest = words;
        char *word;
        snprintf(words, sizeof(words), "%s", row->range);
        while ((word = strsep(&rest, ",")) != NULL) {
            word += *word == ' ';
            assert_set(*state, row->name, word);
            word[0] = (char)(word[0] - 'a' + 'A');
            assert_set(*state, row->name, word);
        }
    }
}

static void choices_resolve_to_the_enums_of_their_words(void **state)
{
    struct pc_settings s;
    assert_set(*state, "mode", "Centralized");
    assert_set(*state, "role", "storage");
    assert_set(*state, "write_policy", "both");
    assert_set(*state, "protocol", "TCP");
    assert_set(*state, "read_mode", "one_sided");
    assert_set(*state, "verify", "checksum");
    assert_set(*state, "disk_policy", "evict");
    assert_set(*state, "eviction_policy", "LRU");
    assert_set(*state, "log_level", "debug");
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.mode, PC_MODE_CENTRALIZED);
    assert_int_equal(s.role, PC_ROLE_WANTED_STORAGE);
    assert_int_equal(s.write_policy, PC_WRITE_POLICY_BOTH);
    assert_int_equal(s.protocol, PC_PROTOCOL_TCP);
    assert_int_equal(s.read_mode, PC_READ_MODE_ONE_SIDED);
    assert_int_equal(s.verify, PC_VERIFY_CHECKSUM);
    assert_int_equal(s.disk_policy, PC_DISK_POLICY_EVICT);
    assert_int_equal(s.eviction_policy, PC_EVICTION_LRU);
    assert_int_equal(s.log_level, PEERCACHE_LOG_DEBUG);
    assert_set(*state, "read_mode", "one-sided");
    assert_set(*state, "mode", "hybrid");
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.mode, PC_MODE_HYBRID);
    assert_int_equal(s.read_mode, PC_READ_MODE_ONE_SIDED);
}

static void values_resolve_to_typed_fields(void **state)
{
    struct pc_settings s;
    assert_set(*state, "global_segment_size", "1.5gb");
    assert_set(*state, "op_timeout", "500ms");
    assert_set(*state, "gid_index", "-1");
    assert_set(*state, "allow_insecure", "Yes");
    assert_set(*state, "discovery_addr", " a:31998, [::1]:31998 ");
    assert_set(*state, "control_bind_host", "AUTO");
    assert_set(*state, "node_id", "rank-0.host_1");
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.global_segment_size, 3ull << 29);
    assert_int_equal(s.op_timeout_ns, 500 * PC_MS);
    assert_int_equal(s.gid_index, -1);
    assert_true(s.allow_insecure);
    assert_string_equal(s.discovery_addr, "a:31998, [::1]:31998");
    assert_string_equal(s.control_bind_host, "");
    assert_string_equal(s.local_hostname, "");
    assert_string_equal(s.metrics_bind_host, "127.0.0.1");
    assert_string_equal(s.node_id, "rank-0.host_1");
    assert_int_equal(s.vnodes, 160);
    assert_int_equal(s.spin_ns, 50 * PC_US);
    assert_int_equal(s.region_size, 1ull << 30);
    assert_string_equal(peercache_config_get(*state, "global_segment_size"),
                        "1.5gb");
}

static void slotmap_runs_as_p2p(void **state)
{
    struct pc_settings s;
    assert_set(*state, "mode", "slotmap");
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.mode, PC_MODE_P2P);
}

static unsigned n_told;
static void count_told(void *arg, peercache_log_level_t level,
                       const char *where, const char *message)
{
    (void)where;
    n_told += level == PEERCACHE_LOG_WARN && strstr(message, arg) != NULL;
}

static unsigned told(peercache_config_t *config, const char *what)
{
    struct pc_settings s;
    n_told = 0;
    pc_log_set(PEERCACHE_LOG_INFO, count_told, (void *)what);
    assert_int_equal(pc_config_resolve(config, &s), PEERCACHE_OK);
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
    return n_told;
}

static void what_has_no_effect_yet_is_one_warning(void **state)
{
    assert_set(*state, "metrics_enabled", "false");
    assert_set(*state, "data_replicas", "1");
    assert_int_equal(told(*state, ""), 0);
    assert_set(*state, "data_replicas", "2");
    assert_set(*state, "write_policy", "both");
    assert_set(*state, "rdma_port", "4000");
    assert_int_equal(told(*state, "without effect in this version: "
                                  "data_replicas = 2, write_policy = both, "
                                  "rdma_port = 4000"),
                     1);
    assert_set(*state, "mode", "hybrid");
    assert_int_equal(told(*state, "mode hybrid: "), 1);
}

static void texts_with_rules_are_checked(void **state)
{
    assert_refused(*state, "node_id", "../../etc");
    assert_refused(*state, "node_id", "a b");
    assert_refused(*state, "cluster_name", "a/b");
    assert_refused(*state, "discovery_addr", "hostonly");
    assert_refused(*state, "discovery_addr", "a:0");
    assert_refused(*state, "discovery_addr", "a:70000");
    assert_refused(*state, "discovery_addr", "a:1,b:2");
    assert_refused(*state, "discovery_addr", "a:1,,b:1");
    assert_refused(*state, "discovery_addr", "a b:1");
    assert_refused(*state, "control_bind_host", "no such host");
    assert_refused(*state, "device_names", "mlx5_0,mlx5_1,mlx5_0");
    assert_refused(*state, "device_names", "mlx5_0,");
    assert_int_equal(peercache_config_set(*state, "disk_path", ""),
                     PEERCACHE_INVALID);
    assert_set(*state, "device_names", "mlx5_0, mlx5_1");
    assert_set(*state, "discovery_addr", "");
    assert_set(*state, "node_id", "auto");
}

static void a_refused_value_names_what_is_allowed(void **state)
{
    assert_int_equal(peercache_config_set(*state, "ib_port", "256"),
                     PEERCACHE_INVALID);
    assert_string_equal(peercache_config_error(*state),
                        "ib_port = \"256\" is not allowed: int, 1 to 255");
    assert_string_equal(peercache_config_get(*state, "ib_port"), "1");
}

static void an_unknown_name_is_told_the_nearest_known_one(void **state)
{
    assert_int_equal(peercache_config_set(*state, "vnode", "3"),
                     PEERCACHE_INVALID);
    assert_string_equal(peercache_config_error(*state),
                        "unknown setting \"vnode\"; did you mean \"vnodes\"?");
    assert_int_equal(peercache_config_set(*state, "colour_of_the_sky", "3"),
                     PEERCACHE_INVALID);
    assert_string_equal(peercache_config_error(*state),
                        "unknown setting \"colour_of_the_sky\"");
    assert_null(peercache_config_get(*state, "vnode"));
    assert_null(pc_config_origin(*state, "vnode"));
    assert_int_equal(peercache_config_check(*state), PEERCACHE_OK);
}

static void names_may_be_written_with_dashes(void **state)
{
    assert_set(*state, "global-segment-size", "1gb");
    assert_string_equal(peercache_config_get(*state, "global_segment_size"),
                        "1gb");
}

static size_t count_lines(const char *text)
{
    size_t n = *text != '\0';
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void check_tells_all_errors_at_once(void **state)
{
    struct pc_settings s = {.vnodes = 42};
    (void)peercache_config_set(*state, "vnodes", "0");
    (void)peercache_config_set(*state, "metrics_port", "70000");
    assert_set(*state, "member_ttl", "3");
    assert_set(*state, "cluster_key_file", "/etc/key");
    assert_set(*state, "tls_cert", "/etc/cert");
    assert_set(*state, "tls_key", "/etc/private");
    assert_set(*state, "tls_ca", "/etc/ca");
    assert_set(*state, "ucx_tcp", "eth0");
    assert_set(*state, "role", "storage");
    assert_set(*state, "evict_high", "9");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_INVALID);
    const char *error = peercache_config_error(*state);
    assert_int_equal(count_lines(error), 7);
    assert_contains(error, "vnodes = \"0\" is not allowed: int, 1 to 65536");
    assert_contains(error, "metrics_port = \"70000\"");
    assert_contains(error, "member_ttl = \"3\"");
    assert_contains(error, "tls_cert = \"/etc/cert\"");
    assert_contains(error, "cluster_key_file");
    assert_contains(error, "ucx_tcp = \"eth0\"");
    assert_contains(error, "role = \"storage\"");
    assert_contains(error, "evict_high = \"9\"");
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_INVALID);
    assert_int_equal(s.vnodes, 42);
}

static void certificates_come_with_their_keys(void **state)
{
    assert_set(*state, "tls_cert", "/etc/cert");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_INVALID);
    assert_contains(peercache_config_error(*state), "tls_ca belong together");
    assert_set(*state, "tls_key", "/etc/private");
    assert_set(*state, "tls_ca", "/etc/ca");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_OK);
    assert_int_not_equal(
        peercache_config_set(*state, "tls_name", "no_dns_name"), PEERCACHE_OK);
}

/* The variable's text is in no error, no copy and no list of settings. */
static void a_key_in_the_environment_is_told_to_nobody(void **state)
{
    struct pc_settings s;
    struct pc_text text;
    assert_int_equal(setenv("PEERCACHE_CLUSTER_KEY", "secret-secret", 1), 0);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_OK);
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_true(s.cluster_key_in_env);
    pc_text_init(&text);
    pc_config_json(*state, &text);
    assert_null(strstr(text.data, "secret-secret"));
    pc_text_fini(&text);
    assert_set(*state, "cluster_key_file", "/etc/key");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_INVALID);
    assert_contains(peercache_config_error(*state), "PEERCACHE_CLUSTER_KEY");
    assert_null(strstr(peercache_config_error(*state), "secret-secret"));
    assert_int_equal(unsetenv("PEERCACHE_CLUSTER_KEY"), 0);
}

static void an_error_goes_when_the_setting_is_put_right(void **state)
{
    (void)peercache_config_set(*state, "vnodes", "0");
    assert_set(*state, "vnodes", "10");
    assert_set(*state, "ucx_tcp", "eth0");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_INVALID);
    assert_set(*state, "allow_insecure", "1");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_OK);
    assert_set(*state, "ucx_tcp", "lo");
    assert_set(*state, "allow_insecure", "0");
    assert_int_equal(peercache_config_check(*state), PEERCACHE_OK);
}

static void the_environment_sets_every_setting(void **state)
{
    setenv("PEERCACHE_GLOBAL_SEGMENT_SIZE", "4KiB", 1);
    setenv("PEERCACHE_MODE", "hybrid", 1);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_OK);
    unsetenv("PEERCACHE_GLOBAL_SEGMENT_SIZE");
    unsetenv("PEERCACHE_MODE");
    assert_string_equal(peercache_config_get(*state, "global_segment_size"),
                        "4KiB");
    assert_string_equal(pc_config_origin(*state, "mode"), "environment");
    assert_string_equal(pc_config_origin(*state, "role"), "default");
    assert_set(*state, "mode", "p2p");
    assert_string_equal(pc_config_origin(*state, "mode"), "code");
}

static void bad_variables_are_all_named(void **state)
{
    setenv("PEERCACHE_VNODES", "x", 1);
    setenv("PEERCACHE_MODE", "y", 1);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_INVALID);
    unsetenv("PEERCACHE_VNODES");
    unsetenv("PEERCACHE_MODE");
    const char *error = peercache_config_error(*state);
    assert_int_equal(count_lines(error), 2);
    assert_contains(error, "PEERCACHE_VNODES: vnodes = \"x\"");
    assert_contains(error, "PEERCACHE_MODE: mode = \"y\"");
}

static void the_original_timeout_variable_wins_up_to_5_s(void **state)
{
    struct pc_settings s;
    setenv("PEERCACHE_OP_TIMEOUT", "1s", 1);
    setenv("PEERCACHE_RDMA_OP_TIMEOUT_MS", "700", 1);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_OK);
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.op_timeout_ns, 700 * PC_MS);
    setenv("PEERCACHE_RDMA_OP_TIMEOUT_MS", "60000", 1);
    pc_log_set(PEERCACHE_LOG_ERROR, NULL, NULL);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_OK);
    assert_int_equal(pc_config_resolve(*state, &s), PEERCACHE_OK);
    assert_int_equal(s.op_timeout_ns, 5 * PC_S);
    setenv("PEERCACHE_RDMA_OP_TIMEOUT_MS", "soon", 1);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_INVALID);
    assert_contains(peercache_config_error(*state), "soon");
    unsetenv("PEERCACHE_OP_TIMEOUT");
    unsetenv("PEERCACHE_RDMA_OP_TIMEOUT_MS");
}

static unsigned n_warnings;
static void count_warning(void *arg, peercache_log_level_t level,
                          const char *where, const char *message)
{
    (void)arg;
    (void)where;
    n_warnings += level == PEERCACHE_LOG_WARN &&
                  strstr(message, "PEERCACHE_VNODE,") != NULL;
}

static void a_misspelt_variable_is_a_warning(void **state)
{
    n_warnings = 0;
    pc_log_set(PEERCACHE_LOG_INFO, count_warning, NULL);
    setenv("PEERCACHE_VNODE", "3", 1);
    assert_int_equal(peercache_config_from_env(*state), PEERCACHE_OK);
    unsetenv("PEERCACHE_VNODE");
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
    assert_int_equal(n_warnings, 1);
}

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void a_file_sets_lines_of_name_and_value(void **state)
{
    char path[] = "/tmp/peercache-config-XXXXXX";
    char origin[64];
    write_file(path, "# a comment\n\n  mode = hybrid  # where\n"
                     "global_segment_size=1gb\r\nprefix =\n"
                     "digest_salt = a#b\n");
    assert_int_equal(peercache_config_load(*state, path), PEERCACHE_OK);
    unlink(path);
    assert_string_equal(peercache_config_get(*state, "mode"), "hybrid");
    assert_string_equal(peercache_config_get(*state, "global_segment_size"),
                        "1gb");
    assert_string_equal(peercache_config_get(*state, "digest_salt"), "a#b");
    snprintf(origin, sizeof(origin), "file %s:3", path);
    assert_string_equal(pc_config_origin(*state, "mode"), origin);
}

static void errors_of_a_file_name_file_and_line(void **state)
{
    char path[] = "/tmp/peercache-config-XXXXXX";
    char line[128];
    write_file(path, "mode = hybrid\nvnodes = 0\nnonsense\nmod = p2p\n= 3\n");
    assert_int_equal(peercache_config_load(*state, path), PEERCACHE_INVALID);
    unlink(path);
    const char *error = peercache_config_error(*state);
    assert_int_equal(count_lines(error), 4);
    snprintf(line, sizeof(line), "%s:2: vnodes = \"0\"", path);
    assert_contains(error, line);
    snprintf(line, sizeof(line), "%s:3: not a line", path);
    assert_contains(error, line);
    snprintf(line, sizeof(line),
             "%s:4: unknown setting \"mod\"; did you mean "
             "\"mode\"?",
             path);
    assert_contains(error, line);
    snprintf(line, sizeof(line), "%s:5: no name", path);
    assert_contains(error, line);
    assert_string_equal(peercache_config_get(*state, "mode"), "hybrid");
}

static void a_file_that_is_not_there_is_an_io_error(void **state)
{
    assert_int_equal(peercache_config_load(*state, "/nonexistent/file"),
                     PEERCACHE_IO);
    assert_contains(peercache_config_error(*state), "/nonexistent/file");
}

static void a_clone_has_all_and_is_independent(void **state)
{
    assert_set(*state, "vnodes", "10");
    (void)peercache_config_set(*state, "ib_port", "0");
    peercache_config_t *clone = pc_config_clone(*state);
    assert_non_null(clone);
    assert_set(*state, "vnodes", "20");
    assert_string_equal(peercache_config_get(clone, "vnodes"), "10");
    assert_string_equal(pc_config_origin(clone, "vnodes"), "code");
    assert_int_equal(peercache_config_check(clone), PEERCACHE_INVALID);
    peercache_config_destroy(clone);
}

static void json_tells_every_setting(void **state)
{
    struct pc_text text;
    const peercache_setting_t *row;
    pc_text_init(&text);
    assert_set(*state, "digest_salt", "a\"b");
    pc_config_json(*state, &text);
    assert_contains(text.data, "\"vnodes\":{\"value\":\"160\",\"origin\":"
                               "\"default\"}");
    assert_contains(text.data, "\"a\\\"b\",\"origin\":\"code\"");
    for (size_t i = 0; (row = peercache_setting(i)) != NULL; i++) {
        char field[64];
        snprintf(field, sizeof(field), "\"%s\":{", row->name);
        assert_contains(text.data, field);
    }
    pc_text_fini(&text);
}

static void missing_memory_is_told_and_changes_nothing(void **state)
{
    assert_set(*state, "vnodes", "10");
    for (int64_t n = 0; n < 2; n++) {
        pc_mem_fail_after(n);
        assert_int_equal(peercache_config_set(*state, "vnodes", "20"),
                         PEERCACHE_NO_MEMORY);
        pc_mem_fail_after(-1);
        assert_string_equal(peercache_config_get(*state, "vnodes"), "10");
    }
    for (int64_t n = 0; n < 3; n++) {
        pc_mem_fail_after(n);
        assert_null(pc_config_clone(*state));
        pc_mem_fail_after(-1);
    }
}

static void null_arguments_are_invalid(void **state)
{
    assert_int_equal(peercache_config_create(NULL), PEERCACHE_INVALID);
    assert_int_equal(peercache_config_set(NULL, "a", "b"), PEERCACHE_INVALID);
    assert_int_equal(peercache_config_set(*state, NULL, "b"),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_config_set(*state, "mode", NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_config_load(*state, NULL), PEERCACHE_INVALID);
    assert_int_equal(peercache_config_from_env(NULL), PEERCACHE_INVALID);
    assert_int_equal(peercache_config_check(NULL), PEERCACHE_INVALID);
    assert_null(peercache_config_get(NULL, "mode"));
    assert_string_equal(peercache_config_error(NULL), "");
    peercache_config_destroy(NULL);
}

static void an_error_can_be_set(void **state)
{
    pc_config_set_error(*state, "port %d is taken", 31998);
    assert_string_equal(peercache_config_error(*state), "port 31998 is taken");
}

static void every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
    assert_string_equal(peercache_status_name(PEERCACHE_NOT_FOUND),
                        "NOT_FOUND");
    assert_string_equal(peercache_strerror(PEERCACHE_NOT_FOUND), "no such key");
    assert_string_equal(peercache_status_name((peercache_status_t)-1000),
                        "UNKNOWN");
    assert_non_null(peercache_strerror((peercache_status_t)1000));
    assert_string_equal(peercache_version(), "0.1.0");
    peercache_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_default_passes_its_own_check),
        TEST(every_setting_refuses_a_value_of_a_wrong_type),
        TEST(every_number_takes_its_bounds_and_nothing_beyond),
        TEST(every_choice_takes_its_words_in_any_case),
        TEST(choices_resolve_to_the_enums_of_their_words),
        TEST(values_resolve_to_typed_fields),
        TEST(slotmap_runs_as_p2p),
        TEST(what_has_no_effect_yet_is_one_warning),
        TEST(texts_with_rules_are_checked),
        TEST(a_refused_value_names_what_is_allowed),
        TEST(an_unknown_name_is_told_the_nearest_known_one),
        TEST(names_may_be_written_with_dashes),
        TEST(check_tells_all_errors_at_once),
        TEST(an_error_goes_when_the_setting_is_put_right),
        TEST(certificates_come_with_their_keys),
        TEST(a_key_in_the_environment_is_told_to_nobody),
        TEST(the_environment_sets_every_setting),
        TEST(bad_variables_are_all_named),
        TEST(the_original_timeout_variable_wins_up_to_5_s),
        TEST(a_misspelt_variable_is_a_warning),
        TEST(a_file_sets_lines_of_name_and_value),
        TEST(errors_of_a_file_name_file_and_line),
        TEST(a_file_that_is_not_there_is_an_io_error),
        TEST(a_clone_has_all_and_is_independent),
        TEST(json_tells_every_setting),
        TEST(missing_memory_is_told_and_changes_nothing),
        TEST(null_arguments_are_invalid),
        TEST(an_error_can_be_set),
        TEST(every_status_has_a_name_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
