#include "rpc/h2.h"

#include <stdlib.h>
#include <string.h>

#include "rpc/h2_session.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

/* Bytes fed between two dispatches; fewer while they hold many small frames, so that
 * the turn's budget of frames is not passed by far. */
#define PORTION        ((size_t)256 << 10)
#define PORTION_SMALL  ((size_t)16 << 10)
#define PORTION_FRAMES 256

/* Of nghttp2's own limits: see study of what 1.52 limits in docs/limits.md. */
#define MAX_SETTINGS      32   /* entries of one frame */
#define MAX_OUTBOUND_ACK  1000 /* that a peer makes us queue and does not read */
#define MAX_CONTINUATIONS 8
#define FIRST_EXTENSION   10 /* frame types from here on are not the library's own */

void h2_wake(struct h2 *h)
{
	if (h->woken || h->stopped)
		return;
	h->woken = true;
	h->ops->wake(h->cookie);
}

/* Birth and death. */

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *c;

	if (nghttp2_session_callbacks_new(&c) != 0)
		return NULL;
	h2_recv_callbacks(c);
	h2_send_callbacks(c);
	return c;
}

static nghttp2_option *make_options(const struct rpc_options *o)
{
	nghttp2_option *n;

	if (nghttp2_option_new(&n) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(n, 1);
	nghttp2_option_set_max_settings(n, MAX_SETTINGS);
	nghttp2_option_set_max_outbound_ack(n, MAX_OUTBOUND_ACK);
	nghttp2_option_set_max_continuations(n, MAX_CONTINUATIONS);
	/* Ours are counted in h2_flood.c, which says what it was: the library's comes second. */
	nghttp2_option_set_stream_reset_rate_limit(
	    n, 2 * (uint64_t)o->flood_burst, 2 * (uint64_t)o->flood_rate);
	nghttp2_option_set_max_send_header_block_length(n, RPC_HEADER_BYTES_MAX);
	/* Or it would not tell of them, and they would cost a peer nothing. */
	for (unsigned type = FIRST_EXTENSION; type <= UINT8_MAX; type++)
		nghttp2_option_set_user_recv_extension_type(n, (uint8_t)type);
	return n;
}

static int submit_settings(struct h2 *h)
{
	const struct rpc_options *o = h->options;
	nghttp2_settings_entry entries[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->stream_window },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, o->frame_max },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_META_BYTES_MAX },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }, /* a client's to say */
	};
	size_t count = sizeof(entries) / sizeof(entries[0]) - (h->is_server ? 1 : 0);

	if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, entries, count) != 0)
		return -1;
	return nghttp2_session_set_local_window_size(
	    h->session, NGHTTP2_FLAG_NONE, 0, (int32_t)o->conn_window);
}

static int open_session(
    struct h2 *h, const nghttp2_session_callbacks *callbacks, const nghttp2_option *option)
{
	int r = h->is_server ? nghttp2_session_server_new2(&h->session, callbacks, h, option)
			     : nghttp2_session_client_new2(&h->session, callbacks, h, option);

	return r == 0 ? submit_settings(h) : r;
}

struct h2 *h2_create(
    bool is_server, const struct rpc_options *options, const struct h2_ops *ops, void *cookie)
{
	struct h2 *h = calloc(1, sizeof(*h));
	nghttp2_session_callbacks *callbacks = make_callbacks();
	nghttp2_option *option = make_options(options);
	int r = -1;

	if (h != NULL && callbacks != NULL && option != NULL) {
		h->is_server = is_server;
		h->options = options;
		h->ops = ops;
		h->cookie = cookie;
		h->portion = PORTION;
		h2_flood_begin(h);
		h2_window_begin(h);
		r = open_session(h, callbacks, option);
	}
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	if (r == 0)
		return h;
	if (h != NULL)
		nghttp2_session_del(h->session);
	free(h);
	return NULL;
}

void h2_free(struct h2 *h)
{
	struct h2_stream *s;

	if (h == NULL)
		return;
	h->stopped = true;
	h2_events_drop(h);
	while ((s = h2_due_pop(h)) != NULL)
		h2_stream_unref(s);
	while ((s = h2_told_pop(h)) != NULL)
		h2_stream_unref(s);
	while ((s = h->streams) != NULL) {
		h2_unlist(s);
		s->h2 = NULL;
		h2_stream_unref(s);
	}
	nghttp2_session_del(h->session);
	free(h->events);
	free(h);
}

/* Feeding. */

void h2_begin_turn(struct h2 *h, uint64_t now_ms)
{
	h2_flood_refill(h, now_ms);
	h->turn_frames = 0;
}

bool h2_turn_is_over(const struct h2 *h)
{
	return h->turn_frames >= h->options->frames_per_turn;
}

static ssize_t feed_library(struct h2 *h, const struct slice *in)
{
	size_t portion = in->len < h->portion ? in->len : h->portion;
	uint32_t frames = h->turn_frames;

	assert(!h->inside);
	h->inside = true;
	h->in = in;
	ssize_t n = nghttp2_session_mem_recv(h->session, in->data, portion);
	h->in = NULL;
	h->inside = false;
	h->portion = h->turn_frames - frames > PORTION_FRAMES ? PORTION_SMALL : PORTION;
	return n;
}

/* Ends the session in an orderly way, so that the peer can know why. */
static int give_up(struct h2 *h, ssize_t r, struct err *err)
{
	if (h->no_memory || r == NGHTTP2_ERR_NOMEM) {
		nghttp2_session_terminate_session(h->session, NGHTTP2_INTERNAL_ERROR);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
	}
	if (h->flood != NULL || r == NGHTTP2_ERR_FLOODED || r == NGHTTP2_ERR_TOO_MANY_SETTINGS) {
		if (h->flood == NULL)
			h->flood = r == NGHTTP2_ERR_FLOODED ? "frames that have to be answered"
							    : "settings";
		nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "the peer sent too many %s", h->flood);
	}
	if (h->oversized) {
		nghttp2_session_terminate_session(h->session, NGHTTP2_FRAME_SIZE_ERROR);
		return err_set(err, GRPC_UNAVAILABLE,
		    "HTTP/2: a header frame of more than %d bytes", RPC_META_BYTES_MAX);
	}
	nghttp2_session_terminate_session(h->session, NGHTTP2_PROTOCOL_ERROR);
	return err_set(err, GRPC_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror((int)r));
}

ptrdiff_t h2_feed(struct h2 *h, const struct slice *in, struct err *err)
{
	ssize_t n = feed_library(h, in);

	/* The connection's credit is not the streams': see docs/flow-control.md. */
	if (h->arrived > 0)
		h2_check(h, nghttp2_session_consume_connection(h2_library(h), h->arrived));
	h->arrived = 0;
	h2_window_probe(h);
	if (n < 0 || h->no_memory)
		return give_up(h, n, err);
	if (h2_wants_output(h))
		h2_wake(h);
	return n;
}

/* Framing. */

/* Trailers behind the last data, and the reset behind the end. */
static bool serve_due(struct h2 *h)
{
	struct h2_stream *s;
	bool any = h->due != NULL;

	while ((s = h2_due_pop(h)) != NULL) {
		if (s->h2 != NULL && !s->gone && !s->reset) {
			if (s->broken || (s->ended && s->reset_after && !s->peer_ended)) {
				s->reset = true;
				h2_check(h,
				    nghttp2_submit_rst_stream(h2_library(h), NGHTTP2_FLAG_NONE,
					s->id,
					s->broken ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_NO_ERROR));
			} else if (s->ending && s->trailed && !s->trailers_out &&
			    h2_stream_is_drained(s)) {
				s->trailers_out = true;
				h->ops->trailers(s);
			}
		}
		h2_stream_unref(s);
	}
	return any;
}

/* Frames until the library has nothing, the queue is full, or something is due.
 * -1: the session has failed, or there is no memory. */
static int frame_some(struct h2 *h, struct outq *out, struct err *err)
{
	const uint8_t *bytes;
	ssize_t n = 0;
	bool stored = true;

	assert(!h->inside);
	h->inside = true;
	while (!h2_out_is_full(h, out) && (n = nghttp2_session_mem_send(h->session, &bytes)) > 0 &&
	    stored)
		stored = outq_add_control(out, bytes, (size_t)n) == 0;
	h->inside = false;
	if (!stored)
		h->no_memory = true;
	return n < 0 || h->no_memory ? give_up(h, n, err) : 0;
}

int h2_frame(struct h2 *h, struct outq *out, struct err *err)
{
	bool again;
	int r;

	h->woken = false;
	h->out = out;
	do {
		again = serve_due(h);
		r = frame_some(h, out, err);
	} while (r == 0 && !h2_out_is_full(h, out) && (again || h->due != NULL));
	if (r == 0 && h->flood != NULL) /* made us reset too many streams */
		r = give_up(h, 0, err);
	h->out = NULL;
	if (r != 0)
		return -1;
	return h2_out_is_full(h, out) && (h->due != NULL || h2_wants_output(h));
}

/* Questions and frames of the whole connection. */

void h2_check(struct h2 *h, int result)
{
	if (result == NGHTTP2_ERR_NOMEM)
		h->no_memory = true;
}

bool h2_is_ready(const struct h2 *h)
{
	return h->ready;
}

bool h2_is_draining(const struct h2 *h)
{
	return h->peer_goaway;
}

bool h2_is_done(const struct h2 *h)
{
	return !nghttp2_session_want_read(h2_library(h)) && !h2_wants_output(h);
}

uint64_t h2_headers_since(const struct h2 *h)
{
	return h->headers_since;
}

bool h2_wants_output(const struct h2 *h)
{
	return h->due != NULL || nghttp2_session_want_write(h2_library(h)) != 0;
}

const char *h2_flood(const struct h2 *h)
{
	return h->flood;
}

size_t h2_stream_count(const struct h2 *h)
{
	return h->stream_count;
}

size_t h2_queued(const struct h2 *h)
{
	return h->queued;
}

void h2_ping(struct h2 *h)
{
	h->ponged = false;
	h2_check(h, nghttp2_submit_ping(h2_library(h), NGHTTP2_FLAG_NONE, NULL));
	h2_wake(h);
}

bool h2_is_ponged(const struct h2 *h)
{
	return h->ponged;
}

void h2_allow_streams(struct h2 *h, uint32_t max)
{
	nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max };

	h2_check(h, nghttp2_submit_settings(h2_library(h), NGHTTP2_FLAG_NONE, &entry, 1));
	h2_wake(h);
}

void h2_drain_notice(struct h2 *h)
{
	h2_check(h, nghttp2_submit_shutdown_notice(h2_library(h)));
	h2_wake(h);
}

void h2_drain(struct h2 *h)
{
	h2_check(h,
	    nghttp2_submit_goaway(h2_library(h), NGHTTP2_FLAG_NONE,
		nghttp2_session_get_last_proc_stream_id(h2_library(h)), NGHTTP2_NO_ERROR, NULL, 0));
	h2_wake(h);
}

void h2_terminate(struct h2 *h, uint32_t code)
{
	nghttp2_session_terminate_session(h2_library(h), code);
	h2_wake(h);
}

void h2_settle(struct h2 *h)
{
	for (struct h2_stream *s = h->streams; s != NULL; s = s->next) {
		if (s->stuck && !s->settled)
			s->settled = bufq_settle(&s->queue) == 0;
		s->stuck = s->queue.count > 0;
	}
}
