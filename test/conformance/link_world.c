#include "link_world.h"

#include <string.h>

#define FEW_STEPS 50

/* ---- Helpers ------------------------------------------------------------- */

/* Rules 2 and 3, looked at in each callback. */
static void in_callback(struct side *side)
{
    assert_true(side->world->stepping);
    assert_false(side->world->posting);
    assert_int_equal(side->n_closed, 0);
}

static void maybe_hang_up(struct side *side)
{
    if (side->hangs_up != NULL && side->conn != NULL && side->hangs_up(side)) {
        side->world->fixture->ops->disconnect(side->conn);
    }
}

static uint8_t byte_at(uint64_t seed, size_t index)
{
    return (uint8_t)(seed * 31 + index * 7 + (index >> 8) * 13 + (index >> 16));
}

static void fill(uint8_t *data, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        data[i] = byte_at(seed, i);
    }
}

void check(const uint8_t *data, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != byte_at(seed, i)) {
            fail_msg("byte %zu of %zu differs", i, len);
        }
    }
}

static size_t cut_len(const struct cut *cut, size_t index, size_t left)
{
    size_t len = cut->n_lens == 0 ? left : cut->lens[index % cut->n_lens];
    return len < left ? len : left;
}

/* Cut a body in pieces; if shared, each begins at the body's start. */
static peercache_piece_t *cut_body(const struct cut *cut, uint8_t *body,
                                   size_t len, bool shared, size_t *n_p)
{
    size_t n = 0;
    for (size_t done = 0; done < len; n++) {
        done += cut_len(cut, n, len - done);
    }
    peercache_piece_t *pieces = pc_alloc(n + 1, sizeof(*pieces));
    assert_non_null(pieces);
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        pieces[i].addr = shared ? body : body + done;
        pieces[i].len = cut_len(cut, i, len - done);
        done += pieces[i].len;
    }
    *n_p = n;
    return pieces;
}

static const size_t long_lens[] = {LONG_PIECE};
static const struct cut long_cut = {long_lens, 1};

/* ---- Sending ------------------------------------------------------------- */

static void parcel_done(struct pc_link_send *send, peercache_status_t status)
{
    struct parcel *parcel = PC_CONTAINER_OF(send, struct parcel, send);
    in_callback(parcel->side);
    parcel->n_done++;
    assert_int_equal(parcel->n_done, 1);
    parcel->status = status;
    parcel->side->n_pending--;
    parcel->side->n_sent += status == PEERCACHE_OK;
    maybe_hang_up(parcel->side);
}

struct parcel *parcel_new(struct side *side, size_t head_len)
{
    struct parcel *parcel = pc_alloc(1, sizeof(*parcel));
    assert_non_null(parcel);
    parcel->side = side;
    parcel->send.conn = side->conn;
    parcel->send.done = parcel_done;
    parcel->head = pc_alloc(1, head_len + 1);
    assert_non_null(parcel->head);
    parcel->send.head.data = parcel->head;
    parcel->send.head.len = head_len;
    pc_list_init(&parcel->node);
    pc_list_push_back(&side->parcels, &parcel->node);
    return parcel;
}

peercache_status_t post(struct parcel *parcel)
{
    struct world *world = parcel->side->world;
    bool nested = world->posting;
    world->posting = true;
    peercache_status_t status = world->fixture->ops->send(&parcel->send);
    world->posting = nested;
    if (status == PEERCACHE_IN_PROGRESS) {
        parcel->side->n_pending++;
    }
    return status;
}

struct parcel *send_cut(struct side *side, size_t head_len, size_t body_len,
                        uint64_t seed, const struct cut *cut)
{
    struct parcel *parcel = parcel_new(side, head_len);
    parcel->body = pc_alloc(1, body_len + 1);
    assert_non_null(parcel->body);
    fill(parcel->head, head_len, seed);
    fill(parcel->body, body_len, seed + 1);
    parcel->pieces =
        cut_body(cut, parcel->body, body_len, false, &parcel->send.n_pieces);
    parcel->send.pieces = parcel->pieces;
    assert_int_equal(post(parcel), PEERCACHE_IN_PROGRESS);
    return parcel;
}

struct parcel *send_plain(struct side *side, size_t head_len, size_t body_len,
                          uint64_t seed)
{
    struct cut whole = {0};
    return send_cut(side, head_len, body_len, seed, &whole);
}

/* Many megabytes that need one of memory. */
struct parcel *send_long(struct side *side)
{
    struct parcel *parcel = parcel_new(side, 1);
    parcel->body = pc_alloc(1, LONG_PIECE);
    assert_non_null(parcel->body);
    parcel->pieces = cut_body(&long_cut, parcel->body, LONG_BODY, true,
                              &parcel->send.n_pieces);
    parcel->send.pieces = parcel->pieces;
    assert_int_equal(post(parcel), PEERCACHE_IN_PROGRESS);
    return parcel;
}

/* ---- Upcalls ------------------------------------------------------------- */

static void landing_done(struct pc_link_sink *sink, peercache_status_t status)
{
    struct landing *landing = PC_CONTAINER_OF(sink, struct landing, sink);
    struct side *side = landing->side;
    in_callback(side);
    landing->n_done++;
    assert_int_equal(landing->n_done, 1);
    landing->status = status;
    side->n_pending--;
    side->n_landed += status == PEERCACHE_OK;
    if (status == PEERCACHE_OK && sink->pieces != NULL) {
        assert_int_equal(sink->landed, landing->body_len);
    }
    if (status == PEERCACHE_OK && side->n_echoes > 0) {
        side->n_echoes--;
        send_plain(side, 5, landing->body_len, 99);
    }
    maybe_hang_up(side);
}

static struct pc_link_sink *side_message(void *conn_arg, struct pc_blob head,
                                         size_t body_len)
{
    struct side *side = conn_arg;
    in_callback(side);
    side->n_messages++;
    maybe_hang_up(side);
    if (side->no_sink) {
        return NULL;
    }
    struct landing *landing = pc_alloc(1, sizeof(*landing));
    assert_non_null(landing);
    landing->side = side;
    landing->head_len = head.len;
    landing->head = pc_alloc(1, head.len + 1);
    landing->body_len = body_len;
    landing->body =
        pc_alloc(1, (side->shares || side->drops ? LONG_PIECE : body_len) + 1);
    assert_non_null(landing->head);
    assert_non_null(landing->body);
    if (head.len > 0) {
        memcpy(landing->head, head.data, head.len);
    }
    if (!side->drops) {
        landing->pieces =
            cut_body(side->shares ? &long_cut : &side->cut, landing->body,
                     body_len, side->shares, &landing->sink.n_pieces);
    }
    landing->sink.pieces = landing->pieces;
    landing->sink.done = landing_done;
    pc_list_init(&landing->node);
    pc_list_push_back(&side->landings, &landing->node);
    side->n_pending++;
    return &landing->sink;
}

static void *side_accepted(void *arg, struct pc_link_conn *conn,
                           enum pc_link_class cls, const char *from)
{
    struct world *world = arg;
    struct side *side = &world->sides[1];
    in_callback(side);
    assert_non_null(from);
    side->n_accepted++;
    if (side->refuses) {
        return NULL;
    }
    side->conn = conn;
    side->cls = cls;
    maybe_hang_up(side);
    return side;
}

static void side_connected(void *conn_arg, peercache_status_t status)
{
    struct side *side = conn_arg;
    in_callback(side);
    side->n_connected++;
    assert_int_equal(side->n_connected, 1);
    side->connected = status;
    if (status != PEERCACHE_OK) {
        side->conn = NULL;
        return;
    }
    maybe_hang_up(side);
}

static void side_closed(void *conn_arg, peercache_status_t why)
{
    struct side *side = conn_arg;
    in_callback(side);
    assert_int_not_equal(why, PEERCACHE_OK);
    /* Every done came before. */
    assert_int_equal(side->n_pending, 0);
    side->n_closed++;
    side->why = why;
    side->conn = NULL;
}

/* ---- Making and driving the world ---------------------------------------- */

void step(struct world *world)
{
    struct pc_link *links[SIDES];
    size_t n_links = 0;
    for (int i = 0; i < SIDES; i++) {
        if (world->sides[i].link != NULL && !world->sides[i].frozen) {
            links[n_links++] = world->sides[i].link;
        }
    }
    world->stepping = true;
    world->fixture->step(world->fixture, links, n_links);
    world->stepping = false;
}

void few_steps(struct world *world)
{
    for (int i = 0; i < FEW_STEPS; i++) {
        step(world);
    }
}

uint64_t now(struct world *world)
{
    return world->fixture->now(world->fixture);
}

static void open_side(struct world *world, int index, size_t head_max)
{
    struct side *side = &world->sides[index];
    struct pc_link_params params = {
        .up = {.arg = world,
               .accepted = side_accepted,
               .connected = side_connected,
               .message = side_message,
               .closed = side_closed},
        .head_max = head_max,
        .stall_ns = LINK_SUITE_STALL_NS,
    };
    side->world = world;
    pc_list_init(&side->parcels);
    pc_list_init(&side->landings);
    assert_int_equal(world->fixture->open(world->fixture, &params, &side->link),
                     PEERCACHE_OK);
}

void world_init_limits(struct world *world, struct link_fixture *fixture,
                       size_t head_max_0, size_t head_max_1)
{
    char address[ADDRESS_MAX];
    memset(world, 0, sizeof(*world));
    world->fixture = fixture;
    if (fixture->setup != NULL) {
        fixture->setup(fixture);
    }
    open_side(world, 0, head_max_0);
    open_side(world, 1, head_max_1);
    fixture->address(fixture, world->sides[1].link, address, sizeof(address));
    assert_int_equal(fixture->ops->listen(world->sides[1].link, address,
                                          world->bound, sizeof(world->bound)),
                     PEERCACHE_OK);
}

void world_init(struct world *world, struct link_fixture *fixture)
{
    world_init_limits(world, fixture, LINK_SUITE_HEAD_MAX, LINK_SUITE_HEAD_MAX);
}

void begin_connect_to(struct world *world, const char *address,
                      enum pc_link_class cls, uint64_t deadline_ns)
{
    struct side *side = &world->sides[0];
    world->posting = true;
    peercache_status_t status = world->fixture->ops->connect(
        side->link, address, cls, deadline_ns, side, &side->conn);
    world->posting = false;
    assert_true(status == PEERCACHE_OK || status == PEERCACHE_IN_PROGRESS);
    assert_non_null(side->conn);
}

void begin_connect(struct world *world)
{
    begin_connect_to(world, world->bound, PC_LINK_BULK, NEVER);
}

void connect_both(struct world *world)
{
    begin_connect(world);
    UNTIL(world,
          world->sides[0].n_connected == 1 && world->sides[1].n_accepted == 1);
    assert_int_equal(world->sides[0].connected, PEERCACHE_OK);
}

void world_connected(struct world *world, struct link_fixture *fixture)
{
    world_init(world, fixture);
    connect_both(world);
}

static void free_parcels(struct side *side)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(&side->parcels)) != NULL) {
        struct parcel *parcel = PC_CONTAINER_OF(node, struct parcel, node);
        pc_free(parcel->head);
        pc_free(parcel->body);
        pc_free(parcel->pieces);
        pc_free(parcel);
    }
}

static void free_landings(struct side *side)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(&side->landings)) != NULL) {
        struct landing *landing = PC_CONTAINER_OF(node, struct landing, node);
        pc_free(landing->head);
        pc_free(landing->body);
        pc_free(landing->pieces);
        pc_free(landing);
    }
}

bool is_quiet(const struct side *side)
{
    return side->conn == NULL && side->n_pending == 0;
}

void hang_up(struct world *world, int index)
{
    struct side *side = &world->sides[index];
    world->posting = true;
    world->fixture->ops->disconnect(side->conn);
    world->posting = false;
}

void world_fini(struct world *world)
{
    for (int i = 0; i < SIDES; i++) {
        struct side *side = &world->sides[i];
        side->frozen = false;
        if (side->link != NULL && side->conn != NULL) {
            hang_up(world, i);
        }
    }
    for (int i = 0; i < SIDES; i++) {
        struct side *side = &world->sides[i];
        if (side->link == NULL) {
            continue;
        }
        UNTIL(world, is_quiet(side));
    }
    for (int i = 0; i < SIDES; i++) {
        struct side *side = &world->sides[i];
        if (side->link != NULL) {
            world->fixture->ops->close(side->link);
        }
        free_parcels(side);
        free_landings(side);
    }
    if (world->fixture->teardown != NULL) {
        world->fixture->teardown(world->fixture);
    }
}

struct landing *last_landing(struct side *side)
{
    assert_false(pc_list_is_empty(&side->landings));
    return PC_CONTAINER_OF(side->landings.prev, struct landing, node);
}

void exchange(struct world *world, size_t head_len, size_t body_len,
              const struct cut *cut)
{
    struct side *to = &world->sides[1];
    size_t n_landed = to->n_landed;
    uint64_t seed = head_len * 3 + body_len;
    struct parcel *parcel =
        send_cut(&world->sides[0], head_len, body_len, seed, cut);

    UNTIL(world, parcel->n_done == 1 && to->n_landed > n_landed);
    assert_int_equal(parcel->status, PEERCACHE_OK);
    struct landing *landing = last_landing(to);
    assert_int_equal(landing->head_len, head_len);
    assert_int_equal(landing->body_len, body_len);
    check(landing->head, head_len, seed);
    check(landing->body, body_len, seed + 1);
    free_parcels(&world->sides[0]);
    free_landings(to);
}
