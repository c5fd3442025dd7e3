/*
 * trust.h - what a node proves itself with, read from files and the
 * environment: the cluster's key, or certificates.
 *
 * A key text holds one or two keys, each a word of 32 to 1,024 printable
 * characters; lines that begin with # are comments. The first one is used to
 * connect, both are accepted: so keys can be changed one node after the other
 * (docs/security.md). Secrets are wiped as soon as the link has them.
 */
#ifndef PC_NODE_TRUST_H
#define PC_NODE_TRUST_H

#include "node/config.h"
#include "seam/link.h"

#define PC_KEY_LEN_MIN 32
#define PC_KEY_LEN_MAX 1024
#define PC_KEY_ENV     "PEERCACHE_CLUSTER_KEY"

struct pc_trust
{
    bool given; /* There is a key, or a certificate. */
    struct pc_link_tls tls;
    char reason[512]; /* Of a failure, here or in the link. */
    /* What tls points to. */
    char *texts[3];
    size_t lens[3];
};

/* INVALID: trust->reason names the setting, its value and what is wrong. */
peercache_status_t pc_trust_load(const struct pc_settings *settings,
                                 struct pc_trust *trust);
void pc_trust_wipe(struct pc_trust *trust);

/* Split a key text; false: reason says why, without the key. */
bool pc_trust_parse_keys(const char *text, size_t len,
                         struct pc_blob keys[PC_LINK_KEYS_MAX],
                         size_t *n_keys_p, char *reason, size_t reason_len);

#endif /* PC_NODE_TRUST_H */
