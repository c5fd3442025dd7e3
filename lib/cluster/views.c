/*
 * The view that the table gives, and the views before it that are still asked.
 */
#include "state.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/view.h"

#include <stdlib.h>
#include <string.h>

static int compare_members(const void *a, const void *b)
{
    const struct pc_member *x = a;
    const struct pc_member *y = b;
    return pc_node_id_compare(&x->id, &y->id);
}

static void remove_former(struct pc_cluster *c, size_t at)
{
    pc_free(c->former_views[at].members);
    c->n_former--;
    size_t n_behind = c->n_former - at;
    memmove(&c->former_views[at], &c->former_views[at + 1],
            n_behind * sizeof(c->former_views[0]));
    memmove(&c->former[at], &c->former[at + 1],
            n_behind * sizeof(c->former[0]));
    c->actions.former_changed = true;
}

static size_t find_former(const struct pc_cluster *c, uint64_t hash)
{
    for (size_t i = 0; i < c->n_former; i++) {
        if (c->former_views[i].hash == hash) {
            return i;
        }
    }
    return NOBODY;
}

/* Keep a view; takes its members. When there are too many, the one that was
 * current for the shortest time has the fewest records of its own. */
static void adopt_former(struct pc_cluster *c, struct pc_msg_view view,
                         uint64_t lasted_ns, uint64_t now_ns)
{
    size_t at = find_former(c, view.hash);
    if (at != NOBODY) {
        remove_former(c, at);
    }
    if (c->n_former == PC_FORMER_VIEWS_MAX) {
        size_t shortest = 0;
        for (size_t i = 1; i < c->n_former; i++) {
            if (c->former[i].lasted_ns < c->former[shortest].lasted_ns) {
                shortest = i;
            }
        }
        c->counts.n_former_dropped++;
        if (c->former[shortest].lasted_ns > lasted_ns) {
            pc_free(view.members);
            return;
        }
        remove_former(c, shortest);
    }
    c->former_views[c->n_former] = view;
    c->former[c->n_former++] =
        (struct former){now_ns + c->params.settle_ns, lasted_ns};
    c->actions.former_changed = true;
}

void pc_views_fini(struct pc_cluster *c)
{
    while (c->n_former > 0) {
        remove_former(c, c->n_former - 1);
    }
    pc_free(c->view);
}

bool pc_views_is_known(const struct pc_cluster *c, uint64_t hash)
{
    return hash == c->view_hash || find_former(c, hash) != NOBODY;
}

static bool is_sound(const struct pc_msg_view *view)
{
    uint64_t sum = 0;
    if (view->n_members == 0 || view->n_members > PC_NODES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < view->n_members; i++) {
        if (!pc_view_has(&view->members[i])) {
            return false;
        }
        sum += pc_view_part(&view->members[i]);
    }
    return pc_view_name(sum, view->n_members) == view->hash;
}

/* Whether two views, both sorted, have no incarnation in common. */
static bool are_apart(const struct pc_member *a, size_t n_a,
                      const struct pc_member *b, size_t n_b)
{
    size_t i = 0;
    size_t j = 0;
    while (i < n_a && j < n_b) {
        int order = pc_node_id_compare(&a[i].id, &b[j].id);
        if (order == 0 && a[i].incarnation == b[j].incarnation) {
            return false;
        }
        i += order <= 0;
        j += order >= 0;
    }
    return n_a > 0 && n_b > 0;
}

/* A view of a cluster that formed apart from ours. */
static bool is_foreign(const struct pc_cluster *c,
                       const struct pc_msg_view *view)
{
    if (are_apart(view->members, view->n_members, c->view, c->n_view)) {
        return true;
    }
    for (size_t i = 0; i < c->n_former; i++) {
        const struct pc_msg_view *former = &c->former_views[i];
        if (are_apart(view->members, view->n_members, former->members,
                      former->n_members)) {
            return true;
        }
    }
    return false;
}

void pc_views_learn(struct pc_cluster *c, const struct pc_msg_view *view,
                    uint64_t now_ns)
{
    if (pc_views_is_known(c, view->hash) || !is_sound(view)) {
        return;
    }
    struct pc_msg_view copy = *view;
    copy.members = pc_alloc(view->n_members, sizeof(*copy.members));
    if (copy.members == NULL) {
        c->counts.n_former_dropped++;
        return;
    }
    memcpy(copy.members, view->members,
           view->n_members * sizeof(*copy.members));
    qsort(copy.members, copy.n_members, sizeof(*copy.members), compare_members);
    if (c->phase == MEMBER && is_foreign(c, &copy)) {
        /* Our members need it as well, and their views are known to us: for
         * some beats all tables carry former views. */
        c->share_until_ns = now_ns + 2 * c->params.heartbeat_ns;
        c->learned = true;
    }
    adopt_former(c, copy, c->params.settle_ns, now_ns);
}

static bool is_republishing(const struct pc_cluster *c)
{
    for (size_t i = 0; i < c->n_members; i++) {
        if (c->members[i].republishing && pc_table_is_live(c, i)) {
            return true;
        }
    }
    return false;
}

void pc_views_expire(struct pc_cluster *c, uint64_t now_ns)
{
    if (c->n_former == 0 || is_republishing(c)) {
        return;
    }
    for (size_t i = c->n_former; i-- > 0;) {
        if (c->former[i].until_ns <= now_ns) {
            remove_former(c, i);
        }
    }
}

uint64_t pc_views_due(const struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t due = NEVER;
    for (size_t i = 0; i < c->n_former; i++) {
        if (c->former[i].until_ns > now_ns && c->former[i].until_ns < due) {
            due = c->former[i].until_ns;
        }
    }
    return due;
}

static void update_table_hash(struct pc_cluster *c)
{
    uint64_t hash = pc_view_name(c->table_sum, c->n_live);
    if (hash == c->table_hash) {
        return;
    }
    c->table_hash = hash;
    c->history[c->n_moments++ % HISTORY_MAX] =
        (struct moment){hash, c->n_changes};
}

static bool update_view(struct pc_cluster *c, uint64_t now_ns)
{
    uint64_t hash = pc_view_name(c->view_sum, c->n_live);
    if (c->phase != MEMBER || hash == c->view_hash) {
        return true;
    }
    struct pc_member *view = pc_alloc(c->n_live, sizeof(*view));
    if (view == NULL) {
        return false;
    }
    size_t n = 0;
    for (size_t i = 0; i < c->n_members; i++) {
        if (pc_table_is_live(c, i)) {
            view[n++] = c->members[i];
        }
    }
    PC_ASSERT(n == c->n_live);
    qsort(view, n, sizeof(*view), compare_members);
    if (c->view_hash != 0) {
        struct pc_msg_view former = {c->view_hash, (uint32_t)c->n_view,
                                     c->view};
        adopt_former(c, former, now_ns - c->view_since_ns, now_ns);
    }
    c->view = view;
    c->n_view = n;
    c->view_hash = hash;
    c->view_since_ns = now_ns;
    size_t again = find_former(c, hash);
    if (again != NOBODY) {
        remove_former(c, again);
    }
    c->actions.view_changed = true;
    c->masters_changed = true;
    return true;
}

bool pc_views_update(struct pc_cluster *c, uint64_t now_ns)
{
    update_table_hash(c);
    bool ok = update_view(c, now_ns);
    pc_masters_update(c, now_ns);
    return ok;
}

const struct pc_member *pc_cluster_view(const struct pc_cluster *cluster,
                                        size_t *n_p, uint64_t *hash_p)
{
    bool joined = cluster->phase == MEMBER;
    *n_p = joined ? cluster->n_view : 0;
    if (hash_p != NULL) {
        *hash_p = joined ? cluster->view_hash : 0;
    }
    return cluster->view;
}

const struct pc_msg_view *pc_cluster_former(const struct pc_cluster *cluster,
                                            size_t *n_p)
{
    *n_p = cluster->n_former;
    return cluster->former_views;
}
