/*
 * calls.h - values that prove themselves, calls that are watched, and a load
 * made of them.
 *
 * The value of a key and its length follow from the key alone, so that every
 * reader can check every byte whoever put it. A key is "<set>/<number>"; a set
 * whose values are to differ from an earlier one's has another name.
 *
 * Every call of the library goes through calls_do(), which checks the bytes,
 * takes the time, and counts; calls_report() tells the sum. Any thread.
 */
#ifndef PC_NETNS_CALLS_H
#define PC_NETNS_CALLS_H

#include <peercache/peercache.h>
#include <stdio.h>

/* Longest batch and longest value. */
#define CALLS_ITEMS_MAX 256
#define CALLS_VALUE_MAX (32u * 1024u)

enum calls_verb { CALLS_PUT, CALLS_GET, CALLS_EXISTS, CALLS_REMOVE };

/* Monotonic, the same for all processes of the machine. */
uint64_t calls_now(void);

/* ---- Batches ------------------------------------------------------------ */

struct calls_batch
{
    size_t n;
    char keys[CALLS_ITEMS_MAX][80];
    unsigned char *bytes; /* CALLS_VALUE_MAX for each item. */
    peercache_piece_t pieces[CALLS_ITEMS_MAX];
    peercache_item_t items[CALLS_ITEMS_MAX];
    peercache_status_t status; /* Of the call. */
    uint64_t took_ns;
    size_t n_wrong;
};

/* NULL: no memory for values of n_max items. */
struct calls_batch *calls_batch_create(size_t n_max);
void calls_batch_destroy(struct calls_batch *batch);
/* Keys "<set>/<first>" and the following. */
void calls_name(struct calls_batch *batch, const char *set, size_t first,
                size_t n);
/* One watched call; the batch says what came of it. */
void calls_do(peercache_node_t *node, enum calls_verb verb,
              struct calls_batch *batch, uint64_t deadline_ns);

/* ---- Load --------------------------------------------------------------- */

/* Keys of a set that gets may ask for; some of them need not be there. */
void calls_know(const char *set, size_t n);
/* So many threads that get what is known, and put keys of `own`, a batch every
 * pace_ns, until calls_load_stop(). False: they run already, or there are no
 * threads. */
bool calls_load_start(peercache_node_t *node, unsigned n_threads,
                      const char *own, uint64_t pace_ns, uint64_t deadline_ns);
void calls_load_stop(void);

/* ---- Report ------------------------------------------------------------- */

/* A thread that notes when this process got no processor for a while, or was
 * stopped: a call that is late for that is not late by its own fault. */
bool calls_watch_start(void);
/* JSON. */
void calls_report(FILE *out);

#endif /* PC_NETNS_CALLS_H */
