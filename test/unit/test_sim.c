/* The simulated network: what the conformance suites do not ask, that is its
 * clock, its faults and its trace. */
#include "test.h"

#include "base/mem.h"
#include "transports/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROCS 4
#define KIB       ((size_t)1024)
#define BODY_LEN  (100 * KIB)
#define SENDS_MAX 256

struct world;

/* One simulated process with at most one connection. */
struct proc
{
    struct world *world;
    struct pc_sim_host *host;
    struct pc_link *link;
    struct pc_fabric *fabric;
    struct pc_link_conn *conn;
    char bound[64];
    int n_accepted;
    int n_connected;
    int n_closed;
    int n_messages;
    int n_landed;
    int n_lost; /* Sinks that ended otherwise. */
    int n_sent;
    int n_unsent;
    peercache_status_t connected;
    peercache_status_t why;
    size_t largest; /* Most bytes of a body seen at once in a sink. */
    struct pc_link_sink sink;
    peercache_piece_t piece;
    uint8_t body[BODY_LEN];
    struct pc_link_send sends[SENDS_MAX];
    peercache_piece_t pieces[SENDS_MAX];
    size_t n_sends;

    int n_attached;
    int n_failed;
    int n_detached;
    struct pc_fabric_path path;
};

struct world
{
    struct pc_sim *sim;
    struct proc procs[MAX_PROCS];
    size_t n_procs;
    uint64_t stall_ns;
};

static const struct pc_link_ops *link_ops(void)
{
    return pc_sim_link();
}

static const struct pc_fabric_ops *fabric_ops(void)
{
    return pc_sim_fabric();
}

/* ---- Upcalls ------------------------------------------------------------- */

static void *on_accepted(void *arg, struct pc_link_conn *conn,
                         enum pc_link_class cls, const char *from)
{
    struct proc *proc = arg;
    (void)cls;
    (void)from;
    proc->n_accepted++;
    proc->conn = conn;
    return proc;
}

static void on_connected(void *arg, peercache_status_t status)
{
    struct proc *proc = arg;
    proc->n_connected++;
    proc->connected = status;
    if (status != PEERCACHE_OK) {
        proc->conn = NULL;
    }
}

static void on_landed(struct pc_link_sink *sink, peercache_status_t status)
{
    struct proc *proc =
        (struct proc *)(void *)((char *)sink - offsetof(struct proc, sink));
    proc->n_landed += status == PEERCACHE_OK;
    proc->n_lost += status != PEERCACHE_OK;
}

static struct pc_link_sink *on_message(void *arg, struct pc_blob head,
                                       size_t body_len)
{
    struct proc *proc = arg;
    (void)head;
    assert_true(body_len <= sizeof(proc->body));
    proc->n_messages++;
    proc->piece = (peercache_piece_t){proc->body, body_len};
    proc->sink = (struct pc_link_sink){
        .pieces = &proc->piece, .n_pieces = 1, .done = on_landed};
    return &proc->sink;
}

static void on_closed(void *arg, peercache_status_t why)
{
    struct proc *proc = arg;
    proc->n_closed++;
    proc->why = why;
    proc->conn = NULL;
}

static void on_attached(void *arg, void *peer_arg,
                        const struct pc_fabric_path *path)
{
    struct proc *proc = peer_arg;
    assert_ptr_equal(arg, proc);
    proc->n_attached++;
    proc->path = *path;
}

static void on_failed(void *arg, void *peer_arg, peercache_status_t why)
{
    struct proc *proc = peer_arg;
    assert_ptr_equal(arg, proc);
    assert_int_equal(why, PEERCACHE_PEER_FAILED);
    proc->n_failed++;
}

static void on_detached(void *peer_arg)
{
    struct proc *proc = peer_arg;
    proc->n_detached++;
}

/* ---- The world ----------------------------------------------------------- */

static void world_init(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->sim = pc_sim_create(seed);
}

static struct proc *add(struct world *world, const char *name,
                        const char *machine)
{
    struct proc *proc = &world->procs[world->n_procs++];
    assert_true(world->n_procs <= MAX_PROCS);
    proc->world = world;
    proc->host = pc_sim_host_add(world->sim, name, machine);
    struct pc_link_params params = {.up = {.arg = proc,
                                           .accepted = on_accepted,
                                           .connected = on_connected,
                                           .message = on_message,
                                           .closed = on_closed},
                                    .head_max = 1024,
                                    .stall_ns = world->stall_ns,
                                    .world = proc->host};
    assert_int_equal(link_ops()->open(&params, &proc->link), PEERCACHE_OK);
    struct pc_fabric_params fabric_params = {.devices = "",
                                             .shm = true,
                                             .arg = proc,
                                             .attached = on_attached,
                                             .peer_failed = on_failed,
                                             .world = proc->host};
    assert_int_equal(fabric_ops()->open(&fabric_params, &proc->fabric),
                     PEERCACHE_OK);
    return proc;
}

static void world_fini(struct world *world)
{
    for (size_t i = 0; i < world->n_procs; i++) {
        link_ops()->close(world->procs[i].link);
        fabric_ops()->close(world->procs[i].fabric);
    }
    pc_sim_destroy(world->sim);
    assert_int_equal(pc_mem_outstanding(), 0);
}

static uint64_t now(const struct world *world)
{
    struct pc_clock clock = pc_sim_clock(world->sim);
    return pc_clock_now(&clock);
}

static unsigned progress_all(struct world *world)
{
    unsigned work = 0;
    for (size_t i = 0; i < world->n_procs; i++) {
        struct proc *proc = &world->procs[i];
        if (pc_sim_host_is_ready(proc->host)) {
            work += link_ops()->progress(proc->link, -1, 0);
            work += fabric_ops()->progress(proc->fabric);
        }
    }
    return work;
}

/* Run until then; the largest part of a body that was seen half landed is
 * noted on the way. */
static void run_until(struct world *world, uint64_t until_ns)
{
    for (;;) {
        while (progress_all(world) > 0) {
        }
        for (size_t i = 0; i < world->n_procs; i++) {
            struct proc *proc = &world->procs[i];
            if (proc->sink.landed < proc->piece.len &&
                proc->sink.landed > proc->largest) {
                proc->largest = proc->sink.landed;
            }
        }
        uint64_t due_ns;
        if (!pc_sim_next(world->sim, &due_ns) || due_ns > until_ns) {
            break;
        }
        pc_sim_advance_to(world->sim, due_ns);
    }
    pc_sim_advance_to(world->sim, until_ns);
}

static void run_for(struct world *world, uint64_t ns)
{
    run_until(world, now(world) + ns);
}

static void listen_at(struct proc *proc, const char *address)
{
    assert_int_equal(link_ops()->listen(proc->link, address, proc->bound,
                                        sizeof(proc->bound)),
                     PEERCACHE_OK);
}

static void begin_connect(struct proc *from, const char *to,
                          uint64_t deadline_ns)
{
    from->n_connected = 0;
    assert_int_equal(link_ops()->connect(from->link, to, PC_LINK_CONTROL,
                                         deadline_ns, from, &from->conn),
                     PEERCACHE_OK);
}

static void connect_pair(struct world *world, struct proc *from,
                         struct proc *to)
{
    listen_at(to, "0.0.0.0:0");
    begin_connect(from, to->bound, UINT64_MAX);
    run_for(world, PC_MS);
    assert_int_equal(from->connected, PEERCACHE_OK);
    assert_int_equal(to->n_accepted, 1);
}

static void on_sent(struct pc_link_send *send, peercache_status_t status)
{
    struct world *world = *(struct world *const *)send->head.data;
    for (size_t i = 0; i < world->n_procs; i++) {
        struct proc *proc = &world->procs[i];
        if (send >= proc->sends && send < proc->sends + SENDS_MAX) {
            proc->n_sent += status == PEERCACHE_OK;
            proc->n_unsent += status != PEERCACHE_OK;
        }
    }
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + (i >> 8));
}

static uint8_t body_bytes[BODY_LEN];

/* The head is the address of the proc's world. */
static struct pc_link_send *send_body(struct proc *proc, size_t len)
{
    struct pc_link_send *send = &proc->sends[proc->n_sends++];
    assert_true(proc->n_sends <= SENDS_MAX);
    for (size_t i = 0; i < sizeof(body_bytes); i++) {
        body_bytes[i] = byte_at(i);
    }
    peercache_piece_t *piece = &proc->pieces[proc->n_sends - 1];
    *piece = (peercache_piece_t){body_bytes, len};
    *send = (struct pc_link_send){
        .conn = proc->conn,
        .head = {&proc->world, sizeof(struct world *)},
        .pieces = piece,
        .n_pieces = 1,
        .done = on_sent,
    };
    assert_int_equal(link_ops()->send(send), PEERCACHE_IN_PROGRESS);
    return send;
}

static void set_latency(struct world *world, uint64_t ns)
{
    struct pc_sim_path path = {.latency_min_ns = ns,
                               .latency_max_ns = ns,
                               .bandwidth = 1000ull * 1000 * 1000,
                               .native = true};
    pc_sim_set_path(world->sim, NULL, NULL, &path);
}

/* ---- Clock and trace ----------------------------------------------------- */

static uint64_t busy_run(uint64_t seed)
{
    struct world *world = malloc(sizeof(*world));
    assert_non_null(world);
    world_init(world, seed);
    struct proc *a = add(world, "a", "m1");
    struct proc *b = add(world, "b", "m2");
    struct proc *c = add(world, "c", "m2");
    connect_pair(world, a, b);
    connect_pair(world, c, add(world, "d", "m3"));
    for (int i = 0; i < 20; i++) {
        send_body(a, 50 * KIB);
        send_body(c, (size_t)i);
    }
    run_for(world, PC_US * 300);
    pc_sim_kill(a->host);
    run_for(world, PC_S);
    uint64_t hash = pc_sim_trace_hash(world->sim);
    world_fini(world);
    free(world);
    return hash;
}

static void a_run_is_a_function_of_its_seed(void **state)
{
    (void)state;
    assert_int_equal(busy_run(1), busy_run(1));
    assert_int_equal(busy_run(77), busy_run(77));
    assert_int_not_equal(busy_run(1), busy_run(2));
}

static void the_trace_reads_like_a_story(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 1);
    struct pc_sim_path path = {.latency_min_ns = PC_MS,
                               .latency_max_ns = PC_MS};
    pc_sim_set_path(world.sim, NULL, NULL, &path);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    listen_at(b, "0.0.0.0:7000");
    begin_connect(a, "10.0.0.2:7000", UINT64_MAX);
    run_for(&world, 10 * PC_MS);
    send_body(a, 1000);
    run_for(&world, 10 * PC_MS);
    pc_sim_trace(world.sim, "a says %d", 42);
    pc_sim_kill(b->host);
    run_for(&world, 10 * PC_MS);
    assert_string_equal(pc_sim_trace_text(world.sim),
                        "0.000ms b listens on 10.0.0.2:7000\n"
                        "0.000ms a -> b connect control\n"
                        "1.000ms b accepts a\n"
                        "10.000ms a -> b message 8+1000\n"
                        "20.000ms a says 42\n"
                        "20.000ms kill b\n"
                        "21.000ms a | b closed PEER_FAILED\n");
    world_fini(&world);
}

static void the_trace_keeps_its_newest_lines(void **state)
{
    (void)state;
    struct pc_sim *sim = pc_sim_create(1);
    for (int i = 0; i < 200000; i++) {
        pc_sim_trace(sim, "line %d", i);
    }
    const char *text = pc_sim_trace_text(sim);
    size_t len = strlen(text);
    assert_true(len <= 1 << 20 && len > (1 << 20) - 100);
    assert_non_null(strstr(text, "0.000ms line 199999\n"));
    assert_int_equal(strncmp(text, "0.000ms line ", 13), 0);
    char longest[2000];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    pc_sim_trace(sim, "%s", longest);
    text = pc_sim_trace_text(sim);
    assert_int_equal(text[strlen(text) - 1], '\n');
    pc_sim_destroy(sim);
}

static void nothing_happens_in_an_idle_world(void **state)
{
    static struct world world;
    uint64_t due_ns;
    (void)state;
    world_init(&world, 1);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m1");
    connect_pair(&world, a, b);
    assert_false(pc_sim_next(world.sim, &due_ns));
    assert_false(pc_sim_host_is_ready(a->host));
    world_fini(&world);
}

/* ---- Addresses ----------------------------------------------------------- */

static peercache_status_t try_listen(struct proc *proc, const char *address)
{
    char bound[64];
    return link_ops()->listen(proc->link, address, bound, sizeof(bound));
}

static void an_address_belongs_to_one_process(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 1);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m1");
    struct proc *c = add(&world, "c", "m2");
    listen_at(a, "0.0.0.0:7000");
    assert_string_equal(a->bound, "10.0.0.1:7000");
    assert_int_equal(try_listen(b, "10.0.0.1:7000"), PEERCACHE_IO);
    assert_int_equal(try_listen(c, "10.0.0.1:7001"), PEERCACHE_IO);
    assert_int_equal(try_listen(c, "0.0.0.0:7000"), PEERCACHE_OK);
    assert_int_equal(try_listen(b, "127.0.0.1:80"), PEERCACHE_OK);
    assert_int_equal(try_listen(c, "127.0.0.1:80"), PEERCACHE_OK);
    assert_int_equal(try_listen(a, "127.0.0.1:80"), PEERCACHE_IO);
    assert_int_equal(try_listen(a, "unix:/x"), PEERCACHE_OK);
    assert_int_equal(try_listen(b, "unix:/x"), PEERCACHE_IO);
    assert_int_equal(try_listen(a, "10.0.0.1"), PEERCACHE_INVALID);
    assert_int_equal(try_listen(a, "10.0.0.1:x"), PEERCACHE_INVALID);
    /* The kernel takes it back from the dead. */
    pc_sim_kill(a->host);
    assert_int_equal(try_listen(b, "10.0.0.1:7000"), PEERCACHE_OK);
    world_fini(&world);
}

static void loopback_is_heard_on_its_machine_only(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 1);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m1");
    struct proc *c = add(&world, "c", "m2");
    listen_at(a, "127.0.0.1:80");
    begin_connect(b, "127.0.0.1:80", UINT64_MAX);
    begin_connect(c, "127.0.0.1:80", UINT64_MAX);
    run_for(&world, PC_MS);
    assert_int_equal(b->connected, PEERCACHE_OK);
    assert_int_equal(c->connected, PEERCACHE_UNREACHABLE);
    world_fini(&world);
}

/* ---- Connections --------------------------------------------------------- */

static void a_body_lands_in_parts_at_different_times(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    send_body(a, BODY_LEN);
    run_for(&world, PC_MS);
    assert_int_equal(b->n_landed, 1);
    assert_memory_equal(b->body, body_bytes, BODY_LEN);
    /* Each of the seven chunks but the last was seen. */
    assert_int_equal(b->largest, 6 * 16 * KIB);
    world_fini(&world);
}

static void a_break_in_the_middle_leaves_a_part_of_the_body(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    set_latency(&world, PC_MS); /* 16 us a chunk. */
    send_body(a, BODY_LEN);
    while (b->sink.landed == 0) {
        run_for(&world, PC_US);
    }
    pc_sim_break(world.sim, a->host, b->host);
    run_for(&world, 10 * PC_MS);
    assert_int_equal(b->n_lost, 1);
    assert_true(b->sink.landed > 0 && b->sink.landed < BODY_LEN);
    assert_memory_equal(b->body, body_bytes, b->sink.landed);
    assert_int_equal(b->body[b->sink.landed + 1], 0);
    assert_int_equal(a->why, PEERCACHE_PEER_FAILED);
    assert_int_equal(b->why, PEERCACHE_PEER_FAILED);
    assert_int_equal(a->n_closed + b->n_closed, 2);
    world_fini(&world);
}

static void chunks_break_connections_at_the_rate_that_was_set(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    struct pc_sim_path path = pc_sim_path_default();
    path.break_ppm = 200000; /* A fifth of them. */
    pc_sim_set_path(world.sim, a->host, b->host, &path);
    int n_before = 0;
    for (int i = 0; i < 200 && a->n_closed == 0; i++) {
        send_body(a, 1000);
        run_for(&world, PC_MS);
        n_before++;
    }
    assert_true(n_before < 30);
    assert_int_equal(a->n_closed, 1);
    assert_int_equal(b->n_closed, 1);
    world_fini(&world);
}

static void a_cut_holds_what_was_sent_until_it_is_healed(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    pc_sim_cut(world.sim, a->host, b->host);
    send_body(a, BODY_LEN);
    send_body(b, 10);
    run_for(&world, 100 * PC_S);
    assert_int_equal(a->n_sent, 1); /* The network has it. */
    assert_int_equal(a->n_messages + b->n_messages, 0);
    assert_int_equal(a->n_closed + b->n_closed, 0);
    pc_sim_heal(world.sim, a->host, b->host);
    run_for(&world, PC_MS);
    assert_int_equal(a->n_landed, 1);
    assert_int_equal(b->n_landed, 1);
    assert_memory_equal(b->body, body_bytes, BODY_LEN);
    world_fini(&world);
}

static void a_cut_that_outlasts_the_stall_time_closes(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    world.stall_ns = 2 * PC_S;
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    pc_sim_set_island(b->host, 1);
    send_body(a, 10);
    run_for(&world, PC_S);
    assert_int_equal(a->n_closed, 0);
    run_for(&world, 4 * PC_S);
    assert_int_equal(a->n_closed, 1);
    assert_int_equal(a->why, PEERCACHE_TIMED_OUT);
    assert_int_equal(b->n_closed, 0); /* It has sent nothing. */
    pc_sim_set_island(b->host, 0);
    run_for(&world, PC_S);
    assert_int_equal(b->n_closed, 1);
    world_fini(&world);
}

static void connecting_across_a_cut_ends_at_the_deadline(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    listen_at(b, "0.0.0.0:1");
    pc_sim_cut(world.sim, a->host, b->host);
    begin_connect(a, b->bound, now(&world) + PC_S);
    run_for(&world, PC_S - 1);
    assert_int_equal(a->n_connected, 0);
    run_for(&world, 2);
    assert_int_equal(a->connected, PEERCACHE_TIMED_OUT);
    /* One that waits long enough gets through. */
    begin_connect(a, b->bound, UINT64_MAX);
    run_for(&world, 10 * PC_S);
    assert_int_equal(a->n_connected, 0);
    pc_sim_heal(world.sim, a->host, b->host);
    run_for(&world, PC_MS);
    assert_int_equal(a->connected, PEERCACHE_OK);
    world_fini(&world);
}

static void a_killed_host_resets_after_its_last_words(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    set_latency(&world, PC_MS);
    send_body(b, 100);
    progress_all(&world); /* It has left when the process dies. */
    pc_sim_kill(b->host);
    send_body(a, 10);
    run_for(&world, PC_MS - 1);
    assert_int_equal(a->n_closed, 0);
    run_for(&world, PC_MS);
    assert_int_equal(a->n_landed, 1);
    assert_int_equal(a->n_closed, 1);
    assert_int_equal(a->why, PEERCACHE_PEER_FAILED);
    assert_int_equal(b->n_messages, 0);
    assert_int_equal(b->n_closed, 0); /* The dead hear nothing. */
    begin_connect(a, b->bound, UINT64_MAX);
    run_for(&world, 10 * PC_MS);
    assert_int_equal(a->connected, PEERCACHE_UNREACHABLE);
    world_fini(&world);
}

static void a_frozen_host_takes_bytes_up_to_a_bound(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    pc_sim_freeze(b->host);
    for (int i = 0; i < 20; i++) {
        send_body(a, BODY_LEN);
    }
    run_for(&world, 10 * PC_S);
    assert_int_equal(a->n_sent, 2); /* 256 KiB. */
    assert_int_equal(b->n_messages, 0);
    assert_int_equal(link_ops()->progress(b->link, -1, 0), 0);
    pc_sim_thaw(b->host);
    run_for(&world, PC_S);
    assert_int_equal(a->n_sent, 20);
    assert_int_equal(b->n_landed, 20);
    world_fini(&world);
}

static void a_frozen_hosts_kernel_still_answers_connects(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    listen_at(b, "0.0.0.0:1");
    pc_sim_freeze(b->host);
    begin_connect(a, b->bound, now(&world) + PC_S);
    run_for(&world, 2 * PC_S);
    assert_int_equal(a->connected, PEERCACHE_OK);
    assert_int_equal(b->n_accepted, 0);
    link_ops()->disconnect(a->conn);
    run_for(&world, PC_MS);
    assert_int_equal(a->why, PEERCACHE_CANCELED);
    pc_sim_thaw(b->host);
    run_for(&world, PC_MS);
    assert_int_equal(b->n_accepted, 1);
    assert_int_equal(b->n_closed, 1);
    world_fini(&world);
}

static void a_slow_host_is_late(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, 3);
    struct proc *a = add(&world, "a", "m1");
    struct proc *b = add(&world, "b", "m2");
    connect_pair(&world, a, b);
    pc_sim_set_slow(b->host, 100 * PC_MS);
    send_body(a, 10);
    run_for(&world, 100 * PC_MS);
    assert_int_equal(b->n_landed, 0);
    run_for(&world, PC_MS);
    assert_int_equal(b->n_landed, 1);
    world_fini(&world);
}

/* ---- Gets and mappings --------------------------------------------------- */

#define POOL_LEN (256 * KIB)
#define N_READS  16

struct read
{
    struct pc_fabric_get get;
    int n_done;
    peercache_status_t status;
    unsigned order;
    unsigned *n_ended;
    uint8_t bytes[POOL_LEN / N_READS];
};

/* b reads a's pool. */
struct bench
{
    struct world world;
    struct proc *a;
    struct proc *b;
    struct pc_fabric_mem *pool;
    uint8_t *memory;
    struct pc_fabric_peer *peer;
    struct pc_fabric_rkey *rkey;
    unsigned n_ended;
    struct read reads[N_READS];
};

static void attach(struct bench *bench)
{
    assert_int_equal(
        fabric_ops()->attach(bench->b->fabric,
                             fabric_ops()->address(bench->a->fabric), bench->b,
                             &bench->peer),
        PEERCACHE_OK);
    assert_int_equal(
        fabric_ops()->rkey_unpack(
            bench->peer, fabric_ops()->mem_rkey(bench->pool), &bench->rkey),
        PEERCACHE_OK);
}

static struct bench *bench_new(bool native, const char *machine_of_b)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    world_init(&bench->world, 5);
    struct pc_sim_path path = pc_sim_path_default();
    path.native = native;
    pc_sim_set_path(bench->world.sim, NULL, NULL, &path);
    bench->a = add(&bench->world, "a", "m1");
    bench->b = add(&bench->world, "b", machine_of_b);
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_POOL, .len = POOL_LEN, .numa_node = -1};
    assert_int_equal(
        fabric_ops()->mem_register(bench->a->fabric, &params, &bench->pool),
        PEERCACHE_OK);
    bench->memory = fabric_ops()->mem_addr(bench->pool);
    memset(bench->memory, 1, POOL_LEN);
    attach(bench);
    run_for(&bench->world, PC_MS);
    assert_true(bench->b->path.can_get);
    return bench;
}

static void bench_free(struct bench *bench)
{
    if (bench->rkey != NULL) {
        fabric_ops()->rkey_release(bench->rkey);
    }
    world_fini(&bench->world);
    free(bench);
}

static void on_read(struct pc_fabric_get *get, peercache_status_t status)
{
    struct read *read = (struct read *)(void *)get;
    read->n_done++;
    read->status = status;
    read->order = (*read->n_ended)++;
}

static peercache_status_t post(struct bench *bench, int i)
{
    struct read *read = &bench->reads[i];
    read->n_ended = &bench->n_ended;
    read->get = (struct pc_fabric_get){
        .peer = bench->peer,
        .rkey = bench->rkey,
        .remote_addr = (uint64_t)(uintptr_t)bench->memory +
                       (size_t)i * sizeof(read->bytes),
        .local = read->bytes,
        .len = sizeof(read->bytes),
        .done = on_read,
    };
    return fabric_ops()->get(&read->get);
}

static int count_bytes(const struct read *read, uint8_t value)
{
    int n = 0;
    for (size_t i = 0; i < sizeof(read->bytes); i++) {
        n += read->bytes[i] == value;
    }
    return n;
}

static void a_change_in_the_middle_tears_a_get(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m2");
    pc_sim_set_chunk(bench->world.sim, KIB);
    assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
    while (count_bytes(&bench->reads[0], 1) < 5 * (int)KIB) {
        uint64_t due_ns;
        assert_true(pc_sim_next(bench->world.sim, &due_ns));
        pc_sim_advance_to(bench->world.sim, due_ns);
    }
    memset(bench->memory, 2, POOL_LEN);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->reads[0].status, PEERCACHE_OK);
    assert_int_equal(count_bytes(&bench->reads[0], 1), 5 * KIB);
    assert_int_equal(count_bytes(&bench->reads[0], 2),
                     sizeof(bench->reads[0].bytes) - 5 * KIB);
    bench_free(bench);
}

static void gets_end_in_any_order(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m2");
    int n_swapped = 0;
    for (int i = 0; i < N_READS; i++) {
        assert_int_equal(post(bench, i), PEERCACHE_IN_PROGRESS);
    }
    run_for(&bench->world, PC_MS);
    for (int i = 0; i < N_READS; i++) {
        assert_int_equal(bench->reads[i].n_done, 1);
        assert_int_equal(count_bytes(&bench->reads[i], 1), POOL_LEN / N_READS);
        n_swapped += i > 0 && bench->reads[i].order < bench->reads[i - 1].order;
    }
    assert_true(n_swapped > 0);
    bench_free(bench);
}

static void a_killed_owner_fails_gets_and_leaves_mappings(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m1");
    assert_true(bench->b->path.can_map);
    assert_int_equal(bench->b->n_attached, 2);
    uint64_t base = (uint64_t)(uintptr_t)bench->memory;
    const uint8_t *mapped = fabric_ops()->rkey_map(bench->rkey, base, POOL_LEN);
    assert_non_null(mapped);
    assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
    pc_sim_kill(bench->a->host);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->reads[0].status, PEERCACHE_PEER_FAILED);
    assert_int_equal(bench->b->n_failed, 1);
    assert_int_equal(post(bench, 1), PEERCACHE_PEER_FAILED);
    /* Its owner's objects go, the mapped segment stays. */
    fabric_ops()->mem_deregister(bench->pool);
    assert_int_equal(mapped[POOL_LEN - 1], 1);
    assert_ptr_equal(fabric_ops()->rkey_map(bench->rkey, base, 1), mapped);
    fabric_ops()->detach(bench->peer, on_detached);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->b->n_detached, 1);
    assert_int_equal(mapped[0], 1);
    bench_free(bench);
}

static void a_dead_owners_segment_is_not_mapped_anew(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m1");
    pc_sim_kill(bench->a->host);
    assert_null(fabric_ops()->rkey_map(bench->rkey,
                                       (uint64_t)(uintptr_t)bench->memory, 1));
    bench_free(bench);
}

static void native_gets_need_no_owner_and_others_do(void **state)
{
    (void)state;
    for (int native = 0; native < 2; native++) {
        struct bench *bench = bench_new(native == 1, "m2");
        assert_int_equal(bench->b->path.native, native == 1);
        pc_sim_freeze(bench->a->host);
        assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
        run_for(&bench->world, 10 * PC_S);
        assert_int_equal(bench->reads[0].n_done, native);
        pc_sim_thaw(bench->a->host);
        run_for(&bench->world, PC_MS);
        assert_int_equal(bench->reads[0].status, PEERCACHE_OK);
        assert_int_equal(bench->b->n_failed, 0);
        bench_free(bench);
    }
}

static void a_cut_stalls_gets_and_a_detach_ends_them(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m2");
    pc_sim_cut(bench->world.sim, bench->a->host, bench->b->host);
    assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
    run_for(&bench->world, 10 * PC_S);
    assert_int_equal(bench->reads[0].n_done, 0);
    pc_sim_heal(bench->world.sim, bench->a->host, bench->b->host);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->reads[0].status, PEERCACHE_OK);
    pc_sim_cut(bench->world.sim, bench->a->host, bench->b->host);
    assert_int_equal(post(bench, 1), PEERCACHE_IN_PROGRESS);
    run_for(&bench->world, PC_S);
    fabric_ops()->detach(bench->peer, on_detached);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->reads[1].status, PEERCACHE_CANCELED);
    assert_int_equal(bench->b->n_detached, 1);
    memset(bench->reads[1].bytes, 9, sizeof(bench->reads[1].bytes));
    pc_sim_heal(bench->world.sim, bench->a->host, bench->b->host);
    run_for(&bench->world, PC_S);
    assert_int_equal(count_bytes(&bench->reads[1], 9), POOL_LEN / N_READS);
    bench_free(bench);
}

static void attaching_waits_for_a_silent_peer(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m2");
    fabric_ops()->rkey_release(bench->rkey);
    fabric_ops()->detach(bench->peer, on_detached);
    run_for(&bench->world, PC_MS);
    bench->b->n_attached = 0;
    pc_sim_freeze(bench->a->host);
    attach(bench);
    run_for(&bench->world, 10 * PC_S);
    assert_int_equal(bench->b->n_attached, 0);
    assert_int_equal(post(bench, 0), PEERCACHE_UNREACHABLE);
    pc_sim_thaw(bench->a->host);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->b->n_attached, 1);
    assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
    run_for(&bench->world, PC_MS);
    assert_int_equal(bench->reads[0].status, PEERCACHE_OK);
    bench_free(bench);
}

static void another_version_maps_on_one_machine_only(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        static struct world world;
        world_init(&world, 1);
        struct proc *a = add(&world, "a", "m1");
        struct pc_sim_host *host =
            pc_sim_host_add(world.sim, "new", same ? "m1" : "m2");
        pc_sim_set_fabric_version(host, 2);
        struct pc_fabric_params params = {.devices = "", .world = host};
        struct pc_fabric *fabric;
        struct pc_fabric_peer *peer;
        assert_int_equal(fabric_ops()->open(&params, &fabric), PEERCACHE_OK);
        assert_int_equal(fabric_ops()->attach(a->fabric,
                                              fabric_ops()->address(fabric), a,
                                              &peer),
                         PEERCACHE_OK);
        run_for(&world, PC_MS);
        assert_int_equal(a->n_attached, 1);
        assert_int_equal(a->path.status,
                         same ? PEERCACHE_OK : PEERCACHE_VERSION);
        assert_int_equal(a->path.can_map, same);
        assert_false(a->path.can_get);
        fabric_ops()->close(fabric);
        world_fini(&world);
    }
}

static void a_killed_reader_is_written_to_no_more(void **state)
{
    (void)state;
    struct bench *bench = bench_new(true, "m2");
    assert_int_equal(post(bench, 0), PEERCACHE_IN_PROGRESS);
    pc_sim_kill(bench->b->host);
    run_for(&bench->world, PC_S);
    assert_int_equal(bench->reads[0].n_done, 0);
    assert_int_equal(count_bytes(&bench->reads[0], 0), POOL_LEN / N_READS);
    bench_free(bench); /* Its owner cleans up: done comes from close. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_a_function_of_its_seed),
        cmocka_unit_test(the_trace_reads_like_a_story),
        cmocka_unit_test(the_trace_keeps_its_newest_lines),
        cmocka_unit_test(nothing_happens_in_an_idle_world),
        cmocka_unit_test(an_address_belongs_to_one_process),
        cmocka_unit_test(loopback_is_heard_on_its_machine_only),
        cmocka_unit_test(a_body_lands_in_parts_at_different_times),
        cmocka_unit_test(a_break_in_the_middle_leaves_a_part_of_the_body),
        cmocka_unit_test(chunks_break_connections_at_the_rate_that_was_set),
        cmocka_unit_test(a_cut_holds_what_was_sent_until_it_is_healed),
        cmocka_unit_test(a_cut_that_outlasts_the_stall_time_closes),
        cmocka_unit_test(connecting_across_a_cut_ends_at_the_deadline),
        cmocka_unit_test(a_killed_host_resets_after_its_last_words),
        cmocka_unit_test(a_frozen_host_takes_bytes_up_to_a_bound),
        cmocka_unit_test(a_frozen_hosts_kernel_still_answers_connects),
        cmocka_unit_test(a_slow_host_is_late),
        cmocka_unit_test(a_change_in_the_middle_tears_a_get),
        cmocka_unit_test(gets_end_in_any_order),
        cmocka_unit_test(a_killed_owner_fails_gets_and_leaves_mappings),
        cmocka_unit_test(a_dead_owners_segment_is_not_mapped_anew),
        cmocka_unit_test(native_gets_need_no_owner_and_others_do),
        cmocka_unit_test(a_cut_stalls_gets_and_a_detach_ends_them),
        cmocka_unit_test(attaching_waits_for_a_silent_peer),
        cmocka_unit_test(another_version_maps_on_one_machine_only),
        cmocka_unit_test(a_killed_reader_is_written_to_no_more),
    };
    return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
