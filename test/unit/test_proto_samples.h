/*
 * test_proto_samples.h - one message of each type with every field set; their
 * bytes are golden_msg.h. Changing a sample changes the golden bytes.
 */
#ifndef PC_TEST_PROTO_SAMPLES_H
#define PC_TEST_PROTO_SAMPLES_H

#include "proto/msg.h"

#include <string.h>

/* Constant, but structs of msg.h hold pointers to what is not. */
struct samples
{
    struct pc_member members[3];
    struct pc_member viewed[4];
    struct pc_msg_view views[2];
    struct pc_msg_region regions[2];
    struct pc_record records[3];
    struct pc_digest digests[3];
    uint8_t counts[3], kinds[3], results[3], dead[3];
    int8_t statuses[3];
    uint64_t numbers[3][3];
    uint64_t sums[2][PC_SUMMARY_RANGES];
    uint8_t fabric[5], rkey[3];
    uint64_t busy[2];
    uint8_t loads[2];
};

static inline struct pc_member sample_member(unsigned i)
{
    struct pc_member member = {
        .incarnation = 0x1122334455667700u + i,
        .epoch = 3 + i,
        .host = 0xa0b0c0d0e0f00000u + i,
        .state = (uint8_t)(i % 4),
        .role = (uint8_t)(i % 3),
        .republishing = i % 2 == 1,
        .admission = 7 + i,
    };

    memcpy(member.id.text, "node-0", 7);
    member.id.text[5] = (char)('a' + i % 26);
    memcpy(member.address, "10.0.0.1:5000", 14);
    member.address[7] = (char)('1' + i % 9);
    return member;
}

/* As the members of former views are: no epoch, no address. */
static inline struct pc_member sample_viewed(unsigned i, uint8_t state)
{
    struct pc_member member = sample_member(i);

    member.epoch = 0;
    memset(member.address, 0, sizeof(member.address));
    member.republishing = false;
    member.admission = 0;
    member.state = state;
    return member;
}

static inline struct pc_record sample_record(unsigned i)
{
    return (struct pc_record){
        .digest = {0x0102030405060708u + i, 0x1112131415161718u + i},
        .incarnation = 0x1122334455667700u,
        .generation = 2 * (uint64_t)i + 40,
        .offset = 4096 * (uint64_t)i,
        .length = 65536 + i,
        .checksum = 0x5152535455565758u + i,
        .slot = 7 + i,
        .region = (uint16_t)(1 + i % 100),
        .flags = i % 2 == 1 ? PC_RECORD_ON_DISK : 0,
    };
}

static inline void samples_init(struct samples *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 3; i++) {
        s->members[i] = sample_member(i);
        s->records[i] = sample_record(i);
        s->digests[i] = s->records[i].digest;
        s->counts[i] = (uint8_t)(i == 0 ? 0 : i); /* 0, 1, 2. */
        s->kinds[i] = i == 1 ? PC_RETRACT : PC_PUBLISH;
        s->results[i] = (uint8_t)i;
        s->dead[i] = i == 2;
        for (unsigned k = 0; k < 3; k++) {
            s->numbers[k][i] = 1000 * (uint64_t)k + i;
        }
    }
    for (unsigned i = 0; i < PC_SUMMARY_RANGES; i++) {
        s->sums[0][i] = i;
        s->sums[1][i] = 0x8182838485868788u + i;
    }
    s->statuses[0] = PEERCACHE_OK;
    s->statuses[1] = PEERCACHE_NOT_FOUND;
    s->statuses[2] = PEERCACHE_SIZE_MISMATCH;
    memcpy(s->fabric,
           "\x01"
           "addr",
           5);
    memcpy(s->rkey, "key", 3);
    for (unsigned i = 0; i < 2; i++) {
        s->regions[i] = (struct pc_msg_region){
            .index = i,
            .n_slots = 1000 + i,
            .base = 0x7f0000000000u + i,
            .length = (uint64_t)1 << 30,
            .nonce = 0x9192939495969798u,
            .slots_offset = 4096,
            .rkey = {i == 0 ? s->rkey : NULL, i == 0 ? 3 : 0},
        };
    }
    /* Two members of the table in other states, and a stranger in both. */
    s->viewed[0] = sample_viewed(1, PC_MEMBER_ALIVE);
    s->viewed[1] = sample_viewed(9, PC_MEMBER_DRAINING);
    s->viewed[2] = sample_viewed(9, PC_MEMBER_ALIVE);
    s->viewed[3] = sample_viewed(0, PC_MEMBER_DEAD);
    s->views[0] = (struct pc_msg_view){0xf1, 2, s->viewed};
    s->views[1] = (struct pc_msg_view){0xf2, 2, s->viewed + 2};
    s->busy[0] = 0x1122334455667700u;
    s->busy[1] = 0x1122334455667702u;
    s->loads[0] = PC_LOAD_MAX;
    s->loads[1] = 2;
}

static inline void sample_hello(struct samples *s, struct pc_msg_hello *m)
{
    m->protocol = PC_PROTOCOL_VERSION;
    m->layout = 2;
    m->digest_version = 3;
    m->digest_seed_check = 0xc1c2c3c4c5c6c7c8u;
    memcpy(m->cluster_name, "lab", 3);
    m->self = s->members[1];
    m->cls = PC_LINK_BULK;
    m->number = 5;
    m->vnodes = 160;
    m->directory_replicas = 2;
    m->max_masters = 4;
    m->member_ttl_ns = 6000000000u;
    m->domain = 0xd1d2d3d4d5d6d7d8u;
    m->fabric = (struct pc_blob){s->fabric, sizeof(s->fabric)};
    m->n_regions = 2;
    m->regions = s->regions;
}

static inline void sample_about_keys(struct samples *s, struct pc_msg *m)
{
    switch (m->type) {
    case PC_MSG_LOOKUP:
        m->u.lookup = (struct pc_msg_lookup){0x71, 1, 3, s->digests};
        break;
    case PC_MSG_FOUND:
        m->u.found = (struct pc_msg_found){0x72, true,       3, s->counts,
                                           3,    s->records, 2, s->members};
        break;
    case PC_MSG_PUBLISH:
        m->u.publish = (struct pc_msg_publish){0x73, 0x1122334455667700u, 3,
                                               s->kinds, s->records};
        break;
    case PC_MSG_PUBLISHED:
        m->u.published = (struct pc_msg_published){0x74, 3, s->results};
        break;
    case PC_MSG_SUMMARY:
        m->u.summary =
            (struct pc_msg_summary){0x7b, 0x100, 3, 0x8182838485868788u};
        break;
    case PC_MSG_SUMMARIZED:
        m->u.summarized = (struct pc_msg_summarized){0x7c, PC_SUMMARY_DIFFERENT,
                                                     PC_SUMMARY_RANGES,
                                                     s->sums[0], s->sums[1]};
        break;
    case PC_MSG_LIST:
        m->u.list = (struct pc_msg_list){0x7d, 0x100, 63, 0xfc0001};
        break;
    case PC_MSG_LISTED:
        m->u.listed = (struct pc_msg_listed){
            0x7e, PC_SUMMARY_DIFFERENT, 0xfd0000, 3, s->digests, s->numbers[1]};
        break;
    case PC_MSG_STALE:
    case PC_MSG_DOUBT:
        m->u.stale = (struct pc_msg_stale){3, s->records};
        break;
    case PC_MSG_TOUCH:
        m->u.touch = (struct pc_msg_touch){3, s->records};
        break;
    case PC_MSG_TOUCHED:
    case PC_MSG_REMOVED:
        m->u.statuses = (struct pc_msg_statuses){3, s->statuses};
        break;
    case PC_MSG_READ:
    case PC_MSG_PROMOTE:
        m->u.read =
            (struct pc_msg_read){PC_READ_CHECKSUM, 3, s->records, 1500000000u};
        break;
    case PC_MSG_PROMOTED:
        m->u.promoted =
            (struct pc_msg_promoted){3, s->statuses, 1, s->records + 1};
        break;
    case PC_MSG_PAGES:
        m->u.pages = (struct pc_msg_pages){
            0x75, 3, s->statuses, s->numbers[0], s->numbers[1], s->numbers[2]};
        break;
    case PC_MSG_REMOVE:
    case PC_MSG_USED:
        m->u.remove = (struct pc_msg_remove){3, s->digests};
        break;
    case PC_MSG_WHY:
        m->u.why.digest = s->digests[1];
        break;
    case PC_MSG_BECAUSE:
        m->u.because = (struct pc_msg_because){0x7b,
                                               true,
                                               true,
                                               false,
                                               8,
                                               4096,
                                               0x9192939495969798u,
                                               3,
                                               s->dead,
                                               s->records,
                                               2,
                                               s->members,
                                               true};
        break;
    default:
        break;
    }
}

/* Fill *m, which then points into *s. */
static inline void sample_make(struct samples *s, enum pc_msg_type type,
                               struct pc_msg *m)
{
    memset(m, 0, sizeof(*m));
    m->type = type;
    m->request = 0x0123456789abcdefu;
    switch (type) {
    case PC_MSG_HELLO:
    case PC_MSG_WELCOME:
        sample_hello(s, &m->u.hello);
        break;
    case PC_MSG_REJECT:
        m->u.reject.status = PEERCACHE_MISMATCH;
        memcpy(m->u.reject.reason, "vnodes differ", 13);
        break;
    case PC_MSG_BEAT:
        m->u.beat.self = s->members[2];
        m->u.beat.view = 0x76;
        m->u.beat.table = 0x77;
        m->u.beat.load = 2;
        break;
    case PC_MSG_TABLE:
        m->u.table.view = 0x78;
        m->u.table.table = 0x79;
        m->u.table.n_members = 3;
        m->u.table.members = s->members;
        m->u.table.n_former = 2;
        m->u.table.former = s->views;
        m->u.table.base = 0x7a;
        m->u.table.more = true;
        m->u.table.admission = PC_ADMISSION_REFUSED;
        m->u.table.n_busy = 2;
        m->u.table.busy = s->busy;
        m->u.table.loads = s->loads;
        break;
    case PC_MSG_REGION:
        m->u.region = s->regions[0];
        break;
    case PC_MSG_PING:
    case PC_MSG_PONG:
    case PC_MSG_PROGRESS:
        m->u.ping.token = 0xe1e2e3e4e5e6e7e8u;
        break;
    case PC_MSG_FAILED:
        m->u.failed.status = PEERCACHE_SHUTDOWN;
        memcpy(m->u.failed.reason, "stopping", 8);
        break;
    case PC_MSG_PROBE:
        m->u.probe.incarnation = 0x1122334455667702u;
        break;
    case PC_MSG_DRAIN:
        m->u.drain.incarnation = 0x1122334455667703u;
        break;
    case PC_MSG_DRAINED:
        m->u.drained.done = true;
        break;
    case PC_MSG_PROBED:
        m->u.probed.incarnation = 0x1122334455667702u;
        m->u.probed.verdict = PC_PROBED_SILENT;
        break;
    default:
        sample_about_keys(s, m);
        break;
    }
}

#endif /* PC_TEST_PROTO_SAMPLES_H */
