/*
 * Random traffic under random faults on the simulated network: whatever
 * happens, the rules of link.h and fabric.h hold. Everything that is posted
 * lives in memory of its own that is given back inside done, so a sanitizer
 * sees whoever touches it later.
 */
#include "test.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rand.h"
#include "transports/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_HOSTS  5
#define N_STEPS  4000
#define N_SEEDS  20
#define POOL_LEN ((size_t)65536)
#define BODY_MAX ((size_t)90000)

struct chaos;

struct actor
{
    struct chaos *chaos;
    struct pc_sim_host *host;
    struct pc_link *link;
    struct pc_fabric *fabric;
    struct pc_fabric_mem *pool;
    char bound[64];
    bool within; /* progress() or close() of this actor. */
};

/* An end of a connection; it is its upcalls' argument. */
struct talk
{
    struct pc_list in_chaos;
    struct actor *actor;
    struct pc_link_conn *conn;
    bool open;
    bool over;
    uint64_t n_sent; /* Numbers the messages. */
    uint64_t next;   /* Number of the one that must come. */
    size_t n_pending;
    struct parcel *last; /* Posted last and not done. */
    struct landing *landing;
};

struct parcel
{
    struct pc_link_send send;
    struct talk *talk;
    uint64_t number;
    peercache_piece_t piece;
    uint8_t body[];
};

struct landing
{
    struct pc_link_sink sink;
    struct talk *talk;
    uint64_t number;
    peercache_piece_t piece;
    uint8_t body[];
};

/* One fabric's peer. */
struct reach
{
    struct pc_list in_chaos;
    struct actor *actor;
    struct actor *owner;
    struct pc_fabric_peer *peer;
    struct pc_fabric_rkey *rkey;
    bool can_get;
    bool failed;
    bool detaching;
    bool detached;
    size_t n_gets;
};

struct pull
{
    struct pc_fabric_get get;
    struct reach *reach;
    uint8_t bytes[];
};

struct chaos
{
    struct pc_sim *sim;
    struct pc_rand rand;
    struct actor actors[N_HOSTS];
    struct pc_list talks;
    struct pc_list reaches;
    size_t n_landed;
    size_t n_lost;
    size_t n_read;
    size_t n_unread;
};

static uint64_t below(struct chaos *chaos, uint64_t bound)
{
    return pc_rand_below(&chaos->rand, bound);
}

static uint8_t byte_at(uint64_t seed, size_t i)
{
    return (uint8_t)(seed * 37 + i * 11 + (i >> 8));
}

/* ---- Link ---------------------------------------------------------------- */

static struct talk *talk_new(struct actor *actor)
{
    struct talk *talk = calloc(1, sizeof(*talk));
    assert_non_null(talk);
    talk->actor = actor;
    pc_list_init(&talk->in_chaos);
    pc_list_push_back(&actor->chaos->talks, &talk->in_chaos);
    return talk;
}

static void *on_accepted(void *arg, struct pc_link_conn *conn,
                         enum pc_link_class cls, const char *from)
{
    struct actor *actor = arg;
    (void)cls;
    (void)from;
    assert_true(actor->within);
    if (below(actor->chaos, 10) == 0) {
        return NULL;
    }
    struct talk *talk = talk_new(actor);
    talk->conn = conn;
    talk->open = true;
    return talk;
}

static void on_connected(void *arg, peercache_status_t status)
{
    struct talk *talk = arg;
    assert_true(talk->actor->within);
    assert_false(talk->open || talk->over);
    talk->open = status == PEERCACHE_OK;
    talk->over = status != PEERCACHE_OK;
    if (talk->over) {
        assert_int_equal(talk->n_pending, 0);
        talk->conn = NULL;
    }
}

static void on_closed(void *arg, peercache_status_t why)
{
    struct talk *talk = arg;
    assert_true(talk->actor->within);
    assert_true(talk->open && !talk->over);
    assert_int_equal(talk->n_pending, 0);
    assert_true(why < 0);
    talk->over = true;
    talk->conn = NULL;
}

static void on_landed(struct pc_link_sink *sink, peercache_status_t status)
{
    struct landing *landing = (struct landing *)(void *)sink;
    struct talk *talk = landing->talk;
    assert_true(talk->actor->within && !talk->over);
    assert_true(status <= 0);
    talk->n_pending--;
    talk->landing = NULL;
    if (status == PEERCACHE_OK) {
        assert_int_equal(sink->landed, landing->piece.len);
        talk->actor->chaos->n_landed++;
    } else {
        talk->actor->chaos->n_lost++;
    }
    for (size_t i = 0; i < sink->landed && sink->pieces != NULL; i++) {
        assert_int_equal(landing->body[i], byte_at(landing->number, i));
    }
    free(landing);
}

static struct pc_link_sink *on_message(void *arg, struct pc_blob head,
                                       size_t body_len)
{
    struct talk *talk = arg;
    struct chaos *chaos = talk->actor->chaos;
    assert_true(talk->actor->within && talk->open && !talk->over);
    assert_null(talk->landing);
    uint64_t number;
    assert_int_equal(head.len, sizeof(number));
    memcpy(&number, head.data, sizeof(number));
    /* In order; only what was taken back before it left may be missing. */
    assert_true(number >= talk->next);
    talk->next = number + 1;
    if (below(chaos, 200) == 0) {
        return NULL;
    }
    struct landing *landing = malloc(sizeof(*landing) + body_len);
    assert_non_null(landing);
    memset(landing, 0, sizeof(*landing));
    landing->talk = talk;
    landing->number = number;
    landing->piece = (peercache_piece_t){landing->body, body_len};
    landing->sink.pieces = below(chaos, 10) == 0 ? NULL : &landing->piece;
    landing->sink.n_pieces = landing->sink.pieces == NULL ? 0 : 1;
    landing->sink.done = on_landed;
    talk->n_pending++;
    talk->landing = landing;
    return &landing->sink;
}

static void on_sent(struct pc_link_send *send, peercache_status_t status)
{
    struct parcel *parcel = (struct parcel *)(void *)send;
    struct talk *talk = parcel->talk;
    assert_true(talk->actor->within && !talk->over);
    assert_true(status <= 0);
    talk->n_pending--;
    if (talk->last == parcel) {
        talk->last = NULL;
    }
    free(parcel);
}

static void act_send(struct chaos *chaos, struct talk *talk)
{
    size_t len =
        below(chaos, 3) == 0 ? below(chaos, BODY_MAX) : below(chaos, 300);
    struct parcel *parcel = malloc(sizeof(*parcel) + len);
    assert_non_null(parcel);
    memset(parcel, 0, sizeof(*parcel));
    parcel->talk = talk;
    parcel->number = talk->n_sent;
    parcel->piece = (peercache_piece_t){parcel->body, len};
    for (size_t i = 0; i < len; i++) {
        parcel->body[i] = byte_at(parcel->number, i);
    }
    parcel->send.conn = talk->conn;
    parcel->send.head = (struct pc_blob){&parcel->number, sizeof(uint64_t)};
    parcel->send.pieces = &parcel->piece;
    parcel->send.n_pieces = 1;
    parcel->send.done = on_sent;
    if (pc_sim_link()->send(&parcel->send) == PEERCACHE_IN_PROGRESS) {
        talk->n_sent++;
        talk->n_pending++;
        talk->last = parcel;
    } else {
        free(parcel);
    }
}

static void act_connect(struct chaos *chaos, struct actor *actor)
{
    struct pc_clock clock = pc_sim_clock(chaos->sim);
    struct talk *talk = talk_new(actor);
    uint64_t deadline_ns = pc_clock_now(&clock) + below(chaos, 2 * PC_MS);
    if (pc_sim_link()->connect(
            actor->link, chaos->actors[below(chaos, N_HOSTS)].bound,
            PC_LINK_BULK, deadline_ns, talk, &talk->conn) != PEERCACHE_OK) {
        talk->over = true;
        talk->conn = NULL;
    }
}

static void act_on_talk(struct chaos *chaos, struct talk *talk)
{
    const struct pc_link_ops *ops = pc_sim_link();
    if (talk->conn == NULL || !pc_sim_host_is_running(talk->actor->host)) {
        return;
    }
    switch (below(chaos, 20)) {
    case 0:
        ops->disconnect(talk->conn);
        break;
    case 1:
        if (talk->last != NULL) {
            ops->cancel_send(&talk->last->send);
        }
        break;
    case 2:
        if (talk->landing != NULL) {
            ops->cancel_sink(talk->conn, &talk->landing->sink);
        }
        break;
    case 3:
    case 4:
        ops->pause(talk->conn, below(chaos, 2) == 0);
        break;
    default:
        act_send(chaos, talk);
        break;
    }
}

/* ---- Fabric ---------------------------------------------------------------
 */

static void on_attached(void *arg, void *peer_arg,
                        const struct pc_fabric_path *path)
{
    struct reach *reach = peer_arg;
    assert_ptr_equal(arg, reach->actor);
    assert_true(reach->actor->within);
    assert_false(reach->detaching || reach->failed);
    reach->can_get = path->can_get;
}

static void on_failed(void *arg, void *peer_arg, peercache_status_t why)
{
    struct reach *reach = peer_arg;
    assert_ptr_equal(arg, reach->actor);
    assert_int_equal(why, PEERCACHE_PEER_FAILED);
    assert_true(reach->can_get && !reach->failed && !reach->detaching);
    reach->failed = true;
}

static void on_detached(void *peer_arg)
{
    struct reach *reach = peer_arg;
    assert_true(reach->actor->within);
    assert_true(reach->detaching && !reach->detached);
    assert_int_equal(reach->n_gets, 0);
    reach->detached = true;
    reach->peer = NULL;
}

static void on_read(struct pc_fabric_get *get, peercache_status_t status)
{
    struct pull *pull = (struct pull *)(void *)get;
    struct reach *reach = pull->reach;
    assert_true(reach->actor->within && !reach->detached);
    assert_true(status <= 0);
    reach->n_gets--;
    if (status == PEERCACHE_OK) {
        for (size_t i = 0; i < get->len; i++) {
            assert_int_equal(pull->bytes[i], 0x5a);
        }
        reach->actor->chaos->n_read++;
    } else {
        reach->actor->chaos->n_unread++;
    }
    free(pull);
}

static void act_attach(struct chaos *chaos, struct actor *actor)
{
    const struct pc_fabric_ops *ops = pc_sim_fabric();
    struct actor *owner = &chaos->actors[below(chaos, N_HOSTS)];
    struct reach *reach = calloc(1, sizeof(*reach));
    assert_non_null(reach);
    reach->actor = actor;
    reach->owner = owner;
    pc_list_init(&reach->in_chaos);
    pc_list_push_back(&chaos->reaches, &reach->in_chaos);
    if (ops->attach(actor->fabric, ops->address(owner->fabric), reach,
                    &reach->peer) != PEERCACHE_OK) {
        reach->detached = true;
        return;
    }
    assert_int_equal(
        ops->rkey_unpack(reach->peer, ops->mem_rkey(owner->pool), &reach->rkey),
        PEERCACHE_OK);
}

static void act_get(struct chaos *chaos, struct reach *reach)
{
    size_t len = 1 + below(chaos, POOL_LEN);
    uint64_t base =
        (uint64_t)(uintptr_t)pc_sim_fabric()->mem_addr(reach->owner->pool);
    struct pull *pull = malloc(sizeof(*pull) + len);
    assert_non_null(pull);
    memset(pull, 0, sizeof(*pull));
    pull->reach = reach;
    pull->get.peer = reach->peer;
    pull->get.rkey = reach->rkey;
    pull->get.remote_addr = base + below(chaos, POOL_LEN - len + 1);
    pull->get.local = pull->bytes;
    pull->get.len = len;
    pull->get.done = on_read;
    if (pc_sim_fabric()->get(&pull->get) == PEERCACHE_IN_PROGRESS) {
        assert_true(reach->can_get);
        reach->n_gets++;
    } else {
        free(pull);
    }
}

static void act_on_reach(struct chaos *chaos, struct reach *reach)
{
    const struct pc_fabric_ops *ops = pc_sim_fabric();
    if (reach->detaching || reach->detached ||
        !pc_sim_host_is_running(reach->actor->host)) {
        return;
    }
    if (below(chaos, 20) == 0) {
        reach->detaching = true;
        ops->detach(reach->peer, on_detached);
    } else if (below(chaos, 10) == 0) {
        const uint8_t *mapped = ops->rkey_map(
            reach->rkey, (uint64_t)(uintptr_t)ops->mem_addr(reach->owner->pool),
            1);
        assert_true(mapped == NULL || *mapped == 0x5a);
    } else {
        act_get(chaos, reach);
    }
}

/* ---- A run ------------------------------------------------------------------
 */

static void actor_open(struct chaos *chaos, unsigned i)
{
    struct actor *actor = &chaos->actors[i];
    char name[2] = {(char)('a' + i), '\0'};
    char machine[2] = {(char)('m' + i / 2), '\0'};
    actor->chaos = chaos;
    actor->host = pc_sim_host_add(chaos->sim, name, machine);
    struct pc_link_params params = {.up = {.arg = actor,
                                           .accepted = on_accepted,
                                           .connected = on_connected,
                                           .message = on_message,
                                           .closed = on_closed},
                                    .head_max = 100,
                                    .stall_ns = 50 * PC_MS,
                                    .world = actor->host};
    assert_int_equal(pc_sim_link()->open(&params, &actor->link), PEERCACHE_OK);
    assert_int_equal(pc_sim_link()->listen(actor->link, "0.0.0.0:0",
                                           actor->bound, sizeof(actor->bound)),
                     PEERCACHE_OK);
    struct pc_fabric_params fabric = {.devices = "",
                                      .shm = true,
                                      .arg = actor,
                                      .attached = on_attached,
                                      .peer_failed = on_failed,
                                      .world = actor->host};
    assert_int_equal(pc_sim_fabric()->open(&fabric, &actor->fabric),
                     PEERCACHE_OK);
    struct pc_fabric_mem_params pool = {
        .use = PC_MEM_POOL, .len = POOL_LEN, .numa_node = -1};
    assert_int_equal(
        pc_sim_fabric()->mem_register(actor->fabric, &pool, &actor->pool),
        PEERCACHE_OK);
    memset(pc_sim_fabric()->mem_addr(actor->pool), 0x5a, POOL_LEN);
}

static void actor_step(struct actor *actor)
{
    actor->within = true;
    unsigned work = pc_sim_link()->progress(actor->link, -1, PC_S) +
                    pc_sim_fabric()->progress(actor->fabric);
    actor->within = false;
    assert_true(work == 0 || pc_sim_host_is_running(actor->host));
}

static struct pc_list *pick(struct chaos *chaos, struct pc_list *list)
{
    size_t n = 0;
    for (struct pc_list *at = list->next; at != list; at = at->next) {
        n++;
    }
    if (n == 0) {
        return NULL;
    }
    struct pc_list *at = list->next;
    for (uint64_t skip_n = below(chaos, n); skip_n > 0; skip_n--) {
        at = at->next;
    }
    return at;
}

static void act_fault(struct chaos *chaos)
{
    struct pc_sim_host *a = chaos->actors[below(chaos, N_HOSTS)].host;
    struct pc_sim_host *b = chaos->actors[below(chaos, N_HOSTS)].host;
    switch (below(chaos, 8)) {
    case 0:
        pc_sim_cut(chaos->sim, a, b);
        break;
    case 1:
    case 2:
        pc_sim_heal(chaos->sim, a, b);
        break;
    case 3:
        pc_sim_freeze(a);
        break;
    case 4:
        pc_sim_thaw(a);
        break;
    case 5:
        pc_sim_break(chaos->sim, a, b);
        break;
    case 6:
        pc_sim_set_island(a, (unsigned)below(chaos, 3) == 0 ? 1 : 0);
        break;
    default:
        if (below(chaos, 5) == 0) {
            pc_sim_kill(a);
        }
        break;
    }
}

static void act(struct chaos *chaos)
{
    struct actor *actor = &chaos->actors[below(chaos, N_HOSTS)];
    struct pc_list *talk = pick(chaos, &chaos->talks);
    struct pc_list *reach = pick(chaos, &chaos->reaches);
    uint64_t what = below(chaos, 100);
    bool runs = pc_sim_host_is_running(actor->host);

    if (what < 2) {
        act_fault(chaos);
    } else if (what < 8 && runs) {
        act_connect(chaos, actor);
    } else if (what < 10 && runs) {
        act_attach(chaos, actor);
    } else if (what < 60 && talk != NULL) {
        act_on_talk(chaos, PC_CONTAINER_OF(talk, struct talk, in_chaos));
    } else if (reach != NULL) {
        act_on_reach(chaos, PC_CONTAINER_OF(reach, struct reach, in_chaos));
    }
}

static void let_time_pass(struct chaos *chaos)
{
    struct pc_clock clock = pc_sim_clock(chaos->sim);
    uint64_t due_ns;
    if (pc_sim_next(chaos->sim, &due_ns) && below(chaos, 10) > 0) {
        pc_sim_advance_to(chaos->sim, due_ns);
    } else {
        pc_sim_advance_to(chaos->sim,
                          pc_clock_now(&clock) + below(chaos, PC_MS));
    }
}

static void chaos_end(struct chaos *chaos)
{
    struct pc_list *node;
    for (node = chaos->reaches.next; node != &chaos->reaches;
         node = node->next) {
        struct reach *reach = PC_CONTAINER_OF(node, struct reach, in_chaos);
        pc_sim_fabric()->rkey_release(reach->rkey);
    }
    for (int i = 0; i < N_HOSTS; i++) {
        struct actor *actor = &chaos->actors[i];
        actor->within = true;
        pc_sim_link()->close(actor->link);
        pc_sim_fabric()->close(actor->fabric);
        actor->within = false;
    }
    while ((node = pc_list_pop_front(&chaos->talks)) != NULL) {
        struct talk *talk = PC_CONTAINER_OF(node, struct talk, in_chaos);
        assert_true(talk->over);
        assert_int_equal(talk->n_pending, 0);
        free(talk);
    }
    while ((node = pc_list_pop_front(&chaos->reaches)) != NULL) {
        struct reach *reach = PC_CONTAINER_OF(node, struct reach, in_chaos);
        assert_int_equal(reach->n_gets, 0);
        assert_true(reach->detached || !reach->detaching);
        free(reach);
    }
    pc_sim_destroy(chaos->sim);
    assert_int_equal(pc_mem_outstanding(), 0);
}

static uint64_t run(uint64_t seed, struct chaos *totals)
{
    struct chaos chaos = {.sim = pc_sim_create(seed)};
    struct pc_sim_path path = pc_sim_path_default();
    pc_rand_init(&chaos.rand, seed);
    pc_list_init(&chaos.talks);
    pc_list_init(&chaos.reaches);
    path.break_ppm = 2000;
    path.native = seed % 2 == 0;
    pc_sim_set_path(chaos.sim, NULL, NULL, &path);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        actor_open(&chaos, i);
    }
    for (int step = 0; step < N_STEPS; step++) {
        for (uint64_t n = below(&chaos, 4); n > 0; n--) {
            act(&chaos);
        }
        for (uint64_t n = below(&chaos, N_HOSTS + 1); n > 0; n--) {
            actor_step(&chaos.actors[below(&chaos, N_HOSTS)]);
        }
        let_time_pass(&chaos);
    }
    uint64_t hash = pc_sim_trace_hash(chaos.sim);
    totals->n_landed += chaos.n_landed;
    totals->n_lost += chaos.n_lost;
    totals->n_read += chaos.n_read;
    totals->n_unread += chaos.n_unread;
    chaos_end(&chaos);
    return hash;
}

static void the_rules_hold_under_random_faults(void **state)
{
    struct chaos totals = {.sim = NULL};
    (void)state;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        run(seed, &totals);
    }
    /* The runs did something, and not everything went well. */
    assert_true(totals.n_landed > 1000);
    assert_true(totals.n_lost > 20);
    assert_true(totals.n_read > 1000);
    assert_true(totals.n_unread > 100);
}

static void a_run_with_faults_repeats_from_its_seed(void **state)
{
    struct chaos totals = {.sim = NULL};
    (void)state;
    assert_int_equal(run(123, &totals), run(123, &totals));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_hold_under_random_faults),
        cmocka_unit_test(a_run_with_faults_repeats_from_its_seed),
    };
    return cmocka_run_group_tests_name("sim under faults", tests, NULL, NULL);
}
