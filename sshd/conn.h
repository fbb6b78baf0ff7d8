/*
 * sshd/conn.h: one SSH connection, from its first byte to its last.
 *
 * A connection goes through key exchange and authentication, and then carries channels
 * (sshd/channel.h). libssh does the protocol; it reads and writes the socket itself, and
 * is only ever asked to do what can be done at once. What it must not be trusted with is
 * here: nothing of a channel is looked at before the connection is open, and what makes
 * it open is the answer of the gateway to a signature that was checked.
 *
 * All on one loop. Channels are told what comes in by channels_message() and by libssh's
 * channel callbacks; the latter may also run inside conn_write(), because libssh reads
 * where it flushes, so they only note what came or hand it on, and write nothing.
 */
#ifndef SSHD_CONN_H
#define SSHD_CONN_H

#include <libssh/libssh.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"

struct conn;

#define CONN_PENDING_MAX ((size_t)256 << 10) /* bytes written and not yet with the kernel */

enum conn_permission {
	CONN_PERMISSION_EXEC = 1,
	CONN_PERMISSION_PTY = 2,
	CONN_PERMISSION_SFTP = 4,
	CONN_PERMISSION_FORWARD = 8
};

/* Whom the connection acts for; complete once it is open, and constant then. */
struct conn_session {
	char id[17];
	char *sandbox_id;
	char *sandbox; /* its name */
	unsigned permissions;
};

/* For channels. */

struct loop *conn_loop(const struct conn *);
ssh_session conn_ssh(const struct conn *);
uint64_t conn_id(const struct conn *);
const char *conn_peer(const struct conn *); /* "192.0.2.1:4711" */
const struct conn_session *conn_session(const struct conn *);
bool conn_permits(const struct conn *, enum conn_permission);

/*
 * Calls the gateway in the session's name. NULL: the gateway cannot be reached. The call
 * is the caller's: it ends or cancels it before channels_free() returns.
 */
struct framed *conn_call(struct conn *, const char *path, const struct framed_options *,
    const struct framed_ops *, void *cookie, struct err *);

/*
 * Writes to a channel what its window and CONN_PENDING_MAX have room for now, and returns
 * how many bytes that was. 0: not now; channels_writable() tells when to try again, and the
 * channel's own window callback. -1: the channel or the connection has ended.
 */
int conn_write(struct conn *, ssh_channel, const void *data, size_t len, bool to_stderr);

/* How many bytes conn_write() would take for some channel; 0 while keys are changed. */
size_t conn_room(const struct conn *);

/* Something was sent by libssh's own functions (a reply, an eof, a close): it leaves at the
 * end of the turn. */
void conn_flush(struct conn *);

/* Bytes of a client that a channel has taken: for the session's usage. conn_write() counts
 * the other direction itself. */
void conn_took(struct conn *, size_t bytes);

/* Ends the connection, with an SSH_MSG_DISCONNECT that says ${why}; not at once, but at the
 * end of the turn. */
void conn_fail(struct conn *, const struct err *why);

#endif
