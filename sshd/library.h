/*
 * sshd/library.h: libssh as this program uses it: which algorithms, which host key, and
 * what it does not tell by itself.
 *
 * libssh drops a userauth request that it finds wrong (a signature that does not verify, a
 * key that it cannot read) and answers nothing, so that the client waits. The only trace is
 * in its log, which is why requests are counted there: a request that was counted and did
 * not come as a message was dropped.
 */
#ifndef SSHD_LIBRARY_H
#define SSHD_LIBRARY_H

#include <libssh/libssh.h>
#include <stdint.h>

#include "base/err.h"

struct library;

#define LIBRARY_REKEY_BYTES    ((uint64_t)1 << 30) /* with one key, either way, at most */
#define LIBRARY_REKEY_TIME_MAX 3600                /* seconds with one key */
#define LIBRARY_HOST_KEY_MAX   16384               /* bytes of the file */

/* ${host_key}: an Ed25519 private key in OpenSSH format; borrowed. ${rekey_bytes}: at most
 * LIBRARY_REKEY_BYTES. One in a process: it takes libssh's log. */
struct library *library_create(const char *host_key, uint64_t rekey_bytes, struct err *);
void library_free(struct library *); /* NULL is legal */

/* "SHA256:...", of the host key. */
const char *library_fingerprint(const struct library *);

/* A server's session on a connected socket, which does not block and never will. Takes
 * ${fd} in any case. */
ssh_session library_session(struct library *, int fd, struct err *);

/* Between these two, userauth requests are counted. Returns how many there were. */
void library_count_begin(struct library *);
unsigned library_count_end(struct library *);

#endif
