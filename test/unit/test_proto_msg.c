#include "test_proto_compare.h"
#include "test_proto_samples.h"

#include "golden_msg.h"

#include "base/mem.h"

#include <stdlib.h>

#define TYPE(name, value, suffix) PC_MSG_##name,
static const enum pc_msg_type all_types[] = {PC_MSG_MAP(TYPE)};
#undef TYPE
#define N_TYPES (sizeof(all_types) / sizeof(all_types[0]))

#define AT_LENGTH 16 /* Of the body, in the header. */

static void put_length(uint8_t *bytes, size_t len)
{
    for (unsigned i = 0; i < 4; i++) {
        bytes[AT_LENGTH + i] = (uint8_t)((len - PC_MSG_HEADER_SIZE) >> (8 * i));
    }
}

static size_t from_hex(const char *hex, uint8_t *bytes, size_t size)
{
    size_t len = strlen(hex) / 2;

    assert_true(len <= size);
    for (size_t i = 0; i < len; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return len;
}

/* Golden bytes of a type. */
static size_t golden(enum pc_msg_type type, uint8_t bytes[2048])
{
    switch (type) {
#define GOLDEN(name, hex)                                                      \
    case PC_MSG_##name:                                                        \
        return from_hex(hex, bytes, 2048);
        GOLDEN_MSG_MAP(GOLDEN)
#undef GOLDEN
    }
    return 0;
}

/* Decode a copy that ends where its memory ends, so that a sanitizer sees a
 * read beyond it; what decodes must encode. */
static peercache_status_t decode(const uint8_t *bytes, size_t len)
{
    struct pc_arena arena;
    struct pc_msg msg;
    uint8_t *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    pc_arena_init(&arena, 0);
    peercache_status_t status =
        pc_msg_decode((struct pc_blob){copy, len}, &arena, &msg);
    if (status == PEERCACHE_OK) {
        uint8_t *again;
        size_t again_len;
        assert_int_equal(pc_msg_encode(&msg, &again, &again_len), 0);
        pc_free(again);
    }
    pc_arena_fini(&arena);
    free(copy);
    return status;
}

static void every_message_has_its_golden_bytes(void **state)
{
    struct samples s;
    struct pc_msg msg;
    uint8_t expected[2048];

    (void)state;
    samples_init(&s);
    for (size_t i = 0; i < N_TYPES; i++) {
        uint8_t *bytes;
        size_t len;
        sample_make(&s, all_types[i], &msg);
        assert_int_equal(pc_msg_encode(&msg, &bytes, &len), 0);
        assert_int_equal(len, golden(all_types[i], expected));
        assert_memory_equal(bytes, expected, len);
        pc_free(bytes);
    }
}

static void golden_bytes_become_every_message(void **state)
{
    struct samples s;
    struct pc_msg msg;
    struct pc_msg read;
    struct pc_arena arena;
    uint8_t bytes[2048];

    (void)state;
    samples_init(&s);
    pc_arena_init(&arena, 0);
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = golden(all_types[i], bytes);
        sample_make(&s, all_types[i], &msg);
        assert_int_equal(
            pc_msg_decode((struct pc_blob){bytes, len}, &arena, &read), 0);
        assert_same_msg(&read, &msg);
        pc_arena_reset(&arena);
    }
    pc_arena_fini(&arena);
}

static void every_message_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(pc_msg_name(PC_MSG_HELLO), "HELLO");
    assert_string_equal(pc_msg_name(PC_MSG_FAILED), "FAILED");
    assert_string_equal(pc_msg_name((enum pc_msg_type)200), "UNKNOWN");
}

static void a_message_cut_anywhere_is_malformed(void **state)
{
    uint8_t bytes[2048];

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = golden(all_types[i], bytes);
        for (size_t cut = 0; cut < len; cut++) {
            assert_int_equal(decode(bytes, cut), PEERCACHE_PROTOCOL);
        }
        /* The same with a header that says what is there. */
        for (size_t cut = len - 1; cut >= PC_MSG_HEADER_SIZE; cut--) {
            put_length(bytes, cut);
            assert_int_equal(decode(bytes, cut), PEERCACHE_PROTOCOL);
        }
    }
}

static void a_changed_byte_does_no_harm(void **state)
{
    uint8_t bytes[2048];

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = golden(all_types[i], bytes);
        for (size_t at = 0; at < len; at++) {
            uint8_t before = bytes[at];
            for (unsigned change = 1; change < 256; change++) {
                bytes[at] = (uint8_t)(before ^ change);
                peercache_status_t status = decode(bytes, len);
                assert_true(status == PEERCACHE_OK ||
                            status == PEERCACHE_PROTOCOL ||
                            status == PEERCACHE_VERSION);
            }
            bytes[at] = before;
        }
    }
}

static void bytes_behind_the_body_are_malformed(void **state)
{
    uint8_t bytes[2048];

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = golden(all_types[i], bytes);
        bytes[len] = 0xc0;
        assert_int_equal(decode(bytes, len + 1), PEERCACHE_PROTOCOL);
        put_length(bytes, len + 1);
        assert_int_equal(decode(bytes, len + 1), PEERCACHE_PROTOCOL);
    }
}

/* The golden body with n more fields, behind an array16 header. */
static size_t with_fields(enum pc_msg_type type, const uint8_t *fields,
                          size_t fields_len, unsigned n, uint8_t out[2048])
{
    uint8_t bytes[2048];
    size_t len = golden(type, bytes);
    uint8_t *body = out + PC_MSG_HEADER_SIZE;
    size_t rest = len - PC_MSG_HEADER_SIZE - 1;

    memcpy(out, bytes, PC_MSG_HEADER_SIZE);
    unsigned n_fields = (bytes[PC_MSG_HEADER_SIZE] & 0x0fu) + n;
    body[0] = 0xdc;
    body[1] = (uint8_t)(n_fields >> 8);
    body[2] = (uint8_t)n_fields;
    memcpy(body + 3, bytes + PC_MSG_HEADER_SIZE + 1, rest);
    memcpy(body + 3 + rest, fields, fields_len);
    len = PC_MSG_HEADER_SIZE + 3 + rest + fields_len;
    put_length(out, len);
    return len;
}

static void unknown_fields_are_skipped(void **state)
{
    static const uint8_t fields[] = {
        0xc0,                               /* nil */
        0xc3,                               /* true */
        0x82, 0xa1, 'a',  0x91, 0x90,       /* {"a": [[]], */
        0x01, 0xca, 0,    0,    0,    0,    /* 1: 0.0} */
        0xcb, 0,    0,    0,    0,    0,    /* 0.0 as a double */
        0,    0,    0,                      /* */
        0xd1, 0xff, 0x00,                   /* -256 */
        0xc4, 0x02, 0xab, 0xcd,             /* binary */
        0xde, 0x00, 0x01, 0xc0, 0xdc, 0, 0, /* map16 {nil: array16 []} */
        0xd9, 0x00,                         /* "" */
    };
    uint8_t bytes[2048];

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len =
            with_fields(all_types[i], fields, sizeof(fields), 8, bytes);
        assert_int_equal(decode(bytes, len), PEERCACHE_OK);
        for (size_t cut = len - sizeof(fields); cut < len; cut++) {
            put_length(bytes, cut);
            assert_int_equal(decode(bytes, cut), PEERCACHE_PROTOCOL);
        }
    }
}

static void unknown_fields_of_a_member_are_skipped(void **state)
{
    uint8_t bytes[2048];
    size_t len = golden(PC_MSG_BEAT, bytes);

    (void)state;
    /* The member is followed by three numbers of one byte each. */
    assert_int_equal(bytes[PC_MSG_HEADER_SIZE + 1], 0x99);
    bytes[PC_MSG_HEADER_SIZE + 1] = 0x9a;
    memmove(bytes + len - 2, bytes + len - 3, 3);
    bytes[len - 3] = 0xc0;
    put_length(bytes, len + 1);
    assert_int_equal(decode(bytes, len + 1), PEERCACHE_OK);
}

static void a_missing_field_is_malformed(void **state)
{
    uint8_t bytes[2048];

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = golden(all_types[i], bytes);
        bytes[PC_MSG_HEADER_SIZE]--;
        assert_int_equal(decode(bytes, len), PEERCACHE_PROTOCOL);
    }
}

static void another_version_is_told_apart(void **state)
{
    uint8_t bytes[2048];
    struct pc_arena arena;
    struct pc_msg msg;

    (void)state;
    pc_arena_init(&arena, 0);
    size_t len = golden(PC_MSG_LOOKUP, bytes);
    bytes[4] = PC_PROTOCOL_VERSION + 1;
    memset(bytes + PC_MSG_HEADER_SIZE, 0xc1, len - PC_MSG_HEADER_SIZE);
    assert_int_equal(pc_msg_decode((struct pc_blob){bytes, len}, &arena, &msg),
                     PEERCACHE_VERSION);
    assert_int_equal(msg.type, PC_MSG_LOOKUP);
    assert_true(msg.request == 0x0123456789abcdefu);
    assert_int_equal(arena.used, 0);
    pc_arena_fini(&arena);
}

static void an_unknown_type_is_malformed_but_names_its_request(void **state)
{
    uint8_t bytes[2048];
    struct pc_arena arena;
    struct pc_msg msg;

    (void)state;
    pc_arena_init(&arena, 0);
    size_t len = golden(PC_MSG_PING, bytes);
    for (unsigned type = 0; type < 256; type++) {
        if (strcmp(pc_msg_name((enum pc_msg_type)type), "UNKNOWN") != 0) {
            continue;
        }
        bytes[5] = (uint8_t)type;
        assert_int_equal(
            pc_msg_decode((struct pc_blob){bytes, len}, &arena, &msg),
            PEERCACHE_PROTOCOL);
        assert_true(msg.request == 0x0123456789abcdefu);
    }
    struct pc_msg unknown = {.type = (enum pc_msg_type)99};
    uint8_t *out;
    assert_int_equal(pc_msg_encode(&unknown, &out, &len), PEERCACHE_INVALID);
    pc_arena_fini(&arena);
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    struct samples s;
    struct pc_msg msg;
    uint8_t *bytes;
    size_t len;

    (void)state;
    samples_init(&s);
    for (size_t i = 0; i < N_TYPES; i++) {
        int64_t before = pc_mem_outstanding();
        peercache_status_t status = PEERCACHE_NO_MEMORY;
        sample_make(&s, all_types[i], &msg);
        for (int64_t n = 0; status != PEERCACHE_OK; n++) {
            pc_mem_fail_after(n);
            status = pc_msg_encode(&msg, &bytes, &len);
            assert_true(status == PEERCACHE_OK ||
                        status == PEERCACHE_NO_MEMORY);
            assert_true(n > 0 || status == PEERCACHE_NO_MEMORY);
            if (status != PEERCACHE_OK) {
                assert_int_equal(pc_mem_outstanding(), before);
            }
        }
        pc_mem_fail_after(-1);
        pc_free(bytes);
        assert_int_equal(pc_mem_outstanding(), before);
    }
}

static void a_failed_allocation_while_decoding_leaks_nothing(void **state)
{
    uint8_t bytes[2048];
    int64_t before = pc_mem_outstanding();

    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        peercache_status_t status = PEERCACHE_NO_MEMORY;
        size_t len = golden(all_types[i], bytes);
        for (int64_t n = 0; status != PEERCACHE_OK; n++) {
            struct pc_arena arena;
            struct pc_msg msg;
            pc_arena_init(&arena, 0);
            pc_mem_fail_after(n);
            status = pc_msg_decode((struct pc_blob){bytes, len}, &arena, &msg);
            assert_true(status == PEERCACHE_OK ||
                        status == PEERCACHE_NO_MEMORY);
            pc_mem_fail_after(-1);
            pc_arena_fini(&arena);
            assert_int_equal(pc_mem_outstanding(), before);
        }
    }
}

static void an_arena_at_its_limit_is_no_memory(void **state)
{
    uint8_t bytes[2048];
    size_t len = golden(PC_MSG_PUBLISH, bytes);

    (void)state;
    for (size_t limit = 16;; limit += 16) {
        struct pc_arena arena;
        struct pc_msg msg;
        pc_arena_init(&arena, limit);
        peercache_status_t status =
            pc_msg_decode((struct pc_blob){bytes, len}, &arena, &msg);
        assert_true(arena.used <= limit);
        pc_arena_fini(&arena);
        if (status == PEERCACHE_OK) {
            assert_int_equal(limit, 16 + 3 * PC_RECORD_SIZE);
            return;
        }
        assert_int_equal(status, PEERCACHE_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_has_its_golden_bytes),
        cmocka_unit_test(golden_bytes_become_every_message),
        cmocka_unit_test(every_message_has_a_name),
        cmocka_unit_test(a_message_cut_anywhere_is_malformed),
        cmocka_unit_test(a_changed_byte_does_no_harm),
        cmocka_unit_test(bytes_behind_the_body_are_malformed),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(unknown_fields_of_a_member_are_skipped),
        cmocka_unit_test(a_missing_field_is_malformed),
        cmocka_unit_test(another_version_is_told_apart),
        cmocka_unit_test(an_unknown_type_is_malformed_but_names_its_request),
        cmocka_unit_test(a_failed_allocation_leaks_nothing),
        cmocka_unit_test(a_failed_allocation_while_decoding_leaks_nothing),
        cmocka_unit_test(an_arena_at_its_limit_is_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
