#include "cache.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

#define WAYS  4
#define LOCKS 64

struct entry
{
    struct pc_record record; /* length 0: empty. */
    uint64_t since_ns;
};

struct pc_cache
{
    struct entry *entries;
    size_t n_sets; /* A power of two, or 0. */
    uint64_t max_age_ns;
    _Atomic size_t n_used;
    pthread_mutex_t locks[LOCKS];
};

struct pc_cache *pc_cache_create(size_t n_records, uint64_t max_age_ns)
{
    struct pc_cache *cache = pc_alloc(1, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    size_t n_sets = 0;
    if (n_records > 0) {
        n_sets = 1;
        while (n_sets * WAYS < n_records) {
            n_sets *= 2;
        }
        cache->entries = pc_alloc(n_sets * WAYS, sizeof(struct entry));
        if (cache->entries == NULL) {
            pc_free(cache);
            return NULL;
        }
    }
    cache->n_sets = n_sets;
    cache->max_age_ns = max_age_ns;
    atomic_init(&cache->n_used, 0);
    for (size_t i = 0; i < LOCKS; i++) {
        (void)pthread_mutex_init(&cache->locks[i], NULL);
    }
    return cache;
}

void pc_cache_destroy(struct pc_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < LOCKS; i++) {
        (void)pthread_mutex_destroy(&cache->locks[i]);
    }
    pc_free(cache->entries);
    pc_free(cache);
}

static size_t set_of(const struct pc_cache *cache, struct pc_digest digest)
{
    return (size_t)digest.lo & (cache->n_sets - 1);
}

static struct entry *find(struct entry *set, struct pc_digest digest)
{
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].record.length != 0 &&
            pc_digest_equal(set[i].record.digest, digest)) {
            return &set[i];
        }
    }
    return NULL;
}

static struct entry *oldest(struct entry *set)
{
    struct entry *best = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].record.length == 0) {
            return &set[i];
        }
        if (set[i].since_ns < best->since_ns) {
            best = &set[i];
        }
    }
    return best;
}

void pc_cache_put(struct pc_cache *cache, const struct pc_record *record,
                  uint64_t now_ns)
{
    if (cache->n_sets == 0) {
        return;
    }
    size_t s = set_of(cache, record->digest);
    struct entry *set = &cache->entries[s * WAYS];
    pthread_mutex_t *lock = &cache->locks[s % LOCKS];
    (void)pthread_mutex_lock(lock);
    struct entry *entry = find(set, record->digest);
    if (entry == NULL) {
        entry = oldest(set);
        if (entry->record.length == 0) {
            /* relaxed: a gauge. */
            atomic_fetch_add_explicit(&cache->n_used, 1, memory_order_relaxed);
        }
    }
    entry->record = *record;
    entry->since_ns = now_ns;
    (void)pthread_mutex_unlock(lock);
}

bool pc_cache_get(struct pc_cache *cache, struct pc_digest digest,
                  uint64_t now_ns, struct pc_record *record_p)
{
    if (cache->n_sets == 0) {
        return false;
    }
    size_t s = set_of(cache, digest);
    pthread_mutex_t *lock = &cache->locks[s % LOCKS];
    (void)pthread_mutex_lock(lock);
    struct entry *entry = find(&cache->entries[s * WAYS], digest);
    bool fresh =
        entry != NULL && (cache->max_age_ns == 0 || now_ns < entry->since_ns ||
                          now_ns - entry->since_ns <= cache->max_age_ns);
    if (fresh) {
        *record_p = entry->record;
    }
    (void)pthread_mutex_unlock(lock);
    return fresh;
}

void pc_cache_drop(struct pc_cache *cache, const struct pc_record *record)
{
    if (cache->n_sets == 0) {
        return;
    }
    size_t s = set_of(cache, record->digest);
    pthread_mutex_t *lock = &cache->locks[s % LOCKS];
    (void)pthread_mutex_lock(lock);
    struct entry *entry = find(&cache->entries[s * WAYS], record->digest);
    if (entry != NULL && entry->record.incarnation == record->incarnation &&
        entry->record.generation <= record->generation) {
        entry->record.length = 0;
        atomic_fetch_sub_explicit(&cache->n_used, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(lock);
}

size_t pc_cache_count(const struct pc_cache *cache)
{
    return atomic_load_explicit(&cache->n_used, memory_order_relaxed);
}
