/*
 * rpc/h2_session.h: an HTTP/2 session as the h2*.c files share it. Private to them.
 *
 *	h2.c        birth, feeding, questions, frames of the whole connection
 *	h2_recv.c   what the library reports while it is fed
 *	h2_send.c   framing
 *	h2_stream.c what a stream's user may do
 *	h2_tell.c   telling the users what was reported
 *	h2_flood.c  what frames without content cost
 */
#ifndef RPC_H2_SESSION_H
#define RPC_H2_SESSION_H

#include <assert.h>
#include <nghttp2/nghttp2.h>

#include "rpc/h2.h"

enum h2_event_kind { H2_EVENT_HEAD, H2_EVENT_DATA, H2_EVENT_END, H2_EVENT_CLOSED };

/* What the library has reported, until h2_dispatch() tells it. Holds a reference. */
struct h2_event {
	enum h2_event_kind kind;
	struct h2_stream *stream;
	struct slice data;
};

/* See h2_flood.c. */
struct h2_bucket {
	double tokens;
};

struct h2 {
	nghttp2_session *session; /* h2_library() but in the library's callbacks */
	bool is_server;
	bool inside; /* the library is on the stack: it must not be called */
	const struct rpc_options *options;
	const struct h2_ops *ops;
	void *cookie;

	const struct slice *in; /* what is being fed */
	size_t arrived;         /* payload of it: connection credit to give */
	size_t portion;         /* bytes to feed at once */
	uint32_t turn_frames;
	size_t header_bytes;    /* decoded, of the block being received */
	uint64_t headers_since; /* when that block began; 0: there is none */
	int32_t last_id;        /* server: the newest stream a block was for */

	struct h2_event *events;
	size_t event_head, event_count, event_cap;

	struct h2_stream *streams;
	size_t stream_count;
	size_t queued;
	size_t grown;           /* bytes: windows of streams beyond those at birth */
	struct h2_stream *due;  /* something has to be submitted behind what was framed */
	struct h2_stream *told; /* have left bytes to tell of */

	struct outq *out; /* being filled */
	bool woken;       /* wake() was called since the last h2_frame() */
	bool ready, peer_goaway, ponged, no_memory, stopped;
	bool oversized; /* a header frame: it is not read */

	/* The way to the peer and back, by pings of our own: */
	uint64_t probed_us; /* when one went; 0: none is under way */
	uint32_t trip_us;   /* the shortest ever */
	uint32_t near_us;   /* who is nearer needs no larger windows */
	uint64_t begun_us;  /* until our SETTINGS are acknowledged */
	unsigned trips;     /* measured since a window grew */
	size_t early;       /* bytes used up before the first */
	bool probe_again;   /* as soon as the library has returned */

	uint64_t now_ms; /* of the turn */
	struct h2_bucket costs, paced;
	const char *flood; /* what there was too much of */
};

/* The library, for whoever is not one of its callbacks (nghttp2 programmers' guide,
 * "Remarks"): submitting, crediting, asking. */
static inline nghttp2_session *h2_library(const struct h2 *h)
{
	assert(!h->inside);
	return h->session;
}

/* What came of submitting or crediting: a frame that the peer would wait for in vain, for
 * want of memory, ends the session at the next framing. */
void h2_check(struct h2 *, int result);

void h2_recv_callbacks(nghttp2_session_callbacks *);
void h2_send_callbacks(nghttp2_session_callbacks *);
nghttp2_data_provider h2_send_provider(struct h2_stream *);

/* Queues an event, with a reference; takes ${data}. No memory: the session fails. */
void h2_event_add(struct h2 *, enum h2_event_kind, struct h2_stream *, struct slice data);
void h2_events_drop(struct h2 *);

/* Tells the connection that there is something to frame. */
void h2_wake(struct h2 *);

/* Comes back to the stream between two frames: for trailers, and resets after them. */
void h2_due_add(struct h2 *, struct h2_stream *);
struct h2_stream *h2_due_pop(struct h2 *);  /* NULL: none; the reference is the caller's */
struct h2_stream *h2_told_pop(struct h2 *); /* the same */

bool h2_out_is_full(const struct h2 *, const struct outq *);
bool h2_stream_is_drained(const struct h2_stream *); /* nothing waits to be framed */
void h2_stream_spare(struct h2_stream *);            /* gives the memory of its queue back */

/* Floods. -1: that was one too many; ${flood} says of what. */
void h2_flood_begin(struct h2 *);
void h2_flood_refill(struct h2 *, uint64_t now_ms);
int h2_flood_frame(struct h2 *, const nghttp2_frame_hd *);
int h2_flood_late_headers(struct h2 *); /* of a stream that is over */
void h2_flood_reset(struct h2 *);
void h2_flood_payload(struct h2 *, size_t len, bool cut_short);

/* Receive windows that grow. */
void h2_window_begin(struct h2 *);
void h2_window_used(struct h2_stream *, size_t); /* credit was given back */
/* From a callback: the peer has answered a PING. */
void h2_window_settled(struct h2 *); /* our SETTINGS are acknowledged */
void h2_window_pong(struct h2 *, const uint8_t data[static 8]);
void h2_window_probe(struct h2 *);
void h2_window_drop(struct h2_stream *); /* the stream is over */

/* The list of all streams of the session holds a reference. */
void h2_list(struct h2 *, struct h2_stream *);
void h2_unlist(struct h2_stream *);

#endif
