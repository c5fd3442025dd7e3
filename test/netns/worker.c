/*
 * worker.c - one node in a process of its own, steered line by line over
 * standard input. Each line is answered with its length in bytes, a line end,
 * and so many bytes of JSON (or of metrics):
 *
 *     start NAME=VALUE ...            ready SECONDS
 *     put|get|exists|remove SET FIRST N DEADLINE_MS
 *     know SET N                      load THREADS OWN_SET PACE_MS DEADLINE_MS
 *     quiet                           report
 *     metrics  info  explain KEY      end
 *
 * The log of the library goes to standard error.
 */
#include "calls.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define NS_PER_MS 1000000u
#define NS_PER_S  1000000000u

static peercache_node_t *node;
static struct calls_batch *batch;

static void answer_text(const char *text)
{
    (void)printf("%zu\n%s", strlen(text), text);
    (void)fflush(stdout);
}

static void answer(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void answer(const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    answer_text(text);
}

/* As a JSON string; what is not plain becomes a space. */
static void answer_word(const char *text)
{
    char plain[2048];
    size_t n = 0;
    for (; *text != '\0' && n + 1 < sizeof(plain); text++) {
        bool is_plain = *text >= ' ' && *text != '"' && *text != '\\';
        plain[n++] = is_plain ? *text : ' ';
    }
    plain[n] = '\0';
    answer("\"%s\"", plain);
}

static void do_start(char *words)
{
    peercache_config_t *config = NULL;
    peercache_status_t status = peercache_config_create(&config);
    char *rest = words;
    char *word;
    while (status == PEERCACHE_OK && (word = strtok_r(rest, " ", &rest))) {
        char *value = strchr(word, '=');
        if (value != NULL) {
            *value = '\0';
            status = peercache_config_set(config, word, value + 1);
        }
    }
    if (status == PEERCACHE_OK) {
        status = peercache_node_create(config, &node);
    }
    answer_word(status == PEERCACHE_OK ? "OK" : peercache_config_error(config));
    peercache_config_destroy(config);
}

/* One letter for an item, in the order of the batch. */
static char letter_of(const struct calls_batch *from, size_t i)
{
    if (from->items[i].status == PEERCACHE_IN_PROGRESS) {
        return '-'; /* The batch was refused as a whole. */
    }
    switch (from->items[i].status) {
    case PEERCACHE_OK:
        return 'O';
    case PEERCACHE_NOT_FOUND:
        return 'N';
    case PEERCACHE_TIMED_OUT:
        return 'T';
    case PEERCACHE_SIZE_MISMATCH:
        return 'S';
    case PEERCACHE_NO_SPACE:
        return 'F';
    default:
        return '?';
    }
}

static void do_call(enum calls_verb verb, const char *words)
{
    char set[64];
    char letters[CALLS_ITEMS_MAX + 1] = "";
    char sources[CALLS_ITEMS_MAX + 1] = "";
    size_t first;
    size_t n;
    unsigned deadline_ms;
    if (sscanf(words, "%63s %zu %zu %u", set, &first, &n, &deadline_ms) != 4 ||
        n < 1 || n > CALLS_ITEMS_MAX) {
        answer_word("what?");
        return;
    }
    calls_name(batch, set, first, n);
    calls_do(node, verb, batch, (uint64_t)deadline_ms * NS_PER_MS);
    for (size_t i = 0; i < n; i++) {
        letters[i] = letter_of(batch, i);
        sources[i] = "-lmosd"[batch->items[i].source % 6];
    }
    answer("{\"status\":\"%s\",\"items\":\"%s\",\"sources\":\"%s\","
           "\"wrong\":%zu,\"took_ns\":%llu}",
           peercache_status_name(batch->status), letters, sources,
           batch->n_wrong, (unsigned long long)batch->took_ns);
}

static void do_ready(const char *words)
{
    double seconds = strtod(words, NULL);
    answer_word(peercache_status_name(
        peercache_node_wait_ready(node, (uint64_t)(seconds * NS_PER_S))));
}

static void do_know(const char *words)
{
    char set[64];
    size_t n;
    bool good = sscanf(words, "%63s %zu", set, &n) == 2 && n > 0;
    if (good) {
        calls_know(set, n);
    }
    answer_word(good ? "OK" : "what?");
}

static void do_load(const char *words)
{
    char own[64];
    unsigned n_threads;
    unsigned pace_ms;
    unsigned deadline_ms;
    bool good =
        sscanf(words, "%u %63s %u %u", &n_threads, own, &pace_ms,
               &deadline_ms) == 4 &&
        calls_load_start(node, n_threads, own, (uint64_t)pace_ms * NS_PER_MS,
                         (uint64_t)deadline_ms * NS_PER_MS);
    answer_word(good ? "OK" : "what?");
}

static void do_report(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        answer_word("no memory");
        return;
    }
    calls_report(out);
    (void)fclose(out);
    answer_text(text);
    free(text);
}

static void answer_taken(peercache_status_t status, char *text)
{
    if (status != PEERCACHE_OK) {
        answer_word(peercache_status_name(status));
        return;
    }
    answer_text(text);
    peercache_free(text);
}

static void do_end(void)
{
    calls_load_stop();
    peercache_node_destroy(node);
    node = NULL;
    answer_word("OK");
}

static void do_inspect(const char *verb, const char *words)
{
    char *text = NULL;
    peercache_status_t status;
    if (strcmp(verb, "metrics") == 0) {
        status = peercache_node_metrics(node, &text);
    } else if (strcmp(verb, "info") == 0) {
        status = peercache_node_info(node, &text);
    } else {
        status =
            peercache_node_explain(node, NULL, 0, words, strlen(words), &text);
    }
    answer_taken(status, text);
}

/* False: the last one. */
static bool obey(char *line)
{
    static const char *const verbs[] = {"put", "get", "exists", "remove"};
    char *words = line + strcspn(line, " ");
    if (*words != '\0') {
        *words++ = '\0';
    }
    for (int verb = 0; verb < 4; verb++) {
        if (strcmp(line, verbs[verb]) == 0) {
            do_call((enum calls_verb)verb, words);
            return true;
        }
    }
    if (strcmp(line, "start") == 0) {
        do_start(words);
    } else if (strcmp(line, "ready") == 0) {
        do_ready(words);
    } else if (strcmp(line, "know") == 0) {
        do_know(words);
    } else if (strcmp(line, "load") == 0) {
        do_load(words);
    } else if (strcmp(line, "quiet") == 0) {
        calls_load_stop();
        answer_word("OK");
    } else if (strcmp(line, "report") == 0) {
        do_report();
    } else if (strcmp(line, "metrics") == 0 || strcmp(line, "info") == 0 ||
               strcmp(line, "explain") == 0) {
        do_inspect(line, words);
    } else if (strcmp(line, "end") == 0) {
        do_end();
        return false;
    } else {
        answer_word("what?");
    }
    return true;
}

int main(void)
{
    static char line[8192];
    struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    batch = calls_batch_create(CALLS_ITEMS_MAX);
    if (batch == NULL || !calls_watch_start()) {
        return 1;
    }
    bool on = true;
    while (on && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        on = obey(line);
    }
    calls_batch_destroy(batch);
    return on ? 1 : 0; /* The end of the input without an "end" is no end. */
}
