#include "transports/socket/frame.h"

#include <string.h>

#define FRAME_MAGIC    0x314d4350u /* "PCM1" */
#define GREETING_MAGIC 0x314c4350u /* "PCL1" */
#define VERSION        1

static void put_le(uint8_t *out, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_le(const uint8_t *in, size_t n_bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        value |= (uint64_t)in[i] << (8 * i);
    }
    return value;
}

void pc_frame_put_prefix(uint8_t *out, const struct pc_frame_prefix *prefix)
{
    put_le(out, FRAME_MAGIC, 4);
    put_le(out + 4, prefix->head_len, 4);
    put_le(out + 8, prefix->body_len, 8);
}

bool pc_frame_get_prefix(const uint8_t *in, size_t head_max,
                         struct pc_frame_prefix *prefix_p)
{
    uint32_t head_len = (uint32_t)get_le(in + 4, 4);
    uint64_t body_len = get_le(in + 8, 8);
    if (get_le(in, 4) != FRAME_MAGIC || head_len > head_max ||
        body_len > PC_FRAME_BODY_MAX) {
        return false;
    }
    prefix_p->head_len = head_len;
    prefix_p->body_len = body_len;
    return true;
}

void pc_frame_put_preamble(uint8_t *out, enum pc_link_class cls)
{
    struct pc_frame_prefix prefix = {.head_len = PC_FRAME_GREETING_LEN};
    uint8_t *greeting = out + PC_FRAME_PREFIX_LEN;
    pc_frame_put_prefix(out, &prefix);
    put_le(greeting, GREETING_MAGIC, 4);
    greeting[4] = VERSION;
    greeting[5] = (uint8_t)cls;
    greeting[6] = 0;
    greeting[7] = 0;
}

bool pc_frame_get_greeting(const uint8_t *in, enum pc_link_class *cls_p)
{
    if (get_le(in, 4) != GREETING_MAGIC || in[4] != VERSION ||
        in[5] > PC_LINK_BULK || in[6] != 0 || in[7] != 0) {
        return false;
    }
    *cls_p = (enum pc_link_class)in[5];
    return true;
}
