/* How connections end: hanging up, dying, stalling, canceling, refusing. */
#include "link_world.h"

#include <string.h>

#define POISON 0xa5

/* ---- Ends ---------------------------------------------------------------- */

/* Messages of both sides are on their way, none can have arrived whole. */
static void load_both(struct world *world)
{
    for (int i = 0; i < SIDES; i++) {
        world->sides[i].shares = true;
        send_long(&world->sides[i]);
        send_plain(&world->sides[i], 4, 100, 1);
    }
    if (world->fixture->streams) {
        UNTIL(world, !pc_list_is_empty(&world->sides[0].landings) &&
                         !pc_list_is_empty(&world->sides[1].landings));
    }
}

static void all_parcels_ended_with(struct side *side, peercache_status_t status)
{
    for (struct pc_list *node = side->parcels.next; node != &side->parcels;
         node = node->next) {
        struct parcel *parcel = PC_CONTAINER_OF(node, struct parcel, node);
        assert_int_equal(parcel->n_done, 1);
        if (side->world->fixture->streams || parcel->status != PEERCACHE_OK) {
            assert_int_equal(parcel->status, status);
        }
    }
}

static void disconnect_ends_all_that_is_posted_on_both_sides(void **state)
{
    struct world world;

    world_connected(&world, *state);
    load_both(&world);
    hang_up(&world, 0);
    UNTIL(&world, world.sides[0].n_closed == 1 && world.sides[1].n_closed == 1);
    assert_int_equal(world.sides[0].why, PEERCACHE_CANCELED);
    assert_int_equal(world.sides[1].why, PEERCACHE_PEER_FAILED);
    all_parcels_ended_with(&world.sides[0], PEERCACHE_CANCELED);
    all_parcels_ended_with(&world.sides[1], PEERCACHE_PEER_FAILED);
    world_fini(&world);
}

static void a_link_that_dies_ends_what_its_peer_posted(void **state)
{
    struct world world;

    world_connected(&world, *state);
    load_both(&world);
    struct side *dead = &world.sides[1];
    world.stepping = true; /* close() delivers what is left. */
    world.fixture->ops->close(dead->link);
    world.stepping = false;
    dead->link = NULL;
    UNTIL(&world, world.sides[0].n_closed == 1);
    assert_int_equal(world.sides[0].why, PEERCACHE_PEER_FAILED);
    all_parcels_ended_with(&world.sides[0], PEERCACHE_PEER_FAILED);
    world_fini(&world);
}

static void last_words_arrive_before_the_end(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct parcel *parcel = send_plain(&world.sides[1], 10, 40000, 7);
    world.sides[0].frozen = true;
    UNTIL(&world, parcel->n_done == 1);
    hang_up(&world, 1);
    UNTIL(&world, world.sides[1].n_closed == 1);
    /* What this side sends meanwhile must not throw away what has come. */
    world.sides[0].frozen = false;
    send_plain(&world.sides[0], 10, 10, 7);
    UNTIL(&world, world.sides[0].n_closed == 1);
    if (world.fixture->streams) {
        assert_int_equal(world.sides[0].n_landed, 1);
    }
    world_fini(&world);
}

static void a_silent_peer_is_given_up_after_the_stall_time(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct side *side = &world.sides[0];
    world.sides[1].frozen = true;
    uint64_t begin_ns = now(&world);
    struct parcel *parcel = send_long(side);
    struct parcel *behind = send_plain(side, 1, 1, 1);
    UNTIL(&world, side->n_closed == 1);
    assert_int_equal(side->why, PEERCACHE_TIMED_OUT);
    assert_int_equal(parcel->status, PEERCACHE_TIMED_OUT);
    assert_int_equal(behind->status, PEERCACHE_TIMED_OUT);
    assert_true(now(&world) - begin_ns >= LINK_SUITE_STALL_NS);
    world_fini(&world);
}

static void an_idle_connection_does_not_stall(void **state)
{
    struct world world;

    world_connected(&world, *state);
    exchange(&world, 1, 1000, &(struct cut){0});
    uint64_t end_ns = now(&world) + 2 * LINK_SUITE_STALL_NS;
    UNTIL(&world, now(&world) > end_ns);
    exchange(&world, 1, 1000, &(struct cut){0});
    world_fini(&world);
}

static void a_closed_connection_takes_nothing(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct pc_link_conn *conn = world.sides[0].conn;
    hang_up(&world, 0);
    struct parcel *parcel = parcel_new(&world.sides[0], 1);
    parcel->send.conn = conn;
    assert_true(post(parcel) < 0);
    UNTIL(&world, world.sides[0].n_closed == 1);
    assert_int_equal(parcel->n_done, 0);
    world_fini(&world);
}

/* ---- Canceling and pausing ----------------------------------------------- */

static void cancel(struct parcel *parcel)
{
    struct world *world = parcel->side->world;
    world->posting = true;
    world->fixture->ops->cancel_send(&parcel->send);
    world->posting = false;
}

static void an_unsent_message_is_taken_back(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct side *from = &world.sides[0];
    send_plain(from, 1, 100, 1);
    struct parcel *parcel = send_plain(from, 2, 200, 2);
    send_plain(from, 3, 300, 3);
    cancel(parcel);
    UNTIL(&world, from->n_pending == 0 && world.sides[1].n_landed == 2);
    assert_int_equal(parcel->status, PEERCACHE_CANCELED);
    assert_int_equal(last_landing(&world.sides[1])->body_len, 300);
    few_steps(&world);
    assert_int_equal(world.sides[1].n_messages, 2);
    assert_int_equal(from->n_closed, 0);
    world_fini(&world);
}

static void canceling_what_has_begun_closes_the_connection(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct side *from = &world.sides[0];
    world.sides[1].frozen = true;
    struct parcel *parcel = send_long(from);
    struct parcel *behind = send_plain(from, 1, 1, 1);
    for (int i = 0; i < 5; i++) {
        step(&world);
    }
    cancel(parcel);
    UNTIL(&world, parcel->n_done == 1);
    assert_int_equal(parcel->status, PEERCACHE_CANCELED);
    world.sides[1].frozen = false;
    world.sides[1].shares = true;
    if (world.fixture->streams) {
        UNTIL(&world, from->n_closed == 1 && world.sides[1].n_closed == 1);
        assert_int_equal(behind->status, PEERCACHE_CANCELED);
    } else {
        UNTIL(&world, behind->n_done == 1);
    }
    world_fini(&world);
}

static void nothing_is_written_after_a_canceled_sink_is_done(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct side *to = &world.sides[1];
    to->shares = true;
    struct parcel *parcel = send_long(&world.sides[0]);
    UNTIL(&world, !pc_list_is_empty(&to->landings) &&
                      last_landing(to)->sink.landed > 0);
    struct landing *landing = last_landing(to);
    if (landing->n_done == 0) {
        world.posting = true;
        world.fixture->ops->cancel_sink(to->conn, &landing->sink);
        world.posting = false;
        UNTIL(&world, landing->n_done == 1);
        assert_int_equal(landing->status, PEERCACHE_CANCELED);
        assert_true(landing->sink.landed < LONG_BODY);
    }
    memset(landing->body, POISON, LONG_PIECE);
    UNTIL(&world, parcel->n_done == 1);
    assert_int_equal(parcel->status, PEERCACHE_OK);

    /* The rest was read and dropped: the connection goes on. */
    to->shares = false;
    send_plain(&world.sides[0], 2, 2000, 2);
    UNTIL(&world, last_landing(to) != landing && last_landing(to)->n_done == 1);
    check(last_landing(to)->body, 2000, 3);
    for (size_t i = 0; i < LONG_PIECE; i++) {
        assert_int_equal(landing->body[i], POISON);
    }
    assert_int_equal(landing->n_done, 1);
    world_fini(&world);
}

static void pause_side(struct side *side, bool paused)
{
    side->world->posting = true;
    side->world->fixture->ops->pause(side->conn, paused);
    side->world->posting = false;
}

static void a_paused_connection_reads_nothing_until_resumed(void **state)
{
    enum { N_MESSAGES = 20 };
    struct world world;

    world_connected(&world, *state);
    struct side *to = &world.sides[1];
    pause_side(to, true);
    for (size_t i = 0; i < N_MESSAGES; i++) {
        send_plain(&world.sides[0], i, 10 * i, i);
    }
    few_steps(&world);
    assert_int_equal(to->n_messages, 0);
    pause_side(to, false);
    UNTIL(&world, to->n_landed == N_MESSAGES);
    world_fini(&world);
}

static bool pauses_itself(struct side *side)
{
    if (side->n_messages > 0) {
        side->world->fixture->ops->pause(side->conn, true);
    }
    return false;
}

static void pause_from_within_message_holds_the_next_one(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct side *to = &world.sides[1];
    to->hangs_up = pauses_itself;
    for (size_t i = 0; i < 3; i++) {
        send_plain(&world.sides[0], 5, 500, i);
    }
    few_steps(&world);
    assert_int_equal(to->n_messages, 1);
    to->hangs_up = NULL;
    pause_side(to, false);
    UNTIL(&world, to->n_landed == 3);
    world_fini(&world);
}

/* ---- Refusals ------------------------------------------------------------ */

static void a_message_without_a_sink_closes_the_connection(void **state)
{
    struct world world;

    world_connected(&world, *state);
    world.sides[1].no_sink = true;
    send_plain(&world.sides[0], 5, 5000, 1);
    UNTIL(&world, world.sides[0].n_closed == 1 && world.sides[1].n_closed == 1);
    assert_int_equal(world.sides[1].n_messages, 1);
    world_fini(&world);
}

static void a_head_beyond_the_limit_closes_the_connection(void **state)
{
    struct world world;

    world_init_limits(&world, *state, LINK_SUITE_HEAD_MAX, 1000);
    connect_both(&world);
    exchange(&world, 1000, 1, &(struct cut){0});
    send_plain(&world.sides[0], 1001, 0, 1);
    UNTIL(&world, world.sides[0].n_closed == 1 && world.sides[1].n_closed == 1);
    assert_int_equal(world.sides[1].why, PEERCACHE_PROTOCOL);
    assert_int_equal(world.sides[1].n_messages, 1);
    world_fini(&world);
}

static void ones_own_head_beyond_the_limit_is_not_taken(void **state)
{
    struct world world;

    world_connected(&world, *state);
    struct parcel *parcel =
        parcel_new(&world.sides[0], LINK_SUITE_HEAD_MAX + 1);
    assert_int_equal(post(parcel), PEERCACHE_INVALID);
    few_steps(&world);
    assert_int_equal(parcel->n_done, 0);
    exchange(&world, 1, 1, &(struct cut){0});
    world_fini(&world);
}

/* ---- Disconnecting from within callbacks --------------------------------- */

static bool always(struct side *side)
{
    (void)side;
    return true;
}

static bool after_a_message(struct side *side)
{
    return side->n_messages > 0;
}

static bool after_a_body(struct side *side)
{
    return side->n_landed > 0;
}

static bool after_a_send(struct side *side)
{
    return side->n_sent > 0;
}

/* One side hangs up in some callback; both must come to rest. */
static void hang_up_within(struct link_fixture *fixture, int index,
                           bool (*hangs_up)(struct side *side))
{
    struct world world;
    world_init(&world, fixture);
    world.sides[index].hangs_up = hangs_up;
    begin_connect(&world);
    if (hangs_up != always) {
        UNTIL(&world, world.sides[0].n_connected == 1 &&
                          world.sides[1].n_accepted == 1);
        for (int i = 0; i < SIDES; i++) {
            for (size_t n = 0; n < 5; n++) {
                send_plain(&world.sides[i], 8, 3000 * n, n);
            }
        }
    }
    UNTIL(&world, world.sides[0].n_closed == 1 && is_quiet(&world.sides[1]));
    UNTIL(&world, is_quiet(&world.sides[0]));
    world_fini(&world);
}

static void disconnect_from_within_any_callback_is_safe(void **state)
{
    for (int i = 0; i < SIDES; i++) {
        hang_up_within(*state, i, always);
        hang_up_within(*state, i, after_a_message);
        hang_up_within(*state, i, after_a_body);
        hang_up_within(*state, i, after_a_send);
    }
}

/* ---- All of them --------------------------------------------------------- */

int link_suite_ends(struct link_fixture *fixture)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(disconnect_ends_all_that_is_posted_on_both_sides),
        cmocka_unit_test(a_link_that_dies_ends_what_its_peer_posted),
        cmocka_unit_test(last_words_arrive_before_the_end),
        cmocka_unit_test(a_silent_peer_is_given_up_after_the_stall_time),
        cmocka_unit_test(an_idle_connection_does_not_stall),
        cmocka_unit_test(a_closed_connection_takes_nothing),
        cmocka_unit_test(an_unsent_message_is_taken_back),
        cmocka_unit_test(canceling_what_has_begun_closes_the_connection),
        cmocka_unit_test(nothing_is_written_after_a_canceled_sink_is_done),
        cmocka_unit_test(a_paused_connection_reads_nothing_until_resumed),
        cmocka_unit_test(pause_from_within_message_holds_the_next_one),
        cmocka_unit_test(a_message_without_a_sink_closes_the_connection),
        cmocka_unit_test(a_head_beyond_the_limit_closes_the_connection),
        cmocka_unit_test(ones_own_head_beyond_the_limit_is_not_taken),
        cmocka_unit_test(disconnect_from_within_any_callback_is_safe),
    };
    for (size_t i = 0; i < PC_ARRAY_LEN(tests); i++) {
        tests[i].initial_state = fixture;
    }
    return cmocka_run_group_tests_name(fixture->name, tests, NULL, NULL);
}
