/*
 * The machine: an event is applied to the table, then what is due is done, and
 * what follows from both is sent.
 */
#include "state.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

/* ---- Watching --------------------------------------------------------- */

/* We were not running: whoever was silent meanwhile may not have been. */
static void note_pause(struct pc_cluster *c, uint64_t now_ns)
{
    if (c->actions.next_tick_ns == NEVER ||
        now_ns <= c->actions.next_tick_ns + c->params.heartbeat_ns) {
        return;
    }
    c->counts.n_pauses++;
    for (size_t i = 1; i < c->n_members; i++) {
        c->watches[i].heard_ns = now_ns;
        c->watches[i].met = false;
        c->watches[i].asked_ns = 0;
        c->watches[i].claimed = false;
    }
    pc_claim_paused(c, now_ns);
    c->check_ns = now_ns;
}

/* What it said of its view and table. */
static void said(struct pc_cluster *c, size_t at, uint64_t view, uint64_t table)
{
    struct watch *w = &c->watches[at];
    w->is_foreign = view != 0 && !pc_views_is_known(c, view);
    w->view = view;
    w->table = table;
}

/* ---- Joining ---------------------------------------------------------- */

static void become_member(struct pc_cluster *c)
{
    c->phase = MEMBER;
    c->actions.joined = true;
    c->masters_changed = true;
    c->beat_now = true;
}

/* Our place among the seeds, or NOBODY. */
static size_t own_seed(const struct pc_cluster *c)
{
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        if (c->seeds[i].who == pc_self_incarnation(c)) {
            return i;
        }
    }
    return NOBODY;
}

/* A seed starts alone when no other seed can be expected to take it in: all
 * are silent, or they wait as well and come later in the list, or a heartbeat
 * has passed. Should two start alone, they merge. */
static void try_to_form(struct pc_cluster *c, uint64_t now_ns)
{
    if (c->phase != JOINING || now_ns < c->hold_ns) {
        return;
    }
    size_t own = own_seed(c);
    bool is_waiting = own == NOBODY && c->params.n_seeds > 0;
    for (size_t i = 0; i < c->params.n_seeds && own != NOBODY; i++) {
        const struct seed_state *seed = &c->seeds[i];
        if (seed->who != pc_self_incarnation(c) && !seed->silent &&
            !seed->unused && !(seed->idle && i > own) && now_ns < c->form_ns) {
            is_waiting = true;
        }
    }
    if (!is_waiting) {
        become_member(c);
    }
}

/* ---- Events ----------------------------------------------------------- */

static void on_start(struct pc_cluster *c, uint64_t now_ns)
{
    if (c->phase != IDLE) {
        return;
    }
    c->phase = JOINING;
    c->form_ns = now_ns + c->params.heartbeat_ns;
    c->beat_now = true;
}

static void on_beat(struct pc_cluster *c, const struct pc_cluster_event *event)
{
    const struct pc_msg_beat *beat = event->beat;
    uint64_t who = beat->self.incarnation;
    struct pc_member self = beat->self;
    if (!pc_claim_admit(c, &self, event->now_ns)) {
        return;
    }
    pc_table_merge(c, &self, who, event->now_ns);
    size_t at = pc_table_find(c, who);
    if (at == SELF || !pc_table_is_live(c, at) ||
        beat->self.epoch < c->members[at].epoch) {
        return;
    }
    pc_probe_heard(c, at, 0, event->now_ns);
    said(c, at, beat->view, beat->table);
    c->watches[at].load = beat->load;
    /* It knows a view that we do not, perhaps of another cluster: ask. */
    bool is_foreign = beat->view != 0 && !pc_views_is_known(c, beat->view) &&
                      beat->view != c->fetched_view;
    if (is_foreign && (c->phase == JOINING || c->am_master)) {
        c->fetched_view = beat->view;
        (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
    }
}

static void on_seed(struct pc_cluster *c, int32_t index, uint64_t who)
{
    if (index < 0 || (size_t)index >= c->params.n_seeds || who == 0) {
        return;
    }
    c->masters_changed = c->masters_changed || c->seeds[index].who != who;
    c->seeds[index].who = who;
    c->seeds[index].silent = false;
    c->seeds[index].lost = false;
    c->seeds[index].unused = false;
}

static void set_seed(struct pc_cluster *c, int32_t index, bool unused)
{
    if (index >= 0 && (size_t)index < c->params.n_seeds) {
        c->seeds[index] = (struct seed_state){.unused = unused};
        c->masters_changed = true;
        c->beat_now = c->beat_now || (!unused && c->phase != IDLE);
    }
}

static void on_table(struct pc_cluster *c, const struct pc_cluster_event *event)
{
    const struct pc_msg_table *table = event->table;
    uint64_t now_ns = event->now_ns;
    if (table->admission != PC_ADMISSION_OK) {
        pc_claim_told(c, table, now_ns);
        return;
    }
    pc_claim_met(c, event->peer, true);
    on_seed(c, event->seed, event->peer);
    if (event->seed >= 0 && (size_t)event->seed < c->params.n_seeds) {
        c->seeds[event->seed].idle = table->view == 0;
    }
    for (uint32_t i = 0; i < table->n_members; i++) {
        pc_table_merge(c, &table->members[i], event->peer, now_ns);
    }
    for (uint32_t i = 0; i < table->n_former; i++) {
        pc_views_learn(c, &table->former[i], now_ns);
    }
    if (c->phase == JOINING && table->view != 0 && table->n_members > 0 &&
        !table->more && !c->contested) {
        become_member(c);
    }
    if (table->base != 0) {
        c->differs = event->peer;
        c->base = table->base;
        c->wanted = table->table;
    }
    size_t at = pc_table_find(c, event->peer);
    if (at != SELF && pc_table_is_live(c, at)) {
        pc_probe_heard(c, at, event->asked_ns, now_ns);
        pc_load_learn(c, table, event->peer);
        if (table->view != 0) {
            said(c, at, table->view, table->table);
        }
    }
}

static void on_conn_lost(struct pc_cluster *c, uint64_t peer, uint64_t now_ns)
{
    size_t at = pc_table_find(c, peer);
    pc_beat_lost(c, peer, now_ns);
    if (c->phase == MEMBER && at != SELF && pc_table_is_live(c, at) &&
        (c->am_master || c->watches[at].is_master) &&
        pc_table_may_nudge(c, at, now_ns)) {
        (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
    }
}

static void set_republishing(struct pc_cluster *c, bool republishing)
{
    if (c->members[SELF].republishing != republishing) {
        pc_table_begin(c, SELF);
        c->members[SELF].republishing = republishing;
        pc_table_change_self(c, 0);
        pc_table_end(c, SELF);
    }
}

static void set_state(struct pc_cluster *c, enum pc_member_state state)
{
    if (c->members[SELF].state < state) {
        pc_table_begin(c, SELF);
        c->members[SELF].state = (uint8_t)state;
        pc_table_change_self(c, 0);
        pc_table_end(c, SELF);
        c->masters_changed = true;
        c->beat_now = true;
    }
}

/* Tell the masters; a master tells everybody. */
static void leave(struct pc_cluster *c, uint64_t now_ns)
{
    bool was_member = c->phase == MEMBER;
    set_state(c, PC_MEMBER_LEFT);
    c->phase = LEFT;
    (void)pc_views_update(c, now_ns); /* The table's hash; the view stays. */
    if (was_member) {
        pc_beat_members(c, now_ns);
        if (c->am_master) {
            pc_beat_push_all(c);
        }
    }
}

static void apply(struct pc_cluster *c, const struct pc_cluster_event *event)
{
    switch (event->type) {
    case PC_CLUSTER_START:
        on_start(c, event->now_ns);
        break;
    case PC_CLUSTER_TICK:
        break;
    case PC_CLUSTER_BEAT:
        on_beat(c, event);
        break;
    case PC_CLUSTER_TABLE:
        on_table(c, event);
        break;
    case PC_CLUSTER_SILENT:
        if (event->seed >= 0 && (size_t)event->seed < c->params.n_seeds) {
            c->seeds[event->seed].silent = true;
        } else {
            pc_probe_unanswered(c, event->peer, event->now_ns);
            pc_claim_met(c, event->peer, false);
        }
        break;
    case PC_CLUSTER_PROBED:
        pc_probe_answer(c, event);
        break;
    case PC_CLUSTER_SEED_GONE:
    case PC_CLUSTER_SEED_NEW:
        set_seed(c, event->seed, event->type == PC_CLUSTER_SEED_GONE);
        break;
    case PC_CLUSTER_CONN_LOST:
        on_conn_lost(c, event->peer, event->now_ns);
        break;
    case PC_CLUSTER_SEED_IS_US:
        on_seed(c, event->seed, pc_self_incarnation(c));
        break;
    case PC_CLUSTER_REPUBLISH:
        set_republishing(c, event->republishing);
        break;
    case PC_CLUSTER_DRAIN:
        set_state(c, PC_MEMBER_DRAINING);
        break;
    case PC_CLUSTER_LEAVE:
        leave(c, event->now_ns);
        break;
    }
}

/* ---- The step --------------------------------------------------------- */

static uint64_t next_tick(const struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t next =
        pc_min_u64(c->next_beat_ns, pc_min_u64(c->check_ns, c->push_ns));
    if (c->phase == JOINING && own_seed(c) != NOBODY) {
        next =
            pc_min_u64(next, c->form_ns > c->hold_ns ? c->form_ns : c->hold_ns);
    }
    if (c->rival.member.incarnation != 0) {
        next = pc_min_u64(next, c->rival.due_ns);
    }
    next = pc_min_u64(next, pc_min_u64(c->seek_ns, pc_views_due(c, now_ns)));
    return next < now_ns ? now_ns : next;
}

/* Somebody holds alive whom we hold dead, perhaps itself: show it our table.
 * It knows better, tells the member, or believes us. */
static void answer_dispute(struct pc_cluster *c, uint64_t now_ns)
{
    size_t at = pc_table_find(c, c->disputed);
    if (c->disputed != 0 && at != NOBODY && at != SELF && c->phase == MEMBER &&
        pc_table_may_nudge(c, at, now_ns)) {
        (void)pc_beat_add_send(c, PC_MSG_TABLE, at);
    }
}

/* A difference to a table that was not ours does not make us equal: ask. */
static void ask_for_rest(struct pc_cluster *c, uint64_t before, uint64_t now_ns)
{
    size_t at = pc_table_find(c, c->differs);
    if (c->differs != 0 && at != NOBODY && at != SELF && c->phase == MEMBER &&
        c->base != before && c->wanted != c->table_hash &&
        pc_table_may_nudge(c, at, now_ns)) {
        (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
    }
}

static void want_push(struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t gap = pc_beat_push_gap(c);
    if (!c->am_master || (!c->actions.view_changed && !c->learned)) {
        return;
    }
    if (c->push_at > SELF + 1) {
        c->push_again = true;
    } else if (c->push_ns == NEVER) {
        /* Many are told from the next step on: this one has a view to change.
         */
        c->push_ns =
            now_ns +
            (c->n_members > PC_PUSHES_MAX + 1 ? pc_beat_push_step(c) : 0);
        if (c->last_push_ns != 0 && now_ns < c->last_push_ns + gap) {
            c->push_ns = c->last_push_ns + gap;
        }
    }
}

/* All that is due and all that follows from the event. */
static void follow_up(struct pc_cluster *c, uint64_t now_ns)
{
    bool is_round = c->next_beat_ns <= now_ns || c->beat_now;
    uint64_t before = c->table_hash;
    try_to_form(c, now_ns);
    pc_claim_watch(c, now_ns);
    if (is_round || c->check_ns <= now_ns) {
        pc_probe_watch(c, now_ns);
    }
    if (is_round) {
        pc_table_forget_old(c, now_ns);
    }
    pc_views_expire(c, now_ns);
    if (!pc_views_update(c, now_ns)) {
        c->check_ns = now_ns + c->params.heartbeat_ns / 10; /* Try again. */
    }
    if (is_round || c->beat_now) {
        pc_beat_round(c, now_ns);
    }
    pc_beat_seek(c, now_ns);
    c->is_sharing = now_ns < c->share_until_ns;
    want_push(c, now_ns);
    if (c->push_ns <= now_ns) {
        pc_beat_push_some(c, now_ns);
    }
    answer_dispute(c, now_ns);
    ask_for_rest(c, before, now_ns);
}

static void begin_step(struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t next_tick_ns = c->actions.next_tick_ns;
    memset(&c->actions, 0, sizeof(c->actions));
    c->actions.next_tick_ns = next_tick_ns;
    c->n_sends = 0;
    c->disputed = 0;
    c->differs = 0;
    c->learned = false;
    c->contested = false;
    c->step_ns = now_ns;
}

peercache_status_t pc_cluster_step(struct pc_cluster *c,
                                   const struct pc_cluster_event *event,
                                   struct pc_cluster_actions *actions)
{
    size_t n_new =
        event->type == PC_CLUSTER_TABLE ? event->table->n_members : 1;
    if (!pc_table_reserve(c, n_new)) {
        return PEERCACHE_NO_MEMORY;
    }
    begin_step(c, event->now_ns);
    if (c->phase == JOINING || c->phase == MEMBER) {
        note_pause(c, event->now_ns);
        apply(c, event);
    } else if (c->phase == IDLE && (event->type == PC_CLUSTER_START ||
                                    event->type == PC_CLUSTER_SEED_IS_US ||
                                    event->type == PC_CLUSTER_SEED_GONE ||
                                    event->type == PC_CLUSTER_SEED_NEW ||
                                    event->type == PC_CLUSTER_DRAIN ||
                                    event->type == PC_CLUSTER_REPUBLISH)) {
        apply(c, event);
    }
    if (c->phase == JOINING || c->phase == MEMBER) {
        follow_up(c, event->now_ns);
        c->actions.next_tick_ns = next_tick(c, event->now_ns);
    } else {
        c->actions.next_tick_ns = NEVER;
    }
    if (c->phase == SUPERSEDED) {
        c->n_sends = 0;
    }
    c->actions.send = c->sends;
    c->actions.n_send = c->n_sends;
    *actions = c->actions;
    return PEERCACHE_OK;
}

/* ---- Life ------------------------------------------------------------- */

static struct pc_cluster_params checked(const struct pc_cluster_params *params)
{
    struct pc_cluster_params p = *params;
    p.max_masters = p.max_masters == 0 ? 1 : p.max_masters;
    p.max_masters = p.max_masters > PC_NODES_MAX ? PC_NODES_MAX : p.max_masters;
    p.heartbeat_ns = p.heartbeat_ns == 0 ? 1 : p.heartbeat_ns;
    p.self.epoch = p.self.epoch == 0 ? 1 : p.self.epoch;
    return p;
}

struct pc_cluster *pc_cluster_create(const struct pc_cluster_params *params)
{
    struct pc_cluster *c = pc_alloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->params = checked(params);
    c->next_beat_ns = NEVER;
    c->check_ns = NEVER;
    c->push_ns = NEVER;
    c->push_at = SELF + 1;
    c->form_ns = NEVER;
    c->seek_ns = NEVER;
    c->actions.next_tick_ns = NEVER;
    pc_rand_init(&c->rand, params->seed);
    pc_map_init(&c->by_id);
    pc_map_init(&c->by_incarnation);
    c->seeds = pc_alloc(params->n_seeds + 1, sizeof(*c->seeds));
    c->masters = pc_alloc(c->params.max_masters, sizeof(*c->masters));
    if (c->seeds == NULL || c->masters == NULL || !pc_table_reserve(c, 1)) {
        pc_cluster_destroy(c);
        return NULL;
    }
    (void)pc_table_add(c, &c->params.self, 0);
    return c;
}

void pc_cluster_destroy(struct pc_cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    pc_views_fini(cluster);
    pc_map_fini(&cluster->by_id);
    pc_map_fini(&cluster->by_incarnation);
    pc_free(cluster->members);
    pc_free(cluster->watches);
    pc_free(cluster->graves);
    pc_free(cluster->seeds);
    pc_free(cluster->masters);
    pc_free(cluster->sends);
    pc_free(cluster->scratch);
    pc_free(cluster);
}

void pc_cluster_tune(struct pc_cluster *cluster, uint64_t member_ttl_ns,
                     uint32_t max_masters)
{
    if (member_ttl_ns >= 2 * cluster->params.heartbeat_ns &&
        member_ttl_ns <= NEVER >> DOUBTS_MAX >> 1) {
        cluster->params.member_ttl_ns = member_ttl_ns;
    }
    if (max_masters == 0 || max_masters > PC_NODES_MAX ||
        max_masters == cluster->params.max_masters) {
        return;
    }
    size_t *masters =
        pc_realloc(cluster->masters, max_masters, sizeof(*masters));
    if (masters == NULL) {
        return;
    }
    cluster->masters = masters;
    cluster->params.max_masters = max_masters;
    cluster->n_masters = 0;
    cluster->masters_changed = true;
}

bool pc_cluster_is_joined(const struct pc_cluster *cluster)
{
    return cluster->phase == MEMBER;
}

void pc_cluster_counts(const struct pc_cluster *cluster,
                       struct pc_cluster_counts *counts)
{
    *counts = cluster->counts;
    counts->n_members = cluster->n_members;
    counts->n_live = cluster->n_live;
    counts->n_masters = cluster->n_masters;
    counts->am_master = cluster->am_master;
    counts->n_graves = cluster->n_graves;
    counts->n_former = cluster->n_former;
}
