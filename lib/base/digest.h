/*
 * digest.h - names and checksums, by xxHash. Any thread.
 *
 * The digest of a key is XXH3-128 over (length of the namespace as le32,
 * namespace, key) with a seed derived from the cluster's name and salt. It is
 * documented and has test vectors: two programs that agree on these inputs
 * agree on the digest, whatever machine they run on.
 */
#ifndef PC_BASE_DIGEST_H
#define PC_BASE_DIGEST_H

#include <peercache/peercache.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_digest
{
    uint64_t lo;
    uint64_t hi;
};

static inline bool pc_digest_equal(struct pc_digest a, struct pc_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static inline int pc_digest_compare(struct pc_digest a, struct pc_digest b)
{
    if (a.hi != b.hi) {
        return a.hi < b.hi ? -1 : 1;
    }
    return a.lo == b.lo ? 0 : (a.lo < b.lo ? -1 : 1);
}

/* XXH3-64 over (length of the name as le32, name, salt). */
uint64_t pc_digest_seed(const char *cluster_name, const char *salt);
/* The seed for keys under a prefix: XXH3-64 of it with the cluster's seed; an
 * empty one (or NULL) changes nothing. */
uint64_t pc_digest_seed_prefixed(uint64_t seed, const char *prefix);
struct pc_digest pc_digest_key(uint64_t seed, const void *name_space,
                               size_t name_space_len, const void *key,
                               size_t key_len);
/* XXH3-64 of bytes, for identities and hashes inside the library. */
uint64_t pc_hash64(const void *data, size_t len, uint64_t seed);

/* Checksum of a value: XXH3-64 over its bytes in order. */
uint64_t pc_checksum(const void *data, size_t len);
uint64_t pc_checksum_pieces(const peercache_piece_t *pieces, size_t n_pieces);
/* The same over bytes that come in parts. */
struct pc_checksum_parts
{
    _Alignas(64) unsigned char state[576];
};
void pc_checksum_begin(struct pc_checksum_parts *parts);
void pc_checksum_add(struct pc_checksum_parts *parts, const void *data,
                     size_t len);
uint64_t pc_checksum_end(const struct pc_checksum_parts *parts);
/* Copy the pieces in order to `to` and return their checksum; hashes each part
 * while it is still in cache. `to` has room for all. */
uint64_t pc_copy_checksum(void *to, const peercache_piece_t *pieces,
                          size_t n_pieces);

#endif /* PC_BASE_DIGEST_H */
