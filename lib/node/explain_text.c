/*
 * explain_text.c - what was found out about a key, as JSON.
 */
#include "explain.h"

#include <inttypes.h>
#include <string.h>

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static const char *id_of(const struct pc_explain *x, uint64_t incarnation)
{
    const peercache_node_t *node = x->node;
    const struct pc_asked *asked = pc_explain_find(x, incarnation);
    if (incarnation == node->self.incarnation) {
        return node->self.id.text;
    }
    if (asked != NULL) {
        return asked->member.id.text;
    }
    const struct pc_member *member =
        pc_cluster_find(node->cluster, incarnation);
    return member != NULL ? member->id.text : "";
}

static void add_node(struct pc_explain *x, uint64_t incarnation)
{
    const char *id = id_of(x, incarnation);
    pc_text_add(&x->text, "{\"id\":");
    pc_text_add_json(&x->text, id, strlen(id));
    pc_text_add(&x->text, ",\"incarnation\":\"%016" PRIx64 "\"", incarnation);
}

static void add_known(struct pc_explain *x)
{
    struct pc_text *text = &x->text;
    pc_text_add(text, ",\"view\":\"%016" PRIx64 "\",\"on_disk\":%s,\"local\":",
                pc_ring_view(x->node->ring), truth(x->on_disk));
    if (x->local) {
        pc_text_add(text,
                    "{\"generation\":%" PRIu64 ",\"length\":%" PRIu64
                    ",\"published\":%s}",
                    x->place.generation, x->place.length,
                    truth(x->place.published));
    } else {
        pc_text_add(text, "null");
    }
    pc_text_add(text, ",\"cached\":");
    if (x->cached) {
        const struct pc_record *r = &x->cached_record;
        pc_text_add(text,
                    "{\"incarnation\":\"%016" PRIx64
                    "\",\"generation\":%" PRIu64 ",\"length\":%" PRIu64 "}",
                    r->incarnation, r->generation, r->length);
    } else {
        pc_text_add(text, "null");
    }
}

/* ---- Owners ----------------------------------------------------------- */

static const char *no_answer(const struct pc_asked *asked)
{
    return asked->state == PC_ASKED_SILENT ? "no answer in 200 ms"
                                           : "unreachable";
}

/* In the words of the issue: present, absent, wrong view, or why not. */
static const char *answer_of(const struct pc_asked *asked)
{
    if (asked->state != PC_ASKED_ANSWERED) {
        return no_answer(asked);
    }
    for (uint32_t i = 0; i < asked->said.n_records; i++) {
        if (asked->said.dead[i] == 0) {
            return "present";
        }
    }
    if (!asked->said.owner && !asked->former) {
        return "absent, and no owner by its view";
    }
    return asked->said.n_records > 0 ? "present on dead nodes only" : "absent";
}

static void add_asked(struct pc_explain *x, const struct pc_asked *asked)
{
    pc_text_add(&x->text, ",\"suspect\":%s,\"us\":%" PRIu64,
                truth(asked->suspect), (uint64_t)(asked->took_ns / PC_US));
}

static void add_owner(struct pc_explain *x, const struct pc_asked *asked)
{
    struct pc_text *text = &x->text;
    add_node(x, asked->member.incarnation);
    pc_text_add(text, ",\"former\":%s,\"answer\":\"%s\"", truth(asked->former),
                answer_of(asked));
    add_asked(x, asked);
    if (asked->state == PC_ASKED_ANSWERED) {
        pc_text_add(text, ",\"view\":\"%016" PRIx64 "\"", asked->said.view);
    }
    pc_text_add(text, ",\"records\":[");
    for (uint32_t i = 0; i < asked->said.n_records; i++) {
        const struct pc_record *r = &asked->said.records[i];
        pc_text_add(text, "%s{\"holder\":", i > 0 ? "," : "");
        const char *id = id_of(x, r->incarnation);
        pc_text_add_json(text, id, strlen(id));
        pc_text_add(
            text,
            ",\"incarnation\":\"%016" PRIx64 "\",\"generation\":%" PRIu64
            ",\"length\":%" PRIu64 ",\"dead\":%s,\"on_disk\":%s}",
            r->incarnation, r->generation, r->length,
            truth(asked->said.dead[i] != 0), truth(pc_record_is_on_disk(r)));
    }
    pc_text_add(text, "]}");
}

static void add_owners(struct pc_explain *x)
{
    pc_text_add(&x->text, ",\"owners\":[");
    for (uint32_t i = 0; i < x->n_owners; i++) {
        pc_text_add(&x->text, "%s", i > 0 ? "," : "");
        add_owner(x, x->asked[i]);
    }
    pc_text_add(&x->text, "]");
}

/* ---- Holders ---------------------------------------------------------- */

struct way
{
    const char *mode;
    bool usable;
};

static struct way way_of(struct pc_explain *x, const struct pc_record *record)
{
    peercache_node_t *node = x->node;
    struct pc_peer *peer = pc_peers_find(&node->peers, record->incarnation);
    enum pc_read_way way = PC_WAY_DOWN;
    if (record->incarnation == node->self.incarnation) {
        if (pc_record_is_on_disk(record)) {
            return (struct way){"disk", x->on_disk};
        }
        bool here = x->local && x->place.generation == record->generation;
        return (struct way){"local", here};
    }
    if (peer != NULL && !pc_node_is_dead(node, record->incarnation)) {
        way = pc_read_way(node, peer, record, false, true);
    }
    switch (way) {
    case PC_WAY_MAPPED:
        return (struct way){"mapped", true};
    case PC_WAY_ONE_SIDED:
        return (struct way){"one-sided", true};
    case PC_WAY_SERVED:
        return (struct way){"served", true};
    case PC_WAY_PROMOTE:
        return (struct way){"disk", true};
    case PC_WAY_DOWN:
        return (struct way){"down", false};
    default:
        return (struct way){"none", false};
    }
}

/* What the holder itself says of its record; *held_p: it would deliver. */
static const char *says(const struct pc_explain *x,
                        const struct pc_record *record, bool *held_p)
{
    const struct pc_asked *asked = pc_explain_find(x, record->incarnation);
    *held_p = false;
    if (asked == NULL) {
        return pc_node_is_dead(x->node, record->incarnation) ? "dead"
                                                             : "not asked";
    }
    if (asked->state != PC_ASKED_ANSWERED) {
        *held_p = true; /* It may: its word is missing. */
        return no_answer(asked);
    }
    if (!asked->said.held) {
        *held_p = asked->said.on_disk && asked->said.length == record->length;
        return *held_p ? "on disk" : "not held";
    }
    *held_p = asked->said.length == record->length;
    if (asked->said.generation == record->generation) {
        return "held";
    }
    return *held_p ? "held in another place" : "held in another length";
}

/* The holder that a get would read from; UINT32_MAX: none. */
static uint32_t add_holders(struct pc_explain *x, const char **mode_p)
{
    uint32_t best = UINT32_MAX;
    struct pc_text *text = &x->text;
    pc_text_add(text, ",\"holders\":[");
    for (uint32_t i = 0; i < x->n_holders; i++) {
        const struct pc_record *r = &x->holders[i];
        const struct pc_asked *asked = pc_explain_find(x, r->incarnation);
        bool held;
        const char *word = says(x, r, &held);
        struct way way = way_of(x, r);
        bool usable = way.usable && held;
        pc_text_add(text, "%s", i > 0 ? "," : "");
        add_node(x, r->incarnation);
        pc_text_add(text,
                    ",\"region\":%u,\"slot\":%" PRIu32
                    ",\"generation\":%" PRIu64 ",\"length\":%" PRIu64
                    ",\"checksum\":\"%016" PRIx64
                    "\",\"mode\":\"%s\",\"usable\":%s,\"says\":\"%s\"",
                    (unsigned)r->region, r->slot, r->generation, r->length,
                    r->checksum, way.mode, truth(usable), word);
        if (asked != NULL) {
            add_asked(x, asked);
        }
        pc_text_add(text, "}");
        if (usable && best == UINT32_MAX) {
            best = i;
            *mode_p = way.mode;
        }
    }
    pc_text_add(text, "]");
    return best;
}

/* ---- Verdict ---------------------------------------------------------- */

struct votes
{
    uint32_t n_absent, n_silent, n_foreign;
};

static struct votes count_votes(const struct pc_explain *x)
{
    struct votes votes = {0, 0, 0};
    for (uint32_t i = 0; i < x->n_owners; i++) {
        const struct pc_asked *asked = x->asked[i];
        if (asked->state != PC_ASKED_ANSWERED) {
            votes.n_silent++;
        } else if (!asked->said.owner && !asked->former) {
            votes.n_foreign++;
        } else {
            votes.n_absent++;
        }
    }
    return votes;
}

/* The verdict without a holder that can be read. */
static const char *why_not(const struct pc_explain *x, const char **result_p)
{
    struct votes votes = count_votes(x);
    *result_p = "NOT_FOUND";
    if (x->n_holders > 0) {
        return "it has holders, but none of them has it and can be read from "
               "now";
    }
    if (votes.n_foreign > 0) {
        *result_p = "TIMED_OUT";
        return "nodes see different views: a get asks again until they agree "
               "or its time is over";
    }
    if (votes.n_absent == 0 && votes.n_silent > 0) {
        return "no owner of its record can be reached";
    }
    if (votes.n_silent > 0) {
        return "no owner that can be reached has a record of it, and some "
               "owner cannot be reached";
    }
    return x->joined ? "no owner has a record of it"
                     : "this node is not a member yet, and its own part of "
                       "the directory has no record of it";
}

static void add_phases(struct pc_explain *x)
{
    static const char *const names[PC_EXPLAIN_PHASES] = {"local", "owners",
                                                         "holders", "ways"};
    pc_text_add(&x->text, ",\"phases\":[");
    for (int i = 0; i < PC_EXPLAIN_PHASES; i++) {
        pc_text_add(&x->text, "%s{\"name\":\"%s\",\"us\":%" PRIu64 "}",
                    i > 0 ? "," : "", names[i],
                    (uint64_t)(x->phase_ns[i] / PC_US));
    }
    pc_text_add(&x->text, "]");
}

static void add_verdict(struct pc_explain *x, uint32_t best, const char *mode)
{
    const char *result = "OK";
    struct pc_text why;
    pc_text_init(&why);
    if (x->local) {
        pc_text_add(&why, "it is in this node's own pool");
    } else if (x->on_disk) {
        pc_text_add(&why, "it is on this node's own disk");
    } else if (best != UINT32_MAX) {
        pc_text_add(&why, "it would be read from %s, mode %s",
                    id_of(x, x->holders[best].incarnation), mode);
        if (pc_record_is_on_disk(&x->holders[best])) {
            pc_text_add(&why, ", where it is on disk");
        }
    } else {
        pc_text_add(&why, "%s", why_not(x, &result));
    }
    pc_text_add(&x->text, ",\"result\":\"%s\",\"why\":", result);
    if (why.failed) {
        x->text.failed = true;
    } else {
        pc_text_add_json(&x->text, why.data, why.len);
    }
    pc_text_add(&x->text, "}");
    pc_text_fini(&why);
}

void pc_explain_write(struct pc_explain *x)
{
    const char *mode = "";
    add_known(x);
    add_owners(x);
    uint32_t best = add_holders(x, &mode);
    add_phases(x);
    add_verdict(x, best, mode);
}
