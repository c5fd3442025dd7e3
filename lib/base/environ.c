#include "environ.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_LEN 64
#define SPARE        (2 * PC_ENVIRON_MAX)

/* Never freed: a thread may still be reading it, however late. By the list, a
 * table that the host has replaced is not lost to who looks for leaks. */
struct table
{
    struct table *before;
    size_t room; /* With the NULL behind the last entry. */
    char *at[];
};

static struct table *last;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static char **table_now(void)
{
    return __atomic_load_n(&environ, __ATOMIC_ACQUIRE);
}

static size_t length_of(char *const *table)
{
    size_t n = 0;
    while (table != NULL && table[n] != NULL) {
        n++;
    }
    return n;
}

static bool is_set(const char *entry)
{
    char name[NAME_MAX_LEN];
    size_t len = strcspn(entry, "=");
    if (len >= sizeof(name)) {
        return true; /* None of ours is as long. */
    }
    memcpy(name, entry, len);
    name[len] = '\0';
    return getenv(name) != NULL;
}

/* The present table, if it is one of ours with room, or a copy that has it. */
static struct table *table_with_room(size_t n_more, size_t *n_p)
{
    char **now = table_now();
    size_t n = length_of(now);
    *n_p = n;
    if (last != NULL && now == last->at && n + n_more < last->room) {
        return last;
    }
    size_t room = n + n_more + 1 + SPARE;
    /* Not by pc_alloc, whose memory is expected back. */
    struct table *table = calloc(1, sizeof(*table) + room * sizeof(char *));
    if (table == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        table->at[i] = now[i];
    }
    table->before = last;
    table->room = room;
    last = table;
    return table;
}

void pc_environ_begin(struct pc_environ *e, const char *const *entries,
                      size_t n_entries)
{
    size_t n;
    e->n_added = 0;
    (void)pthread_mutex_lock(&one_at_a_time);
    for (size_t i = 0; i < n_entries && i < PC_ENVIRON_MAX; i++) {
        if (!is_set(entries[i])) {
            e->added[e->n_added++] = entries[i];
        }
    }
    struct table *table =
        e->n_added > 0 ? table_with_room(e->n_added, &n) : NULL;
    if (table == NULL) {
        e->n_added = 0;
        return;
    }
    /* From the last one: a reader finds all of them or none. */
    for (size_t i = e->n_added; i-- > 0;) {
        /* release: whoever finds an entry finds what is behind it. */
        __atomic_store_n(&table->at[n + i], (char *)(uintptr_t)e->added[i],
                         __ATOMIC_RELEASE);
    }
    __atomic_store_n(&environ, table->at, __ATOMIC_RELEASE);
}

static bool is_added(const struct pc_environ *e, const char *entry)
{
    for (size_t i = 0; i < e->n_added; i++) {
        if (e->added[i] == entry) {
            return true;
        }
    }
    return false;
}

void pc_environ_end(struct pc_environ *e)
{
    char **table = table_now();
    size_t n = length_of(table);
    while (n > 0 && is_added(e, table[n - 1])) {
        __atomic_store_n(&table[--n], NULL, __ATOMIC_RELEASE);
    }
    /* Behind them the host has set its own meanwhile: unsetenv moves entries,
     * but no table. */
    for (size_t i = 0; i < e->n_added; i++) {
        char name[NAME_MAX_LEN];
        size_t len = strcspn(e->added[i], "=");
        bool is_there = false;
        for (char **at = table_now(); at != NULL && *at != NULL; at++) {
            is_there = is_there || *at == e->added[i];
        }
        if (is_there) {
            memcpy(name, e->added[i], len);
            name[len] = '\0';
            (void)unsetenv(name);
        }
    }
    e->n_added = 0;
    (void)pthread_mutex_unlock(&one_at_a_time);
}
