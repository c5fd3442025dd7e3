/*
 * What this node says unasked: beats to masters, to the silent and to seeds,
 * and tables to those who have another one.
 */
#include "state.h"

#include "base/mem.h"

#include <string.h>

/* Who is no master looks for lost seeds with this probability over the number
 * of nodes: all together some beats each time, however large the cluster. */
#define SEEKERS 8

static struct pc_cluster_send *new_send(struct pc_cluster *c,
                                        enum pc_msg_type type)
{
    if (c->n_sends == c->sends_capacity) {
        size_t n = c->sends_capacity == 0 ? 8 : 2 * c->sends_capacity;
        struct pc_cluster_send *sends = pc_realloc(c->sends, n, sizeof(*sends));
        if (sends == NULL) {
            return NULL;
        }
        c->sends = sends;
        c->sends_capacity = n;
    }
    struct pc_cluster_send *send = &c->sends[c->n_sends++];
    memset(send, 0, sizeof(*send));
    send->type = type;
    send->seed = -1;
    return send;
}

struct pc_cluster_send *pc_beat_add_send(struct pc_cluster *c,
                                         enum pc_msg_type type, size_t at)
{
    struct pc_cluster_send *send = new_send(c, type);
    if (send != NULL) {
        send->member = c->members[at];
    }
    return send;
}

/* ---- Seeds ------------------------------------------------------------ */

static void beat_seed(struct pc_cluster *c, size_t seed)
{
    struct pc_cluster_send *send = new_send(c, PC_MSG_BEAT);
    if (send != NULL) {
        send->seed = (int32_t)seed;
    }
}

/* Whether a live member is known behind the seed's address. */
static bool is_manned(const struct pc_cluster *c, size_t seed)
{
    size_t at = pc_table_find(c, c->seeds[seed].who);
    return at == SELF || (c->phase == MEMBER && pc_table_is_live(c, at) &&
                          !c->seeds[seed].lost);
}

/* Seeds behind whose address nobody is known: somebody may start there, or
 * there is another cluster that formed apart. Who has masters looks seldom. */
static void beat_seeds(struct pc_cluster *c, uint64_t now_ns)
{
    bool often = c->phase == JOINING || c->am_master || c->contested ||
                 !pc_table_hears_master(c, now_ns);
    if (!often && pc_rand_below(&c->rand, 10) != 0) {
        return;
    }
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        if (!c->seeds[i].unused && !is_manned(c, i)) {
            beat_seed(c, i);
        }
    }
}

static uint64_t seek_gap(struct pc_cluster *c)
{
    uint64_t gap = c->params.heartbeat_ns / 8;
    return gap - gap / 4 + pc_rand_below(&c->rand, gap / 2 + 1);
}

void pc_beat_lost(struct pc_cluster *c, uint64_t incarnation, uint64_t now_ns)
{
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        if (c->seeds[i].who == incarnation && incarnation != 0) {
            c->seeds[i].lost = true;
            c->seek_until_ns = now_ns + c->params.member_ttl_ns;
            c->seek_ns = now_ns + seek_gap(c) / 2;
        }
    }
}

void pc_beat_seek(struct pc_cluster *c, uint64_t now_ns)
{
    bool any = false;
    if (now_ns < c->seek_ns) {
        return;
    }
    bool mine =
        c->am_master || pc_rand_below(&c->rand, c->n_live + 1) < SEEKERS;
    c->seek_ns = NEVER;
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        const struct seed_state *seed = &c->seeds[i];
        if (!seed->lost || seed->unused ||
            seed->who == pc_self_incarnation(c)) {
            continue;
        }
        any = true;
        if (mine) {
            beat_seed(c, i);
        }
    }
    if (any && (c->am_master || now_ns < c->seek_until_ns)) {
        c->seek_ns = now_ns + seek_gap(c);
    }
}

/* ---- Members ---------------------------------------------------------- */

/* No master is heard from: somebody else may know more than we do. */
static void beat_anybody(struct pc_cluster *c)
{
    if (c->n_members < 2) {
        return;
    }
    size_t at = 1 + pc_rand_below(&c->rand, c->n_members - 1);
    if (pc_table_is_live(c, at) && !c->watches[at].is_master) {
        (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
    }
}

/* Whether a master is behind the seed's address: who drains hears of everybody,
 * and tells nobody. */
static bool is_met_at(const struct pc_cluster *c, size_t seed)
{
    size_t at = pc_table_find(c, c->seeds[seed].who);
    return is_manned(c, seed) && c->members[at].state == PC_MEMBER_ALIVE;
}

/* The other part of a partition holds us dead as we hold it. Parts find each
 * other at the seeds; where no seed is left, masters try the dead in turn. */
static void beat_dead(struct pc_cluster *c)
{
    size_t n_dead = 0;
    size_t chosen = NOBODY;
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        if (is_met_at(c, i)) {
            return;
        }
    }
    for (size_t i = 1; i < c->n_members && c->am_master; i++) {
        if (c->members[i].state == PC_MEMBER_DEAD &&
            pc_rand_below(&c->rand, ++n_dead) == 0) {
            chosen = i;
        }
    }
    if (chosen != NOBODY) {
        (void)pc_beat_add_send(c, PC_MSG_BEAT, chosen);
    }
}

/* Beat to all masters, and to those we watch who have been silent for long. */
void pc_beat_members(struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t patience = c->params.member_ttl_ns / 2;
    for (size_t i = 1; i < c->n_members; i++) {
        const struct watch *w = &c->watches[i];
        if (pc_table_is_live(c, i) &&
            (w->is_master ||
             (c->am_master && now_ns - w->heard_ns >= patience))) {
            (void)pc_beat_add_send(c, PC_MSG_BEAT, i);
        }
    }
    if (!c->am_master && !pc_table_hears_master(c, now_ns)) {
        beat_anybody(c);
    }
}

void pc_beat_round(struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t beat = c->params.heartbeat_ns;
    c->next_beat_ns =
        now_ns + beat - beat / 10 + pc_rand_below(&c->rand, beat / 5 + 1);
    if (c->hold_ns > now_ns) {
        /* Whether we may have our id is known soon. */
        c->next_beat_ns = pc_min_u64(c->next_beat_ns, now_ns + c->retry_ns);
    }
    c->beat_now = false;
    c->fetched_view = 0;
    if (c->phase == MEMBER) {
        pc_beat_members(c, now_ns);
        beat_dead(c);
    }
    beat_seeds(c, now_ns);
}

static void push_to(struct pc_cluster *c, size_t at)
{
    uint64_t known = c->watches[at].table;
    /* Who never said what it has would have to be told all: it beats. */
    if (!pc_table_is_live(c, at) || known == 0 || known == c->table_hash) {
        return;
    }
    struct pc_cluster_send *send = pc_beat_add_send(c, PC_MSG_TABLE, at);
    if (send != NULL) {
        /* Once per word of its own: former views are long. */
        send->view =
            c->watches[at].is_foreign ? c->watches[at].view : c->view_hash;
        send->table = known;
        c->watches[at].is_foreign = false;
    }
}

void pc_beat_push_some(struct pc_cluster *c, uint64_t now_ns)
{
    size_t before = c->n_sends;
    while (c->push_at < c->n_members && c->n_sends - before < PC_PUSHES_MAX) {
        push_to(c, c->push_at++);
    }
    if (c->push_at < c->n_members) {
        c->push_ns = now_ns + pc_beat_push_step(c);
        return;
    }
    c->push_at = SELF + 1;
    c->push_ns = c->push_again ? now_ns + pc_beat_push_gap(c) : NEVER;
    c->push_again = false;
    c->last_push_ns = now_ns;
}

void pc_beat_push_all(struct pc_cluster *c)
{
    for (size_t i = SELF + 1; i < c->n_members; i++) {
        push_to(c, i);
    }
}
