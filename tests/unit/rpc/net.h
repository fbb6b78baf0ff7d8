/*
 * unit/rpc/net.h: a server and its clients on one loop, over sockets, and what became of
 * each call. The server's methods, all of /test/:
 *
 *	Echo	one message there, the same one back
 *	Small	likewise, of 16 bytes at most
 *	Stream	body bytes come back as they are; credit follows what has left
 *	Hold	taken and not answered; the newest is net.held
 *	Brief	likewise, for 40 ms at most
 *	Say	ends with the status that metadata "code" and "text-bin" name; nothing before it
 *	Meta	the request's metadata as headers, and as trailers when the client has ended
 *	Early	one message and a status at the first body bytes; the rest is not read
 */
#ifndef TESTS_RPC_NET_H
#define TESTS_RPC_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/client.h"
#include "rpc/server.h"

#define NET_WAIT_MS 20000

struct net {
	struct loop *loop;
	struct rpc_server *server;
	char bound[128], url[160];
	unsigned clients; /* connections not closed yet */
	bool draining, drained;

	struct rpc_call *held; /* NULL: over */
	unsigned opened;       /* calls of Hold and Brief */
	unsigned lost;         /* of them, told closed... */
	struct err why;        /* ...the last with this */
	uint64_t stored;       /* bytes that Stream has had and not given credit for, at most */
};

/* A test's beginning and end: nothing may be left open. */
int net_setup(void **state);
int net_teardown(void **state);

/* ${options} may be NULL; its loops and methods are filled in. ${tls} may be NULL. */
void net_open(
    struct net *, const char *address, const struct rpc_server_options *, struct rpc_tls *tls);
void net_drain(struct net *, uint64_t ms);
/* Drains if nobody has, and waits for all connections to be closed. */
void net_close(struct net *);

/* Runs a loop until ${is} says so, or the flag is set, or for so long. Checks that it is
 * within NET_WAIT_MS. */
void net_until(struct loop *, bool (*is)(void *cookie), void *cookie);
void net_wait(struct loop *, const bool *flag);
void net_wait_count(struct loop *, const unsigned *count, unsigned at_least);
void net_run(struct loop *, uint32_t ms);

/* A client's connection, and what it was told. */
struct net_client {
	struct net *net;
	struct rpc_client *client; /* NULL: closed */
	bool ready, closed;
	struct err why;
};

/* ${tls} NULL: http:// or the Unix socket. */
void net_connect(struct net *, struct net_client *, struct rpc_tls *tls);
/* To another server than the net's. */
void net_dial(struct net *, struct net_client *, const char *url, struct rpc_tls *tls);
void net_hang_up(struct net_client *); /* and waits until it is told */

/* A call, and what has come of it. */
struct net_call {
	struct rpc_call *call; /* NULL: over */
	uint8_t *got;          /* body bytes, the first ${cap} of them */
	size_t cap;
	uint64_t total, sent;
	uint64_t sum; /* of all body bytes */
	bool headers, ended, closed;
	struct rpc_meta head, trailers;
	struct err status, why;
};

void net_start(struct net_client *, struct net_call *, const char *path, const struct rpc_meta *,
    uint64_t timeout_ms);
/* One message, and the end. */
void net_ask(struct net_call *, const void *message, size_t len);
/* Waits for closed(), and checks the status and that ${part} (may be NULL) is in it. */
void net_expect(struct net *, struct net_call *, enum grpc_code, const char *part);
void net_call_free(struct net_call *);

/* A unary call to its end. Returns the code; ${reply} may be NULL. */
enum grpc_code net_unary(struct net_client *, const char *path, const void *message, size_t len,
    char reply[static 64], struct err *);

/* The sum that net_call.sum is, of bytes so far and ${len} more. */
uint64_t net_sum(uint64_t sum, const uint8_t *bytes, size_t len);

/* Sends ${total} bytes of a pattern and the end; waits until they have come back, and
 * compares. */
void net_echo_many(struct net_client *, uint64_t total);

#endif
