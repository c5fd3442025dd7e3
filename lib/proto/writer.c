#include "writer.h"

#include "base/mem.h"
#include "wire.h"

#include <string.h>

#include <msgpack/pack.h>

#define CAPACITY_FIRST 256u

void pc_writer_init(struct pc_writer *w)
{
    memset(w, 0, sizeof(*w));
    w->status = PEERCACHE_OK;
}

void pc_writer_fini(struct pc_writer *w)
{
    pc_free(w->bytes);
    w->bytes = NULL;
}

void pc_writer_fail(struct pc_writer *w, peercache_status_t status)
{
    if (w->status == PEERCACHE_OK) {
        w->status = status;
    }
}

static bool grow(struct pc_writer *w, size_t needed)
{
    size_t capacity = w->capacity != 0 ? w->capacity : CAPACITY_FIRST;

    while (capacity < needed) {
        capacity *= 2;
    }
    uint8_t *bytes = pc_realloc(w->bytes, capacity, 1);
    if (bytes == NULL) {
        pc_writer_fail(w, PEERCACHE_NO_MEMORY);
        return false;
    }
    w->bytes = bytes;
    w->capacity = capacity;
    return true;
}

uint8_t *pc_writer_space(struct pc_writer *w, size_t len)
{
    if (w->status != PEERCACHE_OK) {
        return NULL;
    }
    if (len > PC_HEAD_MAX - w->len) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return NULL;
    }
    if (len > w->capacity - w->len && !grow(w, w->len + len)) {
        return NULL;
    }
    uint8_t *space = w->bytes + w->len;
    w->len += len;
    return space;
}

/* msgpack's packer writes to us, so that limit and allocator are ours. */
static int on_write(void *data, const char *bytes, size_t len)
{
    uint8_t *space = pc_writer_space(data, len);

    if (space == NULL) {
        return -1;
    }
    memcpy(space, bytes, len);
    return 0;
}

static inline msgpack_packer packer(struct pc_writer *w)
{
    return (msgpack_packer){.data = w, .callback = on_write};
}

/* The packer's results say nothing that the status does not remember. */

void pc_writer_array(struct pc_writer *w, size_t n)
{
    msgpack_packer pk = packer(w);

    (void)msgpack_pack_array(&pk, n);
}

void pc_writer_number(struct pc_writer *w, uint64_t number, uint64_t max)
{
    msgpack_packer pk = packer(w);

    if (number > max) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
    (void)msgpack_pack_uint64(&pk, number);
}

void pc_writer_u64(struct pc_writer *w, uint64_t number)
{
    pc_writer_number(w, number, UINT64_MAX);
}

void pc_writer_bool(struct pc_writer *w, bool value)
{
    msgpack_packer pk = packer(w);

    (void)(value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk));
}

void pc_writer_error(struct pc_writer *w, int32_t status)
{
    msgpack_packer pk = packer(w);

    if (status >= 0 || !pc_wire_is_status(status)) {
        pc_writer_fail(w, PEERCACHE_INVALID);
    }
    (void)msgpack_pack_int32(&pk, status);
}

void pc_writer_text(struct pc_writer *w, const char *text, size_t size)
{
    msgpack_packer pk = packer(w);
    size_t len = strnlen(text, size);

    if (len == size) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    (void)msgpack_pack_str(&pk, len);
    (void)msgpack_pack_str_body(&pk, text, len);
}

uint8_t *pc_writer_packed(struct pc_writer *w, size_t item_size, size_t n)
{
    msgpack_packer pk = packer(w);

    (void)msgpack_pack_bin(&pk, n * item_size);
    return n != 0 ? pc_writer_space(w, n * item_size) : NULL;
}

void pc_writer_blob(struct pc_writer *w, struct pc_blob blob, size_t max)
{
    if (blob.len > max) {
        pc_writer_fail(w, PEERCACHE_INVALID);
        return;
    }
    uint8_t *space = pc_writer_packed(w, 1, blob.len);
    if (space != NULL) {
        memcpy(space, blob.data, blob.len);
    }
}

void pc_writer_bytes(struct pc_writer *w, const uint8_t *bytes, uint32_t n,
                     uint8_t value_max)
{
    uint8_t *space = pc_writer_packed(w, 1, n);

    if (space == NULL) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (bytes[i] > value_max) {
            pc_writer_fail(w, PEERCACHE_INVALID);
        }
        space[i] = bytes[i];
    }
}

void pc_writer_statuses(struct pc_writer *w, const int8_t *statuses, uint32_t n)
{
    uint8_t *space = pc_writer_packed(w, 1, n);

    if (space == NULL) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pc_wire_is_status(statuses[i])) {
            pc_writer_fail(w, PEERCACHE_INVALID);
        }
        space[i] = (uint8_t)statuses[i];
    }
}

void pc_writer_u64s(struct pc_writer *w, const uint64_t *numbers, uint32_t n)
{
    uint8_t *space = pc_writer_packed(w, 8, n);

    for (uint32_t i = 0; space != NULL && i < n; i++) {
        pc_wire_put64(space + 8 * (size_t)i, numbers[i]);
    }
}

void pc_writer_digests(struct pc_writer *w, const struct pc_digest *digests,
                       uint32_t n)
{
    uint8_t *space = pc_writer_packed(w, 16, n);

    for (uint32_t i = 0; space != NULL && i < n; i++) {
        pc_wire_put64(space + 16 * (size_t)i, digests[i].lo);
        pc_wire_put64(space + 16 * (size_t)i + 8, digests[i].hi);
    }
}

void pc_writer_records(struct pc_writer *w, const struct pc_record *records,
                       uint32_t n)
{
    uint8_t *space = pc_writer_packed(w, PC_RECORD_SIZE, n);

    if (space == NULL) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pc_record_is_valid(&records[i])) {
            pc_writer_fail(w, PEERCACHE_INVALID);
        }
        pc_record_encode(&records[i], space + PC_RECORD_SIZE * (size_t)i);
    }
}
