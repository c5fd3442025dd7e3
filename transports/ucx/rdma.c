/*
 * rdma.c - what UCX needs for RDMA: settings, by version, and the proof that
 * its gets are done by the hardware.
 */
#include "ucx.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Settings ----------------------------------------------------------- */

struct rule
{
    struct pc_ucx_setting setting;
    unsigned
        before; /* Minor version of UCX 1 that needs it no more; 0: none. */
};

/* Found on UCX 1.18.1 and 1.23.0; from 1.23 on the first three are not needed.
 * The tests in the guest (ci/rdma) run all of this. */
static const struct rule rules[] = {
    /* The newer protocols run a get in software as soon as peer error mode is
     * on, and without that mode a dead peer aborts the process. */
    {{"PROTO_ENABLE", "n"}, 23},
    /* UD carries the messages that connect RC. Over rxe its check of the
     * destination drops them all. */
    {{"UD_ETH_DGID_CHECK", "n"}, 23},
    /* Else UCX's own thread aborts the process when a forced close, or a peer's
     * death, leaves gets in flight (openucx/ucx 10432). */
    {{"IB_ASYNC_EVENTS", "n"}, 23},
    /* A dead owner is noticed when RC's retries run out: seven tries of 134 ms
     * (the next power of two times 4.096 us), so in about a second. The default
     * of 8 s and more is as long as several operations. Seven *re*tries would
     * mean "for ever" to rxe. */
    {{"RC_TIMEOUT", "130ms"}, 0},
    {{"RC_RETRY_COUNT", "6"}, 0},
    /* An owner that does not answer while it is connected to: 30 s is far too
     * long, but its process may be held up for a while. */
    {{"UD_TIMEOUT", "10s"}, 0},
    /* Room for messages that come in: only those that connect do. The defaults
     * lock 34 MiB for each worker. */
    {{"RC_RX_QUEUE_LEN", "256"}, 0},
    {{"UD_RX_QUEUE_LEN", "1024"}, 0},
};

/* UCX takes "RC_TIMEOUT" for both of "RC_VERBS_TIMEOUT" and "RC_MLX5_TIMEOUT",
 * in its environment as well. */
static bool is_set(const char *name)
{
    static const char *const kinds[] = {"", "VERBS_", "MLX5_"};
    const char *rest = strchr(name, '_') + 1;
    for (size_t i = 0; i < PC_ARRAY_LEN(kinds); i++) {
        char variable[96];
        snprintf(variable, sizeof(variable), "UCX_%.*s%s%s", (int)(rest - name),
                 name, kinds[i], rest);
        if (getenv(variable) != NULL) {
            return true;
        }
    }
    return false;
}

size_t pc_ucx_rdma_settings(const struct pc_fabric *fabric,
                            struct pc_ucx_setting settings[])
{
    static_assert(PC_ARRAY_LEN(rules) <= PC_UCX_RDMA_SETTINGS, "all fit");
    const unsigned *version = fabric->ucx_version;
    size_t n = 0;
    for (size_t i = 0; i < PC_ARRAY_LEN(rules); i++) {
        bool is_over = rules[i].before > 0 &&
                       (version[0] > 1 || version[1] >= rules[i].before);
        if (!is_over && !is_set(rules[i].setting.name)) {
            settings[n++] = rules[i].setting;
        }
    }
    return n;
}

/* ---- The proof ---------------------------------------------------------- */

/* A get that its owner's software answers brings the same bytes as one of the
 * hardware. So two workers are connected, then one gets no processor time any
 * more, and the other reads from it: as from a stopped process. */
struct proof
{
    struct pc_fabric *fabric;
    ucp_worker_h owner;
    ucp_worker_h reader;
    ucp_ep_h ep;
    ucp_rkey_h rkey;
    ucp_mem_h mem;
    void *packed;
    size_t packed_len;
    uint64_t value;       /* What is read, */
    uint64_t landing;     /* and where it comes to. */
    void *get;            /* A get that has not ended. */
    ucs_status_t failure; /* Of the endpoint. */
    uint64_t part_ns;     /* How long this part of it may take, */
    uint64_t began_ns;    /* when it began, */
    unsigned n_looks;     /* and how often it has looked. */
};

/* A start is held up by no more than these, whatever the port does: reading,
 * then closing. Who got no processor time has not waited, so some looks belong
 * to every wait; but even so a part ends when it has taken STARVED times as
 * long. */
#define READ_MAX    (4 * PC_S)
#define CLOSE_MAX   (3 * PC_S)
#define STARVED     3
#define LOOKS_MIN   1000 /* Of a part. */
#define QUIET_MS    20
#define ALONE_MAX   (500 * PC_MS)
#define ALONE_LOOKS 200
#define ALONE_TRIES 3

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    struct proof *proof = arg;
    (void)ep;
    proof->failure = status;
}

static void begin_part(struct proof *proof, uint64_t part_ns)
{
    proof->began_ns = pc_clock_monotonic();
    proof->part_ns = part_ns;
    proof->n_looks = 0;
}

static bool is_over(const struct proof *proof)
{
    uint64_t took = pc_clock_monotonic() - proof->began_ns;
    return took >= STARVED * proof->part_ns ||
           (took >= proof->part_ns && proof->n_looks >= LOOKS_MIN);
}

/* Whether anything moved; if not, it is a millisecond later. */
static bool look(struct proof *proof, bool owner_too)
{
    unsigned n = ucp_worker_progress(proof->reader);
    n += owner_too ? ucp_worker_progress(proof->owner) : 0;
    proof->n_looks++;
    if (n == 0) {
        (void)poll(NULL, 0, 1);
    }
    return n > 0;
}

/* Until nothing has moved for a little while. */
static void settle(struct proof *proof)
{
    unsigned quiet_ms = 0;
    uint64_t until = pc_clock_monotonic() + PC_S;
    while (quiet_ms < QUIET_MS && pc_clock_monotonic() < until &&
           !is_over(proof)) {
        quiet_ms = look(proof, true) ? 0 : quiet_ms + 1;
    }
}

/* INPROGRESS: not in this part's time. */
static ucs_status_t wait_for(struct proof *proof, void *request)
{
    ucs_status_t status;
    while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS &&
           !is_over(proof)) {
        (void)look(proof, true);
    }
    return status;
}

/* The same while the owner gets no processor time; INPROGRESS also: not soon.
 */
static ucs_status_t wait_alone(struct proof *proof, void *request)
{
    uint64_t until = pc_clock_monotonic() + ALONE_MAX;
    ucs_status_t status;
    for (unsigned n = 0;
         (status = ucp_request_check_status(request)) == UCS_INPROGRESS &&
         (n < ALONE_LOOKS || pc_clock_monotonic() < until) && !is_over(proof);
         n++) {
        (void)look(proof, false);
    }
    return status;
}

/* Goes on with the get that is there, or posts one. */
static ucs_status_t get(struct proof *proof, bool owner_helps)
{
    if (proof->get == NULL) {
        ucp_request_param_t param = {.op_attr_mask = 0};
        proof->landing = ~proof->value;
        void *request = ucp_get_nbx(
            proof->ep, &proof->landing, sizeof(proof->landing),
            (uint64_t)(uintptr_t)&proof->value, proof->rkey, &param);
        if (!UCS_PTR_IS_PTR(request)) {
            return UCS_PTR_STATUS(request);
        }
        proof->get = request;
    }
    ucs_status_t status = owner_helps ? wait_for(proof, proof->get)
                                      : wait_alone(proof, proof->get);
    if (status != UCS_INPROGRESS) {
        ucp_request_free(proof->get);
        proof->get = NULL;
    }
    if (status == UCS_OK && proof->landing != proof->value) {
        status = UCS_ERR_IO_ERROR;
    }
    return status;
}

static ucs_status_t make_worker(struct proof *proof, ucp_worker_h *worker_p)
{
    ucp_worker_params_t params = {.field_mask =
                                      UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucs_status_t status =
        ucp_worker_create(proof->fabric->get.context, &params, worker_p);
    if (status != UCS_OK) {
        *worker_p = NULL;
    }
    return status;
}

static ucs_status_t share_value(struct proof *proof)
{
    ucp_mem_map_params_t params = {.field_mask =
                                       UCP_MEM_MAP_PARAM_FIELD_ADDRESS |
                                       UCP_MEM_MAP_PARAM_FIELD_LENGTH,
                                   .address = &proof->value,
                                   .length = sizeof(proof->value)};
    ucp_context_h context = proof->fabric->get.context;
    proof->value = pc_rand_entropy();
    ucs_status_t status = ucp_mem_map(context, &params, &proof->mem);
    if (status != UCS_OK) {
        proof->mem = NULL;
        return status;
    }
    return ucp_rkey_pack(context, proof->mem, &proof->packed,
                         &proof->packed_len);
}

static ucs_status_t connect_both(struct proof *proof)
{
    ucp_address_t *address;
    size_t len;
    ucs_status_t status = ucp_worker_get_address(proof->owner, &address, &len);
    if (status != UCS_OK) {
        return status;
    }
    ucp_ep_params_t params = {.field_mask =
                                  UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                                  UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                  UCP_EP_PARAM_FIELD_ERR_HANDLER,
                              .address = address,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER,
                              .err_handler = {.cb = on_error, .arg = proof}};
    status = ucp_ep_create(proof->reader, &params, &proof->ep);
    ucp_worker_release_address(proof->owner, address);
    if (status != UCS_OK) {
        proof->ep = NULL;
        return status;
    }
    status = ucp_ep_rkey_unpack(proof->ep, proof->packed, &proof->rkey);
    if (status != UCS_OK) {
        proof->rkey = NULL;
    }
    return status;
}

static ucs_status_t prepare(struct proof *proof)
{
    ucs_status_t status = share_value(proof);
    if (status == UCS_OK) {
        status = make_worker(proof, &proof->owner);
    }
    if (status == UCS_OK) {
        status = make_worker(proof, &proof->reader);
    }
    if (status == UCS_OK) {
        status = connect_both(proof);
    }
    return status;
}

/* UNSUPPORTED: the owner has to help. */
static ucs_status_t read_alone(struct proof *proof)
{
    begin_part(proof, READ_MAX);
    ucs_status_t status = get(proof, true);
    for (unsigned i = 0; status == UCS_OK && i < ALONE_TRIES; i++) {
        settle(proof); /* Connecting may go on behind the first get. */
        status = get(proof, false);
        if (status != UCS_INPROGRESS) {
            return status;
        }
        status = get(proof, true);
    }
    if (status == UCS_INPROGRESS) {
        return proof->failure != UCS_OK ? proof->failure : UCS_ERR_TIMED_OUT;
    }
    return status == UCS_OK ? UCS_ERR_UNSUPPORTED : status;
}

/* False: UCX still has something of it, so it must stay. */
static bool take_apart(struct proof *proof)
{
    begin_part(proof, CLOSE_MAX);
    if (proof->ep != NULL) {
        ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                     .flags = UCP_EP_CLOSE_FLAG_FORCE};
        void *request = ucp_ep_close_nbx(proof->ep, &param);
        if (UCS_PTR_IS_PTR(request)) {
            if (wait_for(proof, request) == UCS_INPROGRESS) {
                return false;
            }
            ucp_request_free(request);
        }
        /* The close may end before the get does. */
        if (proof->get != NULL && get(proof, true) == UCS_INPROGRESS) {
            return false;
        }
    }
    /* Not before: a get that still waits for its connection uses it. */
    if (proof->rkey != NULL) {
        ucp_rkey_destroy(proof->rkey);
    }
    if (proof->reader != NULL) {
        ucp_worker_destroy(proof->reader);
    }
    if (proof->owner != NULL) {
        ucp_worker_destroy(proof->owner);
    }
    if (proof->packed != NULL) {
        ucp_rkey_buffer_release(proof->packed);
    }
    if (proof->mem != NULL) {
        ucp_mem_unmap(proof->fabric->get.context, proof->mem);
    }
    return true;
}

ucs_status_t pc_ucx_rdma_prove(struct pc_fabric *fabric)
{
    struct proof *proof = pc_alloc(1, sizeof(*proof));
    if (proof == NULL) {
        return UCS_ERR_NO_MEMORY;
    }
    proof->fabric = fabric;
    uint64_t began = pc_clock_monotonic();
    ucs_status_t status = prepare(proof);
    uint64_t ready = pc_clock_monotonic();
    if (status == UCS_OK) {
        status = read_alone(proof);
    }
    uint64_t read = pc_clock_monotonic();
    if (take_apart(proof)) {
        pc_free(proof);
    } else {
        PC_ERROR("ucx", "a read of our own memory over RDMA does not end");
        fabric->get.context = NULL; /* It stays, as what it refers to does. */
        status = UCS_ERR_TIMED_OUT;
    }
    PC_INFO("ucx", "reads over RDMA: %s, found in %u + %u + %u ms",
            status == UCS_OK ? "without the owner's processor"
                             : ucs_status_string(status),
            (unsigned)((ready - began) / PC_MS),
            (unsigned)((read - ready) / PC_MS),
            (unsigned)((pc_clock_monotonic() - read) / PC_MS));
    return status;
}
