#include "rpc/h2.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/h2_session.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

#define FEED_PORTION ((size_t)256 << 10) /* bytes between two dispatches */

/* Events. */

void h2_event_add(struct h2 *h, enum h2_event_kind kind, struct h2_stream *s, struct slice data)
{
	if (h->event_count == h->event_cap) {
		size_t cap = h->event_cap > 0 ? 2 * h->event_cap : 16;
		struct h2_event *events = realloc(h->events, cap * sizeof(*events));
		if (events == NULL) {
			h->no_memory = true;
			slice_release(&data);
			return;
		}
		h->events = events;
		h->event_cap = cap;
	}
	h2_stream_ref(s);
	h->events[h->event_count++] = (struct h2_event){.kind = kind, .stream = s, .data = data};
}

void h2_wake(struct h2 *h)
{
	if (h->woken || h->stopped)
		return;
	h->woken = true;
	h->ops->wake(h->cookie);
}

/* A stream whose user still listens, or NULL. */
static struct h2_stream *stream_of(struct h2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->session, id);
}

/* Callbacks of the library while it is fed. None calls it back, but to credit. */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;

	h->mid_headers = true;
	if (!h->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct h2_stream *s = h->ops->accept(h->cookie);
	if (s == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	s->h2 = h;
	s->id = frame->hd.stream_id;
	h2_list(h, s);
	nghttp2_session_set_stream_user_data(session, s->id, s);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
    size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = stream_of(h, frame->hd.stream_id);
	const struct meta_field field = {(const char *)name, name_len, (const char *)value, value_len};

	(void)session;
	(void)flags;
	if (s != NULL && !s->deaf)
		h->ops->field(s, &field);
	return 0;
}

static void frame_of_stream(struct h2 *h, const nghttp2_frame *frame)
{
	struct h2_stream *s = stream_of(h, frame->hd.stream_id);

	if (s == NULL)
		return;
	if (frame->hd.type == NGHTTP2_HEADERS)
		h2_event_add(h, H2_EVENT_HEAD, s, (struct slice){0});
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		s->peer_ended = true;
		h2_event_add(h, H2_EVENT_END, s, (struct slice){0});
	}
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;

	(void)session;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		h->mid_headers = false;
		frame_of_stream(h, frame);
		break;
	case NGHTTP2_DATA:
		frame_of_stream(h, frame);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			h->ready = true;
		break;
	case NGHTTP2_GOAWAY:
		h->peer_goaway = true;
		break;
	default:
		break;
	}
	return 0;
}

/* Counted as it begins: a frame that is refused has cost as much. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *cookie)
{
	struct h2 *h = cookie;

	(void)session;
	h->turn_frames++;
	switch (hd->type) {
	case NGHTTP2_DATA:
		if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM))
			h2_flood_count(h, "empty DATA frames");
		h2_flood_payload(h, hd->length);
		break;
	case NGHTTP2_PING:
		h2_flood_count(h, "PING frames");
		break;
	case NGHTTP2_SETTINGS:
		h2_flood_count(h, "SETTINGS frames");
		break;
	case NGHTTP2_WINDOW_UPDATE:
		h2_flood_count(h, "WINDOW_UPDATE frames");
		break;
	case NGHTTP2_PRIORITY:
		h2_flood_count(h, "PRIORITY frames");
		break;
	case NGHTTP2_RST_STREAM:
		h2_flood_count(h, "RST_STREAM frames");
		break;
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:
	case NGHTTP2_GOAWAY:
		break;
	default:
		h2_flood_count(h, "frames of unknown types");
		break;
	}
	return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int why, void *cookie)
{
	(void)session;
	(void)frame;
	(void)why;
	h2_flood_count(cookie, "invalid frames");
	return 0;
}

/* The payload lies in what was fed, so a reference is enough. */
static struct slice slice_in(const struct slice *in, const uint8_t *data, size_t len)
{
	if (data >= in->data && data + len <= in->data + in->len)
		return slice_sub(in, (size_t)(data - in->data), len);
	return slice_copy(data, len);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
    size_t len, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = stream_of(h, id);
	struct slice chunk;

	(void)flags;
	/* The connection's credit is not the stream's: see docs/flow-control.md. */
	nghttp2_session_consume_connection(session, len);
	if (s == NULL || s->deaf) {
		nghttp2_session_consume_stream(session, id, len);
		return 0;
	}
	chunk = slice_in(h->in, data, len);
	if (chunk.data == NULL)
		h->no_memory = true;
	else
		h2_event_add(h, H2_EVENT_DATA, s, chunk);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = stream_of(h, id);

	if (s == NULL)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	s->close_code = code;
	h2_event_add(h, H2_EVENT_CLOSED, s, (struct slice){0});
	return 0;
}

/* Birth and death. */

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *c;

	if (nghttp2_session_callbacks_new(&c) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
	h2_send_callbacks(c);
	return c;
}

static nghttp2_option *make_options(const struct rpc_options *o)
{
	nghttp2_option *n;

	if (nghttp2_option_new(&n) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(n, 1);
	nghttp2_option_set_max_settings(n, 32);
	nghttp2_option_set_max_outbound_ack(n, 1000);
	nghttp2_option_set_max_continuations(n, 8);
	nghttp2_option_set_stream_reset_rate_limit(n, o->flood_burst, o->flood_rate);
	nghttp2_option_set_peer_max_concurrent_streams(n, o->max_streams);
	nghttp2_option_set_max_send_header_block_length(n, RPC_HEADER_BYTES_MAX);
	return n;
}

static int submit_settings(struct h2 *h)
{
	const struct rpc_options *o = h->options;
	nghttp2_settings_entry entries[] = {
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->stream_window},
	    {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, o->frame_max},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_META_BYTES_MAX},
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	size_t count = sizeof(entries) / sizeof(entries[0]) - (h->is_server ? 1 : 0);

	return nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, entries, count) != 0 ||
			nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
			    (int32_t)o->conn_window) != 0
		    ? -1
		    : 0;
}

struct h2 *h2_create(bool is_server, const struct rpc_options *options, const struct h2_ops *ops, void *cookie)
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
		h->tokens = options->flood_burst;
		r = is_server ? nghttp2_session_server_new2(&h->session, callbacks, h, option)
			      : nghttp2_session_client_new2(&h->session, callbacks, h, option);
		if (r == 0)
			r = submit_settings(h);
	}
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	if (r != 0) {
		if (h != NULL)
			nghttp2_session_del(h->session);
		free(h);
		return NULL;
	}
	return h;
}

static void drop_events(struct h2 *h)
{
	for (; h->event_head < h->event_count; h->event_head++) {
		struct h2_event *e = &h->events[h->event_head];
		slice_release(&e->data);
		h2_stream_unref(e->stream);
	}
	h->event_head = h->event_count = 0;
}

static struct h2_stream *pop_link(struct h2_stream **list, struct h2_stream *next, bool *flag)
{
	struct h2_stream *s = *list;

	*list = next;
	*flag = false;
	return s;
}

void h2_free(struct h2 *h)
{
	if (h == NULL)
		return;
	h->stopped = true;
	drop_events(h);
	while (h->due != NULL)
		h2_stream_unref(pop_link(&h->due, h->due->due_next, &h->due->is_due));
	while (h->told != NULL)
		h2_stream_unref(pop_link(&h->told, h->told->sent_next, &h->told->is_sent));
	while (h->streams != NULL) {
		struct h2_stream *s = h->streams;
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
	h->now_ms = now_ms;
	h->turn_frames = 0;
}

bool h2_turn_is_over(const struct h2 *h)
{
	return h->turn_frames >= h->options->frames_per_turn;
}

ptrdiff_t h2_feed(struct h2 *h, const struct slice *in, struct err *err)
{
	size_t portion = in->len < FEED_PORTION ? in->len : FEED_PORTION;
	ssize_t n;

	assert(!h->inside);
	h->inside = true;
	h->in = in;
	n = nghttp2_session_mem_recv(h->session, in->data, portion);
	h->in = NULL;
	h->inside = false;
	if (h->no_memory)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
	if (n < 0)
		return err_set(err, GRPC_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror((int)n));
	if (h->flood != NULL) {
		nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many %s", h->flood);
	}
	if (nghttp2_session_want_write(h->session))
		h2_wake(h);
	return n;
}

/* Telling. */

static void tell_closed(struct h2 *h, struct h2_stream *s)
{
	s->closed = true;
	if (s->framed > 0)
		return; /* h2_left() comes back to it */
	if (!s->listed)
		return;
	h2_unlist(s);
	s->h2 = NULL;
	bufq_free(&s->queue);
	if (!s->deaf) {
		s->deaf = true;
		h->ops->closed(s, s->close_code);
	}
	h2_stream_unref(s);
}

static void tell(struct h2 *h, struct h2_event *e)
{
	struct h2_stream *s = e->stream;

	if (e->kind == H2_EVENT_CLOSED) {
		tell_closed(h, s);
	} else if (s->deaf) {
		if (e->data.len > 0 && s->h2 != NULL && s->id != 0)
			nghttp2_session_consume_stream(h->session, s->id, e->data.len);
		slice_release(&e->data);
	} else if (e->kind == H2_EVENT_HEAD) {
		h->ops->head(s);
	} else if (e->kind == H2_EVENT_DATA) {
		h->ops->data(s, e->data);
	} else {
		h->ops->end(s);
	}
}

static void tell_sent(struct h2 *h)
{
	while (h->told != NULL && !h->stopped) {
		struct h2_stream *s = pop_link(&h->told, h->told->sent_next, &h->told->is_sent);
		size_t left = s->left;
		s->left = 0;
		if (!s->deaf && left > 0)
			h->ops->sent(s, left);
		if (s->closed && s->framed == 0 && !h->stopped)
			tell_closed(h, s);
		h2_stream_unref(s);
	}
}

void h2_dispatch(struct h2 *h)
{
	assert(!h->inside);
	while (h->event_head < h->event_count && !h->stopped) {
		struct h2_event e = h->events[h->event_head++];
		tell(h, &e);
		h2_stream_unref(e.stream);
	}
	if (h->event_head == h->event_count)
		h->event_head = h->event_count = 0;
	tell_sent(h);
	if (!h->stopped && nghttp2_session_want_write(h->session))
		h2_wake(h);
}

void h2_stop(struct h2 *h, void (*each)(struct h2_stream *, void *cookie), void *cookie)
{
	h->stopped = true;
	drop_events(h);
	while (h->streams != NULL) {
		struct h2_stream *s = h->streams;
		h2_unlist(s);
		s->h2 = NULL;
		if (!s->deaf) {
			s->deaf = true;
			each(s, cookie);
		}
		h2_stream_unref(s);
	}
}

/* Questions and connection-wide frames. */

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
	return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

bool h2_is_mid_headers(const struct h2 *h)
{
	return h->mid_headers;
}

bool h2_wants_output(const struct h2 *h)
{
	return nghttp2_session_want_write(h->session) != 0;
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
	nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
	h2_wake(h);
}

void h2_allow_streams(struct h2 *h, uint32_t max)
{
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max};

	nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, &entry, 1);
	h2_wake(h);
}

void h2_drain_notice(struct h2 *h)
{
	nghttp2_submit_shutdown_notice(h->session);
	h2_wake(h);
}

void h2_drain(struct h2 *h)
{
	nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
	    nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL, 0);
	h2_wake(h);
}

void h2_terminate(struct h2 *h, uint32_t code)
{
	nghttp2_session_terminate_session(h->session, code);
	h2_wake(h);
}
