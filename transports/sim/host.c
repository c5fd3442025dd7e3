#include "world.h"

#include "base/assert.h"
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_FIRST = 40000, PORT_LAST = 65000 };

/* What two hosts have to themselves; kept by the one with the lower id. */
struct pair
{
    struct pc_list in_host;
    uint64_t other_id;
    bool has_path;
    struct pc_sim_path path;
    bool cut_up; /* What goes to the higher id is dropped. */
    bool cut_down;
};

static size_t bucket_of(const char *ip, size_t len)
{
    return (size_t)(pc_hash64(ip, len, 0) % PC_SIM_BUCKETS);
}

static struct pc_sim_machine *machine_get(struct pc_sim *sim, const char *name)
{
    unsigned n = 1;
    for (struct pc_list *at = sim->machines.next; at != &sim->machines;
         at = at->next, n++) {
        struct pc_sim_machine *machine =
            PC_CONTAINER_OF(at, struct pc_sim_machine, in_sim);
        if (strcmp(machine->name, name) == 0) {
            return machine;
        }
    }
    struct pc_sim_machine *machine = pc_sim_alloc(1, sizeof(*machine));
    snprintf(machine->name, sizeof(machine->name), "%s", name);
    snprintf(machine->ip, sizeof(machine->ip), "10.%u.%u.%u", n >> 16 & 255,
             n >> 8 & 255, n & 255);
    machine->next_port = PORT_FIRST;
    pc_list_push_back(&sim->machines, &machine->in_sim);
    pc_list_init(&machine->in_bucket);
    pc_list_push_back(
        &sim->machines_by_ip[bucket_of(machine->ip, strlen(machine->ip))],
        &machine->in_bucket);
    return machine;
}

uint16_t pc_sim_machine_port(struct pc_sim_machine *machine)
{
    if (machine->next_port == PORT_LAST) {
        machine->next_port = PORT_FIRST;
    }
    return machine->next_port++;
}

struct pc_sim_host *pc_sim_host_at(const struct pc_sim *sim,
                                   const char *address)
{
    const char *colon = strchr(address, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - address);
    const struct pc_list *bucket =
        &sim->machines_by_ip[bucket_of(address, len)];
    for (struct pc_list *at = bucket->next; at != bucket; at = at->next) {
        const struct pc_sim_machine *machine =
            PC_CONTAINER_OF(at, struct pc_sim_machine, in_bucket);
        if (strlen(machine->ip) == len &&
            memcmp(machine->ip, address, len) == 0) {
            return machine->newest;
        }
    }
    return NULL;
}

struct pc_sim_host *pc_sim_host_add(struct pc_sim *sim, const char *name,
                                    const char *machine)
{
    struct pc_sim_host *host = pc_sim_alloc(1, sizeof(*host));
    snprintf(host->name, sizeof(host->name), "%s", name);
    host->sim = sim;
    host->id = sim->next_id++;
    host->machine = machine_get(sim, machine);
    host->can_get = true;
    host->fabric_version = 1;
    pc_sim_set_clock(host, sim->now_ns, 0);
    pc_list_init(&host->pairs);
    pc_list_init(&host->links);
    pc_list_init(&host->fabrics);
    pc_list_push_back(&sim->hosts, &host->in_sim);
    host->machine->newest = host;
    return host;
}

static void host_free(struct pc_sim_host *host)
{
    PC_ASSERT(pc_list_is_empty(&host->links));
    PC_ASSERT(pc_list_is_empty(&host->fabrics));
    struct pc_list *node;
    while ((node = pc_list_pop_front(&host->pairs)) != NULL) {
        free(PC_CONTAINER_OF(node, struct pair, in_host));
    }
    free(host);
}

void pc_sim_hosts_free(struct pc_sim *sim)
{
    struct pc_list *node;
    while ((node = pc_list_pop_front(&sim->hosts)) != NULL) {
        host_free(PC_CONTAINER_OF(node, struct pc_sim_host, in_sim));
    }
    while ((node = pc_list_pop_front(&sim->machines)) != NULL) {
        free(PC_CONTAINER_OF(node, struct pc_sim_machine, in_sim));
    }
}

const char *pc_sim_host_name(const struct pc_sim_host *host)
{
    return host->name;
}

const char *pc_sim_host_ip(const struct pc_sim_host *host)
{
    return host->machine->ip;
}

bool pc_sim_host_is_running(const struct pc_sim_host *host)
{
    return !host->dead && !host->frozen;
}

void pc_sim_host_watch(struct pc_sim_host *host, bool *ready)
{
    host->ready = ready;
}

bool pc_sim_host_is_ready(const struct pc_sim_host *host)
{
    return pc_sim_host_is_running(host) &&
           (pc_sim_links_are_ready(host) || pc_sim_fabrics_are_ready(host));
}

/* ---- Its clock ----------------------------------------------------------- */

#define MILLION 1000000

static uint64_t host_now(void *arg)
{
    const struct pc_sim_host *host = arg;
    int64_t passed = (int64_t)(host->sim->now_ns - host->set_ns);
    return host->clock_ns + (uint64_t)(passed + passed / MILLION * host->ppm +
                                       passed % MILLION * host->ppm / MILLION);
}

struct pc_clock pc_sim_host_clock(struct pc_sim_host *host)
{
    return (struct pc_clock){host_now, host};
}

void pc_sim_set_clock(struct pc_sim_host *host, uint64_t now_ns, int32_t ppm)
{
    PC_ASSERT(ppm > -MILLION / 2 && ppm < MILLION / 2);
    host->clock_ns = now_ns;
    host->set_ns = host->sim->now_ns;
    host->ppm = ppm;
}

/* Rounded up, so that the host's clock does show it then. */
uint64_t pc_sim_world_time(const struct pc_sim_host *host, uint64_t time_ns)
{
    if (time_ns <= host->clock_ns) {
        return host->set_ns;
    }
    uint64_t ahead = time_ns - host->clock_ns;
    if (host->ppm == 0) {
        return ahead < UINT64_MAX - host->set_ns ? host->set_ns + ahead
                                                 : UINT64_MAX;
    }
    if (ahead > 1000000 * PC_S) {
        return UINT64_MAX; /* Never, as runs go. */
    }
    uint64_t rate = (uint64_t)(MILLION + host->ppm);
    return host->set_ns + ahead / rate * MILLION +
           (ahead % rate * MILLION + rate - 1) / rate + 2;
}

/* ---- Pairs --------------------------------------------------------------- */

static struct pair *pair_find(const struct pc_sim_host *a,
                              const struct pc_sim_host *b)
{
    const struct pc_sim_host *low = a->id <= b->id ? a : b;
    const struct pc_sim_host *high = low == a ? b : a;
    for (struct pc_list *at = low->pairs.next; at != &low->pairs;
         at = at->next) {
        struct pair *pair = PC_CONTAINER_OF(at, struct pair, in_host);
        if (pair->other_id == high->id) {
            return pair;
        }
    }
    return NULL;
}

static struct pair *pair_get(struct pc_sim_host *a, struct pc_sim_host *b)
{
    struct pair *pair = pair_find(a, b);
    if (pair == NULL) {
        struct pc_sim_host *low = a->id <= b->id ? a : b;
        pair = pc_sim_alloc(1, sizeof(*pair));
        pair->other_id = low == a ? b->id : a->id;
        pc_list_push_back(&low->pairs, &pair->in_host);
    }
    return pair;
}

struct pc_sim_path pc_sim_path_default(void)
{
    return (struct pc_sim_path){
        .latency_min_ns = 20 * PC_US,
        .latency_max_ns = 60 * PC_US,
        .bandwidth = 10ull * 1000 * 1000 * 1000,
        .native = true,
    };
}

void pc_sim_set_path(struct pc_sim *sim, struct pc_sim_host *a,
                     struct pc_sim_host *b, const struct pc_sim_path *path)
{
    PC_ASSERT(path->latency_min_ns <= path->latency_max_ns);
    PC_ASSERT((a == NULL) == (b == NULL));
    if (a == NULL) {
        sim->path = *path;
        return;
    }
    struct pair *pair = pair_get(a, b);
    pair->path = *path;
    pair->has_path = true;
}

struct pc_sim_path pc_sim_path_of(const struct pc_sim_host *a,
                                  const struct pc_sim_host *b)
{
    const struct pair *pair = pair_find(a, b);
    return pair != NULL && pair->has_path ? pair->path : a->sim->path;
}

uint64_t pc_sim_latency(const struct pc_sim_host *a,
                        const struct pc_sim_host *b)
{
    struct pc_sim_path path = pc_sim_path_of(a, b);
    uint64_t spread = path.latency_max_ns - path.latency_min_ns;
    return path.latency_min_ns + a->slow_ns + b->slow_ns +
           pc_rand_below(&a->sim->rand, spread + 1);
}

uint64_t pc_sim_transfer_ns(const struct pc_sim_path *path, size_t len)
{
    if (path->bandwidth == 0) {
        return 0;
    }
    return (uint64_t)((double)len * 1e9 / (double)path->bandwidth);
}

void pc_sim_set_chunk(struct pc_sim *sim, size_t chunk)
{
    PC_ASSERT(chunk > 0);
    sim->chunk = chunk;
}

void pc_sim_set_window(struct pc_sim *sim, size_t window)
{
    PC_ASSERT(window > 0);
    sim->window = window;
}

/* ---- Faults -------------------------------------------------------------- */

bool pc_sim_is_cut_to(const struct pc_sim_host *from,
                      const struct pc_sim_host *to)
{
    if (from->island != to->island) {
        return true;
    }
    const struct pair *pair = pair_find(from, to);
    return pair != NULL && (from->id <= to->id ? pair->cut_up : pair->cut_down);
}

bool pc_sim_is_cut(const struct pc_sim_host *a, const struct pc_sim_host *b)
{
    return pc_sim_is_cut_to(a, b) || pc_sim_is_cut_to(b, a);
}

static void resume(struct pc_sim *sim)
{
    pc_sim_wires_resume(sim);
    pc_sim_fabrics_resume(sim);
}

void pc_sim_cut(struct pc_sim *sim, struct pc_sim_host *a,
                struct pc_sim_host *b)
{
    pc_sim_trace(sim, "cut %s | %s", a->name, b->name);
    struct pair *pair = pair_get(a, b);
    pair->cut_up = true;
    pair->cut_down = true;
}

void pc_sim_cut_one_way(struct pc_sim *sim, struct pc_sim_host *from,
                        struct pc_sim_host *to)
{
    pc_sim_trace(sim, "cut %s -> %s", from->name, to->name);
    struct pair *pair = pair_get(from, to);
    *(from->id <= to->id ? &pair->cut_up : &pair->cut_down) = true;
}

void pc_sim_heal(struct pc_sim *sim, struct pc_sim_host *a,
                 struct pc_sim_host *b)
{
    pc_sim_trace(sim, "heal %s | %s", a->name, b->name);
    struct pair *pair = pair_get(a, b);
    pair->cut_up = false;
    pair->cut_down = false;
    resume(sim);
}

void pc_sim_set_island(struct pc_sim_host *host, unsigned island)
{
    pc_sim_trace(host->sim, "%s moves to island %u", host->name, island);
    host->island = island;
    resume(host->sim);
}

void pc_sim_break(struct pc_sim *sim, struct pc_sim_host *a,
                  struct pc_sim_host *b)
{
    pc_sim_trace(sim, "break %s | %s", a->name, b->name);
    pc_sim_wires_break(sim, a, b);
}

void pc_sim_break_late(struct pc_sim *sim, struct pc_sim_host *a,
                       struct pc_sim_host *b, uint64_t late_ns)
{
    pc_sim_trace(sim, "%s gives up its connections with %s", a->name, b->name);
    pc_sim_wires_break_late(sim, a, b, late_ns);
}

uint64_t pc_sim_host_broke_ns(const struct pc_sim_host *host)
{
    return host->broke_ns;
}

uint64_t pc_sim_host_bytes(const struct pc_sim_host *host)
{
    return host->n_bytes;
}

void pc_sim_kill(struct pc_sim_host *host)
{
    if (host->dead) {
        return;
    }
    pc_sim_trace(host->sim, "kill %s", host->name);
    host->dead = true;
    pc_sim_wires_host_died(host);
    pc_sim_fabrics_host_died(host);
}

void pc_sim_bury(struct pc_sim_host *host)
{
    PC_ASSERT(host->dead);
    host->buried = true;
    pc_sim_links_host_buried(host);
    pc_sim_fabrics_host_buried(host);
}

void pc_sim_freeze(struct pc_sim_host *host)
{
    pc_sim_trace(host->sim, "freeze %s", host->name);
    host->frozen = true;
}

void pc_sim_thaw(struct pc_sim_host *host)
{
    pc_sim_trace(host->sim, "thaw %s", host->name);
    host->frozen = false;
    resume(host->sim);
}

void pc_sim_set_slow(struct pc_sim_host *host, uint64_t slow_ns)
{
    host->slow_ns = slow_ns;
}

void pc_sim_set_gets(struct pc_sim_host *host, bool can_get)
{
    host->can_get = can_get;
}

void pc_sim_set_bad_tries(struct pc_sim_host *host, unsigned n)
{
    host->n_bad_tries = n;
}

unsigned pc_sim_bad_tries(const struct pc_sim_host *host)
{
    return host->n_bad_tries;
}

void pc_sim_set_fabric_version(struct pc_sim_host *host, uint32_t version)
{
    host->fabric_version = version;
}
