/*
 * Who may have an id: a node that nobody has admitted yet beats, and its id is
 * another's. Is that one alive?
 */
#include "state.h"

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

void pc_claim_meet(struct pc_cluster *c, const struct pc_member *rival)
{
    bool is_new = c->rival.incarnation != rival->incarnation;
    if (!is_new && c->step_ns < c->met_ns + c->params.heartbeat_ns / 4) {
        return; /* Asked just now. */
    }
    struct pc_cluster_send *send = pc_beat_add_send(c, PC_MSG_BEAT, SELF);
    if (send != NULL) {
        send->member = *rival;
        c->rival = *rival;
        c->met_ns = c->step_ns;
    }
}

void pc_claim_met(struct pc_cluster *c, uint64_t incarnation, bool answered)
{
    struct pc_member rival = c->rival;
    if (incarnation == 0 || rival.incarnation != incarnation) {
        return;
    }
    c->rival.incarnation = 0;
    if (answered) {
        c->phase = SUPERSEDED;
        c->actions.superseded = true;
    } else if (!pc_table_is_later(&c->members[SELF], &rival)) {
        pc_table_outbid(c, &rival);
    }
}

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
