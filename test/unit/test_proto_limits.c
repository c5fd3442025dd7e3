#include "test_proto_compare.h"
#include "test_proto_samples.h"

#include "base/mem.h"

#include <stdio.h>

/* The largest arrays that any message has, one of each kind. */
struct large
{
    struct pc_member members[PC_NODES_MAX + 1];
    struct pc_msg_view views[PC_FORMER_VIEWS_MAX + 1];
    struct pc_msg_region regions[PC_REGIONS_MAX + 1];
    struct pc_record records[PC_KEYS_PER_REQUEST * PC_HOLDERS_PER_KEY];
    struct pc_digest digests[PC_KEYS_PER_REQUEST + 1];
    uint8_t bytes[PC_KEYS_PER_REQUEST + 1];
    int8_t statuses[PC_KEYS_PER_REQUEST + 1];
    uint64_t numbers[PC_KEYS_PER_REQUEST + 1];
    uint8_t blob[PC_FABRIC_ADDR_MAX + 1];
};

static void fill_id(struct pc_member *member, unsigned i, size_t len)
{
    memset(member->id.text, 'x', len);
    member->id.text[len] = '\0';
    (void)snprintf(member->id.text, 7, "%06u", i);
    member->id.text[6] = len > 6 ? 'x' : '\0';
}

static int large_setup(void **state)
{
    struct large *l = pc_alloc(1, sizeof(*l));

    if (l == NULL) {
        return -1;
    }
    for (unsigned i = 0; i <= PC_NODES_MAX; i++) {
        struct pc_member *m = &l->members[i];
        fill_id(m, i, PC_NODE_ID_MAX);
        m->incarnation = m->epoch = m->host = UINT64_MAX - i;
        memset(m->address, 'a', sizeof(m->address) - 1);
        m->state = PC_MEMBER_DEAD;
        m->role = PC_ROLE_CLIENT;
    }
    for (unsigned i = 0; i < PC_KEYS_PER_REQUEST * PC_HOLDERS_PER_KEY; i++) {
        l->records[i] = sample_record(i);
    }
    for (unsigned i = 0; i <= PC_KEYS_PER_REQUEST; i++) {
        l->digests[i] = l->records[i].digest;
        l->numbers[i] = UINT64_MAX - i;
    }
    for (unsigned i = 0; i <= PC_REGIONS_MAX; i++) {
        l->regions[i] = (struct pc_msg_region){
            .index = i % PC_REGIONS_MAX,
            .n_slots = UINT32_MAX,
            .base = UINT64_MAX,
            .length = UINT64_MAX,
            .nonce = UINT64_MAX,
            .slots_offset = UINT64_MAX,
            .rkey = {l->blob, PC_RKEY_MAX},
        };
    }
    *state = l;
    return 0;
}

static int large_teardown(void **state)
{
    pc_free(*state);
    return pc_mem_outstanding() == 0 ? 0 : -1;
}

static peercache_status_t encoded(const struct pc_msg *msg)
{
    uint8_t *bytes;
    size_t len;
    peercache_status_t status = pc_msg_encode(msg, &bytes, &len);

    if (status == PEERCACHE_OK) {
        assert_true(len <= PC_HEAD_MAX);
        pc_free(bytes);
    }
    return status;
}

static void assert_round_trip(const struct pc_msg *msg)
{
    struct pc_arena arena;
    struct pc_msg read;
    uint8_t *bytes;
    size_t len;

    pc_arena_init(&arena, (size_t)32 << 20);
    assert_int_equal(pc_msg_encode(msg, &bytes, &len), 0);
    assert_int_equal(pc_msg_decode((struct pc_blob){bytes, len}, &arena, &read),
                     0);
    assert_same_msg(&read, msg);
    pc_arena_fini(&arena);
    pc_free(bytes);
}

/* A message about n keys. */
static struct pc_msg about_keys(struct large *l, enum pc_msg_type type,
                                uint32_t n)
{
    struct pc_msg msg;

    memset(&msg, 0, sizeof(msg));
    msg.type = type;
    switch (type) {
    case PC_MSG_LOOKUP:
        msg.u.lookup.n_keys = n;
        msg.u.lookup.digests = l->digests;
        break;
    case PC_MSG_FOUND:
        msg.u.found.n_keys = n;
        msg.u.found.counts = l->bytes;
        break;
    case PC_MSG_PUBLISH:
        msg.u.publish.incarnation = l->records[0].incarnation;
        msg.u.publish.n_entries = n;
        msg.u.publish.kinds = l->bytes;
        msg.u.publish.records = l->records;
        break;
    case PC_MSG_PUBLISHED:
        msg.u.published.n_entries = n;
        msg.u.published.results = l->bytes;
        break;
    case PC_MSG_TOUCH:
        msg.u.touch.n_keys = n;
        msg.u.touch.records = l->records;
        break;
    case PC_MSG_READ:
    case PC_MSG_PROMOTE:
        msg.u.read.n_keys = n;
        msg.u.read.records = l->records;
        break;
    case PC_MSG_PROMOTED:
        msg.u.promoted.n_keys = n;
        msg.u.promoted.statuses = l->statuses;
        msg.u.promoted.n_records = n;
        msg.u.promoted.records = l->records;
        break;
    case PC_MSG_PAGES:
        msg.u.pages.n_keys = n;
        msg.u.pages.statuses = l->statuses;
        msg.u.pages.generations = l->numbers;
        msg.u.pages.lengths = l->numbers;
        msg.u.pages.checksums = l->numbers;
        break;
    case PC_MSG_REMOVE:
    case PC_MSG_USED:
        msg.u.remove.n_keys = n;
        msg.u.remove.digests = l->digests;
        break;
    default:
        msg.u.statuses.n_keys = n;
        msg.u.statuses.statuses = l->statuses;
        break;
    }
    return msg;
}

static const enum pc_msg_type requests[] = {
    PC_MSG_LOOKUP, PC_MSG_PUBLISH, PC_MSG_TOUCH, PC_MSG_READ,
    PC_MSG_REMOVE, PC_MSG_PROMOTE, PC_MSG_USED,
};
static const enum pc_msg_type answers[] = {
    PC_MSG_FOUND, PC_MSG_PUBLISHED, PC_MSG_TOUCHED,
    PC_MSG_PAGES, PC_MSG_REMOVED,   PC_MSG_PROMOTED,
};

static void requests_have_1_to_4096_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        for (uint32_t n = 1; n <= PC_KEYS_PER_REQUEST; n *= 4) {
            struct pc_msg msg = about_keys(*state, requests[i], n);
            assert_round_trip(&msg);
        }
        struct pc_msg none = about_keys(*state, requests[i], 0);
        assert_int_equal(encoded(&none), PEERCACHE_INVALID);
        struct pc_msg more =
            about_keys(*state, requests[i], PC_KEYS_PER_REQUEST + 1);
        assert_int_equal(encoded(&more), PEERCACHE_INVALID);
    }
}

static void answers_have_0_to_4096_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        for (uint32_t n = 1; n <= PC_KEYS_PER_REQUEST; n *= 4) {
            struct pc_msg msg = about_keys(*state, answers[i], n);
            assert_round_trip(&msg);
        }
        struct pc_msg more =
            about_keys(*state, answers[i], PC_KEYS_PER_REQUEST + 1);
        assert_int_equal(encoded(&more), PEERCACHE_INVALID);
        struct pc_msg none;
        memset(&none, 0, sizeof(none));
        none.type = answers[i];
        assert_round_trip(&none);
    }
}

static struct pc_msg found_of(struct large *l, uint32_t n_keys,
                              uint32_t n_holders)
{
    struct pc_msg msg = about_keys(l, PC_MSG_FOUND, n_keys);

    memset(l->bytes, PC_HOLDERS_PER_KEY, sizeof(l->bytes));
    msg.u.found.n_records = n_keys * PC_HOLDERS_PER_KEY;
    msg.u.found.records = l->records;
    msg.u.found.n_holders = n_holders;
    msg.u.found.holders = l->members;
    return msg;
}

static void what_the_header_promises_of_found_fits(void **state)
{
    struct pc_msg msg = found_of(*state, 950, 950 * PC_HOLDERS_PER_KEY);
    assert_round_trip(&msg);
    msg = found_of(*state, PC_KEYS_PER_REQUEST, 880);
    assert_round_trip(&msg);
    msg = found_of(*state, PC_KEYS_PER_REQUEST, 1000);
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    memset(((struct large *)*state)->bytes, 0, PC_KEYS_PER_REQUEST + 1);
}

static void counts_must_agree_with_the_records(void **state)
{
    struct pc_msg msg = found_of(*state, 2, 1);
    uint8_t *counts = msg.u.found.counts;

    msg.u.found.n_records--;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    counts[0] = PC_HOLDERS_PER_KEY + 1;
    msg.u.found.n_records += 2;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    memset(counts, 0, PC_KEYS_PER_REQUEST + 1);
}

static void the_largest_hello_fits(void **state)
{
    struct large *l = *state;
    struct pc_msg msg;

    memset(&msg, 0, sizeof(msg));
    msg.type = PC_MSG_HELLO;
    msg.u.hello.self = l->members[0];
    memset(msg.u.hello.cluster_name, 'c', PC_CLUSTER_NAME_MAX);
    msg.u.hello.fabric = (struct pc_blob){l->blob, PC_FABRIC_ADDR_MAX};
    msg.u.hello.n_regions = PC_REGIONS_MAX;
    msg.u.hello.regions = l->regions;
    assert_round_trip(&msg);
    msg.u.hello.n_regions++;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.hello.n_regions = 1;
    l->regions[0].rkey.len++;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    l->regions[0].rkey.len--;
    msg.u.hello.fabric.len++;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.hello.fabric.len = 0;
    msg.u.hello.cls = PC_LINK_BULK + 1;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.hello.cls = 0;
    msg.u.hello.cluster_name[PC_CLUSTER_NAME_MAX] = 'c';
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
}

static struct pc_msg table_of(struct large *l, uint32_t n)
{
    struct pc_msg msg;

    memset(&msg, 0, sizeof(msg));
    msg.type = PC_MSG_TABLE;
    msg.u.table.n_members = n;
    msg.u.table.members = l->members;
    return msg;
}

static void what_the_header_promises_of_tables_fits(void **state)
{
    struct large *l = *state;
    struct pc_msg msg = table_of(l, 3400);
    struct pc_member *viewed = pc_alloc(PC_NODES_MAX, sizeof(*viewed));

    assert_non_null(viewed);
    assert_round_trip(&msg);
    msg = table_of(l, PC_NODES_MAX + 1);
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    for (unsigned i = 0; i < PC_NODES_MAX; i++) {
        fill_id(&l->members[i], i, 100);
        memset(l->members[i].id.text + 101, 0, PC_NODE_ID_MAX - 100);
        memset(l->members[i].address + 50, 0, PC_ADDRESS_MAX - 50);
        viewed[i] = l->members[i];
        viewed[i].epoch = 0;
        viewed[i].state = PC_MEMBER_ALIVE;
        memset(viewed[i].address, 0, PC_ADDRESS_MAX);
    }
    msg = table_of(l, PC_NODES_MAX);
    msg.u.table.n_former = PC_FORMER_VIEWS_MAX;
    msg.u.table.former = l->views;
    for (unsigned i = 0; i <= PC_FORMER_VIEWS_MAX; i++) {
        l->views[i] = (struct pc_msg_view){UINT64_MAX, PC_NODES_MAX, viewed};
    }
    assert_round_trip(&msg);
    msg.u.table.n_former++;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.table.n_former = 1;
    msg.u.table.same = true;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.table.n_members = 0; /* Then all of the view are strangers. */
    assert_round_trip(&msg);
    viewed[7].state = PC_MEMBER_DEAD + 1;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    pc_free(viewed);
}

static void members_are_checked(void **state)
{
    struct pc_msg good;
    struct pc_msg msg;

    (void)state;
    memset(&good, 0, sizeof(good));
    good.type = PC_MSG_BEAT;
    good.u.beat.self = sample_member(0);
    assert_round_trip(&good);
    msg = good;
    msg.u.beat.self.id.text[0] = '\0';
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.beat.self.id.text[0] = '/';
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    memset(msg.u.beat.self.id.text, 'x', PC_NODE_ID_MAX + 1);
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg = good;
    memset(msg.u.beat.self.address, 'x', PC_ADDRESS_MAX);
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg = good;
    msg.u.beat.self.state = PC_MEMBER_DEAD + 1;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg = good;
    msg.u.beat.self.role = PC_ROLE_CLIENT + 1;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
}

static void only_errors_are_sent_as_errors(void **state)
{
    struct pc_msg msg;

    (void)state;
    memset(&msg, 0, sizeof(msg));
    msg.type = PC_MSG_FAILED;
    memset(msg.u.failed.reason, 'r', PC_REASON_MAX - 1);
    msg.u.failed.status = PEERCACHE_FORKED;
    assert_round_trip(&msg);
    msg.u.failed.status = PEERCACHE_OK;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.failed.status = -2; /* No such status. */
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
    msg.u.failed.status = PEERCACHE_FORKED;
    msg.u.failed.reason[PC_REASON_MAX - 1] = 'r';
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
}

static void records_of_others_are_not_published(void **state)
{
    struct pc_msg msg = about_keys(*state, PC_MSG_PUBLISH, 2);

    msg.u.publish.incarnation++;
    assert_int_equal(encoded(&msg), PEERCACHE_INVALID);
}

/* A body under a header that says what it is. */
static peercache_status_t decode_body(enum pc_msg_type type,
                                      const uint8_t *body, size_t len,
                                      size_t *used_p)
{
    struct pc_arena arena;
    struct pc_msg msg;
    uint8_t *bytes = pc_alloc(PC_MSG_HEADER_SIZE + len, 1);

    assert_non_null(bytes);
    memcpy(bytes, "PCM1\x01", 5);
    bytes[5] = (uint8_t)type;
    for (unsigned i = 0; i < 4; i++) {
        bytes[16 + i] = (uint8_t)(len >> (8 * i));
    }
    memcpy(bytes + PC_MSG_HEADER_SIZE, body, len);
    pc_arena_init(&arena, 0);
    peercache_status_t status = pc_msg_decode(
        (struct pc_blob){bytes, PC_MSG_HEADER_SIZE + len}, &arena, &msg);
    *used_p = arena.used;
    pc_arena_fini(&arena);
    pc_free(bytes);
    return status;
}

static void hostile_lengths_allocate_nothing(void **state)
{
    static const struct
    {
        enum pc_msg_type type;
        uint8_t len;
        uint8_t body[24];
    } hostile[] = {
        {PC_MSG_PING, 5, {0xdd, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 6, {0xdd, 0xff, 0xff, 0xff, 0xff, 1}},
        {PC_MSG_PING, 7, {0x92, 1, 0xdd, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 7, {0x92, 1, 0xdf, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 7, {0x92, 1, 0xc6, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 7, {0x92, 1, 0xdb, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 7, {0x92, 1, 0xc9, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_PING, 8, {0x92, 1, 0xc9, 0xff, 0xff, 0xff, 0xff, 5}},
        {PC_MSG_PING, 4, {0x92, 1, 0xd4, 5}},
        {PC_MSG_TOUCH, 6, {0x91, 0xc6, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_TOUCH, 6, {0x91, 0xc6, 0x00, 0x04, 0x00, 0x00}},
        {PC_MSG_TOUCH, 3, {0x91, 0xc4, 0x00}},
        {PC_MSG_REMOVE, 6, {0x91, 0xc4, 0x03, 1, 2, 3}},
        {PC_MSG_REMOVED, 4, {0x91, 0xc4, 0x01, 0x01}},
        {PC_MSG_REMOVED, 4, {0x91, 0xc4, 0x01, 0x80}},
        {PC_MSG_TABLE, 9, {0x99, 1, 1, 0xc2, 0xdd, 0xff, 0xff, 0xff, 0xff}},
        {PC_MSG_TABLE, 7, {0x99, 1, 1, 0xc2, 0xdc, 0x10, 0x00}},
        {PC_MSG_TABLE, 8, {0x99, 1, 1, 0xc2, 0x90, 0xdc, 0xff, 0xff}},
        {PC_MSG_TABLE, 9, {0x99, 1, 1, 0xc2, 0x90, 0x90, 0xdc, 0, 17}},
        {PC_MSG_FOUND, 8, {0x95, 1, 0xc2, 0xc6, 0, 0, 0x10, 0x01}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        size_t used;
        assert_int_equal(decode_body(hostile[i].type, hostile[i].body,
                                     hostile[i].len, &used),
                         PEERCACHE_PROTOCOL);
        assert_true(used <= 16);
    }
}

static void a_place_that_is_nobodys_is_malformed(void **state)
{
    /* Nobody is known, one view of one member, at place 0. */
    static const uint8_t body[] = {0x99, 1,    1, 0xc2, 0x90, 0x90, 0x91, 0x92,
                                   5,    0xc4, 4, 0,    0,    0,    0};
    size_t used;

    (void)state;
    assert_int_equal(decode_body(PC_MSG_TABLE, body, sizeof(body), &used),
                     PEERCACHE_PROTOCOL);
}

static void texts_with_a_nul_are_malformed(void **state)
{
    static const uint8_t with[] = {0x92, 0xff, 0xa2, 'a', 0};
    static const uint8_t without[] = {0x92, 0xff, 0xa2, 'a', 'b'};
    size_t used;

    (void)state;
    assert_int_equal(decode_body(PC_MSG_FAILED, with, sizeof(with), &used),
                     PEERCACHE_PROTOCOL);
    assert_int_equal(
        decode_body(PC_MSG_FAILED, without, sizeof(without), &used), 0);
}

static void numbers_may_be_written_longer_than_needed(void **state)
{
    static const uint8_t long_one[] = {0x91, 0xd3, 0, 0, 0, 0, 0, 0, 0, 1};
    static const uint8_t below_zero[] = {0x91, 0xff};
    static const uint8_t a_real[] = {0x91, 0xca, 0, 0, 0, 0};
    size_t used;

    (void)state;
    assert_int_equal(
        decode_body(PC_MSG_PING, long_one, sizeof(long_one), &used), 0);
    assert_int_equal(
        decode_body(PC_MSG_PING, below_zero, sizeof(below_zero), &used),
        PEERCACHE_PROTOCOL);
    assert_int_equal(decode_body(PC_MSG_PING, a_real, sizeof(a_real), &used),
                     PEERCACHE_PROTOCOL);
}

static void depth_costs_nothing(void **state)
{
    size_t len = PC_HEAD_MAX - PC_MSG_HEADER_SIZE;
    uint8_t *body = pc_alloc(len, 1);
    size_t used;

    (void)state;
    assert_non_null(body);
    memset(body, 0x91, len);
    body[0] = 0x92;
    body[1] = 1;
    assert_int_equal(decode_body(PC_MSG_PING, body, len, &used),
                     PEERCACHE_PROTOCOL);
    body[len - 1] = 0x90;
    assert_int_equal(decode_body(PC_MSG_PING, body, len, &used), 0);
    assert_int_equal(used, 0);
    pc_free(body);
}

static void a_message_over_the_limit_is_malformed(void **state)
{
    size_t len = PC_HEAD_MAX - PC_MSG_HEADER_SIZE + 1;
    uint8_t *body = pc_alloc(len, 1);
    size_t used;

    (void)state;
    assert_non_null(body);
    memset(body, 0x91, len);
    body[0] = 0x92;
    body[1] = 1;
    body[len - 1] = 0x90;
    assert_int_equal(decode_body(PC_MSG_PING, body, len, &used),
                     PEERCACHE_PROTOCOL);
    pc_free(body);
}

static void an_arena_gives_cleared_aligned_memory(void **state)
{
    struct pc_arena arena;

    (void)state;
    pc_arena_init(&arena, 100000);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t n = 0; n < 300; n++) {
            uint8_t *memory = pc_arena_alloc(&arena, n, 1);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 16, 0);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(memory[i], 0);
            }
            memset(memory, 0xff, n);
        }
        pc_arena_reset(&arena);
        assert_int_equal(arena.used, 0);
    }
    pc_arena_fini(&arena);
}

static void an_arena_keeps_its_limit(void **state)
{
    struct pc_arena arena;

    (void)state;
    pc_arena_init(&arena, 4096);
    assert_null(pc_arena_alloc(&arena, 4097, 1));
    assert_null(pc_arena_alloc(&arena, SIZE_MAX / 8, 16));
    assert_non_null(pc_arena_alloc(&arena, 4096, 1));
    assert_null(pc_arena_alloc(&arena, 1, 1));
    pc_arena_reset(&arena);
    assert_non_null(pc_arena_alloc(&arena, 1, 4096));
    pc_arena_fini(&arena);
}

static void an_arena_keeps_one_small_chunk(void **state)
{
    struct pc_arena arena;
    int64_t before = pc_mem_outstanding();

    (void)state;
    pc_arena_init(&arena, 0);
    assert_non_null(pc_arena_alloc(&arena, 1, 1000));
    assert_non_null(pc_arena_alloc(&arena, 1, 30000));
    assert_non_null(pc_arena_alloc(&arena, 1, 1 << 20));
    pc_arena_reset(&arena);
    assert_int_equal(pc_mem_outstanding(), before + 1);
    pc_mem_fail_after(0);
    assert_non_null(pc_arena_alloc(&arena, 1, 30000)); /* The kept one. */
    pc_mem_fail_after(-1);
    pc_arena_fini(&arena);
    assert_int_equal(pc_mem_outstanding(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_1_to_4096_keys),
        cmocka_unit_test(answers_have_0_to_4096_keys),
        cmocka_unit_test(what_the_header_promises_of_found_fits),
        cmocka_unit_test(counts_must_agree_with_the_records),
        cmocka_unit_test(the_largest_hello_fits),
        cmocka_unit_test(what_the_header_promises_of_tables_fits),
        cmocka_unit_test(members_are_checked),
        cmocka_unit_test(only_errors_are_sent_as_errors),
        cmocka_unit_test(records_of_others_are_not_published),
        cmocka_unit_test(hostile_lengths_allocate_nothing),
        cmocka_unit_test(a_place_that_is_nobodys_is_malformed),
        cmocka_unit_test(texts_with_a_nul_are_malformed),
        cmocka_unit_test(numbers_may_be_written_longer_than_needed),
        cmocka_unit_test(depth_costs_nothing),
        cmocka_unit_test(a_message_over_the_limit_is_malformed),
        cmocka_unit_test(an_arena_gives_cleared_aligned_memory),
        cmocka_unit_test(an_arena_keeps_its_limit),
        cmocka_unit_test(an_arena_keeps_one_small_chunk),
    };

    return cmocka_run_group_tests(tests, large_setup, large_teardown);
}
