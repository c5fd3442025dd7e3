#include "workload.h"

#include <ctype.h>
#include <stdlib.h>

enum {
    SYSTEM_PROMPTS = 4,
    SYSTEM_BLOCKS = 8,
    MESSAGE_BLOCKS_MAX = 4, /* Of a user's message, of an answer. */
    ACTIVE = 16,            /* Conversations at a time. */
    BLOCKS_MAX = 1 << 16    /* Of one request. */
};

/* What is needed while a workload is made. */
struct maker
{
    struct workload *workload;
    const struct options *options;
    uint64_t random;
    size_t requests_size, keys_size;
    uint32_t *index; /* Hash table of page numbers + 1. */
    size_t index_size;
};

static void *grown(void *memory, size_t n, size_t size)
{
    void *more = realloc(memory, n * size);
    if (more == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return more;
}

static uint64_t next_random(struct maker *m)
{
    m->random += 0x9e3779b97f4a7c15u;
    return page_mix(m->random);
}

static uint32_t below(struct maker *m, uint32_t n)
{
    return (uint32_t)(next_random(m) % n);
}

static void index_insert(struct maker *m, uint32_t number)
{
    size_t at = m->workload->keys[number].a & (m->index_size - 1);
    while (m->index[at] != 0) {
        at = (at + 1) & (m->index_size - 1);
    }
    m->index[at] = number + 1;
}

static void index_grow(struct maker *m)
{
    free(m->index);
    m->index_size = m->index_size == 0 ? 4096 : m->index_size * 2;
    m->index = grown(NULL, m->index_size, sizeof(*m->index));
    memset(m->index, 0, m->index_size * sizeof(*m->index));
    for (uint32_t i = 0; i < m->workload->n_keys; i++) {
        index_insert(m, i);
    }
}

/* The number of a page; a new one if the key is new. */
static uint32_t page_number(struct maker *m, struct page_key key)
{
    struct workload *w = m->workload;
    if ((w->n_keys + 1) * 2 > m->index_size) {
        index_grow(m);
    }
    size_t at = key.a & (m->index_size - 1);
    for (; m->index[at] != 0; at = (at + 1) & (m->index_size - 1)) {
        const struct page_key *known = &w->keys[m->index[at] - 1];
        if (known->a == key.a && known->b == key.b) {
            return m->index[at] - 1;
        }
    }
    if (w->n_keys == m->keys_size) {
        m->keys_size = m->keys_size == 0 ? 1024 : m->keys_size * 2;
        w->keys = grown(w->keys, m->keys_size, sizeof(*w->keys));
    }
    w->keys[w->n_keys] = key;
    m->index[at] = (uint32_t)w->n_keys + 1;
    return (uint32_t)w->n_keys++;
}

/* Add a request of the blocks; false: that is enough. */
static bool add_request(struct maker *m, uint32_t conversation,
                        const uint64_t *blocks, uint32_t n_prompt,
                        uint32_t n_pages)
{
    struct workload *w = m->workload;
    size_t wanted = m->options->requests;
    if (wanted != 0 && w->n_requests == wanted) {
        return false;
    }
    if (w->n_keys + n_pages > m->options->max_pages) {
        return false;
    }
    if (w->n_requests == m->requests_size) {
        m->requests_size = m->requests_size == 0 ? 256 : m->requests_size * 2;
        w->requests =
            grown(w->requests, m->requests_size, sizeof(*w->requests));
    }
    struct request *r = &w->requests[w->n_requests++];
    *r = (struct request){.conversation = conversation,
                          .where = (uint32_t)(next_random(m) >> 32),
                          .n_prompt = n_prompt,
                          .n_pages = n_pages};
    r->pages = grown(NULL, n_pages, sizeof(*r->pages));
    size_t n_before = w->n_keys;
    struct page_key key = {0, 0};
    for (uint32_t i = 0; i < n_pages; i++) {
        key = page_next(key, blocks[i]);
        r->pages[i] = page_number(m, key);
        w->n_seen += i < n_prompt && r->pages[i] < n_before;
    }
    w->n_asked += n_prompt;
    return true;
}

struct conversation
{
    uint32_t id, turns, n_blocks;
    uint64_t *blocks;
};

static void converse(struct maker *m, struct conversation *c, uint32_t id)
{
    uint32_t longest =
        SYSTEM_BLOCKS + m->options->turns * 2 * MESSAGE_BLOCKS_MAX;
    *c = (struct conversation){.id = id, .turns = m->options->turns};
    c->blocks = grown(c->blocks, longest, sizeof(*c->blocks));
    uint64_t system = below(m, SYSTEM_PROMPTS);
    while (c->n_blocks < SYSTEM_BLOCKS) {
        c->blocks[c->n_blocks] = page_mix(system + 1) + c->n_blocks;
        c->n_blocks++;
    }
}

static void say(struct maker *m, struct conversation *c)
{
    uint32_t n = 1 + below(m, MESSAGE_BLOCKS_MAX);
    while (n-- > 0) {
        c->blocks[c->n_blocks++] = next_random(m);
    }
}

static void generate(struct maker *m)
{
    struct conversation active[ACTIVE];
    uint32_t n_active = 0, n_begun = 0;
    bool more = true;
    while (more) {
        while (n_active < ACTIVE && n_begun < m->options->conversations) {
            converse(m, &active[n_active++], n_begun++);
        }
        if (n_active == 0) {
            break;
        }
        uint32_t who = below(m, n_active);
        struct conversation *c = &active[who];
        say(m, c);
        uint32_t n_prompt = c->n_blocks;
        say(m, c);
        more = add_request(m, c->id, c->blocks, n_prompt, c->n_blocks);
        if (--c->turns == 0) {
            free(c->blocks);
            active[who] = active[--n_active];
        }
    }
    while (n_active > 0) {
        free(active[--n_active].blocks);
    }
}

/* The numbers of "hash_ids": [1, 2, 3]; 0: there are none. */
static uint32_t read_blocks(const char *line, uint64_t *blocks)
{
    const char *at = strstr(line, "\"hash_ids\"");
    at = at != NULL ? strchr(at, '[') : NULL;
    uint32_t n = 0;
    while (at != NULL && n < BLOCKS_MAX) {
        at++;
        char *end = NULL;
        uint64_t block = strtoull(at, &end, 10);
        if (end == at) {
            break;
        }
        blocks[n++] = block;
        while (isspace((unsigned char)*end)) {
            end++;
        }
        at = *end == ',' ? end : NULL;
    }
    return n;
}

/* How many pages a request added, and whose chain it belongs to. */
struct growth
{
    uint64_t chain; /* Its first block, mixed. */
    size_t n_new;
};

static int compare_growth(const void *a, const void *b)
{
    uint64_t x = ((const struct growth *)a)->chain;
    uint64_t y = ((const struct growth *)b)->chain;
    return (x > y) - (x < y);
}

/* Read all requests of chains up to the mark; growths (NULL: not wanted) get
 * one entry a request. */
static void read_requests(struct maker *m, FILE *file, uint64_t mark,
                          struct growth **growths, size_t *n_growths)
{
    uint64_t *blocks = grown(NULL, BLOCKS_MAX, sizeof(*blocks));
    blocks[0] = 0;
    char *line = NULL;
    size_t size = 0, n_keys = 0;
    while (getline(&line, &size, file) > 0) {
        uint32_t n = read_blocks(line, blocks);
        uint64_t chain = page_mix(blocks[0] + page_mix(m->options->seed));
        if (n == 0 || chain > mark) {
            continue;
        }
        /* A trace names no conversations; requests with one beginning are. */
        if (!add_request(m, (uint32_t)(chain >> 32), blocks, n, n)) {
            break;
        }
        if (growths != NULL) {
            *growths = grown(*growths, *n_growths + 1, sizeof(**growths));
            (*growths)[(*n_growths)++] =
                (struct growth){chain, m->workload->n_keys - n_keys};
            n_keys = m->workload->n_keys;
        }
    }
    free(line);
    free(blocks);
}

/* The chains of a long trace that together stay under max_pages: all up to a
 * mark in an order by hash, so that what is taken is a fair sample. */
static uint64_t find_mark(const struct options *options, FILE *file)
{
    struct workload all = {.n_requests = 0};
    struct options unlimited = *options;
    struct maker m = {.workload = &all, .options = &unlimited};
    struct growth *growths = NULL;
    size_t n = 0, n_pages = 0;
    uint64_t mark = UINT64_MAX;
    unlimited.max_pages = UINT32_MAX;
    unlimited.requests = 0;
    read_requests(&m, file, UINT64_MAX, &growths, &n);
    if (n > 0) {
        qsort(growths, n, sizeof(*growths), compare_growth);
    }
    for (size_t i = 0; i < n; i++) {
        n_pages += growths[i].n_new;
        if (n_pages > options->max_pages) {
            mark = growths[i].chain - 1;
            break;
        }
    }
    free(growths);
    free(m.index);
    workload_free(&all);
    return mark;
}

static bool read_trace(struct maker *m)
{
    FILE *file = fopen(m->options->trace, "r");
    if (file == NULL) {
        perror(m->options->trace);
        return false;
    }
    uint64_t mark = find_mark(m->options, file);
    rewind(file);
    read_requests(m, file, mark, NULL, NULL);
    m->workload->sampled = mark != UINT64_MAX;
    fclose(file);
    return true;
}

bool workload_make(struct workload *w, const struct options *options)
{
    *w = (struct workload){.n_requests = 0};
    struct maker m = {
        .workload = w, .options = options, .random = page_mix(options->seed)};
    bool done = true;
    if (options->trace != NULL) {
        done = read_trace(&m);
    } else {
        generate(&m);
    }
    free(m.index);
    if (done && w->n_requests == 0) {
        fprintf(stderr, "the workload has no request\n");
        done = false;
    }
    if (!done) {
        workload_free(w);
    }
    return done;
}

void workload_free(struct workload *w)
{
    for (size_t i = 0; i < w->n_requests; i++) {
        free(w->requests[i].pages);
    }
    free(w->requests);
    free(w->keys);
    *w = (struct workload){.n_requests = 0};
}
