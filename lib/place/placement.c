#include "placement.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool pc_placement_is_list(const char *text)
{
    struct pc_cpus list;
    return strcasecmp(text, "none") == 0 || pc_cpus_parse(text, &list);
}

/* ---- Text ------------------------------------------------------------- */

static void add(char *text, size_t len, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One more remark; what does not fit is cut. */
static void add(char *text, size_t len, const char *format, ...)
{
    size_t used = strlen(text);
    if (used > 0 && used + 3 < len) {
        memcpy(text + used, "; ", 3);
        used += 2;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, len - used, format, args);
    va_end(args);
}

#define WHY(plan, ...)   add((plan)->why, sizeof((plan)->why), __VA_ARGS__)
#define UNMET(plan, ...) add((plan)->unmet, sizeof((plan)->unmet), __VA_ARGS__)

/* ---- The pool's nodes ------------------------------------------------- */

static void add_share(struct pc_placement *plan, unsigned node)
{
    for (size_t i = 0; i < plan->n_shares; i++) {
        if (plan->shares[i].numa_node == node) {
            plan->shares[i].weight++;
            return;
        }
    }
    if (plan->n_shares < PC_PLACEMENT_SHARES_MAX) {
        plan->shares[plan->n_shares++] =
            (struct pc_placement_share){.numa_node = node, .weight = 1};
    }
}

/* Whether memory of a node may be used; says why not. */
static bool is_usable(const struct pc_topology *t, unsigned number,
                      struct pc_placement *plan)
{
    const struct pc_place_node *node = pc_topology_node(t, number);
    if (node == NULL) {
        UNMET(plan, "there is no NUMA node %u", number);
    } else if (!node->is_allowed) {
        UNMET(plan, "this process may not use NUMA node %u", number);
    } else if (!node->has_memory) {
        UNMET(plan, "NUMA node %u has no memory", number);
    } else {
        return true;
    }
    return false;
}

static void follow_setting(const struct pc_topology *t, const char *setting,
                           struct pc_placement *plan)
{
    struct pc_cpus wanted;
    if (!pc_cpus_parse(setting, &wanted)) {
        UNMET(plan, "numa_node %s is no list of numbers", setting);
        return;
    }
    for (unsigned i = 0; i < PC_CPUS_MAX; i++) {
        if (pc_cpus_has(&wanted, i) && is_usable(t, i, plan)) {
            add_share(plan, i);
        }
    }
    if (plan->n_shares > 0) {
        WHY(plan, "by numa_node");
    }
}

/* Cuts the next name out of "mlx5_0:1,mlx5_1 eth0", without its port. */
static const char *next_device(const char *at, char *name, size_t name_len)
{
    at += strspn(at, ", ");
    size_t len = strcspn(at, ", ");
    size_t n = strcspn(at, ":, ");
    n = n < name_len ? n : name_len - 1;
    memcpy(name, at, n);
    name[n] = '\0';
    return len > 0 ? at + len : NULL;
}

static void follow_devices(const struct pc_topology *t, const char *devices,
                           struct pc_placement *plan)
{
    char name[64];
    const char *at = devices;
    while ((at = next_device(at, name, sizeof(name))) != NULL) {
        const struct pc_place_device *device = pc_topology_device(t, name);
        if (device == NULL) {
            UNMET(plan, "%s is not in the topology", name);
        } else if (device->numa_node < 0) {
            UNMET(plan, "%s is at no NUMA node of its own", name);
        } else if (is_usable(t, (unsigned)device->numa_node, plan)) {
            add_share(plan, (unsigned)device->numa_node);
            WHY(plan, "%s is at NUMA node %d", name, device->numa_node);
        }
    }
}

/* Without a NIC: a process that was bound to one node's CPUs stays there. */
static void follow_process(const struct pc_topology *t,
                           const struct pc_cpus *cpus,
                           struct pc_placement *plan)
{
    for (size_t i = 0; i < t->n_nodes && !pc_cpus_is_empty(cpus); i++) {
        const struct pc_place_node *node = &t->nodes[i];
        if (node->is_allowed && node->has_memory &&
            pc_cpus_within(cpus, &node->cpus)) {
            add_share(plan, node->number);
            WHY(plan, "this process runs on NUMA node %u only", node->number);
            return;
        }
    }
}

static void choose_nodes(const struct pc_topology *t,
                         const struct pc_placement_wish *wish,
                         const struct pc_cpus *usable,
                         struct pc_placement *plan)
{
    if (strcasecmp(wish->numa_node, "none") == 0) {
        WHY(plan, "numa_node is none");
        return;
    }
    if (wish->numa_node[0] != '\0') {
        follow_setting(t, wish->numa_node, plan);
        if (plan->n_shares > 0) {
            return;
        }
    }
    if (t->n_nodes <= 1) {
        WHY(plan, "this machine has one NUMA node");
        return;
    }
    follow_devices(t, wish->devices, plan);
    if (plan->n_shares == 0) {
        follow_process(t, usable, plan);
    }
    if (plan->n_shares == 0) {
        WHY(plan, "%s",
            wish->devices[0] == '\0' ? "no NIC is in use"
                                     : "no NIC's node is known");
    }
}

/* ---- The engine's CPUs ------------------------------------------------ */

static void choose_cpus(const struct pc_topology *t,
                        const struct pc_placement_wish *wish,
                        const struct pc_cpus *usable, struct pc_placement *plan)
{
    struct pc_cpus cpus = {{0}};
    bool set = wish->engine_cpus[0] != '\0';
    if (strcasecmp(wish->engine_cpus, "none") == 0) {
        return;
    }
    if (set && !pc_cpus_parse(wish->engine_cpus, &cpus)) {
        UNMET(plan, "engine_cpus %s is no list of numbers", wish->engine_cpus);
        return;
    }
    for (size_t i = 0; i < plan->n_shares && !set; i++) {
        const struct pc_place_node *node =
            pc_topology_node(t, plan->shares[i].numa_node);
        if (node != NULL) {
            pc_cpus_unite(&cpus, &node->cpus);
        }
    }
    pc_cpus_intersect(&cpus, usable);
    if (pc_cpus_is_empty(&cpus)) {
        if (set || plan->n_shares > 0) {
            UNMET(plan, "the engine's thread may use none of the CPUs %s",
                  set ? "in engine_cpus" : "there");
        }
        return;
    }
    plan->bind_engine = set || !pc_cpus_equal(&cpus, usable);
    plan->engine_cpus = cpus;
}

void pc_placement_make(const struct pc_topology *t,
                       const struct pc_placement_wish *wish,
                       struct pc_placement *plan_p)
{
    struct pc_placement plan = {.n_shares = 0};
    if (t == NULL || t->n_nodes == 0) {
        WHY(&plan, "the topology of this machine is not known");
        *plan_p = plan;
        return;
    }
    struct pc_cpus usable = wish->thread;
    pc_cpus_intersect(&usable, &t->allowed);
    if (!t->is_this_machine || pc_cpus_is_empty(&usable)) {
        usable = t->allowed;
    }
    plan.may_bind = t->is_this_machine;
    choose_nodes(t, wish, &usable, &plan);
    choose_cpus(t, wish, &usable, &plan);
    *plan_p = plan;
}

/* ---- Use -------------------------------------------------------------- */

int pc_placement_next(struct pc_placement *plan, uint64_t bytes)
{
    struct pc_placement_share *least = NULL;
    for (size_t i = 0; i < plan->n_shares; i++) {
        struct pc_placement_share *share = &plan->shares[i];
        /* bytes per weight, without a division; sizes of pools are far from
         * overflowing it. */
        if (least == NULL ||
            share->bytes * least->weight < least->bytes * share->weight) {
            least = share;
        }
    }
    if (least == NULL) {
        return -1;
    }
    least->bytes += bytes;
    return (int)least->numa_node;
}

void pc_placement_give_back(struct pc_placement *plan, int numa_node,
                            uint64_t bytes)
{
    for (size_t i = 0; i < plan->n_shares; i++) {
        struct pc_placement_share *share = &plan->shares[i];
        if ((int)share->numa_node == numa_node) {
            share->bytes -= bytes < share->bytes ? bytes : share->bytes;
        }
    }
}

void pc_placement_nodes(const struct pc_placement *plan, char *text, size_t len)
{
    struct pc_cpus nodes = {{0}};
    for (size_t i = 0; i < plan->n_shares; i++) {
        pc_cpus_add(&nodes, plan->shares[i].numa_node);
    }
    if (plan->n_shares == 0) {
        (void)snprintf(text, len, "any");
    } else {
        pc_cpus_write(&nodes, text, len);
    }
}
