/* rpc/h2_session.h: an HTTP/2 session as the h2*.c files share it. Private to them. */
#ifndef RPC_H2_SESSION_H
#define RPC_H2_SESSION_H

#include <nghttp2/nghttp2.h>

#include "rpc/h2.h"

enum h2_event_kind { H2_EVENT_HEAD, H2_EVENT_DATA, H2_EVENT_END, H2_EVENT_CLOSED };

/* What the library has reported, until h2_dispatch() tells it. Holds a reference. */
struct h2_event {
	enum h2_event_kind kind;
	struct h2_stream *stream;
	struct slice data;
};

struct h2 {
	nghttp2_session *session;
	bool is_server;
	bool inside; /* the library is on the stack: it must not be called */
	const struct rpc_options *options;
	const struct h2_ops *ops;
	void *cookie;

	const struct slice *in; /* what is being fed */
	struct h2_event *events;
	size_t event_head, event_count, event_cap;

	struct h2_stream *streams;
	size_t stream_count;
	size_t queued;
	struct h2_stream *due;	/* wait for trailers() */
	struct h2_stream *told; /* have left bytes to tell of */

	struct outq *out; /* being filled */
	bool woken;	  /* wake() was called since the last h2_frame() */
	bool ready, peer_goaway, mid_headers, no_memory, stopped;

	/* Floods. */
	uint64_t now_ms, refilled_ms;
	double tokens;
	uint32_t turn_frames;
	uint64_t turn_payload;
	const char *flood;
};

/* Queues an event, with a reference. No memory: the session fails. */
void h2_event_add(struct h2 *, enum h2_event_kind, struct h2_stream *, struct slice);
void h2_wake(struct h2 *);

/* Counts a frame that costs us more than it says. */
void h2_flood_count(struct h2 *, const char *what);
void h2_flood_payload(struct h2 *, size_t bytes);

/* The list of all streams of the session. */
void h2_list(struct h2 *, struct h2_stream *);
void h2_unlist(struct h2_stream *);

/* Sets the sending callbacks. */
void h2_send_callbacks(nghttp2_session_callbacks *);
nghttp2_data_provider h2_send_provider(struct h2_stream *);

#endif
