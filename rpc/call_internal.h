/* rpc/call_internal.h: a call as the files of rpc share it. */
#ifndef RPC_CALL_INTERNAL_H
#define RPC_CALL_INTERNAL_H

#include "rpc/call.h"
#include "rpc/h2.h"
#include "rpc/meta_wire.h"

/* What the header blocks have said so far. */
struct call_heads {
	bool seen; /* the first block is whole: what follows are trailers */
	bool bad_method, bad_type, compressed, bad_timeout, overflow, no_memory;
	bool has_status;     /* grpc-status */
	int http_status;     /* a response's */
	uint8_t grpc_status; /* 0 to 16; others are UNKNOWN */
};

struct rpc_call {
	struct h2_stream stream; /* first */
	struct rpc_conn *conn;   /* NULL: over */
	bool is_server, bound;
	bool headers_sent, ended, finished, peer_ended, told_closed;
	struct call_heads heads;
	char *path;
	char *message;                  /* grpc-message, encoded */
	struct rpc_meta meta;           /* of the request; a client's: of the response */
	struct rpc_meta trailers;       /* received */
	struct rpc_meta *out;           /* trailers to send */
	const struct err *status;       /* to send with the trailers; NULL: OK */
	const struct rpc_call_ops *ops; /* NULL: nobody listens */
	void *cookie;
	struct timer *timer;
	uint64_t deadline_ms; /* of the loop's clock; 0: none */
};

extern const struct h2_ops call_h2_ops; /* cookie: the rpc_conn */

/* A client's call; the request is submitted. */
struct rpc_call *call_create(struct rpc_conn *, const char *path, const struct rpc_meta *,
    uint64_t timeout_ms, const struct rpc_call_ops *, void *cookie, struct err *);

/* Server: whether the headers are those of a gRPC call; else it has been answered. */
bool call_check_request(struct rpc_call *);

/* The connection ends: the owner is told. */
void call_lost(struct h2_stream *, void *why);

/* The conn's part: a server's call has its headers. */
void conn_on_call(struct rpc_conn *, struct rpc_call *);
void conn_wake(void *conn);
struct rpc_call *conn_accept(struct rpc_conn *);

#endif
