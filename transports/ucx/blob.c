#include "blob.h"

#include "base/digest.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define HELLO_MAGIC    0x48554350u /* "PCUH" */
#define REGION_MAGIC   0x52554350u /* "PCUR" */
#define LAYOUT_VERSION 1u

/* In front of both blobs. */
struct wire_head
{
    uint32_t magic;
    uint16_t version;
    uint16_t len_a; /* Of the first opaque part, behind the fixed one. */
    uint16_t len_b; /* Of the second. */
    uint16_t pad[3];
    uint64_t checksum; /* XXH3-64 of the whole blob with 0 in this place. */
};

struct wire_hello
{
    struct wire_head head;
    uint16_t ucx_version[3];
    uint16_t loopback;
    uint64_t map_domain;
    uint64_t boot;
    uint64_t net;
    uint64_t probe_addr;
    uint64_t probe_value;
};

struct wire_region
{
    struct wire_head head;
    uint64_t addr;
    uint64_t len;
};

static_assert(sizeof(struct wire_head) == 24, "no hidden padding");
static_assert(sizeof(struct wire_hello) == 72, "no hidden padding");
static_assert(sizeof(struct wire_region) == 40, "no hidden padding");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the layout is little-endian");

/* Fixed part, then a, then b; the checksum goes in last. */
static struct pc_blob pack(const void *fixed, size_t fixed_len, uint32_t magic,
                           struct pc_blob a, struct pc_blob b)
{
    struct pc_blob none = {NULL, 0};
    if (a.len > PC_UCX_OPAQUE_MAX || b.len > PC_UCX_OPAQUE_MAX) {
        return none;
    }
    size_t len = fixed_len + a.len + b.len;
    unsigned char *bytes = pc_alloc(len, 1);
    if (bytes == NULL) {
        return none;
    }
    memcpy(bytes, fixed, fixed_len);
    if (a.len > 0) {
        memcpy(bytes + fixed_len, a.data, a.len);
    }
    if (b.len > 0) {
        memcpy(bytes + fixed_len + a.len, b.data, b.len);
    }
    struct wire_head head = {.magic = magic,
                             .version = LAYOUT_VERSION,
                             .len_a = (uint16_t)a.len,
                             .len_b = (uint16_t)b.len};
    memcpy(bytes, &head, sizeof(head));
    head.checksum = pc_hash64(bytes, len, magic);
    memcpy(bytes, &head, sizeof(head));
    return (struct pc_blob){bytes, len};
}

/* The checksum as the packer computed it: in pieces, with 0 in its own place,
 * would need a streaming hash; blobs are small and rare, so copy. */
static bool checksum_fits(struct pc_blob blob, struct wire_head head)
{
    unsigned char *copy = pc_alloc(blob.len, 1);
    if (copy == NULL) {
        return false;
    }
    uint64_t wanted = head.checksum;
    head.checksum = 0;
    memcpy(copy, blob.data, blob.len);
    memcpy(copy, &head, sizeof(head));
    bool fits = pc_hash64(copy, blob.len, head.magic) == wanted;
    pc_free(copy);
    return fits;
}

static peercache_status_t unpack(struct pc_blob blob, void *fixed,
                                 size_t fixed_len, uint32_t magic,
                                 struct pc_blob *a_p, struct pc_blob *b_p)
{
    struct wire_head head;
    if (blob.data == NULL || blob.len < sizeof(head)) {
        return PEERCACHE_PROTOCOL;
    }
    memcpy(&head, blob.data, sizeof(head));
    if (head.magic != magic) {
        return PEERCACHE_PROTOCOL;
    }
    if (head.version != LAYOUT_VERSION) {
        return PEERCACHE_VERSION;
    }
    if (head.len_a > PC_UCX_OPAQUE_MAX || head.len_b > PC_UCX_OPAQUE_MAX ||
        blob.len != fixed_len + head.len_a + head.len_b ||
        !checksum_fits(blob, head)) {
        return PEERCACHE_PROTOCOL;
    }
    const unsigned char *bytes = blob.data;
    memcpy(fixed, bytes, fixed_len);
    *a_p = (struct pc_blob){bytes + fixed_len, head.len_a};
    *b_p = (struct pc_blob){bytes + fixed_len + head.len_a, head.len_b};
    return PEERCACHE_OK;
}

struct pc_blob pc_ucx_hello_pack(const struct pc_ucx_hello *hello)
{
    struct wire_hello wire = {.loopback = hello->loopback,
                              .map_domain = hello->map_domain,
                              .boot = hello->boot,
                              .net = hello->net,
                              .probe_addr = hello->probe_addr,
                              .probe_value = hello->probe_value};
    memcpy(wire.ucx_version, hello->ucx_version, sizeof(wire.ucx_version));
    return pack(&wire, sizeof(wire), HELLO_MAGIC, hello->worker,
                hello->probe_rkey);
}

peercache_status_t pc_ucx_hello_unpack(struct pc_blob blob,
                                       struct pc_ucx_hello *hello_p)
{
    struct wire_hello wire;
    struct pc_blob worker;
    struct pc_blob rkey;
    peercache_status_t status =
        unpack(blob, &wire, sizeof(wire), HELLO_MAGIC, &worker, &rkey);
    if (status != PEERCACHE_OK) {
        return status;
    }
    memcpy(hello_p->ucx_version, wire.ucx_version, sizeof(wire.ucx_version));
    hello_p->loopback = wire.loopback;
    hello_p->map_domain = wire.map_domain;
    hello_p->boot = wire.boot;
    hello_p->net = wire.net;
    hello_p->probe_addr = wire.probe_addr;
    hello_p->probe_value = wire.probe_value;
    hello_p->worker = worker;
    hello_p->probe_rkey = rkey;
    return PEERCACHE_OK;
}

struct pc_blob pc_ucx_region_pack(const struct pc_ucx_region *region)
{
    struct wire_region wire = {.addr = region->addr, .len = region->len};
    return pack(&wire, sizeof(wire), REGION_MAGIC, region->map_rkey,
                region->get_rkey);
}

peercache_status_t pc_ucx_region_unpack(struct pc_blob blob,
                                        struct pc_ucx_region *region_p)
{
    struct wire_region wire;
    struct pc_blob map_rkey;
    struct pc_blob get_rkey;
    peercache_status_t status =
        unpack(blob, &wire, sizeof(wire), REGION_MAGIC, &map_rkey, &get_rkey);
    if (status != PEERCACHE_OK) {
        return status;
    }
    if (wire.len == 0 || wire.addr > UINT64_MAX - wire.len) {
        return PEERCACHE_PROTOCOL;
    }
    region_p->addr = wire.addr;
    region_p->len = wire.len;
    region_p->map_rkey = map_rkey;
    region_p->get_rkey = get_rkey;
    return PEERCACHE_OK;
}
