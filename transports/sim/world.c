#include "world.h"

#include "base/assert.h"

#include <stdlib.h>

enum { CHUNK_DEFAULT = 16 << 10, WINDOW_DEFAULT = 256 << 10 };

void *pc_sim_alloc(size_t n, size_t size)
{
    void *memory = calloc(n == 0 ? 1 : n, size == 0 ? 1 : size);
    if (memory == NULL) {
        abort(); /* The laws of nature have no error path. */
    }
    return memory;
}

uint64_t pc_sim_table_add(struct pc_sim_table *table, void *thing)
{
    if (table->n_slots == table->capacity) {
        size_t capacity = table->capacity == 0 ? 64 : 2 * table->capacity;
        void **slots = pc_sim_alloc(capacity, sizeof(void *));
        for (size_t i = 0; i < table->n_slots; i++) {
            slots[i] = table->slots[i];
        }
        free(table->slots);
        table->slots = slots;
        table->capacity = capacity;
    }
    table->slots[table->n_slots++] = thing;
    return table->n_slots;
}

void *pc_sim_table_get(const struct pc_sim_table *table, uint64_t id)
{
    return id == 0 || id > table->n_slots ? NULL : table->slots[id - 1];
}

void pc_sim_table_remove(struct pc_sim_table *table, uint64_t id)
{
    table->slots[id - 1] = NULL;
}

struct pc_sim *pc_sim_create(uint64_t seed)
{
    struct pc_sim *sim = pc_sim_alloc(1, sizeof(*sim));
    sim->now_ns = PC_SIM_START_NS;
    sim->path = pc_sim_path_default();
    sim->chunk = CHUNK_DEFAULT;
    sim->window = WINDOW_DEFAULT;
    sim->next_id = 1;
    pc_rand_init(&sim->rand, seed);
    pc_heap_init(&sim->events);
    pc_list_init(&sim->machines);
    pc_list_init(&sim->hosts);
    pc_list_init(&sim->wires);
    for (size_t i = 0; i < PC_SIM_BUCKETS; i++) {
        pc_list_init(&sim->listeners[i]);
        pc_list_init(&sim->machines_by_ip[i]);
    }
    pc_list_init(&sim->fabrics);
    pc_sim_trace_init(&sim->trace);
    return sim;
}

void pc_sim_destroy(struct pc_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    pc_sim_wires_free(sim);
    pc_sim_hosts_free(sim);
    pc_sim_trace_fini(&sim->trace);
    free(sim->fabric_ids.slots);
    free(sim->segment_ids.slots);
    pc_heap_fini(&sim->events);
    free(sim);
}

static uint64_t sim_now(void *arg)
{
    const struct pc_sim *sim = arg;
    return sim->now_ns;
}

struct pc_clock pc_sim_clock(struct pc_sim *sim)
{
    return (struct pc_clock){sim_now, sim};
}

uint64_t pc_sim_rand_below(struct pc_sim *sim, uint64_t bound)
{
    return pc_rand_below(&sim->rand, bound);
}

void pc_sim_event_init(struct pc_sim_event *event,
                       void (*fire)(struct pc_sim_event *event))
{
    *event = (struct pc_sim_event){.fire = fire};
}

void pc_sim_schedule(struct pc_sim *sim, struct pc_sim_event *event,
                     uint64_t due_ns)
{
    pc_heap_remove(&sim->events, &event->node);
    event->node.due_ns = due_ns > sim->now_ns ? due_ns : sim->now_ns;
    /* The heap takes its memory where nodes take theirs, and a test that lets
     * an allocation of a node fail may hit it: that comes once. */
    if (!pc_heap_push(&sim->events, &event->node) &&
        !pc_heap_push(&sim->events, &event->node)) {
        abort();
    }
}

void pc_sim_unschedule(struct pc_sim *sim, struct pc_sim_event *event)
{
    pc_heap_remove(&sim->events, &event->node);
}

bool pc_sim_is_scheduled(const struct pc_sim_event *event)
{
    return event->node.index != 0;
}

bool pc_sim_next(const struct pc_sim *sim, uint64_t *due_ns_p)
{
    struct pc_heap_node *first = pc_heap_first(&sim->events);
    if (first == NULL) {
        return false;
    }
    *due_ns_p = first->due_ns;
    return true;
}

void pc_sim_advance_to(struct pc_sim *sim, uint64_t now_ns)
{
    struct pc_heap_node *first;
    while ((first = pc_heap_first(&sim->events)) != NULL &&
           first->due_ns <= now_ns) {
        if (first->due_ns > sim->now_ns) {
            sim->now_ns = first->due_ns;
        }
        pc_heap_remove(&sim->events, first);
        struct pc_sim_event *event =
            PC_CONTAINER_OF(first, struct pc_sim_event, node);
        event->fire(event);
    }
    if (now_ns > sim->now_ns) {
        sim->now_ns = now_ns;
    }
}
