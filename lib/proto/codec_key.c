/*
 * What is said of keys: look up, publish, touch, read, remove, and answers.
 */
#include "codec.h"

/* A request without keys has no meaning; an answer may be empty. */
static const struct pc_bounds request_keys = {1, PC_KEYS_PER_REQUEST};
static const struct pc_bounds answer_keys = {0, PC_KEYS_PER_REQUEST};
static const struct pc_bounds why_records = {0, PC_WHY_RECORDS_MAX};

static void check_count(struct pc_writer *w, uint32_t n,
                        struct pc_bounds bounds)
{
    if (n < bounds.min || n > bounds.max) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
}

void pc_write_lookup(struct pc_writer *w, const struct pc_msg_lookup *m)
{
    check_count(w, m->n_keys, request_keys);
    pc_writer_array(w, 3);
    pc_writer_u64(w, m->view);
    pc_writer_number(w, m->flags, PC_LOOKUP_FORMER);
    pc_writer_digests(w, m->digests, m->n_keys);
}

void pc_read_lookup(struct pc_reader *r, struct pc_msg_lookup *m)
{
    uint32_t n_unknown = pc_reader_open(r, 3);

    m->view = pc_reader_u64(r);
    m->flags = (uint32_t)pc_reader_number(r, PC_LOOKUP_FORMER);
    m->digests = pc_reader_digests(r, request_keys, &m->n_keys);
    pc_reader_close(r, n_unknown);
}

static uint32_t sum_counts(const uint8_t *counts, uint32_t n)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += counts[i];
    }
    return sum;
}

void pc_write_found(struct pc_writer *w, const struct pc_msg_found *m)
{
    check_count(w, m->n_keys, answer_keys);
    pc_writer_array(w, 5);
    pc_writer_u64(w, m->view);
    pc_writer_bool(w, m->wrong_view);
    pc_writer_bytes(w, m->counts, m->n_keys, PC_HOLDERS_PER_KEY);
    if (w->status != PEERCACHE_OK ||
        sum_counts(m->counts, m->n_keys) != m->n_records) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_records(w, m->records, m->n_records);
    pc_write_members(w, m->holders, m->n_holders);
}

void pc_read_found(struct pc_reader *r, struct pc_msg_found *m)
{
    uint32_t n_unknown = pc_reader_open(r, 5);

    m->view = pc_reader_u64(r);
    m->wrong_view = pc_reader_bool(r);
    m->counts = pc_reader_bytes(r, answer_keys, PC_HOLDERS_PER_KEY, &m->n_keys);
    if (r->status != PEERCACHE_OK) {
        return;
    }
    uint32_t sum = sum_counts(m->counts, m->n_keys);
    m->records =
        pc_reader_records(r, (struct pc_bounds){sum, sum}, &m->n_records);
    m->holders = pc_read_members(r, &m->n_holders);
    pc_reader_close(r, n_unknown);
}

static bool all_carry(const struct pc_record *records, uint32_t n,
                      uint64_t incarnation)
{
    for (uint32_t i = 0; i < n; i++) {
        if (records[i].incarnation != incarnation) {
            return false;
        }
    }
    return true;
}

void pc_write_publish(struct pc_writer *w, const struct pc_msg_publish *m)
{
    check_count(w, m->n_entries, request_keys);
    if (w->status != PEERCACHE_OK ||
        !all_carry(m->records, m->n_entries, m->incarnation)) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_array(w, 4);
    pc_writer_u64(w, m->view);
    pc_writer_u64(w, m->incarnation);
    pc_writer_bytes(w, m->kinds, m->n_entries, PC_RETRACT);
    pc_writer_records(w, m->records, m->n_entries);
}

void pc_read_publish(struct pc_reader *r, struct pc_msg_publish *m)
{
    uint32_t n_unknown = pc_reader_open(r, 4);
    uint32_t n;

    m->view = pc_reader_u64(r);
    m->incarnation = pc_reader_u64(r);
    m->kinds = pc_reader_bytes(r, request_keys, PC_RETRACT, &n);
    m->records = pc_reader_records(r, (struct pc_bounds){n, n}, &m->n_entries);
    if (r->status != PEERCACHE_OK) {
        return;
    }
    if (!all_carry(m->records, n, m->incarnation)) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    pc_reader_close(r, n_unknown);
}

void pc_write_published(struct pc_writer *w, const struct pc_msg_published *m)
{
    check_count(w, m->n_entries, answer_keys);
    pc_writer_array(w, 2);
    pc_writer_u64(w, m->view);
    pc_writer_bytes(w, m->results, m->n_entries, PC_PUBLISH_REFUSED);
}

void pc_read_published(struct pc_reader *r, struct pc_msg_published *m)
{
    uint32_t n_unknown = pc_reader_open(r, 2);

    m->view = pc_reader_u64(r);
    m->results =
        pc_reader_bytes(r, answer_keys, PC_PUBLISH_REFUSED, &m->n_entries);
    pc_reader_close(r, n_unknown);
}

void pc_write_touch(struct pc_writer *w, const struct pc_msg_touch *m)
{
    check_count(w, m->n_keys, request_keys);
    pc_writer_array(w, 1);
    pc_writer_records(w, m->records, m->n_keys);
}

void pc_read_touch(struct pc_reader *r, struct pc_msg_touch *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->records = pc_reader_records(r, request_keys, &m->n_keys);
    pc_reader_close(r, n_unknown);
}

void pc_write_statuses(struct pc_writer *w, const struct pc_msg_statuses *m)
{
    check_count(w, m->n_keys, answer_keys);
    pc_writer_array(w, 1);
    pc_writer_statuses(w, m->statuses, m->n_keys);
}

void pc_read_statuses(struct pc_reader *r, struct pc_msg_statuses *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->statuses = pc_reader_statuses(r, &m->n_keys);
    pc_reader_close(r, n_unknown);
}

void pc_write_remove(struct pc_writer *w, const struct pc_msg_remove *m)
{
    check_count(w, m->n_keys, request_keys);
    pc_writer_array(w, 1);
    pc_writer_digests(w, m->digests, m->n_keys);
}

void pc_read_remove(struct pc_reader *r, struct pc_msg_remove *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->digests = pc_reader_digests(r, request_keys, &m->n_keys);
    pc_reader_close(r, n_unknown);
}

void pc_write_read(struct pc_writer *w, const struct pc_msg_read *m)
{
    check_count(w, m->n_keys, request_keys);
    pc_writer_array(w, 3);
    pc_writer_number(w, m->flags, PC_READ_CHECKSUM);
    pc_writer_records(w, m->records, m->n_keys);
    pc_writer_u64(w, m->wait_ns);
}

void pc_read_read(struct pc_reader *r, struct pc_msg_read *m)
{
    uint32_t n_unknown = pc_reader_open(r, 3);

    m->flags = (uint32_t)pc_reader_number(r, PC_READ_CHECKSUM);
    m->records = pc_reader_records(r, request_keys, &m->n_keys);
    m->wait_ns = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_pages(struct pc_writer *w, const struct pc_msg_pages *m)
{
    check_count(w, m->n_keys, answer_keys);
    pc_writer_array(w, 5);
    pc_writer_u64(w, m->incarnation);
    pc_writer_statuses(w, m->statuses, m->n_keys);
    pc_writer_u64s(w, m->generations, m->n_keys);
    pc_writer_u64s(w, m->lengths, m->n_keys);
    pc_writer_u64s(w, m->checksums, m->n_keys);
}

void pc_read_pages(struct pc_reader *r, struct pc_msg_pages *m)
{
    uint32_t n_unknown = pc_reader_open(r, 5);

    m->incarnation = pc_reader_u64(r);
    m->statuses = pc_reader_statuses(r, &m->n_keys);
    struct pc_bounds same = {m->n_keys, m->n_keys};
    m->generations = pc_reader_u64s(r, same);
    m->lengths = pc_reader_u64s(r, same);
    m->checksums = pc_reader_u64s(r, same);
    pc_reader_close(r, n_unknown);
}

void pc_write_promoted(struct pc_writer *w, const struct pc_msg_promoted *m)
{
    check_count(w, m->n_keys, answer_keys);
    if (m->n_records > m->n_keys) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
    pc_writer_array(w, 2);
    pc_writer_statuses(w, m->statuses, m->n_keys);
    pc_writer_records(w, m->records, m->n_records);
}

/* One record for each key that is OK, or the lists would not match. */
static bool fits(const struct pc_msg_promoted *m)
{
    uint32_t n_ok = 0;
    for (uint32_t i = 0; i < m->n_keys; i++) {
        n_ok += m->statuses[i] == PEERCACHE_OK;
    }
    return n_ok == m->n_records;
}

void pc_read_promoted(struct pc_reader *r, struct pc_msg_promoted *m)
{
    uint32_t n_unknown = pc_reader_open(r, 2);

    m->statuses = pc_reader_statuses(r, &m->n_keys);
    m->records =
        pc_reader_records(r, (struct pc_bounds){0, m->n_keys}, &m->n_records);
    if (r->status == PEERCACHE_OK && !fits(m)) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    pc_reader_close(r, n_unknown);
}

void pc_write_why(struct pc_writer *w, const struct pc_msg_why *m)
{
    pc_writer_array(w, 1);
    pc_writer_digests(w, &m->digest, 1);
}

void pc_read_why(struct pc_reader *r, struct pc_msg_why *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);
    uint32_t n;
    const struct pc_digest *digest =
        pc_reader_digests(r, (struct pc_bounds){1, 1}, &n);

    if (r->status != PEERCACHE_OK) {
        return;
    }
    m->digest = *digest;
    pc_reader_close(r, n_unknown);
}

void pc_write_because(struct pc_writer *w, const struct pc_msg_because *m)
{
    check_count(w, m->n_records, why_records);
    pc_writer_array(w, 11);
    pc_writer_u64(w, m->view);
    pc_writer_bool(w, m->owner);
    pc_writer_bool(w, m->held);
    pc_writer_bool(w, m->published);
    pc_writer_u64(w, m->generation);
    pc_writer_u64(w, m->length);
    pc_writer_u64(w, m->checksum);
    pc_writer_bytes(w, m->dead, m->n_records, 1);
    pc_writer_records(w, m->records, m->n_records);
    pc_write_members(w, m->holders, m->n_holders);
    pc_writer_bool(w, m->on_disk);
}

void pc_read_because(struct pc_reader *r, struct pc_msg_because *m)
{
    uint32_t n_unknown = pc_reader_open(r, 11);
    uint32_t n;

    m->view = pc_reader_u64(r);
    m->owner = pc_reader_bool(r);
    m->held = pc_reader_bool(r);
    m->published = pc_reader_bool(r);
    m->generation = pc_reader_u64(r);
    m->length = pc_reader_u64(r);
    m->checksum = pc_reader_u64(r);
    m->dead = pc_reader_bytes(r, why_records, 1, &n);
    m->records = pc_reader_records(r, (struct pc_bounds){n, n}, &m->n_records);
    m->holders = pc_read_members(r, &m->n_holders);
    m->on_disk = pc_reader_bool(r);
    pc_reader_close(r, n_unknown);
}
