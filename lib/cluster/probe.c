/*
 * Who is silent is suspected; who is suspected is probed by others; who does
 * not answer them either is dead.
 *
 *     heard or vouched for ──► SILENT ── patience is nearly over ──► ASKED
 *              ▲                                                       │
 *              │   one of the others reached it                        │
 *              ├───────────────────────────────────────────────────────┤
 *              │   nobody did, and patience is over                    ▼
 *              └── (raises its epoch) ◄──────────────────────────── DEAD
 *
 * When nobody of those who were asked answers, others are asked once more; who
 * has nobody left to ask decides alone, so the smaller part of a partition
 * comes to a view of its own.
 */
#include "state.h"

#define HELPERS_MAX 2 /* Asked at once by a master; one by others. */
#define ROUNDS_MAX  2
#define TRIES       16 /* To find a helper among many. */
/* A death is declared of so many epochs after the last one that is known: what
 * the member said shortly before it died, and only others heard, must not raise
 * it again. A member that lives goes beyond what it is told. */
#define EPOCHS_UNHEARD 1024

/* How long before the end of patience others are asked: connecting to the
 * silent one takes time, and the answer shall be there at the end. */
static uint64_t ask_time(const struct pc_cluster *c)
{
    return c->params.heartbeat_ns / 4 * 3;
}

static uint64_t patience_with(const struct pc_cluster *c, const struct watch *w)
{
    return c->params.member_ttl_ns << w->n_doubts;
}

/* Another node wants the id of this one, which seems to live: what it said, or
 * was seen to do, before that was asked may have come late, and it may be gone
 * by now. A node that starts again is not refused for that. */
static bool is_too_old(const struct watch *w, uint64_t asked_ns)
{
    return w->claimed && asked_ns < w->asked_ns;
}

void pc_probe_heard(struct pc_cluster *c, size_t at, uint64_t asked_ns,
                    uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    w->heard_ns = now_ns;
    w->met = true;
    w->n_doubts = 0;
    if (is_too_old(w, asked_ns)) {
        return; /* Its answer to what it was asked then is still to come. */
    }
    w->asked_ns = 0;
    w->n_rounds = 0;
    if (w->claimed) {
        w->claimed = false;
        w->refused_ns = now_ns + c->params.heartbeat_ns;
    }
}

/* A master hears from everybody; others choose blindly. */
static bool can_help(const struct pc_cluster *c, size_t at, size_t about,
                     uint64_t now_ns)
{
    const struct watch *w = &c->watches[at];
    bool hears = c->am_master || w->is_master;
    return at != about && pc_table_is_live(c, at) && w->asked_ns == 0 &&
           (!hears || now_ns - w->heard_ns < c->params.member_ttl_ns / 2);
}

size_t pc_probe_find_helper(struct pc_cluster *c, size_t about, size_t other,
                            uint64_t now_ns)
{
    if (c->n_members < 3) {
        return NOBODY;
    }
    for (unsigned i = 0; i < TRIES; i++) {
        size_t at = 1 + pc_rand_below(&c->rand, c->n_members - 1);
        if (at != other && can_help(c, at, about, now_ns)) {
            return at;
        }
    }
    /* Few can: do not leave it to luck. */
    for (size_t at = 1; at < c->n_members; at++) {
        if (at != other && can_help(c, at, about, now_ns)) {
            return at;
        }
    }
    return NOBODY;
}

void pc_probe_ask(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    size_t helper = NOBODY;
    w->asked_ns = now_ns;
    w->n_helpers = 0;
    w->n_asked = 0;
    w->n_silent = 0;
    w->unanswered = false;
    for (int i = 0; i < (c->am_master ? HELPERS_MAX : 1); i++) {
        helper = pc_probe_find_helper(c, at, helper, now_ns);
        struct pc_cluster_send *send =
            helper == NOBODY ? NULL : pc_beat_add_send(c, PC_MSG_PROBE, helper);
        if (send == NULL) {
            break;
        }
        send->about = c->members[at].incarnation;
        w->n_helpers++;
        w->n_asked++;
        c->counts.n_probes++;
    }
}

static void declare(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    w->declared = true;
    w->claimed = false;
    w->asked_ns = 0;
    w->n_rounds = 0;
    c->counts.n_declared++;
    pc_beat_lost(c, c->members[at].incarnation, now_ns);
    pc_table_begin(c, at);
    c->members[at].epoch += EPOCHS_UNHEARD;
    pc_table_end(c, at);
    pc_table_end_member(c, at, PC_MEMBER_DEAD, now_ns);
}

/* All that could be asked have answered, or time is up. NEVER: it is dead,
 * else when to look again. */
static uint64_t judge(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    uint64_t end_ns = w->asked_ns + c->params.heartbeat_ns;
    bool open = w->n_asked > 0 || (w->claimed && !w->unanswered);
    if (open && now_ns < end_ns) {
        return end_ns;
    }
    bool know_nothing = w->n_helpers > 0 && w->n_silent == 0;
    if (know_nothing && ++w->n_rounds < ROUNDS_MAX) {
        pc_probe_ask(c, at, now_ns);
        if (w->n_asked > 0) {
            return now_ns + c->params.heartbeat_ns;
        }
    }
    declare(c, at, now_ns);
    return NEVER;
}

/* A process that was killed refuses connections at once. One that just does
 * not answer may be busy: whoever wants its id waits as long as a death needs.
 */
static bool may_be_busy(const struct pc_cluster *c, const struct watch *w,
                        uint64_t due_ns, uint64_t now_ns)
{
    return now_ns < due_ns &&
           now_ns - w->asked_ns >= c->params.heartbeat_ns / 4 &&
           (w->n_asked == 0 || now_ns - w->asked_ns >= c->params.heartbeat_ns);
}

/* When to look at it again. */
static uint64_t watch_member(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    uint64_t since = w->heard_ns > w->vouched_ns ? w->heard_ns : w->vouched_ns;
    uint64_t due_ns = since + patience_with(c, w);
    if (w->claimed && may_be_busy(c, w, due_ns, now_ns)) {
        w->claimed = false; /* The next beat of the other claims it again. */
        w->asked_ns = 0;
    }
    if (w->claimed) {
        return judge(c, at, now_ns);
    }
    if (!c->am_master && (!w->is_master || pc_table_hears_master(c, now_ns))) {
        /* The masters see to it, but they may be silent by then. */
        return w->is_master && due_ns > now_ns ? due_ns : NEVER;
    }
    if (now_ns + ask_time(c) < due_ns) {
        return due_ns - ask_time(c);
    }
    if (w->asked_ns == 0) {
        pc_probe_ask(c, at, now_ns);
    }
    return now_ns < due_ns ? due_ns : judge(c, at, now_ns);
}

void pc_probe_watch(struct pc_cluster *c, uint64_t now_ns)
{
    c->check_ns = NEVER;
    if (c->phase != MEMBER) {
        return;
    }
    for (size_t i = 1; i < c->n_members; i++) {
        if (pc_table_is_live(c, i)) {
            uint64_t again_ns = watch_member(c, i, now_ns);
            c->check_ns = pc_min_u64(c->check_ns, again_ns);
        }
    }
}

static void vouch(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    w->vouched_ns = now_ns;
    w->asked_ns = 0;
    w->n_rounds = 0;
    c->counts.n_vouched++;
    if (w->claimed) {
        w->claimed = false;
        w->refused_ns = now_ns + c->params.heartbeat_ns;
    }
}

void pc_probe_answer(struct pc_cluster *c, const struct pc_cluster_event *event)
{
    if (pc_claim_probed(c, event)) {
        return;
    }
    size_t at = pc_table_find(c, event->about);
    size_t helper = pc_table_find(c, event->peer);
    if (at == NOBODY || at == SELF || !pc_table_is_live(c, at) ||
        c->watches[at].asked_ns == 0 || c->watches[at].n_asked == 0 ||
        helper == at || is_too_old(&c->watches[at], event->asked_ns)) {
        c->counts.n_late++; /* It was heard from meanwhile, or never asked. */
        return;
    }
    struct watch *w = &c->watches[at];
    w->n_asked--;
    if (event->verdict == PC_PROBED_ALIVE) {
        vouch(c, at, event->now_ns);
        return;
    }
    w->n_silent += event->verdict == PC_PROBED_SILENT;
    if (w->n_asked == 0) {
        c->check_ns = event->now_ns;
    }
}

void pc_probe_unanswered(struct pc_cluster *c, uint64_t incarnation,
                         uint64_t now_ns)
{
    size_t at = pc_table_find(c, incarnation);
    if (at != NOBODY && at != SELF && c->watches[at].claimed) {
        c->watches[at].unanswered = true;
        c->check_ns = now_ns;
    }
}
