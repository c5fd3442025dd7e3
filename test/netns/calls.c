#include "calls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000u
#define MS       1000000u

/* Calls that took this much longer than their deadline are listed. */
#define LATE_NS (100 * (uint64_t)MS)
/* The watching thread wakes so often; it was kept from it when so late. */
#define WATCH_NS   (20 * (uint64_t)MS)
#define STARVED_NS (100 * (uint64_t)MS)

#define LISTED_MAX  512
#define SETS_MAX    128
#define THREADS_MAX 8
#define OWN_KEYS    512
#define LOAD_ITEMS  8

static const char *const verb_names[] = {"put", "get", "exists", "remove"};

struct late
{
    enum calls_verb verb;
    uint64_t from, to, deadline_ns;
};

struct gap
{
    uint64_t from, to;
};

/* One per process, as the node is. */
static struct
{
    pthread_mutex_t lock;
    uint64_t n_calls[4], n_items[4], n_ok[4];
    uint64_t n_get_statuses[64]; /* By -status. */
    uint64_t bytes_checked, n_wrong;
    uint64_t longest_ns; /* Of the calls that are not listed. */
    struct late late[LISTED_MAX];
    struct gap gaps[LISTED_MAX];
    size_t n_late, n_gaps;
    uint64_t n_unlisted;
} sums = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct
{
    pthread_mutex_t lock;
    char sets[SETS_MAX][64];
    size_t n_keys[SETS_MAX];
    size_t n_sets;
    pthread_t threads[THREADS_MAX];
    unsigned n_threads;
    atomic_bool on;
    peercache_node_t *node;
    char own[64];
    uint64_t pace_ns, deadline_ns;
} load = {.lock = PTHREAD_MUTEX_INITIALIZER};

uint64_t calls_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S),
                            .tv_nsec = (long)(ns % NS_PER_S)};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

/* ---- Values ------------------------------------------------------------- */

static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

static uint64_t seed_of(const char *key)
{
    uint64_t hash = 1469598103934665603u;
    for (; *key != '\0'; key++) {
        hash = (hash ^ (unsigned char)*key) * 1099511628211u;
    }
    return mix(hash);
}

/* 2 to 32 KiB, mostly no multiple of anything. */
static size_t length_of(const char *key)
{
    return 2048 + (size_t)(seed_of(key) % (CALLS_VALUE_MAX - 2048 + 1));
}

static void fill(const char *key, unsigned char *bytes, size_t len)
{
    uint64_t seed = seed_of(key);
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = mix(seed + at);
        memcpy(bytes + at, &word, len - at < 8 ? len - at : 8);
    }
}

static bool is_right(const char *key, const unsigned char *bytes, size_t len)
{
    uint64_t seed = seed_of(key);
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = mix(seed + at);
        if (memcmp(bytes + at, &word, len - at < 8 ? len - at : 8) != 0) {
            return false;
        }
    }
    return true;
}

/* ---- Batches ------------------------------------------------------------ */

struct calls_batch *calls_batch_create(size_t n_max)
{
    struct calls_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return NULL;
    }
    batch->bytes = malloc(n_max * CALLS_VALUE_MAX);
    if (batch->bytes == NULL) {
        free(batch);
        return NULL;
    }
    return batch;
}

void calls_batch_destroy(struct calls_batch *batch)
{
    if (batch != NULL) {
        free(batch->bytes);
        free(batch);
    }
}

static void name_one(struct calls_batch *batch, size_t i, const char *set,
                     size_t number)
{
    char *key = batch->keys[i];
    (void)snprintf(key, sizeof(batch->keys[i]), "%.60s/%zu", set, number);
    batch->pieces[i] =
        (peercache_piece_t){batch->bytes + i * CALLS_VALUE_MAX, length_of(key)};
    batch->items[i] = (peercache_item_t){.key = key,
                                         .key_len = strlen(key),
                                         .pieces = &batch->pieces[i],
                                         .n_pieces = 1};
}

void calls_name(struct calls_batch *batch, const char *set, size_t first,
                size_t n)
{
    batch->n = n;
    for (size_t i = 0; i < n; i++) {
        name_one(batch, i, set, first + i);
    }
}

static void before(struct calls_batch *batch, enum calls_verb verb)
{
    for (size_t i = 0; i < batch->n; i++) {
        peercache_piece_t *piece = &batch->pieces[i];
        if (verb == CALLS_PUT) {
            fill(batch->keys[i], piece->addr, piece->len);
        } else if (verb == CALLS_GET) {
            memset(piece->addr, 0xa5, piece->len);
        } else {
            batch->items[i].pieces = NULL;
            batch->items[i].n_pieces = 0;
        }
        batch->items[i].status = PEERCACHE_IN_PROGRESS;
    }
}

/* What the call says of an item; of the batch if it was refused as a whole. */
static peercache_status_t item_status(const struct calls_batch *batch, size_t i)
{
    return batch->items[i].status == PEERCACHE_IN_PROGRESS
               ? batch->status
               : batch->items[i].status;
}

static uint64_t check(struct calls_batch *batch)
{
    uint64_t checked = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const peercache_item_t *item = &batch->items[i];
        if (item->status != PEERCACHE_OK) {
            continue;
        }
        size_t len = batch->pieces[i].len;
        checked += len;
        if (item->value_len != len ||
            !is_right(batch->keys[i], batch->pieces[i].addr, len)) {
            batch->n_wrong++;
            (void)fprintf(stderr, "WRONG BYTES of %s, source %d, length %zu\n",
                          batch->keys[i], (int)item->source, item->value_len);
        }
    }
    return checked;
}

static void note(enum calls_verb verb, const struct calls_batch *batch,
                 uint64_t from, uint64_t deadline_ns, uint64_t checked)
{
    (void)pthread_mutex_lock(&sums.lock);
    sums.n_calls[verb]++;
    sums.n_items[verb] += batch->n;
    sums.bytes_checked += checked;
    sums.n_wrong += batch->n_wrong;
    for (size_t i = 0; i < batch->n; i++) {
        peercache_status_t status = item_status(batch, i);
        sums.n_ok[verb] += status == PEERCACHE_OK;
        if (verb == CALLS_GET) {
            sums.n_get_statuses[-status & 63]++;
        }
    }
    if (batch->took_ns <= deadline_ns + LATE_NS) {
        if (batch->took_ns > sums.longest_ns) {
            sums.longest_ns = batch->took_ns;
        }
    } else if (sums.n_late < LISTED_MAX) {
        sums.late[sums.n_late++] =
            (struct late){verb, from, from + batch->took_ns, deadline_ns};
    } else {
        sums.n_unlisted++;
    }
    (void)pthread_mutex_unlock(&sums.lock);
}

void calls_do(peercache_node_t *node, enum calls_verb verb,
              struct calls_batch *batch, uint64_t deadline_ns)
{
    typedef peercache_status_t (*verb_fn)(
        peercache_node_t *, peercache_item_t *, size_t,
        const peercache_op_params_t *, peercache_op_t **);
    static const verb_fn verbs[] = {peercache_put, peercache_get,
                                    peercache_exists, peercache_remove};
    peercache_op_params_t params = {.struct_size = sizeof(params),
                                    .item_size = sizeof(peercache_item_t),
                                    .timeout_ns = deadline_ns};
    batch->n_wrong = 0;
    before(batch, verb);
    uint64_t from = calls_now();
    batch->status = verbs[verb](node, batch->items, batch->n, &params, NULL);
    batch->took_ns = calls_now() - from;
    note(verb, batch, from, deadline_ns, verb == CALLS_GET ? check(batch) : 0);
}

/* ---- Load --------------------------------------------------------------- */

void calls_know(const char *set, size_t n)
{
    (void)pthread_mutex_lock(&load.lock);
    if (load.n_sets < SETS_MAX) {
        (void)snprintf(load.sets[load.n_sets], sizeof(load.sets[0]), "%s", set);
        load.n_keys[load.n_sets++] = n;
    }
    (void)pthread_mutex_unlock(&load.lock);
}

static uint64_t draw(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return mix(*state);
}

/* Keys of all sets in one batch, so that it has several holders. */
static bool name_known(struct calls_batch *batch, uint64_t *state)
{
    (void)pthread_mutex_lock(&load.lock);
    batch->n = load.n_sets > 0 ? 1 + draw(state) % LOAD_ITEMS : 0;
    for (size_t i = 0; i < batch->n; i++) {
        size_t set = draw(state) % load.n_sets;
        name_one(batch, i, load.sets[set], draw(state) % load.n_keys[set]);
    }
    (void)pthread_mutex_unlock(&load.lock);
    return batch->n > 0;
}

static void load_once(struct calls_batch *batch, uint64_t *state)
{
    uint64_t dice = draw(state) % 16;
    if (dice < 2) {
        size_t first = draw(state) % (OWN_KEYS - LOAD_ITEMS);
        calls_name(batch, load.own, first, 1 + draw(state) % LOAD_ITEMS);
        calls_do(load.node, CALLS_PUT, batch, load.deadline_ns);
    } else if (name_known(batch, state)) {
        calls_do(load.node, dice < 3 ? CALLS_EXISTS : CALLS_GET, batch,
                 load.deadline_ns);
    }
}

static void *load_main(void *arg)
{
    uint64_t state = calls_now() + (uintptr_t)arg;
    struct calls_batch *batch = calls_batch_create(LOAD_ITEMS);
    /* acquire: pairs with the start's release, of what it has set. */
    while (batch != NULL &&
           atomic_load_explicit(&load.on, memory_order_acquire)) {
        load_once(batch, &state);
        sleep_ns(load.pace_ns / 2 + draw(&state) % (load.pace_ns + 1));
    }
    calls_batch_destroy(batch);
    return NULL;
}

bool calls_load_start(peercache_node_t *node, unsigned n_threads,
                      const char *own, uint64_t pace_ns, uint64_t deadline_ns)
{
    if (load.n_threads > 0 || n_threads > THREADS_MAX) {
        return false;
    }
    load.node = node;
    load.pace_ns = pace_ns;
    load.deadline_ns = deadline_ns;
    (void)snprintf(load.own, sizeof(load.own), "%s", own);
    atomic_store_explicit(&load.on, true, memory_order_release);
    for (uintptr_t i = 0; i < n_threads; i++) {
        if (pthread_create(&load.threads[i], NULL, load_main, (void *)i) != 0) {
            return false;
        }
        load.n_threads++;
    }
    return true;
}

void calls_load_stop(void)
{
    /* release: as above; the threads need nothing from us any more. */
    atomic_store_explicit(&load.on, false, memory_order_release);
    for (unsigned i = 0; i < load.n_threads; i++) {
        (void)pthread_join(load.threads[i], NULL);
    }
    load.n_threads = 0;
}

/* ---- Report ------------------------------------------------------------- */

static void *watch_main(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t from = calls_now();
        sleep_ns(WATCH_NS);
        uint64_t to = calls_now();
        if (to - from < WATCH_NS + STARVED_NS) {
            continue;
        }
        (void)pthread_mutex_lock(&sums.lock);
        if (sums.n_gaps < LISTED_MAX) {
            sums.gaps[sums.n_gaps++] = (struct gap){from + WATCH_NS, to};
        }
        (void)pthread_mutex_unlock(&sums.lock);
    }
    return NULL;
}

bool calls_watch_start(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, watch_main, NULL) == 0 &&
           pthread_detach(thread) == 0;
}

static void report_verbs(FILE *out)
{
    for (int verb = 0; verb < 4; verb++) {
        (void)fprintf(out,
                      "\"%s\":{\"calls\":%llu,\"items\":%llu,\"ok\":%llu},",
                      verb_names[verb], (unsigned long long)sums.n_calls[verb],
                      (unsigned long long)sums.n_items[verb],
                      (unsigned long long)sums.n_ok[verb]);
    }
    (void)fprintf(out, "\"get_statuses\":{");
    const char *comma = "";
    for (int i = 0; i < 64; i++) {
        if (sums.n_get_statuses[i] > 0) {
            (void)fprintf(out, "%s\"%s\":%llu", comma,
                          peercache_status_name((peercache_status_t)-i),
                          (unsigned long long)sums.n_get_statuses[i]);
            comma = ",";
        }
    }
    (void)fprintf(out, "},");
}

static void report_lists(FILE *out)
{
    (void)fprintf(out, "\"late\":[");
    for (size_t i = 0; i < sums.n_late; i++) {
        const struct late *late = &sums.late[i];
        (void)fprintf(out, "%s[\"%s\",%llu,%llu,%llu]", i > 0 ? "," : "",
                      verb_names[late->verb], (unsigned long long)late->from,
                      (unsigned long long)late->to,
                      (unsigned long long)late->deadline_ns);
    }
    (void)fprintf(out, "],\"gaps\":[");
    for (size_t i = 0; i < sums.n_gaps; i++) {
        (void)fprintf(out, "%s[%llu,%llu]", i > 0 ? "," : "",
                      (unsigned long long)sums.gaps[i].from,
                      (unsigned long long)sums.gaps[i].to);
    }
    (void)fprintf(out, "]");
}

void calls_report(FILE *out)
{
    (void)pthread_mutex_lock(&sums.lock);
    (void)fprintf(out, "{");
    report_verbs(out);
    (void)fprintf(out,
                  "\"bytes\":%llu,\"wrong\":%llu,\"longest_ns\":%llu,"
                  "\"unlisted\":%llu,",
                  (unsigned long long)sums.bytes_checked,
                  (unsigned long long)sums.n_wrong,
                  (unsigned long long)sums.longest_ns,
                  (unsigned long long)sums.n_unlisted);
    report_lists(out);
    (void)fprintf(out, "}");
    (void)pthread_mutex_unlock(&sums.lock);
}
