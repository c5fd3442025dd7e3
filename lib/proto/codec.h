/*
 * codec.h - one writer and one reader for each struct of msg.h; inside proto
 * only.
 *
 * A reader gets a cleared struct and fills it field by field, in the order in
 * which its writer wrote them; order and number of fields are the protocol.
 */
#ifndef PC_PROTO_CODEC_H
#define PC_PROTO_CODEC_H

#include "msg.h"
#include "reader.h"
#include "writer.h"

#define PC_MSG_CODEC(name, value, suffix)                                      \
    void pc_write_##suffix(struct pc_writer *w,                                \
                           const struct pc_msg_##suffix *m);                   \
    void pc_read_##suffix(struct pc_reader *r, struct pc_msg_##suffix *m);
PC_MSG_MAP(PC_MSG_CODEC)
#undef PC_MSG_CODEC

/* Least bytes of a member: header and nine fields, one of them an id. */
#define PC_MEMBER_BYTES_MIN 11u

void pc_write_member(struct pc_writer *w, const struct pc_member *m);
void pc_read_member(struct pc_reader *r, struct pc_member *m);
void pc_write_members(struct pc_writer *w, const struct pc_member *members,
                      uint32_t n);
struct pc_member *pc_read_members(struct pc_reader *r, uint32_t *n_p);
/* An id: 1..128 characters that pc_node_id_is_valid allows. */
void pc_write_id(struct pc_writer *w, const struct pc_node_id *id);
void pc_read_id(struct pc_reader *r, struct pc_node_id *id);

#endif /* PC_PROTO_CODEC_H */
