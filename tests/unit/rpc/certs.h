/*
 * unit/rpc/certs.h: authorities and certificates, made as a test needs them, in its folder.
 * The names of the files are good as long as the folder is; certs_remove() empties it.
 */
#ifndef TESTS_RPC_CERTS_H
#define TESTS_RPC_CERTS_H

#include <stddef.h>

#define CERTS_PATH 192

struct certs_pair {
	char cert[CERTS_PATH], key[CERTS_PATH];
};

/* An authority: signs itself. */
void certs_authority(const char *folder, const char *name, struct certs_pair *);

/* Signed by ${ca}. ${names} as X509v3 has them: "DNS:host,IP:127.0.0.1"; good from now for
 * ${seconds}, or until that long ago if it is negative. */
void certs_issue(const char *folder, const char *name, const struct certs_pair *ca,
    const char *names, long seconds, struct certs_pair *);

void certs_remove(const struct certs_pair *);

#endif
