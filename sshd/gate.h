/*
 * sshd/gate.h: the gateway, as this endpoint's only peer.
 *
 * One connection to it, made again when it goes; Attend on it for as long as it lives.
 * What the gateway is told is who is connected, what it tells is which sessions have
 * ended. All on one loop; callbacks run from it.
 */
#ifndef SSHD_GATE_H
#define SSHD_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "relay/framed.h"
#include "rpc/tls.h"
#include "towline/v1/ssh.pb-c.h"

struct gate;
struct gate_ask;

#define GATE_BACKOFF_MIN_MS 100
#define GATE_BACKOFF_MAX_MS 5000
#define GATE_ASK_MS         10000 /* for Authenticate */
#define GATE_LOST_MS        30000 /* without the gateway: nobody would tell of a revocation */
/* Reports that the gateway does not read: usage waits, and past the second Attend is begun
 * anew, which tells everything again. */
#define GATE_REPORTS_HIGH ((size_t)256 << 10)
#define GATE_REPORTS_MAX  ((size_t)4 << 20)

struct gate_options {
	const char *url;
	struct rpc_tls *tls;     /* for https:// */
	const char *endpoint_id; /* "sshd-1" */
	const char *token;       /* "sshd-1.SECRET"; copied */
	const char *instance_id;
	void *app;
	/* Attend is open: gate_opened() is to be called for each connection there is. */
	void (*up)(void *app);
	/* A session is over; its connections are to be closed. */
	void (*ended)(void *app, const char *session_id, const char *reason);
	/* For GATE_LOST_MS there was no gateway. Once, until it is there again. */
	void (*lost)(void *app);
	/* The gateway does not have us: UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED. */
	void (*rejected)(void *app, const struct err *why);
};

/* Starts to connect. Strings are copied. */
struct gate *gate_create(struct loop *, const struct gate_options *, struct err *);

/* Ends all calls; ${done} runs once, last. */
void gate_close(struct gate *, void (*done)(void *cookie), void *cookie);

bool gate_is_up(const struct gate *);

/* Whether a key opens a session. ${done} runs once, unless cancelled; ${reply} is borrowed,
 * and NULL when ${why} says why not. NULL: the gateway cannot be reached. */
typedef void gate_answer(
    void *cookie, const Towline__V1__AuthenticateSshResponse *reply, const struct err *why);
struct gate_ask *gate_authenticate(struct gate *, const Towline__V1__AuthenticateSshRequest *,
    gate_answer *done, void *cookie, struct err *);
void gate_ask_cancel(struct gate_ask *); /* NULL is legal */

/* A call in a session's name; framed_call() otherwise. */
struct framed *gate_call(struct gate *, const char *session_id, const char *path,
    const struct framed_options *, const struct framed_ops *, void *cookie, struct err *);

/* Reports. Nothing while the gateway is away: up() comes later. */
void gate_opened(struct gate *, uint64_t connection, const char *session_id, const char *peer);
void gate_usage(struct gate *, uint64_t connection, uint64_t in, uint64_t out);
void gate_closed(struct gate *, uint64_t connection);

#endif
