/*
 * history.h - what every operation of a run was told, and whether it may be.
 *
 * I8 of the design: from a put's acknowledgement on, if no owner or holder of
 * the key is stopped, cut off or inside a settle window and no holder evicted
 * or removed it, every get is OK. The history writes down every item's begin,
 * end and result, what happens to nodes and which values their holders give
 * up. A put that answered OK makes a duty: these holders keep this generation.
 * A get or exists that is not OK while a duty holds, and that nothing excuses,
 * fails the run, with all that is known of the key.
 *
 * What excuses (all of it from the begin of the operation, less `grace_ns`, to
 * its end): the reader, an owner by the reader's view or a holder is or was in
 * trouble (cluster_node.trouble_ns); the cluster is or was not settled
 * (cluster_is_settled), unless the run has turned that excuse off; a miss that
 * is counted as that of a busy disk; and what a slow disk did not bring in
 * time.
 *
 * A holder with a disk holds a value as long as it is in its pool or announced
 * on its disk, under whatever generation; what the disk gives up, to make room
 * or because it is bad, is evicted. And a value that a remove has confirmed to
 * be gone never comes back out of the holder's disk (rule 10), whatever crash
 * there was, until it is put there again.
 */
#ifndef PC_TEST_HISTORY_H
#define PC_TEST_HISTORY_H

#include "cluster.h"

struct history
{
    struct cluster *cluster;
    uint64_t grace_ns;    /* So long after its end a trouble excuses. */
    uint64_t patience_ns; /* Only who had so much time may not be late. */
    bool moves_excuse;    /* Joins, leaves and their settle windows do. */
    bool forced_may_miss; /* Reads in a mode that the settings force: a node
                           * that lacked memory may not know all regions. */
    bool is_off;          /* Writes down, and does not judge. */
    bool disks_are_slow;
    uint64_t unsettled_ns; /* When the cluster was last not settled. */
    struct history_word *words;
    size_t n_words, words_capacity;
    struct history_event *events;
    size_t n_events, events_capacity;
    uint64_t n_judged, n_excused, n_without_duty; /* Results that are not OK. */
    uint64_t n_kept;         /* Results that are OK while a duty holds. */
    uint64_t n_kept_by_disk; /* Of these, what only a disk had. */
    uint64_t n_removed;      /* Values that must not come back. */
};

struct history *history_create(struct cluster *c);
void history_destroy(struct history *h);
/* After every step. */
void history_step(struct history *h);
/* An operation has ended, its memory is still there. */
void history_ended(struct history *h, const struct cluster_op *op);
/* An operation is about to be submitted. */
void history_began(struct history *h, struct cluster_op *op);
/* Before a node's machine loses power. */
void history_power_off(struct history *h, int i);
/* A line for everybody: a node starts, dies, is cut off, ... */
void history_note(struct history *h, const char *text);
/* A holder gave a value up: pc_node_env.gone, its argument a cluster_node. */
void history_gone(void *arg, const struct pc_place *place, enum pc_gone why);
/* What was not acknowledged, or before something that no duty outlives, such as
 * a node's lack of memory: forget all duties. */
void history_forget(struct history *h);
/* On stderr: all that is known of a value. */
void history_tell(const struct history *h, struct pc_digest digest);
/* No removed value is there again. */
void history_check_removed(struct history *h);
/* At rest: every value that is held is a duty from now on. */
void history_adopt(struct history *h);

#endif /* PC_TEST_HISTORY_H */
