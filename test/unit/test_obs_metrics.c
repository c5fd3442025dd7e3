#include "test.h"

#include "base/mem.h"
#include "obs/histogram.h"
#include "obs/metrics.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SERIES 512

/* What a scraper checks: a strict reader of text format 0.0.4. */
struct scrape
{
    char series[MAX_SERIES][256];
    size_t n_series;
    char families[MAX_SERIES][128];
    size_t n_families;
    char type[32]; /* Of the last family. */
};

static size_t name_length(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_' ||
           (text[n] == ':' && n > 0)) {
        n++;
    }
    return n > 0 && !isdigit((unsigned char)text[0]) ? n : 0;
}

/* Behind {a="b",c="d"}, or NULL if that is malformed. */
static const char *skip_labels(const char *at)
{
    do {
        at++; /* The brace or comma. */
        size_t n = name_length(at);
        at += n;
        if (n == 0 || at[0] != '=' || at[1] != '"') {
            return NULL;
        }
        for (at += 2; *at != '"'; at++) {
            if (*at == '\\') {
                at++;
                if (strchr("\\\"n", *at) == NULL) {
                    return NULL;
                }
            }
            if (*at == '\0' || *at == '\n') {
                return NULL;
            }
        }
        at++;
    } while (*at == ',');
    return *at == '}' ? at + 1 : NULL;
}

static void read_comment(struct scrape *s, const char *line)
{
    char name[128];
    char rest[128];
    if (sscanf(line, "# HELP %127s %127[^\n]", name, rest) == 2) {
        for (size_t i = 0; i < s->n_families; i++) {
            if (strcmp(s->families[i], name) == 0) {
                fail_msg("family %s comes twice", name);
            }
        }
        strcpy(s->families[s->n_families++], name);
        s->type[0] = '\0';
        return;
    }
    assert_int_equal(sscanf(line, "# TYPE %127s %127s", name, rest), 2);
    assert_true(s->n_families > 0);
    assert_string_equal(name, s->families[s->n_families - 1]);
    assert_string_equal(s->type, "");
    assert_true(strcmp(rest, "counter") == 0 || strcmp(rest, "gauge") == 0 ||
                strcmp(rest, "histogram") == 0);
    strcpy(s->type, rest);
}

static void read_sample(struct scrape *s, const char *line)
{
    size_t n = name_length(line);
    assert_true(n > 0 && s->n_families > 0);
    const char *family = s->families[s->n_families - 1];
    assert_true(strncmp(line, family, strlen(family)) == 0);
    if (strcmp(s->type, "histogram") != 0) {
        assert_int_equal(n, strlen(family));
    }
    if (strcmp(s->type, "counter") == 0) {
        assert_memory_equal(line + n - 6, "_total", 6);
    }
    const char *at = line + n;
    if (*at == '{') {
        at = skip_labels(at);
        assert_non_null(at);
    }
    assert_true(*at == ' ');
    size_t len = (size_t)(at - line);
    char *end;
    (void)strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\0');
    for (size_t i = 0; i < s->n_series; i++) {
        if (strlen(s->series[i]) == len &&
            memcmp(s->series[i], line, len) == 0) {
            fail_msg("series %s comes twice", s->series[i]);
        }
    }
    assert_true(len < sizeof(s->series[0]) && s->n_series < MAX_SERIES);
    memcpy(s->series[s->n_series], line, len);
    s->series[s->n_series++][len] = '\0';
}

/* Fails on the first thing that is wrong; changes the text. */
static void scrape(struct scrape *s, char *text)
{
    char *rest = text;
    char *line;
    memset(s, 0, sizeof(*s));
    assert_true(text[strlen(text) - 1] == '\n');
    text[strlen(text) - 1] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (line[0] == '#') {
            read_comment(s, line);
        } else {
            read_sample(s, line);
        }
    }
}

static struct scrape result;

static void every_metric_is_a_valid_line_of_its_family(void **state)
{
    (void)state;
    static struct pc_metrics m;
    struct pc_text text;
    pc_text_init(&text);
    pc_metrics_text(&m, "", &text);
    scrape(&result, text.data);
    assert_int_equal(result.n_series, PC_METRIC_N);
    pc_text_fini(&text);
}

static void common_labels_stand_on_every_line(void **state)
{
    (void)state;
    static struct pc_metrics m;
    struct pc_text labels;
    struct pc_text text;
    pc_text_init(&labels);
    pc_text_init(&text);
    pc_metrics_label(&labels, "node", "a\"b\\c\nd");
    pc_text_add(&labels, ",");
    pc_metrics_label(&labels, "rank", "0");
    assert_string_equal(labels.data, "node=\"a\\\"b\\\\c\\nd\",rank=\"0\"");
    pc_metrics_text(&m, labels.data, &text);
    scrape(&result, text.data);
    assert_int_equal(result.n_series, PC_METRIC_N);
    for (size_t i = 0; i < result.n_series; i++) {
        assert_non_null(strstr(result.series[i], labels.data));
    }
    pc_text_fini(&labels);
    pc_text_fini(&text);
}

static void values_stand_behind_their_series(void **state)
{
    (void)state;
    static struct pc_metrics m;
    struct pc_text text;
    pc_text_init(&text);
    pc_metrics_add(&m, PC_METRIC_READ_MODE_SERVED, 3);
    pc_metrics_add(&m, PC_METRIC_READ_MODE_SERVED, 4);
    pc_metrics_set(&m, PC_METRIC_MEMBERS, UINT64_MAX);
    assert_int_equal(pc_metrics_get(&m, PC_METRIC_READ_MODE_SERVED), 7);
    pc_metrics_text(&m, "", &text);
    assert_non_null(strstr(
        text.data, "peercache_read_mode_hits_total{mode=\"served\"} 7\n"));
    assert_non_null(
        strstr(text.data, "peercache_members 18446744073709551615\n"));
    assert_non_null(strstr(text.data, "# TYPE peercache_members gauge\n"));
    pc_text_fini(&text);
}

static void histograms_are_valid_beside_the_metrics(void **state)
{
    (void)state;
    static struct pc_metrics m;
    struct pc_histogram h = {0};
    struct pc_text text;
    pc_text_init(&text);
    pc_histogram_add(&h, 12345);
    pc_metrics_text(&m, "node=\"a\"", &text);
    pc_text_add(&text, "# HELP peercache_get_seconds time of a get\n"
                       "# TYPE peercache_get_seconds histogram\n");
    pc_histogram_text(&h, "peercache_get_seconds", "node=\"a\"", &text);
    scrape(&result, text.data);
    assert_int_equal(result.n_series, PC_METRIC_N + PC_HISTOGRAM_BUCKETS + 3);
    pc_text_fini(&text);
}

static void missing_memory_marks_the_text(void **state)
{
    (void)state;
    static struct pc_metrics m;
    struct pc_text text;
    pc_text_init(&text);
    pc_mem_fail_after(1);
    pc_metrics_text(&m, "", &text);
    pc_mem_fail_after(-1);
    assert_true(text.failed);
    pc_text_fini(&text);
    assert_int_equal(pc_mem_outstanding(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_is_a_valid_line_of_its_family),
        cmocka_unit_test(common_labels_stand_on_every_line),
        cmocka_unit_test(values_stand_behind_their_series),
        cmocka_unit_test(histograms_are_valid_beside_the_metrics),
        cmocka_unit_test(missing_memory_marks_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
