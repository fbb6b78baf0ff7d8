/*
 * transfer/put_stream.h: one piece of a large file on its way up, as put_pieces.c and
 * put_stream.c share it. Private to the room; on the loop.
 *
 *	call, flow --answered--> over
 *	     | the way broke, here or to the sandbox that the file is in
 *	rest -> look at the file -> ask what is durable -> call, flow: the rest of the piece
 *
 * The flow is of a file here, or the pass of one in another sandbox, whose etag is looked at
 * by each call.
 *
 * What concerns the way alone is tried again by the stream, while the others go on; what
 * concerns the upload ends all (put_pieces.c).
 */
#ifndef TRANSFER_PUT_STREAM_H
#define TRANSFER_PUT_STREAM_H

#include "transfer/client_transfer.h"
#include "transfer/pass.h"

struct put_stream {
	struct job job; /* first; with the workers while ${looking} */
	struct put_pieces *all;
	struct transfer *transfer;
	size_t number;
	bool active; /* it has a piece that is neither durable nor given up */
	struct range piece;
	struct framed *call; /* NULL: over */
	struct outflow *out; /* what is sent, of the file here; NULL: over */
	struct pass *pass;   /* or of one in a sandbox; likewise */
	bool answered;       /* and the answer is that it has come as it was sent */
	uint64_t sent;
	uint8_t digest[DIGEST_SIZE];

	struct err err; /* why it does not go on as it is */
	bool refused;   /* by the other end, or on the way there */
	bool of_way;    /* it says nothing about the upload */
	bool again;     /* it is not the piece's first attempt */
	bool looking;
	struct err look_err; /* the job's */
	struct rpc_unary *query;
	struct timer *timer;
	uint64_t until_ms; /* as struct transfer_put has it, of this stream */
	unsigned delay_ms;
};

/* The piece goes up; -1: not now, and ${err} of the stream says why. */
int put_stream_start(struct put_stream *, struct range piece);

/* Whether nothing of it runs, nor waits. */
bool put_stream_is_still(const struct put_stream *);

/* After a failure, when it is still: whether it is tried again, which has begun then. */
bool put_stream_retry(struct put_stream *);

void put_stream_stop(struct put_stream *, const struct err *why);
void put_stream_free(struct put_stream *);

/* Of put_pieces.c, told by a stream: */

/* Something has happened, an error perhaps; never from inside of a function above. */
void put_pieces_changed(struct put_pieces *);
void put_pieces_moved(struct put_pieces *);

/* What is durable of all. -1: what had been is not any more. The stream's piece becomes what is
 * missing of it: maybe nothing. */
int put_pieces_take_state(struct put_stream *, const struct ranges *durable);

#endif
