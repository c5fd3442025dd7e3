#include "ring.h"

#include "base/assert.h"
#include "base/mem.h"
#include "proto/view.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT16_MAX

_Static_assert(PC_NODES_MAX < NONE, "members are named by 16 bits");

struct point
{
    uint64_t position;
    uint32_t member;
};

/*
 * Points lie apart from their owners, so that a search touches few lines. The
 * owners of every point are worked out when the ring is built: a lookup is one
 * binary search and one copy.
 */
struct pc_ring
{
    atomic_uint refs;
    struct pc_member *members; /* Sorted by id. */
    size_t n_members;
    bool all_drain; /* Nobody is alive. */
    uint64_t view;
    uint64_t *positions; /* Sorted. */
    size_t n_points;
    uint16_t *owners; /* n_owners of each point, one after the other. */
    uint32_t n_owners;
};

/* Members and hosts by how soon they come on the ring from some place on: the
 * front of a list is the nearest. Walking the ring backwards, the member of
 * each point goes to the front, so both lists are right at every point. */
struct nearest
{
    uint16_t *next;
    uint16_t *prev;
    uint16_t head;
};

static int compare_members(const void *a, const void *b)
{
    const struct pc_member *x = a;
    const struct pc_member *y = b;
    int order = pc_node_id_compare(&x->id, &y->id);
    if (order != 0) {
        return order;
    }
    return (x->incarnation > y->incarnation) -
           (x->incarnation < y->incarnation);
}

/* Who drains owns something only where everybody else does so too. */
static bool owns_ranges(const struct pc_member *member, bool all_drain)
{
    return (member->state == PC_MEMBER_ALIVE || all_drain) &&
           member->role != PC_ROLE_CLIENT;
}

/* The position depends on the id only, so a restart keeps its ranges. */
static uint64_t position_of(uint64_t id_hash, uint32_t vnode)
{
    uint64_t facts[2] = {id_hash, vnode};
    return pc_hash64(facts, sizeof(facts), 0x52494e47);
}

/* By their upper half, in four rounds of eight bits. */
static void sort_upper(struct point *points, struct point *spare, size_t n)
{
    size_t at[4][257] = {{0}};
    for (size_t i = 0; i < n; i++) {
        for (unsigned r = 0; r < 4; r++) {
            at[r][((points[i].position >> (32 + 8 * r)) & 0xff) + 1]++;
        }
    }
    for (unsigned r = 0; r < 4; r++) {
        for (size_t i = 0; i < 256; i++) {
            at[r][i + 1] += at[r][i];
        }
        for (size_t i = 0; i < n; i++) {
            spare[at[r][(points[i].position >> (32 + 8 * r)) & 0xff]++] =
                points[i];
        }
        struct point *swap = points;
        points = spare;
        spare = swap;
    }
    /* An even number of rounds: the result is in the first array. */
}

/* Stable, so points at one place (never, in practice) stay in id order.
 * Positions are hashes: few are alike in their upper half, so that hardly any
 * point moves in the second step. */
static void sort_points(struct point *points, struct point *spare, size_t n)
{
    sort_upper(points, spare, n);
    for (size_t i = 1; i < n; i++) {
        struct point point = points[i];
        size_t at = i;
        for (; at > 0 && points[at - 1].position > point.position; at--) {
            points[at] = points[at - 1];
        }
        points[at] = point;
    }
}

static void nearest_touch(struct nearest *list, uint16_t item)
{
    if (list->head == item) {
        return;
    }
    if (list->prev[item] != NONE) {
        list->next[list->prev[item]] = list->next[item];
        if (list->next[item] != NONE) {
            list->prev[list->next[item]] = list->prev[item];
        }
    }
    list->prev[item] = NONE;
    list->next[item] = list->head;
    if (list->head != NONE) {
        list->prev[list->head] = item;
    }
    list->head = item;
}

static bool nearest_init(struct nearest *list, size_t n)
{
    list->next = pc_alloc(n, sizeof(*list->next));
    list->prev = pc_alloc(n, sizeof(*list->prev));
    list->head = NONE;
    if (list->next == NULL || list->prev == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        list->next[i] = NONE;
        list->prev[i] = NONE;
    }
    return true;
}

static void nearest_fini(struct nearest *list)
{
    pc_free(list->next);
    pc_free(list->prev);
}

/* Number the hosts of all members: host_of[i] for member i. Quadratic only in
 * hosts that hash alike. */
static size_t number_hosts(const struct pc_member *members, size_t n,
                           uint16_t *host_of, uint16_t *cells, size_t n_cells)
{
    size_t n_hosts = 0;
    memset(cells, 0xff, n_cells * sizeof(*cells));
    for (size_t i = 0; i < n; i++) {
        uint64_t host = members[i].host;
        size_t at = pc_hash64(&host, sizeof(host), 0) & (n_cells - 1);
        while (cells[at] != NONE && members[cells[at]].host != host) {
            at = (at + 1) & (n_cells - 1);
        }
        if (cells[at] == NONE) {
            cells[at] = (uint16_t)i;
            host_of[i] = (uint16_t)n_hosts++;
        } else {
            host_of[i] = host_of[cells[at]];
        }
    }
    return n_hosts;
}

/* Owners from here on: the nearest hosts by their nearest member, then, with
 * too few hosts, the nearest members that are left. */
static void pick_owners(uint16_t *owners, uint32_t n_owners,
                        const struct nearest *hosts, const uint16_t *member_of,
                        const struct nearest *members)
{
    uint32_t n = 0;
    for (uint16_t h = hosts->head; h != NONE && n < n_owners;
         h = hosts->next[h]) {
        owners[n++] = member_of[h];
    }
    uint32_t n_distinct = n;
    for (uint16_t m = members->head; m != NONE && n < n_owners;
         m = members->next[m]) {
        uint32_t i = 0;
        while (i < n_distinct && owners[i] != m) {
            i++;
        }
        if (i == n_distinct) {
            owners[n++] = m;
        }
    }
    PC_ASSERT(n == n_owners);
}

/* Walk backwards twice: the first round fills the lists, as the ring wraps. */
static void fill_owners(struct pc_ring *ring, const struct point *points,
                        const uint16_t *host_of, struct nearest *hosts,
                        uint16_t *member_of, struct nearest *members)
{
    for (int round = 0; round < 2; round++) {
        for (size_t i = ring->n_points; i-- > 0;) {
            uint16_t member = (uint16_t)points[i].member;
            member_of[host_of[member]] = member;
            nearest_touch(hosts, host_of[member]);
            nearest_touch(members, member);
            if (round == 1) {
                pick_owners(&ring->owners[i * ring->n_owners], ring->n_owners,
                            hosts, member_of, members);
            }
        }
    }
}

static bool build_owners(struct pc_ring *ring, const struct point *points)
{
    size_t n = ring->n_members;
    size_t n_cells = 2;
    while (n_cells < 2 * n) {
        n_cells *= 2;
    }
    struct nearest hosts;
    struct nearest members;
    uint16_t *host_of = pc_alloc(n, sizeof(*host_of));
    uint16_t *member_of = pc_alloc(n, sizeof(*member_of));
    uint16_t *cells = pc_alloc(n_cells, sizeof(*cells));
    bool ok = nearest_init(&hosts, n);
    ok = nearest_init(&members, n) && ok;
    ok = ok && host_of != NULL && member_of != NULL && cells != NULL;
    if (ok) {
        number_hosts(ring->members, n, host_of, cells, n_cells);
        fill_owners(ring, points, host_of, &hosts, member_of, &members);
    }
    nearest_fini(&members);
    nearest_fini(&hosts);
    pc_free(cells);
    pc_free(member_of);
    pc_free(host_of);
    return ok;
}

static void make_points(const struct pc_ring *ring, uint32_t vnodes,
                        struct point *points)
{
    size_t n = 0;
    for (size_t i = 0; i < ring->n_members; i++) {
        const struct pc_member *member = &ring->members[i];
        if (!owns_ranges(member, ring->all_drain)) {
            continue;
        }
        uint64_t id = pc_hash64(member->id.text, strlen(member->id.text), 0);
        for (uint32_t v = 0; v < vnodes; v++) {
            points[n].position = position_of(id, v);
            points[n++].member = (uint32_t)i;
        }
    }
    PC_ASSERT(n == ring->n_points);
}

static bool build(struct pc_ring *ring, uint32_t vnodes)
{
    size_t n = ring->n_points;
    bool ok = false;
    struct point *points = pc_alloc(n, sizeof(*points));
    struct point *spare = pc_alloc(n, sizeof(*spare));
    ring->positions = pc_alloc(n, sizeof(*ring->positions));
    ring->owners = pc_alloc(n * ring->n_owners, sizeof(*ring->owners));
    if (points != NULL && spare != NULL && ring->positions != NULL &&
        ring->owners != NULL) {
        make_points(ring, vnodes, points);
        sort_points(points, spare, n);
        for (size_t i = 0; i < n; i++) {
            ring->positions[i] = points[i].position;
        }
        ok = build_owners(ring, points);
    }
    pc_free(spare);
    pc_free(points);
    return ok;
}

static void destroy(struct pc_ring *ring)
{
    pc_free(ring->owners);
    pc_free(ring->positions);
    pc_free(ring->members);
    pc_free(ring);
}

struct pc_ring *pc_ring_create(const struct pc_member *members,
                               size_t n_members, uint32_t vnodes,
                               uint32_t replicas)
{
    struct pc_ring *ring = pc_alloc(1, sizeof(*ring));
    if (ring == NULL) {
        return NULL;
    }
    atomic_init(&ring->refs, 1);
    ring->members =
        pc_alloc(n_members == 0 ? 1 : n_members, sizeof(*ring->members));
    if (ring->members == NULL || n_members > PC_NODES_MAX) {
        destroy(ring);
        return NULL;
    }
    size_t n_eligible = 0;
    for (size_t i = 0; i < n_members; i++) {
        if (pc_view_has(&members[i])) {
            ring->members[ring->n_members++] = members[i];
            n_eligible += owns_ranges(&members[i], false);
        }
    }
    ring->all_drain = n_eligible == 0;
    for (size_t i = 0; i < ring->n_members && ring->all_drain; i++) {
        n_eligible += owns_ranges(&ring->members[i], true);
    }
    qsort(ring->members, ring->n_members, sizeof(*ring->members),
          compare_members);
    ring->view = pc_view_hash(members, n_members);
    if (replicas > PC_REPLICAS_MAX) {
        replicas = PC_REPLICAS_MAX;
    }
    ring->n_owners = n_eligible < replicas ? (uint32_t)n_eligible : replicas;
    ring->n_points = n_eligible * vnodes;
    if (ring->n_points == 0 || ring->n_owners == 0) {
        ring->n_points = 0;
        return ring;
    }
    if (!build(ring, vnodes)) {
        destroy(ring);
        return NULL;
    }
    return ring;
}

struct pc_ring *pc_ring_ref(struct pc_ring *ring)
{
    /* Relaxed: who adds a reference holds one already. */
    atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
    return ring;
}

void pc_ring_unref(struct pc_ring *ring)
{
    if (ring == NULL) {
        return;
    }
    /* Every thread's last use happens before the free. */
    if (atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) == 1) {
        destroy(ring);
    }
}

uint64_t pc_view_hash(const struct pc_member *members, size_t n_members)
{
    uint64_t sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < n_members; i++) {
        if (pc_view_has(&members[i])) {
            sum += pc_view_part(&members[i]);
            n++;
        }
    }
    return pc_view_name(sum, n);
}

uint64_t pc_ring_view(const struct pc_ring *ring)
{
    return ring->view;
}

const struct pc_member *pc_ring_members(const struct pc_ring *ring, size_t *n_p)
{
    *n_p = ring->n_members;
    return ring->members;
}

bool pc_ring_place(const struct pc_ring *ring, const struct pc_member *member,
                   size_t *place_p)
{
    size_t low = 0;
    size_t n = ring->n_members;
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        int order = compare_members(&ring->members[middle], member);
        if (order == 0) {
            *place_p = middle;
            return owns_ranges(&ring->members[middle], ring->all_drain);
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return false;
}

/* The first point at or behind the digest's place; the ring wraps. The lower
 * half of the digest is for the shards' tables: using one half for both would
 * crowd them. */
static const uint16_t *owners_at(const struct pc_ring *ring,
                                 struct pc_digest digest)
{
    const uint64_t *positions = ring->positions;
    size_t base = 0;
    for (size_t n = ring->n_points; n > 0;) {
        size_t half = n / 2;
        if (positions[base + half] < digest.hi) {
            base += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    if (base == ring->n_points) {
        base = 0;
    }
    return &ring->owners[base * ring->n_owners];
}

void pc_ring_owners(const struct pc_ring *ring, struct pc_digest digest,
                    struct pc_owners *owners)
{
    owners->n = 0;
    if (ring->n_points == 0) {
        return;
    }
    const uint16_t *at = owners_at(ring, digest);
    for (uint32_t i = 0; i < ring->n_owners; i++) {
        owners->index[i] = at[i];
    }
    owners->n = ring->n_owners;
}

bool pc_ring_owns(const struct pc_ring *ring, struct pc_digest digest,
                  uint64_t incarnation)
{
    if (ring->n_points == 0) {
        return false;
    }
    const uint16_t *at = owners_at(ring, digest);
    for (uint32_t i = 0; i < ring->n_owners; i++) {
        if (ring->members[at[i]].incarnation == incarnation) {
            return true;
        }
    }
    return false;
}
