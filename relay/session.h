/*
 * relay/session.h: one ConnectSupervisor stream, the gateway's end.
 *
 * The stream's loop reads and writes it, keeps the heartbeats, and ends it when three
 * of them are missed. What a session is, and what it is asked for, is decided in the
 * registry on the first loop.
 */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/codec.h"
#include "relay/registry.h"
#include "rpc/call.h"

/* Of one message from a supervisor: none has a payload. */
#define SESSION_MESSAGE_MAX ((size_t)64 << 10)

/* Results and closes read and not yet looked at by the first loop; a supervisor that
 * sends more answers what it was never asked. */
#define SESSION_NOTES_MAX 1024

/* Serves a stream; takes the call. Any loop. */
void session_serve(struct tunnels *, struct rpc_call *, const char *sandbox_id);

/* What hello said; constant since. */
struct session_hello {
	char id[37]; /* the session's, ours */
	char *instance_id;
	char *version; /* of the supervisor; "" if it does not say */
	uint64_t epoch;
	bool has_call, has_lines;
};

const struct session_hello *session_hello(const struct session *);
const char *session_sandbox(const struct session *);

/* References keep the memory; the registry holds one for the current session. */
void session_ref(struct session *);
void session_unref(struct session *);

/*
 * These on the first loop. Sending packs at once; -1: no memory, and nothing is sent.
 * ${channel_id} names the channel that is refused, later, if the supervisor's stream cannot
 * take the message; NULL: the session ends then. Accepting answers hello, and ends the
 * session if it cannot; rejecting answers too, and ends the stream with ${why}'s code.
 */
int session_send(struct session *, const ProtobufCMessage *, const char *channel_id);
void session_accept(struct session *);
void session_reject(struct session *, const struct err *why);
void session_end(struct session *, const struct err *why);

#endif
