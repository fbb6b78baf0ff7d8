/*
 * rpc/ssh_key_file.h: private keys, as OpenSSH writes them into files
 * ("-----BEGIN OPENSSH PRIVATE KEY-----", PROTOCOL.key), without a passphrase.
 *
 * Ed25519 only: the keys of sessions and of the host, which are made here. Any thread.
 */
#ifndef RPC_SSH_KEY_FILE_H
#define RPC_SSH_KEY_FILE_H

#include <stddef.h>

#include "base/err.h"
#include "rpc/ssh_key.h"

#define SSH_KEY_FILE_SIZE 640 /* of the text, with the NUL */

/* A new pair. Whoever has the text has the key: the caller wipes it. */
int ssh_key_file_make(const char *comment, char text[static SSH_KEY_FILE_SIZE],
    struct ssh_key *public_key, struct err *);

/* The public half of a file. INVALID_ARGUMENT: it is none of an Ed25519 key, it has a
 * passphrase, or its halves do not belong together. */
int ssh_key_file_read(const char *text, size_t len, struct ssh_key *public_key, struct err *);

#endif
