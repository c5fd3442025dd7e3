#include "ask.h"

#include "base/mem.h"
#include "node/node.h"

struct ask
{
    struct pc_read read;
    struct pc_rpc rpc;
    void (*answered)(struct peercache_op *op, uint32_t item,
                     peercache_status_t status);
    enum pc_msg_type answer;
    uint32_t n_items;
    uint32_t items[];
};

static void ask_free(struct ask *ask)
{
    pc_list_remove(&ask->read.link);
    ask->read.op->n_under_way--;
    pc_free(ask);
}

static void ask_done(struct pc_rpc *rpc, peercache_status_t status,
                     const struct pc_msg *reply)
{
    struct ask *ask = PC_CONTAINER_OF(rpc, struct ask, rpc);
    struct peercache_op *op = ask->read.op;
    bool good = status == PEERCACHE_OK && reply->type == ask->answer &&
                reply->u.statuses.n_keys == ask->n_items;
    if (!good && status == PEERCACHE_OK) {
        status = PEERCACHE_PROTOCOL;
    }
    for (uint32_t i = 0; i < ask->n_items && !op->stopping; i++) {
        ask->answered(op, ask->items[i],
                      good ? (peercache_status_t)reply->u.statuses.statuses[i]
                           : status);
    }
    ask_free(ask);
    pc_op_advance(op);
}

static void ask_stop(struct pc_read *read, peercache_status_t verdict)
{
    struct ask *ask = PC_CONTAINER_OF(read, struct ask, read);
    /* Answers have no body, so it is over at once. */
    (void)pc_rpc_stop(&ask->rpc, verdict);
    ask_free(ask);
}

static void fill(struct pc_msg *msg, enum pc_msg_type type,
                 struct pc_record *records, struct pc_digest *digests,
                 uint32_t n)
{
    msg->type = type;
    if (type == PC_MSG_TOUCH) {
        msg->u.touch.n_keys = n;
        msg->u.touch.records = records;
    } else {
        msg->u.remove.n_keys = n;
        msg->u.remove.digests = digests;
    }
}

bool pc_ask_start(struct peercache_op *op, struct pc_peer *peer,
                  enum pc_msg_type type, const uint32_t *items, size_t n,
                  void (*answered)(struct peercache_op *op, uint32_t item,
                                   peercache_status_t status))
{
    PC_ASSERT(n > 0 && n <= PC_KEYS_PER_REQUEST);
    struct ask *ask = pc_alloc(1, sizeof(*ask) + n * sizeof(ask->items[0]));
    struct pc_record *records = pc_alloc(n, sizeof(*records));
    struct pc_digest *digests = pc_alloc(n, sizeof(*digests));
    bool started = false;
    if (ask != NULL && records != NULL && digests != NULL) {
        for (size_t k = 0; k < n; k++) {
            const struct pc_op_item *state = &op->state[items[k]];
            ask->items[k] = items[k];
            records[k] = state->places[state->at];
            digests[k] = state->digest;
        }
        ask->read.op = op;
        ask->read.stop = ask_stop;
        ask->answered = answered;
        ask->answer = type == PC_MSG_TOUCH ? PC_MSG_TOUCHED : PC_MSG_REMOVED;
        ask->n_items = (uint32_t)n;
        ask->rpc.done = ask_done;
        ask->rpc.body = NULL;
        ask->rpc.breakable = true;
        struct pc_msg msg;
        fill(&msg, type, records, digests, (uint32_t)n);
        started = pc_rpc_start(&ask->rpc, peer, PC_LINK_CONTROL, &msg,
                               op->deadline_ns + PC_S) ==
                  PEERCACHE_OK; /* The operation ends it. */
    }
    pc_free(records);
    pc_free(digests);
    if (!started) {
        pc_free(ask);
        return false;
    }
    pc_list_push_back(&op->reads, &ask->read.link);
    op->n_under_way++;
    return true;
}
