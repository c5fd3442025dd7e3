/*
 * frame.h - what stands before a message's bytes on a stream.
 *
 * Every message is a prefix of 16 bytes {magic le32, head length le32, body
 * length le64}, its head, its body. The first frame of a connection is the
 * initiator's preamble: a prefix without a body whose head {magic le32,
 * version, class, 0, 0} says what the connection is for. Pure functions.
 */
#ifndef PC_SOCKET_FRAME_H
#define PC_SOCKET_FRAME_H

#include "seam/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PC_FRAME_PREFIX_LEN   16
#define PC_FRAME_GREETING_LEN 8 /* The head of the preamble. */
#define PC_FRAME_PREAMBLE_LEN (PC_FRAME_PREFIX_LEN + PC_FRAME_GREETING_LEN)
#define PC_FRAME_BODY_MAX     (4ull << 30)

struct pc_frame_prefix
{
    uint32_t head_len;
    uint64_t body_len;
};

void pc_frame_put_prefix(uint8_t *out, const struct pc_frame_prefix *prefix);
/* False: not a prefix, or lengths beyond the limits. */
bool pc_frame_get_prefix(const uint8_t *in, size_t head_max,
                         struct pc_frame_prefix *prefix_p);

/* PC_FRAME_PREAMBLE_LEN bytes. */
void pc_frame_put_preamble(uint8_t *out, enum pc_link_class cls);
/* PC_FRAME_GREETING_LEN bytes; false: not one, or of another version. */
bool pc_frame_get_greeting(const uint8_t *in, enum pc_link_class *cls_p);

#endif /* PC_SOCKET_FRAME_H */
