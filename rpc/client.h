/*
 * rpc/client.h: one HTTP/2 connection to a server, and calls on it.
 *
 * A connection is made once and ends once; to reconnect make another. Calls may be
 * made at once, they go out when the connection is ready.
 */
#ifndef RPC_CLIENT_H
#define RPC_CLIENT_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/call.h"
#include "rpc/meta.h"
#include "rpc/tls.h"

struct rpc_client;
struct address; /* rpc/address.h */

struct rpc_client_options {
	struct rpc_tls *tls;         /* for https:// URLs; NULL: made from the defaults */
	uint32_t connect_timeout_ms; /* 0: RPC_CONNECT_TIMEOUT_MS */
	uint32_t keepalive_ms;       /* 0: RPC_KEEPALIVE_MS */
	/* The connection is ready for calls (SETTINGS received). May be NULL. */
	void (*ready)(void *cookie);
	/* It has ended; runs once and last, after every call's closed(); the client's
	 * memory goes when it returns. ${why} is OK after rpc_client_close(). */
	void (*closed)(void *cookie, const struct err *why);
	void *cookie;
};

/* ${url}: "http://127.0.0.1:8080", "https://host:443", "unix:/path". A name that
 * is no address is looked up before this returns, for as long as the resolver takes.
 * NULL also when the system refuses the connection at once (nothing listens on the
 * Unix socket): who tries again, tries again after that, too. */
struct rpc_client *rpc_client_connect(
    struct loop *, const char *url, const struct rpc_client_options *, struct err *);

/* The same to an address that is known: nobody is asked for it. Borrowed for the call. */
struct rpc_client *rpc_client_connect_to(
    struct loop *, const struct address *, const struct rpc_client_options *, struct err *);

/* Ends the connection: calls left are closed with CANCELLED, then closed() runs.
 * Never calls back from inside. */
void rpc_client_close(struct rpc_client *);

struct rpc_client_call {
	const char *path;
	const struct rpc_meta *meta; /* may be NULL */
	uint64_t timeout_ms;         /* 0: none; also sent as grpc-timeout */
	const struct rpc_call_ops *ops;
	void *cookie;
};

/* NULL: no memory, or the connection has ended or is draining (UNAVAILABLE). */
struct rpc_call *rpc_client_call(struct rpc_client *, const struct rpc_client_call *, struct err *);

struct rpc_conn *rpc_client_conn(struct rpc_client *);

/* One message there, one back: ${done} runs once, with the reply or an error. For
 * control calls; the handle may be cancelled until then (no callback after). */
struct rpc_unary;
typedef void rpc_unary_done(void *cookie, const uint8_t *reply, size_t len, const struct err *);
struct rpc_unary *rpc_client_unary(struct rpc_client *, const char *path, const struct rpc_meta *,
    uint64_t timeout_ms, const void *message, size_t len, rpc_unary_done *, void *cookie,
    struct err *);
void rpc_unary_cancel(struct rpc_unary *);

#endif
