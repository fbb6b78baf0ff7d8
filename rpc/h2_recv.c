/*
 * What the library reports while it is fed. It is only noted here: nothing in this
 * file calls the library (but to store and find a stream's pointer, and to ask for its
 * window) or a user (but accept() and field(), which only store).
 */
#include "rpc/h2_session.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

static struct h2_stream *stream_of(const struct h2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->session, id);
}

/* The block is unpacked and thrown away; nothing of it is reported but its frame. */
static bool is_late(struct h2 *h, const nghttp2_frame_hd *hd)
{
	if (hd->type != NGHTTP2_HEADERS)
		return false;
	if (h->is_server && hd->stream_id > h->last_id) {
		h->last_id = hd->stream_id;
		return false;
	}
	return stream_of(h, hd->stream_id) == NULL;
}

/* Counted as it begins: a frame that will be refused has cost as much. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *cookie)
{
	struct h2 *h = cookie;

	(void)session;
	h->turn_frames++;
	if (hd->type == NGHTTP2_HEADERS)
		h->headers_since = h->now_ms;
	else if (hd->type != NGHTTP2_CONTINUATION)
		h->headers_since = 0;
	/* SETTINGS_MAX_FRAME_SIZE is large for DATA's sake; no header block is. */
	h->oversized = (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION) &&
	    hd->length > RPC_META_BYTES_MAX;
	if (h->oversized || (is_late(h, hd) && h2_flood_late_headers(h) != 0))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return h2_flood_frame(h, hd) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;

	h->header_bytes = 0;
	if (!h->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct h2_stream *s = h->ops->accept(h->cookie);
	if (s == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	s->h2 = h;
	s->id = frame->hd.stream_id;
	s->begun = true;
	h2_list(h, s);
	nghttp2_session_set_stream_user_data(session, s->id, s);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
    size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = stream_of(h, frame->hd.stream_id);
	const struct meta_field field = { (const char *)name, name_len, (const char *)value,
		value_len };

	(void)session;
	(void)flags;
	/* A byte on the wire can stand for 4 KiB (RFC 7541, section 7.3). */
	h->header_bytes += name_len + value_len + 32;
	if (h->header_bytes > RPC_HEADER_BYTES_MAX) {
		h->flood = "header fields";
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (s != NULL && !s->deaf)
		h->ops->field(s, &field);
	return 0;
}

static void end_of_frame(struct h2 *h, const nghttp2_frame *frame)
{
	struct h2_stream *s = stream_of(h, frame->hd.stream_id);

	if (s == NULL)
		return;
	if (s->overrun) /* an end behind a gap is none */
		return;
	if (frame->hd.type == NGHTTP2_HEADERS)
		h2_event_add(h, H2_EVENT_HEAD, s, (struct slice){ 0 });
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		s->peer_ended = true;
		h2_event_add(h, H2_EVENT_END, s, (struct slice){ 0 });
	}
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;
	bool is_ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;

	(void)session;
	h->headers_since = 0;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		end_of_frame(h, frame);
		break;
	case NGHTTP2_SETTINGS:
		h->ready = h->ready || !is_ack;
		if (is_ack)
			h2_window_settled(h);
		break;
	case NGHTTP2_PING:
		if (is_ack)
			h2_window_pong(h, frame->ping.opaque_data);
		break;
	case NGHTTP2_GOAWAY:
		h->peer_goaway = true;
		break;
	default:
		break;
	}
	return 0;
}

static int on_invalid_frame(
    nghttp2_session *session, const nghttp2_frame *frame, int why, void *cookie)
{
	struct h2 *h = cookie;

	(void)session;
	(void)frame;
	(void)why;
	h->headers_since = 0;
	return 0;
}

/* A frame of a type that is not known here: it was counted, and means nothing. */
static int on_extension(
    nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd, void *cookie)
{
	(void)session;
	(void)payload;
	(void)hd;
	(void)cookie;
	return NGHTTP2_ERR_CANCEL;
}

/* The payload lies in what was fed, so a reference is enough. */
static struct slice slice_in(const struct slice *in, const uint8_t *data, size_t len)
{
	if (data >= in->data && data + len <= in->data + in->len)
		return slice_sub(in, (size_t)(data - in->data), len);
	return slice_copy(data, len);
}

/* The library resets the stream then, but reports the data all the same, and whatever
 * comes until the reset is sent. */
static bool overruns(const struct h2 *h, struct h2_stream *s, size_t len)
{
	int32_t window = nghttp2_session_get_stream_effective_local_window_size(h->session, s->id);

	s->overrun =
	    s->overrun || window < 0 || len > (size_t)window || s->unread > (size_t)window - len;
	return s->overrun;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
    size_t len, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = stream_of(h, id);

	(void)session;
	(void)flags;
	h->arrived += len;
	if (s == NULL || s->deaf || overruns(h, s, len))
		return 0;
	s->unread += len;
	struct slice chunk = slice_in(h->in, data, len);
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
	s->gone = true;
	s->close_code = code;
	h2_event_add(h, H2_EVENT_CLOSED, s, (struct slice){ 0 });
	return 0;
}

void h2_recv_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_unpack_extension_callback(c, on_extension);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
}
