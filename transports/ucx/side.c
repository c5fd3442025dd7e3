/*
 * side.c - opening the two sides of the fabric.
 */
#include "devices.h"
#include "ucx.h"

#include "base/log.h"
#include "base/rand.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A shared memory worker takes 4.2 MiB of it, and some versions of UCX crash
 * in making one when there is too little. */
#define SHM_FREE_WANTED ((uint64_t)32 << 20)
#define PIECE_HEADER    512
/* What UCX's own buffers need, beside the pool. */
#define MEMLOCK_WANTED ((size_t)128 << 20)

/* What the get side is to be opened on. */
struct way
{
    const char *devices; /* NULL: UCX, or the user's environment, chooses. */
    const char *transports;
    bool rdma;
    bool tcp;
};

/* A context with the settings; those that this UCX does not know are skipped
 * (they belong to other versions). */
static ucs_status_t context_open(const struct pc_ucx_setting *settings,
                                 size_t n, uint64_t features,
                                 ucp_context_h *context_p)
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

/* A value of ours for what the user's environment leaves open. */
static const char *unless_set(const char *variable, const char *value)
{
    return getenv(variable) == NULL ? value : NULL;
}

static ucs_status_t map_try(struct pc_fabric *fabric, const char *carrier)
{
    struct pc_ucx_side *side = &fabric->map;
    char method[32];
    snprintf(method, sizeof(method), "md:%s", carrier);
    const struct pc_ucx_setting settings[] = {
        /* Without self: newer versions of UCX let it answer for every rkey. */
        {"TLS", carrier},
        /* No silent fall back to private memory. */
        {"ALLOC_PRIO", method},
        /* Huge pages are another's where the user says so. */
        {"MM_HUGETLB_MODE",
         fabric->params.huge ? NULL : unless_set("UCX_MM_HUGETLB_MODE", "n")},
    };
    pc_ucx_ledger_begin(&fabric->ledger, 0);
    ucs_status_t status =
        context_open(settings, sizeof(settings) / sizeof(settings[0]),
                     UCP_FEATURE_AM | UCP_FEATURE_WAKEUP, &side->context);
    if (status == UCS_OK) {
        status = pc_ucx_worker_open(side, false);
    }
    if (status == UCS_OK) {
        status = pc_ucx_self_open(side);
    }
    pc_ucx_ledger_end(&fabric->ledger);
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

/* Where UCX may not lock the memory of its own messages it tries for ever, with
 * a line each time. The kernel knows best who may: nothing is touched by this.
 */
static bool may_lock_memory(void)
{
    void *room = mmap(NULL, MEMLOCK_WANTED, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return false;
    }
    /* A kernel without the call (before 4.4) lets UCX find out. */
    bool may =
        syscall(SYS_mlock2, room, MEMLOCK_WANTED, 1 /* On fault. */) == 0 ||
        errno == ENOSYS;
    munmap(room, MEMLOCK_WANTED);
    if (!may) {
        struct rlimit limit = {0, 0};
        (void)getrlimit(RLIMIT_MEMLOCK, &limit);
        PC_WARN("ucx",
                "no one-sided reads over RDMA: locked memory is limited to "
                "%llu KiB (ulimit -l), wanted are %zu MiB beside the pool",
                (unsigned long long)(limit.rlim_cur >> 10),
                MEMLOCK_WANTED >> 20);
    }
    return may;
}

static ucs_status_t share_probe(struct pc_fabric *fabric)
{
    fabric->probe_value = pc_rand_entropy();
    ucp_mem_map_params_t params = {.field_mask =
                                       UCP_MEM_MAP_PARAM_FIELD_ADDRESS |
                                       UCP_MEM_MAP_PARAM_FIELD_LENGTH,
                                   .address = &fabric->probe_value,
                                   .length = sizeof(fabric->probe_value)};
    ucs_status_t status =
        ucp_mem_map(fabric->get.context, &params, &fabric->probe_mem);
    if (status != UCS_OK) {
        fabric->probe_mem = NULL;
    }
    return status;
}

static ucs_status_t make_ready(struct pc_fabric *fabric, const struct way *way)
{
    struct pc_ucx_side *side = &fabric->get;
    ucs_status_t status = way->rdma ? pc_ucx_rdma_prove(fabric) : UCS_OK;
    if (status == UCS_OK) {
        status =
            pc_ucx_worker_open(side, strstr(way->transports, "tcp") != NULL);
    }
    if (status == UCS_OK) {
        status = share_probe(fabric);
    }
    if (status == UCS_OK) {
        status = ucp_worker_get_address(side->worker, &fabric->worker_address,
                                        &fabric->worker_address_len);
    }
    return status;
}

static ucs_status_t get_try(struct pc_fabric *fabric, const struct way *way,
                            int gid_index)
{
    struct pc_ucx_side *side = &fabric->get;
    struct pc_ucx_setting settings[PC_UCX_RDMA_SETTINGS + 8];
    char gid[16];
    size_t n = 0;
    settings[n++] = (struct pc_ucx_setting){"TLS", way->transports};
    settings[n++] = (struct pc_ucx_setting){"NET_DEVICES", way->devices};
    if (way->rdma) {
        n += pc_ucx_rdma_settings(fabric, &settings[n]);
    }
    if (way->rdma && gid_index >= 0) {
        snprintf(gid, sizeof(gid), "%d", gid_index);
        settings[n++] = (struct pc_ucx_setting){"IB_GID_INDEX", gid};
    }
    if (way->tcp) {
        /* 1.13 wants a transport's settings without its name in front. */
        bool prefixed =
            fabric->ucx_version[0] != 1 || fabric->ucx_version[1] > 13;
        settings[n++] = (struct pc_ucx_setting){
            prefixed ? "TCP_TX_SEG_SIZE" : "TX_SEG_SIZE",
            unless_set("UCX_TCP_TX_SEG_SIZE", "256k")};
        settings[n++] = (struct pc_ucx_setting){
            prefixed ? "TCP_RX_SEG_SIZE" : "RX_SEG_SIZE",
            unless_set("UCX_TCP_RX_SEG_SIZE", "256k")};
    }
    pc_ucx_ledger_begin(&fabric->ledger, 0); /* Its own buffers. */
    ucs_status_t status = context_open(
        settings, n, UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP, &side->context);
    if (status != UCS_OK) {
        pc_ucx_ledger_end(&fabric->ledger);
        side->context = NULL;
        return status;
    }
    status = make_ready(fabric, way);
    pc_ucx_ledger_end(&fabric->ledger);
    if (status != UCS_OK) {
        if (fabric->probe_mem != NULL) {
            ucp_mem_unmap(side->context, fabric->probe_mem);
            fabric->probe_mem = NULL;
        }
        pc_ucx_side_close(side);
        return status;
    }
    side->has_address = true;
    fabric->reads_alone = way->rdma;
    fabric->serves_gets = way->tcp;
    fabric->piece = piece_len();
    return UCS_OK;
}

/* True: it is open. Whatever is wrong is said here, once. */
static bool get_by(struct pc_fabric *fabric, const struct way *way,
                   const char *shown, int gid_index)
{
    ucs_status_t status = get_try(fabric, way, gid_index);
    if (status == UCS_OK) {
        snprintf(fabric->get.devices, sizeof(fabric->get.devices), "%s on %s",
                 way->transports, shown);
        snprintf(fabric->get.nics, sizeof(fabric->get.nics), "%s", shown);
    } else if (way->rdma && status == UCS_ERR_UNSUPPORTED) {
        PC_WARN("ucx",
                "no one-sided reads on %s: there, UCX %u.%u.%u carries them "
                "out with the owner's processor, so owners had better serve "
                "them; is UCX_PROTO_ENABLE or another of its settings in the "
                "environment?",
                shown, fabric->ucx_version[0], fabric->ucx_version[1],
                fabric->ucx_version[2]);
    } else {
        PC_WARN("ucx", "no one-sided reads: transports %s on %s: %s",
                way->transports, shown, ucs_status_string(status));
    }
    return status == UCS_OK;
}

/* RDMA devices to use, as a list; "" if there are none. */
static void find_devices(const struct pc_fabric_params *params,
                         struct pc_text *devices)
{
    const struct pc_ucx_wanted wanted = {.names = params->devices,
                                         .port = params->rdma_port,
                                         .gid_index = params->gid_index - 1};
    if (!params->rdma) {
        return;
    }
    pc_ucx_devices_find(PC_UCX_DEVICES_ROOT, &wanted, devices);
    if (devices->len == 0) {
        PC_INFO("ucx", "this host has no RDMA device that can be used");
    } else if (!may_lock_memory()) {
        pc_text_clear(devices);
    }
}

void pc_ucx_get_open(struct pc_fabric *fabric,
                     const struct pc_fabric_params *params)
{
    struct pc_text devices;
    bool tcp = params->ucx_tcp != NULL && params->ucx_tcp[0] != '\0';
    bool is_open = false;
    pc_text_init(&devices);
    find_devices(params, &devices);
    if (devices.len > 0 && !devices.failed) {
        if (tcp) {
            pc_text_add(&devices, ",%s", params->ucx_tcp);
        }
        bool named =
            tcp || (params->devices != NULL && params->devices[0] != '\0');
        struct way way = {
            /* Among ports that nobody named, UCX looks for the nearest; the
             * user's environment may have its own list. */
            .devices = named || getenv("UCX_NET_DEVICES") == NULL ? devices.data
                                                                  : NULL,
            .transports = tcp ? "rc,ud,tcp" : "rc,ud",
            .rdma = true,
            .tcp = tcp};
        is_open = !devices.failed &&
                  get_by(fabric, &way, devices.data, params->gid_index - 1);
    }
    if (!is_open && tcp) {
        struct way way = {
            .devices = params->ucx_tcp, .transports = "tcp", .tcp = true};
        is_open = get_by(fabric, &way, params->ucx_tcp, -1);
    }
    fabric->loopback = is_open && tcp && strcmp(params->ucx_tcp, "lo") == 0;
    pc_text_fini(&devices);
}
