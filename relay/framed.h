/*
 * relay/framed.h: a call whose messages carry a stream of bytes.
 *
 * ForwardTcp, exec, upload and download all send messages of two kinds: a few that
 * are structured (init, metadata, resize, header, exit...) and many that are one
 * field of bytes. This is either end of such a call: bytes come and go as slices
 * with the frame around them taken off and put on, without a copy; the other
 * messages come whole. It serves three roles in the same way: the client of a call,
 * the server of one, and the supervisor's end of a channel, which is a client's
 * call in HTTP/2 but serves (docs/wire.md, "Calls through the tunnel").
 */
#ifndef RELAY_FRAMED_H
#define RELAY_FRAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "rpc/call.h"
#include "rpc/client.h"

struct framed;

#define FRAMED_MESSAGE_MAX    ((size_t)4 << 20)  /* bytes of one payload message */
#define FRAMED_STRUCTURED_MAX ((size_t)64 << 10) /* bytes of one of the other messages */

struct framed_ops {
	/* Bytes of field 2 (or of an event), as they come; the receiver owns the slice and gives
	 * framed_credit() back. NULL: such messages are INVALID_ARGUMENT. */
	void (*payload)(void *cookie, struct slice);

	/* Any other message, whole; borrowed. */
	void (*message)(void *cookie, const uint8_t *message, size_t len);

	/* The peer ended its direction. In the client's role ${status} is the call's
	 * status, and if that is not OK the own direction ends as well; serving it is
	 * half-close and NULL. A stream that ended in the middle of a message is told
	 * through closed() instead. */
	void (*end)(void *cookie, const struct err *status);

	/* ${bytes} more of payload or messages have left: never more than was sent since
	 * framed_bind(), and in the end all of it. NULL if of no interest. */
	void (*sent)(void *cookie, size_t bytes);

	/* Over; the pointer is dead when it returns. As rpc_call_ops.closed. A message
	 * that could not be decoded ends the call with the right status first. */
	void (*closed)(void *cookie, const struct err *why);

	/* The client's role: the peer has taken the call (its headers have come). NULL if
	 * of no interest. */
	void (*opened)(void *cookie);
};

struct framed_options {
	size_t max_structured; /* 0: FRAMED_STRUCTURED_MAX */
	bool whole; /* deliver payload messages whole through message(), up to FRAMED_MESSAGE_MAX */
	bool event; /* what comes are ExecSandboxEvents: payload is stdout or stderr */
};

/* The client's role: makes the call. ${call}'s ops and cookie are not used. */
struct framed *framed_call(struct rpc_client *, const struct rpc_client_call *,
    const struct framed_options *, const struct framed_ops *, void *cookie, struct err *);

/* The server's role: takes a call over (rpc_method.open). NULL: no memory, and the
 * call has been finished. */
struct framed *framed_serve(
    struct rpc_call *, const struct framed_options *, const struct framed_ops *, void *cookie);

/* Sets ops anew, e.g. when a method's handler takes a channel over. What was sent
 * before is not told by the new sent(). */
void framed_bind(struct framed *, const struct framed_ops *, void *cookie);

/* Which field carries payload in what is sent. A nested one is a message in a
 * message: ExecSandboxEvent{stdout = 1 {data = 1}}. */
struct framed_field {
	uint32_t outer;
	uint32_t inner; /* 0: not nested */
};
extern const struct framed_field FRAMED_BYTES; /* field 2, not nested */

/* Sends ${payload} as one message of at most FRAMED_MESSAGE_MAX. Takes it on success;
 * -1: the direction has ended or the queue is full. No copy of payload. */
int framed_write(struct framed *, struct framed_field, struct slice payload);

/* Sends a packed message. */
int framed_send(struct framed *, const void *message, size_t len);

size_t framed_queued(const struct framed *); /* bytes waiting to leave */
void framed_credit(struct framed *, size_t payload_bytes);

/* The own direction ends behind what was written: half-close in the client's role;
 * serving, the status OK, while the peer may go on sending (a forwarded service that
 * has shut down its sending side). */
void framed_end(struct framed *);

/* Serving: the call's status, behind what was written; NULL is OK. What the peer
 * still sends is dropped (the stream is reset after the trailers if it has not ended).
 * Then only sent() and closed(). */
void framed_finish(struct framed *, const struct err *status);

/* Resets. No callback after; the pointer is dead. */
void framed_cancel(struct framed *, const struct err *why);

/* The field that payload() is being called with: 2, or of an event 1 (stdout) or 2 (stderr). */
uint32_t framed_payload_field(const struct framed *);

struct loop *framed_loop(const struct framed *);
uint64_t framed_time_left_ms(const struct framed *); /* RPC_DEADLINE_NONE: no deadline */

#endif
