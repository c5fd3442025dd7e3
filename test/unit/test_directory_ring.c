#include "test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "directory/ring.h"

#include <stdio.h>
#include <string.h>

#define VNODES 160

static struct pc_member make_member(unsigned number, uint64_t host)
{
    struct pc_member m;
    char id[32];
    memset(&m, 0, sizeof(m));
    snprintf(id, sizeof(id), "node-%04u", number);
    assert_true(pc_node_id_set(&m.id, id));
    m.incarnation = 1000 + number;
    m.epoch = 1;
    m.host = host;
    return m;
}

/* n members, `per_host` on each host. */
static struct pc_member *make_members(unsigned n, unsigned per_host)
{
    struct pc_member *members = pc_alloc(n, sizeof(*members));
    assert_non_null(members);
    for (unsigned i = 0; i < n; i++) {
        members[i] = make_member(i, 50 + i / per_host);
    }
    return members;
}

static struct pc_digest random_digest(struct pc_rand *r)
{
    uint64_t lo = pc_rand_u64(r);
    return (struct pc_digest){lo, pc_rand_u64(r)};
}

static void an_empty_ring_has_no_owners(void **state)
{
    (void)state;
    struct pc_owners owners;
    struct pc_digest digest = {1, 2};
    struct pc_ring *ring = pc_ring_create(NULL, 0, VNODES, 2);
    pc_ring_owners(ring, digest, &owners);
    assert_int_equal(owners.n, 0);
    assert_int_equal(pc_ring_view(ring), 0);
    assert_false(pc_ring_owns(ring, digest, 1));
    pc_ring_unref(ring);

    struct pc_member client = make_member(1, 1);
    client.role = PC_ROLE_CLIENT;
    ring = pc_ring_create(&client, 1, VNODES, 2);
    pc_ring_owners(ring, digest, &owners);
    assert_int_equal(owners.n, 0);
    assert_true(pc_ring_view(ring) != 0);
    pc_ring_unref(ring);
    pc_ring_unref(NULL);
}

static void a_single_member_owns_everything(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 1);
    struct pc_member m = make_member(3, 9);
    struct pc_ring *ring = pc_ring_create(&m, 1, VNODES, 2);
    for (int i = 0; i < 1000; i++) {
        struct pc_owners owners;
        struct pc_digest digest = random_digest(&r);
        pc_ring_owners(ring, digest, &owners);
        assert_int_equal(owners.n, 1);
        assert_int_equal(owners.index[0], 0);
        assert_true(pc_ring_owns(ring, digest, m.incarnation));
        assert_false(pc_ring_owns(ring, digest, m.incarnation + 1));
    }
    pc_ring_unref(ring);
}

static void only_living_nodes_with_a_pool_own_ranges(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 2);
    struct pc_member *members = make_members(8, 1);
    members[0].state = PC_MEMBER_DRAINING;
    members[1].state = PC_MEMBER_LEFT;
    members[2].state = PC_MEMBER_DEAD;
    members[3].role = PC_ROLE_CLIENT;
    members[4].role = PC_ROLE_STORAGE;
    struct pc_ring *ring = pc_ring_create(members, 8, VNODES, 3);
    size_t n;
    const struct pc_member *known = pc_ring_members(ring, &n);
    assert_int_equal(n, 6);
    for (int i = 0; i < 2000; i++) {
        struct pc_owners owners;
        pc_ring_owners(ring, random_digest(&r), &owners);
        assert_int_equal(owners.n, 3);
        for (uint32_t o = 0; o < owners.n; o++) {
            assert_in_range(known[owners.index[o]].incarnation, 1004, 1007);
        }
    }
    pc_ring_unref(ring);
    pc_free(members);
}

static void owners_are_distinct_and_on_distinct_hosts_where_possible(
    void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 3);
    for (unsigned per_host = 1; per_host <= 12; per_host++) {
        struct pc_member *members = make_members(12, per_host);
        unsigned n_hosts = (12 + per_host - 1) / per_host;
        for (uint32_t replicas = 1; replicas <= 5; replicas++) {
            struct pc_ring *ring = pc_ring_create(members, 12, 40, replicas);
            unsigned n_distinct = n_hosts < replicas ? n_hosts : replicas;
            for (int i = 0; i < 500; i++) {
                struct pc_owners o;
                pc_ring_owners(ring, random_digest(&r), &o);
                assert_int_equal(o.n, replicas);
                unsigned n_new = 0;
                for (uint32_t a = 0; a < o.n; a++) {
                    bool is_new = true;
                    for (uint32_t b = 0; b < a; b++) {
                        assert_int_not_equal(o.index[a], o.index[b]);
                        is_new = is_new && members[o.index[a]].host !=
                                               members[o.index[b]].host;
                    }
                    n_new += is_new;
                }
                assert_int_equal(n_new, n_distinct);
            }
            pc_ring_unref(ring);
        }
        pc_free(members);
    }
}

static void ranges_are_balanced(void **state)
{
    (void)state;
    enum { N = 32, KEYS = 200000 };
    struct pc_rand r;
    pc_rand_init(&r, 4);
    struct pc_member *members = make_members(N, 4);
    struct pc_ring *ring = pc_ring_create(members, N, VNODES, 2);
    unsigned first[N] = {0};
    unsigned all[N] = {0};
    for (int i = 0; i < KEYS; i++) {
        struct pc_owners owners;
        pc_ring_owners(ring, random_digest(&r), &owners);
        first[owners.index[0]]++;
        all[owners.index[0]]++;
        all[owners.index[1]]++;
    }
    for (int i = 0; i < N; i++) {
        assert_in_range(first[i], KEYS / N * 7 / 10, KEYS / N * 13 / 10);
        assert_in_range(all[i], 2 * KEYS / N * 7 / 10, 2 * KEYS / N * 13 / 10);
    }
    pc_ring_unref(ring);
    pc_free(members);
}

/* Owner lists of both rings, by incarnation, compared as sets. */
static unsigned count_moved(const struct pc_ring *a, const struct pc_ring *b,
                            int n_keys)
{
    struct pc_rand r;
    unsigned n_moved = 0;
    size_t n;
    const struct pc_member *members = pc_ring_members(a, &n);
    pc_rand_init(&r, 5);
    for (int i = 0; i < n_keys; i++) {
        struct pc_owners owners;
        struct pc_digest digest = random_digest(&r);
        pc_ring_owners(a, digest, &owners);
        for (uint32_t o = 0; o < owners.n; o++) {
            uint64_t who = members[owners.index[o]].incarnation;
            n_moved += !pc_ring_owns(b, digest, who);
        }
    }
    return n_moved;
}

static void a_join_moves_few_records(void **state)
{
    (void)state;
    enum { KEYS = 50000 };
    for (unsigned n = 4; n <= 64; n *= 4) {
        struct pc_member *members = make_members(n + 1, 1);
        struct pc_ring *before = pc_ring_create(members, n, VNODES, 2);
        struct pc_ring *after = pc_ring_create(members, n + 1, VNODES, 2);
        unsigned n_moved = count_moved(before, after, KEYS);
        /* Of 2 * KEYS placements, 1/(n+1) should move. */
        assert_in_range(n_moved, 1, 2 * KEYS / n * 13 / 10);
        pc_ring_unref(before);
        pc_ring_unref(after);
        pc_free(members);
    }
}

static void a_restart_keeps_the_ranges_but_is_another_owner(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 6);
    struct pc_member *members = make_members(10, 1);
    struct pc_ring *before = pc_ring_create(members, 10, VNODES, 2);
    members[4].incarnation = 77777;
    struct pc_ring *after = pc_ring_create(members, 10, VNODES, 2);
    assert_true(pc_ring_view(before) != pc_ring_view(after));
    for (int i = 0; i < 5000; i++) {
        struct pc_digest digest = random_digest(&r);
        struct pc_owners a;
        struct pc_owners b;
        pc_ring_owners(before, digest, &a);
        pc_ring_owners(after, digest, &b);
        assert_memory_equal(a.index, b.index, 2 * sizeof(a.index[0]));
        assert_int_equal(pc_ring_owns(before, digest, 1004),
                         pc_ring_owns(after, digest, 77777));
        assert_false(pc_ring_owns(after, digest, 1004));
    }
    pc_ring_unref(before);
    pc_ring_unref(after);
    pc_free(members);
}

static void a_view_has_one_name_whatever_the_order(void **state)
{
    (void)state;
    struct pc_member *m = make_members(5, 2);
    uint64_t hash = pc_view_hash(m, 5);
    struct pc_member swap = m[0];
    m[0] = m[3];
    m[3] = swap;
    assert_true(pc_view_hash(m, 5) == hash);
    m[1].epoch = 99;
    m[1].republishing = true;
    memcpy(m[1].address, "1.2.3.4:5", 10);
    assert_true(pc_view_hash(m, 5) == hash);
    struct pc_ring *ring = pc_ring_create(m, 5, 8, 2);
    assert_true(pc_ring_view(ring) == hash);
    pc_ring_unref(ring);

    m[1].host++;
    assert_true(pc_view_hash(m, 5) != hash);
    m[1].host--;
    m[1].state = PC_MEMBER_DRAINING;
    assert_true(pc_view_hash(m, 5) != hash);
    m[1].state = PC_MEMBER_DEAD;
    uint64_t without = pc_view_hash(m, 5);
    m[1] = m[4];
    assert_true(pc_view_hash(m, 4) == without);
    assert_true(pc_view_hash(m, 0) == 0);
    pc_free(m);
}

static void the_rings_order_does_not_depend_on_the_input(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 7);
    struct pc_member *m = make_members(9, 2);
    struct pc_ring *a = pc_ring_create(m, 9, VNODES, 3);
    for (unsigned i = 0; i < 4; i++) {
        struct pc_member swap = m[i];
        m[i] = m[8 - i];
        m[8 - i] = swap;
    }
    struct pc_ring *b = pc_ring_create(m, 9, VNODES, 3);
    for (int i = 0; i < 2000; i++) {
        struct pc_digest digest = random_digest(&r);
        struct pc_owners x;
        struct pc_owners y;
        pc_ring_owners(a, digest, &x);
        pc_ring_owners(b, digest, &y);
        assert_memory_equal(x.index, y.index, 3 * sizeof(x.index[0]));
    }
    struct pc_ring *again = pc_ring_ref(a);
    pc_ring_unref(a);
    assert_true(pc_ring_view(again) == pc_ring_view(b));
    pc_ring_unref(again);
    pc_ring_unref(b);
    pc_free(m);
}

static void a_failed_allocation_builds_no_ring(void **state)
{
    (void)state;
    struct pc_member *m = make_members(9, 2);
    int64_t before = pc_mem_outstanding();
    for (int64_t n = 0;; n++) {
        pc_mem_fail_after(n);
        struct pc_ring *ring = pc_ring_create(m, 9, 16, 2);
        pc_mem_fail_after(-1);
        if (ring != NULL) {
            assert_true(n > 5);
            pc_ring_unref(ring);
            break;
        }
        assert_true(pc_mem_outstanding() == before);
    }
    assert_true(pc_mem_outstanding() == before);
    pc_free(m);
}

/* Printed, not asserted. */
static void the_cost_of_a_thousand_members_is_printed(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 8);
    struct pc_member *members = make_members(1000, 8);
    uint64_t start = pc_clock_monotonic();
    struct pc_ring *ring = pc_ring_create(members, 1000, VNODES, 2);
    uint64_t built = pc_clock_monotonic();
    assert_non_null(ring);
    enum { ROUNDS = 200 };
    struct pc_owners owners;
    uint32_t sum = 0;
    for (int i = 0; i < 128 * ROUNDS; i++) {
        pc_ring_owners(ring, random_digest(&r), &owners);
        sum += owners.index[1];
    }
    uint64_t asked = pc_clock_monotonic();
    printf("ring of 1000 x %d: built in %.1f ms, 128 lookups in %.2f us (%u)\n",
           VNODES, (double)(built - start) / 1e6,
           (double)(asked - built) / 1e3 / ROUNDS, sum & 1);
    pc_ring_unref(ring);
    pc_free(members);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_ring_has_no_owners),
        cmocka_unit_test(a_single_member_owns_everything),
        cmocka_unit_test(only_living_nodes_with_a_pool_own_ranges),
        cmocka_unit_test(
            owners_are_distinct_and_on_distinct_hosts_where_possible),
        cmocka_unit_test(ranges_are_balanced),
        cmocka_unit_test(a_join_moves_few_records),
        cmocka_unit_test(a_restart_keeps_the_ranges_but_is_another_owner),
        cmocka_unit_test(a_view_has_one_name_whatever_the_order),
        cmocka_unit_test(the_rings_order_does_not_depend_on_the_input),
        cmocka_unit_test(a_failed_allocation_builds_no_ring),
        cmocka_unit_test(the_cost_of_a_thousand_members_is_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
