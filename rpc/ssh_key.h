/*
 * rpc/ssh_key.h: public keys as SSH and its files write them.
 *
 * Ed25519, ECDSA over the three NIST curves, and RSA of SSH_KEY_RSA_BITS_MIN and more.
 * Certificates, DSA and keys that live in a token are refused: what is compared is the
 * key itself. Any thread.
 */
#ifndef RPC_SSH_KEY_H
#define RPC_SSH_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SSH_KEY_RSA_BITS_MIN     2048
#define SSH_KEY_RSA_BITS_MAX     16384 /* as OpenSSH and OpenSSL have it */
#define SSH_KEY_BLOB_MAX         2112  /* bytes: an RSA key of so many bits */
#define SSH_KEY_LINE_MAX         8192  /* bytes of a line that is read, comment and all */
#define SSH_KEY_COMMENT_MAX      64    /* of a line that is written */
#define SSH_KEY_FINGERPRINT_SIZE 51    /* "SHA256:", 43 characters and the NUL */
#define SSH_KEY_ED25519_SIZE     32    /* bytes, of either half */

struct ssh_key {
	const char *type; /* "ssh-ed25519"; static */
	unsigned bits;
	size_t len;
	uint8_t blob[SSH_KEY_BLOB_MAX]; /* RFC 4253, section 6.6 */
};

/* A key as it goes over the wire. INVALID_ARGUMENT says what is wrong with it. */
int ssh_key_parse(const uint8_t *blob, size_t len, struct ssh_key *, struct err *);

/* One line "TYPE BASE64 [COMMENT]", as `ssh-keygen` writes it into NAME.pub. */
int ssh_key_parse_line(const char *line, struct ssh_key *, struct err *);

/* An Ed25519 key of its bytes. */
void ssh_key_set_ed25519(struct ssh_key *, const uint8_t bytes[static SSH_KEY_ED25519_SIZE]);

/* The line of an Ed25519 key, without a newline. A comment that is longer than
 * SSH_KEY_COMMENT_MAX is cut. */
#define SSH_KEY_LINE_SIZE (12 + 68 + 1 + SSH_KEY_COMMENT_MAX + 1)
void ssh_key_line(const struct ssh_key *, const char *comment, char out[static SSH_KEY_LINE_SIZE]);

/* "SHA256:..." as OpenSSH prints it. */
void ssh_key_fingerprint(
    const uint8_t *blob, size_t len, char out[static SSH_KEY_FINGERPRINT_SIZE]);

#endif
