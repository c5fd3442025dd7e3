/*
 * TABLE: members, and the views that are still asked.
 *
 * Up to 16 former views of up to 4096 members each would not fit into a
 * message if each said all of each member. But former views differ little
 * from the table and from one another, so identities are said once: those of
 * the table's members with them, the others ("strangers") in a list of their
 * own, and a view is packed as one le32 for each member: its place in members
 * and strangers, one after the other, and its state in that view.
 */
#include "codec.h"
#include "wire.h"

#include "base/map.h"
#include "base/mem.h"

#include <string.h>

#define STRANGERS_MAX      (PC_FORMER_VIEWS_MAX * PC_NODES_MAX)
#define STRANGER_BYTES_MIN 6u /* Header and four fields, one of them an id. */
#define VIEW_BYTES_MIN     4u /* Header, hash, binary's two. */
#define STATE_BITS         8
#define STATE_MASK         ((1u << STATE_BITS) - 1)

/* Who is said where, while a table is written. */
struct identities
{
    struct pc_map map; /* From a hash of an identity to its place. */
    const struct pc_member *members;
    uint32_t n_members;
    const struct pc_member **strangers;
    uint32_t n_strangers;
    uint32_t *places; /* Of all members of all views, in order. */
};

static bool same_identity(const struct pc_member *a, const struct pc_member *b)
{
    return a->incarnation == b->incarnation && a->host == b->host &&
           a->role == b->role && strcmp(a->id.text, b->id.text) == 0;
}

static struct pc_digest identity_key(const struct pc_member *m)
{
    return (struct pc_digest){
        pc_hash64(m->id.text, strlen(m->id.text), m->host + m->role),
        m->incarnation,
    };
}

static const struct pc_member *at_place(const struct identities *ids,
                                        uint64_t place)
{
    return place < ids->n_members ? &ids->members[place]
                                  : ids->strangers[place - ids->n_members];
}

/* The place of a member of a former view, a new one if it has none yet. */
static bool find_place(struct identities *ids, const struct pc_member *m,
                       uint32_t *place_p)
{
    struct pc_digest key = identity_key(m);
    uint64_t place;
    bool known = pc_map_get(&ids->map, key, &place);

    if (known && same_identity(at_place(ids, place), m)) {
        *place_p = (uint32_t)place;
        return true;
    }
    /* Where two identities share a key the later is said each time. */
    place = (uint64_t)ids->n_members + ids->n_strangers;
    if (!known && !pc_map_put(&ids->map, key, place)) {
        return false;
    }
    ids->strangers[ids->n_strangers++] = m;
    *place_p = (uint32_t)place;
    return true;
}

static void identities_fini(struct identities *ids)
{
    pc_map_fini(&ids->map);
    pc_free(ids->strangers);
    pc_free(ids->places);
}

static bool identities_fill(struct identities *ids,
                            const struct pc_msg_table *m, size_t n_in_views)
{
    uint32_t *place = ids->places;

    if (!pc_map_reserve(&ids->map, m->n_members + n_in_views)) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_members; i++) {
        if (!pc_map_put(&ids->map, identity_key(&m->members[i]), i)) {
            return false;
        }
    }
    for (uint32_t v = 0; v < m->n_former; v++) {
        for (uint32_t i = 0; i < m->former[v].n_members; i++) {
            if (!find_place(ids, &m->former[v].members[i], place++)) {
                return false;
            }
        }
    }
    return true;
}

static bool identities_init(struct identities *ids,
                            const struct pc_msg_table *m, size_t n_in_views)
{
    memset(ids, 0, sizeof(*ids));
    pc_map_init(&ids->map);
    if (n_in_views == 0) {
        return true;
    }
    ids->members = m->members;
    ids->n_members = m->n_members;
    ids->strangers = pc_alloc(n_in_views, sizeof(*ids->strangers));
    ids->places = pc_alloc(n_in_views, sizeof(*ids->places));
    if (ids->strangers == NULL || ids->places == NULL ||
        !identities_fill(ids, m, n_in_views)) {
        identities_fini(ids);
        return false;
    }
    return true;
}

static void write_strangers(struct pc_writer *w, const struct identities *ids)
{
    pc_writer_array(w, ids->n_strangers);
    for (uint32_t i = 0; i < ids->n_strangers; i++) {
        const struct pc_member *m = ids->strangers[i];
        pc_writer_array(w, 4);
        pc_write_id(w, &m->id);
        pc_writer_u64(w, m->incarnation);
        pc_writer_u64(w, m->host);
        pc_writer_number(w, m->role, PC_ROLE_CLIENT);
    }
}

static void write_views(struct pc_writer *w, const struct pc_msg_table *m,
                        const uint32_t *places)
{
    pc_writer_array(w, m->n_former);
    for (uint32_t v = 0; v < m->n_former; v++) {
        const struct pc_msg_view *view = &m->former[v];
        pc_writer_array(w, 2);
        pc_writer_u64(w, view->hash);
        uint8_t *space = pc_writer_packed(w, 4, view->n_members);
        if (space == NULL) {
            continue; /* Empty, or failed: then nothing more is written. */
        }
        for (uint32_t i = 0; i < view->n_members; i++) {
            pc_wire_put32(space + 4 * (size_t)i,
                          *places++ << STATE_BITS | view->members[i].state);
        }
    }
}

/* What the loops over it rely on; the rest is checked field by field. */
static bool is_table(const struct pc_msg_table *m, size_t *n_in_views_p)
{
    size_t n = 0;

    if (m->n_members > PC_NODES_MAX || m->n_former > PC_FORMER_VIEWS_MAX ||
        m->n_busy > PC_BUSY_MAX || (m->same && m->n_members > 0)) {
        return false;
    }
    for (uint32_t i = 0; i < m->n_members; i++) {
        if (!pc_node_id_is_valid(m->members[i].id.text)) {
            return false;
        }
    }
    for (uint32_t v = 0; v < m->n_former; v++) {
        const struct pc_msg_view *view = &m->former[v];
        if (view->n_members > PC_NODES_MAX) {
            return false;
        }
        for (uint32_t i = 0; i < view->n_members; i++) {
            if (view->members[i].state > PC_MEMBER_DEAD ||
                !pc_node_id_is_valid(view->members[i].id.text)) {
                return false;
            }
        }
        n += view->n_members;
    }
    *n_in_views_p = n;
    return true;
}

void pc_write_table(struct pc_writer *w, const struct pc_msg_table *m)
{
    struct identities ids;
    size_t n_in_views;

    if (!is_table(m, &n_in_views)) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    if (!identities_init(&ids, m, n_in_views)) {
        pc_writer_fail(w, PEERCACHE_NO_MEMORY);
        return;
    }
    pc_writer_array(w, 11);
    pc_writer_u64(w, m->view);
    pc_writer_u64(w, m->table);
    pc_writer_bool(w, m->same);
    pc_write_members(w, m->members, m->n_members);
    write_strangers(w, &ids);
    write_views(w, m, ids.places);
    pc_writer_u64(w, m->base);
    pc_writer_bool(w, m->more);
    pc_writer_number(w, m->admission, PC_ADMISSION_REFUSED);
    pc_writer_bytes(w, m->loads, m->n_busy, PC_LOAD_MAX);
    pc_writer_u64s(w, m->busy, m->n_busy);
    identities_fini(&ids);
}

static struct pc_member *read_strangers(struct pc_reader *r, uint32_t *n_p)
{
    uint32_t n = pc_reader_list(r, STRANGERS_MAX, STRANGER_BYTES_MIN);
    struct pc_member *strangers = pc_reader_alloc(r, n, sizeof(*strangers));

    for (uint32_t i = 0; i < n && r->status == PEERCACHE_OK; i++) {
        uint32_t n_unknown = pc_reader_open(r, 4);
        pc_read_id(r, &strangers[i].id);
        strangers[i].incarnation = pc_reader_u64(r);
        strangers[i].host = pc_reader_u64(r);
        strangers[i].role = (uint8_t)pc_reader_number(r, PC_ROLE_CLIENT);
        pc_reader_close(r, n_unknown);
    }
    *n_p = n;
    return strangers;
}

/* One member of a former view from its le32. */
static void unpack_member(struct pc_reader *r, const struct pc_msg_table *m,
                          const struct pc_member *strangers,
                          uint32_t n_strangers, uint32_t packed,
                          struct pc_member *member)
{
    uint32_t place = packed >> STATE_BITS;
    const struct pc_member *from;

    if (place < m->n_members) {
        from = &m->members[place];
    } else if (place - m->n_members < n_strangers) {
        from = &strangers[place - m->n_members];
    } else {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    if ((packed & STATE_MASK) > PC_MEMBER_DEAD) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    member->id = from->id;
    member->incarnation = from->incarnation;
    member->host = from->host;
    member->role = from->role;
    member->state = (uint8_t)(packed & STATE_MASK);
}

static void read_view(struct pc_reader *r, const struct pc_msg_table *m,
                      const struct pc_member *strangers, uint32_t n_strangers,
                      struct pc_msg_view *view)
{
    struct pc_bounds bounds = {0, PC_NODES_MAX};
    uint32_t n_unknown = pc_reader_open(r, 2);

    view->hash = pc_reader_u64(r);
    const uint8_t *packed = pc_reader_packed(r, 4, bounds, &view->n_members);
    view->members = pc_reader_alloc(r, view->n_members, sizeof(*view->members));
    for (uint32_t i = 0; i < view->n_members && r->status == PEERCACHE_OK;
         i++) {
        unpack_member(r, m, strangers, n_strangers,
                      pc_wire_get32(packed + 4 * (size_t)i), &view->members[i]);
    }
    pc_reader_close(r, n_unknown);
}

void pc_read_table(struct pc_reader *r, struct pc_msg_table *m)
{
    uint32_t n_unknown = pc_reader_open(r, 11);
    uint32_t n_strangers;

    m->view = pc_reader_u64(r);
    m->table = pc_reader_u64(r);
    m->same = pc_reader_bool(r);
    m->members = pc_read_members(r, &m->n_members);
    if (m->same && m->n_members > 0) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
    }
    struct pc_member *strangers = read_strangers(r, &n_strangers);
    m->n_former = pc_reader_list(r, PC_FORMER_VIEWS_MAX, VIEW_BYTES_MIN);
    m->former = pc_reader_alloc(r, m->n_former, sizeof(*m->former));
    for (uint32_t i = 0; i < m->n_former && r->status == PEERCACHE_OK; i++) {
        read_view(r, m, strangers, n_strangers, &m->former[i]);
    }
    m->base = pc_reader_u64(r);
    m->more = pc_reader_bool(r);
    m->admission = (uint8_t)pc_reader_number(r, PC_ADMISSION_REFUSED);
    m->loads = pc_reader_bytes(r, (struct pc_bounds){0, PC_BUSY_MAX},
                               PC_LOAD_MAX, &m->n_busy);
    m->busy = pc_reader_u64s(r, (struct pc_bounds){m->n_busy, m->n_busy});
    pc_reader_close(r, n_unknown);
}
