/*
 * fabric.c - the UCX fabric's beginning and end, and the module's one export.
 */
#include "ucx.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long close waits for what the caller left behind. */
#define CLOSE_WAIT    (10 * PC_S)
#define CLOSE_LOOK_MS 10

bool pc_ucx_forked(const struct pc_fabric *fabric)
{
    return fabric->pid != getpid();
}

peercache_status_t pc_ucx_status(ucs_status_t status)
{
    switch (status) {
    case UCS_OK:
        return PEERCACHE_OK;
    case UCS_ERR_NO_MEMORY:
        return PEERCACHE_NO_MEMORY;
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_BUSY:
        return PEERCACHE_AGAIN;
    case UCS_ERR_CANCELED:
        return PEERCACHE_CANCELED;
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_ENDPOINT_TIMEOUT:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_REJECTED:
        return PEERCACHE_PEER_FAILED;
    case UCS_ERR_UNREACHABLE:
        return PEERCACHE_UNREACHABLE;
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NOT_IMPLEMENTED:
        return PEERCACHE_UNSUPPORTED;
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
        return PEERCACHE_INVALID;
    default:
        return PEERCACHE_TRANSPORT;
    }
}

/* A namespace of this process, as a number. */
static uint64_t namespace_id(const char *name)
{
    char path[64];
    struct stat info;
    snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    return stat(path, &info) == 0 ? (uint64_t)info.st_ino : 0;
}

static uint64_t boot_id(void)
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t len = read(fd, text, sizeof(text));
    close(fd);
    return len > 0 ? pc_hash64(text, (size_t)len, 0) : 0;
}

/* Where this process is, for peers to compare with where they are. */
static void locate(struct pc_fabric *fabric)
{
    fabric->boot = boot_id();
    uint64_t net[] = {fabric->boot, namespace_id("net")};
    fabric->net = pc_hash64(net, sizeof(net), 0);
    if (fabric->map.worker == NULL || fabric->boot == 0) {
        return;
    }
    struct stat shm = {0};
    uint64_t domain[] = {
        fabric->boot,
        namespace_id("ipc"),
        namespace_id("pid"),
        namespace_id("user"),
        (uint64_t)getuid(),
        0,
        pc_hash64(fabric->map.carrier, strlen(fabric->map.carrier), 0)};
    if (strcmp(fabric->map.carrier, "posix") == 0 &&
        stat("/dev/shm", &shm) == 0) {
        domain[5] = (uint64_t)shm.st_dev;
    }
    /* 0 means nobody. */
    fabric->map_domain = pc_hash64(domain, sizeof(domain), 0) | 1;
}

/* Write down what HELLO tells others. */
static peercache_status_t write_hello(struct pc_fabric *fabric)
{
    struct pc_ucx_hello hello = {.loopback = fabric->loopback,
                                 .map_domain = fabric->map_domain,
                                 .boot = fabric->boot,
                                 .net = fabric->net};
    for (size_t i = 0; i < PC_ARRAY_LEN(hello.ucx_version); i++) {
        hello.ucx_version[i] = (uint16_t)fabric->ucx_version[i];
    }
    void *rkey = NULL;
    if (fabric->get.worker != NULL) {
        ucs_status_t status =
            ucp_rkey_pack(fabric->get.context, fabric->probe_mem, &rkey,
                          &hello.probe_rkey.len);
        if (status != UCS_OK) {
            return pc_ucx_status(status);
        }
        hello.probe_addr = (uint64_t)(uintptr_t)&fabric->probe_value;
        hello.probe_value = fabric->probe_value;
        hello.probe_rkey.data = rkey;
        hello.worker = (struct pc_blob){fabric->worker_address,
                                        fabric->worker_address_len};
    }
    fabric->hello = pc_ucx_hello_pack(&hello);
    if (rkey != NULL) {
        ucp_rkey_buffer_release(rkey);
    }
    return fabric->hello.data != NULL ? PEERCACHE_OK : PEERCACHE_NO_MEMORY;
}

/* In the order that UCX wants: what belongs to a worker, the worker, its
 * context. */
static void tear_down(struct pc_fabric *fabric)
{
    if (fabric->probe_mem != NULL) {
        ucp_mem_unmap(fabric->get.context, fabric->probe_mem);
    }
    if (fabric->worker_address != NULL) {
        ucp_worker_release_address(fabric->get.worker, fabric->worker_address);
    }
    pc_ucx_side_close(&fabric->get);
    pc_ucx_mem_free_kept(fabric);
    pc_ucx_side_close(&fabric->map);
    pc_free((void *)fabric->hello.data);
    pc_ucx_ledger_close(&fabric->ledger);
    pthread_mutex_destroy(&fabric->lock);
    pc_free(fabric);
}

static struct pc_fabric *make(const struct pc_fabric_params *params)
{
    struct pc_fabric *fabric = pc_alloc(1, sizeof(*fabric));
    if (fabric == NULL) {
        return NULL;
    }
    fabric->params = *params;
    fabric->pid = getpid();
    fabric->map.both_fd = -1;
    fabric->get.both_fd = -1;
    pthread_mutex_init(&fabric->lock, NULL);
    pc_list_init(&fabric->mems);
    pc_list_init(&fabric->kept);
    pc_list_init(&fabric->peers);
    pc_list_init(&fabric->rkeys);
    pc_list_init(&fabric->newcomers);
    pc_list_init(&fabric->news);
    pc_list_init(&fabric->closing);
    pc_list_init(&fabric->finished);
    ucp_get_version(&fabric->ucx_version[0], &fabric->ucx_version[1],
                    &fabric->ucx_version[2]);
    return fabric;
}

/* Registrations come from any thread: a UCX without locks cannot be used. */
static bool is_thread_safe(void)
{
    ucp_lib_attr_t attr = {.field_mask = UCP_LIB_ATTR_FIELD_MAX_THREAD_LEVEL};
    return ucp_lib_query(&attr) == UCS_OK &&
           attr.max_thread_level == UCS_THREAD_MODE_MULTI;
}

static peercache_status_t fabric_open(const struct pc_fabric_params *params,
                                      struct pc_fabric **fabric_p)
{
    if (!is_thread_safe()) {
        PC_ERROR("ucx", "this UCX was built without support for threads");
        return PEERCACHE_UNSUPPORTED;
    }
    struct pc_fabric *fabric = make(params);
    if (fabric == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    pc_ucx_ledger_open(&fabric->ledger);
    if (params->shm) {
        pc_ucx_map_open(fabric);
    }
    pc_ucx_get_open(fabric, params);
    if (params->rdma && params->strict && !fabric->reads_alone) {
        PC_ERROR("ucx", "protocol = rdma and protocol_strict = true, but there "
                        "are no one-sided reads over RDMA");
        tear_down(fabric);
        return PEERCACHE_UNSUPPORTED;
    }
    locate(fabric);
    peercache_status_t status = write_hello(fabric);
    if (status != PEERCACHE_OK) {
        PC_ERROR("ucx", "the fabric cannot be opened");
        tear_down(fabric);
        return status;
    }
    snprintf(fabric->text, sizeof(fabric->text),
             "UCX %u.%u.%u, mapped reads %s, one-sided reads %s",
             fabric->ucx_version[0], fabric->ucx_version[1],
             fabric->ucx_version[2],
             fabric->map.worker != NULL ? fabric->map.carrier : "none",
             fabric->get.worker != NULL ? fabric->get.devices : "none");
    PC_INFO("ucx", "%s", fabric->text);
    *fabric_p = fabric;
    return PEERCACHE_OK;
}

static void detach_all(struct pc_fabric *fabric)
{
    for (struct pc_list *node = fabric->peers.next; node != &fabric->peers;
         node = node->next) {
        pc_ucx_detach(PC_CONTAINER_OF(node, struct pc_fabric_peer, node), NULL);
    }
    uint64_t until = pc_clock_monotonic() + CLOSE_WAIT;
    while (!pc_list_is_empty(&fabric->peers) && pc_clock_monotonic() < until) {
        struct pollfd wait = {.fd = -1, .events = POLLIN};
        if (pc_ucx_progress(fabric) == 0 &&
            pc_ucx_arm(fabric, &wait.fd) == PEERCACHE_OK) {
            (void)poll(&wait, 1, CLOSE_LOOK_MS);
        }
    }
    if (!pc_list_is_empty(&fabric->peers)) {
        PC_ERROR("ucx", "a peer's reads do not end; its memory stays");
    }
}

static void fabric_close(struct pc_fabric *fabric)
{
    if (fabric == NULL || pc_ucx_forked(fabric)) {
        return;
    }
    detach_all(fabric);
    while (!pc_list_is_empty(&fabric->rkeys)) {
        struct pc_fabric_rkey *rkey =
            PC_CONTAINER_OF(fabric->rkeys.next, struct pc_fabric_rkey, node);
        rkey->n_gets = 0;
        pc_ucx_rkey_release(rkey);
    }
    while (!pc_list_is_empty(&fabric->mems)) {
        pc_ucx_mem_deregister(
            PC_CONTAINER_OF(fabric->mems.next, struct pc_fabric_mem, node));
    }
    tear_down(fabric);
}

static struct pc_blob fabric_address(struct pc_fabric *fabric)
{
    return fabric->hello;
}

static const char *fabric_describe(struct pc_fabric *fabric)
{
    return fabric->text;
}

static const char *fabric_devices(struct pc_fabric *fabric)
{
    return fabric->get.nics;
}

static const struct pc_fabric_ops fabric_ops = {
    .name = "ucx",
    .open = fabric_open,
    .close = fabric_close,
    .address = fabric_address,
    .mem_register = pc_ucx_mem_register,
    .mem_addr = pc_ucx_mem_addr,
    .mem_deregister = pc_ucx_mem_deregister,
    .mem_info = pc_ucx_mem_info,
    .mem_rkey = pc_ucx_mem_rkey,
    .attach = pc_ucx_attach,
    .detach = pc_ucx_detach,
    .rkey_unpack = pc_ucx_rkey_unpack,
    .rkey_map = pc_ucx_rkey_map,
    .rkey_release = pc_ucx_rkey_release,
    .get = pc_ucx_get,
    .cancel = pc_ucx_cancel,
    .progress = pc_ucx_progress,
    .arm = pc_ucx_arm,
    .describe = fabric_describe,
    .devices = fabric_devices,
};

__attribute__((visibility("default"))) const struct pc_fabric_ops *
peercache_fabric_ucx(const struct pc_fabric_module_env *env);

const struct pc_fabric_ops *peercache_fabric_ucx(
    const struct pc_fabric_module_env *env)
{
    if (env->interface != PC_FABRIC_MODULE_INTERFACE) {
        return NULL;
    }
    pc_log_set(env->log_level, env->log, env->log_arg);
    return &fabric_ops;
}
