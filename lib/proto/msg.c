#include "msg.h"

#include "codec.h"
#include "reader.h"
#include "wire.h"
#include "writer.h"

#include <string.h>

/* Offsets in the header. */
#define AT_VERSION 4
#define AT_TYPE    5
#define AT_ZERO    6
#define AT_REQUEST 8
#define AT_LENGTH  16

static const uint8_t magic[4] = {'P', 'C', 'M', '1'};

const char *pc_msg_name(enum pc_msg_type type)
{
    switch (type) {
#define PC_MSG_NAME(name, value, suffix)                                       \
    case PC_MSG_##name:                                                        \
        return #name;
        PC_MSG_MAP(PC_MSG_NAME)
#undef PC_MSG_NAME
    }
    return "UNKNOWN"; /* A peer of another version may send any number. */
}

static void write_body(struct pc_writer *w, const struct pc_msg *msg)
{
    switch (msg->type) {
#define PC_MSG_WRITE(name, value, suffix)                                      \
    case PC_MSG_##name:                                                        \
        pc_write_##suffix(w, &msg->u.suffix);                                  \
        return;
        PC_MSG_MAP(PC_MSG_WRITE)
#undef PC_MSG_WRITE
    }
    pc_writer_fail(w, PEERCACHE_INVALID);
}

static void read_body(struct pc_reader *r, struct pc_msg *msg)
{
    switch (msg->type) {
#define PC_MSG_READ_BODY(name, value, suffix)                                  \
    case PC_MSG_##name:                                                        \
        pc_read_##suffix(r, &msg->u.suffix);                                   \
        return;
        PC_MSG_MAP(PC_MSG_READ_BODY)
#undef PC_MSG_READ_BODY
    }
    pc_reader_fail(r, PEERCACHE_PROTOCOL);
}

static void fill_header(uint8_t *header, const struct pc_msg *msg, size_t len)
{
    memcpy(header, magic, sizeof(magic));
    header[AT_VERSION] = PC_PROTOCOL_VERSION;
    header[AT_TYPE] = (uint8_t)msg->type;
    pc_wire_put16(header + AT_ZERO, 0);
    pc_wire_put64(header + AT_REQUEST, msg->request);
    pc_wire_put32(header + AT_LENGTH, (uint32_t)(len - PC_MSG_HEADER_SIZE));
}

peercache_status_t pc_msg_encode(const struct pc_msg *msg, uint8_t **bytes_p,
                                 size_t *len_p)
{
    struct pc_writer w;

    pc_writer_init(&w);
    (void)pc_writer_space(&w, PC_MSG_HEADER_SIZE);
    write_body(&w, msg);
    if (w.status != PEERCACHE_OK) {
        pc_writer_fini(&w);
        return w.status;
    }
    fill_header(w.bytes, msg, w.len);
    *bytes_p = w.bytes;
    *len_p = w.len;
    return PEERCACHE_OK;
}

/* Also for other versions: the header's first 16 bytes never change. */
static peercache_status_t read_header(struct pc_blob bytes, struct pc_msg *msg)
{
    const uint8_t *header = bytes.data;

    if (bytes.len < PC_MSG_HEADER_SIZE || bytes.len > PC_HEAD_MAX ||
        memcmp(header, magic, sizeof(magic)) != 0) {
        return PEERCACHE_PROTOCOL;
    }
    msg->type = (enum pc_msg_type)header[AT_TYPE];
    msg->request = pc_wire_get64(header + AT_REQUEST);
    if (header[AT_VERSION] != PC_PROTOCOL_VERSION) {
        return PEERCACHE_VERSION;
    }
    if (pc_wire_get16(header + AT_ZERO) != 0 ||
        pc_wire_get32(header + AT_LENGTH) != bytes.len - PC_MSG_HEADER_SIZE) {
        return PEERCACHE_PROTOCOL;
    }
    return PEERCACHE_OK;
}

peercache_status_t pc_msg_decode(struct pc_blob bytes, struct pc_arena *arena,
                                 struct pc_msg *msg)
{
    memset(msg, 0, sizeof(*msg));
    peercache_status_t status = read_header(bytes, msg);
    if (status != PEERCACHE_OK) {
        return status;
    }
    struct pc_blob body = {(const uint8_t *)bytes.data + PC_MSG_HEADER_SIZE,
                           bytes.len - PC_MSG_HEADER_SIZE};
    struct pc_reader r;
    pc_reader_init(&r, body, arena);
    read_body(&r, msg);
    if (r.status == PEERCACHE_OK && r.at != body.len) {
        pc_reader_fail(&r, PEERCACHE_PROTOCOL);
    }
    if (r.status != PEERCACHE_OK) {
        /* Nobody shall use half a message. */
        memset(&msg->u, 0, sizeof(msg->u));
    }
    return r.status;
}
