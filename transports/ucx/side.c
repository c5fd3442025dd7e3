/*
 * side.c - opening the two sides of the fabric.
 */
#include "ucx.h"

#include "base/log.h"
#include "base/text.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* A shared memory worker takes 4.2 MiB of it, and some versions of UCX crash
 * in making one when there is too little. */
#define SHM_FREE_WANTED ((uint64_t)32 << 20)
#define RDMA_DEVICES    "/sys/class/infiniband"
#define PIECE_HEADER    512

struct setting
{
    const char *name;
    const char *value;
};

/* A context with the settings; those that this UCX does not know are skipped
 * (they belong to other versions). */
static ucs_status_t context_open(const struct setting *settings, size_t n,
                                 uint64_t features, ucp_context_h *context_p)
{
    ucp_config_t *config;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        if (settings[i].value != NULL &&
            ucp_config_modify(config, settings[i].name, settings[i].value) !=
                UCS_OK) {
            PC_DEBUG("ucx", "setting %s %s is unknown to this UCX",
                     settings[i].name, settings[i].value);
        }
    }
    /* Registrations come from other threads than the worker's. */
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES |
                                         UCP_PARAM_FIELD_MT_WORKERS_SHARED,
                           .features = features,
                           .mt_workers_shared = 1};
    status = ucp_init(&params, config, context_p);
    ucp_config_release(config);
    return status;
}

static ucs_status_t map_try(struct pc_fabric *fabric, const char *carrier)
{
    struct pc_ucx_side *side = &fabric->map;
    char method[32];
    snprintf(method, sizeof(method), "md:%s", carrier);
    const struct setting settings[] = {
        /* Without self: newer versions of UCX let it answer for every rkey. */
        {"TLS", carrier},
        /* No silent fall back to private memory. */
        {"ALLOC_PRIO", method},
    };
    ucs_status_t status =
        context_open(settings, sizeof(settings) / sizeof(settings[0]),
                     UCP_FEATURE_AM | UCP_FEATURE_WAKEUP, &side->context);
    if (status == UCS_OK) {
        status = pc_ucx_worker_open(side, false);
    }
    if (status == UCS_OK) {
        status = pc_ucx_self_open(side);
    }
    if (status == UCS_OK) {
        snprintf(side->carrier, sizeof(side->carrier), "%s", carrier);
    } else {
        pc_ucx_side_close(side);
    }
    return status;
}

/* Whether memory of this kind can really be allocated and mapped. */
static bool map_works(struct pc_fabric *fabric)
{
    struct pc_fabric_mem_params params = {.use = PC_MEM_POOL,
                                          .kind = PEERCACHE_MEM_HOST,
                                          .len = 4096,
                                          .numa_node = -1};
    struct pc_fabric_mem *mem;
    if (pc_ucx_mem_register(fabric, &params, &mem) != PEERCACHE_OK) {
        return false;
    }
    bool works = mem->map_mem != NULL;
    pc_ucx_mem_deregister(mem);
    return works;
}

void pc_ucx_map_open(struct pc_fabric *fabric)
{
    struct statvfs shm;
    uint64_t available = 0;
    if (statvfs("/dev/shm", &shm) == 0) {
        available = (uint64_t)shm.f_bavail * shm.f_frsize;
    }
    if (available < SHM_FREE_WANTED) {
        PC_WARN("ucx",
                "no mapped reads between processes of this host: /dev/shm has "
                "%llu MiB free, wanted are %llu",
                (unsigned long long)(available >> 20),
                (unsigned long long)(SHM_FREE_WANTED >> 20));
        return;
    }
    /* The kernel removes sysv memory after its last user, however that ended;
     * posix memory counts against /dev/shm. */
    static const char *const carriers[] = {"sysv", "posix"};
    ucs_status_t status = UCS_OK;
    for (size_t i = 0; i < sizeof(carriers) / sizeof(carriers[0]); i++) {
        status = map_try(fabric, carriers[i]);
        if (status == UCS_OK && map_works(fabric)) {
            return;
        }
        pc_ucx_side_close(&fabric->map);
    }
    PC_WARN("ucx", "no mapped reads between processes of this host: %s",
            status == UCS_OK ? "shared memory cannot be mapped"
                             : ucs_status_string(status));
}

/* "mlx5_0:1,mlx5_1:1": every port of every RDMA device of this host. */
static void list_rdma(struct pc_text *list)
{
    DIR *dir = opendir(RDMA_DEVICES);
    if (dir == NULL) {
        return;
    }
    for (struct dirent *device; (device = readdir(dir)) != NULL;) {
        char path[512];
        if (device->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), RDMA_DEVICES "/%s/ports", device->d_name);
        DIR *ports = opendir(path);
        if (ports == NULL) {
            continue;
        }
        for (struct dirent *port; (port = readdir(ports)) != NULL;) {
            if (port->d_name[0] != '.') {
                pc_text_add(list, "%s%s:%s", list->len > 0 ? "," : "",
                            device->d_name, port->d_name);
            }
        }
        closedir(ports);
    }
    closedir(dir);
}

/* The user's list with the port added where it is missing. */
static void list_wanted(struct pc_text *list, const char *devices)
{
    while (*devices != '\0') {
        size_t len = strcspn(devices, ", ");
        if (len > 0) {
            pc_text_add(list, "%s%.*s%s", list->len > 0 ? "," : "", (int)len,
                        devices, memchr(devices, ':', len) == NULL ? ":1" : "");
        }
        devices += len;
        devices += strspn(devices, ", ");
    }
}

/* A value of ours for what the user's environment leaves open. */
static const char *unless_set(const char *variable, const char *value)
{
    return getenv(variable) == NULL ? value : NULL;
}

/* What fits in one segment of tcp with UCX's header. */
static size_t piece_len(void)
{
    uint64_t segment = 8192; /* UCX's default. */
    const char *text = getenv("UCX_TCP_TX_SEG_SIZE");
    if (text == NULL) {
        return PC_UCX_PIECE;
    }
    if (!pc_parse_size(text, &segment) || segment < 2 * PIECE_HEADER) {
        return PIECE_HEADER;
    }
    return segment - PIECE_HEADER < PC_UCX_PIECE
               ? (size_t)segment - PIECE_HEADER
               : PC_UCX_PIECE;
}

static ucs_status_t get_try(struct pc_fabric *fabric, const char *transports,
                            const char *devices, bool rdma)
{
    struct pc_ucx_side *side = &fabric->get;
    /* Until 1.23, the newer protocols run a get in software as soon as peer
     * error mode is on; without that mode a dead peer aborts the process. UD
     * wire-up over rxe needs the second, a forced close with gets in flight
     * the third. */
    bool old = fabric->ucx_version[0] == 1 && fabric->ucx_version[1] < 23;
    /* 1.13 wants a transport's settings without its name in front. */
    bool prefixed = fabric->ucx_version[0] != 1 || fabric->ucx_version[1] > 13;
    const struct setting settings[] = {
        {"TLS", transports},
        {"NET_DEVICES", devices},
        {"PROTO_ENABLE", rdma && old ? "n" : NULL},
        {"UD_VERBS_ETH_DGID_CHECK",
         rdma && old ? unless_set("UCX_UD_VERBS_ETH_DGID_CHECK", "n") : NULL},
        {"IB_ASYNC_EVENTS", rdma && old ? "n" : NULL},
        {prefixed ? "TCP_TX_SEG_SIZE" : "TX_SEG_SIZE",
         fabric->params.ucx_tcp != NULL
             ? unless_set("UCX_TCP_TX_SEG_SIZE", "256k")
             : NULL},
        {prefixed ? "TCP_RX_SEG_SIZE" : "RX_SEG_SIZE",
         fabric->params.ucx_tcp != NULL
             ? unless_set("UCX_TCP_RX_SEG_SIZE", "256k")
             : NULL},
    };
    ucs_status_t status =
        context_open(settings, sizeof(settings) / sizeof(settings[0]),
                     UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP, &side->context);
    if (status == UCS_OK) {
        status = pc_ucx_worker_open(side, strstr(transports, "tcp") != NULL);
    }
    if (status == UCS_OK) {
        status = ucp_worker_get_address(side->worker, &fabric->worker_address,
                                        &fabric->worker_address_len);
    }
    if (status != UCS_OK) {
        pc_ucx_side_close(side);
    } else {
        side->has_address = true;
        fabric->serves_gets = fabric->params.ucx_tcp != NULL;
        fabric->piece = piece_len();
    }
    return status;
}

void pc_ucx_get_open(struct pc_fabric *fabric,
                     const struct pc_fabric_params *params)
{
    struct pc_text devices;
    pc_text_init(&devices);
    if (params->rdma) {
        list_rdma(&devices);
    }
    bool rdma = devices.len > 0;
    bool tcp = params->ucx_tcp != NULL && params->ucx_tcp[0] != '\0';
    if (params->rdma && !rdma) {
        PC_INFO("ucx", "this host has no RDMA device");
    }
    if (!rdma && !tcp) {
        pc_text_fini(&devices);
        return;
    }
    if (rdma && params->devices != NULL && params->devices[0] != '\0') {
        pc_text_clear(&devices);
        list_wanted(&devices, params->devices);
    }
    if (tcp) {
        pc_text_add(&devices, "%s%s", devices.len > 0 ? "," : "",
                    params->ucx_tcp);
        fabric->loopback = strcmp(params->ucx_tcp, "lo") == 0;
    }
    const char *transports = !tcp ? "rc,dc,ud" : rdma ? "rc,dc,ud,tcp" : "tcp";
    /* Nothing named: UCX looks for the nearest, or the user's environment has
     * its own list. */
    bool named = tcp || (params->devices != NULL && params->devices[0] != '\0');
    ucs_status_t status =
        devices.failed
            ? UCS_ERR_NO_MEMORY
            : get_try(fabric, transports, named ? devices.data : NULL, rdma);
    if (status != UCS_OK) {
        PC_WARN("ucx", "no one-sided reads: transports %s on %s: %s",
                transports, devices.failed ? "?" : devices.data,
                ucs_status_string(status));
    } else {
        snprintf(fabric->get.devices, sizeof(fabric->get.devices), "%s on %s",
                 transports, devices.data);
    }
    pc_text_fini(&devices);
}
