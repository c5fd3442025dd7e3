#include "load.h"

#include "node/node.h"

static bool is_at(uint64_t bytes_per_s, uint64_t waiting, unsigned level,
                  unsigned share)
{
    unsigned shift = 3 * (level - 1);
    return bytes_per_s >= (PC_LOAD_RATE << shift) / share ||
           waiting >= (PC_LOAD_WAITING << shift) / share;
}

uint8_t pc_load_level(uint64_t bytes_per_s, uint64_t waiting, uint8_t level)
{
    while (level < PC_LOAD_MAX && is_at(bytes_per_s, waiting, level + 1u, 1)) {
        level++;
    }
    while (level > 0 && !is_at(bytes_per_s, waiting, level, 2)) {
        level--;
    }
    return level;
}

void pc_load_update(struct peercache_node *node)
{
    struct pc_load *load = &node->load;
    uint64_t now_ns = pc_engine_now(&node->engine);
    uint64_t served = pc_metrics_get(&node->metrics, PC_METRIC_BYTES_SERVED);
    uint64_t took_ns = now_ns - load->since_ns;
    if (load->since_ns != 0 &&
        took_ns < node->settings.heartbeat_interval_ns / 2) {
        return; /* Several masters, one measure. */
    }
    if (load->since_ns != 0) {
        double rate =
            (double)(served - load->served) * (double)PC_S / (double)took_ns;
        load->level = pc_load_level((uint64_t)rate, load->peak, load->level);
        pc_cluster_set_load(node->cluster, load->level);
    }
    load->served = served;
    load->since_ns = now_ns;
    load->peak = load->waiting;
}

void pc_load_begin(struct peercache_node *node, uint64_t bytes)
{
    struct pc_load *load = &node->load;
    load->waiting += bytes;
    if (load->peak < load->waiting) {
        load->peak = load->waiting;
    }
}

void pc_load_end(struct peercache_node *node, uint64_t bytes)
{
    node->load.waiting -= bytes;
}
