/* What a node tells of itself: info, metrics, explain; one node, sockets on
 * loopback. */
#include "test.h"

#include <peercache/peercache.h>

#include "node/node.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- A tiny checker of JSON ------------------------------------------- */

static const char *blanks(const char *at)
{
    while (*at == ' ' || *at == '\n' || *at == '\t') {
        at++;
    }
    return at;
}

static const char *json_value(const char *at);

/* Each: the end of what starts at `at`, NULL if it is malformed. */
static const char *json_string(const char *at)
{
    if (*at++ != '"') {
        return NULL;
    }
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20) {
            return NULL;
        }
        if (*at == '\\' && *++at == '\0') {
            return NULL;
        }
    }
    return at + 1;
}

static const char *json_members(const char *at, char open)
{
    char close = open == '{' ? '}' : ']';
    at = blanks(at + 1);
    if (*at == close) {
        return at + 1;
    }
    for (;;) {
        if (open == '{') {
            at = json_string(blanks(at));
            if (at == NULL || *(at = blanks(at)) != ':') {
                return NULL;
            }
            at++;
        }
        at = json_value(at);
        if (at == NULL) {
            return NULL;
        }
        at = blanks(at);
        if (*at == close) {
            return at + 1;
        }
        if (*at++ != ',') {
            return NULL;
        }
    }
}

static const char *json_value(const char *at)
{
    static const char *const words[] = {"true", "false", "null"};
    at = blanks(at);
    if (*at == '{' || *at == '[') {
        return json_members(at, *at);
    }
    if (*at == '"') {
        return json_string(at);
    }
    for (size_t i = 0; i < 3; i++) {
        if (strncmp(at, words[i], strlen(words[i])) == 0) {
            return at + strlen(words[i]);
        }
    }
    char *end;
    (void)strtod(at, &end);
    return end == at ? NULL : end;
}

static void assert_json(const char *text)
{
    const char *end = json_value(text);
    if (end == NULL || *blanks(end) != '\0') {
        fail_msg("malformed JSON: %s", text);
    }
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("no %s in %s", part, text);
    }
}

/* ---- A node of its own ------------------------------------------------ */

static peercache_node_t *create_node(const char *id, const char *seed)
{
    peercache_config_t *config;
    peercache_node_t *node;
    assert_int_equal(peercache_config_create(&config), PEERCACHE_OK);
    const char *const settings[][2] = {
        {"node_id", id},
        {"discovery_addr", seed},
        {"control_bind_host", "127.0.0.1"},
        {"control_port", "0"},
        {"global_segment_size", "8MiB"},
        {"region_size", "8MiB"},
        {"lock_memory", "false"},
        {"disk_enabled", "false"},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        assert_int_equal(
            peercache_config_set(config, settings[i][0], settings[i][1]),
            PEERCACHE_OK);
    }
    if (peercache_node_create(config, &node) != PEERCACHE_OK) {
        fail_msg("no node: %s", peercache_config_error(config));
    }
    peercache_config_destroy(config);
    assert_int_equal(peercache_node_wait_ready(node, 10 * PC_S), PEERCACHE_OK);
    return node;
}

static int start_node(void **state)
{
    *state = create_node("info-node", "");
    return 0;
}

static int stop_node(void **state)
{
    peercache_node_destroy(*state);
    return 0;
}

static void put(peercache_node_t *node, const char *key)
{
    char value[] = "some bytes";
    peercache_piece_t piece = {.addr = value, .len = sizeof(value)};
    peercache_item_t item = {
        .key = key, .key_len = strlen(key), .pieces = &piece, .n_pieces = 1};
    assert_int_equal(peercache_put(node, &item, 1, NULL, NULL), PEERCACHE_OK);
}

static char *explain(peercache_node_t *node, const char *key)
{
    char *text = NULL;
    assert_int_equal(
        peercache_node_explain(node, NULL, 0, key, strlen(key), &text),
        PEERCACHE_OK);
    assert_json(text);
    return text;
}

/* ---- info ------------------------------------------------------------- */

static void a_node_describes_itself(void **state)
{
    char *text = NULL;
    assert_int_equal(peercache_node_info(*state, &text), PEERCACHE_OK);
    assert_json(text);
    assert_has(text, "{\"version\":\"0.1.0\",\"node\":{\"id\":\"info-node\"");
    assert_has(text, "\"joined\":true");
    assert_has(text, "\"mode\":\"self\"");
    assert_has(text, "\"address\":\"127.0.0.1:");
    assert_has(text, "\"pool\":{\"capacity\":");
    assert_has(text, "\"directory\":{\"records\":");
    assert_has(text, "\"global_segment_size\":{\"value\":");
    assert_has(text, "\"origin\":\"code\"");
    peercache_free(text);
}

static void nothing_to_write_to_is_invalid(void **state)
{
    char *text = NULL;
    char name_space[256] = {0};
    assert_int_equal(peercache_node_info(NULL, &text), PEERCACHE_INVALID);
    assert_int_equal(peercache_node_info(*state, NULL), PEERCACHE_INVALID);
    assert_int_equal(peercache_node_metrics(NULL, &text), PEERCACHE_INVALID);
    assert_int_equal(peercache_node_metrics(*state, NULL), PEERCACHE_INVALID);
    assert_int_equal(peercache_node_explain(NULL, NULL, 0, "k", 1, &text),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_node_explain(*state, NULL, 0, "k", 1, NULL),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_node_explain(*state, NULL, 0, "k", 0, &text),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_node_explain(*state, NULL, 0, NULL, 1, &text),
                     PEERCACHE_INVALID);
    assert_int_equal(peercache_node_explain(*state, NULL, 1, "k", 1, &text),
                     PEERCACHE_INVALID);
    assert_int_equal(
        peercache_node_explain(*state, name_space, 256, "k", 1, &text),
        PEERCACHE_INVALID);
    assert_null(text);
}

/* ---- metrics ---------------------------------------------------------- */

/* name{labels} value */
static void assert_sample(const char *line, size_t len)
{
    const char *brace = memchr(line, '{', len);
    const char *blank = NULL;
    for (size_t i = 0; i < len; i++) {
        blank = line[i] == ' ' ? line + i : blank;
    }
    assert_non_null(brace);
    assert_non_null(blank);
    assert_int_equal(blank[-1], '}');
    assert_int_equal(strncmp(line, "peercache_", 10), 0);
    for (const char *at = line; at < brace; at++) {
        assert_true(isalnum((unsigned char)*at) || *at == '_');
    }
    char *end;
    (void)strtod(blank + 1, &end);
    assert_ptr_equal(end, line + len);
}

static void assert_prometheus(const char *text)
{
    char types[256][96];
    size_t n_types = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        assert_int_equal(text[len], '\n');
        if (strncmp(text, "# TYPE ", 7) == 0) {
            assert_true(n_types < 256);
            (void)snprintf(types[n_types], sizeof(types[0]), "%.*s",
                           (int)strcspn(text + 7, " "), text + 7);
            for (size_t i = 0; i < n_types; i++) {
                assert_string_not_equal(types[i], types[n_types]);
            }
            n_types++;
        } else if (strncmp(text, "# HELP ", 7) != 0) {
            assert_sample(text, len);
        }
        text += len + 1;
    }
    assert_true(n_types > 20);
}

static void metrics_are_text_that_prometheus_reads(void **state)
{
    char *text = NULL;
    put(*state, "counted");
    assert_int_equal(peercache_node_metrics(*state, &text), PEERCACHE_OK);
    assert_prometheus(text);
    assert_has(text,
               "peercache_pool_keys{node=\"info-node\",role=\"member\"} ");
    assert_has(text,
               "peercache_members{node=\"info-node\",role=\"member\"} 1\n");
    assert_has(text, "peercache_op_latency_seconds_bucket{node=\"info-node\","
                     "role=\"member\",op=\"write\",le=\"+Inf\"} ");
    assert_has(text, "peercache_op_latency_seconds_quantile{node=\"info-node\","
                     "role=\"member\",op=\"read\",quantile=\"0.99\"} ");
    peercache_free(text);
}

/* ---- explain ---------------------------------------------------------- */

static void a_present_key_is_explained(void **state)
{
    put(*state, "here");
    char *text = explain(*state, "here");
    assert_has(text, "{\"key\":\"here\",\"digest\":\"");
    assert_has(text, "\"local\":{\"generation\":");
    assert_has(text, "\"answer\":\"present\"");
    assert_has(text, "\"holders\":[{\"id\":\"info-node\"");
    assert_has(text, "\"mode\":\"local\",\"usable\":true");
    assert_has(text, "\"result\":\"OK\"");
    peercache_free(text);
}

static void an_absent_key_is_explained(void **state)
{
    char *text = explain(*state, "nowhere");
    assert_has(text, "\"local\":null,\"cached\":null,\"owners\":[{");
    assert_has(text, "\"holders\":[],\"phases\":[{\"name\":\"local\",");
    peercache_free(text);
}

static void a_key_of_any_bytes_is_explained(void **state)
{
    char *text = explain(*state, "\"\\\n\x01\xff");
    assert_has(text, "\"result\":\"NOT_FOUND\"");
    peercache_free(text);
}

struct inside
{
    peercache_node_t *node;
    peercache_status_t info, explain;
};

static void look_from_inside(peercache_node_t *node, void *arg)
{
    struct inside *inside = arg;
    char *text = NULL;
    inside->info = peercache_node_info(node, &text);
    peercache_free(text);
    text = NULL;
    inside->explain = peercache_node_explain(node, NULL, 0, "k", 1, &text);
    assert_null(text);
}

static void callbacks_may_look_but_not_wait(void **state)
{
    struct inside inside = {.node = *state};
    pc_node_call(*state, look_from_inside, &inside);
    assert_int_equal(inside.info, PEERCACHE_OK);
    assert_int_equal(inside.explain, PEERCACHE_INVALID);
}

static void a_neighbour_and_its_value_are_explained(void **state)
{
    peercache_node_t *holder = *state;
    put(holder, "over there");
    peercache_node_t *reader = create_node("reader", holder->self.address);
    char *text = explain(reader, "over there");
    assert_has(text, "\"local\":null,\"cached\":null");
    assert_has(text, "\"holders\":[{\"id\":\"info-node\"");
    assert_has(text, "\"usable\":true,\"says\":\"held\"");
    assert_has(text, "\"result\":\"OK\"");
    assert_json(text);
    assert_has(text, "it would be read from info-node, mode ");
    peercache_free(text);
    assert_int_equal(peercache_node_info(reader, &text), PEERCACHE_OK);
    assert_json(text);
    assert_has(text, "\"members\":[{\"id\":\"info-node\"");
    assert_has(text, "\"address\":\"127.0.0.1:");
    assert_null(strstr(text, "\"mode\":\"unknown\""));
    peercache_free(text);
    peercache_node_destroy(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_describes_itself),
        cmocka_unit_test(nothing_to_write_to_is_invalid),
        cmocka_unit_test(metrics_are_text_that_prometheus_reads),
        cmocka_unit_test(a_present_key_is_explained),
        cmocka_unit_test(an_absent_key_is_explained),
        cmocka_unit_test(a_key_of_any_bytes_is_explained),
        cmocka_unit_test(callbacks_may_look_but_not_wait),
        cmocka_unit_test(a_neighbour_and_its_value_are_explained),
    };
    return cmocka_run_group_tests_name("info", tests, start_node, stop_node);
}
