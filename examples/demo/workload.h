/*
 * workload.h - the requests that the demo replays.
 *
 * A request is a prompt, as a chain of pages from the first block on, and the
 * pages that the answer adds to it. The next turn of a conversation repeats
 * both and adds the user's next message; conversations share a few system
 * prompts. Driver and workers make the same workload from the same options, so
 * that requests and pages can be named by number between them.
 */
#ifndef DEMO_WORKLOAD_H
#define DEMO_WORKLOAD_H

#include "options.h"
#include "page.h"

struct request
{
    uint32_t conversation;
    uint32_t where;    /* A random number: which server gets it. */
    uint32_t n_prompt; /* Pages that the server asks the cache for. */
    uint32_t n_pages;  /* Those and the answer's. */
    uint32_t *pages;   /* Numbers of pages, in order. */
};

struct workload
{
    struct request *requests;
    size_t n_requests;
    struct page_key *keys; /* By number of page. */
    size_t n_keys;
    size_t n_asked; /* Prompt pages of all requests. */
    size_t
        n_seen;   /* ... that an earlier request had: the bound of any cache. */
    bool sampled; /* A part of a longer trace. */
};

/* Generate, or read the trace. False: told why. */
bool workload_make(struct workload *workload, const struct options *options);
void workload_free(struct workload *workload);

#endif /* DEMO_WORKLOAD_H */
