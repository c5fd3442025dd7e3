#include "histogram.h"

#include <stdbool.h>

#define FIRST_BOUND_NS 1000ull

/* The last bucket has no bound. */
static uint64_t bound_ns(unsigned bucket)
{
    return bucket < PC_HISTOGRAM_BUCKETS ? FIRST_BOUND_NS << bucket
                                         : UINT64_MAX;
}

static unsigned bucket_of(uint64_t ns)
{
    unsigned bucket = 0;
    while (ns > bound_ns(bucket)) {
        bucket++;
    }
    return bucket;
}

void pc_histogram_add(struct pc_histogram *h, uint64_t ns)
{
    /* relaxed, all in this file: counts on their own; a reader that sees one
     * of the two without the other is off by one measurement. */
    atomic_fetch_add_explicit(&h->counts[bucket_of(ns)], 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

/* name_suffix{labels,le="bound"} without the value. */
static void add_series(struct pc_text *text, const char *family,
                       const char *suffix, const char *labels, const char *le)
{
    bool both = *labels != '\0' && *le != '\0';
    bool any = *labels != '\0' || *le != '\0';
    pc_text_add(text, "%s%s%s%s%s%s%s ", family, suffix, any ? "{" : "", labels,
                both ? "," : "", le, any ? "}" : "");
}

/* Nanoseconds as seconds. By hand: the decimal point of %f depends on the
 * locale that the user's program set. */
static void add_seconds(struct pc_text *text, uint64_t ns)
{
    pc_text_add(text, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
                (unsigned long long)(ns % 1000000000));
}

static void add_bucket(struct pc_text *text, const char *family,
                       const char *labels, unsigned bucket, uint64_t count)
{
    struct pc_text le;
    pc_text_init(&le);
    pc_text_add(&le, "le=\"");
    if (bucket < PC_HISTOGRAM_BUCKETS) {
        add_seconds(&le, bound_ns(bucket));
    } else {
        pc_text_add(&le, "+Inf");
    }
    pc_text_add(&le, "\"");
    if (le.failed) {
        text->failed = true;
    } else {
        add_series(text, family, "_bucket", labels, le.data);
        pc_text_add(text, "%llu\n", (unsigned long long)count);
    }
    pc_text_fini(&le);
}

void pc_histogram_text(const struct pc_histogram *h, const char *family,
                       const char *labels, struct pc_text *text)
{
    uint64_t count = 0;
    for (unsigned i = 0; i <= PC_HISTOGRAM_BUCKETS; i++) {
        count += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        add_bucket(text, family, labels, i, count);
    }
    add_series(text, family, "_sum", labels, "");
    add_seconds(text, atomic_load_explicit(&h->sum_ns, memory_order_relaxed));
    pc_text_add(text, "\n");
    /* Not read again: the last bucket and the count must agree. */
    add_series(text, family, "_count", labels, "");
    pc_text_add(text, "%llu\n", (unsigned long long)count);
}

uint64_t pc_histogram_quantile(const struct pc_histogram *h, double q)
{
    uint64_t counts[PC_HISTOGRAM_BUCKETS + 1];
    uint64_t total = 0;
    for (unsigned i = 0; i <= PC_HISTOGRAM_BUCKETS; i++) {
        counts[i] = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        total += counts[i];
    }
    double wanted = q * (double)total;
    uint64_t seen = 0;
    for (unsigned i = 0; i <= PC_HISTOGRAM_BUCKETS; i++) {
        seen += counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            return bound_ns(i);
        }
    }
    return 0;
}
