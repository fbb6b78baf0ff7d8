/*
 * rpc/server.h: listening, and a table of methods.
 *
 * Connections are accepted on the first loop and dealt out to all loops in turn;
 * a connection stays on its loop for life. A method's functions run on the loop of
 * the connection the call came on.
 */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/call.h"
#include "rpc/tls.h"

struct rpc_server;

/* One row a method; exactly one of ${request} and ${open} is set. */
struct rpc_method {
	const char *path;       /* "/openshell.v1.OpenShell/GetSandbox" */
	uint32_t max_message;   /* bytes; larger is RESOURCE_EXHAUSTED. 0: RPC_MESSAGE_MAX */
	uint32_t time_limit_ms; /* at most; 0: none but the client's own deadline */

	/* The client sends exactly one message (none or a second: INVALID_ARGUMENT,
	 * said by the server). ${message} is borrowed for the call of the function.
	 * The call is answered with rpc_call_send() and rpc_call_finish(), now or
	 * later; if later, bind first so that closed() is heard. */
	void (*request)(struct rpc_call *, void *app, const uint8_t *message, size_t len);

	/* The call as it is; must bind, finish or cancel before it returns. */
	void (*open)(struct rpc_call *, void *app);
};

#define RPC_MESSAGE_MAX ((uint32_t)4 << 20)

struct rpc_server_options {
	struct loop **loops;
	size_t loop_count;
	const struct rpc_method *methods; /* sorted or not; copied */
	size_t method_count;
	void *app;

	/* Asked before a method's function, with the metadata there: 0, or -1 and the
	 * status the call ends with. NULL: everybody may. */
	int (*admit)(struct rpc_call *, void *app, struct err *);

	/* 0 in any of these means the default of rpc/limits.h. */
	uint32_t max_connections;
	uint32_t max_streams;  /* a connection */
	uint32_t keepalive_ms; /* a PING after that much silence */
	uint32_t keepalive_timeout_ms;
};

struct rpc_server *rpc_server_create(const struct rpc_server_options *, struct err *);

/* ${address}: "127.0.0.1:0", "[::1]:8080", "unix:/path" (an old socket there that
 * nobody listens on is replaced; mode 0600). ${tls} may be NULL and must outlive
 * the server. ${bound} gets the address in the same form with the real port. */
int rpc_server_listen(struct rpc_server *, const char *address, struct rpc_tls *tls, char *bound,
    size_t bound_size, struct err *);

/* Stops accepting, sends GOAWAY on all connections, waits for calls to end for at
 * most ${ms}, then closes. ${done} runs on the first loop, once. To be called once. */
void rpc_server_drain(struct rpc_server *, uint64_t ms, void (*done)(void *cookie), void *cookie);

/* After drain's done, when the loops have stopped or on the first loop. */
void rpc_server_free(struct rpc_server *);

struct rpc_server_stats {
	uint64_t connections, calls, floods, refused;
	uint32_t open_connections;
};
void rpc_server_stats(struct rpc_server *, struct rpc_server_stats *); /* any thread */

#endif
