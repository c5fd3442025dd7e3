/*
 * state.h - inside of lib/cluster: the state that its three files share.
 *
 * member.c steps the machine, table.c merges what is told, views.c keeps the
 * view, its predecessors and the masters. Nobody else includes this.
 */
#ifndef PC_CLUSTER_STATE_H
#define PC_CLUSTER_STATE_H

#include "member.h"

#include "base/map.h"
#include "base/rand.h"

#define GRAVES_MAX   4096
#define HISTORY_MAX  32
#define DOUBTS_MAX   5
#define DEAD_KEEP_NS (600ull * 1000000000ull)
#define NEVER        UINT64_MAX
#define SELF         0 /* Our place among the members. */
#define NOBODY       SIZE_MAX

enum phase { IDLE, JOINING, MEMBER, LEFT, SUPERSEDED };

/* What this node knows of a member beyond what it tells others. */
struct watch
{
    uint64_t heard_ns;   /* Last sign of life from itself, or when we met it. */
    uint64_t ended_ns;   /* When it left or died. */
    uint64_t nudged_ns;  /* Last beat or notice out of turn. */
    uint64_t changed;    /* Number of its last change. */
    uint64_t trusted_ns; /* From then on its word counts as a master's. */
    uint64_t view;       /* Names of the view and the table that it had when */
    uint64_t table;      /* it last said so. */
    uint8_t n_doubts;    /* Deaths declared here and refuted: be slower. */
    bool met;            /* heard_ns is a sign of life. */
    bool declared;       /* Its death was found here. */
    bool noticed;        /* It was told that others hold it dead. */
    bool is_foreign;     /* Its view was not known here: push former views. */
    bool is_master;
};

/* An incarnation that never comes back: up to this epoch. */
struct grave
{
    uint64_t incarnation;
    uint64_t epoch;
};

struct seed_state
{
    uint64_t who; /* Incarnation behind the address, 0: not known. */
    bool silent;  /* Failed since the start. */
    bool idle;    /* Answered that it has not joined. */
};

/* A former view beside its pc_msg_view. */
struct former
{
    uint64_t until_ns;
    uint64_t lasted_ns; /* How long it was current. */
};

/* Which table had a hash: all changes up to a number. */
struct moment
{
    uint64_t table;
    uint64_t changed;
};

struct pc_cluster
{
    struct pc_cluster_params params;
    enum phase phase;
    struct pc_rand rand;

    struct pc_member *members; /* Self first, else in no order. */
    struct watch *watches;
    size_t n_members, capacity;
    struct pc_map by_id;          /* To a place in members. */
    struct pc_map by_incarnation; /* Likewise, or to GRAVE | place. */
    struct grave *graves;         /* A ring. */
    size_t n_graves, graves_capacity, oldest_grave;

    size_t n_live;
    uint64_t view_sum, table_sum; /* Over live members, see views.c. */
    uint64_t table_hash;
    uint64_t n_changes;
    struct moment history[HISTORY_MAX];
    size_t n_moments;

    struct pc_member *view;
    size_t n_view;
    uint64_t view_hash;
    uint64_t view_since_ns;
    struct pc_msg_view former_views[PC_FORMER_VIEWS_MAX];
    struct former former[PC_FORMER_VIEWS_MAX];
    size_t n_former;

    struct seed_state *seeds;
    size_t *masters; /* Places, max_masters. */
    size_t n_masters;
    bool am_master;

    uint64_t form_ns;      /* A seed starts alone at this time. */
    uint64_t next_beat_ns; /* Round of beats. */
    uint64_t check_ns;     /* Somebody may have to be declared dead. */
    uint64_t push_ns;      /* Push tables, NEVER: nothing to push. */
    uint64_t last_push_ns;
    uint64_t share_until_ns; /* Two clusters merge: tell former views. */
    bool is_sharing;
    uint64_t fetched_view; /* Foreign view that was asked for last. */

    struct pc_cluster_send *sends;
    size_t n_sends, sends_capacity;
    struct pc_cluster_actions actions; /* Of the step under way. */
    bool beat_now;                     /* Wanted by the step under way. */
    bool masters_changed;
    bool learned;      /* A push to everybody is due. */
    uint64_t disputed; /* Who told what we know better; 0: nobody. */

    struct pc_member *scratch; /* For tables in part. */
    size_t scratch_capacity;
    struct pc_cluster_counts counts;
};

/* table.c */
bool pc_table_reserve(struct pc_cluster *c, size_t n_new);
size_t pc_table_find(const struct pc_cluster *c, uint64_t incarnation);
/* Change a member between begin and end: sums and numbers follow. */
void pc_table_begin(struct pc_cluster *c, size_t at);
void pc_table_end(struct pc_cluster *c, size_t at);
size_t pc_table_add(struct pc_cluster *c, const struct pc_member *member,
                    uint64_t now_ns);
void pc_table_change_self(struct pc_cluster *c, uint64_t epoch);
void pc_table_end_member(struct pc_cluster *c, size_t at, uint8_t state,
                         uint64_t now_ns);
/* Merge what `from` tells. */
void pc_table_merge(struct pc_cluster *c, const struct pc_member *member,
                    uint64_t from, uint64_t now_ns);
void pc_table_forget_old(struct pc_cluster *c, uint64_t now_ns);
/* Whether a master but ourselves gave a sign of life within member_ttl. */
bool pc_table_hears_master(const struct pc_cluster *c, uint64_t now_ns);
/* At most one message out of turn per member and heartbeat. */
bool pc_table_may_nudge(struct pc_cluster *c, size_t at, uint64_t now_ns);
bool pc_table_is_live(const struct pc_cluster *c, size_t at);

/* views.c */
void pc_views_fini(struct pc_cluster *c);
/* After a step: hashes, view, former views and masters follow the table. False:
 * no memory for a new view; the old one stays, try again. */
bool pc_views_update(struct pc_cluster *c, uint64_t now_ns);
void pc_views_learn(struct pc_cluster *c, const struct pc_msg_view *view,
                    uint64_t now_ns);
void pc_views_expire(struct pc_cluster *c, uint64_t now_ns);
bool pc_views_is_known(const struct pc_cluster *c, uint64_t hash);
/* When the next former view may go. */
uint64_t pc_views_due(const struct pc_cluster *c, uint64_t now_ns);

/* member.c */
struct pc_cluster_send *pc_cluster_add_send(struct pc_cluster *c,
                                            enum pc_msg_type type, size_t at);

#endif /* PC_CLUSTER_STATE_H */
