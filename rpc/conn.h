/*
 * rpc/conn.h: one HTTP/2 connection on a loop: a transport, a session, its timers.
 * Inside of rpc only.
 *
 *	CONNECTING --socket writable--> HANDSHAKE --TLS done--> OPEN ----> CLOSING --> freed
 *	                                                          \         ^
 *	                                                           LINGER -/
 *
 * conn_close() is the one way out. A server that ends a connection for a fault of the
 * peer's says so in a GOAWAY and lingers until the peer has closed, or a second: were
 * the socket closed with input unread, the kernel would throw the GOAWAY away. So it does
 * at the end of a drain, and for as long as the peer's TCP takes what was answered.
 */
#ifndef RPC_CONN_H
#define RPC_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/address.h"
#include "rpc/call_internal.h"
#include "rpc/h2.h"
#include "rpc/options.h"
#include "rpc/transport.h"

struct conn_ops {
	void (*call)(void *cookie, struct rpc_call *); /* server: a call's headers have come */
	void (*ready)(void *cookie); /* the peer's SETTINGS have come; may be NULL */
	void (*flood)(void *cookie); /* the peer is cut off for it; may be NULL */
	/* Every call has been closed; the connection is gone when this returns. */
	void (*closed)(void *cookie, const struct err *why);
};

struct conn_options {
	int fd;          /* taken on success */
	bool connecting; /* still */
	bool is_server;
	struct rpc_tls *tls;   /* borrowed for this call; NULL: plain */
	const char *host;      /* of a client with TLS: what the certificate must name */
	const char *authority; /* of a client's calls; copied */
	const struct rpc_options *options; /* borrowed for life */
	const struct conn_ops *ops;
	void *cookie;
};

struct rpc_conn *conn_create(struct loop *, const struct conn_options *, struct err *);

/* Ends it: calls left are closed with ${why} (NULL or OK: CANCELLED), then closed()
 * runs, from the loop. Twice is harmless. */
void conn_close(struct rpc_conn *, const struct err *why);

/* GOAWAY: streams that are on their way are still served; closes when the last call is
 * over. Twice is harmless. */
void conn_drain(struct rpc_conn *);

struct h2 *conn_h2(struct rpc_conn *);
const char *conn_authority(const struct rpc_conn *);
const char *conn_scheme(const struct rpc_conn *);
bool conn_takes_calls(const struct rpc_conn *);
size_t conn_call_count(const struct rpc_conn *);

#endif
