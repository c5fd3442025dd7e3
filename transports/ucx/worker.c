/*
 * worker.c - the workers of a side: turns, sleep and end.
 */
#include "ucx.h"

#include "base/clock.h"
#include "base/log.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SETTLE_QUIET_MS 50
#define SETTLE_MAX      (1 * PC_S)
#define FLUSH_MAX       (200 * PC_MS)

static ucs_status_t worker_make(struct pc_ucx_side *side,
                                ucp_worker_h *worker_p)
{
    /* The role of the engine moves between threads. */
    ucp_worker_params_t params = {.field_mask =
                                      UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    return ucp_worker_create(side->context, &params, worker_p);
}

static ucs_status_t watch(struct pc_ucx_side *side, ucp_worker_h worker)
{
    int fd;
    struct epoll_event event = {.events = EPOLLIN};
    ucs_status_t status = ucp_worker_get_efd(worker, &fd);
    if (status == UCS_OK &&
        epoll_ctl(side->both_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        status = UCS_ERR_IO_ERROR;
    }
    return status;
}

/* A second worker to connect from; its address is never told, so nobody
 * connects to it. */
static ucs_status_t out_make(struct pc_ucx_side *side)
{
    ucs_status_t status = worker_make(side, &side->out);
    if (status != UCS_OK) {
        side->out = NULL;
        return status;
    }
    side->both_fd = epoll_create1(EPOLL_CLOEXEC);
    if (side->both_fd < 0) {
        return UCS_ERR_IO_ERROR;
    }
    status = watch(side, side->worker);
    return status == UCS_OK ? watch(side, side->out) : status;
}

ucs_status_t pc_ucx_worker_open(struct pc_ucx_side *side, bool two)
{
    ucs_status_t status = worker_make(side, &side->worker);
    if (status != UCS_OK) {
        side->worker = NULL;
        return status;
    }
    if (two) {
        return out_make(side);
    }
    side->out = side->worker;
    return UCS_OK;
}

ucs_status_t pc_ucx_self_open(struct pc_ucx_side *side)
{
    ucp_address_t *address;
    size_t len;
    ucs_status_t status = ucp_worker_get_address(side->worker, &address, &len);
    if (status != UCS_OK) {
        return status;
    }
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
                              .address = address};
    status = ucp_ep_create(side->worker, &params, &side->self);
    ucp_worker_release_address(side->worker, address);
    return status;
}

static void self_close(struct pc_ucx_side *side)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_EP_CLOSE_FLAG_FORCE};
    void *request = ucp_ep_close_nbx(side->self, &param);
    if (UCS_PTR_IS_PTR(request)) {
        /* An endpoint to oneself has nobody to wait for. */
        while (ucp_request_check_status(request) == UCS_INPROGRESS) {
            ucp_worker_progress(side->worker);
        }
        ucp_request_free(request);
    }
}

unsigned pc_ucx_side_progress(struct pc_ucx_side *side)
{
    unsigned n = ucp_worker_progress(side->worker);
    if (side->out != side->worker) {
        n += ucp_worker_progress(side->out);
    }
    return n;
}

ucs_status_t pc_ucx_side_arm(struct pc_ucx_side *side, int *fd_p)
{
    ucs_status_t status = ucp_worker_arm(side->worker);
    if (status != UCS_OK) {
        return status;
    }
    if (side->out == side->worker) {
        return ucp_worker_get_efd(side->worker, fd_p);
    }
    *fd_p = side->both_fd;
    return ucp_worker_arm(side->out);
}

/* A neighbour who is just connecting has its answer waiting inside of UCX;
 * 1.13 aborts when the worker goes away under it. So go on until nothing has
 * come for a little while. */
static void settle(struct pc_ucx_side *side)
{
    uint64_t until = pc_clock_monotonic() + SETTLE_MAX;
    struct pollfd wait = {.events = POLLIN};
    while (pc_clock_monotonic() < until) {
        if (pc_ucx_side_progress(side) == 0 &&
            pc_ucx_side_arm(side, &wait.fd) == UCS_OK &&
            poll(&wait, 1, SETTLE_QUIET_MS) == 0) {
            return;
        }
    }
}

/* Whether a worker has said all that it wants to say: not if it waits for a
 * neighbour who is stopped. */
static bool has_finished(ucp_worker_h worker)
{
    ucp_request_param_t param = {.op_attr_mask = 0};
    void *request = ucp_worker_flush_nbx(worker, &param);
    if (!UCS_PTR_IS_PTR(request)) {
        return true;
    }
    uint64_t until = pc_clock_monotonic() + FLUSH_MAX;
    while (ucp_request_check_status(request) == UCS_INPROGRESS) {
        if (pc_clock_monotonic() >= until) {
            return false; /* Also when others keep the worker busy. */
        }
        if (ucp_worker_progress(worker) == 0) {
            (void)poll(NULL, 0, 1);
        }
    }
    ucp_request_free(request);
    return true;
}

/* False: the workers cannot go, as a carrier in software still has something
 * to send. Then they stay for good, with their memory and descriptors: to
 * destroy them aborts the process, which is worse. */
static bool can_go(struct pc_ucx_side *side)
{
    settle(side);
    bool in_software = side->out != NULL && side->out != side->worker;
    if (!in_software ||
        (has_finished(side->worker) && has_finished(side->out))) {
        return true;
    }
    PC_WARN("ucx", "a neighbour that does not answer keeps this UCX worker");
    return false;
}

void pc_ucx_side_close(struct pc_ucx_side *side)
{
    if (side->self != NULL) {
        self_close(side);
        side->self = NULL;
    }
    if (side->worker != NULL) {
        if (side->has_address && !can_go(side)) {
            side->worker = NULL;
            side->out = NULL;
            side->context = NULL;
            side->both_fd = -1;
            return;
        }
        if (side->out != NULL && side->out != side->worker) {
            ucp_worker_destroy(side->out);
        }
        side->out = NULL;
        ucp_worker_destroy(side->worker);
        side->worker = NULL;
    }
    if (side->both_fd >= 0) {
        close(side->both_fd);
        side->both_fd = -1;
    }
    if (side->context != NULL) {
        ucp_cleanup(side->context);
        side->context = NULL;
    }
}
