/*
 * rpc/call.h: one gRPC call, seen from either side, as two streams of body bytes.
 *
 * A call is an HTTP/2 stream with gRPC's headers around it. Its body is handed
 * over as it comes (slices of gRPC-framed bytes, no gathering), which is what a
 * relay wants; rpc/reader.h makes messages of them for those who need messages.
 *
 * Flow control: what data() delivers counts against the stream's receive window
 * until rpc_call_credit() gives it back; connection credit is given on arrival,
 * so a call that is not read never stops its neighbours. What rpc_call_write()
 * takes is reported by sent() when it has left for the socket.
 *
 * Everything here happens on the loop of the call's connection. Callbacks run
 * from the loop, never from inside a function of this header. closed() runs
 * exactly once and last, unless rpc_call_cancel() came first: then nothing runs
 * any more.
 */
#ifndef RPC_CALL_H
#define RPC_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "rpc/meta.h"

struct rpc_call;
struct rpc_conn;

#define RPC_WINDOW         ((size_t)1 << 20)  /* bytes; receive window of a stream at birth */
#define RPC_WINDOW_MAX     ((size_t)64 << 20) /* and at most, on a long way: rpc/h2_window.c */
#define RPC_CALL_QUEUE_MAX ((size_t)72 << 20) /* bytes one call may have waiting to be sent */
#define RPC_DEADLINE_NONE  UINT64_MAX

struct rpc_call_ops {
	/* Client: the response headers; not of a call that is refused by trailers alone. NULL
	 * if of no interest. */
	void (*headers)(void *cookie, const struct rpc_meta *);

	/* Body bytes; the receiver owns the slice. Never after end(). */
	void (*data)(void *cookie, struct slice);

	/* The peer has ended its direction, after the last data().
	 * Client: ${status} is the call's status (a stream that ended without one:
	 * UNAVAILABLE; an HTTP status that is no gRPC: mapped as gRPC says).
	 * Server: half-close; ${status} is NULL unless the client sent trailers with
	 * a grpc-status (only supervisors do). The own direction lives on. */
	void (*end)(void *cookie, const struct err *status, const struct rpc_meta *trailers);

	/* ${bytes} more of what was written have left. NULL if of no interest. */
	void (*sent)(void *cookie, size_t bytes);

	/* The call is over and its pointer with it. ${why}: code GRPC_OK when both
	 * directions ended; CANCELLED when the peer reset it; DEADLINE_EXCEEDED;
	 * UNAVAILABLE when the connection was lost; else what went wrong. */
	void (*closed)(void *cookie, const struct err *why);
};

/* Server: takes the call over. Without it a call may only be finished. */
void rpc_call_bind(struct rpc_call *, const struct rpc_call_ops *, void *cookie);

/* Queues body bytes. Takes the slice on success. -1: the own direction has ended,
 * the call is closing, or RPC_CALL_QUEUE_MAX would be passed (the caller did not
 * wait for sent()). Small slices are gathered by copy, large ones never. */
int rpc_call_write(struct rpc_call *, struct slice);

/* One message: prefix and a copy of ${len} bytes. The same results. */
int rpc_call_send(struct rpc_call *, const void *message, size_t len);

/* Body bytes as rpc_call_write(), by copy: for a few of them. */
int rpc_call_copy(struct rpc_call *, const void *bytes, size_t len);

/* How many bytes wait to be sent. */
size_t rpc_call_queued(const struct rpc_call *);

/* Gives ${bytes} of receive window back. Every byte once. */
void rpc_call_credit(struct rpc_call *, size_t bytes);

/* Ends the own direction when all that was written is out; the peer's lives on.
 * Client: half-close, with ${status} (if not NULL) as grpc-status trailers of the
 * request. Server: trailers with ${status} (NULL: OK). Twice is harmless. */
void rpc_call_end(struct rpc_call *, const struct err *status);

/* All is said. Like rpc_call_end(), and what the peer still sends is dropped: after
 * the trailers the stream is reset with NO_ERROR if the peer has not ended. Only sent()
 * and closed() come after this. ${trailers} may be NULL. For servers, and for a client
 * that serves: the supervisor's end of a channel. */
void rpc_call_finish(struct rpc_call *, const struct err *status);
void rpc_call_finish_meta(
    struct rpc_call *, const struct err *status, const struct rpc_meta *trailers);

/* Server: response headers, before the first write; else they go out by themselves. */
int rpc_call_headers(struct rpc_call *, const struct rpc_meta *, struct err *);

/* Resets the stream now (CANCEL, or what ${why}'s code maps to) and drops what is
 * queued. No callback comes any more; the pointer is dead. */
void rpc_call_cancel(struct rpc_call *, const struct err *why);

const char *rpc_call_path(const struct rpc_call *);
const struct rpc_meta *rpc_call_meta(const struct rpc_call *); /* request metadata (server) */
/* Nobody will ask for these two again: a call that lives long need not keep them. */
void rpc_call_forget_request(struct rpc_call *);
uint64_t rpc_call_time_left_ms(const struct rpc_call *); /* RPC_DEADLINE_NONE: no deadline */
struct rpc_conn *rpc_call_conn(const struct rpc_call *);
struct loop *rpc_call_loop(const struct rpc_call *);
bool rpc_call_is_server(const struct rpc_call *);

/* Server: a fixed deadline for calls that came without one, or a shorter one. -1: no
 * memory for it. */
int rpc_call_limit_time(struct rpc_call *, uint64_t ms);

/* The connection under calls: for limits and for telling peers apart. */
uint64_t rpc_conn_id(const struct rpc_conn *);      /* unique in the process, for logs */
const char *rpc_conn_peer(const struct rpc_conn *); /* "127.0.0.1:4711", "unix" */
struct loop *rpc_conn_loop(const struct rpc_conn *);
void rpc_conn_allow_streams(
    struct rpc_conn *, uint32_t max); /* new SETTINGS_MAX_CONCURRENT_STREAMS */

/* A pointer of the application's, freed by ${free} when the connection ends. */
void rpc_conn_set_data(struct rpc_conn *, void *data, void (*free)(void *data));
void *rpc_conn_data(const struct rpc_conn *);

#endif
