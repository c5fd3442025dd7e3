/*
 * Who may have an id: a node that nobody has admitted yet beats, and its id is
 * another's. Is that one alive?
 */
#include "state.h"

#include <string.h>

#define HELPERS 2 /* Asked at once whether they reach a rival, */
#define ROUNDS  2 /* and so often, unless one knows. */

/* Two that nobody has admitted, one of them we: the elder refuses. */
static bool we_refuse(const struct pc_cluster *c, const struct pc_member *m)
{
    const struct pc_member *self = &c->members[SELF];
    return c->phase == MEMBER &&
           (self->admission > 0 || self->incarnation < m->incarnation);
}

static void look_into(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    if (w->claimed || now_ns < w->refused_ns) {
        return;
    }
    w->claimed = true;
    pc_probe_ask(c, at, now_ns);
    (void)pc_beat_add_send(c, PC_MSG_BEAT, at);
    c->check_ns = pc_min_u64(c->check_ns, now_ns + c->params.heartbeat_ns);
}

bool pc_claim_admit(struct pc_cluster *c, struct pc_member *member,
                    uint64_t now_ns)
{
    size_t at = pc_table_find_id(c, &member->id);
    if (member->admission > 0) {
        return true;
    }
    if (at == NOBODY || c->members[at].incarnation == member->incarnation) {
        /* Who has not joined admits nobody. A seed that started alone has no
         * admission; those who join it give it one. */
        bool buried = pc_graves_find(c, member->incarnation) != NULL;
        member->admission = c->phase == MEMBER && !buried ? 1 : 0;
        return true;
    }
    if (at == SELF) {
        c->counts.n_refused += we_refuse(c, member);
        return false;
    }
    if (pc_table_is_live(c, at)) {
        c->counts.n_refused += now_ns < c->watches[at].refused_ns;
        look_into(c, at, now_ns);
        return false;
    }
    member->admission = c->members[at].admission + 1;
    return true;
}

enum pc_admission pc_claim_verdict(const struct pc_cluster *c,
                                   const struct pc_member *self,
                                   size_t *elder_p)
{
    size_t at = pc_table_find_id(c, &self->id);
    if (self->admission > 0 || at == NOBODY ||
        c->members[at].incarnation == self->incarnation) {
        return PC_ADMISSION_OK;
    }
    *elder_p = at;
    if (at == SELF) {
        return we_refuse(c, self) ? PC_ADMISSION_REFUSED : PC_ADMISSION_WAIT;
    }
    return c->step_ns < c->watches[at].refused_ns ? PC_ADMISSION_REFUSED
                                                  : PC_ADMISSION_WAIT;
}

/* ---- The rival -------------------------------------------------------- */

/* Whether that is the rival; one that we were admitted after is none. */
static bool is_rival(const struct pc_cluster *c, uint64_t incarnation)
{
    const struct pc_member *m = &c->rival.member;
    return incarnation != 0 && m->incarnation == incarnation &&
           !pc_table_is_later(&c->members[SELF], m);
}

static void give_way(struct pc_cluster *c)
{
    memset(&c->rival, 0, sizeof(c->rival));
    c->phase = SUPERSEDED;
    c->actions.superseded = true;
}

/* It is gone, and whoever holds it alive shall know: we are admitted anew. */
static void go_on(struct pc_cluster *c)
{
    struct pc_member gone = c->rival.member;
    memset(&c->rival, 0, sizeof(c->rival));
    pc_table_outbid(c, &gone);
}

static void ask_rival(struct pc_cluster *c, uint64_t now_ns)
{
    struct rival *r = &c->rival;
    struct pc_cluster_send *send = pc_beat_add_send(c, PC_MSG_BEAT, SELF);
    r->asked_ns = now_ns;
    /* The question ends by then, whatever becomes of it. */
    r->due_ns = now_ns + c->params.heartbeat_ns + c->params.heartbeat_ns / 4;
    if (send != NULL) {
        send->member = r->member;
    }
}

/* It has been silent for as long as a death needs: is that our own link? */
static void ask_others(struct pc_cluster *c, uint64_t now_ns)
{
    struct rival *r = &c->rival;
    size_t helper = NOBODY;
    r->n_rounds++;
    r->n_asked = 0;
    r->n_silent = 0;
    for (int i = 0; i < HELPERS; i++) {
        helper = pc_probe_find_helper(c, NOBODY, helper, now_ns);
        struct pc_cluster_send *send =
            helper == NOBODY ? NULL : pc_beat_add_send(c, PC_MSG_PROBE, helper);
        if (send == NULL) {
            break;
        }
        send->about = r->member.incarnation;
        r->n_asked++;
        c->counts.n_probes++;
    }
    r->due_ns = r->n_asked > 0 ? now_ns + c->params.heartbeat_ns : now_ns;
}

void pc_claim_watch(struct pc_cluster *c, uint64_t now_ns)
{
    struct rival *r = &c->rival;
    if (!is_rival(c, r->member.incarnation)) {
        memset(r, 0, sizeof(*r));
        return;
    }
    if (now_ns < r->due_ns) {
        return;
    }
    if (now_ns - r->since_ns < c->params.member_ttl_ns) {
        ask_rival(c, now_ns);
        return;
    }
    bool know_nothing = r->n_silent == 0 && r->n_rounds < ROUNDS;
    if (know_nothing) {
        ask_others(c, now_ns);
    }
    if (!know_nothing || r->n_asked == 0) {
        go_on(c);
    }
}

bool pc_claim_probed(struct pc_cluster *c, const struct pc_cluster_event *event)
{
    struct rival *r = &c->rival;
    if (!is_rival(c, event->about)) {
        return false;
    }
    if (event->verdict == PC_PROBED_ALIVE) {
        give_way(c);
    } else if (r->n_asked > 0) {
        r->n_asked--;
        r->n_silent += event->verdict == PC_PROBED_SILENT;
        r->due_ns = r->n_asked == 0 ? event->now_ns : r->due_ns;
    }
    return true;
}

void pc_claim_meet(struct pc_cluster *c, const struct pc_member *rival,
                   uint64_t from)
{
    struct rival *r = &c->rival;
    if (from == rival->incarnation) {
        give_way(c);
        return;
    }
    if (is_rival(c, r->member.incarnation) &&
        !pc_table_is_later(rival, &r->member)) {
        return; /* It is being asked, or is no match for who is. */
    }
    memset(r, 0, sizeof(*r));
    r->member = *rival;
    r->since_ns = c->step_ns;
    ask_rival(c, c->step_ns);
}

void pc_claim_met(struct pc_cluster *c, uint64_t incarnation, bool answered)
{
    struct rival *r = &c->rival;
    if (!is_rival(c, incarnation)) {
        return;
    }
    if (answered) {
        give_way(c);
    } else if (r->n_rounds == 0) {
        /* A busy one answers later, so it is asked again. */
        uint64_t due_ns = r->asked_ns + c->params.heartbeat_ns / 4;
        r->due_ns = due_ns > c->step_ns ? due_ns : c->step_ns;
    }
}

void pc_claim_paused(struct pc_cluster *c, uint64_t now_ns)
{
    struct rival *r = &c->rival;
    r->since_ns = now_ns;
    r->due_ns = now_ns;
    r->n_asked = 0;
    r->n_silent = 0;
    r->n_rounds = 0;
}

/* ---- What we are told -------------------------------------------------- */

/* That a killed node is dead is found out in no time, that a stopped one is,
 * takes long. */
static void wait_longer(struct pc_cluster *c, bool refused)
{
    uint64_t beat = c->params.heartbeat_ns;
    c->retry_ns = c->retry_ns == 0 ? beat / 256 : 2 * c->retry_ns;
    c->retry_ns = pc_min_u64(c->retry_ns, beat / 8);
    if (refused) {
        c->retry_ns = beat;
    }
}

void pc_claim_told(struct pc_cluster *c, const struct pc_msg_table *table,
                   uint64_t now_ns)
{
    if (c->members[SELF].admission > 0) {
        c->counts.n_late++; /* We were admitted meanwhile. */
        return;
    }
    c->hold_ns = now_ns + c->params.heartbeat_ns;
    wait_longer(c, table->admission == PC_ADMISSION_REFUSED);
    c->next_beat_ns = pc_min_u64(c->next_beat_ns, now_ns + c->retry_ns);
    if (table->admission != PC_ADMISSION_REFUSED) {
        return;
    }
    if (c->phase == MEMBER) {
        c->phase = SUPERSEDED;
        c->actions.superseded = true;
    } else if (!c->refused) {
        c->refused = true;
        c->actions.refused = true;
    }
}
