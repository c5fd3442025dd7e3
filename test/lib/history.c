#include "test.h"

#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DUTIES_MAX = 16, /* Of one word; older ones are forgotten. */
    HOLDERS_MAX = 4,
    WORD_LEN = 24,
    TEXT_LEN = 72,
    NOTES_TOLD = 60
};

/* So long after a node went, somebody may map what it left. */
#define LEFT_NS (60 * PC_S)

struct holder
{
    int node;
    uint64_t incarnation;
    uint64_t generation;
    bool lost; /* It was given up since, and is on no disk. */
};

/* These holders have the value, as an owner has confirmed. */
struct duty
{
    uint64_t since_ns;
    uint64_t n_before; /* Operations that had begun: these may miss it. */
    size_t length;
    unsigned n_holders;
    struct holder holders[HOLDERS_MAX];
};

struct history_word
{
    struct pc_digest digest;
    char word[WORD_LEN];
    uint64_t gone_ns; /* When a holder last gave it up. */
    uint64_t lost_ns; /* When one last did, and not for a remove. */
    uint64_t put_ns;  /* When a put of it last ended, */
    unsigned n_puts;  /* and how many run. */
    unsigned version; /* Of the last put that began. */
    uint64_t removed; /* Nodes, by bit, that have confirmed a remove. */
    unsigned next;    /* Place of the next duty. */
    struct duty duties[DUTIES_MAX];
};

struct history_event
{
    uint64_t begin_ns, end_ns;
    int node;
    int word; /* -1: a note for all. */
    char text[TEXT_LEN];
};

struct history *history_create(struct cluster *c)
{
    struct history *h = calloc(1, sizeof(*h));
    h->cluster = c;
    h->grace_ns = PC_S;
    h->patience_ns = PC_S;
    h->moves_excuse = true;
    h->unsettled_ns = cluster_now(c);
    c->history = h;
    return h;
}

void history_destroy(struct history *h)
{
    if (h != NULL) {
        free(h->words);
        free(h->events);
        free(h);
    }
}

/* ---- Writing down ---------------------------------------------------------
 */

static struct history_event *add_event(struct history *h, int word)
{
    if (h->n_events == h->events_capacity) {
        h->events_capacity = 2 * h->events_capacity + 256;
        h->events = realloc(h->events, h->events_capacity * sizeof(*h->events));
    }
    struct history_event *event = &h->events[h->n_events++];
    event->begin_ns = event->end_ns = cluster_now(h->cluster);
    event->node = -1;
    event->word = word;
    event->text[0] = '\0';
    return event;
}

static int find_digest(const struct history *h, struct pc_digest digest)
{
    for (size_t i = 0; i < h->n_words; i++) {
        if (pc_digest_equal(h->words[i].digest, digest)) {
            return (int)i;
        }
    }
    return -1;
}

static struct history_word *get_word(struct history *h, struct pc_digest digest,
                                     const char *text)
{
    int at = find_digest(h, digest);
    if (at < 0) {
        if (h->n_words == h->words_capacity) {
            h->words_capacity = 2 * h->words_capacity + 64;
            h->words = realloc(h->words, h->words_capacity * sizeof(*h->words));
        }
        at = (int)h->n_words++;
        memset(&h->words[at], 0, sizeof(h->words[at]));
        h->words[at].digest = digest;
    }
    if (h->words[at].word[0] == '\0') {
        snprintf(h->words[at].word, WORD_LEN, "%s", text);
    }
    return &h->words[at];
}

/* Of an operation that has begun; its node may be gone. */
static struct history_word *find_word(struct history *h, const char *text)
{
    for (size_t i = 0; i < h->n_words; i++) {
        if (strcmp(h->words[i].word, text) == 0) {
            return &h->words[i];
        }
    }
    return NULL;
}

void history_note(struct history *h, const char *text)
{
    struct history_event *event = add_event(h, -1);
    snprintf(event->text, sizeof(event->text), "%s", text);
}

/* Given up, but for its disk, which has it. */
static bool stays_on_disk(const struct cluster_node *n,
                          const struct pc_place *place, enum pc_gone why)
{
    struct pc_disk_place disk;
    return why == PC_GONE_EVICTED && !place->on_disk &&
           pc_tier_find(n->node, place->digest, &disk) &&
           disk.length == place->length && disk.checksum == place->checksum;
}

/* Its disk gave the record up, to make room or because it is bad. */
static bool stays_in_pool(const struct cluster_node *n,
                          const struct pc_place *place)
{
    struct pc_place now;
    return pc_store_find(n->node->store, place->digest, false, &now) &&
           now.length == place->length && now.checksum == place->checksum;
}

/* From now on this node has no duty to have it. */
static void lose(struct history_word *word, int node)
{
    for (unsigned d = 0; d < DUTIES_MAX; d++) {
        struct duty *duty = &word->duties[d];
        for (unsigned k = 0; k < duty->n_holders; k++) {
            duty->holders[k].lost =
                duty->holders[k].lost || duty->holders[k].node == node;
        }
    }
}

void history_gone(void *arg, const struct pc_place *place, enum pc_gone why)
{
    static const char *const whys[] = {"evicts", "removes", "replaces"};
    const struct cluster_node *n = arg;
    struct history *h = n->cluster->history;
    if (h == NULL) {
        return;
    }
    /* It may go before the operation that put it has ended. */
    struct history_word *word = get_word(h, place->digest, "");
    struct history_event *event = add_event(h, (int)(word - h->words));
    event->node = (int)(n - n->cluster->nodes);
    bool stays =
        place->on_disk ? stays_in_pool(n, place) : stays_on_disk(n, place, why);
    if (!place->on_disk || !stays) {
        word->gone_ns = cluster_now(n->cluster);
    }
    if (why != PC_GONE_REMOVED && !stays && !place->on_disk) {
        word->lost_ns = word->gone_ns;
    }
    if (!stays) {
        lose(word, event->node);
    }
    snprintf(event->text, sizeof(event->text), "%s%s generation %" PRIu64 "%s",
             whys[why], place->on_disk ? " from disk" : "", place->generation,
             !stays ? ""
                    : (place->on_disk ? ", but in its pool" : ", but on disk"));
}

void history_step(struct history *h)
{
    if (!cluster_is_settled(h->cluster)) {
        h->unsettled_ns = cluster_now(h->cluster);
    }
}

void history_forget(struct history *h)
{
    for (size_t i = 0; i < h->n_words; i++) {
        memset(h->words[i].duties, 0, sizeof(h->words[i].duties));
    }
}

/* ---- Duties ---------------------------------------------------------------
 */

static void add_duty(struct history *h, struct history_word *word,
                     const struct duty *duty)
{
    word->duties[word->next++ % DUTIES_MAX] = *duty;
    struct history_event *event = add_event(h, (int)(word - h->words));
    size_t at = (size_t)snprintf(event->text, TEXT_LEN, "must be found at");
    for (unsigned k = 0; k < duty->n_holders && at + 16 < TEXT_LEN; k++) {
        at += (size_t)snprintf(
            event->text + at, TEXT_LEN - at, " %s(%" PRIu64 ")",
            cluster_name(duty->holders[k].node), duty->holders[k].generation);
    }
}

/* In its pool, or announced on its disk. */
static bool holds(struct cluster *c, int i, struct pc_digest digest,
                  struct pc_place *place)
{
    const struct cluster_node *n = &c->nodes[i];
    return n->state != CLUSTER_DOWN && pc_tier_held(n->node, digest, place);
}

/* Anywhere, announced or not. */
static bool has_any(struct cluster *c, int i, struct pc_digest digest)
{
    struct pc_place place;
    struct pc_disk_place disk;
    return holds(c, i, digest, &place) ||
           (c->nodes[i].state != CLUSTER_DOWN &&
            pc_tier_find(c->nodes[i].node, digest, &disk));
}

/* Whether a shard has the record of this holder, generation and all. */
static bool is_published(struct cluster *c, int i, const struct pc_place *place)
{
    struct pc_record records[32];
    for (int k = 0; k < c->n_nodes_max; k++) {
        if (c->nodes[k].state == CLUSTER_DOWN) {
            continue;
        }
        size_t n = pc_shard_lookup(c->nodes[k].node->shard, place->digest,
                                   records, 32);
        for (size_t r = 0; r < n && r < 32; r++) {
            if (records[r].incarnation == c->nodes[i].incarnation &&
                records[r].generation == place->generation) {
                return true;
            }
        }
    }
    return false;
}

static void add_holder(struct cluster *c, struct duty *duty, int i,
                       uint64_t generation)
{
    if (duty->n_holders < HOLDERS_MAX) {
        duty->holders[duty->n_holders++] =
            (struct holder){.node = i,
                            .incarnation = c->nodes[i].incarnation,
                            .generation = generation};
    }
}

static bool is_well(const struct history *h, const struct cluster_node *n,
                    uint64_t since_ns);
static bool owners_are_well(const struct history *h, int reader,
                            struct pc_digest digest, uint64_t since_ns);
static void tell(const struct history *h, const struct history_word *word);

/* What is given up while somebody reads it cannot be found any more, and is
 * told to be gone a while later. */
static bool is_any_dying(struct cluster *c)
{
    bool any = false;
    for (int i = 0; i < c->n_nodes_max && !any; i++) {
        struct pc_store_stats stats = {0};
        if (c->nodes[i].state != CLUSTER_DOWN) {
            pc_store_stats(c->nodes[i].node->store, &stats);
        }
        any = stats.n_dying > 0;
    }
    return any;
}

/* The putter itself has it; else some of those who had it before. */
static void on_put(struct history *h, const struct cluster_op *op,
                   struct history_word *word, size_t length)
{
    struct cluster *c = h->cluster;
    struct duty duty = {.since_ns = cluster_now(c),
                        .n_before = c->counts.n_ops,
                        .length = length};
    struct pc_place place;
    if (holds(c, op->node, word->digest, &place) && place.length == length) {
        add_holder(c, &duty, op->node, place.generation);
    }
    bool stored = duty.n_holders > 0;
    for (int i = 0; i < c->n_nodes_max && !stored; i++) {
        if (holds(c, i, word->digest, &place) && place.length == length &&
            is_published(c, i, &place)) {
            add_holder(c, &duty, i, place.generation);
        }
    }
    if (duty.n_holders > 0) {
        add_duty(h, word, &duty);
    } else if (!h->is_off && word->gone_ns < op->started_ns &&
               !is_any_dying(c) &&
               is_well(h, &c->nodes[op->node], op->started_ns) &&
               owners_are_well(h, op->node, word->digest, op->started_ns) &&
               h->unsettled_ns < op->started_ns && cluster_is_settled(c)) {
        tell(h, word);
        cluster_fail(c, "I8: %s put %s: OK, and nobody holds it",
                     cluster_name(op->node), word->word);
    }
}

void history_adopt(struct history *h)
{
    struct cluster *c = h->cluster;
    for (size_t w = 0; w < h->n_words; w++) {
        for (int i = 0; i < c->n_nodes_max; i++) {
            struct pc_place place;
            if (c->nodes[i].state == CLUSTER_UP &&
                holds(c, i, h->words[w].digest, &place)) {
                struct duty duty = {.since_ns = cluster_now(c),
                                    .n_before = c->counts.n_ops,
                                    .length = place.length};
                add_holder(c, &duty, i, place.generation);
                add_duty(h, &h->words[w], &duty);
            }
        }
    }
}

/* ---- Judging --------------------------------------------------------------
 */

/* Nothing was wrong with the node since then, less the grace. */
static bool is_well(const struct history *h, const struct cluster_node *n,
                    uint64_t since_ns)
{
    if (n->state != CLUSTER_UP || n->frozen || n->is_cut || n->is_slow ||
        n->joined_ns == 0 || n->joined_ns > since_ns) {
        return false;
    }
    uint64_t last = pc_sim_host_broke_ns(n->host);
    last = last > n->trouble_ns ? last : n->trouble_ns;
    return last == 0 || last + h->grace_ns < since_ns;
}

static bool owners_are_well(const struct history *h, int reader,
                            struct pc_digest digest, uint64_t since_ns)
{
    const struct cluster *c = h->cluster;
    const struct pc_ring *ring = c->nodes[reader].node->ring;
    struct pc_owners owners;
    size_t n_members;
    const struct pc_member *members = pc_ring_members(ring, &n_members);
    pc_ring_owners(ring, digest, &owners);
    if (owners.n == 0) {
        return false; /* All that are left drain. */
    }
    for (uint32_t k = 0; k < owners.n; k++) {
        bool well = false;
        for (int i = 0; i < c->n_nodes_max && !well; i++) {
            well = c->nodes[i].incarnation ==
                       members[owners.index[k]].incarnation &&
                   is_well(h, &c->nodes[i], since_ns);
        }
        if (!well) {
            return false;
        }
    }
    return true;
}

static bool duty_holds(const struct history *h, const struct history_word *word,
                       const struct duty *duty, uint64_t since_ns)
{
    struct cluster *c = h->cluster;
    bool all = duty->n_holders > 0 && duty->since_ns <= since_ns;
    for (unsigned k = 0; k < duty->n_holders && all; k++) {
        const struct holder *holder = &duty->holders[k];
        const struct cluster_node *n = &c->nodes[holder->node];
        struct pc_place place;
        all = n->state == CLUSTER_UP && n->incarnation == holder->incarnation &&
              n->joined_ns <= duty->since_ns && is_well(h, n, since_ns) &&
              holds(c, holder->node, word->digest, &place) &&
              place.length == duty->length && !holder->lost &&
              (place.generation == holder->generation || n->disk != NULL);
    }
    return all;
}

/* A reader that only maps gets nothing from other machines. */
static bool has_way(const struct history *h, const struct cluster_op *op,
                    const struct duty *duty)
{
    const struct cluster_node *n = &h->cluster->nodes[op->node];
    enum pc_read_mode mode = n->node->settings.read_mode;
    bool forced = mode == PC_READ_MODE_MAPPED || mode == PC_READ_MODE_ONE_SIDED;
    bool all = op->verb != PC_VERB_GET || !forced || !h->forced_may_miss;
    for (unsigned k = 0; k < duty->n_holders && op->verb == PC_VERB_GET; k++) {
        all = all &&
              (mode != PC_READ_MODE_MAPPED ||
               h->cluster->nodes[duty->holders[k].node].machine == n->machine);
    }
    return all;
}

/* A duty that this item should have met; NULL: none. */
static const struct duty *find_duty(const struct history *h,
                                    const struct cluster_op *op,
                                    const struct history_word *word,
                                    size_t length)
{
    for (unsigned d = 0; d < DUTIES_MAX; d++) {
        const struct duty *duty = &word->duties[d];
        if ((op->verb == PC_VERB_EXISTS || duty->length == length) &&
            op->number > duty->n_before && has_way(h, op, duty) &&
            duty_holds(h, word, duty, op->started_ns)) {
            return duty;
        }
    }
    return NULL;
}

/* Gets of a node for which a pool or a disk had no room, to the end of their
 * time or before. */
static uint64_t count_busy(struct cluster *c, int i)
{
    return cluster_metric(c, i, PC_METRIC_MISS_BUSY) +
           cluster_metric(c, i, PC_METRIC_LATE_DISK);
}

static bool is_excused(const struct history *h, const struct cluster_op *op,
                       struct pc_digest digest, peercache_status_t status)
{
    const struct cluster_node *n = &h->cluster->nodes[op->node];
    if (op->killed || op->canceled || !is_well(h, n, op->started_ns) ||
        !owners_are_well(h, op->node, digest, op->started_ns)) {
        return true;
    }
    if (status != PEERCACHE_NOT_FOUND &&
        (op->timeout_ns < h->patience_ns || h->disks_are_slow)) {
        return true; /* It had too little time to see all of it. */
    }
    if (op->verb == PC_VERB_GET &&
        op->n_busy < count_busy(h->cluster, op->node)) {
        return true;
    }
    return h->moves_excuse && (h->unsettled_ns >= op->started_ns ||
                               !cluster_is_settled(h->cluster));
}

static void tell(const struct history *h, const struct history_word *word)
{
    size_t first = h->n_events;
    unsigned n_notes = 0;
    for (; first > 0 && n_notes < NOTES_TOLD; first--) {
        n_notes += h->events[first - 1].word == (int)(word - h->words);
    }
    fprintf(stderr, "--- history of %s\n", word->word);
    for (size_t i = first; i < h->n_events; i++) {
        const struct history_event *e = &h->events[i];
        if (e->word >= 0 && e->word != word - h->words) {
            continue;
        }
        double end = (double)(e->end_ns - PC_SIM_START_NS) / 1e6;
        fprintf(stderr, "%10.3f", end);
        if (e->end_ns != e->begin_ns) {
            fprintf(stderr, " (%.3f)", (double)(e->end_ns - e->begin_ns) / 1e6);
        }
        fprintf(stderr, "  %s%s%s\n", e->node < 0 ? "" : cluster_name(e->node),
                e->node < 0 ? "" : " ", e->text);
    }
}

/* Who holds it now, and what each shard says; owners by a node's own view. */
static void tell_places(const struct history *h,
                        const struct history_word *word)
{
    struct cluster *c = h->cluster;
    for (int i = 0; i < c->n_nodes_max; i++) {
        struct pc_record records[32];
        struct pc_place place;
        if (c->nodes[i].state == CLUSTER_DOWN) {
            continue;
        }
        const peercache_node_t *node = c->nodes[i].node;
        size_t n = pc_shard_lookup(node->shard, word->digest, records, 32);
        bool owns =
            pc_ring_owns(node->ring, word->digest, c->nodes[i].incarnation);
        if (holds(c, i, word->digest, &place)) {
            fprintf(stderr,
                    "  %s holds%s generation %" PRIu64 ", length %" PRIu64 "\n",
                    cluster_name(i), place.on_disk ? " on disk" : "",
                    place.generation, place.length);
        }
        for (size_t r = 0; r < n && r < 32; r++) {
            int k = 0;
            while (k < c->n_nodes_max &&
                   c->nodes[k].incarnation != records[r].incarnation) {
                k++;
            }
            fprintf(stderr,
                    "  %s%s says: %s, generation %" PRIu64 ", length %" PRIu64
                    "\n",
                    owns ? "owner " : "", cluster_name(i),
                    k < c->n_nodes_max ? cluster_name(k) : "somebody else",
                    records[r].generation, records[r].length);
        }
        if (owns && n == 0) {
            fprintf(stderr, "  owner %s says nothing\n", cluster_name(i));
        }
    }
}

void history_tell(const struct history *h, struct pc_digest digest)
{
    int at = find_digest(h, digest);
    if (at >= 0) {
        tell(h, &h->words[at]);
        tell_places(h, &h->words[at]);
    }
}

/* Why the reader's node has missed so far, as its metrics say. */
static void tell_causes(const struct history *h, int reader)
{
    static const struct
    {
        enum pc_metric metric;
        const char *name;
    } causes[] = {{PC_METRIC_MISS_NOT_FOUND, "not found"},
                  {PC_METRIC_MISS_STALE, "stale"},
                  {PC_METRIC_MISS_PEER_DOWN, "peer down"},
                  {PC_METRIC_MISS_TIMED_OUT, "timed out"},
                  {PC_METRIC_MISS_NO_PATH, "no path"},
                  {PC_METRIC_MISS_SIZE, "size"},
                  {PC_METRIC_MISS_BUSY, "disk busy"},
                  {PC_METRIC_MISS_NOT_READY, "not ready"},
                  {PC_METRIC_MISS_NO_MEMORY, "no memory"}};
    const struct cluster_node *n = &h->cluster->nodes[reader];
    fprintf(stderr, "--- misses of %s (machine %u, %s)", cluster_name(reader),
            n->machine, n->settings);
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        fprintf(stderr, ", %s %" PRIu64, causes[i].name,
                cluster_metric(h->cluster, reader, causes[i].metric));
    }
    fprintf(stderr, "\n");
}

static void judge(struct history *h, const struct cluster_op *op,
                  const struct history_word *word, size_t length,
                  peercache_status_t status)
{
    const struct duty *duty = find_duty(h, op, word, length);
    if (status == PEERCACHE_OK) {
        struct pc_place place;
        h->n_kept += duty != NULL;
        h->n_kept_by_disk +=
            duty != NULL &&
            holds(h->cluster, duty->holders[0].node, word->digest, &place) &&
            place.on_disk;
        return;
    }
    h->n_judged++;
    if (duty == NULL) {
        h->n_without_duty++;
    } else if (is_excused(h, op, word->digest, status)) {
        h->n_excused++;
    } else if (!h->is_off) {
        tell(h, word);
        tell_places(h, word);
        tell_causes(h, op->node);
        tell_causes(h, duty->holders[0].node);
        cluster_fail(h->cluster, "I8: %s %s %s: %s, and %s holds it",
                     cluster_name(op->node),
                     op->verb == PC_VERB_GET ? "get" : "exists", word->word,
                     peercache_status_name(status),
                     cluster_name(duty->holders[0].node));
    }
}

/* Rule 7: what exists says without asking is true when it says so. A node that
 * is gone may have left a header that a neighbour still maps. */
static void check_yes(struct history *h, const struct cluster_op *op,
                      const struct history_word *word,
                      peercache_source_t source)
{
    struct cluster *c = h->cluster;
    bool own_eyes =
        source == PEERCACHE_FROM_LOCAL || source == PEERCACHE_FROM_MAPPED;
    bool left = c->lost_ns != 0 && op->started_ns < c->lost_ns + LEFT_NS;
    bool there =
        !own_eyes || left || word->gone_ns >= op->started_ns || is_any_dying(c);
    for (int i = 0; i < c->n_nodes_max && !there; i++) {
        struct pc_place place;
        there = holds(c, i, word->digest, &place);
    }
    if (!there) {
        tell(h, word);
        cluster_fail(c, "%s exists %s: OK by its header, and nobody holds it",
                     cluster_name(op->node), word->word);
    }
}

static void write_down(struct history *h, const struct cluster_op *op,
                       struct history_word *word, peercache_status_t status)
{
    static const char *const verbs[] = {"put", "get", "exists", "remove"};
    struct history_event *event = add_event(h, (int)(word - h->words));
    event->begin_ns = op->started_ns;
    event->node = op->node;
    snprintf(event->text, sizeof(event->text), "%s%s: %s%s", verbs[op->verb],
             op->version == 0 ? "" : " (another value)",
             peercache_status_name(status), op->canceled ? ", canceled" : "");
}

/* ---- Disks ------------------------------------------------------------------
 */

/* Who has lost it has lost it, even if a put that begins now brings it back;
 * and what a put of other bytes or a remove takes away is told to nobody where
 * only a disk has it. */
static void look_at_duties(struct history *h, struct history_word *word,
                           bool changes)
{
    for (unsigned d = 0; d < DUTIES_MAX; d++) {
        struct duty *duty = &word->duties[d];
        for (unsigned k = 0; k < duty->n_holders; k++) {
            struct holder *holder = &duty->holders[k];
            struct pc_place place;
            if (h->cluster->nodes[holder->node].disk != NULL) {
                holder->lost =
                    holder->lost || changes ||
                    !holds(h->cluster, holder->node, word->digest, &place) ||
                    place.length != duty->length;
            }
        }
    }
}

static uint64_t all_holders(struct cluster *c, struct pc_digest digest)
{
    uint64_t holders = 0;
    for (int i = 0; i < c->n_nodes_max && i < 64; i++) {
        holders |= has_any(c, i, digest) ? (uint64_t)1 << i : 0;
    }
    return holders;
}

void history_began(struct history *h, struct cluster_op *op)
{
    struct cluster *c = h->cluster;
    op->n_busy = count_busy(c, op->node);
    if (op->verb != PC_VERB_PUT && op->verb != PC_VERB_REMOVE) {
        return;
    }
    if (op->verb == PC_VERB_REMOVE) {
        op->holders = calloc(op->n, sizeof(*op->holders));
    }
    for (size_t i = 0; i < op->n; i++) {
        char text[WORD_LEN];
        cluster_op_word(op, i, text, sizeof(text));
        struct history_word *word =
            get_word(h, cluster_digest(c, op->node, text), text);
        look_at_duties(h, word,
                       op->verb == PC_VERB_REMOVE ||
                           op->version != word->version);
        if (op->verb == PC_VERB_REMOVE) {
            op->holders[i] = all_holders(c, word->digest);
            continue;
        }
        word->version = op->version;
        word->n_puts++;
        word->removed &= ~((uint64_t)1 << (op->node % 64));
    }
}

/* A remove is confirmed: who had the value and was there all the time has not
 * got it any more, on disk neither, whatever happens (rule 10). What other
 * nodes still have, no owner knew of. */
static void on_removed(struct history *h, const struct cluster_op *op,
                       struct history_word *word, uint64_t holders)
{
    struct cluster *c = h->cluster;
    if (word->n_puts > 0 || word->put_ns >= op->started_ns ||
        word->lost_ns >= op->started_ns) {
        return;
    }
    for (int i = 0; i < c->n_nodes_max && i < 64; i++) {
        const struct cluster_node *n = &c->nodes[i];
        if ((holders >> i & 1) != 0 && n->state == CLUSTER_UP &&
            n->joined_ns != 0 && n->joined_ns <= op->started_ns &&
            (i == op->node || !has_any(c, i, word->digest))) {
            word->removed |= (uint64_t)1 << i;
            h->n_removed++;
        }
    }
}

static void check_removed(struct history *h, const struct history_word *word)
{
    for (int i = 0; i < h->cluster->n_nodes_max && word->removed != 0; i++) {
        if ((word->removed >> i % 64 & 1) != 0 &&
            has_any(h->cluster, i, word->digest)) {
            tell(h, word);
            cluster_fail(h->cluster, "rule 10: %s has %s again, after a remove",
                         cluster_name(i), word->word);
        }
    }
}

void history_check_removed(struct history *h)
{
    for (size_t w = 0; w < h->n_words; w++) {
        check_removed(h, &h->words[w]);
    }
}

void history_power_off(struct history *h, int i)
{
    const struct cluster_node *n = &h->cluster->nodes[i];
    if (n->node->settings.disk_fsync == PC_DISK_FSYNC_NEVER) {
        for (size_t w = 0; w < h->n_words; w++) {
            h->words[w].removed &= ~((uint64_t)1 << (i % 64));
        }
    }
}

/* Of every put and remove, also of one whose process is no more. */
static void on_change_ended(struct history *h, const struct cluster_op *op)
{
    for (size_t i = 0; i < op->n; i++) {
        char text[WORD_LEN];
        cluster_op_word(op, i, text, sizeof(text));
        struct history_word *word = find_word(h, text);
        if (word == NULL) {
            continue;
        }
        look_at_duties(h, word,
                       op->verb == PC_VERB_REMOVE ||
                           op->version != word->version);
        if (op->verb == PC_VERB_PUT) {
            word->n_puts--;
            word->put_ns = cluster_now(h->cluster);
        } else if (op->statuses[i] == PEERCACHE_OK && !op->killed) {
            on_removed(h, op, word, op->holders[i]);
        }
    }
}

/* ---- Ends -------------------------------------------------------------------
 */

void history_ended(struct history *h, const struct cluster_op *op)
{
    struct cluster *c = h->cluster;
    if (op->verb == PC_VERB_PUT || op->verb == PC_VERB_REMOVE) {
        on_change_ended(h, op);
    }
    const struct cluster_node *n = &c->nodes[op->node];
    bool is_gone =
        n->state == CLUSTER_DOWN || n->incarnation != op->incarnation;
    for (size_t i = 0; i < op->n && !op->killed && !is_gone; i++) {
        char text[WORD_LEN];
        cluster_op_word(op, i, text, sizeof(text));
        struct history_word *word =
            get_word(h, cluster_digest(c, op->node, text), text);
        size_t length = cluster_value_length(text, op->version);
        peercache_status_t status = op->statuses[i];
        write_down(h, op, word, status);
        check_removed(h, word);
        if (op->verb == PC_VERB_PUT && status == PEERCACHE_OK) {
            on_put(h, op, word, length);
        } else if (op->verb == PC_VERB_GET || op->verb == PC_VERB_EXISTS) {
            judge(h, op, word, length, status);
        }
        if (op->verb == PC_VERB_EXISTS && status == PEERCACHE_OK) {
            check_yes(h, op, word, op->sources[i]);
        }
    }
}
