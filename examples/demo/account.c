#include "account.h"

#include "line.h"

#include <stdlib.h>

static void *zeroed(size_t n, size_t size)
{
    void *memory = calloc(n, size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

void account_init(struct account *a, const struct workload *workload)
{
    *a = (struct account){.workload = workload,
                          .alive = (1u << DEMO_NODES) - 1,
                          .slowest = "none"};
    a->sure = zeroed(workload->n_keys, 1);
    a->maybe = zeroed(workload->n_keys, 1);
    a->computing = zeroed(workload->n_keys, 1);
}

void account_fini(struct account *a)
{
    free(a->sure);
    free(a->maybe);
    free(a->computing);
}

bool account_is_live(const struct account *a, uint32_t page)
{
    unsigned maybe = a->maybe[page];
    return (a->sure[page] & a->alive) != 0 ||
           (maybe != 0 && (maybe & ~a->alive) == 0);
}

int account_holder(const struct account *a, uint32_t page)
{
    for (int node = 0; node < DEMO_NODES; node++) {
        if ((a->sure[page] & a->alive & (1u << node)) != 0) {
            return node;
        }
    }
    return -1;
}

bool account_must_wait(const struct account *a, size_t number)
{
    const struct request *r = &a->workload->requests[number];
    for (uint32_t i = 0; i < r->n_pages; i++) {
        uint32_t page = r->pages[i];
        if (a->computing[page] != 0 &&
            ((a->sure[page] | a->maybe[page]) & a->alive) == 0) {
            return true;
        }
    }
    return false;
}

void account_begin(struct account *a, struct in_flight *flight, size_t number)
{
    const struct request *r = &a->workload->requests[number];
    *flight = (struct in_flight){.number = number};
    flight->live = zeroed(r->n_pages, sizeof(*flight->live));
    for (uint32_t i = 0; i < r->n_pages; i++) {
        flight->live[i] = account_is_live(a, r->pages[i]);
        a->computing[r->pages[i]]++;
    }
}

static void end_flight(struct account *a, struct in_flight *flight)
{
    const struct request *r = &a->workload->requests[flight->number];
    for (uint32_t i = 0; i < r->n_pages; i++) {
        a->computing[r->pages[i]]--;
    }
    free(flight->live);
    flight->live = NULL;
}

static void note_put(struct account *a, unsigned node, uint32_t page,
                     bool was_live)
{
    unsigned had = a->sure[page] | a->maybe[page];
    a->n_put++;
    if (!was_live && a->computing[page] == 1 && (had & ~a->alive) == 0) {
        a->sure[page] |= (uint8_t)(1u << node);
    } else {
        a->maybe[page] = (uint8_t)(had | 1u << node);
    }
}

static bool is_delivered(char letter)
{
    return letter != '\0' && strchr("lmosd", letter) != NULL;
}

static void note_read(struct account *a, const struct in_flight *flight,
                      const char *read)
{
    const struct request *r = &a->workload->requests[flight->number];
    bool run = true;
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        bool delivered = is_delivered(read[i]);
        run = run && delivered;
        a->n_hit += run;
        a->by_mode[(unsigned char)read[i]]++;
        /* A holder that was killed meanwhile is nobody's fault. */
        if (flight->live[i] && account_is_live(a, r->pages[i])) {
            a->n_live++;
            a->n_live_found += delivered || read[i] == '+';
        }
    }
    a->n_asked += r->n_prompt;
}

void account_calls(struct account *a, unsigned node, const char *line)
{
    a->n_calls += line_number(line, "calls");
    a->n_late += line_number(line, "late");
    a->n_errors += line_number(line, "errors");
    a->wrong_bytes += line_number(line, "wrong");
    uint64_t slowest_ns = line_number(line, "slowest_ns");
    if (slowest_ns > a->slowest_ns) {
        size_t len = 0;
        const char *verb = line_text(line, "slowest", &len);
        a->slowest_ns = slowest_ns;
        a->slowest_node = node;
        snprintf(a->slowest, sizeof(a->slowest), "%.*s", (int)len, verb);
    }
}

void account_done(struct account *a, struct in_flight *flight, unsigned node,
                  const char *line)
{
    const struct request *r = &a->workload->requests[flight->number];
    size_t n_read = 0, n_put = 0;
    const char *read = line_text(line, "read", &n_read);
    const char *put = line_text(line, "put", &n_put);
    account_calls(a, node, line);
    a->n_requests++;
    if (n_read == r->n_prompt && n_put == r->n_pages) {
        note_read(a, flight, read);
        for (uint32_t i = 0; i < r->n_pages; i++) {
            if (put[i] == '1') {
                note_put(a, node, r->pages[i], flight->live[i]);
            }
            a->n_put_failed += put[i] == '0';
        }
    } else {
        fprintf(stderr, "a line of node %u is not understood\n", node);
        a->n_errors++;
    }
    end_flight(a, flight);
}

void account_killed(struct account *a, struct in_flight *flight, unsigned node)
{
    a->alive &= ~(1u << node);
    if (flight == NULL) {
        return;
    }
    const struct request *r = &a->workload->requests[flight->number];
    for (uint32_t i = 0; i < r->n_pages; i++) {
        /* It may have stored this, or not. */
        a->maybe[r->pages[i]] |= (uint8_t)(1u << node);
    }
    end_flight(a, flight);
}
