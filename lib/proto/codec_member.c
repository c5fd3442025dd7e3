/*
 * What is said of nodes: members, tables of them, regions, HELLO, BEAT, and
 * the plain messages that end or probe a connection.
 */
#include "codec.h"

#define REGION_BYTES_MIN 8u /* Header and seven fields. */

void pc_write_id(struct pc_writer *w, const struct pc_node_id *id)
{
    if (!pc_node_id_is_valid(id->text)) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_text(w, id->text, sizeof(id->text));
}

void pc_read_id(struct pc_reader *r, struct pc_node_id *id)
{
    pc_reader_text(r, id->text, sizeof(id->text));
    if (!pc_node_id_is_valid(id->text)) {
        pc_reader_fail(r, PEERCACHE_PROTOCOL);
    }
}

void pc_write_member(struct pc_writer *w, const struct pc_member *m)
{
    pc_writer_array(w, 9);
    pc_write_id(w, &m->id);
    pc_writer_u64(w, m->incarnation);
    pc_writer_u64(w, m->epoch);
    pc_writer_u64(w, m->host);
    pc_writer_text(w, m->address, sizeof(m->address));
    pc_writer_number(w, m->state, PC_MEMBER_DEAD);
    pc_writer_number(w, m->role, PC_ROLE_CLIENT);
    pc_writer_bool(w, m->republishing);
    pc_writer_u64(w, m->admission);
}

void pc_read_member(struct pc_reader *r, struct pc_member *m)
{
    uint32_t n_unknown = pc_reader_open(r, 9);

    pc_read_id(r, &m->id);
    m->incarnation = pc_reader_u64(r);
    m->epoch = pc_reader_u64(r);
    m->host = pc_reader_u64(r);
    pc_reader_text(r, m->address, sizeof(m->address));
    m->state = (uint8_t)pc_reader_number(r, PC_MEMBER_DEAD);
    m->role = (uint8_t)pc_reader_number(r, PC_ROLE_CLIENT);
    m->republishing = pc_reader_bool(r);
    m->admission = pc_reader_u32(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_members(struct pc_writer *w, const struct pc_member *members,
                      uint32_t n)
{
    if (n > PC_NODES_MAX) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_array(w, n);
    for (uint32_t i = 0; i < n; i++) {
        pc_write_member(w, &members[i]);
    }
}

struct pc_member *pc_read_members(struct pc_reader *r, uint32_t *n_p)
{
    uint32_t n = pc_reader_list(r, PC_NODES_MAX, PC_MEMBER_BYTES_MIN);
    struct pc_member *members = pc_reader_alloc(r, n, sizeof(*members));

    for (uint32_t i = 0; i < n && r->status == PEERCACHE_OK; i++) {
        pc_read_member(r, &members[i]);
    }
    *n_p = n;
    return members;
}

void pc_write_region(struct pc_writer *w, const struct pc_msg_region *m)
{
    pc_writer_array(w, 7);
    pc_writer_number(w, m->index, PC_REGIONS_MAX - 1);
    pc_writer_u64(w, m->n_slots);
    pc_writer_u64(w, m->base);
    pc_writer_u64(w, m->length);
    pc_writer_u64(w, m->nonce);
    pc_writer_u64(w, m->slots_offset);
    pc_writer_blob(w, m->rkey, PC_RKEY_MAX);
}

void pc_read_region(struct pc_reader *r, struct pc_msg_region *m)
{
    uint32_t n_unknown = pc_reader_open(r, 7);

    m->index = (uint32_t)pc_reader_number(r, PC_REGIONS_MAX - 1);
    m->n_slots = pc_reader_u32(r);
    m->base = pc_reader_u64(r);
    m->length = pc_reader_u64(r);
    m->nonce = pc_reader_u64(r);
    m->slots_offset = pc_reader_u64(r);
    m->rkey = pc_reader_blob(r, PC_RKEY_MAX);
    pc_reader_close(r, n_unknown);
}

static void write_regions(struct pc_writer *w,
                          const struct pc_msg_region *regions, uint32_t n)
{
    if (n > PC_REGIONS_MAX) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    pc_writer_array(w, n);
    for (uint32_t i = 0; i < n; i++) {
        pc_write_region(w, &regions[i]);
    }
}

static struct pc_msg_region *read_regions(struct pc_reader *r, uint32_t *n_p)
{
    uint32_t n = pc_reader_list(r, PC_REGIONS_MAX, REGION_BYTES_MIN);
    struct pc_msg_region *regions = pc_reader_alloc(r, n, sizeof(*regions));

    for (uint32_t i = 0; i < n && r->status == PEERCACHE_OK; i++) {
        pc_read_region(r, &regions[i]);
    }
    *n_p = n;
    return regions;
}

void pc_write_hello(struct pc_writer *w, const struct pc_msg_hello *m)
{
    pc_writer_array(w, 15);
    pc_writer_u64(w, m->protocol);
    pc_writer_u64(w, m->layout);
    pc_writer_u64(w, m->digest_version);
    pc_writer_u64(w, m->digest_seed_check);
    pc_writer_text(w, m->cluster_name, sizeof(m->cluster_name));
    pc_write_member(w, &m->self);
    pc_writer_number(w, m->cls, PC_LINK_BULK);
    pc_writer_u64(w, m->number);
    pc_writer_u64(w, m->vnodes);
    pc_writer_u64(w, m->directory_replicas);
    pc_writer_u64(w, m->max_masters);
    pc_writer_u64(w, m->member_ttl_ns);
    pc_writer_u64(w, m->domain);
    pc_writer_blob(w, m->fabric, PC_FABRIC_ADDR_MAX);
    write_regions(w, m->regions, m->n_regions);
}

void pc_read_hello(struct pc_reader *r, struct pc_msg_hello *m)
{
    uint32_t n_unknown = pc_reader_open(r, 15);

    m->protocol = pc_reader_u32(r);
    m->layout = pc_reader_u32(r);
    m->digest_version = pc_reader_u32(r);
    m->digest_seed_check = pc_reader_u64(r);
    pc_reader_text(r, m->cluster_name, sizeof(m->cluster_name));
    pc_read_member(r, &m->self);
    m->cls = (uint8_t)pc_reader_number(r, PC_LINK_BULK);
    m->number = pc_reader_u32(r);
    m->vnodes = pc_reader_u32(r);
    m->directory_replicas = pc_reader_u32(r);
    m->max_masters = pc_reader_u32(r);
    m->member_ttl_ns = pc_reader_u64(r);
    m->domain = pc_reader_u64(r);
    m->fabric = pc_reader_blob(r, PC_FABRIC_ADDR_MAX);
    m->regions = read_regions(r, &m->n_regions);
    pc_reader_close(r, n_unknown);
}

void pc_write_beat(struct pc_writer *w, const struct pc_msg_beat *m)
{
    pc_writer_array(w, 4);
    pc_write_member(w, &m->self);
    pc_writer_u64(w, m->view);
    pc_writer_u64(w, m->table);
    pc_writer_number(w, m->load, PC_LOAD_MAX);
}

void pc_read_beat(struct pc_reader *r, struct pc_msg_beat *m)
{
    uint32_t n_unknown = pc_reader_open(r, 4);

    pc_read_member(r, &m->self);
    m->view = pc_reader_u64(r);
    m->table = pc_reader_u64(r);
    m->load = (uint8_t)pc_reader_number(r, PC_LOAD_MAX);
    pc_reader_close(r, n_unknown);
}

void pc_write_reject(struct pc_writer *w, const struct pc_msg_reject *m)
{
    pc_writer_array(w, 2);
    pc_writer_error(w, m->status);
    pc_writer_text(w, m->reason, sizeof(m->reason));
}

void pc_read_reject(struct pc_reader *r, struct pc_msg_reject *m)
{
    uint32_t n_unknown = pc_reader_open(r, 2);

    m->status = pc_reader_error(r);
    pc_reader_text(r, m->reason, sizeof(m->reason));
    pc_reader_close(r, n_unknown);
}

void pc_write_failed(struct pc_writer *w, const struct pc_msg_failed *m)
{
    pc_writer_array(w, 2);
    pc_writer_error(w, m->status);
    pc_writer_text(w, m->reason, sizeof(m->reason));
}

void pc_read_failed(struct pc_reader *r, struct pc_msg_failed *m)
{
    uint32_t n_unknown = pc_reader_open(r, 2);

    m->status = pc_reader_error(r);
    pc_reader_text(r, m->reason, sizeof(m->reason));
    pc_reader_close(r, n_unknown);
}

void pc_write_ping(struct pc_writer *w, const struct pc_msg_ping *m)
{
    pc_writer_array(w, 1);
    pc_writer_u64(w, m->token);
}

void pc_read_ping(struct pc_reader *r, struct pc_msg_ping *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->token = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_probe(struct pc_writer *w, const struct pc_msg_probe *m)
{
    pc_writer_array(w, 1);
    pc_writer_u64(w, m->incarnation);
}

void pc_read_probe(struct pc_reader *r, struct pc_msg_probe *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->incarnation = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_drain(struct pc_writer *w, const struct pc_msg_drain *m)
{
    pc_writer_array(w, 1);
    pc_writer_u64(w, m->incarnation);
}

void pc_read_drain(struct pc_reader *r, struct pc_msg_drain *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->incarnation = pc_reader_u64(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_drained(struct pc_writer *w, const struct pc_msg_drained *m)
{
    pc_writer_array(w, 1);
    pc_writer_bool(w, m->done);
}

void pc_read_drained(struct pc_reader *r, struct pc_msg_drained *m)
{
    uint32_t n_unknown = pc_reader_open(r, 1);

    m->done = pc_reader_bool(r);
    pc_reader_close(r, n_unknown);
}

void pc_write_probed(struct pc_writer *w, const struct pc_msg_probed *m)
{
    pc_writer_array(w, 2);
    pc_writer_u64(w, m->incarnation);
    pc_writer_number(w, m->verdict, PC_PROBED_UNKNOWN);
}

void pc_read_probed(struct pc_reader *r, struct pc_msg_probed *m)
{
    uint32_t n_unknown = pc_reader_open(r, 2);

    m->incarnation = pc_reader_u64(r);
    m->verdict = (uint8_t)pc_reader_number(r, PC_PROBED_UNKNOWN);
    pc_reader_close(r, n_unknown);
}
