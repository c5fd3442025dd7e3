#include "fabric_state.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>

static peercache_status_t fabric_open(const struct pc_fabric_params *params,
                                      struct pc_fabric **fabric_p)
{
    struct pc_sim_host *host = params->world;
    if (host == NULL) {
        return PEERCACHE_INVALID;
    }
    struct pc_fabric *fabric = pc_alloc(1, sizeof(*fabric));
    if (fabric == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    fabric->host = host;
    fabric->params = *params;
    fabric->blob = (struct pc_sim_fabric_blob){
        .magic = PC_SIM_ADDRESS_MAGIC,
        .version = host->fabric_version,
        .fabric_id = pc_sim_table_add(&host->sim->fabric_ids, fabric),
    };
    fabric->blob.checksum = pc_sim_fabric_checksum(&fabric->blob);
    snprintf(fabric->text, sizeof(fabric->text), "sim%s%s",
             params->shm ? ", map" : "", host->can_get ? ", get" : "");
    pc_list_init(&fabric->mems);
    pc_list_init(&fabric->peers);
    pc_list_init(&fabric->meant_by);
    pc_list_init(&fabric->rkeys);
    pc_list_init(&fabric->ready);
    pc_list_init(&fabric->done);
    pc_list_push_back(&host->sim->fabrics, &fabric->in_sim);
    pc_list_push_back(&host->fabrics, &fabric->in_host);
    *fabric_p = fabric;
    return PEERCACHE_OK;
}

static void fabric_close(struct pc_fabric *fabric)
{
    if (fabric == NULL) {
        return;
    }
    fabric->closing = true;
    while (!pc_list_is_empty(&fabric->peers)) {
        pc_sim_peer_close(PC_CONTAINER_OF(fabric->peers.next,
                                          struct pc_fabric_peer, in_fabric));
    }
    while (!pc_list_is_empty(&fabric->rkeys)) {
        pc_sim_rkey_release(PC_CONTAINER_OF(fabric->rkeys.next,
                                            struct pc_fabric_rkey, in_fabric));
    }
    while (!pc_list_is_empty(&fabric->mems)) {
        pc_sim_mem_deregister(PC_CONTAINER_OF(fabric->mems.next,
                                              struct pc_fabric_mem, in_fabric));
    }
    pc_sim_peers_lose(fabric, !fabric->host->dead);
    pc_sim_table_remove(&fabric->host->sim->fabric_ids, fabric->blob.fabric_id);
    pc_list_remove(&fabric->in_host);
    pc_list_remove(&fabric->in_sim);
    pc_free(fabric);
}

static struct pc_blob fabric_address(struct pc_fabric *fabric)
{
    return (struct pc_blob){&fabric->blob, sizeof(fabric->blob)};
}

static unsigned fabric_progress(struct pc_fabric *fabric)
{
    struct pc_list batch;
    struct pc_list *node;

    if (!pc_sim_host_is_running(fabric->host) && !fabric->host->buried) {
        return 0;
    }
    unsigned work = pc_sim_gets_deliver(fabric);
    pc_list_init(&batch);
    pc_list_splice_back(&batch, &fabric->ready);
    while ((node = pc_list_pop_front(&batch)) != NULL) {
        work += pc_sim_peer_run(
            PC_CONTAINER_OF(node, struct pc_fabric_peer, in_ready));
    }
    return work;
}

static bool is_ready(const struct pc_fabric *fabric)
{
    return !pc_list_is_empty(&fabric->ready) ||
           !pc_list_is_empty(&fabric->done);
}

static peercache_status_t fabric_arm(struct pc_fabric *fabric, int *fd_p)
{
    if (is_ready(fabric) && pc_sim_host_is_running(fabric->host)) {
        return PEERCACHE_AGAIN;
    }
    *fd_p = -1;
    return PEERCACHE_OK;
}

static const char *fabric_devices(struct pc_fabric *fabric)
{
    (void)fabric;
    return "";
}

static const char *fabric_describe(struct pc_fabric *fabric)
{
    return fabric->text;
}

void pc_sim_fabrics_host_buried(struct pc_sim_host *host)
{
    for (struct pc_list *at = host->fabrics.next; at != &host->fabrics;
         at = at->next) {
        struct pc_fabric *fabric =
            PC_CONTAINER_OF(at, struct pc_fabric, in_host);
        for (struct pc_list *p = fabric->peers.next; p != &fabric->peers;
             p = p->next) {
            struct pc_fabric_peer *peer =
                PC_CONTAINER_OF(p, struct pc_fabric_peer, in_fabric);
            pc_sim_gets_end(peer, PEERCACHE_PEER_FAILED);
            pc_sim_peer_notify(peer);
        }
    }
}

bool pc_sim_fabrics_are_ready(const struct pc_sim_host *host)
{
    for (struct pc_list *at = host->fabrics.next; at != &host->fabrics;
         at = at->next) {
        if (is_ready(PC_CONTAINER_OF(at, struct pc_fabric, in_host))) {
            return true;
        }
    }
    return false;
}

const struct pc_fabric_ops *pc_sim_fabric(void)
{
    static const struct pc_fabric_ops ops = {
        .name = "sim",
        .open = fabric_open,
        .close = fabric_close,
        .address = fabric_address,
        .mem_register = pc_sim_mem_register,
        .mem_addr = pc_sim_mem_addr,
        .mem_deregister = pc_sim_mem_deregister,
        .mem_info = pc_sim_mem_info,
        .mem_rkey = pc_sim_mem_rkey,
        .attach = pc_sim_attach,
        .detach = pc_sim_detach,
        .rkey_unpack = pc_sim_rkey_unpack,
        .rkey_map = pc_sim_rkey_map,
        .rkey_release = pc_sim_rkey_release,
        .get = pc_sim_get,
        .cancel = pc_sim_cancel,
        .progress = fabric_progress,
        .arm = fabric_arm,
        .describe = fabric_describe,
        .devices = fabric_devices,
    };
    return &ops;
}
