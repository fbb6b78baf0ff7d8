/*
 * gateway/ssh_host.h: the host key of the SSH endpoints: made once, and kept.
 */
#ifndef GATEWAY_SSH_HOST_H
#define GATEWAY_SSH_HOST_H

#include <stddef.h>

#include "base/err.h"
#include "rpc/ssh_key_file.h"

#define SSH_HOST_FILE_MAX 4096 /* bytes of the file */

struct ssh_host {
	char line[SSH_KEY_LINE_SIZE]; /* "ssh-ed25519 AAAA..." */
	char fingerprint[SSH_KEY_FINGERPRINT_SIZE];
};

/* Reads the private key at ${path}, and makes it if there is none: mode 0600, whole or not
 * at all. FAILED_PRECONDITION: others may read it. */
int ssh_host_open(struct ssh_host *, const char *path, struct err *);

/* The key as a file without a name, for a process that is to have it; -1 on error. */
int ssh_host_lend(const char *path, struct err *);

#endif
