/*
 * The table: what is known of every member, and the rules by which it merges.
 */
#include "state.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/view.h"

#include <string.h>

/* No cluster comes so far; beyond, one could not be answered with a larger one
 * for ever. */
#define EPOCHS_END     ((uint64_t)1 << 62)
#define ADMISSIONS_END ((uint32_t)1 << 30)

static struct pc_digest id_key(const struct pc_node_id *id)
{
    size_t len = strlen(id->text);
    return (struct pc_digest){pc_hash64(id->text, len, 1),
                              pc_hash64(id->text, len, 2)};
}

size_t pc_table_find_id(const struct pc_cluster *c, const struct pc_node_id *id)
{
    uint64_t at;
    return pc_map_get(&c->by_id, id_key(id), &at) ? (size_t)at : NOBODY;
}

size_t pc_table_find(const struct pc_cluster *c, uint64_t incarnation)
{
    uint64_t at;
    if (!pc_map_get(&c->by_incarnation, pc_map_key(incarnation), &at) ||
        (at & GRAVE_BIT) != 0) {
        return NOBODY;
    }
    return (size_t)at;
}

bool pc_table_is_live(const struct pc_cluster *c, size_t at)
{
    return at != NOBODY && pc_view_has(&c->members[at]);
}

bool pc_cluster_is_dead(const struct pc_cluster *cluster, uint64_t incarnation)
{
    size_t at = pc_table_find(cluster, incarnation);
    return at != NOBODY ? !pc_view_has(&cluster->members[at])
                        : pc_graves_find(cluster, incarnation) != NULL;
}

const struct pc_member *pc_cluster_find(const struct pc_cluster *cluster,
                                        uint64_t incarnation)
{
    size_t at = pc_table_find(cluster, incarnation);
    return at == NOBODY ? NULL : &cluster->members[at];
}

const struct pc_member *pc_cluster_all(const struct pc_cluster *cluster,
                                       size_t *n_p)
{
    *n_p = cluster->n_members;
    return cluster->members;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Room for all that one step may add, so that nothing fails half-way: every
 * member may be new, and every member, old or new, may get a grave. */
bool pc_table_reserve(struct pc_cluster *c, size_t n_new)
{
    size_t n = min_size(c->n_members + n_new, PC_NODES_MAX);
    size_t n_graves = c->n_graves + c->n_members + n_new;
    if (!pc_graves_reserve(c, n_graves) || !pc_map_reserve(&c->by_id, n) ||
        !pc_map_reserve(&c->by_incarnation,
                        n + min_size(n_graves, GRAVES_MAX) + 1)) {
        return false;
    }
    if (n <= c->capacity) {
        return true;
    }
    n = min_size(n < 8 ? 8 : n + n / 2, PC_NODES_MAX);
    struct pc_member *members = pc_realloc(c->members, n, sizeof(*members));
    if (members == NULL) {
        return false;
    }
    c->members = members;
    struct watch *watches = pc_realloc(c->watches, n, sizeof(*watches));
    if (watches == NULL) {
        return false;
    }
    c->watches = watches;
    c->capacity = n;
    return true;
}

/* Part of the table's hash: everything that a member says of itself. Who is
 * dead is left out: nodes forget the dead at different times, and whoever
 * holds a dead one alive differs already. */
static uint64_t table_part(const struct pc_member *member)
{
    uint64_t facts[4] = {pc_view_part(member), member->epoch,
                         member->republishing, member->admission};
    return pc_hash64(facts, sizeof(facts), 0);
}

void pc_table_begin(struct pc_cluster *c, size_t at)
{
    const struct pc_member *member = &c->members[at];
    if (pc_view_has(member)) {
        c->view_sum -= pc_view_part(member);
        c->table_sum -= table_part(member);
        c->n_live--;
    }
}

void pc_table_end(struct pc_cluster *c, size_t at)
{
    const struct pc_member *member = &c->members[at];
    if (pc_view_has(member)) {
        c->view_sum += pc_view_part(member);
        c->table_sum += table_part(member);
        c->n_live++;
    }
    c->watches[at].changed = ++c->n_changes;
}

static void index_member(struct pc_cluster *c, size_t at)
{
    const struct pc_member *member = &c->members[at];
    bool ok =
        pc_map_put(&c->by_id, id_key(&member->id), at) &&
        pc_map_put(&c->by_incarnation, pc_map_key(member->incarnation), at);
    PC_ASSERT(ok);
    (void)ok;
}

size_t pc_table_add(struct pc_cluster *c, const struct pc_member *member,
                    uint64_t now_ns)
{
    PC_ASSERT(c->n_members < c->capacity);
    size_t at = c->n_members++;
    pc_graves_remove(c, member->incarnation);
    c->members[at] = *member;
    memset(&c->watches[at], 0, sizeof(c->watches[at]));
    c->watches[at].heard_ns = now_ns;
    c->watches[at].ended_ns = now_ns;
    c->watches[at].is_foreign = true; /* Until it says what it knows. */
    index_member(c, at);
    pc_table_end(c, at);
    c->masters_changed = true;
    return at;
}

/* A dead member goes from the table; that it is dead stays known. */
static void bury(struct pc_cluster *c, size_t at)
{
    uint64_t incarnation = c->members[at].incarnation;
    struct grave grave = {incarnation, c->members[at].epoch,
                          c->members[at].admission};
    PC_ASSERT(at != SELF && !pc_table_is_live(c, at));
    pc_map_remove(&c->by_id, id_key(&c->members[at].id));
    pc_map_remove(&c->by_incarnation, pc_map_key(incarnation));
    pc_graves_add(c, grave);
    size_t last = --c->n_members;
    if (at != last) {
        c->members[at] = c->members[last];
        c->watches[at] = c->watches[last];
        index_member(c, at);
    }
    c->masters_changed = true;
}

void pc_table_forget_old(struct pc_cluster *c, uint64_t now_ns)
{
    for (size_t i = c->n_members; i-- > 1;) {
        if (!pc_table_is_live(c, i) &&
            now_ns - c->watches[i].ended_ns >= DEAD_KEEP_NS) {
            bury(c, i);
        }
    }
}

/* Room for a new member, if need be in the place of the longest dead. */
static bool make_place(struct pc_cluster *c)
{
    size_t oldest = NOBODY;
    if (c->n_members < PC_NODES_MAX) {
        return true;
    }
    for (size_t i = 1; i < c->n_members; i++) {
        if (!pc_table_is_live(c, i) &&
            (oldest == NOBODY ||
             c->watches[i].ended_ns < c->watches[oldest].ended_ns)) {
            oldest = i;
        }
    }
    if (oldest == NOBODY) {
        c->counts.n_ignored++;
        return false;
    }
    bury(c, oldest);
    return true;
}

void pc_table_end_member(struct pc_cluster *c, size_t at, uint8_t state,
                         uint64_t now_ns)
{
    bool was_live = pc_table_is_live(c, at);
    pc_table_begin(c, at);
    c->members[at].state = state;
    if (was_live) {
        c->watches[at].ended_ns = now_ns;
        c->masters_changed = true;
    }
    pc_table_end(c, at);
}

/* Everything that we say of ourselves comes with a new epoch, so that the new
 * word wins everywhere; the caller changes the rest before. */
void pc_table_change_self(struct pc_cluster *c, uint64_t epoch)
{
    if (c->members[SELF].epoch < epoch) {
        c->members[SELF].epoch = epoch;
    }
    c->members[SELF].epoch++;
}

bool pc_table_is_later(const struct pc_member *a, const struct pc_member *b)
{
    return a->admission != b->admission ? a->admission > b->admission
                                        : a->incarnation > b->incarnation;
}

static void admit(struct pc_cluster *c, size_t at, uint32_t admission)
{
    if (c->members[at].admission < admission) {
        pc_table_begin(c, at);
        c->members[at].admission = admission;
        pc_table_end(c, at);
    }
}

void pc_table_outbid(struct pc_cluster *c, const struct pc_member *rival)
{
    pc_table_begin(c, SELF);
    c->members[SELF].admission = rival->admission + 1;
    pc_table_change_self(c, 0);
    pc_table_end(c, SELF);
    c->beat_now = true;
}

/* Somebody tells of another node with our id. */
static void merge_twin(struct pc_cluster *c, const struct pc_member *m,
                       uint64_t from)
{
    const struct pc_member *self = &c->members[SELF];
    if (pc_table_is_later(self, m)) {
        pc_graves_add_loser(c, m->incarnation, self);
    } else if (!pc_view_has(m)) {
        /* It is dead: who admitted us did not know of it. */
        pc_table_outbid(c, m);
    } else if (self->admission == 0) {
        /* We are what nobody has admitted: ask for it. */
        c->contested = true;
        c->next_beat_ns = pc_min_u64(c->next_beat_ns,
                                     c->step_ns + c->params.heartbeat_ns / 8);
    } else {
        pc_claim_meet(c, m, from);
    }
}

/* Somebody tells of us. */
static void merge_self(struct pc_cluster *c, const struct pc_member *m,
                       uint64_t from)
{
    const struct pc_member *self = &c->members[SELF];
    if (m->incarnation != self->incarnation) {
        merge_twin(c, m, from);
        return;
    }
    admit(c, SELF, m->admission);
    if (m->epoch < self->epoch ||
        (m->epoch == self->epoch && m->state <= self->state)) {
        return;
    }
    bool was_ended = !pc_view_has(m);
    pc_table_begin(c, SELF);
    pc_table_change_self(c, m->epoch);
    pc_table_end(c, SELF);
    c->beat_now = true;
    if (was_ended && c->phase != LEFT) {
        c->actions.refuted = true;
        c->counts.n_refuted++;
    }
}

bool pc_table_hears_master(const struct pc_cluster *c, uint64_t now_ns)
{
    for (size_t i = 1; i < c->n_members; i++) {
        const struct watch *w = &c->watches[i];
        if (w->is_master && w->met && pc_table_is_live(c, i) &&
            now_ns - w->heard_ns < c->params.member_ttl_ns) {
            return true;
        }
    }
    return false;
}

bool pc_table_may_nudge(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    if (w->nudged_ns != 0 && now_ns - w->nudged_ns < c->params.heartbeat_ns) {
        return false;
    }
    w->nudged_ns = now_ns;
    return true;
}

/* Is a third party's word enough that a member is dead? If not, see to it that
 * the truth comes out: tell the member, who will refute, or beat to it. */
static bool believe_death(struct pc_cluster *c, size_t at,
                          const struct pc_member *m, uint64_t from,
                          uint64_t now_ns)
{
    const struct watch *w = &c->watches[at];
    size_t teller = pc_table_find(c, from);
    bool fresh = w->met && now_ns - w->heard_ns < c->params.member_ttl_ns / 2;
    if (fresh) {
        if (pc_table_may_nudge(c, at, now_ns)) {
            struct pc_cluster_send *send =
                pc_beat_add_send(c, PC_MSG_TABLE, at);
            if (send != NULL) {
                send->about = m->incarnation;
                send->epoch = m->epoch;
            }
            c->watches[at].noticed = true;
        }
        return false;
    }
    if (c->phase != MEMBER) {
        return true;
    }
    if (teller != NOBODY && c->watches[teller].is_master &&
        now_ns >= c->watches[teller].trusted_ns) {
        return true;
    }
    if (c->am_master) {
        if (pc_table_may_nudge(c, at, now_ns)) {
            (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
        }
        return false;
    }
    return !pc_table_hears_master(c, now_ns);
}

static void came_back(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    w->heard_ns = now_ns;
    w->met = false;
    w->asked_ns = 0;
    w->claimed = false;
    /* It was cut off or paused, and may hold dead whom it could not hear. */
    w->trusted_ns = now_ns + c->params.member_ttl_ns;
    if (w->declared) {
        /* We cannot hear it, but it lives: be slower next time, so that one
         * bad path does not make the cluster flap. */
        w->n_doubts += w->n_doubts < DOUBTS_MAX;
        w->declared = false;
    }
    c->masters_changed = true;
}

static void merge_same(struct pc_cluster *c, size_t at,
                       const struct pc_member *m, uint64_t from,
                       uint64_t now_ns)
{
    struct pc_member *known = &c->members[at];
    bool was_live = pc_view_has(known);
    bool is_live = pc_view_has(m);
    admit(c, at, m->admission);
    if (m->epoch < known->epoch) {
        c->counts.n_late++;
        if (!was_live && is_live) {
            c->disputed = from;
        }
        return;
    }
    if (m->epoch == known->epoch && m->state <= known->state) {
        if (!was_live && is_live) {
            c->disputed = from;
        }
        return;
    }
    if (was_live && m->state == PC_MEMBER_DEAD &&
        !believe_death(c, at, m, from, now_ns)) {
        return;
    }
    if (m->epoch == known->epoch) {
        pc_table_end_member(c, at, m->state, now_ns);
        return;
    }
    uint32_t admission = known->admission;
    pc_table_begin(c, at);
    *known = *m;
    known->admission = admission;
    pc_table_end(c, at);
    if (was_live != is_live) {
        c->watches[at].ended_ns = now_ns;
        c->masters_changed = true;
    }
    if (!was_live && is_live) {
        came_back(c, at, now_ns);
    }
    if (c->watches[at].noticed) {
        c->watches[at].noticed = false;
        c->learned = true;
    }
}

/* A node that was admitted later has its id now. */
static void supersede(struct pc_cluster *c, size_t at,
                      const struct pc_member *m, uint64_t now_ns)
{
    uint64_t old = c->members[at].incarnation;
    pc_graves_remove(c, m->incarnation);
    pc_table_begin(c, at);
    pc_map_remove(&c->by_incarnation, pc_map_key(old));
    pc_graves_add_loser(c, old, m);
    c->members[at] = *m;
    memset(&c->watches[at], 0, sizeof(c->watches[at]));
    c->watches[at].heard_ns = now_ns;
    c->watches[at].ended_ns = now_ns;
    c->watches[at].is_foreign = true; /* Until it says what it knows. */
    index_member(c, at);
    pc_table_end(c, at);
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        if (c->seeds[i].who == old) {
            c->seeds[i].who = m->incarnation;
        }
    }
    c->masters_changed = true;
}

static void merge_new(struct pc_cluster *c, const struct pc_member *m,
                      uint64_t now_ns)
{
    if (pc_view_has(m)) {
        if (make_place(c)) {
            (void)pc_table_add(c, m, now_ns);
        }
        return;
    }
    pc_graves_add(c, (struct grave){m->incarnation, m->epoch, m->admission});
}

/* True: this incarnation is in its grave. If somebody holds it alive it becomes
 * a dead member again, so that our tables say so and it may refute. */
static bool is_buried(struct pc_cluster *c, size_t at,
                      const struct pc_member *m, uint64_t from, uint64_t now_ns)
{
    const struct grave *grave = pc_graves_find(c, m->incarnation);
    if (grave == NULL || m->epoch > grave->epoch ||
        m->admission > grave->admission) {
        return false;
    }
    if (!pc_view_has(m) || grave->epoch == NEVER) {
        return true;
    }
    struct pc_member dead = *m;
    dead.epoch = grave->epoch;
    dead.state = PC_MEMBER_DEAD;
    dead.admission = grave->admission;
    if (at == NOBODY && make_place(c)) {
        (void)pc_table_add(c, &dead, now_ns);
        c->disputed = from;
    } else if (at != NOBODY && pc_table_is_later(&dead, &c->members[at])) {
        supersede(c, at, &dead, now_ns);
        c->disputed = from;
    }
    return true;
}

static bool is_sound(const struct pc_member *m)
{
    return m->incarnation != 0 && m->epoch < EPOCHS_END &&
           m->admission < ADMISSIONS_END && m->state <= PC_MEMBER_DEAD &&
           m->role <= PC_ROLE_CLIENT && pc_node_id_is_valid(m->id.text);
}

void pc_table_merge(struct pc_cluster *c, const struct pc_member *m,
                    uint64_t from, uint64_t now_ns)
{
    if (!is_sound(m)) {
        c->counts.n_forged++;
        return;
    }
    size_t at = pc_table_find_id(c, &m->id);
    size_t other = pc_table_find(c, m->incarnation);
    if (other != NOBODY && other != at) {
        c->counts.n_forged++;
        return; /* Incarnations are unique; this one has another id. */
    }
    if (at == SELF) {
        merge_self(c, m, from);
        return;
    }
    if (is_buried(c, at, m, from, now_ns)) {
        return;
    }
    if (at == NOBODY) {
        merge_new(c, m, now_ns);
    } else if (c->members[at].incarnation == m->incarnation) {
        merge_same(c, at, m, from, now_ns);
    } else if (pc_table_is_later(m, &c->members[at])) {
        supersede(c, at, m, now_ns);
    } else {
        if (!pc_table_is_live(c, at) && pc_view_has(m)) {
            c->disputed = from; /* It does not know of that one's death. */
        }
        pc_graves_add_loser(c, m->incarnation, &c->members[at]);
    }
}
