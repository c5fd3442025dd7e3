/*
 * state.h - inside of lib/cluster: the state that its files share.
 *
 * member.c steps the machine, beat.c sends beats and pushes tables, answer.c
 * makes the messages, load.c tells who has much to do, table.c merges what is
 * told, graves.c remembers who never comes back, probe.c suspects the silent,
 * claim.c decides who may have an id, views.c keeps the view and its
 * predecessors, masters.c chooses the masters. Nobody else includes this.
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
#define GRAVE_BIT    ((uint64_t)1 << 63) /* In by_incarnation. */

enum phase { IDLE, JOINING, MEMBER, LEFT, SUPERSEDED };

/* What this node knows of a member beyond what it tells others. */
struct watch
{
    uint64_t heard_ns;   /* Last sign of life from itself, or when we met it. */
    uint64_t ended_ns;   /* When it left or died. */
    uint64_t nudged_ns;  /* Last beat or notice out of turn. */
    uint64_t changed;    /* Number of its last change. */
    uint64_t trusted_ns; /* From then on its word counts as a master's. */
    uint64_t vouched_ns; /* Another node reached it then. */
    uint64_t asked_ns;   /* Others are asked about it since, 0: not now. */
    uint64_t refused_ns; /* Until then others are refused its id unasked. */
    uint64_t view;       /* Names of the view and the table that it had when */
    uint64_t table;      /* it last said so. */
    uint8_t n_doubts;    /* Deaths declared here and refuted: be slower. */
    uint8_t n_helpers;   /* Others that were asked. */
    uint8_t n_asked;     /* Answers that are still to come. */
    uint8_t n_silent;    /* Others that could not reach it. */
    uint8_t n_rounds;    /* Of questions without any answer. */
    uint8_t load;        /* By its own word, or a master's. */
    bool claimed;        /* Another node wants its id: does it live? */
    bool unanswered;     /* Claimed, and it did not answer us. */
    bool met;            /* heard_ns is a sign of life. */
    bool declared;       /* Its death was found here. */
    bool noticed;        /* It was told that others hold it dead. */
    bool is_foreign;     /* Its view was not known here: push former views. */
    bool is_master;
};

/* An incarnation that never comes back: up to this epoch and admission. */
struct grave
{
    uint64_t incarnation;
    uint64_t epoch;
    uint32_t admission;
};

struct seed_state
{
    uint64_t who; /* Incarnation behind the address, 0: not known. */
    bool silent;  /* Failed since the start. */
    bool idle;    /* Answered that it has not joined. */
    bool unused;  /* No address now. */
    bool lost;    /* Who was there is gone from there: look often. */
};

/* Another node that has our id and was admitted later: if it lives we say no
 * more. That it does not answer is no proof that it is gone. */
struct rival
{
    struct pc_member member; /* Incarnation 0: nobody. */
    uint64_t since_ns;       /* Nothing is heard from it since. */
    uint64_t asked_ns;       /* It was asked then, */
    uint64_t due_ns;         /* and is asked again, or others are. */
    uint8_t n_asked;         /* Answers of others that are still to come. */
    uint8_t n_silent;        /* Others that could not reach it. */
    uint8_t n_rounds;        /* Of questions to others. */
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
    size_t push_at;        /* Who is next. */
    bool push_again;       /* It has changed since the first was told. */
    uint64_t last_push_ns;
    uint64_t seek_ns;        /* Look for lost seeds, NEVER: none is. */
    uint64_t seek_until_ns;  /* Who is no master, so long. */
    uint64_t hold_ns;        /* Our id is looked into: no forming before. */
    uint64_t retry_ns;       /* And we ask again after so long. */
    uint64_t step_ns;        /* Of the step under way. */
    uint64_t share_until_ns; /* Two clusters merge: tell former views. */
    bool is_sharing;
    uint64_t fetched_view; /* Foreign view that was asked for last. */

    struct pc_cluster_send *sends;
    size_t n_sends, sends_capacity;
    struct pc_cluster_actions actions; /* Of the step under way. */
    bool beat_now;                     /* Wanted by the step under way. */
    bool masters_changed;
    bool learned; /* A push to everybody is due. */
    struct rival rival;
    bool contested;    /* Another node has our id, and a better claim. */
    bool refused;      /* Our id was refused us. */
    uint64_t disputed; /* Who told what we know better; 0: nobody. */
    uint64_t differs;  /* Whose difference did not fit our table, 0: nobody. */
    uint64_t base, wanted; /* Of that difference: from and to. */

    uint8_t load;               /* Our own. */
    uint64_t busy[PC_BUSY_MAX]; /* For tables: who has much to do. */
    uint8_t loads[PC_BUSY_MAX];
    struct pc_member *scratch; /* For tables in part. */
    size_t scratch_capacity;
    struct pc_cluster_counts counts;
};

/* table.c */
bool pc_table_reserve(struct pc_cluster *c, size_t n_new);
size_t pc_table_find(const struct pc_cluster *c, uint64_t incarnation);
size_t pc_table_find_id(const struct pc_cluster *c,
                        const struct pc_node_id *id);
/* Of two nodes with one id, the one that was admitted later. */
bool pc_table_is_later(const struct pc_member *a, const struct pc_member *b);
/* Change a member between begin and end: sums and numbers follow. */
void pc_table_begin(struct pc_cluster *c, size_t at);
void pc_table_end(struct pc_cluster *c, size_t at);
size_t pc_table_add(struct pc_cluster *c, const struct pc_member *member,
                    uint64_t now_ns);
void pc_table_change_self(struct pc_cluster *c, uint64_t epoch);
/* We are admitted later than the rival, who is gone. */
void pc_table_outbid(struct pc_cluster *c, const struct pc_member *rival);
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

/* graves.c */
bool pc_graves_reserve(struct pc_cluster *c, size_t n);
struct grave *pc_graves_find(const struct pc_cluster *c, uint64_t incarnation);
void pc_graves_add(struct pc_cluster *c, struct grave grave);
/* `loser` may come back only as admitted later than `winner`. */
void pc_graves_add_loser(struct pc_cluster *c, uint64_t loser,
                         const struct pc_member *winner);
void pc_graves_remove(struct pc_cluster *c, uint64_t incarnation);

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

/* masters.c */
void pc_masters_update(struct pc_cluster *c, uint64_t now_ns);

/* beat.c */
/* NULL: no memory, the message is as good as lost on the way. */
struct pc_cluster_send *pc_beat_add_send(struct pc_cluster *c,
                                         enum pc_msg_type type, size_t at);
void pc_beat_round(struct pc_cluster *c, uint64_t now_ns);
void pc_beat_members(struct pc_cluster *c, uint64_t now_ns);
/* Push our table to some of those who have another one; sets when to go on. */
void pc_beat_push_some(struct pc_cluster *c, uint64_t now_ns);
/* To all of them, now. */
void pc_beat_push_all(struct pc_cluster *c);
/* Nobody answers any more where a member served seeds: look there often. */
void pc_beat_lost(struct pc_cluster *c, uint64_t incarnation, uint64_t now_ns);
void pc_beat_seek(struct pc_cluster *c, uint64_t now_ns);

/* probe.c */
/* See to those who are silent; sets when to look again. */
void pc_probe_watch(struct pc_cluster *c, uint64_t now_ns);
/* Somebody but `other` who can tell whether member `about` answers it, or
 * NOBODY. */
size_t pc_probe_find_helper(struct pc_cluster *c, size_t about, size_t other,
                            uint64_t now_ns);
/* Ask others, now, whether it answers them. */
void pc_probe_ask(struct pc_cluster *c, size_t at, uint64_t now_ns);
void pc_probe_answer(struct pc_cluster *c,
                     const struct pc_cluster_event *event);
/* A beat of ours was not answered. */
void pc_probe_unanswered(struct pc_cluster *c, uint64_t incarnation,
                         uint64_t now_ns);
/* A sign of life: an answer to what was asked at asked_ns, or unasked (0). */
void pc_probe_heard(struct pc_cluster *c, size_t at, uint64_t asked_ns,
                    uint64_t now_ns);

/* load.c */
/* Those with the most to do, for a table. */
void pc_load_tell(const struct pc_cluster *c, struct pc_msg_table *table);
/* What a table told of them. */
void pc_load_learn(struct pc_cluster *c, const struct pc_msg_table *table,
                   uint64_t from);

/* claim.c */
/* A node beats that nobody has admitted yet: true if it may be merged, then
 * *member is it with its admission. */
bool pc_claim_admit(struct pc_cluster *c, struct pc_member *member,
                    uint64_t now_ns);
/* What to tell it. */
enum pc_admission pc_claim_verdict(const struct pc_cluster *c,
                                   const struct pc_member *self,
                                   size_t *elder_p);
/* `from` tells that another node has our id and was admitted later: does it
 * live? */
void pc_claim_meet(struct pc_cluster *c, const struct pc_member *rival,
                   uint64_t from);
/* The rival answered, or did not. */
void pc_claim_met(struct pc_cluster *c, uint64_t incarnation, bool answered);
/* What another found out of the rival; false: it was about somebody else. */
bool pc_claim_probed(struct pc_cluster *c,
                     const struct pc_cluster_event *event);
/* Ask the rival, or others, if that is due. */
void pc_claim_watch(struct pc_cluster *c, uint64_t now_ns);
/* We were not running: it may have answered. */
void pc_claim_paused(struct pc_cluster *c, uint64_t now_ns);
/* What we were told. */
void pc_claim_told(struct pc_cluster *c, const struct pc_msg_table *table,
                   uint64_t now_ns);

static inline uint64_t pc_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Tables that are pushed in one step; the rest follow some 100 us later, so
 * that a change among many nodes is no pause of the engine. */
#define PC_PUSHES_MAX 16

static inline uint64_t pc_beat_push_step(const struct pc_cluster *c)
{
    return c->params.heartbeat_ns / 10000;
}

/* Many changes at once are told together. */
static inline uint64_t pc_beat_push_gap(const struct pc_cluster *c)
{
    return c->params.heartbeat_ns / 100;
}

static inline uint64_t pc_self_incarnation(const struct pc_cluster *c)
{
    return c->members[SELF].incarnation;
}

#endif /* PC_CLUSTER_STATE_H */
