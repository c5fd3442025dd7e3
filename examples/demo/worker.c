#include "worker.h"

#include "clock.h"
#include "page.h"
#include "workload.h"

#include <peercache/peercache.h>

#include <stdlib.h>
#include <unistd.h>

/* Calls of one request. */
struct tally
{
    uint64_t n_calls, n_late, n_errors, wrong_bytes;
    uint64_t slowest_ns;
    const char *slowest; /* Its verb. */
};

struct worker
{
    const struct options *options;
    struct workload workload;
    peercache_node_t *node;
    FILE *out;            /* To the driver. */
    uint8_t *target;      /* DEMO_BATCH pages that gets write to. */
    peercache_mem_t *mem; /* Its registration. */
    uint8_t *source;      /* DEMO_BATCH pages that puts read. */
    peercache_item_t *items;
    peercache_piece_t *pieces;
    char (*texts)[PAGE_KEY_TEXT];
    size_t n_items; /* Room in the three. */
    char *letters_read;
    char *letters_put;
    struct tally tally;
};

typedef peercache_status_t (*verb_fn)(peercache_node_t *, peercache_item_t *,
                                      size_t, const peercache_op_params_t *,
                                      peercache_op_t **);

static void *wanted(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static int failed(struct worker *w, const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    fprintf(w->out, "{\"event\":\"failed\",\"what\":\"%s\"}\n", what);
    fflush(w->out);
    return 1;
}

/* ---- Calls ----------------------------------------------------------------
 */

/* One blocking call of a verb over the first n items; its time. */
static uint64_t call(struct worker *w, verb_fn verb, const char *name, size_t n)
{
    peercache_op_params_t params = {
        .struct_size = sizeof(params),
        .item_size = sizeof(peercache_item_t),
        .flags = PEERCACHE_OP_CHAIN,
        .name_space = PAGE_NAME_SPACE,
        .name_space_len = sizeof(PAGE_NAME_SPACE) - 1,
    };
    uint64_t begin = clock_ns();
    peercache_status_t status = verb(w->node, w->items, n, &params, NULL);
    uint64_t took = clock_ns() - begin;
    if (status != PEERCACHE_OK && status != PEERCACHE_PARTIAL) {
        /* Refused as a whole: no item has a status. */
        fprintf(stderr, "%s of %zu: %s\n", name, n, peercache_strerror(status));
        w->tally.n_errors++;
        for (size_t i = 0; i < n; i++) {
            w->items[i].status = status;
        }
    }
    w->tally.n_calls++;
    w->tally.n_late += took > DEMO_LATE_NS;
    if (took > w->tally.slowest_ns) {
        w->tally.slowest_ns = took;
        w->tally.slowest = name;
    }
    return took;
}

static void make_room(struct worker *w, size_t n)
{
    if (n <= w->n_items) {
        return;
    }
    w->items = wanted(realloc(w->items, n * sizeof(*w->items)));
    w->pieces = wanted(realloc(w->pieces, n * sizeof(*w->pieces)));
    w->texts = wanted(realloc(w->texts, n * sizeof(*w->texts)));
    w->letters_read = wanted(realloc(w->letters_read, n + 1));
    w->letters_put = wanted(realloc(w->letters_put, n + 1));
    w->n_items = n;
}

/* Item i is the page of that number, with the i-th page of buffer (NULL: no
 * value, for exists) as its value. */
static void set_item(struct worker *w, size_t i, uint32_t page, uint8_t *buffer)
{
    size_t len = w->options->page_size;
    page_key_text(w->workload.keys[page], w->texts[i]);
    w->items[i] =
        (peercache_item_t){.key = w->texts[i], .key_len = PAGE_KEY_TEXT - 1};
    if (buffer != NULL) {
        w->pieces[i] = (peercache_piece_t){buffer + i * len, len};
        w->items[i].pieces = &w->pieces[i];
        w->items[i].n_pieces = 1;
        w->items[i].mem = buffer == w->target ? w->mem : NULL;
    }
}

static char letter_of(const peercache_item_t *item)
{
    switch (item->source) {
    case PEERCACHE_FROM_LOCAL:
        return 'l';
    case PEERCACHE_FROM_MAPPED:
        return 'm';
    case PEERCACHE_FROM_ONE_SIDED:
        return 'o';
    case PEERCACHE_FROM_SERVED:
        return 's';
    case PEERCACHE_FROM_DISK:
        return 'd';
    default:
        return '?';
    }
}

/* Read n pages (DEMO_BATCH at most) and check every byte; a letter each. */
static uint64_t read_pages(struct worker *w, const uint32_t *pages, size_t n,
                           char *letters)
{
    size_t len = w->options->page_size;
    page_spoil(w->target, n * len);
    for (size_t i = 0; i < n; i++) {
        set_item(w, i, pages[i], w->target);
    }
    uint64_t took = call(w, peercache_get, "get", n);
    for (size_t i = 0; i < n; i++) {
        letters[i] = 'x';
        if (w->items[i].status == PEERCACHE_OK) {
            letters[i] = letter_of(&w->items[i]);
            w->tally.wrong_bytes += page_wrong(w->workload.keys[pages[i]],
                                               w->target + i * len, len);
        }
    }
    return took;
}

static void put_pages(struct worker *w, const uint32_t *pages, size_t n,
                      char *letters)
{
    size_t len = w->options->page_size;
    for (size_t i = 0; i < n; i++) {
        page_fill(w->workload.keys[pages[i]], w->source + i * len, len);
        set_item(w, i, pages[i], w->source);
    }
    call(w, peercache_put, "put", n);
    for (size_t i = 0; i < n; i++) {
        letters[i] = w->items[i].status == PEERCACHE_OK ? '1' : '0';
    }
}

/* ---- A request ------------------------------------------------------------
 */

/* How many pages from the first on are there; '+' or '-' for each. */
static size_t ask(struct worker *w, const struct request *r)
{
    for (size_t i = 0; i < r->n_prompt; i++) {
        set_item(w, i, r->pages[i], NULL);
    }
    call(w, peercache_exists, "exists", r->n_prompt);
    size_t run = 0;
    for (size_t i = 0; i < r->n_prompt; i++) {
        bool there = w->items[i].status == PEERCACHE_OK;
        w->letters_read[i] = there ? '+' : '-';
        run += there && run == i;
    }
    return run;
}

/* The part of the prompt that the cache has; how many pages were delivered. */
static size_t fetch(struct worker *w, const struct request *r)
{
    size_t run = ask(w, r);
    size_t at = 0;
    while (at < run) {
        size_t n = run - at < DEMO_BATCH ? run - at : DEMO_BATCH;
        read_pages(w, r->pages + at, n, w->letters_read + at);
        for (size_t i = 0; i < n; i++) {
            if (w->letters_read[at + i] == 'x') {
                return at + i; /* The prefix ends here. */
            }
        }
        at += n;
    }
    return at;
}

static void run_request(struct worker *w, size_t number)
{
    const struct request *r = &w->workload.requests[number];
    make_room(w, r->n_pages > DEMO_BATCH ? r->n_pages : DEMO_BATCH);
    w->tally = (struct tally){.slowest = "none"};
    w->letters_read[r->n_prompt] = '\0';
    memset(w->letters_put, '.', r->n_pages);
    w->letters_put[r->n_pages] = '\0';

    size_t at = fetch(w, r);
    while (at < r->n_pages) {
        size_t n = r->n_pages - at < DEMO_BATCH ? r->n_pages - at : DEMO_BATCH;
        put_pages(w, r->pages + at, n, w->letters_put + at);
        at += n;
    }
    fprintf(w->out,
            "{\"event\":\"done\",\"request\":%zu,\"read\":\"%s\","
            "\"put\":\"%s\",\"calls\":%" PRIu64 ",\"late\":%" PRIu64
            ",\"errors\":%" PRIu64 ",\"wrong\":%" PRIu64
            ",\"slowest_ns\":%" PRIu64 ",\"slowest\":\"%s\"}\n",
            number, w->letters_read, w->letters_put, w->tally.n_calls,
            w->tally.n_late, w->tally.n_errors, w->tally.wrong_bytes,
            w->tally.slowest_ns, w->tally.slowest);
    fflush(w->out);
}

/* ---- Measuring ------------------------------------------------------------
 */

/* Read the pages in batches, round and round; checking is not timed. */
static void measure(struct worker *w, uint64_t ms, const uint32_t *pages,
                    size_t n_pages)
{
    char letters[DEMO_MEASURE_BATCH];
    size_t n_letters[256] = {0};
    uint64_t bytes = 0, took = 0;
    uint64_t end = clock_ns() + ms * 1000000u;
    make_room(w, DEMO_BATCH);
    w->tally = (struct tally){.slowest = "none"};
    for (size_t at = 0; n_pages > 0 && clock_ns() < end;) {
        size_t n = n_pages - at < DEMO_MEASURE_BATCH ? n_pages - at
                                                     : DEMO_MEASURE_BATCH;
        took += read_pages(w, pages + at, n, letters);
        for (size_t i = 0; i < n; i++) {
            n_letters[(unsigned char)letters[i]]++;
            bytes += letters[i] != 'x' ? w->options->page_size : 0;
        }
        at = at + n < n_pages ? at + n : 0;
    }
    fprintf(w->out,
            "{\"event\":\"measured\",\"bytes\":%" PRIu64 ",\"ns\":%" PRIu64
            ",\"l\":%zu,\"m\":%zu,\"o\":%zu,\"s\":%zu,\"missed\":%zu,"
            "\"calls\":%" PRIu64 ",\"late\":%" PRIu64 ",\"errors\":%" PRIu64
            ",\"wrong\":%" PRIu64 ",\"slowest_ns\":%" PRIu64
            ",\"slowest\":\"%s\"}\n",
            bytes, took, n_letters['l'], n_letters['m'], n_letters['o'],
            n_letters['s'], n_letters['x'], w->tally.n_calls, w->tally.n_late,
            w->tally.n_errors, w->tally.wrong_bytes, w->tally.slowest_ns,
            w->tally.slowest);
    fflush(w->out);
}

static void parse_measure(struct worker *w, char *text)
{
    size_t n = 0;
    uint32_t *pages = wanted(malloc((strlen(text) + 1) * sizeof(*pages)));
    char *end = NULL;
    uint64_t ms = strtoull(text, &end, 10);
    for (char *at = end;; at = end) {
        unsigned long page = strtoul(at, &end, 10);
        if (end == at) {
            break;
        }
        if (page < w->workload.n_keys) {
            pages[n++] = (uint32_t)page;
        }
    }
    measure(w, ms, pages, n);
    free(pages);
}

/* ---- Life -----------------------------------------------------------------
 */

static peercache_config_t *configure(struct worker *w)
{
    peercache_config_t *config = NULL;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        return NULL;
    }
    for (size_t i = 0; i < w->options->n_settings; i++) {
        char name[PEERCACHE_STR_MAX];
        const char *value = strchr(w->options->settings[i], '=');
        if (value == NULL) {
            continue;
        }
        snprintf(name, sizeof(name), "%.*s",
                 (int)(value - w->options->settings[i]),
                 w->options->settings[i]);
        /* Errors add up, and creating the node tells them all. */
        peercache_config_set(config, name, value + 1);
    }
    return config;
}

/* A gauge of the metrics; 0 when there is none of that name. */
static uint64_t gauge(struct worker *w, const char *name)
{
    char *text = NULL;
    uint64_t value = 0;
    size_t len = strlen(name);
    if (peercache_node_metrics(w->node, &text) != PEERCACHE_OK) {
        return 0;
    }
    for (const char *at = text; at != NULL && *at != '\0';) {
        /* name{label="text",...} value; our labels have no spaces. */
        if (strncmp(at, name, len) == 0 && strchr("{ ", at[len]) != NULL) {
            value = strtoull(at + strcspn(at, " "), NULL, 10);
        }
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    peercache_free(text);
    return value;
}

/* Until this node sees all others, and its pool, which grows in the background,
 * is there: else the first puts would wait for it. */
static bool meet_the_others(struct worker *w)
{
    uint64_t end = clock_ns() + UINT64_C(20000000000);
    peercache_status_t status =
        peercache_node_wait_ready(w->node, UINT64_C(20000000000));
    if (status != PEERCACHE_OK) {
        fprintf(stderr, "join: %s\n", peercache_strerror(status));
        return false;
    }
    for (;;) {
        uint64_t n_members = gauge(w, "peercache_members");
        bool has_pool = gauge(w, "peercache_pool_capacity_bytes") > 0;
        if (n_members == DEMO_NODES && has_pool) {
            return true;
        }
        if (clock_ns() > end) {
            fprintf(stderr, "after 20 s: %" PRIu64 " nodes, %s\n", n_members,
                    has_pool ? "a pool" : "no pool");
            return false;
        }
        usleep(20000);
    }
}

static bool make_buffers(struct worker *w)
{
    size_t len = DEMO_BATCH * w->options->page_size;
    w->target = wanted(aligned_alloc(4096, (len + 4095) / 4096 * 4096));
    w->source = wanted(aligned_alloc(4096, (len + 4095) / 4096 * 4096));
    memset(w->target, 0, len);
    peercache_status_t status = peercache_mem_register(
        w->node, PEERCACHE_MEM_HOST, w->target, len, &w->mem);
    if (status != PEERCACHE_OK) {
        fprintf(stderr, "register: %s\n", peercache_strerror(status));
    }
    return status == PEERCACHE_OK;
}

static void serve(struct worker *w)
{
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        if (strncmp(line, "request ", 8) == 0) {
            size_t number = strtoul(line + 8, NULL, 10);
            if (number < w->workload.n_requests) {
                run_request(w, number);
            }
        } else if (strncmp(line, "measure ", 8) == 0) {
            parse_measure(w, line + 8);
        }
    }
    free(line);
}

static int run(struct worker *w)
{
    fprintf(w->out, "{\"event\":\"started\"}\n");
    fflush(w->out);
    if (!make_buffers(w)) {
        return failed(w, "register", "see above");
    }
    if (!meet_the_others(w)) {
        return failed(w, "join", "see above");
    }
    fprintf(w->out, "{\"event\":\"ready\"}\n");
    fflush(w->out);
    serve(w);
    return 0;
}

int worker_main(const struct options *options)
{
    struct worker w = {.options = options};
    /* Nothing but our lines may go to the driver. */
    int out = dup(STDOUT_FILENO);
    w.out = out >= 0 ? fdopen(out, "w") : NULL;
    if (w.out == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        perror("standard output");
        return 1;
    }
    if (!workload_make(&w.workload, options)) {
        return failed(&w, "workload", "see above");
    }
    peercache_config_t *config = wanted(configure(&w));
    int result = 1;
    if (peercache_node_create(config, &w.node) != PEERCACHE_OK) {
        failed(&w, "create", peercache_config_error(config));
    } else {
        result = run(&w);
        peercache_mem_deregister(w.mem);
        peercache_node_destroy(w.node);
        fprintf(w.out, "{\"event\":\"left\"}\n");
    }
    peercache_config_destroy(config);
    workload_free(&w.workload);
    free(w.target);
    free(w.source);
    free(w.items);
    free(w.pieces);
    free(w.texts);
    free(w.letters_read);
    free(w.letters_put);
    fclose(w.out);
    return result;
}
