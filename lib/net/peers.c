#include "peers.h"

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define TICK_NS    (50 * PC_MS)
#define SILENCE_NS (200 * PC_MS)
#define PROBE_NS   PC_S
/* Longer ones (it was stopped, or we were) say nothing of the next answer. */
#define RTT_MAX_NS      (250 * PC_MS)
#define BACKOFF_MIN_NS  (50 * PC_MS)
#define SEED_BACKOFF_NS (200 * PC_MS)
#define BACKOFF_MAX_NS  (2 * PC_S)
#define PEERS_MAX       (2 * PC_NODES_MAX)

static void tick(struct pc_timer *timer, uint64_t now_ns);

void pc_peers_init(struct pc_peers *peers, struct pc_engine *engine,
                   struct pc_mappings *mappings,
                   const struct pc_msg_hello *self, uint64_t connect_timeout_ns,
                   const struct pc_peers_handlers *up)
{
    memset(peers, 0, sizeof(*peers));
    peers->engine = engine;
    peers->mappings = mappings;
    peers->up = *up;
    peers->self = *self;
    peers->connect_timeout_ns = connect_timeout_ns;
    pc_list_init(&peers->peers);
    pc_list_init(&peers->owing);
    pc_list_init(&peers->incoming);
    for (size_t i = 0; i < PC_GREETED_LISTS; i++) {
        pc_list_init(&peers->greeted[i]);
    }
    pc_map_init(&peers->by_incarnation);
    pc_engine_timer_init(&peers->tick, tick);
}

void pc_peers_start(struct pc_peers *peers)
{
    pc_engine_timer_start(peers->engine, &peers->tick,
                          pc_engine_now(peers->engine) + TICK_NS);
}

void pc_peers_fini(struct pc_peers *peers)
{
    PC_ASSERT(pc_list_is_empty(&peers->peers));
    pc_engine_timer_stop(peers->engine, &peers->tick);
    pc_map_fini(&peers->by_incarnation);
    pc_free(peers->self.regions);
    peers->self.regions = NULL;
}

/* ---- The table -------------------------------------------------------- */

struct pc_peer *pc_peers_find(struct pc_peers *peers, uint64_t incarnation)
{
    uint64_t value;
    if (!pc_map_get(&peers->by_incarnation, pc_map_key(incarnation), &value)) {
        return NULL;
    }
    return (struct pc_peer *)(uintptr_t)value;
}

static struct pc_peer *peer_new(struct pc_peers *peers,
                                const struct pc_member *member, int32_t seed)
{
    struct pc_peer *peer = pc_alloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    peer->peers = peers;
    peer->member = *member;
    peer->seed = seed;
    peer->refs = 1; /* The table's. */
    peer->path.status = PEERCACHE_IN_PROGRESS;
    pc_list_init(&peer->waiting[PC_LINK_CONTROL]);
    pc_list_init(&peer->waiting[PC_LINK_BULK]);
    pc_list_init(&peer->pulls);
    pc_list_init(&peer->in_owing);
    pc_list_init(&peer->headers);
    pc_engine_timer_init(&peer->header_timer, NULL);
    pc_list_push_back(&peers->peers, &peer->link);
    return peer;
}

struct pc_peer *pc_peers_learn(struct pc_peers *peers,
                               const struct pc_member *member)
{
    if (member->incarnation == peers->self.self.incarnation ||
        member->incarnation == 0 || peers->closing) {
        return NULL;
    }
    struct pc_peer *peer = pc_peers_find(peers, member->incarnation);
    if (peer != NULL) {
        if (member->address[0] != '\0' && member->epoch > peer->member.epoch) {
            peer->member = *member;
        }
        return peer;
    }
    if (peers->by_incarnation.n_used >= PEERS_MAX) {
        return NULL;
    }
    peer = peer_new(peers, member, -1);
    if (peer == NULL) {
        return NULL;
    }
    if (!pc_map_put(&peers->by_incarnation, pc_map_key(member->incarnation),
                    (uint64_t)(uintptr_t)peer)) {
        pc_list_remove(&peer->link);
        pc_free(peer);
        return NULL;
    }
    return peer;
}

struct pc_peer *pc_peers_seed(struct pc_peers *peers, int32_t index,
                              const char *address)
{
    struct pc_member member = {.incarnation = 0};
    (void)snprintf(member.id.text, sizeof(member.id.text), "seed");
    (void)snprintf(member.address, sizeof(member.address), "%s", address);
    return peer_new(peers, &member, index);
}

struct pc_peer *pc_peer_ref(struct pc_peer *peer)
{
    peer->refs++;
    return peer;
}

void pc_peer_unref(struct pc_peer *peer)
{
    if (--peer->refs > 0) {
        return;
    }
    PC_ASSERT(peer->fabric == NULL);
    pc_engine_timer_stop(peer->peers->engine, &peer->header_timer);
    pc_free(peer->fabric_address);
    pc_free(peer->regions);
    pc_free(peer);
}

static void close_breaker(struct pc_peer *peer)
{
    if (peer->suspect) {
        peer->suspect = false;
        peer->peers->n_suspect--;
    }
}

/* Leave the table: everything under way ends by itself. */
static void peer_retire(struct pc_peer *peer)
{
    peer->gone = true;
    close_breaker(peer);
    pc_list_remove(&peer->link);
    pc_list_remove(&peer->in_owing);
    (void)pc_map_remove(&peer->peers->by_incarnation,
                        pc_map_key(peer->member.incarnation));
    for (int cls = 0; cls < 2; cls++) {
        if (peer->conns[cls] != NULL) {
            pc_conn_close(peer->conns[cls], PEERCACHE_PEER_FAILED);
        }
    }
    pc_paths_end(peer);
    pc_peer_unref(peer);
}

void pc_peers_drop_seed(struct pc_peer *seed)
{
    PC_ASSERT(seed->seed >= 0);
    peer_retire(seed);
}

struct pc_list *pc_peers_greeted(struct pc_peers *peers, uint64_t incarnation)
{
    uint64_t hash = pc_hash64(&incarnation, sizeof(incarnation), 0);
    return &peers->greeted[hash % PC_GREETED_LISTS];
}

void pc_peers_forget(struct pc_peers *peers, uint64_t incarnation)
{
    struct pc_peer *peer = pc_peers_find(peers, incarnation);
    if (peer != NULL) {
        peer_retire(peer);
    }
    /* What it opened to us ends too; should it live after all, it comes back
     * with a greeting. */
    struct pc_list *greeted = pc_peers_greeted(peers, incarnation);
    struct pc_list *node = greeted->next;
    while (node != greeted) {
        struct pc_conn *conn = PC_CONTAINER_OF(node, struct pc_conn, greeted);
        node = node->next;
        if (conn->state == PC_CONN_READY &&
            conn->remote.incarnation == incarnation) {
            pc_conn_close(conn, PEERCACHE_PEER_FAILED);
        }
    }
}

void pc_peers_close(struct pc_peers *peers)
{
    peers->closing = true;
    while (!pc_list_is_empty(&peers->peers)) {
        peer_retire(PC_CONTAINER_OF(peers->peers.next, struct pc_peer, link));
    }
    struct pc_list *node = peers->incoming.next;
    while (node != &peers->incoming) {
        struct pc_conn *conn = PC_CONTAINER_OF(node, struct pc_conn, link);
        node = node->next;
        pc_conn_close(conn, PEERCACHE_SHUTDOWN);
    }
}

bool pc_peers_is_idle(const struct pc_peers *peers)
{
    return peers->n_conns == 0 && peers->n_rpcs == 0 &&
           pc_list_is_empty(&peers->peers) && peers->n_fabric_peers == 0 &&
           atomic_load_explicit(&peers->mappings->n_live,
                                memory_order_acquire) == 0;
}

/* ---- Connections ------------------------------------------------------ */

static void seed_ready(struct pc_conn *conn, const struct pc_msg_hello *hello)
{
    struct pc_peer *seed = conn->peer;
    seed->member.id = hello->self.id;
    seed->member.incarnation = 0; /* Not in the table under its number. */
    if (hello->self.incarnation == conn->peers->self.self.incarnation) {
        conn->peers->up.seed_is_us(conn->peers->up.arg, seed->seed);
        pc_conn_close(conn, PEERCACHE_CANCELED);
        return;
    }
    (void)pc_peers_learn(conn->peers, &hello->self);
    conn->peers->up.seed_hello(conn->peers->up.arg, seed->seed, hello);
    pc_conn_flush(conn);
}

void pc_peers_conn_ready(struct pc_conn *conn, const struct pc_msg_hello *hello)
{
    struct pc_peers *peers = conn->peers;
    if (!conn->outgoing) {
        (void)pc_peers_learn(peers, &hello->self);
        return;
    }
    struct pc_peer *peer = conn->peer;
    peer->backoff_ns[conn->cls] = 0;
    peer->refused = false;
    pc_peer_answered(peer);
    if (peer->seed >= 0) {
        seed_ready(conn, hello);
        return;
    }
    if (hello->self.incarnation != peer->member.incarnation) {
        /* Another process has its address now. */
        (void)pc_peers_learn(peers, &hello->self);
        pc_conn_close(conn, PEERCACHE_PEER_FAILED);
        return;
    }
    if (conn->cls == PC_LINK_CONTROL) {
        pc_paths_greeted(peer, hello);
    }
    pc_conn_flush(conn);
    if (conn->cls == PC_LINK_CONTROL && conn->state == PC_CONN_READY) {
        peers->up.up(peers->up.arg, peer);
    }
}

static void fail_waiting(struct pc_peer *peer, int cls,
                         peercache_status_t status)
{
    struct pc_list list;
    pc_list_init(&list);
    pc_list_splice_back(&list, &peer->waiting[cls]);
    while (!pc_list_is_empty(&list)) {
        struct pc_rpc *rpc = PC_CONTAINER_OF(list.next, struct pc_rpc, link);
        if (pc_rpc_stop(rpc, status)) {
            rpc->done(rpc, status, NULL);
        }
    }
}

void pc_peers_conn_lost(struct pc_conn *conn, peercache_status_t why)
{
    struct pc_peer *peer = conn->peer;
    struct pc_peers *peers = conn->peers;
    int cls = (int)conn->cls;
    if (peer->conns[cls] != conn) {
        return;
    }
    peer->conns[cls] = NULL;
    uint64_t now = pc_engine_now(peers->engine);
    /* One that had been ready is opened again at once, but not over and over:
     * who lives is found, who died refuses. */
    bool first = peer->backoff_ns[cls] == 0 && now - peer->lost_ns[cls] > PC_S;
    peer->lost_ns[cls] = now;
    uint64_t backoff = peer->backoff_ns[cls] * 2;
    if (backoff < BACKOFF_MIN_NS) {
        backoff = BACKOFF_MIN_NS;
    }
    /* A seed that starts again is looked for. */
    uint64_t most = peer->seed >= 0 ? SEED_BACKOFF_NS : BACKOFF_MAX_NS;
    if (backoff > most) {
        backoff = most;
    }
    peer->backoff_ns[cls] = first ? 1 : backoff;
    peer->retry_ns[cls] = now + (first ? 0 : backoff);
    fail_waiting(peer, cls,
                 why == PEERCACHE_TIMED_OUT ? PEERCACHE_TIMED_OUT
                                            : PEERCACHE_UNREACHABLE);
    if (why != PEERCACHE_TIMED_OUT) {
        peer->given_up = false; /* Nothing is owed on what is no more. */
    }
    if (!peers->closing && !peer->gone && peer->seed < 0) {
        peers->up.lost(peers->up.arg, peer, why);
    }
}

/* ---- The breaker ------------------------------------------------------ */

bool pc_peer_is_usable(const struct pc_peer *peer)
{
    if (peer->gone || peer->suspect) {
        return false;
    }
    return peer->conns[PC_LINK_CONTROL] != NULL ||
           pc_engine_now(peer->peers->engine) >=
               peer->retry_ns[PC_LINK_CONTROL];
}

bool pc_peer_is_returning(const struct pc_peer *peer)
{
    const struct pc_conn *conn = peer->conns[PC_LINK_CONTROL];
    return !peer->gone && !peer->suspect && conn != NULL &&
           conn->state == PC_CONN_CLOSED &&
           peer->backoff_ns[PC_LINK_CONTROL] == 0;
}

void pc_peer_greet(struct pc_peer *peer)
{
    if (peer->conns[PC_LINK_CONTROL] == NULL && !peer->gone &&
        !peer->peers->closing &&
        pc_engine_now(peer->peers->engine) >= peer->retry_ns[PC_LINK_CONTROL]) {
        (void)pc_conn_open(peer, PC_LINK_CONTROL);
    }
}

void pc_peer_heard(struct pc_peer *peer)
{
    peer->heard_ns = pc_engine_now(peer->peers->engine);
    peer->given_up = false;
    if (peer->suspect && peer->conns[PC_LINK_CONTROL] == NULL) {
        peer->retry_ns[PC_LINK_CONTROL] = 0; /* It lives: probe it soon. */
    }
}

void pc_peer_answered(struct pc_peer *peer)
{
    pc_peer_heard(peer);
    if (peer->suspect) {
        close_breaker(peer);
        peer->peers->counts.returned++;
        PC_INFO(
            "net", "node %s answers again; ms %llu", peer->member.id.text,
            (unsigned long long)((peer->heard_ns - peer->suspect_ns) / PC_MS));
    }
}

static void smooth(uint64_t *rtt_p, uint64_t ns)
{
    uint64_t rtt = ns > RTT_MAX_NS ? RTT_MAX_NS : ns;
    *rtt_p = *rtt_p == 0 ? rtt : (7 * *rtt_p + rtt) / 8;
}

void pc_peer_round_trip(struct pc_peer *peer, uint64_t ns)
{
    smooth(&peer->rtt_ns, ns);
}

void pc_peer_get_came(struct pc_peer *peer, uint64_t posted_ns)
{
    peer->get_heard_ns = pc_engine_now(peer->peers->engine);
    smooth(&peer->get_rtt_ns, peer->get_heard_ns - posted_ns);
}

void pc_peer_watch(struct pc_peer *peer)
{
    struct pc_peers *peers = peer->peers;
    uint64_t soon = pc_engine_now(peers->engine) + TICK_NS;
    if (peer->gone || pc_list_is_linked(&peer->in_owing)) {
        return;
    }
    pc_list_push_back(&peers->owing, &peer->in_owing);
    if (peers->tick.node.index != 0 && peers->tick.node.due_ns > soon) {
        pc_engine_timer_start(peers->engine, &peers->tick, soon);
    }
}

void pc_peer_asked(struct pc_peer *peer)
{
    pc_peer_watch(peer);
    if (peer->n_rpcs > 0 || peer->given_up) {
        return;
    }
    peer->owing_ns = pc_engine_now(peer->peers->engine);
}

uint64_t pc_peer_silent_since(const struct pc_peer *peer)
{
    if (peer->n_rpcs == 0 && !peer->given_up) {
        return 0;
    }
    return peer->heard_ns > peer->owing_ns ? peer->heard_ns : peer->owing_ns;
}

unsigned pc_peers_most_owed(const struct pc_peers *peers)
{
    unsigned most = 0;
    for (const struct pc_list *at = peers->owing.next; at != &peers->owing;
         at = at->next) {
        const struct pc_peer *peer =
            PC_CONTAINER_OF(at, struct pc_peer, in_owing);
        unsigned n = peer->n_rpcs + peer->n_gets;
        most = n > most ? n : most;
    }
    return most;
}

static void probe_done(struct pc_rpc *rpc, peercache_status_t status,
                       const struct pc_msg *reply)
{
    struct pc_peer *peer = rpc->peer;
    (void)status; /* Any answer ends the suspicion. */
    (void)reply;
    peer->probing = false;
    pc_peer_unref(peer);
}

static void probe(struct pc_peer *peer, uint64_t now_ns)
{
    struct pc_msg msg = {.type = PC_MSG_PING};
    msg.u.ping.token = now_ns;
    if (peer->probing) {
        return;
    }
    peer->probe.done = probe_done;
    peer->probe.body = NULL;
    peer->probe.breakable = false;
    if (pc_rpc_start(&peer->probe, peer, PC_LINK_CONTROL, &msg,
                     now_ns + PROBE_NS) == PEERCACHE_OK) {
        peer->probing = true;
        peer->peers->counts.probes++;
        pc_peer_ref(peer);
    }
}

/* Bytes that landed since the last look count as hearing from the peer. */
static void look_at_landings(struct pc_peer *peer)
{
    struct pc_conn *conn = peer->conns[PC_LINK_BULK];
    if (conn == NULL) {
        return;
    }
    for (struct pc_list *node = conn->rpcs.next; node != &conn->rpcs;
         node = node->next) {
        struct pc_rpc *rpc = PC_CONTAINER_OF(node, struct pc_rpc, link);
        if (rpc->landing && rpc->sink.landed != rpc->seen_landed) {
            rpc->seen_landed = rpc->sink.landed;
            pc_peer_heard(peer);
        }
    }
}

static void fail_breakable(struct pc_peer *peer, struct pc_list *rpcs)
{
    /* Ending one may end or start others: begin again after each. */
    bool again = true;
    while (again) {
        again = false;
        for (struct pc_list *node = rpcs->next; node != rpcs;
             node = node->next) {
            struct pc_rpc *rpc = PC_CONTAINER_OF(node, struct pc_rpc, link);
            if (rpc->breakable && !(rpc->landing && rpc->verdict != 0)) {
                if (pc_rpc_stop(rpc, PEERCACHE_PEER_FAILED)) {
                    rpc->done(rpc, PEERCACHE_PEER_FAILED, NULL);
                }
                again = !peer->gone;
                break;
            }
        }
    }
}

static void suspect(struct pc_peer *peer, uint64_t silence_ns, bool gets_hang)
{
    struct pc_peers *peers = peer->peers;
    peer->suspect = true;
    peer->suspect_ns = pc_engine_now(peers->engine);
    peers->n_suspect++;
    peers->counts.suspected++;
    PC_WARN("net", "node %s is silent, not asking it for now; ms %llu",
            peer->member.id.text, (unsigned long long)(silence_ns / PC_MS));
    pc_peer_ref(peer);
    for (int cls = 0; cls < 2; cls++) {
        fail_breakable(peer, &peer->waiting[cls]);
        struct pc_conn *conn = peer->conns[cls];
        if (conn != NULL) {
            conn->refs++; /* Not to vanish while its list is walked. */
            fail_breakable(peer, &conn->rpcs);
            conn->refs--;
        }
    }
    /* Gets that need no answer of its process go on. */
    if (peer->n_gets > 0 && (!peer->path.native || gets_hang)) {
        pc_paths_break(peer);
    }
    pc_peer_unref(peer);
}

static uint64_t patience(uint64_t rtt_ns)
{
    return 4 * rtt_ns < SILENCE_NS ? SILENCE_NS : 4 * rtt_ns;
}

/* When the breaker opens, unless something is heard; of gets: when they are
 * broken off. UINT64_MAX: nothing is owed. */
static uint64_t answer_due(const struct pc_peer *peer)
{
    uint64_t since = pc_peer_silent_since(peer);
    return since == 0 ? UINT64_MAX : since + patience(peer->rtt_ns);
}

/* When it is asked for a word, halfway there: who has much to do for one answer
 * (it asks a third node first, or its disk) is not silent. */
static uint64_t word_due(const struct pc_peer *peer)
{
    uint64_t due = answer_due(peer);
    return due == UINT64_MAX ? due : due - patience(peer->rtt_ns) / 2;
}

static uint64_t get_due(const struct pc_peer *peer)
{
    uint64_t rtt =
        peer->rtt_ns > peer->get_rtt_ns ? peer->rtt_ns : peer->get_rtt_ns;
    return peer->n_gets == 0 || peer->detaching
               ? UINT64_MAX
               : peer->get_heard_ns + patience(rtt);
}

static void watch(struct pc_peer *peer, uint64_t now_ns)
{
    look_at_landings(peer);
    bool gets_hang = now_ns >= get_due(peer);
    if (peer->suspect && gets_hang) {
        pc_paths_break(peer);
    }
    bool ask = now_ns >= word_due(peer) && now_ns < answer_due(peer);
    if (peer->suspect || ask) {
        probe(peer, now_ns);
    }
    if (peer->suspect) {
        return;
    }
    if (now_ns >= answer_due(peer)) {
        suspect(peer, now_ns - pc_peer_silent_since(peer), gets_hang);
    } else if (!gets_hang) {
        return;
    } else if (now_ns - peer->heard_ns > patience(peer->rtt_ns)) {
        suspect(peer, now_ns - peer->get_heard_ns, gets_hang);
    } else {
        /* It talks, but its memory does not answer: another way may. */
        PC_WARN("net", "one-sided reads from %s hang, breaking them off",
                peer->member.id.text);
        pc_paths_break(peer);
    }
}

/* The next look: every 50 ms while somebody owes us something (probes, bodies
 * that land), and just when somebody's time is over, or half of it. */
static uint64_t look_again(const struct pc_peer *peer, uint64_t now_ns)
{
    uint64_t at = now_ns + TICK_NS;
    if (!peer->suspect) {
        uint64_t word = word_due(peer);
        at = word > now_ns && word < at ? word : at;
        at = answer_due(peer) < at ? answer_due(peer) : at;
        at = get_due(peer) < at ? get_due(peer) : at;
    }
    return at > now_ns ? at : now_ns + TICK_NS;
}

static bool is_owing(const struct pc_peer *peer)
{
    return peer->suspect || peer->n_gets > 0 || pc_peer_silent_since(peer) != 0;
}

/* Of a thousand peers, a few owe something: only those are looked at. */
static void tick(struct pc_timer *timer, uint64_t now_ns)
{
    struct pc_peers *peers = PC_CONTAINER_OF(timer, struct pc_peers, tick);
    bool paused = peers->engine->last_pause_ns > peers->last_tick_ns;
    peers->last_tick_ns = now_ns;
    /* An idle node sleeps. */
    uint64_t next_ns = now_ns + 4 * TICK_NS;
    struct pc_list *node = peers->owing.next;
    while (node != &peers->owing) {
        struct pc_peer *peer = PC_CONTAINER_OF(node, struct pc_peer, in_owing);
        pc_peer_ref(peer);
        bool owing = is_owing(peer);
        if (paused) {
            peer->heard_ns = now_ns; /* We were away, not they. */
            peer->get_heard_ns = now_ns;
        }
        watch(peer, now_ns);
        if (owing || is_owing(peer)) {
            uint64_t at = look_again(peer, now_ns);
            next_ns = at < next_ns ? at : next_ns;
        }
        node = peer->gone ? peers->owing.next : node->next;
        if (!owing && !is_owing(peer)) {
            pc_list_remove(&peer->in_owing);
        }
        pc_peer_unref(peer);
    }
    pc_engine_timer_start(peers->engine, &peers->tick, next_ns);
}

/* ---- Regions ---------------------------------------------------------- */

static void tell_region(struct pc_conn *conn,
                        const struct pc_msg_region *region)
{
    struct pc_msg msg = {.type = PC_MSG_REGION, .request = 0};
    msg.u.region = *region;
    if (pc_conn_send(conn, &msg, NULL, 0, NULL, NULL) != PEERCACHE_OK) {
        /* A new connection's greeting names all of them. */
        PC_DEBUG("net", "cannot tell %s of a region", conn->remote.id.text);
        pc_conn_close(conn, PEERCACHE_NO_MEMORY);
    }
}

void pc_peers_add_region(struct pc_peers *peers,
                         const struct pc_msg_region *region)
{
    struct pc_msg_region *regions = pc_realloc(
        peers->self.regions, peers->self.n_regions + 1, sizeof(*regions));
    if (regions == NULL) {
        PC_WARN("net", "no memory to announce region %u: it is served only",
                region->index);
        return;
    }
    peers->self.regions = regions;
    regions[peers->self.n_regions++] = *region;
    struct pc_list *node = peers->incoming.next;
    while (node != &peers->incoming) {
        struct pc_conn *conn = PC_CONTAINER_OF(node, struct pc_conn, link);
        node = node->next;
        if (conn->state == PC_CONN_READY && conn->cls == PC_LINK_CONTROL) {
            tell_region(conn, region);
        }
    }
}

static void add_sending(const struct pc_conn *conn, uint64_t *bytes_p,
                        uint64_t *most_p)
{
    *bytes_p += conn->send_bytes;
    *most_p = conn->send_bytes > *most_p ? conn->send_bytes : *most_p;
}

void pc_peers_sending(const struct pc_peers *peers, uint64_t *bytes_p,
                      uint64_t *most_p)
{
    *bytes_p = 0;
    *most_p = 0;
    for (struct pc_list *node = peers->incoming.next; node != &peers->incoming;
         node = node->next) {
        add_sending(PC_CONTAINER_OF(node, struct pc_conn, link), bytes_p,
                    most_p);
    }
    for (struct pc_list *node = peers->peers.next; node != &peers->peers;
         node = node->next) {
        const struct pc_peer *peer =
            PC_CONTAINER_OF(node, struct pc_peer, link);
        for (int cls = 0; cls < 2; cls++) {
            if (peer->conns[cls] != NULL) {
                add_sending(peer->conns[cls], bytes_p, most_p);
            }
        }
    }
}
