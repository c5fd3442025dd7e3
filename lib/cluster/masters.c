/*
 * Who is a master: the seeds' nodes first, then others by id.
 */
#include "state.h"

/* From now on we watch it: its time starts now. */
static void start_watch(struct pc_cluster *c, size_t at, uint64_t now_ns)
{
    struct watch *w = &c->watches[at];
    if (now_ns - w->heard_ns >= c->params.member_ttl_ns / 2) {
        w->heard_ns = now_ns;
        w->met = false;
    }
}

static void add_master(struct pc_cluster *c, uint64_t incarnation)
{
    size_t at = pc_table_find(c, incarnation);
    if (!pc_table_is_live(c, at) || c->n_masters >= c->params.max_masters) {
        return;
    }
    for (size_t i = 0; i < c->n_masters; i++) {
        if (c->masters[i] == at) {
            return;
        }
    }
    c->masters[c->n_masters++] = at;
}

/* Seeds' nodes, then others by id; clients and who drains only if need be. */
static void choose_masters(struct pc_cluster *c)
{
    c->n_masters = 0;
    for (size_t i = 0; i < c->params.n_seeds; i++) {
        size_t at = pc_table_find(c, c->seeds[i].who);
        if (at != NOBODY && c->members[at].state == PC_MEMBER_ALIVE) {
            add_master(c, c->seeds[i].who);
        }
    }
    for (size_t i = 0; i < c->n_view; i++) {
        if (c->view[i].state == PC_MEMBER_ALIVE &&
            c->view[i].role != PC_ROLE_CLIENT) {
            add_master(c, c->view[i].incarnation);
        }
    }
    for (size_t i = 0; i < c->n_view && c->n_masters == 0; i++) {
        add_master(c, c->view[i].incarnation);
    }
}

void pc_masters_update(struct pc_cluster *c, uint64_t now_ns)
{
    if (!c->masters_changed || c->phase != MEMBER) {
        return;
    }
    choose_masters(c);
    bool was_master = c->am_master;
    c->am_master = false;
    for (size_t i = 0; i < c->n_masters; i++) {
        struct watch *w = &c->watches[c->masters[i]];
        if (!w->is_master) {
            start_watch(c, c->masters[i], now_ns);
        }
        c->am_master = c->am_master || c->masters[i] == SELF;
    }
    for (size_t i = 0; i < c->n_members; i++) {
        /* Masters were watched before. */
        if (c->am_master && !was_master && !c->watches[i].is_master) {
            start_watch(c, i, now_ns);
        }
        c->watches[i].is_master = false;
    }
    for (size_t i = 0; i < c->n_masters; i++) {
        c->watches[c->masters[i]].is_master = true;
    }
    c->masters_changed = false;
    c->check_ns = now_ns; /* Other members may be watched now. */
}
