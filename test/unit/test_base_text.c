/* Tests of base/text.h. */
#include "test.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>

static void text_grows_and_is_taken(void **state)
{
    (void)state;
    struct pc_text text;
    char long_word[400];
    memset(long_word, 'w', sizeof(long_word) - 1);
    long_word[sizeof(long_word) - 1] = '\0';
    pc_text_init(&text);
    pc_text_add(&text, "%d-%s", 7, "x");
    pc_text_add_bytes(&text, "a\0b", 3);
    pc_text_add(&text, "<%s>", long_word);
    assert_int_equal(text.len, 3 + 3 + 401);
    char *taken = pc_text_take(&text);
    assert_memory_equal(taken, "7-xa\0b<www", 10);
    assert_string_equal(taken + 6 + 399, "w>");
    assert_null(text.data);
    pc_free(taken);
}

static void an_empty_text_is_an_empty_string(void **state)
{
    (void)state;
    struct pc_text text;
    pc_text_init(&text);
    char *taken = pc_text_take(&text);
    assert_string_equal(taken, "");
    pc_free(taken);
    pc_text_add(&text, "abc");
    pc_text_clear(&text);
    assert_string_equal(text.data, "");
    pc_text_fini(&text);
}

static void a_text_remembers_that_memory_ran_out(void **state)
{
    (void)state;
    int64_t before = pc_mem_outstanding();
    struct pc_text text;
    char word[300];
    memset(word, 'w', sizeof(word));
    pc_text_init(&text);
    pc_text_add(&text, "abc");
    pc_mem_fail_after(0);
    pc_text_add_bytes(&text, word, sizeof(word));
    pc_text_add(&text, "more");
    assert_true(text.failed);
    assert_string_equal(text.data, "abc");
    assert_null(pc_text_take(&text));
    assert_int_equal(pc_mem_outstanding(), before);
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    static const struct
    {
        const char *value;
        const char *json;
    } table[] = {
        {"", "\"\""},
        {"a/b", "\"a/b\""},
        {"\"\\\b\f\n\r\t", "\"\\\"\\\\\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
         "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\x80z", "\"a\\ufffdz\""},                   /* Stray. */
        {"\xc3", "\"\\ufffd\""},                       /* Cut off. */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},            /* Too long. */
        {"\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\""}, /* Too long. */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* Surrogate. */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\xff", "\"\\ufffd\""},
    };
    for (size_t i = 0; i < PC_ARRAY_LEN(table); i++) {
        struct pc_text text;
        pc_text_init(&text);
        pc_text_add_json(&text, table[i].value, strlen(table[i].value));
        assert_string_equal(text.data, table[i].json);
        pc_text_fini(&text);
    }
    struct pc_text text;
    pc_text_init(&text);
    pc_text_add_json(&text, "a\0b", 3);
    assert_string_equal(text.data, "\"a\\u0000b\"");
    pc_text_fini(&text);
}

struct number
{
    const char *text;
    bool ok;
    uint64_t value;
};

static void check_numbers(bool (*parse)(const char *, uint64_t *),
                          const struct number *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t value = 12345;
        if (parse(table[i].text, &value) != table[i].ok ||
            value != (table[i].ok ? table[i].value : 12345)) {
            fail_msg("\"%s\" gives %llu", table[i].text,
                     (unsigned long long)value);
        }
    }
}

static void sizes_are_parsed(void **state)
{
    (void)state;
    static const struct number table[] = {
        {"0", true, 0},
        {"4096", true, 4096},
        {" 4096\n", true, 4096},
        {"7b", true, 7},
        {"4kb", true, 4096},
        {"4KiB", true, 4096},
        {"4k", true, 4096},
        {"3M", true, 3ull << 20},
        {"1.5gb", true, 3ull << 29},
        {"0.1g", true, 107374182},
        {"2T", true, 2ull << 40},
        {"1PiB", true, 1ull << 50},
        {"0.00000000000000000000000000000001t", true, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"16383.9999p", true, 0},
        {"16384p", false, 0},
        {"99999999999999999999999999", false, 0},
        {"", false, 0},
        {" ", false, 0},
        {"kb", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {"1.5", false, 0},
        {"1.k", false, 0},
        {".5k", false, 0},
        {"1.2.3k", false, 0},
        {"1e3", false, 0},
        {"0x10", false, 0},
        {"4 kb", false, 0},
        {"4kbx", false, 0},
        {"inf", false, 0},
    };
    struct number exact[PC_ARRAY_LEN(table)];
    memcpy(exact, table, sizeof(table));
    for (size_t i = 0; i < PC_ARRAY_LEN(table); i++) {
        if (strcmp(table[i].text, "16383.9999p") == 0) {
            exact[i].value = 16383 * (1ull << 50) +
                             (1ull << 50) / 10000 * 9999 +
                             (1ull << 50) % 10000 * 9999 / 10000;
        }
    }
    check_numbers(pc_parse_size, exact, PC_ARRAY_LEN(exact));
}

static void seconds_are_parsed(void **state)
{
    (void)state;
    static const struct number table[] = {
        {"2", true, 2000000000},    {"0.5", true, 500000000},
        {"500ms", true, 500000000}, {"50us", true, 50000},
        {"7ns", true, 7},           {"3s", true, 3000000000},
        {"2m", true, 120000000000}, {"1.5h", true, 5400000000000},
        {" 0.000000001 ", true, 1}, {"1.5ns", false, 0},
        {"99999999999", false, 0},  {"-1", false, 0},
        {"1d", false, 0},           {"", false, 0},
    };
    check_numbers(pc_parse_seconds, table, PC_ARRAY_LEN(table));
}

static void truth_is_parsed(void **state)
{
    (void)state;
    static const char *const yes[] = {"true", "Yes", "ON", "1", " on "};
    static const char *const no[] = {"false", "no", "OFF", "0"};
    static const char *const neither[] = {"", "2", "tru", "truee", "o n"};
    bool value;
    for (size_t i = 0; i < PC_ARRAY_LEN(yes); i++) {
        value = false;
        assert_true(pc_parse_bool(yes[i], &value) && value);
    }
    for (size_t i = 0; i < PC_ARRAY_LEN(no); i++) {
        value = true;
        assert_true(pc_parse_bool(no[i], &value) && !value);
    }
    for (size_t i = 0; i < PC_ARRAY_LEN(neither); i++) {
        assert_false(pc_parse_bool(neither[i], &value));
    }
}

static void whole_numbers_are_parsed(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_true(pc_parse_int(" -42 ", &value) && value == -42);
    assert_true(pc_parse_int("9223372036854775807", &value));
    assert_true(value == INT64_MAX);
    static const char *const bad[] = {
        "", " ", "9223372036854775808", "1x", "1.0", "0x1", "--1"};
    for (size_t i = 0; i < PC_ARRAY_LEN(bad); i++) {
        assert_false(pc_parse_int(bad[i], &value));
    }
    assert_true(value == INT64_MAX);
}

static void hosts_and_ports_are_parsed(void **state)
{
    (void)state;
    static const struct
    {
        const char *text;
        const char *host; /* NULL: refused. */
        uint16_t port;
    } table[] = {
        {"localhost:80", "localhost", 80},
        {" 127.0.0.1:65535 ", "127.0.0.1", 65535},
        {"h:0", "h", 0},
        {"[::1]:7000", "::1", 7000},
        {"[fe80::1%eth0]:1", "fe80::1%eth0", 1},
        {"exactly15chars.:1", "exactly15chars.", 1},
        {"sixteen.letters.:1", NULL, 0},
        {"", NULL, 0},
        {"host", NULL, 0},
        {"host:", NULL, 0},
        {":80", NULL, 0},
        {"[]:80", NULL, 0},
        {"[:80", NULL, 0},
        {"[", NULL, 0},
        {"]:80", NULL, 0},
        {"[::1]", NULL, 0},
        {"[::1]x:80", NULL, 0},
        {"::1:80", NULL, 0},
        {"h:65536", NULL, 0},
        {"h:-1", NULL, 0},
        {"h:8 0", NULL, 0},
        {"h:000080", NULL, 0},
    };
    for (size_t i = 0; i < PC_ARRAY_LEN(table); i++) {
        char host[16] = "untouched";
        uint16_t port = 7;
        bool ok = pc_parse_host_port(table[i].text, host, sizeof(host), &port);
        if (ok != (table[i].host != NULL)) {
            fail_msg("\"%s\"", table[i].text);
        }
        assert_string_equal(host, ok ? table[i].host : "untouched");
        assert_int_equal(port, ok ? table[i].port : 7);
    }
}

static void distances_between_words_are_known(void **state)
{
    (void)state;
    assert_int_equal(pc_text_distance("", ""), 0);
    assert_int_equal(pc_text_distance("abc", ""), 3);
    assert_int_equal(pc_text_distance("", "abc"), 3);
    assert_int_equal(pc_text_distance("kitten", "sitting"), 3);
    assert_int_equal(pc_text_distance("pool_size", "pool_sise"), 1);
    assert_int_equal(pc_text_distance("pool_size", "poolsize"), 1);
    char endless[200];
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    assert_int_equal(pc_text_distance(endless, "xx"), 199);
    assert_int_equal(pc_text_distance(endless, endless), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_is_taken),
        cmocka_unit_test(an_empty_text_is_an_empty_string),
        cmocka_unit_test(a_text_remembers_that_memory_ran_out),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(sizes_are_parsed),
        cmocka_unit_test(seconds_are_parsed),
        cmocka_unit_test(truth_is_parsed),
        cmocka_unit_test(whole_numbers_are_parsed),
        cmocka_unit_test(hosts_and_ports_are_parsed),
        cmocka_unit_test(distances_between_words_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
