/*
 * fuzz_msg.c - any bytes to pc_msg_decode: they decode or fail, and what
 * decodes encodes to bytes that decode and encode to themselves.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "proto/msg.h"

#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_canonical(const struct pc_msg *msg)
{
    struct pc_arena arena;
    struct pc_msg second;
    uint8_t *bytes;
    uint8_t *again;
    size_t len;
    size_t again_len;

    check(pc_msg_encode(msg, &bytes, &len) == PEERCACHE_OK);
    pc_arena_init(&arena, 0);
    check(pc_msg_decode((struct pc_blob){bytes, len}, &arena, &second) ==
          PEERCACHE_OK);
    check(pc_msg_encode(&second, &again, &again_len) == PEERCACHE_OK);
    check(again_len == len && memcmp(bytes, again, len) == 0);
    pc_free(again);
    pc_arena_fini(&arena);
    pc_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pc_arena arena;
    struct pc_msg msg;

    pc_arena_init(&arena, 0);
    peercache_status_t status =
        pc_msg_decode((struct pc_blob){data, size}, &arena, &msg);
    if (status == PEERCACHE_OK) {
        check_canonical(&msg);
    } else {
        check(status == PEERCACHE_PROTOCOL || status == PEERCACHE_VERSION ||
              status == PEERCACHE_NO_MEMORY);
    }
    pc_arena_fini(&arena);
    check(pc_mem_outstanding() == 0);
    return 0;
}
