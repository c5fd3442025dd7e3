#include "wire.h"

#include "base/assert.h"
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The least time after which a kernel sends again what it got no answer to. */
#define RESEND_NS (200 * PC_MS)
/* Of Ethernet, IP and TCP with time stamps, on the wire. */
enum { HEADER_BYTES = 66 };

static int end_of(const struct pc_sim_flow *flow)
{
    return flow == &flow->wire->flows[0] ? 0 : 1;
}

/* Before anybody answered, a flow goes to a machine and not yet to a host: the
 * path is then the one to whoever listens there, or is its newest host. */
static struct pc_sim_host *host_at(const struct pc_sim_wire *wire, int end)
{
    if (wire->hosts[end] != NULL) {
        return wire->hosts[end];
    }
    struct pc_sim_listener *listener =
        pc_sim_listener_find(wire->hosts[0], wire->to);
    if (listener != NULL) {
        return listener->host;
    }
    struct pc_sim_host *host = pc_sim_host_at(wire->sim, wire->to);
    return host != NULL ? host : wire->hosts[0];
}

static void drop_items(struct pc_list *items)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(items)) != NULL) {
        free(PC_CONTAINER_OF(node, struct pc_sim_item, in_flow));
    }
}

static void wire_free(struct pc_sim_wire *wire)
{
    for (int i = 0; i < 2; i++) {
        pc_sim_unschedule(wire->sim, &wire->flows[i].event);
        drop_items(&wire->flows[i].in_flight);
        drop_items(&wire->flows[i].arrived);
    }
    pc_list_remove(&wire->in_sim);
    free(wire);
}

static void wire_free_if_over(struct pc_sim_wire *wire)
{
    if (wire->left[0] && wire->left[1] &&
        pc_list_is_empty(&wire->flows[0].in_flight) &&
        pc_list_is_empty(&wire->flows[1].in_flight)) {
        wire_free(wire);
    }
}

void pc_sim_wires_free(struct pc_sim *sim)
{
    while (!pc_list_is_empty(&sim->wires)) {
        wire_free(PC_CONTAINER_OF(sim->wires.next, struct pc_sim_wire, in_sim));
    }
}

/* ---- Arriving ------------------------------------------------------------ */

static void schedule_first(struct pc_sim_flow *flow)
{
    if (pc_list_is_empty(&flow->in_flight) || flow->held_ns != 0) {
        return;
    }
    struct pc_sim_item *first =
        PC_CONTAINER_OF(flow->in_flight.next, struct pc_sim_item, in_flow);
    pc_sim_schedule(flow->wire->sim, &flow->event, first->due_ns);
}

static void reset_flow(struct pc_sim_wire *wire, int end)
{
    struct pc_sim_flow *flow = &wire->flows[end];
    drop_items(&flow->in_flight);
    flow->ended = false; /* The end of the stream may be among what was lost. */
    pc_sim_wire_push(wire, end, pc_sim_item_new(PC_SIM_RST, 0));
}

/* It is in trouble until then. */
static void note_trouble(struct pc_sim_host *host, uint64_t until_ns)
{
    if (host != NULL && host->broke_ns < until_ns) {
        host->broke_ns = until_ns;
    }
}

static void note_break(struct pc_sim_wire *wire, uint64_t until_ns)
{
    note_trouble(wire->hosts[0], until_ns);
    note_trouble(wire->hosts[1], until_ns);
}

static void wire_break(struct pc_sim_wire *wire)
{
    note_break(wire, wire->sim->now_ns);
    reset_flow(wire, 0);
    reset_flow(wire, 1);
}

static void answer_syn(struct pc_sim_wire *wire)
{
    struct pc_sim_listener *listener =
        pc_sim_listener_find(wire->hosts[0], wire->to);
    wire->hosts[1] = host_at(wire, 1);
    if (listener != NULL) {
        wire->conns[1] = pc_sim_conn_incoming(listener, wire);
    }
    wire->left[1] = wire->conns[1] == NULL;
    pc_sim_wire_push(
        wire, 1,
        pc_sim_item_new(wire->left[1] ? PC_SIM_REFUSED : PC_SIM_SYN_ACK, 0));
}

static bool breaks_here(const struct pc_sim_wire *wire,
                        const struct pc_sim_item *item)
{
    struct pc_sim_path path = pc_sim_path_of(wire->hosts[0], wire->hosts[1]);
    return path.break_ppm > 0 &&
           (item->kind == PC_SIM_HEAD || item->kind == PC_SIM_BODY) &&
           pc_sim_rand_below(wire->sim, 1000000) < path.break_ppm;
}

/* The item has reached the other end's kernel. */
static void arrive(struct pc_sim_flow *flow, struct pc_sim_item *item)
{
    struct pc_sim_wire *wire = flow->wire;
    int to = 1 - end_of(flow);

    if (item->kind == PC_SIM_SYN) {
        answer_syn(wire);
        free(item);
    } else if (wire->left[to] || wire->hosts[to]->dead) {
        free(item);
    } else if (item->kind == PC_SIM_ACK) {
        wire->flows[to].n_unacked -= item->len;
        free(item);
        pc_sim_conn_notify(wire->conns[to]);
    } else if (breaks_here(wire, item)) {
        pc_sim_trace(wire->sim, "%s | %s connection breaks",
                     wire->hosts[0]->name, wire->hosts[1]->name);
        free(item);
        wire_break(wire);
    } else {
        pc_list_push_back(&flow->arrived, &item->in_flow);
        pc_sim_conn_notify(wire->conns[to]);
    }
}

static void flow_event(struct pc_sim_event *event)
{
    struct pc_sim_flow *flow =
        PC_CONTAINER_OF(event, struct pc_sim_flow, event);
    struct pc_sim_wire *wire = flow->wire;
    struct pc_sim *sim = wire->sim;

    while (!pc_list_is_empty(&flow->in_flight)) {
        struct pc_sim_item *item =
            PC_CONTAINER_OF(flow->in_flight.next, struct pc_sim_item, in_flow);
        if (item->due_ns > sim->now_ns) {
            break;
        }
        struct pc_sim_host *from = host_at(wire, end_of(flow));
        struct pc_sim_host *to = host_at(wire, 1 - end_of(flow));
        if (pc_sim_is_cut_to(from, to)) {
            flow->held_ns = sim->now_ns;
            return;
        }
        if (flow->unheard_ns == 0 && pc_sim_is_cut_to(to, from)) {
            flow->unheard_ns = sim->now_ns;
        }
        pc_list_remove(&item->in_flow);
        arrive(flow, item);
    }
    schedule_first(flow);
    wire_free_if_over(wire);
}

/* ---- Sending ------------------------------------------------------------- */

struct pc_sim_wire *pc_sim_wire_open(struct pc_sim_host *from, const char *to,
                                     enum pc_link_class cls,
                                     struct pc_link_conn *conn)
{
    struct pc_sim *sim = from->sim;
    struct pc_sim_wire *wire = pc_sim_alloc(1, sizeof(*wire));
    wire->sim = sim;
    wire->cls = cls;
    wire->hosts[0] = from;
    wire->conns[0] = conn;
    snprintf(wire->to, sizeof(wire->to), "%s", to);
    if (strncmp(to, "unix:", 5) == 0) {
        snprintf(wire->from, sizeof(wire->from), "unix:");
    } else {
        snprintf(wire->from, sizeof(wire->from), "%s:%u", from->machine->ip,
                 (unsigned)pc_sim_machine_port(from->machine));
    }
    for (int i = 0; i < 2; i++) {
        wire->flows[i].wire = wire;
        pc_sim_event_init(&wire->flows[i].event, flow_event);
        pc_list_init(&wire->flows[i].in_flight);
        pc_list_init(&wire->flows[i].arrived);
    }
    pc_list_push_back(&sim->wires, &wire->in_sim);
    pc_sim_wire_push(wire, 0, pc_sim_item_new(PC_SIM_SYN, 0));
    return wire;
}

struct pc_sim_item *pc_sim_item_new(enum pc_sim_item_kind kind, size_t len)
{
    struct pc_sim_item *item = pc_sim_alloc(1, sizeof(*item) + len);
    pc_list_init(&item->in_flow);
    item->kind = kind;
    item->len = len;
    return item;
}

void pc_sim_wire_push(struct pc_sim_wire *wire, int end,
                      struct pc_sim_item *item)
{
    struct pc_sim *sim = wire->sim;
    struct pc_sim_flow *flow = &wire->flows[end];
    struct pc_sim_host *from = host_at(wire, end);
    struct pc_sim_host *to = host_at(wire, 1 - end);
    struct pc_sim_path path = pc_sim_path_of(from, to);

    if (flow->ended) {
        free(item);
        return;
    }
    if (item->kind == PC_SIM_HEAD || item->kind == PC_SIM_BODY) {
        flow->n_unacked += item->len;
    }
    flow->ended = item->kind == PC_SIM_FIN || item->kind == PC_SIM_RST;
    uint64_t start = flow->busy_ns > sim->now_ns ? flow->busy_ns : sim->now_ns;
    flow->busy_ns =
        start +
        (item->kind == PC_SIM_ACK ? 0 : pc_sim_transfer_ns(&path, item->len));
    /* The chunks of a body keep their distance; all else has its own delay. */
    if (item->kind != PC_SIM_BODY) {
        flow->latency_ns = pc_sim_latency(from, to);
    }
    item->due_ns = flow->busy_ns + flow->latency_ns;
    while (path.loss_ppm > 0 &&
           pc_sim_rand_below(sim, 1000000) < path.loss_ppm) {
        item->due_ns += RESEND_NS;
        /* As good as cut off until then. */
        note_trouble(from, item->due_ns);
        note_trouble(to, item->due_ns);
    }
    if (item->kind != PC_SIM_ACK) {
        from->n_bytes += item->len + HEADER_BYTES;
        to->n_bytes += item->len + HEADER_BYTES;
    }
    if (!pc_list_is_empty(&flow->in_flight)) {
        struct pc_sim_item *last =
            PC_CONTAINER_OF(flow->in_flight.prev, struct pc_sim_item, in_flow);
        if (item->due_ns < last->due_ns) {
            item->due_ns = last->due_ns;
        }
    }
    pc_list_push_back(&flow->in_flight, &item->in_flow);
    if (!pc_sim_is_scheduled(&flow->event)) {
        schedule_first(flow);
    }
}

bool pc_sim_wire_has_room(const struct pc_sim_wire *wire, int end)
{
    return wire->flows[end].n_unacked < wire->sim->window;
}

uint64_t pc_sim_wire_held_ns(const struct pc_sim_wire *wire, int end)
{
    const struct pc_sim_flow *flow = &wire->flows[end];
    bool unheard = flow->unheard_ns != 0 &&
                   (flow->held_ns == 0 || flow->unheard_ns < flow->held_ns);
    return unheard ? flow->unheard_ns : flow->held_ns;
}

bool pc_sim_wire_is_moving(const struct pc_sim_wire *wire, int end)
{
    return !pc_list_is_empty(&wire->flows[end].in_flight) ||
           wire->flows[end].unheard_ns != 0;
}

/* ---- Receiving ----------------------------------------------------------- */

struct pc_sim_item *pc_sim_wire_peek(const struct pc_sim_wire *wire, int end)
{
    const struct pc_list *arrived = &wire->flows[1 - end].arrived;
    return pc_list_is_empty(arrived)
               ? NULL
               : PC_CONTAINER_OF(arrived->next, struct pc_sim_item, in_flow);
}

bool pc_sim_wire_is_reset(const struct pc_sim_wire *wire, int end)
{
    const struct pc_list *arrived = &wire->flows[1 - end].arrived;
    return !pc_list_is_empty(arrived) &&
           PC_CONTAINER_OF(arrived->prev, struct pc_sim_item, in_flow)->kind ==
               PC_SIM_RST;
}

struct pc_sim_item *pc_sim_wire_take(struct pc_sim_wire *wire, int end)
{
    struct pc_sim_flow *flow = &wire->flows[1 - end];
    struct pc_sim_item *item = PC_CONTAINER_OF(
        pc_list_pop_front(&flow->arrived), struct pc_sim_item, in_flow);

    if (item->kind == PC_SIM_HEAD || item->kind == PC_SIM_BODY) {
        flow->n_unclaimed += item->len;
    }
    /* A sender without room has at least a window on the way, so half of one
     * is always reached. */
    if (flow->n_unclaimed >= (wire->sim->window + 1) / 2) {
        struct pc_sim_item *ack = pc_sim_item_new(PC_SIM_ACK, 0);
        ack->len = flow->n_unclaimed;
        flow->n_unclaimed = 0;
        pc_sim_wire_push(wire, end, ack);
    }
    return item;
}

/* ---- Ending -------------------------------------------------------------- */

void pc_sim_wire_leave(struct pc_sim_wire *wire, int end)
{
    PC_ASSERT(!wire->left[end]);
    if (!wire->hosts[end]->dead) {
        pc_sim_wire_push(wire, end, pc_sim_item_new(PC_SIM_FIN, 0));
    }
    wire->left[end] = true;
    wire->conns[end] = NULL;
    drop_items(&wire->flows[1 - end].arrived);
    wire_free_if_over(wire);
}

static bool joins(const struct pc_sim_wire *wire, const struct pc_sim_host *a,
                  const struct pc_sim_host *b)
{
    return wire->hosts[1] != NULL &&
           ((wire->hosts[0] == a && wire->hosts[1] == b) ||
            (wire->hosts[0] == b && wire->hosts[1] == a));
}

void pc_sim_wires_break(struct pc_sim *sim, const struct pc_sim_host *a,
                        const struct pc_sim_host *b)
{
    for (struct pc_list *at = sim->wires.next; at != &sim->wires;
         at = at->next) {
        struct pc_sim_wire *wire =
            PC_CONTAINER_OF(at, struct pc_sim_wire, in_sim);
        if (joins(wire, a, b)) {
            wire_break(wire);
        }
    }
}

/* The end of `a` is reset at once; what it had sent stays on its way. */
static void give_up(struct pc_sim_wire *wire, int end, uint64_t late_ns)
{
    struct pc_sim_flow *flow = &wire->flows[end];
    /* For as long, the other end hears nothing and does not know why. */
    note_break(wire, wire->sim->now_ns + late_ns);
    reset_flow(wire, 1 - end);
    for (struct pc_list *at = flow->in_flight.next; at != &flow->in_flight;
         at = at->next) {
        PC_CONTAINER_OF(at, struct pc_sim_item, in_flow)->due_ns += late_ns;
    }
    if (!pc_list_is_empty(&flow->in_flight)) {
        schedule_first(flow);
    }
    pc_sim_wire_push(wire, end, pc_sim_item_new(PC_SIM_RST, 0));
}

void pc_sim_wires_break_late(struct pc_sim *sim, const struct pc_sim_host *a,
                             const struct pc_sim_host *b, uint64_t late_ns)
{
    for (struct pc_list *at = sim->wires.next; at != &sim->wires;
         at = at->next) {
        struct pc_sim_wire *wire =
            PC_CONTAINER_OF(at, struct pc_sim_wire, in_sim);
        if (joins(wire, a, b)) {
            give_up(wire, wire->hosts[0] == a ? 0 : 1, late_ns);
        }
    }
}

/* What it had sent still arrives, then the reset of its kernel. */
void pc_sim_wires_host_died(struct pc_sim_host *host)
{
    struct pc_sim *sim = host->sim;
    for (struct pc_list *at = sim->wires.next; at != &sim->wires;
         at = at->next) {
        struct pc_sim_wire *wire =
            PC_CONTAINER_OF(at, struct pc_sim_wire, in_sim);
        for (int end = 0; end < 2; end++) {
            if (wire->hosts[end] == host && !wire->left[end]) {
                pc_sim_wire_push(wire, end, pc_sim_item_new(PC_SIM_RST, 0));
            }
        }
    }
}

void pc_sim_wires_resume(struct pc_sim *sim)
{
    for (struct pc_list *at = sim->wires.next; at != &sim->wires;
         at = at->next) {
        struct pc_sim_wire *wire =
            PC_CONTAINER_OF(at, struct pc_sim_wire, in_sim);
        struct pc_sim_host *a = host_at(wire, 0);
        struct pc_sim_host *b = host_at(wire, 1);
        for (int i = 0; i < 2; i++) {
            struct pc_sim_flow *flow = &wire->flows[i];
            if (!pc_sim_is_cut(a, b)) {
                flow->unheard_ns = 0;
            }
            if (flow->held_ns != 0 &&
                !pc_sim_is_cut_to(i == 0 ? a : b, i == 0 ? b : a)) {
                flow->held_ns = 0;
                /* Retransmission has backed off meanwhile. */
                pc_sim_schedule(sim, &flow->event,
                                sim->now_ns + pc_sim_latency(a, b));
            }
        }
    }
}

struct pc_list *pc_sim_listeners(struct pc_sim *sim, const char *address)
{
    uint64_t hash = pc_hash64(address, strlen(address), 0);
    return &sim->listeners[hash % PC_SIM_BUCKETS];
}

struct pc_sim_listener *pc_sim_listener_find(const struct pc_sim_host *from,
                                             const char *address)
{
    const struct pc_list *bucket = pc_sim_listeners(from->sim, address);
    for (struct pc_list *at = bucket->next; at != bucket; at = at->next) {
        struct pc_sim_listener *listener =
            PC_CONTAINER_OF(at, struct pc_sim_listener, in_sim);
        if (!listener->host->dead &&
            (!listener->local || listener->host->machine == from->machine) &&
            strcmp(listener->bound, address) == 0) {
            return listener;
        }
    }
    return NULL;
}
