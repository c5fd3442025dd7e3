/*
 * Everybody at once on a pool of 64 pages: writers, readers with pins, a
 * remover, evictors, and readers in another process that know nothing but
 * places and copy by pc_slot_copy. Each value is made of words that follow
 * from its key and from a nonce that no other value has, and its checksum is
 * that nonce, so a reader can tell which value it got, and a mix of two.
 *
 * The argument is the number of seconds (10).
 */
#include "test.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "store/extent.h"
#include "store/store_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define ONE_PROCESS true /* The sanitizer sees one only. */
#else
#define ONE_PROCESS false
#endif

enum {
    N_PAGES = 64,
    N_KEYS = 160,
    N_RECENT = 32,
    MAX_LENGTH = 8 * PC_GRANULE,
    N_WORDS = MAX_LENGTH / 8,
    N_PLACE_WORDS = 6,

    N_MAPPED = 2,
    N_CLUNG = 16
};

/* What one kind of thread has achieved. */
struct tally
{
    _Atomic uint64_t ok, missed, bad;
};

/* A place that readers may try: words and their hash, for nobody waits. */
struct hint
{
    _Atomic uint64_t words[N_PLACE_WORDS];
    _Atomic uint64_t hash;
};

/* Shared by the processes, before the pool in the same mapping. */
struct shared
{
    _Atomic bool stop;
    _Atomic uint64_t n_hints;
    struct hint recent[N_RECENT];
    struct tally written, pinned, clung, mapped, removed, evicted;
    uint64_t slots_offset;
    uint64_t pool_length;
};

struct test
{
    struct shared *shared;
    unsigned char *pool;
    struct pc_store *store;
    _Atomic uint64_t next_nonce;
    /* Sealed and gone generations: count, sum and a sum of their hashes. */
    _Atomic uint64_t n_sealed, sum_sealed, hash_sealed;
    _Atomic uint64_t n_gone, sum_gone, hash_gone, bad_gone;
};

static uint64_t seconds = 10;

static uint64_t mix(uint64_t a, uint64_t b)
{
    struct pc_rand r;
    pc_rand_init(&r, a * 0x9e3779b97f4a7c15ull ^ b);
    return pc_rand_u64(&r);
}

static struct pc_digest digest_of(uint64_t key)
{
    return (struct pc_digest){key, mix(key, 1)};
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- Values ------------------------------------------------------------ */

/* Words 0 and 1 say what the value is, all others follow from them. */
static void make_value(uint64_t *words, size_t n, uint64_t key, uint64_t nonce)
{
    uint64_t base = mix(key, nonce);
    for (size_t i = 0; i < n; i++) {
        words[i] = base + i * 0x9e3779b97f4a7c15ull;
    }
    words[0] = key;
    words[1] = nonce;
}

static bool is_value(const uint64_t *words, size_t n, uint64_t key,
                     uint64_t nonce)
{
    uint64_t base = mix(key, nonce);
    if (words[0] != key || words[1] != nonce) {
        return false;
    }
    for (size_t i = 2; i < n; i++) {
        if (words[i] != base + i * 0x9e3779b97f4a7c15ull) {
            return false;
        }
    }
    return true;
}

/* Many tiny ones: a granule full of them is claimed and evicted as a whole, and
 * that takes long enough for others to come between. */
static uint64_t random_length(struct pc_rand *r)
{
    static const uint64_t lengths[] = {64,   64,   64,    128,
                                       2048, 4096, 12288, MAX_LENGTH};
    return lengths[pc_rand_below(r, PC_ARRAY_LEN(lengths))];
}

/* ---- Hints ------------------------------------------------------------- */

static uint64_t hash_words(const uint64_t *words)
{
    uint64_t hash = 0;
    for (int i = 0; i < N_PLACE_WORDS; i++) {
        hash = mix(hash, words[i]);
    }
    return hash;
}

static void tell(struct shared *shared, const struct pc_place *place)
{
    uint64_t words[N_PLACE_WORDS] = {place->digest.lo, place->generation,
                                     place->offset,    place->length,
                                     place->slot,      place->checksum};
    uint64_t at =
        atomic_fetch_add_explicit(&shared->n_hints, 1, memory_order_relaxed);
    struct hint *hint = &shared->recent[at % N_RECENT];
    for (int i = 0; i < N_PLACE_WORDS; i++) {
        atomic_store_explicit(&hint->words[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&hint->hash, hash_words(words), memory_order_release);
}

static bool hear(struct shared *shared, struct pc_rand *r, uint64_t *words)
{
    struct hint *hint = &shared->recent[pc_rand_below(r, N_RECENT)];
    uint64_t hash = atomic_load_explicit(&hint->hash, memory_order_acquire);
    for (int i = 0; i < N_PLACE_WORDS; i++) {
        words[i] = atomic_load_explicit(&hint->words[i], memory_order_relaxed);
    }
    return words[3] != 0 && hash == hash_words(words);
}

/* ---- Roles ------------------------------------------------------------- */

static bool goes_on(const struct shared *shared)
{
    return !atomic_load_explicit(&shared->stop, memory_order_relaxed);
}

static void read_mapped(struct shared *shared, const unsigned char *pool,
                        pid_t owner, uint64_t seed)
{
    const struct pc_slot_header *headers =
        (const void *)(pool + shared->slots_offset);
    uint64_t *words = pc_alloc(N_WORDS, sizeof(*words));
    struct pc_rand r;
    pc_rand_init(&r, seed);
    for (uint64_t i = 0; words != NULL && goes_on(shared); i++) {
        uint64_t told[N_PLACE_WORDS];
        /* Not even a test that was killed leaves its readers behind. */
        if (i % 1024 == 0 && getpid() != owner && getppid() != owner) {
            break;
        }
        if (!hear(shared, &r, told)) {
            continue;
        }
        struct pc_slot_want want = {.digest = digest_of(told[0]),
                                    .generation = told[1],
                                    .length = told[3],
                                    .offset = told[2]};
        /* Two pieces, as readers have. */
        uint64_t half = told[3] / 16 * 8;
        peercache_piece_t pieces[2] = {
            {.addr = words, .len = half},
            {.addr = (char *)words + half, .len = told[3] - half}};
        if (!pc_slot_copy(&headers[told[4]], &want, pool + told[2], pieces,
                          2)) {
            count(&shared->mapped.missed);
        } else if (is_value(words, told[3] / 8, told[0], told[5])) {
            count(&shared->mapped.ok);
        } else {
            count(&shared->mapped.bad);
        }
    }
    pc_free(words);
}

static void *mapped_reader(void *arg)
{
    struct test *test = arg;
    read_mapped(test->shared, test->pool, getpid(), 1000);
    return NULL;
}

static void note_sealed(struct test *test, uint64_t generation)
{
    count(&test->n_sealed);
    atomic_fetch_add(&test->sum_sealed, generation);
    atomic_fetch_add(&test->hash_sealed, mix(generation, 7));
}

static void *writer(void *arg)
{
    struct test *test = arg;
    uint64_t *words = pc_alloc(N_WORDS, sizeof(*words));
    struct pc_rand r;
    pc_rand_init(&r, atomic_fetch_add(&test->next_nonce, 1));
    while (goes_on(test->shared)) {
        struct pc_reservation reservation;
        uint64_t key = 1 + pc_rand_below(&r, N_KEYS);
        uint64_t length = random_length(&r);
        if (pc_store_reserve(test->store, digest_of(key), length,
                             &reservation) != PEERCACHE_OK) {
            count(&test->shared->written.missed);
            continue;
        }
        uint64_t nonce = atomic_fetch_add(&test->next_nonce, 1);
        make_value(words, length / 8, key, nonce);
        pc_racy_fill(reservation.addr, words, length);
        if (pc_rand_below(&r, 20) == 0) {
            pc_store_abandon(test->store, &reservation);
            continue;
        }
        struct pc_pin pin;
        pc_store_seal(test->store, &reservation, nonce, &pin);
        note_sealed(test, pin.place.generation);
        tell(test->shared, &pin.place);
        if (pc_rand_below(&r, 2) == 0) {
            pc_store_mark_published(test->store, pin.place.digest,
                                    pin.place.generation);
        }
        pc_store_unpin(test->store, &pin);
        count(&test->shared->written.ok);
    }
    pc_free(words);
    return NULL;
}

/* Under its pin a value does not change, however often it is read in place. */
static void *reader(void *arg)
{
    struct test *test = arg;
    struct tally *tally = &test->shared->pinned;
    struct pc_rand r;
    pc_rand_init(&r, atomic_fetch_add(&test->next_nonce, 1));
    while (goes_on(test->shared)) {
        struct pc_pin pin;
        uint64_t key = 1 + pc_rand_below(&r, N_KEYS);
        if (!pc_store_pin(test->store, digest_of(key), &pin)) {
            count(&tally->missed);
            continue;
        }
        size_t n = pin.place.length / 8;
        bool ok = true;
        for (uint64_t i = 0; ok && i < 2 * N_WORDS / n && i < 100; i++) {
            ok = is_value(pin.addr, n, key, pin.place.checksum);
        }
        pc_store_unpin(test->store, &pin);
        count(ok ? &tally->ok : &tally->bad);
    }
    return NULL;
}

/* Pins some values again and again by slot and generation alone, as rule 3 has
 * it, until they are gone. Who got a pin never meets somebody who is evicting.
 * Pins that come and go hardly keep a value from its eviction. */
static void *clinger(void *arg)
{
    struct test *test = arg;
    struct tally *tally = &test->shared->clung;
    struct pc_pin pins[N_CLUNG];
    bool holds[N_CLUNG] = {false};
    struct pc_rand r;
    pc_rand_init(&r, atomic_fetch_add(&test->next_nonce, 1));
    for (size_t i = 0; goes_on(test->shared); i = (i + 1) % N_CLUNG) {
        struct pc_pin *pin = &pins[i];
        if (!holds[i]) {
            uint64_t key = 1 + pc_rand_below(&r, N_KEYS);
            if (pc_store_pin(test->store, digest_of(key), pin)) {
                struct pc_pin copy = *pin;
                pc_store_unpin(test->store, &copy);
                holds[i] = true;
            }
            continue;
        }
        struct pc_slot *slot = pin->slot;
        holds[i] = pc_slot_add_pin(slot, pin->place.generation);
        bool bad =
            holds[i] && ((atomic_load(&slot->pins) & PC_SLOT_EVICTING) != 0 ||
                         !is_value(pin->addr, 8, pin->place.digest.lo,
                                   pin->place.checksum));
        pc_leave_drop_pin(test->store, slot);
        count(bad ? &tally->bad : holds[i] ? &tally->ok : &tally->missed);
    }
    return NULL;
}

/* One for every eighth write: left to itself it would empty the pool whenever
 * the writers do not run. Meanwhile it looks around. */
static void *remover(void *arg)
{
    struct test *test = arg;
    struct shared *shared = test->shared;
    struct pc_rand r;
    uint64_t next = 8;
    pc_rand_init(&r, 99);
    while (goes_on(shared)) {
        uint64_t key = 1 + pc_rand_below(&r, N_KEYS);
        struct pc_place place;
        if (atomic_load(&shared->written.ok) < next) {
            (void)pc_store_find(test->store, digest_of(key), key % 2 == 0,
                                &place);
            continue;
        }
        next += 8;
        if (pc_store_remove(test->store, digest_of(key))) {
            count(&shared->removed.ok);
        }
    }
    return NULL;
}

static void *evictor(void *arg)
{
    struct test *test = arg;
    while (goes_on(test->shared)) {
        size_t n = pc_store_evict(test->store, 4);
        atomic_fetch_add_explicit(&test->shared->evicted.ok, n,
                                  memory_order_relaxed);
        struct pc_store_stats stats;
        pc_store_stats(test->store, &stats);
        if (stats.used > stats.capacity || stats.n_values > N_KEYS) {
            count(&test->shared->evicted.bad);
        }
    }
    return NULL;
}

static void on_gone(void *arg, const struct pc_place *place, enum pc_gone why)
{
    struct test *test = arg;
    const struct pc_slot_header *headers =
        (const void *)(test->pool + test->shared->slots_offset);
    (void)why;
    if (atomic_load(&headers[place->slot].generation) == place->generation) {
        count(&test->bad_gone);
    }
    count(&test->n_gone);
    atomic_fetch_add(&test->sum_gone, place->generation);
    atomic_fetch_add(&test->hash_gone, mix(place->generation, 7));
}

/* ---- The run ----------------------------------------------------------- */

static void set_up(struct test *test)
{
    size_t length = N_PAGES * PC_GRANULE;
    while (pc_store_value_max(length) < N_PAGES * PC_GRANULE) {
        length += PC_GRANULE;
    }
    size_t head =
        (sizeof(struct shared) + PC_GRANULE - 1) / PC_GRANULE * PC_GRANULE;
    void *memory = mmap(NULL, head + length, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    *test = (struct test){.shared = memory,
                          .pool = (unsigned char *)memory + head,
                          .next_nonce = 1};
    struct pc_store_params params = {
        .incarnation = 1,
        .max_regions = 1,
        .free_low = 0.05,
        .free_high = 0.1,
        .policy = pc_evict_lru(),
        .gone = on_gone,
        .arg = test,
    };
    uint32_t index;
    struct pc_region_info info;
    test->store = pc_store_create(&params);
    assert_non_null(test->store);
    assert_int_equal(
        pc_store_add_region(test->store, test->pool, length, &index),
        PEERCACHE_OK);
    assert_true(pc_store_region(test->store, index, &info));
    test->shared->slots_offset = info.slots_offset;
    test->shared->pool_length = head + length;
}

static void start_processes(struct test *test, pid_t *pids)
{
    pid_t owner = getpid();
    for (int i = 0; i < N_MAPPED; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            read_mapped(test->shared, test->pool, owner, (uint64_t)i);
            _exit(0);
        }
    }
}

static void join_processes(const pid_t *pids)
{
    for (int i = 0; i < N_MAPPED; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static void print(const char *what, const struct tally *tally)
{
    print_message("%-8s ok %9llu  missed %9llu  bad %llu\n", what,
                  (unsigned long long)tally->ok,
                  (unsigned long long)tally->missed,
                  (unsigned long long)tally->bad);
}

static void check_rest(struct test *test)
{
    struct pc_store_stats stats;
    for (uint64_t key = 1; key <= N_KEYS; key++) {
        (void)pc_store_remove(test->store, digest_of(key));
    }
    pc_store_stats(test->store, &stats);
    assert_int_equal(stats.used, 0);
    assert_int_equal(stats.n_values, 0);
    assert_int_equal(stats.n_pins, 0);
    assert_int_equal(stats.n_dying, 0);
    assert_int_equal(stats.n_reserved, 0);
    assert_int_equal(stats.longest_free, stats.capacity);
    assert_int_equal(test->n_gone, test->n_sealed);
    assert_true(test->sum_gone == test->sum_sealed);
    assert_true(test->hash_gone == test->hash_sealed);
    assert_int_equal(test->bad_gone, 0);
    const struct pc_slot_header *headers =
        (const void *)(test->pool + test->shared->slots_offset);
    struct pc_region_info info;
    assert_true(pc_store_region(test->store, 0, &info));
    for (uint32_t i = 0; i < info.n_slots; i++) {
        assert_int_equal(atomic_load(&headers[i].generation) % 2, 1);
    }
}

static void no_reader_ever_gets_other_bytes(void **state)
{
    (void)state;
    static void *(*const roles[])(void *) = {
        writer,  writer,  reader,  reader,        clinger,
        evictor, evictor, remover, mapped_reader, mapped_reader};
    struct test test;
    pthread_t threads[PC_ARRAY_LEN(roles)];
    pid_t pids[N_MAPPED];
    set_up(&test);
    size_t n_threads = PC_ARRAY_LEN(roles) - (ONE_PROCESS ? 0 : N_MAPPED);
    if (!ONE_PROCESS) {
        start_processes(&test, pids);
    }
    for (size_t i = 0; i < n_threads; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &test), 0);
    }
    struct timespec nap = {.tv_nsec = 10 * (long)PC_MS};
    uint64_t end = pc_clock_monotonic() + seconds * PC_S;
    struct shared *shared = test.shared;
    while (pc_clock_monotonic() < end && shared->mapped.bad == 0 &&
           shared->pinned.bad + shared->clung.bad == 0) {
        (void)nanosleep(&nap, NULL);
    }
    atomic_store(&shared->stop, true);
    for (size_t i = 0; i < n_threads; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    if (!ONE_PROCESS) {
        join_processes(pids);
    }
    print("written", &shared->written);
    print("pinned", &shared->pinned);
    print("clung", &shared->clung);
    print("mapped", &shared->mapped);
    print("removed", &shared->removed);
    print("evicted", &shared->evicted);
    assert_int_equal(shared->mapped.bad, 0);
    assert_int_equal(shared->pinned.bad, 0);
    assert_int_equal(shared->clung.bad, 0);
    assert_int_equal(shared->evicted.bad, 0);
    check_rest(&test);
    /* A run in which something never worked proves nothing. */
    assert_true(shared->written.ok > 100);
    assert_true(shared->pinned.ok > 100);
    assert_true(shared->clung.ok > 100);
    assert_true(shared->clung.missed > 0);
    assert_true(shared->mapped.ok > 100);
    assert_true(shared->mapped.missed > 0);
    assert_true(shared->removed.ok > 0);
    assert_true(shared->evicted.ok > 0);
    pc_store_destroy(test.store);
    (void)munmap(shared, shared->pool_length);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        seconds = strtoull(argv[1], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_reader_ever_gets_other_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
