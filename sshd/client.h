/*
 * sshd/client.h: one SSH connection, from its first byte to its last.
 *
 * A connection goes through key exchange and authentication, and then carries channels
 * (sshd/channel.h). libssh does the protocol; it reads and writes the socket itself, and
 * is only ever asked to do what can be done at once. What it must not be trusted with is
 * here: nothing of a channel is looked at before the connection is open, and what makes
 * it open is the answer of the gateway to a signature that was checked.
 *
 * All on one loop. Channels are told what comes in by channels_message() and by libssh's
 * channel callbacks; the latter may also run inside client_write(), because libssh reads
 * where it flushes, so they only note what came or hand it on, and write nothing.
 */
#ifndef SSHD_CLIENT_H
#define SSHD_CLIENT_H

#include <libssh/libssh.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"

struct client;
struct sshd;

#define CLIENT_PENDING_MAX    ((size_t)256 << 10) /* bytes written and not yet with the kernel */
#define CLIENT_STARTUP_MAX    ((size_t)64 << 10)  /* bytes that a client may send to log in */
#define CLIENT_READS_PER_TURN 32                  /* of 4 KiB, which is how libssh reads */
#define CLIENT_UNANSWERED_MAX 4096  /* packets received, with nothing sent: is it queued? */
#define CLIENT_BANNER_MS      10000 /* for the client to say what it speaks */
#define CLIENT_FLUSH_MS       400   /* at the end: for what was written to leave */
#define CLIENT_LINGER_MS      500   /* and for the client to read why, and close */
#define CLIENT_MISSED_MAX     3     /* keepalives without a sign of life */

enum client_permission {
	CLIENT_PERMISSION_EXEC = 1,
	CLIENT_PERMISSION_PTY = 2,
	CLIENT_PERMISSION_SFTP = 4,
	CLIENT_PERMISSION_FORWARD = 8
};

/* Whom the connection acts for; complete once it is open, and constant then. */
struct client_session {
	char id[17];
	char *sandbox_id;
	char *sandbox; /* its name */
	unsigned permissions;
};

/* For channels. */

struct loop *client_loop(const struct client *);
ssh_session client_ssh(const struct client *);
uint64_t client_id(const struct client *);
const char *client_peer(const struct client *); /* "192.0.2.1:4711" */
const struct client_session *client_session(const struct client *);
bool client_permits(const struct client *, enum client_permission);

/*
 * Calls the gateway in the session's name. NULL: the gateway cannot be reached. The call
 * is the caller's: it ends or cancels it before channels_free() returns.
 */
struct framed *client_call(struct client *, const char *path, const struct framed_options *,
    const struct framed_ops *, void *cookie, struct err *);

/*
 * Writes to a channel what its window and CLIENT_PENDING_MAX have room for now, and returns
 * how many bytes that was. When it is fewer than ${len}, channels_writable() tells when to
 * try again. -1: the channel or the connection has ended.
 */
int client_write(struct client *, ssh_channel, const void *data, size_t len, bool to_stderr);

/* How many bytes client_write() would take for a channel with a wide window. */
size_t client_room(struct client *);

/* channels_writable() is called when there is room again. */
void client_await_room(struct client *);

/* Something was sent by libssh's own functions (a reply, an eof, a close): it leaves at the
 * end of the turn. */
void client_flush(struct client *);

/* Bytes of a client that a channel has taken: for the session's usage. client_write() counts
 * the other direction itself. */
void client_took(struct client *, size_t bytes);

/* Ends the connection, with an SSH_MSG_DISCONNECT that says ${why}; not at once, but at the
 * end of the turn. */
void client_fail(struct client *, const struct err *why);

/* For the endpoint. */

struct client_options {
	int fd;                         /* connected */
	const struct sockaddr *address; /* of the client; NULL: it came through the tunnel */
	const char *peer;               /* the same as text, for logs */
	const char *session_id;         /* of one that came through the tunnel, authorised there */
};

/* Takes ${fd} in any case. NULL: no memory. */
struct client *client_create(struct sshd *, const struct client_options *, struct err *);

/* Ends it as client_fail() does, but starts now. Never frees it before it returns. */
void client_end(struct client *, const struct err *why);

/* Called every SSHD_TICK_MS, for what becomes due. */
void client_tick(struct client *, int64_t wall_seconds);

/* At once, without a word; for the end of the process, and for what waits too long. */
void client_drop(struct client *, const char *why);

/* Of all connections that are not open yet and did not come through the tunnel, the one
 * that is there longest; NULL if there is none. */
struct client *client_oldest_startup(const struct sshd *);

uint64_t client_age_ms(const struct client *);
void client_announce(struct client *); /* to a gateway that has come back, if it is open */
struct client *client_newer(const struct client *);               /* the next one of all */
bool client_is_of(const struct client *, const char *session_id); /* and open, or about to be */

#endif
