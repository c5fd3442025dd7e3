/*
 * The messages that are made of the state: beats, answers to them, and tables
 * that are pushed.
 */
#include "state.h"

#include "base/mem.h"

#include <string.h>

static bool may_speak(const struct pc_cluster *c)
{
    return (c->phase == MEMBER || c->phase == LEFT) && c->view_hash != 0;
}

void pc_cluster_beat(const struct pc_cluster *cluster, struct pc_msg_beat *beat)
{
    bool joined = may_speak(cluster);
    beat->self = cluster->members[SELF];
    beat->view = joined ? cluster->view_hash : 0;
    beat->table = joined ? cluster->table_hash : 0;
    beat->load = cluster->load;
}

/* Room for n members in the answer; the scratch memory is not state, so it may
 * grow under a const cluster. */
static struct pc_member *reserve_scratch(const struct pc_cluster *cluster,
                                         size_t n)
{
    struct pc_cluster *c = (struct pc_cluster *)cluster;
    if (n > c->scratch_capacity) {
        struct pc_member *scratch = pc_realloc(c->scratch, n, sizeof(*scratch));
        if (scratch == NULL) {
            return NULL;
        }
        c->scratch = scratch;
        c->scratch_capacity = n;
    }
    return c->scratch;
}

/* Whether members belong into a difference: they changed after a moment. With
 * former views also those that have ended: such views name them, the hash of
 * the table is silent about them, and an end that the asker never hears of
 * would leave it asking for them, and telling them, while the views stay. */
static bool is_different(const struct pc_cluster *c, size_t at,
                         uint64_t changed, bool with_ended)
{
    return c->watches[at].changed > changed ||
           (with_ended && !pc_table_is_live(c, at));
}

/* The changes after one moment; false: there are none, or no memory. */
static bool fill_difference(const struct pc_cluster *c,
                            const struct moment *moment, bool with_ended,
                            struct pc_msg_table *table)
{
    size_t n = 0;
    struct pc_member *scratch = reserve_scratch(c, c->n_members);
    for (size_t i = 0; i < c->n_members && scratch != NULL; i++) {
        if (is_different(c, i, moment->changed, with_ended)) {
            scratch[n++] = c->members[i];
        }
    }
    if (n == 0) {
        return false;
    }
    table->members = scratch;
    table->n_members = (uint32_t)n;
    table->base = moment->table;
    return true;
}

/* All members, or those that changed since the asker's table was ours too. */
static void fill_members(const struct pc_cluster *c, uint64_t asker_table,
                         bool with_ended, struct pc_msg_table *table)
{
    size_t n_moments = c->n_moments < HISTORY_MAX ? c->n_moments : HISTORY_MAX;
    for (size_t m = 0; m < n_moments && asker_table != 0; m++) {
        if (c->history[m].table == asker_table) {
            if (fill_difference(c, &c->history[m], with_ended, table)) {
                return;
            }
            break;
        }
    }
    table->members = c->members;
    table->n_members = (uint32_t)c->n_members;
}

static void fill_table(const struct pc_cluster *cluster, uint64_t asker_view,
                       uint64_t asker_table, struct pc_msg_table *table)
{
    bool with_former = asker_view == 0 || cluster->is_sharing ||
                       !pc_views_is_known(cluster, asker_view);
    struct moment now = {cluster->table_hash, cluster->n_changes};
    table->view = cluster->view_hash;
    table->table = cluster->table_hash;
    pc_load_tell(cluster, table);
    if (asker_table != cluster->table_hash) {
        fill_members(cluster, asker_table, with_former, table);
    } else if (!with_former || !fill_difference(cluster, &now, true, table)) {
        table->same = true;
    }
    if (with_former) {
        table->former = (struct pc_msg_view *)cluster->former_views;
        table->n_former = (uint32_t)cluster->n_former;
    }
}

void pc_cluster_answer(const struct pc_cluster *cluster,
                       const struct pc_msg_beat *beat,
                       struct pc_msg_table *table)
{
    size_t elder;
    memset(table, 0, sizeof(*table));
    table->admission = (uint8_t)pc_claim_verdict(cluster, &beat->self, &elder);
    if (table->admission == PC_ADMISSION_REFUSED) {
        table->members = &cluster->members[elder]; /* For its log. */
        table->n_members = 1;
    } else if (table->admission == PC_ADMISSION_OK && may_speak(cluster)) {
        fill_table(cluster, beat->view, beat->table, table);
    }
}

void pc_cluster_push(const struct pc_cluster *cluster,
                     const struct pc_cluster_send *send,
                     struct pc_msg_table *table)
{
    memset(table, 0, sizeof(*table));
    if (send->about == 0) {
        if (may_speak(cluster)) {
            fill_table(cluster, send->view, send->table, table);
        }
        return;
    }
    size_t at = pc_table_find(cluster, send->about);
    struct pc_member *scratch = reserve_scratch(cluster, 1);
    if (at != NOBODY && scratch != NULL) {
        scratch[0] = cluster->members[at];
        scratch[0].state = PC_MEMBER_DEAD;
        scratch[0].epoch = send->epoch;
        table->members = scratch;
        table->n_members = 1;
    }
}
