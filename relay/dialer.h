/*
 * relay/dialer.h: the supervisor's end of the tunnel.
 *
 * Dials the gateway, keeps ConnectSupervisor open (hello, heartbeats), reconnects
 * with backoff, and serves channels: a RelayOpen with a call target becomes a framed
 * call in the serving role for the method's row in a table.
 */
#ifndef RELAY_DIALER_H
#define RELAY_DIALER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"
#include "rpc/tls.h"

#define DIALER_BACKOFF_MIN_MS  1000
#define DIALER_BACKOFF_MAX_MS  30000 /* both with up to a quarter of jitter */
#define DIALER_CHANNELS_MAX    4096  /* open at once; more are answered RESOURCE_EXHAUSTED */
#define DIALER_REFUSALS_MAX    256   /* such answers under way; more get RelayOpenResult */
#define DIALER_CONNECTIONS_MAX 16    /* data connections the gateway may ask for */

struct dialer;

/* What a channel was opened for; borrowed during open(). */
struct channel_request {
	const char *method; /* "/openshell.v1.OpenShell/ExecSandbox" */
	const uint8_t *first_message;
	size_t first_len;
	bool half_closed;    /* no request messages follow the first; end() will not run */
	uint64_t timeout_ms; /* RPC_DEADLINE_NONE: none. The dialer enforces it */
	const char *subject; /* who calls, for the log */
};

struct channel_method {
	const char *path;
	/* Takes the channel over with framed_bind(), or finishes it, before it
	 * returns. Answers with framed_write/send and framed_finish(). */
	void (*open)(struct framed *, const struct channel_request *, void *app);
	bool whole; /* framed_options.whole */
};

struct dialer_options {
	const char *url;
	struct rpc_tls *tls;
	const char *sandbox_id;
	const char *token; /* sent as "authorization: Bearer ..." */
	const char *instance_id;
	const struct channel_method *methods; /* ends with a NULL path; unknown: UNIMPLEMENTED */
	const char *const *features;          /* for SupervisorHello.features, ends with NULL */
	uint32_t answer_ms, grace_ms;         /* 0: UPLINK_ANSWER_MS, SERVED_GRACE_MS */
	void *app;
	/* All may be NULL. */
	void (*connected)(void *app);
	void (*disconnected)(void *app, const struct err *why);
	/* The gateway will never take us (UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND,
	 * superseded): no further attempts. */
	void (*rejected)(void *app, const struct err *why);
};

/* Starts dialling. Strings are copied; the table must outlive it. A name in ${url} is
 * looked up before each attempt, which takes the loop's time, but never while there is a
 * session. An upstream `tcp` target is served through the ForwardTcp row with an
 * equivalent first message; `ssh` is refused with RelayOpenResult. */
struct dialer *dialer_create(struct loop *, const struct dialer_options *, struct err *);

/* Cancels every channel (closed() of each runs, with CANCELLED), closes the
 * connections; ${done} runs once, last. */
void dialer_close(struct dialer *, void (*done)(void *cookie), void *cookie);

/* Channels open, tunnels up: for status and tests. */
struct dialer_stats {
	bool connected;
	uint32_t channels, connections;
	uint64_t heartbeat_ms; /* as the session has it; 0: not connected */
	uint64_t opened, reconnects;
};
void dialer_stats(const struct dialer *, struct dialer_stats *);

#endif
