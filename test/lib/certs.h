/*
 * certs.h - certificates for tests, made by the openssl program in a folder of
 * their own: an authority, and what it signed.
 */
#ifndef PC_TEST_CERTS_H
#define PC_TEST_CERTS_H

#include "seam/link.h"

#define CERTS_NAME "peercache"

/*
 * Files <name>.pem and <name>.key: "ca" and "other" are authorities; "node" is
 * good, "expired" was, "stranger" is made out to another name, "foreign" was
 * signed by the other authority, "server" and "client" are good for one end of
 * a connection only, "slow" has a long RSA key. The folder is a new one below
 * /tmp. False: it cannot be done here.
 */
bool certs_make(char *folder, size_t len);
void certs_remove(const char *folder);
/* The link's view of one of them, trusting ca; its texts live until
 * certs_remove. */
void certs_tls(const char *folder, const char *name, struct pc_link_tls *tls);

#endif /* PC_TEST_CERTS_H */
