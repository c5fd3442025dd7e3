#include "member_net.h"

static void copy_table(struct pc_msg_table *to, const struct pc_msg_table *from)
{
    *to = *from;
    to->members = pc_alloc(from->n_members + 1, sizeof(*to->members));
    to->former = pc_alloc(from->n_former + 1, sizeof(*to->former));
    assert_true(to->members != NULL && to->former != NULL);
    if (from->n_members > 0) {
        memcpy(to->members, from->members,
               from->n_members * sizeof(*to->members));
    }
    for (uint32_t i = 0; i < from->n_former; i++) {
        size_t n = from->former[i].n_members;
        to->former[i] = from->former[i];
        to->former[i].members = pc_alloc(n, sizeof(struct pc_member));
        assert_non_null(to->former[i].members);
        memcpy(to->former[i].members, from->former[i].members,
               n * sizeof(struct pc_member));
    }
}

static void free_packet(struct packet *p)
{
    for (uint32_t i = 0; i < p->table.n_former; i++) {
        pc_free(p->table.former[i].members);
    }
    pc_free(p->table.former);
    pc_free(p->table.members);
    pc_free(p);
}

static void enqueue(struct net *net, struct packet *p, uint64_t at_ns)
{
    p->heap.due_ns = at_ns;
    assert_true(pc_heap_push(&net->packets, &p->heap));
    net->n_packets++;
}

static struct packet *new_packet(const struct packet *like)
{
    struct packet *p = pc_alloc(1, sizeof(*p));
    assert_non_null(p);
    *p = *like;
    copy_table(&p->table, &like->table);
    return p;
}

bool is_up(const struct net *net, unsigned i)
{
    return net->nodes[i].cluster != NULL;
}

bool is_cut(const struct net *net, unsigned from, unsigned to)
{
    return from < CUTS_MAX && to < CUTS_MAX && net->cut[from][to];
}

static size_t weight(const struct packet *p)
{
    struct pc_msg msg = {.request = p->request};
    uint8_t *bytes;
    size_t len;
    switch (p->kind) {
    case REQUEST:
        msg.type = PC_MSG_BEAT;
        msg.u.beat = p->beat;
        break;
    case PROBE:
        msg.type = PC_MSG_PROBE;
        msg.u.probe.incarnation = p->about;
        break;
    case PROBED:
        msg.type = PC_MSG_PROBED;
        msg.u.probed.incarnation = p->about;
        msg.u.probed.verdict = (uint8_t)p->verdict;
        break;
    default:
        msg.type = PC_MSG_TABLE;
        msg.u.table = p->table;
        break;
    }
    assert_int_equal(pc_msg_encode(&msg, &bytes, &len), PEERCACHE_OK);
    pc_free(bytes);
    return len;
}

/* On the wire: may be lost, late, or doubled. */
static void transmit(struct net *net, const struct packet *like)
{
    unsigned n = 1;
    if (net->weighs) {
        size_t len = weight(like);
        net->nodes[like->from].bytes += len;
        net->nodes[like->to].bytes += len;
    }
    if (is_cut(net, like->from, like->to) ||
        pc_rand_below(&net->rand, 100) < net->loss_percent) {
        n = 0;
    } else if (pc_rand_below(&net->rand, 100) < net->copy_percent) {
        n = 2;
    }
    for (; n > 0; n--) {
        struct packet *p = new_packet(like);
        enqueue(net, p,
                net->now_ns + MS / 10 +
                    pc_rand_below(&net->rand, net->delay_ns + 1));
    }
}

/* Beats and probes are requests: an answer or, in the end, silence. */
static void send_request(struct net *net, struct packet *p)
{
    p->request = ++net->n_requests;
    p->asked_ns = net->now_ns;
    p->from_incarnation = net->nodes[p->from].incarnation;
    transmit(net, p);
    struct packet *timeout = new_packet(p);
    timeout->kind = TIMEOUT;
    /* Nobody there, or somebody else: refused at once. */
    bool there = is_up(net, p->to) &&
                 (p->to_incarnation == 0 ||
                  p->to_incarnation == net->nodes[p->to].incarnation);
    enqueue(net, timeout, net->now_ns + (there ? SECOND : MS));
}

static unsigned node_at(const char *address)
{
    unsigned i;
    assert_int_equal(sscanf(address, "n%u", &i), 1);
    assert_true(i < NODES_MAX);
    return i;
}

static void perform(struct net *net, unsigned i,
                    const struct pc_cluster_send *send)
{
    if (send->type == PC_MSG_BEAT && send->seed == (int32_t)i) {
        struct pc_cluster_event event = {.type = PC_CLUSTER_SEED_IS_US,
                                         .seed = send->seed};
        step(net, i, event);
        return;
    }
    struct packet p;
    memset(&p, 0, sizeof(p));
    p.from = i;
    p.to =
        send->seed >= 0 ? (unsigned)send->seed : node_at(send->member.address);
    p.to_incarnation = send->seed >= 0 ? 0 : send->member.incarnation;
    p.seed = send->seed;
    p.about = send->about;
    if (send->type != PC_MSG_TABLE) {
        p.kind = send->type == PC_MSG_BEAT ? REQUEST : PROBE;
        pc_cluster_beat(net->nodes[i].cluster, &p.beat);
        send_request(net, &p);
        return;
    }
    p.kind = PUSH;
    p.from_incarnation = net->nodes[i].incarnation;
    pc_cluster_push(net->nodes[i].cluster, send, &p.table);
    transmit(net, &p);
}

/* What must hold after every step of every machine. */
void check(const struct net *net, unsigned i)
{
    const struct node *node = &net->nodes[i];
    size_t n;
    uint64_t hash;
    const struct pc_member *view = pc_cluster_view(node->cluster, &n, &hash);
    assert_true(hash == pc_view_hash(view, n));
    bool has_self = n == 0;
    for (size_t m = 0; m < n; m++) {
        assert_true(m == 0 ||
                    pc_node_id_compare(&view[m - 1].id, &view[m].id) < 0);
        assert_false(pc_cluster_is_dead(node->cluster, view[m].incarnation));
        has_self = has_self || view[m].incarnation == node->incarnation;
    }
    assert_true(has_self);
    const struct pc_msg_view *former = pc_cluster_former(node->cluster, &n);
    assert_in_range(n, 0, PC_FORMER_VIEWS_MAX);
    for (size_t f = 0; f < n; f++) {
        assert_true(former[f].hash != hash);
        assert_true(former[f].hash ==
                    pc_view_hash(former[f].members, former[f].n_members));
    }
}

void step(struct net *net, unsigned i, struct pc_cluster_event event)
{
    struct node *node = &net->nodes[i];
    struct pc_cluster_actions actions;
    if (event.type != PC_CLUSTER_SEED_IS_US && event.type != PC_CLUSTER_TABLE &&
        event.type != PC_CLUSTER_SILENT && event.type != PC_CLUSTER_SEED_GONE &&
        event.type != PC_CLUSTER_SEED_NEW) {
        event.seed = -1;
    }
    event.now_ns = net->now_ns;
    assert_int_equal(pc_cluster_step(node->cluster, &event, &actions),
                     PEERCACHE_OK);
    assert_true(actions.next_tick_ns >= net->now_ns);
    node->next_tick_ns = actions.next_tick_ns;
    node->n_views += actions.view_changed;
    node->n_refuted += actions.refuted;
    node->n_superseded += actions.superseded;
    node->n_refused += actions.refused;
    node->is_joined = pc_cluster_is_joined(node->cluster);
    if (net->n_nodes <= 64 || actions.view_changed) {
        check(net, i);
    }
    /* Performing may step again: the sends live only until then. */
    size_t n = net->is_mute ? 0 : actions.n_send;
    struct pc_cluster_send *sends = pc_alloc(n + 1, sizeof(*sends));
    assert_non_null(sends);
    if (n > 0) {
        memcpy(sends, actions.send, n * sizeof(*sends));
    }
    for (size_t s = 0; s < n; s++) {
        perform(net, i, &sends[s]);
    }
    pc_free(sends);
}

void simple(struct net *net, unsigned i, enum pc_cluster_event_type type)
{
    struct pc_cluster_event event = {.type = type};
    step(net, i, event);
}

/* What waits in the sockets of a process goes with it. */
static void drop_waiting(struct node *node)
{
    while (node->waiting != NULL) {
        struct packet *p = node->waiting;
        node->waiting = p->next;
        free_packet(p);
    }
}

/* Restarting takes a larger incarnation: there is a clock. */
void start_as(struct net *net, unsigned i, unsigned named)
{
    struct pc_cluster_params params;
    char id[16];
    memset(&params, 0, sizeof(params));
    snprintf(id, sizeof(id), net->n_nodes > 64 ? "node-%04u" : "node-%02u",
             named);
    assert_true(pc_node_id_set(&params.self.id, id));
    params.self.incarnation = ++net->n_starts * 1000 + i - net->back;
    params.self.epoch = 1;
    params.self.host = i;
    snprintf(params.self.address, sizeof(params.self.address), "n%u", i);
    params.heartbeat_ns = BEAT_NS;
    params.member_ttl_ns = TTL_NS;
    params.settle_ns = net->settle_ns;
    params.max_masters = net->max_masters;
    params.seed = pc_rand_u64(&net->rand);
    params.n_seeds = net->n_seeds;
    drop_waiting(&net->nodes[i]);
    memset(&net->nodes[i], 0, sizeof(net->nodes[i]));
    net->nodes[i].incarnation = params.self.incarnation;
    net->nodes[i].cluster = pc_cluster_create(&params);
    assert_non_null(net->nodes[i].cluster);
    simple(net, i, PC_CLUSTER_START);
}

void start(struct net *net, unsigned i)
{
    start_as(net, i, i);
}

void stop(struct net *net, unsigned i)
{
    pc_cluster_destroy(net->nodes[i].cluster);
    net->nodes[i].cluster = NULL;
}

void net_init(struct net *net, unsigned n_nodes, size_t n_seeds, uint64_t seed)
{
    memset(net, 0, sizeof(*net));
    net->n_nodes = n_nodes;
    net->n_seeds = n_seeds;
    net->max_masters = 3;
    net->now_ns = 1000 * SECOND;
    net->delay_ns = MS;
    net->settle_ns = SETTLE;
    pc_heap_init(&net->packets);
    pc_rand_init(&net->rand, seed);
}

void net_fini(struct net *net)
{
    for (unsigned i = 0; i < net->n_nodes; i++) {
        if (is_up(net, i)) {
            stop(net, i);
        }
    }
    struct pc_heap_node *first;
    while ((first = pc_heap_first(&net->packets)) != NULL) {
        pc_heap_remove(&net->packets, first);
        free_packet(PC_CONTAINER_OF(first, struct packet, heap));
    }
    pc_heap_fini(&net->packets);
    for (unsigned i = 0; i < net->n_nodes; i++) {
        drop_waiting(&net->nodes[i]);
    }
}

static bool is_answered(const struct net *net, uint64_t request)
{
    return net->answered[request % PC_ARRAY_LEN(net->answered)] == request;
}

static void deliver_timeout(struct net *net, const struct packet *p)
{
    struct pc_cluster_event event = {
        .type = PC_CLUSTER_SILENT, .seed = p->seed, .peer = p->to_incarnation};
    if (!is_up(net, p->from) || is_answered(net, p->request) ||
        net->nodes[p->from].incarnation != p->from_incarnation) {
        return;
    }
    if (p->about != 0) {
        event.type = PC_CLUSTER_PROBED;
        event.about = p->about;
        event.asked_ns = p->asked_ns;
        event.verdict = PC_PROBED_UNKNOWN;
    }
    step(net, p->from, event);
}

/* The helper pings whom it is asked about; that takes no time if it lives. */
static void answer_probe(struct net *net, const struct packet *p)
{
    const struct pc_member *m =
        pc_cluster_find(net->nodes[p->to].cluster, p->about);
    struct packet answer = *p;
    answer.kind = PROBED;
    answer.from = p->to;
    answer.to = p->from;
    answer.from_incarnation = net->nodes[p->to].incarnation;
    answer.to_incarnation = 0;
    answer.verdict = PC_PROBED_UNKNOWN;
    if (m != NULL) {
        unsigned at = node_at(m->address);
        bool lives = is_up(net, at) && !net->nodes[at].paused &&
                     net->nodes[at].incarnation == p->about &&
                     !is_cut(net, p->to, at) && !is_cut(net, at, p->to);
        answer.verdict = lives ? PC_PROBED_ALIVE : PC_PROBED_SILENT;
    }
    transmit(net, &answer);
}

static void answer_beat(struct net *net, const struct packet *p)
{
    struct pc_cluster_event event = {
        .type = PC_CLUSTER_BEAT, .peer = p->from_incarnation, .beat = &p->beat};
    step(net, p->to, event);
    struct packet answer = *p;
    answer.kind = ANSWER;
    answer.from = p->to;
    answer.to = p->from;
    answer.from_incarnation = net->nodes[p->to].incarnation;
    answer.to_incarnation = 0;
    pc_cluster_answer(net->nodes[p->to].cluster, &p->beat, &answer.table);
    transmit(net, &answer);
}

static void deliver(struct net *net, struct packet *p)
{
    struct pc_cluster_event event = {
        .type = PC_CLUSTER_TABLE, .seed = p->seed, .peer = p->from_incarnation};
    event.asked_ns = p->asked_ns;
    if (p->kind == TIMEOUT) {
        deliver_timeout(net, p);
        return;
    }
    if (!is_up(net, p->to) ||
        (p->to_incarnation != 0 &&
         p->to_incarnation != net->nodes[p->to].incarnation)) {
        return;
    }
    if (p->kind == ANSWER || p->kind == PROBED) {
        net->answered[p->request % PC_ARRAY_LEN(net->answered)] = p->request;
    }
    switch (p->kind) {
    case REQUEST:
        answer_beat(net, p);
        return;
    case PROBE:
        answer_probe(net, p);
        return;
    case PROBED:
        event.type = PC_CLUSTER_PROBED;
        event.about = p->about;
        event.verdict = p->verdict;
        break;
    default:
        event.table = &p->table;
        break;
    }
    step(net, p->to, event);
}

/* A packet for a paused node waits in its sockets. */
static struct packet *take_packet(struct net *net, uint64_t until_ns)
{
    struct pc_heap_node *first;
    while ((first = pc_heap_first(&net->packets)) != NULL &&
           first->due_ns <= until_ns) {
        struct packet *p = PC_CONTAINER_OF(first, struct packet, heap);
        struct node *who = &net->nodes[p->kind == TIMEOUT ? p->from : p->to];
        pc_heap_remove(&net->packets, first);
        if (!who->paused) {
            return p;
        }
        p->next = NULL;
        if (who->waiting == NULL) {
            who->last_waiting = &who->waiting;
        }
        *who->last_waiting = p;
        who->last_waiting = &p->next;
    }
    return NULL;
}

static unsigned next_node(const struct net *net)
{
    unsigned first = NODES_MAX;
    for (unsigned i = 0; i < net->n_nodes; i++) {
        if (is_up(net, i) && !net->nodes[i].paused &&
            (first == NODES_MAX ||
             net->nodes[i].next_tick_ns < net->nodes[first].next_tick_ns)) {
            first = i;
        }
    }
    return first;
}

void run_net(struct net *net, uint64_t duration_ns)
{
    uint64_t until_ns = net->now_ns + duration_ns;
    for (;;) {
        unsigned i = next_node(net);
        uint64_t tick_ns =
            i == NODES_MAX ? UINT64_MAX : net->nodes[i].next_tick_ns;
        uint64_t bound = tick_ns < until_ns ? tick_ns : until_ns;
        struct packet *p = take_packet(net, bound);
        if (p != NULL) {
            if (p->heap.due_ns > net->now_ns) {
                net->now_ns = p->heap.due_ns;
            }
            deliver(net, p);
            free_packet(p);
        } else if (tick_ns <= until_ns) {
            net->now_ns = tick_ns > net->now_ns ? tick_ns : net->now_ns;
            simple(net, i, PC_CLUSTER_TICK);
        } else {
            break;
        }
    }
    net->now_ns = until_ns;
}

bool view_has(const struct net *net, unsigned i, unsigned other)
{
    size_t n;
    const struct pc_member *view =
        pc_cluster_view(net->nodes[i].cluster, &n, NULL);
    for (size_t m = 0; m < n; m++) {
        if (view[m].incarnation == net->nodes[other].incarnation) {
            return true;
        }
    }
    return false;
}

/* Everybody who runs sees just those who run. */
bool is_converged(const struct net *net)
{
    unsigned n_up = 0;
    for (unsigned i = 0; i < net->n_nodes; i++) {
        n_up += is_up(net, i);
    }
    for (unsigned i = 0; i < net->n_nodes; i++) {
        size_t n;
        if (!is_up(net, i)) {
            continue;
        }
        (void)pc_cluster_view(net->nodes[i].cluster, &n, NULL);
        if (n != n_up) {
            return false;
        }
        for (unsigned j = 0; j < net->n_nodes; j++) {
            if (is_up(net, j) && !view_has(net, i, j)) {
                return false;
            }
        }
    }
    return true;
}

void print_net(const struct net *net)
{
    for (unsigned i = 0; i < net->n_nodes; i++) {
        if (!is_up(net, i)) {
            continue;
        }
        size_t n;
        const struct pc_member *all = pc_cluster_all(net->nodes[i].cluster, &n);
        printf("n%u joined %d:", i, net->nodes[i].is_joined);
        for (size_t m = 0; m < n; m++) {
            printf(" %s/%llu/%llu:%u", all[m].id.text,
                   (unsigned long long)all[m].incarnation,
                   (unsigned long long)all[m].epoch, all[m].state);
        }
        printf("\n");
    }
}

void start_all(struct net *net)
{
    for (unsigned i = 0; i < net->n_nodes; i++) {
        start(net, i);
    }
    run_net(net, 10 * SECOND);
    if (!is_converged(net)) {
        print_net(net);
        fail_msg("the net did not start");
    }
    for (unsigned i = 0; i < net->n_nodes; i++) {
        net->nodes[i].n_views = 0;
    }
}

void cut(struct net *net, unsigned a, unsigned b, bool is_cut)
{
    net->cut[a][b] = is_cut;
    net->cut[b][a] = is_cut;
}

void pause_node(struct net *net, unsigned i, bool paused)
{
    struct node *node = &net->nodes[i];
    node->paused = paused;
    while (!paused && node->waiting != NULL) {
        struct packet *p = node->waiting;
        node->waiting = p->next;
        enqueue(net, p, net->now_ns);
    }
}

struct pc_member other(const char *id, uint64_t incarnation, uint64_t epoch,
                       enum pc_member_state member_state)
{
    struct pc_member m;
    memset(&m, 0, sizeof(m));
    assert_true(pc_node_id_set(&m.id, id));
    m.incarnation = incarnation;
    m.epoch = epoch;
    m.state = (uint8_t)member_state;
    strcpy(m.address, "n63");
    return m;
}

void tell(struct net *net, unsigned i, uint64_t from, struct pc_member *members,
          uint32_t n)
{
    struct pc_msg_table table = {
        .view = 1, .table = 1, .n_members = n, .members = members};
    struct pc_cluster_event event = {
        .type = PC_CLUSTER_TABLE, .peer = from, .seed = -1, .table = &table};
    step(net, i, event);
}
