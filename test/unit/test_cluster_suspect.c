/*
 * Who is dead, who may have an id, and how a seed that starts again learns of
 * the cluster.
 */
#include "member_net.h"

static struct pc_cluster_counts counts_of(const struct net *net, unsigned i)
{
    struct pc_cluster_counts counts;
    pc_cluster_counts(net->nodes[i].cluster, &counts);
    return counts;
}

static uint64_t declared_by_all(const struct net *net)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < net->n_nodes; i++) {
        n += is_up(net, i) ? counts_of(net, i).n_declared : 0;
    }
    return n;
}

static bool is_dead_everywhere(const struct net *net, uint64_t incarnation)
{
    for (unsigned i = 0; i < net->n_nodes; i++) {
        if (is_up(net, i) && !net->nodes[i].paused &&
            !pc_cluster_is_dead(net->nodes[i].cluster, incarnation)) {
            return false;
        }
    }
    return true;
}

/* ---- Suspicion -------------------------------------------------------- */

static void one_broken_link_kills_nobody(void **state)
{
    (void)state;
    for (unsigned other = 0; other < 6; other++) {
        struct net net;
        net_init(&net, 6, 2, other + 1);
        start_all(&net);
        for (unsigned i = 0; i < 6; i++) {
            net.nodes[i].n_views = 0;
        }
        cut(&net, 5, other, other != 5);
        run_net(&net, 300 * SECOND);
        assert_true(is_converged(&net));
        assert_int_equal(declared_by_all(&net), 0);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(net.nodes[i].n_views, 0);
        }
        net_fini(&net);
    }
}

static void a_node_that_reaches_no_master_but_others_lives(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 8, 2, 3);
    net.max_masters = 2;
    start_all(&net);
    cut(&net, 7, 0, true);
    cut(&net, 7, 1, true);
    run_net(&net, 120 * SECOND);
    assert_true(is_converged(&net));
    assert_int_equal(declared_by_all(&net), 0);
    assert_true(counts_of(&net, 0).n_vouched > 0);
    net_fini(&net);
}

static void nobody_dies_before_others_were_asked(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 6, 2, 4);
    start_all(&net);
    uint64_t dead = net.nodes[5].incarnation;
    stop(&net, 5);
    for (int i = 0; i < 100 && !is_dead_everywhere(&net, dead); i++) {
        run_net(&net, 100 * MS);
        for (unsigned k = 0; k < 5; k++) {
            struct pc_cluster_counts counts = counts_of(&net, k);
            assert_true(counts.n_probes >= counts.n_declared);
        }
    }
    assert_true(is_dead_everywhere(&net, dead));
    assert_true(declared_by_all(&net) > 0);
    net_fini(&net);
}

static void a_stopped_process_is_dead_in_time(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 6; who++) {
        struct net net;
        net_init(&net, 6, 2, who + 1);
        start_all(&net);
        uint64_t dead = net.nodes[who].incarnation;
        pause_node(&net, who, true);
        run_net(&net, TTL_NS + 2 * BEAT_NS);
        assert_true(is_dead_everywhere(&net, dead));
        net_fini(&net);
    }
}

static void the_last_of_two_decides_alone(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 2, 1, 5);
    start_all(&net);
    uint64_t dead = net.nodes[1].incarnation;
    stop(&net, 1);
    run_net(&net, TTL_NS + 2 * BEAT_NS);
    assert_true(is_dead_everywhere(&net, dead));
    net_fini(&net);
}

static void answers_about_nobody_are_counted_and_ignored(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 1, 6);
    start_all(&net);
    uint64_t late = counts_of(&net, 0).n_late;
    struct pc_cluster_event event = {.type = PC_CLUSTER_PROBED,
                                     .peer = net.nodes[1].incarnation,
                                     .about = net.nodes[2].incarnation,
                                     .verdict = PC_PROBED_SILENT};
    for (unsigned i = 0; i < 10; i++) {
        step(&net, 0, event); /* Nobody asked. */
    }
    event.about = 12345;
    step(&net, 0, event);
    event.about = net.nodes[0].incarnation;
    step(&net, 0, event);
    assert_int_equal(counts_of(&net, 0).n_late - late, 12);
    run_net(&net, 60 * SECOND);
    assert_true(is_converged(&net));
    assert_int_equal(declared_by_all(&net), 0);
    net_fini(&net);
}

static void forged_words_are_counted_and_ignored(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 3, 1, 7);
    start_all(&net);
    uint64_t forged = counts_of(&net, 1).n_forged;
    struct pc_member bad[5];
    bad[0] = other("x", 0, 1, PC_MEMBER_ALIVE); /* No incarnation. */
    bad[1] = other("node-07", net.nodes[2].incarnation, 9,
                   PC_MEMBER_DEAD);                       /* Another's. */
    bad[2] = other("y", 77, UINT64_MAX, PC_MEMBER_ALIVE); /* No epoch. */
    /* What cannot be outdone: node 1 could never refute it. */
    bad[3] = *pc_cluster_find(net.nodes[1].cluster, net.nodes[1].incarnation);
    bad[3].epoch = UINT64_MAX - 1;
    bad[3].state = PC_MEMBER_DEAD;
    bad[4] = bad[3];
    bad[4].epoch = 1;
    bad[4].admission = UINT32_MAX;
    tell(&net, 1, net.nodes[0].incarnation, bad, 5);
    assert_int_equal(counts_of(&net, 1).n_forged - forged, 5);
    assert_true(is_converged(&net));
    net_fini(&net);
}

static void late_and_repeated_words_change_nothing(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 1, 8);
    start_all(&net);
    size_t n;
    uint64_t before;
    uint64_t after;
    struct pc_member all[4];
    memcpy(all, pc_cluster_all(net.nodes[0].cluster, &n), sizeof(all));
    assert_int_equal(n, 4);
    for (unsigned i = 0; i < 4; i++) {
        simple(&net, i, PC_CLUSTER_DRAIN); /* New epochs. */
    }
    run_net(&net, 2 * BEAT_NS);
    (void)pc_cluster_view(net.nodes[1].cluster, &n, &before);
    uint64_t late = counts_of(&net, 1).n_late;
    for (int i = 0; i < 5; i++) {
        tell(&net, 1, net.nodes[0].incarnation, all, 4);
    }
    (void)pc_cluster_view(net.nodes[1].cluster, &n, &after);
    assert_true(before == after);
    assert_true(counts_of(&net, 1).n_late >= late + 15);
    net_fini(&net);
}

/* ---- Pauses ----------------------------------------------------------- */

static void a_master_that_was_stopped_declares_nobody_dead(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 6, 2, 9);
    start_all(&net);
    for (unsigned i = 0; i < 6; i++) {
        pause_node(&net, i, true); /* As if the host had been suspended. */
    }
    net.now_ns += 600 * SECOND;
    for (unsigned i = 0; i < 6; i++) {
        pause_node(&net, i, false);
        run_net(&net, 700 * MS); /* One after the other. */
    }
    run_net(&net, 60 * SECOND);
    assert_true(is_converged(&net));
    assert_int_equal(declared_by_all(&net), 0);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(counts_of(&net, i).n_pauses, 1);
    }
    net_fini(&net);
}

/* ---- One id, two nodes ------------------------------------------------ */

/* Node `at` starts with the id of node `as`, at an address of its own. */
static void start_twin(struct net *net, unsigned at, unsigned as)
{
    start_as(net, at, as);
}

static void a_newcomer_with_the_id_of_a_live_node_is_refused(void **state)
{
    (void)state;
    for (unsigned as = 0; as < 5; as++) {
        struct net net;
        net_init(&net, 6, 2, as + 1);
        for (unsigned i = 0; i < 5; i++) {
            start(&net, i);
        }
        run_net(&net, 10 * SECOND);
        for (unsigned i = 0; i < 5; i++) {
            net.nodes[i].n_views = 0;
        }
        start_twin(&net, 5, as);
        run_net(&net, 60 * SECOND);
        assert_false(net.nodes[5].is_joined);
        assert_int_equal(net.nodes[5].n_refused, 1); /* Said once. */
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(net.nodes[i].n_views, 0);
            assert_int_equal(net.nodes[i].n_superseded, 0);
        }
        /* When the elder is gone its place is free. */
        stop(&net, as);
        run_net(&net, 3 * BEAT_NS);
        if (as != 0 && as != 1) {
            assert_true(net.nodes[5].is_joined);
        }
        net_fini(&net);
    }
}

static void a_restart_is_let_in_although_its_clock_was_set_back(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 5; who++) {
        struct net net;
        net_init(&net, 5, 2, who + 1);
        net.n_starts = 1000;
        start_all(&net);
        uint64_t old = net.nodes[who].incarnation;
        stop(&net, who);
        net.back = 500 * 1000;
        start(&net, who);
        assert_true(net.nodes[who].incarnation < old);
        run_net(&net, 3 * BEAT_NS);
        if (!is_converged(&net)) {
            print_net(&net);
            fail_msg("node %u is not let in", who);
        }
        assert_true(net.nodes[who].n_superseded == 0);
        stop(&net, who); /* It does not know of its past itself. */
        assert_true(is_dead_everywhere(&net, old));
        net_fini(&net);
    }
}

static void two_that_meet_after_a_partition_leave_one(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 8, 2, 12);
    for (unsigned i = 0; i < 7; i++) {
        start(&net, i);
    }
    run_net(&net, 10 * SECOND);
    /* 1, 3 and 7 on one side; 7 takes the id of 2, which is on the other. */
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 8; j++) {
            bool odd_i = i == 1 || i == 3 || i == 7;
            bool odd_j = j == 1 || j == 3 || j == 7;
            net.cut[i][j] = odd_i != odd_j;
        }
    }
    run_net(&net, 20 * SECOND);
    start_twin(&net, 7, 2);
    run_net(&net, 20 * SECOND);
    assert_true(net.nodes[7].is_joined && net.nodes[2].is_joined);
    memset(net.cut, 0, sizeof(net.cut));
    run_net(&net, 3 * BEAT_NS);
    assert_int_equal(net.nodes[2].n_superseded, 1); /* Admitted earlier. */
    assert_int_equal(net.nodes[7].n_superseded, 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(i == 2 || (view_has(&net, i, 7) && !view_has(&net, i, 2)));
    }
    net_fini(&net);
}

static void a_dead_record_does_not_make_the_living_withdraw(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 1, 13);
    start_all(&net);
    struct pc_member ghost =
        other("node-02", net.nodes[2].incarnation + 5, 3, PC_MEMBER_ALIVE);
    ghost.admission = 9; /* It was there, and nobody knows that it died. */
    tell(&net, 2, net.nodes[0].incarnation, &ghost, 1);
    run_net(&net, TTL_NS + 4 * BEAT_NS); /* It is asked, and others are. */
    assert_int_equal(net.nodes[2].n_superseded, 0);
    assert_true(pc_cluster_find(net.nodes[0].cluster, net.nodes[2].incarnation)
                    ->admission > ghost.admission);
    assert_true(is_converged(&net));
    ghost.incarnation++;
    ghost.state = PC_MEMBER_DEAD;
    tell(&net, 2, net.nodes[0].incarnation, &ghost, 1);
    run_net(&net, 3 * BEAT_NS);
    assert_int_equal(net.nodes[2].n_superseded, 0);
    assert_true(is_converged(&net));
    net_fini(&net);
}

/* ---- Seeds ------------------------------------------------------------ */

static void a_restarted_seed_learns_of_the_cluster_at_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct net net;
        net_init(&net, 8, 1, seed);
        start_all(&net);
        stop(&net, 0);
        for (unsigned i = 1; i < 8; i++) {
            struct pc_cluster_event event = {.type = PC_CLUSTER_CONN_LOST,
                                             .peer = net.nodes[0].incarnation};
            step(&net, i, event);
            net.nodes[i].n_views = 0;
        }
        run_net(&net, SECOND);
        start(&net, 0);
        run_net(&net, BEAT_NS / 2);
        if (!is_converged(&net)) {
            print_net(&net);
            fail_msg("seed %u does not know the cluster", seed);
        }
        net_fini(&net);
    }
}

static void a_restarted_seed_shrinks_nobodys_view(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 8, 1, 3);
    start_all(&net);
    stop(&net, 0);
    run_net(&net, 60 * SECOND);
    for (unsigned i = 1; i < 8; i++) {
        net.nodes[i].n_views = 0;
    }
    start(&net, 0); /* Alone at first. */
    for (int k = 0; k < 200; k++) {
        size_t n;
        run_net(&net, 50 * MS);
        for (unsigned i = 1; i < 8; i++) {
            (void)pc_cluster_view(net.nodes[i].cluster, &n, NULL);
            assert_in_range(n, 7, 8);
        }
    }
    assert_true(is_converged(&net));
    net_fini(&net);
}

static void all_seeds_may_go_for_good(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 8, 2, 4);
    for (unsigned i = 0; i < 7; i++) {
        start(&net, i);
    }
    run_net(&net, 10 * SECOND);
    stop(&net, 0);
    stop(&net, 1);
    run_net(&net, 60 * SECOND);
    assert_true(is_converged(&net)); /* The others carry on. */
    start(&net, 7);
    run_net(&net, 60 * SECOND);
    assert_false(net.nodes[7].is_joined); /* Alone until a seed is back. */
    start(&net, 1);
    run_net(&net, 3 * BEAT_NS);
    assert_true(is_converged(&net));
    net_fini(&net);
}

/* Nobody is left at the address where two halves could find each other. */
static void halves_without_any_seed_heal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct net net;
        net_init(&net, 8, 2, seed);
        start_all(&net);
        stop(&net, 0);
        stop(&net, 1);
        run_net(&net, 30 * SECOND);
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned j = 0; j < 8; j++) {
                net.cut[i][j] = (i < 5) != (j < 5);
            }
        }
        run_net(&net, 60 * SECOND);
        assert_false(view_has(&net, 2, 5) || view_has(&net, 5, 2));
        memset(net.cut, 0, sizeof(net.cut));
        run_net(&net, 10 * BEAT_NS);
        if (!is_converged(&net)) {
            print_net(&net);
            fail_msg("not healed, seed %d", (int)seed);
        }
        net_fini(&net);
    }
}

/* Its last words reached only one, which tells them after the death. */
static void last_words_of_the_dead_raise_nobody(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 5, 2, 6);
    start_all(&net);
    uint64_t dead = net.nodes[1].incarnation;
    struct pc_member last = *pc_cluster_find(net.nodes[1].cluster, dead);
    last.epoch += 2;
    stop(&net, 1);
    run_net(&net, TTL_NS + 2 * BEAT_NS);
    assert_true(pc_cluster_is_dead(net.nodes[0].cluster, dead));
    tell(&net, 0, net.nodes[3].incarnation, &last, 1);
    assert_true(pc_cluster_is_dead(net.nodes[0].cluster, dead));
    assert_true(is_converged(&net));
    net_fini(&net);
}

static void a_seeds_address_may_move(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 2, 5);
    struct pc_cluster_event gone = {.type = PC_CLUSTER_SEED_GONE, .seed = 0};
    for (unsigned i = 1; i < 4; i++) {
        start(&net, i);
        step(&net, i, gone); /* The name gives one address only. */
    }
    run_net(&net, BEAT_NS);
    for (unsigned i = 1; i < 4; i++) {
        assert_true(net.nodes[i].is_joined);
    }
    start(&net, 0);
    struct pc_cluster_event new_address = {.type = PC_CLUSTER_SEED_NEW,
                                           .seed = 0};
    step(&net, 2, new_address); /* One of them has looked it up again. */
    run_net(&net, 2 * BEAT_NS);
    assert_true(is_converged(&net));
    net_fini(&net);
}

/* ---- Differences ------------------------------------------------------ */

static void a_difference_to_another_table_makes_the_receiver_ask(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 1, 6);
    start_all(&net);
    struct pc_member x = other("x", 5, 3, PC_MEMBER_ALIVE);
    struct pc_msg_table table = {.view = 1,
                                 .table = 0x123,
                                 .base = 0x122,
                                 .n_members = 1,
                                 .members = &x};
    struct pc_cluster_event event = {.type = PC_CLUSTER_TABLE,
                                     .peer = net.nodes[0].incarnation,
                                     .seed = -1,
                                     .table = &table};
    struct pc_cluster_actions actions;
    event.now_ns = net.now_ns;
    assert_int_equal(pc_cluster_step(net.nodes[2].cluster, &event, &actions),
                     0);
    bool asked = false;
    for (size_t i = 0; i < actions.n_send; i++) {
        asked = asked || (actions.send[i].type == PC_MSG_BEAT &&
                          actions.send[i].member.incarnation == event.peer);
    }
    assert_true(asked);
    net_fini(&net);
}

static void a_part_of_a_table_makes_nobody_a_member(void **state)
{
    (void)state;
    struct net net;
    net_init(&net, 4, 1, 7);
    net.is_mute = true;
    start(&net, 2);
    struct pc_member x = other("x", 5, 3, PC_MEMBER_ALIVE);
    struct pc_msg_table table = {
        .view = 1, .table = 1, .more = true, .n_members = 1, .members = &x};
    struct pc_cluster_event event = {
        .type = PC_CLUSTER_TABLE, .peer = 5, .seed = -1, .table = &table};
    step(&net, 2, event);
    assert_false(net.nodes[2].is_joined);
    struct pc_member y = other("y", 6, 3, PC_MEMBER_ALIVE);
    table.members = &y;
    table.more = false;
    step(&net, 2, event);
    size_t n;
    (void)pc_cluster_view(net.nodes[2].cluster, &n, NULL);
    assert_int_equal(n, 3);
    net_fini(&net);
}

static struct pc_member longest(uint32_t i)
{
    struct pc_member m =
        other("x", (UINT64_MAX >> 1) + i, UINT64_MAX - 1, PC_MEMBER_DRAINING);
    memset(m.id.text, 'n', PC_NODE_ID_MAX);
    m.id.text[PC_NODE_ID_MAX] = '\0';
    (void)snprintf(m.id.text, 6, "%05u", i);
    m.id.text[5] = 'n';
    memset(m.address, 'a', PC_ADDRESS_MAX - 1);
    m.host = UINT64_MAX;
    m.admission = UINT32_MAX;
    m.role = PC_ROLE_CLIENT;
    return m;
}

static void the_largest_parts_of_a_table_fit_into_a_message(void **state)
{
    (void)state;
    struct pc_member *many = pc_alloc(PC_NODES_MAX, sizeof(*many));
    assert_non_null(many);
    for (uint32_t i = 0; i < PC_NODES_MAX; i++) {
        many[i] = longest(i);
    }
    struct pc_msg_view view = {1, PC_TABLE_PART_VIEWED, many};
    struct pc_msg msg = {.type = PC_MSG_TABLE};
    msg.u.table.members = many;
    for (int part = 0; part < 2; part++) {
        uint8_t *bytes;
        size_t len;
        struct pc_arena arena;
        struct pc_msg read;
        msg.u.table.n_members = part == 0 ? PC_TABLE_PART : 0;
        msg.u.table.n_former = part == 0 ? 0 : 1;
        msg.u.table.former = part == 0 ? NULL : &view;
        assert_int_equal(pc_msg_encode(&msg, &bytes, &len), PEERCACHE_OK);
        assert_true(len <= PC_HEAD_MAX);
        pc_arena_init(&arena, 0);
        assert_int_equal(
            pc_msg_decode((struct pc_blob){bytes, len}, &arena, &read),
            PEERCACHE_OK);
        pc_arena_fini(&arena);
        pc_free(bytes);
    }
    pc_free(many);
}

/* ---- Merging ---------------------------------------------------------- */

static struct pc_member random_word(struct pc_rand *r)
{
    char id[8];
    snprintf(id, sizeof(id), "m%u", (unsigned)pc_rand_below(r, 6));
    unsigned number = (unsigned)atoi(id + 1);
    /* Some ids have had several nodes, some nodes have left. (Of one that has
     * left only its incarnation is remembered, so an older node of its id may
     * be believed for member_ttl.) */
    bool several = number < 3;
    struct pc_member m =
        other(id, 100 + 10 * number + (several ? pc_rand_below(r, 3) : 0),
              1 + pc_rand_below(r, 5),
              (enum pc_member_state)pc_rand_below(r, several ? 2 : 3));
    m.admission = (uint32_t)(m.incarnation % 3 + 1);
    m.role = (uint8_t)(m.epoch % 2); /* What it says changes by epoch. */
    return m;
}

static void merge_words(uint64_t seed, const struct pc_member *words,
                        uint32_t n, uint64_t *table_p)
{
    struct net net;
    struct pc_rand r;
    struct pc_msg_beat beat;
    net_init(&net, CUTS_MAX, 0, 1);
    net.is_mute = true;
    start(&net, 0);
    pc_rand_init(&r, seed);
    uint32_t order[200];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = (uint32_t)pc_rand_below(&r, i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct pc_member m = words[order[i]];
        uint32_t n_times = 1 + (uint32_t)pc_rand_below(&r, 2);
        while (n_times-- > 0) {
            tell(&net, 0, 99, &m, 1);
        }
    }
    pc_cluster_beat(net.nodes[0].cluster, &beat);
    *table_p = beat.table;
    net_fini(&net);
}

static void words_give_one_table_in_any_order(void **state)
{
    (void)state;
    struct pc_rand r;
    pc_rand_init(&r, 99);
    for (int round = 0; round < 100; round++) {
        struct pc_member words[100];
        uint32_t n = 1 + (uint32_t)pc_rand_below(&r, 100);
        for (uint32_t i = 0; i < n; i++) {
            words[i] = random_word(&r);
        }
        uint64_t first;
        merge_words(1, words, n, &first);
        for (uint64_t seed = 2; seed < 12; seed++) {
            uint64_t again;
            merge_words(seed, words, n, &again);
            if (again != first) {
                fail_msg("round %d: another table with order %d", round,
                         (int)seed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_broken_link_kills_nobody),
        cmocka_unit_test(a_node_that_reaches_no_master_but_others_lives),
        cmocka_unit_test(nobody_dies_before_others_were_asked),
        cmocka_unit_test(a_stopped_process_is_dead_in_time),
        cmocka_unit_test(the_last_of_two_decides_alone),
        cmocka_unit_test(answers_about_nobody_are_counted_and_ignored),
        cmocka_unit_test(forged_words_are_counted_and_ignored),
        cmocka_unit_test(late_and_repeated_words_change_nothing),
        cmocka_unit_test(a_master_that_was_stopped_declares_nobody_dead),
        cmocka_unit_test(a_newcomer_with_the_id_of_a_live_node_is_refused),
        cmocka_unit_test(a_restart_is_let_in_although_its_clock_was_set_back),
        cmocka_unit_test(two_that_meet_after_a_partition_leave_one),
        cmocka_unit_test(a_dead_record_does_not_make_the_living_withdraw),
        cmocka_unit_test(a_restarted_seed_learns_of_the_cluster_at_once),
        cmocka_unit_test(a_restarted_seed_shrinks_nobodys_view),
        cmocka_unit_test(all_seeds_may_go_for_good),
        cmocka_unit_test(halves_without_any_seed_heal),
        cmocka_unit_test(last_words_of_the_dead_raise_nobody),
        cmocka_unit_test(a_seeds_address_may_move),
        cmocka_unit_test(a_difference_to_another_table_makes_the_receiver_ask),
        cmocka_unit_test(a_part_of_a_table_makes_nobody_a_member),
        cmocka_unit_test(the_largest_parts_of_a_table_fit_into_a_message),
        cmocka_unit_test(words_give_one_table_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
