/*
 * rpc/h2.h: one HTTP/2 session over bytes, without a socket. Inside of rpc only.
 *
 * Bytes go in by h2_feed(), frames come out into an outq by h2_frame(). What the
 * library reports meanwhile is queued and told by h2_dispatch(), after the library
 * has returned: an operation may therefore call anything of this header but
 * h2_feed(), h2_frame(), h2_dispatch() and h2_free(). accept() and field() are the
 * exceptions, and may only store.
 *
 * Connection credit is given on arrival, stream credit by h2_stream_credit(): a
 * stream that is not read holds its own window and nothing of its neighbours'.
 *
 * A stream's memory is its user's (struct h2_stream is the head of something
 * larger) and counted: it may go when release() is called.
 */
#ifndef RPC_H2_H
#define RPC_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "rpc/meta_wire.h"
#include "rpc/options.h"
#include "rpc/outq.h"

struct h2;

/* Fields are h2's own; users look at ${id} only. */
struct h2_stream {
	struct h2 *h2; /* NULL: the session is gone */
	struct h2_stream *prev, *next;
	struct h2_stream *due_next, *told_next;
	int32_t id; /* 0: not opened */
	uint32_t refs;
	void (*release)(struct h2_stream *); /* nobody refers to it any more */
	struct bufq queue;                   /* to be sent... */
	struct slice small;                  /* ...and behind it, small slices gathered in */
	struct block *gather;                /* a block of its own */
	size_t gather_used;
	size_t framed;         /* bytes in the out-queue */
	size_t left;           /* bytes that have left and are not told */
	size_t unread;         /* bytes received that have no credit yet */
	uint32_t window, used; /* the receive window, and how much was used up... */
	uint64_t used_since;   /* ...since when, in us */
	uint32_t close_code;
	bool listed;       /* among the session's streams */
	bool begun;        /* its first header block is received or framed */
	bool deaf;         /* its user wants to hear nothing any more */
	bool deferred;     /* the library waits for h2_stream_write() or _end() */
	bool ending;       /* no more data will be written */
	bool trailed;      /* ...and trailers end it */
	bool ended;        /* END_STREAM is framed */
	bool peer_ended;   /* END_STREAM was received */
	bool overrun;      /* the peer sent more than its window: a reset is on its way */
	bool reset_after;  /* NO_ERROR follows the end */
	bool trailers_out; /* they are submitted */
	bool broken;       /* a header block could not be sent: to be reset */
	bool reset;        /* RST_STREAM is submitted */
	bool gone;         /* the library has closed it... */
	bool closed;       /* ...and that is being told, when all has left */
	bool stuck;        /* nothing was framed since the last h2_settle()... */
	bool settled;      /* ...and what is queued pins nothing but itself */
	bool is_due, is_told;
};

struct h2_ops {
	/* Server: the peer opens a stream. h2_stream_init() is the caller's. NULL: no
	 * memory, the stream is refused. */
	struct h2_stream *(*accept)(void *cookie);
	/* One field of the header block being received; must only store. */
	void (*field)(struct h2_stream *, const struct meta_field *);

	void (*head)(struct h2_stream *);               /* a header block is whole */
	void (*data)(struct h2_stream *, struct slice); /* takes it */
	void (*end)(struct h2_stream *);                /* END_STREAM */
	void (*trailers)(struct h2_stream *);           /* all data is framed: submit them now */
	void (*sent)(struct h2_stream *, size_t);       /* so many bytes have left */
	void (*closed)(struct h2_stream *, uint32_t h2_code); /* last; the reference is dropped */
	/* There is something to frame; comes once until the next h2_frame(). */
	void (*wake)(void *cookie);
};

/* NULL: no memory. ${ops} and ${options} outlive the session. */
struct h2 *h2_create(
    bool is_server, const struct rpc_options *options, const struct h2_ops *ops, void *cookie);

/* Streams left are dropped without a call but release(). */
void h2_free(struct h2 *);

/*
 * Eats a portion of ${in} (a view of one block; chunks of it are kept by reference)
 * and returns how many bytes that was. -1: the session has failed, the error says
 * how, and output (a GOAWAY) may still be waiting.
 */
ptrdiff_t h2_feed(struct h2 *, const struct slice *in, struct err *);

/* h2_feed() should not be called again before the next h2_begin_turn(). */
bool h2_turn_is_over(const struct h2 *);
void h2_begin_turn(struct h2 *, uint64_t now_ms);

/* Frames what is ready until ${out} holds enough. 1: there is more; 0: that was
 * all; -1: the session has failed. */
int h2_frame(struct h2 *, struct outq *out, struct err *);

/* An outq_left for the out-queue h2_frame() has filled. */
outq_left h2_left;

/* Tells the users what has happened. Stops early after h2_stop(). */
void h2_dispatch(struct h2 *);

/* All streams are over: nobody is told anything any more but by ${each}, once for
 * each stream whose user still listens; its reference is dropped. */
void h2_stop(struct h2 *, void (*each)(struct h2_stream *, void *cookie), void *cookie);

bool h2_is_ready(const struct h2 *);          /* the peer's SETTINGS have come */
void h2_link_is_near(struct h2 *);            /* as the kernel has it: rpc/h2_window.c */
bool h2_is_draining(const struct h2 *);       /* GOAWAY was received */
bool h2_is_done(const struct h2 *);           /* neither reads nor writes any more */
uint64_t h2_headers_since(const struct h2 *); /* a header block is begun and not ended; 0: none */
bool h2_wants_output(const struct h2 *);
const char *h2_flood(const struct h2 *); /* what there was too much of; NULL: nothing */
size_t h2_stream_count(const struct h2 *);
size_t h2_queued(const struct h2 *); /* bytes its streams have waiting */

void h2_ping(struct h2 *);
bool h2_is_ponged(const struct h2 *); /* the last h2_ping() was answered */
void h2_allow_streams(struct h2 *, uint32_t max);
void h2_drain_notice(struct h2 *);                /* GOAWAY that refuses nothing yet */
void h2_drain(struct h2 *);                       /* GOAWAY with the last stream served */
void h2_terminate(struct h2 *, uint32_t h2_code); /* GOAWAY, and nothing after it */

/* The user's reference is the first; ${release} frees. */
void h2_stream_init(struct h2_stream *, void (*release)(struct h2_stream *));
void h2_stream_ref(struct h2_stream *);
void h2_stream_unref(struct h2_stream *);

/* Client: opens the stream. Fields are copied. */
int h2_request(struct h2 *, struct h2_stream *, const struct meta_field *, size_t, struct err *);

/* Server: response headers; ${only}: they end the stream (trailers-only). */
int h2_stream_respond(
    struct h2_stream *, const struct meta_field *, size_t, bool only, struct err *);

/* Takes the slice on success. -1: full, ended, or no memory. Until closed() is told, a
 * stream that the peer has dropped swallows what it is given. */
int h2_stream_write(struct h2_stream *, struct slice);
/* Copies. */
int h2_stream_copy(struct h2_stream *, const void *, size_t);
size_t h2_stream_queued(const struct h2_stream *);

/* Ends the own direction behind what is queued, with trailers() if ${trailers}. */
void h2_stream_end(struct h2_stream *, bool trailers);
int h2_stream_trailers(struct h2_stream *, const struct meta_field *, size_t, struct err *);

/* After the end is framed the stream is reset with NO_ERROR, unless the peer has
 * ended too. */
void h2_stream_reset_after(struct h2_stream *);

/* Drops what is queued and not framed. */
void h2_stream_drop(struct h2_stream *);

/* Resets at once; the user hears nothing any more. */
void h2_stream_reset(struct h2_stream *, uint32_t h2_code);

/* The user lets go: nothing is told any more, its reference is dropped. */
void h2_stream_detach(struct h2_stream *);

/* ${bytes} of what data() brought are used up. More than it has brought is no credit: a
 * first message that came another way is given back here with the rest. */
void h2_stream_credit(struct h2_stream *, size_t bytes);

/* Copies what is queued and has not moved since the last time, so that it pins no
 * receive block. */
void h2_settle(struct h2 *);

#endif
