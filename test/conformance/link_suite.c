/* How connections begin, and that bytes arrive. */
#include "link_world.h"

#include <poll.h>

/* ---- Bytes --------------------------------------------------------------- */

static void messages_of_every_size_arrive_whole(void **state)
{
    static const size_t heads[] = {
        0,     1,     15,     16,     17,
        4096,  65519, 65520,  65521,  65536,
        65537, 99999, 131072, 199999, LINK_SUITE_HEAD_MAX};
    static const size_t bodies[] = {0,       1,           4095,   4096,
                                    32768,   65535,       65536,  65537,
                                    1048576, 5242880 + 3, 1048577};
    static const size_t few_bodies[] = {0, 1, 70000};
    struct cut whole = {0};
    struct world world;

    world_connected(&world, *state);
    for (size_t i = 0; i < PC_ARRAY_LEN(heads); i++) {
        for (size_t j = 0; j < PC_ARRAY_LEN(few_bodies); j++) {
            exchange(&world, heads[i], few_bodies[j], &whole);
        }
    }
    for (size_t i = 0; i < PC_ARRAY_LEN(bodies); i++) {
        exchange(&world, 0, bodies[i], &whole);
        exchange(&world, 17, bodies[i], &whole);
    }
    world_fini(&world);
}

static void scattered_pieces_meet_whatever_their_boundaries(void **state)
{
    static const size_t small[] = {1, 0, 2, 3, 0, 5};
    static const size_t odd[] = {777, 1, 4096, 0, 65536, 3};
    static const size_t pages[] = {4096};
    static const size_t large[] = {131072, 0, 300000};
    static const struct cut cuts[] = {
        {small, 6}, {odd, 6}, {pages, 1}, {large, 3}, {NULL, 0}};
    static const size_t bodies[] = {1, 3000, 70000, 2000003};
    struct world world;

    world_connected(&world, *state);
    for (size_t i = 0; i < PC_ARRAY_LEN(cuts); i++) {
        for (size_t j = 0; j < PC_ARRAY_LEN(cuts); j++) {
            world.sides[1].cut = cuts[j];
            for (size_t k = 0; k < PC_ARRAY_LEN(bodies); k++) {
                exchange(&world, 9, bodies[k], &cuts[i]);
            }
        }
    }
    world_fini(&world);
}

static void many_messages_arrive_in_order(void **state)
{
    enum { N_MESSAGES = 3000 };
    struct world world;
    uint32_t next = 0;

    world_connected(&world, *state);
    struct side *from = &world.sides[0];
    struct side *to = &world.sides[1];
    for (uint32_t i = 0; i < N_MESSAGES; i++) {
        send_plain(from, 4 + i % 50, i % 7 == 0 ? i * 3 : 0, i);
    }
    UNTIL(&world, to->n_landed == N_MESSAGES && from->n_sent == N_MESSAGES);
    for (struct pc_list *node = to->landings.next; node != &to->landings;
         node = node->next, next++) {
        struct landing *landing = PC_CONTAINER_OF(node, struct landing, node);
        assert_int_equal(landing->head_len, 4 + next % 50);
        check(landing->head, landing->head_len, next);
        assert_int_equal(landing->body_len, next % 7 == 0 ? next * 3 : 0);
        check(landing->body, landing->body_len, next + 1);
    }
    assert_int_equal(next, N_MESSAGES);
    world_fini(&world);
}

static void both_ways_at_once_every_done_comes_once(void **state)
{
    enum { N_MESSAGES = 200 };
    struct world world;

    world_connected(&world, *state);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        send_plain(&world.sides[0], i, (i * 7919) % 200000, i);
        send_plain(&world.sides[1], i, (i * 104729) % 200000, i);
    }
    for (int i = 0; i < SIDES; i++) {
        UNTIL(&world, world.sides[i].n_sent == N_MESSAGES &&
                          world.sides[i].n_landed == N_MESSAGES);
    }
    few_steps(&world);
    for (int i = 0; i < SIDES; i++) {
        assert_int_equal(world.sides[i].n_pending, 0);
        assert_int_equal(world.sides[i].n_messages, N_MESSAGES);
    }
    world_fini(&world);
}

static void answers_may_be_posted_from_callbacks(void **state)
{
    enum { N_ECHOES = 300 };
    struct world world;

    world_connected(&world, *state);
    world.sides[0].n_echoes = N_ECHOES;
    world.sides[1].n_echoes = N_ECHOES;
    send_plain(&world.sides[0], 5, 5000, 99);
    UNTIL(&world, world.sides[0].n_echoes == 0 &&
                      world.sides[1].n_echoes == 0 &&
                      world.sides[1].n_landed == N_ECHOES + 1);
    world_fini(&world);
}

static void a_sink_without_pieces_drops_the_body(void **state)
{
    struct world world;

    world_connected(&world, *state);
    world.sides[1].drops = true;
    send_plain(&world.sides[0], 3, 3000000, 1);
    UNTIL(&world, world.sides[1].n_landed == 1);
    world.sides[1].drops = false;
    exchange(&world, 3, 1000, &(struct cut){0});
    world_fini(&world);
}

/* ---- Connecting ---------------------------------------------------------- */

static void the_class_of_a_connection_is_told(void **state)
{
    static const enum pc_link_class classes[] = {PC_LINK_CONTROL, PC_LINK_BULK};
    for (size_t i = 0; i < PC_ARRAY_LEN(classes); i++) {
        struct world world;
        world_init(&world, *state);
        world.sides[1].cls = PC_LINK_CONTROL;
        begin_connect_to(&world, world.bound, classes[i], NEVER);
        UNTIL(&world, world.sides[1].n_accepted == 1);
        assert_int_equal(world.sides[1].cls, classes[i]);
        world_fini(&world);
    }
}

static void connect_where_nobody_listens_is_unreachable(void **state)
{
    char address[ADDRESS_MAX];
    struct world world;

    world_init(&world, *state);
    world.fixture->nowhere(world.fixture, address, sizeof(address));
    begin_connect_to(&world, address, PC_LINK_BULK, now(&world) + PC_S);
    UNTIL(&world, world.sides[0].n_connected == 1);
    assert_int_equal(world.sides[0].connected, PEERCACHE_UNREACHABLE);
    few_steps(&world);
    assert_int_equal(world.sides[0].n_closed, 0);
    world_fini(&world);
}

static void connect_ends_at_its_deadline(void **state)
{
    char address[ADDRESS_MAX];
    struct link_fixture *fixture = *state;
    struct world world;

    world_init(&world, fixture);
    if (fixture->silent != NULL &&
        fixture->silent(fixture, address, sizeof(address))) {
        uint64_t deadline_ns = now(&world) + 50 * PC_MS;
        begin_connect_to(&world, address, PC_LINK_BULK, deadline_ns);
        UNTIL(&world, world.sides[0].n_connected == 1);
        assert_int_equal(world.sides[0].connected, PEERCACHE_TIMED_OUT);
        assert_true(now(&world) >= deadline_ns);
    }
    world_fini(&world);
}

static void a_malformed_address_is_refused_at_once(void **state)
{
    static const char *const addresses[] = {"", "localhost", "no.such.place:x",
                                            ":", "1.2.3.4:99999999"};
    char bound[ADDRESS_MAX];
    struct world world;

    world_init(&world, *state);
    const struct pc_link_ops *ops = world.fixture->ops;
    struct side *side = &world.sides[0];
    for (size_t i = 0; i < PC_ARRAY_LEN(addresses); i++) {
        assert_int_equal(ops->connect(side->link, addresses[i], PC_LINK_BULK,
                                      NEVER, side, &side->conn),
                         PEERCACHE_INVALID);
        assert_int_equal(
            ops->listen(side->link, addresses[i], bound, sizeof(bound)),
            PEERCACHE_INVALID);
        assert_null(side->conn);
    }
    few_steps(&world);
    assert_int_equal(side->n_connected, 0);
    world_fini(&world);
}

static void a_connect_that_is_disconnected_ends_once(void **state)
{
    struct world world;

    world_init(&world, *state);
    begin_connect(&world);
    hang_up(&world, 0);
    UNTIL(&world, world.sides[0].n_connected == 1);
    assert_int_equal(world.sides[0].connected, PEERCACHE_CANCELED);
    few_steps(&world);
    assert_int_equal(world.sides[0].n_closed, 0);
    world_fini(&world);
}

static void a_refused_peer_hears_that_it_is_gone(void **state)
{
    struct world world;

    world_init(&world, *state);
    struct side *side = &world.sides[0];
    world.sides[1].refuses = true;
    begin_connect(&world);
    UNTIL(&world, side->n_closed == 1 || (side->n_connected == 1 &&
                                          side->connected != PEERCACHE_OK));
    few_steps(&world);
    assert_int_equal(world.sides[1].n_accepted, 1);
    assert_int_equal(world.sides[1].n_closed, 0);
    assert_int_equal(world.sides[1].n_messages, 0);
    world_fini(&world);
}

static void nobody_is_accepted_after_unlisten(void **state)
{
    char address[ADDRESS_MAX];
    char second[ADDRESS_MAX];
    struct world world;

    world_init(&world, *state);
    const struct pc_link_ops *ops = world.fixture->ops;
    struct pc_link *link = world.sides[1].link;
    world.fixture->address(world.fixture, link, address, sizeof(address));
    assert_int_equal(ops->listen(link, address, second, sizeof(second)),
                     PEERCACHE_OK);
    ops->unlisten(link, world.bound);
    begin_connect(&world);
    UNTIL(&world, world.sides[0].n_connected == 1);
    assert_int_equal(world.sides[0].connected, PEERCACHE_UNREACHABLE);

    /* The other one is still open. */
    world.sides[0].n_connected = 0;
    begin_connect_to(&world, second, PC_LINK_BULK, NEVER);
    UNTIL(&world, world.sides[1].n_accepted == 1);
    world_fini(&world);
}

/* ---- Sleeping elsewhere -------------------------------------------------- */

static bool calls(const struct world *world, int index)
{
    struct pollfd wait = {
        .fd = world->fixture->ops->wait_fd(world->sides[index].link),
        .events = POLLIN};
    return poll(&wait, 1, 0) > 0;
}

static unsigned run_one(struct world *world, int index)
{
    unsigned work;
    world->stepping = true;
    work = world->fixture->ops->progress(world->sides[index].link, -1, 0);
    world->stepping = false;
    return work;
}

/* Run it until it says that it has nothing to do. */
static void run_out(struct world *world, int index)
{
    const struct pc_link_ops *ops = world->fixture->ops;
    uint64_t until_ns = now(world) + PATIENCE_NS;
    while (run_one(world, index) > 0 ||
           ops->next_due(world->sides[index].link) <= now(world)) {
        assert_true(now(world) < until_ns);
    }
}

static bool can_sleep_elsewhere(struct link_fixture *fixture)
{
    return fixture->ops->wait_fd != NULL;
}

/* Whoever sleeps on the descriptor until next_due misses nothing. */
static void the_descriptor_tells_of_all_that_comes(void **state)
{
    struct world world;
    struct link_fixture *fixture = *state;

    if (!can_sleep_elsewhere(fixture)) {
        skip();
    }
    world_connected(&world, fixture);
    const struct pc_link_ops *ops = fixture->ops;
    for (size_t i = 0; i < 20; i++) {
        few_steps(&world);
        run_out(&world, 0);
        run_out(&world, 1);
        assert_false(calls(&world, 1)); /* Nothing new: no call for nothing. */
        assert_int_equal(ops->next_due(world.sides[1].link), NEVER);
        size_t before = world.sides[1].n_landed;
        send_plain(&world.sides[0], 7, i * 50000, i);
        /* Posted, not sent: only progress() does that. */
        assert_true(ops->next_due(world.sides[0].link) <= now(&world));
        run_out(&world, 0);
        UNTIL(&world, calls(&world, 1) || world.sides[1].n_landed > before);
        while (world.sides[1].n_landed == before) {
            /* Each time that it has run out, the rest must announce itself. */
            if (calls(&world, 1)) {
                run_out(&world, 1);
            }
            if (calls(&world, 0)) {
                run_out(&world, 0);
            }
        }
    }
    world_fini(&world);
}

static void a_wake_is_seen_at_the_descriptor(void **state)
{
    struct world world;
    struct link_fixture *fixture = *state;

    if (!can_sleep_elsewhere(fixture)) {
        skip();
    }
    world_connected(&world, fixture);
    run_out(&world, 1);
    for (int i = 0; i < 3; i++) {
        assert_false(calls(&world, 1));
        fixture->ops->wake(world.sides[1].link);
        assert_true(calls(&world, 1));
        run_out(&world, 1);
    }
    world_fini(&world);
}

static void a_deadline_of_the_link_is_told(void **state)
{
    char address[ADDRESS_MAX];
    struct world world;
    struct link_fixture *fixture = *state;

    if (!can_sleep_elsewhere(fixture)) {
        skip();
    }
    world_init(&world, fixture);
    struct pc_link *link = world.sides[0].link;
    assert_int_equal(fixture->ops->next_due(link), NEVER);
    if (fixture->silent != NULL &&
        fixture->silent(fixture, address, sizeof(address))) {
        uint64_t deadline_ns = now(&world) + 20 * PC_MS;
        begin_connect_to(&world, address, PC_LINK_BULK, deadline_ns);
        run_out(&world, 0);
        assert_true(fixture->ops->next_due(link) <= deadline_ns);
        UNTIL(&world, world.sides[0].n_connected == 1);
    }
    world_fini(&world);
}

/* ---- All of them --------------------------------------------------------- */

int link_suite_exchanges(struct link_fixture *fixture)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_every_size_arrive_whole),
        cmocka_unit_test(scattered_pieces_meet_whatever_their_boundaries),
        cmocka_unit_test(many_messages_arrive_in_order),
        cmocka_unit_test(both_ways_at_once_every_done_comes_once),
        cmocka_unit_test(answers_may_be_posted_from_callbacks),
        cmocka_unit_test(a_sink_without_pieces_drops_the_body),
        cmocka_unit_test(the_class_of_a_connection_is_told),
        cmocka_unit_test(connect_where_nobody_listens_is_unreachable),
        cmocka_unit_test(connect_ends_at_its_deadline),
        cmocka_unit_test(a_malformed_address_is_refused_at_once),
        cmocka_unit_test(a_connect_that_is_disconnected_ends_once),
        cmocka_unit_test(a_refused_peer_hears_that_it_is_gone),
        cmocka_unit_test(nobody_is_accepted_after_unlisten),
        cmocka_unit_test(the_descriptor_tells_of_all_that_comes),
        cmocka_unit_test(a_wake_is_seen_at_the_descriptor),
        cmocka_unit_test(a_deadline_of_the_link_is_told),
    };
    for (size_t i = 0; i < PC_ARRAY_LEN(tests); i++) {
        tests[i].initial_state = fixture;
    }
    return cmocka_run_group_tests_name(fixture->name, tests, NULL, NULL);
}

int link_suite_run(struct link_fixture *fixture)
{
    return link_suite_exchanges(fixture) + link_suite_ends(fixture);
}
