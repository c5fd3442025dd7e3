/*
 * What holders and owners tell each other to compare their records.
 */
#include "codec.h"

static const struct pc_bounds some_keys = {1, PC_KEYS_PER_REQUEST};
static const struct pc_bounds any_keys = {0, PC_KEYS_PER_REQUEST};

void pc_write_summary(struct pc_writer *w, const struct pc_msg_summary *m)
{
    pc_writer_array(w, 4);
    pc_writer_u64(w, m->view);
    pc_writer_u64(w, m->highest);
    pc_writer_u64(w, m->count);
    pc_writer_u64(w, m->hash);
}

void pc_read_summary(struct pc_reader *r, struct pc_msg_summary *m)
{
    uint32_t n_unknown = pc_reader_open(r, 4);

    m->view = pc_reader_u64(r);
    m->highest = pc_reader_u64(r);
    m->count = pc_reader_u64(r);
    m->hash = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

/* Sums come with DIFFERENT, and only then. */
static uint32_t ranges_of(uint8_t state)
{
    return state == PC_SUMMARY_DIFFERENT ? PC_SUMMARY_RANGES : 0;
}

void pc_write_summarized(struct pc_writer *w, const struct pc_msg_summarized *m)
{
    if (m->n_ranges != ranges_of(m->state)) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_array(w, 4);
    pc_writer_u64(w, m->view);
    pc_writer_number(w, m->state, PC_SUMMARY_WAIT);
    pc_writer_u64s(w, m->counts, m->n_ranges);
    pc_writer_u64s(w, m->hashes, m->n_ranges);
}

void pc_read_summarized(struct pc_reader *r, struct pc_msg_summarized *m)
{
    uint32_t n_unknown = pc_reader_open(r, 4);

    m->view = pc_reader_u64(r);
    m->state = (uint8_t)pc_reader_number(r, PC_SUMMARY_WAIT);
    m->n_ranges = ranges_of(m->state);
    struct pc_bounds bounds = {m->n_ranges, m->n_ranges};
    m->counts = pc_reader_u64s(r, bounds);
    m->hashes = pc_reader_u64s(r, bounds);
    pc_reader_close(r, n_unknown);
}

void pc_write_list(struct pc_writer *w, const struct pc_msg_list *m)
{
    pc_writer_array(w, 4);
    pc_writer_u64(w, m->view);
    pc_writer_u64(w, m->highest);
    pc_writer_number(w, m->range, PC_SUMMARY_RANGES - 1);
    pc_writer_u64(w, m->from);
}

void pc_read_list(struct pc_reader *r, struct pc_msg_list *m)
{
    uint32_t n_unknown = pc_reader_open(r, 4);

    m->view = pc_reader_u64(r);
    m->highest = pc_reader_u64(r);
    m->range = (uint8_t)pc_reader_number(r, PC_SUMMARY_RANGES - 1);
    m->from = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_listed(struct pc_writer *w, const struct pc_msg_listed *m)
{
    if (m->n_keys > any_keys.max || m->state == PC_SUMMARY_SAME) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
    pc_writer_array(w, 5);
    pc_writer_u64(w, m->view);
    pc_writer_number(w, m->state, PC_SUMMARY_OTHER_VIEW);
    pc_writer_u64(w, m->next);
    pc_writer_digests(w, m->digests, m->n_keys);
    pc_writer_u64s(w, m->generations, m->n_keys);
}

void pc_read_listed(struct pc_reader *r, struct pc_msg_listed *m)
{
    uint32_t n_unknown = pc_reader_open(r, 5);

    m->view = pc_reader_u64(r);
    m->state = (uint8_t)pc_reader_number(r, PC_SUMMARY_OTHER_VIEW);
    if (r->status == PEERCACHE_OK && m->state == PC_SUMMARY_SAME) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
        return;
    }
    m->next = pc_reader_u64(r);
    m->digests = pc_reader_digests(r, any_keys, &m->n_keys);
    m->generations =
        pc_reader_u64s(r, (struct pc_bounds){m->n_keys, m->n_keys});
    pc_reader_close(r, n_unknown);
}

void pc_write_stale(struct pc_writer *w, const struct pc_msg_stale *m)
{
    if (m->n_keys < some_keys.min || m->n_keys > some_keys.max) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
    pc_writer_array(w, 1);
    pc_writer_records(w, m->records, m->n_keys);
}

void pc_read_stale(struct pc_reader *r, struct pc_msg_stale *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->records = pc_reader_records(r, some_keys, &m->n_keys);
    pc_reader_close(r, n_unknown);
}
