#include "test.h"

#include "proto/record.h"

#include <string.h>

static const uint8_t golden[PC_RECORD_SIZE] = {
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* digest.lo */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* digest.hi */
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, /* incarnation */
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, /* generation */
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, /* offset */
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, /* length */
    0x68, 0x67, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61, /* checksum */
    0x74, 0x73, 0x72, 0x71,                         /* slot */
    0x82, 0x81,                                     /* region */
    0x01, 0x00,                                     /* flags */
};

static const struct pc_record record = {
    .digest = {0x0102030405060708u, 0x1112131415161718u},
    .incarnation = 0x2122232425262728u,
    .generation = 0x3132333435363738u,
    .offset = 0x4142434445464748u,
    .length = 0x5152535455565758u,
    .checksum = 0x6162636465666768u,
    .slot = 0x71727374u,
    .region = 0x8182u,
    .flags = PC_RECORD_ON_DISK,
};

static void a_record_has_its_golden_bytes(void **state)
{
    uint8_t bytes[PC_RECORD_SIZE];

    (void)state;
    pc_record_encode(&record, bytes);
    assert_memory_equal(bytes, golden, sizeof(golden));
}

static void golden_bytes_become_the_record(void **state)
{
    struct pc_record read;

    (void)state;
    assert_true(pc_record_decode(golden, &read));
    assert_memory_equal(&read, &record, sizeof(record));
}

static void extreme_fields_survive(void **state)
{
    struct pc_record most;
    struct pc_record read;
    uint8_t bytes[PC_RECORD_SIZE];

    (void)state;
    memset(&most, 0xff, sizeof(most));
    most.generation = UINT64_MAX - 1;
    most.flags = 0;
    pc_record_encode(&most, bytes);
    assert_true(pc_record_decode(bytes, &read));
    assert_memory_equal(&read, &most, sizeof(most));
}

static void refused(struct pc_record wrong)
{
    struct pc_record read;
    struct pc_record before;
    uint8_t bytes[PC_RECORD_SIZE];

    memset(&read, 0x5a, sizeof(read));
    before = read;
    pc_record_encode(&wrong, bytes);
    assert_false(pc_record_is_valid(&wrong));
    assert_false(pc_record_decode(bytes, &read));
    assert_memory_equal(&read, &before, sizeof(read));
}

static void what_no_holder_writes_is_refused(void **state)
{
    struct pc_record wrong = record;

    (void)state;
    wrong.generation |= 1;
    refused(wrong);
    wrong = record;
    wrong.length = 0;
    refused(wrong);
    for (unsigned bit = 1; bit < 16; bit++) {
        wrong = record;
        wrong.flags = (uint16_t)(1u << bit);
        refused(wrong);
    }
}

static void a_hint_without_place_is_a_record(void **state)
{
    struct pc_record hint = {.digest = {1, 2}, .length = 3};

    (void)state;
    assert_true(pc_record_is_valid(&hint));
}

static void every_bit_counts_in_the_hash(void **state)
{
    uint64_t whole = pc_record_hash(&record);

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(record); bit++) {
        struct pc_record other = record;
        ((uint8_t *)&other)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(pc_record_hash(&other) != whole);
    }
    assert_true(pc_record_hash(&record) == whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_has_its_golden_bytes),
        cmocka_unit_test(golden_bytes_become_the_record),
        cmocka_unit_test(extreme_fields_survive),
        cmocka_unit_test(what_no_holder_writes_is_refused),
        cmocka_unit_test(a_hint_without_place_is_a_record),
        cmocka_unit_test(every_bit_counts_in_the_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
