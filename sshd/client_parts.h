/*
 * sshd/client_parts.h: a connection, for the files that it is made of: client.c (its life),
 * client_io.c (libssh in and out) and auth.c.
 */
#ifndef SSHD_CLIENT_PARTS_H
#define SSHD_CLIENT_PARTS_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>

#include "base/loop.h"
#include "rpc/address.h"
#include "sshd/channel.h"
#include "sshd/client.h"
#include "sshd/sshd.h"

/*
 *	KEX ---> AUTH ---> OPEN
 *	  \        |        /
 *	   `---> ENDING <--'       what was written leaves
 *	           |
 *	         LINGER            the client has been told, and may read it
 *
 * and from each of them to nowhere, when the client has gone.
 */
enum client_state {
	CLIENT_STATE_KEX,
	CLIENT_STATE_AUTH,
	CLIENT_STATE_OPEN,
	CLIENT_STATE_ENDING,
	CLIENT_STATE_LINGER
};

struct auth {
	ssh_message asked; /* the request that the gateway is asked about; nothing is read then */
	ssh_message kept;  /* an earlier one: libssh sends failures only as answers */
	struct gate_ask *ask;
	uint64_t asked_ms;
	unsigned seen, got; /* requests that libssh has seen, and those that it gave us */
	unsigned requests;  /* of any kind: the gateway's time */
	unsigned failures;
};

struct client {
	struct sshd *sshd;
	struct client *older, *newer;
	uint64_t id;
	enum client_state state;
	char peer[ADDRESS_TEXT_MAX];
	struct sockaddr_storage address; /* AF_UNSPEC: through the tunnel */
	uint64_t born_ms;

	int fd; /* libssh has a copy of its own, which it closes when it likes */
	struct watch *watch;
	struct post turn;
	struct timer *timer; /* until it is open, and from when it ends */
	ssh_session ssh;
	struct ssh_callbacks_struct callbacks;

	/* Counted by libssh: bytes on the socket; packets and their payload. */
	struct ssh_counter_struct socket_count, packet_count;
	uint64_t synced;          /* their difference when last nothing was pending */
	uint64_t queue_mark;      /* payload sent when keys began to be changed */
	size_t queued;            /* bytes that wait for the end of that */
	bool blocked;             /* a channel was told to wait, */
	bool blocked_full;        /* because there was no room, not (only) because of its window */
	uint64_t blocked_packets; /* received by then */

	uint64_t answered_in, answered_out; /* packets, when last one was sent */
	bool probed;                        /* and since then one was to be sent */
	uint64_t told_packets;              /* received when channels were told */

	struct auth auth;
	char *token_session; /* of one that came through the tunnel */
	struct client_session session;
	uint64_t expires_ms;       /* monotonic, */
	int64_t expires_wall;      /* and seconds of the calendar: whichever comes first */
	struct channels *channels; /* only while it is open */

	uint64_t bytes_in, bytes_out, reported;
	uint64_t reported_ms, heard_ms, used_ms;
	uint64_t heard_packets;
	unsigned missed; /* keepalives */

	bool failing; /* the end is due, because of ${why} */
	struct err why;
};

/* client.c */
const char *client_state_name(enum client_state);
void client_set_state(struct client *, enum client_state);
void client_became_open(struct client *); /* authenticated: ${session} and expiry are filled */
void client_lost(struct client *);        /* the client has gone; frees */
void client_free(struct client *);

/* client_io.c */
void client_on_global(ssh_session, ssh_message, void *client); /* libssh's callback */
void client_step(struct client *); /* all that can be done now; may free */
bool client_has_pending(const struct client *);
void client_say_goodbye(struct client *); /* SSH_MSG_DISCONNECT, and libssh's socket is closed */

/* auth.c */
bool auth_count(struct client *);                /* a request of any kind; false: one too many */
void auth_message(struct client *, ssh_message); /* takes it */
void auth_check_dropped(struct client *);        /* libssh had nothing more to give */
void auth_free(struct auth *);

#endif
