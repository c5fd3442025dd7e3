#include "holders.h"

#include "node/node.h"

/* Of more holders than this, some are never told of. */
#define HOLDERS_SEEN 64

static const struct pc_member *member_of(const struct peercache_node *node,
                                         uint64_t incarnation)
{
    return incarnation == node->self.incarnation
               ? &node->self
               : pc_cluster_find(node->cluster, incarnation);
}

/* A reader that lost its copy has no use for its own record, unless nobody
 * else has one. */
static unsigned rank_for(const struct peercache_node *node,
                         const struct pc_record *record,
                         const struct pc_member *reader)
{
    const struct pc_member *holder = member_of(node, record->incarnation);
    if (record->incarnation == reader->incarnation ||
        (holder != NULL && holder->state == PC_MEMBER_DRAINING)) {
        return 2; /* Who drains may be gone before the read ends. */
    }
    return holder != NULL && holder->host == reader->host ? 0 : 1;
}

/* A load that is so much above the least is a reason to go elsewhere; less is
 * none, or all readers would change their holder at once, to and fro. */
#define LOAD_GAP 2

static uint8_t load_of(const struct peercache_node *node,
                       const struct pc_record *record)
{
    return pc_cluster_load(node->cluster, record->incarnation);
}

static uint8_t least_load(const struct peercache_node *node,
                          const struct pc_record *records, size_t n)
{
    uint8_t least = PC_LOAD_MAX;
    for (size_t i = 0; i < n; i++) {
        uint8_t load = load_of(node, &records[i]);
        least = load < least ? load : least;
    }
    return least;
}

static bool is_busy(const struct peercache_node *node,
                    const struct pc_record *record, uint8_t least)
{
    return load_of(node, record) >= least + LOAD_GAP;
}

static size_t find_live(const struct peercache_node *node,
                        struct pc_digest digest, struct pc_record *records)
{
    size_t n = pc_shard_lookup(node->shard, digest, records, HOLDERS_SEEN);
    size_t n_live = 0;
    if (n > HOLDERS_SEEN) {
        n = HOLDERS_SEEN;
    }
    for (size_t i = 0; i < n; i++) {
        if (!pc_node_is_dead(node, records[i].incarnation)) {
            records[n_live++] = records[i];
        }
    }
    return n_live;
}

size_t pc_holders_find(const struct peercache_node *node,
                       struct pc_digest digest, const struct pc_member *reader,
                       struct pc_record *records)
{
    struct pc_record all[HOLDERS_SEEN];
    size_t n_live = find_live(node, digest, all);
    size_t n = 0;
    size_t first = n_live == 0 ? 0
                               : (size_t)pc_hash64(&reader->incarnation,
                                                   sizeof(reader->incarnation),
                                                   digest.lo) %
                                     n_live;
    uint8_t least = least_load(node, all, n_live);
    for (unsigned rank = 0; rank < 6; rank++) {
        for (size_t i = 0; i < n_live && n < PC_HOLDERS_PER_KEY; i++) {
            const struct pc_record *record = &all[(first + i) % n_live];
            if (rank_for(node, record, reader) == rank / 2 &&
                is_busy(node, record, least) == (rank % 2 == 1)) {
                records[n++] = *record;
            }
        }
    }
    return n;
}

/* ---- The reader ------------------------------------------------------- */

static uint64_t cost_of(struct peercache_node *node,
                        const struct pc_record *record, uint8_t least)
{
    const struct pc_peer *peer =
        pc_peers_find(&node->peers, record->incarnation);
    if (peer == NULL) {
        return UINT64_MAX / 2; /* Met when it is read from. */
    }
    const struct pc_member *member = member_of(node, record->incarnation);
    uint64_t cost = peer->n_rpcs + peer->n_gets;
    cost += is_busy(node, record, least) ? 1ull << 31 : 0;
    cost += peer->greeted && peer->domain == node->domain ? 0 : 1ull << 32;
    cost += peer->member.host == node->self.host ? 0 : 1ull << 33;
    cost +=
        member != NULL && member->state == PC_MEMBER_DRAINING ? 1ull << 34 : 0;
    return cost + (pc_peer_is_usable(peer) ? 0 : 1ull << 35);
}

void pc_holders_sort(struct peercache_node *node, struct pc_record *records,
                     size_t n)
{
    uint64_t costs[PC_HOLDERS_PER_KEY];
    uint8_t least = least_load(node, records, n);
    for (size_t i = 0; n > 1 && n <= PC_HOLDERS_PER_KEY && i < n; i++) {
        struct pc_record record = records[i];
        uint64_t cost = cost_of(node, &record, least);
        size_t at = i;
        for (; at > 0 && costs[at - 1] > cost; at--) {
            records[at] = records[at - 1];
            costs[at] = costs[at - 1];
        }
        records[at] = record;
        costs[at] = cost;
    }
}
